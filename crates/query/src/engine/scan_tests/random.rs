//! Random tables and many kinds of queries.

use chronos_model::Kind;
use proptest::prelude::*;

use super::{instant, row, Pair};

#[derive(Clone, Debug)]
enum Op {
    /// Rows of a device as a batch: from where, how many, their shape.
    Batch(usize, i64, i64, u64),
    Put(usize, i64, u64),
    Delete(usize, i64),
    Truncate,
    Flush,
    Compact,
}

const DEVICES: [&str; 4] = [
    "a",
    "b",
    "",
    "a longer name of a device, longer than a bound that is kept in a footer",
];

fn op() -> impl Strategy<Value = Op> {
    let device = || 0..DEVICES.len();
    prop_oneof![
        8 => (device(), 0i64..200, 1i64..90, 0u64..4096).prop_map(|(d, k, n, s)| Op::Batch(d, k, n, s)),
        3 => (device(), 0i64..300, 0u64..4096).prop_map(|(d, k, s)| Op::Put(d, k, s)),
        5 => (device(), 0i64..200).prop_map(|(d, k)| Op::Delete(d, k)),
        1 => Just(Op::Truncate),
        6 => Just(Op::Flush),
        1 => Just(Op::Compact),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let number = || -5i64..300;
    let simple = prop_oneof![
        number().prop_map(|a| format!("k >= {a}")),
        number().prop_map(|a| format!("k < {a}")),
        (number(), number()).prop_map(|(a, b)| format!("k BETWEEN {} AND {}", a.min(b), a.max(b))),
        number().prop_map(|a| format!("k <> {a}")),
        (0..DEVICES.len()).prop_map(|d| format!("d = '{}'", DEVICES[d])),
        Just("d IN ('a', 'zz', '')".to_owned()),
        Just("d NOT IN ('a', 'zz')".to_owned()),
        number().prop_map(|a| format!("i <= {a}")),
        number().prop_map(|a| format!("big > {a}000000007")),
        number().prop_map(|a| format!("f < {a} * 0.25::float8")),
        Just("f = 0".to_owned()),
        Just("f >= '-0'::float8".to_owned()),
        Just("f <> 'NaN'::float8".to_owned()),
        number().prop_map(|a| format!("r > {a}::float4")),
        number().prop_map(|a| format!("s >= 's{:03}'", a.abs())),
        Just("b".to_owned()),
        Just("NOT b".to_owned()),
        number().prop_map(|a| format!("n < {a} / 100.0")),
        number().prop_map(|a| format!("n = {a}::numeric(10,2)")),
        Just("i IS NULL".to_owned()),
        Just("f IS NOT NULL".to_owned()),
        Just("s IS NULL OR b IS NULL".to_owned()),
        number().prop_map(|a| format!(
            "ts >= TIMESTAMPTZ '2023-11-14 22:13:20+00' + {a} * INTERVAL '1 second'"
        )),
        Just("i IN (7, NULL)".to_owned()),
        Just("i = k".to_owned()),
    ];
    simple.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) AND ({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) OR ({b})")),
            inner.prop_map(|a| format!("NOT ({a})")),
        ]
    })
}

const AGGREGATES: [&str; 8] = [
    "count(*)",
    "count(i), sum(i), avg(i), min(i), max(i)",
    "sum(big), min(big), max(big)",
    "sum(f), min(f), max(f), count(f)",
    "avg(r), min(r), max(r)",
    "min(s), max(s), count(s), min(d), max(d)",
    "min(n), max(n), min(ts), max(ts), min(k), max(k)",
    "sum(k), count(b), count(DISTINCT b)",
];

fn perform(pair: &mut Pair, op: &Op) {
    match op {
        Op::Batch(device, start, count, shape) => {
            let rows: Vec<_> = (*start..start + count)
                .map(|k| row(DEVICES[*device], k, *shape))
                .collect();
            pair.batch(&rows);
        }
        Op::Put(device, k, shape) => pair.rows(&[row(DEVICES[*device], *k, *shape)], Kind::Put),
        Op::Delete(device, k) => pair.rows(&[row(DEVICES[*device], *k, 0)], Kind::Delete),
        Op::Truncate => pair.truncate(),
        Op::Flush => pair.flush(),
        Op::Compact => pair.paged.compact_now().unwrap(),
    }
}

fn from(pair: &Pair, past: Option<u64>) -> String {
    match past {
        None => "t".to_owned(),
        Some(0) => "t FOR SYSTEM_TIME ALL".to_owned(),
        Some(back) => {
            let at = instant(pair.entries.saturating_sub(back));
            format!("t FOR SYSTEM_TIME AS OF {at}")
        }
    }
}

/// Orders of the key, of what follows its fixed beginning, and others, with few rows wanted.
fn check_order(pair: &Pair, from: &str, condition: &str, n: usize) {
    let direction = ["", "DESC", "DESC NULLS LAST", "NULLS FIRST"][n % 4];
    let limit = ["", " LIMIT 1", " LIMIT 20 OFFSET 3", " LIMIT 90"][(n + condition.len()) % 4];
    let filter = format!("WHERE {condition}");
    let few = format!("SELECT d, k FROM {from}");
    let two = format!("ORDER BY d {direction}, k {direction}{limit}");
    pair.check_ordered(&format!("{few} {two}"));
    pair.check_ordered(&format!("{few} {filter} {two}"));
    pair.check_ordered(&format!("{few} ORDER BY d {direction}{limit}").replace("d, k", "d"));
    let one = format!("ORDER BY k {direction}{limit}");
    pair.check_ordered(&format!("{few} WHERE d = 'a' {one}"));
    pair.check_ordered(&format!("{few} WHERE d = 'b' AND ({condition}) {one}"));
    let limit = ["LIMIT 3", "LIMIT 40"][n % 2];
    let other = format!("SELECT i, d, k FROM {from} {filter} ORDER BY i {direction}, d, k {limit}");
    pair.check_ordered(&other);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn summaries_say_what_rows_say(
        ops in prop::collection::vec(op(), 1..14),
        conditions in prop::collection::vec(prop::option::weighted(0.8, condition()), 3),
        past in prop::option::weighted(0.4, 0u64..6),
        parallelism in 1usize..3,
    ) {
        let mut pair = Pair::new(parallelism);
        ops.iter().for_each(|op| perform(&mut pair, op));
        for (n, condition) in conditions.iter().enumerate() {
            let filter = condition.as_ref().map_or(String::new(), |c| format!(" WHERE {c}"));
            let from = from(&pair, past.filter(|_| n % 2 == 0));
            let aggregates = AGGREGATES[(n + ops.len()) % AGGREGATES.len()];
            pair.check(&format!("SELECT {aggregates} FROM {from}{filter}"));
            pair.check(&format!("SELECT d, {aggregates} FROM {from}{filter} GROUP BY d"));
            pair.check(&format!("SELECT i, b, {aggregates} FROM {from}{filter} GROUP BY i, b"));
            pair.check(&format!("SELECT d, k FROM {from}{filter}"));
            check_order(&pair, &from, condition.as_deref().unwrap_or("true"), n);
            let kind = ["", "LEFT", "RIGHT", "FULL"][n % 4];
            let joined = format!("(SELECT * FROM {from}{filter}) a {kind} JOIN t b ON a.i = b.k");
            pair.check(&format!("SELECT count(*), count(a.k), min(b.k), sum(b.i) FROM {joined}"));
            let not = ["", "NOT"][n % 2];
            pair.check(&format!(
                "SELECT count(*), max(f) FROM t WHERE i {not} IN (SELECT k FROM {from}{filter})"
            ));
        }
    }
}
