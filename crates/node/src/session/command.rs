//! Statements that are not queries or row changes: DDL, transactions, settings.

use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use chronos_model::{
    Catalog, CatalogEdit, Change, DataType, SequenceSchema, SqlState, Stamp, TableId, Value,
    WriteSet,
};
use chronos_query::sql::{self, Command};
use chronos_query::{ddl, QueryError, SequenceCall};
use chronos_store::Applied;
use tokio_util::sync::CancellationToken;

use super::view::Dropped;
use super::{Session, ATTEMPTS_MAX};
use crate::{CommandTag, Error, Outcome, RowData, Rows, Severity};

pub(super) fn done(verb: &'static str) -> Result<Outcome, Error> {
    Ok(Outcome::Done(CommandTag { verb, rows: None }))
}

/// Columns of SHOW.
pub(super) fn show_columns(name: &str) -> SchemaRef {
    let names: &[&str] = if name == "all" {
        &["name", "setting"]
    } else {
        &[name]
    };
    Arc::new(Schema::new(
        names
            .iter()
            .map(|n| DataType::Text.to_field(n, false))
            .collect::<Vec<_>>(),
    ))
}

impl Session {
    /// Carries a command out; again, if it lost against another that changed tables.
    pub(super) async fn execute_command(
        &mut self,
        command: &Command,
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        self.take_written();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let told = self.notices.len();
            match self.execute_command_once(command, token).await {
                Err(e)
                    if e.code == SqlState::SERIALIZATION_FAILURE
                        && changes_catalog(command)
                        && !self.in_transaction()
                        && attempts < ATTEMPTS_MAX =>
                {
                    self.notices.truncate(told);
                }
                other => return other,
            }
        }
    }

    async fn execute_command_once(
        &mut self,
        command: &Command,
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        match command {
            Command::CreateTable(create) if self.settings.has_narrow_integers() => {
                self.create_table(&ddl::narrow_created(create)).await
            }
            Command::AlterTable(alter) if self.settings.has_narrow_integers() => {
                self.alter_table(&ddl::narrow_altered(alter)).await
            }
            Command::CreateTable(create) => self.create_table(create).await,
            Command::DropTables(names, if_exists, cascade) => {
                self.drop_relations(Dropped::Table, names, *if_exists, *cascade)
                    .await
            }
            Command::DropViews(names, if_exists, cascade) => {
                self.drop_relations(Dropped::View, names, *if_exists, *cascade)
                    .await
            }
            Command::CreateView(create) => self.create_view(create).await,
            Command::CreateTableAs(create) => self.create_table_as(create).await,
            Command::Comment(comment) => self.comment_on(comment).await,
            Command::CreateIndex(create) => self.create_index(create).await,
            Command::DropIndexes(names, if_exists) => self.drop_indexes(names, *if_exists).await,
            Command::CreateSequence(sequence, if_not_exists) => {
                self.create_sequence(sequence, *if_not_exists).await
            }
            Command::DropSequences(names, if_exists) => {
                self.drop_sequences(names, *if_exists).await
            }
            Command::Truncate {
                names,
                cascade,
                restarts,
            } => {
                let tables = self.truncate(names, *cascade).await?;
                if *restarts {
                    self.restart_sequences(tables).await?;
                }
                done("TRUNCATE TABLE")
            }
            Command::CreateSchema(name, if_not_exists) => {
                self.create_schema(name, *if_not_exists).await
            }
            Command::DropSchemas(drop) => self.drop_schemas(drop).await,
            Command::SetConstraints(names, is_deferred) => {
                self.set_constraints(names, *is_deferred)
            }
            Command::AlterTable(alter) => self.alter_table(alter).await,
            Command::AlterOptions(alter) => self.alter_options(alter).await,
            Command::Maintain(maintenance) => self.maintain(maintenance).await,
            Command::Copy(copy) => {
                let copy = sql::copy(copy)?;
                self.execute_copy(&copy, token).await
            }
            Command::Begin(modes, as_of) => {
                let read_only = sql::is_read_only(modes);
                let begun = self.begin(read_only, as_of.as_deref()).await?;
                if sql::is_serializable(modes) {
                    self.make_serializable()?;
                }
                Ok(begun)
            }
            Command::SetSerializable => self.set_serializable(),
            Command::Commit => self.commit().await,
            Command::Rollback(None) => self.rollback(),
            Command::Rollback(Some(savepoint)) => self.rollback_to(savepoint),
            Command::Savepoint(name) => self.savepoint(name),
            Command::Release(name) => self.release(name),
            Command::Set(name, value) => {
                self.set(name, value.as_deref())?;
                done("SET")
            }
            Command::SetLocal(name, value) => self.set_local(name, value.as_deref()),
            Command::Reset(name) if name == "all" => {
                self.settings.outside(self.transaction.is_some());
                self.settings.reset_all();
                self.settings.forget_local();
                done("RESET")
            }
            Command::Reset(name) => {
                self.set(name, None)?;
                done("RESET")
            }
            Command::Show(name) => self.show(name),
            Command::Discard => {
                if self.transaction.is_some() {
                    let message = "DISCARD ALL cannot run inside a transaction block";
                    return Err(Error::new(SqlState::ACTIVE_TRANSACTION, message));
                }
                self.settings.reset_all();
                self.cursors.close_all();
                self.deallocate(None)?;
                done("DISCARD ALL")
            }
            Command::Users(command) => self.change_users(command).await,
            Command::Deallocate(name) => self.deallocate(name.as_deref()),
            Command::NoOperation(verb) => done(verb),
            Command::Query(_)
            | Command::ExplainWrite(..)
            | Command::Erase(_)
            | Command::Insert(..)
            | Command::Update(..)
            | Command::Delete(..) => Err(Error::new(
                SqlState::INTERNAL,
                "a planned statement was executed as a command",
            )),
        }
    }

    fn show(&self, name: &str) -> Result<Outcome, Error> {
        let rows = if name == "all" {
            self.settings
                .all()
                .into_iter()
                .map(|(n, v)| vec![Value::Text(n), Value::Text(v)])
                .collect()
        } else {
            let shown = match self.shown_of_transaction(name) {
                Some(shown) => shown,
                None => self.settings.get(name)?,
            };
            vec![vec![Value::Text(shown)]]
        };
        let tag = CommandTag {
            verb: "SHOW",
            rows: None,
        };
        Ok(Outcome::Rows(Rows {
            schema: show_columns(name),
            data: RowData::Values(rows),
            tag,
        }))
    }

    /// Changes the catalog: at once, or, in a transaction, when that is committed.
    pub(super) async fn change_catalog(&mut self, changes: Vec<Change>) -> Result<Applied, Error> {
        self.may_change_catalog()?;
        if self.in_transaction() {
            self.change_catalog_in_transaction(changes)?;
            return Ok(Applied::default());
        }
        let set = WriteSet {
            begin: Stamp::MAX,
            changes,
        };
        Ok(self.propose(set).await?.applied)
    }

    pub(super) fn may_change_catalog(&self) -> Result<(), Error> {
        self.refuse_other_time("a change of tables")?;
        match &self.transaction {
            Some(transaction) if transaction.read_only => Err(Error::new(
                SqlState::READ_ONLY_TRANSACTION,
                "cannot change tables in a read-only transaction",
            )),
            _ => Ok(()),
        }
    }

    async fn create_table(&mut self, create: &sql::CreateTable) -> Result<Outcome, Error> {
        let mut schema = ddl::table_schema(create)?;
        let sequences = ddl::owned_sequences(create, &mut schema, &self.catalog())?;
        self.check_defaults(&schema, &sequences)?;
        self.check_rules(&schema)?;
        let name = schema.name.clone();
        let indexes = ddl::unique_constraints(create, &schema, &self.catalog())?;
        let for_keys = ddl::foreign_keys(create, &mut schema, &indexes, &self.catalog())?;
        let has_foreign_keys = !schema.rules.foreign_keys.is_empty();
        for key in &schema.rules.foreign_keys {
            self.refuse_periods(&self.catalog(), &schema, key)?;
        }
        let mut changes = vec![Change::CreateTable(schema)];
        changes.extend(indexes.into_iter().map(Change::CreateIndex));
        changes.extend(for_keys.into_iter().map(Change::CreateIndex));
        changes.extend(sequences.into_iter().map(Change::CreateSequence));
        match self.change_catalog(changes).await {
            Err(e)
                if e.code == SqlState::DUPLICATE_TABLE
                    && create.if_not_exists
                    && self.catalog().table(&name).is_some() =>
            {
                self.notice(
                    Severity::Notice,
                    SqlState::DUPLICATE_TABLE,
                    format!("relation \"{name}\" already exists, skipping"),
                );
            }
            other => {
                other?;
                if has_foreign_keys {
                    self.confirm_foreign_keys(&name).await?;
                }
            }
        }
        done("CREATE TABLE")
    }

    /// A DEFAULT must be an expression that the engine can plan, without columns. Those of
    /// sequences that are about to be created are.
    pub(super) fn check_defaults(
        &self,
        schema: &chronos_model::TableSchema,
        fresh: &[SequenceSchema],
    ) -> Result<(), Error> {
        let catalog = self.catalog();
        for column in &schema.columns {
            let Some(default) = &column.default else {
                continue;
            };
            if fresh.iter().any(|s| ddl::asks_sequence(default, &s.name)) {
                continue;
            }
            let cast = format!("SELECT CAST({default} AS {})", column.data_type);
            let planned = sql::parse_query(&cast)
                .map_err(Error::from)
                .and_then(|query| self.plan_over(&query, &[], &[], &catalog));
            if let Err(mut e) = planned {
                e.code = match e.code.0 {
                    "42703" => SqlState::FEATURE_NOT_SUPPORTED,
                    "42846" => SqlState::DATATYPE_MISMATCH,
                    _ => e.code,
                };
                e.detail = Some(format!(
                    "in the default of column \"{}\": {default}",
                    column.name
                ));
                return Err(e);
            }
        }
        Ok(())
    }

    /// 42809: something else has that name.
    pub(super) fn is_not(&self, what: &str, name: &str) -> Error {
        let catalog = self.catalog();
        let (verb, kind) = if catalog.table(name).is_some() {
            ("TABLE", "a table")
        } else if catalog.indexes.contains_key(name) {
            ("INDEX", "an index")
        } else if catalog.views.contains_key(name) {
            ("VIEW", "a view")
        } else {
            ("SEQUENCE", "a sequence")
        };
        Error::new(SqlState("42809"), format!("\"{name}\" is not {what}"))
            .with_hint(format!("Use DROP {verb} to remove {kind}."))
    }

    async fn create_sequence(
        &mut self,
        sequence: &SequenceSchema,
        if_not_exists: bool,
    ) -> Result<Outcome, Error> {
        let name = &sequence.name;
        if if_not_exists && self.catalog().has_relation(name) {
            let message = format!("relation \"{name}\" already exists, skipping");
            self.notice(Severity::Notice, SqlState::DUPLICATE_TABLE, message);
            return done("CREATE SEQUENCE");
        }
        let change = Change::CreateSequence(sequence.clone());
        self.change_catalog(vec![change]).await?;
        done("CREATE SEQUENCE")
    }

    async fn drop_sequences(
        &mut self,
        names: &[sql::ObjectName],
        if_exists: bool,
    ) -> Result<Outcome, Error> {
        let catalog = self.catalog();
        let mut edits = Vec::with_capacity(names.len());
        for name in names {
            let name = sql::table_name(name)?;
            match catalog.sequences.get(&name) {
                Some(sequence) => {
                    check_unused(sequence, &catalog)?;
                    edits.push(CatalogEdit::DropSequence(sequence.id));
                }
                None if catalog.has_relation(&name) => return Err(self.is_not("a sequence", &name)),
                None if if_exists => self.notice(
                    Severity::Notice,
                    SqlState::SUCCESSFUL_COMPLETION,
                    format!("sequence \"{name}\" does not exist, skipping"),
                ),
                None => {
                    let message = format!("sequence \"{name}\" does not exist");
                    return Err(Error::new(SqlState::UNDEFINED_TABLE, message));
                }
            }
        }
        self.edit_catalog(&catalog, edits).await?;
        done("DROP SEQUENCE")
    }

    async fn truncate(
        &mut self,
        names: &[sql::ObjectName],
        cascade: bool,
    ) -> Result<Vec<TableId>, Error> {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            let name = sql::table_name(name)?;
            let table = self.catalog().table(&name).map(|t| t.id);
            found.push(table.ok_or_else(|| QueryError::unknown_table(&name))?);
        }
        let found = self.truncated_tables(found, cascade)?;
        self.change_catalog(found.iter().copied().map(Change::Truncate).collect())
            .await?;
        Ok(found)
    }

    /// Sequences of tables go on from where they started: at once, or when the block commits.
    async fn restart_sequences(&mut self, tables: Vec<TableId>) -> Result<(), Error> {
        let catalog = self.catalog();
        let owned = tables.iter().flat_map(|id| catalog.sequences_of(*id));
        let mut starts: Vec<(TableId, i64)> = owned.map(|s| (s.id, s.start)).collect();
        if let Some(transaction) = &mut self.transaction {
            // Its own are known to nobody else.
            let fresh_from = transaction.fresh_from();
            let later = starts.iter().copied().filter(|(id, _)| *id < fresh_from);
            transaction.tables.restarts.extend(later);
            starts.retain(|(id, _)| *id >= fresh_from);
        }
        self.restart(starts).await
    }

    /// Lets sequences go on from these numbers.
    pub(super) async fn restart(&self, starts: Vec<(TableId, i64)>) -> Result<(), Error> {
        if starts.is_empty() {
            return Ok(());
        }
        let calls = Arc::clone(&self.sequences);
        let restarted = tokio::task::spawn_blocking(move || {
            starts
                .into_iter()
                .try_for_each(|(id, start)| calls(SequenceCall::Set(id, start, false)).map(drop))
        });
        restarted
            .await
            .map_err(|e| Error::new(SqlState::INTERNAL, format!("a restart ended early: {e}")))??;
        Ok(())
    }

    /// Begins a transaction; `as_of`: that reads tables as they were recorded then.
    async fn begin(&mut self, read_only: bool, as_of: Option<&str>) -> Result<Outcome, Error> {
        let as_of = match as_of {
            None => None,
            Some(expression) => {
                let micros = self.moment_of(expression).await?;
                let message = "AS OF SYSTEM TIME needs a moment, not NULL";
                let micros =
                    micros.ok_or_else(|| Error::new(SqlState::INVALID_PARAMETER, message))?;
                self.node.inner.replica.settle(self.now_micros()).await?;
                Some(Stamp::last_of_micros(micros))
            }
        };
        match &mut self.transaction {
            Some(t) if t.implicit => {
                t.implicit = false;
                t.read_only |= read_only;
            }
            Some(_) => {
                self.notice(
                    Severity::Warning,
                    SqlState::ACTIVE_TRANSACTION,
                    "there is already a transaction in progress",
                );
                return done("BEGIN");
            }
            None => {
                let read_only = read_only || as_of.is_some();
                self.transaction = Some(self.new_transaction(false, read_only));
            }
        }
        if let Some(transaction) = self.transaction.as_mut().filter(|_| as_of.is_some()) {
            transaction.as_of = as_of;
            transaction.read_only = true;
        }
        done("BEGIN")
    }

    async fn commit(&mut self) -> Result<Outcome, Error> {
        match self.transaction.take() {
            None => {
                self.notice(
                    Severity::Warning,
                    SqlState::NO_ACTIVE_TRANSACTION,
                    "there is no transaction in progress",
                );
                done("COMMIT")
            }
            Some(t) if t.failed => {
                self.sequences_follow();
                self.forget_transaction();
                done("ROLLBACK")
            }
            Some(t) => {
                self.commit_with_cursors(t).await?;
                done("COMMIT")
            }
        }
    }

    fn rollback(&mut self) -> Result<Outcome, Error> {
        self.forget_transaction();
        if self.transaction.take().is_none_or(|t| t.implicit) {
            self.notice(
                Severity::Warning,
                SqlState::NO_ACTIVE_TRANSACTION,
                "there is no transaction in progress",
            );
        }
        self.sequences_follow();
        done("ROLLBACK")
    }

    fn savepoint(&mut self, name: &str) -> Result<Outcome, Error> {
        let transaction = self.explicit("SAVEPOINT")?;
        if transaction.attempt.is_some() {
            return Err(super::once::no_savepoints());
        }
        transaction.save(name)?;
        self.settings.save();
        done("SAVEPOINT")
    }

    fn release(&mut self, name: &str) -> Result<Outcome, Error> {
        let transaction = self.explicit("RELEASE SAVEPOINT")?;
        let at = position(transaction, name)?;
        transaction.savepoints.truncate(at);
        self.cursors.released(at);
        self.settings.released(at);
        done("RELEASE")
    }

    fn rollback_to(&mut self, name: &str) -> Result<Outcome, Error> {
        let transaction = self.explicit("ROLLBACK TO SAVEPOINT")?;
        let at = position(transaction, name)?;
        transaction.restore(at);
        transaction.failed = false;
        self.sequences_follow();
        self.cursors.rolled_back_to(at + 1);
        self.settings.rolled_back_to(at);
        done("ROLLBACK")
    }

    fn explicit(&mut self, what: &str) -> Result<&mut super::Transaction, Error> {
        match &mut self.transaction {
            Some(t) if !t.implicit => Ok(t),
            _ => Err(Error::new(
                SqlState::NO_ACTIVE_TRANSACTION,
                format!("{what} can only be used in transaction blocks"),
            )),
        }
    }
}

/// Whether a command is worked out on the catalog and then changes it.
pub(super) fn changes_catalog(command: &Command) -> bool {
    matches!(
        command,
        Command::AlterTable(_)
            | Command::AlterOptions(_)
            | Command::CreateTable(_)
            | Command::CreateTableAs(_)
            | Command::CreateSchema(..)
            | Command::DropSchemas(_)
            | Command::DropTables(..)
            | Command::CreateView(_)
            | Command::DropViews(..)
            | Command::DropSequences(..)
            | Command::CreateIndex(_)
            | Command::DropIndexes(..)
            | Command::Comment(_)
            | Command::Users(_)
    )
}

/// 2BP01 if a column needs the sequence.
fn check_unused(sequence: &SequenceSchema, catalog: &Catalog) -> Result<(), Error> {
    let name = &sequence.name;
    for table in catalog.tables.values() {
        for (position, column) in table.columns.iter().enumerate() {
            let is_owner = sequence.owner == Some((table.id, table.column_id(position)));
            let (table, column_name) = (&table.name, &column.name);
            if is_owner && column.attributes.identity.is_some() {
                let message = format!(
                    "cannot drop sequence {name} because column {column_name} of table {table} requires it"
                );
                return Err(Error::new(SqlState("2BP01"), message));
            }
            let default = column.default.as_deref();
            if default.is_some_and(|default| ddl::asks_sequence(default, name)) {
                let message =
                    format!("cannot drop sequence {name} because other objects depend on it");
                return Err(Error::new(SqlState("2BP01"), message).with_detail(format!(
                    "default value for column {column_name} of table {table} depends on sequence {name}"
                )));
            }
        }
    }
    Ok(())
}

fn position(transaction: &super::Transaction, name: &str) -> Result<usize, Error> {
    transaction
        .savepoints
        .iter()
        .rposition(|saved| saved.name == name)
        .ok_or_else(|| {
            Error::new(
                SqlState("3B001"),
                format!("savepoint \"{name}\" does not exist"),
            )
        })
}
