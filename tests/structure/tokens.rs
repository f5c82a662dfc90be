//! The tokens of a source, without comments and without what is compiled for tests alone.

/// A name, `::` or a single mark, with the number of its line (from 0).
pub(super) type Token = (String, usize);

/// The text of a file without comments, and with strings and characters emptied; lines stay where they are.
pub(super) fn bare(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut bare, mut at) = (String::new(), 0);
    while at < chars.len() {
        let end = end_of_wording(&chars, at);
        if end == at {
            bare.push(chars[at]);
            at += 1;
            continue;
        }
        // Something stays in the place of a value, so that two tokens do not become one.
        bare.push(' ');
        bare.extend(chars[at..end].iter().filter(|c| **c == '\n'));
        at = end;
    }
    bare
}

/// Where the comment, the string or the character that begins at `at` ends; `at` where none begins.
fn end_of_wording(chars: &[char], at: usize) -> usize {
    let starts = |text: &str, at: usize| {
        text.chars()
            .eq(chars[at..].iter().copied().take(text.len()))
    };
    let find = |text: &str, from: usize| {
        let found = (from..chars.len()).find(|&place| starts(text, place));
        found.map_or(chars.len(), |place| place + text.len())
    };
    let within_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match chars[at] {
        '/' if starts("//", at) => find("\n", at) - 1,
        '/' if starts("/*", at) => find("*/", at + 2),
        'r' if !within_name || chars[at - 1] == 'b' => {
            let marks = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            if chars.get(at + 1 + marks) != Some(&'"') {
                return at;
            }
            find(&format!("\"{}", "#".repeat(marks)), at + 2 + marks)
        }
        quote @ ('"' | '\'') => {
            // A lifetime is no character.
            if quote == '\'' && chars.get(at + 1) != Some(&'\\') && chars.get(at + 2) != Some(&'\'')
            {
                return at;
            }
            let mut end = at + 1;
            while end < chars.len() && chars[end] != quote {
                end += if chars[end] == '\\' { 2 } else { 1 };
            }
            (end + 1).min(chars.len())
        }
        _ => at,
    }
}

/// Names, `::` and single marks, in their order, each with the number of its line (from 0).
pub(super) fn tokens(bare: &str) -> Vec<Token> {
    let (mut tokens, mut rest, mut line) = (Vec::new(), bare, 0);
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        let length = match name.unwrap_or(rest.len()) {
            0 if rest.starts_with("::") => 2,
            0 => first.len_utf8(),
            length => length,
        };
        if first == '\n' {
            line += 1;
        } else if !first.is_whitespace() {
            tokens.push((rest[..length].to_owned(), line));
        }
        rest = &rest[length..];
    }
    tokens
}

/// The place behind the bracket that closes the one at `open`.
pub(super) fn behind_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, (token, _)) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Takes out what is compiled for tests alone; the names of the modules that are files of their own come beside.
pub(super) fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, Vec<String>) {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut files, mut at) = (Vec::new(), Vec::new(), 0);
    while at < tokens.len() {
        let marked = tokens[at..].iter().map(|(token, _)| token.as_str());
        if !marked.take(MARK.len()).eq(MARK) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += MARK.len();
        while at < tokens.len() && tokens[at].0 == "#" {
            at = behind_group(&tokens, at + 1);
        }
        while at < tokens.len() && !["{", ";"].contains(&tokens[at].0.as_str()) {
            if tokens[at].0 == "mod" {
                files.push(tokens[at + 1].0.clone());
            }
            at += 1;
        }
        at = if tokens.get(at).is_some_and(|token| token.0 == "{") {
            behind_group(&tokens, at)
        } else {
            at + 1
        };
    }
    (kept, files)
}
