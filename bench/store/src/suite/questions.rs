//! What every engine of the store suite is asked, with the right answers.

use crate::data::{self, Aggregate, Random, DEVICES};
use crate::engine::{Engine, Range};
use crate::error::{failure, Result};

/// Ticks of an hour.
const HOUR_TICKS: u64 = 360;
const RANGES: u64 = 300;
const POINTS: u64 = 3_000;

/// Questions about so many rows.
#[derive(Debug)]
pub(crate) struct Questions {
    pub(crate) rows: u64,
    pub(crate) aggregate: Vec<Aggregate>,
    /// An hour of a device, its rows and the sum of their noise.
    pub(crate) ranges: Vec<(Range, u64, f64)>,
    /// Readings to be checked.
    pub(crate) points: Vec<Point>,
}

/// A reading: device, time and its noise.
pub(crate) type Point = (u32, i64, f64);

impl Questions {
    /// About the first `rows` rows, a multiple of the devices.
    pub(crate) fn new(rows: u64) -> Questions {
        let ticks = rows / DEVICES;
        let mut random = Random::new(17);
        let mut ranges = Vec::new();
        for _ in 0..RANGES {
            let device = random.below(DEVICES) as u32;
            let first = random.below(ticks.saturating_sub(HOUR_TICKS) + 1);
            let last = (first + HOUR_TICKS).min(ticks);
            let range = Range {
                device,
                from: data::ts(device, first),
                to: data::ts(device, last),
            };
            let noise = (first..last).map(|tick| data::noise(device, tick)).sum();
            ranges.push((range, last - first, noise));
        }
        Questions {
            rows,
            aggregate: data::expected(rows),
            ranges,
            points: points(rows, &mut random),
        }
    }

    /// Readings at random, others for each repetition: an engine may keep the rows that it was
    /// asked for before.
    pub(crate) fn fresh_points(&self, repetition: u64) -> Vec<Point> {
        points(self.rows, &mut Random::new((repetition + 1) << 32))
    }

    /// Asks everything once: a wrong answer is an error.
    pub(crate) fn check(&self, engine: &mut dyn Engine) -> Result<()> {
        let given = engine.aggregate()?;
        let same = given.len() == self.aggregate.len();
        if !same || given.iter().zip(&self.aggregate).any(|(a, b)| !a.agrees(b)) {
            return failure("the aggregate is wrong");
        }
        for (range, rows, noise) in &self.ranges {
            let slice = engine.range(*range)?;
            if slice.rows != *rows || (slice.noise - noise).abs() > 1e-6 {
                return failure(format!("{range:?}: {} of {rows} rows", slice.rows));
            }
        }
        for (device, ts, noise) in &self.points {
            if engine.point(*device, *ts)? != Some(*noise) {
                return failure(format!("the reading of device {device} at {ts} is wrong"));
            }
        }
        Ok(())
    }
}

fn points(rows: u64, random: &mut Random) -> Vec<Point> {
    let one = |_| {
        let (device, tick) = (random.below(DEVICES) as u32, random.below(rows / DEVICES));
        (device, data::ts(device, tick), data::noise(device, tick))
    };
    (0..POINTS).map(one).collect()
}
