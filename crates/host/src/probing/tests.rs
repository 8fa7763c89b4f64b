//! Probes against what really listens, and against what does not.

#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::program::Program;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Instant;

const WITHIN: Duration = Duration::from_secs(5);

fn told(what: Probed) -> Probing {
    told_within(what, WITHIN)
}

fn told_within(what: Probed, within: Duration) -> Probing {
    let probe = Probe { what, within, after: Duration::ZERO };
    ask(&[probe], &Arc::default()).pop().unwrap()
}

/// Something that says this to everybody; its address.
fn says(text: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut heard = [0; 1024];
            let _ = stream.read(&mut heard);
            let _ = stream.write_all(text);
        }
    });
    address
}

fn failed(told: &Probing) -> &str {
    match told {
        Probing::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_page_is_told_by_its_status_and_what_is_in_it() {
    let page = says(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 11\r\n\r\nhello Eden!");
    let url = format!("http://{page}/eden");
    let http = |contains: &str| Probed::Http { url: url.clone(), contains: Some(contains.into()) };
    assert_eq!(told(http("Eden")), Probing::Http { status: 502, contains: true });
    assert_eq!(told(http("Sahana")), Probing::Http { status: 502, contains: false });
    let to = says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    let redirect = Probed::Http { url: format!("http://{to}/"), contains: None };
    assert_eq!(told(redirect), Probing::Http { status: 302, contains: true }, "it is not followed");
    let nobody = Probed::Http { url: "http://127.0.0.1:1/".into(), contains: None };
    assert_eq!(failed(&told(nobody)), "connection refused");
}

#[test]
fn one_that_is_silent_takes_its_own_time_and_none_of_the_others() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let within = Duration::from_millis(700);
    let slow = Probe { what: Probed::Http { url, contains: None }, within, after: Duration::ZERO };
    let quick = Probe { what: Probed::Tcp(silent.local_addr().unwrap().to_string()), ..slow.clone() };
    let began = Instant::now();
    let all = ask(&[slow.clone(), quick, slow], &Arc::default());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(failed(&all[0]), "no answer within 700 ms");
    assert_eq!(all[1], Probing::Answers);
}

#[test]
fn what_is_no_memcached_is_told_and_a_real_one_answers() {
    assert_eq!(
        failed(&told(Probed::Memcached(says(b"HTTP/1.1 400 no\r\n\r\n")))),
        "what answers is no memcached"
    );
    assert_eq!(failed(&told(Probed::Memcached(says(b"VERSION 1")))), "it closed the connection");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut real = std::process::Command::new("memcached")
        .args(["-u", "nobody", "-l", "127.0.0.1", "-p", &port.to_string(), "-m", "8"])
        .spawn()
        .unwrap();
    let end = Instant::now() + WITHIN;
    let address = format!("127.0.0.1:{port}");
    while told(Probed::Memcached(address.clone())) != Probing::Answers {
        assert!(Instant::now() < end, "{:?}", told(Probed::Memcached(address)));
        std::thread::sleep(Duration::from_millis(20));
    }
    real.kill().unwrap();
    real.wait().unwrap();
}

#[test]
fn a_file_is_told_by_when_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    assert_eq!(failed(&told(Probed::FileAge(path.clone()))), "there is no such file");
    std::fs::write(&path, "x").unwrap();
    let then = std::time::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
    assert_eq!(told(Probed::FileAge(path)), Probing::Time(1_790_000_000));
}

#[test]
fn a_certificate_is_told_by_its_end_in_a_file_and_on_the_wire() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (key, pem) = (at("key"), at("pem"));
    let args = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=site", "-days", "10"];
    let made =
        Program::new("openssl").args(args).args(["-keyout", &key, "-out", &pem]).run(WITHIN * 4, 1 << 20);
    assert_eq!(made.unwrap().code, Some(0));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let right = |told: Probing| match told {
        Probing::Time(end) => (i64::try_from(now).unwrap() + 864_000 - end).abs() < 100,
        other => panic!("{other:?}"),
    };
    assert!(right(told(Probed::CertificateFile(pem.clone().into()))));
    assert_eq!(failed(&told(Probed::CertificateFile(key.clone().into()))), "there is no certificate in it");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut server = std::process::Command::new("openssl")
        .args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-key", &key, "-cert", &pem])
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let of = || Probed::CertificateOf { address: format!("127.0.0.1:{port}"), name: "site".into() };
    let end = Instant::now() + WITHIN;
    while told(of()) == Probing::Failed("connection refused".into()) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(right(told(of())));
    server.kill().unwrap();
    server.wait().unwrap();
    let plain = Probed::CertificateOf { address: says(b"hello, who is there?"), name: "site".into() };
    assert!(failed(&told(plain)).starts_with("TLS: "));
}
