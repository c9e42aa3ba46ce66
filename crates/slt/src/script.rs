//! One script, from its first record to its last.
//!
//! The records are read by the `sqllogictest` crate and carried out here. Refused by name, as failures:
//! `system`, because a script that one is given should not run programs, `let` and `control substitution on`.

use std::collections::HashMap;

use sqllogictest::{
    Condition, Connection as Named, Control, ParseError, QueryExpect, Record, ResultMode, SortMode,
    StatementExpect,
};

use crate::args::Args;
use crate::compare::{self, Expected, Letter};
use crate::connection::{Answer, Connection, Failure};
use crate::files::Script;
use crate::report::{Failed, FileReport};
use crate::target::Target;

/// Why a record failed: what to tell, what was expected, what came.
struct Why {
    why: String,
    expected: Vec<String>,
    actual: Vec<String>,
}

impl Why {
    fn new(why: impl Into<String>) -> Why {
        Why {
            why: why.into(),
            expected: Vec::new(),
            actual: Vec::new(),
        }
    }
}

/// What is carried from record to record.
struct Running<'a> {
    args: &'a Args,
    url: &'a str,
    connections: HashMap<String, Connection>,
    sort: SortMode,
    mode: Option<ResultMode>,
    /// What queries gave, by their label, and where.
    labelled: HashMap<String, (String, String)>,
}

/// Runs a script and notes what comes of it.
pub(crate) async fn run(args: &Args, script: &Script, target: &Target, report: &mut FileReport) {
    let records = match parse(script) {
        Ok(records) => records,
        Err(e) => {
            report.error = Some(format!("the file cannot be read: {e}"));
            return;
        }
    };
    let mut running = Running {
        args,
        url: target.url(),
        connections: HashMap::new(),
        sort: SortMode::NoSort,
        mode: None,
        labelled: HashMap::new(),
    };
    let mut is_halted = false;
    for record in records {
        if is_halted || running.is_skipped(&record) {
            report.skipped += usize::from(is_counted(&record));
            continue;
        }
        match &record {
            Record::Halt { .. } => is_halted = true,
            Record::Control(control) => running.control(control, report),
            Record::Sleep { duration, .. } => tokio::time::sleep(*duration).await,
            record if is_counted(record) => {
                let failed = running.attempt(record).await;
                match failed {
                    Ok(()) => report.passed += 1,
                    Err(why) => note(report, record, why),
                }
            }
            _ => {}
        }
        if let Some(lost) = running.reconnect().await {
            report.error = Some(lost);
            return;
        }
    }
}

/// Reads a script. Only the parser of files follows `include`; only that of texts can be given SQLite's
/// scripts without the comments that stand behind their conditions.
fn parse(script: &Script) -> Result<Vec<Record<Letter>>, String> {
    let text = std::fs::read_to_string(&script.path).map_err(|e| e.to_string())?;
    let parsed = if text.lines().any(|line| line.starts_with("include ")) {
        sqllogictest::parse_file(&script.path)
    } else {
        let lines = text.lines().map(|line| match line.split_once('#') {
            Some((condition, _)) if is_condition(line) => condition.trim_end(),
            _ => line,
        });
        let text = lines.flat_map(|line| [line, "\n"]).collect::<String>();
        sqllogictest::parse_with_name(&text, script.name.as_str())
    };
    parsed.map_err(|e: ParseError| e.to_string())
}

fn is_condition(line: &str) -> bool {
    line.starts_with("onlyif ") || line.starts_with("skipif ")
}

/// Whether it is one of those that pass or fail.
fn is_counted(record: &Record<Letter>) -> bool {
    matches!(
        record,
        Record::Statement { .. }
            | Record::Query { .. }
            | Record::System { .. }
            | Record::Let { .. }
    )
}

fn note(report: &mut FileReport, record: &Record<Letter>, why: Why) {
    let (at, sql) = match record {
        Record::Statement { loc, sql, .. }
        | Record::Query { loc, sql, .. }
        | Record::Let { loc, sql, .. } => (loc.to_string(), sql.clone()),
        Record::System { loc, command, .. } => (loc.to_string(), command.clone()),
        _ => (report.file.clone(), String::new()),
    };
    report.failed += 1;
    report.failures.push(Failed {
        at,
        sql,
        why: why.why,
        expected: why.expected,
        actual: why.actual,
    });
}

impl Running<'_> {
    fn is_skipped(&self, record: &Record<Letter>) -> bool {
        let conditions = match record {
            Record::Statement { conditions, .. }
            | Record::Query { conditions, .. }
            | Record::System { conditions, .. }
            | Record::Let { conditions, .. } => conditions,
            _ => return false,
        };
        let is_label = |label: &str| {
            let own = [self.args.protocol.name(), "chronos"];
            own.contains(&label) || self.args.label.iter().any(|l| l == label)
        };
        conditions.iter().any(|condition| match condition {
            Condition::OnlyIf { label } => !is_label(label),
            Condition::SkipIf { label } => is_label(label),
        })
    }

    fn control(&mut self, control: &Control, report: &mut FileReport) {
        match control {
            Control::SortMode(sort) => self.sort = *sort,
            Control::ResultMode(mode) => self.mode = Some(*mode),
            Control::Substitution(false) => {}
            other => {
                let why = Why::new(format!("`control` is not supported: {other:?}"));
                note(report, &Record::Control(other.clone()), why);
            }
        }
    }

    /// Carries a record out, as often as it says.
    async fn attempt(&mut self, record: &Record<Letter>) -> Result<(), Why> {
        let retry = match record {
            Record::Statement { retry, .. } | Record::Query { retry, .. } => retry.as_ref(),
            _ => None,
        };
        let mut left = retry.map_or(0, |r| r.attempts);
        loop {
            match self.carry_out(record).await {
                Err(_) if left > 0 => left -= 1,
                ended => return ended,
            }
            if let Some(retry) = retry {
                tokio::time::sleep(retry.backoff).await;
            }
        }
    }

    async fn carry_out(&mut self, record: &Record<Letter>) -> Result<(), Why> {
        match record {
            Record::Statement {
                connection,
                sql,
                expected,
                ..
            } => {
                let answer = self.ask(connection, sql).await?;
                check_statement(expected, answer)
            }
            Record::Query {
                connection,
                sql,
                expected,
                loc,
                ..
            } => {
                let answer = self.ask(connection, sql).await?;
                self.check_query(expected, answer, &loc.to_string())
            }
            Record::System { .. } => Err(Why::new("`system` is not supported")),
            _ => Err(Why::new("`let` is not supported")),
        }
    }

    /// The server's answer; `Err`: there was none in time.
    async fn ask(&mut self, on: &Named, sql: &str) -> Result<Result<Answer, Failure>, Why> {
        let name = match on {
            Named::Default => "",
            Named::Named(name) => name,
        };
        if !self.connections.contains_key(name) {
            match Connection::open(self.url, self.args.protocol).await {
                Ok(opened) => drop(self.connections.insert(name.to_owned(), opened)),
                Err(e) => return Ok(Err(e)),
            }
        }
        let connection = &self.connections[name];
        match tokio::time::timeout(self.args.timeout, connection.run(sql)).await {
            Ok(answer) => Ok(answer),
            Err(_) => {
                // What it still sends would be taken for the next answer.
                self.connections.remove(name);
                let seconds = self.args.timeout.as_secs_f64();
                Err(Why::new(format!("no answer within {seconds} s")))
            }
        }
    }

    fn check_query(
        &mut self,
        expected: &QueryExpect<Letter>,
        answer: Result<Answer, Failure>,
        at: &str,
    ) -> Result<(), Why> {
        match expected {
            QueryExpect::Error(error) => match answer {
                Err(e) if error.is_match(&e.to_string(), e.code.as_deref()) => Ok(()),
                other => Err(not_the_error(&error.to_string(), other)),
            },
            QueryExpect::Results {
                types,
                sort_mode,
                result_mode,
                label,
                results,
            } => {
                let refused = |actual: String| Why {
                    why: "rows are expected".to_owned(),
                    expected: results.clone(),
                    actual: vec![actual],
                };
                let (columns, rows) = match answer {
                    Ok(Answer::Rows(columns, rows)) => (columns, rows),
                    Ok(Answer::Done(n)) => return Err(refused(format!("done, {n} rows"))),
                    Err(e) => return Err(refused(e.to_string())),
                };
                let sort = sort_mode.unwrap_or(self.sort);
                let expected = Expected {
                    letters: types,
                    sort,
                    mode: result_mode.or(self.mode),
                    lines: results,
                    values: self.args.values,
                };
                compare::check(&expected, columns, &rows).map_err(|mismatch| Why {
                    why: mismatch.why,
                    expected: results.clone(),
                    actual: mismatch.actual,
                })?;
                match label {
                    Some(label) => {
                        self.check_label(label, compare::fingerprint(types, sort, &rows), at)
                    }
                    None => Ok(()),
                }
            }
        }
    }

    /// Queries with one label give one result.
    fn check_label(&mut self, label: &str, given: String, at: &str) -> Result<(), Why> {
        match self.labelled.get(label) {
            Some((before, _)) if *before == given => Ok(()),
            Some((_, place)) => Err(Why::new(format!(
                "the result differs from that of the query labelled {label} at {place}"
            ))),
            None => {
                self.labelled
                    .insert(label.to_owned(), (given, at.to_owned()));
                Ok(())
            }
        }
    }

    /// Forgets connections that broke; if the server takes no new one, says so.
    async fn reconnect(&mut self) -> Option<String> {
        let before = self.connections.len();
        self.connections.retain(|_, c| !c.is_closed());
        if self.connections.len() == before {
            return None;
        }
        match Connection::open(self.url, self.args.protocol).await {
            Ok(_) => None,
            Err(e) => Some(format!("the server is gone, the rest was not run: {e}")),
        }
    }
}

fn check_statement(expected: &StatementExpect, answer: Result<Answer, Failure>) -> Result<(), Why> {
    match (expected, answer) {
        (StatementExpect::Ok, Ok(_)) => Ok(()),
        (StatementExpect::Count(n), Ok(Answer::Done(actual))) if *n == actual => Ok(()),
        (StatementExpect::Count(n), Ok(answer)) => Err(Why {
            why: "another number of rows is expected".to_owned(),
            expected: vec![n.to_string()],
            actual: vec![described(&answer)],
        }),
        (StatementExpect::Error(error), Err(e))
            if error.is_match(&e.to_string(), e.code.as_deref()) =>
        {
            Ok(())
        }
        (StatementExpect::Error(error), answer) => Err(not_the_error(&error.to_string(), answer)),
        (_, Err(e)) => Err(Why {
            why: "the statement failed".to_owned(),
            expected: Vec::new(),
            actual: vec![e.to_string()],
        }),
    }
}

fn not_the_error(expected: &str, answer: Result<Answer, Failure>) -> Why {
    Why {
        why: "an error is expected".to_owned(),
        expected: vec![expected.to_owned()],
        actual: vec![match answer {
            Ok(answer) => described(&answer),
            Err(e) => e.to_string(),
        }],
    }
}

fn described(answer: &Answer) -> String {
    match answer {
        Answer::Done(n) => format!("done, {n} rows"),
        Answer::Rows(_, rows) => format!("{} rows", rows.len()),
    }
}
