//! Makes and removes the topics of a benchmark, and waits until the broker serves new ones.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::{Parser, Subcommand};
use futures::executor::block_on;
use loginlake_bench::backlog::ANSWER_LIMIT;
use loginlake_bench::config;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

/// Make or remove topics.
#[derive(Parser)]
struct Args {
    /// Kafka bootstrap servers
    #[arg(long)]
    brokers: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make topics with one replica
    Create {
        /// Partitions of each
        #[arg(long, default_value_t = 4)]
        partitions: i32,
        /// Their names
        names: Vec<String>,
    },
    /// Remove topics
    Delete {
        /// Their names
        names: Vec<String>,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    let admin: AdminClient<DefaultClientContext> = config::admin(&args.brokers).create()?;
    let options = AdminOptions::new().operation_timeout(Some(ANSWER_LIMIT));
    match args.action {
        Action::Create { partitions, names } => {
            let topics: Vec<NewTopic<'_>> = names
                .iter()
                .map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(1)))
                .collect();
            for result in block_on(admin.create_topics(&topics, &options))? {
                result.map_err(|(topic, code)| anyhow!("cannot make topic {topic}: {code}"))?;
            }
            names.iter().try_for_each(|name| wait_until_served(&admin, name))
        }
        Action::Delete { names } => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            for result in block_on(admin.delete_topics(&names, &options))? {
                result.map_err(|(topic, code)| anyhow!("cannot remove topic {topic}: {code}"))?;
            }
            Ok(())
        }
    }
}

/// A new topic takes a moment until the broker has a leader for each partition.
fn wait_until_served(admin: &AdminClient<DefaultClientContext>, name: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let metadata = admin.inner().fetch_metadata(Some(name), ANSWER_LIMIT)?;
        let found = metadata.topics().iter().find(|topic| topic.name() == name);
        let served = found.is_some_and(|topic| {
            topic.error().is_none() && topic.partitions().iter().all(|partition| partition.leader() >= 0)
        });
        if served {
            return Ok(());
        }
        if started.elapsed() > ANSWER_LIMIT {
            bail!(
                "topic {name} is made but not served after {} s",
                ANSWER_LIMIT.as_secs()
            );
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
