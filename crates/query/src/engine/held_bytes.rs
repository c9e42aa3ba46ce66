//! Batches that hold no more than their own rows.
//!
//! A batch of a scan may be a slice of columns that are far longer: rows of a memtable, text of a
//! page; and what comes out of an exchange or a filter may have text in a buffer that is far
//! larger. Operators that keep batches, and the memory account with them, count all that a
//! batch keeps from being freed. Where that is much for the memory there is, the rows are copied:
//! by scans, and below operators that keep batches ([`FitKeptBatches`]).

use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{ArrowError, DataType};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    replace_children_if_necessary, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
};
use futures::StreamExt;

use super::memory;

/// The batch, copied if it keeps more than `bytes_max` from being freed.
pub(super) fn within(batch: RecordBatch, bytes_max: usize) -> Result<RecordBatch, ArrowError> {
    if batch.get_array_memory_size() <= bytes_max {
        return Ok(batch);
    }
    let rows = batch.num_rows();
    let all = UInt32Array::from_iter_values(0..rows as u32);
    let columns = batch
        .columns()
        .iter()
        .map(|column| copied(column, &all))
        .collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

fn copied(column: &ArrayRef, all: &UInt32Array) -> Result<ArrayRef, ArrowError> {
    Ok(match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()),
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
        _ => arrow_select::take::take(column, all, None)?,
    })
}

/// Operators that keep batches of all their inputs.
const KEEPERS: [&str; 3] = ["SortExec", "SortPreservingMergeExec", "SortMergeJoinExec"];
/// Operators that keep batches of their first input.
const KEEPERS_OF_FIRST: [&str; 4] = [
    "HashJoinExec",
    "IntervalJoinExec",
    "NestedLoopJoinExec",
    "CrossJoinExec",
];
/// Operators whose batches fit already.
const FITTING: [&str; 3] = ["ScanExec", "IndexScanExec", "FittedExec"];

/// Puts a [`FittedExec`] below every operator that keeps batches.
#[derive(Debug)]
pub(super) struct FitKeptBatches;

impl PhysicalOptimizerRule for FitKeptBatches {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let fitted = plan.transform_up(|node| {
            let kept = match node.name() {
                name if KEEPERS.contains(&name) => usize::MAX,
                name if KEEPERS_OF_FIRST.contains(&name) => 1,
                _ => 0,
            };
            let children = node.children();
            let unfit = |(at, child): (usize, &&Arc<dyn ExecutionPlan>)| {
                at < kept && !FITTING.contains(&child.name())
            };
            if !children.iter().enumerate().any(unfit) {
                return Ok(Transformed::no(node));
            }
            let children = children.iter().enumerate().map(|(at, child)| {
                let child = Arc::clone(child);
                match unfit((at, &&child)) {
                    true => FittedExec::over(child),
                    false => child,
                }
            });
            let children = children.collect();
            Ok(Transformed::yes(replace_children_if_necessary(
                node, children,
            )?))
        })?;
        Ok(fitted.data)
    }

    fn name(&self) -> &str {
        "fit_kept_batches"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Gives on the batches of its input, copied where they keep much more than their rows.
#[derive(Debug)]
struct FittedExec {
    input: Arc<dyn ExecutionPlan>,
}

impl FittedExec {
    fn over(input: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        Arc::new(FittedExec { input })
    }
}

impl DisplayAs for FittedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FittedExec")
    }
}

impl ExecutionPlan for FittedExec {
    fn name(&self) -> &str {
        "FittedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>,
    ) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let input = children.pop().unwrap_or_else(|| Arc::clone(&self.input));
        Ok(FittedExec::over(input))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> DfResult<SendableRecordBatchStream> {
        let bytes_max = memory::batch_bytes_max(&**context.memory_pool());
        let batches = self.input.execute(partition, context)?;
        let fitted = batches.map(move |batch| Ok(within(batch?, bytes_max)?));
        let schema = self.input.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, fitted)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, StringViewArray};

    #[test]
    fn a_slice_of_long_columns_is_copied_and_says_the_same() {
        let numbers = Int64Array::from_iter_values(0..100_000);
        let texts = (0..100_000).map(|i| format!("a text that is long enough, {i}"));
        let texts: StringViewArray = texts.map(Some).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![("n", Arc::new(numbers)), ("t", Arc::new(texts))];
        let whole = RecordBatch::try_from_iter(columns).unwrap();
        let slice = whole.slice(50_000, 100);
        let small = within(slice.clone(), 1 << 20).unwrap();
        assert_eq!(small, slice);
        assert!(small.get_array_memory_size() < 20_000);
        let untouched = within(slice.clone(), usize::MAX).unwrap();
        assert_eq!(
            untouched.get_array_memory_size(),
            slice.get_array_memory_size()
        );
    }
}
