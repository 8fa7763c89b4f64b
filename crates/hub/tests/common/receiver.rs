//! Somebody who is told: a real HTTP server that writes down what comes, and answers as it was asked to.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One request.
#[derive(Debug, Clone)]
pub struct Came {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
    pub at: Instant,
}

impl Came {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {:?}", self.headers)).to_str().unwrap()
    }
}

/// How a request is answered.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
    /// With this.
    Code(u16),
    /// With 503, to come again after so many seconds.
    Later(u32),
    /// Not at all.
    Never,
}

#[derive(Default)]
struct Shared {
    came: Mutex<Vec<Came>>,
    answers: Mutex<VecDeque<Answer>>,
}

/// The server; it ends with this.
pub struct Receiver {
    pub at: SocketAddr,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

async fn take(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    let came = Came { path: uri.to_string(), headers, body, at: Instant::now() };
    shared.came.lock().unwrap().push(came);
    let answer = shared.answers.lock().unwrap().pop_front();
    match answer {
        None => StatusCode::OK.into_response(),
        Some(Answer::Code(code)) => StatusCode::from_u16(code).unwrap().into_response(),
        Some(Answer::Later(seconds)) => {
            (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", seconds.to_string())]).into_response()
        }
        Some(Answer::Never) => std::future::pending().await,
    }
}

/// An address of this machine that nobody listens at.
pub fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Receiver {
    pub async fn start() -> Self {
        Self::at(free(), &[]).await
    }

    /// At an address; the first requests are answered so, the others with 200.
    pub async fn at(at: SocketAddr, answers: &[Answer]) -> Self {
        let shared = Arc::new(Shared::default());
        shared.answers.lock().unwrap().extend(answers);
        let listener = tokio::net::TcpListener::bind(at).await.unwrap();
        let router = Router::new().fallback(take).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { at, shared, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    pub fn came(&self) -> Vec<Came> {
        self.shared.came.lock().unwrap().clone()
    }

    /// What came, once it is `count` requests.
    pub async fn wait(&self, count: usize) -> Vec<Came> {
        self.until(&format!("{count} requests"), |came| came.len() >= count).await
    }

    /// What came, once it is as it should be.
    pub async fn until(&self, what: &str, enough: impl Fn(&[Came]) -> bool) -> Vec<Came> {
        let patience = Instant::now() + Duration::from_mins(1);
        loop {
            let came = self.came();
            if enough(&came) {
                return came;
            }
            assert!(Instant::now() < patience, "waited for {what}, and this came: {came:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A configuration and its secrets, in a folder of its own.
pub struct Papers {
    dir: tempfile::TempDir,
}

impl Papers {
    pub fn new(yaml: &str) -> Self {
        let papers = Self { dir: tempfile::tempdir().unwrap() };
        papers.secret("hub.yaml", yaml);
        papers
    }

    pub fn secret(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.path().join(name);
        std::fs::write(&path, text.replace("DIR", &self.dir.path().display().to_string())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub fn config(&self) -> String {
        self.dir.path().join("hub.yaml").display().to_string()
    }

    /// A hub with this configuration.
    pub fn hub(&self, store: &str) -> super::Hub {
        super::Hub::start_with(store, &[("EVENKEEL_HUB_CONFIG", &self.config()), ("NO_PROXY", "127.0.0.1")])
    }
}
