//! Reads entries back, for replay at start and for followers that lag.
//!
//! A reader sees the log as it was when the reader was made: entries appended later are
//! not in it, and files that are cut or recycled meanwhile stay readable.

use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::path::PathBuf;

use bytes::Bytes;

use super::cursor::{Cursor, Step};
use super::layout::LogFile;
use super::{LogEntry, LogError, LogIndex};

/// Yields entries in the order of their indexes, and ends after the first error.
#[derive(Debug)]
pub struct LogReader {
    from: LogIndex,
    files: VecDeque<LogFile>,
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    cursor: Cursor,
    path: PathBuf,
    next_index: LogIndex,
}

impl LogReader {
    pub(super) fn new(from: LogIndex, files: Vec<LogFile>) -> Self {
        Self {
            from,
            files: files.into(),
            current: None,
        }
    }

    fn try_next(&mut self) -> Result<Option<LogEntry>, LogError> {
        loop {
            let current = match &mut self.current {
                Some(current) if current.cursor.expected() < current.next_index => current,
                _ => match self.files.pop_front() {
                    None => return Ok(None),
                    Some(file) => {
                        self.current = Some(Current {
                            cursor: file.cursor_near(self.from),
                            path: file.path,
                            next_index: file.next_index,
                        });
                        continue;
                    }
                },
            };
            let step = current.cursor.step();
            match step.map_err(LogError::io("read", &current.path))? {
                Step::Record { header, .. } if header.index < self.from => {}
                Step::Record { header, .. } => {
                    return Ok(Some(LogEntry {
                        group: header.group,
                        term: header.term,
                        index: header.index,
                        payload: Bytes::copy_from_slice(current.cursor.payload()),
                    }));
                }
                Step::Stop { reason } => {
                    let offset = current.cursor.offset();
                    return Err(LogError::damaged(&current.path, offset, reason));
                }
            }
        }
    }
}

impl Iterator for LogReader {
    type Item = Result<LogEntry, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.try_next().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.files.clear();
            self.current = None;
        }
        next
    }
}

impl FusedIterator for LogReader {}
