//! What a table demands of its rows beyond types and NOT NULL, judged on rows about to be
//! written: generated columns are computed, CHECK constraints are tested.
//!
//! ```text
//!   rows in the table's columns -> SELECT a, b, (a * 2) .. FROM rows       generated columns
//!                               -> SELECT .. FROM rows WHERE NOT (a > 0)   none may be found
//! ```
//!
//! Both are queries like any other, planned once. Where they depend on the rows alone, which is
//! nearly always so, they are compiled to expressions, and each statement's rows need no engine.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow_schema::{DataType as Arrow, Field, Schema};
use chronos_model::{Catalog, SqlState, TableSchema};
use futures::StreamExt;

use crate::dml::{check_not_null, check_violation, row_values, PAIR_COLUMN};
use crate::engine::Compiled;
use crate::sql::{parse_query, quote};
use crate::{coerce_batch, Engine, QueryError, QueryPlan, ReadContext, SessionFacts};

/// Table under which the rules find the rows.
const ROWS_TABLE: &str = "__chronos_rows";

/// The rules of a table, ready to be applied.
#[derive(Clone)]
pub struct RowRules {
    table: Arc<TableSchema>,
    generated: Option<Asked>,
    checks: Option<Asked>,
    /// Names of the constraints in the order in which they are tested.
    names: Vec<String>,
}

/// What is asked of rows.
#[derive(Clone)]
struct Asked {
    plan: QueryPlan,
    /// The same of each row in its place, if that can be done without the engine.
    compiled: Option<Compiled>,
}

impl RowRules {
    /// `None`: the table demands nothing of the kind.
    ///
    /// Errors: an expression is no condition or value over the table's columns.
    pub fn plan(
        engine: &Engine,
        table: &Arc<TableSchema>,
        catalog: &Arc<Catalog>,
        facts: &SessionFacts,
    ) -> Result<Option<RowRules>, QueryError> {
        if !table.has_row_rules() {
            return Ok(None);
        }
        let none = [(ROWS_TABLE.to_owned(), numbered(table, &empty(table))?)];
        let plan = |query: &str| engine.plan(&parse_query(query)?, catalog, facts, &none, &[]);
        let asked = |queries: Option<Queries>| -> Result<Option<Asked>, QueryError> {
            let Some(queries) = queries else {
                return Ok(None);
            };
            let each = plan(&queries.each)?;
            Ok(Some(Asked {
                compiled: engine.compile(&each),
                plan: plan(&queries.numbered)?,
            }))
        };
        let mut checks: Vec<_> = table.rules.checks.iter().collect();
        checks.sort_by(|a, b| a.name.cmp(&b.name));
        let expressions: Vec<&str> = checks.iter().map(|c| c.expression.as_str()).collect();
        Ok(Some(RowRules {
            generated: asked(generated_queries(table))?,
            checks: asked(check_queries(table, &expressions))?,
            names: checks.iter().map(|c| c.name.clone()).collect(),
            table: table.clone(),
        }))
    }

    /// Whether generated values depend on nothing but the row.
    pub fn is_immutable(&self) -> bool {
        let generated = self.generated.as_ref();
        generated.is_none_or(|asked| asked.plan.is_immutable())
    }

    /// The rows as they are to be stored.
    ///
    /// Errors: 23514 if one of them fails a CHECK, 23502 if a generated value may not be NULL.
    pub async fn finish(
        &self,
        engine: &Engine,
        mut rows: RecordBatch,
        context: &ReadContext,
    ) -> Result<RecordBatch, QueryError> {
        if rows.num_rows() == 0 {
            return Ok(rows);
        }
        if let Some(asked) = &self.generated {
            rows = self.generate(engine, asked, rows, context).await?;
            check_not_null(&self.table, &rows)?;
        }
        if let Some(asked) = &self.checks {
            self.check(engine, asked, &rows, context).await?;
        }
        Ok(rows)
    }

    async fn generate(
        &self,
        engine: &Engine,
        asked: &Asked,
        rows: RecordBatch,
        context: &ReadContext,
    ) -> Result<RecordBatch, QueryError> {
        let given = numbered(&self.table, &rows)?;
        let computed = match &asked.compiled {
            Some(compiled) => compiled.evaluate(&given)?,
            None => {
                let batches = run(engine, &asked.plan, given, context).await?;
                let Some(first) = batches.first() else {
                    return Err(internal("generated columns gave no rows"));
                };
                let found = arrow_select::concat::concat_batches(&first.schema(), &batches);
                in_order(&found.map_err(internal)?)?.columns()[1..].to_vec()
            }
        };
        if computed
            .iter()
            .any(|column| column.len() != rows.num_rows())
        {
            return Err(internal("generated columns gave another number of rows"));
        }
        let mut computed = computed.into_iter().zip(&asked.plan.schema.fields()[1..]);
        let mut fields = rows.schema().fields().to_vec();
        let mut columns = rows.columns().to_vec();
        for (i, column) in self.table.columns.iter().enumerate() {
            if column.attributes.generated.is_some() {
                let (array, field) = computed
                    .next()
                    .ok_or_else(|| internal("a generated column was not computed"))?;
                // Texts come in one layout or another.
                let data_type = array.data_type().clone();
                fields[i] = Arc::new(field.as_ref().clone().with_data_type(data_type));
                columns[i] = array;
            }
        }
        coerce_batch(&self.table, &fields, &columns, rows.num_rows())
    }

    async fn check(
        &self,
        engine: &Engine,
        asked: &Asked,
        rows: &RecordBatch,
        context: &ReadContext,
    ) -> Result<(), QueryError> {
        let given = numbered(&self.table, rows)?;
        let mut worst: Option<(usize, usize)> = None;
        match &asked.compiled {
            Some(compiled) => {
                let failed = compiled.evaluate(&given)?;
                self.note_worst(&failed, |row| row, &mut worst);
            }
            None => {
                for batch in run(engine, &asked.plan, given, context).await? {
                    let numbers = batch.column(0).as_primitive::<Int64Type>();
                    let number = |row: usize| numbers.value(row) as usize;
                    self.note_worst(&batch.columns()[1..], number, &mut worst);
                }
            }
        }
        match worst {
            None => Ok(()),
            Some((row, check)) => {
                let values = row_values(&self.table, rows, row)?;
                Err(check_violation(&self.table, &self.names[check], &values))
            }
        }
    }

    /// Notes the first row that fails, and the first CHECK that it fails.
    fn note_worst(
        &self,
        failed: &[ArrayRef],
        number: impl Fn(usize) -> usize,
        worst: &mut Option<(usize, usize)>,
    ) {
        for (check, failed) in failed.iter().enumerate().take(self.names.len()) {
            let failed = failed.as_boolean();
            if failed.true_count() == 0 {
                continue;
            }
            let fails = |row: &usize| failed.is_valid(*row) && failed.value(*row);
            let first = (0..failed.len()).filter(fails).map(&number).min();
            let found = first.map(|row| (row, check));
            *worst = worst.take().into_iter().chain(found).min();
        }
    }
}

/// The condition that is true of rows that fail a CHECK.
pub fn is_false(expression: &str) -> String {
    format!("(({expression}) IS FALSE)")
}

/// What is asked of rows, in two forms.
struct Queries {
    /// Of each row in its place.
    each: String,
    /// With the rows' numbers in front; a query does not promise an order.
    numbered: String,
}

fn check_queries(table: &TableSchema, checks: &[&str]) -> Option<Queries> {
    if checks.is_empty() {
        return None;
    }
    let failed: Vec<String> = checks.iter().map(|c| is_false(c)).collect();
    let shown = failed.iter().enumerate();
    let shown: Vec<String> = shown.map(|(i, f)| format!("{f} AS \"__f{i}\"")).collect();
    let (shown, name) = (shown.join(", "), quote(&table.name));
    Some(Queries {
        each: format!("SELECT {shown} FROM {ROWS_TABLE} AS {name}"),
        numbered: format!(
            "SELECT {PAIR_COLUMN}, {shown} FROM {ROWS_TABLE} AS {name} WHERE {}",
            failed.join(" OR ")
        ),
    })
}

fn generated_queries(table: &TableSchema) -> Option<Queries> {
    let columns = table.columns.iter().enumerate();
    let computed: Vec<String> = columns
        .filter_map(|(i, c)| Some((i, c.attributes.generated.as_ref()?)))
        .map(|(i, expression)| format!("({expression}) AS \"__c{i}\""))
        .collect();
    if computed.is_empty() {
        return None;
    }
    let (computed, name) = (computed.join(", "), quote(&table.name));
    Some(Queries {
        each: format!("SELECT {computed} FROM {ROWS_TABLE} AS {name}"),
        numbered: format!("SELECT {PAIR_COLUMN}, {computed} FROM {ROWS_TABLE} AS {name}"),
    })
}

async fn run(
    engine: &Engine,
    plan: &QueryPlan,
    rows: RecordBatch,
    context: &ReadContext,
) -> Result<Vec<RecordBatch>, QueryError> {
    let plan = plan.over(ROWS_TABLE, rows)?;
    let mut stream = engine.execute(&plan, &[], context.clone()).await?;
    let mut batches = Vec::new();
    while let Some(batch) = stream.next().await {
        batches.push(batch?);
    }
    Ok(batches)
}

fn empty(table: &TableSchema) -> RecordBatch {
    RecordBatch::new_empty(table.arrow_schema())
}

/// Rows with their numbers behind them: a query does not promise an order.
fn numbered(table: &TableSchema, rows: &RecordBatch) -> Result<RecordBatch, QueryError> {
    let fields = table.columns.iter();
    let mut fields: Vec<Field> = fields
        .map(|c| c.arrow_field().with_nullable(true))
        .collect();
    fields.push(Field::new(PAIR_COLUMN, Arrow::Int64, false));
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    let numbers = Int64Array::from_iter_values(0..rows.num_rows() as i64);
    columns.push(Arc::new(numbers));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(internal)
}

/// Rows in the order of the numbers in their first column.
fn in_order(rows: &RecordBatch) -> Result<RecordBatch, QueryError> {
    let numbers = rows.column(0).as_primitive::<Int64Type>().values();
    if numbers.is_sorted() {
        return Ok(rows.clone());
    }
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    order.sort_unstable_by_key(|row| numbers[*row as usize]);
    arrow_select::take::take_record_batch(rows, &UInt32Array::from(order)).map_err(internal)
}

fn internal(e: impl std::fmt::Display) -> QueryError {
    QueryError::new(SqlState::INTERNAL, e.to_string())
}
