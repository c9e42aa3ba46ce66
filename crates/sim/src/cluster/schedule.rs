//! Which faults a run meets and when: drawn from the seed, before anything happens.

use std::time::Duration;

use chronos_env::SimRandom;

/// What goes wrong, or is done to the cluster. Nodes are chosen when it happens, by `lot`: any number, of which each
/// fault takes what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A part of the nodes cannot reach the others.
    Partition,
    /// The leader cannot be reached, or cannot reach others.
    IsolateLeader,
    /// Nothing comes through one link in one direction.
    OneWay,
    /// Messages take long, some very long.
    Delay,
    /// Some messages get lost.
    Loss,
    /// The network is as it should be.
    Mend,
    /// A process ends.
    Kill,
    /// The leader's process ends.
    KillLeader,
    /// A machine loses power, perhaps in the middle of some write.
    PowerCut,
    /// All machines lose power, or most of them.
    Blackout,
    /// The leader's process ends. As soon as another node leads, that one cannot be reached any more, and those who
    /// voted lose power; later it comes back, perhaps not to all at once.
    Coup,
    /// All nodes that are down start.
    Restart,
    /// A node, the leader perhaps, ends in order, and starts again.
    StopInOrder,
    /// All nodes do, one after the other.
    RestartInTurn,
    /// A disk is full; its node starts again later.
    DiskFull,
    /// A wall clock jumps.
    ClockJump,
    /// A node brings everything to segments and cuts its log.
    Checkpoint,
    /// Another node leads.
    TransferLeader,
    /// A node joins and learns.
    AddLearner,
    /// Another set of nodes votes.
    ChangeVoters,
    /// A member leaves.
    RemoveMember,
}

/// A fault and when it strikes after the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) after: Duration,
    pub(super) fault: Fault,
    pub(super) lot: u64,
}

/// What is frequent in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Season {
    /// Nothing in particular.
    Mixed,
    /// That most machines lose power at once, while clients write.
    PowerCuts,
    /// That a leader was just elected when something goes wrong.
    Elections,
}

impl Season {
    /// How often each fault strikes, against the others.
    fn weights(self) -> &'static [(Fault, u64)] {
        match self {
            Season::Mixed => &MIXED,
            Season::PowerCuts => &POWER_CUTS,
            Season::Elections => &ELECTIONS,
        }
    }
}

const MIXED: [(Fault, u64); 21] = [
    (Fault::Partition, 8),
    (Fault::IsolateLeader, 8),
    (Fault::OneWay, 5),
    (Fault::Delay, 4),
    (Fault::Loss, 5),
    (Fault::Mend, 14),
    (Fault::Kill, 6),
    (Fault::KillLeader, 6),
    (Fault::PowerCut, 10),
    (Fault::Blackout, 4),
    (Fault::Coup, 2),
    (Fault::Restart, 18),
    (Fault::StopInOrder, 4),
    (Fault::RestartInTurn, 2),
    (Fault::DiskFull, 3),
    (Fault::ClockJump, 5),
    (Fault::Checkpoint, 6),
    (Fault::TransferLeader, 5),
    (Fault::AddLearner, 2),
    (Fault::ChangeVoters, 2),
    (Fault::RemoveMember, 2),
];

const POWER_CUTS: [(Fault, u64); 9] = [
    (Fault::Blackout, 40),
    (Fault::PowerCut, 10),
    (Fault::Restart, 10),
    (Fault::KillLeader, 5),
    (Fault::Partition, 4),
    (Fault::Mend, 8),
    (Fault::StopInOrder, 3),
    (Fault::DiskFull, 2),
    (Fault::Checkpoint, 5),
];

const ELECTIONS: [(Fault, u64); 11] = [
    (Fault::Coup, 20),
    (Fault::KillLeader, 10),
    (Fault::IsolateLeader, 10),
    (Fault::OneWay, 4),
    (Fault::Loss, 4),
    (Fault::Mend, 14),
    (Fault::PowerCut, 8),
    (Fault::Restart, 14),
    (Fault::StopInOrder, 6),
    (Fault::RestartInTurn, 3),
    (Fault::TransferLeader, 8),
];

/// Between two faults.
const PAUSE_MILLIS: (u64, u64) = (50, 900);

/// Draws the faults of a run that lasts so long.
pub(super) fn draw(seed: u64, season: Season, lasts: Duration) -> Vec<Event> {
    let random = SimRandom::new(seed);
    let weights = season.weights();
    let total: u64 = weights.iter().map(|(_, weight)| weight).sum();
    let mut events = Vec::new();
    let mut at = Duration::ZERO;
    loop {
        let (least, most) = PAUSE_MILLIS;
        let after = Duration::from_millis(least + random.below(most - least));
        at += after;
        if at >= lasts {
            return events;
        }
        let mut ticket = random.below(total);
        let drawn = weights.iter().find(|(_, weight)| {
            let hit = ticket < *weight;
            ticket = ticket.saturating_sub(*weight);
            hit
        });
        events.push(Event {
            after,
            fault: drawn.map_or(Fault::Mend, |(fault, _)| *fault),
            lot: random.below(u64::MAX),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_has_one_schedule_and_seeds_together_have_every_fault() {
        let lasts = Duration::from_secs(10);
        let faults = |season, seed| -> Vec<Fault> {
            let events = draw(seed, season, lasts);
            events.iter().map(|e| e.fault).collect()
        };
        assert_eq!(faults(Season::Mixed, 7), faults(Season::Mixed, 7));
        assert_ne!(faults(Season::Mixed, 7), faults(Season::Mixed, 8));
        for season in [Season::Mixed, Season::PowerCuts, Season::Elections] {
            let all: Vec<Fault> = (0..100).flat_map(|seed| faults(season, seed)).collect();
            for (fault, _) in season.weights() {
                assert!(all.contains(fault), "{fault:?} never strikes in {season:?}");
            }
            let kinds: HashSet<_> = all.iter().map(std::mem::discriminant).collect();
            assert_eq!(kinds.len(), season.weights().len());
        }
    }
}
