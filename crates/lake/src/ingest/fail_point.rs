//! Places in a commit at which a test lets the process die or a step fail: debug builds only, in release builds nothing.
//!
//! A test chooses one by name (`after-logins-commit:kill`, `before-upload:error:3`): the action, and at which passage it
//! happens (default: the first). The list of names and the places are one declaration, so a test that goes through
//! [`FailPoint::ALL`] forgets none.

use crate::error::LakeError;

macro_rules! fail_points {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// A place between two steps of a commit, of whatever kind, in the order of the steps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FailPoint {
            $($(#[$doc])* $variant,)+
        }

        impl FailPoint {
            /// All of them.
            pub const ALL: &[FailPoint] = &[$(FailPoint::$variant),+];

            /// The name by which a test chooses it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(FailPoint::$variant => $name,)+
                }
            }
        }
    };
}

fail_points! {
    /// A table lacks columns that this version knows; the commit that adds them is next.
    BeforeWidening = "before-widening",
    /// The table has them; nobody was told.
    AfterWidening = "after-widening",
    /// An operator accepted a gap; the commit that says so is next.
    BeforeGapCommit = "before-gap-commit",
    /// The gap is in the table; nobody was told.
    AfterGapCommit = "after-gap-commit",
    /// Partitions arrived that the table does not know.
    BeforeBootstrap = "before-bootstrap",
    /// Where they begin is in the table; nothing is read yet.
    AfterBootstrap = "after-bootstrap",
    /// A batch is closed; nothing of it is stored.
    BatchClosed = "batch-closed",
    /// Its files are put together in memory.
    AfterEncode = "after-encode",
    /// The file of its rejected rows is next.
    BeforeRejectedUpload = "before-rejected-upload",
    /// That file is stored, and no log names it.
    AfterRejectedUpload = "after-rejected-upload",
    /// The commit of `rejected` is next.
    BeforeRejectedCommit = "before-rejected-commit",
    /// `rejected` has its rows, `logins` does not have the batch.
    AfterRejectedCommit = "after-rejected-commit",
    /// A file of `logins` is next; passed once for each file.
    BeforeUpload = "before-upload",
    /// A file of `logins` is stored, and no log names it; passed once for each file.
    AfterUpload = "after-upload",
    /// The commit of `logins` is next.
    BeforeLoginsCommit = "before-logins-commit",
    /// `logins` has the batch; nobody was told.
    AfterLoginsCommit = "after-logins-commit",
    /// Another process was first: the files of the batch are taken away next.
    BeforeFencedRemoval = "before-fenced-removal",
    /// They are gone; what is buffered is discarded next.
    AfterFencedRemoval = "after-fenced-removal",
    /// A commit is in, and the log is to be summarised. A process with one of the two checkpoint points does so after every
    /// commit.
    BeforeCheckpoint = "before-checkpoint",
    /// The checkpoint and `_last_checkpoint` are stored.
    AfterCheckpoint = "after-checkpoint",
    /// The process knows; the offsets for lag tools are next.
    BeforeGroupOffsets = "before-group-offsets",
    /// They are on their way.
    AfterGroupOffsets = "after-group-offsets",
    /// Compaction has written a partition's new files and proved them; the commit is next.
    CompactionBeforeCommit = "maintenance-compaction-before-commit",
    /// It is committed; nobody was told.
    CompactionAfterCommit = "maintenance-compaction-after-commit",
    /// Compaction has planned a partition and is about to read it.
    CompactionBeforeRewrite = "maintenance-compaction-before-rewrite",
    /// Erasure has found the files of a partition and is about to rewrite them.
    EraseBeforeRewrite = "maintenance-erase-before-rewrite",
    /// Erasure has written a partition's new files and proved them; the commit is next.
    EraseBeforeCommit = "maintenance-erase-before-commit",
    /// It is committed; nobody was told.
    EraseAfterCommit = "maintenance-erase-after-commit",
    /// That an erasure began is in the lake; nothing is looked at yet.
    EraseBegun = "maintenance-erase-begun",
    /// No row is left; the proof is next.
    EraseBeforeProof = "maintenance-erase-before-proof",
    /// The proof is stored; the note that the erasure began still lies there.
    EraseAfterProof = "maintenance-erase-after-proof",
}

/// Passes a fail point.
///
/// # Errors
/// When a test asked for one here.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn pass(_: FailPoint) -> Result<(), LakeError> {
    Ok(())
}

/// A release build has none.
///
/// # Errors
/// Always.
#[cfg(not(debug_assertions))]
pub fn arm(text: &str) -> Result<(), String> {
    Err(format!("`{text}`: a release build has no fail points"))
}

/// Whether a test chose this fail point.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn is_armed(_: FailPoint) -> bool {
    false
}

#[cfg(debug_assertions)]
pub use armed::{arm, is_armed, pass};

#[cfg(debug_assertions)]
mod armed {
    use std::path::Path;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use super::{FailPoint, LakeError};

    #[derive(Debug, PartialEq, Eq)]
    enum Action {
        /// The process dies as by SIGKILL.
        Kill,
        /// The step fails, as when the store is away.
        Fail,
        /// The step waits: `PATH.reached` is made, and it goes on once `PATH` is there.
        Pause(std::path::PathBuf),
    }

    #[derive(Debug)]
    struct Armed {
        point: FailPoint,
        action: Action,
        /// Passages until it happens.
        left: AtomicU32,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Chooses what happens where, for this process: `NAME:kill`, `NAME:error`, each with `:N` for the N-th passage, or
    /// `NAME:pause:PATH`.
    ///
    /// # Errors
    /// There is no such fail point or action; the text lists all names.
    pub fn arm(text: &str) -> Result<(), String> {
        let armed = parse(text)?;
        ARMED
            .set(armed)
            .map_err(|_| "a fail point is chosen already".to_owned())
    }

    fn parse(text: &str) -> Result<Armed, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let point = FailPoint::ALL.iter().find(|point| point.name() == name);
        let names = || {
            let names: Vec<&str> = FailPoint::ALL.iter().map(|point| point.name()).collect();
            names.join(", ")
        };
        let point = *point.ok_or_else(|| format!("no fail point `{name}`; there are: {}", names()))?;
        let action = match parts.next() {
            Some("kill") => Action::Kill,
            Some("error") => Action::Fail,
            Some("pause") => match parts.next() {
                Some(path) if !path.is_empty() => Action::Pause(path.into()),
                _ => return Err(format!("`{text}`: write {name}:pause:PATH")),
            },
            _ => return Err(format!("`{text}`: write {name}:kill or {name}:error")),
        };
        let left = match parts.next().map(str::parse) {
            None => 1,
            Some(Ok(passage)) if passage > 0 && parts.next().is_none() => passage,
            _ => return Err(format!("`{text}`: the last part is a number from 1 on")),
        };
        Ok(Armed {
            point,
            action,
            left: AtomicU32::new(left),
        })
    }

    /// Whether a test chose this fail point.
    pub fn is_armed(point: FailPoint) -> bool {
        ARMED.get().is_some_and(|armed| armed.point == point)
    }

    /// Passes a fail point.
    ///
    /// # Errors
    /// When a test asked for one here.
    pub fn pass(point: FailPoint) -> Result<(), LakeError> {
        let Some(armed) = ARMED.get().filter(|armed| armed.point == point) else {
            return Ok(());
        };
        let before = armed
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if before != Ok(1) {
            return Ok(());
        }
        match &armed.action {
            Action::Kill => die(),
            Action::Pause(path) => pause(path),
            Action::Fail => Err(LakeError::Unreachable {
                place: "the lake".to_owned(),
                detail: format!("fail point {}", point.name()),
            }),
        }
    }

    /// Longest that a pause lasts: a test that forgets its process does not leave it behind.
    const PAUSE_LIMIT: Duration = Duration::from_secs(300);

    fn pause(path: &Path) -> Result<(), LakeError> {
        let failed = |error: std::io::Error| {
            LakeError::Invariant(format!("the barrier {} cannot be used: {error}", path.display()))
        };
        std::fs::write(path.with_extension("reached"), []).map_err(failed)?;
        let began = Instant::now();
        while !path.exists() && began.elapsed() < PAUSE_LIMIT {
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Nothing is flushed, nobody is told.
    fn die() -> ! {
        // SAFETY: a plain system call on this process.
        #[cfg(unix)]
        unsafe {
            libc::kill(libc::getpid(), libc::SIGKILL);
        }
        std::process::abort()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_choice_is_a_name_an_action_and_a_passage() {
            let armed = parse("after-upload:kill:3").unwrap();
            assert_eq!(
                (armed.point, armed.action),
                (FailPoint::AfterUpload, Action::Kill)
            );
            assert_eq!(armed.left.into_inner(), 3);
            assert_eq!(parse("batch-closed:error").unwrap().action, Action::Fail);
            let pause = Action::Pause("/tmp/barrier".into());
            assert_eq!(parse("batch-closed:pause:/tmp/barrier").unwrap().action, pause);
            for wrong in [
                "after-upload",
                "after-upload:stop",
                "after-upload:kill:0",
                "after-upload:kill:1:2",
                "after-upload:pause",
            ] {
                assert!(parse(wrong).is_err(), "{wrong}");
            }
            let error = parse("list").unwrap_err();
            assert!(
                FailPoint::ALL.iter().all(|point| error.contains(point.name())),
                "{error}"
            );
        }
    }
}
