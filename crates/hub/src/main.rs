//! `evenkeel-hub`: the command line. Everything it does is in the library.

mod operate;

use clap::{Args, Parser, Subcommand};
use evenkeel_hub::config::{self, Config, ConfigError, Overrides};
use evenkeel_hub::writer::chain;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A usage error (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;
/// A bad configuration (`EX_CONFIG` of sysexits.h).
const BAD_CONFIG: u8 = 78;

/// evenkeel's central endpoint: takes what agents report, keeps it, and shows how the fleet stands.
#[derive(Debug, Parser)]
#[command(name = "evenkeel-hub", version, subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Listen for reports and heartbeats, and serve the pages and the API, until SIGTERM.
    Serve(Serve),
    /// Who has slots of the fleet, and freeing one that its node will not give back.
    #[command(subcommand)]
    Slots(SlotsCommand),
}

#[derive(Debug, Subcommand)]
enum SlotsCommand {
    /// Tell every slot that is held.
    List(StoreArgs),
    /// Free a slot whose node is gone. Works beside a hub that runs.
    Free {
        /// The group, as `list` tells it
        group: String,
        /// Who has it, as `list` tells it: NODE/HOLDER
        id: String,
        /// Free it although its node was heard of just now
        #[arg(long)]
        although_alive: bool,
        #[command(flatten)]
        store: StoreArgs,
    },
}

#[derive(Debug, Args)]
struct StoreArgs {
    /// The configuration; a missing /etc/evenkeel/hub.yaml means the defaults
    #[arg(long, value_name = "FILE", env = "EVENKEEL_HUB_CONFIG")]
    config: Option<PathBuf>,
    #[arg(help = "Where everything is kept [default: sqlite:/var/lib/evenkeel-hub/hub.db]")]
    #[arg(long, value_name = "sqlite:PATH|postgres://…", env = "EVENKEEL_HUB_STORE")]
    store: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "The command line is over the environment, and that over the file.\n\
                        Exit codes: 0 ended by a signal, 1 failed, 64 usage, 78 bad configuration.")]
struct Serve {
    /// The configuration; a missing /etc/evenkeel/hub.yaml means the defaults
    #[arg(long, value_name = "FILE", env = "EVENKEEL_HUB_CONFIG")]
    config: Option<PathBuf>,
    /// Where to listen [default: 127.0.0.1:8484]
    #[arg(long, value_name = "ADDRESS:PORT", env = "EVENKEEL_HUB_LISTEN")]
    listen: Option<String>,
    #[arg(help = "Where to keep everything [default: sqlite:/var/lib/evenkeel-hub/hub.db]")]
    #[arg(long, value_name = "sqlite:PATH|postgres://…", env = "EVENKEEL_HUB_STORE")]
    store: Option<String>,
    /// Speak plain HTTP on an address that other machines can reach
    #[arg(long)]
    insecure_listen: bool,
}

/// What a command does once its configuration holds together.
type Work = Box<dyn FnOnce(&Config) -> Result<(), String>>;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(why) => {
            let _ = why.print();
            return if why.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    log();
    let (config, work): (_, Work) = match cli.command {
        Command::Serve(args) => (settle(args), Box::new(run)),
        Command::Slots(SlotsCommand::List(args)) => (settle(args.into()), Box::new(operate::list)),
        Command::Slots(SlotsCommand::Free { group, id, although_alive, store }) => {
            let free = move |config: &Config| operate::free(config, &group, &id, although_alive);
            (settle(store.into()), Box::new(free))
        }
    };
    let config = match config {
        Ok(config) => config,
        Err(why) => {
            eprintln!("evenkeel-hub: {}", chain(&why));
            return ExitCode::from(BAD_CONFIG);
        }
    };
    match work(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("evenkeel-hub: {why}");
            ExitCode::FAILURE
        }
    }
}

impl From<StoreArgs> for Serve {
    fn from(args: StoreArgs) -> Self {
        Self { config: args.config, store: args.store, listen: None, insecure_listen: true }
    }
}

fn settle(args: Serve) -> Result<Config, ConfigError> {
    let asked = args.config.is_some();
    let path = args.config.unwrap_or_else(|| Path::new(config::DEFAULT_PATH).to_owned());
    let file = config::read(&path, asked)?;
    let arguments = std::env::args_os().map(|one| one.to_string_lossy().into_owned()).collect();
    let over = Overrides {
        listen: args.listen,
        store: args.store,
        insecure_listen: args.insecure_listen,
        arguments,
    };
    config::settle(file, over)
}

fn run(config: &Config) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| format!("starting the runtime: {why}"))?;
    let served = runtime.block_on(evenkeel_hub::serve(config)).map_err(|why| chain(&why));
    // A reader in the middle of a long answer does not keep the hub from ending.
    runtime.shutdown_background();
    served
}

/// To the terminal or the journal; `RUST_LOG` says how much.
fn log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let colour = terminal && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
}
