//! Records into a broker, here the one inside the process: every record arrives, or the run says so.

use loginlake_generator::pace::Pace;
use loginlake_generator::to_kafka::KafkaSink;
use loginlake_generator::{Generator, GeneratorConfig, run};
use loginlake_kafka::embedded::EmbeddedBroker;
use loginlake_kafka::topics::Topics;
use loginlake_service::shutdown::Shutdown;

#[test]
fn every_record_is_acknowledged_before_the_run_ends() {
    let broker = EmbeddedBroker::start(&[("user-login", 3)]).unwrap();
    let settings = broker.settings();
    let config = GeneratorConfig {
        seed: 7,
        count: Some(2_000),
        bad_share: 0.1,
        ..Default::default()
    };
    let mut generator = Generator::new(config).unwrap();
    let mut sink = KafkaSink::connect(&settings, "user-login", None).unwrap();

    let summary = run(
        &mut generator,
        &mut sink,
        Pace::AsFastAsPossible,
        &Shutdown::new(),
        &mut |_| (),
    )
    .unwrap();

    let topics = Topics::connect(&settings).unwrap();
    let arrived: Vec<i64> = (0..3)
        .map(|partition| {
            let (low, high) = topics.watermarks("user-login", partition).unwrap();
            high - low
        })
        .collect();
    assert_eq!(summary.produced, 2_000);
    assert_eq!(arrived.iter().sum::<i64>(), 2_000);
    assert!(
        arrived.iter().all(|records| *records > 0),
        "fresh keys spread over the partitions: {arrived:?}"
    );
}
