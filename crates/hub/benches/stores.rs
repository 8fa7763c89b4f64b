//! How fast each store is, through the one writer and durable: `cargo bench -p evenkeel-hub [reports]`.
//!
//! Parsing is part of it, HTTP is not. Everything runs on this machine at once: whoever tells, the writer, and
//! PostgreSQL on a socket with its own defaults. The floor is the same bytes put into a table of one column, in
//! batches of the same size by the same database.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a bench")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "figures for people")]
#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, missing_docs, reason = "figures for people")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::cluster::{Cluster, sql};
use common::stores::address;
use common::{T0, beat, item, report, seq};
use evenkeel_hub::metrics::Metrics;
use evenkeel_hub::store::Store;
use evenkeel_hub::store::postgres::PgStore;
use evenkeel_hub::store::sqlite::SqliteStore;
use evenkeel_hub::wire;
use evenkeel_hub::writer::Writer;
use evenkeel_report::{Drift, Item, Layer, Scope, Status};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const NODES: usize = 1000;
const ITEMS: usize = 20;
/// How many requests are on their way at once; also the size of the floor's batches.
const AT_ONCE: usize = 250;

fn items(round: usize) -> Vec<Item> {
    let one = |n: usize| {
        let mut item = item(&format!("sysctl/net.ipv4.tcp_keepalive_{n:02}"), Status::Repaired);
        let drift = |layer| Drift {
            attr: "value".into(),
            layer,
            observed: Some((7200 + round).to_string()),
            desired: "60".into(),
        };
        let file = Layer::File("/etc/sysctl.d/99-evenkeel.conf".into());
        item.drift = [Layer::Kernel, file, Layer::Daemon, Layer::Socket].map(drift).into();
        item
    };
    vec![one(round % ITEMS)]
}

fn all() -> Vec<Item> {
    (0..ITEMS).map(|n| item(&format!("sysctl/net.ipv4.tcp_keepalive_{n:02}"), Status::Compliant)).collect()
}

fn name(n: usize) -> String {
    format!("mw{n:05}")
}

/// Every node's first report, then `reports` that tell one item with four drifts.
fn bodies(reports: usize) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let all = all();
    let first = (0..NODES).map(|n| report(&name(n), seq(7, 1), Scope::Full, all.clone(), &all));
    let rest = (0..reports).map(|n| {
        let round = n / NODES + 2;
        let mut event = report(&name(n % NODES), seq(7, round as u64), Scope::Changes, items(round), &all);
        event.data.spec.observed_commit = Some("5f3c1b9a".repeat(5));
        event.data.spec.target_commit.clone_from(&event.data.spec.observed_commit);
        event
    });
    let text = |event| serde_json::to_vec(&event).unwrap();
    (first.map(text).collect(), rest.map(text).collect())
}

fn beats(count: usize, last: u64) -> Vec<Vec<u8>> {
    let all = all();
    let beat =
        |n: usize| beat(&name(n % NODES), seq(7, last), T0 + 9_000_000 + (n / NODES) as i64 * 30_000, &all);
    (0..count).map(|n| serde_json::to_vec(&beat(n)).unwrap()).collect()
}

/// Tells all of them, `AT_ONCE` at once; how long it took.
fn tell(writer: &Writer, bodies: Vec<Vec<u8>>) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (bodies, next) = (Arc::new(bodies), Arc::new(AtomicUsize::new(0)));
    let began = Instant::now();
    runtime.block_on(async {
        let tellers = (0..AT_ONCE).map(|_| {
            let (bodies, next, writer) = (Arc::clone(&bodies), Arc::clone(&next), writer.clone());
            tokio::spawn(async move {
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let written = writer.write(wire::parse(body).unwrap().events).await.unwrap();
                    assert_eq!(written.duplicate, [false]);
                }
            })
        });
        for teller in tellers.collect::<Vec<_>>() {
            teller.await.unwrap();
        }
    });
    began.elapsed()
}

/// CPU that these processes used so far (ms).
fn cpu_ms(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<u64> =
            stat.rsplit(") ").next().unwrap().split(' ').map(|one| one.parse().unwrap_or(0)).collect();
        fields.get(11..13).map_or(0, |both| both.iter().sum())
    };
    pids.iter().map(of).sum::<u64>() as f64 * 10.0
}

struct Lab<'a> {
    label: &'static str,
    writer: Writer,
    database: Option<&'a Cluster>,
    size: Box<dyn Fn() -> i64 + 'a>,
}

impl Lab<'_> {
    fn database_pids(&self) -> Vec<u32> {
        let Some(cluster) = self.database else { return vec![] };
        let pid = std::fs::read_to_string(cluster.dir().join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().chain([pid]).map(|pid| pid.parse().unwrap()).collect()
    }

    fn measure(&self, what: &str, bodies: Vec<Vec<u8>>) {
        let count = bodies.len() as f64;
        let bytes = bodies.iter().map(Vec::len).sum::<usize>() as f64 / count;
        let (size, pids) = ((self.size)(), self.database_pids());
        let (hub, database) = (cpu_ms(&[std::process::id()]), cpu_ms(&pids));
        let took = tell(&self.writer, bodies);
        let (hub, database) = (cpu_ms(&[std::process::id()]) - hub, cpu_ms(&pids) - database);
        println!(
            "{:<10} {what:<10} {:>8.0}/s   {bytes:>5.0} B each, {:>5.0} B stored   CPU µs each: {:>4.0} here, {:>4.0} PostgreSQL",
            self.label,
            count / took.as_secs_f64(),
            ((self.size)() - size) as f64 / count,
            hub * 1000.0 / count,
            database * 1000.0 / count,
        );
    }
}

fn run(reports: usize, lab: &Lab<'_>) {
    let (first, rest) = bodies(reports);
    tell(&lab.writer, first);
    let last = (reports.div_ceil(NODES) + 1) as u64;
    lab.measure("reports", rest);
    lab.measure("heartbeats", beats(reports * 2, last));
}

fn writer(store: Box<dyn Store>) -> Writer {
    let metrics = Arc::new(Metrics::default());
    Writer::start(store, Duration::from_hours(24), Arc::new(|| T0), metrics, false).unwrap().0
}

fn floor(label: &str, reports: usize, mut insert: impl FnMut(&[String])) {
    let (_, rest) = bodies(reports);
    let rest: Vec<String> = rest.into_iter().map(|body| String::from_utf8(body).unwrap()).collect();
    let began = Instant::now();
    rest.chunks(AT_ONCE).for_each(&mut insert);
    println!(
        "{label:<10} floor      {:>8.0}/s   bare INSERT",
        reports as f64 / began.elapsed().as_secs_f64()
    );
}

fn sqlite(dir: &Path, reports: usize) {
    let path = dir.join("hub.db");
    let size = || std::fs::metadata(&path).unwrap().len() as i64;
    let store = Box::new(SqliteStore::open(&path).unwrap());
    run(reports, &Lab { label: "SQLite", writer: writer(store), database: None, size: Box::new(size) });
    let mut conn = rusqlite::Connection::open(dir.join("floor.db")).unwrap();
    conn.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE floor (body TEXT)")
        .unwrap();
    floor("SQLite", reports, |chunk| {
        let tx = conn.transaction().unwrap();
        for body in chunk {
            tx.prepare_cached("INSERT INTO floor VALUES (?1)").unwrap().execute([body]).unwrap();
        }
        tx.commit().unwrap();
    });
}

fn postgres(reports: usize) {
    let cluster = Cluster::new("");
    let url = cluster.database();
    let size = || {
        let text = "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0) FROM pg_inherits \
                    WHERE inhparent = 'history'::regclass";
        sql(&url, text)[0][0].as_ref().unwrap().parse().unwrap()
    };
    let store = Box::new(PgStore::open(&address(&url)).unwrap());
    let lab =
        Lab { label: "PostgreSQL", writer: writer(store), database: Some(&cluster), size: Box::new(size) };
    run(reports, &lab);
    let hot = "SELECT relname, n_tup_upd, n_tup_hot_upd, pg_total_relation_size(relid) FROM pg_stat_user_tables \
               WHERE relname IN ('nodes', 'pulses', 'items')";
    for row in sql(&url, hot) {
        let row: Vec<_> = row.into_iter().map(Option::unwrap_or_default).collect();
        println!("           {}: {} updates, {} of them in place; {} bytes", row[0], row[1], row[2], row[3]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("CREATE TABLE floor (body text)").await.unwrap();
        client
    });
    floor("PostgreSQL", reports, |chunk| {
        let text = "INSERT INTO floor SELECT unnest($1::text[])";
        runtime.block_on(client.execute(text, &[&chunk])).unwrap();
    });
}

fn main() {
    let reports = std::env::args().find_map(|one| one.parse().ok()).unwrap_or(20_000);
    let dir = tempfile::tempdir().unwrap();
    println!(
        "{NODES} nodes with {ITEMS} items, {reports} reports, {AT_ONCE} requests at once, one event each"
    );
    sqlite(dir.path(), reports);
    postgres(reports);
}
