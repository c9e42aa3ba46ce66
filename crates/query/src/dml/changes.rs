//! Rows as changes of a write set.

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use chronos_model::{
    encode_key, encode_row, text, value_at, BatchChange, Change, ColumnSchema, Expect, Key, Kind,
    Period, RowChange, RowChanges, SqlState, TableSchema, Value,
};

use crate::QueryError;

/// From how many rows on an INSERT travels as columns instead of rows.
const COLUMNAR_ROWS_MIN: usize = 128;

/// What stands before rows of a table that was altered: which shape they were made for.
pub fn expected_shape(table: &TableSchema) -> Option<Change> {
    let version = table.shape.version;
    (version > 0).then_some(Change::ExpectShape(table.id, version))
}

/// A change that deletes a row.
pub fn removal(key: Key) -> RowChange {
    RowChange {
        key,
        expect: Expect::Unchanged,
        kind: Kind::Delete,
        row: Bytes::new(),
        valid: None,
    }
}

/// The keys in the first column of a batch.
pub fn keys(batch: &RecordBatch) -> Result<Vec<Key>, QueryError> {
    let column = arrow_cast::cast(batch.column(0), &arrow_schema::DataType::BinaryView);
    let column = column.map_err(|e| {
        let message = format!("the key column is unreadable: {e}");
        QueryError::new(SqlState::INTERNAL, message)
    })?;
    let column = column.as_binary_view();
    Ok((0..batch.num_rows())
        .map(|row| Key(column.value(row).into()))
        .collect())
}

/// A change that erases all that a row ever was.
pub fn erasure(key: Key) -> RowChange {
    RowChange {
        expect: Expect::Any,
        kind: Kind::Erase,
        ..removal(key)
    }
}

/// A change that writes a row.
pub fn put(key: Key, values: &[Value], expect: Expect) -> RowChange {
    let mut row = Vec::with_capacity(16 + values.len() * 12);
    encode_row(values, &mut row);
    RowChange {
        key,
        expect,
        kind: Kind::Put,
        row: row.into(),
        valid: None,
    }
}

/// The values of one row of a batch in the table's columns.
pub fn row_values(
    table: &TableSchema,
    batch: &RecordBatch,
    row: usize,
) -> Result<Vec<Value>, QueryError> {
    table
        .columns
        .iter()
        .zip(batch.columns())
        .map(|(c, array)| Ok(value_at(array, row, &c.data_type)?))
        .collect()
}

/// The key of a row.
pub fn key_of(table: &TableSchema, values: &[Value]) -> Result<Key, QueryError> {
    if table.has_hidden_key() {
        return Ok(Key::default());
    }
    let key: Vec<Value> = table
        .primary_key
        .iter()
        .map(|&c| values[c].clone())
        .collect();
    encode_key(table, &key).map_err(|e| match e {
        chronos_model::KeyError::Null { column } => not_null_violation(table, &column, values),
        chronos_model::KeyError::Data(e) => e.into(),
    })
}

/// New rows as changes: few as rows, many as columns. `periods`: when each is true; empty: from
/// when they are recorded until changed.
pub fn insertions(
    table: &TableSchema,
    rows: RecordBatch,
    expect: Expect,
    periods: &[Option<Period>],
) -> Result<Change, QueryError> {
    let has_periods = periods.iter().any(Option::is_some);
    if rows.num_rows() >= COLUMNAR_ROWS_MIN && !has_periods {
        let batch = RecordBatch::try_new(table.arrow_schema(), rows.columns().to_vec())
            .map_err(|e| QueryError::new(SqlState::INTERNAL, e.to_string()))?;
        return Ok(Change::Batch(BatchChange {
            table: table.id,
            expect,
            batch,
        }));
    }
    row_insertions(table, &rows, expect, periods)
}

/// New rows as single changes.
pub fn row_insertions(
    table: &TableSchema,
    rows: &RecordBatch,
    expect: Expect,
    periods: &[Option<Period>],
) -> Result<Change, QueryError> {
    let rows = (0..rows.num_rows())
        .map(|row| {
            let values = row_values(table, rows, row)?;
            Ok(RowChange {
                valid: periods.get(row).copied().flatten(),
                ..put(key_of(table, &values)?, &values, expect)
            })
        })
        .collect::<Result<Vec<_>, QueryError>>()?;
    Ok(Change::Rows(RowChanges {
        table: table.id,
        rows,
    }))
}

/// Errors with 23502 when a NOT NULL column holds a NULL, generated ones not counted: they
/// are computed later.
pub(crate) fn check_given_not_null(
    table: &TableSchema,
    rows: &RecordBatch,
) -> Result<(), QueryError> {
    not_null(table, rows, |column| column.attributes.generated.is_none())
}

/// Errors with 23502 when a NOT NULL column holds a NULL.
pub fn check_not_null(table: &TableSchema, rows: &RecordBatch) -> Result<(), QueryError> {
    not_null(table, rows, |_| true)
}

fn not_null(
    table: &TableSchema,
    rows: &RecordBatch,
    counts: impl Fn(&ColumnSchema) -> bool,
) -> Result<(), QueryError> {
    for (column, array) in table.columns.iter().zip(rows.columns()) {
        if !column.nullable && counts(column) && array.null_count() > 0 {
            let row = (0..array.len()).find(|&i| array.is_null(i)).unwrap_or(0);
            return Err(not_null_violation(
                table,
                &column.name,
                &row_values(table, rows, row)?,
            ));
        }
    }
    Ok(())
}

/// 23502, with the row as PostgreSQL shows it.
pub fn not_null_violation(table: &TableSchema, column: &str, row: &[Value]) -> QueryError {
    let message = format!(
        "null value in column \"{column}\" of relation \"{}\" violates not-null constraint",
        table.name
    );
    let mut error = failing_row(SqlState::NOT_NULL_VIOLATION, message, table, row);
    error.column = Some(column.to_owned());
    error
}

/// 23514.
pub(crate) fn check_violation(table: &TableSchema, check: &str, row: &[Value]) -> QueryError {
    let message = format!(
        "new row for relation \"{}\" violates check constraint \"{check}\"",
        table.name
    );
    let mut error = failing_row(SqlState::CHECK_VIOLATION, message, table, row);
    error.constraint = Some(check.to_owned());
    error
}

fn failing_row(code: SqlState, message: String, table: &TableSchema, row: &[Value]) -> QueryError {
    let shown = |v: &Value| match v.is_null() {
        true => "null".to_owned(),
        false => text::format(v),
    };
    let shown: Vec<String> = row.iter().map(shown).collect();
    let mut error = QueryError::new(code, message)
        .with_detail(format!("Failing row contains ({}).", shown.join(", ")));
    error.table = Some(table.name.clone());
    error
}

/// 428C9: a value is given for a generated column.
pub(crate) fn not_assignable(column: &ColumnSchema) -> QueryError {
    let name = &column.name;
    let message = format!("cannot insert a non-DEFAULT value into column \"{name}\"");
    let error = QueryError::new(SqlState("428C9"), message).with_detail(why_not(column));
    match column.attributes.generated {
        Some(_) => error,
        None => error.with_hint("Use OVERRIDING SYSTEM VALUE to override."),
    }
}

/// 428C9: a generated column is set to something.
pub(crate) fn not_updatable(column: &ColumnSchema) -> QueryError {
    let message = format!("column \"{}\" can only be updated to DEFAULT", column.name);
    QueryError::new(SqlState("428C9"), message).with_detail(why_not(column))
}

fn why_not(column: &ColumnSchema) -> String {
    let name = &column.name;
    match column.attributes.generated {
        Some(_) => format!("Column \"{name}\" is a generated column."),
        None => format!("Column \"{name}\" is an identity column defined as GENERATED ALWAYS."),
    }
}
