//! A log that is driven step by step.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use chronos_env::SimEnv;

use super::*;
use crate::log::Durability;

fn options() -> LogOptions {
    LogOptions {
        driver: Driver::Stepped,
        ..small_files()
    }
}

#[test]
fn nothing_happens_but_in_steps_and_each_push_asks_for_one() {
    let disk = SimDisk::new(1);
    let asked = Arc::new(AtomicU64::new(0));
    let asked_by = asked.clone();
    let options = LogOptions {
        on_work: Some(Arc::new(move || {
            asked_by.fetch_add(1, Ordering::SeqCst);
        })),
        ..options()
    };
    let (log, _) = open(&env_on(&disk, 1), options);
    let points = disk.write_points();
    let answers = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let answer = |name: &'static str| {
        let answers = answers.clone();
        move |result: Result<(), LogError>| answers.lock().push((name, result.is_ok()))
    };
    log.append(vec![entry(1, "a")], answer("one"));
    log.save_vote(vote(1, 1), answer("vote"));
    log.append(vec![entry(3, "c")], answer("refused"));
    log.append(vec![entry(2, "b")], answer("two"));
    log.truncate_after_then(LogIndex(1), answer("truncate"));
    log.purge_then(Term(1), LogIndex(1), answer("purge"));
    assert_eq!(asked.load(Ordering::SeqCst), 6);
    assert_eq!(disk.write_points(), points);
    assert!(answers.lock().is_empty());
    assert!(log.step());
    assert!(!log.step());
    let expected = ["one", "vote", "refused", "two", "truncate", "purge"];
    let answers = answers.lock();
    assert_eq!(*answers, expected.map(|name| (name, name != "refused")));
}

#[test]
fn calls_that_wait_take_their_steps() {
    let env = Env::simulated(1);
    let (log, _) = open(&env, options());
    log.append(vec![entry(1, "a"), entry(2, "b")], |result| result.unwrap());
    log.truncate_after(LogIndex(1)).unwrap();
    assert_eq!(log.bounds(), Some((LogIndex(1), LogIndex(1))));
    log.sync_now().unwrap();
    log.cut_before(LogIndex(2)).unwrap();
    log.note_committed(Term(1), LogIndex(1));
    log.append(vec![entry(2, "c")], |result| result.unwrap());
    log.close().unwrap();
    assert!(matches!(log.sync_now(), Err(LogError::Closed)));
    let (log, found) = open(&env, options());
    assert_eq!(found.last_index, Some(LogIndex(2)));
    assert_eq!(found.committed, Some((Term(1), LogIndex(1))));
    drop(log);
}

#[test]
fn a_full_queue_takes_steps_and_a_callback_may_append() {
    let env = Env::simulated(1);
    let options = LogOptions {
        queue_bytes_max: 1000,
        ..options()
    };
    let (log, _) = open(&env, options);
    for index in 1..50 {
        log.append(vec![entry(index, vec![0; 400])], |result| result.unwrap());
        assert!(log.stats().queue_bytes <= 1000);
    }
    let other = log.clone();
    log.append(vec![entry(50, vec![0; 900])], move |result| {
        result.unwrap();
        assert!(!other.step(), "a step is under way");
        other.append(vec![entry(51, vec![0; 900])], |result| result.unwrap());
    });
    log.close().unwrap();
    let (_, found) = open(&env, small_files());
    assert_eq!(found.last_index, Some(LogIndex(51)));
}

/// As if the process had been killed.
#[test]
fn what_is_queued_when_the_last_handle_goes_is_not_written() {
    let disk = SimDisk::new(1);
    let (log, _) = open(&env_on(&disk, 1), options());
    log.append(vec![entry(1, "kept")], |result| result.unwrap());
    log.step();
    let points = disk.write_points();
    let (sender, receiver) = crossbeam_channel::bounded(1);
    log.append(vec![entry(2, "lost")], move |result| {
        sender.send(result).unwrap();
    });
    drop(log);
    assert!(matches!(receiver.recv().unwrap(), Err(LogError::Closed)));
    assert_eq!(disk.write_points(), points);
    assert_eq!(
        open(&env_on(&disk, 1), options()).1.last_index,
        Some(LogIndex(1))
    );
}

#[test]
fn an_interval_that_is_over_is_a_reason_for_a_step() {
    let sim = SimEnv::new(1);
    let options = LogOptions {
        durability: Durability::Interval(Duration::from_millis(5)),
        ..options()
    };
    let (log, _) = open(&sim.env(), options);
    log.append(vec![entry(1, "x")], |result| result.unwrap());
    assert!(log.step());
    assert!(!log.step());
    assert_eq!(log.stats().fsyncs, 0);
    sim.clock.advance(Duration::from_millis(5));
    assert!(log.step());
    assert_eq!(log.stats().fsyncs, 1);
}
