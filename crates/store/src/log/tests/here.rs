//! Appending on the caller's thread, beside the log thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use chronos_env::SimEnv;
use parking_lot::Mutex;

use super::*;
use crate::log::Durability;

/// Waits for the answer, which comes here or from the log thread.
pub(super) fn append_here(log: &Log, entries: Vec<LogEntry>) -> Result<(), LogError> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    log.append_here(entries, move |result| sender.send(result).unwrap());
    receiver.recv().unwrap()
}

#[test]
fn a_caller_alone_writes_syncs_and_answers_itself() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&env_on(&disk, 1), small_files());
    // From now on the log thread sleeps.
    log.sync_now().unwrap();
    let mut answered_here = 0;
    for index in 1..=40 {
        let own = thread::current().id();
        let here = Arc::new(AtomicBool::new(false));
        let (heard, done) = (here.clone(), crossbeam_channel::bounded(1));
        log.append_here(vec![entry(index, payload(index, 0))], move |result| {
            result.unwrap();
            heard.store(thread::current().id() == own, Ordering::Release);
            done.0.send(()).unwrap();
        });
        done.1.recv().unwrap();
        answered_here += u64::from(here.load(Ordering::Acquire));
    }
    // It may have been on its way to sleep.
    assert!(answered_here >= 39, "{answered_here}");
    let found = open(&env_on(&disk.restart(2), 2), small_files()).1;
    assert_eq!(found.last_index, Some(LogIndex(40)));
}

#[test]
fn answers_keep_their_order_whoever_gives_them() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, small_files());
    let next = Mutex::new(1);
    let answers = Arc::new(Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for here in [true, false, true] {
            let (log, next, answers) = (log.clone(), &next, &answers);
            scope.spawn(move || {
                for _ in 0..300 {
                    let mut next = next.lock();
                    let index = *next;
                    *next += 1;
                    let answers = answers.clone();
                    let done = move |result: Result<(), LogError>| {
                        result.unwrap();
                        answers.lock().push(index);
                    };
                    let entries = vec![entry(index, payload(index, 0))];
                    match here {
                        true => log.append_here(entries, done),
                        false => log.append(entries, done),
                    }
                }
            });
        }
    });
    log.sync_now().unwrap();
    assert_eq!(*answers.lock(), (1..=900).collect::<Vec<_>>());
    assert_eq!(read_all(&log).len(), 900);
}

#[test]
fn an_answer_may_append() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, small_files());
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let again = log.clone();
    log.append_here(vec![entry(1, "x")], move |result| {
        result.unwrap();
        again.append_here(vec![entry(2, "y")], move |result| {
            sender.send(result).unwrap();
        });
    });
    receiver.recv().unwrap().unwrap();
    assert_eq!(read_all(&log).len(), 2);
}

#[test]
fn an_interval_counts_for_what_was_written_here() {
    let sim = SimEnv::new(1);
    let options = LogOptions {
        durability: Durability::Interval(Duration::from_millis(1)),
        ..LogOptions::default()
    };
    let (log, _) = open(&sim.env(), options);
    for index in 1..=2 {
        let before = log.stats().fsyncs;
        append_here(&log, vec![entry(index, "x")]).unwrap();
        sim.clock.advance(Duration::from_millis(2));
        let synced = (0..20_000_000).any(|_| {
            thread::yield_now();
            log.stats().fsyncs > before
        });
        assert!(synced, "no sync came");
    }
}

#[test]
fn nothing_is_taken_after_a_failure_here() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&env_on(&disk, 1), small_files());
    append_here(&log, vec![entry(1, "x")]).unwrap();
    disk.fail_syncs_after_write_points(0);
    append_here(&log, vec![entry(2, "y")]).unwrap_err();
    disk.clear_faults();
    let error = append_here(&log, vec![entry(3, "z")]).unwrap_err();
    assert!(matches!(error, LogError::Poisoned { .. }), "{error}");
    append(&log, vec![entry(3, "z")]).unwrap_err();
}
