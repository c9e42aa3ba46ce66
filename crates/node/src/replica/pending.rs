//! Proposals of this node of which the outcome is not known yet.
//!
//! ```text
//!   propose: enter -> send_in(term) --..--> applying: take   -> Outcome
//!                                      `--> a later term begins -> Lost: it never will be applied
//!                                      `--> a checkpoint takes the log's place, the node ends -> Unknown
//! ```
//!
//! A proposal is handed to the leader of one term and to no other: a leader appends it in that
//! term or not at all. So once an entry of a later term is applied here, whatever was sent in
//! an earlier one and has not been applied never will be. It can be proposed again.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronos_store::{Applied, PreparedWriteSet};
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::Error;

/// A write set that is committed and applied.
#[derive(Debug)]
pub(crate) struct Committal {
    pub(crate) applied: Applied,
}

/// What became of a proposal.
#[derive(Debug)]
pub(crate) enum Resolution {
    /// It was committed, and applied or refused.
    Outcome(Result<Committal, Error>),
    /// It is not in the log and never will be.
    Lost(PreparedWriteSet),
    /// Nobody here will learn what became of it.
    Unknown(Error),
}

/// Who waits for an entry.
pub(crate) struct Waiting {
    pub(crate) set: PreparedWriteSet,
    pub(crate) reply: oneshot::Sender<Resolution>,
    /// The term in which it was handed to the leader.
    sent_in: Option<u64>,
}

struct Inner {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
    /// The term of the last applied entry.
    applied_term: u64,
    /// Set when the node ends.
    closed: Option<Error>,
}

/// All of them.
pub(crate) struct Pending {
    inner: Mutex<Inner>,
    /// Counts resolutions.
    resolved: watch::Sender<u64>,
}

impl Pending {
    /// Numbers requests from `first` on, which no earlier run of the node used.
    pub(crate) fn new(first: u64) -> Arc<Pending> {
        Arc::new(Pending {
            inner: Mutex::new(Inner {
                waiting: BTreeMap::new(),
                // Never 0, and never at its end.
                next: (first >> 1) | 1,
                applied_term: 0,
                closed: None,
            }),
            resolved: watch::channel(0).0,
        })
    }

    /// A new proposal. It leaves when the ticket is dropped.
    pub(crate) fn enter(
        self: &Arc<Self>,
        set: PreparedWriteSet,
    ) -> Result<(Ticket, oneshot::Receiver<Resolution>), Error> {
        let (reply, resolution) = oneshot::channel();
        let mut inner = self.inner.lock();
        if let Some(error) = &inner.closed {
            return Err(error.clone());
        }
        let request = inner.next;
        inner.next += 1;
        inner.waiting.insert(
            request,
            Waiting {
                set,
                reply,
                sent_in: None,
            },
        );
        let ticket = Ticket {
            pending: Arc::clone(self),
            request,
        };
        Ok((ticket, resolution))
    }

    /// Who waits for an entry that is about to be applied.
    pub(crate) fn take(&self, request: u64) -> Option<Waiting> {
        self.inner.lock().waiting.remove(&request)
    }

    /// Those who were taken have their answers.
    pub(crate) fn note_resolved(&self) {
        self.resolved.send_modify(|n| *n += 1);
    }

    /// Entries of a term are applied from now on, or were here before they were handed out.
    pub(crate) fn enter_term(&self, term: u64) {
        let lost: Vec<Waiting> = {
            let mut inner = self.inner.lock();
            if inner.applied_term >= term {
                return;
            }
            inner.applied_term = term;
            inner.remove_if(|waiting| waiting.sent_in.is_some_and(|sent| sent < term))
        };
        for waiting in lost {
            // Who has gone away does not hear of it.
            let _ = waiting.reply.send(Resolution::Lost(waiting.set));
        }
        self.note_resolved();
    }

    /// The log was replaced by a checkpoint, which ends in a term: what was sent may be in it. What is
    /// sent from now on is in the log behind it, or nowhere.
    pub(crate) fn forget_sent(&self, error: &Error, term: u64) {
        let unknown = {
            let mut inner = self.inner.lock();
            inner.applied_term = inner.applied_term.max(term);
            inner.remove_if(|waiting| waiting.sent_in.is_some())
        };
        self.resolve_unknown(unknown, error, error);
    }

    /// The log failed: what waits may or may not be found at the next start, and `of_sent` is the
    /// error of what may be on its way.
    pub(crate) fn fail(&self, error: &Error, of_sent: &Error) {
        let unknown = self.inner.lock().remove_if(|_| true);
        self.resolve_unknown(unknown, error, of_sent);
    }

    /// Nothing will be resolved any more.
    pub(crate) fn close(&self, error: &Error) {
        let unknown = {
            let mut inner = self.inner.lock();
            inner.closed = Some(error.clone());
            inner.remove_if(|_| true)
        };
        let of_sent = Error::unknown_outcome(&error.message);
        self.resolve_unknown(unknown, error, &of_sent);
    }

    fn resolve_unknown(&self, unknown: Vec<Waiting>, error: &Error, of_sent: &Error) {
        for waiting in unknown {
            let error = match waiting.sent_in {
                Some(_) => of_sent,
                None => error,
            };
            let _ = waiting.reply.send(Resolution::Unknown(error.clone()));
        }
        self.note_resolved();
    }

    /// Waits until every proposal that was entered before is resolved.
    pub(crate) async fn drained(&self) {
        let last = self.inner.lock().next;
        let mut resolved = self.resolved.subscribe();
        loop {
            resolved.borrow_and_update();
            let first = self.inner.lock().waiting.keys().next().copied();
            if first.is_none_or(|first| first >= last) {
                return;
            }
            if resolved.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Inner {
    fn remove_if(&mut self, condition: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let found: Vec<u64> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| condition(waiting))
            .map(|(request, _)| *request)
            .collect();
        found
            .into_iter()
            .filter_map(|request| self.waiting.remove(&request))
            .collect()
    }
}

/// A proposal that waits.
pub(crate) struct Ticket {
    pending: Arc<Pending>,
    request: u64,
}

impl Ticket {
    /// Its number, which stands in the entry.
    pub(crate) fn request(&self) -> u64 {
        self.request
    }

    /// It is about to be handed to the leader of a term; false: that term is over, and it must
    /// not be.
    pub(crate) fn send_in(&self, term: u64) -> bool {
        let mut inner = self.pending.inner.lock();
        if inner.applied_term > term {
            return false;
        }
        if let Some(waiting) = inner.waiting.get_mut(&self.request) {
            waiting.sent_in = Some(term);
        }
        true
    }

    /// The leader did not take it.
    pub(crate) fn not_sent(&self) {
        if let Some(waiting) = self.pending.inner.lock().waiting.get_mut(&self.request) {
            waiting.sent_in = None;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let left = self.pending.take(self.request);
        if left.is_some() {
            self.pending.note_resolved();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use chronos_env::Env;
    use chronos_model::{SqlState, Stamp, WriteSet};
    use chronos_store::{Store, StoreOptions};

    use super::*;

    fn set() -> PreparedWriteSet {
        let options = StoreOptions {
            background: false,
            ..StoreOptions::default()
        };
        let store = Store::open(&Env::simulated(1), Path::new("/store"), options).unwrap();
        let set = WriteSet {
            begin: Stamp(7),
            changes: Vec::new(),
        };
        store.prepare(set, &store.catalog()).unwrap()
    }

    #[test]
    fn what_a_later_term_leaves_out_is_lost_at_once() {
        let pending = Pending::new(8);
        let (ticket, mut resolution) = pending.enter(set()).unwrap();
        let (later, mut of_later) = pending.enter(set()).unwrap();
        assert!(ticket.send_in(3) && later.send_in(4));
        pending.enter_term(3);
        assert!(resolution.try_recv().is_err());
        pending.enter_term(4);
        assert!(matches!(resolution.try_recv(), Ok(Resolution::Lost(_))));
        assert!(of_later.try_recv().is_err());
        assert!(!ticket.send_in(3));
    }

    #[test]
    fn what_may_be_on_its_way_when_the_node_ends_is_not_known() {
        let pending = Pending::new(8);
        let (sent, mut of_sent) = pending.enter(set()).unwrap();
        let (_waits, mut of_waits) = pending.enter(set()).unwrap();
        assert!(sent.send_in(5));
        pending.close(&Error::new(SqlState::ADMIN_SHUTDOWN, "it ends"));
        let code = |resolution: &mut oneshot::Receiver<Resolution>| match resolution.try_recv() {
            Ok(Resolution::Unknown(error)) => error.code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(&mut of_sent), SqlState::TRANSACTION_RESOLUTION_UNKNOWN);
        assert_eq!(code(&mut of_waits), SqlState::ADMIN_SHUTDOWN);
        assert!(pending.enter(set()).is_err());
    }

    #[test]
    fn what_is_sent_after_a_checkpoint_goes_to_no_leader_from_before() {
        let pending = Pending::new(8);
        let (sent, mut resolution) = pending.enter(set()).unwrap();
        let (waits, mut of_waits) = pending.enter(set()).unwrap();
        assert!(sent.send_in(5));
        let error = Error::new(SqlState::TRANSACTION_RESOLUTION_UNKNOWN, "who knows");
        pending.forget_sent(&error, 7);
        assert!(matches!(resolution.try_recv(), Ok(Resolution::Unknown(_))));
        // Entries of the term 7 may be the next ones: nobody would learn of its loss.
        assert!(!waits.send_in(5));
        assert!(waits.send_in(7));
        pending.enter_term(7);
        assert!(of_waits.try_recv().is_err());
    }
}
