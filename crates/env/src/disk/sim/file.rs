//! The content of one simulated file: what a reader sees, what is surely on the
//! platter, and the changes in between whose fate a power cut decides.
//!
//! ```text
//!     durable  --changes since the last sync-->  current
//! ```
//!
//! A power cut finds every 512-byte sector at some moment between the two: it has taken
//! a prefix of the changes that touch it, and different sectors may be at different
//! moments. So a write may be kept, lost, torn, or overtaken by a later one, but the two
//! halves of one sector always belong to the same moment, as on a real disk.

use std::ops::Range;

use crate::SimRandom;

const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::SetLen(len) => content.resize(*len, 0),
        }
    }

    /// Applies what falls into the sector that starts at `start`.
    fn apply_to_sector(&self, sector: &mut [u8; SECTOR_BYTES], start: usize) {
        match self {
            Self::Write { offset, bytes } => {
                let from = (*offset).max(start);
                let to = (offset + bytes.len()).min(start + SECTOR_BYTES);
                if from < to {
                    sector[from - start..to - start]
                        .copy_from_slice(&bytes[from - offset..to - offset]);
                }
            }
            Self::SetLen(len) => {
                let from = (*len).clamp(start, start + SECTOR_BYTES);
                sector[from - start..].fill(0);
            }
        }
    }

    fn touches(&self, sector: Range<usize>) -> bool {
        match self {
            Self::Write { offset, bytes } => {
                *offset < sector.end && sector.start < offset + bytes.len()
            }
            Self::SetLen(len) => *len < sector.end,
        }
    }

    fn len_after(&self, len: usize) -> usize {
        match self {
            Self::Write { offset, bytes } => len.max(offset + bytes.len()),
            Self::SetLen(len) => *len,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct FileState {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

impl FileState {
    pub(super) fn durable(content: Vec<u8>) -> Self {
        Self {
            current: content.clone(),
            durable: content,
            pending: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> usize {
        let Some(rest) = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.current.get(offset..))
        else {
            return 0;
        };
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        count
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], offset: usize) {
        if !bytes.is_empty() {
            self.change(Change::Write {
                offset,
                bytes: bytes.to_vec(),
            });
        }
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.change(Change::SetLen(len));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that failed as Linux lets it fail: some pages reached the disk, none is
    /// tried again, and readers go on seeing all of them.
    pub(super) fn sync_failed(&mut self, random: &SimRandom) {
        for change in self.pending.drain(..) {
            if random.below(2) == 0 {
                change.apply(&mut self.durable);
            }
        }
    }

    /// Damages the medium itself: the bits of `mask` are flipped, surely.
    pub(super) fn flip(&mut self, offset: usize, mask: u8) -> bool {
        for content in [&mut self.current, &mut self.durable] {
            match content.get_mut(offset) {
                Some(byte) => *byte ^= mask,
                None => return false,
            }
        }
        true
    }

    /// The content as it may be found after a power cut.
    pub(super) fn after_power_cut(&self, random: &SimRandom) -> Vec<u8> {
        let count = self.pending.len();
        let any = |bound: usize| random.below(bound as u64) as usize;
        match any(5) {
            0 => self.durable.clone(),
            1 => self.sectors_at(count, |_| count),
            2 if count > 0 => {
                // In order up to one change, which is torn.
                let torn = any(count);
                self.sectors_at(torn + any(2), |_| torn + any(2))
            }
            3 => {
                // Whole changes kept or lost, in any combination.
                let kept: Vec<bool> = (0..count).map(|_| any(2) == 0).collect();
                let last_kept = |sector: Range<usize>| {
                    (0..count)
                        .rev()
                        .find(|&i| kept[i] && self.pending[i].touches(sector.clone()))
                        .map_or(0, |i| i + 1)
                };
                self.sectors_at(any(count + 1), last_kept)
            }
            _ => self.sectors_at(any(count + 1), |_| any(count + 1)),
        }
    }

    /// The content with the length as after `len_at` changes and each sector as after
    /// the number of changes that `moment` names for it.
    fn sectors_at(&self, len_at: usize, mut moment: impl FnMut(Range<usize>) -> usize) -> Vec<u8> {
        let len = self.pending[..len_at]
            .iter()
            .fold(self.durable.len(), |len, change| change.len_after(len));
        let mut content = self.durable.clone();
        content.resize(len, 0);
        for start in (0..len).step_by(SECTOR_BYTES) {
            let end = start + SECTOR_BYTES;
            if !self.pending.iter().any(|it| it.touches(start..end)) {
                continue;
            }
            let mut sector = [0; SECTOR_BYTES];
            let old = self.durable.get(start..).unwrap_or_default();
            let old = &old[..old.len().min(SECTOR_BYTES)];
            sector[..old.len()].copy_from_slice(old);
            for change in &self.pending[..moment(start..end)] {
                change.apply_to_sector(&mut sector, start);
            }
            let kept = len.min(end) - start;
            content[start..start + kept].copy_from_slice(&sector[..kept]);
        }
        content
    }
}
