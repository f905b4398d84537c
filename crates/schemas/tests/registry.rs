//! Records through a decoder, with a registry that answers as the real ones do and breaks when it is told to.

mod server;

use std::time::{Duration, Instant};

use loginlake_events::RejectReason;
use loginlake_schemas::{Decoder, Failure, Schemas};
use loginlake_service::config::{RegistryCredentials, ResolvedSchemaRegistry, Secret};
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;
use proptest::prelude::*;
use serde_json::json;
use server::{Answer, Server};

const AVRO: &str = r#"{"type":"record","name":"R","fields":[{"name":"ip","type":"string"}]}"#;
const PROTOBUF: &str = r#"syntax = "proto3"; message Login { string ip = 1; int64 timestamp = 2; }"#;

struct Setup {
    server: Server,
    schemas: Schemas,
    health: Health,
    metrics: Metrics,
    decoder: Decoder,
}

fn settings(server: &Server, credentials: Option<RegistryCredentials>) -> ResolvedSchemaRegistry {
    ResolvedSchemaRegistry {
        url: server.url(),
        credentials,
    }
}

fn setup() -> Setup {
    let server = Server::start();
    let (health, metrics) = (Health::new(), Metrics::new("test"));
    let schemas = Schemas::new(&settings(&server, None), &health, &metrics).expect("settings");
    Setup {
        decoder: schemas.decoder(),
        server,
        schemas,
        health,
        metrics,
    }
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

fn schema(schema: &str, kind: Option<&str>) -> Answer {
    match kind {
        None => Answer::json(200, &json!({ "schema": schema })),
        Some(kind) => Answer::json(200, &json!({"schema": schema, "schemaType": kind})),
    }
}

fn not_found(code: u32) -> Answer {
    Answer::json(404, &json!({"error_code": code, "message": "not found"}))
}

fn reason(decoder: &mut Decoder, payload: &[u8]) -> RejectReason {
    match decoder.json_of(Some(payload)) {
        Err(Failure::Rejected(rejection)) => rejection.reason,
        other => panic!("not rejected: {other:?}"),
    }
}

fn problem(decoder: &mut Decoder, payload: &[u8]) -> String {
    match decoder.json_of(Some(payload)) {
        Err(Failure::Unavailable(error)) => error.to_string(),
        other => panic!("the registry has answered: {other:?}"),
    }
}

fn json_of(decoder: &mut Decoder, payload: &[u8]) -> String {
    let json = decoder.json_of(Some(payload)).expect("JSON").expect("a payload");
    String::from_utf8(json.to_vec()).expect("UTF-8")
}

#[test]
fn plain_records_pass_and_ask_nothing() {
    let mut setup = setup();
    for payload in [
        None,
        Some(&b""[..]),
        Some(b"{}"),
        Some(b"\x01\x00\x00"),
        Some(b"not json"),
    ] {
        assert_eq!(setup.decoder.json_of(payload).expect("passes"), payload);
    }
    assert_eq!(setup.server.requests(), Vec::<String>::new());
    assert!(setup.health.report().ready);
}

#[test]
fn all_three_types_give_the_same_json() {
    let mut setup = setup();
    setup.server.set("/schemas/ids/1", schema(AVRO, None));
    setup
        .server
        .set("/schemas/ids/2", schema(PROTOBUF, Some("PROTOBUF")));
    setup.server.set("/schemas/ids/3", schema("{}", Some("JSON")));
    let decoder = &mut setup.decoder;
    for _ in 0..2 {
        assert_eq!(json_of(decoder, &framed(1, b"\x021")), r#"{"ip":"1"}"#);
        assert_eq!(json_of(decoder, &framed(2, b"\x00\x0a\x011")), r#"{"ip":"1"}"#);
        assert_eq!(json_of(decoder, &framed(3, br#"{"ip":"1"}"#)), r#"{"ip":"1"}"#);
    }
    let expected = ["/schemas/ids/1", "/schemas/ids/2", "/schemas/ids/3"];
    assert_eq!(setup.server.requests(), expected, "each once");
    assert!(setup.metrics.encode().contains("schema_registry_lookups_total 3"));
}

#[test]
fn references_are_fetched_before_what_refers_to_them() {
    let mut setup = setup();
    let reference = |name: &str| json!([{"name": name, "subject": name, "version": 1}]);
    let outer = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"n.A"}]}"#;
    let a = r#"{"type":"record","name":"n.A","fields":[{"name":"b","type":"B"}]}"#;
    let b = r#"{"type":"fixed","name":"n.B","size":1}"#;
    let server = &setup.server;
    server.set(
        "/schemas/ids/1",
        Answer::json(200, &json!({"schema": outer, "references": reference("n.A")})),
    );
    server.set(
        "/subjects/n.A/versions/1",
        Answer::json(200, &json!({"schema": a, "references": reference("n.B")})),
    );
    server.set("/subjects/n.B/versions/1", schema(b, None));
    assert_eq!(
        json_of(&mut setup.decoder, &framed(1, b"x")),
        r#"{"a":{"b":"eA=="}}"#
    );

    let lost = Answer::json(200, &json!({"schema": outer, "references": reference("lost")}));
    setup.server.set("/schemas/ids/2", lost);
    setup.server.set("/subjects/lost/versions/1", not_found(40401));
    assert_eq!(
        reason(&mut setup.decoder, &framed(2, b"x")),
        RejectReason::UnknownSchema
    );
}

#[test]
fn what_the_registry_does_not_have_or_nobody_can_use_is_an_unknown_schema() {
    let mut setup = setup();
    setup.server.set("/schemas/ids/1", not_found(40403));
    setup.server.set("/schemas/ids/2", schema("{", None));
    setup.server.set("/schemas/ids/3", schema("<x/>", Some("XML")));
    setup
        .server
        .set("/schemas/ids/4", schema("message {", Some("PROTOBUF")));
    for _ in 0..2 {
        for id in 1..=4 {
            assert_eq!(
                reason(&mut setup.decoder, &framed(id, b"x")),
                RejectReason::UnknownSchema
            );
        }
    }
    assert_eq!(setup.server.requests().len(), 4, "each once");
    assert!(setup.health.report().ready);
}

#[test]
fn frames_and_bodies_that_cannot_be_read_are_rejected_each_for_its_reason() {
    let mut setup = setup();
    setup.server.set("/schemas/ids/1", schema(AVRO, Some("AVRO")));
    setup
        .server
        .set("/schemas/ids/2", schema(PROTOBUF, Some("PROTOBUF")));
    let decoder = &mut setup.decoder;
    assert_eq!(reason(decoder, &[0, 0, 0]), RejectReason::BadFrame);
    assert_eq!(
        reason(decoder, &framed(1, b"\x04x")),
        RejectReason::SchemaMismatch
    );
    assert_eq!(reason(decoder, &framed(2, b"\x80")), RejectReason::BadFrame);
    assert_eq!(
        reason(decoder, &framed(2, b"\x02\x08")),
        RejectReason::SchemaMismatch
    );
    assert_eq!(
        reason(decoder, &framed(2, b"\x00\x0a\x09")),
        RejectReason::SchemaMismatch
    );
    let large = framed(1, &vec![0; loginlake_events::MAX_PAYLOAD_BYTES]);
    assert_eq!(reason(decoder, &large), RejectReason::TooLarge);
}

#[test]
fn a_registry_that_does_not_answer_is_waited_for_visibly() {
    let mut setup = setup();
    let payload = framed(1, b"\x021");
    let failures = [
        (Answer::text(500, "oops"), "answers 500"),
        (Answer::text(429, "slow down"), "answers 429"),
        (Answer::text(401, "who?"), "credentials (401)"),
        (Answer::text(403, "no"), "credentials (403)"),
        (Answer::text(404, "<html>nginx</html>"), "check the address"),
        (
            Answer::json(404, &json!({"error_code": 404})),
            "check the address",
        ),
        (Answer::text(200, "<html>login</html>"), "check the address"),
        (Answer::text(302, ""), "answers 302"),
        (Answer::broken(), "schema registry http"),
    ];
    let count = failures.len();
    for (answer, expected) in failures {
        setup.server.set("/schemas/ids/1", answer);
        let said = problem(&mut setup.decoder, &payload);
        assert!(said.contains(expected), "{said}");
        let Err(Failure::Unavailable(error)) = setup.decoder.json_of(Some(&payload)) else {
            panic!("it has answered");
        };
        assert!(setup.decoder.pause_after(&error) <= Duration::from_secs(2));
        let report = setup.health.report();
        assert!(!report.ready && report.live);
        let why = report.components[0].reason.clone().unwrap_or_default();
        assert!(why.contains(expected), "{why}");
    }
    let text = setup.metrics.encode();
    assert!(
        text.contains(&format!("schema_registry_retries_total {count}\n")),
        "{text}"
    );

    setup.server.set("/schemas/ids/1", schema(AVRO, None));
    assert_eq!(json_of(&mut setup.decoder, &payload), r#"{"ip":"1"}"#);
    assert!(setup.health.report().ready, "it goes on");
}

#[test]
fn it_is_ready_only_when_no_thread_waits_any_more() {
    let mut setup = setup();
    let mut other = setup.schemas.decoder();
    setup.server.set("/schemas/ids/1", Answer::text(503, ""));
    for decoder in [&mut setup.decoder, &mut other] {
        let Err(Failure::Unavailable(error)) = decoder.json_of(Some(&framed(1, b"\x021"))) else {
            panic!("it has answered");
        };
        decoder.pause_after(&error);
    }
    drop(other);
    setup.decoder.idle(Instant::now());
    assert!(!setup.health.report().ready, "this one waits");
    setup.decoder.idle(Instant::now() + Duration::from_secs(60));
    assert!(setup.health.report().ready, "what it waited for is gone");
}

#[test]
fn nobody_there_is_waited_for_too() {
    let Setup {
        server, mut decoder, ..
    } = setup();
    drop(server);
    let said = problem(&mut decoder, &framed(1, b""));
    assert!(said.contains("schema registry http://127.0.0.1"), "{said}");
}

#[test]
fn credentials_go_to_the_registry_and_nowhere_else() {
    let server = Server::start();
    server.set("/schemas/ids/1", Answer::text(401, ""));
    for (credentials, header) in [
        (
            RegistryCredentials::Basic {
                user: "app".to_owned(),
                password: Secret::new("hunter2"),
            },
            "authorization: Basic YXBwOmh1bnRlcjI=",
        ),
        (
            RegistryCredentials::Bearer(Secret::new("t0ken")),
            "authorization: Bearer t0ken",
        ),
    ] {
        let settings = settings(&server, Some(credentials));
        let schemas = Schemas::new(&settings, &Health::new(), &Metrics::new("test")).expect("settings");
        let said = problem(&mut schemas.decoder(), &framed(1, b""));
        assert!(!said.contains("hunter2") && !said.contains("t0ken"), "{said}");
        assert!(!format!("{schemas:?}").contains("hunter2") && !format!("{schemas:?}").contains("t0ken"));
        let head = server.last_head();
        assert!(
            head.contains(&header.to_lowercase()) || head.contains(header),
            "{head}"
        );
    }
}

#[test]
fn addresses_that_cannot_work_are_usage_errors() {
    let secret = Some(RegistryCredentials::Bearer(Secret::new("t0ken")));
    for (url, credentials, expected) in [
        ("registry:8081", None, "not a URL"),
        ("ftp://registry", None, "not a URL"),
        ("http://app:hunter2@localhost", None, "holds credentials"),
        ("http://registry.example", secret.clone(), "plain HTTP"),
        ("http://localhost?x=1", None, "query"),
    ] {
        let settings = ResolvedSchemaRegistry {
            url: url.to_owned(),
            credentials,
        };
        let error = Schemas::new(&settings, &Health::new(), &Metrics::new("test")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains(expected) && !text.contains("hunter2"),
            "{url}: {text}"
        );
    }
    let settings = ResolvedSchemaRegistry {
        url: "https://registry.example/apis/ccompat/v7".to_owned(),
        credentials: secret,
    };
    Schemas::new(&settings, &Health::new(), &Metrics::new("test")).expect("settings that can work");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever follows the zero byte gets a verdict, and the same one from every decoder.
    #[test]
    fn any_framed_bytes_get_the_same_verdict_everywhere(id in 0_u32..4, rest in prop::collection::vec(any::<u8>(), 0..80)) {
        thread_local! {
            static SETUP: Setup = {
                let setup = setup();
                setup.server.set("/schemas/ids/1", schema(AVRO, None));
                setup.server.set("/schemas/ids/2", schema(PROTOBUF, Some("PROTOBUF")));
                setup.server.set("/schemas/ids/3", schema("{}", Some("JSON")));
                setup
            };
        }
        SETUP.with(|setup| {
            let (mut one, mut other) = (setup.schemas.decoder(), setup.schemas.decoder());
            for payload in [framed(id, &rest), [&[0], &rest[..rest.len().min(4)]].concat()] {
                let verdicts = [&mut one, &mut other].map(|decoder| match decoder.json_of(Some(&payload)) {
                    Ok(json) => Ok(json.map(<[u8]>::to_vec)),
                    Err(Failure::Rejected(rejection)) => Err(rejection),
                    Err(Failure::Unavailable(error)) => panic!("{error}"),
                });
                prop_assert_eq!(&verdicts[0], &verdicts[1]);
            }
            Ok(())
        })?;
    }
}
