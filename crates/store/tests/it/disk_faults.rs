//! The scripted life of the power-cut test on a disk that fails at every point in turn: it is
//! full, its syncs fail, it turns read-only, a read meets a bad sector. Nothing panics, no
//! answer is wrong, and when the fault is gone the store stands where it was published and
//! takes the rest of the log.

use std::path::Path;

use chronos_env::{Disk, SimDisk, SimEnv};
use chronos_store::{LogIndex, Store, StoreError};

use crate::fixture::{options, stamp};
use crate::power_cut::{check, live, replay, script, Reached, Step};

const SEED: u64 = 3;

/// The undisturbed run: its disk, and what was applied.
fn rehearsal() -> (SimDisk, Reached) {
    let disk = SimDisk::new(SEED);
    let mut reached = Reached::nothing();
    live(&disk, &script(), &mut reached).unwrap();
    (disk, reached)
}

fn open(disk: &SimDisk) -> Result<Store, StoreError> {
    let env = SimEnv::with_disk(disk.clone(), 1).env();
    Store::open(&env, Path::new("/d/store"), options())
}

/// What a restart finds, with and without a power cut after the fault.
fn check_after(disk: &SimDisk, reached: &Reached, whole: &Reached, what: &str) {
    disk.clear_faults();
    let as_left = |disk: &SimDisk| disk.clone();
    let cut = |disk: &SimDisk| disk.restart(9);
    for restart in [as_left as fn(&SimDisk) -> SimDisk, cut] {
        let store = open(&restart(disk)).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(store.damage(), [], "{what}");
        let from = store.applied_index();
        assert!(from >= reached.flushed, "{what}: {from}");
        check(&store, &whole.log, from);
        replay(&store, &whole.log, reached.log.len()).unwrap_or_else(|e| panic!("{what}: {e}"));
        store.flush_now().unwrap();
        store.compact_now().unwrap();
        check(&store, &whole.log, LogIndex(whole.log.len() as u64));
        store.close();
    }
}

/// Runs the script with a fault at every write point; the errors that were seen.
fn at_every_write_point(fault: fn(&SimDisk, u64)) -> Vec<StoreError> {
    let (disk, whole) = rehearsal();
    let mut errors = Vec::new();
    for point in 0..disk.write_points() {
        let disk = SimDisk::new(SEED);
        fault(&disk, point);
        let mut reached = Reached::nothing();
        // The removal of a file that is not needed may fail unnoticed.
        errors.extend(live(&disk, &script(), &mut reached).err());
        check_after(&disk, &reached, &whole, &format!("point {point}"));
    }
    errors
}

#[test]
fn a_full_disk_at_every_write_is_told_and_survived() {
    let errors = at_every_write_point(|disk, point| disk.fill_after_write_points(point));
    assert!(errors.len() > 60, "{}", errors.len());
    for error in errors {
        assert!(error.is_disk_full(), "{error}");
        assert_eq!(error.sqlstate(), chronos_model::SqlState::DISK_FULL);
    }
}

#[test]
fn a_failing_sync_at_every_point_is_told_and_survived() {
    let errors = at_every_write_point(|disk, point| disk.fail_syncs_after_write_points(point));
    assert!(errors.len() > 60, "{}", errors.len());
    for error in errors {
        let text = chronos_store::with_causes(&error);
        assert!(text.contains("simulated failure of sync"), "{text}");
    }
}

#[test]
fn a_disk_that_turns_read_only_at_any_point_is_told_and_survived() {
    let errors = at_every_write_point(|disk, point| disk.read_only_after_write_points(point));
    assert!(errors.len() > 60, "{}", errors.len());
    for error in errors {
        let text = chronos_store::with_causes(&error);
        assert!(text.contains("read-only"), "{text}");
    }
}

#[test]
fn a_read_only_disk_is_told_at_open() {
    let (disk, _) = rehearsal();
    disk.read_only_after_write_points(0);
    let text = chronos_store::with_causes(&open(&disk).unwrap_err());
    assert!(text.contains("read-only"), "{text}");
}

/// What was just written is opened again before anything counts on it.
#[test]
fn a_flush_that_cannot_be_read_back_leaves_no_files() {
    let disk = SimDisk::new(SEED);
    let store = open(&disk).unwrap();
    let mut reached = Reached::nothing();
    for step in script().into_iter().take(2) {
        let Step::Apply(set) = step else { continue };
        let index = LogIndex(reached.log.len() as u64 + 1);
        reached.log.push((index, stamp(index.0), set));
    }
    replay(&store, &reached.log, reached.log.len()).unwrap();
    disk.fail_reads(disk.read_points()..u64::MAX);
    for _ in 0..3 {
        let text = chronos_store::with_causes(&store.flush_now().unwrap_err());
        assert!(text.contains("os error 5"), "{text}");
    }
    disk.clear_faults();
    let segments = Path::new("/d/store/segments");
    assert!(disk.read_dir(segments).unwrap().is_empty());
    store.flush_now().unwrap();
    check(&store, &reached.log, LogIndex(2));
}

/// A bad sector fails the one operation, and leaves no trace once it reads again. A
/// disk from which nothing can be read any more stays an error.
#[test]
fn a_bad_sector_at_every_read_is_told_and_survived() {
    let (disk, whole) = rehearsal();
    let reads = disk.read_points();
    assert!(reads > 100, "{reads}");
    let mut refused = 0;
    for point in 0..reads {
        for last in [point + 1, u64::MAX] {
            let disk = SimDisk::new(SEED);
            disk.fail_reads(point..last);
            let mut reached = Reached::nothing();
            if let Err(error) = live(&disk, &script(), &mut reached) {
                let text = chronos_store::with_causes(&error);
                assert!(text.contains("os error 5"), "{text}");
                refused += 1;
            }
            let what = format!("read {point}..{last}");
            check_after(&disk, &reached, &whole, &what);
        }
    }
    assert!(refused > reads, "{refused} of {reads}");
}
