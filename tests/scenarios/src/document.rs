//! The commands of a document, run as a reader would run them: a document that a scenario follows cannot rot.
//!
//! A block of commands is a run of lines that are indented by four spaces below a heading `## …`. Placeholders are shell variables,
//! which the scenario sets.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process::Output;
use crate::scenario::Scenario;
use crate::wait::wait_for;
use crate::{parts, spawn};

const INDENT: &str = "    ";

/// A document of the repository.
#[derive(Debug, Clone)]
pub struct Document {
    name: String,
    text: String,
}

impl Document {
    /// `name` is a path from the top of the repository.
    ///
    /// # Errors
    /// When it is not there.
    pub fn open(name: &str) -> Result<Document> {
        let text = fs::read_to_string(parts::top().join(name)).with_context(|| name.to_owned())?;
        Ok(Document {
            name: name.to_owned(),
            text,
        })
    }

    /// The blocks of commands below a heading, up to the next one.
    ///
    /// # Errors
    /// When there is no such heading, or there are not `count` blocks.
    pub fn blocks(&self, heading: &str, count: usize) -> Result<Vec<String>> {
        let blocks = blocks(&self.text, heading)
            .with_context(|| format!("{} has no heading `## {heading}`", self.name))?;
        ensure!(
            blocks.len() == count,
            "{}, `{heading}`: {} blocks of commands, and the scenario knows {count}: {blocks:#?}",
            self.name,
            blocks.len()
        );
        Ok(blocks)
    }
}

fn blocks(text: &str, heading: &str) -> Option<Vec<String>> {
    let heading = format!("## {heading}");
    let mut lines = text.lines().skip_while(|line| *line != heading);
    lines.next()?;
    let mut blocks = vec![String::new()];
    for line in lines.take_while(|line| !line.starts_with("## ")) {
        let last = blocks.last_mut()?;
        match line.strip_prefix(INDENT) {
            Some(command) => {
                last.push_str(command);
                last.push('\n');
            }
            None if !last.is_empty() => blocks.push(String::new()),
            None => {}
        }
    }
    blocks.retain(|block| !block.is_empty());
    Some(blocks)
}

/// A shell in a scenario's folder, with our binaries, an operator's tools and the object store.
#[derive(Debug, Clone)]
pub struct Shell {
    dir: PathBuf,
    environment: Vec<(String, String)>,
    path: String,
}

impl Shell {
    /// With the AWS_* variables of the scenario's store.
    ///
    /// # Errors
    /// When our binaries have not been built.
    pub fn of(scenario: &Scenario) -> Result<Shell> {
        let olap = parts::our_binary("olap")?;
        let ours = olap.parent().context("a binary without a folder")?;
        let system = std::env::var("PATH").unwrap_or_default();
        let own = scenario.minio.environment();
        Ok(Shell {
            dir: scenario.dir().to_path_buf(),
            environment: own
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            path: format!("{}:{}:{system}", ours.display(), parts::ops_programs().display()),
        })
    }

    /// Sets a variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl Into<String>) -> Shell {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Runs commands to their end; the first that fails ends them.
    ///
    /// # Errors
    /// When they take longer than `limit`, or a signal ended them.
    pub fn run(&self, commands: &str, limit: Duration) -> Result<Output> {
        static STARTED: AtomicU32 = AtomicU32::new(1);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let stdout = self.dir.join(format!("shell-{number}.stdout"));
        let stderr = stdout.with_extension("stderr");
        let mut shell = Command::new("sh");
        // What the commands start is in a group with them, and ends with them.
        shell
            .args(["-euc", commands])
            .current_dir(&self.dir)
            .process_group(0);
        shell
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("PATH", &self.path)
            .env("HOME", &self.dir)
            .env("LOGINLAKE_LOG_FORMAT", "text");
        shell
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?);
        let mut child = spawn::spawn(shell).context("cannot start a shell")?;
        let ended = wait_for(commands, limit, || Ok(child.try_wait()?));
        if ended.is_err() {
            end_group(child.id());
            spawn::stop(&mut child);
        }
        let read = |file: &Path| anyhow::Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned());
        let (stdout, stderr) = (read(&stdout)?, read(&stderr)?);
        let status = ended.with_context(|| stderr.clone())?;
        let code = status.code().with_context(|| format!("{commands}: {status}"))?;
        Ok(Output {
            shown: commands.to_owned(),
            code,
            stdout,
            stderr,
        })
    }

    /// The same, and the end must be a good one.
    ///
    /// # Errors
    /// As [`Shell::run`], or when the exit code is not 0.
    pub fn run_ok(&self, commands: &str, limit: Duration) -> Result<Output> {
        self.run(commands, limit)?.ok()
    }
}

fn end_group(leader: u32) {
    if let Ok(leader) = libc::pid_t::try_from(leader) {
        // SAFETY: a plain system call; the group is that of our own child, which is not collected yet.
        unsafe { libc::kill(-leader, libc::SIGKILL) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_indented_lines_below_a_heading() {
        let text =
            "# A\n\n## B\n\ntext\n\n    one \\\n        two\n\n- list\n\n    three\n\n## C\n\n    four\n";
        assert_eq!(
            blocks(text, "B"),
            Some(vec!["one \\\n    two\n".to_owned(), "three\n".to_owned()])
        );
        assert_eq!(blocks(text, "C"), Some(vec!["four\n".to_owned()]));
        assert_eq!(blocks(text, "D"), None);
    }
}
