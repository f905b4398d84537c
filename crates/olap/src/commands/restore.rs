//! `olap restore`.

use clap::Args;
use loginlake_kafka::topics::{Incarnation, Topics};
use loginlake_lake::ingest::pipeline::RETIRED;
use loginlake_lake::restore::{self, Attempt, RestorePlan};
use loginlake_lake::{Lake, TableName};
use loginlake_olap::setup;
use loginlake_service::config::{ConfigFile, KafkaArgs, LakeArgs, TopicArgs, UtcTime};
use loginlake_service::exit::ExitError;

use super::{TableArg, print_line};

/// How often a plan is made again because ingestion or maintenance committed in between.
const MAX_ATTEMPTS: u32 = 50;

/// Arguments of `olap restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// The table. Rejected records that logins will read again are skipped, so logins alone is enough unless rejected is damaged
    #[arg(long, default_value = "logins", value_name = "TABLE")]
    table: TableArg,
    /// The version whose state comes back
    #[arg(
        long,
        value_name = "VERSION",
        required_unless_present = "to_timestamp",
        conflicts_with = "to_timestamp"
    )]
    to: Option<i64>,
    /// The newest version that was committed by this time
    #[arg(long, value_name = "TIME")]
    to_timestamp: Option<UtcTime>,
    /// Only print what would be done
    #[arg(long)]
    dry_run: bool,
    /// Go on although rows come back that were erased: erase these users again
    #[arg(long)]
    undo_erasures: bool,
    /// Ask the broker first whether the topic still holds the records that are to be read again
    #[arg(long)]
    check_topic: bool,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    topics: TopicArgs,
}

/// Runs it.
pub async fn run(args: RestoreArgs, file: &ConfigFile) -> Result<(), ExitError> {
    let lake = setup::lake(&args.lake.clone().resolve(file)?)?;
    let table: TableName = args.table.into();
    let version = match (args.to, args.to_timestamp) {
        (Some(version), _) => version,
        (None, Some(time)) => lake
            .version_at(table, time.epoch_ms())
            .await
            .map_err(setup::lake_error)?
            .ok_or_else(|| {
                ExitError::usage("--to-timestamp is before the oldest version that the log has")
            })?,
        (None, None) => return Err(ExitError::usage("say --to or --to-timestamp")),
    };
    let Some(plan) = restore::plan(&lake, table, version)
        .await
        .map_err(setup::lake_error)?
    else {
        return Err(super::no_tables(&lake));
    };
    tell(&plan)?;
    check(&args, file, &plan)?;
    if args.dry_run {
        eprintln!("nothing was changed: leave --dry-run off to do it");
        return Ok(());
    }
    let (plan, restored) = execute(&args, file, &lake, plan).await?;
    print_line(&format!(
        "{table} is at version {restored}, as at version {version}"
    ))?;
    after(&lake, table, &plan).await
}

/// Commits, between two commits of whoever else writes: what they commit meanwhile is planned for, and judged, anew.
async fn execute(
    args: &RestoreArgs,
    file: &ConfigFile,
    lake: &Lake,
    mut plan: RestorePlan,
) -> Result<(RestorePlan, i64), ExitError> {
    let who = super::operator();
    let mut overtaken_by = String::new();
    for _ in 0..MAX_ATTEMPTS {
        match restore::attempt(lake, &plan, &who)
            .await
            .map_err(setup::lake_error)?
        {
            Attempt::Restored { version } => return Ok((plan, version)),
            Attempt::Overtaken { detail } => {
                tracing::info!(detail, "the table has moved on; planning again");
                overtaken_by = detail;
            }
        }
        plan = plan.again(lake).await.map_err(setup::lake_error)?;
        check(args, file, &plan)?;
    }
    Err(ExitError::refused(format!(
        "nothing was changed: others committed before each of {MAX_ATTEMPTS} attempts (the last time: {overtaken_by}); stop \
         ingestion, and try again"
    )))
}

/// Refuses what would lose rows, or bring back erased ones.
fn check(args: &RestoreArgs, file: &ConfigFile, plan: &RestorePlan) -> Result<(), ExitError> {
    if args.check_topic {
        check_topic(args, file, plan)?;
    }
    if !plan.erasures.is_empty() && !args.undo_erasures {
        let erasures: Vec<&str> = plan.erasures.iter().map(String::as_str).collect();
        return Err(ExitError::refused(format!(
            "nothing was changed: the rows of erasures {} would come back; restore a version after them, or say --undo-erasures \
             and erase the users again at once",
            erasures.join(", ")
        )));
    }
    Ok(())
}

/// What is left to do.
async fn after(lake: &Lake, table: TableName, plan: &RestorePlan) -> Result<(), ExitError> {
    if table == TableName::Logins {
        super::refresh_after(lake).await?;
    }
    if !plan.offsets.is_empty() {
        eprintln!(
            "ingestion reads on from the restored offsets by itself; where the topic does not hold them any more it stops and \
             names the flag by which it goes on"
        );
    }
    Ok(())
}

fn tell(plan: &RestorePlan) -> Result<(), ExitError> {
    let rows = plan
        .rows_lost()
        .map_or_else(|| "?".to_owned(), |rows| format!("{:+}", -rows));
    print_line(&format!(
        "{}: version {} back to {}: {} files return, {} leave, {rows} rows",
        plan.table,
        plan.from_version,
        plan.to_version,
        plan.adds.len(),
        plan.removes.len()
    ))?;
    for (app_id, from, to) in &plan.offsets {
        print_line(&format!("  {app_id}: {from} back to {to}"))?;
    }
    Ok(())
}

/// Says which records of those that are to be read again are gone.
fn check_topic(args: &RestoreArgs, file: &ConfigFile, plan: &RestorePlan) -> Result<(), ExitError> {
    let topic = args.topics.clone().resolve(file)?.input;
    let kafka = setup::kafka(args.kafka.clone().resolve(file)?);
    let topics = Topics::connect(&kafka).map_err(setup::kafka_error)?;
    let prefix = format!("loginlake/{topic}/");
    let incarnation = match topics.incarnation(&topic) {
        Incarnation::Id(id) => Some(id),
        Incarnation::Gone => {
            return Err(ExitError::refused(format!(
                "nothing was changed: there is no topic {topic} any more, from which the rows would be read again"
            )));
        }
        // An old broker, which has no ids: offsets alone have to do.
        Incarnation::Unknown => None,
    };
    let mut lost = false;
    let going_back = plan.offsets.iter().filter(|(_, from, _)| *from != RETIRED);
    for (app_id, from, to) in going_back {
        let Some((of, partition)) = app_id
            .strip_prefix(&prefix)
            .and_then(|rest| rest.rsplit_once('/'))
            .and_then(|(of, last)| Some((of, last.parse::<i32>().ok()?)))
        else {
            continue;
        };
        if incarnation.as_deref().is_some_and(|id| id != of) {
            lost = true;
            eprintln!(
                "{topic}/{partition}: the topic was made again; records {to} to {} are gone",
                from - 1
            );
            continue;
        }
        let (low, high) = topics.watermarks(&topic, partition).map_err(setup::kafka_error)?;
        for (first, end) in [(*to, low.min(*from)), (high.max(*to), *from)] {
            if first < end {
                lost = true;
                eprintln!(
                    "{topic}/{partition}: records {first} to {} are gone from the topic: these rows would be lost for good",
                    end - 1
                );
            }
        }
    }
    if lost {
        return Err(ExitError::refused(
            "nothing was changed: the topic does not hold all that would have to be read again; restore a newer version, or leave \
             --check-topic off and accept the gap when ingestion stops at it",
        ));
    }
    Ok(())
}
