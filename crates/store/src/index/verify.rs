//! Whether an index has the entries of all versions that its table has: a row whose entry is missing is
//! not found by it, while an entry too many is passed over by readers.
//!
//! Entries that the versions ask for are sorted in portions, and each portion is looked for in a scan
//! of the stretch of the index between its ends. So the table is read once, and the index about as
//! often as there are portions.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use chronos_model::{IndexSchema, TableSchema};

use super::build::{each_entry, indexed};
use super::scan::ENTRY;
use crate::error::StoreError;
use crate::read_view::ReadView;
use crate::scan::{KeyRange, ScanRequest};

/// Bytes of entries that are sorted in memory, at most.
const SORTED_BYTES_MAX: usize = 32 << 20;

/// What came of checking an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IndexContent {
    /// Entries that the versions of the table ask for.
    pub entries: u64,
    /// Of these, those that the index does not have.
    pub missing: u64,
}

impl ReadView {
    /// Looks for the entry of every version of a table in an index, which nothing but being complete
    /// promises: see [`chronos_model::IndexState`]. Reads both; blocks. An index that is not in the view
    /// has nothing to be looked for.
    pub fn check_index(&self, index: &IndexSchema) -> Result<IndexContent, StoreError> {
        let Some((index, table)) = indexed(self.state(), index.id) else {
            return Ok(IndexContent::default());
        };
        let mut check = Check {
            view: self,
            entries: Arc::new(index.entry_table()),
            portion: Vec::new(),
            bytes: 0,
            found: IndexContent::default(),
        };
        each_entry(
            &index,
            &table,
            self.stamp(),
            || Ok(()),
            |entry| check.add(entry),
        )?;
        check.look()?;
        Ok(check.found)
    }
}

struct Check<'a> {
    view: &'a ReadView,
    entries: Arc<TableSchema>,
    portion: Vec<Vec<u8>>,
    bytes: usize,
    found: IndexContent,
}

impl Check<'_> {
    fn add(&mut self, entry: Vec<u8>) -> Result<(), StoreError> {
        self.bytes += entry.len() + size_of::<Vec<u8>>();
        self.portion.push(entry);
        match self.bytes < SORTED_BYTES_MAX {
            true => Ok(()),
            false => self.look(),
        }
    }

    /// Looks for the portion in the index.
    fn look(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        let mut portion = std::mem::take(&mut self.portion);
        portion.sort_unstable();
        portion.dedup();
        let (Some(first), Some(last)) = (portion.first(), portion.last()) else {
            return Ok(());
        };
        let request = ScanRequest {
            columns: ENTRY.to_vec(),
            key_range: KeyRange {
                lower: Bound::Included(first.clone()),
                upper: Bound::Included(last.clone()),
            },
            ..ScanRequest::default()
        };
        let mut wanted = portion.iter().peekable();
        let mut missing = 0;
        for partition in self.view.scan(&self.entries, request)? {
            for batch in partition {
                let batch = batch?;
                for entry in batch.column(0).as_binary_view().iter().flatten() {
                    while let Some(next) = wanted.peek() {
                        match next.as_slice().cmp(entry) {
                            Ordering::Less => missing += 1,
                            Ordering::Equal => {}
                            Ordering::Greater => break,
                        }
                        wanted.next();
                    }
                }
            }
        }
        missing += wanted.count() as u64;
        self.found.entries += portion.len() as u64;
        self.found.missing += missing;
        Ok(())
    }
}
