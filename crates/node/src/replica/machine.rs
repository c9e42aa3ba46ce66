//! What the consensus applies to: hands entries to the applier, and gives and takes checkpoints.
//!
//! The store keeps its own state on disk, and says up to which entry; the log is needed from
//! there on. So a checkpoint costs nothing until another node wants it: what the library calls
//! the snapshot is the flushed state of the store, and files are linked when it is sent.

use std::io;
use std::sync::Arc;

use chronos_store::log::{LogEntry, LogIndex};
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::OptionalSend;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::apply::{Applier, Install, Work};
use super::checkpoints::{Checkpoints, Incoming, InstallError};
use super::types::{
    log_entry, raft_log_id, RaftLogId, RaftSnapshotMeta, RaftStoredMembership, Types,
};

/// Entries that are handed to the applier at once, at most.
const BATCH_ENTRIES_MAX: usize = 1_024;
/// And the bytes of their payloads; one entry may be larger.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Where entries are applied, and checkpoints take the store's place: one after another.
pub(crate) struct Applying {
    place: ApplyPlace,
    /// Whose turn it is; and the last entry that was handed out, applied or not.
    turn: tokio::sync::Mutex<LogIndex>,
}

/// Where it is done.
pub(crate) enum ApplyPlace {
    /// On a thread of its own. Entries that are small, together, are applied at once: where the
    /// consensus has nobody to answer meanwhile.
    Thread {
        applier: Arc<Mutex<Applier>>,
        work: crossbeam_channel::Sender<Work>,
        at_once_bytes_max: usize,
    },
    /// At once: in a simulation.
    Inline(Box<Mutex<Applier>>),
}

impl Applying {
    pub(crate) fn new(place: ApplyPlace) -> Applying {
        Applying {
            place,
            turn: tokio::sync::Mutex::new(LogIndex(0)),
        }
    }

    async fn apply(&self, entries: Vec<LogEntry>) -> io::Result<()> {
        let mut handed_out = self.turn.lock().await;
        if let Some(last) = entries.last() {
            *handed_out = last.index;
        }
        match &self.place {
            ApplyPlace::Inline(applier) => applier.lock().apply_all(entries),
            ApplyPlace::Thread {
                applier,
                at_once_bytes_max,
                ..
            } if bytes_of(&entries) < *at_once_bytes_max => applier.lock().apply_all(entries),
            ApplyPlace::Thread { work, .. } => {
                let (done, applied) = oneshot::channel();
                let sent = work.send(Work::Batch(entries, done));
                sent.map_err(|_| io::Error::other(ended()))?;
                applied.await.map_err(|_| io::Error::other(ended()))?;
            }
        }
        Ok(())
    }

    /// Holds entries back until this is dropped.
    pub(crate) async fn hold(&self) -> Held<'_> {
        Held {
            handed_out: self.turn.lock().await,
            place: &self.place,
        }
    }
}

/// Of their payloads.
pub(super) fn bytes_of(entries: &[LogEntry]) -> usize {
    entries.iter().map(|entry| entry.payload.len()).sum()
}

fn ended() -> InstallError {
    InstallError::Refused("the apply thread has ended".into())
}

/// No entry is applied meanwhile.
pub(crate) struct Held<'a> {
    handed_out: tokio::sync::MutexGuard<'a, LogIndex>,
    place: &'a ApplyPlace,
}

impl Held<'_> {
    /// The last entry that was handed out to be applied since the node was opened, whether or not
    /// it could be.
    pub(crate) fn handed_out(&self) -> LogIndex {
        *self.handed_out
    }

    /// Has a checkpoint put in the place of the store.
    pub(crate) async fn install(&self, install: Install) -> Result<(), InstallError> {
        match self.place {
            ApplyPlace::Inline(applier) => applier.lock().install(install),
            ApplyPlace::Thread { work, .. } => {
                let (done, installed) = oneshot::channel();
                let sent = work.send(Work::Install(install, done));
                sent.map_err(|_| ended())?;
                installed.await.unwrap_or_else(|_| Err(ended()))
            }
        }
    }
}

/// The store, as the consensus sees it.
pub(crate) struct Machine {
    pub(crate) applying: Arc<Applying>,
    pub(crate) checkpoints: Arc<Checkpoints>,
}

/// A checkpoint, given or taken.
pub(crate) type RaftSnapshot =
    Snapshot<super::types::Leader, u64, super::types::RaftNode, CheckpointData>;

/// What a checkpoint is made of.
pub(crate) enum CheckpointData {
    /// The flushed state of the store, whatever it is by the time it is sent.
    Flushed,
    /// Files that another node has sent.
    Incoming(Incoming),
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = CheckpointData;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, RaftStoredMembership)> {
        let (term, index) = self.checkpoints.store().applied();
        let applied = (index.0 > 0).then(|| raft_log_id(term, index));
        Ok((applied, self.checkpoints.membership()?))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut batch = Vec::new();
        let mut responders = Vec::new();
        let mut bytes = 0;
        loop {
            let next = entries.next().await.transpose()?;
            let is_end = next.is_none();
            if let Some((entry, responder)) = next {
                let entry = log_entry(&entry);
                bytes += entry.payload.len();
                batch.push(entry);
                responders.extend(responder);
            }
            if is_end || batch.len() >= BATCH_ENTRIES_MAX || bytes >= BATCH_BYTES_MAX {
                self.applying.apply(std::mem::take(&mut batch)).await?;
                for responder in responders.drain(..) {
                    responder.send(());
                }
                bytes = 0;
            }
            if is_end {
                return Ok(());
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(Arc::clone(&self.checkpoints))
    }

    async fn install_snapshot(
        &mut self,
        _meta: &RaftSnapshotMeta,
        data: CheckpointData,
    ) -> io::Result<()> {
        match data {
            // It is the state of the store that is there already.
            CheckpointData::Flushed => Ok(()),
            CheckpointData::Incoming(incoming) => {
                let checkpoints = Arc::clone(&self.checkpoints);
                let install: Install = Box::new(move || checkpoints.install_of_leader(&incoming));
                let installed = self.applying.hold().await.install(install).await;
                installed.map_err(io::Error::other)
            }
        }
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        self.checkpoints.flushed()
    }
}

/// Says how far the store is flushed.
pub(crate) struct Builder(Arc<Checkpoints>);

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = CheckpointData;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        let nothing = || io::Error::other("nothing is flushed yet");
        self.0.flushed()?.ok_or_else(nothing)
    }
}
