//! Counts that the consensus library keeps of itself: how many entries went into a batch, and the like.
//!
//! The library names a crate of histograms for them that makes tables of 25 MiB when the first one is
//! created, whatever its resolution; on a box with 256 MiB that is a tenth of its memory, for figures
//! that nobody is shown. This one has that crate's name, so that it can take its place
//! (`[patch.crates-io]` in the workspace's manifest), and as much of its face as the library uses:
//! a counter for each power of two. Whoever depends on Chronos from elsewhere gets the original, and
//! only needs more memory.

use std::fmt;
use std::marker::PhantomData;

/// A counter for 0, and one for each power of two up to the next.
const COUNTERS: usize = 65;

/// Counts values by their powers of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; COUNTERS],
    of: PhantomData<T>,
}

/// Values below which parts of all recorded ones lie; each to the next smaller power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PercentileStats {
    /// How many values were recorded.
    pub samples: u64,
    /// 0.1 %.
    pub p0_1: u64,
    /// 1 %.
    pub p1: u64,
    /// 5 %.
    pub p5: u64,
    /// 10 %.
    pub p10: u64,
    /// The median.
    pub p50: u64,
    /// 90 %.
    pub p90: u64,
    /// 99 %.
    pub p99: u64,
    /// 99.9 %.
    pub p99_9: u64,
}

impl<T> Histogram<T> {
    /// Without values.
    pub fn new() -> Self {
        Self {
            counts: [0; COUNTERS],
            of: PhantomData,
        }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value so many times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let power = u64::BITS - value.leading_zeros();
        self.counts[power as usize] += times;
    }

    /// What is known of the distribution.
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self.counts.iter().sum();
        let below = |thousandths| self.below(samples, thousandths);
        PercentileStats {
            samples,
            p0_1: below(1),
            p1: below(10),
            p5: below(50),
            p10: below(100),
            p50: below(500),
            p90: below(900),
            p99: below(990),
            p99_9: below(999),
        }
    }

    fn below(&self, samples: u64, thousandths: u64) -> u64 {
        let rank = u128::from(samples) * u128::from(thousandths) / 1_000;
        let mut seen = 0;
        for (power, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen > rank {
                return least(power);
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// The least value that is counted there.
fn least(power: usize) -> u64 {
    match power.checked_sub(1) {
        None => 0,
        Some(shift) => 1 << shift,
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PercentileStats {
            samples, p50, p99, ..
        } = self;
        write!(f, "[{samples} values, half below {p50}, 99 % below {p99}]")
    }
}

/// Distributions below each other, as text.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    rows: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// Without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more.
    #[must_use]
    pub fn add(mut self, name: impl fmt::Display, histogram: Histogram) -> Self {
        let row = (name.to_string(), histogram.percentile_stats());
        self.rows.push(row);
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, stats) in &self.rows {
            writeln!(f, "{name} {stats}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_by_powers_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        for value in 0..1_000 {
            histogram.record(value);
        }
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p1), (1_001, 1, 8));
        assert_eq!((stats.p50, stats.p99_9), (256, 512));
        histogram = Histogram::new();
        histogram.record(u64::MAX);
        assert_eq!(histogram.percentile_stats().p50, 1 << 63);
    }
}
