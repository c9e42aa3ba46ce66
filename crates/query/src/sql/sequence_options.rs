//! Options of sequences in the one order in which the parser takes them. PostgreSQL takes any,
//! and its dumps begin with START.

use std::borrow::Cow;

use crate::lex::{Token, TokenKind};

/// An option, by its place in the parser's order, and the tokens that it is made of.
type Found = (usize, usize);

/// The statement with the options sorted where some stand side by side.
pub(super) fn sorted(sql: &str) -> Cow<'_, str> {
    let words: [&[u8]; 4] = [b"increment", b"minvalue", b"maxvalue", b"start"];
    let mentions = |word: &&[u8]| {
        let mut all = sql.as_bytes().windows(word.len());
        all.any(|b| b.eq_ignore_ascii_case(word))
    };
    if !words.iter().any(mentions) {
        return sql.into();
    }
    let tokens: Vec<Token> = crate::lex::tokens(sql)
        .filter(|t| t.kind != TokenKind::Comment)
        .collect();
    if !tokens.first().is_some_and(|t| t.is_word(sql, "create")) {
        return sql.into();
    }
    let mut text = Cow::Borrowed(sql);
    let mut at = 0;
    while at < tokens.len() {
        let mut options: Vec<(usize, String)> = Vec::new();
        let first = at;
        while let Some((rank, length)) = option(sql, &tokens[at..]) {
            let (from, to) = (tokens[at].start, tokens[at + length - 1].end);
            options.push((rank, sql[from..to].to_owned()));
            at += length;
        }
        if options.len() > 1 {
            let range = tokens[first].start..tokens[at - 1].end;
            options.sort_by_key(|(rank, _)| *rank);
            let sorted: Vec<&str> = options.iter().map(|(_, o)| o.as_str()).collect();
            // No longer than before: what comes behind stays in its place.
            let mut joined = sorted.join(" ");
            joined.push_str(&" ".repeat(range.len().saturating_sub(joined.len())));
            text.to_mut().replace_range(range, &joined);
        }
        at = at.max(first + 1);
    }
    text
}

/// The option that begins with the first token.
fn option(sql: &str, tokens: &[Token]) -> Option<Found> {
    let is = |at: usize, word: &str| tokens.get(at).is_some_and(|t| t.is_word(sql, word));
    let number = |at: usize| {
        let is_signed = tokens
            .get(at)
            .is_some_and(|t| matches!(t.text(sql), "-" | "+"));
        let at = at + usize::from(is_signed);
        let is_number = tokens.get(at).is_some_and(|t| t.kind == TokenKind::Number);
        is_number.then_some(at + 1)
    };
    let with = |rank: usize, filler: &str| {
        let from = 1 + usize::from(is(1, filler));
        number(from).map(|length| (rank, length))
    };
    match () {
        () if is(0, "increment") => with(0, "by"),
        () if is(0, "minvalue") => with(1, ""),
        () if is(0, "no") && is(1, "minvalue") => Some((1, 2)),
        () if is(0, "maxvalue") => with(2, ""),
        () if is(0, "no") && is(1, "maxvalue") => Some((2, 2)),
        () if is(0, "start") => with(3, "with"),
        () if is(0, "cache") => with(4, ""),
        () if is(0, "no") && is(1, "cycle") => Some((5, 2)),
        () if is(0, "cycle") => Some((5, 1)),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::sorted;

    #[test]
    fn options_come_in_the_parsers_order() {
        let words = |sql: &str| {
            let sorted = sorted(sql);
            let words: Vec<&str> = sorted.split_whitespace().collect();
            words.join(" ")
        };
        assert_eq!(
            words("CREATE SEQUENCE s START WITH -1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1"),
            "CREATE SEQUENCE s INCREMENT BY 1 NO MINVALUE NO MAXVALUE START WITH -1 CACHE 1"
        );
        assert_eq!(
            words("create table t (a int generated always as identity (start 5 increment 2), minvalue int)"),
            "create table t (a int generated always as identity (increment 2 start 5), minvalue int)"
        );
        let other = "SELECT increment, start FROM t";
        assert_eq!(words(other), other);
    }
}
