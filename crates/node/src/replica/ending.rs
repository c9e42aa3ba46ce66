//! Requests that end when somebody says so, whoever is still taking them.
//!
//! A connection goes on asking for the next entries for a moment after it broke: on another thread,
//! or in a task that nobody has told. By then the consensus takes the entries for unused, and they may
//! be cut off the log; and what cannot be read there is the end of the consensus. So a session with a follower
//! ends its requests before it tells that it is over. Whatever reads entries at that moment is waited for.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{BoxStream, Stream, StreamExt};
use futures::task::AtomicWaker;
use parking_lot::Mutex;

struct Shared<T> {
    requests: Mutex<Option<BoxStream<'static, T>>>,
    waker: AtomicWaker,
}

struct Requests<T>(Arc<Shared<T>>);

/// Ends them when it is dropped.
pub(super) struct End<T>(Arc<Shared<T>>);

/// The same requests, as long as the second lives.
pub(super) fn ending<T: 'static>(
    requests: BoxStream<'static, T>,
) -> (BoxStream<'static, T>, End<T>) {
    let shared = Arc::new(Shared {
        requests: Mutex::new(Some(requests)),
        waker: AtomicWaker::new(),
    });
    (Requests(Arc::clone(&shared)).boxed(), End(shared))
}

impl<T> Stream for Requests<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.waker.register(context.waker());
        match &mut *self.0.requests.lock() {
            Some(requests) => requests.poll_next_unpin(context),
            None => Poll::Ready(None),
        }
    }
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        let ended = self.0.requests.lock().take();
        drop(ended);
        self.0.waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[test]
    fn requests_end_with_the_session_and_not_before() {
        let endless = futures::stream::iter(1..3).chain(futures::stream::pending());
        let (mut requests, end) = ending(endless.boxed());
        assert_eq!(requests.next().now_or_never(), Some(Some(1)));
        assert_eq!(requests.next().now_or_never(), Some(Some(2)));
        assert_eq!(requests.next().now_or_never(), None);
        drop(end);
        assert_eq!(requests.next().now_or_never(), Some(None));
    }

    #[test]
    fn who_waits_for_the_next_one_is_woken_by_the_end() {
        let (mut requests, end) = ending(futures::stream::pending::<u8>().boxed());
        let waits = std::thread::spawn(move || futures::executor::block_on(requests.next()));
        drop(end);
        assert_eq!(waits.join().unwrap(), None);
    }

    #[test]
    fn what_nobody_will_take_is_dropped_at_the_end() {
        let held = Arc::new(());
        let holds = Arc::clone(&held);
        let (requests, end) = ending(futures::stream::iter([holds]).boxed());
        drop(end);
        assert_eq!(Arc::strong_count(&held), 1);
        drop(requests);
    }
}
