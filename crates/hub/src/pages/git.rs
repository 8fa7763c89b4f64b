//! Where a line of a spec can be looked at: the page of its file at its commit, where the forge is one that is known.
//!
//! Everything here was told by a node. A link is made of parts that are checked or encoded, always starts with
//! `https://` and a host, and there is none where anything looks otherwise.

use crate::http::encode;

/// The page of `declared_at` (`tiers/db.yaml:9 (path database)`) in `repo` at `commit`.
pub(super) fn link(repo: &str, commit: Option<&str>, declared_at: &str) -> Option<String> {
    let commit =
        commit.filter(|commit| commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let (host, path) = place(repo)?;
    let (file, line) = declared_at.split(' ').next()?.split_once(':')?;
    let line: u32 = line.split(':').next()?.parse().ok()?;
    let middle = middle(host)?;
    Some(format!("https://{host}/{}{middle}/{commit}/{}#L{line}", pieces(path)?, pieces(file)?))
}

/// Host and path of `https://host/path.git`, `ssh://git@host/path.git` or `git@host:path.git`.
fn place(repo: &str) -> Option<(&str, &str)> {
    let (host, path) = match repo.split_once("://") {
        Some(("https" | "ssh" | "git+ssh", rest)) => rest.split_once('/')?,
        Some(_) => return None,
        None => repo.split_once(':')?,
    };
    let host = host.rsplit('@').next()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let path = path.trim_end_matches('/');
    (!host.is_empty() && host.bytes().all(plain)).then_some((host, path.strip_suffix(".git").unwrap_or(path)))
}

/// What stands between a repository and a commit.
fn middle(host: &str) -> Option<&'static str> {
    let known = |name: &str| {
        host == name || host.starts_with(&format!("{}.", name.split('.').next().unwrap_or(name)))
    };
    match () {
        () if known("github.com") => Some("/blob"),
        () if known("gitlab.com") => Some("/-/blob"),
        () if host == "codeberg.org" || known("gitea.com") || known("forgejo.org") => Some("/src/commit"),
        () => None,
    }
}

/// A path with every piece encoded; nothing where one leads elsewhere.
fn pieces(path: &str) -> Option<String> {
    let pieces: Vec<_> = path.split('/').collect();
    let leads = |piece: &&str| piece.is_empty() || *piece == "." || *piece == "..";
    (!pieces.iter().any(leads)).then(|| pieces.into_iter().map(encode).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::link;

    const COMMIT: Option<&str> = Some("3f2c1a9be0");

    #[test]
    fn a_line_is_found_on_the_forges_that_are_known() {
        let at = |repo| link(repo, COMMIT, "tiers/db.yaml:9 (path database)");
        let github = "https://github.com/eden/spec/blob/3f2c1a9be0/tiers/db.yaml#L9";
        for repo in [
            "https://github.com/eden/spec.git",
            "git@github.com:eden/spec.git",
            "ssh://git@github.com/eden/spec/",
        ] {
            assert_eq!(at(repo).as_deref(), Some(github), "{repo}");
        }
        let gitlab = "https://gitlab.eden.org/a/b/spec/-/blob/3f2c1a9be0/tiers/db.yaml#L9";
        assert_eq!(at("https://gitlab.eden.org/a/b/spec.git").as_deref(), Some(gitlab));
        let gitea = "https://codeberg.org/eden/spec/src/commit/3f2c1a9be0/tiers/db.yaml#L9";
        assert_eq!(at("https://codeberg.org/eden/spec").as_deref(), Some(gitea));
        assert_eq!(at("ssh://git.example/eden.git"), None, "a host that could be anything");
    }

    #[test]
    fn what_a_node_made_up_leads_nowhere() {
        let repo = "https://github.com/eden/spec.git";
        assert_eq!(link("javascript://github.com/%0aalert(1)", COMMIT, "a.yaml:1"), None);
        assert_eq!(link("https://github.com\"onload=x/eden", COMMIT, "a.yaml:1"), None);
        assert_eq!(link(repo, Some("../../../evil"), "a.yaml:1"), None);
        assert_eq!(link(repo, None, "a.yaml:1"), None);
        assert_eq!(link(repo, COMMIT, "../../../evil:1"), None);
        assert_eq!(link(repo, COMMIT, "a.yaml:x"), None);
        let odd = link(repo, COMMIT, "a\"<b>.yaml:1");
        assert_eq!(odd.as_deref(), Some("https://github.com/eden/spec/blob/3f2c1a9be0/a%22%3Cb%3E.yaml#L1"));
    }
}
