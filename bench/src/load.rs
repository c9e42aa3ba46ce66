//! One kind of operation, repeated: its statement, its parameters, its literal form, and the
//! count a database must answer with. The same for every peer.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::data::{self, Random, Shape};

/// A table of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// `rows(id bigint primary key, device, ts, value)`
    Rows,
    /// `series(device, ts, value, primary key (device, ts))`
    Series,
    /// `loose(device, ts, value)`
    Loose,
}

impl Table {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Rows => "rows",
            Table::Series => "series",
            Table::Loose => "loose",
        }
    }

    /// Its columns, in order.
    pub(crate) fn columns(self) -> &'static str {
        match self.shape() {
            Shape::Keyed => "id, device, ts, value",
            Shape::Series => "device, ts, value",
        }
    }

    /// The shape of its rows.
    pub(crate) fn shape(self) -> Shape {
        match self {
            Table::Rows => Shape::Keyed,
            Table::Series | Table::Loose => Shape::Series,
        }
    }
}

/// A parameter. Over the wire it travels as text, which is what libpq sends unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    /// A key.
    Int(i64),
    /// A device's name, by its number.
    Device(u64),
    /// An instant in microseconds.
    Time(i64),
    /// A measured value.
    Float(f64),
    /// A pair's value, by what it is made of.
    Payload(u64),
}

impl Value {
    /// Its text, without quotes.
    pub(crate) fn write(self, out: &mut String) {
        let _ = match self {
            Value::Int(number) => write!(out, "{number}"),
            Value::Float(number) => write!(out, "{number}"),
            Value::Device(device) => {
                data::write_device(out, device);
                Ok(())
            }
            Value::Time(micros) => {
                data::write_time(out, micros);
                Ok(())
            }
            Value::Payload(seed) => {
                data::write_payload(out, seed);
                Ok(())
            }
        };
    }

    fn quoted(self) -> bool {
        matches!(self, Value::Device(_) | Value::Time(_) | Value::Payload(_))
    }
}

/// How a statement reaches a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Prepared once per connection; each operation is Bind, Execute, Sync in one write.
    Prepared,
    /// The whole text every time, as one simple Query.
    Simple,
}

/// What an operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Inserts this many new rows, in one statement and so in one transaction.
    Insert {
        /// Rows per statement.
        rows: u64,
    },
    /// Reads one row by its key.
    Select,
    /// Sets one row's value by its key.
    Update,
    /// Inserts this many new pairs, in one statement.
    PutPairs {
        /// Pairs per statement.
        pairs: u64,
    },
    /// Puts another value in the place of one pair's.
    ReplacePair,
    /// Reads one pair's value by its key.
    GetPair,
}

/// An operation on the table `rows`, or on the pairs of `kv (k bigint primary key, v text)`, repeated. Shared by all clients of a phase.
#[derive(Debug)]
pub(crate) struct Load {
    /// What is done.
    pub(crate) operation: Operation,
    /// How it is sent.
    pub(crate) protocol: Protocol,
    /// The keys there are, 0 up to this; inserts take the next ones.
    keys: AtomicU64,
}

impl Load {
    /// An operation on a table that holds the keys [0, keys).
    pub(crate) fn new(operation: Operation, protocol: Protocol, keys: u64) -> Load {
        Load {
            operation,
            protocol,
            keys: AtomicU64::new(keys),
        }
    }

    /// Keys there are by now.
    pub(crate) fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// Whether it changes anything.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.operation, Operation::Select | Operation::GetPair)
    }

    /// The row count of the reply to one operation.
    pub(crate) fn answer(&self) -> u64 {
        match self.operation {
            Operation::Insert { rows } => rows,
            Operation::PutPairs { pairs } => pairs,
            _ => 1,
        }
    }

    /// The statement with placeholders; `mark` writes the n-th one, counted from 1.
    pub(crate) fn statement(&self, mark: impl Fn(&mut String, u64)) -> String {
        let count = match self.operation {
            Operation::Insert { rows } => 4 * rows,
            Operation::PutPairs { pairs } => 2 * pairs,
            Operation::Select | Operation::GetPair => 1,
            Operation::Update | Operation::ReplacePair => 2,
        };
        let mut text = String::new();
        self.compose(&mut text, count, |out, n| mark(out, n + 1));
        text
    }

    /// The statement with the parameters written into it.
    pub(crate) fn literal(&self, values: &[Value], text: &mut String) {
        self.compose(text, values.len() as u64, |out, n| {
            let value = values[n as usize];
            if value.quoted() {
                out.push('\'');
            }
            value.write(out);
            if value.quoted() {
                out.push('\'');
            }
        });
    }

    fn compose(&self, text: &mut String, count: u64, place: impl Fn(&mut String, u64)) {
        match self.operation {
            Operation::Insert { .. } => {
                text.push_str("INSERT INTO rows (id, device, ts, value) VALUES ");
                for n in 0..count {
                    text.push_str(match (n, n % 4) {
                        (0, _) => "(",
                        (_, 0) => "), (",
                        _ => ", ",
                    });
                    place(text, n);
                }
                text.push(')');
            }
            Operation::PutPairs { .. } | Operation::ReplacePair => {
                text.push_str("INSERT INTO kv (k, v) VALUES ");
                for n in 0..count {
                    text.push_str(match (n, n % 2) {
                        (0, _) => "(",
                        (_, 0) => "), (",
                        _ => ", ",
                    });
                    place(text, n);
                }
                text.push(')');
                if self.operation == Operation::ReplacePair {
                    text.push_str(" ON CONFLICT (k) DO UPDATE SET v = excluded.v");
                }
            }
            Operation::GetPair => {
                text.push_str("SELECT v FROM kv WHERE k = ");
                place(text, 0);
            }
            Operation::Select => {
                text.push_str("SELECT device, ts, value FROM rows WHERE id = ");
                place(text, 0);
            }
            Operation::Update => {
                text.push_str("UPDATE rows SET value = ");
                place(text, 0);
                text.push_str(" WHERE id = ");
                place(text, 1);
            }
        }
    }

    /// The next operation's parameters.
    pub(crate) fn next(&self, random: &mut Random, values: &mut Vec<Value>) {
        values.clear();
        match self.operation {
            Operation::Insert { rows } => {
                let first = self.keys.fetch_add(rows, Ordering::Relaxed);
                for id in first..first + rows {
                    let row = data::reading(id);
                    values.push(Value::Int(id as i64));
                    values.push(Value::Device(row.device));
                    values.push(Value::Time(row.micros));
                    values.push(Value::Float(row.value));
                }
            }
            Operation::PutPairs { pairs } => {
                let first = self.keys.fetch_add(pairs, Ordering::Relaxed);
                for key in first..first + pairs {
                    values.push(Value::Int(key as i64));
                    values.push(Value::Payload(random.next()));
                }
            }
            Operation::ReplacePair => {
                values.push(Value::Int(random.below(self.keys()) as i64));
                values.push(Value::Payload(random.next()));
            }
            Operation::Select | Operation::GetPair => {
                values.push(Value::Int(random.below(self.keys()) as i64));
            }
            Operation::Update => {
                values.push(Value::Float(random.below(1_000_000_000) as f64 / 100.0));
                values.push(Value::Int(random.below(self.keys()) as i64));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_in_both_forms() {
        let load = Load::new(Operation::Insert { rows: 2 }, Protocol::Prepared, 7);
        let text = load.statement(|out, n| out.push_str(&format!("${n}")));
        assert_eq!(
            text,
            "INSERT INTO rows (id, device, ts, value) VALUES ($1, $2, $3, $4), ($5, $6, $7, $8)"
        );
        let (mut values, mut literal) = (Vec::new(), String::new());
        load.next(&mut Random::new(), &mut values);
        load.literal(&values, &mut literal);
        assert!(
            literal.contains("VALUES (7, 'dev-007', '2026-03-01 00:00:00+00', "),
            "{literal}"
        );
        assert!(literal.contains("), (8, 'dev-008', "), "{literal}");
        assert_eq!((load.keys(), load.answer()), (9, 2));
        let load = Load::new(Operation::PutPairs { pairs: 2 }, Protocol::Prepared, 7);
        let text = load.statement(|out, n| out.push_str(&format!("${n}")));
        assert_eq!(text, "INSERT INTO kv (k, v) VALUES ($1, $2), ($3, $4)");
        load.next(&mut Random::new(), &mut values);
        assert_eq!((values[0], values[2]), (Value::Int(7), Value::Int(8)));
        let mut payload = String::new();
        values[1].write(&mut payload);
        assert_eq!(payload.len(), data::PAYLOAD_BYTES);
        let load = Load::new(Operation::ReplacePair, Protocol::Prepared, 1);
        let text = load.statement(|out, n| out.push_str(&format!("${n}")));
        assert!(text.ends_with("VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v"));
        let load = Load::new(Operation::Update, Protocol::Simple, 1);
        let mut literal = String::new();
        load.literal(&[Value::Float(1.5), Value::Int(0)], &mut literal);
        assert_eq!(literal, "UPDATE rows SET value = 1.5 WHERE id = 0");
    }
}
