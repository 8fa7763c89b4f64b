//! Where a spec may write a file, and where it may not: what runs as root, what lets somebody in, what another kind keeps.
//!
//! It is a list of what is known to be dangerous, and not of what is known to be harmless: a program that is configured to
//! run others can still be told so by its own file. Whoever reviews a spec reads that file.

use std::path::{Component, Path};

/// A complaint: what is wrong, and what to do.
pub(super) type No = (String, &'static str);

/// Folders and files, with all below them.
const BELOW: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/tmp",
    "/usr",
    "/var/run",
    "/var/tmp",
    "/var/spool/at",
    "/var/spool/cron",
    "/var/lib/dpkg",
    "/var/lib/evenkeel",
    "/var/lib/initramfs-tools",
    "/var/lib/misc",
    "/var/lib/pam",
    "/var/lib/postgresql",
    "/var/lib/rpm",
    "/var/lib/sudo",
    "/var/lib/systemd",
    "/var/lib/ucf",
    "/var/lib/dhcp",
    "/var/lib/polkit-1",
    "/var/lib/apt",
    "/var/lib/AccountsService",
];
/// What lies directly in `/etc`, each with all below it; a `*` at the end stands for anything.
const ETC: &[&str] = &[
    "NetworkManager",
    "X11",
    "acpi",
    "alternatives",
    "anacrontab",
    "apm",
    "apparmor*",
    "apt",
    "at.allow",
    "at.deny",
    "audit",
    "bash*",
    "binfmt.d",
    "ca-certificates*",
    "chkconfig.d",
    "containerd",
    "cron*",
    "crypttab",
    "csh*",
    "dbus-1",
    "debconf.conf",
    "default",
    "dhcp",
    "dhcpcd*",
    "dkms",
    "docker",
    "doas.conf",
    "dpkg",
    "dracut*",
    "environment*",
    "evenkeel",
    "exports*",
    "fish",
    "fstab",
    "grub*",
    "group*",
    "gshadow*",
    "gss",
    "hosts.equiv",
    "inetd.conf",
    "init*",
    "inittab",
    "inputrc",
    "kernel*",
    "krb5*",
    "ld.so*",
    "ldap*",
    "libnss*",
    "login*",
    "logrotate*",
    "lvm",
    "mke2fs.conf",
    "modprobe*",
    "modules*",
    "monit",
    "mtab",
    "needrestart",
    "netconfig",
    "network",
    "networkd-dispatcher",
    "nslcd*",
    "nsswitch.conf",
    "opasswd",
    "pam*",
    "passwd*",
    "pki",
    "pm",
    "polkit*",
    "ppp",
    "profile*",
    "rc*",
    "resolvconf",
    "rpc",
    "securetty",
    "security",
    "selinux",
    "shadow*",
    "shells",
    "skel",
    "ssh",
    "sssd",
    "subgid*",
    "subuid*",
    "sudo*",
    "supervisor*",
    "sysconfig",
    "sysctl*",
    "sysstat",
    "systemd",
    "sysusers.d",
    "tmpfiles.d",
    "udev",
    "ucf.conf",
    "udisks2",
    "update-motd.d",
    "update-notifier",
    "wpa_supplicant",
    "xdg",
    "xinetd*",
    "yum*",
    "zsh*",
    "ufw",
    "nftables.conf",
    "iptables*",
    "postgresql-common",
];
/// Names that let somebody in, or are run, wherever they lie.
const NAMES: &[&str] = &[
    ".ssh",
    ".gnupg",
    ".profile",
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".bash_aliases",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".zlogout",
    ".cshrc",
    ".tcshrc",
    ".login",
    ".logout",
    ".forward",
    ".procmailrc",
    ".rhosts",
    ".shosts",
    ".k5login",
    ".pam_environment",
    ".xinitrc",
    ".xsession",
    ".xprofile",
    ".vimrc",
    ".gitconfig",
    ".git",
    "authorized_keys",
    "authorized_keys2",
    "crontab",
    ".kshrc",
    ".inputrc",
    ".psqlrc",
    ".gdbinit",
];

/// Whether an item may have this name.
pub(super) fn check(name: &str) -> Result<(), No> {
    let path = Path::new(name);
    let plain = |part: Component| matches!(part, Component::RootDir | Component::Normal(_));
    let same = || path.components().collect::<std::path::PathBuf>().as_os_str() == path.as_os_str();
    if !path.is_absolute() || path.file_name().is_none() || !path.components().all(plain) || !same() {
        return Err((
            "this is no path of a file".into(),
            "write it from the root on: `/home/prod/uwsgi.ini`",
        ));
    }
    if name.len() > 4000 || name.chars().any(char::is_control) || path.iter().any(|part| part.len() > 200) {
        return Err(("this is no name for a file".into(), "shorter, and without control characters"));
    }
    if name.ends_with(".evenkeel-new") {
        return Err(("a file that is being written is called so".into(), "take another name"));
    }
    refused(path).map_or(Ok(()), |what| Err((what, "no spec may write there")))
}

/// Why nothing may be written at a path; it has no symlinks in it, or is not followed yet.
pub(super) fn refused(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.iter().skip(1).map(|part| part.to_str().unwrap_or("\u{fffd}")).collect();
    if let Some(part) = parts.iter().find(|part| NAMES.contains(part)) {
        return Some(format!("`{part}` lets somebody in, or is run"));
    }
    if parts.windows(2).any(|pair| pair == [".config", "systemd"] || pair == [".config", "autostart"]) {
        return Some("what lies there is run".to_owned());
    }
    if let Some(above) = BELOW.iter().find(|above| path.starts_with(above)) {
        return Some(format!("{above} is the system's own, or evenkeel's, or everybody's"));
    }
    match parts.as_slice() {
        [_] => Some("the root folder is the system's own".to_owned()),
        ["etc", rest @ ..] => in_etc(rest),
        _ => None,
    }
}

fn in_etc(parts: &[&str]) -> Option<String> {
    let first = parts.first()?;
    match (*first, parts.last().copied().unwrap_or_default()) {
        ("postgresql-common", "pg_service.conf") => {
            return Some("kind `pg_service` keeps that file: say its sections there".to_owned());
        }
        ("postgresql", "pg_hba.conf" | "pg_ident.conf") => return None,
        ("postgresql", _) => {
            let why = "kind `postgresql` keeps parameters, some of which name programs: say them there";
            return Some(why.to_owned());
        }
        _ => {}
    }
    let fits = |known: &&&str| match known.strip_suffix('*') {
        Some(stem) => first.starts_with(stem),
        None => first == *known,
    };
    let known = ETC.iter().find(fits)?;
    Some(format!("/etc/{known} runs as root, lets somebody in, or belongs to the system"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_programs_may_be_kept() {
        for name in [
            "/home/prod/uwsgi.ini",
            "/etc/nginx/nginx.conf",
            "/etc/uwsgi/apps-enabled/eden.ini",
            "/etc/apache2/ports.conf",
            "/etc/memcached.conf",
            "/srv/x",
            "/opt/a/b",
            "/var/www/index.html",
            "/etc/hosts",
            "/etc/motd",
            "/etc/old.conf",
            "/etc/postgresql/13/main/pg_hba.conf",
            "/home/prod/.pg_service.conf",
            "/etc/chrony/chrony.conf",
            "/home/prod/models/000_config.py",
            "/etc/rsyncd.conf",
            "/var/lib/eden/x",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_runs_as_root_or_lets_somebody_in_is_refused() {
        for name in [
            "/etc/passwd",
            "/etc/passwd-",
            "/etc/shadow",
            "/etc/group",
            "/etc/gshadow",
            "/etc/sudoers",
            "/etc/sudoers.d/x",
            "/etc/ld.so.preload",
            "/etc/ld.so.conf.d/x",
            "/etc/profile",
            "/etc/profile.d/x.sh",
            "/etc/bash.bashrc",
            "/etc/crontab",
            "/etc/cron.d/x",
            "/etc/anacrontab",
            "/etc/pam.d/sshd",
            "/etc/security/limits.conf",
            "/etc/ssh/sshd_config",
            "/etc/init.d/x",
            "/etc/rc.local",
            "/etc/systemd/system/x.service",
            "/etc/udev/rules.d/x",
            "/etc/modprobe.d/x",
            "/etc/modules-load.d/x",
            "/etc/modules",
            "/etc/sysctl.d/99-evenkeel.conf",
            "/etc/sysctl.conf",
            "/etc/fstab",
            "/etc/inittab",
            "/etc/apt/apt.conf.d/x",
            "/etc/dpkg/dpkg.cfg",
            "/etc/NetworkManager/dispatcher.d/x",
            "/etc/network/if-up.d/x",
            "/etc/logrotate.d/x",
            "/etc/default/grub",
            "/usr/bin/x",
            "/bin/sh",
            "/sbin/x",
            "/lib/x",
            "/lib64/x",
            "/boot/x",
            "/dev/sda",
            "/proc/sys/x",
            "/sys/x",
            "/run/x",
            "/root/x",
            "/var/lib/evenkeel/x",
            "/var/lib/systemd/x",
            "/var/lib/dpkg/x",
            "/var/spool/cron/x",
            "/home/prod/.ssh/authorized_keys",
            "/home/prod/.bashrc",
            "/home/prod/.config/systemd/user/x",
            "/tmp/x",
            "/etc/postgresql/13/main/conf.d/99-evenkeel.conf",
            "/etc/postgresql/13/main/postgresql.conf",
            "/etc/postgresql-common/pg_service.conf",
            "/etc/evenkeel/agent.yaml",
            "/etc/exports",
            "/vmlinuz",
            "/etc",
            "relative",
            "",
            "/",
            "/a/",
            "/a//b",
            "/a/../etc/passwd",
            "/a/./b",
            "/a/x.evenkeel-new",
            "/srv/a\nb",
        ] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
