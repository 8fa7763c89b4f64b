//! Real mounts in a mount namespace of the test's own, and shares whose server is dead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{alone, comes_true, sh, until};
use evenkeel_core::{Actuator, FolderQuestion, FolderSeen, Inside, MountEntry, Sensor, Step, chain};
use evenkeel_host::Host;
use evenkeel_host::program::{Program, ProgramError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn start() -> (Host, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Host::new(folder.path().join("run")), folder)
}

/// One look into one folder.
fn inside(host: &Host, folder: &Path, sentinel: Option<&str>) -> Result<Inside, String> {
    let (folder, sentinel) = (folder.to_owned(), sentinel.map(str::to_owned));
    let question = FolderQuestion { folder, sentinel, write: false, within: Duration::from_secs(2) };
    match host.folders(&[question]).pop().expect("one answer") {
        FolderSeen::Answers(inside) => Ok(inside),
        FolderSeen::Hung => Err("it does not answer".into()),
        FolderSeen::Stale => Err("stale".into()),
        FolderSeen::Trouble(why) => Err(why),
    }
}

fn mount(host: &mut Host, fstype: &str, source: &str, target: &Path, options: &[&str]) {
    let options = options.iter().map(|&option| option.to_owned()).collect();
    let (source, target, fstype) = (source.to_owned(), target.to_owned(), fstype.to_owned());
    host.perform(&Step::Mount { source, target, fstype, options }).unwrap();
}

fn at(host: &Host, target: &Path) -> Option<MountEntry> {
    host.mounts().unwrap().into_iter().rev().find(|entry| entry.target == target)
}

fn has(options: &[String], option: &str) -> bool {
    options.iter().any(|has| has == option)
}

#[test]
fn a_tmpfs_is_made_room_for_mounted_seen_changed_and_unmounted() {
    if !alone("a_tmpfs_is_made_room_for_mounted_seen_changed_and_unmounted") {
        return;
    }
    let (mut host, folder) = start();
    // Names that a parser or an option list could stumble over.
    let target = folder.path().join("a/-b c\n\\040é");
    host.perform(&Step::MakeFolder { path: target.clone() }).unwrap();
    host.perform(&Step::MakeFolder { path: target.clone() }).unwrap();
    assert_eq!(at(&host, &target), None);
    mount(&mut host, "tmpfs", "-source, 1", &target, &["size=1m", "nosuid", "mode=0750"]);
    let entry = at(&host, &target).expect("it is mounted");
    assert_eq!((&*entry.fstype, &*entry.source), ("tmpfs", "-source, 1"));
    assert!(has(&entry.options, "nosuid") && has(&entry.super_options, "size=1024k"), "{entry:?}");

    let seen = inside(&host, &target, Some(".here")).unwrap();
    let wanted = (Some("root".to_owned()), 0o750, Some(false));
    assert_eq!((seen.owner, seen.mode, seen.sentinel), wanted);
    std::fs::write(target.join(".here"), "").unwrap();
    assert_eq!(inside(&host, &target, Some(".here")).unwrap().sentinel, Some(true));
    let own =
        Step::Own { path: target.clone(), owner: Some("nobody".into()), group: None, mode: Some(0o2775) };
    host.perform(&own).unwrap();
    let seen = inside(&host, &target, None).unwrap();
    assert_eq!((seen.owner.as_deref(), seen.mode, seen.sentinel), (Some("nobody"), 0o2775, None));
    let own = Step::Own { path: target.clone(), owner: Some("no-such-user".into()), group: None, mode: None };
    assert!(chain(&host.perform(&own).unwrap_err()).contains("no user `no-such-user`"));

    host.perform(&Step::Remount { target: target.clone(), options: vec!["size=2m".into()] }).unwrap();
    let entry = at(&host, &target).unwrap();
    assert!(has(&entry.super_options, "size=2048k") && has(&entry.options, "nosuid"), "{entry:?}");
    host.perform(&Step::Unmount { target: target.clone() }).unwrap();
    assert_eq!(at(&host, &target), None);
    let fault = host.perform(&Step::Unmount { target }).unwrap_err();
    assert!(chain(&fault).contains("not mounted"), "{}", chain(&fault));
}

#[test]
fn a_busy_mount_stays() {
    if !alone("a_busy_mount_stays") {
        return;
    }
    let (mut host, folder) = start();
    mount(&mut host, "tmpfs", "x", folder.path(), &[]);
    let _open = std::fs::File::create(folder.path().join("open")).unwrap();
    let fault = host.perform(&Step::Unmount { target: folder.path().to_owned() }).unwrap_err();
    assert!(chain(&fault).contains("busy"), "{}", chain(&fault));
    assert!(at(&host, folder.path()).is_some());
}

#[test]
fn changing_a_bind_mount_leaves_what_it_shows_alone() {
    if !alone("changing_a_bind_mount_leaves_what_it_shows_alone") {
        return;
    }
    let (mut host, folder) = start();
    let (all, part) = (folder.path().join("all"), folder.path().join("part"));
    for path in [&all, &part] {
        host.perform(&Step::MakeFolder { path: path.clone() }).unwrap();
    }
    mount(&mut host, "tmpfs", "x", &all, &[]);
    host.perform(&Step::MakeFolder { path: all.join("sub") }).unwrap();
    mount(&mut host, "bind", all.join("sub").to_str().unwrap(), &part, &["nosuid"]);
    let entry = at(&host, &part).unwrap();
    assert_eq!((&*entry.root, &*entry.fstype), (Path::new("/sub"), "tmpfs"));
    assert!(has(&entry.options, "nosuid"), "{entry:?}");
    host.perform(&Step::Remount { target: part.clone(), options: vec!["ro".into()] }).unwrap();
    let entry = at(&host, &part).unwrap();
    assert!(has(&entry.options, "ro") && has(&entry.options, "nosuid"), "{entry:?}");
    let entry = at(&host, &all).unwrap();
    assert!(has(&entry.options, "rw") && has(&entry.super_options, "rw"), "{entry:?}");
}

#[test]
fn an_image_is_mounted_and_the_file_behind_it_is_told() {
    if !alone("an_image_is_mounted_and_the_file_behind_it_is_told") {
        return;
    }
    let (mut host, folder) = start();
    let (image, target) = (folder.path().join("disk image"), folder.path().join("mnt"));
    sh(&format!("truncate -s 4M '{0}'; mkfs.ext4 -q '{0}'; mkdir '{1}'", image.display(), target.display()));
    mount(&mut host, "ext4", image.to_str().unwrap(), &target, &["loop", "ro"]);
    let entry = at(&host, &target).unwrap();
    assert_eq!(host.backing(&entry.source), Some(image));
    assert_eq!(host.backing("/dev/loop/../sda"), None);
    assert_eq!(inside(&host, &target, Some("lost+found")).unwrap().sentinel, Some(true));
    host.perform(&Step::Unmount { target }).unwrap();
}

#[test]
fn symlinks_are_resolved_for_a_look_and_not_trusted_for_a_change() {
    let (mut host, folder) = start();
    let real = folder.path().join("prod/eden");
    host.perform(&Step::MakeFolder { path: real.clone() }).unwrap();
    std::os::unix::fs::symlink("prod", folder.path().join("web2py")).unwrap();
    std::fs::write(real.join("file"), "").unwrap();
    let by_link = folder.path().join("web2py/eden");
    assert_eq!(host.resolve(&by_link).unwrap(), Some(real.clone()));
    assert_eq!(host.resolve(&by_link.join("file")).unwrap(), Some(real.join("file")));
    assert_eq!(host.resolve(&by_link.join("none")).unwrap(), None);
    assert_eq!(host.resolve(&by_link.join("file/none")).unwrap(), None);
    let own = Step::Own { path: by_link.clone(), owner: None, group: None, mode: Some(0o700) };
    host.perform(&own).expect("root's own symlink in root's own folder");

    // The same link in a folder that is somebody else's leads wherever he likes.
    sh(&format!("chown nobody {}", folder.path().display()));
    inside(&host, &by_link, None).expect("a look changes nothing");
    let fault = host.perform(&own).unwrap_err();
    assert!(chain(&fault).contains("somebody else may move"), "{}", chain(&fault));
    let fault = host.perform(&Step::MakeFolder { path: by_link.join("new") }).unwrap_err();
    assert!(chain(&fault).contains("somebody else may move"), "{}", chain(&fault));
    assert!(!real.join("new").exists());
}

/// A share whose server is dead, until it is dropped.
struct Dead {
    server: Child,
    target: PathBuf,
}

impl Dead {
    fn mount(folder: &Path, how: &str) -> Self {
        let program = folder.join("deadfuse");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/deadfuse.c");
        sh(&format!("cc -o {} {source}", program.display()));
        let target = folder.join(how);
        std::fs::create_dir(&target).unwrap();
        let server = Command::new(&program).arg(&target).arg(how).stdout(Stdio::null()).spawn().unwrap();
        let table = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        until("the share is mounted", || table().contains(target.to_str().unwrap()));
        Self { server, target }
    }

    fn children(&self) -> Vec<String> {
        let ours = std::process::id().to_string();
        let stat = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        let parent = |stat: &str| stat.rsplit_once(") ")?.1.split(' ').nth(1).map(str::to_owned);
        let pids = std::fs::read_dir("/proc")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let pids = pids.filter(|pid| pid.parse::<u32>().is_ok() && *pid != self.server.id().to_string());
        pids.filter(|pid| stat(pid).and_then(|stat| parent(&stat)).as_ref() == Some(&ours)).collect()
    }

    fn die(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    (what(), started.elapsed())
}

const AT_ONCE: Duration = Duration::from_millis(300);
const IN_TIME: Duration = Duration::from_secs(4);

fn hangs(result: Result<impl std::fmt::Debug, String>) {
    let why = result.expect_err("it is dead");
    assert!(why.contains("it does not answer"), "{why}");
}

#[test]
fn a_share_that_can_be_killed_off_hangs_nobody() {
    if !alone("a_share_that_can_be_killed_off_hangs_nobody") {
        return;
    }
    let (host, folder) = start();
    let dead = Dead::mount(folder.path(), "ignore");
    let (look, took) = timed(|| inside(&host, &dead.target, Some(".here")));
    hangs(look);
    assert!(took < IN_TIME, "{took:?}");
    until("the child is gone", || dead.children().is_empty());
}

#[test]
fn a_share_that_nothing_can_be_killed_off_holds_one_child_and_no_more() {
    if !alone("a_share_that_nothing_can_be_killed_off_holds_one_child_and_no_more") {
        return;
    }
    let (mut host, folder) = start();
    let mut dead = Dead::mount(folder.path(), "swallow");
    let target = dead.target.clone();
    let (look, took) = timed(|| inside(&host, &target, None));
    hangs(look);
    assert!(took < IN_TIME, "{took:?}");
    assert_eq!(dead.children().len(), 1, "one child hangs");
    for _ in 0..20 {
        let (look, took) = timed(|| inside(&host, &target, None));
        hangs(look);
        assert!(took < AT_ONCE, "{took:?}");
        let (own, took) = timed(|| {
            host.perform(&Step::Own { path: target.clone(), owner: None, group: None, mode: Some(0o755) })
        });
        hangs(own.map_err(|fault| chain(&fault)));
        assert!(took < AT_ONCE, "{took:?}");
    }
    assert_eq!(dead.children().len(), 1, "and no more");
    // What does not go into the share does not hang: the table, the way there, the folder above, a folder beside.
    let ((), took) = timed(|| {
        assert!(at(&host, &target).is_some());
        assert_eq!(host.resolve(&target).unwrap(), Some(target.clone()));
        host.list(folder.path()).unwrap();
        inside(&host, folder.path(), None).unwrap();
        host.perform(&Step::MakeFolder { path: target.clone() }).unwrap();
    });
    assert!(took < AT_ONCE, "{took:?}");
    // What does, is a case of its own for each folder.
    let below = target.join("sub/folder");
    let (resolve, took) = timed(|| host.resolve(&below));
    hangs(resolve.map_err(|fault| chain(&fault)));
    assert!(took < IN_TIME, "{took:?}");
    hangs(host.perform(&Step::MakeFolder { path: below.clone() }).map_err(|fault| chain(&fault)));
    hangs(inside(&host, &below, None));
    assert_eq!(dead.children().len(), 2);
    // Nobody has to wait for them to let go of a descriptor of ours.
    for pid in dead.children() {
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        assert!(open <= 4, "{open} descriptors in {pid}");
    }
    // A program that hangs there is left behind too.
    let stat = Program::new("stat").arg("--").arg(&target).run(Duration::from_millis(300), 1000);
    assert!(matches!(stat, Err(ProgramError::Deadline { stuck: Some(_), .. })), "{stat:?}");
    // The server comes back, which here means: it ends, and everybody gets an error.
    dead.die();
    until("a look is an answer again, and no child is left", || {
        let answer = inside(&host, &target, None).unwrap_err();
        let _ = host.resolve(&below);
        let _ = Program::new("true").run(Duration::from_secs(5), 10);
        !answer.contains("it does not answer") && dead.children().is_empty()
    });
    assert!(comes_true(AT_ONCE, || host.perform(&Step::Unmount { target: target.clone() }).is_ok()));
}
