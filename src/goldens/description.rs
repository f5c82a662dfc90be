//! What stands beside a golden: how it was made, and whether it is a target.

use std::path::Path;

use super::CaseError;
use crate::input::read_file;

const MOST_DESCRIPTION_BYTES: u64 = 64 << 20;

/// What `<case>.json` says; nothing where there is none. One that is there and cannot be read might say that the case is no
/// target, or how it was made: it is never passed over.
pub(super) fn beside(path: &Path) -> Result<serde_json::Value, CaseError> {
    let file = |reason: String| CaseError::File {
        path: path.into(),
        reason,
    };
    let json = match read_file(path, MOST_DESCRIPTION_BYTES) {
        Ok(json) => json,
        Err(error) if error.is_missing() => return Ok(serde_json::Value::Null),
        Err(error) => return Err(file(error.to_string())),
    };
    let json = String::from_utf8(json)
        .map_err(|_| file("not a golden's description: not UTF-8 text".to_owned()))?;
    let description: serde_json::Value = serde_json::from_str(&without_python_numbers(&json))
        .map_err(|error| file(format!("not a golden's description: {error}")))?;
    if !description.is_object() {
        return Err(file(
            "not a golden's description: expected an object".to_owned(),
        ));
    }
    Ok(description)
}

/// Python writes numbers that JSON does not have: they are nothing here.
fn without_python_numbers(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    // Every second part stands between quotes; a quote that is escaped does not end it.
    let (mut rest, mut quoted) = (json, false);
    while !rest.is_empty() {
        let escaped =
            |at: usize| rest[..at].bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1;
        let mut ends = rest.match_indices('"').map(|(at, _)| at);
        let end = ends.find(|at| !(quoted && escaped(*at)));
        let part = &rest[..end.unwrap_or(rest.len())];
        if quoted {
            text.push_str(part);
        } else {
            let part = part
                .replace("-Infinity", "null")
                .replace("Infinity", "null");
            text.push_str(&part.replace("NaN", "null"));
        }
        let Some(end) = end else { break };
        text.push('"');
        rest = &rest[end + 1..];
        quoted = !quoted;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_only_python_writes_are_nothing() {
        let json =
            r#"{"a": Infinity, "b": [-Infinity, NaN, 1], "c": "NaN \" Infinity \\", "d": NaN}"#;
        let parsed: serde_json::Value =
            serde_json::from_str(&without_python_numbers(json)).expect("JSON");
        let expected = serde_json::json!({"a": null, "b": [null, null, 1], "c": "NaN \" Infinity \\", "d": null});
        assert_eq!(parsed, expected);
    }
}
