//! The golden scripts of `tests/sql`, each by the simple and by the extended protocol, each on a
//! node of its own.
//!
//! The scripts are in sqllogictest's format. Letters of column types are those of
//! [`crate::engine::Letter`] and are checked by the extended protocol. `skipif simple`,
//! `skipif extended` name a protocol; `skipif postgres` marks what PostgreSQL answers otherwise: all
//! other records have been run against PostgreSQL 15 too.

use sqllogictest::{parse_file, strict_column_validator, Record, Runner};

use crate::engine::{Engine, Letter, Protocol};
use crate::node::{repository, Node};

/// A statement that takes longer is taken to hang.
const STATEMENT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(120);

/// Runs all records of a script, and fails with a list of all that went wrong.
fn run(name: &str, protocol: Protocol) {
    let path = repository().join("tests/sql").join(name);
    let records: Vec<Record<Letter>> = parse_file(&path).expect("the script parses");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let node = Node::start(directory.path());
    let url = node.url();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let failures = runtime.block_on(async {
        let mut runner = Runner::new(|| Engine::connect(&url, protocol));
        // `skipif chronos`: what PostgreSQL does and Chronos does not do yet.
        runner.add_label("chronos");
        runner.with_column_validator(strict_column_validator);
        let mut failures = Vec::new();
        for record in records {
            match tokio::time::timeout(STATEMENT_TIMEOUT, runner.run_async(record.clone())).await {
                Ok(Ok(_)) => {}
                Ok(Err(failure)) => failures.push(failure.display(false).to_string()),
                Err(_) => {
                    failures.push(format!(
                        "no answer within {STATEMENT_TIMEOUT:?} to {record}"
                    ));
                    break;
                }
            }
        }
        runner.shutdown_async().await;
        failures
    });
    assert!(
        failures.is_empty(),
        "{} records of {name} failed:\n\n{}",
        failures.len(),
        failures.join("\n")
    );
}

macro_rules! scripts {
    ($($name:ident)*) => {
        mod simple {
            $(#[test] fn $name() { super::run(concat!(stringify!($name), ".slt"), super::Protocol::Simple) })*
        }

        mod extended {
            $(#[test] fn $name() { super::run(concat!(stringify!($name), ".slt"), super::Protocol::Extended) })*
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

scripts! {
    aggregates alter_table arrays catalog constraints create_table cursors dates delete errors explain foreign_key idempotency index insert json json_rows names
    numbers on_conflict operators order_and_summary phrases prepare regex retention schemas select sequences set_local settings strings
    subqueries time_periods time_system time_valid to_char tools transactions transactions_ddl types update users views window
}

#[test]
fn no_script_is_forgotten() {
    let directory = repository().join("tests/sql");
    for entry in std::fs::read_dir(directory).expect("tests/sql exists") {
        let name = entry
            .expect("an entry")
            .file_name()
            .into_string()
            .expect("a name");
        if let Some(stem) = name.strip_suffix(".slt") {
            assert!(NAMES.contains(&stem), "tests/sql/{name} is not run");
        }
    }
}
