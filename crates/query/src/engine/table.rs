//! A Chronos table as DataFusion sees it: columns, a temporal clause, and a
//! scan of whatever read view the statement runs on.

use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use chronos_model::{Catalog, PeriodBound, SqlState, SystemColumn, TableSchema};
use chronos_store::{ScanColumn, ScanRequest};
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

use super::indexes::{self, IndexScanExec, Usable};
use super::scan::{store_error, ScanExec};
use super::{filters, temporal_bounds, ReadContext};
use crate::QueryError;

/// What of a table's past a statement wants; the bounds are constant expressions.
#[derive(Clone, Debug)]
pub(super) enum TemporalClause {
    Current,
    AsOf(Expr),
    FromTo(Expr, Expr),
    Between(Expr, Expr),
    All,
    /// Of valid time: each version once, as it was written.
    Written,
}

impl TemporalClause {
    pub(super) fn bounds(&self) -> Vec<&Expr> {
        match self {
            TemporalClause::Current | TemporalClause::All | TemporalClause::Written => vec![],
            TemporalClause::AsOf(at) => vec![at],
            TemporalClause::FromTo(from, to) | TemporalClause::Between(from, to) => vec![from, to],
        }
    }

    pub(super) fn map_bounds(
        self,
        mut f: impl FnMut(Expr) -> DfResult<Expr>,
    ) -> DfResult<TemporalClause> {
        Ok(match self {
            TemporalClause::AsOf(at) => TemporalClause::AsOf(f(at)?),
            TemporalClause::FromTo(from, to) => TemporalClause::FromTo(f(from)?, f(to)?),
            TemporalClause::Between(from, to) => TemporalClause::Between(f(from)?, f(to)?),
            constant => constant,
        })
    }
}

/// A table in a plan. Holds no data: the view comes with the execution.
#[derive(Clone, Debug)]
pub(super) struct ChronosTable {
    table: Arc<TableSchema>,
    /// When it was recorded.
    pub(super) clause: TemporalClause,
    /// When it is true.
    pub(super) valid: TemporalClause,
    arrow: SchemaRef,
    /// Whether the table has secondary indexes.
    has_indexes: bool,
}

impl ChronosTable {
    /// All columns count as nullable: the engine carries NOT NULL through subqueries and
    /// outer rows that can be NULL after all.
    pub(super) fn new(
        table: Arc<TableSchema>,
        clause: TemporalClause,
        exposes_system_columns: bool,
    ) -> ChronosTable {
        let mut fields: Vec<Field> = table
            .columns
            .iter()
            .map(|c| c.arrow_field().with_nullable(true))
            .collect();
        if exposes_system_columns {
            fields.extend(
                SystemColumn::ALL
                    .into_iter()
                    .map(|c| c.arrow_field().with_nullable(true)),
            );
        }
        ChronosTable {
            table,
            clause,
            valid: TemporalClause::Current,
            arrow: Arc::new(Schema::new(fields)),
            has_indexes: false,
        }
    }

    /// The same for a table of that catalog, whose indexes filters may help to use.
    pub(super) fn indexed_by(self, catalog: &Catalog) -> ChronosTable {
        let has_indexes = catalog.indexes_of(self.table.id).next().is_some();
        ChronosTable {
            has_indexes,
            ..self
        }
    }

    /// The same with other clauses of system time and valid time.
    pub(super) fn with_clauses(
        &self,
        clause: TemporalClause,
        valid: TemporalClause,
    ) -> ChronosTable {
        ChronosTable {
            clause,
            valid,
            ..self.clone()
        }
    }

    /// The bounds of both clauses.
    pub(super) fn bounds(&self) -> Vec<&Expr> {
        let mut bounds = self.clause.bounds();
        bounds.extend(self.valid.bounds());
        bounds
    }

    fn scan_column(&self, position: usize) -> ScanColumn {
        match position.checked_sub(self.table.columns.len()) {
            None => match self.table.columns[position].attributes.bound {
                Some(PeriodBound::From) => ScanColumn::System(SystemColumn::ValidFrom),
                Some(PeriodBound::To) => ScanColumn::System(SystemColumn::ValidTo),
                None => ScanColumn::Column(position),
            },
            Some(system) => ScanColumn::System(SystemColumn::ALL[system]),
        }
    }
}

#[async_trait]
impl TableProvider for ChronosTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.arrow)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DfResult<Vec<TableProviderFilterPushDown>> {
        Ok(filters
            .iter()
            .map(|f| {
                let by_index = self.has_indexes && indexes::is_usable(f, &self.table);
                if by_index || filters::is_usable(f, &self.table) {
                    TableProviderFilterPushDown::Inexact
                } else {
                    TableProviderFilterPushDown::Unsupported
                }
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let context = state
            .config()
            .get_extension::<ReadContext>()
            .ok_or_else(|| {
                QueryError::new(
                    SqlState::INTERNAL,
                    "a table was scanned outside of a statement",
                )
            })?;
        let now = chrono::DateTime::from_timestamp_micros(context.now_micros);
        let options = Arc::new(state.config_options().clone());
        let filter = temporal_bounds::evaluate(&self.clause, &options, now)?;
        let valid = temporal_bounds::evaluate_valid(&self.valid, &options, now)?;
        let positions: Vec<usize> = match projection {
            Some(p) => p.clone(),
            None => (0..self.arrow.fields().len()).collect(),
        };
        let schema = Arc::new(self.arrow.project(&positions)?);
        let bounds = filters::bounds(filters, &self.table);
        let request = ScanRequest {
            columns: positions.iter().map(|&p| self.scan_column(p)).collect(),
            filter: context.defaults.system_or(filter),
            valid: context.defaults.valid_or(valid),
            key_range: bounds.key_range,
            partitions: state.config().target_partitions(),
            batch_rows: state.config().batch_size(),
            first_rows: None,
            limit: limit.filter(|_| filters.is_empty()),
            column_bounds: bounds.columns,
        };
        let usable = Usable::of(&context.view, &self.table, filters);
        if let Some(usable) = usable.as_ref().filter(|_| !filters.is_empty()) {
            let chosen = indexes::choose(usable, &context.view, &self.table);
            if let Some(chosen) = chosen.map_err(store_error)? {
                let scan = IndexScanExec::new(
                    Arc::clone(&self.table),
                    chosen.index,
                    context.view.clone(),
                    &request,
                    chosen.ranges,
                    schema,
                );
                return Ok(Arc::new(scan.with_entries(chosen.entries)));
            }
        }
        let scan = ScanExec::new(
            Arc::clone(&self.table),
            context.view.clone(),
            request,
            schema,
        )?;
        Ok(Arc::new(scan.with_usable(usable)))
    }
}
