//! Votes, the floor and what is committed: kept across restarts, power cuts and damage.

use chronos_env::{Disk, SimDisk};

use super::*;
use crate::log::Durability;

const SLOT: u64 = 4096;

fn path() -> std::path::PathBuf {
    dir().join("hard-state")
}

#[test]
fn a_vote_is_known_when_it_is_durable_and_after_a_restart() {
    let disk = SimDisk::new(1);
    let (log, found) = open(&env_on(&disk, 1), small_files());
    assert_eq!((found.vote, log.vote()), (None, None));
    for term in 1..6 {
        let saved = vote(term, term + 1);
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let seen_by = log.clone();
        log.save_vote(saved, move |result| {
            sender.send((result, seen_by.vote())).unwrap();
        });
        let (result, seen) = receiver.recv().unwrap();
        result.unwrap();
        assert_eq!(seen, Some(saved));
        assert_eq!(log.vote(), Some(saved));
    }
    drop(log);
    let (log, found) = open(&env_on(&disk.restart(1), 1), small_files());
    assert_eq!(found.vote, Some(vote(5, 6)));
    assert_eq!(log.vote(), found.vote);
}

/// Whatever the durability of entries.
#[test]
fn entries_before_a_vote_are_durable_before_it() {
    for durability in [Durability::Strict, Durability::None] {
        let options = LogOptions {
            durability,
            ..small_files()
        };
        let mut voted = 0;
        for point in 0..40 {
            let disk = SimDisk::new(point);
            let (log, _) = open(&env_on(&disk, 1), options.clone());
            disk.crash_after_write_points(disk.write_points() + point);
            log.append((1..9).map(|i| entry(i, payload(i, 0))).collect(), |_| {});
            let acknowledged = save_vote(&log, vote(7, 1)).is_ok();
            drop(log);
            for seed in 0..6 {
                let (log, found) = open(&env_on(&disk.restart(seed), 1), options.clone());
                assert!(!acknowledged || found.vote.is_some());
                if found.vote.is_some() {
                    voted += 1;
                    assert_eq!(log.last().map(|it| it.1), Some(LogIndex(8)));
                }
            }
        }
        assert!(voted > 20, "{voted}");
    }
}

#[test]
fn a_torn_or_damaged_state_leaves_the_one_before_and_both_are_damage() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&env_on(&disk, 1), small_files());
    for term in 1..4 {
        save_vote(&log, vote(term, 1)).unwrap();
    }
    log.close().unwrap();
    // The file is made with sequence number 0, so the third vote is in the odd slot.
    let votes_when_damaged = [(0, 3), (SLOT, 2)];
    for (slot, term) in votes_when_damaged {
        for byte in 0..68 {
            let disk = disk.restart(byte);
            disk.flip_bits(&path(), slot + byte, 1 << (byte % 8))
                .unwrap();
            let (log, found) = open(&env_on(&disk, 1), small_files());
            assert_eq!(found.vote, Some(vote(term, 1)), "byte {byte} of {slot}");
            // The next vote heals it.
            save_vote(&log, vote(9, 1)).unwrap();
            save_vote(&log, vote(10, 1)).unwrap();
            drop(log);
            disk.flip_bits(&path(), slot + byte, 1).unwrap();
            let (log, _) = open(&env_on(&disk, 1), small_files());
            assert!(log.vote() >= Some(vote(9, 1)));
        }
    }
    let disk = disk.restart(0);
    disk.flip_bits(&path(), 40, 1).unwrap();
    disk.flip_bits(&path(), SLOT + 40, 1).unwrap();
    let before = disk.read(&path()).unwrap();
    let error = Log::open(&env_on(&disk, 1), dir(), small_files()).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("hard-state"), "{error}");
    assert_eq!(disk.read(&path()).unwrap(), before);
    let mut damage = Vec::new();
    crate::log::verify(&disk, dir(), |_, _, _| {}, |error| damage.push(error)).unwrap();
    assert!(matches!(damage[..], [LogError::Damaged { .. }]));
}

#[test]
fn a_newer_layout_is_named() {
    let disk = SimDisk::new(1);
    open(&env_on(&disk, 1), small_files()).0.close().unwrap();
    let mut slot = disk.read(&path()).unwrap()[..68].to_vec();
    slot[8] = 2;
    let crc = crc32fast::hash(&slot[..64]);
    slot[64..68].copy_from_slice(&crc.to_le_bytes());
    disk.open_write(&path())
        .unwrap()
        .write_at(&slot, 0)
        .unwrap();
    let error = Log::open(&env_on(&disk, 1), dir(), small_files()).unwrap_err();
    assert!(
        matches!(error, LogError::UnsupportedVersion { found: 2, .. }),
        "{error}"
    );
}

/// The page cache shows a vote that the medium does not have: a start that builds on it makes it
/// durable first.
#[test]
fn a_vote_that_a_restart_finds_after_a_failed_sync_is_durable_from_then_on() {
    let mut reappeared = 0;
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let (log, _) = open(&env_on(&disk, 1), small_files());
        save_vote(&log, vote(1, 1)).unwrap();
        disk.fail_syncs_after_write_points(disk.write_points());
        save_vote(&log, vote(2, 1)).unwrap_err();
        assert_eq!(log.vote(), Some(vote(1, 1)));
        disk.clear_faults();
        drop(log);
        let (log, found) = open(&env_on(&disk, 1), small_files());
        reappeared += u64::from(found.vote == Some(vote(2, 1)));
        drop(log);
        let (_, after) = open(&env_on(&disk.restart(seed), 1), small_files());
        assert_eq!(after.vote, found.vote);
    }
    assert!(reappeared > 0);
}

#[test]
fn a_floor_is_kept_and_a_gap_is_left_even_if_the_power_goes_in_between() {
    let rehearsal = SimDisk::new(1);
    let gap = |disk: &SimDisk| -> Result<(), LogError> {
        let (log, _) = Log::open(&env_on(disk, 1), dir(), small_files())?;
        append(&log, (1..9).map(|i| entry(i, "x")).collect())?;
        log.purge(Term(7), LogIndex(1000))?;
        append(&log, vec![entry_of(8, 1001, "y")])
    };
    gap(&rehearsal).unwrap();
    let mut floors = 0;
    for point in 0..rehearsal.write_points() {
        let disk = SimDisk::new(1);
        disk.crash_after_write_points(point);
        gap(&disk).unwrap_err();
        for seed in 0..8 {
            let (log, found) = open(&env_on(&disk.restart(seed), 1), small_files());
            match found.purged {
                None => assert!(log.last().is_none_or(|it| it.1 <= LogIndex(8))),
                Some(floor) => {
                    floors += 1;
                    assert_eq!(floor, (Term(7), LogIndex(1000)));
                    assert!(log.last() >= Some(floor));
                    let next = found.next_index.unwrap();
                    assert!(next > floor.1);
                    assert!(append(&log, vec![entry(9, "")]).is_err());
                    append(&log, vec![entry_of(9, next.0, "z")]).unwrap();
                }
            }
        }
    }
    assert!(floors > 8, "{floors}");
}

/// A joining node: the first thing its log hears of is a checkpoint.
#[test]
fn an_empty_log_begins_behind_a_checkpoint() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, small_files());
    log.purge(Term(3), LogIndex(70)).unwrap();
    assert_eq!(log.last(), Some((Term(3), LogIndex(70))));
    log.close().unwrap();
    let (log, found) = open(&env, small_files());
    assert_eq!(found.purged, Some((Term(3), LogIndex(70))));
    assert_eq!(found.next_index, Some(LogIndex(71)));
    assert_eq!(found.last_index, None);
    append(&log, vec![entry_of(3, 71, "x")]).unwrap();
    assert_eq!(log.bounds(), Some((LogIndex(71), LogIndex(71))));
}

#[test]
fn a_log_without_the_file_has_no_vote_and_a_floor_before_its_first_entry() {
    for cut in [1, 20] {
        let disk = SimDisk::new(1);
        let (log, _) = open(&env_on(&disk, 1), small_files());
        append(
            &log,
            (1..40).map(|i| entry_of(1, i, payload(i, 0))).collect(),
        )
        .unwrap();
        log.cut_before(LogIndex(cut)).unwrap();
        save_vote(&log, vote(1, 1)).unwrap();
        log.close().unwrap();
        // As a version without votes leaves it.
        disk.remove_file(&path()).unwrap();
        let (log, found) = open(&env_on(&disk, 1), small_files());
        assert_eq!(found.vote, None);
        let first = found.first_index.unwrap();
        let floor = (first.0 > 1).then(|| (Term(1), LogIndex(first.0 - 1)));
        assert_eq!((cut > 1, found.purged), (floor.is_some(), floor));
        // It becomes part of the state.
        save_vote(&log, vote(2, 1)).unwrap();
        log.close().unwrap();
        let (_, again) = open(&env_on(&disk, 1), small_files());
        assert_eq!(again.purged, floor);
        assert_eq!(again.vote, Some(vote(2, 1)));
    }
}

#[test]
fn a_purged_log_whose_files_were_removed_is_damage() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&env_on(&disk, 1), small_files());
    append(&log, vec![entry(1, "x")]).unwrap();
    log.purge(Term(1), LogIndex(1)).unwrap();
    log.close().unwrap();
    disk.remove_file(&dir().join("0000000000000001.log"))
        .unwrap();
    let error = Log::open(&env_on(&disk, 1), dir(), small_files()).unwrap_err();
    assert!(error.to_string().contains("no log file"), "{error}");
}

#[test]
fn what_is_committed_goes_with_the_next_batch_and_is_never_wrong() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&env_on(&disk, 1), small_files());
    append(&log, (1..9).map(|i| entry_of(1, i, "x")).collect()).unwrap();
    let points = disk.write_points();
    log.note_committed(Term(1), LogIndex(4));
    // Not of this log, behind its end, or no news.
    log.note_committed(Term(2), LogIndex(5));
    log.note_committed(Term(1), LogIndex(9));
    log.note_committed(Term(1), LogIndex(3));
    assert_eq!(log.committed(), Some((Term(1), LogIndex(4))));
    assert_eq!(disk.write_points(), points, "a note alone writes nothing");
    log.close().unwrap();
    let (log, found) = open(&env_on(&disk.restart(1), 1), small_files());
    assert_eq!(found.committed, Some((Term(1), LogIndex(4))));
    log.note_committed(Term(1), LogIndex(6));
    let before = log.stats().fsyncs;
    append(&log, vec![entry_of(1, 9, "x")]).unwrap();
    assert_eq!(log.stats().fsyncs, before + 1);
    log.close().unwrap();
}

#[test]
fn a_damaged_note_leaves_the_one_before_and_both_leave_none() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&env_on(&disk, 1), small_files());
    for index in 1..4 {
        append(&log, vec![entry_of(1, index, "x")]).unwrap();
        log.note_committed(Term(1), LogIndex(index));
        log.sync_now().unwrap();
    }
    log.close().unwrap();
    disk.flip_bits(&path(), 3 * SLOT + 57, 1).unwrap();
    let (log, found) = open(&env_on(&disk, 1), small_files());
    assert_eq!(found.committed, Some((Term(1), LogIndex(2))));
    log.close().unwrap();
    disk.flip_bits(&path(), 2 * SLOT, 1).unwrap();
    let (_, found) = open(&env_on(&disk, 1), small_files());
    assert_eq!(found.committed, None);
}

/// A note that reached the disk although its entries did not.
#[test]
fn a_note_about_lost_entries_is_cut_to_what_is_stored_and_one_of_another_term_is_void() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&env_on(&disk, 1), small_files());
    append(
        &log,
        (1..9).map(|i| entry_of(1, i, payload(i, 0))).collect(),
    )
    .unwrap();
    log.note_committed(Term(1), LogIndex(8));
    log.close().unwrap();
    let with_note = disk.read(&path()).unwrap();
    let expect = |term: u64, committed: Option<(u64, u64)>| {
        let disk = SimDisk::new(1);
        let (log, _) = open(&env_on(&disk, 1), small_files());
        let last = if term == 1 { 5 } else { 9 };
        append(&log, (1..last).map(|i| entry_of(term, i, "y")).collect()).unwrap();
        log.close().unwrap();
        disk.open_write(&path())
            .unwrap()
            .write_at(&with_note, 0)
            .unwrap();
        let (_, found) = open(&env_on(&disk, 1), small_files());
        let committed = committed.map(|(term, index)| (Term(term), LogIndex(index)));
        assert_eq!(found.committed, committed);
    };
    expect(1, Some((1, 4)));
    expect(2, None);
}
