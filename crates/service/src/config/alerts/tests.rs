//! Flags, file and defaults of alerts.

use clap::{Parser, ValueEnum as _};

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    alerts: AlertArgs,
}

fn resolve(flags: &[&str], file: &str) -> Result<AlertSettings, ConfigError> {
    let cli = Cli::try_parse_from([&["test"], flags].concat()).expect("good flags");
    let file = ConfigFile::parse(file, Path::new("ll.toml"))?;
    cli.alerts.resolve(&file)
}

#[test]
fn without_an_address_there_are_no_alerts() {
    for flags in [&[][..], &["--alert-webhook", ""]] {
        let settings = resolve(flags, "").expect("good");
        assert_eq!(settings, AlertSettings::default());
    }
}

#[test]
fn a_flag_is_over_the_file_and_the_file_over_the_default() {
    let file = "[alerts]\nlag = \"1m\"\nlag-records = 7\ndead-letter-share = 0.5\noff = [\"no-data\"]\nafter = \"1s\"\n";
    let flags = [
        "--alert-lag",
        "2m",
        "--alert-off",
        "lag,not-ready",
        "--alert-compaction-debt",
        "1GiB",
    ];
    let limits = resolve(&flags, file).expect("good").limits;
    assert_eq!(limits.lag, Duration::from_secs(120));
    assert_eq!(
        (limits.lag_records, limits.dead_letter_share, limits.after),
        (7, 0.5, Duration::from_secs(1))
    );
    assert_eq!(limits.off, [AlertName::Lag, AlertName::NotReady]);
    assert_eq!(limits.compaction_debt_bytes, Some(1 << 30));
    assert_eq!(limits.no_data, AlertLimits::default().no_data);
}

#[test]
fn the_address_comes_from_a_file_and_is_shown_nowhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("webhook");
    std::fs::write(&path, "https://hooks.example/s3cret\n").expect("written");
    let path = path.to_str().expect("UTF-8");
    for settings in [
        resolve(&["--alert-webhook-file", path], ""),
        resolve(&[], &format!("[alerts]\nwebhook-file = '{path}'\n")),
        resolve(&["--alert-webhook", "https://hooks.example/s3cret"], ""),
    ] {
        let settings = settings.expect("good");
        assert_eq!(
            settings.webhook,
            Some(Secret::new("https://hooks.example/s3cret"))
        );
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
    let cli = Cli::try_parse_from(["test", "--alert-webhook", "https://x/s3cret"]).expect("good flags");
    assert!(!format!("{cli:?}").contains("s3cret"));
}

#[test]
fn what_is_wrong_is_named_and_the_address_is_not_repeated() {
    for wrong in ["hooks.example/s3cret", "ftp://x/s3cret", "mailto:s3cret@x", " "] {
        let error = resolve(&["--alert-webhook", wrong], "")
            .expect_err(wrong)
            .to_string();
        assert!(
            error.starts_with("--alert-webhook: ") && !error.contains("s3cret"),
            "{error}"
        );
    }
    let error = resolve(&["--alert-webhook-file", "no/such/file"], "").expect_err("no file");
    assert!(error.to_string().contains("no/such/file"), "{error}");
    let error = resolve(&[], "[alerts]\ndead-letter-share = 5.0\n").expect_err("no share");
    assert!(error.to_string().contains("`5` is not a share"), "{error}");
    let error = resolve(&["--alert-repeat", "0s"], "").expect_err("a flood");
    assert!(error.to_string().contains("shorter than 1s"), "{error}");
    assert!(Cli::try_parse_from(["test", "--alert-off", "lagg"]).is_err());
    assert!("0".parse::<Share>().is_err() && "NaN".parse::<Share>().is_err());
}

#[test]
fn names_are_written_in_one_way() {
    for name in AlertName::ALL {
        let value = name.to_possible_value().expect("a value");
        assert_eq!(value.get_name(), name.as_str());
    }
}
