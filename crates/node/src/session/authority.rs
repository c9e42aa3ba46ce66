//! Who a session belongs to, and what it may do: judged from the plan, so that every protocol has it.
//!
//! | role | may |
//! |---|---|
//! | none | constants, system tables, transactions, settings |
//! | `chronos_read_only` | SELECT, COPY TO, EXPLAIN |
//! | `chronos_read_write` | and INSERT, UPDATE, DELETE, TRUNCATE, COPY FROM, ingest, `nextval` |
//! | `chronos_admin` | everything |
//!
//! The role is looked up for each statement: what an admin grants or revokes holds from the next
//! one on, and a user who was dropped gets 28000, which ends the connection.

use std::sync::Arc;

use chronos_model::{Role, SqlState};
use chronos_query::direct::DirectKind;
use chronos_query::sql::{Command, UserCommand, UserName};
use chronos_query::{QueryError, QueryPlan, SequenceCall, SequenceCalls};

use super::named::NamedPlan;
use super::prepare::Plan;
use super::Session;
use crate::auth::Identity;
use crate::Error;

impl Session {
    /// Gives the session to somebody of whom it is known who he is.
    ///
    /// Errors: he has been dropped meanwhile (28000).
    pub fn log_in(&mut self, identity: Identity) -> Result<(), Error> {
        let name = identity.name().map(str::to_owned);
        self.identity = identity;
        if let Some(name) = name {
            self.settings.tell("session_authorization", &name);
            self.facts.user = name;
        }
        self.refresh_role()
    }

    /// Who the session belongs to.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Takes over what the catalog says now of what the session may do.
    pub(super) fn refresh_role(&mut self) -> Result<(), Error> {
        if self.identity == Identity::Trusted {
            return Ok(());
        }
        let role = self.node.role_of(&self.identity)?;
        self.follow_rename();
        let is_admin = if role == Some(Role::Admin) {
            "on"
        } else {
            "off"
        };
        self.settings.tell("is_superuser", is_admin);
        if role != self.facts.role {
            self.facts.role = role;
            self.given = None;
        }
        Ok(())
    }

    /// A user who was renamed is known by his new name; the old one may be another's by now.
    fn follow_rename(&mut self) {
        let Identity::User { id, name } = &mut self.identity else {
            return;
        };
        let catalog = self.node.inner.replica.store.catalog();
        let Some(user) = catalog.users.find(*id, name) else {
            return;
        };
        if user.name != *name {
            name.clone_from(&user.name);
            self.facts.user.clone_from(&user.name);
            self.settings.tell("session_authorization", &user.name);
            self.given = None;
        }
    }

    /// The functions of sequences that the session may use.
    pub(super) fn allowed_sequences(&self) -> SequenceCalls {
        if self.facts.role >= Some(Role::ReadWrite) {
            return Arc::clone(&self.sequences);
        }
        let all = Arc::clone(&self.sequences);
        Arc::new(move |call| match call {
            SequenceCall::Next(_) | SequenceCall::Set(..) => {
                let denied = denied("permission denied for sequence", Role::ReadWrite);
                Err(QueryError::new(denied.code, denied.message)
                    .with_hint(denied.hint.unwrap_or_default()))
            }
            other => all(other),
        })
    }

    /// 42501 unless the session may execute the plan.
    pub(super) fn authorize(&self, plan: &Plan) -> Result<(), Error> {
        let role = self.facts.role;
        if role == Some(Role::Admin) {
            return Ok(());
        }
        match plan {
            Plan::Empty => Ok(()),
            Plan::Direct(direct) if matches!(direct.kind, DirectKind::Get { .. }) => {
                self.need(Role::ReadOnly, || of_table(&direct.table.name))
            }
            Plan::Direct(direct) => self.need(Role::ReadWrite, || of_table(&direct.table.name)),
            Plan::Query(query) | Plan::Setting(query, _) => self.authorize_query(query),
            Plan::Insert(plan) => self.need(Role::ReadWrite, || of_table(&plan.insert.table.name)),
            Plan::Modify(plan) => self.need(Role::ReadWrite, || of_table(&plan.modify.table.name)),
            Plan::Erase(plan) => self.need(Role::Admin, || {
                format!("permission denied to ERASE from table {}", plan.table.name)
            }),
            Plan::Named(named) => match &**named {
                // What it reads or writes is that of the statement in it.
                NamedPlan::Execute(of, _) | NamedPlan::Declare(_, of) => self.authorize(&of.plan),
                NamedPlan::Fetch(name, _) | NamedPlan::Move(name, _) => {
                    match self.cursors.reads(name) {
                        Some(table) => self.need(Role::ReadOnly, || of_table(table)),
                        None => Ok(()),
                    }
                }
                NamedPlan::Prepare(..) | NamedPlan::Close(_) => Ok(()),
            },
            Plan::Command(command) => self.authorize_command(command),
        }
    }

    /// 42501 unless the session may read what the query reads.
    pub(super) fn authorize_query(&self, plan: &QueryPlan) -> Result<(), Error> {
        if self.facts.role.is_some() {
            return Ok(());
        }
        match plan.reads_table() {
            Some(table) => self.need(Role::ReadOnly, || of_table(&table)),
            None => Ok(()),
        }
    }

    /// 42501 unless the session may write rows of that table.
    pub(super) fn authorize_write(&self, table: &str) -> Result<(), Error> {
        self.need(Role::ReadWrite, || of_table(table))
    }

    fn need(&self, least: Role, message: impl FnOnce() -> String) -> Result<(), Error> {
        match self.facts.role >= Some(least) {
            true => Ok(()),
            false => Err(denied(message(), least)),
        }
    }

    fn authorize_command(&self, command: &Command) -> Result<(), Error> {
        let owner = || "permission denied: must be owner of the relation".to_owned();
        let create = || "permission denied for schema public".to_owned();
        match command {
            Command::Begin(..)
            | Command::Commit
            | Command::Rollback(_)
            | Command::Savepoint(_)
            | Command::Release(_)
            | Command::Set(..)
            | Command::Show(_)
            | Command::Reset(_)
            | Command::Discard
            | Command::Deallocate(_)
            | Command::SetConstraints(..)
            | Command::SetLocal(..)
            | Command::SetSerializable
            | Command::NoOperation(_) => Ok(()),
            // Judged when it is known what they read or write.
            Command::Copy(_) | Command::ExplainWrite(..) => Ok(()),
            Command::Truncate { names, .. } => self.need(Role::ReadWrite, || {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                of_table(&names.join(", "))
            }),
            Command::Users(command) => self.authorize_users(command),
            Command::Maintain(maintenance) => self.need(Role::Admin, || {
                format!("permission denied to {}", maintenance.verb)
            }),
            Command::CreateTable(_)
            | Command::CreateTableAs(_)
            | Command::CreateView(_)
            | Command::CreateSequence(..) => self.need(Role::Admin, create),
            // Whatever else there is changes what others rely on.
            _ => self.need(Role::Admin, owner),
        }
    }

    fn authorize_users(&self, command: &UserCommand) -> Result<(), Error> {
        // Everybody may change his own password.
        if let UserCommand::Alter(name, options) = command {
            let is_own = match name {
                UserName::Current => true,
                UserName::Named(name) => *name == self.facts.user,
            };
            let is_user = matches!(self.identity, Identity::User { .. });
            let only_password = options.can_login.is_none()
                && options.valid_until.is_none()
                && options.is_admin.is_none();
            if is_own && is_user && only_password {
                return Ok(());
            }
        }
        let what = match command {
            UserCommand::Create(..) => "permission denied to create role",
            UserCommand::Drop(..) => "permission denied to drop role",
            UserCommand::Grant(..) | UserCommand::Revoke(..) => "permission denied to grant roles",
            UserCommand::Alter(..) | UserCommand::Rename(..) => "permission denied to alter role",
        };
        self.need(Role::Admin, || what.to_owned())
    }
}

fn of_table(name: &str) -> String {
    format!("permission denied for table {name}")
}

fn denied(message: impl Into<String>, least: Role) -> Error {
    Error::new(SqlState::INSUFFICIENT_PRIVILEGE, message)
        .with_hint(format!("It takes the role {}.", least.name()))
}
