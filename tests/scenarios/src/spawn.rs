//! Children that cannot be left behind.
//!
//! On Linux the kernel kills a child when the *thread* that started it ends (`PR_SET_PDEATHSIG`). A test's own thread
//! ends with the test, long before the shared broker may, so every child is started by one thread that lives as long
//! as the process. Elsewhere a child is killed when its owner is dropped.

use std::io;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};

struct Request {
    command: Command,
    reply: mpsc::Sender<io::Result<Child>>,
}

/// Starts `command` so that it dies with this process, whatever ends this process.
///
/// # Errors
/// When the program cannot be started, as [`Command::spawn`].
pub fn spawn(command: Command) -> io::Result<Child> {
    static REQUESTS: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let requests = REQUESTS.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for mut request in receiver {
                let child = request.command.spawn();
                // A caller that is gone has dropped the receiver: the child has no owner then, and ends here.
                if let Err(mpsc::SendError(Ok(mut orphan))) = request.reply.send(child) {
                    stop(&mut orphan);
                }
            }
        });
        sender
    });
    let (reply, answer) = mpsc::channel();
    let command = die_with_parent(command);
    requests
        .send(Request { command, reply })
        .expect("the starting thread lives as long as the process");
    answer.recv().expect("the starting thread answers every request")
}

/// Kills a child that is still running, and collects it.
pub fn stop(child: &mut Child) {
    // Both fail only for a child that has been collected already, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(target_os = "linux")]
fn die_with_parent(mut command: Command) -> Command {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed: prctl and getppid are plain system calls,
    // and building an io::Error from an error number does not allocate.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above took effect.
            if libc::getppid().unsigned_abs() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(command: Command) -> Command {
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_outlives_the_thread_that_asked_for_it() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let mut child = std::thread::spawn(move || spawn(command))
            .join()
            .unwrap()
            .unwrap();
        let still_runs = child.try_wait().unwrap().is_none();
        stop(&mut child);
        assert!(still_runs);
    }

    #[test]
    fn a_missing_program_is_an_error_and_the_next_one_starts() {
        assert_eq!(
            spawn(Command::new("./no-such-program")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        let mut child = spawn(Command::new("true")).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
