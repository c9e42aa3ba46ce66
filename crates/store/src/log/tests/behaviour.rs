//! What callers are promised, one test each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use chronos_env::{Disk, SimDisk};

use super::*;
use crate::log::Durability;

#[test]
fn entries_survive_a_clean_restart() {
    let env = Env::simulated(1);
    let (log, found) = open(&env, LogOptions::default());
    assert_eq!((found.first_index, found.last_index), (None, None));
    assert_eq!(log.bounds(), None);
    let entries: Vec<_> = (7..20).map(|i| entry(i, payload(i, 0))).collect();
    append(&log, entries[..5].to_vec()).unwrap();
    append(&log, entries[5..].to_vec()).unwrap();
    assert_eq!(read_all(&log), entries);
    log.close().unwrap();
    log.close().unwrap();
    assert!(matches!(
        append(&log, vec![entry(20, "")]),
        Err(LogError::Closed)
    ));

    let (log, found) = open(&env, LogOptions::default());
    assert_eq!(found.first_index, Some(LogIndex(7)));
    assert_eq!(found.last_index, Some(LogIndex(19)));
    assert_eq!(found.next_index, Some(LogIndex(20)));
    assert_eq!(found.last_term, Some(Term(2)));
    assert_eq!(found.truncated_bytes, 0);
    assert_eq!(read_all(&log), entries);
    append(&log, vec![entry(20, "next")]).unwrap();
}

#[test]
fn a_read_starts_anywhere_and_ends_at_the_end() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, LogOptions::default());
    for index in 0..3000 {
        log.append(vec![entry(index, vec![1; 100])], |result| result.unwrap());
    }
    log.sync_now().unwrap();
    for from in [0, 1, 500, 1499, 2999] {
        let indexes: Vec<u64> = log
            .read(LogIndex(from))
            .unwrap()
            .map(|it| it.unwrap().index.0)
            .collect();
        assert_eq!(indexes, (from..3000).collect::<Vec<_>>());
    }
    assert_eq!(log.read(LogIndex(3000)).unwrap().count(), 0);
    assert_eq!(log.read(LogIndex(u64::MAX)).unwrap().count(), 0);
}

#[test]
fn answers_come_in_order() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, small_files());
    let answered = Arc::new(AtomicU64::new(0));
    for index in 0..500 {
        let answered = answered.clone();
        log.append(vec![entry(index, payload(index, 0))], move |result| {
            result.unwrap();
            assert_eq!(answered.fetch_add(1, Ordering::SeqCst), index);
        });
    }
    log.close().unwrap();
    assert_eq!(answered.load(Ordering::SeqCst), 500);
}

#[test]
fn many_writers_share_syncs_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(&Env::real(), dir.path(), LogOptions::default()).unwrap();
    let next = Arc::new(parking_lot::Mutex::new(0_u64));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let (sender, receiver) = crossbeam_channel::bounded(1);
                    {
                        let mut next = next.lock();
                        let done = move |result| sender.send(result).unwrap();
                        log.append(vec![entry(*next, payload(*next, 0))], done);
                        *next += 1;
                    }
                    receiver.recv().unwrap().unwrap();
                }
            });
        }
    });
    let stats = log.stats();
    assert_eq!(stats.entries, 800);
    assert_eq!(stats.queue_bytes, 0);
    assert!(stats.fsyncs <= 800);
    assert_eq!(stats.fsync_buckets.iter().sum::<u64>(), stats.fsyncs);
    drop(log);
    let (log, found) = Log::open(&Env::real(), dir.path(), LogOptions::default()).unwrap();
    assert_eq!(found.last_index, Some(LogIndex(799)));
    assert_eq!(log.read(LogIndex(0)).unwrap().count(), 800);
}

#[test]
fn what_does_not_continue_the_log_is_refused_as_a_whole() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, LogOptions::default());
    append(&log, vec![entry(5, "a")]).unwrap();
    for bad in [vec![4], vec![5], vec![7], vec![6, 8], vec![6, 6]] {
        let entries = bad.iter().map(|i| entry(*i, "b")).collect();
        assert!(matches!(
            append(&log, entries),
            Err(LogError::OutOfOrder { .. })
        ));
    }
    append(&log, vec![entry(6, "c")]).unwrap();
    let payloads: Vec<_> = read_all(&log).into_iter().map(|it| it.payload).collect();
    assert_eq!(payloads, ["a", "c"]);
}

#[test]
fn an_entry_above_the_limit_is_refused() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, LogOptions::default());
    // Zeroed memory that is never touched costs nothing.
    let large = vec![0; (1 << 30) + 1];
    let refused = append(&log, vec![entry(1, large)]).unwrap_err();
    assert!(
        matches!(refused, LogError::EntryTooLarge { .. }),
        "{refused}"
    );
    append(&log, vec![entry(1, "small")]).unwrap();
}

#[test]
fn entries_larger_than_a_file_or_the_buffer_are_kept() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, small_files());
    let entries: Vec<_> = [10, 2_000_003, 0, 5_000, 1 << 20, 7]
        .iter()
        .zip(0_u64..)
        .map(|(len, index)| entry(index, vec![index as u8; *len]))
        .collect();
    append(&log, entries.clone()).unwrap();
    assert_eq!(read_all(&log), entries);
    log.close().unwrap();
    assert_eq!(read_all(&open(&env, small_files()).0), entries);
}

#[test]
fn a_truncation_drops_the_end_for_good() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, small_files());
    let old: Vec<_> = (1..40).map(|i| entry(i, payload(i, 0))).collect();
    append(&log, old.clone()).unwrap();
    let before = log.read(LogIndex(1)).unwrap();
    log.truncate_after(LogIndex(50)).unwrap();
    assert_eq!(log.bounds(), Some((LogIndex(1), LogIndex(39))));
    log.truncate_after(LogIndex(20)).unwrap();
    assert_eq!(read_all(&log), old[..20]);
    assert_eq!(before.collect::<Result<Vec<_>, _>>().unwrap(), old);
    let new: Vec<_> = (21..30).map(|i| entry(i, payload(i, 1))).collect();
    append(&log, new.clone()).unwrap();
    let expected: Vec<_> = old[..20].iter().chain(&new).cloned().collect();
    assert_eq!(read_all(&log), expected);
    log.close().unwrap();
    let (log, found) = open(&env, small_files());
    assert_eq!(found.last_index, Some(LogIndex(29)));
    assert_eq!(read_all(&log), expected);
    log.truncate_after(LogIndex(0)).unwrap();
    assert_eq!(log.bounds(), None);
    assert_eq!(log.next_index(), Some(LogIndex(1)));
}

#[test]
fn a_cut_removes_whole_files_and_recycles_some() {
    let disk = SimDisk::new(1);
    let env = env_on(&disk, 1);
    let (log, _) = open(&env, small_files());
    append(&log, (1..60).map(|i| entry(i, payload(i, 0))).collect()).unwrap();
    let files = log.stats().files;
    assert!(files > 8);
    let reader = log.read(LogIndex(1)).unwrap();
    log.cut_before(LogIndex(40)).unwrap();
    assert_eq!(reader.filter(Result::is_ok).count(), 59);
    let (first, last) = log.bounds().unwrap();
    assert!(first > LogIndex(1) && first <= LogIndex(40));
    assert_eq!(last, LogIndex(59));
    assert!(matches!(
        log.read(LogIndex(1)),
        Err(LogError::BelowStart { .. })
    ));
    assert!(matches!(
        log.truncate_after(LogIndex(0)),
        Err(LogError::BelowStart { .. })
    ));
    log.cut_before(LogIndex(60)).unwrap();
    assert_eq!(log.stats().files, 1);
    let names = disk.read_dir(dir()).unwrap();
    assert_eq!(names.iter().filter(|it| it.ends_with(".spare")).count(), 2);
    append(&log, (60..99).map(|i| entry(i, payload(i, 0))).collect()).unwrap();
    let kept = read_all(&log);
    log.close().unwrap();
    assert_eq!(read_all(&open(&env, small_files()).0), kept);
}

#[test]
fn a_cut_behind_the_end_moves_the_start() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, small_files());
    append(&log, (1..20).map(|i| entry(i, payload(i, 0))).collect()).unwrap();
    log.cut_before(LogIndex(1000)).unwrap();
    assert_eq!(log.bounds(), None);
    log.close().unwrap();
    let (log, found) = open(&env, small_files());
    assert_eq!(found.next_index, Some(LogIndex(1000)));
    assert!(append(&log, vec![entry(20, "")]).is_err());
    append(&log, vec![entry(1000, "")]).unwrap();
    assert_eq!(log.bounds(), Some((LogIndex(1000), LogIndex(1000))));
}

#[test]
fn a_failed_sync_stops_the_log() {
    let disk = SimDisk::new(1);
    let env = env_on(&disk, 1);
    let (log, _) = open(&env, LogOptions::default());
    append(&log, vec![entry(1, "kept")]).unwrap();
    assert!(log.stopped().is_none());
    disk.fail_syncs_after_write_points(disk.write_points());
    assert!(matches!(
        append(&log, vec![entry(2, "lost")]),
        Err(LogError::Io { .. })
    ));
    disk.clear_faults();
    assert!(matches!(log.stopped(), Some(LogError::Poisoned { .. })));
    let refused = append(&log, vec![entry(3, "late")]).unwrap_err();
    assert_eq!(log.last(), Some((entry(2, "").term, LogIndex(2))));
    assert!(
        refused.to_string().contains("simulated failure of sync"),
        "{refused}"
    );
    assert!(matches!(log.sync_now(), Err(LogError::Poisoned { .. })));
    assert!(matches!(
        log.truncate_after(LogIndex(0)),
        Err(LogError::Poisoned { .. })
    ));
    assert!(matches!(
        log.cut_before(LogIndex(9)),
        Err(LogError::Poisoned { .. })
    ));
    assert!(log.close().is_err());
}

#[test]
fn what_a_restart_finds_after_a_failed_sync_is_durable_from_then_on() {
    let options = LogOptions {
        segment_bytes: 1 << 16,
        ..LogOptions::default()
    };
    let mut reappeared = 0;
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let env = env_on(&disk, 1);
        let (log, _) = open(&env, options.clone());
        append(&log, vec![entry(1, "kept")]).unwrap();
        disk.fail_syncs_after_write_points(disk.write_points());
        append(&log, vec![entry(2, vec![2; 3000])]).unwrap_err();
        disk.clear_faults();
        drop(log);
        // The page cache still shows entry 2; the medium may not have it.
        let (log, found) = open(&env, options.clone());
        reappeared += u64::from(found.last_index == Some(LogIndex(2)));
        drop(log);
        let (_, after) = open(&env_on(&disk.restart(seed), 1), options.clone());
        assert_eq!(after.last_index, found.last_index);
    }
    assert!(reappeared > 0);
}

#[test]
fn a_full_disk_is_named_and_stops_the_log() {
    let disk = SimDisk::new(1);
    let env = env_on(&disk, 1);
    let (log, _) = open(&env, small_files());
    append(&log, vec![entry(1, "kept")]).unwrap();
    disk.fill_after_write_points(disk.write_points());
    let full = append(&log, vec![entry(2, "x")]).unwrap_err();
    assert!(full.to_string().starts_with("the disk is full"), "{full}");
    let refused = append(&log, vec![entry(2, "x")]).unwrap_err();
    assert!(
        refused.to_string().contains("the disk is full"),
        "{refused}"
    );
    assert!(full.is_disk_full() && refused.is_disk_full());
    drop(log);
    disk.clear_faults();
    let (log, _) = open(&env, small_files());
    assert_eq!(read_all(&log)[0].payload, "kept");
}

#[test]
fn a_file_that_a_full_disk_did_not_complete_is_removed() {
    let disk = SimDisk::new(1);
    let env = env_on(&disk, 1);
    let (log, _) = open(&env, small_files());
    append(&log, vec![entry(1, "kept")]).unwrap();
    let fills = vec![7; small_files().segment_bytes as usize];
    // The sync of the file before, and the creation of the next one, still succeed.
    disk.fill_after_write_points(disk.write_points() + 1);
    let full = append(&log, vec![entry(2, fills)]).unwrap_err();
    assert!(full.to_string().contains("cannot allocate"), "{full}");
    assert_eq!(
        disk.read_dir(dir()).unwrap(),
        ["0000000000000001.log", "hard-state"]
    );
}

#[test]
fn a_spare_that_is_too_short_is_removed_at_the_open() {
    let disk = SimDisk::new(1);
    let env = env_on(&disk, 1);
    disk.create_dir_all(dir()).unwrap();
    let bytes = small_files().segment_bytes;
    for (name, bytes) in [("1", bytes - 1), ("2", bytes)] {
        let path = dir().join(format!("{name:0>16}.spare"));
        disk.create(&path).unwrap().set_len(bytes).unwrap();
    }
    let (_log, _) = open(&env, small_files());
    assert_eq!(
        disk.read_dir(dir()).unwrap(),
        ["0000000000000002.spare", "hard-state"]
    );
}

#[test]
fn the_size_counts_what_is_in_the_files() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, small_files());
    for index in 0..200 {
        append(&log, vec![entry(index, vec![1; 1000])]).unwrap();
    }
    let before = log.stats();
    assert!(before.file_bytes >= 200_000, "{before:?}");
    log.cut_before(LogIndex(199)).unwrap();
    let after = log.stats();
    assert!(after.file_bytes < before.file_bytes / 2, "{after:?}");
    drop(log);
    let (log, _) = open(&env, small_files());
    assert_eq!(log.stats().file_bytes, after.file_bytes);
}

#[test]
fn weaker_durability_syncs_less_but_closes_durably() {
    for durability in [
        Durability::None,
        Durability::Interval(Duration::from_secs(60)),
    ] {
        let disk = SimDisk::new(1);
        let options = LogOptions {
            durability,
            segment_bytes: 1 << 16,
            ..LogOptions::default()
        };
        let (log, _) = open(&env_on(&disk, 1), options.clone());
        for index in 0..50 {
            append(&log, vec![entry(index, "x")]).unwrap();
        }
        assert_eq!(log.stats().fsyncs, 0);
        log.close().unwrap();
        let (log, _) = open(&env_on(&disk.restart(1), 1), options);
        assert_eq!(read_all(&log).len(), 50);
    }
}

#[test]
fn an_interval_brings_a_sync_without_further_appends() {
    let sim = chronos_env::SimEnv::new(1);
    let options = LogOptions {
        durability: Durability::Interval(Duration::from_millis(1)),
        ..LogOptions::default()
    };
    let (log, _) = open(&sim.env(), options);
    append(&log, vec![entry(1, "x")]).unwrap();
    sim.clock.advance(Duration::from_millis(2));
    let deadline = std::iter::repeat_n((), 20_000_000);
    for () in deadline {
        if log.stats().fsyncs == 1 {
            return;
        }
        std::thread::yield_now();
    }
    panic!("no sync came");
}

#[test]
fn a_full_queue_makes_appends_wait_and_lets_large_ones_through() {
    let env = Env::simulated(1);
    let options = LogOptions {
        queue_bytes_max: 1000,
        ..small_files()
    };
    let (log, _) = open(&env, options);
    for index in 0..300 {
        let bytes = if index % 50 == 0 { 5000 } else { 400 };
        log.append(vec![entry(index, vec![0; bytes])], |result| result.unwrap());
        assert!(log.stats().queue_bytes <= 5000);
    }
    log.sync_now().unwrap();
    assert_eq!(log.stats().queue_bytes, 0);
    assert_eq!(read_all(&log).len(), 300);
}

#[test]
fn the_last_handle_may_be_dropped_by_an_answer() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, LogOptions::default());
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let own = log.clone();
    log.append(vec![entry(1, "x")], move |result| {
        drop(own);
        sender.send(result).unwrap();
    });
    drop(log);
    receiver.recv().unwrap().unwrap();
}

#[test]
fn a_panicking_answer_harms_nobody_else() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, small_files());
    log.append(vec![entry(1, "x")], |_| panic!("on purpose"));
    append(&log, vec![entry(2, "x")]).unwrap();
    log.close().unwrap();
    assert_eq!(read_all(&open(&env, small_files()).0).len(), 2);
}
