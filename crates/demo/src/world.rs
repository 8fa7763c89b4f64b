//! One node's world: namespaces of its own, and private copies of every folder that an agent may write to.
//!
//! Runs in the keeper, before it has any thread. Nothing here changes the machine: every mount is made in a mount
//! namespace of the keeper's own, every write goes to a tmpfs that dies with it.

use crate::trouble::{Doing, Result, Trouble};
use crate::words::{Plan, Ready};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a node finds what the demo gives it.
pub(crate) const HERE: &str = "/run/demo";

/// Folders that are empty on a node, whatever the machine keeps in them.
const EMPTY: [&str; 7] = ["/var", "/srv", "/home", "/mnt", "/media", "/tmp", "/dev/shm"];

/// Leave the machine's namespaces and build the node.
pub(crate) fn enter(plan: &Plan) -> Result<Ready> {
    let rootless = leave()?;
    let mut notes = Vec::new();
    mount_flags("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    tmpfs(&plan.scratch)?;
    private_etc(&plan.scratch, rootless)?;
    own_files(plan, rootless)?;
    hand_over(plan)?;
    empty_folders(&mut notes)?;
    if let Err(trouble) = guard_sysctls() {
        notes.push(format!("the machine's own sysctls could not be made read-only ({})", trouble.line()));
        if !rootless {
            return Err(Trouble::told(format!(
                "{}: not going on, the machine could be changed",
                notes.join("")
            )));
        }
    }
    nix::unistd::sethostname(&plan.name).doing(|| "name the node".into())?;
    loopback_up()?;
    std::env::set_current_dir("/").doing(|| "go to /".into())?;
    Ok(Ready { rootless, notes })
}

/// New network, mount, IPC and host name namespaces; and a user namespace where it takes one. Whether it took one.
fn leave() -> Result<bool> {
    let own = CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    if unshare(own).is_ok() {
        return Ok(false);
    }
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(own | CloneFlags::CLONE_NEWUSER).doing(|| {
        "make namespaces: run this as root, or allow user namespaces to ordinary users \
         (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)"
            .into()
    })?;
    for (file, text) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text).doing(|| format!("write /proc/self/{file}"))?;
    }
    Ok(true)
}

/// `/etc` of the node. As root an overlay over the machine's own; a user of one user namespace may not write into
/// folders of anybody else even there, and gets a copy of what can be read.
fn private_etc(scratch: &Path, rootless: bool) -> Result<()> {
    let (upper, work) = (scratch.join("etc"), scratch.join("etc-work"));
    make(&upper)?;
    make(&work)?;
    if !rootless {
        let options = format!("lowerdir=/etc,upperdir={},workdir={}", upper.display(), work.display());
        let laid = mount(Some("overlay"), "/etc", Some("overlay"), MsFlags::empty(), Some(options.as_str()));
        if laid.is_ok() {
            return Ok(());
        }
    }
    copy_tree(Path::new("/etc"), &upper);
    bind(&upper, Path::new("/etc"))
}

/// What can be read of `from`, in `to`. What cannot is left out.
fn copy_tree(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else { return };
    for entry in entries.flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        match entry.file_type() {
            Ok(kind) if kind.is_symlink() => {
                let _ = fs::read_link(&source).and_then(|link| symlink(link, &target));
            }
            Ok(kind) if kind.is_dir() && fs::create_dir(&target).is_ok() => copy_tree(&source, &target),
            Ok(kind) if kind.is_file() => {
                let _ = fs::copy(&source, &target);
            }
            _ => {}
        }
    }
}

/// What the machine may have of evenkeel's and PostgreSQL's is not this node's; the spec's users are.
fn own_files(plan: &Plan, rootless: bool) -> Result<()> {
    for folder in ["/etc/postgresql", "/etc/evenkeel"] {
        if Path::new(folder).exists() {
            fs::remove_dir_all(folder).doing(|| format!("clear the node's {folder}"))?;
        }
        make(Path::new(folder))?;
    }
    make(Path::new("/etc/sysctl.d"))?;
    let _ = fs::remove_file("/etc/sysctl.d/99-evenkeel.conf");
    if !rootless {
        for user in &plan.users {
            add_user(user)?;
        }
    }
    Ok(())
}

/// A system user and a group of the same name, where there is none.
fn add_user(name: &str) -> Result<()> {
    let passwd = fs::read_to_string("/etc/passwd").doing(|| "read /etc/passwd".into())?;
    if passwd.lines().any(|line| line.split(':').next() == Some(name)) {
        return Ok(());
    }
    let taken = |id: u32| passwd.lines().any(|line| line.split(':').nth(2) == Some(&id.to_string()));
    let id = (900..1000).rev().find(|&id| !taken(id)).unwrap_or(899);
    let add = |file: &str, line: String| -> Result<()> {
        let mut text = fs::read_to_string(file).doing(|| format!("read {file}"))?;
        text.push_str(&line);
        fs::write(file, text).doing(|| format!("write the node's {file}"))
    };
    add("/etc/passwd", format!("{name}:x:{id}:{id}::/nonexistent:/usr/sbin/nologin\n"))?;
    add("/etc/group", format!("{name}:x:{id}:\n"))
}

/// `/run` of the node, with the binary, the repository, the logs and the way to the hub in [`HERE`].
fn hand_over(plan: &Plan) -> Result<()> {
    let run = plan.scratch.join("run");
    let here = run.join("demo");
    for folder in ["lock", "evenkeel", "demo/eden", "demo/log"] {
        make(&run.join(folder))?;
    }
    let binary = std::env::current_exe().doing(|| "find this binary".into())?;
    for (from, to) in [(&binary, "evenkeel"), (&plan.hub_socket, "hub.sock")] {
        fs::write(here.join(to), "").doing(|| format!("make {to}"))?;
        bind(from, &here.join(to))?;
    }
    bind(&plan.repository, &here.join("eden"))?;
    bind(&plan.logs, &here.join("log"))?;
    bind(&run, Path::new("/run"))
}

fn empty_folders(notes: &mut Vec<String>) -> Result<()> {
    for folder in EMPTY.map(Path::new) {
        match fs::symlink_metadata(folder) {
            Ok(data) if data.is_dir() => tmpfs(folder)?,
            Ok(_) => {
                notes.push(format!("{} is no folder of its own here, and was left out", folder.display()));
            }
            Err(_) => {}
        }
    }
    for folder in ["/var/lib/evenkeel", "/var/log", "/var/cache", "/var/tmp"] {
        make(Path::new(folder))?;
    }
    for folder in ["/tmp", "/var/tmp", "/dev/shm"] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o1777)).doing(|| format!("open {folder}"))?;
    }
    symlink("/run", "/var/run").doing(|| "make /var/run".into())?;
    symlink("/run/lock", "/var/lock").doing(|| "make /var/lock".into())
}

/// `/proc/sys` read-only but for `net`, which belongs to the node's own network namespace.
fn guard_sysctls() -> Result<()> {
    let (all, net) = (Path::new("/proc/sys"), Path::new("/proc/sys/net"));
    bind(all, all)?;
    bind(net, net)?;
    let kept = rustix::fs::statvfs(all).doing(|| "look at /proc/sys".into())?.f_flag;
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    // What the mount has already must be said again: a user namespace may not take it away.
    for (has, flag) in [
        (rustix::fs::StatVfsMountFlags::NOSUID, MsFlags::MS_NOSUID),
        (rustix::fs::StatVfsMountFlags::NODEV, MsFlags::MS_NODEV),
        (rustix::fs::StatVfsMountFlags::NOEXEC, MsFlags::MS_NOEXEC),
        (rustix::fs::StatVfsMountFlags::RELATIME, MsFlags::MS_RELATIME),
    ] {
        flags.set(flag, kept.contains(has));
    }
    if let Err(trouble) = mount_flags("/proc/sys", flags) {
        let _ = umount2(net, MntFlags::empty());
        let _ = umount2(all, MntFlags::empty());
        return Err(trouble);
    }
    Ok(())
}

fn loopback_up() -> Result<()> {
    let ip = Command::new("ip").args(["link", "set", "lo", "up"]).env("PATH", crate::child::PATH).status();
    match ip.doing(|| "run ip (package iproute2)".into())? {
        status if status.success() => Ok(()),
        status => Err(Trouble::told(format!("ip link set lo up: {status}"))),
    }
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).doing(|| format!("make the folder {}", folder.display()))
}

fn tmpfs(on: &Path) -> Result<()> {
    let made =
        mount(Some("tmpfs"), on, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755"));
    made.doing(|| format!("mount a tmpfs on {}", on.display()))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let made = mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>);
    made.doing(|| format!("bind {} to {}", from.display(), to.display()))
}

fn mount_flags(on: &str, flags: MsFlags) -> Result<()> {
    let made = mount(None::<&str>, on, None::<&str>, flags, None::<&str>);
    made.doing(|| format!("set the mount flags of {on}"))
}

/// A folder for one demo, gone at its end.
pub(crate) fn fresh_folder() -> Result<PathBuf> {
    let base = std::env::temp_dir();
    let made = nix::unistd::mkdtemp(&base.join("evenkeel-demo-XXXXXX"));
    made.doing(|| format!("make a folder in {}", base.display()))
}
