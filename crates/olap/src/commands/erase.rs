//! `olap erase`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use loginlake_events::Contract;
use loginlake_lake::Lake;
use loginlake_lake::erase::{self, EraseOptions, ErasureProof, Subjects, TableErasure};
use loginlake_olap::setup;
use loginlake_service::config::{ByteSize, ConfigFile, ContractArgs, LakeArgs};
use loginlake_service::contract;
use loginlake_service::exit::ExitError;

use super::print_line;

/// The default memory.
const DEFAULT_MEMORY: u64 = 256 << 20;
/// The smallest one.
const MIN_MEMORY: u64 = 64 << 20;
/// The most users of one erasure.
const MAX_USERS: usize = 100_000;
/// The largest list of users, in bytes.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// The largest proof: hashes of twice [`MAX_USERS`], and the names of many replaced files.
const MAX_PROOF_BYTES: u64 = 256 << 20;

/// Arguments of `olap erase`.
#[derive(Args, Debug)]
pub struct EraseArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// The user's id as the input has it; in a pseudonymised lake the pseudonym is looked for as well. Can be repeated
    #[arg(long, value_name = "UUID", required_unless_present_any = ["users_file", "verify"])]
    user: Vec<String>,
    /// File with one id a line; - reads stdin
    #[arg(long, value_name = "FILE")]
    users_file: Option<PathBuf>,
    /// Only count what would be erased
    #[arg(long)]
    dry_run: bool,
    /// Write the proof here as well; it is kept in the lake as _erasures/ID.json
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
    /// Erase nothing: look into every file, in use or not, for the users of a proof. Exit code 3 when one still holds them
    #[arg(long, value_name = "PROOF", conflicts_with_all = ["user", "users_file", "dry_run", "proof"])]
    verify: Option<PathBuf>,
    /// Memory for reading and writing [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<ByteSize>,
    #[command(flatten)]
    contract: ContractArgs,
}

/// Runs it.
pub async fn run(args: EraseArgs, file: &ConfigFile) -> Result<(), ExitError> {
    super::arm_fail_point()?;
    let lake = setup::lake(&args.lake.clone().resolve(file)?)?;
    let memory = args
        .memory_budget
        .or(file.maintain.memory_budget)
        .map_or(DEFAULT_MEMORY, |size| size.bytes());
    if memory < MIN_MEMORY {
        return Err(ExitError::usage(format!(
            "--memory-budget {} is too small: at least {}",
            ByteSize::from_bytes(memory),
            ByteSize::from_bytes(MIN_MEMORY)
        )));
    }
    let memory = usize::try_from(memory).unwrap_or(usize::MAX);
    if let Some(path) = &args.verify {
        return verify(&lake, path, memory).await;
    }
    let ids = args.ids()?;
    let contract = contract::contract(&args.contract.clone().resolve(file)?)?;
    let subjects = subjects(&ids, &contract)?;
    let mut options = EraseOptions::by(super::operator());
    options.memory_budget_bytes = memory;
    options.dry_run = args.dry_run;
    let proof = erase::erase(&lake, &subjects, &options)
        .await
        .map_err(setup::lake_error)?;
    if proof.tables.is_empty() {
        return Err(super::no_tables(&lake));
    }
    for table in &proof.tables {
        print_line(&table_text(table, args.dry_run))?;
    }
    if args.dry_run {
        eprintln!("nothing was erased: leave --dry-run off to do it");
        return Ok(());
    }
    let place = proof.store(&lake).await.map_err(setup::lake_error)?;
    if let Some(path) = &args.proof {
        write(path, &proof)?;
    }
    print_line(&format!("proof: {place}"))?;
    super::refresh_after(&lake).await?;
    eprintln!(
        "the replaced files hold the rows until `olap vacuum --delete` takes them, a retention after now; `olap erase --verify` \
         looks whether all are gone"
    );
    Ok(())
}

impl EraseArgs {
    fn ids(&self) -> Result<Vec<String>, ExitError> {
        let mut ids = self.user.clone();
        if let Some(path) = &self.users_file {
            let text = read(path, MAX_LIST_BYTES)?;
            let text = String::from_utf8(text)
                .map_err(|_| ExitError::usage(format!("{} is not UTF-8", path.display())))?;
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            ids.extend(lines.map(str::to_owned));
        }
        if ids.is_empty() {
            return Err(ExitError::usage("no user: the list is empty"));
        }
        if ids.len() > MAX_USERS {
            return Err(ExitError::usage(format!(
                "{} users are too many at once: at most {MAX_USERS}",
                ids.len()
            )));
        }
        Ok(ids)
    }
}

/// The ids, and what the contract as it is configured makes of them: raw payloads hold the one, rows the other.
fn subjects(ids: &[String], contract: &Contract) -> Result<Subjects, ExitError> {
    // A wrong one is refused by its place in the list.
    Subjects::of_ids(ids.iter().map(String::as_str)).map_err(ExitError::usage)?;
    let now_secs = chrono::Utc::now().timestamp();
    let mut all: Vec<String> = Vec::with_capacity(ids.len() * 2);
    for id in ids {
        let record = serde_json::json!({
            "user_id": id, "device_id": "0", "ip": "192.0.2.1", "timestamp": now_secs,
        });
        let record = record.to_string();
        match contract.decode(Some(record.as_bytes()), None) {
            Ok(event) => all.push(event.user_id().to_owned()),
            Err(rejection) => {
                return Err(ExitError::usage(format!(
                    "cannot tell how the rows name a user: the contract refuses a plain record ({})",
                    rejection.reason
                )));
            }
        }
        all.push(id.clone());
    }
    Subjects::of_ids(all.iter().map(String::as_str)).map_err(ExitError::usage)
}

fn table_text(table: &TableErasure, dry_run: bool) -> String {
    let what = if dry_run { "would be erased" } else { "erased" };
    let versions: Vec<String> = table.versions.iter().map(i64::to_string).collect();
    let commits = match versions.len() {
        0 => String::new(),
        _ => format!(" by version {}", versions.join(", ")),
    };
    format!(
        "{}: {} rows of {} files {what}{commits}; {} files read; none left at version {}",
        table.table,
        table.rows,
        table.replaced_files.len(),
        table.files_read,
        table.clean_at_version
    )
    .replace(
        "; none left at version",
        if dry_run {
            "; looked at version"
        } else {
            "; none left at version"
        },
    )
}

async fn verify(lake: &Lake, path: &Path, memory: usize) -> Result<(), ExitError> {
    let proof = ErasureProof::parse(&read(path, MAX_PROOF_BYTES)?).map_err(setup::lake_error)?;
    let subjects = Subjects::of_hashes(proof.users.iter().map(String::as_str)).map_err(ExitError::usage)?;
    let remains = erase::verify(lake, &subjects, memory)
        .await
        .map_err(setup::lake_error)?;
    for file in &remains {
        let place = if file.is_in_use {
            "in use"
        } else {
            "waits for vacuum"
        };
        print_line(&format!(
            "{}/{}: {} rows, {place}",
            file.table, file.path, file.rows
        ))?;
    }
    let in_use = remains.iter().filter(|file| file.is_in_use).count();
    if in_use > 0 {
        return Err(ExitError::refused(format!(
            "{in_use} files in use hold rows of these users: they came later, or the table was restored; erase again"
        )));
    }
    if !remains.is_empty() {
        return Err(ExitError::refused(format!(
            "{} files that the newest version does not name still hold the rows: `olap vacuum --delete` takes them once the \
             retention has passed",
            remains.len()
        )));
    }
    print_line(&format!(
        "no file holds a row of the {} ids of erasure {}",
        subjects.len(),
        proof.erasure
    ))
}

fn read(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, ExitError> {
    let failed = |error: std::io::Error| ExitError::usage(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path).map_err(failed)?)
    };
    source
        .take(limit_bytes + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > limit_bytes {
        return Err(ExitError::usage(format!(
            "{} is larger than {}",
            path.display(),
            ByteSize::from_bytes(limit_bytes)
        )));
    }
    Ok(bytes)
}

fn write(path: &Path, proof: &ErasureProof) -> Result<(), ExitError> {
    let failed = |error: &dyn std::fmt::Display| {
        ExitError::failed(format!("cannot write the proof to {}: {error}", path.display()))
    };
    let text = serde_json::to_string_pretty(proof).map_err(|error| failed(&error))?;
    std::fs::write(path, text + "\n").map_err(|error| failed(&error))
}
