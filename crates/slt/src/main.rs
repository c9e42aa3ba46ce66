//! `chronos-slt DIR`: runs sqllogictest scripts, of whatever origin, against Chronos.
//!
//! ```text
//!   args ──► files ──► one worker per job ──► script ──► report
//!                        |                     |  \
//!                      target                  |   compare   what is expected, what came
//!                 (a node, or a URL)        connection
//! ```
//!
//! Owns the command line and the exit code: 0 if every record passed, 1 if one failed or a file could not
//! be read, 2 if the arguments make no sense. A tool for development: nothing that is shipped depends on it.
//! It is no test by itself; Chronos' own scripts in `tests/sql` are run by `cargo test`, too.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a tool beside the database: it uses the real clock and files"
)]

mod args;
mod compare;
mod connection;
mod files;
mod report;
mod script;
mod target;
#[path = "../../chronos/tests/it/value.rs"]
#[allow(dead_code, reason = "shared with the tests of the binary")]
mod value;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::Parser as _;

use args::Args;
use report::{FileReport, Report};
use target::Target;

/// Stack of a thread that plans queries: deep expressions recurse.
const STACK_BYTES: usize = 8 << 20;
/// Exit code of arguments that make no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let scripts = match files::collect(&args.paths, &args.filter) {
        Ok(scripts) if scripts.is_empty() => return usage("there are no .slt or .test files"),
        Ok(scripts) => scripts,
        Err(why) => return usage(&why),
    };
    if args.url.is_some() && args.jobs > 1 {
        return usage("--jobs needs a database for each file: leave --url out");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return usage(&format!("cannot start the runtime: {e}")),
    };
    let report = runtime.block_on(run_all(Arc::new(args.clone()), scripts));
    runtime.shutdown_background();
    report.print_total();
    if let Some(path) = &args.json {
        if let Err(e) = report.write(path) {
            return usage(&format!("cannot write {}: {e}", path.display()));
        }
    }
    ExitCode::from(u8::from(!report.is_success()))
}

fn usage(why: &str) -> ExitCode {
    eprintln!("chronos-slt: {why}");
    ExitCode::from(USAGE)
}

/// Runs all scripts, `jobs` at a time, and prints each as it ends.
async fn run_all(args: Arc<Args>, mut scripts: Vec<files::Script>) -> Report {
    scripts.reverse();
    let waiting = Arc::new(Mutex::new(scripts));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..args.jobs.max(1) {
        let (args, waiting) = (Arc::clone(&args), Arc::clone(&waiting));
        workers.spawn(async move {
            let mut done = Vec::new();
            loop {
                let next = waiting.lock().expect("no worker panics with it").pop();
                let Some(next) = next else {
                    return done;
                };
                let report = run_one(&args, &next).await;
                report.print(args.verbose);
                done.push(report);
            }
        });
    }
    let mut reports = Vec::new();
    while let Some(done) = workers.join_next().await {
        match done {
            Ok(done) => reports.extend(done),
            Err(e) => eprintln!("chronos-slt: a worker ended early: {e}"),
        }
    }
    Report::of(reports)
}

async fn run_one(args: &Args, script: &files::Script) -> FileReport {
    let begun = std::time::Instant::now();
    let mut report = FileReport::new(&script.name);
    match Target::prepare(args.url.as_deref()).await {
        Ok(target) => {
            script::run(args, script, &target, &mut report).await;
            if let Err(why) = target.clean_up().await {
                report.error.get_or_insert(why);
            }
        }
        Err(why) => report.error = Some(why),
    }
    report.seconds = begun.elapsed().as_secs_f64();
    report
}
