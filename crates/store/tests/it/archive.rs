//! Archives: what is restored is what was archived, from one or from a chain; and whatever happens
//! to the bytes is noticed.

use std::path::{Path, PathBuf};

use chronos_env::{Env, SimDisk, SimEnv};
use chronos_model::{Change, Expect, NodeId, Stamp, WriteSet};
use chronos_store::archive::{write_archive, ArchiveError, ArchiveHeader, ArchiveReader, Chain};
use chronos_store::checkpoint::Checkpoint;
use chronos_store::{LogIndex, Store, Term};

use crate::fixture::*;

/// Written by [`the_archive`] at format version 1.
const GOLDEN: &[u8] = include_bytes!("../data/archive-v1.bin");

fn put(store: &Store, index: u64, rows: std::ops::Range<u32>) {
    let t = table("t", 1, true);
    let rows: Vec<_> = rows.map(|n| row(n, index as u32)).collect();
    apply(store, index, batch(&t, Expect::Any, &rows));
}

fn apply(store: &Store, index: u64, change: Change) {
    let set = WriteSet {
        begin: Stamp::MAX,
        changes: vec![change],
    };
    store
        .apply_write_set(LogIndex(index), stamp(index), NodeId(1), &set)
        .unwrap();
}

/// A store at entry 4, with members, in term 3.
fn store(env: &Env) -> Store {
    let store = Store::open(env, Path::new("/d/store"), options()).unwrap();
    apply(&store, 1, Change::CreateTable(table("t", 0, true)));
    store
        .note_membership(LogIndex(2), b"members".to_vec())
        .unwrap();
    put(&store, 3, 0..60);
    store.enter_term(Term(3)).unwrap();
    put(&store, 4, 40..80);
    store
}

fn checkpoint(store: &Store, name: &str) -> Checkpoint {
    store
        .checkpoint(&Path::new("/d/checkpoints").join(name))
        .unwrap()
}

fn header(id: u128, checkpoint: &Checkpoint, base: Option<&ArchiveHeader>) -> ArchiveHeader {
    let base = base.map(ArchiveHeader::as_base);
    ArchiveHeader::new(id, base.as_ref(), 5, checkpoint.list().clone())
}

fn archive(checkpoint: &Checkpoint, header: &ArchiveHeader) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_archive(checkpoint, header, &mut bytes).unwrap();
    bytes
}

/// A full archive with id 1.
fn the_archive() -> Vec<u8> {
    let store = store(&SimEnv::new(1).env());
    let checkpoint = checkpoint(&store, "1");
    archive(&checkpoint, &header(1, &checkpoint, None))
}

fn read(bytes: &[u8]) -> Result<ArchiveHeader, ArchiveError> {
    let mut reader = ArchiveReader::open(bytes)?;
    while reader.next_piece()?.is_some() {}
    Ok(reader.header().clone())
}

fn restore(env: &Env, archives: &[&[u8]], dir: &Path) -> Result<Checkpoint, ArchiveError> {
    let headers = archives
        .iter()
        .map(|bytes| Ok(ArchiveReader::open(*bytes)?.header().clone()));
    let headers: Vec<_> = headers.collect::<Result<_, ArchiveError>>()?;
    let chain = Chain::new(headers[0].clone(), &headers[1..])?;
    let open = |id: &str| {
        let number = headers.iter().position(|header| header.id == id);
        Ok(archives[number.unwrap()])
    };
    chain.restore(env, dir, open, &mut |_, _| {})
}

#[test]
fn what_is_restored_is_what_was_archived() {
    let env = SimEnv::new(1).env();
    let store = store(&env);
    let checkpoint = checkpoint(&store, "1");
    // What comes later is not in it.
    put(&store, 5, 0..90);
    let bytes = archive(&checkpoint, &header(7, &checkpoint, None));
    let other = SimEnv::new(2).env();
    let restored = restore(&other, &[&bytes], Path::new("/r/incoming")).unwrap();
    restored.verify().unwrap();
    restored.into_new_cluster(Path::new("/r/store")).unwrap();
    assert_eq!(other.disk.read_dir(Path::new("/r")).unwrap(), ["store"]);
    let new = Store::open(&other, Path::new("/r/store"), options()).unwrap();
    assert_eq!(new.applied(), (Term(3), LogIndex(4)));
    assert_eq!(new.membership(), None);
    let theirs = new.content_hashes(None, stamp(9)).unwrap();
    let ours = store.content_hashes(Some(stamp(4)), stamp(9)).unwrap();
    assert_eq!(theirs.tables, ours.tables);
    put(&new, 5, 0..90);
    assert_eq!(
        new.content_hashes(None, stamp(9)).unwrap(),
        store.content_hashes(None, stamp(9)).unwrap()
    );
}

#[test]
fn a_chain_has_each_file_once_and_is_restored_as_a_whole() {
    let env = SimEnv::new(1).env();
    let store = store(&env);
    let mut archives: Vec<(ArchiveHeader, Vec<u8>)> = Vec::new();
    for index in 5..8 {
        let checkpoint = checkpoint(&store, &index.to_string());
        let base = archives.last().map(|(header, _)| header);
        let header = header(u128::from(index), &checkpoint, base);
        let bytes = archive(&checkpoint, &header);
        archives.push((header, bytes));
        put(&store, index, 100..130);
        put_little(&store);
    }
    let stored: Vec<usize> = archives.iter().map(|(h, _)| h.stored.len()).collect();
    assert!(stored[1] < archives[1].0.list.files().len(), "{stored:?}");
    let bytes: Vec<&[u8]> = archives.iter().map(|(_, bytes)| &bytes[..]).collect();
    let mut needs = Vec::new();
    for newest in 0..3 {
        let env = SimEnv::new(2).env();
        let mut given = vec![bytes[newest]];
        // In any order, and more than are needed.
        given.extend(
            bytes
                .iter()
                .enumerate()
                .filter(|(n, _)| *n != newest)
                .map(|(_, b)| *b),
        );
        let restored = restore(&env, &given, Path::new("/r/1")).unwrap();
        restored.verify().unwrap();
        needs.push(restore(&env, &[bytes[newest]], Path::new("/r/2")).is_err());
    }
    assert_eq!(needs, [false, true, true]);
    let env = SimEnv::new(2).env();
    let error = restore(&env, &[bytes[2], bytes[0]], Path::new("/r")).unwrap_err();
    let expected = format!("it needs the archive {:032x}, on which it is based", 6);
    assert_eq!(error.to_string(), expected);
}

/// A flush of its own, so that the segments before stay.
fn put_little(store: &Store) {
    store.flush_now().unwrap();
}

#[test]
fn damage_is_found_wherever_it_is() {
    let bytes = the_archive();
    read(&bytes).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        let error = read(&damaged).expect_err("damage went unnoticed");
        assert!(!matches!(error, ArchiveError::Io(_)), "{at}: {error}");
        let cut = read(&bytes[..at]).expect_err("a cut went unnoticed");
        assert!(matches!(cut, ArchiveError::Truncated { .. }), "{at}: {cut}");
    }
    let longer = [&bytes[..], b"x"].concat();
    let error = read(&longer).unwrap_err().to_string();
    assert!(error.contains("behind its end"), "{error}");
}

#[test]
fn a_file_that_has_decayed_breaks_the_archive_off() {
    let sim = SimEnv::new(1);
    let store = store(&sim.env());
    let checkpoint = checkpoint(&store, "1");
    let segment = checkpoint.dir().join(&checkpoint.files()[1].name);
    sim.disk.flip_bits(&segment, 100, 4).unwrap();
    let mut bytes = Vec::new();
    let header = header(1, &checkpoint, None);
    write_archive(&checkpoint, &header, &mut bytes).unwrap_err();
    let error = read(&bytes).unwrap_err();
    assert!(matches!(error, ArchiveError::BrokenOff { .. }), "{error}");
    assert!(error.to_string().contains(".segment is damaged"), "{error}");
}

#[test]
fn the_first_version_is_read() {
    let header = read(GOLDEN).unwrap();
    assert_eq!(header.id, "00000000000000000000000000000001");
    assert_eq!(header.list.applied(), (Term(3), LogIndex(4)));
    let env = SimEnv::new(2).env();
    let restored = restore(&env, &[GOLDEN], Path::new("/r/1")).unwrap();
    restored.into_new_cluster(Path::new("/r/store")).unwrap();
    let new = Store::open(&env, Path::new("/r/store"), options()).unwrap();
    let ours = self::store(&SimEnv::new(1).env());
    assert_eq!(
        new.content_hashes(None, stamp(9)).unwrap().tables,
        ours.content_hashes(None, stamp(9)).unwrap().tables
    );
}

#[test]
fn a_power_cut_leaves_no_half_restored_store() {
    let bytes = the_archive();
    let run = |disk: &SimDisk| -> Result<(), ArchiveError> {
        let env = SimEnv::with_disk(disk.clone(), 1).env();
        let restored = restore(&env, &[&bytes], Path::new("/r/incoming"))?;
        Ok(restored.into_new_cluster(Path::new("/r/store"))?)
    };
    let whole = SimDisk::new(3);
    run(&whole).unwrap();
    let points = whole.write_points();
    let mut found = [0; 2];
    for point in 0..=points {
        let disk = SimDisk::new(3);
        disk.crash_after_write_points(point);
        assert_eq!(run(&disk).is_ok(), point == points);
        for seed in 0..4 {
            let env = SimEnv::with_disk(disk.restart(seed), seed).env();
            let dir = PathBuf::from("/r/store");
            let is_there = env.disk.exists(&dir).unwrap();
            found[usize::from(is_there)] += 1;
            if is_there {
                let store = Store::open(&env, &dir, options()).unwrap();
                assert_eq!(store.applied_index(), LogIndex(4));
                store.content_hashes(None, stamp(9)).unwrap();
            }
        }
    }
    assert!(found.iter().all(|n| *n > 0), "{found:?}");
}

/// Writes the golden file anew, for a new version: `CHRONOS_WRITE_GOLDEN=1`.
#[test]
fn the_archive_is_the_same_every_time() {
    let bytes = the_archive();
    if std::env::var_os("CHRONOS_WRITE_GOLDEN").is_some() {
        std::fs::write("tests/data/archive-v1.bin", &bytes).unwrap();
    }
    assert!(bytes == the_archive(), "two archives of the same differ");
}
