//! A client's connection to a simulated node: what a client of a real one would see of statements.

use std::time::Duration;

use chronos_model::{text, value_at, DataType, SqlState, Value};
use chronos_node::{Error, Node, Outcome, RowData, Session, Statement};
use futures::StreamExt;

use super::process::Process;

/// A client waits for so long.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// A session on a node, as long as its process runs.
pub(super) struct Connection {
    session: Session,
    process: Process,
}

/// What a client is told.
#[derive(Debug)]
pub(super) enum Reply {
    /// Rows, or how many were concerned.
    Done {
        /// What was returned.
        rows: Vec<Vec<Value>>,
        /// What the command tag says.
        count: u64,
    },
    /// It failed, and had no effect.
    Refused(Error),
    /// Nobody can say whether it had an effect: an error that says so, or no answer at all.
    Unknown(String),
}

impl Connection {
    /// Connects.
    pub(super) fn open(node: &Node, process: &Process) -> Connection {
        Connection {
            session: node.session(),
            process: process.clone(),
        }
    }

    /// The number of the node.
    pub(super) fn node(&self) -> u64 {
        u64::from(self.process.number.0)
    }

    /// Whether the node can still be talked to.
    pub(super) fn is_open(&self) -> bool {
        !self.process.is_killed()
    }

    /// Sends a statement and waits for the answer. After [`Reply::Unknown`] the connection is of no use any more.
    pub(super) async fn ask(&mut self, sql: &str) -> Reply {
        self.ask_within(PATIENCE, sql).await
    }

    /// As [`ask`](Self::ask), for a client of another patience.
    pub(super) async fn ask_within(&mut self, patience: Duration, sql: &str) -> Reply {
        let process = self.process.clone();
        let answer = tokio::select! {
            biased;
            () = process.killed() => return Reply::Unknown("connection lost".into()),
            answer = run(&mut self.session, sql) => answer,
            () = tokio::time::sleep(patience) => return Reply::Unknown("no answer".into()),
        };
        match answer {
            Ok((rows, count)) => Reply::Done { rows, count },
            Err(error) if says_no_effect(error.code) => Reply::Refused(error),
            Err(error) => Reply::Unknown(format!("{} {}", error.code.0, error.message)),
        }
    }
}

async fn run(session: &mut Session, sql: &str) -> Result<(Vec<Vec<Value>>, u64), Error> {
    let (rows, tag) = match session.run(&Statement { sql: sql.into() }).await? {
        Outcome::Rows(rows) => {
            let tag = rows.tag;
            (collect(rows.data, &rows.schema).await?, tag)
        }
        Outcome::Done(tag) => (Vec::new(), tag),
        Outcome::CopyIn(_) | Outcome::CopyOut(_) | Outcome::Empty => return Ok((Vec::new(), 0)),
    };
    let count = tag.rows.unwrap_or(rows.len() as u64);
    Ok((rows, count))
}

async fn collect(data: RowData, schema: &arrow_schema::Schema) -> Result<Vec<Vec<Value>>, Error> {
    let mut stream = match data {
        RowData::Values(rows) => return Ok(rows),
        RowData::Batches(stream) => stream,
    };
    let types: Vec<DataType> = schema
        .fields()
        .iter()
        .map(|f| DataType::of_field(f))
        .collect();
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let value = |(column, of): (usize, &DataType)| value_at(batch.column(column), row, of);
            let values: Result<Vec<Value>, _> = types.iter().enumerate().map(value).collect();
            rows.push(values?);
        }
    }
    Ok(rows)
}

/// Whether an error means that nothing was changed, now or later.
fn says_no_effect(code: SqlState) -> bool {
    let class = &code.0[..2];
    matches!(class, "0A" | "21" | "22" | "23" | "25" | "40" | "42") || code.0 == "57P03"
}

/// Rows as one line of text, sorted, so that they can be compared.
pub(super) fn shown(rows: &[Vec<Value>]) -> String {
    let line = |row: &Vec<Value>| {
        let values: Vec<String> = row.iter().map(value_text).collect();
        format!("({})", values.join(", "))
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    lines.join(" ")
}

fn value_text(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        value => text::format(value),
    }
}
