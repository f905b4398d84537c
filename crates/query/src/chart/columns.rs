//! What each column of a result is for a chart, by its name and type; and its values, read when they are asked for.

use std::io;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimeUnit, TimestampMillisecondType};
use chrono::DateTime;

use super::model::{HOURS, Measure, Unit, human};
use crate::print::cell::{Cells, NULL, escape_control};

/// The name of what has a text that cannot be seen.
const EMPTY: &str = "(empty)";

/// What a column can be in a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A date or a time, along which lines go.
    Time,
    /// An hour of the day.
    Hour,
    /// A number that only numbers the rows.
    Rank,
    /// A name.
    Label,
    /// A fraction of one.
    Share,
    /// Another number.
    Value,
    /// Lists and the like.
    None,
}

/// Names of dates that are found out about a row rather than what the row is about.
const FOUND_OUT: [&str; 7] = ["first", "last", "min", "max", "newest", "oldest", "latest"];

fn role_of(field: &Field) -> Role {
    let name = field.name().to_lowercase();
    let kind = field.data_type();
    match kind {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
            if name.split('_').any(|word| FOUND_OUT.contains(&word)) {
                Role::None
            } else {
                Role::Time
            }
        }
        _ if kind.is_integer() && is_hour(&name) => Role::Hour,
        _ if kind.is_integer() && (name == "rank" || name.ends_with("_rank") || name == "row_number") => {
            Role::Rank
        }
        _ if kind.is_floating() && name.contains("share") => Role::Share,
        _ if kind.is_numeric() => Role::Value,
        DataType::Dictionary(_, value) if value.is_string() => Role::Label,
        DataType::Boolean => Role::Label,
        _ if kind.is_string() => Role::Label,
        _ => Role::None,
    }
}

fn is_hour(name: &str) -> bool {
    name == "hour"
        || name.ends_with("hour_of_day")
        || (name.ends_with("_hour") && !name.ends_with("per_hour"))
}

/// A result, by columns.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    schema: &'a Schema,
    batches: &'a [RecordBatch],
    roles: Vec<Role>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(schema: &'a Schema, batches: &'a [RecordBatch]) -> Self {
        Self {
            schema,
            batches,
            roles: schema.fields().iter().map(|field| role_of(field)).collect(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    pub(super) fn all(&self, role: Role) -> Vec<usize> {
        let roles = self.roles.iter().enumerate();
        roles
            .filter(|(_, other)| **other == role)
            .map(|(index, _)| index)
            .collect()
    }

    /// The first column after `index` (all of them without one) that has the role, and comes before `end`.
    pub(super) fn first(&self, role: Role, after: Option<usize>, end: usize) -> Option<usize> {
        let start = after.map_or(0, |index| index + 1);
        (start..end.min(self.roles.len())).find(|index| self.roles[*index] == role)
    }

    pub(super) fn len(&self) -> usize {
        self.roles.len()
    }

    pub(super) fn name(&self, column: usize) -> &str {
        self.schema.field(column).name()
    }

    /// The name for people.
    pub(super) fn human(&self, column: usize) -> String {
        escape_control(&human(self.name(column)))
    }

    pub(super) fn measure(&self, column: usize) -> Measure {
        let unit = match self.schema.field(column).data_type() {
            _ if self.roles[column] == Role::Share => Unit::Share,
            kind if kind.is_integer() => Unit::Count,
            _ => Unit::Number,
        };
        Measure {
            name: self.human(column),
            unit,
        }
    }

    pub(super) fn is_date(&self, column: usize) -> bool {
        matches!(
            self.schema.field(column).data_type(),
            DataType::Date32 | DataType::Date64
        )
    }

    /// Columns and types, as an error lists them.
    pub(super) fn listed(&self) -> String {
        let fields = self.schema.fields().iter();
        let texts: Vec<String> = fields
            .map(|field| format!("{} {}", escape_control(field.name()), field.data_type()))
            .collect();
        texts.join(", ")
    }

    /// The values as texts that are safe to show.
    pub(super) fn texts(&self, column: usize) -> io::Result<Vec<String>> {
        let mut texts = Vec::with_capacity(self.rows());
        for batch in self.batches {
            let cells = Cells::new(batch.column(column), self.schema.field(column))?;
            for row in 0..batch.num_rows() {
                texts.push(if cells.is_null(row) {
                    NULL.to_owned()
                } else {
                    let text = escape_control(&cells.plain(row)?);
                    if text.trim().is_empty() {
                        EMPTY.to_owned()
                    } else {
                        text
                    }
                });
            }
        }
        Ok(texts)
    }

    /// The values as numbers; what is no finite number is none.
    pub(super) fn numbers(&self, column: usize) -> io::Result<Vec<Option<f64>>> {
        let mut numbers = Vec::with_capacity(self.rows());
        for batch in self.batches {
            let array = cast(batch.column(column), &DataType::Float64).map_err(io::Error::other)?;
            let array = array.as_primitive::<Float64Type>();
            numbers.extend(
                array
                    .iter()
                    .map(|number| number.filter(|number| number.is_finite())),
            );
        }
        Ok(numbers)
    }

    /// The values as hours; `Err` has one that is none.
    pub(super) fn hours(&self, column: usize) -> io::Result<Result<Vec<Option<usize>>, f64>> {
        let hours = self.numbers(column)?.into_iter().map(|hour| match hour {
            Some(hour) if (0.0..HOURS as f64).contains(&hour) => Ok(Some(hour as usize)),
            Some(other) => Err(other),
            None => Ok(None),
        });
        Ok(hours.collect())
    }

    /// The values as milliseconds since 1970; what no calendar has is none.
    pub(super) fn times(&self, column: usize) -> io::Result<Vec<Option<i64>>> {
        let mut times = Vec::with_capacity(self.rows());
        for batch in self.batches {
            let array = batch.column(column);
            // A time with a zone is an instant: its number is in UTC whatever the zone.
            let zone = match array.data_type() {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => None,
            };
            let kind = DataType::Timestamp(TimeUnit::Millisecond, zone);
            let array = cast(array, &kind).map_err(io::Error::other)?;
            let array = array.as_primitive::<TimestampMillisecondType>();
            times.extend(
                array
                    .iter()
                    .map(|at| at.filter(|at| DateTime::from_timestamp_millis(*at).is_some())),
            );
        }
        Ok(times)
    }
}
