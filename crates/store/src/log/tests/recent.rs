//! What is queued can be read at once, what is truncated cannot, and what has left memory is
//! read from files.

use super::*;

/// Nothing is written before a step.
fn stepped(cache_bytes: u64) -> LogOptions {
    LogOptions {
        driver: Driver::Stepped,
        cache_bytes,
        ..small_files()
    }
}

fn queue(log: &Log, entries: &[LogEntry]) {
    log.append(entries.to_vec(), |result| result.unwrap());
}

fn all(log: &Log) -> Vec<LogEntry> {
    let first = log.purged().map_or(LogIndex(1), |it| it.1.next());
    log.entries(first..LogIndex(u64::MAX), u64::MAX).unwrap()
}

fn terms(entries: &[LogEntry]) -> Vec<(u64, u64)> {
    entries.iter().map(|it| (it.term.0, it.index.0)).collect()
}

#[test]
fn entries_are_there_when_append_returns_and_share_their_bytes() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, stepped(1 << 20));
    let entries: Vec<_> = (1..9).map(|i| entry_of(i / 3, i, payload(i, 0))).collect();
    queue(&log, &entries);
    assert_eq!(log.bounds(), None, "nothing is written yet");
    let found = all(&log);
    assert_eq!(found, entries);
    for (found, given) in found.iter().zip(&entries) {
        assert_eq!(found.payload.as_ptr(), given.payload.as_ptr());
    }
    assert_eq!(log.last(), Some((Term(2), LogIndex(8))));
    assert_eq!(log.term_of(LogIndex(3)), Some(Term(1)));
    assert_eq!(log.term_of(LogIndex(0)), None);
    assert_eq!(log.term_of(LogIndex(9)), None);
    let starts = [(0, 1), (1, 3), (2, 6)];
    assert_eq!(
        log.term_starts(),
        starts.map(|(term, index)| (Term(term), LogIndex(index)))
    );
    assert!(log.step());
    assert!(!log.step());
    assert_eq!(read_all(&log), entries);
    let shared = all(&log);
    assert_eq!(shared[0].payload.as_ptr(), entries[0].payload.as_ptr());
}

#[test]
fn a_read_takes_one_entry_at_least_and_no_more_bytes_than_asked_for() {
    let env = Env::simulated(1);
    for cache_bytes in [0, 700, 1 << 20] {
        let (log, _) = open(&env, stepped(cache_bytes));
        log.purge(Term(0), log.last().map_or(LogIndex(0), |it| it.1))
            .unwrap();
        let first = log.last().map_or(1, |it| it.1 .0 + 1);
        let entries: Vec<_> = (first..first + 9).map(|i| entry(i, vec![1; 100])).collect();
        queue(&log, &entries);
        log.sync_now().unwrap();
        let read = |from: u64, to: u64, bytes| {
            let range = LogIndex(first + from)..LogIndex(first + to);
            log.entries(range, bytes).unwrap()
        };
        assert_eq!(read(0, 9, 0), entries[..1]);
        assert_eq!(read(0, 9, 299), entries[..2]);
        assert_eq!(read(0, 9, 300), entries[..3]);
        assert_eq!(read(4, 7, 10_000), entries[4..7]);
        assert_eq!(read(8, 100, 1), entries[8..]);
        assert_eq!(read(3, 3, 1), []);
        assert_eq!(read(9, 12, 1), []);
        drop(log);
    }
}

#[test]
fn memory_is_bounded_by_what_is_written_and_the_rest_comes_from_files() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, stepped(2_000));
    let entries: Vec<_> = (1..60).map(|i| entry(i, payload(i, 0))).collect();
    queue(&log, &entries[..40]);
    assert_eq!(
        all(&log),
        entries[..40],
        "none may leave before it is written"
    );
    log.step();
    queue(&log, &entries[40..]);
    let found = all(&log);
    assert_eq!(found, entries);
    let shared = |at: usize| found[at].payload.as_ptr() == entries[at].payload.as_ptr();
    assert!(!shared(0), "the first ones have left memory");
    assert!(shared(58), "the last ones have not");
    log.sync_now().unwrap();
    assert_eq!(all(&log), entries);
}

#[test]
fn a_truncation_is_seen_at_once_and_indexes_are_used_again() {
    for cache_bytes in [0, 600, 1 << 20] {
        let env = Env::simulated(1);
        let (log, _) = open(&env, stepped(cache_bytes));
        let old: Vec<_> = (1..30).map(|i| entry_of(1, i, payload(i, 0))).collect();
        queue(&log, &old);
        log.step();
        log.truncate_after_then(LogIndex(10), |result| result.unwrap());
        assert_eq!(all(&log), old[..10]);
        assert_eq!(log.last(), Some((Term(1), LogIndex(10))));
        let new: Vec<_> = (11..15).map(|i| entry_of(2, i, payload(i, 1))).collect();
        queue(&log, &new);
        log.truncate_after_then(LogIndex(12), |result| result.unwrap());
        let newer = [entry_of(3, 13, "newer")];
        queue(&log, &newer);
        let expected: Vec<_> = old[..10]
            .iter()
            .chain(&new[..2])
            .chain(&newer)
            .cloned()
            .collect();
        // Files still have the old ones.
        assert_eq!(log.bounds(), Some((LogIndex(1), LogIndex(29))));
        assert_eq!(all(&log), expected);
        assert_eq!(log.term_of(LogIndex(13)), Some(Term(3)));
        assert_eq!(log.term_of(LogIndex(14)), None);
        log.step();
        assert_eq!(all(&log), expected);
        assert_eq!(read_all(&log), expected);
        log.close().unwrap();
        let (log, found) = open(&env, stepped(cache_bytes));
        assert_eq!(all(&log), expected);
        assert_eq!(found.last_term, Some(Term(3)));
    }
}

/// Both files and memory have entries of an index, and only one of them counts.
#[test]
fn what_an_older_line_wrote_lets_nothing_leave_memory() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, stepped(0));
    let old: Vec<_> = (1..9).map(|i| entry_of(1, i, "old")).collect();
    queue(&log, &old);
    let other = log.clone();
    let seen = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let seen_by = seen.clone();
    // Runs when these entries are written and those after them are queued only.
    log.append(vec![entry_of(1, 9, "old")], move |result| {
        result.unwrap();
        other.truncate_after_then(LogIndex(4), |result| result.unwrap());
        other.append(vec![entry_of(2, 5, "new")], |result| result.unwrap());
        seen_by.lock().extend(terms(&all(&other)));
    });
    // Ends the first write of the batch; what follows is of the older line, too.
    log.save_vote(vote(1, 1), |result| result.unwrap());
    queue(&log, &[entry_of(1, 10, "old")]);
    log.step();
    let expected = [(1, 1), (1, 2), (1, 3), (1, 4), (2, 5)];
    assert_eq!(*seen.lock(), expected);
    assert_eq!(terms(&all(&log)), expected);
    log.step();
    assert_eq!(terms(&all(&log)), expected);
}

#[test]
fn what_is_purged_is_refused_at_once() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, stepped(1 << 20));
    queue(
        &log,
        &(1..9).map(|i| entry_of(i, i, "x")).collect::<Vec<_>>(),
    );
    log.purge_then(Term(5), LogIndex(5), |result| result.unwrap());
    assert_eq!(log.purged(), Some((Term(5), LogIndex(5))));
    assert_eq!(log.term_of(LogIndex(5)), Some(Term(5)));
    assert_eq!(log.term_of(LogIndex(4)), None);
    let refused = log.entries(LogIndex(5)..LogIndex(9), 1).unwrap_err();
    assert!(matches!(
        refused,
        LogError::BelowStart {
            index: LogIndex(5),
            first: LogIndex(6)
        }
    ));
    assert_eq!(terms(&all(&log)), [(6, 6), (7, 7), (8, 8)]);
    assert_eq!(log.term_starts()[0], (Term(6), LogIndex(6)));
    log.purge_then(Term(20), LogIndex(50), |result| result.unwrap());
    assert_eq!(all(&log), []);
    assert_eq!(log.last(), Some((Term(20), LogIndex(50))));
    queue(&log, &[entry_of(21, 51, "y")]);
    assert_eq!(terms(&all(&log)), [(21, 51)]);
    log.step();
    assert_eq!(terms(&read_all(&log)), [(21, 51)]);
    assert!(matches!(
        log.truncate_after(LogIndex(49)),
        Err(LogError::BelowStart { .. })
    ));
    log.truncate_after(LogIndex(50)).unwrap();
    assert_eq!(log.last(), Some((Term(20), LogIndex(50))));
}

#[test]
fn a_log_that_has_failed_remembers_no_more() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&env_on(&disk, 1), stepped(1 << 20));
    queue(&log, &[entry(1, "kept")]);
    log.step();
    disk.fail_syncs_after_write_points(disk.write_points());
    log.append(vec![entry(2, "lost")], |result| {
        result.unwrap_err();
    });
    log.step();
    let last = log.last();
    log.append(vec![entry(3, "late")], |result| {
        assert!(matches!(result, Err(LogError::Poisoned { .. })));
    });
    assert!(log.step());
    assert_eq!(log.last(), last);
}
