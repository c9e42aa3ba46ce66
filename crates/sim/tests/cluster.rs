//! Whole clusters under faults: every seed is another run, and all of them must hold.
//!
//! ```text
//!   cargo test -p chronos-sim --test cluster                       some hundred seeds
//!   CHRONOS_SIM_SEEDS=10000 cargo test -p chronos-sim ..           so many
//!   CHRONOS_SIM_SEED=17 cargo test -p chronos-sim ..               this one, and what happens in it
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use chronos_sim::cluster::{run, Failure, Plan, Print, Report};
use parking_lot::Mutex;

/// Runs of an ordinary test.
const SEEDS: u64 = 200;

fn number_of(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is {value}, which is no number")))
}

/// Runs seeds side by side, as many as there are processors; what failed, in their order.
fn run_all(seeds: std::ops::Range<u64>) -> (Vec<Report>, Vec<Failure>) {
    let next = AtomicU64::new(seeds.start);
    let results = Mutex::new((Vec::new(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..chronos_env::cpu_count() {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    return;
                }
                let result = run(Plan::of(seed), Print::AfterFailure);
                let mut results = results.lock();
                match result {
                    Ok(report) => results.0.push(report),
                    Err(failure) => results.1.push(failure),
                }
            });
        }
    });
    let (reports, mut failures) = results.into_inner();
    failures.sort_by_key(|failure| failure.seed);
    (reports, failures)
}

#[test]
fn clusters_keep_their_promises() {
    if let Some(seed) = number_of("CHRONOS_SIM_SEED") {
        match run(Plan::of(seed), Print::AsItHappens) {
            Ok(report) => println!("seed {seed} holds: {report:?}"),
            Err(failure) => panic!("{failure}"),
        }
        return;
    }
    let seeds = number_of("CHRONOS_SIM_SEEDS").unwrap_or(SEEDS);
    let (reports, failures) = run_all(0..seeds);
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    println!(
        "{} of {seeds} seeds hold: {} statements answered, {} refused, {} of unknown outcome; {} messages",
        reports.len(),
        sum(|r| r.tally.done),
        sum(|r| r.tally.refused),
        sum(|r| r.tally.unknown),
        sum(|r| r.messages),
    );
    if let Some(first) = failures.first() {
        let all: Vec<u64> = failures.iter().map(|failure| failure.seed).collect();
        panic!("{first}\nseeds that failed: {all:?}");
    }
}

#[test]
fn a_seed_repeats_itself() {
    for seed in [3, 5] {
        let first = run(Plan::of(seed), Print::AfterFailure);
        let again = run(Plan::of(seed), Print::AfterFailure);
        match (first, again) {
            (Ok(first), Ok(again)) => assert_eq!(first, again, "seed {seed}"),
            (first, again) => panic!("seed {seed}: {first:?}, then {again:?}"),
        }
    }
}
