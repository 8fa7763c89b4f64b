//! From a configuration to a running hub, and its end: within a second, with nothing acknowledged lost.

use crate::accounts::Desk;
use crate::ca::{Authority, CaError, ServerIdentity};
use crate::config::{Config, Location};
use crate::door::{self, TlsError};
use crate::http::{Hub, LISTENERS, router};
use crate::invariants::{self, Watch};
use crate::metrics::Metrics;
use crate::oidc::Provider;
use crate::quota::Quota;
use crate::roll::{Roll, Rolled};
use crate::slots::Slots;
use crate::store::accounts::Accounts;
use crate::store::postgres::{PgAccounts, PgRegistry, PgSlots, PgStore, PgTelling, PgView};
use crate::store::registry::Registry;
use crate::store::sqlite::{
    SqliteAccounts, SqliteRegistry, SqliteSlots, SqliteStore, SqliteTelling, SqliteView,
};
use crate::store::telling::Telling;
use crate::store::{SlotBook, Store, StoreError, View};
use crate::tell::Teller;
use crate::tell::sinks::Sink;
use crate::who::Came;
use crate::writer::{Clock, Writer};
use hyper_util::server::graceful::GracefulShutdown;
use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

/// How long open requests may take to end once the hub was told to.
const LAST_REQUESTS: Duration = Duration::from_millis(400);

/// From when on the end of the hub's own certificate is warned of.
const SOON: time::Duration = time::Duration::days(60);

/// Why a hub does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The authority's files.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// What is in them.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store's folder.
    #[error("making the folder {path} for the store")]
    Folder {
        /// The folder.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The store's file.
    #[error("making the file {path} for the store")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The address.
    #[error("listening on {at}")]
    Listen {
        /// The addresses.
        at: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Threads or signals.
    #[error("starting the hub")]
    Start(#[source] std::io::Error),
}

/// An opened hub: what handlers share, and the thread that writes.
pub struct Served {
    /// For [`crate::http::router`].
    pub hub: Arc<Hub>,
    /// Ends when the last [`Writer`] is dropped.
    pub writer: JoinHandle<()>,
}

/// Opens the store and the authority, and starts the writer. It blocks, and must not be called where requests are served.
///
/// # Errors
/// When the store cannot be opened or the thread cannot be started.
pub fn open(config: &Config, clock: Clock) -> Result<Served, ServeError> {
    let (at, keep) = (&config.store, config.keep);
    let authority = config.tls.as_deref().map(Authority::load).transpose()?.map(Arc::new);
    let mut store = store(at)?;
    let up_before = store.last_up()?;
    // Also makes what the store needs for today.
    store.note_up(clock())?;
    let (view, registry, slots) = (view_of(at)?, registry_of(at)?, slots_of(at, config.slots.clone())?);
    let telling = telling_of(at)?;
    let provider = provider(config)?;
    let mut accounts = Desk::new(accounts_at(at)?);
    accounts.elsewhere = provider.is_some();
    let metrics = Arc::new(Metrics::default());
    let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let watch = Arc::new(Watch::new(&config.invariants, ms(config.certificate_life), ms(config.behind)));
    let roll = Arc::new(Roll::load(view.as_ref(), invariants::wanted(watch.all()))?);
    let store = Box::new(Rolled::new(store, Arc::clone(&roll)));
    if let Some(dir) = &config.tls {
        let shown = crate::ca::show(dir)?;
        let ms = |at: time::OffsetDateTime| evenkeel_report::Timestamp::new(at).unix_ms();
        metrics.gauges.set_ends(ms(shown.until), ms(shown.server_until));
    }
    let tells = config.sinks.iter().any(Sink::by_message);
    let (writer, thread) = Writer::start(store, keep, Arc::clone(&clock), Arc::clone(&metrics), tells)
        .map_err(ServeError::Start)?;
    let started = clock();
    let (certificate_life, quota) = (config.certificate_life, Quota::new(config.requests_per_second));
    let hub = Arc::new(Hub {
        writer,
        view,
        roll,
        kept: Arc::default(),
        watch,
        listeners: Arc::new(Semaphore::new(LISTENERS)),
        slots,
        registry,
        admissions: Arc::default(),
        accounts,
        provider,
        authority,
        certificate_life,
        keep: ms(keep),
        quota,
        telling,
        metrics,
        clock,
        started,
        up_before,
    });
    Ok(Served { hub, writer: thread })
}

/// Who else has accounts for this hub.
fn provider(config: &Config) -> Result<Option<Provider>, ServeError> {
    let (Some(oidc), Some(home)) = (&config.oidc, &config.public_url) else { return Ok(None) };
    let made = Provider::new(oidc.clone(), home);
    made.map(Some).map_err(|why| ServeError::Start(std::io::Error::other(format!("oidc: {why}"))))
}

/// The store at `at`, made where it is missing.
fn store(at: &Location) -> Result<Box<dyn Store>, ServeError> {
    match at {
        Location::Sqlite(path) => {
            make_folder(path)?;
            make_file(path)?;
            Ok(Box::new(SqliteStore::open(path)?))
        }
        Location::Postgres(address) => Ok(Box::new(PgStore::open(address)?)),
    }
}

/// The registry of the store at `at`, for commands beside a running hub.
///
/// # Errors
/// When the store cannot be opened or made.
pub fn registry(at: &Location) -> Result<Arc<dyn Registry>, ServeError> {
    drop(store(at)?);
    Ok(registry_of(at)?)
}

fn registry_of(at: &Location) -> Result<Arc<dyn Registry>, StoreError> {
    Ok(match at {
        Location::Sqlite(path) => Arc::new(SqliteRegistry::open(path)?),
        Location::Postgres(address) => Arc::new(PgRegistry::new(address)),
    })
}

/// What is kept of telling in the store at `at`, for commands beside a running hub.
///
/// # Errors
/// When the store cannot be opened or made.
pub fn telling(at: &Location) -> Result<Arc<dyn Telling>, ServeError> {
    drop(store(at)?);
    Ok(telling_of(at)?)
}

fn telling_of(at: &Location) -> Result<Arc<dyn Telling>, StoreError> {
    Ok(match at {
        Location::Sqlite(path) => Arc::new(SqliteTelling::open(path)?),
        Location::Postgres(address) => Arc::new(PgTelling::new(address)),
    })
}

/// The accounts and the audit log of the store at `at`, for commands beside a running hub.
///
/// # Errors
/// When the store cannot be opened or made.
pub fn accounts_of(at: &Location) -> Result<Arc<dyn Accounts>, ServeError> {
    drop(store(at)?);
    Ok(accounts_at(at)?)
}

fn accounts_at(at: &Location) -> Result<Arc<dyn Accounts>, StoreError> {
    Ok(match at {
        Location::Sqlite(path) => Arc::new(SqliteAccounts::open(path)?),
        Location::Postgres(address) => Arc::new(PgAccounts::new(address)),
    })
}

/// The reading side of the store at `at`, which has been opened before.
///
/// # Errors
/// When the store cannot be opened.
pub fn view_of(at: &Location) -> Result<Arc<dyn View>, StoreError> {
    Ok(match at {
        Location::Sqlite(path) => Arc::new(SqliteView::open(path)?),
        Location::Postgres(address) => Arc::new(PgView::new(address)),
    })
}

/// The slots in the store at `at`, which has been opened before.
///
/// # Errors
/// When the store cannot be opened.
pub fn slots_of(at: &Location, sizes: BTreeMap<String, u32>) -> Result<Slots, StoreError> {
    let book: Arc<dyn SlotBook> = match at {
        Location::Sqlite(path) => Arc::new(SqliteSlots::open(path)?),
        Location::Postgres(address) => Arc::new(PgSlots::new(address)),
    };
    Ok(Slots { book, sizes })
}

#[expect(clippy::disallowed_methods, reason = "the hub's own folder; its host is not a managed node")]
fn make_folder(store: &Path) -> Result<(), ServeError> {
    let Some(folder) = store.parent().filter(|folder| !folder.as_os_str().is_empty()) else { return Ok(()) };
    std::fs::create_dir_all(folder)
        .map_err(|source| ServeError::Folder { path: folder.display().to_string(), source })
}

/// An empty file for a new store: what nodes tell is not for every user of this machine. SQLite gives its log
/// beside it the same mode.
fn make_file(store: &Path) -> Result<(), ServeError> {
    let made = std::fs::OpenOptions::new().append(true).create(true).mode(0o640).open(store);
    made.map(drop).map_err(|source| ServeError::File { path: store.display().to_string(), source })
}

/// The wall clock (unix ms).
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| evenkeel_report::Timestamp::new(time::OffsetDateTime::now_utc()).unix_ms())
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the hub cannot start, or the server fails.
pub async fn serve(config: &Config) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Start)?;
    let asked = config.clone();
    let opened = tokio::task::spawn_blocking(move || open(&asked, wall_clock())).await;
    let Served { hub, writer } = opened.map_err(|why| ServeError::Start(std::io::Error::other(why)))??;
    let doors = doors(config)?;
    let said = doors.iter().map(Door::address).collect::<Vec<_>>().join(", ");
    tracing::info!(store = %config.store, "listening on {said}");
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("Listening on {said}"))]);

    let teller = teller(config, &hub)?;
    let (graceful, router) = (Arc::new(GracefulShutdown::new()), router(hub));
    let open = |door: Door| {
        tokio::spawn(door::open(door.listener, door.kind, router.clone(), Arc::clone(&graceful)))
    };
    let mut open: Vec<_> = doors.into_iter().map(open).collect();
    drop(router);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notify(&[NotifyState::Stopping, NotifyState::Status("Ending")]);
    // What it was about to tell is lent, and told by whoever comes next.
    if let Some(teller) = teller {
        teller.abort();
        let _ = teller.await;
    }
    for door in open.drain(..) {
        door.abort();
        let _ = door.await;
    }
    let ended = async {
        if let Some(graceful) = Arc::into_inner(graceful) {
            graceful.shutdown().await;
        }
    };
    if tokio::time::timeout(LAST_REQUESTS, ended).await.is_err() {
        tracing::info!("requests that were still open have been dropped");
    }
    wait_for(writer).await;
    tracing::info!("ended");
    Ok(())
}

/// Starts telling, where somebody is to be told.
fn teller(config: &Config, hub: &Arc<Hub>) -> Result<Option<tokio::task::JoinHandle<()>>, ServeError> {
    if config.sinks.is_empty() {
        return Ok(None);
    }
    let made = Teller::new(Arc::clone(hub), &config.sinks, config.public_url.clone());
    let teller = made.map_err(|why| ServeError::Start(std::io::Error::other(why)))?;
    Ok(Some(tokio::spawn(teller.run())))
}

/// A place where somebody may come in.
struct Door {
    listener: TcpListener,
    at: SocketAddr,
    kind: door::Kind,
}

impl Door {
    fn at(addresses: &[SocketAddr], kind: door::Kind) -> Result<Self, ServeError> {
        let at = || addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let listening = |source| ServeError::Listen { at: at(), source };
        let listener = listen(addresses).map_err(listening)?;
        let at = listener.local_addr().map_err(listening)?;
        Ok(Self { listener, at, kind })
    }

    fn address(&self) -> String {
        let scheme = if matches!(self.kind, door::Kind::Tls(_)) { "https" } else { "http" };
        format!("{scheme}://{}", self.at)
    }
}

/// How many connections may wait to be taken in. After an outage a whole fleet comes at once, and whoever finds no room
/// tries again only a second later; the kernel's own `somaxconn` may allow fewer.
const WAITING: u32 = 4096;

/// Listens on the first of these addresses that can be had.
fn listen(addresses: &[SocketAddr]) -> std::io::Result<TcpListener> {
    let one = |at: &SocketAddr| {
        let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(*at)?;
        socket.listen(WAITING)
    };
    let mut last = std::io::Error::from(std::io::ErrorKind::InvalidInput);
    for at in addresses {
        match one(at) {
            Ok(listener) => return Ok(listener),
            Err(why) => last = why,
        }
    }
    Err(last)
}

fn doors(config: &Config) -> Result<Vec<Door>, ServeError> {
    let Some(dir) = &config.tls else {
        return Ok(vec![Door::at(&config.listen, door::Kind::Plain(Came::Trusted))?]);
    };
    let identity = ServerIdentity::load(dir)?;
    let left = identity.until - time::OffsetDateTime::now_utc();
    if left < SOON {
        tracing::warn!(until = %identity.until, "the hub's own certificate ends soon: evenkeel-hub ca renew --name …");
    }
    let mut doors = vec![Door::at(&config.listen, door::Kind::Tls(door::tls(identity)?))?];
    if !config.pages.is_empty() {
        doors.push(Door::at(&config.pages, door::Kind::Plain(Came::Plain))?);
    }
    Ok(doors)
}

/// Connections that were dropped hold the writer a moment longer; the process ends without waiting for them.
async fn wait_for(writer: JoinHandle<()>) {
    for _ in 0..20 {
        if writer.is_finished() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Tells systemd, where it listens.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(state) {
        tracing::warn!(error = %why, "systemd was not told");
    }
}
