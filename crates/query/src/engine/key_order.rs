//! ORDER BY the key, or what follows its fixed beginning, without a sort: the scan gives rows
//! in that order, forwards or backwards.
//!
//! ```text
//!   WHERE device = 'x' ORDER BY ts DESC LIMIT 1       key (device, ts)
//!
//!   SortExec: TopK(1)             GlobalLimitExec: 1
//!     FilterExec            =>      FilterExec: fetch=1
//!       ScanExec                      ScanExec: by key descending, first 1 row(s)
//! ```
//!
//! A scan that may end after few rows begins with a page and doubles what it reads. The
//! engine's own rule does the same where nothing is between sort and scan and no LIMIT asks for
//! few rows; it runs behind this one.

use std::sync::Arc;

use arrow_schema::SortOptions;
use chronos_model::DataType;
use chronos_store::ScanColumn;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};

use super::scan::{RowOrder, ScanExec};
use super::scan_source::Source;

/// Replaces sorts by scans in the order of the key.
#[derive(Debug)]
pub(super) struct OrderByKey;

impl PhysicalOptimizerRule for OrderByKey {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let ordered = plan.transform_down(|node| {
            let merge = node.downcast_ref::<SortPreservingMergeExec>();
            let below = merge.map_or(&node, |merge| merge.input());
            let Some(sort) = below.downcast_ref::<SortExec>() else {
                return Ok(Transformed::no(node));
            };
            let partitions = sort.input().output_partitioning().partition_count();
            let (fetch, streams) = match merge {
                Some(merge) => (merge.fetch().or(sort.fetch()), Streams::One),
                None if partitions == 1 => (sort.fetch(), Streams::One),
                None => (sort.fetch(), Streams::Each),
            };
            match by_key(sort, fetch, streams)? {
                Some(scan) => Ok(Transformed::new(scan, true, TreeNodeRecursion::Jump)),
                None => Ok(Transformed::no(node)),
            }
        })?;
        Ok(ordered.data)
    }

    fn name(&self) -> &str {
        "order_by_key"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The sort's rows out of a scan in that order, if that is worth it.
fn by_key(
    sort: &SortExec,
    fetch: Option<usize>,
    streams: Streams,
) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    let Some(source) = Source::of(sort.input().as_ref())? else {
        return Ok(None);
    };
    let Some(order) = order_of_key(sort.expr(), &source) else {
        return Ok(None);
    };
    let fixed = fixed_columns(source.scan);
    let key = &source.scan.table().primary_key;
    let begins_fixed = key.first().is_some_and(|first| fixed.contains(first));
    if fetch.is_none() && !begins_fixed {
        return Ok(None);
    }
    // Where few rows are read, one thread is enough; it does not know what others have.
    let is_short = fetch.is_some() && (begins_fixed || source.conditions.is_empty());
    let partitions = match is_short {
        true => 1,
        false => source.scan.properties().partitioning.partition_count(),
    };
    let scan = source
        .scan
        .ordered(RowOrder::Key(order), partitions, fetch)?;
    let chain = over(sort.input(), scan, fetch)?;
    Ok(Some(limited(chain, sort.expr(), fetch, streams)))
}

/// What has to be in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Streams {
    /// All rows, in one stream.
    One,
    /// Those of each partition: something above merges them.
    Each,
}

/// What the partitions of a chain give, up to so many rows.
fn limited(
    chain: Arc<dyn ExecutionPlan>,
    order: &LexOrdering,
    fetch: Option<usize>,
    streams: Streams,
) -> Arc<dyn ExecutionPlan> {
    let is_one = chain.output_partitioning().partition_count() == 1;
    let limited: Arc<dyn ExecutionPlan> = match fetch {
        Some(fetch) if is_one => Arc::new(GlobalLimitExec::new(chain, 0, Some(fetch))),
        Some(fetch) => Arc::new(LocalLimitExec::new(chain, fetch)),
        None => chain,
    };
    match is_one || streams == Streams::Each {
        true => limited,
        false => Arc::new(SortPreservingMergeExec::new(order.clone(), limited).with_fetch(fetch)),
    }
}

/// What stands over a scan with another scan in its place, and without exchanges. A filter
/// gives what it has as soon as it is enough.
fn over(
    top: &Arc<dyn ExecutionPlan>,
    scan: ScanExec,
    fetch: Option<usize>,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let mut scan = Some(scan);
    let mut is_limited = fetch.is_none();
    let limited = Arc::clone(top).transform_down(|node| {
        if is_limited || node.downcast_ref::<FilterExec>().is_none() {
            return Ok(Transformed::no(node));
        }
        is_limited = true;
        Ok(match node.with_fetch(fetch) {
            Some(filter) => Transformed::yes(filter),
            None => Transformed::no(node),
        })
    })?;
    let chain = limited.data.transform_up(|node| {
        if node.downcast_ref::<ScanExec>().is_some() {
            return Ok(match scan.take() {
                Some(scan) => Transformed::yes(Arc::new(scan) as _),
                None => Transformed::no(node),
            });
        }
        Ok(match node.downcast_ref::<RepartitionExec>() {
            Some(exchange) => Transformed::yes(Arc::clone(exchange.input())),
            None => Transformed::no(node),
        })
    })?;
    Ok(chain.data)
}

/// How the key has to be ordered for an order of the top's columns; `None`: no order of the
/// key is that.
fn order_of_key(order: &LexOrdering, source: &Source<'_>) -> Option<SortOptions> {
    let request = source.scan.request();
    let fixed = fixed_columns(source.scan);
    let mut key = source.scan.table().primary_key.iter();
    let mut options: Option<SortOptions> = None;
    for PhysicalSortExpr { expr, options: own } in order {
        let column = expr.downcast_ref::<Column>()?;
        let position = source.columns.get(column.index()).copied().flatten()?;
        let ScanColumn::Column(column) = *request.columns.get(position)? else {
            return None;
        };
        if fixed.contains(&column) {
            continue;
        }
        let next = key.find(|c| !fixed.contains(c))?;
        if *next != column || options.is_some_and(|o| o != *own) {
            return None;
        }
        options = Some(*own);
    }
    options
}

/// Columns that have one value in all rows that leave the filters over a scan.
fn fixed_columns(scan: &ScanExec) -> Vec<usize> {
    let columns = &scan.table().columns;
    let bounds = scan.request().column_bounds.iter();
    let fixed = bounds.filter(|(column, low, high)| {
        // Zeros of two kinds are equal, and yet ordered.
        let is_float = matches!(
            columns[*column].data_type,
            DataType::Float4 | DataType::Float8
        );
        low.is_some() && low == high && !is_float
    });
    fixed.map(|(column, ..)| *column).collect()
}
