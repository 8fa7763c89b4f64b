//! Servers that the agent must not believe, and one that it must: real TLS on a real socket.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use super::Shut;
use super::http::{Answer, Link};
use crate::config::Config;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this machine, changed as `change` says.
fn certificate(
    by: &Authority,
    change: impl Fn(&mut CertificateParams),
) -> (Vec<CertificateDer<'static>>, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    change(&mut params);
    (vec![params.signed_by(&key, by).unwrap().der().clone()], key)
}

/// A server that counts the requests it can read, and says `answer` to each.
struct Server {
    url: String,
    requests: Arc<AtomicU32>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Over TLS where there is a certificate.
    fn start(shown: Option<(Vec<CertificateDer<'static>>, KeyPair)>, answer: &'static str) -> Self {
        let config = shown.map(|(chain, key)| {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            Arc::new(builder.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap())
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let (requests, heads) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(vec![])));
        let (count, kept) = (requests.clone(), heads.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = vec![0; 4096];
                let read = if let Some(config) = &config {
                    let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
                    let mut tls = rustls::Stream::new(&mut tls, &mut stream);
                    let read = tls.read(&mut head).unwrap_or(0);
                    let _ = tls.write_all(answer.as_bytes()).and_then(|()| tls.flush());
                    read
                } else {
                    let _ = stream.write_all(answer.as_bytes());
                    let read = stream.read(&mut head).unwrap_or(0);
                    // What begins a handshake is no request.
                    if head.first() == Some(&0x16) { 0 } else { read }
                };
                if read > 0 {
                    count.fetch_add(1, Ordering::Relaxed);
                    kept.lock().unwrap().push(String::from_utf8_lossy(&head[..read]).to_lowercase());
                }
            }
        });
        Self { url, requests, heads }
    }

    async fn told(&self, ca: &Authority, folder: &Path) -> Answer {
        let path = folder.join("ca.pem");
        std::fs::write(&path, ca.pem()).unwrap();
        let text = format!("node: mw3\nhub: {}\nhub_ca: {}\n", self.url, path.display());
        let config = Config::parse(Path::new("t"), &text, "h", &|_| None).unwrap();
        Link::new(&self.url, &config, None).unwrap().send(b"[]".to_vec(), "mw3").await
    }
}

#[tokio::test]
async fn a_server_that_is_not_the_hub_hears_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let good = Server::start(Some(certificate(&ours, |_| ())), OK);
    assert_eq!(good.told(&ours, folder.path()).await, Answer::Taken { want_full: false });
    assert_eq!(good.requests.load(Ordering::Relaxed), 1);

    let node = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names.push(SanType::URI("urn:evenkeel:node:mw3".try_into().unwrap()));
    };
    let self_signed = || {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        (vec![params.self_signed(&key).unwrap().der().clone()], key)
    };
    // Somebody whom the authority vouches for makes himself an authority.
    let (chain, key) = certificate(&ours, |_| ());
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let upstart_key = KeyPair::generate().unwrap();
    let upstart =
        params.signed_by(&upstart_key, &rcgen::Issuer::new(CertificateParams::default(), key)).unwrap();
    let upstart = (vec![upstart.der().clone(), chain[0].clone()], upstart_key);
    let bad = [
        ("another authority", Some(certificate(&theirs, |_| ()))),
        ("signed by itself", Some(self_signed())),
        (
            "another name",
            Some(certificate(&ours, |params| {
                params.subject_alt_names = vec![SanType::DnsName("hub.example".try_into().unwrap())];
            })),
        ),
        ("no name", Some(certificate(&ours, |params| params.subject_alt_names.clear()))),
        ("over", Some(certificate(&ours, |params| params.not_after = date_time_ymd(2020, 1, 1)))),
        ("not yet", Some(certificate(&ours, |params| params.not_before = date_time_ymd(2090, 1, 1)))),
        ("a node's", Some(certificate(&ours, node))),
        ("signed by no authority", Some(upstart)),
        ("in the clear", None),
    ];
    for (what, shown) in bad {
        let server = Server::start(shown, OK);
        let answer = server.told(&ours, folder.path()).await;
        assert!(matches!(answer, Answer::Later { .. }), "{what}: {answer:?}");
        assert_eq!(server.requests.load(Ordering::Relaxed), 0, "{what}: it was told something");
    }
}

#[tokio::test]
async fn a_redirect_away_from_the_hub_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let elsewhere = Server::start(Some(certificate(&ours, |_| ())), OK);
    let to = format!("HTTP/1.1 307 Go\r\nlocation: {}/v1/events\r\ncontent-length: 0\r\n\r\n", elsewhere.url);
    let hub = Server::start(Some(certificate(&ours, |_| ())), Box::leak(to.into_boxed_str()));
    assert!(matches!(hub.told(&ours, folder.path()).await, Answer::Later { .. }));
    assert_eq!(elsewhere.requests.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn how_this_node_is_shut_out_is_understood_and_everything_else_waits() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let problem = |status: &str, word: &str| {
        let body = format!("{{\"type\":\"urn:evenkeel:problem:{word}\",\"detail\":\"so it is\"}}");
        let head = format!("HTTP/1.1 {status}\r\nretry-after: 90\r\ncontent-length: {}\r\n\r\n", body.len());
        &*Box::leak(format!("{head}{body}").into_boxed_str())
    };
    for (status, word, how) in [
        ("403 No", "banned", Some(Shut::Banned)),
        ("410 Gone", "removed", Some(Shut::Removed)),
        ("409 Conflict", "cloned_identity", Some(Shut::Cloned)),
        ("401 Who", "no_certificate", Some(Shut::Unknown)),
        ("403 No", "something_new", None),
    ] {
        let hub = Server::start(Some(certificate(&ours, |_| ())), problem(status, word));
        let answer = hub.told(&ours, folder.path()).await;
        match (how, answer) {
            (Some(how), Answer::Shut { how: told, after }) => {
                assert_eq!((how, after.as_secs()), (told, 90), "{word}");
            }
            (None, Answer::Later { why, after }) => {
                assert!(why.contains("so it is") && after.is_some(), "{why}");
            }
            (_, answer) => panic!("{word}: {answer:?}"),
        }
    }
    let forged = Server::start(Some(certificate(&ours, |_| ())), problem("403 No", "forged_identity"));
    assert!(matches!(forged.told(&ours, folder.path()).await, Answer::Never { .. }));
}

#[tokio::test]
async fn a_receiver_that_reads_no_gzip_gets_the_batch_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let hub = Server::start(
        Some(certificate(&ours, |_| ())),
        "HTTP/1.1 415 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    );
    std::fs::write(folder.path().join("ca.pem"), ours.pem()).unwrap();
    let text = format!("hub: {}\nhub_ca: {}\n", hub.url, folder.path().join("ca.pem").display());
    let config = Config::parse(Path::new("t"), &text, "h", &|_| None).unwrap();
    let link = Link::new(&hub.url, &config, None).unwrap();
    assert!(matches!(link.send(vec![b' '; 3_000], "mw3").await, Answer::Never { .. }));
    let heads = hub.heads.lock().unwrap().clone();
    let packed: Vec<bool> = heads.iter().map(|head| head.contains("content-encoding: gzip")).collect();
    assert_eq!(packed, [true, false], "{heads:?}");
}
