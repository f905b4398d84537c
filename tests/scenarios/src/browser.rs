//! A headless Chromium that looks at our pages, driven by `browser/driver.mjs`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::wait::wait_for;
use crate::{parts, scenario, spawn};

/// Longest that one command may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// A running browser; stopped when dropped, and with it everything that it started.
pub struct Browser {
    child: Child,
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
    log_file: PathBuf,
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Width of the window, CSS pixels.
    pub width: u32,
    /// Height of the window, CSS pixels.
    pub height: u32,
    /// The system's colours are dark.
    pub dark: bool,
    /// A phone: touched, and with twice as many pixels.
    pub phone: bool,
}

impl Look {
    /// A window on a desk.
    pub const DESKTOP: Look = Look {
        width: 1360,
        height: 900,
        dark: false,
        phone: false,
    };
    /// A phone held upright.
    pub const PHONE: Look = Look {
        width: 390,
        height: 844,
        dark: false,
        phone: true,
    };

    /// The same with dark colours.
    #[must_use]
    pub fn dark(self) -> Look {
        Look { dark: true, ..self }
    }
}

/// What the browser noticed since the page was opened.
#[derive(Clone, Debug, Deserialize)]
pub struct Noticed {
    /// Errors of its console, and exceptions of scripts.
    pub errors: Vec<String>,
    /// Dialogs that a script opened.
    pub dialogs: Vec<String>,
    /// Everything that was asked for.
    pub requests: Vec<String>,
    /// What the content security policy forbade.
    pub violations: Vec<String>,
}

impl Browser {
    /// Starts it; `dir` gets its log.
    ///
    /// # Errors
    /// When there is no Node.js.
    pub fn start(dir: &Path) -> Result<Browser> {
        let log_file = dir.join("browser.log");
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/driver.mjs");
        let mut command = Command::new("node");
        command
            .arg(driver)
            .arg(parts::browser_dir())
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log_file)?);
        let mut child = spawn::spawn(command).context("cannot start node")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let (sender, answers) = mpsc::channel();
        // A read has no limit of its own: a thread reads, and the receiver waits for a while only.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Browser {
            commands: child.stdin.take(),
            child,
            answers,
            log_file,
        })
    }

    fn ask(&mut self, command: &Value) -> Result<Value> {
        let name = command["command"].to_string();
        let commands = self.commands.as_mut().context("no stdin")?;
        writeln!(commands, "{command}")
            .and_then(|()| commands.flush())
            .with_context(|| scenario::end_of(&self.log_file))?;
        let answer = self
            .answers
            .recv_timeout(ANSWER_LIMIT)
            .with_context(|| format!("no answer to {name}; {}", scenario::end_of(&self.log_file)))?;
        let mut answer: Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
        match answer.get("error") {
            Some(error) => bail!("{name}: {error}"),
            None => Ok(answer["ok"].take()),
        }
    }

    /// Opens a page of its own.
    ///
    /// # Errors
    /// When nothing answers there.
    pub fn open(&mut self, service: SocketAddr, look: Look) -> Result<()> {
        let command = json!({
            "command": "open", "url": format!("http://{service}/"), "width": look.width, "height": look.height,
            "dark": look.dark, "touch": look.phone, "scale": if look.phone { 2 } else { 1 },
        });
        self.ask(&command).map(drop)
    }

    /// The value of an expression of JavaScript in the page.
    ///
    /// # Errors
    /// When it throws.
    pub fn evaluate(&mut self, script: &str) -> Result<Value> {
        self.ask(&json!({"command": "evaluate", "script": script}))
    }

    /// The text of an element.
    ///
    /// # Errors
    /// When there is none with this id.
    pub fn text(&mut self, id: &str) -> Result<String> {
        let text = self.evaluate(&format!("document.getElementById({}).textContent", json!(id)))?;
        Ok(text
            .as_str()
            .with_context(|| format!("#{id} has no text"))?
            .to_owned())
    }

    /// Waits until an element has a text that begins so.
    ///
    /// # Errors
    /// When `limit` passes; the message holds the last text.
    pub fn wait_text(&mut self, id: &str, begin: &str, limit: Duration) -> Result<String> {
        let mut last = String::new();
        wait_for(&format!("#{id} to say {begin:?}"), limit, || {
            last = self.text(id)?;
            Ok(last.starts_with(begin).then(|| last.clone()))
        })
        .with_context(|| format!("it says {last:?}"))
    }

    /// Presses a key, such as `Tab`.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn press(&mut self, key: &str) -> Result<()> {
        self.ask(&json!({"command": "press", "key": key})).map(drop)
    }

    /// Clicks at an element, which a person could see and hit.
    ///
    /// # Errors
    /// When that is not so within ten seconds.
    pub fn click(&mut self, selector: &str) -> Result<()> {
        self.ask(&json!({"command": "click", "selector": selector}))
            .map(drop)
    }

    /// What a screen reader is told of an element, as an outline.
    ///
    /// # Errors
    /// When there is none.
    pub fn spoken(&mut self, selector: &str) -> Result<String> {
        let spoken = self.ask(&json!({"command": "spoken", "selector": selector}))?;
        Ok(spoken.as_str().context("no text")?.to_owned())
    }

    /// What is wrong with the page for people with disabilities, by the rules of WCAG 2.2 AA that a program can check.
    ///
    /// # Errors
    /// When the rules cannot be run.
    pub fn barriers(&mut self) -> Result<Vec<Value>> {
        let found = self.ask(&json!({"command": "axe"}))?;
        Ok(found.as_array().context("no list")?.clone())
    }

    /// Takes a picture of the whole page, as PNG.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn screenshot(&mut self, file: &Path) -> Result<()> {
        self.ask(&json!({"command": "screenshot", "file": file}))
            .map(drop)
    }

    /// What it noticed.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn noticed(&mut self) -> Result<Noticed> {
        Ok(serde_json::from_value(self.ask(&json!({"command": "noticed"}))?)?)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends when the driver's end of its pipe is closed.
        drop(self.commands.take());
        spawn::stop(&mut self.child);
    }
}
