//! From a stream to pieces of files: every record, every file and the whole are checked.

use std::io::{self, Read};

use super::format::{
    RecordHead, RecordKind, CONTENT_BYTES_MAX, END_BYTES, HEAD_BYTES, MAGIC, RECORD_BYTES, VERSION,
};
use super::{ArchiveError, ArchiveHeader};

/// Reads an archive from front to back.
#[derive(Debug)]
pub struct ArchiveReader<R> {
    from: R,
    header: ArchiveHeader,
    /// Bytes read, and their checksum.
    offset: u64,
    crc: crc32fast::Hasher,
    /// Files that are complete.
    complete: usize,
    /// Of the next one: bytes so far, and their checksum.
    file_bytes: u64,
    file_crc: crc32fast::Hasher,
    raw_bytes: u64,
    ended: bool,
}

/// A piece of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The file's place in the list.
    pub file: u32,
    /// Where in it the piece is.
    pub offset: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the header.
    pub fn open(mut from: R) -> Result<ArchiveReader<R>, ArchiveError> {
        let damaged = |reason: &str| ArchiveError::Damaged {
            offset: 0,
            reason: reason.to_owned(),
        };
        let mut head = [0; HEAD_BYTES];
        fill(&mut from, &mut head, 0)?;
        let number =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if head[..8] != MAGIC {
            return Err(damaged("this is no archive"));
        }
        let found = number(8);
        if !(1..=VERSION).contains(&found) {
            return Err(ArchiveError::Format {
                found,
                known: VERSION,
            });
        }
        let length = number(12) as usize;
        if length > CONTENT_BYTES_MAX {
            return Err(damaged("its header is longer than any"));
        }
        // Not as long as it says before that much is there.
        let mut content = Vec::new();
        (&mut from).take(length as u64).read_to_end(&mut content)?;
        let offset = (HEAD_BYTES + content.len()) as u64;
        if content.len() < length {
            return Err(ArchiveError::Truncated { offset });
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head[..16]);
        crc.update(&content);
        if crc.finalize() != number(16) {
            return Err(damaged("the header's checksum does not fit"));
        }
        let header = ArchiveHeader::decode(&content).map_err(|reason| damaged(&reason))?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head);
        crc.update(&content);
        Ok(ArchiveReader {
            from,
            header,
            offset,
            crc,
            complete: 0,
            file_bytes: 0,
            file_crc: crc32fast::Hasher::new(),
            raw_bytes: 0,
            ended: false,
        })
    }

    /// What the archive is.
    pub fn header(&self) -> &ArchiveHeader {
        &self.header
    }

    /// Bytes of the archive that were read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next piece; `None`: the archive is complete, and in order.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, ArchiveError> {
        if self.ended {
            return Ok(None);
        }
        let at = self.offset;
        let mut head = [0; RECORD_BYTES];
        fill(&mut self.from, &mut head, at)?;
        let damaged = |reason: String| ArchiveError::Damaged { offset: at, reason };
        let (record, crc) = RecordHead::decode(&head).map_err(damaged)?;
        let mut stored = vec![0; record.stored_bytes as usize];
        fill(&mut self.from, &mut stored, at + RECORD_BYTES as u64)?;
        let mut found = crc32fast::Hasher::new();
        found.update(&head[..16]);
        found.update(&stored);
        if found.finalize() != crc {
            return Err(damaged("a record's checksum does not fit".into()));
        }
        let bytes = match record.kind {
            RecordKind::BrokenOff => {
                return Err(ArchiveError::BrokenOff {
                    reason: String::from_utf8_lossy(&stored).into_owned(),
                })
            }
            RecordKind::End => {
                self.end(record, &stored).map_err(damaged)?;
                return Ok(None);
            }
            RecordKind::Raw => stored.clone(),
            RecordKind::Zstd => {
                let raw = zstd::bulk::decompress(&stored, record.raw_bytes as usize);
                raw.map_err(|e| damaged(format!("a piece does not decompress: {e}")))?
            }
        };
        self.crc.update(&head);
        self.crc.update(&stored);
        self.offset += (RECORD_BYTES + stored.len()) as u64;
        self.piece(record, bytes).map(Some).map_err(damaged)
    }

    /// Takes note of a piece: files come in order, whole, and as the list has them.
    fn piece(&mut self, record: RecordHead, bytes: Vec<u8>) -> Result<Piece, String> {
        let expected = self.header.stored.get(self.complete).copied();
        if bytes.len() != record.raw_bytes as usize || expected != Some(record.file) {
            return Err("a piece is not where it belongs".into());
        }
        let listed = &self.header.list.files()[record.file as usize];
        let offset = self.file_bytes;
        self.file_bytes += bytes.len() as u64;
        self.raw_bytes += bytes.len() as u64;
        self.file_crc.update(&bytes);
        if self.file_bytes > listed.bytes {
            return Err(format!("{} is longer than it was", listed.name));
        }
        if self.file_bytes == listed.bytes {
            let crc = std::mem::take(&mut self.file_crc).finalize();
            if crc != listed.crc32 {
                return Err(format!("the checksum of {} does not fit", listed.name));
            }
            self.complete += 1;
            self.file_bytes = 0;
        }
        Ok(Piece {
            file: record.file,
            offset,
            bytes,
        })
    }

    fn end(&mut self, record: RecordHead, stored: &[u8]) -> Result<(), String> {
        let mut end = u64::to_le_bytes(self.raw_bytes).to_vec();
        end.extend(self.offset.to_le_bytes());
        end.extend(self.crc.clone().finalize().to_le_bytes());
        let files = self.header.stored.len();
        if self.complete != files || record.file as usize != files || stored != end {
            return Err("its end does not fit what is before".into());
        }
        self.offset += (RECORD_BYTES + END_BYTES) as u64;
        match self.from.read(&mut [0]) {
            Ok(0) => {}
            Ok(_) => return Err("there is something behind its end".into()),
            Err(e) => return Err(format!("what is behind its end cannot be read: {e}")),
        }
        self.ended = true;
        Ok(())
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8], offset: u64) -> Result<(), ArchiveError> {
    from.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Truncated { offset },
        _ => error.into(),
    })
}
