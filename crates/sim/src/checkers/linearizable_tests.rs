//! Histories that must pass and histories that must not; random ones, against trying all orders.

use super::*;

/// `(invoked, returned, action)` of one register; 0 stands for a return that never came.
fn history(operations: &[(u64, u64, Action)]) -> Vec<Operation> {
    let with_client = operations.iter().enumerate();
    with_client
        .map(|(client, &(invoked, returned, action))| Operation {
            client: client as u64,
            key: 0,
            action,
            invoked,
            returned: (returned > 0).then_some(returned),
        })
        .collect()
}

fn passes(operations: &[(u64, u64, Action)]) -> bool {
    check(&history(operations)).is_ok()
}

fn write(value: u64) -> Action {
    Action::Write(Some(value))
}

fn read(value: u64) -> Action {
    Action::Read(Some(value))
}

fn swap(from: u64, to: u64) -> Action {
    Action::Swap {
        from: Some(from),
        to: Some(to),
    }
}

const ABSENT: Action = Action::Read(None);

#[test]
fn one_after_the_other() {
    assert!(passes(&[]));
    assert!(passes(&[(1, 2, ABSENT), (3, 4, write(1)), (5, 6, read(1))]));
    assert!(passes(&[
        (1, 2, write(1)),
        (3, 4, Action::Write(None)),
        (5, 6, ABSENT)
    ]));
}

#[test]
fn a_stale_read_is_refused() {
    let stale = [(1, 2, write(1)), (3, 4, write(2)), (5, 6, read(1))];
    let fault = check(&history(&stale)).unwrap_err();
    let Fault::Unexplained {
        operation,
        possible,
        ..
    } = &fault
    else {
        panic!("{fault}")
    };
    assert_eq!((operation.client, &possible[..]), (2, &[Some(2)][..]));
    assert!(fault.to_string().contains("client 2 [5, 6]"), "{fault}");
    // The write was acknowledged, and then it was not there.
    assert!(!passes(&[(1, 2, write(1)), (3, 4, ABSENT)]));
}

#[test]
fn a_read_beside_a_write_sees_either_value() {
    for seen in [read(1), read(2)] {
        assert!(passes(&[(1, 2, write(1)), (3, 6, write(2)), (4, 5, seen)]));
    }
    // But once one has seen the new value, nobody sees the old one any more.
    let beside = [(1, 2, write(1)), (3, 8, write(2))];
    assert!(passes(&[
        beside[0],
        beside[1],
        (4, 5, read(1)),
        (6, 7, read(2))
    ]));
    assert!(!passes(&[
        beside[0],
        beside[1],
        (4, 5, read(2)),
        (6, 7, read(1))
    ]));
}

#[test]
fn two_writes_beside_each_other_end_in_one_order() {
    let writes = [(1, 4, write(1)), (2, 3, write(2))];
    for last in [1, 2] {
        assert!(passes(&[
            writes[0],
            writes[1],
            (5, 6, read(last)),
            (7, 8, read(last))
        ]));
    }
    assert!(!passes(&[
        writes[0],
        writes[1],
        (5, 6, read(1)),
        (7, 8, read(2))
    ]));
}

#[test]
fn a_value_that_nobody_wrote_is_refused() {
    assert!(!passes(&[(1, 2, write(1)), (3, 4, read(9))]));
    // Not yet written, too.
    assert!(!passes(&[(1, 2, read(1)), (3, 4, write(1))]));
    assert!(!passes(&[(1, 2, read(1)), (3, 0, write(1))]));
}

#[test]
fn an_unknown_write_happened_at_some_later_time_or_never() {
    let unknown = (3, 0, write(2));
    assert!(passes(&[
        (1, 2, write(1)),
        unknown,
        (5, 6, read(1)),
        (7, 8, read(2))
    ]));
    assert!(passes(&[
        (1, 2, write(1)),
        unknown,
        (5, 6, read(1)),
        (7, 8, read(1))
    ]));
    // Once it has happened it does not go away, and it happens once.
    assert!(!passes(&[
        (1, 2, write(1)),
        unknown,
        (5, 6, read(2)),
        (7, 8, read(1))
    ]));
    let overwritten = [(1, 2, write(1)), unknown, (5, 6, read(2)), (7, 8, write(3))];
    assert!(!passes(&[
        overwritten[0],
        overwritten[1],
        overwritten[2],
        overwritten[3],
        (9, 10, read(2))
    ]));
}

#[test]
fn an_unknown_deletion_may_happen_at_any_time() {
    let history = [
        (1, 2, write(1)),
        (3, 0, Action::Write(None)),
        (5, 6, read(1)),
        (7, 8, ABSENT),
    ];
    assert!(passes(&history));
    assert!(!passes(&[
        history[0],
        history[1],
        history[3],
        (9, 10, read(1))
    ]));
}

#[test]
fn swaps_do_not_lose_updates() {
    assert!(passes(&[
        (1, 2, write(1)),
        (3, 6, swap(1, 2)),
        (4, 5, swap(2, 3)),
        (7, 8, read(3))
    ]));
    assert!(!passes(&[
        (1, 2, write(1)),
        (3, 6, swap(1, 2)),
        (4, 5, swap(1, 3))
    ]));
    assert!(passes(&[
        (1, 2, write(1)),
        (3, 4, Action::Differs(Some(2)))
    ]));
    assert!(!passes(&[
        (1, 2, write(1)),
        (3, 4, Action::Differs(Some(1)))
    ]));
    // Nobody read what the unknown write wrote, and yet it must have happened.
    assert!(passes(&[
        (1, 2, write(1)),
        (3, 0, write(2)),
        (5, 6, Action::Differs(Some(1)))
    ]));
}

#[test]
fn registers_are_apart_and_the_bad_one_is_named() {
    let mut all = history(&[(1, 2, write(1)), (5, 6, read(1))]);
    let mut other = history(&[(3, 4, write(2)), (7, 8, ABSENT)]);
    for operation in &mut other {
        operation.key = 5;
    }
    all.extend(other);
    let fault = check(&all).unwrap_err().to_string();
    assert!(
        fault.starts_with("register 5 is not linearizable"),
        "{fault}"
    );
}

#[test]
fn times_that_are_equal_overlap() {
    assert!(passes(&[(1, 3, write(1)), (3, 4, ABSENT)]));
    assert!(!passes(&[(1, 2, write(1)), (3, 4, ABSENT)]));
}

#[test]
fn a_long_history_with_many_unknown_writes_is_judged() {
    let mut operations = Vec::new();
    for n in 1..4_000 {
        operations.push((10 * n, 10 * n + 5, write(2 * n)));
        operations.push((10 * n + 1, 0, write(2 * n + 1)));
        let seen = if n % 3 == 0 { 2 * n + 1 } else { 2 * n };
        operations.push((10 * n + 6, 10 * n + 7, read(seen)));
    }
    assert!(passes(&operations));
    // One value of long ago.
    operations.push((50_000, 50_001, read(20)));
    assert!(!passes(&operations));
}

#[test]
fn too_many_overlapping_operations_are_not_judged() {
    let mut operations: Vec<_> = (1..40).map(|n| (1, 1_000, write(n))).collect();
    operations.push((2, 900, read(77)));
    let verdict = check_within(1_000, &history(&operations));
    let limit = 1_000;
    assert_eq!(verdict, Err(Fault::TooManyStates { key: 0, limit }));
}

/// Whether some order of a small history explains it, found by trying all.
fn explained(left: &[Operation], value: Option<u64>) -> bool {
    if left.iter().all(|operation| operation.returned.is_none()) {
        return true;
    }
    let first_return = left.iter().filter_map(|operation| operation.returned).min();
    (0..left.len()).any(|at| {
        let next = left[at];
        if first_return.is_some_and(|first| first < next.invoked) {
            return false;
        }
        let Some(value) = next.action.apply(value) else {
            return false;
        };
        let mut rest = left.to_vec();
        rest.remove(at);
        explained(&rest, value)
    })
}

#[test]
fn small_histories_are_judged_as_by_trying_all_orders() {
    let mut seed = 1_u64;
    let mut below = |bound: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    let mut verdicts = [0, 0];
    for _ in 0..20_000 {
        let count = 2 + below(5);
        let operations: Vec<_> = (0..count)
            .map(|_| {
                let invoked = 1 + below(12);
                let value = |n| (n > 0).then_some(n);
                let action = match below(6) {
                    0 | 1 => Action::Read(value(below(4))),
                    2 | 3 => Action::Write(value(below(4))),
                    4 => Action::Swap {
                        from: value(below(4)),
                        to: value(below(4)),
                    },
                    _ => Action::Differs(value(below(4))),
                };
                let returned = if below(4) == 0 {
                    0
                } else {
                    invoked + 1 + below(6)
                };
                (invoked, returned, action)
            })
            .collect();
        let all = history(&operations);
        let expected = explained(&all, None);
        assert_eq!(check(&all).is_ok(), expected, "{all:#?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|&count| count > 2_000), "{verdicts:?}");
}
