//! What README, docs/ and deploy/ name is there: every command line is one that our binaries take, every flag and every variable is one that they
//! know, every file that is linked exists. So whoever renames something is told by name what else to change. Nothing is started, and no part
//! is needed; that is why this file has the standard harness.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use loginlake_scenarios::parts::{our_binary, top};

const PROGRAMS: [&str; 4] = ["realtime", "olap", "generate", "demo"];
/// Made from the code, and compared with it by a test of its own.
const GENERATED: &str = "docs/CONFIGURATION.md";
/// A variable that has no flag.
const WITHOUT_FLAG: &str = "LOGINLAKE_OPERATOR";
/// Variables of tests, which no program of ours reads as a setting.
const OF_TESTS: [&str; 5] = [
    "LOGINLAKE_BINARY_OLAP",
    "LOGINLAKE_GOLDEN",
    "LOGINLAKE_SCENARIO_EVENTS",
    "LOGINLAKE_SCENARIO_QUERIES",
    "LOGINLAKE_WRITE_DOCS",
];
/// Flags of Cargo and of the benchmarks, and what help does not show.
const OTHER_FLAGS: [&str; 4] = ["--features", "--rows", "--help", "--manual"];
/// Fewer than these, and the documents are read wrongly.
const LEAST_COMMANDS: usize = 110;
const LEAST_FLAGS: usize = 60;
const LEAST_VARIABLES: usize = 60;
const LEAST_LINKS: usize = 80;

/// A Markdown document, by its path from the top of the repository.
struct Document {
    path: PathBuf,
    /// Lines of blocks of commands, continued ones joined.
    commands: Vec<String>,
    /// Everything else, paragraph by paragraph.
    paragraphs: Vec<String>,
}

impl Document {
    fn read(path: PathBuf) -> Result<Document> {
        let text = fs::read_to_string(top().join(&path)).with_context(|| path.display().to_string())?;
        let (mut commands, mut paragraphs) = (vec![String::new()], vec![String::new()]);
        let mut fence: Option<String> = None;
        for line in text.lines() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                fence = match fence {
                    None => Some(language.to_owned()),
                    Some(_) => None,
                };
                continue;
            }
            let in_shell = matches!(fence.as_deref(), Some("" | "sh" | "console"));
            if in_shell || (fence.is_none() && line.starts_with("    ")) {
                let last = commands.last_mut().expect("one at least");
                match line.trim().strip_suffix('\\') {
                    Some(begun) => last.push_str(begun),
                    None => {
                        last.push_str(line.trim());
                        commands.push(String::new());
                    }
                }
            } else if fence.is_none() {
                let last = paragraphs.last_mut().expect("one at least");
                if line.is_empty() {
                    paragraphs.push(String::new());
                } else {
                    last.push_str(line);
                    last.push('\n');
                }
            }
        }
        Ok(Document {
            path,
            commands,
            paragraphs,
        })
    }

    /// What stands between backticks, wherever its line ends.
    fn spans(&self) -> impl Iterator<Item = String> {
        let between = self
            .paragraphs
            .iter()
            .flat_map(|text| text.split('`').skip(1).step_by(2));
        between.map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

fn documents() -> Result<Vec<Document>> {
    let mut paths = Vec::new();
    for folder in ["", "docs", "docs/adr", "data", "tests", "bench"] {
        for entry in fs::read_dir(top().join(folder))? {
            let path = Path::new(folder).join(entry?.file_name());
            if path.extension().is_some_and(|of| of == "md") {
                paths.push(path);
            }
        }
    }
    paths.sort();
    ensure!(paths.len() > 20, "few documents: {paths:?}");
    paths.into_iter().map(Document::read).collect()
}

/// The words of `text` that begin with `start`, up to the first letter that is not `part` of one; with the letter before each.
fn words<'a>(
    text: &'a str,
    start: &'a str,
    part: fn(char) -> bool,
) -> impl Iterator<Item = (Option<char>, &'a str)> {
    text.match_indices(start).map(move |(at, _)| {
        let rest = &text[at..];
        let end = start.len()
            + rest[start.len()..]
                .find(|c| !part(c))
                .unwrap_or(rest.len() - start.len());
        (text[..at].chars().next_back(), &rest[..end])
    })
}

/// The flags in a text.
fn flags(text: &str) -> impl Iterator<Item = &str> {
    let all = words(text, "--", |c| {
        c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
    });
    let is_flag =
        |word: &str| word[2..].starts_with(|c: char| c.is_ascii_lowercase()) && !word.ends_with('-');
    all.filter(move |(before, word)| {
        is_flag(word) && !before.is_some_and(|c| c.is_alphanumeric() || c == '-')
    })
    .map(|(_, word)| word)
}

/// The variables of ours in a text; those that only begin a name are left out.
fn variables(text: &str) -> impl Iterator<Item = (Option<char>, &str)> {
    words(text, "LOGINLAKE_", |c| {
        c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'
    })
    .filter(|(_, name)| !name.ends_with('_'))
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(our_binary(program)?)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()?;
    ensure!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// All that help, completions and manual pages say.
fn all_help() -> Result<String> {
    let manual = tempfile::tempdir()?;
    let folder = manual.path().to_str().context("UTF-8")?;
    let mut all = said("demo", &["--help"])? + &said("generate", &["--completions", "bash"])?;
    said("generate", &["--manual", folder])?;
    for program in ["realtime", "olap"] {
        all += &said(program, &["completions", "bash"])?;
        said(program, &["manual", folder])?;
    }
    for page in fs::read_dir(folder)? {
        all += &fs::read_to_string(page?.path())?;
    }
    Ok(all)
}

/// Functions of a shell that stand for our programs: each parses its arguments with the real one, twice if it can print its settings, and notes
/// what was not taken. `cargo run` is one of them, too.
fn stand_ins() -> Result<String> {
    let mut functions = String::from(
        r#"parsed_by() {
            real=$1 name=${1##*/}
            shift
            printf '%s\n' "$name $*" >>"$TAKEN"
            said=--print-config
            for mode in --help --print-config; do
                case $said in *--print-config*) ;; *) return 0 ;; esac
                said=$("$real" "$@" $mode 2>&1 </dev/null) || printf '%s\n' "$name $* $mode: $said" >>"$REFUSED"
            done
        }
        cargo() {
            while [ $# -gt 0 ] && [ "$1" != -- ]; do
                [ "$1" != --bin ] || program=$2
                shift
            done
            [ $# = 0 ] || shift
            "$program" "$@"
        }
        "#,
    );
    for program in PROGRAMS {
        let real = our_binary(program)?;
        functions += &format!("{program}() {{ parsed_by '{}' \"$@\"; }}\n", real.display());
    }
    Ok(functions)
}

/// Does a line call one of ours, at its beginning or behind a pipe?
fn calls_ours(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    (0..words.len()).any(|at| {
        let begins = words[..at].iter().all(|word| is_assignment(word));
        let follows = at > 0 && ["|", "&&", "||", ";"].contains(&words[at - 1]);
        let is_ours =
            PROGRAMS.contains(&words[at]) || (words[at] == "cargo" && words.get(at + 1) == Some(&"run"));
        is_ours && (begins || follows)
    })
}

fn is_assignment(word: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || "_123".contains(c));
    word.split_once('=')
        .is_some_and(|(name, _)| is_name(name) && name != "PATH")
}

/// A line that only sets variables, for the lines below it.
fn sets_variables(line: &str) -> bool {
    let line = line.strip_prefix("export ").unwrap_or(line);
    !line.is_empty() && line.split_whitespace().all(is_assignment)
}

#[test]
fn every_command_line_is_taken() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let work = folder.path().join("work");
    fs::create_dir(&work)?;
    fs::copy(
        top().join("docs/loginlake.example.toml"),
        work.join("loginlake.toml"),
    )?;
    let (taken, refused) = (folder.path().join("taken"), folder.path().join("refused"));
    let stand_ins = stand_ins()?;
    let mut lines = 0;
    for document in documents()? {
        let mut before = String::new();
        for line in &document.commands {
            if sets_variables(line) {
                before = before + line + "\n";
            }
            if !calls_ours(line) {
                continue;
            }
            lines += 1;
            // The shell is a real one; programs there are none but what stands for ours.
            let status = Command::new("/bin/sh")
                .args(["-c", &format!("{stand_ins}{before}{line}\nwait\n")])
                .current_dir(&work)
                .env_clear()
                .env("PATH", "/nowhere")
                .env("TAKEN", &taken)
                .env("REFUSED", &refused)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            ensure!(status.code().is_some(), "{line}: {status}");
        }
    }
    let called = fs::read_to_string(&taken)?.lines().count();
    ensure!(
        called >= lines && lines >= LEAST_COMMANDS,
        "{called} calls in {lines} lines of commands"
    );
    let refused = fs::read_to_string(&refused).unwrap_or_default();
    ensure!(refused.is_empty(), "not taken:\n{refused}");
    Ok(())
}

#[test]
fn every_flag_is_one_of_ours() -> Result<()> {
    let help = all_help()?;
    let known: BTreeSet<&str> = flags(&help).collect();
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for document in documents()? {
        for span in document.spans() {
            let mut first = span.split(' ');
            let program = first.next().unwrap_or_default();
            if span.starts_with("--") {
                for flag in flags(&span) {
                    looked_at += 1;
                    if !known.contains(flag) && !OTHER_FLAGS.contains(&flag) {
                        wrong.push(format!(
                            "{}: `{span}`: there is no {flag}",
                            document.path.display()
                        ));
                    }
                }
            } else if PROGRAMS.contains(&program) && span.contains(' ') {
                // Of this command.
                let is_command = |word: &&str| {
                    word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
                };
                let mut command: Vec<&str> = first.take_while(is_command).collect();
                command.push("--help");
                let help = said(program, &command);
                let known: BTreeSet<&str> = help.as_deref().map(flags).into_iter().flatten().collect();
                looked_at += 1;
                wrong.extend(
                    flags(&span)
                        .filter(|flag| !known.contains(flag) && !OTHER_FLAGS.contains(flag))
                        .map(|flag| format!("{}: `{span}`: it has no {flag}", document.path.display())),
                );
                if let Err(error) = &help {
                    wrong.push(format!("{}: `{span}`: {error}", document.path.display()));
                }
            }
        }
    }
    ensure!(looked_at >= LEAST_FLAGS, "{looked_at} flags");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_variable_is_read() -> Result<()> {
    let help = all_help()? + &fs::read_to_string(top().join(GENERATED))? + WITHOUT_FLAG;
    let ours: BTreeSet<&str> = variables(&help).map(|(_, name)| name).collect();
    let prefixes = ["LOGINLAKE_KAFKA_", "LOGINLAKE_OUTPUT_KAFKA_"];
    let is_ours = |name: &str| ours.contains(name) || prefixes.iter().any(|prefix| name.starts_with(prefix));
    // What stands in ${…} is a variable of whoever starts the services.
    let mut of_starters = BTreeSet::from(OF_TESTS.map(str::to_owned));
    let mut deployments_read = Vec::new();
    for file in deployments()? {
        let text = fs::read_to_string(top().join(&file))?;
        let starters = variables(&text).filter(|(before, _)| *before == Some('{'));
        of_starters.extend(starters.map(|(_, name)| name.to_owned()));
        deployments_read.push((file, text));
    }
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for (file, text) in &deployments_read {
        for (before, name) in variables(text) {
            looked_at += 1;
            let is_right = match before {
                Some('{') => true,
                _ if is_set(text, name) => is_ours(name),
                _ => is_ours(name) || of_starters.contains(name),
            };
            if !is_right {
                wrong.push(format!("{}: nobody reads {name}", file.display()));
            }
        }
    }
    for document in documents()? {
        for text in document.commands.iter().chain(&document.paragraphs) {
            for (_, name) in variables(text) {
                looked_at += 1;
                if !is_ours(name) && !of_starters.contains(name) {
                    wrong.push(format!("{}: nobody reads {name}", document.path.display()));
                }
            }
        }
    }
    ensure!(looked_at >= LEAST_VARIABLES, "{looked_at} variables");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Whether a service is given this variable, in the words of YAML, of a unit or of a list of literals.
fn is_set(text: &str, name: &str) -> bool {
    let all = words(text, name, |c| c == ':' || c == '=');
    all.filter(|(before, _)| *before != Some('{'))
        .any(|(_, word)| word.len() > name.len() || text.contains(&format!("name: {name}\n")))
}

/// The files that say how our services are started.
fn deployments() -> Result<Vec<PathBuf>> {
    let mut files = vec![PathBuf::from("docker-compose.yml")];
    let mut folders = vec![PathBuf::from("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(top().join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    ensure!(files.len() > 30, "few files: {files:?}");
    Ok(files)
}

#[test]
fn every_link_leads_somewhere() -> Result<()> {
    let documents = documents()?;
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for document in &documents {
        let folder = document.path.parent().context("a folder")?;
        for text in &document.paragraphs {
            for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if target.contains("://") {
                    continue;
                }
                looked_at += 1;
                let (file, place) = target.split_once('#').unwrap_or((target, ""));
                let path = match file {
                    "" => document.path.clone(),
                    file => folder.join(file),
                };
                let there = top().join(&path);
                let is_there = there.exists() && (place.is_empty() || headings(&there)?.contains(place));
                if !is_there {
                    wrong.push(format!("{}: {target}", document.path.display()));
                }
            }
        }
    }
    ensure!(looked_at >= LEAST_LINKS, "{looked_at} links");
    ensure!(wrong.is_empty(), "these lead nowhere:\n{}", wrong.join("\n"));
    Ok(())
}

/// The places of a document, by its headings: small letters, a hyphen for each space, no other signs.
fn headings(document: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(document)?;
    let lines = text.lines().filter(|line| line.starts_with('#'));
    let place = |line: &str| {
        let title = line
            .trim_start_matches('#')
            .trim()
            .to_lowercase()
            .replace(' ', "-");
        title
            .chars()
            .filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_')
            .collect()
    };
    Ok(lines.map(place).collect())
}
