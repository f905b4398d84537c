//! One good login event and its bytes: compact JSON with the members in the order of the original generator.

use std::io::Write as _;
use std::net::IpAddr;

/// One login. Every value needs no escaping in JSON.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user_id: [u8; 16],
    pub(crate) app_version: &'static str,
    pub(crate) ip: IpAddr,
    pub(crate) locale: [u8; 2],
    pub(crate) device_id: DeviceId,
    pub(crate) timestamp_secs: i64,
    /// Older releases write the timestamp as a string.
    pub(crate) timestamp_as_text: bool,
    /// `None` leaves the member out.
    pub(crate) device_type: Option<&'static str>,
}

/// How a release names a device.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DeviceId {
    /// A UUID.
    Uuid([u8; 16]),
    /// Older releases: nine digits, written `593-47-5928`.
    Digits(u32),
}

impl Login {
    /// Appends the event's JSON to `out`, without a line end.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"user_id\":\"");
        write_uuid(&self.user_id, out);
        out.extend_from_slice(b"\",\"app_version\":\"");
        out.extend_from_slice(self.app_version.as_bytes());
        out.extend_from_slice(b"\",\"ip\":\"");
        write_ip(self.ip, out);
        out.extend_from_slice(b"\",\"locale\":\"");
        out.extend_from_slice(&self.locale);
        out.extend_from_slice(b"\",\"device_id\":\"");
        write_device_id(self.device_id, out);
        out.extend_from_slice(b"\",\"timestamp\":");
        write_timestamp(self.timestamp_secs, self.timestamp_as_text, out);
        if let Some(device_type) = self.device_type {
            out.extend_from_slice(b",\"device_type\":\"");
            out.extend_from_slice(device_type.as_bytes());
            out.push(b'"');
        }
        out.push(b'}');
    }

    /// The members as (name, JSON text), in the order in which [`Login::write`] writes them.
    pub(crate) fn members(&self) -> Vec<(&'static str, String)> {
        let text = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = vec![b'"'];
            write(&mut bytes);
            bytes.push(b'"');
            ascii(bytes)
        };
        let mut timestamp = Vec::new();
        write_timestamp(self.timestamp_secs, self.timestamp_as_text, &mut timestamp);
        let mut members = vec![
            ("user_id", text(&|out| write_uuid(&self.user_id, out))),
            (
                "app_version",
                text(&|out| out.extend_from_slice(self.app_version.as_bytes())),
            ),
            ("ip", text(&|out| write_ip(self.ip, out))),
            ("locale", text(&|out| out.extend_from_slice(&self.locale))),
            ("device_id", text(&|out| write_device_id(self.device_id, out))),
            ("timestamp", ascii(timestamp)),
        ];
        if let Some(device_type) = self.device_type {
            members.push((
                "device_type",
                text(&|out| out.extend_from_slice(device_type.as_bytes())),
            ));
        }
        members
    }
}

fn ascii(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("the values of a good login are ASCII")
}

/// Appends 36 characters: 8-4-4-4-12, lower case.
pub(crate) fn write_uuid(id: &[u8; 16], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + 36, 0);
    uuid::Uuid::from_bytes(*id)
        .hyphenated()
        .encode_lower(&mut out[start..]);
}

fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(address) => {
            let mut digits = itoa::Buffer::new();
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                out.extend_from_slice(digits.format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => {
            write!(out, "{address}").expect("writing to memory does not fail");
        }
    }
}

fn write_device_id(id: DeviceId, out: &mut Vec<u8>) {
    match id {
        DeviceId::Uuid(id) => write_uuid(&id, out),
        DeviceId::Digits(number) => {
            let (area, group, serial) = (number / 1_000_000 % 1_000, number / 10_000 % 100, number % 10_000);
            write!(out, "{area:03}-{group:02}-{serial:04}").expect("writing to memory does not fail");
        }
    }
}

fn write_timestamp(secs: i64, as_text: bool, out: &mut Vec<u8>) {
    let mut digits = itoa::Buffer::new();
    if as_text {
        out.push(b'"');
    }
    out.extend_from_slice(digits.format(secs).as_bytes());
    if as_text {
        out.push(b'"');
    }
}

#[cfg(test)]
pub(crate) fn example() -> Login {
    let id = |text: &str| uuid::Uuid::parse_str(text).expect("a UUID").into_bytes();
    Login {
        user_id: id("a6397988-1649-4859-ae5f-a1407b638ca6"),
        app_version: "2.3.0",
        ip: [108, 228, 145, 239].into(),
        locale: *b"RI",
        device_id: DeviceId::Uuid(id("6221eb3d-89b5-4585-8c98-545b78e24c53")),
        timestamp_secs: 1_720_576_825,
        timestamp_as_text: false,
        device_type: Some("iOS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(login: &Login) -> String {
        let mut out = Vec::new();
        login.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn assembled(login: &Login) -> String {
        let members: Vec<String> = login
            .members()
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    #[test]
    fn the_bytes_are_those_of_the_original_generator() {
        let expected = concat!(
            r#"{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","app_version":"2.3.0","ip":"108.228.145.239","#,
            r#""locale":"RI","device_id":"6221eb3d-89b5-4585-8c98-545b78e24c53","timestamp":1720576825,"#,
            r#""device_type":"iOS"}"#
        );
        assert_eq!(written(&example()), expected);
    }

    #[test]
    fn an_older_release_writes_digits_and_text() {
        let login = Login {
            device_id: DeviceId::Digits(593_475_928),
            timestamp_as_text: true,
            device_type: None,
            ip: "2600:6c::1".parse().unwrap(),
            ..example()
        };
        let text = written(&login);
        assert!(text.contains(r#""ip":"2600:6c::1""#), "{text}");
        assert!(text.contains(r#""device_id":"593-47-5928""#), "{text}");
        assert!(text.ends_with(r#""timestamp":"1720576825"}"#), "{text}");
    }

    #[test]
    fn the_members_are_what_is_written() {
        let older = Login {
            timestamp_as_text: true,
            device_type: None,
            ..example()
        };
        for login in [example(), older] {
            assert_eq!(assembled(&login), written(&login));
        }
    }
}
