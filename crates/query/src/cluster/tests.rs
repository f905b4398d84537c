//! Plans of the files of `sql/` survive being sent, and what an executor must not read is refused.

use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreRegistry;
use futures::StreamExt;
use loginlake_lake::{Lake, StoreOptions};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use url::Url;

use super::store::{NoStores, OnlyLake, TablesOnly};

fn lake_in(directory: &std::path::Path) -> Lake {
    Lake::open(&directory.display().to_string(), &StoreOptions::default()).unwrap()
}

#[tokio::test]
async fn an_executor_reads_tables_only_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let logins = directory.path().join("logins");
    std::fs::create_dir(&logins).unwrap();
    std::fs::write(logins.join("a.parquet"), "rows").unwrap();
    std::fs::write(directory.path().join("secret"), "x").unwrap();
    let lake = lake_in(directory.path());
    let store = TablesOnly::of(&lake);
    let table = lake.table_path(loginlake_lake::TableName::Logins);
    let file = table.clone().join("a.parquet");

    assert_eq!(
        &store.get(&file).await.unwrap().bytes().await.unwrap()[..],
        b"rows"
    );
    for outside in [
        Path::parse("etc/passwd").unwrap(),
        Path::from(format!("{}/secret", directory.path().display())),
        Path::from(format!("{table}x/a.parquet")),
    ] {
        let error = store.get(&outside).await.unwrap_err().to_string();
        assert!(error.contains("not in a table of the lake"), "{error}");
    }
    for error in [
        store
            .put(&file, PutPayload::from_static(b"y"))
            .await
            .map(drop)
            .unwrap_err(),
        store.copy(&file, &table.clone().join("b")).await.unwrap_err(),
        store.delete(&file).await.unwrap_err(),
        store.put_multipart(&file).await.map(drop).unwrap_err(),
    ] {
        assert!(error.to_string().contains("only reads"), "{error}");
    }
    assert!(store.list(None).next().await.unwrap().is_err());
    assert_eq!(store.list(Some(&table)).count().await, 1);
    assert_eq!(std::fs::read(logins.join("a.parquet")).unwrap(), b"rows");
}

#[test]
fn an_executor_knows_the_store_of_its_lake_only() {
    let directory = tempfile::tempdir().unwrap();
    let registry = OnlyLake::new(&lake_in(directory.path()));
    let of = |url: &str| registry.get_store(&Url::parse(url).unwrap());
    assert!(of("file:///").is_ok());
    for other in ["s3://bucket/", "http://example.org/"] {
        let error = of(other).unwrap_err().to_string();
        assert!(error.contains("give both the same --lake"), "{error}");
    }
    // Nobody can bring a store along.
    let own: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    registry.register_store(&Url::parse("s3://bucket/").unwrap(), own);
    assert!(of("s3://bucket/").is_err());
}

#[tokio::test]
async fn a_scheduler_finds_nothing_anywhere() {
    let store = NoStores.get_store(&Url::parse("file:///").unwrap()).unwrap();
    assert!(store.get(&Path::parse("etc/passwd").unwrap()).await.is_err());
}
