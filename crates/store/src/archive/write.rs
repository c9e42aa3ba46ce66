//! From a checkpoint to a stream.

use std::io::{self, Write};

use super::format::{RecordHead, RecordKind, REASON_BYTES_MAX};
use super::{ArchiveError, ArchiveHeader, PIECE_BYTES_MAX};
use crate::checkpoint::Checkpoint;
use crate::error::{with_causes, StoreError};

/// Compression has to save this part of a piece to be worth undoing.
const SAVED_PART: usize = 32;
/// The level of compression.
const LEVEL: i32 = 3;

/// Counts and sums up what goes out.
struct Sum<'a, W> {
    out: &'a mut W,
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl<W: Write> Sum<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.crc.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Writes an archive of a checkpoint: what `header` says is stored. If a file cannot be read, or
/// is not what it was, the archive says that it was broken off.
pub fn write_archive(
    checkpoint: &Checkpoint,
    header: &ArchiveHeader,
    out: &mut impl Write,
) -> Result<(), ArchiveError> {
    let mut sum = Sum {
        out,
        bytes: 0,
        crc: crc32fast::Hasher::new(),
    };
    sum.put(&header.encode()?)?;
    let mut raw_bytes = 0;
    for number in &header.stored {
        match write_file(checkpoint, *number, &mut sum) {
            Ok(bytes) => raw_bytes += bytes,
            Err(ArchiveError::Io(error)) => return Err(error.into()),
            Err(error) => {
                // Whoever reads it is told, if the stream goes on.
                let _ = break_off(&mut sum, &error);
                return Err(error);
            }
        }
    }
    let mut end = u64::to_le_bytes(raw_bytes).to_vec();
    end.extend(sum.bytes.to_le_bytes());
    end.extend(sum.crc.clone().finalize().to_le_bytes());
    let head = RecordHead {
        kind: RecordKind::End,
        file: header.stored.len() as u32,
        raw_bytes: 0,
        stored_bytes: end.len() as u32,
    };
    sum.put(&head.record(&end))?;
    Ok(sum.out.flush()?)
}

fn write_file(
    checkpoint: &Checkpoint,
    number: u32,
    sum: &mut Sum<'_, impl Write>,
) -> Result<u64, ArchiveError> {
    let listed = &checkpoint.files()[number as usize];
    let file = checkpoint.open_file(&listed.name)?;
    let path = checkpoint.dir().join(&listed.name);
    let mut crc = crc32fast::Hasher::new();
    let mut offset = 0;
    let mut piece = vec![0; PIECE_BYTES_MAX.min(listed.bytes as usize)];
    while offset < listed.bytes {
        let rest = (listed.bytes - offset).min(PIECE_BYTES_MAX as u64) as usize;
        let piece = &mut piece[..rest];
        file.read_exact_at(piece, offset)
            .map_err(|e| StoreError::io("read", &path, e))?;
        crc.update(piece);
        let is_last = offset + rest as u64 == listed.bytes;
        if is_last && crc.clone().finalize() != listed.crc32 {
            return Err(ArchiveError::Store(StoreError::Damaged {
                path,
                offset: 0,
                reason: "its checksum is not the one that it was written with".into(),
            }));
        }
        sum.put(&record(number, piece)?)?;
        offset += rest as u64;
    }
    Ok(offset)
}

/// A piece as a record, compressed if that saves enough.
fn record(file: u32, piece: &[u8]) -> io::Result<Vec<u8>> {
    let compressed = zstd::bulk::compress(piece, LEVEL)?;
    let saves = compressed.len() + piece.len() / SAVED_PART < piece.len();
    let (kind, stored) = match saves {
        true => (RecordKind::Zstd, &compressed[..]),
        false => (RecordKind::Raw, piece),
    };
    let head = RecordHead {
        kind,
        file,
        raw_bytes: piece.len() as u32,
        stored_bytes: stored.len() as u32,
    };
    Ok(head.record(stored))
}

fn break_off(sum: &mut Sum<'_, impl Write>, error: &ArchiveError) -> io::Result<()> {
    let reason = with_causes(error);
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    let head = RecordHead {
        kind: RecordKind::BrokenOff,
        file: 0,
        raw_bytes: 0,
        stored_bytes: reason.len() as u32,
    };
    sum.put(&head.record(reason.as_bytes()))?;
    sum.out.flush()
}
