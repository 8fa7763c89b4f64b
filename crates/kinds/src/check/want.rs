//! What a spec can say of a check, and what it may not.
//!
//! A query runs as a role of the database, in a transaction that may only read. Beside that, a check is a connection to an
//! address, a GET, or a look at a file's time: nothing that changes anything.

use crate::places;
use crate::postgresql::{self, Server};
use evenkeel_core::{Complaint, DurationWord, PgReach, PgServer, Probed};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What must answer: exactly one of tcp, http, memcached, postgresql, file and certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// `host:port` that takes a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// A URL that answers a GET.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// `host:port` of a memcached that tells its version and its statistics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memcached: Option<String>,
    /// A cluster on this node, as 13/main, or any name with a data directory or a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgresql: Option<String>,
    /// A file that is written again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// A PEM file, or `host:port` that shows a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The status of a page, 200 where none is said; or the first value that a query answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expect>,
    /// A text that a page has in its first 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// Where a cluster's postgresql.conf is, for one that is not Debian's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_directory: Option<PathBuf>,
    /// How a database is reached that is not on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// The database that is asked; postgres, or that of `server`, where none is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The role whose rights the query has; `pg_monitor` where none is said and the cluster is on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// One query that only reads; `select 1` where none is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// How old a file may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub younger_than: Option<DurationWord>,
    /// How long a certificate has to be valid still; 14d where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<DurationWord>,
    /// How long an answer may take; 5s where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<DurationWord>,
    /// How often it is asked, if more often than everything is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<DurationWord>,
}

/// How long an answer may take, where nobody says, and at most: it is asked twice before a pass counts as lost.
const WITHIN: Duration = Duration::from_secs(5);
const WITHIN_AT_MOST: Duration = Duration::from_secs(25);
/// The most often that anything is asked.
const OFTEN: Duration = Duration::from_secs(5);
const LEFT: Duration = Duration::from_hours(14 * 24);
/// Whose rights a query has on a cluster of this node, where we come in as its superuser.
const MONITOR: &str = "pg_monitor";
/// Words that a query which only reads begins with.
const READS: [&str; 5] = ["SELECT", "SHOW", "TABLE", "VALUES", "WITH"];

/// What is to be answered: a number, or a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Expect(String);

impl Expect {
    /// As it was said.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Expect {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl serde::de::Visitor<'_> for Either {
            type Value = Expect;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number or a text")
            }
            fn visit_u64<E>(self, number: u64) -> Result<Expect, E> {
                Ok(Expect(number.to_string()))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Expect, E> {
                Ok(Expect(number.to_string()))
            }
            fn visit_str<E>(self, text: &str) -> Result<Expect, E> {
                Ok(Expect(text.to_owned()))
            }
        }
        from.deserialize_any(Either)
    }
}

impl JsonSchema for Expect {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expect".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["integer", "string"], "description": "A number, or a text."})
    }
}

impl Want {
    pub(super) fn every(&self) -> Option<Duration> {
        self.every.as_ref().map(DurationWord::duration)
    }

    pub(super) fn within(&self) -> Duration {
        self.within.as_ref().map_or(WITHIN, DurationWord::duration)
    }

    pub(super) fn left(&self) -> Duration {
        self.left.as_ref().map_or(LEFT, DurationWord::duration)
    }

    /// The status that a page is to have.
    pub(super) fn status(&self) -> u16 {
        self.expect.as_ref().and_then(|expect| expect.text().parse().ok()).unwrap_or(200)
    }

    /// What is to be asked of a server.
    pub(super) fn query(&self, server: PgServer) -> Probed {
        let ours = matches!(server.reach, PgReach::Local { .. });
        Probed::Postgres {
            database: self.database.clone(),
            role: self.role.clone().or_else(|| ours.then(|| MONITOR.to_owned())),
            query: self.query.clone().unwrap_or_else(|| "select 1".to_owned()),
            server,
        }
    }

    /// What is to be asked, where that is no database.
    pub(super) fn what(&self) -> Option<Probed> {
        let tcp = self.tcp.clone().map(Probed::Tcp);
        let http = self.http.clone().map(|url| Probed::Http { url, contains: self.contains.clone() });
        let memcached = self.memcached.clone().map(Probed::Memcached);
        let file = self.file.clone().map(Probed::FileAge);
        let certificate = self.certificate.as_ref().map(|text| match host(text) {
            Some(name) if !text.starts_with('/') => Probed::CertificateOf {
                address: text.clone(),
                name: name.trim_matches(['[', ']']).to_owned(),
            },
            _ => Probed::CertificateFile(text.into()),
        });
        tcp.or(http).or(memcached).or(file).or(certificate)
    }

    /// The fields that say what is asked, and are said.
    fn asked(&self) -> Vec<&'static str> {
        let said = [
            ("tcp", self.tcp.is_some()),
            ("http", self.http.is_some()),
            ("memcached", self.memcached.is_some()),
            ("postgresql", self.postgresql.is_some()),
            ("file", self.file.is_some()),
            ("certificate", self.certificate.is_some()),
        ];
        said.into_iter().filter(|(_, said)| *said).map(|(name, _)| name).collect()
    }

    /// Fields that are said, and belong to one sort of check.
    fn belongings(&self) -> Vec<(&'static str, &'static [&'static str])> {
        let said: [(_, &[_], _); 9] = [
            ("expect", &["http", "postgresql"], self.expect.is_some()),
            ("contains", &["http"], self.contains.is_some()),
            ("data_directory", &["postgresql"], self.data_directory.is_some()),
            ("server", &["postgresql"], self.server.is_some()),
            ("database", &["postgresql"], self.database.is_some()),
            ("role", &["postgresql"], self.role.is_some()),
            ("query", &["postgresql"], self.query.is_some()),
            ("younger_than", &["file"], self.younger_than.is_some()),
            ("left", &["certificate"], self.left.is_some()),
        ];
        said.into_iter().filter(|(_, _, said)| *said).map(|(name, of, _)| (name, of)).collect()
    }
}

pub(super) fn check(name: &str, want: &Want) -> Vec<Complaint> {
    const ITEM: [&str; 0] = [];
    let letter = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
    if name.is_empty() || name.len() > 80 || !name.chars().all(letter) {
        let what = format!("`{}` is no name of a check", name.escape_default());
        return vec![Complaint::error(ITEM, what, "letters, digits and _.-/")];
    }
    let asked = want.asked();
    let [what] = asked[..] else {
        let why = if asked.is_empty() {
            "nothing says what is to answer"
        } else {
            "it asks for several things at once"
        };
        let help = "exactly one of tcp, http, memcached, postgresql, file and certificate";
        return vec![Complaint::error(ITEM, why, help)];
    };
    let stray = want.belongings().into_iter().filter(|(_, of)| !of.contains(&what));
    let mut complaints: Vec<Complaint> = stray
        .map(|(field, of)| {
            let why = format!("{field} belongs to {}, and this asks {what}", of.join(" or "));
            Complaint::error([field], why, "leave it out")
        })
        .collect();
    complaints.extend(asked_well(what, want));
    complaints.extend(times(want));
    complaints
}

fn asked_well(what: &'static str, want: &Want) -> Vec<Complaint> {
    let one = |good: bool, why: &str, help: &str| {
        if good { vec![] } else { vec![Complaint::error([what], why, help)] }
    };
    let to = "host:port, such as 127.0.0.1:11211";
    match what {
        "tcp" => one(want.tcp.as_deref().is_some_and(address), "this is no address", to),
        "memcached" => one(want.memcached.as_deref().is_some_and(address), "this is no address", to),
        "http" => http(want),
        "postgresql" => database(want),
        "file" => {
            let help = "an absolute path without `..`";
            let mut all = one(want.file.as_deref().is_some_and(path), "this is no file's path", help);
            if want.younger_than.is_none() {
                let help = "younger_than: 26h";
                all.push(Complaint::error([what], "nothing says how old the file may be", help));
            }
            all
        }
        _ => {
            let text = want.certificate.as_deref().unwrap_or_default();
            let good = path(Path::new(text)) || address(text);
            one(good, "this is neither a file's path nor an address", "/path/of/fullchain.pem, or host:443")
        }
    }
}

fn http(want: &Want) -> Vec<Complaint> {
    let url = want.http.as_deref().unwrap_or_default();
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).unwrap_or_default();
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let mut all = vec![];
    if host.is_empty() || url.len() > 2000 || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        all.push(Complaint::error(["http"], "this is no URL", "http:// or https://, a host and a path"));
    } else if host.contains('@') {
        let help = "a page that answers without a password";
        all.push(Complaint::error(["http"], "a password is never in a spec, which many people read", help));
    }
    let status =
        |expect: &Expect| expect.text().parse().is_ok_and(|status: u16| (100..600).contains(&status));
    if want.expect.as_ref().is_some_and(|expect| !status(expect)) {
        all.push(Complaint::error(["expect"], "this is no status of a page", "a number such as 200 or 302"));
    }
    if want.contains.as_ref().is_some_and(|text| text.is_empty() || text.len() > 1000) {
        all.push(Complaint::error(["contains"], "this is no text to look for", "1 to 1000 bytes"));
    }
    all
}

fn database(want: &Want) -> Vec<Complaint> {
    let name = want.postgresql.as_deref().unwrap_or_default();
    let mut all = postgresql::check_reach(name, want.data_directory.as_deref(), want.server.as_ref());
    for (field, name) in [("database", &want.database), ("role", &want.role)] {
        if name
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.len() > 63 || name.chars().any(char::is_control))
        {
            all.push(Complaint::error([field], "this is no name", "1 to 63 bytes of text"));
        }
    }
    if want.query.as_deref().is_some_and(|query| !reads(query)) {
        let help = "one statement that begins with select, show, table, values or with";
        all.push(Complaint::error(["query"], "this is no query that only reads", help));
    }
    all
}

/// Whether a query begins as one that reads does. That it writes nothing the server sees to.
fn reads(query: &str) -> bool {
    let word: String = query.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
    READS.contains(&word.to_ascii_uppercase().as_str()) && query.len() <= 4000 && !query.contains('\0')
}

fn times(want: &Want) -> Vec<Complaint> {
    let mut all = vec![];
    if want.within().is_zero() || want.within() > WITHIN_AT_MOST {
        let help = "up to 25s: it is asked twice before it is told, and nobody waits longer for a pass than a minute";
        all.push(Complaint::error(["within"], "an answer cannot be waited for that long", help));
    }
    if want.every().is_some_and(|every| every < OFTEN) {
        all.push(Complaint::error(["every"], "nothing is asked that often", "5s or more"));
    }
    all
}

fn path(path: &Path) -> bool {
    path.to_str().is_some_and(|text| places::tidy(text) && !text.chars().any(char::is_control))
}

fn address(text: &str) -> bool {
    host(text).is_some()
}

/// The host of `host:port`.
fn host(text: &str) -> Option<&str> {
    let (host, port) = text.rsplit_once(':')?;
    let named = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let six = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match six {
        Some(six) => six.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.chars().all(named),
    };
    let port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    (good && port).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(fields: &str) -> Vec<String> {
        match serde_json::from_str::<Want>(fields) {
            Ok(want) => check("it", &want).into_iter().map(|one| one.message).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn ordinary_checks_pass() {
        for fields in [
            r#"{"tcp": "[::1]:80", "within": "25s", "every": "5s"}"#,
            r#"{"http": "https://site.example.org/?a=b", "expect": 302, "contains": "Eden"}"#,
            r#"{"postgresql": "eden", "server": {"host": "db", "user": "eden", "tls": "off"}, "query": "with a as (select 1) table a"}"#,
            r#"{"postgresql": "own", "data_directory": "/srv/pg", "role": "eden", "database": "eden", "expect": 1}"#,
            r#"{"certificate": "site.example.org:443"}"#,
            r#"{"certificate": "/etc/site.pem", "left": "30d"}"#,
        ] {
            assert_eq!(complaints(fields), [""; 0], "{fields}");
        }
    }

    #[test]
    fn what_is_no_check_or_could_change_something_is_refused() {
        for fields in [
            r"{}",
            r#"{"tcp": "a:1", "http": "http://a"}"#,
            r#"{"tcp": "a"}"#,
            r#"{"tcp": "a:0"}"#,
            r#"{"tcp": "a b:1"}"#,
            r#"{"tcp": "a:1", "expect": 200}"#,
            r#"{"tcp": "a:1", "within": "26s"}"#,
            r#"{"tcp": "a:1", "within": "0s"}"#,
            r#"{"tcp": "a:1", "every": "1s"}"#,
            r#"{"tcp": "a:1", "left": "1d"}"#,
            r#"{"http": "ftp://a"}"#,
            r#"{"http": "file:///etc/passwd"}"#,
            r#"{"http": "http://u:p@a/"}"#,
            r#"{"http": "http://a/ b"}"#,
            r#"{"http": "http://a", "expect": "ok"}"#,
            r#"{"http": "http://a", "contains": ""}"#,
            r#"{"postgresql": "13/main", "query": "delete from a"}"#,
            r#"{"postgresql": "13/main", "query": "/* select */ drop table a"}"#,
            r#"{"postgresql": "13/main", "role": ""}"#,
            r#"{"postgresql": "main"}"#,
            r#"{"postgresql": "x", "server": {"host": "a", "user": "b"}}"#,
            r#"{"file": "/var/x"}"#,
            r#"{"file": "x", "younger_than": "1h"}"#,
            r#"{"certificate": "site"}"#,
        ] {
            assert_eq!(complaints(fields).len(), 1, "{fields}: {:?}", complaints(fields));
        }
    }
}
