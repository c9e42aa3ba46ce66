//! JSON, which is checked and kept as it is, and JSONB, which is normalised.
//!
//! Normal form is what PostgreSQL prints for a `jsonb`: keys sorted by length,
//! then by bytes; of equal keys the last wins; one blank after `:` and `,`;
//! numbers as decimals without exponent; escapes only where JSON needs them.

use super::fault::Fault;
use crate::DataError;

/// Arrays and objects within each other.
const DEPTH_MAX: usize = 500;
/// Digits that an exponent may stand for: every double, and some more.
const EXPANDED_DIGITS_MAX: usize = 1_000;

/// Checks that a text is one JSON value.
pub(super) fn validate(text: &str) -> Result<(), DataError> {
    serde_json::from_str::<serde::de::IgnoredAny>(text)
        .map(|_| ())
        .map_err(|_| Fault::Syntax.named("json", text.as_bytes()))
}

/// The normal form of a JSON value.
pub(super) fn normalise(text: &str) -> Result<String, DataError> {
    let mut parser = Parser { text, at: 0 };
    let read = parser.value(0).and_then(|node| {
        parser.skip_blanks();
        match parser.at == text.len() {
            true => Ok(node),
            false => Err(Fault::Syntax),
        }
    });
    let node = read.map_err(|fault| {
        let type_name = match fault {
            Fault::Range => "numeric",
            _ => "json",
        };
        fault.named(type_name, text.as_bytes())
    })?;
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    node.write(&mut out);
    Ok(out)
}

enum Node {
    /// A number in normal form, `true`, `false` or `null`.
    Plain(String),
    /// A string, unescaped.
    Text(String),
    Array(Vec<Node>),
    /// Sorted, without duplicates.
    Object(Vec<(String, Node)>),
}

impl Node {
    fn write(&self, out: &mut String) {
        match self {
            Node::Plain(text) => out.push_str(text),
            Node::Text(text) => write_json_string(text, out),
            Node::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push_str(", ");
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Node::Object(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push_str(", ");
                    }
                    write_json_string(key, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// Writes a text as a JSON string, quotes included, as PostgreSQL writes one.
pub fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Takes `byte` if it comes next.
    fn skip(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::Syntax);
        }
        self.skip_blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Node::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Node::Plain),
            _ => self.word(),
        }
    }

    fn word(&mut self) -> Result<Node, Fault> {
        let rest = &self.text[self.at..];
        let word = ["true", "false", "null"]
            .into_iter()
            .find(|word| rest.starts_with(word))
            .ok_or(Fault::Syntax)?;
        self.at += word.len();
        Ok(Node::Plain(word.to_owned()))
    }

    fn array(&mut self, depth: usize) -> Result<Node, Fault> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_blanks();
        if self.skip(b']') {
            return Ok(Node::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_blanks();
            if self.skip(b']') {
                return Ok(Node::Array(items));
            }
            if !self.skip(b',') {
                return Err(Fault::Syntax);
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Node, Fault> {
        self.at += 1;
        let mut members = Vec::new();
        self.skip_blanks();
        if self.skip(b'}') {
            return Ok(Node::Object(members));
        }
        loop {
            self.skip_blanks();
            if self.peek() != Some(b'"') {
                return Err(Fault::Syntax);
            }
            let key = self.string()?;
            self.skip_blanks();
            if !self.skip(b':') {
                return Err(Fault::Syntax);
            }
            members.push((key, self.value(depth + 1)?));
            self.skip_blanks();
            if self.skip(b'}') {
                return Ok(Node::Object(sorted(members)));
            }
            if !self.skip(b',') {
                return Err(Fault::Syntax);
            }
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest
                .bytes()
                .position(|b| b == b'"' || b == b'\\' || b < b' ')
                .ok_or(Fault::Syntax)?;
            out.push_str(&rest[..plain]);
            self.at += plain + 1;
            match rest.as_bytes()[plain] {
                b'"' => return Ok(out),
                b'\\' => out.push(self.escape()?),
                _ => return Err(Fault::Syntax),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<char, Fault> {
        let byte = self.peek().ok_or(Fault::Syntax)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => byte as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode_escape(),
            _ => return Err(Fault::Syntax),
        })
    }

    fn unicode_escape(&mut self) -> Result<char, Fault> {
        let first = self.hex4()?;
        let code = match first {
            // A text cannot hold the zero character.
            0 => return Err(Fault::Syntax),
            0xD800..=0xDBFF => {
                if !(self.skip(b'\\') && self.skip(b'u')) {
                    return Err(Fault::Syntax);
                }
                let second = self.hex4()?;
                if !(0xDC00..=0xDFFF).contains(&second) {
                    return Err(Fault::Syntax);
                }
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            code => code,
        };
        char::from_u32(code).ok_or(Fault::Syntax)
    }

    fn hex4(&mut self) -> Result<u32, Fault> {
        let digits = self
            .text
            .as_bytes()
            .get(self.at..self.at + 4)
            .ok_or(Fault::Syntax)?;
        self.at += 4;
        digits.iter().try_fold(0, |code, b| {
            let digit = (*b as char).to_digit(16).ok_or(Fault::Syntax)?;
            Ok(code * 16 + digit)
        })
    }

    fn digits(&mut self) -> Result<&str, Fault> {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(&self.text[start..self.at]),
            false => Err(Fault::Syntax),
        }
    }

    fn number(&mut self) -> Result<String, Fault> {
        let is_negative = self.skip(b'-');
        let whole = self.digits()?.to_owned();
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(Fault::Syntax);
        }
        let fraction = match self.skip(b'.') {
            true => self.digits()?.to_owned(),
            false => String::new(),
        };
        let mut exponent = 0;
        if self.skip(b'e') || self.skip(b'E') {
            let is_small = self.skip(b'-');
            if !is_small {
                self.skip(b'+');
            }
            // Too long for an `i64` is too large in any case.
            let magnitude = self.digits()?.parse().unwrap_or(i64::MAX);
            exponent = if is_small { -magnitude } else { magnitude };
        }
        plain_number(is_negative, &whole, &fraction, exponent)
    }
}

/// Writes a number without its exponent; digits after the point are kept.
fn plain_number(
    is_negative: bool,
    whole: &str,
    fraction: &str,
    exponent: i64,
) -> Result<String, Fault> {
    let digits = format!("{whole}{fraction}");
    let is_zero = digits.bytes().all(|b| b == b'0');
    // How many of the digits stand before the point; beyond the ends, zeros do.
    let mut point = (whole.len() as i64).saturating_add(exponent);
    if is_zero {
        point = point.min(1);
    }
    if exponent != 0 && point.unsigned_abs() > (EXPANDED_DIGITS_MAX + digits.len()) as u64 {
        return Err(Fault::Range);
    }
    let mut out = String::with_capacity(digits.len() + 8);
    if is_negative && !is_zero {
        out.push('-');
    }
    let split = point.clamp(0, digits.len() as i64) as usize;
    let before = digits[..split].trim_start_matches('0');
    let zeros_before = (point - digits.len() as i64).max(0) as usize;
    out.push_str(before);
    out.extend(std::iter::repeat_n('0', zeros_before));
    if before.is_empty() {
        out.push('0');
    }
    let after = &digits[split..];
    if !after.is_empty() {
        out.push('.');
        out.extend(std::iter::repeat_n('0', (-point).max(0) as usize));
        out.push_str(after);
    }
    Ok(out)
}

/// In PostgreSQL's order; of equal keys the last stays.
fn sorted(mut members: Vec<(String, Node)>) -> Vec<(String, Node)> {
    members.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    // The sort is stable, so the last of equal keys is the last given.
    members.reverse();
    members.dedup_by(|later, kept| later.0 == kept.0);
    members.reverse();
    members
}
