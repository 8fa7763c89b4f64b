//! The show: the command line, the order of things, and the verdict.

use crate::complain;
use crate::drifts::DRIFTS;
use crate::play::{Outcome, play};
use crate::stage::Stage;
use crate::trouble::{Doing, Result, Trouble};
use crate::view::{Tone, View};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Ctrl-C, SIGTERM or SIGHUP came.
static STOP: AtomicBool = AtomicBool::new(false);

/// How long an orderly end may take after Ctrl-C before the kernel makes a quick one.
const ORDERLY: Duration = Duration::from_secs(8);

/// evenkeel on one machine, without touching its settings: three nodes, a git repository, a hub with its page.
#[derive(Debug, Parser)]
#[command(name = "demo", version)]
struct Options {
    /// Drift everything once, prove that it comes back, and exit 0, or 1 with what failed.
    #[arg(long)]
    once: bool,
    /// End the show after so many seconds.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Seconds between two drifts.
    #[arg(long, value_name = "N", default_value_t = 4)]
    every: u64,
    /// Only drifts whose name contains this; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Keep the folder with the repository, the logs and the hub's database.
    #[arg(long)]
    keep: bool,
    /// Another spec repository than examples/eden; it must name db1, mw1 and web1.
    #[arg(long, value_name = "DIR")]
    spec: Option<PathBuf>,
}

/// The demo as a person starts it.
pub(crate) fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(trouble) => complain(&trouble),
    }
}

/// Whether everything came back.
fn run(options: &Options) -> Result<bool> {
    let wanted =
        |name: &str| options.only.is_empty() || options.only.iter().any(|only| name.contains(only.as_str()));
    if !DRIFTS.iter().any(|drift| wanted(drift.name)) {
        let names: Vec<_> = DRIFTS.iter().map(|drift| drift.name).collect();
        return Err(Trouble::told(format!("--only names no drift; there are {}", names.join(", "))));
    }
    listen_for_signals()?;
    let start = Instant::now();
    let over = || {
        STOP.load(Ordering::Acquire)
            || options.seconds.is_some_and(|seconds| start.elapsed() > Duration::from_secs(seconds))
    };
    let mut view = View::new();
    let stage = Stage::build(options.spec.as_deref(), options.keep, &mut view)?;
    view.say(Tone::Plain, &format!("the hub's page: {}", stage.hub.page()));
    stage.until_even(&mut view, &over)?;
    let mut outcomes = Vec::new();
    'show: while !over() {
        for drift in DRIFTS.iter().filter(|drift| wanted(drift.name)) {
            if over() {
                break 'show;
            }
            outcomes.extend(play(drift, &stage.scene(), &stage.hub, &mut view));
            pause(&stage, &mut view, if options.once { 0 } else { options.every }, &over);
        }
        if options.once {
            break;
        }
    }
    view.finish();
    let good = verdict(&outcomes, options.once, &mut view);
    view.say(Tone::Faint, "taking it all down");
    drop(stage);
    Ok(good)
}

/// Wait with the table kept up to date.
fn pause(stage: &Stage, view: &mut View, seconds: u64, over: &dyn Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        stage.refresh(view);
        if over() || Instant::now() >= until {
            return;
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Whether all came back; a table of it where it was asked for.
fn verdict(outcomes: &[Outcome], once: bool, view: &mut View) -> bool {
    let bad: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect();
    if once {
        anstream::println!("\n{}", summary(outcomes));
    }
    for outcome in &bad {
        let failure = outcome.failure.as_deref().unwrap_or_default();
        view.say(Tone::Bad, &format!("{}: {failure}", outcome.name));
    }
    let skipped = DRIFTS.len().saturating_sub(outcomes.len());
    let good = bad.is_empty() && !(once && outcomes.is_empty());
    if once {
        let text = format!(
            "{} of {} drifts came back, {skipped} not played",
            outcomes.len() - bad.len(),
            outcomes.len()
        );
        view.say(if good { Tone::Good } else { Tone::Bad }, &text);
    }
    good
}

fn summary(outcomes: &[Outcome]) -> String {
    let cells = |outcome: &Outcome| {
        let verdict = if outcome.failure.is_some() { "FAILED".to_owned() } else { outcome.repaired.clone() };
        [outcome.name, outcome.node.as_str(), outcome.layer, &outcome.observed, &verdict, &outcome.hub]
            .map(str::to_owned)
    };
    let head = ["drift", "node", "layer", "observed", "repaired in", "the hub has"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(outcomes.iter().map(cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Have signals end the show in good order; and if that takes too long, at once: whatever is tied to this process
/// ends with it, and the sweeper clears up.
fn listen_for_signals() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing(|| "listen for signals".into())?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)] = kinds.map(signal) else { return };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            STOP.store(true, Ordering::Release);
            tokio::select! {
                _ = interrupt.recv() => {}
                () = tokio::time::sleep(ORDERLY) => {}
            }
            std::process::exit(130);
        });
    });
    Ok(())
}
