//! The pages of every service are for this machine, or for those who have the token: beyond loopback nothing is served without one,
//! unless an operator says so. With a certificate they are served over TLS; token and certificate are renewed without a restart; a
//! person logs in with a browser, and its event stream works.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::authority::{Authority, Pair};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Process, Program};
use loginlake_scenarios::scenario::{Scenario, free_port};
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, http, runner};
use reqwest::Certificate;
use reqwest::blocking::{Client, Response};
use reqwest::redirect::Policy;

const LIMIT: Duration = Duration::from_secs(120);
const USAGE: i32 = 2;
const TOKEN: &str = "t0ken-of-pages-161803398874989";
const NEXT_TOKEN: &str = "t0ken-of-pages-141421356237309";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio];
        nothing_is_served_beyond_loopback_without_a_token,
        a_wrong_certificate_is_said,
        a_person_logs_in_over_tls,
        token_and_certificate_are_renewed,
        every_service_asks_for_the_token,
    ])
}

/// Every program that serves HTTP.
fn services(scenario: &Scenario) -> Vec<Program> {
    let index = Program::ours("realtime", scenario.dir()).arg("index");
    vec![
        scenario.realtime(),
        scenario.ingest(),
        scenario.olap("maintain"),
        scenario
            .olap("serve")
            .args(["--queries", scenario.dir().to_str().unwrap_or_default()]),
        scenario.connected(index),
    ]
}

fn nothing_is_served_beyond_loopback_without_a_token() -> Result<()> {
    let scenario = Scenario::new("http-remote")?;
    scenario.create_topics()?;
    fs::write(scenario.dir().join("one.sql"), "SELECT 1 AS one;\n")?;
    fs::write(scenario.dir().join("weak"), "short\n")?;
    let remote = format!("0.0.0.0:{}", free_port()?);
    for program in services(&scenario) {
        for (more, expected) in [
            (&[] as &[&str], "--http-token-file"),
            (&["--http-token-file", "weak"][..], "openssl rand"),
            (&["--http-token-file", "absent"][..], "absent"),
        ] {
            let output = program.clone().args(["--http", &remote]).args(more).run(LIMIT)?;
            ensure!(
                output.code == USAGE && output.stderr.contains(expected),
                "{expected} and code 2 were due: {} ended with {}\n{}",
                output.shown,
                output.code,
                output.stderr
            );
        }
    }
    // Said so, it is served.
    let address = http::loopback(free_port()?);
    let remote = format!("0.0.0.0:{}", address.port());
    let mut service = scenario
        .realtime()
        .args(["--http", &remote, "--http-allow-remote"])
        .start()?;
    service.wait_until("its metrics", LIMIT, || {
        Ok(http::get(address, "/metrics")
            .is_ok_and(|answer| answer.status == 200)
            .then_some(()))
    })?;
    service.terminate(LIMIT)?;
    Ok(())
}

fn a_wrong_certificate_is_said() -> Result<()> {
    let scenario = Scenario::new("http-files")?;
    scenario.create_topics()?;
    let authority = Authority::new(scenario.dir(), "authority")?;
    let (one, other) = (authority.server(&["localhost"])?, authority.client("other")?);
    let address = http::loopback(free_port()?).to_string();
    for (certificate, key, expected) in [
        (&one.certificate, &other.key, "is not that of the certificate"),
        (&one.key, &one.key, "no certificate in PEM"),
        (&one.certificate, &scenario.dir().join("absent"), "absent"),
    ] {
        let program = scenario.realtime().args(["--http", &address]);
        let program = program
            .arg("--http-tls-cert")
            .arg(certificate)
            .arg("--http-tls-key")
            .arg(key);
        let output = program.run(LIMIT)?;
        ensure!(
            output.code == USAGE && output.stderr.contains(expected),
            "{expected} and code 2 were due: {}\n{}",
            output.code,
            output.stderr
        );
    }
    Ok(())
}

/// A service with a token and a certificate, and a client that trusts its authority.
struct Guarded {
    service: Process,
    client: Client,
    port: u16,
}

impl Guarded {
    fn start(program: Program, authority: &Authority, pair: &Pair, token: &Path) -> Result<Guarded> {
        let port = free_port()?;
        let program = program
            .args(["--http", &http::loopback(port).to_string(), "-vv"])
            .arg("--http-token-file")
            .arg(token)
            .arg("--http-tls-cert")
            .arg(&pair.certificate)
            .arg("--http-tls-key")
            .arg(&pair.key);
        let mut guarded = Guarded {
            service: program.start()?,
            client: client(&authority.file())?,
            port,
        };
        let (client, url) = (guarded.client.clone(), guarded.url("/health/live"));
        guarded.service.wait_until("it is live", LIMIT, || {
            Ok(client
                .get(&url)
                .send()
                .is_ok_and(|answer| answer.status() == 200)
                .then_some(()))
        })?;
        Ok(guarded)
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    fn get(&self, path: &str, name: &str, value: &str) -> Result<Response> {
        Ok(self.client.get(self.url(path)).header(name, value).send()?)
    }

    fn status(&self, path: &str, token: &str) -> Result<u16> {
        Ok(self
            .get(path, "authorization", &format!("Bearer {token}"))?
            .status()
            .as_u16())
    }
}

fn client(authority: &Path) -> Result<Client> {
    let trusted = Certificate::from_pem(&fs::read(authority)?)?;
    let client = Client::builder()
        .tls_certs_only([trusted])
        .redirect(Policy::none())
        .no_proxy();
    Ok(client.timeout(Duration::from_secs(20)).build()?)
}

fn a_person_logs_in_over_tls() -> Result<()> {
    let scenario = Scenario::new("http-login")?;
    scenario.create_topics()?;
    let authority = Authority::new(scenario.dir(), "authority")?;
    let token = scenario.dir().join("token");
    fs::write(&token, format!("{TOKEN}\n"))?;
    let pair = authority.server(&["localhost"])?;
    let guarded = Guarded::start(scenario.realtime(), &authority, &pair, &token)?;
    // A stranger learns that it lives, and nothing else.
    let health = guarded.get("/health/ready", "accept", "*/*")?.text()?;
    ensure!(!health.contains("components"), "{health}");
    let pages = [
        "/",
        "/metrics",
        "/api/stats",
        "/api/insights",
        "/api/events",
        "/nothing",
    ];
    for path in pages {
        let answer = guarded.get(path, "accept", "*/*")?;
        ensure!(answer.status() == 401, "{path}: {}", answer.status());
        ensure!(
            guarded.status(path, "t0ken-of-pages-161803398874988")? == 401,
            "{path}"
        );
    }
    ensure!(
        guarded.status("/metrics", TOKEN)? == 200,
        "metrics with the token"
    );
    ensure!(
        guarded.status("/nothing", TOKEN)? == 404,
        "nothing is nothing for those who may ask"
    );
    let plain = http::get(http::loopback(guarded.port), "/metrics");
    ensure!(
        !plain.is_ok_and(|answer| answer.status == 200),
        "it is served without TLS"
    );

    let form = guarded.get("/", "accept", "text/html,*/*;q=0.8")?;
    ensure!(form.status() == 401, "{}", form.status());
    ensure!(form.text()?.contains("action=\"login\""), "no form");
    let send = |token: &str| {
        let request = guarded.client.post(guarded.url("/login"));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(format!("token={token}&next=")).send()
    };
    let wrong = send("something-else-altogether")?;
    ensure!(
        wrong.status() == 401 && wrong.headers().get("set-cookie").is_none(),
        "{wrong:?}"
    );
    let answer = send(TOKEN)?;
    ensure!(answer.status() == 303, "{answer:?}");
    let cookie = answer
        .headers()
        .get("set-cookie")
        .context("no cookie")?
        .to_str()?
        .to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Secure"] {
        ensure!(cookie.contains(part), "{cookie}");
    }
    ensure!(!cookie.contains(TOKEN), "the cookie is the token");
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    let page = guarded.get("/", "cookie", &cookie)?;
    ensure!(
        page.status() == 200 && page.text()?.contains("EventSource"),
        "no dashboard"
    );
    ensure!(
        guarded.get("/api/stats", "cookie", &cookie)?.status() == 200,
        "no numbers"
    );
    let mut events = guarded.get("/api/events", "cookie", &cookie)?;
    ensure!(events.status() == 200, "{events:?}");
    let mut first = [0; 6];
    events.read_exact(&mut first)?;
    ensure!(!first.is_empty(), "an event stream without events");
    drop(events);
    let output = guarded.service.terminate(LIMIT)?;
    ensure!(
        output.stderr.contains("an HTTP request was refused"),
        "refusals are not said"
    );
    for secret in [TOKEN, cookie.split_once('=').map_or("", |(_, value)| value)] {
        ensure!(!output.stderr.contains(secret), "a secret is in the log");
    }
    Ok(())
}

fn token_and_certificate_are_renewed() -> Result<()> {
    let scenario = Scenario::new("http-renewed")?;
    scenario.create_topics()?;
    let authority = Authority::new(&scenario.dir().join("first"), "authority")?;
    let next = Authority::new(&scenario.dir().join("next"), "next")?;
    let token = scenario.dir().join("token");
    fs::write(&token, format!("{TOKEN}\n"))?;
    let (pair, renewed) = (authority.server(&["localhost"])?, next.server(&["localhost"])?);
    let mut guarded = Guarded::start(scenario.realtime(), &authority, &pair, &token)?;
    ensure!(guarded.status("/metrics", TOKEN)? == 200, "the first token");
    // What cannot be used changes nothing.
    fs::write(&token, "short")?;
    guarded.service.wait_says("the old token stays", LIMIT)?;
    ensure!(
        guarded.status("/metrics", TOKEN)? == 200,
        "the old token has to stay"
    );
    fs::write(&token, NEXT_TOKEN)?;
    wait_for("the next token", LIMIT, || {
        Ok((guarded.status("/metrics", NEXT_TOKEN)? == 200).then_some(()))
    })?;
    ensure!(
        guarded.status("/metrics", TOKEN)? == 401,
        "the old token is still good"
    );
    fs::copy(&renewed.key, &pair.key)?;
    fs::copy(&renewed.certificate, &pair.certificate)?;
    let url = guarded.url("/health/live");
    let trusting = client(&next.file())?;
    wait_for("the next certificate", LIMIT, || {
        Ok(trusting
            .get(&url)
            .send()
            .is_ok_and(|answer| answer.status() == 200)
            .then_some(()))
    })?;
    guarded.service.terminate(LIMIT)?;
    Ok(())
}

fn every_service_asks_for_the_token() -> Result<()> {
    let scenario = Scenario::new("http-services")?;
    scenario.create_topics()?;
    fs::write(scenario.dir().join("one.sql"), "SELECT 1 AS one;\n")?;
    scenario.generate(50, 3).run_ok(LIMIT)?;
    scenario.ingest().arg("--exit-at-end").run_ok(LIMIT)?;
    // The indexer does not begin without OpenSearch.
    for (index, program) in services(&scenario).into_iter().take(4).enumerate() {
        let address = http::loopback(free_port()?);
        let is_open = index % 2 == 0;
        let program = program
            .args(["--http", &address.to_string()])
            .env("LOGINLAKE_HTTP_TOKEN", TOKEN);
        let program = if is_open {
            program.arg("--http-open-metrics")
        } else {
            program
        };
        let mut service = program.start()?;
        service.wait_until("it is live", LIMIT, || {
            Ok(http::get(address, "/health/live")
                .is_ok_and(|answer| answer.status == 200)
                .then_some(()))
        })?;
        let expected = if is_open { 200 } else { 401 };
        let answer = http::get(address, "/metrics")?;
        ensure!(answer.status == expected, "{expected} was due: {}", answer.status);
        ensure!(
            http::get(address, "/queries")?.status == 401,
            "a page without the token"
        );
        let output = service.terminate(LIMIT)?;
        ensure!(!output.stderr.contains(TOKEN), "the token is in the log");
    }
    Ok(())
}
