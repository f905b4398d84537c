//! `realtime dead-letters`: what was rejected and why, one record in full, and another try.
//!
//! `list` and `show` only read, without a consumer group. `replay` puts the original key and bytes back to the input topic,
//! each dead letter once, whatever fails (see `replay`). All three end by themselves: they read what the topic held when
//! they started.
//!
//! - `args`: the command line; `select`: which dead letters are meant
//! - `letter`: a record of the topic as a dead letter; `text`: what is safe to show on a terminal
//! - `scan`: the topic from a point to its end; `list`, `show`
//! - `replay`: transactions of records and offsets; `verdict`: which are replayed, and as what

mod args;
mod letter;
mod list;
mod replay;
mod scan;
mod select;
mod show;
mod text;
mod verdict;

use std::io::{self, IsTerminal as _, Write as _};

use loginlake_service::config::ConfigFile;
use loginlake_service::exit::ExitError;

pub use args::{DeadLettersArgs, DeadLettersCommand, Format, ListArgs, ReplayArgs, ShowArgs};
pub use replay::{ReplayOptions, Tally, replay};
pub use select::{Position, Reason, Selection, TimeBound};

/// Runs one of the commands; what was asked for goes to standard output.
///
/// # Errors
/// A usage error for settings that cannot work, a refusal (code 3) when another replay took over, a failure otherwise.
pub fn run(args: DeadLettersArgs, file: &ConfigFile) -> Result<(), ExitError> {
    let now_ms = chrono::Utc::now().timestamp_millis();
    let (where_, command) = args.resolve(file)?;
    let mut out = io::stdout().lock();
    match command {
        DeadLettersCommand::List(list) => {
            let found = list::newest(
                &where_.dead_letters,
                &where_.topics.dead_letter,
                &list.selection(now_ms),
                list.limit(),
            )?;
            found.print(list.format(), &mut out)?;
            found.tell_what_is_left_out();
            Ok(())
        }
        DeadLettersCommand::Show(show) => show::show(
            &where_.dead_letters,
            &where_.topics.dead_letter,
            show.position(),
            &mut out,
        ),
        DeadLettersCommand::Replay(args) => {
            let options = where_.replay_options(&args, now_ms)?;
            if !args.is_dry_run() && !args.is_confirmed() && !confirm(&options)? {
                return Ok(());
            }
            let tally = replay(&options)?;
            tally.print(options.dry_run, &mut out)
        }
    }
}

/// Asks the person at the terminal, after telling what would be done.
fn confirm(options: &ReplayOptions) -> Result<bool, ExitError> {
    if !io::stdin().is_terminal() {
        return Err(
            ExitError::usage("a replay without a terminal has to be confirmed")
                .with_hint("give --yes, or --dry-run to see what would be replayed"),
        );
    }
    let tally = replay(&ReplayOptions {
        dry_run: true,
        ..options.clone()
    })?;
    let mut terminal = io::stderr().lock();
    tally.print(true, &mut terminal)?;
    if tally.considered == 0 {
        return Ok(false);
    }
    let failed = |error| ExitError::failed(format!("cannot ask at the terminal: {error}"));
    write!(
        terminal,
        "replay {} records to {}? [y/N] ",
        tally.replayed, options.input_topic
    )
    .and_then(|()| terminal.flush())
    .map_err(failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

#[cfg(test)]
mod tests;
