//! The simulation finds mistakes: for each that consensus must not make, nodes that make it are caught within a few
//! seeds. A mistake that is not found any more means that the simulation has become blind, or that the place where it
//! is made is not passed any more.

use std::sync::Once;

use chronos_node::cluster::Sabotage;
use chronos_sim::cluster::{run, Plan, Print, Syncs};

/// Seeds after which a mistake must have been found.
const SEEDS_MAX: u64 = 60;

/// The consensus library notices some mistakes itself, and panics. That is not what is looked for here.
fn be_quiet_about_panics_of_nodes() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            if !thread.name().is_some_and(|name| name.starts_with("seed ")) {
                usual(panic);
            }
        }));
    });
}

/// Runs seeds until one fails.
fn is_caught(what: &str, plan: impl Fn(Plan) -> Plan) {
    be_quiet_about_panics_of_nodes();
    for seed in 0..SEEDS_MAX {
        let Err(failure) = run(plan(Plan::of(seed)), Print::AfterFailure) else {
            continue;
        };
        // A cluster that only stops has not broken a promise.
        let broken = failure.faults.iter().find(|fault| {
            !fault.starts_with("panicked") && !fault.starts_with("the cluster does not recover")
        });
        if let Some(fault) = broken {
            let fault: String = fault.chars().take(200).collect();
            println!("{what}: found with seed {seed}: {fault}");
            return;
        }
    }
    panic!("{what}: {SEEDS_MAX} seeds do not find it");
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
    be_quiet_about_panics_of_nodes();
    let found = (0..SEEDS_MAX).find(|seed| {
        let plan = Plan {
            syncs: Syncs::Skipped,
            ..Plan::of(*seed)
        };
        run(plan, Print::AfterFailure).is_err()
    });
    println!("skipping syncs: found with seed {found:?}");
    assert!(found.is_some(), "{SEEDS_MAX} seeds do not find it");
}

#[test]
fn votes_for_anybody() {
    is_caught("granting any vote", nodes_that(Sabotage::GrantAnyVote));
}

#[test]
fn acknowledging_before_a_quorum() {
    let sabotage = Sabotage::AcknowledgeBeforeQuorum;
    is_caught("acknowledging early", nodes_that(sabotage));
}

#[test]
fn applying_twice() {
    is_caught("proposing again", nodes_that(Sabotage::ApplyTwice));
}

#[test]
fn stale_reads_of_former_leaders() {
    let sabotage = Sabotage::ReadWithoutQuorum;
    is_caught("reading without a quorum", nodes_that(sabotage));
}
