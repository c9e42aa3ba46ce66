//! Two questions that are asked so often by hand that they have words of their own:
//!
//! | shorthand | query |
//! |---|---|
//! | `GET t KEY k, ..` | `SELECT * FROM t WHERE key = k AND ..` |
//! | `HISTORY t KEY k, ..` | `SELECT * FROM history('t', k, ..)` |
//!
//! The table's name may stand in quotes of either kind.

use chronos_model::{Catalog, SqlState};

use super::time::begins_with;
use super::{lexical, name_text, quote, string_text};
use crate::lex::{tokens, LexError, TokenKind};
use crate::temporal::Words;
use crate::QueryError;

/// The query that a shorthand stands for; `None`: the text is none.
///
/// Errors: it begins as one and goes on otherwise; a table that is not there.
pub fn shorthand(sql: &str, catalog: &Catalog) -> Result<Option<String>, QueryError> {
    if !begins_with(sql, &["GET", "HISTORY"]) {
        return Ok(None);
    }
    let all: Vec<_> = tokens(sql)
        .filter(|t| t.kind != TokenKind::Comment && t.text(sql) != ";")
        .collect();
    let words = Words { sql, tokens: &all };
    let is_get = words.is_word(0, "GET");
    let name = match words.get(1) {
        Some(token) if token.kind == TokenKind::String => string_text(token, sql),
        Some(token) if token.is_name() => name_text(token, sql),
        _ => return Err(lexical(words.unexpected(1))),
    };
    let table = catalog.table(&name);
    let table = table.ok_or_else(|| QueryError::unknown_table(&name))?;
    let mut values = Vec::new();
    if is_get || words.is_word(2, "KEY") {
        let mut at = words.expect(2, "KEY").map_err(lexical)?;
        loop {
            let end = words.expression_end(at).map_err(lexical)?;
            values.push(words.text(at, end));
            if !words.is_punct(end, b',') {
                at = end;
                break;
            }
            at = end + 1;
        }
        if words.get(at).is_some() {
            return Err(lexical(words.unexpected(at)));
        }
    } else if words.get(2).is_some() {
        return Err(lexical(LexError::near("syntax error", sql, &all[2])));
    }
    let key: Vec<&str> = (table.primary_key.iter())
        .map(|&c| table.columns[c].name.as_str())
        .collect();
    if !values.is_empty() && values.len() != key.len() {
        let message = format!(
            "the key of \"{name}\" has {} column(s) ({}), but {} value(s) are given",
            key.len(),
            key.join(", "),
            values.len()
        );
        return Err(QueryError::new(SqlState::SYNTAX_ERROR, message));
    }
    if !is_get {
        let literal = format!("public.{}", quote(&name)).replace('\'', "''");
        let arguments: String = values.iter().map(|v| format!(", {v}")).collect();
        return Ok(Some(format!(
            "SELECT * FROM history('{literal}'{arguments})"
        )));
    }
    let conditions: Vec<String> = (key.iter().zip(&values))
        .map(|(column, value)| format!("{} = ({value})", quote(column)))
        .collect();
    Ok(Some(format!(
        "SELECT * FROM public.{} WHERE {}",
        quote(&name),
        conditions.join(" AND ")
    )))
}
