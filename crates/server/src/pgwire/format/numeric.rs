//! PostgreSQL's binary NUMERIC: the number in base 10,000.
//!
//! | bytes | what |
//! |---|---|
//! | u16 | number of base-10,000 digits |
//! | i16 | weight: the first digit counts 10,000 to this power |
//! | u16 | sign: 0 positive, 0x4000 negative, 0xC000 NaN, 0xD000 and 0xF000 infinities |
//! | u16 | decimal digits after the point to show |
//! | u16 each | the digits |

use bytes::{Buf, BufMut, BytesMut};
use chronos_model::text::parse_decimal;
use chronos_model::{DataError, DataType, Decimal};

const NEGATIVE: u16 = 0x4000;

/// Appends a decimal, without the zeros at its end if `is_trimmed`.
pub(super) fn put_numeric(decimal: Decimal, is_trimmed: bool, out: &mut BytesMut) {
    let Decimal {
        mut unscaled,
        mut scale,
    } = decimal;
    while is_trimmed && scale > 0 && unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    put_digits(digits, unscaled < 0, scale, out);
}

/// Appends an integer of any length, divided by ten to the power of `scale`.
pub(super) fn put_wide_numeric(digits: &str, scale: i8, out: &mut BytesMut) {
    let unsigned = digits.strip_prefix('-').unwrap_or(digits);
    put_digits(
        unsigned.as_bytes(),
        unsigned.len() < digits.len(),
        scale,
        out,
    );
}

fn put_digits(digits: &[u8], is_negative: bool, scale: i8, out: &mut BytesMut) {
    // How many of the digits stand before the point.
    let point = digits.len() as i64 - i64::from(scale);
    // Groups of four are aligned at the point.
    let first_group = (point - 1).div_euclid(4);
    let start = out.len();
    out.put_u16(0);
    out.put_i16(first_group as i16);
    out.put_u16(if is_negative { NEGATIVE } else { 0 });
    out.put_u16(u16::from(scale.max(0) as u8));

    let digit = |place: i64| {
        // Places count from the first digit; beyond the ends there are zeros.
        let at = usize::try_from(place).ok();
        at.and_then(|at| digits.get(at))
            .map_or(0, |b| u16::from(b - b'0'))
    };
    let mut weight = first_group;
    let mut count = 0u16;
    let mut kept = out.len();
    // The place of the first group's first digit.
    let mut place = point - 4 * (first_group + 1);
    while place < digits.len() as i64 {
        let group = (place..place + 4).fold(0, |group, place| group * 10 + digit(place));
        place += 4;
        if group == 0 && count == 0 {
            weight -= 1;
            continue;
        }
        out.put_u16(group);
        count += 1;
        if group != 0 {
            kept = out.len();
        }
    }
    // Zero groups at the end are not sent.
    out.truncate(kept);
    let count = (kept - start - 8) / 2;
    if count == 0 {
        weight = 0;
        out[start + 4..start + 6].fill(0);
    }
    out[start..start + 2].copy_from_slice(&(count as u16).to_be_bytes());
    out[start + 2..start + 4].copy_from_slice(&(weight as i16).to_be_bytes());
}

/// Reads a binary NUMERIC as one of the column's precision and scale.
pub(super) fn read_numeric(
    mut bytes: &[u8],
    parameters: Option<(u8, i8)>,
) -> Result<Decimal, DataError> {
    let invalid = |reason: &str| DataError::InvalidBinary {
        type_name: DataType::Numeric(parameters).to_string(),
        reason: reason.to_owned(),
    };
    if bytes.len() < 8 {
        return Err(invalid("it is shorter than its head"));
    }
    let count = usize::from(bytes.get_u16());
    let weight = i64::from(bytes.get_i16());
    let sign = bytes.get_u16();
    let _shown_scale = bytes.get_u16();
    if bytes.len() != count * 2 {
        return Err(invalid("the number of digits is not what its head says"));
    }
    let mut text = String::with_capacity(count * 4 + 8);
    match sign {
        0 => {}
        NEGATIVE => text.push('-'),
        0xC000 | 0xD000 | 0xF000 => return parse_decimal(b"NaN", parameters),
        _ => return Err(invalid("unknown sign")),
    }
    text.push('0');
    while bytes.has_remaining() {
        let group = bytes.get_u16();
        if group > 9_999 {
            return Err(invalid("a digit is above 9999"));
        }
        text.push_str(&format!("{group:04}"));
    }
    // The digits are an integer; the weight says where its point belongs.
    text.push_str(&format!("e{}", (weight + 1 - count as i64) * 4));
    parse_decimal(text.as_bytes(), parameters)
}
