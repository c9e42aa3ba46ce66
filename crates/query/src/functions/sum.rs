//! `sum` of integers that says so when the total does not fit (22003): the engine's own
//! wraps around. Sums of other types are the engine's.
//!
//! Only the total has to fit: parts of it are 128 bits wide, also on their way from the
//! partial sums of threads to the total ([`part_type`]).

use std::mem::size_of;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Decimal128Array, Int64Array};
use arrow_schema::{DataType as Arrow, Field, FieldRef};
use chronos_model::SqlState;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{format_state_name, AggregateOrderSensitivity};
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

/// Digits that are enough for any sum of 64-bit integers that anyone has the time to make.
const PART_DIGITS: u8 = 38;

/// The type of a part of a sum of integers.
pub(crate) fn part_type() -> Arrow {
    Arrow::Decimal128(PART_DIGITS, 0)
}

fn part(sum: Option<i128>) -> ScalarValue {
    ScalarValue::Decimal128(sum, PART_DIGITS, 0)
}

fn parts(sums: impl Iterator<Item = Option<i128>>) -> Decimal128Array {
    Decimal128Array::from_iter(sums).with_data_type(part_type())
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
        if !args.is_distinct && args.return_field.data_type() == &Arrow::Int64 {
            let name = format_state_name(args.name, "sum");
            return Ok(vec![Arc::new(Field::new(name, part_type(), true))]);
        }
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
        for part in states[0].as_primitive::<Decimal128Type>().iter().flatten() {
            self.sum += part;
            self.rows += 1;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        self.value()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![part((self.rows > 0).then_some(self.sum))])
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
    sums: Vec<i128>,
    /// Whether a group has a value that is not NULL.
    is_seen: Vec<bool>,
}

impl Totals {
    fn take(&mut self, emit: EmitTo) -> impl Iterator<Item = Option<i128>> {
        let sums = emit.take_needed(&mut self.sums);
        let is_seen = emit.take_needed(&mut self.is_seen);
        sums.into_iter()
            .zip(is_seen)
            .map(|(sum, is_seen)| is_seen.then_some(sum))
    }

    fn add(&mut self, values: impl Iterator<Item = Option<i128>>, of: &[usize], groups: usize) {
        self.sums.resize(groups, 0);
        self.is_seen.resize(groups, false);
        for (value, &group) in values.zip(of) {
            if let Some(value) = value {
                self.sums[group] += value;
                self.is_seen[group] = true;
            }
        }
    }
}

/// The values that a FILTER lets through, the others as NULL.
fn wanted<'a>(
    values: &'a ArrayRef,
    filter: Option<&'a BooleanArray>,
) -> impl Iterator<Item = Option<i128>> + 'a {
    let is_wanted = move |row: usize| filter.is_none_or(|f| f.is_valid(row) && f.value(row));
    let values = values.as_primitive::<Int64Type>().iter().enumerate();
    values.map(move |(row, value)| value.filter(|_| is_wanted(row)).map(i128::from))
}

impl GroupsAccumulator for Totals {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> DfResult<()> {
        self.add(wanted(&values[0], filter), group_indices, groups);
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let sums = self.take(emit).map(|sum| {
            let sum = sum.map(i64::try_from).transpose();
            sum.map_err(|_| out_of_range().into())
        });
        Ok(Arc::new(sums.collect::<DfResult<Int64Array>>()?))
    }

    fn state(&mut self, emit: EmitTo) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![Arc::new(parts(self.take(emit)))])
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        groups: usize,
    ) -> DfResult<()> {
        let parts = states[0].as_primitive::<Decimal128Type>();
        self.add(parts.iter(), group_indices, groups);
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![Arc::new(parts(wanted(&values[0], filter)))])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<i128>() + self.is_seen.capacity()
    }
}
