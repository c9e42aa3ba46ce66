//! Whole clusters under faults: every seed is another run, and all of them must hold.
//!
//! ```text
//!   cargo test -p chronos-sim --test cluster                       some hundred seeds
//!   CHRONOS_SIM_SEEDS=10000 cargo test -p chronos-sim ..           so many
//!   CHRONOS_SIM_SEED=17 cargo test -p chronos-sim ..               this one, and what happens in it
//! ```
//!
//! Each seed runs in a process of its own, in which the standard library and tokio get the same random numbers every
//! time: tokio wakes tasks that wait for one thing in a random order, and its stable interface takes no seed.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use chronos_sim::cluster::{run, Plan, Print, Report};
use parking_lot::Mutex;

/// Runs of an ordinary test.
const SEEDS: u64 = 200;
const SEED: &str = "CHRONOS_SIM_SEED";
/// Set for processes that are started here: what they print is read, and shown only if they fail.
const CHILD: &str = "CHRONOS_SIM_CHILD";
/// Before a child's report.
const REPORT: &str = "report: ";

/// Takes the place of the C library's function of this name, for callers in this program.
#[allow(
    unsafe_code,
    reason = "it is called by the standard library, with C's types"
)]
mod getrandom {
    use std::sync::atomic::{AtomicU64, Ordering};

    static STATE: AtomicU64 = AtomicU64::new(0);

    #[no_mangle]
    extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
        // Weyl's sequence: good enough to tell hash maps apart.
        let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        for at in 0..length {
            // SAFETY: whoever calls promises that `length` bytes can be written there.
            unsafe { buffer.add(at).write(state.to_le_bytes()[at % 8]) };
        }
        length as isize
    }
}

fn number_of(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is {value}, which is no number")))
}

/// Runs a seed in another process: its report, or all it said.
fn run_apart(seed: u64) -> Result<[u64; 6], String> {
    let program = std::env::current_exe().expect("a program knows where it is");
    let output = Command::new(program)
        .args(["--exact", "clusters_keep_their_promises", "--nocapture"])
        .env(SEED, seed.to_string())
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .expect("a program can be started again");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    let panicked = complaints.contains("panicked at");
    let numbers = said.lines().find_map(|line| line.strip_prefix(REPORT));
    let numbers = numbers.map(|line| line.split(' ').filter_map(|n| n.parse().ok()));
    match numbers.map(Iterator::collect::<Vec<u64>>) {
        // A panic in a task ends the task; that the cluster survives it is no excuse.
        Some(numbers) if output.status.success() && numbers.len() == 6 && !panicked => {
            Ok(std::array::from_fn(|at| numbers[at]))
        }
        _ => Err(format!("{said}\n{complaints}")),
    }
}

/// What a process that runs one seed does.
fn run_here(seed: u64) {
    let is_child = std::env::var_os(CHILD).is_some();
    let print = match is_child {
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

#[test]
fn clusters_keep_their_promises() {
    if let Some(seed) = number_of(SEED) {
        return run_here(seed);
    }
    let seeds = number_of("CHRONOS_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let results = Mutex::new((Vec::new(), Vec::new()));
    // As many side by side as there are processors.
    std::thread::scope(|scope| {
        for _ in 0..chronos_env::cpu_count() {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return;
                }
                let result = run_apart(seed);
                let mut results = results.lock();
                match result {
                    Ok(report) => results.0.push(report),
                    Err(said) => results.1.push((seed, said)),
                }
            });
        }
    });
    let (reports, mut failures) = results.into_inner();
    let sum = |at: usize| reports.iter().map(|report| report[at]).sum::<u64>();
    println!(
        "{} of {seeds} seeds hold: {} statements answered, {} refused, {} of unknown outcome; {} messages",
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
