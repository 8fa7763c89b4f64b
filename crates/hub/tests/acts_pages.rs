//! Acting from pages: what they offer to whom, and what comes of it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::people::{Lab, OWN, by_api, hold, let_in, text};
use common::stores::{Kind, Where};
use common::{item, report, seq};
use evenkeel_hub::store::accounts::{Entry, Role};
use evenkeel_hub::wire::Incoming;
use evenkeel_report::{Scope, Status};
use serde_json::Value;

on_every_store! {
    a_silence_is_made_and_ended_from_its_page
    a_token_that_a_form_makes_is_shown_once_and_lets_in
    a_slot_is_freed_by_whoever_has_its_tier
}

/// The links of a page that lead to a silence.
fn links(page: &str) -> Vec<String> {
    let links =
        page.split("href=\"/silences?").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    links.collect()
}

async fn a_silence_is_made_and_ended_from_its_page(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let all = [item("file//etc/[a]*", Status::NonCompliant)];
    let event = report("db1", seq(7, 1), Scope::Full, all.to_vec(), &all);
    lab.hub.writer.write(vec![Incoming::Report(Box::new(event))]).await.unwrap();
    lab.account_of("bob", Role::Operator, &["database"]);
    lab.account_of("mia", Role::Operator, &["middleware"]);
    lab.account("vic", Role::Viewer);
    let (bob, mia, vic) = (lab.cookie("bob").await, lab.cookie("mia").await, lab.cookie("vic").await);
    let page = async |cookie: &str, path: &str| lab.get(path, &[("cookie", cookie)]).await.1;
    for path in ["/drift", "/nodes/db1"] {
        assert_eq!(links(&page(&vic, path).await).len(), 0, "a viewer is offered nothing on {path}");
        assert_eq!(links(&page(&bob, path).await).len(), 1, "{path}");
    }
    assert!(links(&page(&mia, "/nodes/db1").await).is_empty(), "it is no node of her tier");
    // The item's name is no pattern, so what would be one is written as itself.
    let link = links(&page(&bob, "/nodes/db1").await).remove(0);
    assert_eq!(link, "tier=database&#38;node=db1&#38;item=file%2F%2Fetc%2F%5B%5B%5Da%5B%5D%5D%5B%2A%5D#make");
    let filled = page(&bob, &format!("/silences?{}", link.replace("&#38;", "&"))).await;
    assert!(
        filled.contains("value=\"file//etc/[[]a[]][*]\"") && filled.contains("<option selected>database"),
        "{filled}"
    );
    assert!(!page(&vic, "/silences").await.contains("<form"), "nor is he here");
    assert!(page(&bob, "/silences").await.contains(">bob</a>"), "it says who is signed in");

    let word = lab.word(&bob).await;
    let own = [OWN[0], OWN[1], ("cookie", bob.as_str())];
    let body =
        |more: &str| format!("form={word}&tier=database&node=db1&item=file%2F%2Fetc%2F%5B%5B%5Da%5D*{more}");
    let answer = lab.form("/silences", &own, &body("&reason=&for=4h")).await;
    assert_eq!(answer.status(), 400);
    let again = text(answer).await;
    assert!(again.contains("say the reason") && again.contains("value=\"db1\""), "{again}");
    let answer = lab.form("/silences", &own, &body("&reason=%3Cb%3Emove&for=7d&owner=eve&waiver=yes")).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["location"]),
        (303, &"/silences".parse().unwrap())
    );
    let listed = page(&bob, "/silences").await;
    assert!(listed.contains("1 silence is in force") && listed.contains("by bob,"), "{listed}");
    assert!(
        listed.contains("&#60;b&#62;move")
            && !listed.contains("<b>move")
            && listed.contains("7 days</span> left")
    );
    assert!(!page(&mia, "/silences").await.contains("End it now"), "it is not of her tier");
    assert!(page(&bob, "/nodes/db1").await.contains("not told"));
    assert!(links(&page(&bob, "/nodes/db1").await).is_empty(), "it is silenced already");

    let id = listed.split("name=\"id\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let mias = [OWN[0], OWN[1], ("cookie", mia.as_str())];
    let end = |word: &str| format!("form={word}&id={id}");
    let answer = lab.form("/silences/end", &mias, &end(&lab.word(&mia).await)).await;
    assert!(answer.status() == 403 && text(answer).await.contains("one of your tiers"));
    assert_eq!(lab.form("/silences/end", &own, &end(&word)).await.status(), 303);
    let listed = page(&vic, "/silences").await;
    assert!(listed.contains("Nothing is silenced") && listed.contains("just now</time> by bob"), "{listed}");
    assert_eq!(lab.form("/silences/end", &own, &end(&word)).await.status(), 404, "it has ended");
    lab.later(8 * 86_400_000);
    let cookie = lab.cookie("vic").await;
    assert!(!page(&cookie, "/silences").await.contains("Ended within"), "it was long ago");
}

async fn a_token_that_a_form_makes_is_shown_once_and_lets_in(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    lab.account("ada", Role::Admin);
    let cookie = lab.cookie("ada").await;
    let word = lab.word(&cookie).await;
    let own = [OWN[0], OWN[1], ("cookie", cookie.as_str())];
    let page = async || lab.get("/admin", &[("cookie", &cookie)]).await.1;
    let make = async |fields: &str| {
        let answer = lab.form("/admin/tokens", &own, &format!("form={word}&{fields}")).await;
        (answer.status().as_u16(), text(answer).await)
    };
    for wrong in
        ["nodes=[&expires=1h&uses=1", "nodes=*&expires=soon&uses=1", "nodes=*&expires=1h&uses=1&labels=tier"]
    {
        let (code, why) = make(wrong).await;
        assert!(code == 400 && why.contains("Nothing was changed"), "{wrong}: {why}");
    }
    let (code, once) = make("nodes=mw*&labels=tier%3Dmiddleware&expires=7d&uses=2").await;
    assert_eq!(code, 200);
    let secret = once.split("ekt_").nth(1).unwrap().split('<').next().unwrap();
    let secret = format!("ekt_{secret}");
    let listed = page().await;
    assert!(
        !listed.contains(&secret) && listed.contains("tier=middleware") && listed.contains("0 of 2"),
        "{listed}"
    );
    assert!(let_in(&lab.hub, &secret, "mw1") && !let_in(&lab.hub, &secret, "db1"));
    let post = async |path: &str, fields: &str| {
        lab.form(path, &own, &format!("form={word}&{fields}")).await.status().as_u16()
    };
    assert_eq!(post("/admin/nodes", "deed=ban&who=mw1").await, 303);
    assert!(page().await.contains(">Unban<"));
    assert_eq!(post("/admin/nodes", "deed=unban&who=mw1").await, 303);
    assert_eq!(post("/admin/nodes", "deed=remove&who=mw1").await, 303);
    assert!(page().await.contains("removed"));
    assert_eq!(post("/admin/nodes", "deed=remove&who=nobody").await, 404);
    assert_eq!(post("/admin/nodes", "deed=ban&who=a%20b").await, 400);
    assert_eq!(post("/admin/nodes", "deed=ban&who=a%00b").await, 400);
    let id = listed.split("name=\"id\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(post("/admin/tokens/revoke", &format!("id={id}")).await, 303);
    assert!(!let_in(&lab.hub, &secret, "mw22"));
    assert_eq!(post("/admin/tokens/revoke", "id=%00").await, 404);
}

async fn a_slot_is_freed_by_whoever_has_its_tier(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let bob = lab.account_of("bob", Role::Operator, &["database"]);
    let all = [item("a", Status::Compliant)];
    let event = report("db1", seq(7, 1), Scope::Full, all.to_vec(), &all);
    lab.hub.writer.write(vec![Incoming::Report(Box::new(event))]).await.unwrap();
    hold(&lab.hub, "database", "db1/service");
    hold(&lab.hub, "middleware", "mw1/service");
    let free = async |path: &str| {
        by_api(&lab, &bob, &("DELETE", format!("/api/v1/slots/{path}"), Value::Null, 0)).await
    };
    assert_eq!(free("middleware/mw1%2Fservice").await.0, 403);
    assert_eq!(free("database/db9%2Fservice").await.0, 404);
    assert_eq!(free("database/%00").await.0, 404);
    let (code, why) = free("database/db1%2Fservice").await;
    assert!(code == 409 && why["detail"].as_str().unwrap().contains("heard of just now"), "{why}");
    let cookie = lab.cookie("bob").await;
    let front = lab.get("/", &[("cookie", &cookie)]).await.1;
    assert!(front.contains("value=\"db1/service\"") && !front.contains("value=\"mw1/service\""), "{front}");
    assert_eq!(free("database/db1%2Fservice?although_alive=true").await.0, 204);
    let line: Entry = lab.log().remove(0);
    assert_eq!(
        (line.what.as_str(), line.about.as_str(), line.new.as_deref()),
        ("slot_free", "db1/service", Some("of database"))
    );
    // A node that nobody has heard of is not waited for.
    hold(&lab.hub, "database", "db7/service");
    assert_eq!(free("database/db7%2Fservice").await.0, 204);
}
