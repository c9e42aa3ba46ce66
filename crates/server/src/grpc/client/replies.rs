//! Both directions of a stream of calls, as the calling node holds them.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{ready, Context, Poll};

use chronos_node::cluster::{AppendReply, PeerError};
use futures::stream::{BoxStream, Stream};
use futures::{FutureExt as _, StreamExt as _};
use prost::Message;
use tokio::sync::oneshot;
use tonic::{Status, Streaming};

use crate::grpc::packing::too_large;
use crate::grpc::pb;
use crate::grpc::status::peer_error;

/// What went wrong with the requests of a stream before they were sent.
type Unsent = Arc<OnceLock<PeerError>>;

/// Messages on their way, until one is too large or `stopped` is ready: a request that is cancelled
/// would otherwise go on for as long as there are messages.
///
/// A type with a name, as the compiler loses its way in combinators below a generic async function.
pub(super) struct Outgoing<M> {
    messages: BoxStream<'static, M>,
    bytes_max: usize,
    unsent: Unsent,
    stopped: oneshot::Receiver<()>,
    is_ended: bool,
}

/// What an [`Outgoing`] is watched and ended by.
pub(super) struct Reins {
    pub(super) unsent: Unsent,
    /// Never sent: dropping it is the sign.
    _stop: oneshot::Sender<()>,
}

pub(super) fn outgoing<M>(
    messages: BoxStream<'static, M>,
    bytes_max: usize,
) -> (Outgoing<M>, Reins) {
    let (stop, stopped) = oneshot::channel();
    let unsent = Unsent::default();
    let outgoing = Outgoing {
        messages,
        bytes_max,
        unsent: Arc::clone(&unsent),
        stopped,
        is_ended: false,
    };
    let reins = Reins {
        unsent,
        _stop: stop,
    };
    (outgoing, reins)
}

impl<M: Message> Stream for Outgoing<M> {
    type Item = M;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<M>> {
        if self.is_ended || self.stopped.poll_unpin(context).is_ready() {
            self.is_ended = true;
            return Poll::Ready(None);
        }
        let next = ready!(self.messages.poll_next_unpin(context));
        if let Some(Err(error)) = next.as_ref().map(|m| check_size(m, self.bytes_max)) {
            let _ = self.unsent.set(error);
            self.is_ended = true;
            return Poll::Ready(None);
        }
        self.is_ended = next.is_none();
        Poll::Ready(next)
    }
}

/// Refuses a message that is too large before anything of it is sent.
pub(super) fn check_size<M: Message>(message: &M, bytes_max: usize) -> Result<(), PeerError> {
    match message.encoded_len() {
        bytes if bytes > bytes_max => Err(PeerError::Failed(too_large(bytes as u64, bytes_max))),
        _ => Ok(()),
    }
}

/// Answers of an append stream. Dropping it ends the requests.
pub(super) struct Replies {
    pub(super) replies: Streaming<pb::AppendReply>,
    pub(super) reins: Reins,
    pub(super) is_ended: bool,
    pub(super) on_error: Box<dyn FnMut(&PeerError) + Send>,
}

impl Replies {
    fn outcome(
        &self,
        next: Option<Result<pb::AppendReply, Status>>,
    ) -> Option<Result<AppendReply, PeerError>> {
        match next {
            Some(Ok(reply)) => Some(reply.try_into().map_err(malformed)),
            // The connection fails too when a message does, and says less.
            Some(Err(status)) => Some(Err(match self.reins.unsent.get() {
                Some(error) => error.clone(),
                None => peer_error(&status),
            })),
            None => self.reins.unsent.get().map(|error| Err(error.clone())),
        }
    }
}

pub(super) fn malformed(error: impl std::fmt::Display) -> PeerError {
    PeerError::Failed(error.to_string())
}

impl Stream for Replies {
    type Item = Result<AppendReply, PeerError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.replies.poll_next_unpin(context));
        let outcome = self.outcome(next);
        match &outcome {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                (self.on_error)(error);
                self.is_ended = true;
            }
            None => self.is_ended = true,
        }
        Poll::Ready(outcome)
    }
}
