//! Which files the log has and which indexes each of them holds.
//!
//! Written by recovery and the log thread, read by [`LogReader`](super::LogReader). The
//! files are in order; each holds `first_index..next_index`, and the next file starts
//! where this one's indexes end.

use std::path::PathBuf;
use std::sync::Arc;

use chronos_env::DiskFile;
use parking_lot::Mutex;

use super::cursor::Cursor;
use super::format::DATA_START;
use super::{LogError, LogIndex};

/// A position is remembered about every so many bytes, so that a reader need not walk a
/// file from its start.
const MARK_BYTES: u64 = 64 * 1024;

/// One file of the log.
#[derive(Clone, Debug)]
pub(super) struct LogFile {
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    pub salt: u32,
    pub first_index: LogIndex,
    /// One past the last index that counts. Records from here on are void.
    pub next_index: LogIndex,
    /// Where the last record ends.
    pub end: u64,
    /// Some records' positions, ascending.
    pub marks: Vec<(LogIndex, u64)>,
}

impl LogFile {
    pub(super) fn note(&mut self, index: LogIndex, offset: u64) {
        let last = self.marks.last().map_or(DATA_START, |(_, offset)| *offset);
        if offset >= last + MARK_BYTES {
            self.marks.push((index, offset));
        }
    }

    /// Voids the records from `next_index` on.
    pub(super) fn void_from(&mut self, next_index: LogIndex) {
        self.next_index = self.next_index.min(next_index);
        self.marks.retain(|(index, _)| *index < next_index);
    }

    /// A cursor at `index` or at most [`MARK_BYTES`] before it.
    pub(super) fn cursor_near(&self, index: LogIndex) -> Cursor {
        let passed = self.marks.partition_point(|(marked, _)| *marked <= index);
        let (expected, offset) = match passed {
            0 => (self.first_index, DATA_START),
            passed => self.marks[passed - 1],
        };
        Cursor::new(self.file.clone(), self.salt, offset, self.end, expected)
    }
}

/// The log's files, oldest first.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub files: Mutex<Vec<LogFile>>,
}

impl Layout {
    /// How many files there are, and how many of their bytes are written.
    pub(super) fn size(&self) -> (u64, u64) {
        let files = self.files.lock();
        (files.len() as u64, files.iter().map(|it| it.end).sum())
    }

    /// The first and last stored index; `None` if nothing is stored.
    pub(super) fn bounds(&self) -> Option<(LogIndex, LogIndex)> {
        let files = self.files.lock();
        let first = files.first()?.first_index;
        let next = files.last()?.next_index;
        (first < next).then(|| (first, LogIndex(next.0 - 1)))
    }

    pub(super) fn next_index(&self) -> Option<LogIndex> {
        self.files.lock().last().map(|it| it.next_index)
    }

    /// The files that hold `from` or anything after it.
    pub(super) fn files_from(&self, from: LogIndex) -> Result<Vec<LogFile>, LogError> {
        let files = self.files.lock();
        let Some(first) = files.first().map(|it| it.first_index) else {
            return Ok(Vec::new());
        };
        if from < first {
            return Err(LogError::BelowStart { index: from, first });
        }
        Ok(files
            .iter()
            .filter(|it| from < it.next_index)
            .cloned()
            .collect())
    }
}
