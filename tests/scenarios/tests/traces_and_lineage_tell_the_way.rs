//! Who follows a login by its trace finds the whole way: the producer's trace is that of the span of `realtime run`, of the header of what it
//! publishes, and of a link of the commit that stores it. Lineage names what was read and written, by OpenLineage's rules. Neither can hold up
//! or lose anything when nobody takes it, and without them every header is as it came.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::collector::{Collector, Span};
use loginlake_scenarios::kafka::Record;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Output, Program};
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::{entries, http, runner};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
/// The trace of each of the producer's records, and the span that published it.
const SPAN: &str = "00f067aa0ba902b7";
const GOOD: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const BAD: &str = "11111111111111111111111111111111";
const NOT_RECORDED: &str = "22222222222222222222222222222222";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        one_trace_leads_from_the_producer_into_the_lake,
        a_share_of_the_other_records_begins_a_trace,
        at_least_once_tells_the_same,
        lineage_names_what_was_read_and_written,
        a_receiver_that_is_away_holds_up_nothing,
        without_traces_no_header_is_added,
    ])
}

fn login(user: &str) -> String {
    format!(
        r#"{{"user_id":"a6397988-1649-4859-ae5f-{user}","app_version":"2.3.0","ip":"108.228.145.239","locale":"RI","device_id":"d-1","timestamp":1741000000,"device_type":"iOS"}}"#
    )
}

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{SPAN}-{flags}")
}

/// Five records, each with another header; the payloads tell them apart.
fn produce(scenario: &Scenario) -> Result<()> {
    let good = [
        ("traceparent", traceparent(GOOD, "01")),
        ("tracestate", "vendor=1".to_owned()),
        ("x-of-the-producer", "kept".to_owned()),
    ];
    let rows = [
        (login("000000000001"), good.to_vec()),
        (
            login("000000000002"),
            vec![("traceparent", traceparent(NOT_RECORDED, "00"))],
        ),
        (login("000000000003"), Vec::new()),
        (
            "no login".to_owned(),
            vec![("traceparent", traceparent(BAD, "01"))],
        ),
        (
            login("000000000004"),
            vec![("traceparent", "00-not-a-trace".to_owned())],
        ),
    ];
    for (payload, headers) in rows {
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        scenario
            .kafka
            .produce_with_headers(&scenario.input_topic(), &payload, &headers)?;
    }
    Ok(())
}

/// The published records by the end of their user id; the dead letter as `bad`.
fn published(scenario: &Scenario) -> Result<BTreeMap<String, Record>> {
    let mut found = BTreeMap::new();
    for record in scenario.kafka.read_committed(&scenario.output_topic())? {
        let json: Value = serde_json::from_slice(record.payload.as_deref().context("a payload")?)?;
        let user = json["user_id"].as_str().context("a user")?;
        found.insert(user[user.len() - 1..].to_owned(), record);
    }
    for record in scenario.kafka.read_committed(&scenario.dead_letter_topic())? {
        found.insert("bad".to_owned(), record);
    }
    Ok(found)
}

fn header<'a>(records: &'a BTreeMap<String, Record>, which: &str, key: &str) -> Option<&'a str> {
    records.get(which)?.headers.get(key).map(String::as_str)
}

fn with_traces(program: Program, collector: &Collector) -> Program {
    program
        .args(["--otlp-endpoint", &collector.url()])
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
}

fn of_trace<'a>(spans: &'a [Span], trace: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.trace_id == trace).collect()
}

/// What the collector has of a run of `realtime`, and what it published, fit each other.
fn check_realtime(scenario: &Scenario, collector: &Collector) -> Result<()> {
    let records = published(scenario)?;
    ensure!(
        records.len() == 5,
        "{} records were published: {records:?}",
        records.len()
    );
    let spans = collector.spans();
    ensure!(
        spans.len() == 2,
        "one span for each record with a recorded trace: {spans:?}"
    );
    for (trace, which, topic, outcome) in [
        (GOOD, "1", scenario.output_topic(), "processed"),
        (BAD, "bad", scenario.dead_letter_topic(), "dead_letter"),
    ] {
        let found = of_trace(&spans, trace);
        ensure!(found.len() == 1, "{trace}: {found:?}");
        let span = found[0];
        ensure!(
            span.parent_id == SPAN && span.kind == 4 && span.service == "loginlake-realtime",
            "{span:?}"
        );
        assert_eq!(span.name, format!("send {topic}"));
        assert_eq!(span.attribute("messaging.destination.name"), Some(topic.as_str()));
        assert_eq!(span.attribute("loginlake.outcome"), Some(outcome));
        let (partition, offset) = records[which].source_position()?;
        assert_eq!(
            span.attribute("loginlake.source.partition"),
            Some(partition.to_string().as_str())
        );
        assert_eq!(
            span.attribute("loginlake.source.offset"),
            Some(offset.to_string().as_str())
        );
        // What comes next is below this span.
        let wanted = format!("00-{trace}-{}-01", span.span_id);
        assert_eq!(header(&records, which, "traceparent"), Some(wanted.as_str()));
    }
    assert_eq!(header(&records, "1", "tracestate"), Some("vendor=1"));
    assert_eq!(header(&records, "1", "x-of-the-producer"), Some("kept"));
    // What is not recorded, or is no trace, is passed on as it came.
    let not_recorded = traceparent(NOT_RECORDED, "00");
    assert_eq!(header(&records, "2", "traceparent"), Some(not_recorded.as_str()));
    assert_eq!(header(&records, "3", "traceparent"), None);
    assert_eq!(header(&records, "4", "traceparent"), Some("00-not-a-trace"));
    collector.check()
}

fn one_trace_leads_from_the_producer_into_the_lake() -> Result<()> {
    let scenario = Scenario::new("trace")?;
    scenario.create_topics()?;
    produce(&scenario)?;
    let collector = Collector::start()?;
    with_traces(scenario.realtime(), &collector)
        .arg("--exit-at-end")
        .run_ok(LIMIT)?;
    check_realtime(&scenario, &collector)?;

    collector.forget();
    with_traces(scenario.ingest(), &collector)
        .arg("--exit-at-end")
        .run_ok(LIMIT)?;
    let spans = collector.spans();
    ensure!(spans.len() == 1, "one span for one commit: {spans:?}");
    let commit = &spans[0];
    ensure!(
        commit.name == "commit logins" && commit.kind == 5 && commit.parent_id.is_empty(),
        "{commit:?}"
    );
    let mut links = commit.links.clone();
    links.sort();
    let link = |trace: &str| (trace.to_owned(), SPAN.to_owned());
    assert_eq!(
        links,
        [link(BAD), link(GOOD)],
        "the recorded traces of its records"
    );
    assert_eq!(commit.attribute("loginlake.logins"), Some("4"));
    assert_eq!(commit.attribute("loginlake.rejected"), Some("1"));
    ensure!(
        commit.attribute("loginlake.delta.version").is_some() && !commit.has_failed,
        "{commit:?}"
    );
    assert_eq!(scenario.reader().count("logins")?, 4);

    // A job is one span, below whoever started it.
    collector.forget();
    let parent = traceparent(GOOD, "01");
    with_traces(scenario.olap("compact"), &collector)
        .arg("--all")
        .env("TRACEPARENT", &parent)
        .run_ok(LIMIT)?;
    with_traces(scenario.olap("query"), &collector)
        .args(["-e", "SELECT count(*) FROM logins WHERE user_id = 'nobody'"])
        .run_ok(LIMIT)?;
    with_traces(scenario.olap("query"), &collector)
        .args(["-e", "SELECT 1/0 FROM logins WHERE locale = 'RI'"])
        .run(LIMIT)?;
    let spans = collector.spans();
    let names: Vec<(&str, bool)> = spans
        .iter()
        .map(|span| (span.name.as_str(), span.has_failed))
        .collect();
    assert_eq!(
        names,
        [
            ("olap.compact", false),
            ("olap.query", false),
            ("olap.query", true)
        ]
    );
    ensure!(
        spans[0].trace_id == GOOD && spans[0].parent_id == SPAN,
        "{:?}",
        spans[0]
    );
    ensure!(
        spans[1].trace_id != GOOD && spans[1].parent_id.is_empty(),
        "{:?}",
        spans[1]
    );
    collector.check()
}

fn a_share_of_the_other_records_begins_a_trace() -> Result<()> {
    let scenario = Scenario::new("trace-ratio")?;
    scenario.create_topics()?;
    produce(&scenario)?;
    let collector = Collector::start()?;
    with_traces(scenario.realtime(), &collector)
        .args(["--trace-ratio", "1", "--exit-at-end"])
        .run_ok(LIMIT)?;
    let (records, spans) = (published(&scenario)?, collector.spans());
    // All but the one whose producer decided against it.
    ensure!(spans.len() == 4, "{spans:?}");
    for which in ["3", "4"] {
        let said = header(&records, which, "traceparent").context("a new trace")?;
        let span = spans.iter().find(|span| said.contains(&span.span_id));
        let span = span.with_context(|| format!("no span for {said}"))?;
        ensure!(
            span.parent_id.is_empty() && said.contains(&span.trace_id),
            "{span:?}"
        );
    }
    let not_recorded = traceparent(NOT_RECORDED, "00");
    assert_eq!(header(&records, "2", "traceparent"), Some(not_recorded.as_str()));
    collector.check()
}

fn at_least_once_tells_the_same() -> Result<()> {
    let scenario = Scenario::new("trace-alo")?;
    scenario.create_topics()?;
    produce(&scenario)?;
    let collector = Collector::start()?;
    with_traces(scenario.realtime(), &collector)
        .args(["--guarantee", "at-least-once", "--exit-at-end"])
        .run_ok(LIMIT)?;
    check_realtime(&scenario, &collector)
}

fn with_lineage(program: Program, collector: &Collector) -> Program {
    program
        .args(["--openlineage-url", &collector.url()])
        .args(["--openlineage-namespace", "logins"])
        .env("OPENLINEAGE_API_KEY", "the-key")
}

/// The events of the one run of a job, which begins with START and ends with `end`.
fn run_of<'a>(events: &'a [Value], job: &str, end: &str) -> Result<Vec<&'a Value>> {
    let found: Vec<&Value> = events
        .iter()
        .filter(|event| event["job"]["name"] == job)
        .collect();
    let (first, last) = (found.first(), found.last());
    let (first, last) = first.zip(last).with_context(|| format!("no event of {job}"))?;
    ensure!(
        first["eventType"] == "START" && last["eventType"] == end && found.len() >= 2,
        "{job}: {found:?}"
    );
    ensure!(
        found
            .iter()
            .all(|event| event["run"]["runId"] == first["run"]["runId"]),
        "two runs of {job}"
    );
    ensure!(
        found.iter().all(|event| event["job"]["namespace"] == "logins"),
        "another namespace"
    );
    Ok(found)
}

fn dataset<'a>(event: &'a Value, side: &str, name: &str) -> Result<&'a Value> {
    let found = event[side]
        .as_array()
        .and_then(|sets| sets.iter().find(|set| set["name"] == name));
    found.with_context(|| format!("{name} is not among the {side} of {event}"))
}

fn lineage_names_what_was_read_and_written() -> Result<()> {
    let scenario = Scenario::new("lineage")?;
    scenario.create_topics()?;
    // Two commits, so that there is something to compact; the first is nobody's business.
    let half = |seed| scenario.generate(1_500, seed).args(["--bad-share", "0.1"]);
    half(5).run_ok(LIMIT)?;
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    let count = |table| scenario.reader().count(table);
    let before = BTreeMap::from([("logins", count("logins")?), ("rejected", count("rejected")?)]);
    half(6).run_ok(LIMIT)?;
    let collector = Collector::start()?;
    let parent_id = "a6397988-1649-4859-ae5f-a1407b638ca6";
    let told = |program: Program| with_lineage(program, &collector);
    let ingested = told(scenario.ingest())
        .arg("--exit-at-end")
        .env("OPENLINEAGE_PARENT_ID", format!("airflow/nightly/{parent_id}"))
        .run_ok(LIMIT)?;
    says_no_key(&ingested)?;
    told(scenario.realtime()).arg("--exit-at-end").run_ok(LIMIT)?;
    told(scenario.olap("compact")).arg("--all").run_ok(LIMIT)?;
    told(scenario.olap("refresh")).run_ok(LIMIT)?;
    told(scenario.olap("maintain"))
        .args(["--once", "--http", "none"])
        .run_ok(LIMIT)?;
    let file = scenario.sql_file("top_regions.sql");
    told(scenario.olap("query")).arg(&file).run_ok(LIMIT)?;
    let failed = told(scenario.olap("query"))
        .args(["-e", "SELECT no_such_column FROM logins WHERE locale = 'hidden'"])
        .run(LIMIT)?;
    ensure!(failed.code != 0, "a wrong query went well");

    collector.check()?;
    let events = collector.events();
    let keys = collector.keys();
    ensure!(
        keys.len() == events.len() && keys.iter().all(|key| key == "Bearer the-key"),
        "{keys:?}"
    );

    // Ingestion: from these offsets, so many rows, into this version.
    let run = run_of(&events, "olap.ingest", "COMPLETE")?;
    let end = run[run.len() - 1];
    assert_eq!(end["job"]["facets"]["jobType"]["processingType"], "STREAMING");
    assert_eq!(end["run"]["facets"]["parent"]["run"]["runId"], parent_id);
    let topic = dataset(end, "inputs", &scenario.input_topic())?;
    assert_eq!(
        topic["namespace"],
        format!("kafka://{}", scenario.kafka.brokers())
    );
    let offsets = topic["inputFacets"]["loginlake_kafkaOffsets"]["nextOffsets"]
        .as_object()
        .context("offsets")?;
    let read: u64 = offsets.values().filter_map(Value::as_u64).sum();
    assert_eq!((offsets.len(), read), (4, 3_000));
    let mut written = 0;
    for table in ["logins", "rejected"] {
        let set = dataset(end, "outputs", &format!("lake/{table}"))?;
        assert_eq!(set["namespace"], format!("s3://{}", scenario.bucket()));
        let rows = set["outputFacets"]["outputStatistics"]["rowCount"].as_u64();
        let rows = rows.context("a number of rows")?;
        assert_eq!(usize::try_from(rows)?, count(table)? - before[table]);
        written += rows;
        let fields = set["facets"]["schema"]["fields"].as_array().context("columns")?;
        ensure!(
            fields.iter().any(|field| field["name"] == "kafka_offset"),
            "{fields:?}"
        );
    }
    assert_eq!(written, 1_500);

    // The speed path: from these offsets, so many records into these topics.
    let run = run_of(&events, "realtime.run", "COMPLETE")?;
    let end = run[run.len() - 1];
    let topic = dataset(end, "inputs", &scenario.input_topic())?;
    let offsets = topic["inputFacets"]["loginlake_kafkaOffsets"]["nextOffsets"]
        .as_object()
        .context("offsets")?;
    assert_eq!(offsets.values().filter_map(Value::as_u64).sum::<u64>(), 3_000);
    let mut published = 0;
    for topic in [scenario.output_topic(), scenario.dead_letter_topic()] {
        let rows = &dataset(end, "outputs", &topic)?["outputFacets"]["outputStatistics"]["rowCount"];
        let records = scenario.kafka.read_committed(&topic)?.len();
        assert_eq!(usize::try_from(rows.as_u64().context("rows")?)?, records);
        published += records;
    }
    assert_eq!(published, 3_000);

    // Maintenance and queries name the versions that they made or read.
    let run = run_of(&events, "olap.compact", "COMPLETE")?;
    let logins = dataset(run[run.len() - 1], "outputs", "lake/logins")?;
    ensure!(
        logins["facets"]["version"]["datasetVersion"].is_string(),
        "{logins}"
    );
    let rows = logins["outputFacets"]["outputStatistics"]["rowCount"].as_u64();
    assert_eq!(
        usize::try_from(rows.context("rows")?)?,
        count("logins")?,
        "every row was rewritten"
    );
    let run = run_of(&events, "olap.refresh", "COMPLETE")?;
    dataset(run[0], "inputs", "lake/logins")?;
    dataset(run[run.len() - 1], "outputs", "lake/logins_hourly")?;
    for job in ["compact", "refresh", "vacuum"] {
        run_of(&events, &format!("olap.maintain.{job}"), "COMPLETE")?;
    }
    let run = run_of(&events, "olap.query.top_regions", "COMPLETE")?;
    let read = dataset(run[run.len() - 1], "inputs", "lake/logins")?;
    ensure!(read["facets"]["version"]["datasetVersion"].is_string(), "{read}");
    let run = run_of(&events, "olap.query", "FAIL")?;
    let said = run[run.len() - 1].to_string();
    ensure!(
        !said.contains("hidden") && !said.contains("no_such_column"),
        "the text of a query: {said}"
    );
    Ok(())
}

fn says_no_key(output: &Output) -> Result<()> {
    ensure!(
        !output.stderr.contains("the-key"),
        "the key is in the log: {}",
        output.stderr
    );
    Ok(())
}

fn a_receiver_that_is_away_holds_up_nothing() -> Result<()> {
    let scenario = Scenario::new("trace-away")?;
    scenario.create_topics()?;
    produce(&scenario)?;
    scenario.generate(5_000, 9).run_ok(LIMIT)?;
    let collector = Collector::start()?;
    collector.say_nothing();
    let told = |program: Program| {
        with_lineage(with_traces(program, &collector), &collector).env("OTEL_EXPORTER_OTLP_TIMEOUT", "2000")
    };
    // All of it is told of, so the queue runs over, too.
    let port = free_port()?;
    let mut realtime = told(scenario.realtime())
        .args(["--trace-ratio", "1", "--http", &http::loopback(port).to_string()])
        .start()?;
    let counted = |outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        http::metric_with(http::loopback(port), "trace_spans_total", &label)
    };
    realtime.wait_until("everything to be published", LIMIT, || {
        let records = http::metric(http::loopback(port), "realtime_records_total");
        Ok(records.is_ok_and(|records| records >= 5_005.0).then_some(()))
    })?;
    realtime.wait_until("lost spans to be counted", LIMIT, || {
        let lost = counted("failed").and_then(|failed| Ok(failed + counted("dropped")?));
        Ok(lost.is_ok_and(|lost| lost >= 1_000.0).then_some(()))
    })?;
    assert_eq!(counted("exported")?, 0.0);
    let ready = http::get(http::loopback(port), "/health/ready")?;
    ensure!(
        ready.status == 200,
        "a collector that is away is no reason: {}",
        ready.body
    );
    let asked = Instant::now();
    realtime.terminate(LIMIT)?;
    ensure!(asked.elapsed() < Duration::from_secs(20), "the end waited for it");
    let committed = scenario.kafka.read_committed(&scenario.output_topic())?.len()
        + scenario
            .kafka
            .read_committed(&scenario.dead_letter_topic())?
            .len();
    assert_eq!(committed, 5_005);

    // The batch path and a query likewise; then one that refuses.
    let asked = Instant::now();
    told(scenario.ingest()).arg("--exit-at-end").run_ok(LIMIT)?;
    ensure!(
        asked.elapsed() < Duration::from_secs(60),
        "ingestion waited for it"
    );
    collector.answer_with(500);
    let file = scenario.sql_file("top_regions.sql");
    let query = told(scenario.olap("query")).arg(&file).run_ok(LIMIT)?;
    ensure!(
        query.stderr.contains("the collector answers 500"),
        "it does not say why: {}",
        query.stderr
    );
    let rows = scenario.reader().count("logins")? + scenario.reader().count("rejected")?;
    assert_eq!(rows, 5_005);
    ensure!(collector.requests() > 0, "nobody was told anything");
    ensure!(
        collector.spans().is_empty() && collector.events().is_empty(),
        "something was taken"
    );
    Ok(())
}

fn without_traces_no_header_is_added() -> Result<()> {
    let scenario = Scenario::new("trace-off")?;
    scenario.create_topics()?;
    produce(&scenario)?;
    scenario
        .realtime()
        .arg("--exit-at-end")
        // Neither of them is an address.
        .env("OTEL_TRACES_SAMPLER_ARG", "1")
        .env("OTEL_SERVICE_NAME", "x")
        .run_ok(LIMIT)?;
    let records = published(&scenario)?;
    ensure!(records.len() == 5, "{} records", records.len());
    let good = traceparent(GOOD, "01");
    assert_eq!(header(&records, "1", "traceparent"), Some(good.as_str()));
    assert_eq!(header(&records, "1", "tracestate"), Some("vendor=1"));
    let bad = traceparent(BAD, "01");
    assert_eq!(header(&records, "bad", "traceparent"), Some(bad.as_str()));
    assert_eq!(header(&records, "4", "traceparent"), Some("00-not-a-trace"));
    let without = &records["3"].headers;
    let wanted = [
        "content-type",
        "schema.version",
        "source.offset",
        "source.partition",
        "source.topic",
    ];
    ensure!(
        without.keys().map(String::as_str).eq(wanted),
        "other headers: {without:?}"
    );
    Ok(())
}
