//! What is true of one key at a moment or in a period, where versions have periods of their
//! own.

use arrow_array::ArrayRef;
use bytes::Bytes;
use chronos_model::{encode_row, value_at, Kind, Period, Stamp, Value};

use crate::error::StoreError;
use crate::merge::{
    MergeRequest, Merged, Merger, Piece, PieceFilter, Resolution, Source, Timeline, Wants,
};
use crate::retention::Retained;
use crate::scan::{KeyRange, ValidFilter};
use crate::segment::PageColumn;
use crate::state::{Newest, Place, TableState};

/// A change of a key made earlier in the same write set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EarlierChange {
    pub(crate) kind: Kind,
    pub(crate) valid: Period,
}

/// What a key's row is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyAsked<'a> {
    pub(crate) key: &'a [u8],
    /// Nothing recorded later counts.
    pub(crate) view: Stamp,
    pub(crate) valid: ValidFilter,
    pub(crate) retained: &'a Retained,
    /// Whether only what is true from the view on is asked for: history does not matter.
    pub(crate) of_present: bool,
}

impl TableState {
    /// The row of a key that is true at a moment.
    pub(crate) fn row_at(
        &self,
        key: &[u8],
        view: Stamp,
        moment: i64,
        retained: &Retained,
    ) -> Result<Option<Newest>, StoreError> {
        let asked = KeyAsked {
            key,
            view,
            valid: ValidFilter::AsOf(moment),
            retained,
            of_present: true,
        };
        let columns = (0..self.schema.columns.len()).map(PageColumn::Column);
        let columns: Vec<_> = std::iter::once(PageColumn::Recorded)
            .chain(columns)
            .collect();
        let mut row = None;
        self.pieces_of(asked, &columns, |merged, i| {
            let mut bytes = Vec::new();
            encode_row(&self.values_of(&merged.columns[1..], i)?, &mut bytes);
            row = Some(Newest {
                recorded: Stamp(merged.recorded[i]),
                kind: Kind::Put,
                place: Place::Row(Bytes::from(bytes)),
            });
            Ok(())
        })?;
        Ok(row)
    }

    /// What is true of a key in a period: of each stretch when and the row's values.
    pub(crate) fn pieces_within(
        &self,
        key: &[u8],
        view: Stamp,
        valid: Period,
        retained: &Retained,
    ) -> Result<Vec<(Period, Vec<Value>)>, StoreError> {
        let asked = KeyAsked {
            key,
            view,
            valid: ValidFilter::Between {
                from: valid.from,
                to: valid.to,
                inclusive_to: false,
            },
            retained,
            of_present: valid.from >= view.micros(),
        };
        let columns: Vec<_> = (0..self.schema.columns.len())
            .map(PageColumn::Column)
            .collect();
        let mut pieces = Vec::new();
        self.pieces_of(asked, &columns, |merged, i| {
            pieces.push((merged.pieces[i].valid, self.values_of(&merged.columns, i)?));
            Ok(())
        })?;
        Ok(pieces)
    }

    fn values_of(&self, columns: &[ArrayRef], row: usize) -> Result<Vec<Value>, StoreError> {
        let columns = self.schema.columns.iter().zip(columns);
        let values = columns.map(|(column, array)| value_at(array, row, &column.data_type));
        Ok(values.collect::<Result<_, _>>()?)
    }

    /// Whether a row of a key is true at some moment of a period, after the `earlier` changes
    /// of the same write set; unless it is `stored`, nothing else counts. `of_present`: the period
    /// begins no earlier than the last commit.
    pub(crate) fn is_true_within(
        &self,
        key: &[u8],
        valid: Period,
        earlier: &[EarlierChange],
        (stored, of_present): (bool, bool),
        retained: &Retained,
    ) -> Result<bool, StoreError> {
        let filter = PieceFilter {
            system: Resolution::Snapshot { at: Stamp::MAX },
            valid: ValidFilter::Between {
                from: valid.from,
                to: valid.to,
                inclusive_to: false,
            },
        };
        let mut newer = Timeline::default();
        for change in earlier.iter().rev() {
            if change.kind == Kind::Put && newer.leaves(change.valid, &filter) {
                return Ok(true);
            }
            newer.cover(change.valid, Stamp::MIN);
        }
        if !stored {
            return Ok(false);
        }
        let asked = KeyAsked {
            key,
            view: Stamp::MAX,
            valid: filter.valid,
            retained,
            of_present,
        };
        let mut found = false;
        self.pieces_of(asked, &[], |merged, i| {
            found = found || newer.leaves(merged.pieces[i].valid, &filter);
            Ok(())
        })?;
        Ok(found)
    }

    /// Calls `give(batch, row)` for the pieces of a key.
    fn pieces_of(
        &self,
        asked: KeyAsked<'_>,
        columns: &[PageColumn],
        mut give: impl FnMut(&Merged, usize) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let KeyAsked {
            key,
            view,
            valid,
            retained,
            of_present,
        } = asked;
        let request = MergeRequest {
            schema: self.schema.clone(),
            columns: columns.into(),
            resolution: Resolution::Snapshot { at: view },
            valid: Some(valid),
            view,
            truncated: self.truncated.clone(),
            floor: retained.floor,
            wants: Wants {
                recorded: true,
                ..Wants::default()
            },
            batch_rows: 1024,
        };
        let sources = match of_present {
            true => self.sources(Resolution::Snapshot { at: view }, Wants::default()),
            // Superseded versions may be the ones that are true in the past.
            false => self.sources(Resolution::Everything, Wants::default()),
        };
        let sources = sources.into_iter().filter(|source| match source {
            Source::Segment(segment) => segment.may_contain(key),
            _ => true,
        });
        let mut merger = Merger::open(request.into(), sources, &KeyRange::only(key))?;
        while let Some(merged) = merger.next_batch()? {
            for row in 0..merged.rows {
                if !retained.expired(&self.schema, key, Stamp(merged.recorded[row]))? {
                    give(&merged, row)?;
                }
            }
        }
        Ok(())
    }
}

impl Timeline {
    /// Whether something of a period is seen beside what newer versions cover.
    fn leaves(&mut self, valid: Period, filter: &PieceFilter) -> bool {
        let mut left = false;
        self.pieces(valid, Stamp::MIN, Stamp::MAX, filter, |_: Piece| {
            left = true
        });
        left
    }
}
