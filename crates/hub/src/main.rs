//! `evenkeel-hub`: the command line. Everything it does is in the library.

mod operate;
mod silences;
mod user;

use clap::{Args, Parser, Subcommand};
use evenkeel_hub::admin::{self, Deed, Wanted};
use evenkeel_hub::ca;
use evenkeel_hub::config::{self, Config, ConfigError, Location, Overrides};
use evenkeel_hub::writer::chain;
use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

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
    /// The hub's own certificate authority, which vouches for the hub and its nodes
    #[command(subcommand)]
    Ca(Ca),
    /// Tokens, which let nodes in
    Token {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Nodes that were let in, and shutting them out
    Node {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: NodeCommand,
    },
    /// Silences and waivers: what is off and is not to be told
    Silence {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: silences::Command,
    },
    /// People who may sign in, and tokens for their programs
    User {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: user::UserCommand,
    },
    /// Tell who did what
    Audit {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        args: user::AuditArgs,
    },
    /// Who has slots of the fleet, and freeing one that its node will not give back.
    Slots {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: SlotsCommand,
    },
}

#[derive(Debug, Subcommand)]
enum SlotsCommand {
    /// Tell every slot that is held.
    List,
    /// Free a slot whose node is gone. Works beside a hub that runs.
    Free {
        /// The group, as `list` tells it
        group: String,
        /// Who has it, as `list` tells it: NODE/HOLDER
        id: String,
        /// Free it although its node was heard of just now
        #[arg(long)]
        although_alive: bool,
    },
}

#[derive(Debug, Args)]
struct CaDir {
    /// Its folder
    #[arg(long, value_name = "DIR", default_value = "/etc/evenkeel/hub")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct CaNames {
    #[command(flatten)]
    at: CaDir,
    /// A name or an address that nodes call the hub by; may be given several times
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Ca {
    /// Make it, and a certificate for the hub; what is there already is never touched
    Init(CaNames),
    /// Give the hub a new certificate; its key stays
    Renew(CaNames),
    /// Print what to compare a node's copy of ca.pem with, and when what ends
    Show(CaDir),
}

/// Which store.
#[derive(Debug, Args)]
struct Place {
    /// The configuration that names the store
    #[arg(long, global = true, value_name = "FILE", env = "EVENKEEL_HUB_CONFIG")]
    config: Option<PathBuf>,
    /// The store
    #[arg(long, global = true, value_name = "sqlite:PATH|postgres://…", env = "EVENKEEL_HUB_STORE")]
    store: Option<String>,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make one; it is printed this once
    Create {
        /// Which nodes it lets in, as a glob over their names
        #[arg(long, value_name = "GLOB", default_value = "*")]
        nodes: String,
        /// What they must say of themselves: their tier, or labels
        #[arg(long, value_name = "KEY=VALUE,…", value_parser = labels)]
        labels: Option<Labels>,
        /// How long it holds
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = admin::duration)]
        expires: Duration,
        /// How many nodes it lets in
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
    },
    /// Tell which there are
    List(Listing),
    /// Take one back; who was let in by it stays
    Revoke {
        /// Its id, as the list has it
        id: String,
    },
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Tell which certificates there are
    List(Listing),
    /// Listen to a node, or to one certificate, no more
    Ban {
        /// The node's name, or a certificate's serial number
        #[arg(value_name = "NAME|SERIAL")]
        who: String,
    },
    /// Lift that
    Unban {
        /// As it was banned
        #[arg(value_name = "NAME|SERIAL")]
        who: String,
    },
    /// Take a node out of the fleet: it is told so, is neither silent nor missing from then on, and a token that is made
    /// later lets it in again
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
struct Listing {
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone)]
struct Labels(BTreeMap<String, String>);

fn labels(text: &str) -> Result<Labels, String> {
    admin::labels(text).map(Labels)
}

#[derive(Debug, Default, Args)]
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
    /// Speak TLS, with what `ca init` made in this folder, and listen to nodes with a certificate alone
    #[arg(long, value_name = "DIR", env = "EVENKEEL_HUB_TLS")]
    tls: Option<PathBuf>,
    /// With TLS: a second address, for the pages and the API over plain HTTP
    #[arg(long, value_name = "ADDRESS:PORT", env = "EVENKEEL_HUB_LISTEN_PAGES")]
    listen_pages: Option<String>,
    /// How long a node's certificate holds
    #[arg(long, value_name = "DURATION", hide = true, value_parser = admin::duration)]
    certificate_life: Option<Duration>,
    /// Speak plain HTTP on an address that other machines can reach
    #[arg(long)]
    insecure_listen: bool,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(why) => {
            let _ = why.print();
            return if why.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Serve(args) => serve(args),
        Command::Ca(command) => end(authority(command).map_err(|why| chain(why.as_ref()))),
        Command::Token { place, command } => beside(&place, |store| token(store, command)),
        Command::Node { place, command } => beside(&place, |store| node(store, command)),
        Command::Silence { place, command } => beside(&place, |store| silences::run(store, command)),
        Command::User { place, command } => {
            beside(&place, |store| user::user(evenkeel_hub::accounts_of(store)?.as_ref(), command, now()))
        }
        Command::Audit { place, args } => {
            beside(&place, |store| user::audit(evenkeel_hub::accounts_of(store)?.as_ref(), &args))
        }
        Command::Slots { place, command } => slots(place, command),
    }
}

fn end(ended: Result<(), String>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("evenkeel-hub: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: Serve) -> ExitCode {
    log();
    match settle(args).and_then(|config| config::try_files(&config).map(|()| config)) {
        Ok(config) => end(run(&config)),
        Err(why) => bad(&why),
    }
}

fn bad(why: &ConfigError) -> ExitCode {
    eprintln!("evenkeel-hub: {}", chain(why));
    ExitCode::from(BAD_CONFIG)
}

type Done = Result<(), Box<dyn Error>>;

/// Everything a command has to say, on standard output.
fn say(text: &str) -> Done {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn authority(command: Ca) -> Done {
    let dir = match &command {
        Ca::Init(args) | Ca::Renew(args) => args.at.dir.clone(),
        Ca::Show(at) => at.dir.clone(),
    };
    match command {
        Ca::Init(args) => ca::init(&dir, &args.names)?,
        Ca::Renew(args) => ca::renew_server(&dir, &args.names)?,
        Ca::Show(_) => {}
    }
    let ca::Shown { fingerprint, until, server_until } = ca::show(&dir)?;
    let pem = dir.join("ca.pem");
    say(&format!(
        "{}\n{fingerprint}\nauthority until {}, the hub's certificate until {}\n",
        pem.display(),
        until.date(),
        server_until.date()
    ))
}

/// A command on the store, beside a hub that may be running.
fn beside(place: &Place, act: impl FnOnce(&Location) -> Done) -> ExitCode {
    let path = Path::new(config::DEFAULT_PATH);
    let read = config::read(place.config.as_deref().unwrap_or(path), place.config.is_some());
    match read.and_then(|file| config::store(place.store.as_ref().unwrap_or(&file.store), &arguments())) {
        Ok(store) => end(act(&store).map_err(|why| chain(why.as_ref()))),
        Err(why) => bad(&why),
    }
}

fn token(store: &Location, command: TokenCommand) -> Done {
    let book = evenkeel_hub::accounts_of(store)?;
    match command {
        TokenCommand::Create { nodes, labels, expires, uses } => {
            let labels = labels.map(|labels| labels.0).unwrap_or_default();
            let wanted = Wanted { nodes, labels, expires, uses };
            let (id, secret) = admin::create(book.as_ref(), &wanted, &user::actor(now()))?;
            eprintln!("token {id}; it is not shown again");
            say(&format!("{secret}\n"))
        }
        TokenCommand::List(how) => {
            say(&admin::tokens(evenkeel_hub::registry(store)?.as_ref(), how.json, now())?)
        }
        TokenCommand::Revoke { id } => Ok(admin::revoke(book.as_ref(), &id, &user::actor(now()))?),
    }
}

fn node(store: &Location, command: NodeCommand) -> Done {
    let registry = evenkeel_hub::registry(store)?;
    let (deed, who) = match command {
        NodeCommand::List(how) => return say(&admin::nodes(registry.as_ref(), how.json, now())?),
        NodeCommand::Ban { who } => (Deed::Ban, who),
        NodeCommand::Unban { who } => (Deed::Unban, who),
        NodeCommand::Remove { name } => (Deed::Remove, name),
    };
    let book = evenkeel_hub::accounts_of(store)?;
    Ok(admin::treat(book.as_ref(), registry.as_ref(), deed, &who, &user::actor(now()))?)
}

fn slots(place: Place, command: SlotsCommand) -> ExitCode {
    let asked = Serve { config: place.config, store: place.store, insecure_listen: true, ..Serve::default() };
    let config = match settle(asked) {
        Ok(config) => config,
        Err(why) => return bad(&why),
    };
    end(match command {
        SlotsCommand::List => operate::list(&config),
        SlotsCommand::Free { group, id, although_alive } => {
            operate::free(&config, &group, &id, although_alive)
        }
    })
}

/// The whole command line.
fn arguments() -> Vec<String> {
    std::env::args_os().map(|one| one.to_string_lossy().into_owned()).collect()
}

/// The time of day (unix ms).
fn now() -> i64 {
    evenkeel_hub::wall_clock()()
}

fn settle(args: Serve) -> Result<Config, ConfigError> {
    let asked = args.config.is_some();
    let path = args.config.unwrap_or_else(|| Path::new(config::DEFAULT_PATH).to_owned());
    let file = config::read(&path, asked)?;
    let over = Overrides {
        listen: args.listen,
        tls: args.tls,
        listen_pages: args.listen_pages,
        certificate_life: args.certificate_life,
        store: args.store,
        insecure_listen: args.insecure_listen,
        arguments: arguments(),
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
