//! Arithmetic that the engine has not, column by column: floats that overflow loudly,
//! NUMERIC division, intervals.

use std::sync::{Arc, LazyLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Decimal128Type, Float32Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, ArrowNativeTypeOp, ArrowPrimitiveType, PrimitiveArray};
use arrow_buffer::i256;
use arrow_schema::{DataType as Arrow, FieldRef};
use chronos_model::{text, DataType, SqlState};
use datafusion::arrow::compute::kernels::{arity, numeric};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

use crate::functions::columnar;
use crate::QueryError;

/// Digits behind the point of a quotient, at least: PostgreSQL gives 16 significant ones.
const QUOTIENT_SCALE: i8 = 16;

/// What a kernel computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kernel {
    Float(Operator),
    Divide,
    Power,
    ScaleInterval(Operator),
    IntervalKey,
    Elapsed,
}

macro_rules! kernel {
    ($kernel:expr, $args:expr) => {{
        static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Computed::function($kernel));
        FUNCTION.call($args)
    }};
}

/// `+ - * /` of two floats of one width.
pub(in crate::engine) fn float(op: Operator, left: Expr, right: Expr) -> Expr {
    let args = vec![left, right];
    match op {
        Operator::Plus => kernel!(Kernel::Float(Operator::Plus), args),
        Operator::Minus => kernel!(Kernel::Float(Operator::Minus), args),
        Operator::Multiply => kernel!(Kernel::Float(Operator::Multiply), args),
        _ => kernel!(Kernel::Float(Operator::Divide), args),
    }
}

/// `a / b` of decimals.
pub(super) fn divide(left: Expr, right: Expr) -> Expr {
    kernel!(Kernel::Divide, vec![left, right])
}

/// `a ^ b` of doubles.
pub(super) fn power(left: Expr, right: Expr) -> Expr {
    kernel!(Kernel::Power, vec![left, right])
}

/// `i * f`, `i / f`
pub(super) fn scale_interval(op: Operator, interval: Expr, factor: Expr) -> Expr {
    let args = vec![interval, factor];
    match op {
        Operator::Multiply => kernel!(Kernel::ScaleInterval(Operator::Multiply), args),
        _ => kernel!(Kernel::ScaleInterval(Operator::Divide), args),
    }
}

/// What intervals compare by: a month is 30 days, a day is 24 hours.
pub(in crate::engine) fn interval_key(interval: Expr) -> Expr {
    kernel!(Kernel::IntervalKey, vec![interval])
}

/// `a - b` of timestamps: days, and a time of less than one.
pub(super) fn elapsed(left: Expr, right: Expr) -> Expr {
    kernel!(Kernel::Elapsed, vec![left, right])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Computed {
    kernel: Kernel,
    signature: Signature,
}

impl Computed {
    fn function(kernel: Kernel) -> Arc<ScalarUDF> {
        let arguments = match kernel {
            Kernel::IntervalKey => 1,
            _ => 2,
        };
        Arc::new(ScalarUDF::new_from_impl(Computed {
            kernel,
            signature: Signature::any(arguments, Volatility::Immutable),
        }))
    }
}

impl ScalarUDFImpl for Computed {
    fn name(&self) -> &str {
        match self.kernel {
            Kernel::Float(Operator::Plus) => "float_add",
            Kernel::Float(Operator::Minus) => "float_subtract",
            Kernel::Float(Operator::Multiply) => "float_multiply",
            Kernel::Float(_) => "float_divide",
            Kernel::Divide => "numeric_divide",
            Kernel::Power => "power",
            Kernel::ScaleInterval(Operator::Multiply) => "interval_multiply",
            Kernel::ScaleInterval(_) => "interval_divide",
            Kernel::IntervalKey => "interval_key",
            Kernel::Elapsed => "elapsed",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[Arrow]) -> DfResult<Arrow> {
        Ok(match self.kernel {
            Kernel::Float(_) => arguments[0].clone(),
            Kernel::Divide => {
                let (precision, scale) = quotient(&arguments[0], &arguments[1]);
                Arrow::Decimal128(precision, scale)
            }
            Kernel::Power => Arrow::Float64,
            Kernel::ScaleInterval(_) | Kernel::Elapsed => DataType::Interval.to_arrow(),
            Kernel::IntervalKey => Arrow::Decimal128(38, 0),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let types: Vec<Arrow> = args
            .arg_fields
            .iter()
            .map(|f| f.data_type().clone())
            .collect();
        let returns = DataType::of_arrow(&self.return_type(&types)?);
        let nullable = args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(returns.to_result_field(self.name(), nullable)))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        columnar(arguments, |columns, _, _| match self.kernel {
            Kernel::Float(op) => match columns[0].data_type() {
                Arrow::Float32 => float_columns::<Float32Type>(op, columns),
                _ => float_columns::<Float64Type>(op, columns),
            },
            Kernel::Divide => divide_columns(&columns[0], &columns[1]),
            Kernel::Power => binary::<Float64Type, Float64Type, Float64Type>(columns, raise),
            Kernel::ScaleInterval(op) => {
                binary::<IntervalMonthDayNanoType, Float64Type, IntervalMonthDayNanoType>(
                    columns,
                    |interval, by| scaled(op, interval, by),
                )
            }
            Kernel::IntervalKey => {
                let intervals = columns[0].as_primitive::<IntervalMonthDayNanoType>();
                let keys = intervals.unary::<_, Decimal128Type>(key);
                Ok(Arc::new(keys.with_data_type(Arrow::Decimal128(38, 0))))
            }
            Kernel::Elapsed => {
                binary::<TimestampMicrosecondType, TimestampMicrosecondType, IntervalMonthDayNanoType>(
                    columns, between,
                )
            }
        })
    }
}

fn binary<A, B, C>(
    columns: &[ArrayRef],
    f: impl Fn(A::Native, B::Native) -> Result<C::Native, QueryError>,
) -> Result<ArrayRef, QueryError>
where
    A: ArrowPrimitiveType,
    B: ArrowPrimitiveType,
    C: ArrowPrimitiveType,
{
    let result: PrimitiveArray<C> = arity::try_binary(
        columns[0].as_primitive::<A>(),
        columns[1].as_primitive::<B>(),
        |a, b| f(a, b).map_err(external),
    )
    .map_err(datafusion::error::DataFusionError::from)
    .map_err(QueryError::from)?;
    Ok(Arc::new(result))
}

fn external(e: QueryError) -> arrow_schema::ArrowError {
    arrow_schema::ArrowError::ExternalError(Box::new(e))
}

fn division_by_zero() -> QueryError {
    QueryError::new(SqlState::DIVISION_BY_ZERO, "division by zero")
}

fn out_of_range(what: &str) -> QueryError {
    QueryError::new(
        SqlState::OUT_OF_RANGE,
        format!("value out of range: {what}"),
    )
}

/// The engine's kernel, and a look at results that may have left the range.
fn float_columns<F>(op: Operator, columns: &[ArrayRef]) -> Result<ArrayRef, QueryError>
where
    F: ArrowPrimitiveType,
    F::Native: Into<f64> + ArrowNativeTypeOp,
{
    let (left, right) = (&columns[0], &columns[1]);
    let computed = match op {
        Operator::Plus => numeric::add(left, right),
        Operator::Minus => numeric::sub(left, right),
        Operator::Multiply => numeric::mul(left, right),
        _ => numeric::div(left, right),
    };
    let computed = computed
        .map_err(datafusion::error::DataFusionError::from)
        .map_err(QueryError::from)?;
    let (a, b) = (left.as_primitive::<F>(), right.as_primitive::<F>());
    let results = computed.as_primitive::<F>();
    for (row, result) in results.values().iter().enumerate() {
        let result: f64 = (*result).into();
        // Any other result is as PostgreSQL's.
        let is_suspect = !result.is_finite()
            || (result == 0.0 && matches!(op, Operator::Multiply | Operator::Divide));
        if is_suspect && results.is_valid(row) {
            check_float(op, a.value(row).into(), b.value(row).into(), result)?;
        }
    }
    Ok(computed)
}

fn check_float(op: Operator, a: f64, b: f64, result: f64) -> Result<(), QueryError> {
    if op == Operator::Divide && b == 0.0 && !a.is_nan() {
        return Err(division_by_zero());
    }
    if result.is_infinite() && a.is_finite() && b.is_finite() {
        return Err(out_of_range("overflow"));
    }
    let vanished = match op {
        Operator::Multiply => a != 0.0 && b != 0.0,
        Operator::Divide => a != 0.0 && b.is_finite(),
        _ => false,
    };
    if result == 0.0 && vanished {
        return Err(out_of_range("underflow"));
    }
    Ok(())
}

/// Precision and scale of a quotient.
fn quotient(dividend: &Arrow, divisor: &Arrow) -> (u8, i8) {
    let scale = |t: &Arrow| match t {
        Arrow::Decimal128(_, s) => *s,
        _ => 0,
    };
    (38, scale(dividend).max(scale(divisor)).max(QUOTIENT_SCALE))
}

fn divide_columns(dividends: &ArrayRef, divisors: &ArrayRef) -> Result<ArrayRef, QueryError> {
    let (precision, scale) = quotient(dividends.data_type(), divisors.data_type());
    let scale_of = |column: &ArrayRef| match column.data_type() {
        Arrow::Decimal128(_, s) => *s,
        _ => 0,
    };
    // a/10^s1 / (b/10^s2), in units of 10^-scale, is a * 10^(scale - s1 + s2) / b.
    let shift = i32::from(scale) - i32::from(scale_of(dividends)) + i32::from(scale_of(divisors));
    let power = i256::from_i128(10).wrapping_pow(shift.max(0) as u32);
    let columns = [Arc::clone(dividends), Arc::clone(divisors)];
    let result = binary::<Decimal128Type, Decimal128Type, Decimal128Type>(&columns, |a, b| {
        if b == 0 {
            return Err(division_by_zero());
        }
        i256::from_i128(a)
            .checked_mul(power)
            .and_then(|a| rounded_quotient(a, i256::from_i128(b)))
            .filter(|q| q.unsigned_abs() < 10u128.pow(u32::from(precision)))
            .ok_or_else(|| {
                QueryError::new(SqlState::OUT_OF_RANGE, "value overflows numeric format")
            })
    })?;
    let result = result.as_primitive::<Decimal128Type>().clone();
    Ok(Arc::new(
        result.with_data_type(Arrow::Decimal128(precision, scale)),
    ))
}

/// `a / b`, half away from zero.
fn rounded_quotient(a: i256, b: i256) -> Option<i128> {
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    let twice = rest.wrapping_abs().checked_mul(i256::from_i128(2))?;
    let quotient = if twice >= b.wrapping_abs() {
        let away = if a.is_negative() == b.is_negative() {
            1
        } else {
            -1
        };
        quotient.checked_add(i256::from_i128(away))?
    } else {
        quotient
    };
    quotient.to_i128()
}

/// `a ^ b` with PostgreSQL's errors.
fn raise(a: f64, b: f64) -> Result<f64, QueryError> {
    if a == 0.0 && b < 0.0 {
        return Err(QueryError::new(
            SqlState("2201F"),
            "zero raised to a negative power is undefined",
        ));
    }
    if a < 0.0 && b.is_finite() && b.fract() != 0.0 {
        return Err(QueryError::new(
            SqlState("2201F"),
            "a negative number raised to a non-integer power yields a complex result",
        ));
    }
    let result = a.powf(b);
    if result.is_infinite() && a.is_finite() && b.is_finite() {
        return Err(out_of_range("overflow"));
    }
    if result == 0.0 && a != 0.0 && a.is_finite() && b.is_finite() {
        return Err(out_of_range("underflow"));
    }
    Ok(result)
}

fn key(v: IntervalMonthDayNano) -> i128 {
    let days = i128::from(v.months) * 30 + i128::from(v.days);
    days * i128::from(text::DAY_MICROS) * 1000 + i128::from(v.nanoseconds)
}

fn between(a: i64, b: i64) -> Result<IntervalMonthDayNano, QueryError> {
    let micros = a
        .checked_sub(b)
        .ok_or_else(|| QueryError::new(SqlState::OUT_OF_RANGE, "interval out of range"))?;
    let days = micros / text::DAY_MICROS;
    let nanos = (micros % text::DAY_MICROS) * 1000;
    let days = i32::try_from(days)
        .map_err(|_| QueryError::new(SqlState::OUT_OF_RANGE, "interval out of range"))?;
    Ok(IntervalMonthDayNano::new(0, days, nanos))
}

/// An interval times or divided by a number: what is left of months becomes days, of days
/// a time (`interval_mul` in PostgreSQL's timestamp.c).
fn scaled(
    op: Operator,
    v: IntervalMonthDayNano,
    by: f64,
) -> Result<IntervalMonthDayNano, QueryError> {
    if op == Operator::Divide && by == 0.0 {
        return Err(division_by_zero());
    }
    let apply = |x: f64| match op {
        Operator::Multiply => x * by,
        _ => x / by,
    };
    let failed = || QueryError::new(SqlState::OUT_OF_RANGE, "interval out of range");
    let integer = |x: f64| {
        let fits = x > f64::from(i32::MIN) && x < f64::from(i32::MAX);
        fits.then_some(x as i32).ok_or_else(failed)
    };
    let months = apply(f64::from(v.months));
    let whole_months = integer(months)?;
    let days = apply(f64::from(v.days));
    let whole_days = integer(days)?;
    let month_days = to_micros((months - f64::from(whole_months)) * 30.0);
    let extra_days = month_days.trunc();
    let seconds = to_micros((days - f64::from(whole_days) + (month_days - extra_days)) * 86_400.0);
    let (more_days, seconds) = if seconds.abs() >= 86_400.0 {
        let days = (seconds / 86_400.0).trunc();
        (days, seconds - days * 86_400.0)
    } else {
        (0.0, seconds)
    };
    let micros = (apply(v.nanoseconds as f64 / 1000.0) + seconds * 1e6).round_ties_even();
    if micros.is_nan() || micros.abs() >= 9.2e15 {
        return Err(failed());
    }
    let days = integer(f64::from(whole_days) + extra_days + more_days)?;
    Ok(IntervalMonthDayNano::new(
        whole_months,
        days,
        micros as i64 * 1000,
    ))
}

/// Rounded to six digits behind the point.
fn to_micros(x: f64) -> f64 {
    (x * 1e6).round_ties_even() / 1e6
}
