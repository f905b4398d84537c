//! Names and meanings of the metrics of alerts. Labels come from closed sets.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::config::AlertName;
use crate::metrics::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlertLabels {
    alert: &'static str,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// The metrics of one process's alerts; clones share them.
#[derive(Clone, Debug)]
pub(super) struct AlertMetrics {
    firing: Family<AlertLabels, Gauge>,
    messages: Family<OutcomeLabels, Counter>,
    retries: Counter,
}

impl AlertMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let new = Self {
            firing: Family::default(),
            messages: Family::default(),
            retries: Counter::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "alerts_firing",
                "1 while an alert is firing, by alert",
                new.firing.clone(),
            );
            registry.register(
                "alerts_messages",
                "Messages to the webhook, by what became of them",
                new.messages.clone(),
            );
            registry.register(
                "alerts_retries",
                "Calls of the webhook that failed and are tried again",
                new.retries.clone(),
            );
        });
        for outcome in ["delivered", "lost"] {
            drop(new.messages.get_or_create(&OutcomeLabels { outcome }));
        }
        new
    }

    pub fn firing(&self, alert: AlertName, is_firing: bool) {
        let labels = AlertLabels {
            alert: alert.as_str(),
        };
        self.firing.get_or_create(&labels).set(i64::from(is_firing));
    }

    pub fn delivered(&self, messages: usize) {
        self.count("delivered", messages);
    }

    pub fn lost(&self, messages: usize) {
        self.count("lost", messages);
    }

    pub fn retried(&self) {
        self.retries.inc();
    }

    fn count(&self, outcome: &'static str, messages: usize) {
        self.messages
            .get_or_create(&OutcomeLabels { outcome })
            .inc_by(messages as u64);
    }
}
