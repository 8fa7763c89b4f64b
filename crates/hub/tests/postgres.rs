//! What only PostgreSQL can go through: being killed, being away, several hubs at once, older and newer schemas,
//! days that come and go, a certificate that is checked.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::cluster::{Cluster, sql, try_sql};
use common::stores::{Kind, Where, address, dump_postgres, dump_sqlite};
use common::{Hub, T0, beat, item, report, seq};
use evenkeel_hub::config::{File, Overrides, settle};
use evenkeel_hub::liveness::liveness;
use evenkeel_hub::store::Store;
use evenkeel_hub::store::accounts::{Change, Entry};
use evenkeel_hub::store::acts::Act;
use evenkeel_hub::store::postgres::{PgRegistry, PgStore, PgView};
use evenkeel_hub::store::registry::{Enrol, NewCertificate, Refusal, Registry, Token};
use evenkeel_hub::store::{StoreError, Taken, View};
use evenkeel_hub::wire::Incoming;
use evenkeel_hub::writer::{Clock, WriteError, commit};
use evenkeel_report::{Event, Liveness, Report, Scope, Status};
use serde_json::json;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BATCH: &str = "application/cloudevents-batch+json";
const DAY: i64 = 86_400_000;

fn open(url: &str) -> PgStore {
    PgStore::open(&address(url)).unwrap()
}

fn full(name: &str, n: u64, status: Status) -> Event<Report> {
    let items = vec![item("sysctl/a", status), item("sysctl/b", Status::Compliant)];
    report(name, seq(7, n), Scope::Full, items.clone(), &items)
}

fn told(name: &str, n: u64, status: Status) -> Incoming {
    Incoming::Report(Box::new(full(name, n, status)))
}

fn one(url: &str, text: &str) -> String {
    sql(url, text)[0][0].clone().unwrap_or_default()
}

#[test]
fn a_database_of_version_1_becomes_the_newest_and_keeps_its_rows() {
    let url = Cluster::shared().database();
    commit(&mut open(&url), &[&[told("mw1", 1, Status::Pending)]], T0).unwrap();
    let before = dump_postgres(&url);
    sql(
        &url,
        "DROP INDEX items_open; DROP INDEX history_repairs; DROP INDEX history_taken; DROP INDEX history_by_got; DROP TABLE meta; \
         DROP TABLE slots, tokens, enrolments, certificates, marks, news, outbox, standing, silences, accounts, passes, audit, retired; \
         DROP FUNCTION audit_stays; DROP INDEX items_facts; DELETE FROM schema_version WHERE version > 1",
    );
    let mut store = open(&url);
    assert_eq!(one(&url, "SELECT max(version) FROM schema_version"), "8");
    assert_eq!(dump_postgres(&url), before);
    store.note_up(T0).unwrap();
    assert_eq!(store.last_up().unwrap(), Some(T0));
    assert_eq!(PgView::new(&address(&url)).open_items(10).unwrap().len(), 1);
}

#[test]
fn many_hubs_may_start_at_once_on_an_empty_database() {
    let url = Cluster::shared().database();
    let starting: Vec<_> = (0..6)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || open(&url).note_up(T0).unwrap())
        })
        .collect();
    for one in starting {
        one.join().unwrap();
    }
    assert_eq!(one(&url, "SELECT count(*) FROM schema_version"), "8");
    assert_eq!(one(&url, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'history'::regclass"), "4");
}

#[test]
fn a_database_of_a_newer_hub_is_refused_with_what_to_do() {
    let url = Cluster::shared().database();
    drop(open(&url));
    sql(&url, "INSERT INTO schema_version (version) VALUES (99)");
    let why = PgStore::open(&address(&url)).unwrap_err().to_string();
    assert!(why.contains("has schema version 99, this hub knows up to 8: run a newer evenkeel-hub"), "{why}");
}

#[test]
fn two_hubs_on_one_database_leave_what_one_would() {
    let names = ["mw1", "mw2", "mw3", "db1"];
    let words = [Status::Pending, Status::Repaired, Status::Error, Status::Compliant, Status::NonCompliant];
    let batch = |n: u64| -> Vec<Incoming> {
        let word = |at: usize| words[(usize::try_from(n).unwrap() * 3 + at) % words.len()];
        names.iter().enumerate().map(|(at, name)| told(name, n, word(at))).collect()
    };
    let batches: Vec<_> = (1..=40).map(batch).collect();
    let alone = Where::new(Kind::Postgres);
    let mut store = alone.store();
    for batch in &batches {
        commit(store.as_mut(), &[batch], T0).unwrap();
    }
    let url = Cluster::shared().database();
    let feed = |order: Vec<usize>| {
        let (url, batches) = (url.clone(), batches.clone());
        std::thread::spawn(move || {
            let mut store = open(&url);
            for at in order {
                let mut batch = batches[at].clone();
                // Not even within a batch is it the same order.
                batch.rotate_left(at % 4);
                commit(&mut store, &[&batch], T0).unwrap();
            }
        })
    };
    let there = feed((0..40).collect());
    let back = feed((0..40).rev().collect());
    let across = feed((0..40).map(|at| at * 7 % 40).collect());
    for hub in [there, back, across] {
        hub.join().unwrap();
    }
    assert_eq!(dump_postgres(&url), alone.dump());
}

fn token(uses: u32) -> Token {
    let (id, hash, nodes) = ("t1".to_owned(), "hash".to_owned(), "mw*".to_owned());
    Token { id, hash, nodes, labels: BTreeMap::new(), made: T0, until: T0 + 1, uses, used: 0, revoked: false }
}

fn enrol(node: &str) -> Enrol {
    let (serial, key) = (format!("serial-{node}"), format!("key-{node}"));
    let certificate = NewCertificate { serial, key, from: T0, until: T0 + DAY };
    Enrol { token: "hash".to_owned(), node: node.to_owned(), now: T0, certificate }
}

#[test]
fn a_token_for_three_lets_three_in_however_many_hubs_it_is_shown_to_at_once() {
    let at = Where::new(Kind::Postgres);
    drop(at.store());
    assert!(at.act(Act::AddToken(token(3))));
    let asking: Vec<_> = (0..10)
        .map(|n| {
            let registry = PgRegistry::new(&address(&at.url()));
            std::thread::spawn(move || registry.enrol(&enrol(&format!("mw{n}"))).unwrap())
        })
        .collect();
    let answers: Vec<_> = asking.into_iter().map(|one| one.join().unwrap()).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
    assert!(answers.iter().all(|answer| matches!(answer, Ok(()) | Err(Refusal::UsedUp))), "{answers:?}");
    let registry = PgRegistry::new(&address(&at.url()));
    assert_eq!((registry.tokens().unwrap()[0].used, registry.certificates().unwrap().len()), (3, 3));
}

#[test]
fn what_is_registered_twice_because_its_answer_was_lost_is_there_once() {
    let at = Where::new(Kind::Postgres);
    drop(at.store());
    let registry = PgRegistry::new(&address(&at.url()));
    for _ in 0..2 {
        at.act(Act::AddToken(token(1)));
        registry.enrol(&enrol("mw1")).unwrap().unwrap();
    }
    let enrolment = registry.admission("serial-mw1").unwrap().unwrap().enrolment;
    // Every connection is ended behind its back; whoever asks next makes another.
    sql(
        &at.url(),
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
    assert!(registry.bind(enrolment, "urn:a").unwrap());
    let admission = registry.admission("serial-mw1").unwrap().unwrap();
    assert_eq!(admission.source.as_deref(), Some("urn:a"));
    assert_eq!((registry.tokens().unwrap()[0].used, registry.certificates().unwrap().len()), (1, 1));
    let other = Token { hash: "other".to_owned(), ..token(1) };
    let book = evenkeel_hub::accounts_of(&at.location()).unwrap();
    let adding = book.change(&Change::Act(Act::AddToken(other)), &Entry::default());
    assert!(adding.is_err(), "another token of that id is not lost in silence");
}

#[test]
fn what_another_hub_wrote_meanwhile_is_not_overlooked() {
    let at = Where::new(Kind::Postgres);
    let (mut one, mut other) = (at.store(), at.store());
    commit(one.as_mut(), &[&[told("mw1", 1, Status::Pending)]], T0).unwrap();
    // Both have it in memory by now, each from its own last write.
    commit(other.as_mut(), &[&[told("mw1", 2, Status::Error)]], T0).unwrap();
    commit(one.as_mut(), &[&[told("mw1", 3, Status::Error)]], T0).unwrap();
    let again = commit(other.as_mut(), &[&[told("mw1", 3, Status::Error)]], T0).unwrap();
    assert_eq!(again[0].duplicate, [true]);
    let key = at.view().node("mw1").unwrap().unwrap().key;
    let story: Vec<_> =
        at.view().timeline(key, None, 10).unwrap().into_iter().map(|row| row.status).collect();
    assert_eq!(story, ["error", "pending", "in_force"], "the third repeats the second");
}

#[test]
fn days_are_made_ahead_and_forgotten_whole() {
    let url = Cluster::shared().database();
    let mut store = open(&url);
    let days = || {
        one(
            &url,
            "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) FROM pg_inherits \
                             WHERE inhparent = 'history'::regclass",
        )
    };
    store.note_up(T0).unwrap();
    assert_eq!(days(), "history_20261123 history_20261124 history_20261125 history_20261126");
    // A clock that was far off made a day nobody had thought of.
    commit(&mut store, &[&[told("mw1", 1, Status::Pending)]], T0 - 40 * DAY).unwrap();
    commit(&mut store, &[&[told("mw1", 2, Status::Error)]], T0).unwrap();
    assert!(days().starts_with("history_20261014 "));
    assert_eq!(store.prune(T0 - 30 * DAY, 10).unwrap(), 1);
    assert!(days().starts_with("history_20261123 "));
    let view = PgView::new(&address(&url));
    let key = view.node("mw1").unwrap().unwrap().key;
    let changes: Vec<_> = view.timeline(key, None, 10).unwrap().into_iter().map(|row| row.status).collect();
    assert_eq!(changes, ["error"]);
    assert_eq!(view.items(key).unwrap().len(), 2, "what stands is not history");
    let again = commit(&mut store, &[&[told("mw1", 1, Status::Pending)]], T0).unwrap();
    assert_eq!(again[0].duplicate, [true], "a number stays known when its history is gone");
    // Another hub that did not hear of it makes the day anew.
    commit(&mut store, &[&[told("mw1", 3, Status::Pending)]], T0 - 40 * DAY).unwrap();
    assert!(days().starts_with("history_20261014 "));
}

#[test]
fn a_heartbeat_writes_the_narrow_row_and_nothing_else() {
    let at = Where::new(Kind::Postgres);
    let mut store = at.store();
    let all = [item("sysctl/a", Status::Pending), item("sysctl/b", Status::Compliant)];
    // The first tells who it is.
    let first = Incoming::Beat(Box::new(beat("mw1", seq(7, 1), T0 + 10, &all)));
    commit(store.as_mut(), &[&[told("mw1", 1, Status::Pending), first]], T0).unwrap();
    let rows = "SELECT (SELECT xmin FROM nodes)::text, (SELECT string_agg(xmin::text, ',') FROM items), \
                (SELECT string_agg(xmin::text, ',') FROM history), (SELECT xmin FROM pulses)::text";
    let before = sql(&at.url(), rows);
    let mut alive = beat("mw1", seq(7, 1), T0 + 30_000, &all);
    alive.data.spec.age_s = Some(17);
    commit(store.as_mut(), &[&[Incoming::Beat(Box::new(alive))]], T0 + 30_000).unwrap();
    let after = sql(&at.url(), rows);
    assert_eq!(after[0][..3], before[0][..3]);
    assert_ne!(after[0][3], before[0][3]);
    let doc = at.view().node("mw1").unwrap().unwrap().doc;
    assert_eq!((doc.last_seen, doc.spec.age_s, doc.beat.unwrap().interval_s), (T0 + 30_000, Some(17), 30));
}

/// Away from the runtime, which goes on meanwhile.
async fn apart<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(what).await.unwrap()
}

/// Sends until it is taken, whatever happens meanwhile.
async fn insist(client: &reqwest::Client, hub: &Arc<Mutex<Option<Hub>>>, event: &Event<Report>) {
    for _ in 0..600 {
        let url = hub.lock().unwrap().as_ref().map(|hub| hub.url.clone());
        if let Some(url) = url {
            let body = serde_json::to_vec(&[event]).unwrap();
            let sent =
                client.post(format!("{url}/v1/events")).header("content-type", BATCH).body(body).send().await;
            if sent.is_ok_and(|answer| answer.status() == 200) {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it was never taken");
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_is_there_twice_when_both_are_killed_under_load() {
    let mut cluster = Cluster::new("");
    let url = cluster.database();
    let hub = Arc::new(Mutex::new(Some(Hub::start(&url))));
    let words = [Status::Pending, Status::Error, Status::NonCompliant];
    let client = common::client();
    let nodes = (0..8).map(|node| {
        let (hub, client) = (Arc::clone(&hub), client.clone());
        tokio::spawn(async move {
            for n in 1..=60 {
                let word = words[usize::try_from(n).unwrap() % 3];
                insist(&client, &hub, &full(&format!("mw{node}"), n, word)).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
    });
    let nodes: Vec<_> = nodes.collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        cluster = apart(move || {
            cluster.kill();
            std::thread::sleep(Duration::from_millis(200));
            cluster.start();
            cluster
        })
        .await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        // Dropping it kills it.
        drop(hub.lock().unwrap().take());
        let at = url.clone();
        let started = apart(move || Hub::start(&at)).await;
        *hub.lock().unwrap() = Some(started);
    }
    for node in nodes {
        node.await.unwrap();
    }
    let counts = sql(
        &url,
        "SELECT source, count(*), count(DISTINCT n) FROM history JOIN nodes ON nodes.id = node GROUP BY 1",
    );
    let expected = Some("60".to_owned());
    assert_eq!(counts.len(), 8);
    assert!(counts.iter().all(|row| row[1] == expected && row[2] == expected), "{counts:?}");
    let started = hub.lock().unwrap().take().unwrap();
    for node in 0..8 {
        assert_eq!(started.json(&format!("/api/v1/nodes/mw{node}")).await["missing_reports"], 0);
    }
}

#[test]
fn a_database_that_is_away_makes_requests_wait_and_nobody_silent() {
    let mut cluster = Cluster::new("");
    let file = File { store: cluster.database(), ..File::default() };
    let config = settle(file, Overrides::default()).unwrap();
    let now = Arc::new(AtomicI64::new(T0));
    let clock: Clock = {
        let now = Arc::clone(&now);
        Arc::new(move || now.load(Ordering::SeqCst))
    };
    let served = evenkeel_hub::open(&config, clock).unwrap();
    let hub = served.hub;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let write = |name: &str, n: u64| runtime.block_on(hub.writer.write(vec![told(name, n, Status::Pending)]));
    let stands = || {
        let view = Arc::clone(&hub.view);
        let doc = view.node("mw1").unwrap().unwrap().doc;
        liveness(Some(doc.last_seen), doc.interval_s(), hub.times())
    };
    write("mw1", 1).unwrap();
    assert_eq!(stands(), Liveness::Online);
    let slot = || hub.slots.take("middleware", "mw1/service", T0);
    assert_eq!(slot().unwrap(), Taken::Granted);
    cluster.kill();
    let began = std::time::Instant::now();
    for _ in 0..20 {
        assert!(matches!(write("mw1", 2), Err(WriteError::Away)));
    }
    assert!(began.elapsed() < Duration::from_secs(3), "nobody waits for a database that is away");
    assert!(matches!(hub.view.nodes(None, 1), Err(StoreError::Away { .. })));
    assert!(matches!(slot(), Err(StoreError::Away { .. })), "nothing is granted that is not kept");
    now.fetch_add(600_000, Ordering::SeqCst);
    cluster.start();
    while write("mw2", 1).is_err() {
        std::thread::sleep(Duration::from_millis(100));
    }
    let held = hub.slots.held().unwrap();
    assert_eq!(held["middleware"].len(), 1, "what was granted outlives a power cut");
    assert_eq!(stands(), Liveness::Online, "it could not have been heard of");
    now.fetch_add(126_000, Ordering::SeqCst);
    assert_eq!(stands(), Liveness::Silent, "it was silent ever since");
    write("mw1", 2).unwrap();
    assert_eq!(stands(), Liveness::Online);
}

#[tokio::test]
async fn a_hub_answers_503_while_its_database_is_away() {
    let mut cluster = Cluster::new("");
    let hub = Hub::start(&cluster.database());
    hub.send(&[full("mw1", 1, Status::Pending)]).await;
    cluster.kill();
    let body = serde_json::to_vec(&[full("mw1", 2, Status::Error)]).unwrap();
    let client = common::client();
    let post = || {
        client.post(format!("{}/v1/events", hub.url)).header("content-type", BATCH).body(body.clone()).send()
    };
    let answer = post().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "5"));
    assert!(answer.text().await.unwrap().contains("the database is away"));
    assert_eq!(hub.text("/healthz").await.0, 503);
    cluster.start();
    while post().await.unwrap().status() != 200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(hub.json("/api/v1/nodes/mw1").await["seq"]["n"], 2);
    assert_eq!(hub.text("/healthz").await.0, 200);
}

fn run(command: &str) {
    let out = Command::new("sh").args(["-ec", command]).output().unwrap();
    assert!(out.status.success(), "{command}\n{}", String::from_utf8_lossy(&out.stderr));
}

#[tokio::test]
async fn a_copy_of_a_running_hubs_store_is_whole_and_a_hub_starts_on_it() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let at = Where::new(kind);
        let hub = Hub::start(&at.url());
        hub.send(&[full("mw1", 1, Status::Pending), full("mw1", 2, Status::Repaired)]).await;
        let dir = tempfile::tempdir().unwrap();
        let (copy, copied) = if kind == Kind::Sqlite {
            let file = dir.path().join("copy.db");
            let store = at.url().strip_prefix("sqlite:").unwrap().to_owned();
            let conn = rusqlite::Connection::open(store).unwrap();
            conn.execute("VACUUM INTO ?1", [file.to_str().unwrap()]).unwrap();
            (format!("sqlite:{}", file.display()), dump_sqlite(&file))
        } else {
            let (to, file) = (Cluster::shared().database(), dir.path().join("copy.dump"));
            let bin = Cluster::bin();
            run(&format!("{}/pg_dump -Fc -d '{}' -f {}", bin.display(), at.url(), file.display()));
            run(&format!("{}/pg_restore --exit-on-error -d '{to}' {}", bin.display(), file.display()));
            let copied = dump_postgres(&to);
            (to, copied)
        };
        assert_eq!(copied, at.dump());
        let again = Hub::start(&copy);
        let answer = again.send(&[full("mw1", 2, Status::Repaired), full("mw1", 3, Status::Error)]).await;
        assert_eq!((&answer["accepted"], &answer["duplicate"]), (&json!(1), &json!(1)), "{kind:?}");
    }
}

#[tokio::test]
async fn the_servers_certificate_is_checked_and_the_password_comes_from_its_file() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().display().to_string();
    for (name, host) in [("right", "localhost"), ("other", "elsewhere")] {
        run(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={host} \
             -addext subjectAltName=DNS:{host} -addext basicConstraints=critical,CA:FALSE \
             -keyout {place}/{name}.key -out {place}/{name}.crt 2>/dev/null"
        ));
    }
    run(&format!("chmod 0755 {place}; chown postgres {place}/right.key; chmod 0600 {place}/right.key"));
    let set = format!(
        "listen_addresses = '127.0.0.1'\nssl = on\nssl_cert_file = '{place}/right.crt'\nssl_key_file = '{place}/right.key'"
    );
    let cluster = Cluster::on(port, &set);
    sql(&cluster.url("postgres"), "CREATE ROLE keeper LOGIN PASSWORD 'canary'");
    sql(&cluster.url("postgres"), "CREATE DATABASE fleet OWNER keeper");
    let pass = dir.path().join("pgpass");
    std::fs::write(&pass, format!("localhost:{port}:fleet:keeper:canary\n")).unwrap();
    run(&format!("chmod 0600 {}", pass.display()));
    let url = |rest: &str| format!("postgres://keeper@localhost:{port}/fleet?{rest}");
    let start = |rest: &str| {
        let mut hub = Command::new(env!("CARGO_BIN_EXE_evenkeel-hub"));
        hub.args(["serve", "--listen", "127.0.0.1:0", "--store", &url(rest)]).env("PGPASSFILE", &pass);
        let out = hub.output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!text.contains("canary"), "{text}");
        (out.status.code(), text)
    };
    let (code, why) = start(&format!("sslmode=verify-full&sslrootcert={place}/other.crt"));
    assert!(code == Some(1) && why.contains("certificate"), "{why}");
    let environment = [("PGPASSFILE", pass.to_str().unwrap())];
    for rest in [format!("sslmode=verify-full&sslrootcert={place}/right.crt"), "sslmode=require".to_owned()] {
        let hub = Hub::start_with(&url(&rest), &environment);
        hub.send(&[full(&format!("mw{}", rest.len()), 1, Status::Pending)]).await;
        let spoken = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'keeper'";
        assert_eq!(one(&cluster.url("postgres"), spoken), "t");
    }
    std::fs::write(&pass, format!("localhost:{port}:fleet:keeper:wrong\n")).unwrap();
    let (code, why) = start("sslmode=require");
    assert!(code == Some(1) && why.contains("password authentication failed"), "{why}");
}

#[test]
fn a_database_that_is_not_utf_8_is_refused_with_what_to_do() {
    let url = Cluster::shared().url("postgres");
    try_sql(&url, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").unwrap();
    let why = PgStore::open(&address(&Cluster::shared().url("latin"))).unwrap_err();
    assert!(evenkeel_hub::writer::chain(&why).contains("ENCODING 'UTF8'"), "{why}");
}

#[test]
fn reports_of_one_batch_that_come_late_and_in_pieces_are_found_beyond_what_was_loaded_at_once() {
    let (sqlite, postgres) = (Where::new(Kind::Sqlite), Where::new(Kind::Postgres));
    let words = [Status::Pending, Status::Error, Status::NonCompliant];
    for at in [&sqlite, &postgres] {
        let mut store = at.store();
        let mut take = |events: &[Incoming]| commit(store.as_mut(), &[events], T0).unwrap();
        let event = |n: u64| {
            let mut items = BTreeMap::from([("sysctl/a", words[usize::try_from(n).unwrap() % 3])]);
            if n.is_multiple_of(300) {
                items.insert("sysctl/rare", words[usize::try_from(n / 300).unwrap() % 3]);
            }
            let items: Vec<_> = items.into_iter().map(|(id, status)| item(id, status)).collect();
            Incoming::Report(Box::new(report("mw1", seq(7, n), Scope::Changes, items.clone(), &items)))
        };
        let late = [2, 301, 599, 600, 950];
        let early: Vec<_> = (1..=1_000).filter(|n| !late.contains(n)).map(event).collect();
        early.chunks(100).for_each(|chunk| drop(take(chunk)));
        late.iter().rev().for_each(|n| drop(take(&[event(*n)])));
    }
    assert_eq!(postgres.dump(), sqlite.dump());
}
