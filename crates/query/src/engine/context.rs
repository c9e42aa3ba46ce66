//! Names to plans: what a table name, a temporal clause, `history(..)` and a
//! type name mean while one statement is planned.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_schema::{DataType as Arrow, FieldRef, SchemaRef};
use chronos_model::{
    name_in, own_name, Catalog, DataType, SqlState, SystemColumn, TableSchema, PUBLIC_SCHEMA,
};
use datafusion::catalog::{MemTable, TableFunctionArgs, TableProvider};
use datafusion::common::{DFSchema, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::datasource::{provider_as_source, DefaultTableSource};
use datafusion::error::Result as DfResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::planner::{
    ContextProvider, ExprPlanner, PlannedRelation, RelationPlanner, RelationPlannerContext,
    RelationPlanning, TypePlanner,
};
use datafusion::logical_expr::{
    col, AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF,
    TableSource, WindowUDF,
};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;

use super::table::{ChronosTable, TemporalClause};
use super::SessionFacts;
use crate::functions::{self, Scope};
use crate::sql::fold;
use crate::temporal::{self, Extent, Period};
use crate::{system_tables, QueryError};

/// Everything that names may refer to in one statement.
pub(super) struct PlanContext<'a> {
    state: &'a SessionState,
    names: Arc<Names>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    /// Ours before the engine's.
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
}

struct Names {
    scope: Arc<Scope>,
    temporaries: HashMap<String, Arc<MemTable>>,
    exposes_system_columns: bool,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Names(catalog version {})", self.scope.catalog.version)
    }
}

impl<'a> PlanContext<'a> {
    pub(super) fn new(
        state: &'a SessionState,
        catalog: Arc<Catalog>,
        facts: SessionFacts,
        temporaries: HashMap<String, Arc<MemTable>>,
        exposes_system_columns: bool,
    ) -> Self {
        let scope = Arc::new(Scope {
            catalog,
            facts,
            settings: Arc::default(),
        });
        let names = Arc::new(Names {
            scope,
            temporaries,
            exposes_system_columns,
        });
        let planner = TemporalRelations {
            names: Arc::clone(&names),
        };
        let mut expr_planners: Vec<Arc<dyn ExprPlanner>> =
            vec![Arc::new(super::operators::Operators)];
        expr_planners.extend(state.expr_planners().iter().cloned());
        PlanContext {
            expr_planners,
            state,
            names,
            relation_planners: vec![Arc::new(planner)],
        }
    }

    pub(super) fn plan(
        &self,
        mut statement: ast::Statement,
        parameter_types: &[Option<DataType>],
    ) -> Result<LogicalPlan, QueryError> {
        system_tables::rewrite::rewrite(&mut statement);
        let options = &self.state.config_options().sql_parser;
        let parser_options = ParserOptions {
            parse_float_as_decimal: options.parse_float_as_decimal,
            enable_ident_normalization: true,
            map_string_types_to_utf8view: true,
            default_null_ordering: options.default_null_ordering.as_str().into(),
            ..ParserOptions::default()
        };
        let declared: Vec<Option<FieldRef>> = parameter_types
            .iter()
            .map(|t| t.as_ref().map(|t| Arc::new(t.to_field("", true))))
            .collect();
        let mut planner_context = PlannerContext::new();
        if !declared.is_empty() {
            planner_context = planner_context.with_prepare_param_data_types(declared);
        }
        let planner = SqlToRel::new_with_options(self, parser_options);
        Ok(planner.sql_statement_to_plan_with_context(statement, &mut planner_context)?)
    }
}

impl Names {
    fn table(&self, name: &TableReference) -> Result<Arc<dyn TableProvider>, QueryError> {
        let table = name.table();
        let schema = name.schema();
        if let Some(temporary) = self.temporaries.get(table) {
            return Ok(Arc::clone(temporary) as _);
        }
        if let Some(found) = self.stored(schema, table) {
            return Ok(Arc::new(self.chronos_table(found, TemporalClause::Current)));
        }
        let system = system_tables::table(schema, table, &self.scope.catalog, &self.scope.facts)?;
        system.ok_or_else(|| QueryError::unknown_table(&unqualified(schema, table)))
    }

    /// The stored table of that name; `schema` is `None` when none was written.
    fn stored(&self, schema: Option<&str>, table: &str) -> Option<&Arc<TableSchema>> {
        let catalog = &self.scope.catalog;
        match schema {
            Some("chronos") => {
                let log = catalog.transactions.iter().map(|log| &log.table);
                let mut own = log.chain([&catalog.idempotency.table]);
                own.find(|t| t.name == table)
            }
            schema => catalog.table(&name_in(schema.unwrap_or(PUBLIC_SCHEMA), table)),
        }
    }

    fn chronos_table(&self, schema: &Arc<TableSchema>, clause: TemporalClause) -> ChronosTable {
        ChronosTable::new(Arc::clone(schema), clause, self.exposes_system_columns)
            .indexed_by(&self.scope.catalog)
    }
}

fn unqualified(schema: Option<&str>, table: &str) -> String {
    match schema {
        Some(schema) if schema != "public" => format!("{schema}.{table}"),
        _ => table.to_owned(),
    }
}

impl ContextProvider for PlanContext<'_> {
    fn get_table_source(&self, name: TableReference) -> DfResult<Arc<dyn TableSource>> {
        Ok(provider_as_source(self.names.table(&name)?))
    }

    fn get_table_function_source(
        &self,
        name: &str,
        args: Vec<Expr>,
    ) -> DfResult<Arc<dyn TableSource>> {
        let function = self
            .state
            .table_functions()
            .get(name)
            .cloned()
            .ok_or_else(|| {
                QueryError::new(
                    SqlState::UNDEFINED_FUNCTION,
                    format!("function {name} does not exist"),
                )
            })?;
        let args = args
            .into_iter()
            .map(|arg| super::temporal_bounds::simplify(arg, self.state))
            .collect::<Result<Vec<_>, _>>()?;
        let provider =
            function.create_table_provider_with_args(TableFunctionArgs::new(&args, self.state))?;
        Ok(provider_as_source(provider))
    }

    fn create_cte_work_table(
        &self,
        name: &str,
        schema: SchemaRef,
    ) -> DfResult<Arc<dyn TableSource>> {
        let table = datafusion::datasource::cte_worktable::CteWorkTable::new(name, schema);
        Ok(provider_as_source(Arc::new(table)))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(SqlTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if name == super::from_functions::SERIES {
            let series = self.state.scalar_functions().get("generate_series");
            return series.cloned().map(functions::series_of_instants);
        }
        functions::find(name, || Arc::clone(&self.names.scope)).or_else(|| {
            let function = self.state.scalar_functions().get(name).cloned()?;
            Some(functions::lenient(function))
        })
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _variable_names: &[String]) -> Option<Arrow> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.state
            .higher_order_functions()
            .keys()
            .cloned()
            .collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.state.window_functions().keys().cloned().collect()
    }
}

/// `t(__sys_as_of(x))`, as temporal clauses were rewritten, and `history('t', key ..)`.
#[derive(Debug)]
struct TemporalRelations {
    names: Arc<Names>,
}

impl RelationPlanner for TemporalRelations {
    fn plan_relation(
        &self,
        relation: ast::TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        if let Some(plan) = super::using::plan(&relation, context)? {
            let planned = PlannedRelation::new(plan, None);
            return Ok(RelationPlanning::Planned(Box::new(planned)));
        }
        let ast::TableFactor::Table {
            name,
            alias,
            args: Some(arguments),
            version: None,
            ..
        } = &relation
        else {
            if let ast::TableFactor::Table {
                version: Some(version),
                ..
            } = &relation
            {
                return Err(
                    QueryError::unsupported(format!("the table version clause {version}")).into(),
                );
            }
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let plan = if name.to_string().eq_ignore_ascii_case("history") {
            self.history(&arguments.args, context)?
        } else if let Some(clauses) = clauses(&arguments.args) {
            let reference = context.object_name_to_table_reference(name.clone())?;
            self.temporal(reference, clauses, context)?
        } else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(
            plan,
            alias.clone(),
        ))))
    }
}

/// A temporal marker function: its name and arguments.
type Marker<'a> = (String, Vec<&'a ast::Expr>);

/// The markers that `temporal` wrote, if the arguments are such.
fn clauses(arguments: &[ast::FunctionArg]) -> Option<Vec<Marker<'_>>> {
    arguments
        .iter()
        .map(|argument| {
            let ast::Expr::Function(function) = plain(argument)? else {
                return None;
            };
            let name = function.name.to_string();
            let ast::FunctionArguments::List(list) = &function.args else {
                return None;
            };
            let marker = name.starts_with("__sys_") || name.starts_with("__valid_");
            let args = list.args.iter().map(plain).collect::<Option<Vec<_>>>()?;
            marker.then_some((name, args))
        })
        .collect()
}

fn plain(argument: &ast::FunctionArg) -> Option<&ast::Expr> {
    match argument {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => Some(e),
        _ => None,
    }
}

impl TemporalRelations {
    fn temporal(
        &self,
        table: TableReference,
        clauses: Vec<Marker<'_>>,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<LogicalPlan> {
        let name = name_in(table.schema().unwrap_or(PUBLIC_SCHEMA), table.table());
        let schema = self.names.stored(table.schema(), table.table());
        let schema = schema.ok_or_else(|| QueryError::unknown_table(&name))?;
        let mut system = TemporalClause::Current;
        let mut valid = TemporalClause::Current;
        let mut given = Vec::new();
        for (marker, arguments) in clauses {
            let bounds = arguments
                .into_iter()
                .map(|e| context.sql_to_expr(e.clone(), &DFSchema::empty()))
                .collect::<DfResult<Vec<_>>>()?;
            let found = temporal::period_of(marker.as_str());
            let (period, clause) = match (found, bounds.as_slice()) {
                (Some((period, Extent::AsOf)), [at]) => (period, TemporalClause::AsOf(at.clone())),
                (Some((period, Extent::FromTo)), [from, to]) => {
                    (period, TemporalClause::FromTo(from.clone(), to.clone()))
                }
                (Some((period, Extent::Between)), [from, to]) => {
                    (period, TemporalClause::Between(from.clone(), to.clone()))
                }
                (Some((period, Extent::All)), []) => (period, TemporalClause::All),
                _ => {
                    let what = format!("{} on table \"{name}\"", marker.as_str());
                    return Err(QueryError::unsupported(what).into());
                }
            };
            if given.contains(&period) {
                let what = match period {
                    Period::System => "FOR SYSTEM_TIME",
                    Period::Valid => "FOR VALID_TIME",
                };
                let message = format!("{what} is given twice for table \"{name}\"");
                return Err(QueryError::new(SqlState::SYNTAX_ERROR, message).into());
            }
            given.push(period);
            match period {
                Period::System => system = clause,
                Period::Valid => valid = clause,
            }
        }
        let provider = self.names.chronos_table(schema, TemporalClause::Current);
        let provider = provider.with_clauses(system, valid);
        LogicalPlanBuilder::scan(
            TableReference::bare(own_name(&name)),
            provider_as_source(Arc::new(provider)),
            None,
        )?
        .build()
    }

    /// The table that a text names, with its schema or without.
    fn table_called(&self, name: &str) -> Result<Option<&Arc<TableSchema>>, QueryError> {
        let scope = &self.names.scope;
        let own = scope.catalog.table(name);
        if own.is_some() && scope.facts.means_public(&scope.catalog) {
            return Ok(own);
        }
        let objects = scope.objects();
        let oid = system_tables::relation_oid(&objects, name)?;
        Ok(oid.and_then(|oid| objects.table(oid)))
    }

    /// All versions of one key, newest first, with their periods.
    fn history(
        &self,
        arguments: &[ast::FunctionArg],
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<LogicalPlan> {
        let usage = || {
            QueryError::new(SqlState::UNDEFINED_FUNCTION, "history needs a table's name and the values of its key")
                .with_hint("Write history('readings', 'device-1', ..), one value per column of the primary key in its order.")
        };
        let mut expressions = arguments.iter().map(plain);
        let name = match expressions.next().flatten() {
            Some(ast::Expr::Value(v)) => match &v.value {
                ast::Value::SingleQuotedString(s) => s.clone(),
                _ => return Err(usage().into()),
            },
            Some(ast::Expr::Identifier(ident)) => fold(ident),
            _ => return Err(usage().into()),
        };
        let schema = self.table_called(&name)?;
        let schema = schema.ok_or_else(|| QueryError::unknown_table(&name))?;
        let values = expressions.collect::<Option<Vec<_>>>().ok_or_else(usage)?;
        if !values.is_empty()
            && (schema.has_hidden_key() || values.len() != schema.primary_key.len())
        {
            let key: Vec<&str> = schema
                .primary_key
                .iter()
                .map(|&c| schema.columns[c].name.as_str())
                .collect();
            let message = format!(
                "history('{name}', ..) takes the {} value(s) of its key ({})",
                key.len(),
                key.join(", ")
            );
            return Err(QueryError::new(SqlState::UNDEFINED_FUNCTION, message).into());
        }
        let provider = ChronosTable::new(Arc::clone(schema), TemporalClause::All, true)
            .with_clauses(TemporalClause::All, TemporalClause::Written);
        let source: Arc<dyn TableSource> = Arc::new(DefaultTableSource::new(Arc::new(provider)));
        let mut plan = LogicalPlanBuilder::scan(TableReference::bare("history"), source, None)?;
        for (&column, value) in schema.primary_key.iter().zip(values) {
            let value = context.sql_to_expr(value.clone(), &DFSchema::empty())?;
            let name = quoted_column(&schema.columns[column].name);
            plan = plan.filter(name.eq(value))?;
        }
        let shown = schema.columns.iter().map(|c| quoted_column(&c.name)).chain(
            SystemColumn::ALL
                .into_iter()
                .filter(|c| *c != SystemColumn::Key)
                .map(|c| quoted_column(c.name())),
        );
        plan.project(shown.collect::<Vec<_>>())?
            .sort([col("_system_from").sort(false, false)])?
            .build()
    }
}

fn quoted_column(name: &str) -> Expr {
    Expr::Column(datafusion::common::Column::from_name(name))
}

/// SQL type names mean what the model says (`INT` is 64 bits).
#[derive(Debug)]
pub(super) struct SqlTypes;

impl TypePlanner for SqlTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> DfResult<Option<FieldRef>> {
        match crate::ddl::data_type(sql_type) {
            // Texts share a layout: without a name the cast would keep that of its operand.
            Ok(data_type) if data_type.is_text() => {
                Ok(Some(Arc::new(data_type.to_field("", true))))
            }
            Ok(data_type) => Ok(Some(Arc::new(data_type.to_result_field("", true)))),
            Err(e) if matches!(sql_type, ast::DataType::Custom(..)) => Err(e.into()),
            Err(_) => Ok(None),
        }
    }
}
