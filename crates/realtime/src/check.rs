//! `realtime check`: whether `realtime run` would work with these settings, as a checklist. It writes nothing, unless it is told to
//! with `--write-probe`, and then nothing that a `read_committed` reader sees.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, FromArgMatches};
use loginlake_check::topic::{self, Found, Use};
use loginlake_check::{Cluster, cluster, group, probe, registry};
use loginlake_service::check::{CONFIGURATION, CheckFormat, Checklist, local};
use loginlake_service::config::{CommonArgs, ConfigFile, Guarantee};
use loginlake_service::exit::ExitError;

use crate::index::{self, IndexArgs, IndexOptions};
use crate::insights::{InsightsArgs, InsightsSettings};
use crate::run::RunOptions;
use crate::setup::{Resolved, RunArgs};

/// What a worker holds in memory: what librdkafka fetches ahead, and what waits to be sent.
const WORKER_BYTES: u64 = 24 << 20;

/// Arguments of `realtime check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    insights: InsightsArgs,
    /// Also write: a transaction with a record for each output topic, which is given up again
    #[arg(long)]
    write_probe: bool,
    /// Also look at what `realtime index` needs: OpenSearch, its topic, its group
    #[arg(long)]
    index: bool,
    /// Address of OpenSearch, as `realtime index` has it
    #[arg(long, requires = "index", value_name = "URL")]
    index_url: Option<String>,
    /// File with its credentials, as `realtime index` has it
    #[arg(long, requires = "index", value_name = "FILE")]
    index_credentials_file: Option<PathBuf>,
    /// PEM file of the authorities that its certificate may be of, as `realtime index` has it
    #[arg(long, requires = "index", value_name = "FILE")]
    index_ca_file: Option<PathBuf>,
    /// Alias of all indices, as `realtime index` has it
    #[arg(long, requires = "index", value_name = "NAME")]
    index_name: Option<String>,
    /// How the list is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: CheckFormat,
}

/// Looks at everything, prints the list, and says by the exit code whether something failed.
///
/// # Errors
/// Code 2: the configuration is wrong. Code 1: something outside is.
pub fn run(args: CheckArgs, common: &CommonArgs) -> Result<(), ExitError> {
    let format = args.format;
    let mut list = Checklist::default();
    if let Err(error) = look(args, common, &mut list) {
        list.error(CONFIGURATION, "settings", &error);
    }
    list.print(format)?;
    list.result()
}

fn look(args: CheckArgs, common: &CommonArgs, list: &mut Checklist) -> Result<(), ExitError> {
    let file = common.load()?;
    let index = match args.index {
        true => Some(index_options(&args, &file)?),
        false => None,
    };
    let insights = args.insights.resolve(&file)?;
    let Resolved { options, http, .. } = args.run.resolve(&file)?;
    list.ok(CONFIGURATION, "settings", origin(common.config.as_deref()));
    kafka(list, &options, &insights, index.as_ref(), args.write_probe);
    if let Some(settings) = &options.schema_registry {
        registry::registry(list, settings);
    }
    if let Some(index) = &index {
        index::check::check(list, index);
    }
    local::port(list, http.address());
    local::memory(list, WORKER_BYTES * u64::from(options.workers));
    local::open_files(list);
    Ok(())
}

fn origin(path: Option<&Path>) -> String {
    match path {
        Some(path) => format!("valid, with the file {}", path.display()),
        None => "valid, without a file".to_owned(),
    }
}

/// The settings of `realtime index`: its own flags that are given here, else the environment and the file. Those that both commands
/// have are looked at once, as `realtime run` has them.
fn index_options(args: &CheckArgs, file: &ConfigFile) -> Result<IndexOptions, ExitError> {
    let command = IndexArgs::augment_args(clap::Command::new("index"));
    let text = |flag, value: &Option<String>| Some((flag, OsString::from(value.as_ref()?)));
    let path = |flag, value: &Option<PathBuf>| Some((flag, OsString::from(value.as_ref()?)));
    let given = [
        text("--index-url", &args.index_url),
        path("--index-credentials-file", &args.index_credentials_file),
        path("--index-ca-file", &args.index_ca_file),
        text("--index-name", &args.index_name),
    ];
    let given = given.into_iter().flatten().map(|(flag, value)| {
        let mut word = OsString::from(flag);
        word.push("=");
        word.push(value);
        word
    });
    let args = command
        .try_get_matches_from(std::iter::once("index".into()).chain(given))
        .and_then(|matches| IndexArgs::from_arg_matches(&matches))
        .map_err(|error| ExitError::usage(error.to_string()))?;
    Ok(args.resolve(file)?.options)
}

fn kafka(
    list: &mut Checklist,
    options: &RunOptions,
    insights: &InsightsSettings,
    index: Option<&IndexOptions>,
    write_probe: bool,
) {
    let input = cluster(list, "input brokers", &options.input);
    let separate = match options.input == options.output {
        true => None,
        false => Some(cluster(list, "output brokers", &options.output)),
    };
    let topics = &options.topics;
    let read = input.as_ref().and_then(|input| {
        let found = topic::topic(list, input, &topics.input, Use::Read);
        group::group(list, input, &options.group_id);
        let found = found?;
        group::group_lag(list, input, &options.input, &options.group_id, &found);
        topic::clock(list, input, &found);
        Some(found)
    });
    let output = match &separate {
        Some(separate) => separate.as_ref(),
        None => input.as_ref(),
    };
    let Some(output) = output else { return };
    if let (Some(input), Some(Some(output))) = (&input, &separate) {
        one_cluster(list, options, input, output);
    }
    let written = [&topics.output, &topics.dead_letter]
        .into_iter()
        .chain((insights.every > 0).then_some(&topics.insights));
    let found: Vec<Option<Found>> = written
        .map(|name| topic::topic(list, output, name, Use::Write))
        .collect();
    if let (Some(input), Some(Some(letters))) = (&read, found.get(1)) {
        topic::sizes(list, input, letters);
    }
    if let Some(index) = index {
        topic::topic(list, output, &index.dead_letter_topic, Use::Write);
        group::group(list, output, &index.group_id);
        if let Some(Some(processed)) = found.first() {
            group::group_lag(list, output, &options.output, &index.group_id, processed);
        }
    }
    if write_probe && options.guarantee == Guarantee::ExactlyOnce {
        let there: Vec<&str> = found.iter().flatten().map(|topic| topic.name.as_str()).collect();
        probe::transaction(list, &options.output, &options.transactional_id, &there);
    }
}

/// Exactly once needs one cluster.
fn one_cluster(list: &mut Checklist, options: &RunOptions, input: &Cluster, output: &Cluster) {
    let is_one = options.input.brokers == options.output.brokers
        || input
            .facts
            .cluster_id
            .as_ref()
            .is_some_and(|id| output.facts.cluster_id.as_ref() == Some(id));
    let what = "guarantee";
    if is_one {
        list.ok(CONFIGURATION, what, "input and output are one cluster");
    } else if options.guarantee == Guarantee::ExactlyOnce {
        list.failed(
            CONFIGURATION,
            what,
            "exactly once, and input and output are two clusters, which a Kafka transaction does not span",
            "start with --guarantee at-least-once; source.* headers let a reader drop duplicates",
        );
    } else {
        list.ok(CONFIGURATION, what, "at least once, from one cluster to another");
    }
}
