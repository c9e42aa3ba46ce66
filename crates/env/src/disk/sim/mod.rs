//! A disk in memory that takes every liberty a real one has when the power goes.
//!
//! Owns the model of what survives. What was synced survives exactly. Of what was not:
//!
//! - file content: each 512-byte sector is found at any moment since the last sync, so
//!   writes are kept, lost, torn or overtaken (see `file.rs`);
//! - names: each creation, rename and removal not followed by [`Disk::sync_dir`] of its
//!   directory is kept or lost as a whole, also out of order. Syncing a file does not
//!   make its name durable.
//!
//! A test runs its scenario once to learn [`SimDisk::write_points`], then once per point
//! with [`SimDisk::crash_after_write_points`], and examines [`SimDisk::restart`] for some
//! seeds. The same seed and the same calls give the same disk.
//!
//! Refuses: rights, times, symbolic links, and any file larger than memory.

mod file;
mod space;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;

use self::file::FileState;
use crate::{Random, SimRandom};

/// A simulated disk. Clones are handles of the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: Arc<Mutex<Dir>>,
    /// Always locked first, and for a whole operation; the locks of directories and
    /// files below it are therefore never contended.
    control: Mutex<Control>,
}

#[derive(Debug)]
struct Control {
    random: SimRandom,
    write_points: u64,
    crash_after: Option<u64>,
    full_after: Option<u64>,
    sync_fails_after: Option<u64>,
    read_only_after: Option<u64>,
    read_points: u64,
    /// Read points that fail.
    read_fails: Range<u64>,
    powered_off: bool,
    available_bytes: u64,
    locked: Vec<PathBuf>,
    /// Changes of names that no `sync_dir` has made durable, oldest first.
    pending_names: Vec<NameChange>,
}

#[derive(Clone, Debug)]
enum Node {
    File(Arc<Mutex<FileState>>),
    Dir(Arc<Mutex<Dir>>),
}

#[derive(Debug, Default)]
struct Dir {
    current: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
}

/// One atomic change of the name space; a rename both removes and adds.
#[derive(Debug)]
struct NameChange {
    removed: Option<(Arc<Mutex<Dir>>, String)>,
    added: Option<(Arc<Mutex<Dir>>, String, Node)>,
}

impl NameChange {
    fn dirs(&self) -> impl Iterator<Item = &Arc<Mutex<Dir>>> {
        let removed = self.removed.iter().map(|(dir, _)| dir);
        removed.chain(self.added.iter().map(|(dir, _, _)| dir))
    }
}

/// What becomes of one write operation.
enum Verdict {
    /// It happens.
    Proceed,
    /// It happens, perhaps: the power goes while it is under way.
    CutDuring,
    /// It fails with this error.
    Fail(io::Error),
}

/// The operations that are write points, as far as faults tell them apart.
#[derive(Clone, Copy, PartialEq)]
enum Operation {
    Write,
    Sync,
    Name,
}

fn power_cut() -> io::Error {
    io::Error::other("simulated power cut")
}

fn read_only() -> io::Error {
    let kind = io::ErrorKind::ReadOnlyFilesystem;
    io::Error::new(kind, "simulated read-only file system")
}

impl Control {
    fn check_power(&self) -> io::Result<()> {
        if self.powered_off {
            Err(power_cut())
        } else {
            Ok(())
        }
    }

    /// Whether a file can be opened for writing.
    fn check_writable(&self) -> io::Result<()> {
        match self
            .read_only_after
            .is_some_and(|after| self.write_points >= after)
        {
            true => Err(read_only()),
            false => Ok(()),
        }
    }

    /// Counts a read; fails if it is to fail.
    fn read(&mut self) -> io::Result<()> {
        self.check_power()?;
        let point = self.read_points;
        self.read_points += 1;
        match self.read_fails.contains(&point) {
            true => Err(Errno::IO.into()),
            false => Ok(()),
        }
    }

    fn step(&mut self, operation: Operation) -> io::Result<Verdict> {
        self.check_power()?;
        self.write_points += 1;
        let past = |limit: Option<u64>| limit.is_some_and(|limit| self.write_points > limit);
        if past(self.crash_after) {
            self.powered_off = true;
            return Ok(Verdict::CutDuring);
        }
        if past(self.read_only_after) {
            return Ok(Verdict::Fail(read_only()));
        }
        if operation == Operation::Write && past(self.full_after) {
            let full = io::Error::new(io::ErrorKind::StorageFull, "simulated full disk");
            return Ok(Verdict::Fail(full));
        }
        if operation == Operation::Sync && past(self.sync_fails_after) {
            return Ok(Verdict::Fail(io::Error::other("simulated failure of sync")));
        }
        Ok(Verdict::Proceed)
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self::with_root(Arc::default(), seed)
    }

    fn with_root(root: Arc<Mutex<Dir>>, seed: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                root,
                control: Mutex::new(Control {
                    random: SimRandom::new(seed),
                    write_points: 0,
                    crash_after: None,
                    full_after: None,
                    sync_fails_after: None,
                    read_only_after: None,
                    read_points: 0,
                    read_fails: 0..0,
                    powered_off: false,
                    available_bytes: 1 << 40,
                    locked: Vec::new(),
                    pending_names: Vec::new(),
                }),
            }),
        }
    }

    /// How many operations that change the disk (writes, syncs, changes of length and
    /// of names) were asked for since this disk was made.
    pub fn write_points(&self) -> u64 {
        self.shared.control.lock().write_points
    }

    /// Cuts the power during the operation that follows the first `points` write
    /// points: it fails, though it may have taken effect, and so does every later
    /// operation, reads included.
    pub fn crash_after_write_points(&self, points: u64) {
        self.shared.control.lock().crash_after = Some(points);
    }

    /// Every write, growth and creation after the first `points` write points fails with
    /// `StorageFull`; a write may have stored a part.
    pub fn fill_after_write_points(&self, points: u64) {
        self.shared.control.lock().full_after = Some(points);
    }

    /// Every sync of a file or directory after the first `points` write points fails.
    /// What it should have made durable is partly lost, and a later sync that succeeds
    /// does not bring it back.
    pub fn fail_syncs_after_write_points(&self, points: u64) {
        self.shared.control.lock().sync_fails_after = Some(points);
    }

    /// How many operations that read (opening, reading, asking for names and lengths) were
    /// asked for since this disk was made.
    pub fn read_points(&self) -> u64 {
        self.shared.control.lock().read_points
    }

    /// The reads of these numbers, counted from 0, fail as those of bad sectors do.
    pub fn fail_reads(&self, points: Range<u64>) {
        self.shared.control.lock().read_fails = points;
    }

    /// Every operation that changes the disk after the first `points` write points fails as
    /// on a file system that was mounted read-only, or has become so after an error.
    pub fn read_only_after_write_points(&self, points: u64) {
        self.shared.control.lock().read_only_after = Some(points);
    }

    /// Ends the faults that were asked for; a power cut that happened stays.
    pub fn clear_faults(&self) {
        let mut control = self.shared.control.lock();
        control.crash_after = None;
        control.full_after = None;
        control.sync_fails_after = None;
        control.read_only_after = None;
        control.read_fails = 0..0;
    }

    /// Whether the power was cut.
    pub fn is_powered_off(&self) -> bool {
        self.shared.control.lock().powered_off
    }

    /// What [`Disk::available_space`](super::Disk::available_space) answers; 1 TiB at
    /// first. Writes do not lower it.
    pub fn set_available_space(&self, bytes: u64) {
        self.shared.control.lock().available_bytes = bytes;
    }

    /// Flips the bits of `mask` in one byte of a file, durably, as a decaying medium does.
    pub fn flip_bits(&self, path: &Path, offset: u64, mask: u8) -> io::Result<()> {
        let _control = self.shared.control.lock();
        let file = self.file_node(path)?;
        let mut file = file.lock();
        let offset = space::to_usize(offset)?;
        if file.flip(offset, mask) {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }

    /// Cuts the power, if that has not happened, and returns the disk as it might be
    /// found when the power is back. This disk stays dead; asking again with another
    /// seed gives another possible outcome of the same cut.
    pub fn restart(&self, seed: u64) -> SimDisk {
        let mut control = self.shared.control.lock();
        control.powered_off = true;
        let random = SimRandom::new(seed);
        let kept = surviving(control.pending_names.len(), &random);
        let mut rebuilt = Rebuilt {
            durable_names: HashMap::new(),
            dirs: HashMap::new(),
            files: HashMap::new(),
            random: &random,
        };
        let changes = control.pending_names.iter().zip(kept);
        for (change, _) in changes.filter(|(_, kept)| *kept) {
            rebuilt.apply(change);
        }
        let root = rebuilt.dir(&self.shared.root);
        SimDisk::with_root(root, random.u64())
    }
}

/// Which of `count` changes in order survive: none, all, the first few, or any.
fn surviving(count: usize, random: &SimRandom) -> Vec<bool> {
    let mood = random.below(4);
    let first = random.below(count as u64 + 1) as usize;
    (0..count)
        .map(|index| match mood {
            0 => false,
            1 => true,
            2 => index < first,
            _ => random.below(2) == 0,
        })
        .collect()
}

/// Builds the tree of a restarted disk. Nodes are known by their address, so that a
/// file with two names stays one file.
struct Rebuilt<'a> {
    /// Durable names of the directories that surviving changes altered.
    durable_names: HashMap<*const Mutex<Dir>, BTreeMap<String, Node>>,
    dirs: HashMap<*const Mutex<Dir>, Arc<Mutex<Dir>>>,
    files: HashMap<*const Mutex<FileState>, Arc<Mutex<FileState>>>,
    random: &'a SimRandom,
}

impl Rebuilt<'_> {
    fn names(&mut self, dir: &Arc<Mutex<Dir>>) -> &mut BTreeMap<String, Node> {
        self.durable_names
            .entry(Arc::as_ptr(dir))
            .or_insert_with(|| dir.lock().durable.clone())
    }

    fn apply(&mut self, change: &NameChange) {
        if let Some((dir, name)) = &change.removed {
            self.names(dir).remove(name);
        }
        if let Some((dir, name, node)) = &change.added {
            self.names(dir).insert(name.clone(), node.clone());
        }
    }

    fn dir(&mut self, old: &Arc<Mutex<Dir>>) -> Arc<Mutex<Dir>> {
        if let Some(new) = self.dirs.get(&Arc::as_ptr(old)) {
            return new.clone();
        }
        let new: Arc<Mutex<Dir>> = Arc::default();
        self.dirs.insert(Arc::as_ptr(old), new.clone());
        let mut names = BTreeMap::new();
        for (name, node) in self.names(old).clone() {
            let node = match node {
                Node::Dir(dir) => Node::Dir(self.dir(&dir)),
                Node::File(file) => Node::File(self.file(&file)),
            };
            names.insert(name, node);
        }
        let mut dir = new.lock();
        dir.current = names.clone();
        dir.durable = names;
        drop(dir);
        new
    }

    fn file(&mut self, old: &Arc<Mutex<FileState>>) -> Arc<Mutex<FileState>> {
        self.files
            .entry(Arc::as_ptr(old))
            .or_insert_with(|| {
                let content = old.lock().after_power_cut(self.random);
                Arc::new(Mutex::new(FileState::durable(content)))
            })
            .clone()
    }
}
