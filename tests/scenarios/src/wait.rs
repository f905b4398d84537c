//! Waiting for a condition of another process: polled, always with a limit, never for a fixed time.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Asks `condition` every 20 ms until it gives a value.
///
/// # Errors
/// When the condition itself fails (the thing waited for can no longer happen), or after `limit`; the message names
/// `what` was waited for.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if started.elapsed() >= limit {
            bail!("waited {} s for {what}, in vain", limit.as_secs());
        }
        // The pause between two looks at the condition; what ends the wait is the condition.
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_ends_the_wait() {
        let mut looks = 0;
        let value = wait_for("a second look", Duration::from_secs(60), || {
            looks += 1;
            Ok((looks == 2).then_some(looks))
        });
        assert_eq!(value.unwrap(), 2);
    }

    #[test]
    fn an_impossible_condition_ends_it_at_once() {
        let error =
            wait_for::<()>("nothing", Duration::from_secs(3600), || bail!("it has exited")).unwrap_err();
        assert_eq!(error.to_string(), "it has exited");
    }

    #[test]
    fn the_limit_names_what_was_waited_for() {
        let error = wait_for::<()>("the moon", Duration::ZERO, || Ok(None)).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for the moon, in vain");
    }
}
