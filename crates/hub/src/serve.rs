//! From a configuration to a running hub, and its end: within a second, with nothing acknowledged lost.

use crate::config::{Config, Location};
use crate::http::{Hub, router};
use crate::metrics::Metrics;
use crate::slots::Slots;
use crate::store::postgres::{PgSlots, PgStore, PgView};
use crate::store::sqlite::{SqliteSlots, SqliteStore, SqliteView};
use crate::store::{SlotBook, Store, StoreError, View};
use crate::writer::{Clock, Writer};
use sd_notify::NotifyState;
use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How long open requests may take to end once the hub was told to.
const LAST_REQUESTS: Duration = Duration::from_millis(400);

/// Why a hub does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// The server.
    #[error("serving")]
    Serve(#[source] std::io::Error),
}

/// An opened hub: what handlers share, and the thread that writes.
pub struct Served {
    /// For [`crate::http::router`].
    pub hub: Arc<Hub>,
    /// Ends when the last [`Writer`] is dropped.
    pub writer: JoinHandle<()>,
}

/// Opens the store and starts the writer. It blocks, and must not be called where requests are served.
///
/// # Errors
/// When the store cannot be opened or the thread cannot be started.
pub fn open(
    at: &Location,
    keep: Duration,
    sizes: BTreeMap<String, u32>,
    clock: Clock,
) -> Result<Served, ServeError> {
    let (mut store, view) = sides(at)?;
    let up_before = store.last_up()?;
    // Also makes what the store needs for today.
    store.note_up(clock())?;
    let slots = slots_of(at, sizes)?;
    let metrics = Arc::new(Metrics::default());
    let (writer, thread) =
        Writer::start(store, keep, Arc::clone(&clock), Arc::clone(&metrics)).map_err(ServeError::Start)?;
    let started = clock();
    let hub = Arc::new(Hub { writer, view, slots, metrics, clock, started, up_before });
    Ok(Served { hub, writer: thread })
}

/// The writing and the reading side.
type Sides = (Box<dyn Store>, Arc<dyn View>);

fn sides(at: &Location) -> Result<Sides, ServeError> {
    if let Location::Sqlite(path) = at {
        make_folder(path)?;
        make_file(path)?;
    }
    let store: Box<dyn Store> = match at {
        Location::Sqlite(path) => Box::new(SqliteStore::open(path)?),
        Location::Postgres(address) => Box::new(PgStore::open(address)?),
    };
    Ok((store, view_of(at)?))
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
fn wall_clock() -> Clock {
    Arc::new(|| evenkeel_report::Timestamp::new(time::OffsetDateTime::now_utc()).unix_ms())
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When the hub cannot start, or the server fails.
pub async fn serve(config: &Config) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Start)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Start)?;
    let (store, keep, sizes) = (config.store.clone(), config.keep, config.slots.clone());
    let opened = tokio::task::spawn_blocking(move || open(&store, keep, sizes, wall_clock())).await;
    let Served { hub, writer } = opened.map_err(|why| ServeError::Start(std::io::Error::other(why)))??;
    let at = || config.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let listening = |source| ServeError::Listen { at: at(), source };
    let listener = TcpListener::bind(config.listen.as_slice()).await.map_err(listening)?;
    let address = listener.local_addr().map_err(listening)?;
    tracing::info!(store = %config.store, "listening on http://{address}");
    notify(&[NotifyState::Ready, NotifyState::Status(&format!("Listening on http://{address}"))]);

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, router(hub)).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let mut server = Box::pin(std::future::IntoFuture::into_future(server));
    tokio::select! {
        ended = &mut server => return ended.map_err(ServeError::Serve),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    notify(&[NotifyState::Stopping, NotifyState::Status("Ending")]);
    let _ = stop.send(());
    if tokio::time::timeout(LAST_REQUESTS, &mut server).await.is_err() {
        tracing::info!("requests that were still open have been dropped");
    }
    drop(server);
    wait_for(writer).await;
    tracing::info!("ended");
    Ok(())
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
