//! Walks the records of one file from an offset to the first one that does not check.
//!
//! Owns the read buffer and the checks of checksum, bounds and index order. Refuses to
//! judge why a record does not check: recovery and readers know that.

use std::io;
use std::sync::Arc;

use chronos_env::DiskFile;

use super::format::{salted_crc, RecordHeader, DATA_START, RECORD_HEADER_BYTES};
use super::LogIndex;

const READ_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Cursor {
    file: Arc<dyn DiskFile>,
    salt: u32,
    /// Start of the next record.
    offset: u64,
    /// No record reaches beyond this.
    end: u64,
    expected: LogIndex,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first byte.
    buffer_start: u64,
    payload: std::ops::Range<usize>,
}

/// What stands at the cursor.
#[derive(Debug)]
pub(super) enum Step {
    /// A record; [`Cursor::payload`] has its payload until the next step.
    Record { offset: u64, header: RecordHeader },
    /// No valid record that continues the log: the end, or damage.
    Stop { reason: &'static str },
}

impl Cursor {
    /// A cursor at the record with index `expected`, which starts at `offset`.
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        salt: u32,
        offset: u64,
        end: u64,
        expected: LogIndex,
    ) -> Self {
        debug_assert!(offset >= DATA_START);
        Self {
            file,
            salt,
            offset,
            end,
            expected,
            buffer: Vec::new(),
            buffer_start: offset,
            payload: 0..0,
        }
    }

    /// Start of the next record, or of what is no record.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The index that the next record has to have.
    pub(super) fn expected(&self) -> LogIndex {
        self.expected
    }

    /// The payload of the record that the last step returned.
    pub(super) fn payload(&self) -> &[u8] {
        &self.buffer[self.payload.clone()]
    }

    pub(super) fn step(&mut self) -> io::Result<Step> {
        let Some(at) = self.load(RECORD_HEADER_BYTES as u64)? else {
            return Ok(Step::Stop {
                reason: "the file ends before the next record",
            });
        };
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes.copy_from_slice(&self.buffer[at..at + RECORD_HEADER_BYTES]);
        let Some(header) = RecordHeader::decode(&bytes, self.salt) else {
            return Ok(Step::Stop {
                reason: "the checksum of the record's header does not match",
            });
        };
        let Some(at) = self.load(header.record_bytes())? else {
            return Ok(Step::Stop {
                reason: "the file ends within the record",
            });
        };
        let start = at + RECORD_HEADER_BYTES;
        let payload = start..start + header.payload_bytes as usize;
        if salted_crc(self.salt, &self.buffer[payload.clone()]) != header.payload_crc {
            return Ok(Step::Stop {
                reason: "the checksum of the record's payload does not match",
            });
        }
        if header.index != self.expected {
            return Ok(Step::Stop {
                reason: "the record's index does not continue the log",
            });
        }
        let offset = self.offset;
        self.payload = payload;
        self.offset += header.record_bytes();
        self.expected = header.index.next();
        Ok(Step::Record { offset, header })
    }

    /// Makes `count` bytes at the cursor available and says where in the buffer they
    /// start; `None` if they would reach beyond the end.
    fn load(&mut self, count: u64) -> io::Result<Option<usize>> {
        let Some(wanted_end) = self.offset.checked_add(count).filter(|it| *it <= self.end) else {
            return Ok(None);
        };
        let buffered_end = self.buffer_start + self.buffer.len() as u64;
        if wanted_end > buffered_end {
            let unused = (self.offset - self.buffer_start) as usize;
            self.buffer.drain(..unused.min(self.buffer.len()));
            self.buffer_start = self.offset;
            let read_end = wanted_end
                .max(self.offset.saturating_add(READ_BYTES as u64))
                .min(self.end);
            let kept = self.buffer.len();
            self.buffer.resize((read_end - self.offset) as usize, 0);
            let read_from = self.offset + kept as u64;
            if let Err(error) = self.file.read_exact_at(&mut self.buffer[kept..], read_from) {
                self.buffer.truncate(kept);
                return Err(error);
            }
            if self.buffer.capacity() > 2 * READ_BYTES && self.buffer.len() <= READ_BYTES {
                self.buffer.shrink_to(READ_BYTES);
            }
        }
        Ok(Some((self.offset - self.buffer_start) as usize))
    }
}
