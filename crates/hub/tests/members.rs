//! Who may speak to a hub that asks for certificates: the real binary, real TLS, and everybody who should not.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::stores::Kind;
use common::tls::{BATCH, TlsHub, request, word};
use common::{beat, now_ms, report, seq};
use evenkeel_report::{Event, Report, Scope};
use flate2::{Compression, write::GzEncoder};
use serde_json::json;
use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

on_every_store! {
    a_node_is_let_in_by_a_token_and_speaks_for_itself_alone
    a_token_that_does_not_fit_lets_nobody_in_and_says_why
    an_answer_that_was_lost_costs_no_use_of_the_token
    a_token_for_a_tier_lets_no_other_tier_speak
    a_ban_holds_within_a_second_on_a_connection_that_is_open
    who_is_banned_while_his_body_is_on_its_way_is_banned
    a_node_that_was_taken_out_is_gone_until_a_later_token_lets_it_in
    of_two_machines_under_one_name_the_one_that_was_let_in_last_is_believed
    a_certificate_is_renewed_with_itself_and_no_use_after_its_end
    a_slot_is_for_who_shows_a_certificate_and_for_himself_alone
}

fn full(name: &str, n: u64) -> Event<Report> {
    report(name, seq(7, n), Scope::Full, vec![], &[])
}

/// The same, told by another machine under that name.
fn from_elsewhere(name: &str, n: u64) -> Event<Report> {
    Event { source: "urn:uuid:elsewhere".into(), ..full(name, n) }
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A body whose parts come when they come.
struct Parts(tokio::sync::mpsc::Receiver<Vec<u8>>);

impl hyper::body::Body for Parts {
    type Data = hyper::body::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        let part = self.0.poll_recv(context);
        part.map(|part| part.map(|bytes| Ok(hyper::body::Frame::data(bytes.into()))))
    }
}

async fn a_node_is_let_in_by_a_token_and_speaks_for_itself_alone(kind: Kind) {
    let hub = TlsHub::start_on(kind);
    let token = hub.token(&["--uses", "2"]);
    let (mw1, db1) = (hub.member(&token, "mw1").await, hub.member(&token, "db1").await);
    assert_eq!(hub.send(&mw1.client, &[full("mw1", 1)]).await.1["accepted"], 1);
    assert_eq!(hub.send(&db1.client, &[full("db1", 1)]).await.1["accepted"], 1);
    assert_eq!(hub.send(&mw1.client, &[full("mw1", 1)]).await.1["duplicate"], 1, "a replay is stored once");

    // In the body of its own connection another name, another node's source, and one forged event among good ones.
    let (code, problem) = hub.send(&mw1.client, &[full("db1", 2)]).await;
    assert_eq!((code, word(&problem)), (403, "forged_identity"));
    let (code, problem) = hub.send(&mw1.client, &[full("mw1", 2), full("db1", 3)]).await;
    assert_eq!((code, word(&problem)), (403, "forged_identity"));
    let stolen = Event { source: "urn:uuid:mw1".into(), ..full("web1", 1) };
    let web1 = hub.member(&hub.token(&[]), "web1").await;
    let (code, problem) = hub.send(&web1.client, &[stolen]).await;
    assert_eq!((code, word(&problem)), (403, "forged_identity"));
    assert_eq!(
        hub.send(&mw1.client, &[full("mw1", 2)]).await.1["accepted"],
        1,
        "nothing of a refused batch is stored"
    );
    let beat = beat("mw1", seq(7, 2), now_ms(), &[]);
    assert_eq!(hub.send(&mw1.client, &[beat]).await.0, 200);
    let metrics = hub.page("/metrics").await;
    assert!(metrics.contains("shut_out_requests_total{why=\"forged_identity\"} 3"), "{metrics}");
    assert!(!hub.page("/").await.contains("web1"), "what was refused is nowhere");
}

#[tokio::test]
async fn without_a_certificate_of_this_hub_nobody_speaks() {
    let hub = TlsHub::start();
    let body = [full("mw1", 1)];
    let (code, problem) = hub.send(&hub.client(None), &body).await;
    assert_eq!((code, word(&problem)), (401, "no_certificate"));
    let elsewhere = TlsHub::start();
    let stranger = elsewhere.member(&elsewhere.token(&[]), "mw1").await;
    let refused =
        hub.client(Some(&stranger.pem)).post(format!("{}/v1/events", hub.url)).json(&body).send().await;
    assert!(refused.is_err(), "another authority's certificate ends the handshake");
    let plain = common::client().post(format!("{}/v1/events", hub.pages)).json(&body).send().await.unwrap();
    assert_eq!(plain.status(), 403, "the pages' door takes no events");
    let enrol = json!({"token": hub.token(&[]), "node": "mw1", "csr": request().1});
    let plain = common::client().post(format!("{}/v1/enroll", hub.pages)).json(&enrol).send().await.unwrap();
    assert_eq!(plain.status(), 403, "nor a token");
    assert!(hub.page("/healthz").await.contains("ok"));
    assert!(
        common::client().get(&hub.url).send().await.is_err(),
        "who does not know the authority believes nothing"
    );
    let self_made = hub.client(None).get(format!("{}/", hub.url)).send().await.unwrap();
    assert_eq!(self_made.status(), 200, "the pages need no certificate");
}

async fn a_token_that_does_not_fit_lets_nobody_in_and_says_why(kind: Kind) {
    let hub = TlsHub::start_on(kind);
    let (_, csr) = request();
    let refused = async |token: &str, node: &str| {
        let (code, problem) = hub.ask_in(token, node, &csr).await;
        assert!(!problem.to_string().contains(token), "a token is repeated nowhere");
        (code, word(&problem).to_owned())
    };
    let answer = |word: &str| (403, word.to_owned());
    assert_eq!(refused("ekt_0000", "mw1").await, answer("token_unknown"));
    let short = hub.token(&["--expires", "1s"]);
    let scoped = hub.token(&["--nodes", "mw*"]);
    assert_eq!(refused(&scoped, "db1").await, answer("token_foreign"));
    let once = hub.token(&[]);
    hub.member(&once, "mw1").await;
    assert_eq!(refused(&once, "mw2").await, answer("token_used_up"));
    let taken_back = hub.token(&[]);
    let list: serde_json::Value = serde_json::from_str(&hub.told(&["token", "list", "--json"])).unwrap();
    let newest = list
        .as_array()
        .unwrap()
        .iter()
        .find(|token| token["state"] == "good" && token["nodes"] == "*")
        .unwrap();
    hub.told(&["token", "revoke", newest["id"].as_str().unwrap()]);
    assert_eq!(refused(&taken_back, "mw3").await, answer("token_revoked"));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(refused(&short, "mw1").await, answer("token_expired"));
    for node in ["", "a b", "../x", "a\nb", &"x".repeat(300)] {
        assert_eq!(hub.ask_in(&scoped, node, &csr).await.0, 400, "{node:?}");
    }
    assert_eq!(hub.ask_in(&scoped, "mw1", "nonsense").await.0, 400);
    let unknown = hub.command(&["token", "revoke", "nobody"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("token list"), "{unknown:?}");
    // Of a token there is its hash alone.
    let kept = hub.at.tokens();
    assert!(kept.contains("mw*") && !kept.contains(&once), "{kept}");
    for file in std::fs::read_dir(hub.at.dir()).unwrap().map(Result::unwrap) {
        let bytes = if file.path().is_file() { std::fs::read(file.path()).unwrap() } else { vec![] };
        assert!(!bytes.windows(once.len()).any(|part| part == once.as_bytes()), "{}", file.path().display());
    }
}

async fn an_answer_that_was_lost_costs_no_use_of_the_token(kind: Kind) {
    let hub = TlsHub::start_on(kind);
    let token = hub.token(&["--uses", "1"]);
    let (_, csr) = request();
    for _ in 0..3 {
        assert_eq!(hub.ask_in(&token, "mw1", &csr).await.0, 200);
    }
    assert_eq!(hub.ask_in(&token, "mw1", &request().1).await.0, 403, "another key is another enrolment");
}

async fn a_token_for_a_tier_lets_no_other_tier_speak(kind: Kind) {
    let hub = TlsHub::start_on(kind);
    let token = hub.token(&["--labels", "tier=database"]);
    let mw1 = hub.member(&token, "mw1").await;
    let (code, problem) = hub.send(&mw1.client, &[full("mw1", 1)]).await;
    assert_eq!((code, word(&problem)), (403, "out_of_scope"), "mw1 is of the tier middleware");
    let db1 = hub.member(&hub.token(&["--labels", "tier=database"]), "db1").await;
    assert_eq!(hub.send(&db1.client, &[full("db1", 1)]).await.0, 200);
}

async fn a_ban_holds_within_a_second_on_a_connection_that_is_open(kind: Kind) {
    let hub = TlsHub::start_on(kind);
    let mw1 = hub.member(&hub.token(&[]), "mw1").await;
    assert_eq!(hub.send(&mw1.client, &[full("mw1", 1)]).await.0, 200);
    let code = async |n| hub.send(&mw1.client, &[full("mw1", n)]).await;
    hub.told(&["node", "ban", "mw1"]);
    let began = Instant::now();
    let (status, problem) = code(2).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!((status, word(&problem)), (403, "banned"));
    let fresh = hub.token(&[]);
    let (status, problem) = hub.ask_in(&fresh, "mw1", &request().1).await;
    assert_eq!((status, word(&problem)), (403, "banned"), "a token does not help");
    hub.told(&["node", "unban", "mw1"]);
    assert_eq!(code(2).await.0, 200);

    let list: serde_json::Value = serde_json::from_str(&hub.told(&["node", "list", "--json"])).unwrap();
    let serial = list[0]["serial"].as_str().unwrap().to_owned();
    hub.told(&["node", "ban", &serial]);
    assert_eq!(word(&code(3).await.1), "banned");
    assert!(hub.told(&["node", "list"]).contains("banned"));
    hub.told(&["node", "unban", &serial]);
    assert_eq!(code(3).await.0, 200);
}

async fn who_is_banned_while_his_body_is_on_its_way_is_banned(kind: Kind) {
    let hub = TlsHub::start_on(kind);
    let mw1 = hub.member(&hub.token(&[]), "mw1").await;
    let event = serde_json::to_vec(&[full("mw1", 1)]).unwrap();
    let (first, second) = (event[..10].to_vec(), event[10..].to_vec());
    let (send, receive) = tokio::sync::mpsc::channel::<Vec<u8>>(2);
    send.send(first).await.unwrap();
    let request = mw1.client.post(format!("{}/v1/events", hub.url)).header("content-type", BATCH);
    let sending = tokio::spawn(request.body(reqwest::Body::wrap(Parts(receive))).send());
    tokio::time::sleep(Duration::from_millis(500)).await;
    hub.told(&["node", "ban", "mw1"]);
    send.send(second).await.unwrap();
    drop(send);
    assert_eq!(sending.await.unwrap().unwrap().status(), 403);
}

async fn a_node_that_was_taken_out_is_gone_until_a_later_token_lets_it_in(kind: Kind) {
    let hub = TlsHub::start_on(kind);
    let old = hub.token(&["--uses", "5"]);
    let mw1 = hub.member(&old, "mw1").await;
    assert_eq!(hub.send(&mw1.client, &[full("mw1", 1)]).await.0, 200);
    hub.told(&["node", "remove", "mw1"]);
    let (code, problem) = hub.send(&mw1.client, &[full("mw1", 1)]).await;
    assert_eq!((code, word(&problem)), (410, "removed"));
    assert!(hub.page("/nodes/mw1").await.contains("mw1 was taken out"));
    let (code, problem) = hub.ask_in(&old, "mw1", &request().1).await;
    assert_eq!((code, word(&problem)), (410, "removed"), "not by the token that it has still");
    tokio::time::sleep(Duration::from_millis(5)).await;
    let again = hub.member(&hub.token(&[]), "mw1").await;
    assert_eq!(hub.send(&again.client, &[full("mw1", 1)]).await.0, 200);
    assert!(!hub.command(&["node", "remove", "nobody"]).status.success());
}

async fn of_two_machines_under_one_name_the_one_that_was_let_in_last_is_believed(kind: Kind) {
    let hub = TlsHub::start_on(kind);
    let token = hub.token(&["--uses", "2"]);
    let first = hub.member(&token, "mw1").await;
    assert_eq!(hub.send(&first.client, &[full("mw1", 1)]).await.0, 200);
    let second = hub.member(&token, "mw1").await;
    assert_eq!(hub.send(&first.client, &[full("mw1", 2)]).await.0, 200, "the second has not spoken yet");
    assert_eq!(hub.send(&second.client, &[from_elsewhere("mw1", 1)]).await.0, 200);
    let (code, problem) = hub.send(&first.client, &[full("mw1", 3)]).await;
    assert_eq!((code, word(&problem)), (409, "cloned_identity"));
    assert_eq!(hub.send(&second.client, &[from_elsewhere("mw1", 2)]).await.0, 200);
    // One certificate on two machines: the first to speak with it has it.
    let (code, problem) = hub.send(&second.client, &[full("mw1", 4)]).await;
    assert_eq!((code, word(&problem)), (409, "cloned_identity"));
    let metrics = hub.page("/metrics").await;
    assert!(metrics.contains("why=\"cloned_identity\"} 2"), "{metrics}");
}

async fn a_certificate_is_renewed_with_itself_and_no_use_after_its_end(kind: Kind) {
    let hub = TlsHub::start_with(kind, &["--certificate-life", "8s"]);
    let old = hub.member(&hub.token(&[]), "mw1").await;
    let born = tokio::time::Instant::now();
    assert_eq!(hub.send(&old.client, &[full("mw1", 1)]).await.0, 200);
    let (key, csr) = request();
    let renew = |client: reqwest::Client| {
        let (url, csr) = (format!("{}/v1/renew", hub.url), csr.clone());
        async move { client.post(url).json(&json!({"csr": csr})).send().await }
    };
    let nobody = renew(hub.client(None)).await.unwrap();
    assert_eq!(nobody.status(), 401);
    // The new one lives for as long after the old one's end.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let given: serde_json::Value = renew(old.client.clone()).await.unwrap().json().await.unwrap();
    let new = format!("{}{}", key.serialize_pem(), given["certificate"].as_str().unwrap());
    let new = hub.client(Some(&new));
    assert_eq!(hub.send(&new, &[full("mw1", 2)]).await.0, 200);
    // On the connection that is open still, and at a new handshake.
    tokio::time::sleep_until(born + Duration::from_millis(8500)).await;
    let (code, problem) = hub.send(&old.client, &[full("mw1", 3)]).await;
    assert_eq!((code, word(&problem)), (401, "unknown_certificate"));
    let late = hub.client(Some(&old.pem)).post(format!("{}/v1/renew", hub.url)).json(&json!({"csr": csr}));
    // A certificate's last second is good in the handshake still; the store is more exact.
    let late = late.send().await;
    assert!(late.is_err() || late.is_ok_and(|answer| answer.status() == 401), "an old certificate is no use");
    assert_eq!(hub.send(&new, &[full("mw1", 3)]).await.0, 200);
}

#[tokio::test]
async fn a_compressed_batch_is_taken_and_a_bomb_is_left_at_the_cap() {
    let hub = TlsHub::start();
    let mw1 = hub.member(&hub.token(&[]), "mw1").await;
    let body = serde_json::to_vec(&[full("mw1", 1)]).unwrap();
    let send = async |body: Vec<u8>, coding: &str| hub.send_bytes(&mw1.client, body, Some(coding)).await;
    assert_eq!(send(pack(&body), "gzip").await.1["accepted"], 1);
    assert_eq!(send(body.clone(), "gzip").await.0, 400, "no gzip at all");
    let cut = pack(&body);
    assert_eq!(send(cut[..cut.len() - 9].to_vec(), "gzip").await.0, 400);
    assert_eq!(send(body.clone(), "br").await.0, 415);
    assert_eq!(send(pack(&vec![b' '; 900 << 20 >> 4]), "gzip").await.0, 413, "57 MiB in 57 KiB");
    let inside = pack(&pack(&vec![0; 64 << 20]));
    assert_eq!(send(inside, "gzip").await.0, 400);
    assert_eq!(send(vec![0; (1 << 20) + 1], "gzip").await.0, 413);
    assert_eq!(hub.send(&mw1.client, &[full("mw1", 2)]).await.0, 200);
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_again_and_the_others_are_served() {
    let hub = TlsHub::start();
    let token = hub.token(&["--uses", "2"]);
    let (mw1, mw2) = (hub.member(&token, "mw1").await, hub.member(&token, "mw2").await);
    let mut turned_away = None;
    for n in 0..2000 {
        let answer = mw1
            .client
            .post(format!("{}/v1/events", hub.url))
            .header("content-type", BATCH)
            .json(&[full("mw1", n + 1)])
            .send()
            .await
            .unwrap();
        if answer.status() == 429 {
            turned_away = answer.headers().get("retry-after").cloned();
            break;
        }
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(turned_away.unwrap(), "1");
    assert_eq!(hub.send(&mw2.client, &[full("mw2", 1)]).await.0, 200);
}

#[tokio::test]
async fn who_is_slow_in_the_handshake_holds_up_nobody_and_is_shown_the_door() {
    let hub = TlsHub::start();
    let address = hub.url.strip_prefix("https://").unwrap();
    let mut slow: Vec<_> = (0..50).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    slow[0].write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    let began = Instant::now();
    hub.member(&hub.token(&[]), "mw1").await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    slow[0].set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = vec![];
    let ended = slow[0].read_to_end(&mut rest);
    assert!(ended.is_ok() || began.elapsed() < Duration::from_secs(15), "{ended:?}");
    assert!(began.elapsed() > Duration::from_secs(8), "it had its time: {:?}", began.elapsed());
}

async fn slot(client: &reqwest::Client, url: &str, what: &str, id: &str) -> (u16, serde_json::Value) {
    let body = json!({"client_params": {"id": id, "group": "middleware"}});
    let request = client.post(format!("{url}/v1/{what}")).header("fleet-lock-protocol", "true");
    let answer = request.json(&body).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or_default())
}

async fn a_slot_is_for_who_shows_a_certificate_and_for_himself_alone(kind: Kind) {
    let hub = TlsHub::start_on(kind);
    let token = hub.token(&["--uses", "2"]);
    let (mw1, mw2) = (hub.member(&token, "mw1").await, hub.member(&token, "mw2").await);
    let ask = async |client: &reqwest::Client, what, id| {
        let (code, answer) = slot(client, &hub.url, what, id).await;
        (code, answer["kind"].as_str().unwrap_or_default().to_owned())
    };
    let no = |code, kind: &str| (code, kind.to_owned());
    assert_eq!(ask(&hub.client(None), "pre-reboot", "mw1/service").await, no(401, "no_certificate"));
    let plain = slot(&common::client(), &hub.pages, "pre-reboot", "mw1/service").await;
    assert_eq!((plain.0, &plain.1["kind"]), (403, &json!("plain_http")), "nor at the pages' door");
    for foreign in ["mw2/service", "mw10/service", "mw", "mw1x", "x/mw1"] {
        assert_eq!(ask(&mw1.client, "pre-reboot", foreign).await, no(403, "forged_identity"), "{foreign}");
    }
    assert_eq!(ask(&mw1.client, "pre-reboot", "mw1/service").await.0, 200);
    assert_eq!(ask(&mw2.client, "pre-reboot", "mw2/service").await, no(409, "failed_lock"));
    assert_eq!(ask(&mw2.client, "steady-state", "mw1/service").await, no(403, "forged_identity"));
    assert_eq!(ask(&hub.client(None), "steady-state", "mw1/service").await, no(401, "no_certificate"));
    assert!(hub.told(&["slots", "list"]).starts_with("middleware mw1/service since "));
    hub.told(&["node", "ban", "mw1"]);
    assert_eq!(ask(&mw1.client, "steady-state", "mw1/service").await, no(403, "banned"));
    hub.told(&["node", "unban", "mw1"]);
    assert_eq!(ask(&mw1.client, "steady-state", "mw1/service").await.0, 200);
    assert_eq!(ask(&mw2.client, "pre-reboot", "mw2/service").await.0, 200);
}

#[test]
fn an_authority_is_shown_and_never_made_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hub");
    let path = path.to_str().unwrap();
    let hub = |args: &[&str]| {
        std::process::Command::new(env!("CARGO_BIN_EXE_evenkeel-hub")).args(args).output().unwrap()
    };
    let made = hub(&["ca", "init", "--dir", path, "--name", "hub.example.org"]);
    assert!(made.status.success(), "{made:?}");
    let shown = hub(&["ca", "show", "--dir", path]);
    assert_eq!(shown.stdout, made.stdout);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("sha256:"), "{shown:?}");
    let again = hub(&["ca", "init", "--dir", path, "--name", "hub.example.org"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("no key is ever replaced"), "{again:?}");
    let nameless = hub(&["ca", "init", "--dir", path]);
    assert_eq!(nameless.status.code(), Some(64));
    let none = hub(&[
        "serve",
        "--tls",
        "/nonexistent/ca",
        "--listen",
        "127.0.0.1:0",
        "--store",
        &format!("sqlite:{path}/x.db"),
    ]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("/nonexistent/ca/"), "{none:?}");
}
