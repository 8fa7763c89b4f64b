//! What can be said on the command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use evenkeel_swarm::fleet::Faults;
use std::path::PathBuf;
use std::time::Duration;

/// Many simulated evenkeel agents against one hub, to load it and to see what it does about faults.
///
/// Every agent has a name, a certificate, items that drift, a spool, and tells the hub what real agents tell, over the same
/// wire. What they tell follows from the seed, so that at the end `--check` can prove that the hub has all of it, once.
/// Point it at a hub of its own: nothing takes its nodes out again.
#[derive(Debug, Parser)]
#[command(name = "evenkeel-swarm", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "EXAMPLES\n  \
    evenkeel-swarm run --hub http://127.0.0.1:8484 --agents 1000 --interval 10s --for 1m --check\n  \
    evenkeel-swarm run --hub https://hub:8443 --ca ca.pem --token-file token --identities ids --agents 1000 \\\n      \
    --outages 0.05 --clones 0.01 --liars 0.01 --skewed 0.01 --times 3 --shuffle --check\n  \
    evenkeel-swarm flood --hub http://127.0.0.1:8484 --reports 100000 --hub-pid $(pidof evenkeel-hub)\n\n\
    EXIT CODES\n  0 all is as it should be · 1 it is not, or the hub cannot be asked · 64 usage\n\n\
    A hub lets each address enrol, and each node speak, `requests_per_second` times (10): for a swarm, give it more.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Speak as real agents do: a pass and a heartbeat each interval, reports when something drifts
    Run(Run),
    /// Speak as fast as the hub acknowledges, and tell the rate, the latency and the CPU time of each event
    Flood(Flood),
    /// Have every agent let in by a token, and keep the certificates
    Enroll(Common),
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The hub: http://HOST:PORT, or https://HOST:PORT with --ca
    #[arg(long, value_name = "URL")]
    pub(crate) hub: String,
    /// The hub's authority (its ca.pem)
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// A file with a token that lets all of them in (`evenkeel-hub token create --uses N`)
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Where keys and certificates are kept, for this run and the next
    #[arg(long, value_name = "DIR")]
    pub(crate) identities: Option<PathBuf>,
    /// How many agents
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) agents: u32,
    /// How their names begin
    #[arg(long, value_name = "TEXT", default_value = "sw")]
    pub(crate) prefix: String,
    /// Their tiers, which they take in turn
    #[arg(long, value_name = "A,B,…", value_delimiter = ',', default_value = "database,middleware,web")]
    pub(crate) tiers: Vec<String>,
    /// How many items each of them has
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub(crate) items: u16,
    /// How often each of them speaks
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub(crate) interval: Duration,
    /// Over how many connections they speak; over TLS one that passes on to another agent is opened anew
    #[arg(long, value_name = "C", default_value_t = 256)]
    pub(crate) connections: usize,
    /// How many reports a request has at most
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub(crate) batch: usize,
    /// What everything is derived from; told where it is left out
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// How figures are told
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) common: Common,
    /// For how long
    #[arg(long = "for", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(crate) time: Duration,
    /// How long to wait at the end until every spool is empty
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub(crate) drain: Duration,
    /// The chance that a pass finds something off
    #[arg(long, value_name = "0..1", default_value_t = 0.05, value_parser = part)]
    pub(crate) drift: f64,
    #[command(flatten)]
    pub(crate) faults: FaultArgs,
    /// At the end prove that the hub has everything, once; of N nodes by the whole timeline
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "100")]
    pub(crate) check: Option<usize>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Faults")]
pub(crate) struct FaultArgs {
    /// The chance, at each pass, that an agent goes silent; it comes back with its spool
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = part)]
    outages: f64,
    /// For how many intervals
    #[arg(long, value_name = "N", default_value_t = 3)]
    outage_intervals: u32,
    /// The part of the agents that is there twice, with one identity
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = part)]
    clones: f64,
    /// The part that speaks in others' names, too
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = part)]
    liars: f64,
    /// The part whose clock is ten minutes off
    #[arg(long, value_name = "0..1", default_value_t = 0.0, value_parser = part)]
    skewed: f64,
    /// How often each batch is sent
    #[arg(long, value_name = "N", default_value_t = 1)]
    times: u32,
    /// Send batches in random order
    #[arg(long)]
    shuffle: bool,
}

impl FaultArgs {
    pub(crate) fn get(&self) -> Faults {
        let Self { outages, outage_intervals, clones, liars, skewed, times, shuffle } = *self;
        Faults { outages, outage_intervals, clones, liars, skewed, times, shuffle }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Flood {
    #[command(flatten)]
    pub(crate) common: Common,
    /// How many reports, each of one item with four drifts [default: 10000]
    #[arg(long, value_name = "N", conflicts_with = "heartbeats")]
    pub(crate) reports: Option<u64>,
    /// How many heartbeats
    #[arg(long, value_name = "N")]
    pub(crate) heartbeats: Option<u64>,
    /// How many events an agent sends before the next one has its turn on the connection
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) stay: u32,
    /// The hub's process, where it runs here: its CPU time and memory are told
    #[arg(long, value_name = "PID")]
    pub(crate) hub_pid: Option<u32>,
    /// PostgreSQL's first process: its CPU time is told, with that of its children
    #[arg(long, value_name = "PID")]
    pub(crate) postgres_pid: Vec<u32>,
    /// At the end prove that the hub has everything, once; of N nodes by the whole timeline
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "100")]
    pub(crate) check: Option<usize>,
}

/// `500ms`, `60s`, `5m`, `24h`, or seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err("a number and ms, s, m or h".to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| "a number and ms, s, m or h".to_owned())?;
    Duration::try_from_secs_f64(number * factor).map_err(|why| why.to_string())
}

fn part(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|part| (0.0..=1.0).contains(part)).ok_or("a number from 0 to 1".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or("a number from 1 on".to_owned())
}
