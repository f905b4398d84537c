//! The engine: one DataFusion session over one lake.
//!
//! Opening does no I/O: a table's log is read when a statement first names the table, and from then on that version is
//! pinned. Left out of the session is all that a query of the lake does not need, above all the file formats and table
//! factories by which SQL could read or write other files.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider};
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::TrackConsumersPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::ScalarUDF;
use datafusion::prelude::{SessionConfig, SessionContext};
use loginlake_events::regions::RegionTable;
use loginlake_lake::{Lake, TableName};

use crate::cluster::ClusterAddress;
use crate::counts::CountFewValues;
use crate::error::QueryError;
use crate::limits::cancel::physical_rules;
use crate::limits::memory::SharedMemory;
use crate::limits::spill::{SpillArea, SpillFactory};
use crate::tables::LakeSchema;
use crate::view::{TableFacts, View};

/// The catalog of the tables, by which SQL may qualify them: `lake.public.logins`.
pub const CATALOG: &str = "lake";
/// The schema of the tables.
pub const SCHEMA: &str = "public";
/// Each sort keeps one part in so many of the memory for the merge of what it spilled.
const MERGE_PART: usize = 64;
/// Operators named by the error when memory runs out.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::new(3).unwrap();

/// Limits of an engine.
#[derive(Debug, Clone)]
pub struct QueryOptions {
    /// Bytes that the operators of running queries may hold together before they spill to temporary files.
    /// Default: 1 GiB.
    pub memory_limit_bytes: usize,
    /// How long one call of [`QueryEngine::run`] may take. Default: no limit.
    pub timeout: Option<Duration>,
    /// Rows that each statement gives at most; what is left out is reported. Default: no limit.
    pub max_rows: Option<u64>,
    /// Directory for temporary files of queries that need more than their memory. Default: the system's (`TMPDIR`).
    pub spill_directory: PathBuf,
    /// Bytes that these files may hold together. Default: 16 GiB.
    pub max_spill_bytes: u64,
    /// What locales mean to the functions `region_of` and `local_time`: the table that ingestion uses. Default: the built-in one.
    pub regions: Option<RegionTable>,
    /// Threads' worth of work that a plan is cut into. Default: the number of cores.
    pub target_partitions: usize,
    /// The cluster that computes what reads files of the lake; the limits on memory and on temporary files are its executors'.
    /// Default: none, this process computes.
    pub cluster: Option<ClusterAddress>,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self {
            memory_limit_bytes: 1 << 30,
            timeout: None,
            max_rows: None,
            spill_directory: std::env::temp_dir(),
            max_spill_bytes: 16 << 30,
            regions: None,
            target_partitions: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            cluster: None,
        }
    }
}

/// Runs SQL on a lake. Every statement sees the same version of a table.
pub struct QueryEngine {
    context: SessionContext,
    tables: Arc<LakeSchema>,
    options: QueryOptions,
    spill: Arc<SpillArea>,
}

impl fmt::Debug for QueryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryEngine")
            .field("tables", &self.tables)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl QueryEngine {
    /// Sets up a session over `lake`. Does no I/O: what is wrong with the lake is said by [`Self::run`].
    ///
    /// # Errors
    /// [`QueryError::Setup`] when the session cannot be built.
    pub fn open(lake: &Lake, options: QueryOptions) -> Result<Self, QueryError> {
        Self::open_view(lake, options, View::Newest)
    }

    /// The same over another state of the lake than the newest.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_view(lake: &Lake, options: QueryOptions, view: View) -> Result<Self, QueryError> {
        let setup = |error: datafusion::error::DataFusionError| QueryError::Setup(error.strip_backtrace());
        let pool = TrackConsumersPool::new(SharedMemory::new(options.memory_limit_bytes), NAMED_CONSUMERS);
        let spill = SpillArea::new(options.spill_directory.clone(), options.max_spill_bytes);
        let disk =
            DiskManagerBuilder::default().with_temp_file_factory(Arc::new(SpillFactory(Arc::clone(&spill))));
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(setup)?;
        runtime.register_object_store(&lake.object_store_url(), lake.object_store());

        let is_for_cluster = options.cluster.is_some();
        let tables = Arc::new(LakeSchema::new(lake.clone(), view, is_for_cluster));
        let catalog = MemoryCatalogProvider::new();
        catalog
            .register_schema(SCHEMA, Arc::clone(&tables) as _)
            .map_err(setup)?;

        let state = planning(SessionStateBuilder::new(), &options)?
            .with_runtime_env(runtime)
            .with_expr_planners(SessionStateDefaults::default_expr_planners())
            .with_scalar_functions(scalar_functions(options.regions.clone()))
            .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
            .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
            .with_window_functions(SessionStateDefaults::default_window_functions())
            .with_table_function_list(SessionStateDefaults::default_table_functions())
            .build();
        let context = SessionContext::new_with_state(state);
        context.register_catalog(CATALOG, Arc::new(catalog));
        Ok(Self {
            context,
            tables,
            options,
            spill,
        })
    }

    /// The version of every table that a statement has named so far; `None` for a table that does not exist.
    pub fn pinned_versions(&self) -> BTreeMap<&'static str, Option<i64>> {
        self.tables.pinned_versions()
    }

    /// Pins tables before a statement names them, and says what is known of them: by this it is known whether an earlier
    /// answer still holds, before anything is run.
    ///
    /// # Errors
    /// A table's log cannot be read, or the lake has no table at all.
    pub async fn pin(
        &self,
        tables: impl IntoIterator<Item = TableName>,
    ) -> Result<Vec<TableFacts>, QueryError> {
        let mut facts = Vec::new();
        for table in tables {
            facts.push(self.tables.pin(table).await?);
        }
        Ok(facts)
    }

    /// What is known of the tables that statements have named so far.
    pub fn table_facts(&self) -> Vec<TableFacts> {
        self.tables.facts()
    }

    /// Bytes that queries have written to temporary files so far.
    pub fn spilled_bytes(&self) -> u64 {
        self.spill.written_bytes()
    }

    /// Bytes that the operators of running queries hold now.
    pub fn held_bytes(&self) -> usize {
        self.context.runtime_env().memory_pool.reserved()
    }

    /// The plan as it is run: by the cluster, where there is one.
    #[cfg(feature = "cluster")]
    pub(crate) fn distributed(
        &self,
        plan: Arc<dyn datafusion::physical_plan::ExecutionPlan>,
    ) -> datafusion::error::Result<Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
        match &self.options.cluster {
            None => Ok(plan),
            Some(address) => {
                crate::cluster::client::distributed(address, self.options.regions.is_some(), plan)
            }
        }
    }

    pub(crate) fn context(&self) -> &SessionContext {
        &self.context
    }

    pub(crate) fn options(&self) -> &QueryOptions {
        &self.options
    }
}

/// The settings and rules by which statements are planned.
fn planning(builder: SessionStateBuilder, options: &QueryOptions) -> Result<SessionStateBuilder, QueryError> {
    let config = session_config(options);
    if options.cluster.is_some() {
        #[cfg(feature = "cluster")]
        return Ok(crate::cluster::session::of_client(builder, config));
        #[cfg(not(feature = "cluster"))]
        return Err(QueryError::Setup(
            "it was built without clusters: build it with the cargo feature `cluster`".to_owned(),
        ));
    }
    Ok(builder
        .with_config(config)
        .with_physical_optimizer_rules(physical_rules())
        .with_physical_optimizer_rule(Arc::new(CountFewValues)))
}

pub(crate) fn scalar_functions(regions: Option<RegionTable>) -> Vec<Arc<ScalarUDF>> {
    let mut functions = crate::functions::bounded(SessionStateDefaults::default_scalar_functions());
    functions.extend(crate::functions::all(regions));
    functions
}

/// The names of all functions that SQL can call, sorted: for hints and completion.
pub fn function_names() -> Vec<String> {
    let scalar = scalar_functions(None);
    let aggregate = SessionStateDefaults::default_aggregate_functions();
    let window = SessionStateDefaults::default_window_functions();
    let names = scalar.iter().map(|function| function.name().to_owned());
    let names = names.chain(aggregate.iter().map(|function| function.name().to_owned()));
    let mut names: Vec<String> = names
        .chain(window.iter().map(|function| function.name().to_owned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn session_config(options: &QueryOptions) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_information_schema(true)
        .with_target_partitions(options.target_partitions.max(1));
    let settings = config.options_mut();
    // The places of names, for the caret of an error.
    settings.sql_parser.collect_spans = true;
    // What each sort sets aside for merging its spilled runs: a part of what it has, where that is little.
    let share = options.memory_limit_bytes / options.target_partitions.max(1) / 8;
    settings.execution.sort_spill_reservation_bytes =
        settings.execution.sort_spill_reservation_bytes.min(share);
    // What each sort keeps aside to merge its spilled runs: with little memory and many sorts, ten megabytes each would be
    // more than there is.
    let kept_aside = options.memory_limit_bytes / MERGE_PART;
    settings.execution.sort_spill_reservation_bytes =
        kept_aside.min(settings.execution.sort_spill_reservation_bytes);
    // Takes effect where filters are evaluated while decoding (`pushdown_filters`), which stays at DataFusion's default.
    settings.execution.parquet.reorder_filters = true;
    config
}
