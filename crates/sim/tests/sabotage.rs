//! The simulation finds mistakes: for each that consensus must not make, nodes that make it are caught within a few
//! seeds. A mistake that is not found any more means that the simulation has become blind, or that the place where it
//! is made is not passed any more.

mod apart;

use apart::{is_child, number_of, run_apart, SEED};
use chronos_node::cluster::Sabotage;
use chronos_sim::cluster::{run, Plan, Print, Season, Syncs};

/// Seeds after which a mistake must have been found.
const SEEDS_MAX: u64 = 60;
/// Before what was found.
const BROKEN: &str = "broken: ";
/// When nothing was.
const HOLDS: &str = "holds";

/// What shows that a mistake was made.
#[derive(Clone, Copy, PartialEq)]
enum Evidence {
    /// A promise that was broken. A cluster that only stops has broken none, and the consensus library notices some
    /// mistakes itself, and panics.
    Promise,
    /// That, or a cluster that does not recover.
    Any,
}

/// Runs seeds until one fails. `test` is the name of the test that calls.
fn is_caught(test: &str, evidence: Evidence, plan: impl Fn(Plan) -> Plan) {
    if let Some(seed) = number_of(SEED) {
        return look(evidence, plan(Plan::of(seed)));
    }
    for seed in 0..SEEDS_MAX {
        let said = run_apart(test, seed);
        if let Some(fault) = said.after(BROKEN) {
            println!("{test}: found with seed {seed}: {fault}");
            return;
        }
        let holds = said.ended_well && said.after(HOLDS).is_some();
        assert!(holds, "seed {seed}: {}\n{}", said.out, said.err);
    }
    panic!("{test}: {SEEDS_MAX} seeds do not find it");
}

/// Runs one seed.
fn look(evidence: Evidence, plan: Plan) {
    let print = match is_child() {
        true => Print::AfterFailure,
        false => Print::AsItHappens,
    };
    let Err(failure) = run(plan, print) else {
        return println!("\n{HOLDS}");
    };
    let counts = |fault: &&String| {
        let is_stop =
            fault.starts_with("panicked") || fault.starts_with("the cluster does not recover");
        evidence == Evidence::Any || !is_stop
    };
    match failure.faults.iter().find(counts) {
        Some(fault) => {
            let fault: String = fault.chars().take(200).collect();
            println!("\n{BROKEN}{fault}");
        }
        None => println!("\n{HOLDS}, but: {:?}", failure.faults),
    }
}

fn nodes_that(sabotage: Sabotage) -> impl Fn(Plan) -> Plan {
    move |plan| Plan {
        sabotage: Some(sabotage),
        ..plan
    }
}

/// What was not synced is not only missing after a power cut: nodes find files that no honest disk can leave, and
/// refuse to start. So here a cluster that does not recover is what is looked for.
#[test]
fn disks_that_do_not_sync() {
    is_caught("disks_that_do_not_sync", Evidence::Any, |plan| Plan {
        syncs: Syncs::Skipped,
        ..plan
    });
}

/// The mistake of a node, not of a disk: what it answers for is only written. It knows that, so it starts again with
/// what it finds.
#[test]
fn skipping_the_sync_of_the_log() {
    let test = "skipping_the_sync_of_the_log";
    is_caught(test, Evidence::Promise, |plan| Plan {
        season: Season::PowerCuts,
        ..nodes_that(Sabotage::SkipLogSync)(plan)
    });
}

#[test]
fn votes_for_anybody() {
    let plan = nodes_that(Sabotage::GrantAnyVote);
    is_caught("votes_for_anybody", Evidence::Promise, plan);
}

#[test]
fn forgotten_votes() {
    is_caught("forgotten_votes", Evidence::Promise, |plan| Plan {
        season: Season::Elections,
        nodes: 3,
        ..nodes_that(Sabotage::ForgetVote)(plan)
    });
}

#[test]
fn entries_of_former_leaders() {
    is_caught("entries_of_former_leaders", Evidence::Promise, |plan| {
        Plan {
            season: Season::Elections,
            ..nodes_that(Sabotage::AcceptOlderTerm)(plan)
        }
    });
}

#[test]
fn acknowledging_before_a_quorum() {
    let plan = nodes_that(Sabotage::AcknowledgeBeforeQuorum);
    is_caught("acknowledging_before_a_quorum", Evidence::Promise, plan);
}

#[test]
fn proposing_again() {
    let plan = nodes_that(Sabotage::ProposeAgain);
    is_caught("proposing_again", Evidence::Promise, plan);
}

#[test]
fn applying_again() {
    let plan = nodes_that(Sabotage::ApplyAgain);
    is_caught("applying_again", Evidence::Promise, plan);
}

#[test]
fn stale_reads_of_former_leaders() {
    let plan = nodes_that(Sabotage::ReadWithoutQuorum);
    is_caught("stale_reads_of_former_leaders", Evidence::Promise, plan);
}

#[test]
fn stale_reads_by_an_old_lease() {
    is_caught("stale_reads_by_an_old_lease", Evidence::Promise, |plan| {
        Plan {
            lease_reads: true,
            ..nodes_that(Sabotage::OverstayLease)(plan)
        }
    });
}
