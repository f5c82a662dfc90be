//! One hub over HTTP: requests, redirects, waiting and giving up.
//!
//! The token goes to the hub's own scheme, host and port and to nobody else, wherever a redirect leads; that is why redirects
//! are followed here.

use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE, RETRY_AFTER,
};
use ureq::http::{HeaderName, Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Body, Error};

use super::HubError;
use super::certificates::{CERTIFICATES, read_certificates};

/// Where models are looked for if nothing else is said.
const ENDPOINT: &str = "https://huggingface.co";

/// Redirects that are followed one after the other.
const MOST_REDIRECTS: usize = 8;

/// How long to go on where nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts one after the other of which none brings a byte.
    pub tries: u32,
    /// Before the second attempt; twice as long before each one that follows.
    pub first_wait: Duration,
    /// The longest wait, also where the hub asks for more.
    pub longest_wait: Duration,
    /// For a connection, an answer, and the next bytes of one.
    pub timeout: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            tries: 8,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(120),
            timeout: Duration::from_secs(60),
        }
    }
}

/// A hub.
pub struct Hub {
    agent: Agent,
    /// Without a slash at its end.
    endpoint: String,
    origin: String,
    token: Option<String>,
    retries: RetryPolicy,
}

/// What a hub answers.
pub(super) struct Answer {
    /// The first byte of the file that comes: 0 where it sends the file from its beginning, whatever was asked for.
    pub first: u64,
    /// Length of the whole file, if it says.
    pub file_bytes: Option<u64>,
    /// What comes.
    pub body: Box<dyn Read>,
}

/// Why there is no answer.
pub(super) enum AttemptError {
    /// It may work next time.
    Passing {
        /// Why.
        reason: String,
        /// How long the hub asks to wait.
        wait: Option<Duration>,
    },
    /// It will not.
    Final(HubError),
}

impl Hub {
    /// The hub at `endpoint`, with a token for it if there is one.
    ///
    /// # Errors
    /// If that is no address of http or https.
    pub fn new(
        endpoint: &str,
        token: Option<String>,
        retries: RetryPolicy,
    ) -> Result<Self, HubError> {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let origin = origin(&endpoint).ok_or_else(|| HubError::Address {
            address: endpoint.clone(),
        })?;
        Ok(Self {
            agent: agent(&retries, RootCerts::WebPki),
            endpoint,
            origin,
            token,
            retries,
        })
    }

    /// The same hub, trusting the certificate authorities in the PEM file `path` in place of those that are built in.
    ///
    /// # Errors
    /// If it cannot be read, or holds no certificate.
    pub fn trusting(mut self, path: &Path) -> Result<Self, HubError> {
        self.agent = agent(&self.retries, read_certificates(path)?);
        Ok(self)
    }

    /// The hub that `HF_ENDPOINT` names, with the token of `HF_TOKEN`; proxies as `HTTPS_PROXY` and its like say, and certificates
    /// as `SSL_CERT_FILE` does.
    ///
    /// # Errors
    /// As [`Hub::new`] and [`Hub::trusting`].
    pub fn of_process() -> Result<Self, HubError> {
        let variable = |name| {
            std::env::var(name)
                .ok()
                .filter(|value| !value.trim().is_empty())
        };
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let token = variable("HF_TOKEN").map(|token| token.trim().to_owned());
        let hub = Self::new(&endpoint, token, RetryPolicy::default())?;
        match variable(CERTIFICATES) {
            Some(path) => hub.trusting(Path::new(&path)),
            None => Ok(hub),
        }
    }

    /// Its address, without a slash at the end.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn retries(&self) -> &RetryPolicy {
        &self.retries
    }

    /// Asks for a file, or for `range` of it, once.
    pub(super) fn ask(
        &self,
        url: &str,
        range: Option<&Range<u64>>,
    ) -> Result<Answer, AttemptError> {
        let mut at = url.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let response = self.send(&at, range)?;
            if !response.status().is_redirection() {
                return answer(url, range, response);
            }
            let to = header(&response, LOCATION);
            at = to
                .and_then(|to| redirected(&at, to))
                .ok_or_else(|| wrong(url, format!("{at} redirects to {to:?}; expected an address of https, or of http where the hub is")))?;
        }
        Err(wrong(
            url,
            format!("more than {MOST_REDIRECTS} redirects one after the other"),
        ))
    }

    fn send(&self, url: &str, range: Option<&Range<u64>>) -> Result<Response<Body>, AttemptError> {
        let mut request = self.agent.get(url);
        if let Some(token) = &self.token
            && origin(url).as_ref() == Some(&self.origin)
        {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(Range { start, end }) = range {
            request = request.header(RANGE, format!("bytes={start}-{}", end - 1));
        }
        request.call().map_err(|error| match error {
            Error::BadUri(reason) => wrong(url, format!("is no address: {reason}")),
            // A token with a line break in it, for one. What stands in it is not shown.
            Error::Http(_) => wrong(
                url,
                "cannot be asked for: look at HF_ENDPOINT and HF_TOKEN for signs that do not belong there".to_owned(),
            ),
            // TLS refuses what the hub sends, its certificate for one: it would do so again.
            Error::Io(error) if error.kind() == ErrorKind::InvalidData => wrong(
                url,
                format!(
                    "cannot be asked safely: {error}; if your own certificate authority signed its certificate, name a PEM file with that authority's certificate in {CERTIFICATES}"
                ),
            ),
            error => AttemptError::Passing {
                reason: error.to_string(),
                wait: None,
            },
        })
    }
}

/// The HTTP client, which trusts the certificate authorities `roots`.
fn agent(retries: &RetryPolicy, roots: RootCerts) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(retries.timeout))
        .timeout_recv_response(Some(retries.timeout))
        .timeout_per_read(Some(retries.timeout))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .user_agent(concat!("sage/", env!("CARGO_PKG_VERSION")))
        .build()
        .new_agent()
}

fn wrong(url: &str, problem: String) -> AttemptError {
    AttemptError::Final(HubError::Wrong {
        url: url.to_owned(),
        problem,
    })
}

fn header(response: &Response<Body>, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// What an answer that leads nowhere else says.
fn answer(
    url: &str,
    range: Option<&Range<u64>>,
    response: Response<Body>,
) -> Result<Answer, AttemptError> {
    let status = response.status();
    let length = header(&response, CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let (first, file_bytes) = match status {
        StatusCode::OK => (0, length),
        StatusCode::PARTIAL_CONTENT => {
            let said = header(&response, CONTENT_RANGE);
            let read = said.and_then(content_range);
            let asked = range.map(|range| range.start);
            match read {
                Some((first, total)) if Some(first) == asked => (first, total),
                _ => {
                    let problem = format!(
                        "answers with the range {said:?}; expected one that begins at {asked:?}"
                    );
                    return Err(wrong(url, problem));
                }
            }
        }
        _ => return Err(refusal(url, status, header(&response, RETRY_AFTER))),
    };
    Ok(Answer {
        first,
        file_bytes,
        body: Box::new(response.into_body().into_reader()),
    })
}

fn refusal(url: &str, status: StatusCode, retry_after: Option<&str>) -> AttemptError {
    let is_passing = status.is_server_error()
        || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
    if is_passing {
        let seconds = retry_after.and_then(|text| text.trim().parse().ok());
        return AttemptError::Passing {
            reason: format!("the hub answers {}", status.as_u16()),
            wait: seconds.map(Duration::from_secs),
        };
    }
    let advice = match status.as_u16() {
        401 => {
            "it wants to know who asks, or there is no such model: set HF_TOKEN to a token that may read it, and look at the name"
        }
        403 => {
            "this token may not read it: accept the model's terms on the hub with the account of HF_TOKEN"
        }
        404 => "there is no such model, revision or file: look at the name",
        416 => "the file is shorter than the hub said: run the same command again",
        _ => "this program does not know what to do about that",
    };
    AttemptError::Final(HubError::Refused {
        url: url.to_owned(),
        status: status.as_u16(),
        advice: advice.to_owned(),
    })
}

/// First byte and length of the file in `bytes 5-9/20`; the length may be `*`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((first.trim().parse().ok()?, total))
}

/// Scheme, host and port of an address; none of one that is neither http nor https, or has somebody's name in it.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let host = rest.split(['/', '?', '#']).next()?.to_ascii_lowercase();
    let port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    if host.is_empty() || host.contains('@') {
        return None;
    }
    // Behind the last bracket of an IPv6 address.
    let has_port = host.rsplit(']').next()?.contains(':');
    let port = if has_port { "" } else { port };
    Some(format!("{scheme}://{host}{port}"))
}

/// Where a redirect from `from` leads: never from https to http.
fn redirected(from: &str, to: &str) -> Option<String> {
    let (scheme, rest) = from.split_once("://")?;
    let to = if to.starts_with("//") {
        format!("{scheme}:{to}")
    } else if to.starts_with('/') {
        let host = rest.split(['/', '?', '#']).next()?;
        format!("{scheme}://{host}{to}")
    } else {
        to.to_owned()
    };
    let found = origin(&to)?;
    let is_downgrade = scheme.eq_ignore_ascii_case("https") && found.starts_with("http://");
    (!is_downgrade).then_some(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let of = |url| origin(url);
        assert_eq!(
            of("https://Hub.example/a?b"),
            Some("https://hub.example:443".into())
        );
        assert_eq!(of("http://127.0.0.1:80/x"), of("HTTP://127.0.0.1"));
        assert_ne!(of("http://127.0.0.1:81"), of("http://127.0.0.1:80"));
        assert_eq!(of("http://[::1]"), Some("http://[::1]:80".into()));
        assert_eq!(of("http://[::1]:8080/a"), Some("http://[::1]:8080".into()));
        for none in [
            "ftp://a",
            "https://",
            "a/b",
            "https://hub.example@evil.example/",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn redirects_lead_on_and_never_into_the_open() {
        let from = "https://hub.example/a/b?c";
        for (to, expected) in [
            ("/x", Some("https://hub.example/x")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("https://cdn.example/x", Some("https://cdn.example/x")),
            ("http://hub.example/x", None),
            ("file:///etc/passwd", None),
            ("x", None),
        ] {
            assert_eq!(redirected(from, to).as_deref(), expected, "{to}");
        }
        assert_eq!(
            redirected("http://a/b", "https://c/d").as_deref(),
            Some("https://c/d")
        );
    }

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/20"), Some((5, Some(20))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        for none in ["5-9/20", "bytes */20", "bytes 5/20", ""] {
            assert_eq!(content_range(none), None, "{none}");
        }
    }
}
