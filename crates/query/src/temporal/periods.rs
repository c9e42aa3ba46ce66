//! Periods as values: `a._valid_time OVERLAPS PERIOD(x, y)` and the other predicates of
//! SQL:2011, written as comparisons of their bounds.
//!
//! There is no type for them below us. An operand is `_valid_time` or `_system_time`, of a table
//! or not, `PERIOD(from, to)`, or an intersection `p * q` of operands; a bound that is NULL is
//! open. Standing alone an operand is the text of PostgreSQL's range.

use super::bounds::Words;
use crate::lex::LexError;

/// The expressions of a period's bounds.
struct Operand {
    from: String,
    to: String,
}

/// SQL that means what the period expression at `at` means, and the token behind it; `None`:
/// there is none.
pub(super) fn expression(words: Words<'_>, at: usize) -> Result<Option<(String, usize)>, LexError> {
    let Some((left, mut end)) = intersection(words, at)? else {
        return Ok(None);
    };
    let predicate = |sql: String, end| Ok(Some((format!("({sql})"), end)));
    if words.is_word(end, "CONTAINS") {
        if let Some((right, end)) = intersection(words, end + 1)? {
            return predicate(contains(&left, &right), end);
        }
        let point_end = words.expression_end(end + 1)?;
        let point = words.text(end + 1, point_end);
        return predicate(contains_point(&left, &point), point_end);
    }
    let immediately = words.is_word(end, "IMMEDIATELY");
    let compare: fn(&Operand, &Operand, bool) -> String =
        if immediately || words.is_word(end, "PRECEDES") || words.is_word(end, "SUCCEEDS") {
            end += usize::from(immediately);
            if words.is_word(end, "PRECEDES") {
                precedes
            } else if words.is_word(end, "SUCCEEDS") {
                |left, right, immediately| precedes(right, left, immediately)
            } else {
                return Err(words.unexpected(end));
            }
        } else if words.is_word(end, "OVERLAPS") {
            |left, right, _| overlaps(left, right)
        } else if words.is_word(end, "EQUALS") {
            |left, right, _| equals(left, right)
        } else {
            return Ok(Some((text(&left), end)));
        };
    let Some((right, after)) = intersection(words, end + 1)? else {
        return Err(words.unexpected(end + 1));
    };
    predicate(compare(&left, &right, immediately), after)
}

/// One operand, or several joined by `*`.
fn intersection(words: Words<'_>, at: usize) -> Result<Option<(Operand, usize)>, LexError> {
    let Some((mut left, mut end)) = operand(words, at)? else {
        return Ok(None);
    };
    while words.is_operator(end, "*") {
        let Some((right, after)) = operand(words, end + 1)? else {
            break;
        };
        left = Operand {
            from: format!("greatest({}, {})", left.from, right.from),
            to: format!("least({}, {})", left.to, right.to),
        };
        end = after;
    }
    Ok(Some((left, end)))
}

fn operand(words: Words<'_>, at: usize) -> Result<Option<(Operand, usize)>, LexError> {
    if words.is_word(at, "PERIOD") && words.is_punct(at + 1, b'(') {
        let to = words.expression_end(at + 2)?;
        if !words.is_punct(to, b',') {
            return Ok(None);
        }
        let end = words.expression_end(to + 1)?;
        if !words.is_punct(end, b')') {
            return Err(words.unexpected(end));
        }
        let operand = Operand {
            from: format!("({})", words.text(at + 2, to)),
            to: format!("({})", words.text(to + 1, end)),
        };
        return Ok(Some((operand, end + 1)));
    }
    if !words.is_name(at) {
        return Ok(None);
    }
    let mut last = at;
    while words.is_punct(last + 1, b'.') && words.is_name(last + 2) {
        last += 2;
    }
    let time = if words.is_word(last, "_valid_time") {
        "_valid"
    } else if words.is_word(last, "_system_time") {
        "_system"
    } else {
        return Ok(None);
    };
    let qualifier = match last > at {
        true => format!("{}.", words.text(at, last - 1)),
        false => String::new(),
    };
    let operand = Operand {
        from: format!("{qualifier}{time}_from"),
        to: format!("{qualifier}{time}_to"),
    };
    Ok(Some((operand, last + 1)))
}

// A comparison with an open bound is NULL: for the one side of a period that is as good as
// true, for the other as good as false.

fn overlaps(a: &Operand, b: &Operand) -> String {
    format!(
        "({} < {}) IS NOT FALSE AND ({} < {}) IS NOT FALSE",
        a.from, b.to, b.from, a.to
    )
}

fn contains(a: &Operand, b: &Operand) -> String {
    format!(
        "({0} IS NULL OR ({0} <= {1}) IS TRUE) AND ({2} IS NULL OR ({3} <= {2}) IS TRUE)",
        a.from, b.from, a.to, b.to
    )
}

fn contains_point(a: &Operand, point: &str) -> String {
    format!(
        "({0} IS NULL OR {0} <= ({2})) AND ({1} IS NULL OR ({2}) < {1})",
        a.from, a.to, point
    )
}

fn precedes(a: &Operand, b: &Operand, immediately: bool) -> String {
    let operator = if immediately { "=" } else { "<=" };
    format!("({} {operator} {}) IS TRUE", a.to, b.from)
}

fn equals(a: &Operand, b: &Operand) -> String {
    format!(
        "{} IS NOT DISTINCT FROM {} AND {} IS NOT DISTINCT FROM {}",
        a.from, b.from, a.to, b.to
    )
}

/// As PostgreSQL writes a range of timestamps.
fn text(a: &Operand) -> String {
    format!(
        "(CASE WHEN {0} IS NULL THEN '(' ELSE '[\"' || CAST({0} AS TEXT) || '\"' END || ',' || \
         CASE WHEN {1} IS NULL THEN ')' ELSE '\"' || CAST({1} AS TEXT) || '\")' END)",
        a.from, a.to
    )
}
