//! The spool under random crashes and damage, and the reporter against a real server on loopback.
#![allow(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "tests damage files on purpose")]

use super::spool::Spool;
use super::{HubStanding, Joints, run};
use crate::config::Config;
use crate::enforce::standing::Standing;
use crate::enforce::{Ask, agent};
use evenkeel_core::Mode;
use evenkeel_report::{Counts, Node, Pass, Report, Scope, Seq, SpecState, Timestamp, Trigger};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

const ROOMY: u64 = 16 << 20;

fn append(spool: &mut Spool, payload: u64) -> Seq {
    spool.append(1_000, &|seq| serde_json::to_vec(&(seq.epoch, seq.n, payload))).unwrap()
}

fn payload(json: &[u8]) -> (Seq, u64) {
    let (epoch, n, payload) = serde_json::from_slice(json).unwrap();
    (Seq { epoch, n }, payload)
}

fn records(folder: &Path) -> Vec<std::path::PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files
}

#[derive(Debug, Clone)]
enum Act {
    Append,
    /// Send so many, and have so many of them acknowledged.
    Send(usize, usize),
    /// The process dies and starts again.
    Crash,
    /// It dies between the hub's acknowledgement and the spool's own note of it.
    AckLost(usize),
    /// It dies, and one record is not whole afterwards.
    Damage {
        which: usize,
        cut: bool,
    },
    /// It dies, and the numbers' own file is damaged.
    DamageNumbers,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        5 => Just(Act::Append),
        3 => (1..5usize, 0..5usize).prop_map(|(sent, acked)| Act::Send(sent, acked)),
        2 => Just(Act::Crash),
        1 => (1..5usize).prop_map(Act::AckLost),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, cut)| Act::Damage { which, cut }),
        1 => Just(Act::DamageNumbers),
    ];
    proptest::collection::vec(act, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn through_any_crash_every_report_comes_once_under_its_own_id_and_in_order(acts in acts()) {
        let folder = tempfile::tempdir().unwrap();
        let mut clock = 1_000;
        let mut open = || {
            clock += 1;
            Spool::open(folder.path(), ROOMY, clock).unwrap()
        };
        let mut spool = open();
        let mut given: BTreeMap<Seq, u64> = BTreeMap::new();
        let mut heard: Vec<Seq> = vec![];
        let mut damaged = BTreeSet::new();
        let mut next = 0;
        let mut hear = |sent: &[super::Record], given: &BTreeMap<Seq, u64>| {
            for record in sent {
                let (seq, content) = payload(&record.json);
                prop_assert_eq!(seq, record.seq);
                prop_assert_eq!(given.get(&seq), Some(&content), "one id, one content");
                heard.push(seq);
            }
            Ok(())
        };
        for act in acts {
            match act {
                Act::Append => {
                    let seq = append(&mut spool, next);
                    prop_assert!(given.insert(seq, next).is_none(), "no number is given twice");
                    next += 1;
                }
                Act::Send(most, acked) => {
                    let sent = spool.oldest(most, 1 << 20);
                    hear(&sent, &given)?;
                    // A batch is acknowledged whole or not at all.
                    if acked > 0 {
                        spool.told(sent.iter().map(|record| record.seq));
                    }
                }
                Act::Crash => spool = open(),
                Act::AckLost(most) => {
                    let sent = spool.oldest(most, 1 << 20);
                    hear(&sent, &given)?;
                    spool = open();
                }
                Act::Damage { which, cut } => {
                    let files = records(folder.path());
                    if let Some(path) = files.get(which % files.len().max(1)) {
                        let mut bytes = std::fs::read(path).unwrap();
                        match bytes.last_mut() {
                            Some(last) if !cut => *last ^= 1,
                            _ => bytes.truncate(which % bytes.len().max(1)),
                        }
                        std::fs::write(path, bytes).unwrap();
                        let name = path.file_name().unwrap().to_str().unwrap();
                        damaged.insert(super::spool::parse_name(name).unwrap());
                    }
                    spool = open();
                }
                Act::DamageNumbers => {
                    let path = folder.path().join("epoch");
                    let bytes = std::fs::read(&path).unwrap();
                    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
                    spool = open();
                }
            }
        }
        loop {
            let sent = spool.oldest(64, 1 << 20);
            if sent.is_empty() { break }
            hear(&sent, &given)?;
            spool.told(sent.iter().map(|record| record.seq));
        }
        let told: BTreeSet<Seq> = heard.iter().copied().collect();
        for seq in given.keys() {
            prop_assert!(told.contains(seq) || damaged.contains(seq), "{seq:?} was lost");
        }
        let mut firsts = vec![];
        for seq in &heard {
            if !firsts.contains(seq) { firsts.push(*seq) }
        }
        prop_assert!(firsts.is_sorted(), "in order: {firsts:?}");
        prop_assert!(records(folder.path()).is_empty());
    }
}

#[test]
fn a_full_spool_drops_the_oldest_and_says_how_many() {
    let folder = tempfile::tempdir().unwrap();
    // 4 KiB a record: 16 of them.
    let mut spool = Spool::open(folder.path(), 64 << 10, 7).unwrap();
    for n in 0..50 {
        append(&mut spool, n);
    }
    let standing = spool.standing();
    assert_eq!((standing.waiting, standing.dropped), (16, 34));
    assert_eq!(payload(&spool.oldest(1, 1 << 20)[0].json).1, 34);
    assert_eq!(Spool::open(folder.path(), 64 << 10, 9).unwrap().standing(), standing, "kept over a restart");
    assert_eq!(spool.last(), Seq { epoch: 7, n: 50 });
}

#[test]
fn a_damaged_record_is_moved_aside_and_counted_and_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut spool = Spool::open(folder.path(), ROOMY, 7).unwrap();
    (0..3).for_each(|n| {
        append(&mut spool, n);
    });
    let second = records(folder.path())[1].clone();
    std::fs::write(&second, "0badcafe 3\nabc").unwrap();
    let mut spool = Spool::open(folder.path(), ROOMY, 8).unwrap();
    let left: Vec<u64> = spool.oldest(9, 1 << 20).iter().map(|record| payload(&record.json).1).collect();
    assert_eq!((left, spool.standing().dropped), (vec![0, 2], 1));
    assert!(
        !second.exists()
            && folder.path().join(second.file_name().unwrap()).with_extension("json.corrupt").exists()
    );
}

#[test]
fn what_the_disk_does_not_take_waits_in_memory_under_numbers_that_are_never_given_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let mut spool = Spool::open(&path, ROOMY, 7).unwrap();
    let first = append(&mut spool, 0);
    // As if the disk were gone: nothing can be made in what is no folder.
    let away = folder.path().join("away");
    std::fs::rename(&path, &away).unwrap();
    std::fs::write(&path, "in the way").unwrap();
    let second = append(&mut spool, 1);
    assert!(second.epoch > first.epoch, "{second:?}");
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&away, &path).unwrap();
    let third = append(&mut spool, 2);
    assert_eq!(third, Seq { n: 2, ..second });
    let left: Vec<u64> = spool.oldest(9, 1 << 20).iter().map(|record| payload(&record.json).1).collect();
    assert_eq!(left, [0, 1, 2]);
    assert_eq!(Spool::open(&path, ROOMY, 9).unwrap().last(), third, "and the disk knows the new epoch");
}

#[test]
fn numbers_of_an_older_memory_that_was_put_back_are_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let (epoch, kept) = (folder.path().join("epoch"), folder.path().join("kept"));
    append(&mut Spool::open(folder.path(), ROOMY, 7).unwrap(), 0);
    std::fs::rename(&epoch, &kept).unwrap();
    let newer = append(&mut Spool::open(folder.path(), ROOMY, 8).unwrap(), 1);
    assert_eq!(newer, Seq { epoch: 8, n: 1 });
    std::fs::rename(&kept, &epoch).unwrap();
    let next = append(&mut Spool::open(folder.path(), ROOMY, 1).unwrap(), 2);
    assert!(next.epoch > newer.epoch, "{next:?}");
}

/// A server that answers as it is told to, and keeps what it took.
struct Server {
    url: String,
    /// What is answered next; the last one stays.
    script: Arc<Mutex<Vec<&'static str>>>,
    /// Every request's events, with the status it was answered.
    seen: Log,
}

/// Answers given, each with the events it was given to.
type Log = Arc<Mutex<Vec<(String, Vec<Value>)>>>;

const OK: &str = "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

impl Server {
    async fn start(script: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(script.to_vec()));
        let seen = Arc::new(Mutex::new(vec![]));
        let (lines, log) = (script.clone(), seen.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, lines.clone(), log.clone()));
            }
        });
        Self { url, script, seen }
    }

    fn say(&self, script: &[&'static str]) {
        *self.script.lock().unwrap() = script.to_vec();
    }

    /// Ids of reports in requests that were answered well, in order.
    fn taken(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        let taken = seen.iter().filter(|(answer, _)| answer.starts_with("HTTP/1.1 2"));
        taken
            .flat_map(|(_, events)| events)
            .filter(|event| event["type"] == "dev.evenkeel.report.v1")
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn serve(mut stream: TcpStream, script: Arc<Mutex<Vec<&'static str>>>, seen: Log) {
    let mut bytes = vec![];
    let mut chunk = vec![0; 65536];
    loop {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
            assert!(text.starts_with("post /v1/events http/1.1"), "{text}");
            assert!(text.contains("content-type: application/cloudevents-batch+json"), "{text}");
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let length: usize = length.trim().parse().unwrap();
            if bytes.len() >= head + 4 + length {
                let body = &bytes[head + 4..head + 4 + length];
                let events: Vec<Value> = if text.contains("content-encoding: gzip") {
                    serde_json::from_reader(flate2::read::GzDecoder::new(body)).unwrap()
                } else {
                    serde_json::from_slice(body).unwrap()
                };
                bytes.drain(..head + 4 + length);
                let answer = {
                    let mut script = script.lock().unwrap();
                    let poison = events.iter().any(|event| event["data"]["node"]["tier"] == "poison");
                    match script.len() {
                        _ if poison => "HTTP/1.1 422 Unprocessable\r\ncontent-length: 0\r\n\r\n",
                        0 | 1 => script.first().copied().unwrap_or(OK),
                        _ => script.remove(0),
                    }
                };
                seen.lock().unwrap().push((answer.to_owned(), events));
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
                continue;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// The reporter, running, and its ends.
struct Rig {
    reports: mpsc::Sender<Report>,
    asked: mpsc::Receiver<Ask>,
    hub: watch::Receiver<HubStanding>,
    config: watch::Sender<Arc<Config>>,
    _standing: watch::Sender<Standing>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

fn wall() -> Timestamp {
    Timestamp::from_unix_ms(1_795_392_000_000).unwrap()
}

fn configured(state: &Path, hub: &str, beat: &str) -> Config {
    let text = format!("node: mw3\nhub: {hub}\nreport_interval: {beat}\nstate_dir: {}\n", state.display());
    Config::parse(Path::new("t"), &text, "h", &|_| None).unwrap()
}

fn start(state: &Path, hub: &str, beat: &str) -> Rig {
    let (config, config_rx) = watch::channel(Arc::new(configured(state, hub, beat)));
    let (reports, reports_rx) = mpsc::channel(64);
    let standing = Standing { node: node(""), ..Standing::default() };
    let (standing, standing_rx) = watch::channel(standing);
    let (asks, asked) = mpsc::channel(8);
    let (hub_tx, hub) = watch::channel(HubStanding::default());
    let joints = Joints { config: config_rx, reports: reports_rx, standing: standing_rx, asks, hub: hub_tx };
    let task = tokio::spawn(run(joints, wall));
    Rig { reports, asked, hub, config, _standing: standing, task }
}

fn node(tier: &str) -> Node {
    Node { name: "mw3".into(), tier: tier.into(), ..Node::default() }
}

fn report(tier: &str) -> Report {
    Report {
        node: node(tier),
        agent: agent(),
        seq: Seq::default(),
        pass: Pass { id: "p".into(), trigger: Trigger::Drift, mode: Mode::Enforce, duration_ms: 1 },
        spec: SpecState::default(),
        scope: Scope::Changes,
        counts: Counts::default(),
        state_digest: "sha256:00".into(),
        items: vec![],
        gone: vec![],
        truncated: false,
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn numbers(ids: &[String]) -> Vec<u64> {
    ids.iter().map(|id| id.split_once(':').unwrap().1.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_hub_that_comes_back_has_every_report_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[BUSY]).await;
    let rig = start(folder.path(), &server.url, "1h");
    for _ in 0..100 {
        rig.reports.send(report("middleware")).await.unwrap();
    }
    until("it was turned away", || !server.seen.lock().unwrap().is_empty()).await;
    until("all is spooled", || rig.hub.borrow().spool.waiting == 100).await;
    assert!(rig.hub.borrow().trouble.as_deref().unwrap().contains("503"));
    server.say(&[OK]);
    until("all is told", || rig.hub.borrow().spool.waiting == 0).await;
    assert_eq!(numbers(&server.taken()), (1..=100).collect::<Vec<u64>>());
    let most = server.seen.lock().unwrap().iter().map(|(_, events)| events.len()).max();
    assert!(most <= Some(64), "{most:?}");
    assert_eq!(rig.hub.borrow().trouble, None);
}

#[tokio::test]
async fn reports_outlive_the_process_and_keep_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[BUSY]).await;
    let rig = start(folder.path(), &server.url, "1h");
    for _ in 0..3 {
        rig.reports.send(report("a")).await.unwrap();
    }
    until("all is spooled", || rig.hub.borrow().spool.waiting == 3).await;
    let Rig { reports, task, .. } = rig;
    drop(reports);
    task.await.unwrap().unwrap();
    server.say(&[OK]);
    let rig = start(folder.path(), &server.url, "1h");
    rig.reports.send(report("a")).await.unwrap();
    until("all is told", || server.taken().len() == 4).await;
    assert_eq!(numbers(&server.taken()), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_hub_that_is_not_there_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let rig = start(folder.path(), "http://127.0.0.1:9", "1h");
    rig.reports.send(report("a")).await.unwrap();
    until("trouble is shown", || rig.hub.borrow().trouble.is_some()).await;
    let server = Server::start(&[OK]).await;
    // Another hub in the configuration ends the wait at once.
    rig.config.send_replace(Arc::new(configured(folder.path(), &server.url, "1h")));
    until("all is told", || server.taken().len() == 1).await;
}

#[tokio::test]
async fn a_report_that_is_refused_is_set_aside_and_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[BUSY]).await;
    let rig = start(folder.path(), &server.url, "1h");
    for tier in ["a", "poison", "b", "c"] {
        rig.reports.send(report(tier)).await.unwrap();
    }
    until("all is spooled", || rig.hub.borrow().spool.waiting == 4).await;
    server.say(&[OK]);
    until("the rest is told", || rig.hub.borrow().spool.waiting == 0).await;
    assert_eq!(numbers(&server.taken()), [1, 3, 4]);
    assert_eq!((rig.hub.borrow().refused, rig.hub.borrow().spool.dropped), (1, 0));
    let refused = records(&folder.path().join("spool/refused"));
    assert_eq!(refused.len(), 1);
    assert!(std::fs::read_to_string(&refused[0]).unwrap().contains("poison"));
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let later = "HTTP/1.1 429 Slow Down\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n";
    let server = Server::start(&[later, OK]).await;
    let rig = start(folder.path(), &server.url, "1h");
    let began = Instant::now();
    rig.reports.send(report("a")).await.unwrap();
    until("it is told", || server.taken().len() == 1).await;
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_answer_that_asks_for_a_full_report_gets_one_and_a_redirect_leads_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = Server::start(&[OK]).await;
    let redirect: &'static str = Box::leak(
        format!(
            "HTTP/1.1 307 Elsewhere\r\nlocation: {}/v1/events\r\ncontent-length: 0\r\n\r\n",
            elsewhere.url
        )
        .into_boxed_str(),
    );
    let wants = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{\"want_full\":[\"mw3\"]";
    let wants: &'static str = Box::leak(format!("{}}}", wants.replace("20\r", "21\r")).into_boxed_str());
    let server = Server::start(&[redirect, wants, OK]).await;
    let mut rig = start(folder.path(), &server.url, "1h");
    rig.reports.send(report("a")).await.unwrap();
    let asked = tokio::time::timeout(Duration::from_secs(30), rig.asked.recv()).await.unwrap();
    assert!(matches!(asked, Some(Ask::Full)));
    assert_eq!(server.seen.lock().unwrap()[0].0, redirect);
    assert!(elsewhere.seen.lock().unwrap().is_empty(), "a redirect was followed");
    until("it is told", || rig.hub.borrow().spool.waiting == 0).await;
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_without_end() {
    let folder = tempfile::tempdir().unwrap();
    let body = "x".repeat(200 * 1024);
    let endless: &'static str =
        Box::leak(format!("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{body}").into_boxed_str());
    let server = Server::start(&[endless]).await;
    let rig = start(folder.path(), &server.url, "1h");
    let began = Instant::now();
    rig.reports.send(report("a")).await.unwrap();
    until("it is told", || rig.hub.borrow().reached.is_some() && rig.hub.borrow().spool.waiting == 0).await;
    assert!(began.elapsed() < Duration::from_secs(10), "the rest was not waited for");
}

#[tokio::test]
async fn heartbeats_are_events_of_their_own_and_never_spooled() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[OK]).await;
    let rig = start(folder.path(), &server.url, "100ms");
    until("three were heard", || server.seen.lock().unwrap().len() >= 3).await;
    let events: Vec<Value> =
        server.seen.lock().unwrap().iter().flat_map(|(_, events)| events.clone()).collect();
    let ids: BTreeSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len(), "each has an id of its own");
    for event in &events {
        assert_eq!(event["type"], "dev.evenkeel.heartbeat.v1");
        assert_eq!((event["subject"].as_str(), event["specversion"].as_str()), (Some("mw3"), Some("1.0")));
        assert!(event["source"].as_str().unwrap().starts_with("urn:uuid:"));
        let beat: evenkeel_report::Heartbeat = serde_json::from_value(event["data"].clone()).unwrap();
        assert_eq!((beat.interval_s, beat.spool.waiting), (1, 0));
    }
    assert_eq!(rig.hub.borrow().spool.waiting, 0);
}

#[tokio::test]
async fn without_a_hub_nothing_is_spooled() {
    let folder = tempfile::tempdir().unwrap();
    let rig = start(folder.path(), "none", "1h");
    rig.reports.send(report("a")).await.unwrap();
    drop(rig.reports);
    rig.task.await.unwrap().unwrap();
    assert!(records(&folder.path().join("spool")).is_empty());
}

#[test]
fn two_machines_of_one_name_and_two_nodes_on_one_machine_speak_apart() {
    let one = super::source(Some("m1"), "mw3");
    assert_eq!(one, super::source(Some("m1"), "mw3"));
    assert_ne!(one, super::source(Some("m2"), "mw3"));
    assert_ne!(one, super::source(Some("m1"), "mw4"));
    assert!(!one.contains("m1"));
}
