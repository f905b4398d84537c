//! A table of regions: the built-in one, a user's own, and what is wrong with a broken one.

mod common;

use common::payload_with;
use loginlake_events::Contract;
use loginlake_events::regions::{HEADER, MAX_CSV_BYTES, RegionError, RegionTable};

#[test]
fn a_users_table_replaces_the_states_and_is_escaped_in_json() {
    let csv = format!(
        "{HEADER}\r\nRI,\"Rhode \"\"Ocean\"\" Island\",\"East, \"\"old\"\"\",Süd\\Ost,Asia/Kathmandu\nXX,Nowhere,Far,Away,\n\n"
    );
    let contract = Contract::builder()
        .regions(RegionTable::from_csv(&csv).unwrap())
        .build()
        .unwrap();
    for (locale, region, division, local_hour) in [
        ("RI", "East, \"old\"", "Süd\\Ost", Some(7)),
        ("XX", "Far", "Away", None),
        // Without its row, the code of California is that of Canada.
        ("CA", "International", "International", None),
        ("PR", "Territories", "Territories", None),
    ] {
        let payload = payload_with("locale", &format!("\"{locale}\""));
        let event = contract.decode(Some(payload.as_bytes()), None).unwrap();
        assert_eq!(
            (event.region(), event.division(), event.local_hour()),
            (region, division, local_hour)
        );
        let mut record = Vec::new();
        event.write_json(0, &mut record);
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(
            (record["region"].as_str(), record["division"].as_str()),
            (Some(region), Some(division))
        );
    }
}

#[test]
fn a_row_wins_over_a_territory_and_a_country() {
    let csv = format!("{HEADER}\nPR,Puerto Rico,South,Caribbean,America/Puerto_Rico\nUS,Anywhere,Home,Home,");
    let contract = Contract::builder()
        .regions(RegionTable::from_csv(&csv).unwrap())
        .build()
        .unwrap();
    for (locale, region) in [("PR", "South"), ("US", "Home")] {
        let payload = payload_with("locale", &format!("\"{locale}\""));
        assert_eq!(
            contract.decode(Some(payload.as_bytes()), None).unwrap().region(),
            region
        );
    }
}

#[test]
fn a_broken_table_says_which_line_and_why() {
    let row = |text: &str| format!("{HEADER}\nRI,Rhode Island,East,New,America/New_York\n{text}\n");
    for (csv, message) in [
        (String::new(), "line 1: the header is \"\""),
        ("code,name\n".to_owned(), "line 1: the header is \"code,name\""),
        (format!("{HEADER}\n\n"), "no rows"),
        (row("CA,California,West,Pacific"), "line 3: 4 cells"),
        (row("CA,California,West,Pacific,,"), "line 3: 6 cells"),
        (row("ca,California,West,Pacific,"), "line 3: the code \"ca\""),
        (row("CAL,California,West,Pacific,"), "line 3: the code \"CAL\""),
        (
            row("RI,Again,East,New,"),
            "line 3: the code \"RI\" is already on line 2",
        ),
        (row("CA,California,,Pacific,"), "line 3: the census_region \"\""),
        (
            row("CA,California,West,a\tb,"),
            "line 3: the census_division \"a\\tb\"",
        ),
        (
            row(&format!("CA,{},West,Pacific,", "x".repeat(129))),
            "line 3: the name",
        ),
        (
            row("CA,California,West,Pacific,America/Nowhere"),
            "line 3: the time zone \"America/Nowhere\"",
        ),
        (row("CA,\"California,West,Pacific,"), "line 3: the double quotes"),
        (
            row("CA,\"California\"x,West,Pacific,"),
            "line 3: the double quotes",
        ),
    ] {
        let error = RegionTable::from_csv(&csv).unwrap_err().to_string();
        assert!(error.contains(message), "{error} should contain {message}");
    }
    let error = RegionTable::from_csv(&" ".repeat(MAX_CSV_BYTES + 1)).unwrap_err();
    assert_eq!(
        error,
        RegionError::TooLarge {
            length_bytes: MAX_CSV_BYTES + 1
        }
    );
}

#[test]
fn the_rule_version_follows_the_configuration_and_nothing_else() {
    let version = |contract: Contract| contract.rule_version().to_owned();
    let default = version(Contract::default());
    assert_eq!(
        default,
        version(
            Contract::builder()
                .regions(RegionTable::builtin())
                .build()
                .unwrap()
        )
    );
    assert!(default.starts_with("1-") && default.len() == 14, "{default}");

    let regions = RegionTable::from_csv(&format!("{HEADER}\nRI,Rhode Island,East,New,")).unwrap();
    let masked = loginlake_events::privacy::Privacy::none()
        .with_masked_ip()
        .unwrap();
    let others = [
        version(Contract::builder().regions(regions).build().unwrap()),
        version(Contract::builder().earliest_ms(0).build().unwrap()),
        version(Contract::builder().max_ahead_ms(0).build().unwrap()),
        version(Contract::builder().privacy(masked).build().unwrap()),
    ];
    for (index, other) in others.iter().enumerate() {
        assert_ne!(other, &default);
        assert!(!others[..index].contains(other));
    }
}

#[test]
fn a_window_that_makes_no_sense_is_refused() {
    for (builder, message) in [
        (Contract::builder().earliest_ms(-1), "-1 ms"),
        (
            Contract::builder().earliest_ms(4_102_444_800_000),
            "4102444800000 ms",
        ),
        (Contract::builder().max_ahead_ms(-5), "-5 ms"),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
