//! Casts as PostgreSQL makes them, where the engine's differ: rounding, ranges,
//! text forms, the length of VARCHAR(n).
//!
//! [`check`] refuses what PostgreSQL has no cast for, before the engine coerces types.
//! [`rewrite`], after that, puts [`cast_column`] in the place of every cast, written or
//! implied, that the engine would do otherwise.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNano, IntervalMonthDayNanoType, Time64MicrosecondType,
};
use arrow_array::{Array, ArrayRef, ListArray, PrimitiveArray};
use arrow_schema::{DataType as Arrow, Field, FieldRef};
use chronos_model::{append_value, column_builder, text, DataType, Decimal, SqlState, Value};
use datafusion::common::tree_node::Transformed;
use datafusion::common::ExprSchema;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};

use super::coerce_array;
use super::operators::Operand;
use crate::functions::columnar;
use crate::json;
use crate::QueryError;

/// The cast of an expression as a call of ours.
pub(super) fn call(expr: Expr, to: DataType) -> Expr {
    ScalarUDF::new_from_impl(CastTo {
        to,
        signature: Signature::any(1, Volatility::Immutable),
    })
    .call(vec![expr])
}

/// A cast of ours of the same cast: the inner one.
pub(super) fn doubled(function: &ScalarFunction) -> Option<Expr> {
    match function.args.as_slice() {
        [Expr::ScalarFunction(inner)] if inner.func == function.func => {
            Some(function.args[0].clone())
        }
        _ => None,
    }
}

/// Refuses a written cast that PostgreSQL has not.
pub(super) fn check(expr: &Expr, schema: &dyn ExprSchema) -> Result<(), QueryError> {
    let Expr::Cast(cast) = expr else {
        return Ok(());
    };
    let Ok((_, from)) = cast.expr.to_field(schema) else {
        return Ok(());
    };
    if matches!(from.data_type(), Arrow::Null | Arrow::Struct(_)) {
        return Ok(());
    }
    let (from, to) = (DataType::of_field(&from), DataType::of_field(&cast.field));
    if is_castable(&from, &to) {
        return Ok(());
    }
    Err(QueryError::new(
        SqlState("42846"),
        format!("cannot cast type {from} to {to}"),
    ))
}

fn is_castable(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    if to.is_text() || from.is_text() {
        return true;
    }
    match (from, to) {
        (T::Bool, T::Bool | T::Int4 | T::Int8) | (T::Int4 | T::Int8, T::Bool) => true,
        (T::Date | T::Timestamp | T::TimestampTz, T::Date | T::Timestamp | T::TimestampTz) => true,
        (T::Timestamp | T::TimestampTz | T::Interval | T::Time, T::Time) => true,
        (T::Time | T::Interval, T::Interval) => true,
        (T::Json | T::Jsonb, T::Json | T::Jsonb) => true,
        (T::Jsonb, to) if to.is_number() || *to == T::Bool => true,
        (T::Array(from), T::Array(to)) => is_castable(from, to),
        (T::Array(item), T::Vector(_)) | (T::Vector(_), T::Array(item)) => item.is_number(),
        (T::Vector(_), T::Vector(_)) => true,
        (from, to) if from.is_number() && to.is_number() => true,
        (from, to) => from == to,
    }
}

/// Puts our cast in the place of the engine's, where the two differ.
pub(super) fn rewrite(expr: Expr, schema: &dyn ExprSchema) -> DfResult<Transformed<Expr>> {
    let Expr::Cast(cast) = &expr else {
        return Ok(Transformed::no(expr));
    };
    let Ok((_, from)) = cast.expr.to_field(schema) else {
        return Ok(Transformed::no(expr));
    };
    let target = cast.field.data_type();
    let plain = |inner: Expr| Expr::Cast(Cast::new(Box::new(inner), target.clone()));
    let inner = cast.expr.as_ref().clone();
    let (from_type, to) = (DataType::of_field(&from), DataType::of_field(&cast.field));
    // A cast that keeps the layout would keep the name of the type that was.
    let keeps_name = from_type != to && from.data_type() == target;
    if is_foreign(&from) || !(differs(&from_type, &to) || keeps_name) {
        if cast.field.metadata().is_empty() {
            return Ok(Transformed::no(expr));
        }
        // The engine's two layers disagree on what a cast to a named type may be NULL for.
        return Ok(if DataType::of_arrow(target) == to || is_foreign(&from) {
            Transformed::yes(plain(inner))
        } else {
            Transformed::yes(call(inner, to))
        });
    }
    let ours = to.to_arrow();
    let called = call(inner, to);
    if &ours == target {
        return Ok(Transformed::yes(called));
    }
    // The engine may ask for a layout that our types do not have; its own cast follows.
    Ok(if matches!(ours, Arrow::Utf8View) {
        Transformed::yes(plain(called))
    } else {
        Transformed::no(expr)
    })
}

/// Types that are none of ours.
fn is_foreign(field: &Field) -> bool {
    matches!(
        field.data_type(),
        Arrow::Null
            | Arrow::Struct(_)
            | Arrow::Map(..)
            | Arrow::Union(..)
            | Arrow::Dictionary(..)
            | Arrow::UInt64
            | Arrow::Duration(_)
    )
}

/// Whether the engine's cast gives something else than PostgreSQL's.
fn differs(from: &DataType, to: &DataType) -> bool {
    use DataType as T;
    match (from, to) {
        (_, T::Varchar(Some(_))) => from != to,
        (T::Text | T::Varchar(_), T::Text | T::Varchar(None)) => false,
        (T::Json | T::Jsonb | T::Uuid, T::Text | T::Varchar(None)) => false,
        (T::Int2 | T::Int4 | T::Int8 | T::Bool | T::Date, T::Text | T::Varchar(None)) => {
            matches!(from, T::Date)
        }
        (_, T::Text | T::Varchar(None)) => true,
        (T::Text | T::Varchar(_), _) => true,
        (T::Json, T::Jsonb) => true,
        (T::Jsonb, to) if to.is_number() || *to == T::Bool => true,
        (T::Float4 | T::Float8 | T::Numeric(_), T::Int2 | T::Int4 | T::Int8) => true,
        (T::Int8, T::Int2 | T::Int4) | (T::Int4, T::Int2) => true,
        (T::Float8, T::Float4) => true,
        (T::Float4 | T::Float8, T::Numeric(_)) => true,
        (T::Numeric(_), T::Float4 | T::Float8) => true,
        (T::Numeric(_) | T::Int2 | T::Int4 | T::Int8, T::Numeric(_)) => from != to,
        (T::Time, T::Interval) | (T::Interval, T::Time) => true,
        (T::Array(from), T::Array(to)) => differs(from, to),
        _ => false,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CastTo {
    to: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for CastTo {
    fn name(&self) -> &str {
        "cast"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[Arrow]) -> DfResult<Arrow> {
        Ok(self.to.to_arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let nullable = args.arg_fields[0].is_nullable();
        Ok(Arc::new(
            self.to.to_result_field(&self.to.to_string(), nullable),
        ))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        columnar(arguments, |columns, fields, _| {
            cast_column(&columns[0], &DataType::of_field(&fields[0]), &self.to)
        })
    }
}

/// A column as one of another type, by PostgreSQL's explicit casts.
pub(crate) fn cast_column(
    column: &ArrayRef,
    from: &DataType,
    to: &DataType,
) -> Result<ArrayRef, QueryError> {
    use DataType as T;
    let natural = from.to_arrow();
    let cast;
    let column = if column.data_type() == &natural {
        column
    } else {
        cast = arrow_cast::cast(column, &natural)
            .map_err(|e| QueryError::from(datafusion::error::DataFusionError::from(e)))?;
        &cast
    };
    match (from, to) {
        (T::Text | T::Varchar(_), T::Varchar(Some(n))) => Ok(truncated(column, *n)),
        (_, T::Varchar(Some(n))) => Ok(truncated(&cast_column(column, from, &T::Text)?, *n)),
        (T::Text | T::Varchar(_), _) if !to.is_text() => read(column, to),
        (T::Float8, T::Int2) => float_to_int::<Float64Type, Int16Type>(column, to),
        (T::Float8, T::Int4) => float_to_int::<Float64Type, Int32Type>(column, to),
        (T::Float8, T::Int8) => float_to_int::<Float64Type, Int64Type>(column, to),
        (T::Float4, T::Int2) => float_to_int::<Float32Type, Int16Type>(column, to),
        (T::Float4, T::Int4) => float_to_int::<Float32Type, Int32Type>(column, to),
        (T::Float4, T::Int8) => float_to_int::<Float32Type, Int64Type>(column, to),
        (T::Int8, T::Int2) => narrow::<Int64Type, Int16Type>(column, to),
        (T::Int8, T::Int4) => narrow::<Int64Type, Int32Type>(column, to),
        (T::Int4, T::Int2) => narrow::<Int32Type, Int16Type>(column, to),
        (T::Numeric(p), T::Int2) => decimal_to_int::<Int16Type>(column, *p, to),
        (T::Numeric(p), T::Int4) => decimal_to_int::<Int32Type>(column, *p, to),
        (T::Numeric(p), T::Int8) => decimal_to_int::<Int64Type>(column, *p, to),
        (T::Numeric(p), T::Float8) => {
            let scale = DataType::numeric_shape(*p).1;
            let values = column.as_primitive::<Decimal128Type>();
            Ok(Arc::new(
                values.unary::<_, Float64Type>(|v| decimal_to_float(v, scale)),
            ))
        }
        (T::Numeric(p), T::Float4) => {
            let scale = DataType::numeric_shape(*p).1;
            let values = column.as_primitive::<Decimal128Type>();
            checked::<_, Float32Type>(values, |v| narrow_float(decimal_to_float(v, scale)))
        }
        (T::Float8, T::Float4) => {
            checked::<_, Float32Type>(column.as_primitive::<Float64Type>(), narrow_float)
        }
        (T::Float8, T::Numeric(p)) => {
            float_to_decimal(column.as_primitive::<Float64Type>(), 15, *p)
        }
        (T::Float4, T::Numeric(p)) => float_to_decimal(column.as_primitive::<Float32Type>(), 6, *p),
        (T::Numeric(a), T::Numeric(b)) => rescaled(column, *a, *b),
        (T::Int2 | T::Int4 | T::Int8, T::Numeric(p)) => {
            let wide = arrow_cast::cast(column, &Arrow::Decimal128(38, 0))
                .map_err(|e| QueryError::from(datafusion::error::DataFusionError::from(e)))?;
            rescaled(&wide, Some((38, 0)), *p)
        }
        (T::Time, T::Interval) => Ok(Arc::new(
            column
                .as_primitive::<Time64MicrosecondType>()
                .unary::<_, IntervalMonthDayNanoType>(|v| {
                    IntervalMonthDayNano::new(0, 0, v * 1000)
                }),
        )),
        (T::Interval, T::Time) => Ok(Arc::new(
            column
                .as_primitive::<IntervalMonthDayNanoType>()
                .unary::<_, Time64MicrosecondType>(|v| {
                    (v.nanoseconds / 1000).rem_euclid(text::DAY_MICROS)
                }),
        )),
        (T::Array(a), T::Array(b)) => {
            let list = column.as_list::<i32>();
            let items = cast_column(list.values(), a, b)?;
            let field = Arc::new(b.to_result_field("item", true));
            let offsets = list.offsets().clone();
            Ok(Arc::new(ListArray::new(
                field,
                offsets,
                items,
                list.nulls().cloned(),
            )))
        }
        (T::Json, T::Jsonb) => read(column, to),
        (T::Jsonb, to) if to.is_number() || *to == T::Bool => scalars(column, to),
        (T::Bool, T::Text | T::Varchar(None)) => arrow_cast::cast(column, &Arrow::Utf8View)
            .map_err(|e| QueryError::from(datafusion::error::DataFusionError::from(e))),
        _ => coerce_array(column, &from.to_field("", true), to),
    }
}

fn out_of_range(to: &DataType) -> QueryError {
    QueryError::new(SqlState::OUT_OF_RANGE, format!("{to} out of range"))
}

/// Value by value, with errors.
pub(crate) fn checked<A, B>(
    values: &PrimitiveArray<A>,
    f: impl Fn(A::Native) -> Result<B::Native, QueryError>,
) -> Result<ArrayRef, QueryError>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
{
    Ok(Arc::new(values.try_unary::<_, B, QueryError>(f)?))
}

/// Texts as literals of a type.
fn read(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, QueryError> {
    let texts = column.as_string_view();
    let mut builder = column_builder(to, texts.len());
    for value in texts {
        match value {
            None => builder.append_null(),
            Some(written) => {
                let value = text::parse(to, written)?;
                append_value(&mut builder, &value)?;
            }
        }
    }
    Ok(builder.finish())
}

/// Values of `jsonb` as numbers or conditions, which they must be.
fn scalars(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, QueryError> {
    let wanted = match to {
        DataType::Bool => json::Kind::Boolean,
        _ => json::Kind::Number,
    };
    let mut builder = column_builder(to, column.len());
    for value in column.as_string_view() {
        let Some(json) = value else {
            builder.append_null();
            continue;
        };
        let kind = json::kind(json);
        if kind != wanted {
            let kind = match kind {
                json::Kind::Number => "numeric",
                other => other.name(),
            };
            let to = Operand::Of(to.clone()).name();
            return Err(json::wrong_kind(format!(
                "cannot cast jsonb {kind} to type {to}"
            )));
        }
        let value = match to.is_integer() {
            true => rounded(json).ok_or_else(|| out_of_range(to))?.coerce(to)?,
            false => text::parse(to, json)?,
        };
        append_value(&mut builder, &value)?;
    }
    Ok(builder.finish())
}

/// A decimal without exponent, rounded half away from zero; `None`: it does not fit.
fn rounded(written: &str) -> Option<Value> {
    let (whole, fraction) = written.split_once('.').unwrap_or((written, ""));
    let away = i64::from(fraction.starts_with(['5', '6', '7', '8', '9']));
    let whole_number: i64 = whole.parse().ok()?;
    let rounded = match whole.starts_with('-') {
        true => whole_number.checked_sub(away)?,
        false => whole_number.checked_add(away)?,
    };
    Some(Value::Int8(rounded))
}

fn truncated(column: &ArrayRef, max_chars: u32) -> ArrayRef {
    let texts = column.as_string_view();
    let cut = |s: &str| match s.char_indices().nth(max_chars as usize) {
        Some((end, _)) => s[..end].to_owned(),
        None => s.to_owned(),
    };
    let cut: arrow_array::StringViewArray = texts.iter().map(|s| s.map(cut)).collect();
    Arc::new(cut)
}

fn float_to_int<F, I>(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, QueryError>
where
    F: ArrowPrimitiveType,
    F::Native: Into<f64>,
    I: ArrowPrimitiveType,
    I::Native: TryFrom<i64>,
{
    checked::<F, I>(column.as_primitive::<F>(), |v| {
        let rounded = Into::<f64>::into(v).round_ties_even();
        // 2^63 is the first float beyond an i64; NaN compares with nothing.
        let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&rounded);
        if !fits {
            return Err(out_of_range(to));
        }
        I::Native::try_from(rounded as i64).map_err(|_| out_of_range(to))
    })
}

fn narrow<A, B>(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, QueryError>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    B::Native: TryFrom<A::Native>,
{
    checked::<A, B>(column.as_primitive::<A>(), |v| {
        B::Native::try_from(v).map_err(|_| out_of_range(to))
    })
}

fn decimal_to_int<I>(
    column: &ArrayRef,
    parameters: Option<(u8, i8)>,
    to: &DataType,
) -> Result<ArrayRef, QueryError>
where
    I: ArrowPrimitiveType,
    I::Native: TryFrom<i128>,
{
    let scale = DataType::numeric_shape(parameters).1;
    checked::<Decimal128Type, I>(column.as_primitive(), |unscaled| {
        Decimal { unscaled, scale }
            .rescale(0)
            .and_then(|d| I::Native::try_from(d.unscaled).ok())
            .ok_or_else(|| out_of_range(to))
    })
}

/// The nearest double. Where digits and power of ten are exact as doubles, one division
/// rounds once; beyond that the text is read.
pub(crate) fn decimal_to_float(unscaled: i128, scale: i8) -> f64 {
    const EXACT: u128 = 1 << 53;
    if unscaled.unsigned_abs() < EXACT && (-22..=22).contains(&scale) {
        let digits = unscaled as f64;
        let power = 10f64.powi(i32::from(scale.unsigned_abs()));
        return if scale >= 0 {
            digits / power
        } else {
            digits * power
        };
    }
    format!("{unscaled}e{}", -i32::from(scale))
        .parse()
        .unwrap_or(f64::NAN)
}

fn narrow_float(v: f64) -> Result<f32, QueryError> {
    let narrow = v as f32;
    let failed = |what| {
        QueryError::new(
            SqlState::OUT_OF_RANGE,
            format!("value out of range: {what}"),
        )
    };
    if narrow.is_infinite() && v.is_finite() {
        return Err(failed("overflow"));
    }
    if narrow == 0.0 && v != 0.0 {
        return Err(failed("underflow"));
    }
    Ok(narrow)
}

/// With as many significant digits as the float has for sure.
fn float_to_decimal<F>(
    values: &PrimitiveArray<F>,
    digits: usize,
    parameters: Option<(u8, i8)>,
) -> Result<ArrayRef, QueryError>
where
    F: ArrowPrimitiveType,
    F::Native: Into<f64>,
{
    let to = DataType::Numeric(parameters);
    let mut builder = column_builder(&to, values.len());
    for value in values {
        let Some(value) = value else {
            builder.append_null();
            continue;
        };
        let value: f64 = value.into();
        if !value.is_finite() {
            return Err(QueryError::unsupported("NaN or infinity as NUMERIC"));
        }
        let written = format!("{:.*e}", digits - 1, value);
        append_value(&mut builder, &read_decimal(&written, parameters)?)?;
    }
    Ok(builder.finish())
}

fn read_decimal(written: &str, parameters: Option<(u8, i8)>) -> Result<Value, QueryError> {
    Ok(Value::Numeric(text::parse_decimal(
        written.as_bytes(),
        parameters,
    )?))
}

fn rescaled(
    column: &ArrayRef,
    from: Option<(u8, i8)>,
    to: Option<(u8, i8)>,
) -> Result<ArrayRef, QueryError> {
    let from = DataType::numeric_shape(from).1;
    let (precision, scale) = DataType::numeric_shape(to);
    let overflow = || {
        QueryError::new(SqlState::OUT_OF_RANGE, "numeric field overflow").with_detail(
        format!("A field with precision {precision}, scale {scale} must round to an absolute value less than 10^{}.", i32::from(precision) - i32::from(scale)),
    )
    };
    let values = column.as_primitive::<Decimal128Type>();
    let rescaled = values.try_unary::<_, Decimal128Type, QueryError>(|unscaled| {
        Decimal {
            unscaled,
            scale: from,
        }
        .rescale(scale)
        .filter(|d| d.fits(precision))
        .map(|d| d.unscaled)
        .ok_or_else(overflow)
    })?;
    Ok(Arc::new(
        rescaled.with_data_type(DataType::Numeric(to).to_arrow()),
    ))
}
