//! Archives to the directory of a store.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::path::Path;

use chronos_env::Env;

use super::format::{key_of, FileKey};
use super::{ArchiveError, ArchiveHeader, ArchiveReader};
use crate::checkpoint::{Checkpoint, Receiver};

/// Archives that belong together, by their headers: one, and its bases.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The one that is restored first, then its base, and so on.
    headers: Vec<ArchiveHeader>,
    /// The archive that has a file of the first, by the file's place in the list of the first.
    from: Vec<usize>,
}

/// Told after each piece: bytes that were restored, of so many.
pub type RestoredFile<'a> = dyn FnMut(u64, u64) + 'a;

impl Chain {
    /// Puts archives in order. `newest` is restored; of `others`, which may be in any order, those
    /// that it needs are taken.
    ///
    /// Errors: one that it needs is not there.
    pub fn new(newest: ArchiveHeader, others: &[ArchiveHeader]) -> Result<Chain, ArchiveError> {
        let mut headers = vec![newest];
        while let Some(base) = headers.last().and_then(|h| h.base.clone()) {
            let known = others.iter().find(|header| header.id == base);
            let known = known.ok_or(ArchiveError::BaseMissing { base })?;
            if headers.iter().any(|header| header.id == known.id) {
                return Err(ArchiveError::Chain {
                    reason: format!("the archive {} is its own base", known.id),
                });
            }
            headers.push(known.clone());
        }
        let mut has = HashMap::new();
        for (number, header) in headers.iter().enumerate() {
            for file in &header.stored {
                let file = &header.list.files()[*file as usize];
                has.entry(key_of(file)).or_insert(number);
            }
        }
        let files = headers[0].list.files().iter();
        let from = files.map(|file| {
            let number = has.get(&key_of(file)).copied();
            number.ok_or_else(|| ArchiveError::Chain {
                reason: format!("none of the archives has {}", file.name),
            })
        });
        let from = from.collect::<Result<_, _>>()?;
        Ok(Chain { headers, from })
    }

    /// The archive that is restored, its base, and so on.
    pub fn headers(&self) -> &[ArchiveHeader] {
        &self.headers
    }

    /// Restores into a directory that does not exist: the checkpoint, complete and checked. `open`
    /// opens the archive with an id. Archives are read to their ends, so that damage anywhere in
    /// them is found.
    pub fn restore<R: Read>(
        &self,
        env: &Env,
        dir: &Path,
        open: impl Fn(&str) -> Result<R, ArchiveError>,
        told: &mut RestoredFile<'_>,
    ) -> Result<Checkpoint, ArchiveError> {
        let list = self.headers[0].list.clone();
        let total = list.bytes();
        let mut receiver = Receiver::begin(env, dir, list, None)?;
        for (number, header) in self.headers.iter().enumerate() {
            let mut reader = ArchiveReader::open(open(&header.id)?)?;
            if reader.header() != header {
                return Err(ArchiveError::Chain {
                    reason: format!("the archive {} was replaced by another", header.id),
                });
            }
            let taken = self.taken_from(number);
            while let Some(piece) = reader.next_piece()? {
                let file = &header.list.files()[piece.file as usize];
                if !taken.contains(&key_of(file)) {
                    continue;
                }
                receiver.write(&file.name, piece.offset, &piece.bytes)?;
                told(receiver.received_bytes(), total);
            }
        }
        Ok(receiver.finish()?)
    }

    /// The files that are taken from an archive.
    fn taken_from(&self, archive: usize) -> HashSet<FileKey> {
        let files = self.headers[0].list.files().iter().zip(&self.from);
        let theirs = files.filter(|(_, from)| **from == archive);
        theirs.map(|(file, _)| key_of(file)).collect()
    }
}
