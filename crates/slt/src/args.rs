//! The command line of `chronos-slt`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Runs sqllogictest scripts (.slt, .test) against Chronos
#[derive(Parser, Clone, Debug)]
#[command(name = "chronos-slt", version)]
pub(crate) struct Args {
    /// Directories, which are searched, and files
    #[arg(required = true, value_name = "DIR")]
    pub(crate) paths: Vec<PathBuf>,
    /// A running server [default: a node of its own for each file, in a temporary directory].
    /// What a file has created in the schema `public` is dropped behind it
    #[arg(long, value_name = "postgres://..")]
    pub(crate) url: Option<String>,
    /// How many files at a time
    #[arg(long, short, default_value_t = 1)]
    pub(crate) jobs: usize,
    /// By which messages statements are sent
    #[arg(long, value_enum, default_value_t = Protocol::Simple)]
    pub(crate) protocol: Protocol,
    /// How values are expected to be written
    #[arg(long, value_enum, default_value_t = Values::Any)]
    pub(crate) values: Values,
    /// Only files with this in their path; may be given several times
    #[arg(long)]
    pub(crate) filter: Vec<String>,
    /// A label for `onlyif` and `skipif`, beside `chronos` and the protocol's name; may be given several times.
    /// SQLite's scripts want `--label postgresql`
    #[arg(long)]
    pub(crate) label: Vec<String>,
    /// All failures, not only the first of each file
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Writes a summary to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// A record that takes longer has failed, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub(crate) timeout: Duration,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|e| e.to_string())
}

/// Which messages carry a statement.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// `Query`: text
    Simple,
    /// `Parse`, `Bind`, `Execute`: prepared, results in binary
    Extended,
}

impl Protocol {
    /// Its name, which is also a label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Simple => "simple",
            Protocol::Extended => "extended",
        }
    }
}

/// How scripts write values.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Either way: what matches one of them has passed
    Any,
    /// As PostgreSQL does
    Text,
    /// As SQLite's runner does: by the column's letter, `I` as an integer, `R` with three digits
    Sqlite,
    /// As PostgreSQL does, but for `true` and `false`
    Words,
}
