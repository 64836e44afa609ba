//! Reads Rust source as tokens: without comments, without the text of literals, without unit tests.

use std::fs;
use std::path::Path;

/// One source file.
pub struct Source {
    /// Path from the folder of the repository.
    pub path: String,
    /// Lines, without those of unit tests.
    pub lines: usize,
    pub tokens: Vec<Token>,
}

pub struct Token {
    pub text: String,
    pub line: usize,
}

/// A function with a body.
pub struct Function {
    pub name: String,
    pub lines: usize,
    pub parameters: usize,
}

fn walk(folder: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("tests") {
            walk(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            out.push(path);
        }
    }
}

/// Every source file below a folder of the repository; `tests` folders and `tests.rs` are left out.
pub fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "{folder} holds no source");
    let read = |path: &std::path::PathBuf| {
        Source::of(&path.strip_prefix(root).unwrap().to_string_lossy(), &fs::read_to_string(path).unwrap())
    };
    paths.iter().map(read).collect()
}

impl Source {
    pub fn of(path: &str, text: &str) -> Source {
        let (tokens, test_lines) = without_tests(tokens(text));
        Source { path: path.to_string(), lines: text.lines().count() - test_lines, tokens }
    }

    pub fn text(&self, i: usize) -> &str {
        self.tokens.get(i).map_or("", |t| t.text.as_str())
    }

    /// The index after the bracket that closes the one at `open`.
    pub fn closed(&self, open: usize) -> usize {
        closed(&self.tokens, open)
    }

    pub fn functions(&self) -> Vec<Function> {
        let mut out = Vec::new();
        for i in 0..self.tokens.len() {
            if self.text(i) != "fn" || !is_word(self.text(i + 1)) {
                continue;
            }
            let Some(open) = self.first(i + 2, "(") else { continue };
            let after = self.closed(open);
            let Some(body) = (after..self.tokens.len()).find(|&j| matches!(self.text(j), "{" | ";")) else { continue };
            if self.text(body) == "{" {
                let end = self.tokens[self.closed(body) - 1].line;
                let (name, parameters) = (self.text(i + 1).to_string(), self.parameters(open, after - 1));
                out.push(Function { name, lines: end - self.tokens[i].line + 1, parameters });
            }
        }
        out
    }

    /// The first such token from `from` on that no angle brackets hold: of `fn f<F: Fn(u8)>(x: u8)` the second parenthesis.
    fn first(&self, from: usize, what: &str) -> Option<usize> {
        let mut depth = 0;
        for i in from..self.tokens.len() {
            match self.text(i) {
                text if text == what && depth == 0 => return Some(i),
                "<" => depth += 1,
                ">" if self.text(i - 1) != "-" => depth -= 1,
                _ => {}
            }
        }
        None
    }

    /// Parameters between two parentheses: their colons outside any bracket, and `self`.
    fn parameters(&self, open: usize, close: usize) -> usize {
        let (mut depth, mut out) = (0, 0);
        for i in open + 1..close {
            match self.text(i) {
                "(" | "[" | "{" | "<" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                ">" if self.text(i - 1) != "-" => depth -= 1,
                ":" | "self" if depth == 0 => out += 1,
                _ => {}
            }
        }
        out
    }
}

pub fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn closed(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

/// Words, numbers, `::`, and every other character for itself. A literal of text is one token `"`.
fn tokens(text: &str) -> Vec<Token> {
    let (bytes, mut out, mut i, mut line) = (text.as_bytes(), Vec::new(), 0, 1);
    while i < bytes.len() {
        let rest = &text[i..];
        let len = match bytes[i] {
            b if b.is_ascii_whitespace() => 1,
            b'/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => rest.find("*/").unwrap() + 2,
            _ => {
                let (len, word) = token(rest);
                out.push(Token { text: word.to_string(), line });
                len
            }
        };
        line += rest[..len].matches('\n').count();
        i += len;
    }
    out
}

/// The first token of a text: its length there, and what it is.
fn token(rest: &str) -> (usize, &str) {
    let bytes = rest.as_bytes();
    let raw = rest.trim_start_matches(['b', 'c']);
    if rest.len() - raw.len() <= 1 && (raw.starts_with("r\"") || raw.starts_with("r#")) {
        let hashes = raw[1..].bytes().take_while(|b| *b == b'#').count();
        if raw[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let from = rest.len() - raw.len() + 2 + hashes;
            return (from + rest[from..].find(&end).unwrap() + end.len(), "\"");
        }
    }
    match bytes[0] {
        b'"' => (quoted(bytes, b'"'), "\""),
        // A lifetime has no closing quote after one character.
        b'\'' if bytes[1] != b'\\' && rest[1..].chars().nth(1).is_none_or(|c| c != '\'') => (1, "'"),
        b'\'' => (quoted(bytes, b'\''), "\""),
        b':' if rest.starts_with("::") => (2, "::"),
        _ => {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let len = if word > 0 { word } else { rest.chars().next().unwrap().len_utf8() };
            (len, &rest[..len])
        }
    }
}

fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut i = 1;
    while bytes[i] != quote {
        i += if bytes[i] == b'\\' { 2 } else { 1 };
    }
    i + 1
}

/// The tokens without the items under `#[cfg(test)]`, and how many lines those have.
fn without_tests(tokens: Vec<Token>) -> (Vec<Token>, usize) {
    let is_test = |i: usize| {
        let mut texts = tokens[i..].iter().map(|t| t.text.as_str());
        ["#", "[", "cfg", "(", "test", ")", "]"].iter().all(|want| texts.next() == Some(want))
    };
    let (mut keep, mut lines, mut i) = (vec![true; tokens.len()], 0, 0);
    while i < tokens.len() {
        if !is_test(i) {
            i += 1;
            continue;
        }
        let item = (i + 7..tokens.len()).find(|&j| matches!(tokens[j].text.as_str(), ";" | "{")).unwrap();
        let end = if tokens[item].text == "{" { closed(&tokens, item) } else { item + 1 };
        lines += tokens[end - 1].line - tokens[i].line + 1;
        keep[i..end].fill(false);
        i = end;
    }
    let mut keep = keep.into_iter();
    (tokens.into_iter().filter(|_| keep.next().unwrap()).collect(), lines)
}
