//! A schema registry: does it answer?

use loginlake_schemas::{Registry, RegistryError};
use loginlake_service::check::{CONFIGURATION, Checklist};
use loginlake_service::config::ResolvedSchemaRegistry;

/// Asks it for one schema, whether there is such a one or not. Not to be called within an async task.
pub fn registry(list: &mut Checklist, settings: &ResolvedSchemaRegistry) {
    let asked = Registry::new(settings).and_then(|registry| {
        registry.schema(1)?;
        Ok(registry.url().to_owned())
    });
    match asked {
        Ok(url) => list.ok("schema registry", "reachable", format!("{url} answers")),
        Err(error @ RegistryError::Configuration(_)) => {
            let advice = "give the address as https://registry.example:8081, its credentials in a file";
            list.failed(CONFIGURATION, "schema registry", error.to_string(), advice);
        }
        Err(error) => list.failed(
            "schema registry",
            "reachable",
            error.to_string(),
            "check --schema-registry, its credentials, and that it is running: framed records wait for it",
        ),
    }
}
