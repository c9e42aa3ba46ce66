//! Checkpoints: made beside writers, received by pieces, put in the place of the store; with power
//! cuts at every write.

use std::path::{Path, PathBuf};

use chronos_env::{Env, SimDisk, SimEnv};
use chronos_model::{Change, Expect, Stamp, WriteSet};
use chronos_store::checkpoint::{
    finish_replacement, remove_unfinished, replace_store, Checkpoint, CheckpointList, Receiver,
    Wanted, INCOMING,
};
use chronos_store::{LogIndex, Store, StoreError, Term, VersionFilter};

use crate::fixture::*;
use crate::power_cut::{apply, check, live, replay, script, Reached};

type Log = Vec<(LogIndex, Stamp, WriteSet)>;

const DATA: &str = "/d";
const CHECKPOINT: &str = "/d/checkpoints/1";

fn data(name: &str) -> PathBuf {
    Path::new(DATA).join(name)
}

fn open(env: &Env, dir: &Path) -> Store {
    Store::open(env, dir, options()).unwrap_or_else(|e| panic!("{}: {e}", dir.display()))
}

/// A log of a table whose keys are written again and again.
fn log(entries: u64) -> Log {
    let t = table("t", 1, true);
    let rows = |index: u64| -> Vec<_> {
        let start = (index as u32 * 7) % 60;
        (start..start + 40).map(|n| row(n, index as u32)).collect()
    };
    let create = Change::CreateTable(table("t", 0, true));
    let changes = (2..=entries).map(|index| batch(&t, Expect::Any, &rows(index)));
    let entry = |(i, change)| {
        let index = i as u64 + 1;
        let set = WriteSet {
            begin: Stamp::MAX,
            changes: vec![change],
        };
        (LogIndex(index), stamp(index), set)
    };
    [create]
        .into_iter()
        .chain(changes)
        .enumerate()
        .map(entry)
        .collect()
}

fn apply_from(store: &Store, log: &Log) {
    let from = store.applied_index();
    let rest = log.iter().filter(|(index, _, _)| *index > from);
    rest.for_each(|entry| apply(store, entry).unwrap());
}

/// Copies the files of a checkpoint and nothing else.
fn copy(env: &Env, checkpoint: &Checkpoint, to: &Path) {
    env.disk.create_dir_all(&to.join("segments")).unwrap();
    for file in checkpoint.files() {
        let bytes = env.disk.read(&checkpoint.dir().join(&file.name)).unwrap();
        assert_eq!(bytes.len() as u64, file.bytes);
        let copy = env.disk.create_new(&to.join(&file.name)).unwrap();
        copy.write_at(&bytes, 0).unwrap();
    }
}

/// Sends what a receiver wants in small pieces.
fn send(from: &Checkpoint, receiver: &mut Receiver) -> Result<(), StoreError> {
    while let Some(wanted) = receiver.wanted() {
        let file = from.open_file(&wanted.name)?;
        let mut piece = vec![0; (wanted.bytes - wanted.offset).min(6000) as usize];
        file.read_exact_at(&mut piece, wanted.offset).unwrap();
        receiver.write(&wanted.name, wanted.offset, &piece)?;
    }
    Ok(())
}

#[test]
fn a_copy_of_a_checkpoint_is_the_store_of_its_moment() {
    let sim = SimEnv::new(1);
    let env = sim.env();
    let log = log(30);
    let store = open(&env, &data("store"));
    store.enter_term(Term(5)).unwrap();
    log[..12]
        .iter()
        .for_each(|entry| apply(&store, entry).unwrap());
    store
        .note_membership(LogIndex(13), b"members".to_vec())
        .unwrap();
    let checkpoint = store.checkpoint(Path::new(CHECKPOINT)).unwrap();
    assert_eq!(checkpoint.list().applied(), (Term(5), LogIndex(13)));
    assert_eq!(checkpoint.list().membership().unwrap().bytes, b"members");
    assert_eq!(checkpoint.list().stamp(), stamp(12));
    // What comes later, and what compaction lets go of, is no matter of the checkpoint.
    log[13..]
        .iter()
        .for_each(|entry| apply(&store, entry).unwrap());
    store.flush_now().unwrap();
    store.compact_now().unwrap();
    checkpoint.verify().unwrap();
    copy(&env, &checkpoint, Path::new("/copy"));
    let copied = open(&env, Path::new("/copy"));
    assert_eq!(copied.applied(), (Term(5), LogIndex(13)));
    assert_eq!(copied.membership().unwrap().index, 13);
    check(&copied, &log, LogIndex(12));
    // It is a store like any other.
    log[13..]
        .iter()
        .for_each(|entry| apply(&copied, entry).unwrap());
    copied.flush_now().unwrap();
    let again = store.checkpoint(Path::new(CHECKPOINT)).unwrap_err();
    assert!(matches!(again, StoreError::Checkpoint { .. }), "{again}");
    let opened = Checkpoint::open(&env, Path::new(CHECKPOINT)).unwrap();
    assert_eq!(opened.list(), checkpoint.list());
    opened.remove().unwrap();
    assert!(!env.disk.exists(Path::new(CHECKPOINT)).unwrap());
    assert!(env.disk.read_dir(&data("checkpoints")).unwrap().is_empty());
}

#[test]
fn writers_and_compaction_go_on_while_checkpoints_are_made() {
    let sim = SimEnv::new(1);
    let env = sim.env();
    let log = log(100);
    let store = Store::open(
        &env,
        &data("store"),
        chronos_store::StoreOptions {
            background: true,
            memtable_bytes_max: 8 << 10,
            ..options()
        },
    )
    .unwrap();
    apply(&store, &log[0]).unwrap();
    let writer = {
        let (store, log) = (store.clone(), log.clone());
        std::thread::spawn(move || apply_from(&store, &log))
    };
    let mut made = 0;
    loop {
        let is_last = writer.is_finished();
        let dir = data("checkpoints").join(made.to_string());
        let checkpoint = store.checkpoint(&dir).unwrap();
        checkpoint.verify().unwrap();
        copy(&env, &checkpoint, &data(&format!("copy{made}")));
        let copied = open(&env, &data(&format!("copy{made}")));
        let (_, index) = checkpoint.list().applied();
        assert_eq!(copied.applied_index(), index);
        check(&copied, &log, index);
        checkpoint.remove().unwrap();
        made += 1;
        if is_last {
            break;
        }
        store.compact_now().unwrap();
    }
    writer.join().unwrap();
    check(&store, &log, LogIndex(100));
}

#[test]
fn a_damaged_segment_makes_no_checkpoint() {
    let sim = SimEnv::new(1);
    let env = sim.env();
    let store = open(&env, &data("store"));
    apply_from(&store, &log(5));
    store.flush_now().unwrap();
    drop(store);
    let segments = data("store/segments");
    let name = env.disk.read_dir(&segments).unwrap().pop().unwrap();
    env.disk.remove_file(&segments.join(name)).unwrap();
    let store = open(&env, &data("store"));
    let error = store.checkpoint(Path::new(CHECKPOINT)).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(env.disk.read_dir(&data("checkpoints")).unwrap().is_empty());
}

#[test]
fn a_full_disk_leaves_no_half_checkpoint() {
    let entries = log(8);
    for full_after in 0.. {
        let disk = SimDisk::new(3);
        let env = SimEnv::with_disk(disk.clone(), 1).env();
        let store = open(&env, &data("store"));
        apply_from(&store, &entries);
        store.flush_now().unwrap();
        disk.fill_after_write_points(disk.write_points() + full_after);
        let made = store.checkpoint(Path::new(CHECKPOINT));
        disk.clear_faults();
        match made {
            Ok(checkpoint) => {
                assert!(full_after > 3, "no write failed");
                return checkpoint.verify().unwrap();
            }
            Err(error) => {
                assert!(error.is_disk_full(), "{error}");
                let dir = data("checkpoints");
                if env.disk.exists(&dir).unwrap() {
                    assert!(env.disk.read_dir(&dir).unwrap().is_empty());
                }
                store.checkpoint(Path::new(CHECKPOINT)).unwrap();
            }
        }
    }
}

#[test]
fn a_power_cut_leaves_a_whole_checkpoint_or_none() {
    let steps = script();
    let run = |disk: &SimDisk, reached: &mut Reached| -> Result<(), StoreError> {
        live(disk, &steps, reached)?;
        let env = SimEnv::with_disk(disk.clone(), 1).env();
        let store = Store::open(&env, &data("store"), options())?;

        store.checkpoint(Path::new(CHECKPOINT))?;
        store.compact_now()?;
        Checkpoint::open(&env, Path::new(CHECKPOINT))?.remove()
    };
    let whole = SimDisk::new(3);
    let mut reached = Reached::nothing();
    live(&whole, &steps, &mut reached).unwrap();
    let from = whole.write_points();
    let log = reached.log;
    let whole = SimDisk::new(3);
    run(&whole, &mut Reached::nothing()).unwrap();
    let points = whole.write_points();
    assert!(points > from + 12, "only {} points", points - from);
    let mut found = [0; 2];
    for point in from..points {
        let disk = SimDisk::new(3);
        disk.crash_after_write_points(point);
        // The removal of a file that is not needed may fail unnoticed.
        let _ = run(&disk, &mut Reached::nothing()).is_err();
        assert!(disk.is_powered_off());
        for seed in 0..2 {
            let env = SimEnv::with_disk(disk.restart(seed), seed).env();
            remove_unfinished(&env, &data("checkpoints")).unwrap();
            let store = open(&env, &data("store"));
            check(&store, &log, store.applied_index());
            let names = match env.disk.exists(&data("checkpoints")).unwrap() {
                true => env.disk.read_dir(&data("checkpoints")).unwrap(),
                false => Vec::new(),
            };
            found[names.len()] += 1;
            if names.is_empty() {
                continue;
            }
            let checkpoint = Checkpoint::open(&env, Path::new(CHECKPOINT)).unwrap();
            checkpoint.verify().unwrap();
            copy(&env, &checkpoint, Path::new("/copy"));
            let copied = open(&env, Path::new("/copy"));
            check(&copied, &log, LogIndex(log.len() as u64));
        }
    }
    assert!(found.iter().all(|n| *n > 20), "{found:?}");
}

/// A checkpoint of 20 entries on a disk of its own, and a node that is at entry 6.
struct Two {
    log: Log,
    source: Checkpoint,
}

impl Two {
    fn new() -> Two {
        let env = SimEnv::new(9).env();
        let log = log(20);
        let store = open(&env, Path::new("/leader"));
        apply_from(&store, &log);
        store.maintain().unwrap();
        let source = store.checkpoint(Path::new("/checkpoint")).unwrap();
        Two { log, source }
    }

    fn behind(&self, disk: &SimDisk) -> Result<(Env, Store), StoreError> {
        let env = SimEnv::with_disk(disk.clone(), 1).env();
        let store = Store::open(&env, &data("store"), options())?;
        for entry in &self.log[..6] {
            apply(&store, entry)?;
        }
        store.flush_now()?;
        Ok((env, store))
    }

    fn list(&self) -> CheckpointList {
        let bytes = self.source.list().encode().unwrap();
        CheckpointList::decode(&bytes, Path::new("sent")).unwrap()
    }

    fn receive(&self, env: &Env, store: &Store) -> Result<(), StoreError> {
        let mut receiver = Receiver::begin(env, &data(INCOMING), self.list(), Some(store))?;
        // What a power cut has torn is found when it is complete, and wanted again.
        let mut torn = 0;
        while let Err(error) = send(&self.source, &mut receiver) {
            torn += 1;
            if torn > 2 || !matches!(error, StoreError::Damaged { .. }) {
                return Err(error);
            }
        }
        receiver.finish()?;
        store.retire();
        replace_store(env, Path::new(DATA))
    }
}

#[test]
fn a_received_checkpoint_takes_the_place_of_the_store_wherever_the_power_goes() {
    let two = Two::new();
    let disk = SimDisk::new(3);
    let (env, store) = two.behind(&disk).unwrap();
    let from = disk.write_points();
    two.receive(&env, &store).unwrap();
    let points = disk.write_points();
    assert!(points > from + 20, "only {} points", points - from);
    let mut found = [0; 2];
    for point in from..=points {
        let disk = SimDisk::new(3);
        let (env, store) = two.behind(&disk).unwrap();
        disk.crash_after_write_points(point);
        let outcome = two.receive(&env, &store);
        assert_eq!(outcome.is_ok(), point == points, "point {point}");
        for seed in 0..4 {
            let env = SimEnv::with_disk(disk.restart(seed), seed).env();
            finish_replacement(&env, Path::new(DATA)).unwrap();
            let store = open(&env, &data("store"));
            let index = store.applied_index();
            found[usize::from(index == LogIndex(20))] += 1;
            assert!([6, 20].contains(&index.0), "{index}");
            check(&store, &two.log, index);
            assert!(!env.disk.exists(&data("store.old")).unwrap());
            if index.0 == 6 {
                // Whatever was received is gone on with.
                two.receive(&env, &store).unwrap();
                let store = open(&env, &data("store"));
                check(&store, &two.log, LogIndex(20));
            }
            let names = env.disk.read_dir(Path::new(DATA)).unwrap();
            assert_eq!(names, ["store"]);
        }
    }
    assert!(found.iter().all(|n| *n > 20), "{found:?}");
}

#[test]
fn a_receiver_goes_on_where_it_was_and_finds_what_is_wrong() {
    let two = Two::new();
    let (env, store) = two.behind(&SimDisk::new(3)).unwrap();
    let begin = || Receiver::begin(&env, &data(INCOMING), two.list(), Some(&store)).unwrap();
    let mut receiver = begin();
    let wanted = receiver.wanted().unwrap();
    assert!(wanted.name.starts_with("manifest-") && wanted.offset == 0);
    receiver.write(&wanted.name, 0, b"wrong").unwrap();
    let error = receiver.write(&wanted.name, 0, b"x").unwrap_err();
    assert!(matches!(error, StoreError::Checkpoint { .. }), "{error}");
    let error = receiver
        .write("manifest-0000000000000009", 0, b"x")
        .unwrap_err();
    assert!(matches!(error, StoreError::Checkpoint { .. }), "{error}");
    let beyond = vec![0; wanted.bytes as usize];
    let error = receiver.write(&wanted.name, 5, &beyond).unwrap_err();
    assert!(error.to_string().contains("goes beyond"), "{error}");
    drop(receiver);
    // Another attempt goes on behind the five bytes, and finds them wrong at the end.
    let mut receiver = begin();
    assert_eq!(receiver.wanted().unwrap().offset, 5);
    let error = send(&two.source, &mut receiver).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(
        receiver.wanted().unwrap(),
        Wanted {
            offset: 0,
            ..wanted
        }
    );
    // And takes the whole.
    let error = Receiver::begin(&env, &data("other"), two.list(), None).unwrap();
    error.finish().unwrap_err();
    send(&two.source, &mut receiver).unwrap();
    assert_eq!(receiver.received_bytes(), two.source.list().bytes());
    drop(receiver);
    let receiver = begin();
    assert_eq!(receiver.wanted(), None);
    let received = receiver.finish().unwrap();
    received.verify().unwrap();
    assert_eq!(received.list(), two.source.list());
}

#[test]
fn what_was_received_counts_only_when_it_is_durable() {
    let two = Two::new();
    for seed in 0..8 {
        let disk = SimDisk::new(3);
        let (env, store) = two.behind(&disk).unwrap();
        let begin = || Receiver::begin(&env, &data(INCOMING), two.list(), Some(&store)).unwrap();
        let wanted = begin().wanted().unwrap();
        // The process ended between the last write of a file and its sync.
        let part = data(INCOMING).with_extension("part").join(&wanted.name);
        let mut bytes = vec![0; wanted.bytes as usize];
        let file = two.source.open_file(&wanted.name).unwrap();
        file.read_exact_at(&mut bytes, 0).unwrap();
        env.disk.create(&part).unwrap().write_at(&bytes, 0).unwrap();
        let mut receiver = begin();
        let second = receiver.wanted().unwrap();
        assert_ne!(second.name, wanted.name);
        // A sync that fails has lost something, and the next one does not say so.
        disk.fail_syncs_after_write_points(disk.write_points());
        let error = send(&two.source, &mut receiver).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
        disk.clear_faults();
        assert_eq!(receiver.wanted().unwrap(), second);
        drop(receiver);
        two.receive(&env, &store).unwrap();
        let env = SimEnv::with_disk(disk.restart(seed), seed).env();
        check(&open(&env, &data("store")), &two.log, LogIndex(20));
    }
}

#[test]
fn a_file_that_cannot_be_read_here_is_sent() {
    let two = Two::new();
    let disk = SimDisk::new(3);
    let (env, store) = two.behind(&disk).unwrap();
    two.receive(&env, &store).unwrap();
    let store = open(&env, &data("store"));
    let begin = || Receiver::begin(&env, &data(INCOMING), two.list(), Some(&store));
    let from = disk.read_points();
    let receiver = begin().unwrap();
    let all = receiver.linked_bytes();
    receiver.discard().unwrap();
    let points = disk.read_points() - from;
    let mut sent = 0;
    for point in 0..points {
        disk.fail_reads(disk.read_points() + point..disk.read_points() + point + 1);
        let begun = begin();
        disk.clear_faults();
        // Reads of what is no file of a checkpoint may fail as well.
        let Ok(receiver) = begun else {
            continue;
        };
        sent += u32::from(receiver.linked_bytes() < all);
        receiver.discard().unwrap();
    }
    assert!(sent > 0, "no file was read in {points} reads");
}

#[test]
fn what_a_store_has_is_not_sent_again() {
    let two = Two::new();
    let (env, store) = two.behind(&SimDisk::new(3)).unwrap();
    two.receive(&env, &store).unwrap();
    // The same node falls behind again, and the leader has little more.
    let store = open(&env, &data("store"));
    let receiver = Receiver::begin(&env, &data(INCOMING), two.list(), Some(&store)).unwrap();
    let segments = two.source.files()[1..].iter().map(|file| file.bytes);
    assert_eq!(receiver.linked_bytes(), segments.sum::<u64>());
    assert!(receiver.wanted().unwrap().name.starts_with("manifest-"));
    receiver.discard().unwrap();
    // A file that has decayed here is sent.
    let file = &two.source.files()[1];
    let path = data("store").join(&file.name);
    let disk = SimDisk::new(3);
    let (env, store) = two.behind(&disk).unwrap();
    two.receive(&env, &store).unwrap();
    let store = open(&env, &data("store"));
    disk.flip_bits(&path, file.bytes / 2, 1).unwrap();
    let receiver = Receiver::begin(&env, &data(INCOMING), two.list(), Some(&store)).unwrap();
    let segments = two.source.files()[2..].iter().map(|file| file.bytes);
    assert_eq!(receiver.linked_bytes(), segments.sum::<u64>());
}

/// The next checkpoint of the same store: files that are in both are neither sent nor read again.
#[test]
fn a_receiver_goes_over_to_the_next_checkpoint() {
    let env = SimEnv::new(9).env();
    let log = log(20);
    let store = open(&env, Path::new("/leader"));
    apply_from(&store, &log[..15].to_vec());
    store.maintain().unwrap();
    let first = store.checkpoint(Path::new("/checkpoint-1")).unwrap();
    apply_from(&store, &log);
    let second = store.checkpoint(Path::new("/checkpoint-2")).unwrap();
    let shared = |file: &&chronos_store::checkpoint::CheckpointFile| first.files().contains(file);
    let shared: Vec<_> = second.files().iter().filter(shared).collect();
    assert!(!shared.is_empty() && shared.len() + 1 < second.files().len());

    let disk = SimDisk::new(4);
    let here = SimEnv::with_disk(disk.clone(), 1).env();
    let list = first.list().clone();
    let mut receiver = Receiver::begin(&here, &data(INCOMING), list, None).unwrap();
    send(&first, &mut receiver).unwrap();
    // What decays in between is not noticed: it is not read.
    let part = data(INCOMING).with_extension("part").join(&shared[0].name);
    disk.flip_bits(&part, 0, 1).unwrap();
    let mut receiver = receiver.go_over_to(second.list().clone(), None).unwrap();
    let bytes = shared.iter().map(|file| file.bytes).sum::<u64>();
    assert_eq!(receiver.received_bytes(), bytes);
    disk.flip_bits(&part, 0, 1).unwrap();
    send(&second, &mut receiver).unwrap();
    let received = receiver.finish().unwrap();
    received.verify().unwrap();
    replace_store(&here, Path::new(DATA)).unwrap();
    check(&open(&here, &data("store")), &log, LogIndex(20));
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused_at_the_beginning() {
    let two = Two::new();
    let disk = SimDisk::new(3);
    let (env, store) = two.behind(&disk).unwrap();
    disk.set_available_space(100);
    let refused = Receiver::begin(&env, &data(INCOMING), two.list(), Some(&store)).unwrap_err();
    assert!(refused.is_disk_full(), "{refused}");
}

/// Views keep the files of a store whose directory is another's by now, and take nothing of that.
#[test]
fn views_of_a_replaced_store_read_on_and_remove_nothing_of_the_new_one() {
    let two = Two::new();
    let (env, store) = two.behind(&SimDisk::new(3)).unwrap();
    let t = std::sync::Arc::new(table("t", 1, true));
    for entry in &two.log[6..8] {
        apply(&store, entry).unwrap();
        store.flush_now().unwrap();
    }
    let view = store.read_view();
    let before = scan(&view, &t, request(VersionFilter::All));
    // Its segments are obsolete, and go with the view.
    let kept = env.disk.read_dir(&data("store/segments")).unwrap();
    store.compact_now().unwrap();
    two.receive(&env, &store).unwrap();
    let new = open(&env, &data("store"));
    let segments = env.disk.read_dir(&data("store/segments")).unwrap();
    assert!(kept.iter().any(|name| segments.contains(name)), "{kept:?}");
    assert_eq!(scan(&view, &t, request(VersionFilter::All)), before);
    drop(view);
    store.flush_now().unwrap_err();
    drop(store);
    assert_eq!(
        env.disk.read_dir(&data("store/segments")).unwrap(),
        segments
    );
    replay(&new, &two.log, 0).unwrap();
    check(&new, &two.log, LogIndex(20));
}
