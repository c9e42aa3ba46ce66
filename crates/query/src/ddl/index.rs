//! CREATE INDEX, and UNIQUE in CREATE TABLE, as index schemas; the names that PostgreSQL
//! would give them.

use chronos_model::{
    name_beside, Catalog, IndexColumn, IndexSchema, IndexState, SqlState, TableId, TableSchema,
    Uniqueness,
};
use datafusion::sql::sqlparser::ast;

use super::{period, predicate};
use crate::sql::{fold, table_name};
use crate::QueryError;

/// Columns of an index at most, as in PostgreSQL.
const COLUMNS_MAX: usize = 32;
/// Bytes of a name that was made up at most.
const NAME_BYTES_MAX: usize = 63;

/// The index that a CREATE INDEX describes; its id is still to be given.
///
/// Errors: the table or a column is unknown (42P01, 42703); what Chronos's indexes cannot do
/// is refused by name (0A000).
pub fn create_index(
    create: &ast::CreateIndex,
    catalog: &Catalog,
) -> Result<IndexSchema, QueryError> {
    refuse_unsupported(create)?;
    let name = table_name(&create.table_name)?;
    let table = catalog
        .table(&name)
        .ok_or_else(|| QueryError::unknown_table(&name))?;
    let columns = index_columns(table, &create.columns)?;
    let included = create
        .include
        .iter()
        .map(|column| position(table, &fold(column)))
        .collect::<Result<Vec<_>, _>>()?;
    check_count(columns.len() + included.len())?;
    let conditions = match &create.predicate {
        Some(predicate) => predicate::conditions(predicate, table)?,
        None => vec![],
    };
    let name = match &create.name {
        Some(name) => name_beside(&table.name, &table_name(name)?),
        None => {
            let listed: Vec<usize> = columns
                .iter()
                .map(|c| c.column)
                .chain(included.iter().copied())
                .collect();
            free_name(table, &listed, "idx", |name| is_taken(catalog, name))
        }
    };
    let index = IndexSchema {
        id: TableId(0),
        name,
        table: table.id,
        columns,
        included,
        unique: match create.unique {
            true => Uniqueness::Index,
            false => Uniqueness::No,
        },
        conditions,
        state: IndexState::Building,
        created: 0,
        for_foreign_key: false,
    };
    period::check_index(table, &index)?;
    Ok(index)
}

fn refuse_unsupported(create: &ast::CreateIndex) -> Result<(), QueryError> {
    check_method(create.using.as_ref())?;
    let refused = [
        (create.nulls_distinct == Some(false), "NULLS NOT DISTINCT"),
        (!create.with.is_empty(), "WITH (..) of an index"),
        (!create.index_options.is_empty(), "an index option"),
        (
            !create.alter_options.is_empty(),
            "ALGORITHM or LOCK of an index",
        ),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(QueryError::unsupported(what)),
        None => Ok(()),
    }
}

fn check_method(method: Option<&ast::IndexType>) -> Result<(), QueryError> {
    match method {
        None | Some(ast::IndexType::BTree) => Ok(()),
        Some(ast::IndexType::Custom(name)) if fold(name) == "btree" => Ok(()),
        Some(ast::IndexType::Custom(name)) => Err(QueryError::new(
            SqlState::UNDEFINED_OBJECT,
            format!("access method \"{}\" does not exist", fold(name)),
        )),
        Some(other) => {
            let method = other.to_string().to_ascii_lowercase();
            Err(QueryError::unsupported(format!("USING {method}"))
                .with_hint("Indexes are sorted: leave USING out, or write USING btree."))
        }
    }
}

fn check_count(columns: usize) -> Result<(), QueryError> {
    if columns <= COLUMNS_MAX {
        return Ok(());
    }
    Err(QueryError::new(
        SqlState("54011"),
        format!("cannot use more than {COLUMNS_MAX} columns in an index"),
    ))
}

fn position(table: &TableSchema, column: &str) -> Result<usize, QueryError> {
    if chronos_model::SystemColumn::of_name(column).is_some() {
        return Err(QueryError::unsupported("index creation on system columns"));
    }
    table.column_index(column).ok_or_else(|| {
        let message = format!("column \"{column}\" does not exist");
        QueryError::new(SqlState::UNDEFINED_COLUMN, message)
    })
}

fn index_columns(
    table: &TableSchema,
    written: &[ast::IndexColumn],
) -> Result<Vec<IndexColumn>, QueryError> {
    written.iter().map(|c| index_column(table, c)).collect()
}

fn index_column(
    table: &TableSchema,
    written: &ast::IndexColumn,
) -> Result<IndexColumn, QueryError> {
    check_operator_class(written.operator_class.as_ref())?;
    let mut expr = &written.column.expr;
    if let ast::Expr::Collate {
        expr: inner,
        collation,
    } = expr
    {
        if !matches!(collation.to_string().as_str(), "\"C\"" | "\"POSIX\"") {
            return Err(QueryError::unsupported(format!("COLLATE {collation}"))
                .with_hint("Text sorts by its bytes, as in the collation \"C\"."));
        }
        expr = inner;
    }
    let ast::Expr::Identifier(name) = expr else {
        return Err(QueryError::unsupported(format!(
            "an index on the expression {expr}"
        )));
    };
    let column = position(table, &fold(name))?;
    let data_type = &table.columns[column].data_type;
    if !data_type.is_key_type() {
        return Err(QueryError::unsupported(format!(
            "an index on a column of type {data_type}"
        )));
    }
    let options = &written.column.options;
    let descending = options.asc == Some(false);
    Ok(IndexColumn {
        column,
        descending,
        nulls_first: options.nulls_first.unwrap_or(descending),
    })
}

/// Those that ask for the order that there is.
fn check_operator_class(class: Option<&ast::ObjectName>) -> Result<(), QueryError> {
    let Some(class) = class else { return Ok(()) };
    let name = class.to_string().to_ascii_lowercase();
    if name.ends_with("_pattern_ops") || name == "text_ops" {
        return Ok(());
    }
    Err(QueryError::unsupported(format!(
        "the operator class {name}"
    )))
}

/// The indexes that keep the UNIQUE constraints of a CREATE TABLE, for the table that it
/// describes. One with the columns of the primary key is that key.
pub fn unique_constraints(
    create: &ast::CreateTable,
    table: &TableSchema,
    catalog: &Catalog,
) -> Result<Vec<IndexSchema>, QueryError> {
    let mut indexes: Vec<IndexSchema> = Vec::new();
    for (i, column) in create.columns.iter().enumerate() {
        for option in &column.options {
            if let ast::ColumnOption::Unique(unique) = &option.option {
                check_constraint(unique)?;
                let name = option.name.as_ref().map(fold);
                let name = name.map(|name| name_beside(&table.name, &name));
                let columns = vec![plain_column(table, i)?];
                add_constraint(&mut indexes, table, catalog, name, columns)?;
            }
        }
    }
    for constraint in &create.constraints {
        if let ast::TableConstraint::Unique(unique) = constraint {
            check_constraint(unique)?;
            let name = unique.name.as_ref().map(fold);
            let name = name.map(|name| name_beside(&table.name, &name));
            let mut columns: Vec<IndexColumn> = Vec::with_capacity(unique.columns.len());
            for written in &unique.columns {
                let column = index_column(table, written).map_err(named_in_key)?;
                if columns.iter().any(|c| c.column == column.column) {
                    let message = format!(
                        "column \"{}\" appears twice in unique constraint",
                        table.columns[column.column].name
                    );
                    return Err(QueryError::new(SqlState::DUPLICATE_COLUMN, message));
                }
                columns.push(column);
            }
            add_constraint(&mut indexes, table, catalog, name, columns)?;
        }
    }
    Ok(indexes)
}

fn named_in_key(mut error: QueryError) -> QueryError {
    if error.code == SqlState::UNDEFINED_COLUMN {
        error.message = error.message.replace("does not", "named in key does not");
    }
    error
}

fn check_constraint(unique: &ast::UniqueConstraint) -> Result<(), QueryError> {
    check_method(unique.index_type.as_ref())?;
    let refused = [
        (
            matches!(unique.nulls_distinct, ast::NullsDistinctOption::NotDistinct),
            "NULLS NOT DISTINCT",
        ),
        (
            unique.characteristics.is_some(),
            "DEFERRABLE, INITIALLY or ENFORCED of a constraint",
        ),
        (
            !unique.index_options.is_empty(),
            "an index option of a constraint",
        ),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(QueryError::unsupported(what)),
        None => Ok(()),
    }
}

/// The index that keeps the UNIQUE constraint which is all that an ALTER TABLE adds; `None`:
/// it does something else.
pub fn added_unique(
    alter: &ast::AlterTable,
    catalog: &Catalog,
) -> Result<Option<IndexSchema>, QueryError> {
    let [ast::AlterTableOperation::AddConstraint {
        constraint: ast::TableConstraint::Unique(unique),
        not_valid: false,
    }] = alter.operations.as_slice()
    else {
        return Ok(None);
    };
    let name = crate::sql::table_name(&alter.name)?;
    let Some(table) = catalog.table(&name) else {
        return Ok(None);
    };
    added_constraint(unique, table, catalog).map(Some)
}

/// The index that keeps a UNIQUE constraint which is added to a table.
pub(super) fn added_constraint(
    unique: &ast::UniqueConstraint,
    table: &TableSchema,
    catalog: &Catalog,
) -> Result<IndexSchema, QueryError> {
    check_constraint(unique)?;
    let columns = index_columns(table, &unique.columns).map_err(named_in_key)?;
    let name = unique.name.as_ref().map(fold);
    let name = name.map(|name| name_beside(&table.name, &name));
    if let Some(name) = &name {
        if is_taken(catalog, name) {
            let message = format!("relation \"{name}\" already exists");
            return Err(QueryError::new(SqlState::DUPLICATE_TABLE, message));
        }
    }
    let listed: Vec<usize> = columns.iter().map(|c| c.column).collect();
    let name =
        name.unwrap_or_else(|| free_name(table, &listed, "key", |name| is_taken(catalog, name)));
    // Another with the same columns is no reason not to make this one.
    check_count(columns.len())?;
    let index = IndexSchema {
        table: table.id,
        ..constraint_index(name, columns)
    };
    period::check_index(table, &index)?;
    Ok(index)
}

fn plain_column(table: &TableSchema, column: usize) -> Result<IndexColumn, QueryError> {
    let data_type = &table.columns[column].data_type;
    if !data_type.is_key_type() {
        return Err(QueryError::unsupported(format!(
            "UNIQUE for a column of type {data_type}"
        )));
    }
    Ok(IndexColumn {
        column,
        descending: false,
        nulls_first: false,
    })
}

fn add_constraint(
    indexes: &mut Vec<IndexSchema>,
    table: &TableSchema,
    catalog: &Catalog,
    name: Option<String>,
    columns: Vec<IndexColumn>,
) -> Result<(), QueryError> {
    check_count(columns.len())?;
    let listed: Vec<usize> = columns.iter().map(|c| c.column).collect();
    let is_known = listed == table.primary_key || indexes.iter().any(|i| i.columns == columns);
    if name.is_none() && is_known {
        return Ok(());
    }
    let name = match name {
        Some(name) => name,
        None => free_name(table, &listed, "key", |name| {
            is_taken(catalog, name) || name == table.name || indexes.iter().any(|i| i.name == name)
        }),
    };
    let index = constraint_index(name, columns);
    period::check_index(table, &index)?;
    indexes.push(index);
    Ok(())
}

/// The index of a constraint, the table of which is still to be given.
fn constraint_index(name: String, columns: Vec<IndexColumn>) -> IndexSchema {
    IndexSchema {
        id: TableId(0),
        name,
        table: TableId(0),
        columns,
        included: vec![],
        unique: Uniqueness::Constraint,
        conditions: vec![],
        state: IndexState::Building,
        created: 0,
        for_foreign_key: false,
    }
}

/// Whether a table, an index or a primary key has that name.
pub fn is_taken(catalog: &Catalog, name: &str) -> bool {
    let is_key = |t: &TableSchema| !t.has_hidden_key() && t.primary_key_name() == name;
    catalog.has_relation(name) || catalog.tables.values().any(|t| is_key(t))
}

/// `table_column_column_label`, with a number if that is taken.
pub(super) fn free_name(
    table: &TableSchema,
    columns: &[usize],
    label: &str,
    is_taken: impl Fn(&str) -> bool,
) -> String {
    let names: Vec<&str> = columns
        .iter()
        .map(|c| table.columns[*c].name.as_str())
        .collect();
    let columns = names.join("_");
    let mut number = 0;
    loop {
        let label = match number {
            0 => label.to_owned(),
            n => format!("{label}{n}"),
        };
        let name = short_name(&table.name, &columns, &label);
        if !is_taken(&name) {
            return name;
        }
        number += 1;
    }
}

/// The longer of the first two parts is cut until the whole is short enough.
pub(super) fn short_name(first: &str, second: &str, label: &str) -> String {
    let room = NAME_BYTES_MAX - label.len() - 2;
    let (mut a, mut b) = (first.len(), second.len());
    while a + b > room {
        if a > b {
            a -= 1;
        } else {
            b -= 1;
        }
    }
    let cut = |s: &str, mut end: usize| {
        while !s.is_char_boundary(end) {
            end -= 1;
        }
        s[..end].to_owned()
    };
    format!("{}_{}_{label}", cut(first, a), cut(second, b))
}

#[cfg(test)]
mod tests {
    use super::short_name;

    #[test]
    fn made_up_names_are_cut_where_postgresql_cuts_them() {
        assert_eq!(short_name("t", "a_b", "idx"), "t_a_b_idx");
        let long = short_name(&"t".repeat(60), &"c".repeat(60), "idx");
        assert_eq!(long, format!("{}_{}_idx", "t".repeat(29), "c".repeat(29)));
        let long = short_name(&"t".repeat(63), "c", "idx");
        assert_eq!(long, format!("{}_c_idx", "t".repeat(57)));
        let umlauts = short_name(&"ä".repeat(40), "c", "idx");
        assert_eq!(umlauts, format!("{}_c_idx", "ä".repeat(28)));
    }
}
