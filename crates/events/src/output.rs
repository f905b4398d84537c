//! The record of `processed-user-login`: one JSON object without blanks, its members always in the same order.
//!
//! Written by hand, because the two general ways (a `serde` derive, or `format!`) cost more than the decoding. Only the
//! region and the division can hold a character that JSON needs escaped; they were escaped when the table of regions
//! was read. Everything else is ASCII without quotes or backslashes by its rule.

use crate::calendar::civil_of;
use crate::event::LoginEvent;

impl LoginEvent<'_> {
    /// Appends the event's record to `out`. `processed_at_ms` is the caller's clock in epoch milliseconds.
    pub fn write_json(&self, processed_at_ms: i64, out: &mut Vec<u8>) {
        out.reserve(640);
        let mut numbers = itoa::Buffer::new();
        let civil = civil_of(self.timestamp_secs());

        push_text(out, "{\"user_id\":\"", &self.user_id);
        push_text(out, "\",\"device_id\":\"", &self.device_id);
        push_text(out, "\",\"timestamp\":", numbers.format(self.timestamp_secs()));
        push_text(out, ",\"ip\":\"", &self.ip);
        push_text(out, "\",\"locale\":\"", self.locale());
        push_text(out, "\",\"device_type\":\"", self.device_type.as_str());
        push_text(out, "\",\"app_version\":\"", &self.app_version);

        out.extend_from_slice(b"\",\"event_time\":\"");
        civil.write_date(out);
        out.push(b'T');
        civil.write_clock(out);
        push_milliseconds(out, self.event_time_ms.rem_euclid(1_000) as u16);
        push_text(
            out,
            "Z\",\"processed_timestamp\":",
            numbers.format(processed_at_ms),
        );
        push_text(out, ",", &self.place.json_members);

        out.extend_from_slice(b",\"login_date\":\"");
        civil.write_date(out);
        push_text(out, "\",\"login_hour\":", numbers.format(civil.hour));
        let local_hour = self.local_hour.map_or("null", |hour| numbers.format(hour));
        push_text(out, ",\"local_hour\":", local_hour);
        push_text(out, ",\"time_of_day\":\"", self.time_of_day().as_str());
        push_text(out, "\",\"day_of_week\":\"", self.day_of_week().as_str());
        push_text(out, "\",\"ip_class\":\"", self.ip_class.as_str());
        push_text(out, "\",\"ip_prefix\":\"", &self.ip_prefix);

        out.extend_from_slice(b"\",\"flags\":[");
        for (index, flag) in self.flags.iter().enumerate() {
            push_text(out, if index == 0 { "\"" } else { ",\"" }, flag);
            out.push(b'"');
        }
        out.extend_from_slice(b"]}");
    }
}

fn push_text(out: &mut Vec<u8>, before: &str, value: &str) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// Appends `.123`, and nothing for a whole second.
fn push_milliseconds(out: &mut Vec<u8>, milliseconds: u16) {
    if milliseconds > 0 {
        let digit = |divisor: u16| b'0' + (milliseconds / divisor % 10) as u8;
        out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
    }
}
