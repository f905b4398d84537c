//! How much other processes of the machine go first: the process's nice value.
//!
//! The system keeps it for each thread, and a thread has that of the one which started it. So it is set before there is a
//! second thread, and holds for all of them.

use std::io;

/// The nicest value: only what nobody else wants.
pub const MAX_NICE: u8 = 19;

/// Lets others go first by `nice`, 0 to [`MAX_NICE`], and by the process's own value if that is higher. To be called before
/// other threads are started.
///
/// # Errors
/// The system refuses.
#[cfg(unix)]
pub fn lower(nice: u8) -> io::Result<()> {
    let nice = libc::c_int::from(nice.min(MAX_NICE));
    // SAFETY: two plain system calls about the calling thread.
    unsafe {
        // A value that was given from outside may not be undone without rights.
        let nice = nice.max(libc::getpriority(libc::PRIO_PROCESS as _, 0));
        if libc::setpriority(libc::PRIO_PROCESS as _, 0, nice) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// There is none here.
///
/// # Errors
/// Always.
#[cfg(not(unix))]
pub fn lower(_: u8) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The nice value of the calling thread, as the system tells it.
    fn nice() -> i64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn threads_that_are_started_later_have_it_and_it_is_never_raised() {
        // In a thread of its own: the other tests keep theirs.
        let thread = std::thread::spawn(|| {
            lower(7).unwrap();
            let inherited = std::thread::spawn(nice).join().unwrap();
            lower(3).unwrap();
            (inherited, nice())
        });
        assert_eq!(thread.join().unwrap(), (7, 7));
    }
}
