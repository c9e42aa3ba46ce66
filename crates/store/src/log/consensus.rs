//! What a member of a consensus group asks of its log beyond appending and reading: entries
//! that are not written yet, terms, truncation and purging, the vote, and what is committed.

use std::ops::Range;

use super::queue::{Command, Done};
use super::reader::LogReader;
use super::recent::{Recent, Room};
use super::{HardVote, Log, LogEntry, LogError, LogIndex, Term};

impl Log {
    /// The entries of a range, as far as there are such: the first one always, further ones
    /// while all payloads together take at most `bytes_max`. Those that are queued are seen,
    /// and those that a queued truncation drops are not. The last ones come from memory, their
    /// payloads shared; others are read from files, all as of one moment.
    ///
    /// # Errors
    /// [`LogError::BelowStart`] if the range begins with an entry that was purged;
    /// [`LogError::Damaged`], or that a file cannot be read.
    pub fn entries(
        &self,
        range: Range<LogIndex>,
        bytes_max: u64,
    ) -> Result<Vec<LogEntry>, LogError> {
        let (parts, files) = {
            let recent = self.shared.recent.lock();
            let parts = recent.parts(&range, bytes_max)?;
            let files = match &parts.in_files {
                Some(older) => self.shared.layout.files_from(older.start)?,
                None => Vec::new(),
            };
            (parts, files)
        };
        let Some(older) = parts.in_files else {
            return Ok(parts.in_memory);
        };
        let mut room = Room::new(bytes_max);
        let mut entries = Vec::new();
        let count = older.end.0 - older.start.0;
        for entry in LogReader::new(older.start, files).take(count as usize) {
            let entry = entry?;
            if !room.takes(&entry) {
                return Ok(entries);
            }
            entries.push(entry);
        }
        assert_eq!(
            entries.len() as u64,
            count,
            "files end before what is in memory"
        );
        entries.extend(parts.in_memory.into_iter().take_while(|it| room.takes(it)));
        Ok(entries)
    }

    /// Why no more entries are taken in, once that is so: the log has failed or is closed. What is
    /// appended from then on, [`Log::entries`] does not have.
    pub fn stopped(&self) -> Option<LogError> {
        let failed = self.shared.recent.lock().stopped().cloned();
        failed.or_else(|| self.shared.queue.closed())
    }

    /// The term of an entry, queued or written, or of the last one that was purged.
    pub fn term_of(&self, index: LogIndex) -> Option<Term> {
        self.shared.recent.lock().term_of(index)
    }

    /// The first entry of each stretch of one term, queued ones included, ascending. It begins
    /// with the first entry that is not purged; empty if there is none.
    pub fn term_starts(&self) -> Vec<(Term, LogIndex)> {
        self.shared.recent.lock().runs().to_vec()
    }

    /// The last entry, queued or written; without any, the last one that was purged.
    pub fn last(&self) -> Option<(Term, LogIndex)> {
        self.shared.recent.lock().last()
    }

    /// Drops the entries behind `index`, durably, after everything queued before. The
    /// next append has to be `index + 1`. Does nothing if `index` is the last entry or
    /// lies behind it. Waits; not for use on the log thread.
    ///
    /// # Errors
    /// [`LogError::BelowStart`] if `index + 1` was purged.
    pub fn truncate_after(&self, index: LogIndex) -> Result<(), LogError> {
        self.wait_for(truncation(index))
    }

    /// Like [`Log::truncate_after`], but returns at once. The entries are gone for readers when
    /// it returns, and for good when `done` is called, as by [`Log::append`].
    pub fn truncate_after_then(
        &self,
        index: LogIndex,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) {
        self.submit(Box::new(done), truncation(index));
    }

    /// Lets go of the entries up to `index`, inclusive, whose term is `term`, after everything
    /// queued before: they cannot be read any more, and files that hold nothing else are
    /// removed. If `index` lies behind the last entry (a checkpoint took the place of what is
    /// missing), all entries are dropped, and the next append has to be `index + 1`. Does
    /// nothing if that much was purged before. Waits; not for use on the log thread.
    pub fn purge(&self, term: Term, index: LogIndex) -> Result<(), LogError> {
        self.wait_for(purge(term, index))
    }

    /// Like [`Log::purge`], but returns at once. The entries are gone for readers when it
    /// returns, and for good when `done` is called, as by [`Log::append`].
    pub fn purge_then(
        &self,
        term: Term,
        index: LogIndex,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) {
        self.submit(Box::new(done), purge(term, index));
    }

    /// Purges what lies before `index`, with the term that is known here: that of the entry,
    /// or of the last one if `index` lies behind a gap. Does nothing if nothing was ever
    /// written. Waits; not for use on the log thread.
    pub fn cut_before(&self, index: LogIndex) -> Result<(), LogError> {
        self.wait_for(|recent, done| match recent.floor_of_cut(index) {
            Some((term, index)) => purge(term, index)(recent, done),
            None => Command::Answer {
                result: Ok(()),
                done,
            },
        })
    }

    /// The last entry that was purged. Entries up to it are not there to be read.
    pub fn purged(&self) -> Option<(Term, LogIndex)> {
        self.shared.recent.lock().floor()
    }

    /// Saves a vote, after everything queued before. `done` runs as for [`Log::append`], when
    /// the vote and all entries before it are durable, whatever the durability.
    pub fn save_vote(
        &self,
        vote: HardVote,
        done: impl FnOnce(Result<(), LogError>) + Send + 'static,
    ) {
        self.submit(Box::new(done), |_, done| Command::Vote { vote, done });
    }

    /// The last vote that is durable.
    pub fn vote(&self) -> Option<HardVote> {
        *self.shared.vote.lock()
    }

    /// Keeps in mind that the entry of this term and index is committed. Written with the next
    /// batch and not synced, so a start may find an earlier position, but never one that was
    /// not committed. Ignored if it is no news, or not about an entry of this log.
    pub fn note_committed(&self, term: Term, index: LogIndex) {
        let mut recent = self.shared.recent.lock();
        if let Some(position) = recent.note_committed(term, index) {
            self.shared.queue.note_committed(position);
        }
    }

    /// The last entry that was noted as committed, now or before the log was opened. Never
    /// behind [`Log::last`].
    pub fn committed(&self) -> Option<(Term, LogIndex)> {
        self.shared.recent.lock().committed()
    }

    /// With [`Driver::Stepped`](super::Driver::Stepped): does what is queued and calls back, on
    /// this thread, and says whether there was anything to do. Does nothing if a thread does it,
    /// or within a callback.
    pub fn step(&self) -> bool {
        self.engine.step()
    }
}

fn truncation(index: LogIndex) -> impl FnOnce(&mut Recent, Done) -> Command {
    move |recent, done| match recent.truncate_after(index) {
        Ok(true) => Command::Truncate {
            index,
            line: recent.line(),
            done,
        },
        unchanged => Command::Answer {
            result: unchanged.map(|_| ()),
            done,
        },
    }
}

fn purge(term: Term, index: LogIndex) -> impl FnOnce(&mut Recent, Done) -> Command {
    move |recent, done| match recent.purge(term, index) {
        true => Command::Purge {
            floor: (term, index),
            line: recent.line(),
            done,
        },
        false => Command::Answer {
            result: Ok(()),
            done,
        },
    }
}
