//! INSERT, UPDATE and DELETE as the SELECT of the rows they touch, and the rows
//! found as changes of a write set.
//!
//! DataFusion's own DML hooks are not used: they lose filters that hold
//! subqueries. A statement becomes (1) a query to run, (2) a batch of new rows
//! in the table's columns with the keys of the old ones, (3) changes.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use chronos_model::{
    encode_key, encode_row, text, value_at, BatchChange, Catalog, Change, DataType, Expect, Key,
    Kind, RowChange, RowChanges, SqlState, TableSchema, Value,
};
pub use datafusion::sql::sqlparser::ast::DoUpdate;
use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};
use std::ops::ControlFlow;

pub use self::assignment::check_assignments;
use self::assignment::type_constants;
use crate::sql::{fold, parse_query, quote, table_name};
use crate::{coerce_batch, QueryError};

mod assignment;

/// From how many rows on an INSERT travels as columns instead of rows.
const COLUMNAR_ROWS_MIN: usize = 128;

/// Table under which RETURNING finds the changed rows.
pub const RETURNING_TABLE: &str = "__chronos_returning";
/// Table under which ON CONFLICT DO UPDATE finds the rows already there.
pub const EXISTING_TABLE: &str = "__chronos_existing";
/// Table under which it finds the rows that were to be inserted.
pub const EXCLUDED_TABLE: &str = "__chronos_excluded";
/// Column by which the two are paired.
pub const PAIR_COLUMN: &str = "__row";

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

/// A planned INSERT.
#[derive(Debug, Clone)]
pub struct Insert {
    /// The table.
    pub table: Arc<TableSchema>,
    /// Gives the rows: a value for each of `targets`, in that order.
    pub source: ast::Statement,
    /// Positions of the columns that `source` gives.
    pub targets: Vec<usize>,
    /// What to do with keys already there.
    pub on_conflict: OnConflict,
    /// RETURNING, as a query over [`RETURNING_TABLE`].
    pub returning: Option<String>,
    /// Types of the parameters that stand directly for a column.
    pub parameter_types: Vec<Option<DataType>>,
    alias: String,
}

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
    /// RETURNING, as a query over [`RETURNING_TABLE`].
    pub returning: Option<String>,
    /// Types of the parameters that stand directly for a column.
    pub parameter_types: Vec<Option<DataType>>,
}

fn find_table(catalog: &Catalog, name: &ast::ObjectName) -> Result<Arc<TableSchema>, QueryError> {
    let name = table_name(name)?;
    catalog
        .table(&name)
        .cloned()
        .ok_or_else(|| QueryError::unknown_table(&name))
}

fn returning_query(items: &Option<Vec<ast::SelectItem>>, alias: &str) -> Option<String> {
    let items: Vec<String> = items.as_ref()?.iter().map(ToString::to_string).collect();
    Some(format!(
        "SELECT {} FROM {RETURNING_TABLE} AS {}",
        items.join(", "),
        quote(alias)
    ))
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
        ast::Statement::Insert(i) => insert(i, catalog).map(|p| (p.source, p.parameter_types)),
        ast::Statement::Update(u) => update(u, catalog).map(|p| (p.source, p.parameter_types)),
        ast::Statement::Delete(d) => delete(d, catalog).map(|p| (p.source, p.parameter_types)),
        other => Err(QueryError::unsupported(format!("EXPLAIN {other}"))),
    }
}

/// Plans an INSERT.
pub fn insert(insert: &ast::Insert, catalog: &Catalog) -> Result<Insert, QueryError> {
    let ast::TableObject::TableName(name) = &insert.table else {
        return Err(QueryError::unsupported("INSERT INTO a function"));
    };
    let table = find_table(catalog, name)?;
    let alias = insert
        .table_alias
        .as_ref()
        .map_or_else(|| table.name.clone(), |a| fold(&a.alias));
    let mut targets = Vec::with_capacity(table.columns.len());
    for column in &insert.columns {
        let column = column
            .0
            .last()
            .and_then(|p| p.as_ident())
            .map(fold)
            .unwrap_or_default();
        let position = assignable(&table, &column)?;
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
    let source = match &insert.source {
        Some(query) => {
            let mut query = query.clone();
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
    let on_conflict = on_conflict(&insert.on, &table)?;
    let (source, targets) = with_defaults(source, targets, &table)?;
    let returning = returning_query(&insert.returning, &alias);
    Ok(Insert {
        table,
        source,
        targets,
        on_conflict,
        returning,
        parameter_types,
        alias,
    })
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
            let column = &table.columns[target];
            note_parameter(parameter_types, expr, &column.data_type);
            let is_default = matches!(expr, ast::Expr::Identifier(i) if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default"));
            if is_default {
                *expr = parse_expression(column.default.as_deref().unwrap_or("NULL"))?;
            }
        }
    }
    for (position, &target) in targets.iter().enumerate().take(width) {
        type_constants(&mut values.rows, position, &table.columns[target].data_type);
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

fn parse_expression(sql: &str) -> Result<ast::Expr, QueryError> {
    use datafusion::sql::sqlparser::{dialect::PostgreSqlDialect, parser::Parser};
    let dialect = PostgreSqlDialect {};
    Parser::new(&dialect)
        .try_with_sql(sql)
        .and_then(|mut p| p.parse_expr())
        .map_err(|e| {
            QueryError::new(
                SqlState::SYNTAX_ERROR,
                format!("invalid expression {sql}: {e}"),
            )
        })
}

/// Columns that are not targets and have a default are given by it, for every
/// row anew.
fn with_defaults(
    source: ast::Statement,
    mut targets: Vec<usize>,
    table: &TableSchema,
) -> Result<(ast::Statement, Vec<usize>), QueryError> {
    let missing: Vec<(usize, &str)> = table
        .columns
        .iter()
        .enumerate()
        .filter(|(i, _)| !targets.contains(i))
        .filter_map(|(i, c)| Some((i, c.default.as_deref()?)))
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

fn on_conflict(on: &Option<ast::OnInsert>, table: &TableSchema) -> Result<OnConflict, QueryError> {
    let on = match on {
        None => return Ok(OnConflict::Fail),
        Some(ast::OnInsert::OnConflict(on)) => on,
        Some(_) => {
            return Err(QueryError::unsupported("ON DUPLICATE KEY UPDATE")
                .with_hint("Write ON CONFLICT .. DO UPDATE."))
        }
    };
    match &on.conflict_target {
        None if matches!(on.action, ast::OnConflictAction::DoNothing) => {}
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
            if given != key || key.is_empty() {
                let message = "there is no unique or exclusion constraint matching the ON CONFLICT specification";
                return Err(QueryError::new(SqlState::INVALID_COLUMN_REFERENCE, message));
            }
        }
        Some(ast::ConflictTarget::OnConstraint(name)) => {
            let name = table_name(name)?;
            if name != table.primary_key_name() || table.has_hidden_key() {
                let message = format!(
                    "constraint \"{name}\" for table \"{}\" does not exist",
                    table.name
                );
                return Err(QueryError::new(SqlState::UNDEFINED_OBJECT, message));
            }
        }
    }
    Ok(match &on.action {
        ast::OnConflictAction::DoNothing => OnConflict::Skip,
        ast::OnConflictAction::DoUpdate(update) => OnConflict::Update(Box::new(update.clone())),
    })
}

impl Insert {
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
        check_not_null(&self.table, &coerced)?;
        Ok(coerced)
    }

    /// The query that ON CONFLICT DO UPDATE asks of pairs of an existing and an
    /// excluded row: the pair's number, then the row as it shall be.
    pub fn update_query(&self, update: &ast::DoUpdate) -> Result<ast::Statement, QueryError> {
        let alias = &self.alias;
        let mut assigned: Vec<Option<String>> = vec![None; self.table.columns.len()];
        for (position, mut expr) in assignments(&update.assignments, &self.table)? {
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

/// Every column: assigned ones as their expression, others as they are.
fn projection(table: &TableSchema, assigned: &[Option<String>], alias: &str) -> String {
    let columns: Vec<String> = table
        .columns
        .iter()
        .zip(assigned)
        .enumerate()
        .map(|(i, (column, expr))| match expr {
            Some(expr) => format!("({expr}) AS \"__c{i}\""),
            None => format!("{}.{} AS \"__c{i}\"", quote(alias), quote(&column.name)),
        })
        .collect();
    columns.join(", ")
}

/// `SET` clauses as (column, expression); `(a, b) = (x, y)` too.
fn assignments(
    list: &[ast::Assignment],
    table: &TableSchema,
) -> Result<Vec<(usize, ast::Expr)>, QueryError> {
    let last = |name: &ast::ObjectName| {
        name.0
            .last()
            .and_then(|p| p.as_ident())
            .map(fold)
            .unwrap_or_default()
    };
    let mut found: Vec<(usize, ast::Expr)> = Vec::with_capacity(list.len());
    for assignment in list {
        let pairs = match (&assignment.target, &assignment.value) {
            (ast::AssignmentTarget::ColumnName(name), value) => vec![(last(name), value.clone())],
            (ast::AssignmentTarget::Tuple(names), ast::Expr::Tuple(values))
                if names.len() == values.len() =>
            {
                names.iter().map(last).zip(values.iter().cloned()).collect()
            }
            (ast::AssignmentTarget::Tuple(_), _) => {
                return Err(QueryError::unsupported("SET (..) = (SELECT ..)"));
            }
        };
        for (name, value) in pairs {
            let position = assignable(table, &name)?;
            if found.iter().any(|(p, _)| *p == position) {
                let message = format!("multiple assignments to same column \"{name}\"");
                return Err(QueryError::new(SqlState::SYNTAX_ERROR, message));
            }
            found.push((position, value));
        }
    }
    Ok(found)
}

fn assigned_text(expr: &ast::Expr, table: &TableSchema, position: usize) -> String {
    match expr {
        ast::Expr::Identifier(i)
            if i.quote_style.is_none() && i.value.eq_ignore_ascii_case("default") =>
        {
            table.columns[position]
                .default
                .clone()
                .unwrap_or_else(|| "NULL".into())
        }
        other => other.to_string(),
    }
}

/// Unqualified columns of the table become `alias.column`.
fn qualify(expr: &mut ast::Expr, table: &TableSchema, alias: &str) {
    struct Qualifier<'a>(&'a TableSchema, &'a str);
    impl VisitorMut for Qualifier<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
            if let ast::Expr::Identifier(ident) = expr {
                if self.0.column_index(&fold(ident)).is_some() {
                    let own = ast::Ident::with_quote('"', self.1);
                    *expr = ast::Expr::CompoundIdentifier(vec![own, ident.clone()]);
                }
            }
            ControlFlow::Continue(())
        }
    }
    let _ = expr.visit(&mut Qualifier(table, alias));
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

/// Plans an UPDATE.
pub fn update(update: &ast::Update, catalog: &Catalog) -> Result<Modify, QueryError> {
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
    let mut from = vec![update.table.to_string()];
    match &update.from {
        Some(
            ast::UpdateTableFromKind::AfterSet(tables)
            | ast::UpdateTableFromKind::BeforeSet(tables),
        ) => {
            from.extend(tables.iter().map(ToString::to_string));
        }
        None => {}
    }
    let source = select_rows(
        &alias,
        &projection(&table, &assigned, &alias),
        &from,
        &update.selection,
    )?;
    let returning = returning_query(&update.returning, &alias);
    Ok(Modify {
        table,
        source,
        kind: Kind::Put,
        returning,
        parameter_types,
    })
}

/// Plans a DELETE.
pub fn delete(delete: &ast::Delete, catalog: &Catalog) -> Result<Modify, QueryError> {
    let (ast::FromTable::WithFromKeyword(tables) | ast::FromTable::WithoutKeyword(tables)) =
        &delete.from;
    let [target] = tables.as_slice() else {
        return Err(QueryError::unsupported("DELETE from several tables"));
    };
    let (table, alias) = target_of(&target.relation, catalog)?;
    let mut from = vec![target.to_string()];
    from.extend(delete.using.iter().flatten().map(ToString::to_string));
    let nothing_assigned = vec![None; table.columns.len()];
    let source = select_rows(
        &alias,
        &projection(&table, &nothing_assigned, &alias),
        &from,
        &delete.selection,
    )?;
    let returning = returning_query(&delete.returning, &alias);
    Ok(Modify {
        table,
        source,
        kind: Kind::Delete,
        returning,
        parameter_types: Vec::new(),
    })
}

fn select_rows(
    alias: &str,
    columns: &str,
    from: &[String],
    selection: &Option<ast::Expr>,
) -> Result<ast::Statement, QueryError> {
    let condition = selection
        .as_ref()
        .map_or_else(String::new, |c| format!(" WHERE {c}"));
    parse_query(&format!(
        "SELECT {}.{} AS \"__key\", {columns} FROM {}{condition}",
        quote(alias),
        chronos_model::HIDDEN_KEY_COLUMN,
        from.join(", ")
    ))
}

impl Modify {
    /// Keys of the rows found and the rows in the table's columns, from a batch
    /// that `source` gave. A row found twice (UPDATE .. FROM) counts once, as
    /// `seen` tells across batches.
    pub fn rows(
        &self,
        batch: &RecordBatch,
        seen: &mut std::collections::HashSet<Key>,
    ) -> Result<(Vec<Key>, RecordBatch), QueryError> {
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
            check_not_null(&self.table, &rows)?;
        }
        Ok((keys, rows))
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

/// A change that deletes a row.
pub fn removal(key: Key) -> RowChange {
    RowChange {
        key,
        expect: Expect::Unchanged,
        kind: Kind::Delete,
        row: Bytes::new(),
    }
}

/// A change that writes a row.
pub fn put(key: Key, values: &[Value], expect: Expect) -> RowChange {
    let mut row = Vec::with_capacity(16 + values.len() * 12);
    encode_row(values, &mut row);
    RowChange {
        key,
        expect,
        kind: Kind::Put,
        row: row.into(),
    }
}

/// The values of one row of a batch in the table's columns.
pub fn row_values(
    table: &TableSchema,
    batch: &RecordBatch,
    row: usize,
) -> Result<Vec<Value>, QueryError> {
    table
        .columns
        .iter()
        .zip(batch.columns())
        .map(|(c, array)| Ok(value_at(array, row, &c.data_type)?))
        .collect()
}

/// The key of a row.
pub fn key_of(table: &TableSchema, values: &[Value]) -> Result<Key, QueryError> {
    if table.has_hidden_key() {
        return Ok(Key::default());
    }
    let key: Vec<Value> = table
        .primary_key
        .iter()
        .map(|&c| values[c].clone())
        .collect();
    encode_key(table, &key).map_err(|e| match e {
        chronos_model::KeyError::Null { column } => not_null_violation(table, &column, values),
        chronos_model::KeyError::Data(e) => e.into(),
    })
}

/// New rows as changes: few as rows, many as columns.
pub fn insertions(
    table: &TableSchema,
    rows: RecordBatch,
    expect: Expect,
) -> Result<Change, QueryError> {
    if rows.num_rows() >= COLUMNAR_ROWS_MIN {
        let batch = RecordBatch::try_new(table.arrow_schema(), rows.columns().to_vec())
            .map_err(|e| QueryError::new(SqlState::INTERNAL, e.to_string()))?;
        return Ok(Change::Batch(BatchChange {
            table: table.id,
            expect,
            batch,
        }));
    }
    let rows = (0..rows.num_rows())
        .map(|row| {
            let values = row_values(table, &rows, row)?;
            Ok(put(key_of(table, &values)?, &values, expect))
        })
        .collect::<Result<Vec<_>, QueryError>>()?;
    Ok(Change::Rows(RowChanges {
        table: table.id,
        rows,
    }))
}

/// Errors with 23502 when a NOT NULL column holds a NULL.
pub fn check_not_null(table: &TableSchema, rows: &RecordBatch) -> Result<(), QueryError> {
    for (column, array) in table.columns.iter().zip(rows.columns()) {
        if !column.nullable && array.null_count() > 0 {
            let row = (0..array.len()).find(|&i| array.is_null(i)).unwrap_or(0);
            return Err(not_null_violation(
                table,
                &column.name,
                &row_values(table, rows, row)?,
            ));
        }
    }
    Ok(())
}

/// 23502, with the row as PostgreSQL shows it.
pub fn not_null_violation(table: &TableSchema, column: &str, row: &[Value]) -> QueryError {
    let message = format!(
        "null value in column \"{column}\" of relation \"{}\" violates not-null constraint",
        table.name
    );
    let shown: Vec<String> = row
        .iter()
        .map(|v| {
            if v.is_null() {
                "null".into()
            } else {
                text::format(v)
            }
        })
        .collect();
    let mut error = QueryError::new(SqlState::NOT_NULL_VIOLATION, message)
        .with_detail(format!("Failing row contains ({}).", shown.join(", ")));
    error.table = Some(table.name.clone());
    error.column = Some(column.to_owned());
    error
}
