//! SET, SHOW, RESET and their like, read from tokens: drivers send spellings that the parser does not
//! know.

use chronos_model::SqlState;

use super::{maintenance, name_text, string_text, users, Command};
use crate::QueryError;

/// Statements about the session, read from tokens: drivers send spellings that
/// the parser does not know.
pub(super) fn parse_session_command(sql: &str) -> Result<Option<Command>, QueryError> {
    use crate::lex::TokenKind;
    let tokens: Vec<_> = crate::lex::tokens(sql)
        .filter(|t| t.kind != TokenKind::Comment)
        .take(64)
        .collect();
    let text = |i: usize| tokens.get(i).map_or("", |t| &sql[t.start..t.end]);
    let word = |i: usize| text(i).to_ascii_lowercase();
    let command = match word(0).as_str() {
        "show" if word(1) == "all" => Command::Show("all".into()),
        "show" if word(1) == "time" && word(2) == "zone" => Command::Show("timezone".into()),
        "show" if word(1) == "transaction" => Command::Show("transaction_isolation".into()),
        "show" if word(1) == "session" => Command::Show("session_authorization".into()),
        "show" if matches!(word(1).as_str(), "tables" | "columns" | "create") => return Ok(None),
        "show" if tokens.len() > 1 => Command::Show(setting_name(sql, &tokens[1..])?),
        "reset" if tokens.len() > 1 => Command::Reset(setting_name(sql, &tokens[1..])?),
        "discard" => Command::Discard,
        "deallocate" => {
            let at = if word(1) == "prepare" { 2 } else { 1 };
            match word(at).as_str() {
                "all" => Command::Deallocate(None),
                _ => Command::Deallocate(tokens.get(at).map(|t| name_text(t, sql))),
            }
        }
        "set" => return parse_set(sql, &tokens),
        "abort" => Command::Rollback(None),
        "end" => Command::Commit,
        "listen" => Command::NoOperation("LISTEN"),
        "unlisten" => Command::NoOperation("UNLISTEN"),
        "checkpoint" => Command::NoOperation("CHECKPOINT"),
        "analyze" | "analyse" => Command::NoOperation("ANALYZE"),
        "alter" | "compact" | "vacuum" => return maintenance::parse(sql, &tokens),
        "create" if crate::views::may_create(sql, &tokens) => {
            let all: Vec<_> = crate::lex::tokens(sql)
                .filter(|t| t.kind != TokenKind::Comment)
                .collect();
            return crate::views::parse_create(sql, &all);
        }
        _ => return Ok(None),
    };
    Ok(Some(command))
}

fn setting_name(sql: &str, tokens: &[crate::lex::Token]) -> Result<String, QueryError> {
    let mut name = String::new();
    for token in tokens.iter().take_while(|t| t.text(sql) != ";") {
        match token.text(sql) {
            "." => name.push('.'),
            _ if token.is_name() => name.push_str(&name_text(token, sql)),
            other => {
                let message = format!("syntax error at or near \"{other}\"");
                return Err(QueryError::new(SqlState::SYNTAX_ERROR, message));
            }
        }
    }
    Ok(name.to_ascii_lowercase())
}

fn parse_set(sql: &str, tokens: &[crate::lex::Token]) -> Result<Option<Command>, QueryError> {
    let text = |i: usize| tokens.get(i).map_or("", |t| &sql[t.start..t.end]);
    let word = |i: usize| text(i).to_ascii_lowercase();
    let mut at = 1;
    if matches!(word(at).as_str(), "session" | "local") {
        at += 1;
    }
    match word(at).as_str() {
        "constraints" => return set_constraints(sql, &tokens[at + 1..]).map(Some),
        "transaction" | "characteristics" => {
            let asks = |what: &str| (at..tokens.len()).any(|i| word(i) == what);
            let is_of_transaction = at == 1 && word(at) == "transaction";
            if asks("serializable") && is_of_transaction && !asks("only") {
                return Ok(Some(Command::SetSerializable));
            }
            if asks("serializable") {
                return Err(QueryError::unsupported("SET .. SERIALIZABLE")
                    .with_hint("Write BEGIN ISOLATION LEVEL SERIALIZABLE."));
            }
            if asks("only") {
                return Err(
                    QueryError::unsupported("SET .. READ ONLY").with_hint("Write BEGIN READ ONLY.")
                );
            }
            return Ok(Some(Command::NoOperation("SET")));
        }
        "names" => {
            return Ok(Some(Command::Set(
                "client_encoding".into(),
                Some(set_value(sql, &tokens[at + 1..])),
            )))
        }
        "time" if word(at + 1) == "zone" => {
            return Ok(Some(Command::Set(
                "timezone".into(),
                Some(set_value(sql, &tokens[at + 2..])),
            )));
        }
        _ => {}
    }
    let equals = (at..tokens.len()).find(|&i| text(i) == "=" || word(i) == "to");
    if let Some(command) = users::set_role(&word(at), &word(at + 1))? {
        return Ok(Some(command));
    }
    let Some(equals) = equals.filter(|&e| e > at && e + 1 < tokens.len()) else {
        let message = "syntax error in SET: expected SET name = value";
        return Err(QueryError::new(SqlState::SYNTAX_ERROR, message));
    };
    let name = setting_name(sql, &tokens[at..equals])?;
    let value = match name.as_str() {
        "search_path" => path_value(sql, &tokens[equals + 1..]),
        _ => set_value(sql, &tokens[equals + 1..]),
    };
    let is_default = tokens.len() == equals + 2 && word(equals + 1) == "default";
    let value = (!is_default).then_some(value);
    Ok(Some(match word(1).as_str() {
        "local" => Command::SetLocal(name, value),
        _ => Command::Set(name, value),
    }))
}

/// Names of schemas, each of which is a word or a text, as `search_path` shows them.
fn path_value(sql: &str, tokens: &[crate::lex::Token]) -> String {
    use crate::lex::TokenKind;
    let written = tokens.iter().take_while(|t| t.text(sql) != ";");
    let written = written.filter(|t| t.text(sql) != ",");
    let names = written.map(|token| match token.kind {
        TokenKind::String => quote_path_name(&string_text(token, sql)),
        _ => quote_path_name(&name_text(token, sql)),
    });
    names.collect::<Vec<_>>().join(", ")
}

fn quote_path_name(name: &str) -> String {
    match name.is_empty() {
        true => "\"\"".to_owned(),
        false => crate::system_tables::quote_ident(name),
    }
}

/// `SET CONSTRAINTS { ALL | name, .. } { DEFERRED | IMMEDIATE }`
fn set_constraints(sql: &str, tokens: &[crate::lex::Token]) -> Result<Command, QueryError> {
    let tokens: Vec<_> = tokens.iter().filter(|t| t.text(sql) != ";").collect();
    let wrong = || QueryError::new(SqlState::SYNTAX_ERROR, "syntax error in SET CONSTRAINTS");
    let (when, named) = tokens.split_last().ok_or_else(wrong)?;
    let is_deferred = match () {
        () if when.is_word(sql, "deferred") => true,
        () if when.is_word(sql, "immediate") => false,
        () => return Err(wrong()),
    };
    if let [all] = named {
        if all.is_word(sql, "all") {
            return Ok(Command::SetConstraints(vec![], is_deferred));
        }
    }
    let mut names = Vec::new();
    for part in named.split(|t| t.text(sql) == ",") {
        // Names of constraints may be qualified by a schema.
        let name = part.last().filter(|t| t.is_name()).ok_or_else(wrong)?;
        names.push(name_text(name, sql));
    }
    match names.is_empty() {
        true => Err(wrong()),
        false => Ok(Command::SetConstraints(names, is_deferred)),
    }
}

fn set_value(sql: &str, tokens: &[crate::lex::Token]) -> String {
    use crate::lex::TokenKind;
    let mut value = String::new();
    for token in tokens.iter().take_while(|t| &sql[t.start..t.end] != ";") {
        let piece = match token.kind {
            TokenKind::String => string_text(token, sql),
            TokenKind::QuotedIdent => name_text(token, sql),
            _ => sql[token.start..token.end].to_owned(),
        };
        if piece == "," {
            value.push_str(", ");
        } else {
            value.push_str(&piece);
        }
    }
    value
}
