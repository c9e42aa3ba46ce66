//! What planning costs in front of the store: splitting, temporal clauses and
//! the direct path. Prints nanoseconds per statement; run it with
//! `cargo run --release -p chronos-query --no-default-features --example direct_bench`.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use chronos_model::{Catalog, ColumnSchema, DataType, TableId, TableOptions, TableSchema, Value};
use chronos_query::{direct, lex, temporal};

const BATCHES: u32 = 500;
const BATCH: u32 = 200;

fn main() {
    let catalog = catalog();
    let statements = [
        ("SELECT by $1", "SELECT name FROM users WHERE id = $1", 1),
        ("SELECT by constant", "SELECT name FROM users WHERE id = 12345", 0),
        ("SELECT 3 columns", "SELECT id, name, score FROM users WHERE id = 12345", 0),
        ("SELECT *, 6 columns", "SELECT * FROM users WHERE id = $1", 1),
        ("ORM SELECT", "SELECT \"users\".\"id\", \"users\".\"name\" FROM \"users\" WHERE \"users\".\"id\" = 7 LIMIT 21", 0),
        ("SELECT composite key", "SELECT value FROM readings WHERE device = 'dev-17' AND ts = '2024-05-06 07:08:09+00'", 0),
        ("INSERT $1..$3", "INSERT INTO readings (device, ts, value) VALUES ($1, $2, $3)", 3),
        ("INSERT constants", "INSERT INTO readings VALUES ('dev-17', '2024-05-06 07:08:09+00', 21.5)", 0),
        ("UPDATE", "UPDATE users SET visits = visits + 1 WHERE id = $1", 1),
        ("DELETE", "DELETE FROM users WHERE id = $1", 1),
        ("left alone", "SELECT device, avg(value) FROM readings WHERE ts > now() GROUP BY device ORDER BY 2", 0),
    ];
    println!(
        "{:<22}{:>8}{:>10}{:>8}{:>8}",
        "ns per statement", "split", "rewrite", "plan", "bind"
    );
    for (name, sql, parameters) in statements {
        let values: Vec<Value> = [Value::Int8(7), Value::TimestampTz(1), Value::Float8(1.0)]
            .into_iter()
            .map(|v| {
                if name.starts_with("INSERT") && v == Value::Int8(7) {
                    Value::Text("dev-17".into())
                } else {
                    v
                }
            })
            .take(parameters)
            .collect();
        let split = nanos(|| black_box(lex::split(black_box(sql))).is_ok());
        let rewrite = nanos(|| black_box(temporal::rewrite(black_box(sql))).is_ok());
        let plan = nanos(|| black_box(direct::plan(black_box(sql), &catalog)).is_some());
        let bind = match direct::plan(sql, &catalog) {
            Some(plan) => format!(
                "{:.0}",
                nanos(|| black_box(plan.bind(black_box(&values))).is_ok())
            ),
            None => "-".to_owned(),
        };
        println!("{name:<22}{split:>8.0}{rewrite:>10.0}{plan:>8.0}{bind:>8}");
    }
    let rows: Vec<String> = (0..1000)
        .map(|n| format!("('dev-{n}', '2024-05-06 07:08:09+00', {n}.5)"))
        .collect();
    let sql = format!("INSERT INTO readings VALUES {}", rows.join(", "));
    let plan = (0..50)
        .map(|_| {
            let started = Instant::now();
            black_box(direct::plan(black_box(&sql), &catalog));
            started.elapsed().as_nanos() as f64 / 1000.0
        })
        .fold(f64::INFINITY, f64::min);
    println!("INSERT of 1000 rows: {plan:.0} ns per row");
}

/// The best of many short batches: what others do on the machine is not ours.
fn nanos(mut run: impl FnMut() -> bool) -> f64 {
    (0..BATCHES)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..BATCH {
                black_box(run());
            }
            started.elapsed().as_nanos() as f64 / f64::from(BATCH)
        })
        .fold(f64::INFINITY, f64::min)
}

fn table(name: &str, columns: &[(&str, DataType)], key: &[usize]) -> Arc<TableSchema> {
    let columns = columns
        .iter()
        .enumerate()
        .map(|(index, (name, data_type))| ColumnSchema {
            name: (*name).to_owned(),
            data_type: data_type.clone(),
            nullable: !key.contains(&index),
            default: None,
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
    let users = [
        ("id", DataType::Int8),
        ("name", DataType::Text),
        ("email", DataType::Text),
        ("score", DataType::Float8),
        ("visits", DataType::Int8),
        ("created", DataType::TimestampTz),
    ];
    let readings = [
        ("device", DataType::Text),
        ("ts", DataType::TimestampTz),
        ("value", DataType::Float8),
    ];
    let tables = [
        table("users", &users, &[0]),
        table("readings", &readings, &[0, 1]),
    ];
    Catalog {
        version: 1,
        next_table_id: 3,
        tables: tables
            .into_iter()
            .map(|t| (t.name.clone(), t))
            .collect::<BTreeMap<_, _>>(),
        ..Catalog::default()
    }
}
