//! The lines of one bulk request, and what has to be known of each of its records.

use std::ops::Range;
use std::time::Instant;

use super::document::{self, Reason, Source};

/// A record in a batch.
#[derive(Debug)]
pub(super) struct Item {
    /// Where it came from; `None` only in letters.
    pub source: Option<Source>,
    pub key: Option<Vec<u8>>,
    /// Its two lines in the body.
    pub lines: Range<usize>,
}

/// A record that becomes a dead letter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letter {
    pub source: Option<Source>,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    pub reason: Reason,
    /// Field that is to blame, where it is known.
    pub field: Option<String>,
}

/// Records that are sent together.
#[derive(Debug)]
pub(super) struct Batch {
    /// In the order in which they were handed over, from 1.
    pub number: u64,
    /// All lines.
    pub body: Vec<u8>,
    pub items: Vec<Item>,
    /// Records of which there is no document.
    pub letters: Vec<Letter>,
    opened: Instant,
}

impl Batch {
    pub fn new(number: u64) -> Self {
        Self {
            number,
            body: Vec::new(),
            items: Vec::new(),
            letters: Vec::new(),
            opened: Instant::now(),
        }
    }

    /// Adds a record.
    pub fn add(&mut self, name: &str, source: Option<Source>, key: Option<&[u8]>, payload: Option<&[u8]>) {
        if self.is_empty() {
            self.opened = Instant::now();
        }
        let start = self.body.len();
        let key = key.map(<[u8]>::to_vec);
        match document::append(name, source.as_ref(), payload, &mut self.body) {
            Ok(()) => self.items.push(Item {
                source,
                key,
                lines: start..self.body.len(),
            }),
            Err(reason) => self.letters.push(Letter {
                source,
                key,
                payload: payload.map(<[u8]>::to_vec),
                reason,
                field: None,
            }),
        }
    }

    /// Makes a letter of an item that OpenSearch does not take.
    pub fn refuse(&mut self, index: usize, reason: Reason, field: Option<String>) {
        let item = &mut self.items[index];
        let lines = &self.body[item.lines.clone()];
        // The second line, without its end.
        let payload = lines.split(|byte| *byte == b'\n').nth(1).map(<[u8]>::to_vec);
        self.letters.push(Letter {
            source: item.source.take(),
            key: item.key.take(),
            payload,
            reason,
            field,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.records() == 0
    }

    pub fn records(&self) -> usize {
        self.items.len() + self.letters.len()
    }

    /// Bytes of the lines, and of the payloads that are kept for letters.
    pub fn bytes(&self) -> usize {
        let kept = |letter: &Letter| letter.payload.as_ref().map_or(0, Vec::len);
        self.body.len() + self.letters.iter().map(kept).sum::<usize>()
    }

    /// When its first record came.
    pub const fn opened(&self) -> Instant {
        self.opened
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_item_becomes_a_letter_with_its_own_bytes() {
        let mut batch = Batch::new(1);
        let source = |offset: i64| {
            let offset = offset.to_string();
            document::source(Some(b"t"), Some(b"0"), Some(offset.as_bytes()), &mut None)
        };
        let payloads = ["{\"timestamp\":1720576825,\"a\":1}", "{\"timestamp\":1720576826}"];
        for (offset, payload) in payloads.iter().enumerate() {
            batch.add("x", source(offset as i64), Some(b"k"), Some(payload.as_bytes()));
        }
        batch.add("x", None, None, Some(b"?"));
        assert_eq!(
            (batch.records(), batch.items.len(), batch.letters.len()),
            (3, 2, 1)
        );
        batch.refuse(0, Reason::Mapping, Some("a".to_owned()));
        let letter = batch.letters.last().expect("a letter");
        assert_eq!(letter.payload.as_deref(), Some(payloads[0].as_bytes()));
        assert_eq!(
            (letter.source.as_ref(), letter.reason),
            (source(0).as_ref(), Reason::Mapping)
        );
        assert_eq!(letter.key.as_deref(), Some(&b"k"[..]));
    }
}
