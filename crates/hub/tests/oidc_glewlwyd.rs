//! Signing in at a provider that is not ours: a real hub, and Debian's glewlwyd.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::receiver::{Papers, free};
use reqwest::Response;
use reqwest::redirect::Policy;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

const HOME: &str = "http://127.0.0.1:8484";

fn script() -> Command {
    let at = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oidc/glewlwyd.py");
    let mut command = Command::new("python3");
    command.arg(at);
    command
}

struct Glewlwyd {
    script: Child,
    port: String,
    _dir: tempfile::TempDir,
}

impl Glewlwyd {
    fn start() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free().port().to_string());
        let mut script = script()
            .arg("serve")
            .arg(dir.path())
            .arg(&port)
            .arg(format!("{HOME}/sign-in/provider/back"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(script.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n", "glewlwyd (Debian: glewlwyd) is not there, or does not start");
        Self { script, port, _dir: dir }
    }

    /// Somebody signs in there: where he is sent back to, without the hub's address.
    async fn signs_in(&self, person: &str, url: &str) -> String {
        let mut asked = script();
        asked.args(["sign-in", &self.port, person, url]);
        let out = tokio::task::spawn_blocking(move || asked.output().unwrap()).await.unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        let back = said.trim().strip_prefix(HOME);
        back.unwrap_or_else(|| panic!("{said} {}", String::from_utf8_lossy(&out.stderr))).to_owned()
    }
}

impl Drop for Glewlwyd {
    fn drop(&mut self) {
        // Its standard input is closed: it ends the server.
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

fn location(answer: &Response) -> String {
    answer.headers()["location"].to_str().unwrap().to_owned()
}

fn cookie(answer: &Response, name: &str) -> Option<String> {
    let all = answer.headers().get_all("set-cookie").into_iter().map(|one| one.to_str().unwrap());
    all.filter(|one| one.starts_with(&format!("{name}=")))
        .map(|one| one.split(';').next().unwrap().to_owned())
        .next()
}

#[tokio::test]
async fn somebody_signs_in_at_glewlwyd_and_is_who_his_groups_say() {
    let provider = Glewlwyd::start();
    let papers = Papers::new(&format!(
        "public_url: {HOME}\noidc:\n  issuer: http://127.0.0.1:{}/api/oidc\n  client_id: hub\n  client_secret_file: DIR/secret\n  \
         scopes: []\n  roles:\n  - {{group: dba, role: operator, tiers: [database]}}\n",
        provider.port
    ));
    papers.secret("secret", "a-secret-of-the-hub\n");
    let store = tempfile::tempdir().unwrap();
    let hub = papers.hub(&format!("sqlite:{}", store.path().join("hub.db").display()));
    let _ = rustls::crypto::ring::default_provider().install_default();
    let browser = reqwest::Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
    let get = async |path: &str, cookie: &str| {
        browser.get(format!("{}{path}", hub.url)).header("cookie", cookie).send().await.unwrap()
    };
    let begin = async || {
        let answer = get("/sign-in/provider?next=/drift", "").await;
        assert_eq!(answer.status(), 303);
        (location(&answer), cookie(&answer, "evenkeel-oidc").unwrap())
    };

    let (url, pending) = begin().await;
    let back = provider.signs_in("ada", &url).await;
    let answer = get(&back, &pending).await;
    let session = cookie(&answer, "evenkeel");
    assert!(answer.status() == 303 && location(&answer) == "/drift", "{}", answer.text().await.unwrap());
    let own: Value = get("/api/v1/account", &session.unwrap()).await.json().await.unwrap();
    assert_eq!(own, serde_json::json!({"name": "oidc:ada", "role": "operator", "tiers": ["database"]}));

    // The code is used up, there as well.
    let again = get(&back, &pending).await;
    assert!(again.status() == 401 && cookie(&again, "evenkeel").is_none());

    let (url, pending) = begin().await;
    let answer = get(&provider.signs_in("bob", &url).await, &pending).await;
    assert!(answer.status() == 403 && cookie(&answer, "evenkeel").is_none());
    assert!(answer.text().await.unwrap().contains("has no role here"));
}
