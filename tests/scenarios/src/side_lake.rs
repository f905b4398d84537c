//! A lake beside the scenario's own, in the same bucket: for scenarios that ingest one topic many times.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::delta_log::{self, Commit, DeltaLog};
use crate::exactness::{Position, each_once, position};
use crate::process::Program;
use crate::reader::Reader;
use crate::scenario::Scenario;

/// One lake.
pub struct SideLake<'a> {
    scenario: &'a Scenario,
    folder: String,
}

impl<'a> SideLake<'a> {
    /// `folder` must be one that an object's name may have.
    pub fn new(scenario: &'a Scenario, folder: &str) -> SideLake<'a> {
        SideLake {
            scenario,
            folder: folder.to_owned(),
        }
    }

    /// The lake's address.
    pub fn uri(&self) -> String {
        format!("s3://{}/{}", self.scenario.bucket(), self.folder)
    }

    /// `olap ingest` into it, in a group that nobody was in: a member that was killed is not waited for.
    pub fn ingest(&self) -> Program {
        static GROUPS: AtomicU32 = AtomicU32::new(1);
        let number = GROUPS.fetch_add(1, Ordering::Relaxed);
        let group = format!("{}-{number}", self.scenario.ingest_group());
        let program = self.scenario.olap_on("ingest", &self.uri());
        let program = program
            .env("LOGINLAKE_HTTP", "none")
            .env("LOGINLAKE_LOG_FORMAT", "text");
        let brokers = self.scenario.kafka.brokers();
        program.args([
            "--brokers",
            &brokers,
            "--input-topic",
            &self.scenario.input_topic(),
            "--group-id",
            &group,
        ])
    }

    /// The independent reader.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.uri(), self.scenario.minio.environment())
    }

    /// The commits of a table, oldest first.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn commits(&self, table: &'static str) -> Result<Vec<Commit>> {
        Ok(DeltaLog::in_folder(self.scenario, &self.folder, table)
            .read_on()?
            .to_vec())
    }

    /// Where `logins` stands in each partition; its commits follow each other (invariant 7).
    ///
    /// # Errors
    /// When they do not.
    pub fn next_offsets(&self) -> Result<BTreeMap<i32, i64>> {
        delta_log::next_offsets(&self.commits("logins")?)
    }

    /// The positions of a table's rows; none when there is no such table yet.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn rows(&self, table: &'static str) -> Result<Vec<Position>> {
        if self.commits(table)?.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .reader()
            .query(table, "SELECT kafka_partition, kafka_offset FROM t")?;
        rows.iter().map(|row| position(row)).collect()
    }

    /// Below the offsets of `logins` both tables together have each of these positions once, `logins` has nothing above, and
    /// the commits follow each other (invariants 6 and 7). Returns where they stand.
    ///
    /// # Errors
    /// When it is not so.
    pub fn is_exact(&self, input: &[Position]) -> Result<BTreeMap<i32, i64>> {
        let next_offsets = self.next_offsets()?;
        let below =
            |(partition, offset): &Position| next_offsets.get(partition).is_some_and(|next| offset < next);
        let mut found = self.rows("logins")?;
        found.extend(self.rows("rejected")?.iter().filter(|position| below(position)));
        let wanted = input.iter().copied().filter(|position| below(position));
        each_once(wanted, found).with_context(|| format!("{}: rows of logins and rejected", self.folder))?;
        Ok(next_offsets)
    }
}
