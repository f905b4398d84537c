//! A person's rows leave the lake whole (invariant 9): from `logins`, from `rejected` payloads however they write the id, from
//! the hourly counts; beside ingesters and compactors, in a pseudonymised lake too; by an eraser that dies at any of its steps
//! and is run again, with a proof of all of it. After vacuum no object of the bucket holds the id.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::bucket_copy::BucketCopy;
use loginlake_scenarios::delta_log::DeltaLog;
use loginlake_scenarios::exactness::stored_exactly;
use loginlake_scenarios::fail_points::died;
use loginlake_scenarios::kafka::Record;
use loginlake_scenarios::load::Load;
use loginlake_scenarios::parts::Part;
use loginlake_scenarios::process::{Output, Process, Program};
use loginlake_scenarios::progress::Progress;
use loginlake_scenarios::scenario::Scenario;
use loginlake_scenarios::wait::wait_for;
use loginlake_scenarios::{entries, runner};
use serde_json::Value;

const EVENTS: u64 = 8_000;
const SEED: u64 = 171;
const PARTITIONS: i32 = 3;
const LIMIT: Duration = Duration::from_secs(240);
/// Every place where an eraser can be made to die, in the order of its steps.
const STEPS: [&str; 6] = [
    "maintenance-erase-begun",
    "maintenance-erase-before-rewrite",
    "maintenance-erase-before-commit",
    "maintenance-erase-after-commit",
    "maintenance-erase-before-proof",
    "maintenance-erase-after-proof",
];
/// So many ids are erased at once, the most that are allowed.
const MANY: usize = 100_000;
/// The private memory that this may take: a debug build with two worker threads' stacks.
const MANY_LIMIT_BYTES: u64 = 384 << 20;
/// The part of an id that nobody else has: what is looked for in the bucket, so that a cut value is found, too.
const TELLING: usize = 13;
/// The key of the pseudonyms.
const KEY: &str = "a key that is long enough for a test of pseudonyms";

fn main() -> ExitCode {
    runner::main(entries![&[Part::Kafka, Part::Minio, Part::Reader];
        a_person_leaves_a_plain_lake_whole,
        a_person_leaves_a_pseudonymised_lake_whole,
        an_eraser_that_dies_at_any_step_is_gone_on_with,
        a_hundred_thousand_ids_fit_into_bounded_memory,
    ])
}

/// How the lake keeps persons.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Privacy {
    Plain,
    Pseudonyms,
}

impl Privacy {
    fn of(self, program: Program) -> Program {
        match self {
            Privacy::Plain => program,
            Privacy::Pseudonyms => program
                .args(["--pseudonymise", "user_id,device_id"])
                .env("LOGINLAKE_PSEUDONYM_KEY", KEY),
        }
    }
}

/// A process that waits at a fail point until it is let go.
struct Held {
    process: Process,
    barrier: PathBuf,
}

impl Held {
    fn start(scenario: &Scenario, program: Program, point: &str, name: &str) -> Result<Held> {
        let barrier = scenario.dir().join(format!("{name}.barrier"));
        let pause = format!("{point}:pause:{}", barrier.display());
        let process = program.env("LOGINLAKE_FAIL_POINT", pause).start()?;
        let reached = barrier.with_extension("reached");
        wait_for(&format!("{name} at {point}"), LIMIT, || {
            Ok(reached.exists().then_some(()))
        })?;
        Ok(Held { process, barrier })
    }

    fn go_on(self) -> Result<Output> {
        std::fs::write(&self.barrier, [])?;
        self.process.wait_exit(LIMIT)?.ok()
    }
}

/// The user of a good record.
fn user_of(record: &Record) -> Option<String> {
    let value: Value = serde_json::from_slice(record.payload.as_ref()?).ok()?;
    let user = value["user_id"].as_str()?;
    (user.len() == 36).then(|| user.to_ascii_lowercase())
}

/// Whether a record is one of this user: of the generator, or one of [`bad_records`].
fn is_of(record: &Record, user: &str) -> bool {
    let text = String::from_utf8_lossy(record.payload.as_deref().unwrap_or_default()).to_ascii_lowercase();
    let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
    text.contains(user) || key.starts_with(&format!("bad-{user}"))
}

fn without(mut input: Vec<Record>, users: &[String]) -> Vec<Record> {
    input.retain(|record| !users.iter().any(|user| is_of(record, user)));
    input
}

/// Records that are refused and hold the id, each in a way of its own.
fn bad_records(user: &str) -> Vec<(String, Vec<u8>)> {
    let json = |id: &str| {
        format!(r#"{{"user_id":"{id}","device_id":"d","ip":"1.2.3.4","locale":"CA","timestamp":"never"}}"#)
    };
    let escaped: String = user.bytes().map(|byte| format!("\\u{byte:04X}")).collect();
    let utf16 = json(user).encode_utf16().flat_map(u16::to_le_bytes).collect();
    [
        json(user).into_bytes(),
        json(&user.to_ascii_uppercase()).into_bytes(),
        json(&escaped).into_bytes(),
        json(&user.replace('-', "")).into_bytes(),
        format!("not JSON, by {user}").into_bytes(),
        utf16,
    ]
    .into_iter()
    .enumerate()
    .map(|(number, payload)| (format!("bad-{user}-{number}"), payload))
    .collect()
}

/// Two users whose records are good, and never looked for before.
fn users_of(input: &[Record], count: usize, not: &[String]) -> Result<Vec<String>> {
    let mut found = BTreeSet::new();
    for user in input.iter().rev().filter_map(user_of) {
        if !not.contains(&user) {
            found.insert(user);
        }
        if found.len() == count {
            return Ok(found.into_iter().collect());
        }
    }
    anyhow::bail!("only {} of {count} users", found.len())
}

/// Every commit writes a checkpoint, so that the search meets those, too.
fn ingester(scenario: &Scenario, privacy: Privacy) -> Program {
    privacy
        .of(scenario.ingest().args(["--max-batch-age", "300ms"]))
        .env("LOGINLAKE_FAIL_POINT", "after-checkpoint:error:1000000")
}

fn compaction(scenario: &Scenario) -> Program {
    scenario.olap("compact").arg("--all")
}

fn erasure(scenario: &Scenario, privacy: Privacy, users: &[String]) -> Result<Program> {
    let list = scenario.dir().join("users.txt");
    std::fs::write(&list, users.join("\n"))?;
    Ok(privacy.of(scenario.olap("erase").arg("--users-file").arg(list)))
}

/// The proof that an erasure stored, and the file that it is in for `--verify`.
fn proof(scenario: &Scenario, output: &Output) -> Result<(Value, PathBuf)> {
    let line = output
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("proof: "));
    let name = format!(
        "lake/{}",
        line.with_context(|| format!("no proof: {}", output.stdout))?
    );
    let bytes = scenario.minio.get(&scenario.bucket(), &name)?;
    let bytes = bytes.with_context(|| format!("there is no {name}"))?;
    let file = scenario.dir().join("proof.json");
    std::fs::write(&file, &bytes)?;
    Ok((serde_json::from_slice(&bytes)?, file))
}

fn rows_of(proof: &Value) -> u64 {
    let tables = proof["tables"].as_array().into_iter().flatten();
    tables.filter_map(|table| table["rows"].as_u64()).sum()
}

/// The versions that a proof names are the erasures of the log, from `after` on.
fn proves_the_log(proof: &Value, log: &mut DeltaLog<'_>, after: i64) -> Result<()> {
    let commits = log.read_on()?.iter().filter(|commit| commit.version > after);
    let erased: Vec<i64> = commits
        .filter(|commit| commit.operation == "DELETE")
        .map(|commit| commit.version)
        .collect();
    let tables = proof["tables"].as_array().context("no tables")?;
    let logins = tables.iter().find(|table| table["table"] == "logins");
    let logins = logins.context("no logins")?;
    let named: Vec<i64> = logins["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_i64)
        .collect();
    ensure!(
        named == erased,
        "the proof names versions {named:?} of logins, the log has {erased:?}"
    );
    Ok(())
}

/// Every file of `sql/hourly` answers as the file of `sql/` does over all logins: over all hours, and over those of some dates.
fn view_answers_as_the_logins(scenario: &Scenario) -> Result<()> {
    let some = ["--param", "from=2025-03-04", "--param", "to=2025-03-06"];
    let mut files = 0;
    for entry in std::fs::read_dir(scenario.sql_file("hourly"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let answer = |file: &str, parameters: &[&str]| {
            let query = scenario.olap("query").arg(scenario.sql_file(file));
            let query = query.args(["--format", "csv"]).args(parameters);
            anyhow::Ok(query.run_ok(LIMIT)?.stdout)
        };
        let mut answers = Vec::new();
        for parameters in [&[][..], &some[..]] {
            let of_view = answer(&format!("hourly/{name}"), parameters)?;
            let of_logins = answer(&name, parameters)?;
            ensure!(
                of_logins.lines().count() > 1,
                "{name} {parameters:?} has no answer"
            );
            ensure!(
                of_view == of_logins,
                "{name} {parameters:?}: {of_view} is not {of_logins}"
            );
            answers.push(of_view);
        }
        ensure!(
            answers[0] != answers[1],
            "{name}: some dates have the answer of all"
        );
        files += 1;
    }
    ensure!(files >= 6, "only {files} files in sql/hourly");
    Ok(())
}

/// The view as other people's code sees it: its counts, and what each row group says of itself.
fn view_is_exact(scenario: &Scenario, copy: &BucketCopy) -> Result<()> {
    let answer = scenario.reader().run("hourly_view.py", &[&copy.lake()])?;
    let view: Value = serde_json::from_str(&answer)?;
    ensure!(view["wrong"] == Value::Array(Vec::new()), "{view}");
    ensure!(view["files"] == view["dates"], "more files than dates: {view}");
    ensure!(view["logins"].as_u64() > Some(0), "{view}");
    Ok(())
}

fn a_person_leaves_a_plain_lake_whole() -> Result<()> {
    leaves_whole("erasure-plain", Privacy::Plain, SEED)
}

fn a_person_leaves_a_pseudonymised_lake_whole() -> Result<()> {
    leaves_whole("erasure-pseudonyms", Privacy::Pseudonyms, SEED + 10)
}

fn leaves_whole(name: &str, privacy: Privacy, seed: u64) -> Result<()> {
    let scenario = Scenario::new(name)?;
    scenario.create_topics_of(PARTITIONS)?;
    let topic = scenario.input_topic();
    let progress = Progress::watch(&scenario.kafka, &topic, &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let mut load = Load::of(&scenario, &progress, EVENTS, 2, seed);
    let ingesters = [
        ingester(&scenario, privacy).start()?,
        ingester(&scenario, privacy).start()?,
    ];
    load.phase("nothing else", || Ok(()))?;
    let users = users_of(&scenario.kafka.read_committed(&topic)?, 2, &[])?;
    for user in &users {
        scenario.kafka.produce(&topic, bad_records(user))?;
    }
    // The rejected rows of a batch are stored before its logins.
    log.wait_stored(&progress.ends()?, LIMIT)?;
    let before = log.read_on()?.last().map_or(-1, |commit| commit.version);
    // The view counts the users' logins, too.
    scenario.olap("refresh").run_ok(LIMIT)?;
    let theirs = |input: &[Record]| {
        input
            .iter()
            .filter(|record| users.iter().any(|user| is_of(record, user)))
            .count()
    };
    let known = theirs(&scenario.kafka.read_committed(&topic)?);

    let mut erased = None;
    load.phase("both compactions ready, then the erasure", || {
        let point = "maintenance-compaction-before-commit";
        let one = Held::start(&scenario, compaction(&scenario), point, "one")?;
        let other = Held::start(&scenario, compaction(&scenario), point, "other")?;
        let point = "maintenance-erase-before-commit";
        let eraser = Held::start(&scenario, erasure(&scenario, privacy, &users)?, point, "eraser")?;
        // The compaction takes the files away under the erasure, which looks again and finds the rows in the new ones.
        one.go_on()?;
        erased = Some(eraser.go_on()?);
        other.go_on().map(drop)
    })?;
    let (first, _) = proof(&scenario, erased.as_ref().context("it did not run")?)?;
    proves_the_log(&first, &mut log, before)?;
    ensure!(
        rows_of(&first) >= known as u64,
        "{} of at least {known} rows are proved: {first}",
        rows_of(&first)
    );
    log.wait_stored(&progress.ends()?, LIMIT)?;
    for process in ingesters {
        process.terminate(LIMIT)?;
    }
    // What the second phase brought of the same users is new data; a compaction lies between.
    let between = log.read_on()?.last().map_or(-1, |commit| commit.version);
    compaction(&scenario).run_ok(LIMIT)?;
    let second = erasure(&scenario, privacy, &users)?.run_ok(LIMIT)?;
    let (second, file) = proof(&scenario, &second)?;
    proves_the_log(&second, &mut log, between)?;
    let input = scenario.kafka.read_committed(&topic)?;
    let all = theirs(&input) as u64;
    ensure!(
        rows_of(&first) + rows_of(&second) == all,
        "{} and {} rows of {all} are proved",
        rows_of(&first),
        rows_of(&second)
    );
    stored_exactly(&scenario, &without(input, &users))?;

    // The replaced files hold the rows still: whoever looks finds them, and is told so.
    let texts: Vec<String> = users
        .iter()
        .flat_map(|user| {
            [
                user[..TELLING].to_owned(),
                user.replace('-', "")[..TELLING].to_owned(),
            ]
        })
        .collect();
    let copy = BucketCopy::of(&scenario, "before-vacuum")?;
    let found = copy.find(&scenario, &texts)?;
    ensure!(
        found.iter().any(|place| place.place == "column raw")
            && (privacy == Privacy::Pseudonyms || found.iter().any(|place| place.place == "column user_id")),
        "the search does not find what is there: {found:?}"
    );
    let checkpoints = copy.path("logins/_delta_log/_last_checkpoint");
    ensure!(checkpoints.exists(), "there is no checkpoint to be searched");
    let of_log: Vec<_> = found
        .iter()
        .filter(|place| place.object.contains("_delta_log"))
        .collect();
    ensure!(
        of_log.is_empty(),
        "the log holds what it could not lose: {of_log:?}"
    );
    view_is_exact(&scenario, &copy)?;
    view_answers_as_the_logins(&scenario)?;
    let verify = scenario.olap("erase").arg("--verify").arg(&file);
    let remains = verify.run(LIMIT)?;
    ensure!(
        remains.code == 3 && remains.stdout.contains("waits for vacuum"),
        "{}: {} {}",
        remains.code,
        remains.stdout,
        remains.stderr
    );

    let vacuum = scenario
        .olap("vacuum")
        .args(["--delete", "--force", "--retention", "0s"]);
    vacuum.run_ok(LIMIT)?;
    let gone = verify.run_ok(LIMIT)?;
    ensure!(gone.stdout.contains("no file holds a row"), "{}", gone.stdout);
    let copy = BucketCopy::of(&scenario, "after-vacuum")?;
    ensure!(copy.objects() > 10, "only {} objects are left", copy.objects());
    let found = copy.find(&scenario, &texts)?;
    ensure!(found.is_empty(), "still there after vacuum: {found:?}");
    stored_exactly(
        &scenario,
        &without(scenario.kafka.read_committed(&topic)?, &users),
    )
}

fn an_eraser_that_dies_at_any_step_is_gone_on_with() -> Result<()> {
    let scenario = Scenario::new("erasure-kills")?;
    scenario.create_topics_of(PARTITIONS)?;
    let topic = scenario.input_topic();
    let progress = Progress::watch(&scenario.kafka, &topic, &scenario.ingest_group())?;
    let mut log = DeltaLog::of(&scenario, "logins");
    let mut load = Load::of(&scenario, &progress, EVENTS, STEPS.len() as u64, SEED + 20).in_short_phases();
    let running = ingester(&scenario, Privacy::Plain).start()?;
    let mut erased = Vec::new();
    for step in STEPS {
        load.phase("nothing else", || Ok(()))?;
        let users = users_of(&scenario.kafka.read_committed(&topic)?, 2, &erased)?;
        for user in &users {
            scenario.kafka.produce(&topic, bad_records(user))?;
        }
        log.wait_stored(&progress.ends()?, LIMIT)?;
        let before = log.read_on()?.last().map_or(-1, |commit| commit.version);
        let input = scenario.kafka.read_committed(&topic)?;
        let wanted = input.len() - without(input.clone(), &users).len();
        let program = erasure(&scenario, Privacy::Plain, &users)?;
        let killed = program
            .clone()
            .env("LOGINLAKE_FAIL_POINT", format!("{step}:kill"))
            .start()?;
        ensure!(died(killed, LIMIT)?, "{step} was not passed");
        let proofs_before = proofs(&scenario)?;
        let (proof, file) = proof(&scenario, &program.run_ok(LIMIT)?)?;
        let (rows, after_proof) = (rows_of(&proof), step == "maintenance-erase-after-proof");
        // Whoever died after the proof had done all; nothing is proved twice.
        let expected = if after_proof { 0 } else { wanted as u64 };
        ensure!(
            rows == expected,
            "{step}: {rows} of {wanted} rows are proved: {proof}"
        );
        if after_proof {
            let stored = proofs_before.iter().any(|proof| rows_of(proof) == wanted as u64);
            ensure!(
                stored,
                "the proof of the dead one is not there: {proofs_before:?}"
            );
        } else {
            proves_the_log(&proof, &mut log, before).context(step)?;
        }
        let text = proof.to_string();
        ensure!(
            !users.iter().any(|user| text.contains(&user[..TELLING])),
            "the proof names a user: {text}"
        );
        erased.extend(users);
        stored_exactly(&scenario, &without(input, &erased)).with_context(|| format!("after {step}"))?;
        let verify = scenario.olap("erase").arg("--verify").arg(&file).run(LIMIT)?;
        ensure!(
            verify.code == 3 && !verify.stdout.contains("in use"),
            "{step}: {} {}",
            verify.code,
            verify.stdout
        );
    }
    running.terminate(LIMIT)?;
    let notes: Vec<String> = scenario
        .minio
        .list(&scenario.bucket())?
        .into_iter()
        .filter(|name| name.ends_with(".begun.json"))
        .collect();
    ensure!(notes.is_empty(), "notes of finished erasures are left: {notes:?}");
    scenario
        .olap("vacuum")
        .args(["--delete", "--force", "--retention", "0s"])
        .run_ok(LIMIT)?;
    let texts: Vec<String> = erased.iter().map(|user| user[..TELLING].to_owned()).collect();
    let found = BucketCopy::of(&scenario, "after-vacuum")?.find(&scenario, &texts)?;
    ensure!(found.is_empty(), "still there after vacuum: {found:?}");
    Ok(())
}

/// All proofs in the lake.
fn proofs(scenario: &Scenario) -> Result<Vec<Value>> {
    let bucket = scenario.bucket();
    let mut found = Vec::new();
    for name in scenario.minio.list(&bucket)? {
        if name.contains("/_erasures/") && !name.ends_with(".begun.json") {
            let bytes = scenario.minio.get(&bucket, &name)?.context("it is gone")?;
            found.push(serde_json::from_slice(&bytes)?);
        }
    }
    Ok(found)
}

fn a_hundred_thousand_ids_fit_into_bounded_memory() -> Result<()> {
    let scenario = Scenario::new("erasure-of-many")?;
    scenario.create_topics_of(PARTITIONS)?;
    scenario.generate(EVENTS, SEED + 30).run_ok(LIMIT)?;
    let privacy = Privacy::Pseudonyms;
    ingester(&scenario, privacy).arg("--exit-at-end").run_ok(LIMIT)?;
    let input = scenario.kafka.read_committed(&scenario.input_topic())?;
    // Those of the first half of the records, and many that nobody has.
    let real: BTreeSet<String> = input[..input.len() / 2].iter().filter_map(user_of).collect();
    let mut users: Vec<String> = real.into_iter().collect();
    let real = users.clone();
    users.extend((real.len()..MANY).map(|number| format!("00000000-0000-4000-8000-{number:012x}")));
    let erase = erasure(&scenario, privacy, &users)?.args(["--memory-budget", "64MiB"]);
    let output = erase.data_limit(MANY_LIMIT_BYTES).run_ok(LIMIT)?;
    let (proof, file) = proof(&scenario, &output)?;
    let left = without(input.clone(), &real);
    ensure!(
        rows_of(&proof) == (input.len() - left.len()) as u64,
        "{} of {} rows are proved",
        rows_of(&proof),
        input.len() - left.len()
    );
    ensure!(
        proof["users"].as_array().map(Vec::len) == Some(2 * MANY),
        "not every id and its pseudonym is proved"
    );
    stored_exactly(&scenario, &left)?;
    scenario
        .olap("vacuum")
        .args(["--delete", "--force", "--retention", "0s"])
        .run_ok(LIMIT)?;
    scenario
        .olap("erase")
        .arg("--verify")
        .arg(&file)
        .run_ok(LIMIT)
        .map(drop)
}
