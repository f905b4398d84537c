//! The sequence of records: seeded, reproducible, in bounded memory.
//!
//! The same configuration with a [`Timeline::Period`] gives the same bytes on every machine. With
//! [`Timeline::WallClock`] the times are those of the clock, and so is what the day curve makes of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use loginlake_events::RejectReason;

use crate::bad::{LATEST_TIMESTAMP_SECS, write_bad};
use crate::login::{DeviceId, Login};
use crate::record::{GeneratedRecord, RecordBuffer};
use crate::rng::{Derived, Rng};
use crate::states::STATE_COUNT;
use crate::timeline::{HourWeights, Walk};
use crate::users::{Population, Visit};

/// The most users that are kept: 120 MB with a skew.
pub const MAX_USERS: u32 = 10_000_000;
/// 2015-01-01T00:00:00Z, before which the contract takes no timestamp by default.
pub const EARLIEST_TIMESTAMP_SECS: i64 = 1_420_070_400;

/// The share of events without `device_type`, as in the original generator.
const MISSING_DEVICE_TYPE_SHARE: f64 = 0.05;
/// The countries that older releases write as `locale`; none of these codes is a state's, too.
const LEGACY_COUNTRIES: [[u8; 2]; 8] = [*b"RU", *b"GB", *b"BR", *b"JP", *b"FR", *b"MX", *b"AU", *b"US"];
const ATTACK_STREAM: u64 = 0x4174_7461_636b;

/// When the logins happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeline {
    /// At the moment in which they are generated.
    WallClock,
    /// Spread over [`from_secs`, `to_secs`), epoch seconds, in ascending order along the day curve. Needs a count.
    Period {
        /// The first second.
        from_secs: i64,
        /// The second after the last.
        to_secs: i64,
    },
}

/// What to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneratorConfig {
    /// Decides everything that is random. Default 1.
    pub seed: u64,
    /// How many records; `None` is without end. Default `None`.
    pub count: Option<u64>,
    /// Distinct users, 1 to [`MAX_USERS`]. Default 10,000.
    pub users: u32,
    /// Zipf exponent of the users' activity, 0 (all alike) to 10. Default 0.
    pub skew: f64,
    /// Share of malformed records, 0 to 1, all reasons equally often. Default 0.
    pub bad_share: f64,
    /// Whether `TOO_LARGE` is among the reasons: records over 1 MiB, which a broker refuses by default. Default false.
    pub too_large: bool,
    /// Share of the events that older releases wrote (text timestamp, country, nine-digit device), 0 to 1. Default 0.
    pub legacy_share: f64,
    /// Share of the events that come from an IPv6 address, 0 to 1. Default 0.
    pub ipv6_share: f64,
    /// Share of the events that one attacker sends: one address and device, any user. 0 to 1. Default 0.
    pub attack_share: f64,
    /// When the logins happen. Default [`Timeline::WallClock`].
    pub timeline: Timeline,
}

impl Default for GeneratorConfig {
    fn default() -> GeneratorConfig {
        GeneratorConfig {
            seed: 1,
            count: None,
            users: 10_000,
            skew: 0.0,
            bad_share: 0.0,
            too_large: false,
            legacy_share: 0.0,
            ipv6_share: 0.0,
            attack_share: 0.0,
            timeline: Timeline::WallClock,
        }
    }
}

/// A configuration that cannot be generated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// No users, or more than memory is meant for.
    #[error("the number of users is {0}: give 1 to {MAX_USERS}")]
    Users(u32),
    /// A share outside [0, 1].
    #[error("the {name} is {value}: give a share from 0 to 1, such as 0.02")]
    Share {
        /// Which share.
        name: &'static str,
        /// What was given.
        value: f64,
    },
    /// A skew outside [0, 10].
    #[error("the skew is {0}: give a Zipf exponent from 0 (all users alike) to 10")]
    Skew(f64),
    /// A period that is empty or outside what the contract accepts.
    #[error("the period is empty: it ends at {to_secs}, not after its start {from_secs} (epoch seconds)")]
    EmptyPeriod {
        /// Start of the period, epoch seconds.
        from_secs: i64,
        /// End of the period, epoch seconds.
        to_secs: i64,
    },
    /// A period in which consumers reject every event.
    #[error(
        "the period from {from_secs} to {to_secs} (epoch seconds) leaves the time that consumers accept: \
         keep it between 2015-01-01 and 2100-01-01"
    )]
    PeriodOutOfRange {
        /// Start of the period, epoch seconds.
        from_secs: i64,
        /// End of the period, epoch seconds.
        to_secs: i64,
    },
    /// A period without a number of records to spread over it.
    #[error("a period needs the number of records to spread over it: give a count")]
    PeriodWithoutCount,
}

impl GeneratorConfig {
    /// Says what is wrong with the configuration, if anything is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=MAX_USERS).contains(&self.users) {
            return Err(ConfigError::Users(self.users));
        }
        if !(0.0..=10.0).contains(&self.skew) {
            return Err(ConfigError::Skew(self.skew));
        }
        for (name, value) in [
            ("bad share", self.bad_share),
            ("legacy share", self.legacy_share),
            ("IPv6 share", self.ipv6_share),
            ("attack share", self.attack_share),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(ConfigError::Share { name, value });
            }
        }
        if let Timeline::Period { from_secs, to_secs } = self.timeline {
            if from_secs >= to_secs {
                return Err(ConfigError::EmptyPeriod { from_secs, to_secs });
            }
            if from_secs < EARLIEST_TIMESTAMP_SECS || to_secs > LATEST_TIMESTAMP_SECS {
                return Err(ConfigError::PeriodOutOfRange { from_secs, to_secs });
            }
            if self.count.is_none() {
                return Err(ConfigError::PeriodWithoutCount);
            }
        }
        Ok(())
    }
}

/// Makes the records one after the other. Also an iterator; [`Generator::next_into`] saves its allocations.
#[derive(Debug)]
pub struct Generator {
    config: GeneratorConfig,
    rng: Rng,
    population: Population,
    clock: Clock,
    attacker: Attacker,
    /// The reasons still to come in this round: each comes once before any comes again.
    reasons: Vec<RejectReason>,
    remaining: Option<u64>,
}

#[derive(Debug)]
enum Clock {
    Wall(Box<WallHour>),
    Walk(Box<Walk>),
}

/// The weights of the hour that the wall clock shows.
#[derive(Debug)]
struct WallHour {
    state_weights: [f64; STATE_COUNT],
    hour: i64,
    weights: HourWeights,
}

impl WallHour {
    fn new(state_weights: [f64; STATE_COUNT]) -> WallHour {
        let now = now_secs();
        WallHour {
            state_weights,
            hour: hour_of(now),
            weights: HourWeights::at(now, &state_weights),
        }
    }

    /// Now in epoch seconds, with the weights of its hour.
    fn read(&mut self) -> (i64, &HourWeights) {
        let now = now_secs();
        if hour_of(now) != self.hour {
            self.hour = hour_of(now);
            self.weights = HourWeights::at(now, &self.state_weights);
        }
        (now, &self.weights)
    }
}

#[derive(Debug)]
struct Attacker {
    ip: Ipv4Addr,
    device_id: [u8; 16],
}

impl Generator {
    /// Prepares the users; takes time and memory in proportion to their number, and to the hours of a period.
    ///
    /// # Errors
    /// Those of [`GeneratorConfig::validate`].
    pub fn new(config: GeneratorConfig) -> Result<Generator, ConfigError> {
        config.validate()?;
        let population = Population::new(config.seed, config.users, config.skew);
        let state_weights = population.state_weights();
        let clock = match (config.timeline, config.count) {
            (Timeline::Period { from_secs, to_secs }, Some(count)) => {
                Clock::Walk(Box::new(Walk::new(from_secs, to_secs, count, state_weights)))
            }
            (Timeline::Period { .. }, None) => return Err(ConfigError::PeriodWithoutCount),
            (Timeline::WallClock, _) => Clock::Wall(Box::new(WallHour::new(state_weights))),
        };
        let mut numbers = Derived::new(config.seed, ATTACK_STREAM);
        let attacker = Attacker {
            // A hosting provider's network, as an attacker would rent it.
            ip: Ipv4Addr::new(45, 61, numbers.below(256) as u8, 1 + numbers.below(254) as u8),
            device_id: crate::users::uuid_v4(numbers.next_u64(), numbers.next_u64()),
        };
        let rng = Rng::from_seed(config.seed);
        let remaining = config.count;
        Ok(Generator {
            config,
            rng,
            population,
            clock,
            attacker,
            reasons: Vec::new(),
            remaining,
        })
    }

    /// What is generated.
    pub fn config(&self) -> &GeneratorConfig {
        &self.config
    }

    /// Puts the next record into `record`; returns false, with the record unchanged, when all have been made.
    pub fn next_into(&mut self, record: &mut RecordBuffer) -> bool {
        match &mut self.remaining {
            Some(0) => return false,
            Some(remaining) => *remaining -= 1,
            None => {}
        }
        record.begin(&mut self.rng);
        let (timestamp_secs, state) = self.next_moment();
        let login = self.next_login(timestamp_secs, state);
        record.event_time_secs = Some(timestamp_secs);
        if self.rng.chance(self.config.bad_share) {
            let reason = self.next_reason();
            record.expected = Some(reason);
            record.tombstone = write_bad(reason, &login, &mut self.rng, &mut record.payload);
        } else {
            login.write(&mut record.payload);
        }
        true
    }

    /// When the next login happens, and in which state.
    fn next_moment(&mut self) -> (i64, usize) {
        let (secs, weights) = match &mut self.clock {
            Clock::Wall(hour) => hour.read(),
            Clock::Walk(walk) => walk
                .advance(&mut self.rng)
                .expect("the walk is as long as the count"),
        };
        (secs, weights.draw_state(&mut self.rng))
    }

    fn next_login(&mut self, timestamp_secs: i64, state: usize) -> Login {
        let rng = &mut self.rng;
        if rng.chance(self.config.attack_share) {
            let victim = self.population.draw_any(rng);
            let device_id = DeviceId::Uuid(self.attacker.device_id);
            let login = login_of(&victim, timestamp_secs, self.attacker.ip.into());
            return Login {
                device_id,
                device_type: None,
                ..login
            };
        }
        let visit = self.population.draw_from(state, rng);
        let ip = if rng.chance(self.config.ipv6_share) {
            ipv6_of(&visit, rng.next_u64())
        } else {
            ipv4_of(&visit, rng)
        };
        let mut login = login_of(&visit, timestamp_secs, ip);
        if rng.chance(MISSING_DEVICE_TYPE_SHARE) {
            login.device_type = None;
        }
        if rng.chance(self.config.legacy_share) {
            login.timestamp_as_text = true;
            login.locale = rng.pick(&LEGACY_COUNTRIES);
            login.device_id = DeviceId::Digits(digits_of(&visit));
        }
        login
    }

    fn next_reason(&mut self) -> RejectReason {
        if self.reasons.is_empty() {
            let too_large = self.config.too_large;
            let included = |reason: &RejectReason| too_large || *reason != RejectReason::TooLarge;
            self.reasons
                .extend(RejectReason::OF_CONTRACT.into_iter().filter(included));
            self.rng.shuffle(&mut self.reasons);
        }
        self.reasons.pop().expect("it was just filled")
    }
}

impl Iterator for Generator {
    type Item = GeneratedRecord;

    fn next(&mut self) -> Option<GeneratedRecord> {
        let mut record = RecordBuffer::new();
        if !self.next_into(&mut record) {
            return None;
        }
        Some(GeneratedRecord {
            timestamp_ms: record.event_time_ms().expect("a generated record has a time"),
            expected: record.expected,
            key: record.key,
            payload: (!record.tombstone).then_some(record.payload),
        })
    }
}

fn login_of(visit: &Visit, timestamp_secs: i64, ip: IpAddr) -> Login {
    Login {
        user_id: visit.user_id,
        app_version: visit.app_version,
        ip,
        locale: visit.locale,
        device_id: DeviceId::Uuid(visit.device_id),
        timestamp_secs,
        timestamp_as_text: false,
        device_type: Some(visit.device_type),
    }
}

fn ipv4_of(visit: &Visit, rng: &mut Rng) -> IpAddr {
    let [a, b, c] = visit.ipv4_network;
    Ipv4Addr::new(a, b, c, 1 + rng.below(254) as u8).into()
}

fn ipv6_of(visit: &Visit, host: u64) -> IpAddr {
    let [a, b, c] = visit.ipv6_network;
    let [d, e, f, g] = [host >> 48, host >> 32, host >> 16, host].map(|word| word as u16);
    Ipv6Addr::new(a, b, c, 0, d, e, f, g).into()
}

/// Nine digits that stand for the device in older releases.
fn digits_of(visit: &Visit) -> u32 {
    let id = visit.device_id;
    u32::from_be_bytes([id[0], id[1], id[2], id[3]]) % 1_000_000_000
}

fn now_secs() -> i64 {
    // A clock before 1970 is the operator's to set; the consumers reject what it stamps.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs() as i64)
}

fn hour_of(secs: i64) -> i64 {
    secs.div_euclid(3_600)
}
