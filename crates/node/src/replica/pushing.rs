//! A checkpoint on its way to another node: offered, and sent file by file from where that node
//! has got to.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use parking_lot::Mutex;

use super::checkpoints::Made;
use super::network::run;
use super::Sending;
use crate::cluster::{Ballot, CheckpointOffer, CheckpointPart, OfferReply, Peer, PeerError};

/// Who sends, and to whom.
pub(super) struct Push {
    pub(super) target: u64,
    pub(super) peer: Arc<dyn Peer>,
    pub(super) sending: Arc<Mutex<Sending>>,
    pub(super) stepped: bool,
}

/// What came of it.
pub(super) enum Pushed {
    /// All of it is there. The offer, to be named in what follows.
    There(CheckpointOffer),
    /// The node knows a later leader or voted for one.
    HigherBallot(Ballot),
}

impl Push {
    /// Sends a checkpoint; `offer` says as who. What is there already is not sent.
    pub(super) async fn push(
        &self,
        made: Made,
        offer: CheckpointOffer,
    ) -> Result<Pushed, PeerError> {
        let _ends = Ends(self);
        let made = Arc::new(made);
        let failed = |e: &dyn std::fmt::Display| PeerError::Failed(e.to_string());
        let list = made.list().ok_or_else(|| failed(&"it is gone"))?;
        let bytes_total = list.bytes();
        let sizes: Vec<u64> = list.files().iter().map(|f| f.bytes).collect();
        let encoded: Bytes = list.encode().map_err(|e| failed(&e))?.into();
        let index = list.applied().1 .0;
        tracing::info!(
            to = self.target,
            index,
            bytes = bytes_total,
            "sending a checkpoint"
        );
        let whole = CheckpointOffer {
            id: made.id.clone(),
            list: encoded,
            ..offer
        };
        let mut next = whole.clone();
        let mut sent = None;
        loop {
            match self.peer.offer_checkpoint(next.clone()).await? {
                OfferReply::HigherBallot(higher) => return Ok(Pushed::HigherBallot(higher)),
                OfferReply::Complete => return Ok(Pushed::There(whole)),
                OfferReply::Wanted { file, offset } => {
                    if sent.replace((file, offset)) == Some((file, offset)) {
                        return Err(failed(&"a file of it cannot be read any more"));
                    }
                    let rest = sizes.iter().skip(file as usize).sum::<u64>();
                    let there = bytes_total.saturating_sub(rest.saturating_sub(offset));
                    self.sending.lock().note(self.target, there, bytes_total);
                    let parts = self.parts(Arc::clone(&made), file, offset);
                    self.peer.send_parts(parts).await?;
                }
            }
            // What it contains was told.
            next.list = Bytes::new();
        }
    }

    /// The rest of a file, in parts. Ends early if it cannot be read.
    fn parts(&self, made: Arc<Made>, file: u32, offset: u64) -> BoxStream<'static, CheckpointPart> {
        let stepped = self.stepped;
        futures::stream::unfold(offset, move |offset| {
            let made = Arc::clone(&made);
            async move {
                let id = made.id.clone();
                let part = run(stepped, move || made.part(file, offset)).await;
                let bytes = match part {
                    Ok(bytes) if !bytes.is_empty() => bytes,
                    Ok(_) => return None,
                    Err(error) => {
                        tracing::warn!(%error, "a checkpoint cannot be read");
                        return None;
                    }
                };
                let next = offset + bytes.len() as u64;
                let part = CheckpointPart {
                    id,
                    file,
                    offset,
                    bytes,
                };
                Some((part, next))
            }
        })
        .boxed()
    }
}

/// Nothing is on its way any more, whatever came of it.
struct Ends<'a>(&'a Push);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.sending.lock().end(self.0.target);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use async_trait::async_trait;
    use chronos_env::{Disk, SimDisk, SimEnv};
    use chronos_store::log::LogIndex;
    use chronos_store::{Store, StoreOptions};

    use super::super::checkpoints::Checkpoints;
    use super::super::pending::Pending;
    use super::super::service::Nobody;
    use super::*;
    use crate::cluster::{
        AdminReply, AdminRequest, AppendReplies, AppendReply, AppendRequest, AppendRequests,
        ProposeReply, ReadIndexReply, ReadIndexRequest, TransferRequest, VoteReply, VoteRequest,
    };

    /// A node that takes checkpoints, and nothing else.
    struct Taker(Checkpoints);

    #[async_trait]
    impl Peer for Taker {
        async fn offer_checkpoint(&self, offer: CheckpointOffer) -> Result<OfferReply, PeerError> {
            self.0.offered(&offer)
        }

        async fn send_parts(
            &self,
            mut parts: BoxStream<'static, CheckpointPart>,
        ) -> Result<(), PeerError> {
            while let Some(part) = parts.next().await {
                self.0.received(&part)?;
            }
            Ok(())
        }

        async fn vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError> {
            Nobody.vote(request).await
        }

        async fn pre_vote(&self, request: VoteRequest) -> Result<VoteReply, PeerError> {
            Nobody.pre_vote(request).await
        }

        async fn append_stream(&self, them: AppendRequests) -> Result<AppendReplies, PeerError> {
            Nobody.append_stream(them).await
        }

        async fn append(&self, request: AppendRequest) -> Result<AppendReply, PeerError> {
            Nobody.append(request).await
        }

        async fn transfer(&self, to: TransferRequest) -> Result<Result<(), String>, PeerError> {
            Nobody.transfer(to).await
        }

        async fn install_checkpoint(&self, offer: CheckpointOffer) -> Result<Ballot, PeerError> {
            Nobody.install_checkpoint(offer).await
        }

        async fn propose(&self, term: u64, payload: Bytes) -> Result<ProposeReply, PeerError> {
            Nobody.propose(term, payload).await
        }

        async fn follows(&self, ballot: Ballot) -> Result<bool, PeerError> {
            Nobody.follows(ballot).await
        }

        async fn read_index(&self, asked: ReadIndexRequest) -> Result<ReadIndexReply, PeerError> {
            Nobody.read_index(asked).await
        }

        async fn admin(&self, request: AdminRequest) -> Result<AdminReply, PeerError> {
            Nobody.admin(request).await
        }
    }

    fn checkpoints(disk: &SimDisk, dir: &str) -> Checkpoints {
        let env = SimEnv::with_disk(disk.clone(), 1).env();
        let options = StoreOptions {
            background: false,
            ..StoreOptions::default()
        };
        let dir = Path::new(dir);
        let store = Store::open(&env, &dir.join("store"), options).unwrap();
        let pending = Pending::new(1);
        Checkpoints::new(&env, dir, store, pending, Box::new(|| {})).unwrap()
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_ends_the_transfer() {
        let disk = SimDisk::new(1);
        let from = checkpoints(&disk, "/from");
        from.store()
            .skip(LogIndex(1), chronos_model::Stamp(9))
            .unwrap();
        let there = SimDisk::new(2);
        let taker = Arc::new(Taker(checkpoints(&there, "/to")));
        let push = Push {
            target: 2,
            peer: taker.clone(),
            sending: Arc::default(),
            stepped: true,
        };
        let made = from.make(true).unwrap();
        disk.fail_reads(disk.read_points()..u64::MAX);
        let pushed = push.push(made, CheckpointOffer::default()).await;
        assert!(matches!(pushed, Err(PeerError::Failed(_))));
        let part = Path::new("/to/incoming.part");
        assert!(there.exists(part).unwrap() && taker.0.receiving().is_some());
        // It is gone on with, or after a while it is not.
        disk.clear_faults();
        taker.0.discard().unwrap();
        assert!(!there.exists(part).unwrap() && taker.0.receiving().is_none());
        let made = from.make(true).unwrap();
        let pushed = push.push(made, CheckpointOffer::default()).await;
        assert!(matches!(pushed, Ok(Pushed::There(_))));
        assert!(push.sending.lock().to(2).is_none());
    }
}
