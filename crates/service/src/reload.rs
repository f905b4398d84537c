//! A new configuration file for a running service: SIGHUP, and nothing else, makes it read the file again.
//!
//! Only what can change between two batches without a trace is taken: what is logged, the filters of `realtime run`, the limits of
//! alerts ([`crate::config::keys`] knows which keys these are). All of it is checked before any of it counts: a file that is wrong
//! anywhere changes nothing, and one line says why. What changed is logged; so is what changed in the file and holds from the next
//! start on only, and what a flag or a variable keeps as it is.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tracing::{error, info, warn};

use crate::alerts::Alerts;
use crate::config::{AlertArgs, CommonArgs, ConfigError, ConfigFile, LogSettings, keys};
use crate::exit::ExitError;
use crate::logging;

/// Makes a change count that was checked before.
pub type Commit = Box<dyn FnOnce() + Send>;
/// Checks what a file says, and gives what makes it count.
type Prepare = Box<dyn Fn(&ConfigFile) -> Result<Commit, ExitError> + Send>;

/// The one of this process: there is one signal and one log, too.
static INSTALLED: OnceLock<Reload> = OnceLock::new();

/// Makes this process take a new configuration file: reads it now, so as to know later what has changed. Before anything that can
/// change is resolved.
///
/// # Errors
/// The file cannot be read.
pub fn install(
    common: &CommonArgs,
    overridden: BTreeSet<String>,
    logs: &LogSettings,
) -> Result<(), ExitError> {
    let reload = Reload::new(common, overridden, logs)?;
    INSTALLED
        .set(reload)
        .map_err(|_| ExitError::failed("the configuration file was to be watched twice"))
}

/// From now on the file is read again at each SIGHUP. Needs a tokio runtime. Where nothing was installed, nothing happens.
///
/// # Errors
/// The handler cannot be installed.
pub fn on_hangup() -> Result<(), ExitError> {
    let Some(reload) = INSTALLED.get() else {
        return Ok(());
    };
    // Somebody at a terminal closes it, and that is meant for the program; there is nothing to read again.
    if reload.lock().path.is_none() && io::stdin().is_terminal() {
        return Ok(());
    }
    reload
        .on_hangup()
        .map_err(|error| ExitError::failed(format!("cannot catch SIGHUP: {error}")))
}

/// Adds something that can change while this process runs, as [`Reload::add`]. Where nothing was installed, nothing happens.
pub fn on_change(prepare: impl Fn(&ConfigFile) -> Result<Commit, ExitError> + Send + 'static) {
    if let Some(reload) = INSTALLED.get() {
        reload.add(prepare);
    }
}

/// Makes the limits of alerts follow the file, under these flags.
pub fn alerts(alerts: &Arc<Alerts>, args: AlertArgs) {
    let alerts = Arc::downgrade(alerts);
    on_change(move |file| {
        let (limits, alerts) = (args.limits(file)?, alerts.clone());
        Ok(Box::new(move || {
            if let Some(alerts) = alerts.upgrade() {
                alerts.set_limits(limits);
            }
        }))
    });
}

/// The configuration file of a process, to be read again. Clones share it.
#[derive(Clone)]
pub struct Reload(Arc<Mutex<Inner>>);

struct Inner {
    path: Option<PathBuf>,
    /// As the file was at the start: what is not live still holds as it was then.
    at_start: String,
    /// As it was taken last.
    taken: String,
    /// Keys that a flag or a variable sets.
    overridden: BTreeSet<String>,
    live: Vec<Prepare>,
}

/// What became of a file that was read again, by keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Counts now.
    pub changed: Vec<String>,
    /// Changed in the file, and is as a flag or a variable says.
    pub overridden: Vec<String>,
    /// Differs from what the service runs with, until it is started again.
    pub at_next_start: Vec<String>,
}

impl Reload {
    /// For the file of these arguments. `overridden` are the keys that a flag or a variable sets, `logs` the settings at the start.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn new(
        common: &CommonArgs,
        overridden: BTreeSet<String>,
        logs: &LogSettings,
    ) -> Result<Self, ConfigError> {
        let text = match &common.config {
            Some(path) => read(path)?,
            None => String::new(),
        };
        let inner = Inner {
            path: common.config.clone(),
            at_start: text.clone(),
            taken: text,
            overridden,
            live: Vec::new(),
        };
        let reload = Self(Arc::new(Mutex::new(inner)));
        let logs = logs.clone();
        reload.add(move |file| {
            let (logs, filter) = (logs.clone(), file.log_filter.clone());
            Ok(Box::new(move || {
                if let Some(winner) = logging::refilter(&logs, filter.as_ref())
                    && filter != logs.filter
                {
                    warn!(winner, "log-filter of the configuration file does not count");
                }
            }))
        });
        Ok(reload)
    }

    /// Adds something that can change. `prepare` checks what the file says and changes nothing; what it returns makes it count.
    pub fn add(&self, prepare: impl Fn(&ConfigFile) -> Result<Commit, ExitError> + Send + 'static) {
        self.lock().live.push(Box::new(prepare));
    }

    /// Reads the file again at each SIGHUP from now on. Needs a tokio runtime, which watches for the signal.
    ///
    /// # Errors
    /// The handler cannot be installed.
    #[cfg(unix)]
    pub fn on_hangup(&self) -> io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup())?;
        let reload = self.clone();
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                reload.tell();
            }
        });
        Ok(())
    }

    /// There is no such signal here.
    ///
    /// # Errors
    /// None.
    #[cfg(not(unix))]
    pub fn on_hangup(&self) -> io::Result<()> {
        Ok(())
    }

    /// Reads the file again, and logs what became of it.
    fn tell(&self) {
        match self.read_again() {
            Ok(None) => warn!("SIGHUP: there is no configuration file (--config) to read again"),
            Ok(Some(outcome)) => {
                info!(
                    changed = outcome.changed.join(", "),
                    "the configuration file was read again"
                );
                if !outcome.overridden.is_empty() {
                    let keys = outcome.overridden.join(", ");
                    warn!(keys, "changed in the file, but a flag or a variable sets them");
                }
                if !outcome.at_next_start.is_empty() {
                    let keys = outcome.at_next_start.join(", ");
                    warn!(
                        keys,
                        "cannot be changed while it runs: they hold from the next start on"
                    );
                }
            }
            Err(error) => {
                error!(
                    error = error.message,
                    hint = error.hint,
                    "the configuration file was not taken; everything stays as it was"
                );
            }
        }
    }

    /// Reads the file again, and makes count what can. `None`: there is no file.
    ///
    /// # Errors
    /// The file cannot be read or is wrong anywhere; then nothing has changed.
    pub fn read_again(&self) -> Result<Option<Outcome>, ExitError> {
        let mut inner = self.lock();
        let Some(path) = &inner.path else {
            return Ok(None);
        };
        let text = read(path)?;
        let file = ConfigFile::parse(&text, path)?;
        let commits: Vec<Commit> = inner
            .live
            .iter()
            .map(|prepare| prepare(&file))
            .collect::<Result<_, _>>()?;
        let is_live = |path: &String| keys::all().iter().any(|key| key.is_live && key.path() == *path);
        let (live, _): (Vec<String>, Vec<String>) =
            keys::changed(&inner.taken, &text).into_iter().partition(is_live);
        let (overridden, changed) = live.into_iter().partition(|path| inner.overridden.contains(path));
        let at_next_start = keys::changed(&inner.at_start, &text)
            .into_iter()
            .filter(|path| !is_live(path) && !inner.overridden.contains(path))
            .collect();
        for commit in commits {
            commit();
        }
        inner.taken = text;
        Ok(Some(Outcome {
            changed,
            overridden,
            at_next_start,
        }))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &std::path::Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A service with one live setting, and the file that it was started with.
    struct Service {
        reload: Reload,
        path: PathBuf,
        filters: Arc<Mutex<Vec<String>>>,
        _directory: tempfile::TempDir,
    }

    impl Service {
        fn start(text: &str, overridden: &[&str]) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("ll.toml");
            std::fs::write(&path, text).expect("written");
            let common = CommonArgs {
                config: Some(path.clone()),
                ..CommonArgs::default()
            };
            let overridden = overridden.iter().map(|key| (*key).to_owned()).collect();
            let logs = common.resolve(&ConfigFile::default()).expect("settings");
            let reload = Reload::new(&common, overridden, &logs).expect("a file");
            let filters = Arc::new(Mutex::new(Vec::new()));
            let target = Arc::clone(&filters);
            reload.add(move |file| {
                let new = file.realtime.filters.clone().unwrap_or_default();
                if new.iter().any(|filter| filter == "wrong") {
                    return Err(ExitError::usage("a wrong filter"));
                }
                let target = Arc::clone(&target);
                Ok(Box::new(move || *target.lock().expect("not poisoned") = new))
            });
            Self {
                reload,
                path,
                filters,
                _directory: directory,
            }
        }

        fn reload(&self, text: &str) -> Result<Outcome, ExitError> {
            std::fs::write(&self.path, text).expect("written");
            self.reload
                .read_again()
                .map(|outcome| outcome.expect("there is a file"))
        }

        fn filters(&self) -> Vec<String> {
            self.filters.lock().expect("not poisoned").clone()
        }
    }

    #[test]
    fn what_is_live_counts_and_the_rest_is_named() {
        let service = Service::start("lake = 'a'\n", &[]);
        let outcome = service
            .reload("lake = 'b'\n[realtime]\nfilters = ['x']\nworkers = 2\n")
            .expect("a good file");
        assert_eq!(outcome.changed, ["realtime.filters"]);
        assert_eq!(outcome.at_next_start, ["lake", "realtime.workers"]);
        assert_eq!(service.filters(), ["x"]);
        let again = service.reload("lake = 'b'\n").expect("a good file");
        assert_eq!(again.changed, ["realtime.filters"]);
        assert_eq!(
            again.at_next_start,
            ["lake"],
            "as long as it differs from the start"
        );
        assert!(service.filters().is_empty());
    }

    #[test]
    fn a_wrong_file_changes_nothing() {
        let service = Service::start("", &[]);
        service
            .reload("[realtime]\nfilters = ['x']\n")
            .expect("a good file");
        for wrong in [
            "[realtime]\nfilters = ['y']\nno-such-key = 1\n",
            "[realtime]\nfilters = ['y'",
            "[realtime]\nfilters = ['y', 'wrong']\n",
        ] {
            service.reload(wrong).expect_err(wrong);
            assert_eq!(service.filters(), ["x"], "{wrong}");
        }
        std::fs::remove_file(&service.path).expect("removed");
        service.reload.read_again().expect_err("there is no file");
        assert_eq!(service.filters(), ["x"]);
    }

    #[test]
    fn what_a_flag_sets_is_said_to_stay() {
        let service = Service::start("", &["realtime.filters", "lake"]);
        let outcome = service
            .reload("lake = 'b'\n[realtime]\nfilters = ['x']\n")
            .expect("a good file");
        assert_eq!(outcome.overridden, ["realtime.filters"]);
        assert!(outcome.changed.is_empty() && outcome.at_next_start.is_empty());
    }
}
