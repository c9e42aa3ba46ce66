//! Finding the clauses, the tables they belong to, and writing the new text.
//!
//! Going over the tokens, a clause is met behind its table's name, or behind the
//! alias. The table is found by looking back, further clauses (the alias may
//! stand between them) by looking ahead. Then the text up to the table's name is
//! copied, the clauses follow as arguments, then the alias; nothing else changes.
//! Bounds are copied the same way, since a subquery in them may have clauses.

use std::borrow::Cow;

use chronos_model::SqlState;

use super::bounds::Words;
use super::declared::{is_selected, period_declaration, without_overlaps};
use super::periods::{self, Place, Written};
use super::{function_of, Extent, Period, Piece, Rewritten, PORTION};
use crate::lex::{tokens, LexError, Token, TokenKind};

/// Clauses in bounds of clauses in bounds ..
const DEPTH_MAX: usize = 16;

pub(super) fn rewrite(sql: &str) -> Result<Rewritten<'_>, LexError> {
    rewrite_at(sql, 0)
}

/// The text of an operand of a predicate, which stands so deep in others, rewritten.
pub(super) fn rewrite_operand(sql: &str, depth: usize) -> Result<String, LexError> {
    match super::may_have_clause(sql.as_bytes()) {
        true if depth > DEPTH_MAX => Err(too_deep(0)),
        true => Ok(rewrite_at(sql, depth)?.sql.into_owned()),
        false => Ok(sql.to_owned()),
    }
}

fn too_deep(position: usize) -> LexError {
    LexError {
        code: SqlState::TOO_COMPLEX,
        message: format!("temporal clauses are nested more than {DEPTH_MAX} deep"),
        position,
    }
}

fn rewrite_at(sql: &str, depth: usize) -> Result<Rewritten<'_>, LexError> {
    let mut all = Vec::with_capacity(sql.len() / 4);
    for token in tokens(sql) {
        match token.error(sql) {
            Some(error) => return Err(error),
            None if token.kind == TokenKind::Comment => {}
            None => all.push(token),
        }
    }
    let mut writer = Writer {
        words: Words { sql, tokens: &all },
        target: String::new(),
        pieces: Vec::new(),
        copied: 0,
        depth,
    };
    writer.range(0, all.len())?;
    if writer.pieces.is_empty() {
        return Ok(Rewritten {
            sql: Cow::Borrowed(sql),
            pieces: Vec::new(),
        });
    }
    writer.copy_to(sql.len());
    Ok(Rewritten {
        sql: Cow::Owned(writer.target),
        pieces: writer.pieces,
    })
}

/// One clause; positions are of tokens.
struct Clause {
    start: usize,
    end: usize,
    period: Period,
    extent: Extent,
    /// First token and token behind the last, of each bound.
    bounds: [(usize, usize); 2],
}

/// The table that the clause at some token belongs to.
struct Table {
    /// The name's first token.
    start: usize,
    /// Behind the name.
    end: usize,
    /// Whether an alias stands between name and clause.
    has_alias: bool,
}

struct Writer<'a> {
    words: Words<'a>,
    target: String,
    pieces: Vec<Piece>,
    /// How far the original has been copied or passed over, in bytes.
    copied: usize,
    depth: usize,
}

impl Writer<'_> {
    /// Rewrites the tokens `from..to`, and leaves what follows the last clause
    /// for the caller to copy.
    fn range(&mut self, from: usize, to: usize) -> Result<(), LexError> {
        let mut at = from;
        while at < to {
            if let Some(written) = self.period_expression(from, at)? {
                let name = written
                    .name
                    .filter(|_| is_selected(self.words, at, written.end));
                let sql = match name {
                    Some(name) => format!("{} AS {name}", written.sql),
                    None => written.sql,
                };
                self.replace(at, written.end, &sql);
                at = written.end;
                continue;
            }
            if let Some((check, end)) = period_declaration(self.words, at) {
                self.replace(at, end, &check);
                at = end;
                continue;
            }
            if let Some(end) = without_overlaps(self.words, at)? {
                self.replace(at, end, "");
                at = end;
                continue;
            }
            at = match clause_at(self.words, at)? {
                Some(clause) => self.table(from, clause)?,
                None => at + 1,
            };
        }
        Ok(())
    }

    /// A period expression, unless the token goes on with a name or is called so.
    fn period_expression(&self, from: usize, at: usize) -> Result<Option<Written>, LexError> {
        let words = self.words;
        let goes_on = at > from
            && (words.is_punct(at - 1, b'.')
                || words.is_word(at - 1, "FOR")
                || words.is_word(at - 1, "OF")
                || words.is_word(at - 1, "DEFAULT")
                || words.is_word(at - 1, "AS")
                || (words.is_word(at, "PERIOD") && self.names_a_table(at)));
        match goes_on {
            true => Ok(None),
            false => {
                let depth = self.depth;
                periods::expression(Place { words, depth }, at)
            }
        }
    }

    /// Whether a name, which a list in parentheses follows, is that of a table.
    fn names_a_table(&self, at: usize) -> bool {
        let words = self.words;
        let before = [
            "INTO",
            "COPY",
            "WITH",
            "JOIN",
            "FROM",
            "UPDATE",
            "TABLE",
            "REFERENCES",
            "RECURSIVE",
        ];
        let makes_index = words.is_word(0, "CREATE") && words.is_word(at - 1, "ON");
        makes_index
            || words.is_punct(at - 1, b')')
            || before.iter().any(|word| words.is_word(at - 1, word))
    }

    /// Writes something else for the tokens `at..end`.
    fn replace(&mut self, at: usize, end: usize, sql: &str) {
        let tokens = self.words.tokens;
        let source = tokens[at].start;
        let before = self.words.sql.get(self.copied..source).unwrap_or("");
        self.pieces.push(Piece {
            target: self.target.len(),
            source: self.copied,
            length: before.len(),
        });
        self.target.push_str(before);
        self.insert(sql, source);
        self.copied = tokens[end - 1].end;
    }

    /// Writes the table whose first clause is `first`, and returns the token
    /// behind its last one.
    fn table(&mut self, from: usize, first: Clause) -> Result<usize, LexError> {
        let words = self.words;
        let table = table_before(words, from, first.start)?;
        let is_changed = is_changed(words, &table, &first)?;
        let alias_start = first.end;
        let mut clauses = vec![first];
        let mut end = more_clauses(words, alias_start, &mut clauses)?;
        let mut alias = table.end..clauses[0].start;
        if !table.has_alias {
            let alias_end = alias_end(words, end);
            alias = end..alias_end;
            end = more_clauses(words, alias_end, &mut clauses)?;
        }
        check_clauses(words, is_changed, &clauses)?;
        self.copy_to(words.tokens[table.end - 1].end);
        for (n, clause) in clauses.iter().enumerate() {
            if is_changed && clause.extent == Extent::All {
                let source = words.tokens[clause.start].start;
                self.insert("(", source);
                self.insert(PORTION, source);
                self.insert("(NULL, NULL)", source);
                continue;
            }
            self.clause(clause, if n == 0 { "(" } else { ", " })?;
        }
        self.insert(")", words.tokens[clauses[0].start].start);
        if let (Some(first), false) = (words.get(alias.start), alias.is_empty()) {
            self.insert(" ", first.start);
            self.copied = first.start;
            self.copy_to(words.tokens[alias.end - 1].end);
        }
        self.copied = words.tokens[end - 1].end;
        Ok(end)
    }

    fn clause(&mut self, clause: &Clause, opening: &str) -> Result<(), LexError> {
        let source = self.words.tokens[clause.start].start;
        self.insert(opening, source);
        self.insert(function_of(clause.period, clause.extent), source);
        self.insert("(", source);
        if self.depth == DEPTH_MAX {
            return Err(too_deep(source));
        }
        self.depth += 1;
        let bounds = match clause.extent {
            Extent::All => 0,
            Extent::AsOf => 1,
            Extent::FromTo | Extent::Between | Extent::PortionOf => 2,
        };
        for (n, &(from, to)) in clause.bounds.iter().take(bounds).enumerate() {
            if n > 0 {
                self.insert(", ", source);
            }
            self.copied = self.words.tokens[from].start;
            self.range(from, to)?;
            self.copy_to(self.words.tokens[to - 1].end);
        }
        self.depth -= 1;
        self.insert(")", source);
        Ok(())
    }

    fn copy_to(&mut self, end: usize) {
        let text = self.words.sql.get(self.copied..end).unwrap_or("");
        self.pieces.push(Piece {
            target: self.target.len(),
            source: self.copied,
            length: text.len(),
        });
        self.target.push_str(text);
        self.copied = end;
    }

    fn insert(&mut self, text: &str, source: usize) {
        self.pieces.push(Piece {
            target: self.target.len(),
            source,
            length: 0,
        });
        self.target.push_str(text);
    }
}

pub(super) fn refusal(message: &str, token: Option<&Token>) -> LexError {
    LexError {
        code: SqlState::FEATURE_NOT_SUPPORTED,
        message: message.to_owned(),
        position: token.map_or(0, |t| t.start),
    }
}

fn period_at(words: Words<'_>, at: usize) -> Option<Period> {
    if words.is_word(at, "SYSTEM_TIME") {
        Some(Period::System)
    } else if words.is_word(at, "VALID_TIME") {
        Some(Period::Valid)
    } else {
        None
    }
}

/// The clause that begins at `at`. `FOR` and a period's name alone make none:
/// `substring(s FOR system_time)`, `PERIOD FOR SYSTEM_TIME (a, b)`.
fn clause_at(words: Words<'_>, start: usize) -> Result<Option<Clause>, LexError> {
    if !words.is_word(start, "FOR") {
        return Ok(None);
    }
    let clause = |period, extent, bounds, end| {
        Ok(Some(Clause {
            start,
            end,
            period,
            extent,
            bounds,
        }))
    };
    let none = (0, 0);
    if words.are_words(start + 1, &["PORTION", "OF"]) && words.is_name(start + 3) {
        return portion_at(words, start).map(Some);
    }
    if words.is_word(start + 1, "ALL") {
        return match period_at(words, start + 2) {
            Some(period) => clause(period, Extent::All, [none; 2], start + 3),
            None => Ok(None),
        };
    }
    let Some(period) = period_at(words, start + 1) else {
        return Ok(None);
    };
    let declares = words.is_word(0, "CREATE") || words.is_word(0, "ALTER");
    if declares && start > 0 && words.is_word(start - 1, "PERIOD") {
        return Err(refusal(
            "PERIOD FOR is supported as PERIOD FOR VALID_TIME (a, b) in CREATE TABLE; every table has the periods _valid_from, _valid_to and _system_from, _system_to",
            words.get(start - 1),
        ));
    }
    let at = start + 2;
    if words.is_word(at, "ALL") {
        return clause(period, Extent::All, [none; 2], at + 1);
    }
    if words.is_word(at, "AS") {
        let from = words.expect(at + 1, "OF")?;
        let to = words.expression_end(from)?;
        return clause(period, Extent::AsOf, [(from, to), none], to);
    }
    let (extent, joint, from) = if words.is_word(at, "FROM") {
        (Extent::FromTo, "TO", at + 1)
    } else if words.is_word(at, "BETWEEN") {
        let asymmetric = usize::from(words.is_word(at + 1, "ASYMMETRIC"));
        (Extent::Between, "AND", at + 1 + asymmetric)
    } else if words.is_name(at) {
        return Err(words.unexpected(at));
    } else {
        return Ok(None);
    };
    if words.is_word(from, "SYMMETRIC") {
        return Err(refusal(
            "BETWEEN SYMMETRIC is not supported in a temporal clause",
            words.get(from),
        ));
    }
    let to = words.expression_end(from)?;
    let second = words.expect(to, joint)?;
    let end = words.expression_end(second)?;
    clause(period, extent, [(from, to), (second, end)], end)
}

/// `FOR PORTION OF VALID_TIME FROM a TO b`
fn portion_at(words: Words<'_>, start: usize) -> Result<Clause, LexError> {
    if period_at(words, start + 3) != Some(Period::Valid) {
        return Err(refusal(
            "FOR PORTION OF is supported for VALID_TIME only",
            words.get(start + 3),
        ));
    }
    let from = words.expect(start + 4, "FROM")?;
    let to = words.expression_end(from)?;
    let second = words.expect(to, "TO")?;
    let end = words.expression_end(second)?;
    Ok(Clause {
        start,
        end,
        period: Period::Valid,
        extent: Extent::PortionOf,
        bounds: [(from, to), (second, end)],
    })
}

fn more_clauses(
    words: Words<'_>,
    mut at: usize,
    clauses: &mut Vec<Clause>,
) -> Result<usize, LexError> {
    while let Some(clause) = clause_at(words, at)? {
        at = clause.end;
        clauses.push(clause);
    }
    Ok(at)
}

/// Behind the alias at `at`, with its columns; `at` if there is none.
fn alias_end(words: Words<'_>, at: usize) -> usize {
    let name = if words.is_word(at, "AS") && words.is_name(at + 1) {
        at + 1
    } else if words.is_name(at) && !ends_table(words, at) {
        at
    } else {
        return at;
    };
    column_list_end(words, name + 1).unwrap_or(name + 1)
}

fn column_list_end(words: Words<'_>, open: usize) -> Option<usize> {
    if !words.is_punct(open, b'(') {
        return None;
    }
    let mut at = open + 1;
    while words.is_name(at) {
        if words.is_punct(at + 1, b')') {
            return Some(at + 2);
        }
        if !words.is_punct(at + 1, b',') {
            return None;
        }
        at += 2;
    }
    None
}

/// Words that go on behind a table and therefore are no alias of it.
fn ends_table(words: Words<'_>, at: usize) -> bool {
    const WORDS: [&str; 28] = [
        "CROSS",
        "EXCEPT",
        "FETCH",
        "FOR",
        "FULL",
        "GROUP",
        "HAVING",
        "INNER",
        "INTERSECT",
        "JOIN",
        "LEFT",
        "LIMIT",
        "NATURAL",
        "OFFSET",
        "ON",
        "ORDER",
        "OUTER",
        "RETURNING",
        "RIGHT",
        "SELECT",
        "SET",
        "TABLESAMPLE",
        "UNION",
        "USING",
        "WHEN",
        "WHERE",
        "WINDOW",
        "WITH",
    ];
    words.get(at).is_some_and(|t| t.kind == TokenKind::Word)
        && WORDS.iter().any(|w| words.is_word(at, w))
}

/// Words behind which a table's name stands.
fn begins_table(words: Words<'_>, at: usize) -> bool {
    const WORDS: [&str; 8] = [
        "FROM", "JOIN", "ONLY", "LATERAL", "USING", "INTO", "UPDATE", "TABLE",
    ];
    words.is_punct(at, b',')
        || words.is_punct(at, b'(')
        || WORDS.iter().any(|w| words.is_word(at, w))
}

fn table_before(words: Words<'_>, from: usize, clause: usize) -> Result<Table, LexError> {
    let misplaced = || {
        let near = words.get(clause).map_or("", |t| t.text(words.sql));
        LexError {
            code: SqlState::SYNTAX_ERROR,
            message: format!(
                "syntax error at or near \"{near}\": a temporal clause must follow the name of a table"
            ),
            position: words.get(clause).map_or(0, |t| t.start),
        }
    };
    let mut end = clause;
    let has_columns = end > from && words.is_punct(end - 1, b')');
    if has_columns {
        end = columns_before(words, from, end).ok_or_else(misplaced)?;
    }
    let start = name_before(words, from, end).ok_or_else(misplaced)?;
    if start == from {
        return Err(misplaced());
    }
    let is_single = end - start == 1;
    let has_as = words.is_word(start - 1, "AS");
    if is_single && !has_as && ends_table(words, start) && !begins_table(words, start - 1) {
        return Err(misplaced());
    }
    let table = if is_single && (has_as || is_alias_position(words, from, start)) {
        let end = if has_as { start - 1 } else { start };
        Table {
            start: name_before(words, from, end).ok_or_else(misplaced)?,
            end,
            has_alias: true,
        }
    } else {
        Table {
            start,
            end,
            has_alias: false,
        }
    };
    let follows = table.start > from && begins_table(words, table.start - 1);
    match follows && (table.has_alias || !has_columns) {
        true => Ok(table),
        false => Err(misplaced()),
    }
}

/// Whether the name at `at` follows another name, as an alias without `AS` does.
fn is_alias_position(words: Words<'_>, from: usize, at: usize) -> bool {
    let before = at - 1;
    if !words.is_name(before) || before == from {
        return false;
    }
    // `FROM update u`: a table may bear the name of a keyword that is not reserved.
    !begins_table(words, before)
        || (words.is_word(before, "UPDATE") && begins_table(words, before - 1))
}

/// The first token of the dotted name that ends before `end`.
fn name_before(words: Words<'_>, from: usize, end: usize) -> Option<usize> {
    let mut start = end.checked_sub(1).filter(|s| *s >= from)?;
    if !words.is_name(start) {
        return None;
    }
    while start >= from + 2 && words.is_punct(start - 1, b'.') && words.is_name(start - 2) {
        start -= 2;
    }
    Some(start)
}

/// The `(` of the list of names that ends before `end`.
fn columns_before(words: Words<'_>, from: usize, end: usize) -> Option<usize> {
    let mut at = end.checked_sub(2)?;
    loop {
        if at <= from || !words.is_name(at) {
            return None;
        }
        if words.is_punct(at - 1, b'(') {
            return Some(at - 1);
        }
        if !words.is_punct(at - 1, b',') {
            return None;
        }
        at = at.checked_sub(2)?;
    }
}

/// Whether the table is the target of UPDATE or DELETE.
///
/// Errors: it is that of INSERT or MERGE.
fn is_changed(words: Words<'_>, table: &Table, clause: &Clause) -> Result<bool, LexError> {
    let before = table.start - 1;
    if words.is_word(before, "INTO") {
        let message = format!(
            "{} is not supported on the target of INSERT or MERGE",
            named(clause)
        );
        return Err(refusal(&message, words.get(clause.start)));
    }
    let is_deleted = before > 0 && words.are_words(before - 1, &["DELETE", "FROM"]);
    Ok(words.is_word(before, "UPDATE") || is_deleted)
}

fn named(clause: &Clause) -> &'static str {
    match (clause.period, clause.extent) {
        (_, Extent::PortionOf) => "FOR PORTION OF",
        (Period::System, _) => "FOR SYSTEM_TIME",
        (Period::Valid, _) => "FOR VALID_TIME",
    }
}

/// Whether clauses stand where they mean something: on the target of UPDATE and DELETE one
/// that says which portion of valid time is changed, elsewhere only others.
fn check_clauses(words: Words<'_>, is_changed: bool, clauses: &[Clause]) -> Result<(), LexError> {
    for clause in clauses {
        let is_portion = clause.extent == Extent::PortionOf;
        let is_all = clause.period == Period::Valid && clause.extent == Extent::All;
        let message = match is_changed {
            false if is_portion => "FOR PORTION OF is for the table that UPDATE or DELETE changes".into(),
            true if !is_portion && !is_all => format!(
                "{} is not supported on the target of UPDATE or DELETE: write FOR PORTION OF VALID_TIME FROM .. TO .., or FOR VALID_TIME ALL",
                named(clause)
            ),
            true if clauses.len() > 1 => "the target of UPDATE or DELETE takes one temporal clause".into(),
            _ => continue,
        };
        return Err(refusal(&message, words.get(clause.start)));
    }
    Ok(())
}
