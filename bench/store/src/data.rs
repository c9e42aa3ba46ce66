//! The data: what 1,000 sensors send, as a pure function of how many rows there are.
//!
//! Every device reports once in 10 s, up to 50 ms late; one message in 200 is kept back by its
//! device and arrives up to 10 minutes later. `value` is a random walk of one or two decimals,
//! `noise` has all the bits a float has. Rows come in batches, in the order in which they arrive.

use std::collections::BTreeMap;

/// Devices of the readings.
pub(crate) const DEVICES: u64 = 1_000;
/// The only metric there is.
pub(crate) const METRIC: &str = "temperature";
/// Rows of a full batch.
pub(crate) const BATCH_ROWS: usize = 10_000;

const START_MICROS: i64 = 1_700_000_000_000_000;
const TICK_MICROS: i64 = 10_000_000;
const JITTER_MICROS: u64 = 50_000;
/// One row of so many is late.
const LATE_ONE_IN: u64 = 200;
/// By at most so many ticks: 10 minutes.
const LATE_TICKS_MAX: u64 = 60;

/// Rows in columns.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rows {
    pub(crate) device: Vec<u32>,
    pub(crate) ts: Vec<i64>,
    pub(crate) value: Vec<f64>,
    pub(crate) noise: Vec<f64>,
}

impl Rows {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.ts.len()
    }

    fn push(&mut self, (device, ts, value, noise): Row) {
        self.device.push(device);
        self.ts.push(ts);
        self.value.push(value);
        self.noise.push(noise);
    }
}

type Row = (u32, i64, f64, f64);

/// The name of a device.
pub(crate) fn device_name(device: u32) -> String {
    format!("device-{device:04}")
}

/// The time of a device's reading.
pub(crate) fn ts(device: u32, tick: u64) -> i64 {
    let jitter = hash(u64::from(device) << 32 | tick) % JITTER_MICROS;
    START_MICROS + tick as i64 * TICK_MICROS + jitter as i64
}

/// The noise of that reading, between 20 and 21.
pub(crate) fn noise(device: u32, tick: u64) -> f64 {
    let bits = hash(!(u64::from(device) << 32 | tick)) >> 11;
    20.0 + bits as f64 / (1u64 << 53) as f64
}

/// Ticks that so many rows take.
pub(crate) fn ticks(rows: u64) -> u64 {
    rows.div_ceil(DEVICES)
}

/// The batches of the first `rows` rows.
#[derive(Debug)]
pub(crate) struct Batches {
    left: u64,
    tick: u64,
    device: u32,
    /// Hundredths, or tenths for devices with an odd number.
    walk: Vec<i64>,
    /// Late rows by the tick at which they arrive.
    late: BTreeMap<u64, Vec<Row>>,
}

impl Batches {
    /// From the first on.
    pub(crate) fn new(rows: u64) -> Batches {
        Batches {
            left: rows,
            tick: 0,
            device: 0,
            walk: vec![2_000; DEVICES as usize],
            late: BTreeMap::new(),
        }
    }

    fn reading(&mut self) -> Row {
        let (device, tick) = (self.device, self.tick);
        let step = hash(u64::from(device) << 40 | tick << 1 | 1) % 41;
        let walk = &mut self.walk[device as usize];
        *walk += step as i64 - 20;
        let unit = if device % 2 == 1 { 10.0 } else { 100.0 };
        let value = *walk as f64 / unit;
        (device, ts(device, tick), value, noise(device, tick))
    }
}

impl Iterator for Batches {
    type Item = Rows;

    fn next(&mut self) -> Option<Rows> {
        let mut rows = Rows::default();
        while rows.len() < BATCH_ROWS && self.left > 0 {
            if self.device == 0 {
                let arrived = self.late.remove(&self.tick).unwrap_or_default();
                arrived.into_iter().for_each(|row| rows.push(row));
            }
            let row = self.reading();
            let chance = hash(row.1 as u64 ^ u64::from(row.0) << 50);
            if chance.is_multiple_of(LATE_ONE_IN) {
                let later = 1 + (chance >> 32) % LATE_TICKS_MAX;
                self.late.entry(self.tick + later).or_default().push(row);
            } else {
                rows.push(row);
            }
            self.left -= 1;
            self.device = (self.device + 1) % DEVICES as u32;
            self.tick += u64::from(self.device == 0);
        }
        if self.left == 0 {
            let rest = std::mem::take(&mut self.late);
            rest.into_values().flatten().for_each(|row| rows.push(row));
        }
        (rows.len() > 0).then_some(rows)
    }
}

/// Average and maximum of `value` per device.
pub(crate) fn expected(rows: u64) -> Vec<Aggregate> {
    let mut all = vec![Sums::default(); DEVICES as usize];
    for batch in Batches::new(rows) {
        for (device, value) in batch.device.iter().zip(&batch.value) {
            all[*device as usize].add(*value);
        }
    }
    let named = all.iter().enumerate().filter(|(_, sums)| sums.rows > 0);
    named
        .map(|(device, sums)| sums.aggregate(device_name(device as u32)))
        .collect()
}

/// What an aggregate needs to be kept for a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sums {
    rows: u64,
    sum: f64,
    max: f64,
}

impl Default for Sums {
    fn default() -> Sums {
        Sums {
            rows: 0,
            sum: 0.0,
            max: f64::MIN,
        }
    }
}

impl Sums {
    /// One more value.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.rows += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }

    /// Many more values.
    pub(crate) fn add_all(&mut self, values: &[f64]) {
        self.rows += values.len() as u64;
        self.sum += values.iter().sum::<f64>();
        self.max = values.iter().copied().fold(self.max, f64::max);
    }

    /// What the query asks for.
    pub(crate) fn aggregate(&self, device: String) -> Aggregate {
        Aggregate {
            device,
            average: self.sum / self.rows as f64,
            max: self.max,
        }
    }
}

/// One line of the aggregate's answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Aggregate {
    pub(crate) device: String,
    pub(crate) average: f64,
    pub(crate) max: f64,
}

impl Aggregate {
    /// Whether it is the same answer; sums in another order differ in their last digits.
    pub(crate) fn agrees(&self, other: &Aggregate) -> bool {
        self.device == other.device
            && self.max == other.max
            && (self.average - other.average).abs() < 1e-9 * self.average.abs().max(1.0)
    }
}

/// A stream of numbers that is the same in every run.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        hash(self.0)
    }

    /// A number in [0, end).
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A well-mixed function of a number (SplitMix64's finalizer).
fn hash(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_row_comes_once_and_some_come_late() {
        let rows = 123_456;
        let mut seen = HashSet::new();
        let mut newest = vec![0; DEVICES as usize];
        let mut late = 0;
        for batch in Batches::new(rows) {
            for (device, ts) in batch.device.iter().zip(&batch.ts) {
                assert!(seen.insert((*device, *ts)));
                late += u64::from(*ts < newest[*device as usize]);
                let newest = &mut newest[*device as usize];
                *newest = (*newest).max(*ts);
            }
        }
        assert_eq!(seen.len() as u64, rows);
        assert!(late > rows / 300 && late < rows / 150, "{late}");
        let last = (DEVICES - 1) as u32;
        assert!(seen.contains(&(last, ts(last, 77))));
        assert_eq!(expected(rows).len() as u64, DEVICES);
    }
}
