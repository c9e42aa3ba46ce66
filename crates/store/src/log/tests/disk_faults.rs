//! The script of the power-cut test on a disk that fails at every point in turn: full, without
//! syncs, read-only, unreadable. What was acknowledged is there when the fault is gone, with and
//! without a power cut in between, and nothing is there that was never offered.

use std::sync::Arc;

use chronos_env::SimDisk;
use parking_lot::Mutex;

use super::power_cut::{check, script, Seen};
use super::*;

/// Runs the script with a fault at every point of a count; gives the errors that were seen.
fn at_every_point(points: u64, fault: impl Fn(&SimDisk, u64)) -> Vec<LogError> {
    let mut errors = Vec::new();
    for point in 0..points {
        let disk = SimDisk::new(1);
        fault(&disk, point);
        let seen = Arc::<Mutex<Seen>>::default();
        errors.extend(script(&disk, &seen).err());
        disk.clear_faults();
        // The one that is looked at without a cut comes first: a restart ends the other.
        check(&seen.lock(), &disk, &format!("point {point}"));
        let seen = Arc::<Mutex<Seen>>::default();
        let disk = SimDisk::new(1);
        fault(&disk, point);
        let _ = script(&disk, &seen);
        for seed in 0..4 {
            let what = format!("point {point}, cut with seed {seed}");
            check(&seen.lock(), &disk.restart(seed), &what);
        }
    }
    errors
}

fn write_points() -> u64 {
    let rehearsal = SimDisk::new(1);
    script(&rehearsal, &Arc::default()).unwrap();
    rehearsal.write_points()
}

fn text_of(error: &LogError) -> String {
    crate::with_causes(error)
}

#[test]
fn a_full_disk_at_every_write() {
    let errors = at_every_point(write_points(), |disk, point| {
        disk.fill_after_write_points(point);
    });
    assert!(errors.len() > 80, "{}", errors.len());
    for error in errors {
        assert!(error.is_disk_full(), "{}", text_of(&error));
    }
}

#[test]
fn a_failing_sync_at_every_point() {
    let errors = at_every_point(write_points(), |disk, point| {
        disk.fail_syncs_after_write_points(point);
    });
    assert!(errors.len() > 80, "{}", errors.len());
    for error in errors {
        let text = text_of(&error);
        assert!(text.contains("simulated failure of sync"), "{text}");
    }
}

#[test]
fn a_disk_that_turns_read_only_at_any_point() {
    let errors = at_every_point(write_points(), |disk, point| {
        disk.read_only_after_write_points(point);
    });
    assert!(errors.len() > 80, "{}", errors.len());
    for error in errors {
        let text = text_of(&error);
        assert!(text.contains("read-only"), "{text}");
    }
}

#[test]
fn a_bad_sector_at_every_read() {
    let rehearsal = SimDisk::new(1);
    script(&rehearsal, &Arc::default()).unwrap();
    let reads = rehearsal.read_points();
    assert!(reads > 50, "{reads}");
    let errors = at_every_point(reads, |disk, point| disk.fail_reads(point..point + 1));
    assert!(
        errors.len() as u64 > reads / 2,
        "{} of {reads}",
        errors.len()
    );
    for error in errors {
        let text = text_of(&error);
        assert!(text.contains("os error 5"), "{text}");
    }
}
