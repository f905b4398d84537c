//! What a locale means: its region, its division and its time zone.
//!
//! The states come from a CSV file, built in or a user's own; territories and countries are known besides. A row of the
//! file wins over a territory and over a country with the same code (`CA` is California). A code that is none of them
//! is not a locale. The table is small whatever the file says: two letters make at most 676 rows, and each of their
//! texts is at most [`MAX_TEXT_BYTES`] long.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use chrono_tz::Tz;

use crate::calendar::LATEST_SECS;
use crate::countries::{ISO_3166_1_ALPHA_2, UNITED_STATES, US_TERRITORIES};
use crate::event::UNKNOWN;
use crate::zones::ZoneHours;

/// The first line that a table of regions must have.
pub const HEADER: &str = "code,name,census_region,census_division,time_zone";

/// The largest file that is read, in bytes.
pub const MAX_CSV_BYTES: usize = 1 << 18;

/// The longest name, region or division, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;

const BUILTIN_CSV: &str = include_str!("../../../data/us_states.csv");

/// What one locale means.
pub(crate) struct Place {
    /// Two capitals, or `unknown`.
    pub(crate) code: String,
    pub(crate) region: String,
    pub(crate) division: String,
    /// `"region":"…","division":"…"`, escaped once here instead of for each event.
    pub(crate) json_members: String,
    pub(crate) zone: Option<Arc<ZoneHours>>,
}

impl Place {
    fn new(code: &str, region: &str, division: &str, zone: Option<Arc<ZoneHours>>) -> Place {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        Place {
            code: code.to_owned(),
            region: region.to_owned(),
            division: division.to_owned(),
            json_members: format!("\"region\":{},\"division\":{}", quoted(region), quoted(division)),
            zone,
        }
    }
}

/// All the locales that are known. Cloning it is cheap.
#[derive(Clone)]
pub struct RegionTable(Arc<Places>);

struct Places {
    known: Vec<Place>,
    /// For each pair of letters, its index in `known` plus one; 0 for none.
    index_of_letters: Box<[u16; LETTER_PAIRS]>,
    missing: Place,
}

const LETTER_PAIRS: usize = 26 * 26;

impl RegionTable {
    /// The 50 states and DC, with the regions and divisions of the US Census Bureau.
    pub fn builtin() -> RegionTable {
        RegionTable::from_csv(BUILTIN_CSV).expect("the built-in table is checked by the tests")
    }

    /// Reads a table whose first line is [`HEADER`] and whose every other line is one state. A text that holds a comma
    /// is put in double quotes. A row without a time zone is allowed: it has no local hour.
    ///
    /// # Errors
    /// Says which line is wrong, and why; lines are counted from 1.
    pub fn from_csv(text: &str) -> Result<RegionTable, RegionError> {
        if text.len() > MAX_CSV_BYTES {
            return Err(RegionError::TooLarge {
                length_bytes: text.len(),
            });
        }
        let mut lines = text.trim_start_matches('\u{feff}').lines().zip(1..);
        let header = lines.next().map_or("", |(line, _)| line.trim_end());
        if header != HEADER {
            return Err(RegionError::Header {
                found: shortened(header),
            });
        }
        let mut places = Places::empty();
        let mut zones = HashMap::new();
        let mut first_line_of_code = HashMap::new();
        for (line, number) in lines.filter(|(line, _)| !line.trim().is_empty()) {
            let place = parse_row(line, number, &mut zones)?;
            if let Some(first_line) = first_line_of_code.insert(place.code.clone(), number) {
                return Err(RegionError::DuplicateCode {
                    line: number,
                    first_line,
                    code: place.code,
                });
            }
            places.insert(place);
        }
        if places.known.is_empty() {
            return Err(RegionError::NoRows);
        }
        places.add_countries();
        Ok(RegionTable(Arc::new(places)))
    }

    /// The region of a locale, as the column `region` has it: two letters in either case, alone or after a language
    /// (`en-RI`), or `unknown`. `None` for what is no locale.
    pub fn region_of(&self, locale: &str) -> Option<&str> {
        if locale == UNKNOWN {
            return Some(&self.missing().region);
        }
        Some(&self.find(letters_of(locale)?)?.region)
    }

    /// Seconds east of UTC on the clocks of a locale at an instant in epoch seconds. `None` for what is no locale, for one
    /// without a time zone, and for an instant before 1970 or after 2100.
    pub fn utc_offset_secs(&self, locale: &str, epoch_secs: i64) -> Option<i64> {
        if !(0..=LATEST_SECS).contains(&epoch_secs) {
            return None;
        }
        let zone = self.find(letters_of(locale)?)?.zone.as_ref()?;
        Some(zone.offset_secs(epoch_secs))
    }

    /// What two letters, in either case, mean.
    pub(crate) fn find(&self, letters: [u8; 2]) -> Option<&Place> {
        let index = self.0.index_of_letters[letter_pair(letters)?];
        self.0.known.get(usize::from(index).checked_sub(1)?)
    }

    /// What a missing locale means.
    pub(crate) fn missing(&self) -> &Place {
        &self.0.missing
    }

    /// Everything in this table that a verdict or an enrichment depends on, as text in a stable order.
    pub(crate) fn write_identity(&self, identity: &mut String) {
        for place in &self.0.known {
            let zone = place.zone.as_ref().map_or("", |zone| zone.name());
            identity.push_str(&format!("{} {} {zone}\n", place.code, place.json_members));
        }
    }
}

impl fmt::Debug for RegionTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RegionTable({} locales)", self.0.known.len())
    }
}

impl Places {
    fn empty() -> Places {
        Places {
            known: Vec::new(),
            index_of_letters: Box::new([0; LETTER_PAIRS]),
            missing: Place::new(UNKNOWN, "Unknown", "Unknown", None),
        }
    }

    fn insert(&mut self, place: Place) {
        let letters = [place.code.as_bytes()[0], place.code.as_bytes()[1]];
        let pair = letter_pair(letters).expect("codes are two letters");
        assert_eq!(self.index_of_letters[pair], 0, "a code is inserted once");
        self.known.push(place);
        self.index_of_letters[pair] = self.known.len() as u16;
    }

    /// Adds every territory and country whose code the file has not taken.
    fn add_countries(&mut self) {
        let from_file: Vec<String> = self.known.iter().map(|place| place.code.clone()).collect();
        for code in ISO_3166_1_ALPHA_2
            .split(' ')
            .filter(|code| !from_file.iter().any(|taken| taken == code))
        {
            let region = if US_TERRITORIES.contains(&code) {
                "Territories"
            } else if code == UNITED_STATES {
                "Unknown"
            } else {
                "International"
            };
            self.insert(Place::new(code, region, region, None));
        }
    }
}

/// The letters of a state, territory or country, alone or after a language.
pub(crate) fn letters_of(locale: &str) -> Option<[u8; 2]> {
    match *locale.as_bytes() {
        [first, second] => Some([first, second]),
        [l1, l2, b'-' | b'_', first, second] if l1.is_ascii_alphabetic() && l2.is_ascii_alphabetic() => {
            Some([first, second])
        }
        _ => None,
    }
}

fn letter_pair(letters: [u8; 2]) -> Option<usize> {
    let number = |letter: u8| {
        letter
            .is_ascii_alphabetic()
            .then(|| usize::from(letter.to_ascii_uppercase() - b'A'))
    };
    Some(number(letters[0])? * 26 + number(letters[1])?)
}

fn parse_row(
    line: &str,
    number: usize,
    zones: &mut HashMap<Tz, Arc<ZoneHours>>,
) -> Result<Place, RegionError> {
    let cells = split_cells(line).ok_or(RegionError::Quotes { line: number })?;
    let found = cells.len();
    let [code, name, region, division, zone] =
        <[String; 5]>::try_from(cells).map_err(|_| RegionError::Cells { line: number, found })?;
    if code.len() != 2 || !code.bytes().all(|letter| letter.is_ascii_uppercase()) {
        return Err(RegionError::Code {
            line: number,
            code: shortened(&code),
        });
    }
    for (column, text) in [
        ("name", &name),
        ("census_region", &region),
        ("census_division", &division),
    ] {
        if text.is_empty() || text.len() > MAX_TEXT_BYTES || text.chars().any(char::is_control) {
            return Err(RegionError::Text {
                line: number,
                column,
                text: shortened(text),
            });
        }
    }
    let zone = match zone.as_str() {
        "" => None,
        name => {
            let zone: Tz = name.parse().map_err(|_| RegionError::TimeZone {
                line: number,
                zone: shortened(name),
            })?;
            Some(Arc::clone(
                zones
                    .entry(zone)
                    .or_insert_with(|| Arc::new(ZoneHours::new(zone))),
            ))
        }
    };
    Ok(Place::new(&code, &region, &division, zone))
}

/// The cells of one line, blanks around them removed; `None` when its double quotes do not match.
fn split_cells(line: &str) -> Option<Vec<String>> {
    let mut cells = Vec::new();
    let mut rest = line.trim();
    loop {
        let cell;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut end = quoted.find('"')?;
            while quoted[end + 1..].starts_with('"') {
                end += 2 + quoted[end + 2..].find('"')?;
            }
            cell = quoted[..end].replace("\"\"", "\"");
            rest = quoted[end + 1..].trim_start();
            if !rest.is_empty() && !rest.starts_with(',') {
                return None;
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            cell = rest[..end].to_owned();
            rest = &rest[end..];
        }
        cells.push(cell.trim().to_owned());
        match rest.strip_prefix(',') {
            Some(next) => rest = next.trim_start(),
            None => return Some(cells),
        }
    }
}

/// A value as it is shown in an error: its beginning only.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Why a file is not a table of regions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// The file is too long.
    #[error("the table of regions has {length_bytes} bytes; at most {MAX_CSV_BYTES} are read")]
    TooLarge {
        /// The length of the file in bytes.
        length_bytes: usize,
    },
    /// The first line is not the header.
    #[error("line 1: the header is {found:?}; it must be {HEADER:?}")]
    Header {
        /// The beginning of the first line.
        found: String,
    },
    /// There is no state.
    #[error("the table of regions has a header but no rows; add a line for each state")]
    NoRows,
    /// Double quotes do not match.
    #[error(
        "line {line}: the double quotes do not match; quote a whole cell and double the quotes inside it"
    )]
    Quotes {
        /// The line, counted from 1.
        line: usize,
    },
    /// Not five cells.
    #[error(
        "line {line}: {found} cells; there must be 5 ({HEADER}); put a text that holds a comma in double quotes"
    )]
    Cells {
        /// The line, counted from 1.
        line: usize,
        /// How many cells it has.
        found: usize,
    },
    /// The code is not two capitals.
    #[error("line {line}: the code {code:?} is not two capital letters")]
    Code {
        /// The line, counted from 1.
        line: usize,
        /// The beginning of the code.
        code: String,
    },
    /// A code is there twice.
    #[error("line {line}: the code {code:?} is already on line {first_line}; keep one of them")]
    DuplicateCode {
        /// The line, counted from 1.
        line: usize,
        /// The line of the first row with this code.
        first_line: usize,
        /// The code.
        code: String,
    },
    /// A name, region or division is empty, too long, or holds a control character.
    #[error("line {line}: the {column} {text:?} is not 1 to {MAX_TEXT_BYTES} bytes of printable text")]
    Text {
        /// The line, counted from 1.
        line: usize,
        /// The column's name.
        column: &'static str,
        /// The beginning of the text.
        text: String,
    },
    /// The time zone is not one of the IANA database.
    #[error(
        "line {line}: the time zone {zone:?} is not known; use an IANA name such as America/Chicago, or none"
    )]
    TimeZone {
        /// The line, counted from 1.
        line: usize,
        /// The beginning of the zone's name.
        zone: String,
    },
}
