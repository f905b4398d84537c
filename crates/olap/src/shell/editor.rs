//! A line, or a statement of several lines, from the terminal: editing, history, Tab.
//!
//! The history is a file that only its owner can read (0600): statements can name users. Each entry is on disk before
//! its statement runs. A history that cannot be read or written costs the history, not the shell.

use std::fs::DirBuilder;
use std::io;
use std::path::{Path, PathBuf};

use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{CompletionType, Config, Context, Helper};
use tracing::debug;

use super::complete::Names;
use super::text::Splitter;

/// Entries of the history; older ones are dropped.
const MAX_HISTORY: usize = 5_000;

/// What the user typed.
#[derive(Debug)]
pub enum Input {
    /// A command, or one or more whole statements.
    Text(String),
    /// Ctrl-C: what was typed is dropped.
    Interrupted,
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// The terminal.
pub struct Terminal {
    editor: rustyline::Editor<Assistant, FileHistory>,
    history: Option<PathBuf>,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal")
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

impl Terminal {
    /// Opens the terminal; `history` is made when it is not there.
    ///
    /// # Errors
    /// The terminal cannot be set up.
    pub fn open(names: Names, history: Option<PathBuf>) -> io::Result<Self> {
        let config = Config::builder()
            .max_history_size(MAX_HISTORY)
            .map_err(to_io)?
            .history_ignore_dups(true)
            .map_err(to_io)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .build();
        let mut editor = rustyline::Editor::with_config(config).map_err(to_io)?;
        editor.set_helper(Some(Assistant {
            names,
            files: FilenameCompleter::new(),
        }));
        let history = history.filter(|path| match prepare(path) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("no history: {}: {error}", path.display());
                false
            }
        });
        if let Some(path) = &history
            && let Err(error) = editor.load_history(path)
        {
            debug!(%error, "no history yet");
        }
        Ok(Self { editor, history })
    }

    /// Reads the next input; it goes into the history.
    ///
    /// # Errors
    /// The terminal fails.
    pub fn read(&mut self, prompt: &str) -> io::Result<Input> {
        match self.editor.readline(prompt) {
            Ok(text) => {
                self.remember(&text);
                Ok(Input::Text(text))
            }
            Err(ReadlineError::Interrupted) => Ok(Input::Interrupted),
            Err(ReadlineError::Eof) => Ok(Input::End),
            Err(error) => Err(to_io(error)),
        }
    }

    fn remember(&mut self, text: &str) {
        let Some(path) = &self.history else { return };
        let kept = match self.editor.add_history_entry(text.trim_end()) {
            Ok(true) => self.editor.append_history(path),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            debug!(%error, "the history was not written");
        }
    }
}

/// The folder of the history, readable by its owner only if it is made here.
fn prepare(path: &Path) -> io::Result<()> {
    let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) else {
        return Ok(());
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn to_io(error: ReadlineError) -> io::Error {
    match error {
        ReadlineError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// What the editor asks while a line is typed.
struct Assistant {
    names: Names,
    files: FilenameCompleter,
}

impl Helper for Assistant {}
impl Highlighter for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        cursor: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        if line.trim_start().starts_with("\\i ") {
            return self.files.complete_path(line, cursor);
        }
        let found = self.names.complete(line, cursor);
        let pair = |word: String| Pair {
            display: word.clone(),
            replacement: word,
        };
        Ok((found.start, found.words.into_iter().map(pair).collect()))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_complete(context.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

/// Whether Enter ends the input: it is a command, it is empty, or its last statement has its `;`.
fn is_complete(input: &str) -> bool {
    if input.trim_start().starts_with('\\') {
        return true;
    }
    let mut splitter = Splitter::default();
    match splitter.push(input) {
        Ok(_) => splitter.is_between_statements(),
        // It is refused when it is run.
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enter_ends_an_input_when_nothing_is_open() {
        for input in [
            "",
            "  ",
            "\\d logins",
            "select 1;",
            "select 1; -- done",
            "-- nothing",
            "select ';'; ",
        ] {
            assert!(is_complete(input), "{input:?}");
        }
        for input in [
            "select",
            "select 1",
            "select ';",
            "select 1; select",
            "/* a",
            "select 1 -- ;",
        ] {
            assert!(!is_complete(input), "{input:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_of_the_history_is_its_owners_only() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state/loginlake/history");
        prepare(&path).expect("made");
        let folder = path.parent().expect("a folder").metadata().expect("is there");
        assert_eq!(folder.permissions().mode() & 0o777, 0o700);
        prepare(&path).expect("it may be there");
    }
}
