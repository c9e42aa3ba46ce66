//! UPDATE and DELETE: the query that finds their rows.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use chronos_model::{Catalog, DataType, Expect, Key, Kind, RowChange, SqlState, TableSchema};
use datafusion::sql::sqlparser::ast;

use super::assignments::{assigned_text, assignments, projection};
use super::returning::{self, returning_query};
use super::{check_given_not_null, find_table, key_of, note_parameter, put, removal, row_values};
use crate::sql::{fold, parse_query, quote};
use crate::{coerce_batch, QueryError};

/// A planned UPDATE or DELETE.
#[derive(Debug, Clone)]
pub struct Modify {
    /// The table.
    pub table: Arc<TableSchema>,
    /// Finds the rows: their key, then (UPDATE, RETURNING) all columns as they
    /// shall be (UPDATE) or were (DELETE).
    pub source: ast::Statement,
    /// Whether rows are deleted.
    pub kind: Kind,
    /// RETURNING, as a query over [`RETURNING_TABLE`](super::RETURNING_TABLE).
    pub returning: Option<String>,
    /// How many columns behind the row's own are there for RETURNING only.
    carried: usize,
    /// Types of the parameters that stand directly for a column.
    pub parameter_types: Vec<Option<DataType>>,
}

/// Rows that an UPDATE or DELETE has found.
pub struct ModifiedRows {
    /// Their keys as they are.
    pub keys: Vec<Key>,
    /// The rows as they shall be or were, in the table's columns.
    pub rows: RecordBatch,
    /// These, and what is carried for RETURNING.
    pub returned: RecordBatch,
}

fn target_of(
    relation: &ast::TableFactor,
    catalog: &Catalog,
) -> Result<(Arc<TableSchema>, String), QueryError> {
    match relation {
        ast::TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } => {
            let table = find_table(catalog, name)?;
            let alias = alias
                .as_ref()
                .map_or_else(|| table.name.clone(), |a| fold(&a.name));
            Ok((table, alias))
        }
        other => Err(QueryError::new(
            SqlState::SYNTAX_ERROR,
            format!("cannot modify {other}: only the current rows of a table can be changed"),
        )),
    }
}

/// Plans an UPDATE; `with` stands before it.
pub fn update(
    update: &ast::Update,
    with: Option<&ast::With>,
    catalog: &Catalog,
) -> Result<Modify, QueryError> {
    if !update.table.joins.is_empty() {
        return Err(QueryError::unsupported("UPDATE of a join")
            .with_hint("Write UPDATE t SET .. FROM other WHERE .."));
    }
    let (table, alias) = target_of(&update.table.relation, catalog)?;
    let mut parameter_types = Vec::new();
    let mut assigned: Vec<Option<String>> = vec![None; table.columns.len()];
    for (position, expr) in assignments(&update.assignments, &table)? {
        note_parameter(
            &mut parameter_types,
            &expr,
            &table.columns[position].data_type,
        );
        assigned[position] = Some(assigned_text(&expr, &table, position));
    }
    let others = match &update.from {
        Some(
            ast::UpdateTableFromKind::AfterSet(tables)
            | ast::UpdateTableFromKind::BeforeSet(tables),
        ) => tables.as_slice(),
        None => &[],
    };
    let found = Found {
        with,
        table,
        alias,
        others,
        selection: &update.selection,
        assigned,
    };
    found.plan(
        Kind::Put,
        update.returning.clone(),
        parameter_types,
        catalog,
    )
}

/// Plans a DELETE; `with` stands before it.
pub fn delete(
    delete: &ast::Delete,
    with: Option<&ast::With>,
    catalog: &Catalog,
) -> Result<Modify, QueryError> {
    let (ast::FromTable::WithFromKeyword(tables) | ast::FromTable::WithoutKeyword(tables)) =
        &delete.from;
    let [target] = tables.as_slice() else {
        return Err(QueryError::unsupported("DELETE from several tables"));
    };
    if !target.joins.is_empty() {
        return Err(QueryError::unsupported("DELETE from a join")
            .with_hint("Write DELETE FROM t USING other WHERE .."));
    }
    let (table, alias) = target_of(&target.relation, catalog)?;
    let found = Found {
        with,
        others: delete.using.as_deref().unwrap_or_default(),
        selection: &delete.selection,
        assigned: vec![None; table.columns.len()],
        table,
        alias,
    };
    found.plan(Kind::Delete, delete.returning.clone(), Vec::new(), catalog)
}

/// How the rows of an UPDATE or DELETE are found.
struct Found<'a> {
    with: Option<&'a ast::With>,
    table: Arc<TableSchema>,
    alias: String,
    /// FROM or USING.
    others: &'a [ast::TableWithJoins],
    selection: &'a Option<ast::Expr>,
    assigned: Vec<Option<String>>,
}

impl Found<'_> {
    fn plan(
        self,
        kind: Kind,
        mut returning: Option<Vec<ast::SelectItem>>,
        parameter_types: Vec<Option<DataType>>,
        catalog: &Catalog,
    ) -> Result<Modify, QueryError> {
        let sources = returning::sources(self.others, catalog);
        let carried = match &mut returning {
            Some(items) => returning::carry(items, (&self.table, &self.alias), &sources)?,
            None => vec![],
        };
        Ok(Modify {
            source: self.query(&carried)?,
            kind,
            returning: returning_query(&returning, &self.alias),
            carried: carried.len(),
            parameter_types,
            table: self.table,
        })
    }

    fn query(&self, carried: &[String]) -> Result<ast::Statement, QueryError> {
        let name = &self.table.name;
        let mut text = String::new();
        if let Some(with) = self.with {
            // The target is the table, whatever WITH calls so.
            if with.cte_tables.iter().any(|c| fold(&c.alias.name) == *name) {
                let what = format!("WITH \"{name}\" before a write to \"{name}\"");
                return Err(QueryError::unsupported(what).with_hint("Give it another name."));
            }
            text = format!("{with} ");
        }
        let own = quote(&self.alias);
        let key = chronos_model::HIDDEN_KEY_COLUMN;
        let columns = projection(&self.table, &self.assigned, &self.alias);
        text.push_str(&format!("SELECT {own}.{key} AS \"__key\", {columns}"));
        for (position, expr) in carried.iter().enumerate() {
            let name = quote(&returning::carried_name(position));
            text.push_str(&format!(", ({expr}) AS {name}"));
        }
        text.push_str(&format!(" FROM {} AS {own}", quote(name)));
        for tables in self.others {
            text.push_str(&format!(", {tables}"));
        }
        if let Some(condition) = self.selection {
            text.push_str(&format!(" WHERE {condition}"));
        }
        parse_query(&text)
    }
}

impl Modify {
    /// The columns that RETURNING finds, if `source` gives `schema`.
    pub fn returning_schema(&self, schema: &Schema) -> SchemaRef {
        let own = self.table.arrow_schema();
        let carried = schema.fields().iter().skip(1 + self.table.columns.len());
        let nullable = own.fields().iter().map(|f| {
            let field = f.as_ref().clone();
            Arc::new(field.with_nullable(true))
        });
        let carried = carried.map(|f| Arc::new(f.as_ref().clone().with_nullable(true)));
        Arc::new(Schema::new(nullable.chain(carried).collect::<Vec<_>>()))
    }

    /// The rows with what is carried for RETURNING, in the columns of `schema`.
    fn returned(
        &self,
        rows: &RecordBatch,
        found: &RecordBatch,
        schema: &SchemaRef,
    ) -> Result<RecordBatch, QueryError> {
        let internal = |e: arrow_schema::ArrowError| {
            QueryError::new(SqlState::INTERNAL, format!("RETURNING: {e}"))
        };
        let mut columns = rows.columns().to_vec();
        let first = found.num_columns() - self.carried;
        for (i, column) in found.columns()[first..].iter().enumerate() {
            let field = schema.field(rows.num_columns() + i);
            columns.push(arrow_cast::cast(column, field.data_type()).map_err(internal)?);
        }
        RecordBatch::try_new(Arc::clone(schema), columns).map_err(internal)
    }

    /// Keys of the rows found and the rows in the table's columns, from a batch
    /// that `source` gave. A row found twice (UPDATE .. FROM) counts once, as
    /// `seen` tells across batches. `returning` is [`returning_schema`](Self::returning_schema).
    pub fn rows(
        &self,
        batch: &RecordBatch,
        seen: &mut std::collections::HashSet<Key>,
        returning: &SchemaRef,
    ) -> Result<ModifiedRows, QueryError> {
        let key_column = arrow_cast::cast(batch.column(0), &arrow_schema::DataType::BinaryView)
            .map_err(|e| {
                QueryError::new(
                    SqlState::INTERNAL,
                    format!("the key column is unreadable: {e}"),
                )
            })?;
        let key_column = key_column.as_binary_view();
        let mut keep: Vec<u32> = Vec::with_capacity(batch.num_rows());
        let mut keys = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let key = Key(key_column.value(row).into());
            if seen.insert(key.clone()) {
                keep.push(row as u32);
                keys.push(key);
            }
        }
        let batch = if keep.len() == batch.num_rows() {
            batch.clone()
        } else {
            arrow_select::take::take_record_batch(batch, &arrow_array::UInt32Array::from(keep))
                .map_err(|e| QueryError::new(SqlState::INTERNAL, e.to_string()))?
        };
        let schema = batch.schema();
        let rows = coerce_batch(
            &self.table,
            &schema.fields()[1..],
            &batch.columns()[1..],
            batch.num_rows(),
        )?;
        if self.kind == Kind::Put {
            check_given_not_null(&self.table, &rows)?;
        }
        let returned = self.returned(&rows, &batch, returning)?;
        Ok(ModifiedRows {
            keys,
            rows,
            returned,
        })
    }

    /// What is carried for RETURNING, with other rows in the table's columns.
    pub fn with_rows(
        &self,
        returned: &RecordBatch,
        rows: &RecordBatch,
    ) -> Result<RecordBatch, QueryError> {
        let carried = &returned.columns()[rows.num_columns()..];
        let columns = rows.columns().iter().chain(carried).cloned().collect();
        RecordBatch::try_new(returned.schema(), columns)
            .map_err(|e| QueryError::new(SqlState::INTERNAL, e.to_string()))
    }

    /// The changes that replace or delete the rows of `keys`.
    pub fn changes(&self, keys: &[Key], rows: &RecordBatch) -> Result<Vec<RowChange>, QueryError> {
        let mut changes = Vec::with_capacity(keys.len());
        for (i, key) in keys.iter().enumerate() {
            match self.kind {
                Kind::Delete => changes.push(removal(key.clone())),
                Kind::Put => {
                    let values = row_values(&self.table, rows, i)?;
                    let new_key = match self.table.has_hidden_key() {
                        true => key.clone(),
                        false => key_of(&self.table, &values)?,
                    };
                    let mut expect = Expect::Unchanged;
                    if new_key != *key {
                        changes.push(removal(key.clone()));
                        expect = Expect::Absent;
                    }
                    changes.push(put(new_key, &values, expect));
                }
            }
        }
        Ok(changes)
    }
}
