//! Where traces and lineage go, by flags, environment and file.

use super::*;

fn resolved(variables: &[(&str, &str)], args: &TelemetryArgs) -> Result<Telemetry, ConfigError> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    args.resolve_with(&ConfigFile::default(), variables)
}

fn both() -> TelemetryArgs {
    TelemetryArgs {
        otlp_endpoint: Some("http://collector:4318/".to_owned()),
        openlineage_url: Some("https://lineage.example".to_owned()),
        ..TelemetryArgs::default()
    }
}

#[test]
fn without_an_address_nothing_is_sent() {
    let settings = resolved(
        &[
            ("TRACEPARENT", "x"),
            ("OPENLINEAGE_API_KEY", "k"),
            ("OTEL_TRACES_SAMPLER", "?"),
        ],
        &TelemetryArgs::default(),
    );
    assert_eq!(settings.expect("no error"), Telemetry::default());
}

#[test]
fn addresses_get_the_paths_of_their_protocols() {
    let settings = resolved(&[], &both()).expect("good settings");
    let traces = settings.traces.expect("traces");
    assert_eq!(traces.endpoint, "http://collector:4318/v1/traces");
    assert_eq!((traces.follows_parent, traces.ratio), (true, 0.0));
    let lineage = settings.lineage.expect("lineage");
    assert_eq!(lineage.endpoint, "https://lineage.example/api/v1/lineage");
    assert_eq!(
        (lineage.namespace.as_str(), lineage.api_key),
        (DEFAULT_NAMESPACE, None)
    );
    let variables = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other:1/spans"),
        ("OPENLINEAGE_ENDPOINT", "/events"),
    ];
    let settings = resolved(&variables, &both()).expect("good settings");
    assert_eq!(settings.traces.expect("traces").endpoint, "http://other:1/spans");
    assert_eq!(
        settings.lineage.expect("lineage").endpoint,
        "https://lineage.example/events"
    );
}

#[test]
fn the_standard_switches_switch_off() {
    for off in [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")] {
        let settings = resolved(&[off], &both()).expect("good settings");
        assert!(settings.traces.is_none() && settings.lineage.is_some(), "{off:?}");
    }
    let settings = resolved(&[("OPENLINEAGE_DISABLED", "true")], &both()).expect("good settings");
    assert!(settings.traces.is_some() && settings.lineage.is_none());
}

/// OpenTelemetry: "an empty value of an environment variable the same way as when the variable is unset".
#[test]
fn empty_variables_count_as_not_set() {
    let variables = [
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "OTEL_TRACES_SAMPLER",
        "OTEL_TRACES_EXPORTER",
        "OTEL_SDK_DISABLED",
        "TRACEPARENT",
        "OPENLINEAGE_ENDPOINT",
        "OPENLINEAGE_DISABLED",
        "OPENLINEAGE_PARENT_ID",
        OPENLINEAGE_API_KEY_VARIABLE,
    ];
    let empty = variables.map(|name| (name, " "));
    assert_eq!(
        resolved(&empty, &both()).expect("good settings"),
        resolved(&[], &both()).expect("good settings")
    );
}

#[test]
fn samplers_have_their_standard_names() {
    let with = |name, ratio| {
        let args = TelemetryArgs {
            trace_ratio: ratio,
            ..both()
        };
        let traces = resolved(&[("OTEL_TRACES_SAMPLER", name)], &args)?.traces;
        Ok::<_, ConfigError>(traces.map(|traces| (traces.follows_parent, traces.ratio)))
    };
    assert_eq!(
        with("parentbased_traceidratio", Some(0.25)).expect("good"),
        Some((true, 0.25))
    );
    assert_eq!(with("traceidratio", None).expect("good"), Some((false, 1.0)));
    assert_eq!(with("always_off", Some(0.5)).expect("good"), Some((false, 0.0)));
    let error = with("jaeger", None).expect_err("unknown").to_string();
    assert!(
        error.contains("OTEL_TRACES_SAMPLER") && error.contains("jaeger"),
        "{error}"
    );
    let error = with("", Some(1.5)).expect_err("no share").to_string();
    assert!(error.starts_with("--trace-ratio:"), "{error}");
}

#[test]
fn an_address_with_a_password_is_refused_and_not_repeated() {
    for url in [
        "http://u:hunter2@collector",
        "hunter2",
        "ftp://hunter2",
        "http://",
    ] {
        let args = TelemetryArgs {
            otlp_endpoint: Some(url.to_owned()),
            ..TelemetryArgs::default()
        };
        let error = resolved(&[], &args).expect_err("a wrong address").to_string();
        assert!(
            error.starts_with("--otlp-endpoint:") && !error.contains("hunter2"),
            "{error}"
        );
    }
}

#[test]
fn the_key_comes_from_a_file_or_the_environment_and_is_not_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("key");
    std::fs::write(&path, "from-file\n").expect("written");
    let settings = resolved(&[("OPENLINEAGE_API_KEY", "from-environment")], &both()).expect("good");
    assert_eq!(
        settings.lineage.clone().expect("lineage").api_key,
        Some(Secret::new("from-environment"))
    );
    assert!(!format!("{settings:?}").contains("from-environment"));
    let args = TelemetryArgs {
        openlineage_api_key_file: Some(path),
        ..both()
    };
    let settings = resolved(&[("OPENLINEAGE_API_KEY", "from-environment")], &args).expect("good");
    assert_eq!(
        settings.lineage.expect("lineage").api_key,
        Some(Secret::new("from-file"))
    );
    let args = TelemetryArgs {
        openlineage_url: Some("http://lineage.example".to_owned()),
        ..TelemetryArgs::default()
    };
    let error = resolved(&[("OPENLINEAGE_API_KEY", "k")], &args).expect_err("in the clear");
    assert!(error.to_string().contains("https://"), "{error}");
    assert!(resolved(&[], &args).is_ok(), "without a key");
    let args = TelemetryArgs {
        openlineage_api_key_file: Some("no/such/file".into()),
        ..both()
    };
    assert!(
        resolved(&[], &args)
            .expect_err("no file")
            .to_string()
            .contains("no/such/file")
    );
}

#[test]
fn a_parent_run_is_named_as_other_clients_name_it() {
    let id = "a6397988-1649-4859-ae5f-a1407b638ca6";
    let settings = resolved(
        &[("OPENLINEAGE_PARENT_ID", &format!("airflow/x/dag.task/{id}"))],
        &both(),
    );
    let parent = settings.expect("good").lineage.expect("lineage").parent;
    let parent = parent.expect("a parent");
    assert_eq!(
        (
            parent.namespace.as_str(),
            parent.job.as_str(),
            parent.run_id.as_str()
        ),
        ("airflow/x", "dag.task", id)
    );
    for wrong in ["a/b", "a/b/c", "", &format!("//{id}")] {
        let result = resolved(&[("OPENLINEAGE_PARENT_ID", wrong)], &both());
        assert_eq!(result.is_err(), !wrong.is_empty(), "{wrong}");
    }
}
