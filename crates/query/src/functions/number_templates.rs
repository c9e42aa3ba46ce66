//! The templates of `to_char` and `to_number` for numbers.
//!
//! A template is a row of places. A number is laid over the places for digits, right up to the point; what
//! stands before its first digit is blank, and its sign goes before that digit, wherever it is.

use chronos_model::{Decimal, SqlState, Value};

use crate::QueryError;

/// Digits that a template may have.
const DIGITS_MAX: usize = 200;
/// The width of a Roman numeral.
const ROMAN_WIDTH: usize = 15;

#[derive(Debug, Clone, PartialEq)]
enum Place {
    Nine,
    Zero,
    Point,
    Comma,
    /// `S`
    Sign,
    Minus,
    Plus,
    /// `SG`
    PlusMinus,
    Currency,
    /// `TH` or `th`
    Ordinal(&'static [&'static str; 4]),
    Literal(char),
}

const UPPER: [&str; 4] = ["TH", "ST", "ND", "RD"];
const LOWER: [&str; 4] = ["th", "st", "nd", "rd"];

#[derive(Debug, Default)]
struct Template {
    places: Vec<Place>,
    /// `FM`: nothing is filled.
    tight: bool,
    /// `PR`
    angled: bool,
    /// `RN`: upper case or not.
    roman: Option<bool>,
    /// `EEEE`
    scientific: bool,
    /// Digits behind `V`.
    shifted: Option<usize>,
}

impl Template {
    fn read(text: &str) -> Result<Template, QueryError> {
        let mut template = Template::default();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix('"') {
                let (literal, behind) = quoted.split_once('"').unwrap_or((quoted, ""));
                template.places.extend(literal.chars().map(Place::Literal));
                rest = behind;
                continue;
            }
            rest = template.pattern(rest)?;
        }
        if template.scientific && (template.tight || template.has_sign()) {
            let message = "\"EEEE\" is incompatible with other formats";
            return Err(QueryError::new(SqlState::SYNTAX_ERROR, message));
        }
        let digits = template.digits_before() + template.digits_behind();
        if digits > DIGITS_MAX {
            let message = format!("a template of more than {DIGITS_MAX} digits");
            return Err(QueryError::unsupported(message));
        }
        Ok(template)
    }

    /// Reads one pattern off the text.
    fn pattern<'a>(&mut self, text: &'a str) -> Result<&'a str, QueryError> {
        let starts = |word: &str| {
            text.get(..word.len())
                .is_some_and(|t| t.eq_ignore_ascii_case(word))
        };
        for (word, place) in [
            ("SG", Some(Place::PlusMinus)),
            ("MI", Some(Place::Minus)),
            ("PL", Some(Place::Plus)),
            ("PR", None),
            ("FM", None),
            ("RN", None),
            ("EEEE", None),
            ("TH", None),
        ] {
            if !starts(word) {
                continue;
            }
            let place = match word {
                "PR" => {
                    self.angled = true;
                    None
                }
                "FM" => {
                    self.tight = true;
                    None
                }
                "RN" => {
                    self.roman = Some(text.starts_with('R'));
                    None
                }
                "EEEE" => {
                    self.scientific = true;
                    None
                }
                "TH" if text.starts_with("TH") => Some(Place::Ordinal(&UPPER)),
                "TH" => Some(Place::Ordinal(&LOWER)),
                _ => place,
            };
            self.places.extend(place);
            return Ok(&text[word.len()..]);
        }
        let Some(first) = text.chars().next() else {
            return Ok(text);
        };
        let place = match first.to_ascii_uppercase() {
            '9' => Place::Nine,
            '0' => Place::Zero,
            '.' | 'D' if self.places.contains(&Place::Point) => {
                let message = "multiple decimal points";
                return Err(QueryError::new(SqlState::SYNTAX_ERROR, message));
            }
            '.' | 'D' => Place::Point,
            ',' | 'G' => Place::Comma,
            'S' => Place::Sign,
            'L' => Place::Currency,
            // Asks for a blank before the point, which is what there is anyway.
            'B' => return Ok(&text[1..]),
            'V' => {
                self.shifted = Some(0);
                return Ok(&text[1..]);
            }
            _ => Place::Literal(first),
        };
        if let (Some(shifted), Place::Nine | Place::Zero) = (&mut self.shifted, &place) {
            *shifted += 1;
        }
        self.places.push(place);
        Ok(&text[first.len_utf8()..])
    }

    fn point(&self) -> usize {
        let point = self.places.iter().position(|p| *p == Place::Point);
        point.unwrap_or(self.places.len())
    }

    fn digits_before(&self) -> usize {
        digits(&self.places[..self.point()])
    }

    fn digits_behind(&self) -> usize {
        digits(&self.places[self.point()..])
    }

    fn has_sign(&self) -> bool {
        self.angled
            || self
                .places
                .iter()
                .any(|p| matches!(p, Place::Sign | Place::Minus | Place::PlusMinus))
    }
}

fn digits(places: &[Place]) -> usize {
    let is_digit = |p: &&Place| matches!(p, Place::Nine | Place::Zero);
    places.iter().filter(is_digit).count()
}

/// A number as `to_char` writes it.
pub(super) fn write(value: &Value, template: &str) -> Result<String, QueryError> {
    let template = Template::read(template)?;
    if let Some(upper) = template.roman {
        return Ok(roman(value, upper, template.tight));
    }
    if template.scientific {
        return scientific(value, &template);
    }
    let behind = template.digits_behind();
    let (negative, number) = decimal_digits(value, behind, template.shifted.unwrap_or(0))?;
    let (whole, fraction) = number.split_once('.').unwrap_or((&number, ""));
    let whole = whole.trim_start_matches('0');
    let before = template.digits_before();
    let has_zero = template.places[..template.point()].contains(&Place::Zero);
    let is_shown =
        fraction.is_empty() || has_zero || template.tight && kept_digits(&template, fraction) == 0;
    let whole = match whole {
        "" if is_shown => "0",
        whole => whole,
    };
    let layout = Layout {
        template: &template,
        negative,
        whole,
        fraction,
        fits: before > 0 && whole.len() <= before,
    };
    Ok(layout.write())
}

/// A number laid over a template.
struct Layout<'a> {
    template: &'a Template,
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    fits: bool,
}

impl Layout<'_> {
    fn write(&self) -> String {
        let template = self.template;
        let before = template.digits_before();
        let blank = before.saturating_sub(self.whole.len());
        let places = &template.places;
        let first_zero = places[..template.point()]
            .iter()
            .filter(|p| matches!(p, Place::Nine | Place::Zero))
            .position(|p| *p == Place::Zero);
        // Digits from here on are written.
        let first = match self.fits {
            true => first_zero.map_or(blank, |zero| zero.min(blank)),
            false => 0,
        };
        let last = self.last_fraction();
        let sign_place = places.iter().position(|p| *p == Place::Sign);
        let sign_leads = match sign_place {
            Some(at) => digits(&places[..at]) == 0,
            None => !template.has_sign() || template.angled,
        };
        let mut out = String::new();
        let (mut at, mut behind, mut is_begun, mut is_signed) = (0, 0, false, !sign_leads);
        for (i, place) in places.iter().enumerate() {
            let is_digit = matches!(place, Place::Nine | Place::Zero);
            let begins = is_digit && i < template.point() && at >= first
                || *place == Place::Point && !is_begun;
            if begins && !is_signed {
                out.push_str(self.leading_sign(sign_place.is_some()));
                is_signed = true;
            }
            is_begun |= begins;
            match place {
                Place::Nine | Place::Zero if i < template.point() => {
                    out.push_str(&self.whole_digit(at, blank, first));
                    at += 1;
                }
                Place::Nine | Place::Zero => {
                    if behind < last {
                        let digit = self.fraction.as_bytes().get(behind);
                        let digit = digit.map_or('0', |d| char::from(*d));
                        out.push(if self.fits { digit } else { '#' });
                    }
                    behind += 1;
                }
                Place::Point => out.push('.'),
                Place::Comma if is_begun => out.push(','),
                Place::Comma if template.tight => {}
                Place::Comma => out.push(' '),
                other => self.mark(other, sign_place == Some(i) && !sign_leads, &mut out),
            }
        }
        if template.angled {
            match (self.negative, template.tight) {
                (true, _) => out.push('>'),
                (false, false) => out.push(' '),
                (false, true) => {}
            }
        }
        out
    }

    fn whole_digit(&self, at: usize, blank: usize, first: usize) -> String {
        if !self.fits {
            return "#".to_owned();
        }
        match at.checked_sub(blank) {
            Some(i) => self.whole[i..=i].to_owned(),
            None if at >= first => "0".to_owned(),
            None if self.template.tight => String::new(),
            None => " ".to_owned(),
        }
    }

    fn leading_sign(&self, is_explicit: bool) -> &'static str {
        match (self.template.angled, self.negative) {
            (true, true) => "<",
            (false, true) => "-",
            (false, false) if is_explicit => "+",
            (_, false) if self.template.tight => "",
            (_, false) => " ",
        }
    }

    /// How many digits behind the point are written.
    fn last_fraction(&self) -> usize {
        match self.template.tight && self.fits {
            true => kept_digits(self.template, self.fraction),
            false => self.template.digits_behind(),
        }
    }

    fn mark(&self, place: &Place, is_trailing_sign: bool, out: &mut String) {
        let blank = if self.template.tight { "" } else { " " };
        out.push_str(match place {
            Place::Sign if is_trailing_sign => match self.negative {
                true => "-",
                false => "+",
            },
            Place::Minus if self.negative => "-",
            Place::Minus => blank,
            Place::Plus if self.negative => blank,
            Place::Plus => "+",
            Place::PlusMinus if self.negative => "-",
            Place::PlusMinus => "+",
            // PostgreSQL's locale C has none, and leaves a blank.
            Place::Currency => " ",
            Place::Ordinal(endings) if !self.negative && self.fits && self.fraction.is_empty() => {
                ordinal(self.whole, endings)
            }
            Place::Literal(c) => return out.push(*c),
            _ => "",
        });
    }
}

/// How many digits behind the point `FM` leaves: zeros at the end go, but for those that a `0` holds.
fn kept_digits(template: &Template, fraction: &str) -> usize {
    let places = template.places[template.point()..]
        .iter()
        .filter(|p| matches!(p, Place::Nine | Place::Zero));
    let zeros = places
        .enumerate()
        .filter(|(_, p)| **p == Place::Zero)
        .map(|(i, _)| i + 1);
    fraction
        .trim_end_matches('0')
        .len()
        .max(zeros.max().unwrap_or(0))
}

fn ordinal(number: &str, endings: &'static [&'static str; 4]) -> &'static str {
    let is_teen = number.len() > 1 && number.as_bytes()[number.len() - 2] == b'1';
    match number.bytes().last() {
        Some(b @ b'1'..=b'3') if !is_teen => endings[usize::from(b - b'0')],
        _ => endings[0],
    }
}

/// Whether it is negative, and its digits with `behind` of them behind the point, times ten to the power of
/// `shifted`.
fn decimal_digits(
    value: &Value,
    behind: usize,
    shifted: usize,
) -> Result<(bool, String), QueryError> {
    let out_of_range = || QueryError::new(SqlState::OUT_OF_RANGE, "numeric field overflow");
    let decimal = match value {
        Value::Int2(v) => Decimal {
            unscaled: i128::from(*v),
            scale: 0,
        },
        Value::Int4(v) => Decimal {
            unscaled: i128::from(*v),
            scale: 0,
        },
        Value::Int8(v) => Decimal {
            unscaled: i128::from(*v),
            scale: 0,
        },
        Value::Numeric(d) => *d,
        Value::Float4(v) => return float_digits(f64::from(*v), behind, shifted),
        Value::Float8(v) => return float_digits(*v, behind, shifted),
        _ => return Err(QueryError::unsupported("to_char of this type")),
    };
    let scale = i8::try_from(behind + shifted).map_err(|_| out_of_range())?;
    // More digits than the number has are zeros.
    let kept = scale.min(decimal.scale.max(0));
    let rounded = decimal.rescale(kept).ok_or_else(out_of_range)?;
    let mut text = rounded.unscaled.unsigned_abs().to_string();
    text.push_str(&"0".repeat((scale - kept) as usize));
    Ok((rounded.unscaled < 0, with_point(text, behind)))
}

fn float_digits(v: f64, behind: usize, shifted: usize) -> Result<(bool, String), QueryError> {
    if !v.is_finite() {
        return Err(QueryError::unsupported("to_char of NaN and infinity"));
    }
    let scaled = v.abs() * 10f64.powi(shifted as i32);
    Ok((v < 0.0, format!("{scaled:.behind$}")))
}

fn with_point(mut digits: String, behind: usize) -> String {
    if behind == 0 {
        return digits;
    }
    if digits.len() <= behind {
        digits.insert_str(0, &"0".repeat(behind + 1 - digits.len()));
    }
    digits.insert(digits.len() - behind, '.');
    digits
}

fn float_of(value: &Value) -> f64 {
    match value {
        Value::Int2(v) => f64::from(*v),
        Value::Int4(v) => f64::from(*v),
        Value::Int8(v) => *v as f64,
        Value::Float4(v) => f64::from(*v),
        Value::Float8(v) => *v,
        Value::Numeric(d) => chronos_model::text::format_decimal(*d)
            .parse()
            .unwrap_or(f64::NAN),
        _ => f64::NAN,
    }
}

fn scientific(value: &Value, template: &Template) -> Result<String, QueryError> {
    let v = float_of(value);
    if !v.is_finite() {
        return Err(QueryError::unsupported("to_char of NaN and infinity"));
    }
    let behind = template.digits_behind();
    let text = format!("{:.behind$e}", v.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = match (v < 0.0, template.tight) {
        (true, _) => "-",
        (false, true) => "",
        (false, false) => " ",
    };
    let direction = if exponent < 0 { '-' } else { '+' };
    Ok(format!("{sign}{mantissa}e{direction}{:02}", exponent.abs()))
}

fn roman(value: &Value, upper: bool, tight: bool) -> String {
    const NUMERALS: &[(u32, &str)] = &[
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    let number = float_of(value).round_ties_even();
    if !(1.0..4000.0).contains(&number) {
        return "#".repeat(ROMAN_WIDTH);
    }
    let mut left = number as u32;
    let mut written = String::new();
    for (worth, numeral) in NUMERALS {
        while left >= *worth {
            written.push_str(numeral);
            left -= worth;
        }
    }
    if !upper {
        written.make_ascii_lowercase();
    }
    match tight {
        true => written,
        false => format!("{written:>ROMAN_WIDTH$}"),
    }
}

/// How many digits behind the point `to_number` reads by a template.
pub(super) fn scale(template: &str) -> Option<i8> {
    let behind = Template::read(template).ok()?.digits_behind();
    i8::try_from(behind).ok().filter(|scale| *scale <= 38)
}

/// A number read as `to_number` reads it: what the template has no place for ends it.
pub(super) fn read(text: &str, template: &str) -> Result<Value, QueryError> {
    let template = Template::read(template)?;
    let behind = template.digits_behind();
    let mut number = String::new();
    let mut negative = false;
    let mut is_behind = false;
    let mut left = template.digits_before();
    for c in text.chars() {
        match c {
            '-' | '<' => negative = true,
            '0'..='9' if is_behind && left == 0 => break,
            '0'..='9' if left == 0 => {}
            '0'..='9' => {
                number.push(c);
                left -= 1;
            }
            '.' if is_behind => break,
            '.' if behind > 0 => {
                number.push('.');
                (is_behind, left) = (true, behind);
            }
            '.' => break,
            _ => {}
        }
    }
    if !number.bytes().any(|b| b.is_ascii_digit()) {
        let message = format!("invalid input syntax for type numeric: \"{text}\"");
        return Err(QueryError::new(SqlState::INVALID_TEXT, message));
    }
    let number = number.trim_end_matches('.');
    let number = match number.starts_with('.') {
        true => format!("0{number}"),
        false => number.to_owned(),
    };
    let sign = if negative { "-" } else { "" };
    let decimal = chronos_model::text::parse_decimal(format!("{sign}{number}").as_bytes(), None)?;
    Ok(Value::Numeric(decimal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_laid_over_templates() {
        let decimal = |text: &str| {
            let decimal = chronos_model::text::parse_decimal(text.as_bytes(), None);
            Value::Numeric(decimal.expect("a number"))
        };
        for (number, template, written) in [
            ("1234.5", "9,999.99", " 1,234.50"),
            ("-12", "S999", " -12"),
            ("12", "0000", " 0012"),
            ("0.5", "FM999.00", ".50"),
            ("-0.1", "99.99", "  -.10"),
            ("0.1", "0.9", " 0.1"),
            ("0", "999", "   0"),
            ("125.8", "999D9", " 125.8"),
            ("-125.8", "999D99S", "125.80-"),
            ("12", "99V99", " 1200"),
            ("485", "999th", " 485th"),
            ("1234567.891", "FM9,999,999.00", "1,234,567.89"),
            ("-5", "999PR", "  <5>"),
            ("123456", "999", " ###"),
            ("485", "RN", "        CDLXXXV"),
        ] {
            assert_eq!(
                write(&decimal(number), template).unwrap(),
                written,
                "{number} {template}"
            );
        }
        assert!(write(&decimal("1"), "9.9.9").is_err());
    }
}
