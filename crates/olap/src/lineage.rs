//! What the commands read and write, in the words of OpenLineage, and a run of a command told of as a span and as lineage. With both off
//! nothing is looked at.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use loginlake_lake::table::schema::table_schema;
use loginlake_lake::table::snapshot::WithFiles;
use loginlake_lake::{Lake, TableName};
use loginlake_service::exit::ExitError;
use loginlake_service::lineage::{Dataset, Processing, Written};
use loginlake_service::telemetry::Job;

/// The beginning of the names of all jobs.
pub const PREFIX: &str = "olap.";

/// A table with its columns.
pub fn table(lake: &Lake, name: TableName) -> Dataset {
    let schema = table_schema(name);
    let columns = schema.fields().iter();
    Dataset::folder(&place(lake.uri()), &name.to_string())
        .with_columns(columns.map(|column| (column.name().as_str(), column.data_type().to_string())))
}

/// The lake's address, which others understand, too: a directory is named from the root on.
fn place(uri: &str) -> Cow<'_, str> {
    if uri.contains("://") {
        return Cow::Borrowed(uri);
    }
    let absolute = std::path::absolute(uri).ok();
    let clean = absolute.map(|path| path.components().collect::<PathBuf>().display().to_string());
    clean.map_or(Cow::Borrowed(uri), Cow::Owned)
}

/// Tables with their columns.
pub fn tables(lake: &Lake, names: impl IntoIterator<Item = TableName>) -> Vec<Dataset> {
    names.into_iter().map(|name| table(lake, name)).collect()
}

/// A run of a job of maintenance that is told of.
#[derive(Debug)]
pub struct LakeJob<'a> {
    job: Job,
    lake: &'a Lake,
    reads: &'a [TableName],
    writes: &'a [TableName],
    written: Vec<(TableName, Written)>,
}

impl<'a> LakeJob<'a> {
    /// It begins. `name` has the [`PREFIX`].
    pub fn begin(
        name: &'static str,
        lake: &'a Lake,
        reads: &'a [TableName],
        writes: &'a [TableName],
    ) -> Self {
        let datasets = || {
            (
                tables(lake, reads.iter().copied()),
                tables(lake, writes.iter().copied()),
            )
        };
        Self {
            job: Job::begin(name, Processing::Batch, datasets),
            lake,
            reads,
            writes,
            written: Vec::new(),
        }
    }

    /// What it wrote into a table. Said again, the last counts.
    pub fn wrote(&mut self, table: TableName, written: Written) {
        self.written.retain(|(known, _)| *known != table);
        self.written.push((table, written));
    }

    /// It is done or it failed. A version that cannot be read any more is left out.
    pub async fn end(mut self, result: Result<(), &str>) {
        if result.is_ok() && self.job.run().is_some() {
            let mut outputs = Vec::new();
            for name in self.writes {
                let mut output = table(self.lake, *name);
                let found = self.lake.load_snapshot(*name, None, WithFiles::No).await;
                if let Ok(Some(snapshot)) = found {
                    output = output.with_version(snapshot.version);
                }
                if let Some((_, written)) = self.written.iter().find(|(known, _)| known == name) {
                    output = output.with_written(*written);
                }
                outputs.push(output);
            }
            let inputs = tables(self.lake, self.reads.iter().copied());
            if let Some(run) = self.job.run() {
                run.found(inputs, outputs);
            }
        }
        for (table, written) in &self.written {
            let key = match table {
                TableName::Logins => "loginlake.logins",
                TableName::Rejected => "loginlake.rejected",
                TableName::LoginsHourly => "loginlake.logins_hourly",
            };
            self.job.say(key, i64::try_from(written.rows).unwrap_or(i64::MAX));
        }
        self.job.end(result);
    }

    /// The same with the result of a command, which is given back.
    pub async fn end_with<T>(self, result: Result<T, ExitError>) -> Result<T, ExitError> {
        match &result {
            Ok(_) => self.end(Ok(())).await,
            Err(error) => self.end(Err(&error.message)).await,
        }
        result
    }
}

/// The name of a query in lineage: that of its file, and none of its text, which can name people.
pub fn query_name(file: Option<&Path>) -> String {
    let stem = file
        .and_then(Path::file_stem)
        .and_then(|stem| stem.to_str())
        .map(|stem| {
            stem.chars()
                .filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c))
                .take(100)
                .collect::<String>()
        });
    match stem {
        Some(stem) if !stem.is_empty() => format!("{PREFIX}query.{stem}"),
        _ => format!("{PREFIX}query"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_named_from_the_root_on() {
        let here = std::env::current_dir().expect("a directory");
        assert_eq!(place("./lake"), here.join("lake").display().to_string());
        assert_eq!(place("/data/lake/"), "/data/lake");
        assert_eq!(place("s3://bucket/lake"), "s3://bucket/lake");
    }

    #[test]
    fn a_query_is_named_by_its_file() {
        assert_eq!(
            query_name(Some(Path::new("sql/top_regions.sql"))),
            "olap.query.top_regions"
        );
        assert_eq!(query_name(Some(Path::new("a b\n.sql"))), "olap.query.ab");
        assert_eq!(query_name(None), "olap.query");
        assert_eq!(query_name(Some(Path::new("…"))), "olap.query");
    }
}
