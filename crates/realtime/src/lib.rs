//! The real-time path: consume, judge, enrich, publish; and what people see of it while it runs.
//!
//! - [`run`]: `realtime run`;
//! - [`insights`]: what each window of a run looks like, as a log line, a record and a file;
//! - [`live`]: the dashboard of what the whole group does;
//! - [`dead_letters`]: `realtime dead-letters`: list, show and replay what was rejected;
//! - [`index`]: `realtime index`: processed logins in OpenSearch;
//! - [`check`]: `realtime check`: whether all of this would work;
//! - [`setup`]: arguments and configuration into what a run is told.

pub mod check;
pub mod dead_letters;
pub mod index;
pub mod insights;
pub mod live;
pub mod run;
pub mod setup;

use std::sync::Arc;

use live::{GroupSettings, LiveHandle, LiveSettings, OfGroup};
use loginlake_kafka::KafkaSettings;
use loginlake_service::config::Topics;
use run::Progress;

/// The dashboard of a run: what the whole group has written to the output topics of `output`, and what still waits for it in the
/// input topic of `input`.
pub fn dashboard(
    input: &KafkaSettings,
    output: &KafkaSettings,
    topics: &Topics,
    group_id: &str,
    progress: &Progress,
) -> LiveHandle {
    let settings = LiveSettings {
        kafka: output.clone(),
        output_topic: topics.output.clone(),
        dead_letter_topic: topics.dead_letter.clone(),
    };
    let group = GroupSettings {
        kafka: input.clone(),
        topic: topics.input.clone(),
        group_id: group_id.to_owned(),
    };
    LiveHandle::new(settings, Arc::new(OfGroup::new(group, progress.clone())))
}
