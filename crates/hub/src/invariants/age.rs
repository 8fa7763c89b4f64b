//! What gets too old: a node's certificate that was not renewed, a spec that others have left behind.

use super::{Broken, Says};
use crate::liveness::HubTimes;
use crate::roll::{Each, Line, Roll, TextId};
use crate::store::registry::Registry;
use crate::store::{Result, View};
use evenkeel_report::{Liveness, Sync};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// How long it is believed what certificates there are (ms).
const CERTIFICATES_MS: i64 = 300_000;

/// What is remembered between two looks, because it is dear to ask.
#[derive(Debug, Default)]
pub(super) struct Ages {
    /// When they were read, and until when each node's newest certificate holds (unix ms).
    certificates: Option<(i64, Vec<(String, i64)>)>,
    /// When each commit was first heard to be in force (unix ms).
    first: HashMap<Arc<str>, i64>,
    /// By what is followed, the newest commit, and since when it is that (unix ms).
    newest: HashMap<Arc<str>, (Arc<str>, i64)>,
}

/// The newest certificate of every node that is let in.
fn newest(members: &dyn Registry) -> Result<Vec<(String, i64)>> {
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for one in members.certificates()? {
        if one.newest && !one.banned && one.mark.is_none() {
            let end = last.entry(one.name).or_default();
            *end = one.until.max(*end);
        }
    }
    Ok(last.into_iter().collect())
}

impl Ages {
    /// Nodes that are heard of and whose certificate should have been renewed: agents do that at two thirds of its life
    /// (ms), and another thirtieth is grace. That is a day for a certificate of thirty.
    pub(super) fn certificates(
        &mut self,
        members: &dyn Registry,
        roll: &Roll,
        life: i64,
        times: HubTimes,
    ) -> Result<Vec<Broken>> {
        let now = times.now;
        if self.certificates.as_ref().is_none_or(|(at, _)| now.saturating_sub(*at) >= CERTIFICATES_MS) {
            self.certificates = Some((now, newest(members)?));
        }
        let due = |until: i64| until - life / 3 + life / 30;
        let all = self.certificates.iter().flat_map(|(_, all)| all);
        // By name, as they were read.
        let late = all.filter(|(_, until)| due(*until) < now);
        let mut broken: BTreeMap<String, (BTreeMap<i64, Says>, i64)> = BTreeMap::new();
        let lines = roll.read();
        for (name, until) in late {
            let heard = |line: &&Line| matches!(line.liveness(times), Liveness::Online | Liveness::Late);
            for line in lines.named(name).filter(heard) {
                let (says, since) = broken.entry(line.tier.to_string()).or_insert((BTreeMap::new(), now));
                *since = due(*until).min(*since);
                // By the day, so that a fleet that was let in together is one line.
                let day = until.div_euclid(86_400_000);
                says.entry(day).or_insert_with(|| Says::new(ends(*until, now))).name(&line.name);
            }
        }
        let put = |(tier, (says, since)): (String, (BTreeMap<i64, Says>, i64))| Broken {
            says: says.into_values().collect(),
            since: Some(since),
            ..Broken::at(&tier, "certificate")
        };
        Ok(broken.into_iter().map(put).collect())
    }

    /// Nodes with another commit in force than the newest, which has been that for longer than `behind` (ms). The newest is
    /// what most nodes that are heard of ask for, of those that follow the same branch of the same repository.
    pub(super) fn specs(
        &mut self,
        view: &dyn View,
        roll: &Roll,
        behind: i64,
        times: HubTimes,
    ) -> Result<Vec<Broken>> {
        self.find_newest(view, roll, times)?;
        let lines = roll.read();
        let over = self.newest.iter().filter(|(_, (_, since))| times.now.saturating_sub(*since) > behind);
        let over: HashMap<TextId, (Option<TextId>, &Arc<str>)> = over
            .filter_map(|(follows, (newest, _))| Some((lines.id(follows)?, (lines.id(newest), newest))))
            .collect();
        let mut broken: BTreeMap<(&Arc<str>, String), BTreeMap<String, Says>> = BTreeMap::new();
        let mut last = None;
        for one in lines.by_name() {
            let cell = one.cell;
            // Neighbours mostly follow the same.
            if last.is_none_or(|(follows, _)| follows != cell.follows) {
                last = Some((cell.follows, over.get(&cell.follows)));
            }
            let Some((_, Some((id, newest)))) = last else { continue };
            if cell.commit.is_none() || cell.commit == *id || cell.marks.sync == Sync::Held {
                continue;
            }
            if !matches!(one.liveness(times), Liveness::Online | Liveness::Late) {
                continue;
            }
            let Some((line, commit)) = one.line().and_then(|line| Some((line, line.commit.as_ref()?))) else {
                continue;
            };
            let refused = if line.refused.is_some() { ", and refuses a newer one" } else { "" };
            let says = broken.entry((newest, line.tier.to_string())).or_default();
            let value = format!("{}{refused}", short(commit));
            says.entry(value.clone()).or_insert_with(|| Says::new(value)).name(&line.name);
        }
        drop(lines);
        let since =
            |newest: &Arc<str>| self.newest.values().find(|(one, _)| one == newest).map(|(_, since)| *since);
        let put = |((newest, tier), says): ((&Arc<str>, String), BTreeMap<String, Says>)| Broken {
            says: says.into_values().collect(),
            since: since(newest),
            ..Broken::at(&tier, &format!("commit {}", short(newest)))
        };
        Ok(broken.into_iter().map(put).collect())
    }

    fn find_newest(&mut self, view: &dyn View, roll: &Roll, times: HubTimes) -> Result<()> {
        let lines = roll.read();
        let mut counts: Each<(TextId, TextId), usize> = Each::default();
        for one in lines.all() {
            if let Some(target) = one.cell.target
                && matches!(one.liveness(times), Liveness::Online | Liveness::Late)
            {
                *counts.of((one.cell.follows, target)) += 1;
            }
        }
        let mut asked: HashMap<Arc<str>, HashMap<Arc<str>, usize>> = HashMap::new();
        for ((follows, target), count) in counts.into_each() {
            if let (Some(follows), Some(target)) = (lines.text(follows), lines.text(target)) {
                asked.entry(Arc::clone(follows)).or_default().insert(Arc::clone(target), count);
            }
        }
        drop(lines);
        self.newest.retain(|follows, _| asked.contains_key(follows));
        let known: HashSet<&Arc<str>> = asked.values().flat_map(HashMap::keys).collect();
        self.first.retain(|commit, _| known.contains(commit));
        for (follows, commits) in &asked {
            let most = commits.values().max().copied().unwrap_or_default();
            let mut best: Option<(i64, &Arc<str>)> = None;
            for commit in commits.iter().filter(|(_, nodes)| **nodes == most).map(|(commit, _)| commit) {
                let first = self.first_heard(view, commit, times.now)?;
                best = best.max(Some((first, commit)));
            }
            let Some((first, commit)) = best else { continue };
            let since = match self.newest.get(follows) {
                Some((known, _)) if known == commit => continue,
                // The branch was set back to a commit that had been in force before: it is the newest from now on.
                Some((_, since)) if first <= *since => times.now,
                _ => first,
            };
            self.newest.insert(Arc::clone(follows), (Arc::clone(commit), since));
        }
        Ok(())
    }

    fn first_heard(&mut self, view: &dyn View, commit: &Arc<str>, now: i64) -> Result<i64> {
        if let Some(first) = self.first.get(commit) {
            return Ok(*first);
        }
        let first = view.taken(commit)?.into_iter().map(|(_, at)| at).min();
        if let Some(first) = first {
            self.first.insert(Arc::clone(commit), first);
        }
        Ok(first.unwrap_or(now))
    }
}

fn short(commit: &str) -> String {
    commit.chars().take(10).collect()
}

fn ends(until: i64, now: i64) -> String {
    let day = |ms: i64| evenkeel_report::Timestamp::from_unix_ms(ms).map(|at| at.get().date().to_string());
    let word = if until < now { "ended on" } else { "ends on" };
    format!("{word} {}", day(until).unwrap_or_default())
}
