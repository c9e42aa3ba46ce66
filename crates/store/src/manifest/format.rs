//! Bytes of the manifest. See `docs/format/manifest.md`.

use std::path::Path;

use super::{Edit, ManifestState};
use crate::error::StoreError;

const MAGIC: [u8; 8] = *b"CHRONMAN";
/// Version 2 added runs of history, which an older reader would take for current; version 4
/// terms and the membership, without which it would vote and replicate wrongly.
const VERSION: u32 = 4;
const VERSION_MIN: u32 = 1;
const HEADER_BYTES: usize = 16;
/// Length and checksum before a record's payload.
const RECORD_HEADER_BYTES: usize = 8;

pub(super) fn header() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// Appends an edit as a record.
pub(super) fn append(out: &mut Vec<u8>, edit: &Edit, path: &Path) -> Result<(), StoreError> {
    let payload = serde_json::to_vec(edit)
        .map_err(|e| damaged(path, 0, format!("an edit cannot be written: {e}")))?;
    let length = u32::try_from(payload.len())
        .map_err(|_| damaged(path, 0, "an edit is longer than 4 GiB".into()))?;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(length, &payload).to_le_bytes());
    out.extend_from_slice(&payload);
    Ok(())
}

fn checksum(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

fn damaged(path: &Path, offset: usize, reason: String) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        offset: offset as u64,
        reason,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The payload of the record at an offset, if it is whole.
fn record(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = u32_at(bytes, at)?;
    let crc = u32_at(bytes, at + 4)?;
    let start = at + RECORD_HEADER_BYTES;
    let payload = bytes.get(start..start.checked_add(length as usize)?)?;
    (length > 0 && checksum(length, payload) == crc).then_some(payload)
}

/// The state that a manifest's checkpoint and edits add up to. A record at the end that
/// is not whole was never acknowledged and does not count; one before it is damage.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<ManifestState, StoreError> {
    let header_crc = bytes.get(..12).map(crc32fast::hash);
    if !bytes.starts_with(&MAGIC) || u32_at(bytes, 12) != header_crc {
        return Err(damaged(path, 0, "this is no header of a manifest".into()));
    }
    let version = u32_at(bytes, 8).unwrap_or(0);
    if !(VERSION_MIN..=VERSION).contains(&version) {
        return Err(StoreError::Format {
            path: path.to_owned(),
            found: version,
            known: VERSION,
        });
    }
    let mut state: Option<ManifestState> = None;
    let mut at = HEADER_BYTES;
    while at < bytes.len() {
        let Some(payload) = record(bytes, at) else {
            let whole_after = (at + 1..bytes.len()).any(|at| record(bytes, at).is_some());
            if state.is_none() || whole_after {
                return Err(damaged(path, at, "a record's checksum does not fit".into()));
            }
            break;
        };
        let edit: Edit = serde_json::from_slice(payload)
            .map_err(|e| damaged(path, at, format!("a record does not read: {e}")))?;
        match (&mut state, edit) {
            (None, Edit::Checkpoint(checkpoint)) => state = Some(checkpoint),
            (Some(state), edit @ (Edit::Flush(_) | Edit::Compact(_))) => {
                state.apply(edit);
            }
            _ => {
                let reason = "a checkpoint is not where it belongs";
                return Err(damaged(path, at, reason.into()));
            }
        }
        at += RECORD_HEADER_BYTES + payload.len();
    }
    state.ok_or_else(|| damaged(path, HEADER_BYTES, "there is no checkpoint".into()))
}
