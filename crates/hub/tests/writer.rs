//! The one writer behind a real router on a real socket, with a disk that can be made to wait or to fail.
#![allow(
    clippy::unwrap_used,
    clippy::await_holding_lock,
    reason = "tests; the lock is the disk standing still"
)]

mod common;

use common::{T0, client, report, seq};
use evenkeel_hub::config::CERTIFICATE_LIFE;
use evenkeel_hub::door;
use evenkeel_hub::http::{Hub, router};
use evenkeel_hub::metrics::Metrics;
use evenkeel_hub::quota::Quota;
use evenkeel_hub::store::sqlite::{SqliteAccounts, SqliteRegistry, SqliteStore, SqliteTelling, SqliteView};
use evenkeel_hub::store::{Result, Store, StoreError, Tx, View};
use evenkeel_hub::who::Came;
use evenkeel_hub::writer::{QUEUE, Writer};
use evenkeel_report::Scope;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// SQLite on a disk that stands still while `gate` is held, and fails as long as `failing` counts down.
struct Disk {
    inner: SqliteStore,
    gate: Arc<Mutex<()>>,
    failing: Arc<AtomicUsize>,
    commits: Arc<AtomicUsize>,
}

impl Store for Disk {
    fn transaction(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()> {
        let gate = Arc::clone(&self.gate);
        let _open: MutexGuard<'_, ()> = gate.lock().unwrap();
        let left = self.failing.load(Ordering::SeqCst);
        if left > 0 {
            self.failing.store(left - 1, Ordering::SeqCst);
            return Err(StoreError::Sql { doing: "failing on purpose", source: "disk".into() });
        }
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.inner.transaction(work)
    }
    fn prune(&mut self, before: i64, most: usize) -> Result<usize> {
        self.inner.prune(before, most)
    }
    fn note_up(&mut self, now: i64) -> Result<()> {
        self.inner.note_up(now)
    }
    fn last_up(&mut self) -> Result<Option<i64>> {
        self.inner.last_up()
    }
}

struct Lab {
    url: String,
    view: Arc<SqliteView>,
    hub: Arc<Hub>,
    gate: Arc<Mutex<()>>,
    failing: Arc<AtomicUsize>,
    commits: Arc<AtomicUsize>,
}

async fn lab(path: &Path) -> Lab {
    let inner = SqliteStore::open(path).unwrap();
    let (gate, failing, commits) = (Arc::default(), Arc::default(), Arc::default());
    let disk =
        Disk { inner, gate: Arc::clone(&gate), failing: Arc::clone(&failing), commits: Arc::clone(&commits) };
    let metrics = Arc::new(Metrics::default());
    let keep = Duration::from_hours(24);
    let (writer, _) =
        Writer::start(Box::new(disk), keep, Arc::new(|| T0), Arc::clone(&metrics), false).unwrap();
    let view = Arc::new(SqliteView::open(path).unwrap());
    let clock: evenkeel_hub::writer::Clock = Arc::new(|| T0);
    let slots = evenkeel_hub::slots_of(
        &evenkeel_hub::config::Location::Sqlite(path.into()),
        std::collections::BTreeMap::new(),
    )
    .unwrap();
    let hub = Arc::new(Hub {
        roll: Arc::default(),
        kept: Arc::default(),
        watch: Arc::new(evenkeel_hub::invariants::Watch::new(&[], 0, 0)),
        listeners: Arc::new(tokio::sync::Semaphore::new(1)),
        writer,
        view: view.clone(),
        slots,
        registry: Arc::new(SqliteRegistry::open(path).unwrap()),
        admissions: Arc::default(),
        accounts: evenkeel_hub::accounts::Desk::new(Arc::new(SqliteAccounts::open(path).unwrap())),
        provider: None,
        authority: None,
        certificate_life: CERTIFICATE_LIFE,
        keep: 86_400_000,
        quota: Quota::new(10),
        telling: Arc::new(SqliteTelling::open(path).unwrap()),
        metrics,
        clock,
        started: T0,
        up_before: None,
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = router(Arc::clone(&hub));
    tokio::spawn(door::open(listener, door::Kind::Plain(Came::Trusted), app, Arc::default()));
    Lab { url, view, hub, gate, failing, commits }
}

fn post(client: &reqwest::Client, url: &str, n: usize) -> tokio::task::JoinHandle<(u16, Option<String>)> {
    let name = format!("mw{n:04}");
    let event = report(&name, seq(7, 1), Scope::Full, vec![], &[]);
    let send = client.post(format!("{url}/v1/events")).json(&[event]).send();
    tokio::spawn(async move {
        let answer = send.await.unwrap();
        let again = answer.headers().get("retry-after").map(|again| again.to_str().unwrap().to_owned());
        (answer.status().as_u16(), again)
    })
}

async fn until(what: impl Fn() -> bool) {
    for _ in 0..2_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it never came to that");
}

#[tokio::test]
async fn a_full_queue_is_answered_503_and_one_transaction_serves_what_waited() {
    let dir = tempfile::tempdir().unwrap();
    let lab = lab(&dir.path().join("hub.db")).await;
    let client = client();
    let closed = lab.gate.lock().unwrap();
    let first = post(&client, &lab.url, 0);
    // The writer has taken it and stands at the gate.
    let beat = || lab.hub.writer.depth() == 0;
    tokio::task::yield_now().await;
    until(|| Arc::strong_count(&lab.gate) == 3 && beat()).await;
    let mut waiting = vec![];
    for n in 1..=QUEUE {
        waiting.push(post(&client, &lab.url, n));
    }
    until(|| lab.hub.writer.depth() == i64::try_from(QUEUE).unwrap()).await;
    let (code, again) = post(&client, &lab.url, QUEUE + 1).await.unwrap();
    assert_eq!((code, again.as_deref()), (503, Some("1")));
    drop(closed);
    assert_eq!(first.await.unwrap().0, 200);
    for one in waiting {
        assert_eq!(one.await.unwrap().0, 200);
    }
    assert_eq!(lab.view.nodes(None, 1000).unwrap().len(), QUEUE + 1, "who was turned away is not stored");
    assert_eq!(lab.commits.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_disk_that_fails_is_answered_503_and_nothing_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let lab = lab(&dir.path().join("hub.db")).await;
    lab.failing.store(1, Ordering::SeqCst);
    let client = client();
    let (code, again) = post(&client, &lab.url, 1).await.unwrap();
    assert_eq!((code, again.as_deref()), (503, Some("1")));
    assert!(lab.view.nodes(None, 10).unwrap().is_empty());
    assert_eq!(post(&client, &lab.url, 1).await.unwrap().0, 200);
}

#[tokio::test]
async fn requests_that_failed_together_are_tried_each_alone() {
    let dir = tempfile::tempdir().unwrap();
    let lab = lab(&dir.path().join("hub.db")).await;
    let client = client();
    let closed = lab.gate.lock().unwrap();
    let first = post(&client, &lab.url, 0);
    until(|| Arc::strong_count(&lab.gate) == 3 && lab.hub.writer.depth() == 0).await;
    let both = [post(&client, &lab.url, 1), post(&client, &lab.url, 2)];
    until(|| lab.hub.writer.depth() == 2).await;
    // The first goes through, then the two fail together and one of them alone.
    drop(closed);
    assert_eq!(first.await.unwrap().0, 200);
    for one in both {
        assert_eq!(one.await.unwrap().0, 200);
    }
    let closed = lab.gate.lock().unwrap();
    let third = post(&client, &lab.url, 3);
    until(|| Arc::strong_count(&lab.gate) == 3 && lab.hub.writer.depth() == 0).await;
    let both = [post(&client, &lab.url, 4), post(&client, &lab.url, 5)];
    until(|| lab.hub.writer.depth() == 2).await;
    // The third fails alone; the two fail together, then one fails alone and the other is stored.
    lab.failing.store(3, Ordering::SeqCst);
    drop(closed);
    assert_eq!(third.await.unwrap().0, 503);
    let mut codes = vec![];
    for one in both {
        codes.push(one.await.unwrap().0);
    }
    codes.sort_unstable();
    assert_eq!(codes, [200, 503]);
}
