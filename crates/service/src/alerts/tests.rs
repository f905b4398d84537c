//! Alerts from the numbers to the message, on a time that is passed in; and as a whole with a receiver.

use super::*;
use crate::config::Secret;
use crate::health::HealthReport;

const LIMIT: Duration = Duration::from_secs(30);

fn rules(start: Instant) -> Rules {
    let sender = Sender {
        service: "test",
        instance: "here".to_owned(),
    };
    Rules::new(sender, start)
}

fn readings(ready: bool, lag_seconds: f64) -> Readings {
    Readings {
        lag_seconds: Some(lag_seconds),
        health: HealthReport {
            ready,
            live: true,
            components: Vec::new(),
        },
        ..Readings::default()
    }
}

/// What is told, by alert and status, with the second.
fn told(limits: &AlertLimits, at: impl Fn(u64) -> Readings, seconds: u64) -> Vec<(u64, String)> {
    let start = Instant::now();
    let mut rules = rules(start);
    let look = |second| {
        let now = start + Duration::from_secs(second);
        let messages = rules.look(limits, &at(second), &[], now, 0);
        messages
            .into_iter()
            .map(|message| {
                (
                    second,
                    format!("{} {}", message.alert.as_str(), message.status.as_str()),
                )
            })
            .collect::<Vec<_>>()
    };
    (0..=seconds).flat_map(look).collect()
}

fn owned(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected
        .iter()
        .map(|(second, text)| (*second, (*text).to_owned()))
        .collect()
}

#[test]
fn a_start_is_quiet_and_what_goes_wrong_after_it_is_told() {
    let limits = AlertLimits::default();
    // Not ready for a while at the start, behind while it catches up, then well; then behind for good.
    let at = |second| match second {
        0..200 => readings(false, 500.0),
        200..400 => readings(true, 500.0),
        400..550 => readings(true, 0.0),
        _ => readings(true, 40.0),
    };
    let found = told(&limits, at, 1_000);
    assert_eq!(found, owned(&[(800, "no-data firing"), (850, "lag firing")]));
}

#[test]
fn a_service_that_is_never_ready_is_told_of_in_the_end() {
    let limits = AlertLimits::default();
    let found = told(&limits, |_| readings(false, 0.0), 700);
    assert_eq!(found, owned(&[(600, "not-ready firing")]));
}

#[test]
fn what_is_off_is_not_told_and_is_over_when_it_is_switched_off() {
    let mut limits = AlertLimits {
        off: vec![AlertName::NoData],
        ..AlertLimits::default()
    };
    let start = Instant::now();
    let mut rules = rules(start);
    let mut statuses = Vec::new();
    for second in 0..2_000 {
        if second == 1_000 {
            limits.off.push(AlertName::Lag);
        }
        let now = start + Duration::from_secs(second);
        let messages = rules.look(&limits, &readings(true, 100.0), &[], now, 0);
        statuses.extend(
            messages
                .iter()
                .map(|message| (second, message.alert, message.status.as_str())),
        );
    }
    let expected = [
        (300, AlertName::Lag, "firing"),
        (1_060, AlertName::Lag, "resolved"),
    ];
    assert_eq!(statuses, expected);
}

#[test]
fn it_is_looked_often_enough_and_not_too_often() {
    let with = |after_ms| AlertLimits {
        after: Duration::from_millis(after_ms),
        ..AlertLimits::default()
    };
    assert_eq!(interval(&AlertLimits::default()), Duration::from_secs(3));
    assert_eq!(interval(&with(0)), MIN_INTERVAL);
    assert_eq!(interval(&with(4_000)), Duration::from_millis(200));
    let long = AlertLimits {
        after: Duration::MAX,
        window: Duration::MAX,
        no_data: Duration::MAX,
        ..AlertLimits::default()
    };
    assert_eq!(interval(&long), MAX_INTERVAL);
}

#[test]
fn without_an_address_nothing_runs() {
    let metrics = Metrics::new("test");
    let health = Health::new();
    let alerts = Alerts::start(
        &AlertSettings::default(),
        "test",
        "here".to_owned(),
        &metrics,
        &health,
    );
    alerts.expect("off").set_limits(AlertLimits::default());
    assert!(!metrics.encode().contains("alerts_"));
}

#[test]
fn a_component_that_fails_is_told_to_a_receiver_that_hangs_and_a_stop_does_not_wait_for_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/s3cret", listener.local_addr().expect("listening"));
    let (metrics, health) = (Metrics::new("test"), Health::new());
    let component = health.component("consumer", None);
    component.ready();
    let settings = AlertSettings {
        webhook: Some(Secret::new(url)),
        limits: AlertLimits {
            after: Duration::from_millis(100),
            ..AlertLimits::default()
        },
    };
    let alerts = Alerts::start(&settings, "test", "here".to_owned(), &metrics, &health).expect("started");
    // The first look has to see that it was ready.
    let deadline = Instant::now() + LIMIT;
    while !metrics
        .encode()
        .contains("alerts_firing{alert=\"not-ready\"} 0\n")
    {
        assert!(Instant::now() < deadline, "nobody looks");
        std::thread::yield_now();
    }
    component.not_ready("no broker");
    // The connection is accepted and never answered.
    let (_stream, _) = listener.accept().expect("a call");
    let asked = Instant::now();
    drop(alerts);
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "the stop waited for the receiver"
    );
    assert!(
        metrics
            .encode()
            .contains("alerts_firing{alert=\"not-ready\"} 1\n")
    );
}
