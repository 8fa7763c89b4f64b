//! Watching a real kernel, real files and a real mount table, in namespaces of the test's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{SOON, alone, comes_true, sh, until};
use evenkeel_core::{Actuator, Interest, Sensor, Step, SysctlKey};
use evenkeel_host::Host;
use evenkeel_host::watch::{Event, Watcher};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const TIME: &str = "net.ipv4.tcp_keepalive_time";

fn sysctl(text: &str) -> Interest {
    Interest::Sysctl(text.parse().unwrap())
}

fn watch(host: &Host, interests: &[Interest]) -> (Watcher, Receiver<Event>) {
    let (tell, told) = channel();
    let watcher = Watcher::start(host.own_writes(), move |event| drop(tell.send(event)));
    watcher.set(interests.to_vec());
    (watcher, told)
}

/// Many times longer than an event takes.
const A_WHILE: Duration = Duration::from_millis(100);

#[test]
fn whoever_writes_a_parameter_is_named() {
    if !alone("whoever_writes_a_parameter_is_named") {
        return;
    }
    let host = Host::new("/run/none".into());
    let (watcher, told) = watch(&host, &[sysctl(TIME)]);
    assert!(watcher.degraded().is_empty(), "{:?}", watcher.degraded());
    for round in 0..20 {
        // The shell stays for a moment, so that its name can still be asked for.
        let mut child = std::process::Command::new("sh")
            .args(["-c", &format!("echo {} > /proc/sys/net/ipv4/tcp_keepalive_time; read x", 100 + round)])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let event = told.recv_timeout(SOON).unwrap();
        assert_eq!(event.interest, sysctl(TIME));
        let writer = event.writer.unwrap();
        assert_eq!((writer.pid, writer.comm.as_deref()), (child.id(), Some("sh")));
        drop(child.stdin.take());
        child.wait().unwrap();
    }
    // Memory pressure, as far as these files are concerned: what nobody holds open is forgotten by the kernel.
    sh("echo 2 > /proc/sys/vm/drop_caches");
    sh("echo 99 > /proc/sys/net/ipv4/tcp_keepalive_time");
    assert_eq!(told.recv_timeout(SOON).unwrap().interest, sysctl(TIME));
}

#[test]
fn a_burst_is_told_at_once_and_to_its_end_and_seldom() {
    if !alone("a_burst_is_told_at_once_and_to_its_end_and_seldom") {
        return;
    }
    let host = Host::new("/run/none".into());
    let (_watcher, told) = watch(&host, &[sysctl(TIME)]);
    let started = Instant::now();
    sh(
        "i=0; while [ $i -lt 20000 ]; do echo $((i % 100 + 1)) > /proc/sys/net/ipv4/tcp_keepalive_time; i=$((i+1)); done",
    );
    let took = started.elapsed();
    sh("echo 4242 > /proc/sys/net/ipv4/tcp_keepalive_time");
    // Whoever looks on every event has seen the last value in the end.
    let key: SysctlKey = TIME.parse().unwrap();
    let (mut count, mut last) = (0_u128, None);
    until("the last write is told", || {
        while told.try_recv().is_ok() {
            count += 1;
            last = Some(host.sysctl(&key).unwrap());
        }
        last == Some(evenkeel_core::SysctlSeen::Value("4242".into()))
    });
    let most = took.as_millis() / 5 + 10;
    assert!(count <= most, "{count} events in {took:?}");
}

#[test]
fn what_we_write_ourselves_wakes_nobody() {
    if !alone("what_we_write_ourselves_wakes_nobody") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (file, new) = (folder.path().join("a.conf"), folder.path().join("later/b.conf"));
    let target = folder.path().join("mnt");
    let mut host = Host::new(folder.path().join("run"));
    let interests =
        [sysctl(TIME), Interest::File(file.clone()), Interest::File(new.clone()), Interest::Mounts];
    let (_watcher, told) = watch(&host, &interests);
    let key: SysctlKey = TIME.parse().unwrap();
    let write =
        |path: &Path, text: i32| Step::WriteFile { path: path.into(), text: text.to_string(), mode: 0o644 };
    let mount = || {
        let (source, target, fstype) = ("tmpfs".to_owned(), target.clone(), "tmpfs".to_owned());
        Step::Mount { source, target, fstype, options: vec![] }
    };
    let mut perform = |step: Step| {
        host.perform(&step).unwrap();
        step
    };
    for round in 0..3 {
        for step in [
            Step::SetSysctl { key: key.clone(), value: (round + 100).to_string() },
            write(&file, round),
            write(&new, round),
            Step::RemoveFile { path: file.clone() },
            Step::MakeFolder { path: target.clone() },
            mount(),
            Step::Remount { target: target.clone(), options: vec!["ro".into()] },
            Step::Unmount { target: target.clone() },
        ] {
            let step = perform(step);
            let woken = told.recv_timeout(A_WHILE);
            assert!(woken.is_err(), "`{step}` woke us: {woken:?}");
        }
    }
    // In a hurry too.
    for round in 0..200 {
        perform(Step::SetSysctl { key: key.clone(), value: (round + 100).to_string() });
        perform(write(&file, round));
        if round % 20 == 0 {
            perform(mount());
            perform(Step::Unmount { target: target.clone() });
        }
    }
    let woken = told.recv_timeout(A_WHILE);
    assert!(woken.is_err(), "{woken:?}");
    for (interest, script) in [
        (sysctl(TIME), "echo 7 > /proc/sys/net/ipv4/tcp_keepalive_time".to_owned()),
        (Interest::File(file.clone()), format!("echo x >> {}", file.display())),
        (Interest::File(new.clone()), format!("rm {}", new.display())),
        (Interest::Mounts, format!("mount -t tmpfs x {}", target.display())),
    ] {
        sh(&script);
        assert_eq!(told.recv_timeout(SOON).expect("others do wake us").interest, interest);
        while let Ok(event) = told.recv_timeout(A_WHILE) {
            assert_eq!(event.interest, interest);
        }
    }
}

#[test]
fn a_file_is_seen_to_appear_change_and_vanish_even_where_its_folder_does() {
    if !alone("a_file_is_seen_to_appear_change_and_vanish_even_where_its_folder_does") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (host, path) = (Host::new("/run/none".into()), folder.path().join("13/main/conf.d/99.conf"));
    let (watcher, told) = watch(&host, &[Interest::File(path.clone())]);
    assert!(watcher.degraded().is_empty(), "{:?}", watcher.degraded());
    let at = path.parent().unwrap().display().to_string();
    for (what, script) in [
        ("appear", format!("mkdir -p {at}; sleep 0.1; echo 1 > {at}/99.conf")),
        ("change", format!("echo 2 >> {at}/99.conf")),
        ("be replaced", format!("echo 3 > {at}/x; mv {at}/x {at}/99.conf")),
        ("vanish", format!("rm {at}/99.conf")),
        ("come back", format!("echo 1 > {at}/99.conf")),
        ("vanish with its folder", format!("mv {at} {at}.old; mkdir {at}")),
        ("come back in another folder of that name", format!("echo 5 > {at}/99.conf")),
    ] {
        sh(&script);
        let event = told.recv_timeout(SOON).unwrap_or_else(|_| panic!("it was not seen to {what}"));
        assert_eq!(event.interest, Interest::File(path.clone()));
        while told.recv_timeout(Duration::from_millis(100)).is_ok() {}
    }
    sh(&format!("cat {at}/99.conf; echo other > {at}/98.conf"));
    assert!(told.recv_timeout(Duration::from_millis(200)).is_err(), "a look, and another file, are no news");
}

#[test]
fn a_folder_stands_for_every_file_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::new("/run/none".into());
    let (_watcher, told) = watch(&host, &[Interest::File(folder.path().to_owned())]);
    let ours = folder.path().join("99-ours.conf");
    host.perform(&Step::WriteFile { path: ours, text: "x".into(), mode: 0o644 }).unwrap();
    assert!(told.recv_timeout(A_WHILE).is_err(), "our own");
    std::fs::write(folder.path().join("zz-theirs.conf"), "y").unwrap();
    assert_eq!(told.recv_timeout(SOON).unwrap().interest, Interest::File(folder.path().to_owned()));
}

#[test]
fn others_mounts_are_seen() {
    if !alone("others_mounts_are_seen") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_watcher, told) = watch(&Host::new("/run/none".into()), &[Interest::Mounts]);
    let at = folder.path().display();
    for script in
        [format!("mount -t tmpfs x {at}"), format!("mount -o remount,ro {at}"), format!("umount {at}")]
    {
        sh(&script);
        assert_eq!(told.recv_timeout(SOON).unwrap(), Event { interest: Interest::Mounts, writer: None });
        while told.recv_timeout(Duration::from_millis(50)).is_ok() {}
    }
}

#[test]
fn without_rights_the_writer_is_not_named_and_that_is_said() {
    if !alone("without_rights_the_writer_is_not_named_and_that_is_said") {
        return;
    }
    let host = Host::new("/run/none".into());
    // Only the watcher's thread and what comes after it lose their rights: this process does nothing else.
    nix::unistd::setresuid(65534.into(), 65534.into(), 0.into()).unwrap();
    let (watcher, told) = watch(&host, &[sysctl(TIME)]);
    let said = watcher.degraded();
    assert!(said.len() == 1 && said[0].contains("who writes cannot be told"), "{said:?}");
    nix::unistd::setresuid(0.into(), 0.into(), 0.into()).unwrap();
    sh("echo 11 > /proc/sys/net/ipv4/tcp_keepalive_time");
    assert_eq!(told.recv_timeout(SOON).unwrap(), Event { interest: sysctl(TIME), writer: None });
}

#[test]
fn where_there_are_no_watches_left_it_is_said_and_nothing_ends() {
    if !alone("where_there_are_no_watches_left_it_is_said_and_nothing_ends") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let limits = getrlimit(Resource::Nofile);
    let host = Host::new("/run/none".into());
    let (watcher, _told) = watch(&host, &[]);
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..limits }).unwrap();
    let interests = vec![sysctl(TIME), Interest::File(folder.path().join("a")), Interest::Mounts];
    watcher.set(interests);
    let said = watcher.degraded();
    setrlimit(Resource::Nofile, limits).unwrap();
    assert!(said.iter().any(|line| line.starts_with("files:")), "{said:?}");
    assert!(said.iter().any(|line| line.starts_with("mounts:")), "{said:?}");
}

#[test]
fn a_parameter_that_comes_later_and_interests_that_change_are_followed() {
    if !alone("a_parameter_that_comes_later_and_interests_that_change_are_followed") {
        return;
    }
    let host = Host::new("/run/none".into());
    let (watcher, told) = watch(&host, &[sysctl(TIME)]);
    watcher.set(vec![sysctl("net.ipv4.tcp_retries2")]);
    sh("echo 50 > /proc/sys/net/ipv4/tcp_keepalive_time; echo 9 > /proc/sys/net/ipv4/tcp_retries2");
    assert_eq!(told.recv_timeout(SOON).unwrap().interest, sysctl("net.ipv4.tcp_retries2"));
    while told.recv_timeout(Duration::from_millis(50)).is_ok() {}
    // A thousand specs later there are no more descriptors than after one.
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for round in 0..1000 {
        let name = if round % 2 == 0 { TIME } else { "net.ipv4.tcp_retries2" };
        let path = PathBuf::from(format!("/proc/self/fd-{}/x", round % 7));
        watcher.set(vec![sysctl(name), Interest::File(path), Interest::Mounts]);
    }
    assert!(descriptors() <= before + 6, "{} after {before}", descriptors());
    sh("echo 10 > /proc/sys/net/ipv4/tcp_retries2");
    assert_eq!(told.recv_timeout(SOON).unwrap().interest, sysctl("net.ipv4.tcp_retries2"));
}

#[test]
fn an_idle_watcher_takes_no_time() {
    if !alone("an_idle_watcher_takes_no_time") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let interests = [sysctl(TIME), Interest::File(folder.path().join("a")), Interest::Mounts];
    let (watcher, _told) = watch(&Host::new("/run/none".into()), &interests);
    sh(&format!(
        "mount -t tmpfs x {0}; umount {0}; echo 8 > /proc/sys/net/ipv4/tcp_keepalive_time",
        folder.path().display()
    ));
    let wakes = || {
        let switches = |task: &Path| {
            let status = std::fs::read_to_string(task.join("status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let me = std::fs::read_link("/proc/thread-self").unwrap();
        let others = tasks.filter(|task| task.file_name() != me.file_name());
        others.map(|task| switches(&task)).sum::<u64>()
    };
    let mut before = wakes();
    // Once the events above are dealt with, nothing moves for a whole second.
    assert!(
        comes_true(SOON, || {
            std::thread::sleep(Duration::from_secs(1));
            let after = wakes();
            std::mem::replace(&mut before, after) == after
        }),
        "its threads never come to rest"
    );
    drop(watcher);
    // The watchers below it end by themselves, a moment after they are told.
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(comes_true(SOON, || threads() <= 3), "{} threads, and the watcher is gone", threads());
}
