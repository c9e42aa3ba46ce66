//! Tables of statements and what becomes of them.

use chronos_model::SqlState;
use proptest::prelude::*;

use super::*;

#[test]
fn rewrites_clauses() {
    let cases = [
        // Alone, with and without alias, before and after it.
        ("SELECT * FROM t FOR SYSTEM_TIME AS OF '2024-01-01'", "SELECT * FROM t(__sys_asof('2024-01-01'))"),
        ("SELECT * FROM t FOR SYSTEM_TIME AS OF $1 AS a WHERE x", "SELECT * FROM t(__sys_asof($1)) AS a WHERE x"),
        ("SELECT * FROM t FOR SYSTEM_TIME AS OF $1 a WHERE x", "SELECT * FROM t(__sys_asof($1)) a WHERE x"),
        ("SELECT * FROM t AS a FOR SYSTEM_TIME AS OF $1 WHERE x", "SELECT * FROM t(__sys_asof($1)) AS a WHERE x"),
        ("SELECT * FROM t a FOR SYSTEM_TIME AS OF $1;", "SELECT * FROM t(__sys_asof($1)) a;"),
        ("SELECT * FROM t \"A\" for system_time as of $1", "SELECT * FROM t(__sys_asof($1)) \"A\""),
        ("FROM t FOR SYSTEM_TIME ALL AS a(x, y) JOIN u", "FROM t(__sys_all()) AS a(x, y) JOIN u"),
        ("FROM t a (x, y) FOR SYSTEM_TIME ALL", "FROM t(__sys_all()) a (x, y)"),
        ("FROM t AS a(x) FOR SYSTEM_TIME ALL WHERE 1", "FROM t(__sys_all()) AS a(x) WHERE 1"),
        // Forms.
        ("FROM t FOR SYSTEM_TIME FROM a TO b c", "FROM t(__sys_from_to(a, b)) c"),
        ("FROM t FOR SYSTEM_TIME BETWEEN a AND b WHERE c AND d", "FROM t(__sys_between(a, b)) WHERE c AND d"),
        ("FROM t FOR SYSTEM_TIME BETWEEN ASYMMETRIC a AND b", "FROM t(__sys_between(a, b))"),
        ("FROM t FOR SYSTEM_TIME ALL, u", "FROM t(__sys_all()), u"),
        ("FROM t FOR ALL SYSTEM_TIME x", "FROM t(__sys_all()) x"),
        ("FROM t FOR VALID_TIME AS OF 1", "FROM t(__valid_asof(1))"),
        ("FROM t FOR VALID_TIME FROM 1 TO 2", "FROM t(__valid_from_to(1, 2))"),
        ("FROM t FOR VALID_TIME BETWEEN 1 AND 2", "FROM t(__valid_between(1, 2))"),
        ("FROM t FOR VALID_TIME ALL FOR SYSTEM_TIME AS OF x a", "FROM t(__valid_all(), __sys_asof(x)) a"),
        ("FROM t FOR ALL VALID_TIME AS a FOR SYSTEM_TIME AS OF x", "FROM t(__valid_all(), __sys_asof(x)) AS a"),
        ("FROM t a FOR SYSTEM_TIME AS OF x FOR VALID_TIME AS OF y ORDER BY 1", "FROM t(__sys_asof(x), __valid_asof(y)) a ORDER BY 1"),
        // Names.
        ("FROM public.t FOR SYSTEM_TIME ALL", "FROM public.t(__sys_all())"),
        ("FROM db.\"public\".\"My t\" FOR SYSTEM_TIME ALL m", "FROM db.\"public\".\"My t\"(__sys_all()) m"),
        ("FROM ONLY t FOR SYSTEM_TIME ALL", "FROM ONLY t(__sys_all())"),
        ("FROM update FOR SYSTEM_TIME ALL", "FROM update(__sys_all())"),
        ("FROM update u FOR SYSTEM_TIME ALL", "FROM update(__sys_all()) u"),
        // What follows.
        ("FROM t FOR SYSTEM_TIME AS OF x JOIN u FOR SYSTEM_TIME AS OF y ON a = b", "FROM t(__sys_asof(x)) JOIN u(__sys_asof(y)) ON a = b"),
        ("FROM t FOR SYSTEM_TIME AS OF x LEFT JOIN u USING (a)", "FROM t(__sys_asof(x)) LEFT JOIN u USING (a)"),
        ("FROM a, t FOR SYSTEM_TIME AS OF x, u b", "FROM a, t(__sys_asof(x)), u b"),
        ("FROM t FOR SYSTEM_TIME AS OF x FOR UPDATE", "FROM t(__sys_asof(x)) FOR UPDATE"),
        ("FROM t FOR SYSTEM_TIME AS OF x WINDOW w AS ()", "FROM t(__sys_asof(x)) WINDOW w AS ()"),
        ("(SELECT 1 FROM t FOR SYSTEM_TIME AS OF x) UNION SELECT 2", "(SELECT 1 FROM t(__sys_asof(x))) UNION SELECT 2"),
        ("WITH c AS (SELECT * FROM t FOR SYSTEM_TIME AS OF x LIMIT 1) SELECT * FROM c, LATERAL u FOR SYSTEM_TIME ALL l",
         "WITH c AS (SELECT * FROM t(__sys_asof(x)) LIMIT 1) SELECT * FROM c, LATERAL u(__sys_all()) l"),
        ("SELECT (SELECT a FROM (t FOR SYSTEM_TIME ALL JOIN u ON 1)) FROM v", "SELECT (SELECT a FROM (t(__sys_all()) JOIN u ON 1)) FROM v"),
        ("INSERT INTO u SELECT * FROM t FOR SYSTEM_TIME AS OF x", "INSERT INTO u SELECT * FROM t(__sys_asof(x))"),
        ("UPDATE u SET a = b FROM t FOR SYSTEM_TIME AS OF x WHERE 1", "UPDATE u SET a = b FROM t(__sys_asof(x)) WHERE 1"),
        ("DELETE FROM u USING t FOR SYSTEM_TIME AS OF x WHERE 1", "DELETE FROM u USING t(__sys_asof(x)) WHERE 1"),
        ("SELECT 1 FROM t FOR SYSTEM_TIME ALL; SELECT 2 FROM u FOR SYSTEM_TIME ALL", "SELECT 1 FROM t(__sys_all()); SELECT 2 FROM u(__sys_all())"),
        // Comments.
        ("FROM t /* a */ FOR -- b\n SYSTEM_TIME AS OF /* c */ x /* d */ AS e", "FROM t(__sys_asof(x)) AS e"),
        ("FROM t AS /* a */ e /* b */ FOR SYSTEM_TIME ALL /* c */", "FROM t(__sys_all()) AS /* a */ e /* c */"),
        ("FROM t FOR SYSTEM_TIME AS OF a -- x\n + b -- y\n c", "FROM t(__sys_asof(a -- x\n + b)) c"),
    ];
    for (sql, expected) in cases {
        assert_eq!(rewrite(sql).unwrap().sql, expected, "{sql}");
    }
}

#[test]
fn bounds_end_where_the_expression_does() {
    let bounds = [
        "'x'",
        "$1",
        "now()",
        "now() - INTERVAL '1 day'",
        "INTERVAL '1' DAY + now()",
        "TIMESTAMP '2024-01-01 00:00'",
        "TIMESTAMPTZ 'x'",
        "TIMESTAMP WITH TIME ZONE 'x'",
        "TIMESTAMP (3) WITHOUT TIME ZONE 'x'",
        "'x'::timestamptz",
        "'x'::timestamp with time zone",
        "$1::timestamp(3) without time zone",
        "'x'::pg_catalog.timestamptz",
        "x AT TIME ZONE 'UTC'",
        "(a) AT TIME ZONE b AT LOCAL",
        "CASE WHEN a THEN b ELSE CASE WHEN c THEN d END END",
        "CAST(a AS timestamp)",
        "f(a AND b, c TO d, (e FOR g))",
        "a.b.c",
        "a[1]",
        "ARRAY[1, 2]",
        "-1",
        "- -a",
        "a - -b * +c",
        "1 + 2 :: text || 'a'",
        "CURRENT_TIMESTAMP",
        "CURRENT_TIMESTAMP(3)",
        "(SELECT max(x) FROM u WHERE a AND b)",
        "f(x).y",
        "\"a b\".\"c\"",
        "date 'x'",
        "double precision '1'",
        "$tag$x$tag$",
        "E'a'",
        "f()[1]",
        "(a).b",
    ];
    for bound in bounds {
        for (rest, kept) in [
            ("", ""),
            (" AS a", " AS a"),
            (" a WHERE b", " a WHERE b"),
            (") x", ") x"),
            (", u", ", u"),
            (" JOIN u", " JOIN u"),
            (";", ";"),
        ] {
            let sql = format!("FROM t FOR SYSTEM_TIME AS OF {bound}{rest}");
            assert_eq!(
                rewrite(&sql).unwrap().sql,
                format!("FROM t(__sys_asof({bound})){kept}")
            );
            let sql = format!("FROM t FOR SYSTEM_TIME FROM {bound} TO {bound}{rest}");
            assert_eq!(
                rewrite(&sql).unwrap().sql,
                format!("FROM t(__sys_from_to({bound}, {bound})){kept}")
            );
            let sql = format!("FROM t FOR VALID_TIME BETWEEN {bound} AND {bound}{rest}");
            assert_eq!(
                rewrite(&sql).unwrap().sql,
                format!("FROM t(__valid_between({bound}, {bound})){kept}")
            );
        }
    }
}

#[test]
fn clauses_in_bounds() {
    let sql = "FROM t FOR SYSTEM_TIME AS OF (SELECT max(a) FROM u FOR SYSTEM_TIME AS OF x AS y) AS z, v FOR SYSTEM_TIME ALL";
    assert_eq!(
        rewrite(sql).unwrap().sql,
        "FROM t(__sys_asof((SELECT max(a) FROM u(__sys_asof(x)) AS y))) AS z, v(__sys_all())"
    );
    let deep = |n: usize| {
        format!(
            "{}{}",
            "FROM t FOR SYSTEM_TIME AS OF (SELECT 1 ".repeat(n),
            ")".repeat(n)
        )
    };
    assert!(rewrite(&deep(16)).is_ok());
    assert_eq!(rewrite(&deep(17)).unwrap_err().code, SqlState::TOO_COMPLEX);
    assert_eq!(
        rewrite(&deep(2000)).unwrap_err().code,
        SqlState::TOO_COMPLEX
    );
}

#[test]
fn leaves_other_text_alone() {
    let cases = [
        "SELECT * FROM t WHERE a = 1",
        "SELECT * FROM t FOR UPDATE",
        "SELECT * FROM t FOR SHARE OF t SKIP LOCKED",
        "SELECT 'FROM t FOR SYSTEM_TIME AS OF x'",
        "SELECT 1 -- FROM t FOR SYSTEM_TIME ALL",
        "SELECT $$ FOR SYSTEM_TIME ALL $$, \"SYSTEM_TIME\"",
        "SELECT substring(s FROM 1 FOR system_time) FROM t",
        "SELECT substring(s FOR valid_time + 1) FROM t",
        "SELECT system_time, valid_time FROM t",
        "SELECT portion OF FROM t FOR UPDATE OF portion",
    ];
    for sql in cases {
        let rewritten = rewrite(sql).unwrap();
        assert!(
            matches!(rewritten.sql, Cow::Borrowed(s) if s == sql),
            "{sql}"
        );
        assert_eq!(rewritten.original_position(5), 5);
    }
}

#[test]
fn predicates_of_periods_compare_their_bounds() {
    let rewritten = [
        (
            "WHERE a._valid_time IMMEDIATELY PRECEDES PERIOD(x, y + 1) AND z",
            "WHERE (CASE WHEN a._system_from IS NULL THEN NULL ELSE (a._valid_to = (x)) IS TRUE END) AND z",
        ),
        (
            "WHERE _system_time CONTAINS now()",
            "WHERE (CASE WHEN _system_from IS NULL THEN NULL ELSE (now()) IS NOT NULL AND (_system_from IS NULL OR _system_from <= (now())) AND (_system_to IS NULL OR (now()) < _system_to) END)",
        ),
        (
            "ON PERIOD(a, b) * x._valid_time SUCCEEDS y._valid_time",
            "ON (CASE WHEN x._system_from IS NULL OR y._system_from IS NULL THEN NULL ELSE (y._valid_to <= greatest((a), x._valid_from)) IS TRUE END)",
        ),
        (
            "WHERE PERIOD(a, (SELECT x FROM u FOR VALID_TIME ALL AS t)) PRECEDES PERIOD(b, c)",
            "WHERE ((((SELECT x FROM u(__valid_all()) AS t)) <= (b)) IS TRUE)",
        ),
        (
            "WHERE PERIOD(a, b) CONTAINS (SELECT x FROM u FOR SYSTEM_TIME AS OF y)",
            "WHERE (((SELECT x FROM u(__sys_asof(y)))) IS NOT NULL AND ((a) IS NULL OR (a) <= ((SELECT x FROM u(__sys_asof(y))))) AND ((b) IS NULL OR ((SELECT x FROM u(__sys_asof(y)))) < (b)))",
        ),
        (
            "PRIMARY KEY (id, VALID_TIME WITHOUT OVERLAPS))",
            "PRIMARY KEY (id))",
        ),
    ];
    for (sql, expected) in rewritten {
        assert_eq!(rewrite(sql).unwrap().sql, expected);
    }
    let untouched = [
        "SELECT period(1), \"period\" FROM period",
        "SELECT '_valid_time'",
    ];
    for sql in untouched {
        assert_eq!(rewrite(sql).unwrap().sql, sql);
    }
}

#[test]
fn a_period_that_is_selected_has_its_name() {
    let named = |sql: &str| rewrite(sql).unwrap().sql.matches(" AS _valid_time").count();
    assert_eq!(named("SELECT _valid_time FROM t"), 1);
    assert_eq!(named("SELECT a, t._valid_time, b FROM t"), 1);
    assert_eq!(
        named("SELECT DISTINCT _valid_time FROM (SELECT _valid_time FROM t) x"),
        2
    );
    let others = [
        "SELECT _valid_time AS x FROM t",
        "SELECT f(a, _valid_time) FROM t",
        "SELECT a FROM t ORDER BY b, _valid_time",
        "SELECT a FROM t GROUP BY _valid_time",
        "SELECT _valid_time || '' FROM t",
        "SELECT a, _valid_time * PERIOD(x, y) FROM t",
    ];
    for sql in others {
        assert_eq!(named(sql), 0, "{sql}");
    }
}

#[test]
fn a_declared_period_is_carried_by_a_check() {
    let sql = "CREATE TABLE t (a TIMESTAMPTZ, \"B\" TIMESTAMPTZ, PERIOD FOR VALID_TIME (a, \"B\"))";
    let expected = "CREATE TABLE t (a TIMESTAMPTZ, \"B\" TIMESTAMPTZ, CONSTRAINT \"__period_valid_time\" CHECK (a < \"B\"))";
    assert_eq!(rewrite(sql).unwrap().sql, expected);
}

#[test]
fn the_target_of_a_change_takes_a_portion() {
    let rewritten = [
        (
            "UPDATE t FOR PORTION OF VALID_TIME FROM a TO b SET c = 1",
            "UPDATE t(__portion(a, b)) SET c = 1",
        ),
        (
            "DELETE FROM t FOR PORTION OF valid_time FROM now() TO NULL AS x WHERE x.a",
            "DELETE FROM t(__portion(now(), NULL)) AS x WHERE x.a",
        ),
        (
            "DELETE FROM t x FOR VALID_TIME ALL WHERE a",
            "DELETE FROM t(__portion(NULL, NULL)) x WHERE a",
        ),
        (
            "UPDATE t FOR ALL VALID_TIME SET c = 1",
            "UPDATE t(__portion(NULL, NULL)) SET c = 1",
        ),
    ];
    for (sql, expected) in rewritten {
        assert_eq!(rewrite(sql).unwrap().sql, expected);
    }
}

#[test]
fn refuses_what_no_table_argument_can_carry() {
    let unsupported = [
        "DELETE FROM t FOR PORTION OF p FROM a TO b",
        "DELETE FROM t FOR PORTION OF SYSTEM_TIME FROM a TO b",
        "SELECT * FROM t FOR PORTION OF VALID_TIME FROM a TO b",
        "UPDATE t FOR PORTION OF VALID_TIME FROM a TO b FOR VALID_TIME ALL SET c = 1",
        "UPDATE t FOR VALID_TIME FROM a TO b SET c = 1",
        "UPDATE t AS x FOR SYSTEM_TIME AS OF a SET c = 1",
        "INSERT INTO t FOR VALID_TIME FROM a TO b VALUES (1)",
        "FROM t FOR SYSTEM_TIME BETWEEN SYMMETRIC a AND b",
        "CREATE TABLE t (a int, PERIOD FOR SYSTEM_TIME (a, b))",
        "CREATE TABLE t (a int, b int, UNIQUE (a, VALID_TIME WITHOUT OVERLAPS))",
    ];
    for sql in unsupported {
        let error = rewrite(sql).unwrap_err();
        assert_eq!(error.code, SqlState::FEATURE_NOT_SUPPORTED, "{sql}");
        assert!(error.position > 0);
    }
    let wrong = [
        "FROM t FOR SYSTEM_TIME AS OF",
        "FROM t FOR SYSTEM_TIME AS x",
        "FROM t FOR SYSTEM_TIME AS OF WHERE a",
        "FROM t FOR SYSTEM_TIME AS OF ,",
        "FROM t FOR SYSTEM_TIME FROM a",
        "FROM t FOR SYSTEM_TIME FROM a AND b",
        "FROM t FOR SYSTEM_TIME BETWEEN a TO b",
        "FROM t FOR SYSTEM_TIME BETWEEN a AND",
        "FROM t FOR SYSTEM_TIME CONTAINED IN (a, b)",
        "FROM t FOR SYSTEM_TIME AS OF (a",
        "FROM t FOR SYSTEM_TIME AS OF CASE a",
        "FROM t FOR SYSTEM_TIME AS OF a::",
        "FROM (SELECT 1) FOR SYSTEM_TIME ALL",
        "FROM (SELECT 1) AS a FOR SYSTEM_TIME ALL",
        "FROM f(x) FOR SYSTEM_TIME ALL",
        "FROM f('x') AS a FOR SYSTEM_TIME ALL",
        "SELECT a FOR SYSTEM_TIME ALL",
        "FOR SYSTEM_TIME ALL",
        "t FOR SYSTEM_TIME ALL",
        "AS a FOR SYSTEM_TIME ALL",
        "FROM FOR SYSTEM_TIME ALL",
        "FROM t WHERE x = y FOR SYSTEM_TIME ALL",
        "FROM t FOR SYSTEM_TIME AS OF 'x",
        "SELECT 1 FROM t FOR FOR SYSTEM_TIME FROM a TO b",
        "SELECT 1 FROM t WHERE FOR SYSTEM_TIME ALL",
    ];
    for sql in wrong {
        let error = rewrite(sql).unwrap_err();
        assert_eq!(error.code, SqlState::SYNTAX_ERROR, "{sql}");
    }
    let error = rewrite("SELECT 1 FROM t FOR SYSTEM_TIME AS x").unwrap_err();
    assert_eq!(error.message, "syntax error at or near \"x\"");
    assert_eq!(error.position, 35);
}

#[test]
fn positions_lead_back() {
    let sql = "SELECT * FROM t AS a FOR SYSTEM_TIME AS OF wrong WHERE bad";
    let rewritten = rewrite(sql).unwrap();
    for word in ["SELECT", "t", "wrong", "AS a", "WHERE", "bad"] {
        let new = rewritten.sql.find(word).unwrap();
        assert_eq!(
            rewritten.original_position(new),
            sql.find(word).unwrap(),
            "{word}"
        );
    }
    let put_in = rewritten.sql.find("__sys_asof").unwrap();
    assert_eq!(
        rewritten.original_position(put_in + 3),
        sql.find("FOR").unwrap()
    );
    assert_eq!(rewritten.original_position(rewritten.sql.len()), sql.len());
}

#[test]
fn names_read_back() {
    assert_eq!(
        period_of("__valid_between"),
        Some((Period::Valid, Extent::Between))
    );
    assert_eq!(
        period_of("__sys_asof"),
        Some((Period::System, Extent::AsOf))
    );
    assert_eq!(period_of("sum"), None);
}

fn soup() -> impl Strategy<Value = String> {
    const PIECES: [&str; 38] = [
        "FOR",
        "SYSTEM_TIME",
        "VALID_TIME",
        "FOR SYSTEM_TIME",
        "FOR VALID_TIME",
        "ALL",
        "AS",
        "OF",
        "AS OF",
        "FROM",
        "FROM t",
        "TO",
        "BETWEEN",
        "AND",
        "t",
        "a",
        ",",
        "(",
        ")",
        "[",
        "]",
        ".",
        "::",
        "-",
        "'x'",
        "$1",
        "1",
        "CASE",
        "END",
        "JOIN",
        "UPDATE",
        "PORTION",
        "INTERVAL",
        "AT TIME ZONE",
        ";",
        "/* c */",
        "\"q\"",
        "WHERE",
    ];
    prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..24).prop_map(|p| p.join(" "))
}

proptest! {
    #[test]
    fn any_text_rewrites_or_fails(sql in prop_oneof![soup(), crate::lex::soup(), any::<String>()]) {
        match rewrite(&sql) {
            Ok(rewritten) => {
                for offset in 0..=rewritten.sql.len() {
                    prop_assert!(rewritten.original_position(offset) <= sql.len());
                }
                // No clause is left, so a second time changes nothing.
                let again = rewrite(&rewritten.sql).unwrap();
                prop_assert_eq!(&again.sql, &rewritten.sql);
            }
            Err(error) => prop_assert!(error.position <= sql.len()),
        }
    }
}
