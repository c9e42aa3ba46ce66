//! The command line: which suite, how many rows, which engines, where data and results go.

use std::path::PathBuf;

use crate::engine;
use crate::error::{failure, Result};

/// Printed by `--help`, and behind an error of usage.
pub(crate) const HELP: &str = "\
The store of Chronos beside embedded engines, file formats and codecs.

  store-bench codecs|store|by-key|hot-key|growth [flags]

  --rows N           store: rows [10M]; by-key: keys of the larger table [10M]; hot-key: updates of the one key [1M]; growth: rows of the
                     last checkpoint [10M]
  --reps N           repetitions of every read, the median is shown [5]
  --engines NAME,..  store, by-key: only these: chronos, fjall, redb, sqlite, duckdb, parquet, parquet-zstd
  --python PATH      store: a Python that has the module duckdb [python3]
  --series DIR       codecs: CSV files with a header whose last column is a number
                     [$CHRONOS_BENCH_SERIES, else only synthetic series]
  --block N          codecs: values that are encoded together [2048]
  --dir DIR          where data goes; must be a real disk [$TMPDIR, else /var/tmp]
  --out DIR          growth: where the CSV file and the chart go [docs/benchmarks]
";

/// Which suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suite {
    Codecs,
    Store,
    ByKey,
    HotKey,
    Growth,
    /// One engine of the store suite, in this process.
    Child(engine::Kind),
    /// One engine of the by-key suite, in this process.
    ByKeyChild(engine::Kind),
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) suite: Suite,
    pub(crate) rows: Option<u64>,
    pub(crate) reps: usize,
    pub(crate) engines: Vec<engine::Kind>,
    pub(crate) python: String,
    pub(crate) series: Option<PathBuf>,
    pub(crate) block: usize,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) out: PathBuf,
}

/// Reads the arguments; `None` when help was asked for.
pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let suite = match args.next().as_deref() {
        Some("codecs") => Suite::Codecs,
        Some("store") => Suite::Store,
        Some("by-key") => Suite::ByKey,
        Some("hot-key") => Suite::HotKey,
        Some("growth") => Suite::Growth,
        Some("child") => Suite::Child(engine::Kind::parse(&args.next().unwrap_or_default())?),
        Some("by-key-child") => {
            Suite::ByKeyChild(engine::Kind::parse(&args.next().unwrap_or_default())?)
        }
        Some("--help" | "-h") => return Ok(None),
        Some(other) => return failure(format!("there is no suite {other}")),
        None => return failure("which suite?"),
    };
    let mut options = Options {
        suite,
        rows: None,
        reps: 5,
        engines: engine::Kind::ALL.to_vec(),
        python: "python3".into(),
        series: std::env::var_os("CHRONOS_BENCH_SERIES").map(PathBuf::from),
        block: 2048,
        dir: None,
        out: "docs/benchmarks".into(),
    };
    while let Some(flag) = args.next() {
        if matches!(flag.as_str(), "--help" | "-h") {
            return Ok(None);
        }
        let Some(value) = args.next() else {
            return failure(format!("{flag} needs a value"));
        };
        match flag.as_str() {
            "--rows" => options.rows = Some(count(&value)?),
            "--reps" => options.reps = count(&value)? as usize,
            "--engines" => {
                let names = value.split(',').map(str::trim);
                options.engines = names.map(engine::Kind::parse).collect::<Result<_>>()?;
            }
            "--python" => options.python = value,
            "--series" => options.series = Some(value.into()),
            "--block" => options.block = count(&value)? as usize,
            "--dir" => options.dir = Some(value.into()),
            "--out" => options.out = value.into(),
            other => return failure(format!("unknown argument {other}")),
        }
    }
    Ok(Some(options))
}

/// A number of at least 1; `k` and `M` behind it multiply.
fn count(text: &str) -> Result<u64> {
    let plain = text.replace('_', "");
    let (digits, unit) = match plain.as_bytes().last() {
        Some(b'k') => (&plain[..plain.len() - 1], 1_000),
        Some(b'M') => (&plain[..plain.len() - 1], 1_000_000),
        _ => (plain.as_str(), 1),
    };
    match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)) {
        Some(number) if number > 0 => Ok(number),
        _ => failure(format!("{text} is not a number of at least 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_may_have_units() {
        assert_eq!(count("200_000").unwrap(), 200_000);
        assert_eq!(count("10M").unwrap(), 10_000_000);
        assert_eq!(count("3k").unwrap(), 3_000);
        for wrong in ["0", "-1", "M", "", "1G", "99999999999999999999"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }
}
