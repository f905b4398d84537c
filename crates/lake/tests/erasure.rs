//! A person's rows leave the lake, and nobody else's do, beside compaction and ingestion (invariants 8 and 9).

mod common;

use std::time::Duration;

use common::{LATER_MS, TestLake};
use loginlake_lake::TableName;
use loginlake_lake::compact::{self, CompactOptions, ExecuteOptions};
use loginlake_lake::erase::{self, EraseOptions, ErasureProof, Subjects};
use loginlake_lake::vacuum::{self, VacuumOptions};

const MEMORY: usize = 64 << 20;

/// The users of some rows, by the text of [`TestLake::rows`].
fn users(rows: &[String], every: usize) -> Vec<String> {
    let user = |row: &String| {
        row.split("user_id=")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned()
    };
    let mut users: Vec<String> = rows.iter().step_by(every).map(user).collect();
    users.dedup();
    users
}

fn subjects(users: &[String]) -> Subjects {
    Subjects::of_ids(users.iter().map(String::as_str)).unwrap()
}

fn without(rows: Vec<String>, users: &[String]) -> Vec<String> {
    let is_theirs = |row: &String| users.iter().any(|user| row.contains(user.as_str()));
    rows.into_iter().filter(|row| !is_theirs(row)).collect()
}

async fn compact(lake: &TestLake) {
    let plan = compact::plan(
        &lake.snapshot(TableName::Logins).await,
        &CompactOptions::at(LATER_MS),
    );
    compact::execute(&lake.lake, plan, &ExecuteOptions::default())
        .await
        .unwrap();
}

async fn erase(lake: &TestLake, subjects: &Subjects) -> ErasureProof {
    let mut options = EraseOptions::by("tester@here");
    options.memory_budget_bytes = MEMORY;
    erase::erase(&lake.lake, subjects, &options).await.unwrap()
}

/// Notes of erasures that are not finished.
fn notes(lake: &TestLake) -> usize {
    let folder = std::fs::read_dir(lake.directory.path().join("_erasures")).unwrap();
    folder
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_str().unwrap().ends_with(".begun.json")
        })
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_the_log_does_not_reach_back_to_is_begun_anew() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0, 1], 40, 1).await;
    let users = users(&lake.rows(&lake.snapshot(TableName::Logins).await), 40);
    let subjects = subjects(&users);
    let first = erase(&lake, &subjects).await;
    let version = lake.snapshot(TableName::Logins).await.version;
    loginlake_lake::table::checkpoint::write(&lake.lake, TableName::Logins, version)
        .await
        .unwrap();
    for old in 0..version {
        let log = lake.directory.path().join("logins/_delta_log");
        std::fs::remove_file(log.join(format!("{old:020}.json"))).unwrap();
    }
    let anew = erase(&lake, &subjects).await;
    assert_ne!(anew.erasure, first.erasure);
    assert_eq!((anew.rows(), notes(&lake)), (0, 1));
    // Two proofs of one erasure are both kept, and one that is stored again is there once.
    let place = anew.store(&lake.lake).await.unwrap();
    assert_eq!(anew.store(&lake.lake).await.unwrap(), place);
    let mut other = anew.clone();
    other.who = "somebody else".to_owned();
    let second = other.store(&lake.lake).await.unwrap();
    assert!(second != place && second.ends_with(".2.json"), "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn their_rows_are_gone_and_all_others_stay() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0, 1], 300, 3).await;
    compact(&lake).await;
    lake.ingest(&[1, 2], 200, 2).await;
    let before = lake.rows(&lake.snapshot(TableName::Logins).await);
    let gone = users(&before, 97);
    let subjects = subjects(&gone);

    let mut dry = EraseOptions::by("tester@here");
    dry.dry_run = true;
    let planned = erase::erase(&lake.lake, &subjects, &dry).await.unwrap();
    assert!(
        !lake.directory.path().join("_erasures").exists(),
        "a dry run leaves nothing"
    );
    assert_eq!(planned.rows(), gone.len() as u64);
    assert_eq!(lake.rows(&lake.snapshot(TableName::Logins).await), before);

    let proof = erase(&lake, &subjects).await;
    let after = lake.snapshot(TableName::Logins).await;
    assert_eq!(lake.rows(&after), without(before, &gone));
    assert_eq!(proof.rows(), gone.len() as u64);
    let logins = &proof.tables[0];
    assert_eq!(
        (logins.table.as_str(), logins.clean_at_version),
        ("logins", after.version)
    );
    let text = serde_json::to_string(&proof).unwrap();
    assert!(
        gone.iter().all(|user| !text.contains(user)),
        "the proof names a user"
    );

    // What the commits say is what audit subtracts.
    let history = lake.lake.history(TableName::Logins, 100).await.unwrap().unwrap();
    let mut erased = 0;
    for version in &logins.versions {
        let commit = history.iter().find(|commit| commit.version == *version).unwrap();
        let info = commit.info.as_ref().unwrap();
        assert_eq!(info["kind"], "erasure");
        assert_eq!(info["erasure"], proof.erasure.to_string());
        let parts = info["erased"].as_array().unwrap();
        erased += parts
            .iter()
            .map(|part| part["rows"].as_u64().unwrap())
            .sum::<u64>();
        assert_eq!(
            commit.rows_removed.unwrap() - commit.rows_added.unwrap(),
            parts
                .iter()
                .map(|part| part["rows"].as_u64().unwrap())
                .sum::<u64>()
        );
    }
    assert_eq!(erased, gone.len() as u64);

    // Before the proof is stored the erasure is not finished: who runs it again goes on with it, and proves all of it.
    let again = erase(&lake, &subjects).await;
    assert_eq!((again.erasure, again.began_at), (proof.erasure, proof.began_at));
    for (table, first) in again.tables.iter().zip(&proof.tables) {
        assert_eq!((&table.versions, table.rows), (&first.versions, first.rows));
        assert_eq!(table.replaced_files, first.replaced_files);
    }
    assert_eq!(notes(&lake), 1);
    again.store(&lake.lake).await.unwrap();
    assert_eq!(notes(&lake), 0);
    let new = erase(&lake, &subjects).await;
    assert_ne!(new.erasure, proof.erasure);
    assert_eq!((new.rows(), new.tables[0].versions.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_are_gone_after_vacuum_and_the_proof_shows_it() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0, 1], 100, 1).await;
    let gone = users(&lake.rows(&lake.snapshot(TableName::Logins).await), 50);
    let proof = erase(&lake, &subjects(&gone)).await;
    let place = proof.store(&lake.lake).await.unwrap();
    assert!(place.starts_with("_erasures/"), "{place}");
    let stored = ErasureProof::load(&lake.lake, proof.erasure).await.unwrap();
    assert_eq!(stored, proof);

    let hashed = Subjects::of_hashes(stored.users.iter().map(String::as_str)).unwrap();
    let remains = erase::verify(&lake.lake, &hashed, MEMORY).await.unwrap();
    assert_eq!(
        remains.iter().map(|file| file.rows).sum::<u64>(),
        gone.len() as u64
    );
    assert!(remains.iter().all(|file| !file.is_in_use), "{remains:?}");
    let options = VacuumOptions {
        retention: Duration::ZERO,
        dry_run: false,
        force: true,
        // After all that was written.
        now_ms: chrono::Utc::now().timestamp_millis() + 60_000,
    };
    vacuum::vacuum(&lake.lake, TableName::Logins, &options)
        .await
        .unwrap();
    assert_eq!(erase::verify(&lake.lake, &hashed, MEMORY).await.unwrap(), []);
    assert!(place.ends_with(".json") && lake.directory.path().join(&place).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_two_compactions_no_row_comes_back_and_none_is_lost() {
    for round in 0..4 {
        let mut lake = TestLake::new().await;
        for _ in 0..3 {
            lake.ingest(&[0, 1, 2], 40, 1).await;
        }
        let before = lake.rows(&lake.snapshot(TableName::Logins).await);
        let gone = users(&before, 17 + round);
        let subjects = subjects(&gone);
        tokio::join!(compact(&lake), erase(&lake, &subjects), compact(&lake));
        let after = lake.snapshot(TableName::Logins).await;
        assert_eq!(lake.rows(&after), without(before, &gone), "round {round}");
    }
}
