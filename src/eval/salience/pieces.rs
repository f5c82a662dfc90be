//! Files become domains, domains become pieces that a run would be given as observations.

use std::path::Path;

use super::SalienceEvalSettings;
use crate::eval::EvalError;
use crate::eval::material::{SEPARATOR, content, file_name};
use crate::store::WeightSource;
use crate::text::Text;

/// An observation to come.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The document: its pieces continue one another.
    pub source: String,
    pub text: String,
}

/// A file of text of one kind.
#[derive(Clone, Debug)]
pub(super) struct Domain {
    pub name: String,
    pub pieces: Vec<Piece>,
}

impl Domain {
    /// `count` pieces in a row before the cut of this number, of `cuts`: spread evenly over the text.
    pub fn window(&self, cut: usize, cuts: usize, count: usize) -> &[Piece] {
        let room = self.pieces.len().saturating_sub(count);
        let start = room * cut / cuts.max(1);
        &self.pieces[start..(start + count).min(self.pieces.len())]
    }

    /// The same for what follows the cut, half the text away from what [`Self::window`] gives for this number.
    pub fn window_beyond(&self, cut: usize, cuts: usize, count: usize) -> &[Piece] {
        let room = self.pieces.len().saturating_sub(count);
        let start = (room * cut / cuts.max(1) + room / 2) % room.max(1);
        &self.pieces[start..(start + count).min(self.pieces.len())]
    }
}

/// The domains of the files.
///
/// # Errors
/// A file that cannot be read, or is shorter than what is to be read of it at a cut.
pub(super) fn domains(
    source: &dyn WeightSource,
    settings: &SalienceEvalSettings,
) -> Result<Vec<Domain>, EvalError> {
    let text = Text::load(source)?.allowing_control_tokens(settings.control_tokens);
    let mut domains = Vec::new();
    for path in &settings.texts {
        let domain = domain(&text, path, settings.piece_tokens)?;
        let least = 2 * (settings.before + settings.after);
        if domain.pieces.len() < least {
            let (has, tokens) = (domain.pieces.len(), settings.piece_tokens);
            return Err(EvalError::File {
                path: path.clone(),
                problem: format!(
                    "has {has} pieces of {tokens} tokens: expected at least {least}, twice what is read around a cut"
                ),
            });
        }
        domains.push(domain);
    }
    Ok(domains)
}

fn domain(text: &Text, path: &Path, piece_tokens: usize) -> Result<Domain, EvalError> {
    let file = file_name(path);
    let name = file.strip_suffix(".txt").unwrap_or(&file).to_owned();
    let content = content(path)?;
    let documents = content
        .split(SEPARATOR)
        .map(str::trim)
        .filter(|document| !document.is_empty());
    let mut pieces = Vec::new();
    for (number, document) in documents.enumerate() {
        let source = format!("{name} {}", number + 1);
        pieces.extend(
            cut(text, document, piece_tokens)?
                .into_iter()
                .map(|text| Piece {
                    source: source.clone(),
                    text,
                }),
        );
    }
    Ok(Domain { name, pieces })
}

/// Cuts a document between words, as soon as a piece has `piece_tokens` tokens; what is left at the end is a piece of
/// its own if it has half as many, else it belongs to the piece before.
fn cut(text: &Text, document: &str, piece_tokens: usize) -> Result<Vec<String>, EvalError> {
    let mut pieces: Vec<String> = Vec::new();
    let mut piece = String::new();
    for word in words(document) {
        piece.push_str(word);
        if text.encode_untrusted(&piece)?.len() >= piece_tokens {
            pieces.push(std::mem::take(&mut piece));
        }
    }
    let left = text.encode_untrusted(&piece)?.len();
    match pieces.last_mut() {
        Some(last) if left * 2 < piece_tokens => last.push_str(&piece),
        _ => pieces.push(piece),
    }
    Ok(pieces)
}

/// Every word with the white space before it, as tokenizers take them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.len() - rest.trim_start().len();
        let length = rest[start..].find(char::is_whitespace);
        let end = length.map_or(rest.len(), |length| start + length);
        let (word, after) = rest.split_at(end);
        rest = after;
        (!word.is_empty()).then_some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_the_space_before_them_and_lose_nothing() {
        let text = " def f(x):\n    return x\n";
        let found: Vec<&str> = words(text).collect();
        assert_eq!(found, [" def", " f(x):", "\n    return", " x", "\n"]);
        assert_eq!(found.concat(), text);
        assert_eq!(words("").count(), 0);
    }

    #[test]
    fn windows_are_spread_over_the_text_and_never_the_same_on_both_sides_of_a_cut() {
        let piece = |number: usize| Piece {
            source: String::new(),
            text: number.to_string(),
        };
        let domain = Domain {
            name: "numbers".into(),
            pieces: (0..100).map(piece).collect(),
        };
        let starts = |pieces: &[Piece]| pieces[0].text.clone();
        let before: Vec<String> = (0..3)
            .map(|cut| starts(domain.window(cut, 3, 20)))
            .collect();
        assert_eq!(before, ["0", "26", "53"]);
        let beyond: Vec<String> = (0..3)
            .map(|cut| starts(domain.window_beyond(cut, 3, 4)))
            .collect();
        assert_eq!(beyond, ["48", "80", "16"]);
    }
}
