//! One value of a result, as text for a table, as text for CSV, or as JSON.

use std::fmt::Write as _;
use std::io;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::Value;

/// What NULL looks like in a table: an empty text is something else.
pub(crate) const NULL: &str = "∅";

/// How a column is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whole and decimal numbers: thousands separated, right.
    Number,
    /// Binary fractions: two decimals, right.
    Float,
    /// A fraction of one whose column says "share": per cent, right.
    Share,
    /// Dates and times: left. A piece of one says something else.
    Time,
    /// Anything else: left.
    Text,
}

impl Kind {
    pub(super) fn of(field: &Field) -> Self {
        match field.data_type() {
            DataType::Float32 | DataType::Float64 if field.name().to_lowercase().contains("share") => {
                Self::Share
            }
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Float,
            data_type if data_type.is_numeric() => Self::Number,
            data_type if data_type.is_temporal() => Self::Time,
            _ => Self::Text,
        }
    }
}

/// A column of a batch, ready to give its values.
pub(crate) struct Cells<'a> {
    array: &'a ArrayRef,
    /// Nulls by meaning: also those of dictionaries and of columns that are nothing but NULL.
    nulls: Option<NullBuffer>,
    formatter: ArrayFormatter<'a>,
    kind: Kind,
}

impl<'a> Cells<'a> {
    /// # Errors
    /// When a value of this type cannot be shown.
    pub(crate) fn new(array: &'a ArrayRef, field: &Field) -> io::Result<Self> {
        let formatter = ArrayFormatter::try_new(array.as_ref(), &FORMAT).map_err(unshowable)?;
        Ok(Self {
            array,
            nulls: array.logical_nulls(),
            formatter,
            kind: Kind::of(field),
        })
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The value in full, as it is written into files. NULL gives an empty text.
    pub(crate) fn plain(&self, row: usize) -> io::Result<String> {
        if self.is_null(row) {
            return Ok(String::new());
        }
        if let Some(number) = self.float(row) {
            return Ok(float_text(number));
        }
        let mut text = String::new();
        self.formatter.value(row).write(&mut text).map_err(unshowable)?;
        Ok(text)
    }

    /// The value as people read it in a table.
    pub(super) fn for_people(&self, row: usize) -> io::Result<String> {
        if self.is_null(row) {
            return Ok(NULL.to_owned());
        }
        match (self.kind, self.float(row)) {
            (Kind::Share, Some(share)) => Ok(per_cent(share)),
            (Kind::Float, Some(number)) => Ok(rounded(number)),
            (Kind::Number, _) => Ok(separate_thousands(&self.plain(row)?)),
            _ => Ok(escape_control(&self.plain(row)?)),
        }
    }

    fn float(&self, row: usize) -> Option<f64> {
        match self.array.data_type() {
            DataType::Float64 => Some(self.array.as_primitive::<Float64Type>().value(row)),
            DataType::Float32 => Some(f64::from(self.array.as_primitive::<Float32Type>().value(row))),
            _ => None,
        }
    }

    /// The value as JSON. A number that JSON cannot write (NaN, an infinity) is null.
    pub(super) fn json(&self, row: usize) -> io::Result<Value> {
        if self.is_null(row) {
            return Ok(Value::Null);
        }
        match self.array.data_type() {
            DataType::Boolean => Ok(Value::Bool(self.array.as_boolean().value(row))),
            DataType::Float32 | DataType::Float64 => Ok(self.float(row).map_or(Value::Null, Value::from)),
            data_type if data_type.is_integer() => {
                let text = self.plain(row)?;
                let number = text
                    .parse::<i64>()
                    .map(Value::from)
                    .or_else(|_| text.parse::<u64>().map(Value::from));
                Ok(number.unwrap_or(Value::String(text)))
            }
            DataType::List(field) => list_json(&self.array.as_list::<i32>().value(row), field),
            DataType::LargeList(field) => list_json(&self.array.as_list::<i64>().value(row), field),
            DataType::Struct(fields) => {
                let value = self.array.as_struct();
                let members = fields
                    .iter()
                    .zip(value.columns())
                    .map(|(field, column)| Ok((field.name().clone(), Cells::new(column, field)?.json(row)?)));
                Ok(Value::Object(members.collect::<io::Result<_>>()?))
            }
            _ => Ok(Value::String(self.plain(row)?)),
        }
    }
}

const FORMAT: FormatOptions<'static> = FormatOptions::new();

fn list_json(values: &ArrayRef, field: &Field) -> io::Result<Value> {
    let cells = Cells::new(values, field)?;
    (0..values.len())
        .map(|index| cells.json(index))
        .collect::<io::Result<Vec<Value>>>()
        .map(Value::Array)
}

fn unshowable(error: ArrowError) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a value cannot be shown: {error}"),
    )
}

/// The shortest text that reads back as the same number.
fn float_text(number: f64) -> String {
    serde_json::Number::from_f64(number).map_or_else(|| number.to_string(), |number| number.to_string())
}

/// `38.1 %`; something between nothing and a twentieth of a per cent is not called nothing.
pub(crate) fn per_cent(share: f64) -> String {
    if share > 0.0 && share < 0.0005 {
        "< 0.1 %".to_owned()
    } else {
        format!("{:.1} %", share * 100.0)
    }
}

/// Two decimals, more for what would round to nothing.
pub(crate) fn rounded(number: f64) -> String {
    if !number.is_finite() || (number != 0.0 && number.abs() < 0.005) || number.abs() >= 1e15 {
        return float_text(number);
    }
    separate_thousands(&format!("{number:.2}"))
}

/// `-1234567.5` as `-1,234,567.5`. A text that is no plain number stays as it is.
pub(crate) fn separate_thousands(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) = rest.find('.').map_or((rest, ""), |point| rest.split_at(point));
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return number.to_owned();
    }
    let mut text = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text.push_str(fraction);
    text
}

/// Makes a text safe for a terminal: nothing in it moves the cursor, changes a colour or turns the reading direction.
pub(crate) fn escape_control(text: &str) -> String {
    if !text.chars().any(is_unsafe) {
        return text.to_owned();
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if is_unsafe(c) => {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{{{:x}}}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

/// Control characters, and what is not seen but changes what is: directions of reading, tags, soft hyphens.
pub(super) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated_in_numbers_only() {
        let cases = [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("-1234567", "-1,234,567"),
            ("1234.5678", "1,234.5678"),
            ("-9223372036854775808", "-9,223,372,036,854,775,808"),
            ("1e300", "1e300"),
            ("", ""),
        ];
        for (number, shown) in cases {
            assert_eq!(separate_thousands(number), shown);
        }
    }

    #[test]
    fn fractions_are_rounded_but_never_to_nothing() {
        assert_eq!(rounded(1234.567), "1,234.57");
        assert_eq!(rounded(0.0), "0.00");
        assert_eq!(rounded(0.0001), "0.0001");
        assert_eq!(rounded(f64::NAN), "NaN");
        assert_eq!(per_cent(0.3812), "38.1 %");
        assert_eq!(per_cent(0.0001), "< 0.1 %");
        assert_eq!(per_cent(0.0), "0.0 %");
        assert_eq!(per_cent(1.0), "100.0 %");
    }

    #[test]
    fn nothing_in_a_value_reaches_the_terminal_as_a_command() {
        assert_eq!(
            escape_control("a\u{1b}[31mb\n\u{202e}c"),
            "a\\u{1b}[31mb\\n\\u{202e}c"
        );
        assert_eq!(escape_control("São Paulo ✓"), "São Paulo ✓");
    }
}
