//! The manifest: which segments the store consists of, and up to where in the log they
//! reach.
//!
//! ```text
//!   manifest-0000000000000007
//!     header | checkpoint | edit | edit | edit ...
//! ```
//!
//! An edit is one atomic step: appended, synced, and only then true. A new file with
//! a fresh checkpoint is begun at every open and when the edits have grown long; it
//! is written under another name, synced and renamed. Bytes: `docs/format/manifest.md`.
//!
//! Refuses to go on after a failed write or sync: the caller poisons the store.

mod format;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronos_env::{DiskFile, Env};

pub(crate) use state::{Compact, Edit, Flush, ManifestState, SegmentEntry, Truncated};

use crate::error::StoreError;
use crate::segment::SegmentId;

/// Edits of a file in bytes, beyond which a new one is begun, unless its checkpoint
/// is longer.
const EDIT_BYTES_MAX: u64 = 1 << 20;

const PREFIX: &str = "manifest-";
const TEMPORARY: &str = ".tmp";

#[derive(Debug)]
pub(crate) struct Manifest {
    env: Env,
    dir: PathBuf,
    number: u64,
    file: Arc<dyn DiskFile>,
    /// Where the next edit is written.
    end: u64,
    checkpoint_end: u64,
    state: ManifestState,
}

/// What [`read`] found in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Number of the newest manifest; `None`: there is none.
    pub(crate) newest: Option<u64>,
    /// What it says.
    pub(crate) state: ManifestState,
    /// Names of everything in the directory.
    names: Vec<String>,
}

/// Reads the newest manifest of a directory and changes nothing.
pub(crate) fn read(env: &Env, dir: &Path) -> Result<Found, StoreError> {
    let names = env
        .disk
        .read_dir(dir)
        .map_err(|e| StoreError::io("list", dir, e))?;
    let newest = names.iter().filter_map(|name| number_of(name)).max();
    let state = match newest {
        None => ManifestState::default(),
        Some(number) => {
            let path = path_of(dir, number);
            let bytes = env
                .disk
                .read(&path)
                .map_err(|e| StoreError::io("read", &path, e))?;
            format::read(&path, &bytes)?
        }
    };
    Ok(Found {
        newest,
        state,
        names,
    })
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:016x}"))
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?;
    (digits.len() == 16)
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

impl Manifest {
    /// Begins a new file that says what was found, and removes older ones.
    pub(crate) fn open(env: &Env, dir: &Path, found: Found) -> Result<Manifest, StoreError> {
        let number = found.newest.unwrap_or(0) + 1;
        let manifest = Manifest::begin(env, dir, number, found.state)?;
        manifest.remove_others(&found.names);
        Ok(manifest)
    }

    /// Writes a new file that holds a checkpoint.
    fn begin(
        env: &Env,
        dir: &Path,
        number: u64,
        state: ManifestState,
    ) -> Result<Manifest, StoreError> {
        let path = path_of(dir, number);
        let mut temporary = path.clone().into_os_string();
        temporary.push(TEMPORARY);
        let temporary = PathBuf::from(temporary);
        let mut bytes = format::header();
        format::append(&mut bytes, &Edit::Checkpoint(state.clone()), &path)?;
        let disk = &env.disk;
        let file = disk
            .create(&temporary)
            .map_err(|e| StoreError::io("create", &temporary, e))?;
        file.write_at(&bytes, 0)
            .map_err(|e| StoreError::io("write", &temporary, e))?;
        file.sync_all()
            .map_err(|e| StoreError::io("sync", &temporary, e))?;
        disk.rename(&temporary, &path)
            .map_err(|e| StoreError::io("rename", &temporary, e))?;
        disk.sync_dir(dir)
            .map_err(|e| StoreError::io("sync", dir, e))?;
        Ok(Manifest {
            env: env.clone(),
            dir: dir.to_owned(),
            number,
            file,
            end: bytes.len() as u64,
            checkpoint_end: bytes.len() as u64,
            state,
        })
    }

    /// Writes a manifest with nothing behind its checkpoint, for a directory that no store has
    /// open; returns its path.
    pub(crate) fn write_state(
        env: &Env,
        dir: &Path,
        number: u64,
        state: ManifestState,
    ) -> Result<PathBuf, StoreError> {
        Manifest::begin(env, dir, number, state)?;
        Ok(path_of(dir, number))
    }

    /// What is true now.
    pub(crate) fn state(&self) -> &ManifestState {
        &self.state
    }

    /// Takes a segment id, never to be given again by this process; the next edit
    /// makes that durable.
    pub(crate) fn next_segment_id(&mut self) -> SegmentId {
        let id = SegmentId(self.state.next_segment_id);
        self.state.next_segment_id += 1;
        id
    }

    /// Makes an edit true; returns the segments it removed.
    ///
    /// Errors: it may or may not be true after a restart; nothing more may be written.
    pub(crate) fn publish(&mut self, edit: Edit) -> Result<Vec<SegmentId>, StoreError> {
        if self.end - self.checkpoint_end > EDIT_BYTES_MAX.max(self.checkpoint_end) {
            let next = Manifest::begin(&self.env, &self.dir, self.number + 1, self.state.clone())?;
            let old = path_of(&self.dir, self.number);
            *self = next;
            self.remove(&old);
        }
        let path = path_of(&self.dir, self.number);
        let mut bytes = Vec::new();
        format::append(&mut bytes, &edit, &path)?;
        self.file
            .write_at(&bytes, self.end)
            .map_err(|e| StoreError::io("write", &path, e))?;
        self.file
            .sync_data()
            .map_err(|e| StoreError::io("sync", &path, e))?;
        self.end += bytes.len() as u64;
        Ok(self.state.apply(edit))
    }

    /// Removes older manifests and what a power cut left unfinished.
    fn remove_others(&self, names: &[String]) {
        let current = path_of(&self.dir, self.number);
        for name in names.iter().filter(|n| n.starts_with(PREFIX)) {
            let path = self.dir.join(name);
            let mut temporary = current.clone().into_os_string();
            temporary.push(TEMPORARY);
            // The temporary name of the current file was just renamed away.
            if path != current && path.as_os_str() != temporary {
                self.remove(&path);
            }
        }
    }

    /// A file that is not needed and cannot be removed now is removed at a later open.
    fn remove(&self, path: &Path) {
        if let Err(error) = self.env.disk.remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove an old manifest");
        }
    }
}

#[cfg(test)]
mod damage_tests;

#[cfg(test)]
mod tests {
    use chronos_env::SimEnv;

    use super::*;

    fn flush(index: u64) -> Edit {
        Edit::Flush(Flush {
            flushed_index: index,
            flushed_term: index,
            floor: index,
            membership: None,
            next_segment_id: index,
            catalog: None,
            truncated: None,
            added: Vec::new(),
        })
    }

    #[test]
    fn edits_survive_a_new_open_and_a_change_of_files() {
        let sim = SimEnv::new(1);
        let dir = Path::new("/m");
        sim.env().disk.create_dir_all(dir).unwrap();
        let found = read(&sim.env(), dir).unwrap();
        assert_eq!(found.newest, None);
        let mut manifest = Manifest::open(&sim.env(), dir, found).unwrap();
        for index in 1..=20_000 {
            manifest.publish(flush(index)).unwrap();
        }
        assert!(manifest.number > 1, "no new file was begun");
        let found = read(&sim.env(), dir).unwrap();
        assert_eq!(found.newest, Some(manifest.number));
        let manifest = Manifest::open(&sim.env(), dir, found).unwrap();
        assert_eq!(manifest.state().flushed_index, 20_000);
        assert_eq!(sim.env().disk.read_dir(dir).unwrap().len(), 1);
    }

    /// As version 1 wrote it: no segment is a run of history, no table has an index. Version 2
    /// has no indexes either, and up to version 3 there were no terms.
    #[test]
    fn a_manifest_of_an_older_version_is_read() {
        let checkpoint = r#"{"checkpoint":{"flushed_index":9,"floor":8,"next_segment_id":3,"catalog":{"version":0,"next_table_id":1,"tables":{}},"truncated":[],"segments":[{"id":2,"table":1,"rows":10,"bytes":400,"min_key":[1],"max_key":[2],"min_recorded":1,"max_recorded":7,"one_version_per_key":false,"has_deletes":true}]}}"#;
        for version in [1, 2, 3] {
            let mut bytes = b"CHRONMAN".to_vec();
            bytes.extend(u32::to_le_bytes(version));
            bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
            let length = (checkpoint.len() as u32).to_le_bytes();
            let crc = crc32fast::hash(&[&length, checkpoint.as_bytes()].concat());
            bytes.extend(length);
            bytes.extend(crc.to_le_bytes());
            bytes.extend(checkpoint.as_bytes());
            let state = format::read(Path::new("manifest-1"), &bytes).unwrap();
            assert_eq!((state.flushed_index, state.segments.len()), (9, 1));
            assert_eq!(state.segments[0].meta.rows, 10);
            assert_eq!(state.segments[0].superseded, None);
            assert!(state.catalog.indexes.is_empty());
            assert_eq!((state.flushed_term, state.membership), (1, None));
            assert_eq!(state.segments[0].crc32, None);
        }
    }

    #[test]
    fn a_torn_last_edit_is_not_true_and_damage_before_it_is_reported() {
        let sim = SimEnv::new(1);
        let env = sim.env();
        let dir = Path::new("/m");
        env.disk.create_dir_all(dir).unwrap();
        let found = super::read(&env, dir).unwrap();
        let mut manifest = Manifest::open(&env, dir, found).unwrap();
        manifest.publish(flush(1)).unwrap();
        let one = manifest.end as usize;
        manifest.publish(flush(2)).unwrap();
        let path = path_of(dir, manifest.number);
        let whole = env.disk.read(&path).unwrap();
        let read = |bytes: &[u8]| format::read(&path, bytes).map(|s| s.flushed_index);
        for end in one..whole.len() {
            assert_eq!(read(&whole[..end]).unwrap(), 1);
        }
        assert_eq!(read(&whole).unwrap(), 2);
        for at in 0..one {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            let error = read(&bytes).expect_err("damage went unnoticed");
            assert!(error.to_string().contains("manifest-"), "{error}");
        }
    }
}
