//! Texts in columns of a terminal.

use unicode_width::UnicodeWidthStr;

/// `text` in at most `width` columns, `…` in place of what was cut.
pub(crate) fn cut(text: &str, width: usize) -> String {
    // Characters that take no column of their own still take memory: no more of them than could ever be useful.
    let most = width.saturating_mul(8).saturating_add(32);
    if text.width() <= width && text.chars().nth(most).is_none() {
        return text.to_owned();
    }
    if width == 0 {
        return String::new();
    }
    let mut shown = String::new();
    for c in text.chars().take(most) {
        shown.push(c);
        if shown.width() + 1 > width {
            shown.pop();
            break;
        }
    }
    shown.push('…');
    // Neighbours can change a width: what is joined is measured again.
    while shown.width() > width {
        shown.pop();
        shown.pop();
        shown.push('…');
    }
    shown
}

/// `text` with blanks after it up to `width` columns.
pub(crate) fn pad_right(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// `text` with blanks before it up to `width` columns.
pub(crate) fn pad_left(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(text.width())))
}
