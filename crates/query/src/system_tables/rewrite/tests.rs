//! What clients write, and what becomes of it.

use super::*;
use crate::sql::parse_query;

fn rewritten(sql: &str) -> String {
    let mut statement = parse_query(sql).unwrap();
    rewrite(&mut statement);
    statement.to_string()
}

#[test]
fn ordinary_statements_are_left_alone() {
    for sql in [
        "SELECT a, a FROM t WHERE b = 'pg_class'",
        "SELECT (SELECT max(x) FROM u WHERE u.y = t.y) FROM t",
        "SELECT a::text, b::int FROM t",
    ] {
        let mut statement = parse_query(sql).unwrap();
        let before = statement.clone();
        assert!(!rewrite(&mut statement), "{sql}");
        assert_eq!(statement, before);
    }
}

#[test]
fn notations() {
    for (sql, expected) in [
        (
            "SELECT pg_catalog.f(x) FROM t WHERE a OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default",
            "SELECT f(x) FROM t WHERE a ~ '^(t)$'",
        ),
        ("SELECT x::pg_catalog.oid, y::name FROM t", "SELECT x::INT4, y::TEXT FROM t"),
        ("SELECT 1 WHERE x = 't'::regclass", "SELECT 1 WHERE x = __regclass_oid('t')"),
        ("SELECT x::regclass FROM t", "SELECT __regclass_name(x) FROM t"),
        ("SELECT 1 WHERE x::regclass::text = 'a'", "SELECT 1 WHERE __regclass_name(x)::TEXT = 'a'"),
        ("SELECT 1 WHERE a = regclass 't'", "SELECT 1 WHERE a = __regclass_oid('t')"),
        ("SELECT 1 WHERE a LIKE 'x/_' ESCAPE '/'", "SELECT 1 WHERE a LIKE __like_pattern('x/_', '/')"),
        ("SELECT current_schema", "SELECT current_schema() AS current_schema"),
    ] {
        assert_eq!(rewritten(sql), expected, "{sql}");
    }
}

#[test]
fn arrays_and_vectors() {
    for (sql, expected) in [
        (
            "SELECT (information_schema._pg_expandarray(i.indkey)).n, information_schema._pg_expandarray(i.indkey) FROM pg_index i",
            "SELECT unnest(__subscripts(i.indkey, 1)), unnest(i.indkey) FROM pg_index i",
        ),
        (
            "SELECT ARRAY(SELECT rolname FROM pg_roles ORDER BY 1) FROM pg_class",
            "SELECT coalesce((SELECT array_agg(rolname ORDER BY rolname) FROM pg_roles), make_array()) FROM pg_class",
        ),
        (
            "SELECT indkey[0], generate_subscripts(i.indkey, 1), generate_subscripts(conkey, 1), array_upper(indkey, 1) FROM pg_index i",
            "SELECT indkey[(0 + 1)], unnest(__subscripts_from_zero(i.indkey, 1)), unnest(__subscripts(conkey, 1)), \
             (array_upper(indkey, 1) - 1) FROM pg_index i",
        ),
    ] {
        assert_eq!(rewritten(sql), expected, "{sql}");
    }
}

#[test]
fn what_clients_send() {
    for (sql, expected) in [
        (
            "SELECT CASE WHEN t.typtype = 'c' THEN (SELECT 1) ELSE NULL END FROM pg_type t",
            "SELECT NULL FROM pg_type t",
        ),
        (
            "SELECT tableoid, c.tableoid FROM pg_class c",
            "SELECT 1259 AS tableoid, 1259 AS tableoid FROM pg_class c",
        ),
        (
            "SELECT name FROM pg_show_all_settings() WHERE name = 'x'",
            "SELECT name FROM (SELECT * FROM pg_settings) AS pg_show_all_settings WHERE name = 'x'",
        ),
        (
            "SELECT to_regclass('a')::text FROM pg_class",
            "SELECT __regclass_name('a')::TEXT FROM pg_class",
        ),
    ] {
        assert_eq!(rewritten(sql), expected, "{sql}");
    }
}

/// A subquery is left to the engine, which keeps its type and counts its rows.
#[test]
fn subqueries_are_left_alone() {
    for sql in [
        "SELECT (SELECT adbin FROM pg_attrdef d WHERE d.adrelid = a.attrelid) FROM pg_attribute a",
        "SELECT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid) FROM pg_class c",
        "SELECT (WITH RECURSIVE r AS (SELECT 1 AS n) SELECT n FROM r) FROM pg_class",
        "SELECT 1 FROM pg_class WHERE EXISTS (SELECT 1 FROM pg_trigger)",
        "SELECT (SELECT relname FROM pg_class c LEFT JOIN pg_policy p ON true LIMIT 1)",
    ] {
        assert_eq!(rewritten(sql), sql);
    }
}
