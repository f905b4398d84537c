//! What of the differences is wrong, once audited erasures, accepted gaps and the topic's own ways are taken off.

use super::pass::{HOUR_MS, Side};
use super::positions::Difference;
use super::report::{AuditReport, Finding, What};
use super::run::Audit;
use crate::compact::Fingerprint;

impl Audit {
    /// Ends the audit: what is wrong.
    pub fn report(mut self) -> AuditReport {
        self.judge_compactions();
        let compacted = self.topic.as_ref().is_some_and(|topic| topic.compacted);
        let sides = std::mem::take(&mut self.sides);
        for (partition, mut side) in sides {
            let before = self.report.findings.len();
            self.judge_rows(partition, &side);
            self.judge_lacking(partition, &side);
            self.judge_extra(partition, &side, compacted);
            if self.options.published {
                self.judge_published(partition, &side);
            }
            let whole = self.tables.iter().all(|table| table.only_date.is_none());
            if whole
                && self.topic.is_some()
                && side.ends.len() == 1
                && side.erased.rows == 0
                && side.gaps.is_empty()
            {
                self.judge_hours(partition, before, compacted);
            }
            side.summary.sum = format!("{:016x}", side.sum.sum);
            self.report.partitions.push(side.summary);
        }
        self.report
    }

    /// Compactions whose files are all still there: their rows are those that were taken.
    fn judge_compactions(&mut self) {
        for (table, proof) in std::mem::take(&mut self.compactions) {
            let sums: Option<Vec<Fingerprint>> = proof
                .files
                .iter()
                .map(|path| self.file_sums.get(&(table, path.clone())).copied())
                .collect();
            // A file that could not be read is a finding already.
            let Some(sums) = sums else { continue };
            let mut left = Fingerprint::default();
            sums.into_iter().for_each(|sum| left.merge(sum));
            if left != proof.taken {
                let detail = format!("it took {}, and its files hold {left}", proof.taken);
                self.report.found(
                    Finding::new(What::CompactionChangedRows, detail)
                        .in_table(table.as_str())
                        .at_version(proof.version),
                );
            }
        }
    }

    fn judge_rows(&mut self, partition: i32, side: &Side) {
        if !side.too_often.is_empty() {
            let detail = match side.ends.len() {
                1 => "there more often than once".to_owned(),
                count => format!("there more often than the {count} incarnations of the topic allow"),
            };
            let finding = Finding::new(What::RowTwice, detail).at(partition, &side.too_often);
            self.report.found(finding);
        }
        for (table, above) in &side.above {
            let detail = format!(
                "not below {}, the next offset that is committed",
                match *table {
                    "rejected" => side.rejected_end,
                    _ => side.logins_end,
                }
            );
            let mut finding = Finding::new(What::AboveCommitted, detail)
                .in_table(table)
                .at(partition, &above.ranges());
            finding.count = above.count;
            self.report.found(finding);
        }
    }

    /// Records of the topic that the tables do not have, less what was erased.
    fn judge_lacking(&mut self, partition: i32, side: &Side) {
        let Some(detail) = self.unexplained(partition, &side.lacking, side) else {
            return;
        };
        let detail = format!("in the topic, and neither in logins nor in rejected{detail}");
        let finding = Finding::new(What::RowMissing, detail).at(partition, &side.lacking.ranges);
        self.report.found(finding);
    }

    /// `None`: nothing is wrong with these. Otherwise what is to be said of erasures.
    fn unexplained(&mut self, partition: i32, difference: &Difference, side: &Side) -> Option<String> {
        let (missing, erased) = (difference.fingerprint, side.erased);
        if missing.rows == 0 || missing == erased {
            return None;
        }
        if let Some(date) = self.tables.iter().find_map(|table| table.only_date) {
            self.report.note(format!(
                "partition {partition}: {} records are not in the tables; the lake holds the logins of {date} only",
                missing.rows
            ));
            return None;
        }
        if erased.rows == 0 {
            return Some(String::new());
        }
        if side.cut_off && missing.rows <= erased.rows {
            // Of what was erased a part is older than the topic's first record: which one, no sum tells.
            self.report.note(format!(
                "partition {partition}: {} rows are missing, {} were erased by audited erasures, and the topic does not go back to all of them",
                missing.rows, erased.rows
            ));
            return None;
        }
        Some(format!(
            "; {} rows were erased by audited erasures, and these are not just those",
            erased.rows
        ))
    }

    fn judge_extra(&mut self, partition: i32, side: &Side, compacted: bool) {
        if side.extra.ranges.is_empty() {
            return;
        }
        let count = side.extra.ranges.offsets;
        if compacted {
            self.report.note(format!(
                "partition {partition}: {count} rows have no record in the topic any more, which is compacted"
            ));
        } else if side.ends.len() > 1 {
            self.report.note(format!(
                "partition {partition}: {count} rows have no record in the topic; they are of an earlier incarnation, or wrong"
            ));
        } else {
            let detail = "in the tables, and not in the topic";
            let finding = Finding::new(What::RowExtra, detail).at(partition, &side.extra.ranges);
            self.report.found(finding);
        }
    }

    fn judge_published(&mut self, partition: i32, side: &Side) {
        if let Some(detail) = self.unexplained(partition, &side.published_extra, side) {
            let detail = format!("published, and neither in logins nor in rejected{detail}");
            let finding =
                Finding::new(What::PublishedExtra, detail).at(partition, &side.published_extra.ranges);
            self.report.found(finding);
        }
        let lacking = &side.not_published.ranges;
        if lacking.is_empty() {
            return;
        }
        if self.options.filtered {
            self.report.note(format!(
                "partition {partition}: {} rows were not published; the speed path filters",
                lacking.offsets
            ));
        } else {
            let detail = "in the tables, and neither processed nor dead letter; --filtered when the speed path filters";
            let finding = Finding::new(What::NotPublished, detail).at(partition, lacking);
            self.report.found(finding);
        }
    }

    /// Hours whose rows are not the topic's records. When rows are missing or too many this says when they were.
    fn judge_hours(&mut self, partition: i32, findings_before: usize, compacted: bool) {
        let mut differing = 0_u64;
        let mut first = Vec::new();
        for ((_, hour), (rows, records)) in self.hours.range((partition, i64::MIN)..=(partition, i64::MAX)) {
            let fewer_records = compacted && records.rows <= rows.rows;
            if rows != records && !fewer_records {
                differing += 1;
                if first.len() < super::report::MAX_RANGES {
                    let time = chrono::DateTime::from_timestamp_millis(hour * HOUR_MS).unwrap_or_default();
                    first.push(format!(
                        "{}: {} rows for {} records",
                        time.format("%Y-%m-%dT%HZ"),
                        rows.rows,
                        records.rows
                    ));
                }
            }
        }
        if differing == 0 {
            return;
        }
        let detail = format!("by the hour of the record: {}", first.join(", "));
        let mut finding = Finding::new(What::HourDiffers, detail);
        finding.kafka_partition = Some(partition);
        finding.count = differing;
        if findings_before == self.report.findings.len() {
            finding
                .detail
                .push_str("; the positions agree, so the times do not");
        }
        self.report.found(finding);
    }
}
