//! What the demo says: progress on stderr (in place on a terminal), answers on stdout.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two lines of progress on a terminal.
const IN_PLACE_INTERVAL: Duration = Duration::from_millis(100);
/// Between two lines of progress in a log.
const LINE_INTERVAL: Duration = Duration::from_secs(2);

/// Tells what is going on.
#[derive(Debug)]
pub struct Report {
    in_place: bool,
    last: Option<Instant>,
    open_line: bool,
}

impl Report {
    /// On stderr.
    pub fn new() -> Self {
        Self {
            in_place: std::io::stderr().is_terminal(),
            last: None,
            open_line: false,
        }
    }

    /// A step that begins or is done.
    pub fn step(&mut self, text: &str) {
        let mut err = std::io::stderr().lock();
        if std::mem::take(&mut self.open_line) {
            let _ = write!(err, "\r\x1b[K");
        }
        let _ = writeln!(err, "{text}");
        self.last = None;
    }

    /// Progress of the step; most calls say nothing.
    pub fn progress(&mut self, text: impl FnOnce() -> String) {
        let interval = if self.in_place {
            IN_PLACE_INTERVAL
        } else {
            LINE_INTERVAL
        };
        if self.last.is_some_and(|last| last.elapsed() < interval) {
            return;
        }
        let first = self.last.is_none();
        self.last = Some(Instant::now());
        let mut err = std::io::stderr().lock();
        if self.in_place {
            self.open_line = true;
            let _ = write!(err, "\r\x1b[K  {}", text());
            let _ = err.flush();
        } else if !first {
            let _ = writeln!(err, "  {}", text());
        }
    }
}

/// A number with separators, as people read it.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!(number(0), "0");
        assert_eq!(number(999), "999");
        assert_eq!(number(1_000), "1,000");
        assert_eq!(number(12_345_678), "12,345,678");
    }
}
