//! Tables on narrow and wide terminals, whatever is in the cells.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};

use proptest::prelude::*;

use super::*;

fn printed(width: Option<usize>, columns: Vec<(&str, ArrayRef)>) -> String {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut table = Table::new(width);
    let mut out = Vec::new();
    table.begin(&batch.schema());
    table.rows(&batch, &mut out).unwrap();
    table.end(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn numbers_are_aligned_whatever_their_size() {
    let text = printed(
        None,
        vec![
            (
                "region",
                Arc::new(StringArray::from(vec![Some("South"), None, Some("東京")])) as ArrayRef,
            ),
            (
                "logins",
                Arc::new(Int64Array::from(vec![1_234_567_890_123, 7, -1000])),
            ),
            ("share", Arc::new(Float64Array::from(vec![0.9994, 0.0001, 0.0]))),
        ],
    );
    let expected = " region │            logins │   share\n\
                    ────────┼───────────────────┼─────────\n \
                    South  │ 1,234,567,890,123 │  99.9 %\n \
                    ∅      │                 7 │ < 0.1 %\n \
                    東京   │            -1,000 │   0.0 %\n";
    assert_eq!(text, expected);
}

#[test]
fn wide_texts_are_cut_to_the_terminal_and_numbers_never() {
    let text = printed(
        Some(40),
        vec![
            (
                "message",
                Arc::new(StringArray::from(vec!["a very long message that goes on and on"])) as ArrayRef,
            ),
            ("kafka_offset", Arc::new(Int64Array::from(vec![i64::MAX]))),
        ],
    );
    assert!(text.contains("a very long…"), "{text}");
    assert!(text.contains("9,223,372,036,854,775,807"), "{text}");
}

#[test]
fn a_time_is_left_out_rather_than_cut() {
    let times = TimestampMicrosecondArray::from(vec![1_767_607_379_040_000]).with_timezone("UTC");
    let columns = |width| {
        let columns = vec![
            (
                "reason",
                Arc::new(StringArray::from(vec!["CONTROL_CHARACTER"])) as ArrayRef,
            ),
            ("records", Arc::new(Int64Array::from(vec![624]))),
            ("first_seen", Arc::new(times.clone())),
            ("last_seen", Arc::new(times.clone())),
        ];
        printed(Some(width), columns)
    };
    let narrow = columns(60);
    assert!(
        narrow.contains(" CONTROL_CHARACTER│     624│ 2026-01-05T10:02:59.040Z\n"),
        "{narrow}"
    );
    assert!(
        narrow.contains("1 more column does not fit the terminal: last_seen"),
        "{narrow}"
    );
    let all = columns(80);
    assert_eq!(all.matches("2026-01-05T10:02:59.040Z").count(), 2, "{all}");
    let least = columns(20);
    assert!(least.contains("CONTROL") && !least.contains("2026-01"), "{least}");
}

#[test]
fn a_result_without_rows_is_a_header() {
    let none: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
    assert_eq!(printed(None, vec![("logins", none)]), " logins\n────────\n");
}

#[test]
fn rows_beyond_the_sample_keep_the_columns() {
    let count = i64::try_from(SAMPLE_ROWS).unwrap() + 500;
    let text = printed(
        None,
        vec![(
            "n",
            Arc::new((1_000..1_000 + count).collect::<Int64Array>()) as ArrayRef,
        )],
    );
    assert_eq!(text.lines().count(), SAMPLE_ROWS + 502);
    assert!(
        text.lines().skip(2).all(|line| line.chars().count() == 6),
        "{text}"
    );
}

#[test]
fn long_names_take_lines_before_anything_is_cut() {
    let columns = || {
        vec![
            ("region_rank", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef),
            (
                "region",
                Arc::new(StringArray::from(vec!["Midwest", "Northeast"])),
            ),
            ("logins_7_days", Arc::new(Int64Array::from(vec![1, 20_000]))),
        ]
    };
    assert_eq!(printed(Some(80), columns()), printed(None, columns()));
    let expected = " region_ │           │ logins_\n    \
                    rank │ region    │  7_days\n\
                    ─────────┼───────────┼─────────\n       \
                    1 │ Midwest   │       1\n       \
                    2 │ Northeast │  20,000\n";
    assert_eq!(printed(Some(35), columns()), expected);
}

#[test]
fn columns_that_do_not_fit_are_named_below_the_table() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["some text of a row"]));
    let names = ["first", "second", "third", "fourth"];
    let table = printed(Some(30), names.map(|name| (name, text.clone())).to_vec());
    assert!(table.starts_with(" first    │ second  │ third\n"), "{table}");
    assert!(
        table.ends_with(
            "\n1 more column does not fit the\nterminal: fourth (--format csv\nor json has all)\n"
        ),
        "{table}"
    );
    assert!(table.lines().all(|line| line.width() <= 30), "{table}");
    assert!(!printed(None, names.map(|name| (name, text.clone())).to_vec()).contains("not fit"));
}

#[test]
fn colours_change_no_character() {
    let batch = RecordBatch::try_from_iter([(
        "a_name",
        Arc::new(StringArray::from(vec!["x", "long text"])) as ArrayRef,
    )]);
    let batch = batch.unwrap();
    let text = |colours| {
        let mut table = Table::new(Some(20));
        table.coloured(colours);
        let mut out = Vec::new();
        table.begin(&batch.schema());
        table.rows(&batch, &mut out).unwrap();
        table.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let coloured = text(true);
    assert!(coloured.contains("\u{1b}[1ma_name\u{1b}[0m"), "{coloured:?}");
    let bare = [BOLD, DIM, PLAIN]
        .iter()
        .fold(coloured, |text, code| text.replace(code, ""));
    assert_eq!(bare, text(false));
}

#[test]
fn large_values_are_not_kept() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1 << 20); 8]));
    let batch = RecordBatch::try_from_iter([("payload", text)]).unwrap();
    for width in [None, Some(80)] {
        let mut table = Table::new(width);
        table.begin(&batch.schema());
        table.rows(&batch, &mut Vec::new()).unwrap();
        let kept: usize = table.sample.iter().flatten().map(String::len).sum();
        assert!(kept < SAMPLE_BYTES, "{kept}");
    }
    let marks = format!("a{}", "\u{301}".repeat(1 << 20));
    let shown = printed(
        None,
        vec![("a", Arc::new(StringArray::from(vec![marks])) as ArrayRef)],
    );
    assert!(shown.len() < 1_000, "{}", shown.len());
}

proptest! {
    /// Whatever a cell or a name holds: all lines of a table end at the same column, within the terminal, and nothing
    /// in it is a command for the terminal.
    #[test]
    fn any_text_keeps_the_columns(
        cells in prop::collection::vec((".*|[\\PC\\s]{0,40}", any::<Option<String>>()), 1..8),
        name in "\\PC{1,12}",
        width in prop::option::of(46_usize..100),
    ) {
        let (one, other): (Vec<String>, Vec<Option<String>>) = cells.into_iter().unzip();
        let count = i64::try_from(one.len()).unwrap();
        let columns = vec![
            (name.as_str(), Arc::new(StringArray::from(one)) as ArrayRef),
            ("b", Arc::new(StringArray::from(other))),
            ("number", Arc::new((0..count).collect::<Int64Array>())),
        ];
        let columns = columns.into_iter().map(|(name, values)| (name, values, true));
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let mut table = Table::new(width);
        let mut out = Vec::new();
        table.begin(&batch.schema());
        table.rows(&batch, &mut out).unwrap();
        table.end(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();

        prop_assert!(!text.chars().any(|c| c != '\n' && super::super::cell::is_unsafe(c)), "{text:?}");
        let widths: Vec<usize> = text.lines().map(UnicodeWidthStr::width).collect();
        // Names on one or two lines, the rule, and a line for each row; numbers are last, so every line goes to the end.
        let rule = text.lines().position(|line| line.starts_with('─')).unwrap();
        prop_assert!(rule <= 2, "{text}");
        prop_assert_eq!(widths.len(), rule + 1 + usize::try_from(count).unwrap(), "{}", text);
        let lines: Vec<usize> = widths.iter().enumerate().skip(rule.saturating_sub(1))
            .filter(|(line, _)| *line != rule)
            .map(|(_, width)| *width)
            .collect();
        prop_assert!(lines.iter().all(|width| *width == lines[0]), "{text}");
        // In a narrow table no blank follows the last column.
        prop_assert!(widths[rule] == lines[0] + 1 || widths[rule] == lines[0], "{text}");
        if let Some(width) = width {
            prop_assert!(widths[rule] <= width, "{text}");
        }
    }
}
