//! What it costs: drift to repaired, a pass with nothing to do against a floor that only reads the same files, the agent
//! at rest, and the size of the binary. Prints a table; asserts nothing about time.
//!
//! `cargo bench --bench node` takes a minute or so; `EVENKEEL_LONG=1` measures longer.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark: figures for people"
)]

#[path = "../support/mod.rs"]
mod support;

mod dead;
mod drift;
mod floor;
mod idle;
mod pass;
mod sockets;

use support::{EVENKEEL, Node};

/// One line of the table.
pub(crate) struct Figure {
    what: String,
    value: String,
    aim: &'static str,
}

impl Figure {
    pub(crate) fn new(what: impl Into<String>, value: String, aim: &'static str) -> Self {
        Self { what: what.into(), value, aim }
    }
}

/// What measures one thing.
type Part = fn() -> Vec<Figure>;

/// Whether to measure longer.
pub(crate) fn long() -> bool {
    std::env::var("EVENKEEL_LONG").is_ok_and(|long| !long.is_empty())
}

/// CPU time that a process has used so far, in nanoseconds, over all of its threads, ended ones too.
pub(crate) fn cpu_ns(pid: u32) -> u64 {
    let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
    let clock = nix::time::clock_getcpuclockid(pid).unwrap();
    let spent = nix::time::clock_gettime(clock).unwrap();
    u64::try_from(spent.tv_sec() * 1_000_000_000 + spent.tv_nsec()).unwrap()
}

/// This program again, on the node, in one of its inner parts.
pub(crate) fn inner(node: &Node, args: &[&str]) -> String {
    let me = std::env::current_exe().unwrap();
    let out = node.command(me).args(args).output().unwrap();
    assert!(out.status.success(), "{}", support::text(&out));
    String::from_utf8(out.stdout).unwrap()
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("inner-drift") => drift::on_the_node(&args[2]),
        Some("inner-ask") => pass::on_the_node(&args[2]),
        Some("inner-floor") => floor::on_the_node(&args[2]),
        Some("inner-sockets") => sockets::on_the_node(&args[2], &args[3]),
        Some("inner-accept") => sockets::accept(&args[2], &args[3]),
        Some("inner-connect") => sockets::connect(&args[2]),
        _ => table(&args),
    }
}

/// The whole table, or the parts that are named: `cargo bench --bench node -- pass`.
fn table(args: &[String]) {
    let named: Vec<&str> = args[1..].iter().map(String::as_str).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |part: &str| named.is_empty() || named.contains(&part);
    let mut figures = vec![];
    let parts: [(&str, Part); 5] = [
        ("drift", drift::measure),
        ("pass", pass::measure),
        ("dead", dead::measure),
        ("idle", idle::measure),
        ("sockets", sockets::measure),
    ];
    for (name, measure) in parts {
        if wanted(name) {
            figures.extend(measure());
        }
    }
    let bytes = std::fs::metadata(EVENKEEL).unwrap().len();
    figures.push(Figure::new("release binary", format!("{:.1} MB", bytes as f64 / 1e6), ""));
    println!("| what | measured | aim |\n|---|---|---|");
    for Figure { what, value, aim } in figures {
        println!("| {what} | {value} | {aim} |");
    }
}
