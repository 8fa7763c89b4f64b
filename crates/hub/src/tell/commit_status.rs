//! How a commit stands in one environment, as a status beside the commit: even on so many of so many nodes, refused by
//! some, or on its way. The commit comes from what nodes say and is let into an address only as hexadecimal digits.

use super::fleet::{Fleet, is_silent};
use super::sinks::{CommitStatus, Forge, Sink};
use crate::http::encode;
use crate::pages::shown;
use evenkeel_report::{Status, Sync};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How often it is looked, and so how often a commit's status changes at most (ms).
pub(super) const LOOK_MS: i64 = 15_000;
/// The longest description that all three take.
const LONGEST: usize = 140;
/// How many commits are told at once.
const MOST: usize = 5;

/// What was told last, by commit.
pub(super) type Memo = BTreeMap<String, Told>;

/// How a commit was told to stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// How.
    pub(super) state: Verdict,
    /// In words.
    pub(super) text: String,
}

/// How a commit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// In force on every node, and nothing is off.
    Even,
    /// On its way, or something is still off.
    OnItsWay,
    /// A node refuses it, or is in error on it.
    Bad,
}

#[derive(Debug, Default)]
struct Count {
    targets: usize,
    even: usize,
    refused: Vec<String>,
    error: Vec<String>,
    off: usize,
    why: Option<String>,
}

fn is_commit(text: &str) -> bool {
    (7..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// How every commit that is asked for stands in the nodes of these tiers.
pub(super) fn verdicts(sink: &Sink, fleet: &Fleet, memo: &Memo) -> Memo {
    let of_sink = |tier: &String| sink.tiers.is_empty() || sink.tiers.contains(tier);
    let nodes: Vec<_> = fleet.nodes.iter().filter(|(row, _)| of_sink(&row.doc.node.tier)).collect();
    let silent = nodes.iter().filter(|(_, alive)| is_silent(*alive)).count();
    let mut commits: BTreeMap<&str, Count> = BTreeMap::new();
    for (row, alive) in &nodes {
        let doc = &row.doc;
        let Some(target) = doc.spec.target_commit.as_deref().filter(|commit| is_commit(commit)) else {
            continue;
        };
        let count = commits.entry(target).or_default();
        count.targets += 1;
        let name = shown(&doc.node.name);
        let in_force = doc.spec.observed_commit.as_deref() == Some(target) && doc.spec.sync == Sync::Synced;
        match doc.worst() {
            _ if doc.spec.sync == Sync::Failed => {
                count.why = count.why.take().or_else(|| doc.spec.errors.first().map(|why| shown(why)));
                count.refused.push(name);
            }
            _ if !in_force || is_silent(*alive) => {}
            Status::Error => count.error.push(name),
            worst if worst.is_open() => count.off += 1,
            _ => count.even += 1,
        }
    }
    // Silent nodes ask for what they last heard of: that is nobody's next commit.
    let asked: BTreeSet<&str> = nodes
        .iter()
        .filter(|(_, alive)| !is_silent(*alive))
        .filter_map(|(row, _)| row.doc.spec.target_commit.as_deref())
        .collect();
    let mut all = Memo::new();
    for (commit, count) in commits {
        let before = memo.get(commit);
        // A commit that was even everywhere and is followed by another stays what it was.
        let passed =
            before.filter(|old| old.state == Verdict::Even && asked.iter().any(|other| *other != commit));
        all.insert(
            commit.to_owned(),
            passed.cloned().unwrap_or_else(|| verdict(&count, nodes.len(), silent)),
        );
    }
    all
}

fn verdict(count: &Count, all: usize, silent: usize) -> Told {
    let (state, text) = if !count.refused.is_empty() {
        let why = count.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        (
            Verdict::Bad,
            format!("{} of {all} refused it ({}){why}", count.refused.len(), count.refused.join(", ")),
        )
    } else if !count.error.is_empty() {
        (
            Verdict::Bad,
            format!("{}/{all} even, {} in error ({})", count.even, count.error.len(), count.error.join(", ")),
        )
    } else if count.even == all {
        (Verdict::Even, format!("{all}/{all} even"))
    } else {
        let off = if count.off > 0 { format!(", {} with open items", count.off) } else { String::new() };
        let silent = if silent > 0 { format!(", {silent} silent") } else { String::new() };
        (Verdict::OnItsWay, format!("{}/{all} even{off}{silent}", count.even))
    };
    Told { state, text: text.chars().take(LONGEST).collect() }
}

/// What is to be told anew.
pub(super) fn changed<'a>(now: &'a Memo, memo: &Memo) -> Vec<(&'a str, &'a Told)> {
    let new = now.iter().filter(|(commit, told)| memo.get(*commit) != Some(told));
    new.map(|(commit, told)| (commit.as_str(), told)).take(MOST).collect()
}

/// A request: address, a header with the token, the body.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) url: String,
    pub(super) header: (&'static str, String),
    pub(super) body: Value,
}

/// What sets a status at the forge.
pub(super) fn ask(to: &CommitStatus, token: &str, commit: &str, told: &Told, link: Option<&str>) -> Ask {
    let context = format!("evenkeel/{}", to.environment);
    let base = |own: &str| to.url.as_deref().unwrap_or(own).trim_end_matches('/').to_owned();
    let state = |even, on_its_way, bad| match told.state {
        Verdict::Even => even,
        Verdict::OnItsWay => on_its_way,
        Verdict::Bad => bad,
    };
    let (url, header, mut body) = match to.forge {
        Forge::Github => (
            format!("{}/repos/{}/statuses/{commit}", base("https://api.github.com"), to.project),
            ("authorization", format!("Bearer {token}")),
            json!({"state": state("success", "pending", "failure"), "context": context}),
        ),
        Forge::Gitea => (
            format!("{}/api/v1/repos/{}/statuses/{commit}", base(""), to.project),
            ("authorization", format!("token {token}")),
            json!({"state": state("success", "pending", "failure"), "context": context}),
        ),
        Forge::Gitlab => (
            format!(
                "{}/api/v4/projects/{}/statuses/{commit}",
                base("https://gitlab.com"),
                encode(&to.project)
            ),
            ("private-token", token.to_owned()),
            json!({"state": state("success", "running", "failed"), "name": context}),
        ),
    };
    body["description"] = json!(told.text);
    if let Some(link) = link {
        body["target_url"] = json!(link);
    }
    Ask { url, header, body }
}
