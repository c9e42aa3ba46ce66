//! The general query engine: DataFusion over the store.
//!
//! One shared session state holds functions, rules and limits. A statement is
//! planned against a catalog ([`Engine::plan`]) and run against a read view
//! ([`Engine::execute`]): plans name tables and system-time bounds, never data,
//! so a cached plan reads whatever view it is later given.

mod casts;
mod checked;
mod checks;
mod coerce;
mod compiled;
mod conjunctions;
mod context;
mod dialect;
mod filters;
mod from_functions;
mod held_bytes;
mod indexes;
mod interval_joins;
mod key_groups;
mod key_order;
mod literals;
mod long_joins;
mod memory;
mod names;
mod notation;
mod null_safe;
mod operators;
mod page_match;
mod page_values;
mod parameters;
mod phrases;
mod physical_rules;
mod rows;
mod scan;
mod scan_source;
mod scan_statistics;
#[cfg(test)]
mod scan_tests;
mod set_operations;
mod settings;
mod signatures;
mod sorted_joins;
mod summaries;
mod table;
mod temporal_bounds;
mod typing;
mod unnest;
mod using;
mod whole_rows;
mod wildcard;
mod yielding;

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use chronos_model::{Catalog, DataType, Role, SqlState, Value, PUBLIC_SCHEMA};
use chronos_store::{MemoryAccount, ReadView, ValidFilter, VersionFilter};
use datafusion::catalog::MemTable;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, ParamValues, ScalarValue};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::execution::{SendableRecordBatchStream, SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{Analyzer, AnalyzerRule};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast;

use crate::depth::Stack;
use crate::functions::{self, Scope};
use crate::QueryError;
pub(crate) use casts::{cast_column, checked};
pub use coerce::{coerce_array, coerce_batch};
pub(crate) use compiled::Compiled;
use context::PlanContext;
pub(crate) use dialect::parse_expression;
use memory::Limits;
pub use memory::SpillOptions;
pub(crate) use phrases::marked as mark_phrases;
pub use settings::{CheckSetting, SequenceCall, SequenceCalls, SessionSettings};

/// Tables whose name begins so exist for one statement only.
pub const TEMPORARY_TABLE_PREFIX: &str = "__chronos_";

/// How the engine may use the machine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Threads a query may use.
    pub parallelism: usize,
    /// What all running queries together may hold.
    pub memory: Arc<MemoryAccount>,
    /// Where they put what they cannot hold.
    pub spill: SpillOptions,
}

/// What a statement reads from: one consistent state and the time it began.
#[derive(Clone)]
pub struct ReadContext {
    /// The data.
    pub view: ReadView,
    /// `now()`, in microseconds since the Unix epoch.
    pub now_micros: i64,
    /// The session's settings.
    pub settings: Arc<SessionSettings>,
    /// What tables without a temporal clause are read at.
    pub defaults: TemporalDefaults,
}

/// What tables without a temporal clause are read at, if not at present.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct TemporalDefaults {
    /// As recorded when.
    pub system: Option<VersionFilter>,
    /// True when.
    pub valid: Option<ValidFilter>,
}

impl TemporalDefaults {
    /// Whether the present is read.
    pub fn are_present(&self) -> bool {
        self.system.is_none() && self.valid.is_none()
    }

    fn system_or(&self, given: VersionFilter) -> VersionFilter {
        match given {
            VersionFilter::Current => self.system.unwrap_or(given),
            given => given,
        }
    }

    fn valid_or(&self, given: ValidFilter) -> ValidFilter {
        match given {
            ValidFilter::Now => self.valid.unwrap_or(given),
            given => given,
        }
    }
}

/// Plans and runs queries.
pub struct Engine {
    state: SessionState,
    long_joins: Arc<long_joins::LongJoins>,
}

/// A planned query: reusable, independent of the data.
#[derive(Clone)]
pub struct QueryPlan {
    logical: LogicalPlan,
    stack: Stack,
    /// Whether it reads or writes settings.
    asks_settings: bool,
    /// Parameter types, `$1` first.
    pub parameters: Vec<DataType>,
    /// Columns of the result.
    pub schema: SchemaRef,
    /// Whether a temporal clause names an instant, so that nothing recorded before it may
    /// still be under way when the view is taken.
    pub reads_instants: bool,
}

impl QueryPlan {
    /// Whether it may give something else each time, even on the same data.
    pub fn is_volatile(&self) -> bool {
        let of_node = |node: &LogicalPlan| {
            let mut found = false;
            node.apply_expressions(|e| {
                found |= e.is_volatile();
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(found)
        };
        // An error is none of these closures'.
        self.logical.exists(of_node).unwrap_or(true)
    }

    /// Whether what it gives depends on its rows alone.
    pub(crate) fn is_immutable(&self) -> bool {
        let is_other =
            |e: &Expr| Ok(matches!(e, Expr::ScalarFunction(f) if !functions::is_pure(&f.func)));
        let of_node = |node: &LogicalPlan| {
            let mut found = false;
            node.apply_expressions(|e| {
                found |= e.exists(is_other)?;
                Ok(TreeNodeRecursion::Continue)
            })?;
            Ok(found)
        };
        // An error is none of these closures'.
        !self.logical.exists(of_node).unwrap_or(true)
    }

    /// The same plan over other rows of a table that exists for one statement only.
    pub(crate) fn over(&self, name: &str, rows: RecordBatch) -> Result<QueryPlan, QueryError> {
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
        let table = provider_as_source(Arc::new(table));
        let replaced = self.logical.clone().transform_down(|node| match node {
            LogicalPlan::TableScan(mut scan) if scan.table_name.table() == name => {
                scan.source = table.clone();
                Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
            }
            other => Ok(Transformed::no(other)),
        })?;
        Ok(QueryPlan {
            logical: replaced.data,
            ..self.clone()
        })
    }

    /// A table that it reads, system tables excepted.
    pub fn reads_table(&self) -> Option<String> {
        let mut found = None;
        let visited = self.logical.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let source = source_as_provider(&scan.source)?;
                if source.downcast_ref::<table::ChronosTable>().is_some() {
                    found = Some(scan.table_name.table().to_owned());
                    return Ok(TreeNodeRecursion::Stop);
                }
            }
            Ok(TreeNodeRecursion::Continue)
        });
        // What cannot be looked at counts as a table.
        found.or_else(|| visited.err().map(|_| "?".to_owned()))
    }

    /// Whether it explains a query instead of running it.
    pub fn is_explain(&self) -> bool {
        matches!(
            self.logical,
            LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)
        )
    }
}

/// Facts about the session that functions can ask for.
#[derive(Clone, Debug, Default)]
pub struct SessionFacts {
    /// `current_user`
    pub user: String,
    /// `current_database()`
    pub database: String,
    /// What the user may do; `None`: ask about system tables and constants.
    pub role: Option<Role>,
    /// `search_path`, if it was set.
    pub search_path: Option<Arc<str>>,
}

impl SessionFacts {
    /// The schemas in which unqualified names are looked for.
    pub fn path(&self, catalog: &Catalog) -> Vec<String> {
        let written = self.search_path.as_deref();
        crate::schemas::effective_path(written.unwrap_or(SEARCH_PATH), catalog, &self.user)
    }

    /// Whether unqualified names mean `public`.
    pub fn means_public(&self, catalog: &Catalog) -> bool {
        let is_own = |own: &[String]| matches!(own, [only] if only == PUBLIC_SCHEMA);
        match &self.search_path {
            None => !catalog.schemas.contains_key(&self.user),
            Some(_) => is_own(&self.path(catalog)),
        }
    }
}

/// `search_path` as sessions begin.
const SEARCH_PATH: &str = "\"$user\", public";

impl Engine {
    /// An engine; it reads nothing before [`execute`](Self::execute).
    pub fn new(options: &EngineOptions) -> Result<Engine, QueryError> {
        let memory = usize::try_from(options.memory.shares().statements).unwrap_or(usize::MAX);
        let limits = Limits::of(memory, options.parallelism);
        let mut config = SessionConfig::new()
            .with_target_partitions(limits.partitions)
            .with_batch_size(limits.batch_rows)
            .with_information_schema(false)
            .set_str("datafusion.sql_parser.dialect", "PostgreSQL")
            .set_str("datafusion.sql_parser.default_null_ordering", "nulls_max")
            .set_bool("datafusion.sql_parser.parse_float_as_decimal", true)
            .set_str("datafusion.execution.time_zone", "+00:00");
        let execution = &mut config.options_mut().execution;
        execution.collect_statistics = false;
        // The engine's plans differ in which columns may be NULL (UNION of coalesced ones), which this takes for a bug.
        execution.skip_physical_aggregate_schema_check = true;
        execution.sort_pushdown_buffer_capacity = limits.ordered_bytes_ahead;
        execution.sort_spill_reservation_bytes = limits.sort_reservation_bytes;
        execution.sort_in_place_threshold_bytes = limits.sort_in_place_bytes;
        let runtime = memory::runtime(&options.memory, &options.spill)?;
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(runtime)
            .with_default_features()
            .with_type_planner(Arc::new(context::SqlTypes))
            .with_analyzer_rules(analyzer_rules())
            .with_physical_optimizer_rules(physical_rules::all(limits.fits_batches))
            .build();
        crate::functions::register(&mut state)?;
        Ok(Engine {
            state,
            long_joins: Arc::new(long_joins::LongJoins::new(options.parallelism)),
        })
    }

    /// Plans a query. `parameter_types` are the types that the client declared;
    /// `temporaries` are tables that only this statement sees.
    pub fn plan(
        &self,
        statement: &ast::Statement,
        catalog: &Arc<Catalog>,
        facts: &SessionFacts,
        temporaries: &[(String, RecordBatch)],
        parameter_types: &[Option<DataType>],
    ) -> Result<QueryPlan, QueryError> {
        let mut statement = statement.clone();
        crate::views::expand(&mut statement, catalog)?;
        let stack = Stack::of(&statement);
        stack.run(|| {
            self.plan_on(
                stack,
                statement,
                catalog,
                facts,
                temporaries,
                parameter_types,
            )
        })
    }

    fn plan_on(
        &self,
        stack: Stack,
        mut statement: ast::Statement,
        catalog: &Arc<Catalog>,
        facts: &SessionFacts,
        temporaries: &[(String, RecordBatch)],
        parameter_types: &[Option<DataType>],
    ) -> Result<QueryPlan, QueryError> {
        let exposes_system_columns = wildcard::mentions_system_columns(&statement);
        if exposes_system_columns {
            wildcard::expand(&mut statement, catalog);
        }
        key_groups::rewrite(&mut statement, catalog);
        names::assign(&mut statement);
        whole_rows::rewrite(&mut statement, catalog);
        checks::check(&mut statement)?;
        literals::rewrite(&mut statement)?;
        phrases::rewrite(&mut statement)?;
        dialect::rewrite(&mut statement)?;
        rows::rewrite(&mut statement);
        notation::rewrite(&mut statement)?;
        using::mark(&mut statement)?;
        let mut tables = HashMap::with_capacity(temporaries.len());
        for (name, batch) in temporaries {
            tables.insert(
                name.clone(),
                Arc::new(MemTable::try_new(
                    batch.schema(),
                    vec![vec![batch.clone()]],
                )?),
            );
        }
        let context = PlanContext::new(
            &self.state,
            Arc::clone(catalog),
            facts.clone(),
            tables,
            exposes_system_columns,
        );
        let mut logical = context.plan(statement.clone(), parameter_types)?;
        let mut types = parameters::types_of(&logical, parameter_types)?;
        if types.contains(&None) {
            // Nothing tells their type, so it is text; what they stand in has to know as well.
            for unknown in types.iter_mut().filter(|t| t.is_none()) {
                *unknown = Some(DataType::Text);
            }
            if let Ok(typed) = context.plan(statement, &types) {
                logical = typed;
            }
        }
        let parameters: Vec<DataType> = types.into_iter().flatten().collect();
        // Coercion decides the types of UNIONs and the like; while parameters have none,
        // it may not be possible yet.
        let analyzed = self.state.analyzer().execute_and_check(
            logical.clone(),
            self.state.config_options(),
            |_, _| {},
        );
        let typed = match &analyzed {
            Ok(plan) => plan,
            Err(_) if !parameters.is_empty() => &logical,
            Err(_) => {
                return Err(analyzed.err().map_or_else(
                    || QueryError::new(SqlState::INTERNAL, "no plan"),
                    QueryError::from,
                ))
            }
        };
        let schema = names::unmarked(typed.schema().as_arrow());
        let reads_instants = temporal_bounds::any(&logical)?;
        Ok(QueryPlan {
            asks_settings: settings::are_asked(&logical)?,
            logical,
            parameters,
            schema,
            reads_instants,
            stack,
        })
    }

    /// The plan without the engine around it, if it takes the rows of one table as they come.
    pub(crate) fn compile(&self, plan: &QueryPlan) -> Option<Compiled> {
        Compiled::of(plan, &self.state)
    }

    /// Runs a plan. The stream's schema is the physical one: its fields may differ
    /// from [`QueryPlan::schema`] in nullability and string layout.
    pub async fn execute(
        &self,
        plan: &QueryPlan,
        parameters: &[Value],
        context: ReadContext,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let started = self.start(plan, parameters, context);
        plan.stack.run_async(started).await
    }

    async fn start(
        &self,
        plan: &QueryPlan,
        parameters: &[Value],
        context: ReadContext,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let mut state = self.state.clone();
        state.execution_props_mut().query_execution_start_time =
            chrono::DateTime::from_timestamp_micros(context.now_micros);
        let mut logical = bind(plan, parameters)?;
        if plan.asks_settings {
            let scope = Arc::new(Scope {
                catalog: Arc::clone(context.view.catalog()),
                facts: SessionFacts::default(),
                settings: Arc::clone(&context.settings),
            });
            logical = settings::bind(logical, &scope)?;
        }
        state.config_mut().set_extension(Arc::new(context));
        let physical = physical_plan(&logical, &state).await?;
        let may_begin_again = sorted_joins::has_hash_join(&physical)?;
        let stream = self.long_joins.execute(physical, state.task_ctx())?;
        if !may_begin_again {
            return Ok(stream);
        }
        let (long_joins, stack) = (Arc::clone(&self.long_joins), plan.stack);
        let again = move || async move {
            let state = sorted_joins::without_hash_joins(state);
            let planned = physical_plan(&logical, &state);
            let physical = stack.run_async(planned).await?;
            long_joins.execute(physical, state.task_ctx())
        };
        Ok(sorted_joins::or_again(stream, again))
    }

    /// Evaluates a constant expression, such as a DEFAULT.
    pub async fn evaluate(
        &self,
        expression: &str,
        context: ReadContext,
        facts: &SessionFacts,
    ) -> Result<RecordBatch, QueryError> {
        use futures::StreamExt;
        let command = crate::sql::parse(&format!("SELECT {expression}"))?;
        let crate::sql::Command::Query(statement) = command else {
            return Err(QueryError::new(
                SqlState::SYNTAX_ERROR,
                "expected an expression",
            ));
        };
        let catalog = Arc::clone(context.view.catalog());
        let plan = self.plan(&statement, &catalog, facts, &[], &[])?;
        let mut stream = self.execute(&plan, &[], context).await?;
        match stream.next().await {
            Some(batch) => Ok(batch?),
            None => Err(QueryError::new(
                SqlState::INTERNAL,
                "a constant expression gave no row",
            )),
        }
    }
}

/// The plan of operators for a logical one.
async fn physical_plan(
    logical: &LogicalPlan,
    state: &SessionState,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let optimized = state.optimize(logical)?;
    let planner = state.query_planner();
    planner.create_physical_plan(&optimized, state).await
}

/// The engine's rules, with our types before them and our arithmetic behind.
fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(typing::Typing)];
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(set_operations::CountDuplicates));
    rules.push(Arc::new(null_safe::SpellOutNullSafe));
    rules.push(Arc::new(unnest::Unnest));
    rules.push(Arc::new(checked::CheckArithmetic));
    rules
}

/// The plan with its parameters replaced by values.
fn bind(plan: &QueryPlan, parameters: &[Value]) -> Result<LogicalPlan, QueryError> {
    if parameters.len() != plan.parameters.len() {
        let message = format!(
            "the statement requires {} parameters, but {} were given",
            plan.parameters.len(),
            parameters.len()
        );
        return Err(QueryError::new(SqlState::PROTOCOL_VIOLATION, message));
    }
    if parameters.is_empty() {
        return Ok(plan.logical.clone());
    }
    let scalars = parameters
        .iter()
        .zip(&plan.parameters)
        .map(|(value, data_type)| scalar(value, data_type))
        .collect::<Result<Vec<_>, _>>()?;
    let logical = temporal_bounds::bind(plan.logical.clone(), &scalars)?;
    let values = ParamValues::List(scalars.into_iter().map(ScalarAndMetadata::from).collect());
    Ok(logical.replace_params_with_values(&values)?)
}

/// A value as DataFusion's scalar.
pub(crate) fn scalar(value: &Value, data_type: &DataType) -> Result<ScalarValue, QueryError> {
    let mut builder = chronos_model::column_builder(data_type, 1);
    chronos_model::append_value(&mut builder, value)?;
    Ok(ScalarValue::try_from_array(&builder.finish(), 0)?)
}
