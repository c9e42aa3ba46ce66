//! Hybrid logical clock stamps: the order of everything that was written.
//!
//! A [`Stamp`] is 64 bits: 52 bits of microseconds since the Unix epoch (until
//! the year 2112) above 12 bits of a counter for events within a microsecond.
//! Ordering stamps as integers orders events so that an effect never precedes
//! its cause (Kulkarni et al., "Logical Physical Clocks", 2014, section 4).
//!
//! Two writes of the same node always differ in their microseconds, because SQL
//! sees system time in microseconds and every commit must be addressable there.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

const COUNTER_BITS: u32 = 12;

/// How far ahead of the local clock a foreign stamp may be and still move it.
pub const MAX_CLOCK_SKEW_MICROS: u64 = 5 * 60 * 1_000_000;

/// A point in the total order of writes on one node; ties between nodes are
/// broken by [`NodeId`].
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize,
)]
pub struct Stamp(pub u64);

impl Stamp {
    /// Before every write.
    pub const MIN: Stamp = Stamp(0);
    /// After every write: "not superseded yet", and "read the newest".
    pub const MAX: Stamp = Stamp(u64::MAX);

    /// The first stamp of the given microsecond since the Unix epoch.
    pub fn from_micros(micros: u64) -> Stamp {
        Stamp(micros << COUNTER_BITS)
    }

    /// The last stamp of the given microsecond: `AS OF t` includes what was
    /// recorded at `t`. Times before the epoch give [`Stamp::MIN`].
    pub fn last_of_micros(micros: i64) -> Stamp {
        match u64::try_from(micros) {
            Ok(m) if m < (1 << (64 - COUNTER_BITS)) => {
                Stamp((m << COUNTER_BITS) | ((1 << COUNTER_BITS) - 1))
            }
            Ok(_) => Stamp::MAX,
            Err(_) => Stamp::MIN,
        }
    }

    /// Microseconds since the Unix epoch, the counter dropped.
    pub fn micros(self) -> i64 {
        (self.0 >> COUNTER_BITS) as i64
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counter = self.0 & ((1 << COUNTER_BITS) - 1);
        write!(f, "{}us+{counter}", self.micros())
    }
}

/// The node that gave a stamp. Unique in a cluster and among its gateways.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct NodeId(pub u32);

/// The clock that gives stamps: never goes back, not even when the wall clock
/// does or the machine boots in 1970.
#[derive(Debug)]
pub struct Hlc {
    last: AtomicU64,
}

impl Hlc {
    /// Starts after `floor`, the highest stamp known to have been given.
    pub fn new(floor: Stamp) -> Hlc {
        Hlc {
            last: AtomicU64::new(floor.0),
        }
    }

    /// A stamp in a later microsecond than every stamp given or observed before.
    pub fn next(&self, now_micros: u64) -> Stamp {
        let wall = now_micros << COUNTER_BITS;
        let step = 1 << COUNTER_BITS;
        let bump = |last: u64| wall.max((last & !(step - 1)).saturating_add(step));
        let mut last = self.last.load(Ordering::Relaxed);
        loop {
            let next = bump(last);
            match self
                .last
                .compare_exchange_weak(last, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return Stamp(next),
                Err(seen) => last = seen,
            }
        }
    }

    /// Learns of a stamp given elsewhere, so that later stamps of ours follow
    /// it. Returns false, and learns nothing, when it is more than
    /// [`MAX_CLOCK_SKEW_MICROS`] ahead of our clock.
    pub fn observe(&self, stamp: Stamp, now_micros: u64) -> bool {
        if stamp.micros() as u64 > now_micros + MAX_CLOCK_SKEW_MICROS {
            return false;
        }
        self.last.fetch_max(stamp.0, Ordering::AcqRel);
        true
    }

    /// Raises the floor without a skew check: for stamps of our own log.
    pub fn restore(&self, stamp: Stamp) {
        self.last.fetch_max(stamp.0, Ordering::AcqRel);
    }

    /// The highest stamp given or observed.
    pub fn last(&self) -> Stamp {
        Stamp(self.last.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_never_repeat_or_go_back() {
        let hlc = Hlc::new(Stamp::MIN);
        let a = hlc.next(1_000);
        let b = hlc.next(1_000);
        let c = hlc.next(5);
        assert!(a < b && b < c);
        assert!(a.micros() < b.micros() && b.micros() < c.micros());
    }

    #[test]
    fn a_clock_at_1970_continues_after_its_floor() {
        let floor = Stamp::from_micros(1_700_000_000_000_000);
        assert!(Hlc::new(floor).next(12) > floor);
    }

    #[test]
    fn a_stamp_from_far_ahead_does_not_move_the_clock() {
        let hlc = Hlc::new(Stamp::MIN);
        assert!(!hlc.observe(Stamp::from_micros(MAX_CLOCK_SKEW_MICROS + 11), 10));
        assert_eq!(hlc.last(), Stamp::MIN);
        assert!(hlc.observe(Stamp::from_micros(MAX_CLOCK_SKEW_MICROS), 10));
        assert!(hlc.next(10) > Stamp::from_micros(MAX_CLOCK_SKEW_MICROS));
    }

    #[test]
    fn as_of_a_microsecond_includes_its_stamps() {
        let stamp = Stamp(Stamp::from_micros(77).0 + 3);
        assert!(stamp <= Stamp::last_of_micros(77));
        assert!(stamp > Stamp::last_of_micros(76));
        assert_eq!(Stamp::last_of_micros(-1), Stamp::MIN);
        assert_eq!(Stamp::last_of_micros(i64::MAX), Stamp::MAX);
    }
}
