//! Constants and texts on their way into columns: which are read as the column's type.

use chronos_model::{ColumnSchema, DataType, Kind, SqlState};
use datafusion::sql::sqlparser::ast;

use super::insert::column_of;
use super::{Insert, Modify};
use crate::engine::parse_expression;
use crate::{QueryError, QueryPlan};

/// Errors with 42804 when an INSERT gives a text that has a type to a number, a date ..: only
/// a constant without a type is read as one.
pub fn check_insert(insert: &Insert, source: &QueryPlan) -> Result<(), QueryError> {
    let columns = insert.targets.iter();
    let columns: Vec<_> = columns.map(|t| column_of(&insert.table, *t)).collect();
    check_assigned(columns.iter().map(AsRef::as_ref), source, 0)
}

/// The same of an UPDATE, whose rows come behind their keys.
pub fn check_update(modify: &Modify, source: &QueryPlan) -> Result<(), QueryError> {
    match modify.kind {
        Kind::Put => {
            let first = modify.first_column();
            check_assigned(modify.table.columns.iter(), source, first)
        }
        Kind::Delete | Kind::Erase => Ok(()),
    }
}

fn check_assigned<'a>(
    columns: impl Iterator<Item = &'a ColumnSchema>,
    source: &QueryPlan,
    first: usize,
) -> Result<(), QueryError> {
    // What a parameter is follows from where it goes.
    if !source.parameters.is_empty() {
        return Ok(());
    }
    for (field, column) in source.schema.fields().iter().skip(first).zip(columns) {
        let is_typed_text = field.data_type() == &arrow_schema::DataType::Utf8View
            && DataType::of_field(field).is_text();
        if is_typed_text && !column.data_type.is_text() {
            let message = format!(
                "column \"{}\" is of type {} but expression is of type text",
                column.name, column.data_type
            );
            return Err(QueryError::new(SqlState::DATATYPE_MISMATCH, message)
                .with_hint("You will need to rewrite or cast the expression."));
        }
    }
    Ok(())
}

/// Constant texts of a column in which other rows have other expressions are read as the
/// column's type: the engine wants one type in all rows.
pub(super) fn type_constants(
    rows: &mut [ast::Parens<Vec<ast::Expr>>],
    position: usize,
    to: &DataType,
) {
    let is_text = |e: &ast::Expr| matches!(e, ast::Expr::Value(v) if matches!(v.value, ast::Value::SingleQuotedString(_)));
    let is_null = |e: &ast::Expr| matches!(e, ast::Expr::Value(v) if v.value == ast::Value::Null);
    let is_mixed = rows
        .iter()
        .any(|row| !is_text(&row.content[position]) && !is_null(&row.content[position]));
    if to.is_text() || !is_mixed {
        return;
    }
    let Ok(data_type) = parse_type(to) else {
        return;
    };
    for row in rows {
        let expr = &mut row.content[position];
        // Arrays differ in their items too.
        if is_text(expr) || (matches!(to, DataType::Array(_)) && !is_null(expr)) {
            *expr = ast::Expr::Cast {
                kind: ast::CastKind::Cast,
                expr: Box::new(expr.clone()),
                data_type: data_type.clone(),
                array: false,
                format: None,
            };
        }
    }
}

fn parse_type(data_type: &DataType) -> Result<ast::DataType, QueryError> {
    match parse_expression(&format!("CAST(NULL AS {data_type})"))? {
        ast::Expr::Cast { data_type, .. } => Ok(data_type),
        _ => Err(QueryError::new(SqlState::INTERNAL, "expected a type")),
    }
}
