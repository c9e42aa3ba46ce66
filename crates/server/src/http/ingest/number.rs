//! JSON numbers, read digit by digit.
//!
//! Owns the grammar of RFC 8259 section 6 and keeps a number's digits, so that a time
//! is converted exactly and not by way of a double. Refuses what JSON refuses: a
//! leading `+` or zero, a bare point, `NaN`.

/// Digits that a [`Number`] keeps; what follows is dropped and marked.
const DIGITS_MAX: u32 = 19;

/// Largest integer up to which every integer is a double.
const EXACT_MAX: u64 = 1 << 53;

/// Powers of ten that are doubles without rounding.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// `(-1)^negative * mantissa * 10^exponent`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Number {
    pub(super) negative: bool,
    /// At most 19 digits.
    pub(super) mantissa: u64,
    pub(super) exponent: i32,
    /// There were digits that `mantissa` does not hold.
    pub(super) truncated: bool,
    /// Written without point and exponent.
    pub(super) integer: bool,
}

impl Number {
    /// Reads the number at the start of `bytes`; gives it and its length, or what is
    /// wrong and where.
    pub(super) fn read(bytes: &[u8]) -> Result<(Number, usize), (&'static str, usize)> {
        let mut number = Number {
            negative: bytes.first() == Some(&b'-'),
            mantissa: 0,
            exponent: 0,
            truncated: false,
            integer: true,
        };
        let mut at = usize::from(number.negative);
        let mut digits = 0;
        let int_start = at;
        at = number.read_digits(bytes, at, 0, &mut digits);
        match at - int_start {
            0 => return Err(("expected a digit", at)),
            1 => {}
            _ if bytes[int_start] == b'0' => {
                return Err(("a number must not start with 0", int_start))
            }
            _ => {}
        }
        if bytes.get(at) == Some(&b'.') {
            number.integer = false;
            let start = at + 1;
            at = number.read_digits(bytes, start, -1, &mut digits);
            if at == start {
                return Err(("expected a digit after the point", at));
            }
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            number.integer = false;
            at = number.read_exponent(bytes, at + 1)?;
        }
        Ok((number, at))
    }

    /// Takes digits from `at` on; each kept one moves the exponent by `step`.
    #[inline]
    fn read_digits(&mut self, bytes: &[u8], mut at: usize, step: i32, digits: &mut u32) -> usize {
        while let Some(digit) = bytes.get(at).map(|b| b.wrapping_sub(b'0')) {
            if digit > 9 {
                break;
            }
            if *digits < DIGITS_MAX {
                self.mantissa = self.mantissa * 10 + u64::from(digit);
                *digits += u32::from(self.mantissa != 0);
                self.exponent = self.exponent.saturating_add(step);
            } else {
                self.truncated |= digit != 0;
                self.exponent = self.exponent.saturating_add(step + 1);
            }
            at += 1;
        }
        at
    }

    fn read_exponent(
        &mut self,
        bytes: &[u8],
        mut at: usize,
    ) -> Result<usize, (&'static str, usize)> {
        let negative = bytes.get(at) == Some(&b'-');
        at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
        let start = at;
        let mut exponent: i32 = 0;
        while let Some(digit) = bytes.get(at).filter(|b| b.is_ascii_digit()) {
            exponent = exponent
                .saturating_mul(10)
                .saturating_add(i32::from(digit - b'0'));
            at += 1;
        }
        if at == start {
            return Err(("expected a digit in the exponent", at));
        }
        self.exponent = self
            .exponent
            .saturating_add(if negative { -exponent } else { exponent });
        Ok(at)
    }

    /// The nearest double of the number written as `text`; `None` beyond their range.
    #[inline]
    pub(super) fn to_f64(self, text: &str) -> Option<f64> {
        let power = EXACT_POWERS.get(self.exponent.unsigned_abs() as usize);
        let value = match power {
            // Both operands are exact, so one rounding gives the nearest double
            // (Clinger, "How to Read Floating Point Numbers Accurately", 1990).
            Some(power) if !self.truncated && self.mantissa <= EXACT_MAX => {
                let m = self.mantissa as f64;
                let v = if self.exponent < 0 {
                    m / power
                } else {
                    m * power
                };
                if self.negative {
                    -v
                } else {
                    v
                }
            }
            _ => text.parse().ok()?,
        };
        value.is_finite().then_some(value)
    }

    /// The number as an integer, if it was written as one and fits.
    pub(super) fn to_i64(self) -> Option<i64> {
        if !self.integer || self.truncated || self.exponent != 0 {
            return None;
        }
        let magnitude = i128::from(self.mantissa);
        i64::try_from(if self.negative { -magnitude } else { magnitude }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn f64_of(text: &str) -> Option<f64> {
        let (number, length) = Number::read(text.as_bytes()).ok()?;
        assert_eq!(length, text.len());
        number.to_f64(text)
    }

    #[test]
    fn doubles_are_the_nearest() {
        for text in [
            "0",
            "-0",
            "1",
            "21.53",
            "-273.15",
            "1e22",
            "1E-7",
            "9007199254740993",
            "0.1",
            "123456789012345678901234567890",
            "1.7976931348623157e308",
            "5e-324",
            "0.000000000000000000000000000001",
            "100000000000000000000",
            "3.141592653589793238462643383279",
        ] {
            let expected: f64 = text.parse().unwrap();
            assert_eq!(
                f64_of(text).map(f64::to_bits),
                Some(expected.to_bits()),
                "{text}"
            );
        }
        assert_eq!(f64_of("1e999"), None);
        assert_eq!(f64_of("1e99999999999"), None);
        assert_eq!(f64_of("1e-99999999999"), Some(0.0));
    }

    #[test]
    fn what_json_refuses_is_refused() {
        for text in ["", "-", "01", "-01", ".5", "1.", "1e", "1e+", "-a"] {
            assert!(Number::read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_are_exact() {
        let int = |text: &str| Number::read(text.as_bytes()).unwrap().0.to_i64();
        assert_eq!(int("9223372036854775807"), Some(i64::MAX));
        assert_eq!(int("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(int("9223372036854775808"), None);
        assert_eq!(int("92233720368547758070"), None);
        assert_eq!(int("1.0"), None);
        assert_eq!(int("1e3"), None);
    }

    proptest! {
        #[test]
        fn any_double_round_trips(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let text = format!("{value:e}");
            prop_assert_eq!(f64_of(&text).map(f64::to_bits), Some(bits));
        }

        #[test]
        fn short_decimals_are_the_nearest(int in 0u32..1_000_000, frac in 0u32..1000) {
            let text = format!("-{int}.{frac:03}");
            prop_assert_eq!(f64_of(&text), text.parse::<f64>().ok());
        }
    }
}
