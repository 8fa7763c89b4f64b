//! What a spec can say of a mount, and what it may not.
//!
//! A type that has a helper program of its own name (`mount.fuse`, `mount.anything`) would let a spec choose a program
//! to run as root; so types are a list, and options that name helpers are refused.

use super::wishes::{Automount, Below, Disruptive, Guarded, Health};
use super::{lints, unit};
use crate::places;
use evenkeel_core::{Complaint, DurationWord};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is wanted of one mount; its name is the mount point.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// What is mounted: `host:/export`, a device, `UUID=…`, a folder to bind, an image file.
    pub source: String,
    /// The filesystem's type; `bind` shows a folder at a second place.
    #[serde(rename = "type")]
    pub fstype: String,
    /// Options to enforce. Those that are not named are left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// A file that only the right source holds, at its top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<String>,
    /// The user who owns the mounted folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The group that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The mounted folder's permission bits, as "0750".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Bits>,
    /// The same as `permissions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Bits>,
    /// How it must answer. Network filesystems are looked at without it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// How long mounting and unmounting may take; 30 s for network filesystems where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<DurationWord>,
    /// Whether it is mounted at the first touch only: true, or {idle: 10m} to unmount it after a time without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automount: Option<Automount>,
    /// When it may be unmounted and mounted anew, where nothing less helps: never, `when_idle`, or a window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruptive: Option<Disruptive>,
    /// What becomes of it over files that lie in its folder: report, wait or ignore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<Below>,
    /// Whether what lies in its folder is copied into it once, while it is empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seed: bool,
    /// What keeps its folder from being written to while nothing is mounted: immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<Guarded>,
}

/// Permission bits, said as an octal text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits(u32);

impl Bits {
    /// As a number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Serialize for Bits {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:04o}", self.0))
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Bits;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("permission bits as a quoted text, such as \"0750\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bits, E> {
                let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
                let bits = u32::from_str_radix(text, 8).ok().filter(|_| octal);
                bits.map(Bits).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(Text)
    }
}

impl JsonSchema for Bits {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PermissionBits".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-7]{3,4}$", "description": "Permission bits, as \"0750\"."})
    }
}

/// What a source is, which decides what is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A folder to show at a second place.
    Folder(PathBuf),
    /// A file that holds a filesystem.
    Image(PathBuf),
    /// A block device, or a link to one.
    Device(PathBuf),
    /// Something elsewhere, compared as text.
    Remote(String),
    /// Only a name.
    Free,
}

const TYPES: &[&str] = &[
    "9p", "bind", "btrfs", "ceph", "cifs", "exfat", "ext2", "ext3", "ext4", "f2fs", "iso9660", "nfs", "nfs4",
    "ramfs", "squashfs", "tmpfs", "vfat", "virtiofs", "xfs",
];
const NETWORK: &[&str] = &["ceph", "cifs", "nfs", "nfs4"];
impl Want {
    pub(super) fn source(&self) -> Source {
        const TAGS: [(&str, &str); 4] = [
            ("UUID=", "by-uuid"),
            ("LABEL=", "by-label"),
            ("PARTUUID=", "by-partuuid"),
            ("PARTLABEL=", "by-partlabel"),
        ];
        let tag = TAGS.iter().find_map(|(tag, folder)| Some((folder, self.source.strip_prefix(tag)?)));
        match self.fstype.as_str() {
            "bind" => Source::Folder(PathBuf::from(&self.source)),
            "tmpfs" | "ramfs" => Source::Free,
            "9p" | "ceph" | "cifs" | "nfs" | "nfs4" | "virtiofs" => Source::Remote(self.source.clone()),
            _ => match tag {
                Some((folder, id)) => Source::Device(Path::new("/dev/disk").join(folder).join(id)),
                None if self.source.starts_with("/dev/") && !self.has("loop") => {
                    Source::Device(PathBuf::from(&self.source))
                }
                None => Source::Image(PathBuf::from(&self.source)),
            },
        }
    }

    /// Whether nothing is to be written to the folder while nothing is mounted on it.
    pub(super) fn guarded(&self) -> bool {
        self.guard == Some(Guarded::Immutable)
    }

    pub(super) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|one| one == option)
    }

    pub(super) fn network(&self) -> bool {
        NETWORK.contains(&self.fstype.as_str()) || self.has("_netdev")
    }

    /// Whether it is looked into in every pass.
    pub(super) fn watched(&self) -> bool {
        // A look would keep it from falling asleep.
        self.health.is_some() || (self.network() && self.idle().is_none())
    }

    /// After how long without a touch it is unmounted.
    pub(super) fn idle(&self) -> Option<Duration> {
        match &self.automount {
            Some(Automount::On { idle }) => idle.as_ref().map(DurationWord::duration),
            _ => None,
        }
    }

    pub(super) fn health(&self) -> Health {
        self.health.clone().unwrap_or_default()
    }

    pub(super) fn automounts(&self) -> bool {
        matches!(self.automount, Some(Automount::On { .. }))
    }

    pub(super) fn below(&self) -> Below {
        self.below.unwrap_or(if self.network() { Below::Report } else { Below::Ignore })
    }

    pub(super) fn bits(&self) -> Option<u32> {
        self.permissions.or(self.mode).map(Bits::get)
    }
}

pub(super) fn check(name: &str, want: &Want) -> Vec<Complaint> {
    let mut complaints = point(name);
    complaints.extend(source(want));
    if !TYPES.contains(&want.fstype.as_str()) {
        let what = format!("`{}` is no type that a spec can mount", want.fstype);
        complaints.push(Complaint::error(["type"], what, format!("one of {}", TYPES.join(", "))));
    }
    complaints.extend(want.options.iter().filter_map(|one| option(want, one)));
    if want.has("ro") && want.has("rw") {
        complaints.push(Complaint::error(
            ["options"],
            "ro and rw cannot stand together",
            "take one of them out",
        ));
    }
    if want.permissions.is_some() && want.mode.is_some() {
        complaints.push(Complaint::error(
            ["mode"],
            "the permission bits are said twice",
            "keep one of the two",
        ));
    }
    let file =
        |name: &String| name.is_empty() || name == "." || name == ".." || !plain(name) || name.contains('/');
    if want.sentinel.as_ref().is_some_and(file) {
        let help = "the name of a file at the top of what is mounted, such as .export-id";
        complaints.push(Complaint::error(["sentinel"], "this is no file's name", help));
    }
    let letter = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    for (field, name, what) in [("owner", &want.owner, "user"), ("group", &want.group, "group")] {
        if let Some(name) = name
            && (name.is_empty() || name.starts_with('-') || name.len() > 32 || !name.chars().all(letter))
        {
            let message = format!("`{name}` is no {what}'s name");
            complaints.push(Complaint::error([field], message, "a name such as web2py"));
        }
    }
    complaints.extend(lints::contradictions(want));
    if complaints.is_empty() {
        complaints.extend(lints::lints(name, want));
    }
    complaints
}

/// Whether a text has no control characters, blanks at its ends, or a backslash, which ends a unit file's line.
fn plain(text: &str) -> bool {
    !text.chars().any(char::is_control) && text.trim() == text && !text.contains(['\\', '"', '\''])
}

fn point(name: &str) -> Vec<Complaint> {
    const ITEM: [&str; 0] = [];
    let tidy = name.starts_with('/') && !name.split('/').skip(1).any(|part| matches!(part, "" | "." | ".."));
    if !tidy || !plain(name) {
        let help = "an absolute path without `..`, `//` or a slash at its end, such as /srv/eden/uploads";
        return vec![Complaint::error(ITEM, format!("`{}` is no mount point", name.escape_default()), help)];
    }
    let path = Path::new(name);
    if let Some(system) = places::system(path) {
        let help = "a spec can mount below /home, /srv, /mnt, /var/lib/… and the like";
        return vec![Complaint::error(ITEM, format!("{system} belongs to the system"), help)];
    }
    if unit::name(path).len() > 255 {
        return vec![Complaint::error(ITEM, "the name of its unit would be too long", "a shorter path")];
    }
    vec![]
}

fn source(want: &Want) -> Option<Complaint> {
    let error = |what: &str, help: &str| Some(Complaint::error(["source"], what, help));
    let text = want.source.as_str();
    if text.is_empty() || text.starts_with('-') || !plain(text) {
        return error(
            "this is no source",
            "a device, a folder, host:/export; no quotes, backslashes or control characters",
        );
    }
    let absolute =
        |path: &Path| path.is_absolute() && !text.split('/').any(|part| part == ".." || part == ".");
    match want.source() {
        Source::Folder(path) if !absolute(&path) => {
            error("a bind mount shows a folder", "an absolute path without `..`")
        }
        Source::Image(path) if !absolute(&path) => error(
            "this is neither a device nor a file",
            "/dev/…, UUID=…, LABEL=…, or the absolute path of an image",
        ),
        Source::Device(path) if !absolute(&path) => {
            error("this is no device", "a path below /dev without `..`")
        }
        Source::Remote(_) if want.fstype.starts_with("nfs") && !text.contains(":/") => {
            error("an NFS source names a host and a path", "host:/export")
        }
        _ => None,
    }
}

fn option(want: &Want, option: &str) -> Option<Complaint> {
    let error = |why: &str, help: &str| {
        Some(Complaint::error(["options"], format!("`{}` {why}", option.escape_default()), help))
    };
    let letter = |c: char| c.is_ascii_alphanumeric() || "_-.:@%/+=[]~".contains(c);
    if option.is_empty() || option.starts_with('-') || !option.chars().all(letter) {
        return error("is no mount option", "one option a list entry: letters, digits and _-.:@%/+=[]~ only");
    }
    let key = option.split('=').next().unwrap_or(option);
    match key {
        "helper" | "uhelper" => error("names a program, and a spec can run no command", "take it out"),
        "remount" | "rbind" | "move" | "unbindable" => {
            error("is something to do and no state", "take it out")
        }
        "bind" if want.fstype != "bind" => error("makes it another mount", "say type: bind"),
        "suid" | "dev" => {
            error("lets what is mounted become root", "take it out; what the node does without it stays")
        }
        _ if key.to_lowercase().starts_with("x-mount.") => {
            error("changes the folder that is mounted on", "take it out")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn complaints(name: &str, fields: &str) -> Vec<String> {
        match serde_json::from_str::<Want>(fields) {
            Ok(want) => check(name, &want).into_iter().map(|one| one.message).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn ordinary_mounts_pass() {
        for (name, fields) in [
            (
                "/home/prod/uploads",
                r#"{"source": "10.20.3.5:/eden/uploads", "type": "nfs4", "options": ["rw", "hard", "vers=4.2"]}"#,
            ),
            (
                "/srv/a b",
                r#"{"source": "/srv/100% own", "type": "bind", "permissions": "0750", "owner": "web2py"}"#,
            ),
            ("/mnt/x", r#"{"source": "UUID=1234-ABCD", "type": "vfat", "sentinel": ".export-id"}"#),
            (
                "/mnt/x",
                r#"{"source": "tmpfs", "type": "tmpfs", "options": ["size=64m", "mode=1777"], "mode": "750"}"#,
            ),
            ("/mnt/x", r#"{"source": "/srv/disk.img", "type": "ext4", "options": ["loop", "nofail"]}"#),
        ] {
            assert_eq!(complaints(name, fields), [""; 0], "{name} {fields}");
        }
    }

    #[test]
    fn places_that_belong_to_the_system_are_refused() {
        for name in [
            "/",
            "/etc",
            "/etc/cron.d",
            "/proc/sys",
            "/usr/bin",
            "/run/x",
            "/boot/efi",
            "srv/x",
            "/srv/../etc",
            "/srv//x",
            "/srv/x/",
            "/srv/./x",
            "/srv/x\nOptions=suid",
            "/srv/x\\",
            " /srv",
        ] {
            assert_eq!(complaints(name, r#"{"source": "tmpfs", "type": "tmpfs"}"#).len(), 1, "{name}");
        }
    }

    #[test]
    fn hostile_sources_types_and_options_are_refused() {
        for fields in [
            r#"{"source": "-x", "type": "nfs4"}"#,
            r#"{"source": "a:/b\nType=fuse", "type": "nfs4"}"#,
            r#"{"source": "a:/b\\", "type": "nfs4"}"#,
            r#"{"source": "relative", "type": "bind"}"#,
            r#"{"source": "/srv/../etc", "type": "bind"}"#,
            r#"{"source": "/export", "type": "nfs4"}"#,
            r#"{"source": "sh#-c", "type": "fuse"}"#,
            r#"{"source": "x", "type": "fuse.sshfs"}"#,
            r#"{"source": "tmpfs", "type": "tmpfs", "options": ["a,suid"]}"#,
            r#"{"source": "tmpfs", "type": "tmpfs", "options": ["suid"]}"#,
            r#"{"source": "tmpfs", "type": "tmpfs", "options": ["uhelper=sh"]}"#,
            r#"{"source": "tmpfs", "type": "tmpfs", "options": ["size=1 m"]}"#,
            r#"{"source": "tmpfs", "type": "tmpfs", "options": ["-oremount"]}"#,
            r#"{"source": "tmpfs", "type": "tmpfs", "options": ["ro", "rw"]}"#,
            r#"{"source": "tmpfs", "type": "tmpfs", "mode": 750}"#,
            r#"{"source": "tmpfs", "type": "tmpfs", "mode": "0980"}"#,
            r#"{"source": "tmpfs", "type": "tmpfs", "mode": "0750", "permissions": "0750"}"#,
            r#"{"source": "tmpfs", "type": "tmpfs", "sentinel": "../x"}"#,
            r#"{"source": "tmpfs", "type": "tmpfs", "owner": "-x"}"#,
        ] {
            assert_ne!(complaints("/srv/x", fields), [""; 0], "{fields}");
        }
    }
}
