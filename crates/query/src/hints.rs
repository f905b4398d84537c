//! What the user may have meant: the usual mistakes in the words of the lake, with names that are near.

use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;

use crate::error::unwrapped;
use crate::session::function_names;

/// Names listed when none is near.
const LISTED_NAMES: usize = 30;

/// Rewords the usual mistakes; anything else is said in DataFusion's words.
pub(crate) fn explain(error: &DataFusionError, text: String) -> String {
    if let Some((field, valid_fields)) = missing_field(error) {
        return unknown_column(field, valid_fields);
    }
    let diagnostic = error
        .diagnostic()
        .map(|diagnostic| diagnostic.message.as_str())
        .unwrap_or_default();
    if let Some(name) = quoted_after(diagnostic, "table '").filter(|_| diagnostic.ends_with("not found")) {
        return format!("no table named {name}; the tables are logins, rejected and logins_hourly");
    }
    if let Some(name) = quoted_after(diagnostic, "Invalid function '") {
        let functions = function_names();
        let functions: Vec<&str> = functions.iter().map(String::as_str).collect();
        return format!(
            "no function named {name}{}",
            did_you_mean(&near_names(name, &functions))
        );
    }
    // What one of our functions says of its arguments' types.
    if let Some((_, said)) = text.split_once("user-defined coercion failed with: ") {
        let said = said.strip_prefix("Error during planning: ").unwrap_or(said);
        let said = said.split(" No function matches").next().unwrap_or(said);
        return said.trim_end_matches('.').to_owned();
    }
    text
}

fn missing_field(error: &DataFusionError) -> Option<(&Column, &[Column])> {
    match unwrapped(error) {
        DataFusionError::SchemaError(inner, _) => match inner.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => Some((field, valid_fields)),
            _ => None,
        },
        _ => None,
    }
}

fn unknown_column(field: &Column, valid_fields: &[Column]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for valid in valid_fields {
        if !names.contains(&valid.name.as_str()) {
            names.push(&valid.name);
        }
    }
    let near: Vec<&str> = near_names(&field.name, &names);
    let hint = match (near.as_slice(), names.len()) {
        ([], 0) => String::new(),
        ([], 1..=LISTED_NAMES) => format!("; the columns are {}", names.join(", ")),
        ([], count) => format!(
            "; the columns are {} and {} more",
            names[..LISTED_NAMES].join(", "),
            count - LISTED_NAMES
        ),
        (near, _) => did_you_mean(near),
    };
    format!("no column named {}{hint}", field.name)
}

pub(crate) fn did_you_mean(near: &[&str]) -> String {
    if near.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", near.join(" or "))
    }
}

/// The names that a typing mistake may have meant, nearest first, at most three.
pub(crate) fn near_names<'a>(wanted: &str, names: &[&'a str]) -> Vec<&'a str> {
    let wanted = wanted.to_lowercase();
    let limit = (wanted.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = names
        .iter()
        .map(|name| (edit_distance(&wanted, &name.to_lowercase()), *name))
        .filter(|(distance, name)| *distance <= limit || (wanted.len() > 3 && name.contains(wanted.as_str())))
        .collect();
    near.sort();
    near.truncate(3);
    near.into_iter().map(|(_, name)| name).collect()
}

/// Edits that turn `a` into `b`: characters put in, left out, replaced, or two neighbours swapped.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // rows[i][j]: edits between the first i characters of a and the first j of b.
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut edits = replaced.min(row[j - 1] + 1).min(rows[i - 1][j] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                edits = edits.min(rows[i - 2][j - 2] + 1);
            }
            row.push(edits);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

fn quoted_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    rest.split('\'').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_the_ones_a_slip_may_have_meant() {
        let names = [
            "region",
            "division",
            "login_date",
            "ip",
            "local_hour",
            "login_hour",
        ];
        assert_eq!(near_names("regon", &names), ["region"]);
        assert_eq!(near_names("REGION", &names), ["region"]);
        assert_eq!(near_names("login_our", &names), ["login_hour"]);
        assert_eq!(near_names("coutn", &["cot", "count", "cosh"]), ["count"]);
        assert!(near_names("price", &names).is_empty());
    }
}
