//! `bench`: Chronos beside SQLite and PostgreSQL, in one run on one machine.
//!
//! It owns the peers it compares: it starts a `chronos` process and a PostgreSQL cluster of
//! its own, opens SQLite in this process, runs every phase on each of them in turn, and takes
//! all of it away again. It refuses to judge: it prints figures and whether a floor is met,
//! and exits 0 whatever they are.
//!
//! `bench cluster ..` is another run, of clusters beside etcd: see `cluster`.
//!
//! ```text
//! args ── suite (what is measured) ── peer (how one database does it) ── wire | http | sqlite
//!              │                                                              │
//!              └────────── report (runs, medians) ◄────── sample (latencies) ─┘
//!                              └── table | json
//! ```

mod args;
mod cleanup;
mod cluster;
mod data;
mod error;
mod http;
mod load;
mod machine;
mod peer;
mod process;
mod report;
mod sample;
mod suite;
mod table;
mod wire;

use std::process::ExitCode;

use args::Options;
use error::Result;
use machine::Machine;
use report::Report;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("cluster") {
        return match cluster::run(std::env::args().skip(2)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bench: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let options = match args::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("bench: {error}\n\n{}", args::HELP);
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One whole run: peers up, suites, tables, peers down.
fn run(options: &Options) -> Result<()> {
    cleanup::on_signal()?;
    let scratch = cleanup::Scratch::new(options.dir.as_deref())?;
    let mut machine = Machine::look(scratch.path())?;
    print!("{machine}");
    let mut peers = peer::start_all(options, scratch.path())?;
    for peer in &peers {
        println!("{:<10} {}", peer.kind().name(), peer.describe());
    }
    let mut report = Report::new(peers.iter().map(|peer| peer.kind()).collect());
    suite::run_all(options, &mut peers, &mut report);
    // Stopped in the open, before the tables, so that a hang here is seen for what it is.
    drop(peers);
    machine.finish();
    print!("{}", table::render(&report, &machine));
    if let Some(path) = &options.json {
        let text = report::to_json(&report, &machine, options);
        std::fs::write(path, text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        println!("\nwritten: {}", path.display());
    }
    Ok(())
}
