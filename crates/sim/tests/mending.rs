//! Nodes whose disks decay under writes mend themselves from others: nothing that was acknowledged is missing, all
//! nodes hold the same in the end, and clients go on meanwhile.

use std::time::Duration;

use chronos_sim::cluster::{run, Plan, Print, Victim};

const SEEDS: u64 = 3;

fn mends(victim: Victim) {
    for seed in 0..SEEDS {
        let plan = Plan {
            decays: Some(victim),
            lasts: Duration::from_secs(10),
            ..Plan::of(seed)
        };
        let report = run(plan, Print::AfterFailure).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(report.tally.done > 50, "seed {seed}: {report:?}");
    }
}

#[test]
fn a_damaged_follower_mends_itself() {
    mends(Victim::Follower);
}

#[test]
fn a_follower_whose_log_cannot_be_applied_at_its_start_mends_itself() {
    mends(Victim::OfflineFollower);
}

#[test]
fn a_damaged_leader_mends_itself() {
    mends(Victim::Leader);
}
