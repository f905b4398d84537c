//! The queries that are served: the SQL files of a directory, read and judged once, at the start.
//!
//! What is not fit to be served (not SQL, more than one statement, a parameter whose name the API needs) is an error of the
//! start, not of a request.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use loginlake_query::Script;
use loginlake_service::exit::ExitError;

use super::request::RESERVED;
use crate::setup::query_error;

/// Queries of one catalog. Each is a label of metrics.
const MAX_QUERIES: usize = 200;
/// Folders below the directory.
const MAX_DEPTH: usize = 4;
/// Bytes of a SQL file.
const MAX_FILE_BYTES: u64 = 256 << 10;

/// A query that is served.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The file's path below the directory, without `.sql`, with `/` between folders.
    pub name: String,
    /// Its SQL.
    pub script: Script,
    /// Whether the same tables and parameters always give the same rows: then an answer can be revalidated.
    pub is_repeatable: bool,
}

/// The queries by name.
#[derive(Debug, Clone)]
pub struct Catalog {
    entries: BTreeMap<String, Entry>,
}

impl Catalog {
    /// Reads every `.sql` file below a directory.
    ///
    /// # Errors
    /// Usage errors: the directory cannot be read or holds no query, or a file cannot be served.
    pub fn load(directory: &Path) -> Result<Self, ExitError> {
        let mut files = Vec::new();
        find(directory, "", 0, &mut files)?;
        let mut entries = BTreeMap::new();
        for (name, path) in files {
            let entry = read(&name, &path)?;
            entries.insert(name, entry);
        }
        if entries.is_empty() {
            return Err(
                ExitError::usage(format!("{} holds no .sql file", directory.display()))
                    .with_hint("name the directory of the queries with --queries DIR"),
            );
        }
        Ok(Self { entries })
    }

    /// A query by its name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Never: a catalog without queries is not made.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn find(
    directory: &Path,
    prefix: &str,
    depth: usize,
    files: &mut Vec<(String, PathBuf)>,
) -> Result<(), ExitError> {
    let cannot = |error: std::io::Error| {
        ExitError::usage(format!("cannot read {}: {error}", directory.display()))
            .with_hint("name the directory of the queries with --queries DIR")
    };
    for entry in fs::read_dir(directory).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let path = entry.path();
        let file_name = entry.file_name();
        // Hidden ones are not meant: editors and mounted ConfigMaps leave such files.
        let Some(text) = file_name.to_str().filter(|name| !name.starts_with('.')) else {
            continue;
        };
        // Links are followed: that is how a mounted ConfigMap looks.
        let kind = fs::metadata(&path).map_err(cannot)?;
        if kind.is_dir() {
            if depth < MAX_DEPTH {
                find(&path, &format!("{prefix}{text}/"), depth + 1, files)?;
            }
        } else if let Some(stem) = text.strip_suffix(".sql") {
            let name = format!("{prefix}{stem}");
            if !is_name(&name) {
                return Err(ExitError::usage(format!(
                    "{} cannot be served: its name is part of an address; use letters, digits, _ and -",
                    path.display()
                )));
            }
            files.push((name, path));
            if files.len() > MAX_QUERIES {
                return Err(ExitError::usage(format!(
                    "more than {MAX_QUERIES} queries: serve them by several processes"
                )));
            }
        }
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    };
    name.split('/').all(is_part)
}

fn read(name: &str, path: &Path) -> Result<Entry, ExitError> {
    let shown = path.display().to_string();
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    if size > MAX_FILE_BYTES {
        return Err(ExitError::usage(format!(
            "{shown} is larger than {} KiB: it is no query",
            MAX_FILE_BYTES >> 10
        )));
    }
    let sql = fs::read_to_string(path)
        .map_err(|error| ExitError::usage(format!("cannot read {shown}: {error}")))?;
    let script = Script::parse(&sql, &shown).map_err(|error| {
        let mut error = query_error(error);
        error.code = loginlake_service::exit::ExitCode::Usage;
        error
    })?;
    if script.statement_count() != 1 {
        return Err(ExitError::usage(format!(
            "{shown} holds {} statements: a query that is served is one",
            script.statement_count()
        )));
    }
    let taken = script
        .parameters()
        .iter()
        .find(|parameter| RESERVED.contains(&parameter.name.as_str()));
    if let Some(parameter) = taken {
        return Err(ExitError::usage(format!(
            "{shown} takes a parameter ${}, which means something else in an address: give it another name",
            parameter.name
        )));
    }
    // Clients know it by its name, not by a path of this machine.
    let script = Script::parse(&sql, name).map_err(query_error)?;
    Ok(Entry {
        name: name.to_owned(),
        is_repeatable: is_repeatable(&sql),
        script,
    })
}

/// Whether nothing in a text depends on the clock or on chance. Said no too often rather than too rarely.
fn is_repeatable(sql: &str) -> bool {
    const CALLS: [&str; 6] = ["now", "random", "rand", "uuid", "today", "gen_random_uuid"];
    const WORDS: [&str; 6] = [
        // Of EXPLAIN: its answer has times in it.
        "analyze",
        "current_date",
        "current_time",
        "current_timestamp",
        "localtime",
        "localtimestamp",
    ];
    let text = sql.to_ascii_lowercase();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = text.as_str();
    while let Some(start) = rest.find(is_word) {
        let word_and_rest = &rest[start..];
        let end = word_and_rest.find(|c| !is_word(c)).unwrap_or(word_and_rest.len());
        let (word, after) = word_and_rest.split_at(end);
        // `"now"(…)` is a call, too.
        let is_call = after.trim_start_matches('"').trim_start().starts_with('(');
        if WORDS.contains(&word) || (is_call && CALLS.contains(&word)) {
            return false;
        }
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        }
        directory
    }

    #[test]
    fn every_sql_file_is_a_query_by_its_path() {
        let files = directory(&[
            ("a.sql", "SELECT 1"),
            ("deep/b-1.sql", "SELECT now()"),
            ("notes.txt", "not SQL"),
            (".hidden.sql", "not SQL"),
        ]);
        let catalog = Catalog::load(files.path()).expect("good");
        let names: Vec<_> = catalog
            .iter()
            .map(|entry| (entry.name.as_str(), entry.is_repeatable))
            .collect();
        assert_eq!(names, [("a", true), ("deep/b-1", false)]);
        assert!(catalog.get("deep/b-1").is_some() && catalog.get("../a").is_none());
    }

    #[test]
    fn what_cannot_be_served_is_said_at_the_start() {
        for (name, sql, said) in [
            ("a.sql", "SELEC 1", "a.sql:1:1: "),
            ("a.sql", "SELECT 1; SELECT 2", "holds 2 statements"),
            ("a.sql", "DROP TABLE logins", "only read"),
            ("a.sql", "SELECT $format", "takes a parameter $format"),
            ("a b.sql", "SELECT 1", "its name is part of an address"),
            ("a.txt", "", "holds no .sql file"),
        ] {
            let files = directory(&[(name, sql)]);
            let error = Catalog::load(files.path()).expect_err(sql);
            assert!(error.message.contains(said), "{sql}: {}", error.message);
            assert_eq!(error.code, loginlake_service::exit::ExitCode::Usage, "{sql}");
        }
        let error = Catalog::load(Path::new("no/such/directory")).expect_err("not there");
        assert!(error.message.contains("no/such/directory"), "{}", error.message);
    }

    #[test]
    fn a_query_of_the_clock_or_of_chance_is_not_repeatable() {
        for sql in [
            "SELECT Now()",
            "SELECT \"now\" ()",
            "SELECT CURRENT_DATE",
            "SELECT x FROM t ORDER BY random( )",
            "SELECT uuid()",
            "EXPLAIN ANALYZE SELECT 1",
        ] {
            assert!(!is_repeatable(sql), "{sql}");
        }
        for sql in [
            "SELECT now_or_later FROM t -- as of now",
            "SELECT local_time(event_time, locale)",
        ] {
            assert!(is_repeatable(sql), "{sql}");
        }
    }
}
