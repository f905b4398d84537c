//! What Tab offers: commands, tables, columns of the tables that the statement names, functions, keywords. Pure.

use std::collections::BTreeSet;

use loginlake_lake::TableName;
use loginlake_lake::table::schema::table_schema;

use super::command::{FORMATS, NAMES};
use super::text::Splitter;

/// Names that one Tab offers at most.
const MAX_CANDIDATES: usize = 200;

/// Keywords of queries, in the order of a query.
const KEYWORDS: [&str; 57] = [
    "SELECT",
    "DISTINCT",
    "FROM",
    "JOIN",
    "LEFT",
    "RIGHT",
    "FULL",
    "INNER",
    "CROSS",
    "ON",
    "USING",
    "WHERE",
    "GROUP",
    "BY",
    "HAVING",
    "QUALIFY",
    "WINDOW",
    "OVER",
    "PARTITION",
    "ROWS",
    "RANGE",
    "PRECEDING",
    "FOLLOWING",
    "ORDER",
    "ASC",
    "DESC",
    "NULLS",
    "FIRST",
    "LAST",
    "LIMIT",
    "OFFSET",
    "UNION",
    "ALL",
    "EXCEPT",
    "INTERSECT",
    "WITH",
    "RECURSIVE",
    "AS",
    "AND",
    "OR",
    "NOT",
    "IN",
    "BETWEEN",
    "LIKE",
    "ILIKE",
    "IS",
    "NULL",
    "EXISTS",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST",
    "INTERVAL",
    "FILTER",
    "EXPLAIN",
];
const MORE_KEYWORDS: [&str; 8] = [
    "ANALYZE",
    "DESCRIBE",
    "SHOW",
    "VALUES",
    "TRUE",
    "FALSE",
    "DATE",
    "TIMESTAMP",
];

/// Completes names; the functions are those of the engine.
#[derive(Debug, Clone, Default)]
pub struct Names {
    functions: Vec<String>,
}

/// What stands before the cursor is replaced from `start` on by one of these.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Candidates {
    /// Byte at which the word begins.
    pub start: usize,
    /// Best first.
    pub words: Vec<String>,
}

impl Names {
    /// With the functions of the engine.
    pub fn new(functions: Vec<String>) -> Self {
        Self { functions }
    }

    /// What may stand at `cursor` of a line, or of several.
    pub fn complete(&self, line: &str, cursor: usize) -> Candidates {
        let before = &line[..cursor];
        let start = before
            .char_indices()
            .rev()
            .take_while(|(_, c)| c.is_alphanumeric() || *c == '_')
            .last()
            .map_or(cursor, |(at, _)| at);
        let (head, prefix) = before.split_at(start);
        if head.trim_start().starts_with('\\') {
            return complete_command(before, start, prefix);
        }
        let mut splitter = Splitter::default();
        if splitter.push(before).is_err() || !splitter.is_plain() {
            return Candidates::default();
        }
        let mut found = Found::new(prefix);
        if let Some(qualifier) = head.strip_suffix('.') {
            let word = last_word(qualifier);
            found.add(
                columns_of(TableName::ALL.into_iter().filter(|table| table.as_str() == word))
                    .iter()
                    .copied(),
            );
            return found.candidates(start);
        }
        if matches!(
            last_word(head.trim_end()).to_ascii_uppercase().as_str(),
            "FROM" | "JOIN" | "DESCRIBE"
        ) {
            found.add(TableName::ALL.iter().map(|table| table.as_str()));
            return found.candidates(start);
        }
        let named: Vec<TableName> = TableName::ALL
            .into_iter()
            .filter(|table| words(line).any(|word| word == table.as_str()))
            .collect();
        let columns = if named.is_empty() {
            columns_of(TableName::ALL)
        } else {
            columns_of(named)
        };
        found.add(columns.iter().copied());
        found.add(TableName::ALL.iter().map(|table| table.as_str()));
        // An empty word would list hundreds of names that nobody asked for.
        if !prefix.is_empty() {
            let calls: Vec<String> = self.functions.iter().map(|name| format!("{name}(")).collect();
            found.add(calls.iter().map(String::as_str));
        }
        let keywords = KEYWORDS.iter().chain(&MORE_KEYWORDS).copied();
        if prefix.chars().any(char::is_lowercase) {
            let keywords: Vec<String> = keywords.map(str::to_ascii_lowercase).collect();
            found.add(keywords.iter().map(String::as_str));
        } else {
            found.add(keywords);
        }
        found.candidates(start)
    }
}

fn complete_command(before: &str, start: usize, prefix: &str) -> Candidates {
    let line = before.trim_start();
    let Some((name, _)) = line.split_once(char::is_whitespace) else {
        let mut found = Found::new(line);
        found.add(NAMES.into_iter());
        return found.candidates(before.len() - line.len());
    };
    let mut found = Found::new(prefix);
    match name {
        "\\d" => found.add(TableName::ALL.iter().map(|table| table.as_str())),
        "\\format" => found.add(FORMATS.iter().map(|format| format.as_str())),
        "\\timing" | "\\fresh" => found.add(["on", "off"].into_iter()),
        _ => {}
    }
    found.candidates(start)
}

/// Words that begin like the one that is typed, each once, in the order in which they are added.
struct Found<'a> {
    prefix: &'a str,
    seen: BTreeSet<String>,
    words: Vec<String>,
}

impl<'a> Found<'a> {
    fn new(prefix: &'a str) -> Self {
        Self {
            prefix,
            seen: BTreeSet::new(),
            words: Vec::new(),
        }
    }

    fn add<'b>(&mut self, words: impl Iterator<Item = &'b str>) {
        for word in words {
            let begins = word
                .get(..self.prefix.len())
                .is_some_and(|begin| begin.eq_ignore_ascii_case(self.prefix));
            if begins && self.words.len() < MAX_CANDIDATES && self.seen.insert(word.to_owned()) {
                self.words.push(word.to_owned());
            }
        }
    }

    fn candidates(self, start: usize) -> Candidates {
        Candidates {
            start,
            words: self.words,
        }
    }
}

fn columns_of(tables: impl IntoIterator<Item = TableName>) -> Vec<&'static str> {
    let mut names = BTreeSet::new();
    for table in tables {
        names.extend(columns(table).iter().map(String::as_str));
    }
    names.into_iter().collect()
}

/// The columns of a table as this version writes it, made once.
fn columns(table: TableName) -> &'static [String] {
    use std::sync::OnceLock;
    static COLUMNS: OnceLock<Vec<(TableName, Vec<String>)>> = OnceLock::new();
    let all = COLUMNS.get_or_init(|| {
        let names = |table| {
            let schema = table_schema(table);
            schema.fields().iter().map(|field| field.name().clone()).collect()
        };
        TableName::ALL.map(|table| (table, names(table))).into()
    });
    all.iter()
        .find(|(name, _)| *name == table)
        .map_or(&[], |(_, names)| names)
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

fn last_word(text: &str) -> &str {
    words(text).last().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_the_end(line: &str) -> Vec<String> {
        let names = Names::new(vec![
            "count".to_owned(),
            "corr".to_owned(),
            "date_trunc".to_owned(),
        ]);
        names.complete(line, line.len()).words
    }

    #[test]
    fn a_word_is_completed_by_where_it_stands() {
        let cases: [(&str, &[&str]); 13] = [
            ("\\fo", &["\\format"]),
            ("\\d lo", &["logins", "logins_hourly"]),
            ("\\format c", &["csv"]),
            ("\\timing o", &["on", "off"]),
            ("select * from re", &["rejected"]),
            ("select * FROM logins JOIN logins_", &["logins_hourly"]),
            ("select co", &["count(", "corr("]),
            ("SEL", &["SELECT"]),
            ("sel", &["select"]),
            ("select logins.devi", &["device_id", "device_type"]),
            ("select 'fro", &[]),
            ("select 1 -- fro", &[]),
            ("select x.devi", &[]),
        ];
        for (line, words) in cases {
            assert_eq!(at_the_end(line), words, "{line}");
        }
    }

    #[test]
    fn columns_are_those_of_the_tables_that_the_statement_names() {
        let line = "select re from rejected";
        let words = Names::default().complete(line, "select re".len()).words;
        assert!(
            words.contains(&"reason".to_owned()) && !words.contains(&"region".to_owned()),
            "{words:?}"
        );
        assert!(at_the_end("select re").contains(&"region".to_owned()));
        let candidates = Names::default().complete("select é, devi", "select é, devi".len());
        assert_eq!(candidates.start, "select é, ".len());
    }

    #[test]
    fn an_empty_word_offers_tables_and_columns_but_no_functions() {
        let words = at_the_end("select ");
        assert!(words.contains(&"event_time".to_owned()) && words.contains(&"logins".to_owned()));
        assert!(!words.iter().any(|word| word.ends_with('(')));
        assert!(words.len() <= MAX_CANDIDATES);
    }
}
