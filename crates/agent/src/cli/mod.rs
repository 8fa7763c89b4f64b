//! The command line: what may be typed, and which exit code it ends with.
//!
//! 0 is good, 1 an error, 2 "something is off", 64 a usage error, 69 a hub that does not answer, 78 a bad
//! configuration. Scripts lean on these.

mod apply;
mod doctor;
mod fleet;
mod fleet_hub;
mod fleet_rollout;
mod fleet_status;
mod load;
mod look;
mod man;
mod paint;
mod plan;
mod probe;
mod status;

use crate::config::DEFAULT_PATH;
use crate::run::ConfigPlace;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::process::ExitCode;

/// Something is off.
const OFF: u8 = 2;
/// Something went wrong.
const WRONG: u8 = 1;
/// sysexits' `EX_USAGE`.
const USAGE: u8 = 64;
/// sysexits' `EX_UNAVAILABLE`.
const AWAY: u8 = 69;
/// sysexits' `EX_CONFIG`.
const BAD_CONFIG: u8 = 78;

/// Keeps this node even with a spec that is pulled from a git repository.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, max_term_width = 100)]
struct Cli {
    /// The agent's configuration.
    #[arg(long, global = true, env = "EVENKEEL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: pull, enforce, report.
    Run,
    /// Show what would change here, like a diff, and change nothing.
    Plan {
        #[command(flatten)]
        spec: SpecArgs,
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Make one pass now.
    Apply {
        #[command(flatten)]
        spec: SpecArgs,
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Tell what the running agent last found.
    Status {
        /// Go on telling.
        #[arg(long)]
        watch: bool,
        /// List even items too.
        #[arg(long)]
        all: bool,
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Tell what this node can and cannot do, why, and what to do about it. Changes nothing.
    Doctor {
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Tell where a value comes from: every layer that spoke, and who won.
    Explain {
        /// An item, or a value in one: `sysctl/net.ipv4.tcp_retries2`
        item: String,
        #[command(flatten)]
        spec: SpecArgs,
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Check a whole spec repository, for every node it names.
    Validate {
        /// Its folder.
        dir: PathBuf,
        /// How to print what is wrong.
        #[arg(long, value_enum, default_value_t)]
        format: ReportFormat,
    },
    /// Print the merged spec of one node.
    Render {
        /// The node.
        node: String,
        /// The spec repository.
        #[arg(long, value_name = "SOURCE")]
        spec: String,
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Measure how long a network path lets a silent connection live.
    ///
    /// Several connections are opened and left silent, and each is asked after another while, by a TCP keepalive probe,
    /// whether it still lives; nothing is sent to the peer. That takes up to about twice the longest silence, and how
    /// long is said first. Run it on a node whose connections hang, against the port that they lead to.
    Probe(probe::ProbeArgs),
    /// Ask a hub how the whole fleet stands. Changes nothing.
    ///
    /// Ends with 0 where everything that was asked for is even, with 2 where something is not, and with 69 where the hub does not
    /// answer.
    Fleet(fleet::FleetArgs),
    /// Print the JSON Schema of what a spec repository is written in.
    Schema {
        /// One of them alone.
        #[arg(value_parser = ["fleet", "document"])]
        which: Option<String>,
    },
    /// List the kinds of thing that can be kept, each with an example.
    Kinds {
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print a completion script.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// Which spec, and for whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct SpecArgs {
    /// A folder, or <git+ssh://…#branch>. Left out: what the agent here keeps.
    #[arg(long, value_name = "SOURCE")]
    pub(crate) spec: Option<String>,
    /// The node. Left out: this one.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For what shows findings beside code.
    Sarif,
}

/// Why a command came to nothing.
pub(crate) enum Failure {
    /// The configuration is bad.
    Config(String),
    /// It was typed wrongly.
    Usage(String),
    /// Whoever was asked does not answer, and may later.
    Away(String),
    /// Anything else.
    Wrong(String),
}

impl Failure {
    /// An error and all beneath it.
    pub(crate) fn wrong(error: &dyn std::error::Error) -> Self {
        Self::Wrong(evenkeel_core::chain(error))
    }
}

/// What a command ends with.
pub(crate) type Ending = Result<u8, Failure>;

/// Run the program with the process's arguments.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let (code, why) = match dispatch(cli) {
        Ok(code) => return ExitCode::from(code),
        Err(Failure::Config(why)) => (BAD_CONFIG, why),
        Err(Failure::Usage(why)) => (USAGE, why),
        Err(Failure::Away(why)) => (AWAY, why),
        Err(Failure::Wrong(why)) => (WRONG, why),
    };
    let why: Vec<String> = why.lines().map(crate::log::plain).collect();
    anstream::eprintln!("{} {}", paint::bad("evenkeel:"), why.join("\n"));
    ExitCode::from(code)
}

fn dispatch(cli: Cli) -> Ending {
    let place = ConfigPlace {
        named: cli.config.is_some(),
        path: cli.config.unwrap_or_else(|| PathBuf::from(DEFAULT_PATH)),
    };
    match cli.command {
        Command::Run => run(place),
        Command::Plan { spec, format } => plan::plan(&place, &spec, format),
        Command::Apply { spec, format } => apply::apply(&place, &spec, format),
        Command::Status { watch, all, format } => status::status(&place, watch, all, format),
        Command::Doctor { format } => doctor::doctor(&place, format),
        Command::Explain { item, spec, format } => look::explain(&place, &item, &spec, format),
        Command::Validate { dir, format } => look::validate(&dir, format),
        Command::Render { node, spec, format } => look::render(&place, &node, &spec, format),
        Command::Probe(args) => probe::probe(&args),
        Command::Fleet(args) => fleet::fleet(&place, &args),
        Command::Schema { which } => look::schema(which.as_deref()),
        Command::Kinds { format } => look::kinds(format),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "evenkeel", &mut script);
            paint::raw(&script)
        }
        Command::Man => {
            let page = man::page(Cli::command()).map_err(|error| Failure::wrong(&error))?;
            paint::raw(&page)
        }
    }
}

fn run(place: ConfigPlace) -> Ending {
    crate::log::start("info");
    let config = place.read().map_err(|error| Failure::Config(evenkeel_core::chain(&error)))?;
    if config.source.is_none() {
        let why = format!("{} names no source: write `source: git+ssh://…#branch`", place.path.display());
        return Err(Failure::Config(why));
    }
    crate::run::run(config, place).map_err(|error| Failure::wrong(&error))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }
}
