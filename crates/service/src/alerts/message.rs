//! What a message says: JSON as Slack's incoming webhooks take it, and with them Mattermost, Rocket.Chat, Discord (at `/slack`) and
//! others. `text` is for people, the fields of the attachments are for programs.

use serde_json::{Value, json};

use crate::config::AlertName;

use super::conditions::time;
use super::debounce::Told;

/// Whose messages they are.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    /// `realtime`.
    pub service: &'static str,
    /// Host and port.
    pub instance: String,
}

/// Of which kind a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Firing,
    StillFiring,
    Resolved,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::StillFiring => "still firing",
            Self::Resolved => "resolved",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Self::Firing | Self::StillFiring => "danger",
            Self::Resolved => "good",
        }
    }
}

/// One message about one alert.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub alert: AlertName,
    pub status: Status,
    /// What is wrong, or for how long it was.
    pub detail: String,
    sender: Sender,
    epoch_s: i64,
}

impl Message {
    pub fn new(alert: AlertName, told: Told, sender: &Sender, epoch_s: i64) -> Self {
        let (status, detail) = match told {
            Told::Firing { detail, since } => (Status::Firing, with_time(&detail, since.as_secs_f64())),
            Told::StillFiring { detail, since } => {
                (Status::StillFiring, with_time(&detail, since.as_secs_f64()))
            }
            Told::Resolved { since } => (
                Status::Resolved,
                format!("it was so for {}", time(since.as_secs_f64())),
            ),
        };
        Self {
            alert,
            status,
            detail,
            sender: sender.clone(),
            epoch_s,
        }
    }

    fn text(&self) -> String {
        let Sender { service, instance } = &self.sender;
        let (status, alert, detail) = (self.status.as_str(), self.alert.as_str(), &self.detail);
        escaped(&format!(
            "loginlake {service} at {instance}: {alert} {status}: {detail}"
        ))
    }

    fn attachment(&self) -> Value {
        let field =
            |title: &str, value: &str| json!({"title": title, "value": escaped(value), "short": true});
        let mut fields = vec![
            field("alert", self.alert.as_str()),
            field("status", self.status.as_str()),
            field("service", self.sender.service),
            field("instance", &self.sender.instance),
        ];
        if self.status != Status::Resolved {
            let text = escaped(first_look(self.alert));
            fields.push(json!({"title": "first look", "value": text, "short": false}));
        }
        json!({
            "color": self.status.colour(),
            "fallback": self.text(),
            "fields": fields,
            "ts": self.epoch_s,
        })
    }
}

/// Where somebody who was woken by it begins, as docs/OPERATIONS.md has it.
const fn first_look(alert: AlertName) -> &'static str {
    match alert {
        AlertName::Lag => "/health/ready; then more instances, or a slow broker, store or OpenSearch",
        AlertName::DeadLetterShare => "`realtime dead-letters list`: which reason, since when",
        AlertName::PublishDelay => "retries and throttling in /metrics; then the brokers",
        AlertName::CommitDelay => {
            "ingest_retries_total and ingest_commit_seconds in /metrics; then the store's latency"
        }
        AlertName::CompactionDebt => {
            "more --jobs, --threads or memory for `olap maintain`; larger batches of `olap ingest`"
        }
        AlertName::NoData => "does anything come into the topic? /health/ready, and the lag in /metrics",
        AlertName::NotReady => "/health/ready says what it waits for, the log since when",
    }
}

/// One body for all of them.
pub(super) fn body(messages: &[Message]) -> Vec<u8> {
    let lines: Vec<String> = messages.iter().map(Message::text).collect();
    let attachments: Vec<Value> = messages.iter().map(Message::attachment).collect();
    json!({"text": lines.join("\n"), "attachments": attachments})
        .to_string()
        .into_bytes()
}

fn with_time(detail: &str, seconds: f64) -> String {
    if seconds < 1.0 {
        detail.to_owned()
    } else {
        format!("{detail} (for {})", time(seconds))
    }
}

/// Slack takes these three for markup; a reason may hold what somebody else wrote.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn message(told: Told) -> Message {
        let sender = Sender {
            service: "ingest",
            instance: "host-1:8081".to_owned(),
        };
        Message::new(AlertName::NotReady, told, &sender, 1_720_576_825)
    }

    #[test]
    fn a_message_is_for_people_and_for_programs() {
        let told = Told::Firing {
            detail: "lake: <!channel> a & b\n\u{1b}[31m".to_owned(),
            since: Duration::from_secs(300),
        };
        let resolved = Told::Resolved {
            since: Duration::from_secs(600),
        };
        let body: Value = serde_json::from_slice(&body(&[message(told), message(resolved)])).expect("JSON");
        assert_eq!(
            body["text"],
            "loginlake ingest at host-1:8081: not-ready firing: lake: &lt;!channel&gt; a &amp; b  [31m (for 5 min)\n\
             loginlake ingest at host-1:8081: not-ready resolved: it was so for 10 min"
        );
        let attachments = body["attachments"].as_array().expect("attachments");
        assert_eq!(attachments.len(), 2);
        assert_eq!(attachments[0]["color"], "danger");
        assert_eq!(attachments[1]["color"], "good");
        assert_eq!(attachments[0]["ts"], 1_720_576_825);
        let last = &attachments[0]["fields"][4];
        assert_eq!(last["title"], "first look");
        assert!(
            last["value"]
                .as_str()
                .is_some_and(|text| text.contains("/health/ready"))
        );
        let fields: Vec<_> = attachments[1]["fields"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|field| (field["title"].as_str(), field["value"].as_str()))
            .collect();
        let expected = [
            (Some("alert"), Some("not-ready")),
            (Some("status"), Some("resolved")),
            (Some("service"), Some("ingest")),
            (Some("instance"), Some("host-1:8081")),
        ];
        assert_eq!(fields, expected);
    }
}
