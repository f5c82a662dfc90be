//! The part of an answer that a model thinks, told apart from what it says.

/// What opens the part that is thought.
const OPEN: &str = "<think>";
/// What closes it.
const CLOSE: &str = "</think>";

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerPiece {
    /// Thought.
    Thought(String),
    /// Said.
    Said(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nothing was said yet.
    #[default]
    Begin,
    /// Between the marks.
    Thinking,
    /// Behind the closing mark; line breaks there belong to neither part.
    Behind,
    /// In the answer.
    Saying,
}

/// Tells thoughts from what is said, piece by piece.
///
/// Only an answer that begins with thoughts has any: `<think>` further on is a word like others. A prompt that ends with
/// `<think>` has opened them already.
#[derive(Clone, Debug, Default)]
pub struct Thinking {
    stage: Stage,
    /// Whether anything was thought yet: line breaks before it belong to the mark.
    thought: bool,
    held: String,
}

impl Thinking {
    /// For the answer to `prompt`.
    pub fn behind(prompt: &str) -> Self {
        let stage = if prompt.trim_end().ends_with(OPEN) {
            Stage::Thinking
        } else {
            Stage::Begin
        };
        Self {
            stage,
            ..Self::default()
        }
    }

    /// Takes a piece of the answer and tells what can be told of it now.
    pub fn push(&mut self, piece: &str) -> Vec<AnswerPiece> {
        self.held.push_str(piece);
        let mut shown = Vec::new();
        while self.step(&mut shown) {}
        shown
    }

    /// What is still held back at the end.
    pub fn finish(&mut self) -> Option<AnswerPiece> {
        let rest = std::mem::take(&mut self.held);
        let shown = match self.stage {
            Stage::Thinking => AnswerPiece::Thought(rest),
            _ => AnswerPiece::Said(rest),
        };
        Some(shown).filter(
            |shown| !matches!(shown, AnswerPiece::Said(text) | AnswerPiece::Thought(text) if text.is_empty()),
        )
    }

    /// Whether there may be more to tell.
    fn step(&mut self, shown: &mut Vec<AnswerPiece>) -> bool {
        match self.stage {
            Stage::Begin => {
                let text = self.held.trim_start();
                if let Some(rest) = text.strip_prefix(OPEN) {
                    self.held = rest.to_owned();
                    self.stage = Stage::Thinking;
                    true
                } else if OPEN.starts_with(text) {
                    false
                } else {
                    self.stage = Stage::Saying;
                    true
                }
            }
            Stage::Thinking => {
                if !self.thought {
                    self.held = self.held.trim_start_matches('\n').to_owned();
                    self.thought = !self.held.is_empty();
                }
                if let Some((thought, rest)) = self.held.split_once(CLOSE) {
                    let thought = thought.trim_end_matches('\n').to_owned();
                    let rest = rest.to_owned();
                    if !thought.is_empty() {
                        shown.push(AnswerPiece::Thought(thought));
                    }
                    self.held = rest;
                    self.stage = Stage::Behind;
                    return true;
                }
                // Line breaks may turn out to stand before the mark, of which a beginning may be there.
                let kept = (1..CLOSE.len())
                    .rev()
                    .find(|n| self.held.ends_with(&CLOSE[..*n]))
                    .unwrap_or(0);
                let told = &self.held[..self.held.len() - kept];
                let told = told.trim_end_matches('\n').len();
                if told > 0 {
                    let rest = self.held.split_off(told);
                    shown.push(AnswerPiece::Thought(std::mem::replace(
                        &mut self.held,
                        rest,
                    )));
                }
                false
            }
            Stage::Behind => {
                let text = self.held.trim_start_matches('\n');
                self.held = text.to_owned();
                if self.held.is_empty() {
                    return false;
                }
                self.stage = Stage::Saying;
                true
            }
            Stage::Saying => {
                if !self.held.is_empty() {
                    shown.push(AnswerPiece::Said(std::mem::take(&mut self.held)));
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thoughts and answer, whatever the pieces.
    fn told(prompt: &str, answer: &str) -> (String, String) {
        let mut all = Vec::new();
        for size in 1..=answer.chars().count().max(1) {
            let mut thinking = Thinking::behind(prompt);
            let (mut thought, mut said) = (String::new(), String::new());
            let mut add = |shown: AnswerPiece| match shown {
                AnswerPiece::Thought(text) => thought.push_str(&text),
                AnswerPiece::Said(text) => said.push_str(&text),
            };
            let chars: Vec<char> = answer.chars().collect();
            for piece in chars.chunks(size) {
                let piece: String = piece.iter().collect();
                thinking.push(&piece).into_iter().for_each(&mut add);
            }
            thinking.finish().into_iter().for_each(&mut add);
            all.push((thought, said));
        }
        all.dedup();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    #[test]
    fn thoughts_are_told_apart_however_they_come() {
        let pair = |thought: &str, said: &str| (thought.to_owned(), said.to_owned());
        assert_eq!(
            told("", "<think>\nwell\n\nyes\n</think>\n\nMilan é\n"),
            pair("well\n\nyes", "Milan é\n")
        );
        assert_eq!(told("…<think>\n", "a</b\n</think>\n\nc"), pair("a</b", "c"));
        assert_eq!(
            told("", "no <think>x</think>"),
            pair("", "no <think>x</think>")
        );
        assert_eq!(told("", " <thi"), pair("", " <thi"));
        assert_eq!(told("", "<think>\ncut off"), pair("cut off", ""));
        assert_eq!(told("", "<think>\n\n</think>\n\n"), pair("", ""));
        assert_eq!(told("", ""), pair("", ""));
        assert_eq!(told("x<think>\n\n</think>\n\n", "hi"), pair("", "hi"));
    }
}
