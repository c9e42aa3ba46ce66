//! The SH1 bitemporal benchmark, development size: 4,776 events in 25 transactions, twelve
//! questions asked in SQL, answers on which other systems agree.
//!
//! Events and answers are at `../shared/data/sh1`, relative to the repository; where they are
//! not, there is nothing to ask.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::node::{repository, Node};

const EPOCHS: usize = 25;

/// The valid day of most questions, and the window of the others.
const V: &str = "DATE '2020-01-01' + 166";
const W_FROM: &str = "DATE '2020-01-01' + 150";
const W_TO: &str = "DATE '2020-01-01' + 210";

const TABLES: [(&str, &[&str]); 3] = [
    ("contracts", &["id", "pid", "sid", "cost", "qty", "grade"]),
    ("products", &["id", "category", "retail"]),
    ("suppliers", &["id", "region", "tier"]),
];

fn number(event: &Value, name: &str) -> i64 {
    event[name]
        .as_i64()
        .unwrap_or_else(|| panic!("{event} has no {name}"))
}

/// One transaction of all events of an epoch.
fn transaction(events: &[Value]) -> String {
    let mut sql = String::from("BEGIN;");
    for (table, columns) in TABLES {
        let own = |e: &&Value| e["table"] == table;
        let puts: Vec<String> = events
            .iter()
            .filter(|e| own(e) && e["op"] == "put")
            .map(|e| {
                let values: Vec<String> =
                    columns.iter().map(|c| number(e, c).to_string()).collect();
                let (a, b) = (number(e, "a"), number(e, "b"));
                format!(
                    "({}, DATE '2020-01-01' + {a}, DATE '2020-01-01' + {b})",
                    values.join(", ")
                )
            })
            .collect();
        if !puts.is_empty() {
            let set: Vec<String> = columns[1..]
                .iter()
                .map(|c| format!("{c} = excluded.{c}"))
                .collect();
            write!(
                sql,
                "INSERT INTO {table} ({}, _valid_from, _valid_to) VALUES {} ON CONFLICT (id) DO UPDATE SET {};",
                columns.join(", "),
                puts.join(", "),
                set.join(", ")
            )
            .expect("a String takes everything");
        }
        for e in events.iter().filter(|e| own(e) && e["op"] == "delete") {
            let (a, b) = (number(e, "a"), number(e, "b"));
            write!(
                sql,
                "DELETE FROM {table} FOR PORTION OF VALID_TIME FROM DATE '2020-01-01' + {a} TO DATE '2020-01-01' + {b} WHERE id = {};",
                number(e, "id")
            )
            .expect("a String takes everything");
        }
    }
    sql.push_str("COMMIT");
    sql
}

/// A query's rows of whole numbers.
async fn ask(client: &Client, sql: &str) -> Vec<Vec<i64>> {
    let messages = client.simple_query(sql).await;
    let messages = messages.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let row = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            let cell = |i| row.get(i).expect("a value").parse().expect("a number");
            Some((0..row.len()).map(cell).collect())
        }
        _ => None,
    };
    messages.into_iter().filter_map(row).collect()
}

/// The answers to all questions; `at[e]` is a moment after the transaction of epoch `e`.
async fn answers(client: &Client, at: &[String]) -> BTreeMap<u32, Vec<Vec<i64>>> {
    let as_of = |epoch: usize| format!("FOR SYSTEM_TIME AS OF '{}'", at[epoch]);
    let on_v = format!("FOR VALID_TIME AS OF {V}");
    let in_w = format!("FOR VALID_TIME FROM {W_FROM} TO {W_TO}");
    let then = as_of(12);
    let mut found = BTreeMap::new();
    let questions = [
        (1, format!("SELECT id, cost, qty, grade FROM contracts {on_v} WHERE id = 1")),
        (2, format!("SELECT id, cost, qty, grade FROM contracts {then} {on_v} WHERE id = 1")),
        (3, format!("SELECT min(cost), max(cost), count(DISTINCT cost) FROM contracts {in_w} WHERE id = 1")),
        (4, format!(
            "SELECT n.id, o.cost, n.cost, o.qty, n.qty FROM contracts {on_v} n JOIN contracts {then} {on_v} AS o USING (id) \
             WHERE n.cost <> o.cost OR n.qty <> o.qty ORDER BY n.id"
        )),
        (7, format!("SELECT grade, count(*), sum(qty), sum(cost * qty) FROM contracts {on_v} GROUP BY grade ORDER BY grade")),
        (8, format!(
            "SELECT sid, grade, count(*), min(cost), max(cost) FROM contracts {then} {on_v} GROUP BY sid, grade ORDER BY sid, grade"
        )),
        (9, format!(
            "SELECT region, grade, count(*), sum(cost * qty) FROM contracts {on_v} c JOIN suppliers {on_v} s ON c.sid = s.id \
             GROUP BY region, grade ORDER BY region, grade"
        )),
        (10, format!(
            "SELECT category, count(DISTINCT c.id), min(retail - cost), max(retail - cost) \
             FROM contracts {in_w} c JOIN products {in_w} p ON c.pid = p.id \
             WHERE greatest(c._valid_from, p._valid_from, {W_FROM}) < least(c._valid_to, p._valid_to, {W_TO}) \
             GROUP BY category ORDER BY category"
        )),
        (11, format!(
            "SELECT day, grade, count(*), sum(cost * qty) FROM generate_series(150, 209) d(day) \
             JOIN contracts {in_w} c ON c._valid_from <= DATE '2020-01-01' + day AND c._valid_to > DATE '2020-01-01' + day \
             GROUP BY day, grade ORDER BY day, grade"
        )),
        (12, format!(
            "SELECT grade, count(*), sum(cost * qty) FROM contracts {then} {on_v} o \
             WHERE NOT EXISTS (SELECT 1 FROM contracts {} {on_v} l WHERE l.id = o.id) GROUP BY grade ORDER BY grade",
            as_of(18)
        )),
    ];
    for (number, sql) in questions {
        found.insert(number, ask(client, &sql).await);
    }
    for epoch in 0..EPOCHS {
        let then = as_of(epoch);
        let sql = format!("SELECT {epoch}, cost, qty FROM contracts {then} {on_v} WHERE id = 1");
        found.entry(5).or_default().extend(ask(client, &sql).await);
        let sql = format!(
            "SELECT {epoch}, grade, count(*), sum(qty) FROM contracts {then} {on_v} GROUP BY grade ORDER BY grade"
        );
        found.entry(6).or_default().extend(ask(client, &sql).await);
    }
    found
}

#[tokio::test]
async fn twelve_questions_have_the_known_answers() {
    let data = repository().join("../shared/data/sh1");
    let Ok(events) = std::fs::read_to_string(data.join("events.jsonl")) else {
        println!("no {}: nothing to ask", data.display());
        return;
    };
    let expected = std::fs::read_to_string(data.join("answers.json")).expect("answers");
    let expected: BTreeMap<u32, Vec<Vec<i64>>> = serde_json::from_str(&expected).expect("JSON");
    let mut epochs: Vec<Vec<Value>> = vec![Vec::new(); EPOCHS];
    for line in events.lines() {
        let event: Value = serde_json::from_str(line).expect("an event");
        epochs[number(&event, "epoch") as usize].push(event);
    }

    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let (client, connection) = tokio_postgres::connect(&node.url(), NoTls)
        .await
        .expect("a connection");
    tokio::spawn(connection);
    for (table, columns) in TABLES {
        let columns: Vec<String> = columns[1..].iter().map(|c| format!("{c} INT")).collect();
        let create = format!(
            "CREATE TABLE {table} (id INT PRIMARY KEY, {})",
            columns.join(", ")
        );
        client.batch_execute(&create).await.expect("a table");
    }
    let mut at = Vec::new();
    for events in &epochs {
        client
            .batch_execute(&transaction(events))
            .await
            .expect("an epoch");
        let now = client.query_one("SELECT now()::text", &[]).await;
        at.push(now.expect("the time").get(0));
    }
    assert_eq!(answers(&client, &at).await, expected, "from memory");
    client.batch_execute("COMPACT").await.expect("compaction");
    assert_eq!(answers(&client, &at).await, expected, "from segments");
}
