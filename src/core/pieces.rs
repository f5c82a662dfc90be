//! Pieces of a text that is read: sentences and lines, each measured by itself.

use std::ops::Range;

use sage_actors::protocol::{Segment, TokenMeasure, TokenOrigin};

use super::segment::SegmentBuilder;
use super::step_result::Forward;

/// Bytes of a piece at most, unless it has no space to be cut at.
const MOST_BYTES: usize = 320;

/// Words of a piece at least; shorter ones go with what follows.
const LEAST_WORDS: usize = 3;

/// Cuts a text into sentences and lines of at most about 320 bytes, with the white space behind them; together they are the
/// text. A script that is written without spaces is cut behind its full stops.
pub fn cut(text: &str) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let (mut start, mut words, mut in_word, mut last_space) = (0, 0, false, None);
    let (mut ended, mut stopped) = (false, false);
    for (at, c) in text.char_indices() {
        if c.is_whitespace() {
            words += usize::from(in_word);
            in_word = false;
            last_space = Some(at + c.len_utf8());
            ended |= c == '\n';
            continue;
        }
        if stopped || ended && !in_word && words >= LEAST_WORDS {
            pieces.push(start..at);
            (start, words, last_space) = (at, 0, None);
        } else if at - start >= MOST_BYTES {
            let end = last_space.take().unwrap_or(at);
            pieces.push(start..end);
            (start, words) = (end, 0);
        }
        // A closing quote or bracket behind the end of a sentence belongs to it.
        let closes = matches!(c, '"' | '\'' | ')' | ']' | '”' | '’' | '»');
        ended = matches!(c, '.' | '!' | '?' | '…') || (ended && in_word && closes);
        stopped = matches!(c, '。' | '！' | '？');
        in_word = true;
    }
    if start < text.len() {
        pieces.push(start..text.len());
    }
    pieces
}

/// Gives, for a number of bytes, the index of the token in which that many decoded bytes are reached; `lengths` are the bytes
/// that each token decodes to.
fn holding(lengths: &[usize]) -> impl Fn(usize) -> usize {
    let sums: Vec<usize> = lengths
        .iter()
        .scan(0, |sum, length| {
            *sum += length;
            Some(*sum)
        })
        .collect();
    // Sums never fall: a token that completes no character adds nothing.
    move |byte| sums.partition_point(|sum| *sum < byte)
}

/// Index of the token in which the last occurrence of `text` in a prompt begins; none where the prompt does not contain it
/// unchanged. `decoded` and `lengths` are as in [`token_ends`].
pub fn first_token(decoded: &str, lengths: &[usize], text: &str) -> Option<usize> {
    let begins = decoded.rfind(text.trim())?;
    Some(holding(lengths)(begins + 1))
}

/// Where a text and its pieces lie among the tokens of a prompt that ends with the text: the index of the text's first token,
/// and for each piece the index behind its last token. `decoded` is the decoded prompt, `lengths` the bytes that each token
/// adds to it. Up to 16 bytes of the text's end may be missing; none where the prompt does not end with the text.
pub fn token_ends(
    decoded: &str,
    lengths: &[usize],
    text: &str,
    pieces: &[Range<usize>],
) -> Option<(usize, Vec<usize>)> {
    const MISSING_BYTES: usize = 16;
    let (decoded, written) = (decoded.trim_end(), text.trim_end());
    let missing = (0..=MISSING_BYTES.min(written.len().checked_sub(1)?)).find(|missing| {
        let there = written.get(..written.len() - missing);
        there.is_some_and(|there| decoded.ends_with(there))
    })?;
    let begins = decoded.len() - (written.len() - missing);
    let holding = holding(lengths);
    let first = holding(begins + 1);
    let mut last = first;
    // White space behind a piece begins the next one's first token.
    let end = |piece: &Range<usize>| {
        let written = text[piece.clone()].trim_end().len();
        let byte = (begins + piece.start + written).min(decoded.len());
        last = last.max((holding(byte) + 1).min(lengths.len()));
        last
    };
    let ends = pieces.iter().map(end).collect();
    Some((first, ends))
}

/// Measures the pieces of what is being read.
#[derive(Debug)]
pub struct PieceMeter {
    /// Where each ends among the tokens that are read; ascending.
    ends: Vec<usize>,
    builders: Vec<SegmentBuilder>,
}

impl PieceMeter {
    /// Of pieces that end at `ends`, of hidden states of `hidden` numbers.
    pub fn new(ends: Vec<usize>, hidden: usize) -> Self {
        let builder = |_: &usize| SegmentBuilder::new(TokenOrigin::Observed, hidden);
        let builders = ends.iter().map(builder).collect();
        Self { ends, builders }
    }

    /// Forgets what was measured.
    pub fn begin_again(&mut self) {
        for builder in &mut self.builders {
            builder.take();
        }
    }

    /// The rows of each piece in a chunk of the tokens `of`, counted from its first.
    pub fn rows(&self, of: &Range<usize>) -> Vec<Range<usize>> {
        let mut start = 0;
        let within = |at: usize| at.clamp(of.start, of.end) - of.start;
        let row = |end: &usize| {
            let rows = within(start)..within(*end);
            start = *end;
            rows
        };
        let rows = self.ends.iter().map(row);
        rows.filter(|rows| !rows.is_empty()).collect()
    }

    /// Adds a chunk that begins at token `first`: `measures` are of the predictions of its rows, whose entropies are summed over
    /// [`PieceMeter::rows`].
    pub fn add(&mut self, first: usize, forward: &Forward, measures: &[TokenMeasure], rows: usize) {
        let mut entropies = forward.entropy.spans.iter();
        let mut start = 0;
        for (end, builder) in self.ends.iter().zip(&mut self.builders) {
            let within = |at: usize| at.clamp(first, first + rows) - first;
            let (from, to) = (within(start), within(*end));
            // Row r predicts token first + r + 1.
            let predicted = |at: usize| at.saturating_sub(first + 1).min(measures.len());
            let of_piece = &measures[predicted(start)..predicted(*end)];
            if to > from {
                let entropy = entropies.next().copied().unwrap_or_default();
                builder.add_rows(forward, from..to, of_piece, entropy);
            } else if !of_piece.is_empty() {
                builder.add_measures(of_piece);
            }
            start = *end;
        }
    }

    /// Every piece's tokens and its segment.
    pub fn take(&mut self) -> Vec<(Range<usize>, Segment)> {
        let mut start = 0;
        let ends = self.ends.iter().zip(&mut self.builders);
        ends.map(|(end, builder)| {
            let of = start..*end;
            start = *end;
            (of, builder.take())
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::step_result::RouterEntropy;
    use proptest::prelude::*;

    fn texts(text: &str) -> Vec<&str> {
        cut(text).into_iter().map(|piece| &text[piece]).collect()
    }

    #[test]
    fn a_text_is_cut_behind_sentences_and_lines() {
        assert_eq!(
            texts(
                "The key of Anna is red. \"Tom lives in Rome.\" No. He said it twice.\nimport os, sys\n}\nx"
            ),
            [
                "The key of Anna is red. ",
                "\"Tom lives in Rome.\" ",
                "No. He said it twice.\n",
                "import os, sys\n",
                "}\nx",
            ]
        );
        assert_eq!(texts("3.14 is pi and so on"), ["3.14 is pi and so on"]);
        assert_eq!(texts("你好。我住在罗马。"), ["你好。", "我住在罗马。"]);
        let long = "x".repeat(1_000);
        assert!(texts(&long).iter().all(|piece| piece.len() <= MOST_BYTES));
        assert!(cut("").is_empty());
    }

    proptest! {
        #[test]
        fn pieces_make_up_the_text_and_are_short(text in "([a-zé]{1,12}[ .\n]{1,2}){0,120}") {
            let pieces = texts(&text);
            prop_assert_eq!(pieces.concat(), text.clone());
            prop_assert!(pieces.iter().all(|piece| piece.len() <= MOST_BYTES + 30), "{:?}", pieces);
        }
    }

    #[test]
    fn pieces_end_with_the_tokens_that_hold_their_last_byte() {
        // "user\n" and two sentences; the last token is not read yet.
        let tokens = [
            "user", "\n", "One", " two", " three", ".", " Four", " five", " six",
        ];
        let lengths: Vec<usize> = tokens.iter().map(|token| token.len()).collect();
        let text = "One two three. Four five six.";
        let pieces = cut(text);
        let found = token_ends(&tokens.concat(), &lengths, text, &pieces);
        assert_eq!(found, Some((2, vec![6, 9])));
        assert_eq!(token_ends("other", &[5], text, &pieces), None);
        assert_eq!(
            first_token(&tokens.concat(), &lengths, "Four five"),
            Some(6)
        );
        // A piece of white space alone ends where the one before it does.
        let gap = [0..6, 6..9];
        assert_eq!(
            token_ends("x y", &[1, 2], "x y      ", &gap),
            Some((0, vec![2, 2]))
        );
    }

    #[test]
    fn a_piece_has_its_own_rows_losses_and_entropy_whatever_the_chunks() {
        let measure = |nll: f32| TokenMeasure { nll, entropy: 0.0 };
        let forward = |hidden: &[f32], spans: &[f32]| Forward {
            normed: hidden.to_vec(),
            entropy: RouterEntropy {
                mean: 0.0,
                spans: spans.to_vec(),
            },
            ..Forward::default()
        };
        let mut meter = PieceMeter::new(vec![2, 5], 1);
        assert_eq!(meter.rows(&(0..3)), [0..2, 2..3]);
        assert_eq!(meter.rows(&(3..5)).first(), Some(&(0..2)));
        // Three tokens, then two; losses are of tokens 1, 2, 3 and 4.
        let losses = [1.0, 2.0, 3.0].map(measure);
        meter.add(0, &forward(&[10.0, 20.0, 1.0], &[0.8, 0.1]), &losses, 3);
        meter.add(3, &forward(&[2.0, 3.0], &[0.5]), &[measure(4.0)], 2);
        let pieces = meter.take();
        let (first, second) = (&pieces[0], &pieces[1]);
        assert_eq!((first.0.clone(), second.0.clone()), (0..2, 2..5));
        assert_eq!(
            (first.1.mean_hidden[0], second.1.mean_hidden[0]),
            (15.0, 2.0)
        );
        assert_eq!(first.1.tokens, [measure(1.0)]);
        assert_eq!(second.1.tokens, [2.0, 3.0, 4.0].map(measure));
        assert_eq!(
            (first.1.router_entropy, second.1.router_entropy),
            (0.4, 0.2)
        );
    }
}
