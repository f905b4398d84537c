//! One file for each report, under names that hold nothing that a client wrote.
//!
//! A file appears whole or not at all: it is written under another name first. The oldest files make room for new ones;
//! files that are not named like ours are never touched. Several processes may share a directory.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use chrono::DateTime;

/// Most files that are kept.
pub const MAX_FILES: usize = 10_000;

/// Files written between two looks at what other processes have written.
const RELIST_AFTER: u64 = 500;
/// Names tried for one report before it is given up.
const MAX_NAMES: u64 = 1_000;

const PREFIX: &str = "insights-";
const SUFFIX: &str = ".json";

/// A directory of reports.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    limit: usize,
    /// Our names in it, which sort by time.
    names: BTreeSet<String>,
    /// Files written by this process, and names that were taken.
    counter: u64,
}

impl Directory {
    /// Makes the directory if it is not there, and makes sure that files can be written to it.
    pub(super) fn open(path: &Path, limit: usize) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let probe = path.join(format!(".insights-probe-{}", std::process::id()));
        File::create(&probe)?;
        fs::remove_file(&probe)?;
        let mut directory = Self {
            path: path.to_owned(),
            limit,
            names: BTreeSet::new(),
            counter: 0,
        };
        directory.list()?;
        Ok(directory)
    }

    /// Writes a report, and removes the oldest ones beyond the limit. Returns the name of the file.
    pub(super) fn write(&mut self, start_ms: i64, worker: u16, json: &str) -> io::Result<String> {
        let mut tried = 0;
        let name = loop {
            self.counter += 1;
            let name = file_name(start_ms, worker, self.counter);
            match self.write_as(&name, json) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tried < MAX_NAMES => tried += 1,
                result => break result.map(|()| name)?,
            }
        };
        self.names.insert(name.clone());
        if self.counter.is_multiple_of(RELIST_AFTER) {
            self.list()?;
        }
        while self.names.len() > self.limit {
            let Some(oldest) = self.names.pop_first() else {
                break;
            };
            match fs::remove_file(self.path.join(oldest)) {
                // Another process was faster.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(name)
    }

    /// Whoever makes the temporary file owns the name: two processes cannot replace each other's report.
    fn write_as(&self, name: &str, json: &str) -> io::Result<()> {
        let (temporary, path) = (self.path.join(format!(".{name}.tmp")), self.path.join(name));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        let written = file
            .write_all(json.as_bytes())
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| {
                if path.try_exists()? {
                    return Err(ErrorKind::AlreadyExists.into());
                }
                fs::rename(&temporary, &path)
            });
        if written.is_err() {
            // What went wrong first is what is told.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn list(&mut self) -> io::Result<()> {
        self.names.clear();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if let Some(name) = name.to_str().filter(|name| is_ours(name)) {
                self.names.insert(name.to_owned());
            }
        }
        Ok(())
    }
}

/// `insights-20240710T020025.250Z-w0-00000001.json`
fn file_name(start_ms: i64, worker: u16, counter: u64) -> String {
    let start = DateTime::from_timestamp_millis(start_ms).unwrap_or_default();
    let start = start.format("%Y%m%dT%H%M%S%.3fZ");
    format!("{PREFIX}{start}-w{worker}-{counter:08}{SUFFIX}")
}

fn is_ours(name: &str) -> bool {
    let middle = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(SUFFIX));
    middle.is_some_and(|middle| {
        middle.starts_with(|first: char| first.is_ascii_digit())
            && middle.matches('-').count() == 2
            && middle
                .bytes()
                .all(|byte| byte.is_ascii_digit() || matches!(byte, b'T' | b'Z' | b'.' | b'-' | b'w'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: i64 = 1_720_576_825_250;

    fn names(path: &Path) -> Vec<String> {
        let entries = fs::read_dir(path).expect("a directory");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn names_are_safe_and_known_again() {
        for (start_ms, worker, counter) in [
            (START_MS, 0, 1),
            (i64::MIN, u16::MAX, u64::MAX),
            (-1, 7, 123_456_789),
        ] {
            let name = file_name(start_ms, worker, counter);
            assert!(is_ours(&name), "{name}");
            assert!(!name.contains(['/', '\\', ':', '\0']) && !name.starts_with('.'));
        }
        assert_eq!(
            file_name(START_MS, 2, 7),
            "insights-20240710T020025.250Z-w2-00000007.json"
        );
        for other in [
            "insights-.json",
            "insights-mine.json",
            "notes.txt",
            "insights-1-w2-3.json.tmp",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn a_report_is_a_whole_file_and_a_taken_name_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("new/insights");
        let mut directory = Directory::open(&path, 10).expect("writable");
        let first = directory.write(START_MS, 0, "{}").expect("written");
        let taken = file_name(START_MS, 0, 2);
        fs::write(path.join(&taken), "of another process").expect("written");
        let second = directory.write(START_MS, 0, "{\"a\":1}").expect("written");
        assert_eq!(second, file_name(START_MS, 0, 3));
        assert_eq!(names(&path), [first, taken.clone(), second.clone()]);
        assert_eq!(
            fs::read_to_string(path.join(&taken)).expect("there"),
            "of another process"
        );
        assert_eq!(
            fs::read_to_string(path.join(&second)).expect("there"),
            "{\"a\":1}\n"
        );
    }

    #[test]
    fn the_oldest_make_room_and_other_files_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("notes.txt"), "mine").expect("written");
        let mut directory = Directory::open(folder.path(), 3).expect("writable");
        for second in 0..5 {
            directory
                .write(START_MS + second * 1_000, 0, "{}")
                .expect("written");
        }
        let kept: Vec<String> = (2..5_i64)
            .map(|second| {
                file_name(
                    START_MS + second * 1_000,
                    0,
                    u64::try_from(second).expect("small") + 1,
                )
            })
            .chain(["notes.txt".to_owned()])
            .collect();
        assert_eq!(names(folder.path()), kept);
        let mut again = Directory::open(folder.path(), 2).expect("writable");
        again.write(START_MS + 9_000, 0, "{}").expect("written");
        assert_eq!(names(folder.path()).len(), 3, "files of an earlier run count");
    }

    #[test]
    fn a_directory_that_cannot_be_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("written");
        assert!(Directory::open(&file.join("below"), 1).is_err());
    }
}
