//! Cutting text into statements, the way PostgreSQL's lexer would.
//!
//! Owns where a `;` ends a statement and where it does not: inside `'strings'`,
//! `E'escape\'s'`, `"identifiers"`, `$tag$ dollar quotes $tag$`, `-- comments`,
//! `/* nested /* comments */ */` and parentheses. Text arrives in pieces, usually
//! lines; the state between pieces tells the prompt what is still open. Knows nothing
//! else of SQL.

/// What is still open at the end of the text so far.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Inside {
    /// Plain SQL text.
    Code,
    /// A string; whether backslashes escape in it.
    String { escapes: bool },
    /// A quoted identifier.
    Identifier,
    /// A dollar-quoted string, with its delimiter including both dollars.
    Dollar(String),
    /// A comment to the end of the line.
    LineComment,
    /// A block comment, with its nesting depth.
    BlockComment(u32),
}

/// What the person has to finish before a statement can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Open {
    /// Nothing is pending; a new statement would begin.
    Nothing,
    /// A statement without its `;`.
    Statement,
    /// A string, an identifier, a dollar quote, a comment or a parenthesis.
    Quote,
}

/// A complete statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Its text, without the `;` and without surrounding blanks.
    pub(crate) text: String,
    /// The line it begins on, counted from 1.
    pub(crate) line: u64,
}

/// Cuts pieces of text into statements.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// The statement that is not complete yet.
    text: String,
    /// Bytes of `text` already looked at.
    seen: usize,
    inside: Inside,
    parentheses: u32,
    /// Whether anything but blanks and comments was seen in `text`.
    has_code: bool,
    line: u64,
    /// Where the code of the current statement begins.
    start: Option<(usize, u64)>,
}

impl Scanner {
    /// An empty scanner, at line 1.
    pub(crate) fn new() -> Self {
        Self {
            text: String::new(),
            seen: 0,
            inside: Inside::Code,
            parentheses: 0,
            has_code: false,
            line: 1,
            start: None,
        }
    }

    /// What is still open.
    pub(crate) fn open(&self) -> Open {
        match self.inside {
            Inside::Code | Inside::LineComment if self.parentheses > 0 => Open::Quote,
            Inside::Code | Inside::LineComment if self.has_code => Open::Statement,
            Inside::Code | Inside::LineComment => Open::Nothing,
            _ => Open::Quote,
        }
    }

    /// The line that the next piece of text begins on, counted from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Counts a line that was consumed without the scanner (a meta command, COPY data).
    pub(crate) fn skip_line(&mut self) {
        self.line += 1;
    }

    /// Adds text and returns the statements it completes.
    pub(crate) fn push(&mut self, piece: &str) -> Vec<Statement> {
        self.text.push_str(piece);
        let mut complete = Vec::new();
        while self.seen < self.text.len() {
            if self.step() {
                complete.extend(self.take());
            }
        }
        complete
    }

    /// The statement that the end of the input leaves without its `;`, if there is one.
    pub(crate) fn finish(&mut self) -> Option<Statement> {
        self.inside = Inside::Code;
        self.take()
    }

    /// Takes the statement that ends before the byte last looked at.
    fn take(&mut self) -> Option<Statement> {
        let mut text = std::mem::take(&mut self.text);
        let rest = text.split_off(self.seen);
        let (start, line) = self.start.take().unwrap_or((0, self.line));
        self.text = rest;
        self.seen = 0;
        self.parentheses = 0;
        let had_code = std::mem::take(&mut self.has_code);
        let body = text[start..].trim_end();
        let body = body.strip_suffix(';').unwrap_or(body).trim_end();
        had_code.then(|| Statement {
            text: body.to_owned(),
            line,
        })
    }

    /// Looks at the next character or quote; true when it ended a statement.
    fn step(&mut self) -> bool {
        let bytes = self.text.as_bytes();
        let at = self.seen;
        let (byte, next) = (bytes[at], bytes.get(at + 1).copied());
        let mut length = 1;
        if byte == b'\n' {
            self.line += 1;
        }
        match (&mut self.inside, byte) {
            (Inside::Code, _) => return self.step_in_code(byte, next),
            (Inside::LineComment, b'\n') => self.inside = Inside::Code,
            (Inside::LineComment, _) => {}
            (Inside::BlockComment(depth), b'*') if next == Some(b'/') => {
                length = 2;
                *depth -= 1;
                if *depth == 0 {
                    self.inside = Inside::Code;
                }
            }
            (Inside::BlockComment(depth), b'/') if next == Some(b'*') => {
                length = 2;
                *depth += 1;
            }
            (Inside::BlockComment(_), _) => {}
            (Inside::String { escapes: true }, b'\\') => {
                length = if next.is_some() { 2 } else { 1 };
                if next == Some(b'\n') {
                    self.line += 1;
                }
            }
            // A doubled quote closes and opens again, which comes to the same.
            (Inside::String { .. }, b'\'') | (Inside::Identifier, b'"') => {
                self.inside = Inside::Code;
            }
            (Inside::String { .. } | Inside::Identifier, _) => {}
            (Inside::Dollar(tag), b'$') if self.text[at..].starts_with(tag.as_str()) => {
                length = tag.len();
                self.inside = Inside::Code;
            }
            (Inside::Dollar(_), _) => {}
        }
        self.seen += length;
        false
    }

    fn step_in_code(&mut self, byte: u8, next: Option<u8>) -> bool {
        let at = self.seen;
        self.seen += 1;
        let comment = match (byte, next) {
            (b'-', Some(b'-')) => Some(Inside::LineComment),
            (b'/', Some(b'*')) => Some(Inside::BlockComment(1)),
            _ => None,
        };
        if let Some(comment) = comment {
            self.seen += 1;
            self.inside = comment;
            return false;
        }
        if byte.is_ascii_whitespace() {
            return false;
        }
        if byte == b';' && self.parentheses == 0 {
            return true;
        }
        if !self.has_code {
            self.has_code = true;
            self.start = Some((at, self.line));
        }
        match byte {
            b'\'' => {
                self.inside = Inside::String {
                    escapes: self.is_escape_string(at),
                }
            }
            b'"' => self.inside = Inside::Identifier,
            b'(' => self.parentheses += 1,
            b')' => self.parentheses = self.parentheses.saturating_sub(1),
            b'$' => {
                if let Some(tag) = self.dollar_tag(at) {
                    self.seen = at + tag.len();
                    self.inside = Inside::Dollar(tag);
                }
            }
            _ => {}
        }
        false
    }

    /// Whether the quote at `at` follows an `E` that is a word of its own.
    fn is_escape_string(&self, at: usize) -> bool {
        let before = &self.text.as_bytes()[..at];
        match before {
            [rest @ .., b'e' | b'E'] => !rest.last().copied().is_some_and(continues_word),
            _ => false,
        }
    }

    /// The delimiter of a dollar quote that begins at `at`, such as `$$` or `$body$`.
    /// `$1` and `a$b$` begin none.
    fn dollar_tag(&self, at: usize) -> Option<String> {
        let bytes = self.text.as_bytes();
        if at > 0 && continues_word(bytes[at - 1]) {
            return None;
        }
        let name = &self.text[at + 1..];
        let end = name.find('$')?;
        let mut chars = name[..end].chars();
        let starts_well = chars
            .next()
            .is_none_or(|c| c == '_' || c.is_alphabetic() || !c.is_ascii());
        let goes_on_well = chars.all(|c| c == '_' || c.is_alphanumeric() || !c.is_ascii());
        (starts_well && goes_on_well).then(|| self.text[at..at + end + 2].to_owned())
    }
}

/// Whether a byte can stand inside an identifier.
fn continues_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

/// The first word of a statement in capitals, past comments and parentheses:
/// `SELECT`, `CREATE`, … Empty when there is none.
pub(crate) fn first_word(sql: &str) -> String {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, after)| after);
        } else {
            break;
        }
    }
    let end = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    rest[..end].to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Vec<String> {
        let mut scanner = Scanner::new();
        let mut found = scanner.push(text);
        found.extend(scanner.finish());
        found.into_iter().map(|s| s.text).collect()
    }

    #[test]
    fn semicolons_end_statements() {
        assert_eq!(split("select 1; select 2;"), ["select 1", "select 2"]);
        assert_eq!(split(";;  ; select 1"), ["select 1"]);
        assert_eq!(split("-- only a comment;\n/* ; */"), [""; 0]);
        assert_eq!(split("select 1 -- one;\n;"), ["select 1 -- one;"]);
    }

    #[test]
    fn quoted_semicolons_do_not() {
        for text in [
            "select ';'",
            "select 'it''s; fine'",
            r"select E'a\';b'",
            r"select e'\\'",
            "select \"a;b\"\"c;\"",
            "select $$a;b$$",
            "select $x$a;$$;$y$;$x$",
            "select $größe$;$größe$",
            "select 1 /* a; /* b; */ c; */ + 2",
            "create rule r as on insert to t do (select 1; select 2)",
        ] {
            assert_eq!(
                split(&format!("{text}; select 2")),
                [text, "select 2"],
                "{text}"
            );
        }
    }

    #[test]
    fn look_alikes_are_not_quotes() {
        // A backslash is an ordinary character in a standard string.
        assert_eq!(
            split(r"select 'a\'; select 2"),
            [r"select 'a\'", "select 2"]
        );
        // An identifier that ends in e does not make an escape string.
        assert_eq!(split(r"select date'a\'; x"), [r"select date'a\'", "x"]);
        assert_eq!(split("select $1; select $2"), ["select $1", "select $2"]);
        assert_eq!(split("select a$b$c; x"), ["select a$b$c", "x"]);
    }

    #[test]
    fn open_says_what_is_missing() {
        let open = |text: &str| {
            let mut scanner = Scanner::new();
            scanner.push(text);
            scanner.open()
        };
        assert_eq!(open(""), Open::Nothing);
        assert_eq!(open("select 1;"), Open::Nothing);
        assert_eq!(open("select 1; -- done"), Open::Nothing);
        assert_eq!(open("select 1"), Open::Statement);
        assert_eq!(open("select 'a;"), Open::Quote);
        assert_eq!(open("select (1;"), Open::Quote);
        assert_eq!(open("/* a"), Open::Quote);
    }

    #[test]
    fn statements_know_their_line() {
        let mut scanner = Scanner::new();
        let found = scanner.push("select 1;\n\n-- note\nselect\n2;\nselect 3");
        let lines: Vec<u64> = found.iter().map(|s| s.line).collect();
        assert_eq!(lines, [1, 4]);
        assert_eq!(found[1].text, "select\n2");
        assert_eq!(scanner.finish().unwrap().line, 6);
    }

    #[test]
    fn first_words() {
        assert_eq!(first_word(" -- x\n/* y */ (select 1)"), "SELECT");
        assert_eq!(first_word("\\d"), "");
        assert_eq!(first_word("create/**/table"), "CREATE");
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(text in r#"[a-e'"$;()\n\\/*-]{0,60}"#, cut in 0usize..60) {
            // A cut inside a two-character token would change the meaning, so cut at lines.
            let mut lines = text.match_indices('\n').map(|(at, _)| at + 1);
            let cut = lines.find(|at| *at >= cut).unwrap_or(text.len());
            let mut whole = Scanner::new();
            let mut expected = whole.push(&text);
            expected.extend(whole.finish());
            let mut pieces = Scanner::new();
            let mut found = pieces.push(&text[..cut]);
            found.extend(pieces.push(&text[cut..]));
            found.extend(pieces.finish());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            split(&text);
        }
    }
}
