//! The numbers of this process that alerts are about, taken from its own metrics: so they are the ones that Prometheus would see,
//! and no path of a record knows of them. A name that is not there yet is a number that is not known.

use crate::health::HealthReport;

/// One look at the process.
#[derive(Debug, Default)]
pub(super) struct Readings {
    /// Age of the oldest record that waits, seconds; the worst partition.
    pub lag_seconds: Option<f64>,
    /// Records that wait, all partitions.
    pub lag_records: Option<f64>,
    /// Records that were handled so far.
    pub records: f64,
    /// Those of them that were rejected.
    pub dead_letters: f64,
    /// Seconds from the broker to the processed topic, of all records so far.
    pub publish_delay: Buckets,
    /// Seconds from the broker to the lake, of all records so far.
    pub commit_delay: Buckets,
    /// Bytes that wait for compaction, all tables.
    pub debt_bytes: Option<f64>,
    /// The service's own limit on them.
    pub debt_limit_bytes: Option<f64>,
    /// Which components are ready.
    pub health: HealthReport,
}

/// Upper bounds in seconds, and how many records are at or below each: as a histogram of Prometheus has them.
pub(super) type Buckets = Vec<(f64, f64)>;

/// Names of metrics, as `/metrics` shows them.
pub(super) mod names {
    pub const REALTIME_LAG: &str = "realtime_lag_seconds";
    pub const INGEST_LAG: &str = "ingest_lag_records";
    pub const INDEX_LAG: &str = "index_lag_records";
    pub const REALTIME_RECORDS: &str = "realtime_records_total";
    pub const REALTIME_DEAD: &str = "realtime_dead_letters_total";
    pub const INGEST_ROWS: &str = "ingest_logins_rows_total";
    pub const INGEST_REJECTED: &str = "ingest_rejected_rows_total";
    pub const INDEX_RECORDS: &str = "index_records_total";
    pub const INDEX_DEAD: &str = "index_dead_letters_total";
    pub const PUBLISH_DELAY: &str = "realtime_publish_delay_seconds_bucket";
    pub const COMMIT_DELAY: &str = "logins_commit_delay_seconds_bucket";
    pub const DEBT: &str = "maintain_compaction_debt_bytes";
    pub const DEBT_LIMIT: &str = "maintain_compaction_debt_limit_bytes";
}

impl Readings {
    /// Reads what [`crate::metrics::Metrics::encode`] wrote.
    pub fn of(metrics: &str, health: HealthReport) -> Self {
        let mut found = Self {
            health,
            ..Self::default()
        };
        for line in metrics.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, labels, value)) = sample(line) {
                found.take(name, labels, value);
            }
        }
        found
    }

    fn take(&mut self, name: &str, labels: &str, value: f64) {
        let sum = |all: &mut Option<f64>| *all = Some(all.unwrap_or(0.0) + value);
        match name {
            names::REALTIME_LAG => {
                self.lag_seconds = Some(self.lag_seconds.map_or(value, |worst| worst.max(value)));
            }
            names::INGEST_LAG | names::INDEX_LAG => sum(&mut self.lag_records),
            names::REALTIME_RECORDS | names::INGEST_ROWS | names::INDEX_RECORDS => self.records += value,
            names::INGEST_REJECTED => {
                self.records += value;
                self.dead_letters += value;
            }
            names::REALTIME_DEAD | names::INDEX_DEAD => self.dead_letters += value,
            names::PUBLISH_DELAY => self.publish_delay.extend(bucket(labels, value)),
            names::COMMIT_DELAY => self.commit_delay.extend(bucket(labels, value)),
            names::DEBT => sum(&mut self.debt_bytes),
            names::DEBT_LIMIT => self.debt_limit_bytes = Some(value),
            _ => {}
        }
    }
}

/// `name{labels} value` or `name value`. No label of ours has a space in the places where these are looked for.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some((name, labels, value.parse().ok()?))
}

fn bucket(labels: &str, count: f64) -> Option<(f64, f64)> {
    let (_, bound) = labels.split_once("le=\"")?;
    let (bound, _) = bound.split_once('"')?;
    // `+Inf` is a number to Rust, too.
    Some((bound.parse().ok()?, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_each_service_are_found() {
        let text = "# HELP realtime_lag_seconds x\n# TYPE realtime_lag_seconds gauge\n\
            realtime_lag_seconds{partition=\"0\"} 1.5\nrealtime_lag_seconds{partition=\"1\"} 40\n\
            realtime_lag_records{partition=\"1\"} 7\n\
            realtime_records_total{outcome=\"processed\"} 90\nrealtime_records_total{outcome=\"dead_letter\"} 10\n\
            realtime_dead_letters_total{reason=\"BAD_IP\"} 10\n\
            realtime_publish_delay_seconds_bucket{le=\"0.5\"} 4\nrealtime_publish_delay_seconds_bucket{le=\"+Inf\"} 9\n\
            maintain_compaction_debt_bytes{table=\"logins\"} 5\nmaintain_compaction_debt_bytes{table=\"rejected\"} 6\n\
            maintain_compaction_debt_limit_bytes 100\n# EOF\n";
        let found = Readings::of(text, HealthReport::default());
        assert_eq!((found.lag_seconds, found.lag_records), (Some(40.0), None));
        assert_eq!((found.records, found.dead_letters), (100.0, 10.0));
        assert_eq!(found.publish_delay, [(0.5, 4.0), (f64::INFINITY, 9.0)]);
        assert_eq!(
            (found.debt_bytes, found.debt_limit_bytes),
            (Some(11.0), Some(100.0))
        );
        let text = "ingest_lag_records{partition=\"0\"} 3\ningest_lag_records{partition=\"1\"} 4\n\
            ingest_logins_rows_total 30\ningest_rejected_rows_total{reason=\"BAD_IP\"} 2\n";
        let found = Readings::of(text, HealthReport::default());
        assert_eq!(
            (found.lag_records, found.records, found.dead_letters),
            (Some(7.0), 32.0, 2.0)
        );
    }

    /// A scenario compares the names in the rules and panels with what services show. So these have to be among them.
    #[test]
    fn the_names_are_those_of_the_rules_and_panels() {
        let rules = concat!(
            include_str!("../../../../deploy/prometheus/alerts.yml"),
            include_str!("../../../../deploy/prometheus/recording.yml"),
            include_str!("../../../../deploy/grafana/dashboards/loginlake.json")
        );
        for name in [
            names::REALTIME_LAG,
            names::INGEST_LAG,
            names::INDEX_LAG,
            names::REALTIME_RECORDS,
            names::REALTIME_DEAD,
            names::INGEST_ROWS,
            names::INGEST_REJECTED,
            names::INDEX_RECORDS,
            names::INDEX_DEAD,
            names::PUBLISH_DELAY,
            names::COMMIT_DELAY,
            names::DEBT,
            names::DEBT_LIMIT,
        ] {
            assert!(rules.contains(name), "{name}");
        }
    }

    #[test]
    fn what_is_no_sample_is_left_out() {
        let text = "\nrealtime_lag_seconds\nrealtime_lag_seconds{} many\n{} 1\nx{le=\"1\n";
        let found = Readings::of(text, HealthReport::default());
        assert_eq!(found.lag_seconds, None);
    }
}
