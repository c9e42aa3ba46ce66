//! Any text through everything in front of the SQL parser: tokens, statements,
//! temporal clauses, the direct path. It must not panic, and what it says of the
//! text must hold: tokens cover it, positions lie in it, a rewritten text has no
//! clause left.
//!
//! `just fuzz sql_front -dict=sql.dict`
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use chronos_model::{Catalog, ColumnSchema, DataType, TableId, TableOptions, TableSchema, Value};
use chronos_query::direct::BoundDirect;
use chronos_query::{direct, lex, temporal};
use libfuzzer_sys::fuzz_target;

/// One table of all types that a key may have, one of those that it may not.
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let keyed = [
        "int8",
        "text",
        "numeric(10,2)",
        "float4",
        "float8",
        "int2",
        "bool",
        "uuid",
        "date",
        "timestamptz",
        "bytea",
        "varchar(3)",
        "time",
        "timestamp",
        "int4",
    ];
    let other = ["jsonb", "interval", "int8[]", "vector(2)", "json", "text[]"];
    let tables = [
        table("t", &keyed, &[0]),
        table("u", &keyed, &[4, 1, 2]),
        table("v", &keyed, &[9, 7, 11, 3]),
        table("o", &other, &[]),
    ];
    Catalog {
        version: 1,
        next_table_id: 1,
        tables: tables
            .into_iter()
            .map(|t| (t.name.clone(), t))
            .collect::<BTreeMap<_, _>>(),
        ..Catalog::default()
    }
});

fn table(name: &str, types: &[&str], key: &[usize]) -> Arc<TableSchema> {
    let columns = types.iter().enumerate().map(|(index, t)| ColumnSchema {
        name: char::from(b'a' + index as u8).to_string(),
        data_type: DataType::parse(t).expect("a type"),
        nullable: !key.contains(&index),
        default: (index == 0).then(|| "7".to_owned()),
        attributes: Default::default(),
    });
    Arc::new(TableSchema {
        id: TableId(0),
        name: name.to_owned(),
        columns: columns.collect(),
        primary_key: key.to_vec(),
        options: TableOptions::default(),
        rules: Default::default(),
        shape: Default::default(),
    })
}

fuzz_target!(|sql: &str| {
    let mut end = 0;
    for token in lex::tokens(sql) {
        assert!(token.start >= end && token.end > token.start && token.end <= sql.len());
        end = token.end;
        let _ = lex::ident(&token, sql);
        let _ = lex::unescape_string(&token, sql);
    }
    let _ = lex::ends_in_statement(sql);
    match lex::split(sql) {
        Ok(spans) => {
            for span in spans {
                let statement = &sql[span.start..span.end];
                assert_eq!(lex::split(statement).map(|s| s.len()), Ok(1));
                plan(statement);
            }
        }
        Err(error) => assert!(lex::char_position(sql, error.position) as usize <= sql.len() + 1),
    }
    if let Ok(rewritten) = temporal::rewrite(sql) {
        for offset in 0..=rewritten.sql.len() {
            assert!(rewritten.original_position(offset) <= sql.len());
        }
        let again = temporal::rewrite(&rewritten.sql).expect("no clause is left");
        assert_eq!(again.sql, rewritten.sql);
    }
});

fn plan(statement: &str) {
    let Some(plan) = direct::plan(statement, &CATALOG) else {
        return;
    };
    let values: Vec<Value> = vec![Value::Text("1".into()); plan.parameters.len()];
    match plan.bind(&values) {
        Ok(BoundDirect::Update { assignments, .. }) => {
            let _ = plan.updated_row(&assignments, &[]);
        }
        Ok(_) => {}
        Err(error) => assert_eq!(error.sqlstate().0.len(), 5),
    }
}
