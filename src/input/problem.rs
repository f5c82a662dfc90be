//! One thing that is wrong with what somebody wrote.

use std::fmt;

use serde::Serialize;

use super::Place;

/// A mistake, where it is, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// The key or entry that it is about; empty where the text itself cannot be understood.
    pub entry: String,
    /// What is wrong, and what was expected.
    pub message: String,
    /// What to do about it, where that can be guessed.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.entry.is_empty() {
            write!(f, "{}: ", self.entry)?;
        }
        write!(f, "{}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The known name that was most likely meant by `written`; none when none is near.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&written, &name.to_lowercase());
    let (distance, name) = known
        .into_iter()
        .map(|name| (distance(name), name))
        .min_by_key(|(distance, _)| *distance)?;
    // Up to a third of the letters may be wrong; of a short word, one.
    let length = written.chars().count().max(name.chars().count());
    (distance <= (length / 3).max(1) && distance < length).then_some(name)
}

/// A hint for an unknown name: the nearest known one, else all of them.
pub fn known(written: &str, names: &[&str]) -> String {
    match nearest(written, names.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_are_guessed_and_nothing_else() {
        let names = ["limit", "ticks", "context_tokens", "f", "at"];
        for (written, expected) in [
            ("limt", Some("limit")),
            ("Limit", Some("limit")),
            ("tikcs", Some("ticks")),
            ("context_token", Some("context_tokens")),
            ("contexttokens", Some("context_tokens")),
            ("memory", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, names), expected, "{written}");
        }
        assert_eq!(nearest("limit", []), None);
    }

    #[test]
    fn a_hint_falls_back_to_all_names() {
        assert_eq!(known("wke", &["wake", "rest"]), "did you mean `wake`?");
        assert_eq!(known("asleep", &["wake", "rest"]), "known: wake, rest");
    }
}
