//! Commands that begin with a backslash.

use std::path::PathBuf;
use std::str::FromStr;

use loginlake_query::ParamValue;
use loginlake_query::print::Format;

/// What `\?` prints.
pub const HELP: &str = "\
SELECT …;             run a statement: it ends with ; and may take several lines
\\d                    the tables, with version, rows and newest event
\\d TABLE              the columns of a table
\\format [FORMAT]      table, csv, json or ndjson
\\timing [on|off]      after each statement: rows, time, version of the tables
\\param [NAME=VALUE]   the value of $NAME in statements from now on; alone: all values
\\unset NAME           forget it
\\fresh [on|off]       also the records of the topic that the table does not hold yet
\\i FILE               run the statements of a file
\\q                    leave; so does Ctrl-D
\\?                    this list
Ctrl-C stops a running statement, or drops what is typed. Tab completes names.
";

/// The first words of all commands, for completion.
pub const NAMES: [&str; 9] = [
    "\\d", "\\format", "\\timing", "\\param", "\\unset", "\\fresh", "\\i", "\\q", "\\?",
];

/// A command, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `\?`
    Help,
    /// `\q`
    Quit,
    /// `\d`
    Tables,
    /// `\d TABLE`
    Columns(String),
    /// `\format`; None: show it.
    Format(Option<Format>),
    /// `\timing`; None: the other one.
    Timing(Option<bool>),
    /// `\fresh`; None: the other one.
    Fresh(Option<bool>),
    /// `\param`; None: show all.
    Param(Option<(String, String)>),
    /// `\unset NAME`
    Unset(String),
    /// `\i FILE`
    Include(PathBuf),
}

/// The formats that a shell writes.
pub const FORMATS: [Format; 4] = [Format::Table, Format::Csv, Format::Json, Format::Ndjson];

impl FromStr for Command {
    type Err = String;

    /// Understands a line that begins with a backslash. A `;` at its end does not matter, but to file names and values.
    fn from_str(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let word = rest.trim_end_matches(';').trim_end();
        let only_word = || match word {
            "" => Ok(None),
            word if word.contains(char::is_whitespace) => Err(format!(
                "{name} takes one word, not {word:?}; \\? lists the commands"
            )),
            word => Ok(Some(word)),
        };
        let switch = || match only_word()? {
            None => Ok(None),
            Some("on") => Ok(Some(true)),
            Some("off") => Ok(Some(false)),
            Some(other) => Err(format!("{name} is on or off, not {other:?}")),
        };
        let nothing_after = |command| match only_word()? {
            None => Ok(command),
            Some(word) => Err(format!("{name} takes nothing, not {word:?}")),
        };
        match name.trim_end_matches(';') {
            "\\?" | "\\h" | "\\help" => nothing_after(Self::Help),
            "\\q" | "\\quit" => nothing_after(Self::Quit),
            "\\d" => Ok(only_word()?.map_or(Self::Tables, |table| Self::Columns(table.to_owned()))),
            "\\timing" => Ok(Self::Timing(switch()?)),
            "\\fresh" => Ok(Self::Fresh(switch()?)),
            "\\format" => match only_word()? {
                None => Ok(Self::Format(None)),
                Some(word) => {
                    let format = FORMATS.into_iter().find(|format| format.as_str() == word);
                    let unknown = || format!("\\format is table, csv, json or ndjson, not {word:?}");
                    Ok(Self::Format(Some(format.ok_or_else(unknown)?)))
                }
            },
            "\\param" if rest.is_empty() => Ok(Self::Param(None)),
            "\\param" => {
                let ParamValue { name, value } = rest.parse().map_err(|error| format!("\\param: {error}"))?;
                Ok(Self::Param(Some((name, value))))
            }
            "\\unset" => only_word()?
                .map(|name| Self::Unset(name.trim_start_matches('$').to_owned()))
                .ok_or_else(|| "\\unset takes the name of a parameter".to_owned()),
            "\\i" if rest.is_empty() => Err("\\i takes the name of a file".to_owned()),
            "\\i" => Ok(Self::Include(PathBuf::from(rest))),
            other => Err(format!("there is no command {other}; \\? lists the commands")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood() {
        let cases = [
            ("\\?", Command::Help),
            ("\\q;", Command::Quit),
            (" \\d ", Command::Tables),
            ("\\d logins;", Command::Columns("logins".to_owned())),
            ("\\format", Command::Format(None)),
            ("\\format csv", Command::Format(Some(Format::Csv))),
            ("\\timing", Command::Timing(None)),
            ("\\timing off", Command::Timing(Some(false))),
            ("\\fresh on", Command::Fresh(Some(true))),
            ("\\param", Command::Param(None)),
            (
                "\\param region=New England; x",
                Command::Param(Some(("region".to_owned(), "New England; x".to_owned()))),
            ),
            ("\\unset $region", Command::Unset("region".to_owned())),
            ("\\i my file.sql", Command::Include("my file.sql".into())),
        ];
        for (line, command) in cases {
            assert_eq!(line.parse(), Ok(command), "{line}");
        }
    }

    #[test]
    fn a_wrong_command_says_what_is_right() {
        for (line, said) in [
            ("\\x", "no command \\x; \\? lists"),
            ("\\format xml", "table, csv, json"),
            ("\\timing maybe", "on or off"),
            ("\\d a b", "one word"),
            ("\\q now", "takes nothing"),
            ("\\param region", "name=value"),
            ("\\unset", "name of a parameter"),
            ("\\i", "name of a file"),
        ] {
            let error = line.parse::<Command>().expect_err(line);
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
