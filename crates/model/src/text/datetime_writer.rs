//! DATE, TIME, TIMESTAMP and TIMESTAMPTZ as text, `DateStyle = ISO`.
//!
//! A value is put together in a buffer on the stack and handed over at once.

use ::bytes::BufMut;

use super::calendar::civil_from_days;
use super::DAY_MICROS;

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// A line under construction; the longest is
/// `-infinity` or `5874897-12-31 23:59:59.999999+00 BC`.
pub(super) struct Line {
    bytes: [u8; 64],
    length: usize,
}

impl Line {
    pub(super) fn new() -> Line {
        Line {
            bytes: [0; 64],
            length: 0,
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    fn text(&mut self, text: &[u8]) {
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    /// A number below 100 as two digits.
    pub(super) fn pair(&mut self, n: u32) {
        let pair = PAIRS[n as usize % 100];
        self.bytes[self.length..self.length + 2].copy_from_slice(&pair);
        self.length += 2;
    }

    /// `.` and the digits of `value / 10^places` without trailing zeros; nothing
    /// for zero.
    pub(super) fn fraction(&mut self, mut value: u32, places: usize) {
        if value == 0 {
            return;
        }
        self.byte(b'.');
        let start = self.length;
        for at in (start..start + places).rev() {
            self.bytes[at] = b'0' + (value % 10) as u8;
            value /= 10;
        }
        self.length = start + places;
        while self.bytes[self.length - 1] == b'0' {
            self.length -= 1;
        }
    }

    /// `YYYY-MM-DD`; gives whether the year is before Christ.
    fn date(&mut self, days: i64) -> bool {
        let (year, month, day) = civil_from_days(days);
        let is_bc = year <= 0;
        let year = if is_bc { 1 - year } else { year };
        if year < 10_000 {
            self.pair(year as u32 / 100);
            self.pair(year as u32 % 100);
        } else {
            self.text(itoa::Buffer::new().format(year).as_bytes());
        }
        self.byte(b'-');
        self.pair(month);
        self.byte(b'-');
        self.pair(day);
        is_bc
    }

    /// `HH:MM:SS[.ffffff]`
    fn clock(&mut self, micros: i64) {
        let seconds = (micros / 1_000_000) as u32;
        self.pair(seconds / 3_600);
        self.byte(b':');
        self.pair(seconds / 60 % 60);
        self.byte(b':');
        self.pair(seconds % 60);
        self.fraction((micros % 1_000_000) as u32, 6);
    }
}

/// Appends a DATE given as days since 1970-01-01.
pub fn write_date(days: i32, out: &mut impl BufMut) {
    let mut line = Line::new();
    match days {
        i32::MAX => line.text(b"infinity"),
        i32::MIN => line.text(b"-infinity"),
        days => {
            if line.date(i64::from(days)) {
                line.text(b" BC");
            }
        }
    }
    out.put_slice(line.as_bytes());
}

/// Appends a TIME given as microseconds since midnight.
pub fn write_time(micros: i64, out: &mut impl BufMut) {
    let mut line = Line::new();
    line.clock(micros.clamp(0, DAY_MICROS));
    out.put_slice(line.as_bytes());
}

/// Appends a TIMESTAMP given as microseconds since 1970-01-01.
pub fn write_timestamp(micros: i64, out: &mut impl BufMut) {
    out.put_slice(timestamp(micros, b"").as_bytes());
}

/// Appends a TIMESTAMPTZ given as microseconds since the Unix epoch, in UTC.
pub fn write_timestamptz(micros: i64, out: &mut impl BufMut) {
    out.put_slice(timestamp(micros, b"+00").as_bytes());
}

fn timestamp(micros: i64, zone: &[u8]) -> Line {
    let mut line = Line::new();
    match micros {
        i64::MAX => line.text(b"infinity"),
        i64::MIN => line.text(b"-infinity"),
        micros => {
            let is_bc = line.date(micros.div_euclid(DAY_MICROS));
            line.byte(b' ');
            line.clock(micros.rem_euclid(DAY_MICROS));
            line.text(zone);
            if is_bc {
                line.text(b" BC");
            }
        }
    }
    line
}
