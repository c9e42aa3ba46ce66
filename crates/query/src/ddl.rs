//! CREATE TABLE as a table schema, CREATE INDEX as an index schema.

mod alter;
mod foreign_keys;
mod index;
mod int_size;
mod period;
mod predicate;
mod primary_key;
mod rules;
mod sequences;

use chronos_model::{ColumnSchema, DataType, SqlState, TableId, TableSchema};
use datafusion::sql::sqlparser::ast;

use crate::sql::{fold, table_name};
use crate::{table_options, QueryError};
pub use alter::{alter_table, Alteration, Demand};
pub use foreign_keys::{
    added as added_foreign_key, drop_indexes, foreign_keys, keys_from_outside, split_foreign_keys,
    without_keys, AddedForeignKey,
};
pub use index::{added_unique, create_index, is_taken, unique_constraints};
pub use int_size::{narrow_altered, narrow_created};
pub use primary_key::{added_primary_key, AddedKey};
pub(crate) use rules::columns_in;
pub use sequences::{asks_sequence, create_sequence, owned_sequences};

/// The schema that a CREATE TABLE describes; its id is still to be given.
///
/// Errors: what Chronos cannot keep to is refused by name, never dropped silently. UNIQUE is read
/// by [`unique_constraints`], FOREIGN KEY by [`foreign_keys`].
pub fn table_schema(create: &ast::CreateTable) -> Result<TableSchema, QueryError> {
    refuse_unsupported(create)?;
    let name = table_name(&create.name)?;
    let mut columns: Vec<ColumnSchema> = Vec::with_capacity(create.columns.len());
    let mut primary_key: Option<Vec<usize>> = None;
    for definition in &create.columns {
        let (column, is_key) = column_schema(definition)?;
        if columns.iter().any(|c| c.name == column.name) {
            let message = format!("column \"{}\" specified more than once", column.name);
            return Err(QueryError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        if is_key {
            set_primary_key(&mut primary_key, vec![columns.len()], &name)?;
        }
        columns.push(column);
    }
    if columns.is_empty() {
        return Err(QueryError::new(
            SqlState::INVALID_TABLE_DEFINITION,
            "a table needs at least one column",
        ));
    }
    for constraint in &create.constraints {
        match constraint {
            ast::TableConstraint::PrimaryKey(key) => {
                let positions = key
                    .columns
                    .iter()
                    .map(|c| key_column(&columns, c))
                    .collect::<Result<Vec<_>, _>>()?;
                set_primary_key(&mut primary_key, positions, &name)?;
            }
            // Kept by an index of its own.
            ast::TableConstraint::Unique(_) => {}
            // When all columns are known.
            ast::TableConstraint::Check(_) => {}
            // When other tables are known.
            ast::TableConstraint::ForeignKey(_) => {}
            other => return Err(QueryError::unsupported(format!("the constraint {other}"))),
        }
    }
    let primary_key = primary_key.unwrap_or_default();
    check_primary_key(&mut columns, &primary_key)?;
    let options = table_options::of_new_table(&create.table_options, &columns, &primary_key)?;
    let mut schema = TableSchema {
        id: TableId(0),
        name,
        columns,
        shape: Default::default(),
        rules: Default::default(),
        primary_key,
        options,
    };
    for (position, definition) in create.columns.iter().enumerate() {
        add_rules(&mut schema, position, definition)?;
    }
    for constraint in &create.constraints {
        if let ast::TableConstraint::Check(check) = constraint {
            if period::is_declaration(check) {
                period::declare(&mut schema, check)?;
                continue;
            }
            rules::add_check(&mut schema, check.name.as_ref(), &check.expr)?;
        }
    }
    Ok(schema)
}

/// What a column's definition says about other columns.
fn add_rules(
    schema: &mut TableSchema,
    position: usize,
    definition: &ast::ColumnDef,
) -> Result<(), QueryError> {
    for option in &definition.options {
        match &option.option {
            ast::ColumnOption::Check(check) => {
                let name = option.name.as_ref().or(check.name.as_ref());
                rules::add_check(schema, name, &check.expr)?;
            }
            ast::ColumnOption::Generated {
                generation_expr: Some(expression),
                ..
            } => rules::set_generated(schema, position, expression)?,
            _ => {}
        }
    }
    Ok(())
}

fn holds_subquery(expr: &ast::Expr) -> bool {
    use ast::{Visit, Visitor};
    struct Finder;
    impl Visitor for Finder {
        type Break = ();
        fn pre_visit_query(&mut self, _: &ast::Query) -> std::ops::ControlFlow<()> {
            std::ops::ControlFlow::Break(())
        }
    }
    expr.visit(&mut Finder).is_break()
}

fn refuse_unsupported(create: &ast::CreateTable) -> Result<(), QueryError> {
    let refused = [
        (create.query.is_some(), "CREATE TABLE .. AS"),
        (create.like.is_some(), "CREATE TABLE .. LIKE"),
        (create.temporary, "CREATE TEMPORARY TABLE"),
        (create.external, "CREATE EXTERNAL TABLE"),
        (create.or_replace, "CREATE OR REPLACE TABLE"),
        (create.inherits.is_some(), "INHERITS"),
        (
            create.partition_by.is_some() || create.partition_of.is_some(),
            "PARTITION BY",
        ),
    ];
    match refused.iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(QueryError::unsupported(what)),
        None => Ok(()),
    }
}

fn column_schema(definition: &ast::ColumnDef) -> Result<(ColumnSchema, bool), QueryError> {
    let name = fold(&definition.name);
    if chronos_model::SystemColumn::of_name(&name).is_some() {
        let message = format!("column name \"{name}\" conflicts with a system column name");
        return Err(QueryError::new(SqlState::DUPLICATE_COLUMN, message));
    }
    let data_type = match sequences::serial(&definition.data_type) {
        Some(integer) => integer,
        None => data_type(&definition.data_type)?,
    };
    let mut column = ColumnSchema {
        name,
        data_type,
        nullable: true,
        default: None,
        attributes: Default::default(),
    };
    let mut is_key = false;
    for option in &definition.options {
        match &option.option {
            ast::ColumnOption::Null => column.nullable = true,
            ast::ColumnOption::NotNull => column.nullable = false,
            ast::ColumnOption::Default(expression) => column.default = default_text(expression),
            ast::ColumnOption::PrimaryKey(_) => is_key = true,
            ast::ColumnOption::Unique(_) => {}
            ast::ColumnOption::Comment(_) | ast::ColumnOption::Collation(_) => {}
            ast::ColumnOption::Check(_) | ast::ColumnOption::ForeignKey(_) => {}
            ast::ColumnOption::Generated {
                generation_expr: Some(_),
                generation_expr_mode: Some(ast::GeneratedExpressionMode::Stored),
                ..
            } => {}
            // Identity: kept by a sequence.
            ast::ColumnOption::Generated {
                generation_expr: None,
                ..
            } => {}
            other => {
                return Err(QueryError::unsupported(format!(
                    "the column option {other}"
                )))
            }
        }
    }
    let is_generated = definition.options.iter().any(|o| {
        matches!(
            &o.option,
            ast::ColumnOption::Generated {
                generation_expr: Some(_),
                ..
            }
        )
    });
    if is_generated && column.default.is_some() {
        let message = format!(
            "both default and generation expression specified for column \"{}\"",
            column.name
        );
        return Err(QueryError::new(SqlState::SYNTAX_ERROR, message));
    }
    if is_generated && is_key {
        return Err(QueryError::unsupported("a generated column as primary key"));
    }
    Ok((column, is_key))
}

/// `DEFAULT NULL` says nothing.
fn default_text(expression: &ast::Expr) -> Option<String> {
    let text = expression.to_string();
    (!text.eq_ignore_ascii_case("null")).then_some(text)
}

fn key_column(columns: &[ColumnSchema], key: &ast::IndexColumn) -> Result<usize, QueryError> {
    let name = match &key.column.expr {
        ast::Expr::Identifier(ident) => fold(ident),
        other => {
            return Err(QueryError::unsupported(format!(
                "the expression {other} in a primary key"
            )))
        }
    };
    columns.iter().position(|c| c.name == name).ok_or_else(|| {
        QueryError::new(
            SqlState::UNDEFINED_COLUMN,
            format!("column \"{name}\" named in key does not exist"),
        )
    })
}

fn set_primary_key(
    key: &mut Option<Vec<usize>>,
    positions: Vec<usize>,
    table: &str,
) -> Result<(), QueryError> {
    if key.is_some() {
        let message = format!("multiple primary keys for table \"{table}\" are not allowed");
        return Err(QueryError::new(SqlState::INVALID_TABLE_DEFINITION, message));
    }
    *key = Some(positions);
    Ok(())
}

fn check_primary_key(columns: &mut [ColumnSchema], key: &[usize]) -> Result<(), QueryError> {
    for (i, &position) in key.iter().enumerate() {
        let column = &mut columns[position];
        if key[..i].contains(&position) {
            let message = format!(
                "column \"{}\" appears twice in primary key constraint",
                column.name
            );
            return Err(QueryError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        if !column.data_type.is_key_type() {
            let message = format!(
                "a column of type {} cannot be part of a primary key",
                column.data_type
            );
            return Err(QueryError::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
        column.nullable = false;
    }
    Ok(())
}

/// A type as written in SQL.
pub fn data_type(written: &ast::DataType) -> Result<DataType, QueryError> {
    let text = match written {
        ast::DataType::Custom(name, parameters) => {
            let last = name
                .0
                .last()
                .and_then(|p| p.as_ident())
                .map(fold)
                .unwrap_or_default();
            if parameters.is_empty() {
                last
            } else {
                format!("{last}({})", parameters.join(","))
            }
        }
        ast::DataType::Array(
            ast::ArrayElemTypeDef::SquareBracket(item, _)
            | ast::ArrayElemTypeDef::AngleBracket(item),
        ) => {
            return Ok(match data_type(item)? {
                nested @ DataType::Array(_) => nested,
                DataType::Vector(_) => return Err(QueryError::unsupported("an array of vectors")),
                item => DataType::Array(Box::new(item)),
            });
        }
        other => other.to_string(),
    };
    Ok(DataType::parse(&text)?)
}

#[cfg(test)]
mod tests {
    use chronos_model::text;

    use super::*;
    use crate::sql::{parse, Command};

    fn schema_of(sql: &str) -> Result<TableSchema, QueryError> {
        match parse(sql)? {
            Command::CreateTable(create) => {
                let schema = table_schema(&create)?;
                unique_constraints(&create, &schema, &chronos_model::Catalog::default())?;
                Ok(schema)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn columns_keys_and_options() {
        let t = schema_of(
            "CREATE TABLE Readings (Device text NOT NULL, ts timestamptz, \"Value\" double precision DEFAULT 1.5,
             PRIMARY KEY (device, ts)) WITH (ttl='7d')",
        )
        .unwrap();
        assert_eq!(t.name, "readings");
        assert_eq!(t.primary_key, vec![0, 1]);
        assert!(!t.columns[1].nullable);
        assert_eq!(t.columns[2].name, "Value");
        assert_eq!(t.columns[2].default.as_deref(), Some("1.5"));
        assert_eq!(t.options.ttl_micros, Some(7 * text::DAY_MICROS));
        let bare = schema_of("create table t (a int) WITH TTL=12h").unwrap();
        assert_eq!(bare.options.ttl_micros, Some(12 * 3_600_000_000));
    }

    fn uniques_of(sql: &str) -> Vec<(String, Vec<usize>)> {
        let Command::CreateTable(create) = parse(sql).unwrap() else {
            panic!("{sql}");
        };
        let schema = table_schema(&create).unwrap();
        let catalog = chronos_model::Catalog::default();
        let indexes = unique_constraints(&create, &schema, &catalog).unwrap();
        indexes
            .into_iter()
            .map(|i| (i.name, i.columns.iter().map(|c| c.column).collect()))
            .collect()
    }

    #[test]
    fn unique_constraints_are_indexes() {
        let named = |name: &str, columns: &[usize]| (name.to_owned(), columns.to_vec());
        assert_eq!(
            uniques_of(
                "create table t (a int primary key unique, b int unique, c int constraint one_c unique,
                 unique (b), unique (c, a), constraint two unique (a, b), unique (a))"
            ),
            [
                named("t_b_key", &[1]),
                named("one_c", &[2]),
                named("t_c_a_key", &[2, 0]),
                named("two", &[0, 1]),
            ]
        );
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for (sql, code) in [
            ("create table t (a int check (a > (select 1)))", "0A000"),
            (
                "create table t (a int, b int generated always as (b) stored)",
                "42P17",
            ),
            ("create table t (a int unique deferrable)", "0A000"),
            ("create table t (a int, a int)", "42701"),
            ("create table t (a json primary key)", "0A000"),
            (
                "create table t (a int primary key, b int primary key)",
                "42P16",
            ),
            ("create table t (a int) with (ttl='soon')", "22023"),
            ("create table t (a int) with (colour='red')", "22023"),
            ("create table t (a money)", "42704"),
            ("create table t (a int, primary key (b))", "42703"),
            ("create table t (_system_from int)", "42701"),
        ] {
            assert_eq!(schema_of(sql).unwrap_err().code.0, code, "{sql}");
        }
    }
}
