//! What an operator does to a broker: topics and their limits, rights and quotas of our services' user.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::kafka::{APP_USER, Kafka, READ_LIMIT, java};
use crate::progress::Progress;
use crate::wait::wait_for;

impl Kafka {
    fn admin(&self) -> Result<(AdminClient<DefaultClientContext>, AdminOptions)> {
        let options = AdminOptions::new().operation_timeout(Some(READ_LIMIT));
        Ok((self.client().create()?, options))
    }

    /// Makes a topic with `partitions` partitions, and waits until the broker serves it.
    ///
    /// # Errors
    /// When the broker refuses, or the topic exists.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.create_topic_with(name, partitions, 1, &[])
    }

    /// The same with another number of replicas and with settings of the topic.
    ///
    /// # Errors
    /// As [`Kafka::create_topic`].
    pub fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        replicas: i32,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let (admin, options) = self.admin()?;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        let topic = settings
            .iter()
            .fold(topic, |topic, (key, value)| topic.set(key, value));
        let results = futures::executor::block_on(admin.create_topics(&[topic], &options))?;
        for result in results {
            result.map_err(|(topic, code)| anyhow::anyhow!("cannot make topic {topic}: {code}"))?;
        }
        // The controller answers before a broker that is busy knows of it.
        let probe: BaseConsumer = self.client().create()?;
        let wanted = usize::try_from(partitions)?;
        wait_for(&format!("topic {name} to be served"), READ_LIMIT, || {
            let Ok(metadata) = probe.fetch_metadata(Some(name), READ_LIMIT) else {
                return Ok(None);
            };
            let found = metadata.topics().first().map(|topic| topic.partitions());
            let is_served = found.is_some_and(|partitions| {
                partitions.len() == wanted
                    && partitions
                        .iter()
                        .all(|partition| partition.error().is_none() && partition.leader() >= 0)
            });
            Ok(is_served.then_some(()))
        })
    }

    /// The number of a topic's partitions; 0 when there is no such topic.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn partitions(&self, topic: &str) -> Result<usize> {
        let probe: BaseConsumer = self.client().create()?;
        let metadata = probe.fetch_metadata(Some(topic), READ_LIMIT)?;
        Ok(metadata
            .topics()
            .first()
            .map(|topic| topic.partitions().len())
            .unwrap_or_default())
    }

    /// The offsets that a consumer group has committed for a topic, by partition.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn committed_offsets(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
        Progress::watch(self, topic, group)?.committed()
    }

    /// Gives a topic these settings, and its other ones their defaults.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn set_topic(&self, topic: &str, settings: &[(&str, &str)]) -> Result<()> {
        let (admin, options) = self.admin()?;
        let config = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let config = settings
            .iter()
            .fold(config, |config, (key, value)| config.set(key, value));
        let results = futures::executor::block_on(admin.alter_configs([&config], &options))?;
        for result in results {
            result.map_err(|(_, code)| anyhow::anyhow!("cannot set {settings:?} of {topic}: {code}"))?;
        }
        Ok(())
    }

    /// Our services may only read this topic from now on (guarded brokers).
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn make_read_only(&self, topic: &str) -> Result<()> {
        let user = format!("User:{APP_USER}");
        self.tool(
            "org.apache.kafka.tools.AclCommand",
            &[
                "--add",
                "--allow-principal",
                &user,
                "--operation",
                "Read",
                "--topic",
                topic,
            ],
        )
    }

    /// Our services may not be members of this group from now on (guarded brokers).
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn forbid_group(&self, group: &str) -> Result<()> {
        let user = format!("User:{APP_USER}");
        self.tool(
            "org.apache.kafka.tools.AclCommand",
            &[
                "--add",
                "--deny-principal",
                &user,
                "--operation",
                "Read",
                "--group",
                group,
            ],
        )
    }

    /// They may do anything with it again.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn make_writable(&self, topic: &str) -> Result<()> {
        self.tool(
            "org.apache.kafka.tools.AclCommand",
            &["--remove", "--force", "--topic", topic],
        )
    }

    /// Our services may produce so many bytes a second from now on (guarded brokers).
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn set_quota(&self, bytes_per_second: u32) -> Result<()> {
        let limit = format!("producer_byte_rate={bytes_per_second}");
        self.quota(&["--add-config", &limit])
    }

    /// They may produce as they like again.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn lift_quota(&self) -> Result<()> {
        self.quota(&["--delete-config", "producer_byte_rate"])
    }

    fn quota(&self, change: &[&str]) -> Result<()> {
        let entity = ["--alter", "--entity-type", "users", "--entity-name", APP_USER];
        self.tool("kafka.admin.ConfigCommand", &[&entity, change].concat())
    }

    /// One of Kafka's own tools.
    fn tool(&self, class: &str, arguments: &[&str]) -> Result<()> {
        let mut command = java();
        command
            .args([class, "--bootstrap-server", &self.brokers()])
            .args(arguments);
        let output = command
            .stdin(Stdio::null())
            .output()
            .context("cannot start java")?;
        ensure!(
            output.status.success(),
            "{class} {arguments:?}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}
