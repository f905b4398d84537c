//! Values for the `$name`s of a SQL text: real prepared parameters, bound to the plan as typed values, never put into text.
//!
//! - `declared`: the declarations in the comment that a text begins with;
//! - `value`: a text as a value of a type;
//! - `bind`: values into the statement and its plan.
//!
//! A parameter that is declared has the type of its declaration; one that is not gets the type that the planner infers from
//! where it stands, and text where it infers none.

pub(crate) mod bind;
pub(crate) mod declared;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::hints::{did_you_mean, near_names};
use crate::place::{Place, Source};
use crate::script::is_name;

/// Values by name, as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Params(BTreeMap<String, String>);

/// One value, as `name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamValue {
    /// The name, without `$`.
    pub name: String,
    /// All that follows the first `=`, as it is.
    pub value: String,
}

impl FromStr for ParamValue {
    type Err = ParameterError;

    fn from_str(text: &str) -> Result<Self, ParameterError> {
        let error = |message: &str| ParameterError {
            name: String::new(),
            message: format!("{message}: write name=value, as from=2026-01-31"),
            excerpt: String::new(),
        };
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| error(&format!("{:?} has no =", shortened(text))))?;
        let name = name.strip_prefix('$').unwrap_or(name);
        if !is_name(name) {
            return Err(error(&format!("{:?} is no name of a parameter", shortened(name))));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// A value as it is shown in an error: its beginning only.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

impl Params {
    /// No values.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `$name` a value. The name is without `$`. Returns the value that it had.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> Option<String> {
        self.0.insert(name.into(), value.into())
    }

    /// Takes a value away and returns it.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Those that a script takes: for values that are set once and offered to many, as in a shell.
    #[must_use]
    pub fn only(&self, parameters: &[Parameter]) -> Self {
        let is_taken = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
        let kept = self.0.iter().filter(|(name, _)| is_taken(name));
        Self(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// See [`crate::Script::check`].
    pub(crate) fn check(&self, source_name: &str, parameters: &[Parameter]) -> Result<(), ParameterError> {
        for name in self.0.keys() {
            if !parameters.iter().any(|parameter| parameter.name == *name) {
                let names: Vec<&str> = parameters
                    .iter()
                    .map(|parameter| parameter.name.as_str())
                    .collect();
                let near = did_you_mean(&near_names(name, &names));
                return Err(ParameterError {
                    name: name.clone(),
                    message: format!(
                        "{source_name} takes no parameter {name}{near}; {}",
                        what_is_taken(parameters)
                    ),
                    excerpt: String::new(),
                });
            }
        }
        for parameter in parameters {
            let error = |problem: String| ParameterError {
                name: parameter.name.clone(),
                message: format!("{source_name}: {problem}; {}", what_is_taken(parameters)),
                excerpt: String::new(),
            };
            match (self.get(&parameter.name), &parameter.default) {
                (None, ParameterDefault::Required) => {
                    return Err(error(format!("the parameter {} has no value", parameter.name)));
                }
                (None, _) => {}
                (Some(text), _) => {
                    if let Some(kind) = parameter.kind {
                        kind.value(text).map_err(|expected| {
                            error(format!(
                                "the parameter {} is {expected}, not {:?}",
                                parameter.name,
                                shortened(text)
                            ))
                        })?;
                    }
                }
            }
        }
        Ok(())
    }
}

fn what_is_taken(parameters: &[Parameter]) -> String {
    if parameters.is_empty() {
        return "it takes none".to_owned();
    }
    let taken: Vec<String> = parameters.iter().map(ToString::to_string).collect();
    format!("it takes {}", taken.join(", "))
}

/// The type of a declared parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterType {
    /// A day, as `2026-01-31`.
    Date,
    /// An instant, as `2026-01-31T12:00:00Z`; without an offset it is UTC.
    Timestamp,
    /// Any text.
    Text,
    /// A whole number of 64 bits.
    Integer,
    /// A number, as `0.95`.
    Number,
    /// `true` or `false`.
    Boolean,
}

impl ParameterType {
    /// Every type.
    pub const ALL: [Self; 6] = [
        Self::Date,
        Self::Timestamp,
        Self::Text,
        Self::Integer,
        Self::Number,
        Self::Boolean,
    ];

    /// Its name in a declaration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

impl fmt::Display for ParameterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a parameter is when no value is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParameterDefault {
    /// A value must be given.
    Required,
    /// NULL, by which the statements leave its filter out.
    Null,
    /// This value.
    Value(String),
}

/// A parameter of a SQL text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The name, without `$`.
    pub name: String,
    /// Its declared type; without a declaration the planner infers it.
    pub kind: Option<ParameterType>,
    /// Its value when none is given.
    pub default: ParameterDefault,
    /// What the declaration says of it; empty without one.
    pub meaning: String,
}

impl Parameter {
    /// Name, type, default and meaning, as cells for a person.
    pub(crate) fn described(&self) -> [String; 4] {
        let kind = self.kind.map_or("", ParameterType::as_str);
        let default = match &self.default {
            ParameterDefault::Required => "required".to_owned(),
            ParameterDefault::Null => "default NULL".to_owned(),
            ParameterDefault::Value(value) => format!("default {value}"),
        };
        [self.name.clone(), kind.to_owned(), default, self.meaning.clone()]
    }
}

impl fmt::Display for Parameter {
    /// `from (date)`, or only the name when it has no declared type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.kind {
            Some(kind) => write!(f, " ({kind})"),
            None => Ok(()),
        }
    }
}

/// A value that a text does not take, or takes and was not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}{}{excerpt}", if excerpt.is_empty() { "" } else { "\n" })]
pub struct ParameterError {
    /// The parameter, without `$`; empty when what was given has no name.
    pub name: String,
    /// One line: what is wrong, and what the text takes.
    pub message: String,
    /// The line of SQL that uses it and a caret line; empty when what is wrong has no place in the SQL.
    pub excerpt: String,
}

impl ParameterError {
    /// The same error at the place that uses the parameter.
    pub(crate) fn at(self, source: Source<'_>, place: Option<Place>) -> Self {
        let Some(place) = place else {
            return Self {
                message: format!("{}: {}", source.name, self.message),
                ..self
            };
        };
        let shown = source.error_at(place, self.message);
        Self {
            name: self.name,
            message: format!(
                "{}:{}:{}: {}",
                shown.source_name, shown.line, shown.column, shown.message
            ),
            excerpt: shown.excerpt,
        }
    }
}
