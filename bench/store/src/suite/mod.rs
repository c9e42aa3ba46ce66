//! The suites: what is measured, and how often.

mod by_key;
mod chart;
mod codecs;
mod growth;
mod hot_key;
mod questions;
mod store;

use std::time::{Duration, Instant};

pub(crate) use questions::Questions;

use crate::args::{Options, Suite};
use crate::error::Result;
use crate::machine::Machine;

/// Runs the suite that was asked for.
pub(crate) fn run(options: &Options) -> Result<()> {
    match options.suite {
        Suite::Child(kind) => return store::run_child(options, kind),
        Suite::ByKeyChild(kind) => return by_key::run_child(options, kind),
        _ => {}
    }
    println!("{}\n", Machine::look());
    match options.suite {
        Suite::Codecs => codecs::run(options)?,
        Suite::Store => store::run(options)?,
        Suite::ByKey | Suite::ByKeyChild(_) => by_key::run(options)?,
        Suite::HotKey => hot_key::run(options)?,
        Suite::Growth | Suite::Child(_) => growth::run(options)?,
    }
    println!("\nload at the end: {:.2}", crate::machine::load_average());
    Ok(())
}

/// The middle one of some numbers; the mean of the two middle ones when their count is even.
/// 0 of none.
pub(crate) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        even if even % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

/// The median of what `measure` gives in `reps` runs.
pub(crate) fn repeated(reps: usize, mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let runs = (0..reps).map(|_| measure()).collect::<Result<Vec<f64>>>()?;
    Ok(median(&runs))
}

/// After so long a measurement of single operations ends, once it has [`OPERATIONS_MIN`].
const OPERATIONS_FOR: Duration = Duration::from_secs(2);
const OPERATIONS_MIN: usize = 5;

/// The median time in microseconds that an operation takes, over some inputs, or over as many
/// of them as fit into [`OPERATIONS_FOR`].
pub(crate) fn p50_micros<T>(
    inputs: &[T],
    mut operation: impl FnMut(&T) -> Result<()>,
) -> Result<f64> {
    let mut micros = Vec::with_capacity(inputs.len());
    let begin = Instant::now();
    for input in inputs {
        if micros.len() >= OPERATIONS_MIN && begin.elapsed() > OPERATIONS_FOR {
            break;
        }
        let start = Instant::now();
        operation(input)?;
        micros.push(start.elapsed().as_nanos() as f64 / 1e3);
    }
    Ok(median(&micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
