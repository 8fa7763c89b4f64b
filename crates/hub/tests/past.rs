//! How a node stood at a moment in the past, against what was live at that moment, on every store: over random sequences of
//! reports, in their order and out of it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::stores::{Kind, Where};
use common::{T0, item, report, seq, source};
use evenkeel_hub::merge;
use evenkeel_hub::past::{Known, Past};
use evenkeel_hub::spans;
use evenkeel_hub::store::{Store, View};
use evenkeel_report::{Event, Item, Report, Scope, Status, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeMap;

in_every_store! {
    each_moment_is_told_as_it_was
    what_came_late_is_told_where_it_belongs
    what_was_forgotten_is_not_made_up
    an_item_that_left_without_a_word_is_told_so
    the_fleet_is_counted_as_it_was
}

const IDS: [&str; 4] = ["sysctl/a", "sysctl/b", "mount//c", "file//d"];
const STATUSES: [Status; 6] = [
    Status::Compliant,
    Status::Repaired,
    Status::Pending,
    Status::NonCompliant,
    Status::Error,
    Status::Skipped,
];

/// What an item does in one report: nothing, a status with a value, or it goes.
type Move = Option<Option<(usize, u8)>>;
type Moves = Vec<[Move; 4]>;

fn moves() -> impl Strategy<Value = Moves> {
    let one = prop_oneof![
        3 => Just(None),
        5 => (0..STATUSES.len(), 0u8..3).prop_map(|it| Some(Some(it))),
        1 => Just(Some(None)),
    ];
    prop::collection::vec([one.clone(), one.clone(), one.clone(), one], 1..14)
}

/// One second between two reports.
fn moment(n: usize) -> i64 {
    T0 + i64::try_from(n).unwrap() * 1000
}

/// The reports of these moves: the first lists everything, the others what changed.
fn reports(name: &str, moves: &Moves) -> Vec<Event<Report>> {
    let mut stands: BTreeMap<&str, Item> = BTreeMap::new();
    let mut began: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let mut all = vec![];
    for (at, step) in moves.iter().enumerate() {
        let (mut told, mut gone) = (vec![], vec![]);
        for (id, does) in IDS.into_iter().zip(step) {
            match does {
                None => {}
                Some(None) => {
                    began.remove(id);
                    gone.extend(stands.remove(id).map(|_| id.to_owned()));
                }
                Some(Some((status, value))) => {
                    let mut one = item(id, STATUSES[*status]);
                    one.drift.iter_mut().for_each(|drift| drift.observed = Some(value.to_string()));
                    // Since when it is off, as an agent tells it.
                    let open = one.status.is_open();
                    let since =
                        began.remove(id).unwrap_or_else(|| Timestamp::from_unix_ms(moment(at)).unwrap());
                    one.since = (open || one.status == Status::Repaired).then_some(since);
                    began.extend(open.then_some((id, since)));
                    told.push(one.clone());
                    stands.insert(id, one);
                }
            }
        }
        let stood: Vec<Item> = stands.values().cloned().collect();
        let scope = if at == 0 { Scope::Full } else { Scope::Changes };
        let mut event = report(name, seq(7, at as u64 + 1), scope, told, &stood);
        event.time = Timestamp::from_unix_ms(moment(at)).unwrap();
        event.data.gone = gone;
        let commit = format!("{:016}", at / 3);
        event.data.spec.observed_commit = Some(commit.clone());
        event.data.spec.target_commit = Some(commit);
        all.push(event);
    }
    all
}

fn tell(store: &mut dyn Store, event: &Event<Report>, now: i64) {
    store.transaction(&mut |tx| merge::report(tx, event, now).map(drop)).unwrap();
}

/// What can be compared: an item's status, what is off, and why.
type Stood = BTreeMap<String, (Status, Vec<Option<String>>, Option<String>)>;

fn live(view: &dyn View, name: &str) -> Stood {
    let row = view.node(&source(name)).unwrap().unwrap();
    let items = view.items(row.key).unwrap();
    let of = |drift: &[evenkeel_report::Drift]| drift.iter().map(|one| one.observed.clone()).collect();
    items
        .into_iter()
        .map(|(id, it)| (id, (it.status.unwrap(), of(&it.detail.drift), it.detail.reason)))
        .collect()
}

/// What is told of a moment, against what was live then. What was compliant and never changed may be told before it came.
fn compare(past: &Past, stood: &Stood) -> Result<(), TestCaseError> {
    let mut told: Stood = BTreeMap::new();
    for (id, was) in &past.items {
        if was.known == Known::Unchanged && !stood.contains_key(id) {
            prop_assert_eq!(was.item.status, Some(Status::Compliant));
            continue;
        }
        let off = was.item.detail.drift.iter().map(|one| one.observed.clone()).collect();
        told.insert(id.clone(), (was.item.status.unwrap(), off, was.item.detail.reason.clone()));
    }
    prop_assert_eq!(&told, stood);
    Ok(())
}

fn run(cases: u32, kind: Kind, test: impl Fn(&str, Moves, Vec<u32>) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let count = std::cell::Cell::new(0);
    let order = prop::collection::vec(any::<u32>(), 14);
    let ran = runner.run(&(moves(), order), |(moves, order)| {
        count.set(count.get() + 1);
        test(&format!("mw{}", count.get()), moves, order)
    });
    ran.unwrap_or_else(|why| panic!("{kind:?}: {why}"));
}

fn each_moment_is_told_as_it_was(kind: Kind) {
    let at = Where::new(kind);
    let store = std::cell::RefCell::new(at.store());
    let view = at.view();
    run(if kind == Kind::Postgres { 24 } else { 96 }, kind, |name, moves, _| {
        let mut lived = vec![];
        for (at, event) in reports(name, &moves).iter().enumerate() {
            tell(&mut **store.borrow_mut(), event, moment(at));
            lived.push(live(view.as_ref(), name));
        }
        let row = view.node(&source(name)).unwrap().unwrap();
        for (at, stood) in lived.iter().enumerate() {
            // At the very moment, and just before the next.
            for at in [moment(at), moment(at) + 999] {
                let past = Past::look(view.as_ref(), &row, at, 0).unwrap();
                prop_assert!(past.reached());
                compare(&past, stood)?;
            }
            let past = Past::look(view.as_ref(), &row, moment(at), 0).unwrap();
            let commit = past.spec.and_then(|spec| spec.commit);
            prop_assert_eq!(commit, Some(format!("{:016}", at / 3)));
        }
        prop_assert!(!Past::look(view.as_ref(), &row, T0 - 1, 0).unwrap().reached());
        Ok(())
    });
}

fn what_came_late_is_told_where_it_belongs(kind: Kind) {
    let (at, straight) = (Where::new(kind), Where::new(kind));
    let (store, other) = (std::cell::RefCell::new(at.store()), std::cell::RefCell::new(straight.store()));
    let (view, other_view) = (at.view(), straight.view());
    run(if kind == Kind::Postgres { 16 } else { 64 }, kind, |name, moves, order| {
        let events = reports(name, &moves);
        let mut lived = vec![];
        for (at, event) in events.iter().enumerate() {
            tell(&mut **other.borrow_mut(), event, moment(at));
            lived.push(live(other_view.as_ref(), name));
        }
        // All of them out of a spool, in any order, an hour later.
        let mut shuffled: Vec<_> = events.iter().zip(order).collect();
        shuffled.sort_by_key(|(_, key)| *key);
        for (event, _) in shuffled {
            tell(&mut **store.borrow_mut(), event, T0 + 3_600_000);
        }
        let mut row = view.node(&source(name)).unwrap().unwrap();
        // The hub met it then, and its history goes further back.
        row.doc.first_seen = T0;
        for (at, stood) in lived.iter().enumerate() {
            compare(&Past::look(view.as_ref(), &row, moment(at), 0).unwrap(), stood)?;
        }
        Ok(())
    });
}

fn what_was_forgotten_is_not_made_up(kind: Kind) {
    let at = Where::new(kind);
    let mut store = at.store();
    let steps = [
        [Some(Some((4, 0))), Some(Some((0, 0))), Some(Some((2, 1))), None],
        [Some(Some((1, 0))), None, None, None],
    ];
    let events = reports("mw1", &steps.to_vec());
    tell(&mut *store, &events[0], T0);
    tell(&mut *store, &events[1], T0 + 1000);
    let view = at.view();
    let row = view.node("mw1").unwrap().unwrap();
    // The store keeps what came from the second report on.
    let told = Past::look(view.as_ref(), &row, T0 + 500, T0 + 600).unwrap();
    assert!(!told.reached() && told.items.is_empty() && told.reaches == T0 + 600);
    if kind == Kind::Memory {
        return;
    }
    let pruned = match kind {
        // A day at a time.
        Kind::Postgres => 0,
        _ => store.prune(T0 + 600, 1000).unwrap(),
    };
    if pruned == 0 {
        return;
    }
    let told = Past::look(view.as_ref(), &row, T0 + 700, T0 + 600).unwrap();
    let known = |id: &str| (told.items[id].known, told.items[id].item.status);
    assert_eq!(known("sysctl/a"), (Known::Forgotten, None), "it was repaired later, so something was off");
    assert_eq!(known("sysctl/b"), (Known::Told, Some(Status::Compliant)), "nothing has changed since");
    assert_eq!(known("mount//c"), (Known::Told, Some(Status::Pending)), "nothing has changed since");
    let told = Past::look(view.as_ref(), &row, T0 + 1000, T0 + 600).unwrap();
    assert_eq!(told.items["sysctl/a"].item.status, Some(Status::Compliant));
}

fn an_item_that_left_without_a_word_is_told_so(kind: Kind) {
    let at = Where::new(kind);
    let mut store = at.store();
    let off = [item("sysctl/a", Status::Error), item("sysctl/b", Status::Error)];
    tell(&mut *store, &report("mw1", seq(7, 1), Scope::Full, off.to_vec(), &off), T0 + 1000);
    tell(&mut *store, &report("mw1", seq(7, 2), Scope::Full, off[1..].to_vec(), &off[1..]), T0 + 2000);
    let view = at.view();
    let row = view.node("mw1").unwrap().unwrap();
    let told = Past::look(view.as_ref(), &row, T0 + 1500, 0).unwrap();
    let known = |id: &str| (told.items[id].known, told.items[id].item.status);
    assert_eq!(known("sysctl/a"), (Known::Left, Some(Status::Error)));
    assert_eq!(known("sysctl/b"), (Known::Told, Some(Status::Error)));
    assert_eq!((told.open(), told.count(Status::Error)), (2, 2));
}

fn the_fleet_is_counted_as_it_was(kind: Kind) {
    if kind == Kind::Memory {
        return;
    }
    run(if kind == Kind::Postgres { 8 } else { 24 }, kind, |name, moves, _| {
        let place = Where::new(kind);
        let (mut store, view) = (place.store(), place.view());
        let mut lived = vec![];
        for (at, event) in reports(name, &moves).iter().enumerate() {
            tell(&mut *store, event, moment(at));
            lived.push(live(view.as_ref(), name));
        }
        for (at, stood) in lived.iter().enumerate() {
            let told = spans::moment(view.as_ref(), &|_| true, moment(at), moment(lived.len())).unwrap();
            let off = |id: &str| stood.get(id).is_some_and(|(status, ..)| status.is_open());
            let most = IDS.iter().filter(|id| off(id)).count();
            let count: usize = told.items.values().sum();
            prop_assert_eq!(count, most, "{}: {:?}, {:?}", at, told, stood);
            prop_assert_eq!(told.nodes, usize::from(count > 0));
        }
        Ok(())
    });
}
