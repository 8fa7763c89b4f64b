//! Slots of the fleet, so that no two nodes are disturbed at once: the client's side of the `FleetLock` protocol.
//!
//! Nothing here decides when a slot is wanted. Whatever is not a clear yes is "not now": a server that is away, or that says
//! anything else, leaves the node as it is. No redirect is followed and no proxy taken from the environment; plain HTTP is
//! spoken on this machine only, because whoever is on the way could grant what he likes.

use crate::{files, membership};
use evenkeel_core::{Class, Fault, chain};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a connection may take, and the whole of a question.
const CONNECT: Duration = Duration::from_secs(3);
const DEADLINE: Duration = Duration::from_secs(8);
/// The most bytes of an answer that are read, and the most characters of it that are told.
const ANSWER: usize = 16 << 10;
const TOLD: usize = 200;

/// Where slots are asked for, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetLock {
    /// The server, without a slash at its end.
    pub url: String,
    /// PEM file with the only certificate authorities that may vouch for it; none means the system's.
    pub ca: Option<PathBuf>,
    /// This node's name.
    pub node: String,
    /// The agent's state folder, where it keeps the certificate that this node is known by.
    pub state_dir: Option<PathBuf>,
}

/// What is known of slots here; shared by every lane.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    at: Mutex<Option<FleetLock>>,
    tier: Mutex<Option<String>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slots {
    pub(crate) fn ask_at(&self, at: Option<FleetLock>) {
        *held(&self.at) = at;
    }

    pub(crate) fn set_tier(&self, tier: &str) {
        *held(&self.tier) = (!tier.is_empty()).then(|| tier.to_owned());
    }

    pub(crate) fn tier(&self) -> Option<String> {
        held(&self.tier).clone()
    }

    pub(crate) fn take(&self, group: &str, holder: &str) -> Result<(), Fault> {
        self.ask("pre-reboot", group, holder)
    }

    pub(crate) fn leave(&self, group: &str, holder: &str) -> Result<(), Fault> {
        self.ask("steady-state", group, holder)
    }

    fn ask(&self, what: &str, group: &str, holder: &str) -> Result<(), Fault> {
        let waiting = |why: String| Fault::new(why).class(Class::Waiting);
        let Some(at) = held(&self.at).clone() else {
            return Err(waiting(format!(
                "nobody is named who keeps the slots of {group}: set `hub` or `fleet_lock` in agent.yaml"
            )));
        };
        if !is_private(&at.url) {
            return Err(waiting(format!(
                "slots of {group} are not asked for at {}: plain HTTP is for this machine alone, write https",
                at.url
            )));
        }
        let id = format!("{}/{holder}", at.node);
        let body = json!({"client_params": {"id": id, "group": group}}).to_string();
        let doing = format!("ask for the slot of {group} at {}", at.url);
        let answered = post(&at, what, body).map_err(|why| waiting(format!("{doing}: {why}")))?;
        match answered {
            (200..=299, _) => Ok(()),
            (status, answer) => Err(waiting(refusal(group, status, &answer, &doing))),
        }
    }
}

/// Whether nobody on the way can listen or answer: https, or this machine itself.
fn is_private(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    url.scheme() == "https" || here
}

/// Why a slot was not granted, in one line that reads the same while the cause is the same.
fn refusal(group: &str, status: u16, answer: &[u8], doing: &str) -> String {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let text = |key: &str| {
        let text = answer[key].as_str().unwrap_or_default();
        text.chars().filter(|c| !c.is_control()).take(TOLD).collect::<String>()
    };
    match (text("kind").as_str(), text("value")) {
        ("failed_lock" | "failed_lock_semaphore_full", value) => {
            let who = if value.is_empty() { value } else { format!(": {value}") };
            format!("another node of {group} has the slot{who}")
        }
        (_, value) if !value.is_empty() => format!("{doing}: it answered {status}: {value}"),
        _ => format!("{doing}: it answered {status}"),
    }
}

/// Ask, and wait for the answer, on a runtime of its own: a pass may block.
fn post(at: &FleetLock, what: &str, body: String) -> Result<(u16, Vec<u8>), String> {
    let told = |error: &dyn std::error::Error| chain(error).chars().take(TOLD).collect::<String>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| told(&error))?;
    let client = client(at)?;
    let request = client
        .post(format!("{}/v1/{what}", at.url))
        .header("fleet-lock-protocol", "true")
        .header("content-type", "application/json")
        .body(body);
    runtime.block_on(async {
        let mut response = request.send().await.map_err(|error| told(&error.without_url()))?;
        let (status, mut answer) = (response.status().as_u16(), vec![]);
        while let Ok(Some(chunk)) = response.chunk().await {
            if answer.len() + chunk.len() > ANSWER {
                break;
            }
            answer.extend_from_slice(&chunk);
        }
        Ok((status, answer))
    })
}

fn client(at: &FleetLock) -> Result<reqwest::Client, String> {
    // Installed once for the process; a second time changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT)
        .timeout(DEADLINE)
        .tcp_user_timeout(DEADLINE);
    if let Some(path) = &at.ca {
        let pem = files::read(path, 1 << 20).map_err(|error| format!("read {}: {error}", path.display()))?;
        let certificates =
            reqwest::Certificate::from_pem_bundle(&pem.unwrap_or_default()).unwrap_or_default();
        if certificates.is_empty() {
            return Err(format!("{} holds no certificate in PEM", path.display()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(identity) = identity(at)? {
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| chain(&error))
}

/// What this node is known by, where it was let in. It is read anew for each question, as it is renewed from time to time.
fn identity(at: &FleetLock) -> Result<Option<reqwest::Identity>, String> {
    let Some(state_dir) = at.state_dir.as_deref().filter(|_| at.url.starts_with("https://")) else {
        return Ok(None);
    };
    let path = membership::identity_file(state_dir);
    let pem = membership::identity(state_dir).map_err(|error| format!("read {}: {error}", path.display()))?;
    let read = pem.map(|pem| reqwest::Identity::from_pem(&pem)).transpose();
    read.map_err(|error| format!("use this node's certificate in {}: {}", path.display(), chain(&error)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    /// A server that gives one answer; what it was asked.
    fn server(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut asked, mut piece) = (vec![], [0; 4096]);
            while !String::from_utf8_lossy(&asked).ends_with("}}") {
                let length = stream.read(&mut piece).unwrap();
                asked.extend_from_slice(&piece[..length]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(asked).unwrap()
        });
        (url, thread)
    }

    fn slots(url: &str) -> Slots {
        let slots = Slots::default();
        slots.ask_at(Some(FleetLock { url: url.to_owned(), ca: None, node: "mw1".into(), state_dir: None }));
        slots
    }

    #[test]
    fn a_slot_is_asked_for_as_the_protocol_says() {
        let (url, asked) = server("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        slots(&url).take("middleware", "service").unwrap();
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("POST /v1/pre-reboot HTTP/1.1"), "{asked}");
        assert!(asked.contains("fleet-lock-protocol: true"), "{asked}");
        let body: Value = serde_json::from_str(asked.rsplit_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body, json!({"client_params": {"id": "mw1/service", "group": "middleware"}}));
    }

    #[test]
    fn whatever_is_no_yes_is_waited_for() {
        let full = "HTTP/1.1 409 Conflict\r\ncontent-length: 53\r\n\r\n{\"kind\":\"failed_lock\",\"value\":\"mw2/service has it\"}  ";
        let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
        for (answer, word) in
            [(full, "another node of middleware has the slot: mw2/service has it"), (moved, "302")]
        {
            let (url, asked) = server(answer);
            let fault = slots(&url).leave("middleware", "service").unwrap_err();
            assert!(chain(&fault).contains(word), "{}", chain(&fault));
            assert_eq!(fault.class, Class::Waiting);
            asked.join().unwrap();
        }
        let fault = slots("http://127.0.0.1:1").take("middleware", "service").unwrap_err();
        assert!(fault.class == Class::Waiting && chain(&fault).contains("refused"), "{}", chain(&fault));
        let fault = Slots::default().take("middleware", "service").unwrap_err();
        assert!(chain(&fault).contains("fleet_lock"), "{}", chain(&fault));
    }

    /// A server over TLS that hears nobody without a certificate of its authority; what it was asked, or nothing. And what
    /// a node needs to speak to it: the authority, and a key with its certificate.
    fn guarded() -> (String, std::thread::JoinHandle<Option<String>>, String, String) {
        use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
        use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
        use std::sync::Arc;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let certified = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &authority).unwrap(), key)
        };
        let ((own, own_key), (node, node_key)) = (certified("127.0.0.1"), certified("mw1"));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own_key.serialize_der()));
        let config = builder.unwrap().with_client_cert_verifier(verifier.build().unwrap());
        let config = Arc::new(config.with_single_cert(vec![own.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut tls = rustls::ServerConnection::new(config).unwrap();
            let mut tls = rustls::Stream::new(&mut tls, &mut stream);
            let (mut asked, mut piece) = (vec![], [0; 4096]);
            while !String::from_utf8_lossy(&asked).ends_with("}}") {
                let length = tls.read(&mut piece).ok().filter(|length| *length > 0)?;
                asked.extend_from_slice(&piece[..length]);
            }
            tls.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
            String::from_utf8(asked).ok()
        });
        (url, thread, authority.pem(), format!("{}{}", node_key.serialize_pem(), node.pem()))
    }

    #[test]
    fn a_node_that_was_let_in_is_known_by_its_certificate_when_it_asks() {
        for let_in in [true, false] {
            let (url, asked, ca, identity) = guarded();
            let folder = tempfile::tempdir().unwrap();
            let ca_file = folder.path().join("ca.pem");
            files::replace(&ca_file, ca.as_bytes(), 0o644).unwrap();
            if let_in {
                files::replace(&membership::identity_file(folder.path()), identity.as_bytes(), 0o600)
                    .unwrap();
            }
            let state_dir = Some(folder.path().to_owned());
            let slots = Slots::default();
            slots.ask_at(Some(FleetLock { url, ca: Some(ca_file), node: "mw1".into(), state_dir }));
            assert_eq!(slots.take("middleware", "service").is_ok(), let_in);
            assert_eq!(asked.join().unwrap().is_some(), let_in);
        }
    }

    #[test]
    fn a_certificate_that_does_not_read_is_told_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        files::replace(&membership::identity_file(folder.path()), b"spoilt", 0o600).unwrap();
        let (url, state_dir) = ("https://127.0.0.1:1".to_owned(), Some(folder.path().to_owned()));
        let slots = Slots::default();
        slots.ask_at(Some(FleetLock { url, ca: None, node: "mw1".into(), state_dir }));
        let fault = slots.take("middleware", "service").unwrap_err();
        assert!(
            fault.class == Class::Waiting && chain(&fault).contains("hub-identity.pem"),
            "{}",
            chain(&fault)
        );
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for good in
            ["https://hub.example", "http://127.0.0.1:8484", "http://[::1]:8484", "http://localhost:1"]
        {
            assert!(is_private(good), "{good}");
        }
        for bad in ["http://hub.example", "http://10.0.0.1:8484", "http://127.0.0.1.evil.example", "nonsense"]
        {
            assert!(!is_private(bad), "{bad}");
        }
        let fault = slots("http://192.0.2.1:1").take("middleware", "service").unwrap_err();
        assert!(chain(&fault).contains("write https"), "{}", chain(&fault));
    }
}
