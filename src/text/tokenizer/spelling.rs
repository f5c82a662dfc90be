//! Where a text spells control tokens.

use std::ops::Range;

use tokenizers::AddedToken;

use crate::text::prompt::touches;

/// An added token as it is looked for in a text.
pub(super) struct Spelling {
    pub(super) id: u32,
    pub(super) content: String,
    control: bool,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    /// Whether it is looked for in the text as it stands; others only after normalisation.
    as_it_stands: bool,
}

impl Spelling {
    pub(super) fn new(id: u32, token: &AddedToken, control: bool) -> Self {
        Self {
            id,
            content: token.content.clone(),
            control,
            single_word: token.single_word,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            as_it_stands: control || !token.normalized,
        }
    }
}

/// The control tokens of `text` with the ranges that they take, in order; none of them touches `literal`. The leftmost
/// spelling counts, of those that begin at one place the longest, as the tokenizer itself does it; `spellings` come longest
/// first.
pub(super) fn controls(
    spellings: &[Spelling],
    text: &str,
    literal: &[Range<usize>],
) -> Vec<(Range<usize>, u32)> {
    let mut found = Vec::new();
    let (mut at, mut free) = (0, 0);
    while at < text.len() {
        let Some(spelling) = spelled_at(spellings, text, at, literal) else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        };
        let (start, end) = (at, at + spelling.content.len());
        at = end;
        if spelling.single_word && !is_single_word(text, start..end) {
            continue;
        }
        let start = match spelling.lstrip {
            true => text[..start].trim_end().len().max(free),
            false => start,
        };
        let end = match spelling.rstrip {
            true => text.len() - text[end..].trim_start().len(),
            false => end,
        };
        if spelling.control {
            found.push((start..end, spelling.id));
        }
        (at, free) = (end, end);
    }
    found
}

fn spelled_at<'a>(
    spellings: &'a [Spelling],
    text: &str,
    at: usize,
    literal: &[Range<usize>],
) -> Option<&'a Spelling> {
    let fits = |spelling: &&Spelling| {
        let end = at + spelling.content.len();
        let is_literal = || touches(literal, &(at..end));
        spelling.as_it_stands
            && !spelling.content.is_empty()
            && text[at..].starts_with(spelling.content.as_str())
            && !(spelling.control && is_literal())
    };
    spellings.iter().find(fits)
}

fn is_single_word(text: &str, range: Range<usize>) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let before = text[..range.start].chars().next_back();
    let after = text[range.end..].chars().next();
    !before.is_some_and(is_word) && !after.is_some_and(is_word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spellings() -> Vec<Spelling> {
        let token = |content: &str| AddedToken::from(content, true);
        let mut all = vec![
            Spelling::new(1, &token("<|a|>"), true),
            Spelling::new(2, &token("<|a|><|b|>"), true),
            Spelling::new(3, &AddedToken::from("<t>", false).normalized(false), false),
            Spelling::new(4, &token("<s>").lstrip(true).rstrip(true), true),
            Spelling::new(5, &token("w").single_word(true), true),
        ];
        all.sort_by_key(|spelling| std::cmp::Reverse(spelling.content.len()));
        all
    }

    #[test]
    fn the_longest_spelling_counts_and_a_literal_one_gives_way_to_a_shorter() {
        let text = "<|a|><|b|>x<|a|>";
        let found =
            |literal: Range<usize>| controls(&spellings(), text, std::slice::from_ref(&literal));
        assert_eq!(found(0..0), [(0..10, 2), (11..16, 1)]);
        assert_eq!(found(9..10), [(0..5, 1), (11..16, 1)]);
        assert_eq!(found(0..1), [(11..16, 1)]);
        assert_eq!(found(0..16), []);
        assert_eq!(found(5..5), [(0..10, 2), (11..16, 1)]);
        assert_eq!(found(10..11), [(0..10, 2), (11..16, 1)]);
    }

    #[test]
    fn white_space_and_words_count_as_the_token_says() {
        assert_eq!(
            controls(&spellings(), "a <s> <s> b", &[]),
            [(1..6, 4), (6..10, 4)]
        );
        assert_eq!(controls(&spellings(), "aw w", &[]), [(3..4, 5)]);
        assert_eq!(controls(&spellings(), "é<t>", &[]), []);
    }
}
