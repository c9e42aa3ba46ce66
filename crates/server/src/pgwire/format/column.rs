//! Arrow columns as a source of [`Cell`]s. The Arrow type is looked at once per
//! batch; a cell then costs one match.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Decimal128Type, Decimal256Type, Decimal32Type,
    Decimal64Type, Float16Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Int8Type, IntervalDayTime, IntervalDayTimeType, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalYearMonthType, UInt16Type, UInt32Type, UInt64Type, UInt8Type,
};
use arrow_array::{
    Array, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, Float16Array,
    LargeBinaryArray, LargeStringArray, StringArray, StringViewArray,
};
use arrow_buffer::{i256, NullBuffer};
use arrow_schema::{DataType as Arrow, IntervalUnit, TimeUnit};
use chronos_model::{DataError, DataType, Decimal, Interval};

use super::cell::{Cell, Items};

/// A column of a batch.
pub(super) struct Column<'a> {
    nulls: Option<NullBuffer>,
    cells: Cells<'a>,
}

/// How many microseconds a tick is, or how many ticks a microsecond.
#[derive(Clone, Copy)]
enum Ticks {
    Micros(i64),
    PerMicro(i64),
}

impl Ticks {
    fn of(unit: TimeUnit) -> Ticks {
        match unit {
            TimeUnit::Second => Ticks::Micros(1_000_000),
            TimeUnit::Millisecond => Ticks::Micros(1_000),
            TimeUnit::Microsecond => Ticks::Micros(1),
            TimeUnit::Nanosecond => Ticks::PerMicro(1_000),
        }
    }

    fn to_micros(self, ticks: i64) -> Result<i64, DataError> {
        match self {
            Ticks::Micros(1) => Ok(ticks),
            Ticks::Micros(size) => ticks
                .checked_mul(size)
                .ok_or_else(|| out_of_range(ticks, "timestamp")),
            Ticks::PerMicro(count) => Ok(ticks.div_euclid(count)),
        }
    }

    fn to_nanos(self, ticks: i64) -> Result<i64, DataError> {
        let nanos = match self {
            Ticks::Micros(size) => ticks.checked_mul(size * 1_000),
            Ticks::PerMicro(_) => Some(ticks),
        };
        nanos.ok_or_else(|| out_of_range(ticks, "interval"))
    }
}

fn out_of_range(value: impl ToString, type_name: &str) -> DataError {
    DataError::OutOfRange {
        type_name: type_name.to_owned(),
        text: value.to_string(),
    }
}

enum Cells<'a> {
    Null,
    Bool(&'a BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    F16(&'a Float16Array),
    F32(&'a [f32]),
    F64(&'a [f64]),
    D32(&'a [i32], i8),
    D64(&'a [i64], i8),
    D128(&'a [i128], i8),
    D256(&'a [i256], i8),
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    FixedBinary(&'a FixedSizeBinaryArray),
    Date32(&'a [i32]),
    Date64(&'a [i64]),
    Time32(&'a [i32], Ticks),
    Time64(&'a [i64], Ticks),
    Timestamp(&'a [i64], Ticks),
    Duration(&'a [i64], Ticks),
    Months(&'a [i32]),
    DayTime(&'a [IntervalDayTime]),
    MonthDayNano(&'a [IntervalMonthDayNano]),
    List(Ranges<'a>, Box<Column<'a>>),
    /// Values and how many make a vector.
    Vector(&'a [f32], usize),
    /// For each row its place in the values.
    Dictionary(Vec<usize>, Box<Column<'a>>),
    Struct(Vec<Member<'a>>),
    /// Keys and values.
    Map(&'a [i32], Box<(Member<'a>, Member<'a>)>),
}

/// Where the items of a list's rows stand.
enum Ranges<'a> {
    Offsets(&'a [i32]),
    LargeOffsets(&'a [i64]),
    /// Offsets and sizes.
    Views(&'a [i32], &'a [i32]),
    Fixed(usize),
}

impl Ranges<'_> {
    fn at(&self, row: usize) -> Range<usize> {
        match self {
            Ranges::Offsets(o) => o[row] as usize..o[row + 1] as usize,
            Ranges::LargeOffsets(o) => o[row] as usize..o[row + 1] as usize,
            Ranges::Views(o, sizes) => o[row] as usize..(o[row] + sizes[row]) as usize,
            Ranges::Fixed(size) => row * size..(row + 1) * size,
        }
    }
}

/// A member of a struct.
pub(super) struct Member<'a> {
    pub(super) name: &'a str,
    pub(super) data_type: DataType,
    column: Column<'a>,
}

fn values<T: ArrowPrimitiveType>(array: &dyn Array) -> &[T::Native] {
    array.as_primitive::<T>().values()
}

/// Values of a type that is a 64-bit integer in memory, whatever its unit.
macro_rules! ticks {
    ($array:expr, $unit:expr, $($variant:ident => $t:ident),+) => {
        match $unit { $(TimeUnit::$variant => values::<arrow_array::types::$t>($array)),+ }
    };
}

impl<'a> Column<'a> {
    /// A view of an Arrow array.
    ///
    /// Errors: SQL has nothing of the array's type (unions, run ends).
    pub(super) fn of(array: &'a dyn Array) -> Result<Column<'a>, DataError> {
        let cells = match array.data_type() {
            Arrow::Null => Cells::Null,
            Arrow::Boolean => Cells::Bool(array.as_boolean()),
            Arrow::Int8 => Cells::I8(values::<Int8Type>(array)),
            Arrow::Int16 => Cells::I16(values::<Int16Type>(array)),
            Arrow::Int32 => Cells::I32(values::<Int32Type>(array)),
            Arrow::Int64 => Cells::I64(values::<Int64Type>(array)),
            Arrow::UInt8 => Cells::U8(values::<UInt8Type>(array)),
            Arrow::UInt16 => Cells::U16(values::<UInt16Type>(array)),
            Arrow::UInt32 => Cells::U32(values::<UInt32Type>(array)),
            Arrow::UInt64 => Cells::U64(values::<UInt64Type>(array)),
            Arrow::Float16 => Cells::F16(array.as_primitive::<Float16Type>()),
            Arrow::Float32 => Cells::F32(values::<Float32Type>(array)),
            Arrow::Float64 => Cells::F64(values::<Float64Type>(array)),
            Arrow::Decimal32(_, s) => Cells::D32(values::<Decimal32Type>(array), *s),
            Arrow::Decimal64(_, s) => Cells::D64(values::<Decimal64Type>(array), *s),
            Arrow::Decimal128(_, s) => Cells::D128(values::<Decimal128Type>(array), *s),
            Arrow::Decimal256(_, s) => Cells::D256(values::<Decimal256Type>(array), *s),
            Arrow::Utf8 => Cells::Utf8(array.as_string()),
            Arrow::LargeUtf8 => Cells::LargeUtf8(array.as_string()),
            Arrow::Utf8View => Cells::Utf8View(array.as_string_view()),
            Arrow::Binary => Cells::Binary(array.as_binary()),
            Arrow::LargeBinary => Cells::LargeBinary(array.as_binary()),
            Arrow::BinaryView => Cells::BinaryView(array.as_binary_view()),
            Arrow::FixedSizeBinary(_) => Cells::FixedBinary(array.as_fixed_size_binary()),
            Arrow::Date32 => Cells::Date32(values::<Date32Type>(array)),
            Arrow::Date64 => Cells::Date64(values::<Date64Type>(array)),
            Arrow::Interval(IntervalUnit::YearMonth) => {
                Cells::Months(values::<IntervalYearMonthType>(array))
            }
            Arrow::Interval(IntervalUnit::DayTime) => {
                Cells::DayTime(values::<IntervalDayTimeType>(array))
            }
            Arrow::Interval(IntervalUnit::MonthDayNano) => {
                Cells::MonthDayNano(values::<IntervalMonthDayNanoType>(array))
            }
            Arrow::Time32(_) | Arrow::Time64(_) | Arrow::Timestamp(..) | Arrow::Duration(_) => {
                times(array)?
            }
            _ => nested(array)?,
        };
        Ok(Column {
            nulls: array.nulls().cloned(),
            cells,
        })
    }

    /// The cell of a row, which is below the array's length.
    ///
    /// Errors: the value does not fit the type it is sent as.
    #[inline]
    pub(super) fn cell(&self, row: usize) -> Result<Cell<'_>, DataError> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(Cell::Null);
        }
        let decimal = |unscaled, scale| Cell::Decimal(Decimal { unscaled, scale });
        Ok(match &self.cells {
            Cells::Null => Cell::Null,
            Cells::Bool(v) => Cell::Bool(v.value(row)),
            Cells::I8(v) => Cell::Int(i64::from(v[row])),
            Cells::I16(v) => Cell::Int(i64::from(v[row])),
            Cells::I32(v) => Cell::Int(i64::from(v[row])),
            Cells::I64(v) => Cell::Int(v[row]),
            Cells::U8(v) => Cell::Int(i64::from(v[row])),
            Cells::U16(v) => Cell::Int(i64::from(v[row])),
            Cells::U32(v) => Cell::Int(i64::from(v[row])),
            Cells::U64(v) => {
                Cell::Int(i64::try_from(v[row]).map_err(|_| out_of_range(v[row], "bigint"))?)
            }
            Cells::F16(v) => Cell::Float4(v.value(row).to_f32()),
            Cells::F32(v) => Cell::Float4(v[row]),
            Cells::F64(v) => Cell::Float8(v[row]),
            Cells::D32(v, scale) => decimal(i128::from(v[row]), *scale),
            Cells::D64(v, scale) => decimal(i128::from(v[row]), *scale),
            Cells::D128(v, scale) => decimal(v[row], *scale),
            Cells::D256(v, scale) => match v[row].to_i128() {
                Some(unscaled) => decimal(unscaled, *scale),
                None => Cell::WideDecimal(&v[row], *scale),
            },
            Cells::Utf8(v) => Cell::Text(v.value(row)),
            Cells::LargeUtf8(v) => Cell::Text(v.value(row)),
            Cells::Utf8View(v) => Cell::Text(v.value(row)),
            Cells::Binary(v) => Cell::Bytes(v.value(row)),
            Cells::LargeBinary(v) => Cell::Bytes(v.value(row)),
            Cells::BinaryView(v) => Cell::Bytes(v.value(row)),
            Cells::FixedBinary(v) => Cell::Bytes(v.value(row)),
            Cells::Date32(v) => Cell::Date(v[row]),
            Cells::Date64(v) => {
                let days = v[row].div_euclid(86_400_000);
                Cell::Date(i32::try_from(days).map_err(|_| out_of_range(days, "date"))?)
            }
            Cells::Time32(v, ticks) => Cell::Time(ticks.to_micros(i64::from(v[row]))?),
            Cells::Time64(v, ticks) => Cell::Time(ticks.to_micros(v[row])?),
            Cells::Timestamp(v, ticks) => Cell::Timestamp(ticks.to_micros(v[row])?),
            Cells::Duration(v, ticks) => interval(0, 0, ticks.to_nanos(v[row])?),
            Cells::Months(v) => interval(v[row], 0, 0),
            Cells::DayTime(v) => {
                let nanos = i64::from(v[row].milliseconds) * 1_000_000;
                interval(0, v[row].days, nanos)
            }
            Cells::MonthDayNano(v) => interval(v[row].months, v[row].days, v[row].nanoseconds),
            Cells::List(ranges, items) => Cell::Items(Items::Rows(items, ranges.at(row))),
            Cells::Vector(v, width) => Cell::Vector(&v[row * width..(row + 1) * width]),
            Cells::Dictionary(places, column) => return column.cell(places[row]),
            Cells::Struct(_) | Cells::Map(..) => Cell::Object(self, row),
        })
    }

    /// The members of an object cell: name, type and value.
    pub(super) fn members<'s>(
        &'s self,
        row: usize,
        mut each: impl FnMut(Cell<'s>, &'s DataType, Cell<'s>) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        match &self.cells {
            Cells::Struct(members) => {
                for m in members {
                    each(Cell::Text(m.name), &m.data_type, m.column.cell(row)?)?;
                }
            }
            Cells::Map(offsets, entries) => {
                let (keys, values) = &**entries;
                for entry in offsets[row] as usize..offsets[row + 1] as usize {
                    let key = keys.column.cell(entry)?;
                    each(key, &values.data_type, values.column.cell(entry)?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn interval<'a>(months: i32, days: i32, nanos: i64) -> Cell<'a> {
    Cell::Interval(Interval {
        months,
        days,
        nanos,
    })
}

fn times(array: &dyn Array) -> Result<Cells<'_>, DataError> {
    use arrow_array::types::{Time32MillisecondType, Time32SecondType};
    Ok(match array.data_type() {
        Arrow::Time32(TimeUnit::Second) => Cells::Time32(
            values::<Time32SecondType>(array),
            Ticks::of(TimeUnit::Second),
        ),
        Arrow::Time32(unit) => {
            Cells::Time32(values::<Time32MillisecondType>(array), Ticks::of(*unit))
        }
        Arrow::Time64(TimeUnit::Microsecond) => Cells::Time64(
            values::<arrow_array::types::Time64MicrosecondType>(array),
            Ticks::of(TimeUnit::Microsecond),
        ),
        Arrow::Time64(unit) => Cells::Time64(
            values::<arrow_array::types::Time64NanosecondType>(array),
            Ticks::of(*unit),
        ),
        Arrow::Timestamp(unit, _) => Cells::Timestamp(
            ticks!(array, unit,
                Second => TimestampSecondType,
                Millisecond => TimestampMillisecondType,
                Microsecond => TimestampMicrosecondType,
                Nanosecond => TimestampNanosecondType),
            Ticks::of(*unit),
        ),
        Arrow::Duration(unit) => Cells::Duration(
            ticks!(array, unit,
                Second => DurationSecondType,
                Millisecond => DurationMillisecondType,
                Microsecond => DurationMicrosecondType,
                Nanosecond => DurationNanosecondType),
            Ticks::of(*unit),
        ),
        other => return Err(unsupported(other)),
    })
}

fn nested(array: &dyn Array) -> Result<Cells<'_>, DataError> {
    let column = |array| Column::of(array).map(Box::new);
    Ok(match array.data_type() {
        Arrow::List(_) => {
            let list = array.as_list::<i32>();
            Cells::List(
                Ranges::Offsets(list.value_offsets()),
                column(list.values())?,
            )
        }
        Arrow::LargeList(_) => {
            let list = array.as_list::<i64>();
            Cells::List(
                Ranges::LargeOffsets(list.value_offsets()),
                column(list.values())?,
            )
        }
        Arrow::ListView(_) => {
            let list = array.as_list_view::<i32>();
            let ranges = Ranges::Views(list.value_offsets(), list.value_sizes());
            Cells::List(ranges, column(list.values())?)
        }
        Arrow::FixedSizeList(item, size) => {
            let list = array.as_fixed_size_list();
            let size = *size as usize;
            match item.data_type() {
                Arrow::Float32 => Cells::Vector(values::<Float32Type>(list.values()), size),
                _ => Cells::List(Ranges::Fixed(size), column(list.values())?),
            }
        }
        Arrow::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            // The keys of a dictionary without values are all NULL.
            match dictionary.values().is_empty() {
                true => Cells::Null,
                false => Cells::Dictionary(
                    dictionary.normalized_keys(),
                    column(dictionary.values().as_ref())?,
                ),
            }
        }
        Arrow::Struct(fields) => {
            let members = fields.iter().zip(array.as_struct().columns());
            let members = members.map(|(field, array)| member(field, array));
            Cells::Struct(members.collect::<Result<_, _>>()?)
        }
        Arrow::Map(entries, _) => {
            let map = array.as_map();
            let Arrow::Struct(fields) = entries.data_type() else {
                return Err(unsupported(array.data_type()));
            };
            let entries = (
                member(&fields[0], map.keys())?,
                member(&fields[1], map.values())?,
            );
            Cells::Map(map.value_offsets(), Box::new(entries))
        }
        other => return Err(unsupported(other)),
    })
}

fn member<'a>(
    field: &'a arrow_schema::Field,
    array: &'a dyn Array,
) -> Result<Member<'a>, DataError> {
    Ok(Member {
        name: field.name(),
        data_type: DataType::of_field(field),
        column: Column::of(array)?,
    })
}

fn unsupported(arrow: &Arrow) -> DataError {
    DataError::InvalidType {
        reason: format!("a column of Arrow type {arrow} has no SQL form"),
    }
}
