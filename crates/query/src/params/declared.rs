//! The comment that a text begins with: what the text answers, and the parameters that it declares.
//!
//! A declaration is a line of that comment whose first word is `$name`:
//!
//! ```sql
//! -- Which regions log in most?
//! --
//! -- Parameters:
//! --   $from   date = NULL    only logins of this date (UTC) or later
//! --   $count  integer = 10   how many regions
//! --   $name   text           without a default: a value must be given
//! SELECT ...
//! ```
//!
//! A default that holds blanks stands in single quotes. A text that declares any parameter declares all that it uses, and
//! uses all that it declares.

use super::{Parameter, ParameterDefault, ParameterType, shortened};
use crate::error::QueryError;
use crate::hints::{did_you_mean, near_names};
use crate::place::{Place, Source};
use crate::script::{Placeholder, is_name};

/// Declarations of one text: more than anybody needs.
const MAX_DECLARED: usize = 64;

/// The comment that a text begins with.
#[derive(Debug, Default)]
pub(crate) struct Header {
    title: Option<String>,
    description: String,
    declared: Vec<(Parameter, Place)>,
}

/// Reads the lines up to the first one that is not a `--` comment.
pub(crate) fn read_header(source: Source<'_>) -> Result<Header, QueryError> {
    let mut header = Header::default();
    let mut description: Vec<&str> = Vec::new();
    for (index, line) in source.sql.trim_start_matches('\u{feff}').lines().enumerate() {
        let Some(comment) = line.strip_prefix("--") else {
            break;
        };
        let words = comment.trim();
        if !words.starts_with('$') {
            if header.title.is_none() {
                header.title = Some(words.to_owned());
            } else if words != "Parameters:" {
                description.push(comment.strip_prefix(' ').unwrap_or(comment).trim_end());
            }
            continue;
        }
        let place = Place {
            line: index + 1,
            column: line.find('$').map_or(1, |at| line[..at].chars().count() + 1),
            length: words
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .chars()
                .count(),
        };
        let error = |message: String| QueryError::Sql(source.error_at(place, message));
        let parameter = parse_declaration(words).map_err(error)?;
        if header
            .declared
            .iter()
            .any(|(known, _)| known.name == parameter.name)
        {
            return Err(error(format!("${} is declared twice", parameter.name)));
        }
        if header.declared.len() == MAX_DECLARED {
            return Err(error(format!("more than {MAX_DECLARED} parameters are declared")));
        }
        header.declared.push((parameter, place));
    }
    header.description = without_empty_ends(&description);
    Ok(header)
}

/// The lines without empty ones at both ends, and never two empty ones on end.
fn without_empty_ends(lines: &[&str]) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for line in lines {
        let is_needed = !line.is_empty() || kept.last().is_some_and(|last| !last.is_empty());
        if is_needed {
            kept.push(line);
        }
    }
    kept.join("\n").trim_end().to_owned()
}

/// `$name type [= default] meaning`.
fn parse_declaration(text: &str) -> Result<Parameter, String> {
    const FORM: &str = "declare a parameter as: $name type = default   what it means";
    let (name, rest) = first_word(&text[1..]);
    if !is_name(name) {
        return Err(format!("${} is no name of a parameter; {FORM}", shortened(name)));
    }
    let (kind, rest) = first_word(rest);
    let Some(kind) = ParameterType::ALL
        .into_iter()
        .find(|known| known.as_str() == kind)
    else {
        let types = ParameterType::ALL.map(ParameterType::as_str).join(", ");
        return Err(format!(
            "{:?} is no type of a parameter: {types}; {FORM}",
            shortened(kind)
        ));
    };
    let (default, meaning) = match rest.strip_prefix('=') {
        None => (ParameterDefault::Required, rest),
        Some(rest) => {
            let rest = rest.trim_start();
            let (value, rest) = match rest.strip_prefix('\'') {
                Some(quoted) => quoted
                    .split_once('\'')
                    .map(|(value, rest)| (Some(value), rest.trim_start()))
                    .ok_or_else(|| format!("the default of ${name} has no closing quote; {FORM}"))?,
                None => {
                    let (value, rest) = first_word(rest);
                    (Some(value).filter(|value| *value != "NULL"), rest)
                }
            };
            match value {
                None => (ParameterDefault::Null, rest),
                Some(value) => {
                    kind.value(value).map_err(|expected| {
                        format!("the default of ${name} is {expected}, not {:?}", shortened(value))
                    })?;
                    (ParameterDefault::Value(value.to_owned()), rest)
                }
            }
        }
    };
    Ok(Parameter {
        name: name.to_owned(),
        kind: Some(kind),
        default,
        meaning: meaning.trim().to_owned(),
    })
}

fn first_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

impl Header {
    pub(crate) fn title(&self) -> Option<&str> {
        self.title.as_deref().filter(|title| !title.is_empty())
    }

    pub(crate) fn description(&self) -> &str {
        &self.description
    }

    /// What the statements take: the declared ones, or, where none is declared, those that they name.
    pub(crate) fn parameters_with(
        &self,
        source: Source<'_>,
        used: &[Placeholder],
    ) -> Result<Vec<Parameter>, QueryError> {
        let declared: Vec<Parameter> = self.declared.iter().map(|(found, _)| found.clone()).collect();
        if declared.is_empty() {
            let mut named: Vec<Parameter> = Vec::new();
            for placeholder in used {
                if !named.iter().any(|known| known.name == placeholder.name) {
                    named.push(Parameter {
                        name: placeholder.name.clone(),
                        kind: None,
                        default: ParameterDefault::Required,
                        meaning: String::new(),
                    });
                }
            }
            return Ok(named);
        }
        for placeholder in used {
            if !declared.iter().any(|known| known.name == placeholder.name) {
                let names: Vec<&str> = declared.iter().map(|known| known.name.as_str()).collect();
                let near = did_you_mean(&near_names(&placeholder.name, &names));
                let message = format!(
                    "${} is not declared in the comment that the text begins with{near}",
                    placeholder.name
                );
                return Err(QueryError::Sql(source.error_at(placeholder.place, message)));
            }
        }
        for (parameter, place) in &self.declared {
            if !used.iter().any(|placeholder| placeholder.name == parameter.name) {
                let message = format!("${} is declared, but no statement uses it", parameter.name);
                return Err(QueryError::Sql(source.error_at(*place, message)));
            }
        }
        Ok(declared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sql: &str) -> Result<Header, String> {
        read_header(Source { name: "x.sql", sql }).map_err(|error| error.to_string())
    }

    #[test]
    fn a_declaration_says_name_type_default_and_meaning() {
        let sql = "-- What?\n--\n-- More of it.\n--\n-- Parameters:\n--   $from  date = NULL   the first date\n\
                   -- $count integer = 10 how many\n--   $name  text\n--   $mark text = 'a b'\n--\n--   region  a column\n\
                   SELECT 1\n-- $not one";
        let header = header(sql).unwrap();
        assert_eq!(header.title(), Some("What?"));
        assert_eq!(header.description(), "More of it.\n\n  region  a column");
        let parameter = |name: &str, kind, default, meaning: &str| Parameter {
            name: name.to_owned(),
            kind: Some(kind),
            default,
            meaning: meaning.to_owned(),
        };
        let found: Vec<Parameter> = header.declared.into_iter().map(|(found, _)| found).collect();
        assert_eq!(
            found,
            [
                parameter(
                    "from",
                    ParameterType::Date,
                    ParameterDefault::Null,
                    "the first date"
                ),
                parameter(
                    "count",
                    ParameterType::Integer,
                    ParameterDefault::Value("10".to_owned()),
                    "how many"
                ),
                parameter("name", ParameterType::Text, ParameterDefault::Required, ""),
                parameter(
                    "mark",
                    ParameterType::Text,
                    ParameterDefault::Value("a b".to_owned()),
                    ""
                ),
            ]
        );
    }

    #[test]
    fn a_declaration_that_cannot_be_understood_is_shown() {
        for (line, expected) in [
            (
                "--   $from day = NULL",
                "x.sql:1:6: \"day\" is no type of a parameter",
            ),
            ("-- $1st date", "x.sql:1:4: $1st is no name"),
            (
                "-- $from date = soon",
                "x.sql:1:4: the default of $from is a date as 2026-01-31, not \"soon\"",
            ),
            ("-- $n text = 'open", "has no closing quote"),
            (
                "-- $a date = NULL\n-- $a date = NULL",
                "x.sql:2:4: $a is declared twice",
            ),
        ] {
            let error = header(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
