//! Directories of a run: made here, removed with their owner.

use std::path::{Path, PathBuf};

use crate::error::Result;

/// A directory that goes when this goes, and when the run is interrupted.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new directory below `dir`, or below `$TMPDIR`, or below `/var/tmp`, which unlike
    /// `/tmp` is hardly ever a file system in memory.
    pub(crate) fn new(dir: Option<&Path>) -> Result<Scratch> {
        let parent = match (dir, std::env::var_os("TMPDIR")) {
            (Some(dir), _) => dir.to_owned(),
            (None, Some(dir)) => dir.into(),
            (None, None) => "/var/tmp".into(),
        };
        let path = parent.join(format!("chronos-store-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        let scratch = Scratch(path.clone());
        // A second one in a process leaves the handler to the first: that happens in tests only.
        let _ = ctrlc::set_handler(move || {
            eprintln!("\nstore-bench: interrupted");
            remove(&path);
            std::process::exit(130);
        });
        Ok(scratch)
    }

    /// A new empty directory in it.
    pub(crate) fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// A failure is told, not returned: there is no one to act on it.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        eprintln!("store-bench: cannot remove {}: {error}", path.display());
    }
}

/// Bytes that the file system has allocated to everything below a directory.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        // Removed meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}
