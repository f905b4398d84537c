//! `realtime check --index` on a real node: healthy it is all ok, each fault has its line, and nothing is installed or changed.
//! `realtime index` itself refuses to index with the types of somebody else.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::checklist::{Said, check};
use loginlake_scenarios::http;
use loginlake_scenarios::opensearch::OpenSearch;
use loginlake_scenarios::process::Program;
use loginlake_scenarios::scenario::{Scenario, free_port};
use serde_json::{Value, json};

use crate::tls_proxy::TlsProxy;
use crate::{LIMIT, PASSWORD};

const AREA: &str = "opensearch";
const TYPES: &str = "types of a new index";

/// What the node is reached with.
pub(crate) struct Files {
    pub ca: PathBuf,
    pub stranger: PathBuf,
    pub credentials: PathBuf,
    pub wrong: PathBuf,
    /// The topic of the index's dead letters.
    pub letters: String,
}

/// Before anything was indexed: the template is not there yet.
pub(crate) fn tells_what_is_wrong(
    scenario: &Scenario,
    node: &OpenSearch,
    proxy: &TlsProxy,
    files: &Files,
) -> Result<()> {
    let with = |url: &str, ca: &PathBuf, credentials: &PathBuf| -> Program {
        scenario
            .realtime_command("check")
            .args(["--index", "--index-url", url])
            .arg("--index-ca-file")
            .arg(ca)
            .arg("--index-credentials-file")
            .arg(credentials)
            .env("LOGINLAKE_INDEX_DEAD_LETTER_TOPIC", &files.letters)
    };
    let good = || with(&proxy.url(), &files.ca, &files.credentials);
    let template = |name: &str, method: &str, body: Option<Value>| {
        node.ask(method, &format!("/_index_template/{name}"), body.as_ref())
    };

    let said = check(&good(), 0)?;
    said.all_ok()?;
    said.has(AREA, "node", "ok", &["opensearch 2."])?;
    said.has(
        AREA,
        "index template",
        "ok",
        &["logins is missing: the start installs it"],
    )?;
    said.has(AREA, TYPES, "ok", &[])?;
    ensure!(
        template("logins", "GET", None).is_err(),
        "the check installed something"
    );
    let not_ours = good().env("LOGINLAKE_INDEX_CREATE_TEMPLATE", "false");
    check(&not_ours, 1)?.only(AREA, "index template", "failed", &["missing"])?;
    println!("all is ok before the first start, and nothing was installed");

    // The way there.
    let said = check(&with(&proxy.url(), &files.ca, &files.wrong), 1)?;
    said.only(AREA, "node", "failed", &["refuses these credentials (401)"])?;
    let shows_secret = |said: &Said| said.shown.contains(PASSWORD) || said.shown.contains("something-else");
    ensure!(!shows_secret(&said), "{}", said.shown);
    let said = check(&with(&proxy.url(), &files.stranger, &files.credentials), 1)?;
    said.only(AREA, "node", "failed", &["certificate"])?;
    let nobody = format!("https://localhost:{}", free_port()?);
    check(&with(&nobody, &files.ca, &files.credentials), 1)?.only(
        AREA,
        "node",
        "failed",
        &["nobody answers", &nobody],
    )?;
    let other = something_else()?;
    check(&with(&other, &files.ca, &files.credentials), 1)?.only(
        AREA,
        "node",
        "failed",
        &["not OpenSearch"],
    )?;
    let unknown = good().env("LOGINLAKE_INDEX_DEAD_LETTER_TOPIC", "no-such-topic");
    check(&unknown, 1)?.only("kafka", "topic no-such-topic", "failed", &["no such topic"])?;
    println!("wrong password, wrong authority, nobody, somebody else, no topic: each has its line");

    // What the user may do.
    proxy.forbid(&["_index_template"]);
    let said = check(&good(), 1)?;
    said.only(
        AREA,
        "index template",
        "failed",
        &["its user may not do this (403)"],
    )?;
    proxy.forbid(&["_simulate", "_cluster"]);
    check(&good(), 0)?.only(AREA, TYPES, "warning", &["403"])?;
    proxy.forbid(&[]);
    println!("missing rights are told");

    // Templates of others.
    let foreign = json!({"index_patterns": ["logins-*"], "priority": 7,
        "template": {"mappings": {"properties": {"ip": {"type": "text"}}}}});
    template("logins", "PUT", Some(foreign.clone()))?;
    check(&good(), 1)?.only(
        AREA,
        "index template",
        "failed",
        &["logins is not of this software"],
    )?;
    refuses_to_start(scenario, node, files, "logins is not of this software")?;
    let kept = template("logins", "GET", None)?;
    ensure!(
        kept["index_templates"][0]["index_template"]["priority"] == 7,
        "somebody else's template was changed: {kept}"
    );
    template("logins", "DELETE", None)?;

    let mut wide = foreign;
    (wide["index_patterns"], wide["priority"]) = (json!(["log*"]), json!(500));
    template("wide", "PUT", Some(wide.clone()))?;
    check(&good(), 1)?.only(AREA, TYPES, "failed", &["does not hold for a new index logins-"])?;
    refuses_to_start(scenario, node, files, "does not hold for a new index")?;
    check(&good(), 1)?.has(AREA, "index template", "ok", &["version"])?;
    template("logins", "DELETE", None)?;
    wide["priority"] = json!(200);
    template("wide", "PUT", Some(wide.clone()))?;
    check(&good(), 1)?.only(AREA, TYPES, "failed", &["same priority"])?;
    refuses_to_start(scenario, node, files, "same priority")?;
    wide["priority"] = json!(3);
    template("wide", "PUT", Some(wide))?;
    check(&good(), 0)?.all_ok()?;
    template("wide", "DELETE", None)?;
    println!("templates of others are told, and not overwritten");
    Ok(())
}

/// Without a template of its own that counts, nothing is indexed.
fn refuses_to_start(scenario: &Scenario, node: &OpenSearch, files: &Files, why: &str) -> Result<()> {
    let program = scenario
        .connected(Program::ours("realtime", scenario.dir()).arg("index"))
        .args([
            "--output-topic",
            &scenario.output_topic(),
            "--group-id",
            "index-refused",
        ])
        .args([
            "--index-dead-letter-topic",
            &files.letters,
            "--index-url",
            &node.url(),
        ])
        .args(["--http", "none", "--exit-at-end"]);
    let output = program.run(LIMIT)?;
    ensure!(
        output.code == 1 && output.stderr.contains(why) && output.stderr.contains("hint:"),
        "{}: {}",
        output.code,
        output.stderr
    );
    let indices = node.ask("GET", "/_cat/indices?format=json", None)?;
    let indices = indices.as_array().context("no list")?;
    ensure!(
        !indices
            .iter()
            .any(|index| index["index"].to_string().contains("logins")),
        "something was indexed: {indices:?}"
    );
    Ok(())
}

/// A server of something else, which has an answer to everything. It ends with the process.
fn something_else() -> Result<String> {
    let listener = TcpListener::bind(http::loopback(0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut part = [0; 4_096];
            // A client that goes away is none.
            let _ = client.read(&mut part);
            let _ = client.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 4\r\nconnection: close\r\n\r\n<h1>",
            );
        }
    });
    Ok(format!("http://{address}"))
}
