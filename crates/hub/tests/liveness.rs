//! Who falls silent is told in time, and nobody else ever is: not while the database is away, not while the hub is, and not
//! where a node's clock is an hour off. The real hub and a real PostgreSQL; nodes speak every second instead of every thirty,
//! so that what is minutes in a fleet is seconds here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::cluster::Cluster;
use common::receiver::{Came, Papers, Receiver};
use common::{Hub, beat, client, now_ms, seq};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const HOUR_MS: i64 = 3_600_000;
/// Two intervals of a second, and five seconds.
const SILENT: Duration = Duration::from_secs(7);
/// What a machine that does other things may add.
const SLACK: Duration = Duration::from_secs(5);
/// Longer than silence takes, twice.
const AWAY: Duration = Duration::from_secs(15);

/// Each name with how far its clock is off (ms).
const NODES: [(&str, i64); 4] = [("db1", 0), ("db2", 0), ("mw1", HOUR_MS), ("mw2", -HOUR_MS)];

/// What nodes and watcher share: where the hub is now, who speaks no more, who was seen silent.
#[derive(Default)]
struct Scene {
    url: Mutex<String>,
    mute: Mutex<BTreeSet<&'static str>>,
    silent: Mutex<BTreeSet<String>>,
    looks: Mutex<usize>,
}

impl Scene {
    fn url(&self) -> String {
        self.url.lock().unwrap().clone()
    }

    /// Whoever is called silent or missing at this moment; nothing where the hub does not answer.
    async fn look(&self) -> Option<BTreeSet<String>> {
        let asked = client().get(format!("{}/api/v1/nodes", self.url())).timeout(Duration::from_secs(2));
        let page: Value = asked.send().await.ok()?.error_for_status().ok()?.json().await.ok()?;
        let quiet = |node: &&Value| matches!(node["liveness"].as_str(), Some("silent" | "missing"));
        let nodes = page["nodes"].as_array()?.iter();
        Some(nodes.filter(quiet).map(|node| node["name"].as_str().unwrap().to_owned()).collect())
    }

    async fn watch(self: Arc<Self>) {
        loop {
            if let Some(found) = self.look().await {
                *self.looks.lock().unwrap() += 1;
                self.silent.lock().unwrap().extend(found);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A heartbeat every second, whatever becomes of it.
    async fn speak(self: Arc<Self>, name: &'static str, off: i64) {
        loop {
            if !self.mute.lock().unwrap().contains(name) {
                let mut alive = beat(name, seq(7, 0), now_ms() + off, &[]);
                alive.data.interval_s = 1;
                let body = serde_json::to_vec(&alive).unwrap();
                let told = client().post(format!("{}/v1/heartbeat", self.url())).body(body);
                let told = told.header("content-type", "application/cloudevents+json");
                let _ = told.timeout(Duration::from_secs(2)).send().await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// The hub answers, and has for longer than silence takes; the watcher looked all the while.
    async fn settle(&self) {
        let patience = Instant::now() + Duration::from_mins(1);
        while self.look().await.is_none() {
            assert!(Instant::now() < patience, "the hub does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let before = *self.looks.lock().unwrap();
        tokio::time::sleep(SILENT + SLACK).await;
        assert!(*self.looks.lock().unwrap() > before + 5, "it was looked at");
    }
}

fn start(papers: &Papers, store: &str, scene: &Scene) -> Hub {
    let hub = papers.hub(store);
    hub.url.clone_into(&mut scene.url.lock().unwrap());
    hub
}

/// Nodes speak and are watched, on a thread of their own, until the test ends.
fn live(scene: &Arc<Scene>) {
    let scene = Arc::clone(scene);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        for (name, off) in NODES {
            tokio::spawn(Arc::clone(&scene).speak(name, off));
        }
        runtime.block_on(scene.watch());
    });
}

/// The nodes that somebody was told of.
fn told(came: &[Came]) -> BTreeSet<String> {
    let events = came.iter().map(Came::json);
    let nodes = events.flat_map(|event| event["data"]["nodes"].as_array().unwrap().clone());
    nodes.map(|node| node["node"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn who_falls_silent_is_told_in_time_and_nobody_else_ever_is() {
    let (mut cluster, there) = (Cluster::new(""), Receiver::start().await);
    let yaml = format!("sinks:\n- name: hook\n  group_seconds: 0\n  webhook: {{url: '{}'}}\n", there.url());
    let (papers, store) = (Papers::new(&yaml), cluster.database());
    let scene = Arc::new(Scene::default());
    let mut hub = start(&papers, &store, &scene);
    live(&scene);
    scene.settle().await;

    cluster.kill();
    tokio::time::sleep(AWAY).await;
    cluster.start();
    scene.settle().await;

    hub.child.kill().unwrap();
    hub.child.wait().unwrap();
    tokio::time::sleep(AWAY).await;
    let hub = start(&papers, &store, &scene);
    scene.settle().await;
    let flags = hub.json("/api/v1/nodes/mw1").await["flags"].clone();
    assert!(flags.as_array().unwrap().contains(&"clock_skew".into()), "its clock is told instead: {flags}");
    assert_eq!(*scene.silent.lock().unwrap(), BTreeSet::new(), "nobody was");
    assert_eq!(there.came().len(), 0, "and nobody was told that one was: {:#?}", there.came());

    scene.mute.lock().unwrap().extend(["db2", "mw2"]);
    let began = Instant::now();
    let both = BTreeSet::from(["db2".to_owned(), "mw2".to_owned()]);
    // From the last heartbeat on, which was on its way at that moment or up to an interval before.
    while *scene.silent.lock().unwrap() != both {
        assert!(began.elapsed() < SILENT + SLACK, "{:?}", scene.silent.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() > SILENT.checked_sub(Duration::from_secs(2)).unwrap(), "not before its time");
    println!("silent on the pages {:.1} s after the order to fall silent", began.elapsed().as_secs_f64());
    there.until("both", |came| told(came) == both).await;
    println!("and told to somebody after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(*scene.silent.lock().unwrap(), both, "and nobody else");
}
