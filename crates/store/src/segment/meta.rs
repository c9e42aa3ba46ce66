//! Names and properties of whole segments, and how to write them.

use std::fmt;

use chronos_model::{FloatCodec, Stamp, TableId};
use serde::{Deserialize, Serialize};

/// A segment's identity in a store; never reused.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What a manifest says of a segment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SegmentMeta {
    /// Identity.
    pub id: SegmentId,
    /// The table whose versions it holds.
    pub table: TableId,
    /// Versions in it.
    pub rows: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Key of the first version.
    pub min_key: Vec<u8>,
    /// Key of the last version.
    pub max_key: Vec<u8>,
    /// Lowest recorded stamp.
    #[serde(with = "stamp_as_number")]
    pub min_recorded: Stamp,
    /// Highest recorded stamp.
    #[serde(with = "stamp_as_number")]
    pub max_recorded: Stamp,
    /// No key occurs twice.
    pub one_version_per_key: bool,
    /// At least one version is a delete.
    pub has_deletes: bool,
}

mod stamp_as_number {
    use chronos_model::Stamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(stamp: &Stamp, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_u64(stamp.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Stamp, D::Error> {
        u64::deserialize(d).map(Stamp)
    }
}

/// How a segment is laid out. The defaults fit most tables.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentOptions {
    /// Versions per page.
    pub page_rows: usize,
    /// Bytes in memory at which a page of wide rows ends early.
    pub page_bytes: usize,
    /// Pages whose blocks of one column stand side by side in the file.
    pub group_pages: usize,
    /// Encoded bytes at which such a group is written before it has all its pages.
    pub group_bytes: usize,
    /// Size of the key filter; 0: none. A table with a hidden key never gets one.
    pub bloom_bits_per_key: u32,
    /// Encoding of floats.
    pub float_codec: FloatCodec,
}

impl Default for SegmentOptions {
    fn default() -> SegmentOptions {
        SegmentOptions {
            page_rows: 2048,
            page_bytes: 1 << 20,
            group_pages: 64,
            group_bytes: 8 << 20,
            bloom_bits_per_key: 10,
            float_codec: FloatCodec::Auto,
        }
    }
}

/// A column of a page: one of those that every version has, or the table's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageColumn {
    /// Encoded key, as `BinaryView`.
    Key,
    /// Stamp of the commit, as `UInt64`.
    Recorded,
    /// Stamp given where the write was made, as `UInt64`.
    Origin,
    /// Node that gave it, as `UInt32`.
    OriginNode,
    /// Put or delete, as `UInt8`.
    Kind,
    /// Microseconds since the epoch, as `Int64`.
    ValidFrom,
    /// Microseconds since the epoch, as `Int64`; `i64::MAX`: until changed.
    ValidTo,
    /// The table's column at this position of its schema.
    Column(usize),
}
