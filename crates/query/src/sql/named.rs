//! Statements about what a session keeps under a name: prepared statements and cursors.
//!
//! ```text
//! PREPARE p [(type, ..)] AS statement      EXECUTE p [(value, ..)]      DEALLOCATE p
//! DECLARE c [NO SCROLL | SCROLL] CURSOR [WITH HOLD] FOR query
//! FETCH | MOVE [direction] [FROM | IN] c   CLOSE c | ALL
//! ```
//!
//! Read from tokens: what is prepared or declared stays text, and is planned when it is used.

use chronos_model::SqlState;

use super::time::begins_with;
use super::{lexical, name_text};
use crate::lex::{tokens, LexError, Token, TokenKind};
use crate::temporal::Words;
use crate::QueryError;

/// A statement about something with a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Named {
    /// PREPARE: its name, the types of its parameters, the statement.
    Prepare(String, Vec<String>, String),
    /// EXECUTE: its name, expressions for its parameters.
    Execute(String, Vec<String>),
    /// DECLARE
    Declare(Declare),
    /// FETCH
    Fetch(String, Direction),
    /// MOVE
    Move(String, Direction),
    /// CLOSE; `None`: ALL.
    Close(Option<String>),
}

/// DECLARE .. CURSOR
#[derive(Debug, Clone, PartialEq)]
pub struct Declare {
    /// The cursor.
    pub name: String,
    /// Whether it can go back.
    pub scroll: bool,
    /// Whether it outlives its transaction.
    pub hold: bool,
    /// What it reads.
    pub query: String,
}

/// Where FETCH and MOVE go. Positions count from 1; 0 is before the first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// So many rows ahead, one by one; below 0: back. 0: the row where it stands.
    Rows(i64),
    /// All that is ahead.
    Rest,
    /// All that is behind.
    Back,
    /// To one row; below 0: from the end.
    Absolute(i64),
    /// To the row that is so many away.
    Relative(i64),
}

/// The statement, if it is one of these.
pub fn named(sql: &str) -> Result<Option<Named>, QueryError> {
    const VERBS: &[&str] = &["PREPARE", "EXECUTE", "DECLARE", "FETCH", "MOVE", "CLOSE"];
    if !begins_with(sql, VERBS) {
        return Ok(None);
    }
    let all: Vec<Token> = tokens(sql)
        .filter(|t| t.kind != TokenKind::Comment && t.text(sql) != ";")
        .collect();
    if let Some(error) = all.iter().find_map(|t| t.error(sql)) {
        return Err(lexical(error));
    }
    let words = Words { sql, tokens: &all };
    let verb = all[0].text(sql).to_ascii_uppercase();
    match verb.as_str() {
        // PREPARE TRANSACTION is another statement.
        "PREPARE" if words.is_word(1, "TRANSACTION") => return Ok(None),
        "PREPARE" => prepare(words),
        "EXECUTE" => execute(words),
        "DECLARE" if words.is_word(2, "BINARY") => {
            return Err(QueryError::unsupported("DECLARE .. BINARY CURSOR")
                .with_hint("The protocol says in which format rows are sent."));
        }
        "DECLARE" => declare(words),
        "FETCH" => fetch(words).map(|(name, direction)| Named::Fetch(name, direction)),
        "MOVE" => fetch(words).map(|(name, direction)| Named::Move(name, direction)),
        _ => close(words),
    }
    .map(Some)
    .map_err(lexical)
}

fn name(words: Words<'_>, at: usize) -> Result<String, LexError> {
    match words.get(at) {
        Some(token) if token.is_name() => Ok(name_text(token, words.sql)),
        _ => Err(words.unexpected(at)),
    }
}

fn end(words: Words<'_>, at: usize) -> Result<(), LexError> {
    match words.get(at) {
        None => Ok(()),
        Some(_) => Err(words.unexpected(at)),
    }
}

/// From a token to the statement's end.
fn rest(words: Words<'_>, at: usize) -> Result<String, LexError> {
    match (words.get(at), words.tokens.last()) {
        (Some(first), Some(last)) => Ok(words.sql[first.start..last.end].to_owned()),
        _ => Err(words.unexpected(at)),
    }
}

/// `(a, b)`, if it is there: the texts between, and what follows.
fn list(words: Words<'_>, at: usize) -> Result<(Vec<String>, usize), LexError> {
    if !words.is_punct(at, b'(') {
        return Ok((Vec::new(), at));
    }
    let (mut items, mut at) = (Vec::new(), at + 1);
    loop {
        let (from, mut depth) = (at, 0_usize);
        while depth > 0 || !(words.is_punct(at, b',') || words.is_punct(at, b')')) {
            if words.get(at).is_none() {
                return Err(words.unexpected(at));
            }
            match (
                words.is_punct(at, b'(') || words.is_punct(at, b'['),
                words.is_punct(at, b')') || words.is_punct(at, b']'),
            ) {
                (true, _) => depth += 1,
                (_, true) => depth = depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
        }
        if from == at {
            return Err(words.unexpected(at));
        }
        items.push(words.text(from, at));
        at += 1;
        if words.is_punct(at - 1, b')') {
            return Ok((items, at));
        }
    }
}

fn prepare(words: Words<'_>) -> Result<Named, LexError> {
    let name = name(words, 1)?;
    let (types, at) = list(words, 2)?;
    let at = words.expect(at, "AS")?;
    Ok(Named::Prepare(name, types, rest(words, at)?))
}

fn execute(words: Words<'_>) -> Result<Named, LexError> {
    let name = name(words, 1)?;
    let (values, at) = list(words, 2)?;
    end(words, at)?;
    Ok(Named::Execute(name, values))
}

fn declare(words: Words<'_>) -> Result<Named, LexError> {
    let name = name(words, 1)?;
    let (mut at, mut scroll, mut hold) = (2, false, false);
    loop {
        if words.are_words(at, &["NO", "SCROLL"]) {
            at += 2;
        } else if words.is_word(at, "SCROLL") {
            scroll = true;
            at += 1;
        } else if ["INSENSITIVE", "ASENSITIVE"]
            .iter()
            .any(|w| words.is_word(at, w))
        {
            at += 1;
        } else {
            break;
        }
    }
    at = words.expect(at, "CURSOR")?;
    if words.are_words(at, &["WITH", "HOLD"]) {
        hold = true;
        at += 2;
    } else if words.are_words(at, &["WITHOUT", "HOLD"]) {
        at += 2;
    }
    at = words.expect(at, "FOR")?;
    let query = rest(words, at)?;
    Ok(Named::Declare(Declare {
        name,
        scroll,
        hold,
        query,
    }))
}

/// `[-] n`, if it is there.
fn number(words: Words<'_>, at: usize) -> Result<Option<(i64, usize)>, LexError> {
    let is_negative = words.is_operator(at, "-");
    let digits = at + usize::from(is_negative || words.is_operator(at, "+"));
    let Some(token) = words.get(digits) else {
        return Ok(None);
    };
    if token.kind != TokenKind::Number {
        return Ok(None);
    }
    let number: i64 = token
        .text(words.sql)
        .parse()
        .map_err(|_| words.unexpected(digits))?;
    let number = if is_negative { -number } else { number };
    Ok(Some((number, digits + 1)))
}

fn fetch(words: Words<'_>) -> Result<(String, Direction), LexError> {
    let counted = |at: usize, sign: i64| -> Result<(Direction, usize), LexError> {
        if words.is_word(at, "ALL") {
            let all = if sign > 0 {
                Direction::Rest
            } else {
                Direction::Back
            };
            return Ok((all, at + 1));
        }
        let (count, at) = number(words, at)?.unwrap_or((1, at));
        Ok((Direction::Rows(sign.saturating_mul(count)), at))
    };
    let placed = |at: usize, make: fn(i64) -> Direction| {
        let (count, at) = number(words, at)?.ok_or_else(|| words.unexpected(at))?;
        Ok((make(count), at))
    };
    let is = |word: &str| words.is_word(1, word) && words.get(2).is_some();
    let (direction, mut at) = match () {
        () if is("NEXT") => (Direction::Rows(1), 2),
        () if is("PRIOR") => (Direction::Rows(-1), 2),
        () if is("FIRST") => (Direction::Absolute(1), 2),
        () if is("LAST") => (Direction::Absolute(-1), 2),
        () if is("ABSOLUTE") => placed(2, Direction::Absolute)?,
        () if is("RELATIVE") => placed(2, Direction::Relative)?,
        () if is("FORWARD") => counted(2, 1)?,
        () if is("BACKWARD") => counted(2, -1)?,
        () => counted(1, 1)?,
    };
    if words.is_word(at, "FROM") || words.is_word(at, "IN") {
        at += 1;
    }
    let name = name(words, at)?;
    end(words, at + 1)?;
    Ok((name, direction))
}

fn close(words: Words<'_>) -> Result<Named, LexError> {
    end(words, 2)?;
    if words.is_word(1, "ALL") {
        return Ok(Named::Close(None));
    }
    Ok(Named::Close(Some(name(words, 1)?)))
}

/// 26000: no statement of that name is prepared.
pub fn no_statement(name: &str) -> QueryError {
    let message = format!("prepared statement \"{name}\" does not exist");
    QueryError::new(SqlState::INVALID_STATEMENT_NAME, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> Named {
        named(sql).unwrap().unwrap()
    }

    #[test]
    fn statements_are_prepared_and_executed() {
        let types = vec!["int".to_owned(), "numeric(10,2)".to_owned()];
        assert_eq!(
            read("PREPARE p (int, numeric(10,2)) AS SELECT $1, $2 -- c"),
            Named::Prepare("p".into(), types, "SELECT $1, $2".into())
        );
        assert_eq!(
            read("execute P(1, f(2, 'a,b'), ARRAY[1,2]);"),
            Named::Execute(
                "p".into(),
                vec!["1".into(), "f(2, 'a,b')".into(), "ARRAY[1,2]".into()]
            )
        );
        for wrong in [
            "PREPARE p",
            "PREPARE p AS",
            "EXECUTE p(",
            "EXECUTE p()",
            "EXECUTE p(1) 2",
        ] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
        for other in ["SELECT 1", "PREPARE TRANSACTION 'x'"] {
            assert!(named(other).unwrap().is_none(), "{other}");
        }
    }

    #[test]
    fn cursors_are_declared() {
        let declared = |sql: &str| match read(sql) {
            Named::Declare(d) => (d.scroll, d.hold, d.query),
            other => panic!("{other:?}"),
        };
        let query = || "SELECT 1".to_owned();
        assert_eq!(
            declared("DECLARE c CURSOR FOR SELECT 1"),
            (false, false, query())
        );
        assert_eq!(
            declared("DECLARE c INSENSITIVE NO SCROLL CURSOR WITHOUT HOLD FOR SELECT 1"),
            (false, false, query())
        );
        assert_eq!(
            declared("declare c scroll cursor with hold for SELECT 1;"),
            (true, true, query())
        );
        assert!(named("DECLARE c CURSOR SELECT 1").is_err());
    }

    #[test]
    fn directions_are_those_of_postgresql() {
        for (sql, direction) in [
            ("FETCH c", Direction::Rows(1)),
            ("FETCH NEXT FROM c", Direction::Rows(1)),
            ("FETCH PRIOR IN c", Direction::Rows(-1)),
            ("FETCH -3 c", Direction::Rows(-3)),
            ("FETCH 10 FROM c", Direction::Rows(10)),
            ("FETCH ALL c", Direction::Rest),
            ("FETCH FORWARD ALL IN c", Direction::Rest),
            ("FETCH BACKWARD 2 c", Direction::Rows(-2)),
            ("FETCH BACKWARD ALL FROM c", Direction::Back),
            ("FETCH FIRST c", Direction::Absolute(1)),
            ("FETCH LAST c", Direction::Absolute(-1)),
            ("FETCH ABSOLUTE -2 c", Direction::Absolute(-2)),
            ("FETCH RELATIVE 0 FROM c", Direction::Relative(0)),
        ] {
            assert_eq!(read(sql), Named::Fetch("c".into(), direction), "{sql}");
        }
        assert_eq!(
            read("FETCH next"),
            Named::Fetch("next".into(), Direction::Rows(1))
        );
        assert_eq!(read("CLOSE ALL"), Named::Close(None));
        for wrong in [
            "FETCH",
            "FETCH 1 FROM",
            "FETCH ABSOLUTE c",
            "CLOSE",
            "FETCH 1 c d",
        ] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }
}
