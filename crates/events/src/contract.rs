//! The configuration of the contract, and the order in which a record is judged.
//!
//! The first reason that applies is the verdict: the whole record first, then the fields one by one. Everything that a
//! verdict depends on is in the [`Contract`], in the payload, or is the record's Kafka timestamp.

use std::borrow::Cow;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::calendar::LATEST_SECS;
use crate::event::{DeviceType, Flag, Flags, LoginEvent, UNKNOWN};
use crate::fields::{self, EventTime};
use crate::json;
use crate::privacy::{PersonalField, Privacy};
use crate::reason::{Field, RejectReason, Rejection};
use crate::regions::RegionTable;
use crate::{MAX_DEPTH, MAX_PAYLOAD_BYTES, SCHEMA_VERSION};

/// 2015-01-01T00:00:00Z, in epoch milliseconds.
pub const DEFAULT_EARLIEST_MS: i64 = 1_420_070_400_000;

/// 24 hours, in milliseconds.
pub const DEFAULT_MAX_AHEAD_MS: i64 = 24 * 3_600 * 1_000;

/// 2100-01-01T00:00:00Z, in epoch milliseconds: no event is later than this. It is also the window's end for a record
/// without a Kafka timestamp, because a clock must not decide a verdict.
pub const LATEST_MS: i64 = LATEST_SECS * 1_000;

/// The rules by which records are judged. Cloning it is cheap, and it can be shared between threads.
#[derive(Clone, Debug)]
pub struct Contract {
    regions: RegionTable,
    window: TimeWindow,
    privacy: Privacy,
    rule_version: String,
}

impl Contract {
    /// A builder with the built-in regions, the default window and no privacy.
    pub fn builder() -> ContractBuilder {
        ContractBuilder {
            regions: None,
            window: TimeWindow {
                earliest_ms: DEFAULT_EARLIEST_MS,
                max_ahead_ms: DEFAULT_MAX_AHEAD_MS,
            },
            privacy: Privacy::none(),
        }
    }

    /// Judges one record. `payload` is `None` for a Kafka tombstone; `kafka_timestamp_ms` is the record's Kafka
    /// timestamp in epoch milliseconds, `None` where it has none. Reads no clock.
    ///
    /// # Errors
    /// The first reason that applies; see [`RejectReason`].
    pub fn decode<'a>(
        &'a self,
        payload: Option<&'a [u8]>,
        kafka_timestamp_ms: Option<i64>,
    ) -> Result<LoginEvent<'a>, Rejection> {
        let members = split_record(payload)?;
        let user_id = fields::user_id(members.value_of(Field::UserId))?;
        let device_id = fields::device_id(members.value_of(Field::DeviceId))?;
        let event_time = fields::timestamp(members.value_of(Field::Timestamp))?;
        self.window.check(event_time, kafka_timestamp_ms)?;
        let (address, ip) = fields::ip(members.value_of(Field::Ip))?;
        let place = fields::locale(members.value_of(Field::Locale), &self.regions)?;
        let device_type = fields::device_type(members.value_of(Field::DeviceType))?;
        let app_version = fields::app_version(members.value_of(Field::AppVersion))?;

        let mut flags = Flags::default();
        let mut flag_if = |condition: bool, flag: Flag| {
            if condition {
                flags.insert(flag);
            }
        };
        flag_if(app_version.is_none(), Flag::AppVersionMissing);
        flag_if(device_type == DeviceType::Unknown, Flag::DeviceTypeMissing);
        flag_if(device_type == DeviceType::Other, Flag::DeviceTypeOther);
        flag_if(members.extra_fields > 0, Flag::ExtraFields);
        flag_if(place.is_none(), Flag::LocaleMissing);
        flag_if(event_time.was_millis, Flag::TsMillis);

        let place = place.unwrap_or_else(|| self.regions.missing());
        let (shown_address, ip) = self.shown_ip(address, ip);
        Ok(LoginEvent {
            user_id: self.privacy.user_id(user_id),
            device_id: self.privacy.device_id(device_id),
            event_time_ms: event_time.ms,
            ip_class: fields::class_of(address),
            ip_prefix: fields::prefix_of(shown_address, &ip),
            ip,
            place,
            local_hour: place
                .zone
                .as_ref()
                .map(|zone| zone.local_hour(event_time.ms.div_euclid(1_000))),
            device_type,
            app_version: app_version.unwrap_or(Cow::Borrowed(UNKNOWN)),
            flags,
            extra_fields: members.extra_fields,
        })
    }

    /// The latest event time that a good record with this Kafka timestamp can have, in epoch milliseconds: what is known of
    /// a record before it is decoded. There is no such earliest time, as a login may be told late.
    pub fn latest_event_ms(&self, kafka_timestamp_ms: Option<i64>) -> i64 {
        self.window.latest_ms(kafka_timestamp_ms)
    }

    /// The same contract for somebody who does not look at these fields of an event: each record gets the same verdict, but
    /// no pseudonym and no mask is made of them. An event of it must not leave the process.
    pub fn without_looking_at(&self, unread: &[PersonalField]) -> Contract {
        Contract {
            privacy: self.privacy.without(unread),
            ..self.clone()
        }
    }

    /// A short text that is the same for the same rules and differs when a region, the window or the kinds of privacy
    /// differ: `1-` and twelve hexadecimal digits. For the header `rule.version`. No key goes into it.
    pub fn rule_version(&self) -> &str {
        &self.rule_version
    }

    /// The address that is shown and its text, after privacy.
    fn shown_ip<'a>(&self, address: IpAddr, text: Cow<'a, str>) -> (IpAddr, Cow<'a, str>) {
        match self.privacy.ip(address) {
            None => (address, text),
            Some(shown) => (shown, Cow::Owned(fields::text_of(shown))),
        }
    }
}

impl Default for Contract {
    fn default() -> Self {
        Contract::builder()
            .build()
            .expect("the default window is in order")
    }
}

/// The rules for the record as a whole.
fn split_record(payload: Option<&[u8]>) -> Result<json::Members<'_>, Rejection> {
    let payload = payload.filter(|payload| !payload.is_empty()).ok_or_else(|| {
        Rejection::record(
            RejectReason::NullPayload,
            "the payload must not be absent or empty",
        )
    })?;
    let text = simdutf8::compat::from_utf8(payload).map_err(|error| {
        let place = format!("the payload is not UTF-8 after byte {}", error.valid_up_to());
        Rejection::record(RejectReason::NotUtf8, place)
    })?;
    let members = json::split(text)?;
    if members.too_deep {
        let limit = format!("the payload must not nest deeper than {MAX_DEPTH}");
        return Err(Rejection::record(RejectReason::TooDeep, limit));
    }
    if payload.len() > MAX_PAYLOAD_BYTES {
        let lengths = format!(
            "the payload has {} bytes; at most {MAX_PAYLOAD_BYTES} are accepted",
            payload.len()
        );
        return Err(Rejection::record(RejectReason::TooLarge, lengths));
    }
    if let Some(field) = members.duplicate {
        return Err(Rejection::field(
            RejectReason::DuplicateField,
            field,
            "must be there only once",
        ));
    }
    Ok(members)
}

/// Which event times are accepted.
#[derive(Clone, Copy, Debug)]
struct TimeWindow {
    earliest_ms: i64,
    max_ahead_ms: i64,
}

impl TimeWindow {
    fn latest_ms(self, kafka_timestamp_ms: Option<i64>) -> i64 {
        kafka_timestamp_ms.map_or(LATEST_MS, |kafka_ms| {
            kafka_ms.saturating_add(self.max_ahead_ms).min(LATEST_MS)
        })
    }

    /// Both ends belong to the window.
    fn check(&self, event_time: EventTime, kafka_timestamp_ms: Option<i64>) -> Result<(), Rejection> {
        let latest_ms = self.latest_ms(kafka_timestamp_ms);
        if event_time.ms < self.earliest_ms {
            return Err(fields::out_of_range(
                "is before the earliest time that is configured",
            ));
        }
        if event_time.ms > latest_ms {
            return Err(fields::out_of_range(
                "is too far ahead of the record's Kafka timestamp, or after 2099",
            ));
        }
        Ok(())
    }
}

/// Collects the configuration of a [`Contract`].
#[derive(Clone, Debug)]
pub struct ContractBuilder {
    regions: Option<RegionTable>,
    window: TimeWindow,
    privacy: Privacy,
}

impl ContractBuilder {
    /// The meaning of locales. Default: [`RegionTable::builtin`].
    pub fn regions(mut self, regions: RegionTable) -> Self {
        self.regions = Some(regions);
        self
    }

    /// The earliest event time that is accepted, in epoch milliseconds. Default: [`DEFAULT_EARLIEST_MS`].
    pub fn earliest_ms(mut self, earliest_ms: i64) -> Self {
        self.window.earliest_ms = earliest_ms;
        self
    }

    /// How far an event may be ahead of its record's Kafka timestamp, in milliseconds. Default:
    /// [`DEFAULT_MAX_AHEAD_MS`].
    pub fn max_ahead_ms(mut self, max_ahead_ms: i64) -> Self {
        self.window.max_ahead_ms = max_ahead_ms;
        self
    }

    /// Which fields become pseudonyms or are masked. Default: none.
    pub fn privacy(mut self, privacy: Privacy) -> Self {
        self.privacy = privacy;
        self
    }

    /// The contract.
    ///
    /// # Errors
    /// The window is not within 1970 to 2100, or the furthest ahead is negative.
    pub fn build(self) -> Result<Contract, ContractError> {
        let TimeWindow {
            earliest_ms,
            max_ahead_ms,
        } = self.window;
        if !(0..LATEST_MS).contains(&earliest_ms) {
            return Err(ContractError::Earliest { earliest_ms });
        }
        if max_ahead_ms < 0 {
            return Err(ContractError::MaxAhead { max_ahead_ms });
        }
        let regions = self.regions.unwrap_or_else(RegionTable::builtin);
        let rule_version = rule_version(&regions, self.window, &self.privacy);
        Ok(Contract {
            regions,
            window: self.window,
            privacy: self.privacy,
            rule_version,
        })
    }
}

fn rule_version(regions: &RegionTable, window: TimeWindow, privacy: &Privacy) -> String {
    let mut identity = format!(
        "window {} {}\nprivacy {}\n",
        window.earliest_ms,
        window.max_ahead_ms,
        privacy.kinds()
    );
    regions.write_identity(&mut identity);
    let digest = Sha256::digest(identity.as_bytes());
    let hexadecimal: String = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{SCHEMA_VERSION}-{hexadecimal}")
}

/// Why a configuration makes no contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContractError {
    /// The earliest event time is out of bounds.
    #[error(
        "the earliest event time {earliest_ms} ms is not from 1970 to before 2100; use epoch milliseconds"
    )]
    Earliest {
        /// The earliest event time in epoch milliseconds.
        earliest_ms: i64,
    },
    /// The furthest ahead is negative.
    #[error("the furthest ahead of the Kafka timestamp is {max_ahead_ms} ms; it must be 0 or more")]
    MaxAhead {
        /// How far ahead, in milliseconds.
        max_ahead_ms: i64,
    },
}
