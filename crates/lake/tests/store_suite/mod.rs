//! What a lake needs of a store, checked on any of them.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, Result,
};

/// Writers that race for one name.
const WRITERS: usize = 8;
/// The smallest part that S3 takes, except for the last.
const PART_BYTES: usize = 5 << 20;

/// Panics with what the store does not do. It must be empty; it is empty again afterwards.
pub async fn keeps_the_contract(store: Arc<dyn ObjectStore>) {
    what_is_absent_is_said_so(&*store).await;
    of_many_writers_of_one_name_one_wins(&store).await;
    what_is_put_is_read_and_listed_at_once(&*store).await;
    parts_of_an_object_can_be_read(&*store).await;
    an_upload_in_parts_is_whole_or_nothing(&*store).await;
    what_is_deleted_is_gone(&*store).await;
}

async fn create(store: &dyn ObjectStore, path: &Path, body: String) -> Result<()> {
    let options = PutOptions {
        mode: PutMode::Create,
        ..PutOptions::default()
    };
    store.put_opts(path, body.into(), options).await.map(drop)
}

async fn names(store: &dyn ObjectStore, folder: &str) -> Vec<String> {
    let listed: Vec<_> = store
        .list(Some(&Path::from(folder)))
        .try_collect()
        .await
        .unwrap_or_else(|error| panic!("{store} does not list {folder}: {error}"));
    let mut names: Vec<String> = listed
        .into_iter()
        .map(|object| object.location.to_string())
        .collect();
    names.sort();
    names
}

async fn what_is_absent_is_said_so(store: &dyn ObjectStore) {
    let error = store
        .get(&Path::from("_delta_log/absent.json"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{store}: {error}");
    assert_eq!(names(store, "_delta_log").await, [""; 0]);
}

/// The compare-and-set that every commit rests on.
async fn of_many_writers_of_one_name_one_wins(store: &Arc<dyn ObjectStore>) {
    for version in 0..4 {
        let path = Path::from(format!("_delta_log/{version:020}.json"));
        let writers = (0..WRITERS).map(|writer| {
            let (store, path) = (Arc::clone(store), path.clone());
            async move { create(&*store, &path, format!("writer {writer}")).await }
        });
        let outcomes = futures::future::join_all(writers).await;
        let mut winners = Vec::new();
        for (writer, outcome) in outcomes.into_iter().enumerate() {
            match outcome {
                Ok(()) => winners.push(format!("writer {writer}")),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
                Err(error) => panic!("{store} answers a lost race with {error}"),
            }
        }
        let stored = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(winners, [String::from_utf8_lossy(&stored)], "{store}");
        let late = create(&**store, &path, "late".to_owned()).await.unwrap_err();
        assert!(
            matches!(late, Error::AlreadyExists { .. } | Error::Precondition { .. }),
            "{store}: {late}"
        );
    }
}

async fn what_is_put_is_read_and_listed_at_once(store: &dyn ObjectStore) {
    let path = Path::from("login_date=2026-01-05/part-0.zstd.parquet");
    store.put(&path, "rows".into()).await.unwrap();
    assert_eq!(names(store, "login_date=2026-01-05").await, [path.to_string()]);
    let found = store.get(&path).await.unwrap();
    assert_eq!(found.meta.size, 4, "{store}");
    let age = chrono::Utc::now() - found.meta.last_modified;
    assert!(
        age.num_minutes().abs() < 5,
        "{store}: vacuum needs its clock, which is off by {age}"
    );
    assert_eq!(
        names(store, "_delta_log").await.len(),
        4,
        "{store}: a folder's names only"
    );
    let folders = store.list_with_delimiter(None).await.unwrap().common_prefixes;
    let mut folders: Vec<String> = folders.iter().map(Path::to_string).collect();
    folders.sort();
    assert_eq!(folders, ["_delta_log", "login_date=2026-01-05"], "{store}");
    store.put(&path, "other rows".into()).await.unwrap();
    assert_eq!(
        store.head(&path).await.unwrap().size,
        10,
        "{store}: a plain put replaces"
    );
}

/// Footers are read from the end of a file, row groups from its middle.
async fn parts_of_an_object_can_be_read(store: &dyn ObjectStore) {
    let path = Path::from("login_date=2026-01-05/part-0.zstd.parquet");
    store.put(&path, "0123456789".into()).await.unwrap();
    let middle = store.get_ranges(&path, &[2..5, 7..8]).await.unwrap();
    assert_eq!(middle, ["234", "7"], "{store}");
    let options = GetOptions {
        range: Some(GetRange::Suffix(3)),
        ..GetOptions::default()
    };
    match store.get_opts(&path, options).await {
        Ok(end) => assert_eq!(end.bytes().await.unwrap(), "789", "{store}"),
        // Azure has no such request; readers ask for the size first there.
        Err(Error::NotSupported { .. }) => assert_eq!(store.get_range(&path, 7..10).await.unwrap(), "789"),
        Err(error) => panic!("{store}: {error}"),
    }
}

async fn an_upload_in_parts_is_whole_or_nothing(store: &dyn ObjectStore) {
    let part = |byte: u8, bytes: usize| PutPayload::from(vec![byte; bytes]);
    let whole = Path::from("login_date=2026-01-05/large.zstd.parquet");
    let mut upload = store.put_multipart(&whole).await.unwrap();
    let parts = [upload.put_part(part(1, PART_BYTES)), upload.put_part(part(2, 7))];
    futures::future::try_join_all(parts).await.unwrap();
    assert!(
        matches!(store.head(&whole).await, Err(Error::NotFound { .. })),
        "{store}: nothing is there before it is complete"
    );
    upload.complete().await.unwrap();
    assert_eq!(
        store.head(&whole).await.unwrap().size,
        (PART_BYTES + 7) as u64,
        "{store}"
    );
    let seam = store
        .get_range(&whole, PART_BYTES as u64 - 1..PART_BYTES as u64 + 1)
        .await
        .unwrap();
    assert_eq!(*seam, [1, 2], "{store}");

    let given_up = Path::from("login_date=2026-01-05/given-up.zstd.parquet");
    let mut upload = store.put_multipart(&given_up).await.unwrap();
    upload.put_part(part(1, PART_BYTES)).await.unwrap();
    upload.abort().await.unwrap();
    assert!(
        matches!(store.head(&given_up).await, Err(Error::NotFound { .. })),
        "{store}"
    );
    assert_eq!(names(store, "login_date=2026-01-05").await.len(), 2, "{store}");
}

async fn what_is_deleted_is_gone(store: &dyn ObjectStore) {
    let all: Vec<_> = store.list(None).map_ok(|object| object.location).collect().await;
    assert_eq!(all.len(), 6, "{store}");
    let locations = futures::stream::iter(all).boxed();
    let deleted: Vec<Path> = store.delete_stream(locations).try_collect().await.unwrap();
    assert_eq!(deleted.len(), 6, "{store}");
    assert_eq!(store.list(None).count().await, 0, "{store}");
}
