//! Periods where no predicate of them stands: declared for a table, in its primary key, and as an
//! item of a SELECT list.

use super::bounds::Words;
use super::rewriter::refusal;
use super::PERIOD_DECLARATION;
use crate::lex::LexError;

/// A CHECK in the place of `PERIOD FOR VALID_TIME (a, b)`, and what stands behind it.
pub(super) fn period_declaration(words: Words<'_>, at: usize) -> Option<(String, usize)> {
    let is_it = words.is_word(0, "CREATE")
        && words.are_words(at, &["PERIOD", "FOR", "VALID_TIME"])
        && (words.is_punct(at - 1, b',') || words.is_punct(at - 1, b'('));
    let (from, to) = (at + 4, at + 6);
    let is_list = words.is_punct(at + 3, b'(')
        && words.is_name(from)
        && words.is_punct(at + 5, b',')
        && words.is_name(to)
        && words.is_punct(at + 7, b')');
    (is_it && is_list).then(|| {
        let (from, to) = (words.text(from, from + 1), words.text(to, to + 1));
        let check = format!("CONSTRAINT \"{PERIOD_DECLARATION}\" CHECK ({from} < {to})");
        (check, at + 8)
    })
}

/// Behind `, VALID_TIME WITHOUT OVERLAPS` in a primary key: at any moment a key has one row at
/// most, in every table.
pub(super) fn without_overlaps(words: Words<'_>, at: usize) -> Result<Option<usize>, LexError> {
    let is_it =
        words.is_punct(at, b',') && words.are_words(at + 1, &["VALID_TIME", "WITHOUT", "OVERLAPS"]);
    if !is_it {
        return Ok(None);
    }
    let open = (0..at).rev().find(|i| words.is_punct(*i, b'('));
    let is_key = open.is_some_and(|open| open > 0 && words.is_word(open - 1, "KEY"));
    match is_key {
        true => Ok(Some(at + 4)),
        false => Err(refusal(
            "WITHOUT OVERLAPS is supported in PRIMARY KEY only",
            words.get(at + 2),
        )),
    }
}

/// Whether what stands at `at..end` is all of an item of a SELECT list.
pub(super) fn is_selected(words: Words<'_>, at: usize, end: usize) -> bool {
    let begins = |i: usize| {
        words.is_punct(i, b',')
            || ["SELECT", "DISTINCT", "ALL"]
                .iter()
                .any(|w| words.is_word(i, w))
    };
    let ends = words.get(end).is_none()
        || words.is_punct(end, b',')
        || words.is_punct(end, b')')
        || words.is_punct(end, b';')
        || words.is_word(end, "FROM");
    if at == 0 || !begins(at - 1) || !ends {
        return false;
    }
    const OTHERS: [&str; 9] = [
        "FROM",
        "WHERE",
        "BY",
        "HAVING",
        "ON",
        "VALUES",
        "SET",
        "USING",
        "RETURNING",
    ];
    let mut depth = 0usize;
    for i in (0..at).rev() {
        if words.is_punct(i, b')') {
            depth += 1;
        } else if words.is_punct(i, b'(') {
            match depth.checked_sub(1) {
                Some(outer) => depth = outer,
                None => return false,
            }
        } else if depth == 0 && words.is_word(i, "SELECT") {
            return true;
        } else if depth == 0 && OTHERS.iter().any(|w| words.is_word(i, w)) {
            return false;
        }
    }
    false
}
