//! Chronos: a table (key text, value text), as `engine/chronos.rs` has its log and store.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringViewArray};
use chronos_model::{
    encode_key, encode_row, BatchChange, Change, DataType, Expect, Kind, RowChange, RowChanges,
    TableSchema, Value, WriteSet,
};

use super::{Pair, Pairs};
use crate::engine::chronos::{column, table, write_set, Database};
use crate::error::{failure, Result};
use crate::scratch::disk_bytes;

pub(super) struct Chronos {
    database: Database,
    schema: Arc<TableSchema>,
}

impl Chronos {
    pub(super) fn open(dir: &Path) -> Result<Chronos> {
        let columns = vec![
            column("key", DataType::Text),
            column("value", DataType::Text),
        ];
        let database = Database::create(dir, &table("pairs", columns, &[0]))?;
        let schema = database.table("pairs")?;
        Ok(Chronos { database, schema })
    }

    fn update_of(&self, (key, value): &Pair) -> Result<WriteSet> {
        let row = [Value::Text(key.clone()), Value::Text(value.clone())];
        let mut bytes = Vec::new();
        encode_row(&row, &mut bytes);
        Ok(write_set(Change::Rows(RowChanges {
            table: self.schema.id,
            rows: vec![RowChange {
                key: encode_key(&self.schema, &row[..1])?,
                expect: Expect::Any,
                kind: Kind::Put,
                row: bytes.into(),
                valid: None,
            }],
        })))
    }
}

impl Pairs for Chronos {
    fn insert(&mut self, pairs: &[Pair]) -> Result<()> {
        let keys = pairs.iter().map(|(key, _)| key);
        let values = pairs.iter().map(|(_, value)| value);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringViewArray::from_iter_values(keys)),
            Arc::new(StringViewArray::from_iter_values(values)),
        ];
        let change = Change::Batch(BatchChange {
            table: self.schema.id,
            expect: Expect::Absent,
            batch: RecordBatch::try_new(self.schema.arrow_schema(), columns)?,
        });
        self.database.commit(&[write_set(change)])
    }

    fn update(&mut self, pairs: &[Pair]) -> Result<()> {
        let sets = pairs.iter().map(|pair| self.update_of(pair));
        let sets = sets.collect::<Result<Vec<_>>>()?;
        self.database.commit(&sets)
    }

    fn settle(&mut self) -> Result<()> {
        self.database.settle()
    }

    fn data_bytes(&self, dir: &Path) -> u64 {
        disk_bytes(&dir.join("store"))
    }

    fn get(&mut self, key: &str) -> Result<Option<String>> {
        let key = encode_key(&self.schema, &[Value::Text(key.to_owned())])?;
        let Some(found) = self.database.view().get(&self.schema, &key.0)? else {
            return Ok(None);
        };
        match found.row.values(&[1])?.pop() {
            Some(Value::Text(value)) => Ok(Some(value)),
            other => failure(format!("a value is {other:?}")),
        }
    }

    fn notes(&self) -> String {
        let stats = self.database.stats();
        format!("{} segments, {:?}", stats.segments, stats.cache)
    }
}
