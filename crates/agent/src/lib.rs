//! evenkeel's daemon and command line.
//!
//! Three loops that never wait for one another: **pull** (a source's files become a spec), **enforce** (lanes of passes
//! bring the node to it) and **report** (what was found goes to the hub through a spool). They are joined by channels
//! and watched values alone. The machine is touched through `evenkeel-host`.

mod config;
mod enforce;
mod log;
mod memory;
mod pulled;
mod reporter;
mod sealed;
mod source;

/// Run the program with the process's arguments.
pub fn main() -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
