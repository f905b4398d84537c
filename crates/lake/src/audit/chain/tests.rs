//! Logs that are in order, and one of each kind that is not: what is found, and where.

use serde_json::{Value, json};

use super::super::log::LoggedFile;
use super::*;

const APP: &str = "loginlake/user-login/A/0";

/// A log that grows by one commit at a time.
struct Log {
    chain: Chain,
    version: i64,
}

impl Log {
    fn begun() -> Self {
        let mut log = Self {
            chain: Chain::new(TableName::Logins),
            version: -1,
        };
        log.push("CREATE TABLE", Value::Null, &[], &[], &[]);
        log.push(
            "STREAMING UPDATE",
            json!({"kind": "bootstrap"}),
            &[(APP, 0)],
            &[],
            &[],
        );
        log
    }

    fn push(
        &mut self,
        operation: &str,
        info: Value,
        transactions: &[(&str, i64)],
        adds: &[(&str, u64)],
        removes: &[&str],
    ) {
        self.version += 1;
        let ours = info != Value::Null;
        self.chain.commit(&AuditedCommit {
            version: self.version,
            operation: operation.to_owned(),
            batch_id: ours.then(|| format!("batch {}", self.version)),
            info,
            transactions: transactions
                .iter()
                .map(|(app, to)| ((*app).to_owned(), *to))
                .collect(),
            adds: adds
                .iter()
                .map(|(path, rows)| LoggedFile {
                    path: (*path).to_owned(),
                    rows: Some(*rows),
                })
                .collect(),
            removes: removes.iter().map(|path| (*path).to_owned()).collect(),
            changes_data: operation != "OPTIMIZE",
        });
    }

    fn ingest(&mut self, from: i64, to: i64, file: &str, rows: u64) {
        let info = json!({"kind": "ingest", "rows": rows, "offsets": [[0, from, to]]});
        self.push("STREAMING UPDATE", info, &[(APP, to)], &[(file, rows)], &[]);
    }

    fn found(self) -> Vec<What> {
        let files: Vec<String> = self.chain.live.keys().cloned().collect();
        let transactions = self.chain.transactions.clone();
        let (_, findings) = self.chain.finish(&transactions, files.iter().map(String::as_str));
        findings.iter().map(|finding| finding.what).collect()
    }
}

fn compaction(rows: u64) -> Value {
    json!({"kind": "compaction", "rows": rows, "sum": "0a", "xor": "0b"})
}

#[test]
fn a_log_that_adds_up_is_clean_and_says_where_it_stands() {
    let mut log = Log::begun();
    log.ingest(0, 5, "a", 5);
    log.ingest(5, 9, "b", 3);
    log.push(
        "OPTIMIZE",
        compaction(8),
        &[("loginlake/maintenance/d", 1)],
        &[("c", 8)],
        &["a", "b"],
    );
    let erasure = json!({"kind": "erasure", "rows": 6, "rowsRemoved": 8, "erased": [
        {"kafkaPartition": 0, "rows": 2, "sum": "ff", "xor": "01"}]});
    log.push(
        "DELETE",
        erasure.clone(),
        &[("loginlake/maintenance/d", 2)],
        &[("d", 6)],
        &["c"],
    );
    log.push("ACCEPT GAP", json!({"kind": "gap"}), &[(APP, 20)], &[], &[]);
    let transactions = log.chain.transactions.clone();
    let (facts, findings) = log.chain.finish(&transactions, ["d"].into_iter());
    assert_eq!(findings, []);
    assert_eq!(
        (facts.sources[&0][0].from, facts.sources[&0][0].to),
        (Some(0), Some(20))
    );
    assert_eq!(facts.gaps[&0], [(APP.to_owned(), 9, 20)]);
    let taken = Fingerprint {
        rows: 2,
        sum: 255,
        xor: 1,
    };
    assert_eq!(facts.erased[&0], taken);
    assert_eq!(facts.compactions, [], "its file was replaced by the erasure");
}

#[test]
fn every_kind_of_damage_to_the_log_is_found() {
    let mut log = Log::begun();
    log.ingest(0, 5, "a", 5);
    log.ingest(4, 9, "b", 5);
    assert_eq!(log.found(), [What::OffsetsBroken], "overlaps the one before");

    let mut log = Log::begun();
    log.ingest(0, 5, "a", 5);
    log.push(
        "STREAMING UPDATE",
        json!({"kind": "ingest", "rows": 0, "offsets": [[0, 5, 3]]}),
        &[(APP, 3)],
        &[],
        &[],
    );
    assert_eq!(log.found(), [What::OffsetsBroken], "went back");

    let mut log = Log::begun();
    log.ingest(0, 5, "a", 5);
    log.push("OPTIMIZE", compaction(5), &[], &[("b", 4)], &["a"]);
    assert_eq!(
        log.found(),
        [What::CompactionChangedRows; 2],
        "by the files, and by what it says"
    );

    let mut log = Log::begun();
    log.ingest(0, 5, "a", 5);
    log.push("DELETE", Value::Null, &[], &[("b", 4)], &["a"]);
    assert_eq!(log.found(), [What::Unaudited], "a row went without an erasure");

    let mut log = Log::begun();
    log.push("WRITE", Value::Null, &[], &[("x", 4)], &[]);
    assert_eq!(log.found(), [What::Unaudited], "rows from elsewhere");

    let mut log = Log::begun();
    log.push(
        "WRITE",
        json!({"kind": "ingest", "rows": 3, "offsets": []}),
        &[],
        &[("x", 4)],
        &[],
    );
    assert_eq!(log.found(), [What::RowsDoNotAddUp]);

    let mut log = Log::begun();
    log.ingest(0, 5, "a", 5);
    let transactions = log.chain.transactions.clone();
    let (_, findings) = log.chain.finish(&transactions, ["b"].into_iter());
    assert_eq!(findings.len(), 2, "{findings:?}");

    let mut log = Log::begun();
    log.ingest(0, 5, "a", 5);
    log.version -= 1;
    log.ingest(5, 6, "b", 1);
    let found = log.found();
    assert!(found.contains(&What::BatchTwice), "{found:?}");
}

#[test]
fn a_restore_goes_back_and_undoes_what_came_between() {
    let mut log = Log::begun();
    log.ingest(0, 5, "a", 5);
    let erasure = json!({"kind": "erasure", "rows": 4, "rowsRemoved": 5, "erased": [
        {"kafkaPartition": 0, "rows": 1, "sum": "01", "xor": "01"}]});
    log.push("DELETE", erasure, &[], &[("b", 4)], &["a"]);
    log.push(
        "RESTORE",
        json!({"kind": "restore", "toVersion": 2}),
        &[(APP, 5)],
        &[("a", 5)],
        &["b"],
    );
    log.ingest(5, 7, "c", 2);
    let transactions = log.chain.transactions.clone();
    let (facts, findings) = log.chain.finish(&transactions, ["a", "c"].into_iter());
    assert_eq!(findings, []);
    assert!(facts.erased.is_empty());
}

#[test]
fn other_software_may_compact_but_not_move_offsets() {
    let mut log = Log::begun();
    log.ingest(0, 5, "a", 5);
    log.push("OPTIMIZE", Value::Null, &[], &[("b", 5)], &["a"]);
    assert_eq!(log.found(), []);
    let mut log = Log::begun();
    log.ingest(0, 5, "a", 5);
    log.push("UPDATE", Value::Null, &[], &[("b", 5)], &["a"]);
    assert_eq!(log.found(), [What::Unaudited], "as many rows, and others");
    let mut log = Log::begun();
    log.push("WRITE", Value::Null, &[(APP, 7)], &[], &[]);
    assert_eq!(log.found(), [What::OffsetsBroken]);
}

#[test]
fn application_ids_of_other_kinds_are_no_kafka_partitions() {
    assert_eq!(kafka_partition("loginlake/user-login/A/12"), Some(12));
    assert_eq!(
        kafka_partition("loginlake/maintenance/login_date=2026-01-05/login_hour=3"),
        None
    );
    assert_eq!(kafka_partition("loginlake/hourly/logins-version"), None);
    assert_eq!(kafka_partition("loginlake/user-login/A/begins-at-ms"), None);
    assert_eq!(kafka_partition("other/a/b/1"), None);
}
