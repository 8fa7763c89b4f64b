//! Whatever order events come in, and however often: the database is the same. On real files, with a clock that
//! stands still, in every store.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::stores::{ALL, Kind, Where};
use common::{T0, beat, item, report, seq, source};
use evenkeel_hub::store::{Store, View};
use evenkeel_hub::wire::Incoming;
use evenkeel_hub::writer::{Written, commit};
use evenkeel_report::{Change, Event, Heartbeat, Item, Report, Scope, Status};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

in_every_store! {
    every_batch_three_times_in_any_order_is_the_same_database
    the_story_of_an_item_tells_every_change_and_nothing_twice
    an_older_report_that_comes_late_does_not_roll_an_item_back
    a_full_report_removes_what_it_does_not_list_unless_a_newer_one_set_it
    a_full_report_that_was_cut_removes_nothing
    what_is_gone_stays_gone_when_an_older_report_lists_it_late
    a_gap_is_seen_and_closes_when_the_report_comes_late
    a_full_report_above_a_gap_repeats_nothing_in_the_story_until_the_gap_shows_it_was_news
    a_heartbeat_tells_of_reports_that_never_came_but_not_of_those_that_wait
    a_digest_that_differs_asks_for_a_full_report_and_the_full_report_settles_it
    a_full_report_whose_own_digest_is_wrong_is_not_asked_for_again
    the_hubs_digest_is_the_nodes_after_a_repair_too
    a_spec_that_is_refused_is_in_the_history_also_when_only_a_heartbeat_told
    two_boot_ids_that_alternate_are_a_cloned_identity_and_a_reboot_is_not
    a_node_that_counts_backwards_is_flagged_and_still_heard_of
    what_was_put_right_beside_something_worse_is_an_event_of_its_own_whatever_the_order
    a_transaction_that_fails_leaves_nothing_behind
}

/// A store and what readers see of it.
struct Kept {
    store: Box<dyn Store>,
    view: Arc<dyn View>,
    at: Where,
}

impl Kept {
    fn new(kind: Kind) -> Self {
        let at = Where::new(kind);
        Self { store: at.store(), view: at.view(), at }
    }

    fn take(&mut self, events: &[Incoming]) -> Written {
        commit(self.store.as_mut(), &[events], T0 + 3_600_000).unwrap().remove(0)
    }

    fn view(&self) -> &dyn View {
        self.view.as_ref()
    }

    fn items(&self, name: &str) -> BTreeMap<String, Status> {
        let view = self.view();
        let key = view.node(name).unwrap().unwrap().key;
        view.items(key).unwrap().into_iter().map(|(id, row)| (id, row.status.unwrap())).collect()
    }

    /// The timeline of an item, oldest first.
    fn story(&self, name: &str, of: &str) -> Vec<(u64, String)> {
        let view = self.view();
        let key = view.node(name).unwrap().unwrap().key;
        let rows = view.timeline(key, None, 1000).unwrap().into_iter().rev();
        rows.filter(|row| row.item == of).map(|row| (row.place.seq.n, row.status)).collect()
    }
}

fn told(event: Event<Report>) -> Incoming {
    Incoming::Report(Box::new(event))
}

fn beats(event: Event<Heartbeat>) -> Incoming {
    Incoming::Beat(Box::new(event))
}

/// What may happen to a node between two reports.
#[derive(Debug, Clone)]
enum Turn {
    Set(u8, Status),
    Gone(u8),
    Full,
    FullWithout(u8),
    Beat,
}

fn turn() -> impl Strategy<Value = Turn> {
    let status = prop::sample::select(Status::ALL.to_vec());
    prop_oneof![
        6 => (0..4_u8, status).prop_map(|(id, status)| Turn::Set(id, status)),
        1 => (0..4_u8).prop_map(Turn::Gone),
        2 => Just(Turn::Full),
        1 => (0..4_u8).prop_map(Turn::FullWithout),
        2 => Just(Turn::Beat),
    ]
}

/// The events that a node would send in this life.
fn life(name: &str, epoch: u64, turns: &[Turn]) -> Vec<Incoming> {
    let mut state: BTreeMap<String, Item> = BTreeMap::new();
    let mut events = vec![];
    let mut n = 0;
    let mut time = T0;
    for turn in turns {
        time += 1000;
        if !matches!(turn, Turn::Beat) {
            n += 1;
        }
        let seq = seq(epoch, n);
        let mut event = match turn {
            Turn::Set(id, status) => {
                let id = format!("sysctl/{id}");
                let item = item(&id, *status);
                state.insert(id, item.clone());
                let all: Vec<_> = state.values().cloned().collect();
                report(name, seq, Scope::Changes, vec![item], &all)
            }
            Turn::Gone(id) => {
                let id = format!("sysctl/{id}");
                state.remove(&id);
                let all: Vec<_> = state.values().cloned().collect();
                let mut event = report(name, seq, Scope::Changes, vec![], &all);
                event.data.gone = vec![id];
                event
            }
            Turn::Full | Turn::FullWithout(_) => {
                if let Turn::FullWithout(id) = turn {
                    state.remove(&format!("sysctl/{id}"));
                }
                let all: Vec<_> = state.values().cloned().collect();
                report(name, seq, Scope::Full, all.clone(), &all)
            }
            Turn::Beat => {
                let all: Vec<_> = state.values().cloned().collect();
                events.push(beats(beat(name, seq, time, &all)));
                continue;
            }
        };
        event.time = evenkeel_report::Timestamp::from_unix_ms(time).unwrap();
        events.push(told(event));
        for item in state.values_mut() {
            *item = item_at_rest(item);
        }
    }
    events
}

/// How an item stands in the pass after.
fn item_at_rest(of: &Item) -> Item {
    Item {
        drift: if of.status == Status::Repaired { vec![] } else { of.drift.clone() },
        ..item(&of.id, of.status.settled())
    }
}

fn batches(events: &[Incoming], sizes: &[usize]) -> Vec<Vec<Incoming>> {
    let mut rest = events;
    let mut batches = vec![];
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            return batches;
        }
        let (batch, later) = rest.split_at((*size).min(rest.len()));
        batches.push(batch.to_vec());
        rest = later;
    }
    batches
}

fn dump_of(kind: Kind, batches: &[Vec<Incoming>]) -> String {
    let mut kept = Kept::new(kind);
    for batch in batches {
        kept.take(batch);
    }
    kept.at.dump()
}

fn cases(cases: u32) -> ProptestConfig {
    // A failure is told with its seed; a file of them would be left in the sources.
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Lines of the one that the other does not have.
fn only(a: &str, b: &str) -> Vec<String> {
    a.lines().filter(|line| !b.lines().any(|other| other == *line)).map(str::to_owned).collect()
}

fn every_batch_three_times_in_any_order_is_the_same_database(kind: Kind) {
    proptest!(cases(48), |(
        turns in prop::collection::vec(turn(), 1..24),
        sizes in prop::collection::vec(1..5_usize, 1..4),
        lost in prop::collection::vec(any::<bool>(), 24),
        seed in any::<u64>(),
    )| {
        let batches = two_lives(&turns, &sizes, &lost, seed);
        let once = dump_of(kind, &batches);
        let mut thrice: Vec<_> = std::iter::repeat_n(batches, 3).flatten().collect();
        shuffle(&mut thrice, seed);
        let again = dump_of(kind, &thrice);
        let (once_only, thrice_only) = (only(&once, &again), only(&again, &once));
        prop_assert!(again == once, "only once: {once_only:#?}\nonly thrice: {thrice_only:#?}");
    });
}

/// The batches of two nodes; some never come at all: gaps must not depend on the order either.
fn two_lives(turns: &[Turn], sizes: &[usize], lost: &[bool], seed: u64) -> Vec<Vec<Incoming>> {
    let mut events = life("mw1", 7, turns);
    events.extend(life("db1", 3, &turns[..turns.len() / 2]));
    let mut batches = batches(&events, sizes);
    let mut keep = lost.iter().cycle();
    batches.retain(|_| !keep.next().unwrap() || seed.is_multiple_of(2));
    batches
}

/// The node begins anew, with a greater epoch, and its older life comes late and mixed with it.
#[test]
fn every_store_holds_the_same_whatever_the_order_and_the_batches() {
    proptest!(cases(64), |(
        turns in prop::collection::vec(turn(), 1..40),
        sizes in prop::collection::vec(1..9_usize, 1..4),
        lost in prop::collection::vec(any::<bool>(), 24),
        seed in any::<u64>(),
    )| {
        let mut all = two_lives(&turns, &sizes, &lost, seed);
        all.extend(batches(&life("mw1", 9, &turns[turns.len() / 3..]), &sizes));
        shuffle(&mut all, seed);
        let [sqlite, postgres, memory] = ALL.map(|kind| dump_of(kind, &all));
        for (other, name) in [(&postgres, "PostgreSQL"), (&memory, "memory")] {
            let (here, there) = (only(&sqlite, other), only(other, &sqlite));
            prop_assert!(sqlite == *other, "only in SQLite: {here:#?}\nonly in {name}: {there:#?}");
        }
    });
}

fn the_story_of_an_item_tells_every_change_and_nothing_twice(kind: Kind) {
    proptest!(cases(48), |(turns in prop::collection::vec(turn(), 1..30), seed in any::<u64>())| {
        let mut events = life("mw1", 7, &turns);
        shuffle(&mut events, seed);
        let mut kept = Kept::new(kind);
        for event in events {
            kept.take(&[event]);
        }
        let expected = expected_story(&turns, "sysctl/1");
        let told = if turns.is_empty() { vec![] } else { kept.story("mw1", "sysctl/1") };
        prop_assert_eq!(told, expected);
    });
}

/// What one item went through, by the simplest means: every listing that differs from the one before.
fn expected_story(turns: &[Turn], id: &str) -> Vec<(u64, String)> {
    let mut story = vec![];
    let mut last = "compliant";
    let mut n = 0;
    for turn in turns.iter().filter(|turn| !matches!(turn, Turn::Beat)) {
        n += 1;
        match turn {
            Turn::Set(of, status) if format!("sysctl/{of}") == id => {
                if *status == Status::Repaired || status.word() != last {
                    story.push((n, status.word().to_owned()));
                }
                last = status.settled().word();
            }
            Turn::Gone(of) if format!("sysctl/{of}") == id && last != "gone" => {
                story.push((n, "gone".to_owned()));
                last = "gone";
            }
            _ => {}
        }
    }
    story
}

fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for at in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let with = usize::try_from(seed >> 33).unwrap() % (at + 1);
        items.swap(at, with);
    }
}

fn full(n: u64, items: Vec<Item>) -> Incoming {
    let all = items.clone();
    told(report("mw1", seq(7, n), Scope::Full, items, &all))
}

fn change(n: u64, one: Item, all: &[Item]) -> Incoming {
    told(report("mw1", seq(7, n), Scope::Changes, vec![one], all))
}

fn an_older_report_that_comes_late_does_not_roll_an_item_back(kind: Kind) {
    let mut kept = Kept::new(kind);
    kept.take(&[change(3, item("a", Status::Compliant), &[item("a", Status::Compliant)])]);
    kept.take(&[change(2, item("a", Status::Error), &[item("a", Status::Error)])]);
    assert_eq!(kept.items("mw1"), BTreeMap::from([("a".to_owned(), Status::Compliant)]));
    let story = kept.story("mw1", "a");
    assert_eq!(story, [(2, "error".to_owned()), (3, "compliant".to_owned())]);
}

fn a_full_report_removes_what_it_does_not_list_unless_a_newer_one_set_it(kind: Kind) {
    let mut kept = Kept::new(kind);
    let (a, b, c) = (item("a", Status::Pending), item("b", Status::Pending), item("c", Status::Pending));
    kept.take(&[full(1, vec![a.clone(), b])]);
    kept.take(&[change(3, c.clone(), &[a.clone(), c])]);
    kept.take(&[full(2, vec![a])]);
    assert_eq!(kept.items("mw1").keys().collect::<Vec<_>>(), ["a", "c"]);
}

fn a_full_report_that_was_cut_removes_nothing(kind: Kind) {
    let mut kept = Kept::new(kind);
    let (a, b) = (item("a", Status::Pending), item("b", Status::Pending));
    kept.take(&[full(1, vec![a.clone(), b.clone()])]);
    let mut cut = report("mw1", seq(7, 2), Scope::Full, vec![a.clone()], &[a, b]);
    cut.data.truncated = true;
    kept.take(&[told(cut)]);
    assert_eq!(kept.items("mw1").len(), 2);
}

fn what_is_gone_stays_gone_when_an_older_report_lists_it_late(kind: Kind) {
    let mut kept = Kept::new(kind);
    let mut gone = report("mw1", seq(7, 3), Scope::Changes, vec![], &[]);
    gone.data.gone = vec!["a".into()];
    kept.take(&[told(gone)]);
    let late = kept.take(&[change(2, item("a", Status::Pending), &[item("a", Status::Pending)])]);
    assert_eq!(late.duplicate, [false]);
    assert!(kept.items("mw1").is_empty());
    assert_eq!(kept.story("mw1", "a"), [(2, "pending".to_owned()), (3, "gone".to_owned())]);
}

fn a_gap_is_seen_and_closes_when_the_report_comes_late(kind: Kind) {
    let mut kept = Kept::new(kind);
    let a = item("a", Status::Compliant);
    let missing = |kept: &Kept| kept.view().node("mw1").unwrap().unwrap().doc.missing;
    kept.take(&[full(1, vec![a.clone()]), full(4, vec![a.clone()])]);
    assert_eq!(missing(&kept), 2);
    kept.take(&[full(3, vec![a.clone()])]);
    assert_eq!(missing(&kept), 1);
    kept.take(&[full(2, vec![a.clone()])]);
    assert_eq!(missing(&kept), 0);
    kept.take(&[full(6, vec![a.clone()])]);
    assert_eq!(missing(&kept), 1);
    kept.take(&[told(report("mw1", seq(8, 1), Scope::Full, vec![a.clone()], &[a]))]);
    assert_eq!(missing(&kept), 0, "a new epoch starts from nothing");
}

fn a_full_report_above_a_gap_repeats_nothing_in_the_story_until_the_gap_shows_it_was_news(kind: Kind) {
    let mut kept = Kept::new(kind);
    let (pending, fine) = (item("a", Status::Pending), item("a", Status::Compliant));
    kept.take(&[full(1, vec![pending.clone()])]);
    kept.take(&[full(3, vec![pending.clone()])]);
    assert_eq!(kept.story("mw1", "a"), [(1, "pending".to_owned())]);
    kept.take(&[change(2, fine.clone(), &[fine])]);
    let told = [(1, "pending".to_owned()), (2, "compliant".to_owned()), (3, "pending".to_owned())];
    assert_eq!(kept.story("mw1", "a"), told);
}

fn a_heartbeat_tells_of_reports_that_never_came_but_not_of_those_that_wait(kind: Kind) {
    let mut kept = Kept::new(kind);
    let a = item("a", Status::Compliant);
    kept.take(&[full(1, vec![a.clone()])]);
    let doc = |kept: &Kept| kept.view().node("mw1").unwrap().unwrap().doc;
    let mut waiting = beat("mw1", seq(7, 3), T0 + 9_000, &[]);
    waiting.data.spool.waiting = 2;
    let answer = kept.take(&[beats(waiting)]);
    assert_eq!((doc(&kept).missing, doc(&kept).digest_ok), (0, None));
    assert!(answer.want_full.is_empty());
    let answer = kept.take(&[beats(beat("mw1", seq(7, 3), T0 + 39_000, &[]))]);
    assert_eq!((doc(&kept).missing, doc(&kept).digest_ok), (2, Some(false)));
    assert_eq!(answer.want_full, ["mw1"]);
}

fn a_digest_that_differs_asks_for_a_full_report_and_the_full_report_settles_it(kind: Kind) {
    let mut kept = Kept::new(kind);
    let (a, b) = (item("a", Status::Pending), item("b", Status::Error));
    // The hub is new here, and the node tells only what changed.
    let answer = kept.take(&[change(5, a.clone(), &[a.clone(), b.clone()])]);
    assert_eq!(answer.want_full, ["mw1"]);
    let answer = kept.take(&[beats(beat("mw1", seq(7, 5), T0 + 9_000, &[a.clone(), b.clone()]))]);
    assert_eq!(answer.want_full, ["mw1"]);
    let answer = kept.take(&[full(6, vec![a, b])]);
    assert!(answer.want_full.is_empty());
    assert_eq!(kept.view().node("mw1").unwrap().unwrap().doc.digest_ok, Some(true));
}

fn a_full_report_whose_own_digest_is_wrong_is_not_asked_for_again(kind: Kind) {
    let mut kept = Kept::new(kind);
    let wrong = report("mw1", seq(7, 1), Scope::Full, vec![item("a", Status::Pending)], &[]);
    let answer = kept.take(&[told(wrong)]);
    assert!(answer.want_full.is_empty(), "asking again would go on for ever");
    assert_eq!(kept.view().node("mw1").unwrap().unwrap().doc.digest_ok, Some(false));
}

fn the_hubs_digest_is_the_nodes_after_a_repair_too(kind: Kind) {
    let mut kept = Kept::new(kind);
    let repaired = item("a", Status::Repaired);
    let answer = kept.take(&[full(1, vec![repaired])]);
    assert!(answer.want_full.is_empty());
    let answer = kept.take(&[beats(beat("mw1", seq(7, 1), T0 + 9_000, &[item("a", Status::Compliant)]))]);
    assert!(answer.want_full.is_empty());
}

fn a_spec_that_is_refused_is_in_the_history_also_when_only_a_heartbeat_told(kind: Kind) {
    let mut kept = Kept::new(kind);
    kept.take(&[full(1, vec![])]);
    let mut refused = beat("mw1", seq(7, 1), T0 + 9_000, &[]);
    refused.data.spec.sync = evenkeel_report::Sync::Failed;
    refused.data.spec.target_commit = Some("2222".into());
    refused.data.spec.errors = vec!["tiers/db.yaml:14: unknown key `valeu`".into()];
    kept.take(&[beats(refused.clone())]);
    refused.time = evenkeel_report::Timestamp::from_unix_ms(T0 + 39_000).unwrap();
    kept.take(&[beats(refused)]);
    let words: Vec<_> = kept.story("mw1", "").into_iter().map(|(_, word)| word).collect();
    assert_eq!(words, ["in_force", "failed"]);
}

fn two_boot_ids_that_alternate_are_a_cloned_identity_and_a_reboot_is_not(kind: Kind) {
    let mut kept = Kept::new(kind);
    let boot = |boot: &str, at: i64| {
        let mut event = beat("mw1", seq(7, 1), T0 + at, &[]);
        event.data.node.boot_id = boot.into();
        beats(event)
    };
    let flags = |kept: &Kept| {
        evenkeel_hub::liveness::flags(&kept.view().node("mw1").unwrap().unwrap().doc, T0 + 3_600_000)
    };
    kept.take(&[boot("one", 1), boot("two", 2)]);
    assert!(!flags(&kept).contains(&"cloned_identity"));
    kept.take(&[boot("one", 3)]);
    assert!(flags(&kept).contains(&"cloned_identity"));
}

fn a_node_that_counts_backwards_is_flagged_and_still_heard_of(kind: Kind) {
    let mut kept = Kept::new(kind);
    kept.take(&[full(5, vec![]), beats(beat("mw1", seq(7, 5), T0 + 9_000, &[]))]);
    kept.take(&[beats(beat("mw1", seq(7, 2), T0 + 90_000, &[]))]);
    let doc = kept.view().node(&source("mw1")).unwrap().unwrap().doc;
    assert!(evenkeel_hub::liveness::flags(&doc, T0).contains(&"rewound"));
    assert_eq!(doc.voice.seq.n, 5);
}

fn what_was_put_right_beside_something_worse_is_an_event_of_its_own_whatever_the_order(kind: Kind) {
    let pending = item("a", Status::Pending);
    let partly =
        Item { repaired: pending.drift.clone(), change: Some(Change::Corrective), ..pending.clone() };
    let events: Vec<Incoming> = [vec![pending.clone()], vec![partly.clone()], vec![pending], vec![partly]]
        .into_iter()
        .zip(1..)
        .map(|(items, n)| told(report("mw1", seq(1, n), Scope::Changes, items.clone(), &items)))
        .collect();
    let mut kept = Kept::new(kind);
    kept.take(&events);
    let expected: Vec<(u64, String)> =
        [(1, "pending"), (2, "repaired"), (4, "repaired")].map(|(n, word)| (n, word.to_owned())).into();
    assert_eq!(kept.story("mw1", "a"), expected);
    assert_eq!(kept.items("mw1")["a"], Status::Pending);
    let mut backwards = Kept::new(kind);
    events.iter().rev().for_each(|event| {
        backwards.take(std::slice::from_ref(event));
    });
    assert_eq!(backwards.story("mw1", "a"), expected);
}

#[test]
fn old_history_is_pruned_and_what_stands_is_not() {
    let kind = Kind::Sqlite;
    let mut kept = Kept::new(kind);
    let old = [full(1, vec![item("a", Status::Pending)])];
    commit(kept.store.as_mut(), &[&old], 1_000).unwrap();
    let new = [change(2, item("b", Status::Error), &[])];
    commit(kept.store.as_mut(), &[&new], 2_000).unwrap();
    assert_eq!(kept.store.prune(1_500, 1).unwrap(), 1);
    assert_eq!(kept.store.prune(1_500, 100).unwrap(), 1, "the item and the spec of the first report");
    assert_eq!(kept.story("mw1", "a"), []);
    assert_eq!(kept.story("mw1", "b").len(), 1);
    assert_eq!(kept.items("mw1").len(), 2);
    assert_eq!(kept.take(&old).duplicate, [true], "a number stays known when its history is gone");
}

#[test]
fn a_word_is_forgotten_with_the_last_row_that_says_it() {
    const DAY: i64 = 86_400_000;
    let mut kept = Kept::new(Kind::Sqlite);
    let open = |id| item(id, Status::Pending);
    let events = [
        (full(1, vec![open("a"), open("b")]), DAY),
        (change(2, item("b", Status::Error), &[]), 3 * DAY),
        (change(3, open("b"), &[]), 2 * DAY), // the hub's clock was set back
    ];
    for (event, now) in events {
        commit(kept.store.as_mut(), &[&[event]], now).unwrap();
    }
    let words = |kept: &Kept| {
        let conn = rusqlite::Connection::open(kept.at.dir().join("hub.db")).unwrap();
        let mut found =
            conn.prepare("SELECT word FROM words WHERE word IN ('a', 'b') ORDER BY word").unwrap();
        found.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<Vec<String>>>().unwrap()
    };
    assert_eq!(kept.store.prune(DAY + 1, 1).unwrap(), 1);
    assert_eq!(words(&kept), ["a", "b"], "not all that is old was forgotten yet");
    kept.store.prune(DAY + 1, 100).unwrap();
    assert_eq!(words(&kept), ["a", "b"], "the day is not over");
    kept.store.prune(2 * DAY, 100).unwrap();
    assert_eq!(words(&kept), ["b"]);
    assert_eq!(kept.story("mw1", "b").len(), 2);
    kept.store.prune(4 * DAY, 100).unwrap();
    assert_eq!((words(&kept).len(), kept.story("mw1", "b").len()), (0, 0));
    kept.take(&[full(4, vec![item("a", Status::Error)])]);
    assert_eq!(kept.story("mw1", "a").len(), 1);
}

fn a_transaction_that_fails_leaves_nothing_behind(kind: Kind) {
    use evenkeel_hub::store::StoreError;
    let mut kept = Kept::new(kind);
    let before = kept.at.dump();
    let Incoming::Report(event) = full(1, vec![item("a", Status::Pending)]) else { unreachable!() };
    let failed = kept.store.transaction(&mut |tx| {
        evenkeel_hub::merge::report(tx, &event, T0)?;
        Err(StoreError::Sql { doing: "failing on purpose", source: "test".into() })
    });
    assert!(failed.is_err());
    assert_eq!(kept.at.dump(), before);
}
