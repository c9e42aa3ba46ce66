//! The bytes of a log file: header and record header, encoded and checked.
//!
//! `docs/format/log.md` has the tables. This module is pure: bytes in, values or `None`
//! out; it opens no file and decides nothing about what a bad checksum means.

use super::{GroupId, LogIndex, Term};

pub(super) const MAGIC: [u8; 8] = *b"CHRONLOG";
pub(super) const VERSION: u32 = 1;
/// Records start here; the header has this block for itself, so that no torn write of
/// a record can take it along, on disks with sectors of up to 4 KiB.
pub(super) const DATA_START: u64 = 4096;
pub(super) const RECORD_HEADER_BYTES: usize = 40;
const FILE_HEADER_BYTES: usize = 44;
/// Largest payload of one entry.
pub(super) const PAYLOAD_BYTES_MAX: u64 = 1 << 30;
/// Records start at multiples of this.
pub(super) const ALIGNMENT: u64 = 8;
const KIND_ENTRY: u32 = 1;

const FLAG_RESET: u32 = 1;
const FLAG_RECYCLED: u32 = 2;

/// The start of every log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// Everything in earlier files is void, and indexes may have been skipped.
    pub reset: bool,
    /// The blocks behind the records were written by an earlier life of this file.
    pub recycled: bool,
    /// Orders the files of a log; also their name.
    pub sequence: u64,
    /// Index of the first record; records of earlier files from here on are void.
    pub first_index: LogIndex,
    /// Start value of all checksums of records in this file.
    pub salt: u32,
    /// The file was at least this long when it got its name, and never became shorter; 0:
    /// not known. Stored in units of 8 bytes, rounded down.
    pub bytes_min: u64,
}

/// What is wrong with a file header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Damaged(&'static str),
    Version(u32),
}

impl FileHeader {
    /// The whole header block.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut flags = 0;
        if self.reset {
            flags |= FLAG_RESET;
        }
        if self.recycled {
            flags |= FLAG_RECYCLED;
        }
        let mut out = Vec::with_capacity(DATA_START as usize);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&u32::to_le_bytes(flags));
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.first_index.0.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        let units = u32::try_from(self.bytes_min / ALIGNMENT).unwrap_or(u32::MAX);
        out.extend_from_slice(&units.to_le_bytes());
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(DATA_START as usize, 0);
        out
    }

    /// The version is judged before the checksum, so that a newer layout is named.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        if bytes.len() < FILE_HEADER_BYTES {
            return Err(HeaderFault::Damaged("the file ends within its header"));
        }
        if bytes[..8] != MAGIC {
            return Err(HeaderFault::Damaged("it does not start with CHRONLOG"));
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        if u32_at(bytes, 40) != crc32fast::hash(&bytes[..40]) {
            return Err(HeaderFault::Damaged("the header's checksum does not match"));
        }
        let flags = u32_at(bytes, 12);
        if flags & !(FLAG_RESET | FLAG_RECYCLED) != 0 {
            return Err(HeaderFault::Damaged("the header has unknown flags"));
        }
        Ok(Self {
            reset: flags & FLAG_RESET != 0,
            recycled: flags & FLAG_RECYCLED != 0,
            sequence: u64_at(bytes, 16),
            first_index: LogIndex(u64_at(bytes, 24)),
            salt: u32_at(bytes, 32),
            bytes_min: u64::from(u32_at(bytes, 36)) * ALIGNMENT,
        })
    }
}

/// What stands before each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub payload_crc: u32,
    pub payload_bytes: u32,
    pub group: GroupId,
    pub term: Term,
    pub index: LogIndex,
    /// The offset in this file below which everything was durable when this record was
    /// written: proof, later, that an unreadable record below it is damage and not a
    /// torn tail. Stored in units of 8 bytes.
    pub synced_to: u64,
}

impl RecordHeader {
    pub(super) fn encode(&self, salt: u32) -> [u8; RECORD_HEADER_BYTES] {
        let mut out = [0; RECORD_HEADER_BYTES];
        out[4..8].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[12..16].copy_from_slice(&self.group.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.term.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.index.0.to_le_bytes());
        let units = (self.synced_to / ALIGNMENT) as u32;
        out[32..36].copy_from_slice(&units.to_le_bytes());
        out[36..40].copy_from_slice(&KIND_ENTRY.to_le_bytes());
        let crc = salted_crc(salt, &out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` if these bytes are no record header of a file with this salt.
    pub(super) fn decode(bytes: &[u8; RECORD_HEADER_BYTES], salt: u32) -> Option<Self> {
        // The cheap test first: the search for stray records runs over whole files.
        if u32_at(bytes, 36) != KIND_ENTRY || u32_at(bytes, 0) != salted_crc(salt, &bytes[4..]) {
            return None;
        }
        let payload_bytes = u32_at(bytes, 8);
        if u64::from(payload_bytes) > PAYLOAD_BYTES_MAX {
            return None;
        }
        Some(Self {
            payload_crc: u32_at(bytes, 4),
            payload_bytes,
            group: GroupId(u32_at(bytes, 12)),
            term: Term(u64_at(bytes, 16)),
            index: LogIndex(u64_at(bytes, 24)),
            synced_to: u64::from(u32_at(bytes, 32)) * ALIGNMENT,
        })
    }

    /// Bytes from the start of this record to the start of the next.
    pub(super) fn record_bytes(&self) -> u64 {
        record_bytes(u64::from(self.payload_bytes))
    }
}

/// Bytes that a record with this payload takes, padding included.
pub(super) fn record_bytes(payload_bytes: u64) -> u64 {
    (RECORD_HEADER_BYTES as u64 + payload_bytes).next_multiple_of(ALIGNMENT)
}

/// CRC-32 (IEEE) that starts from the file's salt. Two salts give different sums for
/// the same bytes, so a record of a recycled file's earlier life never passes.
pub(super) fn salted_crc(salt: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(bytes);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> RecordHeader {
        RecordHeader {
            payload_crc: 7,
            payload_bytes: 5,
            group: GroupId(3),
            term: Term(u64::MAX),
            index: LogIndex(9),
            synced_to: 4096,
        }
    }

    #[test]
    fn headers_read_back() {
        let file = FileHeader {
            reset: true,
            recycled: false,
            sequence: 12,
            first_index: LogIndex(u64::MAX),
            salt: 99,
            bytes_min: 8 << 20,
        };
        assert_eq!(file.encode().len() as u64, DATA_START);
        assert_eq!(FileHeader::decode(&file.encode()), Ok(file));
        assert_eq!(
            RecordHeader::decode(&header().encode(99), 99),
            Some(header())
        );
        assert_eq!(header().record_bytes(), 48);
    }

    #[test]
    fn another_salt_or_any_flipped_bit_is_refused() {
        let bytes = header().encode(99);
        assert_eq!(RecordHeader::decode(&bytes, 98), None);
        for bit in 0..RECORD_HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::decode(&bad, 99), None, "bit {bit}");
        }
    }

    #[test]
    fn a_newer_version_is_named_and_flipped_bits_are_refused() {
        let good = FileHeader {
            reset: false,
            recycled: true,
            sequence: 1,
            first_index: LogIndex(1),
            salt: 5,
            bytes_min: 1 << 20,
        }
        .encode();
        let mut newer = good.clone();
        newer[8] = 2;
        assert_eq!(FileHeader::decode(&newer), Err(HeaderFault::Version(2)));
        for bit in 0..FILE_HEADER_BYTES * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FileHeader::decode(&bad).is_err(), "bit {bit}");
        }
        assert!(FileHeader::decode(&good[..43]).is_err());
    }
}
