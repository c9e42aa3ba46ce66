//! INSERT: where its rows come from, and what happens to keys that are there already.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::RecordBatch;
use chronos_model::{
    name_beside, own_name, Catalog, ColumnSchema, DataType, Identity, IndexSchema, Period,
    SqlState, SystemColumn, TableSchema, Uniqueness,
};
use datafusion::sql::sqlparser::ast;

use super::assignments::{assigned_text, assignments, projection, qualify};
use super::constants::type_constants;
use super::returning::returning_query;
use super::{
    assignable, bounds, check_given_not_null, find_table, not_assignable, note_parameter,
    EXCLUDED_TABLE, EXISTING_TABLE, PAIR_COLUMN,
};
use crate::engine::parse_expression;
use crate::schemas::stored_default;
use crate::sql::{fold, parse_query, quote, table_name, Overriding};
use crate::{coerce_array, coerce_batch, QueryError};

/// What ON CONFLICT says.
#[derive(Debug, Clone)]
pub enum OnConflict {
    /// Nothing: fail with 23505.
    Fail,
    /// DO NOTHING
    Skip,
    /// DO UPDATE SET ..
    Update(Box<ast::DoUpdate>),
}

/// What a row that is inserted may be in conflict with, for ON CONFLICT to act.
#[derive(Debug, Clone)]
pub enum ConflictTarget {
    /// The key, or values in any unique index.
    Any,
    /// The key.
    Key,
    /// Values in this unique index.
    Index(Arc<IndexSchema>),
}

/// A planned INSERT.
#[derive(Debug, Clone)]
pub struct Insert {
    /// The table.
    pub table: Arc<TableSchema>,
    /// Gives the rows: a value for each of `targets`, in that order.
    pub source: ast::Statement,
    /// Positions of the columns that `source` gives; behind the table's own stand `_valid_from`
    /// and `_valid_to`.
    pub targets: Vec<usize>,
    /// What to do with keys already there.
    pub on_conflict: OnConflict,
    /// Of which conflicts that is said.
    pub target: ConflictTarget,
    /// RETURNING, as a query over [`RETURNING_TABLE`](super::RETURNING_TABLE).
    pub returning: Option<String>,
    /// Types of the parameters that stand directly for a column.
    pub parameter_types: Vec<Option<DataType>>,
    alias: String,
}

/// Plans an INSERT.
pub fn insert(
    insert: &ast::Insert,
    overriding: Overriding,
    catalog: &Catalog,
) -> Result<Insert, QueryError> {
    let ast::TableObject::TableName(name) = &insert.table else {
        return Err(QueryError::unsupported("INSERT INTO a function"));
    };
    let table = find_table(catalog, name)?;
    let alias = insert
        .table_alias
        .as_ref()
        .map_or_else(|| own_name(&table.name).to_owned(), |a| fold(&a.alias));
    let mut targets = Vec::with_capacity(table.columns.len());
    for column in &insert.columns {
        let column = column
            .0
            .last()
            .and_then(|p| p.as_ident())
            .map(fold)
            .unwrap_or_default();
        let position = insertable(&table, &column)?;
        if targets.contains(&position) {
            let message = format!("column \"{column}\" specified more than once");
            return Err(QueryError::new(SqlState::DUPLICATE_COLUMN, message));
        }
        targets.push(position);
    }
    if targets.is_empty() {
        targets = (0..table.columns.len()).collect();
    }
    let mut parameter_types = Vec::new();
    let is_named = !insert.columns.is_empty();
    let source = match &insert.source {
        Some(query) => {
            let mut query = query.clone();
            refuse_given(&mut query, &table, &mut targets, is_named, overriding)?;
            let width = prepare_values(&mut query, &table, &targets, &mut parameter_types)?;
            if let Some(width) = width {
                check_width(width, targets.len(), !insert.columns.is_empty())?;
                targets.truncate(width);
            }
            ast::Statement::Query(query)
        }
        None => {
            targets.clear();
            parse_query("SELECT NULL")?
        }
    };
    let (on_conflict, target) = on_conflict(&insert.on, &table, catalog)?;
    let (source, targets) = with_defaults(source, targets, &table)?;
    let returning = returning_query(&insert.returning, &alias);
    Ok(Insert {
        table,
        source,
        targets,
        on_conflict,
        target,
        returning,
        parameter_types,
        alias,
    })
}

/// Whether an expression is the word DEFAULT.
pub(super) fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(i)
        if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"))
}

/// DEFAULT in the place of what is given for identity columns.
fn give_defaults(
    query: &mut ast::Query,
    table: &TableSchema,
    targets: &[usize],
) -> Result<(), QueryError> {
    let ast::SetExpr::Values(values) = query.body.as_mut() else {
        return Err(QueryError::unsupported("OVERRIDING USER VALUE of a query"));
    };
    for row in &mut values.rows {
        for (expr, target) in row.content.iter_mut().zip(targets) {
            if column_of(table, *target).attributes.identity.is_some() {
                *expr = ast::Expr::Identifier(ast::Ident::new("DEFAULT"));
            }
        }
    }
    Ok(())
}

/// Refuses values for generated columns. The rows of a query that does not say for which
/// columns they are go to those before the first generated one.
fn refuse_given(
    query: &mut ast::Query,
    table: &TableSchema,
    targets: &mut Vec<usize>,
    is_named: bool,
    overriding: Overriding,
) -> Result<(), QueryError> {
    if overriding == Overriding::User {
        give_defaults(query, table, targets)?;
    }
    let is_generated = |target: &usize| {
        let column = column_of(table, *target);
        let attributes = &column.attributes;
        let is_always = attributes.identity == Some(Identity::Always);
        attributes.generated.is_some() || (is_always && overriding == Overriding::None)
    };
    let Some(first) = targets.iter().position(is_generated) else {
        return Ok(());
    };
    let ast::SetExpr::Values(values) = query.body.as_ref() else {
        if is_named {
            return Err(not_assignable(&table.columns[targets[first]]));
        }
        targets.truncate(first);
        return Ok(());
    };
    for row in &values.rows {
        let given = row.content.iter().zip(targets.iter());
        for (expr, target) in given.filter(|(_, target)| is_generated(target)) {
            if !is_default(expr) {
                return Err(not_assignable(&table.columns[*target]));
            }
        }
    }
    Ok(())
}

fn check_width(given: usize, expected: usize, named: bool) -> Result<(), QueryError> {
    if given > expected {
        return Err(QueryError::new(
            SqlState::SYNTAX_ERROR,
            "INSERT has more expressions than target columns",
        ));
    }
    if given < expected && named {
        return Err(QueryError::new(
            SqlState::SYNTAX_ERROR,
            "INSERT has more target columns than expressions",
        ));
    }
    Ok(())
}

/// In a VALUES list, DEFAULT becomes the column's default and parameters learn
/// their types. Gives the width of the rows if it is a VALUES list.
fn prepare_values(
    query: &mut ast::Query,
    table: &TableSchema,
    targets: &[usize],
    parameter_types: &mut Vec<Option<DataType>>,
) -> Result<Option<usize>, QueryError> {
    let ast::SetExpr::Values(values) = query.body.as_mut() else {
        return Ok(None);
    };
    let width = values.rows.first().map_or(0, |r| r.content.len());
    for row in &mut values.rows {
        if row.content.len() != width {
            return Err(QueryError::new(
                SqlState::SYNTAX_ERROR,
                "VALUES lists must all be the same length",
            ));
        }
        for (expr, &target) in row.content.iter_mut().zip(targets) {
            let column = column_of(table, target);
            note_parameter(parameter_types, expr, &column.data_type);
            if is_default(expr) {
                *expr =
                    parse_expression(&stored_default(column.default.as_deref().unwrap_or("NULL")))?;
            }
        }
    }
    for (position, &target) in targets.iter().enumerate().take(width) {
        type_constants(
            &mut values.rows,
            position,
            &column_of(table, target).data_type,
        );
    }
    let has_subquery = values
        .rows
        .iter()
        .flat_map(|r| &r.content)
        .any(holds_subquery);
    if has_subquery {
        // The engine evaluates VALUES before it runs queries.
        let selects: Vec<String> = values
            .rows
            .iter()
            .map(|row| {
                let list: Vec<String> = row.content.iter().map(ToString::to_string).collect();
                format!("SELECT {}", list.join(", "))
            })
            .collect();
        if let ast::Statement::Query(select) = parse_query(&selects.join(" UNION ALL "))? {
            query.body = select.body;
        }
    }
    Ok(Some(width))
}

fn holds_subquery(expr: &ast::Expr) -> bool {
    use datafusion::sql::sqlparser::ast::{Visit, Visitor};
    struct Finder;
    impl Visitor for Finder {
        type Break = ();
        fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    expr.visit(&mut Finder).is_break()
}

/// Columns that are not targets and have a default are given by it, for every
/// row anew.
fn with_defaults(
    source: ast::Statement,
    mut targets: Vec<usize>,
    table: &TableSchema,
) -> Result<(ast::Statement, Vec<usize>), QueryError> {
    let missing: Vec<(usize, std::borrow::Cow<'_, str>)> = table
        .columns
        .iter()
        .enumerate()
        .filter(|(i, _)| !targets.contains(i))
        .filter_map(|(i, c)| Some((i, stored_default(c.default.as_deref()?))))
        .collect();
    if missing.is_empty() {
        return Ok((source, targets));
    }
    let defaults: Vec<String> = missing
        .iter()
        .map(|(i, d)| format!("({d}) AS \"__default_{i}\""))
        .collect();
    let wrapped = if targets.is_empty() {
        format!("SELECT {}", defaults.join(", "))
    } else {
        let names: Vec<String> = (0..targets.len()).map(|i| format!("__s{i}")).collect();
        let list = names.join(", ");
        format!(
            "SELECT {list}, {} FROM ({source}) AS __source ({list})",
            defaults.join(", ")
        )
    };
    targets.extend(missing.iter().map(|(i, _)| *i));
    Ok((parse_query(&wrapped)?, targets))
}

fn on_conflict(
    on: &Option<ast::OnInsert>,
    table: &TableSchema,
    catalog: &Catalog,
) -> Result<(OnConflict, ConflictTarget), QueryError> {
    let on = match on {
        None => return Ok((OnConflict::Fail, ConflictTarget::Any)),
        Some(ast::OnInsert::OnConflict(on)) => on,
        Some(_) => {
            return Err(QueryError::unsupported("ON DUPLICATE KEY UPDATE")
                .with_hint("Write ON CONFLICT .. DO UPDATE."))
        }
    };
    let unique = |index: &&Arc<IndexSchema>| index.is_enforced();
    let mut indexes = catalog.indexes_of(table.id).filter(unique);
    let target = match &on.conflict_target {
        None if matches!(on.action, ast::OnConflictAction::DoNothing) => ConflictTarget::Any,
        None => {
            let message =
                "ON CONFLICT DO UPDATE requires inference specification or constraint name";
            return Err(QueryError::new(SqlState::SYNTAX_ERROR, message)
                .with_hint("For example, ON CONFLICT (column_name)."));
        }
        Some(ast::ConflictTarget::Columns(columns)) => {
            let mut given: Vec<String> = columns.iter().map(fold).collect();
            let is_known = |name: &String| table.columns.iter().any(|c| c.name == *name);
            if let Some(unknown) = given.iter().find(|name| !is_known(name)) {
                let message = format!("column \"{unknown}\" does not exist");
                return Err(QueryError::new(SqlState::UNDEFINED_COLUMN, message));
            }
            let mut key: Vec<String> = table
                .primary_key
                .iter()
                .map(|&c| table.columns[c].name.clone())
                .collect();
            given.sort();
            key.sort();
            given.dedup();
            let fits = |index: &Arc<IndexSchema>| {
                let names = index.columns.iter().map(|c| &table.columns[c.column].name);
                let mut names: Vec<&String> = names.collect();
                names.sort();
                names.dedup();
                index.conditions.is_empty() && names.iter().copied().eq(&given)
            };
            if given == key && !key.is_empty() {
                ConflictTarget::Key
            } else if let Some(index) = indexes.find(|i| fits(i)) {
                ConflictTarget::Index(Arc::clone(index))
            } else {
                let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
                return Err(QueryError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
            }
        }
        Some(ast::ConflictTarget::OnConstraint(name)) => {
            let name = name_beside(&table.name, &table_name(name)?);
            let is_constraint =
                |i: &&Arc<IndexSchema>| i.unique == Uniqueness::Constraint && i.name == name;
            if name == table.primary_key_name() && !table.has_hidden_key() {
                ConflictTarget::Key
            } else if let Some(index) = indexes.find(is_constraint) {
                ConflictTarget::Index(Arc::clone(index))
            } else {
                let message = format!(
                    "constraint \"{name}\" for table \"{}\" does not exist",
                    table.name
                );
                return Err(QueryError::new(SqlState::UNDEFINED_OBJECT, message));
            }
        }
    };
    let action = match &on.action {
        ast::OnConflictAction::DoNothing => OnConflict::Skip,
        ast::OnConflictAction::DoUpdate(update) => OnConflict::Update(Box::new(update.clone())),
    };
    Ok((action, target))
}

/// The names under which the bounds of a row's period are given, in their order behind the
/// table's own columns.
const PERIOD: [SystemColumn; 2] = [SystemColumn::ValidFrom, SystemColumn::ValidTo];

fn insertable(table: &TableSchema, column: &str) -> Result<usize, QueryError> {
    let bounds = match table.period_columns() {
        // They are given by columns of the table.
        Some(_) => &[],
        None => PERIOD.as_slice(),
    };
    match bounds.iter().position(|c| c.name() == column) {
        Some(bound) => Ok(table.columns.len() + bound),
        None => assignable(table, column),
    }
}

/// The column at a position of [`Insert::targets`].
pub(super) fn column_of(table: &TableSchema, target: usize) -> Cow<'_, ColumnSchema> {
    match table.columns.get(target) {
        Some(column) => Cow::Borrowed(column),
        None => Cow::Owned(ColumnSchema {
            name: PERIOD[target - table.columns.len()].name().to_owned(),
            data_type: DataType::TimestampTz,
            nullable: true,
            default: None,
            attributes: Default::default(),
        }),
    }
}

impl Insert {
    /// Whether rows are given periods.
    pub fn gives_periods(&self) -> bool {
        let is_bound = |t: &usize| *t >= self.table.columns.len();
        self.table.period_columns().is_some() || self.targets.iter().any(is_bound)
    }

    /// When the rows of a batch that `source` gave are true; `None`: from when they are
    /// recorded until changed.
    ///
    /// Errors: a period ends before it begins, or is empty.
    pub fn periods(
        &self,
        batch: &RecordBatch,
        now_micros: i64,
    ) -> Result<Vec<Option<Period>>, QueryError> {
        let columns = self.table.period_columns();
        let bound = |bound: usize| -> Result<Option<Vec<Option<i64>>>, QueryError> {
            let wanted = columns.map_or(self.table.columns.len() + bound, |c| c[bound]);
            let given = self.targets.iter().position(|t| *t == wanted);
            given.map(|i| self.moments(batch, i, wanted)).transpose()
        };
        let (from, to) = (bound(0)?, bound(1)?);
        let at = |bounds: &Option<Vec<Option<i64>>>, row: usize| bounds.as_ref()?[row];
        let period = |row: usize| {
            let (from, to) = (at(&from, row), at(&to, row));
            // Columns show an open beginning as NULL, and so they give it.
            let from = match columns {
                Some(_) => from,
                None if from.is_none() && to.is_none() => return Ok(None),
                None => Some(from.unwrap_or(now_micros)),
            };
            bounds::not_empty(&self.table, bounds::period(from, to)).map(Some)
        };
        (0..batch.num_rows()).map(period).collect()
    }

    fn moments(
        &self,
        batch: &RecordBatch,
        given: usize,
        target: usize,
    ) -> Result<Vec<Option<i64>>, QueryError> {
        let schema = batch.schema();
        let array = coerce_array(
            batch.column(given),
            schema.field(given),
            &column_of(&self.table, target).data_type,
        )?;
        super::moments(&array)
    }

    /// The rows in the table's columns, from a batch that `source` gave.
    ///
    /// Errors: a value does not fit, or is NULL where NULL may not be.
    pub fn rows(&self, batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
        if !self.targets.is_empty() {
            check_width(batch.num_columns(), self.targets.len(), true)?;
        }
        let rows = batch.num_rows();
        let schema = batch.schema();
        let mut fields = Vec::with_capacity(self.table.columns.len());
        let mut columns = Vec::with_capacity(self.table.columns.len());
        for (i, column) in self.table.columns.iter().enumerate() {
            match self.targets.iter().position(|t| *t == i) {
                Some(given) => {
                    fields.push(Arc::clone(&schema.fields()[given]));
                    columns.push(Arc::clone(batch.column(given)));
                }
                None => {
                    fields.push(Arc::new(column.arrow_field()));
                    columns.push(arrow_array::new_null_array(
                        &column.data_type.to_arrow(),
                        rows,
                    ));
                }
            }
        }
        let coerced = coerce_batch(&self.table, &fields, &columns, rows)?;
        check_given_not_null(&self.table, &coerced)?;
        Ok(coerced)
    }

    /// The query that ON CONFLICT DO UPDATE asks of pairs of an existing and an
    /// excluded row: the pair's number, then the row as it shall be.
    pub fn update_query(&self, update: &ast::DoUpdate) -> Result<ast::Statement, QueryError> {
        let alias = &self.alias;
        let mut assigned: Vec<Option<String>> = vec![None; self.table.columns.len()];
        for (position, mut expr) in assignments(&update.assignments, &self.table)? {
            let column = &self.table.columns[position];
            if column.attributes.bound.is_some() {
                return Err(QueryError::unsupported(format!(
                    "ON CONFLICT DO UPDATE SET of \"{}\", which bounds the period of valid time",
                    column.name
                )));
            }
            qualify(&mut expr, &self.table, alias);
            assigned[position] = Some(assigned_text(&expr, &self.table, position));
        }
        let selection = match update.selection.clone() {
            Some(mut condition) => {
                qualify(&mut condition, &self.table, alias);
                format!(" WHERE {condition}")
            }
            None => String::new(),
        };
        let columns = projection(&self.table, &assigned, alias);
        let own = quote(alias);
        parse_query(&format!(
            "SELECT {own}.{PAIR_COLUMN}, {columns} FROM {EXISTING_TABLE} AS {own} JOIN {EXCLUDED_TABLE} AS excluded \
             ON {own}.{PAIR_COLUMN} = excluded.{PAIR_COLUMN}{selection}"
        ))
    }
}
