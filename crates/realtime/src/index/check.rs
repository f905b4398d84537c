//! Whether OpenSearch answers, who it is, and whether what is indexed would get its types. Asks, and changes nothing.

use chrono::Utc;
use loginlake_service::check::{CONFIGURATION, Checklist};
use loginlake_service::exit::ExitError;
use reqwest::Method;
use serde_json::Value;

use super::IndexOptions;
use super::client::Client;
use super::template::{self, Found, Types};

const AREA: &str = "opensearch";
const TEMPLATE: &str = "index template";

/// Looks at the node, the cluster's health, the index template, and what a new index would get.
pub fn check(list: &mut Checklist, options: &IndexOptions) {
    let client = match Client::new(&options.client) {
        Ok(client) => client,
        Err(error) => {
            list.error(CONFIGURATION, AREA, &error);
            return;
        }
    };
    if !node(list, &client) {
        return;
    }
    health(list, &client);
    let found = match installed(&client, options) {
        Ok((found, text)) => {
            list.ok(AREA, TEMPLATE, text);
            found
        }
        Err(error) => {
            list.error(AREA, TEMPLATE, &error);
            return;
        }
    };
    let what = "types of a new index";
    match template::types_of_new_index(&client, &options.name, found, Utc::now()) {
        Ok(Types::Right) => list.ok(AREA, what, format!("those of the template {}", options.name)),
        Ok(Types::NotTold(status)) => list.warning(
            AREA,
            what,
            format!("OpenSearch does not tell ({status}) whether another template wins"),
            "allow indices:admin/index_template/simulate_index to its user, or look at GET /_index_template",
        ),
        Err(error) => list.error(AREA, what, &error),
    }
}

/// Whether it is worth asking on.
fn node(list: &mut Checklist, client: &Client) -> bool {
    let what = "node";
    let advice = "check --index-url (http or https, host, port) and that OpenSearch is running";
    let at = client.url();
    match client.send(Method::GET, "", None) {
        Err(problem) => {
            list.failed(AREA, what, format!("nobody answers at {at}: {problem}"), advice);
            false
        }
        Ok(answer) if answer.status == 200 => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let Some(number) = body["version"]["number"].as_str() else {
                let found = format!("what answers at {at} is not OpenSearch");
                list.failed(AREA, what, found, advice);
                return false;
            };
            let kind = body["version"]["distribution"].as_str().unwrap_or("unknown kind");
            let cluster = body["cluster_name"].as_str().unwrap_or_default();
            list.ok(AREA, what, format!("{kind} {number}, cluster {cluster}, at {at}"));
            true
        }
        Ok(answer) if answer.status == 403 => {
            list.ok(
                AREA,
                what,
                format!("answers at {at}; its user may not see the version"),
            );
            true
        }
        Ok(answer) => {
            let found = format!("at {at}: {}", client.refusal(answer.status));
            list.failed(
                AREA,
                what,
                found,
                "give the credentials of a user who may write the indices",
            );
            false
        }
    }
}

/// Nothing is said where the user may not ask.
fn health(list: &mut Checklist, client: &Client) {
    let what = "cluster";
    let Ok(answer) = client.send(Method::GET, "_cluster/health", None) else {
        return;
    };
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (answer.status, body["status"].as_str()) {
        (200, Some("red")) => list.warning(
            AREA,
            what,
            "red: a shard has no copy that works",
            "GET /_cluster/allocation/explain says why; realtime index waits for a shard that it has to write to",
        ),
        (200, Some(status)) => list.ok(AREA, what, status),
        _ => {}
    }
}

/// The template as it is, or as it will be after the start.
fn installed(client: &Client, options: &IndexOptions) -> Result<(Found, String), ExitError> {
    let name = &options.name;
    let found = template::look(client, name)?;
    let text = match found {
        Found::Good(version) => format!("{name} of version {version}"),
        _ if !options.create_template => return Err(template::not_to_be_installed(name, found)),
        Found::Older(version) => format!("{name} of version {version}: the start brings a newer one"),
        Found::Missing => format!("{name} is missing: the start installs it"),
    };
    Ok((found, text))
}
