//! The data: sensor readings as a pure function of their position, and their COPY encoding.
//!
//! Rows come in as they do from a field: at every second each device reports once, so the
//! rows of one device lie [`DEVICES`] apart. Values are a daily wave with noise, to two
//! decimals, which is what a thermometer gives. Every peer stores the same rows.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Devices of the readings.
pub(crate) const DEVICES: u64 = 100;

/// 2026-03-01 00:00:00 UTC in microseconds: the first reading.
const EPOCH_MICROS: i64 = 1_772_323_200_000_000;

/// Bytes of COPY text in one CopyData message, about.
const COPY_MESSAGE_BYTES: usize = 32 * 1024;

/// One reading.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    /// Number of the device; its name is [`write_device`].
    pub(crate) device: u64,
    /// Microseconds since 1970 in UTC.
    pub(crate) micros: i64,
    /// What was measured.
    pub(crate) value: f64,
}

/// The reading at a position of the endless series.
pub(crate) fn reading(position: u64) -> Reading {
    let device = position % DEVICES;
    let second = position / DEVICES;
    let wave = (second as f64 / 86_400.0 * std::f64::consts::TAU + device as f64).sin();
    let noise = (hash(position) % 1000) as f64 / 1000.0;
    let value = 20.0 + (device % 10) as f64 + 5.0 * wave + noise;
    Reading {
        device,
        micros: micros_of_second(second),
        value: (value * 100.0).round() / 100.0,
    }
}

/// The time of a second of the series.
pub(crate) fn micros_of_second(second: u64) -> i64 {
    EPOCH_MICROS + second as i64 * 1_000_000
}

/// The device's name: `dev-042`.
pub(crate) fn write_device(out: &mut String, device: u64) {
    let _ = write!(out, "dev-{device:03}");
}

/// A time as PostgreSQL writes it: `2026-03-01 00:00:00+00`, with microseconds where there are any.
pub(crate) fn write_time(out: &mut String, micros: i64) {
    let (days, of_day) = (
        micros.div_euclid(86_400_000_000),
        micros.rem_euclid(86_400_000_000),
    );
    let (year, month, day) = civil(days);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let _ = write!(
        out,
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
    );
    if fraction != 0 {
        let _ = write!(out, ".{fraction:06}");
    }
    out.push_str("+00");
}

/// Year, month and day of a count of days since 1970-01-01, by counting 400-year eras from
/// the first of March (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A well-mixed function of a number (SplitMix64's finalizer).
fn hash(number: u64) -> u64 {
    let mut x = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bytes of a pair's value.
pub(crate) const PAYLOAD_BYTES: usize = 256;

/// A pair's value: [`PAYLOAD_BYTES`] letters and digits that no compressor makes much of.
pub(crate) fn write_payload(out: &mut String, seed: u64) {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for word in 0..PAYLOAD_BYTES as u64 / 8 {
        let bits = hash(hash(seed) ^ word);
        for place in 0..8 {
            out.push(char::from(LETTERS[(bits >> (6 * place)) as usize % 64]));
        }
    }
}

/// A stream of numbers. No two in a process are alike: clients that follow each other through
/// the same keys and values would find everything in a cache, and updates with nothing to do
/// (SQLite commits those without a write).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

/// Streams begun so far.
static STREAMS: AtomicU64 = AtomicU64::new(0);

impl Random {
    /// The next stream.
    pub(crate) fn new() -> Random {
        Random(hash(STREAMS.fetch_add(1, Ordering::Relaxed)))
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        hash(self.0)
    }

    /// A number in [0, end).
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        hash(self.0) % end
    }
}

/// Which columns the rows of a [`Chunk`] have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// (device, ts, value)
    Series,
    /// (id, device, ts, value), the id being the position.
    Keyed,
}

/// Rows in memory, ready to be sent: COPY text, already cut into CopyData messages.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// Columns of the rows.
    pub(crate) shape: Shape,
    /// Position of the first row.
    pub(crate) first: u64,
    /// Number of rows.
    pub(crate) rows: u64,
    /// CopyData messages, headers included.
    pub(crate) messages: Vec<u8>,
}

impl Chunk {
    /// Encodes `rows` rows from position `first` on.
    pub(crate) fn new(shape: Shape, first: u64, rows: u64) -> Chunk {
        let mut messages = Vec::with_capacity(rows as usize * 48);
        let mut text = String::with_capacity(COPY_MESSAGE_BYTES + 256);
        for position in first..first + rows {
            let row = reading(position);
            if shape == Shape::Keyed {
                let _ = write!(text, "{position}\t");
            }
            write_device(&mut text, row.device);
            text.push('\t');
            write_time(&mut text, row.micros);
            let _ = writeln!(text, "\t{}", row.value);
            if text.len() >= COPY_MESSAGE_BYTES || position + 1 == first + rows {
                messages.push(b'd');
                messages.extend_from_slice(&(text.len() as u32 + 4).to_be_bytes());
                messages.extend_from_slice(text.as_bytes());
                text.clear();
            }
        }
        Chunk {
            shape,
            first,
            rows,
            messages,
        }
    }
}

/// Average and maximum per device over the first `rows` rows: what a peer must answer.
pub(crate) fn expected(rows: u64) -> BTreeMap<String, (f64, f64)> {
    let mut all = vec![(0.0, 0u64, f64::MIN); DEVICES as usize];
    for row in (0..rows).map(reading) {
        let entry = &mut all[row.device as usize];
        *entry = (entry.0 + row.value, entry.1 + 1, entry.2.max(row.value));
    }
    let named = all
        .into_iter()
        .enumerate()
        .filter(|(_, (_, count, _))| *count > 0);
    let named = named.map(|(device, (sum, count, max))| {
        let mut name = String::new();
        write_device(&mut name, device as u64);
        (name, (sum / count as f64, max))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_postgresql_writes_them() {
        let text = |micros| {
            let mut out = String::new();
            write_time(&mut out, micros);
            out
        };
        assert_eq!(text(0), "1970-01-01 00:00:00+00");
        assert_eq!(text(EPOCH_MICROS), "2026-03-01 00:00:00+00");
        assert_eq!(text(EPOCH_MICROS - 1), "2026-02-28 23:59:59.999999+00");
        assert_eq!(text(1_709_208_000_000_000), "2024-02-29 12:00:00+00");
    }

    #[test]
    fn a_chunk_is_made_of_whole_messages_of_whole_lines() {
        let chunk = Chunk::new(Shape::Series, 500, 2000);
        let (mut rest, mut lines) = (&chunk.messages[..], 0);
        while let [b'd', a, b, c, d, body @ ..] = rest {
            let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize - 4;
            assert_eq!(body[size - 1], b'\n');
            lines += body[..size].iter().filter(|byte| **byte == b'\n').count();
            rest = &body[size..];
        }
        assert!(rest.is_empty());
        assert_eq!(lines, 2000);
        assert!(chunk.messages[5..].starts_with(b"dev-000\t2026-03-01 00:00:05+00\t"));
    }

    #[test]
    fn expectations_are_those_of_the_rows() {
        let all = expected(2 * DEVICES);
        let (a, b) = (reading(7).value, reading(107).value);
        assert_eq!(all["dev-007"], ((a + b) / 2.0, a.max(b)));
        assert_eq!(all.len(), DEVICES as usize);
    }
}
