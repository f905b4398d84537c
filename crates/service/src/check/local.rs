//! What this machine tells: whether the port is free, and whether memory and open files are enough.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::Checklist;
use crate::config::ByteSize;

const AREA: &str = "machine";
/// What a service takes beside its buffers: code, threads, clients.
const BESIDE_BUFFERS_BYTES: u64 = 96 << 20;
/// Open files that a service needs for its connections and temporary files.
const OPEN_FILES: u64 = 1_024;

/// Whether HTTP can be served there. Somebody who listens may be the service itself.
pub fn port(list: &mut Checklist, address: Option<SocketAddr>) {
    let Some(address) = address else {
        list.ok(AREA, "http", "switched off");
        return;
    };
    match TcpListener::bind(address) {
        Ok(_) => list.ok(AREA, "http", format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => list.warning(
            AREA,
            "http",
            format!("somebody listens on {address} already"),
            "nothing, if it is this service itself; else give another --http, or `none`",
        ),
        Err(error) => list.failed(
            AREA,
            "http",
            format!("cannot listen on {address}: {error}"),
            "give an address of this machine with --http, or `none`",
        ),
    }
}

/// Whether so many bytes of buffers fit into the memory that the control group or the machine has.
pub fn memory(list: &mut Checklist, buffers_bytes: u64) {
    judge_memory(list, buffers_bytes, memory_limit(Path::new("/")));
}

fn judge_memory(list: &mut Checklist, buffers_bytes: u64, limit: Option<(u64, &'static str)>) {
    let size = |bytes: u64| ByteSize::from_mib(bytes >> 20);
    let needed = buffers_bytes + BESIDE_BUFFERS_BYTES;
    let Some((limit, of_what)) = limit else {
        list.ok(
            AREA,
            "memory",
            format!("about {} are needed; no limit is known", size(needed)),
        );
        return;
    };
    let found = format!(
        "about {} are needed for buffers of {}, {of_what} gives {}",
        size(needed),
        size(buffers_bytes),
        size(limit)
    );
    if needed > limit {
        let advice = "raise the limit, or lower --memory-budget";
        list.failed(AREA, "memory", found, advice);
    } else if needed + needed / 4 > limit {
        let advice = "leave a quarter more: raise the limit, or lower --memory-budget";
        list.warning(AREA, "memory", found, advice);
    } else {
        list.ok(AREA, "memory", found);
    }
}

/// The smallest limit of the control groups that this process is in, or the memory of the machine. `root` is `/` but for tests.
fn memory_limit(root: &Path) -> Option<(u64, &'static str)> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let machine = read("proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1_024)
    });
    let groups = read("proc/self/cgroup").unwrap_or_default();
    let own = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut limits = Vec::new();
    // Version 2 and version 1; a group is held by the limits of those above it, too.
    for group in own.chain([""]) {
        let mut group = group.trim_matches('/');
        loop {
            for file in [
                format!("sys/fs/cgroup/{group}/memory.max"),
                format!("sys/fs/cgroup/memory/{group}/memory.limit_in_bytes"),
            ] {
                limits.extend(read(&file).and_then(|text| text.trim().parse::<u64>().ok()));
            }
            match group.rsplit_once('/') {
                Some((above, _)) => group = above,
                None if group.is_empty() => break,
                None => group = "",
            }
        }
    }
    let group = limits.into_iter().min().map(|bytes| (bytes, "the control group"));
    let machine = machine.map(|bytes| (bytes, "the machine"));
    [group, machine]
        .into_iter()
        .flatten()
        .min_by_key(|(bytes, _)| *bytes)
}

/// Whether the process may open enough files.
#[cfg(unix)]
pub fn open_files(list: &mut Checklist) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a plain system call that writes into the structure.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    if result == 0 {
        judge_open_files(list, limit.rlim_cur);
    }
}

/// There is no such limit here.
#[cfg(not(unix))]
pub fn open_files(_: &mut Checklist) {}

fn judge_open_files(list: &mut Checklist, files: u64) {
    if files < OPEN_FILES {
        let found = format!("{files} may be open at once");
        let advice = format!("raise it to {OPEN_FILES} or more (ulimit -n, LimitNOFILE=)");
        list.warning(AREA, "open files", found, advice);
    } else {
        list.ok(AREA, "open files", format!("{files} may be open at once"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Status;

    fn status(look: impl FnOnce(&mut Checklist)) -> Status {
        let mut list = Checklist::default();
        look(&mut list);
        list.lines()[0].status
    }

    #[test]
    fn a_port_is_free_or_taken() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("an address");
        assert_eq!(status(|list| port(list, Some(address))), Status::Warning);
        drop(taken);
        assert_eq!(status(|list| port(list, Some(address))), Status::Ok);
        assert_eq!(status(|list| port(list, None)), Status::Ok);
        let elsewhere = "192.0.2.1:80".parse().expect("an address");
        assert_eq!(status(|list| port(list, Some(elsewhere))), Status::Failed);
    }

    #[test]
    fn buffers_have_to_fit_with_room_to_spare() {
        let with = |limit: u64| status(|list| judge_memory(list, 64 << 20, Some((limit, "it"))));
        assert_eq!(with(512 << 20), Status::Ok);
        assert_eq!(with(170 << 20), Status::Warning);
        assert_eq!(with(128 << 20), Status::Failed);
        assert_eq!(status(|list| judge_memory(list, 64 << 20, None)), Status::Ok);
    }

    #[test]
    fn few_open_files_are_a_warning() {
        assert_eq!(status(|list| judge_open_files(list, 256)), Status::Warning);
        assert_eq!(status(|list| judge_open_files(list, 1_024)), Status::Ok);
    }

    #[test]
    fn the_smallest_limit_counts_wherever_it_is_set() {
        let root = tempfile::tempdir().expect("a directory");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            std::fs::write(path, text).expect("written");
        };
        assert_eq!(memory_limit(root.path()), None);
        write("proc/meminfo", "MemTotal:        1024 kB\nMemFree: 1 kB\n");
        assert_eq!(memory_limit(root.path()), Some((1 << 20, "the machine")));
        write("proc/self/cgroup", "0::/pods/one\n");
        write("sys/fs/cgroup/pods/one/memory.max", "max\n");
        assert_eq!(memory_limit(root.path()), Some((1 << 20, "the machine")));
        write("sys/fs/cgroup/pods/memory.max", "4096\n");
        assert_eq!(memory_limit(root.path()), Some((4_096, "the control group")));
    }
}
