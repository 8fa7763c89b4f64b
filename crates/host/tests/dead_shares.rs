//! Shares whose server is dead, in the two ways there are, and comes back: nobody hangs, and there is one child a mount.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{alone, comes_true, sh, until};
use evenkeel_core::{Actuator, FolderQuestion, FolderSeen, Sensor, Step, SystemdVerb, chain};
use evenkeel_host::Host;
use evenkeel_host::program::{Program, ProgramError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_millis(700);
const AT_ONCE: Duration = Duration::from_millis(300);
const IN_TIME: Duration = Duration::from_secs(4);

fn start() -> (Host, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("deadfuse");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deadfuse.c");
    sh(&format!("cc -o {} {source}", program.display()));
    (Host::new(folder.path().join("run")), folder)
}

fn question(folder: &Path) -> FolderQuestion {
    FolderQuestion {
        folder: folder.to_owned(),
        sentinel: Some(".export-id".into()),
        write: false,
        within: WITHIN,
        lasts: None,
    }
}

fn look(host: &Host, folder: &Path) -> FolderSeen {
    host.folders(&[question(folder)]).pop().expect("one answer")
}

fn answers(seen: &FolderSeen) -> bool {
    matches!(seen, FolderSeen::Answers(inside) if inside.sentinel == Some(true) && inside.empty)
}

/// A share, until it is dropped.
struct Share {
    server: Child,
    target: PathBuf,
}

impl Share {
    fn mount(folder: &Path, name: &str, how: &[&str]) -> Self {
        let target = folder.join(name);
        std::fs::create_dir(&target).unwrap();
        let mut command = Command::new(folder.join("deadfuse"));
        let server = command.arg(&target).args(how).stdout(Stdio::null()).spawn().unwrap();
        let table = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = format!(" {} ", target.display());
        until("the share is mounted", || table().contains(&line));
        Self { server, target }
    }

    fn turn(&self, signal: &str) {
        sh(&format!("kill -{signal} {}", self.server.id()));
        // It turns at the next request or poll.
        std::thread::sleep(Duration::from_millis(60));
    }

    fn die(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Children of this process that are no servers, by their ids.
fn children() -> Vec<String> {
    let ours = std::process::id().to_string();
    let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent = |stat: &str| stat.rsplit_once(") ")?.1.split(' ').nth(1).map(str::to_owned);
    let server = |pid: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "deadfuse\n")
    };
    let names =
        std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let pids = names.filter(|pid| pid.parse::<u32>().is_ok() && !server(pid));
    pids.filter(|pid| stat(pid).and_then(|stat| parent(&stat)).as_ref() == Some(&ours)).collect()
}

fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    (what(), started.elapsed())
}

fn hangs(result: Result<impl std::fmt::Debug, String>) {
    let why = result.expect_err("it is dead");
    assert!(why.contains("it does not answer"), "{why}");
}

/// Dies in one of the ways and comes back, twice; in between it is looked at again and again.
fn comes_and_goes(how: &str) {
    let (host, folder) = start();
    let share = Share::mount(folder.path(), "share", &[how, "alive", ".export-id"]);
    let healthy = folder.path().to_owned();
    assert!(answers(&look(&host, &share.target)), "{:?}", look(&host, &share.target));
    for _ in 0..2 {
        share.turn("USR2");
        let (seen, took) = timed(|| host.folders(&[question(&healthy), question(&share.target)]));
        assert!(matches!(&seen[..], [FolderSeen::Answers(_), FolderSeen::Hung]), "{seen:?}");
        assert!(took < IN_TIME, "{took:?}");
        let first = children();
        assert_eq!(first.len(), 1, "the look waits");
        for _ in 0..50 {
            let (seen, took) = timed(|| look(&host, &share.target));
            assert_eq!(seen, FolderSeen::Hung);
            assert!(took < AT_ONCE, "{took:?}");
        }
        assert_eq!(children(), first, "it is the same child, and the only one");
        share.turn("USR1");
        until("the server that is back is noticed", || answers(&look(&host, &share.target)));
        assert_eq!(children(), [""; 0]);
    }
    share.turn("HUP");
    assert_eq!(look(&host, &share.target), FolderSeen::Stale);
}

#[test]
fn a_share_whose_waiters_can_be_killed_comes_and_goes() {
    if alone("a_share_whose_waiters_can_be_killed_comes_and_goes") {
        comes_and_goes("ignore");
    }
}

#[test]
fn a_share_whose_waiters_cannot_be_killed_comes_and_goes() {
    if alone("a_share_whose_waiters_cannot_be_killed_comes_and_goes") {
        comes_and_goes("swallow");
    }
}

#[test]
fn many_dead_shares_cost_one_deadline_together_and_then_nothing() {
    if !alone("many_dead_shares_cost_one_deadline_together_and_then_nothing") {
        return;
    }
    let (host, folder) = start();
    let shares: Vec<Share> =
        (0..100).map(|n| Share::mount(folder.path(), &n.to_string(), &["ignore"])).collect();
    let mut questions: Vec<FolderQuestion> = shares.iter().map(|share| question(&share.target)).collect();
    questions.push(question(folder.path()));
    let hung = |seen: &[FolderSeen]| seen.iter().filter(|one| **one == FolderSeen::Hung).count();
    let (seen, took) = timed(|| host.folders(&questions));
    assert_eq!(hung(&seen), 100);
    assert!(matches!(seen[100], FolderSeen::Answers(_)));
    assert!(took < WITHIN * 10, "their deadlines run together, not one after the other: {took:?}");
    let first = children();
    assert_eq!(first.len(), 100);
    let (seen, took) = timed(|| host.folders(&questions));
    assert_eq!((hung(&seen), children()), (100, first));
    assert!(took < WITHIN, "{took:?}");
    for share in &shares {
        share.turn("USR1");
    }
    until("all are noticed", || hung(&host.folders(&questions)) == 0 && children().is_empty());
}

#[test]
fn a_parked_look_ends_with_its_mount_and_keeps_nobody_from_unmounting() {
    if !alone("a_parked_look_ends_with_its_mount_and_keeps_nobody_from_unmounting") {
        return;
    }
    let (mut host, folder) = start();
    let one = Share::mount(folder.path(), "one", &["ignore"]);
    let two = Share::mount(folder.path(), "two", &["ignore"]);
    let seen = host.folders(&[question(&one.target), question(&two.target)]);
    assert_eq!((seen, children().len()), (vec![FolderSeen::Hung, FolderSeen::Hung], 2));
    // A child in it would make it busy. The kernel lets go of a dead share; it is umount(8) that asks its server first.
    let holds = |share: &Share| {
        let fds = |pid: String| std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
        let leads = |fd: std::io::Result<std::fs::DirEntry>| std::fs::read_link(fd.unwrap().path()).ok();
        children().into_iter().flat_map(fds).filter_map(leads).any(|path| path == share.target)
    };
    assert!(holds(&one) && holds(&two));
    let _ = host.perform(&Step::Systemd { verb: SystemdVerb::Stop, unit: unit(&one.target) });
    assert!(!holds(&one) && holds(&two), "only the one that is to be unmounted");
    // Somebody else takes the other away, with the only means that works while it is held.
    sh(&format!("umount -l {}", two.target.display()));
    until("nobody waits for what is gone", || {
        host.folders(&[]);
        children().is_empty()
    });
}

fn unit(target: &Path) -> String {
    let out = Command::new("systemd-escape").args(["--path", "--suffix=mount"]).arg(target).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn looks_end_with_the_agent() {
    if !alone("looks_end_with_the_agent") {
        return;
    }
    let (host, folder) = start();
    let share = Share::mount(folder.path(), "share", &["ignore"]);
    assert_eq!((look(&host, &share.target), children().len()), (FolderSeen::Hung, 1));
    let waiting = children()[0].clone();
    drop(host);
    let state = || std::fs::read_to_string(format!("/proc/{waiting}/stat")).unwrap_or_default();
    until("it is killed", || state().is_empty() || state().contains(") Z "));
}

#[test]
fn a_share_that_nothing_can_be_killed_off_holds_one_child_and_no_more() {
    if !alone("a_share_that_nothing_can_be_killed_off_holds_one_child_and_no_more") {
        return;
    }
    let (mut host, folder) = start();
    let mut dead = Share::mount(folder.path(), "dead", &["swallow"]);
    let target = dead.target.clone();
    let own = Step::Own { path: target.clone(), owner: None, group: None, mode: Some(0o755) };
    let (done, took) = timed(|| host.perform(&own));
    hangs(done.map_err(|fault| chain(&fault)));
    assert!(took < IN_TIME, "{took:?}");
    for _ in 0..20 {
        let ((seen, done), took) = timed(|| (look(&host, &target), host.perform(&own)));
        assert_eq!(seen, FolderSeen::Hung);
        hangs(done.map_err(|fault| chain(&fault)));
        assert!(took < AT_ONCE, "{took:?}");
    }
    assert_eq!(children().len(), 1, "and no more");
    // What does not go into the share does not hang: the table, the way there, the folder above, what lies below.
    let ((), took) = timed(|| {
        assert!(host.mounts().unwrap().iter().any(|entry| entry.target == target));
        assert_eq!(host.resolve(&target).unwrap(), Some(target.clone()));
        assert_eq!(host.covered(&target).unwrap().unwrap().entries, 0);
        assert!(matches!(look(&host, folder.path()), FolderSeen::Answers(_)));
        assert_eq!(host.holders(folder.path()).unwrap(), []);
        host.perform(&Step::MakeFolder { path: target.clone() }).unwrap();
    });
    assert!(took < AT_ONCE, "{took:?}");
    // What does is told at once that it hangs, wherever in the share it is.
    let below = target.join("sub/folder");
    let ((), took) = timed(|| {
        hangs(host.resolve(&below).map_err(|fault| chain(&fault)));
        hangs(host.perform(&Step::MakeFolder { path: below.clone() }).map_err(|fault| chain(&fault)));
        assert_eq!(look(&host, &below), FolderSeen::Hung);
    });
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(children().len(), 1);
    // Nobody has to wait for it to let go of a descriptor of ours.
    for pid in children() {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        assert!(open <= 4, "{open} descriptors in {pid}");
    }
    // A program that hangs there is left behind too.
    let stat = Program::new("stat").arg("--").arg(&target).run(Duration::from_millis(300), 1000);
    assert!(matches!(stat, Err(ProgramError::Deadline { stuck: Some(_), .. })), "{stat:?}");
    dead.die();
    until("a look is an answer again, and no child is left", || {
        let seen = look(&host, &target);
        let _ = Program::new("true").run(Duration::from_secs(5), 10);
        matches!(seen, FolderSeen::Trouble(_)) && children().is_empty()
    });
    assert!(comes_true(AT_ONCE, || host.perform(&Step::Unmount { target: target.clone() }).is_ok()));
}
