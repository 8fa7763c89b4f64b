//! Signing in at a provider, on the real router over both stores.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use axum::body::Body;
use axum::http::Request;
use common::T0;
use common::oidc::{AWAY, Lab, ada, cookies, session, text};
use common::provider::{FakeProvider, Signer};
use common::receiver::Papers;
use common::stores::{Kind, Where};
use evenkeel_hub::accounts::password;
use evenkeel_hub::http::router;
use evenkeel_hub::store::accounts::{Account, Change, Entry, Role};
use evenkeel_hub::who::{Came, Peer};
use serde_json::{Value, json};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tower_service::Service as _;

const PASSWORD: &str = "correct horse battery";

on_every_store! {
    somebody_comes_in_with_the_role_of_his_groups
    who_has_no_role_any_more_is_out
    a_name_is_one_persons
    the_hubs_own_accounts_go_on_working_while_the_provider_is_away
}

async fn somebody_comes_in_with_the_role_of_his_groups(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at).await;
    let (code, page) = lab.get("/sign-in?next=/nodes?q=a", "").await;
    assert!(code == 200 && page.contains("Sign in with Example &#38; Co"), "{page}");
    assert!(
        page.contains("/sign-in/provider?next=%2Fnodes%3Fq%3Da") && !page.contains("no account yet"),
        "{page}"
    );

    let here = Peer { at: "127.0.0.1:5".parse().unwrap(), came: Came::Plain };
    let request = Request::get("/api/v1/nodes").extension(here).body(Body::empty()).unwrap();
    let answer = router(Arc::clone(&lab.hub)).call(request).await.unwrap();
    assert_eq!(answer.status(), 401, "nobody reads this hub openly");

    let answer = lab.comes(ada(&["dba", "staff"])).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (303, &"/nodes".parse().unwrap()));
    let all = cookies(&answer);
    assert!(all.iter().all(|one| one.contains("; HttpOnly; SameSite=Lax")), "{all:?}");
    assert!(all.iter().any(|one| one.starts_with("evenkeel-oidc=;") && one.contains("Max-Age=0")), "{all:?}");
    let cookie = session(&answer).unwrap();
    let own = lab.account(&cookie).await;
    assert_eq!(own, json!({"name": "oidc:ada", "role": "operator", "tiers": ["database"]}));
    assert_eq!(lab.get("/admin", &cookie).await.0, 403);

    // What he may do is what his groups are now, in every session of his.
    let again = lab.enters(ada(&["root"])).await;
    assert_eq!(lab.account(&again).await["role"], "admin");
    assert_eq!(lab.account(&cookie).await["role"], "admin");
    let page = lab.get("/admin", &again).await.1;
    assert!(page.contains("1 account let in") && page.contains("oidc:ada"), "{page}");
    let line = |what: &str, new: &str| (what.to_owned(), "oidc:ada".to_owned(), Some(new.to_owned()));
    assert_eq!(lab.log(), [line("sign_in", "admin"), line("sign_in", "operator of database")]);

    // Over TLS both cookies are this host's alone.
    let answer = lab.get_from(Came::Anonymous, "/sign-in/provider", "").await;
    assert!(
        cookies(&answer)[0].starts_with("__Host-evenkeel-oidc=") && cookies(&answer)[0].contains("; Secure")
    );
}

async fn who_has_no_role_any_more_is_out(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at).await;
    let told = lab.stays_out(ada(&["staff"]), 403).await;
    assert!(told.contains("has no role here"), "{told}");
    let cookie = lab.enters(ada(&["root"])).await;
    assert_eq!(lab.get("/nodes", &cookie).await.0, 200);
    lab.stays_out(json!({"sub": "9", "preferred_username": "ada", "groups": []}), 403).await;
    assert_eq!(lab.get("/nodes", &cookie).await.0, 200, "another ada's groups are not hers");
    lab.stays_out(ada(&[]), 403).await;
    assert_eq!(lab.account(&cookie).await, Value::Null, "her session has ended");
    let refused =
        lab.log().into_iter().filter(|(what, who, _)| what == "sign_in_refused" && who == "oidc:ada");
    assert_eq!(refused.count(), 3);
}

async fn a_name_is_one_persons(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at).await;
    let hash = password::hash(PASSWORD).unwrap();
    let own = Account { name: "ada".into(), role: Role::Admin, tiers: vec![], hash, made: T0 };
    let hub = Arc::clone(&lab.hub);
    std::thread::spawn(move || hub.accounts.store.change(&Change::Add(own), &Entry::default()).unwrap())
        .join()
        .unwrap();
    let cookie = lab.enters(ada(&["dba"])).await;
    assert_eq!(lab.account(&cookie).await["name"], "oidc:ada", "the hub's own ada is another");
    // Somebody else calls himself so at the provider.
    let told =
        lab.stays_out(json!({"sub": "4712", "preferred_username": "ada", "groups": ["root"]}), 403).await;
    assert!(told.contains("another person"), "{told}");
    assert_eq!(lab.account(&cookie).await["role"], "operator");
    for no_name in [json!("a b"), json!("x".repeat(65)), json!(""), json!("ada\nroot")] {
        let told =
            lab.stays_out(json!({"sub": "5", "preferred_username": no_name, "groups": ["root"]}), 403).await;
        assert!(told.contains("is no name"), "{told}");
    }
    let refused = {
        let mut tool = Command::new(env!("CARGO_BIN_EXE_evenkeel-hub"));
        tool.args(["user", "password", "oidc:ada", "--password-file", "/dev/null", "--store", &at.url()]);
        tokio::task::spawn_blocking(move || tool.output().unwrap()).await.unwrap()
    };
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("has no password here"), "{said}");
    // She is called otherwise now, and is one account.
    let renamed =
        lab.enters(json!({"sub": "4711", "preferred_username": "lovelace", "groups": ["dba"]})).await;
    assert_eq!(lab.account(&renamed).await["name"], "oidc:lovelace");
    assert_eq!(lab.account(&cookie).await, Value::Null);
    lab.enters(json!({"sub": "4712", "preferred_username": "ada", "groups": ["dba"]})).await;
}

async fn the_hubs_own_accounts_go_on_working_while_the_provider_is_away(kind: Kind) {
    let at = Where::new(kind);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gone = FakeProvider::on(listener, Signer::p256(), T0 / 1000);
    let mut lab = Lab::with(&at, gone);
    lab.provider = FakeProvider::start(Signer::p256(), 0).await;
    let hash = password::hash(PASSWORD).unwrap();
    let own = Account { name: "ada".into(), role: Role::Admin, tiers: vec![], hash, made: T0 };
    let hub = Arc::clone(&lab.hub);
    std::thread::spawn(move || hub.accounts.store.change(&Change::Add(own), &Entry::default()).unwrap())
        .join()
        .unwrap();

    let patience = Instant::now() + Duration::from_mins(1);
    while std::net::TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < patience);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (code, page) = lab.get("/sign-in/provider?next=/drift", "").await;
    assert!(code == 503 && page.contains("sign in with an account of this hub"), "{code} {page}");
    assert!(page.contains("value=\"/drift\""), "{page}");
    let request = Request::post("/sign-in")
        .extension(Peer { at: AWAY.parse().unwrap(), came: Came::Trusted })
        .header("host", "hub")
        .header("origin", "http://hub")
        .header("content-type", "application/x-www-form-urlencoded");
    let body = Body::from("name=ada&password=correct+horse+battery&next=/drift");
    let answer = router(Arc::clone(&lab.hub)).call(request.body(body).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 303);
    assert_eq!(lab.account(&session(&answer).unwrap()).await["name"], "ada");
    assert_eq!(lab.log().iter().filter(|(what, ..)| what == "sign_in_refused").count(), 0);

    // It is back: nothing has to be restarted.
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    lab.provider = FakeProvider::on(listener, Signer::p256(), T0 / 1000);
    lab.enters(ada(&["dba"])).await;
}

#[tokio::test]
async fn keys_may_change_and_may_be_rsa() {
    let at = Where::new(Kind::Sqlite);
    let lab = Lab::with(&at, FakeProvider::start(Signer::rsa(), T0 / 1000).await);
    lab.enters(ada(&["dba"])).await;
    lab.enters(ada(&["dba"])).await;
    assert_eq!(lab.provider.asked_keys(), 1, "keys are kept");
    lab.provider.rotate("k2", Signer::p256());
    // Keys are not asked for again at once, whatever tokens come.
    let patience = Instant::now() + Duration::from_mins(1);
    loop {
        let answer = lab.comes(ada(&["dba"])).await;
        if session(&answer).is_some() {
            break;
        }
        let told = text(answer).await;
        assert!(told.contains("does not name") && Instant::now() < patience, "{told}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        // One address may try so often in five minutes and no more.
        lab.now.fetch_add(10_000, Ordering::SeqCst);
    }
    assert_eq!(lab.provider.asked_keys(), 2);
    let at = Where::new(Kind::Sqlite);
    let provider = FakeProvider::start(Signer::rsa(), T0 / 1000).await;
    provider.wants_post();
    Lab::with(&at, provider).enters(ada(&["dba"])).await;
}

#[tokio::test]
async fn a_hub_without_a_provider_has_none_and_a_wrong_one_does_not_start() {
    let at = Where::new(Kind::Sqlite);
    let lab = common::lab::Lab::new(&at);
    for path in ["/sign-in/provider", "/sign-in/provider/back?code=a&state=b"] {
        assert_eq!(lab.ask(path, "text/html").await.0, 404, "{path}");
    }
    assert!(!lab.page("/sign-in").await.contains("/sign-in/provider"));

    let yaml = "public_url: https://hub.example.org\noidc:\n  issuer: https://id.example.org\n  client_id: hub\n  \
                client_secret_file: DIR/secret\n  otherwise: viewer\n";
    for (yaml, says) in [
        (yaml.to_owned(), "oidc: "),
        (yaml.replace("public_url: https://hub.example.org\n", ""), "public_url"),
        (yaml.replace("https://id.", "http://id."), "in the clear"),
        (yaml.replace("otherwise: viewer", "otherwise: admin"), "hub.yaml:6"),
        (yaml.replace("client_id", "clientid"), "hub.yaml:4"),
    ] {
        let papers = Papers::new(&yaml);
        let out = Command::new(env!("CARGO_BIN_EXE_evenkeel-hub"))
            .args(["serve", "--listen", "127.0.0.1:0", "--store", &at.url(), "--config", &papers.config()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(78) && said.contains(says), "{says}: {said}");
    }
}
