//! What a spec can say of a folder that is kept in step, and what it may not.
//!
//! Host, user and paths are words without meaning to a shell, to rsync or to ssh, whatever their version does with them.

use crate::places;
use evenkeel_core::{Complaint, DeletionLimit, DurationWord, MirrorJob, SizeWord};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// What is wanted of one folder; its name is the folder's path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// Where it comes from: `[user@]host:/path`, or an absolute path on this node.
    pub from: String,
    /// How often the two are compared; 10m where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<DurationWord>,
    /// Whether what the source does not have is removed.
    #[serde(default = "yes")]
    pub delete: bool,
    /// The most that one run may remove: a part of the files, as 10%, or a number of them.
    #[serde(default)]
    pub delete_at_most: Limit,
    /// Patterns of rsync's that are left out, on both sides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
    /// Whom the files belong to here, `user` or `user:group`; as in the source where nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The credential of the agent's unit with the private key for ssh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The most that is sent in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<SizeWord>,
}

fn yes() -> bool {
    true
}

/// How often two folders are compared where nobody says.
const EVERY: Duration = Duration::from_mins(10);
/// The most often, and the least.
const OFTEN: Duration = Duration::from_secs(5);
const SELDOM: Duration = Duration::from_hours(24 * 7);

/// The most that one run may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(DeletionLimit);

impl Default for Limit {
    fn default() -> Self {
        Self(DeletionLimit::PerCent(10))
    }
}

impl Serialize for Limit {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            DeletionLimit::Files(count) => to.serialize_u32(count),
            DeletionLimit::PerCent(_) => to.collect_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl serde::de::Visitor<'_> for Either {
            type Value = Limit;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a part of the files, as \"10%\", or a number of them")
            }
            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Limit, E> {
                let files = u32::try_from(count).map(DeletionLimit::Files).map(Limit);
                files.map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(count), &self))
            }
            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<Limit, E> {
                let files = u32::try_from(count).map(DeletionLimit::Files).map(Limit);
                files.map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(count), &self))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Limit, E> {
                let digits =
                    text.strip_suffix('%').filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
                let part = digits.and_then(|part| part.parse().ok()).filter(|part| *part <= 100u8);
                let part = part.map(DeletionLimit::PerCent).map(Limit);
                part.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(Either)
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "DeletionLimit".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A part of the files, as 10%, or a number of them.",
            "anyOf": [
                {"type": "string", "pattern": "^(100|[0-9]{1,2})%$"},
                {"type": "integer", "minimum": 0, "maximum": 4_294_967_295_u32}
            ]
        })
    }
}

impl Want {
    pub(super) fn every(&self) -> Duration {
        self.every.as_ref().map_or(EVERY, DurationWord::duration)
    }

    /// The source, where it is on this node.
    pub(super) fn local(&self) -> Option<&str> {
        self.from.starts_with('/').then_some(self.from.as_str())
    }

    pub(super) fn limit(&self) -> DeletionLimit {
        self.delete_at_most.0
    }

    /// What the host is to do.
    pub(super) fn job(&self, to: &str) -> MirrorJob {
        let kib = |size: &SizeWord| u32::try_from(size.bytes().div_ceil(1024)).unwrap_or(u32::MAX);
        MirrorJob {
            from: self.from.clone(),
            to: to.to_owned(),
            exclude: self.exclude.clone(),
            delete: self.delete,
            delete_at_most: self.limit(),
            owner: self.owner.clone(),
            key: self.key.clone(),
            kib_per_second: self.at_most.as_ref().map(kib),
        }
    }
}

pub(super) fn check(name: &str, want: &Want) -> Vec<Complaint> {
    let mut complaints: Vec<Complaint> = place(name).into_iter().chain(from(name, &want.from)).collect();
    if !(OFTEN..=SELDOM).contains(&want.every()) {
        let help = "between 5s and 7d, such as 10m";
        complaints.push(Complaint::error(
            ["every"],
            "two folders are not compared that often, or that seldom",
            help,
        ));
    }
    complaints.extend(want.exclude.iter().filter(|one| !pattern(one)).map(|one| {
        let what = format!("`{}` is no pattern to leave out", one.escape_default());
        Complaint::error(["exclude"], what, "as rsync has them: *.tmp, .cache/, /only-at-the-top")
    }));
    if want.owner.as_deref().is_some_and(|owner| !owned(owner)) {
        complaints.push(Complaint::error(["owner"], "this is no user's name", "web2py, or web2py:www-data"));
    }
    if want.key.as_deref().is_some_and(|key| !named(key, "_.-") || key.len() > 255) {
        let help = "letters, digits and _.- as in LoadCredential=sync-key:/etc/evenkeel/sync-key";
        complaints.push(Complaint::error(["key"], "this is no credential's name", help));
    }
    if want.key.is_some() && want.local().is_some() {
        complaints.push(Complaint::error(
            ["key"],
            "nobody is logged in at for a folder of this node",
            "leave it out",
        ));
    }
    if want.at_most.as_ref().is_some_and(|size| size.bytes() < 1024) {
        complaints.push(Complaint::error(
            ["at_most"],
            "with less than 1kB a second nothing would arrive",
            "10MB",
        ));
    }
    complaints
}

fn place(name: &str) -> Option<Complaint> {
    const ITEM: [&str; 0] = [];
    if !places::tidy(name) || name.chars().any(char::is_control) || name.len() > 4000 {
        let help = "an absolute path without `..`, `//` or a slash at its end, such as /srv/eden/fonts";
        return Some(Complaint::error(
            ITEM,
            format!("`{}` is no folder's path", name.escape_default()),
            help,
        ));
    }
    let path = Path::new(name);
    let system = places::system(path).or_else(|| places::holds(path))?;
    let help = "a spec can keep folders in step below /home, /srv, /mnt, /var/lib/… and the like";
    Some(Complaint::error(ITEM, format!("{system} belongs to the system"), help))
}

fn from(name: &str, from: &str) -> Option<Complaint> {
    let error = |what: &str, help: &str| Some(Complaint::error(["from"], what, help));
    if from.starts_with('/') {
        let (source, target) = (Path::new(from), Path::new(name));
        if !places::tidy(from) || from.chars().any(char::is_control) {
            return error(
                "this is no folder's path",
                "an absolute path without `..`, `//` or a slash at its end",
            );
        }
        if ["/proc", "/sys", "/dev", "/run"].iter().any(|one| source.starts_with(one)) {
            return error("what is there is no files that could be carried over", "a folder of files");
        }
        if source.starts_with(target) || target.starts_with(source) {
            return error("one of the two folders lies in the other", "two folders apart from one another");
        }
        return None;
    }
    let help =
        "[user@]host:/absolute/path, letters, digits and _.-/+@,= only, or an absolute path on this node";
    let Some((host, path)) = from.split_once(':') else {
        return error("nothing says where it comes from", help);
    };
    let (user, host) = host.split_once('@').map_or((None, host), |(user, host)| (Some(user), host));
    let good = named(host, "_.-") && user.is_none_or(|user| named(user, "_.-"));
    // A shell at the other end may read it, or rsync look for patterns in it.
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/+@,=".contains(c));
    if good && plain && places::tidy(path) && from.len() < 1000 {
        None
    } else {
        error("this is no source", help)
    }
}

/// A word of letters, digits and a few others that does not begin like an option.
fn named(word: &str, others: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') && word.chars().all(letter)
}

fn owned(owner: &str) -> bool {
    let (user, group) = owner.split_once(':').map_or((owner, None), |(user, group)| (user, Some(group)));
    named(user, "_.-") && group.is_none_or(|group| named(group, "_.-"))
}

/// rsync reads some first letters as an order of another kind.
fn pattern(text: &str) -> bool {
    let order = ["- ", "+ ", "!"].iter().any(|one| text.starts_with(one));
    !text.is_empty()
        && text.len() < 1000
        && !order
        && !text.chars().any(char::is_control)
        && text.trim() == text
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
    fn ordinary_folders_pass() {
        for (name, fields) in [
            ("/srv/fonts", r#"{"from": "mw1:/srv/fonts"}"#),
            (
                "/srv/fonts",
                r#"{"from": "sync@mw1.example.org:/srv/fonts", "key": "sync-key", "owner": "web2py:www-data"}"#,
            ),
            (
                "/srv/fonts",
                r#"{"from": "/srv/master", "delete_at_most": 20, "every": "5s", "at_most": "10MB"}"#,
            ),
            (
                "/srv/fonts",
                r#"{"from": "/srv/fonts-master", "delete_at_most": "0%", "exclude": ["*.tmp", "/a b/"]}"#,
            ),
        ] {
            assert_eq!(complaints(name, fields), [""; 0], "{fields}");
        }
    }

    #[test]
    fn what_could_mean_something_to_a_program_or_hit_the_system_is_refused() {
        for (name, fields) in [
            ("/", r#"{"from": "a:/b"}"#),
            ("/etc", r#"{"from": "a:/b"}"#),
            ("/var", r#"{"from": "a:/b"}"#),
            ("/usr/local/x", r#"{"from": "a:/b"}"#),
            ("/srv/x/", r#"{"from": "a:/b"}"#),
            ("srv", r#"{"from": "a:/b"}"#),
            ("/srv/x", r#"{"from": "-oProxyCommand=sh:/b"}"#),
            ("/srv/x", r#"{"from": "-l@a:/b"}"#),
            ("/srv/x", r#"{"from": "a@-b:/b"}"#),
            ("/srv/x", r#"{"from": "a::module"}"#),
            ("/srv/x", r#"{"from": "rsync://a/b"}"#),
            ("/srv/x", r#"{"from": "a:b"}"#),
            ("/srv/x", r#"{"from": "a:/b;reboot"}"#),
            ("/srv/x", r#"{"from": "a:/$(id)"}"#),
            ("/srv/x", r#"{"from": "a:/b c"}"#),
            ("/srv/x", r#"{"from": "a:/b*"}"#),
            ("/srv/x", r#"{"from": "a:/b/../c"}"#),
            ("/srv/x", r#"{"from": "a\nb:/b"}"#),
            ("/srv/x", r#"{"from": "/srv/x/master"}"#),
            ("/srv/x/y", r#"{"from": "/srv/x"}"#),
            ("/srv/x", r#"{"from": "/proc/1"}"#),
            ("/srv/x", r#"{"from": "a:/b", "exclude": ["+ /*"]}"#),
            ("/srv/x", r#"{"from": "a:/b", "exclude": [""]}"#),
            ("/srv/x", r#"{"from": "a:/b", "owner": "-x"}"#),
            ("/srv/x", r#"{"from": "a:/b", "key": "../x"}"#),
            ("/srv/x", r#"{"from": "/b", "key": "x"}"#),
            ("/srv/x", r#"{"from": "a:/b", "every": "1s"}"#),
            ("/srv/x", r#"{"from": "a:/b", "at_most": "10B"}"#),
            ("/srv/x", r#"{"from": "a:/b", "delete_at_most": "101%"}"#),
            ("/srv/x", r#"{"from": "a:/b", "delete_at_most": "-1%"}"#),
            ("/srv/x", r#"{"from": "a:/b", "delete_at_most": -1}"#),
            ("/srv/x", r#"{"from": "a:/b", "delete_at_most": "10"}"#),
        ] {
            assert_eq!(complaints(name, fields).len(), 1, "{name} {fields}: {:?}", complaints(name, fields));
        }
    }

    #[test]
    fn a_limit_travels_as_it_was_written() {
        for text in ["\"10%\"", "20"] {
            assert_eq!(serde_json::to_string(&serde_json::from_str::<Limit>(text).unwrap()).unwrap(), text);
        }
    }
}
