//! The PostgreSQL store: one connection that writes whole batches, a few that read. Any number of hubs may use one
//! database; what keeps them from each other's way is a lock on each node's row for as long as a batch takes.
//!
//! A database that is away is an error of its own: requests are answered "try again" and nothing waits for it.

mod accounts;
mod acts;
mod address;
mod days;
mod desk;
mod flush;
mod ground;
mod link;
mod registry;
mod rows;
mod schema;
mod slots;
mod telling;
mod tls;
mod view;

pub use accounts::PgAccounts;
pub use address::{Address, Tls};
pub use registry::PgRegistry;
pub use slots::PgSlots;
pub use telling::PgTelling;
pub use view::PgView;

use super::batch::{Batch, Known};
use super::{ON_ITS_WAY_MS, Result, Store, StoreError, Tx};
use flush::Columns;
use ground::{Cache, PgGround};
use link::Link;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long the first and the longest pause is between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MOST: Duration = Duration::from_secs(8);
/// How often one transaction is tried.
const TRIES: usize = 4;
/// The writer finds every row by its key, however few or many rows the server believes there are.
const WRITER: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                      SET synchronous_commit = on; SET plan_cache_mode = force_generic_plan";

/// The writing side.
#[derive(Debug)]
pub struct PgStore {
    address: Address,
    link: Option<Link>,
    cache: Cache,
    days: BTreeSet<i64>,
    pause: Duration,
    next: Instant,
}

/// What became of one try.
enum Stop {
    /// It failed for good.
    Failed(StoreError),
    /// Another transaction was in the way.
    Contended(StoreError),
    /// Days of the history have no partition yet.
    Days(BTreeSet<i64>),
}

impl From<StoreError> for Stop {
    fn from(why: StoreError) -> Self {
        Self::Failed(why)
    }
}

impl PgStore {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    /// When the database cannot be reached, does not let us in, or was written by a newer hub.
    pub fn open(address: &Address) -> Result<Self> {
        let link = Link::open(address, WRITER)?;
        schema::migrate(&link)?;
        let days = days::list(&link)?;
        let address = address.clone();
        Ok(Self {
            address,
            link: Some(link),
            cache: Cache::default(),
            days,
            pause: PAUSE,
            next: Instant::now(),
        })
    }

    /// The connection, made anew if it is gone; an error at once while it is too early to try again.
    fn link(&mut self) -> Result<&Link> {
        if self.link.as_ref().is_some_and(Link::broken) {
            self.link = None;
        }
        if self.link.is_none() {
            self.link = Some(self.connect()?);
        }
        self.link.as_ref().ok_or_else(|| self.too_early())
    }

    fn connect(&mut self) -> Result<Link> {
        if Instant::now() < self.next {
            return Err(self.too_early());
        }
        // What was promised is looked at again: it may be another server now, or an older copy.
        let opened = Link::open(&self.address, WRITER).and_then(|link| {
            schema::migrate(&link)?;
            Ok((days::list(&link)?, link))
        });
        match opened {
            Ok((days, link)) => {
                tracing::info!(store = self.address.place(), "the database is back");
                (self.pause, self.days, self.cache) = (PAUSE, days, Cache::default());
                Ok(link)
            }
            Err(why) => {
                self.next = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(PAUSE_MOST);
                Err(why)
            }
        }
    }

    fn too_early(&self) -> StoreError {
        let source = "it was away a moment ago and is not asked yet".into();
        StoreError::Away { doing: "connecting", place: self.address.place(), source }
    }

    /// Runs `ask` on the connection; one that was lost since it was last used is made anew once.
    fn with<T>(&mut self, mut ask: impl FnMut(&Link) -> Result<T>) -> Result<T> {
        let fresh = self.link.is_none();
        let answer = ask(self.link()?);
        match answer {
            Err(StoreError::Away { .. }) if !fresh => {
                self.link = None;
                let again = ask(self.link()?);
                self.drop_if_away(again)
            }
            answer => self.drop_if_away(answer),
        }
    }

    fn drop_if_away<T>(&mut self, answer: Result<T>) -> Result<T> {
        if matches!(answer, Err(StoreError::Away { .. })) {
            self.link = None;
        }
        answer
    }

    fn once(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> std::result::Result<(), Stop> {
        self.link()?;
        let Some(link) = &self.link else { return Err(self.too_early().into()) };
        let mut ground = PgGround::new(link, &mut self.cache);
        let mut batch = Batch::new(&mut ground);
        let worked = work(&mut batch);
        let nodes = batch.finish();
        let (begun, contended) = (ground.begun, ground.contended);
        let written = worked.map_err(|why| if contended { Stop::Contended(why) } else { Stop::Failed(why) });
        let written = written.and_then(|()| write(link, &nodes, &self.days));
        match written {
            Ok(()) => {
                for known in nodes {
                    self.cache.keep(known);
                }
                Ok(())
            }
            Err(why) => {
                if begun && !link.broken() {
                    let _ = link.ask(|it| async move { it.client.batch_execute("ROLLBACK").await });
                }
                Err(why)
            }
        }
    }

    fn make(&mut self, days: &BTreeSet<i64>) -> Result<()> {
        let missing: BTreeSet<i64> = days.difference(&self.days).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        self.with(|link| days::make(link, &missing))?;
        self.days.extend(missing);
        Ok(())
    }
}

/// Writes what changed, and commits.
fn write(link: &Link, nodes: &[Known], days: &BTreeSet<i64>) -> std::result::Result<(), Stop> {
    let columns = Columns::of(nodes)?;
    let missing: BTreeSet<i64> = columns.days.difference(days).copied().collect();
    if !missing.is_empty() {
        return Err(Stop::Days(missing));
    }
    columns.write(link).map_err(|why| {
        let contended = why.contended();
        let why = why.told("writing a batch", link.place());
        if contended { Stop::Contended(why) } else { Stop::Failed(why) }
    })
}

impl Store for PgStore {
    fn transaction(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()> {
        let mut left = TRIES;
        loop {
            let fresh = self.link.is_none();
            left -= 1;
            match self.once(work) {
                Ok(()) => return Ok(()),
                Err(Stop::Days(days)) if left > 0 => self.make(&days)?,
                Err(Stop::Contended(_)) if left > 0 => {}
                // The connection was lost since it was last used. Whether this batch is stored may not be known,
                // and need not be: stored twice it is stored once.
                Err(Stop::Failed(StoreError::Away { .. })) if !fresh && left > 0 => self.link = None,
                Err(Stop::Failed(why) | Stop::Contended(why)) => return self.drop_if_away(Err(why)),
                Err(Stop::Days(_)) => {
                    let source = "somebody else drops the days of the history that are made".into();
                    return Err(StoreError::Sql { doing: "writing a batch", source });
                }
            }
        }
    }

    fn prune(&mut self, before: i64, most: usize) -> Result<usize> {
        let gone = self.with(|link| days::forget(link, before, most))?;
        if gone > 0 {
            self.days = self.with(days::list)?;
        }
        // Nodes go when their history has gone.
        if gone < most { Ok(gone + self.with(|link| forget_retired(link, before))?) } else { Ok(gone) }
    }

    fn note_up(&mut self, now: i64) -> Result<()> {
        self.make(&days::ahead(now))?;
        let text = "INSERT INTO meta (key, value) VALUES ('up', $1) \
                    ON CONFLICT (key) DO UPDATE SET value = greatest(meta.value, excluded.value)";
        self.with(|link| {
            link.tell("noting that the hub is up", |it| async move { it.client.execute(text, &[&now]).await })
        })?;
        Ok(())
    }

    fn last_up(&mut self) -> Result<Option<i64>> {
        let text = "SELECT value FROM meta WHERE key = 'up'";
        self.with(|link| {
            link.tell("reading when the hub was up", |it| async move {
                Ok(it.client.query_opt(text, &[]).await?.map(|row| row.get(0)))
            })
        })
    }
}

/// How many nodes are forgotten at once.
const NODES: i64 = 20;

/// Forgets some nodes that were taken out before `before` (unix ms) and not heard of since; how many. One that speaks just
/// now is locked by who stores it, and is left alone; what is left of their history goes with its days.
fn forget_retired(link: &Link, before: i64) -> Result<usize> {
    let gone = "WITH gone AS (SELECT p.node FROM retired r JOIN nodes n ON n.name = r.name JOIN pulses p ON p.node = n.id \
                WHERE r.at < $1 AND p.last_seen <= r.at + $3 LIMIT $2 FOR UPDATE OF p SKIP LOCKED), \
                things AS (DELETE FROM items WHERE node IN (SELECT node FROM gone)), \
                beats AS (DELETE FROM pulses WHERE node IN (SELECT node FROM gone)) \
                DELETE FROM nodes WHERE id IN (SELECT node FROM gone) RETURNING id";
    let names = "DELETE FROM retired r WHERE r.at < $1 AND NOT EXISTS (SELECT 1 FROM nodes n JOIN pulses p ON p.node = n.id \
                 WHERE n.name = r.name AND p.last_seen <= r.at + $2)";
    link.tell("forgetting nodes", |it| async move {
        let gone = it.client.query(gone, &[&before, &NODES, &ON_ITS_WAY_MS]).await?;
        if gone.is_empty() {
            it.client.execute(names, &[&before, &ON_ITS_WAY_MS]).await?;
        }
        Ok(gone.len())
    })
}
