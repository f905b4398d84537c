//! What the columns of the tables promise: today's are written down, a newer version adds its own to a table that is in
//! use, and what it added reads as null where it was not written.

mod common;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::{DataType, Field, Schema};
use common::{LATER_MS, TestLake};
use loginlake_lake::compact::{CompactOptions, ExecuteOptions, execute, plan};
use loginlake_lake::table::commit::TableWriter;
use loginlake_lake::table::schema::{PartitionBy, TableSpec, creation_actions};
use loginlake_lake::{LakeError, TableName, TableSnapshot};

/// What the next version of this software might add.
fn newer(columns: &[(&str, DataType)]) -> TableSpec {
    let mut spec = TableSpec::current(TableName::Logins, PartitionBy::Date);
    let mut fields: Vec<_> = spec.columns.fields().iter().cloned().collect();
    for (name, data_type) in columns {
        fields.push(Arc::new(Field::new(*name, data_type.clone(), true)));
    }
    spec.columns = Arc::new(Schema::new(fields));
    spec
}

fn added(snapshot: &TableSnapshot) -> Vec<String> {
    let first = TableSpec::current(snapshot.table, PartitionBy::Date).first_columns;
    let fields = snapshot.schema.fields().iter().skip(first);
    fields.map(|field| field.name().clone()).collect()
}

#[test]
fn the_columns_are_those_that_readers_were_promised() {
    for table in TableName::ALL {
        let actions = creation_actions(&TableSpec::current(table, PartitionBy::Date), 0).unwrap();
        let schema = actions[1]["metaData"]["schemaString"].as_str().unwrap();
        let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
        let file: PathBuf = [
            env!("CARGO_MANIFEST_DIR"),
            "tests/golden",
            &format!("{table}.json"),
        ]
        .iter()
        .collect();
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(
            text,
            golden,
            "{}: columns may be added at the end, with UPDATE_GOLDEN=1; nothing else may change",
            file.display()
        );
        let protocol = &actions[0]["protocol"];
        assert_eq!(
            (&protocol["minReaderVersion"], &protocol["minWriterVersion"]),
            (&1.into(), &2.into())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_version_adds_its_column_while_an_older_one_goes_on() {
    let mut lake = TestLake::new().await;
    lake.ingest(&[0], 50, 1).await;
    let spec = newer(&[("risk", DataType::Int8)]);
    let writer = TableWriter::open_or_create_as(&lake.lake, &spec).await.unwrap();
    let widened = lake.snapshot(TableName::Logins).await;
    assert_eq!(added(&widened), ["risk"]);
    assert_eq!(writer.head().version, widened.version);

    // The ingester was open before, and has lost the race for this version to the new column.
    assert_eq!(lake.ingest(&[0], 50, 1).await, widened.version + 1);
    // It starts again and finds a column that it does not know.
    TableWriter::open_or_create(&lake.lake, TableName::Logins, PartitionBy::Date)
        .await
        .unwrap();
    // The newer one does, too, and has nothing to add.
    TableWriter::open_or_create_as(&lake.lake, &spec).await.unwrap();
    let after = lake.snapshot(TableName::Logins).await;
    assert_eq!(
        (added(&after), after.version),
        (vec!["risk".to_owned()], widened.version + 1)
    );
    assert_eq!(lake.positions(&after).len(), 100);
    let history = lake.lake.history(TableName::Logins, 100).await.unwrap().unwrap();
    let additions: Vec<_> = history
        .iter()
        .filter(|commit| commit.operation.as_deref() == Some("ADD COLUMNS"))
        .collect();
    assert_eq!(additions.len(), 1);
    assert_eq!(
        additions[0].info.as_ref().unwrap()["columns"],
        serde_json::json!(["risk"])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_newer_versions_at_once_each_column_is_added_once() {
    let lake = TestLake::new().await;
    let spec = newer(&[("risk", DataType::Int8), ("city", DataType::Utf8)]);
    let open = || TableWriter::open_or_create_as(&lake.lake, &spec);
    let (a, b, c) = tokio::join!(open(), open(), open());
    let heads = [a, b, c].map(|writer| writer.unwrap().head().version);
    let snapshot = lake.snapshot(TableName::Logins).await;
    assert_eq!(added(&snapshot), ["risk", "city"]);
    assert_eq!(heads, [snapshot.version; 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_writes_old_rows_with_the_new_column_as_null() {
    let mut lake = TestLake::new().await;
    for _ in 0..3 {
        lake.ingest(&[0], 20, 0).await;
    }
    TableWriter::open_or_create_as(&lake.lake, &newer(&[("risk", DataType::Int8)]))
        .await
        .unwrap();
    let before = lake.snapshot(TableName::Logins).await;
    let options = CompactOptions {
        include_open: true,
        ..CompactOptions::at(LATER_MS)
    };
    execute(&lake.lake, plan(&before, &options), &ExecuteOptions::default())
        .await
        .unwrap();
    let after = lake.snapshot(TableName::Logins).await;
    assert_eq!(lake.positions(&after), lake.positions(&before));
    assert_eq!(after.files.len(), 1);
    for batch in lake.batches(TableName::Logins, &after.files[0].path) {
        let risk = &batch["risk"];
        assert_eq!(
            (risk.data_type(), risk.null_count()),
            (&DataType::Int8, batch.num_rows())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_with_another_type_is_refused_and_stays_as_it_is() {
    let lake = TestLake::new().await;
    TableWriter::open_or_create_as(&lake.lake, &newer(&[("risk", DataType::Int8)]))
        .await
        .unwrap();
    let version = lake.snapshot(TableName::Logins).await.version;
    let error = TableWriter::open_or_create_as(&lake.lake, &newer(&[("risk", DataType::Utf8)]))
        .await
        .unwrap_err();
    assert!(matches!(&error, LakeError::Foreign { .. }), "{error}");
    assert!(
        error.to_string().contains("column risk is Int8, not Utf8"),
        "{error}"
    );
    assert_eq!(lake.snapshot(TableName::Logins).await.version, version);
}
