//! Constants and parameters, and what they are beside a column.
//!
//! A constant means different things where it is compared and where it is
//! stored: `numeric(10,2) = '1.555'` is true of no row, but stored it is 1.56. So
//! there are two ways from a [`Literal`] to an [`Operand`].

use std::borrow::Cow;

use chronos_model::{text, DataType, Decimal, Value};

use super::cursor::Cursor;
use super::parameters::{compared_with, is_assignable, is_comparable, is_integer, is_text};
use super::{Operand, Planner};
use crate::lex::{unescape_string, StringKind, TokenKind};

/// A constant or parameter as written.
pub(super) struct Literal<'a> {
    body: Body<'a>,
    /// `::type`, or the type before a string.
    cast: Option<DataType>,
}

enum Body<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    /// Digits with a point, or more than an INT8 has; the text bears the sign.
    Decimal(Decimal, Cow<'a, str>),
    /// With an exponent.
    Real(Cow<'a, str>),
    String(Cow<'a, str>),
    Parameter(usize),
}

impl<'a> Cursor<'a> {
    /// A literal, if the next tokens are one that is understood.
    pub(super) fn literal(&mut self) -> Option<Literal<'a>> {
        let token = self.peek()?;
        let body = match token.kind {
            TokenKind::String => {
                let kind = token.string_kind(self.sql)?;
                if !matches!(
                    kind,
                    StringKind::Plain | StringKind::Escape | StringKind::Dollar
                ) {
                    return None;
                }
                self.advance();
                Body::String(unescape_string(&token, self.sql))
            }
            TokenKind::Number => {
                self.advance();
                number(token.text(self.sql), false)?
            }
            TokenKind::Operator => return self.signed_number(),
            TokenKind::Param => {
                self.advance();
                Body::Parameter(token.text(self.sql).get(1..)?.parse().ok()?)
            }
            TokenKind::Word if self.word("NULL") => Body::Null,
            TokenKind::Word if self.word("TRUE") => Body::Bool(true),
            TokenKind::Word if self.word("FALSE") => Body::Bool(false),
            TokenKind::Word => return self.typed_string(),
            _ => return None,
        };
        let cast = self.cast()?;
        Some(Literal { body, cast })
    }

    fn signed_number(&mut self) -> Option<Literal<'a>> {
        let negated = self.operator("-");
        if !negated && !self.operator("+") {
            return None;
        }
        let token = self.kind(TokenKind::Number)?;
        let body = number(token.text(self.sql), negated)?;
        // A cast binds closer than the sign: `-32768::int2` is out of range.
        let cast = self.cast()?;
        if cast.is_some() && negated {
            return None;
        }
        Some(Literal { body, cast })
    }

    /// `DATE '2024-01-01'`
    fn typed_string(&mut self) -> Option<Literal<'a>> {
        let cast = self.type_name()?;
        let token = self.kind(TokenKind::String)?;
        if token.string_kind(self.sql)? != StringKind::Plain {
            return None;
        }
        let body = Body::String(unescape_string(&token, self.sql));
        let cast = Some(cast);
        Some(Literal { body, cast })
    }

    /// `Some(None)`: there is none. `None`: one that is not understood.
    #[allow(clippy::option_option)]
    fn cast(&mut self) -> Option<Option<DataType>> {
        if !self.operator("::") {
            return Some(None);
        }
        self.type_name().map(Some)
    }

    /// A type without length, precision or brackets.
    fn type_name(&mut self) -> Option<DataType> {
        let first = self.kind(TokenKind::Word)?.text(self.sql);
        let is = |word: &str| first.eq_ignore_ascii_case(word);
        if is("DOUBLE") {
            return self.word("PRECISION").then_some(DataType::Float8);
        }
        if is("CHARACTER") {
            return self.word("VARYING").then_some(DataType::Varchar(None));
        }
        if is("TIMESTAMP") || is("TIME") {
            let is_timestamp = is("TIMESTAMP");
            let has_zone = self.is_word("WITH");
            let says_zone = self.word("WITH") || self.word("WITHOUT");
            if says_zone && !(self.word("TIME") && self.word("ZONE")) {
                return None;
            }
            return match (is_timestamp, has_zone) {
                (true, true) => Some(DataType::TimestampTz),
                (true, false) => Some(DataType::Timestamp),
                (false, false) => Some(DataType::Time),
                (false, true) => None,
            };
        }
        if is("INT") || is("INTEGER") || is("BIGINT") || is("INT8") {
            return Some(DataType::Int8);
        }
        if is("TEXT") {
            return Some(DataType::Text);
        }
        // A bare CHAR cuts to one character, which only an explicit cast may do.
        DataType::parse(first)
            .ok()
            .filter(|t| !matches!(t, DataType::Varchar(Some(_))))
    }
}

fn number(text: &str, negated: bool) -> Option<Body<'_>> {
    let sign = |n: i64| if negated { -n } else { n };
    let bytes = text.as_bytes();
    if bytes.len() <= 18 && bytes.iter().all(u8::is_ascii_digit) {
        let n = bytes.iter().fold(0i64, |n, b| n * 10 + i64::from(b - b'0'));
        return Some(Body::Integer(sign(n)));
    }
    let mut text = match text.contains('_') {
        true => Cow::Owned(text.replace('_', "")),
        false => Cow::Borrowed(text),
    };
    for (prefix, radix) in [
        ("0x", 16),
        ("0X", 16),
        ("0o", 8),
        ("0O", 8),
        ("0b", 2),
        ("0B", 2),
    ] {
        if let Some(digits) = text.strip_prefix(prefix) {
            return i64::from_str_radix(digits, radix)
                .ok()
                .map(|n| Body::Integer(sign(n)));
        }
    }
    if negated {
        text = Cow::Owned(format!("-{text}"));
    }
    if text.bytes().any(|b| matches!(b, b'e' | b'E')) {
        return Some(Body::Real(text));
    }
    if let Ok(n) = text.parse::<i64>() {
        // The smallest INT8 is a NUMERIC with a minus to PostgreSQL.
        if n != i64::MIN {
            return Some(Body::Integer(n));
        }
    }
    Some(Body::Decimal(decimal(&text)?, text))
}

/// `[+-]digits[.digits]` exactly, up to 38 digits.
fn decimal(text: &str) -> Option<Decimal> {
    let (negated, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        all => (false, all),
    };
    let (mut unscaled, mut scale, mut point, mut count) = (0i128, 0i8, false, 0);
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                count += 1;
                scale = scale.checked_add(i8::from(point))?;
                unscaled = unscaled
                    .checked_mul(10)?
                    .checked_add(i128::from(byte - b'0'))?;
            }
            b'.' if !point => point = true,
            _ => return None,
        }
    }
    let unscaled = if negated { -unscaled } else { unscaled };
    let decimal = Decimal { unscaled, scale };
    (count > 0 && decimal.fits(38)).then_some(decimal)
}

/// Plain digits with a sign, the common form, or whatever else the type reads.
fn integer(text: &str, data_type: &DataType) -> Option<Value> {
    let n = text.bytes().next()?;
    if n.is_ascii_digit() || n == b'-' {
        if let Ok(n) = text.parse::<i64>() {
            return exact(Value::Int8(n), data_type);
        }
    }
    text::parse(data_type, text).ok()
}

/// The value of the column's type that equals `value`, which is of a type that
/// [`is_comparable`] with it; `None` if none does.
pub(super) fn exact(value: Value, column: &DataType) -> Option<Value> {
    match (column, value) {
        (DataType::Int2 | DataType::Int4 | DataType::Int8, value) => {
            let n = integral(&value)?;
            Some(match column {
                DataType::Int2 => Value::Int2(n.try_into().ok()?),
                DataType::Int4 => Value::Int4(n.try_into().ok()?),
                _ => Value::Int8(n),
            })
        }
        (DataType::Numeric(p), value) => {
            let given = match value {
                Value::Numeric(d) => d,
                other => Decimal {
                    unscaled: i128::from(integral(&other)?),
                    scale: 0,
                },
            };
            let (precision, scale) = DataType::numeric_shape(*p);
            let there = given.rescale(scale)?;
            let is_exact = scale >= given.scale || there.rescale(given.scale)? == given;
            (is_exact && there.fits(precision)).then_some(Value::Numeric(there))
        }
        (DataType::Float8, value) => value.as_f64().map(Value::Float8),
        (DataType::Float4, Value::Float4(f)) => Some(Value::Float4(f)),
        (DataType::Float4, value) => {
            let wide = value.as_f64()?;
            let narrow = wide as f32;
            (f64::from(narrow) == wide).then_some(Value::Float4(narrow))
        }
        (DataType::Text | DataType::Varchar(_), Value::Text(s)) => Some(Value::Text(s)),
        (DataType::Bool, v @ Value::Bool(_))
        | (DataType::Bytea, v @ Value::Bytea(_))
        | (DataType::Uuid, v @ Value::Uuid(_))
        | (DataType::Date, v @ Value::Date(_))
        | (DataType::Time, v @ Value::Time(_))
        | (DataType::Timestamp, v @ Value::Timestamp(_))
        | (DataType::TimestampTz, v @ Value::TimestampTz(_)) => Some(v),
        _ => None,
    }
}

fn integral(value: &Value) -> Option<i64> {
    match value {
        Value::Int2(v) => Some(i64::from(*v)),
        Value::Int4(v) => Some(i64::from(*v)),
        Value::Int8(v) => Some(*v),
        Value::Numeric(d) => {
            let whole = d.rescale(0)?;
            let is_whole = d.scale <= 0 || whole.rescale(d.scale)? == *d;
            is_whole.then_some(whole.unscaled)?.try_into().ok()
        }
        _ => None,
    }
}

/// A double of a constant's text, if it has one that is neither too large nor
/// lost to zero.
fn double(text: &str) -> Option<f64> {
    let f = text.parse::<f64>().ok()?;
    let is_zero = text
        .bytes()
        .take_while(|b| !matches!(b, b'e' | b'E'))
        .all(|b| !matches!(b, b'1'..=b'9'));
    // A NUMERIC, which the constant is at first, has no negative zero.
    (f.is_finite() && (f != 0.0 || is_zero)).then_some(f + 0.0)
}

fn single(text: &str) -> Option<f32> {
    let wide = double(text)?;
    let f = text.parse::<f32>().ok()?;
    (f.is_finite() && (f != 0.0 || wide == 0.0)).then_some(f + 0.0)
}

impl Literal<'_> {
    /// The value of a constant with a cast, as one of the cast's type.
    fn cast_value(&self, cast: &DataType) -> Option<Value> {
        match (&self.body, cast) {
            (Body::Integer(n), t) if is_integer(t) => exact(Value::Int8(*n), t),
            (Body::Integer(n), DataType::Numeric(None)) => Value::Int8(*n).coerce(cast).ok(),
            (Body::Integer(n), DataType::Float8) => Some(Value::Float8(*n as f64)),
            (Body::Decimal(d, _), DataType::Numeric(None)) => exact(Value::Numeric(*d), cast),
            (Body::Decimal(_, s) | Body::Real(s), DataType::Float8) => double(s).map(Value::Float8),
            (Body::Bool(b), DataType::Bool) => Some(Value::Bool(*b)),
            (Body::String(s), t) if is_text(t) => Some(Value::Text(s.to_string())),
            (Body::String(s), t) if is_integer(t) => integer(s, t),
            (Body::String(s), DataType::Numeric(None)) => exact(Value::Numeric(decimal(s)?), cast),
            (Body::String(s), t) => text::parse(t, s).ok(),
            _ => None,
        }
    }

    /// The value of the column's type that this constant equals.
    fn compared(self, column: &DataType) -> Option<Value> {
        if let Some(cast) = &self.cast {
            return match is_comparable(cast, column) {
                true => exact(self.cast_value(cast)?, column),
                false => None,
            };
        }
        match (self.body, column) {
            (Body::Bool(b), DataType::Bool) => Some(Value::Bool(b)),
            (Body::Integer(n), _) => exact(Value::Int8(n), column),
            (Body::Decimal(d, _), DataType::Numeric(_)) => exact(Value::Numeric(d), column),
            (Body::Decimal(_, s) | Body::Real(s), DataType::Float4 | DataType::Float8) => {
                exact(Value::Float8(double(&s)?), column)
            }
            (Body::String(s), DataType::Text | DataType::Varchar(_)) => {
                Some(Value::Text(s.into_owned()))
            }
            (Body::String(s), DataType::Numeric(_)) => exact(Value::Numeric(decimal(&s)?), column),
            (Body::String(s), t) if is_integer(t) => integer(&s, t),
            (Body::String(s), t) => text::parse(t, &s).ok(),
            _ => None,
        }
    }

    /// What the column holds after this constant was stored in it.
    pub(super) fn stored(self, column: &DataType) -> Option<Value> {
        if let Some(cast) = &self.cast {
            return match is_assignable(cast, column) {
                true => self.cast_value(cast)?.coerce(column).ok(),
                false => None,
            };
        }
        match (self.body, column) {
            (Body::Null, _) => Some(Value::Null),
            (Body::Bool(b), DataType::Bool) => Some(Value::Bool(b)),
            (Body::Integer(n), DataType::Float4) => Some(Value::Float4(n as f32)),
            (Body::Integer(n), t) if is_assignable(&DataType::Int8, t) => {
                Value::Int8(n).coerce(t).ok()
            }
            (Body::Decimal(_, s) | Body::Real(s), DataType::Float8) => {
                double(&s).map(Value::Float8)
            }
            (Body::Decimal(_, s) | Body::Real(s), DataType::Float4) => {
                single(&s).map(Value::Float4)
            }
            (Body::Decimal(d, _), t)
                if is_assignable(&DataType::Numeric(None), t) || is_text(t) =>
            {
                Value::Numeric(d).coerce(t).ok()
            }
            (Body::String(s), DataType::Text) => Some(Value::Text(s.into_owned())),
            (Body::String(s), t) if is_integer(t) => integer(&s, t),
            (Body::String(s), t) => Value::Text(s.into_owned()).coerce(t).ok(),
            _ => None,
        }
    }

    /// An INT8 constant, to be added to an integer column.
    pub(super) fn as_integer(&self) -> Option<i64> {
        match (&self.body, &self.cast) {
            (Body::Integer(n), None) => Some(*n),
            _ => None,
        }
    }

    pub(super) fn is_parameter(&self) -> bool {
        matches!(self.body, Body::Parameter(_))
    }
}

impl Planner<'_> {
    /// The next literal as the other side of `column = ..`.
    pub(super) fn compared_operand(
        &mut self,
        literal: Literal<'_>,
        column: &DataType,
    ) -> Option<Operand> {
        let Body::Parameter(number) = literal.body else {
            return literal.compared(column).map(Operand::Value);
        };
        self.parameters
            .used(
                number,
                || literal.cast.clone().or_else(|| compared_with(column)),
                |t| literal.cast.as_ref().is_none_or(|c| c == t) && is_comparable(t, column),
            )
            .map(Operand::Parameter)
    }

    /// The literal as a value to be stored in a column.
    pub(super) fn stored_operand(
        &mut self,
        literal: Literal<'_>,
        column: &DataType,
    ) -> Option<Operand> {
        let Body::Parameter(number) = literal.body else {
            return literal.stored(column).map(Operand::Value);
        };
        self.parameters
            .used(
                number,
                || Some(literal.cast.clone().unwrap_or_else(|| column.clone())),
                |t| literal.cast.as_ref().is_none_or(|c| c == t) && is_assignable(t, column),
            )
            .map(Operand::Parameter)
    }

    /// The literal as an integer: a constant, or a parameter that is of type
    /// `natural` unless something else is said of it.
    pub(super) fn integer_operand(
        &mut self,
        literal: &Literal<'_>,
        natural: &DataType,
    ) -> Option<Operand> {
        let Body::Parameter(number) = literal.body else {
            return literal.as_integer().map(|n| Operand::Value(Value::Int8(n)));
        };
        self.parameters
            .used(
                number,
                || Some(literal.cast.clone().unwrap_or_else(|| natural.clone())),
                |t| literal.cast.as_ref().is_none_or(|c| c == t) && is_integer(t),
            )
            .map(Operand::Parameter)
    }
}
