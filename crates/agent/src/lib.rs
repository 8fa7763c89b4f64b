//! evenkeel's daemon and command line.
//!
//! Three loops that never wait for one another: **pull** (a source's files become a spec), **enforce** (lanes of passes
//! bring the node to it) and **report** (what was found goes to the hub through a spool). They are joined by channels
//! and watched values alone. The machine is touched through `evenkeel-host`.

mod cli;
mod config;
mod control;
mod enforce;
mod log;
mod memory;
mod pull;
mod pulled;
mod reporter;
mod run;
mod sealed;
mod source;

/// Run the program with the process's arguments.
#[must_use]
pub fn main() -> std::process::ExitCode {
    cli::main()
}
