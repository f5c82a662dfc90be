//! Text of others on its way to a terminal: nothing in it moves the cursor, colours, hides or turns around what is shown.

use std::borrow::Cow;
use std::fmt::Write;

/// Characters that a terminal, or a reader's eye, would take for something else than text: control characters but the end of a
/// line and the tabulator, and those that turn around or hide what stands beside them.
fn is_control(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        c if c.is_control() => true,
        '\u{2028}' | '\u{2029}' => true,
        '\u{061c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' => true,
        _ => false,
    }
}

/// The text with every such character written out, as in `\u{1b}`.
pub fn printable(text: &str) -> Cow<'_, str> {
    written(text, is_control)
}

/// As [`printable`], for text that is one line: ends of lines are written out too.
pub fn one_line(text: &str) -> Cow<'_, str> {
    written(text, |c| is_control(c) || c == '\n')
}

fn written(text: &str, hidden: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// JSON with every such character as JSON escapes it: it means the same. They can stand nowhere but in its strings.
pub fn json_printable(json: &str) -> Cow<'_, str> {
    if !json.contains(is_control) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_control(c) {
            // All of them are in the basic plane. A string takes what is written to it.
            let _ = write!(shown, "\\u{:04x}", c as u32);
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_act_is_written_out_and_text_is_left_alone() {
        let text = "naïve 日本 👩‍🔧\tend\n";
        assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
        assert_eq!(
            printable("\x1b[2J\u{9b}31m\r\u{202e}x\x7f"),
            "\\u{1b}[2J\\u{9b}31m\\r\\u{202e}x\\u{7f}"
        );
        assert_eq!(one_line("a\nb"), "a\\nb");
        let json = serde_json::to_string("\u{9b}31m \u{202e}").unwrap();
        let shown = json_printable(&json);
        assert!(!shown.contains(is_control), "{shown}");
        assert_eq!(
            serde_json::from_str::<String>(&shown).unwrap(),
            "\u{9b}31m \u{202e}"
        );
    }
}
