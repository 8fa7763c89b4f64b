//! `/etc/evenkeel/agent.yaml` and the `EVENKEEL_*` variables over it.
//!
//! Strict: an unknown or repeated key, or a value of the wrong shape, is an error at its line. Reads one file and the
//! environment it is handed; never the network.

use crate::source::SourceUrl;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the configuration is looked for when nobody says otherwise.
pub(crate) const DEFAULT_PATH: &str = "/etc/evenkeel/agent.yaml";
/// The most bytes a configuration may have.
pub(crate) const FILE_CAP: usize = 64 * 1024;

/// Everything the agent is told from outside of a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// The node's name in the fleet.
    pub(crate) node: String,
    /// Where the spec comes from; none is fine for commands that are told one.
    pub(crate) source: Option<SourceUrl>,
    /// The private key for `git+ssh`.
    pub(crate) ssh_key: Option<PathBuf>,
    /// The file with the keys of the hosts that `git+ssh` believes; none means ssh's own.
    pub(crate) ssh_known_hosts: Option<PathBuf>,
    /// Whom to tell, without a slash at its end.
    pub(crate) hub: Option<String>,
    /// PEM file with the only certificate authorities that may vouch for the hub; none means the system's.
    pub(crate) hub_ca: Option<PathBuf>,
    /// Who keeps the slots of the fleet, without a slash at its end; none means that nothing that needs one is done.
    pub(crate) fleet_lock: Option<String>,
    /// What lets this node in at a hub that asks for certificates.
    pub(crate) enroll: Option<Enroll>,
    /// How often the source is asked.
    pub(crate) poll_interval: Duration,
    /// How often every item is looked at although nothing woke us.
    pub(crate) pass_interval: Duration,
    /// How often a heartbeat is sent.
    pub(crate) report_interval: Duration,
    /// What outlives a reboot.
    pub(crate) state_dir: PathBuf,
    /// What does not.
    pub(crate) run_dir: PathBuf,
    /// The most bytes that unsent reports may take on disk.
    pub(crate) spool_cap: u64,
}

/// Where the token is that lets this node in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Enroll {
    /// In a file.
    TokenFile(PathBuf),
    /// In a credential of the unit.
    Credential(String),
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// It is there and cannot be read.
    #[error("read the configuration {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It was named, and is not there.
    #[error("there is no configuration at {}: write one, or name another with --config", .0.display())]
    Missing(PathBuf),
    /// It cannot be understood. The text has the line in it.
    #[error("{}:{line}: {message}", .path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong and what to do.
        message: String,
    },
    /// A variable cannot be understood.
    #[error("the variable {0}: {1}")]
    Variable(String, String),
}

/// The file as it is written. Texts are read in a second step, so that the variables go the same way.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    node: Option<serde_yaml::Spanned<String>>,
    source: Option<serde_yaml::Spanned<String>>,
    ssh_key: Option<serde_yaml::Spanned<String>>,
    ssh_known_hosts: Option<serde_yaml::Spanned<String>>,
    hub: Option<serde_yaml::Spanned<String>>,
    hub_ca: Option<serde_yaml::Spanned<String>>,
    fleet_lock: Option<serde_yaml::Spanned<String>>,
    enroll: Option<serde_yaml::Spanned<RawEnroll>>,
    poll_interval: Option<serde_yaml::Spanned<String>>,
    pass_interval: Option<serde_yaml::Spanned<String>>,
    report_interval: Option<serde_yaml::Spanned<String>>,
    state_dir: Option<serde_yaml::Spanned<String>>,
    run_dir: Option<serde_yaml::Spanned<String>>,
    spool_cap: Option<serde_yaml::Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEnroll {
    token_file: Option<serde_yaml::Spanned<String>>,
    credential: Option<serde_yaml::Spanned<String>>,
}

impl Config {
    /// Where slots of the fleet are asked for.
    pub(crate) fn slots(&self) -> Option<evenkeel_host::FleetLock> {
        let url = self.fleet_lock.clone()?;
        let (ca, node, state_dir) = (self.hub_ca.clone(), self.node.clone(), self.state_dir.clone());
        Some(evenkeel_host::FleetLock { url, ca, node, state_dir: Some(state_dir) })
    }

    /// Read the file at `path`, then the variables over it.
    ///
    /// # Errors
    /// The first thing that is wrong, at its line. A missing file is an error only where it is `named`.
    pub(crate) fn read(
        path: &Path,
        named: bool,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let text = match evenkeel_host::files::read(path, FILE_CAP) {
            Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| ConfigError::Bad {
                path: path.to_owned(),
                line: 1,
                message: "the file is not UTF-8 text".to_owned(),
            })?,
            Ok(None) if named => return Err(ConfigError::Missing(path.to_owned())),
            Ok(None) => String::new(),
            Err(error) => return Err(ConfigError::Read(path.to_owned(), error)),
        };
        Self::parse(path, &text, &evenkeel_host::identity::hostname(), env)
    }

    /// As [`Config::read`], from a text.
    pub(crate) fn parse(
        path: &Path,
        text: &str,
        hostname: &str,
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let raw = parse_raw(path, text)?;
        let from = Layers { path, env };
        let enroll_at = raw.enroll.as_ref().map_or(1, |enroll| enroll.defined.line());
        let enroll = from.enroll(raw.enroll.map(|enroll| enroll.value).unwrap_or_default())?;
        let hub = from.get("hub", raw.hub, hub_url)?.flatten();
        let fleet_lock = from.get("fleet_lock", raw.fleet_lock, hub_url)?;
        let config = Self {
            fleet_lock: fleet_lock.unwrap_or_else(|| hub.clone()),
            hub,
            node: from.get("node", raw.node, node_name)?.unwrap_or_else(|| hostname.to_owned()),
            source: from.get("source", raw.source, str::parse)?,
            ssh_key: from.get("ssh_key", raw.ssh_key, absolute)?,
            ssh_known_hosts: from.get("ssh_known_hosts", raw.ssh_known_hosts, absolute)?,
            hub_ca: from.get("hub_ca", raw.hub_ca, absolute)?,
            enroll,
            poll_interval: from.get("poll_interval", raw.poll_interval, interval)?.unwrap_or(SECONDS_30),
            pass_interval: from.get("pass_interval", raw.pass_interval, interval)?.unwrap_or(SECONDS_60),
            report_interval: from
                .get("report_interval", raw.report_interval, interval)?
                .unwrap_or(SECONDS_30),
            state_dir: from
                .get("state_dir", raw.state_dir, absolute)?
                .unwrap_or_else(|| "/var/lib/evenkeel".into()),
            run_dir: from.get("run_dir", raw.run_dir, absolute)?.unwrap_or_else(|| "/run/evenkeel".into()),
            spool_cap: from.get("spool_cap", raw.spool_cap, size)?.unwrap_or(16 << 20),
        };
        config.check_enroll().map_err(|message| ConfigError::Bad {
            path: path.to_owned(),
            line: enroll_at,
            message,
        })?;
        Ok(config)
    }

    /// A token is shown to the hub alone: to one whose certificate is vouched for by somebody who was named.
    fn check_enroll(&self) -> Result<(), String> {
        let Some(hub) = self.hub.as_ref().filter(|_| self.enroll.is_some()) else { return Ok(()) };
        if !hub.starts_with("https://") {
            return Err("enroll: a token is never sent in the clear; write `hub: https://…`".to_owned());
        }
        if self.hub_ca.is_none() {
            let why = "enroll: name with `hub_ca` who vouches for the hub: a copy of its ca.pem, compared by \
                       `evenkeel-hub ca show`";
            return Err(why.to_owned());
        }
        Ok(())
    }
}

const SECONDS_30: Duration = Duration::from_secs(30);
const SECONDS_60: Duration = Duration::from_mins(1);

fn parse_raw(path: &Path, text: &str) -> Result<Raw, ConfigError> {
    // An empty document is no mapping to YAML; to a person it is a configuration with nothing in it.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Raw::default());
    }
    serde_yaml::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let message = error.without_snippet().to_string();
        let message = message.lines().next().unwrap_or_default();
        // The place is told in front; the parser tells it behind as well.
        let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message).to_owned();
        ConfigError::Bad { path: path.to_owned(), line, message }
    })
}

/// The file below, the environment above.
struct Layers<'a> {
    path: &'a Path,
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl Layers<'_> {
    fn get<T>(
        &self,
        key: &str,
        raw: Option<serde_yaml::Spanned<String>>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        let name = format!("EVENKEEL_{}", key.to_ascii_uppercase().replace('.', "_"));
        if let Some(text) = (self.env)(&name) {
            return read(&text).map(Some).map_err(|why| ConfigError::Variable(name, why));
        }
        let Some(spanned) = raw else { return Ok(None) };
        let line = spanned.defined.line();
        read(&spanned.value).map(Some).map_err(|why| ConfigError::Bad {
            path: self.path.to_owned(),
            line,
            message: format!("{key}: {why}"),
        })
    }
}

impl Layers<'_> {
    fn enroll(&self, raw: RawEnroll) -> Result<Option<Enroll>, ConfigError> {
        let file = self.get("enroll.token_file", raw.token_file, absolute)?;
        let credential = self.get("enroll.credential", raw.credential, credential)?;
        // The more direct of the two, where both are named.
        Ok(file.map(Enroll::TokenFile).or(credential.map(Enroll::Credential)))
    }
}

/// A name that systemd takes for a credential, and that is no path.
fn credential(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > 255 || text.starts_with('.') || !text.chars().all(good) {
        return Err("write the name of a credential: letters, digits, `-`, `_` and `.`".to_owned());
    }
    Ok(text.to_owned())
}

fn node_name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > 253 || !text.chars().all(good) {
        return Err(format!(
            "`{}` is no node name: letters, digits, `-`, `_` and `.`",
            crate::log::plain(text)
        ));
    }
    Ok(text.to_owned())
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    let plain = !text.chars().any(char::is_control);
    if path.is_absolute() && plain {
        Ok(path.to_owned())
    } else {
        Err("write a path from the root".to_owned())
    }
}

/// A hub's address, without a slash at its end; nothing for `none`.
pub(crate) fn hub_url(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() || text == "none" {
        return Ok(None);
    }
    let url = reqwest::Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("write it as https://hub.example:8443, or `none`".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with credentials in it is told to too many; leave them out".to_owned());
    }
    Ok(Some(text.trim_end_matches('/').to_owned()))
}

/// A duration with its unit: `500ms`, `30s`, `5m`, `1h`. At least 100 ms, so that a typing error cannot spin.
fn interval(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{}` is no interval: write 30s, 5m or 1h", crate::log::plain(text));
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    let ms = number.checked_mul(unit_ms).filter(|ms| (100..=86_400_000).contains(ms));
    ms.map(Duration::from_millis).ok_or_else(|| format!("`{text}` is out of range: 100ms to 24h"))
}

/// A size with its unit: `64KiB`, `16MiB`. At least 64 KiB.
fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("`{}` is no size: write 16MiB", crate::log::plain(text));
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let unit: u64 = match &text[digits.len()..] {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(bad()),
    };
    let bytes = number.checked_mul(unit).filter(|bytes| (64 << 10..=64 << 30).contains(bytes));
    bytes.ok_or_else(|| format!("`{text}` is out of range: 64KiB to 64GiB"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Config, ConfigError, Enroll};
    use std::path::Path;
    use std::time::Duration;

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let get = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::parse(Path::new("/etc/evenkeel/agent.yaml"), text, "host1", &get)
    }

    fn complaint(text: &str) -> String {
        parse(text, &[]).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_file_gives_the_defaults() {
        let config = parse("# nothing yet\n\n", &[]).unwrap();
        assert_eq!((config.node.as_str(), config.source, config.hub), ("host1", None, None));
        assert_eq!(config.poll_interval, Duration::from_secs(30));
        assert_eq!(config.pass_interval, Duration::from_mins(1));
        assert_eq!(config.spool_cap, 16 * 1024 * 1024);
        assert_eq!(config.state_dir, Path::new("/var/lib/evenkeel"));
    }

    #[test]
    fn every_key_is_read() {
        let text = "node: db1\nsource: git+https://git.example/eden.git#main\nhub: https://hub.example:8443/\n\
                    poll_interval: 10s\npass_interval: 2m\nreport_interval: 1h\nstate_dir: /a\nrun_dir: /b\n\
                    spool_cap: 1MiB\nssh_key: /k\nhub_ca: /ca.pem\n";
        let config = parse(text, &[]).unwrap();
        assert_eq!(config.node, "db1");
        assert_eq!(config.source.unwrap().to_string(), "git+https://git.example/eden.git#main");
        assert_eq!(config.hub.unwrap(), "https://hub.example:8443");
        assert_eq!(
            config.fleet_lock.unwrap(),
            "https://hub.example:8443",
            "the hub, where nobody else is named"
        );
        assert_eq!(config.pass_interval, Duration::from_mins(2));
        assert_eq!((config.state_dir.to_str(), config.run_dir.to_str()), (Some("/a"), Some("/b")));
        assert_eq!(config.spool_cap, 1 << 20);
    }

    #[test]
    fn slots_may_be_kept_by_another_or_by_nobody() {
        let lock = |text: &str| parse(text, &[]).unwrap().fleet_lock;
        assert_eq!(lock("hub: https://a\nfleet_lock: https://b/\n"), Some("https://b".to_owned()));
        assert_eq!(lock("hub: https://a\nfleet_lock: none\n"), None);
        assert_eq!(lock(""), None);
    }

    #[test]
    fn a_variable_wins_over_the_file() {
        let env = [("EVENKEEL_NODE", "mw3"), ("EVENKEEL_HUB", "none"), ("EVENKEEL_POLL_INTERVAL", "500ms")];
        let config = parse("node: db1\nhub: https://hub.example\n", &env).unwrap();
        assert_eq!((config.node.as_str(), config.hub), ("mw3", None));
        assert_eq!(config.poll_interval, Duration::from_millis(500));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, word) in [
            ("node: db1\nsauce: /spec\n", 2, "sauce"),
            ("node: db1\n\nnode: db2\n", 3, "node"),
            ("node: db1\npoll_interval: 30\n", 2, "interval"),
            ("node: db1\nsource: [a]\n", 2, ""),
            ("hub: ftp://x\n", 1, "https://"),
            ("hub: https://user:secret@x\n", 1, "credentials"),
            ("node: 'a b'\n", 1, "no node name"),
            ("\nstate_dir: relative\n", 2, "from the root"),
            ("spool_cap: 1MB\n", 1, "16MiB"),
            ("\n\nsource: https://x.example/spec.tar.gz\n", 3, "not supported yet"),
        ] {
            let told = complaint(text);
            assert!(told.starts_with(&format!("/etc/evenkeel/agent.yaml:{line}: ")), "{text}: {told}");
            assert!(told.contains(word) && !told.contains("secret"), "{text}: {told}");
            assert!(!told.contains('\n') && !told.contains(" at line "), "{told}");
        }
    }

    #[test]
    fn a_token_is_for_a_hub_that_is_known_for_certain() {
        let whole = "hub: https://h.example\nhub_ca: /ca.pem\nenroll:\n  token_file: /t\n";
        assert_eq!(parse(whole, &[]).unwrap().enroll, Some(Enroll::TokenFile("/t".into())));
        let named = whole.replace("token_file: /t", "credential: hub-token");
        assert_eq!(parse(&named, &[]).unwrap().enroll, Some(Enroll::Credential("hub-token".into())));
        for (text, line, word) in [
            ("hub: http://h.example\nhub_ca: /ca.pem\nenroll: {token_file: /t}\n", 3, "in the clear"),
            ("hub: https://h.example\nenroll: {token_file: /t}\n", 2, "hub_ca"),
            ("hub: https://h.example\nhub_ca: /c\nenroll:\n  token: abc\n", 4, "token"),
            ("hub: https://h.example\nhub_ca: /c\nenroll: {credential: ../x}\n", 3, "credential"),
        ] {
            let told = complaint(text);
            assert!(told.starts_with(&format!("/etc/evenkeel/agent.yaml:{line}: ")), "{text}: {told}");
            assert!(told.contains(word), "{told}");
        }
        let env = [("EVENKEEL_ENROLL_TOKEN_FILE", "/other")];
        assert_eq!(parse(whole, &env).unwrap().enroll, Some(Enroll::TokenFile("/other".into())));
    }

    #[test]
    fn a_bad_variable_is_named() {
        let told = parse("", &[("EVENKEEL_PASS_INTERVAL", "often")]).unwrap_err().to_string();
        assert!(told.contains("EVENKEEL_PASS_INTERVAL") && told.contains("often"), "{told}");
    }
}
