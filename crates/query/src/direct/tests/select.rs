//! SELECT, the values of keys, and parameters.

use super::*;

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
