//! The command line of `generate`, and what it comes to: a plan that is valid before anything is opened.

use std::path::PathBuf;

use clap::Parser;
use loginlake_generator::pace::{Burst, Pace};
use loginlake_generator::{GeneratorConfig, Timeline};
use loginlake_service::config::{
    CommonArgs, ConfigFile, CreateTopics, CreateTopicsArgs, KafkaArgs, ResolvedKafka, Span, TopicArgs,
    UtcTime, ValueError,
};
use loginlake_service::exit::{ExitCode, ExitError};
use loginlake_service::shell_help::ShellHelpArgs;

/// How many events a second an endless run sends when no rate is given, as the original generator does.
const ENDLESS_RATE_PER_SEC: f64 = 2.0;
/// How far ahead of the record's Kafka timestamp the contract accepts an event by default.
const MAX_AHEAD_MS: i64 = 86_400_000;

/// Generate login events, good and malformed, into Kafka or a file.
///
/// Without options: two events a second to the topic user-login on localhost:9092, until it is stopped. The same --seed
/// with the same --from and --to gives the same bytes on every machine.
#[derive(Debug, Parser)]
#[command(name = "generate", version, after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Stop after so many records [default: go on until stopped]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Events a second; 0 is as fast as possible [default: as fast as possible where there is an end, else 2]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// So many records at once in every interval, such as 500/10s
    #[arg(long, value_name = "N/INTERVAL", conflicts_with = "rate")]
    burst: Option<Burst>,
    /// Decides everything that is random [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Distinct users; each keeps a home state, a network, and one or two devices
    #[arg(long, value_name = "N", default_value_t = 10_000, help_heading = "Events")]
    users: u32,
    /// Zipf exponent of how active the users are: 0 is all alike, 1 is a few very active ones
    #[arg(long, value_name = "S", default_value_t = 0.0, help_heading = "Events")]
    skew: f64,
    /// Share of malformed records, every reason equally often
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Events")]
    bad_share: f64,
    /// Malformed records include those over 1 MiB; the topic must take them (max.message.bytes)
    #[arg(long, help_heading = "Events")]
    too_large: bool,
    /// Share of events as older releases wrote them: text timestamp, country as locale, nine-digit device
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Events")]
    legacy_share: f64,
    /// Share of events from IPv6 addresses
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Events")]
    ipv6_share: f64,
    /// Share of events that are one attack: one address and device that tries all users
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Events")]
    attack_share: f64,
    /// Spread the events over a period that starts here, along the day curve: a date, an RFC 3339 time, or a time
    /// before now, such as -7d. Needs --count
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        requires = "count",
        help_heading = "Events"
    )]
    from: Option<Moment>,
    /// The end of the period, not included [default: now]
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        requires = "from",
        help_heading = "Events"
    )]
    to: Option<Moment>,

    /// Replay the records of a file that --out wrote, or of any file with one JSON event a line; - is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = EVENT_OPTIONS, help_heading = "Files")]
    from_file: Option<PathBuf>,
    /// Start again at the end of the file
    #[arg(long = "loop", requires = "from_file", help_heading = "Files")]
    looping: bool,
    /// Write to a file instead of Kafka, one record a line; - is standard output
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    out: Option<PathBuf>,

    #[command(flatten, next_help_heading = "Kafka")]
    kafka: KafkaArgs,
    /// Topic that the events go to [default: user-login]
    #[arg(
        long,
        alias = "topic",
        env = "LOGINLAKE_INPUT_TOPIC",
        hide_env_values = true,
        value_name = "TOPIC"
    )]
    input_topic: Option<String>,
    #[command(flatten)]
    create_topics: CreateTopicsArgs,

    #[command(flatten, next_help_heading = "Configuration and logs")]
    pub(crate) common: CommonArgs,
    #[command(flatten)]
    pub(crate) shell_help: ShellHelpArgs,
}

/// What makes no sense for a replay.
const EVENT_OPTIONS: [&str; 9] = [
    "users",
    "skew",
    "bad_share",
    "too_large",
    "legacy_share",
    "ipv6_share",
    "attack_share",
    "from",
    "to",
];

const EXAMPLES: &str = "Examples:
  generate --create-topics                           two events a second, as the original generator
  generate --count 1000000 --bad-share 0.02          a million as fast as possible, 2 % of them malformed
  generate --count 100000 --from -7d --seed 7        a week of history
  generate --count 500 --from 2026-01-05 --to 2026-01-12 --out events.ndjson
  generate --from-file events.ndjson --rate 100 --loop";

/// A point in time on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    At(UtcTime),
    /// So long before the start of the run.
    Ago(Span),
}

impl std::str::FromStr for Moment {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Moment, ValueError> {
        match text.trim().strip_prefix('-') {
            Some(span) => span.parse().map(Moment::Ago),
            None if text.trim() == "now" => Ok(Moment::Ago(Span::from_secs(0))),
            None => text.parse().map(Moment::At),
        }
    }
}

impl Moment {
    fn epoch_ms(self, now_ms: i64) -> i64 {
        match self {
            Moment::At(time) => time.epoch_ms(),
            Moment::Ago(span) => now_ms.saturating_sub(span.millis()),
        }
    }
}

/// What to do, with every setting resolved.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) from: From,
    pub(crate) to: To,
    pub(crate) pace: Pace,
    /// The seed to repeat this run with, where the command line gave none.
    pub(crate) chosen_seed: Option<u64>,
}

/// Where the records come from.
#[derive(Debug)]
pub(crate) enum From {
    Generator(GeneratorConfig),
    File {
        path: PathBuf,
        seed: u64,
        count: Option<u64>,
        looping: bool,
    },
}

/// Where the records go.
#[derive(Debug)]
pub(crate) enum To {
    File(PathBuf),
    Kafka {
        kafka: ResolvedKafka,
        topic: String,
        create: CreateTopics,
    },
}

impl Args {
    /// Resolves flags, environment and file. `now_ms` is the wall clock; `fresh_seed` is taken where none is given.
    pub(crate) fn resolve(&self, file: &ConfigFile, now_ms: i64, fresh_seed: u64) -> Result<Plan, ExitError> {
        let usage = |error: &dyn std::fmt::Display| ExitError::usage(error);
        let seed = self.seed.unwrap_or(fresh_seed);
        let from = match &self.from_file {
            Some(path) => From::File {
                path: path.clone(),
                seed,
                count: self.count,
                looping: self.looping,
            },
            None => {
                let config = self.generator_config(seed, now_ms)?;
                config.validate().map_err(|error| usage(&error))?;
                From::Generator(config)
            }
        };
        let to = match &self.out {
            Some(path) => To::File(path.clone()),
            None => {
                let configured = |error| ExitError::caused_by(ExitCode::Usage, &error);
                let topics = TopicArgs {
                    input_topic: self.input_topic.clone(),
                    ..Default::default()
                };
                To::Kafka {
                    kafka: self.kafka.resolve(file).map_err(configured)?,
                    topic: topics.resolve(file).map_err(configured)?.input,
                    create: self.create_topics.resolve(file).map_err(configured)?,
                }
            }
        };
        let chosen_seed = (self.seed.is_none() && self.from_file.is_none()).then_some(seed);
        Ok(Plan {
            from,
            to,
            pace: self.pace()?,
            chosen_seed,
        })
    }

    fn generator_config(&self, seed: u64, now_ms: i64) -> Result<GeneratorConfig, ExitError> {
        let timeline = match self.from {
            None => Timeline::WallClock,
            Some(from) => {
                let to_ms = self.to.map_or(now_ms, |to| to.epoch_ms(now_ms));
                if self.out.is_none() && to_ms > now_ms.saturating_add(MAX_AHEAD_MS) {
                    return Err(ExitError::usage(
                        "--to is more than a day ahead: the consumers reject events of that time",
                    )
                    .with_hint("end the period by tomorrow, or write it to a file with --out"));
                }
                Timeline::Period {
                    from_secs: from.epoch_ms(now_ms).div_euclid(1_000),
                    to_secs: to_ms.div_euclid(1_000),
                }
            }
        };
        Ok(GeneratorConfig {
            seed,
            count: self.count,
            users: self.users,
            skew: self.skew,
            bad_share: self.bad_share,
            too_large: self.too_large,
            legacy_share: self.legacy_share,
            ipv6_share: self.ipv6_share,
            attack_share: self.attack_share,
            timeline,
        })
    }

    fn pace(&self) -> Result<Pace, ExitError> {
        if let Some(burst) = self.burst {
            return Ok(Pace::Burst(burst));
        }
        let has_end = self.count.is_some() || (self.from_file.is_some() && !self.looping);
        match self.rate {
            None if has_end => Ok(Pace::AsFastAsPossible),
            None => Ok(Pace::PerSecond(ENDLESS_RATE_PER_SEC)),
            Some(0.0) => Ok(Pace::AsFastAsPossible),
            Some(rate) if rate > 0.0 && rate.is_finite() => Ok(Pace::PerSecond(rate)),
            Some(rate) => Err(ExitError::usage(format_args!("--rate {rate} is not a rate"))
                .with_hint("give events a second, such as 0.5 or 1000, or 0 for as fast as possible")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_767_571_200_500; // 2026-01-05T00:00:00.500Z

    fn plan(arguments: &[&str]) -> Result<Plan, ExitError> {
        let arguments = std::iter::once(&"generate").chain(arguments);
        let args = Args::try_parse_from(arguments).map_err(ExitError::usage)?;
        args.resolve(&ConfigFile::default(), NOW_MS, 99)
    }

    fn config(arguments: &[&str]) -> GeneratorConfig {
        match plan(arguments).unwrap().from {
            From::Generator(config) => config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn an_endless_run_is_slow_and_a_finite_one_is_fast() {
        let pace = |arguments: &[&str]| plan(arguments).unwrap().pace;
        assert_eq!(pace(&[]), Pace::PerSecond(2.0));
        assert_eq!(pace(&["--rate", "0"]), Pace::AsFastAsPossible);
        assert_eq!(pace(&["--count", "5"]), Pace::AsFastAsPossible);
        assert_eq!(pace(&["--count", "5", "--rate", "0.5"]), Pace::PerSecond(0.5));
        assert_eq!(pace(&["--from-file", "x"]), Pace::AsFastAsPossible);
        assert_eq!(pace(&["--from-file", "x", "--loop"]), Pace::PerSecond(2.0));
        assert_eq!(pace(&["--burst", "5/1s"]), Pace::Burst("5/1s".parse().unwrap()));
    }

    #[test]
    fn a_period_is_given_by_dates_or_from_now() {
        let period = |arguments: &[&str]| config(&[&["--count", "5"], arguments].concat()).timeline;
        let day = 86_400;
        let now = NOW_MS / 1_000;
        assert_eq!(
            period(&["--from", "2026-01-01", "--to", "2026-01-05T00:00:00Z"]),
            Timeline::Period {
                from_secs: now - 4 * day,
                to_secs: now
            }
        );
        assert_eq!(
            period(&["--from", "-7d"]),
            Timeline::Period {
                from_secs: now - 7 * day,
                to_secs: now
            }
        );
        assert_eq!(
            period(&["--from=-2d", "--to=-1d"]),
            Timeline::Period {
                from_secs: now - 2 * day,
                to_secs: now - day
            }
        );
        assert_eq!(
            period(&["--from", "-1d", "--to", "now"]),
            period(&["--from", "-1d"])
        );
    }

    #[test]
    fn a_seed_is_reported_only_when_it_was_not_given() {
        assert_eq!(plan(&[]).unwrap().chosen_seed, Some(99));
        assert_eq!(plan(&["--seed", "7"]).unwrap().chosen_seed, None);
        assert_eq!(config(&["--seed", "7"]).seed, 7);
    }

    #[test]
    fn a_file_wins_over_whatever_says_how_to_reach_kafka() {
        // The environment of a container names its brokers for every command.
        let plan = plan(&["--out", "x", "--brokers", "kafka:9092"]).unwrap();
        assert!(matches!(plan.to, To::File(path) if path == std::path::Path::new("x")));
    }

    #[test]
    fn what_makes_no_sense_is_wrong_usage() {
        for (arguments, says) in [
            (&["--users", "0"][..], "number of users is 0"),
            (&["--bad-share", "2"], "bad share is 2"),
            (&["--skew=-1"], "skew is -1"),
            (&["--skew", "NaN"], "skew is NaN"),
            (&["--rate=-1"], "--rate -1"),
            (&["--rate", "inf"], "--rate inf"),
            (&["--rate", "1", "--burst", "1/1s"], "cannot be used with"),
            (&["--from", "-1d"], "--count"),
            (&["--to", "-1d", "--count", "1"], "--from"),
            (&["--from", "soon", "--count", "1"], "`soon` is not a date"),
            (&["--from", "-1", "--count", "1"], "`1` is not a duration"),
            (
                &["--from", "-1d", "--to", "-2d", "--count", "1"],
                "the period is empty",
            ),
            (
                &["--from", "2001-01-01", "--count", "1"],
                "between 2015-01-01 and 2100-01-01",
            ),
            (
                &["--from", "-1d", "--to", "2027-01-01", "--count", "1"],
                "more than a day ahead",
            ),
            (&["--from-file", "x", "--users", "5"], "cannot be used with"),
            (&["--loop"], "--from-file"),
            (&["--input-topic", "a b"], "topic name"),
        ] {
            let error = plan(arguments).unwrap_err();
            assert_eq!(error.code, ExitCode::Usage, "{arguments:?}");
            assert!(error.message.contains(says), "{arguments:?}: {}", error.message);
        }
    }
}
