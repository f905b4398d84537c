//! A good event: normalised, enriched, and cheap.
//!
//! A [`LoginEvent`] borrows from the payload and from the [`Contract`](crate::Contract); the usual event owns no heap
//! memory. Its `Debug` output leaves out everything that could name a person (invariant 11).

use std::borrow::Cow;
use std::fmt;

use chrono::NaiveDate;

use crate::calendar::SECONDS_PER_DAY;
use crate::inline::InlineText;
use crate::regions::Place;

/// How a missing optional field is written; read back, it is missing again.
pub(crate) const UNKNOWN: &str = "unknown";

/// Enough for `ffff:ffff:ffff::/48` and `255.255.255.0/24`.
pub(crate) type IpPrefix = InlineText<19>;

/// An event that passed every rule, with what is derived from it.
#[derive(Clone)]
pub struct LoginEvent<'a> {
    pub(crate) user_id: Cow<'a, str>,
    pub(crate) device_id: Cow<'a, str>,
    pub(crate) event_time_ms: i64,
    pub(crate) ip: Cow<'a, str>,
    pub(crate) ip_class: IpClass,
    pub(crate) ip_prefix: IpPrefix,
    pub(crate) place: &'a Place,
    pub(crate) local_hour: Option<u8>,
    pub(crate) device_type: DeviceType,
    pub(crate) app_version: Cow<'a, str>,
    pub(crate) flags: Flags,
    pub(crate) extra_fields: u32,
}

impl LoginEvent<'_> {
    /// The user: a UUID in lower case, 36 characters (a pseudonym where privacy asks for one).
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The device: 1 to 128 of `A-Z a-z 0-9 . _ : -` (a pseudonym where privacy asks for one).
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// When the login happened, in whole seconds since 1970-01-01T00:00:00Z, rounded down.
    pub fn timestamp_secs(&self) -> i64 {
        self.event_time_ms.div_euclid(1_000)
    }

    /// When the login happened, in milliseconds since 1970-01-01T00:00:00Z.
    pub fn event_time_ms(&self) -> i64 {
        self.event_time_ms
    }

    /// The address in canonical text (masked or a pseudonym where privacy asks for it).
    pub fn ip(&self) -> &str {
        &self.ip
    }

    /// The state, territory or country, two capitals; `unknown` when the record had none.
    pub fn locale(&self) -> &str {
        &self.place.code
    }

    /// The kind of device.
    pub fn device_type(&self) -> DeviceType {
        self.device_type
    }

    /// The version, at least three numbers; `unknown` when the record had none.
    pub fn app_version(&self) -> &str {
        &self.app_version
    }

    /// What was unusual about the record.
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// How many members of the record are not part of the contract and were dropped.
    pub fn extra_fields(&self) -> u32 {
        self.extra_fields
    }

    /// The census region of a state; `Territories`, `International` or `Unknown` otherwise.
    pub fn region(&self) -> &str {
        &self.place.region
    }

    /// The census division of a state; `Territories`, `International` or `Unknown` otherwise.
    pub fn division(&self) -> &str {
        &self.place.division
    }

    /// The UTC date of the login, in days since 1970-01-01.
    pub fn login_date_days(&self) -> i32 {
        crate::calendar::days_of(self.timestamp_secs())
    }

    /// The UTC date of the login.
    pub fn login_date(&self) -> NaiveDate {
        NaiveDate::from_epoch_days(self.login_date_days())
            .expect("the timestamp window is within 1970 to 2100")
    }

    /// The UTC hour of the login, 0 to 23.
    pub fn login_hour(&self) -> u8 {
        (self.timestamp_secs().rem_euclid(SECONDS_PER_DAY) / 3_600) as u8
    }

    /// The hour of day in the state's time zone, 0 to 23; `None` where the locale is not a state.
    pub fn local_hour(&self) -> Option<u8> {
        self.local_hour
    }

    /// The part of the day of the local hour, of the UTC hour where there is no local one.
    pub fn time_of_day(&self) -> TimeOfDay {
        TimeOfDay::of_hour(self.local_hour.unwrap_or_else(|| self.login_hour()))
    }

    /// The UTC day of the week.
    pub fn day_of_week(&self) -> DayOfWeek {
        DayOfWeek::of_days(self.login_date_days())
    }

    /// What kind of address the record came with (before masking and pseudonymisation).
    pub fn ip_class(&self) -> IpClass {
        self.ip_class
    }

    /// The /24 of an IPv4, the /48 of an IPv6, of the address as [`LoginEvent::ip`] gives it.
    pub fn ip_prefix(&self) -> &str {
        &self.ip_prefix
    }
}

impl fmt::Debug for LoginEvent<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LoginEvent")
            .field("event_time_ms", &self.event_time_ms)
            .field("locale", &self.locale())
            .field("device_type", &self.device_type)
            .field("ip_class", &self.ip_class)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

/// The closed enums of an event, each with the text that the record and the table hold.
macro_rules! named_enum {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident => $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The text in the record and in the table.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        }
    };
}

named_enum! {
    /// The kind of device that logged in.
    DeviceType {
        /// Android.
        Android => "android",
        /// iOS, iPhone and iPad.
        Ios => "ios",
        /// A browser.
        Web => "web",
        /// Something else.
        Other => "other",
        /// The record did not say.
        Unknown => "unknown",
    }
}

named_enum! {
    /// The part of the day.
    TimeOfDay {
        /// 0 to 5 o'clock.
        Night => "night",
        /// 6 to 11 o'clock.
        Morning => "morning",
        /// 12 to 17 o'clock.
        Afternoon => "afternoon",
        /// 18 to 23 o'clock.
        Evening => "evening",
    }
}

impl TimeOfDay {
    fn of_hour(hour: u8) -> TimeOfDay {
        TimeOfDay::ALL[usize::from(hour / 6)]
    }
}

named_enum! {
    /// The day of the week.
    DayOfWeek {
        /// Monday.
        Monday => "Mon",
        /// Tuesday.
        Tuesday => "Tue",
        /// Wednesday.
        Wednesday => "Wed",
        /// Thursday.
        Thursday => "Thu",
        /// Friday.
        Friday => "Fri",
        /// Saturday.
        Saturday => "Sat",
        /// Sunday.
        Sunday => "Sun",
    }
}

impl DayOfWeek {
    fn of_days(days: i32) -> DayOfWeek {
        // 1970-01-01 was a Thursday, which is three days after a Monday.
        DayOfWeek::ALL[(days + 3).rem_euclid(7) as usize]
    }
}

named_enum! {
    /// What kind of address an IP is.
    IpClass {
        /// Reachable from the whole Internet.
        Public => "public",
        /// RFC 1918 and fc00::/7.
        Private => "private",
        /// 127.0.0.0/8 and ::1.
        Loopback => "loopback",
        /// 169.254.0.0/16 and fe80::/10.
        LinkLocal => "link_local",
        /// 224.0.0.0/4 and ff00::/8.
        Multicast => "multicast",
        /// Set aside for examples (RFC 5737, RFC 3849, RFC 9637).
        Documentation => "documentation",
        /// Everything else that is not for the public Internet.
        Reserved => "reserved",
    }
}

named_enum! {
    /// Something unusual about a good record. The variants are in the alphabetical order of their names.
    Flag {
        /// There was no `app_version`.
        AppVersionMissing => "app_version_missing",
        /// There was no `device_type`.
        DeviceTypeMissing => "device_type_missing",
        /// The `device_type` is not one of the known ones.
        DeviceTypeOther => "device_type_other",
        /// There were members that are not part of the contract.
        ExtraFields => "extra_fields",
        /// There was no `locale`.
        LocaleMissing => "locale_missing",
        /// The `timestamp` was in milliseconds.
        TsMillis => "ts_millis",
    }
}

/// The set of an event's [`Flag`]s.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    pub(crate) fn insert(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u8;
    }

    /// Whether the flag is set.
    pub fn contains(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u8) != 0
    }

    /// Whether no flag is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many flags are set.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The names of the flags, sorted.
    pub fn iter(self) -> impl Iterator<Item = &'static str> {
        Flag::ALL
            .iter()
            .filter(move |flag| self.contains(**flag))
            .map(|flag| flag.as_str())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_listed_by_name_in_order_whatever_the_order_of_insertion() {
        let mut flags = Flags::default();
        assert!(flags.is_empty());
        for flag in Flag::ALL.iter().rev() {
            flags.insert(*flag);
        }
        let names: Vec<&str> = flags.iter().collect();
        assert!(names.is_sorted());
        assert_eq!((names.len(), flags.len()), (6, 6));
    }

    #[test]
    fn the_parts_of_the_day_begin_at_0_6_12_and_18() {
        let names: Vec<&str> = [0, 5, 6, 11, 12, 17, 18, 23]
            .into_iter()
            .map(|hour| TimeOfDay::of_hour(hour).as_str())
            .collect();
        assert_eq!(
            names,
            [
                "night",
                "night",
                "morning",
                "morning",
                "afternoon",
                "afternoon",
                "evening",
                "evening"
            ]
        );
    }

    #[test]
    fn days_of_the_week_agree_with_chrono() {
        for days in (0..47_482).step_by(13) {
            let expected = NaiveDate::from_epoch_days(days).unwrap().format("%a").to_string();
            assert_eq!(DayOfWeek::of_days(days).as_str(), expected);
        }
    }
}
