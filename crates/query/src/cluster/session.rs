//! How a statement is planned for a cluster.
//!
//! DataFusion's own rules, and one that keeps windows sorted in a plan that is cut up. Ours for one process put operators and
//! conditions into a plan that have no form to be sent in, and that help one process alone (counts by dictionary numbers, stopping
//! at once). Ballista's settings on top: what shares memory between
//! operators of one process (filters that a join hands to a scan, scalar subqueries) cannot be cut into stages.
//! Adaptive planning stays off: with it, an executor's death in the last stage hangs the query (datafusion-ballista#1986).

use std::sync::Arc;

use ballista_core::extension::SessionConfigExt;
use ballista_core::optimizer::ballista_default_optimizer_rules;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;

use super::MAX_MESSAGE_BYTES;
use super::windows::WindowsKeepOrder;

/// The state's builder for a session whose statements run on a cluster.
pub(crate) fn of_client(builder: SessionStateBuilder, config: SessionConfig) -> SessionStateBuilder {
    let config = config
        .upgrade_for_ballista()
        .with_ballista_adaptive_query_planner(false)
        .with_ballista_grpc_client_max_message_size(MAX_MESSAGE_BYTES as usize);
    let mut rules = PhysicalOptimizer::new().rules;
    rules.push(Arc::new(WindowsKeepOrder));
    builder
        .with_config(config)
        .with_optimizer_rules(ballista_default_optimizer_rules())
        .with_physical_optimizer_rules(rules)
}
