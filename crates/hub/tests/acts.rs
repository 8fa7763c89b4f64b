//! Acting by role: who may do what, that nobody is made to do it, and that each act is in the log.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::cluster::sql;
use common::people::{Deed, Lab, OWN, by_api, hold, let_in, silence, standing};
use common::stores::{Kind, Where};
use evenkeel_hub::http::{NEEDS, Need, Way, needed};
use evenkeel_hub::store::accounts::Role;
use serde_json::{Value, json};

on_every_store! {
    each_role_does_what_it_may_and_changes_nothing_else
    whoever_is_bound_to_a_tier_silences_in_it_alone
    no_form_does_anything_without_its_word_or_from_another_site
    what_is_not_noted_is_not_done
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
    if at.kind == Kind::Sqlite {
        let conn = rusqlite::Connection::open(at.dir().join("hub.db")).unwrap();
        let text = "CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END";
        conn.execute_batch(if spoilt { text } else { "DROP TRIGGER no" }).unwrap();
        return;
    }
    let text = "CREATE TRIGGER no BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_stays()";
    sql(&at.url(), if spoilt { text } else { "DROP TRIGGER no ON audit" });
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
