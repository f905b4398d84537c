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
        let text = Text {
            name: source_name.to_owned(),
            sql: sql.to_owned(),
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
        let placeholders = find_placeholders(source)?;
        let parameters = header.parameters_with(source, &placeholders)?;
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
fn find_placeholders(source: Source<'_>) -> Result<Vec<Placeholder>, QueryError> {
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
            Some(name) if is_name(name) => found.push(Placeholder {
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
