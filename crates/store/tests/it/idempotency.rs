//! Write sets with an idempotency key are applied once: also behind a flush, after a restart that
//! replays the log, and until the key's time is over, which stamps decide.

use std::path::Path;

use bytes::Bytes;
use chronos_env::{Env, SimEnv};
use chronos_model::{
    Change, Expect, NodeId, Once, OptionChange, Remembered, SqlState, Stamp, WriteSet,
    IDEMPOTENCY_TABLE,
};
use chronos_store::{Applied, ApplyError, LogIndex, Store, VersionFilter};

use crate::fixture::*;

const DAY_MICROS: u64 = 86_400_000_000;
const FIRST_MICROS: u64 = 1_000_000;

/// A store, and the log that made it what it is.
struct Log {
    env: Env,
    store: Store,
    entries: Vec<(Stamp, WriteSet)>,
}

impl Log {
    fn new() -> Log {
        let env = SimEnv::new(1).env();
        let store = Store::open(&env, Path::new("/s"), options()).unwrap();
        let mut log = Log {
            env,
            store,
            entries: Vec::new(),
        };
        let create = Change::CreateTable(table("t", 0, true));
        log.apply(FIRST_MICROS, vec![create]).unwrap();
        log
    }

    fn apply(&mut self, micros: u64, changes: Vec<Change>) -> Result<Applied, ApplyError> {
        let begin = Stamp::MAX;
        let set = WriteSet { begin, changes };
        // Readers go by the clock.
        let stamp = Stamp::from_micros(self.env.clock.now_micros() + micros);
        self.entries.push((stamp, set));
        self.replay_from(self.entries.len() - 1).pop().unwrap()
    }

    fn replay_from(&self, first: usize) -> Vec<Result<Applied, ApplyError>> {
        let entries = self.entries.iter().enumerate().skip(first);
        entries
            .map(|(i, (stamp, set))| {
                let index = LogIndex(i as u64 + 1);
                self.store.apply_write_set(index, *stamp, NodeId(1), set)
            })
            .collect()
    }

    /// Opens the store anew and applies what it has not flushed.
    fn restart(&mut self) {
        self.store.close();
        self.store = Store::open(&self.env, Path::new("/s"), options()).unwrap();
        self.replay_from(self.store.applied_index().0 as usize);
    }

    fn rows(&self) -> usize {
        let view = self.store.read_view();
        let table = view.catalog().table("t").unwrap().clone();
        scan(&view, &table, request(VersionFilter::Current)).len()
    }

    fn remembered(&self, key: &str) -> Option<Remembered> {
        self.store.read_view().remembered(key).unwrap()
    }
}

fn insert(n: u32, expect: Expect) -> Change {
    let t = table("t", 1, true);
    let values = row(n, n);
    rows(
        t.id,
        vec![change(&key_of(&t, &values), expect, Some(&values))],
    )
}

fn once(key: &str, fingerprint: u8) -> Change {
    Change::Once(Once {
        key: key.into(),
        fingerprint: [fingerprint; 16],
        answer: Bytes::copy_from_slice(&[fingerprint; 3]),
    })
}

#[test]
fn a_second_time_does_nothing_and_tells_what_the_first_did() {
    let mut log = Log::new();
    let first = log.apply(2_000_000, vec![insert(1, Expect::Absent), once("k", 7)]);
    let first = first.unwrap();
    assert_eq!((first.rows, first.before), (1, None));
    let remembered = Remembered {
        transaction: 2,
        fingerprint: [7; 16],
        rows: 1,
        answer: Bytes::copy_from_slice(&[7; 3]),
    };
    // Its rows would be refused now, but are not looked at; nor are other rows written.
    for changes in [
        vec![insert(1, Expect::Absent), once("k", 7)],
        vec![once("k", 7), insert(2, Expect::Absent)],
    ] {
        let micros = 3_000_000 + log.entries.len() as u64 * 10;
        let again = log.apply(micros, changes).unwrap();
        assert_eq!(again.before, Some(remembered.clone()));
        assert_eq!((again.rows, log.rows()), (1, 1));
    }
    let other = log.apply(4_000_000, vec![insert(3, Expect::Absent), once("k", 8)]);
    let other = other.unwrap_err();
    assert!(matches!(&other, ApplyError::KeyReused { key } if &**key == "k"));
    assert_eq!(other.sqlstate(), SqlState::INVALID_PARAMETER);
    assert_eq!(log.rows(), 1);
    let second = log.apply(5_000_000, vec![insert(3, Expect::Absent), once("l", 8)]);
    assert_eq!((second.unwrap().before, log.rows()), (None, 2));
}

#[test]
fn what_is_refused_is_not_remembered() {
    let mut log = Log::new();
    log.apply(2_000_000, vec![insert(1, Expect::Absent)])
        .unwrap();
    let refused = log.apply(3_000_000, vec![insert(1, Expect::Absent), once("k", 7)]);
    assert!(matches!(refused, Err(ApplyError::UniqueViolation { .. })));
    assert_eq!(log.remembered("k"), None);
    let tried = log.apply(4_000_000, vec![insert(2, Expect::Absent), once("k", 7)]);
    assert_eq!((tried.unwrap().before, log.rows()), (None, 2));
}

#[test]
fn a_key_is_remembered_behind_a_flush_a_compaction_and_a_restart() {
    let mut log = Log::new();
    log.apply(2_000_000, vec![insert(1, Expect::Absent), once("k", 7)])
        .unwrap();
    let remembered = log.remembered("k");
    assert!(remembered.is_some());
    log.restart();
    assert_eq!(log.remembered("k"), remembered, "replayed");
    log.store.flush_now().unwrap();
    log.apply(2_500_000, vec![insert(2, Expect::Absent), once("l", 7)])
        .unwrap();
    log.store.flush_now().unwrap();
    log.store.compact_now().unwrap();
    log.restart();
    assert_eq!(log.remembered("k"), remembered, "from a segment");
    let again = log.apply(3_000_000, vec![insert(1, Expect::Absent), once("k", 7)]);
    assert_eq!((again.unwrap().before, log.rows()), (remembered, 2));
    // A replay comes to the same, entry by entry.
    let env = SimEnv::new(2).env();
    let copy = Log {
        store: Store::open(&env, Path::new("/s"), options()).unwrap(),
        env,
        entries: log.entries.clone(),
    };
    let replayed = copy.replay_from(0);
    assert!(replayed.iter().all(Result::is_ok));
    assert_eq!(replayed[3].as_ref().unwrap().before, log.remembered("k"));
    assert_eq!(
        (copy.remembered("k"), copy.rows()),
        (log.remembered("k"), 2)
    );
}

#[test]
fn stamps_decide_how_long_a_key_is_remembered() {
    let mut log = Log::new();
    log.apply(2_000_000, vec![insert(1, Expect::Any), once("k", 7)])
        .unwrap();
    let within = 2_000_000 + DAY_MICROS;
    let again = log.apply(within, vec![insert(2, Expect::Any), once("k", 7)]);
    assert!(again.unwrap().before.is_some());
    // Behind it, it is as if it had never been used, wherever it is stored.
    log.store.flush_now().unwrap();
    let behind = log.apply(
        within + 1_000_001,
        vec![insert(2, Expect::Any), once("k", 9)],
    );
    assert_eq!((behind.unwrap().before, log.rows()), (None, 2));
    let shorter = OptionChange::Ttl(Some(1_000_000));
    let alter = Change::AlterOptions(IDEMPOTENCY_TABLE, vec![shorter]);
    log.apply(within + 1_100_000, vec![alter]).unwrap();
    let kept = log.apply(
        within + 1_900_000,
        vec![insert(3, Expect::Any), once("k", 9)],
    );
    assert!(kept.unwrap().before.is_some());
    let over = log.apply(
        within + 2_100_002,
        vec![insert(3, Expect::Any), once("k", 1)],
    );
    assert_eq!((over.unwrap().before, log.rows()), (None, 3));
}
