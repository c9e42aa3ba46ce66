//! The pace of the consensus: by how much longer than given elections wait and leases last, so
//! that a slow link or disk causes no elections.
//!
//! ```text
//!   links:  round trips of heartbeats and votes ┐                  ┌─► runtime: the consensus's time
//!   log:    appended .. durable                 ├─ policy ─► pace ─┼─► appends: followers wait as long
//!   leader: how long an election waits          ┘                  └─► status, waits of statements
//! ```
//!
//! All times of the consensus are multiplied by one number, so that they keep the proportions on
//! which it relies. Only answers are measured: a node that does not answer says nothing about how
//! long an answer takes. An answer that comes too late for the consensus is measured as well, or a
//! link that is slower than the given times would never be found out to be slow. But it counts only
//! if the one before it came too late, too: when a link that was cut is mended, one answer is late.

mod policy;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cluster::Timing;
use policy::{Wish, GIVEN};
use window::{Measured, Window};

/// A leader that demands that elections wait for longer than this is not believed.
const TOLD_MS_MAX: u32 = 3_600_000;
/// What part of the time that an election waits an answer is waited for.
pub(super) const WAITS_IN_TIMEOUT: u32 = 4;

const MILLION: u128 = 1_000_000;

/// By how much longer than given the consensus waits.
#[derive(Debug)]
pub(crate) struct Pace {
    given: Timing,
    /// Whether it ever changes.
    adapts: bool,
    /// How fast the clock of this node is, in parts of a million: in a simulation.
    clock_ppm: i64,
    begun: Instant,
    /// The pace in force, below the number of changes that led to it.
    now: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    own: Wish,
    /// The last term in which this node knew of a leader, and whether it is that.
    term: u64,
    leads: bool,
    /// How long an election waits by what that leader says, in milliseconds.
    told_ms: u32,
    /// The term whose leader was heard last, and when.
    heard: Option<(u64, Instant)>,
    /// What was in force when it was judged last.
    judged: u32,
    trips: BTreeMap<u64, Window>,
    /// To whom a call is under way that is measured.
    probed: BTreeSet<u64>,
    /// Whose last answer came when nobody waited for it any more.
    late: BTreeSet<u64>,
    syncs: Window,
}

/// One pace at one time: equal to another only if nothing changed in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading(u64);

impl Reading {
    /// Whether it is the pace that was given.
    pub(super) fn is_given(self) -> bool {
        self.hundredths() == GIVEN
    }

    fn hundredths(self) -> u32 {
        (self.0 & u64::from(u32::MAX)) as u32
    }
}

/// What a pace is judged by, besides what was measured.
pub(super) struct Circumstances<'a> {
    pub(super) own: u64,
    /// Its term, and whether this node leads in it.
    pub(super) term: u64,
    pub(super) leads: bool,
    /// Sets of voters, each of which must agree.
    pub(super) voters: &'a [BTreeSet<u64>],
}

/// A change of the pace since it was judged before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) is_slower: bool,
    /// Whether it is the leader's, not this node's own.
    pub(super) is_told: bool,
    /// The round trip that counts, with whom, on average and in bad moments.
    pub(super) trip: Option<(u64, Duration, Duration)>,
    /// Likewise, a sync of the log.
    pub(super) sync: Option<(Duration, Duration)>,
}

impl Pace {
    #[cfg(test)]
    pub(super) fn new(given: Timing, adapts: bool) -> Arc<Pace> {
        Pace::by_clock(given, adapts, 0)
    }

    /// That of a node whose clock runs faster than time, by parts of a million; or slower.
    pub(crate) fn by_clock(given: Timing, adapts: bool, clock_ppm: i64) -> Arc<Pace> {
        Arc::new(Pace {
            given,
            adapts,
            clock_ppm,
            begun: Instant::now(),
            now: AtomicU64::new(u64::from(GIVEN)),
            state: Mutex::new(State {
                own: Wish::of(GIVEN),
                term: 0,
                leads: false,
                told_ms: 0,
                heard: None,
                judged: GIVEN,
                trips: BTreeMap::new(),
                probed: BTreeSet::new(),
                late: BTreeSet::new(),
                syncs: Window::default(),
            }),
        })
    }

    /// The times that were given.
    pub(super) fn given(&self) -> Timing {
        self.given
    }

    /// The pace now.
    pub(super) fn reading(&self) -> Reading {
        Reading(self.now.load(Ordering::Acquire))
    }

    /// How long an election waits now, at least.
    pub(super) fn election_timeout(&self) -> Duration {
        self.stretched(Duration::from_millis(self.given.election_timeout_ms))
    }

    /// A time of the consensus, as it is now.
    pub(super) fn stretched(&self, given: Duration) -> Duration {
        match self.reading().hundredths() {
            GIVEN => given,
            pace => of_nanos(given.as_nanos() * u128::from(pace) / u128::from(GIVEN)),
        }
    }

    /// What a time that passed is to the consensus. A stretched time becomes what it was: it
    /// rounds up, since stretching rounds down.
    pub(super) fn shrunk(&self, passed: Duration) -> Duration {
        match self.reading().hundredths() {
            GIVEN => passed,
            pace => of_nanos((passed.as_nanos() * u128::from(GIVEN)).div_ceil(u128::from(pace))),
        }
    }

    /// How long it takes until so much has passed by this node's clock.
    pub(super) fn until_clocked(&self, time: Duration) -> Duration {
        match self.clock_ppm {
            0 => time,
            ppm => of_nanos(time.as_nanos() * MILLION / clocked_of_a_million(ppm)),
        }
    }

    /// How much passes by this node's clock meanwhile.
    pub(super) fn clocked(&self, passed: Duration) -> Duration {
        match self.clock_ppm {
            0 => passed,
            ppm => of_nanos((passed.as_nanos() * clocked_of_a_million(ppm)).div_ceil(MILLION)),
        }
    }

    /// What followers are told: how long an election waits, in milliseconds.
    pub(super) fn to_tell(&self) -> u32 {
        u32::try_from(self.election_timeout().as_millis()).unwrap_or(u32::MAX)
    }

    /// A sign of the leader of a term has come.
    pub(super) fn heard(&self, term: u64) {
        self.state.lock().heard = Some((term, Instant::now()));
    }

    /// How long ago the leader of a term was heard; `None`: it was not, since this node was opened.
    pub(super) fn silence_in(&self, term: u64) -> Option<Duration> {
        let heard = self.state.lock().heard;
        heard.and_then(|(of, at)| (of == term).then(|| at.elapsed()))
    }

    /// The leader of a term says how long an election waits. 0: it does not say.
    pub(super) fn told(&self, term: u64, timeout_ms: u32) {
        if !self.adapts {
            return;
        }
        let mut state = self.state.lock();
        let is_older = term < state.term || (term == state.term && state.leads);
        if is_older || (term == state.term && timeout_ms == state.told_ms) {
            return;
        }
        state.term = term;
        state.leads = false;
        state.told_ms = timeout_ms.min(TOLD_MS_MAX);
        self.enforce(&state);
    }

    /// A call to another node that is to be measured, unless one is under way.
    pub(super) fn probe(self: &Arc<Self>, to: u64) -> Option<Probe> {
        if !self.adapts || !self.state.lock().probed.insert(to) {
            return None;
        }
        Some(Probe {
            pace: Arc::clone(self),
            to,
            began: Instant::now(),
        })
    }

    /// Something that was written at a time is durable now.
    pub(super) fn synced(&self, began: Instant) {
        if self.adapts {
            let took = began.elapsed();
            self.state.lock().syncs.note(self.begun.elapsed(), took);
        }
    }

    /// Brings the pace to what is right now.
    pub(super) fn judge(&self, now: &Circumstances<'_>) -> Option<Change> {
        if !self.adapts {
            return None;
        }
        let at = self.begun.elapsed();
        let mut state = self.state.lock();
        state.begin(now, self.reading());
        let trips: BTreeMap<u64, Measured> = state
            .trips
            .iter_mut()
            .filter_map(|(peer, window)| Some((*peer, window.measured(at)?)))
            .collect();
        let trip = policy::counting(&trips, now.own, now.voters);
        let sync = state.syncs.measured(at);
        let timeout = policy::timeout(
            trip.map(|(_, trip)| trip).unwrap_or_default(),
            sync.unwrap_or_default(),
        );
        let needed = policy::needed(self.given.election_timeout_ms, timeout);
        state.own = state.own.then(needed, at);
        self.enforce(&state);
        let pace = self.reading().hundredths();
        let before = std::mem::replace(&mut state.judged, pace);
        (pace != before).then(|| Change {
            is_slower: pace > before,
            is_told: pace != state.own.pace,
            trip: trip.map(|(peer, trip)| (peer, trip.mean, trip.longest)),
            sync: sync.map(|sync| (sync.mean, sync.longest)),
        })
    }

    /// The mean round trip with a node, if it is known.
    pub(super) fn round_trip(&self, with: u64) -> Option<Duration> {
        let at = self.begun.elapsed();
        let mut state = self.state.lock();
        let measured = state.trips.get_mut(&with)?.measured(at)?;
        Some(measured.mean)
    }

    fn enforce(&self, state: &State) {
        let given = self.given.election_timeout_ms.max(1);
        let told = (u64::from(state.told_ms) * u64::from(GIVEN)).div_ceil(given);
        let told = u32::try_from(told).unwrap_or(u32::MAX);
        let pace = match state.leads {
            true => state.own.pace,
            false => state.own.pace.max(told),
        };
        let before = self.reading();
        if before.hundredths() != pace {
            let changes = (before.0 >> 32).wrapping_add(1);
            // Whoever changes it holds the state.
            let now = (changes << 32) | u64::from(pace);
            self.now.store(now, Ordering::Release);
        }
    }
}

impl State {
    fn begin(&mut self, now: &Circumstances<'_>, in_force: Reading) {
        if now.leads && !(self.leads && self.term == now.term) {
            // A leader begins with what it followed: it knows nothing better yet.
            self.own = self.own.then(in_force.hundredths(), Duration::ZERO);
            self.told_ms = 0;
        }
        if now.leads {
            self.term = self.term.max(now.term);
        }
        self.leads = now.leads;
        // Whoever does not vote any more is not waited for.
        let voters = now.voters;
        let votes = |id: &u64| voters.iter().any(|voters| voters.contains(id));
        self.trips.retain(|peer, _| votes(peer));
    }
}

fn clocked_of_a_million(ppm: i64) -> u128 {
    MILLION.saturating_add_signed(i128::from(ppm)).max(1)
}

fn of_nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A call that is measured.
pub(super) struct Probe {
    pace: Arc<Pace>,
    to: u64,
    began: Instant,
}

impl Probe {
    /// The answer is there.
    pub(super) fn answered(self) {
        let took = self.began.elapsed();
        let is_late = took > self.pace.election_timeout() / WAITS_IN_TIMEOUT;
        let at = self.pace.begun.elapsed();
        let mut state = self.pace.state.lock();
        let was_late = match is_late {
            true => !state.late.insert(self.to),
            false => state.late.remove(&self.to),
        };
        if was_late || !is_late {
            state.trips.entry(self.to).or_default().note(at, took);
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.pace.state.lock().probed.remove(&self.to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN_TIMES: Timing = Timing {
        heartbeat_ms: 100,
        election_timeout_ms: 1_000,
    };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn voters() -> Vec<BTreeSet<u64>> {
        vec![BTreeSet::from([1, 2, 3])]
    }

    fn judged(pace: &Pace, term: u64, leads: bool) -> Option<Change> {
        pace.judge(&Circumstances {
            own: 1,
            term,
            leads,
            voters: &voters(),
        })
    }

    async fn answers(pace: &Arc<Pace>, peer: u64, after: Duration, times: u32) {
        for _ in 0..times {
            let probe = pace.probe(peer).unwrap();
            tokio::time::sleep(after).await;
            probe.answered();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn slow_answers_slow_it_down_and_no_answer_does_not() {
        let pace = Pace::new(GIVEN_TIMES, true);
        for _ in 0..100 {
            let probe = pace.probe(2).unwrap();
            assert!(pace.probe(2).is_none());
            tokio::time::sleep(ms(2_000)).await;
            drop(probe);
        }
        assert_eq!(judged(&pace, 1, true), None);
        assert_eq!(pace.election_timeout(), ms(1_000));
        // A link that is cut and mended again and again.
        for _ in 0..100 {
            answers(&pace, 2, ms(900), 1).await;
            answers(&pace, 2, ms(1), 10).await;
        }
        assert_eq!(judged(&pace, 1, true), None);
        tokio::time::sleep(ms(60_000)).await;
        answers(&pace, 2, ms(600), 10).await;
        let change = judged(&pace, 1, true).unwrap();
        assert_eq!(change.trip, Some((2, ms(600), ms(600))));
        assert!(change.is_slower);
        assert!(pace.election_timeout() >= ms(6_000));
        assert!(pace.election_timeout() <= ms(7_500));
        assert_eq!(judged(&pace, 1, true), None);
        for _ in 0..10 {
            tokio::time::sleep(ms(500)).await;
            pace.synced(Instant::now() - ms(400));
        }
        let change = judged(&pace, 1, true).unwrap();
        assert_eq!(change.sync, Some((ms(400), ms(400))));
        assert!(pace.election_timeout() >= ms(10_000));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_adapt_stays() {
        let pace = Pace::new(GIVEN_TIMES, false);
        assert!(pace.probe(2).is_none());
        pace.told(7, 60_000);
        assert_eq!(judged(&pace, 7, false), None);
        assert!(pace.reading().is_given());
    }

    #[tokio::test(start_paused = true)]
    async fn followers_wait_as_long_as_the_leader_of_the_latest_term_says() {
        let pace = Pace::new(GIVEN_TIMES, true);
        let first = pace.reading();
        assert!(first.is_given());
        pace.told(4, 5_000);
        assert_eq!(pace.election_timeout(), ms(5_000));
        assert!(judged(&pace, 4, false).unwrap().is_told);
        assert_eq!(judged(&pace, 4, false), None);
        assert_eq!(pace.election_timeout(), ms(5_000));
        pace.told(3, 60_000);
        assert_eq!(pace.election_timeout(), ms(5_000));
        pace.told(5, 2_000);
        assert_eq!(pace.election_timeout(), ms(2_000));
        // One with other times, or one that says nothing, makes nobody faster than given.
        pace.told(6, 300);
        assert_eq!(pace.election_timeout(), ms(1_000));
        pace.told(7, 0);
        assert!(pace.reading().is_given());
        assert_ne!(pace.reading(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_begins_as_slow_as_the_one_before() {
        let pace = Pace::new(GIVEN_TIMES, true);
        pace.told(4, 5_000);
        let change = judged(&pace, 5, true).unwrap();
        assert!(change.is_slower);
        assert_eq!(pace.election_timeout(), ms(5_000));
        assert_eq!(pace.to_tell(), 5_000);
        // What the old one says does not count any more.
        pace.told(4, 9_000);
        assert_eq!(pace.election_timeout(), ms(5_000));
        // It is not needed.
        for _ in 0..2_000 {
            tokio::time::sleep(ms(500)).await;
            judged(&pace, 5, true);
        }
        assert!(pace.reading().is_given());
    }

    #[test]
    fn a_fast_clock_takes_less_for_the_same() {
        let fast = Pace::by_clock(GIVEN_TIMES, true, 250_000);
        assert_eq!(fast.until_clocked(ms(1_000)), ms(800));
        assert_eq!(fast.clocked(ms(800)), ms(1_000));
        let slow = Pace::by_clock(GIVEN_TIMES, true, -200_000);
        assert_eq!(slow.until_clocked(ms(1_000)), ms(1_250));
        assert_eq!(slow.clocked(ms(1_250)), ms(1_000));
    }

    #[test]
    fn a_time_that_was_stretched_is_what_it_was() {
        let pace = Pace::new(GIVEN_TIMES, true);
        for told in [1_000, 1_001, 1_250, 3_333, 59_999] {
            pace.told(u64::from(told), told);
            for nanos in (0..20_000).chain([999_999_999, 20_312_500, u64::MAX / 100_000]) {
                let time = Duration::from_nanos(nanos);
                assert!(pace.stretched(time) >= time);
                assert_eq!(pace.shrunk(pace.stretched(time)), time, "told {told}");
            }
        }
    }
}
