//! Where the spec comes from: a folder or a git repository, named by one string.
//!
//! A source hands over bytes and a commit and understands none of it; what the bytes say is read in another room.
//! A fetch that fails changes nothing.

mod dir;
mod git;

use crate::config::Config;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The most bytes that all files of a spec may have together, and that one fetch may bring.
pub(crate) const TOTAL_CAP: u64 = 16 << 20;
/// The most files a spec may have.
pub(crate) const FILES_CAP: usize = 20_000;

/// A source as people write it.
///
/// It shows itself without credentials; the ones it carries leave it only by [`GitUrl::credentials`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum SourceUrl {
    /// A folder on this node.
    Folder(PathBuf),
    /// A branch of a git repository.
    Git(GitUrl),
}

/// `git+SCHEME://…#BRANCH`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct GitUrl {
    /// `ssh`, `https`, `http` or `file`: the one protocol that git may speak.
    pub(crate) scheme: &'static str,
    /// What git is told, without credentials.
    pub(crate) url: String,
    /// The branch.
    pub(crate) branch: String,
    /// `user:password` out of an `https` URL.
    credentials: Option<String>,
}

impl GitUrl {
    /// `user:password`, for the request itself and nothing else.
    pub(crate) fn credentials(&self) -> Option<&str> {
        self.credentials.as_deref()
    }
}

/// What a source gave.
pub(crate) struct Fetched {
    /// The files.
    pub(crate) bundle: evenkeel_spec::Bundle,
    /// The commit, or `sha256:…` over the files of a folder.
    pub(crate) commit: String,
}

/// Why a source gave nothing. Texts carry neither credentials nor timings.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub(crate) struct FetchError {
    doing: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl FetchError {
    fn new(doing: impl Into<String>) -> Self {
        Self { doing: doing.into(), source: None }
    }

    fn from(doing: impl Into<String>, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { doing: doing.into(), source: Some(cause.into()) }
    }
}

impl SourceUrl {
    /// Fetch, unless what is there is still at `known`. Blocks, for half a minute at worst.
    ///
    /// # Errors
    /// The source could not be reached, or what it holds cannot be a spec.
    pub(crate) fn fetch(&self, config: &Config, known: Option<&str>) -> Result<Option<Fetched>, FetchError> {
        match self {
            Self::Folder(path) => dir::fetch(path, known),
            Self::Git(url) => git::Repository::new(url, config).fetch(known),
        }
    }

    /// The branch; empty for a folder.
    pub(crate) fn branch(&self) -> &str {
        match self {
            Self::Folder(_) => "",
            Self::Git(git) => &git.branch,
        }
    }

    /// Where it lies, without branch and credentials.
    pub(crate) fn place(&self) -> String {
        match self {
            Self::Folder(path) => path.display().to_string(),
            Self::Git(git) => format!("git+{}", git.url),
        }
    }
}

/// The files in a folder.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read_folder(folder: &std::path::Path) -> Result<Fetched, FetchError> {
    dir::fetch(folder, None)?.ok_or_else(|| FetchError::new("the folder gave nothing"))
}

fn too_much() -> String {
    format!("a spec has at most {FILES_CAP} files and {} MiB; this is more", TOTAL_CAP >> 20)
}

impl FromStr for SourceUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err("a source is a folder, or git+ssh://…#branch".to_owned());
        }
        if let Some(rest) = text.strip_prefix("git+") {
            return git_url(rest).map(Self::Git);
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            let why = if text.contains(".tar") { "archives over https are" } else { "plain https is" };
            return Err(format!("{why} not supported yet: use a folder or git+https://…#branch"));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(format!(
                "`{scheme}` is no kind of source: use a folder, git+ssh, git+https or git+file"
            ));
        }
        Ok(Self::Folder(PathBuf::from(text)))
    }
}

fn git_url(text: &str) -> Result<GitUrl, String> {
    let (url, branch) = match text.split_once('#') {
        Some((url, branch)) => (url, branch),
        None => (text, "main"),
    };
    let (scheme, rest) = url.split_once("://").ok_or("after git+ comes a URL: git+ssh://host/path#branch")?;
    let scheme = match scheme {
        "ssh" => "ssh",
        "https" => "https",
        "http" => "http",
        "file" => "file",
        _ => return Err(format!("`git+{scheme}` is not spoken: use git+ssh, git+https or git+file")),
    };
    // What begins with a dash would be read as an option by ssh or git.
    if rest.is_empty() || rest.starts_with('-') || rest.contains("@-") || rest.contains(char::is_whitespace) {
        return Err("after :// comes a host and a path".to_owned());
    }
    if !branch_name(branch) {
        return Err(format!("`{branch}` is no branch name"));
    }
    let (credentials, rest) = match (scheme, rest.split_once('@')) {
        ("https" | "http", Some((user, host))) if !user.contains('/') => (Some(user.to_owned()), host),
        _ => (None, rest),
    };
    let url = format!("{scheme}://{rest}");
    Ok(GitUrl { scheme, url, branch: branch.to_owned(), credentials })
}

/// Stricter than git: what would need quoting somewhere, or mean something else than a name, is refused.
fn branch_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_./+".contains(c);
    let whole = !name.is_empty() && name.len() <= 200 && name.chars().all(good);
    whole
        && !name.starts_with(['-', '/', '.'])
        && !name.ends_with(['/', '.'])
        && !name.contains("..")
        && !name.contains("//")
        && name.strip_suffix(".lock").is_none()
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::Git(git) => write!(f, "git+{}#{}", git.url, git.branch),
        }
    }
}

/// As it shows itself: a debug line must not tell what a log line does not.
impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::SourceUrl;

    fn parse(text: &str) -> Result<SourceUrl, String> {
        text.parse()
    }

    #[test]
    fn every_form_of_source_is_read_and_shown_again() {
        for text in [
            "/srv/spec",
            "specs/eden",
            "git+ssh://git@git.example:2222/eden.git#main",
            "git+https://git.example/eden.git#release/1.x",
            "git+file:///srv/eden.git#main",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(parse("git+file:///a").unwrap().to_string(), "git+file:///a#main");
    }

    #[test]
    fn credentials_in_a_url_are_never_shown() {
        let source = parse("git+https://robot:hunter2@git.example/eden.git#main").unwrap();
        assert_eq!(source.to_string(), "git+https://git.example/eden.git#main");
        assert!(!format!("{source:?}{}", source.place()).contains("hunter2"));
        let SourceUrl::Git(git) = source else { unreachable!() };
        assert_eq!(git.credentials(), Some("robot:hunter2"));
        assert!(!git.url.contains("hunter2"));
    }

    #[test]
    fn what_is_no_source_is_refused_with_what_to_write() {
        for (text, word) in [
            ("", "folder"),
            ("https://x.example/spec.tar.gz", "not supported yet"),
            ("ftp://x/y", "no kind of source"),
            ("git+ext::sh -c id", "comes a URL"),
            ("git+ext://sh", "not spoken"),
            ("git+ssh://-oProxyCommand=id/x", "host and a path"),
            ("git+ssh://git@-oProxyCommand=id/x", "host and a path"),
            ("git+file:///x#--upload-pack=id", "no branch name"),
            ("git+file:///x#a..b", "no branch name"),
            ("git+file:///x#", "no branch name"),
            ("/srv/\u{1b}[2Jspec", "folder"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(word), "{text}: {told}");
        }
    }
}
