//! Periods as values: `a._valid_time OVERLAPS PERIOD(x, y)` and the other predicates of
//! SQL:2011, written as comparisons of their bounds.
//!
//! There is no type for them below us. An operand is `_valid_time` or `_system_time`, of a table
//! or not, `PERIOD(from, to)`, or an intersection `p * q` of operands; a bound that is NULL is
//! open. Standing alone an operand is the text of PostgreSQL's range.

use super::bounds::Words;
use super::rewriter;
use crate::lex::LexError;

/// Tokens, and how deep in the operands of others they stand.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) words: Words<'a>,
    pub(super) depth: usize,
}

/// SQL in the place of a period expression.
pub(super) struct Written {
    pub(super) sql: String,
    /// Behind its last token.
    pub(super) end: usize,
    /// Whether it is one operand alone, which has a name: `_valid_time`, `_system_time`.
    pub(super) name: Option<&'static str>,
}

impl Place<'_> {
    /// The text of the tokens `from..to`, the clauses and periods in it rewritten.
    fn text(self, from: usize, to: usize) -> Result<String, LexError> {
        let text = self.words.text(from, to);
        let start = self.words.get(from).map_or(0, |token| token.start);
        let rewritten = rewriter::rewrite_operand(&text, self.depth + 1);
        let sql = rewritten.map_err(|e| LexError {
            position: e.position + start,
            ..e
        })?;
        Ok(sql)
    }
}

/// The expressions of a period's bounds.
struct Operand {
    from: String,
    to: String,
    /// Columns that are NULL where there is no row at all, as beside an outer join.
    rows: Vec<String>,
}

impl Operand {
    /// An expression over it, which is NULL where there is no row.
    fn of_rows(&self, others: &[String], sql: &str) -> String {
        let all = self.rows.iter().chain(others);
        let missing: Vec<String> = all.map(|row| format!("{row} IS NULL")).collect();
        match missing.is_empty() {
            true => format!("({sql})"),
            false => format!(
                "(CASE WHEN {} THEN NULL ELSE {sql} END)",
                missing.join(" OR ")
            ),
        }
    }
}

/// SQL that means what the period expression at `at` means; `None`: there is none.
pub(super) fn expression(place: Place<'_>, at: usize) -> Result<Option<Written>, LexError> {
    let Some((left, mut end)) = intersection(place, at)? else {
        return Ok(None);
    };
    let words = place.words;
    let written = |sql: String, end| {
        let name = None;
        Ok(Some(Written { sql, end, name }))
    };
    if words.is_word(end, "CONTAINS") {
        if let Some((right, end)) = intersection(place, end + 1)? {
            let sql = left.of_rows(&right.rows, &contains(&left, &right));
            return written(sql, end);
        }
        let point_end = words.expression_end(end + 1)?;
        let point = place.text(end + 1, point_end)?;
        let sql = left.of_rows(&[], &contains_point(&left, &point));
        return written(sql, point_end);
    }
    let alone = end;
    let immediately = words.is_word(end, "IMMEDIATELY");
    end += usize::from(immediately);
    let operator = if immediately { "=" } else { "<=" };
    let after = |at: usize| match intersection(place, at + 1)? {
        Some(found) => Ok(found),
        None => Err(words.unexpected(at + 1)),
    };
    let (sql, right, end) = if words.is_word(end, "PRECEDES") {
        let (right, after) = after(end)?;
        (precedes(&left, &right, operator), right, after)
    } else if words.is_word(end, "SUCCEEDS") {
        let (right, after) = after(end)?;
        (precedes(&right, &left, operator), right, after)
    } else if immediately {
        return Err(words.unexpected(end));
    } else if words.is_word(end, "OVERLAPS") {
        let (right, after) = after(end)?;
        (overlaps(&left, &right), right, after)
    } else if words.is_word(end, "EQUALS") {
        let (right, after) = after(end)?;
        (equals(&left, &right), right, after)
    } else {
        return Ok(Some(Written {
            sql: left.of_rows(&[], &text(&left)),
            end,
            name: name_at(words, alone - 1),
        }));
    };
    written(left.of_rows(&right.rows, &sql), end)
}

/// The name of the period of a table's rows.
fn name_at(words: Words<'_>, at: usize) -> Option<&'static str> {
    let names = ["_valid_time", "_system_time"];
    names.into_iter().find(|name| words.is_word(at, name))
}

/// One operand, or several joined by `*`.
fn intersection(place: Place<'_>, at: usize) -> Result<Option<(Operand, usize)>, LexError> {
    let Some((mut left, mut end)) = operand(place, at)? else {
        return Ok(None);
    };
    while place.words.is_operator(end, "*") {
        let Some((right, after)) = operand(place, end + 1)? else {
            break;
        };
        left = Operand {
            from: format!("greatest({}, {})", left.from, right.from),
            to: format!("least({}, {})", left.to, right.to),
            rows: [left.rows, right.rows].concat(),
        };
        end = after;
    }
    Ok(Some((left, end)))
}

fn operand(place: Place<'_>, at: usize) -> Result<Option<(Operand, usize)>, LexError> {
    let words = place.words;
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
            from: format!("({})", place.text(at + 2, to)?),
            to: format!("({})", place.text(to + 1, end)?),
            rows: Vec::new(),
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
    let Some(time) = name_at(words, last).map(|name| name.trim_end_matches("_time")) else {
        return Ok(None);
    };
    let qualifier = match last > at {
        true => format!("{}.", words.text(at, last - 1)),
        false => String::new(),
    };
    let operand = Operand {
        from: format!("{qualifier}{time}_from"),
        to: format!("{qualifier}{time}_to"),
        // No stored row has NULL there.
        rows: vec![format!("{qualifier}_system_from")],
    };
    Ok(Some((operand, last + 1)))
}

// A comparison with an open bound is NULL: for the one side of a period that is as good as
// true, for the other as good as false.

fn overlaps(a: &Operand, b: &Operand) -> String {
    let is_before = |from: &str, to: &str| format!("({from} < {to}) IS NOT FALSE");
    // Nothing overlaps an empty period, such as the intersection of two that do not meet.
    let bounds = [(a, b), (b, a), (a, a), (b, b)];
    let all: Vec<String> = bounds.map(|(x, y)| is_before(&x.from, &y.to)).into();
    all.join(" AND ")
}

fn contains(a: &Operand, b: &Operand) -> String {
    format!(
        "({0} IS NULL OR ({0} <= {1}) IS TRUE) AND ({2} IS NULL OR ({3} <= {2}) IS TRUE)",
        a.from, b.from, a.to, b.to
    )
}

fn contains_point(a: &Operand, point: &str) -> String {
    format!(
        "({2}) IS NOT NULL AND ({0} IS NULL OR {0} <= ({2})) AND ({1} IS NULL OR ({2}) < {1})",
        a.from, a.to, point
    )
}

fn precedes(a: &Operand, b: &Operand, operator: &str) -> String {
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
        "CASE WHEN ({0} < {1}) IS FALSE THEN 'empty' ELSE \
         CASE WHEN {0} IS NULL THEN '(' ELSE '[\"' || CAST({0} AS TEXT) || '\"' END || ',' || \
         CASE WHEN {1} IS NULL THEN ')' ELSE '\"' || CAST({1} AS TEXT) || '\")' END END",
        a.from, a.to
    )
}
