//! `sum` of integers that says so when the total does not fit (22003): the engine's own
//! wraps around. Sums of other types are the engine's.

use std::mem::size_of;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, Int64Array};
use arrow_schema::{DataType as Arrow, FieldRef};
use chronos_model::SqlState;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, Signature,
};

use crate::QueryError;

/// The function, under the name of the engine's.
pub(super) fn checked_sum() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(CheckedSum {
        engines: Sum::new(),
    }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedSum {
    engines: Sum,
}

fn is_checked(args: &AccumulatorArgs<'_>) -> bool {
    !args.is_distinct && args.return_field.data_type() == &Arrow::Int64
}

impl AggregateUDFImpl for CheckedSum {
    fn name(&self) -> &str {
        self.engines.name()
    }

    fn signature(&self) -> &Signature {
        self.engines.signature()
    }

    fn return_type(&self, arguments: &[Arrow]) -> DfResult<Arrow> {
        self.engines.return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn Accumulator>> {
        if is_checked(&args) {
            return Ok(Box::<Total>::default());
        }
        let is_wrapping = args.is_distinct && args.return_field.data_type() == &Arrow::Int64;
        let engines = self.engines.accumulator(args)?;
        Ok(match is_wrapping {
            true => Box::new(DistinctTotal { engines }),
            false => engines,
        })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DfResult<Vec<FieldRef>> {
        self.engines.state_fields(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.engines.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> DfResult<Box<dyn GroupsAccumulator>> {
        if is_checked(&args) {
            return Ok(Box::<Totals>::default());
        }
        self.engines.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> DfResult<Box<dyn Accumulator>> {
        if is_checked(&args) {
            return Ok(Box::<Total>::default());
        }
        self.engines.create_sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

fn out_of_range() -> QueryError {
    QueryError::new(SqlState::OUT_OF_RANGE, "bigint out of range")
}

/// The sum of all rows, or of a window.
#[derive(Debug, Default)]
struct Total {
    sum: i128,
    rows: u64,
}

impl Total {
    fn of(values: &ArrayRef) -> (i128, u64) {
        let values = values.as_primitive::<Int64Type>();
        let rows = (values.len() - values.null_count()) as u64;
        let sum = if rows == values.len() as u64 {
            values.values().iter().map(|v| i128::from(*v)).sum()
        } else {
            values.iter().flatten().map(i128::from).sum()
        };
        (sum, rows)
    }

    fn value(&self) -> DfResult<ScalarValue> {
        if self.rows == 0 {
            return Ok(ScalarValue::Int64(None));
        }
        let sum = i64::try_from(self.sum).map_err(|_| out_of_range())?;
        Ok(ScalarValue::Int64(Some(sum)))
    }
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let (sum, rows) = Total::of(&values[0]);
        self.sum += sum;
        self.rows += rows;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        let (sum, rows) = Total::of(&values[0]);
        self.sum -= sum;
        self.rows -= rows;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.value()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![self.value()?])
    }

    fn size(&self) -> usize {
        size_of::<Self>()
    }
}

/// The sum of distinct values, which the engine's accumulator collects and would add without a
/// look at the range.
#[derive(Debug)]
struct DistinctTotal {
    engines: Box<dyn Accumulator>,
}

impl Accumulator for DistinctTotal {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.engines.update_batch(values)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.engines.merge_batch(states)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        let mut total = Total::default();
        for state in self.engines.state()? {
            let ScalarValue::List(values) = state else {
                return self.engines.evaluate();
            };
            total.update_batch(&[Arc::clone(values.values())])?;
        }
        total.value()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.engines.state()
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.engines.size()
    }
}

/// The sums of many groups.
#[derive(Debug, Default)]
struct Totals {
    sums: Vec<i64>,
    /// Whether a group has a value that is not NULL.
    is_seen: Vec<bool>,
}

impl Totals {
    fn take(&mut self, emit: EmitTo) -> Int64Array {
        let sums = emit.take_needed(&mut self.sums);
        let is_seen = emit.take_needed(&mut self.is_seen);
        sums.into_iter()
            .zip(is_seen)
            .map(|(sum, is_seen)| is_seen.then_some(sum))
            .collect()
    }
}

impl GroupsAccumulator for Totals {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> DfResult<()> {
        self.sums.resize(groups, 0);
        self.is_seen.resize(groups, false);
        let values = values[0].as_primitive::<Int64Type>();
        for (row, &group) in group_indices.iter().enumerate() {
            let is_wanted = filter.is_none_or(|f| f.is_valid(row) && f.value(row));
            if !is_wanted || values.is_null(row) {
                continue;
            }
            let sum = self.sums[group].checked_add(values.value(row));
            self.sums[group] = sum.ok_or_else(out_of_range)?;
            self.is_seen[group] = true;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        Ok(Arc::new(self.take(emit)))
    }

    fn state(&mut self, emit: EmitTo) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.take(emit))])
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        groups: usize,
    ) -> DfResult<()> {
        self.update_batch(states, group_indices, None, groups)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<Int64Type>();
        let is_wanted = |row: usize| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
        let states: Int64Array = values
            .iter()
            .enumerate()
            .map(|(row, value)| value.filter(|_| is_wanted(row)))
            .collect();
        Ok(vec![Arc::new(states)])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i64>() + self.is_seen.capacity()
    }
}
