//! The log as it will be when everything queued is written: its bounds, its terms, and its
//! last entries.
//!
//! Every change is decided here, on the caller's thread and in the order of the queue; the log
//! thread only carries out what was decided:
//!
//! ```text
//!     first .. written entries .. | .. entries in memory .. | next
//!              (in files)         | shared with the queue   |
//! ```
//!
//! So an entry can be read as soon as its append has returned, and is gone as soon as a
//! truncation was asked for. Payloads are shared with the queue and with everyone who reads
//! them. An entry leaves memory when it is in a file and the limit is exceeded, oldest
//! first; what is not in a file yet is limited by the queue.
//!
//! Files may be behind: they may still hold entries that a queued truncation voids, and give
//! the indexes to others later. Those indexes are in memory until the log thread has reported
//! them as written on the same *line*: each truncation begins a new one.

use std::collections::VecDeque;
use std::ops::Range;

use super::format::PAYLOAD_BYTES_MAX;
use super::{LogEntry, LogError, LogIndex, Term};

/// What an entry in memory takes beside its payload.
const ENTRY_BYTES: u64 = std::mem::size_of::<LogEntry>() as u64;

/// A term and the index of its first entry.
pub(super) type TermRun = (Term, LogIndex);

#[derive(Debug, Default)]
pub(super) struct Recent {
    /// The first index that can be read, if there is an entry.
    first: LogIndex,
    /// The index of the next append; `None` if it may have any.
    next: Option<LogIndex>,
    /// What was purged, inclusive.
    floor: Option<(Term, LogIndex)>,
    /// Where terms begin, ascending; the first one at `first`.
    runs: Vec<TermRun>,
    /// The last entries, up to `next`.
    entries: VecDeque<LogEntry>,
    bytes: u64,
    bytes_max: u64,
    /// What is below is in files.
    written: LogIndex,
    /// Counts what took entries away from the end.
    line: u64,
    committed: Option<(Term, LogIndex)>,
    /// The log has failed, by this: nothing queued will ever be written.
    stopped: Option<LogError>,
}

/// What recovery knows about a log.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The first stored index and the one after the last, whether needed or not.
    pub stored: Option<(LogIndex, LogIndex)>,
    pub runs: Vec<TermRun>,
    pub floor: Option<(Term, LogIndex)>,
    /// As it was noted.
    pub committed: Option<(Term, LogIndex)>,
}

/// The part of a read that has to come from files, and the part in memory behind it.
pub(super) struct Parts {
    pub in_files: Option<Range<LogIndex>>,
    pub in_memory: Vec<LogEntry>,
}

impl Recent {
    pub(super) fn new(known: Known, bytes_max: u64) -> Self {
        let mut recent = Self {
            bytes_max,
            runs: known.runs,
            ..Self::default()
        };
        if let Some((first, next)) = known.stored {
            recent.first = first;
            recent.next = Some(next);
            recent.written = next;
        }
        if let Some((term, index)) = known.floor {
            recent.floor = known.floor;
            recent.purge(term, index);
        }
        recent.committed = known.committed.and_then(|it| recent.vouch_for(it));
        recent
    }

    /// What is certainly committed, if this was noted as committed once. A note may have
    /// reached the disk before the entries it is about; then the last of them is committed,
    /// because a truncation reaches the disk before all that is noted after it.
    fn vouch_for(&self, noted: (Term, LogIndex)) -> Option<(Term, LogIndex)> {
        if self.floor.is_some_and(|floor| noted.1 <= floor.1) {
            return self.floor;
        }
        let last = self.last()?;
        if noted.1 > last.1 {
            return Some(last);
        }
        (self.term_of(noted.1) == Some(noted.0)).then_some(noted)
    }

    /// The last entry; if there is none, what was purged last.
    pub(super) fn last(&self) -> Option<(Term, LogIndex)> {
        match (self.runs.last(), self.next) {
            (Some((term, _)), Some(next)) => Some((*term, LogIndex(next.0.saturating_sub(1)))),
            _ => self.floor,
        }
    }

    pub(super) fn floor(&self) -> Option<(Term, LogIndex)> {
        self.floor
    }

    pub(super) fn committed(&self) -> Option<(Term, LogIndex)> {
        self.committed
    }

    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// The index of the next append; `None` if it may have any.
    pub(super) fn next(&self) -> Option<LogIndex> {
        self.next
    }

    /// The first index that is not purged.
    pub(super) fn first(&self) -> LogIndex {
        self.first
    }

    /// The first entry of each term.
    pub(super) fn runs(&self) -> &[TermRun] {
        &self.runs
    }

    /// The term of an entry, or of the last one that was purged.
    pub(super) fn term_of(&self, index: LogIndex) -> Option<Term> {
        if let Some((term, _)) = self.floor.filter(|floor| floor.1 == index) {
            return Some(term);
        }
        if self.next.is_none_or(|next| index >= next) {
            return None;
        }
        let begun = self.runs.partition_point(|(_, first)| *first <= index);
        Some(self.runs[begun.checked_sub(1)?].0)
    }

    /// Takes entries in, or refuses them as a whole.
    pub(super) fn append(&mut self, entries: &[LogEntry]) -> Result<(), LogError> {
        let mut expected = self.next;
        for entry in entries {
            let expects = expected.unwrap_or(entry.index);
            if entry.index != expects || entry.index == LogIndex(u64::MAX) {
                return Err(LogError::OutOfOrder {
                    expected: expects,
                    found: entry.index,
                });
            }
            if entry.payload.len() as u64 > PAYLOAD_BYTES_MAX {
                return Err(LogError::EntryTooLarge {
                    bytes: entry.payload.len() as u64,
                    limit: PAYLOAD_BYTES_MAX,
                });
            }
            expected = Some(entry.index.next());
        }
        if self.stopped.is_some() {
            return Ok(());
        }
        if let (None, Some(entry)) = (self.next, entries.first()) {
            self.first = entry.index;
            self.written = entry.index;
            self.floor = floor_before(entry.index);
        }
        for entry in entries {
            if self.runs.last().is_none_or(|(term, _)| *term != entry.term) {
                self.runs.push((entry.term, entry.index));
            }
            self.bytes += cost(entry);
            self.entries.push_back(entry.clone());
        }
        self.next = expected;
        self.evict();
        Ok(())
    }

    /// Drops the entries behind `index`. Says whether there are any.
    pub(super) fn truncate_after(&mut self, index: LogIndex) -> Result<bool, LogError> {
        let keep_to = index.next();
        if self.next.is_none_or(|next| keep_to >= next) {
            return Ok(false);
        }
        if keep_to < self.first {
            let first = self.first;
            return Err(LogError::BelowStart { index, first });
        }
        while self.entries.back().is_some_and(|it| it.index > index) {
            self.bytes -= self.entries.pop_back().as_ref().map_or(0, cost);
        }
        self.runs.retain(|(_, first)| *first <= index);
        self.next = Some(keep_to);
        self.written = self.written.min(keep_to);
        self.line += 1;
        Ok(true)
    }

    /// Lets go of the entries up to `index`. Says whether that is any news.
    pub(super) fn purge(&mut self, term: Term, index: LogIndex) -> bool {
        let first = index.next();
        // A log that begins with its first entry may be told of which term its beginning is.
        if first < self.first || (first == self.first && self.floor.is_some()) {
            return false;
        }
        self.floor = Some((term, index));
        self.first = first;
        match self.next {
            Some(next) if first <= next => {
                while self.entries.front().is_some_and(|it| it.index < first) {
                    self.bytes -= self.entries.pop_front().as_ref().map_or(0, cost);
                }
                let begun = self.runs.partition_point(|(_, begin)| *begin <= first);
                self.runs.drain(..begun.saturating_sub(1));
                if first == next {
                    self.runs.clear();
                } else if let Some((_, begin)) = self.runs.first_mut() {
                    *begin = first.max(*begin);
                }
            }
            _ => {
                self.entries.clear();
                self.bytes = 0;
                self.runs.clear();
                self.next = Some(first);
                self.written = first;
                self.line += 1;
            }
        }
        true
    }

    /// What a cut before `index` purges; `None` if that is nothing.
    pub(super) fn floor_of_cut(&self, index: LogIndex) -> Option<(Term, LogIndex)> {
        self.next?;
        let before = LogIndex(index.0.checked_sub(1)?);
        if index <= self.first {
            return None;
        }
        let known = self.term_of(before).or(self.last().map(|it| it.0));
        Some((known.unwrap_or(FIRST_TERM), before))
    }

    /// Notes what is committed. Gives it back if that is news and true of this log.
    pub(super) fn note_committed(
        &mut self,
        term: Term,
        index: LogIndex,
    ) -> Option<(Term, LogIndex)> {
        let is_news = self.committed.is_none_or(|it| it.1 < index);
        if !is_news || self.term_of(index) != Some(term) {
            return None;
        }
        self.committed = Some((term, index));
        self.committed
    }

    /// The log thread has put into files what is below `next`, as it was on `line`.
    pub(super) fn wrote(&mut self, line: u64, next: LogIndex) {
        if line == self.line {
            self.written = next;
            self.evict();
        }
    }

    /// Takes in nothing more: it would stay in memory for good.
    pub(super) fn stop(&mut self, why: LogError) {
        self.stopped = Some(why);
    }

    /// Why nothing more is taken in, once that is so.
    pub(super) fn stopped(&self) -> Option<&LogError> {
        self.stopped.as_ref()
    }

    /// The entries of a range, as far as they are in memory and `bytes_max` allows.
    pub(super) fn parts(&self, range: &Range<LogIndex>, bytes_max: u64) -> Result<Parts, LogError> {
        let mut parts = Parts {
            in_files: None,
            in_memory: Vec::new(),
        };
        let Some(next) = self.next else {
            return Ok(parts);
        };
        let end = range.end.min(next);
        if range.start >= end {
            return Ok(parts);
        }
        if range.start < self.first {
            return Err(LogError::BelowStart {
                index: range.start,
                first: self.first,
            });
        }
        let in_memory_from = LogIndex(next.0 - self.entries.len() as u64);
        if range.start < in_memory_from {
            parts.in_files = Some(range.start..end.min(in_memory_from));
        }
        let start = range.start.max(in_memory_from);
        if start < end {
            let skipped = (start.0 - in_memory_from.0) as usize;
            let count = (end.0 - start.0) as usize;
            let mut room = Room::new(bytes_max);
            let wanted = self.entries.range(skipped..skipped + count);
            let taken = wanted.take_while(|it| room.takes(it));
            parts.in_memory = taken.cloned().collect();
        }
        Ok(parts)
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max
            && self
                .entries
                .front()
                .is_some_and(|it| it.index < self.written)
        {
            self.bytes -= self.entries.pop_front().as_ref().map_or(0, cost);
        }
    }
}

/// The only term there was before logs had floors.
const FIRST_TERM: Term = Term(1);

/// The floor of a log that has none and whose first entry is this one: what is missing was cut by
/// a version without floors, or never was.
pub(super) fn floor_before(first: LogIndex) -> Option<(Term, LogIndex)> {
    (first.0 > 1).then(|| (FIRST_TERM, LogIndex(first.0 - 1)))
}

fn cost(entry: &LogEntry) -> u64 {
    entry.payload.len() as u64 + ENTRY_BYTES
}

/// How much a read may still return; the first entry always.
pub(super) struct Room {
    left: u64,
    is_first: bool,
}

impl Room {
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            left: bytes_max,
            is_first: true,
        }
    }

    pub(super) fn takes(&mut self, entry: &LogEntry) -> bool {
        let bytes = entry.payload.len() as u64;
        if bytes > self.left && !self.is_first {
            self.left = 0;
            return false;
        }
        self.is_first = false;
        self.left = self.left.saturating_sub(bytes);
        true
    }
}
