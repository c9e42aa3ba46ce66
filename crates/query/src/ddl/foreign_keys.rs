//! FOREIGN KEY and REFERENCES: from what is written to the key of the referenced table, the index
//! that finds the rows which refer, and what depends on both.

use std::sync::Arc;

use chronos_model::{
    own_name, types_refer, Access, Catalog, CatalogEdit, ColumnId, Deferral, ForeignKey,
    IndexColumn, IndexSchema, IndexState, ReferentialAction, SqlState, TableId, TableSchema,
    Uniqueness,
};
use datafusion::sql::sqlparser::ast::{self, AlterTableOperation};

use super::index::free_name as free_index_name;
use super::{is_taken, rules};
use crate::sql::{fold, table_name};
use crate::QueryError;

/// A foreign key that is added to a table.
#[derive(Debug)]
pub struct AddedForeignKey {
    /// The constraint.
    pub key: ForeignKey,
    /// The index that is made for it, if none there is finds the rows that refer.
    pub index: Option<IndexSchema>,
}

/// Adds the foreign keys of a CREATE TABLE to its schema; gives the indexes that are made for
/// them. `uniques` are those of its UNIQUE constraints.
pub fn foreign_keys(
    create: &ast::CreateTable,
    schema: &mut TableSchema,
    uniques: &[IndexSchema],
    catalog: &Catalog,
) -> Result<Vec<IndexSchema>, QueryError> {
    let mut written = Vec::new();
    for column in &create.columns {
        written.extend(of_column(column));
    }
    written.extend(create.constraints.iter().filter_map(|c| match c {
        ast::TableConstraint::ForeignKey(key) => Some(key.clone()),
        _ => None,
    }));
    let mut own: Vec<IndexSchema> = uniques.to_vec();
    own.iter_mut().for_each(|i| i.state = IndexState::Valid);
    let count = own.len();
    for constraint in &written {
        let added = added(constraint, schema, &own, catalog)?;
        schema.rules.foreign_keys.push(added.key);
        own.extend(added.index.map(|index| IndexSchema {
            state: IndexState::Valid,
            ..index
        }));
    }
    Ok(own.split_off(count))
}

/// The REFERENCES of a column, as constraints of the table.
fn of_column(column: &ast::ColumnDef) -> Vec<ast::ForeignKeyConstraint> {
    let options = column.options.iter();
    let keys = options.filter_map(|option| match &option.option {
        ast::ColumnOption::ForeignKey(key) => Some(ast::ForeignKeyConstraint {
            name: option.name.clone().or_else(|| key.name.clone()),
            columns: vec![column.name.clone()],
            ..key.clone()
        }),
        _ => None,
    });
    keys.collect()
}

/// An ALTER TABLE without the foreign keys that it adds, and these; `None`: it adds none.
pub fn split_foreign_keys(
    alter: &ast::AlterTable,
) -> Result<Option<(ast::AlterTable, Vec<ast::ForeignKeyConstraint>)>, QueryError> {
    let mut rest = alter.clone();
    let mut keys = Vec::new();
    let mut operations = Vec::with_capacity(rest.operations.len());
    for operation in std::mem::take(&mut rest.operations) {
        match operation {
            AlterTableOperation::AddConstraint {
                constraint: ast::TableConstraint::ForeignKey(key),
                not_valid,
            } => {
                if not_valid {
                    return Err(QueryError::unsupported("NOT VALID of a foreign key"));
                }
                keys.push(key);
            }
            AlterTableOperation::AddColumn {
                column_keyword,
                if_not_exists,
                mut column_def,
                column_position,
            } => {
                let own = of_column(&column_def);
                if !own.is_empty() {
                    refuse_default(&column_def)?;
                    let is_key = |o: &ast::ColumnOptionDef| {
                        matches!(o.option, ast::ColumnOption::ForeignKey(_))
                    };
                    column_def.options.retain(|option| !is_key(option));
                }
                keys.extend(own);
                operations.push(AlterTableOperation::AddColumn {
                    column_keyword,
                    if_not_exists,
                    column_def,
                    column_position,
                });
            }
            other => operations.push(other),
        }
    }
    rest.operations = operations;
    Ok((!keys.is_empty()).then_some((rest, keys)))
}

/// Rows from before would refer to what the default gives, which is looked up only when the
/// column is there.
fn refuse_default(column: &ast::ColumnDef) -> Result<(), QueryError> {
    let has_default = column.options.iter().any(
        |o| matches!(&o.option, ast::ColumnOption::Default(e) if super::default_text(e).is_some()),
    );
    match has_default {
        false => Ok(()),
        true => Err(
            QueryError::unsupported("ADD COLUMN with both REFERENCES and DEFAULT")
                .with_hint("Add the column, then the constraint."),
        ),
    }
}

/// The foreign key that a constraint says, for a table with these indexes.
pub fn added(
    written: &ast::ForeignKeyConstraint,
    table: &TableSchema,
    indexes: &[IndexSchema],
    catalog: &Catalog,
) -> Result<AddedForeignKey, QueryError> {
    refuse_unsupported(written)?;
    let columns = columns(table, &written.columns)?;
    let name = match &written.name {
        Some(name) => fold(name),
        None => {
            let names: Vec<&str> = columns
                .iter()
                .map(|c| table.columns[*c].name.as_str())
                .collect();
            rules::free_name(table, &names.join("_"), "fkey")
        }
    };
    if rules::has_constraint(table, &name) || indexes.iter().any(|i| own_name(&i.name) == name) {
        return Err(rules::taken(table, &name));
    }
    let parent_name = table_name(&written.foreign_table)?;
    let is_own = parent_name == table.name;
    let parent: &TableSchema = match catalog.table(&parent_name) {
        _ if is_own => table,
        Some(parent) => parent,
        None if catalog.has_relation(&parent_name) => {
            let message = format!("referenced relation \"{parent_name}\" is not a table");
            return Err(QueryError::new(SqlState("42809"), message));
        }
        None => return Err(QueryError::unknown_table(&parent_name)),
    };
    let parent_indexes: Vec<&IndexSchema> = match is_own {
        true => indexes.iter().collect(),
        false => catalog.indexes_of(parent.id).map(|i| &**i).collect(),
    };
    let referenced = referenced_columns(written, parent, &parent_indexes)?;
    if referenced.len() != columns.len() {
        return Err(invalid(
            "number of referencing and referenced columns for foreign key disagree",
        ));
    }
    let ids = |table: &TableSchema, columns: &[usize]| -> Vec<ColumnId> {
        columns.iter().map(|c| table.column_id(*c)).collect()
    };
    let key = ForeignKey {
        name,
        columns: ids(table, &columns),
        table: match is_own {
            true => table.id,
            false => parent.id,
        },
        referenced: ids(parent, &referenced),
        on_update: action(written.on_update),
        on_delete: action(written.on_delete),
        deferral: deferral(written.characteristics.as_ref())?,
    };
    if key.target(parent, parent_indexes).is_none() {
        return Err(invalid(format!(
            "there is no unique constraint matching given keys for referenced table \"{parent_name}\""
        )));
    }
    check_types(&key, table, &columns, parent, &referenced)?;
    check_generated(&key, table, &columns)?;
    refuse_ttl(parent)?;
    let index = match key.access(table, indexes) {
        Some(_) => None,
        None => Some(index_for(table, &columns, indexes, catalog)),
    };
    Ok(AddedForeignKey { key, index })
}

fn refuse_unsupported(written: &ast::ForeignKeyConstraint) -> Result<(), QueryError> {
    use ast::ConstraintReferenceMatchKind as Match;
    match &written.match_kind {
        None | Some(Match::Simple) => {}
        Some(other) => return Err(QueryError::unsupported(other.to_string())),
    }
    let enforced = written.characteristics.as_ref().and_then(|c| c.enforced);
    if enforced == Some(false) {
        return Err(QueryError::unsupported("NOT ENFORCED"));
    }
    match &written.index_name {
        None => Ok(()),
        Some(_) => Err(QueryError::unsupported("an index name of a foreign key")),
    }
}

fn invalid(message: impl Into<String>) -> QueryError {
    QueryError::new(SqlState("42830"), message)
}

fn columns(table: &TableSchema, written: &[ast::Ident]) -> Result<Vec<usize>, QueryError> {
    let position = |name: &ast::Ident| {
        let name = fold(name);
        table.column_index(&name).ok_or_else(|| {
            let message =
                format!("column \"{name}\" referenced in foreign key constraint does not exist");
            QueryError::new(SqlState::UNDEFINED_COLUMN, message)
        })
    };
    let columns = written
        .iter()
        .map(position)
        .collect::<Result<Vec<_>, _>>()?;
    if (1..columns.len()).any(|i| columns[..i].contains(&columns[i])) {
        return Err(invalid(
            "foreign key referenced-columns list must not contain duplicates",
        ));
    }
    Ok(columns)
}

/// Without a list it is the primary key.
fn referenced_columns(
    written: &ast::ForeignKeyConstraint,
    parent: &TableSchema,
    indexes: &[&IndexSchema],
) -> Result<Vec<usize>, QueryError> {
    if !written.referred_columns.is_empty() {
        return columns(parent, &written.referred_columns);
    }
    if !parent.has_hidden_key() {
        return Ok(parent.primary_key.clone());
    }
    // What ADD PRIMARY KEY makes of a table with rows.
    let name = parent.primary_key_name();
    let key = indexes
        .iter()
        .find(|i| i.unique == Uniqueness::Constraint && i.name == name);
    let columns = key.map(|index| index.columns.iter().map(|c| c.column).collect());
    columns.ok_or_else(|| {
        let message = format!(
            "there is no primary key for referenced table \"{}\"",
            parent.name
        );
        QueryError::new(SqlState::UNDEFINED_OBJECT, message)
    })
}

fn action(written: Option<ast::ReferentialAction>) -> ReferentialAction {
    match written {
        None | Some(ast::ReferentialAction::NoAction) => ReferentialAction::NoAction,
        Some(ast::ReferentialAction::Restrict) => ReferentialAction::Restrict,
        Some(ast::ReferentialAction::Cascade) => ReferentialAction::Cascade,
        Some(ast::ReferentialAction::SetNull) => ReferentialAction::SetNull,
        Some(ast::ReferentialAction::SetDefault) => ReferentialAction::SetDefault,
    }
}

fn deferral(written: Option<&ast::ConstraintCharacteristics>) -> Result<Deferral, QueryError> {
    let Some(written) = written else {
        return Ok(Deferral::Never);
    };
    let is_deferred = matches!(written.initially, Some(ast::DeferrableInitial::Deferred));
    match (written.deferrable, is_deferred) {
        (Some(false), true) => Err(QueryError::new(
            SqlState::SYNTAX_ERROR,
            "constraint declared INITIALLY DEFERRED must be DEFERRABLE",
        )),
        (_, true) => Ok(Deferral::InitiallyDeferred),
        (Some(true), false) => Ok(Deferral::InitiallyImmediate),
        (_, false) => Ok(Deferral::Never),
    }
}

fn check_types(
    key: &ForeignKey,
    table: &TableSchema,
    columns: &[usize],
    parent: &TableSchema,
    referenced: &[usize],
) -> Result<(), QueryError> {
    for (column, other) in columns.iter().zip(referenced) {
        let (column, other) = (&table.columns[*column], &parent.columns[*other]);
        if types_refer(&column.data_type, &other.data_type) {
            continue;
        }
        let message = format!(
            "foreign key constraint \"{}\" cannot be implemented",
            key.name
        );
        return Err(
            QueryError::new(SqlState::DATATYPE_MISMATCH, message).with_detail(format!(
                "Key columns \"{}\" and \"{}\" are of incompatible types: {} and {}.",
                column.name, other.name, column.data_type, other.data_type
            )),
        );
    }
    Ok(())
}

/// What is computed cannot be set.
fn check_generated(
    key: &ForeignKey,
    table: &TableSchema,
    columns: &[usize],
) -> Result<(), QueryError> {
    let is_generated = |c: &usize| table.columns[*c].attributes.generated.is_some();
    if !columns.iter().any(is_generated) {
        return Ok(());
    }
    let event = match (key.on_update.acts(), key.on_delete) {
        (true, _) => "UPDATE",
        (_, ReferentialAction::SetNull | ReferentialAction::SetDefault) => "DELETE",
        _ => return Ok(()),
    };
    let message =
        format!("invalid ON {event} action for foreign key constraint containing generated column");
    Err(QueryError::new(SqlState::SYNTAX_ERROR, message))
}

fn refuse_ttl(parent: &TableSchema) -> Result<(), QueryError> {
    match parent.options.ttl_micros {
        None => Ok(()),
        Some(_) => Err(QueryError::unsupported(format!(
            "a foreign key to \"{}\", the rows of which expire,",
            parent.name
        ))),
    }
}

/// An index that finds the rows which refer.
fn index_for(
    table: &TableSchema,
    columns: &[usize],
    own: &[IndexSchema],
    catalog: &Catalog,
) -> IndexSchema {
    let is_used = |name: &str| {
        is_taken(catalog, name) || name == table.name || own.iter().any(|i| i.name == name)
    };
    let name = free_index_name(table, columns, "idx", is_used);
    let column = |column: &usize| IndexColumn {
        column: *column,
        descending: false,
        nulls_first: false,
    };
    IndexSchema {
        id: TableId(0),
        name,
        table: table.id,
        columns: columns.iter().map(column).collect(),
        included: vec![],
        unique: Uniqueness::No,
        conditions: vec![],
        state: IndexState::Building,
        created: 0,
        for_foreign_key: true,
    }
}

/// Takes the indexes away that were made for foreign keys and serve none any more; gives their
/// ids.
pub(super) fn let_go(schema: &TableSchema, indexes: &mut Vec<IndexSchema>) -> Vec<TableId> {
    let keys = schema.rules.foreign_keys.iter();
    let used: Vec<TableId> = keys
        .filter_map(|key| match key.access(schema, &*indexes) {
            Some(Access::Index(index)) => Some(index.id),
            _ => None,
        })
        .collect();
    let goes = |index: &IndexSchema| index.for_foreign_key && !used.contains(&index.id);
    let gone = indexes.iter().filter(|i| goes(i)).map(|i| i.id).collect();
    indexes.retain(|index| !goes(index));
    gone
}

/// The foreign keys of other tables to some that are dropped.
pub fn keys_from_outside<'a>(
    catalog: &'a Catalog,
    dropped: &'a [TableId],
) -> impl Iterator<Item = (&'a Arc<TableSchema>, &'a ForeignKey)> {
    let keys = dropped.iter().flat_map(|id| catalog.foreign_keys_to(*id));
    keys.filter(|(child, _)| !dropped.contains(&child.id))
}

/// The edits that take foreign keys away, by table and name, with the indexes made for them.
pub fn without_keys(catalog: &Catalog, keys: &[(TableId, String)]) -> Vec<CatalogEdit> {
    let mut tables: Vec<TableId> = keys.iter().map(|(table, _)| *table).collect();
    tables.sort_unstable();
    tables.dedup();
    let mut edits = Vec::new();
    for table in tables.iter().filter_map(|id| catalog.table_by_id(*id)) {
        let mut schema = TableSchema::clone(table);
        let goes = |key: &ForeignKey| keys.contains(&(table.id, key.name.clone()));
        schema.rules.foreign_keys.retain(|key| !goes(key));
        let mut indexes: Vec<IndexSchema> = catalog
            .indexes_of(table.id)
            .map(|i| IndexSchema::clone(i))
            .collect();
        let gone = let_go(&schema, &mut indexes);
        edits.extend(gone.into_iter().map(CatalogEdit::DropIndex));
        edits.push(CatalogEdit::Table(Box::new(schema)));
    }
    edits
}

/// What becomes of indexes that shall be dropped together. One by which a foreign key finds its
/// rows, and which nobody else can stand for, stays as the constraint's own, under another name.
///
/// Errors: 2BP01 if it cannot: a foreign key refers to what it keeps unique, or it is the
/// constraint's own already.
pub fn drop_indexes(
    dropped: &[TableId],
    catalog: &Catalog,
) -> Result<Vec<CatalogEdit>, QueryError> {
    let mut gone = dropped.to_vec();
    let mut edits = Vec::with_capacity(dropped.len());
    for index in dropped.iter().filter_map(|id| catalog.index_by_id(*id)) {
        let is_plain = index.unique == Uniqueness::No && !index.for_foreign_key;
        match check_index_unused(index, &gone, catalog) {
            Ok(()) => edits.push(CatalogEdit::DropIndex(index.id)),
            Err(needed) if !is_plain => return Err(needed),
            Err(_) => {
                gone.retain(|id| *id != index.id);
                edits.push(CatalogEdit::Index(Box::new(handed_over(index, catalog)?)));
            }
        }
    }
    Ok(edits)
}

/// A user's index as one of the foreign key that needs it.
fn handed_over(index: &IndexSchema, catalog: &Catalog) -> Result<IndexSchema, QueryError> {
    let table = catalog.table_by_id(index.table);
    let table = table.ok_or_else(|| QueryError::unknown_table(&index.name))?;
    let columns: Vec<usize> = index.columns.iter().map(|c| c.column).collect();
    let is_used = |name: &str| is_taken(catalog, name);
    Ok(IndexSchema {
        name: free_index_name(table, &columns, "fk_idx", is_used),
        for_foreign_key: true,
        ..index.clone()
    })
}

fn check_index_unused(
    index: &IndexSchema,
    dropped: &[TableId],
    catalog: &Catalog,
) -> Result<(), QueryError> {
    let Some(table) = catalog.table_by_id(index.table) else {
        return Ok(());
    };
    let left: Vec<&IndexSchema> = catalog
        .indexes_of(table.id)
        .map(|i| &**i)
        .filter(|i| !dropped.contains(&i.id))
        .collect();
    let message = format!(
        "cannot drop index {} because other objects depend on it",
        index.name
    );
    for (child, key) in catalog.foreign_keys_to(table.id) {
        if key.target(table, left.iter().copied()).is_none() {
            return Err(
                QueryError::new(SqlState("2BP01"), message).with_detail(format!(
                    "constraint {} on table {} depends on index {}",
                    key.name, child.name, index.name
                )),
            );
        }
    }
    for key in &table.rules.foreign_keys {
        if key.access(table, left.iter().copied()).is_none() {
            return Err(QueryError::new(SqlState("2BP01"), message)
                .with_detail(format!(
                    "constraint {} on table {} finds its rows by index {}",
                    key.name, table.name, index.name
                ))
                .with_hint("Create another index on its columns first, or drop the constraint."));
        }
    }
    Ok(())
}
