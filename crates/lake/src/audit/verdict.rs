//! What of the differences is wrong, once audited erasures, accepted gaps and the topics' own ways are taken off.

use super::contents::columns;
use super::positions::Difference;
use super::report::{AuditReport, Finding, HourDifference, MAX_RANGES, What};
use super::run::Audit;
use super::side::{HOUR_MS, MAX_HOURS, Side};
use super::window::Output;
use crate::compact::Fingerprint;
use crate::table::TableName;

impl Audit {
    /// Ends the audit: what is wrong.
    pub fn report(mut self) -> AuditReport {
        self.judge_compactions();
        let sides = std::mem::take(&mut self.sides);
        let changed = self.changed_columns(&sides.values().collect::<Vec<_>>());
        for (partition, mut side) in sides {
            let before = self.report.findings.len();
            self.judge_rows(partition, &side);
            self.judge_lacking(partition, &side);
            self.judge_extra(partition, &side);
            self.judge_differing(partition, &side, &changed);
            if self.speed_path.is_some() {
                self.judge_published(partition, &mut side);
            }
            if side.found.other_dates > 0
                && let Some(date) = self.only_date()
            {
                self.report.note(format!(
                    "partition {partition}: the lake holds the logins of {date} only; {} records are of other dates",
                    side.found.other_dates
                ));
            }
            if side.summary.topic.is_some() {
                let (from, to) = side.compared;
                side.input.from = from;
                side.input.to = to.max(from);
                side.summary.topic = Some(side.input.records.rows);
                side.summary.input = Some(side.input);
                self.judge_hours(partition, before, &side);
            }
            side.summary.logins = side.found.logins;
            side.summary.rejected = side.found.rejected;
            side.summary.sum = format!("{:016x}", side.found.sum.sum);
            side.summary.hours = side.found.hours.len() as u64;
            self.report.partitions.push(side.summary);
        }
        if self.hours >= MAX_HOURS {
            self.report.note(format!(
                "the records are of more than {MAX_HOURS} hours: those beyond are not compared hour by hour"
            ));
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
        for (table, above) in &side.found.above {
            let detail = format!(
                "not below {}, the next offset that is committed",
                match table {
                    TableName::Rejected => side.rejected_end,
                    _ => side.logins_end,
                }
            );
            let mut finding = Finding::new(What::AboveCommitted, detail)
                .in_table(table.as_str())
                .at(partition, &above.ranges());
            finding.count = above.count;
            self.report.found(finding);
        }
        let misplaced = &side.found.misplaced;
        if misplaced.count > 0 {
            let detail = "in another table partition than its event_time says";
            let mut finding = Finding::new(What::RowMisplaced, detail)
                .in_table(TableName::Logins.as_str())
                .at(partition, &misplaced.ranges());
            finding.count = misplaced.count;
            self.report.found(finding);
        }
    }

    /// Records of the topic that the tables do not have, less what was erased.
    fn judge_lacking(&mut self, partition: i32, side: &Side) {
        let Some(detail) = self.unexplained(partition, &side.lacking, side, side.cut_off) else {
            return;
        };
        let detail = format!("in the topic, and neither in logins nor in rejected{detail}");
        let finding = Finding::new(What::RowMissing, detail).at(partition, &side.lacking.ranges);
        self.report.found(finding);
    }

    /// `None`: nothing is wrong with these. Otherwise what is to be said of erasures. `cut_off`: records that were erased may be
    /// gone from the topic as well.
    fn unexplained(
        &mut self,
        partition: i32,
        difference: &Difference,
        side: &Side,
        cut_off: bool,
    ) -> Option<String> {
        let (missing, erased) = (difference.fingerprint, side.erased);
        if missing.rows == 0 || missing == erased {
            return None;
        }
        if erased.rows == 0 {
            return Some(String::new());
        }
        if cut_off && missing.rows <= erased.rows {
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

    fn judge_extra(&mut self, partition: i32, side: &Side) {
        if side.extra.ranges.is_empty() {
            return;
        }
        let count = side.extra.ranges.offsets;
        if self.topic.as_ref().is_some_and(|topic| topic.compacted) {
            self.report.note(format!(
                "partition {partition}: {count} rows have no record in the topic any more, which is compacted"
            ));
        } else if side.ends.len() > 1 {
            self.report.note(format!(
                "partition {partition}: {count} rows have no record in the topic; they are of an earlier incarnation, or wrong"
            ));
        } else {
            let detail = match self.only_date() {
                Some(date) => format!("in the tables, and in the topic no login of {date} and not rejected"),
                None => "in the tables, and not in the topic".to_owned(),
            };
            let finding = Finding::new(What::RowExtra, detail).at(partition, &side.extra.ranges);
            self.report.found(finding);
        }
    }

    /// The columns that rows and records differ in, if that can be told: by sums, which only say it when every row has its
    /// record.
    fn changed_columns(&self, sides: &[&Side]) -> Vec<String> {
        let all_paired = sides.iter().all(|side| {
            side.lacking.ranges.is_empty() && side.extra.ranges.is_empty() && side.too_often.is_empty()
        });
        if !all_paired {
            return Vec::new();
        }
        let of_table = |(table, sums): &(TableName, Vec<u64>)| {
            let columns = columns(*table).into_iter().zip(sums.clone());
            let changed = columns.filter(|(_, sum)| *sum != 0);
            changed
                .map(|(field, _)| format!("{table}.{}", field.name()))
                .collect::<Vec<_>>()
        };
        self.columns.iter().flat_map(of_table).collect()
    }

    fn judge_differing(&mut self, partition: i32, side: &Side, changed: &[String]) {
        if side.differing.is_empty() {
            return;
        }
        let columns = match changed {
            [] => String::new(),
            changed => format!(" in {}", changed.join(", ")),
        };
        let mut detail = format!("the row says something else than its record{columns}");
        if side.differing.offsets == side.input.rows.rows {
            detail.push_str(
                "; that all rows do means rather that this audit has other settings of the event contract (regions, pseudonyms, \
                 masks, schema registry) than ingestion had",
            );
        }
        let finding = Finding::new(What::RowDiffers, detail).at(partition, &side.differing);
        self.report.found(finding);
    }

    fn judge_published(&mut self, partition: i32, side: &mut Side) {
        let Some(path) = self.speed_path.clone() else {
            return;
        };
        let judged = side.judged.both();
        side.speed_path.from = judged.0;
        side.speed_path.to = judged.1;
        side.summary.speed_path = Some(side.speed_path);
        if side.ends.len() > 1 {
            self.report.note(format!(
                "partition {partition}: the topic was made again, and what was published does not say of which incarnation it is: not compared"
            ));
            return;
        }
        self.note_what_is_not_judged(partition, side);
        let cut = |output| path.facts(output).bounds.values().any(|(low, _)| *low > 0);
        if self.only_date().is_none()
            && let Some(detail) = self.unexplained(
                partition,
                &side.published_extra,
                side,
                cut(Output::Processed) || cut(Output::DeadLetters),
            )
        {
            let detail = format!("published, and neither in logins nor in rejected{detail}");
            let finding =
                Finding::new(What::PublishedExtra, detail).at(partition, &side.published_extra.ranges);
            self.report.found(finding);
        }
        if !side.published_twice.is_empty() && !path.at_least_once {
            let detail =
                "published more often than once; --guarantee at-least-once when the speed path may repeat";
            let finding = Finding::new(What::PublishedTwice, detail).at(partition, &side.published_twice);
            self.report.found(finding);
        }
        let lacking = &side.not_processed.ranges;
        if !lacking.is_empty() && path.filtered {
            self.report.note(format!(
                "partition {partition}: {} logins were not published; the speed path filters",
                lacking.offsets
            ));
        } else if !lacking.is_empty() {
            let detail =
                "in logins, and neither processed nor a dead letter; --filtered when the speed path filters";
            let finding = Finding::new(What::NotPublished, detail)
                .in_table(TableName::Logins.as_str())
                .at(partition, lacking);
            self.report.found(finding);
        }
        let lacking = &side.not_dead_lettered.ranges;
        if !lacking.is_empty() {
            let detail = "in rejected, and no dead letter";
            let finding = Finding::new(What::NotPublished, detail)
                .in_table(TableName::Rejected.as_str())
                .at(partition, lacking);
            self.report.found(finding);
        }
    }

    fn note_what_is_not_judged(&mut self, partition: i32, side: &Side) {
        let began = side.from.unwrap_or(0);
        let least = self.spans.least(partition);
        for (table, (from, to)) in [("logins", side.judged.logins), ("rejected", side.judged.rejected)] {
            if from > began && from < to {
                self.report.note(format!(
                    "partition {partition}: what was published of {table} is compared from {from} on; the topics have not all of what was \
                     before"
                ));
            } else if from >= to && side.summary.next_offset > began {
                let why = match least {
                    Some(_) => "the topics have not all of it any more",
                    None => "nothing of it was published",
                };
                self.report.note(format!(
                    "partition {partition}: what was published of {table} is not compared; {why}"
                ));
            }
        }
    }

    /// Hours whose rows are not the topic's records. When rows are missing or too many this says when they were.
    fn judge_hours(&mut self, partition: i32, findings_before: usize, side: &Side) {
        if side.ends.len() != 1 || side.erased.rows > 0 || !side.gaps.is_empty() {
            return;
        }
        let compacted = self.topic.as_ref().is_some_and(|topic| topic.compacted);
        let mut differing = 0_u64;
        let mut first = Vec::new();
        for (hour, of_hour) in &side.found.hours {
            let (rows, records) = (of_hour.rows, of_hour.records);
            let fewer_records = compacted && records.rows <= rows.rows;
            if rows == records || fewer_records {
                continue;
            }
            differing += 1;
            let time = chrono::DateTime::from_timestamp_millis(hour * HOUR_MS).unwrap_or_default();
            if first.len() < MAX_RANGES {
                first.push(format!(
                    "{}: {} rows for {} records",
                    time.format("%Y-%m-%dT%HZ"),
                    rows.rows,
                    records.rows
                ));
            }
            self.report.hour_differs(HourDifference {
                kafka_partition: partition,
                hour: time.format("%Y-%m-%dT%H:00:00Z").to_string(),
                records: records.rows,
                logins: rows.rows - of_hour.rejected,
                rejected: of_hour.rejected,
                records_sum: format!("{:016x}", records.sum),
                rows_sum: format!("{:016x}", rows.sum),
            });
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
