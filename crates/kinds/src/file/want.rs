//! What a spec can say of a whole file, and what it may not.

use super::credentials;
use super::places;
use super::validate;
use evenkeel_core::{Complaint, FileMode, PathEnd, Side};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is wanted of one file; its name is its path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// The file of the repository that holds its text: `files/uwsgi.ini`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The user who owns it. Left as it is where nothing is said; root, where the file is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Its group, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Its permission bits, as "0644". Left as they are where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<FileMode>,
    /// The same as `permissions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<FileMode>,
    /// What its text must be to be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validate: Option<Form>,
    /// The service that is to read it again once it has changed. Never a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<String>,
    /// Tell of its text by a fingerprint only. So it is anyway where a credential stands in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<bool>,
    /// `false`: take the text as it is, with every `${…}` in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub substitute: Option<bool>,
}

/// What a text must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Sections, and `key = value` below them.
    Ini,
    /// One JSON value.
    Json,
    /// One YAML document.
    Yaml,
    /// An ini file of uWSGI's that runs no program.
    Uwsgi,
    /// libpq's service file, with no keyword that would fail a connect.
    PgService,
    /// Anything.
    Nothing,
}

/// Whoever holds a secret may read it, and nobody else: what a secret file has where nobody says anything.
const SECRET_MODE: u32 = 0o600;

impl Want {
    /// The permission bits to keep; `None` leaves them as they are.
    pub(super) fn bits(&self) -> Option<u32> {
        let said = self.permissions.as_ref().or(self.mode.as_ref()).map(FileMode::bits);
        said.or_else(|| self.is_secret().then_some(SECRET_MODE))
    }

    /// Whether its text is told by a fingerprint only.
    pub(super) fn is_secret(&self) -> bool {
        self.secret == Some(true) || !self.credentials().is_empty()
    }

    /// The credentials that stand in its text.
    pub(super) fn credentials(&self) -> Vec<&str> {
        match &self.content {
            Some(text) if self.substituted() => credentials::names(text),
            _ => vec![],
        }
    }

    pub(super) fn substituted(&self) -> bool {
        self.substitute != Some(false)
    }

    pub(super) fn form(&self) -> Form {
        self.validate.unwrap_or(Form::Nothing)
    }
}

const ITEM: [&str; 0] = [];

pub(super) fn check(name: &str, want: &Want) -> Vec<Complaint> {
    let mut told: Vec<Complaint> = vec![];
    if let Err((what, help)) = places::check(name) {
        told.push(Complaint::error(ITEM, format!("{}: {what}", name.escape_default()), help));
    }
    if want.content.is_none() && want.from.is_none() {
        told.push(Complaint::error(
            ITEM,
            format!("{name} has no text"),
            "say `from: files/NAME`, or `content`",
        ));
    }
    told.extend([("owner", &want.owner), ("group", &want.group)].into_iter().filter_map(who));
    told.extend(bits(want));
    told.extend(want.reload.as_deref().filter(|unit| !is_service(unit)).map(|unit| {
        let what = format!("`{}` is no name of a service", unit.escape_default());
        Complaint::error(["reload"], what, "name it in full, as `uwsgi-prod.service`")
    }));
    if want.secret == Some(false) && !want.credentials().is_empty() {
        let what = "a text with a credential in it is always a secret";
        told.push(Complaint::error(["secret"], what, "leave `secret: false` out"));
    }
    if let Some(text) = &want.content {
        told.extend(content(name, want, text));
    }
    told
}

fn who((field, name): (&'static str, &Option<String>)) -> Option<Complaint> {
    let name = name.as_deref()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-@\\".contains(c);
    let good = !name.is_empty()
        && name.len() <= 256
        && !name.starts_with('-')
        && name.chars().all(plain)
        && !name.chars().all(|c| c.is_ascii_digit());
    let what = || format!("`{}` is no {field}", name.escape_default());
    (!good).then(|| Complaint::error([field], what(), "a name, not a number: numbers differ between nodes"))
}

fn bits(want: &Want) -> Option<Complaint> {
    let word = want.permissions.as_ref().or(want.mode.as_ref())?;
    let (bits, field) = (word.bits(), if want.permissions.is_some() { "permissions" } else { "mode" });
    let told = |what: &str, help: &str| Some(Complaint::error([field], format!("{word}: {what}"), help));
    if bits & 0o7000 != 0 {
        return told("setuid, setgid and sticky are not for files of a spec", "leave them out");
    }
    if bits & 0o111 != 0 {
        return told("a spec brings no program: nobody may execute it", "leave the execute bits out");
    }
    if bits & 0o400 == 0 {
        return told("not even its owner could read it", "0600 is the least");
    }
    if want.is_secret() && bits & 0o007 != 0 {
        return told("everybody could read a secret", "0600, or 0640 with a group");
    }
    let what =
        format!("{word}: others than its owner could write it, and evenkeel would put it back each time");
    (bits & 0o022 != 0).then(|| Complaint::warning([field], what, "0644, or 0640"))
}

/// `[A-Za-z0-9:_.\@-]` and `.service`, as systemd takes it; no bare template.
pub(super) fn is_service(unit: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":_.\\@-".contains(c);
    let stem = unit.strip_suffix(".service").unwrap_or_default();
    let starts = |c: char| c.is_ascii_alphanumeric() || c == '_';
    unit.len() <= 255 && stem.starts_with(starts) && stem.chars().all(plain) && !stem.ends_with('@')
}

/// What is known of its text before any credential is in it.
fn content(name: &str, want: &Want, text: &str) -> Vec<Complaint> {
    if text.contains('\0') {
        return vec![Complaint::error(["content"], format!("{name} holds a NUL"), "it is no text")];
    }
    let one = |flaw: validate::Flaw| {
        let place = flaw.line.map(|line| format!("line {line} of ")).unwrap_or_default();
        let path = std::iter::once("content".to_owned()).chain(flaw.line.map(|line| format!("[{line}]")));
        Complaint::error(path, format!("{place}{name}: {}", flaw.what), flaw.help)
    };
    validate::flaws(want.form(), name, &credentials::blank(text, want.substituted()))
        .into_iter()
        .map(one)
        .collect()
}

/// A request that uWSGI ends before the database's own error comes has no error at all.
pub(super) fn check_paths(name: &str, want: &Want, paths: &[PathEnd]) -> Vec<Complaint> {
    let text = want.content.as_deref().filter(|_| want.form() == Form::Uwsgi);
    let Some((line, harakiri)) = text.and_then(validate::harakiri) else { return vec![] };
    let short = |end: &&PathEnd| {
        end.side == Side::Client && harakiri > 0 && harakiri < end.blackout_at_most.duration().as_secs()
    };
    let one = |end: &PathEnd| {
        let what = format!(
            "{name} ends a request after {harakiri}s, and on path `{}` it may hang for {} ({}): it would be killed before it \
             has its error",
            end.name, end.blackout_at_most, end.blackout_at
        );
        Complaint::warning(["content".to_owned(), format!("[{line}]")], what, "give the request more time")
    };
    paths.iter().filter(short).map(one).collect()
}
