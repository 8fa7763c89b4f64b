//! A storm: a thousand agents over TLS, each batch three times in random order, outages, clones, liars, wrong clocks; the hub
//! and then PostgreSQL are killed in the middle. Nothing is lost and nothing is there twice. `EVENKEEL_LONG=1`: ten thousand.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::cluster::Cluster;
use evenkeel_swarm::check;
use evenkeel_swarm::drive::{Swarm, now_ms};
use evenkeel_swarm::fleet::{Faults, Fleet};
use evenkeel_swarm::identity::Folder;
use evenkeel_swarm::link::Target;
use evenkeel_swarm::tally::Tally;
use evenkeel_swarm::usage;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const HUB: &str = env!("CARGO_BIN_EXE_evenkeel-hub");
/// What the hub may have in memory, in a debug build, whatever happens around it (bytes): a thousand TLS connections take
/// 60 MB, what is kept of nodes 48 MB where there are ten thousand.
const MEMORY: u64 = 160_000_000;
const MEMORY_LONG: u64 = 250_000_000;

/// A hub over TLS on a real PostgreSQL of its own, both to be killed.
struct Rig {
    dir: tempfile::TempDir,
    cluster: Cluster,
    store: String,
    port: u16,
    child: Child,
}

impl Rig {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Being killed is no power cut: what was written and not synced is still there.
        let cluster = Cluster::new("fsync = off");
        let store = cluster.database();
        let made = Command::new(HUB)
            .args(["ca", "init", "--name", "127.0.0.1", "--dir"])
            .arg(dir.path().join("ca"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        std::fs::write(dir.path().join("hub.yaml"), "requests_per_second: 100000\n").unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = launch(dir.path(), port, &store);
        Self { dir, cluster, store, port, child }
    }

    fn token(&self, uses: u32) -> String {
        let made = Command::new(HUB)
            .args(["token", "create", "--uses", &uses.to_string(), "--store", &self.store])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }

    /// SIGKILL, a while without a hub, and another one.
    fn kill_hub(&mut self, away: Duration) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::thread::sleep(away);
        self.child = launch(self.dir.path(), self.port, &self.store);
    }

    /// The same for PostgreSQL.
    fn kill_database(&mut self, away: Duration) {
        self.cluster.kill();
        std::thread::sleep(away);
        self.cluster.start();
    }

    fn swarm(&self, agents: u32, interval: Duration, faults: Faults) -> Arc<Swarm> {
        let tiers = vec!["database".to_owned(), "middleware".to_owned()];
        let epoch = u64::try_from(now_ms()).unwrap();
        let mut fleet = Fleet::new(7, "sw", tiers, 40, interval.as_secs(), epoch);
        fleet.faults = faults;
        let ca = self.dir.path().join("ca/ca.pem");
        Arc::new(Swarm {
            fleet,
            target: Target::new(&format!("https://127.0.0.1:{}", self.port), Some(&ca)).unwrap(),
            identities: Some(Folder::new(&self.dir.path().join("identities"))),
            agents,
            connections: 1000,
            batch: 2,
            interval,
            drift: 0.6,
            tally: Tally::default(),
        })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(dir: &std::path::Path, port: u16, store: &str) -> Child {
    let mut child = Command::new(HUB)
        .args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--listen-pages", "127.0.0.1:0", "--tls"])
        .arg(dir.join("ca"))
        .arg("--config")
        .arg(dir.join("hub.yaml"))
        .args(["--store", store])
        .env("RUST_LOG", "warn,evenkeel_hub::serve=info")
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening = lines.by_ref().map_while(Result::ok).any(|line| line.contains("listening on "));
    assert!(listening, "the hub ended before it listened");
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[tokio::test]
async fn through_a_storm_nothing_is_lost_and_nothing_is_there_twice() {
    let long = std::env::var_os("EVENKEEL_LONG").is_some();
    let (agents, interval, time) = if long {
        (10_000, Duration::from_secs(20), Duration::from_mins(2))
    } else {
        (1_000, Duration::from_secs(3), Duration::from_secs(15))
    };
    let faults = Faults {
        outages: 0.05,
        outage_intervals: 1,
        clones: 0.02,
        liars: 0.02,
        skewed: 0.02,
        times: 3,
        shuffle: true,
    };
    let mut rig = Rig::start();
    let swarm = rig.swarm(agents, interval, faults);
    assert_eq!(swarm.enrol(Some(&rig.token(agents))).await.unwrap(), agents);
    assert_eq!(swarm.enrol(None).await.unwrap(), 0, "who was let in once is known");

    let running = {
        let swarm = Arc::clone(&swarm);
        tokio::spawn(async move { swarm.run(swarm.groups(), time).await })
    };
    let away = Duration::from_millis(700);
    let killing = tokio::task::spawn_blocking(move || {
        std::thread::sleep(time * 4 / 10);
        rig.kill_hub(away);
        std::thread::sleep(time * 2 / 10);
        rig.kill_database(away);
        rig
    });
    let (groups, rig) = (running.await.unwrap(), killing.await.unwrap());
    let (groups, left) = swarm.settle(groups, Duration::from_secs(if long { 600 } else { 60 })).await;
    println!("{}", swarm.tally);
    assert_eq!(left, 0, "every spool is empty");

    let sample = if long { 2000 } else { 250 };
    let verdict = check::check(&swarm, &groups, sample).await.unwrap();
    println!("{verdict}");
    assert!(verdict.good(), "{verdict}");
    assert_eq!((verdict.nodes, verdict.timelines), (u64::from(agents), sample as u64));
    assert!(verdict.changes >= u64::from(agents) / 8, "{verdict}");
    let tally = &swarm.tally;
    let count = Tally::get;
    assert!(count(&tally.reports) > u64::from(agents) * 3 / 2, "{tally}");
    assert!(count(&tally.duplicates) >= 2 * count(&tally.reports), "each came three times: {tally}");
    assert!(count(&tally.unanswered) > 0 && count(&tally.outages) > 0, "there was a storm: {tally}");
    assert!(count(&tally.later) > 0, "PostgreSQL was away, and the hub said so: {tally}");
    assert!(count(&tally.lies_refused) > 0 && count(&tally.lies_taken) == 0, "{tally}");
    let resident = usage::resident(rig.child.id()).unwrap();
    println!("the hub has {resident} bytes in memory");
    assert!(resident < if long { MEMORY_LONG } else { MEMORY }, "the hub has {resident} bytes in memory");
}

/// A check that cannot fail proves nothing.
#[tokio::test]
async fn what_is_missing_or_there_twice_is_found() {
    let rig = Rig::start();
    let swarm = rig.swarm(10, Duration::from_secs(1), Faults { times: 1, ..Faults::default() });
    swarm.enrol(Some(&rig.token(10))).await.unwrap();
    let groups = swarm.run(swarm.groups(), Duration::from_secs(6)).await;
    let (groups, left) = swarm.settle(groups, Duration::from_secs(20)).await;
    let asked = check::check(&swarm, &groups, 10).await.unwrap();
    assert!(left == 0 && asked.good() && asked.changes > 10, "{asked}");
    let sql = |text: &str| common::cluster::sql(&rig.store, text);
    let n = "(SELECT max(n) FROM history WHERE sub = 0)";
    // One report is told once more, under a number that nobody used; one is gone; one item is another.
    sql(&format!(
        "INSERT INTO history (got, node, epoch, n, sub, at, repaired, commit_id, body) \
         SELECT got, node, epoch, n + 1000, sub, at, repaired, commit_id, body FROM history \
         WHERE sub = 0 AND n = {n} LIMIT 1"
    ));
    let asked = check::check(&swarm, &groups, 10).await.unwrap();
    assert_eq!((asked.lost, asked.twice), (0, 1), "{asked}");
    sql("DELETE FROM history WHERE sub = 0 AND n = 3");
    let asked = check::check(&swarm, &groups, 10).await.unwrap();
    assert!(asked.lost > 0 && !asked.good(), "{asked}");
}
