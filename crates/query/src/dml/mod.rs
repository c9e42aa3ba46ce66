//! INSERT, UPDATE and DELETE as the SELECT of the rows they touch, and the rows
//! found as changes of a write set.
//!
//! DataFusion's own DML hooks are not used: they lose filters that hold
//! subqueries. A statement becomes (1) a query to run, (2) a batch of new rows
//! in the table's columns with the keys of the old ones, (3) changes.

mod assignments;
mod bounds;
mod changes;
mod constants;
mod insert;
mod modify;
mod returning;

use std::sync::Arc;

use chronos_model::{Catalog, DataType, SqlState, TableSchema};
use datafusion::sql::sqlparser::ast;
pub use datafusion::sql::sqlparser::ast::DoUpdate;

pub use bounds::{given_periods, show_period, show_periods};
pub(crate) use changes::{check_given_not_null, check_violation, not_assignable, not_updatable};
pub use changes::{
    check_not_null, erasure, expected_shape, insertions, key_of, keys, not_null_violation, put,
    removal, row_insertions, row_values,
};
pub use constants::{check_insert, check_update};
pub use insert::{insert, ConflictTarget, Insert, OnConflict};
pub use modify::{delete, update, ModifiedRows, Modify, Portion};

use crate::sql::{table_name, Overriding};
use crate::QueryError;

/// Table under which RETURNING finds the changed rows.
pub const RETURNING_TABLE: &str = "__chronos_returning";
/// Table under which ON CONFLICT DO UPDATE finds the rows already there.
pub const EXISTING_TABLE: &str = "__chronos_existing";
/// Table under which it finds the rows that were to be inserted.
pub const EXCLUDED_TABLE: &str = "__chronos_excluded";
/// Column by which the two are paired.
pub const PAIR_COLUMN: &str = "__row";

fn find_table(catalog: &Catalog, name: &ast::ObjectName) -> Result<Arc<TableSchema>, QueryError> {
    let name = table_name(name)?;
    if catalog.views.contains_key(&name) {
        return Err(QueryError::unsupported(format!(
            "writing to the view \"{name}\""
        )));
    }
    catalog
        .table(&name)
        .cloned()
        .ok_or_else(|| QueryError::unknown_table(&name))
}

/// The table that a statement changes.
pub fn target(name: &ast::ObjectName, catalog: &Catalog) -> Result<Arc<TableSchema>, QueryError> {
    find_table(catalog, name)
}

/// Notes that parameter `expr`, if it is one, has a column's type.
fn note_parameter(types: &mut Vec<Option<DataType>>, expr: &ast::Expr, data_type: &DataType) {
    let ast::Expr::Value(value) = expr else {
        return;
    };
    let ast::Value::Placeholder(name) = &value.value else {
        return;
    };
    if let Ok(number @ 1..=65_535) = name.trim_start_matches('$').parse::<usize>() {
        if types.len() < number {
            types.resize(number, None);
        }
        types[number - 1].get_or_insert_with(|| data_type.clone());
    }
}

/// The query that finds the rows of a write, and the types of its parameters.
pub fn source_of(
    statement: &ast::Statement,
    catalog: &Catalog,
) -> Result<(ast::Statement, Vec<Option<DataType>>), QueryError> {
    match statement {
        ast::Statement::Insert(i) => {
            insert(i, Overriding::System, catalog).map(|p| (p.source, p.parameter_types))
        }
        ast::Statement::Update(u) => {
            update(u, None, Portion::UntilChanged, catalog).map(|p| (p.source, p.parameter_types))
        }
        ast::Statement::Delete(d) => {
            delete(d, None, Portion::UntilChanged, catalog).map(|p| (p.source, p.parameter_types))
        }
        other => Err(QueryError::unsupported(format!("EXPLAIN {other}"))),
    }
}

/// Moments of a column of timestamps, in microseconds.
fn moments(column: &arrow_array::ArrayRef) -> Result<Vec<Option<i64>>, QueryError> {
    use arrow_array::cast::AsArray;
    let internal = |e: arrow_schema::ArrowError| {
        QueryError::new(SqlState::INTERNAL, format!("a bound is no timestamp: {e}"))
    };
    let to = DataType::TimestampTz.to_arrow();
    let column = arrow_cast::cast(column, &to).map_err(internal)?;
    let micros = column.as_primitive::<arrow_array::types::TimestampMicrosecondType>();
    Ok(micros.iter().collect())
}

fn assignable(table: &TableSchema, column: &str) -> Result<usize, QueryError> {
    if chronos_model::SystemColumn::of_name(column).is_some() {
        let message = format!("the system column \"{column}\" cannot be written");
        return Err(QueryError::new(SqlState("428C9"), message));
    }
    table
        .column_index(column)
        .ok_or_else(|| QueryError::unknown_column(column, &table.name))
}
