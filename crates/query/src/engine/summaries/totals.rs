//! What summaries of pages come to, per group: the rows that a partial aggregate over the
//! pages would have given.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType as Arrow, SchemaRef};
use chronos_store::segment::{ColumnRange, ColumnStats, PageMeta};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_expr::PhysicalExpr;

use crate::engine::page_match::PageColumns;
use crate::engine::page_values::End;
use crate::functions::sum_part_type;

/// What one aggregate function asks of a page; columns are the scan's.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    Rows,
    NotNull(usize),
    Extreme(End, usize, Arrow),
    SumOfIntegers(usize),
    SumOfFloats(usize),
}

impl Wanted {
    /// `None`: summaries do not tell. `state` is the type of its partial result.
    pub(super) fn of(
        function: &str,
        argument: &Arc<dyn PhysicalExpr>,
        columns: PageColumns<'_>,
        state: &Arrow,
    ) -> Option<Wanted> {
        if function == "count" && *state == Arrow::Int64 {
            if let Some(literal) = argument.downcast_ref::<Literal>() {
                return (!literal.value().is_null()).then_some(Wanted::Rows);
            }
        }
        let column = columns.plain(argument.as_ref())?;
        let stored = columns.schema.field(column).data_type();
        let is_integer = matches!(stored, Arrow::Int16 | Arrow::Int32 | Arrow::Int64);
        let is_float = matches!(stored, Arrow::Float32 | Arrow::Float64);
        match (function, state) {
            ("count", Arrow::Int64) => Some(Wanted::NotNull(column)),
            ("min", _) if state == stored => {
                Some(Wanted::Extreme(End::Lowest, column, stored.clone()))
            }
            ("max", _) if state == stored => {
                Some(Wanted::Extreme(End::Highest, column, stored.clone()))
            }
            ("sum", state) if is_integer && *state == sum_part_type() => {
                Some(Wanted::SumOfIntegers(column))
            }
            ("sum", Arrow::Float64) if is_float => Some(Wanted::SumOfFloats(column)),
            _ => None,
        }
    }

    fn column(&self) -> Option<usize> {
        match self {
            Wanted::Rows => None,
            Wanted::NotNull(c)
            | Wanted::Extreme(_, c, _)
            | Wanted::SumOfIntegers(c)
            | Wanted::SumOfFloats(c) => Some(*c),
        }
    }

    /// What one page comes to; NULL: nothing.
    fn of_page(&self, page: &PageMeta, columns: PageColumns<'_>) -> Option<ScalarValue> {
        let Some(column) = self.column() else {
            return Some(ScalarValue::Int64(Some(i64::from(page.rows))));
        };
        let stats = columns.stats(page, column)?;
        if *self == Wanted::NotNull(column) {
            let known = page.rows.checked_sub(stats.null_count)?;
            return Some(ScalarValue::Int64(Some(i64::from(known))));
        }
        if stats.null_count == page.rows {
            return ScalarValue::try_from(&self.state_type()).ok();
        }
        self.of_values(stats)
    }

    fn of_values(&self, stats: &ColumnStats) -> Option<ScalarValue> {
        match (self, stats.range.as_ref()?) {
            (Wanted::Extreme(end, _, data_type), range) => end.of(range, data_type),
            (Wanted::SumOfIntegers(_), ColumnRange::Int { sum, .. }) => {
                let sum = ScalarValue::Int64(Some((*sum)?));
                sum.cast_to(&sum_part_type()).ok()
            }
            (Wanted::SumOfFloats(_), ColumnRange::Float { sum, .. }) => {
                Some(ScalarValue::Float64(Some(*sum)))
            }
            _ => None,
        }
    }

    fn state_type(&self) -> Arrow {
        match self {
            Wanted::Rows | Wanted::NotNull(_) => Arrow::Int64,
            Wanted::SumOfIntegers(_) => sum_part_type(),
            Wanted::SumOfFloats(_) => Arrow::Float64,
            Wanted::Extreme(_, _, data_type) => data_type.clone(),
        }
    }

    /// Both together.
    fn join(&self, a: &ScalarValue, b: &ScalarValue) -> DfResult<ScalarValue> {
        match self {
            _ if a.is_null() => Ok(b.clone()),
            _ if b.is_null() => Ok(a.clone()),
            Wanted::Extreme(end, ..) if end.is_beyond(b, a) => Ok(b.clone()),
            Wanted::Extreme(..) => Ok(a.clone()),
            _ => a.add(b)?.cast_to(&self.state_type()),
        }
    }
}

/// Rows of partial results, and of how much they tell.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) batch: RecordBatch,
    pub(super) pages: usize,
    pub(super) rows: u64,
}

/// Sums up pages as they are given.
pub(super) struct Totals<'a> {
    wanted: &'a [Wanted],
    columns: PageColumns<'a>,
    /// Where in `results` a group is.
    positions: HashMap<Vec<ScalarValue>, usize>,
    /// Groups with partial results.
    results: Vec<(Vec<ScalarValue>, Vec<ScalarValue>)>,
    /// The group of the page before: mostly also this one's.
    last: usize,
    pages: usize,
    rows: u64,
}

impl<'a> Totals<'a> {
    pub(super) fn new(wanted: &'a [Wanted], columns: PageColumns<'a>) -> Totals<'a> {
        Totals {
            wanted,
            columns,
            positions: HashMap::new(),
            results: Vec::new(),
            last: 0,
            pages: 0,
            rows: 0,
        }
    }

    /// Adds a page, all of whose rows are in one group. False: its statistics do not tell
    /// enough, and nothing was added.
    pub(super) fn add(&mut self, group: Vec<ScalarValue>, page: &PageMeta) -> bool {
        let of_page = self.wanted.iter().map(|w| w.of_page(page, self.columns));
        let Some(of_page) = of_page.collect::<Option<Vec<_>>>() else {
            return false;
        };
        let is_last = self.results.get(self.last).is_some_and(|r| r.0 == group);
        let known = match is_last {
            true => Some(self.last),
            false => self.positions.get(&group).copied(),
        };
        self.last = known.unwrap_or(self.results.len());
        match self.results.get_mut(self.last) {
            Some((_, before)) => {
                let joined = self.wanted.iter().zip(&*before).zip(&of_page);
                let joined = joined.map(|((w, a), b)| w.join(a, b));
                match joined.collect::<DfResult<Vec<_>>>() {
                    Ok(joined) => *before = joined,
                    Err(_) => return false,
                }
            }
            None => {
                self.positions.insert(group.clone(), self.last);
                self.results.push((group, of_page));
            }
        }
        self.pages += 1;
        self.rows += u64::from(page.rows);
        true
    }

    /// As rows of that schema: groups, then results. `None`: there was no page.
    pub(super) fn finish(self, schema: SchemaRef) -> DfResult<Option<Summary>> {
        if self.pages == 0 {
            return Ok(None);
        }
        let width = schema.fields().len();
        let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::new(); width];
        for (group, results) in self.results {
            let row = group.into_iter().chain(results);
            columns
                .iter_mut()
                .zip(row)
                .for_each(|(c, value)| c.push(value));
        }
        let arrays = columns.into_iter().map(ScalarValue::iter_to_array);
        let arrays = arrays.collect::<DfResult<Vec<_>>>()?;
        Ok(Some(Summary {
            batch: RecordBatch::try_new(schema, arrays)?,
            pages: self.pages,
            rows: self.rows,
        }))
    }
}
