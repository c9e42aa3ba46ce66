//! Which scripts there are: files of given directories, sorted by their paths.

use std::path::{Path, PathBuf};

/// Endings of scripts.
const ENDINGS: &[&str] = &["slt", "test", "slt_good"];
/// A directory that is deeper than this is taken for a cycle of links.
const DEPTH_MAX: usize = 64;

/// A script.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// How it is shown: as it was named on the command line.
    pub(crate) name: String,
}

/// The scripts in `paths` with one of `filters` in their path; without filters, all.
pub(crate) fn collect(paths: &[PathBuf], filters: &[String]) -> Result<Vec<Script>, String> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            walk(path, 0, &mut found)?;
        } else if path.is_file() {
            found.push(path.clone());
        } else {
            return Err(format!("there is no {}", path.display()));
        }
    }
    found.sort();
    found.dedup();
    let scripts = found.into_iter().map(|path| Script {
        name: path.display().to_string(),
        path,
    });
    Ok(scripts
        .filter(|s| filters.is_empty() || filters.iter().any(|f| s.name.contains(f)))
        .collect())
}

fn walk(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let unreadable = |e: std::io::Error| format!("cannot read {}: {e}", directory.display());
    if depth > DEPTH_MAX {
        return Err(format!("{} is too deep", directory.display()));
    }
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let ending = path.extension().and_then(|e| e.to_str());
        if path.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if ending.is_some_and(|e| ENDINGS.contains(&e)) {
            found.push(path);
        }
    }
    Ok(())
}
