//! `extract`, `date_part` and `date_trunc`, column by column.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::ArrayRef;
use arrow_schema::{DataType as Arrow, FieldRef};
use chronos_model::text::{civil_from_days, days_from_civil, DAY_MICROS};
use chronos_model::{DataType, SqlState};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::columnar;
use super::definition::missing;
use crate::engine::{cast_column, checked};
use crate::QueryError;

const SECOND: i64 = 1_000_000;

/// The function of that name.
pub(super) fn find(name: &str) -> Option<Arc<ScalarUDF>> {
    let what = match name {
        "extract" => What::Extract,
        "date_part" | "datepart" => What::DatePart,
        "date_trunc" => What::Truncate,
        _ => return None,
    };
    Some(Arc::new(ScalarUDF::new_from_impl(FieldFunction {
        what,
        signature: Signature::any(2, Volatility::Immutable),
    })))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    /// NUMERIC
    Extract,
    /// DOUBLE PRECISION
    DatePart,
    Truncate,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            What::Extract => "extract",
            What::DatePart => "date_part",
            What::Truncate => "date_trunc",
        }
    }
}

/// A field of a time. The finer ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Microseconds,
    Milliseconds,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
    Dow,
    IsoDow,
    Doy,
    IsoYear,
    Julian,
    Epoch,
    Timezone,
}

fn unit(name: &str, data_type: &DataType) -> Result<Unit, QueryError> {
    Ok(match name.trim().to_ascii_lowercase().as_str() {
        "microsecond" | "microseconds" | "us" | "usec" | "usecs" => Unit::Microseconds,
        "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" => Unit::Milliseconds,
        "second" | "seconds" | "s" | "sec" | "secs" => Unit::Second,
        "minute" | "minutes" | "m" | "min" | "mins" => Unit::Minute,
        "hour" | "hours" | "h" | "hr" | "hrs" => Unit::Hour,
        "day" | "days" | "d" => Unit::Day,
        "week" | "weeks" | "w" => Unit::Week,
        "month" | "months" | "mon" | "mons" => Unit::Month,
        "quarter" | "qtr" => Unit::Quarter,
        "year" | "years" | "y" | "yr" | "yrs" => Unit::Year,
        "decade" | "decades" | "dec" | "decs" => Unit::Decade,
        "century" | "centuries" | "c" | "cent" => Unit::Century,
        "millennium" | "millennia" | "mil" | "mils" => Unit::Millennium,
        "dow" => Unit::Dow,
        "isodow" => Unit::IsoDow,
        "doy" => Unit::Doy,
        "isoyear" => Unit::IsoYear,
        "julian" | "jd" => Unit::Julian,
        "epoch" => Unit::Epoch,
        "timezone" | "timezone_hour" | "timezone_minute" | "timezone_h" | "timezone_m" => {
            Unit::Timezone
        }
        _ => {
            return Err(QueryError::new(
                SqlState::INVALID_PARAMETER,
                format!("unit \"{name}\" not recognized for type {data_type}"),
            ))
        }
    })
}

fn unsupported(name: &str, data_type: &DataType) -> QueryError {
    QueryError::unsupported(format!("unit \"{name}\" for type {data_type}"))
}

/// Digits behind the point of an extracted field.
fn scale(unit: Unit, data_type: &DataType) -> i8 {
    match unit {
        Unit::Second => 6,
        Unit::Epoch if *data_type != DataType::Date => 6,
        Unit::Milliseconds => 3,
        _ => 0,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FieldFunction {
    what: What,
    signature: Signature,
}

impl FieldFunction {
    fn returns(&self, source: &DataType, unit: Option<Unit>) -> Result<DataType, QueryError> {
        use DataType as T;
        match (self.what, source) {
            (What::Truncate, T::Date | T::TimestampTz) => Ok(T::TimestampTz),
            (What::Truncate, T::Timestamp | T::Interval) => Ok(source.clone()),
            (What::Truncate, T::Time) => Ok(T::Interval),
            (What::DatePart, T::Date | T::Time | T::Timestamp | T::TimestampTz | T::Interval) => {
                Ok(T::Float8)
            }
            (What::Extract, T::Date | T::Time | T::Timestamp | T::TimestampTz | T::Interval) => {
                // A field that is not known yet may be any.
                let scale = unit.map_or(6, |unit| scale(unit, source));
                Ok(T::Numeric(Some((38, scale))))
            }
            _ => Err(missing(self.what.name(), &[T::Text, source.clone()])),
        }
    }
}

impl ScalarUDFImpl for FieldFunction {
    fn name(&self) -> &str {
        self.what.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[Arrow]) -> DfResult<Arrow> {
        Ok(self.returns(&source_type(&arguments[1]), None)?.to_arrow())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        if args.arg_fields[1].data_type() == &Arrow::Utf8 {
            let message = format!("function {}(unknown, unknown) is not unique", self.name());
            return Err(QueryError::new(SqlState("42725"), message).into());
        }
        let of_text = |t: &Arrow| matches!(t, Arrow::Utf8 | Arrow::Utf8View | Arrow::Null);
        let source = source_type(args.arg_fields[1].data_type());
        if !of_text(args.arg_fields[0].data_type()) {
            let types = [DataType::of_field(&args.arg_fields[0]), source];
            return Err(missing(self.name(), &types).into());
        }
        let unit = match args.scalar_arguments[0] {
            Some(ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name))) => {
                Some(unit(name, &source)?)
            }
            _ => None,
        };
        Ok(Arc::new(
            self.returns(&source, unit)?
                .to_result_field(self.name(), true),
        ))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let returns = DataType::of_field(&arguments.return_field);
        columnar(arguments, |columns, fields, rows| {
            let source = source_type(fields[1].data_type());
            let values = cast_column(&columns[1], &DataType::of_field(&fields[1]), &source)?;
            let Some(name) = the_one_name(&columns[0])? else {
                return Ok(arrow_array::new_null_array(&returns.to_arrow(), rows));
            };
            let unit = unit(&name, &source)?;
            match self.what {
                What::Truncate => truncate(unit, &name, &values, &source, &returns),
                What::Extract | What::DatePart => {
                    extracted(unit, &name, &values, &source, &returns)
                }
            }
        })
    }
}

/// NULL without a type is taken for a timestamp.
fn source_type(arrow: &Arrow) -> DataType {
    match arrow {
        Arrow::Null => DataType::Timestamp,
        other => DataType::of_arrow(other),
    }
}

/// The field's name, which must be the same for all rows.
fn the_one_name(names: &ArrayRef) -> Result<Option<String>, QueryError> {
    let names = arrow_cast::cast(names, &Arrow::Utf8View)
        .map_err(|e| QueryError::from(datafusion::error::DataFusionError::from(e)))?;
    let names = names.as_string_view();
    let mut distinct = names.iter();
    let first = distinct.next().flatten();
    if distinct.any(|name| name != first) {
        return Err(QueryError::unsupported(
            "a field of a time that varies by row",
        ));
    }
    Ok(first.map(str::to_owned))
}

/// Fields in units of the result's last digit.
fn extracted(
    unit: Unit,
    name: &str,
    values: &ArrayRef,
    source: &DataType,
    returns: &DataType,
) -> Result<ArrayRef, QueryError> {
    let refused = || unsupported(name, source);
    let fields = match source {
        DataType::Date => checked::<Date32Type, Decimal128Type>(values.as_primitive(), |d| {
            if unit <= Unit::Hour || unit == Unit::Timezone {
                return Err(refused());
            }
            let micros = i64::from(d) * DAY_MICROS;
            let field = of_instant(unit, micros).ok_or_else(refused)?;
            Ok(if unit == Unit::Epoch {
                field / i128::from(SECOND)
            } else {
                field
            })
        })?,
        DataType::Time => {
            checked::<Time64MicrosecondType, Decimal128Type>(values.as_primitive(), |t| {
                if unit > Unit::Hour && unit != Unit::Epoch {
                    return Err(refused());
                }
                of_instant(unit, t).ok_or_else(refused)
            })?
        }
        DataType::Interval => {
            checked::<IntervalMonthDayNanoType, Decimal128Type>(values.as_primitive(), |v| {
                of_interval(unit, v).ok_or_else(refused)
            })?
        }
        _ => checked::<TimestampMicrosecondType, Decimal128Type>(values.as_primitive(), |t| {
            if unit == Unit::Timezone {
                // The session's zone is UTC.
                return if *source == DataType::TimestampTz {
                    Ok(0)
                } else {
                    Err(refused())
                };
            }
            if unit == Unit::Julian && t % DAY_MICROS != 0 {
                return Err(refused());
            }
            of_instant(unit, t).ok_or_else(refused)
        })?,
    };
    let scale = scale(unit, source);
    let fields = fields.as_primitive::<Decimal128Type>();
    Ok(match returns {
        DataType::Float8 => {
            let divisor = 10f64.powi(i32::from(scale));
            Arc::new(fields.unary::<_, Float64Type>(|v| v as f64 / divisor))
        }
        other => {
            let wanted = match other {
                DataType::Numeric(p) => DataType::numeric_shape(*p).1,
                _ => scale,
            };
            let factor = 10i128.pow((wanted - scale).max(0) as u32);
            let fields = fields.unary::<_, Decimal128Type>(|v| v * factor);
            Arc::new(fields.with_data_type(other.to_arrow()))
        }
    })
}

fn of_instant(unit: Unit, micros: i64) -> Option<i128> {
    let (days, time) = (micros.div_euclid(DAY_MICROS), micros.rem_euclid(DAY_MICROS));
    let (year, month, day) = civil_from_days(days);
    let minute_micros = time % (60 * SECOND);
    let field = match unit {
        Unit::Microseconds | Unit::Milliseconds | Unit::Second => minute_micros,
        Unit::Minute => time / (60 * SECOND) % 60,
        Unit::Hour => time / (3600 * SECOND),
        Unit::Day => i64::from(day),
        Unit::Month => i64::from(month),
        Unit::Quarter => i64::from(month - 1) / 3 + 1,
        // There is no year 0: 1 BC is -1.
        Unit::Year => year - i64::from(year <= 0),
        Unit::Decade => year.div_euclid(10),
        Unit::Century => in_hundreds(year, 100),
        Unit::Millennium => in_hundreds(year, 1000),
        Unit::Dow => (days + 4).rem_euclid(7),
        Unit::IsoDow => (days + 3).rem_euclid(7) + 1,
        Unit::Doy => days - days_from_civil(year, 1, 1) + 1,
        Unit::Week => iso_week(days).1,
        Unit::IsoYear => {
            let year = iso_week(days).0;
            year - i64::from(year <= 0)
        }
        Unit::Julian => days + 2_440_588,
        Unit::Epoch => return Some(i128::from(micros)),
        Unit::Timezone => return None,
    };
    Some(i128::from(field))
}

/// The century (or millennium) that a year is in: they begin with a year 1.
fn in_hundreds(year: i64, length: i64) -> i64 {
    if year > 0 {
        (year + length - 1) / length
    } else {
        -((length - 1 - (year - 1)) / length)
    }
}

/// ISO 8601: the year and the week to which a day belongs.
pub(super) fn iso_week(days: i64) -> (i64, i64) {
    // The Thursday of the day's week decides.
    let thursday = days - (days + 3).rem_euclid(7) + 3;
    let (year, _, _) = civil_from_days(thursday);
    (year, (thursday - days_from_civil(year, 1, 1)) / 7 + 1)
}

fn of_interval(unit: Unit, v: IntervalMonthDayNano) -> Option<i128> {
    let micros = v.nanoseconds / 1000;
    let (years, months) = (i64::from(v.months) / 12, i64::from(v.months) % 12);
    let field = match unit {
        Unit::Microseconds | Unit::Milliseconds | Unit::Second => micros % (60 * SECOND),
        Unit::Minute => micros / (60 * SECOND) % 60,
        Unit::Hour => micros / (3600 * SECOND),
        Unit::Day => i64::from(v.days),
        Unit::Month => months,
        Unit::Quarter => months / 3 + 1,
        Unit::Year => years,
        Unit::Decade => years / 10,
        Unit::Century => years / 100,
        Unit::Millennium => years / 1000,
        Unit::Epoch => {
            // A year has 365.25 days, a month 30.
            let seconds = i128::from(years) * 31_557_600
                + i128::from(months * 30 + i64::from(v.days)) * 86_400;
            return Some(seconds * i128::from(SECOND) + i128::from(micros));
        }
        _ => return None,
    };
    Some(i128::from(field))
}

fn truncate(
    unit: Unit,
    name: &str,
    values: &ArrayRef,
    source: &DataType,
    returns: &DataType,
) -> Result<ArrayRef, QueryError> {
    let refused = || unsupported(name, source);
    match returns {
        DataType::Interval => {
            let intervals = cast_column(values, source, &DataType::Interval)?;
            checked::<IntervalMonthDayNanoType, IntervalMonthDayNanoType>(
                intervals.as_primitive(),
                |v| truncated_interval(unit, v).ok_or_else(refused),
            )
        }
        _ => {
            let instants = cast_column(values, source, returns)?;
            let truncated = checked::<TimestampMicrosecondType, TimestampMicrosecondType>(
                instants.as_primitive(),
                |t| truncated_instant(unit, t).ok_or_else(refused),
            )?;
            let truncated = truncated.as_primitive::<TimestampMicrosecondType>().clone();
            Ok(Arc::new(truncated.with_data_type(returns.to_arrow())))
        }
    }
}

fn truncated_instant(unit: Unit, micros: i64) -> Option<i64> {
    let to = |step: i64| Some(micros.div_euclid(step) * step);
    let days = micros.div_euclid(DAY_MICROS);
    let (year, month, _) = civil_from_days(days);
    let first = |year, month| Some(days_from_civil(year, month, 1) * DAY_MICROS);
    match unit {
        Unit::Microseconds => Some(micros),
        Unit::Milliseconds => to(1000),
        Unit::Second => to(SECOND),
        Unit::Minute => to(60 * SECOND),
        Unit::Hour => to(3600 * SECOND),
        Unit::Day => to(DAY_MICROS),
        Unit::Week => Some((days - (days + 3).rem_euclid(7)) * DAY_MICROS),
        Unit::Month => first(year, month),
        Unit::Quarter => first(year, (month - 1) / 3 * 3 + 1),
        Unit::Year => first(year, 1),
        Unit::Decade => first(year.div_euclid(10) * 10, 1),
        // Centuries and millennia begin with a year 1.
        Unit::Century => first((year - 1).div_euclid(100) * 100 + 1, 1),
        Unit::Millennium => first((year - 1).div_euclid(1000) * 1000 + 1, 1),
        _ => None,
    }
}

fn truncated_interval(unit: Unit, v: IntervalMonthDayNano) -> Option<IntervalMonthDayNano> {
    let time = |step: i64| {
        let step = step * 1000;
        Some(IntervalMonthDayNano::new(
            v.months,
            v.days,
            v.nanoseconds / step * step,
        ))
    };
    let months = |step: i32| Some(IntervalMonthDayNano::new(v.months / step * step, 0, 0));
    match unit {
        Unit::Microseconds => time(1),
        Unit::Milliseconds => time(1000),
        Unit::Second => time(SECOND),
        Unit::Minute => time(60 * SECOND),
        Unit::Hour => time(3600 * SECOND),
        Unit::Day => Some(IntervalMonthDayNano::new(v.months, v.days, 0)),
        Unit::Month => months(1),
        Unit::Quarter => months(3),
        Unit::Year => months(12),
        Unit::Decade => months(120),
        Unit::Century => months(1200),
        Unit::Millennium => months(12_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_are_those_of_iso_8601() {
        for (date, expected) in [
            ((2021, 1, 1), (2020, 53)),
            ((2024, 1, 1), (2024, 1)),
            ((2024, 12, 30), (2025, 1)),
        ] {
            assert_eq!(iso_week(days_from_civil(date.0, date.1, date.2)), expected);
        }
    }

    #[test]
    fn centuries_begin_with_a_year_1() {
        assert_eq!(in_hundreds(2000, 100), 20);
        assert_eq!(in_hundreds(2001, 100), 21);
        assert_eq!(in_hundreds(0, 100), -1);
    }
}
