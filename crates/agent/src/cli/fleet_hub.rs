//! Asking a hub's user API from the command line: which hub, who vouches for it, by which token, and what its answers mean.

use super::{Failure, load};
use crate::config::hub_url;
use crate::run::ConfigPlace;
use clap::Args;
use reqwest::Url;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most bytes of one answer.
const ANSWER_CAP: usize = 64 << 20;
/// The most bytes of a file with authorities.
const FILE_CAP: usize = 1 << 20;
/// How many nodes are asked for at once: as many as the hub gives.
const PAGE: &str = "1000";

/// Which hub.
#[derive(Debug, Args)]
pub(super) struct HubArgs {
    /// The hub. Left out: the one in the agent's configuration, with its `hub_ca`.
    #[arg(long, global = true, value_name = "URL")]
    hub: Option<String>,
    /// A file, readable by its owner alone, with a token of an account (`evenkeel-hub user token`). It is sent over TLS, or
    /// within this machine.
    #[arg(long, global = true, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the only authorities that may vouch for the hub. Left out: the system's.
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// A hub that may be asked.
pub(super) struct Hub {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
    base: String,
    token: Option<String>,
}

/// A text field; empty where there is none.
pub(super) fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn file(path: &Path) -> Result<Vec<u8>, Failure> {
    let bad = |why: String| Failure::Config(format!("{}: {why}", path.display()));
    match evenkeel_host::files::read(path, FILE_CAP) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(bad("there is no such file".to_owned())),
        Err(error) => Err(bad(evenkeel_core::chain(&error))),
    }
}

/// Whether what is sent there leaves this machine in the clear.
fn leaks(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return true };
    let host = url.host_str().unwrap_or_default();
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    let here = host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback());
    url.scheme() != "https" && !here
}

impl Hub {
    /// The hub that is meant. Nothing is sent yet.
    ///
    /// # Errors
    /// No hub is named, or a file is of no use.
    pub(super) fn new(place: &ConfigPlace, args: &HubArgs) -> Result<Self, Failure> {
        let none = || Failure::Usage("no hub is named: say --hub URL, or `hub:` in agent.yaml".to_owned());
        let (base, ca) = if let Some(given) = &args.hub {
            let url = hub_url(given).map_err(|why| Failure::Usage(format!("--hub: {why}")))?;
            (url.ok_or_else(none)?, args.ca.clone())
        } else {
            let config = load::config(place)?;
            (config.hub.ok_or_else(none)?, args.ca.clone().or(config.hub_ca))
        };
        let token = args.token_file.as_deref().map(|path| Self::token(path, &base)).transpose()?;
        // Installed once for the process; a second time changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(30));
        if let Some(path) = &ca {
            let certificates = reqwest::Certificate::from_pem_bundle(&file(path)?).unwrap_or_default();
            if certificates.is_empty() {
                return Err(Failure::Config(format!("{} holds no certificate in PEM", path.display())));
            }
            builder = builder.tls_certs_only(certificates);
        }
        let client = builder.build().map_err(|error| Failure::wrong(&error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { client, runtime: runtime.map_err(|error| Failure::wrong(&error))?, base, token })
    }

    fn token(path: &Path, base: &str) -> Result<String, Failure> {
        if leaks(base) {
            let why = format!("a token is never sent in the clear, and {base} is another machine: say https");
            return Err(Failure::Config(why));
        }
        let bad = |error| Failure::Config(format!("{}: {}", path.display(), evenkeel_core::chain(&error)));
        evenkeel_host::membership::token(path).map_err(bad)
    }

    /// Every node that the filter lets through, page by page.
    pub(super) fn nodes(&self, params: &[(&str, &str)]) -> Result<Vec<Value>, Failure> {
        let mut params = params.to_vec();
        params.push(("limit", PAGE));
        let mut url = self.url(&["nodes"], &params)?;
        let mut nodes = vec![];
        loop {
            let mut answer = self.ask(url)?;
            let page = answer.get_mut("nodes").and_then(Value::as_array_mut).map(std::mem::take);
            nodes.extend(page.ok_or_else(|| self.strange())?);
            match answer.get("next").and_then(Value::as_str) {
                // The same hub and no other: the token goes along.
                Some(next) if next.starts_with("/api/v1/nodes?") => {
                    url = Url::parse(&format!("{}{next}", self.base)).map_err(|_| self.strange())?;
                }
                Some(_) => return Err(self.strange()),
                None => return Ok(nodes),
            }
        }
    }

    /// One node and its items.
    pub(super) fn node(&self, name: &str) -> Result<Value, Failure> {
        self.ask(self.url(&["nodes", name], &[])?)
    }

    /// What is open, and what was closed lately.
    pub(super) fn drift(&self, params: &[(&str, &str)]) -> Result<Value, Failure> {
        let answer = self.ask(self.url(&["drift"], params)?)?;
        // What says nothing of drift must not pass for a fleet without any.
        let told = answer.pointer("/open/items").is_some_and(Value::is_u64);
        if told { Ok(answer) } else { Err(self.strange()) }
    }

    /// How many nodes and items stand how.
    pub(super) fn fleet(&self) -> Result<Value, Failure> {
        let answer = self.ask(self.url(&["fleet"], &[])?)?;
        let told = answer.pointer("/all/nodes").is_some_and(Value::is_u64)
            && answer.get("even").is_some_and(Value::is_boolean);
        if told { Ok(answer) } else { Err(self.strange()) }
    }

    /// How far a commit has come; nothing where no node has ever had or seen it.
    pub(super) fn rollout(&self, commit: &str) -> Result<Option<Value>, Failure> {
        let (status, body) = self.answer(self.url(&["rollout", commit], &[])?)?;
        if status == 404 {
            return Ok(None);
        }
        let answer = self.judge(status, body)?;
        let told = answer.pointer("/all/in_force").is_some_and(Value::is_u64);
        if told { Ok(Some(answer)) } else { Err(self.strange()) }
    }

    fn url(&self, path: &[&str], params: &[(&str, &str)]) -> Result<Url, Failure> {
        let mut url = Url::parse(&self.base).map_err(|error| Failure::wrong(&error))?;
        if let Ok(mut parts) = url.path_segments_mut() {
            parts.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        if !params.is_empty() {
            url.query_pairs_mut().extend_pairs(params);
        }
        Ok(url)
    }

    fn strange(&self) -> Failure {
        Failure::Wrong(format!("{} answers something else than a hub", self.base))
    }

    fn ask(&self, url: Url) -> Result<Value, Failure> {
        let (status, body) = self.answer(url)?;
        self.judge(status, body)
    }

    /// The status, and the body where it is JSON.
    fn answer(&self, url: Url) -> Result<(u16, Option<Value>), Failure> {
        let (status, body) = self.runtime.block_on(self.get(url)).map_err(|error| {
            let why = evenkeel_core::chain(&error.without_url());
            Failure::Away(format!("no hub answers on {}: {why}", self.base))
        })?;
        let body = body.ok_or_else(|| Failure::Wrong(format!("{} answers too much", self.base)))?;
        Ok((status, serde_json::from_slice(&body).ok()))
    }

    fn judge(&self, status: u16, body: Option<Value>) -> Result<Value, Failure> {
        if (200..300).contains(&status) {
            return body.ok_or_else(|| self.strange());
        }
        let detail = body.as_ref().map_or("", |body| text(body, "detail"));
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        let why = format!("{} answers {status}{}", self.base, evenkeel_report::cut(&detail, 1024));
        Err(match status {
            400 => Failure::Usage(why),
            401 | 403 => Failure::Config(format!("{why} (--token-file FILE)")),
            429 | 500..=599 => Failure::Away(why),
            _ => Failure::Wrong(why),
        })
    }

    /// The status, and the body as far as its cap; no body where it is longer.
    async fn get(&self, url: Url) -> Result<(u16, Option<Vec<u8>>), reqwest::Error> {
        let mut request = self.client.get(url).header("accept", "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await?;
        let mut body = vec![];
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > ANSWER_CAP {
                return Ok((response.status().as_u16(), None));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((response.status().as_u16(), Some(body)))
    }
}

#[cfg(test)]
mod tests {
    use super::leaks;

    #[test]
    fn a_token_leaves_this_machine_over_tls_alone() {
        for url in [
            "http://hub.example",
            "http://192.0.2.7:8480",
            "http://127.0.0.1.example",
            "http://[2001:db8::1]",
        ] {
            assert!(leaks(url), "{url}");
        }
        for url in ["https://hub.example", "http://127.0.0.1:8480", "http://localhost:1", "http://[::1]:1"] {
            assert!(!leaks(url), "{url}");
        }
    }
}
