//! `user_id`: a UUID, trimmed and lower-cased. `device_id`: 1 to 128 characters that are safe anywhere.

use std::borrow::Cow;

use crate::json::Value;
use crate::reason::{Field, RejectReason, Rejection};

const UUID_LEN: usize = 36;
const MAX_DEVICE_ID_LEN: usize = 128;

/// A truth for each byte.
const fn table(is_in: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut index = 0;
    while index < is_in.len() {
        table[is_in[index] as usize] = true;
        index += 1;
    }
    table
}

const HEX_DIGIT: [bool; 256] = table(b"0123456789abcdefABCDEF");
const IN_DEVICE_ID: [bool; 256] =
    table(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-");

/// The rule of `user_id`. Any version and variant of UUID is accepted.
pub(crate) fn user_id(value: Value<'_>) -> Result<Cow<'_, str>, Rejection> {
    let text = super::required_text(value, Field::UserId, RejectReason::BadUserId)?;
    let trimmed = text.trim();
    if !is_uuid(trimmed.as_bytes()) {
        return Err(Rejection::field(
            RejectReason::BadUserId,
            Field::UserId,
            "must be a UUID: 8-4-4-4-12 hexadecimal digits",
        ));
    }
    if trimmed.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(Cow::Owned(trimmed.to_ascii_lowercase()));
    }
    Ok(match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    })
}

fn is_uuid(text: &[u8]) -> bool {
    let Ok(text) = <&[u8; UUID_LEN]>::try_from(text) else {
        return false;
    };
    let dashes = [8, 13, 18, 23];
    // No early end: a few instructions for all bytes at once beat a decision for each.
    let digits = text.iter().filter(|byte| HEX_DIGIT[usize::from(**byte)]).count();
    digits == UUID_LEN - dashes.len() && dashes.iter().all(|index| text[*index] == b'-')
}

/// The rule of `device_id`. Not trimmed: a blank is not one of the characters.
pub(crate) fn device_id(value: Value<'_>) -> Result<Cow<'_, str>, Rejection> {
    let text = super::required_text(value, Field::DeviceId, RejectReason::BadDeviceId)?;
    let is_allowed = |byte: u8| IN_DEVICE_ID[usize::from(byte)];
    if text.is_empty() || text.len() > MAX_DEVICE_ID_LEN || !text.bytes().all(is_allowed) {
        return Err(Rejection::field(
            RejectReason::BadDeviceId,
            Field::DeviceId,
            "must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -",
        ));
    }
    Ok(text)
}
