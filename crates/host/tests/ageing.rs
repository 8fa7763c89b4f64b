//! The check for the background, from a thread in another network namespace, through a router that forgets.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use evenkeel_core::ageing::Fate;
use evenkeel_host::ageing::{Peer, check};
use std::fs::File;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/lab");

/// Do something on a thread whose network is a node's.
fn on<T: Send + 'static>(lab: &str, node: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = File::open(format!("/run/netns/ek-{lab}-{node}")).unwrap();
    let there = move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    std::thread::spawn(there).join().unwrap()
}

#[test]
fn a_check_tells_what_the_path_remembers() {
    let (name, owner) = (format!("a{}", std::process::id()), std::process::id().to_string());
    let script = |script: &str, args: &[&str]| {
        let done =
            Command::new(format!("{LAB}/{script}")).args(args).env("EVENKEEL_LAB_NAME", &name).output();
        let done = done.unwrap();
        assert!(done.status.success(), "these tests need root: {}", String::from_utf8_lossy(&done.stderr));
    };
    script("up", &["--forget", "2", "--owner", &owner]);
    let listener = on(&name, "db", || TcpListener::bind("10.77.2.2:7000").unwrap());
    let ages = [4, 1, 3600].map(Duration::from_secs);
    let start = Instant::now();
    let answers = on(&name, "mw", move || {
        let peer = Peer { address: "10.77.2.2:7000".parse().unwrap(), login: None };
        check(&peer, &ages, Duration::from_secs(30))
    });
    let took = start.elapsed();
    script("down", &[]);
    drop(listener);
    let fates = answers.iter().map(|seen| seen.fate).collect::<Vec<_>>();
    assert_eq!(fates, [Fate::Dropped, Fate::Survived, Fate::Untried]);
    // Four seconds of silence, and what it takes until three probes have gone unanswered.
    assert!((Duration::from_secs(6)..Duration::from_secs(11)).contains(&took), "{took:?}");
    println!("three probes went unanswered after {:?}", took.saturating_sub(ages[0]));
}
