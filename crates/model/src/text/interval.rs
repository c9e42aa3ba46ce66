//! INTERVAL as text, `IntervalStyle = postgres`: `1 year 2 mons 3 days 04:05:06`.

use ::bytes::BufMut;

use super::datetime_writer::Line;
use crate::Interval;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Appends an INTERVAL. Every part carries its own sign; nanoseconds below the
/// microsecond, which PostgreSQL does not have, show as further digits.
pub fn write_interval(interval: Interval, out: &mut impl BufMut) {
    let parts = [
        (interval.months / 12, "year"),
        (interval.months % 12, "mon"),
        (interval.days, "day"),
    ];
    let mut is_first = true;
    let mut after_negative = false;
    for (amount, unit) in parts.into_iter().filter(|(amount, _)| *amount != 0) {
        if !is_first {
            out.put_u8(b' ');
        }
        if after_negative && amount > 0 {
            out.put_u8(b'+');
        }
        out.put_slice(itoa::Buffer::new().format(amount).as_bytes());
        out.put_u8(b' ');
        out.put_slice(unit.as_bytes());
        if amount != 1 {
            out.put_u8(b's');
        }
        is_first = false;
        after_negative = amount < 0;
    }
    if interval.nanos == 0 && !is_first {
        return;
    }
    if !is_first {
        out.put_u8(b' ');
    }
    match (interval.nanos < 0, after_negative) {
        (true, _) => out.put_u8(b'-'),
        (false, true) => out.put_u8(b'+'),
        (false, false) => {}
    }
    put_clock(interval.nanos.unsigned_abs(), out);
}

fn put_clock(nanos: u64, out: &mut impl BufMut) {
    let seconds = nanos / NANOS_PER_SECOND;
    let hours = seconds / 3_600;
    let mut line = Line::new();
    if hours < 100 {
        line.pair(hours as u32);
    } else {
        out.put_slice(itoa::Buffer::new().format(hours).as_bytes());
    }
    line.byte(b':');
    line.pair((seconds / 60 % 60) as u32);
    line.byte(b':');
    line.pair((seconds % 60) as u32);
    let fraction = (nanos % NANOS_PER_SECOND) as u32;
    if fraction.is_multiple_of(1_000) {
        line.fraction(fraction / 1_000, 6);
    } else {
        line.fraction(fraction, 9);
    }
    out.put_slice(line.as_bytes());
}
