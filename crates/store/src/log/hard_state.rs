//! What a member of a consensus group must not forget beside its entries: the vote, and up to
//! where entries are no longer needed. And, less strictly, up to where they were committed.
//!
//! Owns the file `hard-state` in the log's directory, four slots of one block each:
//!
//! ```text
//!   | state, even | state, odd | committed, even | committed, odd |
//! ```
//!
//! A new content goes into the slot that does not hold the last one, by the parity of its
//! sequence number, so a torn write leaves the content before it. States are synced one
//! by one, and nobody hears of one before; what is committed is written without a sync, for
//! it may be known too low after a power cut, but never wrong.
//!
//! The file has its full length and is written from end to end when it gets its name: a sync
//! has nothing but the slot to write.
//!
//! The bytes are described in `docs/format/log.md`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronos_env::{Disk, DiskFile};

use super::{LogError, LogIndex, Term};

const FILE_NAME: &str = "hard-state";
const MAGIC: [u8; 8] = *b"CHRONHRD";
const VERSION: u32 = 1;
/// No torn write of one slot reaches another, on disks with sectors of up to 4 KiB.
const SLOT_BYTES: usize = 4096;
const SLOTS: usize = 4;
/// A slot's checksum stands here, in every version.
const CRC_AT: usize = 64;

const FLAG_VOTE: u32 = 1;
const FLAG_VOTE_COMMITTED: u32 = 2;
const FLAG_POSITION: u32 = 4;

/// For whom a member has voted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HardVote {
    /// The term of the vote.
    pub term: u64,
    /// The candidate, or leader, by its number.
    pub node: u64,
    /// Whether a quorum has voted so, which makes the candidate the leader.
    pub committed: bool,
}

/// What is synced before anybody relies on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HardState {
    pub vote: Option<HardVote>,
    /// Entries up to here, inclusive, are not needed.
    pub floor: Option<(Term, LogIndex)>,
}

/// What a slot is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    State = 1,
    Committed = 2,
}

/// A slot's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot {
    kind: Kind,
    sequence: u64,
    vote: Option<HardVote>,
    position: Option<(Term, LogIndex)>,
}

/// What the bytes of a slot are.
#[derive(Debug, PartialEq, Eq)]
enum Decoded {
    Whole(Slot),
    /// Of a version that this program does not know.
    Newer(u32),
    /// Torn, damaged, or never written.
    Nothing,
}

impl Slot {
    fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        let vote = self.vote.inspect(|vote| {
            flags |= FLAG_VOTE;
            if vote.committed {
                flags |= FLAG_VOTE_COMMITTED;
            }
        });
        let (vote_term, vote_node) = vote.map_or((0, 0), |it| (it.term, it.node));
        if self.position.is_some() {
            flags |= FLAG_POSITION;
        }
        let (term, index) = self.position.unwrap_or_default();
        let mut out = Vec::with_capacity(SLOT_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.kind as u32).to_le_bytes());
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&u64::from(flags).to_le_bytes());
        for field in [vote_term, vote_node, term.0, index.0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        debug_assert_eq!(out.len(), CRC_AT);
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(SLOT_BYTES, 0);
        out
    }

    fn decode(bytes: &[u8], kind: Kind) -> Decoded {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if bytes.len() < CRC_AT + 4 || bytes[..8] != MAGIC {
            return Decoded::Nothing;
        }
        if u32_at(CRC_AT) != crc32fast::hash(&bytes[..CRC_AT]) {
            return Decoded::Nothing;
        }
        if u32_at(8) != VERSION {
            return Decoded::Newer(u32_at(8));
        }
        if u32_at(12) != kind as u32 {
            return Decoded::Nothing;
        }
        let has = |flag: u32| u64_at(24) & u64::from(flag) != 0;
        Decoded::Whole(Slot {
            kind,
            sequence: u64_at(16),
            vote: has(FLAG_VOTE).then(|| HardVote {
                term: u64_at(32),
                node: u64_at(40),
                committed: has(FLAG_VOTE_COMMITTED),
            }),
            position: has(FLAG_POSITION).then(|| (Term(u64_at(48)), LogIndex(u64_at(56)))),
        })
    }

    /// Where in the file it belongs.
    fn offset(&self) -> u64 {
        let pair = match self.kind {
            Kind::State => 0,
            Kind::Committed => 2,
        };
        (pair + self.sequence % 2) * SLOT_BYTES as u64
    }
}

/// What the file says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    state: Slot,
    committed: Option<Slot>,
}

impl Found {
    pub(super) fn floor(&self) -> Option<(Term, LogIndex)> {
        self.state.position
    }

    /// The last position that was noted and is whole. Not compared with the entries.
    pub(super) fn committed(&self) -> Option<(Term, LogIndex)> {
        self.committed.and_then(|it| it.position)
    }
}

/// Reads the file and changes nothing; `None` if there is none.
pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Found>, LogError> {
    let path = dir.join(FILE_NAME);
    let exists = disk.exists(&path);
    if !exists.map_err(LogError::io("look for", &path))? {
        return Ok(None);
    }
    let bytes = disk.read(&path).map_err(LogError::io("read", &path))?;
    let newest = |kind: Kind, first: usize| {
        let mut newest: Option<Slot> = None;
        for at in [first, first + 1] {
            let slot = bytes.get(at * SLOT_BYTES..(at + 1) * SLOT_BYTES);
            match Slot::decode(slot.unwrap_or_default(), kind) {
                Decoded::Nothing => {}
                Decoded::Newer(found) => {
                    return Err(LogError::UnsupportedVersion {
                        path: path.clone(),
                        found,
                        supported: VERSION,
                    });
                }
                Decoded::Whole(slot) => {
                    if newest.is_none_or(|newest| newest.sequence < slot.sequence) {
                        newest = Some(slot);
                    }
                }
            }
        }
        Ok(newest)
    };
    let Some(state) = newest(Kind::State, 0)? else {
        let reason = "neither of its two states has a valid checksum, so the vote is not known";
        return Err(LogError::damaged(&path, 0, reason));
    };
    let committed = newest(Kind::Committed, 2)?;
    Ok(Some(Found { state, committed }))
}

/// The open file. Written by the log thread only.
#[derive(Debug)]
pub(super) struct HardFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    state: HardState,
    state_sequence: u64,
    committed_sequence: u64,
    /// A position was written since the last sync.
    unsynced: bool,
}

impl HardFile {
    /// Opens the file that [`read`] found, or creates one with this floor and no vote.
    ///
    /// The last state is written once more where it is and synced: after a failed sync it may
    /// exist in the page cache only, marked clean. The one before it stays untouched meanwhile.
    pub(super) fn open(
        disk: &dyn Disk,
        dir: &Path,
        found: Option<Found>,
        floor: Option<(Term, LogIndex)>,
    ) -> Result<Self, LogError> {
        let path = dir.join(FILE_NAME);
        let state = found.map_or(
            Slot {
                kind: Kind::State,
                sequence: 0,
                vote: None,
                position: floor,
            },
            |it| it.state,
        );
        if found.is_none() {
            let mut bytes = state.encode();
            bytes.resize(SLOTS * SLOT_BYTES, 0);
            disk.replace(&path, &bytes)
                .map_err(LogError::io("create", &path))?;
        }
        let file = disk
            .open_write(&path)
            .map_err(LogError::io("open", &path))?;
        if found.is_some() {
            file.write_at(&state.encode(), state.offset())
                .map_err(LogError::io("write", &path))?;
            file.sync_data().map_err(LogError::io("sync", &path))?;
        }
        Ok(Self {
            path,
            file,
            state: HardState {
                vote: state.vote,
                // One that follows from the entries goes with the next state.
                floor,
            },
            state_sequence: state.sequence,
            committed_sequence: found
                .and_then(|it| it.committed)
                .map_or(0, |it| it.sequence),
            unsynced: false,
        })
    }

    pub(super) fn state(&self) -> HardState {
        self.state
    }

    /// Makes a new state durable.
    pub(super) fn save(&mut self, state: HardState) -> Result<(), LogError> {
        let slot = Slot {
            kind: Kind::State,
            sequence: self.state_sequence + 1,
            vote: state.vote,
            position: state.floor,
        };
        self.write(&slot)?;
        self.sync()?;
        self.state_sequence = slot.sequence;
        self.state = state;
        Ok(())
    }

    /// Writes up to where entries are committed, without a sync.
    pub(super) fn note_committed(&mut self, position: (Term, LogIndex)) -> Result<(), LogError> {
        let slot = Slot {
            kind: Kind::Committed,
            sequence: self.committed_sequence + 1,
            vote: None,
            position: Some(position),
        };
        self.write(&slot)?;
        self.committed_sequence = slot.sequence;
        self.unsynced = true;
        Ok(())
    }

    /// Makes what was noted durable, if anything was.
    pub(super) fn sync_notes(&mut self) -> Result<(), LogError> {
        match self.unsynced {
            true => self.sync(),
            false => Ok(()),
        }
    }

    fn write(&self, slot: &Slot) -> Result<(), LogError> {
        self.file
            .write_at(&slot.encode(), slot.offset())
            .map_err(LogError::io("write", &self.path))
    }

    fn sync(&mut self) -> Result<(), LogError> {
        self.file
            .sync_data()
            .map_err(LogError::io("sync", &self.path))?;
        self.unsynced = false;
        Ok(())
    }
}
