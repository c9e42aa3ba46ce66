//! BYTEA and UUID.

use ::bytes::BufMut;

use super::fault::{shown, Fault};
use crate::DataError;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The two digits of every byte.
const HEX_PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [HEX[byte >> 4], HEX[byte & 15]];
        byte += 1;
    }
    pairs
};

fn nibble(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Reads a BYTEA in hex (`\x01ff`; blanks may stand between bytes) or escape
/// format (`\\` and `\ooo`, everything else as it is).
pub fn parse_bytea(text: &[u8]) -> Result<Vec<u8>, DataError> {
    match text {
        [b'\\', b'x', digits @ ..] => {
            read_hex(digits).ok_or_else(|| DataError::InvalidHex { text: shown(text) })
        }
        _ => read_escaped(text).ok_or_else(|| Fault::Syntax.named("bytea", text)),
    }
}

fn read_hex(mut digits: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    while let [first, rest @ ..] = digits {
        if first.is_ascii_whitespace() {
            digits = rest;
            continue;
        }
        let (second, rest) = rest.split_first()?;
        bytes.push(nibble(*first)? << 4 | nibble(*second)?);
        digits = rest;
    }
    Some(bytes)
}

fn read_escaped(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    loop {
        (text, _) = match text {
            [] => return Some(bytes),
            [b'\\', b'\\', rest @ ..] => (rest, bytes.push(b'\\')),
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => (
                rest,
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')),
            ),
            [b'\\', ..] => return None,
            [byte, rest @ ..] => (rest, bytes.push(*byte)),
        };
    }
}

/// Appends a BYTEA in hex format.
pub fn write_bytea(value: &[u8], out: &mut impl BufMut) {
    out.put_slice(b"\\x");
    for &byte in value {
        out.put_slice(&HEX_PAIRS[usize::from(byte)]);
    }
}

/// Reads a UUID in any of PostgreSQL's spellings: 32 hex digits in any case, a
/// hyphen allowed after every fourth, all of it in braces or not.
pub fn parse_uuid(text: &str) -> Result<[u8; 16], DataError> {
    read_uuid(text.as_bytes()).ok_or_else(|| Fault::Syntax.named("uuid", text.as_bytes()))
}

fn read_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut rest = match text {
        [b'{', inner @ .., b'}'] => inner,
        _ => text,
    };
    let mut uuid = [0; 16];
    for (at, byte) in uuid.iter_mut().enumerate() {
        let [high, low, tail @ ..] = rest else {
            return None;
        };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
        rest = match tail {
            [b'-', tail @ ..] if at % 2 == 1 && at < 15 => tail,
            tail => tail,
        };
    }
    rest.is_empty().then_some(uuid)
}

/// Writes a UUID, lower-case with hyphens.
pub fn format_uuid(v: &[u8; 16]) -> String {
    String::from_utf8_lossy(&uuid_text(v)).into_owned()
}

pub(super) fn uuid_text(v: &[u8; 16]) -> [u8; 36] {
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, &byte) in v.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at..at + 2].copy_from_slice(&HEX_PAIRS[usize::from(byte)]);
        at += 2;
    }
    text
}
