//! How long elections must wait, for what was measured: decides, and does nothing.
//!
//! ```text
//!   timeout >= 10 x (round trip + sync), on average        (Raft, section 5.6: an order of magnitude)
//!   timeout >=  5 x (round trip + sync), in bad moments    (a heartbeat's answer is waited for a quarter
//!                                                           of it, a vote three tenths)
//! ```
//!
//! It becomes longer at once, and shorter in steps, when that was enough for a while: an election
//! that was not needed costs more than one that comes a little later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::window::Measured;

/// A pace is in hundredths: by how much the given times are multiplied.
pub(super) const GIVEN: u32 = 100;
/// An election waits for so long at most, if it was not given longer.
const TIMEOUT_MS_MAX: u64 = 60_000;
const TIMES_ON_AVERAGE: u32 = 10;
const TIMES_AT_WORST: u32 = 5;
/// A slower pace is kept for so long after it was last needed.
const HOLD: Duration = Duration::from_secs(300);
/// From then on it becomes a step faster each time that so much has passed.
const FALL_EVERY: Duration = Duration::from_secs(30);

/// The slowest pace there is.
pub(super) fn slowest(given_timeout_ms: u64) -> u32 {
    let most = TIMEOUT_MS_MAX * u64::from(GIVEN) / given_timeout_ms.max(1);
    u32::try_from(most).unwrap_or(u32::MAX).max(GIVEN)
}

/// How long an election must wait where a round trip and a sync take so long.
pub(super) fn timeout(trip: Measured, sync: Measured) -> Duration {
    let average = (trip.mean + sync.mean) * TIMES_ON_AVERAGE;
    average.max((trip.longest + sync.longest) * TIMES_AT_WORST)
}

/// The first of the steps (a quarter more each) at which an election waits for that long.
pub(super) fn needed(given_timeout_ms: u64, timeout: Duration) -> u32 {
    let slowest = slowest(given_timeout_ms);
    let given = u128::from(given_timeout_ms.max(1)) * 1_000;
    let exact = (timeout.as_micros() * u128::from(GIVEN)).div_ceil(given);
    let mut pace = GIVEN;
    while u128::from(pace) < exact && pace < slowest {
        pace = slower(pace);
    }
    pace.min(slowest)
}

fn slower(pace: u32) -> u32 {
    pace.saturating_add(pace / 4)
}

/// One step faster.
fn faster(pace: u32) -> u32 {
    let mut below = GIVEN;
    while slower(below) < pace {
        below = slower(below);
    }
    below
}

/// Which follower's round trip counts: that of the last one without which no quorum could be
/// reached if one of the faster ones were lost. A slower one than that slows nobody down, nor
/// does one that does not answer.
pub(super) fn counting(
    trips: &BTreeMap<u64, Measured>,
    own: u64,
    voters: &[BTreeSet<u64>],
) -> Option<(u64, Measured)> {
    let slowest_needed = voters.iter().filter_map(|voters| {
        let mut others: Vec<(Duration, u64, Measured)> = voters
            .iter()
            .filter(|voter| **voter != own)
            .filter_map(|voter| {
                let trip = *trips.get(voter)?;
                Some((timeout(trip, Measured::default()), *voter, trip))
            })
            .collect();
        others.sort_by_key(|(timeout, voter, _)| (*timeout, *voter));
        let quorum = voters.len() / 2 + 1;
        // This node is one of them, another one is to spare.
        let last = quorum.min(others.len()).checked_sub(1)?;
        others.get(last).copied()
    });
    slowest_needed
        .max_by_key(|(timeout, voter, _)| (*timeout, *voter))
        .map(|(_, voter, trip)| (voter, trip))
}

/// The pace that a node holds for right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) pace: u32,
    /// When it becomes faster, if it is not needed before.
    falls_at: Option<Duration>,
}

impl Wish {
    pub(super) fn of(pace: u32) -> Wish {
        Wish {
            pace,
            falls_at: None,
        }
    }

    /// What becomes of it at a moment (since any, always the same) at which a pace is needed.
    pub(super) fn then(self, needed: u32, now: Duration) -> Wish {
        if needed > self.pace {
            return Wish::of(needed);
        }
        let below = faster(self.pace);
        // A tenth to spare, or it would have to become slower again.
        let is_enough = needed == GIVEN || u64::from(needed) * 110 <= u64::from(below) * 100;
        if self.pace == GIVEN || !is_enough {
            return Wish::of(self.pace);
        }
        match self.falls_at {
            Some(at) if now >= at => Wish {
                pace: below,
                falls_at: Some(now + FALL_EVERY),
            },
            Some(_) => self,
            None => Wish {
                pace: self.pace,
                falls_at: Some(now + HOLD),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn steady(took: Duration) -> Measured {
        Measured {
            mean: took,
            longest: took,
        }
    }

    fn trips(times: &[(u64, u64)]) -> BTreeMap<u64, Measured> {
        let trip = |(voter, took): &(u64, u64)| (*voter, steady(ms(*took)));
        times.iter().map(trip).collect()
    }

    fn voters(count: u64) -> Vec<BTreeSet<u64>> {
        vec![(1..=count).collect()]
    }

    #[test]
    fn fast_links_and_disks_leave_the_given_times_alone() {
        let needed = needed(500, timeout(steady(ms(2)), steady(ms(20))));
        assert_eq!(needed, GIVEN);
    }

    #[test]
    fn a_spike_counts_half_as_much_as_what_lasts() {
        let spiky = Measured {
            mean: ms(10),
            longest: ms(300),
        };
        assert_eq!(timeout(spiky, Measured::default()), ms(1_500));
        assert_eq!(timeout(steady(ms(300)), Measured::default()), ms(3_000));
    }

    #[test]
    fn who_is_not_needed_slows_nobody() {
        let of = |times: &[(u64, u64)], voters: &[BTreeSet<u64>]| {
            counting(&trips(times), 1, voters).map(|(voter, _)| voter)
        };
        // Of three, each is needed once another is lost.
        assert_eq!(of(&[(2, 1), (3, 900)], &voters(3)), Some(3));
        // Of five, the slowest is not.
        let five = [(2, 1), (3, 900), (4, 3), (5, 2)];
        assert_eq!(of(&five, &voters(5)), Some(4));
        // A dead one says nothing; a learner (9) is no voter.
        assert_eq!(of(&[(2, 1), (9, 5_000)], &voters(3)), Some(2));
        assert_eq!(of(&[(9, 5_000)], &voters(3)), None);
        assert_eq!(of(&[], &voters(1)), None);
        // Two sets, each of which must agree.
        let joint = [BTreeSet::from([1, 2, 4]), BTreeSet::from([1, 3, 5])];
        assert_eq!(of(&five, &joint), Some(3));
    }

    #[test]
    fn a_pace_rises_at_once_and_falls_in_steps() {
        let mut now = ms(0);
        let mut wish = Wish::of(GIVEN).then(needed(400, ms(3_000)), now);
        assert!((750..940).contains(&wish.pace), "{wish:?}");
        let slow = wish.pace;
        now += HOLD;
        wish = wish.then(GIVEN, now);
        wish = wish.then(GIVEN, now + HOLD - ms(1));
        assert_eq!(wish.pace, slow);
        // It was needed once more: the time begins anew.
        wish = wish.then(slow, now + HOLD - ms(1));
        now += HOLD;
        wish = wish.then(GIVEN, now);
        now += HOLD;
        let mut paces = Vec::new();
        while wish.pace > GIVEN {
            wish = wish.then(GIVEN, now);
            paces.push(wish.pace);
            now += FALL_EVERY;
        }
        assert!(paces.windows(2).all(|two| two[1] < two[0]), "{paces:?}");
        assert!(paces.len() > 5, "{paces:?}");
    }

    #[test]
    fn a_pace_that_is_nearly_needed_stays() {
        let given = 1_000;
        let mut wish = Wish::of(needed(given, ms(1_900)));
        let pace = wish.pace;
        // The step below would be just enough.
        let nearly = ms(u64::from(faster(pace)) * 10 - 10);
        for minute in 0..100 {
            wish = wish.then(needed(given, nearly), ms(minute * 60_000));
        }
        assert_eq!(wish.pace, pace);
    }

    proptest! {
        #[test]
        fn a_pace_is_enough_and_not_much_more(given in 50u64..100_000, micros in 0u64..500_000_000) {
            let wanted = Duration::from_micros(micros);
            let pace = needed(given, wanted);
            prop_assert!(pace >= GIVEN);
            let got = u128::from(given) * u128::from(pace) * 10;
            let is_capped = pace == slowest(given);
            prop_assert!(is_capped || got >= wanted.as_micros());
            // A quarter more than needed, and what rounding adds.
            prop_assert!(pace == GIVEN || got * 100 <= wanted.as_micros() * 126 + u128::from(given) * 2_000);
            prop_assert!(got <= u128::from(given.max(TIMEOUT_MS_MAX)) * 1_000);
        }

        #[test]
        fn whatever_is_measured_a_pace_ends_where_it_began(needs in prop::collection::vec(100u32..12_000, 1..50)) {
            let mut wish = Wish::of(GIVEN);
            let mut now = Duration::ZERO;
            for needed in needs {
                let before = wish.pace;
                wish = wish.then(needed, now);
                prop_assert!(wish.pace >= needed);
                prop_assert!(wish.pace >= before || needed < before);
                now += Duration::from_secs(7);
            }
            for _ in 0..1_000 {
                wish = wish.then(GIVEN, now);
                now += Duration::from_secs(7);
            }
            prop_assert_eq!(wish.pace, GIVEN);
        }
    }
}
