//! Statements prepared by SQL, and the way of all statements about something with a name.
//!
//! `PREPARE p AS ..` keeps a text, after it was planned once; `EXECUTE p (..)` plans it, as any other statement,
//! through the node's memory of plans, evaluates the values and runs it. The protocol's own prepared statements are a
//! name space of their own.

use std::collections::HashMap;
use std::sync::Arc;

use chronos_model::{value_at, DataType, SqlState, Value};
use chronos_query::sql::{self, Declare, Direction, Named};
use chronos_store::{MemoryClass, Reservation};
use tokio_util::sync::CancellationToken;

use super::command::done;
use super::prepare::{known, Plan};
use super::{Prepared, Session};
use crate::{Error, Outcome};

/// Statements that a session may have prepared by SQL.
const STATEMENTS_MAX: usize = 4096;

/// A statement of a session, under a name.
#[derive(Clone)]
pub(super) struct Statement {
    sql: Arc<str>,
    types: Vec<DataType>,
}

/// What a session has prepared by SQL.
pub(super) type Statements = HashMap<String, Kept>;

/// A statement, and the memory for its text.
pub(super) struct Kept {
    statement: Statement,
    _held: Reservation,
}

/// A planned statement about something with a name.
pub(super) enum NamedPlan {
    Prepare(String, Statement),
    /// What is executed, and the expressions for its parameters.
    Execute(Arc<Prepared>, Vec<String>),
    Declare(Declare, Arc<Prepared>),
    Fetch(String, Direction),
    Move(String, Direction),
    Close(Option<String>),
}

impl Session {
    pub(super) fn memory_of(&self, purpose: &'static str) -> Reservation {
        self.node
            .memory()
            .reservation(MemoryClass::Queries, purpose)
    }

    /// Plans a statement about something with a name; `None`: it is none.
    pub(super) fn plan_named(
        &self,
        sql: &Arc<str>,
        declared: &[Option<DataType>],
    ) -> Result<Option<Prepared>, Error> {
        let Some(named) = sql::named(sql)? else {
            return Ok(None);
        };
        let mut parameters = Vec::new();
        let mut columns = None;
        let plan =
            match named {
                Named::Prepare(name, types, body) => {
                    let statement = self.statement(&types, body)?;
                    NamedPlan::Prepare(name, statement)
                }
                Named::Execute(name, values) => {
                    let kept = self.statements.get(&name);
                    let statement = &kept.ok_or_else(|| sql::no_statement(&name))?.statement;
                    let wanted = statement.types.len();
                    if values.len() != wanted {
                        let message =
                            format!("wrong number of parameters for prepared statement \"{name}\"");
                        return Err(Error::new(SqlState::SYNTAX_ERROR, message).with_detail(
                            format!("Expected {wanted} parameters but got {}.", values.len()),
                        ));
                    }
                    let planned = self.plan(&statement.sql, &known(&statement.types))?;
                    columns = planned.columns.clone();
                    NamedPlan::Execute(planned, values)
                }
                Named::Declare(declare) => {
                    let query: Arc<str> = declare.query.as_str().into();
                    let planned = self.plan_generally(
                        &query,
                        declared,
                        chronos_query::dml::Portion::UntilChanged,
                    )?;
                    parameters = planned.parameters.clone();
                    NamedPlan::Declare(declare, planned)
                }
                Named::Fetch(name, direction) => {
                    columns = Some(self.cursors.schema(&name)?);
                    NamedPlan::Fetch(name, direction)
                }
                Named::Move(name, direction) => NamedPlan::Move(name, direction),
                Named::Close(name) => NamedPlan::Close(name),
            };
        Ok(Some(Prepared {
            sql: Arc::clone(sql),
            parameters,
            columns,
            plan: Plan::Named(Box::new(plan)),
            catalog_version: self.catalog_version(),
            search_path: self.facts.search_path.clone(),
        }))
    }

    /// A statement to be kept: it must be one that can be planned.
    fn statement(&self, types: &[String], body: String) -> Result<Statement, Error> {
        let catalog = self.catalog();
        let mut declared = Vec::with_capacity(types.len());
        for given in types {
            let known = match given.to_ascii_lowercase().as_str() {
                "unknown" => None,
                _ => {
                    let query = sql::parse_query(&format!("SELECT CAST(NULL AS {given})"))?;
                    let plan = self.plan_over(&query, &[], &[], &catalog)?;
                    Some(DataType::of_field(plan.schema.field(0)))
                }
            };
            declared.push(known);
        }
        if sql::named(&body)?.is_some() {
            let message = "what is prepared must be a query or a change of rows";
            return Err(Error::new(SqlState::SYNTAX_ERROR, message));
        }
        let sql: Arc<str> = body.into();
        let planned = self.plan(&sql, &declared)?;
        let is_preparable = matches!(
            planned.plan,
            Plan::Query(_) | Plan::Direct(_) | Plan::Insert(_) | Plan::Modify(_)
        );
        if !is_preparable {
            let message = "what is prepared must be a query or a change of rows";
            return Err(Error::new(SqlState::SYNTAX_ERROR, message));
        }
        let mut types = planned.parameters.clone();
        for unused in declared.iter().skip(types.len()) {
            types.push(unused.clone().unwrap_or(DataType::Text));
        }
        Ok(Statement { sql, types })
    }

    pub(super) async fn execute_named(
        &mut self,
        plan: &NamedPlan,
        parameters: &[Value],
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        match plan {
            NamedPlan::Prepare(name, statement) => {
                if self.statements.contains_key(name) {
                    let message = format!("prepared statement \"{name}\" already exists");
                    return Err(Error::new(SqlState::DUPLICATE_PREPARED, message));
                }
                if self.statements.len() >= STATEMENTS_MAX {
                    let message = format!("more than {STATEMENTS_MAX} statements are prepared");
                    return Err(Error::new(SqlState::PROGRAM_LIMIT, message));
                }
                let mut held = self.memory_of("prepared statements");
                held.try_grow(statement.sql.len() as u64)?;
                let kept = Kept {
                    statement: statement.clone(),
                    _held: held,
                };
                self.statements.insert(name.clone(), kept);
                done("PREPARE")
            }
            NamedPlan::Execute(planned, expressions) => {
                let values = self.values_of(expressions, &planned.parameters).await?;
                let values = &values[..planned.parameters.len()];
                let planned = match self.planned_for_time(planned)? {
                    Some(for_time) => for_time,
                    None => Arc::clone(planned),
                };
                Box::pin(self.execute_once(&planned, values, token)).await
            }
            NamedPlan::Declare(declare, query) => self.declare(declare, query, parameters).await,
            NamedPlan::Fetch(name, direction) => self.fetch(name, *direction).await,
            NamedPlan::Move(name, direction) => self.move_cursor(name, *direction).await,
            NamedPlan::Close(name) => self.close_cursor(name.as_deref()),
        }
    }

    /// What expressions without columns are, as values of these types; those beyond them are only checked.
    async fn values_of(
        &mut self,
        expressions: &[String],
        types: &[DataType],
    ) -> Result<Vec<Value>, Error> {
        if expressions.is_empty() {
            return Ok(Vec::new());
        }
        let cast = expressions.iter().enumerate().map(|(i, expression)| {
            let wanted = types.get(i).unwrap_or(&DataType::Text);
            format!("CAST(({expression}) AS {wanted})")
        });
        let query = format!("SELECT {}", cast.collect::<Vec<_>>().join(", "));
        let catalog = self.catalog();
        let plan = self.plan_text(&query, &catalog)?;
        self.authorize_query(&plan)?;
        let mut held = self.memory_of("values of EXECUTE");
        let batches = self.collect(&plan, &[], &mut held).await?;
        let internal = || Error::new(SqlState::INTERNAL, "the values of EXECUTE are no row");
        let batch = batches.first().ok_or_else(internal)?;
        let fields = plan.schema.fields().iter().zip(batch.columns());
        fields
            .map(|(field, column)| {
                value_at(column, 0, &DataType::of_field(field))
                    .map_err(|e| Error::from(chronos_query::QueryError::from(e)))
            })
            .collect()
    }

    /// DEALLOCATE. A name that PREPARE has not given may be one that the protocol has, which drivers
    /// deallocate so; the protocol's layer keeps those, and an unknown name is no error for it.
    pub(super) fn deallocate(&mut self, name: Option<&str>) -> Result<Outcome, Error> {
        match name {
            None => {
                self.statements.clear();
                done("DEALLOCATE ALL")
            }
            Some(name) => {
                self.statements.remove(name);
                done("DEALLOCATE")
            }
        }
    }
}
