//! Real mounts in a mount namespace of the test's own: made, changed, looked into and looked below.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{alone, sh};
use evenkeel_core::{
    Actuator, Covered, FolderQuestion, FolderSeen, Inside, MountEntry, Sensor, Step, WriteTrouble, chain,
};
use evenkeel_host::Host;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

fn start() -> (Host, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Host::new(folder.path().join("run")), folder)
}

/// One look into one folder.
fn inside(host: &Host, folder: &Path, sentinel: Option<&str>) -> Result<Inside, String> {
    let (folder, sentinel) = (folder.to_owned(), sentinel.map(str::to_owned));
    let question =
        FolderQuestion { folder, sentinel, write: false, within: Duration::from_secs(2), lasts: None };
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

/// A folder with some files in it, and a tmpfs over it.
fn covered_folder(host: &mut Host, folder: &Path, files: &[&str]) -> std::path::PathBuf {
    let target = folder.join("up loads");
    std::fs::create_dir(&target).unwrap();
    for name in files {
        std::fs::write(target.join(name), name).unwrap();
    }
    mount(host, "tmpfs", "x", &target, &["size=1m"]);
    target
}

#[test]
fn what_a_mount_covers_is_counted_and_named_without_touching_the_mount() {
    if !alone("what_a_mount_covers_is_counted_and_named_without_touching_the_mount") {
        return;
    }
    let (mut host, folder) = start();
    let target = covered_folder(&mut host, folder.path(), &["d", "b", "a", "c"]);
    std::fs::write(target.join("in the share"), "").unwrap();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let seen = host.covered(&target).unwrap().unwrap();
    assert_eq!((seen.entries, seen.names), (4, vec!["a".into(), "b".into(), "c".into()]));
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), table);
    host.perform(&Step::Unmount { target: target.clone() }).unwrap();
    assert_eq!(host.covered(&target).unwrap().unwrap().entries, 4, "and without a mount it is the same");
    assert_eq!(host.covered(&target.join("none")).unwrap(), None);
    assert_eq!(host.covered(&target.join("a/none")).unwrap(), None);
}

#[test]
fn a_guarded_mount_point_takes_no_files_and_hinders_no_mount() {
    if !alone("a_guarded_mount_point_takes_no_files_and_hinders_no_mount") {
        return;
    }
    let (mut host, folder) = start();
    let target = covered_folder(&mut host, folder.path(), &[]);
    if host.covered(&target).unwrap().unwrap().immutable.is_none() {
        eprintln!("left out: the filesystem of temporary folders has no such flag");
        return;
    }
    host.perform(&Step::SetImmutable { path: target.clone(), on: true }).unwrap();
    let empty = Covered { immutable: Some(true), ..Covered::default() };
    assert_eq!(host.covered(&target).unwrap(), Some(empty), "below the mount");
    std::fs::write(target.join("in the share"), "").unwrap();
    host.perform(&Step::Unmount { target: target.clone() }).unwrap();
    assert!(std::fs::write(target.join("lost"), "").is_err(), "nothing gets lost in the folder");
    mount(&mut host, "tmpfs", "x", &target, &[]);
    host.perform(&Step::SetImmutable { path: target.clone(), on: false }).unwrap();
    host.perform(&Step::SetImmutable { path: target.clone(), on: false }).unwrap();
    host.perform(&Step::Unmount { target: target.clone() }).unwrap();
    std::fs::write(target.join("again"), "").unwrap();
}

#[test]
fn what_lies_below_is_copied_into_an_empty_share_with_an_owner() {
    if !alone("what_lies_below_is_copied_into_an_empty_share_with_an_owner") {
        return;
    }
    let (mut host, folder) = start();
    let target = covered_folder(&mut host, folder.path(), &["-icon 1.png", "-icon 2.png", "b.png"]);
    host.perform(&Step::Unmount { target: target.clone() }).unwrap();
    let shipped = "cd \"$0\"; touch -d @1000000000 ./-*; mkdir -p -m 0750 sub/empty sub/deep; echo x > sub/deep/x; ln -s b.png link";
    sh(&shipped.replace("$0", &target.display().to_string()));
    mount(&mut host, "tmpfs", "x", &target, &["size=1m"]);
    std::fs::write(target.join(".export-id"), "").unwrap();
    assert!(inside(&host, &target, Some(".export-id")).unwrap().empty, "but for its sentinel");
    // A copy that was cut short before: the folder counts as empty, what is whole is kept, and the rest is made anew.
    let cut = "cd \"$0\"; mkdir .evenkeel-seed; cd .evenkeel-seed; touch b.png
        printf 'kept so far' > ./-2; touch -d @1000000000 ./-2; mv ./-2 './-icon 2.png'";
    sh(&cut.replace("$0", &target.display().to_string()));
    assert!(inside(&host, &target, Some(".export-id")).unwrap().empty);
    let (sentinel, owner) = (Some(".export-id".to_owned()), Some("nobody".to_owned()));
    host.perform(&Step::Seed { path: target.clone(), sentinel, owner, group: None }).unwrap();
    assert_eq!(std::fs::read_to_string(target.join("-icon 1.png")).unwrap(), "-icon 1.png");
    assert_eq!(std::fs::read_to_string(target.join("b.png")).unwrap(), "b.png");
    let listed = sh(&format!("cd '{}' && stat -c '%U %n' -- * .e*", target.display()));
    let nobodys =
        ["-icon 1.png", "-icon 2.png", "b.png", "link", "sub"].map(|name| format!("nobody {name}\n"));
    assert_eq!(listed, nobodys.concat() + "root .export-id\n");
    assert_eq!(std::fs::read_to_string(target.join("-icon 2.png")).unwrap(), "kept so far");
    let deep =
        sh(&format!("cd '{}' && stat -c '%U %a %n' sub sub/* sub/deep/x && readlink link", target.display()));
    assert_eq!(
        deep,
        "nobody 755 sub\nnobody 750 sub/deep\nnobody 750 sub/empty\nnobody 644 sub/deep/x\nb.png\n"
    );
    assert!(!inside(&host, &target, Some(".export-id")).unwrap().empty);
}

#[test]
fn who_holds_a_mount_is_told_by_name() {
    if !alone("who_holds_a_mount_is_told_by_name") {
        return;
    }
    let (mut host, folder) = start();
    let target = covered_folder(&mut host, folder.path(), &[]);
    assert_eq!(host.holders(&target).unwrap(), []);
    let stay = |script: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", script]).current_dir(&target).stdin(std::process::Stdio::piped()).spawn().unwrap()
    };
    let mut folder_of = stay("read line");
    let mut file_of = stay("exec 3>held; cd /; read line");
    let told = || {
        let holders = host.holders(&target).unwrap();
        holders.into_iter().map(|holder| (holder.pid, holder.comm)).collect::<Vec<_>>()
    };
    let mut wanted = vec![(folder_of.id(), "sh".to_owned()), (file_of.id(), "sh".to_owned())];
    wanted.sort();
    common::until("both are told", || told() == wanted && target.join("held").exists());
    for child in [&mut folder_of, &mut file_of] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(told(), []);
}

#[test]
fn a_write_is_tried_where_it_is_asked_for_and_leaves_nothing() {
    if !alone("a_write_is_tried_where_it_is_asked_for_and_leaves_nothing") {
        return;
    }
    let (mut host, folder) = start();
    let target = covered_folder(&mut host, folder.path(), &[]);
    let question = |write| FolderQuestion {
        folder: target.clone(),
        sentinel: None,
        write,
        within: Duration::from_secs(2),
        lasts: None,
    };
    let tried = |host: &Host, write| match host.folders(&[question(write)]).pop() {
        Some(FolderSeen::Answers(inside)) => inside.write,
        other => panic!("{other:?}"),
    };
    assert_eq!(tried(&host, false), None);
    assert_eq!(tried(&host, true), Some(Ok(())));
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    host.perform(&Step::Remount { target: target.clone(), options: vec!["ro".into()] }).unwrap();
    assert_eq!(tried(&host, true), Some(Err(WriteTrouble::ReadOnly)));
}

#[test]
fn a_folder_is_given_a_group() {
    if !alone("a_folder_is_given_a_group") {
        return;
    }
    let (mut host, folder) = start();
    let path = folder.path().to_owned();
    let own =
        |group: &str| Step::Own { path: path.clone(), owner: None, group: Some(group.into()), mode: None };
    host.perform(&own("daemon")).unwrap();
    let seen = inside(&host, &path, None).unwrap();
    assert_eq!((seen.gid, seen.group.as_deref(), seen.uid), (1, Some("daemon"), 0));
    let fault = host.perform(&own("no-such-group")).unwrap_err();
    assert!(chain(&fault).contains("no group `no-such-group`"), "{}", chain(&fault));
}
