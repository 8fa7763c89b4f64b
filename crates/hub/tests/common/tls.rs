//! A real hub with an authority of its own, and nodes that were let in there.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

use super::stores::{Kind, Where};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub const BATCH: &str = "application/cloudevents-batch+json";
const HUB: &str = env!("CARGO_BIN_EXE_evenkeel-hub");

pub struct TlsHub {
    pub dir: tempfile::TempDir,
    pub at: Where,
    pub url: String,
    /// The door in the clear.
    pub pages: String,
    child: Child,
}

/// A node that was let in.
pub struct Member {
    /// Key and certificate.
    pub pem: String,
    pub client: reqwest::Client,
}

/// A key and a request over it.
pub fn request() -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    (key, csr)
}

impl TlsHub {
    pub fn start() -> Self {
        Self::start_on(Kind::Sqlite)
    }

    pub fn start_on(kind: Kind) -> Self {
        Self::start_with(kind, &[])
    }

    pub fn start_with(kind: Kind, args: &[&str]) -> Self {
        let at = Where::new(kind);
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new(HUB)
            .args(["ca", "init", "--name", "localhost", "--name", "127.0.0.1", "--dir"])
            .arg(dir.path().join("ca"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let (url, pages, child) = serve(&dir.path().join("ca"), &at.url(), args);
        Self { dir, at, url, pages, child }
    }

    /// Another hub on the same store, with the same authority.
    pub fn beside(&self) -> Beside {
        let (url, _, child) = serve(&self.dir.path().join("ca"), &self.at.url(), &[]);
        Beside { url, child }
    }

    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca/ca.pem")
    }

    /// A command beside the running hub.
    pub fn command(&self, args: &[&str]) -> Output {
        Command::new(HUB).args(args).args(["--store", &self.at.url()]).output().unwrap()
    }

    /// A command that must succeed; what it printed.
    pub fn told(&self, args: &[&str]) -> String {
        let out = self.command(args);
        assert!(out.status.success(), "{args:?}: {out:?}");
        String::from_utf8(out.stdout).unwrap()
    }

    pub fn token(&self, args: &[&str]) -> String {
        self.told(&[&["token", "create"], args].concat()).trim().to_owned()
    }

    /// A client that believes this hub's authority alone.
    pub fn client(&self, identity: Option<&str>) -> reqwest::Client {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ca = reqwest::Certificate::from_pem_bundle(&std::fs::read(self.ca()).unwrap()).unwrap();
        let mut builder = reqwest::Client::builder().no_proxy().tls_certs_only(ca);
        if let Some(pem) = identity {
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        builder.build().unwrap()
    }

    pub async fn ask_in(&self, token: &str, node: &str, csr: &str) -> (u16, Value) {
        let body = json!({"token": token, "node": node, "csr": csr});
        let answer =
            self.client(None).post(format!("{}/v1/enroll", self.url)).json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// A node that is let in.
    pub async fn member(&self, token: &str, node: &str) -> Member {
        let (key, csr) = request();
        let (code, given) = self.ask_in(token, node, &csr).await;
        assert_eq!(code, 200, "{given}");
        let pem = format!("{}{}", key.serialize_pem(), given["certificate"].as_str().unwrap());
        Member { client: self.client(Some(&pem)), pem }
    }

    pub async fn send<T: serde::Serialize>(&self, client: &reqwest::Client, events: &[T]) -> (u16, Value) {
        let body = serde_json::to_vec(events).unwrap();
        self.send_bytes(client, body, None).await
    }

    pub async fn send_bytes(
        &self,
        client: &reqwest::Client,
        body: Vec<u8>,
        coding: Option<&str>,
    ) -> (u16, Value) {
        send_to(&self.url, client, body, coding).await
    }

    pub async fn page(&self, path: &str) -> String {
        let client = super::client();
        client.get(format!("{}{path}", self.pages)).send().await.unwrap().text().await.unwrap()
    }
}

impl Drop for TlsHub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A hub that listens: its door for nodes, the one in the clear, and its process.
fn serve(ca: &Path, store: &str, args: &[&str]) -> (String, String, Child) {
    let mut child = Command::new(HUB)
        .args(["serve", "--listen", "127.0.0.1:0", "--listen-pages", "127.0.0.1:0", "--tls"])
        .arg(ca)
        .args(["--store", store])
        .args(args)
        .env("RUST_LOG", "info")
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (url, pages) = loop {
        let line = lines.next().expect("the hub ended before it listened").unwrap();
        if let Some((_, rest)) = line.split_once("listening on ") {
            let mut at = rest.split([',', ' ']).filter(|word| word.contains("://")).map(str::to_owned);
            break (at.next().unwrap(), at.next().unwrap());
        }
    };
    std::thread::spawn(move || lines.for_each(drop));
    (url, pages, child)
}

async fn send_to(url: &str, client: &reqwest::Client, body: Vec<u8>, coding: Option<&str>) -> (u16, Value) {
    let mut request = client.post(format!("{url}/v1/events")).header("content-type", BATCH);
    if let Some(coding) = coding {
        request = request.header("content-encoding", coding);
    }
    let request = request.body(body).build().unwrap();
    // On a busy machine a handshake may run over the hub's deadline; whoever is honest tries again.
    let mut answer = client.execute(request.try_clone().unwrap()).await;
    for _ in 0..3 {
        if answer.as_ref().is_err_and(reqwest::Error::is_connect) {
            answer = client.execute(request.try_clone().unwrap()).await;
        }
    }
    let answer = answer.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// A second hub on the store of a [`TlsHub`].
pub struct Beside {
    pub url: String,
    child: Child,
}

impl Beside {
    pub async fn send<T: serde::Serialize>(&self, client: &reqwest::Client, events: &[T]) -> (u16, Value) {
        send_to(&self.url, client, serde_json::to_vec(events).unwrap(), None).await
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The hub's word for a problem.
pub fn word(problem: &Value) -> &str {
    problem["type"].as_str().unwrap_or_default().trim_start_matches("urn:evenkeel:problem:")
}
