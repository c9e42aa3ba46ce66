//! Reads everything that a store consists of and tells what is damaged: the manifest, and
//! every page of every segment, decoded. Changes nothing on disk.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronos_env::Env;
use chronos_model::Catalog;

use crate::damage::open_segment;
use crate::error::{with_causes, StoreError};
use crate::log::LogIndex;
use crate::manifest::{self, ManifestState};
use crate::segment::{PageCache, Segment, SegmentError};
use crate::store::{segment_path, Store};

/// What is wrong with a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What was found.
    pub reason: String,
    /// The table whose data it is.
    pub table: Option<String>,
    /// First and last key of what is lost.
    pub keys: Option<(Vec<u8>, Vec<u8>)>,
    /// What is lost.
    pub lost: String,
}

/// What a check tells while it runs.
#[derive(Debug)]
pub enum Checked {
    /// Bytes of a file were read and are in order.
    Bytes(u64),
    /// A file was read to its end.
    File,
    /// Damage.
    Finding(Finding),
}

/// Is told of everything; breaks off when it does.
pub type Report<'a> = dyn FnMut(Checked) -> ControlFlow<()> + 'a;

/// A store that was checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct VerifiedStore {
    /// Log entries up to this one are contained in segments; `None`: there is no
    /// manifest that could be read.
    pub flushed_index: Option<LogIndex>,
}

/// How many bytes the segments of a store take, as far as its manifest can be read.
pub fn segment_bytes(env: &Env, dir: &Path) -> u64 {
    let found = manifest::read(env, dir);
    let segments = found.map(|found| found.state.segments).unwrap_or_default();
    segments.iter().map(|s| s.meta.bytes).sum()
}

/// The tables of a store that nobody has open, as far as its manifest can be read.
pub fn catalog(env: &Env, dir: &Path) -> Catalog {
    let found = manifest::read(env, dir);
    found.map(|found| found.state.catalog).unwrap_or_default()
}

/// Checks the store in a directory that nobody has open.
pub fn verify_store(env: &Env, dir: &Path, report: &mut Report<'_>) -> VerifiedStore {
    let state = match manifest::read(env, dir) {
        Ok(found) => found.state,
        Err(error) => {
            let _ = report(Checked::Finding(of_manifest(dir, &error)));
            return VerifiedStore::default();
        }
    };
    let _ = report(Checked::File);
    let _ = verify_segments(env, dir, &state, report);
    VerifiedStore {
        flushed_index: Some(LogIndex(state.flushed_index)),
    }
}

fn verify_segments(
    env: &Env,
    dir: &Path,
    state: &ManifestState,
    report: &mut Report<'_>,
) -> ControlFlow<()> {
    for entry in &state.segments {
        let path = segment_path(dir, entry.meta.id);
        let Some(schema) = state.catalog.stored().find(|s| s.id == entry.meta.table) else {
            continue;
        };
        // Whatever is decoded is decoded once.
        let cache = Arc::new(PageCache::new(0));
        match open_segment(env, &path, &schema, &entry.meta, &cache) {
            Ok(segment) => verify_segment(&segment, report)?,
            Err(error) => report(Checked::Finding(Finding {
                path,
                offset: 0,
                reason: with_causes(&error),
                table: Some(schema.name.clone()),
                keys: Some((entry.meta.min_key.clone(), entry.meta.max_key.clone())),
                lost: format!("{} versions", entry.meta.rows),
            }))?,
        }
        report(Checked::File)?;
    }
    ControlFlow::Continue(())
}

fn verify_segment(segment: &Segment, report: &mut Report<'_>) -> ControlFlow<()> {
    let pages = segment.pages().len();
    let bytes = segment.meta().bytes;
    if let Err(error) = segment.verify_frame() {
        let is_lost = segment.is_lost();
        report(Checked::Finding(of_segment(segment, None, &error, is_lost)))?;
        if is_lost {
            return ControlFlow::Continue(());
        }
    }
    let mut told = 0;
    for page in 0..pages {
        if let Err(error) = segment.verify_page(page) {
            report(Checked::Finding(of_segment(
                segment,
                Some(page),
                &error,
                true,
            )))?;
        }
        let read = bytes * (page as u64 + 1) / pages as u64;
        report(Checked::Bytes(read - told))?;
        told = read;
    }
    ControlFlow::Continue(())
}

fn of_segment(
    segment: &Segment,
    page: Option<usize>,
    error: &SegmentError,
    has_lost: bool,
) -> Finding {
    let (offset, reason) = match error {
        SegmentError::Damaged { offset, reason, .. } => (*offset, reason.clone()),
        other => (0, with_causes(other)),
    };
    let damage = segment.describe(page, offset, &reason);
    let lost = match (has_lost, page) {
        (true, _) => format!("{} versions", damage.versions),
        (false, _) => "nothing now: a key filter, or what is read when the node starts".to_owned(),
    };
    Finding {
        path: damage.path,
        offset,
        reason,
        table: Some(damage.table),
        keys: Some(damage.keys),
        lost,
    }
}

fn of_manifest(dir: &Path, error: &StoreError) -> Finding {
    let (path, offset, reason) = match error {
        StoreError::Damaged {
            path,
            offset,
            reason,
        } => (path.clone(), *offset, reason.clone()),
        StoreError::Io { path, .. } => (path.clone(), 0, with_causes(error)),
        other => (dir.to_owned(), 0, with_causes(other)),
    };
    Finding {
        path,
        offset,
        reason,
        table: None,
        keys: None,
        lost: "the list of tables and segments: nothing can be found without it".to_owned(),
    }
}

impl Store {
    /// Checks the files of an open store. What is found damaged is known to the store from
    /// then on.
    pub fn verify(&self, report: &mut Report<'_>) {
        let shared = self.shared();
        // One that is replaced while it is read is not there any more the next time.
        let attempts = (0..3).map(|_| manifest::read(&shared.env, &shared.dir));
        let mut outcome = Ok(());
        for attempt in attempts {
            outcome = attempt.map(drop);
            if outcome.is_ok() {
                break;
            }
        }
        let told = match outcome {
            Ok(()) => report(Checked::File),
            Err(error) => report(Checked::Finding(of_manifest(&shared.dir, &error))),
        };
        if told.is_break() {
            return;
        }
        let state = shared.published.read().state.clone();
        for file in state.tables.values().flat_map(|table| table.files()) {
            let told = verify_segment(file, report);
            if told.is_break() || report(Checked::File).is_break() {
                return;
            }
        }
    }
}
