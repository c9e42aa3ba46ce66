//! The prompt's engine against scripted answers: what is sent, what is printed, when
//! a script stops.

use std::io;
use std::sync::{Arc, Mutex};

use super::backend::Backend;
use super::session::{Session, Source, Stop};
use crate::cli::reply::{Column, Event, Kind, Progress, RunError, Sink, SqlError};

/// Answers `select X` with X, `copy` by asking for data, and `fail` with an error.
#[derive(Default)]
pub(in crate::cli) struct Scripted {
    /// Statements received.
    pub(super) sent: Vec<String>,
    /// COPY data received.
    pub(super) copied: String,
}

impl Scripted {
    pub(super) fn run(&mut self, sql: &str, sink: &mut Sink<'_>) -> Result<Progress, RunError> {
        self.sent.push(sql.to_owned());
        if let Some(value) = sql.strip_prefix("select ") {
            let columns = [Column {
                name: "v".into(),
                kind: Kind::Number,
            }];
            sink(Event::Columns(&columns)).map_err(RunError::Output)?;
            sink(Event::Row(&[Some(value)])).map_err(RunError::Output)?;
            sink(Event::Complete("SELECT 1")).map_err(RunError::Output)?;
        } else if sql.starts_with("copy") {
            return Ok(Progress::WantsCopyData);
        } else if sql.starts_with("fail") {
            return Err(RunError::Sql(Box::new(SqlError {
                message: "no".into(),
                ..SqlError::default()
            })));
        }
        Ok(Progress::Done)
    }

    pub(super) fn copy_data(&mut self, data: &[u8]) -> Result<(), RunError> {
        self.copied.push_str(&String::from_utf8_lossy(data));
        Ok(())
    }

    pub(super) fn copy_finish(&mut self, sink: &mut Sink<'_>) -> Result<(), RunError> {
        sink(Event::Complete("COPY 2")).map_err(RunError::Output)
    }
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Outcome {
    result: Result<(), Stop>,
    sent: Vec<String>,
    copied: String,
    printed: String,
}

fn run(script: &str) -> Outcome {
    let captured = Captured::default();
    let backend = Backend::Scripted(Scripted::default());
    let mut session = Session::for_tests(backend, Box::new(captured.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let source = Source::script("test.sql", 3);
    let result = runtime.block_on(session.script(&mut io::Cursor::new(script), &source));
    let _ = session.flush();
    let Backend::Scripted(scripted) = session.backend() else {
        panic!("the backend is scripted")
    };
    let printed = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    Outcome {
        result,
        sent: scripted.sent.clone(),
        copied: scripted.copied.clone(),
        printed,
    }
}

#[test]
fn statements_run_in_order_and_the_last_needs_no_semicolon() {
    let outcome = run("select 1; select\n2;\n-- done\nselect 3");
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.sent, ["select 1", "select\n2", "select 3"]);
    assert_eq!(outcome.printed, "v\n1\nv\n3\n");
}

#[test]
fn a_script_stops_at_its_first_error() {
    let outcome = run("select 1;\nfail here;\nselect 2;");
    assert!(matches!(outcome.result, Err(Stop::Failed(3))));
    assert_eq!(outcome.sent, ["select 1", "fail here"]);
}

#[test]
fn copy_takes_the_lines_up_to_the_end_mark() {
    let outcome = run("copy t from stdin;\na;b\n'c\n\\.\nselect 1;");
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.copied, "a;b\n'c\n");
    assert_eq!(outcome.sent, ["copy t from stdin", "select 1"]);
}

#[test]
fn commands_stand_between_statements_only() {
    let outcome = run("\\format json\nselect 1;\n\\echo hello\nselect\n\\q\n;");
    assert!(outcome.result.is_ok());
    assert_eq!(outcome.printed, "{\"v\":1}\nhello\n");
    assert_eq!(outcome.sent, ["select 1", "select\n\\q"]);
    let outcome = run("\\q\nselect 1;");
    assert!(matches!(outcome.result, Err(Stop::Quit)));
    let outcome = run("\\nope\nselect 1;");
    assert!(matches!(outcome.result, Err(Stop::Failed(3))));
    assert!(outcome.sent.is_empty());
}

#[test]
fn a_file_that_includes_itself_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("loop.sql");
    let line = format!("\\i '{}'\n", path.display());
    #[allow(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(&path, &line).unwrap();
    let outcome = run(&line);
    assert!(matches!(outcome.result, Err(Stop::Failed(3))));
}
