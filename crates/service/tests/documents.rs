//! `docs/CONFIGURATION.md` and `docs/loginlake.schema.json` are what the code says, and the example is a file that it takes.
//!
//! With `LOGINLAKE_WRITE_DOCS=1` the two are written anew.

use std::path::{Path, PathBuf};

use loginlake_service::config::{ConfigFile, configuration_markdown, json_schema, keys};

const WRITE: &str = "LOGINLAKE_WRITE_DOCS";

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(name)
}

fn is(name: &str, due: &str) {
    let path = document(name);
    if std::env::var_os(WRITE).is_some_and(|value| !value.is_empty()) {
        std::fs::write(&path, due).expect("written");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let different = found
        .lines()
        .zip(due.lines())
        .position(|(found, due)| found != due);
    assert!(
        found == due,
        "docs/{name} is out of date (line {}): {WRITE}=1 cargo test --workspace --test documents writes it",
        different.map_or(found.lines().count().min(due.lines().count()), |line| line) + 1
    );
}

#[test]
fn the_list_of_keys_is_that_of_the_code() {
    is("CONFIGURATION.md", &configuration_markdown());
}

#[test]
fn the_schema_is_that_of_the_code() {
    let schema = serde_json::to_string_pretty(&json_schema()).expect("JSON");
    is("loginlake.schema.json", &format!("{schema}\n"));
}

#[test]
fn the_example_is_a_good_file_that_names_its_schema() {
    let path = document("loginlake.example.toml");
    let text = std::fs::read_to_string(&path).expect("there is an example");
    assert_eq!(text.lines().next(), Some("#:schema loginlake.schema.json"));
    ConfigFile::parse(&text, &path).expect("a good file");
    // What is commented out is one, too: whoever takes the mark away has a key that exists.
    let whole: String = text
        .lines()
        .map(|line| match line.strip_prefix("#") {
            Some(rest) if rest.starts_with(|first: char| first.is_ascii_lowercase()) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    assert!(
        whole.len() < text.len(),
        "the example has keys that are commented out"
    );
    ConfigFile::parse(&whole, &path).expect("a good file with everything in it");
}

#[test]
fn every_key_is_in_the_schema_with_its_meaning() {
    let schema = json_schema();
    for key in keys::all() {
        let table = match key.section {
            "" => &schema,
            section => {
                let reference = schema["properties"][section].to_string();
                let definitions = schema["definitions"].as_object().expect("definitions");
                let name = definitions
                    .keys()
                    .find(|name| reference.contains(&format!("#/definitions/{name}\"")));
                &schema["definitions"][name.expect("a definition")]
            }
        };
        assert_eq!(table["additionalProperties"], false, "{}", key.path());
        let property = &table["properties"][key.name];
        let description = property["description"].as_str().expect("a description");
        let words = description.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.starts_with(&key.meaning), "{}", key.path());
    }
}
