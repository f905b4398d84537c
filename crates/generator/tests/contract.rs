//! Every generated record gets exactly the verdict that the generator says, by the code that the consumers run.

use std::collections::{BTreeMap, BTreeSet};

use loginlake_events::{Contract, RejectReason};
use loginlake_generator::{Generator, GeneratorConfig, Timeline};

const MONDAY_2026_01_05: i64 = 1_767_571_200;
const DAY_SECS: i64 = 86_400;

fn week(count: u64) -> GeneratorConfig {
    GeneratorConfig {
        seed: 7,
        count: Some(count),
        timeline: Timeline::Period {
            from_secs: MONDAY_2026_01_05,
            to_secs: MONDAY_2026_01_05 + 7 * DAY_SECS,
        },
        ..Default::default()
    }
}

fn generator(config: GeneratorConfig) -> Generator {
    Generator::new(config).unwrap()
}

#[test]
fn every_bad_record_is_rejected_for_its_reason_and_every_good_one_accepted() {
    let contract = Contract::default();
    let mut seen: BTreeMap<RejectReason, u64> = BTreeMap::new();
    let config = GeneratorConfig {
        bad_share: 0.6,
        legacy_share: 0.2,
        ipv6_share: 0.2,
        attack_share: 0.1,
        ..week(40_000)
    };
    for record in generator(config) {
        // A broker stamps a record with its arrival, or (None) it has no timestamp at all.
        for kafka_timestamp_ms in [Some(record.timestamp_ms), None] {
            let verdict = contract.decode(record.payload.as_deref(), kafka_timestamp_ms);
            let reason = verdict.as_ref().err().map(|rejection| rejection.reason);
            let text = record.payload.as_deref().map(String::from_utf8_lossy);
            assert_eq!(reason, record.expected, "{text:?}: {verdict:?}");
            if let Ok(event) = verdict {
                assert_eq!(event.timestamp_secs() * 1_000, record.timestamp_ms);
            }
        }
        if let Some(reason) = record.expected {
            *seen.entry(reason).or_default() += 1;
        }
    }
    let expected: BTreeSet<_> = RejectReason::OF_CONTRACT
        .into_iter()
        .filter(|reason| *reason != RejectReason::TooLarge)
        .collect();
    assert_eq!(seen.keys().copied().collect::<BTreeSet<_>>(), expected);
    let (fewest, most) = (seen.values().min().unwrap(), seen.values().max().unwrap());
    assert!(most - fewest <= 1, "every reason equally often: {seen:?}");
}

#[test]
fn records_over_1_mib_come_only_when_asked_for() {
    let contract = Contract::default();
    let config = GeneratorConfig {
        bad_share: 1.0,
        too_large: true,
        ..week(17)
    };
    let mut found = 0;
    for record in generator(config) {
        let verdict = contract.decode(record.payload.as_deref(), None);
        assert_eq!(verdict.err().map(|rejection| rejection.reason), record.expected);
        found += u32::from(record.expected == Some(RejectReason::TooLarge));
    }
    assert_eq!(found, 1, "one round of the 17 reasons");
}

#[test]
fn one_event_in_twenty_has_no_device_type() {
    let contract = Contract::default();
    let missing = generator(week(20_000))
        .filter(|record| {
            let event = contract.decode(record.payload.as_deref(), None).unwrap();
            event.flags().iter().any(|flag| flag == "device_type_missing")
        })
        .count();
    assert!((900..1_100).contains(&missing), "{missing} of 20,000");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let records = |seed| {
        generator(GeneratorConfig {
            seed,
            bad_share: 0.1,
            skew: 1.1,
            ..week(2_000)
        })
        .collect::<Vec<_>>()
    };
    assert_eq!(records(7), records(7));
    assert_ne!(records(7), records(8));
}

#[test]
fn keys_are_fresh_version_4_uuids() {
    let keys: BTreeSet<_> = generator(week(5_000)).map(|record| record.key).collect();
    assert_eq!(keys.len(), 5_000);
    for key in keys {
        let key = uuid::Uuid::try_parse_ascii(&key).unwrap();
        assert_eq!(key.get_version_num(), 4);
    }
}

#[test]
fn logins_peak_in_the_evening_of_their_own_state() {
    let contract = Contract::default();
    let mut by_local_hour: BTreeMap<String, [u32; 24]> = BTreeMap::new();
    for record in generator(week(60_000)) {
        let event = contract.decode(record.payload.as_deref(), None).unwrap();
        let hours = by_local_hour.entry(event.locale().to_owned()).or_default();
        hours[usize::from(event.local_hour().expect("a state has a local hour"))] += 1;
    }
    for state in ["CA", "TX", "NY"] {
        let hours = by_local_hour[state];
        let evening: u32 = hours[18..22].iter().sum();
        let night: u32 = hours[1..5].iter().sum();
        assert!(evening > 5 * night, "{state}: {hours:?}");
    }
    let logins = |state: &str| by_local_hour[state].iter().sum::<u32>();
    assert!(
        logins("CA") > logins("TX") && logins("TX") > logins("NY"),
        "by their residents"
    );
}

#[test]
fn all_addresses_are_public() {
    let contract = Contract::default();
    for record in generator(GeneratorConfig {
        ipv6_share: 0.5,
        attack_share: 0.1,
        ..week(20_000)
    }) {
        let event = contract.decode(record.payload.as_deref(), None).unwrap();
        assert_eq!(event.ip_class().as_str(), "public", "{}", event.ip());
    }
}

#[test]
fn an_attack_is_one_address_that_tries_many_users() {
    let contract = Contract::default();
    let mut users_by_ip: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in generator(GeneratorConfig {
        attack_share: 0.1,
        ..week(10_000)
    }) {
        let event = contract.decode(record.payload.as_deref(), None).unwrap();
        users_by_ip
            .entry(event.ip().to_owned())
            .or_default()
            .insert(event.user_id().to_owned());
    }
    let mut tried: Vec<usize> = users_by_ip.values().map(BTreeSet::len).collect();
    tried.sort_unstable();
    assert!(tried[tried.len() - 1] > 800, "the attacker");
    assert!(tried[tried.len() - 2] < 5, "everybody else");
}
