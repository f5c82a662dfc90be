//! A rendered prompt, and which of its control tokens are only text that somebody else wrote.
//!
//! What users, tools, sensors and the model itself say reaches a chat template unchanged, and a template is a program: what
//! comes out is one text. So it is rendered twice. Every letter of the messages that could begin or end a control token's
//! spelling is replaced by a private letter of its own; where the second text is the first one but for these letters, they
//! say which letters of the prompt came from the messages. A spelling that begins or ends with one of them is text, also
//! where it only comes about beside the template's own letters.
//!
//! A template may look for such letters (`'</think>' in content`) and then say something else. Then tags that are no
//! control tokens keep their letters, and then all but whole spellings and torn ends do; what is not marked must be what
//! the template says when the letters are dots. Where no way explains the prompt it is refused.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

/// A rendered prompt: text, and the byte ranges of it in which control-token spellings are plain text because somebody else
/// wrote them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    pub text: String,
    /// Ranges in it, ascending and apart. A spelling that touches one of them is no control token.
    pub literal: Vec<Range<usize>>,
}

impl Prompt {
    /// A text that the program or the template wrote.
    pub fn trusted(text: String) -> Self {
        Self {
            text,
            literal: Vec::new(),
        }
    }
}

/// Why it is not known who wrote what.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Obscure<E> {
    /// The template failed on the messages themselves.
    Template(E),
    /// It hides where its text comes from.
    Hidden,
}

/// How control tokens are spelled, and what else looks like them.
#[derive(Clone, Debug, Default)]
pub(super) struct Controls {
    spellings: Vec<String>,
    /// Added tokens that are none.
    words: Vec<String>,
    /// Letters that a spelling begins or ends with.
    edges: BTreeSet<char>,
}

/// Which letters of the messages are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marking {
    All,
    /// Tags and added tokens that are no control tokens keep their letters.
    AllButTags,
    /// Whole spellings, and pieces of one at the ends of a text.
    Spellings,
}

/// What marked letters become.
struct Marks {
    /// Letters and their private counterparts; none: a dot for every letter.
    private: Option<Vec<(char, char)>>,
}

impl Marks {
    /// Private letters that occur nowhere in `texts`.
    fn new(edges: &BTreeSet<char>, texts: [&str; 2]) -> Self {
        let free = ('\u{e000}'..='\u{f8ff}').filter(|c| !texts.iter().any(|t| t.contains(*c)));
        Self {
            private: Some(edges.iter().copied().zip(free).collect()),
        }
    }

    fn mark(&self, letter: char) -> char {
        match &self.private {
            None => '.',
            Some(pairs) => {
                let found = pairs.iter().find(|(own, _)| *own == letter);
                found.map_or(letter, |(_, private)| *private)
            }
        }
    }

    fn unmarked(&self, letter: char) -> Option<char> {
        let mut pairs = self.private.iter().flatten();
        pairs.find(|(_, private)| *private == letter).map(|p| p.0)
    }

    /// The ranges of `text` that are marked in `marked`; none where the two differ in more than marks.
    fn compare(&self, text: &str, marked: &str) -> Option<Vec<Range<usize>>> {
        let mut literal: Vec<Range<usize>> = Vec::new();
        let mut others = marked.chars();
        for (at, letter) in text.char_indices() {
            let other = others.next()?;
            if other == letter {
                continue;
            }
            if self.unmarked(other) != Some(letter) {
                return None;
            }
            let end = at + letter.len_utf8();
            match literal.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => literal.push(at..end),
            }
        }
        others.next().is_none().then_some(literal)
    }
}

/// What the program itself wrote in a text of the messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnText {
    /// Where the text stands (JSON pointer from the whole that is rendered).
    pub pointer: String,
    /// Bytes of it, ascending and apart.
    pub ranges: Vec<Range<usize>>,
}

impl Controls {
    /// Of control tokens, and of added tokens that are none.
    pub(super) fn new(
        spellings: impl IntoIterator<Item = String>,
        words: impl IntoIterator<Item = String>,
    ) -> Self {
        let spellings: Vec<String> = spellings.into_iter().filter(|s| !s.is_empty()).collect();
        let edge = |spelling: &String| [spelling.chars().next(), spelling.chars().next_back()];
        Self {
            edges: spellings.iter().flat_map(edge).flatten().collect(),
            spellings,
            words: words.into_iter().filter(|word| !word.is_empty()).collect(),
        }
    }

    /// Renders `said` and finds what of the prompt is only text. Every text and every key in `said` is somebody else's but
    /// for `own`.
    pub(super) fn prompt<E>(
        &self,
        said: &Value,
        own: &[OwnText],
        render: impl Fn(&Value) -> Result<String, E>,
    ) -> Result<Prompt, Obscure<E>> {
        let text = render(said).map_err(Obscure::Template)?;
        let all = said.to_string();
        if !all.contains(|letter| self.edges.contains(&letter)) {
            return Ok(Prompt::trusted(text));
        }
        let marks = Marks::new(&self.edges, [&text, &all]);
        let dots = Marks { private: None };
        let mut plain = None;
        for marking in [Marking::All, Marking::AllButTags, Marking::Spellings] {
            let marked = render(&self.marked(said, own, marking, &marks));
            let Some(literal) = marked.ok().and_then(|marked| marks.compare(&text, &marked)) else {
                continue;
            };
            if marking == Marking::All {
                return Ok(Prompt { text, literal });
            }
            let plain = plain.get_or_insert_with(|| {
                let dotted = render(&self.marked(said, own, Marking::All, &dots));
                dotted.ok().map(|text| self.spelled(&text, &[]))
            });
            if *plain == Some(self.spelled(&text, &literal)) {
                return Ok(Prompt { text, literal });
            }
        }
        // Nothing of what the messages spell reached the prompt, and nothing came about in it.
        let found = self.spelled(&text, &[]);
        let dotted = render(&self.marked(said, own, Marking::All, &dots)).ok();
        let same = dotted.is_some_and(|dotted| self.spelled(&dotted, &[]) == found);
        let spelled = |spelling: &str| {
            let mut any = false;
            each_text(said, &mut |text| any |= text.contains(spelling));
            any
        };
        if same && !found.iter().any(|spelling| spelled(spelling)) {
            return Ok(Prompt::trusted(text));
        }
        Err(Obscure::Hidden)
    }

    /// The spellings in a text that touch nothing literal, in order.
    fn spelled(&self, text: &str, literal: &[Range<usize>]) -> Vec<&str> {
        let mut all: Vec<(usize, &str)> = Vec::new();
        for spelling in &self.spellings {
            let free = |at: &usize| !touches(literal, &(*at..at + spelling.len()));
            let places = text.match_indices(spelling.as_str()).map(|(at, _)| at);
            all.extend(places.filter(free).map(|at| (at, spelling.as_str())));
        }
        all.sort_unstable();
        all.into_iter().map(|(_, spelling)| spelling).collect()
    }

    fn marked(&self, said: &Value, own: &[OwnText], marking: Marking, marks: &Marks) -> Value {
        let mut marked = self.marked_value(said, marking, marks);
        for own in own {
            let text = said.pointer(&own.pointer).and_then(Value::as_str);
            let text = text.and_then(|text| self.marked_around(text, &own.ranges, marking, marks));
            if let Some((text, place)) = text.zip(marked.pointer_mut(&own.pointer)) {
                *place = Value::String(text);
            }
        }
        marked
    }

    /// A text whose `own` ranges stay as they are; none where they do not lie within it.
    fn marked_around(
        &self,
        text: &str,
        own: &[Range<usize>],
        marking: Marking,
        marks: &Marks,
    ) -> Option<String> {
        let (mut marked, mut done) = (String::new(), 0);
        for range in own {
            marked += &self.marked_text(text.get(done..range.start)?, marking, marks);
            marked += text.get(range.clone())?;
            done = range.end;
        }
        Some(marked + &self.marked_text(text.get(done..)?, marking, marks))
    }

    fn marked_value(&self, value: &Value, marking: Marking, marks: &Marks) -> Value {
        match value {
            Value::String(text) => Value::String(self.marked_text(text, marking, marks)),
            Value::Array(list) => {
                let items = list.iter();
                items
                    .map(|item| self.marked_value(item, marking, marks))
                    .collect()
            }
            Value::Object(fields) => {
                let field = |(key, value): (&String, &Value)| {
                    let key = self.marked_text(key, marking, marks);
                    (key, self.marked_value(value, marking, marks))
                };
                Value::Object(fields.iter().map(field).collect())
            }
            other => other.clone(),
        }
    }

    fn marked_text(&self, text: &str, marking: Marking, marks: &Marks) -> String {
        if !text.contains(|letter| self.edges.contains(&letter)) {
            return text.to_owned();
        }
        let chosen = match marking {
            Marking::All => between(&[], text.len()),
            Marking::AllButTags => between(&self.tags(text), text.len()),
            Marking::Spellings => self.pieces(text),
        };
        let mut marked = String::with_capacity(text.len());
        for (at, letter) in text.char_indices() {
            let is_chosen = touches(&chosen, &(at..at + 1));
            marked.push(match is_chosen && self.edges.contains(&letter) {
                true => marks.mark(letter),
                false => letter,
            });
        }
        marked
    }

    /// Tags (`<think>`, `</tool_call>`) and added tokens that have nothing to do with a control token.
    fn tags(&self, text: &str) -> Vec<Range<usize>> {
        let mut tags = Vec::new();
        let control = self.pieces(text);
        let mut at = 0;
        while let Some(next) = text[at..].char_indices().next().map(|(_, letter)| letter) {
            let rest = &text[at..];
            let words = self
                .words
                .iter()
                .filter(|word| rest.starts_with(word.as_str()));
            let word = words.map(String::len).max().or_else(|| tag_bytes(rest));
            let range = at..at + word.unwrap_or(0);
            let is_apart = || {
                let tag = &text[range.clone()];
                let within =
                    |s: &String| s.starts_with(tag) || s.ends_with(tag) || tag.contains(s.as_str());
                !touches(&control, &range) && !self.spellings.iter().any(within)
            };
            if !range.is_empty() && is_apart() {
                at = range.end;
                tags.push(range);
            } else {
                at += next.len_utf8();
            }
        }
        tags
    }

    /// Whole spellings of control tokens, and at the ends of the text what the template could complete to one.
    fn pieces(&self, text: &str) -> Vec<Range<usize>> {
        let mut pieces: Vec<Range<usize>> = Vec::new();
        for spelling in &self.spellings {
            let places = text.match_indices(spelling.as_str());
            pieces.extend(places.map(|(at, found)| at..at + found.len()));
            for (cut, _) in spelling.char_indices().skip(1) {
                let (begins, ends) = spelling.split_at(cut);
                if text.trim_end().ends_with(begins) {
                    let end = text.trim_end().len();
                    pieces.push(end - begins.len()..end);
                }
                if text.trim_start().starts_with(ends) {
                    let start = text.len() - text.trim_start().len();
                    pieces.push(start..start + ends.len());
                }
            }
        }
        pieces.sort_by_key(|range| range.start);
        let mut apart: Vec<Range<usize>> = Vec::new();
        for piece in pieces {
            match apart.last_mut() {
                Some(last) if piece.start <= last.end => last.end = last.end.max(piece.end),
                _ => apart.push(piece),
            }
        }
        apart
    }
}

/// Whether a range has a byte in common with one of `ranges`, which ascend and are apart.
pub(super) fn touches(ranges: &[Range<usize>], range: &Range<usize>) -> bool {
    let next = ranges.partition_point(|other| other.end <= range.start);
    ranges[next..]
        .iter()
        .take_while(|other| other.start < range.end)
        .any(|other| !other.is_empty())
}

/// What lies between ranges, which ascend and are apart.
fn between(ranges: &[Range<usize>], end: usize) -> Vec<Range<usize>> {
    let starts = [0].into_iter().chain(ranges.iter().map(|range| range.end));
    let ends = ranges.iter().map(|range| range.start).chain([end]);
    starts.zip(ends).map(|(start, end)| start..end).collect()
}

/// Bytes of the tag at the beginning of a text: a name, with a slash before it or not, in angle brackets.
fn tag_bytes(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('<')?;
    let end = inside.find('>')?;
    let name = inside[..end].strip_prefix('/').unwrap_or(&inside[..end]);
    let is_name =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | ':');
    (name.starts_with(|letter: char| letter.is_ascii_alphabetic()) && name.chars().all(is_name))
        .then_some(end + 2)
}

fn each_text(value: &Value, take: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => take(text),
        Value::Array(list) => list.iter().for_each(|item| each_text(item, take)),
        Value::Object(fields) => {
            for (key, value) in fields {
                take(key);
                each_text(value, take);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
