//! A plan that gives way often enough to be stopped at once.
//!
//! Dropping a query's stream stops its tasks where they next give way to the runtime. DataFusion's sources do so after some
//! batches, but a join makes any number of batches out of one batch of its source, and would run on for as long. Here each
//! join counts its own batches, too ([`GiveWay`]). A join whose condition does not hold gives no batch at all, and does not
//! give way between two batches of its source: its condition fails once the query is stopped ([`StopConditions`]).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};

/// Operators that can give more rows than they read.
const GROWING: [&str; 6] = [
    "CrossJoinExec",
    "NestedLoopJoinExec",
    "HashJoinExec",
    "SortMergeJoinExec",
    "PiecewiseMergeJoinExec",
    "UnnestExec",
];

/// DataFusion's rules with ours among them, behind the one that makes sources give way, and before the last push-down of
/// filters, whose references to operators must not be moved any more.
pub(crate) fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::new().rules;
    let behind = rules
        .iter()
        .position(|rule| rule.name() == "EnsureCooperative")
        .map_or(rules.len(), |index| index + 1);
    rules.insert(behind, Arc::new(GiveWay));
    rules.insert(behind, Arc::new(StopConditions));
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

/// Says that nobody waits for a query any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// The conditions of the plan fail from now on.
    pub(crate) fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// By what the conditions of a plan are stopped; empty where none of its joins has one.
pub(crate) fn stops_of(plan: &Arc<dyn ExecutionPlan>) -> Vec<Stop> {
    let mut stops = Vec::new();
    // The closure never fails.
    let _ = plan.apply(|node| {
        let found = condition_of(node).and_then(|filter| filter.expression().downcast_ref::<Condition>());
        stops.extend(found.map(|condition| condition.stop.clone()));
        Ok(TreeNodeRecursion::Continue)
    });
    stops
}

fn condition_of(node: &Arc<dyn ExecutionPlan>) -> Option<&JoinFilter> {
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        return join.filter();
    }
    node.downcast_ref::<HashJoinExec>().and_then(HashJoinExec::filter)
}

/// Lets the conditions of joins fail once the query is stopped.
#[derive(Debug)]
struct StopConditions;

impl PhysicalOptimizerRule for StopConditions {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let stop = Stop::default();
        plan.transform_up(|node| {
            let Some(filter) = condition_of(&node) else {
                return Ok(Transformed::no(node));
            };
            let condition = Condition {
                inner: Arc::clone(filter.expression()),
                stop: stop.clone(),
            };
            let filter = JoinFilter::new(
                Arc::new(condition),
                filter.column_indices().to_vec(),
                Arc::clone(filter.schema()),
            );
            let stoppable: Arc<dyn ExecutionPlan> =
                if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
                    let builder = NestedLoopJoinExecBuilder::from(join);
                    Arc::new(builder.with_filter(Some(filter)).build()?)
                } else if let Some(join) = node.downcast_ref::<HashJoinExec>() {
                    join.builder().with_filter(Some(filter)).build_exec()?
                } else {
                    return Ok(Transformed::no(node));
                };
            Ok(Transformed::yes(stoppable))
        })
        .data()
    }

    fn name(&self) -> &str {
        "stop_conditions"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The condition of a join, and what stops it.
#[derive(Debug)]
struct Condition {
    inner: Arc<dyn PhysicalExpr>,
    stop: Stop,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Condition {}

impl Hash for Condition {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl PhysicalExpr for Condition {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.inner.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.inner.nullable(schema)
    }

    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.stop.is_stopped() {
            return Err(DataFusionError::Execution("the query was stopped".to_owned()));
        }
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let [inner] = <[_; 1]>::try_from(children)
            .map_err(|_| DataFusionError::Internal("a condition is one expression".to_owned()))?;
        let stop = self.stop.clone();
        Ok(Arc::new(Self { inner, stop }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
