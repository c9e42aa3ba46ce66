//! Parameters that are object ids: `$1::oid`, `$1::oid[]`, `t.oid = $1`.
//!
//! Ids are plain integers here, but drivers ask which type a parameter has before they know what an
//! array of integers is, by a query that takes an array of ids; told that those are integers, they
//! would ask the same again. So who describes parameters asks here which are called ids.

use crate::lex::{self, Token, TokenKind};

/// Columns of the catalog that are ids, by which drivers ask for a type.
const COLUMNS: [&str; 3] = ["oid", "attrelid", "enumtypid"];

/// Numbers of a statement's parameters that are cast to `oid` or `oid[]`, or compared with a
/// column of ids of the catalog.
pub fn parameters(sql: &str) -> Vec<usize> {
    let mentions = |what: &str| memchr::memmem::find(sql.as_bytes(), what.as_bytes()).is_some();
    if !mentions("oid") && !mentions("pg_") {
        return Vec::new();
    }
    let tokens: Vec<Token> = lex::tokens(sql)
        .filter(|token| token.kind != TokenKind::Comment)
        .collect();
    let text = |i: usize| tokens.get(i).map_or("", |token| token.text(sql));
    let is_id = |i: usize| {
        let name = match (text(i), text(i + 1)) {
            ("pg_catalog", ".") => text(i + 2),
            (name, _) => name,
        };
        name.eq_ignore_ascii_case("oid")
    };
    let of_catalog = mentions("pg_");
    let is_cast = |i: usize| text(i + 1) == "::" && is_id(i + 2);
    let is_compared =
        |i: usize| of_catalog && i > 1 && text(i - 1) == "=" && COLUMNS.contains(&text(i - 2));
    (0..tokens.len())
        .filter(|i| tokens[*i].kind == TokenKind::Param && (is_cast(*i) || is_compared(*i)))
        .filter_map(|i| text(i).strip_prefix('$')?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parameters;

    #[test]
    fn ids_are_what_is_cast_to_them() {
        for (sql, expected) in [
            (
                "SELECT 1 WHERE x = any($1::oid[]) OR y = $3 :: pg_catalog.oid",
                vec![1, 3],
            ),
            (
                "SELECT $1::int4, oid, '$2::oid', $2 FROM t -- $4::oid",
                vec![],
            ),
            (
                "SELECT typname FROM pg_type t WHERE t.oid = $1 AND typname = $2",
                vec![1],
            ),
            ("SELECT oid FROM t WHERE oid = $1", vec![]),
        ] {
            assert_eq!(parameters(sql), expected, "{sql}");
        }
    }
}
