//! `hub.yaml`: strict, and every error at its line. Command line over environment over file over default.

use crate::invariants::{self, Invariant};
use crate::oidc::Oidc;
use crate::slots::is_group;
use crate::store::postgres::Address;
use crate::tell::sinks::Sink;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the configuration is, unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/evenkeel/hub.yaml";
/// How long a node's certificate holds.
pub const CERTIFICATE_LIFE: Duration = Duration::from_hours(30 * 24);
/// The most bytes of a configuration.
const CAP: u64 = 256 * 1024;

/// The file, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// `ADDRESS:PORT` to listen on.
    pub listen: String,
    /// The folder of the hub's authority: with it, `listen` speaks TLS and nodes show certificates.
    pub tls: Option<PathBuf>,
    /// With `tls`: `ADDRESS:PORT` of a second door that speaks plain HTTP, for the pages and the API alone.
    pub listen_pages: Option<String>,
    /// `sqlite:PATH` or `postgres://…`.
    pub store: String,
    /// How many requests a second each node may send, and ten times as many at once.
    pub requests_per_second: u32,
    /// Whether plain HTTP may be spoken beyond this machine.
    pub allow_plain_http: bool,
    /// How many days of history are kept.
    pub keep_days: u32,
    /// How many nodes of a group may be disturbed at once, by group; one where nothing is said.
    pub slots: BTreeMap<String, u32>,
    /// What must hold between nodes, beside what every hub watches over.
    pub invariants: Vec<Invariant>,
    /// For how many minutes a node may have another commit in force than the newest.
    pub spec_behind_minutes: u32,
    /// Who is told.
    pub sinks: Vec<Sink>,
    /// How people reach the pages: `https://hub.example.org`.
    pub public_url: Option<String>,
    /// Who else has accounts for this hub.
    pub oidc: Option<Oidc>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8484".to_owned(),
            tls: None,
            listen_pages: None,
            store: "sqlite:/var/lib/evenkeel-hub/hub.db".to_owned(),
            requests_per_second: 10,
            allow_plain_http: false,
            keep_days: 30,
            slots: BTreeMap::new(),
            invariants: vec![],
            spec_behind_minutes: 60,
            sinks: vec![],
            public_url: None,
            oidc: None,
        }
    }
}

/// What the command line and the environment say.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Over `listen`.
    pub listen: Option<String>,
    /// Over `tls`.
    pub tls: Option<PathBuf>,
    /// Over `listen_pages`.
    pub listen_pages: Option<String>,
    /// How long a node's certificate holds, instead of 30 days.
    pub certificate_life: Option<Duration>,
    /// Over `store`.
    pub store: Option<String>,
    /// Or-ed with `allow_plain_http`.
    pub insecure_listen: bool,
    /// The whole command line: what stands there is seen by every user of the machine.
    pub arguments: Vec<String>,
}

/// Where everything is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of SQLite's.
    Sqlite(PathBuf),
    /// A database of PostgreSQL's.
    Postgres(Box<Address>),
}

impl Location {
    /// Reads `sqlite:PATH` or `postgres://…`.
    ///
    /// # Errors
    /// When it is neither; the error says what to write instead.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            let address = Address::parse(text).map_err(|why| ConfigError::Postgres { why })?;
            return Ok(Self::Postgres(Box::new(address)));
        }
        let path = text.strip_prefix("sqlite:").filter(|path| !path.is_empty());
        path.map(|path| Self::Sqlite(path.into())).ok_or_else(|| ConfigError::Store { text: text.to_owned() })
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(address) => f.write_str(&address.place()),
        }
    }
}

/// A configuration that holds together.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// The folder of the authority; none means plain HTTP.
    pub tls: Option<PathBuf>,
    /// Where the pages are shown in the clear besides.
    pub pages: Vec<SocketAddr>,
    /// How long a node's certificate holds.
    pub certificate_life: Duration,
    /// How many requests a second each node may send.
    pub requests_per_second: u32,
    /// Where everything is kept.
    pub store: Location,
    /// How long history is kept.
    pub keep: Duration,
    /// How many slots a group has.
    pub slots: BTreeMap<String, u32>,
    /// What must hold between nodes, beside what every hub watches over.
    pub invariants: Vec<Invariant>,
    /// How long a node may have another commit in force than the newest.
    pub behind: Duration,
    /// Who is told.
    pub sinks: Vec<Sink>,
    /// How people reach the pages.
    pub public_url: Option<String>,
    /// Who else has accounts for this hub.
    pub oidc: Option<Oidc>,
}

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is no configuration.
    #[error("{path}:{line}: {why}")]
    Parse {
        /// The file.
        path: String,
        /// The line; 0 where there is none.
        line: u64,
        /// What is wrong there.
        why: String,
    },
    /// `listen` or `listen_pages` is no address.
    #[error("{key}: {text:?} is no ADDRESS:PORT; write for example 127.0.0.1:8484")]
    Listen {
        /// Which.
        key: &'static str,
        /// What it says.
        text: String,
    },
    /// Plain HTTP would leave the machine.
    #[error(
        "{key}: {at} is reachable from other machines and would speak plain HTTP: anybody on the way could read and \
         forge what is said. Speak TLS (`evenkeel-hub ca init`, then `tls: DIR`), listen on 127.0.0.1 or [::1], or, \
         where the network itself is trusted or encrypted, say so with --insecure-listen or `allow_plain_http: true`"
    )]
    PlainHttp {
        /// Which door.
        key: &'static str,
        /// The address.
        at: SocketAddr,
    },
    /// `store` names no store.
    #[error(
        "store: {text:?} is no store; write sqlite:PATH, for example sqlite:/var/lib/evenkeel-hub/hub.db, or \
         postgres://USER@HOST/DATABASE"
    )]
    Store {
        /// What it says.
        text: String,
    },
    /// `store` names a PostgreSQL in a way that does not read. What it says may have a password in it and is not shown.
    #[error("store: the postgres:// address does not read: {why}")]
    Postgres {
        /// What is wrong with it.
        why: String,
    },
    /// A password on the command line.
    #[error(
        "--store: every user of this machine can read a password on a command line; take it out, and put it into the \
         file that PGPASSFILE names (HOST:PORT:DATABASE:USER:PASSWORD, mode 0600)"
    )]
    PasswordShown,
    /// There is a second door and no first.
    #[error("listen_pages: without `tls` the pages are at `listen` already; leave one of the two out")]
    SecondDoor,
    /// `requests_per_second` is 0.
    #[error("requests_per_second: 0 would let nobody speak; the least is 1")]
    NoRequests,
    /// `keep_days` is 0.
    #[error("keep_days: 0 would keep no history at all; the least is 1")]
    KeepNothing,
    /// A sink cannot be told.
    #[error("sinks: {name:?}: {why}")]
    Sink {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Nobody could sign in by the provider.
    #[error("oidc: {0}")]
    Oidc(String),
    /// Two invariants have one name.
    #[error("invariants: {name:?}: its name is there twice, or is that of a built-in one")]
    Invariant {
        /// The name.
        name: String,
    },
    /// `public_url` is no address.
    #[error("public_url: {url:?} is no address; write for example https://hub.example.org")]
    PublicUrl {
        /// What it says.
        url: String,
    },
    /// `slots` says something that no group can have.
    #[error(
        "slots: {group:?}: {slots} is not for a group of nodes: write a name of A-Z, a-z, 0-9, `.`, `_`, `-` and 1 or more"
    )]
    Slots {
        /// The group.
        group: String,
        /// How many.
        slots: u32,
    },
}

/// Reads `path`; a missing file is the defaults unless it was `asked` for.
///
/// # Errors
/// When the file cannot be read or does not parse.
pub fn read(path: &Path, asked: bool) -> Result<File, ConfigError> {
    let name = || path.display().to_string();
    let mut text = String::new();
    let opened = std::fs::File::open(path).and_then(|file| file.take(CAP + 1).read_to_string(&mut text));
    match opened {
        Ok(_) if text.len() as u64 > CAP => {
            Err(ConfigError::Parse { path: name(), line: 0, why: format!("it has more than {CAP} bytes") })
        }
        Ok(_) => parse(&text, &name()),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound && !asked => Ok(File::default()),
        Err(source) => Err(ConfigError::Read { path: name(), source }),
    }
}

fn parse(text: &str, path: &str) -> Result<File, ConfigError> {
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(File::default());
    }
    let options = serde_yaml::options! { strict_booleans: true, with_snippet: false };
    serde_yaml::from_str_with_options(text, options).map_err(|why| ConfigError::Parse {
        path: path.to_owned(),
        line: why.location().map_or(0, |at| at.line()),
        why: why.to_string(),
    })
}

/// Settles what is in force.
///
/// # Errors
/// When something does not hold together; the error says what to write instead.
pub fn settle(file: File, over: Overrides) -> Result<Config, ConfigError> {
    let tls = over.tls.or(file.tls);
    let listen = addresses("listen", over.listen.unwrap_or(file.listen))?;
    let pages = over.listen_pages.or(file.listen_pages).map(|text| addresses("listen_pages", text));
    let pages = pages.transpose()?.unwrap_or_default();
    if tls.is_none() && !pages.is_empty() {
        return Err(ConfigError::SecondDoor);
    }
    let clear = if tls.is_some() { ("listen_pages", &pages) } else { ("listen", &listen) };
    if !(over.insecure_listen || file.allow_plain_http)
        && let Some(&at) = clear.1.iter().find(|at| !at.ip().is_loopback())
    {
        return Err(ConfigError::PlainHttp { key: clear.0, at });
    }
    if file.requests_per_second == 0 {
        return Err(ConfigError::NoRequests);
    }
    let store = store(&over.store.unwrap_or(file.store), &over.arguments)?;
    if file.keep_days == 0 {
        return Err(ConfigError::KeepNothing);
    }
    if let Some((group, &slots)) = file.slots.iter().find(|(group, slots)| !is_group(group) || **slots == 0) {
        return Err(ConfigError::Slots { group: group.clone(), slots });
    }
    told(&file.sinks, file.public_url.as_deref())?;
    if let Some(oidc) = &file.oidc {
        oidc.check(file.public_url.as_deref()).map_err(ConfigError::Oidc)?;
    }
    named_once(&file.invariants)?;
    Ok(Config {
        listen,
        tls,
        pages,
        certificate_life: over.certificate_life.unwrap_or(CERTIFICATE_LIFE),
        requests_per_second: file.requests_per_second,
        store,
        keep: Duration::from_secs(u64::from(file.keep_days) * 86_400),
        slots: file.slots,
        invariants: file.invariants,
        behind: Duration::from_mins(file.spec_behind_minutes.into()),
        sinks: file.sinks,
        public_url: file.public_url,
        oidc: file.oidc,
    })
}

/// Whether telling holds together.
fn told(sinks: &[Sink], public_url: Option<&str>) -> Result<(), ConfigError> {
    let web = |url: &str| url.starts_with("http://") || url.starts_with("https://");
    if let Some(url) = public_url.filter(|url| !web(url)) {
        return Err(ConfigError::PublicUrl { url: url.to_owned() });
    }
    for (at, sink) in sinks.iter().enumerate() {
        if sinks[..at].iter().any(|other| other.name == sink.name) {
            return Err(ConfigError::Sink {
                name: sink.name.clone(),
                why: "its name is there twice".to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether each invariant has a name of its own.
fn named_once(own: &[Invariant]) -> Result<(), ConfigError> {
    let mut names: Vec<String> = invariants::built_ins().into_iter().map(|one| one.name).collect();
    for one in own {
        if names.contains(&one.name) {
            return Err(ConfigError::Invariant { name: one.name.clone() });
        }
        names.push(one.name.clone());
    }
    Ok(())
}

/// Whether every sink and the provider have the files that they need: a mistake is better found when the hub starts than
/// when somebody is to be told or wants to sign in.
///
/// # Errors
/// Which has not, and what.
pub fn try_files(config: &Config) -> Result<(), ConfigError> {
    config.sinks.iter().try_for_each(|sink| {
        sink.try_files().map_err(|why| ConfigError::Sink { name: sink.name.clone(), why })
    })?;
    config.oidc.as_ref().map_or(Ok(()), |oidc| oidc.try_files().map_err(ConfigError::Oidc))
}

/// The store that `text` names, on a command line of these arguments.
///
/// # Errors
/// When it names none, or its password stands on the command line.
pub fn store(text: &str, arguments: &[String]) -> Result<Location, ConfigError> {
    let store = Location::parse(text)?;
    if let Location::Postgres(address) = &store
        && address.has_password()
        && arguments.iter().any(|argument| argument.contains(text))
    {
        return Err(ConfigError::PasswordShown);
    }
    Ok(store)
}

fn addresses(key: &'static str, text: String) -> Result<Vec<SocketAddr>, ConfigError> {
    let found: Vec<SocketAddr> = text.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    if found.is_empty() { Err(ConfigError::Listen { key, text }) } else { Ok(found) }
}

#[cfg(test)]
mod tests;
