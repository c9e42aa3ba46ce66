//! Reads a segment. (Skeleton: the format follows.)

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::ArrayRef;
use chronos_env::Env;
use chronos_model::{Keys, TableSchema};

use super::{PageCache, PageColumn, PageMeta, SegmentError, SegmentMeta};

/// An open segment.
#[derive(Debug)]
pub struct Segment {
    path: PathBuf,
    meta: SegmentMeta,
    pages: Vec<PageMeta>,
}

impl Segment {
    /// Opens the segment at `path`.
    pub fn open(
        _env: &Env,
        path: &Path,
        _schema: &TableSchema,
        _cache: Arc<PageCache>,
    ) -> Result<Arc<Segment>, SegmentError> {
        Err(skeleton(path))
    }

    /// What a manifest says of it.
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Its pages in key order.
    pub fn pages(&self) -> &[PageMeta] {
        &self.pages
    }

    /// Whether versions of the key may be in the segment.
    pub fn may_contain(&self, _key: &[u8]) -> bool {
        true
    }

    /// The encoded keys of a page.
    pub fn read_keys(&self, _page: usize) -> Result<Arc<Keys>, SegmentError> {
        Err(skeleton(&self.path))
    }

    /// Columns of consecutive pages, one array per column over all the pages.
    pub fn read_columns(
        &self,
        _pages: Range<usize>,
        _columns: &[PageColumn],
    ) -> Result<Vec<ArrayRef>, SegmentError> {
        Err(skeleton(&self.path))
    }

    /// Columns of single rows of a page.
    pub fn read_rows(
        &self,
        _page: usize,
        _rows: &[u32],
        _columns: &[PageColumn],
    ) -> Result<Vec<ArrayRef>, SegmentError> {
        Err(skeleton(&self.path))
    }

    /// Checks every checksum and decodes every page.
    pub fn verify(&self) -> Result<(), SegmentError> {
        Err(skeleton(&self.path))
    }
}

fn skeleton(path: &Path) -> SegmentError {
    SegmentError::InvalidInput {
        path: path.to_owned(),
        reason: "the format is not there yet".into(),
    }
}
