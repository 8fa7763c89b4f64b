//! A hub without a socket and with a clock that is set by hand, for the pages and the user API.

use super::stores::Where;
use super::{T0, item, report, seq, source};
use axum::body::{Body, to_bytes};
use axum::http::Request;
use evenkeel_hub::config::{File, Overrides, settle};
use evenkeel_hub::http::{Hub, router};
use evenkeel_hub::wire::Incoming;
use evenkeel_hub::writer::Clock;
use evenkeel_report::{Event, Item, Report, Scope, Status, Sync};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tower_service::Service as _;

/// A hub without a socket, with a clock that is set by hand.
pub struct Lab {
    pub hub: Arc<Hub>,
    pub now: Arc<AtomicI64>,
}

impl Lab {
    pub fn new(at: &Where) -> Self {
        Self::with(File { store: at.url(), ..File::default() })
    }

    /// With this in its `hub.yaml`.
    pub fn configured(at: &Where, yaml: &str) -> Self {
        let papers = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(papers.path(), yaml).unwrap();
        let file = evenkeel_hub::config::read(papers.path(), true).unwrap();
        Self::with(File { store: at.url(), ..file })
    }

    fn with(file: File) -> Self {
        let config = settle(file, Overrides::default()).unwrap();
        let now = Arc::new(AtomicI64::new(T0));
        let clock: Clock = {
            let now = Arc::clone(&now);
            Arc::new(move || now.load(Ordering::SeqCst))
        };
        // Opening blocks, which is forbidden where a runtime runs.
        let hub = std::thread::spawn(move || evenkeel_hub::open(&config, clock).unwrap().hub).join().unwrap();
        Self { hub, now }
    }

    pub fn later(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    pub async fn tell(&self, events: impl IntoIterator<Item = Event<Report>>) {
        let events = events.into_iter().map(|event| Incoming::Report(Box::new(event))).collect();
        self.hub.writer.write(events).await.unwrap();
    }

    /// The code, the type and the text of an answer.
    pub async fn ask(&self, path: &str, accept: &str) -> (u16, String, String) {
        let request = Request::get(path).header("accept", accept).body(Body::empty()).unwrap();
        let answer = router(Arc::clone(&self.hub)).call(request).await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let code = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        (code, kind, String::from_utf8(body.to_vec()).unwrap())
    }

    pub async fn page(&self, path: &str) -> String {
        let (code, kind, text) = self.ask(path, "text/html").await;
        assert_eq!((code, kind.as_str()), (200, "text/html; charset=utf-8"), "{path}: {text}");
        text
    }

    pub async fn json(&self, path: &str) -> Value {
        let (code, _, text) = self.ask(path, "*/*").await;
        assert_eq!(code, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The same of an address that is made on the spot.
    pub async fn json_of(&self, path: String) -> Value {
        self.json(&path).await
    }

    /// The nodes on every page of a list, as the addresses lead from one to the next.
    pub async fn walk(&self, start: &str) -> Vec<Value> {
        let (mut url, mut found) = (start.to_owned(), vec![]);
        loop {
            let page = self.json(&url).await;
            found.extend(page["nodes"].as_array().unwrap().iter().cloned());
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut url),
                None => return found,
            }
        }
    }
}

pub fn names_of(page: &Value) -> Vec<String> {
    page["nodes"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
}

/// The sentence at the top of a page.
pub fn sentence(page: &str) -> &str {
    page.split_once("<h1").unwrap().1.split_once('>').unwrap().1.split_once("</h1>").unwrap().0
}

pub fn told(name: &str, n: u64, items: &[Item]) -> Event<Report> {
    report(name, seq(7, n), Scope::Full, items.to_vec(), items)
}

pub fn off(id: &str, status: Status, observed: &str) -> Item {
    let mut one = item(id, status);
    one.drift[0].observed = Some(observed.to_owned());
    one
}

/// Nodes of every sort, some of the same name.
pub async fn crowd(lab: &Lab) {
    let statuses = [Status::Compliant, Status::Pending, Status::NonCompliant, Status::Error];
    let syncs = [Sync::Synced, Sync::OutOfSync, Sync::Failed, Sync::Unknown];
    let tiers = ["edge", "core", "", "ärger & co"];
    for (at, wait) in [(0..40, 70_000), (40..80, 20_000), (80..120, 0)] {
        let events = at.map(|n: usize| {
            let name = format!("n{}", n % 90);
            let mut event = told(&name, 1, &[item("a", statuses[n * 7 % 4])]);
            event.source = source(&format!("{n:03}"));
            tiers[n * 5 % 4].clone_into(&mut event.data.node.tier);
            event.data.spec.sync = syncs[n * 3 % 11 % 4];
            event
        });
        lab.tell(events).await;
        lab.later(wait);
    }
}

/// Waits until something is so.
pub async fn until(what: &str, is: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if is().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("never: {what}");
}
