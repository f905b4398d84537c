//! The binary `generate`: login events for the topic `user-login`, into Kafka or a file.
//!
//! Events go to Kafka or to the file, everything else to stderr. SIGINT and SIGTERM end the run in order: what was sent
//! is flushed, and the summary says how much it was. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod args;
mod command;

fn main() -> std::process::ExitCode {
    loginlake_service::exit::finish(command::generate())
}
