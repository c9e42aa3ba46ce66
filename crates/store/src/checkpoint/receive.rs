//! Taking a checkpoint in from another node, by pieces, in any number of attempts.
//!
//! ```text
//!   begin --wanted--> write .. write --wanted--> write .. --nothing wanted--> finish
//!     ^                          (cut, restart) |
//!     \-----------------------------------------/
//! ```
//!
//! What was received stays over a restart: a file that is complete is known by its checksum, one
//! that is not goes on where it ends. Each file is read again when its last byte is written, so what
//! a power cut, a disk or the network did to it is found before it is of any use. Files that the
//! store has already are linked instead.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chronos_env::{DiskFile, Env};

use super::list::{CheckpointFile, CheckpointList, LIST};
use super::{checksum, create_dir, exists, remove_tree, rename, sync_dir, unfinished, Checkpoint};
use crate::error::{with_causes, StoreError};
use crate::manifest;
use crate::store::{segment_path, Store, SEGMENTS};

/// Takes the files of one checkpoint in.
#[derive(Debug)]
pub struct Receiver {
    env: Env,
    /// Where the complete checkpoint will be.
    incoming: PathBuf,
    part: PathBuf,
    list: CheckpointList,
    /// Of each file.
    received: Vec<Received>,
    linked_bytes: u64,
    /// The file that was written to last.
    open: Option<(usize, Arc<dyn DiskFile>)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Received {
    /// So many bytes.
    Bytes(u64),
    /// Everything, and it is right.
    Whole,
}

/// What is to be received next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The file.
    pub name: String,
    /// Where to go on.
    pub offset: u64,
    /// Length of the file.
    pub bytes: u64,
}

impl Receiver {
    /// Begins to receive a checkpoint, or goes on with one. It will be the directory `incoming`
    /// once it is complete. What `store` has of it is linked, which reads those files once.
    ///
    /// Errors: there is no room for it; the disk fails.
    pub fn begin(
        env: &Env,
        incoming: &Path,
        list: CheckpointList,
        store: Option<&Store>,
    ) -> Result<Receiver, StoreError> {
        Receiver::begin_with(env, incoming, list, store, &[])
    }

    /// Receives another checkpoint instead of this one. Files that are in both stay, and are not
    /// read again where they are complete.
    ///
    /// Errors: as [`begin`](Self::begin).
    pub fn go_over_to(
        self,
        list: CheckpointList,
        store: Option<&Store>,
    ) -> Result<Receiver, StoreError> {
        let files = self.list.files().iter().zip(&self.received);
        let whole = files.filter(|(_, received)| **received == Received::Whole);
        let whole: Vec<CheckpointFile> = whole.map(|(file, _)| file.clone()).collect();
        Receiver::begin_with(&self.env, &self.incoming, list, store, &whole)
    }

    fn begin_with(
        env: &Env,
        incoming: &Path,
        list: CheckpointList,
        store: Option<&Store>,
        whole: &[CheckpointFile],
    ) -> Result<Receiver, StoreError> {
        let part = unfinished(incoming);
        if exists(env, incoming)? {
            // Complete, and never used.
            remove_tree(&*env.disk, &part)?;
            rename(env, incoming, &part)?;
        }
        create_dir(env, &part.join(SEGMENTS))?;
        let mut receiver = Receiver {
            env: env.clone(),
            incoming: incoming.to_owned(),
            received: vec![Received::Bytes(0); list.files().len()],
            part,
            list,
            linked_bytes: 0,
            open: None,
        };
        receiver.keep_received(whole)?;
        let path = receiver.part.join(LIST);
        let written = env.disk.replace(&path, &receiver.list.encode()?);
        written.map_err(|e| StoreError::io("write", &path, e))?;
        if let Some(store) = store {
            receiver.link(store)?;
        }
        receiver.check_room()?;
        Ok(receiver)
    }

    /// What it contains.
    pub fn list(&self) -> &CheckpointList {
        &self.list
    }

    /// What is to be received next; `None`: everything is there.
    pub fn wanted(&self) -> Option<Wanted> {
        let files = self.list.files().iter().zip(&self.received);
        for (file, received) in files {
            if let Received::Bytes(offset) = received {
                return Some(Wanted {
                    name: file.name.clone(),
                    offset: *offset,
                    bytes: file.bytes,
                });
            }
        }
        None
    }

    /// Bytes that are there, of [`CheckpointList::bytes`].
    pub fn received_bytes(&self) -> u64 {
        let files = self.list.files().iter().zip(&self.received);
        let bytes = files.map(|(file, received)| match received {
            Received::Bytes(bytes) => *bytes,
            Received::Whole => file.bytes,
        });
        bytes.sum()
    }

    /// Of these, bytes of files that the store had.
    pub fn linked_bytes(&self) -> u64 {
        self.linked_bytes
    }

    /// Takes a piece of the file that is [`wanted`](Self::wanted), from the wanted offset on.
    ///
    /// Errors: it is a piece of something else, or goes beyond the file's end;
    /// [`StoreError::Damaged`]: the file is complete now, and is not what the list says. It is
    /// wanted again from its beginning.
    pub fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let files = self.list.files();
        let number = files.iter().position(|file| file.name == name);
        let refused = |reason: String| StoreError::Checkpoint { reason };
        let Some(number) = number else {
            return Err(refused(format!("it has no file {name:?}")));
        };
        let CheckpointFile { bytes: whole, .. } = files[number];
        if self.received[number] != Received::Bytes(offset) {
            return Err(refused(format!(
                "{name} was to go on elsewhere than at {offset}"
            )));
        }
        let end = offset.saturating_add(bytes.len() as u64);
        if end > whole {
            return Err(refused(format!("{name} goes beyond its {whole} bytes")));
        }
        let path = self.part.join(name);
        let io = |e| StoreError::io("write", &path, e);
        let file = self.file(number)?;
        file.write_at(bytes, offset).map_err(io)?;
        self.received[number] = Received::Bytes(end);
        match end == whole {
            true => self.complete(number),
            false => Ok(()),
        }
    }

    /// Completes the checkpoint.
    ///
    /// Errors: something is still [`wanted`](Self::wanted); the disk fails.
    pub fn finish(mut self) -> Result<Checkpoint, StoreError> {
        // An empty file is complete before anything of it is sent.
        for number in 0..self.received.len() {
            if self.list.files()[number].bytes == 0 {
                self.file(number)?;
                self.received[number] = Received::Whole;
            }
        }
        if let Some(wanted) = self.wanted() {
            return Err(StoreError::Checkpoint {
                reason: format!("{} is not there yet", wanted.name),
            });
        }
        self.open = None;
        self.check_manifest()?;
        sync_dir(&self.env, &self.part.join(SEGMENTS))?;
        sync_dir(&self.env, &self.part)?;
        rename(&self.env, &self.part, &self.incoming)?;
        Checkpoint::open(&self.env, &self.incoming)
    }

    /// Gives up what was received.
    pub fn discard(self) -> Result<(), StoreError> {
        remove_tree(&*self.env.disk, &self.part)
    }

    /// Errors unless manifest and list tell of the same moment: before the store is given up.
    fn check_manifest(&self) -> Result<(), StoreError> {
        let found = manifest::read(&self.env, &self.part)?;
        let position = (found.state.flushed_term, found.state.flushed_index);
        let (term, index) = self.list.applied();
        if found.newest.is_some() && position == (term.0, index.0) {
            return Ok(());
        }
        Err(StoreError::Checkpoint {
            reason: "its manifest and its list do not agree".into(),
        })
    }

    /// Looks at what an earlier attempt has left: what belongs to this checkpoint stays. Of
    /// `whole` files it is known that they are what they should be.
    fn keep_received(&mut self, whole: &[CheckpointFile]) -> Result<(), StoreError> {
        let disk = self.env.disk.clone();
        let path = self.part.join(LIST);
        let before = match disk.read(&path) {
            Ok(bytes) => CheckpointList::decode(&bytes, &path).ok(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(StoreError::io("read", &path, e)),
        };
        let before = before.map_or(Vec::new(), |list| list.files().to_vec());
        let before: HashMap<&str, &CheckpointFile> =
            before.iter().map(|file| (&*file.name, file)).collect();
        let known: HashMap<&str, &CheckpointFile> =
            whole.iter().map(|file| (&*file.name, file)).collect();
        for name in self.names_received()? {
            let files = self.list.files();
            let number = files.iter().position(|file| file.name == name);
            let number = number.filter(|n| before.get(&*name) == Some(&&files[*n]));
            let path = self.part.join(&name);
            let Some(number) = number else {
                let removed = disk.remove_file(&path);
                removed.map_err(|e| StoreError::io("remove", &path, e))?;
                continue;
            };
            let length = files[number].bytes;
            let bytes = disk.file_len(&path);
            let bytes = bytes.map_err(|e| StoreError::io("read", &path, e))?;
            self.received[number] = Received::Bytes(bytes);
            if bytes < length {
                continue;
            }
            if known.get(&*name) == Some(&&files[number]) {
                self.received[number] = Received::Whole;
            } else {
                // What is wrong about it is received again. That it was synced is not known.
                match self.complete(number) {
                    Ok(()) | Err(StoreError::Damaged { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// The names of files that an earlier attempt has left.
    fn names_received(&self) -> Result<Vec<String>, StoreError> {
        let list = |dir: &Path| {
            let names = self.env.disk.read_dir(dir);
            names.map_err(|e| StoreError::io("list", dir, e))
        };
        let segments = list(&self.part.join(SEGMENTS))?.into_iter();
        let mut names: Vec<String> = segments.map(|name| format!("{SEGMENTS}/{name}")).collect();
        let others = list(&self.part)?.into_iter();
        names.extend(others.filter(|name| name != SEGMENTS && name != LIST));
        Ok(names)
    }

    /// Links the files that a store has.
    fn link(&mut self, store: &Store) -> Result<(), StoreError> {
        let shared = store.shared();
        let mut known = HashMap::new();
        {
            let manifest = shared.manifest.lock();
            for entry in &manifest.state().segments {
                if let Some(crc32) = entry.crc32 {
                    let name = format!("{SEGMENTS}/{}.segment", entry.meta.id);
                    known.insert((name, entry.meta.bytes, crc32), entry.meta.id);
                }
            }
        }
        for number in 0..self.received.len() {
            let file = self.list.files()[number].clone();
            // What a segment is called stands in it: the same content has the same name.
            let id = known.get(&(file.name.clone(), file.bytes, file.crc32));
            let (Received::Bytes(_), Some(id)) = (self.received[number], id) else {
                continue;
            };
            let path = segment_path(&shared.dir, *id);
            let link = self.part.join(&file.name);
            let disk = &self.env.disk;
            let _ = disk.remove_file(&link);
            // One that compaction lets go of meanwhile, or that is damaged here, is received.
            let linked = disk.hard_link(&path, &link).is_ok();
            if !linked {
                self.received[number] = Received::Bytes(0);
                continue;
            }
            match self.check(number) {
                Ok(()) => self.linked_bytes += file.bytes,
                Err(StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes a file durable that has all its bytes, and checks it.
    fn complete(&mut self, number: usize) -> Result<(), StoreError> {
        let path = self.part.join(&self.list.files()[number].name);
        let synced = self.file(number).and_then(|file| {
            let synced = file.sync_data();
            synced.map_err(|e| StoreError::io("sync", &path, e))
        });
        self.open = None;
        if let Err(error) = synced {
            // A second sync would succeed, whatever became of the bytes.
            self.begin_anew(number)?;
            return Err(error);
        }
        self.check(number)
    }

    /// Whether a file that has all its bytes is what the list says; if not, or if it cannot be read,
    /// it is removed.
    fn check(&mut self, number: usize) -> Result<(), StoreError> {
        let file = &self.list.files()[number];
        let path = self.part.join(&file.name);
        let reason = match checksum(&self.env, &path) {
            Ok(found) if found == (file.bytes, file.crc32) => {
                self.received[number] = Received::Whole;
                return Ok(());
            }
            Ok(_) => "its checksum is not the one that the checkpoint's list gives".to_owned(),
            Err(error) => with_causes(&error),
        };
        self.begin_anew(number)?;
        Err(StoreError::Damaged {
            path,
            offset: 0,
            reason,
        })
    }

    /// Gives up what there is of a file.
    fn begin_anew(&mut self, number: usize) -> Result<(), StoreError> {
        self.received[number] = Received::Bytes(0);
        let path = self.part.join(&self.list.files()[number].name);
        let removed = self.env.disk.remove_file(&path);
        removed.map_err(|e| StoreError::io("remove", &path, e))
    }

    fn file(&mut self, number: usize) -> Result<Arc<dyn DiskFile>, StoreError> {
        if let Some((open, file)) = &self.open {
            if *open == number {
                return Ok(file.clone());
            }
        }
        let path = self.part.join(&self.list.files()[number].name);
        let disk = &self.env.disk;
        let opened = match self.received[number] {
            Received::Bytes(0) => disk.create(&path),
            _ => disk.open_write(&path),
        };
        let file = opened.map_err(|e| StoreError::io("open", &path, e))?;
        self.open = Some((number, file.clone()));
        Ok(file)
    }

    /// Errors if the disk has no room for what is missing.
    fn check_room(&self) -> Result<(), StoreError> {
        let missing = self.list.bytes().saturating_sub(self.received_bytes());
        let room = self.env.disk.available_space(&self.part);
        let room = room.map_err(|e| StoreError::io("ask for the space of", &self.part, e))?;
        if room >= missing {
            return Ok(());
        }
        let text = format!("a checkpoint needs {missing} bytes, and there are {room}");
        let full = io::Error::new(io::ErrorKind::StorageFull, text);
        Err(StoreError::io("receive", &self.part, full))
    }
}
