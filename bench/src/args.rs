//! The command line: what is run, on which peers, how long, and where the figures go.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::Result;
use crate::suite;

/// Printed by `--help`, and behind an error of usage.
pub(crate) const HELP: &str = "\
Chronos beside SQLite and PostgreSQL, in one run.

  --suite NAME,..    only these: idle, insert, batch, point, update, copy, scan, periods, ingest
  --chronos PATH     the binary to start [default: release/chronos in $CARGO_TARGET_DIR or target, if it exists]
  --pg-url URL       a running node, instead of starting one (memory and disk are not seen then)
  --http-url URL     its HTTP address, for the ingest suite
  --without NAME,..  leave peers out: sqlite, postgres, chronos
  --python PATH      a Python that has DuckDB's module, for the periods suite [default: python3]
  --quick            shorter phases, fewer repetitions, 2M rows instead of 10M
  --reps N           repetitions of every phase [default: 5; 3 with --quick]
  --rows N           rows of the scan suite, a multiple of the rows of one COPY
  --dir DIR          where data goes; must be a real disk [default: $TMPDIR, else /var/tmp]
  --json FILE        every single run, for machines
";

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Suites to run, in the order they are run.
    pub(crate) suites: Vec<String>,
    /// The binary to start.
    pub(crate) chronos: Option<PathBuf>,
    /// A node that runs already.
    pub(crate) pg_url: Option<String>,
    /// The HTTP address of that node.
    pub(crate) http_url: Option<String>,
    /// Peers to leave out.
    pub(crate) without: Vec<String>,
    /// Where data directories are made.
    pub(crate) dir: Option<PathBuf>,
    /// Where the figures are written as JSON.
    pub(crate) json: Option<PathBuf>,
    /// Where DuckDB is, for the suite that has it for a peer.
    pub(crate) python: String,
    /// How much of everything.
    pub(crate) scale: Scale,
}

/// How much of everything: each phase is bounded by these.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    /// Repetitions of every phase; the table shows their median.
    pub(crate) reps: usize,
    /// Measured time of a phase made of operations.
    pub(crate) phase: Duration,
    /// Unmeasured time in front of it.
    pub(crate) warm_up: Duration,
    /// Rows of the tables of the point and update suites.
    pub(crate) keyed_rows: u64,
    /// Rows of one COPY.
    pub(crate) copy_rows: u64,
    /// Rows of the scan suite's table.
    pub(crate) scan_rows: u64,
}

impl Scale {
    fn full() -> Scale {
        Scale {
            reps: 5,
            phase: Duration::from_secs(4),
            warm_up: Duration::from_millis(500),
            keyed_rows: 1_000_000,
            copy_rows: 1_000_000,
            scan_rows: 10_000_000,
        }
    }

    fn quick() -> Scale {
        Scale {
            reps: 3,
            phase: Duration::from_secs(1),
            warm_up: Duration::from_millis(200),
            keyed_rows: 100_000,
            copy_rows: 500_000,
            scan_rows: 2_000_000,
        }
    }
}

/// Reads the arguments; `None` when help was asked for.
pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let args: Vec<String> = args.collect();
    let scale = if args.iter().any(|arg| arg == "--quick") {
        Scale::quick()
    } else {
        Scale::full()
    };
    let mut options = Options {
        suites: suite::NAMES.iter().map(|&name| name.to_owned()).collect(),
        chronos: None,
        pg_url: None,
        http_url: None,
        without: Vec::new(),
        dir: None,
        json: None,
        python: "python3".to_owned(),
        scale,
    };
    let mut rest = args.into_iter();
    while let Some(flag) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--help" | "-h" => return Ok(None),
            "--quick" => {}
            "--suite" => options.suites = names(&value()?, &suite::NAMES)?,
            "--without" => options.without = names(&value()?, &["sqlite", "postgres", "chronos"])?,
            "--chronos" => options.chronos = Some(value()?.into()),
            "--pg-url" => options.pg_url = Some(value()?),
            "--http-url" => options.http_url = Some(value()?),
            "--dir" => options.dir = Some(value()?.into()),
            "--python" => options.python = value()?,
            "--json" => options.json = Some(value()?.into()),
            "--reps" => options.scale.reps = count(&value()?)? as usize,
            "--rows" => options.scale.scan_rows = count(&value()?)?,
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    if !options
        .scale
        .scan_rows
        .is_multiple_of(options.scale.copy_rows)
    {
        return Err(format!("--rows must be a multiple of {}", options.scale.copy_rows).into());
    }
    Ok(Some(options))
}

/// A comma-separated list of names out of `known`, in the order of `known`.
fn names(list: &str, known: &[&str]) -> Result<Vec<String>> {
    let asked: Vec<&str> = list.split(',').map(str::trim).collect();
    if let Some(unknown) = asked.iter().find(|name| !known.contains(name)) {
        return Err(format!("{unknown} is not one of {}", known.join(", ")).into());
    }
    Ok(known
        .iter()
        .filter(|name| asked.contains(name))
        .map(|&name| name.to_owned())
        .collect())
}

/// A number of at least 1.
fn count(text: &str) -> Result<u64> {
    match text.replace('_', "").parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text} is not a number of at least 1").into()),
    }
}
