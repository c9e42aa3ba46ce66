//! Checkpoints between nodes: one is made when a node needs it, sent file by file, and put in
//! the place of that node's store.
//!
//! ```text
//!   leader: log no longer has what a node lacks -> link files -> offer -> parts -> install
//!   other:                                       Receiver  <-----'        |
//!          consensus agrees -> store retired, directory replaced, reopened <-'
//! ```
//!
//! A node whose files are damaged asks another for one (`repair`), and puts it in place by itself.
//! A transfer that breaks off is gone on with: the offer of the same checkpoint is answered with
//! what is missing.

use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use chronos_env::Env;
use chronos_model::SqlState;
use chronos_store::checkpoint::{
    remove_all, remove_unfinished, replace_store, Checkpoint, CheckpointList, Receiver, INCOMING,
};
use chronos_store::log::LogIndex;
use chronos_store::{Membership as StoredBytes, Store};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::machine::{CheckpointData, RaftSnapshot};
use super::pending::Pending;
use super::types::{raft_log_id, raft_membership, RaftSnapshotMeta, RaftStoredMembership};
use crate::cluster::{CheckpointOffer, CheckpointPart, OfferReply, PeerError, TransferStatus};
use crate::Error;

/// Bytes of one part that is sent.
pub(crate) const PART_BYTES: usize = 1 << 20;
/// Where checkpoints are made, in the data directory.
const CHECKPOINTS: &str = "checkpoints";

/// A checkpoint whose files have all arrived. Until this is dropped, no other one is received.
pub(crate) struct Incoming {
    pub(crate) list: CheckpointList,
    is_there: Arc<AtomicBool>,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.is_there.store(false, Ordering::Release);
    }
}

/// One that is being received.
struct Receiving {
    id: String,
    receiver: Receiver,
}

/// How far it is.
struct Progress {
    id: String,
    /// The last entry that it contains.
    index: LogIndex,
    transfer: TransferStatus,
}

impl Progress {
    fn of(receiving: &Receiving) -> Progress {
        let list = receiving.receiver.list();
        Progress {
            id: receiving.id.clone(),
            index: list.applied().1,
            transfer: TransferStatus {
                bytes: receiving.receiver.received_bytes(),
                bytes_total: list.bytes(),
            },
        }
    }
}

/// Why a checkpoint has not taken the place of the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    /// The store is as it was.
    #[error("{0}")]
    Refused(String),
    /// There is no store any more.
    #[error("{0}")]
    Failed(io::Error),
}

/// Makes, sends, receives and installs checkpoints.
pub(crate) struct Checkpoints {
    env: Env,
    data_dir: PathBuf,
    store: Store,
    pending: Arc<Pending>,
    /// Held while files of it are read and written.
    receiving: Mutex<Option<Receiving>>,
    /// For whoever asks meanwhile.
    progress: Mutex<Option<Progress>>,
    /// Whether one has arrived and has not taken its place yet.
    is_there: Arc<AtomicBool>,
    /// The number of one that this node has asked for.
    asked: Mutex<Option<NonZeroU64>>,
    /// Bytes that have arrived since the node was opened.
    arrived: AtomicU64,
    /// Numbers those made here.
    made: AtomicU64,
    /// How often the store was replaced.
    installed: AtomicU64,
    after_install: Box<dyn Fn() + Send + Sync>,
}

impl Checkpoints {
    pub(crate) fn new(
        env: &Env,
        data_dir: &Path,
        store: Store,
        pending: Arc<Pending>,
        after_install: Box<dyn Fn() + Send + Sync>,
    ) -> Result<Checkpoints, Error> {
        let dir = data_dir.join(CHECKPOINTS);
        let io = |e: io::Error| {
            let dir = dir.display();
            Error::new(SqlState::IO_ERROR, format!("cannot use {dir}: {e}"))
        };
        env.disk.create_dir_all(&dir).map_err(io)?;
        remove_unfinished(env, &dir)?;
        // Whoever wanted one from before asks again.
        for name in env.disk.read_dir(&dir).map_err(io)? {
            if let Ok(left) = Checkpoint::open(env, &dir.join(name)) {
                left.remove()?;
            }
        }
        Ok(Checkpoints {
            env: env.clone(),
            data_dir: data_dir.to_owned(),
            store,
            pending,
            receiving: Mutex::new(None),
            progress: Mutex::new(None),
            is_there: Arc::default(),
            asked: Mutex::new(None),
            arrived: AtomicU64::new(0),
            made: AtomicU64::new(0),
            installed: AtomicU64::new(0),
            after_install,
        })
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Who belongs to the cluster as of the last applied entry.
    pub(crate) fn membership(&self) -> io::Result<RaftStoredMembership> {
        stored_membership(self.store.membership().as_deref())
    }

    /// What is flushed, as a checkpoint that is made when it is sent.
    pub(crate) fn flushed(&self) -> io::Result<Option<RaftSnapshot>> {
        let (term, index, membership) = self.store.flushed();
        if index == LogIndex(0) {
            return Ok(None);
        }
        let meta = RaftSnapshotMeta {
            last_log_id: Some(raft_log_id(term, index)),
            last_membership: stored_membership(membership.as_ref())?,
        };
        Ok(Some(RaftSnapshot {
            meta,
            snapshot: CheckpointData::Flushed,
        }))
    }

    /// Makes a checkpoint to be sent. Blocks. Where everything is done in steps, its end does as well.
    pub(crate) fn make(&self, stepped: bool) -> Result<Made, Error> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let dir = self.data_dir.join(CHECKPOINTS).join(number.to_string());
        let checkpoint = self.store.checkpoint(&dir)?;
        let (term, index) = checkpoint.list().applied();
        let id = format!(
            "{}-{}-{:08x}",
            term.0,
            index.0,
            crc32fast::hash(&checkpoint.list().encode()?)
        );
        Ok(Made {
            id,
            checkpoint: Some(checkpoint),
            stepped,
        })
    }

    /// From now on takes one that is offered with this number, or none but a leader's.
    pub(crate) fn expect(&self, asked: Option<NonZeroU64>) {
        *self.asked.lock() = asked;
    }

    /// Takes an offer: says what is missing of it. Blocks.
    pub(crate) fn offered(&self, offer: &CheckpointOffer) -> Result<OfferReply, PeerError> {
        if offer.asked.is_some() && offer.asked != *self.asked.lock() {
            return Err(PeerError::Failed("nobody here asked for it".into()));
        }
        let mut receiving = self.receiving.lock();
        let known = receiving.as_ref().is_some_and(|r| r.id == offer.id);
        if !known {
            if self.is_there.load(Ordering::Acquire) {
                let text = "another checkpoint is about to take its place";
                return Err(PeerError::Failed(text.into()));
            }
            let incoming = self.data_dir.join(INCOMING);
            let list = CheckpointList::decode(&offer.list, &incoming).map_err(failed)?;
            // Another one that broke off gives way; what this one shares with it stays.
            let before = receiving.take();
            self.note_progress(&receiving);
            let receiver = match before {
                Some(before) => before.receiver.go_over_to(list, Some(&self.store)),
                None => Receiver::begin(&self.env, &incoming, list, Some(&self.store)),
            };
            let receiver = receiver.map_err(failed)?;
            tracing::info!(
                id = offer.id,
                bytes = receiver.list().bytes(),
                there = receiver.received_bytes(),
                "receiving a checkpoint"
            );
            *receiving = Some(Receiving {
                id: offer.id.clone(),
                receiver,
            });
            self.note_progress(&receiving);
        }
        let Some(Receiving { receiver, .. }) = &*receiving else {
            return Ok(OfferReply::Complete);
        };
        Ok(match receiver.wanted() {
            None => OfferReply::Complete,
            Some(wanted) => {
                let files = receiver.list().files();
                let file = files.iter().position(|f| f.name == wanted.name);
                OfferReply::Wanted {
                    file: file.unwrap_or_default() as u32,
                    offset: wanted.offset,
                }
            }
        })
    }

    /// Takes a part in. Blocks.
    pub(crate) fn received(&self, part: &CheckpointPart) -> Result<(), PeerError> {
        let mut receiving = self.receiving.lock();
        let Some(Receiving { receiver, .. }) = receiving.as_mut().filter(|r| r.id == part.id)
        else {
            return Err(PeerError::Failed("that checkpoint was not offered".into()));
        };
        let file = receiver.list().files().get(part.file as usize);
        let name = file.map(|file| file.name.clone()).unwrap_or_default();
        let written = receiver.write(&name, part.offset, &part.bytes);
        self.arrived
            .fetch_add(part.bytes.len() as u64, Ordering::Relaxed);
        self.note_progress(&receiving);
        written.map_err(failed)
    }

    fn note_progress(&self, receiving: &Option<Receiving>) {
        *self.progress.lock() = receiving.as_ref().map(Progress::of);
    }

    /// Bytes that have arrived since the node was opened. Waits for nothing.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Completes what was received. Blocks.
    pub(crate) fn complete(&self, id: &str) -> Result<Incoming, PeerError> {
        let taken = {
            let mut receiving = self.receiving.lock();
            let is_it = receiving.as_ref().is_some_and(|r| r.id == id);
            let taken = receiving.take_if(|_| is_it);
            self.note_progress(&receiving);
            // Nobody begins with another one in between.
            taken.map(|taken| {
                self.is_there.store(true, Ordering::Release);
                let incoming = Incoming {
                    list: taken.receiver.list().clone(),
                    is_there: Arc::clone(&self.is_there),
                };
                (taken.receiver, incoming)
            })
        };
        let Some((receiver, incoming)) = taken else {
            return Err(PeerError::Failed("that checkpoint was not offered".into()));
        };
        receiver.finish().map_err(failed)?;
        Ok(incoming)
    }

    /// Removes what was received and is not about to take its place: nobody goes on with it. Blocks.
    pub(crate) fn discard(&self) -> Result<(), Error> {
        let mut receiving = self.receiving.lock();
        if self.is_there.load(Ordering::Acquire) {
            return Ok(());
        }
        *receiving = None;
        self.note_progress(&receiving);
        remove_all(&self.env, &self.data_dir.join(INCOMING))?;
        Ok(remove_unfinished(&self.env, &self.data_dir)?)
    }

    /// What the one contains that is being received, if it has this id.
    pub(crate) fn contains(&self, id: &str) -> Option<LogIndex> {
        let progress = self.progress.lock();
        let progress = progress.as_ref().filter(|progress| progress.id == id);
        progress.map(|progress| progress.index)
    }

    /// How often the store was replaced.
    pub(crate) fn installed(&self) -> u64 {
        self.installed.load(Ordering::Relaxed)
    }

    /// How far a transfer to this node is.
    pub(crate) fn receiving(&self) -> Option<TransferStatus> {
        let progress = self.progress.lock();
        progress.as_ref().map(|progress| progress.transfer.clone())
    }

    /// Puts a checkpoint that the leader has sent in the place of the store, unless the store has
    /// gone past it. Entries in between will not be handed out. Called where they are applied.
    pub(crate) fn install_of_leader(&self, incoming: &Incoming) -> Result<(), InstallError> {
        if incoming.list.applied().1 > self.store.applied_index() {
            self.install(incoming)?;
        }
        // What was proposed here may be in it, or not.
        let (term, _) = self.store.applied();
        self.pending.forget_sent(&unknown_after_install(), term.0);
        Ok(())
    }

    /// Puts a received checkpoint in the place of the store, whose last entry it contains. Called
    /// where entries are applied.
    pub(crate) fn install(&self, incoming: &Incoming) -> Result<(), InstallError> {
        let (term, index) = incoming.list.applied();
        if index < self.store.applied_index() {
            let text = format!("the store has gone past the entry {index}");
            return Err(InstallError::Refused(text));
        }
        tracing::info!(
            term = term.0,
            index = index.0,
            "a checkpoint takes the place of the store"
        );
        let failed = |e| InstallError::Failed(io::Error::other(e));
        self.store.retire();
        replace_store(&self.env, &self.data_dir).map_err(failed)?;
        self.store.reopen().map_err(failed)?;
        self.installed.fetch_add(1, Ordering::Relaxed);
        (self.after_install)();
        Ok(())
    }
}

/// 08007: what was proposed may be part of a checkpoint.
pub(super) fn unknown_after_install() -> Error {
    Error::new(
        SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
        "the node took over a checkpoint of another one; whether the commit is part of it is unknown",
    )
}

fn failed(error: impl std::error::Error + 'static) -> PeerError {
    PeerError::Failed(chronos_store::with_causes(&error))
}

/// The membership that the store has kept.
pub(crate) fn stored_membership(stored: Option<&StoredBytes>) -> io::Result<RaftStoredMembership> {
    let Some(stored) = stored else {
        return Ok(RaftStoredMembership::default());
    };
    let membership = serde_json::from_slice(&stored.bytes).map_err(io::Error::other)?;
    let at = raft_log_id(
        chronos_store::log::Term(stored.term),
        LogIndex(stored.index),
    );
    Ok(RaftStoredMembership::new(
        Some(at),
        raft_membership(&membership),
    ))
}

/// A checkpoint that is being sent; its files go when this is dropped.
pub(crate) struct Made {
    pub(crate) id: String,
    checkpoint: Option<Checkpoint>,
    stepped: bool,
}

impl Made {
    pub(crate) fn list(&self) -> Option<&CheckpointList> {
        self.checkpoint.as_ref().map(Checkpoint::list)
    }

    /// Reads a part of a file, at most [`PART_BYTES`]; empty at its end. Blocks.
    pub(crate) fn part(&self, file: u32, offset: u64) -> io::Result<Bytes> {
        let missing = || io::Error::other("the checkpoint is gone");
        let checkpoint = self.checkpoint.as_ref().ok_or_else(missing)?;
        let of = checkpoint.files().get(file as usize).ok_or_else(missing)?;
        let length = (of.bytes.saturating_sub(offset)).min(PART_BYTES as u64) as usize;
        let mut bytes = vec![0; length];
        let file = checkpoint.open_file(&of.name).map_err(io::Error::other)?;
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some(checkpoint) = self.checkpoint.take() else {
            return;
        };
        let remove = move || {
            if let Err(error) = checkpoint.remove() {
                tracing::warn!(%error, "a checkpoint that was sent cannot be removed");
            }
        };
        // Large files take their time, and this may be the thread of the consensus.
        match Handle::try_current() {
            Ok(runtime) if !self.stepped => drop(runtime.spawn_blocking(remove)),
            _ => remove(),
        }
    }
}
