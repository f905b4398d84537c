//! `docs/CONFIGURATION.md`, written out of [`super::keys`]. A test says when the file is not what this makes.

use std::fmt::Write as _;

use super::keys::{self, FLAGS_WITHOUT_KEY, Key, SECRET_VARIABLES};

const BEGINNING: &str = "\
# Configuration

<!-- Made from crates/service/src/config by `LOGINLAKE_WRITE_DOCS=1 cargo test --workspace --test documents`: change it there. -->

Built-in default < file (`--config FILE` or `LOGINLAKE_CONFIG`, TOML) < environment < flag. Every key can be left out. A key that
does not exist is an error with its line and the key that was probably meant.

- `COMMAND --print-config` prints what a command would run with, and where each value comes from, as a file that can be loaded again.
- `realtime check` and `olap check` try the settings on the real brokers and the real store, and print a list of what is right and wrong.
- [loginlake.example.toml](loginlake.example.toml) is a file to begin with. Its first line tells editors of the schema
  ([loginlake.schema.json](loginlake.schema.json)): they complete keys and mark what is wrong.
- A service reads its file again at SIGHUP. Keys with \u{21bb} count at once, all others from the next start on; a file that is wrong anywhere
  changes nothing. Nothing else is read again.

Sizes are bytes with or without a unit: `1000000`, `256MiB`, `1GB`. Durations have one: `500ms`, `10s`, `2m`, `1h`, `7d`. Dates are
`2015-01-01` or RFC 3339. A flag that is yes or no is `--mask-ip` or `--mask-ip=false`, its variable `true` or `false`.
Empty variables of OpenTelemetry, OpenLineage and AWS count as not set. An empty `LOGINLAKE_…` is a value, mostly a wrong one: the error names it.
";

/// The whole text.
pub fn configuration_markdown() -> String {
    let mut out = String::from(BEGINNING);
    let mut section = None;
    for key in keys::all() {
        if section != Some(key.section) {
            section = Some(key.section);
            let title = match key.section {
                "" => "Before the first section".to_owned(),
                section => format!("`[{section}]`: {}", about(section)),
            };
            let _ = write!(
                out,
                "\n## {title}\n\n| key | flag | environment | value | default | meaning |\n|---|---|---|---|---|---|\n"
            );
        }
        write_row(&mut out, key);
    }
    out.push_str("\n## Flags of services without a key\n\n| flag | why |\n|---|---|\n");
    for (flag, reason) in FLAGS_WITHOUT_KEY {
        let _ = writeln!(out, "| `--{flag}` | {reason} |");
    }
    out.push_str(
        "\nOther commands have flags that say what one call is to do; `--help` lists them.\n\n## Secrets without a flag\n\n\
         A flag is seen by every user of the machine. These variables hold the secret itself; a file is better still.\n\n\
         | variable | what it is |\n|---|---|\n",
    );
    for (variable, what) in SECRET_VARIABLES {
        let _ = writeln!(out, "| `{variable}` | {what} |");
    }
    out.push_str(
        "\nThe stores are configured by their usual variables (`AWS_*`, `GOOGLE_*`, `AZURE_*`), see the [README](../README.md#olap).\n",
    );
    out
}

/// Whose settings a section has.
fn about(section: &str) -> &'static str {
    match section {
        "realtime" => "`realtime run`",
        "ingest" => "`olap ingest`",
        "maintain" => "`olap maintain`, `compact`, `vacuum`",
        "query" => "`olap query`, `shell`, `serve`",
        "index" => "`realtime index`",
        "serve" => "`olap serve`",
        "privacy" => "personal fields, on both paths",
        "alerts" => "alerts by webhook, of all services",
        _ => "more",
    }
}

fn write_row(out: &mut String, key: &Key) {
    let flag = match key.flag {
        Some(flag) if key.name == "kafka" => format!("`-X`, `--{flag}`"),
        Some(flag) => format!("`--{flag}`"),
        None => String::new(),
    };
    let variable = key.variable.as_ref().map(|name| format!("`{name}`"));
    let live = if key.is_live { " \u{21bb}" } else { "" };
    let cells = [
        format!("`{}`{live}", key.name),
        flag,
        variable.unwrap_or_default(),
        key.kind.describe(),
        key.default.describe(),
        key.meaning.clone(),
    ];
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let _ = writeln!(out, "| {} |", cells.join(" | "));
}
