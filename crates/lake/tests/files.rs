//! What the files of a table promise to those who read them: bounds of columns and pages, a filter on users, a name that
//! leads to the commit, and encodings that fit the rows.

mod common;

use std::fs::File;

use common::{LATER_MS, TestLake};
use loginlake_lake::compact::{CompactOptions, ExecuteOptions, execute, plan};
use loginlake_lake::{TableName, TableSnapshot};
use parquet::basic::{Compression, Encoding};
use parquet::bloom_filter::Sbbf;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};

/// Columns without bounds: there is nothing to skip by.
const UNBOUNDED: &[&str] = &["flags.list.element"];

async fn ingested_and_compacted() -> (TestLake, TableSnapshot, TableSnapshot) {
    let mut lake = TestLake::new().await;
    for _ in 0..3 {
        lake.ingest(&[0, 1], 200, 5).await;
    }
    let ingested = lake.snapshot(TableName::Logins).await;
    let options = CompactOptions {
        include_open: true,
        ..CompactOptions::at(LATER_MS)
    };
    execute(&lake.lake, plan(&ingested, &options), &ExecuteOptions::default())
        .await
        .unwrap();
    let compacted = lake.snapshot(TableName::Logins).await;
    (lake, ingested, compacted)
}

fn open(lake: &TestLake, path: &str) -> File {
    File::open(lake.directory.path().join("logins").join(path)).unwrap()
}

fn metadata(lake: &TestLake, path: &str) -> ParquetMetaData {
    ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Required)
        .parse_and_finish(&open(lake, path))
        .unwrap()
}

/// The filters on `user_id` of a file, one for each row group.
fn user_filters(lake: &TestLake, path: &str) -> Vec<Sbbf> {
    let properties = ReaderProperties::builder().set_read_bloom_filter(true).build();
    let options = ReadOptionsBuilder::new()
        .with_reader_properties(properties)
        .build();
    let reader = SerializedFileReader::new_with_options(open(lake, path), options).unwrap();
    (0..reader.num_row_groups())
        .map(|group| {
            let group = reader.get_row_group(group).unwrap();
            group
                .get_column_bloom_filter(0)
                .expect("a filter on user_id")
                .clone()
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_column_and_page_has_bounds_and_users_a_filter() {
    let (lake, ingested, compacted) = ingested_and_compacted().await;
    for file in ingested.files.iter().chain(&compacted.files) {
        let metadata = metadata(&lake, &file.path);
        let created_by = metadata.file_metadata().created_by().unwrap();
        assert!(created_by.starts_with("loginlake version "), "{created_by}");
        let pages = metadata.column_index().expect("a page index");
        assert!(metadata.offset_index().is_some());
        for (group, pages) in metadata.row_groups().iter().zip(pages) {
            for (column, pages) in group.columns().iter().zip(pages) {
                let name = column.column_path().string();
                assert!(matches!(column.compression(), Compression::ZSTD(_)), "{name}");
                if UNBOUNDED.contains(&name.as_str()) {
                    continue;
                }
                let statistics = column
                    .statistics()
                    .unwrap_or_else(|| panic!("{name} has no statistics"));
                assert!(statistics.null_count_opt().is_some(), "{name}");
                let only_nulls = statistics.null_count_opt() == Some(group.num_rows() as u64);
                assert!(only_nulls || statistics.min_bytes_opt().is_some(), "{name}");
                assert!(pages.get_boundary_order().is_some(), "{name} has no page bounds");
            }
        }
        let filters = user_filters(&lake, &file.path);
        let users: Vec<String> = lake
            .batches(TableName::Logins, &file.path)
            .iter()
            .flat_map(|batch| {
                let users = arrow::array::AsArray::as_string::<i32>(&batch["user_id"]).clone();
                (0..batch.num_rows()).map(move |row| users.value(row).to_owned())
            })
            .collect();
        for user in &users {
            assert!(
                filters.iter().any(|filter| filter.check(&user.as_str())),
                "{user}"
            );
        }
        let strangers = (0..1_000).filter(|n| {
            filters
                .iter()
                .any(|filter| filter.check(&format!("no-user-{n}").as_str()))
        });
        assert!(strangers.count() < 50, "one in a hundred is expected");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encodings_are_those_that_every_reader_of_today_has() {
    let known = [
        Encoding::PLAIN,
        Encoding::RLE,
        Encoding::RLE_DICTIONARY,
        Encoding::PLAIN_DICTIONARY,
        Encoding::DELTA_BINARY_PACKED,
        Encoding::DELTA_LENGTH_BYTE_ARRAY,
    ];
    let (lake, ingested, compacted) = ingested_and_compacted().await;
    for file in ingested.files.iter().chain(&compacted.files) {
        for group in metadata(&lake, &file.path).row_groups() {
            for column in group.columns() {
                for encoding in column.encodings() {
                    assert!(known.contains(&encoding), "{}: {encoding}", column.column_path());
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_of_a_file_says_which_commit_made_it() {
    let (lake, ..) = ingested_and_compacted().await;
    let log = lake.directory.path().join("logins/_delta_log");
    let mut files = 0;
    for version in 0..=lake.snapshot(TableName::Logins).await.version {
        let text = std::fs::read_to_string(log.join(format!("{version:020}.json"))).unwrap();
        let actions: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let batch = actions
            .iter()
            .find_map(|action| action["commitInfo"]["loginlake"]["batchId"].as_str());
        for path in actions.iter().filter_map(|action| action["add"]["path"].as_str()) {
            assert!(path.contains(batch.unwrap()), "{path} in the commit of {batch:?}");
            files += 1;
        }
    }
    assert_eq!(
        files,
        6 + 2,
        "three batches of two dates, and both dates compacted"
    );
}
