//! Which chart a result gets, what is in it, and that it is safe and always the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::*;

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn whole(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn fractions(values: &[f64]) -> ArrayRef {
    Arc::new(Float64Array::from(values.to_vec()))
}

/// Days since 1970.
fn dates(values: &[i32]) -> ArrayRef {
    Arc::new(Date32Array::from(values.to_vec()))
}

fn chart(title: Option<&str>, columns: Vec<(&str, ArrayRef)>) -> Result<Chart, ChartError> {
    let columns = columns.into_iter().map(|(name, values)| (name, values, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let mut sink = ChartSink::default();
    sink.begin(&batch.schema()).unwrap();
    // In two parts, as results come.
    let half = batch.num_rows() / 2;
    sink.rows(&batch.slice(0, half)).unwrap();
    sink.rows(&batch.slice(half, batch.num_rows() - half)).unwrap();
    sink.end().unwrap();
    sink.finish(title)
}

/// 2026-01-05.
const DAY: i32 = 20_458;

/// One chart of each kind.
fn one_of_each() -> Vec<(&'static str, Chart)> {
    let hours: Vec<i64> = (0..24).collect();
    let twice: Vec<i64> = (0..48).map(|row| row % 24).collect();
    let regions: Vec<&str> = (0..48)
        .map(|row| if row < 24 { "West" } else { "South" })
        .collect();
    let counts: Vec<i64> = (0..48).map(|row| row * row % 31).collect();
    vec![
        (
            "bars",
            chart(
                Some("Which devices?"),
                vec![
                    ("rank", whole(&[1, 2, 3])),
                    ("device_type", texts(&["ios", "android", "web"])),
                    ("logins", whole(&[1_234, 500, 7])),
                    ("share", fractions(&[0.7088, 0.2872, 0.004])),
                ],
            )
            .unwrap(),
        ),
        (
            "columns by hour",
            chart(
                Some("At which hours?"),
                vec![
                    ("utc_hour", whole(&hours)),
                    ("utc_logins", whole(&counts[..24])),
                    ("local_hour", whole(&hours)),
                    ("local_logins", whole(&counts[24..])),
                ],
            )
            .unwrap(),
        ),
        (
            "heat map",
            chart(
                Some("When does each region log in?"),
                vec![
                    ("region", texts(&regions)),
                    ("hour_of_day", whole(&twice)),
                    ("logins", whole(&counts)),
                ],
            )
            .unwrap(),
        ),
        (
            "lines",
            chart(
                Some("How many each day?"),
                vec![
                    ("login_date", dates(&[DAY, DAY + 1, DAY + 2, DAY + 9])),
                    ("day_of_week", texts(&["Mon", "Tue", "Wed", "Wed"])),
                    ("logins", whole(&[10, 20, 15, 12])),
                    ("change", whole(&[0, 10, -5, -3])),
                ],
            )
            .unwrap(),
        ),
    ]
}

/// Reads the picture as XML: whole, only shapes and texts, and no character that XML does not have.
fn check_xml(xml: &str) {
    const KNOWN: [&str; 7] = ["svg", "title", "desc", "rect", "circle", "polyline", "text"];
    const ENTITIES: [&str; 5] = ["amp", "lt", "gt", "quot", "#39"];
    let is_bad = |c: char| (c.is_control() && c != '\n') || matches!(c, '\u{fffe}' | '\u{ffff}');
    assert!(!xml.chars().any(is_bad), "{xml:?}");
    let mut reader = Reader::from_str(xml);
    let (mut open, mut elements) = (0, 0);
    loop {
        match reader
            .read_event()
            .unwrap_or_else(|error| panic!("{error}: {xml}"))
        {
            Event::Eof => break,
            Event::End(_) => open -= 1,
            event @ (Event::Start(_) | Event::Empty(_)) => {
                let (Event::Start(tag) | Event::Empty(tag)) = &event else {
                    unreachable!()
                };
                open += u32::from(matches!(event, Event::Start(_)));
                elements += 1;
                let name = str::from_utf8(tag.name().into_inner()).unwrap().to_owned();
                assert!(KNOWN.contains(&name.as_str()), "{name}");
                for attribute in tag.attributes() {
                    let value = attribute.unwrap().value;
                    assert!(!value.contains(&b'<') && !value.contains(&b'&'), "{name}");
                }
            }
            Event::GeneralRef(entity) => assert!(ENTITIES.contains(&entity.decode().unwrap().as_ref())),
            Event::Text(_) => {}
            other => panic!("{other:?} in {xml}"),
        }
    }
    assert_eq!(open, 0, "{xml}");
    assert!(elements > 10, "{xml}");
}

#[test]
fn each_kind_is_found_and_holds_its_labels() {
    let labels: [&[&str]; 4] = [
        &[
            "Which devices?",
            "ios",
            "android",
            "web",
            "1,234 · 70.9 %",
            "7 · 0.4 %",
            "1,000",
            "logins",
        ],
        &[
            "At which hours?",
            "UTC",
            "local",
            "23",
            "logins",
            "hour of the day",
        ],
        &[
            "When does each region log in?",
            "West",
            "South",
            "23",
            "logins",
            "hour of the day",
        ],
        &[
            "How many each day?",
            "5 Jan",
            "2026",
            "logins",
            "change",
            "date (UTC)",
            "2026-01-06: 20",
        ],
    ];
    for ((kind, chart), labels) in one_of_each().into_iter().zip(labels) {
        assert!(
            chart.description().starts_with(&format!("{kind}: ")),
            "{}",
            chart.description()
        );
        let svg = chart.svg();
        check_xml(&svg);
        for label in labels {
            assert!(svg.contains(&format!(">{label}</")), "{kind}: {label}\n{svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}

#[test]
fn the_same_data_give_the_same_bytes() {
    for ((kind, one), (_, other)) in one_of_each().into_iter().zip(one_of_each()) {
        assert_eq!(one.svg(), other.svg(), "{kind}");
        let png = one.png().unwrap();
        if kind == "bars" {
            assert_eq!(png, other.png().unwrap(), "{kind}");
        }
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{kind}");
        // More than paper: text and shapes do not pack to nothing.
        assert!(png.len() > 10_000, "{kind}: {}", png.len());
    }
}

#[test]
fn text_fits_the_terminal_and_has_no_command_but_colours() {
    for (kind, chart) in one_of_each() {
        for width in [40, 80, 120] {
            let text = chart.text(width, false);
            assert!(!text.contains('\u{1b}'), "{kind}");
            for line in text.lines() {
                assert!(
                    unicode_width::UnicodeWidthStr::width(line) <= width,
                    "{kind} at {width}: {line}"
                );
            }
        }
        let coloured = chart.text(80, true);
        assert!(coloured.contains('\u{1b}'), "{kind}");
        let escapes = coloured.matches('\u{1b}').count();
        assert_eq!(
            coloured.matches("\u{1b}[0m").count() * 2,
            escapes,
            "{kind}: every colour ends"
        );
    }
}

#[test]
fn hostile_values_stay_texts() {
    let hostile = "</text><script>alert(\"1\")</script>&\u{1b}]0;x\u{7}\u{202e}'\u{ffff}";
    let chart = chart(
        Some(hostile),
        vec![
            (hostile, texts(&[hostile, "b"])),
            ("group", texts(&[hostile, hostile])),
            ("logins", whole(&[1, 2])),
        ],
    )
    .unwrap();
    let svg = chart.svg();
    check_xml(&svg);
    assert!(!svg.contains("<script"), "{svg}");
    assert!(svg.contains("&lt;script&gt;"), "{svg}");
    let text = chart.text(100, false);
    assert!(
        !text
            .chars()
            .any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'),
        "{text:?}"
    );
    assert!(!chart.description().chars().any(char::is_control));
    chart.png().unwrap();
}

#[test]
fn groups_are_headings_only_where_they_stand_together() {
    let grouped = chart(
        None,
        vec![
            ("region", texts(&["West", "West", "South", "Territories"])),
            ("region_logins", whole(&[30, 30, 5, 1])),
            ("region_share", fractions(&[0.8, 0.8, 0.15, 0.05])),
            (
                "division",
                texts(&["Pacific", "Mountain", "South Atlantic", "Territories"]),
            ),
            ("logins", whole(&[20, 10, 5, 1])),
        ],
    )
    .unwrap();
    assert_eq!(
        grouped.description(),
        "bars: logins by region and division (4 rows)"
    );
    let text = grouped.text(80, false);
    assert!(text.contains(" West  30 · 80.0 %\n   Pacific "), "{text}");
    assert_eq!(text.matches("Territories").count(), 1, "{text}");

    let apart = chart(
        None,
        vec![
            ("reason", texts(&["BAD", "WORSE", "BAD"])),
            ("field", texts(&["ip", "ip", "locale"])),
            ("records", whole(&[3, 2, 1])),
        ],
    )
    .unwrap();
    assert!(
        apart.text(80, false).contains("BAD · locale"),
        "{}",
        apart.text(80, false)
    );
}

#[test]
fn lines_are_broken_where_days_are_missing_and_names_make_lines() {
    let (_, gaps) = one_of_each().pop().unwrap();
    // Two panels, each with one line of three points; the fourth stands alone.
    let drawn = gaps.svg();
    assert_eq!(drawn.matches("stroke-width=\"2\"").count(), 2, "{drawn}");
    assert_eq!(drawn.matches("<circle").count(), 8, "{drawn}");

    let named = chart(
        None,
        vec![
            ("region", texts(&["West", "South", "West", "South"])),
            ("login_date", dates(&[DAY, DAY, DAY + 1, DAY + 1])),
            ("logins", whole(&[1, 2, 3, 4])),
        ],
    )
    .unwrap();
    assert_eq!(
        named.description(),
        "lines: logins by login date and region (4 rows)"
    );
    assert_eq!(named.svg().matches("stroke-width=\"2\"").count(), 2);
}

#[test]
fn dates_that_are_found_out_do_not_make_lines() {
    let versions = chart(
        None,
        vec![
            ("first_login_date", dates(&[DAY, DAY])),
            ("app_version", texts(&["1.0", "2.0"])),
            ("logins", whole(&[1, 2])),
        ],
    );
    assert!(versions.unwrap().description().starts_with("bars: "));
}

#[test]
fn what_fits_no_chart_is_said_with_what_would() {
    let error = chart(None, vec![("a", whole(&[1])), ("b", fractions(&[2.0]))]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("(a Int64, b Float64)") && text.contains("bars take"),
        "{text}"
    );
    let error = chart(None, vec![("region", texts(&["West"]))]).unwrap_err();
    assert!(matches!(error, ChartError::NoShape { .. }), "{error}");

    let error = chart(None, vec![("login_hour", whole(&[24])), ("logins", whole(&[1]))]).unwrap_err();
    assert!(error.to_string().contains("login hour holds 24"), "{error}");

    let error = chart(None, vec![("hour", whole(&[3, 3])), ("logins", whole(&[1, 2]))]).unwrap_err();
    assert!(matches!(error, ChartError::Twice { .. }), "{error}");

    let names: Vec<String> = (0..8).map(|name| name.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let error = chart(
        None,
        vec![
            ("login_date", dates(&[DAY; 8])),
            ("region", texts(&names)),
            ("logins", whole(&[1; 8])),
        ],
    )
    .unwrap_err();
    assert!(matches!(error, ChartError::TooManyLines { .. }), "{error}");
}

#[test]
fn a_result_without_rows_is_a_picture_that_says_so() {
    let none: [Vec<(&str, ArrayRef)>; 3] = [
        vec![("region", texts(&[])), ("logins", whole(&[]))],
        vec![("login_hour", whole(&[])), ("logins", whole(&[]))],
        vec![("login_date", dates(&[])), ("logins", whole(&[]))],
    ];
    for columns in none {
        let chart = chart(None, columns).unwrap();
        assert!(chart.svg().contains(">no rows</text>"), "{}", chart.description());
        chart.png().unwrap();
    }
}

#[test]
fn what_is_left_out_is_said() {
    let names: Vec<String> = (0..65).map(|name| format!("n{name:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let chart = chart(None, vec![("name", texts(&names)), ("logins", whole(&[5; 65]))]).unwrap();
    assert_eq!(chart.notes(), ["5 more rows are not shown"]);
    assert!(chart.svg().contains(">5 more rows are not shown</text>"));
    assert!(!chart.svg().contains("n60"));
}

#[test]
fn a_second_result_and_too_many_rows_end_the_run() {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let mut sink = ChartSink::default();
    sink.begin(&schema).unwrap();
    let error = sink.begin(&schema).unwrap_err();
    assert!(
        error.get_ref().is_some_and(|error| error.is::<ChartError>()),
        "{error}"
    );

    let rows = RecordBatch::try_new(schema, vec![whole(&vec![0; MAX_CHART_ROWS])]).unwrap();
    sink.rows(&rows).unwrap();
    let error = sink.rows(&rows.slice(0, 1)).unwrap_err();
    assert!(error.to_string().contains("too many for a chart"), "{error}");
}

#[test]
fn numbers_that_are_none_are_drawn_as_none() {
    let chart = chart(
        None,
        vec![
            ("name", texts(&["a", "b", "c", "d"])),
            ("value", fractions(&[f64::NAN, f64::INFINITY, -2.5, 1e300])),
        ],
    )
    .unwrap();
    let svg = chart.svg();
    check_xml(&svg);
    assert!(
        svg.contains(">no value</text>") && svg.contains(">-2.50</text>"),
        "{svg}"
    );
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
}

#[test]
fn the_title_is_the_first_comment() {
    assert_eq!(title_of("\n-- Which regions?\nSELECT 1"), Some("Which regions?"));
    assert_eq!(title_of("SELECT 1 -- one"), None);
    assert_eq!(title_of("--\nSELECT 1"), None);
    assert_eq!(title_of(""), None);
}

#[test]
fn the_name_says_the_kind() {
    assert_eq!("-".parse(), Ok(ChartTarget::Terminal));
    assert_eq!("a/b.SVG".parse(), Ok(ChartTarget::Svg("a/b.SVG".into())));
    assert_eq!("b.png".parse(), Ok(ChartTarget::Png("b.png".into())));
    for wrong in ["", "png", "a.jpeg", ".svg"] {
        let error = wrong.parse::<ChartTarget>().unwrap_err();
        assert!(error.to_string().contains(".svg or .png"), "{error}");
    }
}
