//! The sort against sorting all rows at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray,
};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, SchemaRef};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowColumnWriter;
use proptest::prelude::*;

use super::*;
use crate::file::row_groups::RowGroupFile;
use crate::table::TablePartition;

const KEYS: [&str; 3] = ["region", "device_type", "event_time"];

/// A row, but for its offset.
#[derive(Clone, Debug)]
struct Row {
    region: Option<u8>,
    device: Option<u8>,
    time: Option<i64>,
    user: Option<String>,
    flags: Vec<String>,
}

fn row() -> impl Strategy<Value = Row> {
    let text = |values: u8| proptest::option::weighted(0.9, 0..values);
    (
        text(4),
        text(3),
        proptest::option::weighted(0.9, -3..6_i64),
        proptest::option::weighted(0.9, "[a-zü]{0,6}"),
        proptest::collection::vec("[a-z]{1,3}", 0..3),
    )
        .prop_map(|(region, device, time, user, flags)| Row {
            region,
            device,
            time,
            user,
            flags,
        })
}

fn batch(rows: &[Row], first_offset: i64) -> RecordBatch {
    let text = |value: fn(&Row) -> Option<u8>| -> ArrayRef {
        // The alphabet is not the order in which they come.
        Arc::new(
            rows.iter()
                .map(|row| value(row).map(|v| format!("{}", 9 - v)))
                .collect::<StringArray>(),
        )
    };
    let mut flags = ListBuilder::new(StringBuilder::new());
    for row in rows {
        row.flags
            .iter()
            .for_each(|flag| flags.values().append_value(flag));
        flags.append(true);
    }
    let times: TimestampMicrosecondArray = rows.iter().map(|row| row.time).collect();
    let users: StringArray = rows.iter().map(|row| row.user.as_deref()).collect();
    let offsets = first_offset..first_offset + rows.len() as i64;
    let columns: [(&str, ArrayRef, bool); 7] = [
        ("user_id", Arc::new(users), true),
        ("device_type", text(|row| row.device), true),
        ("event_time", Arc::new(times.with_timezone("UTC")), true),
        ("region", text(|row| row.region), true),
        ("flags", Arc::new(flags.finish()), true),
        (
            "kafka_partition",
            Arc::new(Int32Array::from(vec![0; rows.len()])),
            true,
        ),
        (
            "kafka_offset",
            Arc::new(Int64Array::from_iter_values(offsets)),
            true,
        ),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Puts a batch into a file of the store.
async fn store_file(store: &Arc<dyn ObjectStore>, path: String, batch: &RecordBatch) -> DataFile {
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    let file = DataFile {
        path: path.clone(),
        size_bytes: bytes.len() as u64,
        modified_ms: 0,
        partition_values: BTreeMap::new(),
        rows: Some(batch.num_rows() as u64),
        stats_json: None,
    };
    store.put(&Path::from(path), bytes.into()).await.unwrap();
    file
}

/// Puts rows into files of the store.
async fn stored(store: &Arc<dyn ObjectStore>, files: &[Vec<Row>]) -> (Vec<DataFile>, Vec<RecordBatch>) {
    let (mut sources, mut batches, mut offset) = (Vec::new(), Vec::new(), 0);
    for (number, rows) in files.iter().enumerate() {
        let batch = batch(rows, offset);
        offset += rows.len() as i64;
        sources.push(store_file(store, format!("part-{number}.parquet"), &batch).await);
        batches.push(batch);
    }
    (sources, batches)
}

/// All rows of a sort, as a file holds them afterwards.
async fn written(
    store: &Arc<dyn ObjectStore>,
    mut sorted: Sorted,
    schema: &SchemaRef,
    chunk_rows: usize,
) -> RecordBatch {
    let encoder = sorted.encoder();
    let mut file =
        RowGroupFile::begin(Arc::clone(store), "lake", "sorted.parquet".to_owned(), schema, 10).unwrap();
    while let Some(chunk) = sorted.next_chunk(chunk_rows).ok().unwrap() {
        assert!(chunk.rows <= chunk_rows);
        let mut columns = file.column_writers().unwrap();
        for (index, writer) in columns.iter_mut().enumerate() {
            encoder.encode(index, &chunk, writer).unwrap();
        }
        let columns = columns
            .into_iter()
            .map(|writer: ArrowColumnWriter| writer.close().unwrap());
        file.append(columns.collect(), chunk.rows as u64).await.unwrap();
    }
    let new = file.finish(&TablePartition::default()).await.unwrap();
    let bytes = store
        .get(&Path::from(new.path.as_str()))
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap();
    assert_eq!(bytes.len() as u64, new.size_bytes);
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(schema, &batches).unwrap()
}

type RowKey = (Option<String>, Option<String>, Option<i64>);

fn keys_of(rows: &RecordBatch) -> Vec<RowKey> {
    let text = |name: &str, row: usize| {
        let column = rows[name].as_string::<i32>();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let times = rows["event_time"].as_primitive::<arrow::datatypes::TimestampMicrosecondType>();
    (0..rows.num_rows())
        .map(|row| {
            let time = times.is_valid(row).then(|| times.value(row));
            (text("region", row), text("device_type", row), time)
        })
        .collect()
}

async fn check(files: &[Vec<Row>], rows_bytes: usize, chunk_rows: usize, threads: usize) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (sources, batches) = stored(&store, files).await;
    let schema = batches[0].schema();
    let all = concat_batches(&schema, &batches).unwrap();
    let options = SortOptions {
        rows_bytes,
        threads,
        spill_directory: None,
    };
    let sorted = sorted(&store, &sources, &schema, KEYS, &options)
        .await
        .ok()
        .unwrap()
        .unwrap();
    let mut fingerprint = Fingerprint::default();
    fingerprint.add_batch(&all).unwrap();
    assert_eq!(sorted.fingerprint, fingerprint);
    let result = written(&store, sorted, &schema, chunk_rows).await;

    assert!(keys_of(&result).is_sorted(), "null first, then by text and time");
    // Back in the order of the offsets every column is as it was.
    let offsets = result["kafka_offset"].as_primitive::<Int64Type>();
    let mut back: Vec<u32> = (0..result.num_rows() as u32).collect();
    back.sort_by_key(|row| offsets.value(*row as usize));
    let back = arrow::array::UInt32Array::from(back);
    assert_eq!(arrow::compute::take_record_batch(&result, &back).unwrap(), all);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn rows_are_sorted_and_whole_whatever_the_memory(
        files in proptest::collection::vec(proptest::collection::vec(row(), 1..200), 1..6),
        rows_bytes in prop_oneof![Just(1_usize), Just(20_000), Just(1 << 30)],
        chunk_rows in 1..300_usize,
        threads in 1..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(&files, rows_bytes, chunk_rows, threads));
    }
}

/// Rows in long pieces and in short ones are put together by different code.
#[tokio::test]
async fn rows_in_their_order_already_stay_so() {
    let row = |time| Row {
        region: Some(1),
        device: None,
        time: Some(time),
        user: Some(format!("user-{time}")),
        flags: Vec::new(),
    };
    let files: Vec<Vec<Row>> = (0..4)
        .map(|file| (0..500).map(|n| row(file * 500 + n)).collect())
        .collect();
    check(&files, 1 << 30, 700, 2).await;
    check(&files, 1, 700, 1).await;
}

#[tokio::test]
async fn texts_of_too_many_values_are_sorted_as_they_are() {
    let rows = |from: usize| -> Vec<Row> {
        let row = |number| Row {
            region: Some((number % 3) as u8),
            device: Some(0),
            time: Some(number as i64 % 7),
            user: None,
            flags: Vec::new(),
        };
        (from..from + 40_000).map(row).collect()
    };
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (_, batches) = stored(&store, &[rows(0), rows(40_000)]).await;
    // The same rows with a version of its own for each, which is one of the columns that are numbered otherwise.
    let mut sources = Vec::new();
    let mut with_versions = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let offsets = batch["kafka_offset"].as_primitive::<Int64Type>();
        let versions: ArrayRef = Arc::new(StringArray::from_iter_values(
            offsets.values().iter().map(|offset| format!("1.{offset}")),
        ));
        let mut fields = batch.schema().fields().to_vec();
        fields.push(Arc::new(arrow::datatypes::Field::new(
            "app_version",
            arrow::datatypes::DataType::Utf8,
            true,
        )));
        let mut columns = batch.columns().to_vec();
        columns.push(versions);
        let batch = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns).unwrap();
        sources.push(store_file(&store, format!("versions-{number}.parquet"), &batch).await);
        with_versions.push(batch);
    }
    let schema = with_versions[0].schema();
    let options = SortOptions {
        rows_bytes: 1 << 20,
        threads: 2,
        spill_directory: None,
    };
    let sorted = sorted(&store, &sources, &schema, KEYS, &options)
        .await
        .ok()
        .unwrap()
        .unwrap();
    assert!(sorted.spilled_bytes > 0);
    let result = written(&store, sorted, &schema, 8192).await;
    assert_eq!(result.num_rows(), 80_000);
    assert!(keys_of(&result).is_sorted());
    let offsets = result["kafka_offset"].as_primitive::<Int64Type>();
    let versions = result["app_version"].as_string::<i32>();
    assert!((0..80_000).all(|row| versions.value(row) == format!("1.{}", offsets.value(row))));
}
