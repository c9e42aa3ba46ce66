//! Indexes as PostgreSQL shows them: those of primary keys, which are no objects of their own
//! here, and secondary ones.

use std::sync::Arc;

use chronos_model::{
    name_parts, own_name, text, CompareWith, Condition, DataType, IndexColumn, IndexSchema,
    IndexState, TableSchema, Test, Uniqueness, Value,
};

use super::objects::{constraint_oid, index_oid, Objects};
use super::types::quote_ident;

/// `DESC` in `pg_index.indoption`.
const DESCENDING: i64 = 1;
/// `NULLS FIRST` in `pg_index.indoption`.
const NULLS_FIRST: i64 = 2;

/// An index, with its table.
#[derive(Clone, Copy)]
pub(crate) enum Index<'a> {
    /// That of a primary key.
    Primary(&'a Arc<TableSchema>),
    Secondary(&'a Arc<TableSchema>, &'a Arc<IndexSchema>),
}

impl<'a> Objects<'a> {
    /// The indexes by table, that of the primary key first.
    /// Those that foreign keys made for themselves are theirs alone: PostgreSQL has none, and a
    /// tool that compares a model with the catalogs would find them too many.
    pub(crate) fn indexes(&self) -> impl Iterator<Item = Index<'a>> {
        let catalog = self.catalog;
        self.tables().flat_map(move |table| {
            let key = (!table.has_hidden_key()).then_some(Index::Primary(table));
            let others = catalog.indexes_of(table.id).filter(|i| !i.for_foreign_key);
            key.into_iter()
                .chain(others.map(move |index| Index::Secondary(table, index)))
        })
    }

    /// The indexes that keep constraints.
    pub(crate) fn constraints(&self) -> impl Iterator<Item = Index<'a>> {
        self.indexes().filter(|index| index.constraint().is_some())
    }

    /// The index of an object id.
    pub(crate) fn index(&self, oid: i64) -> Option<Index<'a>> {
        self.indexes().find(|index| index.oid() == oid)
    }

    /// The statement that would create an index; with a column, that column.
    pub(crate) fn index_definition(&self, oid: i64, column: i64) -> Option<String> {
        let index = self.index(oid)?;
        if column == 0 {
            return Some(index.definition());
        }
        let position = usize::try_from(column).ok()?.checked_sub(1)?;
        let column = *index.all_columns().get(position)?;
        Some(quote_ident(&index.table().columns[column].name))
    }

    /// A constraint as CREATE TABLE would write it.
    pub(crate) fn constraint_definition(&self, oid: i64) -> Option<String> {
        if let Some(check) = self.checks().find(|check| check.oid() == oid) {
            return Some(check.definition());
        }
        if let Some(key) = self.foreign_keys().find(|key| key.oid() == oid) {
            return Some(key.definition(self));
        }
        let index = self.constraints().find(|i| i.constraint_oid() == oid)?;
        let kind = index.constraint()?.words;
        Some(format!("{kind} ({})", index.names(&index.columns())))
    }
}

/// The kind of a constraint.
pub(crate) struct ConstraintKind {
    /// `pg_constraint.contype`
    pub(crate) letter: &'static str,
    /// In SQL.
    pub(crate) words: &'static str,
}

impl<'a> Index<'a> {
    pub(crate) fn table(self) -> &'a Arc<TableSchema> {
        match self {
            Index::Primary(table) | Index::Secondary(table, _) => table,
        }
    }

    pub(crate) fn oid(self) -> i64 {
        match self {
            Index::Primary(table) => index_oid(table.id),
            Index::Secondary(_, index) => index_oid(index.id),
        }
    }

    /// Object id of the constraint that it keeps.
    pub(crate) fn constraint_oid(self) -> i64 {
        match self {
            Index::Primary(table) => constraint_oid(table.id),
            Index::Secondary(_, index) => constraint_oid(index.id),
        }
    }

    pub(crate) fn name(self) -> String {
        match self {
            Index::Primary(table) => table.primary_key_name(),
            Index::Secondary(_, index) => index.name.clone(),
        }
    }

    /// Positions of the columns that it is sorted by.
    pub(crate) fn columns(self) -> Vec<usize> {
        match self {
            Index::Primary(table) => table.primary_key.clone(),
            Index::Secondary(_, index) => index.columns.iter().map(|c| c.column).collect(),
        }
    }

    /// The same, and those that INCLUDE lists.
    pub(crate) fn all_columns(self) -> Vec<usize> {
        let mut columns = self.columns();
        if let Index::Secondary(_, index) = self {
            columns.extend(&index.included);
        }
        columns
    }

    /// How each column is sorted, in `pg_index.indoption`'s bits.
    pub(crate) fn options(self) -> Vec<i64> {
        let bits = |c: &IndexColumn| {
            let descending = if c.descending { DESCENDING } else { 0 };
            let nulls_first = if c.nulls_first { NULLS_FIRST } else { 0 };
            descending + nulls_first
        };
        match self {
            Index::Primary(table) => table.primary_key.iter().map(|_| 0).collect(),
            Index::Secondary(_, index) => index.columns.iter().map(bits).collect(),
        }
    }

    pub(crate) fn is_primary(self) -> bool {
        matches!(self, Index::Primary(_))
    }

    pub(crate) fn is_unique(self) -> bool {
        match self {
            Index::Primary(_) => true,
            Index::Secondary(_, index) => index.unique != Uniqueness::No,
        }
    }

    /// Whether queries may use it.
    pub(crate) fn is_valid(self) -> bool {
        match self {
            Index::Primary(_) => true,
            Index::Secondary(_, index) => index.state == IndexState::Valid,
        }
    }

    /// What constraint it keeps, if it keeps one.
    pub(crate) fn constraint(self) -> Option<ConstraintKind> {
        match self {
            Index::Primary(_) => Some(ConstraintKind {
                letter: "p",
                words: "PRIMARY KEY",
            }),
            Index::Secondary(_, index) => {
                (index.unique == Uniqueness::Constraint).then_some(ConstraintKind {
                    letter: "u",
                    words: "UNIQUE",
                })
            }
        }
    }

    /// The WHERE of a partial index.
    pub(crate) fn predicate(self) -> Option<String> {
        let Index::Secondary(table, index) = self else {
            return None;
        };
        let conditions = index.conditions.iter();
        let conditions: Vec<String> = conditions.map(|c| condition(c, table)).collect();
        match conditions.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(format!("({})", many.join(" AND "))),
        }
    }

    fn names(self, columns: &[usize]) -> String {
        let table = self.table();
        let names = columns.iter().map(|c| quote_ident(&table.columns[*c].name));
        names.collect::<Vec<_>>().join(", ")
    }

    /// The statement that would create it.
    pub(crate) fn definition(self) -> String {
        let unique = if self.is_unique() { "UNIQUE " } else { "" };
        let table = self.table();
        let sorted = self.columns().into_iter().zip(self.options());
        let sorted: Vec<String> = sorted
            .map(|(column, bits)| quote_ident(&table.columns[column].name) + order(bits))
            .collect();
        let mut text = format!(
            "CREATE {unique}INDEX {} ON {}.{} USING btree ({})",
            quote_ident(own_name(&self.name())),
            quote_ident(name_parts(&table.name).0),
            quote_ident(own_name(&table.name)),
            sorted.join(", ")
        );
        if let Index::Secondary(_, index) = self {
            if !index.included.is_empty() {
                text += &format!(" INCLUDE ({})", self.names(&index.included));
            }
        }
        if let Some(predicate) = self.predicate() {
            text += &format!(" WHERE {predicate}");
        }
        text
    }
}

fn order(bits: i64) -> &'static str {
    match (bits & DESCENDING != 0, bits & NULLS_FIRST != 0) {
        (false, false) => "",
        (false, true) => " NULLS FIRST",
        (true, true) => " DESC",
        (true, false) => " DESC NULLS LAST",
    }
}

/// A condition as PostgreSQL writes it back.
fn condition(condition: &Condition, table: &TableSchema) -> String {
    let column = &table.columns[condition.column];
    let name = quote_ident(&column.name);
    let Test::Compare(how, _) = &condition.test else {
        let test = if condition.test == Test::IsNull {
            "IS NULL"
        } else {
            "IS NOT NULL"
        };
        return format!("({name} {test})");
    };
    let value = condition.constant(table).ok().flatten();
    let value = value.unwrap_or(Value::Null);
    match (&column.data_type, how, &value) {
        (DataType::Bool, CompareWith::Eq, Value::Bool(true)) => name,
        (DataType::Bool, CompareWith::Eq, Value::Bool(false)) => format!("(NOT {name})"),
        (data_type, how, value) => {
            let left = match data_type {
                DataType::Varchar(_) => format!("({name})::text"),
                _ => name,
            };
            let right = constant(value, data_type);
            format!("({left} {} {right})", how.symbol())
        }
    }
}

fn constant(value: &Value, data_type: &DataType) -> String {
    let shown = text::format(value);
    let is_number = matches!(
        data_type,
        DataType::Int2 | DataType::Int4 | DataType::Int8 | DataType::Numeric(_)
    );
    if is_number && !shown.starts_with('-') {
        return shown;
    }
    let type_name = match data_type {
        DataType::Varchar(_) => "text".to_owned(),
        DataType::Numeric(_) => "numeric".to_owned(),
        other => other.to_string(),
    };
    format!("'{}'::{type_name}", shown.replace('\'', "''"))
}
