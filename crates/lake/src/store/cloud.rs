//! Lakes in Google Cloud Storage and in Azure Blob Storage, where this was built with them (the cargo features `gcs` and
//! `azure`). Both have the put-if-absent that every commit rests on: `ifGenerationMatch=0`, and `If-None-Match: *`.

use std::sync::Arc;

use object_store::ObjectStore;

use super::StoreOptions;
use crate::error::LakeError;

/// A store, and how it is addressed inside of this software.
pub(super) struct Cloud {
    pub(super) store: Arc<dyn ObjectStore>,
    /// Scheme and authority.
    pub(super) url: String,
}

/// `gs://bucket/prefix`; credentials and endpoint from the `GOOGLE_*` variables.
#[cfg(feature = "gcs")]
pub(super) fn open_gcs(uri: &str, bucket: &str, options: &StoreOptions) -> Result<Cloud, LakeError> {
    use object_store::gcp::GoogleCloudStorageBuilder;

    let mut builder = GoogleCloudStorageBuilder::new();
    for (key, value) in options.with_prefix("GOOGLE_") {
        if let Ok(key) = key.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let plain_http = super::plain_http(options, "GOOGLE_BASE_URL", "GOOGLE_ALLOW_HTTP")?;
    let store = builder
        .with_bucket_name(bucket)
        .with_retry(super::retry_config())
        .with_client_options(super::client_options(plain_http))
        .build()
        .map_err(|error| LakeError::Configuration(format!("--lake {uri}: {error}")))?;
    Ok(Cloud {
        store: Arc::new(store),
        url: format!("gs://{bucket}/"),
    })
}

/// Says how to get a build that has it.
#[cfg(not(feature = "gcs"))]
pub(super) fn open_gcs(uri: &str, _: &str, _: &StoreOptions) -> Result<Cloud, LakeError> {
    Err(not_built(uri, "gcs"))
}

/// `az://container/prefix`, or `abfss://container@account.dfs.core.windows.net/prefix`; the rest from the `AZURE_*` variables.
#[cfg(feature = "azure")]
pub(super) fn open_azure(uri: &str, authority: &str, options: &StoreOptions) -> Result<Cloud, LakeError> {
    use object_store::azure::MicrosoftAzureBuilder;

    let mut builder = MicrosoftAzureBuilder::new();
    for (key, value) in options.with_prefix("AZURE_") {
        if let Ok(key) = key.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let (container, host) = match authority.split_once('@') {
        Some((container, host)) => (container, Some(host)),
        None => (authority, None),
    };
    if let Some(account) = host.and_then(|host| host.split('.').next()) {
        builder = builder.with_account(account);
    }
    let plain_http = super::plain_http(options, "AZURE_STORAGE_ENDPOINT", "AZURE_ALLOW_HTTP")?;
    let store = builder
        .with_container_name(container)
        .with_retry(super::retry_config())
        .with_client_options(super::client_options(plain_http))
        .build()
        .map_err(|error| LakeError::Configuration(format!("--lake {uri}: {error}")))?;
    Ok(Cloud {
        store: Arc::new(store),
        url: format!("az://{container}/"),
    })
}

/// Says how to get a build that has it.
#[cfg(not(feature = "azure"))]
pub(super) fn open_azure(uri: &str, _: &str, _: &StoreOptions) -> Result<Cloud, LakeError> {
    Err(not_built(uri, "azure"))
}

#[cfg(not(all(feature = "gcs", feature = "azure")))]
fn not_built(uri: &str, feature: &str) -> LakeError {
    LakeError::Configuration(format!(
        "--lake {uri}: this program was built without that store; build it with --features {feature}"
    ))
}
