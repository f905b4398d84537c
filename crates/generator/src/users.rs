//! Who logs in: a fixed population, each user with a home state, one or two devices and a home network.
//!
//! A user is a rank below the number of users; everything else is derived from (seed, rank) when it is needed. Memory
//! is 4 bytes a user, 12 with a skew. The weight of rank r is (r + 1)^-skew (Zipf), 1 for all when the skew is 0.

use crate::rng::{Derived, Rng};
use crate::states::{STATE_COUNT, STATES};

/// Names apart what is derived from the seed, so that a user's home says nothing about the user's devices.
const HOME_STREAM: u64 = 0x486f_6d65;
const USER_STREAM: u64 = 0x5573_6572;

/// Released versions with the share of devices that run each, in percent.
const APP_VERSIONS: [(&str, u64); 5] = [
    ("2.3.0", 52),
    ("2.2.1", 24),
    ("2.1.0", 13),
    ("2.0.4", 7),
    ("1.9.8", 4),
];

/// The share of users with a second device, in percent.
const SECOND_DEVICE_PERCENT: u64 = 30;
/// How often a user with two devices takes the second, in percent.
const SECOND_DEVICE_USE_PERCENT: u64 = 35;
const ANDROID_PERCENT: u64 = 56;

/// First octets that hold a block which is not public: private, shared, loopback, link-local, documentation, reserved.
const AVOIDED_FIRST_OCTETS: [u8; 8] = [10, 100, 127, 169, 172, 192, 198, 203];

/// All users, grouped by state.
#[derive(Debug)]
pub(crate) struct Population {
    seed: u64,
    users: u32,
    states: Vec<StateUsers>,
}

#[derive(Debug, Default)]
struct StateUsers {
    ranks: Vec<u32>,
    /// Running sum of the weights of `ranks`; empty when all weigh the same.
    cumulative: Vec<f64>,
}

impl StateUsers {
    fn weight(&self) -> f64 {
        self.cumulative.last().copied().unwrap_or(self.ranks.len() as f64)
    }
}

/// One user on one device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visit {
    pub(crate) user_id: [u8; 16],
    pub(crate) device_id: [u8; 16],
    pub(crate) device_type: &'static str,
    pub(crate) app_version: &'static str,
    pub(crate) locale: [u8; 2],
    /// The first three octets of the user's public IPv4 addresses.
    pub(crate) ipv4_network: [u8; 3],
    /// The first 48 bits of the user's public IPv6 addresses.
    pub(crate) ipv6_network: [u16; 3],
}

impl Population {
    /// `users` must be at least 1, `skew` at least 0.
    pub(crate) fn new(seed: u64, users: u32, skew: f64) -> Population {
        let mut states: Vec<StateUsers> = (0..STATE_COUNT).map(|_| StateUsers::default()).collect();
        for rank in 0..users {
            let state = &mut states[home_state(seed, rank)];
            state.ranks.push(rank);
            if skew > 0.0 {
                let before = state.cumulative.last().copied().unwrap_or(0.0);
                // libm's pow is software: the same bits on every machine, which the platform's pow does not promise.
                state
                    .cumulative
                    .push(before + libm::pow(f64::from(rank) + 1.0, -skew));
            }
        }
        Population { seed, users, states }
    }

    /// How much of all logins comes from the users of each state, before the time of day.
    pub(crate) fn state_weights(&self) -> [f64; STATE_COUNT] {
        std::array::from_fn(|i| self.states[i].weight())
    }

    /// A user of `state`, by weight; the state must have users.
    pub(crate) fn draw_from(&self, state: usize, rng: &mut Rng) -> Visit {
        let users = &self.states[state];
        let index = if users.cumulative.is_empty() {
            rng.below(users.ranks.len() as u64) as usize
        } else {
            let point = rng.unit() * users.weight();
            users
                .cumulative
                .partition_point(|&sum| sum <= point)
                .min(users.ranks.len() - 1)
        };
        self.visit(users.ranks[index], state, rng)
    }

    /// Any user, all equally likely: whom an attacker with a list of stolen accounts tries.
    pub(crate) fn draw_any(&self, rng: &mut Rng) -> Visit {
        let rank = rng.below(u64::from(self.users)) as u32;
        self.visit(rank, home_state(self.seed, rank), rng)
    }

    fn visit(&self, rank: u32, state: usize, rng: &mut Rng) -> Visit {
        let mut traits = Derived::new(self.seed ^ USER_STREAM, u64::from(rank));
        let user_id = uuid_v4(traits.next_u64(), traits.next_u64());
        let ipv4_network = public_ipv4_network(&mut traits);
        let network = traits.next_u64();
        // 2600::/12 is one of ARIN's blocks.
        let ipv6_network = [
            0x2600 | (network & 0xf) as u16,
            (network >> 16) as u16,
            (network >> 32) as u16,
        ];
        let has_second = traits.below(100) < SECOND_DEVICE_PERCENT;
        let second = has_second && rng.below(100) < SECOND_DEVICE_USE_PERCENT;
        if second {
            // Each device takes four numbers: pass over those of the first.
            for _ in 0..4 {
                traits.next_u64();
            }
        }
        let device_id = uuid_v4(traits.next_u64(), traits.next_u64());
        let device_type = if traits.below(100) < ANDROID_PERCENT {
            "android"
        } else {
            "iOS"
        };
        let app_version = app_version(traits.below(100));
        let locale = STATES[state].code;
        Visit {
            user_id,
            device_id,
            device_type,
            app_version,
            locale,
            ipv4_network,
            ipv6_network,
        }
    }
}

fn app_version(percentile: u64) -> &'static str {
    let mut rest = percentile;
    for (version, percent) in APP_VERSIONS {
        if rest < percent {
            return version;
        }
        rest -= percent;
    }
    unreachable!("the shares of the versions add up to 100")
}

/// The index in [`STATES`] of the state where the user lives, by the states' residents.
fn home_state(seed: u64, rank: u32) -> usize {
    const TOTAL: u64 = {
        let mut total = 0;
        let mut i = 0;
        while i < STATE_COUNT {
            total += STATES[i].residents as u64;
            i += 1;
        }
        total
    };
    let mut rest = Derived::new(seed ^ HOME_STREAM, u64::from(rank)).below(TOTAL);
    for (index, state) in STATES.iter().enumerate() {
        let residents = u64::from(state.residents);
        if rest < residents {
            return index;
        }
        rest -= residents;
    }
    unreachable!("a number below the total falls into one of its parts")
}

fn public_ipv4_network(numbers: &mut Derived) -> [u8; 3] {
    loop {
        let word = numbers.next_u64();
        let first = (word >> 16) as u8;
        if (1..=223).contains(&first) && !AVOIDED_FIRST_OCTETS.contains(&first) {
            return [first, (word >> 8) as u8, word as u8];
        }
    }
}

/// The 16 bytes of a version 4 UUID (RFC 9562, section 5.4) with these random bits.
pub(crate) fn uuid_v4(high: u64, low: u64) -> [u8; 16] {
    uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
        .into_uuid()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_index(code: &[u8; 2]) -> usize {
        STATES.iter().position(|s| &s.code == code).expect("a state")
    }

    #[test]
    fn users_live_where_people_live() {
        let population = Population::new(7, 100_000, 0.0);
        let weights = population.state_weights();
        let total: f64 = weights.iter().sum();
        assert_eq!(total, 100_000.0);
        let california = weights[state_index(b"CA")] / total;
        assert!(
            (0.11..0.13).contains(&california),
            "39.5 of 331.4 million people live there, not {california}"
        );
    }

    #[test]
    fn a_user_keeps_home_network_and_devices() {
        let population = Population::new(7, 3, 0.0);
        let mut rng = Rng::from_seed(1);
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..1_000 {
            let visit = population.draw_any(&mut rng);
            let homes: &mut (_, std::collections::BTreeSet<_>) = seen
                .entry(visit.user_id)
                .or_insert(((visit.locale, visit.ipv4_network), Default::default()));
            assert_eq!(homes.0, (visit.locale, visit.ipv4_network));
            homes
                .1
                .insert((visit.device_id, visit.device_type, visit.app_version));
        }
        assert_eq!(seen.len(), 3);
        assert!(seen.values().all(|homes| homes.1.len() <= 2), "{seen:?}");
    }

    #[test]
    fn a_skew_makes_few_users_frequent() {
        let share_of_first = |skew: f64| {
            let population = Population::new(7, 1_000, skew);
            let first = population
                .visit(0, home_state(7, 0), &mut Rng::from_seed(0))
                .user_id;
            let home = home_state(7, 0);
            let mut rng = Rng::from_seed(2);
            let hits = (0..10_000)
                .filter(|_| population.draw_from(home, &mut rng).user_id == first)
                .count();
            hits as f64 / 10_000.0 * population.state_weights()[home]
                / population.state_weights().iter().sum::<f64>()
        };
        // 1 of 1,000 without a skew; 1 / (1 + 1/2 + … + 1/1000) = 0.1336 with the skew 1.
        assert!(share_of_first(0.0) < 0.005);
        let skewed = share_of_first(1.0);
        assert!((0.12..0.15).contains(&skewed), "{skewed}");
    }

    #[test]
    fn versions_cover_every_percentile() {
        assert_eq!(app_version(0), "2.3.0");
        assert_eq!(app_version(99), "1.9.8");
    }
}
