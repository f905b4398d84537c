//! Which chart a result is, from the names and types of its columns, and that chart's data.
//!
//! | found | chart |
//! |---|---|
//! | a date or a time, numbers after it | lines: one panel for each number, or one line for each name |
//! | names, one hour of the day, a number | heat map |
//! | hours of the day, a number after each | columns by hour |
//! | names and a number | bars |
//!
//! Names are needed as far as they tell rows apart: of several text columns the first ones that do it. What a chart cannot
//! show whole is said in its notes, and so are columns that it leaves out.

mod by_hour;
mod by_time;

use std::collections::HashSet;

use super::columns::{Columns, Role};
use super::model::{Bar, Bars, Figure, Group};
use super::{ChartError, Drawn};
use crate::print::cell::per_cent;

/// Bars, and rows of a heat map: all states and territories fit.
pub(super) const MOST_BARS: usize = 60;
pub(super) const MOST_ROWS: usize = 60;
/// Lines in one panel: as many as there are colours.
pub(super) const MOST_LINES: usize = 7;
pub(super) const MOST_PANELS: usize = 3;
const MOST_CLOCKS: usize = 3;
/// Between the names that stand for one row.
const JOIN: &str = " · ";

/// Finds the chart.
///
/// # Errors
/// [`ChartError::NoShape`] when none fits, [`ChartError::Twice`] when two rows are for the same place of it.
pub(super) fn find(columns: &Columns<'_>) -> Result<Drawn, ChartError> {
    let last_number = [Role::Value, Role::Share]
        .into_iter()
        .filter_map(|role| columns.all(role).last().copied())
        .max()
        .ok_or_else(|| no_shape(columns))?;
    if let Some(time) = columns.first(Role::Time, None, last_number) {
        return by_time::lines(columns, time);
    }
    let hours = columns.all(Role::Hour);
    if let [hour] = hours[..] {
        let values = columns
            .hours(hour)?
            .map_err(|value| not_an_hour(columns, hour, value))?;
        let (names, labels) = telling_apart(columns, &values)?;
        if !names.is_empty() {
            return by_hour::heat_map(columns, hour, &values, &names, &labels);
        }
    }
    if !hours.is_empty() {
        return by_hour::clocks(columns, &hours);
    }
    if columns.all(Role::Label).is_empty() {
        return Err(no_shape(columns));
    }
    bars(columns)
}

fn no_shape(columns: &Columns<'_>) -> ChartError {
    ChartError::NoShape {
        columns: columns.listed(),
    }
}

fn not_an_hour(columns: &Columns<'_>, column: usize, value: f64) -> ChartError {
    ChartError::NotAnHour {
        column: columns.human(column),
        value,
    }
}

/// The first text columns that, with `keys`, tell all rows apart (all of them when none do), and their texts joined.
fn telling_apart<K: std::hash::Hash + Eq>(
    columns: &Columns<'_>,
    keys: &[K],
) -> Result<(Vec<usize>, Vec<String>), ChartError> {
    let mut names = Vec::new();
    let mut labels = vec![String::new(); keys.len()];
    let mut left = columns.all(Role::Label).into_iter();
    loop {
        let mut seen = HashSet::with_capacity(keys.len());
        if keys.iter().zip(&labels).all(|pair| seen.insert(pair)) {
            return Ok((names, labels));
        }
        let Some(next) = left.next() else {
            return Ok((names, labels));
        };
        for (label, text) in labels.iter_mut().zip(columns.texts(next)?) {
            if !names.is_empty() {
                label.push_str(JOIN);
            }
            label.push_str(&text);
        }
        names.push(next);
    }
}

fn names_of(columns: &Columns<'_>, names: &[usize]) -> String {
    let names: Vec<String> = names.iter().map(|name| columns.human(*name)).collect();
    names.join(" and ")
}

/// The number that a chart shows: the first one after column `after`, else the first of all; a share only where there is
/// nothing else.
fn value_after(columns: &Columns<'_>, after: Option<usize>) -> Result<usize, ChartError> {
    let end = columns.len();
    columns
        .first(Role::Value, after, end)
        .or_else(|| columns.first(Role::Share, after, end))
        .or_else(|| columns.first(Role::Value, None, end))
        .or_else(|| columns.first(Role::Share, None, end))
        .ok_or_else(|| no_shape(columns))
}

fn bars(columns: &Columns<'_>) -> Result<Drawn, ChartError> {
    let rows = columns.rows();
    let (mut names, mut labels) = telling_apart(columns, &vec![(); rows])?;
    if names.is_empty() {
        // One row or none: nothing is needed to tell it apart, but it has a name.
        names = columns.all(Role::Label)[..1].to_vec();
        labels = columns.texts(names[0])?;
    }
    let column = value_after(columns, names.last().copied())?;
    let measure = columns.measure(column);
    let values = columns.numbers(column)?;
    let share = columns.first(Role::Share, Some(column), columns.len());
    let shares = match share {
        Some(share) => columns.numbers(share)?,
        None => vec![None; rows],
    };
    let shown = rows.min(MOST_BARS);
    let bars = labels.into_iter().zip(values).zip(shares).take(shown);
    let bars: Vec<Bar> = bars
        .map(|((label, value), share)| Bar { label, value, share })
        .collect();
    let groups = match names[..] {
        [group, name] => grouped(columns, (group, name), &bars)?,
        _ => None,
    };
    let by = names_of(columns, &names);
    Ok(Drawn {
        what: "bars",
        subtitle: format!("{} by {by}", measure.name),
        notes: left_out(rows - shown, "rows"),
        figure: Figure::Bars(Bars {
            measure,
            groups: groups.unwrap_or_else(|| {
                vec![Group {
                    name: None,
                    total: None,
                    bars,
                }]
            }),
        }),
    })
}

/// The bars below the headings of the first name, if the rows of each of them stand together.
fn grouped(
    columns: &Columns<'_>,
    (group, name): (usize, usize),
    bars: &[Bar],
) -> Result<Option<Vec<Group>>, ChartError> {
    let (names, labels) = (columns.texts(group)?, columns.texts(name)?);
    let total = columns.first(Role::Value, Some(group), name);
    let totals = total.map(|total| columns.numbers(total)).transpose()?;
    let share = columns.first(Role::Share, Some(group), name);
    let shares = share.map(|share| columns.numbers(share)).transpose()?;
    let mut groups: Vec<Group> = Vec::new();
    let mut seen = HashSet::new();
    for (row, bar) in bars.iter().enumerate() {
        let is_new = groups
            .last()
            .is_none_or(|last| last.name.as_deref() != Some(&names[row]));
        if is_new {
            if !seen.insert(&names[row]) {
                return Ok(None);
            }
            let number = |column: Option<usize>, values: &Option<Vec<Option<f64>>>| {
                let value = (*values.as_ref()?).get(row).copied().flatten()?;
                Some(columns.measure(column?).text(value))
            };
            let total = number(total, &totals);
            let share = shares.as_ref().and_then(|shares| shares[row]).map(per_cent);
            let said: Vec<String> = total.into_iter().chain(share).collect();
            groups.push(Group {
                name: Some(names[row].clone()),
                total: (!said.is_empty()).then(|| said.join(JOIN)),
                bars: Vec::new(),
            });
        }
        let bars = &mut groups.last_mut().expect("one was made").bars;
        bars.push(Bar {
            label: labels[row].clone(),
            ..bar.clone()
        });
    }
    // Groups of one bar each are no groups.
    Ok(groups.iter().any(|group| group.bars.len() > 1).then_some(groups))
}

fn left_out(count: usize, of: &str) -> Vec<String> {
    if count == 0 {
        return Vec::new();
    }
    vec![format!("{count} more {of} are not shown")]
}
