//! Cuts the power at every write point of a scripted run, and looks at several of the
//! disks that may be found afterwards.

use std::sync::Arc;

use chronos_env::SimDisk;
use parking_lot::Mutex;

use super::here::append_here;
use super::*;

/// What was asked for and what was acknowledged, as seen by the caller.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Every entry ever offered for an index, newest last.
    offered: Vec<LogEntry>,
    /// Entries whose append, or the truncation that kept them, was acknowledged.
    acknowledged: Vec<LogEntry>,
    /// A truncation under way: entries behind it may be gone.
    truncating_to: Option<LogIndex>,
    /// Entries before it may be gone.
    cut: LogIndex,
    /// Entries before it are gone.
    acknowledged_cut: LogIndex,
    votes: Vec<HardVote>,
    acknowledged_vote: Option<HardVote>,
}

/// Appends in batches of several sizes, truncates, votes, cuts and restarts, until the first
/// failure. Files change often, and are recycled.
pub(super) fn script(disk: &SimDisk, seen: &Arc<Mutex<Seen>>) -> Result<(), LogError> {
    let mut next = 1;
    for round in 0..4 {
        let (log, _) = Log::open(&env_on(disk, round), dir(), small_files())?;
        for batch in [1, 3, 1, 2] {
            let entries: Vec<_> = (next..next + batch)
                .map(|index| entry(index, payload(index, round)))
                .collect();
            next += batch;
            seen.lock().offered.extend(entries.clone());
            match batch {
                1 => append_here(&log, entries.clone())?,
                _ => append(&log, entries.clone())?,
            }
            seen.lock().acknowledged.extend(entries);
        }
        let keep = LogIndex(next - 3);
        seen.lock().truncating_to = Some(keep);
        log.truncate_after(keep)?;
        {
            let mut seen = seen.lock();
            seen.truncating_to = None;
            seen.acknowledged.retain(|it| it.index <= keep);
            // What was truncated must not come back.
            seen.offered.retain(|it| it.index <= keep);
        }
        next = keep.0 + 1;
        let cut = LogIndex(next.saturating_sub(4));
        seen.lock().cut = cut;
        log.cut_before(cut)?;
        seen.lock().acknowledged_cut = cut;
        let term = log.last().map_or(0, |it| it.0 .0);
        log.note_committed(Term(term), keep);
        let vote = vote(term + round, round);
        seen.lock().votes.push(vote);
        save_vote(&log, vote)?;
        seen.lock().acknowledged_vote = Some(vote);
        log.close()?;
    }
    Ok(())
}

pub(super) fn check(seen: &Seen, after: &SimDisk, what: &str) {
    let (log, found) = match Log::open(&env_on(after, 99), dir(), small_files()) {
        Ok(opened) => opened,
        Err(error) => panic!("{what}: {error}"),
    };
    let entries = read_all(&log);
    assert_eq!(
        entries.last().map(|it| it.index),
        found.last_index,
        "{what}"
    );
    for pair in entries.windows(2) {
        assert_eq!(pair[1].index, pair[0].index.next(), "{what}: a hole");
    }
    for entry in &entries {
        assert!(
            seen.offered.contains(entry),
            "{what}: {entry:?} was never offered"
        );
    }
    let must_be_there = seen.acknowledged.iter().filter(|it| {
        it.index >= seen.cut && seen.truncating_to.is_none_or(|keep| it.index <= keep)
    });
    for entry in must_be_there {
        assert!(
            entries.contains(entry),
            "{what}: {:?} is missing",
            entry.index
        );
    }
    let first = found.purged.map_or(LogIndex(1), |it| it.1.next());
    assert!(first >= seen.acknowledged_cut, "{what}: the floor is lost");
    assert!(first <= seen.cut.max(LogIndex(1)), "{what}");
    let begin = entries.first().map_or(first, |it| it.index);
    assert_eq!(begin, first, "{what}");
    assert!(
        found.vote >= seen.acknowledged_vote,
        "{what}: a vote is lost"
    );
    let is_asked_for = |vote| seen.votes.contains(&vote);
    assert!(found.vote.is_none_or(is_asked_for), "{what}");
    if let Some((term, index)) = found.committed {
        assert_eq!(log.term_of(index), Some(term), "{what}");
    }
    // The log goes on, and what is appended now is found again.
    let next = log.next_index().map_or(1, |it| it.0);
    let more: Vec<_> = (next..next + 3).map(|i| entry(i, payload(i, 50))).collect();
    append(&log, more.clone()).unwrap();
    drop(log);
    let (log, _) = open(&env_on(&after.restart(1), 99), small_files());
    let mut expected = entries;
    expected.extend(more);
    assert_eq!(read_all(&log), expected, "{what}: after going on");
}

#[test]
fn nothing_acknowledged_is_lost_at_any_write_point() {
    let rehearsal = SimDisk::new(1);
    script(&rehearsal, &Arc::default()).unwrap();
    let points = rehearsal.write_points();
    assert!(points > 100, "the script has only {points} write points");
    for point in 0..points {
        let disk = SimDisk::new(1);
        disk.crash_after_write_points(point);
        let seen = Arc::<Mutex<Seen>>::default();
        // Only what a close notes may fail unheard.
        let _ = script(&disk, &seen);
        assert!(disk.is_powered_off());
        for seed in 0..12 {
            let what = format!("point {point}, seed {seed}");
            check(&seen.lock(), &disk.restart(seed), &what);
        }
    }
}

#[test]
fn a_second_cut_during_recovery_loses_nothing_either() {
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let (log, _) = open(
            &env_on(&disk, 1),
            LogOptions {
                segment_bytes: 1 << 16,
                ..small_files()
            },
        );
        append(&log, (1..9).map(|i| entry(i, payload(i, 0))).collect()).unwrap();
        let kept = read_all(&log);
        disk.crash_after_write_points(disk.write_points() + 1);
        append(&log, (9..29).map(|i| entry(i, payload(i, 0))).collect()).unwrap_err();
        drop(log);
        for point in 0..12 {
            let after = disk.restart(seed);
            after.crash_after_write_points(point);
            drop(Log::open(&env_on(&after, 1), dir(), small_files()));
            let (log, _) = open(&env_on(&after.restart(seed + 1), 1), small_files());
            assert_eq!(read_all(&log)[..kept.len()], kept);
        }
    }
}

/// The trap: a torn record is cut off, a record of the same length takes its place, and
/// the stray record behind it would continue the log again.
#[test]
fn stray_records_behind_a_torn_one_stay_dead() {
    let mut torn = 0;
    for seed in 0..300 {
        let disk = SimDisk::new(seed);
        let options = LogOptions {
            segment_bytes: 1 << 16,
            ..small_files()
        };
        let (log, _) = open(&env_on(&disk, 1), options.clone());
        // Into a recycled file: in a new one the zeros written ahead would hide the trap.
        for _ in 0..2 {
            append(&log, vec![entry(1, vec![0; 1000])]).unwrap();
            log.truncate_after(LogIndex(0)).unwrap();
        }
        append(&log, vec![entry(1, vec![0; 1000])]).unwrap();
        disk.crash_after_write_points(disk.write_points() + 1);
        append(
            &log,
            (2..12).map(|i| entry(i, vec![i as u8; 1000])).collect(),
        )
        .unwrap_err();
        drop(log);
        let disk = disk.restart(seed);
        let (log, found) = open(&env_on(&disk, 1), options.clone());
        torn += u64::from(found.truncated_bytes > 0);
        let next = log.next_index().unwrap().0;
        append(&log, vec![entry(next, vec![99; 1000])]).unwrap();
        drop(log);
        let (_, found) = open(&env_on(&disk, 1), options);
        assert_eq!(found.last_index, Some(LogIndex(next)), "seed {seed}");
    }
    assert!(torn > 20, "only {torn} of 300 writes were torn");
}
