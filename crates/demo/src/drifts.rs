//! What is broken, how, and where to look: one table. Breaks are made by other programs than evenkeel's, the way
//! people and other tools make them; looks never ask an agent.

use crate::adapt::{Share, Tree, find_number};
use crate::node::Node;
use crate::postgres::{Postgres, ROLE};
use crate::repository::Repository;
use crate::sleeper;
use crate::words::{Look, User};
use std::path::PathBuf;

/// The kernel parameter that breaks and commits are about: it decides how long a silent connection lives.
const KEY: &str = "net.ipv4.tcp_keepalive_time";
/// What the good commit changes: how long a request may hang on the path to the database.
const COMMITTED: &str = "blackout_at_most";
/// Where it is said.
const FLEET: &str = "fleet.yaml";
/// Where that shows: a kernel parameter that follows from it, at both ends of the path.
const FOLLOWS: &str = "net.ipv4.tcp_keepalive_intvl";
/// What it may be, and what follows for the first probe and the next: `evenkeel explain path/database` has the arithmetic.
const PROMISES: [(&str, &str, &str); 2] = [("60s", "29", "8"), ("120s", "55", "17")];
/// Where the programs of a node are.
const HERE: &str = "/run/demo";
/// What the workers of the middleware are started from.
const WORKERS: &str = "/home/prod/uwsgi.ini";
/// evenkeel's own drop-in for the next boot.
const SYSCTL_DROP_IN: &str = "/etc/sysctl.d/99-evenkeel.conf";

/// What a drift may need.
pub(crate) struct Scene<'a> {
    /// The nodes that run.
    pub(crate) nodes: &'a [Node],
    /// The database, where there is one.
    pub(crate) postgres: Option<&'a Postgres>,
    /// The shares, here folders.
    pub(crate) shares: &'a [Share],
    /// What the nodes follow.
    pub(crate) repository: &'a Repository,
}

/// One way to drift.
pub(crate) struct Drift {
    /// Its name, for `--only` and for the table.
    pub(crate) name: &'static str,
    /// The layer it is in, for people.
    pub(crate) layer: &'static str,
    /// What happens, or none where this scene lacks what it takes.
    pub(crate) make: fn(&Scene, &Tree) -> Option<Event>,
}

/// What happens.
pub(crate) enum Event {
    /// Somebody changes a node.
    Break {
        /// Which node.
        node: String,
        /// In plain words: "an admin …".
        story: String,
        /// The program that does it.
        argv: Vec<String>,
        /// Whom it runs as.
        user: User,
        /// Where to see it.
        look: Look,
        /// What that must show before and after, where the repository alone says it.
        want: Option<String>,
        /// The item that the hub should tell of.
        item: String,
        /// The attribute that the hub should tell of, for an item that may be pending for another reason: repaired it
        /// is then, and pending it stays.
        about: Option<String>,
    },
    /// Somebody commits a new value.
    Commit {
        /// In plain words.
        story: String,
        /// The commit's subject.
        message: String,
        /// The file and its new text.
        file: (String, String),
        /// The nodes that it reaches.
        nodes: &'static [&'static str],
        /// Where to see it there.
        look: Look,
        /// What must be there afterwards.
        want: String,
    },
    /// Somebody commits a mistake.
    BadCommit {
        /// In plain words.
        story: String,
        /// The commit's subject.
        message: String,
        /// The file and its new text.
        file: (String, String),
        /// The place that the refusal must name.
        place: String,
        /// Where to see that nothing changes.
        look: Look,
    },
}

/// Every way to drift, in the order of `--once`.
pub(crate) const DRIFTS: &[Drift] = &[
    Drift { name: "sysctl-live", layer: "kernel", make: sysctl_live },
    Drift { name: "sysctl-file", layer: "file", make: sysctl_file },
    Drift { name: "connection-open", layer: "socket", make: connection_open },
    Drift { name: "file-edited", layer: "file", make: file_edited },
    Drift { name: "share-unmounted", layer: "mount", make: share_unmounted },
    Drift { name: "postgres-file-gone", layer: "file", make: postgres_file_gone },
    Drift { name: "postgres-reloaded", layer: "daemon", make: postgres_reloaded },
    Drift { name: "postgres-role", layer: "daemon", make: postgres_role },
    Drift { name: "commit", layer: "spec", make: commit },
    Drift { name: "bad-commit", layer: "spec", make: bad_commit },
];

fn words(argv: &[&str]) -> Vec<String> {
    argv.iter().map(|&word| word.to_owned()).collect()
}

/// A kernel parameter, by its file.
fn kernel(key: &str) -> Look {
    Look::File(PathBuf::from("/proc/sys").join(key.replace('.', "/")))
}

/// The line of `fleet.yaml` that says for how long a request may hang, and which of the promises that is.
fn promised(tree: &Tree) -> Option<(usize, usize)> {
    let said =
        |line: &str| Some(line.trim_start().strip_prefix(COMMITTED)?.strip_prefix(": ")?.trim().to_owned());
    let (at, word) = tree.get(FLEET)?.lines().enumerate().find_map(|(at, line)| Some((at, said(line)?)))?;
    Some((at, PROMISES.iter().position(|(known, ..)| *known == word)?))
}

fn sysctl_live(_: &Scene, tree: &Tree) -> Option<Event> {
    let (_, promise) = promised(tree)?;
    let value = format!("{KEY}=7200");
    Some(Event::Break {
        node: "mw1".into(),
        story: format!("somebody runs `sysctl -w {value}`"),
        argv: words(&["sysctl", "-q", "-w", &value]),
        user: None,
        look: kernel(KEY),
        want: Some(PROMISES[promise].1.to_owned()),
        item: format!("sysctl/{KEY}"),
        about: None,
    })
}

fn sysctl_file(_: &Scene, tree: &Tree) -> Option<Event> {
    find_number(tree, KEY)?;
    // Edited, not replaced: a file without evenkeel's first line is a person's, and would be left alone.
    let edit = format!("s/^{KEY}.*/{KEY} = 7200/");
    Some(Event::Break {
        node: "web1".into(),
        story: format!("a script edits {SYSCTL_DROP_IN}: the next boot would be wrong"),
        argv: words(&["sed", "-i", &edit, SYSCTL_DROP_IN]),
        user: None,
        look: Look::File(SYSCTL_DROP_IN.into()),
        want: None,
        item: format!("sysctl/{KEY}"),
        about: None,
    })
}

/// A connection that is open and asleep: no setting reaches it any more.
fn connection_open(_: &Scene, tree: &Tree) -> Option<Event> {
    promised(tree)?;
    // An ordinary user's agent may not reach into other programs.
    nix::unistd::geteuid().is_root().then_some(())?;
    let port = sleeper::PORT;
    // Under another name: what is called evenkeel is left alone.
    let worker = format!("{HERE}/worker");
    let start = format!("setsid --fork {worker} {} $PPID < /dev/null > /dev/null 2>&1", sleeper::ROLE);
    Some(Event::Break {
        node: "mw1".into(),
        story: "a worker opens a connection to the database without keepalives, and sleeps".into(),
        argv: words(&["sh", "-c", &format!("ln -sf {HERE}/evenkeel {worker} && {start}")]),
        user: None,
        look: Look::Unprotected { port },
        want: Some("no connection without a keepalive timer".into()),
        item: "socket/database/client".into(),
        about: None,
    })
}

/// A whole file of an application's, as the repository has it.
fn file_edited(_: &Scene, tree: &Tree) -> Option<Event> {
    tree.values().any(|text| text.contains(&format!("{WORKERS}:"))).then_some(())?;
    Some(Event::Break {
        node: "mw1".into(),
        story: format!("an admin sets harakiri = 1000 in {WORKERS}, by hand and only here"),
        argv: words(&["sed", "-i", "s/^harakiri = .*/harakiri = 1000/", WORKERS]),
        user: None,
        look: Look::File(WORKERS.into()),
        want: None,
        item: format!("file/{WORKERS}"),
        about: None,
    })
}

fn share_unmounted(scene: &Scene, _: &Tree) -> Option<Event> {
    let share = scene.shares.iter().find(|share| share.node == "mw1")?;
    let target = share.target.clone();
    Some(Event::Break {
        node: share.node.clone(),
        story: format!("somebody runs `umount {target}`: uploads would go to the local disk"),
        argv: words(&["umount", &target]),
        user: None,
        look: Look::Mount { target: target.clone().into(), sentinel: share.sentinel.clone() },
        want: None,
        item: format!("mount/{target}"),
        about: None,
    })
}

/// The server, where there is one and the spec keeps it.
fn kept_postgres<'a>(scene: &Scene<'a>, tree: &Tree) -> Option<&'a Postgres> {
    let kept = |postgres: &&Postgres| {
        let key = format!("{}:", postgres.cluster());
        tree.values().any(|text| text.lines().any(|line| line.trim_start().starts_with(&key)))
    };
    scene.postgres.filter(kept)
}

fn postgres_item(postgres: &Postgres) -> String {
    format!("postgresql/{}", postgres.cluster())
}

fn postgres_file_gone(scene: &Scene, tree: &Tree) -> Option<Event> {
    let postgres = kept_postgres(scene, tree)?;
    let path = postgres.drop_in().display().to_string();
    Some(Event::Break {
        node: "db1".into(),
        story: format!("somebody removes {path}: the next reload would forget it all"),
        argv: words(&["rm", &path]),
        user: None,
        look: Look::File(path.into()),
        want: None,
        item: postgres_item(postgres),
        about: Some("tcp_keepalives_idle".into()),
    })
}

/// The file and the server at once; the look is at what a new session would get.
fn postgres_reloaded(scene: &Scene, tree: &Tree) -> Option<Event> {
    let postgres = kept_postgres(scene, tree)?;
    let path = postgres.drop_in().display().to_string();
    let psql = postgres.statement("select pg_reload_conf()");
    let quoted: Vec<String> = psql.iter().map(|word| format!("'{word}'")).collect();
    // The folder is the server's to write to, the file in it is not: it replaces the file, as tools do.
    let edit = "s/^tcp_keepalives_idle.*/tcp_keepalives_idle = 7200/";
    let reload = quoted.join(" ");
    let script =
        format!("sed '{edit}' {path} > {path}.new && mv -f {path}.new {path} && {reload} > /dev/null");
    Some(Event::Break {
        node: "db1".into(),
        story: "a tuning tool edits our drop-in as user postgres, and reloads the server".into(),
        argv: words(&["sh", "-c", &script]),
        user: postgres.user(),
        // Never `setting`: over a Unix socket it is the session's own, which is 0.
        look: postgres.sql("select reset_val from pg_settings where name = 'tcp_keepalives_idle'"),
        want: None,
        item: postgres_item(postgres),
        about: Some("tcp_keepalives_idle".into()),
    })
}

fn postgres_role(scene: &Scene, tree: &Tree) -> Option<Event> {
    let postgres = kept_postgres(scene, tree)?;
    let statement = format!("alter role {ROLE} set tcp_keepalives_idle = 0");
    let query = format!(
        "select coalesce(array_to_string(setconfig, ','), '') from pg_db_role_setting s join pg_roles r on r.oid = \
         s.setrole where rolname = '{ROLE}'"
    );
    Some(Event::Break {
        node: "db1".into(),
        story: format!("somebody runs `{statement}`: no event tells of that, the slow pass finds it"),
        argv: postgres.statement(&statement),
        user: postgres.user(),
        look: postgres.sql(&query),
        want: Some(crate::looks::NOTHING.to_owned()),
        item: postgres_item(postgres),
        about: Some(format!("roles/{ROLE}/tcp_keepalives_idle")),
    })
}

/// A text with line `at` replaced by what `change` makes of it.
fn with_line(text: &str, at: usize, change: impl Fn(&str) -> String) -> String {
    let line = |(n, line): (usize, &str)| if n == at { change(line) } else { line.to_owned() };
    text.lines().enumerate().map(line).fold(String::new(), |text, line| text + &line + "\n")
}

fn commit(_: &Scene, tree: &Tree) -> Option<Event> {
    let (at, promise) = promised(tree)?;
    // To and fro, so that the show can go on for as long as it likes.
    let ((old, ..), (new, _, follows)) = (PROMISES[promise], PROMISES[1 - promise]);
    let change = |line: &str| line.replacen(&format!(": {old}"), &format!(": {new}"), 1);
    Some(Event::Commit {
        story: format!(
            "a commit sets {COMMITTED} of the path to the database to {new} in {FLEET}:{}",
            at + 1
        ),
        message: format!("a request may hang for {new}"),
        file: (FLEET.to_owned(), with_line(tree.get(FLEET)?, at, change)),
        nodes: &["mw1", "db1"],
        look: kernel(FOLLOWS),
        want: follows.to_owned(),
    })
}

fn bad_commit(_: &Scene, tree: &Tree) -> Option<Event> {
    let (path, at, _) = find_number(tree, KEY)?;
    let twice = |line: &str| {
        let indent = &line[..line.len() - line.trim_start().len()];
        format!("{line}\n{indent}{KEY}: 7200")
    };
    let text = with_line(tree.get(&path)?, at, twice);
    Some(Event::BadCommit {
        story: format!("a careless merge commits {KEY} twice"),
        message: "merge gone wrong".into(),
        place: format!("{path}:{}", at + 2),
        file: (path, text),
        look: kernel(KEY),
    })
}

#[cfg(test)]
mod tests {
    use super::{DRIFTS, with_line};
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = DRIFTS.iter().map(|drift| drift.name).collect();
        assert_eq!(names.len(), DRIFTS.len());
    }

    #[test]
    fn one_line_is_changed_and_the_rest_is_left() {
        assert_eq!(with_line("a\nb\nc\n", 1, |line| format!("{line}{line}")), "a\nbb\nc\n");
    }
}
