//! Values as TOML.

/// A text as a basic string. JSON's escapes are TOML's, too; DEL is the one character that TOML alone wants escaped.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

/// A default, which is a text, a number or a truth.
pub(super) fn of_json(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A key, in quotes where it needs them. One with dots is one key: TOML's dotted keys would be tables.
pub(super) fn key_text(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(is_bare) {
        name.to_owned()
    } else {
        quoted(name)
    }
}
