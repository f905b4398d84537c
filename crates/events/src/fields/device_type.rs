//! `device_type`: one of a few kinds, whatever the client calls itself.

use crate::event::{DeviceType, UNKNOWN};
use crate::json::Value;
use crate::reason::{Field, RejectReason, Rejection};

const MAX_CHARS: usize = 64;

const KNOWN: [(&str, DeviceType); 6] = [
    ("android", DeviceType::Android),
    ("ios", DeviceType::Ios),
    ("iphone", DeviceType::Ios),
    ("ipad", DeviceType::Ios),
    ("web", DeviceType::Web),
    (UNKNOWN, DeviceType::Unknown),
];

/// The rule of `device_type`; [`DeviceType::Unknown`] when it is missing.
pub(crate) fn device_type(value: Value<'_>) -> Result<DeviceType, Rejection> {
    let Some(text) = super::optional_text(value, Field::DeviceType, RejectReason::ControlCharacter)? else {
        return Ok(DeviceType::Unknown);
    };
    let trimmed = text.trim();
    if let Some((_, known)) = KNOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(trimmed)) {
        return Ok(*known);
    }
    if trimmed.chars().count() > MAX_CHARS {
        return Err(control_character("must have at most 64 characters"));
    }
    if trimmed.chars().any(is_not_printable) {
        return Err(control_character(
            "must hold no control, line separator or invisible format character",
        ));
    }
    Ok(DeviceType::Other)
}

/// Characters that show nothing, or change how their neighbours are shown.
fn is_not_printable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'                        // soft hyphen
                | '\u{61c}'                 // Arabic letter mark
                | '\u{180e}'                // Mongolian vowel separator
                | '\u{200b}'..='\u{200f}'   // zero-width characters and direction marks
                | '\u{2028}'..='\u{202e}'   // line and paragraph separators, bidirectional embeddings and overrides
                | '\u{2060}'..='\u{206f}'   // word joiner, invisible operators, isolates, deprecated formats
                | '\u{feff}'                // byte-order mark
                | '\u{fff9}'..='\u{fffb}'   // interlinear annotations
                | '\u{e0000}'..='\u{e007f}' // tags
        )
}

fn control_character(message: &'static str) -> Rejection {
    Rejection::field(RejectReason::ControlCharacter, Field::DeviceType, message)
}
