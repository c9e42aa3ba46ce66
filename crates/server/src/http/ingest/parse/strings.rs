//! Strings of a body, with their escapes.

use super::{Fault, Parsed, Parser, Text};

impl Parser<'_> {
    /// Takes the string that starts here.
    #[inline]
    pub(super) fn string(&mut self) -> Parsed<Text> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            match self.bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(Text::Body(start, at));
                }
                Some(b'\\') => return self.escaped_string(start),
                Some(0..=0x1f) => {
                    return Err(Fault::syntax(
                        at,
                        "a control character in a string must be escaped",
                    ))
                }
                Some(_) => at += 1,
                None => return Err(Fault::syntax(start - 1, "this string never ends")),
            }
        }
    }

    #[cold]
    fn escaped_string(&mut self, start: usize) -> Parsed<Text> {
        let from = self.scratch.len();
        let mut at = start;
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let Some(plain) = rest
                .iter()
                .position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f))
            else {
                return Err(Fault::syntax(start - 1, "this string never ends"));
            };
            self.scratch
                .push_str(self.text.get(at..at + plain).unwrap_or_default());
            at += plain;
            match rest[plain] {
                b'"' => {
                    self.at = at + 1;
                    return Ok(Text::Scratch(from, self.scratch.len()));
                }
                b'\\' => at = self.escape(at)?,
                _ => {
                    return Err(Fault::syntax(
                        at,
                        "a control character in a string must be escaped",
                    ))
                }
            }
        }
    }

    /// Takes the escape whose backslash is at `at`; gives where it ends.
    fn escape(&mut self, at: usize) -> Parsed<usize> {
        let c = match self.bytes.get(at + 1) {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(*c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(at),
            _ => return Err(Fault::syntax(at, "unknown escape in a string")),
        };
        self.scratch.push(c);
        Ok(at + 2)
    }

    fn unicode_escape(&mut self, at: usize) -> Parsed<usize> {
        let unit = |at: usize| -> Option<u32> {
            let digits = self.bytes.get(at..at + 6)?;
            if &digits[..2] != b"\\u" {
                return None;
            }
            digits[2..]
                .iter()
                .try_fold(0, |n, b| Some(n * 16 + char::from(*b).to_digit(16)?))
        };
        let Some(high) = unit(at) else {
            return Err(Fault::syntax(at, "\\u needs four hexadecimal digits"));
        };
        let (code, end) = match high {
            0xd800..=0xdbff => match unit(at + 6) {
                Some(low @ 0xdc00..=0xdfff) => {
                    (0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00), at + 12)
                }
                _ => return Err(Fault::syntax(at, "half of a surrogate pair")),
            },
            other => (other, at + 6),
        };
        match char::from_u32(code) {
            Some('\0') => Err(Fault::syntax(at, "text cannot hold \\u0000")),
            Some(c) => {
                self.scratch.push(c);
                Ok(end)
            }
            None => Err(Fault::syntax(at, "half of a surrogate pair")),
        }
    }
}
