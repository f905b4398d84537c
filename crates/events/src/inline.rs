//! A short ASCII text that lives inside its owner, so that the usual event needs no heap.

use std::fmt;
use std::ops::Deref;

/// At most `N` bytes of ASCII. What does not fit is an error of [`fmt::Write`], never cut off.
#[derive(Clone, Copy)]
pub(crate) struct InlineText<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> InlineText<N> {
    pub(crate) const fn new() -> Self {
        assert!(N <= u8::MAX as usize, "the length is kept in one byte");
        InlineText {
            bytes: [0; N],
            len: 0,
        }
    }
}

impl<const N: usize> Deref for InlineText<N> {
    type Target = str;

    fn deref(&self) -> &str {
        // Checked again on each use because it is cheaper than it looks (a few bytes) and needs no unsafe code.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("only ASCII is written")
    }
}

impl<const N: usize> fmt::Write for InlineText<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let start = usize::from(self.len);
        let free = self.bytes.get_mut(start..start + text.len()).ok_or(fmt::Error)?;
        debug_assert!(text.is_ascii(), "inline texts are ASCII");
        free.copy_from_slice(text.as_bytes());
        self.len += text.len() as u8;
        Ok(())
    }
}
