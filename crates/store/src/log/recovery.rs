//! Opens a log directory: finds its files, verifies every record, and settles the tail.
//!
//! Only the last file may end in records that do not check: a write that was under way
//! when the power went. They are cut off, and nothing of them can come back:
//!
//! ```text
//!   | header | durable records | rewritten | torn | stray records of the same batch |
//!                              S           X      (headers zeroed)
//! ```
//!
//! - `S` is the largest `synced_to` of any record. What lies between S and X may be in
//!   the page cache only, even if a sync failed and the cache calls it clean; it is
//!   written again and synced before anything is built on it.
//! - A record header behind X that claims a `synced_to` above X proves that the bytes
//!   at X were durable once. That is damage, and an error.
//! - Other headers behind X belong to the torn write. They are zeroed, or a later append
//!   of the same length as the torn record would bring them back to life.
//!
//! Anything unreadable in an earlier file is damage, and an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronos_env::{Disk, DiskFile};

use super::cursor::{Cursor, Step};
use super::format::{
    FileHeader, HeaderFault, RecordHeader, ALIGNMENT, DATA_START, RECORD_HEADER_BYTES, VERSION,
};
use super::hard_state::{self, HardFile};
use super::layout::LogFile;
use super::recent::{floor_before, Known, TermRun};
use super::{LogError, LogIndex, Term};

const SCAN_BYTES: u64 = 1 << 20;

/// What the log thread starts from.
#[derive(Debug)]
pub(super) struct Recovered {
    pub files: Vec<LogFile>,
    /// The last file's header; `None` if there is no file.
    pub last_header: Option<FileHeader>,
    pub spares: Vec<PathBuf>,
    pub next_sequence: u64,
    pub hard: HardFile,
    /// What the files say about the entries.
    pub known: Known,
    /// Bytes of unfinished writes that were cut off behind the last entry.
    pub truncated_bytes: u64,
}

pub(super) fn log_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.log"))
}

pub(super) fn spare_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016x}.spare"))
}

pub(super) fn sequence_of(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?;
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() != 16 || !digits.bytes().all(lower_hex) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

pub(super) struct Opened {
    pub(super) path: PathBuf,
    file: Arc<dyn DiskFile>,
    pub(super) header: FileHeader,
}

pub(super) fn recover(disk: &dyn Disk, dir: &Path) -> Result<Recovered, LogError> {
    create_dir(disk, dir)?;
    let hard = hard_state::read(disk, dir)?;
    let mut next_sequence = 1;
    let mut spares = Vec::new();
    let mut found = Vec::new();
    for name in disk.read_dir(dir).map_err(LogError::io("list", dir))? {
        if let Some(sequence) = sequence_of(&name, ".spare") {
            next_sequence = next_sequence.max(sequence.saturating_add(1));
            spares.push(dir.join(name));
        } else if let Some(sequence) = sequence_of(&name, ".log") {
            next_sequence = next_sequence.max(sequence.saturating_add(1));
            let path = dir.join(name);
            let file = disk
                .open_write(&path)
                .map_err(LogError::io("open", &path))?;
            found.push(open_file(file, path, sequence)?);
        }
    }
    let (current, void) = void_files(found);
    remove(disk, dir, &void)?;

    let mut files = Vec::with_capacity(current.len());
    let mut runs: Vec<TermRun> = Vec::new();
    let mut truncated_bytes = 0;
    let last_header = current.last().map(|it| it.header);
    let limits = limits(&current);
    for (opened, limit) in current.into_iter().zip(limits) {
        let scan = scan(&opened, limit, |header, _| {
            if runs.last().is_none_or(|(term, _)| *term != header.term) {
                runs.push((header.term, header.index));
            }
        })?;
        if limit.is_none() {
            truncated_bytes = settle_tail(&opened, &scan)?;
        }
        files.push(scan.file);
    }
    let stored = files
        .first()
        .zip(files.last())
        .map(|(first, last)| (first.first_index, last.next_index));
    let floor = floor_of(dir, hard.and_then(|it| it.floor()), stored)?;
    Ok(Recovered {
        files,
        last_header,
        spares,
        next_sequence,
        hard: HardFile::open(disk, dir, hard, floor)?,
        known: Known {
            stored,
            runs,
            floor,
            committed: hard.and_then(|it| it.committed()),
        },
        truncated_bytes,
    })
}

/// Up to where entries were purged, from what was saved and what is stored.
fn floor_of(
    dir: &Path,
    saved: Option<(Term, LogIndex)>,
    stored: Option<(LogIndex, LogIndex)>,
) -> Result<Option<(Term, LogIndex)>, LogError> {
    match (saved, stored) {
        (Some((_, index)), None) => {
            let reason = format!("it has no log file, but entries up to {index} were purged");
            Err(LogError::damaged(dir, 0, reason))
        }
        (Some(saved), Some((first, _))) if saved.1.next() >= first => Ok(Some(saved)),
        (_, Some((first, _))) => Ok(floor_before(first)),
        (None, None) => Ok(None),
    }
}

/// Creates the directory, and makes its name and those of missing parents durable.
fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<(), LogError> {
    let mut missing = Vec::new();
    for ancestor in dir.ancestors().filter(|it| !it.as_os_str().is_empty()) {
        if disk
            .exists(ancestor)
            .map_err(LogError::io("look for", ancestor))?
        {
            break;
        }
        missing.push(ancestor);
    }
    if missing.is_empty() {
        return Ok(());
    }
    disk.create_dir_all(dir)
        .map_err(LogError::io("create directory", dir))?;
    for created in missing {
        let parent = match created.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        disk.sync_dir(parent)
            .map_err(LogError::io("sync directory", parent))?;
    }
    Ok(())
}

/// Reads and checks the header of a file whose name has this sequence number.
pub(super) fn open_file(
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    sequence: u64,
) -> Result<Opened, LogError> {
    let len = file.len().map_err(LogError::io("examine", &path))?;
    let mut bytes = vec![0; len.min(DATA_START) as usize];
    file.read_exact_at(&mut bytes, 0)
        .map_err(LogError::io("read", &path))?;
    let header = FileHeader::decode(&bytes).map_err(|fault| match fault {
        HeaderFault::Damaged(reason) => LogError::damaged(&path, 0, reason),
        HeaderFault::Version(found) => LogError::UnsupportedVersion {
            path: path.clone(),
            found,
            supported: VERSION,
        },
    })?;
    if len < header.bytes_min {
        let reason = format!(
            "the file ends here, but was made {} bytes long",
            header.bytes_min
        );
        return Err(LogError::damaged(&path, len, reason));
    }
    if header.sequence != sequence {
        let reason = format!(
            "its header has the sequence number {:016x}",
            header.sequence
        );
        return Err(LogError::damaged(&path, 0, reason));
    }
    Ok(Opened { path, file, header })
}

/// Up to which index the entries of each file count: where the next one begins.
pub(super) fn limits(current: &[Opened]) -> Vec<Option<LogIndex>> {
    let starts = current.iter().skip(1).map(|next| next.header.first_index);
    starts.map(Some).chain([None]).collect()
}

/// The files that count, and those that a later one replaced as a whole: by a reset, or
/// because it starts at or below their first index (a truncation). `found` is in order of
/// sequence.
pub(super) fn void_files(found: Vec<Opened>) -> (Vec<Opened>, Vec<Opened>) {
    let mut current: Vec<Opened> = Vec::with_capacity(found.len());
    let mut void = Vec::new();
    for opened in found {
        if opened.header.reset {
            void.append(&mut current);
        }
        let kept = current
            .partition_point(|earlier| earlier.header.first_index < opened.header.first_index);
        void.extend(current.drain(kept..));
        current.push(opened);
    }
    (current, void)
}

fn remove(disk: &dyn Disk, dir: &Path, void: &[Opened]) -> Result<(), LogError> {
    for opened in void {
        disk.remove_file(&opened.path)
            .map_err(LogError::io("remove", &opened.path))?;
    }
    if !void.is_empty() {
        disk.sync_dir(dir)
            .map_err(LogError::io("sync directory", dir))?;
    }
    Ok(())
}

pub(super) struct Scan {
    pub(super) file: LogFile,
    /// The largest `synced_to` of any record.
    synced_to: u64,
    file_len: u64,
    stop_reason: &'static str,
}

/// Walks a file up to `limit`, or to its last valid record, and shows each record with its
/// payload.
pub(super) fn scan(
    opened: &Opened,
    limit: Option<LogIndex>,
    mut show: impl FnMut(&RecordHeader, &[u8]),
) -> Result<Scan, LogError> {
    let header = &opened.header;
    let read_failed = |error| LogError::io("read", &opened.path)(error);
    let file_len = opened.file.len().map_err(read_failed)?;
    let mut cursor = Cursor::new(
        opened.file.clone(),
        header.salt,
        DATA_START,
        file_len,
        header.first_index,
    );
    let mut scan = Scan {
        file: LogFile {
            path: opened.path.clone(),
            file: opened.file.clone(),
            salt: header.salt,
            first_index: header.first_index,
            next_index: header.first_index,
            end: DATA_START,
            marks: Vec::new(),
        },
        synced_to: DATA_START,
        file_len,
        stop_reason: "",
    };
    while limit.is_none_or(|limit| cursor.expected() < limit) {
        match cursor.step().map_err(read_failed)? {
            Step::Record { offset, header } => {
                show(&header, cursor.payload());
                scan.file.note(header.index, offset);
                scan.synced_to = scan.synced_to.max(header.synced_to);
            }
            Step::Stop { reason } => {
                if let Some(limit) = limit {
                    let reason = format!(
                        "{reason}, but log indexes {} to {} should follow",
                        cursor.expected(),
                        LogIndex(limit.0 - 1)
                    );
                    return Err(LogError::damaged(&opened.path, cursor.offset(), reason));
                }
                scan.stop_reason = reason;
                break;
            }
        }
    }
    scan.file.next_index = cursor.expected();
    scan.file.end = cursor.offset();
    Ok(scan)
}

/// What follows the last valid record of the last file, if it is no damage.
pub(super) struct Tail {
    /// Headers of records that were torn.
    strays: Vec<u64>,
    /// Where the torn records end.
    truncated_to: u64,
}

/// Tells an unfinished write behind the last record from damage (see the module's head).
pub(super) fn judge_tail(opened: &Opened, scan: &Scan) -> Result<Tail, LogError> {
    let end = scan.file.end;
    if scan.synced_to > end {
        let reason = format!(
            "{}, but everything up to offset {} was durable",
            scan.stop_reason, scan.synced_to
        );
        return Err(LogError::damaged(&opened.path, end, reason));
    }
    let mut truncated_to = end;
    let mut strays = Vec::new();
    search(opened, scan.file_len, end, |offset, header| match header {
        Some(header) if header.synced_to > end => {
            let reason = format!(
                "{}, but the record at offset {offset} was written when everything up to offset {} was durable",
                scan.stop_reason, header.synced_to
            );
            Err(LogError::damaged(&opened.path, end, reason))
        }
        Some(header) => {
            strays.push(offset);
            truncated_to = truncated_to.max(offset.saturating_add(header.record_bytes()));
            Ok(())
        }
        None => {
            truncated_to = truncated_to.max(offset);
            Ok(())
        }
    })?;
    Ok(Tail {
        strays,
        truncated_to,
    })
}

/// Makes the last file fit to be appended to. Returns how many bytes of torn records were
/// cut off.
fn settle_tail(opened: &Opened, scan: &Scan) -> Result<u64, LogError> {
    let Tail {
        strays,
        truncated_to,
    } = judge_tail(opened, scan)?;
    let end = scan.file.end;
    let write_failed = |error| LogError::io("write", &opened.path)(error);
    for offset in &strays {
        let zeros = [0; RECORD_HEADER_BYTES];
        opened
            .file
            .write_at(&zeros, *offset)
            .map_err(write_failed)?;
    }
    let mut at = scan.synced_to;
    let mut buffer = vec![0; SCAN_BYTES.min(end - at) as usize];
    while at < end {
        let part = &mut buffer[..SCAN_BYTES.min(end - at) as usize];
        opened
            .file
            .read_exact_at(part, at)
            .map_err(LogError::io("read", &opened.path))?;
        opened.file.write_at(part, at).map_err(write_failed)?;
        at += part.len() as u64;
    }
    opened
        .file
        .sync_data()
        .map_err(LogError::io("sync", &opened.path))?;
    Ok(truncated_to.min(scan.file_len.max(end)) - end)
}

/// Calls `found` with every valid record header of this file from `start` on, and, if
/// the file was never used before, with the end of every nonzero word, without a header.
fn search(
    opened: &Opened,
    file_len: u64,
    start: u64,
    mut found: impl FnMut(u64, Option<RecordHeader>) -> Result<(), LogError>,
) -> Result<(), LogError> {
    const WORD: usize = ALIGNMENT as usize;
    const BLOCK_BYTES: usize = 4096;
    static ZEROS: [u8; BLOCK_BYTES + RECORD_HEADER_BYTES] = [0; BLOCK_BYTES + RECORD_HEADER_BYTES];
    let mut buffer = Vec::new();
    let mut at = start;
    while at < file_len {
        // Headers may straddle two parts, so parts overlap by one header.
        let part = (file_len - at).min(SCAN_BYTES + RECORD_HEADER_BYTES as u64) as usize;
        buffer.resize(part, 0);
        opened
            .file
            .read_exact_at(&mut buffer, at)
            .map_err(LogError::io("read", &opened.path))?;
        let words = part.min(SCAN_BYTES as usize);
        for block in (0..words).step_by(BLOCK_BYTES) {
            let reach = (block + BLOCK_BYTES + RECORD_HEADER_BYTES).min(part);
            let is_zero = buffer[block..reach] == ZEROS[..reach - block];
            if is_zero {
                continue;
            }
            for word in (block..(block + BLOCK_BYTES).min(words)).step_by(WORD) {
                let bytes = &buffer[word..(word + WORD).min(part)];
                let header = buffer[word..]
                    .first_chunk()
                    .and_then(|bytes| RecordHeader::decode(bytes, opened.header.salt));
                let counts = !opened.header.recycled && bytes.iter().any(|byte| *byte != 0);
                if header.is_some() {
                    found(at + word as u64, header)?;
                } else if counts {
                    found(at + (word + bytes.len()) as u64, None)?;
                }
            }
        }
        at += words as u64;
    }
    Ok(())
}
