//! The description of the API, held against the OpenAPI Initiative's schema and against real answers of a hub with data.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use axum::body::{Body, to_bytes};
use axum::http::Request;
use common::lab::{Lab, off, told};
use common::people::let_in;
use common::stores::{Kind, Where};
use common::{T0, beat, item, seq};
use evenkeel_hub::accounts::{Actor, new_pass};
use evenkeel_hub::config::{File, Overrides, settle};
use evenkeel_hub::http::{NEEDS, Need, Way, needed, router};
use evenkeel_hub::store::accounts::{Account, Change, Entry, PassKind, Role};
use evenkeel_hub::tell::Teller;
use evenkeel_hub::tell::silence::{self, Asked};
use evenkeel_hub::tell::sinks::Sink;
use evenkeel_hub::wire::Incoming;
use evenkeel_hub::writer::Clock;
use evenkeel_report::{Phase, Status, Sync, Writer};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tower_service::Service as _;

on_every_store! {
    answers_are_what_the_description_says
}

async fn description(lab: &Lab) -> Value {
    lab.json("/api/v1/openapi.json").await
}

#[tokio::test]
async fn every_address_of_the_api_is_described_and_nothing_else() {
    let at = Where::new(Kind::Sqlite);
    let lab = Lab::new(&at);
    let description = description(&lab).await;
    let ways = [("get", Way::Read), ("post", Way::Post), ("delete", Way::Delete)];
    let mut described = BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        let (_, own) = NEEDS.iter().find(|(own, _)| own == path).unwrap();
        for (method, operation) in operations.as_object().unwrap() {
            let way = ways.iter().find(|(word, _)| word == method).unwrap().1;
            let need = needed(own, way);
            assert_ne!(need, Need::Closed, "{method} {path} is described, and closed");
            let says = operation["description"].as_str().unwrap_or_default();
            if let Need::Role(role) = need {
                assert!(says.contains(&format!("Needs the role {}.", role.word())), "{path}: {says}");
            }
            described.insert((path.clone(), method.clone()));
        }
    }
    for (path, own) in NEEDS.iter().filter(|(path, _)| path.starts_with("/api/v1/")) {
        for (method, way) in ways {
            let there = described.contains(&((*path).to_owned(), method.to_owned()));
            assert_eq!(there, needed(own, way) != Need::Closed, "{method} {path}");
        }
    }
}

/// A hub with something of everything in it.
async fn full(at: &Where) -> (Lab, String) {
    let sink: Sink = serde_json::from_value(json!({
        "name": "oncall", "severity": "info", "group_seconds": 0, "webhook": {"url": "http://127.0.0.1:1/"},
    }))
    .unwrap();
    let file = File { store: at.url(), sinks: vec![sink.clone()], ..File::default() };
    let config = settle(file, Overrides::default()).unwrap();
    let now = Arc::new(AtomicI64::new(T0));
    let clock: Clock = {
        let now = Arc::clone(&now);
        Arc::new(move || now.load(Ordering::SeqCst))
    };
    let hub = std::thread::spawn(move || evenkeel_hub::open(&config, clock).unwrap().hub).join().unwrap();
    tokio::spawn(Teller::new(Arc::clone(&hub), &[sink], None).unwrap().run());
    let lab = Lab { hub, now };

    let mut wrong = off("sysctl/a", Status::Error, "7200");
    wrong.phase = Some(Phase::Apply);
    wrong.reason = Some("it would not".into());
    wrong.writer = Some(Writer { pid: 4242, comm: Some("sysctl".into()), unit: None });
    let owned = |uid: &str| {
        let mut one = item("file/b", Status::Compliant);
        one.facts = [("owner.uid".to_owned(), uid.to_owned())].into();
        one
    };
    lab.tell([
        told("db1", 1, &[wrong, owned("1001")]),
        told("db2", 1, &[owned("1002")]),
        told("mw1", 1, &[off("sysctl/a", Status::Pending, "1")]),
    ])
    .await;
    lab.later(5_000);
    let mut refused = told("mw1", 4, &[item("sysctl/a", Status::Compliant)]);
    refused.data.spec.target_commit = Some("2222222222222222".into());
    refused.data.spec.sync = Sync::Failed;
    refused.data.spec.errors = vec!["tiers/mw.yaml:3: unknown key".into()];
    lab.tell([refused]).await;
    let alive = beat("db2", seq(7, 1), T0 + 90_000_000, &[owned("1002")]);
    lab.hub.writer.write(vec![Incoming::Beat(Box::new(alive))]).await.unwrap();
    let hub = Arc::clone(&lab.hub);
    let token = std::thread::spawn(move || {
        let asked = Asked {
            waiver: true,
            tier: Some("test".into()),
            node: None,
            item: None,
            reason: "it may".into(),
            owner: "ada".into(),
            lasts: Duration::from_hours(1),
        };
        let by = Actor { who: "ada".into(), origin: "here".into(), at: T0 };
        silence::add(hub.accounts.store.as_ref(), &asked, &by).unwrap();
        hub.slots.take("database", "db1/service", T0).unwrap();
        hub.slots.take("spare", "db1/x", T0).unwrap();
        let entry = Entry { at: T0, who: "ada".into(), what: "sign_in".into(), ..Entry::default() };
        hub.accounts.store.change(&Change::Add(ada()), &entry).unwrap();
        let (secret, pass) = new_pass(&ada(), PassKind::Token, T0, 86_400_000).unwrap();
        hub.accounts.store.change(&Change::AddPass(pass), &entry).unwrap();
        secret
    })
    .join()
    .unwrap();
    (lab, token)
}

fn ada() -> Account {
    let (name, hash) = ("ada".to_owned(), String::new());
    Account { name, role: Role::Admin, tiers: vec!["database".into()], hash, made: T0 }
}

struct Asker {
    lab: Lab,
    token: String,
    answers: Vec<Value>,
}

impl Asker {
    /// Asks, and keeps the answer; its body.
    async fn ask(&mut self, method: &str, path: &str, url: &str, token: bool) -> Value {
        self.send(method, path, url, token, "").await
    }

    /// The same, with something to send.
    async fn send(&mut self, method: &str, path: &str, url: &str, token: bool, sent: &str) -> Value {
        let mut request = Request::builder().method(method.to_uppercase().as_str()).uri(url);
        if token {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let request =
            request.header("content-type", "application/json").body(Body::from(sent.to_owned())).unwrap();
        let answer = router(Arc::clone(&self.lab.hub)).call(request).await.unwrap();
        let code = answer.status().as_u16();
        let media = answer.headers().get("content-type").map(|media| media.to_str().unwrap().to_owned());
        let text = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&text).unwrap_or_else(|_| String::from_utf8_lossy(&text).into());
        self.answers
            .push(json!({"path": path, "method": method, "code": code, "media": media, "body": body}));
        body
    }
}

/// What a validator that is not ours says of the description and of answers.
fn check(description: &Value, answers: &[Value]) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, value: &Value| {
        std::fs::write(dir.path().join(name), value.to_string()).unwrap();
        dir.path().join(name)
    };
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    let out = Command::new("python3")
        .arg(files.join("check.py"))
        .arg(put("document.json", description))
        .arg(files.join("oas-3.1.schema.json"))
        .arg(put("answers.json", &answers.into()))
        .output()
        .unwrap();
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (out.status.success(), said)
}

async fn answers_are_what_the_description_says(kind: Kind) {
    let at = Where::new(kind);
    let (lab, token) = full(&at).await;
    let mut asker = Asker { lab, token, answers: vec![] };
    let patience = Instant::now() + Duration::from_mins(1);
    let (mut description, mut last) = (Value::Null, String::new());
    for (method, path, url, sent, code) in ACTS {
        let body = asker.send(method, path, &url.replace("LAST", &last), true, sent).await;
        let answer = asker.answers.last().unwrap();
        assert_eq!(answer["code"], *code, "{answer:#}");
        if *code == 201 {
            body["id"].as_str().unwrap().clone_into(&mut last);
        }
        if let Some(token) = body["token"].as_str() {
            assert!(let_in(&asker.lab.hub, token, "mw1"));
        }
    }
    for (path, urls) in ASKED {
        for url in *urls {
            let body = asker.ask("get", path, url, true).await;
            if *path == "/api/v1/openapi.json" {
                description = body;
            }
        }
    }
    while asker.ask("get", "/api/v1/outbox", "/api/v1/outbox?limit=50", true).await["messages"][0]["error"]
        .is_null()
    {
        assert!(Instant::now() < patience, "nothing was told");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ours = description["paths"].as_object().unwrap().iter().filter(|(_, its)| its.get("get").is_some());
    let reads: BTreeSet<_> = ASKED.iter().map(|(path, _)| *path).collect();
    for (path, _) in ours {
        assert!(reads.contains(path.as_str()), "{path} is not asked here");
        let ways = NEEDS.iter().find(|(own, _)| own == path).unwrap().1;
        if needed(ways, Way::Read) != Need::Own {
            asker.ask("get", path, &path.replace(['{', '}'], ""), false).await;
        }
    }
    let codes: BTreeSet<_> = asker.answers.iter().map(|one| one["code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [200, 201, 204, 400, 401, 404, 409, 422].into(), "{:#?}", asker.answers);
    for (path, operations) in
        description["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/api/"))
    {
        for method in operations.as_object().unwrap().keys() {
            let tried = asker.answers.iter().any(|one| {
                one["path"] == **path && one["method"] == **method && one["code"].as_u64().unwrap() < 300
            });
            assert!(tried, "{method} {path} was never done");
        }
    }
    let (good, said) = check(&description, &asker.answers);
    assert!(good, "{said}");

    // And the validator does see what is wrong.
    let node = asker
        .answers
        .iter()
        .find(|one| one["path"] == "/api/v1/nodes/{name}" && one["method"] == "get")
        .unwrap();
    for (member, wrong) in [("liveness", json!("asleep")), ("counts", Value::Null), ("more", json!(1))] {
        let mut spoilt = node.clone();
        spoilt["body"][member] = wrong;
        let (good, said) = check(&description, &[spoilt]);
        assert!(!good && said.contains("/api/v1/nodes/{name} 200"), "{member}: {said}");
    }
    description["paths"]["/api/v1/nodes"]["get"]["parameters"][0]["in"] = json!("nowhere");
    let (good, said) = check(&description, &[]);
    assert!(!good && said.contains("the document"), "{said}");
}

/// What is done, and with which code it is answered.
const ACTS: &[(&str, &str, &str, &str, u16)] = &[
    (
        "post",
        "/api/v1/silences",
        "/api/v1/silences",
        r#"{"tier": "web", "reason": "it may", "for": "48h"}"#,
        201,
    ),
    ("delete", "/api/v1/silences/{id}", "/api/v1/silences/LAST", "", 204),
    ("post", "/api/v1/silences", "/api/v1/silences", r#"{"reason": "it may", "for": "48h"}"#, 400),
    ("post", "/api/v1/silences", "/api/v1/silences", r#"{"tier": "web"}"#, 422),
    ("delete", "/api/v1/silences/{id}", "/api/v1/silences/nothing", "", 404),
    (
        "post",
        "/api/v1/tokens",
        "/api/v1/tokens",
        r#"{"nodes": "mw*", "labels": {"tier": "middleware"}}"#,
        201,
    ),
    ("post", "/api/v1/tokens", "/api/v1/tokens", r#"{"uses": 0}"#, 400),
    ("delete", "/api/v1/tokens/{id}", "/api/v1/tokens/LAST", "", 204),
    ("delete", "/api/v1/tokens/{id}", "/api/v1/tokens/nothing", "", 404),
    ("post", "/api/v1/nodes/{name}/ban", "/api/v1/nodes/mw1/ban", "", 204),
    ("post", "/api/v1/nodes/{name}/unban", "/api/v1/nodes/mw1/unban", "", 204),
    ("delete", "/api/v1/nodes/{name}", "/api/v1/nodes/nobody", "", 404),
    ("delete", "/api/v1/nodes/{name}", "/api/v1/nodes/mw1", "", 204),
    ("delete", "/api/v1/slots/{group}/{id}", "/api/v1/slots/database/db1%2Fservice", "", 409),
    ("delete", "/api/v1/slots/{group}/{id}", "/api/v1/slots/spare/db1%2Fx?although_alive=true", "", 204),
    ("delete", "/api/v1/slots/{group}/{id}", "/api/v1/slots/web/db1%2Fservice?although_alive=true", "", 404),
];

/// What is asked of every operation that reads.
const ASKED: &[(&str, &[&str])] = &[
    (
        "/api/v1/nodes",
        &[
            "/api/v1/nodes",
            "/api/v1/nodes?limit=1",
            "/api/v1/nodes?format=csv",
            "/api/v1/nodes?format=ndjson",
            "/api/v1/nodes?teir=x",
        ],
    ),
    (
        "/api/v1/nodes/{name}",
        &["/api/v1/nodes/db1", "/api/v1/nodes/mw1", "/api/v1/nodes/db2", "/api/v1/nodes/nobody"],
    ),
    (
        "/api/v1/nodes/{name}/timeline",
        &[
            "/api/v1/nodes/mw1/timeline",
            "/api/v1/nodes/db1/timeline?limit=1",
            "/api/v1/nodes/db1/timeline?before=x",
        ],
    ),
    (
        "/api/v1/drift",
        &["/api/v1/drift", "/api/v1/drift?tier=database&item=sysctl", "/api/v1/drift?even=maybe"],
    ),
    (
        "/api/v1/rollout/{commit}",
        &["/api/v1/rollout/1111111111111111", "/api/v1/rollout/2222222", "/api/v1/rollout/3"],
    ),
    ("/api/v1/fleet", &["/api/v1/fleet"]),
    ("/api/v1/invariants", &["/api/v1/invariants"]),
    ("/api/v1/slots", &["/api/v1/slots"]),
    ("/api/v1/silences", &["/api/v1/silences"]),
    ("/api/v1/outbox", &["/api/v1/outbox", "/api/v1/outbox?limit=many"]),
    ("/api/v1/tokens", &["/api/v1/tokens"]),
    ("/api/v1/members", &["/api/v1/members"]),
    ("/api/v1/account", &["/api/v1/account"]),
    ("/api/v1/audit", &["/api/v1/audit", "/api/v1/audit?limit=1", "/api/v1/audit?after=1"]),
    ("/api/v1/openapi.json", &["/api/v1/openapi.json"]),
    ("/healthz", &["/healthz"]),
];

#[tokio::test]
async fn parameters_are_those_that_are_known() {
    let at = Where::new(Kind::Sqlite);
    let lab = Lab::new(&at);
    let description = description(&lab).await;
    for path in ["/api/v1/nodes", "/api/v1/drift"] {
        let params = description["paths"][path]["get"]["parameters"].as_array().unwrap();
        let described: BTreeSet<_> =
            params.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
        let (_, _, text) = lab.ask(&format!("{path}?teir=x"), "*/*").await;
        let problem: Value = serde_json::from_str(&text).unwrap();
        let (_, known) = problem["detail"].as_str().unwrap().split_once("known are: ").unwrap();
        assert_eq!(described, known.split(", ").map(str::to_owned).collect(), "{path}");
        for param in params {
            let name = param["name"].as_str().unwrap();
            let Some(words) = param["schema"]["enum"].as_array() else { continue };
            for word in words {
                let url = format!("{path}?{name}={}", word.as_str().unwrap());
                assert_eq!(lab.ask(&url, "*/*").await.0, 200, "{url}");
            }
            let (code, _, text) = lab.ask(&format!("{path}?{name}=nonsense"), "*/*").await;
            let (_, known) = text.split_once("is none of: ").unwrap();
            assert_eq!((code, known.split(", ").count()), (400, words.len()), "{name}: {text}");
        }
    }
}
