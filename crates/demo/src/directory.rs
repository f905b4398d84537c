//! The demo's lake directory: made new each time, and never somebody else's.

use std::path::Path;

use loginlake_lake::TableName;
use loginlake_service::exit::ExitError;

/// Marks a directory that a demo made and a later demo may empty.
const MARKER: &str = ".made-by-loginlake-demo";

/// What was found at the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing, or an empty directory.
    Nothing,
    /// An earlier demo's lake, which is gone now.
    EarlierDemo,
}

/// Makes an empty lake directory. A lake of an earlier demo is replaced: each demo has a broker of its own, whose offsets
/// begin at zero, so its records would not fit to the earlier ones.
///
/// # Errors
/// The directory holds something that no demo has made, or cannot be used.
pub fn prepare(directory: &Path) -> Result<Found, ExitError> {
    let unusable = |error: std::io::Error| {
        ExitError::failed(format!("cannot use --dir {}: {error}", directory.display()))
    };
    let marker = directory.join(MARKER);
    let is_empty = match std::fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(unusable(error)),
    };
    let found = if is_empty {
        Found::Nothing
    } else if marker.exists() {
        for table in TableName::ALL {
            match std::fs::remove_dir_all(directory.join(table.as_str())) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(unusable(error)),
                _ => {}
            }
        }
        Found::EarlierDemo
    } else {
        return Err(ExitError::usage(format!(
            "--dir {} is not empty and was not made by a demo: nothing was touched",
            directory.display()
        ))
        .with_hint("choose another directory, such as --dir ./demo-lake"));
    };
    std::fs::create_dir_all(directory).map_err(unusable)?;
    std::fs::write(
        &marker,
        "A lake made by the demo. The next demo in this directory replaces it.\n",
    )
    .map_err(unusable)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_demos_own_lake_is_replaced() {
        let place = std::env::temp_dir().join(format!("loginlake-demo-test-{}", std::process::id()));
        assert_eq!(prepare(&place).unwrap(), Found::Nothing);
        let table = place.join("logins");
        std::fs::create_dir_all(&table).unwrap();
        std::fs::write(place.join("notes.txt"), "mine").unwrap();
        assert_eq!(prepare(&place).unwrap(), Found::EarlierDemo);
        assert!(!table.exists());
        assert!(place.join("notes.txt").exists(), "only tables are removed");
        std::fs::remove_file(place.join(MARKER)).unwrap();
        let refused = prepare(&place).unwrap_err();
        assert!(
            refused.message.contains("not made by a demo"),
            "{}",
            refused.message
        );
        std::fs::remove_dir_all(&place).unwrap();
    }
}
