//! Functions, called through the engine.

use crate::system_tables::tests::{code, one};

#[test]
fn the_session() {
    assert!(one("SELECT version()").starts_with("PostgreSQL 15.0 (Chronos "));
    for (expression, expected) in [
        ("current_user", "ada"),
        ("user", "ada"),
        ("session_user", "ada"),
        ("current_role", "ada"),
        ("current_database()", "farm"),
        ("current_catalog", "farm"),
        ("pg_catalog.current_schema()", "public"),
        ("current_schema", "public"),
        ("current_schemas(true)", "{pg_catalog,public}"),
        ("'public' = ANY(current_schemas(false))", "t"),
        ("current_setting('server_version_num')", "150000"),
        ("current_setting('nope', true)", "NULL"),
        ("pg_is_in_recovery()", "f"),
        ("has_table_privilege('t', 'select')", "t"),
        ("pg_get_userbyid(10)", "ada"),
        ("pg_encoding_to_char(6)", "UTF8"),
        ("length(gen_random_uuid()::text)", "36"),
    ] {
        assert_eq!(
            one(&format!("SELECT {expression}")),
            expected,
            "{expression}"
        );
    }
    assert_eq!(code("SELECT current_setting('nope')"), "42704");
}

#[test]
fn names_of_objects() {
    for (expression, expected) in [
        ("'t'::regclass", "t"),
        ("'t'::regclass::oid", "17385"),
        ("'public.\"No Key\"'::regclass", "\"No Key\""),
        ("17385::regclass::text", "t"),
        ("1259::regclass", "pg_class"),
        (
            "'information_schema.columns'::regclass",
            "information_schema.columns",
        ),
        ("99::regclass", "99"),
        ("'x' || 't'::regclass", "xt"),
        ("to_regclass('nope')", "NULL"),
        ("to_regclass('t')", "t"),
        ("'timestamptz'::regtype", "timestamp with time zone"),
        ("'text[]'::regtype::oid", "1009"),
        ("to_regtype('hstore')", "NULL"),
        ("'public'::regnamespace", "public"),
        ("'array_in'::regproc::oid > 0", "t"),
        ("format_type(1043, 24)", "character varying(20)"),
        ("format_type(1043, NULL)", "character varying"),
        ("format_type(NULL, 1)", "NULL"),
        (
            "pg_get_indexdef(1000001)",
            "CREATE UNIQUE INDEX t_pkey ON public.t USING btree (id)",
        ),
        ("pg_get_indexdef(1000001, 1, true)", "id"),
        ("pg_get_constraintdef(2000001)", "PRIMARY KEY (id)"),
        ("pg_get_constraintdef(1)", "NULL"),
        ("pg_typeof(1::numeric(4,1))", "numeric"),
    ] {
        assert_eq!(
            one(&format!("SELECT {expression}")),
            expected,
            "{expression}"
        );
    }
    assert_eq!(code("SELECT 'nope'::regclass"), "42P01");
    assert_eq!(code("SELECT 'nope'::regtype"), "42704");
    assert_eq!(code("SELECT 'a.b.c.d'::regclass"), "42602");
}

#[test]
fn texts() {
    for (expression, expected) in [
        ("quote_ident('user')", "\"user\""),
        ("quote_ident('plain_1')", "plain_1"),
        ("quote_ident('No \"Key')", "\"No \"\"Key\""),
        ("quote_literal('it''s')", "'it''s'"),
        ("quote_nullable(NULL)", "NULL"),
        ("pg_size_pretty(10239::bigint)", "10239 bytes"),
        ("pg_size_pretty(10240::bigint)", "10 kB"),
        ("pg_size_pretty(123456789::bigint)", "118 MB"),
        ("'a_b' LIKE 'a/_b' ESCAPE '/'", "t"),
        ("'axb' LIKE 'a/_b' ESCAPE '/'", "f"),
        ("'a\\b' LIKE 'a\\_' ESCAPE '/'", "t"),
        ("array_upper(ARRAY[1,2,3], 1)", "3"),
        ("array_lower(ARRAY[1,2,3], 2)", "NULL"),
    ] {
        assert_eq!(
            one(&format!("SELECT {expression}")),
            expected,
            "{expression}"
        );
    }
    assert_eq!(code("SELECT 'a' LIKE 'a/' ESCAPE '/'"), "22025");
    assert_eq!(code("SELECT 'a' LIKE 'a' ESCAPE 'xx'"), "22019");
}
