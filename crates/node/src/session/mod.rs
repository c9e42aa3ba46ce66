//! Sessions: one client's settings, transaction and statements.
//!
//! A statement's way: [`Session::split`] -> [`Session::prepare`] (direct plan, or
//! the engine's) -> [`Session::execute`] (a read view, or a write set that is
//! proposed) -> [`Outcome`]. Autocommit statements that lose against a
//! concurrent write are run again; in a transaction block the client is told
//! (40001).

mod alter;
mod answers;
mod authority;
mod cancel;
mod command;
mod conflict;
mod consistency;
mod copy;
mod cursor;
mod direct;
mod direct_upsert;
mod foreign_keys;
mod index;
mod insert;
mod maintenance;
mod migration;
mod modify;
mod named;
mod once;
mod prepare;
mod primary_key;
mod read;
mod references;
mod schemas;
mod scope;
mod serializable;
mod settings;
mod time;
mod timeouts;
mod transaction;
mod users;
mod view;
mod write;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use arrow_schema::SchemaRef;
use chronos_model::{Role, SqlState, Value};
use chronos_query::{
    lex, QueryError, QueryPlan, ReadContext, SequenceCalls, SessionFacts, SessionSettings,
};
use tokio_util::sync::CancellationToken;

pub(crate) use answers::shortened;
pub use cancel::CancelHandle;
pub(crate) use foreign_keys::violation;
pub(crate) use prepare::PlanKey;
pub use prepare::Prepared;
pub(crate) use references::truncates_referenced;
#[cfg(test)]
pub(crate) use timeouts::ends_session;

use crate::auth::Identity;
use crate::sequences::SessionSequences;
use crate::{Error, Node, Notice, Outcome, Severity, TransactionStatus};
use prepare::Plan;
use settings::Settings;
use timeouts::Limit;
use transaction::Transaction;

/// How often an autocommit statement is tried against concurrent writers.
const ATTEMPTS_MAX: u32 = 200;

/// One statement of a query string.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Its text, without the closing semicolon.
    pub sql: Arc<str>,
}

/// A client's session.
pub struct Session {
    node: Node,
    settings: Settings,
    /// The settings as the last statement was given them.
    given: Option<Arc<SessionSettings>>,
    facts: SessionFacts,
    identity: Identity,
    /// When the transaction began, or the last statement outside of one.
    began_nanos: u64,
    /// Gives numbers of sequences.
    sequences: SequenceCalls,
    /// What it knows of them.
    known_sequences: Arc<SessionSequences>,
    transaction: Option<Transaction>,
    /// What PREPARE has prepared.
    statements: named::Statements,
    cursors: cursor::Cursors,
    cancel: CancelHandle,
    notices: Vec<Notice>,
    /// Set once the running statement has proposed its write set.
    committing: Arc<AtomicBool>,
    /// What is known of idempotency keys beside the setting.
    keys: once::Keys,
}

impl Session {
    pub(crate) fn new(node: Node) -> Session {
        let known_sequences = Arc::<SessionSequences>::default();
        Session {
            sequences: crate::sequences::calls_of(&node, Arc::clone(&known_sequences)),
            known_sequences,
            node,
            settings: Settings::new(),
            given: None,
            facts: SessionFacts {
                user: "chronos".into(),
                database: "chronos".into(),
                search_path: None,
                role: Some(Role::Admin),
            },
            identity: Identity::Trusted,
            began_nanos: 0,
            transaction: None,
            statements: named::Statements::default(),
            cursors: cursor::Cursors::default(),
            cancel: CancelHandle::default(),
            notices: Vec::new(),
            committing: Arc::default(),
            keys: once::Keys::default(),
        }
    }

    /// The node that the session talks to.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Splits a query string into its statements (PostgreSQL's lexical rules:
    /// quotes, dollar quotes, nested comments).
    pub fn split(&self, sql: &str) -> Result<Vec<Statement>, Error> {
        let rewritten = chronos_query::sql::rewrite_ttl(sql);
        let sql = rewritten.as_ref();
        let spans = lex::split(sql).map_err(|e| {
            let mut error = Error::new(e.code, e.message.clone());
            error.position = Some(characters(sql, e.position));
            error
        })?;
        Ok(spans
            .into_iter()
            .map(|s| Statement {
                sql: sql[s.start..s.end].into(),
            })
            .collect())
    }

    /// Executes a planned statement. `parameters` are of `prepared.parameters`'
    /// types.
    pub async fn execute(
        &mut self,
        prepared: &Arc<Prepared>,
        parameters: Vec<Value>,
    ) -> Result<Outcome, Error> {
        let token = self.cancel.begin();
        let committing = Arc::clone(&self.committing);
        committing.store(false, Ordering::Release);
        self.note_begin();
        let limit = self.statement_limit();
        let result = {
            let running = self.execute_uncancelled(prepared, parameters, &token);
            tokio::pin!(running);
            let interrupted = tokio::select! {
                biased;
                result = &mut running => Ok(result),
                e = interruption(&token, limit) => Err(e),
            };
            match interrupted {
                Ok(result) => result,
                // Once proposed, a write set cannot be taken back: the client is told
                // what becomes of it.
                Err(_) if committing.load(Ordering::Acquire) => running.await,
                Err(e) => Err(e),
            }
        };
        if result.is_err() {
            self.end_alone();
            self.fail_transaction();
        }
        result.map_err(|e| positioned(e, &prepared.sql))
    }

    async fn execute_uncancelled(
        &mut self,
        prepared: &Arc<Prepared>,
        parameters: Vec<Value>,
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        self.take_written();
        self.refresh_role()?;
        self.refuse_if_failed(&prepared.plan)?;
        self.ready_to_execute(&prepared.plan).await?;
        self.take_search_path();
        if parameters.len() != prepared.parameters.len() {
            let message = format!(
                "bind message supplies {} parameters, but prepared statement requires {}",
                parameters.len(),
                prepared.parameters.len()
            );
            return Err(Error::new(SqlState::PROTOCOL_VIOLATION, message));
        }
        let mut current = Arc::clone(prepared);
        loop {
            // The catalog may have changed since the statement was planned.
            current = self.replanned(current, prepared)?;
            if let Some(for_time) = self.planned_for_time(&current)? {
                current = for_time;
            }
            self.authorize(&current.plan)?;
            let done = self.execute_once(&current, &parameters, token).await;
            match done {
                // Or while it ran.
                Err(e)
                    if e.code == SqlState::SERIALIZATION_FAILURE
                        && !self.in_transaction()
                        && current.plan.depends_on_catalog()
                        && (current.catalog_version != self.catalog_version()
                            || self.planned_for_time(&current)?.is_some()) => {}
                other => return other,
            }
        }
    }

    /// The statement, planned for the catalog that is in force.
    fn replanned(
        &self,
        current: Arc<Prepared>,
        described: &Prepared,
    ) -> Result<Arc<Prepared>, Error> {
        let is_current = current.catalog_version == self.catalog_version()
            && current.search_path == self.facts.search_path;
        let is_bound_late = current.plan.names_what_changes();
        if !is_bound_late && (is_current || !current.plan.is_planned_by_names()) {
            return Ok(current);
        }
        let types = current.parameters.iter().cloned().map(Some);
        let replanned = self.plan(&current.sql, &types.collect::<Vec<_>>())?;
        match has_same_columns(&replanned.columns, &described.columns) {
            true => Ok(replanned),
            // The client may have been told of the columns.
            false => Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "cached plan must not change result type",
            )),
        }
    }

    async fn execute_planned(
        &mut self,
        prepared: &Arc<Prepared>,
        parameters: &[Value],
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        match &prepared.plan {
            Plan::Empty => Ok(Outcome::Empty),
            Plan::Direct(plan) => self.execute_direct(plan, parameters).await,
            Plan::Query(plan) => self.execute_query(plan, parameters, token).await,
            Plan::Setting(plan, setting) => self.execute_setting(plan, setting, token).await,
            Plan::Insert(plan) => self.execute_insert(plan, parameters).await,
            Plan::Modify(plan) => self.execute_modify(plan, parameters).await,
            Plan::Erase(plan) => self.execute_erase(plan, parameters).await,
            Plan::Named(plan) => self.execute_named(plan, parameters, token).await,
            Plan::Command(command) => self.execute_command(command, token).await,
        }
    }

    /// Plans and executes a statement without parameters.
    pub async fn run(&mut self, statement: &Statement) -> Result<Outcome, Error> {
        let prepared = self.prepare(statement, &[]).await?;
        self.execute(&prepared, Vec::new()).await
    }

    /// Tells the session that a statement failed outside of it (bad COPY data, a
    /// protocol error while streaming rows): an open transaction is now failed.
    pub fn fail_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.failed = true;
        }
    }

    /// Where the session stands.
    pub fn transaction_status(&self) -> TransactionStatus {
        match &self.transaction {
            None => TransactionStatus::Idle,
            Some(t) if t.failed => TransactionStatus::Failed,
            Some(t) if t.implicit => TransactionStatus::Idle,
            Some(_) => TransactionStatus::Active,
        }
    }

    /// Opens the implicit transaction of a multi-statement query, unless a
    /// transaction is open.
    ///
    /// Errors: it cannot be known what it must see (57P03).
    pub async fn begin_implicit(&mut self) -> Result<(), Error> {
        if self.transaction.is_none() {
            self.note_begin();
            self.ready_to_read().await?;
            self.transaction = Some(self.new_transaction(true, false));
        }
        Ok(())
    }

    /// Commits the implicit transaction, if one is open; rolls it back if a
    /// statement of it failed.
    pub async fn end_implicit(&mut self) -> Result<(), Error> {
        match self.transaction.take() {
            Some(t) if t.implicit && t.failed => {
                self.sequences_follow();
                self.forget_transaction();
                Ok(())
            }
            Some(t) if t.implicit => self.commit_with_cursors(t).await,
            other => {
                self.transaction = other;
                Ok(())
            }
        }
    }

    /// Notices since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    fn notice(&mut self, severity: Severity, code: SqlState, message: impl Into<String>) {
        self.notices.push(Notice {
            severity,
            code,
            message: chronos_model::plain_message(message.into()),
        });
    }

    /// Settings that clients are told of (ParameterStatus) and that changed
    /// since the last call; the first call gives all of them.
    pub fn take_reported_settings(&mut self) -> Vec<(String, String)> {
        self.take_written();
        self.settings.take_reported()
    }

    /// Sets what the connection's start-up packet asks for (`user`, `database`,
    /// `application_name`, `options`, `client_encoding` ..).
    pub fn set_startup(&mut self, name: &str, value: &str) -> Result<(), Error> {
        match name {
            "user" => {
                self.facts.user = value.to_owned();
                self.settings.tell("session_authorization", value);
                Ok(())
            }
            "database" => {
                self.facts.database = value.to_owned();
                Ok(())
            }
            "replication" if !matches!(value, "false" | "off" | "no" | "0") => Err(Error::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "streaming replication connections are not supported",
            )),
            "replication" => Ok(()),
            "options" => self.set_options(value),
            other => self.settings.set_startup(other, value),
        }
    }

    /// `-c name=value` pairs.
    fn set_options(&mut self, options: &str) -> Result<(), Error> {
        let mut words = options.split_whitespace();
        while let Some(word) = words.next() {
            let pair = match word {
                "-c" => words.next(),
                word => word.strip_prefix("-c").or_else(|| word.strip_prefix("--")),
            };
            if let Some((name, value)) = pair.and_then(|p| p.split_once('=')) {
                self.settings.set_startup(name, value)?;
            }
        }
        Ok(())
    }

    /// A handle that cancels this session's statement.
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    fn now_micros(&self) -> i64 {
        self.node.inner.env.clock.now_micros() as i64
    }

    fn new_transaction(&self, implicit: bool, read_only: bool) -> Transaction {
        let view = self.node.inner.replica.store.read_view();
        // One that was cut short may have left some.
        self.known_sequences.forget();
        // What it writes from now on must be true for it.
        let now_micros = view.now_micros();
        Transaction::new(view, now_micros, implicit, read_only, self.write_memory())
    }

    /// What a query reads. Outside of a transaction, whose view is older anyway, one that names
    /// instants waits for the commits that have stamps and are not applied yet.
    async fn read_context_of(&mut self, plan: &QueryPlan) -> Result<ReadContext, Error> {
        let reads_instants = plan.reads_instants || self.defaults().system.is_some();
        if !reads_instants || self.in_transaction() {
            return self.read_context();
        }
        let now_micros = self.now_micros();
        self.node.inner.replica.settle(now_micros).await?;
        Ok(ReadContext {
            view: self.node.inner.replica.store.read_view(),
            now_micros,
            settings: self.given_settings(),
            defaults: self.defaults(),
        })
    }

    /// What a statement reads: the transaction's view, or the newest.
    fn read_context(&mut self) -> Result<ReadContext, Error> {
        let now_micros = self.now_micros();
        let settings = self.given_settings();
        let defaults = self.defaults();
        match &mut self.transaction {
            Some(t) => Ok(ReadContext {
                view: t.read_view()?,
                now_micros: t.now_micros,
                settings,
                defaults,
            }),
            None => Ok(ReadContext {
                view: self.node.inner.replica.store.read_view(),
                now_micros,
                settings,
                defaults,
            }),
        }
    }

    /// The settings as a statement sees them.
    fn given_settings(&mut self) -> Arc<SessionSettings> {
        self.take_written();
        let transaction = self.transaction.as_ref();
        let is_read_only = transaction.is_some_and(|transaction| transaction.read_only);
        self.known_sequences.follow_mode(is_read_only);
        let changed = self.settings.changed();
        match &self.given {
            Some(given) if given.changed == changed => Arc::clone(given),
            _ => {
                let given = Arc::new(SessionSettings {
                    changed,
                    check: settings::checked,
                    written: parking_lot::Mutex::default(),
                    sequences: Some(self.allowed_sequences()),
                });
                self.given = Some(Arc::clone(&given));
                given
            }
        }
    }

    fn refuse_if_failed(&self, plan: &Plan) -> Result<(), Error> {
        let failed = self.transaction.as_ref().is_some_and(|t| t.failed);
        if failed && !plan.ends_transaction() {
            return Err(Error::new(
                SqlState::IN_FAILED_TRANSACTION,
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        Ok(())
    }
}

/// Waits until the statement is to stop, and says why.
async fn interruption(token: &CancellationToken, limit: Option<Limit>) -> Error {
    let Some(limit) = limit else {
        token.cancelled().await;
        return cancelled();
    };
    tokio::select! {
        () = token.cancelled() => cancelled(),
        () = tokio::time::sleep(limit.after) => limit.error(),
    }
}

/// Whether rows look the same to a client that was told of their columns.
fn has_same_columns(a: &Option<SchemaRef>, b: &Option<SchemaRef>) -> bool {
    let told = |schema: &SchemaRef| -> Vec<_> {
        let fields = schema.fields().iter();
        let told = fields.map(|f| (f.name().clone(), chronos_model::DataType::of_field(f)));
        told.collect()
    };
    a.as_ref().map(told) == b.as_ref().map(told)
}

fn cancelled() -> Error {
    Error::new(
        SqlState::QUERY_CANCELED,
        "canceling statement due to user request",
    )
}

/// 1-based position in characters of a byte offset.
fn characters(sql: &str, offset: usize) -> u32 {
    let before = sql.get(..offset).unwrap_or(sql);
    before.chars().count() as u32 + 1
}

/// A planner's offset as a position in the statement. Where the planner tells none, an
/// unknown table or column is looked up by its name.
fn positioned(error: Error, sql: &str) -> Error {
    let mut error = error.with_own_names();
    let is_unknown_name = matches!(
        error.code,
        SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN
    );
    let offset = error.offset.take().or_else(|| {
        let name = error
            .message
            .split('"')
            .nth(1)
            .filter(|_| is_unknown_name)?;
        let mut tokens = lex::tokens(sql).filter(|t| t.is_name());
        tokens.find(|t| lex::ident(t, sql) == name).map(|t| t.start)
    });
    if let Some(offset) = offset {
        error.position = Some(characters(sql, offset));
    }
    error
}

impl From<QueryError> for Error {
    fn from(e: QueryError) -> Error {
        let mut error = Error::new(e.code, e.message);
        error.detail = e.detail;
        error.hint = e.hint;
        error.table = e.table;
        error.column = e.column;
        error.constraint = e.constraint;
        error.offset = e.offset;
        error
    }
}
