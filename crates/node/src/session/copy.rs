//! COPY: its options, its rows in, its rows out.

use std::sync::Arc;

use arrow_array::RecordBatch;
use chronos_model::{columns_bytes, Expect, SqlState, Stamp, TableSchema};
use chronos_query::dml::{self, RETURNING_TABLE};
use chronos_query::sql::{self, CopyDirection, CopyStatement};
use chronos_store::{MemoryClass, OutOfMemory, Reservation};

use super::read::drive;
use super::{Session, Statement};
use crate::{CommandTag, CopyFormat, CopyIn, CopyOptions, CopyOut, Error, Outcome};
use tokio_util::sync::CancellationToken;

/// Rows that are gathered into one batch of a write set: one batch is sorted and compared with
/// itself as a whole, several have to be compared row by row.
const BATCH_ROWS: usize = 1 << 20;
/// What a row takes while keys are compared across such batches.
const COMPARED_ROW_BYTES: u64 = 128;

/// What helps a COPY that is too large.
const COPY_HINT: &str =
    "A COPY becomes visible as a whole and is held in memory until then. Load in several steps (chronos import does so), or raise --memory-limit.";

impl Session {
    pub(super) async fn execute_copy(
        &mut self,
        copy: &CopyStatement,
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        let options = options(copy)?;
        match &copy.direction {
            CopyDirection::From { table, columns } => {
                let table = self.copy_table(table)?;
                self.authorize_write(&table.name)?;
                self.refuse_read_only("COPY FROM")?;
                let columns = positions(&table, columns)?;
                Ok(Outcome::CopyIn(CopyIn {
                    table,
                    columns,
                    options,
                    batches: Vec::new(),
                    held: self.copy_memory(),
                }))
            }
            CopyDirection::Of { table, columns } => {
                let query = self.query_of(table, columns)?;
                self.copy_out(&query, options, token).await
            }
            CopyDirection::To { query } => self.copy_out(query, options, token).await,
        }
    }

    async fn copy_out(
        &mut self,
        query: &str,
        options: CopyOptions,
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        let plan = self.plan_copy_query(query)?;
        self.authorize_query(&plan)?;
        let context = self.read_context_of(&plan).await?;
        let stream = self.node.inner.engine.execute(&plan, &[], context).await?;
        let batches = drive(stream, Arc::clone(&plan.schema), self.stop_of(token));
        Ok(Outcome::CopyOut(CopyOut {
            schema: Arc::clone(&plan.schema),
            options,
            batches,
        }))
    }

    /// The query for COPY .. TO of a table: what COPY .. FROM takes, so no generated columns.
    fn query_of(&self, table: &str, columns: &[String]) -> Result<String, Error> {
        let names: Vec<String> = match self.catalog().table(table) {
            Some(schema) => positions(schema, columns)?
                .into_iter()
                .map(|i| sql::quote(&schema.columns[i].name))
                .collect(),
            None => columns.iter().map(|name| sql::quote(name)).collect(),
        };
        let list = match names.is_empty() {
            true => "*".to_owned(),
            false => names.join(", "),
        };
        Ok(format!("SELECT {list} FROM {}", sql::quote(table)))
    }

    fn plan_copy_query(&self, query: &str) -> Result<chronos_query::QueryPlan, Error> {
        let catalog = self.catalog();
        self.plan_over(&sql::parse_query(query)?, &[], &[], &catalog)
    }

    fn copy_table(&self, name: &str) -> Result<Arc<TableSchema>, Error> {
        let found = self.catalog().table(name).cloned();
        found.ok_or_else(|| chronos_query::QueryError::unknown_table(name).into())
    }

    /// Gives data to a running COPY: `batch` has the columns of
    /// [`CopyIn::columns`] in that order.
    ///
    /// Errors: there is no memory for it (53200).
    pub async fn copy_write(&mut self, copy: &mut CopyIn, batch: RecordBatch) -> Result<(), Error> {
        let bytes = columns_bytes(batch.columns()) as u64;
        copy.held.try_grow(bytes).map_err(too_large)?;
        copy.batches.push(batch);
        Ok(())
    }

    fn copy_memory(&self) -> Reservation {
        let memory = self.node.memory();
        memory.reservation(MemoryClass::Writes, "the COPY")
    }

    /// Commits a COPY. Dropping a [`CopyIn`] instead leaves no trace of it
    /// (then call [`fail_transaction`](Self::fail_transaction)).
    pub async fn copy_finish(&mut self, copy: CopyIn) -> Result<CommandTag, Error> {
        let result = self.copy_rows(copy).await;
        if result.is_err() {
            self.fail_transaction();
        }
        let rows = result.map_err(Error::with_own_names)?;
        Ok(CommandTag {
            verb: "COPY",
            rows: Some(rows),
        })
    }

    async fn copy_rows(&mut self, mut copy: CopyIn) -> Result<u64, Error> {
        self.refuse_read_only("COPY FROM")?;
        let table = Arc::clone(&copy.table);
        let rows: u64 = copy.batches.iter().map(|b| b.num_rows() as u64).sum();
        let has_other_defaults = table
            .columns
            .iter()
            .enumerate()
            .any(|(i, c)| !copy.columns.contains(&i) && c.default.is_some());
        let gives_periods = table.period_columns().is_some();
        if has_other_defaults || gives_periods || table.has_row_rules() {
            return self.copy_with_defaults(copy).await;
        }
        let mut changes = Vec::new();
        let mut gathered: Vec<RecordBatch> = Vec::new();
        let mut gathered_rows = 0;
        // Batches are copied when they are put together and sorted by key.
        copy.held.try_grow(copy.held.bytes()).map_err(too_large)?;
        if rows > BATCH_ROWS as u64 {
            let compared = rows * COMPARED_ROW_BYTES;
            copy.held.try_grow(compared).map_err(too_large)?;
        }
        for batch in copy.batches {
            gathered_rows += batch.num_rows();
            gathered.push(full_width(&table, &copy.columns, &batch)?);
            if gathered_rows >= BATCH_ROWS {
                let batch = super::write::concat(&table, &std::mem::take(&mut gathered))?;
                changes.push(dml::insertions(&table, batch, Expect::Absent, &[])?);
                gathered_rows = 0;
            }
        }
        if gathered_rows > 0 {
            let batch = super::write::concat(&table, &gathered)?;
            changes.push(dml::insertions(&table, batch, Expect::Absent, &[])?);
        }
        let written = self.write(&table, changes, Stamp::MAX).await;
        drop(copy.held);
        written.map_err(|e| match e.code {
            SqlState::OUT_OF_MEMORY => e.with_hint(COPY_HINT),
            _ => e,
        })?;
        Ok(rows)
    }

    /// Columns that the data does not have are computed: an INSERT .. SELECT.
    async fn copy_with_defaults(&mut self, copy: CopyIn) -> Result<u64, Error> {
        let table = &copy.table;
        let quoted = |i: &usize| sql::quote(&table.columns[*i].name);
        let names: Vec<String> = copy.columns.iter().map(quoted).collect();
        let names = names.join(", ");
        let insert = format!(
            "INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {RETURNING_TABLE}",
            sql::quote(&table.name)
        );
        let given = super::write::concat(table, &copy.batches)?;
        self.insert_from(&insert, given).await
    }
}

fn too_large(e: OutOfMemory) -> Error {
    Error::from(e).with_hint(COPY_HINT)
}

/// The batch in the table's columns; what it does not have is NULL.
fn full_width(
    table: &TableSchema,
    columns: &[usize],
    batch: &RecordBatch,
) -> Result<RecordBatch, Error> {
    let schema = table.arrow_schema();
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|f| f.as_ref().clone().with_nullable(true))
        .collect();
    let arrays = (0..table.columns.len())
        .map(|i| match columns.iter().position(|c| *c == i) {
            Some(given) => Arc::clone(batch.column(given)),
            None => arrow_array::new_null_array(schema.field(i).data_type(), batch.num_rows()),
        })
        .collect();
    let full = RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(fields)), arrays)
        .map_err(|e| Error::new(SqlState::INTERNAL, e.to_string()))?;
    dml::check_not_null(table, &full)?;
    Ok(full)
}

fn positions(table: &TableSchema, columns: &[String]) -> Result<Vec<usize>, Error> {
    let is_generated = |c: usize| table.columns[c].attributes.generated.is_some();
    if columns.is_empty() {
        let all = 0..table.columns.len();
        return Ok(all.filter(|c| !is_generated(*c)).collect());
    }
    let mut positions = Vec::with_capacity(columns.len());
    for name in columns {
        let position = table.column_index(name).ok_or_else(|| {
            Error::from(chronos_query::QueryError::unknown_column(name, &table.name))
        })?;
        if is_generated(position) {
            let message = format!("column \"{name}\" is a generated column");
            let error = Error::new(SqlState::INVALID_COLUMN_REFERENCE, message);
            return Err(error.with_detail("Generated columns cannot be used in COPY."));
        }
        if positions.contains(&position) {
            return Err(Error::new(
                SqlState::DUPLICATE_COLUMN,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        positions.push(position);
    }
    Ok(positions)
}

fn options(copy: &CopyStatement) -> Result<CopyOptions, Error> {
    let format = match copy.format.as_deref() {
        None | Some("text") => CopyFormat::Text,
        Some("csv") => CopyFormat::Csv,
        Some("binary") => CopyFormat::Binary,
        Some(other) => {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER,
                format!("COPY format \"{other}\" not recognized"),
            )
            .with_hint("Formats are text, csv and binary."))
        }
    };
    let is_csv = format == CopyFormat::Csv;
    let byte = |name: &str, given: Option<char>, default: u8| match given {
        None => Ok(default),
        Some(c) if c.is_ascii() && c != '\n' && c != '\r' && c != '\0' => Ok(c as u8),
        Some(c) => Err(Error::new(
            SqlState::INVALID_PARAMETER,
            format!("COPY {name} must be a single one-byte character, not {c:?}"),
        )),
    };
    let quote = byte("quote", copy.quote, b'"')?;
    let options = CopyOptions {
        format,
        delimiter: byte(
            "delimiter",
            copy.delimiter,
            if is_csv { b',' } else { b'\t' },
        )?,
        null: copy
            .null
            .clone()
            .unwrap_or_else(|| if is_csv { String::new() } else { "\\N".into() }),
        header: copy.header,
        quote,
        escape: byte("escape", copy.escape, quote)?,
    };
    if format == CopyFormat::Binary
        && (copy.header || copy.delimiter.is_some() || copy.null.is_some())
    {
        return Err(Error::new(
            SqlState::SYNTAX_ERROR,
            "HEADER, DELIMITER and NULL are not for COPY in binary format",
        ));
    }
    if !is_csv && (copy.quote.is_some() || copy.escape.is_some()) {
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "COPY quote and escape are available only in CSV mode",
        ));
    }
    Ok(options)
}

impl Session {
    /// Inserts rows that have some of a table's columns and leaves out those whose key is there;
    /// returns how many are new.
    pub(crate) async fn insert_new(
        &mut self,
        table: &TableSchema,
        columns: &[&str],
        rows: RecordBatch,
    ) -> Result<u64, Error> {
        let names: Vec<String> = columns.iter().map(|name| sql::quote(name)).collect();
        let names = names.join(", ");
        let insert = format!(
            "INSERT INTO {} ({names}) SELECT {names} FROM {RETURNING_TABLE} ON CONFLICT DO NOTHING",
            sql::quote(&table.name)
        );
        self.insert_from(&insert, rows).await
    }

    /// Runs an INSERT whose source reads `rows` as [`RETURNING_TABLE`].
    async fn insert_from(&mut self, insert: &str, rows: RecordBatch) -> Result<u64, Error> {
        let statement = Statement { sql: insert.into() };
        let plan = self.plan_insert_over(&statement.sql, &[(RETURNING_TABLE.to_owned(), rows)])?;
        match self.execute_insert(&plan, &[]).await? {
            Outcome::Done(tag) => Ok(tag.rows.unwrap_or(0)),
            _ => Ok(0),
        }
    }
}
