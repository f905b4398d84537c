//! One of our binaries as its user runs it: arguments, environment, exit code, stdout and stderr. It sees nothing of
//! the environment of the test run but PATH.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::wait::wait_for;
use crate::{parts, scenario, spawn};

/// A command line that has not been started yet.
#[derive(Debug, Clone)]
pub struct Program {
    name: String,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    dir: PathBuf,
    data_limit_bytes: Option<u64>,
}

impl Program {
    /// One of our binaries, to be run in the folder `dir`, which also gets the files of its output.
    pub fn ours(name: &str, dir: &Path) -> Program {
        Program {
            name: name.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            dir: dir.to_path_buf(),
            data_limit_bytes: None,
        }
    }

    /// The system gives it no more private memory than this (`RLIMIT_DATA`): heap, and the whole room that its threads' stacks
    /// are given.
    #[must_use]
    pub fn data_limit(mut self, bytes: u64) -> Program {
        self.data_limit_bytes = Some(bytes);
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Program {
        self.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Adds an argument.
    pub fn arg(self, argument: impl AsRef<OsStr>) -> Program {
        self.args([argument])
    }

    /// Sets a variable; the last one of a name counts.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Program {
        self.environment
            .push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the binary has not been built.
    pub fn start(&self) -> Result<Process> {
        static STARTED: AtomicU32 = AtomicU32::new(1);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let stdout = self.dir.join(format!("{}-{number}.stdout", self.name));
        let stderr = stdout.with_extension("stderr");
        let mut command = Command::new(parts::our_binary(&self.name)?);
        command.args(&self.arguments).current_dir(&self.dir).env_clear();
        command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.dir);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?);
        if let Some(bytes) = self.data_limit_bytes {
            limit_data(&mut command, bytes);
        }
        let child = spawn::spawn(command).with_context(|| format!("cannot start {}", self.name))?;
        Ok(Process {
            shown: self.shown(),
            child,
            stdout,
            stderr,
        })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it takes longer than `limit`, or was ended by a signal.
    pub fn run(&self, limit: Duration) -> Result<Output> {
        self.start()?.wait_exit(limit)
    }

    /// Runs it to its end, which must be a good one.
    ///
    /// # Errors
    /// As [`Program::run`], or when the exit code is not 0.
    pub fn run_ok(&self, limit: Duration) -> Result<Output> {
        self.run(limit)?.ok()
    }

    fn shown(&self) -> String {
        let arguments = self
            .arguments
            .iter()
            .map(|argument| argument.to_string_lossy().into_owned());
        std::iter::once(self.name.clone())
            .chain(arguments)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

#[cfg(target_os = "linux")]
fn limit_data(command: &mut Command, bytes: u64) {
    use std::os::unix::process::CommandExt;
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: setrlimit is a plain system call.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_DATA, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn limit_data(_: &mut Command, _: u64) {}

/// A running binary; killed when dropped.
#[derive(Debug)]
pub struct Process {
    shown: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// What a finished binary left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line.
    pub shown: String,
    /// The exit code.
    pub code: i32,
    /// All of stdout.
    pub stdout: String,
    /// All of stderr.
    pub stderr: String,
}

/// A signal that an operator, or the system, sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Asks for a clean end.
    Terminate,
    /// Asks for the configuration file to be read again.
    Hangup,
    /// As Ctrl-C at a terminal.
    Interrupt,
    /// Freezes the process, as a long pause of the machine does.
    Stop,
    /// Lets a frozen process go on.
    Continue,
}

impl Process {
    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let number = match signal {
            Signal::Terminate => libc::SIGTERM,
            Signal::Hangup => libc::SIGHUP,
            Signal::Interrupt => libc::SIGINT,
            Signal::Stop => libc::SIGSTOP,
            Signal::Continue => libc::SIGCONT,
        };
        let id = libc::pid_t::try_from(self.child.id())?;
        // SAFETY: a plain system call; the id is that of our own child, which is not collected before it is waited for.
        let result = unsafe { libc::kill(id, number) };
        ensure!(
            result == 0,
            "{}: {signal:?} cannot be sent: {}",
            self.shown,
            std::io::Error::last_os_error()
        );
        Ok(())
    }

    /// Waits until it says `text` on stderr once more.
    ///
    /// # Errors
    /// When it ends before, or `limit` passes.
    pub fn wait_says(&mut self, text: &str, limit: Duration) -> Result<()> {
        let file = self.stderr.clone();
        let said = || anyhow::Ok(read_lossy(&file)?.matches(text).count());
        let before = said()?;
        self.wait_until(&format!("it says {text:?}"), limit, || {
            Ok((said()? > before).then_some(()))
        })
    }

    /// Waits until its stderr has the text, from its start on.
    ///
    /// # Errors
    /// As [`Process::wait_until`].
    pub fn wait_has_said(&mut self, text: &str, limit: Duration) -> Result<()> {
        let file = self.stderr.clone();
        self.wait_until(&format!("it has said {text:?}"), limit, || {
            Ok(read_lossy(&file)?.contains(text).then_some(()))
        })
    }

    /// The file that its stderr goes to.
    pub fn stderr_file(&self) -> &Path {
        &self.stderr
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most that was resident so far, bytes, as the kernel keeps it; `None` once it has ended, or where it is not told.
    pub fn peak_resident_bytes(&self) -> Option<u64> {
        self.status_bytes("VmHWM:")
    }

    /// What is resident of files now, bytes: nearly all of it is the program's own code.
    pub fn resident_code_bytes(&self) -> Option<u64> {
        self.status_bytes("RssFile:")
    }

    fn status_bytes(&self, name: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes * 1024)
    }

    /// Has it ended by itself?
    ///
    /// # Errors
    /// When the system does not say.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Ends it as a crash would: nothing is flushed, nothing is committed.
    pub fn kill(mut self) {
        spawn::stop(&mut self.child);
    }

    /// Waits for a condition while the process runs.
    ///
    /// # Errors
    /// When the process ends before, the condition fails, or `limit` passes; the message holds the end of its stderr.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let found = wait_for(what, limit, || {
            if let Some(value) = condition()? {
                return Ok(Some(value));
            }
            match self.child.try_wait()? {
                Some(status) => bail!("it ended with {status} before {what}"),
                None => Ok(None),
            }
        });
        found.with_context(|| self.described())
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// When `limit` passes (it is killed then), or a signal ended it.
    pub fn wait_exit(mut self, limit: Duration) -> Result<Output> {
        let status =
            wait_for("its end", limit, || Ok(self.child.try_wait()?)).with_context(|| self.described())?;
        let code = exit_code(status).with_context(|| self.described())?;
        let stdout = fs::read_to_string(&self.stdout)?;
        Ok(Output {
            shown: self.shown.clone(),
            code,
            stdout,
            stderr: read_lossy(&self.stderr)?,
        })
    }

    /// Asks for a clean end, which must come within `limit` and be a good one.
    ///
    /// # Errors
    /// As [`Process::wait_exit`], or when the exit code is not 0.
    pub fn terminate(self, limit: Duration) -> Result<Output> {
        self.signal(Signal::Terminate)?;
        self.wait_exit(limit)?.ok()
    }

    fn described(&self) -> String {
        format!("{}\n{}", self.shown, scenario::end_of(&self.stderr))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        spawn::stop(&mut self.child);
    }
}

impl Output {
    /// # Errors
    /// When the exit code is not 0; the message holds stderr.
    pub fn ok(self) -> Result<Output> {
        ensure!(
            self.code == 0,
            "{} ended with {}\n{}",
            self.shown,
            self.code,
            self.stderr
        );
        Ok(self)
    }

    /// stdout as JSON, as `--format json` writes it.
    ///
    /// # Errors
    /// When it is not one JSON value.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("{}: no JSON: {}", self.shown, self.stdout))
    }
}

fn exit_code(status: ExitStatus) -> Result<i32> {
    status
        .code()
        .with_context(|| format!("ended by a signal: {status}"))
}

fn read_lossy(file: &Path) -> Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(file)?).into_owned())
}
