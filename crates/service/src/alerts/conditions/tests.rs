//! Numbers in, what is wrong out; on a time that is passed in.

use super::*;
use crate::health::{ComponentReport, HealthReport};

const ALL: [AlertName; AlertName::ALL.len()] = AlertName::ALL;

fn ready() -> HealthReport {
    HealthReport {
        ready: true,
        live: true,
        components: Vec::new(),
    }
}

fn well() -> Readings {
    Readings {
        health: ready(),
        ..Readings::default()
    }
}

/// The names of what is wrong.
fn wrong(found: &Found) -> Vec<&'static str> {
    let named = ALL.iter().zip(found).filter(|(_, detail)| detail.is_some());
    named.map(|(alert, _)| alert.as_str()).collect()
}

/// What is wrong when this came after a look at nothing.
fn once(readings: &Readings) -> Found {
    let (now, limits) = (Instant::now(), AlertLimits::default());
    let mut conditions = Conditions::new(now);
    conditions.look(&limits, &well(), now);
    conditions.look(&limits, readings, now + Duration::from_secs(1))
}

#[test]
fn a_number_at_its_limit_is_right_and_one_beyond_it_is_wrong() {
    for (readings, name) in [
        (
            [30.0, 30.1].map(|lag| Readings {
                lag_seconds: Some(lag),
                ..well()
            }),
            "lag",
        ),
        (
            [1e6, 1e6 + 1.0].map(|lag| Readings {
                lag_records: Some(lag),
                ..well()
            }),
            "lag",
        ),
        (
            [80.0, 81.0].map(|debt| Readings {
                debt_bytes: Some(debt),
                debt_limit_bytes: Some(100.0),
                ..well()
            }),
            "compaction-debt",
        ),
        (
            [5.0, 6.0].map(|dead_letters| Readings {
                records: 100.0,
                dead_letters,
                ..well()
            }),
            "dead-letter-share",
        ),
    ] {
        let [right, wrong_one] = readings;
        assert_eq!(wrong(&once(&right)), [""; 0], "{right:?}");
        assert_eq!(wrong(&once(&wrong_one)), [name]);
    }
    assert_eq!(wrong(&once(&well())), [""; 0], "what is not known is not wrong");
}

#[test]
fn a_share_of_few_records_says_nothing() {
    let readings = Readings {
        records: 19.0,
        dead_letters: 19.0,
        ..well()
    };
    assert_eq!(wrong(&once(&readings)), [""; 0]);
}

#[test]
fn counters_are_those_of_the_window() {
    let start = Instant::now();
    let (mut conditions, limits) = (Conditions::new(start), AlertLimits::default());
    let bad = Readings {
        records: 1_000.0,
        dead_letters: 500.0,
        publish_delay: vec![(1.0, 0.0), (10.0, 100.0), (f64::INFINITY, 100.0)],
        ..well()
    };
    let at = |seconds| start + Duration::from_secs(seconds);
    let both = ["dead-letter-share", "publish-delay"];
    conditions.look(&limits, &well(), at(0));
    assert_eq!(wrong(&conditions.look(&limits, &bad, at(1))), both);
    assert_eq!(
        wrong(&conditions.look(&limits, &bad, at(62))),
        both,
        "nothing came since"
    );
    let mut good = Readings {
        records: 1_000.0,
        dead_letters: 500.0,
        publish_delay: bad.publish_delay.clone(),
        ..well()
    };
    for seconds in 63..=600 {
        good.records += 100.0;
        for (_, count) in &mut good.publish_delay {
            *count += 100.0;
        }
        let found = conditions.look(&limits, &good, at(seconds));
        assert_eq!(wrong(&found), [""; 0], "after {seconds} s nothing new is wrong");
        assert!(conditions.looks.len() <= MAX_LOOKS + 1);
    }
    let window = at(600).duration_since(conditions.looks[0].at);
    assert!(
        (60..=62).contains(&window.as_secs()),
        "the window is a minute: {window:?}"
    );
    assert_eq!(wrong(&conditions.look(&limits, &good, at(1_199))), [""; 0]);
}

#[test]
fn what_was_said_of_records_is_forgotten_with_them() {
    let start = Instant::now();
    let (mut conditions, limits) = (Conditions::new(start), AlertLimits::default());
    let bad = Readings {
        records: 100.0,
        dead_letters: 50.0,
        ..well()
    };
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(
        wrong(&conditions.look(&limits, &bad, at(0))),
        [""; 0],
        "of the start"
    );
    let worse = Readings {
        records: 200.0,
        dead_letters: 100.0,
        ..well()
    };
    assert_eq!(
        wrong(&conditions.look(&limits, &worse, at(1))),
        ["dead-letter-share"]
    );
    assert_eq!(
        wrong(&conditions.look(&limits, &worse, at(600))),
        ["dead-letter-share"]
    );
    assert_eq!(wrong(&conditions.look(&limits, &worse, at(601))), [""; 0]);
}

#[test]
fn a_delay_is_the_quantile_that_prometheus_would_tell() {
    let buckets = vec![(1.0, 90.0), (2.0, 98.0), (4.0, 100.0), (f64::INFINITY, 100.0)];
    let none = Buckets::new();
    assert_eq!(quantile(&buckets, &none), Some(3.0));
    assert_eq!(quantile(&buckets, &buckets), None, "nothing came");
    let beyond = vec![(1.0, 0.0), (f64::INFINITY, 5.0)];
    assert_eq!(quantile(&beyond, &none), Some(1.0));
    assert_eq!(quantile(&none, &none), None);
}

#[test]
fn no_data_is_told_of_an_instance_that_has_partitions_only() {
    let start = Instant::now();
    let limits = AlertLimits::default();
    let mut conditions = Conditions::new(start);
    let mut readings = Readings {
        lag_records: Some(0.0),
        records: 5.0,
        ..well()
    };
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(wrong(&conditions.look(&limits, &readings, at(0))), [""; 0]);
    assert_eq!(wrong(&conditions.look(&limits, &readings, at(599))), [""; 0]);
    assert_eq!(wrong(&conditions.look(&limits, &readings, at(600))), ["no-data"]);
    readings.lag_records = None;
    assert_eq!(wrong(&conditions.look(&limits, &readings, at(700))), [""; 0]);
    readings.lag_records = Some(0.0);
    readings.records = 6.0;
    assert_eq!(wrong(&conditions.look(&limits, &readings, at(701))), [""; 0]);
}

#[test]
fn what_is_not_ready_is_said_with_its_reason_and_not_without_end() {
    let component = |name: &str, reason: Option<&str>| ComponentReport {
        name: name.to_owned(),
        ready: reason.is_none(),
        live: true,
        reason: reason.map(str::to_owned),
    };
    let mut readings = well();
    readings.health.ready = false;
    readings.health.components = vec![component("lake", Some("no store")), component("consumer", None)];
    let found = once(&readings);
    assert_eq!(
        found[AlertName::NotReady as usize].as_deref(),
        Some("lake: no store")
    );
    readings.health.components = vec![component("lake", Some(&"x".repeat(10_000)))];
    let found = once(&readings);
    assert_eq!(
        found[AlertName::NotReady as usize].as_ref().map(String::len),
        Some(MAX_DETAIL)
    );
}

#[test]
fn numbers_are_readable() {
    for (seconds, text) in [
        (0.0, "0 s"),
        (0.001, "1 ms"),
        (0.5, "500 ms"),
        (1.5, "1.5 s"),
        (3.0, "3 s"),
        (45.4, "45 s"),
        (300.0, "5 min"),
        (9_000.0, "2.5 h"),
    ] {
        assert_eq!(time(seconds), text);
    }
    assert_eq!(
        (size(53_687_091_200.0).as_str(), size(12.0).as_str()),
        ("50.0 GiB", "12B")
    );
}
