//! Term and membership stand beside the index of the last applied entry, in memory and, as of
//! the flushed index, after a restart.

use std::path::Path;

use chronos_env::SimEnv;
use chronos_model::{Change, Expect, NodeId, Stamp, WriteSet};
use chronos_store::{LogIndex, Membership, Store, StoreError, Term};

use crate::fixture::*;

fn apply(store: &Store, index: u64, change: Change) {
    let set = WriteSet {
        begin: Stamp::MAX,
        changes: vec![change],
    };
    store
        .apply_write_set(LogIndex(index), stamp(index), NodeId(1), &set)
        .unwrap();
}

fn put(store: &Store, index: u64) {
    let t = table("t", 1, true);
    apply(
        store,
        index,
        batch(&t, Expect::Any, &[row(index as u32, 1)]),
    );
}

#[test]
fn what_is_flushed_carries_its_term_and_membership() {
    let sim = SimEnv::new(1);
    let open = || Store::open(&sim.env(), Path::new("/s"), options()).unwrap();
    let store = open();
    assert_eq!(store.applied(), (Term(0), LogIndex(0)));
    assert_eq!(store.membership(), None);
    apply(&store, 1, Change::CreateTable(table("t", 0, true)));
    assert_eq!(store.applied(), (Term(1), LogIndex(1)));
    store.note_membership(LogIndex(2), b"a".to_vec()).unwrap();
    store.enter_term(Term(4)).unwrap();
    assert_eq!(store.applied(), (Term(1), LogIndex(2)));
    put(&store, 3);
    store.flush_now().unwrap();
    // None of this is flushed.
    store.enter_term(Term(6)).unwrap();
    store.note_membership(LogIndex(4), b"b".to_vec()).unwrap();
    put(&store, 5);
    assert_eq!(store.applied(), (Term(6), LogIndex(5)));
    let noted = |term, index, bytes: &[u8]| Membership {
        term,
        index,
        bytes: bytes.to_vec(),
    };
    assert_eq!(*store.membership().unwrap(), noted(6, 4, b"b"));
    drop(store);
    let store = open();
    assert_eq!(store.applied(), (Term(4), LogIndex(3)));
    assert_eq!(*store.membership().unwrap(), noted(1, 2, b"a"));
    // The log is applied again.
    store.enter_term(Term(6)).unwrap();
    store.note_membership(LogIndex(4), b"b".to_vec()).unwrap();
    store.skip(LogIndex(5), Stamp::MIN).unwrap();
    store.flush_now().unwrap();
    drop(store);
    let store = open();
    assert_eq!(store.applied(), (Term(6), LogIndex(5)));
    assert_eq!(*store.membership().unwrap(), noted(6, 4, b"b"));
}

#[test]
fn terms_and_indexes_only_rise() {
    let sim = SimEnv::new(1);
    let store = Store::open(&sim.env(), Path::new("/s"), options()).unwrap();
    store.enter_term(Term(3)).unwrap();
    store.enter_term(Term(3)).unwrap();
    let refused = store.enter_term(Term(2)).unwrap_err();
    assert!(matches!(refused, StoreError::TermOrder { .. }), "{refused}");
    store.note_membership(LogIndex(7), Vec::new()).unwrap();
    let refused = store.note_membership(LogIndex(7), Vec::new()).unwrap_err();
    assert!(
        matches!(refused, StoreError::IndexOrder { .. }),
        "{refused}"
    );
    assert_eq!(store.applied(), (Term(3), LogIndex(7)));
}
