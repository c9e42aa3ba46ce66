//! When a statement has to wait before it reads, on a node of a cluster.
//!
//! A transaction waits once, when it begins and takes its view. Outside of one, each statement
//! waits that gives what it reads, or writes what it has found by reading. Those do not:
//!
//! | statement | why |
//! |---|---|
//! | INSERT of given rows by the fast path | what it demands of rows that are there is checked when it is applied |
//! | UPDATE, DELETE of a row named by its key | the version that it has read must still be the newest when it is applied; only if it would write nothing, or fails, it waits and looks again |
//! | INSERT .. ON CONFLICT DO UPDATE by the fast path | both: rows that it inserts or replaces are checked when it is applied; only if it would leave one as it is, or fails, it waits and looks again |
//! | COMMIT, SET and their like | they read nothing |
//!
//! One that lost against another writer is run again without waiting: its outcome came from what is
//! applied here, so the version that it lost against is here by now.

use chronos_model::SqlState;
use chronos_query::direct::DirectKind;
use chronos_query::sql::Command;
use chronos_store::LogIndex;

use super::named::NamedPlan;
use super::prepare::Plan;
use super::settings::READ_CONSISTENCY;
use super::Session;
use crate::{Error, ReadConsistency};

impl Plan {
    /// Whether it is to be executed only when what was committed elsewhere is here.
    fn waits(&self) -> bool {
        match self {
            Plan::Empty => false,
            Plan::Direct(plan) => matches!(plan.kind, DirectKind::Get { .. }),
            // An INSERT may read tables, too.
            Plan::Query(_)
            | Plan::Setting(..)
            | Plan::Insert(_)
            | Plan::Modify(_)
            | Plan::Erase(_) => true,
            Plan::Named(named) => match &**named {
                NamedPlan::Execute(of, _) => of.plan.waits(),
                NamedPlan::Declare(..) => true,
                NamedPlan::Prepare(..)
                | NamedPlan::Fetch(..)
                | NamedPlan::Move(..)
                | NamedPlan::Close(_) => false,
            },
            Plan::Command(command) => !matches!(
                **command,
                Command::Commit
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
        }
    }
}

impl Session {
    fn read_consistency(&self) -> ReadConsistency {
        let given = self.settings.changed_value(READ_CONSISTENCY);
        given.and_then(ReadConsistency::of_name).unwrap_or_default()
    }

    /// Waits until a view that is taken now sees what the session wants to see.
    pub(super) async fn ready_to_read(&self) -> Result<(), Error> {
        let consistency = self.read_consistency();
        self.node.inner.replica.ready_to_read(consistency).await
    }

    /// The same if a statement with this plan has to.
    pub(super) async fn ready_to_execute(&self, plan: &Plan) -> Result<(), Error> {
        match self.in_transaction() || !plan.waits() {
            true => Ok(()),
            false => self.ready_to_read().await,
        }
    }

    /// How far this node has applied the log.
    pub(super) fn applied(&self) -> LogIndex {
        self.node.inner.replica.store.applied_index()
    }

    /// Waits as a read does; whether more is applied by now than up to `before`, so that what
    /// was read then may not have been all. `None`: nothing was read.
    pub(super) async fn saw_too_little(&self, before: Option<LogIndex>) -> Result<bool, Error> {
        let Some(before) = before.filter(|_| !self.in_transaction()) else {
            return Ok(false);
        };
        self.ready_to_read().await?;
        Ok(self.applied() != before)
    }

    /// Whether a statement that could not be planned may be planned here a moment later: a name
    /// that it has may be of something that was created on another node.
    pub(super) async fn knows_more_names(&self, error: &Error) -> Result<bool, Error> {
        let of_names = [
            SqlState::UNDEFINED_TABLE,
            SqlState::UNDEFINED_COLUMN,
            SqlState::UNDEFINED_OBJECT,
            SqlState("3F000"),
        ];
        if self.in_transaction() || !of_names.contains(&error.code) {
            return Ok(false);
        }
        let before = self.catalog_version();
        self.ready_to_read().await?;
        Ok(self.catalog_version() != before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Node, NodeOptions, Statement};

    #[tokio::test]
    async fn what_reads_waits_and_what_is_checked_later_does_not() {
        let env = chronos_env::Env::simulated(1);
        let node = Node::open(env, &NodeOptions::new("/node")).unwrap();
        let mut session = node.session();
        let statement = |sql: &str| Statement { sql: sql.into() };
        let create = "CREATE TABLE t (id INT8 PRIMARY KEY, n INT8)";
        session.run(&statement(create)).await.unwrap();
        for (waits, sql) in [
            (true, "SELECT n FROM t WHERE id = 1"),
            (true, "SELECT count(*) FROM t"),
            (false, "INSERT INTO t VALUES (1, 2)"),
            (true, "INSERT INTO t SELECT id + 1, n FROM t"),
            (false, "UPDATE t SET n = 3 WHERE id = 1"),
            (true, "UPDATE t SET n = 3 WHERE n = 2"),
            (false, "DELETE FROM t WHERE id = 1"),
            (true, "DELETE FROM t"),
            (true, "BEGIN"),
            (false, "COMMIT"),
            (false, "SET chronos.read_consistency = 'stale'"),
            (true, "COPY t TO STDOUT"),
            (true, "DROP TABLE t"),
        ] {
            let prepared = session.prepare(&statement(sql), &[]).await.unwrap();
            assert_eq!(prepared.plan.waits(), waits, "{sql}");
        }
        assert_eq!(session.read_consistency(), ReadConsistency::Linearizable);
        let stale = "SET chronos.read_consistency = 'stale'";
        session.run(&statement(stale)).await.unwrap();
        assert_eq!(session.read_consistency(), ReadConsistency::Stale);
        node.close().unwrap();
    }
}
