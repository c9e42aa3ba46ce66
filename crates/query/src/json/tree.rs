//! A JSON value as a tree: read from a `jsonb`'s text, written in normal form.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::scan::{items, kind, members, unquoted, Kind};
use super::{malformed, order, quoted};
use crate::QueryError;

/// Arrays and objects within each other, as the model allows.
const DEPTH_MAX: usize = 500;

/// A value. Members of an object are in PostgreSQL's order, without duplicates.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node<'a> {
    /// A number, `true`, `false` or `null` as it is written.
    Plain(&'a str),
    Text(Cow<'a, str>),
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// The order of keys: by length, then by bytes.
pub(super) fn key_order(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

impl<'a> Node<'a> {
    /// Reads a value in normal form.
    pub(crate) fn parse(json: &'a str) -> Result<Node<'a>, QueryError> {
        Node::parse_at(json, 0)
    }

    fn parse_at(json: &'a str, depth: usize) -> Result<Node<'a>, QueryError> {
        if depth > DEPTH_MAX {
            return Err(malformed());
        }
        let json = json.trim();
        Ok(match kind(json) {
            Kind::Object => Node::Object(
                members(json)
                    .map(|(name, value)| Ok((unquoted(name)?, Node::parse_at(value, depth + 1)?)))
                    .collect::<Result<_, QueryError>>()?,
            ),
            Kind::Array => Node::Array(
                items(json)
                    .map(|item| Node::parse_at(item, depth + 1))
                    .collect::<Result<_, QueryError>>()?,
            ),
            Kind::String => Node::Text(unquoted(json)?),
            _ => Node::Plain(json),
        })
    }

    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Node::Plain(text) => out.push_str(text),
            Node::Text(text) => quoted(text, out),
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
                    quoted(key, out);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// As `jsonb_pretty` writes it: a line for each value, four blanks for each level.
    pub(crate) fn write_pretty(&self, level: usize, out: &mut String) {
        let line = |level: usize, out: &mut String| {
            out.push('\n');
            out.extend(std::iter::repeat_n("    ", level));
        };
        match self {
            Node::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    line(level + 1, out);
                    item.write_pretty(level + 1, out);
                }
                line(level, out);
                out.push(']');
            }
            Node::Object(members) => {
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    line(level + 1, out);
                    quoted(key, out);
                    out.push_str(": ");
                    value.write_pretty(level + 1, out);
                }
                line(level, out);
                out.push('}');
            }
            scalar => scalar.write(out),
        }
    }

    pub(crate) fn is_scalar(&self) -> bool {
        matches!(self, Node::Plain(_) | Node::Text(_))
    }

    /// Without members that are null.
    pub(crate) fn stripped(self) -> Node<'a> {
        match self {
            Node::Array(items) => Node::Array(items.into_iter().map(Node::stripped).collect()),
            Node::Object(members) => Node::Object(
                members
                    .into_iter()
                    .filter(|(_, value)| *value != Node::Plain("null"))
                    .map(|(key, value)| (key, value.stripped()))
                    .collect(),
            ),
            scalar => scalar,
        }
    }

    pub(super) fn position_of(
        members: &[(Cow<'a, str>, Node<'a>)],
        key: &str,
    ) -> Result<usize, usize> {
        members.binary_search_by(|(name, _)| key_order(name, key))
    }

    /// Numbers are equal by value, everything else as it stands.
    fn equals(&self, other: &Node<'_>) -> bool {
        match (self, other) {
            (Node::Plain(a), Node::Plain(b)) => a == b || order::equal_scalars(a, b),
            (Node::Text(a), Node::Text(b)) => a == b,
            _ => false,
        }
    }

    /// `self @> part`; an array contains a scalar, when both stand on top.
    pub(crate) fn contains(&self, part: &Node<'_>) -> bool {
        match (self, part) {
            (Node::Array(items), scalar) if scalar.is_scalar() => {
                items.iter().any(|item| item.equals(scalar))
            }
            _ => self.contains_like(part),
        }
    }

    fn contains_like(&self, part: &Node<'_>) -> bool {
        match (self, part) {
            (Node::Object(members), Node::Object(wanted)) => wanted.iter().all(|(key, value)| {
                Node::position_of(members, key).is_ok_and(|at| members[at].1.contains_like(value))
            }),
            (Node::Array(items), Node::Array(wanted)) => wanted
                .iter()
                .all(|part| items.iter().any(|item| item.contains_like(part))),
            (a, b) => a.equals(b),
        }
    }
}

/// `json ? key`: a key of an object, a string in an array, or a string.
pub(crate) fn has_key(json: &str, key: &str) -> Result<bool, QueryError> {
    let is_key = |string: &str| match kind(string) {
        Kind::String => Ok(unquoted(string.trim())? == key),
        _ => Ok::<bool, QueryError>(false),
    };
    let mut names: Box<dyn Iterator<Item = &str>> = match kind(json) {
        Kind::Object => Box::new(members(json).map(|(name, _)| name)),
        Kind::Array => Box::new(items(json)),
        _ => Box::new(std::iter::once(json)),
    };
    names.try_fold(false, |found, name| Ok(found || is_key(name)?))
}
