//! A broker with TLS, passwords, tokens and certificates is reached by all programs with secrets from files and variables; whatever
//! is wrong is one line that says what to change; and no secret is where somebody could read it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::authority::Authority;
use loginlake_scenarios::identity::{AUDIENCE, Provider};
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Output, Program};
use loginlake_scenarios::scenario::{Scenario, Way, free_port, run_dir};
use loginlake_scenarios::secure::{CLIENT_SECRET, PASSWORD, SecureKafka};
use loginlake_scenarios::{entries, http, runner};

const LIMIT: Duration = Duration::from_secs(180);
const FAILED: i32 = 1;
const USAGE: i32 = 2;

static SHARED: Mutex<Option<Arc<SecureKafka>>> = Mutex::new(None);

fn main() -> ExitCode {
    let code = runner::main(entries![&[Part::Kafka, Part::Minio];
        by_password_in_plain,
        by_password_and_challenge,
        by_token_of_a_provider,
        by_token_in_a_file,
        by_certificate,
        what_is_wrong_is_said_in_one_line,
        a_secret_on_the_command_line_is_said,
    ]);
    drop(SHARED.lock().unwrap_or_else(PoisonError::into_inner).take());
    code
}

fn broker() -> Result<Arc<SecureKafka>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.is_none() {
        *shared = Some(Arc::new(SecureKafka::start(&run_dir()?.join("secure"))?));
    }
    Ok(Arc::clone(shared.as_ref().expect("it was set above")))
}

fn fresh_dir(scenario: &Scenario, name: &str) -> Result<PathBuf> {
    let dir = scenario.dir().join(name);
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn file_of(scenario: &Scenario, name: &str, text: &str) -> Result<PathBuf> {
    let path = scenario.dir().join(name);
    fs::write(&path, format!("{text}\n"))?;
    Ok(path)
}

/// A scenario on the broker, and then the same by a way that is made of it.
fn scenario_by(name: &str, way: impl FnOnce(&SecureKafka, &Scenario) -> Result<Way>) -> Result<Scenario> {
    let secure = broker()?;
    let scenario = Scenario::on(name, Arc::clone(&secure.kafka))?;
    scenario.create_topics()?;
    let way = way(&secure, &scenario)?;
    Ok(scenario.reached_by(way))
}

fn fresh_count(scenario: &Scenario) -> Program {
    let query = scenario.connected(scenario.olap("query"));
    query
        .args([
            "--fresh",
            "--input-topic",
            &scenario.input_topic(),
            "--format",
            "csv",
        ])
        .args(["-e", "SELECT count(*) AS n FROM logins"])
}

/// All programs once, as talkative as they can be. Returns what they said.
fn everything_works(scenario: &Scenario) -> Result<String> {
    let mut said = String::new();
    let mut run = |program: Program| -> Result<Output> {
        let output = program
            .arg("-vv")
            .env("RUST_LOG", "trace,hyper=info")
            .run_ok(LIMIT)?;
        said += &format!("{}{}", output.stdout, output.stderr);
        Ok(output)
    };
    run(scenario.generate(400, 5))?;
    run(scenario.realtime().arg("--exit-at-end"))?;
    run(scenario.ingest().arg("--exit-at-end"))?;
    run(scenario.generate(100, 6))?;
    let output = run(fresh_count(scenario))?;
    ensure!(output.stdout.contains("500"), "500 were sent: {}", output.stdout);
    let published = scenario.kafka.read_committed(&scenario.output_topic())?;
    ensure!(published.len() == 400, "{} are published", published.len());
    Ok(said)
}

fn holds_no_secret(said: &str) -> Result<()> {
    for secret in [PASSWORD, CLIENT_SECRET, "PRIVATE KEY", "eyJ"] {
        if let Some(at) = said.find(secret) {
            let from = said[..at].rfind('\n').map_or(0, |line| line + 1);
            let line = said[from..].lines().next().unwrap_or_default();
            anyhow::bail!("a secret ({secret}) is in: {line}");
        }
    }
    Ok(())
}

fn by_password_in_plain() -> Result<()> {
    let scenario = scenario_by("secure-plain", |secure, scenario| {
        Ok(secure.way_by_password("PLAIN", &file_of(scenario, "password", PASSWORD)?))
    })?;
    holds_no_secret(&everything_works(&scenario)?)?;
    nothing_is_seen_from_outside(&scenario)
}

/// The pages of a service, and what the system tells of its process.
fn nothing_is_seen_from_outside(scenario: &Scenario) -> Result<()> {
    let port = free_port()?;
    let address = http::loopback(port);
    let mut service = scenario
        .realtime()
        .args(["--http", &address.to_string()])
        .env("RUST_LOG", "trace,hyper=info")
        .start()?;
    service.wait_until("it is ready", LIMIT, || {
        Ok(http::get(address, "/health/ready")
            .is_ok_and(|answer| answer.status == 200)
            .then_some(()))
    })?;
    for path in ["/metrics", "/api/stats", "/api/insights", "/health/ready", "/"] {
        let answer = http::get(address, path)?;
        ensure!(answer.status == 200, "{path}: {}", answer.status);
        holds_no_secret(&answer.body).context(path)?;
    }
    let line = fs::read(format!("/proc/{}/cmdline", service.id()))?;
    holds_no_secret(&String::from_utf8_lossy(&line))?;
    let output = service.terminate(LIMIT)?;
    holds_no_secret(&output.stderr)
}

fn by_password_and_challenge() -> Result<()> {
    let scenario = scenario_by("secure-scram", |secure, _| {
        let way = secure.way_by("SCRAM-SHA-512").with("SASL_USERNAME", "app");
        Ok(way.with("SASL_PASSWORD", PASSWORD))
    })?;
    holds_no_secret(&everything_works(&scenario)?)
}

fn by_token_of_a_provider() -> Result<()> {
    let secure = broker()?;
    let scenario = scenario_by("secure-oidc", |secure, scenario| {
        Ok(secure.way_by_token(&file_of(scenario, "client-secret", CLIENT_SECRET)?))
    })?;
    holds_no_secret(&everything_works(&scenario)?)?;
    // Tokens are good for twenty seconds, and the broker asks again after fifteen: the service goes on with new ones.
    let mut service = scenario.realtime().env("RUST_LOG", "trace,hyper=info").start()?;
    let before = scenario.kafka.read_committed(&scenario.output_topic())?.len();
    let given = secure.provider.given();
    service.wait_until("three more tokens", LIMIT, || {
        Ok((secure.provider.given() >= given + 3).then_some(()))
    })?;
    scenario.generate(50, 7).run_ok(LIMIT)?;
    service.wait_until("what came then", LIMIT, || {
        let published = scenario.kafka.read_committed(&scenario.output_topic())?.len();
        Ok((published >= before + 50).then_some(()))
    })?;
    let output = service.terminate(LIMIT)?;
    holds_no_secret(&output.stderr)
}

fn by_token_in_a_file() -> Result<()> {
    let scenario = scenario_by("secure-token-file", |secure, scenario| {
        // Good for twenty seconds: a token for a test, renewed by nobody.
        let file = file_of(scenario, "token", &secure.provider.token_for("kafka")?)?;
        let way = secure.way_by("OAUTHBEARER");
        Ok(way.with("SASL_OAUTHBEARER_TOKEN_FILE", &file.display().to_string()))
    })?;
    let output = scenario.generate(50, 8).arg("-vv").run_ok(LIMIT)?;
    holds_no_secret(&output.stderr)
}

fn by_certificate() -> Result<()> {
    let scenario = scenario_by("secure-mutual", |secure, _| {
        Ok(secure.way_by_certificate(&secure.client))
    })?;
    holds_no_secret(&everything_works(&scenario)?)
}

/// What is wrong, the code, and words that the line has to have.
struct Fault {
    what: &'static str,
    way: Way,
    code: i32,
    words: Vec<String>,
}

fn what_is_wrong_is_said_in_one_line() -> Result<()> {
    let secure = broker()?;
    let scenario = Scenario::on("secure-faults", Arc::clone(&secure.kafka))?;
    scenario.create_topics()?;
    for fault in faults(&secure, &scenario)? {
        let name = scenario.input_topic();
        let of = |name: &str, command: &[&str]| {
            fault
                .way
                .add_to(Program::ours(name, scenario.dir()).args(command))
                .env("LOGINLAKE_HTTP", "none")
        };
        let lake = scenario.dir().join("lake").display().to_string();
        let topic = ["--input-topic", &name];
        let programs = [
            of("realtime", &["run"])
                .args(topic)
                .args(["--output-topic", &scenario.output_topic()]),
            of("olap", &["ingest", "--lake", &lake]).args(topic),
            of("generate", &["--count", "10"]).args(topic),
        ];
        // All at once: each waits for the broker.
        let started: Vec<_> = programs.iter().map(Program::start).collect::<Result<_>>()?;
        for process in started {
            let output = process.wait_exit(LIMIT).context(fault.what)?;
            refused(&output, &fault)
                .with_context(|| format!("{}: {}\n{}", fault.what, output.shown, output.stderr))?;
        }
    }
    Ok(())
}

fn faults(secure: &SecureKafka, scenario: &Scenario) -> Result<Vec<Fault>> {
    let right = file_of(scenario, "password", PASSWORD)?;
    let wrong = file_of(scenario, "wrong-password", "not-the-password")?;
    let secret = file_of(scenario, "wrong-secret", "not-the-secret-of-the-client")?;
    let stranger = Authority::new(&scenario.dir().join("stranger"), "stranger")?;
    let strangers = stranger.client("loginlake")?;
    let expired = secure.authority.expired_client("expired")?;
    let forger = Provider::start(
        &fresh_dir(scenario, "forger")?,
        CLIENT_SECRET,
        Duration::from_secs(600),
    )?;
    let forged = file_of(scenario, "forged", &forger.token_for(AUDIENCE)?)?;
    // Its own provider's, and so good for twenty seconds; the faults are tried one after the other.
    let for_others = file_of(
        scenario,
        "for-others",
        &secure.provider.token_for("another-service")?,
    )?;
    let text = |path: &Path| path.display().to_string();
    let by_token = |path: &Path| {
        secure
            .way_by("OAUTHBEARER")
            .with("SASL_OAUTHBEARER_TOKEN_FILE", &text(path))
    };
    let absent = text(&scenario.dir().join("absent"));
    let plain = || secure.way_by_password("PLAIN", &right);
    let fault = |what, way, code, words: &[&str]| Fault {
        what,
        way,
        code,
        words: words.iter().map(|word| (*word).to_owned()).collect(),
    };
    Ok(vec![
        fault(
            "a token for another service",
            by_token(&for_others),
            FAILED,
            &["token"],
        ),
        fault("a forged token", by_token(&forged), FAILED, &["token"]),
        fault(
            "a wrong password",
            secure.way_by_password("PLAIN", &wrong),
            FAILED,
            &["sasl.password"],
        ),
        fault(
            "a wrong password (SCRAM)",
            secure.way_by_password("SCRAM-SHA-512", &wrong),
            FAILED,
            &["sasl.password"],
        ),
        fault(
            "no such mechanism",
            secure.way_by_password("SCRAM-SHA-256", &right),
            FAILED,
            &["sasl.mechanism"],
        ),
        fault(
            "another authority",
            plain().with("SSL_CA_LOCATION", &text(&stranger.file())),
            FAILED,
            &["ssl.ca.location"],
        ),
        fault(
            "another name",
            plain().to(secure.login_by_another_name()),
            FAILED,
            &["127.0.0.1", "--brokers"],
        ),
        fault(
            "no TLS",
            plain().with("SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            FAILED,
            &["security.protocol"],
        ),
        fault(
            "no client certificate",
            plain().to(secure.mutual()).with("SECURITY_PROTOCOL", "SSL"),
            FAILED,
            &["ssl.certificate.location"],
        ),
        fault(
            "a stranger's certificate",
            secure.way_by_certificate(&strangers),
            FAILED,
            &["ssl.certificate.location"],
        ),
        fault(
            "an expired certificate",
            secure.way_by_certificate(&expired),
            FAILED,
            &["ssl.certificate.location"],
        ),
        fault(
            "a wrong client secret",
            secure.way_by_token(&secret),
            FAILED,
            &["invalid_client", "sasl.oauthbearer.client.secret"],
        ),
        fault(
            "a missing secret file",
            plain().with("SASL_PASSWORD_FILE", &absent),
            USAGE,
            &["sasl.password.file", &absent],
        ),
        fault(
            "a missing authority file",
            plain().with("SSL_CA_LOCATION", &absent),
            USAGE,
            &["ssl.ca.location", &absent],
        ),
        fault(
            "tokens from nowhere",
            secure.way_by("OAUTHBEARER"),
            USAGE,
            &["sasl.oauthbearer.token.endpoint.url"],
        ),
        fault(
            "a secret in the clear",
            secure.way_by_token(&secret).with(
                "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL",
                "http://login.example/token",
            ),
            USAGE,
            &["https"],
        ),
    ])
}

fn refused(output: &Output, fault: &Fault) -> Result<()> {
    ensure!(
        output.code == fault.code,
        "code {} was due, and it is {}",
        fault.code,
        output.code
    );
    let errors: Vec<&str> = output
        .stderr
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    let [line] = errors[..] else {
        anyhow::bail!("one error: line was due")
    };
    for word in &fault.words {
        ensure!(line.contains(word.as_str()), "{word} is not in the line");
    }
    ensure!(!output.stderr.contains("panicked"), "it panicked");
    for secret in ["not-the-password", "not-the-secret"] {
        ensure!(!output.stderr.contains(secret), "a secret is in it");
    }
    holds_no_secret(&output.stderr)
}

fn a_secret_on_the_command_line_is_said() -> Result<()> {
    let scenario = scenario_by("secure-argument", |secure, _| {
        Ok(secure.way_by("PLAIN").with("SASL_USERNAME", "app"))
    })?;
    let argument = format!("sasl.password={PASSWORD}");
    let output = scenario
        .realtime()
        .args(["-X", &argument, "--exit-at-end", "-v"])
        .run_ok(LIMIT)?;
    ensure!(
        output.stderr.contains("list of processes"),
        "nothing is said:\n{}",
        output.stderr
    );
    holds_no_secret(&output.stderr)
}
