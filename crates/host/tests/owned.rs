//! Files with their owners on a real filesystem: never seen with another one's rights, never through a symlink.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use evenkeel_core::{Actuator as _, Secret, Sensor as _, Step};
use evenkeel_host::Host;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

struct Rig {
    host: Host,
    folder: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::new(folder.path().join("run")).keeping(folder.path().join("state"));
        fs::create_dir(folder.path().join("at")).unwrap();
        Self { host, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("at").join(name)
    }

    fn put(&mut self, path: &Path, text: &str, owner: Option<&str>, mode: Option<u32>) -> Result<(), String> {
        let (text, group) = (Secret::new(text), owner.map(|_| "nogroup".to_owned()));
        let step =
            Step::PutFile { path: path.to_owned(), text, owner: owner.map(str::to_owned), group, mode };
        self.host.perform(&step).map_err(|fault| evenkeel_core::chain(&fault))
    }
}

fn bits(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_file_is_put_with_its_owner_and_seen_so() {
    let mut rig = Rig::new();
    let path = rig.path("a");
    rig.put(&path, "no line's end", Some("nobody"), Some(0o640)).unwrap();
    let seen = rig.host.file(&path).unwrap().unwrap();
    assert_eq!(
        (seen.text.reveal(), seen.owner.as_str(), seen.group.as_str(), seen.mode),
        ("no line's end", "nobody", "nogroup", 0o640)
    );
    // What is not said stays; what is the same is not written again.
    let inode = fs::metadata(&path).unwrap().ino();
    rig.put(&path, "no line's end", Some("nobody"), Some(0o640)).unwrap();
    rig.put(&path, "no line's end", None, None).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    rig.put(&path, "other", None, None).unwrap();
    let seen = rig.host.file(&path).unwrap().unwrap();
    assert_eq!((seen.owner.as_str(), seen.mode), ("nobody", 0o640));
    rig.put(&path, "other", None, Some(0o600)).unwrap();
    assert_eq!(bits(&path), 0o600);
    assert_eq!(rig.host.file(&rig.path("none")).unwrap(), None);
    assert_eq!(rig.host.file(&rig.path("none/none")).unwrap(), None);
    assert!(rig.host.file(rig.path("a").parent().unwrap()).is_err(), "a folder is no file");
}

#[test]
fn a_secret_is_never_readable_by_others_for_a_moment() {
    let mut rig = Rig::new();
    let path = rig.path("key");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let (at, stop) = (path.parent().unwrap().to_owned(), AtomicBool::new(false));
    let seen = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut loose = vec![];
            while !stop.load(Ordering::Relaxed) {
                for entry in fs::read_dir(&at).unwrap().flatten() {
                    let text = fs::read_to_string(entry.path()).unwrap_or_default();
                    let open = entry.metadata().is_ok_and(|data| data.mode() & 0o007 != 0);
                    // Looked at twice: between the two it may have been exchanged.
                    if open
                        && text.contains("canary")
                        && fs::metadata(entry.path()).is_ok_and(|data| data.mode() & 0o007 != 0)
                    {
                        loose.push(entry.path());
                    }
                }
            }
            loose
        });
        for n in 0..200 {
            rig.put(&path, &format!("canary {n}"), Some("nobody"), Some(0o600)).unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert_eq!(seen, Vec::<PathBuf>::new());
}

#[test]
fn nothing_is_written_through_a_symlink_and_no_folder_is_made() {
    let mut rig = Rig::new();
    let (victim, link) = (rig.path("victim"), rig.path("link"));
    fs::write(&victim, "theirs").unwrap();
    symlink(&victim, &link).unwrap();
    symlink("/nowhere", rig.path("dangling")).unwrap();
    for name in ["link", "dangling"] {
        let told = rig.put(&rig.path(name), "x", None, None).unwrap_err();
        assert!(told.contains("symlink"), "{told}");
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
    assert!(rig.host.file(&link).is_err());
    let told = rig.put(&rig.path("none/x"), "x", None, None).unwrap_err();
    assert!(told.contains("its folder is not there") && !rig.path("none").exists(), "{told}");
    // Somebody else's symlink on the way is not walked.
    fs::create_dir(rig.path("open")).unwrap();
    fs::set_permissions(rig.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    symlink(victim.parent().unwrap(), rig.path("open/way")).unwrap();
    std::os::unix::fs::lchown(rig.path("open/way"), Some(65534), Some(65534)).unwrap();
    assert!(rig.put(&rig.path("open/way/x"), "x", None, None).is_err());
    assert!(!rig.path("x").exists());
    let told = rig.put(&rig.path("y"), "x", Some("nobody-of-that-name"), None).unwrap_err();
    assert!(told.contains("there is no user") && !rig.path("y").exists(), "{told}");
}

#[test]
fn the_first_copy_is_kept_for_good_and_is_roots_alone() {
    let mut rig = Rig::new();
    let path = rig.path("a b");
    let keep = Step::KeepBefore { path: path.clone() };
    rig.host.perform(&keep).unwrap();
    let copies = rig.folder.path().join("state/before");
    assert!(!copies.exists(), "there was nothing to keep");
    for text in ["first", "second"] {
        fs::write(&path, text).unwrap();
        rig.host.perform(&keep).unwrap();
    }
    let copy = fs::read_dir(&copies).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_to_string(&copy).unwrap(), "first");
    assert_eq!((bits(&copy), bits(&copies)), (0o600, 0o700));
    assert!(Host::new("/run/none".into()).perform(&keep).is_err(), "nobody has said where");
}

#[test]
fn debts_are_listed_by_how_they_begin() {
    let mut rig = Rig::new();
    for debt in ["reload b.service", "reload a@x.service", "systemd daemon-reload"] {
        rig.host.perform(&Step::Owe { debt: debt.into() }).unwrap();
    }
    assert_eq!(rig.host.debts("reload "), ["reload a@x.service", "reload b.service"]);
    rig.host.perform(&Step::Settle { debt: "reload b.service".into() }).unwrap();
    assert_eq!(rig.host.debts("reload "), ["reload a@x.service"]);
}
