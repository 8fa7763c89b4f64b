//! Whole files on a real filesystem: torn by nobody, led astray by nobody, waited for by nobody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{alone, sh, until};
use evenkeel_core::{Actuator, Sensor, Step, chain};
use evenkeel_host::{Host, files};
use rustix::fs::{RenameFlags, XattrFlags};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tempfile::tempdir;

const NOBODY: u32 = 65534;

fn all_names(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

/// Ends the other threads when this one ends, however it does.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A text that tells whether it is whole: one letter, many times.
fn text(round: usize) -> Vec<u8> {
    let letter = b'a' + u8::try_from(round % 26).unwrap();
    vec![letter; 3000 + usize::from(letter) * 100]
}

fn is_whole(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes == text(usize::from(bytes[0] - b'a'))
}

#[test]
fn a_reader_meets_the_old_file_or_the_new_one() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.conf");
    files::replace(&path, &text(0), 0o644).unwrap();
    let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _at_the_end = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert!(is_whole(&std::fs::read(&path).unwrap()));
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        for round in 0..500 {
            files::replace(&path, &text(round), 0o644).unwrap();
        }
        until("it was read often", || seen.load(Ordering::Relaxed) > 500);
    });
    assert_eq!(all_names(folder.path()), ["a.conf"]);
}

#[test]
fn killed_at_any_moment_the_old_file_or_the_new_one_is_there() {
    if let Some(path) = std::env::var_os("EVENKEEL_TEST_WRITE") {
        for round in 0.. {
            files::replace(Path::new(&path), &text(round), 0o644).unwrap();
        }
    }
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.conf");
    files::replace(&path, &text(0), 0o644).unwrap();
    let (mut leftovers, mut versions) = (0, std::collections::BTreeSet::new());
    // On a machine with much else to do it takes more rounds until one is killed in the middle.
    for round in 0..5000 {
        if round >= 200 && leftovers > 0 && versions.len() > 3 {
            break;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "killed_at_any_moment_the_old_file_or_the_new_one_is_there"]);
        let output = std::process::Stdio::null();
        let mut child = command.env("EVENKEEL_TEST_WRITE", &path).stdout(output).spawn().unwrap();
        let before = std::fs::metadata(&path).unwrap().ino();
        until("it writes", || std::fs::metadata(&path).unwrap().ino() != before);
        let (pause, started) = (Duration::from_micros(round * 13 % 2000), Instant::now());
        while started.elapsed() < pause {}
        child.kill().unwrap();
        child.wait().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert!(is_whole(&bytes), "torn after {pause:?}");
        versions.insert(bytes[0]);
        assert_eq!(files::list(folder.path()).unwrap(), ["a.conf"], "what is left over is nobody's file");
        let names = all_names(folder.path());
        assert!(names.len() <= 2, "{names:?}");
        leftovers += names.len() - 1;
    }
    assert!(
        leftovers > 0 && versions.len() > 3,
        "it was never killed in the middle: {leftovers}, {versions:?}"
    );
    files::replace(&path, b"the next run", 0o644).unwrap();
    assert_eq!(all_names(folder.path()), ["a.conf"], "the next run clears up");
}

#[test]
fn an_owner_who_swaps_the_folder_for_a_symlink_gets_nothing_written_elsewhere() {
    let folder = tempdir().unwrap();
    let (home, outside) = (folder.path().join("main"), folder.path().join("outside"));
    let (conf, link) = (home.join("conf.d"), home.join("link"));
    for path in [&home, &outside, &conf] {
        std::fs::create_dir(path).unwrap();
    }
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    symlink(&outside, &link).unwrap();
    for path in [&home, &conf] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    std::os::unix::fs::lchown(&link, Some(NOBODY), Some(NOBODY)).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut done, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        let _at_the_end = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let cwd = rustix::fs::CWD;
                rustix::fs::renameat_with(cwd, &conf, cwd, &link, RenameFlags::EXCHANGE).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        let path = conf.join("99-evenkeel.conf");
        let mut round = 0_u32;
        while round < 4000 || done < 100 || refused < 100 || swaps.load(Ordering::Relaxed) < 4000 {
            round += 1;
            match files::replace(&path, round.to_string().as_bytes(), 0o644) {
                Ok(()) => done += 1,
                Err(error) => {
                    let why = error.to_string();
                    let expected = why.contains("somebody else may move") || why.contains("os error 2");
                    assert!(expected, "{why}");
                    refused += 1;
                }
            }
            if round.is_multiple_of(10) {
                let _ = files::remove(&path);
                let _ = files::make_folder(&conf.join("new"), 0o755);
            }
            assert!(all_names(&outside).is_empty(), "{:?}", all_names(&outside));
        }
    });
}

#[test]
fn an_old_file_keeps_its_owner_its_rights_and_what_is_noted_on_it() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.conf");
    std::fs::write(&path, "old").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    chown(&path, Some(NOBODY), Some(7)).unwrap();
    rustix::fs::setxattr(&path, "user.note", b"kept", XattrFlags::empty()).unwrap();
    // A capability would be power given to bytes that nobody gave it to.
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    rustix::fs::setxattr(&path, "security.capability", capability, XattrFlags::empty()).unwrap();
    files::replace(&path, b"new", 0o600).unwrap();
    let seen = std::fs::metadata(&path).unwrap();
    assert_eq!((seen.uid(), seen.gid(), seen.mode() & 0o7777), (NOBODY, 7, 0o640));
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(&path, "user.note", &mut value).unwrap();
    assert_eq!(&value[..length], b"kept");
    assert!(rustix::fs::getxattr(&path, "security.capability", &mut value).is_err());
}

#[test]
fn a_new_file_and_new_folders_have_the_rights_that_were_said_whatever_the_umask() {
    if !alone("a_new_file_and_new_folders_have_the_rights_that_were_said_whatever_the_umask") {
        return;
    }
    let folder = tempdir().unwrap();
    let path = folder.path().join("new/sub/a.conf");
    for umask in [0o077, 0o000] {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(umask));
        files::replace(&path, b"x", 0o644).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o644, 0o755));
        std::fs::remove_dir_all(folder.path().join("new")).unwrap();
    }
}

#[test]
fn the_same_bytes_are_not_written_again() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.conf");
    let state = || (std::fs::metadata(&path).unwrap().ino(), std::fs::metadata(&path).unwrap().ctime_nsec());
    files::replace(&path, b"same", 0o644).unwrap();
    let before = state();
    files::replace(&path, b"same", 0o600).unwrap();
    assert_eq!(state(), before);
    files::replace(&path, b"eman", 0o600).unwrap();
    assert_ne!(state(), before);
}

#[test]
fn nothing_waits_for_a_fifo_and_nothing_but_a_file_is_replaced_or_read() {
    let folder = tempdir().unwrap();
    let at = folder.path().to_str().unwrap().to_owned();
    sh(&format!("mkfifo {at}/fifo; mknod {at}/device c 1 5; mkdir {at}/folder; ln -s fifo {at}/to-fifo"));
    let mut host = Host::new("/run/none".into());
    let started = Instant::now();
    for name in ["fifo", "device", "folder"] {
        let path = folder.path().join(name);
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        host.perform(&Step::WriteFile { path: path.clone(), text: "x".into(), mode: 0o644 }).unwrap_err();
        host.read(&path).unwrap_err();
        assert_eq!(std::fs::symlink_metadata(&path).unwrap().file_type(), kind);
    }
    let fault = chain(&host.read(&folder.path().join("to-fifo")).unwrap_err());
    assert!(fault.contains("it is no regular file but a FIFO"), "{fault}");
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(std::fs::metadata(folder.path().join("fifo")).unwrap().file_type().is_fifo());
    assert_eq!(host.read(&folder.path().join("none")).unwrap(), None);
    assert_eq!(host.read(&folder.path().join("device/none")).unwrap(), None);
    assert_eq!(host.list(&folder.path().join("none")).unwrap(), None);
}

#[test]
fn a_symlink_in_the_place_of_a_file_is_replaced_and_what_it_led_to_stays() {
    let folder = tempdir().unwrap();
    let (target, link) = (folder.path().join("shadow"), folder.path().join("99.conf"));
    std::fs::write(&target, "secret").unwrap();
    symlink(&target, &link).unwrap();
    let mut host = Host::new("/run/none".into());
    assert_eq!(host.read(&link).unwrap().as_deref(), Some("secret"), "reading follows it");
    host.perform(&Step::WriteFile { path: link.clone(), text: "ours".into(), mode: 0o644 }).unwrap();
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "secret");
    assert!(std::fs::symlink_metadata(&link).unwrap().is_file());
    std::fs::remove_file(&link).unwrap();
    symlink(&target, &link).unwrap();
    host.perform(&Step::RemoveFile { path: link.clone() }).unwrap();
    host.perform(&Step::RemoveFile { path: link }).unwrap();
    host.perform(&Step::RemoveFile { path: folder.path().join("no/such/file") }).unwrap();
    assert_eq!(all_names(folder.path()), ["shadow"]);
}

#[test]
fn a_full_disk_leaves_the_old_file_and_nothing_else() {
    if !alone("a_full_disk_leaves_the_old_file_and_nothing_else") {
        return;
    }
    let folder = tempdir().unwrap();
    sh(&format!("mount -t tmpfs -o size=64k tmpfs {}", folder.path().display()));
    let path = folder.path().join("a.conf");
    files::replace(&path, b"old", 0o644).unwrap();
    let error = files::replace(&path, &vec![b'x'; 100_000], 0o644).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(all_names(folder.path()), ["a.conf"]);
}

#[test]
fn what_is_too_long_is_not_read() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("long");
    std::fs::write(&path, vec![b'x'; (1 << 20) + 1]).unwrap();
    let fault = Host::new("/run/none".into()).read(&path).unwrap_err();
    assert!(chain(&fault).contains("longer than 1048576 bytes"), "{}", chain(&fault));
    assert_eq!(files::read(&path, 2 << 20).unwrap().map(|bytes| bytes.len()), Some((1 << 20) + 1));
}

#[test]
fn a_tree_is_read_with_its_links_as_links_and_its_giants_unread() {
    use files::TreeEntry;
    let folder = tempdir().unwrap();
    let at = folder.path().to_str().unwrap().to_owned();
    sh(&format!(
        "cd {at}; mkdir -p tiers/deep .git; echo a > tiers/db.yaml; echo b > tiers/deep/x.yaml; echo c > .git/c.yaml
         ln -s /etc/passwd tiers/link.yaml; ln -s /etc links; mkfifo fifo.yaml; truncate -s 3000 big.yaml; echo n > no.txt"
    ));
    let wanted = |path: &str| path.contains(".yaml");
    let tree = files::read_tree(folder.path(), &wanted, 2000).unwrap();
    let expected = [
        ("big.yaml", TreeEntry::TooBig(3000)),
        ("fifo.yaml", TreeEntry::Other("FIFO".into())),
        ("tiers/db.yaml", TreeEntry::File(b"a\n".to_vec())),
        ("tiers/deep/x.yaml", TreeEntry::File(b"b\n".to_vec())),
        ("tiers/link.yaml", TreeEntry::Link("/etc/passwd".into())),
    ];
    assert_eq!(tree, expected.map(|(path, entry)| (path.to_owned(), entry)));
    for name in 0..10_001 {
        std::fs::write(folder.path().join(format!("{name}.yaml")), "").unwrap();
    }
    let error = files::read_tree(folder.path(), &wanted, 2000).unwrap_err();
    assert!(error.to_string().contains("more than 10000 files"), "{error}");
}

#[test]
fn what_is_owed_is_owed_to_the_next_process_too() {
    let folder = tempdir().unwrap();
    let debt = "postgresql/13/main reload".to_owned();
    Host::new(folder.path().to_owned()).perform(&Step::Owe { debt: debt.clone() }).unwrap();
    let mut next = Host::new(folder.path().to_owned());
    assert!(next.owes(&debt));
    next.perform(&Step::Settle { debt: debt.clone() }).unwrap();
    assert!(!Host::new(folder.path().to_owned()).owes(&debt));
    let owed: PathBuf = folder.path().join("owed");
    assert_eq!(std::fs::metadata(owed).unwrap().mode() & 0o7777, 0o700);
}
