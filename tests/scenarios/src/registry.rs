//! One schema registry (Apicurio, with Confluent's API) on free loopback ports, what is registered in it, and login events
//! in the three formats: written here by hand, so that our decoders are not tested against our own encoders.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::wait::wait_for;
use crate::{http, parts, scenario, spawn};

const START_LIMIT: Duration = Duration::from_secs(120);
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Where Confluent's API begins.
const API: &str = "/apis/ccompat/v7";

/// A running registry; stopped when dropped.
pub struct Registry {
    dir: PathBuf,
    port: u16,
    management_port: u16,
    child: Option<Child>,
}

impl Registry {
    /// Starts a registry whose schemas lie in `dir`.
    ///
    /// # Errors
    /// When it does not come up within 120 s; the message holds the end of its log.
    pub fn start(dir: &Path) -> Result<Registry> {
        fs::create_dir_all(dir)?;
        let mut registry = Registry {
            dir: dir.to_path_buf(),
            port: scenario::free_port()?,
            management_port: scenario::free_port()?,
            child: None,
        };
        registry.start_again()?;
        Ok(registry)
    }

    /// Kills it as a power cut would; its schemas and its port stay.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            spawn::stop(&mut child);
        }
    }

    /// Starts it again on the same schemas and port, and waits until it answers.
    ///
    /// # Errors
    /// As [`Registry::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.kill();
        let log_file = self.dir.join("registry.log");
        let log = File::options().create(true).append(true).open(&log_file)?;
        let mut command = Command::new(parts::registry_java());
        command
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-jar"])
            .arg(parts::registry_dir().join("quarkus-run.jar"))
            .current_dir(&self.dir);
        // What was answered to is on the disk.
        let database = format!(
            "jdbc:h2:file:{};WRITE_DELAY=0",
            self.dir.join("schemas").display()
        );
        command
            .env("APICURIO_STORAGE_KIND", "sql")
            .env("APICURIO_STORAGE_SQL_KIND", "h2")
            .env("APICURIO_DATASOURCE_URL", database);
        for (name, port) in [("HTTP", self.port), ("MANAGEMENT", self.management_port)] {
            command
                .env(format!("QUARKUS_{name}_HOST"), "127.0.0.1")
                .env(format!("QUARKUS_{name}_PORT"), port.to_string());
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = spawn::spawn(command).context("cannot start the registry's java")?;
        let address = self.address();
        let ready = wait_for("the schema registry to answer", START_LIMIT, || {
            if let Some(status) = child.try_wait()? {
                bail!("the schema registry stopped with {status} while starting");
            }
            let answer = http::get(address, &format!("{API}/subjects"));
            Ok(answer.is_ok_and(|answer| answer.status == 200).then_some(()))
        });
        self.child = Some(child);
        ready.with_context(|| scenario::end_of(&log_file))
    }

    /// What `--schema-registry` is given.
    pub fn url(&self) -> String {
        format!("http://{}{API}", self.address())
    }

    fn address(&self) -> SocketAddr {
        http::loopback(self.port)
    }

    /// Registers a schema of a type such as `AVRO`, and returns its id.
    ///
    /// # Errors
    /// When the registry refuses it.
    pub fn register(&self, subject: &str, schema_type: &str, schema: &str) -> Result<u32> {
        let body = json!({"schemaType": schema_type, "schema": schema}).to_string();
        let path = format!("{API}/subjects/{subject}/versions");
        // On a busy machine its first answers can be closed connections; the same schema again has the same id.
        let mut failures = Vec::new();
        let answer = wait_for("an answer of the registry", REGISTER_LIMIT, || {
            let answer = post(self.address(), &path, &body);
            Ok(answer.map_err(|error| failures.push(format!("{error:#}"))).ok())
        });
        let answer = answer.with_context(|| failures.pop().unwrap_or_default())?;
        let answer: Value = serde_json::from_str(&answer).with_context(|| format!("{subject}: {answer}"))?;
        let id = answer["id"].as_u64();
        let id = id.with_context(|| format!("{subject} is not registered: {answer}"))?;
        Ok(u32::try_from(id)?)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How long a schema may take to be registered, with all attempts.
const REGISTER_LIMIT: Duration = Duration::from_secs(60);

/// Posts JSON, and returns the body of the answer.
fn post(address: SocketAddr, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.with_context(|| format!("{address} did not answer in HTTP: {answer}"))
}

/// A login in Avro: what may be missing is a union with null, and a timestamp is a number or a text.
pub const AVRO: &str = r#"{"type":"record","name":"Login","namespace":"logins","fields":[
    {"name":"user_id","type":["null","string"]},
    {"name":"app_version","type":["null","string"]},
    {"name":"ip","type":["null","string"]},
    {"name":"locale","type":["null","string"]},
    {"name":"device_id","type":["null","string"]},
    {"name":"timestamp","type":["null","long","string"]},
    {"name":"device_type","type":["null","string"]}]}"#;

/// The same in Protobuf, where a field has one type: the second message has a text for a timestamp.
pub const PROTOBUF: &str = r#"syntax = "proto3";
package logins;
message Login {
  optional string user_id = 1; optional string app_version = 2; optional string ip = 3; optional string locale = 4;
  optional string device_id = 5; optional int64 timestamp = 6; optional string device_type = 7;
}
message OldLogin {
  optional string user_id = 1; optional string app_version = 2; optional string ip = 3; optional string locale = 4;
  optional string device_id = 5; optional string timestamp = 6; optional string device_type = 7;
}
"#;

/// The same as a JSON Schema.
pub const JSON_SCHEMA: &str =
    r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"Login","type":"object"}"#;

/// The members of a login, in the order of the schemas.
const MEMBERS: [&str; 7] = [
    "user_id",
    "app_version",
    "ip",
    "locale",
    "device_id",
    "timestamp",
    "device_type",
];

/// Whether all three schemas can say what this event says: no other members, and texts but for the timestamp, which may be
/// an integer, too.
pub fn is_expressible(event: &Value) -> bool {
    event.as_object().is_some_and(|members| {
        members.iter().all(|(name, value)| {
            let is_number = name == "timestamp" && value.as_i64().is_some();
            MEMBERS.contains(&name.as_str()) && (value.is_null() || value.is_string() || is_number)
        })
    })
}

/// Puts a body into a frame: a zero byte, and the schema's id.
pub fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], body].concat()
}

/// An event in Avro's binary encoding under [`AVRO`]; it must be expressible.
///
/// # Errors
/// When it is not.
pub fn avro_body(event: &Value) -> Result<Vec<u8>> {
    ensure!(is_expressible(event), "not to be said in Avro: {event}");
    let mut body = Vec::new();
    for name in MEMBERS {
        let text_branch = if name == "timestamp" { 2 } else { 1 };
        match &event[name] {
            Value::String(text) => {
                body.extend(zigzag(text_branch));
                body.extend(zigzag(i64::try_from(text.len())?));
                body.extend(text.as_bytes());
            }
            Value::Number(number) => {
                body.extend(zigzag(1));
                body.extend(zigzag(number.as_i64().context("no integer")?));
            }
            _ => body.extend(zigzag(0)),
        }
    }
    Ok(body)
}

/// An event as a message of [`PROTOBUF`], with the message indexes before it; it must be expressible.
///
/// # Errors
/// When it is not.
pub fn protobuf_body(event: &Value) -> Result<Vec<u8>> {
    ensure!(is_expressible(event), "not to be said in Protobuf: {event}");
    // The first message by its short form, the second by a list of one index.
    let mut body = match event["timestamp"] {
        Value::String(_) => [zigzag(1), zigzag(1)].concat(),
        _ => zigzag(0),
    };
    for (number, name) in (1_u64..).zip(MEMBERS) {
        match &event[name] {
            Value::String(text) => {
                body.extend(varint(number << 3 | 2));
                body.extend(varint(text.len() as u64));
                body.extend(text.as_bytes());
            }
            Value::Number(value) => {
                body.extend(varint(number << 3));
                body.extend(varint(value.as_i64().context("no integer")?.cast_unsigned()));
            }
            _ => {}
        }
    }
    Ok(body)
}

fn zigzag(value: i64) -> Vec<u8> {
    varint(((value << 1) ^ (value >> 63)).cast_unsigned())
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_written_as_the_formats_say() {
        let event = json!({"user_id": "u", "timestamp": 150});
        let avro = [2, 2, b'u', 0, 0, 0, 0, 2, 0xac, 0x02, 0];
        assert_eq!(avro_body(&event).unwrap(), avro);
        assert_eq!(
            protobuf_body(&event).unwrap(),
            [0, 0x0a, 1, b'u', 0x30, 0x96, 0x01]
        );
        let old = json!({"timestamp": "1"});
        assert_eq!(protobuf_body(&old).unwrap(), [2, 2, 0x32, 1, b'1']);
        assert_eq!(framed(258, b"x"), [0, 0, 0, 1, 2, b'x']);
    }

    #[test]
    fn what_a_schema_has_no_place_for_is_not_expressible() {
        for event in [
            json!({"ip": 1}),
            json!({"more": "x"}),
            json!([]),
            json!({"timestamp": 1.5}),
        ] {
            assert!(!is_expressible(&event) && avro_body(&event).is_err() && protobuf_body(&event).is_err());
        }
    }
}
