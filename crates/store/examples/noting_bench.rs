//! What noting transactions costs: write sets of one row are applied, with and without, in turns;
//! then everything is flushed, and the bytes of segments are compared.
//!
//! `cargo run --release -p chronos-store --example noting_bench [thousand write sets] [rounds]`
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod readings;

use std::sync::Arc;
use std::time::Instant;

use chronos_env::Env;
use chronos_model::{
    encode_key, encode_row, Author, CatalogChange, CatalogEdit, Change, Expect, Kind, NodeId,
    RowChange, RowChanges, Stamp, TableSchema, Value, WriteSet,
};
use chronos_store::{LogIndex, Store, StoreOptions};

use readings::table;

const START: i64 = 1_700_000_000_000_000;

fn one_row(table: &TableSchema, number: u64) -> WriteSet {
    let values = [
        Value::Text(format!("device-{:04}", number % 1000)),
        Value::TimestampTz(START + (number / 1000) as i64 * 1_000_000),
        Value::Float8(20.0 + (number.wrapping_mul(2_654_435_761) % 1000) as f64 / 100.0),
    ];
    let mut row = Vec::new();
    encode_row(&values, &mut row);
    let change = RowChange {
        key: encode_key(table, &values[..2]).unwrap(),
        expect: Expect::Absent,
        kind: Kind::Put,
        row: row.into(),
        valid: None,
    };
    WriteSet {
        begin: Stamp::MAX,
        changes: vec![Change::Rows(RowChanges {
            table: table.id,
            rows: vec![change],
        })],
    }
}

/// Seconds for all write sets, and bytes of segments.
fn run(count: u64, is_noted: bool) -> (f64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Env::real(), dir.path(), StoreOptions::default()).unwrap();
    let schema = table();
    let edit = CatalogEdit::NoteTransactions(is_noted, None);
    let mut setup = vec![Change::CreateTable(schema.clone())];
    let author = Author {
        node: NodeId(1),
        user: Some(Arc::from("gateway")),
    };
    let mut index = LogIndex(0);
    let mut micros = START;
    let mut apply = |set: &WriteSet| {
        index = index.next();
        micros += 100;
        let recorded = Stamp::last_of_micros(micros);
        store
            .apply_write_set(index, recorded, author.clone(), set)
            .unwrap();
    };
    setup.push(Change::Catalog(CatalogChange {
        base: 1,
        unchanged: vec![],
        edits: vec![edit],
    }));
    for change in setup {
        apply(&WriteSet {
            begin: Stamp::MAX,
            changes: vec![change],
        });
    }
    let sets: Vec<WriteSet> = (0..count).map(|i| one_row(&schema, i)).collect();
    let begun = Instant::now();
    sets.iter().for_each(&mut apply);
    let seconds = begun.elapsed().as_secs_f64();
    store.flush_now().unwrap();
    store.compact_now().unwrap();
    (seconds, store.stats().segment_bytes)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: u64| arguments.next().map_or(default, |n| n.parse().unwrap());
    let (count, rounds) = (next(500) * 1000, next(5));
    let mut seconds = [Vec::new(), Vec::new()];
    let mut bytes = [0, 0];
    for _ in 0..rounds {
        for is_noted in [false, true] {
            let (took, stored) = run(count, is_noted);
            seconds[usize::from(is_noted)].push(took);
            bytes[usize::from(is_noted)] = stored;
        }
    }
    let [without, with] = seconds.map(median);
    let each = |s: f64| s * 1e9 / count as f64;
    let stored = |b: u64| b as f64 / count as f64;
    println!("{count} write sets of one row, medians of {rounds} rounds");
    println!("            ns each   bytes each");
    println!(
        "without   {:9.0}   {:10.2}",
        each(without),
        stored(bytes[0])
    );
    println!("noted     {:9.0}   {:10.2}", each(with), stored(bytes[1]));
}
