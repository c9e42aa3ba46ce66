//! Columns that show when a row is true (`PERIOD FOR VALID_TIME (a, b)`): their values follow
//! from the row's period, whatever was stored of them.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, TimestampMicrosecondArray};
use chronos_model::{text, DataType, Period, SqlState, TableSchema, Value};

use crate::QueryError;

/// The bounds as SQL shows them: open ones are NULL.
fn bounds(period: Period) -> [Option<i64>; 2] {
    [
        Some(period.from).filter(|from| *from != Period::BEGINNING),
        Some(period.to).filter(|to| *to != Period::UNTIL_CHANGED),
    ]
}

/// The period of bounds as SQL gives them.
pub(super) fn period(from: Option<i64>, to: Option<i64>) -> Period {
    Period {
        from: from.unwrap_or(Period::BEGINNING),
        to: to.unwrap_or(Period::UNTIL_CHANGED),
    }
}

/// The rows with each one's period in the columns that show it. A row without one stays as it is.
pub fn show_periods<'a>(
    table: &TableSchema,
    rows: RecordBatch,
    periods: impl Iterator<Item = &'a Option<Period>> + Clone,
) -> Result<RecordBatch, QueryError> {
    let Some(positions) = table.period_columns() else {
        return Ok(rows);
    };
    let mut columns = rows.columns().to_vec();
    for (bound, position) in positions.into_iter().enumerate() {
        let before = super::moments(&columns[position])?;
        let shown = periods.clone().zip(before);
        let shown = shown.map(|(period, before)| period.map_or(before, |p| bounds(p)[bound]));
        let shown: TimestampMicrosecondArray = shown.collect();
        let shown = shown.with_data_type(DataType::TimestampTz.to_arrow());
        columns[position] = Arc::new(shown) as ArrayRef;
    }
    RecordBatch::try_new(rows.schema(), columns)
        .map_err(|e| QueryError::new(SqlState::INTERNAL, e.to_string()))
}

/// A row's values with its period in the columns that show it.
pub fn show_period(table: &TableSchema, values: &mut [Value], period: Period) {
    let Some(positions) = table.period_columns() else {
        return;
    };
    for (position, bound) in positions.into_iter().zip(bounds(period)) {
        values[position] = bound.map_or(Value::Null, Value::TimestampTz);
    }
}

/// When each of the rows of a batch in the table's columns is true, as its columns say; none, if
/// no columns say that.
///
/// Errors: a period ends before it begins, or is empty (22023).
pub fn given_periods(
    table: &TableSchema,
    rows: &RecordBatch,
) -> Result<Vec<Option<Period>>, QueryError> {
    let periods = periods_in(table, rows)?.unwrap_or_default();
    Ok(periods.into_iter().map(Some).collect())
}

/// The same; `None`: no columns say it.
pub(super) fn periods_in(
    table: &TableSchema,
    rows: &RecordBatch,
) -> Result<Option<Vec<Period>>, QueryError> {
    let Some([from, to]) = table.period_columns() else {
        return Ok(None);
    };
    let (from, to) = (
        super::moments(rows.column(from))?,
        super::moments(rows.column(to))?,
    );
    let pairs = from.into_iter().zip(to);
    let periods = pairs.map(|(from, to)| not_empty(table, period(from, to)));
    periods.collect::<Result<Vec<_>, _>>().map(Some)
}

/// 22023 for a period in which nothing can be true.
pub(super) fn not_empty(table: &TableSchema, period: Period) -> Result<Period, QueryError> {
    if !period.is_empty() {
        return Ok(period);
    }
    let shown = |micros| text::format(&Value::TimestampTz(micros));
    let message = format!(
        "a row of \"{}\" cannot be true from {} to {}: the period must end after it begins",
        table.name,
        shown(period.from),
        shown(period.to)
    );
    Err(QueryError::new(SqlState::INVALID_PARAMETER, message))
}
