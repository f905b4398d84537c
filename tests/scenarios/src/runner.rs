//! `main` of a file of scenarios.
//!
//! A scenario whose parts are not installed is listed as ignored, with the reason in its line; when `CI=true` it is run
//! and fails on the missing part instead, so that nothing is left out there unseen. The exit code is that of a test run.
//! The shared servers are stopped at the end, and the files of a failed run are kept and named.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};

use crate::parts::Part;
use crate::{kafka, minio, scenario};

/// A scenario: the name says what must hold.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What must hold.
    pub name: &'static str,
    /// The parts without which it cannot be run.
    pub needs: &'static [Part],
    /// The scenario itself; a panic fails it, too.
    pub run: fn() -> Result<()>,
}

/// Lists scenarios by the names of their functions: `entries![&[Part::Kafka]; first, second]`.
#[macro_export]
macro_rules! entries {
    ($needs:expr; $($function:path),+ $(,)?) => {
        &[$($crate::runner::Entry { name: stringify!($function), needs: $needs, run: $function }),+] as &[$crate::runner::Entry]
    };
}

/// Runs the scenarios as the arguments of `cargo test` ask.
pub fn main(entries: &[Entry]) -> ExitCode {
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let trials = entries.iter().map(|entry| trial(*entry, in_ci)).collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    kafka::stop_shared();
    minio::stop_shared();
    scenario::remove_files(conclusion.has_failed());
    conclusion.exit_code()
}

fn trial(entry: Entry, in_ci: bool) -> Trial {
    let missing: Vec<String> = entry.needs.iter().filter_map(|part| part.missing()).collect();
    let is_missing = !missing.is_empty();
    let reason = missing.join("; ");
    let shown = if is_missing {
        format!("not run: {reason}")
    } else {
        String::new()
    };
    let run = move || {
        let result = if is_missing {
            Err(anyhow!("{reason}"))
        } else {
            (entry.run)()
        };
        result.map_err(|error| Failed::from(format!("{error:#}")))
    };
    Trial::test(entry.name, run)
        .with_kind(shown)
        .with_ignored_flag(is_missing && !in_ci)
}
