//! Queries over stored pages, compared with the same queries over the same rows in memory,
//! where there are no pages and so nothing to be clever about.

mod order;
mod random;
mod statistics;
mod summaries;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use chronos_env::SimEnv;
use chronos_model::{
    encode_key, encode_row, rows_to_batch, text, value_at, BatchChange, Change, DataType, Expect,
    Key, Kind, NodeId, RowChange, RowChanges, Stamp, TableId, TableSchema, Value, WriteSet,
};
use chronos_store::segment::SegmentOptions;
use chronos_store::{LogIndex, ReadView, Store, StoreOptions};
use futures::StreamExt;

use super::{Engine, EngineOptions, QueryPlan, ReadContext, SessionFacts};
use crate::sql::{parse, Command};
use crate::QueryError;

/// Columns of every kind of statistics.
const TABLE: &str = "CREATE TABLE t (d text, k bigint, i int4, big bigint, f float8, r float4, \
    s text, b boolean, n numeric(10,2), ts timestamptz, PRIMARY KEY (d, k))";

/// Two stores with the same content: one with pages, one without.
struct Pair {
    paged: Store,
    plain: Store,
    engine: Engine,
    table: TableSchema,
    entries: u64,
    runtime: tokio::runtime::Runtime,
}

fn store(page_rows: usize) -> Store {
    let options = StoreOptions {
        memtable_bytes_max: 64 << 20,
        background: false,
        segment: SegmentOptions {
            page_rows,
            ..SegmentOptions::default()
        },
        ..StoreOptions::default()
    };
    Store::open(&SimEnv::new(1).env(), Path::new("/s"), options).unwrap()
}

/// The stamp of the `n`th write set.
fn stamp(n: u64) -> Stamp {
    Stamp::from_micros(1_000_000 * (n + 1))
}

/// The same as a timestamp in SQL.
fn instant(n: u64) -> String {
    let mut out = Vec::new();
    text::write_timestamptz(stamp(n).micros(), &mut out);
    format!("TIMESTAMPTZ '{}'", String::from_utf8(out).unwrap())
}

impl Pair {
    fn new(parallelism: usize) -> Pair {
        let Ok(Command::CreateTable(create)) = parse(TABLE) else {
            panic!("the table's definition");
        };
        let mut table = crate::ddl::table_schema(&create).unwrap();
        let engine = Engine::new(&EngineOptions {
            parallelism,
            memory: chronos_store::MemoryAccount::new(chronos_store::MemoryShares::of(4 << 30)),
            spill: crate::SpillOptions::default(),
        });
        let mut pair = Pair {
            paged: store(16),
            plain: store(16),
            engine: engine.unwrap(),
            table: table.clone(),
            entries: 0,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap(),
        };
        pair.apply(vec![Change::CreateTable(table.clone())]);
        table.id = TableId(1);
        pair.table = table;
        pair
    }

    fn apply(&mut self, changes: Vec<Change>) {
        let set = WriteSet {
            begin: Stamp::MAX,
            changes,
        };
        self.entries += 1;
        let (index, recorded) = (LogIndex(self.entries), stamp(self.entries));
        for store in [&self.paged, &self.plain] {
            store
                .apply_write_set(index, recorded, NodeId(1), &set)
                .unwrap();
        }
    }

    fn batch(&mut self, rows: &[Vec<Value>]) {
        self.apply(vec![Change::Batch(BatchChange {
            table: self.table.id,
            expect: Expect::Any,
            batch: rows_to_batch(&self.table, rows).unwrap(),
        })]);
    }

    /// Puts rows, or deletes those of their keys.
    fn rows(&mut self, rows: &[Vec<Value>], kind: Kind) {
        let change = |row: &Vec<Value>| {
            let mut bytes = Vec::new();
            if kind == Kind::Put {
                encode_row(row, &mut bytes);
            }
            RowChange {
                key: Key(encode_key(&self.table, &row[..2]).unwrap().0),
                expect: Expect::Any,
                kind,
                row: Bytes::from(bytes),
                valid: None,
            }
        };
        let changes = RowChanges {
            table: self.table.id,
            rows: rows.iter().map(change).collect(),
        };
        self.apply(vec![Change::Rows(changes)]);
    }

    fn truncate(&mut self) {
        self.apply(vec![Change::Truncate(self.table.id)]);
    }

    fn flush(&self) {
        self.paged.flush_now().unwrap();
    }

    fn plan(&self, view: &ReadView, sql: &str) -> Result<QueryPlan, QueryError> {
        let statement = match parse(sql)? {
            Command::Query(statement) => statement,
            _ => panic!("{sql} is no query"),
        };
        let catalog = Arc::clone(view.catalog());
        let facts = SessionFacts::default();
        self.engine.plan(&statement, &catalog, &facts, &[], &[])
    }

    fn run(&self, view: ReadView, sql: &str) -> Result<Vec<String>, QueryError> {
        let plan = self.plan(&view, sql)?;
        self.execute(view, &plan)
    }

    fn execute(&self, view: ReadView, plan: &QueryPlan) -> Result<Vec<String>, QueryError> {
        self.runtime.block_on(async {
            let context = ReadContext {
                defaults: Default::default(),
                view,
                now_micros: 0,
                settings: Arc::default(),
            };
            let mut stream = self.engine.execute(plan, &[], context).await?;
            let mut rows = Vec::new();
            while let Some(batch) = stream.next().await {
                let batch = batch?;
                for row in 0..batch.num_rows() {
                    let cells = (0..batch.num_columns()).map(|c| {
                        let field = batch.schema().field(c).clone();
                        let data_type = DataType::of_field(&field);
                        let array = crate::coerce_array(batch.column(c), &field, &data_type);
                        match value_at(&array.unwrap(), row, &data_type).unwrap() {
                            Value::Null => "NULL".to_owned(),
                            // Which of two equal zeros is the lower one is not promised.
                            value => match text::format(&value).as_str() {
                                "-0" => "0".to_owned(),
                                other => other.to_owned(),
                            },
                        }
                    });
                    rows.push(cells.collect::<Vec<_>>().join("|"));
                }
            }
            Ok(rows)
        })
    }

    fn paged(&self, sql: &str) -> Vec<String> {
        let rows = self.run(self.paged.read_view(), sql);
        rows.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Both answer alike, in whatever order.
    fn check(&self, sql: &str) {
        let sorted = |rows: Result<Vec<String>, QueryError>| {
            let mut rows = rows.map_err(|e| e.code.0)?;
            rows.sort();
            Ok::<_, &str>(rows)
        };
        let paged = sorted(self.run(self.paged.read_view(), sql));
        let plain = sorted(self.run(self.plain.read_view(), sql));
        assert_eq!(paged, plain, "{sql}\n{}", self.explain(sql));
    }

    /// Both answer alike, in the same order.
    fn check_ordered(&self, sql: &str) {
        let paged = self.run(self.paged.read_view(), sql).map_err(|e| e.code.0);
        let plain = self.run(self.plain.read_view(), sql).map_err(|e| e.code.0);
        assert_eq!(paged, plain, "{sql}\n{}", self.explain(sql));
    }

    /// Pages that a query reads as they stand, and those that it leaves out at the last moment.
    fn pages(&self, sql: &str) -> (usize, usize) {
        let plan = self.paged(&format!("EXPLAIN ANALYZE {sql}")).join("\n");
        let sum = |name: &str| {
            let name = format!("{name}=");
            let numbers = plan.split(name.as_str()).skip(1);
            let digits = numbers.map(|n| n.split(|c: char| !c.is_ascii_digit()).next());
            digits
                .flatten()
                .filter_map(|d| d.parse::<usize>().ok())
                .sum()
        };
        (sum("pages_read"), sum("pages_left_out"))
    }

    /// The physical plan over pages.
    fn explain(&self, sql: &str) -> String {
        let rows = self.run(self.paged.read_view(), &format!("EXPLAIN {sql}"));
        rows.map_or_else(
            |e| e.to_string(),
            |rows| rows.last().cloned().unwrap_or_default(),
        )
    }
}

/// A row of the table, of a device and a number; `shape` says how its other values are. No
/// NaN: which rows the engine's grouped extremes see depends on their order then.
fn row(device: &str, k: i64, shape: u64) -> Vec<Value> {
    let null_at = |n: u64| shape % 16 == n || (shape % 16 == 15 && k % 3 == 0);
    let or_null = |n: u64, value: Value| if null_at(n) { Value::Null } else { value };
    let number = match shape / 16 % 4 {
        0 => 7,
        1 => k,
        2 => -k,
        _ => (k * 7919) % 100,
    };
    let float = match (shape / 64 % 8, k % 16) {
        (0, 3) => f64::NEG_INFINITY,
        (1, 3) => -0.0,
        (1, 5) => 0.0,
        (2, 3) => f64::INFINITY,
        _ => number as f64 * 0.25,
    };
    let big = match shape / 512 % 8 {
        0 => i64::MAX - k,
        1 => i64::MIN + k,
        _ => number * 1_000_000_007,
    };
    vec![
        Value::Text(device.into()),
        Value::Int8(k),
        or_null(1, Value::Int4(number as i32)),
        or_null(2, Value::Int8(big)),
        or_null(3, Value::Float8(float)),
        or_null(4, Value::Float4(float as f32)),
        or_null(5, Value::Text(format!("s{:03}", number.abs()))),
        or_null(6, Value::Bool(number % 2 == 0)),
        or_null(
            7,
            Value::Numeric(chronos_model::Decimal {
                unscaled: i128::from(number),
                scale: 2,
            }),
        ),
        or_null(8, Value::TimestampTz(1_700_000_000_000_000 + k * 1_000_000)),
    ]
}
