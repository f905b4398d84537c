//! The records that are sent, the questions that are asked, and what the answers must be, counted from the topic.
//!
//! Kafka timestamps lie here: they are those of the event, hours before and months after it, none at all, or of 1970. Which
//! records are good and which are not follows from the contract, and a record's key says it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::kafka::Record;
use serde_json::Value;

/// 2025-03-03T11:06:40Z, the first event. Events are of this and the two following dates.
const FIRST_SECS: i64 = 1_741_000_000;
const DAY_SECS: i64 = 86_400;
/// What the contract lets an event be ahead of its Kafka timestamp.
const MAX_AHEAD_MS: i64 = DAY_SECS * 1_000;
/// 2025-03-04T11:06:44Z: within the events of the second date. Some records of the first date are a day older, and need not be
/// decoded.
const SINCE_SECS: i64 = FIRST_SECS + DAY_SECS + 4;
/// 2025-03-04T00:00:00Z and the day after it.
const DATE_SECS: i64 = 1_741_046_400;
const STATES: [&str; 5] = ["RI", "CA", "TX", "NY", "PR"];
/// Events of a person whom an erasure takes, all of one date.
const ROWS_OF_A_PERSON: u64 = 5;

/// A record to send.
pub struct Sent {
    pub key: String,
    pub payload: Vec<u8>,
    /// `None`: the producer's clock; -1: none at all.
    pub kafka_timestamp_ms: Option<i64>,
}

/// One of nine has no address.
pub fn record(name: &str, round: u64, number: u64) -> Sent {
    sent(name, round, number, None)
}

/// The same with timestamps that lie.
pub fn lying_record(name: &str, round: u64, number: u64) -> Sent {
    let event_ms = event_secs(round, number) * 1_000;
    let timestamp_ms = match number % 7 {
        0 => None,
        1 => Some(event_ms),
        2 => Some(event_ms - MAX_AHEAD_MS),
        3 => Some(event_ms - MAX_AHEAD_MS - 1),
        4 => Some(event_ms + 200 * DAY_SECS * 1_000),
        5 => Some(-1),
        _ => Some(1_000),
    };
    sent(name, round, number, timestamp_ms)
}

fn event_secs(round: u64, number: u64) -> i64 {
    FIRST_SECS + i64::try_from(round % 3 * 86_400 + number).unwrap_or(i64::MAX)
}

fn sent(name: &str, round: u64, number: u64, kafka_timestamp_ms: Option<i64>) -> Sent {
    let seconds = event_secs(round, number);
    let is_too_early =
        kafka_timestamp_ms.is_some_and(|ms| ms >= 0 && seconds * 1_000 > ms.saturating_add(MAX_AHEAD_MS));
    let has_address = number % 9 != 4;
    let verdict = if has_address && !is_too_early {
        "good"
    } else {
        "bad"
    };
    let ip = if has_address { "108.228.145.239" } else { "nowhere" };
    let state = STATES[usize::try_from(number).unwrap_or_default() % STATES.len()];
    let user = format!("a6397988-1649-4859-ae5f-{:012x}", round * 1_000 + number);
    Sent {
        key: format!("{name}-{round}-{number}-{verdict}"),
        payload: payload(&user, ip, state, seconds),
        kafka_timestamp_ms,
    }
}

fn payload(user: &str, ip: &str, state: &str, seconds: i64) -> Vec<u8> {
    format!(
        r#"{{"user_id":"{user}","app_version":"2.3.0","ip":"{ip}","locale":"{state}","device_id":"d","timestamp":{seconds},"device_type":"iOS"}}"#
    )
    .into_bytes()
}

/// A person who will be erased.
pub fn person(number: u64) -> String {
    format!("e5a5ed00-0000-4000-8000-{number:012x}")
}

/// What such a person did.
pub fn records_of(person: &str) -> impl Iterator<Item = Sent> {
    let payload = payload(person, "108.228.145.239", "CA", FIRST_SECS);
    let person = person.to_owned();
    (0..ROWS_OF_A_PERSON).map(move |number| Sent {
        key: format!("{person}-{number}-good"),
        payload: payload.clone(),
        kafka_timestamp_ms: None,
    })
}

/// Number, sum of offsets, and one more sum of some rows.
type Sums = (i64, i64, i64);
/// Sums by two columns.
pub type Counts = BTreeMap<(String, i64), Sums>;

/// A question of which the answer can be counted.
pub struct Question {
    /// Each row has `t` and `p`, what it is of, and `n`, `s` and `q`, its sums.
    pub sql: String,
    /// Whether an answer without a row of a table has a row that says 0.
    counts_nothing: bool,
    expected: fn(&Known) -> Option<(String, i64, i64)>,
}

/// All kinds of questions: whole tables, no column at all, some columns, and filters by each of the times.
pub fn questions() -> Vec<Question> {
    let by_partition = |table: &str, filter: &str| {
        format!(
            "SELECT '{table}' AS t, kafka_partition AS p, count(*) AS n, sum(kafka_offset) AS s, \
             sum(kafka_offset * kafka_offset % 1009) AS q FROM {table} WHERE {filter} GROUP BY 2"
        )
    };
    let all = "SELECT 'all' AS t, -1 AS p, count(*) AS n, 0 AS s, 0 AS q FROM logins";
    let question = |sql: String, expected: fn(&Known) -> Option<(String, i64, i64)>| Question {
        counts_nothing: sql.starts_with(all),
        sql,
        expected,
    };
    let since = "TIMESTAMP '2025-03-04T11:06:44Z'";
    vec![
        question(
            format!(
                "{all};\n{};\n{}",
                by_partition("logins", "true"),
                by_partition("rejected", "true")
            ),
            |known| Some(known.by_partition()),
        ),
        question(all.to_owned(), |known| {
            known.is_good.then(|| ("all".to_owned(), -1, 0))
        }),
        question(
            "SELECT locale AS t, login_hour AS p, count(*) AS n, sum(kafka_offset) AS s, sum(\"timestamp\" % 1009) AS q \
             FROM logins GROUP BY 1, 2"
                .to_owned(),
            |known| {
                let hour = known.event_secs.rem_euclid(DAY_SECS) / 3_600;
                let row = (known.state.clone(), hour, known.event_secs % 1009);
                known.is_good.then_some(row)
            },
        ),
        question(by_partition("logins", &format!("event_time >= {since}")), |known| {
            (known.is_good && known.event_secs >= SINCE_SECS).then(|| known.by_partition())
        }),
        question(by_partition("logins", "login_date = DATE '2025-03-04'"), |known| {
            let is_of_date = (DATE_SECS..DATE_SECS + DAY_SECS).contains(&known.event_secs);
            (known.is_good && is_of_date).then(|| known.by_partition())
        }),
        question(
            by_partition(
                "logins",
                "kafka_timestamp >= TIMESTAMP '2025-03-04T00:00:00Z' AND kafka_timestamp < TIMESTAMP '2025-12-01T00:00:00Z'",
            ),
            |known| {
                const DECEMBER_MS: i64 = 1_764_547_200_000;
                let is_meant = known
                    .kafka_ms
                    .is_some_and(|ms| (DATE_SECS * 1_000..DECEMBER_MS).contains(&ms));
                (known.is_good && is_meant).then(|| known.by_partition())
            },
        ),
        question(
            by_partition("rejected", "CAST(kafka_timestamp AS DATE) <= DATE '2025-03-04'"),
            |known| {
                let is_meant = known
                    .kafka_ms
                    .is_some_and(|ms| ms < (DATE_SECS + DAY_SECS) * 1_000);
                (!known.is_good && is_meant).then(|| known.by_partition())
            },
        ),
        question(
            by_partition(
                "logins",
                &format!("(event_time < TIMESTAMP '2025-03-03T11:06:43Z' OR event_time > {since}) AND locale <> 'CA'"),
            ),
            |known| {
                let is_meant = known.event_secs < FIRST_SECS + 3 || known.event_secs > SINCE_SECS;
                (known.is_good && is_meant && known.state != "CA").then(|| known.by_partition())
            },
        ),
        question(
            "SELECT user_id AS t, kafka_partition AS p, count(*) AS n, sum(kafka_offset) AS s, 0 AS q FROM logins \
             WHERE user_id LIKE 'e5a5ed00-%' GROUP BY 1, 2"
                .to_owned(),
            |known| {
                let is_person = known.user.starts_with("e5a5ed00-");
                is_person.then(|| (known.user.clone(), i64::from(known.partition), 0))
            },
        ),
    ]
}

/// A record of the topic, and what must be seen of it.
pub struct Known {
    partition: i32,
    offset: i64,
    is_good: bool,
    event_secs: i64,
    kafka_ms: Option<i64>,
    state: String,
    user: String,
    /// From this version of `logins` on it is not there.
    erased_at: Option<i64>,
}

impl Known {
    fn by_partition(&self) -> (String, i64, i64) {
        let table = if self.is_good { "logins" } else { "rejected" };
        (
            table.to_owned(),
            i64::from(self.partition),
            self.offset * self.offset % 1009,
        )
    }
}

/// Which records an answer is of.
#[derive(Clone, Debug)]
pub struct Stated {
    /// The version of `logins`.
    pub version: i64,
    /// `[o, h)` of each Kafka partition.
    pub ranges: BTreeMap<i32, (i64, i64)>,
}

impl Stated {
    /// Whether there are records beyond the table.
    pub fn offsets_beyond(&self) -> i64 {
        self.ranges.values().map(|(from, to)| to - from).sum()
    }
}

/// Everything that a read_committed reader finds in the topic.
pub struct Truth(Vec<Known>);

impl Truth {
    /// `erased` says which version of `logins` took a person away.
    pub fn of(records: Vec<Record>, erased: &BTreeMap<String, i64>) -> Result<Truth> {
        let known = records.into_iter().map(|record| {
            let key = String::from_utf8(record.key.unwrap_or_default())?;
            let event: Value = serde_json::from_slice(&record.payload.context("no payload")?)?;
            let user = event["user_id"].as_str().context("no user")?.to_owned();
            Ok(Known {
                partition: record.partition,
                offset: record.offset,
                is_good: key.ends_with("good"),
                event_secs: event["timestamp"].as_i64().context("no timestamp")?,
                kafka_ms: record.timestamp_ms,
                state: event["locale"].as_str().context("no locale")?.to_owned(),
                erased_at: erased.get(&user).copied(),
                user,
            })
        });
        Ok(Truth(known.collect::<Result<_>>()?))
    }

    /// How many records have no Kafka timestamp.
    pub fn without_timestamp(&self) -> usize {
        self.0.iter().filter(|known| known.kafka_ms.is_none()).count()
    }

    fn seen<'a>(&'a self, stated: &'a Stated) -> impl Iterator<Item = &'a Known> {
        self.0.iter().filter(|known| {
            let is_below = stated
                .ranges
                .get(&known.partition)
                .is_some_and(|(_, to)| known.offset < *to);
            is_below && known.erased_at.is_none_or(|version| stated.version < version)
        })
    }

    /// The answer to a question.
    pub fn answer(&self, question: &Question, stated: &Stated) -> Counts {
        let mut counts = Counts::new();
        let mut all = 0;
        for known in self.seen(stated) {
            all += i64::from(known.is_good);
            let Some((t, p, q)) = (question.expected)(known) else {
                continue;
            };
            let sums = counts.entry((t, p)).or_default();
            *sums = (sums.0 + 1, sums.1 + known.offset, sums.2 + q);
        }
        if question.counts_nothing {
            counts.insert(("all".to_owned(), -1), (all, 0, 0));
        }
        counts
    }

    /// Checks what a receipt says of `logins`, where it says it: the rows beyond the table, and the newest event.
    pub fn check_receipt(
        &self,
        stated: &Stated,
        rows_beyond: Option<u64>,
        newest_ms: Option<i64>,
    ) -> Result<()> {
        let is_beyond = |known: &&Known| {
            let range = stated.ranges.get(&known.partition);
            range.is_some_and(|(from, to)| (*from..*to).contains(&known.offset))
        };
        let good = || self.0.iter().filter(|known| known.is_good);
        if let Some(rows) = rows_beyond {
            let expected = good().filter(is_beyond).count();
            ensure!(
                rows == u64::try_from(expected)?,
                "{rows} rows beyond the table, not {expected}"
            );
        }
        if let Some(newest_ms) = newest_ms {
            let newest = self.seen(stated).filter(|known| known.is_good);
            let expected = newest.map(|known| known.event_secs * 1_000).max();
            ensure!(
                Some(newest_ms) == expected,
                "the newest event is of {expected:?}, not {newest_ms}"
            );
        }
        Ok(())
    }
}
