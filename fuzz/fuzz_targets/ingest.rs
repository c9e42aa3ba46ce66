//! Any bytes as the body of `POST /ingest`. It must not panic; it must accept what a
//! naive reading accepts, with the same rows, and refuse everything else, naming a field
//! that is there and a position in the body.
//!
//! The naive reading is serde_json's, of each reading as a list of members and their
//! text; numbers and times are worked out on their decimal digits.
//!
//! `just fuzz ingest -dict=ingest.dict`
#![no_main]

use std::collections::HashSet;
use std::fmt;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use chronos_node::Readings;
use chronos_server::http::ingest::{parse_body, IngestError, NAME_MAX_BYTES};
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Device, metric, time, sequence number, the bits of the value.
type Row = (String, String, i64, i64, u64);

fuzz_target!(|body: &[u8]| {
    for lines_only in [false, true] {
        let media_type = if lines_only {
            "application/x-ndjson"
        } else {
            "application/json"
        };
        let mut readings = Readings::new();
        let result = parse_body(Some(media_type), body, &mut readings);
        let naive = naive_body(body, lines_only);
        match (result, naive) {
            (Ok(()), Ok(rows)) => assert_eq!(rows_of(readings), rows),
            (Ok(()), Err(_)) => panic!("accepted: {:?}", rows_of(readings)),
            (Err(error), Ok(rows)) => panic!("{error:?}, but it holds {rows:?}"),
            (Err(error), Err(index)) => check_error(&error, index, body),
        }
    }
});

fn check_error(error: &IngestError, index: Option<u64>, body: &[u8]) {
    assert!(!error.message.is_empty());
    let before = body.get(..error.byte as usize).expect("a position inside");
    let lines = before.split(|&b| b == b'\n').count();
    assert_eq!(error.line, lines as u64, "{error:?}");
    if let Some(index) = index {
        assert_eq!(error.index, index, "{error:?}");
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return;
    };
    assert!(text.is_char_boundary(before.len()), "{error:?}");
    let Some(field) = &error.field else { return };
    let name = field.strip_prefix("metrics.").unwrap_or(field);
    let required = ["device_id", "ts", "metrics"].contains(&name);
    // A name with escapes stands there in other letters.
    let is_there = text.contains(name) || text.contains('\\');
    assert!(required || is_there, "{error:?}");
}

fn rows_of(readings: Readings) -> Vec<Row> {
    let batch = readings.into_batch().expect("rows make a batch");
    let devices = batch.column(0).as_string_view();
    let metrics = batch.column(1).as_string_view();
    let times = batch.column(2).as_primitive::<TimestampMicrosecondType>();
    let seqs = batch.column(3).as_primitive::<Int64Type>();
    let values = batch.column(4).as_primitive::<Float64Type>();
    (0..batch.num_rows())
        .map(|i| {
            let value = values.value(i).to_bits();
            let (device, metric) = (devices.value(i).to_owned(), metrics.value(i).to_owned());
            (device, metric, times.value(i), seqs.value(i), value)
        })
        .collect()
}

/// An object as its members in order, whether or not two have the same name.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReadMembers;
        impl<'de> Visitor<'de> for ReadMembers {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(ReadMembers)
    }
}

/// The rows of a body; else the number of the reading that is wrong, where it is known.
fn naive_body(body: &[u8], lines_only: bool) -> Result<Vec<Row>, Option<u64>> {
    let text = std::str::from_utf8(body).map_err(|_| None)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rows = Vec::new();
    if !lines_only
        && text
            .trim_start_matches([' ', '\t', '\r', '\n'])
            .starts_with('[')
    {
        let readings: Vec<Members> = serde_json::from_str(text).map_err(|_| None)?;
        for (reading, index) in readings.into_iter().zip(0..) {
            naive_reading(reading, &mut rows).ok_or(Some(index))?;
        }
        return Ok(rows);
    }
    let mut index = 0;
    for reading in serde_json::Deserializer::from_str(text).into_iter::<Members>() {
        let reading = reading.map_err(|_| Some(index))?;
        naive_reading(reading, &mut rows).ok_or(Some(index))?;
        index += 1;
    }
    match index {
        0 => Err(Some(0)),
        _ => Ok(rows),
    }
}

fn naive_reading(reading: Members, rows: &mut Vec<Row>) -> Option<()> {
    let Members(members) = reading;
    let names: HashSet<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    let known = ["device_id", "ts", "seq", "metrics"];
    if names.len() < members.len() || !names.iter().all(|name| known.contains(name)) {
        return None;
    }
    let member = |wanted: &str| {
        let found = members.iter().find(|(name, _)| name == wanted)?;
        Some(found.1.get())
    };
    let device = name(&serde_json::from_str::<String>(member("device_id")?).ok()?)?;
    let ts = match member("ts")? {
        text if text.starts_with('"') => naive_iso(&serde_json::from_str::<String>(text).ok()?)?,
        number => naive_time(number)?,
    };
    let seq = match member("seq") {
        Some(text) => text.parse::<i64>().ok()?,
        None => 0,
    };
    let Members(metrics) = serde_json::from_str(member("metrics")?).ok()?;
    let names: HashSet<&str> = metrics.iter().map(|(name, _)| name.as_str()).collect();
    if metrics.is_empty() || names.len() < metrics.len() {
        return None;
    }
    for (metric, value) in &metrics {
        let value = match value.get() {
            "true" => 1.0,
            "false" => 0.0,
            number if is_number(number) => number.parse::<f64>().ok()?,
            _ => return None,
        };
        if !value.is_finite() {
            return None;
        }
        rows.push((device.clone(), name(metric)?, ts, seq, value.to_bits()));
    }
    Some(())
}

fn name(text: &str) -> Option<String> {
    let fits = (1..=NAME_MAX_BYTES).contains(&text.len()) && !text.contains('\0');
    fits.then(|| text.to_owned())
}

fn is_number(text: &str) -> bool {
    text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
}

/// Microseconds of a number whose size tells its unit, by moving the point in its digits.
fn naive_time(text: &str) -> Option<i64> {
    if !is_number(text) {
        return None;
    }
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    // A point further than this from the digits makes the number huge or less than a
    // microsecond, whatever the digits are.
    const FAR: i64 = 100_000;
    let exponent = exponent
        .parse::<i64>()
        .unwrap_or(match exponent.starts_with('-') {
            true => -FAR,
            false => FAR,
        });
    let point = digits.len() as i64 - fraction.len() as i64 + exponent.clamp(-FAR, FAR);
    let (unit, shift) = match point {
        ..=11 => ("s", 6),
        12..=14 => ("ms", 3),
        15..=17 => ("us", 0),
        18..=19 => ("ns", -3),
        _ => return None,
    };
    let at = usize::try_from((point + shift).max(0)).ok()?;
    if unit == "ns" {
        let nanos = format!("{digits:0<19}")[..point as usize].to_owned();
        nanos.parse::<i64>().ok()?;
    }
    let padded = format!("{digits:0<at$}");
    let micros: i64 = match &padded[..at] {
        "" => 0,
        kept => kept.parse().ok()?,
    };
    let rest = point + shift < 0 || padded[at..].bytes().any(|b| b != b'0');
    Some(match negative {
        true => -micros - i64::from(rest),
        false => micros,
    })
}

/// Microseconds of `YYYY-MM-DD(T| )HH:MM[:SS[(.|,)F..]][zone]`.
fn naive_iso(text: &str) -> Option<i64> {
    let date = text.get(..10)?;
    let (year, month, day) = match date.split('-').collect::<Vec<_>>()[..] {
        [y, m, d] => (digits(y, 4)?, digits(m, 2)?, digits(d, 2)?),
        _ => return None,
    };
    let time = text.get(10..)?.strip_prefix(['T', 't', ' '])?;
    let zone_at = time.find(|c: char| !(c.is_ascii_digit() || ":.,".contains(c)));
    let (clock, zone) = time.split_at(zone_at.unwrap_or(time.len()));
    let (clock, fraction) = match clock.split_once(['.', ',']) {
        Some((clock, fraction)) if clock.len() == 8 && !fraction.is_empty() => (clock, fraction),
        Some(_) => return None,
        None => (clock, ""),
    };
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hour, minute, second) = match clock.split(':').collect::<Vec<_>>()[..] {
        [h, m] => (digits(h, 2)?, digits(m, 2)?, 0),
        [h, m, s] => (digits(h, 2)?, digits(m, 2)?, digits(s, 2)?),
        _ => return None,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [
        31,
        28 + i64::from(leap),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
    if day < 1 || day > length || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days by counting: of the years before, of the months before.
    let before = year - 1;
    let leap_days = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
    let days = year * 365 + leap_days + lengths[..(month - 1) as usize].iter().sum::<i64>() + day;
    let epoch = 1970 * 365 + 1969 / 4 - 1969 / 100 + 1969 / 400 + 1;
    let seconds = (days - epoch) * 86_400 + hour * 3600 + minute * 60 + second;
    let micros = format!("{fraction:0<6}")[..6].parse::<i64>().ok()?;
    Some((seconds - naive_zone(zone)? * 60) * 1_000_000 + micros)
}

fn naive_zone(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = match zone.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let rest = &zone[1..];
    let (hours, minutes) = match rest.len() {
        2 => (digits(rest, 2)?, 0),
        4 => (digits(rest.get(..2)?, 2)?, digits(rest.get(2..)?, 2)?),
        5 => {
            let (hours, minutes) = rest.split_once(':')?;
            (digits(hours, 2)?, digits(minutes, 2)?)
        }
        _ => return None,
    };
    (hours <= 15 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i64> {
    let fits = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}
