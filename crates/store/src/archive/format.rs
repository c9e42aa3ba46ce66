//! Bytes of an archive. See `docs/format/snapshot.md`.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{ArchiveError, PIECE_BYTES_MAX};
use crate::checkpoint::{CheckpointFile, CheckpointList};

pub(super) const MAGIC: [u8; 8] = *b"CHRONARC";
pub(super) const VERSION: u32 = 1;
pub(super) const HEAD_BYTES: usize = 20;
pub(super) const RECORD_BYTES: usize = 20;
pub(super) const END_BYTES: usize = 20;
/// Bytes of a header's content beyond which it is not one of ours.
pub(super) const CONTENT_BYTES_MAX: usize = 128 << 20;
/// Of the reason for which an archive was broken off.
pub(super) const REASON_BYTES_MAX: usize = 4096;

/// What an archive is, and what it contains.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchiveHeader {
    /// What it is known by: 32 hexadecimal digits.
    pub id: String,
    /// The archive that has the files that are not here; `None`: it is full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// When it was made, in microseconds since the epoch.
    pub created_micros: i64,
    /// All files of the checkpoint, and its place in the log.
    pub list: CheckpointList,
    /// The files that are here: their places in the list, ascending.
    pub stored: Vec<u32>,
}

impl ArchiveHeader {
    /// Of an archive of a checkpoint that leaves out files that a base has.
    pub fn new(
        id: u128,
        base: Option<&ArchiveBase>,
        created_micros: i64,
        list: CheckpointList,
    ) -> ArchiveHeader {
        let is_here = |(number, file): &(usize, &CheckpointFile)| {
            let known = base.is_some_and(|base| base.has.contains(&key_of(file)));
            // The manifest is always here: with it an archive can be looked at alone.
            *number == 0 || !known
        };
        let files = list.files().iter().enumerate().filter(is_here);
        let stored = files.map(|(number, _)| number as u32).collect();
        ArchiveHeader {
            id: format!("{id:032x}"),
            base: base.map(|base| base.id.clone()),
            created_micros,
            stored,
            list,
        }
    }

    /// This archive as the base of another.
    pub fn as_base(&self) -> ArchiveBase {
        let files = self.list.files().iter();
        ArchiveBase {
            id: self.id.clone(),
            has: files.map(key_of).collect(),
        }
    }

    /// Bytes of the files that are here.
    pub fn stored_bytes(&self) -> u64 {
        let files = self
            .stored
            .iter()
            .map(|n| self.list.files()[*n as usize].bytes);
        files.fold(0, u64::saturating_add)
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, ArchiveError> {
        let content = serde_json::to_vec(self).map_err(|e| ArchiveError::Chain {
            reason: format!("a header cannot be written: {e}"),
        })?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((content.len() as u32).to_le_bytes());
        let crc = crc32fast::hash(&[&bytes, &content[..]].concat());
        bytes.extend(crc.to_le_bytes());
        bytes.extend(content);
        Ok(bytes)
    }

    /// Errors say what is wrong with a header's content.
    pub(super) fn decode(content: &[u8]) -> Result<ArchiveHeader, String> {
        let header: ArchiveHeader = serde_json::from_slice(content)
            .map_err(|e| format!("the header does not read: {e}"))?;
        header.list.check_names()?;
        let files = header.list.files().len();
        let rises = header.stored.windows(2).all(|two| two[0] < two[1]);
        let is_there = header.stored.iter().all(|n| (*n as usize) < files);
        let has_manifest = header.stored.first() == Some(&0);
        match rises && is_there && has_manifest {
            true => Ok(header),
            false => Err("the header does not say which files are here".into()),
        }
    }
}

/// What an archive that is the base of another has, itself or through its own bases.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ArchiveBase {
    /// Its id.
    pub id: String,
    /// Name, length and CRC-32 of each file.
    pub has: BTreeSet<(String, u64, u32)>,
}

/// By what a file is known: name, length, CRC-32. Names of segments are never given again.
pub(super) type FileKey = (String, u64, u32);

pub(super) fn key_of(file: &CheckpointFile) -> FileKey {
    (file.name.clone(), file.bytes, file.crc32)
}

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RecordKind {
    /// A piece of a file.
    Raw,
    /// One that is compressed.
    Zstd,
    /// The end of the archive.
    End,
    /// Why there is no more.
    BrokenOff,
}

/// The front of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RecordHead {
    pub(super) kind: RecordKind,
    pub(super) file: u32,
    pub(super) raw_bytes: u32,
    pub(super) stored_bytes: u32,
}

impl RecordHead {
    /// A record, complete.
    pub(super) fn record(self, stored: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD_BYTES + stored.len());
        bytes.push(match self.kind {
            RecordKind::Raw => 1,
            RecordKind::Zstd => 2,
            RecordKind::End => 3,
            RecordKind::BrokenOff => 4,
        });
        bytes.extend([0; 3]);
        bytes.extend(self.file.to_le_bytes());
        bytes.extend(self.raw_bytes.to_le_bytes());
        bytes.extend(self.stored_bytes.to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes);
        crc.update(stored);
        bytes.extend(crc.finalize().to_le_bytes());
        bytes.extend(stored);
        bytes
    }

    /// Reads the front of a record and the checksum that it must have.
    pub(super) fn decode(bytes: &[u8; RECORD_BYTES]) -> Result<(RecordHead, u32), String> {
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let kind = match bytes[..4] {
            [1, 0, 0, 0] => RecordKind::Raw,
            [2, 0, 0, 0] => RecordKind::Zstd,
            [3, 0, 0, 0] => RecordKind::End,
            [4, 0, 0, 0] => RecordKind::BrokenOff,
            _ => return Err("this is no record".into()),
        };
        let head = RecordHead {
            kind,
            file: number(4),
            raw_bytes: number(8),
            stored_bytes: number(12),
        };
        let (raw, stored) = (head.raw_bytes as usize, head.stored_bytes as usize);
        let fits = match kind {
            RecordKind::Raw => raw == stored && raw > 0 && raw <= PIECE_BYTES_MAX,
            RecordKind::Zstd => stored < raw && raw <= PIECE_BYTES_MAX,
            RecordKind::End => stored == END_BYTES,
            RecordKind::BrokenOff => stored <= REASON_BYTES_MAX,
        };
        match fits {
            true => Ok((head, number(16))),
            false => Err("a record's lengths do not fit".into()),
        }
    }
}
