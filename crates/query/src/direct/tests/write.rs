//! INSERT, UPDATE and DELETE.

use super::*;

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
    for (rest, expected) in [
        ("ON CONFLICT DO NOTHING", OnConflict::DoNothingAtAll),
        ("ON CONFLICT (id) DO NOTHING", OnConflict::DoNothing),
        (
            "ON CONFLICT ON CONSTRAINT t_pkey DO NOTHING;",
            OnConflict::DoNothing,
        ),
    ] {
        let plan = planned(&format!("INSERT INTO t (id) VALUES (1) {rest}"));
        let DirectKind::Insert { on_conflict, .. } = plan.kind else {
            panic!("{plan:?}");
        };
        assert_eq!(on_conflict, expected);
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

#[test]
fn upserts_replace_columns() {
    let sql = "INSERT INTO t (id, name, note) VALUES ($1, $2, 'n'), (2, 'b', $3) ON CONFLICT (id) \
               DO UPDATE SET name = EXCLUDED.name, score = $4, qty = DEFAULT, small = NULL RETURNING id";
    let plan = planned(sql);
    let parameters = [Value::Int8(1), text("a"), text("m"), Value::Float8(0.5)];
    let BoundDirect::Upsert { rows, assignments } = plan.bind(&parameters).unwrap() else {
        panic!("{plan:?}");
    };
    assert_eq!(
        rows[1].key,
        Some(encode_key(&plan.table, &[Value::Int8(2)]).unwrap())
    );
    let mut old = rows[0].values.clone();
    (old[1], old[3], old[4], old[5]) = (text("old"), Value::Int4(9), text("kept"), Value::Int2(1));
    let mut new = old.clone();
    (new[1], new[2], new[3], new[5]) = (text("a"), Value::Float8(0.5), Value::Int4(5), Value::Null);
    let replaced = plan.replaced_row(&assignments, &old, &rows[0].values);
    assert_eq!(replaced.unwrap(), new);
    let constraint = "INSERT INTO t (id) VALUES (1) ON CONFLICT ON CONSTRAINT t_pkey DO UPDATE SET name = excluded.name";
    assert!(matches!(
        planned(constraint).kind,
        DirectKind::Upsert { .. }
    ));
    let null = planned("INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET qty = NULL");
    let BoundDirect::Upsert { rows, assignments } = null.bind(&[]).unwrap() else {
        panic!("{null:?}");
    };
    let error = null
        .replaced_row(&assignments, &old, &rows[0].values)
        .unwrap_err();
    assert_eq!(error.sqlstate().0, "23502");
}
