//! `locale`: a state, a territory or a country, alone (`RI`) or after a language (`en-RI`, `en_RI`).

use crate::event::UNKNOWN;
use crate::json::Value;
use crate::reason::{Field, RejectReason, Rejection};
use crate::regions::{Place, RegionTable, letters_of};

/// The rule of `locale`; `None` when it is missing.
pub(crate) fn locale<'t>(value: Value<'_>, regions: &'t RegionTable) -> Result<Option<&'t Place>, Rejection> {
    let Some(text) = super::optional_text(value, Field::Locale, RejectReason::BadLocale)? else {
        return Ok(None);
    };
    if text == UNKNOWN {
        return Ok(None);
    }
    let letters = letters_of(&text)
        .ok_or_else(|| bad_locale("must be two letters, or a language and two letters such as en-RI"))?;
    match regions.find(letters) {
        Some(place) => Ok(Some(place)),
        None => Err(bad_locale(
            "must name a US state, a US territory or a country of ISO 3166-1",
        )),
    }
}

fn bad_locale(message: &'static str) -> Rejection {
    Rejection::field(RejectReason::BadLocale, Field::Locale, message)
}
