//! Somebody with a browser, a hub, and a provider of accounts that the hub knows.

use super::T0;
use super::provider::{CLIENT, FakeProvider, SECRET, Signer};
use super::receiver::Papers;
use super::stores::Where;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use evenkeel_hub::config::{File, Overrides, settle};
use evenkeel_hub::http::{Hub, router};
use evenkeel_hub::oidc::Oidc;
use evenkeel_hub::who::{Came, Peer};
use evenkeel_hub::writer::Clock;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tower_service::Service as _;

pub const AWAY: &str = "192.0.2.7:4711";

/// A hub with a provider, without a socket and with a clock that is set by hand.
pub struct Lab {
    pub hub: Arc<Hub>,
    pub now: Arc<AtomicI64>,
    pub provider: FakeProvider,
    _papers: Papers,
}

/// What a browser has after the hub has sent it to the provider.
pub struct Sent {
    pub url: String,
    pub cookie: String,
}

impl Lab {
    pub async fn new(at: &Where) -> Self {
        Self::with(at, FakeProvider::start(Signer::p256(), T0 / 1000).await)
    }

    pub fn with(at: &Where, provider: FakeProvider) -> Self {
        let papers = Papers::new("");
        let oidc: Oidc = serde_json::from_value(json!({
            "issuer": provider.issuer(), "client_id": CLIENT, "client_secret_file": papers.secret("secret", SECRET),
            "label": "Example & Co", "roles": [
                {"group": "dba", "role": "operator", "tiers": ["database"]},
                {"group": "root", "role": "admin"},
            ],
        }))
        .unwrap();
        let public_url = Some("http://127.0.0.1:8484/".to_owned());
        let file = File { store: at.url(), oidc: Some(oidc), public_url, ..File::default() };
        let config = settle(file, Overrides::default()).unwrap();
        let now = Arc::new(AtomicI64::new(T0));
        let clock: Clock = {
            let now = Arc::clone(&now);
            Arc::new(move || now.load(Ordering::SeqCst))
        };
        let hub = std::thread::spawn(move || evenkeel_hub::open(&config, clock).unwrap().hub).join().unwrap();
        Self { hub, now, provider, _papers: papers }
    }

    pub async fn get_from(&self, came: Came, path: &str, cookie: &str) -> Response<Body> {
        let peer = Peer { at: AWAY.parse().unwrap(), came };
        let request =
            Request::get(path).extension(peer).header("cookie", cookie).header("accept", "text/html");
        router(Arc::clone(&self.hub)).call(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    pub async fn get(&self, path: &str, cookie: &str) -> (u16, String) {
        let answer = self.get_from(Came::Trusted, path, cookie).await;
        (answer.status().as_u16(), text(answer).await)
    }

    /// Begins, as a browser does that goes to `next`.
    pub async fn begin(&self, next: &str) -> Sent {
        let answer = self.get_from(Came::Trusted, &format!("/sign-in/provider?next={next}"), "").await;
        assert_eq!(answer.status(), 303);
        let url = answer.headers()["location"].to_str().unwrap().to_owned();
        Sent { url, cookie: cookies(&answer)[0].split(';').next().unwrap().to_owned() }
    }

    /// A person signs in at the provider and comes back.
    pub async fn comes(&self, person: Value) -> Response<Body> {
        let sent = self.begin("/nodes").await;
        let back = self.provider.signs_in(&sent.url, person);
        self.get_from(Came::Trusted, &back, &sent.cookie).await
    }

    /// The same, and must be let in; what his browser shows from then on.
    pub async fn enters(&self, person: Value) -> String {
        let answer = self.comes(person).await;
        assert_eq!(answer.status(), 303);
        session(&answer).unwrap()
    }

    /// The same, and must not; what he is told.
    pub async fn stays_out(&self, person: Value, code: u16) -> String {
        let answer = self.comes(person).await;
        assert_eq!((answer.status().as_u16(), session(&answer)), (code, None));
        text(answer).await
    }

    pub async fn account(&self, cookie: &str) -> Value {
        let answer = self.get("/api/v1/account", cookie).await;
        if answer.0 == 200 { serde_json::from_str(&answer.1).unwrap() } else { Value::Null }
    }

    pub fn log(&self) -> Vec<(String, String, Option<String>)> {
        let hub = Arc::clone(&self.hub);
        let log = std::thread::spawn(move || hub.accounts.store.log(None, 100).unwrap()).join().unwrap();
        log.into_iter().map(|line| (line.what, line.who, line.new)).collect()
    }
}

pub fn cookies(answer: &Response<Body>) -> Vec<String> {
    answer.headers().get_all("set-cookie").iter().map(|one| one.to_str().unwrap().to_owned()).collect()
}

/// The session that a browser is given.
pub fn session(answer: &Response<Body>) -> Option<String> {
    let all = cookies(answer);
    let own = all.iter().find(|one| one.starts_with("evenkeel=") || one.starts_with("__Host-evenkeel="))?;
    Some(own.split(';').next().unwrap().to_owned())
}

pub async fn text(answer: Response<Body>) -> String {
    String::from_utf8(to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

pub fn ada(groups: &[&str]) -> Value {
    json!({"sub": "4711", "preferred_username": "ada", "groups": groups})
}
