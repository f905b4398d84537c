//! What others wrote, made safe for a terminal: nothing in it moves the cursor, hides or reorders what is shown.

use std::fmt::Write as _;

/// The text with everything that does not simply show written as an escape.
pub(super) fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Separators, direction marks and overrides, joiners and tags.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Text where it is text; otherwise its bytes as hexadecimal digits.
pub(super) fn text_or_hex(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => printable(text),
        Err(_) => bytes.iter().fold(String::from("0x"), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        }),
    }
}

/// Sixteen bytes a line: offset, hexadecimal digits, and ASCII where there is any.
pub(super) fn hex_dump(bytes: &[u8]) -> String {
    let mut dump = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let ascii: String = chunk
            .iter()
            .map(|byte| {
                if byte.is_ascii_graphic() || *byte == b' ' {
                    char::from(*byte)
                } else {
                    '.'
                }
            })
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(dump, "{:08x}  {:<47}  |{ascii}|", line * 16, hex.join(" "));
    }
    dump
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_does_not_simply_show() {
        assert_eq!(printable("plain Ünïcode 👍"), "plain Ünïcode 👍");
        assert_eq!(printable("a\u{1b}[2Jb\nc\0"), r"a\u{1b}[2Jb\nc\u{0}");
        assert_eq!(printable("x\u{202e}y\u{9b}"), r"x\u{202e}y\u{9b}");
        assert_eq!(text_or_hex(b"a\t"), r"a\t");
        assert_eq!(text_or_hex(&[0xff, 0x01]), "0xff01");
    }

    #[test]
    fn a_dump_has_sixteen_bytes_a_line() {
        let bytes: Vec<u8> = (0x3c..0x3c + 18).chain([0xff]).collect();
        assert_eq!(
            hex_dump(&bytes),
            "00000000  3c 3d 3e 3f 40 41 42 43 44 45 46 47 48 49 4a 4b  |<=>?@ABCDEFGHIJK|\n\
             00000010  4c 4d ff                                         |LM.|\n"
        );
        assert_eq!(hex_dump(&[]), "");
    }
}
