//! Certificate authorities to trust in place of those that are built in.

use std::path::Path;

use ureq::tls::{PemItem, RootCerts, parse_pem};

use super::HubError;
use crate::input::read_file;

/// The variable that names the file of certificates to trust, as it does to other programs.
pub(super) const CERTIFICATES: &str = "SSL_CERT_FILE";

/// A system's whole collection has 0.25 MB.
const MOST_CERTIFICATES_BYTES: u64 = 16 << 20;

/// The certificates in the PEM file `path`.
///
/// # Errors
/// If it cannot be read, or holds none.
pub(super) fn read_certificates(path: &Path) -> Result<RootCerts, HubError> {
    let problem = |problem: String| HubError::Certificates {
        path: path.to_owned(),
        problem,
    };
    let text =
        read_file(path, MOST_CERTIFICATES_BYTES).map_err(|error| problem(error.to_string()))?;
    let items = parse_pem(&text).collect::<Result<Vec<_>, _>>();
    let items = items.map_err(|error| problem(error.to_string()))?;
    let certificates: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    match certificates.is_empty() {
        true => Err(problem("it holds no certificate".to_owned())),
        false => Ok(certificates.into()),
    }
}
