//! From a statement's text to a plan.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use chronos_model::{Catalog, DataType, Kind, Role, SqlState, TableSchema};
use chronos_query::direct::{self, DirectPlan};
use chronos_query::dml::{self, Portion, RETURNING_TABLE};
use chronos_query::sql::{self, Command};
use chronos_query::{lex, QueryPlan, RowRules};
use chronos_store::{MemoryClass, Reservation};

use super::{positioned, Session, Statement};
use crate::Error;

/// A planned statement.
pub struct Prepared {
    /// The text.
    pub sql: Arc<str>,
    /// Parameter types, `$1` first.
    pub parameters: Vec<DataType>,
    /// Columns of the rows it returns; `None`: it returns none.
    pub columns: Option<SchemaRef>,
    pub(super) plan: Plan,
    pub(super) catalog_version: u64,
    /// The search path that it was planned for.
    pub(super) search_path: Option<Arc<str>>,
}

impl Prepared {
    /// A statement that does nothing and looks like one with these parameters and
    /// columns, for tests of protocols.
    #[doc(hidden)]
    pub fn described(parameters: Vec<DataType>, columns: Option<SchemaRef>) -> Prepared {
        Prepared {
            sql: "".into(),
            parameters,
            columns,
            plan: Plan::Empty,
            catalog_version: 0,
            search_path: None,
        }
    }
}

/// What a node remembers plans by.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PlanKey {
    sql: Arc<str>,
    catalog_version: u64,
    declared: Vec<Option<DataType>>,
    user: String,
    role: Option<Role>,
    database: String,
    search_path: Option<Arc<str>>,
    /// Whether rows are true for periods of their own.
    by_period: bool,
}

pub(super) enum Plan {
    Empty,
    /// Names one row by its key, or inserts given rows.
    Direct(Box<DirectPlan>),
    Query(Box<QueryPlan>),
    /// A query, and what its tables are read at.
    Setting(Box<QueryPlan>, Box<sql::Setting>),
    Insert(Box<InsertPlan>),
    Modify(Box<ModifyPlan>),
    Erase(Box<ErasePlan>),
    /// About a prepared statement or a cursor.
    Named(Box<super::named::NamedPlan>),
    Command(Box<Command>),
}

pub(super) struct InsertPlan {
    pub(super) insert: dml::Insert,
    pub(super) source: QueryPlan,
    /// What the table demands of new rows.
    pub(super) rules: Option<RowRules>,
    pub(super) columns: Option<SchemaRef>,
}

/// An ERASE, and the query that finds its keys.
pub(super) struct ErasePlan {
    pub(super) table: Arc<TableSchema>,
    pub(super) source: QueryPlan,
}

pub(super) struct ModifyPlan {
    pub(super) modify: dml::Modify,
    pub(super) source: QueryPlan,
    /// What the table demands of new rows.
    pub(super) rules: Option<RowRules>,
    pub(super) columns: Option<SchemaRef>,
}

impl Plan {
    pub(super) fn depends_on_catalog(&self) -> bool {
        !matches!(self, Plan::Empty | Plan::Command(_))
    }

    /// Whether names were read when it was planned, so that another catalog or another search path
    /// may mean something else by them.
    pub(super) fn is_planned_by_names(&self) -> bool {
        match self {
            Plan::Empty => false,
            Plan::Command(command) => !matches!(
                **command,
                Command::Begin(..)
                    | Command::Commit
                    | Command::Rollback(_)
                    | Command::Savepoint(_)
                    | Command::Release(_)
                    | Command::Set(..)
                    | Command::SetLocal(..)
                    | Command::Show(_)
                    | Command::Reset(_)
                    | Command::Discard
                    | Command::Deallocate(_)
                    | Command::NoOperation(_)
            ),
            _ => true,
        }
    }

    /// Whether it is about a prepared statement or a cursor, of which the session may have
    /// another by that name now.
    pub(super) fn names_what_changes(&self) -> bool {
        use super::named::NamedPlan as N;
        matches!(self, Plan::Named(named) if matches!(**named, N::Execute(..) | N::Fetch(..)))
    }

    /// Whether it is a statement that a failed transaction accepts.
    pub(super) fn ends_transaction(&self) -> bool {
        match self {
            Plan::Command(c) => matches!(**c, Command::Commit | Command::Rollback(_)),
            Plan::Empty => true,
            _ => false,
        }
    }
}

/// Plans of longer texts are not remembered, and what making them takes is reserved.
const SHORT_TEXT_BYTES: usize = 32 << 10;
/// About what a word, number or mark of a long text takes as syntax and as plan, which are
/// there in several forms while they are made.
const PLAN_TOKEN_BYTES: u64 = 800;
/// So often is the text itself there, in constants.
const TEXT_COPIES: u64 = 8;

/// What helps a statement that is too long to be planned.
const LONG_TEXT_HINT: &str =
    "Give fewer rows or values in one statement, use COPY, or raise --memory-limit.";

/// About what planning a text takes.
fn planning_bytes(sql: &str) -> u64 {
    let tokens = lex::tokens(sql).count() as u64;
    tokens * PLAN_TOKEN_BYTES + sql.len() as u64 * TEXT_COPIES
}

impl Session {
    fn plan_memory(&self) -> Reservation {
        let memory = self.node.memory();
        memory.reservation(MemoryClass::Input, "planning the statement")
    }

    /// Plans one statement. `parameter_types` may be shorter than the
    /// parameters; `None` and missing ones are inferred.
    pub async fn prepare(
        &mut self,
        statement: &Statement,
        parameter_types: &[Option<DataType>],
    ) -> Result<Arc<Prepared>, Error> {
        self.take_search_path();
        let mut planned = self.plan(&statement.sql, parameter_types);
        if let Err(error) = &planned {
            if self.knows_more_names(error).await? {
                planned = self.plan(&statement.sql, parameter_types);
            }
        }
        let planned = planned.and_then(|prepared| {
            self.refuse_if_failed(&prepared.plan)?;
            Ok(prepared)
        });
        if planned.is_err() {
            self.fail_transaction();
        }
        planned.map_err(|e| positioned(e, &statement.sql))
    }

    pub(super) fn catalog(&self) -> Arc<Catalog> {
        match &self.transaction {
            Some(t) => Arc::clone(t.view.catalog()),
            None => self.node.inner.replica.store.catalog(),
        }
    }

    pub(super) fn catalog_version(&self) -> u64 {
        self.catalog().version
    }

    pub(super) fn plan(
        &self,
        sql: &Arc<str>,
        declared: &[Option<DataType>],
    ) -> Result<Arc<Prepared>, Error> {
        let catalog = self.catalog();
        if self.facts.means_public(&catalog) {
            if let Some(prepared) = self.plan_direct(sql, declared, &catalog) {
                return Ok(prepared);
            }
        }
        if let Some(prepared) = self.plan_named(sql, declared)? {
            return Ok(Arc::new(prepared));
        }
        self.plan_generally(sql, declared, Portion::UntilChanged)
    }

    /// Plans with the engine. `portion`: what UPDATE and DELETE change that do not say it.
    pub(super) fn plan_generally(
        &self,
        sql: &Arc<str>,
        declared: &[Option<DataType>],
        portion: Portion,
    ) -> Result<Arc<Prepared>, Error> {
        let catalog = self.catalog();
        let key = PlanKey {
            by_period: portion != Portion::UntilChanged,
            sql: Arc::clone(sql),
            catalog_version: catalog.version,
            declared: declared.to_vec(),
            user: self.facts.user.clone(),
            role: self.facts.role,
            database: self.facts.database.clone(),
            search_path: self.facts.search_path.clone(),
        };
        if let Some(prepared) = self.node.inner.plans.get(&key) {
            return Ok(prepared);
        }
        if sql.len() > SHORT_TEXT_BYTES {
            let mut held = self.plan_memory();
            held.try_grow(planning_bytes(sql))
                .map_err(|e| Error::from(e).with_hint(LONG_TEXT_HINT))?;
            return Ok(Arc::new(
                self.plan_in_general(sql, declared, portion, &catalog)?,
            ));
        }
        let prepared = Arc::new(self.plan_in_general(sql, declared, portion, &catalog)?);
        // A text that may hold a password is not remembered.
        if !sql::is_about_users(sql) {
            self.node.inner.plans.insert(key, Arc::clone(&prepared));
        }
        Ok(prepared)
    }

    fn plan_direct(
        &self,
        sql: &Arc<str>,
        declared: &[Option<DataType>],
        catalog: &Arc<Catalog>,
    ) -> Option<Arc<Prepared>> {
        let plan = direct::plan_declared(sql, catalog, declared)?;
        Some(Arc::new(Prepared {
            sql: Arc::clone(sql),
            parameters: plan.parameters.clone(),
            columns: plan.columns.clone(),
            plan: Plan::Direct(Box::new(plan)),
            catalog_version: catalog.version,
            search_path: self.facts.search_path.clone(),
        }))
    }

    fn plan_in_general(
        &self,
        sql: &Arc<str>,
        declared: &[Option<DataType>],
        portion: Portion,
        catalog: &Arc<Catalog>,
    ) -> Result<Prepared, Error> {
        let is_empty = chronos_query::lex::split(sql).is_ok_and(|spans| spans.is_empty());
        let (plan, parameters, columns) = if is_empty {
            (Plan::Empty, Vec::new(), None)
        } else if let Some(setting) = sql::setting(sql)? {
            self.plan_setting(setting, catalog)?
        } else {
            let meant = sql::shorthand(sql, catalog)?;
            let mut command = sql::parse(meant.as_deref().unwrap_or(sql))?;
            self.qualify(&mut command, catalog)?;
            match command {
                Command::Query(statement) => {
                    let plan = self.node.inner.engine.plan(
                        &statement,
                        catalog,
                        &self.facts,
                        &[],
                        declared,
                    )?;
                    let (parameters, schema) = (plan.parameters.clone(), Arc::clone(&plan.schema));
                    (Plan::Query(Box::new(plan)), parameters, Some(schema))
                }
                Command::Insert(insert, overriding) => {
                    let insert = dml::insert(&insert, overriding, catalog)?;
                    self.plan_insert(insert, declared, catalog)?
                }
                Command::Update(update, with) => {
                    let modify = dml::update(&update, with.as_deref(), portion, catalog)?;
                    self.plan_modify(modify, declared, catalog)?
                }
                Command::Delete(delete, with) => {
                    let modify = dml::delete(&delete, with.as_deref(), portion, catalog)?;
                    self.plan_modify(modify, declared, catalog)?
                }
                Command::Erase(erase) => self.plan_erase(&erase, declared, catalog)?,
                Command::Show(name) => {
                    let columns = super::command::show_columns(&name);
                    (
                        Plan::Command(Box::new(Command::Show(name))),
                        Vec::new(),
                        Some(columns),
                    )
                }
                Command::ExplainWrite(statement, options) => {
                    let (plan, parameters, columns) =
                        self.plan_explain(&statement, options, declared, catalog)?;
                    (plan, parameters, columns)
                }
                command => (Plan::Command(Box::new(command)), Vec::new(), None),
            }
        };
        Ok(Prepared {
            sql: Arc::clone(sql),
            parameters,
            columns,
            plan,
            catalog_version: catalog.version,
            search_path: self.facts.search_path.clone(),
        })
    }

    fn plan_erase(
        &self,
        erase: &sql::Erase,
        declared: &[Option<DataType>],
        catalog: &Arc<Catalog>,
    ) -> Result<(Plan, Vec<DataType>, Option<SchemaRef>), Error> {
        let source = self.plan_over(&erase.keys, &[], declared, catalog)?;
        let plan = ErasePlan {
            table: dml::target(&erase.table, catalog)?,
            source,
        };
        let parameters = plan.source.parameters.clone();
        Ok((Plan::Erase(Box::new(plan)), parameters, None))
    }

    /// Plans a query that says what its tables are read at; without parameters.
    fn plan_setting(
        &self,
        setting: sql::Setting,
        catalog: &Arc<Catalog>,
    ) -> Result<(Plan, Vec<DataType>, Option<SchemaRef>), Error> {
        let mut command = sql::parse(&setting.query)?;
        self.qualify(&mut command, catalog)?;
        let Command::Query(statement) = command else {
            let message = "SETTING DEFAULT stands before queries only";
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        };
        let plan = self.plan_over(&statement, &[], &[], catalog)?;
        if !plan.parameters.is_empty() {
            let message = "parameters are not supported behind SETTING DEFAULT";
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                .with_hint("Write FOR SYSTEM_TIME and FOR VALID_TIME behind the tables."));
        }
        let schema = Arc::clone(&plan.schema);
        let plan = Plan::Setting(Box::new(plan), Box::new(setting));
        Ok((plan, Vec::new(), Some(schema)))
    }

    /// Plans an INSERT whose source may read tables that only it sees.
    pub(super) fn plan_insert_over(
        &self,
        sql: &str,
        tables: &[(String, RecordBatch)],
    ) -> Result<InsertPlan, Error> {
        let catalog = self.catalog();
        let Command::Insert(insert, overriding) = sql::parse(sql)? else {
            return Err(Error::new(
                chronos_model::SqlState::INTERNAL,
                "expected an INSERT",
            ));
        };
        let insert = dml::insert(&insert, overriding, &catalog)?;
        let source = self.plan_over(&insert.source, tables, &[], &catalog)?;
        Ok(InsertPlan {
            rules: self.plan_rules(&insert.table, &catalog)?,
            insert,
            source,
            columns: None,
        })
    }

    /// The parameters of all parts of an INSERT are the source's, whose number is the
    /// greatest.
    fn plan_insert(
        &self,
        insert: dml::Insert,
        declared: &[Option<DataType>],
        catalog: &Arc<Catalog>,
    ) -> Result<(Plan, Vec<DataType>, Option<SchemaRef>), Error> {
        let mut types = merge_types(declared, &insert.parameter_types);
        if let dml::OnConflict::Update(update) = &insert.on_conflict {
            let query = insert.update_query(update)?;
            let tables = super::conflict::paired(&insert.table, &[], None)?;
            let plan = self.plan_over(&query, &tables, &types, catalog)?;
            types = merge_types(&types, &known(&plan.parameters));
        }
        let columns = match &insert.returning {
            Some(query) => {
                let no_rows = RecordBatch::new_empty(insert.table.arrow_schema());
                let plan = self.plan_returning(query, no_rows, &types, catalog)?;
                types = merge_types(&types, &known(&plan.parameters));
                Some(plan.schema)
            }
            None => None,
        };
        let source = self.plan_over(&insert.source, &[], &types, catalog)?;
        dml::check_insert(&insert, &source)?;
        let parameters = source.parameters.clone();
        let plan = InsertPlan {
            rules: self.plan_rules(&insert.table, catalog)?,
            insert,
            source,
            columns: columns.clone(),
        };
        Ok((Plan::Insert(Box::new(plan)), parameters, columns))
    }

    fn plan_modify(
        &self,
        modify: dml::Modify,
        declared: &[Option<DataType>],
        catalog: &Arc<Catalog>,
    ) -> Result<(Plan, Vec<DataType>, Option<SchemaRef>), Error> {
        let types = merge_types(declared, &modify.parameter_types);
        let mut source = self.plan_over(&modify.source, &[], &types, catalog)?;
        dml::check_update(&modify, &source)?;
        let mut columns = None;
        if let Some(query) = &modify.returning {
            let no_rows = RecordBatch::new_empty(modify.returning_schema(&source.schema));
            let types = merge_types(&types, &known(&source.parameters));
            let plan = self.plan_returning(query, no_rows, &types, catalog)?;
            if plan.parameters.len() > source.parameters.len() {
                let types = merge_types(&types, &known(&plan.parameters));
                source = self.plan_over(&modify.source, &[], &types, catalog)?;
            }
            columns = Some(plan.schema);
        }
        let parameters = source.parameters.clone();
        let rules = match modify.kind {
            Kind::Put => self.plan_rules(&modify.table, catalog)?,
            Kind::Delete | Kind::Erase => None,
        };
        let plan = ModifyPlan {
            rules,
            modify,
            source,
            columns: columns.clone(),
        };
        Ok((Plan::Modify(Box::new(plan)), parameters, columns))
    }

    /// EXPLAIN of a write explains the query that finds its rows.
    fn plan_explain(
        &self,
        statement: &chronos_query::sql::AstStatement,
        options: sql::ExplainOptions,
        declared: &[Option<DataType>],
        catalog: &Arc<Catalog>,
    ) -> Result<(Plan, Vec<DataType>, Option<SchemaRef>), Error> {
        let (source, noted) = dml::source_of(statement, catalog)?;
        let explained = sql::explain(source, options);
        let types = merge_types(declared, &noted);
        let plan = self
            .node
            .inner
            .engine
            .plan(&explained, catalog, &self.facts, &[], &types)?;
        let (parameters, schema) = (plan.parameters.clone(), Arc::clone(&plan.schema));
        Ok((Plan::Query(Box::new(plan)), parameters, Some(schema)))
    }

    fn plan_rules(
        &self,
        table: &Arc<TableSchema>,
        catalog: &Arc<Catalog>,
    ) -> Result<Option<RowRules>, Error> {
        let engine = &self.node.inner.engine;
        Ok(RowRules::plan(engine, table, catalog, &self.facts)?)
    }

    pub(super) fn plan_returning(
        &self,
        query: &str,
        rows: RecordBatch,
        types: &[Option<DataType>],
        catalog: &Arc<Catalog>,
    ) -> Result<QueryPlan, Error> {
        let tables = [(RETURNING_TABLE.to_owned(), rows)];
        self.plan_over(&sql::parse_query(query)?, &tables, types, catalog)
    }

    /// Plans a query over tables that only it sees.
    pub(super) fn plan_over(
        &self,
        query: &chronos_query::sql::AstStatement,
        tables: &[(String, RecordBatch)],
        types: &[Option<DataType>],
        catalog: &Arc<Catalog>,
    ) -> Result<QueryPlan, Error> {
        Ok(self
            .node
            .inner
            .engine
            .plan(query, catalog, &self.facts, tables, types)?)
    }
}

/// Types that are all known.
pub(super) fn known(types: &[DataType]) -> Vec<Option<DataType>> {
    types.iter().cloned().map(Some).collect()
}

/// Declared types win; where there are none, what the statement itself tells.
fn merge_types(declared: &[Option<DataType>], noted: &[Option<DataType>]) -> Vec<Option<DataType>> {
    (0..declared.len().max(noted.len()))
        .map(|i| {
            declared
                .get(i)
                .cloned()
                .flatten()
                .or_else(|| noted.get(i).cloned().flatten())
        })
        .collect()
}
