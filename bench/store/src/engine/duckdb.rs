//! DuckDB, by its Python module: no build of it here, but a process of Python with its queries.
//!
//! It gets the same batches as Parquet files, one statement and so one commit each, the same
//! questions with their answers, and prints its own figures. Its latencies contain Python's calls,
//! which are some microseconds.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{json, Value};

use super::parquet;
use crate::data::{device_name, Batches, METRIC};
use crate::error::{failure, Result};
use crate::suite::Questions;

const SCRIPT: &str = include_str!("duckdb.py");

/// Runs all of it in `dir`, and gives the figures: `None` where there is no such module.
pub(crate) fn run(
    python: &str,
    dir: &Path,
    questions: &Questions,
    reps: usize,
) -> Result<Option<Value>> {
    let version = Command::new(python)
        .args(["-c", "import duckdb"])
        .stderr(Stdio::null())
        .status();
    if !version.is_ok_and(|status| status.success()) {
        return Ok(None);
    }
    let input = dir.join("input");
    std::fs::create_dir(&input)?;
    let mut batches = Vec::new();
    for (number, rows) in Batches::new(questions.rows).enumerate() {
        let path = input.join(format!("{number:06}.parquet"));
        let order: Vec<u32> = (0..rows.len() as u32).collect();
        parquet::write(&path, &rows, &order, parquet::Tuning::Defaults)?;
        batches.push(path);
    }
    let plan = json!({
        "database": dir.join("rows.duckdb"),
        "batches": batches,
        "rows": questions.rows,
        "reps": reps,
        "aggregate": questions.aggregate.iter()
            .map(|it| json!([it.device, it.average, it.max])).collect::<Vec<_>>(),
        "ranges": questions.ranges.iter().map(|(range, rows, noise)| {
            json!([device_name(range.device), METRIC, range.from, range.to, rows, noise])
        }).collect::<Vec<_>>(),
        "points": questions.points.iter().map(|(device, ts, noise)| {
            json!([device_name(*device), METRIC, ts, noise])
        }).collect::<Vec<_>>(),
    });
    let path = input.join("plan.json");
    std::fs::write(&path, plan.to_string())?;
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(&path)
        .stderr(Stdio::inherit())
        .output()?;
    // What it keeps is measured next, and these are not it.
    std::fs::remove_dir_all(&input)?;
    if !output.status.success() {
        return failure("the script for DuckDB failed");
    }
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}
