//! `olap check`: whether `olap ingest` would work with these settings, and the other commands on the same lake, as a checklist.
//!
//! The one thing that it writes is an object of a few bytes below `_check/` in the lake, where nobody reads, and it removes it again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use clap::Args;
use loginlake_check::topic::{self, Found, MAX_SKEW, Use};
use loginlake_check::{Cluster, cluster, group, registry};
use loginlake_lake::ingest::Pipeline;
use loginlake_lake::table::schema::{PartitionBy, TableSpec};
use loginlake_lake::table::snapshot::WithFiles;
use loginlake_lake::{Lake, TableName, TableSnapshot};
use loginlake_olap::setup;
use loginlake_service::check::{CONFIGURATION, CheckFormat, Checklist, local};
use loginlake_service::config::CommonArgs;
use loginlake_service::exit::ExitError;
use tokio::runtime::Runtime;

use super::ingest::{IngestArgs, Settings};

const STORE: &str = "store";
const TABLE: &str = "table";
/// How long the store may take for one question, its own retries included.
const STORE_LIMIT: Duration = Duration::from_secs(15);

/// Arguments of `olap check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    ingest: IngestArgs,
    /// How the list is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: CheckFormat,
}

/// Looks at everything, prints the list, and says by the exit code whether something failed.
pub fn run(args: CheckArgs, common: &CommonArgs) -> Result<(), ExitError> {
    let format = args.format;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ExitError::failed(format!("cannot start the runtime: {error}")))?;
    let mut list = Checklist::default();
    if let Err(error) = look(&args.ingest, common, &runtime, &mut list) {
        list.error(CONFIGURATION, "settings", &error);
    }
    list.print(format)?;
    list.result()
}

fn look(
    args: &IngestArgs,
    common: &CommonArgs,
    runtime: &Runtime,
    list: &mut Checklist,
) -> Result<(), ExitError> {
    let file = common.load()?;
    let settings = args.settings(&file)?;
    let lake = setup::lake(&settings.lake)?;
    list.ok(CONFIGURATION, "settings", origin(common.config.as_deref()));
    let tables = store(list, runtime, &lake, settings.partition_by);
    kafka(list, &settings, tables.get(&TableName::Logins));
    if let Some(settings) = &settings.schema_registry {
        registry::registry(list, settings);
    }
    local::port(list, settings.http.address());
    local::memory(list, settings.memory_budget);
    local::open_files(list);
    Ok(())
}

fn origin(path: Option<&Path>) -> String {
    match path {
        Some(path) => format!("valid, with the file {}", path.display()),
        None => "valid, without a file".to_owned(),
    }
}

/// Within a limit, whatever the store does.
fn limited<T>(
    runtime: &Runtime,
    question: impl Future<Output = Result<T, loginlake_lake::LakeError>>,
) -> Result<T, ExitError> {
    runtime.block_on(async {
        match tokio::time::timeout(STORE_LIMIT, question).await {
            Ok(answer) => answer.map_err(setup::lake_error),
            Err(_) => Err(ExitError::failed(format!(
                "no answer in {} s",
                STORE_LIMIT.as_secs()
            ))),
        }
    })
}

/// The store, then its tables; those that can be read are returned.
fn store(
    list: &mut Checklist,
    runtime: &Runtime,
    lake: &Lake,
    partition_by: PartitionBy,
) -> BTreeMap<TableName, TableSnapshot> {
    let mut tables = BTreeMap::new();
    if let Err(error) = limited(runtime, lake.check()) {
        let advice = "check --lake, the AWS_* variables, and that the store is running";
        let hint = error.hint.clone().unwrap_or_else(|| advice.to_owned());
        list.failed(STORE, "reachable", error.message, hint);
        return tables;
    }
    list.ok(STORE, "reachable", lake.uri());
    probe(list, runtime, lake);
    for name in TableName::ALL {
        let what = name.to_string();
        match limited(runtime, lake.load_snapshot(name, None, WithFiles::No)) {
            Ok(None) => list.ok(TABLE, what, "not there yet"),
            Ok(Some(snapshot)) => {
                fits(list, what, &snapshot, partition_by);
                tables.insert(name, snapshot);
            }
            Err(error) => {
                let advice = "see docs/DISASTER_RECOVERY.md; a table of another program cannot be used: choose another --lake";
                list.failed(TABLE, what, error.message, advice);
            }
        }
    }
    tables
}

fn probe(list: &mut Checklist, runtime: &Runtime, lake: &Lake) {
    let probe = match limited(runtime, lake.probe()) {
        Ok(probe) => probe,
        Err(error) => {
            let advice = "allow this user to put, read and delete objects below the lake";
            list.failed(STORE, "put-if-absent", error.message, advice);
            return;
        }
    };
    if probe.put_if_absent {
        let found = format!(
            "a second writer is refused; a write took {} ms",
            probe.write_time.as_millis()
        );
        list.ok(STORE, "put-if-absent", found);
    } else {
        list.failed(
            STORE,
            "put-if-absent",
            "the store lets a second writer overwrite an object",
            "use a store that knows If-None-Match on put (S3, MinIO of 2024 or newer): commits rest on it",
        );
    }
    if !probe.removed {
        list.warning(
            STORE,
            "delete",
            "the probe below _check/ could not be removed",
            "allow this user to delete objects: vacuum, compaction and erasure need it",
        );
    }
    let seconds = probe.clock_ahead_ms / 1_000;
    if seconds.unsigned_abs() > MAX_SKEW.as_secs() {
        list.warning(
            STORE,
            "clock",
            format!("{} s away from this machine's", seconds),
            "set both clocks (NTP): S3 refuses requests that are 15 minutes off, and vacuum goes by the store's times",
        );
    } else {
        list.ok(STORE, "clock", "as this machine's");
    }
}

/// Whether this version of the software can write to a table.
fn fits(list: &mut Checklist, what: String, snapshot: &TableSnapshot, partition_by: PartitionBy) {
    let name = snapshot.table;
    let spec = TableSpec::current(name, partition_by);
    let version = snapshot.version;
    let lacking = match spec.lacking(snapshot) {
        Ok(lacking) => lacking,
        Err(why) => {
            let advice = "it is not one of this software, or of an older or newer one: choose another --lake";
            list.failed(TABLE, what, format!("version {version}: {why}"), advice);
            return;
        }
    };
    if let Err(why) = spec.check_dates(snapshot) {
        list.failed(
            TABLE,
            what,
            format!("version {version}: {why}"),
            "choose another --lake",
        );
        return;
    }
    let found = match lacking.len() {
        0 => format!("version {version}, its columns are those of this software"),
        count => format!("version {version}; {count} columns will be added"),
    };
    let is_other = name == TableName::Logins
        && PartitionBy::from_columns(&snapshot.partition_columns).is_some_and(|by| by != partition_by);
    if is_other {
        let found = format!(
            "{found}; it is partitioned by {}",
            snapshot.partition_columns.join(", ")
        );
        list.warning(
            TABLE,
            what,
            found,
            "leave --partition-by out: it is for a new table only",
        );
    } else {
        list.ok(TABLE, what, found);
    }
}

fn kafka(list: &mut Checklist, settings: &Settings, logins: Option<&TableSnapshot>) {
    let Some(cluster) = cluster(list, "brokers", &settings.kafka) else {
        return;
    };
    let found = topic::topic(list, &cluster, &settings.topic, Use::Read);
    group::group(list, &cluster, &settings.group_id);
    let Some(found) = found else { return };
    topic::clock(list, &cluster, &found);
    lag(list, &cluster, &found, logins);
}

/// Where the table goes on in the topic: its own offsets count, not those of the group.
fn lag(list: &mut Checklist, cluster: &Cluster, found: &Found, logins: Option<&TableSnapshot>) {
    let id = cluster.client.topic_id(&found.name);
    let pipeline = Pipeline::new(&found.name, id.clone().unwrap_or_else(|| "unknown".to_owned()));
    let none = BTreeMap::new();
    let transactions = logins.map_or(&none, |logins| &logins.transactions);
    if let Some(predecessor) = pipeline.predecessor(transactions) {
        list.failed(
            "kafka",
            "lag of the table",
            format!(
                "it goes on in another topic of this name ({}), which was deleted and made again",
                predecessor.incarnation
            ),
            "see OPERATIONS.md on a topic that was made anew: olap ingest refuses until the gap is accepted",
        );
        return;
    }
    group::lag(
        list,
        cluster,
        "lag of the table",
        found,
        &pipeline.offsets(transactions),
    );
}
