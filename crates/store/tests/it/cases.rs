//! Many random cases, each of a seed of its own, on a few threads.

use chronos_env::{OsRandom, Random};
use proptest::prelude::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// Runs the case of a seed; if it fails, finds the smallest that does.
fn run_seed<S: Strategy>(strategy: &S, test: &impl Fn(S::Value), seed: u64) {
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 4_096,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let outcome = TestRunner::new_with_rng(config, rng).run(strategy, |case| {
        test(case);
        Ok(())
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(reason, smallest)) => {
            panic!("{reason}\nwith {smallest:#?}\nreproduce with CHRONOS_STORE_SEED={seed}")
        }
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

fn number_of(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// Runs `count` cases, or as the environment says: `CHRONOS_STORE_SEED=n` the case of this seed,
/// `CHRONOS_STORE_CASES=n` n times as many.
pub(crate) fn run_cases<S: Strategy>(
    count: u64,
    strategy: impl Fn() -> S + Sync,
    test: impl Fn(S::Value) + Sync,
) {
    if let Some(seed) = number_of("CHRONOS_STORE_SEED") {
        return run_seed(&strategy(), &test, seed);
    }
    let count = count * number_of("CHRONOS_STORE_CASES").unwrap_or(1);
    let first = OsRandom.u64();
    let threads = chronos_env::cpu_count().clamp(1, 4) as u64;
    std::thread::scope(|scope| {
        let share = |thread: u64| {
            let strategy = strategy();
            let mine = (thread..count).step_by(threads as usize);
            mine.for_each(|n| run_seed(&strategy, &test, first.wrapping_add(n)));
        };
        let workers: Vec<_> = (0..threads)
            .map(|n| scope.spawn(move || share(n)))
            .collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}
