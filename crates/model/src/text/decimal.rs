//! NUMERIC: at most 38 digits, kept as an integer and a scale.

use ::bytes::BufMut;

use super::fault::Fault;
use crate::{DataError, DataType, Decimal};

/// Digits an `i128` holds in any case.
const DIGITS_MAX: i64 = 38;

/// Reads a NUMERIC of the given precision and scale (`None`: a bare `NUMERIC`),
/// rounding half away from zero to the scale.
///
/// Errors: 22003 when more digits stand before the point than the type allows,
/// and for `NaN` and `Infinity`, which this database does not keep.
pub fn parse_decimal(text: &[u8], parameters: Option<(u8, i8)>) -> Result<Decimal, DataError> {
    let (precision, scale) = DataType::numeric_shape(parameters);
    read(text, scale)
        .and_then(|decimal| {
            if decimal.fits(precision) {
                Ok(decimal)
            } else {
                Err(Fault::Range)
            }
        })
        .map_err(|fault| fault.named(&DataType::Numeric(parameters).to_string(), text))
}

fn read(text: &[u8], scale: i8) -> Result<Decimal, Fault> {
    let text = text.trim_ascii();
    let (negative, unsigned) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let is_word = |word: &[u8]| unsigned.eq_ignore_ascii_case(word);
    if is_word(b"nan") || is_word(b"infinity") || is_word(b"inf") {
        return Err(Fault::Range);
    }
    let (mantissa, exponent) = match memchr_exponent(unsigned) {
        Some(at) => (&unsigned[..at], read_exponent(&unsigned[at + 1..])?),
        None => (unsigned, 0),
    };
    let shape = Mantissa::read(mantissa)?;
    // The unscaled number is the digits times ten to this power.
    let shift = i64::from(scale) + exponent - shape.fraction_digits;
    let unscaled = shape.shifted(mantissa, shift)?;
    let unscaled = i128::try_from(unscaled).map_err(|_| Fault::Range)?;
    Ok(Decimal {
        unscaled: if negative { -unscaled } else { unscaled },
        scale,
    })
}

fn memchr_exponent(text: &[u8]) -> Option<usize> {
    text.iter().position(|b| matches!(b, b'e' | b'E'))
}

fn read_exponent(text: &[u8]) -> Result<i64, Fault> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return Err(Fault::Syntax);
    }
    let mut value = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(Fault::Syntax);
        }
        value = value.saturating_mul(10).saturating_add(i64::from(digit));
        // Far beyond any digit string; keeps the sums below from overflowing.
        value = value.min(1 << 40);
    }
    Ok(if negative { -value } else { value })
}

/// What one pass over the digits tells.
struct Mantissa {
    /// Digits after leading zeros.
    significant: i64,
    fraction_digits: i64,
}

impl Mantissa {
    fn read(text: &[u8]) -> Result<Mantissa, Fault> {
        let mut shape = Mantissa {
            significant: 0,
            fraction_digits: 0,
        };
        let mut has_point = false;
        let mut has_digit = false;
        let mut previous = 0;
        for &byte in text {
            match byte {
                b'0'..=b'9' => {
                    has_digit = true;
                    shape.fraction_digits += i64::from(has_point);
                    if shape.significant > 0 || byte != b'0' {
                        shape.significant += 1;
                    }
                }
                b'.' if !has_point && previous != b'_' => has_point = true,
                b'_' if previous.is_ascii_digit() => {}
                _ => return Err(Fault::Syntax),
            }
            previous = byte;
        }
        if !has_digit || previous == b'_' {
            return Err(Fault::Syntax);
        }
        Ok(shape)
    }

    /// The digits times ten to the power of `shift`, rounded half up.
    fn shifted(&self, text: &[u8], shift: i64) -> Result<u128, Fault> {
        if self.significant == 0 || self.significant + shift < 0 {
            return Ok(0);
        }
        if self.significant + shift > DIGITS_MAX {
            return Err(Fault::Range);
        }
        let kept = self.significant + shift.min(0);
        let mut digits = text
            .iter()
            .filter(|b| b.is_ascii_digit())
            .skip_while(|b| **b == b'0')
            .map(|b| u128::from(b - b'0'));
        let mut value = 0u128;
        for digit in digits.by_ref().take(kept as usize) {
            value = value * 10 + digit;
        }
        if shift < 0 && digits.next().is_some_and(|digit| digit >= 5) {
            value += 1;
        }
        Ok(value * 10u128.pow(shift.max(0) as u32))
    }
}

/// Writes a decimal with all digits of its scale.
pub fn format_decimal(d: Decimal) -> String {
    let mut out = Vec::with_capacity(24);
    write_decimal(d.unscaled, d.scale, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends `unscaled / 10^scale` with all digits of the scale.
pub fn write_decimal(unscaled: i128, scale: i8, out: &mut impl BufMut) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(unscaled.unsigned_abs()).as_bytes();
    if unscaled < 0 {
        out.put_u8(b'-');
    }
    if scale <= 0 {
        out.put_slice(digits);
        if unscaled != 0 {
            out.put_bytes(b'0', usize::from(scale.unsigned_abs()));
        }
        return;
    }
    let scale = scale as usize;
    match digits.len().checked_sub(scale) {
        Some(whole) if whole > 0 => {
            out.put_slice(&digits[..whole]);
            out.put_u8(b'.');
            out.put_slice(&digits[whole..]);
        }
        _ => {
            out.put_slice(b"0.");
            out.put_bytes(b'0', scale - digits.len());
            out.put_slice(digits);
        }
    }
}

/// Appends `unscaled / 10^scale` without trailing zeros after the point: the way
/// a bare `NUMERIC`, which has no declared scale, is shown.
pub fn write_decimal_trimmed(mut unscaled: i128, mut scale: i8, out: &mut impl BufMut) {
    while scale > 0 && unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    write_decimal(unscaled, scale, out);
}
