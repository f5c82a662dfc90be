//! A tag of a template, divided into what the rewriting must know of it.

/// Characters of one tag, without blanks and without what stands between quotes.
const MAX_TAG_CHARS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A word that names something.
    Name,
    /// A word of the language, behind which a value begins.
    Word,
    /// A text or a number.
    Literal,
    Open,
    Close,
    Comma,
    /// `=`, not `==`.
    Assign,
    Dot,
    Other,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TemplateToken {
    pub(super) kind: TokenKind,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Brackets that are open around it.
    pub(super) depth: usize,
    /// Of an opening bracket: whether a value begins with it, rather than arguments or an index; and whether a comma
    /// stands directly in it.
    pub(super) literal: bool,
    pub(super) commas: bool,
}

pub(super) struct Tokens {
    pub(super) list: Vec<TemplateToken>,
    /// Behind the tag.
    pub(super) end: usize,
}

const WORDS: [&str; 8] = ["and", "else", "elif", "if", "in", "is", "not", "or"];

/// Divides what stands between `from` and the tag's end.
pub(super) fn tokens(source: &str, from: usize, close: &str) -> Result<Tokens, String> {
    let mut list: Vec<TemplateToken> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let (mut at, mut chars) = (from, 0);
    loop {
        let rest = &source[at..];
        let Some(c) = rest.chars().next() else {
            return Err("a tag does not end".to_owned());
        };
        if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        }
        let marked = |mark: char| {
            rest.strip_prefix(mark)
                .is_some_and(|r| r.starts_with(close))
        };
        if open.is_empty() && (rest.starts_with(close) || marked('-') || marked('+')) {
            let mark = usize::from(!rest.starts_with(close));
            return Ok(Tokens {
                list,
                end: at + mark + close.len(),
            });
        }
        let start = at;
        let (kind, length) = kind_of(source, start, c, &list)?;
        at += length;
        if c != '\'' && c != '"' {
            chars += at - start;
            if chars > MAX_TAG_CHARS {
                return Err(format!(
                    "a tag has more than {MAX_TAG_CHARS} characters outside of texts"
                ));
            }
        }
        if kind == TokenKind::Close {
            let opened = open.pop().map(|n| source.as_bytes()[list[n].start]);
            if !matches!(
                (opened, c),
                (Some(b'('), ')') | (Some(b'['), ']') | (Some(b'{'), '}')
            ) {
                return Err(format!("`{c}` closes nothing"));
            }
        }
        if kind == TokenKind::Comma
            && let Some(n) = open.last()
        {
            list[*n].commas = true;
        }
        let behind = list.last().map(|token| token.kind);
        let value = !matches!(
            behind,
            Some(TokenKind::Name | TokenKind::Literal | TokenKind::Close)
        );
        // A test may be asked about a value without parentheses: `is in [1]`.
        let asked = c != '(' && is_test(&list, source);
        list.push(TemplateToken {
            kind,
            start,
            end: at,
            depth: open.len(),
            literal: value || asked,
            commas: false,
        });
        if kind == TokenKind::Open {
            open.push(list.len() - 1);
        }
    }
}

/// What begins with `c` at `start`, behind `list`, and how many bytes it has.
fn kind_of(
    source: &str,
    start: usize,
    c: char,
    list: &[TemplateToken],
) -> Result<(TokenKind, usize), String> {
    let rest = &source[start..];
    if matches!(c, '\'' | '"') {
        return Ok((
            TokenKind::Literal,
            quoted(rest, c).ok_or("a text does not end")?,
        ));
    }
    if c.is_alphanumeric() || c == '_' {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let name = &rest[..end.unwrap_or(rest.len())];
        return Ok((word(name, list, source), name.len()));
    }
    let length = c.len_utf8();
    let before_equals = rest.as_bytes().get(length) == Some(&b'=');
    Ok(match c {
        '(' | '[' | '{' => (TokenKind::Open, length),
        ')' | ']' | '}' => (TokenKind::Close, length),
        ',' => (TokenKind::Comma, length),
        '.' => (TokenKind::Dot, length),
        '=' | '!' | '<' | '>' if before_equals => (TokenKind::Other, length + 1),
        '=' => (TokenKind::Assign, length),
        _ => (TokenKind::Other, length),
    })
}

/// Whether the last token is the name of a test: `is NAME`, `is not NAME`.
fn is_test(list: &[TemplateToken], source: &str) -> bool {
    let text = |token: &TemplateToken| &source[token.start..token.end];
    match list {
        [.., is, name] if text(is) == "is" => name.kind == TokenKind::Name,
        [.., is, not, name] if text(is) == "is" && text(not) == "not" => {
            name.kind == TokenKind::Name
        }
        _ => false,
    }
}

/// Bytes of the text that `rest` begins with, its quotes included.
fn quoted(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// What a word is behind the tokens before it.
fn word(text: &str, before: &[TemplateToken], source: &str) -> TokenKind {
    let text_of = |token: &TemplateToken| &source[token.start..token.end];
    let last = before.last();
    // Behind a dot and behind `is` and `is not` every word is a name.
    let is_not = before.len() > 1
        && last.is_some_and(|token| text_of(token) == "not")
        && text_of(&before[before.len() - 2]) == "is";
    let named = last.is_some_and(|token| {
        token.kind == TokenKind::Dot
            || text_of(token) == "|"
            || (text_of(token) == "is" && text != "not")
    });
    if named || is_not {
        TokenKind::Name
    } else if text.starts_with(|c: char| c.is_ascii_digit()) {
        TokenKind::Literal
    } else if WORDS.contains(&text) {
        TokenKind::Word
    } else {
        TokenKind::Name
    }
}
