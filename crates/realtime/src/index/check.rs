//! Whether OpenSearch answers, and has the index template.

use loginlake_service::check::{CONFIGURATION, Checklist};

use super::client::Client;
use super::{IndexOptions, template};

const AREA: &str = "opensearch";

/// Asks for the index template, and installs nothing.
pub fn check(list: &mut Checklist, options: &IndexOptions) {
    let client = match Client::new(&options.client) {
        Ok(client) => client,
        Err(error) => {
            list.error(CONFIGURATION, AREA, &error);
            return;
        }
    };
    match template::ensure(&client, &options.name, false) {
        Ok(()) => list.ok(
            AREA,
            "index template",
            format!("{} at {}", options.name, client.url()),
        ),
        Err(error) if error.message.starts_with("the index template") && options.create_template => {
            list.ok(
                AREA,
                "index template",
                format!("{}: it will be installed", error.message),
            );
        }
        Err(error) => list.error(AREA, "index template", &error),
    }
}
