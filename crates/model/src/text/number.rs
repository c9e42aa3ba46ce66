//! Booleans, integers and floats.
//!
//! Each reader first tries the plain spelling in one pass over the bytes; what
//! that refuses (blanks, `1_000`, `0x1F`, `NaN`, many digits) takes the long way.

use ::bytes::BufMut;

use super::fault::Fault;
use crate::DataError;

/// Reads a BOOL: `true`, `yes`, `on`, `1` and their opposites, in any case,
/// surrounded by blanks, or any unambiguous beginning of them.
pub fn parse_bool(text: &[u8]) -> Result<bool, DataError> {
    let word = text.trim_ascii();
    let begins = |full: &[u8], least: usize| {
        (least..=full.len()).contains(&word.len()) && full[..word.len()].eq_ignore_ascii_case(word)
    };
    if begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) || word == b"1" {
        Ok(true)
    } else if begins(b"false", 1) || begins(b"no", 1) || begins(b"off", 2) || word == b"0" {
        Ok(false)
    } else {
        Err(Fault::Syntax.named("boolean", text))
    }
}

/// Reads an INT8: decimal, or with `0x`, `0o`, `0b`; `_` may separate digits.
pub fn parse_i64(text: &[u8]) -> Result<i64, DataError> {
    integer(text).map_err(|fault| fault.named("bigint", text))
}

/// Reads an integer of up to 64 bits.
pub(super) fn integer(text: &[u8]) -> Result<i64, Fault> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // Eighteen digits cannot overflow.
    if !(1..=18).contains(&digits.len()) {
        return integer_slow(text);
    }
    let mut value = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return integer_slow(text);
        }
        value = value * 10 + i64::from(digit);
    }
    Ok(if negative { -value } else { value })
}

fn integer_slow(text: &[u8]) -> Result<i64, Fault> {
    let text = text.trim_ascii();
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (radix, digits, is_prefixed) = match rest {
        [b'0', b'x' | b'X', digits @ ..] => (16, digits, true),
        [b'0', b'o' | b'O', digits @ ..] => (8, digits, true),
        [b'0', b'b' | b'B', digits @ ..] => (2, digits, true),
        digits => (10, digits, false),
    };
    let mut magnitude = 0u64;
    let mut is_range = false;
    // An underscore stands after a digit (or the prefix) and before a digit.
    let mut may_separate = is_prefixed;
    let mut last_is_digit = false;
    for &byte in digits {
        if byte == b'_' && may_separate {
            may_separate = false;
            last_is_digit = false;
            continue;
        }
        let digit = (byte as char).to_digit(radix).ok_or(Fault::Syntax)?;
        let next = magnitude
            .checked_mul(u64::from(radix))
            .and_then(|m| m.checked_add(u64::from(digit)));
        match next {
            Some(next) => magnitude = next,
            None => is_range = true,
        }
        may_separate = true;
        last_is_digit = true;
    }
    if !last_is_digit {
        return Err(Fault::Syntax);
    }
    let value = if negative {
        0i64.checked_sub_unsigned(magnitude)
    } else {
        i64::try_from(magnitude).ok()
    };
    value.filter(|_| !is_range).ok_or(Fault::Range)
}

/// Powers of ten that a double holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// Reads a FLOAT8: decimal with optional exponent, `NaN`, `[+-]Infinity`, `inf`.
///
/// Errors: 22003 when a number is too large, or too small to differ from zero.
pub fn parse_f64(text: &[u8]) -> Result<f64, DataError> {
    if let Some(value) = float_fast(text) {
        return Ok(value);
    }
    float_slow::<f64>(text).map_err(|fault| fault.named("double precision", text))
}

/// Reads a FLOAT4; see [`parse_f64`].
pub fn parse_f32(text: &[u8]) -> Result<f32, DataError> {
    float_slow::<f32>(text).map_err(|fault| fault.named("real", text))
}

/// Numbers whose digits and power of ten are both exact doubles: one
/// multiplication or division then rounds correctly (Clinger, "How to Read
/// Floating Point Numbers Accurately", 1990).
fn float_fast(text: &[u8]) -> Option<f64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // Nineteen digits and a point cannot overflow the mantissa.
    if digits.len() > 20 {
        return None;
    }
    let mut mantissa = 0u64;
    let mut point = None;
    for (at, &byte) in digits.iter().enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if byte == b'.' && point.is_none() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let fraction_digits = point.map_or(0, |at| digits.len() - at - 1);
    let digit_count = digits.len() - usize::from(point.is_some());
    if !(1..=19).contains(&digit_count) || mantissa > 1 << 53 {
        return None;
    }
    let value = mantissa as f64 / EXACT_POWERS[fraction_digits];
    Some(if negative { -value } else { value })
}

/// What the two float types share.
trait Float: Sized {
    fn read(text: &str) -> Option<Self>;
    fn is_infinite(&self) -> bool;
    fn is_zero(&self) -> bool;
}

macro_rules! float {
    ($t:ty) => {
        impl Float for $t {
            fn read(text: &str) -> Option<Self> {
                text.parse().ok()
            }
            fn is_infinite(&self) -> bool {
                <$t>::is_infinite(*self)
            }
            fn is_zero(&self) -> bool {
                *self == 0.0
            }
        }
    };
}
float!(f32);
float!(f64);

fn float_slow<F: Float>(text: &[u8]) -> Result<F, Fault> {
    let text = text.trim_ascii();
    let word = std::str::from_utf8(text).map_err(|_| Fault::Syntax)?;
    let value = F::read(word).ok_or(Fault::Syntax)?;
    let magnitude = word.strip_prefix(['+', '-']).unwrap_or(word);
    if !magnitude.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        // A word: `NaN`, `Infinity`, `inf`.
        return Ok(value);
    }
    let has_digit = || {
        magnitude
            .bytes()
            .take_while(|b| !matches!(b, b'e' | b'E'))
            .any(|b| (b'1'..=b'9').contains(&b))
    };
    if value.is_infinite() || (value.is_zero() && has_digit()) {
        return Err(Fault::Range);
    }
    Ok(value)
}

/// Appends an integer.
pub fn write_i64(value: i64, out: &mut impl BufMut) {
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a FLOAT8: the shortest digits that read back as the same number.
pub fn write_f64(value: f64, out: &mut impl BufMut) {
    let magnitude = value.abs();
    if (1e-4..1e15).contains(&magnitude) {
        put_plain(ryu::Buffer::new().format_finite(value), out);
    } else if value.is_finite() && value != 0.0 {
        put_scientific(ryu::Buffer::new().format_finite(value), out);
    } else {
        put_special(value, out);
    }
}

/// Appends a FLOAT4; see [`write_f64`].
pub fn write_f32(value: f32, out: &mut impl BufMut) {
    let magnitude = value.abs();
    if (1e-4..1e6).contains(&magnitude) {
        put_plain(ryu::Buffer::new().format_finite(value), out);
    } else if value.is_finite() && value != 0.0 {
        put_scientific(ryu::Buffer::new().format_finite(value), out);
    } else {
        put_special(f64::from(value), out);
    }
}

/// `12.0` is written `12`.
fn put_plain(digits: &str, out: &mut impl BufMut) {
    out.put_slice(digits.strip_suffix(".0").unwrap_or(digits).as_bytes());
}

fn put_special(value: f64, out: &mut impl BufMut) {
    out.put_slice(match value {
        v if v.is_nan() => b"NaN",
        f64::INFINITY => b"Infinity",
        f64::NEG_INFINITY => b"-Infinity",
        v if v.is_sign_negative() => b"-0",
        _ => b"0",
    });
}

/// Rewrites ryu's `1e20`, `12345.0` or `0.00001` as C's `%e` with the shortest
/// mantissa: `1e+20`, `1.2345e+04`, `1e-05`.
fn put_scientific(text: &str, out: &mut impl BufMut) {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once('e') {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().unwrap_or(0)),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = [0u8; 40];
    let mut count = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        digits[count] = byte;
        count += 1;
    }
    let digits = &digits[..count];
    let leading_zeros = digits.iter().take_while(|b| **b == b'0').count();
    let trailing_zeros = digits.iter().rev().take_while(|b| **b == b'0').count();
    let exponent = exponent + whole.len() as i32 - 1 - leading_zeros as i32;
    let digits = &digits[leading_zeros..count - trailing_zeros];

    if text.len() > unsigned.len() {
        out.put_u8(b'-');
    }
    out.put_u8(digits[0]);
    if digits.len() > 1 {
        out.put_u8(b'.');
        out.put_slice(&digits[1..]);
    }
    out.put_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.abs() < 10 {
        out.put_u8(b'0');
    }
    out.put_slice(itoa::Buffer::new().format(exponent.abs()).as_bytes());
}
