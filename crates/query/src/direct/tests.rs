//! Tables of statements: what is planned and how, and what is left alone.

use std::collections::BTreeMap;

use chronos_model::{encode_key, ColumnSchema, Decimal, TableId, TableOptions};
use proptest::prelude::*;

use super::*;

/// `columns` are `name type [default]`; `!` after the type: NOT NULL.
fn table(name: &str, columns: &[(&str, &str, Option<&str>)], key: &[usize]) -> Arc<TableSchema> {
    let columns = columns
        .iter()
        .map(|(name, data_type, default)| ColumnSchema {
            name: (*name).to_owned(),
            data_type: DataType::parse(data_type.trim_end_matches('!')).unwrap(),
            nullable: !data_type.ends_with('!'),
            default: default.map(str::to_owned),
        });
    Arc::new(TableSchema {
        id: TableId(1),
        name: name.to_owned(),
        columns: columns.collect(),
        primary_key: key.to_vec(),
        options: TableOptions::default(),
    })
}

fn catalog() -> Catalog {
    let tables = [
        table(
            "t",
            &[
                ("id", "int8!", None),
                ("name", "text", None),
                ("score", "float8", None),
                ("qty", "int4!", Some("5")),
                ("note", "varchar(5)", Some("'n/a'::text")),
                ("small", "int2", None),
                ("flag", "bool", Some("true")),
                ("price", "numeric(10,2)", None),
                ("at", "timestamptz", None),
            ],
            &[0],
        ),
        table(
            "readings",
            &[
                ("value", "float8", None),
                ("ts", "timestamptz!", None),
                ("device", "text!", None),
            ],
            &[2, 1],
        ),
        table(
            "log",
            &[("line", "text", None), ("n", "int8", Some("1"))],
            &[],
        ),
        table(
            "stamped",
            &[("id", "int8!", None), ("at", "timestamptz", Some("now()"))],
            &[0],
        ),
        table("num", &[("k", "numeric(10,2)!", None)], &[0]),
        table("wide", &[("k", "numeric(38,12)!", None)], &[0]),
        table("f4", &[("k", "float4!", None)], &[0]),
        table("f8", &[("k", "float8!", None)], &[0]),
        table("i2", &[("k", "int2!", None)], &[0]),
        table("vc", &[("k", "varchar(3)!", None)], &[0]),
        table("u", &[("k", "uuid!", None)], &[0]),
        table("b", &[("k", "bool!", None)], &[0]),
        table(
            "d",
            &[("date", "date!", None), ("user", "text", None)],
            &[0],
        ),
        table(
            "Odd \"name",
            &[("Key", "int8!", None), ("a", "text", None)],
            &[0],
        ),
        table("pg_class", &[("k", "int8!", None)], &[0]),
    ];
    let tables: BTreeMap<_, _> = tables.into_iter().map(|t| (t.name.clone(), t)).collect();
    Catalog {
        version: 1,
        next_table_id: 2,
        tables,
    }
}

fn planned(sql: &str) -> DirectPlan {
    plan(sql, &catalog()).unwrap_or_else(|| panic!("not planned: {sql}"))
}

fn text(s: &str) -> Value {
    Value::Text(s.to_owned())
}

fn decimal(unscaled: i128, scale: i8) -> Value {
    Value::Numeric(Decimal { unscaled, scale })
}

/// The key that a statement names when it is bound.
fn key_of(plan: &DirectPlan, parameters: &[Value]) -> Option<chronos_model::Key> {
    match plan.bind(parameters).unwrap() {
        BoundDirect::Get { key } | BoundDirect::Delete { key } => key,
        BoundDirect::Update { key, .. } => key,
        BoundDirect::Insert { .. } => panic!("an INSERT has many keys"),
    }
}

#[test]
fn selects_columns() {
    use ScanItem::{Column, System};
    let cases: [(&str, &[ScanItem], &[&str]); 12] = [
        ("SELECT id, name FROM t WHERE id = 1", &[Column(0), Column(1)], &["id", "name"]),
        ("select NAME from T where ID=1;", &[Column(1)], &["name"]),
        ("SELECT * FROM readings WHERE device = 'a' AND ts = '2024-01-01'", &[Column(0), Column(1), Column(2)], &["value", "ts", "device"]),
        ("SELECT r.*, r.ts AS \"At\" FROM readings r WHERE r.ts = '2024-01-01' AND r.device = 'a'", &[Column(0), Column(1), Column(2), Column(1)], &["value", "ts", "device", "At"]),
        ("SELECT t.name AS select, qty q FROM public.t WHERE t.id = 1", &[Column(1), Column(3)], &["select", "q"]),
        ("SELECT x.name FROM \"public\".\"t\" AS x WHERE x.id = 1", &[Column(1)], &["name"]),
        ("SELECT \"t\".\"name\" AS \"n\", name name2 FROM \"t\" WHERE \"t\".\"id\" = 1 LIMIT 21", &[Column(1), Column(1)], &["n", "name2"]),
        ("SELECT _system_from, _valid_to x, _key FROM t WHERE id = 1", &[System(SystemColumn::SystemFrom), System(SystemColumn::ValidTo), System(SystemColumn::Key)], &["_system_from", "x", "_key"]),
        ("SELECT a FROM \"Odd \"\"name\" WHERE \"Key\" = 1", &[Column(1)], &["a"]),
        ("SELECT date, \"user\", d.user FROM d WHERE date = date '2024-01-01'", &[Column(0), Column(1), Column(1)], &["date", "user", "user"]),
        ("/* a */ SELECT -- b\n id /* c */ FROM t WHERE ((id = 1)) -- d", &[Column(0)], &["id"]),
        ("SELECT k FROM public.pg_class WHERE 1 = k", &[Column(0)], &["k"]),
    ];
    for (sql, items, names) in cases {
        let plan = planned(sql);
        let DirectKind::Get {
            projection, limit, ..
        } = &plan.kind
        else {
            panic!("{sql}");
        };
        assert_eq!(projection, items, "{sql}");
        assert_eq!(*limit, None);
        let columns = plan.columns.unwrap();
        let got: Vec<_> = columns.fields().iter().map(|f| f.name().as_str()).collect();
        assert_eq!(got, names, "{sql}");
        for (field, item) in columns.fields().iter().zip(items) {
            let expected = match item {
                Column(c) => plan.table.columns[*c].data_type.clone(),
                System(c) => DataType::of_field(&c.arrow_field()),
            };
            assert_eq!(DataType::of_field(field), expected);
        }
    }
}

#[test]
fn finds_keys_equal_to_constants() {
    let uuid = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
    let cases = [
        ("t WHERE id = 42", Value::Int8(42)),
        ("t WHERE id = -42", Value::Int8(-42)),
        ("t WHERE id=+ 42", Value::Int8(42)),
        ("t WHERE 42 = id", Value::Int8(42)),
        ("t WHERE id = '42'", Value::Int8(42)),
        ("t WHERE id = ' -42 '", Value::Int8(-42)),
        ("t WHERE id = 1_000", Value::Int8(1000)),
        ("t WHERE id = 0xff", Value::Int8(255)),
        ("t WHERE id = -9223372036854775807", Value::Int8(-i64::MAX)),
        ("t WHERE id = '42'::int", Value::Int8(42)),
        ("t WHERE id = 42::int4", Value::Int8(42)),
        ("t WHERE id = $$42$$", Value::Int8(42)),
        ("t WHERE id = E'4\\x32'", Value::Int8(42)),
        ("vc WHERE k = 'abc'", text("abc")),
        ("vc WHERE k = 'abc  '", text("abc  ")),
        ("vc WHERE k = 'it''s longer'::text", text("it's longer")),
        ("vc WHERE k = 'a'\n'b'", text("ab")),
        ("vc WHERE k = character varying 'ab'", text("ab")),
        ("num WHERE k = 1.5", decimal(150, 2)),
        ("num WHERE k = '-1.50'", decimal(-150, 2)),
        ("num WHERE k = 7", decimal(700, 2)),
        ("num WHERE k = 1.5000", decimal(150, 2)),
        ("f4 WHERE k = 0.5", Value::Float4(0.5)),
        ("f4 WHERE k = '0.1'", Value::Float4(0.1)),
        ("f8 WHERE k = 0.1", Value::Float8(0.1)),
        ("f8 WHERE k = -1e3", Value::Float8(-1000.0)),
        ("f8 WHERE k = 3", Value::Float8(3.0)),
        ("f8 WHERE k = -0.0", Value::Float8(0.0)),
        ("i2 WHERE k = 7::int8", Value::Int2(7)),
        ("b WHERE k = TRUE", Value::Bool(true)),
        ("b WHERE k = 'f'", Value::Bool(false)),
        ("d WHERE date = '1970-01-02'", Value::Date(1)),
        ("d WHERE date = '1970-01-02'::date", Value::Date(1)),
    ];
    for (rest, value) in cases {
        let plan = planned(&format!("SELECT * FROM {rest}"));
        let expected = encode_key(&plan.table, &[value]).unwrap();
        assert_eq!(key_of(&plan, &[]), Some(expected), "{rest}");
        assert!(plan.parameters.is_empty());
    }
    let plan = planned(&format!(
        "DELETE FROM u WHERE k = '{{{}}}'",
        uuid.to_uppercase()
    ));
    let bytes = chronos_model::text::parse_uuid(uuid).unwrap();
    let expected = encode_key(&plan.table, &[Value::Uuid(bytes)]).unwrap();
    assert_eq!(key_of(&plan, &[]), Some(expected));
    let plan = planned("DELETE FROM readings WHERE ts = TIMESTAMP WITH TIME ZONE '1970-01-01 00:00:01+00' AND (device = 'x')");
    let key = [text("x"), Value::TimestampTz(1_000_000)];
    let expected = encode_key(&plan.table, &key).unwrap();
    assert_eq!(key_of(&plan, &[]), Some(expected));
}

#[test]
fn leaves_the_rest_to_the_general_planner() {
    let cases = [
        // Not one row by its whole key.
        "SELECT * FROM t",
        "SELECT * FROM t WHERE name = 'a'",
        "SELECT * FROM t WHERE id = 1 AND name = 'a'",
        "SELECT * FROM t WHERE id = 1 AND id = 2",
        "SELECT * FROM t WHERE id = 1 OR id = 2",
        "SELECT * FROM t WHERE id > 1",
        "SELECT * FROM t WHERE id IN (1)",
        "SELECT * FROM t WHERE NOT id = 1",
        "SELECT * FROM t WHERE id = id",
        "SELECT * FROM readings WHERE device = 'a'",
        "SELECT * FROM log WHERE line = 'a'",
        "SELECT * FROM t WHERE (id = 1",
        "SELECT * FROM t WHERE id = 1)",
        "SELECT * FROM t WHERE id = 1 AND",
        "SELECT * FROM t WHERE id = (1)",
        // Constants that are not of the column's type.
        "SELECT * FROM t WHERE id = 1.5",
        "SELECT * FROM t WHERE id = 1.0",
        "SELECT * FROM t WHERE id = 'abc'",
        "SELECT * FROM t WHERE id = ''",
        "SELECT * FROM t WHERE id = NULL",
        "SELECT * FROM t WHERE id IS NULL",
        "SELECT * FROM t WHERE id = true",
        "SELECT * FROM t WHERE id = 1e3",
        "SELECT * FROM t WHERE id = 99999999999999999999",
        "SELECT * FROM t WHERE id = 3000000000::int4",
        "SELECT * FROM t WHERE id = '1'::text",
        "SELECT * FROM t WHERE id = 1::int::int",
        "SELECT * FROM t WHERE id = -'1'",
        "SELECT * FROM t WHERE id = -1::int8",
        "SELECT * FROM t WHERE id = - -1",
        "SELECT * FROM i2 WHERE k = 70000",
        "SELECT * FROM vc WHERE k = 5",
        "SELECT * FROM vc WHERE k = 'abcd'::varchar(3)",
        "SELECT * FROM vc WHERE k = 'abcd'::char",
        "SELECT * FROM vc WHERE k = B'1'",
        "SELECT * FROM vc WHERE k = U&'a'",
        "SELECT * FROM vc WHERE k = N'a'",
        "SELECT * FROM num WHERE k = 1.555",
        "SELECT * FROM num WHERE k = '1.555'",
        "SELECT * FROM num WHERE k = 1.555::numeric(10,2)",
        "SELECT * FROM num WHERE k = 123456789.5",
        "SELECT * FROM f4 WHERE k = 0.1",
        "SELECT * FROM f8 WHERE k = 1e400",
        "SELECT * FROM wide WHERE k = $1",
        "SELECT * FROM d WHERE date = '2024-01-01'::timestamp",
        "SELECT * FROM d WHERE date = 'today'",
        "SELECT * FROM d WHERE date = 5",
        "SELECT * FROM u WHERE k = 'x'",
        "SELECT * FROM b WHERE k = 1",
        // Names.
        "SELECT * FROM nope WHERE id = 1",
        "SELECT nope FROM t WHERE id = 1",
        "SELECT * FROM t WHERE nope = 1",
        "SELECT * FROM other.t WHERE id = 1",
        "SELECT * FROM information_schema.t WHERE id = 1",
        "SELECT * FROM a.public.t WHERE id = 1",
        "SELECT * FROM \"T\" WHERE id = 1",
        "SELECT \"ID\" FROM t WHERE id = 1",
        "SELECT t.name FROM t x WHERE id = 1",
        "SELECT name FROM t x WHERE t.id = 1",
        "SELECT x.name FROM t WHERE id = 1",
        "SELECT user FROM d WHERE date = '2024-01-01'",
        "SELECT k FROM pg_class WHERE k = 1",
        "SELECT id day FROM t WHERE id = 1",
        "SELECT current_date FROM t WHERE id = 1",
        // More than columns of one table.
        "SELECT FROM t WHERE id = 1",
        "SELECT id, FROM t WHERE id = 1",
        "SELECT DISTINCT id FROM t WHERE id = 1",
        "SELECT ALL id FROM t WHERE id = 1",
        "SELECT count(*) FROM t WHERE id = 1",
        "SELECT id + 1 FROM t WHERE id = 1",
        "SELECT 1 FROM t WHERE id = 1",
        "SELECT 'a' FROM t WHERE id = 1",
        "SELECT id::text FROM t WHERE id = 1",
        "SELECT (id) FROM t WHERE id = 1",
        "SELECT t FROM t WHERE id = 1",
        "SELECT -id FROM t WHERE id = 1",
        "SELECT id * FROM t WHERE id = 1",
        "SELECT * id FROM t WHERE id = 1",
        "SELECT * FROM t, log WHERE id = 1",
        "SELECT * FROM t JOIN log ON true WHERE id = 1",
        "SELECT * FROM t NATURAL JOIN log WHERE id = 1",
        "SELECT * FROM ONLY t WHERE id = 1",
        "SELECT * FROM (t) WHERE id = 1",
        "SELECT * FROM t a (x) WHERE id = 1",
        "SELECT * INTO x FROM t WHERE id = 1",
        "SELECT * FROM t FOR SYSTEM_TIME AS OF '2024-01-01' WHERE id = 1",
        "SELECT * FROM t x FOR SYSTEM_TIME ALL WHERE id = 1",
        "SELECT * FROM t(__sys_all()) WHERE id = 1",
        "SELECT * FROM t WHERE id = 1 FOR UPDATE",
        "SELECT * FROM t WHERE id = 1 ORDER BY id",
        "SELECT * FROM t WHERE id = 1 OFFSET 1",
        "SELECT * FROM t WHERE id = 1 LIMIT 1 OFFSET 1",
        "SELECT * FROM t WHERE id = 1 LIMIT -1",
        "SELECT * FROM t WHERE id = 1 LIMIT ALL",
        "SELECT * FROM t WHERE id = 1 LIMIT 1.5",
        "SELECT * FROM t WHERE id = 1 GROUP BY id",
        "SELECT * FROM t WHERE id = 1 UNION SELECT * FROM t",
        "SELECT * FROM t WHERE id = 1 + 1",
        "SELECT * FROM t WHERE id = f(1)",
        "SELECT * FROM t WHERE id = (SELECT 1)",
        "WITH x AS (SELECT 1) SELECT * FROM t WHERE id = 1",
        "SELECT * FROM t WHERE id = 1; SELECT 1",
        "SELECT * FROM t WHERE id = 1;;",
        "EXPLAIN SELECT * FROM t WHERE id = 1",
        "SELECT * FROM t WHERE id = 'open",
        "",
        ";",
        "SELECT",
        "TABLE t",
        // Parameters.
        "SELECT * FROM t WHERE id = $2",
        "SELECT * FROM t WHERE id = $0",
        "SELECT * FROM t WHERE id = $99999999999999999999",
        "SELECT * FROM t WHERE id = $60000",
        "SELECT * FROM t WHERE id = $1::text",
        "SELECT * FROM t WHERE id = ?",
        "DELETE FROM readings WHERE device = $1 AND ts = $1",
        // INSERT.
        "INSERT INTO t (id, id) VALUES (1, 2)",
        "INSERT INTO t (nope) VALUES (1)",
        "INSERT INTO t (id, name) VALUES (1)",
        "INSERT INTO t (id) VALUES (1, 2)",
        "INSERT INTO log VALUES ('a', 1, 2)",
        "INSERT INTO log VALUES ('a'), ('b', 2)",
        "INSERT INTO t DEFAULT VALUES",
        "INSERT INTO t SELECT 1",
        "INSERT INTO t (id) VALUES ()",
        "INSERT INTO t () VALUES ()",
        "INSERT INTO t AS x (id) VALUES (1)",
        "INSERT INTO t (id) OVERRIDING SYSTEM VALUE VALUES (1)",
        "INSERT INTO t (id) VALUES (1) + 1",
        "INSERT INTO t (id) VALUES (1 + 1)",
        "INSERT INTO t (id) VALUES (now())",
        "INSERT INTO t (id) VALUES (true)",
        "INSERT INTO t (id) VALUES ('a')",
        "INSERT INTO t (id, small) VALUES (1, 70000)",
        "INSERT INTO t (id, note) VALUES (1, 'too long')",
        "INSERT INTO t (id, name) VALUES (1, true)",
        "INSERT INTO t (id, flag) VALUES (1, 1)",
        "INSERT INTO t (id, at) VALUES (1, 'now')",
        "INSERT INTO t (id, at) VALUES (1, 5)",
        "INSERT INTO stamped (id) VALUES (1)",
        "INSERT INTO stamped VALUES (1, DEFAULT)",
        "INSERT INTO t (id) VALUES (1) ON CONFLICT DO UPDATE SET id = 1",
        "INSERT INTO t (id) VALUES (1) ON CONFLICT (name) DO NOTHING",
        "INSERT INTO t (id) VALUES (1) ON CONFLICT (id, name) DO NOTHING",
        "INSERT INTO log (n) VALUES (1) ON CONFLICT (n) DO NOTHING",
        "INSERT INTO t (id) VALUES (1) ON CONFLICT ON CONSTRAINT other DO NOTHING",
        "INSERT INTO t (id) VALUES (1) RETURNING id + 1",
        "INSERT INTO t (id) VALUES (1) RETURNING _system_from",
        "INSERT INTO t (_valid_from) VALUES ('2024-01-01')",
        // UPDATE and DELETE.
        "UPDATE t SET name = 'a'",
        "UPDATE t SET id = 2 WHERE id = 1",
        "UPDATE t SET name = 'a', name = 'b' WHERE id = 1",
        "UPDATE t SET t.name = 'a' WHERE id = 1",
        "UPDATE t SET (name) = ('a') WHERE id = 1",
        "UPDATE t SET name = upper(name) WHERE id = 1",
        "UPDATE t SET qty = qty * 2 WHERE id = 1",
        "UPDATE t SET qty = qty WHERE id = 1",
        "UPDATE t SET qty = qty + 1 + 1 WHERE id = 1",
        "UPDATE t SET qty = qty + 1.5 WHERE id = 1",
        "UPDATE t SET qty = small + 1 WHERE id = 1",
        "UPDATE t SET score = score + 1 WHERE id = 1",
        "UPDATE t SET qty = 1 + qty WHERE id = 1",
        "UPDATE t SET name = 'a' FROM log WHERE id = 1",
        "UPDATE ONLY t SET name = 'a' WHERE id = 1",
        "UPDATE t FOR PORTION OF VALID_TIME FROM 1 TO 2 SET name = 'a' WHERE id = 1",
        "UPDATE t SET name = 'a' WHERE CURRENT OF c",
        "UPDATE stamped SET at = DEFAULT WHERE id = 1",
        "DELETE FROM t",
        "DELETE FROM t USING log WHERE id = 1",
        "DELETE FROM t WHERE id = 1 LIMIT 1",
        "DELETE t WHERE id = 1",
        "DELETE FROM t WHERE id = 1 RETURNING _key",
    ];
    let catalog = catalog();
    for sql in cases {
        assert_eq!(plan(sql, &catalog), None, "{sql}");
    }
}

#[test]
fn infers_parameters() {
    let cases: [(&str, &[DataType]); 9] = [
        ("SELECT * FROM t WHERE id = $1", &[DataType::Int8]),
        ("SELECT * FROM t WHERE id = $1::int4", &[DataType::Int4]),
        (
            "SELECT * FROM t WHERE id = $1 LIMIT $2",
            &[DataType::Int8, DataType::Int8],
        ),
        ("SELECT * FROM vc WHERE k = $1", &[DataType::Text]),
        (
            "SELECT * FROM vc WHERE k = $1::varchar",
            &[DataType::Varchar(None)],
        ),
        ("SELECT * FROM num WHERE $1 = k", &[DataType::Numeric(None)]),
        (
            "DELETE FROM readings WHERE ts = $2 AND device = $1",
            &[DataType::Text, DataType::TimestampTz],
        ),
        (
            "INSERT INTO t (note, id, price) VALUES ($2, $1, $3), ($2, 7, 1)",
            &[
                DataType::Int8,
                DataType::Varchar(Some(5)),
                DataType::Numeric(Some((10, 2))),
            ],
        ),
        (
            "UPDATE t SET name = $1, qty = qty + $2 WHERE id = $3",
            &[DataType::Text, DataType::Int4, DataType::Int8],
        ),
    ];
    for (sql, types) in cases {
        assert_eq!(planned(sql).parameters, types, "{sql}");
    }
}

#[test]
fn takes_declared_types_that_mean_the_same() {
    let catalog = catalog();
    let with = |sql: &str, t: DataType| plan_declared(sql, &catalog, &[Some(t)]);
    for (sql, t) in [
        ("SELECT * FROM t WHERE id = $1", DataType::Int2),
        ("SELECT * FROM t WHERE id = $1", DataType::Numeric(None)),
        ("SELECT * FROM vc WHERE k = $1", DataType::Varchar(None)),
        ("SELECT * FROM f8 WHERE k = $1", DataType::Int4),
        ("INSERT INTO t (id, name) VALUES (1, $1)", DataType::Int4),
        (
            "INSERT INTO t (id, score) VALUES (1, $1)",
            DataType::Numeric(None),
        ),
    ] {
        assert_eq!(with(sql, t.clone()).unwrap().parameters, [t], "{sql}");
    }
    for (sql, t) in [
        ("SELECT * FROM t WHERE id = $1", DataType::Float8),
        ("SELECT * FROM t WHERE id = $1", DataType::Text),
        ("SELECT * FROM u WHERE k = $1", DataType::Text),
        ("SELECT * FROM t WHERE id = $1::int8", DataType::Int4),
        ("INSERT INTO t (id, qty) VALUES (1, $1)", DataType::Text),
        ("INSERT INTO t (id, at) VALUES (1, $1)", DataType::Timestamp),
        ("SELECT * FROM t WHERE id = 1", DataType::Int8),
    ] {
        assert_eq!(with(sql, t), None, "{sql}");
    }
    let sql = "SELECT * FROM t WHERE id = $1";
    assert_eq!(
        plan_declared(sql, &catalog, &[None]).unwrap().parameters,
        [DataType::Int8]
    );
    assert_eq!(plan_declared(sql, &catalog, &[None, None]), None);
}

#[test]
fn binds_parameters_of_keys() {
    let key = |plan: &DirectPlan, value: Value| Some(encode_key(&plan.table, &[value]).unwrap());
    let plan = planned("SELECT * FROM i2 WHERE k = $1::int8");
    assert_eq!(key_of(&plan, &[Value::Int8(7)]), key(&plan, Value::Int2(7)));
    assert_eq!(key_of(&plan, &[Value::Int8(70_000)]), None);
    assert_eq!(key_of(&plan, &[Value::Null]), None);
    let plan = planned("SELECT * FROM num WHERE k = $1");
    assert_eq!(
        key_of(&plan, &[decimal(15_000, 4)]),
        key(&plan, decimal(150, 2))
    );
    assert_eq!(key_of(&plan, &[decimal(1555, 3)]), None);
    assert_eq!(key_of(&plan, &[decimal(1_000_000_000, 1)]), None);
    let plan = planned("SELECT * FROM t WHERE id = $1");
    assert_eq!(key_of(&plan, &[text("12")]), key(&plan, Value::Int8(12)));
    assert_eq!(plan.bind(&[text("x")]).unwrap_err().sqlstate().0, "22P02");
    assert_eq!(plan.bind(&[]).unwrap_err().sqlstate().0, "08P01");
    let plan = planned("SELECT * FROM t WHERE id = 1 LIMIT $1");
    assert!(key_of(&plan, &[Value::Int8(1)]).is_some());
    assert!(key_of(&plan, &[Value::Null]).is_some());
    assert_eq!(key_of(&plan, &[Value::Int8(0)]), None);
    assert_eq!(
        plan.bind(&[Value::Int8(-1)]),
        Err(DirectError::NegativeLimit)
    );
    assert_eq!(
        key_of(&planned("SELECT * FROM t WHERE id = 1 LIMIT 0"), &[]),
        None
    );
}

fn rows(sql: &str, parameters: &[Value]) -> Vec<Vec<Value>> {
    match planned(sql).bind(parameters).unwrap() {
        BoundDirect::Insert { rows } => rows.into_iter().map(|r| r.values).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn inserts_values_as_their_columns_hold_them() {
    let n = Value::Null;
    let default = |id: i64| {
        vec![
            Value::Int8(id),
            n.clone(),
            n.clone(),
            Value::Int4(5),
            text("n/a"),
            n.clone(),
            Value::Bool(true),
            n.clone(),
            n.clone(),
        ]
    };
    let with = |id: i64, changes: &[(usize, Value)]| {
        let mut row = default(id);
        for (column, value) in changes {
            row[*column] = value.clone();
        }
        row
    };
    assert_eq!(rows("INSERT INTO t VALUES (1)", &[]), [default(1)]);
    assert_eq!(
        rows("INSERT INTO t VALUES (1, DEFAULT, NULL, DEFAULT)", &[]),
        [default(1)]
    );
    let cases = [
        (
            "(id, name) VALUES (1, 'a''b')",
            with(1, &[(1, text("a'b"))]),
        ),
        ("(name, id) VALUES (-7, '1')", with(1, &[(1, text("-7"))])),
        ("(name, id) VALUES (007, 1.5)", with(2, &[(1, text("7"))])),
        (
            "(id, name) VALUES (2, -1.50)",
            with(2, &[(1, text("-1.50"))]),
        ),
        (
            "(id, score) VALUES (1, 1)",
            with(1, &[(2, Value::Float8(1.0))]),
        ),
        (
            "(id, score) VALUES (1, .1)",
            with(1, &[(2, Value::Float8(0.1))]),
        ),
        (
            "(id, score) VALUES (1, '1e3')",
            with(1, &[(2, Value::Float8(1000.0))]),
        ),
        (
            "(id, note) VALUES (1, 'abcde  ')",
            with(1, &[(4, text("abcde"))]),
        ),
        (
            "(id, note, flag) VALUES (1, NULL, false)",
            with(1, &[(4, Value::Null), (6, Value::Bool(false))]),
        ),
        (
            "(id, price) VALUES (1, 1.555)",
            with(1, &[(7, decimal(156, 2))]),
        ),
        (
            "(id, price) VALUES (1, '1.555')",
            with(1, &[(7, decimal(156, 2))]),
        ),
        (
            "(id, small) VALUES (1, 2.5)",
            with(1, &[(5, Value::Int2(3))]),
        ),
        (
            "(id, at) VALUES (1, '1970-01-01 00:00:01+00')",
            with(1, &[(8, Value::TimestampTz(1_000_000))]),
        ),
    ];
    for (rest, expected) in cases {
        assert_eq!(
            rows(&format!("INSERT INTO t {rest}"), &[]),
            [expected],
            "{rest}"
        );
    }
    assert_eq!(
        rows(
            "INSERT INTO public.t (id, name) VALUES ($1, $2), ($3, 'z') ON CONFLICT DO NOTHING",
            &[Value::Int8(1), text("x"), Value::Int8(2)]
        ),
        [with(1, &[(1, text("x"))]), with(2, &[(1, text("z"))])]
    );
    assert_eq!(
        rows("INSERT INTO log (line) VALUES ('a')", &[]),
        [[text("a"), Value::Int8(1)]]
    );
    let many: Vec<String> = (0..10_000).map(|n| format!("({n})")).collect();
    assert_eq!(
        rows(
            &format!("INSERT INTO t (id) VALUES {}", many.join(",")),
            &[]
        )
        .len(),
        10_000
    );
}

#[test]
fn inserts_know_keys_and_conflicts() {
    let sql = "INSERT INTO readings (device, value, ts) VALUES ('d', 1.5, $1) ON CONFLICT (ts, device) DO NOTHING RETURNING ts, device AS d";
    let plan = planned(sql);
    let DirectKind::Insert {
        on_conflict,
        returning,
        ..
    } = &plan.kind
    else {
        panic!("{plan:?}");
    };
    assert_eq!(*on_conflict, OnConflict::DoNothing);
    assert_eq!(returning.as_deref(), Some([1, 2].as_slice()));
    assert_eq!(plan.columns.as_ref().unwrap().field(1).name(), "d");
    let BoundDirect::Insert { rows } = plan.bind(&[Value::TimestampTz(5)]).unwrap() else {
        panic!("{plan:?}");
    };
    let key = [text("d"), Value::TimestampTz(5)];
    assert_eq!(rows[0].key, Some(encode_key(&plan.table, &key).unwrap()));
    for rest in [
        "ON CONFLICT DO NOTHING",
        "ON CONFLICT (id) DO NOTHING",
        "ON CONFLICT ON CONSTRAINT t_pkey DO NOTHING;",
    ] {
        let plan = planned(&format!("INSERT INTO t (id) VALUES (1) {rest}"));
        assert!(matches!(
            plan.kind,
            DirectKind::Insert {
                on_conflict: OnConflict::DoNothing,
                ..
            }
        ));
    }
    let plan = planned("INSERT INTO log VALUES ('a')");
    assert_eq!(plan.columns, None);
    let BoundDirect::Insert { rows } = plan.bind(&[]).unwrap() else {
        panic!("{plan:?}");
    };
    assert_eq!(rows[0].key, None);
}

#[test]
fn null_where_it_may_not_be() {
    let error = planned("INSERT INTO t (id, name, qty) VALUES (1, $1, NULL)")
        .bind(&[text("é".repeat(40).as_str())])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "null value in column \"qty\" of relation \"t\" violates not-null constraint"
    );
    assert_eq!(error.sqlstate().0, "23502");
    let shown = "é".repeat(32);
    assert_eq!(
        error.detail().unwrap(),
        format!("Failing row contains (1, {shown}..., null, null, n/a, null, t, null, null).")
    );
    let error = planned("INSERT INTO t (name) VALUES ('a')")
        .bind(&[])
        .unwrap_err();
    assert!(matches!(error, DirectError::NotNull { column, .. } if column == "id"));
    let error = planned("INSERT INTO t (id, note) VALUES (1, $1)")
        .bind(&[text("too long")])
        .unwrap_err();
    assert_eq!(error.sqlstate().0, "22001");
}

#[test]
fn updates_rows() {
    let sql = "UPDATE t AS x SET name = 'b', qty = qty - $1, small = x.small + 1, note = DEFAULT WHERE x.id = 1 RETURNING *";
    let plan = planned(sql);
    assert_eq!(plan.columns.as_ref().unwrap().fields().len(), 9);
    let old = |small| {
        vec![
            Value::Int8(1),
            text("a"),
            Value::Null,
            Value::Int4(10),
            Value::Null,
            small,
            Value::Null,
            Value::Null,
            Value::Null,
        ]
    };
    let update = |quantity: Value, small: Value| {
        let BoundDirect::Update { key, assignments } = plan.bind(&[quantity])? else {
            panic!("{plan:?}");
        };
        assert!(key.is_some());
        plan.updated_row(&assignments, &old(small))
    };
    let new = update(Value::Int4(3), Value::Int2(4)).unwrap();
    assert_eq!(
        new[..6],
        [
            Value::Int8(1),
            text("b"),
            Value::Null,
            Value::Int4(7),
            text("n/a"),
            Value::Int2(5)
        ]
    );
    let new = update(Value::Int4(3), Value::Null).unwrap();
    assert_eq!(new[5], Value::Null);
    let error = update(Value::Int4(3), Value::Int2(i16::MAX)).unwrap_err();
    assert_eq!(error.sqlstate().0, "22003");
    let error = update(Value::Null, Value::Null).unwrap_err();
    assert!(matches!(error, DirectError::NotNull { column, .. } if column == "qty"));

    let plan = planned("update t set name = null where id = $1");
    let BoundDirect::Update { key, assignments } = plan.bind(&[Value::Null]).unwrap() else {
        panic!("{plan:?}");
    };
    assert_eq!(key, None);
    // A row from before columns were added.
    let short = [Value::Int8(1), text("a"), Value::Null, Value::Int4(1)];
    assert_eq!(plan.updated_row(&assignments, &short).unwrap().len(), 9);
}

#[test]
fn deletes_rows() {
    let plan = planned("DELETE FROM t x WHERE x.id = $1 RETURNING x.name, id AS i;");
    let DirectKind::Delete { returning, .. } = &plan.kind else {
        panic!("{plan:?}");
    };
    assert_eq!(returning.as_deref(), Some([1, 0].as_slice()));
    assert!(key_of(&plan, &[Value::Int8(1)]).is_some());
}

fn soup() -> impl Strategy<Value = String> {
    const PIECES: [&str; 60] = [
        "SELECT",
        "INSERT INTO",
        "UPDATE",
        "DELETE FROM",
        "t",
        "readings",
        "log",
        "FROM t",
        "WHERE",
        "WHERE id =",
        "id",
        "name",
        "qty",
        "small",
        "price",
        "score",
        "at",
        "=",
        ",",
        "(",
        ")",
        "VALUES",
        "VALUES (",
        "SET",
        "AND",
        "AS",
        ".",
        "*",
        "1",
        "-1",
        "'1'",
        "'x'",
        "1.5",
        "1e5",
        "$1",
        "$2",
        "::",
        "int8",
        "::text",
        "NULL",
        "TRUE",
        "DEFAULT",
        "RETURNING",
        "ON CONFLICT",
        "DO NOTHING",
        "LIMIT 1",
        "LIMIT $1",
        ";",
        "-",
        "+",
        "date",
        "date '2024-01-01'",
        "public",
        "E'\\'",
        "'",
        "\"",
        "--\n",
        "/* */",
        "99999999999999999999999999999999999999999",
        "0xffffffffffffffff",
    ];
    prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..20).prop_map(|p| p.join(" "))
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Int8),
        any::<f64>().prop_map(Value::Float8),
        any::<String>().prop_map(Value::Text),
        (any::<i128>(), any::<i8>())
            .prop_map(|(unscaled, scale)| Value::Numeric(Decimal { unscaled, scale })),
    ]
}

proptest! {
    #[test]
    fn any_text_plans_or_not(
        sql in prop_oneof![soup(), crate::lex::soup(), any::<String>()],
        values in prop::collection::vec(any_value(), 3),
    ) {
        if let Some(plan) = plan(&sql, &catalog()) {
            if let Ok(BoundDirect::Update { assignments, .. }) = plan.bind(&values) {
                let _ = plan.updated_row(&assignments, &[]);
            }
        }
    }

    #[test]
    fn constants_and_parameters_bind_alike(id: i64, name: String, score: f64, small: i16) {
        prop_assume!(id != i64::MIN && score.is_finite());
        let quoted = name.replace('\'', "''");
        let constants = rows(&format!("INSERT INTO t (id, name, score, small) VALUES ({id}, '{quoted}', {score:?}, '{small}')"), &[]);
        let parameters = rows(
            "INSERT INTO t (id, name, score, small) VALUES ($1, $2, $3, $4)",
            &[Value::Int8(id), Value::Text(name), Value::Float8(score + 0.0), Value::Int2(small)],
        );
        prop_assert_eq!(constants, parameters);
        let by_constant = planned(&format!("SELECT * FROM t WHERE id = {id}"));
        let by_parameter = planned("SELECT * FROM t WHERE id = $1");
        prop_assert_eq!(key_of(&by_constant, &[]), key_of(&by_parameter, &[Value::Int8(id)]));
    }
}
