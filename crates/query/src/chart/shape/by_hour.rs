//! Charts of the hours of a day: heat maps, and columns for each clock.

use std::collections::HashSet;

use super::super::columns::{Columns, Role};
use super::super::model::{Figure, HOURS, HeatMap, HourSeries, Hours, Measure};
use super::super::{ChartError, Drawn};
use super::{MOST_CLOCKS, MOST_ROWS, left_out, names_of, no_shape, not_an_hour, value_after};

pub(super) fn heat_map(
    columns: &Columns<'_>,
    hour: usize,
    hours: &[Option<usize>],
    names: &[usize],
    labels: &[String],
) -> Result<Drawn, ChartError> {
    // A share makes rows of different size comparable, so it comes first here; what stands before the hour is about the row.
    let column = columns
        .first(Role::Share, Some(hour), columns.len())
        .map_or_else(|| value_after(columns, Some(hour)), Ok)?;
    let measure = columns.measure(column);
    let values = columns.numbers(column)?;
    let mut rows: Vec<HourSeries> = Vec::new();
    let mut filled = HashSet::new();
    for ((label, hour), value) in labels.iter().zip(hours).zip(values) {
        let Some(hour) = *hour else { continue };
        if !filled.insert((label, hour)) {
            return Err(ChartError::Twice {
                place: format!("{label}, hour {hour}"),
                by: names_of(columns, names),
            });
        }
        let index = match rows.iter().position(|row| row.name == *label) {
            Some(index) => index,
            None => {
                rows.push(HourSeries {
                    name: label.clone(),
                    values: [None; HOURS],
                });
                rows.len() - 1
            }
        };
        rows[index].values[hour] = value;
    }
    let by = names_of(columns, names);
    let mut notes = left_out(rows.len().saturating_sub(MOST_ROWS), "rows");
    rows.truncate(MOST_ROWS);
    notes.extend(without_hour(hours));
    Ok(Drawn {
        what: "heat map",
        subtitle: format!("{} by {by} and hour of the day", measure.name),
        notes,
        figure: Figure::HeatMap(HeatMap {
            measure,
            axis: hour_axis(columns, &[hour]),
            row_axis: by,
            rows,
        }),
    })
}

fn without_hour(hours: &[Option<usize>]) -> Option<String> {
    let count = hours.iter().filter(|hour| hour.is_none()).count();
    (count > 0).then(|| format!("{count} rows have no hour and are not shown"))
}

/// What an hour axis is called: whose clock it is, where the name says so.
fn hour_axis(columns: &Columns<'_>, hours: &[usize]) -> String {
    let clock = match hours {
        [hour] => match columns.name(*hour) {
            "login_hour" | "utc_hour" => " (UTC)",
            "local_hour" => " (local time)",
            _ => "",
        },
        _ => "",
    };
    format!("hour of the day{clock}")
}

pub(super) fn clocks(columns: &Columns<'_>, hours: &[usize]) -> Result<Drawn, ChartError> {
    let mut series = Vec::new();
    let mut measures: Vec<Measure> = Vec::new();
    let mut notes = Vec::new();
    for (index, hour) in hours.iter().enumerate() {
        let end = hours.get(index + 1).copied().unwrap_or(columns.len());
        let column = columns
            .first(Role::Value, Some(*hour), end)
            .or_else(|| columns.first(Role::Share, Some(*hour), end));
        let column = match column {
            Some(column) => column,
            None if hours.len() == 1 => value_after(columns, None)?,
            None => return Err(no_shape(columns)),
        };
        let places = columns
            .hours(*hour)?
            .map_err(|value| not_an_hour(columns, *hour, value))?;
        let numbers = columns.numbers(column)?;
        let mut values = [None; HOURS];
        let mut filled = [false; HOURS];
        for (place, number) in places.iter().zip(numbers) {
            let Some(place) = *place else { continue };
            if std::mem::replace(&mut filled[place], true) {
                return Err(ChartError::Twice {
                    place: format!("{} {place}", columns.human(*hour)),
                    by: "hour".to_owned(),
                });
            }
            values[place] = number;
        }
        // Of several clocks the shorter one leaves its hours empty in further rows: nothing is lost with them.
        if hours.len() == 1 {
            notes.extend(without_hour(&places));
        }
        measures.push(columns.measure(column));
        series.push(HourSeries {
            name: clock_name(&columns.human(*hour)),
            values,
        });
    }
    if series.len() > MOST_CLOCKS {
        notes.extend(left_out(series.len() - MOST_CLOCKS, "clocks"));
        series.truncate(MOST_CLOCKS);
    }
    let measure = shared_measure(&measures);
    let names: Vec<String> = series.iter().map(|series| series.name.clone()).collect();
    Ok(Drawn {
        what: "columns by hour",
        subtitle: if hours.len() > 1 {
            format!("{} by hour of the day, {}", measure.name, names.join(" and "))
        } else {
            format!("{} by hour of the day", measure.name)
        },
        notes,
        figure: Figure::Hours(Hours {
            measure,
            axis: hour_axis(columns, hours),
            series,
        }),
    })
}

/// `local hour` as `local`, `utc hour` as `UTC`; a lone `hour` stays.
fn clock_name(hour: &str) -> String {
    match hour
        .trim_end_matches("hour of day")
        .trim_end_matches("hour")
        .trim()
    {
        "" => hour.to_owned(),
        "utc" => "UTC".to_owned(),
        clock => clock.to_owned(),
    }
}

/// One axis for all: what the names have in common at their end (`utc logins`, `local logins`: `logins`).
fn shared_measure(measures: &[Measure]) -> Measure {
    let first = &measures[0];
    let words: Vec<&str> = first.name.split(' ').collect();
    let name = (0..words.len())
        .map(|start| words[start..].join(" "))
        .find(|end| {
            let is_end = |name: &str| name == end || name.ends_with(&format!(" {end}"));
            measures.iter().all(|measure| is_end(&measure.name))
        });
    Measure {
        name: name.unwrap_or_else(|| first.name.clone()),
        unit: first.unit,
    }
}
