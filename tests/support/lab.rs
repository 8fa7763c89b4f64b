//! Middleware, a router that forgets silent connections, and a database: `tests/lab` with whole nodes in it.
//!
//! Each node has a process namespace beside what every [`Node`] has, so that an agent sees the processes of its own node and
//! no others. The network is the one of `tests/lab/lib.sh`, under a name of its own, so that labs of tests that run at
//! the same time do not meet. What is named goes when the test's process is gone, however it went.

use super::pool::Pool;
use super::{Daemon, Node, Postgres, Repository, postgres_version};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What the router remembers a silent connection for, unless it is told otherwise.
pub const FORGETS_AFTER: Duration = Duration::from_secs(5);
/// What the lab's spec promises: no request hangs longer on a connection that is dead.
pub const BLACKOUT_AT_MOST: Duration = Duration::from_secs(3);
/// What a machine that does other things may add to a promise of seconds.
pub const SLACK: Duration = Duration::from_millis(1_500);
/// How long an answer may take where nothing is in the way.
pub const PROMPT: Duration = Duration::from_secs(2);
/// Longer than the whole retransmission budget of `tcp_retries2 = 5`, which is 13 s.
pub const BUDGET: Duration = Duration::from_secs(30);

const POSTGRES: u16 = 5432;

/// A file of `tests/lab`.
pub fn lab_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab").join(name)
}

/// The lab. Nothing of evenkeel runs in it until a test starts it.
pub struct Lab {
    /// PostgreSQL, at 10.77.2.2:5432.
    pub postgres: Postgres,
    /// Where the workers are.
    pub mw: Node,
    /// Where the database is.
    pub db: Node,
    /// What lies between.
    pub router: Router,
    /// The spec; both nodes reach it by its path.
    pub spec: Repository,
    _dir: tempfile::TempDir,
}

/// A connection of PostgreSQL's as the kernel of one node sees it.
#[derive(Debug, Clone)]
pub struct Socket {
    /// The port on the client's side, whichever node was asked.
    pub port: u16,
    /// The state's name; `established`.
    pub state: String,
    /// Which timer runs: `none`, `keepalive`, `retransmit`.
    pub timer: String,
    /// In how many seconds it fires.
    pub expires: f64,
    /// How often what is on its way has been sent again.
    pub retransmits: u64,
}

impl Lab {
    /// A lab whose spec promises nothing yet.
    pub fn new() -> Self {
        Self::with_max_connections(100)
    }

    /// The same, with this many slots in PostgreSQL.
    pub fn with_max_connections(slots: u32) -> Self {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let router = Router::up(name);
        let [mw, db] = ["mw", "db"].map(|node| Node::in_network(&router.namespace(node)));
        let conf = format!("listen_addresses = '\\''10.77.2.2'\\''\nfsync = off\nmax_connections = {slots}");
        let postgres = db.postgres_set("test", POSTGRES, &conf, "host all all 10.77.0.0/16 trust");
        let dir = tempfile::tempdir().unwrap();
        let spec = Repository::new(&dir.path().join("spec"), &[]);
        let lab = Self { postgres, mw, db, router, spec, _dir: dir };
        lab.commit("");
        lab
    }

    /// Commit the path's promise; `live` says what is done to connections that are open: report, retune, free, off.
    pub fn promise(&self, live: &str) {
        self.commit(&format!(
            "paths:
  database:
    from: {{tier: mw}}
    to: {{tier: db, port: {POSTGRES}}}
    idle_timeout: {}s
    blackout_at_most: {}s
    live: {live}
",
            FORGETS_AFTER.as_secs(),
            BLACKOUT_AT_MOST.as_secs()
        ));
    }

    fn commit(&self, paths: &str) {
        let fleet =
            format!("version: 1\nfleet: lab\nnodes:\n  mw: {{tier: mw}}\n  db: {{tier: db}}\n{paths}");
        let db = format!(
            "version: 1\npostgresql:\n  {}/test:\n    settings: {{work_mem: 8MB}}\n",
            postgres_version()
        );
        let files = [
            ("fleet.yaml", fleet.as_str()),
            ("tiers/mw.yaml", "version: 1\n"),
            ("tiers/db.yaml", db.as_str()),
        ];
        self.spec.commit(&files);
    }

    /// Start the agent on the middleware's node.
    pub fn agent_on_mw(&self) -> Daemon {
        self.mw.agent(&self.config("mw"))
    }

    /// Start the agent on the database's node.
    pub fn agent_on_db(&self) -> Daemon {
        self.db.agent(&self.config("db"))
    }

    fn config(&self, node: &str) -> String {
        // A hub that never answers: what is told stays in the spool, where it can be read.
        format!(
            "node: {node}\nsource: {}\npoll_interval: 1s\npass_interval: 2s\nhub: http://127.0.0.1:9\n",
            self.spec.source()
        )
    }

    /// A pool of workers on the middleware's node, with no connection yet.
    pub fn pool(&self) -> Pool {
        Pool::start(&self.mw, "host=10.77.2.2 user=postgres dbname=postgres connect_timeout=10")
    }

    /// Ask PostgreSQL, on its own node.
    pub fn sql(&self, query: &str) -> String {
        self.db.sql_at(POSTGRES, query)
    }
}

impl Node {
    /// What the agent here has told its hub, newest first looked at, where all of `words` occur.
    pub fn told(&self, words: &[&str]) -> Option<String> {
        let spooled = self.sh("cat /var/lib/evenkeel/spool/* 2>/dev/null || true");
        spooled.lines().rfind(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
    }

    /// The connections to PostgreSQL, as the kernel here sees them.
    pub fn sockets(&self) -> Vec<Socket> {
        let mut command = self.command("/usr/bin/python3");
        let out = command.arg(lab_file("sockets.py")).arg(POSTGRES.to_string()).output().unwrap();
        assert!(out.status.success(), "{}", super::text(&out));
        let said = String::from_utf8(out.stdout).unwrap();
        said.lines().map(Socket::read).collect()
    }

    /// One of them, by the port on the client's side, as it is now.
    pub fn socket(&self, port: u16) -> Socket {
        let found = self.sockets().into_iter().find(|socket| socket.port == port);
        found.expect("the connection is open")
    }

    /// The same once nothing is on its way, which has a timer of its own.
    pub fn at_rest(&self, port: u16) -> Socket {
        eventually("nothing is on its way", PROMPT, || self.socket(port).timer != "retransmit");
        self.socket(port)
    }
}

impl Socket {
    fn read(line: &str) -> Self {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        let ports = [&value["port"], &value["peer_port"]].map(|port| port.as_u64().unwrap());
        let of_client = ports.into_iter().find(|port| *port != u64::from(POSTGRES)).unwrap();
        Self {
            port: u16::try_from(of_client).unwrap(),
            state: value["state"].as_str().unwrap().to_owned(),
            timer: value["timer"].as_str().unwrap().to_owned(),
            expires: value["expires"].as_f64().unwrap(),
            retransmits: value["retransmits"].as_u64().unwrap(),
        }
    }

    /// Whether it has the kernel's own two hours, which no router waits for.
    pub fn is_at_default(&self) -> bool {
        self.timer == "keepalive" && self.expires > 7_000.0
    }

    /// Whether its next probe comes before the router forgets it, as the timer that runs says.
    pub fn is_kept_alive(&self) -> bool {
        self.timer == "keepalive" && self.expires < FORGETS_AFTER.as_secs_f64() * 0.8
    }
}

/// The router between the nodes.
pub struct Router {
    name: String,
}

impl Router {
    fn up(name: String) -> Self {
        let router = Self { name };
        let owner = std::process::id().to_string();
        router.script("up", &["--forget", &FORGETS_AFTER.as_secs().to_string(), "--owner", &owner]);
        router
    }

    /// The path dies: everything is dropped, and nothing is said.
    pub fn block(&self) {
        self.script("router", &["block"]);
    }

    /// The path is back.
    pub fn unblock(&self) {
        self.script("router", &["unblock"]);
    }

    /// Another memory; a connection has it from its next packet on.
    pub fn forgets_after(&self, silence: Duration) {
        self.script("router", &["forget", &silence.as_secs().to_string()]);
    }

    /// How many packets of connections that it has forgotten it has dropped.
    pub fn dropped(&self) -> u64 {
        self.script("router", &["dropped"]).trim().parse().unwrap()
    }

    /// The network namespace of a node, or of `router`.
    pub fn namespace(&self, node: &str) -> PathBuf {
        PathBuf::from(format!("/run/netns/ek-{}-{node}", self.name))
    }

    fn script(&self, name: &str, args: &[&str]) -> String {
        let out =
            Command::new(lab_file(name)).args(args).env("EVENKEEL_LAB_NAME", &self.name).output().unwrap();
        assert!(out.status.success(), "{name} {args:?}: {}", super::text(&out));
        String::from_utf8(out.stdout).unwrap()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = Command::new(lab_file("down")).env("EVENKEEL_LAB_NAME", &self.name).status();
    }
}

/// Be silent for longer than the router remembers. The one thing here that only time can bring.
pub fn be_silent() {
    std::thread::sleep(FORGETS_AFTER + Duration::from_secs(3));
}

/// Wait until something holds that takes a process to find out; panics with `what` after `within`. How long it took.
pub fn eventually(what: &str, within: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    start.elapsed()
}

/// Print a measured figure, a row of the table in `docs/path.md`: `cargo test --test 'path_*' -- --nocapture | grep ^figure`.
pub fn figure(story: &str, half: &str, value: impl std::fmt::Display) {
    println!("figure | {story} | {half} | {value}");
}
