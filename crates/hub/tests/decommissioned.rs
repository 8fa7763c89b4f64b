//! Nodes that were taken out: neither silent nor missing, told to nobody, shown to who asks, and forgotten in the end.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::lab::{Lab, names_of, sentence, told};
use common::stores::{Kind, Where};
use common::{item, source};
use evenkeel_hub::store::acts::Act;
use evenkeel_hub::store::registry::Mark;
use evenkeel_hub::store::{ON_ITS_WAY_MS, Store};
use evenkeel_hub::tell::fleet::Fleet;
use evenkeel_report::Status;
use std::sync::atomic::Ordering;

on_every_store! {
    a_node_that_was_taken_out_is_neither_silent_nor_missing
    a_node_that_speaks_again_is_one_again_and_its_name_may_be_anothers
    no_alert_goes_out_for_it_and_the_one_that_stood_ends
    it_is_forgotten_after_the_retention_with_all_that_it_told
}

const DAY: i64 = 86_400_000;

/// Takes a name out, as a command beside the hub does.
fn take_out(lab: &Lab, at: &Where, name: &str) -> bool {
    let now = lab.now.load(Ordering::SeqCst);
    let done = at.act(Act::Mark { name: name.to_owned(), mark: Mark::Removed, at: now });
    lab.hub.roll.look_again();
    done
}

async fn a_node_that_was_taken_out_is_neither_silent_nor_missing(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    assert!(!take_out(&lab, &at, "mw1"), "nobody was ever heard of under this name");
    lab.tell([told("mw1", 1, &[item("sysctl/a", Status::NonCompliant)])]).await;
    lab.tell([told("mw2", 1, &[item("sysctl/a", Status::Compliant)])]).await;
    assert!(
        lab.page("/").await.contains("1 of 2 are not even")
            || lab.page("/").await.contains("mw1 is not even")
    );
    assert!(take_out(&lab, &at, "mw1"));
    for (n, later) in [(2, 0), (3, 600_000), (4, 2 * DAY)] {
        lab.later(later);
        lab.tell([told("mw2", n, &[item("sysctl/a", Status::Compliant)])]).await;
        assert_eq!(sentence(&lab.page("/").await), "mw2 is even");
        assert_eq!(sentence(&lab.page("/drift").await), "Nothing is adrift");
        assert_eq!(names_of(&lab.json("/api/v1/nodes").await), ["mw2"]);
        assert!(sentence(&lab.page("/nodes/mw1").await).starts_with("mw1 was taken out "));
        assert_eq!(lab.json("/api/v1/nodes/mw1").await["liveness"], "decommissioned");
    }
    let gone = lab.json("/api/v1/nodes?liveness=decommissioned").await;
    assert_eq!(names_of(&gone), ["mw1"]);
    let nodes = lab.page("/nodes").await;
    assert_eq!(sentence(&nodes), "1 node");
    assert!(
        nodes.contains("href=\"/nodes?liveness=decommissioned\">decommissioned <span class=\"dim\">1<"),
        "{nodes}"
    );
    assert_eq!(sentence(&lab.page("/nodes?liveness=decommissioned").await), "1 of 2 nodes");
    let rollout = lab.json("/api/v1/rollout/1111111111111111").await;
    assert_eq!((&rollout["all"]["of"], &rollout["all"]["silent"]), (&1.into(), &0.into()));
    let (_, _, metrics) = lab.ask("/metrics", "*/*").await;
    for line in [
        "evenkeel_hub_nodes{liveness=\"decommissioned\"} 1",
        "evenkeel_hub_nodes{liveness=\"missing\"} 0",
        "evenkeel_hub_open_items{status=\"non_compliant\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(lab.page("/wall").await.contains("1 node, all even"));
    // Lifted, it is missing like any other.
    assert!(at.act(Act::Unmark("mw1".to_owned())));
    lab.hub.roll.look_again();
    assert_eq!(lab.json("/api/v1/nodes/mw1").await["liveness"], "missing");
    assert_eq!(names_of(&lab.json("/api/v1/nodes?liveness=missing").await), ["mw1"]);
}

async fn a_node_that_speaks_again_is_one_again_and_its_name_may_be_anothers(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    lab.tell([told("mw1", 1, &[item("a", Status::Compliant)])]).await;
    assert!(take_out(&lab, &at, "mw1"));
    lab.later(1000);
    lab.tell([told("mw1", 2, &[item("a", Status::Compliant)])]).await;
    assert!(lab.json("/api/v1/nodes").await["nodes"].as_array().unwrap().is_empty(), "it was on its way");
    lab.later(ON_ITS_WAY_MS);
    let mut other = told("mw1", 1, &[item("a", Status::Compliant)]);
    other.source = source("other");
    lab.tell([other]).await;
    let all = lab.json("/api/v1/nodes").await;
    assert_eq!((names_of(&all), &all["nodes"][0]["source"]), (vec!["mw1".into()], &source("other").into()));
    let old = lab.json(&format!("/api/v1/nodes/{}", source("mw1"))).await;
    assert_eq!(old["liveness"], "decommissioned", "the older machine of the name stays out");
    lab.tell([told("mw1", 3, &[item("a", Status::Compliant)])]).await;
    assert_eq!(lab.json("/api/v1/nodes").await["nodes"].as_array().unwrap().len(), 2, "it speaks again");
}

/// What the hub finds of the fleet, as whoever tells of it does.
fn look(lab: &Lab) -> Fleet {
    let (hub, times) = (lab.hub.clone(), lab.hub.times());
    let looking = std::thread::spawn(move || {
        hub.roll.refresh(&hub.view, times.now).unwrap();
        Fleet::look(hub.view.as_ref(), &[], times).unwrap()
    });
    looking.join().unwrap()
}

async fn no_alert_goes_out_for_it_and_the_one_that_stood_ends(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    lab.later(DAY);
    lab.tell([told("mw1", 1, &[item("a", Status::Error)])]).await;
    lab.tell([told("mw2", 1, &[item("a", Status::Compliant)])]).await;
    lab.later(600_000);
    lab.tell([told("mw2", 2, &[item("a", Status::Compliant)])]).await;
    let before = look(&lab);
    let found = before.found();
    assert_eq!((found.len(), found[0].node.as_str(), before.off.len()), (1, "mw1", 2));
    assert!(before.over(&found[0]).is_none(), "it is silent still");
    assert!(take_out(&lab, &at, "mw1"));
    let after = look(&lab);
    assert_eq!((after.off.len(), after.nodes.len()), (0, 1));
    let ended = after.over(&found[0]).unwrap();
    assert_eq!((ended.open, ended.status.as_str()), (false, "removed"));
}

fn prune(store: Box<dyn Store>, before: i64) -> usize {
    let mut store = store;
    std::thread::spawn(move || {
        let mut gone = 0;
        loop {
            let some = store.prune(before, 500).unwrap();
            gone += some;
            if some == 0 {
                return gone;
            }
        }
    })
    .join()
    .unwrap()
}

async fn it_is_forgotten_after_the_retention_with_all_that_it_told(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let began = lab.now.load(Ordering::SeqCst);
    for name in ["mw1", "mw2"] {
        lab.tell([told(name, 1, &[item("a", Status::Error)])]).await;
    }
    assert!(take_out(&lab, &at, "mw1"));
    prune(at.store(), began);
    assert_eq!(lab.json("/api/v1/nodes?liveness=decommissioned").await["nodes"].as_array().unwrap().len(), 1);
    lab.later(31 * DAY);
    assert!(prune(at.store(), began + DAY) >= 1);
    lab.hub.roll.look_again();
    assert_eq!(lab.ask("/api/v1/nodes/mw1", "*/*").await.0, 404);
    assert!(lab.json("/api/v1/nodes?liveness=decommissioned").await["nodes"].as_array().unwrap().is_empty());
    assert_eq!(lab.hub.roll.len(), 1);
    assert_eq!(
        lab.json("/api/v1/nodes/mw2").await["items"].as_array().unwrap().len(),
        1,
        "it is only missing"
    );
    let rows = at.dump();
    assert!(!rows.contains("urn:uuid:mw1"), "{rows}");
    let view = lab.hub.view.clone();
    assert!(std::thread::spawn(move || view.retired().unwrap()).join().unwrap().is_empty());
    // It comes back as one that nobody knew.
    lab.tell([told("mw1", 2, &[item("a", Status::Compliant)])]).await;
    assert_eq!(lab.json("/api/v1/nodes/mw1").await["liveness"], "online");
}
