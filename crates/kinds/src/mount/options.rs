//! Whether an option that the spec names is in force.
//!
//! The kernel tells options in words of its own: it translates, fills in and leaves out. So only named options are
//! looked up, in one form, and what it does not tell of is told as unknown and never acted on.

use evenkeel_core::MountEntry;

/// How one named option stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stand {
    /// In force, or none of the kernel's business.
    Met,
    /// Another is in force.
    Off { observed: String, in_place: bool },
    /// The kernel does not tell.
    Unknown,
}

/// Options that only mount(8), systemd and the like read, and those that the kernel has long ignored.
fn userspace(key: &str) -> bool {
    const WORDS: &[&str] = &[
        "_netdev", "auto", "bg", "bind", "comment", "defaults", "fail", "fg", "group", "intr", "loop",
        "noauto", "nofail", "nogroup", "nointr", "noowner", "nouser", "owner", "retry", "user", "users",
    ];
    WORDS.contains(&key) || key.to_lowercase().starts_with("x-")
}

pub(super) fn stand(option: &str, entry: &MountEntry) -> Stand {
    let (key, value) = match option.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (option, None),
    };
    if userspace(key) {
        return Stand::Met;
    }
    match value {
        Some(value) => pair(alias(key), value, entry),
        None => word(key, entry),
    }
}

fn alias(key: &str) -> &str {
    if key == "nfsvers" { "vers" } else { key }
}

fn nfs(entry: &MountEntry) -> bool {
    entry.fstype.starts_with("nfs")
}

/// What a mount of NFS is where it says nothing: the kernel tells these words only where they are in force, and these
/// pairs only where they are others, `nfs_show_mount_options`.
const TOLD_WHERE_SET: [&str; 7] =
    ["noac", "noacl", "nocto", "nordirplus", "noresvport", "nosharecache", "softreval"];
const SILENT: [(&str, &str); 7] = [
    ("acregmin", "3"),
    ("acregmax", "60"),
    ("acdirmin", "30"),
    ("acdirmax", "60"),
    ("lookupcache", "all"),
    ("max_connect", "1"),
    ("nconnect", "1"),
];

/// Whether somebody who says `other` of the same mount contradicts what is wanted.
pub(super) fn contradicts(wanted: &[String], other: &str) -> bool {
    let split = |option: &str| {
        let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
        (alias(key).to_owned(), value.map(str::to_owned))
    };
    let (key, value) = split(other);
    let turned =
        |one: &str, two: &str| opposites(one).iter().any(|word| word == two) || (one == "ro" && two == "rw");
    !userspace(&key)
        && wanted.iter().any(|one| {
            let (wanted, asked) = split(one);
            let differs = match (&asked, &value) {
                (Some(asked), Some(value)) => {
                    let broad = |all: &str, part: &str| key == "vers" && part.starts_with(&format!("{all}."));
                    asked != value && !broad(asked, value) && !broad(value, asked)
                }
                _ => false,
            };
            (wanted == key && differs) || turned(one, other) || turned(other, one)
        })
}

fn has(entry: &MountEntry, word: &str) -> bool {
    entry.options.iter().chain(&entry.super_options).any(|one| one == word)
}

fn word(key: &str, entry: &MountEntry) -> Stand {
    let there = |word: &str| has(entry, word);
    let off = |observed: &str, in_place| Stand::Off { observed: observed.to_owned(), in_place };
    let unless = |word: &str| if there(word) { off(word, true) } else { Stand::Met };
    match key {
        "rw" => unless("ro"),
        "ro" if !there("ro") => off("rw", true),
        // What undoes another word is told only by that word's absence.
        "suid" | "dev" | "exec" | "atime" | "diratime" | "symfollow" => unless(&format!("no{key}")),
        "async" => unless("sync"),
        "strictatime" => match ["relatime", "noatime"].into_iter().find(|word| there(word)) {
            Some(word) => off(word, true),
            None => Stand::Met,
        },
        _ if there(key) => Stand::Met,
        "nosuid" | "nodev" | "noexec" | "noatime" | "nodiratime" | "relatime" | "nosymfollow" | "sync"
        | "dirsync" => off(&format!("no option {key}"), true),
        "tcp" | "udp" | "rdma" => pair("proto", key, entry),
        "lock" | "nolock" if nfs(entry) => lock(key, entry),
        _ if nfs(entry) && TOLD_WHERE_SET.contains(&key) => off(&format!("no option {key}"), false),
        _ if nfs(entry) && TOLD_WHERE_SET.contains(&format!("no{key}").as_str()) => {
            match format!("no{key}") {
                word if there(&word) => off(&word, false),
                _ => Stand::Met,
            }
        }
        _ => match opposites(key).into_iter().find(|word| there(word)) {
            Some(word) => off(&word, false),
            None => Stand::Unknown,
        },
    }
}

/// Version 4 has its locks in the protocol, and says `none` of local ones whatever was asked for.
fn lock(key: &str, entry: &MountEntry) -> Stand {
    let local = entry.super_options.iter().find_map(|one| one.strip_prefix("local_lock="));
    let four = entry.super_options.iter().any(|one| one.starts_with("vers=4"));
    match (key, local) {
        ("lock", Some("none")) | ("nolock", Some("all")) => Stand::Met,
        (_, Some(seen)) if !four => Stand::Off { observed: format!("local_lock={seen}"), in_place: false },
        _ => Stand::Unknown,
    }
}

fn opposites(key: &str) -> Vec<String> {
    let plain = match key {
        "hard" => vec!["soft", "softerr"],
        "soft" => vec!["hard", "softerr"],
        "softerr" => vec!["hard", "soft"],
        _ => vec![],
    };
    let no = key.strip_prefix("no").map_or_else(|| format!("no{key}"), str::to_owned);
    plain.into_iter().map(str::to_owned).chain([no]).collect()
}

fn pair(key: &str, value: &str, entry: &MountEntry) -> Stand {
    if key == "actimeo" {
        let all = ["acregmin", "acregmax", "acdirmin", "acdirmax"];
        return all
            .map(|key| pair(key, value, entry))
            .into_iter()
            .find(|one| *one != Stand::Met)
            .unwrap_or(Stand::Met);
    }
    if key == "minorversion" {
        return pair("vers", &format!("4.{value}"), entry);
    }
    let told = entry.super_options.iter().chain(&entry.options);
    let Some(seen) = told.rev().find_map(|one| one.split_once('=').filter(|(one, _)| *one == key)) else {
        if let Some((_, usual)) = SILENT.iter().find(|(one, _)| *one == key && nfs(entry)) {
            let off = || Stand::Off { observed: format!("{key}={usual}"), in_place: false };
            return if *usual == value { Stand::Met } else { off() };
        }
        let silent =
            (key == "mode" && octal(value) == Some(0o1777)) || (matches!(key, "uid" | "gid") && value == "0");
        return if silent && entry.fstype == "tmpfs" { Stand::Met } else { Stand::Unknown };
    };
    let seen = seen.1;
    let met = match key {
        "size" | "nr_inodes" | "nr_blocks" => match (amount(value), amount(seen)) {
            (Some(asked), Some(seen)) => asked == seen,
            // A share of the memory: what it comes to is the kernel's knowledge.
            _ => return Stand::Unknown,
        },
        // The server may grant less.
        "rsize" | "wsize" => {
            matches!((amount(value), amount(seen)), (Some(asked), Some(seen)) if seen <= asked)
        }
        "vers" => seen == value || seen.strip_prefix(value).is_some_and(|rest| rest.starts_with('.')),
        "proto" => seen.trim_end_matches('6') == value.trim_end_matches('6'),
        "sec" => value.split(':').any(|one| one == seen),
        "lookupcache" => value.starts_with(seen),
        "mode" => octal(value).is_some() && octal(value) == octal(seen),
        "uid" | "gid" if value.parse::<u32>().is_err() => return Stand::Unknown,
        _ => seen == value,
    };
    let in_place = entry.fstype == "tmpfs" && matches!(key, "size" | "nr_inodes" | "nr_blocks");
    if met { Stand::Met } else { Stand::Off { observed: format!("{key}={seen}"), in_place } }
}

fn octal(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 8).ok()
}

/// A number with the kernel's suffixes: `64m` is 67108864.
fn amount(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_shl(shift)
}

/// Options for a remount in place: what is in force on this mount, with what the spec names put over it. A remount
/// replaces every flag of a mount, so the flags that nobody named must be said again.
pub(super) fn remount(named: &[String], entry: &MountEntry, bind: bool) -> Vec<String> {
    // Flags only: what else the kernel tells of a mount, such as `idmapped`, mount(8) does not take.
    const FLAGS: &[&str] =
        &["ro", "rw", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "relatime", "nosymfollow"];
    let flag = |option: &&String| FLAGS.contains(&option.as_str());
    let mut options: Vec<String> = entry.options.iter().filter(flag).cloned().collect();
    for option in named.iter().filter(|option| !userspace(option.split('=').next().unwrap_or(option))) {
        match stand(option, entry) {
            Stand::Off { in_place: true, .. } => {}
            _ => continue,
        }
        let key = option.split('=').next().unwrap_or(option).to_owned();
        let times = ["relatime", "noatime", "strictatime", "atime"];
        options.retain(|held| {
            let other = opposites(&key).contains(held)
                || (held == "ro" && key == "rw")
                || (held == "rw" && key == "ro");
            let time = times.contains(&key.as_str()) && times.contains(&held.as_str());
            !(other || time)
        });
        options.push(option.clone());
    }
    if bind {
        options.insert(0, "bind".to_owned());
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fstype: &str, options: &str, more: &str) -> MountEntry {
        let words = |text: &str| text.split(',').map(str::to_owned).collect();
        MountEntry {
            id: 1,
            parent: 0,
            device: (0, 1),
            root: "/".into(),
            target: "/x".into(),
            options: words(options),
            fstype: fstype.into(),
            source: "x".into(),
            super_options: words(more),
        }
    }

    /// What a real kernel told of a real NFS mount, and of a tmpfs.
    fn nfs() -> MountEntry {
        let more = "rw,vers=4.2,rsize=131072,wsize=131072,namlen=255,hard,proto=tcp,timeo=600,retrans=2,sec=sys,\
                    acregmin=5,acregmax=5,acdirmin=5,acdirmax=5,local_lock=none,addr=10.9.0.2";
        entry("nfs4", "rw,relatime", more)
    }

    #[test]
    fn what_the_kernel_translates_is_met() {
        for option in [
            "rw",
            "hard",
            "vers=4.2",
            "nfsvers=4.2",
            "vers=4",
            "rsize=1048576",
            "tcp",
            "actimeo=5",
            "_netdev",
            "nofail",
            "x-systemd.automount",
            "retry=5",
            "intr",
            "nointr",
            "bg",
            "minorversion=2",
            "proto=tcp6",
            "sec=krb5:sys",
            "ac",
            "cto",
            "sharecache",
            "lock",
            "nconnect=1",
            "lookupcache=all",
            "local_lock=none",
            "suid",
            "defaults",
            "relatime",
        ] {
            assert_eq!(stand(option, &nfs()), Stand::Met, "{option}");
        }
        let tmpfs = entry("tmpfs", "rw,nosuid,relatime", "rw,size=65536k,nr_inodes=1024,mode=755");
        for option in ["size=64m", "size=67108864", "nr_inodes=1k", "mode=0755", "nosuid", "gid=0"] {
            assert_eq!(stand(option, &tmpfs), Stand::Met, "{option}");
        }
    }

    #[test]
    fn what_differs_is_off_and_whether_a_remount_helps_is_known() {
        for (option, observed, in_place) in [
            ("ro", "rw", true),
            ("soft", "hard", false),
            ("vers=4.1", "vers=4.2", false),
            ("timeo=50", "timeo=600", false),
            ("rsize=4096", "rsize=131072", false),
            ("noatime", "no option noatime", true),
            ("strictatime", "relatime", true),
            ("udp", "proto=tcp", false),
            ("softerr", "hard", false),
            ("noac", "no option noac", false),
            ("noresvport", "no option noresvport", false),
            ("nosharecache", "no option nosharecache", false),
            ("nconnect=4", "nconnect=1", false),
            ("actimeo=7", "acregmin=5", false),
            ("lookupcache=none", "lookupcache=all", false),
            ("sec=krb5p", "sec=sys", false),
            ("minorversion=1", "vers=4.2", false),
            ("local_lock=flock", "local_lock=none", false),
        ] {
            assert_eq!(stand(option, &nfs()), Stand::Off { observed: observed.into(), in_place }, "{option}");
        }
        let tmpfs = entry("tmpfs", "rw,noexec", "rw,size=65536k");
        assert_eq!(stand("size=1g", &tmpfs), Stand::Off { observed: "size=65536k".into(), in_place: true });
        assert_eq!(stand("exec", &tmpfs), Stand::Off { observed: "noexec".into(), in_place: true });
    }

    #[test]
    fn locks_are_told_by_version_3_in_its_own_words() {
        let old = entry("nfs", "rw", "rw,vers=3,hard,local_lock=all");
        assert_eq!(stand("nolock", &old), Stand::Met);
        assert_eq!(stand("lock", &old), Stand::Off { observed: "local_lock=all".into(), in_place: false });
        assert_eq!(stand("nolock", &nfs()), Stand::Unknown, "version 4 does not know the word");
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_unknown() {
        for option in ["discard", "size=50%", "errors=remount-ro"] {
            assert_eq!(stand(option, &entry("tmpfs", "rw", "rw,size=1k")), Stand::Unknown, "{option}");
        }
    }

    #[test]
    fn a_read_only_superblock_is_seen_below_a_writable_mount() {
        assert_eq!(stand("ro", &entry("ext4", "rw", "ro")), Stand::Met);
        assert_eq!(
            stand("rw", &entry("ext4", "rw", "ro")),
            Stand::Off { observed: "ro".into(), in_place: true }
        );
    }

    #[test]
    fn a_remount_keeps_the_flags_that_nobody_named() {
        let entry = entry("tmpfs", "rw,nosuid,relatime,idmapped", "rw,size=1024k");
        let named = ["ro", "size=2m", "noatime", "nofail"].map(str::to_owned);
        assert_eq!(remount(&named, &entry, false), ["nosuid", "ro", "size=2m", "noatime"]);
        assert_eq!(remount(&["rw".into()], &entry, true), ["bind", "rw", "nosuid", "relatime"]);
    }
}
