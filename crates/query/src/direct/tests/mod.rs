//! Tables of statements: what is planned and how, and what is left alone. Here:
//! the tables they speak of, and what holds for any text.

mod refused;
mod select;
mod write;

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
            attributes: Default::default(),
        });
    Arc::new(TableSchema {
        id: TableId(1),
        name: name.to_owned(),
        columns: columns.collect(),
        shape: Default::default(),
        rules: Default::default(),
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
        ..Catalog::default()
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
        BoundDirect::Insert { .. } | BoundDirect::Upsert { .. } => {
            panic!("an INSERT has many keys")
        }
    }
}

fn rows(sql: &str, parameters: &[Value]) -> Vec<Vec<Value>> {
    match planned(sql).bind(parameters).unwrap() {
        BoundDirect::Insert { rows } => rows.into_iter().map(|r| r.values).collect(),
        other => panic!("{other:?}"),
    }
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
