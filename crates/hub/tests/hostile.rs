//! Hostile clients against the real hub, all at once, while honest agents speak: what is hostile is refused and counted, and
//! every honest word is answered.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::stores::Kind;
use common::tls::{BATCH, Member, TlsHub, word};
use common::{beat, item, now_ms, report, seq};
use evenkeel_report::{Event, Report, Scope, Status};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often each of them tries: fewer requests than a node may send at once, as who sends more is told 429 (`members`).
const ROUNDS: usize = 6;
/// How many honest agents speak meanwhile.
const HONEST: usize = 6;

on_every_store! {
    hostile_clients_are_refused_and_counted_while_every_honest_heartbeat_is_answered
}

fn full(name: &str, n: u64) -> Event<Report> {
    let items = vec![item("sysctl/a", Status::NonCompliant)];
    report(name, seq(7, n), Scope::Full, items.clone(), &items)
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bodies that no agent sends, what they come as, and what they have to be answered with.
fn bodies() -> Vec<(&'static str, Vec<u8>, Option<&'static str>, u16)> {
    let mut good = serde_json::to_value(full("mallory", 1)).unwrap();
    let mut with = |key: &str, value: Value| {
        let was = std::mem::replace(&mut good[key], value);
        let body = json!([good]).to_string().into_bytes();
        good[key] = was;
        body
    };
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000)).into_bytes();
    let many = format!("[{}]", vec!["{}"; 100_000].join(",")).into_bytes();
    vec![
        ("no such version", with("specversion", json!("0.3")), None, 400),
        ("no id", with("id", json!("")), None, 400),
        ("an id that is none", with("id", json!({"a": 1})), None, 400),
        ("no data", with("data", Value::Null), None, 400),
        ("no time", with("time", json!("yesterday")), None, 400),
        ("no JSON", b"{\"specversion\": \"1.0\"".to_vec(), None, 400),
        ("no UTF-8", vec![0xff; 4096], None, 400),
        ("very deep", deep, None, 400),
        ("very many", many, None, 400),
        ("oversized", vec![b' '; (1 << 20) + 1], None, 413),
        ("a bomb", pack(&vec![b' '; 64 << 20]), Some("gzip"), 413),
        ("a bomb of zeros", pack(&vec![0; 64 << 20]), Some("gzip"), 413),
        ("no gzip", b"[]".repeat(100), Some("gzip"), 400),
        ("another coding", b"[]".to_vec(), Some("zstd"), 415),
    ]
}

/// Whatever is malformed; how often it was refused.
async fn malform(hub: &TlsHub, mallory: &Member) -> usize {
    let bodies = bodies();
    for _ in 0..ROUNDS {
        for (what, body, coding, expected) in &bodies {
            let (code, problem) = hub.send_bytes(&mallory.client, body.clone(), *coding).await;
            assert_eq!((code, &problem["status"]), (*expected, &json!(expected)), "{what}: {problem}");
        }
    }
    ROUNDS * bodies.len()
}

/// Speaks for others: by name, by source, and by one event among its own. How often it was refused.
async fn forge(hub: &TlsHub, mallory: &Member) -> usize {
    let stolen = |n| Event { source: "urn:uuid:honest0".into(), ..full("mallory", n) };
    for n in 1..=ROUNDS as u64 {
        for events in [vec![full("honest0", n + 100)], vec![full("mallory", n), full("honest1", n + 100)]] {
            let (code, problem) = hub.send(&mallory.client, &events).await;
            assert_eq!((code, word(&problem)), (403, "forged_identity"), "{problem}");
        }
        let (code, problem) = hub.send(&mallory.client, &[stolen(n + 100)]).await;
        assert_eq!(code / 100, 4, "{problem}");
    }
    2 * ROUNDS
}

/// Sends again what it has sent, which is stored once; how many duplicates there were.
async fn replay(hub: &TlsHub, parrot: &Member) -> usize {
    assert_eq!(hub.send(&parrot.client, &[full("parrot", 1)]).await.1["accepted"], 1);
    for _ in 0..ROUNDS {
        let events = vec![full("parrot", 1); 10];
        let (code, answer) = hub.send(&parrot.client, &events).await;
        assert_eq!((code, &answer["duplicate"]), (200, &json!(10)), "{answer}");
    }
    ROUNDS * 10
}

/// A body whose bytes come one by one, for as long as there is a receiver.
struct Drops {
    left: usize,
    clock: tokio::time::Interval,
}

impl hyper::body::Body for Drops {
    type Data = hyper::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        if self.left == 0 {
            return std::task::Poll::Ready(None);
        }
        self.clock.poll_tick(context).map(|_| {
            self.left -= 1;
            Some(Ok(hyper::body::Frame::data(hyper::body::Bytes::from_static(b"["))))
        })
    }
}

/// One byte a second; the status, and after how long it came.
async fn drip(hub: &TlsHub, mallory: &Member) -> (u16, Duration) {
    let body = Drops { left: 1000, clock: tokio::time::interval(Duration::from_secs(1)) };
    let began = Instant::now();
    let request = mallory.client.post(format!("{}/v1/events", hub.url)).header("content-type", BATCH);
    let answer = request.body(reqwest::Body::wrap(body)).send().await.unwrap();
    (answer.status().as_u16(), began.elapsed())
}

/// Heartbeats one after the other, until it is over; how many there were. Each is answered, and none is a duplicate.
async fn be_honest(hub: Arc<TlsHub>, agent: Member, name: String, over: Arc<AtomicBool>) -> usize {
    let all = [item("sysctl/a", Status::NonCompliant)];
    assert_eq!(hub.send(&agent.client, &[full(&name, 1)]).await.1["accepted"], 1);
    let (mut count, mut at) = (0, 0);
    while !over.load(Ordering::Relaxed) || count < 20 {
        at = now_ms().max(at + 1);
        let (code, answer) = hub.send(&agent.client, &[beat(&name, seq(7, 1), at, &all)]).await;
        assert_eq!(
            (code, &answer["accepted"], &answer["want_full"]),
            (200, &json!(1), &json!([])),
            "{answer}"
        );
        count += 1;
        tokio::time::sleep(Duration::from_millis(120)).await;
    }
    count
}

async fn hostile_clients_are_refused_and_counted_while_every_honest_heartbeat_is_answered(kind: Kind) {
    let hub = Arc::new(TlsHub::start_on(kind));
    let token = hub.token(&["--uses", "40"]);
    let over = Arc::new(AtomicBool::new(false));
    let mut honest = tokio::task::JoinSet::new();
    for n in 0..HONEST {
        let name = format!("honest{n}");
        let agent = hub.member(&token, &name).await;
        honest.spawn(be_honest(Arc::clone(&hub), agent, name, Arc::clone(&over)));
    }
    // Slow ones first: they are in the way of whoever comes after them, or of nobody.
    let mallory = hub.member(&token, "mallory").await;
    let mut slow = tokio::task::JoinSet::new();
    for n in 0..8 {
        let dripping = hub.member(&token, &format!("slow{n}")).await;
        let hub = Arc::clone(&hub);
        slow.spawn(async move { drip(&hub, &dripping).await });
    }
    let (parrot, broken) = (hub.member(&token, "parrot").await, hub.member(&token, "broken").await);
    let (replayed, malformed, forged) =
        tokio::join!(replay(&hub, &parrot), malform(&hub, &broken), forge(&hub, &mallory));
    slow.abort_all();
    over.store(true, Ordering::Relaxed);
    let heartbeats: usize = honest.join_all().await.into_iter().sum();
    assert!(heartbeats >= HONEST * 20, "{heartbeats}");

    let metrics = hub.page("/metrics").await;
    let counted = |line: &str| -> usize {
        let found = metrics.lines().find_map(|one| one.strip_prefix(line));
        found.unwrap_or_else(|| panic!("{line} in {metrics}")).trim().parse().unwrap()
    };
    assert!(counted("evenkeel_hub_malformed_requests_total") >= malformed);
    assert!(counted("evenkeel_hub_shut_out_requests_total{why=\"forged_identity\"}") >= forged);
    let event = |kind: &str, fate: &str| {
        counted(&format!("evenkeel_hub_events_total{{type=\"{kind}\",result=\"{fate}\"}}"))
    };
    assert_eq!(event("report", "duplicate"), replayed);
    assert_eq!(event("report", "accepted"), HONEST + 1, "every node's own report, and nothing else");
    assert_eq!(event("heartbeat", "accepted"), heartbeats);
    for n in 0..HONEST {
        let node: Value = serde_json::from_str(&hub.page(&format!("/api/v1/nodes/honest{n}")).await).unwrap();
        assert_eq!(
            (&node["seq"]["n"], &node["digest_ok"], &node["flags"]),
            (&json!(1), &json!(true), &json!([]))
        );
    }
}

#[tokio::test]
async fn who_writes_a_byte_a_second_is_ended_after_half_a_minute() {
    let hub = TlsHub::start();
    let mallory = hub.member(&hub.token(&[]), "mallory").await;
    let (code, after) = drip(&hub, &mallory).await;
    assert_eq!(code, 408);
    assert!((25..45).contains(&after.as_secs()), "{after:?}");
}

/// The hub is stopped, so that it takes nobody in: whoever finds no room to wait has no connection.
#[tokio::test]
async fn a_fleet_that_comes_at_once_finds_room_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let hub = common::Hub::start(&format!("sqlite:{}", dir.path().join("state/hub.db").display()));
    let pid = hub.child.id().to_string();
    let signal = |name: &str| {
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    let address = hub.url.strip_prefix("http://").unwrap().parse().unwrap();
    let connect = |_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(900));
    let waiting: Vec<_> = (0..600).map_while(|n| connect(n).ok()).collect();
    signal("-CONT");
    assert_eq!(waiting.len(), 600);
    drop(waiting);
    assert_eq!(hub.text("/healthz").await.0, 200);
}
