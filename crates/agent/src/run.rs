//! The daemon: it joins the three loops, talks to systemd, and ends when it is told to.
//!
//! The loops know nothing of one another; what joins them is made here. It starts with the last good spec in force,
//! before anybody is asked for a newer one.

use crate::config::{Config, ConfigError};
use crate::control;
use crate::enforce::host::{HostPasses, PassLock, watch as watch_host};
use crate::enforce::ledger::OpenItems;
use crate::enforce::standing::Standing;
use crate::enforce::wake::Wakes;
use crate::enforce::{Ask, Enforcer, Joints};
use crate::memory::Memory;
use crate::pull::Puller;
use crate::pulled::Pulled;
use crate::reporter::{self, HubStanding};
use evenkeel_host::Host;
use evenkeel_report::Timestamp;
use sd_notify::NotifyState;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Reports that may wait for the spool; more are merged in the loop that makes them.
const REPORTS: usize = 64;
/// How long the end may take for reports on their way to the disk, and then for passes under way.
const GRACE: Duration = Duration::from_millis(300);
/// The enforcing loop turns at least this often.
const PULSE: Duration = Duration::from_secs(5);

/// Where the configuration is read from, for the reload.
#[derive(Debug, Clone)]
pub(crate) struct ConfigPlace {
    /// The file.
    pub(crate) path: PathBuf,
    /// Whether somebody named it.
    pub(crate) named: bool,
}

impl ConfigPlace {
    /// Read it, with the variables over it.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub(crate) fn read(&self) -> Result<Config, ConfigError> {
        Config::read(&self.path, self.named, &|name| std::env::var(name).ok())
    }
}

/// Run the daemon until a signal ends it.
///
/// # Errors
/// It could not start, or one of its loops ended by itself.
pub(crate) fn run(config: Config, place: ConfigPlace) -> io::Result<()> {
    // One thread for the loops; passes, fetches and the disk have threads that go when they are not needed.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("evenkeel-pass")
        .thread_stack_size(1 << 20)
        .thread_keep_alive(Duration::from_secs(2))
        .max_blocking_threads(64)
        .build()?;
    let ended = runtime.block_on(daemon(config, place));
    // A pass that hangs is not waited for: the next start finishes what it left.
    runtime.shutdown_timeout(GRACE);
    ended
}

async fn daemon(config: Config, place: ConfigPlace) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut stop = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let config = Arc::new(config);
    let source = config.source.as_ref().map(ToString::to_string);
    tracing::info!(
        node = config.node,
        source,
        hub = config.hub,
        "evenkeel {} starts",
        env!("CARGO_PKG_VERSION")
    );
    let (configs, _) = watch::channel(config);
    let mut running = Running::start(&configs).await?;
    loop {
        tokio::select! {
            _ = stop.0.recv() => break,
            _ = stop.1.recv() => break,
            _ = hangup.recv() => reload(&configs, &place, &running.asks).await,
            which = running.first_to_end() => {
                return Err(io::Error::other(format!("the {which} loop ended by itself")));
            }
        }
    }
    tracing::info!("evenkeel ends");
    tell_systemd(&[NotifyState::Stopping]);
    running.end(&configs.borrow().clone()).await;
    Ok(())
}

/// The loops, running.
struct Running {
    /// The state folder is ours.
    _alone: Option<std::fs::File>,
    asks: mpsc::Sender<Ask>,
    memory: Memory,
    open: watch::Receiver<OpenItems>,
    pull: JoinHandle<()>,
    enforce: JoinHandle<()>,
    report: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl Running {
    async fn start(configs: &watch::Sender<Arc<Config>>) -> io::Result<Self> {
        let config = configs.borrow().clone();
        let lock = PassLock::open(&config.run_dir)?;
        let listener = control::listen(&config.run_dir)?;
        let memory = Memory::open(&config.state_dir).unwrap_or_else(|error| {
            tracing::warn!(%error, "the state folder cannot be made; a restart will remember nothing");
            Memory::at(&config.state_dir)
        });
        let alone = match memory.alone() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            // Where it cannot be had at all, nothing is written there either.
            alone => alone.ok(),
        };
        let (pulled, pulled_rx) = watch::channel(Pulled::default());
        let (standing, standing_rx) = watch::channel(Standing::default());
        let (hub, hub_rx) = watch::channel(HubStanding::default());
        let (asks, asks_rx) = mpsc::channel(16);
        let (pulls, pulls_rx) = mpsc::channel(1);
        let (reports, reports_rx) = mpsc::channel::<evenkeel_report::Report>(REPORTS);
        let remembered = memory.open_items();
        let (open, open_rx) = watch::channel(remembered.clone());

        let mut pulling = Puller::new(configs.subscribe(), pulled, pulls_rx, memory.clone());
        pulling.recall().await;
        let joints = Joints {
            config: configs.subscribe(),
            pulled: pulled_rx,
            wakes: Arc::new(Wakes::default()),
            asks: asks_rx,
            reports,
            standing,
            open,
        };
        let reporting = reporter::Joints {
            config: configs.subscribe(),
            reports: reports_rx,
            standing: standing_rx.clone(),
            asks: asks.clone(),
            hub,
        };
        let socket = control::Joints {
            config: configs.subscribe(),
            standing: standing_rx.clone(),
            hub: hub_rx,
            asks: asks.clone(),
            pulls,
        };
        Ok(Self {
            _alone: alone,
            asks,
            memory: memory.clone(),
            open: open_rx.clone(),
            enforce: tokio::spawn(enforcer(&config, lock, joints, remembered).run()),
            pull: tokio::spawn(pulling.run()),
            report: tokio::spawn(report(reporting)),
            others: vec![
                tokio::spawn(control::serve(listener, socket)),
                tokio::spawn(keep_open_items(memory, open_rx)),
                tokio::spawn(say_how_it_stands(standing_rx)),
            ],
        })
    }

    /// The name of a loop that has ended, which none should.
    async fn first_to_end(&mut self) -> &'static str {
        tokio::select! {
            _ = &mut self.pull => "pulling",
            _ = &mut self.enforce => "enforcing",
            _ = &mut self.report => "reporting",
        }
    }

    /// End: first who makes reports, then, once they are on disk, the rest.
    async fn end(self, config: &Config) {
        self.pull.abort();
        self.enforce.abort();
        let _ = tokio::time::timeout(GRACE, self.report).await;
        self.others.iter().for_each(JoinHandle::abort);
        let (memory, open) = (self.memory, self.open.borrow().clone());
        let socket = control::path(&config.run_dir);
        let last = tokio::task::spawn_blocking(move || {
            let _ = evenkeel_host::files::remove(&socket);
            memory.keep_open_items(&open)
        });
        if let Ok(Ok(Err(error))) = tokio::time::timeout(GRACE, last).await {
            tracing::warn!(%error, "what is off cannot be remembered");
        }
    }
}

fn enforcer(
    config: &Config,
    lock: PassLock,
    joints: Joints,
    remembered: OpenItems,
) -> Enforcer<HostPasses, evenkeel_host::watch::Watcher> {
    let host = Host::new(config.run_dir.clone())
        .keeping(config.state_dir.clone())
        .measuring()
        .mirroring(config.state_dir.clone(), config.ssh_known_hosts.clone());
    let watcher = watch_host(&host, joints.wakes.clone());
    let passes = HostPasses::new(host, lock, joints.config.clone());
    Enforcer::new(passes, watcher, joints, remembered, now, pulse())
}

/// What every turn of the enforcing loop does: it is what systemd's watchdog hears, and nothing else is.
///
/// It wants to be called again well before the watchdog bites, however short an administrator has made its patience.
fn pulse() -> Box<dyn FnMut() -> Duration + Send> {
    let watchdog = sd_notify::watchdog_enabled().map(|every| every / 4);
    let mut last: Option<Instant> = None;
    Box::new(move || {
        beat(&mut last, watchdog);
        watchdog.map_or(PULSE, |every| every.min(PULSE))
    })
}

fn beat(last: &mut Option<Instant>, watchdog: Option<Duration>) {
    match (*last, watchdog) {
        (None, _) => {
            tell_systemd(&[NotifyState::Ready, NotifyState::Watchdog]);
            *last = Some(Instant::now());
        }
        (Some(before), Some(every)) if before.elapsed() >= every => {
            tell_systemd(&[NotifyState::Watchdog]);
            *last = Some(Instant::now());
        }
        _ => {}
    }
}

async fn report(joints: reporter::Joints) {
    if let Err(error) = reporter::run(joints, now).await {
        tracing::error!(%error, "the spool cannot be opened");
    }
}

/// Write down what is off whenever that changes, though not more often than once a second.
async fn keep_open_items(memory: Memory, mut open: watch::Receiver<OpenItems>) {
    while open.changed().await.is_ok() {
        let items = open.borrow_and_update().clone();
        let memory = memory.clone();
        match tokio::task::spawn_blocking(move || memory.keep_open_items(&items)).await {
            Ok(Err(error)) => tracing::warn!(%error, "what is off cannot be remembered"),
            _ => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

async fn say_how_it_stands(mut standing: watch::Receiver<Standing>) {
    let mut said = String::new();
    while standing.changed().await.is_ok() {
        let sentence = crate::log::plain(&standing.borrow_and_update().sentence);
        if sentence != said {
            tracing::info!("{sentence}");
            tell_systemd(&[NotifyState::Status(&sentence)]);
            said = sentence;
        }
    }
}

/// Read the configuration again. A bad one changes nothing.
async fn reload(configs: &watch::Sender<Arc<Config>>, place: &ConfigPlace, asks: &mpsc::Sender<Ask>) {
    // What there is no clock for, systemd does not ask for.
    let since = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::Custom("RELOADING=1"));
    tell_systemd(&[NotifyState::Reloading, since]);
    let reading = place.clone();
    let read = tokio::task::spawn_blocking(move || reading.read()).await;
    match read {
        Ok(Ok(config)) if config.source.is_none() => {
            tracing::error!("the new configuration names no source; the old one stays");
        }
        Ok(Ok(config)) => {
            let old = configs.borrow().clone();
            let config = keep_what_needs_a_restart(config, &old);
            let another_hub = config.hub != old.hub;
            configs.send_replace(Arc::new(config));
            tracing::info!("the configuration was read again");
            if another_hub {
                let _ = asks.send(Ask::Full).await;
            }
        }
        Ok(Err(error)) => {
            let why = crate::log::plain(&evenkeel_core::chain(&error));
            tracing::error!("the new configuration is refused, the old one stays: {why}");
        }
        Err(error) => tracing::error!(%error, "reading the configuration fell over; the old one stays"),
    }
    tell_systemd(&[NotifyState::Ready]);
}

fn keep_what_needs_a_restart(new: Config, old: &Config) -> Config {
    let kept = (&new.node, &new.state_dir, &new.run_dir, new.spool_cap)
        == (&old.node, &old.state_dir, &old.run_dir, old.spool_cap);
    if !kept {
        tracing::warn!("node, state_dir, run_dir and spool_cap change with a restart only");
    }
    Config {
        node: old.node.clone(),
        state_dir: old.state_dir.clone(),
        run_dir: old.run_dir.clone(),
        spool_cap: old.spool_cap,
        ..new
    }
}

fn tell_systemd(state: &[NotifyState]) {
    // Where no systemd listens this does nothing, and that is no trouble.
    let _ = sd_notify::notify(state);
}

/// The time of day.
fn now() -> Timestamp {
    Timestamp::new(time::OffsetDateTime::now_utc())
}
