//! Who executes the prompt's statements.
//!
//! The prompt needs exactly what the methods of [`Backend`] say. A node over the wire
//! is one variant; the embedded database of `chronos single-node` becomes another: give
//! [`Backend::run`] its `&str`, call the sink with [`Event::Columns`], one [`Event::Row`]
//! of text cells per row and [`Event::Complete`] with the command tag, and answer
//! [`Progress::Done`]. The compiler names the other methods that want an arm.
//!
//! [`Event::Columns`]: crate::cli::reply::Event::Columns
//! [`Event::Row`]: crate::cli::reply::Event::Row
//! [`Event::Complete`]: crate::cli::reply::Event::Complete

use crate::cli::error::CliError;
use crate::cli::reply::{Progress, RunError, Sink, SmallResult, Transaction};
use crate::cli::wire;

/// A leader that was found may be gone a moment later; another one is looked for so often.
const SEARCHES_MAX: u32 = 5;

/// An open database, wherever it is.
pub(crate) enum Backend {
    /// A node, or any PostgreSQL server, over the wire. Boxed, as a session is large.
    Wire(Box<wire::Session>),
    /// Prepared answers, for tests of the prompt.
    #[cfg(test)]
    Scripted(super::tests::Scripted),
}

impl Backend {
    /// Executes one statement (no `;` at its end) and passes its answer to `sink`.
    pub(crate) async fn run(
        &mut self,
        sql: &str,
        sink: &mut Sink<'_>,
    ) -> Result<Progress, RunError> {
        match self {
            Self::Wire(session) => session.run(sql, sink).await,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.run(sql, sink),
        }
    }

    /// Sends data for the COPY .. FROM STDIN that [`run`](Self::run) reported.
    pub(crate) async fn copy_data(&mut self, data: &[u8]) -> Result<(), RunError> {
        match self {
            Self::Wire(session) => session.copy_data(data).await,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.copy_data(data),
        }
    }

    /// Ends that data.
    pub(crate) async fn copy_finish(&mut self, sink: &mut Sink<'_>) -> Result<(), RunError> {
        match self {
            Self::Wire(session) => session.copy_finish(sink).await,
            #[cfg(test)]
            Self::Scripted(scripted) => scripted.copy_finish(sink),
        }
    }

    /// Withdraws it; the error the database answers with is the result.
    pub(crate) async fn copy_fail(&mut self, reason: &str) -> Result<(), RunError> {
        match self {
            Self::Wire(session) => session.copy_fail(reason).await,
            #[cfg(test)]
            Self::Scripted(_) => Ok(()),
        }
    }

    /// Executes one statement and holds its rows.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<SmallResult, RunError> {
        let mut result = SmallResult::default();
        let progress = self
            .run(sql, &mut |event| {
                result.absorb(event);
                Ok(())
            })
            .await?;
        if progress == Progress::WantsCopyData {
            self.copy_fail("no data is available here").await?;
        }
        Ok(result)
    }

    /// A handle that can stop the running statement from another task.
    pub(crate) fn canceller(&self) -> Option<wire::Canceller> {
        match self {
            Self::Wire(session) => Some(session.canceller()),
            #[cfg(test)]
            Self::Scripted(_) => None,
        }
    }

    /// Whether a transaction is open.
    pub(crate) fn transaction(&self) -> Transaction {
        match self {
            Self::Wire(session) => session.transaction(),
            #[cfg(test)]
            Self::Scripted(_) => Transaction::Idle,
        }
    }

    /// The database's name, for the prompt.
    pub(crate) fn database(&self) -> &str {
        match self {
            Self::Wire(session) => &session.target().database,
            #[cfg(test)]
            Self::Scripted(_) => "test",
        }
    }

    /// One sentence on what this is connected to.
    pub(crate) fn description(&self) -> String {
        match self {
            Self::Wire(session) => {
                let target = session.target();
                format!(
                    "Connected to database {:?} as user {:?} at {} (server version {}).",
                    target.database,
                    target.user,
                    target,
                    session.server_version(),
                )
            }
            #[cfg(test)]
            Self::Scripted(_) => "Scripted.".to_owned(),
        }
    }

    /// Opens the session anew after it was lost, with the leader of the cluster if one is
    /// followed. Its settings and transaction are gone.
    pub(crate) async fn reconnect(&mut self) -> Result<(), CliError> {
        match self {
            Self::Wire(session) => {
                **session = reconnected(session.target()).await?;
                Ok(())
            }
            #[cfg(test)]
            Self::Scripted(_) => Ok(()),
        }
    }

    /// Ends the session.
    pub(crate) async fn close(self) {
        match self {
            Self::Wire(session) => session.close().await,
            #[cfg(test)]
            Self::Scripted(_) => {}
        }
    }
}

async fn reconnected(target: &wire::Target) -> Result<wire::Session, CliError> {
    let mut searches = 1;
    loop {
        let target = target.of_now().await?;
        match wire::Session::connect(&target).await {
            Err(CliError::Connect { .. })
                if target.following.is_some() && searches < SEARCHES_MAX =>
            {
                searches += 1;
            }
            connected => return connected,
        }
    }
}
