//! `min` and `max` of floats by group, where NaN is greater than every number, as everywhere in
//! PostgreSQL. The engine's own begin anew behind a NaN, and do not know infinities. Everything
//! else about the two functions is the engine's.

use std::cmp::Ordering;
use std::mem::size_of;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, PrimitiveArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType as Arrow, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};

/// Both functions, under the names of the engine's.
pub(super) fn extremes() -> [Arc<AggregateUDF>; 2] {
    let ours = |engines, wanted| Arc::new(AggregateUDF::new_from_impl(Extreme { engines, wanted }));
    [
        ours(min_udaf(), Wanted(Ordering::Less)),
        ours(max_udaf(), Wanted(Ordering::Greater)),
    ]
}

/// How a value compares with the one it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Wanted(Ordering);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Extreme {
    engines: Arc<AggregateUDF>,
    wanted: Wanted,
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        self.engines.name()
    }

    fn signature(&self) -> &Signature {
        self.engines.signature()
    }

    fn return_type(&self, arguments: &[Arrow]) -> DfResult<Arrow> {
        self.engines.return_type(arguments)
    }

    fn coerce_types(&self, arguments: &[Arrow]) -> DfResult<Vec<Arrow>> {
        self.engines.coerce_types(arguments)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> DfResult<Vec<FieldRef>> {
        self.engines.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> DfResult<Box<dyn Accumulator>> {
        self.engines.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.engines.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(match args.return_field.data_type() {
            Arrow::Float32 => Box::new(Groups::<Float32Type>::new(self.wanted)),
            Arrow::Float64 => Box::new(Groups::<Float64Type>::new(self.wanted)),
            _ => return self.engines.create_groups_accumulator(args),
        })
    }

    fn create_sliding_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> DfResult<Box<dyn Accumulator>> {
        self.engines.create_sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.engines.order_sensitivity()
    }

    fn is_descending(&self) -> Option<bool> {
        self.engines.is_descending()
    }

    fn value_from_stats(&self, args: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.engines.value_from_stats(args)
    }

    fn set_monotonicity(&self, data_type: &Arrow) -> SetMonotonicity {
        self.engines.inner().set_monotonicity(data_type)
    }
}

/// A float in PostgreSQL's order.
trait Float: Copy + Send + std::fmt::Debug {
    /// No value is less.
    const LEAST: Self;
    /// No value is greater.
    const GREATEST: Self;

    fn compare(self, other: Self) -> Ordering;
}

macro_rules! float {
    ($native:ty) => {
        impl Float for $native {
            const LEAST: $native = <$native>::NEG_INFINITY;
            const GREATEST: $native = <$native>::NAN;

            fn compare(self, other: Self) -> Ordering {
                let by_number = self.partial_cmp(&other);
                by_number.unwrap_or_else(|| self.is_nan().cmp(&other.is_nan()))
            }
        }
    };
}

float!(f32);
float!(f64);

/// The extreme of each group.
#[derive(Debug)]
struct Groups<T: ArrowPrimitiveType> {
    wanted: Wanted,
    /// Before the first value: what every value may replace.
    found: Vec<T::Native>,
    /// Whether a group has a value that is not NULL.
    is_seen: Vec<bool>,
}

impl<T: ArrowPrimitiveType> Groups<T>
where
    T::Native: Float,
{
    fn new(wanted: Wanted) -> Groups<T> {
        Groups {
            wanted,
            found: Vec::new(),
            is_seen: Vec::new(),
        }
    }

    fn take(&mut self, emit_to: EmitTo) -> ArrayRef {
        let found = emit_to.take_needed(&mut self.found);
        let is_seen = emit_to.take_needed(&mut self.is_seen);
        let nulls = NullBuffer::from(is_seen);
        Arc::new(PrimitiveArray::<T>::new(found.into(), Some(nulls)))
    }

    fn add(
        &mut self,
        values: &ArrayRef,
        filter: Option<&BooleanArray>,
        of: &[usize],
        groups: usize,
    ) {
        let start = match self.wanted.0 {
            Ordering::Less => T::Native::GREATEST,
            _ => T::Native::LEAST,
        };
        self.found.resize(groups, start);
        self.is_seen.resize(groups, false);
        let values = values.as_primitive::<T>();
        if values.null_count() == 0 && filter.is_none() {
            for (value, &group) in values.values().iter().zip(of) {
                self.take_up(*value, group);
            }
            return;
        }
        for (row, &group) in of.iter().enumerate() {
            let passes = filter.is_none_or(|f| f.is_valid(row) && f.value(row));
            if passes && values.is_valid(row) {
                self.take_up(values.value(row), group);
            }
        }
    }

    fn take_up(&mut self, value: T::Native, group: usize) {
        self.is_seen[group] = true;
        let found = &mut self.found[group];
        if value.compare(*found) == self.wanted.0 {
            *found = value;
        }
    }
}

impl<T: ArrowPrimitiveType> GroupsAccumulator for Groups<T>
where
    T::Native: Float,
{
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        groups: usize,
    ) -> DfResult<()> {
        self.add(&values[0], filter, group_indices, groups);
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        Ok(self.take(emit_to))
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![self.take(emit_to)])
    }

    fn merge_batch(
        &mut self,
        states: &[ArrayRef],
        group_indices: &[usize],
        groups: usize,
    ) -> DfResult<()> {
        self.add(&states[0], None, group_indices, groups);
        Ok(())
    }

    /// A value is the extreme of itself.
    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> DfResult<Vec<ArrayRef>> {
        let Some(filter) = filter else {
            return Ok(vec![Arc::clone(&values[0])]);
        };
        let values = values[0].as_primitive::<T>();
        let passes = |row: usize| filter.is_valid(row) && filter.value(row);
        let kept = values.iter().enumerate();
        let kept = kept.map(|(row, value)| value.filter(|_| passes(row)));
        Ok(vec![Arc::new(PrimitiveArray::<T>::from_iter(kept))])
    }

    fn size(&self) -> usize {
        self.found.capacity() * size_of::<T::Native>() + self.is_seen.capacity()
    }
}
