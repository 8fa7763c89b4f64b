//! evenkeel on one machine, in namespaces of its own: a first look, and an end-to-end test.
//!
//! ```text
//!   demo ──► hub (a process on the loopback)         ◄── your browser
//!    │ ▲
//!    │ └── hub.sock ◄── relay ◄──┐
//!    ├──► keeper of db1:  namespaces, agent, PostgreSQL
//!    ├──► keeper of mw1:  namespaces, agent
//!    ├──► keeper of web1: namespaces, agent
//!    └──► sweeper: removes the folder when the demo is gone
//! ```
//!
//! One binary plays every part. Nothing of the machine is changed; when the demo ends, however it ends, nothing is left.
#![allow(
    clippy::disallowed_methods,
    reason = "runs programs and writes files on purpose: it is not evenkeel, it is what evenkeel is tried on"
)]

mod adapt;
mod child;
mod drifts;
mod hub;
mod keeper;
mod looks;
mod node;
mod play;
mod postgres;
mod relay;
mod repository;
mod show;
mod sleeper;
mod stage;
mod sweep;
mod trouble;
mod view;
mod words;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use trouble::Trouble;

fn main() -> ExitCode {
    // On a node this binary lies at /run/demo/evenkeel: under that name it is evenkeel.
    let own_name = std::env::args_os().next().map(PathBuf::from);
    if own_name.is_some_and(|name| name.file_name() == Some("evenkeel".as_ref())) {
        return evenkeel_agent::main();
    }
    let arguments: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let rest = arguments.get(2..).unwrap_or_default();
    let ended = match arguments.get(1).map_or("", String::as_str) {
        hub::ROLE => hub::serve(rest),
        child::ROLE => Err(child::become_program(rest)),
        keeper::ROLE => keeper::serve(rest.first().map_or("", String::as_str)),
        sleeper::ROLE => sleeper::sleep(rest.first().map_or("", String::as_str)),
        sweep::ROLE => sweep::sweep(Path::new(rest.first().map_or("", String::as_str))),
        _ => return show::main(),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => complain(&trouble),
    }
}

/// Tell what went wrong, in the one place where that is done.
fn complain(trouble: &Trouble) -> ExitCode {
    anstream::eprintln!("demo: {}", trouble.line());
    ExitCode::FAILURE
}
