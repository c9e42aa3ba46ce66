//! Bytes that compare as `jsonb` values do: Object > Array > Boolean > Number > String > Null,
//! containers by their length first; an empty array on top is less than everything.

use std::cmp::Ordering;

use super::tree::Node;
use crate::QueryError;

/// The key of a value in normal form.
pub(crate) fn key(json: &str) -> Result<Vec<u8>, QueryError> {
    let node = Node::parse(json)?;
    let mut out = Vec::with_capacity(json.len() + 8);
    out.push(match &node {
        Node::Array(items) if items.is_empty() => 0,
        Node::Array(_) => 2,
        Node::Object(_) => 3,
        _ => 1,
    });
    write(&node, &mut out);
    Ok(out)
}

fn write(node: &Node<'_>, out: &mut Vec<u8>) {
    match node {
        Node::Plain("null") => out.push(0),
        Node::Text(text) => {
            out.push(1);
            string(text, out);
        }
        Node::Plain("false") => out.push(3),
        Node::Plain("true") => out.push(4),
        Node::Plain(written) => {
            out.push(2);
            number(written, out);
        }
        Node::Array(items) => {
            out.push(5);
            out.extend((items.len() as u32).to_be_bytes());
            items.iter().for_each(|item| write(item, out));
        }
        Node::Object(members) => {
            out.push(6);
            out.extend((members.len() as u32).to_be_bytes());
            for (key, value) in members {
                string(key, out);
                write(value, out);
            }
        }
    }
}

/// A string of a `jsonb` has no zero character, so that one can end it.
fn string(text: &str, out: &mut Vec<u8>) {
    out.extend(text.as_bytes());
    out.push(0);
}

/// Sign, position of the point, significant digits; of a negative one the complement.
fn number(written: &str, out: &mut Vec<u8>) {
    let (is_negative, magnitude) = match written.strip_prefix('-') {
        Some(magnitude) => (true, magnitude),
        None => (false, written),
    };
    let (whole, fraction) = magnitude.split_once('.').unwrap_or((magnitude, ""));
    let digits = format!("{whole}{fraction}");
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        out.push(1);
        return;
    }
    let point = (whole.len() as i64 - leading as i64 + (1 << 31)) as u64;
    let start = out.len();
    out.push(2);
    out.extend(point.to_be_bytes());
    out.extend(significant.as_bytes());
    out.push(0);
    if is_negative {
        out[start] = 0;
        out[start + 1..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

/// Whether two scalars that are written differently are the same number.
pub(super) fn equal_scalars(a: &str, b: &str) -> bool {
    let is_number = |s: &str| s.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if !is_number(a) || !is_number(b) {
        return false;
    }
    let (mut left, mut right) = (Vec::new(), Vec::new());
    number(a, &mut left);
    number(b, &mut right);
    left.cmp(&right) == Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_rise_with_the_values() {
        let rising = [
            "[]",
            "null",
            "\"\"",
            "\"a\"",
            "\"ab\"",
            "\"b\"",
            "-100",
            "-12.5",
            "-12",
            "-0.01",
            "0",
            "0.001",
            "0.01",
            "1",
            "1.05",
            "9",
            "10",
            "100",
            "false",
            "true",
            "[1]",
            "[2]",
            "[1, 1]",
            "{}",
            "{\"a\": 1}",
            "{\"a\": 2}",
            "{\"b\": 1}",
            "{\"a\": 0, \"b\": 0}",
        ];
        let keys: Vec<Vec<u8>> = rising.iter().map(|json| key(json).unwrap()).collect();
        for (at, pair) in keys.windows(2).enumerate() {
            assert!(pair[0] < pair[1], "{} < {}", rising[at], rising[at + 1]);
        }
        assert_eq!(key("1.00").unwrap(), key("1").unwrap());
        assert_eq!(key("-0.50").unwrap(), key("-0.5").unwrap());
    }
}
