//! The command line of `realtime dead-letters`.

use clap::{Args, Subcommand, ValueEnum};
use loginlake_kafka::KafkaSettings;
use loginlake_service::config::{
    ConfigFile, GroupArgs, KafkaArgs, OutputKafkaArgs, ResolvedKafka, Service, TopicArgs, Topics,
};
use loginlake_service::exit::ExitError;

use super::replay::ReplayOptions;
use super::select::{Position, Reason, Selection, TimeBound};

/// Arguments of `realtime dead-letters`.
#[derive(Args, Debug)]
pub struct DeadLettersArgs {
    #[command(subcommand)]
    command: DeadLettersCommand,
}

/// What is done with the dead letters.
#[derive(Subcommand, Debug)]
pub enum DeadLettersCommand {
    /// List dead letters, the newest first
    List(ListArgs),
    /// Show one dead letter with all its headers and its payload
    Show(ShowArgs),
    /// Put the original records back to the input topic, each once; goes on where the last replay ended
    Replay(ReplayArgs),
}

/// Clusters, topics and group: the flags of `realtime run`.
#[derive(Args, Debug)]
struct PlaceArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    output_kafka: OutputKafkaArgs,
    #[command(flatten)]
    topics: TopicArgs,
    #[command(flatten)]
    group: GroupArgs,
}

/// Which dead letters are meant; all of them without a flag.
#[derive(Args, Debug)]
struct SelectionArgs {
    /// Only those that were rejected since then: an age such as 1h, a date or a time
    #[arg(long, value_name = "TIME")]
    since: Option<TimeBound>,
    /// Only those that were rejected before then
    #[arg(long, value_name = "TIME")]
    until: Option<TimeBound>,
    /// Only those of this reason, such as BAD_IP; repeatable
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<Reason>,
}

impl SelectionArgs {
    fn resolve(&self, now_ms: i64) -> Selection {
        Selection {
            since_ms: self.since.map(|bound| bound.epoch_ms(now_ms)),
            until_ms: self.until.map(|bound| bound.epoch_ms(now_ms)),
            reasons: self.reasons.clone(),
        }
    }
}

/// How a list is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON object per line.
    Ndjson,
}

/// Arguments of `list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Most dead letters that are listed: the newest
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// How they are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl ListArgs {
    pub(super) fn selection(&self, now_ms: i64) -> Selection {
        self.selection.resolve(now_ms)
    }

    pub(super) fn limit(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }
}

/// Arguments of `show`.
#[derive(Args, Debug)]
pub struct ShowArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Where it is in the dead-letter topic, as `list` shows it: PARTITION:OFFSET
    #[arg(value_name = "PARTITION:OFFSET")]
    position: Position,
}

impl ShowArgs {
    pub(super) fn position(&self) -> Position {
        self.position
    }
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    selection: SelectionArgs,
    /// Tell what would be replayed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave out records that have been tried this often
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    max_attempts: u32,
    /// Consider the whole topic again, also what an earlier replay has considered
    #[arg(long)]
    from_beginning: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl ReplayArgs {
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(super) fn is_confirmed(&self) -> bool {
        self.yes
    }
}

/// Where the dead letters are, and where they came from.
#[derive(Debug)]
pub(super) struct Place {
    pub dead_letters: KafkaSettings,
    pub input: KafkaSettings,
    pub topics: Topics,
    group_id: String,
}

impl DeadLettersArgs {
    /// Resolves flags, environment and file.
    ///
    /// # Errors
    /// A usage error.
    pub(super) fn resolve(self, file: &ConfigFile) -> Result<(Place, DeadLettersCommand), ExitError> {
        let args = match &self.command {
            DeadLettersCommand::List(list) => &list.place,
            DeadLettersCommand::Show(show) => &show.place,
            DeadLettersCommand::Replay(replay) => &replay.place,
        };
        let input = args.kafka.resolve(file)?;
        let output = args.output_kafka.resolve(file, &input)?;
        let place = Place {
            dead_letters: settings(output),
            input: settings(input),
            topics: args.topics.resolve(file)?,
            group_id: args.group.resolve(file, Service::Realtime)?,
        };
        Ok((place, self.command))
    }
}

impl Place {
    /// # Errors
    /// A usage error when dead letters and input are on different clusters.
    pub(super) fn replay_options(&self, args: &ReplayArgs, now_ms: i64) -> Result<ReplayOptions, ExitError> {
        if self.dead_letters.brokers != self.input.brokers {
            return Err(ExitError::usage(format!(
                "the dead letters are at {}, the input topic at {}: a Kafka transaction does not span clusters, so records \
                 could be replayed twice or be lost",
                self.dead_letters.brokers, self.input.brokers
            ))
            .with_hint("mirror the dead-letter topic to the input's cluster and replay there, without --output-brokers"));
        }
        Ok(ReplayOptions {
            kafka: self.dead_letters.clone(),
            dead_letter_topic: self.topics.dead_letter.clone(),
            input_topic: self.topics.input.clone(),
            group_id: format!("{}-dead-letters-replay", self.group_id),
            selection: args.selection.resolve(now_ms),
            max_attempts: args.max_attempts,
            from_beginning: args.from_beginning,
            dry_run: args.dry_run,
        })
    }
}

fn settings(resolved: ResolvedKafka) -> KafkaSettings {
    KafkaSettings {
        brokers: resolved.brokers,
        properties: resolved.properties,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: DeadLettersArgs,
    }

    fn resolve(line: &str) -> Result<(Place, DeadLettersCommand), ExitError> {
        let words = std::iter::once("dead-letters").chain(line.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(ExitError::usage)?;
        cli.args.resolve(&ConfigFile::default())
    }

    fn options(line: &str) -> Result<ReplayOptions, ExitError> {
        match resolve(line)? {
            (place, DeadLettersCommand::Replay(args)) => place.replay_options(&args, 10_000_000),
            (_, other) => panic!("another command: {other:?}"),
        }
    }

    #[test]
    fn a_replay_has_a_group_of_its_own_and_the_runs_settings() {
        let options = options("replay --brokers a:1 --group-id mine --since 1h --reason BAD_IP --dry-run");
        let options = options.expect("good");
        assert_eq!(options.group_id, "mine-dead-letters-replay");
        assert_eq!(options.selection.since_ms, Some(10_000_000 - 3_600_000));
        assert_eq!((options.max_attempts, options.dry_run), (3, true));
    }

    #[test]
    fn two_clusters_are_refused_with_an_explanation() {
        let error = options("replay --brokers a:1 --output-brokers b:1 --yes").expect_err("two clusters");
        assert_eq!(error.code, loginlake_service::exit::ExitCode::Usage);
        assert!(error.message.contains("does not span clusters"), "{error}");
    }

    #[test]
    fn wrong_values_are_usage_errors() {
        for line in [
            "list --reason BAD",
            "list --since yesterday",
            "list --limit 0",
            "show 3",
            "show 1:-1",
            "replay --max-attempts 0",
        ] {
            assert!(resolve(line).is_err(), "{line}");
        }
        let (_, list) = resolve("list --until 2024-07-10 --format ndjson").expect("good");
        assert!(matches!(list, DeadLettersCommand::List(list) if list.format() == Format::Ndjson));
    }
}
