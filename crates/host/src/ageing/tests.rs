//! Real sockets on the loopback, which forgets nothing: peers that answer, close, reset, greet, and are not there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A listener, and what it does with every connection that it takes.
fn peer(with: impl Fn(TcpStream) + Send + Copy + 'static) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || with(stream));
        }
    });
    Peer { address, login: None }
}

fn stays(stream: TcpStream) {
    std::thread::sleep(Duration::from_mins(1));
    drop(stream);
}

#[test]
fn answers_come_in_the_order_of_the_questions_and_within_the_time() {
    let start = Instant::now();
    let answers = check(&peer(stays), &[ms(300), ms(50), Duration::from_mins(1)], Duration::from_secs(9));
    let fates: Vec<Fate> = answers.iter().map(|seen| seen.fate).collect();
    assert_eq!(fates, [Fate::Survived, Fate::Survived, Fate::Untried]);
    assert!(answers[0].age >= ms(300) && answers[1].age < ms(300), "{answers:?}");
    assert!(start.elapsed() < Duration::from_secs(9));
}

#[test]
fn a_peer_that_closes_is_told_from_a_path_that_forgets() {
    let closes = |stream: TcpStream| {
        std::thread::sleep(ms(200));
        let _ = (&stream).write_all(b"FATAL: too slow\n");
        drop(stream);
    };
    let start = Instant::now();
    let answers = check(&peer(closes), &[Duration::from_secs(5)], Duration::from_secs(20));
    assert_eq!(answers[0].fate, Fate::Closed);
    assert!(start.elapsed() < Duration::from_secs(4), "nobody waits for what is closed");
}

#[test]
fn a_reset_that_nobody_asked_for_is_told_at_its_age() {
    let resets = |stream: TcpStream| {
        std::thread::sleep(ms(200));
        let linger = Some(Duration::ZERO);
        rustix::net::sockopt::set_socket_linger(&stream, linger).unwrap();
        drop(stream);
    };
    let answers = check(&peer(resets), &[Duration::from_secs(5)], Duration::from_secs(20));
    assert_eq!(answers[0].fate, Fate::Reset);
    assert!((ms(150)..Duration::from_secs(3)).contains(&answers[0].age), "{answers:?}");
}

#[test]
fn a_greeting_begins_the_silence_anew_and_a_talker_is_never_silent() {
    let greets = |mut stream: TcpStream| {
        let _ = stream.write_all(b"220 welcome\r\n");
        stays(stream);
    };
    assert_eq!(check(&peer(greets), &[ms(300)], Duration::from_secs(9))[0].fate, Fate::Survived);
    let talks = |mut stream: TcpStream| {
        while stream.write_all(b"tick").is_ok() {
            std::thread::sleep(ms(200));
        }
    };
    let answers = check(&peer(talks), &[Duration::from_secs(30)], Duration::from_secs(40));
    assert_eq!(answers[0].fate, Fate::Talked);
}

#[test]
fn who_is_not_there_is_unreachable_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), login: None };
    drop(listener);
    let answers = check(&peer, &[ms(10), ms(20)], Duration::from_secs(9));
    assert!(answers.iter().all(|seen| seen.fate == Fate::Unreachable), "{answers:?}");
    assert!(Peer::find("127.0.0.1", peer.address.port(), None).is_err());
    assert!(Peer::find("no-such-name.invalid", 1, None).is_err());
}

#[test]
fn a_password_is_read_only_from_a_file_that_is_nobody_elses() {
    let login = || Login::new("user=a dbname=b").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "s3cret\n").unwrap();
    for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let read = login().password_file(file.path());
        assert_eq!(read.is_ok(), good, "{mode:o}");
        let shown = read.map_or_else(|fault| evenkeel_core::chain(&fault), |login| format!("{login:?}"));
        assert!(!shown.contains("s3cret") && (good || shown.contains("chmod 0600")), "{shown}");
    }
    for text in
        ["user=a password=x", "user=a host=h", "user=a port=1", "dbname=b", "user", "postgres://a:b@c/d"]
    {
        let refused = evenkeel_core::chain(&Login::new(text).expect_err(text));
        assert!(!refused.contains("password=x"), "{refused}");
    }
}
