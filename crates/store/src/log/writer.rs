//! Puts entries into files. Runs on the log thread only.
//!
//! Owns the write buffer, the file that is being written, the change from one file to
//! the next, and the spare files. Encoded records collect in the buffer; `flush` hands
//! them to the operating system in one write, `sync` makes them durable.
//!
//! After any error that is not a refusal the state is unknown and the writer must not be
//! used again; the log thread sees to that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronos_env::{Clock, Disk, DiskFile, Env, Random};

use super::format::{record_bytes, salted_crc, FileHeader, RecordHeader, ALIGNMENT, DATA_START};
use super::hard_state::{HardFile, HardState, HardVote};
use super::layout::LogFile;
use super::recovery::{log_path, spare_path, Recovered};
use super::{LogEntry, LogError, LogIndex, LogOptions, Shared, Term};

/// A buffer of this size is handed to the operating system although the batch goes on.
const BUFFER_BYTES_MAX: usize = 4 << 20;
/// A payload of this size is written from where it is instead of through the buffer.
const DIRECT_BYTES_MIN: usize = 1 << 20;
/// How far blocks that were never written are filled with zeros ahead of small writes.
const ZERO_AHEAD_BYTES: u64 = 256 << 10;
/// Writes from this size on pay for their own new blocks.
const ZERO_AHEAD_WRITE_BYTES_MAX: usize = 64 << 10;

pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    dir: PathBuf,
    options: LogOptions,
    shared: Arc<Shared>,
    active: Option<Active>,
    spares: Vec<PathBuf>,
    next_sequence: u64,
    buffer: Vec<u8>,
    hard: HardFile,
    /// The line of what is written (see `recent.rs`).
    line: u64,
}

/// The file that is being written, always the last of the layout.
struct Active {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    salt: u32,
    next_index: LogIndex,
    /// Where the buffer's first byte goes.
    flushed_to: u64,
    /// What is below is durable.
    synced_to: u64,
    /// Blocks below were written before, by this life of the file or an earlier one.
    written_to: u64,
    /// Records that readers have not been shown.
    unpublished: Vec<(LogIndex, u64)>,
}

impl Writer {
    pub(super) fn new(
        env: &Env,
        dir: &Path,
        mut options: LogOptions,
        shared: Arc<Shared>,
        recovered: Recovered,
    ) -> Result<Self, LogError> {
        options.segment_bytes = options.segment_bytes.clamp(DATA_START, 4 << 30);
        let mut active = None;
        if let (Some(last), Some(header)) = (recovered.files.last(), recovered.last_header) {
            let written_to = if header.recycled {
                last.file
                    .len()
                    .map_err(LogError::io("examine", &last.path))?
            } else {
                last.end
            };
            active = Some(Active {
                path: last.path.clone(),
                file: last.file.clone(),
                salt: last.salt,
                next_index: last.next_index,
                flushed_to: last.end,
                synced_to: last.end,
                written_to,
                unpublished: Vec::new(),
            });
        }
        *shared.layout.files.lock() = recovered.files;
        let line = shared.recent.lock().line();
        let mut writer = Self {
            disk: env.disk.clone(),
            clock: env.clock.clone(),
            random: env.random.clone(),
            dir: dir.to_path_buf(),
            options,
            shared,
            active,
            spares: recovered.spares,
            next_sequence: recovered.next_sequence,
            buffer: Vec::new(),
            hard: recovered.hard,
            line,
        };
        writer.drop_useless_spares()?;
        writer.leave_purged_entries()?;
        Ok(writer)
    }

    /// Encodes the entries, which continue the log, into the buffer.
    pub(super) fn append(&mut self, entries: &[LogEntry]) -> Result<(), LogError> {
        let mut bytes = 0;
        for entry in entries {
            bytes += record_bytes(entry.payload.len() as u64);
            self.append_one(entry)?;
        }
        self.shared.counters.written(entries.len() as u64, bytes);
        Ok(())
    }

    fn append_one(&mut self, entry: &LogEntry) -> Result<(), LogError> {
        let needed = record_bytes(entry.payload.len() as u64);
        let position = self
            .active
            .as_ref()
            .map(|it| it.flushed_to + self.buffer.len() as u64);
        match position {
            Some(at) if at == DATA_START || at + needed <= self.options.segment_bytes => {}
            _ => self.start_file(entry.index, Start::Continue)?,
        }
        let active = self.active.as_mut().expect("a file was just started");
        assert_eq!(active.next_index, entry.index, "the queue is out of order");
        let header = RecordHeader {
            payload_crc: salted_crc(active.salt, &entry.payload),
            payload_bytes: entry.payload.len() as u32,
            group: entry.group,
            term: entry.term,
            index: entry.index,
            synced_to: active.synced_to,
        };
        let offset = active.flushed_to + self.buffer.len() as u64;
        active.unpublished.push((entry.index, offset));
        active.next_index = entry.index.next();
        self.buffer.extend_from_slice(&header.encode(active.salt));
        if entry.payload.len() >= DIRECT_BYTES_MIN {
            active.write(&mut self.buffer, Ahead::No)?;
            active
                .file
                .write_at(&entry.payload, active.flushed_to)
                .map_err(LogError::io("write", &active.path))?;
            active.flushed_to += entry.payload.len() as u64;
        } else {
            self.buffer.extend_from_slice(&entry.payload);
        }
        let end = active.flushed_to + self.buffer.len() as u64;
        let padding = end.next_multiple_of(ALIGNMENT) - end;
        self.buffer.resize(self.buffer.len() + padding as usize, 0);
        if self.buffer.len() >= BUFFER_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Hands the buffer to the operating system and shows its records to readers.
    pub(super) fn flush(&mut self) -> Result<(), LogError> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        if active.unpublished.is_empty() {
            return Ok(());
        }
        active.write(&mut self.buffer, Ahead::UpTo(self.options.segment_bytes))?;
        let mut files = self.shared.layout.files.lock();
        let shown = files.last_mut().expect("the active file is in the layout");
        for (index, offset) in active.unpublished.drain(..) {
            shown.note(index, offset);
        }
        shown.next_index = active.next_index;
        shown.end = active.flushed_to;
        drop(files);
        self.shared
            .recent
            .lock()
            .wrote(self.line, active.next_index);
        Ok(())
    }

    /// Makes everything appended so far durable. Free if it is already.
    pub(super) fn sync(&mut self) -> Result<(), LogError> {
        self.flush()?;
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        if active.synced_to == active.flushed_to {
            return Ok(());
        }
        let started = self.clock.monotonic_nanos();
        active
            .file
            .sync_data()
            .map_err(LogError::io("sync", &active.path))?;
        let nanos = self.clock.monotonic_nanos().saturating_sub(started);
        self.shared.counters.synced(nanos);
        active.synced_to = active.flushed_to;
        Ok(())
    }

    /// Drops the entries behind `index`, of which there are some: a new file starts at
    /// `index + 1`.
    pub(super) fn truncate_after(&mut self, index: LogIndex, line: u64) -> Result<(), LogError> {
        self.start_file(index.next(), Start::Truncate)?;
        self.line = line;
        Ok(())
    }

    /// Makes the floor durable, and removes files that hold only what lies below.
    pub(super) fn purge(&mut self, floor: (Term, LogIndex), line: u64) -> Result<(), LogError> {
        if self.active.is_none() {
            // A floor without any file is a log whose files were removed.
            self.start_file(LogIndex(1), Start::Continue)?;
        }
        self.sync()?;
        self.hard.save(HardState {
            floor: Some(floor),
            ..self.hard.state()
        })?;
        self.line = line;
        self.leave_purged_entries()
    }

    /// Removes files that hold only entries that were purged, and starts one behind a gap if
    /// that is all of them.
    fn leave_purged_entries(&mut self) -> Result<(), LogError> {
        let (Some(active), Some((_, floor))) = (&self.active, self.hard.state().floor) else {
            return Ok(());
        };
        let first = floor.next();
        if first > active.next_index {
            return self.start_file(first, Start::Reset);
        }
        loop {
            // One by one and oldest first, each durably: a power cut leaves no hole.
            let file = {
                let mut files = self.shared.layout.files.lock();
                match files.get(1) {
                    Some(second) if second.first_index <= first => files.remove(0),
                    _ => return Ok(()),
                }
            };
            self.retire(file)?;
            self.sync_dir()?;
        }
    }

    /// Makes a vote durable, after all entries before it.
    pub(super) fn save_vote(&mut self, vote: HardVote) -> Result<(), LogError> {
        self.sync()?;
        self.hard.save(HardState {
            vote: Some(vote),
            ..self.hard.state()
        })?;
        *self.shared.vote.lock() = Some(vote);
        Ok(())
    }

    /// Writes what is committed, without a sync.
    pub(super) fn note_committed(&mut self, position: (Term, LogIndex)) -> Result<(), LogError> {
        self.hard.note_committed(position)
    }

    /// Makes durable what was noted.
    pub(super) fn sync_notes(&mut self) -> Result<(), LogError> {
        self.hard.sync_notes()
    }

    /// Closes the active file and starts the next one with `first_index`. From the
    /// moment its name is durable, `start` is true for the log as a whole.
    fn start_file(&mut self, first_index: LogIndex, start: Start) -> Result<(), LogError> {
        self.sync()?;
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let path = log_path(&self.dir, sequence);
        let (spare, file, recycled) = match self.spares.pop() {
            Some(spare) => {
                let file = self.disk.open_write(&spare);
                (
                    spare.clone(),
                    file.map_err(LogError::io("open", &spare))?,
                    true,
                )
            }
            None => {
                let spare = spare_path(&self.dir, sequence);
                let file = self.disk.create(&spare);
                (
                    spare.clone(),
                    file.map_err(LogError::io("create", &spare))?,
                    false,
                )
            }
        };
        let header = FileHeader {
            reset: start == Start::Reset,
            recycled,
            sequence,
            first_index,
            salt: self.random.u64() as u32,
            bytes_min: self.options.segment_bytes,
        };
        let written_to = if recycled {
            file.len().map_err(LogError::io("examine", &spare))?
        } else {
            DATA_START
        };
        if let Err(error) = file.allocate(self.options.segment_bytes) {
            if !recycled {
                // What a full disk gave of it would be missed by the next flush.
                let _ = self.disk.remove_file(&spare);
            }
            return Err(LogError::io("allocate", &spare)(error));
        }
        if recycled {
            // A sync that failed in an earlier life may have left a length that only the page
            // cache knows; a write at the end makes this one tell the disk.
            let zeros = [0; ALIGNMENT as usize];
            file.write_at(&zeros, self.options.segment_bytes - ALIGNMENT)
                .map_err(LogError::io("write", &spare))?;
        }
        file.write_at(&header.encode(), 0)
            .map_err(LogError::io("write", &spare))?;
        file.sync_all().map_err(LogError::io("sync", &spare))?;
        self.disk
            .rename(&spare, &path)
            .map_err(LogError::io("rename", &spare))?;
        self.sync_dir()?;

        self.active = Some(Active {
            path: path.clone(),
            file: file.clone(),
            salt: header.salt,
            next_index: first_index,
            flushed_to: DATA_START,
            synced_to: DATA_START,
            written_to,
            unpublished: Vec::new(),
        });
        let void = self.show_new_file(
            LogFile {
                path,
                file,
                salt: header.salt,
                first_index,
                next_index: first_index,
                end: DATA_START,
                marks: Vec::new(),
            },
            start,
        );
        if !void.is_empty() {
            for file in void {
                self.retire(file)?;
            }
            self.sync_dir()?;
        }
        Ok(())
    }

    /// Adds the file to the layout and returns the files that it made void.
    fn show_new_file(&self, new: LogFile, start: Start) -> Vec<LogFile> {
        let mut files = self.shared.layout.files.lock();
        let kept = match start {
            Start::Reset => 0,
            Start::Continue | Start::Truncate => {
                files.partition_point(|it| it.first_index < new.first_index)
            }
        };
        let void = files.drain(kept..).collect();
        if let Some(last) = files.last_mut() {
            last.void_from(new.first_index);
        }
        files.push(new);
        void
    }

    /// Takes a file out of the log: as a spare if there is room and no reader has it.
    /// The caller syncs the directory afterwards.
    fn retire(&mut self, file: LogFile) -> Result<(), LogError> {
        let LogFile { path, file, .. } = file;
        // The layout has given up its handle, so no new reader can get one.
        let unread = Arc::strong_count(&file) == 1;
        let reusable =
            file.len().map_err(LogError::io("examine", &path))? <= self.options.segment_bytes;
        if unread && reusable && self.spares.len() < self.options.spare_files_max {
            let spare = path.with_extension("spare");
            self.disk
                .rename(&path, &spare)
                .map_err(LogError::io("rename", &path))?;
            self.spares.push(spare);
            return Ok(());
        }
        self.disk
            .remove_file(&path)
            .map_err(LogError::io("remove", &path))
    }

    /// Removes spares that are too many, or too short: a crash or a full disk came between
    /// their creation and their first use.
    fn drop_useless_spares(&mut self) -> Result<(), LogError> {
        let mut kept = Vec::new();
        for spare in std::mem::take(&mut self.spares) {
            let bytes = self.disk.file_len(&spare);
            let bytes = bytes.map_err(LogError::io("examine", &spare))?;
            if bytes >= self.options.segment_bytes && kept.len() < self.options.spare_files_max {
                kept.push(spare);
                continue;
            }
            self.disk
                .remove_file(&spare)
                .map_err(LogError::io("remove", &spare))?;
        }
        self.spares = kept;
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), LogError> {
        self.disk
            .sync_dir(&self.dir)
            .map_err(LogError::io("sync directory", &self.dir))
    }
}

/// What a new file means for those before it.
#[derive(Clone, Copy, PartialEq)]
enum Start {
    /// It continues where the last one ended.
    Continue,
    /// Entries from its first index on are void.
    Truncate,
    /// All of them are void.
    Reset,
}

/// Whether a write also fills new blocks behind it with zeros.
#[derive(Clone, Copy)]
enum Ahead {
    No,
    UpTo(u64),
}

impl Active {
    /// Writes the buffer and empties it.
    fn write(&mut self, buffer: &mut Vec<u8>, ahead: Ahead) -> Result<(), LogError> {
        let records_end = self.flushed_to + buffer.len() as u64;
        if let Ahead::UpTo(limit) = ahead {
            // One sync in many then pays for new blocks, instead of almost every one.
            if records_end > self.written_to && buffer.len() < ZERO_AHEAD_WRITE_BYTES_MAX {
                let fill_to = (records_end + ZERO_AHEAD_BYTES).min(limit);
                let fill = fill_to.saturating_sub(records_end);
                buffer.resize(buffer.len() + fill as usize, 0);
            }
        }
        if buffer.is_empty() {
            return Ok(());
        }
        self.file
            .write_at(buffer, self.flushed_to)
            .map_err(LogError::io("write", &self.path))?;
        self.written_to = self.written_to.max(self.flushed_to + buffer.len() as u64);
        self.flushed_to = records_end;
        buffer.clear();
        if buffer.capacity() > 2 * BUFFER_BYTES_MAX {
            buffer.shrink_to(BUFFER_BYTES_MAX);
        }
        Ok(())
    }
}
