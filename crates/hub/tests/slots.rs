//! Slots on a real hub with a real store: who may be disturbed.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::stores::{Kind, Where};
use common::{Hub, client};
use serde_json::{Value, json};

on_every_store! {
    one_node_of_a_group_has_the_slot_and_the_next_has_it_when_it_is_given_back
    what_is_no_question_is_refused_in_the_protocols_words
    of_twenty_that_ask_at_once_one_has_it
}

async fn ask(hub: &Hub, what: &str, group: &str, id: &str) -> (u16, Value) {
    let body = json!({"client_params": {"id": id, "group": group}});
    let request = client().post(format!("{}/v1/{what}", hub.url)).header("fleet-lock-protocol", "true");
    let answer = request.json(&body).send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

async fn get(hub: &Hub, path: &str) -> String {
    client().get(format!("{}{path}", hub.url)).send().await.unwrap().text().await.unwrap()
}

async fn one_node_of_a_group_has_the_slot_and_the_next_has_it_when_it_is_given_back(kind: Kind) {
    let at = Where::new(kind);
    let hub = Hub::start(&at.url());
    assert_eq!(ask(&hub, "pre-reboot", "middleware", "mw1/service").await.0, 200);
    assert_eq!(ask(&hub, "pre-reboot", "middleware", "mw1/service").await.0, 200, "it has it already");
    let (status, why) = ask(&hub, "pre-reboot", "middleware", "mw2/service").await;
    assert_eq!((status, why), (409, json!({"kind": "failed_lock", "value": "mw1/service"})));
    assert_eq!(ask(&hub, "pre-reboot", "web", "web1/service").await.0, 200, "another group");
    assert_eq!(ask(&hub, "steady-state", "middleware", "mw2/service").await.0, 200, "it had none");
    assert_eq!(ask(&hub, "pre-reboot", "middleware", "mw2/service").await.0, 409);
    // Killed and started again, it still knows.
    drop(hub);
    let hub = Hub::start(&at.url());
    assert_eq!(ask(&hub, "pre-reboot", "middleware", "mw2/service").await.0, 409);
    let told: Value = serde_json::from_str(&get(&hub, "/api/v1/slots").await).unwrap();
    let held = &told["groups"][0]["held"][0];
    assert_eq!(
        (&held["id"], &held["node"], &told["groups"][0]["slots"]),
        (&json!("mw1/service"), &json!("mw1"), &json!(1))
    );
    assert!(held["since"].is_string());
    assert!(get(&hub, "/").await.contains("mw1/service</a> has the slot of middleware"));
    assert_eq!(ask(&hub, "steady-state", "middleware", "mw1/service").await.0, 200);
    assert_eq!(ask(&hub, "pre-reboot", "middleware", "mw2/service").await.0, 200);
}

async fn what_is_no_question_is_refused_in_the_protocols_words(kind: Kind) {
    let at = Where::new(kind);
    let hub = Hub::start(&at.url());
    let url = format!("{}/v1/pre-reboot", hub.url);
    let body = json!({"client_params": {"id": "a/b", "group": "g"}});
    let without = client().post(&url).json(&body).send().await.unwrap();
    assert_eq!(without.status().as_u16(), 400);
    assert!(without.text().await.unwrap().contains("fleet-lock-protocol"));
    for (group, id) in [("a b", "x"), ("g", "a b"), ("", "x"), ("g", "")] {
        let (status, why) = ask(&hub, "pre-reboot", group, id).await;
        assert_eq!((status, &why["kind"]), (400, &json!("bad_request")), "{group:?} {id:?}");
    }
}

async fn of_twenty_that_ask_at_once_one_has_it(kind: Kind) {
    let at = Where::new(kind);
    let hub = Hub::start(&at.url());
    let asked = (0..20).map(|n| {
        let request = client()
            .post(format!("{}/v1/pre-reboot", hub.url))
            .header("fleet-lock-protocol", "true")
            .json(&json!({"client_params": {"id": format!("mw{n}/service"), "group": "g"}}));
        tokio::spawn(async move { request.send().await.unwrap().status().as_u16() })
    });
    let asked: Vec<_> = asked.collect();
    let mut granted = 0;
    for one in asked {
        granted += usize::from(one.await.unwrap() == 200);
    }
    assert_eq!(granted, 1);
}
