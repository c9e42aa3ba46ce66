//! The extended protocol's messages that need the session: Parse, Describe, Execute
//! and Sync.
//!
//! Between two Syncs PostgreSQL runs all statements in one implicit transaction. A
//! statement followed by Sync, as nearly every driver sends it, is its own transaction
//! either way and runs as autocommit, which is the fast path.

use std::sync::Arc;

use chronos_model::{DataType, SqlState, Value};
use chronos_node::{CommandTag, Outcome, Prepared, TransactionStatus};
use tokio::io::{AsyncRead, AsyncWrite};

use super::backend;
use super::connection::Connection;
use super::extended::{Portal, PortalState, ResultFormats, Statement};
use super::failure::{Failure, Handled};
use super::format::FieldFormat;
use super::frontend::{Parse, Target};
use super::rows::{Columns, Cursor, Progress};

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    /// Plans a statement and keeps it under its name.
    pub(super) async fn parse(&mut self, parse: Parse<'_>) -> Handled {
        self.extended.check_new_statement(parse.name)?;
        let types = parse
            .parameter_oids
            .iter()
            .map(|oid| declared_type(*oid))
            .collect::<Handled<Vec<_>>>()?;
        let statements = self.session.split(parse.sql)?;
        let prepared = match &statements[..] {
            [] => None,
            [statement] => {
                let prepare = self.session.prepare(statement, &types);
                Some(self.wire.watch(&self.interrupt, prepare).await?)
            }
            _ => {
                return Err(Failure::statement(
                    SqlState::SYNTAX_ERROR,
                    "cannot insert multiple commands into a prepared statement",
                ))
            }
        };
        let statement = Statement::new(prepared);
        self.extended.put_statement(parse.name, statement);
        backend::parse_complete(&mut self.wire.output);
        Ok(())
    }

    /// Tells what a statement takes and returns, or what a portal returns.
    pub(super) fn describe(&mut self, target: Target<'_>) -> Handled {
        let out = &mut self.wire.output;
        let (statement, formats) = match target {
            Target::Statement(name) => {
                let statement = self.extended.statement(name)?;
                let ids = statement.object_ids();
                backend::parameter_description(out, statement.parameters(), &ids);
                (statement, &ResultFormats::All(FieldFormat::Text))
            }
            Target::Portal(name) => {
                // DECLARE makes portals, too.
                let declared = self.session.cursor_columns(name);
                if let Some(columns) = declared {
                    let formats = ResultFormats::All(FieldFormat::Text);
                    Columns::of(&columns).describe(out, &formats);
                    return Ok(());
                }
                let portal = self.extended.portal(name)?;
                (&portal.statement, &portal.formats)
            }
        };
        match &statement.columns {
            Some(columns) => columns.describe(out, formats),
            None => backend::no_data(out),
        }
        Ok(())
    }

    /// Runs a portal, or goes on with it. One that failed is gone.
    pub(super) async fn execute(&mut self, name: &str, rows_max: Option<u64>) -> Handled {
        let mut portal = self.extended.take_portal(name)?;
        let before = self.session.transaction_status();
        self.execute_portal(&mut portal, name, rows_max).await?;
        let after = self.session.transaction_status();
        if before != TransactionStatus::Idle && after == TransactionStatus::Idle {
            // This was COMMIT or ROLLBACK, which takes all portals with it.
            self.extended.close_portals();
        } else {
            self.extended.put_portal(name, portal);
        }
        Ok(())
    }

    async fn execute_portal(
        &mut self,
        portal: &mut Portal,
        name: &str,
        rows_max: Option<u64>,
    ) -> Handled {
        let Some(prepared) = portal.statement.prepared.clone() else {
            backend::empty_query(&mut self.wire.output);
            return Ok(());
        };
        match std::mem::replace(&mut portal.state, PortalState::Ran) {
            PortalState::Bound(parameters) => {
                self.start(portal, &prepared, parameters, rows_max).await
            }
            PortalState::Rows(cursor) => self.send_rows(portal, cursor, rows_max).await,
            PortalState::Exhausted(tag) => {
                portal.state = PortalState::Exhausted(tag);
                self.complete(tag);
                Ok(())
            }
            PortalState::Ran => Err(Failure::statement(
                SqlState("55000"),
                format!("portal \"{name}\" cannot be run"),
            )),
        }
    }

    /// Executes a portal for the first time.
    async fn start(
        &mut self,
        portal: &mut Portal,
        prepared: &Arc<Prepared>,
        parameters: Vec<Value>,
        rows_max: Option<u64>,
    ) -> Handled {
        if self.extended.implicit || !self.wire.sync_follows() {
            self.begin_implicit().await?;
        }
        let execute = self.session.execute(prepared, parameters);
        match self.wire.watch(&self.interrupt, execute).await? {
            Outcome::Rows(rows) => {
                let columns = portal.statement.columns.as_ref();
                let cursor = Cursor::new(rows, columns, portal.formats.clone());
                self.send_rows(portal, cursor, rows_max).await
            }
            Outcome::Done(tag) => {
                self.complete(tag);
                Ok(())
            }
            Outcome::CopyIn(copy) => self.copy_in(copy).await,
            Outcome::CopyOut(copy) => self.copy_out(copy).await,
            Outcome::Empty => {
                backend::empty_query(&mut self.wire.output);
                Ok(())
            }
        }
    }

    async fn send_rows(
        &mut self,
        portal: &mut Portal,
        mut cursor: Cursor,
        rows_max: Option<u64>,
    ) -> Handled {
        match cursor.send(self.wire, &self.interrupt, rows_max).await? {
            Progress::Complete(tag) => {
                self.complete(tag);
                portal.state = PortalState::Exhausted(CommandTag {
                    rows: tag.rows.map(|_| 0),
                    ..tag
                });
            }
            Progress::Suspended => {
                backend::portal_suspended(&mut self.wire.output);
                portal.state = PortalState::Rows(cursor);
            }
        }
        Ok(())
    }

    /// Ends a batch: its implicit transaction, and the portals if no transaction is
    /// left open.
    pub(super) async fn sync(&mut self) -> Handled {
        self.extended.skipping = false;
        if std::mem::take(&mut self.extended.implicit) {
            let ended = self.end_implicit().await;
            self.conclude(ended)?;
        }
        if self.session.transaction_status() == TransactionStatus::Idle {
            self.extended.close_portals();
        }
        self.ready();
        Ok(())
    }
}

/// A parameter type that Parse declares; `None`: to be inferred.
fn declared_type(oid: u32) -> Handled<Option<DataType>> {
    /// PostgreSQL's pseudo-type of an untyped literal.
    const UNKNOWN: u32 = 705;
    match oid {
        0 | UNKNOWN => Ok(None),
        oid => DataType::of_oid(oid).map(Some).ok_or_else(|| {
            Failure::statement(
                SqlState::UNDEFINED_OBJECT,
                format!("type with OID {oid} does not exist"),
            )
        }),
    }
}
