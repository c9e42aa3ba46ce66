//! Links whose round trips are longer than heartbeats are apart, and slow disks, cause no elections.

use std::time::Duration;

use chronos_sim::cluster::{Slow, SlowPlan};

fn plan(seed: u64) -> SlowPlan {
    SlowPlan {
        seed,
        nodes: if seed.is_multiple_of(2) { 5 } else { 3 },
        slow: Slow::Everything,
        keeps_times: false,
        lasts: Duration::from_secs(600),
    }
}

#[test]
fn slow_links_and_disks_cause_no_elections() {
    let mut waited = Vec::new();
    for seed in 1..=4 {
        let slowly = plan(seed).run();
        assert_eq!(slowly.terms, 0, "seed {seed}: {slowly:?}");
        assert_eq!(slowly.failures, 0, "seed {seed}: {slowly:?}");
        assert!(slowly.writes > 100, "seed {seed}: {slowly:?}");
        // A round trip takes three tenths of a second on average.
        assert!(slowly.election_timeout >= Duration::from_secs(3));
        assert!(slowly.election_timeout <= Duration::from_secs(6));
        let replaced = slowly.replaced_after.expect("there is another leader");
        waited.push(replaced.as_millis() * 100 / slowly.election_timeout.as_millis());
    }
    // Two candidates may come so close together that neither wins, and try again.
    waited.sort_unstable();
    assert!(waited[1] <= 200, "hundredths of the timeout: {waited:?}");
    assert!(waited[3] <= 400, "hundredths of the timeout: {waited:?}");
}

#[test]
fn one_slow_node_of_five_slows_nobody() {
    for seed in 1..=2 {
        let slowly = SlowPlan {
            nodes: 5,
            slow: Slow::OneNode,
            lasts: Duration::from_secs(120),
            ..plan(seed)
        }
        .run();
        assert_eq!(slowly.terms, 0, "seed {seed}: {slowly:?}");
        assert_eq!(slowly.failures, 0, "seed {seed}: {slowly:?}");
        assert!(slowly.election_timeout < 2 * SlowPlan::GIVEN_TIMEOUT);
        let replaced = slowly.replaced_after.expect("there is another leader");
        assert!(
            replaced < 5 * SlowPlan::GIVEN_TIMEOUT,
            "seed {seed}: {slowly:?}"
        );
    }
}

#[test]
fn they_do_where_times_are_not_adapted() {
    for seed in 1..=2 {
        let slowly = SlowPlan {
            keeps_times: true,
            ..plan(seed)
        }
        .run();
        assert_eq!(slowly.election_timeout, SlowPlan::GIVEN_TIMEOUT);
        let is_disturbed = slowly.terms > 10 || slowly.writes == 0;
        assert!(is_disturbed, "seed {seed}: {slowly:?}");
    }
}
