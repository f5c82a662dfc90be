//! A template's source, before the engine parses it: bounded, and rewritten where the engine must not be left alone.
//!
//! The parser recurses without a bound where operators follow each other (`not not not …`, `a.b.b.b`, `x if y else x if y
//! …`, `{% elif %}`), so that the length of one tag and the number of branches bound its stack. Three things are rewritten:
//!
//! - `{% generation %}` and `{% endgeneration %}`, which only mark what an assistant said, become a block without a
//!   meaning of its own; their whitespace marks stay.
//! - Every list, tuple and mapping that is written out, everything that is assigned, and the parameters of macros pass
//!   [`super::value::keep`]: `[a]` becomes `__keep([a])`.
//! - Tags that load other templates are refused, a chat template has none; and a macro can only be called: it has a list of
//!   its own that passes no gate.
//!
//! Line breaks stay where they are, so that the engine's messages name the right line.

use std::collections::BTreeSet;

use super::functions::{KEEP, KEEP_INSIDE};
use super::tokens::{TemplateToken, TokenKind, Tokens, tokens};

/// The largest templates of released models have about 40 KiB.
pub(super) const MAX_SOURCE_BYTES: usize = 256 * 1024;
/// Branches of all conditions.
const MAX_BRANCHES: usize = 1000;

/// The source for the engine, or what is wrong with it.
pub(super) fn prepare(source: &str) -> Result<String, String> {
    if source.len() > MAX_SOURCE_BYTES {
        return Err(format!(
            "it has {} bytes; a template has {MAX_SOURCE_BYTES} at most",
            source.len()
        ));
    }
    let mut out = String::with_capacity(source.len() * 2);
    let (mut at, mut branches) = (0, 0);
    let macros = macros(source);
    while let Some(start) = find_tag(source, at) {
        out.push_str(&source[at..start]);
        let line = || 1 + source[..start].matches('\n').count();
        let unfinished = || format!("line {}: a tag does not end", line());
        let kind = &source[start..start + 2];
        if kind == "{#" {
            let end = source[start + 2..].find("#}").ok_or_else(unfinished)?;
            at = start + 2 + end + 2;
            out.push_str(&source[start..at]);
            continue;
        }
        if kind == "{%"
            && let Some(end) = raw_block(source, start)
        {
            at = end.ok_or_else(unfinished)?;
            out.push_str(&source[start..at]);
            continue;
        }
        let close = if kind == "{%" { "%}" } else { "}}" };
        let tokens = tokens(source, start + 2, close)
            .map_err(|problem| format!("line {}: {problem}", line()))?;
        at = tokens.end;
        let tag = Tag::new(source, start, tokens);
        if tag.name() == "elif" {
            branches += 1;
            if branches > MAX_BRANCHES {
                return Err(format!(
                    "line {}: more than {MAX_BRANCHES} branches",
                    line()
                ));
            }
        }
        if let Some(name) = tag.takes(&macros) {
            return Err(format!(
                "line {}: the macro `{name}` can only be called",
                line()
            ));
        }
        let written = tag.write(kind == "{%", &mut out);
        written.map_err(|problem| format!("line {}: {problem}", line()))?;
    }
    out.push_str(&source[at..]);
    Ok(out)
}

/// The names of all macros, and of what a block is called by.
fn macros(source: &str) -> BTreeSet<&str> {
    let definitions = source.match_indices("macro").filter_map(|(at, word)| {
        let before = source[..at].trim_end().trim_end_matches(['-', '+']);
        let rest = &source[at + word.len()..];
        let name = rest.trim_start();
        let defines = before.ends_with("{%") && name.len() < rest.len();
        defines.then_some(name)
    });
    let names = definitions.map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        &rest[..end.unwrap_or(rest.len())]
    });
    names.chain(["caller"]).collect()
}

fn find_tag(source: &str, from: usize) -> Option<usize> {
    let begins = |(at, _): &(usize, &str)| {
        matches!(
            source.as_bytes().get(from + at + 1),
            Some(b'{' | b'%' | b'#')
        )
    };
    let found = source[from..].match_indices('{').find(begins);
    found.map(|(at, _)| from + at)
}

/// Where the raw block ends that begins at `start`; the inner none if it never does, the outer if none begins.
fn raw_block(source: &str, start: usize) -> Option<Option<usize>> {
    let open = raw_tag(source, start, "raw")?;
    let mut at = open;
    while let Some(found) = source[at..].find("{%") {
        if let Some(end) = raw_tag(source, at + found, "endraw") {
            return Some(Some(end));
        }
        at += found + 2;
    }
    Some(None)
}

/// Behind the tag `{% name %}`, if that is what begins at `start`.
fn raw_tag(source: &str, start: usize, name: &str) -> Option<usize> {
    let inside = &source[start + 2..];
    let rest = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    let rest = rest.trim_start().strip_prefix(name)?.trim_start();
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    let rest = rest.strip_prefix("%}")?;
    Some(source.len() - rest.len())
}

/// One tag of a template.
struct Tag<'a> {
    source: &'a str,
    start: usize,
    tokens: Tokens,
}

impl<'a> Tag<'a> {
    fn new(source: &'a str, start: usize, tokens: Tokens) -> Self {
        let mut tag = Self {
            source,
            start,
            tokens,
        };
        // The marks of whitespace are no tokens of the tag.
        let mark = |token: &TemplateToken| {
            token.start == start + 2 && matches!(tag.text(token), "-" | "+")
        };
        if tag.tokens.list.first().is_some_and(mark) {
            tag.tokens.list.remove(0);
            if let Some(first) = tag.tokens.list.first_mut() {
                first.literal = true;
            }
        }
        tag
    }

    fn text(&self, token: &TemplateToken) -> &'a str {
        &self.source[token.start..token.end]
    }

    /// The first word: of a block, what it does.
    fn name(&self) -> &'a str {
        self.tokens
            .list
            .first()
            .map_or("", |token| self.text(token))
    }

    /// The macro that this takes for a value: neither calls nor names it, nor asks whether it is there.
    fn takes(&self, macros: &BTreeSet<&str>) -> Option<&'a str> {
        let list = &self.tokens.list;
        if list.len() == 2 && matches!(self.name(), "if" | "elif") {
            return None;
        }
        let taken = list.iter().enumerate().find(|(n, token)| {
            let next = list.get(n + 1);
            let named = *n > 0 && matches!(list[n - 1].kind, TokenKind::Dot);
            let used = next.is_some_and(|next| {
                next.kind == TokenKind::Assign || matches!(self.text(next), "(" | "is" | "in")
            });
            token.kind == TokenKind::Name && macros.contains(self.text(token)) && !named && !used
        });
        taken.map(|(_, token)| self.text(token))
    }

    /// Where the tag's end begins, its mark included.
    fn close(&self) -> usize {
        let close = self.tokens.end - 2;
        let marked = matches!(self.source.as_bytes().get(close - 1), Some(b'-' | b'+'));
        let content = self.tokens.list.last().map_or(self.start + 2, |t| t.end);
        if marked && close > content {
            close - 1
        } else {
            close
        }
    }

    fn write(&self, block: bool, out: &mut String) -> Result<(), String> {
        let list = &self.tokens.list;
        let whole = &self.source[self.start..self.tokens.end];
        if !block {
            self.rewritten(0, self.start, self.close(), out);
            out.push_str(&self.source[self.close()..self.tokens.end]);
            return Ok(());
        }
        let mut from = 1;
        match self.name() {
            name @ ("generation" | "endgeneration") if list.len() == 1 => {
                let with = if name == "generation" {
                    "with"
                } else {
                    "endwith"
                };
                out.push_str(&whole.replacen(name, with, 1));
                return Ok(());
            }
            name @ ("include" | "import" | "from" | "extends") => {
                return Err(format!(
                    "`{name}` asks for another template; a chat template stands alone"
                ));
            }
            "for" => {
                let is_in = |token: &TemplateToken| token.depth == 0 && self.text(token) == "in";
                from = list.iter().position(is_in).map_or(list.len(), |n| n + 1);
            }
            "set" => {
                let assign =
                    |token: &TemplateToken| token.depth == 0 && token.kind == TokenKind::Assign;
                if let Some(n) = list.iter().position(assign) {
                    self.set(n, out);
                    return Ok(());
                }
            }
            _ => {}
        }
        self.rewritten(from.min(list.len()), self.start, self.close(), out);
        let parameters = self.parameters();
        if parameters.is_empty() {
            out.push_str(&self.source[self.close()..self.tokens.end]);
            return Ok(());
        }
        // The mark of the tag's end belongs behind the last of what is added.
        for (n, name) in parameters.iter().enumerate() {
            out.push_str(" %}{% set ");
            out.push_str(name);
            out.push_str(" = ");
            out.push_str(KEEP);
            out.push('(');
            out.push_str(name);
            out.push(')');
            if n + 1 == parameters.len() {
                out.push(' ');
                out.push_str(&self.source[self.close()..self.tokens.end]);
            }
        }
        Ok(())
    }

    /// `{% set target = value %}` with the value behind the gate; `n` is the assignment.
    fn set(&self, n: usize, out: &mut String) {
        let list = &self.tokens.list;
        let dotted = list[..n].iter().any(|token| token.kind == TokenKind::Dot);
        out.push_str(&self.source[self.start..list[n].end]);
        out.push(' ');
        out.push_str(if dotted { KEEP_INSIDE } else { KEEP });
        out.push_str("((");
        self.rewritten(n + 1, list[n].end, self.close(), out);
        out.push_str(")) ");
        out.push_str(&self.source[self.close()..self.tokens.end]);
    }

    /// The parameters of a macro, or of a call's block.
    fn parameters(&self) -> Vec<&'a str> {
        let list = &self.tokens.list;
        let open = match self.name() {
            "macro" => 2,
            "call" => 1,
            _ => return Vec::new(),
        };
        if list.get(open).is_none_or(|token| self.text(token) != "(") {
            return Vec::new();
        }
        let inside = list[open + 1..].iter().enumerate();
        let inside = inside.take_while(|(_, token)| token.depth > 0);
        let names = inside.filter(|(n, token)| {
            let before = list[open + n].kind;
            token.depth == 1
                && token.kind == TokenKind::Name
                && matches!(before, TokenKind::Open | TokenKind::Comma)
        });
        names.map(|(_, token)| self.text(token)).collect()
    }

    /// The source from `begin` to `end`, with a gate around what is written out from token `from` on.
    fn rewritten(&self, from: usize, begin: usize, end: usize, out: &mut String) {
        let mut at = begin;
        let mut open: Vec<bool> = Vec::new();
        for token in &self.tokens.list[from..] {
            let text = self.text(token);
            match token.kind {
                TokenKind::Open => {
                    let gated = token.literal && (text != "(" || token.commas);
                    if gated {
                        out.push_str(&self.source[at..token.start]);
                        out.push(' ');
                        out.push_str(KEEP);
                        out.push('(');
                        at = token.start;
                    }
                    open.push(gated);
                }
                TokenKind::Close if open.pop() == Some(true) => {
                    out.push_str(&self.source[at..token.end]);
                    out.push(')');
                    at = token.end;
                }
                _ => {}
            }
        }
        out.push_str(&self.source[at..end.max(at)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(source: &str, expected: &str) {
        assert_eq!(prepare(source).as_deref(), Ok(expected));
    }

    #[test]
    fn generation_marks_are_a_block_that_keeps_its_whitespace_marks() {
        becomes(
            "a {%- generation -%}\n b {% endgeneration +%}",
            "a {%- with -%}\n b {% endwith +%}",
        );
        for untouched in [
            "{{ '{% generation %}' }}",
            "{# {% generation %} #}",
            "{% raw %}{% generation %}{{ [ {%- endraw -%}",
            "{{ generation }}",
            "{% if generation %}{% endif %}",
        ] {
            becomes(untouched, untouched);
        }
    }

    #[test]
    fn what_is_written_out_passes_the_gate() {
        becomes("{{ [a, 'b]'][0] }}", "{{  __keep([a, 'b]'])[0] }}");
        becomes("{{ x[1:2].f(y)[0] ~ (a) }}", "{{ x[1:2].f(y)[0] ~ (a) }}");
        becomes(
            "{{- {'a': (1, 2)}|tojson -}}",
            "{{-  __keep({'a':  __keep((1, 2))})|tojson -}}",
        );
        becomes(
            "{% if x in ('a', 'b') and not [1] %}",
            "{% if x in  __keep(('a', 'b')) and not  __keep([1]) %}",
        );
        becomes("{% if x is in [1] %}", "{% if x is in  __keep([1]) %}");
        becomes("{% if x is not eq(1, 2) %}", "{% if x is not eq(1, 2) %}");
    }

    #[test]
    fn what_is_assigned_passes_the_gate() {
        becomes("{%- set a = b -%}", "{%- set a = __keep(( b )) -%}");
        becomes(
            "{% set n.a = [1] %}",
            "{% set n.a = __keep_inside((  __keep([1]) )) %}",
        );
        becomes("{% set a, b = 1, 2 %}", "{% set a, b = __keep(( 1, 2 )) %}");
        becomes("{% set a %}x{% endset %}", "{% set a %}x{% endset %}");
        becomes(
            "{% for (a, b) in [c] if a == (b) %}",
            "{% for (a, b) in  __keep([c]) if a == (b) %}",
        );
        becomes(
            "{% macro m(a, b=f(1, [x])) -%}\n",
            "{% macro m(a, b=f(1,  __keep([x])))  %}{% set a = __keep(a) %}{% set b = __keep(b) -%}\n",
        );
        becomes(
            "{% call(x) m(1, y) %}",
            "{% call(x) m(1, y)  %}{% set x = __keep(x) %}",
        );
    }

    #[test]
    fn a_tag_that_is_not_one_is_an_error_with_its_line() {
        for (source, expected) in [
            ("a\n{{ x", "line 2: a tag does not end"),
            ("{{ 'x }}", "line 1: a text does not end"),
            ("\n\n{{ (] }}", "line 3: `]` closes nothing"),
            (
                "{% include 'x' %}",
                "line 1: `include` asks for another template; a chat template stands alone",
            ),
            ("{# x", "line 1: a tag does not end"),
            (
                "{% macro m(a) %}{% endmacro %}{{ m(1) }}{% if m is defined %}\n{{ (m).arguments }}",
                "line 2: the macro `m` can only be called",
            ),
            ("{% raw %}x", "line 1: a tag does not end"),
        ] {
            assert_eq!(prepare(source), Err(expected.to_owned()), "{source}");
        }
        let long = format!("{{{{ {}x }}}}", "-".repeat(5000));
        assert!(prepare(&long).is_err_and(|error| error.contains("4096")));
        let quoted = format!("{{{{ '{}' }}}}", "-".repeat(5000));
        assert_eq!(prepare(&quoted).as_deref(), Ok(quoted.as_str()));
    }
}
