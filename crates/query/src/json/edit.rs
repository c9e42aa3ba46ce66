//! Values made from others: `||`, `-`, `#-`, `jsonb_set`, `jsonb_insert`.

use std::borrow::Cow;

use chronos_model::SqlState;

use super::tree::Node;
use super::wrong_kind;
use crate::QueryError;

type Members<'a> = Vec<(Cow<'a, str>, Node<'a>)>;

/// Puts a member in its place, over one of the same key.
fn put<'a>(members: &mut Members<'a>, key: Cow<'a, str>, value: Node<'a>) {
    match Node::position_of(members, &key) {
        Ok(at) => members[at].1 = value,
        Err(at) => members.insert(at, (key, value)),
    }
}

/// `a || b`: objects are united, everything else is arrays.
pub(crate) fn concat<'a>(left: Node<'a>, right: Node<'a>) -> Result<Node<'a>, QueryError> {
    let as_items = |node: Node<'a>| match node {
        Node::Array(items) => items,
        other => vec![other],
    };
    match (left, right) {
        (Node::Object(mut members), Node::Object(others)) => {
            for (key, value) in others {
                put(&mut members, key, value);
            }
            Ok(Node::Object(members))
        }
        (left, right) => {
            let mut items = as_items(left);
            items.extend(as_items(right));
            Ok(Node::Array(items))
        }
    }
}

fn refuse_scalar(node: &Node<'_>, what: &str) -> Result<(), QueryError> {
    match node.is_scalar() {
        true => Err(wrong_kind(format!("cannot {what} scalar"))),
        false => Ok(()),
    }
}

/// `json - key`: the member, or all strings of that text in an array.
pub(crate) fn delete_key<'a>(node: Node<'a>, key: &str) -> Result<Node<'a>, QueryError> {
    refuse_scalar(&node, "delete from")?;
    Ok(match node {
        Node::Object(mut members) => {
            members.retain(|(name, _)| name != key);
            Node::Object(members)
        }
        Node::Array(mut items) => {
            items.retain(|item| !matches!(item, Node::Text(text) if text == key));
            Node::Array(items)
        }
        scalar => scalar,
    })
}

/// `json - n`
pub(crate) fn delete_position(node: Node<'_>, position: i64) -> Result<Node<'_>, QueryError> {
    refuse_scalar(&node, "delete from")?;
    match node {
        Node::Array(mut items) => {
            if let Some(at) = index(position, items.len()) {
                items.remove(at);
            }
            Ok(Node::Array(items))
        }
        _ => Err(wrong_kind("cannot delete from object using integer index")),
    }
}

/// Which of `length` items `position` is, counted from the end when below 0.
fn index(position: i64, length: usize) -> Option<usize> {
    let length = length as i64;
    let at = if position < 0 {
        position + length
    } else {
        position
    };
    (0..length).contains(&at).then_some(at as usize)
}

/// `json #- path`
pub(crate) fn delete_path<'a>(
    node: Node<'a>,
    path: &[Option<&str>],
) -> Result<Node<'a>, QueryError> {
    refuse_scalar(&node, "delete path in")?;
    let path = steps(path)?;
    if path.is_empty() {
        return Ok(node);
    }
    let mut root = node;
    change(&mut root, &path, 0, &mut Change::Delete)?;
    Ok(root)
}

/// `jsonb_set`
pub(crate) fn set_at<'a>(
    node: Node<'a>,
    path: &[Option<&str>],
    value: Node<'a>,
    creates: Creates,
) -> Result<Node<'a>, QueryError> {
    refuse_scalar(&node, "set path in")?;
    let path = steps(path)?;
    if path.is_empty() || (creates == Creates::Never && is_empty(&node)) {
        return Ok(node);
    }
    let mut root = node;
    change(&mut root, &path, 0, &mut Change::Set(Some(value), creates))?;
    Ok(root)
}

/// `jsonb_insert`
pub(crate) fn insert_at<'a>(
    node: Node<'a>,
    path: &[Option<&str>],
    value: Node<'a>,
    side: Side,
) -> Result<Node<'a>, QueryError> {
    refuse_scalar(&node, "set path in")?;
    let path = steps(path)?;
    if path.is_empty() {
        return Ok(node);
    }
    let mut root = node;
    change(&mut root, &path, 0, &mut Change::Insert(Some(value), side))?;
    Ok(root)
}

fn is_empty(node: &Node<'_>) -> bool {
    match node {
        Node::Array(items) => items.is_empty(),
        Node::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Whether `jsonb_set` adds what is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Creates {
    Always,
    Never,
}

/// Where `jsonb_insert` puts a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
}

enum Change<'a> {
    Delete,
    /// The value is taken when it is put in place.
    Set(Option<Node<'a>>, Creates),
    Insert(Option<Node<'a>>, Side),
}

fn steps<'p>(path: &[Option<&'p str>]) -> Result<Vec<&'p str>, QueryError> {
    path.iter()
        .enumerate()
        .map(|(at, step)| {
            step.ok_or_else(|| {
                let message = format!("path element at position {} is null", at + 1);
                QueryError::new(SqlState("22004"), message)
            })
        })
        .collect()
}

/// Follows a path that is not empty, and makes the change at its end; what is not there
/// stays so.
fn change<'a>(
    node: &mut Node<'a>,
    path: &[&str],
    level: usize,
    what: &mut Change<'a>,
) -> Result<(), QueryError> {
    let is_last = level + 1 == path.len();
    match node {
        Node::Object(members) => {
            let place = Node::position_of(members, path[level]);
            if !is_last {
                return match place {
                    Ok(at) => change(&mut members[at].1, path, level + 1, what),
                    Err(_) => Ok(()),
                };
            }
            change_member(members, place, path[level], what)
        }
        Node::Array(items) => {
            let position: i32 = path[level].parse().map_err(|_| {
                let message = format!(
                    "path element at position {} is not an integer: \"{}\"",
                    level + 1,
                    path[level]
                );
                QueryError::new(SqlState("22P02"), message)
            })?;
            if !is_last {
                return match index(i64::from(position), items.len()) {
                    Some(at) => change(&mut items[at], path, level + 1, what),
                    None => Ok(()),
                };
            }
            change_item(items, i64::from(position), what);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn change_member<'a>(
    members: &mut Members<'a>,
    place: Result<usize, usize>,
    key: &str,
    what: &mut Change<'a>,
) -> Result<(), QueryError> {
    match (what, place) {
        (Change::Delete, Ok(at)) => {
            members.remove(at);
        }
        (Change::Set(value, _), Ok(at)) => {
            if let Some(value) = value.take() {
                members[at].1 = value;
            }
        }
        (Change::Insert(..), Ok(_)) => {
            return Err(wrong_kind("cannot replace existing key")
                .with_hint("Try using the function jsonb_set to replace key value."))
        }
        (Change::Set(value, Creates::Always) | Change::Insert(value, _), Err(at)) => {
            if let Some(value) = value.take() {
                members.insert(at, (Cow::Owned(key.to_owned()), value));
            }
        }
        (Change::Delete | Change::Set(_, Creates::Never), Err(_)) => {}
    }
    Ok(())
}

fn change_item<'a>(items: &mut Vec<Node<'a>>, position: i64, what: &mut Change<'a>) {
    let place = index(position, items.len());
    // Beyond an end, a value goes to that end.
    let end = if position < 0 { 0 } else { items.len() };
    match what {
        Change::Delete => {
            if let Some(at) = place {
                items.remove(at);
            }
        }
        Change::Set(value, creates) => match (place, value.take()) {
            (Some(at), Some(value)) => items[at] = value,
            (None, Some(value)) if *creates == Creates::Always => items.insert(end, value),
            _ => {}
        },
        Change::Insert(value, side) => {
            if let Some(value) = value.take() {
                let after = usize::from(*side == Side::After);
                items.insert(place.map_or(end, |at| at + after), value);
            }
        }
    }
}
