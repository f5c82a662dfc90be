//! Which files a revision of a model has.

use serde::Deserialize;

use super::download;
use super::event::PullListener;
use super::{Hub, HubError, ModelName};

/// No listing is longer.
const MOST_LISTING_BYTES: u64 = 64 << 20;

/// A file of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// Path in the repository.
    pub path: String,
    /// Length.
    pub bytes: u64,
    /// SHA-256 of its bytes in hexadecimal, of files that are large enough for the hub to say it.
    pub sha256: Option<String>,
}

/// What a revision is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// Its files.
    pub files: Vec<HubFile>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    oid: Option<String>,
    size: Option<u64>,
}

impl Listing {
    /// Asks the hub what `name` is now.
    ///
    /// # Errors
    /// If it cannot be reached, refuses, or answers with something else.
    pub fn fetch(
        hub: &Hub,
        name: &ModelName,
        listener: PullListener<'_>,
    ) -> Result<Self, HubError> {
        let (endpoint, repo, revision) = (hub.endpoint(), &name.repo, name.revision_in_url());
        let url = format!("{endpoint}/api/models/{repo}/revision/{revision}?blobs=true");
        let text = download::text(hub, &url, MOST_LISTING_BYTES, listener)?;
        Self::parse(&text).map_err(|problem| HubError::Wrong { url, problem })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        let info: Info = serde_json::from_slice(text)
            .map_err(|error| format!("is no description of a model: {error}"))?;
        if !is_hex(&info.sha, 40) {
            return Err(format!(
                "gives `{}` as the commit; expected 40 hexadecimal digits",
                info.sha
            ));
        }
        let file = |sibling: Sibling| {
            let lfs = sibling.lfs.as_ref();
            let sha256 = lfs.and_then(|lfs| lfs.sha256.clone().or(lfs.oid.clone()));
            if let Some(sum) = sha256.as_ref().filter(|sum| !is_hex(sum, 64)) {
                return Err(format!(
                    "gives `{sum}` as the SHA-256 of {}",
                    sibling.rfilename
                ));
            }
            let bytes = lfs.and_then(|lfs| lfs.size).or(sibling.size);
            Ok(HubFile {
                bytes: bytes
                    .ok_or_else(|| format!("does not say how long {} is", sibling.rfilename))?,
                path: sibling.rfilename,
                sha256: sha256.map(|sum| sum.to_ascii_lowercase()),
            })
        };
        let files = info
            .siblings
            .into_iter()
            .map(file)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            commit: info.sha,
            files,
        })
    }

    /// The file at `path`, if the commit has it.
    pub fn file(&self, path: &str) -> Option<&HubFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Where a file of this commit is to be had.
    pub(super) fn url(&self, hub: &Hub, name: &ModelName, path: &str) -> String {
        let (endpoint, repo, commit) = (hub.endpoint(), &name.repo, &self.commit);
        format!("{endpoint}/{repo}/resolve/{commit}/{path}")
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn lengths_and_sums_are_found() {
        let sum = "AB".repeat(32);
        let text = format!(
            r#"{{"id":"a/b","sha":"{COMMIT}","siblings":[
            {{"rfilename":"config.json","size":7,"blobId":"x"}},
            {{"rfilename":"m.safetensors","size":9,"lfs":{{"sha256":"{sum}","size":9,"pointerSize":1}}}}]}}"#
        );
        let listing = Listing::parse(text.as_bytes()).unwrap();
        assert_eq!(listing.commit, COMMIT);
        assert_eq!(listing.file("config.json").unwrap().sha256, None);
        let weights = listing.file("m.safetensors").unwrap();
        assert_eq!(
            (weights.bytes, weights.sha256.as_deref()),
            (9, Some(sum.to_lowercase().as_str()))
        );
        assert_eq!(listing.file("other"), None);
    }

    #[test]
    fn what_is_no_listing_says_why() {
        for (text, expected) in [
            ("<html>", "no description"),
            (r#"{"sha":"main"}"#, "40 hexadecimal digits"),
            (
                &format!(r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"a"}}]}}"#),
                "how long a is",
            ),
            (
                &format!(
                    r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"a","lfs":{{"sha256":"1","size":1}}}}]}}"#
                ),
                "SHA-256 of a",
            ),
        ] {
            let problem = Listing::parse(text.as_bytes()).unwrap_err();
            assert!(problem.contains(expected), "{problem}");
        }
    }
}
