//! Arrow columns as text, cell by cell.
//!
//! Owns how a value looks in JSON and CSV. A [`Column`] is made once per batch, with its
//! array downcast, and then asked row after row; no value becomes an object of its own.
//! Kinds of arrays that only differ in width are first cast to the widest, so that few
//! kinds remain.
//!
//! | SQL | JSON | CSV |
//! |---|---|---|
//! | integers | number | the same |
//! | floats | shortest number that reads back; `"NaN"`, `"Infinity"`, `"-Infinity"` | the same, bare |
//! | numeric | number up to 15 significant digits (exact as a double), else string | all digits |
//! | timestamptz, timestamp | `"2024-01-01T00:00:00.5Z"`, without `Z` | the same, bare |
//! | json, jsonb | the value itself | its text |
//! | bytea | `"\\x00ff"` | the same, bare |
//! | arrays, vectors, rows | array, array, object | their JSON |
//! | NULL | `null` | nothing (an empty text is `""`) |

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type, IntervalMonthDayNanoType,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float32Array,
    Float64Array, Int64Array, IntervalMonthDayNanoArray, StringViewArray, Time64MicrosecondArray,
    UInt64Array,
};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_cast::cast;
use arrow_schema::{ArrowError, DataType as Arrow, Field, IntervalUnit, TimeUnit};
use chronos_model::{text, DataType, Interval};

use super::json::{write_embedded_json, write_json_string};

/// Significant decimal digits that every double holds.
const EXACT_DIGITS_LIMIT: u128 = 1_000_000_000_000_000;

/// A column of a batch, ready to be written.
pub(crate) struct Column {
    nulls: Option<NullBuffer>,
    cells: Cells,
}

enum Cells {
    Null,
    Bool(BooleanArray),
    Int(Int64Array),
    UInt(UInt64Array),
    Float4(Float32Array),
    Float8(Float64Array),
    /// `true`: of no declared scale, so trailing zeros are not shown.
    Numeric(Decimal128Array, i8, bool),
    Text(StringViewArray),
    /// JSON and JSONB.
    Json(StringViewArray),
    Bytea(BinaryViewArray),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    Timestamp {
        values: ScalarBuffer<i64>,
        units_per_second: i64,
        zone: &'static [u8],
    },
    Interval(IntervalMonthDayNanoArray),
    /// Items of row r: `starts[r]..starts[r + 1]`.
    List(Vec<usize>, Box<Column>),
    Row(Vec<(Vec<u8>, Column)>),
}

impl Column {
    /// Errors: an array that has no text form.
    pub(crate) fn new(array: &ArrayRef, field: &Field) -> Result<Column, ArrowError> {
        let nulls = array.logical_nulls();
        let cells = Cells::new(array, field)?;
        Ok(Column { nulls, cells })
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|n| n.is_null(row))
    }

    /// Appends the cell as JSON.
    #[inline]
    pub(crate) fn write_json(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match &self.cells {
            Cells::Text(array) => write_json_string(array.value(row), out),
            Cells::Json(array) => write_embedded_json(array.value(row), out),
            Cells::Float4(array) if !array.value(row).is_finite() => self.write_quoted(row, out),
            Cells::Float8(array) if !array.value(row).is_finite() => self.write_quoted(row, out),
            Cells::Numeric(array, scale, _) if !is_exact(array.value(row), *scale) => {
                self.write_quoted(row, out)
            }
            Cells::Bytea(_) => {
                // The backslash of \x is the only character that needs an escape.
                out.extend_from_slice(b"\"\\");
                self.write_plain(row, out);
                out.push(b'"');
            }
            Cells::Date(_) | Cells::Time(_) | Cells::Timestamp { .. } | Cells::Interval(_) => {
                self.write_quoted(row, out)
            }
            _ => self.write_plain(row, out),
        }
    }

    fn write_quoted(&self, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        self.write_plain(row, out);
        out.push(b'"');
    }

    /// Appends the cell as a field of RFC 4180.
    #[inline]
    pub(crate) fn write_csv(&self, row: usize, out: &mut Vec<u8>) {
        if self.is_null(row) {
            return;
        }
        match &self.cells {
            Cells::Text(array) | Cells::Json(array) => {
                write_csv_field(array.value(row).as_bytes(), out)
            }
            Cells::List(..) | Cells::Row(_) => {
                let mut json = Vec::new();
                self.write_plain(row, &mut json);
                write_csv_field(&json, out);
            }
            _ => self.write_plain(row, out),
        }
    }

    /// Appends a cell that is not NULL, without quotes around it.
    fn write_plain(&self, row: usize, out: &mut Vec<u8>) {
        match &self.cells {
            Cells::Null => out.extend_from_slice(b"null"),
            Cells::Bool(a) if a.value(row) => out.extend_from_slice(b"true"),
            Cells::Bool(_) => out.extend_from_slice(b"false"),
            Cells::Int(a) => text::write_i64(a.value(row), out),
            Cells::UInt(a) => {
                out.extend_from_slice(itoa::Buffer::new().format(a.value(row)).as_bytes())
            }
            Cells::Float4(a) => text::write_f32(a.value(row), out),
            Cells::Float8(a) => text::write_f64(a.value(row), out),
            Cells::Numeric(a, scale, true) => {
                text::write_decimal_trimmed(a.value(row), *scale, out)
            }
            Cells::Numeric(a, scale, false) => text::write_decimal(a.value(row), *scale, out),
            Cells::Text(a) | Cells::Json(a) => out.extend_from_slice(a.value(row).as_bytes()),
            Cells::Bytea(a) => text::write_bytea(a.value(row), out),
            Cells::Date(a) => text::write_date(a.value(row), out),
            Cells::Time(a) => text::write_time(a.value(row), out),
            Cells::Timestamp {
                values,
                units_per_second,
                zone,
            } => write_iso_timestamp(values[row], *units_per_second, zone, out),
            Cells::Interval(a) => {
                let v = a.value(row);
                let interval = Interval {
                    months: v.months,
                    days: v.days,
                    nanos: v.nanoseconds,
                };
                text::write_interval(interval, out);
            }
            Cells::List(starts, items) => {
                out.push(b'[');
                for (i, item) in (starts[row]..starts[row + 1]).enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    items.write_json(item, out);
                }
                out.push(b']');
            }
            Cells::Row(fields) => {
                out.push(b'{');
                for (i, (name, column)) in fields.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    out.extend_from_slice(name);
                    out.push(b':');
                    column.write_json(row, out);
                }
                out.push(b'}');
            }
        }
    }
}

impl Cells {
    fn new(array: &ArrayRef, field: &Field) -> Result<Cells, ArrowError> {
        use arrow_schema::DataType as A;
        Ok(match array.data_type() {
            A::Null => Cells::Null,
            A::Boolean => Cells::Bool(array.as_boolean().clone()),
            A::Int8 | A::Int16 | A::Int32 | A::UInt8 | A::UInt16 | A::UInt32 | A::Int64 => {
                Cells::Int(cast(array, &A::Int64)?.as_primitive::<Int64Type>().clone())
            }
            A::UInt64 => Cells::UInt(array.as_primitive::<UInt64Type>().clone()),
            A::Float16 | A::Float32 => {
                let array = cast(array, &A::Float32)?;
                Cells::Float4(array.as_primitive::<Float32Type>().clone())
            }
            A::Float64 => Cells::Float8(array.as_primitive::<Float64Type>().clone()),
            A::Decimal32(_, scale) | A::Decimal64(_, scale) | A::Decimal128(_, scale) => {
                let array = cast(array, &A::Decimal128(38, *scale))?;
                let is_bare = DataType::of_field(field) == DataType::Numeric(None);
                let array = array.as_primitive::<Decimal128Type>().clone();
                let scale = array.scale();
                Cells::Numeric(array, scale, is_bare)
            }
            A::Utf8 | A::LargeUtf8 | A::Utf8View => {
                let array = cast(array, &A::Utf8View)?.as_string_view().clone();
                match DataType::of_field(field) {
                    DataType::Json | DataType::Jsonb => Cells::Json(array),
                    _ => Cells::Text(array),
                }
            }
            A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => {
                let array = match array.data_type() {
                    A::FixedSizeBinary(_) => cast(array, &A::Binary)?,
                    _ => array.clone(),
                };
                Cells::Bytea(cast(&array, &A::BinaryView)?.as_binary_view().clone())
            }
            A::Date32 | A::Date64 => Cells::Date(
                cast(array, &A::Date32)?
                    .as_primitive::<Date32Type>()
                    .clone(),
            ),
            A::Time32(_) | A::Time64(_) => {
                let array = cast(array, &A::Time64(TimeUnit::Microsecond))?;
                Cells::Time(array.as_primitive::<Time64MicrosecondType>().clone())
            }
            A::Timestamp(unit, zone) => timestamps(array, *unit, zone.is_some()),
            A::Interval(_) | A::Duration(_) => {
                let array = cast(array, &A::Interval(IntervalUnit::MonthDayNano))?;
                Cells::Interval(array.as_primitive::<IntervalMonthDayNanoType>().clone())
            }
            A::List(item) | A::ListView(item) | A::LargeListView(item) => {
                let array = cast(array, &A::List(item.clone()))?;
                let list = array.as_list::<i32>();
                let starts = list.offsets().iter().map(|o| *o as usize).collect();
                Cells::List(starts, Box::new(Column::new(list.values(), item)?))
            }
            A::LargeList(item) => {
                let list = array.as_list::<i64>();
                let starts = list.offsets().iter().map(|o| *o as usize).collect();
                Cells::List(starts, Box::new(Column::new(list.values(), item)?))
            }
            A::FixedSizeList(item, length) => {
                let starts = (0..=array.len()).map(|r| r * *length as usize).collect();
                let items = array.as_fixed_size_list().values();
                Cells::List(starts, Box::new(Column::new(items, item)?))
            }
            A::Struct(fields) => {
                let columns = array.as_struct().columns().iter().zip(fields);
                let columns = columns.map(|(column, field)| {
                    let mut name = Vec::new();
                    write_json_string(field.name(), &mut name);
                    Ok((name, Column::new(column, field)?))
                });
                Cells::Row(columns.collect::<Result<_, ArrowError>>()?)
            }
            A::Dictionary(_, value) => Cells::new(&cast(array, value)?, field)?,
            _ => Cells::Text(cast(array, &A::Utf8View)?.as_string_view().clone()),
        })
    }
}

fn timestamps(array: &ArrayRef, unit: TimeUnit, has_zone: bool) -> Cells {
    let (values, units_per_second) = match unit {
        TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().values(), 1),
        TimeUnit::Millisecond => (
            array.as_primitive::<TimestampMillisecondType>().values(),
            1_000,
        ),
        TimeUnit::Microsecond => (
            array.as_primitive::<TimestampMicrosecondType>().values(),
            1_000_000,
        ),
        TimeUnit::Nanosecond => (
            array.as_primitive::<TimestampNanosecondType>().values(),
            1_000_000_000,
        ),
    };
    Cells::Timestamp {
        values: values.clone(),
        units_per_second,
        zone: if has_zone { b"Z" } else { b"" },
    }
}

/// `2024-01-01T00:00:00[.fraction][Z]`; `infinity`, `-infinity`; years before Christ as
/// PostgreSQL shows them.
fn write_iso_timestamp(value: i64, units_per_second: i64, zone: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if value == i64::MAX || value == i64::MIN {
        return text::write_timestamp(value, out);
    }
    let seconds = value.div_euclid(units_per_second);
    text::write_timestamp(seconds.saturating_mul(1_000_000), out);
    match out[start..].iter().position(|b| *b == b' ') {
        Some(blank) => out[start + blank] = b'T',
        None => return,
    }
    let is_before_christ = out.ends_with(b" BC");
    if is_before_christ {
        out.truncate(out.len() - 3);
    }
    let mut fraction = value.rem_euclid(units_per_second);
    if fraction != 0 {
        out.push(b'.');
        let mut unit = units_per_second / 10;
        while fraction != 0 {
            out.push(b'0' + (fraction / unit) as u8);
            fraction %= unit;
            unit = (unit / 10).max(1);
        }
    }
    out.extend_from_slice(zone);
    if is_before_christ {
        out.extend_from_slice(b" BC");
    }
}

/// Whether reading the number as a double and writing it again gives all its digits.
fn is_exact(mut unscaled: i128, scale: i8) -> bool {
    if unscaled.unsigned_abs() < EXACT_DIGITS_LIMIT {
        return scale < 100;
    }
    while unscaled % 10 == 0 {
        unscaled /= 10;
    }
    unscaled.unsigned_abs() < EXACT_DIGITS_LIMIT
}

/// Appends a field, in quotes where RFC 4180 asks for them, where blanks at its ends
/// could get lost, and where it is empty: bare emptiness is NULL.
pub(crate) fn write_csv_field(field: &[u8], out: &mut Vec<u8>) {
    let is_special = |b: &u8| matches!(b, b',' | b'"' | b'\r' | b'\n');
    let is_blank = |b: Option<&u8>| matches!(b, None | Some(b' ' | b'\t'));
    if !is_blank(field.first()) && !is_blank(field.last()) && !field.iter().any(is_special) {
        return out.extend_from_slice(field);
    }
    out.push(b'"');
    for part in field.split_inclusive(|b| *b == b'"') {
        out.extend_from_slice(part);
        if part.ends_with(b"\"") {
            out.push(b'"');
        }
    }
    out.push(b'"');
}

/// The Arrow type in which a column leaves by Arrow IPC. Views become plain arrays: not
/// every client reads views, and a slice of them would carry all their buffers.
pub(crate) fn ipc_type(arrow: &Arrow) -> Arrow {
    let item = |f: &Field| std::sync::Arc::new(f.clone().with_data_type(ipc_type(f.data_type())));
    match arrow {
        Arrow::Utf8View => Arrow::Utf8,
        Arrow::BinaryView => Arrow::Binary,
        Arrow::List(f) => Arrow::List(item(f)),
        Arrow::LargeList(f) => Arrow::LargeList(item(f)),
        Arrow::FixedSizeList(f, n) => Arrow::FixedSizeList(item(f), *n),
        Arrow::Dictionary(_, value) => ipc_type(value),
        other => other.clone(),
    }
}
