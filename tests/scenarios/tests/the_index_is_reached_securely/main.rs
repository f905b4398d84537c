//! `realtime index` reaches OpenSearch over TLS with a password: every login is there. Another authority and a wrong password are said,
//! waited for, and no secret is in the log. `realtime check --index` says before the start what is wrong with it.

mod check;
mod tls_proxy;

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use loginlake_scenarios::authority::Authority;
use loginlake_scenarios::opensearch::OpenSearch;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::Program;
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::{entries, http, runner};
use tls_proxy::TlsProxy;

const LIMIT: Duration = Duration::from_secs(180);
const PASSWORD: &str = "p4ssw0rd-of-indexer-1732050807";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::OpenSearch];
        the_index_is_reached_securely,
    ])
}

fn the_index_is_reached_securely() -> Result<()> {
    let scenario = Scenario::new("index-secure")?;
    scenario.create_topics()?;
    let letters = format!("{}.index-dead-letters", scenario.bucket());
    scenario.kafka.create_topic(&letters, 1)?;
    scenario.generate(300, 4).run_ok(LIMIT)?;
    scenario.realtime().arg("--exit-at-end").run_ok(LIMIT)?;
    let node = OpenSearch::start(&scenario.dir().join("opensearch"))?;
    let authority = Authority::new(scenario.dir(), "authority")?;
    let stranger = Authority::new(scenario.dir(), "stranger")?;
    let pair = authority.server(&["localhost"])?;
    let proxy = TlsProxy::start(node.address(), &pair, &format!("indexer:{PASSWORD}"))?;
    let credentials = scenario.dir().join("credentials");
    fs::write(&credentials, format!("indexer:{PASSWORD}\n"))?;
    let wrong = scenario.dir().join("wrong-credentials");
    fs::write(&wrong, "indexer:something-else\n")?;

    check::tells_what_is_wrong(
        &scenario,
        &node,
        &proxy,
        &check::Files {
            ca: authority.file(),
            stranger: stranger.file(),
            credentials: credentials.clone(),
            wrong: wrong.clone(),
            letters: letters.clone(),
        },
    )?;
    let (passed_by_check, refused_by_check) = proxy.counts();

    let indexer = |ca: &std::path::Path, credentials: &std::path::Path| -> Program {
        scenario
            .connected(Program::ours("realtime", scenario.dir()).arg("index"))
            .args([
                "--output-topic",
                &scenario.output_topic(),
                "--group-id",
                "index-secure",
            ])
            .args(["--index-dead-letter-topic", &letters, "--index-url", &proxy.url()])
            .arg("--index-ca-file")
            .arg(ca)
            .arg("--index-credentials-file")
            .arg(credentials)
            .env("LOGINLAKE_LOG_FORMAT", "text")
            .env("RUST_LOG", "debug")
    };
    for (ca, credentials, said) in [
        (stranger.file(), &credentials, "certificate"),
        (authority.file(), &wrong, "--index-credentials-file"),
    ] {
        let address = http::loopback(free_port()?);
        let program = indexer(&ca, credentials).args(["--http", &address.to_string()]);
        let mut process = program.start()?;
        let ready = process.wait_until("readiness to say why, or its end", LIMIT, || {
            Ok(http::get(address, "/health/ready")
                .ok()
                .filter(|answer| answer.body.contains(said)))
        });
        let text = match ready {
            Ok(_) => process.terminate(LIMIT)?.stderr,
            Err(_) => {
                let output = process.wait_exit(LIMIT)?;
                ensure!(output.code == 1, "{}: {}", output.code, output.stderr);
                ensure!(output.stderr.contains(said), "{said} was due: {}", output.stderr);
                output.stderr
            }
        };
        ensure!(
            !text.contains(PASSWORD) && !text.contains("something-else"),
            "a secret is in the log"
        );
    }
    let (passed, refused) = proxy.counts();
    ensure!(
        passed == passed_by_check && refused > refused_by_check,
        "{passed} passed, {refused} refused"
    );

    let program = indexer(&authority.file(), &credentials).args(["--http", "none", "--exit-at-end"]);
    let output = program.run_ok(LIMIT)?;
    ensure!(!output.stderr.contains(PASSWORD), "the password is in the log");
    let count = scenario.kafka.read_committed(&scenario.output_topic())?.len();
    let ids = node.ids("logins")?;
    ensure!(
        ids.len() == count && count > 250,
        "{} of {count} are in the index",
        ids.len()
    );
    Ok(())
}
