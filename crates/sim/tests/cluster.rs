//! Whole clusters under faults: every seed is another run, and all of them must hold.
//!
//! ```text
//!   cargo test -p chronos-sim --test cluster                       some hundred seeds
//!   CHRONOS_SIM_SEEDS=10000 cargo test -p chronos-sim ..           so many
//!   CHRONOS_SIM_FIRST=5000 ..                                      beginning with this one
//!   CHRONOS_SIM_SEED=17 cargo test -p chronos-sim ..               this one, and what happens in it
//! ```

mod apart;

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use apart::{is_child, number_of, SEED};
use chronos_env::{Clock, SystemClock};
use chronos_sim::cluster::{run, Plan, Print, Report};
use parking_lot::Mutex;

/// Runs of an ordinary test.
const SEEDS: u64 = 200;
/// How many are to be run.
const COUNT: &str = "CHRONOS_SIM_SEEDS";
/// The first of them.
const FIRST: &str = "CHRONOS_SIM_FIRST";
/// Whoever asks for many is told how it goes after so many.
const PROGRESS: usize = 100;
/// Before a child's report.
const REPORT: &str = "report: ";

/// Runs a seed in another process: its report, or all it said.
fn run_apart(seed: u64) -> Result<[u64; 6], String> {
    let said = apart::run_apart("clusters_keep_their_promises", seed);
    let numbers = said.after(REPORT);
    let numbers = numbers.map(|line| line.split(' ').filter_map(|n| n.parse().ok()));
    let panicked = said.err.contains("panicked at");
    match numbers.map(Iterator::collect::<Vec<u64>>) {
        // A panic in a task ends the task; that the cluster survives it is no excuse.
        Some(numbers) if said.ended_well && numbers.len() == 6 && !panicked => {
            Ok(std::array::from_fn(|at| numbers[at]))
        }
        _ => Err(format!(
            "{}\n{}\nseed {seed} fails. Again, with everything that happens in it:\n  \
             {SEED}={seed} cargo test -p chronos-sim --test cluster -- --nocapture",
            said.out, said.err
        )),
    }
}

/// What a process that runs one seed does.
fn run_here(seed: u64) {
    let print = match is_child() {
        true => Print::AfterFailure,
        false => Print::AsItHappens,
    };
    match run(Plan::of(seed), print) {
        Ok(Report {
            digest,
            events,
            messages,
            tally,
        }) => println!(
            "\n{REPORT}{digest} {events} {messages} {} {} {}",
            tally.done, tally.refused, tally.unknown
        ),
        Err(failure) => panic!("{failure}"),
    }
}

/// Past what collects the output of tests, which nobody sees before the end.
fn tell(line: &str) {
    // Nobody has to listen.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn clusters_keep_their_promises() {
    if let Some(seed) = number_of(SEED) {
        return run_here(seed);
    }
    let asked = number_of(COUNT);
    let first = number_of(FIRST).unwrap_or(0);
    let end = first + asked.unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let clock = SystemClock::new();
    let begun = clock.monotonic_nanos();
    let results = Mutex::new((Vec::new(), Vec::new()));
    // As many side by side as there are processors.
    std::thread::scope(|scope| {
        for _ in 0..chronos_env::cpu_count() {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end || failed.load(Ordering::Relaxed) {
                    return;
                }
                let result = run_apart(seed);
                let mut results = results.lock();
                let report = match result {
                    Ok(report) => report,
                    Err(said) => {
                        failed.store(true, Ordering::Relaxed);
                        return results.1.push((seed, said));
                    }
                };
                results.0.push(report);
                let held = results.0.len();
                if asked.is_some() && held.is_multiple_of(PROGRESS) {
                    let seconds = (clock.monotonic_nanos() - begun) / 1_000_000_000;
                    tell(&format!(
                        "{held} seeds hold, up to about {seed}, after {seconds} s"
                    ));
                }
            });
        }
    });
    let (reports, mut failures) = results.into_inner();
    let sum = |at: usize| reports.iter().map(|report| report[at]).sum::<u64>();
    println!(
        "{} seeds from {first} on hold: {} statements answered, {} refused, {} of unknown outcome; {} messages",
        reports.len(),
        sum(3),
        sum(4),
        sum(5),
        sum(2),
    );
    failures.sort();
    if let Some((_, said)) = failures.first() {
        let all: Vec<u64> = failures.iter().map(|(seed, _)| *seed).collect();
        panic!("{said}\nseeds that failed: {all:?}");
    }
}

#[test]
fn a_seed_repeats_itself() {
    if number_of(SEED).is_some() {
        return;
    }
    for seed in [3, 5, 8] {
        let first = run_apart(seed).unwrap_or_else(|said| panic!("{said}"));
        let again = run_apart(seed).unwrap_or_else(|said| panic!("{said}"));
        assert_eq!(first, again, "seed {seed}");
    }
}
