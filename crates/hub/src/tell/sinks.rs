//! The `sinks:` of hub.yaml: who is told, what, and where. Addresses come from here and from nowhere else.

use crate::store::telling::{News, Severity, Topic};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most bytes of a secret's file.
const CAP: u64 = 8 * 1024;

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Sink {
    /// What it is called in lists, metrics and logs.
    pub name: String,
    /// Nodes of these tiers; of every tier where it is empty.
    pub tiers: Vec<String>,
    /// What it is told of.
    pub tell: BTreeSet<Topic>,
    /// From when on it matters.
    pub severity: Severity,
    /// For how long news of one kind is gathered before it is told.
    pub group: Duration,
    /// After how long a message that nobody takes is given up.
    pub give_up: Duration,
    /// The authorities that its address is believed by, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Where it is.
    pub to: To,
}

/// Where a sink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// A CloudEvent for each message.
    Webhook(Webhook),
    /// A text for each message.
    Slack(Slack),
    /// What is off, again and again.
    Alertmanager(Alertmanager),
    /// How a commit stands in the fleet.
    CommitStatus(CommitStatus),
}

/// A receiver of CloudEvents.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its address.
    pub url: String,
    /// A file with the secret that messages are signed with: `whsec_` and base64.
    pub secret_file: Option<PathBuf>,
}

/// An incoming webhook, as Slack has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slack {
    /// A file with its address, which is a secret.
    pub url_file: PathBuf,
}

/// An Alertmanager.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alertmanager {
    /// Its address; `/api/v2/alerts` is added.
    pub url: String,
}

/// Whose API a commit's status is set by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forge {
    /// `api.github.com`, or one's own.
    Github,
    /// `gitlab.com`, or one's own.
    Gitlab,
    /// Gitea or Forgejo.
    Gitea,
}

/// Commits of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitStatus {
    /// Whose API.
    pub forge: Forge,
    /// Where; for GitHub and GitLab their own where it is left out.
    pub url: Option<String>,
    /// `owner/name`, for GitLab with every group.
    pub project: String,
    /// A file with a token that may set statuses.
    pub token_file: PathBuf,
    /// Which environment these nodes are; `evenkeel/NAME` is the status's name.
    pub environment: String,
}

/// A sink, as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    tiers: Vec<String>,
    tell: Option<BTreeSet<Topic>>,
    severity: Option<Severity>,
    group_seconds: Option<u64>,
    give_up_hours: Option<u64>,
    ca_file: Option<PathBuf>,
    webhook: Option<Webhook>,
    slack: Option<Slack>,
    alertmanager: Option<Alertmanager>,
    commit_status: Option<CommitStatus>,
}

impl TryFrom<Written> for Sink {
    type Error = String;

    fn try_from(it: Written) -> Result<Self, String> {
        let name = it.name;
        let bad = |why: &str| format!("the sink {name:?}: {why}");
        if !crate::slots::is_group(&name) {
            return Err(bad("a name is 1 to 64 of A-Z, a-z, 0-9, `.`, `_`, `-`"));
        }
        let all = [
            it.webhook.map(To::Webhook),
            it.slack.map(To::Slack),
            it.alertmanager.map(To::Alertmanager),
            it.commit_status.map(To::CommitStatus),
        ];
        let mut all = all.into_iter().flatten();
        let (Some(to), None) = (all.next(), all.next()) else {
            return Err(bad("write exactly one of webhook, slack, alertmanager, commit_status"));
        };
        to.check().map_err(|why| bad(&why))?;
        let group = it.group_seconds.unwrap_or(30);
        let give_up = it.give_up_hours.unwrap_or(24);
        if group > 3600 {
            return Err(bad("group_seconds is at most 3600"));
        }
        if !(1..=168).contains(&give_up) {
            return Err(bad("give_up_hours is 1 to 168"));
        }
        let all = || Topic::ALL.into_iter().collect();
        Ok(Self {
            name,
            tiers: it.tiers,
            tell: it.tell.unwrap_or_else(all),
            severity: it.severity.unwrap_or(Severity::Warning),
            group: Duration::from_secs(group),
            give_up: Duration::from_secs(give_up * 3600),
            ca_file: it.ca_file,
            to,
        })
    }
}

impl To {
    fn check(&self) -> Result<(), String> {
        let url = match self {
            Self::Webhook(to) => Some(&to.url),
            Self::Alertmanager(to) => Some(&to.url),
            Self::CommitStatus(to) => to.url.as_ref(),
            Self::Slack(_) => None,
        };
        if let Some(url) = url {
            address(url)?;
        }
        if let Self::CommitStatus(to) = self {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
            if to.project.split('/').count() < 2 || !to.project.split('/').all(part) {
                return Err(format!("project {:?} is no OWNER/NAME", to.project));
            }
            if !part(&to.environment) {
                return Err(format!("environment {:?} is no name", to.environment));
            }
            if to.forge == Forge::Gitea && to.url.is_none() {
                return Err("gitea needs its url".to_owned());
            }
        }
        Ok(())
    }

    fn files(&self) -> Vec<&Path> {
        match self {
            Self::Webhook(to) => to.secret_file.iter().map(PathBuf::as_path).collect(),
            Self::Slack(to) => vec![&to.url_file],
            Self::Alertmanager(_) => vec![],
            Self::CommitStatus(to) => vec![&to.token_file],
        }
    }
}

/// An address that may be spoken to.
pub(crate) fn address(text: &str) -> Result<reqwest::Url, String> {
    let url = reqwest::Url::parse(text).map_err(|why| format!("the address does not read: {why}"))?;
    let known = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    if !known {
        return Err("the address is none: write https://HOST/…".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the address has a password in it: everybody who reads hub.yaml would know it".to_owned());
    }
    Ok(url)
}

impl Sink {
    /// Whether it wants to hear of `news`.
    #[must_use]
    pub fn wants(&self, news: &News) -> bool {
        let of_tier = self.tiers.is_empty() || self.tiers.contains(&news.tier);
        // What was put right is asked for by its name.
        let bad =
            news.severity >= self.severity || news.topic == Topic::Repair && self.severity == Severity::Info;
        of_tier && bad && self.tell.contains(&news.topic)
    }

    /// Whether it is told message by message; else of what stands.
    #[must_use]
    pub fn by_message(&self) -> bool {
        matches!(self.to, To::Webhook(_) | To::Slack(_))
    }

    /// Reads what it needs once, so that a mistake is found when the hub starts.
    ///
    /// # Errors
    /// What is wrong, and with which file.
    pub fn try_files(&self) -> Result<(), String> {
        for path in self.to.files() {
            let text = secret(path)?;
            match &self.to {
                To::Slack(_) => {
                    address(&text).map(drop).map_err(|why| format!("{}: {why}", path.display()))?;
                }
                To::Webhook(_) => super::webhook::key(&text).map(drop)?,
                _ => {}
            }
        }
        super::client(self.ca_file.as_deref()).map(drop)
    }
}

/// A secret of one line. It is read anew each time: another one needs no restart.
pub(crate) fn secret(path: &Path) -> Result<String, String> {
    let named = |why: String| format!("{}: {why}", path.display());
    let stat = std::fs::metadata(path).map_err(|why| named(why.to_string()))?;
    if !stat.is_file() || stat.mode() & 0o007 != 0 {
        return Err(named("everybody may use it: chmod o= it".to_owned()));
    }
    let text = read(path, CAP).map_err(|why| named(why.to_string()))?;
    let text = text.trim();
    if text.is_empty() { Err(named("it is empty".to_owned())) } else { Ok(text.to_owned()) }
}

/// A text of at most `cap` bytes in a plain file: a FIFO would wait for somebody to write into it.
pub(super) fn read(path: &Path, cap: u64) -> std::io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is no plain file"));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(cap).read_to_string(&mut text)?;
    Ok(text)
}
