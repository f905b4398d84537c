//! The event contract of `user-login`, as pure code: bytes in, an enriched event or a rejection out.
//!
//! Both paths run [`Contract::decode`] on every record. It does no I/O and reads no clock, so the same bytes with the
//! same Kafka timestamp, under the same configuration, get the same verdict wherever and whenever they are judged
//! (invariant 5). No input panics, recurses without bound, or takes more memory than a small multiple of its size.
//!
//! The modules, in the order in which a record passes through them:
//!
//! - [`contract`]: the configuration and the order in which a record is judged
//! - `json`: the text of the record, split into the raw values of the members that are known
//! - `fields`: one rule per field; normalises, or says what is wrong
//! - [`reason`]: the closed set of rejection reasons
//! - [`regions`] and `countries`: what a locale means; `zones`: the local hour; `calendar`: days and clock times
//! - [`privacy`]: pseudonyms and masks, applied while decoding
//! - [`event`]: the enriched event; `output`: its record on `processed-user-login`
//! - [`filter`]: which good events are not republished
//! - `columns` (feature `arrow`): the rows of the tables `logins` and `rejected`
//!
//! ```
//! use loginlake_events::{Contract, RejectReason};
//!
//! let contract = Contract::default();
//! let payload = br#"{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","app_version":"2.3.0",
//!     "ip":"108.228.145.239","locale":"RI","device_id":"6221eb3d-89b5-4585-8c98-545b78e24c53",
//!     "timestamp":1720576825,"device_type":"iOS"}"#;
//! let event = contract.decode(Some(payload), None).unwrap();
//! assert_eq!((event.region(), event.login_hour(), event.local_hour()), ("Northeast", 2, Some(22)));
//!
//! let rejection = contract.decode(Some(b"[]"), None).unwrap_err();
//! assert_eq!(rejection.reason, RejectReason::NotObject);
//! ```

mod calendar;
#[cfg(feature = "arrow")]
pub mod columns;
pub mod contract;
mod countries;
pub mod event;
mod fields;
pub mod filter;
mod inline;
mod json;
mod output;
pub mod privacy;
pub mod reason;
pub mod regions;
mod zones;

pub use contract::{Contract, ContractBuilder, ContractError};
pub use event::{DayOfWeek, DeviceType, Flag, Flags, IpClass, LoginEvent, TimeOfDay};
pub use reason::{Field, RejectReason, Rejection};

/// Orders two app versions: by their numbers (a leading `v` and missing numbers do not count), then a version with `-pre`
/// before the one without; `+build` does not count. `None` when one of them is no version, as `unknown`.
pub fn compare_versions(left: &str, right: &str) -> Option<std::cmp::Ordering> {
    let (left, right) = (
        fields::normalise_version(left)?,
        fields::normalise_version(right)?,
    );
    Some(fields::compare_versions(&left, &right))
}

/// The largest payload that is accepted, in bytes; a longer one is [`RejectReason::TooLarge`].
pub const MAX_PAYLOAD_BYTES: usize = 1 << 20;

/// How much of a payload over [`MAX_PAYLOAD_BYTES`] is kept as evidence, in bytes.
pub const KEPT_OF_TOO_LARGE_BYTES: usize = 1 << 10;

/// The deepest nesting that is accepted; the record's own object has depth 1.
pub const MAX_DEPTH: usize = 32;

/// The version of the output record's schema, for the header `schema.version`.
pub const SCHEMA_VERSION: &str = "1";
