//! Reads a segment: the footer once, then blocks as they are asked for.
//!
//! A scan asks for columns of a few consecutive pages ([`Segment::read_columns`]):
//! their blocks stand side by side, are fetched with one positioned read per column
//! and decoded into one array. Who looks for many rows of a page asks for its keys and then for
//! rows ([`Segment::read_rows`]): decoded pages stay in the shared [`PageCache`]. Who looks for
//! one does not decode it (`point.rs`).
//!
//! Every block's checksum is checked whenever it is read from the file, so damage is
//! an error that names file, page and offset, and never an answer.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::BinaryViewBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{UInt64Type, UInt8Type};
use arrow_array::{Array, ArrayRef, UInt32Array};
use chronos_env::{DiskFile, Env};
use chronos_model::{Keys, Stamp, TableSchema};

use super::cache::{CacheKey, Cached};
use super::damage::Wound;
use super::encoding::ColumnDecoder;
use super::fences::Fences;
use super::frame::{check_schema, meta_of, read_exact, read_frame};
use super::layout::{slot, BlockRef, Footer};
use super::page::{derive_keys, puts_of, words_type, MICROS_OF_RECORDED, SAME_AS_RECORDED};
use super::shaped::Shaped;
use super::{bloom, BlockError, PageCache, PageColumn, PageMeta, SegmentError, SegmentMeta};

/// An open segment. Shared by all who read it; the file may be unlinked meanwhile.
#[derive(Debug)]
pub struct Segment {
    pub(super) content: Content,
    pub(super) path: PathBuf,
    pub(super) schema: TableSchema,
    pub(super) meta: SegmentMeta,
    pub(super) footer: Arc<Footer>,
    pub(super) fences: Arc<Fences>,
    /// How the table's columns are made of the stored ones; `None`: they are the same.
    pub(super) shaped: Option<Shaped>,
    pub(super) cache: Arc<PageCache>,
    pub(super) wound: Arc<Wound>,
}

/// What there is of a segment to read.
#[derive(Clone, Debug)]
pub(super) enum Content {
    File(Arc<dyn DiskFile>),
    /// Nothing, and why.
    Lost {
        offset: u64,
        reason: String,
    },
}

impl Segment {
    /// Opens the segment at `path`, written for `schema` or for an earlier shape of
    /// that table.
    ///
    /// Errors: the file cannot be read, is damaged, of a newer format, or of another
    /// table.
    pub fn open(
        env: &Env,
        path: &Path,
        schema: &TableSchema,
        cache: Arc<PageCache>,
    ) -> Result<Arc<Segment>, SegmentError> {
        let file = env
            .disk
            .open_read(path)
            .map_err(|source| SegmentError::Io {
                path: path.to_owned(),
                action: "open",
                source,
            })?;
        let (footer, bytes) = read_frame(file.as_ref(), path)?;
        check_schema(&footer, schema, path)?;
        let meta = meta_of(&footer, bytes);
        let shaped = Shaped::new(&footer, schema)
            .map_err(|e| super::frame::damaged(path, None, 0, e.to_string()))?;
        Ok(Arc::new(Segment {
            content: Content::File(file),
            path: path.to_owned(),
            schema: schema.clone(),
            meta,
            fences: Arc::new(Fences::new(&footer.pages)),
            footer: Arc::new(footer),
            shaped,
            cache,
            wound: Arc::default(),
        }))
    }

    /// What a manifest says of it.
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Its pages in key order.
    pub fn pages(&self) -> &[PageMeta] {
        match &self.shaped {
            None => &self.footer.pages,
            Some(shaped) => &shaped.pages,
        }
    }

    /// Whether the keys of a page are what its key columns say. Panics if there is no such
    /// page.
    pub(crate) fn derives_keys(&self, page: usize) -> bool {
        !self.footer.all_keys[page]
    }

    /// The pages that may hold versions of a key, judging by their bounds; at most
    /// one, unless the key's versions run over page ends.
    pub fn pages_of(&self, key: &[u8]) -> Range<usize> {
        let pages = self.pages();
        let start = self.fences.first_reaching(pages, key);
        let end = start + pages[start..].partition_point(|p| *p.min_key <= *key);
        start..end
    }

    /// The first page that may hold versions of a key, judging by its bounds: if any does, it
    /// has the newest.
    pub(crate) fn page_of(&self, key: &[u8]) -> Option<usize> {
        let pages = self.pages();
        let page = self.fences.first_reaching(pages, key);
        pages.get(page).filter(|p| *p.min_key <= *key)?;
        Some(page)
    }

    /// Whether versions of the key may be in the segment. False is certain; true is
    /// wrong for about one absent key in a hundred where there is a key filter. A
    /// filter that cannot be read lets everything through: reading the page will tell.
    pub fn may_contain(&self, key: &[u8]) -> bool {
        let pages = self.pages_of(key);
        if pages.is_empty() {
            return false;
        }
        self.page_may_contain(pages.start, key)
    }

    /// The same of a page that has the key within its bounds.
    pub(crate) fn page_may_contain(&self, page: usize, key: &[u8]) -> bool {
        match self.filter(self.footer.group_of(page)) {
            Ok(Some(filter)) => bloom::may_contain(&filter, bloom::hash(key)),
            Ok(None) => true,
            Err(_) => true,
        }
    }

    /// The same, if the key filter is in memory already; without one, it may.
    pub(crate) fn may_contain_as_far_as_known(&self, page: usize, key: &[u8]) -> bool {
        let filter = self
            .cache
            .peek(&self.filter_key(self.footer.group_of(page)));
        match filter {
            Some(Cached::Filter(filter)) => bloom::may_contain(&filter, bloom::hash(key)),
            _ => true,
        }
    }

    /// What keeps decoded pages and rows.
    pub(crate) fn cache(&self) -> &PageCache {
        &self.cache
    }

    /// Columns of the table that it has.
    pub(crate) fn stored_columns(&self) -> usize {
        self.footer.columns.len()
    }

    /// The encoded keys of a page. Panics if there is no such page.
    pub fn read_keys(&self, page: usize) -> Result<Arc<Keys>, SegmentError> {
        self.readable()?;
        let key = self.cache_key(page, slot::KEY);
        if let Some(Cached::Keys(keys)) = self.cache.get(&key) {
            return Ok(keys);
        }
        let keys = Arc::new(self.decode_keys(page)?);
        self.cache.insert(key, Cached::Keys(keys.clone()));
        Ok(keys)
    }

    /// Columns of consecutive pages, one array per column over all the pages. Not
    /// cached. Panics if there are no such pages.
    pub fn read_columns(
        &self,
        pages: Range<usize>,
        columns: &[PageColumn],
    ) -> Result<Vec<ArrayRef>, SegmentError> {
        self.readable()?;
        let mut recorded = None;
        let mut arrays = Vec::with_capacity(columns.len());
        for column in columns {
            let slot = match *column {
                PageColumn::Column(i) => {
                    let rows = pages.clone().map(|page| self.pages()[page].rows as usize);
                    let decode = |slot| self.decode(pages.clone(), slot);
                    arrays.push(self.own_column(i, rows.sum(), decode)?);
                    continue;
                }
                of_version => slot_of(of_version),
            };
            arrays.push(match slot {
                slot::KEY => {
                    let keys = pages
                        .clone()
                        .map(|page| self.read_keys(page))
                        .collect::<Result<Vec<_>, _>>()?;
                    keys_array(keys.iter().flat_map(|k| (0..k.len()).map(|i| k.get(i))))
                }
                slot::RECORDED => self.recorded(&pages, &mut recorded)?,
                slot => self.decode_with(pages.clone(), slot, &mut recorded)?,
            });
        }
        Ok(arrays)
    }

    /// Columns of single rows of a page, in the order asked for. Pages decoded for it
    /// are cached. Panics if there is no such page or row.
    pub fn read_rows(
        &self,
        page: usize,
        rows: &[u32],
        columns: &[PageColumn],
    ) -> Result<Vec<ArrayRef>, SegmentError> {
        self.readable()?;
        let positions = UInt32Array::from(rows.to_vec());
        columns
            .iter()
            .map(|column| {
                let take = |slot| {
                    let array = self.cached_column(page, slot)?;
                    arrow_select::take::take(&array, &positions, None)
                        .map_err(|e| self.damaged(Some(page), 0, e.to_string()))
                };
                match *column {
                    PageColumn::Column(i) => self.own_column(i, rows.len(), take),
                    PageColumn::Key => {
                        let keys = self.read_keys(page)?;
                        Ok(keys_array(rows.iter().map(|row| keys.get(*row as usize))))
                    }
                    of_version => take(slot_of(of_version)),
                }
            })
            .collect()
    }

    /// A column of the table, of which `read` gives what is stored in a slot.
    fn own_column(
        &self,
        column: usize,
        rows: usize,
        read: impl FnOnce(usize) -> Result<ArrayRef, SegmentError>,
    ) -> Result<ArrayRef, SegmentError> {
        match &self.shaped {
            None => read(slot::FIRST_COLUMN + column),
            Some(shaped) => shaped
                .column(column, rows, |stored| read(slot::FIRST_COLUMN + stored))?
                .map_err(|e| self.damaged(None, 0, e.to_string())),
        }
    }

    fn cache_key(&self, page: usize, slot: usize) -> CacheKey {
        CacheKey {
            segment: self.meta.id,
            page: page as u32,
            column: slot as u32,
        }
    }

    fn filter_key(&self, group: usize) -> CacheKey {
        CacheKey {
            segment: self.meta.id,
            page: group as u32,
            column: CacheKey::FILTER,
        }
    }

    fn cached_column(&self, page: usize, slot: usize) -> Result<ArrayRef, SegmentError> {
        let key = self.cache_key(page, slot);
        if let Some(Cached::Column(array)) = self.cache.get(&key) {
            return Ok(array);
        }
        let array = self.decode(page..page + 1, slot)?;
        self.cache.insert(key, Cached::Column(array.clone()));
        Ok(array)
    }

    fn filter(&self, group: usize) -> Result<Option<Arc<[u8]>>, SegmentError> {
        let Some((_, Some(block))) = self.footer.groups.get(group) else {
            return Ok(None);
        };
        let key = self.filter_key(group);
        if let Some(Cached::Filter(filter)) = self.cache.get(&key) {
            return Ok(Some(filter));
        }
        let filter: Arc<[u8]> = self.fetch(*block, None)?.into();
        self.cache.insert(key, Cached::Filter(filter.clone()));
        Ok(Some(filter))
    }

    pub(super) fn decode_keys(&self, page: usize) -> Result<Keys, SegmentError> {
        let rows = self.pages()[page].rows as usize;
        let block = self.footer.block(page, slot::KEY);
        if self.footer.all_keys[page] {
            return self.stored_keys(page, rows);
        }
        let columns = (self.footer.primary_key.iter())
            .map(|c| self.decode(page..page + 1, slot::FIRST_COLUMN + c))
            .collect::<Result<Vec<_>, _>>()?;
        let is_empty = matches!(block, BlockRef::Inline { bytes: 0, .. });
        let kinds = match is_empty {
            true => None,
            false => Some(self.decode(page..page + 1, slot::KIND)?),
        };
        let puts = kinds
            .as_ref()
            .and_then(|k| puts_of(k.as_primitive::<UInt8Type>().values()));
        let error = |e: BlockError| self.block_error(page, slot::KEY, e);
        let derived = derive_keys(&self.schema, &columns, puts.as_deref()).map_err(error)?;
        let Some(puts) = puts else {
            return match derived.len() == rows {
                true => Ok(derived),
                false => Err(error(BlockError::new("another count of keys than rows"))),
            };
        };
        let deletes = self.stored_keys(page, rows - puts.len())?;
        let mut keys = Keys::default();
        let mut next_put = puts.iter().peekable();
        let (mut put, mut delete) = (0, 0);
        for row in 0..rows as u32 {
            if next_put.next_if_eq(&&row).is_some() {
                keys.push(derived.get(put));
                put += 1;
            } else {
                keys.push(deletes.get(delete));
                delete += 1;
            }
        }
        Ok(keys)
    }

    fn stored_keys(&self, page: usize, count: usize) -> Result<Keys, SegmentError> {
        let mut decoder = ColumnDecoder::new(&chronos_model::DataType::Bytea, count);
        let array = self
            .with_block(page, slot::KEY, |bytes| decoder.push(bytes, count))
            .and_then(|()| {
                let finished = decoder.finish();
                finished.map_err(|e| self.block_error(page, slot::KEY, e))
            })?;
        let mut keys = Keys::default();
        for row in 0..array.len() {
            keys.push(array.as_binary_view().value(row));
        }
        Ok(keys)
    }

    /// Decodes one slot of consecutive pages into one array.
    pub(super) fn decode(
        &self,
        pages: Range<usize>,
        slot: usize,
    ) -> Result<ArrayRef, SegmentError> {
        self.decode_with(pages, slot, &mut None)
    }

    /// The recorded stamps of pages, decoded once per request: others derive from them.
    fn recorded(
        &self,
        pages: &Range<usize>,
        recorded: &mut Option<ArrayRef>,
    ) -> Result<ArrayRef, SegmentError> {
        if let Some(recorded) = recorded {
            return Ok(recorded.clone());
        }
        let decoded = self.decode(pages.clone(), slot::RECORDED)?;
        Ok(recorded.insert(decoded).clone())
    }

    fn decode_with(
        &self,
        pages: Range<usize>,
        slot: usize,
        recorded: &mut Option<ArrayRef>,
    ) -> Result<ArrayRef, SegmentError> {
        let rows_of = |page: usize| self.pages()[page].rows as usize;
        let rows: usize = pages.clone().map(rows_of).sum();
        let is_words = slot < slot::FIRST_COLUMN;
        let mut decoder = if is_words {
            ColumnDecoder::of_words(words_type(slot), rows)
        } else {
            let stored = &self.footer.columns[slot - slot::FIRST_COLUMN];
            ColumnDecoder::new(&stored.data_type, rows)
        };
        let is_derived = matches!(slot, slot::ORIGIN | slot::VALID_FROM);
        let mut row = 0;
        self.each_block(pages.clone(), slot, |page, bytes| {
            let rows = rows_of(page);
            let pushed = match (is_words, bytes) {
                (true, [tag @ (SAME_AS_RECORDED | MICROS_OF_RECORDED)]) if is_derived => {
                    let stamps = self.recorded(&pages, recorded)?.slice(row, rows);
                    push_recorded(&mut decoder, &stamps, *tag);
                    Ok(())
                }
                (true, bytes) => decoder.push_words(bytes, rows),
                (false, bytes) => decoder.push(bytes, rows),
            };
            row += rows;
            pushed.map_err(|e| self.block_error(page, slot, e))
        })?;
        let array = decoder.finish();
        array.map_err(|e| self.block_error(pages.start, slot, e))
    }

    /// Gives the bytes of a block.
    pub(super) fn with_block(
        &self,
        page: usize,
        slot: usize,
        use_block: impl FnOnce(&[u8]) -> Result<(), BlockError>,
    ) -> Result<(), SegmentError> {
        let used = match self.footer.block(page, slot) {
            BlockRef::Inline { start, bytes } => use_block(self.footer.inline(start, bytes)),
            block => use_block(&self.fetch(block, Some(page))?),
        };
        used.map_err(|e| self.block_error(page, slot, e))
    }

    /// Gives a slot's blocks page by page, reading neighbours at once.
    fn each_block(
        &self,
        pages: Range<usize>,
        slot: usize,
        mut use_block: impl FnMut(usize, &[u8]) -> Result<(), SegmentError>,
    ) -> Result<(), SegmentError> {
        let mut page = pages.start;
        while page < pages.end {
            let (start, first) = match self.footer.block(page, slot) {
                BlockRef::Inline { start, bytes } => {
                    use_block(page, self.footer.inline(start, bytes))?;
                    page += 1;
                    continue;
                }
                BlockRef::At { offset, bytes, .. } => (offset, bytes),
            };
            let mut end = start + u64::from(first);
            let mut last = page + 1;
            while last < pages.end {
                match self.footer.block(last, slot) {
                    BlockRef::At { offset, bytes, .. } if offset == end => {
                        end += u64::from(bytes);
                    }
                    BlockRef::Inline { .. } => {}
                    BlockRef::At { .. } => break,
                }
                last += 1;
            }
            let read = self.read((end - start) as usize, start, Some(page))?;
            for page in page..last {
                match self.footer.block(page, slot) {
                    BlockRef::Inline { start, bytes } => {
                        use_block(page, self.footer.inline(start, bytes))?;
                    }
                    BlockRef::At { offset, bytes, crc } => {
                        let from = (offset - start) as usize;
                        let block = &read[from..from + bytes as usize];
                        self.check(block, crc, offset, Some(page))?;
                        use_block(page, block)?;
                    }
                }
            }
            page = last;
        }
        Ok(())
    }

    /// Reads one block and checks it.
    pub(super) fn fetch(
        &self,
        block: BlockRef,
        page: Option<usize>,
    ) -> Result<Vec<u8>, SegmentError> {
        match block {
            BlockRef::Inline { start, bytes } => Ok(self.footer.inline(start, bytes).to_vec()),
            BlockRef::At { offset, bytes, crc } => {
                let read = self.read(bytes as usize, offset, page)?;
                self.check(&read, crc, offset, page)?;
                Ok(read)
            }
        }
    }

    /// The file, if there is anything of it to read.
    pub(super) fn file(&self) -> Result<&dyn DiskFile, SegmentError> {
        match &self.content {
            Content::File(file) => Ok(file.as_ref()),
            Content::Lost { offset, reason } => Err(self.damaged(None, *offset, reason)),
        }
    }

    fn read(
        &self,
        bytes: usize,
        offset: u64,
        page: Option<usize>,
    ) -> Result<Vec<u8>, SegmentError> {
        let file = self.file()?;
        let mut buffer = vec![0; bytes];
        read_exact(file, &self.path, &mut buffer, offset, page).map_err(|e| self.found(e))?;
        Ok(buffer)
    }

    fn check(
        &self,
        block: &[u8],
        crc: u32,
        offset: u64,
        page: Option<usize>,
    ) -> Result<(), SegmentError> {
        match crc32fast::hash(block) == crc || super::checksums_are_ignored() {
            true => Ok(()),
            false => Err(self.damaged(page, offset, "a block's checksum does not match")),
        }
    }

    pub(super) fn block_error(&self, page: usize, slot: usize, error: BlockError) -> SegmentError {
        let offset = match self.footer.block(page, slot) {
            BlockRef::At { offset, .. } => offset,
            BlockRef::Inline { .. } => 0,
        };
        self.damaged(Some(page), offset, error.reason)
    }
}

fn slot_of(column: PageColumn) -> usize {
    match column {
        PageColumn::Key => slot::KEY,
        PageColumn::Recorded => slot::RECORDED,
        PageColumn::Origin => slot::ORIGIN,
        PageColumn::OriginNode => slot::ORIGIN_NODE,
        PageColumn::Kind => slot::KIND,
        PageColumn::ValidFrom => slot::VALID_FROM,
        PageColumn::ValidTo => slot::VALID_TO,
        PageColumn::Column(i) => slot::FIRST_COLUMN + i,
    }
}

fn push_recorded(decoder: &mut ColumnDecoder, stamps: &ArrayRef, tag: u8) {
    let stamps = stamps.as_primitive::<UInt64Type>().values().iter().copied();
    match tag {
        SAME_AS_RECORDED => decoder.push_decoded(stamps),
        _ => decoder.push_decoded(stamps.map(|r| Stamp(r).micros() as u64)),
    }
}

fn keys_array<'a>(keys: impl Iterator<Item = &'a [u8]>) -> ArrayRef {
    let mut builder = BinaryViewBuilder::new();
    keys.for_each(|key| builder.append_value(key));
    Arc::new(builder.finish())
}
