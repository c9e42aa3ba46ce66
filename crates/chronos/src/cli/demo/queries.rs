//! The queries the demo ends with: what the farm's data can answer, now and as of then.
//!
//! Each is printed before its result, so that it can be pasted into any client.

use crate::cli::args::Format;
use crate::cli::error::{tell, CliError};
use crate::cli::output::Printer;
use crate::cli::repl::error_text;
use crate::cli::reply::{quote_literal, Progress, RunError};
use crate::cli::wire::Session;

/// A statement and what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    /// One line for the reader.
    pub(super) title: &'static str,
    /// The statement.
    pub(super) sql: String,
}

/// The reading that is corrected, by its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrongReading {
    /// The device.
    pub(super) device_id: String,
    /// When, in microseconds since 1970.
    pub(super) ts_micros: u64,
    /// The device's message number.
    pub(super) seq: u64,
}

impl WrongReading {
    fn condition(&self) -> String {
        format!(
            "device_id = {} AND metric = 'temperature' AND ts = {} AND seq = {}",
            quote_literal(&self.device_id),
            timestamp_literal(self.ts_micros),
            self.seq,
        )
    }
}

fn query(title: &'static str, sql: impl Into<String>) -> Query {
    let sql = sql.into();
    Query { title, sql }
}

/// What the readings say now.
pub(super) fn current(pump: Option<&str>) -> Vec<Query> {
    let mut queries = vec![
        query(
            "How much there is",
            "SELECT count(*) AS rows, count(DISTINCT device_id) AS devices,\n       \
             min(ts) AS first, max(ts) AS last FROM readings",
        ),
        query(
            "Latest value per device",
            "SELECT device_id, metric, ts, value FROM (\n  \
             SELECT *, row_number() OVER (PARTITION BY device_id, metric ORDER BY ts DESC) AS nth\n  \
             FROM readings) AS newest\n\
             WHERE nth = 1 AND metric <> 'battery' ORDER BY device_id, metric LIMIT 12",
        ),
        query(
            "Hourly averages by metric",
            "SELECT date_trunc('hour', ts) AS hour, metric,\n       \
             avg(value) AS average, min(value) AS low, max(value) AS high\n\
             FROM readings WHERE metric IN ('soil_moisture', 'co2')\n\
             GROUP BY 1, 2 ORDER BY 2, 1 DESC LIMIT 12",
        ),
    ];
    if let Some(pump) = pump {
        queries.push(query(
            "A pump that draws too much current",
            format!(
                "SELECT device_id, ts, value AS ampere FROM readings\n\
                 WHERE device_id = {} AND metric = 'pump_current' AND value > 12\n\
                 ORDER BY ts LIMIT 5",
                quote_literal(pump)
            ),
        ));
    }
    queries
}

/// The device that was offline: what was known of it before its backlog came, and now.
pub(super) fn backlog(device_id: &str, before: &str) -> Vec<Query> {
    let device_id = quote_literal(device_id);
    let what = "SELECT count(*) AS readings, max(ts) AS last FROM readings";
    vec![
        query(
            "A probe was offline: what was known before its backlog arrived",
            format!(
                "{what}\nFOR SYSTEM_TIME AS OF TIMESTAMPTZ {}\nWHERE device_id = {device_id}",
                quote_literal(before)
            ),
        ),
        query(
            "… and what is known of it now",
            format!("{what} WHERE device_id = {device_id}"),
        ),
    ]
}

/// The correction itself. It is run after the moment that [`corrected`] looks back to.
pub(super) fn correction(wrong: &WrongReading) -> Query {
    query(
        "A sensor reported nonsense; correct it",
        format!(
            "UPDATE readings SET value = 22.4\nWHERE {}",
            wrong.condition()
        ),
    )
}

/// The corrected reading: now, before the correction, and all its versions.
pub(super) fn corrected(wrong: &WrongReading, before: &str) -> Vec<Query> {
    let condition = wrong.condition();
    vec![
        query(
            "Now the value is",
            format!("SELECT device_id, ts, value FROM readings\nWHERE {condition}"),
        ),
        query(
            "Before the correction the database said",
            format!(
                "SELECT device_id, ts, value FROM readings\n\
                 FOR SYSTEM_TIME AS OF TIMESTAMPTZ {}\nWHERE {condition}",
                quote_literal(before)
            ),
        ),
        query(
            "Nothing is lost: every version of that reading",
            format!(
                "SELECT * FROM history('readings', {}, 'temperature', {}, {})",
                quote_literal(&wrong.device_id),
                timestamp_literal(wrong.ts_micros),
                wrong.seq,
            ),
        ),
    ]
}

/// A moment as an SQL literal: `TIMESTAMPTZ '2025-01-31 12:00:00.000001+00'`.
fn timestamp_literal(micros: u64) -> String {
    let (days, rest) = (micros / 86_400_000_000, micros % 86_400_000_000);
    let (year, month, day) = date_of(days);
    let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
    format!(
        "TIMESTAMPTZ '{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{micros:06}+00'",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
    )
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant,
/// "chrono-compatible low-level date algorithms", `civil_from_days`).
fn date_of(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

/// Runs queries and prints them with their results.
pub(super) struct Shown {
    printer: Printer,
    /// Queries that failed.
    pub(super) failures: u32,
}

impl Shown {
    /// Prints to stdout.
    pub(super) fn new() -> Self {
        Self {
            printer: Printer::stdout(Format::Table),
            failures: 0,
        }
    }

    /// Prints the query and its result, or its error: a query that fails is no reason
    /// to keep the others back.
    pub(super) async fn show(
        &mut self,
        session: &mut Session,
        query: &Query,
    ) -> Result<(), CliError> {
        self.printer
            .raw(&format!("\n-- {}\n{};\n", query.title, query.sql))?;
        let printer = &mut self.printer;
        let result = session
            .run(&query.sql, &mut |event| printer.event(event))
            .await;
        match result {
            Ok(Progress::Done) => {}
            Ok(Progress::WantsCopyData) => session
                .copy_fail("the demo copies nothing")
                .await
                .map_err(|error| CliError::Failed(error.to_string()))?,
            Err(RunError::Sql(error)) => {
                self.failures += 1;
                self.printer.abandon()?;
                tell(&error_text(&error, &query.sql));
            }
            Err(RunError::Output(error)) => return Err(error.into()),
            Err(RunError::Lost(reason)) => return Err(CliError::Lost(reason)),
        }
        Ok(self.printer.flush()?)
    }
}

/// The node's clock, as it writes it: the stamp a later `AS OF` looks back to.
pub(super) async fn node_time(session: &mut Session) -> Result<String, CliError> {
    let failed =
        |reason: String| CliError::Failed(format!("asking the node for its time: {reason}"));
    let result = session
        .query("SELECT now()")
        .await
        .map_err(|error| failed(error.to_string()))?;
    let cell = result.rows.into_iter().flatten().flatten().next();
    cell.ok_or_else(|| failed("it gave none".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_become_literals() {
        assert_eq!(
            timestamp_literal(0),
            "TIMESTAMPTZ '1970-01-01 00:00:00.000000+00'"
        );
        assert_eq!(
            timestamp_literal(1_709_251_199_000_001),
            "TIMESTAMPTZ '2024-02-29 23:59:59.000001+00'"
        );
        assert_eq!(date_of(11_016), (2000, 2, 29));
        assert_eq!(date_of(20_454), (2026, 1, 1));
    }

    #[test]
    fn a_reading_is_named_by_its_whole_key() {
        let wrong = WrongReading {
            device_id: "green'house".into(),
            ts_micros: 0,
            seq: 9,
        };
        let sql = correction(&wrong).sql;
        assert!(
            sql.contains("device_id = 'green''house'") && sql.contains("seq = 9"),
            "{sql}"
        );
        let history = &corrected(&wrong, "x")[2].sql;
        assert!(history.contains("'temperature', TIMESTAMPTZ '1970-01-01 00:00:00.000000+00', 9)"));
    }
}
