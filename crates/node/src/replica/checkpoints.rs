//! Checkpoints between nodes: one is made when a node needs it, sent file by file, and put in
//! the place of that node's store.
//!
//! ```text
//!   leader: log no longer has what a node lacks -> link files -> offer -> parts -> install
//!   other:                                       Receiver  <-----'        |
//!          consensus agrees -> store retired, directory replaced, reopened <-'
//! ```
//!
//! A transfer that breaks off is gone on with: the offer of the same checkpoint is answered with
//! what is missing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use chronos_env::Env;
use chronos_model::SqlState;
use chronos_store::checkpoint::{
    remove_unfinished, replace_store, Checkpoint, CheckpointList, Receiver, INCOMING,
};
use chronos_store::log::LogIndex;
use chronos_store::{Membership as StoredBytes, Store};
use parking_lot::Mutex;

use super::machine::{CheckpointData, RaftSnapshot};
use super::pending::Pending;
use super::types::{raft_log_id, raft_membership, RaftSnapshotMeta, RaftStoredMembership};
use crate::cluster::{CheckpointOffer, CheckpointPart, OfferReply, PeerError, TransferStatus};
use crate::Error;

/// Bytes of one part that is sent.
pub(crate) const PART_BYTES: usize = 1 << 20;
/// Where checkpoints are made, in the data directory.
const CHECKPOINTS: &str = "checkpoints";

/// A checkpoint whose files have all arrived.
pub(crate) struct Incoming {
    pub(crate) list: CheckpointList,
}

/// One that is being received.
struct Receiving {
    id: String,
    receiver: Receiver,
}

/// Makes, sends, receives and installs checkpoints.
pub(crate) struct Checkpoints {
    env: Env,
    data_dir: PathBuf,
    store: Store,
    pending: Arc<Pending>,
    receiving: Mutex<Option<Receiving>>,
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

    /// Makes a checkpoint to be sent. Blocks.
    pub(crate) fn make(&self) -> Result<Made, Error> {
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
        })
    }

    /// Takes an offer: says what is missing of it. Blocks.
    pub(crate) fn offered(&self, offer: &CheckpointOffer) -> Result<OfferReply, PeerError> {
        let mut receiving = self.receiving.lock();
        let known = receiving.as_ref().is_some_and(|r| r.id == offer.id);
        if !known {
            let incoming = self.data_dir.join(INCOMING);
            let list = CheckpointList::decode(&offer.list, &incoming).map_err(failed)?;
            // Another one that broke off gives way; what this one shares with it stays.
            *receiving = None;
            let receiver =
                Receiver::begin(&self.env, &incoming, list, Some(&self.store)).map_err(failed)?;
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
        receiver
            .write(&name, part.offset, &part.bytes)
            .map_err(failed)
    }

    /// Completes what was received. Blocks.
    pub(crate) fn complete(&self, id: &str) -> Result<Incoming, PeerError> {
        let taken = {
            let mut receiving = self.receiving.lock();
            let is_it = receiving.as_ref().is_some_and(|r| r.id == id);
            receiving.take_if(|_| is_it)
        };
        let Some(Receiving { receiver, .. }) = taken else {
            return Err(PeerError::Failed("that checkpoint was not offered".into()));
        };
        let list = receiver.list().clone();
        receiver.finish().map_err(failed)?;
        Ok(Incoming { list })
    }

    /// How often the store was replaced.
    pub(crate) fn installed(&self) -> u64 {
        self.installed.load(Ordering::Relaxed)
    }

    /// How far a transfer to this node is.
    pub(crate) fn receiving(&self) -> Option<TransferStatus> {
        let receiving = self.receiving.lock();
        receiving.as_ref().map(|r| TransferStatus {
            bytes: r.receiver.received_bytes(),
            bytes_total: r.receiver.list().bytes(),
        })
    }

    /// Puts a received checkpoint in the place of the store. Called where entries are applied.
    pub(crate) async fn install(&self, incoming: Incoming) -> io::Result<()> {
        let (term, index) = incoming.list.applied();
        tracing::info!(
            term = term.0,
            index = index.0,
            "a checkpoint takes the place of the store"
        );
        self.store.retire();
        replace_store(&self.env, &self.data_dir).map_err(io::Error::other)?;
        self.store.reopen().map_err(io::Error::other)?;
        self.installed.fetch_add(1, Ordering::Relaxed);
        // What was proposed here may be in it, or not.
        self.pending.forget_sent(&unknown_after_install());
        (self.after_install)();
        Ok(())
    }
}

fn unknown_after_install() -> Error {
    Error::new(
        SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
        "the node fell behind and took over a checkpoint; whether the commit is part of it is unknown",
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
        if let Some(checkpoint) = self.checkpoint.take() {
            if let Err(error) = checkpoint.remove() {
                tracing::warn!(%error, "a checkpoint that was sent cannot be removed");
            }
        }
    }
}
