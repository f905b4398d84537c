//! A refresh: the changed dates counted again, and their files replaced by one commit.
//!
//! The commit compares the counter of refreshes with the version that the old files were listed at. Whoever loses begins anew.
//! New files are removed only when it is certain that no commit names them. Before the commit nothing is visible, so an
//! interrupted refresh leaves the view as it was, and orphans for vacuum.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::NaiveDate;
use serde_json::json;
use uuid::Uuid;

use super::changes::{Changes, DATE, DateValue, changes, commit_of};
use super::complete::{Completeness, LOGINS_COMMIT, LOGINS_VERSION, REFRESHES};
use super::count::{Counted, Share, count, divide};
use super::files::{remove, store_file};
use crate::compact::execute::loop_commit;
use crate::error::LakeError;
use crate::store::Lake;
use crate::table::commit::{CommitOutcome, CommitRequest, NewFile, TableWriter, TxnStep};
use crate::table::schema::{self, PartitionBy};
use crate::table::{DataFile, TableName, TableSnapshot, checkpoint};

/// The name of a refresh in the table's history.
const OPERATION: &str = "REFRESH";
/// How often a refresh is begun anew after somebody else was first.
const MAX_ATTEMPTS: u32 = 5;
/// Commits of the view between two checkpoints of its log: it is asked for answers in milliseconds, and a commit more is a file
/// more to read.
const CHECKPOINT_VERSIONS: i64 = 10;

/// What a refresh does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshOptions {
    /// Counts every date again. Default no.
    pub rebuild: bool,
    /// Counts this date only; up to where the view is complete does not move. Default all that changed.
    pub date: Option<NaiveDate>,
    /// Only says what would be done. Default no.
    pub dry_run: bool,
    /// Memory for the groups of a date, in bytes. Default 64 MiB.
    pub memory_budget_bytes: usize,
    /// The clock, epoch milliseconds.
    pub now_ms: i64,
}

impl RefreshOptions {
    /// The defaults, at a time given in epoch milliseconds.
    pub fn at(now_ms: i64) -> Self {
        Self {
            rebuild: false,
            date: None,
            dry_run: false,
            memory_budget_bytes: 64 << 20,
            now_ms,
        }
    }
}

/// What a refresh did, or would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefreshReport {
    /// Nothing was done.
    pub dry_run: bool,
    /// The version of `logins` that the view was complete at before; `None`: never.
    pub before: Option<i64>,
    /// What it is complete at now.
    pub complete: Completeness,
    /// Why every date was counted again, when that was not asked for.
    pub rebuilt_because: Option<String>,
    /// The dates that were counted.
    pub dates: Vec<DateValue>,
    /// Rows of the view that were written.
    pub rows: u64,
    /// Logins that they count.
    pub logins: u64,
    /// The version of `logins_hourly` that was committed; `None`: there was nothing to do, or a dry run.
    pub version: Option<i64>,
}

impl fmt::Display for RefreshReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let would = if self.dry_run { "would count" } else { "counted" };
        let from = self.before.map_or_else(
            || "never refreshed".to_owned(),
            |version| format!("version {version}"),
        );
        writeln!(
            f,
            "logins_hourly: {would} {} dates again, from {from} to version {} of logins",
            self.dates.len(),
            self.complete.logins_version
        )?;
        if let Some(why) = &self.rebuilt_because {
            writeln!(f, "all dates: {why}")?;
        }
        if let Some(version) = self.version {
            writeln!(
                f,
                "committed as version {version}: {} rows for {} logins",
                self.rows, self.logins
            )?;
        }
        match self.complete.closed_before_ms {
            Some(_) => writeln!(f, "closed: the hours before {}", self.complete.closed_before()),
            None => writeln!(f, "closed: none"),
        }
    }
}

/// Refreshes the view. `None`: the lake has no `logins`.
///
/// # Errors
/// The store failed, the tables are not of this software, or five others in a row were first.
pub async fn refresh(lake: &Lake, options: &RefreshOptions) -> Result<Option<RefreshReport>, LakeError> {
    let mut detail = String::new();
    for attempt in 1..=MAX_ATTEMPTS {
        let Some(logins) = lake.snapshot(TableName::Logins, None).await? else {
            return Ok(None);
        };
        schema::check_compatible(&logins).map_err(|detail| LakeError::Foreign {
            place: lake.table_place(TableName::Logins),
            detail,
        })?;
        match attempt_once(lake, options, &logins).await? {
            Attempt::Done(report) => return Ok(Some(report)),
            Attempt::Lost(lost) => {
                tracing::info!(attempt, detail = lost, "refresh superseded");
                detail = lost;
            }
        }
    }
    Err(LakeError::Unreachable {
        place: lake.table_place(TableName::LoginsHourly),
        detail: format!("{MAX_ATTEMPTS} other refreshes in a row were first: {detail}"),
    })
}

enum Attempt {
    Done(RefreshReport),
    Lost(String),
}

async fn attempt_once(
    lake: &Lake,
    options: &RefreshOptions,
    logins: &TableSnapshot,
) -> Result<Attempt, LakeError> {
    let view = match lake.snapshot(TableName::LoginsHourly, None).await? {
        Some(view) => Some(view),
        None if options.dry_run => None,
        None => {
            TableWriter::open_or_create(lake, TableName::LoginsHourly, PartitionBy::Date).await?;
            lake.snapshot(TableName::LoginsHourly, None).await?
        }
    };
    let stands = |app_id: &str| view.as_ref()?.transactions.get(app_id).copied();
    let before = stands(LOGINS_VERSION);
    let held = view.as_ref().map_or(&[][..], |view| &view.files);
    let (dates, rebuilt_because) =
        dates_to_count(lake, options, logins, held, before, stands(LOGINS_COMMIT)).await?;
    let mut report = RefreshReport {
        dry_run: options.dry_run,
        before,
        complete: Completeness::of(logins, options.now_ms),
        rebuilt_because,
        dates: dates.iter().cloned().collect(),
        rows: 0,
        logins: 0,
        version: None,
    };
    let nothing_new = dates.is_empty()
        && report.rebuilt_because.is_none()
        && (options.date.is_some() || before == Some(logins.version));
    let Some(view) = view.as_ref().filter(|_| !options.dry_run && !nothing_new) else {
        return Ok(Attempt::Done(report));
    };
    let Some(commit) = commit_of(lake, logins.version).await? else {
        return Ok(Attempt::Lost(format!(
            "version {} of logins vanished",
            logins.version
        )));
    };
    let mut writer = TableWriter::at_snapshot(lake, view)?;
    let batch_id = Uuid::new_v4();
    let mut adds = Vec::new();
    let counted = count_dates(lake, options, logins, &dates, batch_id, &mut report, &mut adds).await;
    if let Err(error) = counted {
        remove(lake, &adds).await;
        // A file that somebody replaced and vacuum took meanwhile is no error: the newest version has others.
        let newest = lake.snapshot(TableName::Logins, None).await?;
        return match newest.is_some_and(|newest| newest.version != logins.version) && !error.is_retriable() {
            true => Ok(Attempt::Lost(error.to_string())),
            false => Err(error),
        };
    }
    let removes = files_of(held, &dates).cloned().collect();
    let request = request(options, view, &report, commit, batch_id, adds, removes);
    let mut unanswered = false;
    let outcome = loop_commit(&mut writer, &request, &mut unanswered).await?;
    let lost = match outcome {
        CommitOutcome::Committed { version } => {
            report.version = Some(version);
            checkpoint_view(lake, version).await;
            return Ok(Attempt::Done(report));
        }
        CommitOutcome::Fenced { app_id, .. } => format!("another refresh moved {app_id}"),
        CommitOutcome::Conflict { detail } => detail,
    };
    if !unanswered {
        remove(lake, &request.adds).await;
    }
    Ok(Attempt::Lost(lost))
}

/// A checkpoint that fails costs nothing but time: the log stays the truth, and ten commits later there is another.
async fn checkpoint_view(lake: &Lake, version: i64) {
    if version % CHECKPOINT_VERSIONS != 0 || version % checkpoint::INTERVAL_VERSIONS == 0 {
        return;
    }
    if let Err(error) = checkpoint::write(lake, TableName::LoginsHourly, version).await {
        tracing::warn!(version, %error, "delta checkpoint of logins_hourly not written");
    }
}

/// The dates to count, and why it is all of them when that was not asked for.
async fn dates_to_count(
    lake: &Lake,
    options: &RefreshOptions,
    logins: &TableSnapshot,
    held: &[DataFile],
    before: Option<i64>,
    before_commit: Option<i64>,
) -> Result<(BTreeSet<DateValue>, Option<String>), LakeError> {
    if let Some(date) = options.date {
        let date = Some(date.format("%Y-%m-%d").to_string());
        return Ok((BTreeSet::from([date]), None));
    }
    let all = || logins.files.iter().chain(held).map(date_of).collect();
    let Some(before) = before.filter(|_| !options.rebuild) else {
        return Ok((all(), None));
    };
    if let Some(why) = other_table(lake, before, before_commit).await? {
        return Ok((all(), Some(why)));
    }
    Ok(match changes(lake, before, logins.version).await? {
        Changes::Dates(dates) => (dates, None),
        Changes::Unknown { why } => (all(), Some(why)),
    })
}

/// Why the version that the view was counted from is not one of this `logins`, as far as can be told; `None`: it is.
async fn other_table(
    lake: &Lake,
    before: i64,
    before_commit: Option<i64>,
) -> Result<Option<String>, LakeError> {
    let Some(before_commit) = before_commit else {
        return Ok(Some(
            "an older version of this software counted the view, which does not say from which table"
                .to_owned(),
        ));
    };
    Ok(match commit_of(lake, before).await? {
        Some(commit) if commit == before_commit => None,
        Some(_) => Some(format!(
            "version {before} of logins is another one than that of the last refresh: the table was made again, or put back \
             from a copy"
        )),
        None => Some(format!(
            "the log of logins does not have version {before}, that of the last refresh, any more"
        )),
    })
}

fn date_of(file: &DataFile) -> DateValue {
    file.partition_values.get(DATE).cloned().flatten()
}

fn files_of<'a>(files: &'a [DataFile], dates: &'a BTreeSet<DateValue>) -> impl Iterator<Item = &'a DataFile> {
    files.iter().filter(|file| dates.contains(&date_of(file)))
}

/// Counts the dates one after the other and stores their files.
async fn count_dates(
    lake: &Lake,
    options: &RefreshOptions,
    logins: &TableSnapshot,
    dates: &BTreeSet<DateValue>,
    batch_id: Uuid,
    report: &mut RefreshReport,
    adds: &mut Vec<NewFile>,
) -> Result<(), LakeError> {
    let mut by_date: BTreeMap<DateValue, Vec<&DataFile>> = BTreeMap::new();
    for file in files_of(&logins.files, dates) {
        by_date.entry(date_of(file)).or_default().push(file);
    }
    for (date, files) in by_date {
        let first = adds.len();
        let expected: Option<u64> = files.iter().map(|file| file.rows).sum();
        let mut shares = Share::WHOLE.of;
        let mut counted = 0_u64;
        let mut index = 0;
        while index < shares {
            let share = Share { index, of: shares };
            let rows = match count(lake, &files, share, options.memory_budget_bytes).await? {
                Counted::Rows(rows) => rows,
                Counted::TooMany => {
                    // The shares begin anew, so what was stored of this date is of no use.
                    remove(lake, &adds[first..]).await;
                    adds.truncate(first);
                    (shares, index, counted) = (divide(shares)?, 0, 0);
                    continue;
                }
            };
            index += 1;
            if rows.num_rows() == 0 {
                continue;
            }
            counted += logins_in(&rows);
            let number = adds.len();
            adds.push(store_file(lake, &date, &rows, &report.complete, batch_id, number).await?);
        }
        if expected.is_some_and(|expected| expected != counted) {
            return Err(LakeError::Invariant(format!(
                "{}: the files of login_date={} have {counted} rows, and its log says {}: run `olap audit`",
                lake.table_place(TableName::Logins),
                date.as_deref().unwrap_or("NULL"),
                expected.unwrap_or_default()
            )));
        }
        report.logins += counted;
        report.rows += adds[first..].iter().map(|file| file.rows).sum::<u64>();
        tracing::info!(
            date = date.as_deref().unwrap_or("NULL"),
            logins = counted,
            "date counted"
        );
    }
    Ok(())
}

fn logins_in(rows: &arrow::array::RecordBatch) -> u64 {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let counts = rows["logins"].as_primitive::<Int64Type>();
    counts.values().iter().map(|count| count.unsigned_abs()).sum()
}

fn request(
    options: &RefreshOptions,
    view: &TableSnapshot,
    report: &RefreshReport,
    commit: i64,
    batch_id: Uuid,
    adds: Vec<NewFile>,
    removes: Vec<DataFile>,
) -> CommitRequest {
    let stands = |app_id: &str| view.transactions.get(app_id).copied();
    let mut steps = vec![TxnStep {
        app_id: REFRESHES.to_owned(),
        from: stands(REFRESHES),
        to: stands(REFRESHES).unwrap_or(0) + 1,
    }];
    // One date alone does not make the view complete up to anywhere.
    if options.date.is_none() {
        let logins_version = (LOGINS_VERSION.to_owned(), report.complete.logins_version);
        let logins_commit = (LOGINS_COMMIT.to_owned(), commit);
        let moved = report
            .complete
            .offsets
            .clone()
            .into_iter()
            .chain([logins_version, logins_commit]);
        steps.extend(
            moved
                .map(|(app_id, to)| TxnStep {
                    from: stands(&app_id),
                    app_id,
                    to,
                })
                .filter(|step| step.from != Some(step.to)),
        );
    }
    let rows_removed: Option<u64> = removes.iter().map(|file| file.rows).sum();
    CommitRequest {
        batch_id,
        operation: OPERATION,
        steps,
        info: json!({
            "kind": "refresh",
            "loginsVersion": report.complete.logins_version,
            "closedBefore": report.complete.closed_before(),
            "dates": report.dates.len(),
            "rows": report.rows,
            "logins": report.logins,
            "rowsRemoved": rows_removed,
        }),
        adds,
        removes,
        data_change: true,
    }
}
