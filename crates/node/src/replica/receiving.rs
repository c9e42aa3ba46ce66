//! Entries that a leader sends and that are not written here yet: how much memory they may take.
//!
//! ```text
//!   append stream --read--> [waits for room] --> consensus --> log's queue --> written --> reply
//!                                  ^                                                        |
//!                                  `------------------------ room ------------------------'
//! ```
//!
//! What is read counts until it is answered, that is, until the log has written it; from then on
//! it is in the log's files, whether or not it is applied, and in a cache of recent entries that
//! has a limit of its own. When there is no room, nothing more is read: the connection fills, and
//! the leader waits. Heartbeats come by other calls and are not held up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chronos_store::{MemoryAccount, MemoryClass, MemoryShares, Reservation};
use futures::stream::{BoxStream, Stream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cluster::{AppendRequest, LogEntry};

/// The part of what statements may take that entries on their way to the log may.
const SHARE: u64 = 4;
const ROOM_BYTES: std::ops::RangeInclusive<u64> = (1 << 20)..=(64 << 20);
/// What a request takes beside its entries.
const REQUEST_BYTES: u64 = 256;
/// Statements that have all memory are waited for; they do not say when they give some back.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The room for entries on their way to the log.
pub(super) struct Received {
    bytes_max: u64,
    room: Arc<Semaphore>,
    memory: Arc<MemoryAccount>,
}

/// Room that a request takes until it is answered.
struct Held {
    _room: OwnedSemaphorePermit,
    _memory: Reservation,
}

/// What was read of one stream and is not answered yet, oldest first.
type Unanswered = Arc<Mutex<VecDeque<Held>>>;

impl Received {
    pub(super) fn new(memory: Arc<MemoryAccount>) -> Received {
        let bytes_max = room_of(memory.shares());
        Received {
            bytes_max,
            room: Arc::new(Semaphore::new(bytes_max as usize)),
            memory,
        }
    }

    /// Gives requests as there is room for them, and what is to be told of each answer to them.
    pub(super) fn limited(
        self: &Arc<Self>,
        requests: BoxStream<'static, AppendRequest>,
    ) -> (impl Stream<Item = AppendRequest> + Send + 'static, Answered) {
        let unanswered = Unanswered::default();
        let answered = Answered(Arc::clone(&unanswered));
        let received = Arc::clone(self);
        let requests = requests.then(move |request| {
            let (received, unanswered) = (Arc::clone(&received), Arc::clone(&unanswered));
            async move {
                let held = received.hold(bytes_of(&request.entries)).await;
                unanswered.lock().extend(held);
                request
            }
        });
        (requests, answered)
    }

    /// Waits for room. More than there ever is gets all of it.
    async fn hold(&self, bytes: u64) -> Option<Held> {
        let permits = bytes.min(self.bytes_max) as u32;
        // It is never closed.
        let room = Arc::clone(&self.room)
            .acquire_many_owned(permits)
            .await
            .ok()?;
        let mut memory = (self.memory).reservation(MemoryClass::Writes, "entries from the leader");
        // Whoever is alone is let in: what waits for it may be what has the memory.
        while self.memory.available() < bytes && self.others_wait(permits) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        memory.grow(bytes);
        Some(Held {
            _room: room,
            _memory: memory,
        })
    }

    /// Whether there are others, beside one that has so much.
    fn others_wait(&self, own: u32) -> bool {
        let free = self.room.available_permits() as u64;
        free + u64::from(own) < self.bytes_max
    }
}

/// Told of answers, in the order of the requests.
pub(super) struct Answered(Unanswered);

impl Answered {
    pub(super) fn note(&self) {
        self.0.lock().pop_front();
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        // Nothing more is answered.
        self.0.lock().clear();
    }
}

fn room_of(shares: MemoryShares) -> u64 {
    (shares.statements / SHARE).clamp(*ROOM_BYTES.start(), *ROOM_BYTES.end())
}

fn bytes_of(entries: &[LogEntry]) -> u64 {
    let entry =
        |entry: &LogEntry| entry.payload.len() as u64 + std::mem::size_of::<LogEntry>() as u64;
    REQUEST_BYTES + entries.iter().map(entry).sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Ballot, GroupId, LogIndex, Term};
    use futures::FutureExt;

    fn request(index: u64, bytes: usize) -> AppendRequest {
        AppendRequest {
            ballot: Ballot::default(),
            previous: None,
            entries: vec![LogEntry {
                group: GroupId(0),
                term: Term(1),
                index: LogIndex(index),
                payload: vec![0; bytes].into(),
            }],
            committed: None,
            election_timeout_ms: 0,
        }
    }

    /// As many as are given now.
    fn taken(requests: &mut (impl Stream<Item = AppendRequest> + Unpin)) -> usize {
        std::iter::from_fn(|| requests.next().now_or_never().flatten()).count()
    }

    fn requests(count: u64, bytes: usize) -> BoxStream<'static, AppendRequest> {
        futures::stream::iter((1..=count).map(move |index| request(index, bytes))).boxed()
    }

    #[test]
    fn no_more_is_read_than_there_is_room_for_until_it_is_answered() {
        let memory = MemoryAccount::new(MemoryShares::of(64 << 20));
        let received = Arc::new(Received::new(Arc::clone(&memory)));
        assert_eq!(received.bytes_max, 8 << 20);
        let (limited, answered) = received.limited(requests(100, 1 << 20));
        let mut limited = limited.boxed();
        assert_eq!(taken(&mut limited), 7);
        assert!(memory.held(MemoryClass::Writes) > 7 << 20);
        // Another stream has no room of its own.
        let (other, _) = received.limited(requests(100, 1 << 20));
        let mut other = other.boxed();
        assert_eq!(taken(&mut other), 0);
        drop(other);
        let mut total = 7;
        while total < 100 {
            answered.note();
            answered.note();
            let more = taken(&mut limited);
            assert_eq!(more, 2.min(100 - total));
            total += more;
        }
        assert!(memory.peak(MemoryClass::Writes) <= 8 << 20);
        drop((limited, answered));
        assert_eq!(memory.held(MemoryClass::Writes), 0);
        assert_eq!(received.room.available_permits(), 8 << 20);
    }

    #[test]
    fn what_is_larger_than_all_room_is_let_in_alone() {
        let memory = MemoryAccount::new(MemoryShares::of(8 << 20));
        let received = Arc::new(Received::new(memory));
        let (limited, answered) = received.limited(requests(3, 2 << 20));
        let mut limited = limited.boxed();
        for _ in 0..3 {
            assert_eq!(taken(&mut limited), 1);
            answered.note();
        }
    }

    #[tokio::test]
    async fn statements_that_have_all_memory_are_waited_for_by_all_but_one() {
        let memory = MemoryAccount::new(MemoryShares::of(8 << 20));
        let mut query = memory.reservation(MemoryClass::Queries, "a sort");
        query.try_grow(memory.available()).unwrap();
        let received = Arc::new(Received::new(memory));
        let (limited, answered) = received.limited(requests(5, 1 << 16));
        let mut limited = limited.boxed();
        assert_eq!(taken(&mut limited), 1, "nothing else is there");
        assert!(limited.next().now_or_never().is_none());
        answered.note();
        assert!(limited.next().await.is_some(), "alone again");
        drop(query);
        for _ in 0..3 {
            assert!(limited.next().await.is_some());
        }
    }
}
