//! `evenkeel-swarm`: the command line. Everything it does is in the library.

mod cli;

use clap::Parser as _;
use cli::{Cli, Command, Common, Flood, Format, Run};
use evenkeel_swarm::check::{self, Verdict};
use evenkeel_swarm::drive::{Group, Swarm, now_ms};
use evenkeel_swarm::fleet::{Faults, Fleet};
use evenkeel_swarm::flood::{Watched, What};
use evenkeel_swarm::identity::Folder;
use evenkeel_swarm::link::Target;
use evenkeel_swarm::tally::Tally;
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// A usage error (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

/// How it ended: whether all was as it should be.
type Ended = Result<bool, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(why) => {
            let _ = why.print();
            return if why.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            match cli.command {
                Command::Enroll(common) => enrol(&common).await,
                Command::Run(run) => paced(&run).await,
                Command::Flood(flood) => flooded(&flood).await,
            }
        })
    });
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            let mut text = why.to_string();
            let mut cause = why.source();
            while let Some(next) = cause {
                text = format!("{text}: {next}");
                cause = next.source();
            }
            let _ = writeln!(std::io::stderr(), "evenkeel-swarm: {text}");
            ExitCode::FAILURE
        }
    }
}

/// The swarm of these options, every agent of it known to the hub.
async fn swarm(
    common: &Common,
    faults: Faults,
    drift: f64,
) -> Result<Arc<Swarm>, Box<dyn Error + Send + Sync>> {
    let target = Target::new(&common.hub, common.ca.as_deref())?;
    let seed = common.seed.unwrap_or_else(|| fastrand::u64(..));
    fastrand::seed(seed);
    let epoch = u64::try_from(now_ms())?;
    let interval_s = common.interval.as_secs().max(1);
    let mut fleet = Fleet::new(seed, &common.prefix, common.tiers.clone(), common.items, interval_s, epoch);
    fleet.faults = faults;
    if faults.liars > 0.0 && !target.secure() {
        return Err(
            "--liars needs a hub that knows who speaks (https://): over plain HTTP it believes everybody"
                .into(),
        );
    }
    let identities = common.identities.as_deref().map(Folder::new);
    if target.secure() && identities.is_none() {
        return Err("over https:// agents show certificates: --identities says where they are kept".into());
    }
    let swarm = Arc::new(Swarm {
        fleet,
        target,
        identities,
        agents: common.agents,
        connections: common.connections,
        batch: common.batch,
        interval: common.interval,
        drift,
        tally: Tally::default(),
    });
    let token = common.token_file.as_deref().map(token).transpose()?;
    let new = swarm.enrol(token.as_deref()).await?;
    if swarm.target.secure() {
        say(common, &format!("{} agents have certificates, {new} of them new", common.agents));
    }
    say(common, &format!("seed {seed}, epoch {epoch}"));
    Ok(swarm)
}

/// The first line of a file: on a command line every user could read it.
fn token(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(4096).read_to_string(&mut text));
    read.map_err(|why| format!("the token in {}: {why}", path.display()))?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

async fn enrol(common: &Common) -> Ended {
    swarm(common, Faults::default(), 0.0).await.map(|_| true)
}

async fn paced(run: &Run) -> Ended {
    let swarm = swarm(&run.common, run.faults.get(), run.drift).await?;
    let groups = swarm.run(swarm.groups(), run.time).await;
    say(&run.common, &format!("after {} s: {}", run.time.as_secs(), swarm.tally));
    let (groups, left) = swarm.settle(groups, run.drain).await;
    say(&run.common, &format!("settled: {}; agents that have something left: {left}", swarm.tally));
    let lies = Tally::get(&swarm.tally.lies_taken);
    Ok(verdict(&run.common, &swarm, &groups, run.check).await? && left == 0 && lies == 0)
}

async fn flooded(flood: &Flood) -> Ended {
    let swarm = swarm(&flood.common, Faults { times: 1, ..Faults::default() }, 0.0).await?;
    let what = match (flood.reports, flood.heartbeats) {
        (_, Some(beats)) => What::Beats(beats),
        (reports, None) => What::Reports(reports.unwrap_or(10_000)),
    };
    let watched = Watched { hub: flood.hub_pid, postgres: flood.postgres_pid.clone() };
    let groups = swarm.introduce(swarm.groups()).await;
    // What it took to be known is not measured.
    let measured = Arc::new(Swarm { tally: Tally::default(), ..unshare(swarm)? });
    let (groups, figures) = measured.flood(groups, what, flood.stay, &watched).await;
    let text = match flood.common.format {
        Format::Text => figures.to_string(),
        Format::Json => serde_json::to_string(&figures)?,
    };
    writeln!(std::io::stdout(), "{text}")?;
    let (groups, left) = measured.settle(groups, std::time::Duration::from_mins(1)).await;
    Ok(verdict(&flood.common, &measured, &groups, flood.check).await? && left == 0)
}

fn unshare(swarm: Arc<Swarm>) -> Result<Swarm, &'static str> {
    Arc::try_unwrap(swarm).map_err(|_| "an agent speaks still")
}

/// The proof, where it was asked for.
async fn verdict(common: &Common, swarm: &Swarm, groups: &[Group], sample: Option<usize>) -> Ended {
    let Some(sample) = sample else { return Ok(true) };
    let verdict: Verdict = check::check(swarm, groups, sample).await?;
    let text = match common.format {
        Format::Text => verdict.to_string(),
        Format::Json => serde_json::to_string(&verdict)?,
    };
    writeln!(std::io::stdout(), "{text}")?;
    Ok(verdict.good())
}

/// Something for a person; programs read standard output alone.
fn say(common: &Common, text: &str) {
    if common.format == Format::Text {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}
