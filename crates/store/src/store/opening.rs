//! Opening a directory: what belongs to the store and what does not, and the state that the
//! manifest names.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Weak};

use chronos_env::Env;

use super::{segment_path, SEGMENTS};
use crate::damage;
use crate::error::StoreError;
use crate::index;
use crate::manifest::{self, Manifest};
use crate::segment::{PageCache, SegmentId};
use crate::state::{Directory, FileName, SegmentFile, StoreState, TableState};

pub(super) fn create_dirs(env: &Env, dir: &Path) -> Result<(), StoreError> {
    let segments = dir.join(SEGMENTS);
    let disk = &env.disk;
    // Those that are created, and the two that an earlier process may have created
    // and not have made durable.
    let exists = |path: &Path| disk.exists(path).unwrap_or(false);
    let fresh = segments
        .ancestors()
        .skip(2)
        .take_while(|path| !exists(path))
        .count();
    let names_in: Vec<&Path> = segments.ancestors().skip(1).take(2 + fresh).collect();
    disk.create_dir_all(&segments)
        .map_err(|e| StoreError::io("create", &segments, e))?;
    for dir in names_in {
        let dir = match dir.as_os_str().is_empty() {
            true => Path::new("."),
            false => dir,
        };
        disk.sync_dir(dir)
            .map_err(|e| StoreError::io("sync", dir, e))?;
    }
    Ok(())
}

/// Removes files of segments that the manifest does not name: what a flush or
/// compaction left that was cut short, and what a reader used until the end.
pub(super) fn remove_orphans(
    env: &Env,
    dir: &Path,
    found: &manifest::Found,
) -> Result<(), StoreError> {
    let segments = dir.join(SEGMENTS);
    let names = env
        .disk
        .read_dir(&segments)
        .map_err(|e| StoreError::io("list", &segments, e))?;
    for name in names {
        let path = segments.join(&name);
        let named = &found.state.segments;
        if named
            .iter()
            .any(|entry| segment_path(dir, entry.meta.id) == path)
        {
            continue;
        }
        if found.newest.is_none() && name.ends_with(".segment") {
            // Only a lost manifest explains this; its segments must not go too.
            return Err(StoreError::Missing {
                path: dir.join("manifest-*"),
                named_by: "there are segments",
            });
        }
        tracing::info!(path = %path.display(), "removing a file that the manifest does not name");
        env.disk
            .remove_file(&path)
            .map_err(|e| StoreError::io("remove", &path, e))?;
    }
    Ok(())
}

pub(super) fn initial_state(
    env: &Env,
    dir: &Path,
    manifest: &Manifest,
    cache: &Arc<PageCache>,
    files: &mut HashMap<SegmentId, Weak<FileName>>,
    directory: &Arc<Directory>,
) -> Result<StoreState, StoreError> {
    let known = manifest.state();
    let truncations = known.truncations();
    let mut tables = HashMap::new();
    for schema in known.catalog.stored() {
        let mut table = TableState::new(schema.clone());
        if let Some(stamps) = truncations.get(&schema.id) {
            table.truncated = stamps.clone().into();
        }
        let entries = known.segments.iter();
        for entry in entries.filter(|s| s.meta.table == schema.id) {
            let path = segment_path(dir, entry.meta.id);
            let segment = damage::open_segment(env, &path, &schema, &entry.meta, cache)?;
            let file = SegmentFile::new(
                directory,
                env.clone(),
                path,
                segment,
                &schema,
                entry.place(),
            );
            let file = Arc::new(file.with_crc32(entry.crc32));
            files.insert(entry.meta.id, Arc::downgrade(file.name()));
            table.add_file(&file)?;
        }
        tables.insert(schema.id, Arc::new(table));
    }
    index::attach(&mut tables, &known.catalog);
    Ok(StoreState {
        catalog: Arc::new(known.catalog.clone()),
        tables: Arc::new(tables),
    })
}
