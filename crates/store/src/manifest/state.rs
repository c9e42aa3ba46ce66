//! What a manifest says, and what its edits do to it.

use std::collections::BTreeMap;

use chronos_model::{Catalog, Stamp, TableId};
use serde::{Deserialize, Serialize};

use crate::buckets::Bucket;
use crate::history::{Place, Superseded};
use crate::log::Term;
use crate::progress::Membership;
use crate::segment::{SegmentId, SegmentMeta};

/// Everything the manifest knows.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ManifestState {
    /// Log entries up to this one are contained in segments and catalog.
    pub(crate) flushed_index: u64,
    /// The term of that entry. Before version 4 there was one term.
    #[serde(default = "first_term")]
    pub(crate) flushed_term: u64,
    /// The highest stamp among them.
    pub(crate) floor: u64,
    /// Who belongs to the cluster as of `flushed_index`, if that was ever noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) membership: Option<Membership>,
    pub(crate) next_segment_id: u64,
    /// Tables as of `flushed_index`.
    pub(crate) catalog: Catalog,
    /// Tables that were truncated.
    pub(crate) truncated: Vec<Truncated>,
    pub(crate) segments: Vec<SegmentEntry>,
}

/// The only term there was before terms were noted.
fn first_term() -> u64 {
    Term::FIRST.0
}

/// A segment of the store.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct SegmentEntry {
    #[serde(flatten)]
    pub(crate) meta: SegmentMeta,
    /// Of a run of history; `None`: it may hold versions that are current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) superseded: Option<Superseded>,
    /// The window of time that all its rows are in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bucket: Option<Bucket>,
    /// Of all bytes of the file; `None`: written before version 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crc32: Option<u32>,
}

impl SegmentEntry {
    pub(crate) fn place(&self) -> Place {
        Place {
            superseded: self.superseded,
            bucket: self.bucket,
        }
    }
}

/// When a table was truncated.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Truncated {
    pub(crate) table: TableId,
    /// Stamps, ascending.
    pub(crate) at: Vec<u64>,
}

/// One atomic step.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Edit {
    /// The beginning of a file: all that was true before.
    Checkpoint(ManifestState),
    /// Memtables became segments.
    Flush(Flush),
    /// Segments became other segments with the same versions.
    Compact(Compact),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Flush {
    pub(crate) flushed_index: u64,
    #[serde(default = "first_term")]
    pub(crate) flushed_term: u64,
    pub(crate) floor: u64,
    /// Only if it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) membership: Option<Membership>,
    pub(crate) next_segment_id: u64,
    /// Only if it changed. Segments of tables that it lacks are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) catalog: Option<Catalog>,
    /// Only if it changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) truncated: Option<Vec<Truncated>>,
    pub(crate) added: Vec<SegmentEntry>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Compact {
    pub(crate) next_segment_id: u64,
    pub(crate) removed: Vec<SegmentId>,
    pub(crate) added: Vec<SegmentEntry>,
}

impl ManifestState {
    /// Applies an edit; returns the segments it removed.
    pub(crate) fn apply(&mut self, edit: Edit) -> Vec<SegmentId> {
        match edit {
            Edit::Checkpoint(state) => {
                *self = state;
                Vec::new()
            }
            Edit::Flush(flush) => self.flush(flush),
            Edit::Compact(compact) => {
                self.next_segment_id = self.next_segment_id.max(compact.next_segment_id);
                let removed = take(&mut self.segments, |s| compact.removed.contains(&s.meta.id));
                self.segments.extend(compact.added);
                removed
            }
        }
    }

    fn flush(&mut self, flush: Flush) -> Vec<SegmentId> {
        self.flushed_index = flush.flushed_index;
        self.flushed_term = flush.flushed_term;
        if flush.membership.is_some() {
            self.membership = flush.membership;
        }
        self.floor = flush.floor;
        self.next_segment_id = self.next_segment_id.max(flush.next_segment_id);
        self.segments.extend(flush.added);
        if let Some(truncated) = flush.truncated {
            self.truncated = truncated;
        }
        let Some(catalog) = flush.catalog else {
            return Vec::new();
        };
        self.catalog = catalog;
        let catalog = &self.catalog;
        take(&mut self.segments, |s| !catalog.stores(s.meta.table))
    }

    /// Truncations per table, ascending.
    pub(crate) fn truncations(&self) -> BTreeMap<TableId, Vec<Stamp>> {
        let stamps = |at: &[u64]| at.iter().map(|at| Stamp(*at)).collect();
        self.truncated
            .iter()
            .map(|t| (t.table, stamps(&t.at)))
            .collect()
    }
}

/// Removes the segments that a condition picks.
fn take(segments: &mut Vec<SegmentEntry>, pick: impl Fn(&SegmentEntry) -> bool) -> Vec<SegmentId> {
    let picked = segments
        .iter()
        .filter(|s| pick(s))
        .map(|s| s.meta.id)
        .collect();
    segments.retain(|s| !pick(s));
    picked
}
