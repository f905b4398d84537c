//! Pseudonyms and masks for what names a person, applied while a record is decoded, so that both paths agree.
//!
//! A pseudonym is a keyed HMAC-SHA-256 of the field's name and its normalised value: the same value has the same
//! pseudonym as long as the key is the same, and without the key it can be neither reversed nor guessed by trying all
//! addresses. Each pseudonym is again a valid value of its field: a UUID of version 8, 32 hexadecimal digits, an IPv6
//! address of `fd00::/8`. The key is never shown, not by `Debug` either (invariant 11).

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The shortest key that is accepted, in bytes: 128 bits.
pub const MIN_KEY_BYTES: usize = 16;

/// A field that names a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PersonalField {
    /// `ip`
    Ip,
    /// `device_id`
    DeviceId,
    /// `user_id`
    UserId,
}

impl PersonalField {
    /// Every personal field.
    pub const ALL: [PersonalField; 3] = [PersonalField::Ip, PersonalField::DeviceId, PersonalField::UserId];

    /// The member's name in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            PersonalField::Ip => "ip",
            PersonalField::DeviceId => "device_id",
            PersonalField::UserId => "user_id",
        }
    }
}

impl fmt::Display for PersonalField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for PersonalField {
    type Err = PrivacyError;

    fn from_str(name: &str) -> Result<Self, PrivacyError> {
        PersonalField::ALL
            .into_iter()
            .find(|field| field.as_str() == name)
            .ok_or_else(|| PrivacyError::UnknownField(name.to_owned()))
    }
}

/// Which fields become pseudonyms or are masked. By default none.
#[derive(Clone, Default)]
pub struct Privacy {
    /// The HMAC with its key taken in; present when there is a pseudonym to make.
    keyed: Option<Hmac<Sha256>>,
    pseudonyms: [bool; PersonalField::ALL.len()],
    masks_ip: bool,
}

impl Privacy {
    /// Shows every field as it is.
    pub fn none() -> Privacy {
        Privacy::default()
    }

    /// Replaces the named fields by pseudonyms made with `key`. Naming none gives [`Privacy::none`].
    ///
    /// # Errors
    /// The key is shorter than [`MIN_KEY_BYTES`].
    pub fn pseudonyms(key: &[u8], fields: &[PersonalField]) -> Result<Privacy, PrivacyError> {
        if fields.is_empty() {
            return Ok(Privacy::none());
        }
        if key.len() < MIN_KEY_BYTES {
            return Err(PrivacyError::ShortKey {
                length_bytes: key.len(),
            });
        }
        let keyed = Hmac::<Sha256>::new_from_slice(key).expect("an HMAC takes a key of any length");
        let pseudonyms = PersonalField::ALL.map(|field| fields.contains(&field));
        Ok(Privacy {
            keyed: Some(keyed),
            pseudonyms,
            masks_ip: false,
        })
    }

    /// Also sets the last octet of an IPv4 and the last 80 bits of an IPv6 to zero.
    ///
    /// # Errors
    /// The IP becomes a pseudonym already, which hides more.
    pub fn with_masked_ip(mut self) -> Result<Privacy, PrivacyError> {
        if self.has_pseudonym(PersonalField::Ip) {
            return Err(PrivacyError::MaskedAndPseudonym);
        }
        self.masks_ip = true;
        Ok(self)
    }

    /// What is done, without the key: the part of the configuration that goes into the rule version.
    pub(crate) fn kinds(&self) -> String {
        let pseudonyms = PersonalField::ALL
            .into_iter()
            .filter(|field| self.has_pseudonym(*field));
        let mut kinds: Vec<String> = pseudonyms.map(|field| format!("pseudonym:{field}")).collect();
        if self.masks_ip {
            kinds.push("mask:ip".to_owned());
        }
        kinds.join(",")
    }

    /// The same without these fields, which are then as they were in the record.
    pub(crate) fn without(&self, unread: &[PersonalField]) -> Privacy {
        let pseudonyms =
            PersonalField::ALL.map(|field| self.has_pseudonym(field) && !unread.contains(&field));
        Privacy {
            keyed: self.keyed.clone(),
            pseudonyms,
            masks_ip: self.masks_ip && !unread.contains(&PersonalField::Ip),
        }
    }

    pub(crate) fn user_id<'a>(&self, user_id: Cow<'a, str>) -> Cow<'a, str> {
        let Some(mut bytes) = self.pseudonym(PersonalField::UserId, user_id.as_bytes()) else {
            return user_id;
        };
        // Version 8 is for UUIDs of one's own making; the variant is that of RFC 9562.
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let digits = hexadecimal(&bytes);
        let groups = [
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..],
        ];
        Cow::Owned(groups.join("-"))
    }

    pub(crate) fn device_id<'a>(&self, device_id: Cow<'a, str>) -> Cow<'a, str> {
        match self.pseudonym(PersonalField::DeviceId, device_id.as_bytes()) {
            None => device_id,
            Some(bytes) => Cow::Owned(hexadecimal(&bytes)),
        }
    }

    /// The address to show instead, `None` when it is shown as it is.
    pub(crate) fn ip(&self, address: IpAddr) -> Option<IpAddr> {
        if self.masks_ip {
            return Some(masked(address));
        }
        let pseudonym = match address {
            IpAddr::V4(address) => self.pseudonym(PersonalField::Ip, &address.octets()),
            IpAddr::V6(address) => self.pseudonym(PersonalField::Ip, &address.octets()),
        };
        pseudonym.map(|mut bytes| {
            bytes[0] = 0xfd;
            IpAddr::V6(Ipv6Addr::from(bytes))
        })
    }

    fn has_pseudonym(&self, field: PersonalField) -> bool {
        self.pseudonyms[field as usize]
    }

    /// The first 16 bytes of the field's HMAC; `None` when the field is shown.
    fn pseudonym(&self, field: PersonalField, value: &[u8]) -> Option<[u8; 16]> {
        let mut mac = self.keyed.as_ref().filter(|_| self.has_pseudonym(field))?.clone();
        // The name keeps the same text in two fields apart; no name holds a zero byte.
        mac.update(field.as_str().as_bytes());
        mac.update(&[0]);
        mac.update(value);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        Some(bytes)
    }
}

impl fmt::Debug for Privacy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Privacy({})", self.kinds())
    }
}

fn masked(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

fn hexadecimal(bytes: &[u8; 16]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("four bits are one digit");
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)])
        .collect()
}

/// Why a configuration of privacy is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivacyError {
    /// The key is too short.
    #[error("the privacy key has {length_bytes} bytes; use at least {MIN_KEY_BYTES} random ones")]
    ShortKey {
        /// The length of the key in bytes.
        length_bytes: usize,
    },
    /// The IP cannot be both.
    #[error("the ip is both masked and made a pseudonym; choose one of them")]
    MaskedAndPseudonym,
    /// Not the name of a personal field.
    #[error("{0:?} cannot become a pseudonym; the fields that can are ip, device_id and user_id")]
    UnknownField(String),
}
