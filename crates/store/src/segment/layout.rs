//! The frame of a segment file: header, footer and trailer, and where blocks are.
//!
//! ```text
//! header | group | group | .. | footer | trailer
//! group  = for each column: the blocks of its pages, side by side; then the key filter
//! ```
//!
//! Owns the bytes of the frame (`docs/format/segment.md`), their checksums and the
//! check that blocks fill the file without a gap, so that no byte of a file is
//! outside some checksum. Knows nothing of what is in a block.

use bytes::Bytes;
use chronos_model::{
    ColumnId, DataError, DataType, Decoder, Encoder, Stamp, StoredColumn, TableId,
};

use super::{BlockError, ColumnRange, ColumnStats, PageMeta, SegmentId};

/// The newest version, whose blocks may hold Chimp128. It reads all before it.
pub(super) const FORMAT_VERSION: u32 = 2;
/// The version of a file without Chimp128: programs that know no other read it too.
pub(super) const FORMAT_WITHOUT_CHIMP: u32 = 1;
pub(super) const HEADER_BYTES: u64 = 16;
pub(super) const TRAILER_BYTES: u64 = 32;

const HEADER_MAGIC: [u8; 8] = *b"CHRONSEG";
const TRAILER_MAGIC: [u8; 8] = *b"CHRONEND";

/// Versions a page may have.
pub(super) const PAGE_ROWS_MAX: usize = 1 << 16;
/// A block of at most this many bytes stands in the footer itself.
pub(super) const INLINE_BYTES_MAX: usize = 32;

/// Blocks of a page before those of the table's columns, in this order.
pub(super) mod slot {
    pub(in crate::segment) const KEY: usize = 0;
    pub(in crate::segment) const RECORDED: usize = 1;
    pub(in crate::segment) const ORIGIN: usize = 2;
    pub(in crate::segment) const ORIGIN_NODE: usize = 3;
    pub(in crate::segment) const KIND: usize = 4;
    pub(in crate::segment) const VALID_FROM: usize = 5;
    pub(in crate::segment) const VALID_TO: usize = 6;
    pub(in crate::segment) const FIRST_COLUMN: usize = 7;
}

const ONE_VERSION_PER_KEY: u8 = 1;
const HAS_DELETES: u8 = 2;
const OPEN_VALID: u8 = 4;
const ALL_KEYS: u8 = 8;
const FIRST_VERSIONS: u8 = 16;

/// An encoded block on its way into a file.
#[derive(Debug)]
pub(super) enum StoredBlock {
    Inline(Vec<u8>),
    InFile { bytes: u32, crc: u32 },
}

/// A page on its way into a footer.
#[derive(Debug)]
pub(super) struct PageEntry {
    pub(super) meta: PageMeta,
    /// All keys are stored, not only those of deletes.
    pub(super) all_keys: bool,
    pub(super) blocks: Vec<StoredBlock>,
}

/// Pages whose blocks stand together, and their filter.
#[derive(Debug)]
pub(super) struct GroupEntry {
    pub(super) pages: u32,
    /// Length and checksum; `None`: there is no filter.
    pub(super) filter: Option<(u32, u32)>,
}

/// Where a block is.
#[derive(Clone, Copy, Debug)]
pub(super) enum BlockRef {
    /// In the footer, at this offset.
    Inline { start: u32, bytes: u32 },
    /// In the file.
    At { offset: u64, bytes: u32, crc: u32 },
}

/// A footer as read.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) id: SegmentId,
    pub(super) table: TableId,
    pub(super) primary_key: Vec<usize>,
    pub(super) columns: Vec<StoredColumn>,
    pub(super) pages: Vec<PageMeta>,
    /// Per page, whether all keys are stored.
    pub(super) all_keys: Vec<bool>,
    /// `page * slots() + slot`
    pub(super) blocks: Vec<BlockRef>,
    /// Per group: the page after its last, and its filter.
    pub(super) groups: Vec<(u32, Option<BlockRef>)>,
    /// The footer's own bytes, which hold the inline blocks.
    pub(super) bytes: Bytes,
}

pub(super) fn header(version: u32) -> Vec<u8> {
    let mut e = Encoder::default();
    e.buffer.extend_from_slice(&HEADER_MAGIC);
    e.u32(version);
    let crc = crc32fast::hash(&e.buffer);
    e.u32(crc);
    e.buffer
}

/// The format version in a header.
pub(super) fn read_header(bytes: &[u8]) -> Result<u32, BlockError> {
    let mut d = Decoder::new("segment header", bytes);
    if d.array::<8>()? != HEADER_MAGIC {
        return Err(BlockError::new("it does not start as a segment does"));
    }
    let version = d.u32()?;
    if d.u32()? != crc32fast::hash(&bytes[..12]) {
        return Err(BlockError::new("the header's checksum does not match"));
    }
    Ok(version)
}

pub(super) fn trailer(footer_offset: u64, footer: &[u8]) -> Vec<u8> {
    let mut e = Encoder::default();
    e.u64(footer_offset);
    e.u64(footer.len() as u64);
    e.u32(crc32fast::hash(footer));
    let crc = crc32fast::hash(&e.buffer);
    e.u32(crc);
    e.buffer.extend_from_slice(&TRAILER_MAGIC);
    e.buffer
}

/// Where the footer starts, and its checksum. It ends where the trailer starts.
pub(super) fn read_trailer(bytes: &[u8], file_bytes: u64) -> Result<(u64, u32), BlockError> {
    let mut d = Decoder::new("segment trailer", bytes);
    let (offset, length, crc) = (d.u64()?, d.u64()?, d.u32()?);
    if d.u32()? != crc32fast::hash(&bytes[..20]) || d.array::<8>()? != TRAILER_MAGIC {
        return Err(BlockError::new("it does not end as a segment does"));
    }
    let end = offset.checked_add(length);
    if offset < HEADER_BYTES || end != file_bytes.checked_sub(TRAILER_BYTES) {
        return Err(BlockError::new("the footer does not fill its place"));
    }
    Ok((offset, crc))
}

/// What a footer says of the whole segment.
#[derive(Debug)]
pub(super) struct FooterHead<'a> {
    pub(super) id: SegmentId,
    pub(super) table: TableId,
    pub(super) primary_key: &'a [usize],
    pub(super) columns: &'a [StoredColumn],
}

pub(super) fn footer(head: &FooterHead<'_>, pages: &[PageEntry], groups: &[GroupEntry]) -> Vec<u8> {
    let mut e = Encoder::default();
    e.u64(head.id.0);
    e.u32(head.table.0);
    e.varint(head.primary_key.len() as u64);
    for column in head.primary_key {
        e.varint(*column as u64);
    }
    e.varint(head.columns.len() as u64);
    for (position, column) in head.columns.iter().enumerate() {
        e.bytes(column_text(position, column).as_bytes());
    }
    e.varint(pages.len() as u64);
    for page in pages {
        put_page(&mut e, page);
    }
    e.varint(groups.len() as u64);
    for group in groups {
        e.varint(u64::from(group.pages));
        match group.filter {
            Some((bytes, crc)) => {
                e.varint(u64::from(bytes));
                e.u32(crc);
            }
            None => e.varint(0),
        }
    }
    e.buffer
}

/// A column's type; behind it `@` and its id, if that is not its position.
fn column_text(position: usize, column: &StoredColumn) -> String {
    match column.id.0 as usize == position {
        true => column.data_type.to_string(),
        false => format!("{}@{}", column.data_type, column.id.0),
    }
}

fn read_column(position: usize, text: &str) -> Result<StoredColumn, BlockError> {
    let (data_type, id) = match text.rsplit_once('@') {
        None => (text, position as u32),
        Some((data_type, id)) => {
            let id = id.parse();
            (
                data_type,
                id.map_err(|_| BlockError::new("a column id that is no number"))?,
            )
        }
    };
    Ok(StoredColumn {
        id: ColumnId(id),
        data_type: DataType::parse(data_type)?,
    })
}

fn put_page(e: &mut Encoder, page: &PageEntry) {
    let meta = &page.meta;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    e.varint(u64::from(meta.rows));
    e.u8(flag(meta.one_version_per_key, ONE_VERSION_PER_KEY)
        | flag(meta.has_deletes, HAS_DELETES)
        | flag(meta.open_valid, OPEN_VALID)
        | flag(page.all_keys, ALL_KEYS)
        | flag(meta.first_versions, FIRST_VERSIONS));
    e.bytes(&meta.min_key);
    e.bytes(&meta.max_key);
    e.u64(meta.min_recorded.0);
    e.varint(meta.max_recorded.0.wrapping_sub(meta.min_recorded.0));
    for block in &page.blocks {
        match block {
            StoredBlock::Inline(bytes) => {
                e.varint((bytes.len() as u64) << 1 | 1);
                e.buffer.extend_from_slice(bytes);
            }
            StoredBlock::InFile { bytes, crc } => {
                e.varint(u64::from(*bytes) << 1);
                e.u32(*crc);
            }
        }
    }
    for stats in &meta.columns {
        put_stats(e, stats);
    }
}

fn put_stats(e: &mut Encoder, stats: &ColumnStats) {
    e.varint(u64::from(stats.null_count));
    match &stats.range {
        None => e.u8(0),
        Some(ColumnRange::Int { min, max, sum }) => {
            e.u8(if sum.is_some() { 2 } else { 1 });
            e.u64(*min as u64);
            e.varint(max.wrapping_sub(*min) as u64);
            if let Some(sum) = sum {
                e.u64(*sum as u64);
            }
        }
        Some(ColumnRange::Float { min, max, sum }) => {
            e.u8(3);
            for v in [min, max, sum] {
                e.u64(v.to_bits());
            }
        }
        Some(ColumnRange::Decimal(bounds)) => {
            e.u8(4);
            e.buffer.extend_from_slice(&bounds.0.to_le_bytes());
            e.buffer.extend_from_slice(&bounds.1.to_le_bytes());
        }
        Some(ColumnRange::Bytes { min, max }) => {
            e.u8(5);
            e.bytes(min);
            e.bytes(max);
        }
    }
}

/// Decodes a footer that starts at `footer_offset` of the file, where the last block
/// must end.
pub(super) fn read_footer(bytes: Vec<u8>, footer_offset: u64) -> Result<Footer, BlockError> {
    let mut d = Decoder::new("segment footer", &bytes);
    let id = SegmentId(d.u64()?);
    let table = TableId(d.u32()?);
    let keys = d.count()?;
    let primary_key = (0..keys)
        .map(|_| Ok(d.varint()? as usize))
        .collect::<Result<Vec<_>, DataError>>()?;
    let columns = d.count()?;
    let stored = (0..columns)
        .map(|position| read_column(position, d.text()?))
        .collect::<Result<Vec<_>, _>>()?;
    if primary_key.iter().any(|c| *c >= columns) {
        return Err(BlockError::new("a key column that does not exist"));
    }
    let count = d.count()?;
    if count == 0 {
        return Err(BlockError::new("a segment without pages"));
    }
    // Every block takes at least a byte: nothing is allocated on a count's word alone.
    let slots = slot::FIRST_COLUMN + columns;
    if count.saturating_mul(slots) > bytes.len() - d.offset() {
        return Err(BlockError::new("more blocks than the footer can hold"));
    }
    let mut pages = Vec::with_capacity(count);
    let mut all_keys = Vec::with_capacity(count);
    let mut blocks = Vec::with_capacity(count * slots);
    for _ in 0..count {
        let (meta, all) = take_page(&mut d, columns, &mut blocks)?;
        pages.push(meta);
        all_keys.push(all);
    }
    let groups = take_groups(&mut d, count)?;
    if !d.is_empty() {
        return Err(BlockError::new("bytes follow the footer"));
    }
    let mut footer = Footer {
        id,
        table,
        primary_key,
        columns: stored,
        pages,
        all_keys,
        blocks,
        groups,
        bytes: bytes.into(),
    };
    footer.place_blocks(footer_offset)?;
    Ok(footer)
}

fn take_page(
    d: &mut Decoder<'_>,
    columns: usize,
    blocks: &mut Vec<BlockRef>,
) -> Result<(PageMeta, bool), BlockError> {
    let rows = d.varint()?;
    if rows == 0 || rows > PAGE_ROWS_MAX as u64 {
        return Err(BlockError::new(format!("a page of {rows} rows")));
    }
    let flags = d.u8()?;
    let min_key = d.bytes()?.into();
    let max_key = d.bytes()?.into();
    let min_recorded = d.u64()?;
    let max_recorded = min_recorded.wrapping_add(d.varint()?);
    for _ in 0..slot::FIRST_COLUMN + columns {
        let length = d.varint()?;
        let bytes = u32::try_from(length >> 1)
            .map_err(|_| BlockError::new("a block of more than 32 bits of bytes"))?;
        if length & 1 == 1 {
            let start = d.offset() as u32;
            d.take(bytes as usize)?;
            blocks.push(BlockRef::Inline { start, bytes });
        } else {
            let crc = d.u32()?;
            blocks.push(BlockRef::At {
                offset: 0,
                bytes,
                crc,
            });
        }
    }
    let columns = (0..columns)
        .map(|_| take_stats(d))
        .collect::<Result<Box<[_]>, _>>()?;
    let meta = PageMeta {
        rows: rows as u32,
        min_key,
        max_key,
        min_recorded: Stamp(min_recorded),
        max_recorded: Stamp(max_recorded),
        one_version_per_key: flags & ONE_VERSION_PER_KEY != 0,
        has_deletes: flags & HAS_DELETES != 0,
        open_valid: flags & OPEN_VALID != 0,
        first_versions: flags & FIRST_VERSIONS != 0,
        columns,
    };
    Ok((meta, flags & ALL_KEYS != 0))
}

fn take_stats(d: &mut Decoder<'_>) -> Result<ColumnStats, BlockError> {
    let null_count = d.varint()?;
    let range = match d.u8()? {
        0 => None,
        tag @ (1 | 2) => {
            let min = d.u64()? as i64;
            let max = min.wrapping_add(d.varint()? as i64);
            let sum = match tag {
                2 => Some(d.u64()? as i64),
                _ => None,
            };
            Some(ColumnRange::Int { min, max, sum })
        }
        3 => Some(ColumnRange::Float {
            min: f64::from_bits(d.u64()?),
            max: f64::from_bits(d.u64()?),
            sum: f64::from_bits(d.u64()?),
        }),
        4 => Some(ColumnRange::Decimal(Box::new((
            i128::from_le_bytes(d.array()?),
            i128::from_le_bytes(d.array()?),
        )))),
        5 => Some(ColumnRange::Bytes {
            min: d.bytes()?.into(),
            max: d.bytes()?.into(),
        }),
        other => return Err(BlockError::new(format!("unknown statistics {other}"))),
    };
    Ok(ColumnStats {
        null_count: null_count.min(PAGE_ROWS_MAX as u64) as u32,
        range,
    })
}

fn take_groups(
    d: &mut Decoder<'_>,
    pages: usize,
) -> Result<Vec<(u32, Option<BlockRef>)>, BlockError> {
    let count = d.count()?;
    let mut groups = Vec::with_capacity(count);
    let mut end = 0u64;
    for _ in 0..count {
        end = end.saturating_add(d.varint()?);
        let bytes = d.varint()?;
        let filter = match u32::try_from(bytes) {
            Ok(0) => None,
            Ok(bytes) => Some(BlockRef::At {
                offset: 0,
                bytes,
                crc: d.u32()?,
            }),
            Err(_) => return Err(BlockError::new("a filter of more than 32 bits of bytes")),
        };
        if end > pages as u64 {
            break;
        }
        groups.push((end as u32, filter));
    }
    if end != pages as u64 {
        return Err(BlockError::new("groups that do not fit the pages"));
    }
    Ok(groups)
}

impl Footer {
    /// Blocks per page.
    pub(super) fn slots(&self) -> usize {
        slot::FIRST_COLUMN + self.columns.len()
    }

    pub(super) fn block(&self, page: usize, slot: usize) -> BlockRef {
        self.blocks[page * self.slots() + slot]
    }

    pub(super) fn inline(&self, start: u32, bytes: u32) -> &[u8] {
        &self.bytes[start as usize..(start + bytes) as usize]
    }

    /// The group a page is in.
    pub(super) fn group_of(&self, page: usize) -> usize {
        self.groups
            .partition_point(|(end, _)| *end as usize <= page)
    }

    /// Gives every block its offset: they follow each other without a gap, group by
    /// group and column by column, and the last ends where the footer starts.
    fn place_blocks(&mut self, footer_offset: u64) -> Result<(), BlockError> {
        let slots = self.slots();
        let mut next = HEADER_BYTES;
        let mut place = |block: &mut BlockRef| {
            if let BlockRef::At { offset, bytes, .. } = block {
                *offset = next;
                next += u64::from(*bytes);
            }
        };
        let mut first = 0;
        for (end, filter) in &mut self.groups {
            for slot in 0..slots {
                for page in first..*end as usize {
                    place(&mut self.blocks[page * slots + slot]);
                }
            }
            filter.iter_mut().for_each(&mut place);
            first = *end as usize;
        }
        if next != footer_offset {
            return Err(BlockError::new("blocks that do not fill the file"));
        }
        Ok(())
    }
}
