//! Joins by periods: overlaps of 100,000 with 100,000 stretches of time, one in a thousand of them
//! long, alone and within a key, and moments in such stretches.
//!
//! Beside Chronos runs DuckDB, by its Python module, in a process of its own and in memory: the
//! same statements, and its answers are those that are expected. PostgreSQL and SQLite compare
//! each row with each, which is 10^10 pairs, and are not asked.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{json, Value};

use super::Bench;
use crate::error::Result;
use crate::peer::{Kind, Peer};
use crate::report::Unit;
use crate::sample::median;

const SCRIPT: &str = include_str!("periods.py");

const ROWS: u64 = 100_000;

const QUESTIONS: [(&str, &str); 3] = [
    (
        "overlap",
        "SELECT count(*) FROM pa a JOIN pb b ON a.x < b.y AND b.x < a.y",
    ),
    (
        "overlap within one of 10 keys",
        "SELECT count(*) FROM pa a JOIN pb b ON a.k = b.k AND a.x < b.y AND b.x < a.y",
    ),
    (
        "moment in a period",
        "SELECT count(*) FROM pa a JOIN pb b ON b.x >= a.x AND b.x < a.y",
    ),
];

/// Stretches of up to half an hour in two years, one in a thousand of them over a month.
fn setup() -> Vec<String> {
    let table = |name: &str, step: u64| {
        let begin = format!(
            "TIMESTAMP '2020-01-01 00:00:00' + (g * {step} % 1000003) * INTERVAL '1 minute'"
        );
        let minutes = format!("CASE WHEN g % 1000 = 0 THEN 50000 ELSE 1 + g * {step} % 30 END");
        [
            format!("CREATE TABLE {name} (n BIGINT, k BIGINT, x TIMESTAMP, y TIMESTAMP)"),
            format!(
                "INSERT INTO {name} SELECT g, g % 10, {begin}, {begin} + ({minutes}) * INTERVAL '1 minute' \
                 FROM generate_series(1, {ROWS}) s(g)"
            ),
        ]
    };
    [table("pa", 7919), table("pb", 104_729)].concat()
}

/// What one of them has found.
struct Found {
    answer: String,
    millis: f64,
}

/// Asks both, and prints the figures beside each other.
pub(crate) fn run(bench: &mut Bench<'_>, python: &str) {
    let reps = bench.scale.reps;
    let duckdb = match duckdb(python, reps) {
        Ok(found) => found,
        Err(error) => {
            println!("periods: DuckDB is left out: {error}");
            None
        }
    };
    bench.each("periods", |peer, report| {
        if peer.kind() != Kind::Chronos {
            return Ok(());
        }
        for statement in setup() {
            peer.query(&statement)?;
        }
        for (position, (name, sql)) in QUESTIONS.iter().enumerate() {
            let found = ask(peer, sql, reps)?;
            let rows = format!("{name}, {ROWS} x {ROWS}");
            report.add("periods", &rows, Unit::Millis, Kind::Chronos, found.millis);
            let mut line = format!("periods: {rows}: {} pairs", found.answer);
            line += &format!(", chronos {:.0} ms", found.millis);
            if let Some(other) = duckdb.as_ref().and_then(|all| all.1.get(position)) {
                let version = duckdb.as_ref().map_or("", |all| all.0.as_str());
                line += &format!(", duckdb {version} {:.0} ms", other.millis);
                if other.answer != found.answer {
                    report.note(format!(
                        "chronos: WRONG: {rows}: {} instead of {}",
                        found.answer, other.answer
                    ));
                }
            }
            println!("{line}");
        }
        Ok(())
    });
}

fn ask(peer: &mut dyn Peer, sql: &str, reps: usize) -> Result<Found> {
    let mut millis = Vec::new();
    let mut answer = String::new();
    for _ in 0..reps {
        let start = Instant::now();
        let rows = peer.query(sql)?;
        millis.push(start.elapsed().as_secs_f64() * 1e3);
        answer = rows.concat().concat();
    }
    let millis = median(&millis).unwrap_or(f64::NAN);
    Ok(Found { answer, millis })
}

/// DuckDB's version and what it has found; `None`: there is no such module.
fn duckdb(python: &str, reps: usize) -> Result<Option<(String, Vec<Found>)>> {
    let there = Command::new(python)
        .args(["-c", "import duckdb"])
        .stderr(Stdio::null())
        .status();
    if !there.is_ok_and(|status| status.success()) {
        println!("periods: {python} has no module duckdb: left out (--python)");
        return Ok(None);
    }
    let mut child = Command::new(python)
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let questions: Vec<&str> = QUESTIONS.iter().map(|(_, sql)| *sql).collect();
    let plan = json!({ "setup": setup(), "questions": questions, "reps": reps });
    if let Some(mut input) = child.stdin.take() {
        input.write_all(plan.to_string().as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err("the script failed".into());
    }
    let printed = serde_json::from_slice::<Value>(&output.stdout);
    let printed = printed.map_err(|e| e.to_string())?;
    let found = printed["results"].as_array().into_iter().flatten();
    let found = found.map(|result| {
        let seconds = result["seconds"].as_array().into_iter().flatten();
        let millis: Vec<f64> = seconds.filter_map(Value::as_f64).map(|s| s * 1e3).collect();
        Found {
            answer: result["answer"].as_str().unwrap_or_default().to_owned(),
            millis: median(&millis).unwrap_or(f64::NAN),
        }
    });
    let version = printed["version"].as_str().unwrap_or_default().to_owned();
    Ok(Some((version, found.collect())))
}
