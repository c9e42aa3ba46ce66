//! Write sets: what one transaction does to the store, as resolved effects.
//!
//! A write set carries rows and preconditions, never SQL text, so that every
//! replica that applies it computes the same state. Format (version 1; integers
//! as in [`crate::Encoder`]):
//!
//! ```text
//! write set   [1] [begin: u64] [count: varint] change*
//! change      [1] schema as JSON bytes                     create table
//!             [2] table id: u32                            drop table
//!             [3] table id: u32, expect+kind per row       rows
//!             [4] table id: u32, expect: u8, Arrow IPC     batch
//!             [5] table id: u32                            truncate table
//!             [6] table id: u32, changes as JSON bytes     change options
//!             [7] table id: u32, version of its shape: u32 what rows that follow are made for
//!             [8] catalog change as JSON bytes             change the catalog
//!             [9] key bytes, fingerprint: 16 bytes, answer bytes  apply once for a key
//!             [10] migration                               all that a transaction does to the catalog
//!             [11] reads                                   what must be as it was read
//!             [16] index schema as JSON bytes              create index
//!             [17] index id: u32                           drop index
//!             [18] index id: u32, state: u8                index state
//!             [22] index id: u32                           give up an index
//!             [19] sequence as JSON bytes                  create sequence
//!             [20] sequence id: u32, count: u32            reserve numbers
//!             [21] sequence id: u32, value: u64, called: u8    set sequence
//! migration   [base: u64] [count: varint] (table id: u32, stamp: u64)* [count: varint] change*
//! reads       [base: u64] [count: varint] (table id: u32)* [count: varint] (table id: u32, key bytes)*
//! row         [expect << 4 | period << 2 | kind] [period]? [key bytes] [row bytes]
//! period      [from: u64] [to: u64], two's complement microseconds; there if its bit is 1
//! ```

mod batch;
mod catalog_change;
mod migration;
mod reads;

use arrow_array::RecordBatch;
use arrow_ipc::writer::StreamWriter;
use bytes::Bytes;

use crate::{
    columns_bytes, DataError, Decoder, Encoder, IndexSchema, IndexState, Key, Once, OptionChange,
    Period, SequenceSchema, Stamp, TableId, TableSchema,
};

pub use catalog_change::{CatalogChange, CatalogEdit};
pub use migration::Migration;
pub use reads::ReadSet;

const FORMAT: u8 = 1;
/// The kind of [`Change::Migrate`].
const MIGRATION: u8 = 10;

/// About what a change is encoded in besides its rows: schema and framing of a batch.
const ENVELOPE_BYTES: usize = 2048;

/// What must hold of a key for a change to be applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Nothing: the newest write wins (upsert).
    Any,
    /// No current row (INSERT); else unique_violation.
    Absent,
    /// No current row, else this one change is left out (ON CONFLICT DO NOTHING,
    /// idempotent ingest).
    AbsentOrSkip,
    /// No version newer than the write set's `begin` (UPDATE, DELETE and
    /// ON CONFLICT DO UPDATE, which read before they write); else
    /// serialization_failure.
    Unchanged,
    /// No current row of this key, nor one with the same values in a unique index; else
    /// this one change is left out (ON CONFLICT DO NOTHING without a target).
    DistinctOrSkip,
}

/// What a version does to its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The row has these values.
    Put,
    /// The row is gone.
    Delete,
    /// The row is gone, and so is all that it ever was.
    Erase = 3,
}

/// One row's change.
#[derive(Clone, PartialEq, Debug)]
pub struct RowChange {
    /// The row's key; empty: give it a new hidden key.
    pub key: Key,
    /// Precondition.
    pub expect: Expect,
    /// Put or delete.
    pub kind: Kind,
    /// The row as [`crate::encode_row`] wrote it; empty for a delete.
    pub row: Bytes,
    /// When it is true; `None`: from when it is recorded until changed.
    pub valid: Option<Period>,
}

/// Changes of single rows of a table. Of those with the same key a later one takes from an
/// earlier one the moments that its period covers.
#[derive(Clone, PartialEq, Debug)]
pub struct RowChanges {
    /// The table.
    pub table: TableId,
    /// The rows.
    pub rows: Vec<RowChange>,
}

/// Many new rows of a table, as columns.
#[derive(Clone, PartialEq, Debug)]
pub struct BatchChange {
    /// The table.
    pub table: TableId,
    /// Precondition of every row, [`Expect::Unchanged`] excepted; of rows with the same key within the batch, the
    /// first counts as present for those after it.
    pub expect: Expect,
    /// The table's columns in order.
    pub batch: RecordBatch,
}

/// A part of a write set.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// Creates a table; its id is given when this is applied.
    CreateTable(TableSchema),
    /// Drops a table.
    DropTable(TableId),
    /// Changes single rows.
    Rows(RowChanges),
    /// Adds many rows.
    Batch(BatchChange),
    /// Deletes every row of a table as one step.
    Truncate(TableId),
    /// Changes options of a table.
    AlterOptions(TableId, Vec<OptionChange>),
    /// Rows of the table that follow, in this set, were made for this version of its
    /// [shape](crate::Shape). Without: for version 0.
    ExpectShape(TableId, u32),
    /// Changes the catalog in a way that depends on all of it.
    Catalog(CatalogChange),
    /// All that a transaction does to the catalog; the first change of its write set.
    Migrate(Migration),
    /// What the transaction has read must be as it was; before all changes but a migration.
    ExpectReads(ReadSet),
    /// The set is applied once, however often it is proposed with this key. It may stand anywhere.
    Once(Once),
    /// Creates a secondary index; its id is given when this is applied.
    CreateIndex(IndexSchema),
    /// Drops a secondary index.
    DropIndex(TableId),
    /// Drops a secondary index that cannot be completed; one that is complete stays.
    GiveUpIndex(TableId),
    /// Moves a secondary index on to a state.
    SetIndexState(TableId, IndexState),
    /// Creates a sequence; its id is given when this is applied.
    CreateSequence(SequenceSchema),
    /// Hands out numbers of a sequence, so many if there are.
    ReserveNumbers(TableId, u32),
    /// Sets a sequence to a number, and whether that counts as given.
    SetSequence(TableId, i64, bool),
}

/// All changes of one transaction.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct WriteSet {
    /// What the transaction read at; [`Stamp::MAX`] when it read nothing.
    pub begin: Stamp,
    /// The changes, in order.
    pub changes: Vec<Change>,
}

impl WriteSet {
    /// Encodes for the log.
    ///
    /// Errors: the Arrow writer refused a batch.
    pub fn encode(&self) -> Result<Vec<u8>, DataError> {
        self.encode_behind(0)
    }

    /// The same behind so many zeros, for a header that is written later.
    pub fn encode_behind(&self, header_bytes: usize) -> Result<Vec<u8>, DataError> {
        // Growing would copy, and for a moment there would be two.
        let bytes = header_bytes + self.memory_bytes() + ENVELOPE_BYTES * self.changes.len();
        let mut e = Encoder {
            buffer: Vec::with_capacity(bytes),
        };
        e.buffer.resize(header_bytes, 0);
        e.u8(FORMAT);
        e.u64(self.begin.0);
        e.varint(self.changes.len() as u64);
        for change in &self.changes {
            encode_change(change, &mut e)?;
        }
        Ok(e.buffer)
    }

    /// Decodes what [`encode`](Self::encode) wrote.
    pub fn decode(bytes: &Bytes) -> Result<WriteSet, DataError> {
        let mut d = Decoder::new("write set", bytes);
        if d.u8()? != FORMAT {
            return Err(d.damaged("an unknown format version"));
        }
        let begin = Stamp(d.u64()?);
        let count = d.count()?;
        let changes = (0..count)
            .map(|_| decode_change(&mut d, bytes))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(WriteSet { begin, changes })
    }

    /// About what the changes take in memory, and encoded.
    pub fn memory_bytes(&self) -> usize {
        self.changes.iter().map(Change::memory_bytes).sum()
    }

    /// How many row changes there are.
    pub fn rows(&self) -> u64 {
        self.changes
            .iter()
            .map(|c| match c {
                Change::Rows(r) => r.rows.len() as u64,
                Change::Batch(b) => b.batch.num_rows() as u64,
                _ => 0,
            })
            .sum()
    }
}

impl Change {
    /// About what its rows take in memory.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Change::Rows(changes) => changes.rows.iter().map(RowChange::memory_bytes).sum(),
            Change::Batch(change) => change.memory_bytes(),
            Change::Once(once) => once.key.len() + once.answer.len(),
            _ => 0,
        }
    }
}

impl BatchChange {
    /// About what its rows take in memory.
    pub fn memory_bytes(&self) -> usize {
        columns_bytes(self.batch.columns())
    }
}

impl RowChange {
    /// About what it takes in memory.
    pub fn memory_bytes(&self) -> usize {
        /// Of the allocations for the key, the row, and the row's counter of owners.
        const ALLOCATION_BYTES: usize = 64;
        size_of::<RowChange>() + ALLOCATION_BYTES + self.key.0.len() + self.row.len()
    }
}

fn encode_change(change: &Change, e: &mut Encoder) -> Result<(), DataError> {
    match change {
        Change::CreateTable(schema) => {
            e.u8(1);
            e.bytes(&serde_json::to_vec(schema).map_err(|_| unencodable("a table schema"))?);
        }
        Change::DropTable(table) => {
            e.u8(2);
            e.u32(table.0);
        }
        Change::Rows(changes) => {
            e.u8(3);
            e.u32(changes.table.0);
            e.varint(changes.rows.len() as u64);
            for row in &changes.rows {
                let has_period = u8::from(row.valid.is_some());
                e.u8((row.expect as u8) << 4 | has_period << 2 | row.kind as u8);
                if let Some(valid) = row.valid {
                    e.u64(valid.from as u64);
                    e.u64(valid.to as u64);
                }
                e.bytes(&row.key.0);
                e.bytes(&row.row);
            }
        }
        Change::Batch(change) => {
            e.u8(4);
            e.u32(change.table.0);
            e.u8(change.expect as u8);
            let start = e.buffer.len();
            let write = |ipc: &mut Vec<u8>| {
                let mut writer = StreamWriter::try_new(ipc, &change.batch.schema())?;
                writer.write(&change.batch)?;
                writer.finish()
            };
            write(&mut e.buffer).map_err(|_| unencodable("a record batch"))?;
            // The length stands in front of it, and is known only now.
            let mut length = Encoder::default();
            length.varint((e.buffer.len() - start) as u64);
            e.buffer.splice(start..start, length.buffer);
        }
        Change::Truncate(table) => {
            e.u8(5);
            e.u32(table.0);
        }
        Change::AlterOptions(table, changes) => {
            e.u8(6);
            e.u32(table.0);
            e.bytes(&serde_json::to_vec(changes).map_err(|_| unencodable("table options"))?);
        }
        Change::ExpectShape(table, version) => {
            e.u8(7);
            e.u32(table.0);
            e.u32(*version);
        }
        Change::Catalog(change) => {
            e.u8(8);
            e.bytes(&serde_json::to_vec(change).map_err(|_| unencodable("a catalog change"))?);
        }
        Change::Migrate(migration) => {
            e.u8(MIGRATION);
            migration.encode(e)?;
        }
        Change::ExpectReads(reads) => {
            e.u8(11);
            reads.encode(e);
        }
        Change::Once(once) => {
            e.u8(9);
            e.bytes(once.key.as_bytes());
            e.buffer.extend_from_slice(&once.fingerprint);
            e.bytes(&once.answer);
        }
        Change::CreateIndex(schema) => {
            e.u8(16);
            e.bytes(&serde_json::to_vec(schema).map_err(|_| unencodable("an index schema"))?);
        }
        Change::DropIndex(index) => {
            e.u8(17);
            e.u32(index.0);
        }
        Change::GiveUpIndex(index) => {
            e.u8(22);
            e.u32(index.0);
        }
        Change::SetIndexState(index, state) => {
            e.u8(18);
            e.u32(index.0);
            e.u8(*state as u8);
        }
        Change::CreateSequence(schema) => {
            e.u8(19);
            e.bytes(&serde_json::to_vec(schema).map_err(|_| unencodable("a sequence"))?);
        }
        Change::ReserveNumbers(sequence, count) => {
            e.u8(20);
            e.u32(sequence.0);
            e.u32(*count);
        }
        Change::SetSequence(sequence, value, is_called) => {
            e.u8(21);
            e.u32(sequence.0);
            e.u64(*value as u64);
            e.u8(u8::from(*is_called));
        }
    }
    Ok(())
}

fn unencodable(what: &'static str) -> DataError {
    DataError::Damaged {
        what,
        offset: 0,
        reason: "it cannot be encoded",
    }
}

fn decode_change(d: &mut Decoder<'_>, whole: &Bytes) -> Result<Change, DataError> {
    Ok(match d.u8()? {
        1 => {
            let json = d.bytes()?;
            let schema = serde_json::from_slice(json)
                .map_err(|_| d.damaged("a table schema that does not read"))?;
            Change::CreateTable(schema)
        }
        2 => Change::DropTable(TableId(d.u32()?)),
        3 => {
            let table = TableId(d.u32()?);
            let count = d.count()?;
            let rows = (0..count)
                .map(|_| decode_row_change(d, whole))
                .collect::<Result<_, _>>()?;
            Change::Rows(RowChanges { table, rows })
        }
        4 => {
            let table = TableId(d.u32()?);
            let expect = d.u8()?;
            let expect = decode_expect(expect, d)?;
            let ipc = d.bytes()?;
            let batch =
                batch::decode(ipc).ok_or_else(|| d.damaged("a record batch that does not read"))?;
            Change::Batch(BatchChange {
                table,
                expect,
                batch,
            })
        }
        5 => Change::Truncate(TableId(d.u32()?)),
        6 => {
            let table = TableId(d.u32()?);
            let changes = serde_json::from_slice(d.bytes()?)
                .map_err(|_| d.damaged("table options that do not read"))?;
            Change::AlterOptions(table, changes)
        }
        7 => Change::ExpectShape(TableId(d.u32()?), d.u32()?),
        8 => {
            let change = serde_json::from_slice(d.bytes()?)
                .map_err(|_| d.damaged("a catalog change that does not read"))?;
            Change::Catalog(change)
        }
        9 => Change::Once(Once {
            key: d.text()?.into(),
            fingerprint: d.array()?,
            answer: whole.slice_ref(d.bytes()?),
        }),
        11 => Change::ExpectReads(ReadSet::decode(d)?),
        MIGRATION => Change::Migrate(Migration::decode(d, whole)?),
        16 => {
            let json = d.bytes()?;
            let schema = serde_json::from_slice(json)
                .map_err(|_| d.damaged("an index schema that does not read"))?;
            Change::CreateIndex(schema)
        }
        17 => Change::DropIndex(TableId(d.u32()?)),
        18 => {
            let index = TableId(d.u32()?);
            let state = match d.u8()? {
                0 => IndexState::Building,
                1 => IndexState::Checking,
                2 => IndexState::Valid,
                _ => return Err(d.damaged("an unknown state of an index")),
            };
            Change::SetIndexState(index, state)
        }
        19 => {
            let schema = serde_json::from_slice(d.bytes()?)
                .map_err(|_| d.damaged("a sequence that does not read"))?;
            Change::CreateSequence(schema)
        }
        20 => Change::ReserveNumbers(TableId(d.u32()?), d.u32()?),
        21 => Change::SetSequence(TableId(d.u32()?), d.u64()? as i64, d.u8()? != 0),
        22 => Change::GiveUpIndex(TableId(d.u32()?)),
        _ => return Err(d.damaged("an unknown kind of change")),
    })
}

fn decode_row_change(d: &mut Decoder<'_>, whole: &Bytes) -> Result<RowChange, DataError> {
    let flags = d.u8()?;
    let expect = decode_expect(flags >> 4, d)?;
    let kind = match flags & 0x03 {
        0 => Kind::Put,
        1 => Kind::Delete,
        3 => Kind::Erase,
        _ => return Err(d.damaged("an unknown kind of version")),
    };
    let valid = match flags & 0x0c {
        0 => None,
        4 => Some(Period {
            from: d.u64()? as i64,
            to: d.u64()? as i64,
        }),
        _ => return Err(d.damaged("unknown flags of a version")),
    };
    let key = Key(d.bytes()?.into());
    let row = whole.slice_ref(d.bytes()?);
    Ok(RowChange {
        key,
        expect,
        kind,
        row,
        valid,
    })
}

fn decode_expect(byte: u8, d: &Decoder<'_>) -> Result<Expect, DataError> {
    Ok(match byte {
        0 => Expect::Any,
        1 => Expect::Absent,
        2 => Expect::AbsentOrSkip,
        3 => Expect::Unchanged,
        4 => Expect::DistinctOrSkip,
        _ => return Err(d.damaged("an unknown precondition")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        rows_to_batch, ColumnSchema, CompareWith, Condition, DataType, IndexColumn, TableOptions,
        Uniqueness, Value,
    };

    fn table() -> TableSchema {
        let column = |name: &str, data_type| ColumnSchema {
            name: name.into(),
            data_type,
            nullable: true,
            default: None,
            attributes: Default::default(),
        };
        TableSchema {
            id: TableId(3),
            name: "t".into(),
            columns: vec![column("a", DataType::Int8), column("b", DataType::Text)],
            shape: Default::default(),
            rules: Default::default(),
            primary_key: vec![0],
            options: TableOptions::default(),
        }
    }

    fn index() -> IndexSchema {
        let table = table();
        let condition = Condition::compare(&table, 0, CompareWith::Gt, &Value::Int8(5));
        IndexSchema {
            id: TableId(0),
            name: "i".into(),
            table: table.id,
            columns: vec![IndexColumn {
                column: 1,
                descending: true,
                nulls_first: false,
            }],
            included: vec![0],
            unique: Uniqueness::Constraint,
            conditions: vec![condition.unwrap()],
            state: IndexState::Building,
            created: 0,
            for_foreign_key: false,
        }
    }

    #[test]
    fn write_sets_round_trip() {
        let table = table();
        let rows = vec![
            vec![
                Value::Int8(1),
                Value::Text("a long text that is not inlined".into()),
            ],
            vec![Value::Int8(2), Value::Null],
        ];
        let batch = rows_to_batch(&table, &rows).unwrap();
        let set = WriteSet {
            begin: Stamp(9),
            changes: vec![
                Change::CreateTable(table.clone()),
                Change::Rows(RowChanges {
                    table: table.id,
                    rows: vec![
                        RowChange {
                            key: Key(Box::from(*b"k")),
                            expect: Expect::Absent,
                            kind: Kind::Put,
                            row: Bytes::from_static(b"row"),
                            valid: None,
                        },
                        RowChange {
                            key: Key(Box::from(*b"l")),
                            expect: Expect::Unchanged,
                            kind: Kind::Delete,
                            row: Bytes::new(),
                            valid: Some(Period {
                                from: -5,
                                to: Period::UNTIL_CHANGED,
                            }),
                        },
                    ],
                }),
                Change::Batch(BatchChange {
                    table: table.id,
                    expect: Expect::AbsentOrSkip,
                    batch,
                }),
                Change::DropTable(TableId(8)),
                Change::Truncate(TableId(9)),
                Change::AlterOptions(TableId(9), vec![OptionChange::Ttl(Some(5))]),
                Change::ExpectShape(TableId(9), 3),
                Change::Catalog(CatalogChange {
                    base: 7,
                    unchanged: vec![(TableId(9), Stamp(8))],
                    edits: vec![CatalogEdit::Table(Box::new(table.clone()))],
                }),
                Change::Migrate(Migration {
                    base: 9,
                    unchanged: vec![(TableId(3), Stamp(4))],
                    changes: vec![
                        Change::CreateTable(table.clone()),
                        Change::CreateIndex(index()),
                        Change::Truncate(TableId(3)),
                        Change::SetSequence(TableId(5), 6, true),
                    ],
                }),
                Change::ExpectReads(ReadSet {
                    base: 9,
                    tables: vec![TableId(3)],
                    keys: vec![(TableId(4), Key(Box::from(*b"k")))],
                }),
                Change::CreateIndex(index()),
                Change::DropIndex(TableId(4)),
                Change::SetIndexState(TableId(4), IndexState::Checking),
                Change::GiveUpIndex(TableId(4)),
                Change::Once(Once {
                    key: "order 7".into(),
                    fingerprint: *b"0123456789abcdef",
                    answer: Bytes::from_static(b"answer"),
                }),
                Change::ReserveNumbers(TableId(4), 32),
                Change::SetSequence(TableId(4), -7, true),
            ],
        };
        let bytes = Bytes::from(set.encode().unwrap());
        assert_eq!(WriteSet::decode(&bytes).unwrap(), set);
        for cut in 0..bytes.len() {
            let _ = WriteSet::decode(&bytes.slice(..cut)).unwrap_err();
        }
        // The log's checksum stands before this; bytes that are wrong nevertheless are an
        // error or another write set.
        for at in 0..bytes.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut wrong = bytes.to_vec();
                wrong[at] ^= flip;
                let _ = WriteSet::decode(&Bytes::from(wrong));
            }
        }
    }
}
