//! `olap query` stops within a second of SIGINT or SIGTERM, whatever it is doing, and leaves no file behind.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Would take days.
const ENDLESS: &str = "SELECT count(*) FROM generate_series(1, 100000) AS a(x), generate_series(1, 10000000000) AS b(y) \
                       WHERE (a.x * b.y) % 7 = 3";
/// The same with a condition that a join evaluates itself and that never holds.
const ENDLESS_CONDITION: &str = "SELECT count(*) FROM generate_series(1, 100000) AS a(x) \
                                 JOIN generate_series(1, 10000000000) AS b(y) ON a.x * b.y < 0";
/// Sorts more than fits.
const SPILLING: &str = "SELECT x, repeat(CAST(x AS VARCHAR), 20) FROM generate_series(1, 1000000000) AS t(x) \
                        ORDER BY (x * 7919) % 1000003";
const ROWS: &str = "SELECT x FROM generate_series(1, 1000000000000) AS t(x)";

const AT_ONCE: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(60);

/// A query that is running; ended when dropped.
struct Query(Child);

impl Drop for Query {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Query {
    fn start(sql: &str, directory: &Path, more: &[&str]) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_olap"))
            .args(["query", "-e", sql, "--format", "csv", "--memory-limit", "24MiB"])
            .arg("--lake")
            .arg(directory.join("lake"))
            .arg("--spill-directory")
            .arg(directory)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("olap starts");
        Self(child)
    }

    /// Waits until the process has computed for a while.
    fn computes(&mut self) {
        let path = format!("/proc/{}/stat", self.0.id());
        self.wait_until("the query computes", || {
            let stat = fs::read_to_string(&path).ok()?;
            // User and system time, in hundredths of a second.
            let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
            let used: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
            (used >= 40).then_some(())
        });
    }

    /// Waits until it has an open file in a directory.
    fn has_a_file_in(&mut self, directory: &Path) {
        let files = format!("/proc/{}/fd", self.0.id());
        self.wait_until("the query spills", || {
            let mut links = fs::read_dir(&files)
                .ok()?
                .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            links.any(|link| link.starts_with(directory)).then_some(())
        });
    }

    fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> Option<()>) {
        let end = Instant::now() + LIMIT;
        while condition().is_none() {
            if let Some(status) = self.0.try_wait().expect("a child") {
                panic!("{what}: it ended, {status}: {}", self.stderr());
            }
            assert!(Instant::now() < end, "{what}: not within {LIMIT:?}");
            std::thread::yield_now();
        }
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }

    /// Sends a signal and gives how the process ended, which must be at once.
    fn ends_by(&mut self, signal: libc::c_int) -> ExitStatus {
        let pid = libc::pid_t::try_from(self.0.id()).expect("a process id");
        // SAFETY: the process is a child that nobody has waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
        let sent = Instant::now();
        let status = self.0.wait().expect("a child");
        assert!(sent.elapsed() < AT_ONCE, "it took {:?}", sent.elapsed());
        status
    }
}

fn files_in(directory: &Path) -> usize {
    fs::read_dir(directory).expect("a directory").count()
}

#[test]
fn endless_joins_end_with_the_signal() {
    let directory = tempfile::tempdir().expect("a directory");
    for (sql, signal, code) in [
        (ENDLESS, libc::SIGINT, 130),
        (ENDLESS, libc::SIGTERM, 143),
        (ENDLESS_CONDITION, libc::SIGINT, 130),
    ] {
        let mut query = Query::start(sql, directory.path(), &[]);
        query.computes();
        assert_eq!(query.ends_by(signal).code(), Some(code), "{sql}");
        assert!(query.stderr().contains("stopped by SIG"));
    }
}

#[test]
fn nothing_is_left_of_a_query_that_spilled_however_it_ends() {
    let directory = tempfile::tempdir().expect("a directory");
    for (signal, code) in [
        (libc::SIGINT, Some(130)),
        (libc::SIGTERM, Some(143)),
        (libc::SIGKILL, None),
    ] {
        let mut query = Query::start(SPILLING, directory.path(), &[]);
        query.has_a_file_in(directory.path());
        assert_eq!(query.ends_by(signal).code(), code);
        assert_eq!(files_in(directory.path()), 0);
    }
}

#[test]
fn a_query_whose_rows_nobody_reads_ends_with_the_signal() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut query = Query::start(ROWS, directory.path(), &[]);
    let mut first = [0];
    query
        .0
        .stdout
        .as_mut()
        .expect("a pipe")
        .read_exact(&mut first)
        .expect("a row");
    assert_eq!(query.ends_by(libc::SIGINT).code(), Some(130));
}

#[test]
fn a_time_limit_ends_the_process_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let began = Instant::now();
    let mut query = Query::start(ENDLESS_CONDITION, directory.path(), &["--timeout", "300ms"]);
    let status = query.0.wait().expect("a child");
    assert_eq!(status.code(), Some(1));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let said = query.stderr();
    assert!(said.contains("did not end within 0.3 s"), "{said}");
}
