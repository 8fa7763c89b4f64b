//! What is read from cells is what the lines themselves say, whatever was entered, renamed and dropped before.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::{Facets, Filter, Line, NO_TIER, Named, News, Roll, TierTally};
use crate::liveness::{self, HubTimes};
use evenkeel_report::{Liveness, Seq, Status, Sync};
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeMap;
use std::sync::Arc;

const NOW: i64 = 1_000_000_000;
const TIMES: HubTimes = HubTimes { now: NOW, started: 0, up_before: None };
const TIERS: [&str; 4] = ["", "web", "db", "edge"];
const COMMITS: [&str; 3] = ["aaaaaaaaaa", "bbbbbbbbbb", "web"];

/// What is done to a roll.
#[derive(Debug, Clone)]
enum Deed {
    Enter(Box<Line>),
    Drop(i64),
    Note(i64, u8),
}

fn line() -> impl Strategy<Value = Line> {
    let commit = || prop::option::of(select(&COMMITS[..]).prop_map(Arc::from));
    let ages = select(&[0_i64, 20_000, 60_000, 90_000, 90_000_000][..]);
    let who = (0..24_i64, 0..30_u8, select(&TIERS[..]), ages, 1..4_u64);
    let states = select(&[Sync::Synced, Sync::Failed, Sync::Held, Sync::Unknown, Sync::OutOfSync][..]);
    let spec = (commit(), commit(), select(&["main", "test"][..]), states, prop::option::of(0..2_u64));
    let odd = [prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.1)];
    let twice = prop::option::weighted(0.2, select(&[NOW - 1, NOW - 2 * liveness::CLONE_MS][..]));
    let items = (select(&Status::ALL[..]), [0..3_u32, 0..3, 0..2], odd, twice);
    (who, spec, items).prop_map(|(who, spec, items)| {
        let ((key, name, tier, age, n), (commit, target, branch, sync, refused)) = (who, spec);
        let (worst, open, [stalled, unproved, retired], alternated) = items;
        Line {
            key,
            name: format!("n{name:02}").into(),
            source: format!("urn:{key}").into(),
            tier: tier.into(),
            last_seen: NOW - age,
            interval_s: 30,
            worst,
            open,
            items: 3,
            sync,
            commit,
            target,
            follows: branch.into(),
            refused,
            stalled,
            unproved,
            retired,
            alternated,
            said: (Seq { epoch: 1, n }, false),
        }
    })
}

fn a_line() -> Line {
    use proptest::strategy::ValueTree as _;
    line().new_tree(&mut proptest::test_runner::TestRunner::deterministic()).unwrap().current()
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => line().prop_map(|line| Deed::Enter(Box::new(line))),
        1 => (0..24_i64).prop_map(Deed::Drop),
        3 => (0..24_i64, 0..3_u8).prop_map(|(key, fact)| Deed::Note(key, fact)),
    ];
    prop::collection::vec(deed, 0..120)
}

fn filters() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let one = select(
        &[
            ("tier", "web"),
            ("tier", NO_TIER),
            ("tier", "gone"),
            ("liveness", "quiet"),
            ("liveness", "decommissioned"),
            ("status", "open"),
            ("status", "compliant"),
            ("sync", "failed"),
            ("even", "yes"),
            ("even", "no"),
            ("commit", "aaaaaaaaaa"),
            ("commit", "gone"),
            ("behind", "bbbbbbbbbb"),
            ("q", "n1"),
            ("q", "urn:7"),
        ][..],
    );
    prop::collection::vec(one, 0..3)
}

/// The same line with texts of its own.
fn fresh(line: &Line) -> Line {
    let text = |text: &Arc<str>| Arc::from(&**text);
    Line {
        tier: text(&line.tier),
        follows: text(&line.follows),
        commit: line.commit.as_ref().map(text),
        target: line.target.as_ref().map(text),
        ..line.clone()
    }
}

/// A roll after these deeds; the lines and the facts that it should have.
fn done(deeds: &[Deed]) -> (Roll, BTreeMap<i64, Line>, BTreeMap<i64, u8>) {
    let (roll, mut lines, mut facts) = (Roll::default(), BTreeMap::<i64, Line>::new(), BTreeMap::new());
    roll.write().sheets.wanted.facts.insert("f".to_owned());
    for deed in deeds {
        match deed {
            Deed::Enter(line) => {
                roll.enter([fresh(line)]);
                if lines.get(&line.key).is_none_or(|old| !line.is_older_than(old)) {
                    lines.insert(line.key, (**line).clone());
                }
            }
            Deed::Drop(key) => {
                roll.drop_lines([*key].iter());
                lines.remove(key);
                facts.remove(key);
            }
            Deed::Note(key, fact) => {
                let told: Named = [("f".to_owned(), fact.to_string())].into();
                roll.note([(*key, News { items: vec![("i".to_owned(), told)], ..News::default() })]);
                if lines.contains_key(key) {
                    facts.insert(*key, *fact);
                }
            }
        }
    }
    (roll, lines, facts)
}

fn sorted(lines: &BTreeMap<i64, Line>) -> Vec<&Line> {
    let mut all: Vec<&Line> = lines.values().collect();
    all.sort_by_key(|line| (Arc::clone(&line.name), Arc::clone(&line.source)));
    all
}

fn filter(params: &[(&str, &str)]) -> Filter {
    let param =
        |name: &str| params.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).to_owned());
    Filter::parse(param).unwrap()
}

/// A filter without one parameter.
fn without(params: &[(&str, &str)], name: &str) -> Filter {
    filter(&params.iter().filter(|(one, _)| *one != name).copied().collect::<Vec<_>>())
}

#[test]
fn how_bad_a_node_is() {
    let even = || Line {
        worst: Status::Compliant,
        open: [0; 3],
        sync: Sync::Synced,
        commit: Some("aaaaaaaaaa".into()),
        refused: None,
        stalled: false,
        unproved: false,
        retired: false,
        alternated: None,
        last_seen: NOW,
        ..a_line()
    };
    let cases: [(u8, Line); 14] = [
        (0, even()),
        (6, Line { open: [1, 1, 1], last_seen: 0, ..even() }),
        (5, Line { sync: Sync::Failed, open: [1, 1, 0], ..even() }),
        (4, Line { last_seen: NOW - 65_000, open: [1, 1, 0], ..even() }),
        (3, Line { open: [1, 1, 0], ..even() }),
        (3, Line { stalled: true, ..even() }),
        (3, Line { alternated: Some(NOW - 1), open: [1, 0, 0], ..even() }),
        (2, Line { alternated: Some(NOW - liveness::CLONE_MS), open: [1, 0, 0], ..even() }),
        (2, Line { open: [1, 0, 0], ..even() }),
        (2, Line { sync: Sync::OutOfSync, ..even() }),
        (1, Line { unproved: true, ..even() }),
        (1, Line { sync: Sync::Unknown, commit: None, ..even() }),
        (0, Line { sync: Sync::Unknown, ..even() }),
        (0, Line { open: [1, 1, 1], retired: true, ..even() }),
    ];
    for (severity, line) in cases {
        assert_eq!(line.severity(TIMES), severity, "{line:?}");
        let roll = Roll::default();
        roll.enter([line.clone()]);
        let lines = roll.read();
        let one = lines.all().next().unwrap();
        assert_eq!(one.severity(one.liveness(TIMES), NOW), severity, "{line:?}");
    }
}

proptest! {
    #[test]
    fn pages_that_follow_one_another_are_the_lines_that_fit_by_name(deeds in deeds(), params in filters(), limit in 1..6_usize) {
        let (roll, lines, _) = done(&deeds);
        let filter = filter(&params);
        let should: Vec<&Line> = sorted(&lines).into_iter().filter(|line| filter.fits(line, TIMES)).collect();
        let mut seen: Vec<Line> = vec![];
        loop {
            let after = seen.last().map(|line| (line.name.to_string(), line.source.to_string()));
            let after = after.as_ref().map(|(name, source)| (name.as_str(), Some(source.as_str())));
            let picked = roll.pick(&filter, after, limit, TIMES);
            prop_assert!(picked.lines.len() == limit || !picked.more);
            seen.extend(picked.lines);
            prop_assert_eq!(picked.more, seen.len() < should.len());
            if !picked.more {
                break;
            }
        }
        prop_assert_eq!(seen.iter().collect::<Vec<_>>(), should);
    }

    #[test]
    fn facets_count_what_a_filter_without_that_facet_leaves(deeds in deeds(), params in filters()) {
        let (roll, lines, _) = done(&deeds);
        let count = |filter: &Filter, is: &dyn Fn(&Line) -> bool| {
            lines.values().filter(|line| filter.fits(line, TIMES) && is(line)).count()
        };
        let whole = filter(&params);
        let facets: Facets = roll.facets(&whole, TIMES);
        prop_assert_eq!(facets.matching, count(&whole, &|_| true));
        for tier in TIERS {
            let told = facets.tier.get(tier).copied().unwrap_or_default();
            prop_assert_eq!(told, count(&without(&params, "tier"), &|line| &*line.tier == tier));
        }
        for (told, status) in facets.status.iter().zip(Status::ALL) {
            prop_assert_eq!(*told, count(&without(&params, "status"), &|line| line.worst == status));
        }
        for (told, (sync, _)) in facets.sync.iter().zip(super::SYNCS) {
            prop_assert_eq!(*told, count(&without(&params, "sync"), &|line| line.sync == sync));
        }
    }

    #[test]
    fn a_tally_counts_every_line_and_names_the_worst(deeds in deeds()) {
        let (roll, lines, _) = done(&deeds);
        let tally = roll.tally(5, TIMES);
        let kept: Vec<&Line> = sorted(&lines).into_iter().filter(|line| !line.retired).collect();
        let sums = |lines: &[&Line]| TierTally {
            nodes: lines.len(),
            uneven: lines.iter().filter(|line| !line.even(TIMES)).count(),
            quiet: lines.iter().filter(|line| matches!(line.liveness(TIMES), Liveness::Silent | Liveness::Missing)).count(),
            open: [0, 1, 2].map(|at| lines.iter().map(|line| u64::from(line.open[at])).sum()),
            synced: lines.iter().filter(|line| line.sync == Sync::Synced).count(),
            refusing: lines.iter().filter(|line| line.sync == Sync::Failed).count(),
            liveness: liveness::ALL.map(|alive| lines.iter().filter(|line| line.liveness(TIMES) == alive).count()),
        };
        let retired = lines.len() - kept.len();
        let mut all = sums(&kept);
        all.liveness[5] = retired;
        prop_assert_eq!(&tally.all, &all);
        for tier in TIERS {
            let its: Vec<&Line> = kept.iter().filter(|line| &*line.tier == tier).copied().collect();
            prop_assert_eq!(tally.tiers.get(tier).cloned().unwrap_or_default(), sums(&its));
        }
        for (commit, count) in &tally.commits {
            prop_assert_eq!(*count, kept.iter().filter(|line| line.commit == *commit).count());
        }
        prop_assert_eq!(tally.commits.iter().map(|(_, count)| count).sum::<usize>(), kept.len());
        let mut worst: Vec<&Line> = kept.iter().filter(|line| !line.even(TIMES)).copied().collect();
        worst.sort_by_key(|line| std::cmp::Reverse((line.severity(TIMES), line.open())));
        prop_assert_eq!(tally.worst.iter().collect::<Vec<_>>(), worst.into_iter().take(5).collect::<Vec<_>>());
        for refused in &tally.refused {
            let its: Vec<&Line> = kept.iter().filter(|line| line.refused == refused.first[0].refused).copied().collect();
            prop_assert_eq!(refused.nodes, its.len());
            prop_assert_eq!(refused.first.iter().collect::<Vec<_>>(), its.into_iter().take(5).collect::<Vec<_>>());
        }
    }

    #[test]
    fn groups_hold_the_nodes_that_tell_the_same(deeds in deeds()) {
        let (roll, lines, facts) = done(&deeds);
        let mut should: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        let gone = |line: &Line| matches!(line.liveness(TIMES), Liveness::Missing | Liveness::Decommissioned);
        for line in sorted(&lines).into_iter().filter(|line| !gone(line)) {
            if let Some(fact) = facts.get(&line.key) {
                should.entry((line.tier.to_string(), fact.to_string())).or_default().push(line.name.to_string());
            }
        }
        let told = roll.groups(TIMES).into_iter().map(|group| {
            let fact = group.sheet.items["i"]["f"].clone();
            assert!(group.nodes >= group.names.len());
            ((group.tier.to_string(), fact), group.names.iter().map(ToString::to_string).collect())
        });
        prop_assert_eq!(told.collect::<BTreeMap<_, Vec<String>>>(), should);
    }
}
