//! The `ts` of a reading: a number of s, ms, us or ns, or ISO 8601 text.
//!
//! Owns the rule by which a number's size tells its unit. Refuses text that names no
//! time of day ("2024-01-01") or leaves room for guesses.
//!
//! | size of the number | unit | covers |
//! |---|---|---|
//! | < 1e11 | seconds | until the year 5138 |
//! | < 1e14 | milliseconds | 1973 to 5138 |
//! | < 1e17 | microseconds | 1973 to 5138 |
//! | else | nanoseconds | 1973 to 2262 |

use super::number::Number;

/// A Gregorian day as days since 1970-01-01 (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", `days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Microseconds since the Unix epoch of a numeric `ts`, rounded down; `None` beyond the
/// nanoseconds that fit 64 bits.
pub(super) fn micros_of_number(number: Number) -> Option<i64> {
    let mantissa = u128::from(number.mantissa);
    let whole = match number.exponent {
        // 19 digits and 10^19 fit 128 bits; more is out of range anyway.
        0..=19 => mantissa * 10u128.pow(number.exponent as u32),
        20.. if mantissa == 0 => 0,
        20.. => return None,
        -19..=-1 => mantissa / 10u128.pow(number.exponent.unsigned_abs()),
        _ => 0,
    };
    let unit_exponent = match whole {
        0..100_000_000_000 => 6,
        100_000_000_000..100_000_000_000_000 => 3,
        100_000_000_000_000..100_000_000_000_000_000 => 0,
        _ if whole <= i64::MAX as u128 => -3,
        _ => return None,
    };
    // Beyond 20 the mantissa is 0, as was seen above.
    let exponent = number.exponent.clamp(-60, 60) + unit_exponent;
    let micros = if mantissa == 0 {
        0
    } else if exponent >= 0 {
        mantissa * 10u128.pow(exponent as u32)
    } else {
        let divisor = 10u128.pow(exponent.unsigned_abs().min(38));
        let rest = mantissa % divisor != 0 || number.truncated;
        mantissa / divisor + u128::from(number.negative && rest)
    };
    let micros = i64::try_from(micros).ok()?;
    Some(if number.negative { -micros } else { micros })
}

/// Microseconds since the Unix epoch of `YYYY-MM-DDTHH:MM[:SS[.fraction]]` followed by
/// `Z`, `±HH`, `±HHMM`, `±HH:MM` or nothing (UTC). A blank may stand for the `T`; digits
/// of the fraction after the sixth are dropped.
pub(super) fn micros_of_iso(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let number = |from: usize, length: usize| -> Option<i64> {
        bytes.get(from..from + length)?.iter().try_fold(0, |n, b| {
            b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0'))
        })
    };
    let is = |at: usize, wanted: &[u8]| bytes.get(at).is_some_and(|b| wanted.contains(b));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
    let (hour, minute) = (number(11, 2)?, number(14, 2)?);
    let mut at = 16;
    let mut second = 0;
    let mut micro = 0;
    if is(at, b":") {
        second = number(at + 1, 2)?;
        at += 3;
        if is(at, b".,") {
            let start = at + 1;
            at = start;
            while let Some(digit) = bytes.get(at).filter(|b| b.is_ascii_digit()) {
                if at - start < 6 {
                    micro += i64::from(digit - b'0') * 10i64.pow(5 - (at - start) as u32);
                }
                at += 1;
            }
            if at == start {
                return None;
            }
        }
    }
    let date = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    // A leap second is the first second of the next minute, as in PostgreSQL.
    if !date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let offset = zone_minutes(bytes.get(at..)?)?;
    let minutes = days_from_civil(year, month, day) * 1440 + hour * 60 + minute - offset;
    Some((minutes * 60 + second) * 1_000_000 + micro)
}

/// Minutes east of Greenwich.
fn zone_minutes(zone: &[u8]) -> Option<i64> {
    let two = |tens: u8, ones: u8| {
        (tens.is_ascii_digit() && ones.is_ascii_digit())
            .then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let (sign, hours, minutes) = match *zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, a, b] => (sign, two(a, b)?, 0),
        [sign, a, b, c, d] | [sign, a, b, b':', c, d] => (sign, two(a, b)?, two(c, d)?),
        _ => return None,
    };
    if hours > 15 || minutes > 59 {
        return None;
    }
    match sign {
        b'+' => Some(hours * 60 + minutes),
        b'-' => Some(-(hours * 60 + minutes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> Option<i64> {
        let (number, length) = Number::read(text.as_bytes()).unwrap();
        assert_eq!(length, text.len());
        micros_of_number(number)
    }

    #[test]
    fn the_size_of_a_number_tells_its_unit() {
        const T: i64 = 1_704_067_200_000_000;
        for (text, expected) in [
            ("0", 0),
            ("1704067200", T),
            ("1704067200.25", T + 250_000),
            ("1.7040672E9", T),
            ("1704067200.1234567", T + 123_456),
            ("1704067200123", T + 123_000),
            ("1704067200123.5", T + 123_500),
            ("1704067200123456", T + 123_456),
            ("1704067200123456.9", T + 123_456),
            ("1704067200123456789", T + 123_456),
            ("1704067200123456789.25", T + 123_456),
            ("-1", -1_000_000),
            ("-0.0000005", -1),
            ("-1704067200123", -T - 123_000),
            ("99999999999", 99_999_999_999_000_000),
            ("100000000000", 100_000_000_000_000),
            ("99999999999999", 99_999_999_999_999_000),
            ("100000000000000", 100_000_000_000_000),
            ("99999999999999999", 99_999_999_999_999_999),
            ("100000000000000000", 100_000_000_000_000),
            ("9223372036854775807", 9_223_372_036_854_775),
            ("0e99999", 0),
            ("-0e99999999999", 0),
            ("0e-99999999999", 0),
            ("1e-99999", 0),
        ] {
            assert_eq!(micros(text), Some(expected), "{text}");
        }
        for text in ["9223372036854775808", "1e30", "1e999999", "-1e19"] {
            assert_eq!(micros(text), None, "{text}");
        }
    }

    #[test]
    fn iso_8601() {
        const T: i64 = 1_704_067_200_000_000;
        for (text, expected) in [
            ("2024-01-01T00:00:00Z", T),
            ("2024-01-01 00:00:00", T),
            ("2024-01-01T00:00Z", T),
            ("2024-01-01T01:30:00+01:30", T),
            ("2023-12-31T19:00:00-0500", T),
            ("2024-01-01T01:00:00+01", T),
            ("2024-01-01T00:00:00.5Z", T + 500_000),
            ("2024-01-01T00:00:00.123456789Z", T + 123_456),
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("2024-02-29T00:00:00Z", T + 59 * 86_400_000_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
        ] {
            assert_eq!(micros_of_iso(text), Some(expected), "{text}");
        }
        for text in [
            "",
            "2024-01-01",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:60:00Z",
            "2024-01-01T00:00:61Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00 UTC",
            "2024-01-01T00:00:00+1:00",
            "2024-1-1T00:00:00Z",
            "1704067200",
            "yesterday",
            "２０２４-01-01T00:00:00Z",
        ] {
            assert_eq!(micros_of_iso(text), None, "{text}");
        }
    }
}
