//! Rows that are sent together, and how a batch that fails is narrowed down.
//!
//! A batch is one COPY and one commit: it is stored whole or not at all. When the node
//! refuses it for a bad row, [`narrow`] says which parts to try instead. If the node
//! named the row, that row is tried alone and the rest in two pieces; otherwise the
//! batch is halved. Either way good rows end up stored, bad ones end up alone, and
//! the order of rows is kept.

use std::ops::Range;

/// Records, back to back, with where each ends and the line each began on.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The records, each ended by a line feed.
    pub(super) data: Vec<u8>,
    ends: Vec<usize>,
    lines: Vec<u64>,
}

impl Batch {
    /// Counts in the record that was appended to `data`; it began on `line`.
    pub(super) fn close_record(&mut self, line: u64) {
        self.ends.push(self.data.len());
        self.lines.push(line);
    }

    /// How many records.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The bytes of these records.
    pub(super) fn bytes(&self, records: Range<usize>) -> &[u8] {
        let start = match records.start {
            0 => 0,
            nth => self.ends[nth - 1],
        };
        match records.end {
            0 => &[],
            end => &self.data[start..self.ends[end - 1]],
        }
    }

    /// The line of the file a record began on, counted from 1.
    pub(super) fn line(&self, record: usize) -> u64 {
        self.lines[record]
    }

    /// The record that holds line `line` (from 1) of the bytes of `records`.
    pub(super) fn record_at_line(&self, records: Range<usize>, line: u64) -> Option<usize> {
        let mut before = 0;
        records.into_iter().find(|record| {
            let bytes = self.bytes(*record..record + 1);
            before += memchr::memchr_iter(b'\n', bytes).count() as u64;
            (1..=before).contains(&line)
        })
    }
}

/// The parts to try, in order, instead of `failed`, which holds at least two records.
/// `suspect` is the record the node blamed.
pub(super) fn narrow(failed: Range<usize>, suspect: Option<usize>) -> Vec<Range<usize>> {
    let parts = match suspect.filter(|suspect| failed.contains(suspect)) {
        Some(suspect) => vec![
            failed.start..suspect,
            suspect..suspect + 1,
            suspect + 1..failed.end,
        ],
        None => {
            let middle = failed.start + failed.len() / 2;
            vec![failed.start..middle, middle..failed.end]
        }
    };
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

/// The line that a COPY error's context names: `COPY t, line 3, column v: "x"`.
pub(super) fn line_in_context(context: &str) -> Option<u64> {
    let (_, after) = context.split_once(", line ")?;
    let digits = after
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(after.len());
    after[..digits].parse().ok()
}

/// The column that a COPY error's context names.
pub(super) fn column_in_context(context: &str) -> Option<&str> {
    let (_, after) = context.split_once(", column ")?;
    after.split([':', ',', '\n']).next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn batch(records: &[&str]) -> Batch {
        let mut batch = Batch::default();
        let mut line = 2;
        for record in records {
            batch.data.extend_from_slice(record.as_bytes());
            batch.close_record(line);
            line += record.matches('\n').count() as u64;
        }
        batch
    }

    #[test]
    fn lines_lead_to_records() {
        let batch = batch(&["a\n", "\"b\nb\"\n", "c\n"]);
        assert_eq!(batch.record_at_line(0..3, 1), Some(0));
        assert_eq!(batch.record_at_line(0..3, 2), Some(1));
        assert_eq!(batch.record_at_line(0..3, 3), Some(1));
        assert_eq!(batch.record_at_line(0..3, 4), Some(2));
        assert_eq!(batch.record_at_line(0..3, 5), None);
        assert_eq!(batch.record_at_line(1..3, 1), Some(1));
        assert_eq!(batch.record_at_line(0..3, 0), None);
        assert_eq!((batch.line(1), batch.line(2)), (3, 5));
        assert_eq!(batch.bytes(1..2), b"\"b\nb\"\n");
    }

    #[test]
    fn contexts_are_read() {
        let context = "COPY t, line 12, column value: \"x\"";
        assert_eq!(line_in_context(context), Some(12));
        assert_eq!(column_in_context(context), Some("value"));
        assert_eq!(line_in_context("COPY t, line 7: \"a,b\""), Some(7));
        assert_eq!(line_in_context("somewhere else"), None);
    }

    /// Loads with a node that refuses any part holding a bad row, blaming it or not.
    fn load(rows: usize, bad: &BTreeSet<usize>, blames: bool) -> (Vec<usize>, Vec<usize>, usize) {
        let (mut stored, mut rejected, mut attempts) = (Vec::new(), Vec::new(), 0);
        let whole = 0..rows;
        let mut todo = vec![whole];
        while let Some(part) = todo.pop() {
            attempts += 1;
            match bad.range(part.clone()).next() {
                None => stored.extend(part),
                Some(_) if part.len() == 1 => rejected.push(part.start),
                Some(first) => {
                    let suspect = blames.then_some(*first);
                    todo.extend(narrow(part, suspect).into_iter().rev());
                }
            }
        }
        (stored, rejected, attempts)
    }

    proptest! {
        #[test]
        fn good_rows_are_stored_and_bad_ones_rejected_in_order(
            rows in 1usize..400,
            bad in proptest::collection::btree_set(0usize..400, 0..12),
            blames in any::<bool>(),
        ) {
            let bad: BTreeSet<usize> = bad.into_iter().filter(|row| *row < rows).collect();
            let (stored, rejected, attempts) = load(rows, &bad, blames);
            let good: Vec<usize> = (0..rows).filter(|row| !bad.contains(row)).collect();
            prop_assert_eq!(stored, good);
            prop_assert_eq!(rejected, bad.iter().copied().collect::<Vec<_>>());
            let per_bad_row = if blames { 3 } else { 2 * (rows.ilog2() as usize + 2) };
            prop_assert!(attempts <= 1 + per_bad_row * bad.len());
        }

        #[test]
        fn parts_are_smaller_and_cover_what_failed(
            start in 0usize..10, length in 2usize..50, suspect in proptest::option::of(0usize..70)
        ) {
            let failed = start..start + length;
            let parts = narrow(failed.clone(), suspect);
            prop_assert!(parts.iter().all(|part| part.len() < failed.len()));
            let covered: Vec<usize> = parts.into_iter().flatten().collect();
            prop_assert_eq!(covered, failed.collect::<Vec<_>>());
        }
    }
}
