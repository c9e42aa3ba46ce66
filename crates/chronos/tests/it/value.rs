//! PostgreSQL's text form of a value, made from its binary form.
//!
//! Owns an own reading of the binary formats, written from PostgreSQL's documentation and not from
//! the server's encoder, so that a mistake there does not cancel out here. Refuses bytes of a wrong
//! length; what has no case here fails the test that met it.

use tokio_postgres::types::{Kind, Type};

type Text = Result<String, String>;

/// The text form of a binary value.
pub(crate) fn text(of: &Type, bytes: &[u8]) -> Text {
    if matches!(*of, Type::INT2_VECTOR | Type::OID_VECTOR) {
        // Written as `1 2`, without braces.
        let items = array(of, bytes)?;
        return Ok(items.trim_matches(['{', '}']).replace(',', " "));
    }
    if let Kind::Array(_) = of.kind() {
        return array(of, bytes);
    }
    Ok(match *of {
        Type::BOOL => match fixed::<1>(bytes)? {
            [0] => "f".to_owned(),
            [1] => "t".to_owned(),
            other => return Err(format!("{other:?} is no bool")),
        },
        Type::INT2 => i16::from_be_bytes(fixed(bytes)?).to_string(),
        Type::INT4 => i32::from_be_bytes(fixed(bytes)?).to_string(),
        Type::INT8 => i64::from_be_bytes(fixed(bytes)?).to_string(),
        Type::OID => u32::from_be_bytes(fixed(bytes)?).to_string(),
        Type::FLOAT4 => float4(f32::from_be_bytes(fixed(bytes)?)),
        Type::FLOAT8 => float8(f64::from_be_bytes(fixed(bytes)?)),
        Type::NUMERIC => numeric(bytes)?,
        Type::BYTEA => format!("\\x{}", hex(bytes)),
        Type::UUID => {
            let digits = hex(&fixed::<16>(bytes)?);
            let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|r| digits[r].to_owned());
            parts.join("-")
        }
        Type::DATE => date(i32::from_be_bytes(fixed(bytes)?)),
        Type::TIME => time_of_day(i64::from_be_bytes(fixed(bytes)?)),
        Type::TIMESTAMP => timestamp(i64::from_be_bytes(fixed(bytes)?), ""),
        Type::TIMESTAMPTZ => timestamp(i64::from_be_bytes(fixed(bytes)?), "+00"),
        Type::INTERVAL => interval(bytes)?,
        Type::JSONB => match bytes.split_first() {
            Some((1, rest)) => utf8(rest)?,
            _ => return Err("jsonb of an unknown version".to_owned()),
        },
        Type::JSON
        | Type::TEXT
        | Type::VARCHAR
        | Type::BPCHAR
        | Type::NAME
        | Type::CHAR
        | Type::UNKNOWN => utf8(bytes)?,
        _ if of.name() == "vector" => vector(bytes)?,
        _ => return Err(format!("no text form of type {of}")),
    })
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes
        .try_into()
        .map_err(|_| format!("{} bytes where {N} belong", bytes.len()))
}

fn utf8(bytes: &[u8]) -> Text {
    String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Takes bytes off the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.0.split_at_checked(N).ok_or("the value ends early")?;
        self.0 = rest;
        fixed(head)
    }

    fn i16(&mut self) -> Result<i16, String> {
        Ok(i16::from_be_bytes(self.take()?))
    }

    fn i32(&mut self) -> Result<i32, String> {
        Ok(i32::from_be_bytes(self.take()?))
    }

    fn end(&self) -> Result<(), String> {
        match self.0.len() {
            0 => Ok(()),
            n => Err(format!("{n} bytes too many")),
        }
    }
}

fn float8(v: f64) -> String {
    float(v.is_nan(), v.is_infinite(), v < 0.0, &format!("{v:e}"), 15)
}

fn float4(v: f32) -> String {
    float(v.is_nan(), v.is_infinite(), v < 0.0, &format!("{v:e}"), 6)
}

/// Shortest digits that read back, with an exponent below -4 and from `exponent_from` on.
fn float(nan: bool, infinite: bool, negative: bool, shortest: &str, exponent_from: i32) -> String {
    if nan {
        return "NaN".to_owned();
    }
    if infinite {
        return if negative { "-Infinity" } else { "Infinity" }.to_owned();
    }
    let (sign, magnitude) = match shortest.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", shortest),
    };
    let (mantissa, exponent) = magnitude.split_once('e').unwrap_or((magnitude, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if exponent < -4 || exponent >= exponent_from {
        let direction = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{direction}{:02}", exponent.abs());
    }
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let point = exponent + 1;
    let placed = if point <= 0 {
        format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize))
    } else if digits.len() <= point as usize {
        format!("{digits}{}", "0".repeat(point as usize - digits.len()))
    } else {
        let (whole, part) = digits.split_at(point as usize);
        format!("{whole}.{part}")
    };
    format!("{sign}{placed}")
}

/// Digits in base 10,000: count, weight of the first, sign, digits behind the point.
fn numeric(bytes: &[u8]) -> Text {
    let mut reader = Reader(bytes);
    let (count, weight, sign, scale) = (reader.i16()?, reader.i16()?, reader.i16()?, reader.i16()?);
    let mut groups = Vec::new();
    for _ in 0..count {
        match reader.i16()? {
            group @ 0..=9999 => groups.push(group),
            other => return Err(format!("{other} is no digit of base 10,000")),
        }
    }
    reader.end()?;
    let group = |at: i16| {
        groups
            .get(at as usize)
            .copied()
            .filter(|_| at >= 0)
            .unwrap_or(0)
    };
    let mut whole: String = (0..=weight).map(|at| format!("{:04}", group(at))).collect();
    whole = whole.trim_start_matches('0').to_owned();
    if whole.is_empty() {
        whole.push('0');
    }
    let behind: String = (0..(scale + 3) / 4)
        .map(|i| format!("{:04}", group(weight + 1 + i)))
        .collect();
    let sign = match sign as u16 {
        0x0000 => "",
        0x4000 => "-",
        0xC000 => return Ok("NaN".to_owned()),
        other => return Err(format!("{other:#x} is no sign of a numeric")),
    };
    Ok(match scale {
        0 => format!("{sign}{whole}"),
        n => format!("{sign}{whole}.{}", &behind[..n as usize]),
    })
}

/// Year, month and day of a number of days since 2000-01-01 (Howard Hinnant, "chrono-compatible
/// low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 10_957 + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// A day, with what goes between it and the mark of the years before 1.
fn day(days: i64, then: &str) -> String {
    match civil(days) {
        (year, month, day) if year > 0 => format!("{year:04}-{month:02}-{day:02}{then}"),
        (year, month, day) => format!("{:04}-{month:02}-{day:02}{then} BC", 1 - year),
    }
}

fn date(days: i32) -> String {
    match days {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        days => day(i64::from(days), ""),
    }
}

fn fraction(micros: i64) -> String {
    match micros {
        0 => String::new(),
        micros => format!(".{micros:06}").trim_end_matches('0').to_owned(),
    }
}

fn time_of_day(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    format!(
        "{:02}:{:02}:{:02}{}",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60,
        fraction(micros % 1_000_000)
    )
}

fn timestamp(micros: i64, zone: &str) -> String {
    const DAY: i64 = 86_400_000_000;
    match micros {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        _ => {
            let time = time_of_day(micros.rem_euclid(DAY));
            day(micros.div_euclid(DAY), &format!(" {time}{zone}"))
        }
    }
}

fn interval(bytes: &[u8]) -> Text {
    let mut reader = Reader(bytes);
    let micros = i64::from_be_bytes(reader.take()?);
    let (days, months) = (reader.i32()?, reader.i32()?);
    reader.end()?;
    let mut out = String::new();
    let mut negative_before = false;
    let units = [(months / 12, "year"), (months % 12, "mon"), (days, "day")];
    for (count, unit) in units.into_iter().filter(|(count, _)| *count != 0) {
        let space = if out.is_empty() { "" } else { " " };
        let plus = if negative_before && count > 0 {
            "+"
        } else {
            ""
        };
        let plural = if count == 1 { "" } else { "s" };
        out += &format!("{space}{plus}{count} {unit}{plural}");
        negative_before = count < 0;
    }
    if micros != 0 || out.is_empty() {
        let space = if out.is_empty() { "" } else { " " };
        let sign = match (micros < 0, negative_before) {
            (true, _) => "-",
            (false, true) => "+",
            (false, false) => "",
        };
        out += &format!("{space}{sign}{}", time_of_day(micros.abs()));
    }
    Ok(out)
}

/// pgvector's: count, unused, floats.
fn vector(bytes: &[u8]) -> Text {
    let mut reader = Reader(bytes);
    let (count, _unused) = (reader.i16()?, reader.i16()?);
    let items = (0..count)
        .map(|_| Ok(float4(f32::from_be_bytes(reader.take()?))))
        .collect::<Result<Vec<_>, String>>()?;
    reader.end()?;
    Ok(format!("[{}]", items.join(",")))
}

fn array(of: &Type, bytes: &[u8]) -> Text {
    let mut reader = Reader(bytes);
    let (dimensions, _has_nulls, item_oid) = (reader.i32()?, reader.i32()?, reader.i32()?);
    let Kind::Array(item) = of.kind() else {
        return Err(format!("{of} is no array"));
    };
    if item.oid() != item_oid as u32 {
        return Err(format!("items of type {item_oid} in {of}"));
    }
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(reader.i32()?);
        reader.i32()?;
    }
    let out = match lengths.len() {
        0 => "{}".to_owned(),
        _ => items(item, &lengths, &mut reader)?,
    };
    reader.end()?;
    Ok(out)
}

fn items(of: &Type, lengths: &[i32], reader: &mut Reader<'_>) -> Text {
    let Some((length, inner)) = lengths.split_first() else {
        let length = reader.i32()?;
        if length < 0 {
            return Ok("NULL".to_owned());
        }
        let (bytes, rest) = reader
            .0
            .split_at_checked(length as usize)
            .ok_or("an item ends early")?;
        reader.0 = rest;
        return Ok(quoted(&text(of, bytes)?));
    };
    let parts = (0..*length)
        .map(|_| items(of, inner, reader))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{{{}}}", parts.join(",")))
}

fn quoted(item: &str) -> String {
    let special = |c: char| matches!(c, '{' | '}' | ',' | '"' | '\\') || c.is_ascii_whitespace();
    if item.is_empty() || item.eq_ignore_ascii_case("null") || item.contains(special) {
        format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        item.to_owned()
    }
}
