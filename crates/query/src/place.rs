//! Places in a SQL text, and errors that show them: source, line, column, the line of SQL, a caret.

use std::fmt;

use datafusion::sql::sqlparser::tokenizer::TokenWithSpan;

/// Something wrong at a place of the SQL text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlError {
    /// The file, or how else the text is called.
    pub source_name: String,
    /// Line of the place, counted from 1.
    pub line: usize,
    /// Column of the place in characters, counted from 1.
    pub column: usize,
    /// What is wrong, and what to do, in one line.
    pub message: String,
    /// The line of SQL and, below it, the caret line.
    pub excerpt: String,
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}\n{}",
            self.source_name, self.line, self.column, self.message, self.excerpt
        )
    }
}

/// A place in a SQL text, counted from 1, and how many characters are meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub line: usize,
    pub column: usize,
    pub length: usize,
}

impl Place {
    /// The place of a token, or of the start of one that spans lines.
    pub(crate) fn of(token: &TokenWithSpan) -> Self {
        let (start, end) = (token.span.start, token.span.end);
        let length = if start.line == end.line {
            end.column.saturating_sub(start.column)
        } else {
            1
        };
        Self {
            line: to_usize(start.line),
            column: to_usize(start.column),
            length: to_usize(length),
        }
    }
}

/// A text and how errors call it.
#[derive(Debug)]
pub(crate) struct Text {
    pub name: String,
    pub sql: String,
}

impl Text {
    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            name: &self.name,
            sql: &self.sql,
        }
    }
}

/// The text that is run, for messages that point into it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub name: &'a str,
    pub sql: &'a str,
}

/// Characters of a long line that are shown around the place.
const EXCERPT_CHARS: usize = 120;

impl Source<'_> {
    /// An error at `place`, its line shown with a caret below.
    pub(crate) fn error_at(&self, place: Place, message: String) -> Box<SqlError> {
        let lines: Vec<&str> = self.sql.lines().collect();
        // A place behind the end (an unfinished statement) is shown at the end of the last line that holds something.
        let last = lines
            .iter()
            .rposition(|line| !line.trim().is_empty())
            .unwrap_or(0);
        let (index, column) = match lines.get(place.line.saturating_sub(1)) {
            Some(_) if place.line > 0 && place.line - 1 <= last => (place.line - 1, place.column.max(1)),
            _ => (
                last,
                lines
                    .get(last)
                    .map_or(1, |line| line.trim_end().chars().count() + 1),
            ),
        };
        let line: Vec<char> = lines
            .get(index)
            .map_or_else(Vec::new, |line| line.chars().collect());
        let column = column.min(line.len() + 1);
        let from = (column - 1).saturating_sub(EXCERPT_CHARS / 2);
        let to = line.len().min(from + EXCERPT_CHARS);
        let shown: String = line[from..to]
            .iter()
            .map(|c| if c.is_control() { ' ' } else { *c })
            .collect();
        let length = place.length.clamp(1, (to + 1).saturating_sub(column).max(1));
        let number = (index + 1).to_string();
        let excerpt = format!(
            "  {number} | {shown}\n  {} | {}{}",
            " ".repeat(number.len()),
            " ".repeat(column - 1 - from),
            "^".repeat(length)
        );
        Box::new(SqlError {
            source_name: self.name.to_owned(),
            line: index + 1,
            column,
            message,
            excerpt,
        })
    }
}

/// Takes ` at Line: 3, Column: 7` out of a parser's message.
pub(crate) fn split_place(text: &str) -> (String, Option<Place>) {
    let found = text.rfind(" at Line: ").and_then(|at| {
        let (line, rest) = text[at + " at Line: ".len()..].split_once(", Column: ")?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let place = Place {
            line: line.parse().ok()?,
            column: rest[..digits].parse().ok()?,
            length: 1,
        };
        Some((format!("{}{}", &text[..at], &rest[digits..]), place))
    });
    match found {
        Some((text, place)) => (text, Some(place)),
        None => (text.to_owned(), None),
    }
}

pub(crate) fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        let source = Source {
            name: "x.sql",
            sql: "SELECT 1;\nSELECT regon FROM logins",
        };
        let error = source.error_at(
            Place {
                line: 2,
                column: 8,
                length: 5,
            },
            "no column".to_owned(),
        );
        assert_eq!(
            error.to_string(),
            "x.sql:2:8: no column\n  2 | SELECT regon FROM logins\n    |        ^^^^^"
        );
    }

    #[test]
    fn a_place_behind_the_end_is_shown_at_the_end() {
        let source = Source {
            name: "x.sql",
            sql: "SELECT\n\n",
        };
        for place in [
            Place {
                line: 0,
                column: 0,
                length: 1,
            },
            Place {
                line: 9,
                column: 4,
                length: 1,
            },
        ] {
            let error = source.error_at(place, "unfinished".to_owned());
            assert_eq!((error.line, error.column), (1, 7));
            assert!(error.excerpt.ends_with("|       ^"), "{}", error.excerpt);
        }
    }

    #[test]
    fn long_and_hostile_lines_are_shown_in_part_and_without_control_characters() {
        let sql = format!("{}\u{1b}[2Jbad{}", "a".repeat(500), "b".repeat(500));
        let error = Source { name: "x", sql: &sql }.error_at(
            Place {
                line: 1,
                column: 505,
                length: 3,
            },
            "m".to_owned(),
        );
        assert!(!error.excerpt.contains('\u{1b}'));
        assert!(
            error.excerpt.lines().all(|line| line.chars().count() < 140),
            "{}",
            error.excerpt
        );
    }

    #[test]
    fn the_parsers_place_is_taken_out_of_its_message() {
        let (text, place) = split_place("Expected: an expression, found: FROM at Line: 3, Column: 12");
        assert_eq!(text, "Expected: an expression, found: FROM");
        let place = place.unwrap();
        assert_eq!((place.line, place.column), (3, 12));
    }
}
