//! What a shell and `man` show of a program, made of its command line's definition: completion scripts and manual pages.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
pub use clap_complete::Shell;

use crate::exit::ExitError;

/// `completions SHELL`, of a program with commands.
#[derive(Args, Clone, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// `manual DIR`, of a program with commands.
#[derive(Args, Clone, Debug)]
pub struct ManualArgs {
    /// Directory that the pages are written to; it is made when it is missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// The same as flags, of a program without commands.
#[derive(Args, Clone, Debug, Default)]
pub struct ShellHelpArgs {
    /// Print the completion script of a shell, and do nothing else
    #[arg(long, value_name = "SHELL")]
    pub completions: Option<Shell>,
    /// Write the manual page into a directory, and do nothing else
    #[arg(long, value_name = "DIR", hide = true)]
    pub manual: Option<PathBuf>,
}

impl ShellHelpArgs {
    /// Does what was asked for. Returns whether anything was: then there is nothing else to do.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn run(&self, command: &clap::Command) -> Result<bool, ExitError> {
        if let Some(shell) = self.completions {
            completions(command.clone(), shell)?;
        }
        if let Some(directory) = &self.manual {
            manual(command.clone(), directory)?;
        }
        Ok(self.completions.is_some() || self.manual.is_some())
    }
}

/// Writes the completion script of a shell to standard output.
///
/// # Errors
/// It cannot be written.
pub fn completions(mut command: clap::Command, shell: Shell) -> Result<(), ExitError> {
    let name = command.get_name().to_owned();
    // clap's generators panic where they cannot write: not with a vector.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    let mut out = std::io::stdout().lock();
    out.write_all(&script)
        .and_then(|()| out.flush())
        .map_err(ExitError::stdout)
}

/// Writes a manual page for the program and for each of its commands into a directory, such as `olap-ingest.1`.
///
/// # Errors
/// They cannot be written.
pub fn manual(command: clap::Command, directory: &Path) -> Result<(), ExitError> {
    let failed = |error: std::io::Error| {
        ExitError::failed(format!(
            "cannot write manual pages into {}: {error}",
            directory.display()
        ))
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(command, directory).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> clap::Command {
        let run = clap::Command::new("run")
            .about("Run it")
            .arg(clap::Arg::new("brokers").long("brokers").help("Where Kafka is"));
        let hidden = clap::Command::new("manual").hide(true);
        clap::Command::new("program")
            .version("1")
            .subcommand(run)
            .subcommand(hidden)
    }

    #[test]
    fn each_command_has_a_page_but_the_hidden_ones() {
        let directory = tempfile::tempdir().expect("a directory");
        let pages = directory.path().join("man");
        manual(command(), &pages).expect("written");
        let mut names: Vec<_> = std::fs::read_dir(&pages)
            .expect("a directory")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        assert_eq!(names, ["program-run.1", "program.1"]);
        let page = std::fs::read_to_string(pages.join("program-run.1")).expect("a page");
        assert!(
            page.contains(".TH") && page.contains("\\-\\-brokers") && page.contains("Where Kafka is"),
            "{page}"
        );
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = manual(command(), file.path()).expect_err("a file is in the way");
        assert!(error.message.contains("manual pages"), "{error}");
    }
}
