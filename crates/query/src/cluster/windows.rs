//! Windows whose plan is cut into stages keep the order of their rows.
//!
//! A filter such as `region = 'West'` makes `region` a constant, and then the planner leaves it out of the sort below
//! `OVER (PARTITION BY region …)`. An executor that is sent this stage alone does not see the filter, and takes the rows for
//! unsorted. This rule sorts by all keys wherever the sort itself does not say them; rows that are equal in a key keep their order by
//! the others.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::{
    ExecutionPlan, ExecutionPlanProperties, InputOrderMode, replace_children_if_necessary,
};

/// Makes each sorted window's input say its whole order.
#[derive(Debug)]
pub(super) struct WindowsKeepOrder;

impl PhysicalOptimizerRule for WindowsKeepOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(sorted) = window(&node).and_then(|(first, input)| sorted(first, input)) else {
                return Ok(Transformed::no(node));
            };
            Ok(Transformed::yes(replace_children_if_necessary(
                node,
                vec![sorted],
            )?))
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &'static str {
        "WindowsKeepOrder"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The first expression of a window, and its input.
type Window<'a> = (&'a Arc<dyn WindowExpr>, &'a Arc<dyn ExecutionPlan>);

/// The window over sorted rows that this node is.
fn window(node: &Arc<dyn ExecutionPlan>) -> Option<Window<'_>> {
    if let Some(window) = node.downcast_ref::<BoundedWindowAggExec>() {
        let is_sorted = window.input_order_mode == InputOrderMode::Sorted;
        return is_sorted
            .then(|| window.window_expr().first())
            .flatten()
            .map(|first| (first, window.input()));
    }
    let window = node.downcast_ref::<WindowAggExec>()?;
    window.window_expr().first().map(|first| (first, window.input()))
}

/// `input`, sorted by all keys of the window, unless it says that it is.
fn sorted(first: &Arc<dyn WindowExpr>, input: &Arc<dyn ExecutionPlan>) -> Option<Arc<dyn ExecutionPlan>> {
    let keys = first.partition_by();
    if keys.is_empty() {
        return None;
    }
    if let Some(ordering) = said_order(input) {
        let leading: Vec<_> = ordering.iter().take(keys.len()).map(|sort| &sort.expr).collect();
        if keys.iter().all(|key| leading.contains(&key)) {
            return None;
        }
    }
    let ordering = LexOrdering::new(
        keys.iter()
            .map(|key| PhysicalSortExpr::new_default(Arc::clone(key)))
            .chain(first.order_by().iter().cloned()),
    )?;
    let unsorted = match input.downcast_ref::<SortExec>() {
        Some(sort) if sort.fetch().is_none() => sort.input(),
        _ => input,
    };
    let has_partitions = input.output_partitioning().partition_count() > 1;
    let sort = SortExec::new(ordering, Arc::clone(unsorted));
    let preserves = input
        .downcast_ref::<SortExec>()
        .map_or(has_partitions, SortExec::preserve_partitioning);
    Some(Arc::new(sort.with_preserve_partitioning(preserves)))
}

/// The order that operators say themselves: no knowledge of constants and equal columns.
fn said_order(plan: &Arc<dyn ExecutionPlan>) -> Option<&LexOrdering> {
    if let Some(sort) = plan.downcast_ref::<SortExec>() {
        return Some(sort.expr());
    }
    if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
        return Some(merge.expr());
    }
    // These add columns at the end, or none.
    let keeps =
        plan.is::<BoundedWindowAggExec>() || plan.is::<WindowAggExec>() || plan.is::<CooperativeExec>();
    if keeps {
        said_order(plan.children().first()?)
    } else {
        None
    }
}
