//! `PERIOD FOR VALID_TIME (a, b)` in CREATE TABLE: two columns that show, and give, when a row is
//! true. The rewriter has made a CHECK of a name of its own of it, which a parser can carry.

use chronos_model::{IndexSchema, PeriodBound, SqlState, TableSchema, Uniqueness};
use datafusion::sql::sqlparser::ast;

use crate::sql::fold;
use crate::temporal::PERIOD_DECLARATION;
use crate::QueryError;

/// Whether a CHECK is what a period was rewritten to.
pub(super) fn is_declaration(check: &ast::CheckConstraint) -> bool {
    let name = check.name.as_ref();
    name.is_some_and(|name| name.value == PERIOD_DECLARATION)
}

/// Makes two columns of a new table the bounds of its rows' valid time.
///
/// Errors: a column is unknown, given twice, in the primary key, computed, or no TIMESTAMPTZ.
pub(super) fn declare(
    table: &mut TableSchema,
    check: &ast::CheckConstraint,
) -> Result<(), QueryError> {
    let wrong = |message: String| QueryError::new(SqlState::INVALID_TABLE_DEFINITION, message);
    if table.period_columns().is_some() {
        let name = &table.name;
        let message = format!("table \"{name}\" has a period of valid time already");
        return Err(wrong(message));
    }
    let ast::Expr::BinaryOp { left, right, .. } = check.expr.as_ref() else {
        return Err(wrong("PERIOD FOR VALID_TIME takes two columns".into()));
    };
    let bounds = [(left, PeriodBound::From), (right, PeriodBound::To)];
    let mut positions = Vec::with_capacity(bounds.len());
    for (column, bound) in bounds {
        let ast::Expr::Identifier(name) = column.as_ref() else {
            return Err(wrong("PERIOD FOR VALID_TIME takes two columns".into()));
        };
        let name = fold(name);
        let Some(position) = table.column_index(&name) else {
            let message = format!("column \"{name}\" named in period does not exist");
            return Err(QueryError::new(SqlState::UNDEFINED_COLUMN, message));
        };
        if positions.contains(&position) {
            let message = format!("column \"{name}\" appears twice in period");
            return Err(QueryError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        positions.push(position);
        if table.primary_key.contains(&position) {
            return Err(wrong(format!(
                "column \"{name}\" bounds the period of valid time and cannot be in the primary key: write VALID_TIME WITHOUT OVERLAPS there"
            )));
        }
        let column = &mut table.columns[position];
        let attributes = &column.attributes;
        if attributes.generated.is_some() || attributes.identity.is_some() {
            return Err(wrong(format!(
                "column \"{name}\" is computed and cannot bound a period"
            )));
        }
        if column.data_type != chronos_model::DataType::TimestampTz {
            let message = format!("a period of columns of type {}", column.data_type);
            return Err(QueryError::unsupported(message)
                .with_hint("Columns that bound a period are TIMESTAMPTZ."));
        }
        column.attributes.bound = Some(bound);
    }
    Ok(())
}

/// Refuses indexes that would be built from what is stored of such columns, and unique ones,
/// which know one row of a key.
pub(super) fn check_index(table: &TableSchema, index: &IndexSchema) -> Result<(), QueryError> {
    let Some(period) = table.period_columns() else {
        return Ok(());
    };
    if index.unique != Uniqueness::No {
        return Err(QueryError::unsupported(format!(
            "a unique index on table \"{}\", which has a period of valid time",
            table.name
        )));
    }
    let columns = index.columns.iter().map(|c| c.column);
    let mut columns = columns.chain(index.conditions.iter().map(|c| c.column));
    match columns.find(|column| period.contains(column)) {
        None => Ok(()),
        Some(column) => Err(QueryError::unsupported(format!(
            "an index on \"{}\", which bounds a period of valid time",
            table.columns[column].name
        ))),
    }
}

/// 2BP01: a column goes, and bounds the period.
pub(super) fn refuse_drop(table: &TableSchema, position: usize) -> Result<(), QueryError> {
    let column = &table.columns[position];
    if column.attributes.bound.is_none() {
        return Ok(());
    }
    let (name, table) = (&column.name, &table.name);
    let message =
        format!("cannot drop column {name} of table {table} because other objects depend on it");
    let detail =
        format!("period valid_time of table {table} depends on column {name} of table {table}");
    Err(QueryError::new(SqlState("2BP01"), message).with_detail(detail))
}
