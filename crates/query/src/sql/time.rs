//! Which moments the tables of a whole statement or transaction are read at, where the tables
//! themselves do not say: `SETTING DEFAULT VALID_TIME AS OF x SELECT ..` and
//! `BEGIN .. AS OF SYSTEM TIME x`. The parser below knows neither, so both are read from tokens.

use chronos_model::SqlState;

use datafusion::sql::sqlparser::ast;

use super::lexical;
use crate::lex::{tokens, LexError, TokenKind};
use crate::temporal::{Extent, Period, Words};
use crate::QueryError;

/// What a clause says of a period: how, and its bounds as they were written.
#[derive(Debug, Clone, PartialEq)]
pub struct DefaultClause {
    /// Which time it speaks of.
    pub period: Period,
    /// What it says of it.
    pub extent: Extent,
    /// Expressions without columns.
    pub bounds: Vec<String>,
}

/// A statement that says at what its tables are read.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// At most one for each time.
    pub defaults: Vec<DefaultClause>,
    /// The query, with spaces for what stood before it.
    pub query: String,
}

/// `SETTING DEFAULT SYSTEM_TIME [TO] AS OF x, DEFAULT VALID_TIME [TO] ALL <query>`; `None`: the
/// text is something else.
///
/// Errors: it begins so and goes on otherwise.
pub fn setting(sql: &str) -> Result<Option<Setting>, QueryError> {
    if !begins_with(sql, &["SETTING"]) {
        return Ok(None);
    }
    let all: Vec<_> = tokens(sql)
        .filter(|t| t.kind != TokenKind::Comment)
        .collect();
    let words = Words { sql, tokens: &all };
    let (defaults, end) = defaults(words).map_err(lexical)?;
    let Some(first) = words.get(end) else {
        return Err(lexical(LexError::at_end(sql)));
    };
    let is_query = ["SELECT", "WITH", "VALUES", "TABLE"];
    if !is_query.iter().any(|word| words.is_word(end, word)) && !words.is_punct(end, b'(') {
        return Err(lexical(words.unexpected(end)));
    }
    let query = format!("{}{}", " ".repeat(first.start), &sql[first.start..]);
    Ok(Some(Setting { defaults, query }))
}

fn defaults(words: Words<'_>) -> Result<(Vec<DefaultClause>, usize), LexError> {
    let mut defaults: Vec<DefaultClause> = Vec::new();
    let mut at = 1;
    loop {
        at = words.expect(at, "DEFAULT")?;
        let period = if words.is_word(at, "SYSTEM_TIME") {
            Period::System
        } else if words.is_word(at, "VALID_TIME") {
            Period::Valid
        } else {
            return Err(words.unexpected(at));
        };
        if defaults.iter().any(|d| d.period == period) {
            return Err(words.unexpected(at));
        }
        let start = at + 1 + usize::from(words.is_word(at + 1, "TO"));
        let (clause, end) = default_clause(words, period, start)?;
        defaults.push(clause);
        at = end;
        if !words.is_punct(at, b',') {
            return Ok((defaults, at));
        }
        at += 1;
    }
}

fn default_clause(
    words: Words<'_>,
    period: Period,
    at: usize,
) -> Result<(DefaultClause, usize), LexError> {
    let clause = |extent, bounds| DefaultClause {
        period,
        extent,
        bounds,
    };
    let (extent, joint, from) = if words.is_word(at, "ALL") {
        return Ok((clause(Extent::All, vec![]), at + 1));
    } else if words.are_words(at, &["AS", "OF"]) {
        let end = words.expression_end(at + 2)?;
        return Ok((clause(Extent::AsOf, vec![words.text(at + 2, end)]), end));
    } else if words.is_word(at, "FROM") {
        (Extent::FromTo, "TO", at + 1)
    } else if words.is_word(at, "BETWEEN") {
        (Extent::Between, "AND", at + 1)
    } else {
        return Err(words.unexpected(at));
    };
    let to = words.expression_end(from)?;
    let second = words.expect(to, joint)?;
    let end = words.expression_end(second)?;
    let bounds = vec![words.text(from, to), words.text(second, end)];
    Ok((clause(extent, bounds), end))
}

/// `BEGIN .. AS OF SYSTEM TIME x`: what stands before, and the expression.
pub(super) fn begin_as_of(sql: &str) -> Result<Option<(String, String)>, QueryError> {
    if !begins_with(sql, &["BEGIN", "START"]) {
        return Ok(None);
    }
    let all: Vec<_> = tokens(sql)
        .filter(|t| t.kind != TokenKind::Comment)
        .collect();
    let words = Words { sql, tokens: &all };
    let is_clause = |at: &usize| {
        words.are_words(*at, &["AS", "OF", "SYSTEM", "TIME"])
            || words.are_words(*at, &["AS", "OF", "SYSTEM_TIME"])
    };
    let Some(at) = (1..all.len()).find(is_clause) else {
        return Ok(None);
    };
    let from = at
        + if words.is_word(at + 2, "SYSTEM") {
            4
        } else {
            3
        };
    let end = words.expression_end(from).map_err(lexical)?;
    if words.get(end).is_some_and(|t| t.text(sql) != ";") {
        return Err(lexical(words.unexpected(end)));
    }
    if (1..at).any(|i| words.are_words(i, &["READ", "WRITE"])) {
        let message = "a transaction that reads the past cannot write";
        return Err(QueryError::new(SqlState::SYNTAX_ERROR, message)
            .with_hint("Write READ ONLY, or leave it away."));
    }
    let before = sql[..all[at].start].trim_end().trim_end_matches(',');
    Ok(Some((before.to_owned(), words.text(from, end))))
}

/// ERASE FROM t [WHERE ..]
#[derive(Debug, Clone)]
pub struct Erase {
    /// The table.
    pub table: ast::ObjectName,
    /// Finds the keys that are erased: those of which some version, of whatever time, fulfils
    /// the condition.
    pub keys: ast::Statement,
}

/// `None`: the text is something else.
pub(super) fn erase(sql: &str) -> Result<Option<Erase>, QueryError> {
    if !begins_with(sql, &["ERASE"]) {
        return Ok(None);
    }
    let all: Vec<_> = tokens(sql)
        .filter(|t| t.kind != TokenKind::Comment)
        .collect();
    let words = Words { sql, tokens: &all };
    let from = words.expect(1, "FROM").map_err(lexical)?;
    if !words.is_name(from) {
        return Err(lexical(words.unexpected(from)));
    }
    let mut end = from + 1;
    while words.is_punct(end, b'.') && words.is_name(end + 1) {
        end += 2;
    }
    if words.is_word(end, "FOR") {
        return Err(
            QueryError::unsupported("ERASE of a part of a row's time").with_hint(
                "ERASE removes all that a row ever was. DELETE FOR PORTION OF takes a part.",
            ),
        );
    }
    let name = words.text(from, end);
    let rest = words.text(end, all.len());
    let key = chronos_model::HIDDEN_KEY_COLUMN;
    let query =
        format!("SELECT DISTINCT {key} FROM {name} FOR SYSTEM_TIME ALL FOR VALID_TIME ALL {rest}");
    let keys = super::parse_query(&query)?;
    let ast::Statement::Query(query) = &keys else {
        return Err(lexical(words.unexpected(end)));
    };
    let table = match query.body.as_ref() {
        ast::SetExpr::Select(select) if is_only_where(query, select) => {
            match select.from.as_slice() {
                [ast::TableWithJoins {
                    relation: ast::TableFactor::Table { name, .. },
                    joins,
                }] if joins.is_empty() => name.clone(),
                _ => return Err(QueryError::unsupported("ERASE from several tables")),
            }
        }
        _ => return Err(lexical(words.unexpected(end))),
    };
    Ok(Some(Erase { table, keys }))
}

/// Whether a query has nothing behind its FROM but a condition.
fn is_only_where(query: &ast::Query, select: &ast::Select) -> bool {
    let groups = matches!(&select.group_by, ast::GroupByExpr::Expressions(by, with) if by.is_empty() && with.is_empty());
    let is_plain_query = query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty();
    let is_plain_select = groups
        && select.having.is_none()
        && select.qualify.is_none()
        && select.named_window.is_empty();
    is_plain_query && is_plain_select
}

/// Whether a text begins with one of these words.
pub(super) fn begins_with(sql: &str, wanted: &[&str]) -> bool {
    let first = tokens(sql).find(|t| t.kind != TokenKind::Comment);
    first.is_some_and(|first| wanted.iter().any(|word| first.is_word(sql, word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_may_say_at_what_it_reads() {
        let sql = "SETTING DEFAULT SYSTEM_TIME AS OF now() - INTERVAL '1 day', DEFAULT VALID_TIME TO ALL SELECT 1";
        let found = setting(sql).unwrap().unwrap();
        assert_eq!(found.query.trim_start(), "SELECT 1");
        assert_eq!(found.query.len(), sql.len());
        let clause = |period, extent, bounds: &[&str]| DefaultClause {
            period,
            extent,
            bounds: bounds.iter().map(ToString::to_string).collect(),
        };
        let expected = [
            clause(Period::System, Extent::AsOf, &["now() - INTERVAL '1 day'"]),
            clause(Period::Valid, Extent::All, &[]),
        ];
        assert_eq!(found.defaults, expected);
        assert_eq!(setting("SELECT 1").unwrap(), None);
        for wrong in [
            "SETTING",
            "SETTING DEFAULT VALID_TIME SELECT 1",
            "SETTING DEFAULT VALID_TIME ALL",
            "SETTING DEFAULT VALID_TIME ALL DELETE FROM t",
            "SETTING DEFAULT VALID_TIME ALL, DEFAULT VALID_TIME ALL SELECT 1",
        ] {
            let error = setting(wrong).unwrap_err();
            assert_eq!(error.code, SqlState::SYNTAX_ERROR, "{wrong}");
        }
    }

    #[test]
    fn a_transaction_may_read_the_past() {
        let found = begin_as_of("BEGIN READ ONLY AS OF SYSTEM TIME '2026-01-01'").unwrap();
        let expected = ("BEGIN READ ONLY".to_owned(), "'2026-01-01'".to_owned());
        assert_eq!(found, Some(expected));
        let found = begin_as_of("START TRANSACTION READ ONLY, AS OF SYSTEM TIME now();").unwrap();
        let expected = ("START TRANSACTION READ ONLY".to_owned(), "now()".to_owned());
        assert_eq!(found, Some(expected));
        assert_eq!(begin_as_of("BEGIN").unwrap(), None);
        assert!(begin_as_of("BEGIN READ WRITE AS OF SYSTEM TIME now()").is_err());
        assert!(begin_as_of("BEGIN AS OF SYSTEM TIME now() 3").is_err());
    }
}
