//! Writes a segment: sorted versions in, pages and a footer out.
//!
//! ```text
//! append -> pending rows -> page of ~2,048 -> encoded blocks -> group of ~64 pages -> file
//!                                          \-> page entry ------------> footer at finish
//! ```
//!
//! Checks the order of what it is given, because everything that reads relies on it.
//! Holds at most the pending rows and one group of encoded pages in memory, besides
//! the footer. Gives the file no name that others look for: the caller publishes it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType as Arrow;
use chronos_env::{DiskFile, Env};
use chronos_model::{DataType, Stamp, StoredColumn, TableSchema};

use super::encoding::{Effort, PcoGate};
use super::layout::{self, slot, FooterHead, GroupEntry, PageEntry, StoredBlock};
use super::page::{encode_page, EncodedPage};
use super::{bloom, FloatCodec, SegmentError, SegmentId, SegmentMeta, SegmentOptions};
use crate::version::VersionBatch;

/// Writes one segment file from sorted versions.
#[derive(Debug)]
pub struct SegmentWriter {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    id: SegmentId,
    schema: TableSchema,
    options: SegmentOptions,
    /// Where the next group starts.
    offset: u64,
    /// Of all bytes written, which are written in order.
    crc: crc32fast::Hasher,
    pending: VecDeque<Pending>,
    pending_rows: usize,
    pending_bytes: usize,
    /// One per slot.
    gates: Vec<PcoGate>,
    /// Encoded pages of the group being gathered: the last ones of `pages`.
    group: Vec<Vec<Vec<u8>>>,
    group_bytes: usize,
    hashes: Vec<u64>,
    pages: Vec<PageEntry>,
    groups: Vec<GroupEntry>,
    last: Option<Last>,
    one_version_per_key: bool,
}

/// Rows that are not in a page yet.
#[derive(Debug)]
struct Pending {
    batch: VersionBatch,
    /// Rows before this one are in pages.
    from: usize,
    /// Bytes of each row's content of variable length; `None`: the table has none.
    sizes: Option<Vec<usize>>,
}

/// The last version appended.
#[derive(Debug)]
struct Last {
    key: Box<[u8]>,
    origin: (u64, u32),
}

impl SegmentWriter {
    /// Creates the file at `path`, or empties what an unfinished write left there.
    ///
    /// Errors: the operating system refuses, or `options` cannot be.
    pub fn create(
        env: &Env,
        path: &Path,
        id: SegmentId,
        schema: &TableSchema,
        options: &SegmentOptions,
    ) -> Result<SegmentWriter, SegmentError> {
        let rows = 1..=layout::PAGE_ROWS_MAX;
        if !rows.contains(&options.page_rows) || options.group_pages == 0 {
            return Err(SegmentError::InvalidInput {
                path: path.to_owned(),
                reason: format!(
                    "pages of {} rows in groups of {}",
                    options.page_rows, options.group_pages
                ),
            });
        }
        let io = |action, source| SegmentError::Io {
            path: path.to_owned(),
            action,
            source,
        };
        let file = env.disk.create(path).map_err(|e| io("create", e))?;
        let header = layout::header(format_version(options));
        file.write_at(&header, 0).map_err(|e| io("write", e))?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header);
        let slots = slot::FIRST_COLUMN + schema.columns.len();
        Ok(SegmentWriter {
            file,
            path: path.to_owned(),
            id,
            schema: schema.clone(),
            options: options.clone(),
            offset: header.len() as u64,
            crc,
            pending: VecDeque::new(),
            pending_rows: 0,
            pending_bytes: 0,
            gates: (0..slots).map(|_| PcoGate::default()).collect(),
            group: Vec::new(),
            group_bytes: 0,
            hashes: Vec::new(),
            pages: Vec::new(),
            groups: Vec::new(),
            last: None,
            one_version_per_key: true,
        })
    }

    /// Appends versions. All rows appended so far must be sorted by (key ascending,
    /// origin descending).
    ///
    /// Errors: they are not, the columns are not the table's, or the disk fails. After
    /// an error the writer is of no more use.
    pub fn append(&mut self, batch: &VersionBatch) -> Result<(), SegmentError> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(());
        }
        self.check_shape(batch)?;
        self.check_order(batch)?;
        let sizes = row_sizes(&self.schema, batch);
        self.pending_rows += rows;
        self.pending_bytes += sizes.as_ref().map_or(0, |s| s.iter().sum());
        self.pending.push_back(Pending {
            batch: batch.clone(),
            from: 0,
            sizes,
        });
        while self.pending_rows >= self.options.page_rows
            || self.pending_bytes >= self.options.page_bytes
        {
            self.write_page()?;
        }
        Ok(())
    }

    /// Bytes written to the file so far.
    pub fn written_bytes(&self) -> u64 {
        self.offset
    }

    /// Encoded bytes that wait for the rest of their group.
    pub(crate) fn group_bytes(&self) -> usize {
        self.group_bytes
    }

    /// Writes what is left and makes the file's content durable. The caller
    /// publishes its name.
    ///
    /// Errors: nothing was appended, or the disk fails.
    pub fn finish(self) -> Result<SegmentMeta, SegmentError> {
        Ok(self.finish_checked()?.0)
    }

    /// The same; gives also the CRC-32 of the whole file.
    pub(crate) fn finish_checked(mut self) -> Result<(SegmentMeta, u32), SegmentError> {
        while self.pending_rows > 0 {
            self.write_page()?;
        }
        self.write_group()?;
        let (Some(first), Some(last)) = (self.pages.first(), self.pages.last()) else {
            return Err(self.invalid("a segment needs at least one version"));
        };
        let (min_key, max_key) = (first.meta.min_key.to_vec(), last.meta.max_key.to_vec());
        let columns: Vec<StoredColumn> = self.schema.stored_columns().collect();
        let head = FooterHead {
            id: self.id,
            table: self.schema.id,
            primary_key: &self.schema.primary_key,
            columns: &columns,
        };
        let mut end = layout::footer(&head, &self.pages, &self.groups);
        let trailer = layout::trailer(self.offset, &end);
        end.extend_from_slice(&trailer);
        self.write(&end)?;
        self.file.sync_data().map_err(|e| self.io("sync", e))?;
        let metas = || self.pages.iter().map(|p| &p.meta);
        let meta = SegmentMeta {
            id: self.id,
            table: self.schema.id,
            rows: metas().map(|m| u64::from(m.rows)).sum(),
            bytes: self.offset + end.len() as u64,
            min_key,
            max_key,
            min_recorded: metas().map(|m| m.min_recorded).min().unwrap_or(Stamp::MIN),
            max_recorded: metas().map(|m| m.max_recorded).max().unwrap_or(Stamp::MIN),
            one_version_per_key: self.one_version_per_key,
            has_deletes: metas().any(|m| m.has_deletes),
        };
        Ok((meta, self.crc.finalize()))
    }

    fn check_shape(&self, batch: &VersionBatch) -> Result<(), SegmentError> {
        let rows = batch.num_rows();
        let fixed: [&dyn Array; 6] = [
            &batch.recorded,
            &batch.origin,
            &batch.origin_node,
            &batch.kind,
            &batch.valid_from,
            &batch.valid_to,
        ];
        if fixed.iter().any(|a| a.len() != rows || a.null_count() > 0)
            || batch.columns.iter().any(|c| c.len() != rows)
        {
            return Err(self.invalid("columns of different lengths, or NULL stamps"));
        }
        if batch.columns.len() != self.schema.columns.len() {
            return Err(self.invalid(format!(
                "{} columns for a table of {}",
                batch.columns.len(),
                self.schema.columns.len()
            )));
        }
        for (array, column) in batch.columns.iter().zip(&self.schema.columns) {
            if !array
                .data_type()
                .equals_datatype(&column.data_type.to_arrow())
            {
                return Err(self.invalid(format!(
                    "column \"{}\" is {}, but came as {}",
                    column.name,
                    column.data_type,
                    array.data_type()
                )));
            }
        }
        Ok(())
    }

    fn check_order(&mut self, batch: &VersionBatch) -> Result<(), SegmentError> {
        let origin = |row: usize| (batch.origin.value(row), batch.origin_node.value(row));
        let mut previous = self.last.as_ref().map(|last| (&*last.key, last.origin));
        let mut one_version = true;
        for row in 0..batch.num_rows() {
            let current = (batch.keys.get(row), origin(row));
            if let Some((key, newer)) = previous {
                match key.cmp(current.0) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal if newer >= current.1 => one_version = false,
                    _ => return Err(self.invalid(format!("row {row} is not in order"))),
                }
            }
            previous = Some(current);
        }
        self.one_version_per_key &= one_version;
        let row = batch.num_rows() - 1;
        self.last = Some(Last {
            key: batch.keys.get(row).into(),
            origin: origin(row),
        });
        Ok(())
    }

    /// Cuts one page off the pending rows.
    fn write_page(&mut self) -> Result<(), SegmentError> {
        let mut parts = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while let Some(front) = self.pending.front_mut() {
            let (start, end) = (front.from, front.batch.num_rows());
            let mut to = start;
            while to < end && rows < self.options.page_rows && bytes < self.options.page_bytes {
                bytes += front.sizes.as_ref().map_or(0, |s| s[to]);
                to += 1;
                rows += 1;
            }
            if to > start {
                parts.push(front.batch.slice(start, to - start));
            }
            front.from = to;
            if to < end {
                break;
            }
            self.pending.pop_front();
        }
        self.pending_rows -= rows;
        self.pending_bytes -= bytes;
        let page = VersionBatch::concat(&parts).map_err(|e| self.invalid(e.to_string()))?;
        let effort = match self.options.float_codec {
            FloatCodec::Auto => Effort::Smallest,
            FloatCodec::Chimp => Effort::Chimp,
        };
        let encoded = encode_page(&self.schema, &page, effort, &mut self.gates)
            .map_err(|e| self.invalid(e.to_string()))?;
        self.add_page(&page, encoded);
        let options = &self.options;
        if self.group.len() >= options.group_pages || self.group_bytes >= options.group_bytes {
            self.write_group()?;
        }
        Ok(())
    }

    fn add_page(&mut self, page: &VersionBatch, mut encoded: EncodedPage) {
        if let Some(previous) = self.pages.last_mut() {
            if previous.meta.max_key == encoded.meta.min_key {
                previous.meta.one_version_per_key = false;
                encoded.meta.one_version_per_key = false;
            }
        }
        if self.options.bloom_bits_per_key > 0 && !self.schema.has_hidden_key() {
            for row in 0..page.num_rows() {
                if row == 0 || page.keys.get(row) != page.keys.get(row - 1) {
                    self.hashes.push(bloom::hash(page.keys.get(row)));
                }
            }
        }
        let stored = |block: &Vec<u8>| match block.len() <= layout::INLINE_BYTES_MAX {
            true => StoredBlock::Inline(block.clone()),
            false => StoredBlock::InFile {
                bytes: block.len() as u32,
                crc: crc32fast::hash(block),
            },
        };
        self.pages.push(PageEntry {
            meta: encoded.meta,
            all_keys: encoded.all_keys,
            blocks: encoded.blocks.iter().map(stored).collect(),
        });
        self.group_bytes += encoded.blocks.iter().map(Vec::len).sum::<usize>();
        self.group.push(encoded.blocks);
    }

    /// Writes the gathered pages' blocks, column by column, and their filter.
    fn write_group(&mut self) -> Result<(), SegmentError> {
        if self.group.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(self.group_bytes);
        for slot in 0..self.gates.len() {
            for page in &self.group {
                if page[slot].len() > layout::INLINE_BYTES_MAX {
                    bytes.extend_from_slice(&page[slot]);
                }
            }
        }
        let filter = (!self.hashes.is_empty()).then(|| {
            let filter = bloom::build(&self.hashes, self.options.bloom_bits_per_key);
            bytes.extend_from_slice(&filter);
            (filter.len() as u32, crc32fast::hash(&filter))
        });
        self.groups.push(GroupEntry {
            pages: self.group.len() as u32,
            filter,
        });
        self.write(&bytes)?;
        self.offset += bytes.len() as u64;
        self.group.clear();
        self.group_bytes = 0;
        self.hashes.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        let written = self.file.write_at(bytes, self.offset);
        written.map_err(|e| self.io("write", e))?;
        self.crc.update(bytes);
        Ok(())
    }

    fn io(&self, action: &'static str, source: std::io::Error) -> SegmentError {
        SegmentError::Io {
            path: self.path.clone(),
            action,
            source,
        }
    }

    fn invalid(&self, reason: impl Into<String>) -> SegmentError {
        SegmentError::InvalidInput {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }
}

/// The lowest version that has all that may be written: older programs go on reading what
/// they can.
fn format_version(options: &SegmentOptions) -> u32 {
    match options.float_codec {
        FloatCodec::Auto => layout::FORMAT_WITHOUT_CHIMP,
        FloatCodec::Chimp => layout::FORMAT_VERSION,
    }
}

/// Bytes of each row's texts, byte strings, arrays and vectors; `None`: the table has
/// no such column, so that counting rows is enough.
fn row_sizes(schema: &TableSchema, batch: &VersionBatch) -> Option<Vec<usize>> {
    let is_wide = |t: &DataType| {
        matches!(t.to_arrow(), Arrow::Utf8View | Arrow::BinaryView)
            || matches!(t, DataType::Array(_) | DataType::Vector(_))
    };
    let wide = schema.columns.iter().zip(&batch.columns);
    let wide: Vec<_> = wide.filter(|(c, _)| is_wide(&c.data_type)).collect();
    if wide.is_empty() {
        return None;
    }
    let mut sizes = vec![0; batch.num_rows()];
    for (_, array) in wide {
        add_sizes(array, &mut sizes);
    }
    Some(sizes)
}

fn add_sizes(array: &ArrayRef, sizes: &mut [usize]) {
    // The lowest 32 bits of a view are its length.
    let of_views = |views: &[u128], sizes: &mut [usize]| {
        for (size, view) in sizes.iter_mut().zip(views) {
            *size += *view as u32 as usize;
        }
    };
    match array.data_type() {
        Arrow::Utf8View => of_views(array.as_string_view().views(), sizes),
        Arrow::BinaryView => of_views(array.as_binary_view().views(), sizes),
        Arrow::FixedSizeList(_, width) => sizes.iter_mut().for_each(|s| *s += 4 * *width as usize),
        Arrow::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            let mut items = vec![8; list.values().len()];
            add_sizes(list.values(), &mut items);
            for (size, ends) in sizes.iter_mut().zip(offsets.windows(2)) {
                *size += items[ends[0] as usize..ends[1] as usize]
                    .iter()
                    .sum::<usize>();
            }
        }
        _ => {}
    }
}
