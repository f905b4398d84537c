//! Prepared statements: so many, so large together, and none for long that nobody uses.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use loginlake_query::{Script, Values};
use prometheus_client::metrics::gauge::Gauge;
use tonic::Status;
use uuid::Uuid;

/// Statements that are kept.
const MAX_STATEMENTS: usize = 256;
/// Bytes of their texts together.
const MAX_TEXT_BYTES: usize = 4 << 20;
/// After so long without use a statement may be given up.
const IDLE_LIMIT: Duration = Duration::from_secs(10 * 60);

/// The prepared statements of all clients. A handle cannot be guessed.
#[derive(Debug, Default)]
pub(super) struct Statements {
    kept: Mutex<HashMap<Uuid, Prepared>>,
    gauge: Gauge,
}

#[derive(Debug)]
struct Prepared {
    script: Script,
    values: Values,
    used: Instant,
}

impl Statements {
    pub(super) fn new(gauge: Gauge) -> Self {
        Self {
            kept: Mutex::default(),
            gauge,
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<Uuid, Prepared>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a statement, and gives its handle. Those that nobody has used for long make room.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`: there is no room.
    pub(super) fn prepare(&self, script: Script, now: Instant) -> Result<Vec<u8>, Status> {
        let mut kept = self.kept();
        kept.retain(|_, prepared| now.saturating_duration_since(prepared.used) < IDLE_LIMIT);
        let bytes: usize = kept.values().map(|prepared| prepared.script.sql().len()).sum();
        if kept.len() >= MAX_STATEMENTS || bytes + script.sql().len() > MAX_TEXT_BYTES {
            return Err(Status::resource_exhausted(format!(
                "{} statements are prepared, as many as may: close those that are not needed",
                kept.len()
            )));
        }
        let handle = Uuid::new_v4();
        let prepared = Prepared {
            script,
            values: Values::default(),
            used: now,
        };
        kept.insert(handle, prepared);
        self.count(&kept);
        Ok(handle.as_bytes().to_vec())
    }

    /// The statement of a handle, and the values that it has now.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(super) fn get(&self, handle: &[u8], now: Instant) -> Result<(Script, Values), Status> {
        let mut kept = self.kept();
        let prepared = find(&mut kept, handle)?;
        prepared.used = now;
        Ok((prepared.script.clone(), prepared.values.clone()))
    }

    /// Gives a statement its values.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub(super) fn bind(&self, handle: &[u8], values: Values, now: Instant) -> Result<(), Status> {
        let mut kept = self.kept();
        let prepared = find(&mut kept, handle)?;
        (prepared.values, prepared.used) = (values, now);
        Ok(())
    }

    /// Gives a statement up. That it is gone already is no error.
    pub(super) fn close(&self, handle: &[u8]) {
        let mut kept = self.kept();
        if let Ok(handle) = Uuid::from_slice(handle) {
            kept.remove(&handle);
        }
        self.count(&kept);
    }

    fn count(&self, kept: &HashMap<Uuid, Prepared>) {
        self.gauge.set(i64::try_from(kept.len()).unwrap_or(i64::MAX));
    }
}

fn find<'a>(kept: &'a mut HashMap<Uuid, Prepared>, handle: &[u8]) -> Result<&'a mut Prepared, Status> {
    let found = Uuid::from_slice(handle)
        .ok()
        .and_then(|handle| kept.get_mut(&handle));
    found.ok_or_else(|| Status::not_found("there is no such prepared statement (any more): prepare it again"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(sql: &str) -> Script {
        Script::parse_prepared(sql, "query").unwrap()
    }

    #[test]
    fn statements_are_few_and_idle_ones_make_room() {
        let statements = Statements::new(Gauge::default());
        let start = Instant::now();
        let first = statements.prepare(script("SELECT 1"), start).unwrap();
        let kept = statements.prepare(script("SELECT 2"), start).unwrap();
        for _ in 2..MAX_STATEMENTS {
            statements.prepare(script("SELECT 3"), start).unwrap();
        }
        let full = statements.prepare(script("SELECT 4"), start).unwrap_err();
        assert_eq!(full.code(), tonic::Code::ResourceExhausted);
        assert_eq!(statements.gauge.get(), MAX_STATEMENTS as i64);

        let later = start + IDLE_LIMIT;
        statements.get(&kept, later).unwrap();
        statements.prepare(script("SELECT 4"), later).unwrap();
        assert_eq!(statements.gauge.get(), 2);
        assert_eq!(
            statements.get(&first, later).unwrap_err().code(),
            tonic::Code::NotFound
        );
        statements.close(&kept);
        statements.close(&kept);
        assert_eq!(statements.gauge.get(), 1);
        assert_eq!(
            statements.get(b"nonsense", later).unwrap_err().code(),
            tonic::Code::NotFound
        );
    }

    #[test]
    fn texts_have_a_limit_together() {
        let statements = Statements::new(Gauge::default());
        let now = Instant::now();
        let large = format!("SELECT '{}'", "x".repeat(MAX_TEXT_BYTES / 2 - 100));
        statements.prepare(script(&large), now).unwrap();
        statements.prepare(script(&large), now).unwrap();
        assert!(statements.prepare(script(&large), now).is_err());
    }
}
