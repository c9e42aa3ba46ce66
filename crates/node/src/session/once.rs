//! Statements and transactions with an idempotency key: applied once, however often they are sent.
//!
//! ```text
//!   statement -> [key remembered in what the transaction sees?] -- yes --> what was answered then
//!                    | no
//!                run, note the answer -> COMMIT: rows + key + answers, one write set
//!                                           `- remembered by now: lost, like against any writer
//! ```
//!
//! What writes outside of a block runs in a transaction of its own, so that what is answered is known
//! before it is proposed and goes into the log with it. A transaction is known again by the texts and
//! parameters of its writing statements, one by one, so that each can be answered before COMMIT.
//! Reads in it are answered as any other: they see what the first attempt has left.
//!
//! A key serves until something commits with it. What fails is not remembered, and leaves the key
//! to the next attempt: above all if nobody knows whether it failed.

use std::sync::Arc;

use chronos_model::{Change, Fingerprint, Once, SqlState, TableSchema, Value};
use chronos_query::direct::DirectKind;
use chronos_query::sql::{self, Command, CopyDirection};
use chronos_store::Applied;
use tokio_util::sync::CancellationToken;

use super::answers::{
    answer_of, answers_of, encode, fingerprint_of, fingerprint_of_all, too_large, Answer,
    ANSWERS_BYTES_MAX,
};
use super::prepare::Plan;
use super::settings::IDEMPOTENCY_KEY;
use super::{Prepared, Session, ATTEMPTS_MAX};
use crate::{Error, Outcome};

/// What a session knows of its key beside the setting.
#[derive(Default)]
pub(super) struct Keys {
    /// The key is that of a whole request, which may use it once.
    of_request: bool,
    /// And has.
    is_used_up: bool,
    /// The open transaction is one statement with a key.
    is_alone: bool,
}

/// A transaction that is to be committed once.
pub(super) struct Attempt {
    key: Arc<str>,
    what: What,
}

enum What {
    /// Statements, and what they were answered.
    First(Vec<Answer>),
    /// It was committed before: what was answered then, and how many statements came again so far.
    Again(Vec<Answer>, usize),
    /// It is known as a whole.
    Whole(Once),
}

impl Attempt {
    pub(super) fn key(&self) -> Arc<str> {
        Arc::clone(&self.key)
    }

    /// Whether it was committed before.
    pub(super) fn is_again(&self) -> bool {
        matches!(self.what, What::Again(..))
    }

    /// What makes its write set one that is applied once.
    pub(super) fn change(&self) -> Change {
        Change::Once(match &self.what {
            What::Whole(once) => once.clone(),
            What::First(answers) | What::Again(answers, _) => Once {
                key: self.key(),
                fingerprint: fingerprint_of_all(answers),
                answer: encode(answers).into(),
            },
        })
    }

    /// 22023 if the transaction that was committed before has done more than this one.
    pub(super) fn check_complete(&self) -> Result<(), Error> {
        match &self.what {
            What::Again(answers, at) if *at < answers.len() => Err(other_request(&self.key)),
            _ => Ok(()),
        }
    }

    /// Whether what the client was told is what is so: if another attempt was applied first, all
    /// of its answers are right only if they were the same.
    pub(super) fn check_alike(&self, applied: Applied) -> Result<Applied, Error> {
        let is_alike = match (&applied.before, &self.what) {
            (None, _) => true,
            (Some(before), What::First(answers)) => before.answer == encode(answers),
            (Some(_), _) => false,
        };
        match is_alike {
            true => Ok(applied),
            false => Err(Error::new(
                SqlState::SERIALIZATION_FAILURE,
                "the transaction was committed by another attempt with its idempotency key",
            )
            .with_hint("Retry the transaction: it is answered as that attempt was.")),
        }
    }
}

impl Plan {
    /// Whether it is for writing rows or changing the catalog.
    fn writes(&self) -> bool {
        match self {
            Plan::Direct(plan) => !matches!(plan.kind, DirectKind::Get { .. }),
            Plan::Insert(_) | Plan::Modify(_) | Plan::Erase(_) => true,
            // What EXECUTE runs is looked at when it runs.
            Plan::Empty | Plan::Query(_) | Plan::Setting(..) | Plan::Named(_) => false,
            Plan::Command(command) => match &**command {
                copy @ Command::Copy(_) => is_copy_from(copy),
                Command::Truncate { .. } | Command::CreateSequence(..) => true,
                other => super::command::changes_catalog(other),
            },
        }
    }

    /// Why it takes no key, if so: its data comes later, or has passwords in it, of which not even
    /// a fingerprint is kept.
    fn refused_with_key(&self) -> Option<&'static str> {
        match self {
            Plan::Command(command) => match &**command {
                Command::Users(_) => Some("a change of users"),
                copy if is_copy_from(copy) => Some("COPY FROM"),
                _ => None,
            },
            _ => None,
        }
    }
}

fn is_copy_from(command: &Command) -> bool {
    let Command::Copy(copy) = command else {
        return false;
    };
    let copy = sql::copy(copy);
    copy.is_ok_and(|copy| matches!(copy.direction, CopyDirection::From { .. }))
}

impl Session {
    /// Gives what a request writes an idempotency key. The request may write once: one statement,
    /// or one transaction.
    ///
    /// Errors: the key is empty or too long (22023).
    pub fn set_idempotency_key(&mut self, key: &str) -> Result<(), Error> {
        if key.is_empty() {
            let message = "an idempotency key is empty";
            return Err(Error::new(SqlState::INVALID_PARAMETER, message));
        }
        self.settings.set(IDEMPOTENCY_KEY, Some(key))?;
        self.keys.of_request = true;
        Ok(())
    }

    fn idempotency_key(&self) -> Option<Arc<str>> {
        let key = self.settings.changed_value(IDEMPOTENCY_KEY)?;
        Some(key).filter(|key| !key.is_empty()).map(Arc::from)
    }

    /// Something was committed with a key.
    pub(super) fn use_up(&mut self, key: Option<&str>) {
        let Some(key) = key else {
            return;
        };
        self.keys.is_used_up |= self.keys.of_request;
        if self.settings.changed_value(IDEMPOTENCY_KEY) == Some(key) {
            // A setting that there is can be put back.
            let _ = self.settings.set(IDEMPOTENCY_KEY, None);
        }
    }

    /// Executes a planned statement: if it writes and the session has a key, once for this.
    pub(super) async fn execute_once(
        &mut self,
        prepared: &Arc<Prepared>,
        parameters: &[Value],
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        if self.keys.is_used_up && prepared.plan.writes() {
            let message = "a request with an idempotency key may commit once";
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message)
                .with_hint("Send the rest in a request of its own."));
        }
        let key = self.idempotency_key();
        let Some(key) = key.filter(|_| prepared.plan.writes()) else {
            return self.execute_planned(prepared, parameters, token).await;
        };
        if let Some(what) = prepared.plan.refused_with_key() {
            let message = format!("{what} with an idempotency key is not supported");
            return Err(Error::new(SqlState::FEATURE_NOT_SUPPORTED, message));
        }
        match self.in_transaction() {
            true => {
                self.execute_in_attempt(&key, prepared, parameters, token)
                    .await
            }
            false => self.execute_alone(&key, prepared, parameters, token).await,
        }
    }

    /// A statement that is a transaction of its own: runs it until it has won or failed.
    async fn execute_alone(
        &mut self,
        key: &Arc<str>,
        prepared: &Arc<Prepared>,
        parameters: &[Value],
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            self.begin_alone().await?;
            let ran = self
                .execute_in_attempt(key, prepared, parameters, token)
                .await;
            let done = match ran {
                Ok(outcome) => self.commit_alone().await.map(|()| outcome),
                Err(e) => Err(e),
            };
            let error = match done {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            let had_run = self.transaction.is_none();
            self.end_alone();
            if attempts >= ATTEMPTS_MAX || !self.may_try_again(key, &error, had_run)? {
                return Err(error);
            }
        }
    }

    async fn begin_alone(&mut self) -> Result<(), Error> {
        self.ready_to_read().await?;
        self.keys.is_alone = true;
        self.transaction = Some(self.new_transaction(true, false));
        Ok(())
    }

    async fn commit_alone(&mut self) -> Result<(), Error> {
        match self.transaction.take() {
            Some(transaction) => {
                self.commit_with_cursors(transaction).await?;
                self.keys.is_alone = false;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Leaves nothing of the transaction of a statement that failed or was interrupted.
    pub(super) fn end_alone(&mut self) {
        if !std::mem::take(&mut self.keys.is_alone) {
            return;
        }
        self.transaction = None;
        self.sequences_follow();
        self.forget_transaction();
    }

    /// Whether an attempt that failed has only lost against another writer, or against another
    /// attempt: what that has written may be just why this one failed.
    fn may_try_again(&self, key: &str, error: &Error, had_run: bool) -> Result<bool, Error> {
        // What its plan was made for is looked at by who made it.
        let lost = [SqlState::SERIALIZATION_FAILURE, SqlState::UNIQUE_VIOLATION];
        if had_run {
            // A row that was not there when the statement ran it will find when it runs again.
            return Ok(lost.contains(&error.code));
        }
        let view = self.node.inner.replica.store.read_view();
        let is_reuse = error.code == SqlState::INVALID_PARAMETER;
        Ok(!is_reuse && view.remembered(key)?.is_some())
    }

    /// Runs a statement of a transaction with a key, or gives what it was answered before.
    async fn execute_in_attempt(
        &mut self,
        key: &Arc<str>,
        prepared: &Arc<Prepared>,
        parameters: &[Value],
        token: &CancellationToken,
    ) -> Result<Outcome, Error> {
        self.attempt(key)?;
        let user = self.facts.user.as_str();
        let fingerprint = fingerprint_of(user, &prepared.sql, parameters);
        if let Some(answer) = self.answered(&fingerprint)? {
            return answer.outcome(prepared);
        }
        let outcome = self.execute_planned(prepared, parameters, token).await?;
        let (answer, outcome) = answer_of(fingerprint, outcome).await?;
        let attempt = self.transaction.as_mut().and_then(|t| t.attempt.as_mut());
        if let Some(What::First(answers)) = attempt.map(|attempt| &mut attempt.what) {
            answers.push(answer);
            if encode(answers).len() > ANSWERS_BYTES_MAX {
                return Err(too_large());
            }
        }
        Ok(outcome)
    }

    /// Takes the transaction for one of this key.
    fn attempt(&mut self, key: &Arc<str>) -> Result<(), Error> {
        let Some(transaction) = &mut self.transaction else {
            return Ok(());
        };
        if let Some(attempt) = &transaction.attempt {
            return match attempt.key == *key {
                true => Ok(()),
                false => Err(Error::new(
                    SqlState::INVALID_PARAMETER,
                    "a transaction has one idempotency key",
                )),
            };
        }
        if !transaction.savepoints.is_empty() {
            return Err(no_savepoints());
        }
        if !transaction.is_fresh() {
            let message = "an idempotency key must be given before the transaction writes";
            return Err(Error::new(SqlState::ACTIVE_TRANSACTION, message));
        }
        // In what it sees: so it sees all that the attempt before has done, or nothing.
        let what = match transaction.base.remembered(key)? {
            None => What::First(Vec::new()),
            Some(before) => What::Again(answers_of(key, &before)?, 0),
        };
        transaction.attempt = Some(Attempt {
            key: Arc::clone(key),
            what,
        });
        Ok(())
    }

    /// What a statement was answered before.
    ///
    /// Errors: another one was answered there.
    fn answered(&mut self, fingerprint: &Fingerprint) -> Result<Option<Answer>, Error> {
        let attempt = self.transaction.as_mut().and_then(|t| t.attempt.as_mut());
        let Some(Attempt { key, what }) = attempt else {
            return Ok(None);
        };
        let What::Again(answers, at) = what else {
            return Ok(None);
        };
        let answer = answers.get(*at).filter(|a| a.fingerprint == *fingerprint);
        let answer = answer.cloned().ok_or_else(|| other_request(key))?;
        *at += 1;
        Ok(Some(answer))
    }

    /// Does what `insert` does in a transaction that is committed once; gives the rows that it
    /// has written, or had.
    pub(crate) async fn insert_new_once(
        &mut self,
        once: &Once,
        table: &TableSchema,
        columns: &[&str],
        rows: &arrow_array::RecordBatch,
    ) -> Result<u64, Error> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            self.begin_alone().await?;
            if let Some(transaction) = &mut self.transaction {
                if let Some(before) = transaction.base.remembered(&once.key)? {
                    self.end_alone();
                    return match before.fingerprint == once.fingerprint {
                        true => Ok(before.rows),
                        false => Err(other_request(&once.key)),
                    };
                }
                transaction.attempt = Some(Attempt {
                    key: Arc::clone(&once.key),
                    what: What::Whole(once.clone()),
                });
            }
            let done = match self.insert_new(table, columns, rows.clone()).await {
                Ok(rows) => self.commit_alone().await.map(|()| rows),
                Err(e) => Err(e),
            };
            let error = match done {
                Ok(rows) => return Ok(rows),
                Err(error) => error,
            };
            let had_run = self.transaction.is_none();
            self.end_alone();
            if attempts >= ATTEMPTS_MAX || !self.may_try_again(&once.key, &error, had_run)? {
                return Err(error);
            }
        }
    }
}

pub(crate) fn other_request(key: &str) -> Error {
    let error = chronos_store::ApplyError::KeyReused { key: key.into() };
    Error::new(error.sqlstate(), error.to_string())
}

pub(super) fn no_savepoints() -> Error {
    let message = "savepoints in a transaction with an idempotency key are not supported";
    Error::new(SqlState::FEATURE_NOT_SUPPORTED, message)
}
