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
        loop {
            match self.peer.offer_checkpoint(next.clone()).await? {
                OfferReply::HigherBallot(higher) => return Ok(Pushed::HigherBallot(higher)),
                OfferReply::Complete => return Ok(Pushed::There(whole)),
                OfferReply::Wanted { file, offset } => {
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
