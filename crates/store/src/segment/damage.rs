//! Damage of a segment that is in use: what was found first, and segments of which
//! nothing can be read at all.
//!
//! A damaged segment stays where it is. Reads that need the damaged part are refused,
//! each on its own; the finding is told once and kept, so that the node can report it and
//! compaction leaves the file alone.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use chronos_model::{TableId, TableSchema};

use super::fences::Fences;
use super::layout::{slot, Footer};
use super::reader::Content;
use super::{PageCache, PageMeta, Segment, SegmentError, SegmentId, SegmentMeta};

/// What is wrong with a segment that the store uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The segment.
    pub id: SegmentId,
    /// Its table's name.
    pub table: String,
    /// The file.
    pub path: PathBuf,
    /// The page that was found damaged first; `None`: the file as a whole.
    pub page: Option<usize>,
    /// Offset in the file.
    pub offset: u64,
    /// What was found.
    pub reason: String,
    /// First and last key of what cannot be read.
    pub keys: (Vec<u8>, Vec<u8>),
    /// Versions in what cannot be read.
    pub versions: u64,
}

/// The first findings of a segment.
#[derive(Debug, Default)]
pub(super) struct Wound {
    /// In a page, or that nothing can be read.
    versions: OnceLock<Damage>,
    /// In a key filter, or in a footer that was read well when the segment was opened.
    beside: OnceLock<Damage>,
}

impl Segment {
    /// Stands for a segment of which nothing can be read: it has the bounds that the
    /// manifest gives it, as one page, and every read of it fails.
    pub(crate) fn lost(
        path: &Path,
        schema: &TableSchema,
        meta: &SegmentMeta,
        cache: Arc<PageCache>,
        error: &SegmentError,
    ) -> Arc<Segment> {
        let (offset, reason) = match error {
            SegmentError::Damaged { offset, reason, .. } => (*offset, reason.clone()),
            SegmentError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                let reason = "it is missing, although the manifest names it";
                (0, reason.to_owned())
            }
            other => (0, crate::error::with_causes(other)),
        };
        let footer = footer_of_lost(meta);
        let segment = Arc::new(Segment {
            content: Content::Lost { offset, reason },
            path: path.to_owned(),
            schema: schema.clone(),
            meta: meta.clone(),
            fences: Arc::new(Fences::new(&footer.pages)),
            footer: Arc::new(footer),
            shaped: None,
            cache,
            wound: Arc::default(),
        });
        // Noting it is all that this is for.
        let _ = segment.readable();
        segment
    }

    /// What was found to be damaged first, if anything was.
    pub fn damage(&self) -> Option<&Damage> {
        let Wound { versions, beside } = &*self.wound;
        versions.get().or_else(|| beside.get())
    }

    /// Whether versions are known to be lost. Damage of anything else keeps nobody from
    /// reading them, and is gone when they are written anew.
    pub(crate) fn has_lost_versions(&self) -> bool {
        self.wound.versions.get().is_some()
    }

    /// Whether nothing of it can be read.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.content, Content::Lost { .. })
    }

    /// Fails if nothing of the segment can be read.
    pub(super) fn readable(&self) -> Result<(), SegmentError> {
        self.file().map(|_| ())
    }

    /// The error of damage that a read met; the first of them is noted.
    pub(super) fn damaged(
        &self,
        page: Option<usize>,
        offset: u64,
        reason: impl Into<String>,
    ) -> SegmentError {
        let reason = reason.into();
        self.note(page, offset, &reason);
        SegmentError::Damaged {
            table: Some(self.schema.name.clone()),
            path: self.path.clone(),
            page,
            offset,
            reason,
        }
    }

    /// The same for an error that does not know the table yet.
    pub(super) fn found(&self, error: SegmentError) -> SegmentError {
        match error {
            SegmentError::Damaged {
                page,
                offset,
                reason,
                ..
            } => self.damaged(page, offset, reason),
            other => other,
        }
    }

    fn note(&self, page: Option<usize>, offset: u64, reason: &str) {
        let wound = match (page, &self.content) {
            (None, Content::File(_)) => &self.wound.beside,
            _ => &self.wound.versions,
        };
        wound.get_or_init(|| {
            let damage = self.describe(page, offset, reason);
            tracing::error!(
                table = damage.table,
                path = %damage.path.display(),
                offset,
                page,
                reason,
                "a segment is damaged: what needs the damaged part is refused, everything else goes on"
            );
            damage
        });
    }

    /// A finding in a page, or in the file as a whole.
    pub(crate) fn describe(&self, page: Option<usize>, offset: u64, reason: &str) -> Damage {
        let of_page = page.and_then(|page| self.pages().get(page));
        let (keys, versions) = match of_page {
            Some(page) => (
                (page.min_key.to_vec(), page.max_key.to_vec()),
                u64::from(page.rows),
            ),
            None => (
                (self.meta.min_key.clone(), self.meta.max_key.clone()),
                self.meta.rows,
            ),
        };
        Damage {
            id: self.meta.id,
            table: self.schema.name.clone(),
            path: self.path.clone(),
            page,
            offset,
            reason: reason.to_owned(),
            keys,
            versions,
        }
    }
}

/// One page with the segment's bounds, of which nothing is known that would let a reader
/// pass it by.
fn footer_of_lost(meta: &SegmentMeta) -> Footer {
    Footer {
        id: meta.id,
        table: TableId(meta.table.0),
        primary_key: Vec::new(),
        columns: Vec::new(),
        pages: vec![PageMeta {
            rows: u32::try_from(meta.rows).unwrap_or(u32::MAX),
            min_key: meta.min_key.clone().into(),
            max_key: meta.max_key.clone().into(),
            min_recorded: meta.min_recorded,
            max_recorded: meta.max_recorded,
            one_version_per_key: false,
            has_deletes: true,
            open_valid: false,
            first_versions: false,
            columns: Box::from([]),
        }],
        all_keys: vec![true],
        blocks: Vec::with_capacity(slot::FIRST_COLUMN),
        groups: Vec::new(),
        bytes: Bytes::new(),
    }
}
