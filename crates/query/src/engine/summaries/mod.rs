//! Aggregates out of pages' statistics.
//!
//! A page whose rows all fulfil the query's condition, and whose statistics are those of
//! exactly these rows, need not be read for `count`, `min`, `max` and `sum`: its summary is
//! what a partial aggregate would have made of it. This rule looks for aggregates right over
//! a scan, takes such pages out of the scan and puts their share beside what the partial
//! aggregate makes of the rest:
//!
//! ```text
//!   AggregateExec: Final               AggregateExec: Final
//!     AggregateExec: Partial    =>       SummaryExec: pages=40      one row per group
//!       FilterExec                         AggregateExec: Partial
//!         ScanExec                           FilterExec
//!                                              ScanExec: the other pages
//! ```
//!
//! With GROUP BY, a page counts if the grouped columns are constant in it.
//!
//! Physical plans are made for each execution, on its read view ([`super::Engine`]), so what
//! is taken from statistics here is what that execution would have read.

mod exec;
mod totals;

use std::sync::Arc;

use arrow_schema::SchemaRef;
use chronos_store::segment::PageMeta;
use chronos_store::{PageUse, ScanPartition};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as DfResult;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::{
    replace_children_if_necessary, ExecutionPlan, ExecutionPlanProperties, InputOrderMode,
};

use super::page_match::judge_all;
use super::page_values::constant;
use super::scan_source::Source;
use exec::SummaryExec;
use totals::{Totals, Wanted};

/// Replaces pages under aggregates by their summaries.
#[derive(Debug)]
pub(super) struct SummarizePages;

impl PhysicalOptimizerRule for SummarizePages {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let summarized = plan.transform_up(|node| {
            let replaced = match node.downcast_ref::<AggregateExec>() {
                Some(aggregate) => summarize(aggregate)?,
                None => None,
            };
            Ok(match replaced {
                Some(replaced) => Transformed::yes(replaced),
                None => Transformed::no(node),
            })
        })?;
        Ok(summarized.data)
    }

    fn name(&self) -> &str {
        "summarize_pages"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The aggregate with summaries in the place of pages, if there are any.
fn summarize(aggregate: &AggregateExec) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    if !is_plain(aggregate) {
        return Ok(None);
    }
    let Some(source) = Source::of(aggregate.input().as_ref())? else {
        return Ok(None);
    };
    let partial = match aggregate.mode() {
        AggregateMode::Partial => aggregate.clone(),
        _ => AggregateExec::try_new(
            AggregateMode::Partial,
            aggregate.group_expr().clone(),
            aggregate.aggr_expr().to_vec(),
            aggregate.filter_expr().to_vec(),
            Arc::clone(aggregate.input()),
            aggregate.input_schema(),
        )?,
    };
    let Some(asked) = Asked::of(&partial, &source) else {
        return Ok(None);
    };
    let Some((summary, left)) = asked.take_pages(&source, partial.schema())? else {
        return Ok(None);
    };
    let is_read = !left.iter().all(ScanPartition::is_empty);
    let rest: Option<Arc<dyn ExecutionPlan>> = match is_read {
        false => None,
        true => {
            let input = source.reading(aggregate.input(), left)?;
            Some(replace_children_if_necessary(
                Arc::new(partial.clone()),
                vec![input],
            )?)
        }
    };
    let summarized = Arc::new(SummaryExec::new(summary, rest, &partial));
    if *aggregate.mode() == AggregateMode::Partial {
        return Ok(Some(summarized));
    }
    let merged: Arc<dyn ExecutionPlan> = Arc::new(AggregateExec::try_new(
        AggregateMode::Final,
        aggregate.group_expr().as_final(),
        aggregate.aggr_expr().to_vec(),
        vec![None; aggregate.aggr_expr().len()],
        summarized,
        aggregate.input_schema(),
    )?);
    Ok(Some(merged))
}

/// Whether an aggregate takes all rows of its input, in whatever order, to groups that are
/// no more than that.
fn is_plain(aggregate: &AggregateExec) -> bool {
    let is_first = match aggregate.mode() {
        AggregateMode::Partial => true,
        AggregateMode::Single => aggregate.input().output_partitioning().partition_count() == 1,
        _ => false,
    };
    let groups = aggregate.group_expr();
    // Groups that follow each other as rows come in; unless only constants say so.
    let is_any_order = match aggregate.input_order_mode() {
        InputOrderMode::Linear => true,
        InputOrderMode::Sorted | InputOrderMode::PartiallySorted(_) => {
            let input = aggregate.input().equivalence_properties();
            input.oeq_class().iter().next().is_none()
        }
    };
    is_first
        && is_any_order
        && !groups.has_grouping_set()
        && aggregate.limit_options().is_none()
        && aggregate.filter_expr().iter().all(Option::is_none)
        && aggregate
            .aggr_expr()
            .iter()
            .all(|f| !f.is_distinct() && f.order_bys().is_empty())
}

/// What an aggregate asks of each page.
struct Asked {
    /// The scan's columns that are grouped by.
    groups: Vec<usize>,
    wanted: Vec<Wanted>,
}

impl Asked {
    /// `None`: something that summaries do not tell.
    fn of(partial: &AggregateExec, source: &Source<'_>) -> Option<Asked> {
        let columns = source.scan.page_columns();
        let scan_schema = columns.schema;
        let on_scan = |e: &Arc<dyn PhysicalExpr>| source.on_scan(e).ok().flatten();
        let groups = partial.group_expr().expr().iter().map(|(e, _)| {
            let e = on_scan(e)?;
            Some(e.downcast_ref::<Column>()?.index())
        });
        let groups = groups.collect::<Option<Vec<_>>>()?;
        let schema = partial.schema();
        let states = &schema.fields()[groups.len()..];
        let functions = partial.aggr_expr();
        // A function with more than one column of state is none of ours.
        if states.len() != functions.len() {
            return None;
        }
        let wanted = functions.iter().zip(states).map(|(function, state)| {
            let arguments = function.expressions();
            let [argument] = arguments.as_slice() else {
                return None;
            };
            let argument = on_scan(argument)?;
            Wanted::of(function.fun().name(), &argument, columns, state.data_type())
        });
        let wanted = wanted.collect::<Option<Vec<_>>>()?;
        let is_same_type = groups
            .iter()
            .zip(schema.fields())
            .all(|(&c, field)| scan_schema.field(c).data_type() == field.data_type());
        is_same_type.then_some(Asked { groups, wanted })
    }

    /// Takes the pages whose summaries answer out of a scan; `None`: there are none.
    fn take_pages(
        &self,
        source: &Source<'_>,
        schema: SchemaRef,
    ) -> DfResult<Option<(totals::Summary, Vec<ScanPartition>)>> {
        let columns = source.scan.page_columns();
        let mut totals = Totals::new(&self.wanted, columns);
        let left = ScanPartition::without_pages(source.scan.planned(), |page| {
            let outcomes = judge_all(&source.conditions, page.meta, columns);
            if outcomes.are_never_true() {
                return PageUse::Leave;
            }
            let stands = page.is_exact && outcomes.are_always_true();
            match stands && self.add(page.meta, source, &mut totals) {
                true => PageUse::Leave,
                false => PageUse::Read,
            }
        });
        let summary = totals.finish(schema)?;
        Ok(summary.map(|summary| (summary, left)))
    }

    /// False: its statistics do not tell enough.
    fn add(&self, page: &PageMeta, source: &Source<'_>, totals: &mut Totals<'_>) -> bool {
        let columns = source.scan.page_columns();
        let group = self.groups.iter().map(|&column| {
            let data_type = columns.schema.field(column).data_type();
            constant(page, columns.stats(page, column)?, data_type)
        });
        match group.collect::<Option<Vec<_>>>() {
            Some(group) => totals.add(group, page),
            None => false,
        }
    }
}
