//! The suite `by-key`: texts with a value of 100 bytes each, read and updated by key.
//!
//! Once with 1,000,000 keys and once with `--rows`. Each engine runs in a process of its own: it
//! inserts in an order that has nothing to do with that of the keys, settles, and is asked for
//! keys of a hot set (1 % of the keys, 99 % of the reads), for keys at random, and for some that
//! are not there. Then keys at random are updated, and read again without settling.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::{p50_micros, repeated};
use crate::args::Options;
use crate::data::Random;
use crate::engine::pairs::{self, Pair, Pairs};
use crate::engine::Kind;
use crate::error::{failure, Result};
use crate::machine::peak_memory_mib;
use crate::report::{short, Table};
use crate::scratch::Scratch;

const FIRST_ROWS: u64 = 1_000_000;
const ROWS: u64 = 10_000_000;
/// Pairs of a commit while inserting.
const INSERTED_TOGETHER: u64 = 10_000;
/// Updates that share a sync.
const UPDATED_TOGETHER: usize = 1_000;
/// Updates in all, but no more than half of the keys.
const UPDATES: u64 = 100_000;
/// Reads of one measurement.
const READS: usize = 20_000;
/// How often each hot key is read on average before it is measured.
const WARM_UP: u64 = 4;
/// Keys of which one is hot.
const HOT_ONE_IN: u64 = 100;

/// What one engine did with so many keys.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Figures {
    bytes_per_row: f64,
    /// Per second, until the last batch is durable.
    insert: f64,
    settle_seconds: f64,
    hot_micros: f64,
    uniform_micros: f64,
    absent_micros: f64,
    /// Per second.
    update: f64,
    updated_micros: f64,
    peak_mib: f64,
    notes: String,
}

pub(super) fn run(options: &Options) -> Result<()> {
    let last = options.rows.unwrap_or(ROWS);
    let scratch = Scratch::new(options.dir.as_deref())?;
    let sizes = [FIRST_ROWS.min(last), last];
    for (i, rows) in sizes.iter().enumerate() {
        if i > 0 && sizes[0] == *rows {
            break;
        }
        run_size(options, *rows, &scratch)?;
    }
    Ok(())
}

fn run_size(options: &Options, rows: u64, scratch: &Scratch) -> Result<()> {
    println!(
        "{rows} keys, values of 100 bytes, one thread, {} repetitions",
        options.reps
    );
    let mut table = Table::new([
        "engine",
        "bytes/row",
        "insert rows/s",
        "settle s",
        "hot p50 us",
        "random p50 us",
        "absent p50 us",
        "updates/s",
        "random, updated p50 us",
        "peak MiB",
    ]);
    let mut notes = Vec::new();
    for kind in &options.engines {
        let dir = scratch.dir(&format!("{}-{rows}", kind.name()))?;
        eprintln!("{} ..", kind.name());
        match child(options, *kind, rows, &dir) {
            Ok(Some(figures)) => {
                table.row(kind.name(), figures.cells());
                notes.extend((!figures.notes.is_empty()).then_some(figures.notes));
            }
            Ok(None) => {}
            Err(error) => {
                table.row(kind.name(), vec!["failed".into()]);
                notes.push(format!("{}: {error}", kind.name()));
            }
        }
        std::fs::remove_dir_all(&dir)?;
    }
    println!("\n{table}");
    notes.iter().for_each(|note| println!("! {note}"));
    println!();
    Ok(())
}

impl Figures {
    fn cells(&self) -> Vec<String> {
        vec![
            format!("{:.1}", self.bytes_per_row),
            short(self.insert),
            format!("{:.1}", self.settle_seconds),
            short(self.hot_micros),
            short(self.uniform_micros),
            short(self.absent_micros),
            short(self.update),
            short(self.updated_micros),
            format!("{:.0}", self.peak_mib),
        ]
    }
}

/// Runs one engine in a process of its own; `None`: it keeps no pairs.
fn child(options: &Options, kind: Kind, rows: u64, dir: &Path) -> Result<Option<Figures>> {
    let output = Command::new(std::env::current_exe()?)
        .args(["by-key-child", kind.name()])
        .args(["--rows", &rows.to_string()])
        .args(["--reps", &options.reps.to_string()])
        .arg("--dir")
        .arg(dir)
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return failure("its process failed");
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// One engine in this process: prints its figures.
pub(super) fn run_child(options: &Options, kind: Kind) -> Result<()> {
    let (Some(dir), Some(rows)) = (&options.dir, options.rows) else {
        return failure("a child needs --dir and --rows");
    };
    let engine = pairs::open(kind, dir)?;
    let figures = engine.map(|engine| measure(engine, rows, options.reps, dir));
    println!("{}", serde_json::to_string(&figures.transpose()?)?);
    Ok(())
}

/// Key `i`, in the order of keys.
fn key(i: u64) -> String {
    format!("user:{i:08}")
}

/// 100 bytes, of which 40 are hexadecimal digits at random and the others much like those of
/// other values, as in a small document.
fn value(i: u64, change: u64) -> String {
    let mut random = Random::new(i << 20 | change);
    let (a, b, c) = (random.next(), random.next(), random.next() as u32);
    format!("{{\"token\":\"{a:016x}{b:016x}\",\"state\":\"active\",\"plan\":\"basic\",\"visits\":\"{c:08x}\"}}....")
}

/// The key that is inserted as number `n` of `rows`: all in turn, neighbours far apart.
fn scattered(n: u64, rows: u64) -> u64 {
    const PRIME: u64 = 982_451_653;
    (u128::from(n) * u128::from(PRIME) % u128::from(rows)) as u64
}

fn measure(mut engine: Box<dyn Pairs>, rows: u64, reps: usize, dir: &Path) -> Result<Figures> {
    let insert = insert(engine.as_mut(), rows)?;
    let start = Instant::now();
    engine.settle()?;
    let settle_seconds = start.elapsed().as_secs_f64();
    let bytes = engine.data_bytes(dir);
    let mut reader = Reader {
        engine: engine.as_mut(),
        rows,
        changes: HashMap::new(),
        random: Random::new(rows),
    };
    let uniform_micros = reader.uniform(reps)?;
    let absent_micros = reader.absent(reps)?;
    let hot_micros = reader.hot(reps)?;
    let update = reader.update()?;
    let updated_micros = reader.uniform(reps)?;
    Ok(Figures {
        bytes_per_row: bytes as f64 / rows as f64,
        insert,
        settle_seconds,
        hot_micros,
        uniform_micros,
        absent_micros,
        update,
        updated_micros,
        peak_mib: peak_memory_mib(),
        notes: engine.notes(),
    })
}

/// Inserts all; how many a second.
fn insert(engine: &mut dyn Pairs, rows: u64) -> Result<f64> {
    let mut seconds = 0.0;
    for first in (0..rows).step_by(INSERTED_TOGETHER as usize) {
        let numbers = first..rows.min(first + INSERTED_TOGETHER);
        let keys = numbers.map(|n| scattered(n, rows));
        let pairs: Vec<Pair> = keys.map(|i| (key(i), value(i, 0))).collect();
        let start = Instant::now();
        engine.insert(&pairs)?;
        seconds += start.elapsed().as_secs_f64();
    }
    Ok(rows as f64 / seconds)
}

/// Reads keys and compares what comes with what was written last.
struct Reader<'a> {
    engine: &'a mut dyn Pairs,
    rows: u64,
    /// How often keys were updated, if they were.
    changes: HashMap<u64, u64>,
    random: Random,
}

impl Reader<'_> {
    fn read(&mut self, i: &u64) -> Result<String> {
        match self.engine.get(&key(*i))? {
            Some(found) => Ok(found),
            None => failure(format!("{} is not there", key(*i))),
        }
    }

    /// The time of one of some reads; each repetition has its own.
    fn micros(&mut self, reps: usize, next: impl Fn(&mut Random) -> u64) -> Result<f64> {
        repeated(reps, || {
            let keys: Vec<u64> = (0..READS).map(|_| next(&mut self.random)).collect();
            for i in keys.iter().take(100) {
                let expected = value(*i, self.changes.get(i).copied().unwrap_or(0));
                if self.read(i)? != expected {
                    return failure(format!("another value of {}", key(*i)));
                }
            }
            p50_micros(&keys, |i| self.read(i).map(|_| ()))
        })
    }

    fn uniform(&mut self, reps: usize) -> Result<f64> {
        let rows = self.rows;
        self.micros(reps, |random| random.below(rows))
    }

    /// Keys between others that are not there.
    fn absent(&mut self, reps: usize) -> Result<f64> {
        repeated(reps, || {
            let number = |_| self.random.below(self.rows);
            let keys: Vec<String> = (0..READS).map(number).map(|i| key(i) + "x").collect();
            p50_micros(&keys, |key| match self.engine.get(key)? {
                None => Ok(()),
                Some(_) => failure(format!("{key} is there")),
            })
        })
    }

    fn hot(&mut self, reps: usize) -> Result<f64> {
        let (rows, hot) = (self.rows, (self.rows / HOT_ONE_IN).max(1));
        let next = |random: &mut Random| match random.below(100) {
            0 => random.below(rows),
            _ => scattered(random.below(hot), rows),
        };
        for _ in 0..hot * WARM_UP {
            let i = next(&mut self.random);
            self.read(&i)?;
        }
        self.micros(reps, next)
    }

    /// Updates keys at random; how many a second.
    fn update(&mut self) -> Result<f64> {
        let updates = UPDATES.min(self.rows / 2).max(1);
        let mut seconds = 0.0;
        let numbers: Vec<u64> = (0..updates).map(|_| self.random.below(self.rows)).collect();
        for numbers in numbers.chunks(UPDATED_TOGETHER) {
            let change = |i: &u64| {
                let changes = self.changes.entry(*i).or_insert(0);
                *changes += 1;
                (key(*i), value(*i, *changes))
            };
            let pairs: Vec<Pair> = numbers.iter().map(change).collect();
            let start = Instant::now();
            self.engine.update(&pairs)?;
            seconds += start.elapsed().as_secs_f64();
        }
        Ok(updates as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_100_bytes_and_every_key_comes_once() {
        assert_eq!(value(7, 0).len(), 100);
        assert_ne!(value(7, 0), value(7, 1));
        let mut all: Vec<u64> = (0..12_345).map(|n| scattered(n, 12_345)).collect();
        all.sort_unstable();
        assert!(all.iter().enumerate().all(|(i, n)| i as u64 == *n));
    }
}
