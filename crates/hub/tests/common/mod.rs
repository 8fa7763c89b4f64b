//! Events as an agent would tell them, a real hub to tell them to, and a look into its database.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]
#![allow(
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::items_after_statements,
    reason = "tests"
)]
#![allow(unused_macros, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

pub mod cluster;
pub mod lab;
pub mod oidc;
pub mod people;
pub mod provider;
pub mod receiver;
pub mod stores;
pub mod tls;

use evenkeel_report::{
    Agent, Change, Counts, Drift, Event, HEARTBEAT_V1, Heartbeat, Item, Layer, Mode, Node, Pass, REPORT_V1,
    Report, Scope, Seq, SpecState, Spool, Status, Sync, Timestamp, Trigger, Writer, event_id, state_digest,
};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// 2026-11-23T01:02:03Z.
pub const T0: i64 = 1_795_395_723_000;

pub fn item(id: &str, status: Status) -> Item {
    let off = status > Status::Compliant;
    let drift = Drift {
        attr: "value".into(),
        layer: Layer::Kernel,
        observed: Some("7200".into()),
        desired: "60".into(),
    };
    Item {
        id: id.into(),
        status,
        change: (status == Status::Repaired).then_some(Change::Corrective),
        phase: None,
        reason: (status == Status::Pending).then(|| "waits for a reconnect".into()),
        declared_at: Some("fleet.yaml:17".into()),
        drift: if off { vec![drift] } else { vec![] },
        repaired: vec![],
        writer: (status == Status::Repaired).then(|| Writer {
            pid: 4242,
            comm: Some("sysctl".into()),
            unit: Some("session.scope".into()),
        }),
        since: off.then(|| Timestamp::from_unix_ms(T0 - 60_000).unwrap()),
        attempts: u32::from(off),
        facts: std::collections::BTreeMap::new(),
        progress: None,
    }
}

pub fn source(name: &str) -> String {
    format!("urn:uuid:{name}")
}

/// A report of `name` at `seq`; `all` is how the whole node stands after it, `items` what it lists.
pub fn report(name: &str, seq: Seq, scope: Scope, items: Vec<Item>, all: &[Item]) -> Event<Report> {
    let at = Timestamp::from_unix_ms(T0 + i64::try_from(seq.n).unwrap() * 1000).unwrap();
    let data = Report {
        node: node(name),
        agent: Agent { version: "0.1.0".into() },
        seq,
        pass: Pass {
            id: "01939c5e-0000-7000-8000-000000000000".into(),
            trigger: Trigger::Drift,
            mode: Mode::Enforce,
            duration_ms: 3,
        },
        spec: spec("1111111111111111"),
        scope,
        counts: all.iter().map(|item| item.status).collect::<Counts>(),
        state_digest: state_digest(all),
        items,
        gone: vec![],
        truncated: false,
    };
    Event::new(REPORT_V1, &source(name), event_id(seq), name, at, data)
}

pub fn node(name: &str) -> Node {
    let tier = if name.starts_with("db") { "database" } else { "middleware" };
    Node { name: name.into(), tier: tier.into(), boot_id: format!("boot-{name}"), ..Node::default() }
}

pub fn spec(commit: &str) -> SpecState {
    SpecState {
        repo: "ssh://git.example/eden.git".into(),
        branch: "main".into(),
        target_commit: Some(commit.into()),
        observed_commit: Some(commit.into()),
        sync: Sync::Synced,
        ..SpecState::default()
    }
}

pub fn beat(name: &str, seq: Seq, at_ms: i64, all: &[Item]) -> Event<Heartbeat> {
    let data = Heartbeat {
        node: node(name),
        agent: Agent { version: "0.1.0".into() },
        seq,
        interval_s: 30,
        spec: spec("1111111111111111"),
        counts: all.iter().map(|item| item.status.settled()).collect(),
        state_digest: state_digest(all),
        spool: Spool::default(),
        last_pass_age_s: Some(2),
    };
    let at = Timestamp::from_unix_ms(at_ms).unwrap();
    Event::new(HEARTBEAT_V1, &source(name), format!("hb:{at_ms}"), name, at, data)
}

pub fn seq(epoch: u64, n: u64) -> Seq {
    Seq { epoch, n }
}

pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// A client for plain HTTP; reqwest asks for a TLS provider all the same.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A real hub on a port of its own; killed when dropped.
pub struct Hub {
    pub child: Child,
    pub url: String,
    client: reqwest::Client,
}

impl Hub {
    /// On `sqlite:…` or `postgres://…`.
    pub fn start(store: &str) -> Self {
        Self::start_with(store, &[])
    }

    /// The same, with more in its environment.
    pub fn start_with(store: &str, environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_evenkeel-hub"))
            .args(["serve", "--listen", "127.0.0.1:0", "--store", store])
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().expect("the hub ended before it listened").unwrap();
            if let Some((_, rest)) = line.split_once("listening on ") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url, client: client() }
    }

    pub async fn post(
        &self,
        path: &str,
        kind: &str,
        body: impl Into<reqwest::Body>,
    ) -> (u16, serde_json::Value) {
        let answer = self
            .client
            .post(format!("{}{path}", self.url))
            .header("content-type", kind)
            .body(body)
            .send()
            .await
            .unwrap();
        let code = answer.status().as_u16();
        (code, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    /// Sends events as a batch; they must be taken.
    pub async fn send<T: serde::Serialize>(&self, events: &[T]) -> serde_json::Value {
        let body = serde_json::to_vec(events).unwrap();
        let (code, answer) = self.post("/v1/events", "application/cloudevents-batch+json", body).await;
        assert_eq!(code, 200, "{answer}");
        answer
    }

    pub async fn text(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    pub async fn json(&self, path: &str) -> serde_json::Value {
        let (code, text) = self.text(path).await;
        assert_eq!(code, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
