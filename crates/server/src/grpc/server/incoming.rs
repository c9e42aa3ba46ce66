//! Messages of a stream of calls, as the called node gets them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use futures::stream::{Stream, StreamExt as _};
use parking_lot::Mutex;
use tonic::{Status, Streaming};

/// Why a stream of messages ended before its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Broken(Arc<Mutex<Option<Status>>>);

impl Broken {
    /// The reason, if there is one; once.
    pub(super) fn take(&self) -> Option<Status> {
        self.0.lock().take()
    }
}

/// The messages of a stream, read. The stream ends at the first that can't be had; why is noted.
pub(super) struct Incoming<M, F> {
    messages: Streaming<M>,
    read: F,
    broken: Broken,
    is_ended: bool,
}

impl<M, F> Incoming<M, F> {
    pub(super) fn new(messages: Streaming<M>, read: F) -> (Incoming<M, F>, Broken) {
        let broken = Broken::default();
        let incoming = Incoming {
            messages,
            read,
            broken: broken.clone(),
            is_ended: false,
        };
        (incoming, broken)
    }
}

impl<M, T, F> Stream for Incoming<M, F>
where
    F: FnMut(M) -> Result<T, Status> + Unpin,
{
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.messages.poll_next_unpin(context));
        let read = next.map(|message| message.and_then(|message| (self.read)(message)));
        Poll::Ready(match read {
            Some(Ok(message)) => Some(message),
            Some(Err(status)) => {
                *self.broken.0.lock() = Some(status);
                self.is_ended = true;
                None
            }
            None => {
                self.is_ended = true;
                None
            }
        })
    }
}
