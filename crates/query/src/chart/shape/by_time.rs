//! Lines over dates and times.

use std::collections::HashSet;

use super::super::columns::{Columns, Role};
use super::super::model::{Figure, Lines, Panel, Series};
use super::super::scale::time_text;
use super::super::{ChartError, Drawn};
use super::{MOST_LINES, MOST_PANELS, left_out, names_of, telling_apart, value_after};

pub(super) fn lines(columns: &Columns<'_>, time: usize) -> Result<Drawn, ChartError> {
    let times = columns.times(time)?;
    let (names, labels) = telling_apart(columns, &times)?;
    let after = names.iter().copied().chain([time]).max();
    let mut notes = Vec::new();
    let none = times.iter().filter(|at| at.is_none()).count();
    if none > 0 {
        notes.push(format!(
            "{none} rows have no {} and are not shown",
            columns.human(time)
        ));
    }
    let first = value_after(columns, after)?;
    let mut measures = vec![first];
    if names.is_empty() {
        let others = columns
            .all(Role::Value)
            .into_iter()
            .filter(|column| *column > first);
        measures.extend(others);
        notes.extend(left_out(measures.len().saturating_sub(MOST_PANELS), "columns"));
        measures.truncate(MOST_PANELS);
    }
    let mut panels = Vec::new();
    for column in measures {
        let values = columns.numbers(column)?;
        let mut series: Vec<Series> = Vec::new();
        let mut seen = HashSet::new();
        for ((at, label), value) in times.iter().zip(&labels).zip(values) {
            let Some(at) = *at else { continue };
            if !seen.insert((at, label)) {
                return Err(ChartError::Twice {
                    place: format!("{label} {}", time_text(at, columns.is_date(time)))
                        .trim()
                        .to_owned(),
                    by: columns.human(time),
                });
            }
            let name = (!names.is_empty()).then(|| label.clone());
            let index = match series.iter().position(|series| series.name == name) {
                Some(index) => index,
                None => {
                    if series.len() == MOST_LINES {
                        return Err(ChartError::TooManyLines {
                            by: names_of(columns, &names),
                        });
                    }
                    series.push(Series {
                        name,
                        points: Vec::new(),
                    });
                    series.len() - 1
                }
            };
            if let Some(value) = value {
                series[index].points.push((at, value));
            }
        }
        for series in &mut series {
            series.points.sort_by_key(|(at, _)| *at);
        }
        panels.push(Panel {
            measure: columns.measure(column),
            series,
        });
    }
    let axis = axis_of_time(columns, time);
    let what: Vec<String> = panels.iter().map(|panel| panel.measure.name.clone()).collect();
    let by = if names.is_empty() {
        String::new()
    } else {
        format!(" and {}", names_of(columns, &names))
    };
    Ok(Drawn {
        what: "lines",
        subtitle: format!("{} by {}{by}", what.join(", "), columns.human(time)),
        notes,
        figure: Figure::Lines(Lines {
            axis,
            is_daily: columns.is_date(time),
            panels,
        }),
    })
}

/// Dates and times of the tables are in UTC; of a column with another name nobody knows.
fn axis_of_time(columns: &Columns<'_>, time: usize) -> String {
    match columns.name(time) {
        "login_date" => "date (UTC)".to_owned(),
        "event_time" | "kafka_timestamp" | "ingested_at" => "time (UTC)".to_owned(),
        _ => columns.human(time),
    }
}
