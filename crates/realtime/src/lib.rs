//! The real-time path: consume, judge, enrich, publish; and what people see of it while it runs.
//!
//! - [`run`]: `realtime run`;
//! - [`insights`]: what each window of a run looks like, as a log line, a record and a file;
//! - [`live`]: the dashboard of what the whole group does;
//! - [`dead_letters`]: `realtime dead-letters`: list, show and replay what was rejected;
//! - [`index`]: `realtime index`: processed logins in OpenSearch;
//! - [`setup`]: arguments and configuration into what a run is told.

pub mod dead_letters;
pub mod index;
pub mod insights;
pub mod live;
pub mod run;
pub mod setup;

use std::sync::Arc;

use live::{LiveHandle, LiveSettings, PartitionLag};
use loginlake_kafka::KafkaSettings;
use loginlake_service::config::Topics;
use run::Progress;

/// The dashboard of a run: reads the output topics of `kafka`, and this instance's lag.
pub fn dashboard(kafka: &KafkaSettings, topics: &Topics, progress: &Progress) -> LiveHandle {
    let settings = LiveSettings {
        kafka: kafka.clone(),
        output_topic: topics.output.clone(),
        dead_letter_topic: topics.dead_letter.clone(),
    };
    let progress = progress.clone();
    let lag = move || {
        let lags = progress.totals().lag_records;
        lags.into_iter()
            .map(|(partition, records)| PartitionLag { partition, records })
            .collect::<Vec<_>>()
    };
    LiveHandle::new(settings, Arc::new(lag))
}
