//! Where the lake is: a local directory, or a bucket and prefix of an S3-compatible store, of Google Cloud Storage or of
//! Azure.
//!
//! Opening does no I/O. [`Lake::check`] does, and sorts what is wrong into one clear line. Every table is a folder below
//! the lake's root; every writer relies on the store's put-if-absent, which local directories (hard links) and S3
//! (`If-None-Match`, also MinIO) have. `tests/store_contract.rs` is what a store has to do.

mod cloud;
mod options;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use futures::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use crate::error::LakeError;
use crate::table::TableName;
use options::encryption;

pub use options::StoreOptions;

/// How long one request to the store may take before it is given up and tried again.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Retries inside one call. Calls that must survive longer outages are repeated by their callers, visibly.
const RETRIES_PER_CALL: usize = 4;
/// The longest that one call keeps trying.
const RETRY_LIMIT: Duration = Duration::from_secs(30);

/// A lake: the root under which the tables are folders. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lake {
    uri: String,
    /// Root of the bucket, or of the file system.
    store: Arc<dyn ObjectStore>,
    /// `s3://bucket/` or `file:///`.
    store_url: Url,
    /// The lake's folder inside `store`.
    root: Path,
    /// Set for a local lake.
    directory: Option<PathBuf>,
}

impl Lake {
    /// Resolves `uri` (a directory, `file://…`, `s3://bucket/prefix`, `gs://…`, `az://…` or `abfss://…`). Does no I/O.
    ///
    /// # Errors
    /// [`LakeError::Configuration`] when the address or the settings cannot be used.
    pub fn open(uri: &str, options: &StoreOptions) -> Result<Self, LakeError> {
        let is_local = uri.split_once("://").is_none_or(|(scheme, _)| scheme == "file");
        if let Some(problem) = options.problem().filter(|_| !is_local) {
            return Err(LakeError::Configuration(problem.to_owned()));
        }
        match uri.split_once("://") {
            Some(("s3" | "s3a", rest)) => Self::open_s3(uri, rest, options),
            Some(("gs", rest)) => {
                let (bucket, prefix) = bucket_and_prefix(uri, rest)?;
                Self::in_cloud(uri, cloud::open_gcs(uri, bucket, options)?, prefix)
            }
            Some(("az" | "azure" | "abfs" | "abfss", rest)) => {
                let (container, prefix) = bucket_and_prefix(uri, rest)?;
                Self::in_cloud(uri, cloud::open_azure(uri, container, options)?, prefix)
            }
            Some(("file", _)) => {
                let path = Url::parse(uri)
                    .ok()
                    .and_then(|url| url.to_file_path().ok())
                    .ok_or_else(|| {
                        LakeError::Configuration(format!(
                            "--lake {uri} is not a usable file URL: write file:///absolute/path"
                        ))
                    })?;
                Self::open_directory(uri, path)
            }
            Some((scheme, _)) => Err(LakeError::Configuration(format!(
                "--lake {uri}: {scheme}:// is not supported; use a directory, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
            ))),
            None if uri.is_empty() => Err(LakeError::Configuration("--lake is empty".to_owned())),
            None => Self::open_directory(uri, PathBuf::from(uri)),
        }
    }

    fn open_directory(uri: &str, path: PathBuf) -> Result<Self, LakeError> {
        let unusable = |detail: String| LakeError::Configuration(format!("--lake {uri}: {detail}"));
        let path = std::path::absolute(&path).map_err(|error| unusable(error.to_string()))?;
        let root = Path::from_absolute_path(&path).map_err(|error| unusable(error.to_string()))?;
        let store_url = Url::parse("file:///").map_err(|error| unusable(error.to_string()))?;
        let store = Arc::new(LocalFileSystem::new());
        Ok(Self {
            uri: uri.to_owned(),
            store,
            store_url,
            root,
            directory: Some(path),
        })
    }

    fn open_s3(uri: &str, rest: &str, options: &StoreOptions) -> Result<Self, LakeError> {
        let (bucket, prefix) = bucket_and_prefix(uri, rest)?;
        let mut builder = AmazonS3Builder::new();
        encryption(options)?;
        for (key, value) in options.with_prefix("AWS_") {
            if let Ok(key) = key.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        let endpoint = options
            .get("AWS_ENDPOINT_URL_S3")
            .or_else(|| options.get("AWS_ENDPOINT_URL"));
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let variable = match options.get("AWS_ENDPOINT_URL_S3") {
            Some(_) => "AWS_ENDPOINT_URL_S3",
            None => "AWS_ENDPOINT_URL",
        };
        let plain_http = plain_http(options, variable, "AWS_ALLOW_HTTP")?;
        let other_source = [
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_SKIP_SIGNATURE",
        ];
        if endpoint.is_some()
            && options.get("AWS_ACCESS_KEY_ID").is_none()
            && other_source.iter().all(|key| options.get(key).is_none())
        {
            return Err(LakeError::Configuration(
                "no credentials for the object store: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                    .to_owned(),
            ));
        }
        let store = builder
            .with_bucket_name(bucket)
            .with_retry(retry_config())
            .with_client_options(client_options(plain_http))
            .build()
            .map_err(|error| LakeError::Configuration(format!("--lake {uri}: {error}")))?;
        let store = cloud::Cloud {
            store: Arc::new(store),
            url: format!("s3://{bucket}/"),
        };
        Self::in_cloud(uri, store, prefix)
    }

    fn in_cloud(uri: &str, cloud: cloud::Cloud, prefix: &str) -> Result<Self, LakeError> {
        let store_url = Url::parse(&cloud.url)
            .map_err(|error| LakeError::Configuration(format!("--lake {uri}: {error}")))?;
        let root = Path::parse(prefix.trim_end_matches('/'))
            .map_err(|error| LakeError::Configuration(format!("--lake {uri}: {error}")))?;
        Ok(Self {
            uri: uri.to_owned(),
            store: cloud.store,
            store_url,
            root,
            directory: None,
        })
    }

    /// The same lake with another object store in front, for tests that make the store fail.
    #[must_use]
    pub fn with_store(mut self, wrap: impl FnOnce(Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore>) -> Self {
        self.store = wrap(self.store);
        self
    }

    /// The address as the operator wrote it.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The store, rooted at the bucket or at the root of the file system.
    pub fn object_store(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.store)
    }

    /// Scheme and authority of [`Self::object_store`]: `s3://bucket/` or `file:///`.
    pub fn object_store_url(&self) -> Url {
        self.store_url.clone()
    }

    /// The table's folder inside [`Self::object_store`].
    pub fn table_path(&self, table: TableName) -> Path {
        self.root.clone().join(table.as_str())
    }

    /// A folder beside the tables inside [`Self::object_store`].
    pub(crate) fn root_path(&self, folder: &str) -> Path {
        self.root.clone().join(folder)
    }

    /// The directory of a local lake.
    pub fn directory(&self) -> Option<&std::path::Path> {
        self.directory.as_deref()
    }

    /// How the table is named in messages.
    pub fn table_place(&self, table: TableName) -> String {
        format!("{}/{table}", self.uri.trim_end_matches('/'))
    }

    /// The table's folder as a store of its own, its root the table.
    pub(crate) fn table_store(&self, table: TableName) -> Arc<dyn ObjectStore> {
        Arc::new(PrefixStore::new(self.object_store(), self.table_path(table)))
    }

    /// The table's folder as a URL that ends with a slash.
    pub(crate) fn table_url(&self, table: TableName) -> Result<Url, LakeError> {
        let unusable = || LakeError::Configuration(format!("--lake {} cannot be written as a URL", self.uri));
        match &self.directory {
            Some(directory) => {
                Url::from_directory_path(directory.join(table.as_str())).map_err(|()| unusable())
            }
            None => {
                let mut url = self.store_url.clone();
                url.set_path(&format!("{}/", self.table_path(table)));
                Ok(url)
            }
        }
    }

    pub(crate) fn log_store(&self, table: TableName) -> Result<LogStoreRef, LakeError> {
        let url = self.table_url(table)?;
        Ok(default_logstore(
            self.table_store(table),
            self.object_store(),
            &url,
            &StorageConfig::default(),
        ))
    }

    /// Checks that the lake can be reached and listed.
    ///
    /// # Errors
    /// The reason, sorted: no such bucket, access denied, unreachable.
    pub async fn check(&self) -> Result<(), LakeError> {
        let mut listing = self.store.list(Some(
            &self
                .root
                .clone()
                .join(TableName::Logins.as_str())
                .join("_delta_log"),
        ));
        match listing.next().await {
            None | Some(Ok(_) | Err(object_store::Error::NotFound { .. })) => Ok(()),
            Some(Err(error)) => Err(LakeError::from_store(&self.uri, error)),
        }
    }
}

/// What is between `scheme://` and the first slash, and what follows.
fn bucket_and_prefix<'a>(uri: &str, rest: &'a str) -> Result<(&'a str, &'a str), LakeError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        let scheme = uri.split(':').next().unwrap_or_default();
        return Err(LakeError::Configuration(format!(
            "--lake {uri} names no bucket: write {scheme}://bucket/prefix"
        )));
    }
    Ok((bucket, prefix))
}

/// Whether the endpoint in a variable is plain HTTP, which is for this machine only unless another variable says so.
fn plain_http(options: &StoreOptions, endpoint: &str, allow: &str) -> Result<bool, LakeError> {
    let Some(url) = options.get(endpoint).filter(|url| url.starts_with("http://")) else {
        return Ok(false);
    };
    let said = options
        .get(allow)
        .is_some_and(|value| matches!(value, "true" | "1" | "TRUE"));
    if said || is_loopback(url) {
        return Ok(true);
    }
    Err(LakeError::Configuration(format!(
        "{endpoint} {url} is plain HTTP on another machine: use https, or set {allow}=true"
    )))
}

fn retry_config() -> RetryConfig {
    RetryConfig {
        max_retries: RETRIES_PER_CALL,
        retry_timeout: RETRY_LIMIT,
        ..Default::default()
    }
}

fn client_options(plain_http: bool) -> ClientOptions {
    ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_allow_http(plain_http)
}

/// Whether the host of an endpoint URL is this machine.
fn is_loopback(endpoint: &str) -> bool {
    Url::parse(endpoint).is_ok_and(|url| match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> StoreOptions {
        StoreOptions::from_variables(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn a_directory_needs_not_exist_to_be_opened() {
        let lake = Lake::open("./some lake", &StoreOptions::default()).unwrap();
        assert_eq!(lake.object_store_url().as_str(), "file:///");
        assert!(
            lake.table_path(TableName::Logins)
                .as_ref()
                .ends_with("some lake/logins")
        );
        assert!(
            lake.table_url(TableName::Logins)
                .unwrap()
                .as_str()
                .ends_with("some%20lake/logins/")
        );
    }

    #[test]
    fn an_s3_address_is_bucket_and_prefix() {
        let lake = Lake::open(
            "s3://bucket/a/b/",
            &options(&[
                ("AWS_ACCESS_KEY_ID", "k"),
                ("AWS_SECRET_ACCESS_KEY", "s"),
                ("AWS_REGION", "eu-west-1"),
            ]),
        )
        .unwrap();
        assert_eq!(lake.object_store_url().as_str(), "s3://bucket/");
        assert_eq!(lake.table_path(TableName::Rejected).as_ref(), "a/b/rejected");
        assert_eq!(
            lake.table_url(TableName::Rejected).unwrap().as_str(),
            "s3://bucket/a/b/rejected/"
        );
    }

    #[test]
    fn plain_http_is_for_loopback_unless_said() {
        let keys = [("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s")];
        let open = |endpoint: &str, more: &[(&str, &str)]| {
            let mut pairs = keys.to_vec();
            pairs.push(("AWS_ENDPOINT_URL", endpoint));
            pairs.extend_from_slice(more);
            Lake::open("s3://b/p", &options(&pairs)).map(|_| ())
        };
        assert!(open("http://127.0.0.1:9000", &[]).is_ok());
        assert!(open("http://localhost:9000", &[]).is_ok());
        let refused = open("http://minio.example:9000", &[]).unwrap_err().to_string();
        assert!(refused.contains("AWS_ALLOW_HTTP"), "{refused}");
        assert!(open("http://minio.example:9000", &[("AWS_ALLOW_HTTP", "true")]).is_ok());
        assert!(open("https://minio.example:9000", &[]).is_ok());
    }

    #[test]
    fn missing_credentials_are_said_before_the_first_request() {
        let error = Lake::open(
            "s3://b/p",
            &options(&[("AWS_ENDPOINT_URL", "https://s3.example")]),
        )
        .unwrap_err();
        assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
    }

    #[test]
    #[cfg(not(all(feature = "gcs", feature = "azure")))]
    fn a_store_that_was_left_out_of_the_build_says_how_to_get_it() {
        for (uri, feature) in [
            ("gs://b/p", "gcs"),
            ("az://c/p", "azure"),
            ("abfss://c@a.dfs.core.windows.net/p", "azure"),
        ] {
            let built = match feature {
                "gcs" => cfg!(feature = "gcs"),
                _ => cfg!(feature = "azure"),
            };
            let error = Lake::open(uri, &StoreOptions::default())
                .err()
                .map(|error| error.to_string());
            assert!(
                built
                    || error
                        .as_ref()
                        .is_some_and(|error| error.contains(&format!("--features {feature}"))),
                "{uri}: {error:?}"
            );
        }
    }

    #[test]
    fn a_bucket_must_be_named() {
        for scheme in ["s3", "gs", "az"] {
            let error = Lake::open(&format!("{scheme}:///p"), &StoreOptions::default()).unwrap_err();
            assert!(
                error.to_string().contains(&format!("{scheme}://bucket/prefix")),
                "{error}"
            );
        }
    }

    #[test]
    fn unknown_schemes_are_refused() {
        let error = Lake::open("ftp://x/y", &StoreOptions::default()).unwrap_err();
        assert!(error.to_string().contains("s3://bucket/prefix"), "{error}");
    }
}
