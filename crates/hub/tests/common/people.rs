//! People on a hub without a socket: accounts, what a browser or a program shows, and forms.

use super::T0;
use super::stores::Where;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response};
use evenkeel_hub::accounts::{new_pass, password};
use evenkeel_hub::config::{File, Overrides, settle};
use evenkeel_hub::http::{Hub, router};
use evenkeel_hub::store::accounts::{Account, Change, Entry, PassKind, Role};
use evenkeel_hub::store::registry::{Enrol, NewCertificate};
use evenkeel_hub::who::{Came, Peer};
use evenkeel_hub::writer::Clock;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tower_service::Service as _;

pub const PASSWORD: &str = "correct horse battery";
/// Somewhere else than the hub's own machine.
pub const AWAY: &str = "192.0.2.7:4711";

/// A hub, and its clock.
pub struct Lab {
    pub hub: Arc<Hub>,
    now: Arc<AtomicI64>,
}

/// Works on a store from a thread of its own: a store blocks.
pub fn apart<T: Send + 'static>(hub: &Arc<Hub>, work: impl FnOnce(&Hub) -> T + Send + 'static) -> T {
    let hub = Arc::clone(hub);
    std::thread::spawn(move || work(&hub)).join().unwrap()
}

impl Lab {
    pub fn new(at: &Where) -> Self {
        let file = File { store: at.url(), ..File::default() };
        let config = settle(file, Overrides::default()).unwrap();
        let now = Arc::new(AtomicI64::new(T0));
        let clock: Clock = {
            let now = Arc::clone(&now);
            Arc::new(move || now.load(Ordering::SeqCst))
        };
        let hub = std::thread::spawn(move || evenkeel_hub::open(&config, clock).unwrap().hub).join().unwrap();
        Self { hub, now }
    }

    pub fn later(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn change(&self, change: Change) -> bool {
        apart(&self.hub, move |hub| hub.accounts.store.change(&change, &Entry::default()).unwrap())
    }

    /// An account, and a token of it.
    pub fn account(&self, name: &str, role: Role) -> String {
        self.account_of(name, role, &[])
    }

    /// The same, bound to tiers.
    pub fn account_of(&self, name: &str, role: Role, tiers: &[&str]) -> String {
        let hash = password::hash(PASSWORD).unwrap();
        let tiers = tiers.iter().map(|tier| (*tier).to_owned()).collect();
        let account = Account { name: name.into(), role, tiers, hash, made: T0 };
        let (secret, pass) = new_pass(&account, PassKind::Token, T0, 90 * 86_400_000).unwrap();
        assert!(self.change(Change::Add(account)) && self.change(Change::AddPass(pass)));
        secret
    }

    pub fn log(&self) -> Vec<Entry> {
        let mut log = apart(&self.hub, |hub| hub.accounts.store.log(None, 100).unwrap());
        log.retain(|entry| !entry.what.is_empty());
        log
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Body> {
        let peer = Peer { at: AWAY.parse().unwrap(), came: Came::Trusted };
        self.send_from(peer, method, path, headers, body).await
    }

    pub async fn send_from(
        &self,
        peer: Peer,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path).extension(peer);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        router(Arc::clone(&self.hub)).call(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()
    }

    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let answer = self.send("GET", path, headers, "").await;
        (answer.status().as_u16(), text(answer).await)
    }

    pub async fn form(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Response<Body> {
        let form = ("content-type", "application/x-www-form-urlencoded");
        self.send("POST", path, &[&[form], headers].concat(), body).await
    }

    pub async fn sign_in(&self, name: &str, password: &str) -> Response<Body> {
        let body = format!("name={name}&password={}&next=/nodes", password.replace(' ', "+"));
        self.form("/sign-in", &OWN, &body).await
    }

    /// What the forms of a session carry.
    pub async fn word(&self, cookie: &str) -> String {
        let page = self.get("/account", &[("cookie", cookie)]).await.1;
        page.split_once("name=\"form\" value=\"").unwrap().1.split('"').next().unwrap().to_owned()
    }

    /// Signs in; what the browser shows from then on.
    pub async fn cookie(&self, name: &str) -> String {
        let answer = self.sign_in(name, PASSWORD).await;
        assert_eq!(answer.status(), 303);
        set(&answer).split(';').next().unwrap().to_owned()
    }
}

/// A browser on a page of this hub.
pub const OWN: [(&str, &str); 2] = [("host", "hub.example:8484"), ("origin", "http://hub.example:8484")];

/// The cookie that an answer sets.
pub fn set(answer: &Response<Body>) -> String {
    answer.headers()["set-cookie"].to_str().unwrap().to_owned()
}

pub async fn text(answer: Response<Body>) -> String {
    String::from_utf8(to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

/// What may be acted on, told as text: a refusal leaves it as it was.
pub fn standing(hub: &Arc<Hub>) -> String {
    apart(hub, |hub| {
        format!(
            "{:?} {:?} {:?} {:?} {:?}",
            hub.telling.silences(0).unwrap(),
            hub.registry.tokens().unwrap(),
            hub.registry.certificates().unwrap(),
            hub.slots.held().unwrap(),
            hub.accounts.store.log(None, 1000).unwrap().len()
        )
    })
}

/// Lets a node in, as if it had come with a token; who holds a certificate is a member.
pub fn let_in(hub: &Arc<Hub>, secret: &str, node: &str) -> bool {
    let token = evenkeel_hub::ca::fingerprint(secret.as_bytes());
    let certificate = NewCertificate {
        serial: format!("5e{}", node.len()),
        key: "key".to_owned(),
        from: T0,
        until: T0 + 86_400_000,
    };
    let ask = Enrol { token, node: node.to_owned(), now: T0, certificate };
    apart(hub, move |hub| hub.registry.enrol(&ask).unwrap().is_ok())
}

pub fn hold(hub: &Arc<Hub>, group: &'static str, id: &'static str) {
    apart(hub, move |hub| hub.slots.take(group, id, T0).unwrap());
}

/// An act by the API: method, address, body, and the code of who may.
pub type Deed = (&'static str, String, Value, u16);

pub async fn by_api(lab: &Lab, token: &str, (method, path, body, _): &Deed) -> (u16, Value) {
    let shown = format!("Bearer {token}");
    let headers = [("authorization", shown.as_str()), ("content-type", "application/json")];
    let answer = lab.send(method, path, &headers, &body.to_string()).await;
    let code = answer.status().as_u16();
    (code, serde_json::from_str(&text(answer).await).unwrap_or_default())
}

pub fn silence(tier: &str) -> Value {
    json!({"tier": tier, "reason": "the new kernel comes on Monday", "for": "48h"})
}
