//! The command line of `bench cluster`.

use std::path::PathBuf;
use std::time::Duration;

use super::Kind;
use crate::error::Result;

/// Printed by `--help`.
pub(crate) const HELP: &str = "\
Three Chronos nodes beside three members of etcd, in one run.

  --chronos PATH     the binary to start [default: release/chronos in $CARGO_TARGET_DIR or target]
  --etcd PATH        etcd's server [default: etcd in $PATH]
  --without NAME,..  leave out etcd or chronos
  --nodes N          members of each cluster: 1, 3 or 5 [default: 3]
  --clients N,..     numbers of clients [default: 1,64,256]
  --only NAME,..     only these: writes, replace, reads, batches
  --quick            shorter phases, fewer repetitions
  --reps N           repetitions of every phase [default: 5; 3 with --quick]
  --dir DIR          where data goes; must be a real disk [default: $TMPDIR, else /var/tmp]
  --json FILE        every single run, for machines
";

/// The phases' names.
const PHASES: [&str; 4] = ["writes", "replace", "reads", "batches"];

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The binary to start.
    pub(crate) chronos: Option<PathBuf>,
    /// The server to start.
    pub(crate) etcd: PathBuf,
    /// Left out.
    pub(crate) without: Vec<Kind>,
    /// Members of each cluster.
    pub(crate) nodes: usize,
    /// Numbers of clients.
    pub(crate) clients: Vec<usize>,
    /// Phases to run.
    pub(crate) only: Vec<String>,
    /// Repetitions of every phase.
    pub(crate) reps: usize,
    /// Measured time of a phase.
    pub(crate) phase: Duration,
    /// Unmeasured time in front of it.
    pub(crate) warm_up: Duration,
    /// Where data directories are made.
    pub(crate) dir: Option<PathBuf>,
    /// Where the figures are written as JSON.
    pub(crate) json: Option<PathBuf>,
}

/// Reads the arguments; `None` when help was asked for.
pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Option<Options>> {
    let args: Vec<String> = args.collect();
    let is_quick = args.iter().any(|arg| arg == "--quick");
    let (reps, phase_ms, warm_up_ms) = if is_quick {
        (3, 1_000, 200)
    } else {
        (5, 4_000, 500)
    };
    let mut options = Options {
        chronos: None,
        etcd: "etcd".into(),
        without: Vec::new(),
        nodes: 3,
        clients: vec![1, 64, 256],
        only: PHASES.iter().map(|&name| name.to_owned()).collect(),
        reps,
        phase: Duration::from_millis(phase_ms),
        warm_up: Duration::from_millis(warm_up_ms),
        dir: None,
        json: None,
    };
    let mut rest = args.into_iter();
    while let Some(flag) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--help" | "-h" => return Ok(None),
            "--quick" => {}
            "--chronos" => options.chronos = Some(value()?.into()),
            "--etcd" => options.etcd = value()?.into(),
            "--without" => options.without = list(&value()?, kind)?,
            "--nodes" => options.nodes = members(&value()?)?,
            "--clients" => options.clients = list(&value()?, count)?,
            "--only" => options.only = list(&value()?, phase)?,
            "--reps" => options.reps = count(&value()?)?,
            "--dir" => options.dir = Some(value()?.into()),
            "--json" => options.json = Some(value()?.into()),
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    Ok(Some(options))
}

fn list<T>(text: &str, item: fn(&str) -> Result<T>) -> Result<Vec<T>> {
    text.split(',').map(str::trim).map(item).collect()
}

fn kind(name: &str) -> Result<Kind> {
    match name {
        "etcd" => Ok(Kind::Etcd),
        "chronos" => Ok(Kind::Chronos),
        _ => Err(format!("{name} is not etcd or chronos").into()),
    }
}

fn phase(name: &str) -> Result<String> {
    match PHASES.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name} is not one of {}", PHASES.join(", ")).into()),
    }
}

/// An odd number: with an even one more members are needed for a quorum, and no more may be lost.
fn members(text: &str) -> Result<usize> {
    match count(text)? {
        number @ (1 | 3 | 5) => Ok(number),
        other => Err(format!("{other} members: give 1, 3 or 5").into()),
    }
}

/// A number of at least 1.
fn count(text: &str) -> Result<usize> {
    match text.replace('_', "").parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text} is not a number of at least 1").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Option<Options>> {
        parse(args.iter().map(|&arg| arg.to_owned()))
    }

    #[test]
    fn flags_are_read_and_wrong_ones_refused() {
        let options = parsed(&["--quick", "--clients", "1,8", "--without", "etcd"]);
        let options = options.unwrap().unwrap();
        assert_eq!((options.reps, &options.clients[..]), (3, &[1, 8][..]));
        assert_eq!(options.without, [Kind::Etcd]);
        assert!(parsed(&["--help"]).unwrap().is_none());
        for wrong in [
            ["--clients", "0"],
            ["--nodes", "2"],
            ["--only", "x"],
            ["--without", "consul"],
        ] {
            assert!(parsed(&wrong).is_err(), "{wrong:?}");
        }
    }
}
