//! The outcome of one measured phase: how many operations, in which time, how long each.

use std::time::{Duration, Instant};

/// When a phase ends: at a time or at a number of operations, whichever comes first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// From its start.
    pub(crate) time: Duration,
    /// No operation is begun after so many.
    pub(crate) ops: u64,
}

impl Bound {
    /// A phase of `time`; the number of operations only guards the memory of the sample.
    pub(crate) fn time(time: Duration) -> Bound {
        Bound {
            time,
            ops: 5_000_000,
        }
    }

    /// Whether another operation may begin.
    pub(crate) fn allows(&self, begun: u64, start: Instant) -> bool {
        begun < self.ops && start.elapsed() < self.time
    }
}

/// Operations and their latencies.
#[derive(Debug, Default, Clone)]
pub(crate) struct Sample {
    latencies_ns: Vec<u64>,
    elapsed: Duration,
}

impl Sample {
    /// One operation.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.latencies_ns.push(latency.as_nanos() as u64);
    }

    /// Operations of another client in the same phase.
    pub(crate) fn merge(&mut self, other: Sample) {
        self.latencies_ns.extend(other.latencies_ns);
        self.elapsed = self.elapsed.max(other.elapsed);
    }

    /// The phase is over: from the first operation's beginning to the last one's end.
    pub(crate) fn finish(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
        self.latencies_ns.sort_unstable();
    }

    /// Number of operations.
    pub(crate) fn count(&self) -> u64 {
        self.latencies_ns.len() as u64
    }

    /// Operations per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.count() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// The latency that a share `q` of all operations stays within.
    pub(crate) fn quantile(&self, q: f64) -> Duration {
        let mut sorted = self.latencies_ns.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        Duration::from_nanos(
            sorted
                .get((last as f64 * q).round() as usize)
                .copied()
                .unwrap_or(0),
        )
    }

    /// The same in microseconds.
    pub(crate) fn micros(&self, q: f64) -> f64 {
        self.quantile(q).as_nanos() as f64 / 1e3
    }
}

/// The middle one of some numbers; the mean of the two middle ones when their count is even.
pub(crate) fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        even if even % 2 == 0 => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        _ => Some(sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles_are_taken_in_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let mut sample = Sample::default();
        for micros in (0..=100).rev() {
            sample.add(Duration::from_micros(micros));
        }
        sample.finish(Duration::from_secs(2));
        assert_eq!(sample.micros(0.5), 50.0);
        assert_eq!(sample.micros(0.99), 99.0);
        assert_eq!(sample.per_second(), 50.5);
    }
}
