//! What a checkpoint consists of, in memory and as bytes: what a receiver asks for first.

use std::path::Path;

use chronos_model::Stamp;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::log::{LogIndex, Term};
use crate::progress::Membership;

/// The file with the list.
pub(super) const LIST: &str = "CHECKPOINT";

const MAGIC: [u8; 8] = *b"CHRONCHK";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 20;
/// Bytes of a list beyond which it is not one of ours: 100 bytes for each of a million files.
const LIST_BYTES_MAX: usize = 128 << 20;

/// One file of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckpointFile {
    /// Its path in the checkpoint: a manifest, or `segments/` and a segment.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// CRC-32 of all its bytes.
    pub crc32: u32,
}

/// What a checkpoint contains.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckpointList {
    index: u64,
    term: u64,
    stamp: u64,
    membership: Option<Membership>,
    files: Vec<CheckpointFile>,
}

impl CheckpointList {
    pub(super) fn new(
        (term, index): (u64, u64),
        stamp: u64,
        membership: Option<Membership>,
        files: Vec<CheckpointFile>,
    ) -> CheckpointList {
        CheckpointList {
            index,
            term,
            stamp,
            membership,
            files,
        }
    }

    /// Term and index of the last log entry that is contained.
    pub fn applied(&self) -> (Term, LogIndex) {
        (Term(self.term), LogIndex(self.index))
    }

    /// The stamp of the last commit that is contained.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.stamp)
    }

    /// Who belongs to the cluster as of that entry, if that was ever noted.
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Its files: the manifest first, then the segments.
    pub fn files(&self) -> &[CheckpointFile] {
        &self.files
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        let bytes = self.files.iter().map(|file| file.bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// The list as a receiver is sent it.
    pub fn encode(&self) -> Result<Vec<u8>, StoreError> {
        let content = serde_json::to_vec(self).map_err(|e| StoreError::Checkpoint {
            reason: format!("its list cannot be written: {e}"),
        })?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((content.len() as u32).to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes);
        crc.update(&content);
        bytes.extend(crc.finalize().to_le_bytes());
        bytes.extend(content);
        Ok(bytes)
    }

    /// Reads a list. `path` is where it is from, for errors.
    ///
    /// Errors: it is damaged, of a newer version, or names files that no checkpoint has.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<CheckpointList, StoreError> {
        let damaged = |reason: &str| StoreError::Damaged {
            path: path.to_owned(),
            offset: 0,
            reason: reason.to_owned(),
        };
        if bytes.len() < HEADER_BYTES || bytes.len() > LIST_BYTES_MAX || bytes[..8] != MAGIC {
            return Err(damaged("this is no list of a checkpoint"));
        }
        let number = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let found = number(8);
        if !(1..=VERSION).contains(&found) {
            return Err(StoreError::Format {
                path: path.to_owned(),
                found,
                known: VERSION,
            });
        }
        let content = &bytes[HEADER_BYTES..];
        let mut crc = crc32fast::Hasher::new();
        crc.update(&bytes[..16]);
        crc.update(content);
        if number(12) as usize != content.len() || number(16) != crc.finalize() {
            return Err(damaged("the checksum of a checkpoint's list does not fit"));
        }
        let list: CheckpointList = serde_json::from_slice(content)
            .map_err(|e| damaged(&format!("a checkpoint's list does not read: {e}")))?;
        list.check_names().map_err(|reason| damaged(&reason))?;
        Ok(list)
    }

    /// Errors if it names files that no checkpoint has: it comes from elsewhere.
    pub(crate) fn check_names(&self) -> Result<(), String> {
        let mut names: Vec<&str> = self.files.iter().map(|file| &*file.name).collect();
        if let Some(name) = names.iter().find(|name| !is_name(name)) {
            return Err(format!("a checkpoint's list names the file {name:?}"));
        }
        names.sort_unstable();
        match names.windows(2).any(|two| two[0] == two[1]) {
            true => Err("a checkpoint's list names a file twice".into()),
            false => Ok(()),
        }
    }
}

/// Whether a checkpoint may have a file of this name, which comes from another node.
fn is_name(name: &str) -> bool {
    let is_number = |digits: &str| {
        let is_digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        digits.len() == 16 && digits.bytes().all(is_digit)
    };
    let segment = name.strip_prefix("segments/");
    let segment = segment.and_then(|file| file.strip_suffix(".segment"));
    match segment {
        Some(digits) => is_number(digits),
        None => name.strip_prefix("manifest-").is_some_and(is_number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: &str) -> CheckpointList {
        let file = CheckpointFile {
            name: name.into(),
            bytes: 10,
            crc32: 7,
        };
        CheckpointList::new((2, 9), 5, None, vec![file])
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_damage_is_noticed() {
        let path = Path::new("CHECKPOINT");
        let list = list("segments/000000000000000a.segment");
        let bytes = list.encode().unwrap();
        assert_eq!(CheckpointList::decode(&bytes, path).unwrap(), list);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            CheckpointList::decode(&damaged, path).unwrap_err();
            CheckpointList::decode(&bytes[..at], path).unwrap_err();
        }
    }

    #[test]
    fn names_lead_nowhere_else() {
        for name in [
            "../store/manifest-0000000000000001",
            "segments/../../../etc/passwd",
            "/etc/passwd",
            "segments/1.segment",
            "segments/000000000000000A.segment",
            "CHECKPOINT",
            "",
        ] {
            let bytes = list(name).encode().unwrap();
            let error = CheckpointList::decode(&bytes, Path::new("CHECKPOINT")).unwrap_err();
            assert!(error.to_string().contains("names the file"), "{error}");
        }
    }

    /// As version 1 wrote it.
    #[test]
    fn the_first_version_is_read() {
        let content = br#"{"index":9,"term":2,"stamp":5,"membership":{"term":1,"index":3,"bytes":[1]},"files":[{"name":"manifest-0000000000000001","bytes":10,"crc32":7}]}"#;
        let mut bytes = b"CHRONCHK\x01\0\0\0".to_vec();
        bytes.extend((content.len() as u32).to_le_bytes());
        let crc = crc32fast::hash(&[&bytes, &content[..]].concat());
        bytes.extend(crc.to_le_bytes());
        bytes.extend(content);
        let list = CheckpointList::decode(&bytes, Path::new("CHECKPOINT")).unwrap();
        assert_eq!(list.applied(), (Term(2), LogIndex(9)));
        assert_eq!(list.membership().unwrap().bytes, [1]);
        assert_eq!((list.stamp(), list.bytes()), (Stamp(5), 10));
    }
}
