//! Sending batches, and dealing with the ones the node refuses.

use std::io::Write;
use std::ops::Range;

use super::batch::{column_in_context, line_in_context, narrow, Batch};
use crate::cli::error::CliError;
use crate::cli::files;
use crate::cli::output::one_line;
use crate::cli::reply::{Progress, RunError, SqlError};
use crate::cli::wire::Session;

/// Rejected rows that are reported one by one; the rest is only counted.
const REPORTED_MAX: u64 = 20;
/// How often a part is sent again after a serialization failure.
const RETRIES_MAX: u32 = 5;

/// What has become of the rows so far.
pub(super) struct Load {
    copy: String,
    max_rejects: u64,
    reject_file: Option<Box<dyn Write + Send>>,
    header: Vec<u8>,
    /// Rows the node has stored.
    pub(super) stored: u64,
    /// Rows the node has refused.
    pub(super) rejected: u64,
}

impl Load {
    /// A load that sends rows with this COPY statement.
    pub(super) fn new(
        copy: String,
        max_rejects: u64,
        reject_file: Option<&str>,
        header: Vec<u8>,
    ) -> Result<Self, CliError> {
        Ok(Self {
            copy,
            max_rejects,
            reject_file: reject_file.map(files::create).transpose()?,
            header,
            stored: 0,
            rejected: 0,
        })
    }

    /// Stores a batch: its good rows on the node, its bad ones among the rejects.
    /// `report` prints a line without disturbing the progress bar.
    pub(super) async fn batch(
        &mut self,
        session: &mut Session,
        batch: &Batch,
        report: &dyn Fn(&str),
    ) -> Result<(), CliError> {
        let whole = 0..batch.len();
        let mut todo = vec![whole];
        while let Some(part) = todo.pop() {
            let error = match self.send(session, batch.bytes(part.clone())).await? {
                Ok(rows) => {
                    self.stored += rows.unwrap_or(part.len() as u64);
                    continue;
                }
                Err(error) => error,
            };
            if !blames_a_row(&error.code) {
                let near = batch.line(part.start);
                return Err(CliError::Failed(format!(
                    "the node refused the rows from line {near} on: {error}{}; {} rows are stored",
                    error
                        .hint
                        .as_ref()
                        .map(|hint| format!(" ({hint})"))
                        .unwrap_or_default(),
                    self.stored,
                )));
            }
            if part.len() == 1 {
                self.reject(batch, part.start, &error, report)?;
            } else {
                let suspect = suspect(batch, &part, &error);
                todo.extend(narrow(part, suspect).into_iter().rev());
            }
        }
        Ok(())
    }

    /// Sends one part in one COPY. The inner result is the node's verdict: the rows it
    /// says it stored, or why it stored none.
    async fn send(
        &self,
        session: &mut Session,
        bytes: &[u8],
    ) -> Result<Result<Option<u64>, SqlError>, CliError> {
        let mut retries = 0;
        loop {
            match copy(session, &self.copy, bytes).await {
                Ok(tag) => return Ok(Ok(rows_of_tag(&tag))),
                Err(RunError::Sql(error)) if error.code == "40001" && retries < RETRIES_MAX => {
                    retries += 1;
                }
                Err(RunError::Sql(error)) => return Ok(Err(*error)),
                Err(RunError::Output(error)) => return Err(error.into()),
                Err(RunError::Lost(reason)) => {
                    let stored = self.stored;
                    return Err(CliError::Lost(format!(
                        "{reason}; {stored} rows are stored, the batch in flight may or may not be"
                    )));
                }
            }
        }
    }

    fn reject(
        &mut self,
        batch: &Batch,
        record: usize,
        error: &SqlError,
        report: &dyn Fn(&str),
    ) -> Result<(), CliError> {
        self.rejected += 1;
        let line = batch.line(record);
        if self.rejected <= REPORTED_MAX {
            report(&format!("line {line}: {}", reason(error)));
        }
        if self.rejected == REPORTED_MAX {
            report("further rejected rows are only counted");
        }
        if let Some(file) = &mut self.reject_file {
            if self.rejected == 1 {
                file.write_all(&self.header)?;
            }
            file.write_all(batch.bytes(record..record + 1))?;
        }
        if self.rejected > self.max_rejects {
            self.finish()?;
            return Err(CliError::Failed(format!(
                "more than {} rows were rejected, the last on line {line}; {} rows are stored \
                 (--max-rejects allows more)",
                self.max_rejects, self.stored,
            )));
        }
        Ok(())
    }

    /// Completes the reject file.
    pub(super) fn finish(&mut self) -> Result<(), CliError> {
        match &mut self.reject_file {
            Some(file) => Ok(file.flush()?),
            None => Ok(()),
        }
    }
}

/// One COPY with these bytes; the command tag.
async fn copy(session: &mut Session, statement: &str, bytes: &[u8]) -> Result<String, RunError> {
    let progress = session.run(statement, &mut |_| Ok(())).await?;
    if progress == Progress::Done {
        return Err(RunError::Lost("the node did not take data for COPY".into()));
    }
    let mut tag = String::new();
    session.copy_data(bytes).await?;
    session
        .copy_finish(&mut |event| {
            if let crate::cli::reply::Event::Complete(text) = event {
                tag = text.to_owned();
            }
            Ok(())
        })
        .await?;
    Ok(tag)
}

fn rows_of_tag(tag: &str) -> Option<u64> {
    tag.strip_prefix("COPY ")?.trim().parse().ok()
}

/// Whether an error can be the fault of one row: data exceptions (22) and integrity
/// constraint violations (23). Everything else concerns the whole load.
fn blames_a_row(code: &str) -> bool {
    code.starts_with("22") || code.starts_with("23")
}

/// The record the node blamed, if it told.
fn suspect(batch: &Batch, part: &Range<usize>, error: &SqlError) -> Option<usize> {
    let line = line_in_context(error.context.as_deref()?)?;
    batch.record_at_line(part.clone(), line)
}

/// Why a row was refused, on one line: the column if known, the sentence, the detail.
fn reason(error: &SqlError) -> String {
    let context = error.context.as_deref();
    let column = error
        .column
        .as_deref()
        .or_else(|| context.and_then(column_in_context));
    let mut text = String::new();
    if let Some(column) = column {
        text.push_str(&format!("column {}: ", one_line(column)));
    }
    text.push_str(&one_line(&error.to_string()));
    if let Some(detail) = &error.detail {
        text.push_str(&format!(": {}", one_line(detail)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::wire::fake::{self, FakeNode, Request};

    #[test]
    fn only_errors_of_a_row_are_narrowed_down() {
        assert!(blames_a_row("22P02") && blames_a_row("23505"));
        assert!(!blames_a_row("42703") && !blames_a_row("53100") && !blames_a_row(""));
        assert_eq!(rows_of_tag("COPY 12"), Some(12));
        assert_eq!(rows_of_tag("COPY"), None);
    }

    #[test]
    fn a_reason_names_the_column() {
        let error = SqlError {
            code: "22P02".into(),
            message: "invalid input".into(),
            context: Some("COPY t, line 3, column v: \"x\"".into()),
            ..SqlError::default()
        };
        assert_eq!(reason(&error), "column v: invalid input (22P02)");
        let error = SqlError {
            message: "duplicate key".into(),
            detail: Some("Key (id)=(1)\nalready exists.".into()),
            ..SqlError::default()
        };
        assert_eq!(
            reason(&error),
            "duplicate key: Key (id)=(1)\\nalready exists."
        );
    }

    /// A node that refuses a COPY with a row that says `bad`, naming its line or not.
    async fn node(blames: bool) -> FakeNode {
        FakeNode::start(move |request| match request {
            Request::Copy(data) => match data.lines().position(|line| line.contains("bad")) {
                Some(nth) if blames => {
                    let context = format!("COPY t, line {}, column v: \"bad\"", nth + 1);
                    fake::error("ERROR", "22P02", "not a number", &context)
                }
                Some(_) => fake::error("ERROR", "22P02", "not a number", ""),
                None if data.contains("full") => fake::error("ERROR", "53100", "disk full", ""),
                None => fake::complete(&format!("COPY {}", data.lines().count())),
            },
            _ => fake::copy_in(),
        })
        .await
    }

    fn batch(records: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for (line, record) in (2..).zip(records) {
            batch.data.extend_from_slice(record.as_bytes());
            batch.data.push(b'\n');
            batch.close_record(line);
        }
        batch
    }

    async fn load(
        blames: bool,
        max_rejects: u64,
        records: &[&str],
    ) -> (Load, Result<(), CliError>, Vec<String>) {
        let node = node(blames).await;
        let mut session = Session::connect(&node.target()).await.unwrap();
        let mut load = Load::new("COPY".into(), max_rejects, None, Vec::new()).unwrap();
        let reports = std::sync::Mutex::new(Vec::new());
        let report = |line: &str| reports.lock().unwrap().push(line.to_owned());
        let result = load.batch(&mut session, &batch(records), &report).await;
        let reports = reports.into_inner().unwrap();
        (load, result, reports)
    }

    #[tokio::test]
    async fn good_rows_load_and_bad_ones_are_reported_by_line() {
        for blames in [true, false] {
            let records = ["1", "bad", "2", "3", "4", "bad", "bad"];
            let (load, result, reports) = load(blames, 10, &records).await;
            assert!(result.is_ok());
            assert_eq!((load.stored, load.rejected), (4, 3));
            let lines: Vec<&str> = reports.iter().filter_map(|r| r.split(':').next()).collect();
            assert_eq!(lines, ["line 3", "line 7", "line 8"]);
        }
    }

    #[tokio::test]
    async fn too_many_rejects_end_the_load() {
        let (load, result, _) = load(true, 1, &["bad", "1", "bad", "2"]).await;
        let text = result.unwrap_err().to_string();
        assert!(
            text.contains("more than 1 rows") && text.contains("line 4"),
            "{text}"
        );
        assert_eq!((load.stored, load.rejected), (1, 2));
    }

    #[tokio::test]
    async fn an_error_that_is_no_rows_fault_ends_the_load() {
        let (load, result, reports) = load(true, 10, &["1", "full"]).await;
        assert!(result.is_err_and(|error| error.to_string().contains("disk full")));
        assert_eq!((load.stored, load.rejected, reports.len()), (0, 0, 0));
    }
}
