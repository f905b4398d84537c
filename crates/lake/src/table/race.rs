//! The race for the next version of a table's log, and the fence in it: a state machine without I/O.
//!
//! [`Race::next`] says what to do, [`commit`] does it on a [`CommitLog`] and tells the answer. So the writer on a real store and
//! the property tests on a log in memory run the same code. The rules (CORRECTNESS, OLAP path 4 to 6):
//! - a version is put only while every application id of the request stands where the request needs it;
//! - a version that is taken is read before the next one is tried, and judged by what it did;
//! - a put that was not answered may have succeeded: its version is looked at before anything else is concluded.

use serde_json::Value;
use uuid::Uuid;

use super::commit::{CommitOutcome, CommitRequest, TableHead};
use super::definition::WIDENING;
use crate::error::LakeError;

/// Races lost in a row before a commit gives the store a rest and reports it as retriable.
pub(crate) const MAX_RACES: usize = 1_000;

/// A table's log, as one commit needs it.
pub(crate) trait CommitLog: Sync {
    /// Puts the commit as this version, if there is no such version.
    fn put_if_absent(&self, version: i64) -> impl Future<Output = Result<Put, LakeError>> + Send;
    /// What the commit of this version did; `None`: there is no such version (any more).
    fn read(&self, version: i64) -> impl Future<Output = Result<Option<LoggedCommit>, LakeError>> + Send;
}

/// The last request that was put, until its outcome is known, and the first version that may hold it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unanswered(Option<(Uuid, i64)>);

impl Unanswered {
    /// The head was loaded anew, and the request, if it was put at all, was put as `version` or later.
    pub fn may_be_from(&mut self, request: &CommitRequest, version: i64) {
        if self.of(request).is_none() {
            self.0 = Some((request.batch_id, version));
        }
    }

    fn of(&self, request: &CommitRequest) -> Option<i64> {
        let (batch_id, version) = self.0?;
        (batch_id == request.batch_id).then_some(version)
    }
}

/// Commits to a log, or says why not. `head` is brought up to date on the way. `None`: too many others were first.
///
/// # Errors
/// The log could not be reached: the outcome is unknown, call again with the same request, head and `unanswered`.
pub(crate) async fn commit(
    log: &impl CommitLog,
    request: &CommitRequest,
    head: &mut TableHead,
    unanswered: &mut Unanswered,
) -> Result<Option<CommitOutcome>, LakeError> {
    let mut race = Race::new(unanswered.of(request));
    loop {
        match race.next(request, head) {
            Move::Put(version) => {
                unanswered.0 = Some((request.batch_id, version));
                let answer = log.put_if_absent(version).await?;
                race.put_answered(request, version, answer, head);
            }
            Move::Read(version) => {
                let commit = log.read(version).await?;
                race.read(request, version, commit.as_ref(), head);
            }
            Move::Done(outcome) => {
                unanswered.0 = None;
                return Ok(Some(outcome));
            }
            Move::GiveUp => return Ok(None),
        }
    }
}

/// What a commit has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Move {
    /// Put the commit as this version, if it is absent; then [`Race::put_answered`].
    Put(i64),
    /// Read this version; then [`Race::read`].
    Read(i64),
    /// It is decided.
    Done(CommitOutcome),
    /// [`MAX_RACES`] others in a row were first.
    GiveUp,
}

/// How the store answered a put-if-absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    /// The version is ours.
    Done,
    /// There is such a version already: somebody else's, or our own of a call that was not answered.
    Taken,
}

#[derive(Debug)]
enum State {
    /// Versions from this one on may hold this very request.
    Search(i64),
    /// The next version is free as far as is known.
    Try,
    /// This version is taken.
    Taken(i64),
    Decided(CommitOutcome),
}

/// One call of a commit.
#[derive(Debug)]
struct Race {
    state: State,
    races: usize,
}

impl Race {
    /// `unanswered`: the first version that an earlier call of the same request may have put without learning of it.
    fn new(unanswered: Option<i64>) -> Self {
        Self {
            state: unanswered.map_or(State::Try, State::Search),
            races: 0,
        }
    }

    /// What to do now.
    fn next(&mut self, request: &CommitRequest, head: &TableHead) -> Move {
        if let State::Search(version) = self.state
            && version > head.version
        {
            self.state = State::Try;
        }
        match &self.state {
            State::Search(version) | State::Taken(version) => Move::Read(*version),
            State::Decided(outcome) => Move::Done(outcome.clone()),
            State::Try if self.races >= MAX_RACES => Move::GiveUp,
            State::Try => match fence(request, head) {
                Some(fenced) => Move::Done(fenced),
                None => Move::Put(head.version + 1),
            },
        }
    }

    /// A put was answered.
    fn put_answered(&mut self, request: &CommitRequest, version: i64, answer: Put, head: &mut TableHead) {
        self.races += 1;
        self.state = match answer {
            Put::Done => {
                apply_own(request, version, head);
                State::Decided(CommitOutcome::Committed { version })
            }
            Put::Taken => State::Taken(version),
        };
    }

    /// A version was read; `None`: there is no such version (any more).
    fn read(
        &mut self,
        request: &CommitRequest,
        version: i64,
        commit: Option<&LoggedCommit>,
        head: &mut TableHead,
    ) {
        let ours = commit.is_some_and(|commit| commit.batch_id == Some(request.batch_id));
        if ours {
            if version > head.version {
                apply_own(request, version, head);
            }
            self.state = State::Decided(CommitOutcome::Committed { version });
            return;
        }
        if matches!(self.state, State::Search(_)) {
            self.state = State::Search(version + 1);
            return;
        }
        // Without a commit there: S3 may refuse a put because of a concurrent one that then fails itself.
        self.state = State::Try;
        if let Some(commit) = commit {
            if let Some(conflict) = commit.conflict_with(request, version) {
                self.state = State::Decided(conflict);
            }
            for (app_id, txn_version) in &commit.transactions {
                head.transactions.insert(app_id.clone(), *txn_version);
            }
            head.version = version;
        }
    }
}

/// The first step whose application id does not stand where the request needs it.
fn fence(request: &CommitRequest, head: &TableHead) -> Option<CommitOutcome> {
    request.steps.iter().find_map(|step| {
        let found = head.transactions.get(&step.app_id).copied();
        (found != step.from).then(|| CommitOutcome::Fenced {
            app_id: step.app_id.clone(),
            expected: step.from,
            found,
        })
    })
}

fn apply_own(request: &CommitRequest, version: i64, head: &mut TableHead) {
    for step in &request.steps {
        head.transactions.insert(step.app_id.clone(), step.to);
    }
    head.version = version;
}

/// A commit in the log, as far as it can matter to another one.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoggedCommit {
    /// Tells which request made it; `None` for other software's.
    pub batch_id: Option<Uuid>,
    /// Its `txn` actions.
    pub transactions: Vec<(String, i64)>,
    /// Files that it took out of the table.
    pub removed_paths: Vec<String>,
    /// Whether it changed schema, properties or protocol, more than by adding columns that may be null.
    pub changes_definition: bool,
}

impl LoggedCommit {
    /// Reads a commit's lines.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut commit = LoggedCommit::default();
        let (mut redefines, mut widening) = (false, false);
        for line in bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
        {
            let action: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            if let Some(txn) = action.get("txn") {
                let app_id = txn["appId"].as_str().ok_or("a txn action without appId")?;
                let version = txn["version"].as_i64().ok_or("a txn action without version")?;
                commit.transactions.push((app_id.to_owned(), version));
            } else if let Some(remove) = action.get("remove") {
                let path = remove["path"].as_str().ok_or("a remove action without path")?;
                commit.removed_paths.push(
                    percent_encoding::percent_decode_str(path)
                        .decode_utf8_lossy()
                        .into_owned(),
                );
            } else if let Some(info) = action.get("commitInfo") {
                widening = info["loginlake"]["info"]["kind"] == WIDENING;
                commit.batch_id = info["loginlake"]["batchId"]
                    .as_str()
                    .and_then(|id| Uuid::parse_str(id).ok());
            } else if action.get("metaData").is_some() {
                redefines = true;
            } else if action.get("protocol").is_some() {
                commit.changes_definition = true;
            }
        }
        commit.changes_definition |= redefines && !widening;
        Ok(commit)
    }

    fn conflict_with(&self, request: &CommitRequest, version: i64) -> Option<CommitOutcome> {
        if self.changes_definition {
            let detail = format!("version {version} changed the table's definition");
            return Some(CommitOutcome::Conflict { detail });
        }
        for step in &request.steps {
            if let Some((_, found)) = self
                .transactions
                .iter()
                .find(|(app_id, _)| *app_id == step.app_id)
            {
                return Some(CommitOutcome::Fenced {
                    app_id: step.app_id.clone(),
                    expected: step.from,
                    found: Some(*found),
                });
            }
        }
        let removed = request
            .removes
            .iter()
            .find(|file| self.removed_paths.contains(&file.path))?;
        Some(CommitOutcome::Conflict {
            detail: format!("version {version} removed {}", removed.path),
        })
    }
}
