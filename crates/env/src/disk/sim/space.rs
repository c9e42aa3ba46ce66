//! The simulated disk as a [`Disk`]: paths, names, and open files.
//!
//! Owns path lookup and the order of each operation: ask the control for a verdict,
//! then change the state, then answer. Paths are taken from the root whether or not
//! they start with a slash; `..` is refused.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{power_cut, Control, Dir, FileState, NameChange, Node, Operation, SimDisk, Verdict};
use crate::disk::{Disk, DiskFile, LockError, LockGuard};

pub(super) fn to_usize(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn names_of(path: &Path) -> io::Result<Vec<String>> {
    path.components()
        .filter_map(|component| match component {
            Component::RootDir | Component::CurDir => None,
            Component::Normal(name) => Some(Ok(name.to_string_lossy().into_owned())),
            Component::ParentDir | Component::Prefix(_) => {
                Some(Err(io::ErrorKind::InvalidInput.into()))
            }
        })
        .collect()
}

impl SimDisk {
    fn node(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Dir(self.shared.root.clone());
        for name in names_of(path)? {
            let Node::Dir(dir) = node else {
                return Err(io::ErrorKind::NotADirectory.into());
            };
            node = dir
                .lock()
                .current
                .get(&name)
                .cloned()
                .ok_or_else(not_found)?;
        }
        Ok(node)
    }

    pub(super) fn file_node(&self, path: &Path) -> io::Result<Arc<Mutex<FileState>>> {
        match self.node(path)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn dir_node(&self, path: &Path) -> io::Result<Arc<Mutex<Dir>>> {
        match self.node(path)? {
            Node::Dir(dir) => Ok(dir),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The directory that holds `path`'s last name, and that name.
    fn parent(&self, path: &Path) -> io::Result<(Arc<Mutex<Dir>>, String)> {
        let name = names_of(path)?
            .pop()
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let dir = self.dir_node(path.parent().unwrap_or(Path::new("")))?;
        Ok((dir, name))
    }

    fn opened(&self, state: Arc<Mutex<FileState>>, writable: bool) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            disk: self.clone(),
            state,
            writable,
        })
    }

    /// Counts one change of names and carries it out unless a fault forbids it.
    fn change_names(&self, control: &mut Control, change: NameChange) -> io::Result<()> {
        let operation = match change.added {
            Some(_) if change.removed.is_none() => Operation::Write,
            _ => Operation::Name,
        };
        let verdict = control.step(operation)?;
        if let Verdict::Fail(error) = verdict {
            return Err(error);
        }
        if let Some((dir, name)) = &change.removed {
            dir.lock().current.remove(name);
        }
        if let Some((dir, name, node)) = &change.added {
            dir.lock().current.insert(name.clone(), node.clone());
        }
        control.pending_names.push(change);
        match verdict {
            Verdict::CutDuring => Err(power_cut()),
            _ => Ok(()),
        }
    }

    fn add_name(
        &self,
        control: &mut Control,
        dir: Arc<Mutex<Dir>>,
        name: String,
        node: Node,
    ) -> io::Result<()> {
        let change = NameChange {
            removed: None,
            added: Some((dir, name, node)),
        };
        self.change_names(control, change)
    }
}

impl Disk for SimDisk {
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.shared.control.lock().read()?;
        Ok(self.opened(self.file_node(path)?, false))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut control = self.shared.control.lock();
        control.read()?;
        control.check_writable()?;
        drop(control);
        Ok(self.opened(self.file_node(path)?, true))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let existing = {
            self.shared.control.lock().check_power()?;
            self.file_node(path)
        };
        match existing {
            Ok(state) => {
                let file = self.opened(state, true);
                file.set_len(0)?;
                Ok(file)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create_new(path),
            Err(error) => Err(error),
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut control = self.shared.control.lock();
        control.check_power()?;
        let (dir, name) = self.parent(path)?;
        if dir.lock().current.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let state: Arc<Mutex<FileState>> = Arc::default();
        self.add_name(&mut control, dir, name, Node::File(state.clone()))?;
        Ok(self.opened(state, true))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut control = self.shared.control.lock();
        control.check_power()?;
        let mut dir = self.shared.root.clone();
        for name in names_of(path)? {
            let existing = dir.lock().current.get(&name).cloned();
            dir = match existing {
                Some(Node::Dir(below)) => below,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    let below: Arc<Mutex<Dir>> = Arc::default();
                    self.add_name(&mut control, dir, name, Node::Dir(below.clone()))?;
                    below
                }
            };
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut control = self.shared.control.lock();
        control.check_power()?;
        let node = self.node(from)?;
        let removed = self.parent(from)?;
        let (dir, name) = self.parent(to)?;
        match (&node, dir.lock().current.get(&name)) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (_, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
        }
        let change = NameChange {
            removed: Some(removed),
            added: Some((dir, name, node)),
        };
        self.change_names(&mut control, change)
    }

    fn hard_link(&self, existing: &Path, link: &Path) -> io::Result<()> {
        let mut control = self.shared.control.lock();
        control.check_power()?;
        let file = self.file_node(existing)?;
        let (dir, name) = self.parent(link)?;
        if dir.lock().current.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.add_name(&mut control, dir, name, Node::File(file))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut control = self.shared.control.lock();
        control.check_power()?;
        self.file_node(path)?;
        let change = NameChange {
            removed: Some(self.parent(path)?),
            added: None,
        };
        self.change_names(&mut control, change)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut control = self.shared.control.lock();
        control.check_power()?;
        if !self.dir_node(path)?.lock().current.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let change = NameChange {
            removed: Some(self.parent(path)?),
            added: None,
        };
        self.change_names(&mut control, change)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        self.shared.control.lock().read()?;
        Ok(self
            .dir_node(path)?
            .lock()
            .current
            .keys()
            .cloned()
            .collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.shared.control.lock().read()?;
        match self.node(path) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.shared.control.lock().read()?;
        Ok(self.file_node(path)?.lock().len() as u64)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut control = self.shared.control.lock();
        control.check_power()?;
        let dir = self.dir_node(path)?;
        match control.step(Operation::Sync)? {
            Verdict::CutDuring => return Err(power_cut()),
            Verdict::Fail(error) => return Err(error),
            Verdict::Proceed => {}
        }
        let pending = std::mem::take(&mut control.pending_names);
        for change in pending {
            if !change.dirs().any(|it| Arc::ptr_eq(it, &dir)) {
                control.pending_names.push(change);
                continue;
            }
            if let Some((dir, name)) = change.removed {
                dir.lock().durable.remove(&name);
            }
            if let Some((dir, name, node)) = change.added {
                dir.lock().durable.insert(name, node);
            }
        }
        Ok(())
    }

    fn available_space(&self, _path: &Path) -> io::Result<u64> {
        let control = self.shared.control.lock();
        control.check_power()?;
        Ok(control.available_bytes)
    }

    fn lock_exclusive(&self, path: &Path) -> Result<Box<dyn LockGuard>, LockError> {
        let failed = |source| LockError::Io {
            path: path.to_path_buf(),
            source,
        };
        if !self.exists(path).map_err(failed)? {
            self.create_new(path).map_err(failed)?;
        }
        let mut control = self.shared.control.lock();
        control.check_power().map_err(failed)?;
        control.check_writable().map_err(failed)?;
        if control.locked.iter().any(|it| it == path) {
            return Err(LockError::Held {
                path: path.to_path_buf(),
                pid: Some(std::process::id()),
            });
        }
        control.locked.push(path.to_path_buf());
        Ok(Box::new(SimLock {
            disk: self.clone(),
            path: path.to_path_buf(),
        }))
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut control = self.disk.shared.control.lock();
        control.locked.retain(|it| *it != self.path);
    }
}

struct SimFile {
    disk: SimDisk,
    state: Arc<Mutex<FileState>>,
    writable: bool,
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimFile")
            .field("len", &self.state.lock().len())
            .field("writable", &self.writable)
            .finish()
    }
}

impl SimFile {
    fn change(&self, change: impl FnOnce(&mut FileState)) -> io::Result<()> {
        self.change_or(change, |_, _| {})
    }

    /// Carries out `change`, or `when_full` with a random number if the disk is full.
    fn change_or(
        &self,
        change: impl FnOnce(&mut FileState),
        when_full: impl FnOnce(&mut FileState, u64),
    ) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut control = self.disk.shared.control.lock();
        match control.step(Operation::Write)? {
            Verdict::Proceed => {
                change(&mut self.state.lock());
                Ok(())
            }
            Verdict::CutDuring => {
                change(&mut self.state.lock());
                Err(power_cut())
            }
            Verdict::Fail(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Err(error),
            Verdict::Fail(error) => {
                use crate::Random;
                when_full(&mut self.state.lock(), control.random.u64());
                Err(error)
            }
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.shared.control.lock().read()?;
        Ok(self.state.lock().read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let offset = to_usize(offset)?;
        offset
            .checked_add(buf.len())
            .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.change_or(
            |state| state.write_at(buf, offset),
            |state, random| {
                let stored = random % (buf.len() as u64 + 1);
                state.write_at(&buf[..stored as usize], offset);
            },
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut control = self.disk.shared.control.lock();
        match control.step(Operation::Sync)? {
            Verdict::Proceed => {
                self.state.lock().sync();
                Ok(())
            }
            Verdict::CutDuring => Err(power_cut()),
            Verdict::Fail(error) => {
                self.state.lock().sync_failed(&control.random);
                Err(error)
            }
        }
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.shared.control.lock().read()?;
        Ok(self.state.lock().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = to_usize(len)?;
        self.change(|state| state.set_len(len))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let len = to_usize(len)?;
        self.change(|state| {
            if state.len() < len {
                state.set_len(len);
            }
        })
    }
}
