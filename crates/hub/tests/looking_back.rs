//! A node's and the fleet's past over the API and on the pages, and the pictures of it, on every store.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::lab::{Lab, off, sentence};
use common::stores::{Kind, Where};
use common::{T0, item, report, seq};
use evenkeel_report::{Event, Item, Report, Scope, Status, Timestamp};
use serde_json::{Value, json};

on_every_store! {
    a_node_is_told_as_of_a_moment
    the_fleet_is_counted_as_of_a_moment
    a_moment_that_cannot_be_told_is_refused_with_why
    pictures_show_when_something_was_off
}

const MIN: i64 = 60_000;

/// A report of that many minutes after the beginning, in which each item went off when it says.
fn at(name: &str, n: u64, minutes: i64, mut items: Vec<Item>) -> Event<Report> {
    for item in &mut items {
        item.since = (item.status > Status::Compliant).then(|| when(minutes));
    }
    let mut event = report(name, seq(7, n), Scope::Full, items.clone(), &items);
    event.time = when(minutes);
    event
}

fn when(minutes: i64) -> Timestamp {
    Timestamp::from_unix_ms(T0 + minutes * MIN).unwrap()
}

/// mw1: a is even, off from 10 to 30, then even; b is repaired at 20. mw2: off from 5 on.
async fn story(lab: &Lab) {
    let compliant = |id: &str| item(id, Status::Compliant);
    lab.tell([at("mw1", 1, 0, vec![compliant("a"), compliant("b")]), at("mw2", 1, 0, vec![compliant("a")])])
        .await;
    lab.later(5 * MIN);
    lab.tell([at("mw2", 2, 5, vec![item("a", Status::Pending)])]).await;
    lab.later(5 * MIN);
    lab.tell([at("mw1", 2, 10, vec![off("a", Status::Error, "<1>"), compliant("b")])]).await;
    lab.later(10 * MIN);
    let mut still = off("a", Status::Error, "<1>");
    still.since = Some(when(10));
    lab.tell([at("mw1", 3, 20, vec![still, item("b", Status::Repaired)])]).await;
    lab.later(10 * MIN);
    lab.tell([at("mw1", 4, 30, vec![compliant("a"), compliant("b")])]).await;
    lab.later(10 * MIN);
}

fn statuses(told: &Value) -> Vec<String> {
    let text = |one: &Value, key: &str| one[key].as_str().unwrap_or("none").to_owned();
    let items = told["items"].as_array().unwrap().iter();
    items.map(|one| format!("{} {} {}", text(one, "id"), text(one, "status"), text(one, "known"))).collect()
}

async fn a_node_is_told_as_of_a_moment(kind: Kind) {
    let place = Where::new(kind);
    let lab = Lab::new(&place);
    story(&lab).await;
    let told = |minutes: i64| lab.json_of(format!("/api/v1/nodes/mw1?at={}", when(minutes)));
    assert_eq!(statuses(&told(9).await), ["a compliant unchanged", "b compliant unchanged"]);
    let then = told(15).await;
    assert_eq!(statuses(&then), ["a error told", "b compliant unchanged"]);
    assert_eq!(then["items"][0]["drift"][0]["observed"], json!("<1>"));
    assert_eq!(then["items"][0]["changed"], json!(when(10).to_string()));
    assert_eq!((&then["counts"]["error"], &then["counts"]["compliant"]), (&json!(1), &json!(1)));
    assert_eq!(then["spec"]["commit"], json!("1111111111111111"));
    assert_eq!(then["reaches_back_to"], json!(when(0).to_string()));
    assert_eq!(statuses(&told(20).await), ["a error told", "b compliant told"]);
    assert_eq!(statuses(&told(30).await), ["a compliant told", "b compliant told"]);
    let page = lab.page(&format!("/nodes/mw1?at={}", when(15))).await;
    assert!(sentence(&page).starts_with("1 item was off on mw1 at 2026-11-23 01:17:03 UTC"), "{page}");
    assert!(
        page.contains("<code>&#60;1&#62;</code>") && page.contains("may not have been kept yet"),
        "{page}"
    );
    let page = lab.page("/nodes/mw1?at=2026-11-23T01:33").await;
    assert!(sentence(&page).starts_with("Nothing was off on mw1"), "{page}");
}

async fn the_fleet_is_counted_as_of_a_moment(kind: Kind) {
    let place = Where::new(kind);
    let lab = Lab::new(&place);
    story(&lab).await;
    let of = |minutes: i64| lab.json_of(format!("/api/v1/fleet?at={}", when(minutes)));
    let items = |error, pending| json!({"error": error, "pending": pending, "non_compliant": 0});
    for (minutes, adrift, open) in [
        (1, 0, items(0, 0)),
        (5, 1, items(0, 1)),
        (15, 2, items(1, 1)),
        (25, 2, items(1, 1)),
        (31, 1, items(0, 1)),
    ] {
        let told = of(minutes).await;
        let mut found = told["items"].clone();
        // What the last change before says may lie before what is read: then it is only known that it was off.
        if let Some(off) = found.as_object_mut().unwrap().remove("off") {
            found["error"] = json!(found["error"].as_u64().unwrap() + off.as_u64().unwrap());
        }
        assert_eq!(
            (&told["adrift"], &found, &told["nodes"]),
            (&json!(adrift), &open, &json!(2)),
            "{minutes}: {told}"
        );
    }
}

async fn a_moment_that_cannot_be_told_is_refused_with_why(kind: Kind) {
    let place = Where::new(kind);
    let lab = Lab::new(&place);
    story(&lab).await;
    let ask = async |path: String| lab.ask(&path, "*/*").await;
    for path in ["/api/v1/nodes/mw1", "/api/v1/fleet", "/nodes/mw1"] {
        let (code, _, text) = ask(format!("{path}?at=yesterday")).await;
        assert!(code == 400 && text.contains("2026-11-23T10:00:00Z"), "{path}: {text}");
        let (code, _, text) = ask(format!("{path}?at={}", when(9999))).await;
        assert!(code == 400 && text.contains("not come yet"), "{path}: {text}");
        assert_eq!(ask(format!("{path}?att=2026-11-23T10:00:00Z")).await.0, 400, "{path}");
    }
    let (code, _, text) = ask(format!("/api/v1/nodes/mw1?at={}", when(-1))).await;
    assert!(code == 410 && text.contains("urn:evenkeel:problem:forgotten"), "{text}");
    assert!(text.contains(&format!("reaches back to {}", when(0))), "{text}");
    assert_eq!(ask(format!("/api/v1/nodes/nobody?at={}", when(1))).await.0, 404);
    let page = lab.page(&format!("/nodes/mw1?at={}", when(-1))).await;
    assert!(page.contains("reaches back to 2026-11-23 01:02:03 UTC"), "{page}");
    // A month later that is forgotten, by whatever day the store forgets.
    lab.later(31 * 24 * 60 * MIN);
    assert_eq!(ask(format!("/api/v1/nodes/mw1?at={}", when(15))).await.0, 410);
    assert_eq!(ask(format!("/api/v1/fleet?at={}", when(15))).await.0, 410);
}

async fn pictures_show_when_something_was_off(kind: Kind) {
    let place = Where::new(kind);
    let lab = Lab::new(&place);
    story(&lab).await;
    let page = lab.page("/nodes/mw1?hours=1").await;
    let title = |text: &str| assert!(page.contains(&format!("<title>{text}</title>")), "{text}: {page}");
    title("in error from 2026-11-23 01:12:03 to 2026-11-23 01:32:03, for 20 min");
    title("repaired from 2026-11-23 01:22:03 to 2026-11-23 01:22:03, for under 1 s");
    // An hour is 1440 wide and ends now, 40 minutes after the beginning: 10 to 30 minutes are 720 to 1200.
    assert!(page.contains(r#"<rect class="s-error" x="720" width="480""#), "{page}");
    assert!(page.contains(r#"<rect class="s-unseen" x="0" width="480""#), "not heard of before: {page}");
    assert!(page.contains("2 items were off in the last 1 h") && page.contains("As a table"), "{page}");
    let other = lab.page("/nodes/mw2").await;
    assert!(other.contains("<title>pending from 2026-11-23 01:07:03 to now, for 35 min</title>"), "{other}");
    let fleet = lab.page("/").await;
    assert!(fleet.contains("At most 2 nodes had something off at once"), "{fleet}");
    assert!(!fleet.contains("style="), "nothing that the policy forbids");
}
