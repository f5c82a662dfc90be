//! What a model is called on a hub.

use std::fmt;
use std::str::FromStr;

use super::HubError;

/// The revision where none is named.
const MAIN: &str = "main";

/// `OWNER/NAME` or `OWNER/NAME@REVISION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    /// `OWNER/NAME`.
    pub repo: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl FromStr for ModelName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let wrong = |problem: String| HubError::Name {
            name: text.to_owned(),
            problem,
        };
        let (repo, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let parts: Vec<&str> = repo.split('/').collect();
        let [owner, name] = parts[..] else {
            return Err(wrong("does not have an owner and a name".to_owned()));
        };
        for part in [owner, name] {
            if !is_plain(part) {
                return Err(wrong(format!("has the part `{part}`, which is no name")));
            }
        }
        let is_sound = |part: &str| is_plain(part) && !part.starts_with('-');
        if !revision.split('/').all(is_sound) {
            return Err(wrong(format!(
                "has the revision `{revision}`, which is none"
            )));
        }
        Ok(Self {
            repo: repo.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

/// Of letters, digits, `-`, `_` and `.`, and not `.` or `..`: nothing that leads elsewhere, on a hub or on a disk.
fn is_plain(part: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !part.is_empty()
        && part.len() <= 128
        && part.chars().all(known)
        && !part.chars().all(|c| c == '.')
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision.as_str() {
            MAIN => f.write_str(&self.repo),
            revision => write!(f, "{}@{revision}", self.repo),
        }
    }
}

impl ModelName {
    /// Revision as a part of an address.
    pub(super) fn revision_in_url(&self) -> String {
        self.revision.replace('/', "%2F")
    }

    /// Name of a folder for it.
    pub fn folder(&self) -> String {
        self.to_string().replace('/', "--")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_read_and_said_again() {
        for (text, repo, revision, folder) in [
            (
                "Qwen/Qwen3-Omni-30B-A3B-Instruct",
                "Qwen/Qwen3-Omni-30B-A3B-Instruct",
                "main",
                "Qwen--Qwen3-Omni-30B-A3B-Instruct",
            ),
            ("a/b@v1.0", "a/b", "v1.0", "a--b@v1.0"),
            ("a/b@refs/pr/3", "a/b", "refs/pr/3", "a--b@refs--pr--3"),
        ] {
            let name: ModelName = text.parse().unwrap();
            assert_eq!(
                (name.repo.as_str(), name.revision.as_str()),
                (repo, revision)
            );
            assert_eq!(
                (name.to_string().as_str(), name.folder().as_str()),
                (text, folder)
            );
        }
    }

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        for text in [
            "", "a", "a/b/c", "../b", "a/..", "a/b@", "a/b@../x", "a/b@x y", "a/b@-x", "a b/c",
            "/b", "a/b?x",
        ] {
            assert!(text.parse::<ModelName>().is_err(), "{text}");
        }
    }
}
