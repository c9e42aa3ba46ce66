//! Proposals on their way to a leader: all of a node share one stream.
//!
//! A call of its own for each proposal costs ten times as much: headers, a stream of HTTP/2 and a few
//! tasks, on both sides. Here a proposal is a message with a number, and the answer has it, too.
//!
//! When the stream ends, whoever waits learns that nobody knows what became of his proposal; the next
//! proposal opens another stream.

use std::collections::HashMap;
use std::sync::Arc;

use chronos_node::cluster::{PeerError, ProposeReply};
use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tonic::{Request, Status};

use super::link::Target;
use super::peer::{tell_refused, Client};
use super::replies::{check_size, outgoing, Outgoing, Reins};
use crate::grpc::convert::proposed;
use crate::grpc::pass::Pass;
use crate::grpc::pb;
use crate::grpc::status::peer_error;

/// Proposals that wait to be sent; whoever comes then waits.
const QUEUED_MAX: usize = 256;

/// Larger proposals have a stream of their own.
const SHARED_BYTES_MAX: usize = 256 << 10;

type Outcome = Result<ProposeReply, PeerError>;

/// The way of proposals to one node.
pub(super) struct Proposals {
    client: Client,
    pass: Arc<Pass>,
    target: Arc<Target>,
    /// The stream that is open, if one is.
    current: Mutex<Option<Open>>,
}

/// A stream of proposals.
struct Open {
    queue: mpsc::Sender<pb::ProposeRequest>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Who waits for answers.
#[derive(Default)]
struct Waiting {
    number: u64,
    by_number: HashMap<u64, oneshot::Sender<Outcome>>,
    /// Nobody is added any more.
    is_ended: bool,
}

/// A place among those who wait; given up when it is dropped.
struct Place {
    waiting: Arc<Mutex<Waiting>>,
    number: u64,
    outcome: oneshot::Receiver<Outcome>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.waiting.lock().by_number.remove(&self.number);
    }
}

impl Waiting {
    fn end(&mut self, error: &PeerError) {
        self.is_ended = true;
        for (_, waiting) in self.by_number.drain() {
            let _ = waiting.send(Err(error.clone()));
        }
    }
}

impl Proposals {
    pub(super) fn new(client: Client, pass: Arc<Pass>, target: Arc<Target>) -> Proposals {
        Proposals {
            client,
            pass,
            target,
            current: Mutex::default(),
        }
    }

    /// Sends a proposal and waits for its answer.
    pub(super) async fn propose(&self, mut proposal: pb::ProposeRequest) -> Outcome {
        let bytes_max = self.target.shared.options.message_bytes_max;
        check_size(&proposal, bytes_max)?;
        let (mut place, mut queue) = match proposal.payload.len() {
            // Others are not to wait until it is sent.
            bytes if bytes > SHARED_BYTES_MAX => {
                let own = self.open();
                (own.place().ok_or_else(ended)?, own.queue)
            }
            _ => self.place(),
        };
        proposal.number = place.number;
        // An error means that the stream has ended, which the outcome tells of.
        let _ = queue.send(proposal).await;
        drop(queue);
        let outcome = (&mut place.outcome).await;
        outcome.unwrap_or_else(|_| Err(ended()))
    }

    /// A place at the stream that is open, or at a new one.
    fn place(&self) -> (Place, mpsc::Sender<pb::ProposeRequest>) {
        let mut current = self.current.lock();
        loop {
            if let Some(open) = &*current {
                if let Some(place) = open.place() {
                    return (place, open.queue.clone());
                }
            }
            *current = Some(self.open());
        }
    }

    fn open(&self) -> Open {
        let (queue, requests) = mpsc::channel(QUEUED_MAX);
        let open = Open {
            queue,
            waiting: Arc::default(),
        };
        let bytes_max = self.target.shared.options.message_bytes_max;
        let (requests, reins) = outgoing(requests.boxed(), bytes_max);
        let stream = answer(
            self.client.clone(),
            self.pass.call(requests),
            reins,
            Arc::clone(&self.target),
            Arc::clone(&open.waiting),
        );
        self.target.shared.runtime.spawn(stream);
        open
    }
}

impl Open {
    /// `None`: the stream has ended.
    fn place(&self) -> Option<Place> {
        let (send, outcome) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        if waiting.is_ended {
            return None;
        }
        waiting.number += 1;
        let number = waiting.number;
        waiting.by_number.insert(number, send);
        Some(Place {
            waiting: Arc::clone(&self.waiting),
            number,
            outcome,
        })
    }
}

fn ended() -> PeerError {
    PeerError::Unreachable("the connection ended before the answer".into())
}

/// Hands answers to those who wait, until the stream ends.
async fn answer(
    mut client: Client,
    request: Request<Outgoing<pb::ProposeRequest>>,
    reins: Reins,
    target: Arc<Target>,
    waiting: Arc<Mutex<Waiting>>,
) {
    // Also when the runtime ends, and this with it.
    let _at_the_end = AtTheEnd(Arc::clone(&waiting));
    let error = match client.propose(request).await {
        Ok(replies) => take_all(replies.into_inner(), &waiting).await,
        Err(status) => Some(status),
    };
    let error = match (reins.unsent.get(), error) {
        (Some(error), _) => error.clone(),
        (None, Some(status)) => peer_error(&status),
        (None, None) => ended(),
    };
    tell_refused(&target, &error);
    waiting.lock().end(&error);
}

/// Gives what ended the answers; `None`: nothing went wrong.
async fn take_all(
    mut replies: tonic::Streaming<pb::ProposeReply>,
    waiting: &Mutex<Waiting>,
) -> Option<Status> {
    while let Some(reply) = replies.next().await {
        let reply = match reply {
            Ok(reply) => reply,
            Err(status) => return Some(status),
        };
        let place = waiting.lock().by_number.remove(&reply.number);
        // Nobody there: he has given up.
        if let Some(place) = place {
            let _ = place.send(proposed(reply));
        }
    }
    None
}

struct AtTheEnd(Arc<Mutex<Waiting>>);

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        self.0.lock().end(&ended());
    }
}
