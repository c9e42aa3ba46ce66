//! The simulated disk must be as cruel as promised and no crueller.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::SimDisk;
use crate::disk::{Disk, DiskFile, LockError};

const SEEDS: u64 = 200;

fn dir_with(disk: &SimDisk, name: &str, content: &[u8]) -> std::sync::Arc<dyn DiskFile> {
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let file = disk.create_new(&Path::new("/d").join(name)).unwrap();
    file.write_at(content, 0).unwrap();
    file.sync_all().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file
}

#[test]
fn what_was_synced_survives_every_cut() {
    let disk = SimDisk::new(1);
    dir_with(&disk, "f", b"kept");
    for seed in 0..SEEDS {
        let after = disk.restart(seed);
        assert_eq!(after.read(Path::new("/d/f")).unwrap(), b"kept");
    }
}

#[test]
fn an_unsynced_write_is_kept_lost_or_torn_by_sectors() {
    let disk = SimDisk::new(1);
    let file = dir_with(&disk, "f", &[0; 2048]);
    file.write_at(&[1; 1536], 256).unwrap();
    let mut found = HashSet::new();
    for seed in 0..SEEDS {
        let content = disk.restart(seed).read(Path::new("/d/f")).unwrap();
        assert_eq!(content.len(), 2048);
        // The parts of the write by sector: 256..512, 512..1024, 1024..1536, 1536..1792.
        let parts = [256..512, 512..1024, 1024..1536, 1536..1792].map(|range| {
            let first = content[range.start];
            assert!(content[range].iter().all(|&byte| byte == first));
            first
        });
        assert!(content[..256]
            .iter()
            .chain(&content[1792..])
            .all(|&b| b == 0));
        found.insert(parts);
    }
    assert!(found.contains(&[0; 4]) && found.contains(&[1; 4]));
    assert!(found.len() > 4, "no torn writes among {found:?}");
}

#[test]
fn a_later_write_may_overtake_an_earlier_one_but_not_within_a_sector() {
    let disk = SimDisk::new(1);
    let file = dir_with(&disk, "f", &[0; 1024]);
    file.write_at(&[1; 10], 0).unwrap();
    file.write_at(&[2; 10], 600).unwrap();
    file.write_at(&[3; 10], 10).unwrap();
    let mut overtaken = false;
    for seed in 0..SEEDS {
        let content = disk.restart(seed).read(Path::new("/d/f")).unwrap();
        overtaken |= content[0] == 0 && content[600] == 2;
        assert!(content[10] == 0 || content[0] == 1);
    }
    assert!(overtaken);
}

#[test]
fn an_unsynced_growth_ends_at_a_length_it_once_had() {
    let disk = SimDisk::new(1);
    let file = dir_with(&disk, "f", b"abc");
    file.write_at(b"defg", 3).unwrap();
    file.set_len(5).unwrap();
    let mut lengths = HashSet::new();
    for seed in 0..SEEDS {
        let content = disk.restart(seed).read(Path::new("/d/f")).unwrap();
        assert!(content.starts_with(b"abc"));
        lengths.insert(content.len());
    }
    assert_eq!(lengths, HashSet::from([3, 5, 7]));
}

#[test]
fn an_unsynced_growth_of_an_empty_file_may_skip_sectors() {
    let disk = SimDisk::new(1);
    let file = dir_with(&disk, "f", b"");
    file.write_at(&[1; 2048], 0).unwrap();
    let mut found = HashSet::new();
    for seed in 0..SEEDS {
        let content = disk.restart(seed).read(Path::new("/d/f")).unwrap();
        assert!(content.is_empty() || content.len() == 2048);
        found.insert(content.iter().position(|byte| *byte == 1));
    }
    assert!(found.contains(&Some(512)), "{found:?}");
}

#[test]
fn names_without_sync_dir_may_be_lost_even_if_the_file_was_synced() {
    let disk = SimDisk::new(1);
    dir_with(&disk, "old", b"old");
    let file = disk.create_new(Path::new("/d/tmp")).unwrap();
    file.write_at(b"new", 0).unwrap();
    file.sync_all().unwrap();
    disk.rename(Path::new("/d/tmp"), Path::new("/d/old"))
        .unwrap();
    let mut found = HashSet::new();
    for seed in 0..SEEDS {
        let after = disk.restart(seed);
        found.insert(after.read(Path::new("/d/old")).unwrap());
    }
    assert_eq!(found, HashSet::from([b"old".to_vec(), b"new".to_vec()]));
}

#[test]
fn replace_is_atomic_at_every_write_point() {
    let scenario =
        |disk: &SimDisk| -> io::Result<()> { disk.replace(Path::new("/d/f"), b"the new content") };
    let rehearsal = SimDisk::new(1);
    dir_with(&rehearsal, "f", b"the old content");
    let before = rehearsal.write_points();
    scenario(&rehearsal).unwrap();
    let mut found = HashSet::new();
    for point in before..rehearsal.write_points() {
        let disk = SimDisk::new(1);
        dir_with(&disk, "f", b"the old content");
        disk.crash_after_write_points(point);
        scenario(&disk).unwrap_err();
        assert!(disk.is_powered_off());
        assert!(disk.read(Path::new("/d/f")).is_err());
        for seed in 0..SEEDS {
            let content = disk.restart(seed).read(Path::new("/d/f")).unwrap();
            found.insert(String::from_utf8(content).unwrap());
        }
    }
    let both = ["the old content", "the new content"].map(String::from);
    assert_eq!(found, HashSet::from(both));
}

#[test]
fn a_removal_without_sync_dir_may_be_undone() {
    let disk = SimDisk::new(1);
    dir_with(&disk, "f", b"x");
    disk.remove_file(Path::new("/d/f")).unwrap();
    let found: HashSet<bool> = (0..SEEDS)
        .map(|seed| disk.restart(seed).exists(Path::new("/d/f")).unwrap())
        .collect();
    assert_eq!(found.len(), 2);
    let disk = disk.restart(3);
    if disk.exists(Path::new("/d/f")).unwrap() {
        disk.remove_file(Path::new("/d/f")).unwrap();
    }
    disk.sync_dir(Path::new("/d")).unwrap();
    for seed in 0..SEEDS {
        assert!(!disk.restart(seed).exists(Path::new("/d/f")).unwrap());
    }
}

#[test]
fn a_failed_sync_loses_data_that_a_later_sync_does_not_bring_back() {
    let disk = SimDisk::new(1);
    let file = dir_with(&disk, "f", &[0; 4096]);
    for sector in 0..8 {
        file.write_at(&[1; 512], sector * 512).unwrap();
    }
    disk.fail_syncs_after_write_points(disk.write_points());
    assert!(file.sync_data().is_err());
    disk.clear_faults();
    file.sync_data().unwrap();
    assert_eq!(disk.read(Path::new("/d/f")).unwrap(), [1; 4096]);
    let content = disk.restart(1).read(Path::new("/d/f")).unwrap();
    assert!(content.contains(&0));
}

#[test]
fn a_full_disk_refuses_writes_and_keeps_what_it_has() {
    let disk = SimDisk::new(1);
    let file = dir_with(&disk, "f", b"abc");
    disk.fill_after_write_points(disk.write_points());
    let error = file.write_at(&[9; 100], 3).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(disk.create_new(Path::new("/d/g")).is_err());
    assert!(disk.read(Path::new("/d/f")).unwrap().starts_with(b"abc"));
    disk.clear_faults();
    file.write_at(b"def", 3).unwrap();
}

#[test]
fn a_read_only_disk_changes_nothing_and_reads_on() {
    let disk = SimDisk::new(1);
    let file = dir_with(&disk, "f", b"abc");
    disk.read_only_after_write_points(disk.write_points());
    let path = Path::new("/d/f");
    let refused = [
        file.write_at(b"x", 0).unwrap_err(),
        file.set_len(1).unwrap_err(),
        disk.open_write(path).unwrap_err(),
        disk.create_new(Path::new("/d/g")).unwrap_err(),
        disk.rename(path, Path::new("/d/g")).unwrap_err(),
        disk.remove_file(path).unwrap_err(),
        disk.sync_dir(Path::new("/d")).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
    assert!(disk.lock_exclusive(Path::new("/d/LOCK")).is_err());
    assert_eq!(disk.read(path).unwrap(), b"abc");
    disk.clear_faults();
    file.write_at(b"x", 0).unwrap();
}

#[test]
fn chosen_reads_fail_and_those_around_them_do_not() {
    let disk = SimDisk::new(1);
    let file = dir_with(&disk, "f", b"abc");
    let next = disk.read_points();
    disk.fail_reads(next + 1..next + 2);
    let mut byte = [0];
    file.read_at(&mut byte, 0).unwrap();
    let error = file.read_at(&mut byte, 0).unwrap_err();
    assert!(crate::is_medium_error(&error), "{error}");
    file.read_at(&mut byte, 2).unwrap();
    assert_eq!(&byte, b"c");
}

#[test]
fn hard_links_share_one_file_across_a_restart() {
    let disk = SimDisk::new(1);
    dir_with(&disk, "f", b"abc");
    disk.hard_link(Path::new("/d/f"), Path::new("/d/g"))
        .unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    let disk = disk.restart(1);
    let file = disk.open_write(Path::new("/d/f")).unwrap();
    file.write_at(b"X", 0).unwrap();
    assert_eq!(disk.read(Path::new("/d/g")).unwrap(), b"Xbc");
}

#[test]
fn a_lock_is_exclusive_until_dropped_or_the_power_goes() {
    let disk = SimDisk::new(1);
    let guard = disk.lock_exclusive(Path::new("/LOCK")).unwrap();
    assert!(matches!(
        disk.lock_exclusive(Path::new("/LOCK")),
        Err(LockError::Held { pid: Some(_), .. })
    ));
    disk.restart(1).lock_exclusive(Path::new("/LOCK")).unwrap();
    drop(guard);
}

#[test]
fn the_same_seed_gives_the_same_disk() {
    let content = |seed| {
        let disk = SimDisk::new(1);
        let file = dir_with(&disk, "f", &[0; 8192]);
        for index in 0..16 {
            file.write_at(&[index; 700], u64::from(index) * 500)
                .unwrap();
        }
        disk.restart(seed).read(Path::new("/d/f")).unwrap()
    };
    for seed in 0..20 {
        assert_eq!(content(seed), content(seed));
    }
}
