//! Applies committed entries, in order, and answers who proposed them here.
//!
//! Reads no clock and no random source: everything that replicas must agree on stands in the
//! entries. What is recorded is the proposer's stamp, or, if a later one was recorded before, the
//! next microsecond.
//!
//! An entry whose preconditions need a damaged file has no outcome that can be known here. If
//! nobody else has a copy and nobody was told of it, it is refused, for good: the store goes past
//! it before the answer. Else it is neither skipped nor refused: nothing is applied from there on,
//! the tables that are concerned are not read, and nothing is written here, until the file is back
//! (docs/decisions/0037), or a checkpoint of another node has taken the store's place (0068).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use chronos_model::{
    Author, Change, Hlc, NodeId, SqlState, Stamp, TableId, WriteSet, IDEMPOTENCY_TABLE,
};
use chronos_store::log::{LogEntry, LogIndex, Term};
use chronos_store::{with_causes, Applied, ApplyError, PreparedWriteSet, Store, StoreError};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::checkpoints::{unknown_after_install, InstallError};
use super::describe;
use super::fault::{Fault, FaultCell};
use super::payload::{self, Header, Kind};
use super::pending::{Committal, Pending, Resolution, Waiting};
use crate::Error;

/// What is done in turn.
pub(crate) enum Work {
    /// Entries to be applied together, and whom to tell when they are.
    Batch(Vec<LogEntry>, oneshot::Sender<()>),
    /// A checkpoint that takes the place of the store.
    Install(Install, oneshot::Sender<Result<(), InstallError>>),
}

/// Puts a checkpoint in the place of the store.
pub(crate) type Install = Box<dyn FnOnce() -> Result<(), InstallError> + Send>;

/// What became of an entry.
enum Outcome {
    Known(Result<Applied, Error>),
    /// It needs what is damaged here.
    Damaged(StoreError),
}

type Answer = (oneshot::Sender<Resolution>, Result<Committal, Error>);

/// What applies.
pub(crate) struct Applier {
    pub(crate) store: Store,
    pub(crate) hlc: Arc<Hlc>,
    pub(crate) node: NodeId,
    pub(crate) pending: Arc<Pending>,
    pub(crate) fault: Arc<FaultCell>,
    /// Whether no other node has a copy of the log.
    pub(crate) alone: Arc<AtomicBool>,
    /// Index of the last entry that is applied.
    pub(crate) applied: watch::Sender<u64>,
    /// Takes the indexes that are to be built.
    pub(crate) index_requests: crossbeam_channel::Sender<TableId>,
    /// Counts entries that the log must not give to others.
    pub(crate) refused: watch::Sender<u64>,
    /// Why nothing more can be applied, if so.
    pub(crate) halt: Option<Halt>,
    /// An entry that is in the store and is to be applied again: a mistake.
    pub(crate) again: Option<LogEntry>,
}

/// Why nothing more can be applied.
#[derive(Clone, Debug)]
pub(crate) enum Halt {
    /// Data that is needed is damaged: what an entry changes is not read any more.
    Damage(StoreError),
    /// The store failed, or an entry cannot be read.
    Failure,
}

impl Applier {
    /// Takes work until nobody sends any.
    pub(crate) fn run(applier: &Mutex<Applier>, work: &crossbeam_channel::Receiver<Work>) {
        while let Ok(work) = work.recv() {
            // Who ended does not wait.
            match work {
                Work::Batch(entries, done) => {
                    applier.lock().apply_all(entries);
                    let _ = done.send(());
                }
                Work::Install(install, done) => {
                    let _ = done.send(applier.lock().install(install));
                }
            }
        }
    }

    /// Puts a checkpoint in the place of the store. It contains what was handed out and not
    /// applied, so that applying goes on behind it.
    pub(crate) fn install(&mut self, install: Install) -> Result<(), InstallError> {
        let installed = install();
        match &installed {
            Ok(()) => {
                self.fault.end_damage();
                if let Some(Halt::Damage(_)) = self.halt {
                    self.halt = None;
                }
            }
            Err(InstallError::Refused(_)) => {}
            Err(InstallError::Failed(error)) => {
                self.fault.stop(
                    &Error::new(SqlState::IO_ERROR, error.to_string()),
                    "a checkpoint could not take the place of the store; nothing more is written",
                );
                self.halt = Some(Halt::Failure);
            }
        }
        installed
    }

    /// Entries that come together are answered together, so that waking their proposers does
    /// not take turns with applying.
    pub(crate) fn apply_all(&mut self, entries: Vec<LogEntry>) {
        let mut answers: Vec<Answer> = Vec::new();
        let mut last = None;
        for entry in entries {
            last = Some(entry.index);
            if let Err(error) = self.apply(&entry, &mut answers) {
                // What this node cannot decode, it must not pass over.
                self.fault.stop(
                    &error,
                    "an entry of the log cannot be read; nothing more is applied",
                );
                self.halt = Some(Halt::Failure);
            }
        }
        if let (Some(last), None) = (last, &self.halt) {
            // The store may be further, by a checkpoint.
            let last = last.max(self.store.applied_index());
            self.applied.send_replace(last.0);
        }
        for (reply, result) in answers {
            // A client that has gone away does not hear of it.
            let _ = reply.send(Resolution::Outcome(result));
        }
        self.pending.note_resolved();
    }

    fn apply(&mut self, entry: &LogEntry, answers: &mut Vec<Answer>) -> Result<(), Error> {
        if entry.index <= self.store.applied_index() {
            return self.pass_over(entry);
        }
        if let Some(halt) = self.halt.clone() {
            return self.hold_back(entry, &halt);
        }
        self.enter_term(entry.term)?;
        match payload::kind(&entry.payload)? {
            Kind::Blank => match self.again.take() {
                Some(again) => self.apply_again(entry.index, &again),
                None => Ok(self.store.skip(entry.index, Stamp::MIN)?),
            },
            Kind::Membership(_) => {
                let bytes = entry.payload[1..].to_vec();
                Ok(self.store.note_membership(entry.index, bytes)?)
            }
            Kind::WriteSet => self.apply_write_set(entry, answers),
        }
    }

    /// An entry that was applied before, and is in a segment by now; or that a checkpoint contains,
    /// and nobody here knows what became of it.
    fn pass_over(&self, entry: &LogEntry) -> Result<(), Error> {
        self.pending.enter_term(entry.term.0);
        if let Some(waiting) = self.waiting_for(entry)? {
            let unknown = Resolution::Unknown(unknown_after_install());
            let _ = waiting.reply.send(unknown);
        }
        Ok(())
    }

    /// Who proposed an entry here and waits for its outcome.
    fn waiting_for(&self, entry: &LogEntry) -> Result<Option<Waiting>, Error> {
        if !matches!(payload::kind(&entry.payload)?, Kind::WriteSet) {
            return Ok(None);
        }
        let header = payload::header(&entry.payload)?;
        Ok(match header.author.node == self.node {
            true => self.pending.take(header.request),
            false => None,
        })
    }

    fn enter_term(&self, term: Term) -> Result<(), Error> {
        if term != self.store.applied().0 {
            self.store.enter_term(term)?;
            self.pending.enter_term(term.0);
        }
        Ok(())
    }

    fn apply_write_set(
        &mut self,
        entry: &LogEntry,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Error> {
        let header = payload::header(&entry.payload)?;
        let waiting = match header.author.node == self.node {
            true => self.pending.take(header.request),
            false => None,
        };
        let recorded = self.recorded(header.recorded);
        let outcome = match &waiting {
            Some(waiting) => self.outcome(entry.index, recorded, header.author, &waiting.set),
            None => {
                let set = payload::write_set(&entry.payload, &header)?;
                self.prepare_and_apply(entry.index, recorded, header.author, set)?
            }
        };
        match outcome {
            Outcome::Known(result) => {
                if let Some(waiting) = waiting {
                    answers.push((waiting.reply, result.map(|applied| Committal { applied })));
                }
                Ok(())
            }
            Outcome::Damaged(damage) => self.meet_damage(entry, recorded, damage, waiting, answers),
        }
    }

    fn apply_again(&mut self, index: LogIndex, entry: &LogEntry) -> Result<(), Error> {
        let header = payload::header(&entry.payload)?;
        let set = payload::write_set(&entry.payload, &header)?;
        let recorded = self.recorded(header.recorded);
        self.prepare_and_apply(index, recorded, header.author, set)?;
        Ok(())
    }

    /// The stamp at which an entry is recorded.
    fn recorded(&self, proposed: Stamp) -> Stamp {
        let floor = self.store.floor();
        let recorded = match proposed > floor {
            true => proposed,
            false => Stamp::from_micros(floor.micros() as u64 + 1),
        };
        self.hlc.restore(recorded);
        recorded
    }

    fn prepare_and_apply(
        &mut self,
        index: LogIndex,
        recorded: Stamp,
        author: Author,
        set: WriteSet,
    ) -> Result<Outcome, Error> {
        match self.store.prepare(set, &self.store.catalog()) {
            Ok(set) => Ok(self.outcome(index, recorded, author, &set)),
            Err(error) => {
                self.store.skip(index, recorded)?;
                Ok(Outcome::Known(Err(describe(error, &self.store))))
            }
        }
    }

    fn outcome(
        &mut self,
        index: LogIndex,
        recorded: Stamp,
        author: Author,
        set: &PreparedWriteSet,
    ) -> Outcome {
        match self.store.apply(index, recorded, author, set) {
            Ok(applied) => {
                for index in applied.created_indexes.iter().chain(&applied.moved_indexes) {
                    let _ = self.index_requests.send(*index);
                }
                Outcome::Known(Ok(applied))
            }
            Err(ApplyError::Storage(e)) if e.is_damage() => Outcome::Damaged(e),
            Err(e) => {
                let storage_failed = matches!(e, ApplyError::Storage(_));
                let error = describe(e, &self.store);
                if storage_failed {
                    self.fault
                        .stop(&error, "the store failed; nothing more is written");
                    self.halt = Some(Halt::Failure);
                    return Outcome::Known(Err(self.not_applied(error)));
                }
                Outcome::Known(Err(error))
            }
        }
    }

    fn meet_damage(
        &mut self,
        entry: &LogEntry,
        recorded: Stamp,
        damage: StoreError,
        waiting: Option<Waiting>,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Error> {
        let waiting = match waiting {
            Some(waiting) if self.alone.load(Ordering::Acquire) => waiting,
            waiting => {
                let reason = format!(
                    "the log's entries from {} on cannot be applied: {}",
                    entry.index,
                    with_causes(&damage)
                );
                tracing::error!(reason, "nothing more is written");
                self.fault.set_damage(Fault {
                    code: SqlState::DATA_CORRUPTED,
                    reason,
                });
                self.halt = Some(Halt::Damage(damage.clone()));
                if let Some(waiting) = waiting {
                    let error = self.not_applied(damage.clone().into());
                    answers.push((waiting.reply, Err(error)));
                }
                self.store
                    .hold_back(tables_of_entry(entry)?.into_iter(), &damage);
                return Ok(());
            }
        };
        // Nobody knows of it: the store goes past it, so that no start meets it again.
        self.store.skip(entry.index, recorded)?;
        let passed = self.store.flush_now();
        answers.push((waiting.reply, Err(damage.into())));
        self.refused.send_modify(|n| *n += 1);
        Ok(passed?)
    }

    /// What is told of an entry that could not be applied here. Other members apply it.
    fn not_applied(&self, error: Error) -> Error {
        match self.alone.load(Ordering::Acquire) {
            true => error,
            false => Error::unknown_outcome(error.message),
        }
    }

    /// An entry that is not applied: who proposed it learns no outcome, and nobody reads the
    /// tables that it changes.
    fn hold_back(&self, entry: &LogEntry, halt: &Halt) -> Result<(), Error> {
        if !matches!(payload::kind(&entry.payload)?, Kind::WriteSet) {
            return Ok(());
        }
        if let (Some(waiting), Some(fault)) = (self.waiting_for(entry)?, self.fault.get()) {
            let error = self.not_applied(fault.error());
            let _ = waiting.reply.send(Resolution::Unknown(error));
        }
        if let Halt::Damage(damage) = halt {
            let tables = tables_of_entry(entry)?;
            self.store.hold_back(tables.into_iter(), damage);
        }
        Ok(())
    }
}

fn tables_of_entry(entry: &LogEntry) -> Result<Vec<TableId>, Error> {
    let header: Header = payload::header(&entry.payload)?;
    let set = payload::write_set(&entry.payload, &header)?;
    Ok(set.changes.iter().flat_map(tables_of).collect())
}

fn tables_of(change: &Change) -> Vec<TableId> {
    match change {
        // Indexes change no rows.
        Change::CreateTable(_)
        | Change::CreateIndex(_)
        | Change::DropIndex(_)
        | Change::GiveUpIndex(_)
        | Change::SetIndexState(..)
        | Change::CreateSequence(_)
        | Change::ReserveNumbers(..)
        | Change::ExpectReads(_)
        | Change::SetSequence(..) => vec![],
        Change::DropTable(id)
        | Change::Truncate(id)
        | Change::AlterOptions(id, _)
        | Change::ExpectShape(id, _) => vec![*id],
        Change::Once(_) => vec![IDEMPOTENCY_TABLE],
        Change::Rows(rows) => vec![rows.table],
        Change::Batch(batch) => vec![batch.table],
        Change::Catalog(change) => change.tables(),
        Change::Migrate(migration) => migration.tables(),
    }
}
