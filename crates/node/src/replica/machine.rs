//! What the consensus applies to: hands entries to the applier, and gives and takes checkpoints.
//!
//! The store keeps its own state on disk, and says up to which entry; the log is needed from
//! there on. So a checkpoint costs nothing until another node wants it: what the library calls
//! the snapshot is the flushed state of the store, and files are linked when it is sent.

use std::io;
use std::sync::Arc;

use chronos_store::log::LogEntry;
use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use openraft::OptionalSend;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::apply::{Applier, Batch};
use super::checkpoints::{Checkpoints, Incoming};
use super::types::{
    log_entry, raft_log_id, RaftLogId, RaftSnapshotMeta, RaftStoredMembership, Types,
};

/// Entries that are handed to the applier at once, at most.
const BATCH_ENTRIES_MAX: usize = 1_024;
/// And the bytes of their payloads; one entry may be larger.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// Where entries are applied.
pub(crate) enum Applying {
    /// On a thread of its own.
    Thread(crossbeam_channel::Sender<Batch>),
    /// At once: in a simulation.
    Inline(Box<Mutex<Applier>>),
}

impl Applying {
    async fn apply(&self, entries: Vec<LogEntry>) -> io::Result<()> {
        match self {
            Applying::Inline(applier) => applier.lock().apply_all(entries),
            Applying::Thread(batches) => {
                let (done, applied) = oneshot::channel();
                let sent = batches.send(Batch { entries, done });
                let ended = || io::Error::other("the apply thread has ended");
                sent.map_err(|_| ended())?;
                applied.await.map_err(|_| ended())?;
            }
        }
        Ok(())
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
                checkpoints.install(incoming).await
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
