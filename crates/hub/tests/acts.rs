//! Acting from pages and by the API: who may do what, that nobody is made to do it, and that each act is in the log.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::cluster::sql;
use common::people::{Lab, OWN, apart, text};
use common::stores::{Kind, Where};
use common::{T0, item, report, seq};
use evenkeel_hub::http::{Hub, NEEDS, Need, Way, needed};
use evenkeel_hub::store::accounts::{Entry, Role};
use evenkeel_hub::store::registry::{Enrol, NewCertificate};
use evenkeel_hub::wire::Incoming;
use evenkeel_report::{Scope, Status};
use serde_json::{Value, json};
use std::sync::Arc;

on_every_store! {
    each_role_does_what_it_may_and_changes_nothing_else
    whoever_is_bound_to_a_tier_silences_in_it_alone
    no_form_does_anything_without_its_word_or_from_another_site
    what_is_not_noted_is_not_done
    a_silence_is_made_and_ended_from_its_page
    a_token_that_a_form_makes_is_shown_once_and_lets_in
    a_slot_is_freed_by_whoever_has_its_tier
}

/// What may be acted on, told as text: a refusal leaves it as it was.
fn standing(hub: &Arc<Hub>) -> String {
    apart(hub, |hub| {
        format!(
            "{:?} {:?} {:?} {:?} {:?}",
            hub.telling.silences(0).unwrap(),
            hub.registry.tokens().unwrap(),
            hub.registry.certificates().unwrap(),
            hub.slots.held().unwrap(),
            hub.accounts.store.log(None, 1000).unwrap().len()
        )
    })
}

/// Lets a node in, as if it had come with a token; who holds a certificate is a member.
fn let_in(hub: &Arc<Hub>, secret: &str, node: &str) -> bool {
    let token = evenkeel_hub::ca::fingerprint(secret.as_bytes());
    let certificate = NewCertificate {
        serial: format!("5e{}", node.len()),
        key: "key".to_owned(),
        from: T0,
        until: T0 + 86_400_000,
    };
    let ask = Enrol { token, node: node.to_owned(), now: T0, certificate };
    apart(hub, move |hub| hub.registry.enrol(&ask).unwrap().is_ok())
}

fn hold(hub: &Arc<Hub>, group: &'static str, id: &'static str) {
    apart(hub, move |hub| hub.slots.take(group, id, T0).unwrap());
}

/// An act by the API: method, address, body, and the code of who may.
type Deed = (&'static str, String, Value, u16);

async fn by_api(lab: &Lab, token: &str, (method, path, body, _): &Deed) -> (u16, Value) {
    let shown = format!("Bearer {token}");
    let headers = [("authorization", shown.as_str()), ("content-type", "application/json")];
    let answer = lab.send(method, path, &headers, &body.to_string()).await;
    let code = answer.status().as_u16();
    (code, serde_json::from_str(&text(answer).await).unwrap_or_default())
}

fn silence(tier: &str) -> Value {
    json!({"tier": tier, "reason": "the new kernel comes on Monday", "for": "48h"})
}

async fn each_role_does_what_it_may_and_changes_nothing_else(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let viewer = lab.account("vic", Role::Viewer);
    let other = lab.account_of("mia", Role::Operator, &["middleware"]);
    let own = lab.account_of("bob", Role::Operator, &["database"]);
    let all = lab.account("olga", Role::Operator);
    let admin = lab.account("ada", Role::Admin);
    let post = |path: &str, body, code| ("POST", path.to_owned(), body, code);
    let delete = |path: String| ("DELETE", path, Value::Null, 204);
    let (_, made) = by_api(&lab, &admin, &post("/api/v1/silences", silence("database"), 201)).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let (_, made) = by_api(&lab, &admin, &post("/api/v1/tokens", json!({"uses": 3}), 201)).await;
    let (token, secret) = (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap());
    assert!(let_in(&lab.hub, secret, "db1"));
    hold(&lab.hub, "database", "db1/service");

    // The acts of operators: who is of another tier may not, and neither may a viewer.
    let acts = [
        post("/api/v1/silences", silence("database"), 201),
        delete(format!("/api/v1/silences/{id}")),
        delete("/api/v1/slots/database/db1%2Fservice".to_owned()),
    ];
    for deed in &acts {
        for (who, word) in [(&viewer, "role"), (&other, "tier")] {
            let before = standing(&lab.hub);
            let (code, why) = by_api(&lab, who, deed).await;
            assert_eq!(
                (code, &why["type"]),
                (403, &format!("urn:evenkeel:problem:{word}").into()),
                "{deed:?}"
            );
            assert_eq!(standing(&lab.hub), before, "{deed:?}");
        }
        assert_eq!(by_api(&lab, &own, deed).await.0, deed.3, "{deed:?}");
    }
    assert_eq!(by_api(&lab, &all, &acts[0]).await.0, 201);
    // Those of administrators.
    let acts = [
        post("/api/v1/tokens", json!({"nodes": "mw*", "labels": {"tier": "middleware"}}), 201),
        delete(format!("/api/v1/tokens/{token}")),
        post("/api/v1/nodes/db1/ban", Value::Null, 204),
        post("/api/v1/nodes/db1/unban", Value::Null, 204),
        delete("/api/v1/nodes/db1".to_owned()),
    ];
    for deed in &acts {
        for who in [&viewer, &other, &own, &all] {
            let before = standing(&lab.hub);
            assert_eq!(by_api(&lab, who, deed).await.0, 403, "{deed:?}");
            assert_eq!(standing(&lab.hub), before, "{deed:?}");
        }
        assert_eq!(by_api(&lab, &admin, deed).await.0, deed.3, "{deed:?}");
    }
    for nobody in [delete("/api/v1/tokens/none".to_owned()), delete("/api/v1/nodes/nobody".to_owned())] {
        assert_eq!(by_api(&lab, &admin, &nobody).await.0, 404, "{nobody:?}");
    }
    let told: Vec<_> = lab.log().into_iter().map(|line| (line.who, line.what, line.origin)).collect();
    let line = |who: &str, what: &str| (who.to_owned(), what.to_owned(), "192.0.2.7".to_owned());
    let expected = [
        ("ada", "node_remove"),
        ("ada", "node_unban"),
        ("ada", "node_ban"),
        ("ada", "token_revoke"),
        ("ada", "token_create"),
        ("olga", "silence_add"),
        ("bob", "slot_free"),
        ("bob", "silence_end"),
        ("bob", "silence_add"),
        ("ada", "token_create"),
        ("ada", "silence_add"),
    ];
    assert_eq!(told, expected.map(|(who, what)| line(who, what)));
    let log = format!("{:?}", lab.log());
    assert!(log.contains("silence of tier database, node *, item * until 2026-11-25T01:02:03"), "{log}");
    assert!(!log.contains(secret), "no secret is in the log");
}

async fn whoever_is_bound_to_a_tier_silences_in_it_alone(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let own = lab.account_of("bob", Role::Operator, &["database", "*"]);
    let add = async |body: Value| by_api(&lab, &own, &("POST", "/api/v1/silences".to_owned(), body, 0)).await;
    for tier in ["middleware", "data*", "databas?", "[d]atabase", "*", ""] {
        assert_eq!(add(silence(tier)).await.0, 403, "{tier:?}");
    }
    let bare = json!({"node": "db1", "reason": "r", "for": "1h"});
    assert_eq!(add(bare).await.0, 403, "no tier is every tier");
    let mut odd = silence("database");
    for (key, value) in [("owner", json!("ada")), ("until", json!("2027-01-01T00:00:00Z"))] {
        odd[key] = value;
        assert!([400, 422].contains(&add(odd.clone()).await.0), "{odd}");
        odd.as_object_mut().unwrap().remove(key);
    }
    for (key, value) in [("reason", " "), ("reason", "a\nb"), ("for", "91d"), ("for", "soon"), ("node", "[")]
    {
        let mut wrong = silence("database");
        wrong[key] = value.into();
        assert_eq!(add(wrong.clone()).await.0, 400, "{wrong}");
    }
    let past = json!({"tier": "database", "reason": "r", "until": "2026-11-23T01:00:00Z"});
    assert_eq!(add(past).await.0, 400);
    let (code, made) = add(json!({"kind": "waiver", "tier": "database", "node": "db*", "reason": "r",
                                  "until": "2026-11-24T01:02:03Z"}))
    .await;
    assert_eq!(
        (code, &made["owner"], &made["kind"], &made["until"]),
        (201, &json!("bob"), &json!("waiver"), &json!("2026-11-24T01:02:03Z")),
        "{made}"
    );
}

/// Every address that takes forms, with what they would have to carry to do something.
fn forms() -> Vec<(&'static str, &'static str)> {
    let fields = |path: &str| match path {
        "/sign-out" => "",
        "/silences" => "&item=sysctl%2Fa&reason=r&for=1h",
        "/silences/end" | "/admin/tokens/revoke" => "&id=none",
        "/slots/free" => "&group=database&id=db1%2Fservice",
        "/admin/tokens" => "&nodes=*&expires=1h&uses=1",
        "/admin/nodes" => "&deed=ban&who=mw1",
        path => panic!("{path} takes a form: say here what it carries"),
    };
    let takes = |ways: &[(Way, Need)]| !matches!(needed(ways, Way::Post), Need::Own | Need::Closed);
    let all = NEEDS.iter().filter(|(path, ways)| takes(ways) && !path.starts_with("/api/"));
    all.map(|(path, _)| (*path, fields(path))).collect()
}

async fn no_form_does_anything_without_its_word_or_from_another_site(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    lab.account("ada", Role::Admin);
    let other = lab.cookie("ada").await;
    let cookie = lab.cookie("ada").await;
    let (word, others) = (lab.word(&cookie).await, lab.word(&other).await);
    assert_ne!(word, others, "each session has its own");
    hold(&lab.hub, "database", "db1/service");
    let own = [OWN[0], OWN[1], ("cookie", cookie.as_str())];
    let evil = [OWN[0], ("origin", "http://evil.example"), ("cookie", cookie.as_str())];
    let silent = [OWN[0], ("cookie", cookie.as_str())];
    let before = standing(&lab.hub);
    for (path, fields) in forms() {
        for wrong in
            [String::new(), "form=".into(), format!("form={others}"), format!("form={word}&form={word}")]
        {
            let code = lab.form(path, &own, &format!("{wrong}{fields}")).await.status();
            assert_eq!(code, 403, "{path} {wrong:?}");
        }
        for foreign in [&evil[..], &silent] {
            let code = lab.form(path, foreign, &format!("form={word}{fields}")).await.status();
            assert_eq!(code, 403, "{path} from another site");
        }
        let plain = [&own[..], &[("content-type", "text/plain")]].concat();
        let code = lab.send("POST", path, &plain, &format!("form={word}{fields}")).await.status();
        assert_eq!(code, 403, "{path} as plain text");
    }
    let json = [&own[..], &[("content-type", "application/json")]].concat();
    let code = lab.send("POST", "/api/v1/silences", &json, &silence("database").to_string()).await.status();
    assert_eq!(code, 403, "a browser's session does not act by the API without the word");
    assert_eq!(lab.send("DELETE", "/api/v1/nodes/mw1", &own, "").await.status(), 403);
    assert_eq!(standing(&lab.hub), before);
    // With the word each does something, or says that there is nothing to do it to.
    for (path, fields) in forms().into_iter().filter(|(path, _)| *path != "/sign-out") {
        let code = lab.form(path, &own, &format!("form={word}{fields}")).await.status().as_u16();
        assert!([200, 303, 404].contains(&code), "{path}: {code}");
    }
    assert_eq!(
        lab.log().iter().filter(|line| line.who == "ada" && !line.what.starts_with("sign")).count(),
        4
    );
}

/// Makes the log refuse every line, or take them again.
fn spoil(at: &Where, spoilt: bool) {
    match at.kind {
        Kind::Sqlite => {
            let conn = rusqlite::Connection::open(at.dir().join("hub.db")).unwrap();
            let text = "CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END";
            conn.execute_batch(if spoilt { text } else { "DROP TRIGGER no" }).unwrap();
        }
        _ => {
            let text = "CREATE TRIGGER no BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_stays()";
            sql(&at.url(), if spoilt { text } else { "DROP TRIGGER no ON audit" });
        }
    }
}

async fn what_is_not_noted_is_not_done(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let admin = lab.account("ada", Role::Admin);
    let (_, made) = by_api(&lab, &admin, &("POST", "/api/v1/silences".into(), silence("database"), 0)).await;
    let id = made["id"].as_str().unwrap();
    let (_, made) = by_api(&lab, &admin, &("POST", "/api/v1/tokens".into(), json!({}), 0)).await;
    assert!(let_in(&lab.hub, made["token"].as_str().unwrap(), "db1"));
    hold(&lab.hub, "database", "db1/service");
    let acts: [Deed; 8] = [
        ("POST", "/api/v1/silences".into(), silence("database"), 201),
        ("DELETE", format!("/api/v1/silences/{id}"), Value::Null, 204),
        ("DELETE", "/api/v1/slots/database/db1%2Fservice".into(), Value::Null, 204),
        ("POST", "/api/v1/tokens".into(), json!({}), 201),
        ("DELETE", format!("/api/v1/tokens/{}", made["id"].as_str().unwrap()), Value::Null, 204),
        ("POST", "/api/v1/nodes/db1/ban".into(), Value::Null, 204),
        ("POST", "/api/v1/nodes/5e3/ban".into(), Value::Null, 204),
        ("DELETE", "/api/v1/nodes/db1".into(), Value::Null, 204),
    ];
    spoil(&at, true);
    let before = standing(&lab.hub);
    for deed in &acts {
        assert_eq!(by_api(&lab, &admin, deed).await.0, 500, "{deed:?}");
        assert_eq!(standing(&lab.hub), before, "{deed:?}");
    }
    spoil(&at, false);
    for deed in &acts {
        assert_eq!(by_api(&lab, &admin, deed).await.0, deed.3, "{deed:?}");
    }
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
