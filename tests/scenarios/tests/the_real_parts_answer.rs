//! The parts that every other scenario stands on, without any binary of ours: Kafka and MinIO come up, keep what they
//! acknowledged through a power cut, and the independent reader reads a table. When this fails, look here first.

use std::process::ExitCode;

use anyhow::Result;
use loginlake_scenarios::kafka::Kafka;
use loginlake_scenarios::minio::Minio;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::reader::Reader;
use loginlake_scenarios::scenario::run_dir;
use loginlake_scenarios::{entries, runner};

fn main() -> ExitCode {
    let kafka = entries![&[Part::Kafka]; kafka_keeps_what_it_acknowledged];
    let minio = entries![&[Part::Minio, Part::Reader]; minio_keeps_a_table_that_another_engine_reads];
    runner::main(&[kafka, minio].concat())
}

fn kafka_keeps_what_it_acknowledged() -> Result<()> {
    let kafka = Kafka::start(&run_dir()?.join("own-kafka"))?;
    kafka.create_topic("logins", 3)?;
    assert_eq!(kafka.partitions("logins")?, 3);
    assert_eq!(kafka.partitions("no-such-topic")?, 0);
    assert_eq!(kafka.read_committed("logins")?, []);
    kafka.produce(
        "logins",
        (0..1000).map(|number| (format!("key-{number}"), number.to_string().into_bytes())),
    )?;

    kafka.kill();
    kafka.start_again()?;
    let records = kafka.read_committed("logins")?;
    let mut numbers: Vec<u32> = Vec::new();
    for record in &records {
        let payload = String::from_utf8(record.payload.clone().unwrap_or_default())?;
        assert_eq!(record.key, Some(format!("key-{payload}").into_bytes()));
        numbers.push(payload.parse()?);
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..1000));
    Ok(())
}

fn minio_keeps_a_table_that_another_engine_reads() -> Result<()> {
    let minio = Minio::start(&run_dir()?.join("own-minio"))?;
    minio.create_bucket("lakes")?;
    minio.put("lakes", "note.txt", b"none of the table's")?;
    let reader = Reader::new("s3://lakes/one", minio.environment());
    assert_eq!(reader.count("colours")?, 0);
    reader.write_foreign_table("colours")?;

    minio.kill();
    minio.start_again()?;
    assert_eq!(reader.count("colours")?, 2);
    assert_eq!(
        reader.query("colours", "SELECT colour FROM t ORDER BY colour")?,
        [["blue"], ["red"]]
    );
    assert!(minio.list("lakes")?.contains(&"note.txt".to_owned()));
    assert!(minio.list("no-such-bucket").is_err());
    Ok(())
}
