//! The log as the consensus uses it.
//!
//! Every change goes through the log's one writer, in the order in which it is asked for;
//! entries can be read as soon as they are queued, so that they are sent to followers while they
//! are still being synced.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use chronos_store::log::{HardVote, Log, LogEntry, LogError, LogIndex, Term};
use futures::{stream, Stream};
use openraft::entry::RaftEntry as RaftEntryTrait;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::OptionalSend;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::fault::{log_error, FaultCell};
use super::machine::bytes_of;
use super::pace::Pace;
use super::pending::Pending;
use super::types::{
    ballot, log_entry, log_index, position, raft_entry, raft_log_id, vote, RaftEntry, RaftLogId,
    RaftVote, Types,
};
use crate::cluster::{Ballot, NodeNumber, Sabotage};
use crate::Error;

/// Payloads that are read at once: of one message to a follower, or one step of applying. What is not in
/// memory any more is read from files on the consensus's thread: no more than a slow card reads while a
/// heartbeat can wait.
const READ_BYTES_MAX: u64 = 1 << 20;

/// The log of one node, as the consensus sees it.
#[derive(Clone)]
pub(crate) struct LogStore {
    pub(super) log: Log,
    /// This node, which in a log without a vote has voted for itself once.
    pub(super) number: NodeNumber,
    pub(super) fault: Arc<FaultCell>,
    pub(super) pending: Arc<Pending>,
    pub(super) alone: Arc<AtomicBool>,
    /// What is smaller is written and synced on the consensus's own thread; of a member of a cluster, nothing.
    pub(super) at_once_bytes_max: usize,
    pub(super) sabotage: Option<Sabotage>,
    pub(super) pace: Arc<Pace>,
}

impl LogStore {
    /// Waits for something that the log does later.
    async fn done(
        &self,
        start: impl FnOnce(&Log, Box<dyn FnOnce(Result<(), LogError>) + Send>),
    ) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        start(
            &self.log,
            Box::new(move |result| {
                // Nobody waits any more when the consensus has ended.
                let _ = sender.send(result);
            }),
        );
        match receiver.await.unwrap_or(Err(LogError::Closed)) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// A failure of the log ends the writing of this node.
    fn failed(&self, error: LogError) -> io::Error {
        self.fault.log_failed(&error);
        let told = log_error(error.clone());
        // Other members may have what this one could not write.
        let of_sent = match self.alone.load(Ordering::Acquire) {
            true => told.clone(),
            false => Error::unknown_outcome(&told.message),
        };
        self.pending.fail(&told, &of_sent);
        io::Error::other(error)
    }

    /// From the moment on at which others are to belong to the cluster, this node does not
    /// decide by itself.
    fn note_members(&self, entries: &[RaftEntry]) {
        let own = u64::from(self.number.0);
        let mut memberships = entries.iter().filter_map(RaftEntryTrait::get_membership);
        // One that does not vote has a copy of the log as well.
        if memberships.any(|m| m.nodes().any(|(id, _)| *id != own)) {
            self.alone.store(false, Ordering::Release);
        }
    }

    fn saved_vote(&self) -> Option<RaftVote> {
        let forgets = self.sabotage == Some(Sabotage::ForgetVote);
        match self.log.vote().filter(|_| !forgets) {
            Some(saved) => Some(vote(Ballot {
                term: saved.term,
                node: NodeNumber(saved.node as u32),
                elected: saved.committed,
            })),
            // Its first entries were written before anybody voted.
            None => self
                .log
                .last()
                .map(|(term, _)| RaftVote::new(term.0, u64::from(self.number.0))),
        }
    }

    fn entries(&self, from: u64, to: u64, bytes_max: u64) -> io::Result<Vec<RaftEntry>> {
        let range = log_index(from)..log_index(to);
        let entries = self
            .log
            .entries(range, bytes_max)
            .map_err(io::Error::other)?;
        entries
            .into_iter()
            .map(|entry| raft_entry(entry).map_err(io::Error::other))
            .collect()
    }

    /// The end of the log, as an index of the library that is not there any more.
    fn end(&self) -> u64 {
        self.log.last().map_or(0, |(_, last)| last.0)
    }

    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => self.log.purged().map_or(0, |(_, index)| index.0),
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        (from, to.min(self.end()))
    }
}

fn id((term, index): (Term, LogIndex)) -> RaftLogId {
    raft_log_id(term, index)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<RaftEntry>> {
        let (from, to) = self.bounds(&range);
        match from < to {
            true => self.entries(from, to, u64::MAX),
            false => Ok(Vec::new()),
        }
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> io::Result<Vec<RaftEntry>> {
        self.entries(from, to, READ_BYTES_MAX)
    }

    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = self.bounds(&range);
        let log = self.clone();
        let parts = stream::unfold(from, move |from| {
            let part = (from < to).then(|| log.entries(from, to, READ_BYTES_MAX));
            std::future::ready(part.map(|part| {
                let next = match &part {
                    Ok(entries) if !entries.is_empty() => from + entries.len() as u64,
                    _ => to,
                };
                let items = match part {
                    Ok(entries) => entries.into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(error)],
                };
                (stream::iter(items), next)
            }))
        });
        Box::pin(futures::StreamExt::flatten(parts))
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.saved_vote())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        Ok(LogState {
            last_purged_log_id: self.log.purged().map(id),
            last_log_id: self.log.last().map(id),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let ballot = ballot(vote);
        let vote = HardVote {
            term: ballot.term,
            node: u64::from(ballot.node.0),
            committed: ballot.elected,
        };
        self.done(|log, done| log.save_vote(vote, done)).await
    }

    async fn save_committed(&mut self, committed: Option<RaftLogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            let place = position(&committed);
            self.log
                .note_committed(Term(place.term), LogIndex(place.index));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<RaftLogId>> {
        Ok(self.log.committed().map(id))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<RaftEntry> = entries.into_iter().collect();
        self.note_members(&entries);
        let entries: Vec<LogEntry> = entries.iter().map(log_entry).collect();
        let store = self.clone();
        let began = Instant::now();
        let at_once = bytes_of(&entries) < self.at_once_bytes_max;
        let done = move |durable: Result<(), LogError>| {
            store.pace.synced(began);
            callback.io_completed(durable.map_err(|error| store.failed(error)));
        };
        match at_once {
            true => self.log.append_here(entries, done),
            false => self.log.append(entries, done),
        }
        // What the library takes for appended it has applied as soon as it is committed, and a log that
        // has failed does not have it.
        match self.log.stopped() {
            Some(error) => Err(self.failed(error)),
            None => Ok(()),
        }
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        let last = last.map_or(0, |id| position(&id).index);
        self.done(|log, done| log.truncate_after_then(LogIndex(last), done))
            .await
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        let upto = position(&upto);
        self.done(|log, done| log.purge_then(Term(upto.term), LogIndex(upto.index), done))
            .await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use chronos_env::Env;
    use chronos_store::log::{Driver, LogOptions};
    use openraft::impls::EntryPayload;

    use super::super::types::{RaftMembership, RaftNode};
    use super::*;
    use crate::cluster::{Member, Timing};

    #[test]
    fn who_has_a_learner_is_not_alone() {
        let options = LogOptions {
            driver: Driver::Stepped,
            ..LogOptions::default()
        };
        let (log, _) = Log::open(&Env::simulated(1), Path::new("/log"), options).unwrap();
        let timing = Timing {
            heartbeat_ms: 100,
            election_timeout_ms: 1_000,
        };
        let alone = Arc::new(AtomicBool::new(true));
        let store = LogStore {
            log,
            number: NodeNumber(1),
            fault: Arc::default(),
            pending: Pending::new(1),
            alone: Arc::clone(&alone),
            at_once_bytes_max: 0,
            sabotage: None,
            pace: Pace::by_clock(timing, true, 0),
        };
        let note = |names: &[&str]| {
            let nodes = names.iter().map(|name| {
                let member = Member::new(name, "a:1").unwrap();
                let promote = false;
                (u64::from(member.number.0), RaftNode { member, promote })
            });
            let nodes: BTreeMap<u64, RaftNode> = nodes.collect();
            let members = RaftMembership::new(vec![BTreeSet::from([1])], nodes).unwrap();
            store.note_members(&[RaftEntry {
                log_id: raft_log_id(Term(1), LogIndex(1)),
                payload: EntryPayload::Membership(members),
            }]);
        };
        note(&["n1"]);
        assert!(alone.load(Ordering::Acquire));
        note(&["n1", "n2"]);
        assert!(!alone.load(Ordering::Acquire));
    }
}
