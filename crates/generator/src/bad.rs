//! Malformed records: for every [`RejectReason`], several ways in which a real client gets it wrong.
//!
//! Each record has exactly the one fault, in an otherwise good event, so that the reason is certain under the default
//! contract. Nothing here is random beyond the choice of the variant and its numbers.

use loginlake_events::{MAX_DEPTH, MAX_PAYLOAD_BYTES, RejectReason};

use crate::login::Login;
use crate::rng::Rng;

/// 2100-01-01T00:00:00Z, beyond which the contract takes no timestamp whatever its window.
pub(crate) const LATEST_TIMESTAMP_SECS: i64 = 4_102_444_800;

/// Appends a malformed form of `login` to the empty `out`. Returns whether the record is a tombstone: no payload at all.
pub(crate) fn write_bad(reason: RejectReason, login: &Login, rng: &mut Rng, out: &mut Vec<u8>) -> bool {
    debug_assert!(out.is_empty(), "some faults begin before the event");
    let mut members = Members(login.members());
    match reason {
        RejectReason::NullPayload => return rng.below(2) == 0,
        RejectReason::NotUtf8 => {
            const BROKEN: [&[u8]; 4] = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf"];
            members.set("device_type", "\"?\"");
            members.write(out);
            let at = out
                .iter()
                .rposition(|&byte| byte == b'?')
                .expect("it was just written");
            out.splice(at..=at, rng.pick(&BROKEN).iter().copied());
        }
        RejectReason::NotJson => write_not_json(login, rng, out),
        RejectReason::NotObject => write_not_object(login, rng, out),
        RejectReason::TooDeep => {
            let levels = MAX_DEPTH + rng.below(MAX_DEPTH as u64) as usize;
            let (open, close) = rng.pick(&[("[", "]"), ("{\"a\":", "}")]);
            members.add(
                "context",
                format!("{}null{}", open.repeat(levels), close.repeat(levels)),
            );
            members.write(out);
        }
        RejectReason::TooLarge => {
            members.add("trace", format!("\"{}\"", "x".repeat(MAX_PAYLOAD_BYTES)));
            members.write(out);
        }
        RejectReason::DuplicateField => {
            let at = rng.below(members.0.len() as u64) as usize;
            let (name, value) = members.0[at].clone();
            // An escaped name is the same name.
            let name = if rng.below(3) == 0 {
                escaped(name)
            } else {
                name.to_owned()
            };
            members.write_with(&format!(",\"{name}\":{value}"), out);
        }
        RejectReason::MissingField => {
            let name = rng.pick(&["user_id", "device_id", "timestamp", "ip"]);
            match rng.below(2) {
                0 => members.set(name, "null"),
                _ => members.remove(name),
            }
            members.write(out);
        }
        RejectReason::BadType => {
            let (name, value) = rng.pick(&[
                ("user_id", "4711"),
                ("user_id", "{\"id\":4711}"),
                ("device_id", "593475928"),
                ("timestamp", "true"),
                ("timestamp", "[1720576825]"),
                ("ip", "1826918895"),
                ("ip", "[108,228,145,239]"),
                ("locale", "{\"country\":\"US\"}"),
                ("device_type", "[\"iOS\"]"),
                ("device_type", "false"),
                ("app_version", "2.3"),
            ]);
            members.set(name, value);
            members.write(out);
        }
        RejectReason::BadUserId => {
            let good = members.get("user_id").trim_matches('"').to_owned();
            let bad = match rng.below(5) {
                0 => good[..35].to_owned(),
                1 => good.replace('-', ""),
                2 => format!("{{{good}}}"),
                3 => format!("g{}", &good[1..]),
                _ => String::new(),
            };
            members.set("user_id", &quoted(&bad));
            members.write(out);
        }
        RejectReason::BadDeviceId => {
            let bad = match rng.below(4) {
                0 => String::new(),
                1 => "d".repeat(129),
                2 => "my phone".to_owned(),
                _ => "gerät/1".to_owned(),
            };
            members.set("device_id", &quoted(&bad));
            members.write(out);
        }
        RejectReason::BadTimestamp => {
            let secs = login.timestamp_secs;
            let bad = match rng.below(6) {
                0 => "\"yesterday\"".to_owned(),
                1 => "\"2026-01-05T20:15:00Z\"".to_owned(),
                2 => format!("{secs}.5"),
                3 => "1.7e9".to_owned(),
                4 => format!("\" {secs}\""),
                _ => "\"\"".to_owned(),
            };
            members.set("timestamp", &bad);
            members.write(out);
        }
        RejectReason::TimestampRange => {
            let bad = match rng.below(4) {
                // The first ten years of the epoch: clocks that were never set.
                0 => rng.below(315_360_000).to_string(),
                1 => (LATEST_TIMESTAMP_SECS as u64 + 1 + rng.below(1_000_000_000)).to_string(),
                2 => format!("-{}", login.timestamp_secs),
                _ => "99999999999999999999".to_owned(),
            };
            members.set("timestamp", &bad);
            members.write(out);
        }
        RejectReason::BadIp => {
            const BAD: [&str; 8] = [
                "256.1.2.3",
                "108.228.145",
                "108.228.145.239:443",
                "010.1.1.1",
                "fe80::1%eth0",
                "[2600::1]",
                "localhost",
                "",
            ];
            members.set("ip", &quoted(rng.pick(&BAD)));
            members.write(out);
        }
        RejectReason::BadLocale => {
            const BAD: [&str; 7] = ["ZZ", "USA", "Rhode Island", "R1", "en-ZZ", "en-US-x", ""];
            members.set("locale", &quoted(rng.pick(&BAD)));
            members.write(out);
        }
        RejectReason::ControlCharacter => {
            let bad = match rng.below(5) {
                0 => "\"and\\u0000roid\"".to_owned(),
                1 => "\"\\u001b[31miOS\"".to_owned(),
                2 => "\"\u{202e}SOi\"".to_owned(),
                3 => "\"android\\nadmin\"".to_owned(),
                _ => quoted(&"android".repeat(10)),
            };
            members.set("device_type", &bad);
            members.write(out);
        }
        RejectReason::BadVersion => {
            const BAD: [&str; 8] = [
                "latest",
                "2..3",
                "2.3.x",
                "4294967296.0.0",
                "-1.0.0",
                "2.3.0 beta",
                "version 2.3.0",
                "",
            ];
            members.set("app_version", &quoted(rng.pick(&BAD)));
            members.write(out);
        }
        RejectReason::BadFrame | RejectReason::UnknownSchema | RejectReason::SchemaMismatch => {
            unreachable!("{reason} is of framed records, and the reasons here are those of the contract")
        }
    }
    false
}

/// Breaks the text so that it is not exactly one JSON value.
fn write_not_json(login: &Login, rng: &mut Rng, out: &mut Vec<u8>) {
    match rng.below(7) {
        0 => {
            login.write(out);
            let keep = 1 + rng.below(out.len() as u64 - 1) as usize;
            out.truncate(keep);
        }
        1 => {
            login.write(out);
            out.iter_mut()
                .filter(|byte| **byte == b'"')
                .for_each(|byte| *byte = b'\'');
        }
        2 => {
            login.write(out);
            out.pop();
            out.extend_from_slice(b",}");
        }
        3 => {
            out.extend_from_slice(b"\xef\xbb\xbf");
            login.write(out);
        }
        4 => {
            login.write(out);
            out.push(b'\n');
            login.write(out);
        }
        5 => {
            let mut members = Members(login.members());
            members.set("timestamp", "NaN");
            members.write(out);
        }
        _ => out.extend_from_slice(b"user_id=4711&locale=RI"),
    }
}

/// A JSON value other than an object.
fn write_not_object(login: &Login, rng: &mut Rng, out: &mut Vec<u8>) {
    match rng.below(4) {
        0 => {
            out.push(b'[');
            login.write(out);
            out.push(b']');
        }
        1 => out.extend_from_slice(b"\"login\""),
        2 => out.extend_from_slice(b"null"),
        _ => out.extend_from_slice(login.timestamp_secs.to_string().as_bytes()),
    }
}

/// The members of an event while they are being spoilt.
struct Members(Vec<(&'static str, String)>);

impl Members {
    fn get(&self, name: &str) -> &str {
        let member = self.0.iter().find(|member| member.0 == name);
        &member.expect("only members that every login has are read").1
    }

    fn set(&mut self, name: &'static str, value: &str) {
        match self.0.iter_mut().find(|member| member.0 == name) {
            Some(member) => member.1 = value.to_owned(),
            None => self.add(name, value.to_owned()),
        }
    }

    fn add(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|member| member.0 != name);
    }

    fn write(&self, out: &mut Vec<u8>) {
        self.write_with("", out);
    }

    /// Writes the object with `tail` before its closing brace.
    fn write_with(&self, tail: &str, out: &mut Vec<u8>) {
        out.push(b'{');
        for (index, (name, value)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            out.extend_from_slice(format!("{separator}\"{name}\":{value}").as_bytes());
        }
        out.extend_from_slice(tail.as_bytes());
        out.push(b'}');
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// The name with its first character as a JSON escape.
fn escaped(name: &str) -> String {
    format!("\\u{:04x}{}", name.as_bytes()[0], &name[1..])
}
