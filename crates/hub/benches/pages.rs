//! How quick the pages are on a large fleet: `cargo bench -p evenkeel-hub --bench pages [nodes] [store]`.
//!
//! The nodes are made through the hub's own writer, once; a store that is named is kept, and used again if it has them.
//! A request goes through the real router to the last byte of its answer, without a socket. One in fifty nodes has a
//! drift, one in a thousand is in error, one in five hundred is silent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a bench")]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_wrap,
    missing_docs,
    reason = "figures for people"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use common::{beat, item, now_ms, report, seq};
use evenkeel_hub::config::{File, Overrides, settle};
use evenkeel_hub::http::{Hub, router};
use evenkeel_hub::store::Store as _;
use evenkeel_hub::store::sqlite::SqliteStore;
use evenkeel_hub::wire::Incoming;
use evenkeel_hub::writer::{Clock, commit};
use evenkeel_report::{Item, Scope, Status, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tower_service::Service as _;

const ITEMS: usize = 20;
const TIERS: [&str; 4] = ["web", "middleware", "database", "edge"];
const COMMITS: [&str; 2] =
    ["5f3c1b9a5f3c1b9a5f3c1b9a5f3c1b9a5f3c1b9a", "9d02aa419d02aa419d02aa419d02aa419d02aa41"];

fn items(node: usize) -> Vec<Item> {
    let one = |n: usize| {
        let status = match (n, node) {
            (0, node) if node % 1000 == 7 => Status::Error,
            (0, node) if node % 50 == 3 => Status::NonCompliant,
            _ => Status::Compliant,
        };
        let mut item = item(&format!("sysctl/net.ipv4.tcp_keepalive_{n:02}"), status);
        // A third of them tell facts, as mounts and ends of paths do; one node in a thousand tells another one.
        if n.is_multiple_of(3) {
            let value = if n == 3 && node % 1000 == 7 { "1005" } else { "1001" };
            item.facts = [("owner.uid".to_owned(), value.to_owned())].into();
        }
        if let Some(drift) = item.drift.first_mut() {
            drift.observed = Some((7200 + node % 5).to_string());
        }
        item
    };
    (0..ITEMS).map(one).collect()
}

fn events(node: usize, now: i64) -> [Incoming; 2] {
    let name = format!("{}-{node:06}", TIERS[node % 4]);
    let all = items(node);
    let mut first = report(&name, seq(7, 1), Scope::Full, all.clone(), &all);
    first.time = Timestamp::from_unix_ms(now).unwrap();
    TIERS[node % 4].clone_into(&mut first.data.node.tier);
    first.data.spec.observed_commit = Some(COMMITS[usize::from(node.is_multiple_of(20))].into());
    first.data.spec.target_commit = Some(COMMITS[0].into());
    let mut alive = beat(&name, seq(7, 1), now, &all);
    alive.data.node.tier.clone_from(&first.data.node.tier);
    alive.data.spec = first.data.spec.clone();
    // Long enough for the measuring; the silent ones are those that were last heard of a day before.
    alive.data.interval_s = 3600;
    [Incoming::Report(Box::new(first)), Incoming::Beat(Box::new(alive))]
}

fn fill(path: &Path, nodes: usize) {
    let began = Instant::now();
    let mut store = SqliteStore::open(path).unwrap();
    let now = now_ms();
    store.note_up(now).unwrap();
    for from in (0..nodes).step_by(1000) {
        let (quiet, alive): (Vec<_>, Vec<_>) =
            (from..nodes.min(from + 1000)).partition(|node| node % 500 == 11);
        for (some, at) in [(quiet, now - 7_300_000), (alive, now)] {
            let events: Vec<Incoming> = some.into_iter().flat_map(|node| events(node, at)).collect();
            commit(&mut store, &[&events], at).unwrap();
        }
    }
    println!("{nodes} nodes with {ITEMS} items made in {:.1?}", began.elapsed());
}

async fn ask(hub: &Arc<Hub>, path: &str) -> usize {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let answer = router(Arc::clone(hub)).call(request).await.unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    to_bytes(answer.into_body(), usize::MAX).await.unwrap().len()
}

/// `pause` is longer than any answer is kept, where each is to be found anew.
async fn measure(hub: &Arc<Hub>, what: &str, path: &str, times: usize, pause: Duration) {
    let mut took: Vec<Duration> = vec![];
    let mut bytes = 0;
    for _ in 0..times {
        tokio::time::sleep(pause).await;
        let began = Instant::now();
        bytes = ask(hub, path).await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let ms = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)].as_secs_f64() * 1000.0;
    println!("{what:<34} p50 {:>7.1} ms   p95 {:>7.1} ms   {bytes:>9} B", ms(50), ms(95));
}

fn resident_mib() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

fn main() {
    let mut asked = std::env::args().skip(1).filter(|one| !one.starts_with("--"));
    let nodes: usize = asked.next().and_then(|one| one.parse().ok()).unwrap_or(100_000);
    let dir = tempfile::tempdir().unwrap();
    let path = asked.next().map_or_else(|| dir.path().join("hub.db"), PathBuf::from);
    if !path.exists() {
        fill(&path, nodes);
    }
    let file = File { store: format!("sqlite:{}", path.display()), ..File::default() };
    let config = settle(file, Overrides::default()).unwrap();
    let clock: Clock = Arc::new(now_ms);
    let began = Instant::now();
    let hub = evenkeel_hub::open(&config, clock).unwrap().hub;
    println!("opened in {:.1?}, {} MiB resident", began.elapsed(), resident_mib());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let then = format!("/nodes/database-000002?at={}", Timestamp::from_unix_ms(now_ms()).unwrap());
        let (anew, at_once) = (Duration::from_millis(1500), Duration::ZERO);
        for (what, path, times, pause) in [
            ("first page, counted anew", "/", 40, anew),
            ("first page, again and again", "/", 400, at_once),
            ("wallboard, counted anew", "/wall", 20, anew),
            ("metrics, counted anew", "/metrics", 20, anew),
            ("list", "/nodes", 200, at_once),
            ("list, three filters", "/nodes?tier=middleware&status=open&liveness=online", 200, at_once),
            ("list, from the middle", "/nodes?after=middleware-050001", 200, at_once),
            ("list, search", "/nodes?q=99", 200, at_once),
            ("list as JSON, 100 nodes", "/api/v1/nodes?sync=synced", 200, at_once),
            ("one node", "/nodes/database-000002", 200, at_once),
            ("drift, grouped anew", "/drift", 20, anew),
            ("invariants, judged anew", "/invariants", 20, anew),
            ("invariants, again and again", "/invariants", 200, at_once),
            ("one node, as of a moment", &then, 200, at_once),
            ("rollout of a commit", "/rollout/5f3c1b9a", 20, at_once),
            ("every node as CSV", "/api/v1/nodes?format=csv", 3, at_once),
        ] {
            measure(&hub, what, path, times, pause).await;
        }
    });
    println!("{} MiB resident", resident_mib());
}
