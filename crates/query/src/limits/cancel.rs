//! A plan that gives way often enough to be stopped at once.
//!
//! Dropping a query's stream stops its tasks where they next give way to the runtime. DataFusion's sources do so after some
//! batches, but a join makes any number of batches out of one batch of its source, and would run on for as long. Here each
//! join counts its own batches, too.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;

/// Operators that can give more rows than they read.
const GROWING: [&str; 6] = [
    "CrossJoinExec",
    "NestedLoopJoinExec",
    "HashJoinExec",
    "SortMergeJoinExec",
    "PiecewiseMergeJoinExec",
    "UnnestExec",
];

/// DataFusion's rules with ours among them: behind the one that makes sources give way, and before the last push-down of
/// filters, whose references to operators must not be moved any more.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let behind = rules
        .iter()
        .position(|rule| rule.name() == "EnsureCooperative")
        .map_or(rules.len(), |index| index + 1);
    rules.insert(behind, Arc::new(GiveWay));
    rules
}

/// Lets joins give way.
#[derive(Debug)]
struct GiveWay;

impl PhysicalOptimizerRule for GiveWay {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            if GROWING.contains(&node.name()) {
                Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as _))
            } else {
                Ok(Transformed::no(node))
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "give_way"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
