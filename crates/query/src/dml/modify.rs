//! UPDATE and DELETE: the query that finds their rows.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use chronos_model::{
    own_name, Catalog, DataType, Expect, Key, Kind, Period, RowChange, SqlState, TableSchema,
};
use datafusion::sql::sqlparser::ast;

use super::assignments::{assigned_text, assignments, projection};
use super::returning::{self, returning_query};
use super::{
    bounds, check_given_not_null, find_table, key_of, moments, note_parameter, put, removal,
    row_values,
};
use crate::sql::{fold, parse_query, quote};
use crate::temporal::PORTION;
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
    /// Which part of the rows' valid time is changed.
    pub portion: Portion,
    /// RETURNING, as a query over [`RETURNING_TABLE`](super::RETURNING_TABLE).
    pub returning: Option<String>,
    /// Columns that are assigned: their old values stand behind the row's own.
    assigned: Vec<usize>,
    /// How many columns at the end are there for RETURNING only.
    carried: usize,
    /// Types of the parameters that stand directly for a column.
    pub parameter_types: Vec<Option<DataType>>,
}

/// Which part of valid time an UPDATE or DELETE changes.
#[derive(Clone, Debug, PartialEq)]
pub enum Portion {
    /// From now on, in a table whose rows are all true until changed.
    UntilChanged,
    /// From now on: as `FOR PORTION OF VALID_TIME FROM now() TO NULL`.
    FromNow,
    /// A period, given by expressions.
    Of(Box<ast::Expr>, Box<ast::Expr>),
}

impl Portion {
    /// Its bounds in SQL, if the rows found must tell when they are true.
    fn bounds(&self) -> Option<(String, String)> {
        match self {
            Portion::UntilChanged => None,
            Portion::FromNow => Some(("now()".into(), "NULL".into())),
            Portion::Of(from, to) => Some((from.to_string(), to.to_string())),
        }
    }

    /// Whether it was given, and is not all of time.
    fn is_bounded(&self) -> bool {
        let is_open = |e: &ast::Expr| e.to_string().eq_ignore_ascii_case("null");
        match self {
            Portion::UntilChanged | Portion::FromNow => false,
            Portion::Of(from, to) => !(is_open(from) && is_open(to)),
        }
    }

    /// How many columns stand before those of the row.
    fn leading(&self) -> usize {
        match self {
            Portion::UntilChanged => 1,
            Portion::FromNow | Portion::Of(..) => 5,
        }
    }
}

/// Rows that an UPDATE or DELETE has found.
pub struct ModifiedRows {
    /// Their keys as they are.
    pub keys: Vec<Key>,
    /// Of each the part of its valid time that is changed; `None`: from when the change is
    /// recorded until changed.
    pub periods: Vec<Option<Period>>,
    /// Of each the period that it is given, if that was assigned: it is no longer true in the
    /// one in which it was.
    pub moved: Option<Vec<Period>>,
    /// Of each whether it is other than it was.
    pub is_changed: Vec<bool>,
    /// The rows as they shall be or were, in the table's columns.
    pub rows: RecordBatch,
    /// These, and what is carried for RETURNING.
    pub returned: RecordBatch,
}

impl Modify {
    /// The keys that rows leave, with those that they move to.
    pub fn moves(&self, found: &ModifiedRows) -> Result<Vec<(Key, Key)>, QueryError> {
        let mut moves = Vec::new();
        if self.kind == Kind::Delete || self.table.has_hidden_key() {
            return Ok(moves);
        }
        for (i, key) in found.keys.iter().enumerate() {
            let new = key_of(&self.table, &row_values(&self.table, &found.rows, i)?)?;
            if new != *key {
                moves.push((key.clone(), new));
            }
        }
        Ok(moves)
    }
}

fn target_of(
    relation: &ast::TableFactor,
    default: Portion,
    catalog: &Catalog,
) -> Result<Target, QueryError> {
    let refused = || {
        let message = format!("cannot modify {relation}: only rows of a table can be changed");
        QueryError::new(SqlState::SYNTAX_ERROR, message)
    };
    let ast::TableFactor::Table {
        name, alias, args, ..
    } = relation
    else {
        return Err(refused());
    };
    let table = find_table(catalog, name)?;
    let portion = match args {
        // Its rows have periods, also before there are any.
        None if table.period_columns().is_some() => Portion::FromNow,
        None => default,
        Some(args) => portion_of(&args.args).ok_or_else(refused)?,
    };
    let alias = alias
        .as_ref()
        .map_or_else(|| own_name(&table.name).to_owned(), |a| fold(&a.name));
    Ok(Target {
        table,
        alias,
        portion,
    })
}

/// The table of an UPDATE or DELETE.
struct Target {
    table: Arc<TableSchema>,
    alias: String,
    portion: Portion,
}

/// The portion that a marker of the target says.
fn portion_of(arguments: &[ast::FunctionArg]) -> Option<Portion> {
    let expression = |argument: &ast::FunctionArg| match argument {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => Some(e.clone()),
        _ => None,
    };
    let [only] = arguments else {
        return None;
    };
    let ast::Expr::Function(function) = expression(only)? else {
        return None;
    };
    let ast::FunctionArguments::List(list) = &function.args else {
        return None;
    };
    match list.args.as_slice() {
        [from, to] if function.name.to_string() == PORTION => {
            let (from, to) = (expression(from)?, expression(to)?);
            Some(Portion::Of(Box::new(from), Box::new(to)))
        }
        _ => None,
    }
}

/// Plans an UPDATE; `with` stands before it. `default`: the portion of valid time that is changed
/// if none is given.
pub fn update(
    update: &ast::Update,
    with: Option<&ast::With>,
    default: Portion,
    catalog: &Catalog,
) -> Result<Modify, QueryError> {
    if !update.table.joins.is_empty() {
        return Err(QueryError::unsupported("UPDATE of a join")
            .with_hint("Write UPDATE t SET .. FROM other WHERE .."));
    }
    let target = target_of(&update.table.relation, default, catalog)?;
    let table = Arc::clone(&target.table);
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
    let moves = moved_bound(&table, &assigned);
    if let Some(column) = moves.filter(|_| target.portion.is_bounded()) {
        let message =
            format!("cannot update column \"{column}\" because it is used in FOR PORTION OF");
        return Err(QueryError::new(SqlState::SYNTAX_ERROR, message)
            .with_hint("Without a portion the whole row is given another period."));
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
        portion: target.portion,
        table,
        alias: target.alias,
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

/// The first column that is assigned and bounds the rows' period.
fn moved_bound(table: &TableSchema, assigned: &[Option<String>]) -> Option<String> {
    let columns = table.period_columns()?;
    let found = columns.into_iter().find(|c| assigned[*c].is_some());
    found.map(|c| table.columns[c].name.clone())
}

/// Plans a DELETE, as [`update`].
pub fn delete(
    delete: &ast::Delete,
    with: Option<&ast::With>,
    default: Portion,
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
    let target = target_of(&target.relation, default, catalog)?;
    let found = Found {
        with,
        others: delete.using.as_deref().unwrap_or_default(),
        selection: &delete.selection,
        assigned: vec![None; target.table.columns.len()],
        table: target.table,
        alias: target.alias,
        portion: target.portion,
    };
    found.plan(Kind::Delete, delete.returning.clone(), Vec::new(), catalog)
}

impl Modify {
    /// The column of `source` at which the row begins.
    pub(super) fn first_column(&self) -> usize {
        self.portion.leading()
    }
}

/// How the rows of an UPDATE or DELETE are found.
struct Found<'a> {
    with: Option<&'a ast::With>,
    table: Arc<TableSchema>,
    alias: String,
    portion: Portion,
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
            assigned: self.assigned_columns(),
            kind,
            portion: self.portion,
            returning: returning_query(&returning, &self.alias),
            carried: carried.len(),
            parameter_types,
            table: self.table,
        })
    }

    fn assigned_columns(&self) -> Vec<usize> {
        let assigned = self.assigned.iter().enumerate();
        let given = assigned.filter_map(|(i, expr)| expr.as_ref().map(|_| i));
        // What is computed follows from the others.
        let is_generated = |i: &usize| self.table.columns[*i].attributes.generated.is_some();
        given.filter(|i| !is_generated(i)).collect()
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
        text.push_str(&format!("SELECT {own}.{key} AS \"__key\", "));
        let bounds = self.portion.bounds();
        if let Some((from, to)) = &bounds {
            text.push_str(&format!(
                "{own}._valid_from AS \"__valid_from\", {own}._valid_to AS \"__valid_to\", \
                 CAST({from} AS TIMESTAMPTZ) AS \"__portion_from\", CAST({to} AS TIMESTAMPTZ) AS \"__portion_to\", "
            ));
        }
        text.push_str(&columns);
        for column in self.assigned_columns() {
            let name = quote(&self.table.columns[column].name);
            text.push_str(&format!(", {own}.{name} AS \"__old_{column}\""));
        }
        for (position, expr) in carried.iter().enumerate() {
            let name = quote(&returning::carried_name(position));
            text.push_str(&format!(", ({expr}) AS {name}"));
        }
        match &bounds {
            None => text.push_str(&format!(" FROM {} AS {own}", quote(name))),
            Some((from, to)) => {
                let of = format!("__valid_from_to({from}, {to})");
                text.push_str(&format!(" FROM {}({of}) AS {own}", quote(name)));
            }
        }
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
        let leading = self.portion.leading();
        let own_columns = leading + self.table.columns.len() + self.assigned.len();
        let carried = schema.fields().iter().skip(own_columns);
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
        seen: &mut std::collections::HashSet<(Key, Option<Period>)>,
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
        let changed = self.changed_periods(batch)?;
        let mut keep: Vec<u32> = Vec::with_capacity(batch.num_rows());
        let mut keys = Vec::with_capacity(batch.num_rows());
        let mut periods = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let key = Key(key_column.value(row).into());
            let period = changed.as_ref().and_then(|changed| changed[row]);
            let is_empty = period.is_some_and(Period::is_empty);
            if !is_empty && seen.insert((key.clone(), period)) {
                keep.push(row as u32);
                keys.push(key);
                periods.push(period);
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
            &schema.fields()[self.portion.leading()..],
            &batch.columns()[self.portion.leading()..],
            batch.num_rows(),
        )?;
        let mut rows = rows;
        let mut moved = None;
        if self.kind == Kind::Put {
            check_given_not_null(&self.table, &rows)?;
            match self.moves_periods() {
                true => moved = bounds::periods_in(&self.table, &rows)?,
                false => rows = bounds::show_periods(&self.table, rows, periods.iter())?,
            }
        }
        let returned = self.returned(&rows, &batch, returning)?;
        Ok(ModifiedRows {
            is_changed: self.changed_rows(&batch, &rows),
            keys,
            periods,
            moved,
            rows,
            returned,
        })
    }

    /// Whether rows are given other periods.
    fn moves_periods(&self) -> bool {
        let columns = self.table.period_columns();
        columns.is_some_and(|columns| self.assigned.iter().any(|a| columns.contains(a)))
    }

    /// Which rows differ from what they were. A row that is written as it was is no new version.
    fn changed_rows(&self, found: &RecordBatch, rows: &RecordBatch) -> Vec<bool> {
        if self.kind == Kind::Delete {
            return vec![true; rows.num_rows()];
        }
        let mut changed = vec![false; rows.num_rows()];
        let first = self.portion.leading() + self.table.columns.len();
        for (i, column) in self.assigned.iter().enumerate() {
            let (old, new) = (found.column(first + i), rows.column(*column));
            let same = datafusion::arrow::compute::kernels::cmp::not_distinct(old, new).ok();
            for (row, changed) in changed.iter_mut().enumerate() {
                *changed |= !match &same {
                    Some(same) => same.value(row),
                    // Arrays and the like, value by value.
                    None => old.slice(row, 1).as_ref() == new.slice(row, 1).as_ref(),
                };
            }
        }
        changed
    }

    /// Of each row the part of its valid time that is changed; `None`: from when the change is
    /// recorded until changed, of all.
    fn changed_periods(
        &self,
        batch: &RecordBatch,
    ) -> Result<Option<Vec<Option<Period>>>, QueryError> {
        if self.portion == Portion::UntilChanged {
            return Ok(None);
        }
        let micros = |column: usize| moments(batch.column(column));
        let (from, to) = (micros(1)?, micros(2)?);
        let (portion_from, portion_to) = (micros(3)?, micros(4)?);
        let shows = self.table.period_columns().is_some();
        let from_now = self.portion == Portion::FromNow;
        let period = |row: usize| {
            let own = Period {
                from: from[row].unwrap_or(Period::BEGINNING),
                to: to[row].unwrap_or(Period::UNTIL_CHANGED),
            };
            let portion = Period {
                from: portion_from[row].unwrap_or(Period::BEGINNING),
                to: portion_to[row].unwrap_or(Period::UNTIL_CHANGED),
            };
            if self.moves_periods() {
                return Some(own);
            }
            let is_open = !shows && own.from <= portion.from && own.to == Period::UNTIL_CHANGED;
            (!(from_now && is_open)).then(|| own.intersection(portion))
        };
        Ok(Some((0..batch.num_rows()).map(period).collect()))
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
    pub fn changes(&self, found: &ModifiedRows) -> Result<Vec<RowChange>, QueryError> {
        let ModifiedRows {
            keys,
            periods,
            moved,
            rows,
            is_changed,
            ..
        } = found;
        let mut changes = Vec::with_capacity(keys.len());
        for (i, (key, valid)) in keys.iter().zip(periods).enumerate() {
            if !is_changed[i] {
                continue;
            }
            let valid_for = |change: RowChange| RowChange {
                valid: *valid,
                ..change
            };
            match self.kind {
                Kind::Delete | Kind::Erase => changes.push(valid_for(removal(key.clone()))),
                Kind::Put => {
                    let values = row_values(&self.table, rows, i)?;
                    let new_key = match self.table.has_hidden_key() {
                        true => key.clone(),
                        false => key_of(&self.table, &values)?,
                    };
                    let mut expect = Expect::Unchanged;
                    let moved = moved.as_ref().map(|moved| moved[i]);
                    if new_key != *key || moved.is_some_and(|moved| Some(moved) != *valid) {
                        changes.push(valid_for(removal(key.clone())));
                        expect = Expect::Absent;
                    }
                    changes.push(RowChange {
                        valid: moved.or(*valid),
                        ..put(new_key, &values, expect)
                    });
                }
            }
        }
        Ok(changes)
    }
}
