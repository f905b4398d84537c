//! A SQL text, parsed once and run any number of times: its statements, and what its leading comment says of it.
//!
//! Everything that can be judged without a lake is judged here: that it can be parsed, that every statement only reads, that
//! no expression nests too deeply, and which parameters it takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use loginlake_lake::TableName;

use crate::error::{QueryError, planning_error};
use crate::nesting::check_nesting;
use crate::params::declared::{Header, read_header};
use crate::params::{Parameter, ParameterError, Params};
use crate::place::{Place, Source, Text};

/// A parsed SQL text. Cloning it is cheap.
#[derive(Debug, Clone)]
pub struct Script {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    text: Arc<Text>,
    header: Header,
    /// Declared ones first, then those that the SQL names without a declaration.
    parameters: Vec<Parameter>,
    placeholders: Vec<Placeholder>,
    statements: Vec<Parsed>,
}

/// A parsed statement, and where it begins.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) statement: Statement,
    pub(crate) place: Place,
    /// Its first word, in capitals.
    verb: String,
}

/// Whether a parameter may be a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Numbers {
    Refused,
    Taken,
}

/// A `$name` in the text.
#[derive(Debug)]
pub(crate) struct Placeholder {
    pub(crate) name: String,
    pub(crate) place: Place,
}

impl Script {
    /// Parses a text. `source_name` is how errors call it: a file name, or `-e`.
    ///
    /// # Errors
    /// The first thing that is wrong, at its place: not SQL, no statement at all, a statement that does anything but read, a
    /// declaration of a parameter that cannot be understood or that no statement uses.
    pub fn parse(sql: &str, source_name: &str) -> Result<Self, QueryError> {
        Self::parse_text(sql.to_owned(), source_name, Numbers::Refused)
    }

    /// Parses a text of another program, which may also number its parameters, as `$1`, or write `?` for one after the other.
    /// They are called `1`, `2` and so on, and a `?` is shown as `$1` by errors.
    ///
    /// # Errors
    /// As [`Self::parse`]; also numbers that do not begin with 1 or leave one out, and several ways to write a parameter in one
    /// text.
    pub fn parse_prepared(sql: &str, source_name: &str) -> Result<Self, QueryError> {
        Self::parse_text(number_marks(sql, source_name)?, source_name, Numbers::Taken)
    }

    fn parse_text(sql: String, source_name: &str, numbers: Numbers) -> Result<Self, QueryError> {
        let text = Text {
            name: source_name.to_owned(),
            sql,
        };
        let source = text.source();
        check_nesting(source)?;
        let statements = parse(source)?;
        for parsed in &statements {
            if !reads_only(&parsed.statement) {
                return Err(parsed.refusal(source));
            }
        }
        let header = read_header(source)?;
        let placeholders = find_placeholders(source, numbers)?;
        let mut parameters = header.parameters_with(source, &placeholders)?;
        if numbers == Numbers::Taken {
            in_order_of_numbers(source, &placeholders, &mut parameters)?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                text: Arc::new(text),
                header,
                parameters,
                placeholders,
                statements,
            }),
        })
    }

    /// How errors call the text.
    pub fn source_name(&self) -> &str {
        &self.inner.text.name
    }

    /// The text as it was given.
    pub fn sql(&self) -> &str {
        &self.inner.text.sql
    }

    /// The first line of the comment that the text begins with: what it answers.
    pub fn title(&self) -> Option<&str> {
        self.inner.header.title()
    }

    /// The rest of that comment, without the declarations of parameters.
    pub fn description(&self) -> &str {
        self.inner.header.description()
    }

    /// What the text answers and which parameters it takes, as lines for a person.
    pub fn help(&self) -> String {
        let mut lines = vec![match self.title() {
            Some(title) => format!("{}: {title}", self.source_name()),
            None => self.source_name().to_owned(),
        }];
        if !self.description().is_empty() {
            lines.push(String::new());
            lines.extend(self.description().lines().map(str::to_owned));
        }
        lines.push(String::new());
        if self.parameters().is_empty() {
            lines.push("It takes no parameters.".to_owned());
        } else {
            lines.push("Parameters, each given as --param name=value:".to_owned());
        }
        let rows: Vec<[String; 4]> = self.parameters().iter().map(Parameter::described).collect();
        let width = |cell: usize| {
            rows.iter()
                .map(|row| row[cell].chars().count())
                .max()
                .unwrap_or(0)
        };
        let (names, kinds, defaults) = (width(0), width(1), width(2));
        for [name, kind, default, meaning] in &rows {
            let line = format!("  {name:names$}  {kind:kinds$}  {default:defaults$}  {meaning}");
            lines.push(line.trim_end().to_owned());
        }
        // The text comes from a file of others.
        let harmless = |c: char| if c.is_control() { ' ' } else { c };
        let lines: Vec<String> = lines
            .iter()
            .map(|line| line.chars().map(harmless).collect())
            .collect();
        lines.join("\n")
    }

    /// What the statements take, in the order of the declarations.
    pub fn parameters(&self) -> &[Parameter] {
        &self.inner.parameters
    }

    /// How many statements there are; at least one.
    pub fn statement_count(&self) -> usize {
        self.inner.statements.len()
    }

    /// Whether these values fit: each belongs to a parameter, is of its declared type, and none is missing. What has no
    /// declared type is judged when its statement is planned.
    ///
    /// # Errors
    /// The first that does not, with what the text takes.
    pub fn check(&self, params: &Params) -> Result<(), ParameterError> {
        params.check(self.source_name(), self.parameters())
    }

    /// The tables of a lake that the statements name, before anything is read; all of them when one asks for more than rows.
    pub fn tables(&self) -> BTreeSet<TableName> {
        let statements = self.inner.statements.iter();
        tables_of(statements.map(|parsed| &parsed.statement))
    }

    pub(crate) fn text(&self) -> &Arc<Text> {
        &self.inner.text
    }

    pub(crate) fn statements(&self) -> &[Parsed] {
        &self.inner.statements
    }

    /// The place of the first `$name` at or after a place.
    pub(crate) fn placeholder_after(&self, name: &str, start: Place) -> Option<Place> {
        let behind = |place: &Place| (place.line, place.column) >= (start.line, start.column);
        let places = self.inner.placeholders.iter().filter(|found| found.name == name);
        places.map(|found| found.place).find(behind)
    }
}

impl Parsed {
    /// The error of a statement that would do more than read.
    pub(crate) fn refusal(&self, source: Source<'_>) -> QueryError {
        let message = format!(
            "{} is refused: queries only read; write SELECT, EXPLAIN, DESCRIBE or SHOW",
            self.verb
        );
        QueryError::ReadOnly(source.error_at(self.place, message))
    }
}

/// The tables of a lake that a SQL text names, before anything is read. All of them when it asks for more than rows, and none
/// when it cannot be parsed: running it says why.
pub fn tables_named(sql: &str) -> BTreeSet<TableName> {
    Script::parse(sql, "").map_or_else(|_| BTreeSet::new(), |script| script.tables())
}

fn tables_of<'a>(statements: impl Iterator<Item = &'a Statement>) -> BTreeSet<TableName> {
    let mut found = BTreeSet::new();
    for statement in statements {
        let is_query = match statement {
            Statement::Statement(statement) => matches!(statement.as_ref(), SqlStatement::Query(_)),
            _ => false,
        };
        match resolve_table_references(statement, true) {
            Ok((tables, _)) if is_query && !tables.iter().any(is_about_tables) => {
                let named = |name: &TableName| tables.iter().any(|table| table.table() == name.as_str());
                found.extend(TableName::ALL.into_iter().filter(named));
            }
            _ => return TableName::ALL.into_iter().collect(),
        }
    }
    found
}

fn is_about_tables(table: &TableReference) -> bool {
    table.schema() == Some("information_schema")
}

/// All statements of the text, separated by `;`.
fn parse(source: Source<'_>) -> Result<Vec<Parsed>, QueryError> {
    let start = Place {
        line: 1,
        column: 1,
        length: 1,
    };
    let mut parser = DFParserBuilder::new(source.sql)
        .build()
        .map_err(|error| planning_error(source, error, start))?;
    let mut statements = Vec::new();
    let mut separated = true;
    loop {
        while parser.parser.consume_token(&Token::SemiColon) {
            separated = true;
        }
        let next = parser.parser.peek_token();
        if next.token == Token::EOF {
            break;
        }
        let place = Place::of(&next);
        if !separated {
            let message = format!("expected ; or the end of the text, found {}", next.token);
            return Err(QueryError::Sql(source.error_at(place, message)));
        }
        let statement = parser
            .parse_statement()
            .map_err(|error| planning_error(source, error, place))?;
        statements.push(Parsed {
            statement,
            place,
            verb: next.token.to_string().to_uppercase(),
        });
        separated = false;
    }
    if statements.is_empty() {
        return Err(QueryError::NoStatement {
            source_name: source.name.to_owned(),
        });
    }
    Ok(statements)
}

fn reads_only(statement: &Statement) -> bool {
    match statement {
        Statement::Statement(statement) => matches!(
            statement.as_ref(),
            SqlStatement::Query(_)
                | SqlStatement::ExplainTable { .. }
                | SqlStatement::ShowTables { .. }
                | SqlStatement::ShowColumns { .. }
                | SqlStatement::ShowFunctions { .. }
                | SqlStatement::ShowVariable { .. }
        ),
        Statement::Explain(explain) => reads_only(&explain.statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    }
}

/// Every `$name` of the text, in order.
fn find_placeholders(source: Source<'_>, numbers: Numbers) -> Result<Vec<Placeholder>, QueryError> {
    // The parser has taken the text already.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, source.sql).tokenize_with_location() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for token in &tokens {
        let Token::Placeholder(text) = &token.token else {
            continue;
        };
        let place = Place::of(token);
        match text.strip_prefix('$') {
            Some(name) if is_name(name) || (numbers == Numbers::Taken && number_of(name).is_some()) => found
                .push(Placeholder {
                    name: name.to_owned(),
                    place,
                }),
            _ => {
                let message =
                    format!("{text} cannot be given a value: name a parameter with $ and a word, as $from");
                return Err(QueryError::Sql(source.error_at(place, message)));
            }
        }
    }
    Ok(found)
}

/// A letter or `_`, then letters, digits and `_`, all ASCII.
pub(crate) fn is_name(name: &str) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    name.as_bytes().first().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(&byte) || byte.is_ascii_digit())
}

/// The number that a parameter is called by.
fn number_of(name: &str) -> Option<usize> {
    let is_plain = !name.starts_with('0') && name.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| name.parse().ok()).flatten()
}

/// The text with `$1`, `$2` and so on for each `?`.
fn number_marks(sql: &str, source_name: &str) -> Result<String, QueryError> {
    // A text that is not even tokens is the parser's to refuse.
    let Ok(tokens) = Tokenizer::new(&GenericDialect {}, sql).tokenize_with_location() else {
        return Ok(sql.to_owned());
    };
    let is_mark = |token: &Token| matches!(token, Token::Placeholder(text) if text == "?");
    let marks: Vec<Place> = tokens
        .iter()
        .filter(|token| is_mark(&token.token))
        .map(Place::of)
        .collect();
    let Some(first) = marks.first() else {
        return Ok(sql.to_owned());
    };
    let is_other = |token: &Token| matches!(token, Token::Placeholder(text) if text != "?");
    if tokens.iter().any(|token| is_other(&token.token)) {
        let message = "? beside a parameter with a name or a number: write all of them in one way".to_owned();
        let source = Source {
            name: source_name,
            sql,
        };
        return Err(QueryError::Sql(source.error_at(*first, message)));
    }
    let mut numbered = String::with_capacity(sql.len() + 2 * marks.len());
    let mut marks = marks.iter().enumerate().peekable();
    let (mut line, mut column) = (1, 1);
    for c in sql.chars() {
        match marks.next_if(|(_, mark)| (mark.line, mark.column) == (line, column)) {
            Some((index, _)) => numbered.push_str(&format!("${}", index + 1)),
            None => numbered.push(c),
        }
        (line, column) = if c == '\n' {
            (line + 1, 1)
        } else {
            (line, column + 1)
        };
    }
    Ok(numbered)
}

/// Sorts parameters that have numbers; none may be missing, or values could not be given one after the other.
fn in_order_of_numbers(
    source: Source<'_>,
    placeholders: &[Placeholder],
    parameters: &mut [Parameter],
) -> Result<(), QueryError> {
    let number = |parameter: &Parameter| number_of(&parameter.name);
    if !parameters.iter().any(|parameter| number(parameter).is_some()) {
        return Ok(());
    }
    parameters.sort_by_key(number);
    let in_order = parameters
        .iter()
        .enumerate()
        .all(|(index, parameter)| number(parameter) == Some(index + 1));
    match placeholders.first() {
        Some(first) if !in_order => {
            let message = "the numbers of the parameters are $1, $2 and so on, with none left out and no names among them";
            Err(QueryError::Sql(source.error_at(first.place, message.to_owned())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sql: &str) -> Vec<String> {
        let script = Script::parse_prepared(sql, "query").unwrap_or_else(|error| panic!("{sql}: {error}"));
        script
            .parameters()
            .iter()
            .map(|parameter| parameter.name.clone())
            .collect()
    }

    #[test]
    fn marks_and_numbers_are_parameters_of_other_programs() {
        let sql = "SELECT '?' AS \"?\", ? -- ?\n, 'ü', ?/* ? */ FROM logins WHERE a = ?";
        assert_eq!(names(sql), ["1", "2", "3"]);
        let script = Script::parse_prepared(sql, "query").unwrap();
        let shown = "SELECT '?' AS \"?\", $1 -- ?\n, 'ü', $2/* ? */ FROM logins WHERE a = $3";
        assert_eq!(script.sql(), shown);
        let many: Vec<String> = (1..=11).rev().map(|number| format!("${number}")).collect();
        let wanted: Vec<String> = (1..=11).map(|number| number.to_string()).collect();
        assert_eq!(names(&format!("SELECT {}", many.join(", "))), wanted);
        assert_eq!(names("SELECT $to, $from, $to"), ["to", "from"]);
        assert!(Script::parse("SELECT ?", "query").is_err());
        assert!(Script::parse("SELECT $1", "query").is_err());
    }

    #[test]
    fn parameters_that_cannot_be_given_one_after_the_other_are_refused() {
        for (sql, column, said) in [
            ("SELECT $2", 8, "none left out"),
            ("SELECT $1, $3", 8, "none left out"),
            ("SELECT $1, $name", 8, "no names"),
            ("SELECT $01", 8, "cannot be given a value"),
            ("SELECT $0", 8, "cannot be given a value"),
            ("SELECT $1, ?", 12, "in one way"),
            ("SELECT $99999999999999999999999", 8, "cannot be given a value"),
        ] {
            match Script::parse_prepared(sql, "query") {
                Err(QueryError::Sql(error)) => {
                    assert!(error.message.contains(said), "{sql}: {}", error.message);
                    assert_eq!(error.column, column, "{sql}");
                }
                other => panic!("{sql}: {other:?}"),
            }
        }
    }
}
