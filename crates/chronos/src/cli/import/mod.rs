//! `chronos import`: a CSV file into a table.
//!
//! ```text
//!   file ─► source (gunzip, records) ─► batches ─► load: COPY ─► node
//!             │ first batch                          │ refused
//!             └► infer ─► CREATE TABLE               └► narrow ─► rejects, by line
//! ```
//!
//! The file is read on a thread of its own, at most [`BATCHES_AHEAD`] batches ahead of
//! the node, so memory stays bounded whatever the file's size. Values are never
//! converted here: the node reads them, and its word on a bad one is what is reported.

mod batch;
mod infer;
mod load;
mod records;
mod source;
mod table;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use chronos_env::Env;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::args::ImportArgs;
use super::error::{tell, CliError};
use super::wire::Session;
use batch::Batch;
use load::Load;
use source::Source;
use table::Destination;

/// Rows that types are inferred from.
const SAMPLE_ROWS: usize = 10_000;
/// Batches that are read before the node has taken earlier ones.
const BATCHES_AHEAD: usize = 2;

/// Loads the file.
pub(crate) async fn run(args: ImportArgs, env: &Env) -> Result<(), CliError> {
    let target = args.node.target()?;
    let mut source = Source::open(&args.file, args.delimiter)?;
    let mut session = Session::connect(&target).await?;
    let started = env.clock.monotonic_nanos();

    let header = match args.no_header {
        true => None,
        false => Some(source.header()?.ok_or_else(|| {
            CliError::Failed(format!("{} is empty: it has not even a header", args.file))
        })?),
    };
    let (headings, header_record) = header.map(|h| (h.headings, h.record)).unzip();
    let sample = table::sample(&mut source, SAMPLE_ROWS.min(args.batch_rows as usize))?;
    let destination = destination(&mut session, &args, headings, &sample).await?;

    let copy = destination.copy_statement(args.delimiter, &args.null);
    let mut load = Load::new(
        copy,
        args.max_rejects,
        args.reject_file.as_deref(),
        header_record.unwrap_or_default(),
    )?;
    let bar = progress_bar(&source);
    let result = send_all(
        &mut session,
        source,
        sample,
        &destination,
        &args,
        &mut load,
        &bar,
    )
    .await;
    bar.finish_and_clear();
    load.finish()?;
    session.close().await;
    result?;

    let elapsed = env.clock.monotonic_nanos().saturating_sub(started);
    writeln!(
        io::stdout(),
        "{}",
        summary(load.stored, load.rejected, elapsed)
    )?;
    Ok(())
}

/// Finds or creates the table.
async fn destination(
    session: &mut Session,
    args: &ImportArgs,
    headings: Option<Vec<String>>,
    sample: &Batch,
) -> Result<Destination, CliError> {
    let table = table::table_sql(&args.table)?;
    let width = table::first_width(sample, args.delimiter);
    let existing = table::existing_columns(session, &table).await?;
    if let Some(existing) = existing {
        if args.create {
            let message = format!("table {table} exists, and --create asks for a new one");
            return Err(CliError::Failed(message));
        }
        let columns = match &headings {
            Some(headings) => table::match_columns(&table, headings, &existing)?,
            None => table::match_positions(&table, width, &existing)?,
        };
        return Ok(Destination { table, columns });
    }
    if args.no_create {
        return Err(CliError::Failed(format!("there is no table {table}")));
    }
    let headings = headings.unwrap_or_else(|| table::numbered_headings(width));
    if headings.is_empty() {
        return Err(CliError::Failed(format!(
            "{} is empty: nothing tells the columns of table {table}",
            args.file
        )));
    }
    let columns = table::infer_columns(&headings, sample, args.delimiter, &args.null);
    let key = table::key_columns(args, &columns)?;
    let statement = table::create(session, &table, &columns, &key).await?;
    writeln!(
        io::stdout(),
        "There is no table {table}; created it:\n{statement};"
    )?;
    let columns = columns.into_iter().map(|(name, _)| name).collect();
    Ok(Destination { table, columns })
}

/// Sends the sample and then the rest of the file.
async fn send_all(
    session: &mut Session,
    mut source: Source,
    sample: Batch,
    destination: &Destination,
    args: &ImportArgs,
    load: &mut Load,
    bar: &Progress,
) -> Result<(), CliError> {
    let report = |line: &str| bar.report(line);
    let rows_max = args.batch_rows as usize;
    let blank_is_row = destination.columns.len() == 1;
    let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
    // Ends by itself when the receiver is gone.
    let reader = tokio::task::spawn_blocking(move || loop {
        let next = source.batch(rows_max, blank_is_row);
        let last = !matches!(next, Ok(Some(_)));
        let Some(next) = next.transpose() else { return };
        if sender.blocking_send(next).is_err() || last {
            return;
        }
    });
    if sample.len() > 0 {
        load.batch(session, &sample, &report).await?;
        bar.advance(load);
    }
    while let Some(batch) = batches.recv().await {
        load.batch(session, &batch?, &report).await?;
        bar.advance(load);
    }
    reader
        .await
        .map_err(|error| CliError::Failed(format!("reading {} failed: {error}", args.file)))
}

/// The bar on the terminal; nothing when stderr is not one.
struct Progress {
    bar: ProgressBar,
    bytes_read: Arc<AtomicU64>,
}

impl Progress {
    fn advance(&self, load: &Load) {
        self.bar
            .set_position(self.bytes_read.load(Ordering::Relaxed));
        let seconds = self.bar.elapsed().as_secs_f64().max(1e-3);
        let rate = HumanCount((load.stored as f64 / seconds) as u64);
        let mut text = format!("{} rows, {rate} rows/s", HumanCount(load.stored));
        if load.rejected > 0 {
            text.push_str(&format!(", {} rejected", HumanCount(load.rejected)));
        }
        self.bar.set_message(text);
    }

    fn report(&self, line: &str) {
        self.bar.suspend(|| tell(line));
    }

    fn finish_and_clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn progress_bar(source: &Source) -> Progress {
    let (bar, template) = match source.size_bytes {
        Some(size) => (
            ProgressBar::new(size),
            "{bar:30} {bytes}/{total_bytes}  {msg}  {eta} left",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    Progress {
        bar,
        bytes_read: source.bytes_read.clone(),
    }
}

/// `22,695 rows in 0.4 s (56,000 rows/s), 0 rejected`
fn summary(stored: u64, rejected: u64, nanos: u64) -> String {
    let seconds = nanos as f64 / 1e9;
    // Two significant digits: more would claim a precision one run does not have.
    let rate = stored as f64 / seconds.max(1e-3);
    let unit = 10f64.powi((rate.max(1.0).log10().floor() as i32 - 1).max(0));
    let rate = (rate / unit).round() * unit;
    let plural = if stored == 1 { "row" } else { "rows" };
    format!(
        "{} {plural} in {seconds:.1} s ({} rows/s), {} rejected",
        HumanCount(stored),
        HumanCount(rate as u64),
        HumanCount(rejected),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_rounds_its_rate() {
        assert_eq!(
            summary(22_695, 0, 405_000_000),
            "22,695 rows in 0.4 s (56,000 rows/s), 0 rejected"
        );
        assert_eq!(
            summary(1, 2, 0),
            "1 row in 0.0 s (1,000 rows/s), 2 rejected"
        );
        assert_eq!(summary(0, 0, 0), "0 rows in 0.0 s (0 rows/s), 0 rejected");
    }
}
