//! Random bytes: from the operating system, or from a seed.
//!
//! Owns the only call to the operating system's random source. Refuses to be a
//! cryptographic library: [`SimRandom`] is predictable by intent.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a component takes random bytes from.
pub trait Random: Debug + Send + Sync + 'static {
    /// Fills `out` with random bytes.
    fn fill(&self, out: &mut [u8]);

    /// A uniformly distributed number.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// The operating system's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    /// # Panics
    /// When the operating system has no random source: ids and secrets made without one
    /// would collide, so there is no way to go on.
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that calls it"
    )]
    fn fill(&self, out: &mut [u8]) {
        if let Err(error) = getrandom::fill(out) {
            panic!("the operating system's random source failed: {error}");
        }
    }
}

/// Numbers that repeat for a seed: SplitMix64 (Steele, Lea, Flood, "Fast splittable
/// pseudorandom number generators", OOPSLA 2014), whose state is a mere counter, so
/// that threads can share it without a lock.
#[derive(Debug)]
pub struct SimRandom {
    state: AtomicU64,
}

impl SimRandom {
    /// A generator that repeats for the same `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            state: AtomicU64::new(seed),
        }
    }

    /// A number in `0..bound`. The bias of a plain remainder is below `bound / 2^64`.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        assert!(bound > 0, "below(0) has no possible result");
        self.u64() % bound
    }
}

impl Random for SimRandom {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.u64().to_le_bytes()[..chunk.len()]);
        }
    }

    fn u64(&self) -> u64 {
        const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self
            .state
            .fetch_add(GAMMA, Ordering::Relaxed)
            .wrapping_add(GAMMA);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence_of_splitmix64() {
        let random = SimRandom::new(1_234_567);
        assert_eq!(random.u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn fill_covers_odd_lengths_and_differs_between_seeds() {
        let mut first = [0; 13];
        let mut second = [0; 13];
        SimRandom::new(1).fill(&mut first);
        SimRandom::new(2).fill(&mut second);
        assert_ne!(first, second);
        assert_ne!(first[8..], [0; 5]);
    }

    #[test]
    fn the_operating_system_does_not_repeat_itself() {
        assert_ne!(OsRandom.u64(), OsRandom.u64());
    }
}
