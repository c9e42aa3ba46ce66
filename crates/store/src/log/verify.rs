//! Checks a log that nobody has open, and changes nothing.
//!
//! Looks at everything that recovery looks at, by the same code, but goes on after
//! damage: each file is judged by itself.

use std::path::Path;

use chronos_env::Disk;

use super::format::RecordHeader;
use super::hard_state;
use super::recovery::{judge_tail, limits, open_file, scan, sequence_of, void_files};
use super::{LogError, LogIndex};

/// What is left of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Verified {
    /// Its files.
    pub files: u64,
    /// The first index stored, and the one after the last.
    pub bounds: Option<(LogIndex, LogIndex)>,
}

/// Reads every record of the log in `dir`. `entry` is shown each one that counts, with its
/// file; `damage` what cannot be read. A write that was under way when the power went is
/// no damage.
///
/// Errors: the directory cannot be listed.
pub fn verify(
    disk: &dyn Disk,
    dir: &Path,
    mut entry: impl FnMut(&Path, LogIndex, &[u8]),
    mut damage: impl FnMut(LogError),
) -> Result<Verified, LogError> {
    let names = disk.read_dir(dir).map_err(LogError::io("list", dir))?;
    let mut verified = Verified::default();
    if let Err(error) = hard_state::read(disk, dir) {
        damage(error);
    }
    let mut found = Vec::new();
    for name in names {
        let Some(sequence) = sequence_of(&name, ".log") else {
            continue;
        };
        verified.files += 1;
        let path = dir.join(name);
        let file = disk.open_read(&path).map_err(LogError::io("open", &path));
        match file.and_then(|file| open_file(file, path, sequence)) {
            Ok(opened) => found.push(opened),
            Err(error) => damage(error),
        }
    }
    let (current, _) = void_files(found);
    let limits = limits(&current);
    for (opened, limit) in current.into_iter().zip(limits) {
        let show = |header: &RecordHeader, payload: &[u8]| {
            entry(&opened.path, header.index, payload);
        };
        let scanned = scan(&opened, limit, show).and_then(|scanned| {
            if limit.is_none() {
                judge_tail(&opened, &scanned)?;
            }
            Ok(scanned)
        });
        let next = match scanned {
            Ok(scanned) => scanned.file.next_index,
            Err(error) => {
                damage(error);
                limit.unwrap_or(opened.header.first_index)
            }
        };
        let first = verified.bounds.map_or(opened.header.first_index, |b| b.0);
        verified.bounds = Some((first, next));
    }
    Ok(verified)
}
