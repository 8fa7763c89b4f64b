//! Signing in, roles and the audit log, on the real router over both stores, and with the real binary beside it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::T0;
use common::cluster::sql;
use common::people::{AWAY, Lab, OWN, PASSWORD, apart, set, text};
use common::stores::{Kind, Where};
use evenkeel_hub::accounts::{SESSION_IDLE, SESSION_LIFE, password};
use evenkeel_hub::http::{Hub, NEEDS, Need, Way, needed, router};
use evenkeel_hub::store::accounts::{Change, Entry, Role};
use evenkeel_hub::who::{Came, Peer};
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

on_every_store! {
    every_address_is_refused_to_whoever_has_not_its_role
    a_hub_without_accounts_is_read_on_its_own_machine_alone
    signing_in_and_out_leaves_its_mark
    a_session_ends_when_nobody_uses_it_and_at_last_in_any_case
    another_site_makes_nobody_do_anything
    a_password_is_not_guessed_at_leisure
    a_token_reads_until_it_is_taken_back
    the_log_is_only_added_to
    the_command_line_makes_accounts_beside_a_hub
}

/// The addresses that a router really has, as it tells of itself.
fn addresses(hub: &Arc<Hub>) -> Vec<String> {
    let told = format!("{:?}", router(Arc::clone(hub)));
    let mut found: Vec<String> = told
        .split('"')
        .filter(|part| part.starts_with('/') && !part.contains("{*") && !part.contains("__private"))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

async fn every_address_is_refused_to_whoever_has_not_its_role(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let tokens: Vec<_> = Role::ALL.iter().map(|role| (*role, lab.account(role.word(), *role))).collect();
    let real = addresses(&lab.hub);
    let mut listed: Vec<_> = NEEDS.iter().map(|(path, ..)| (*path).to_owned()).collect();
    listed.sort();
    assert!(real.len() > 20, "{real:?}");
    assert_eq!(real, listed, "the router's addresses, and those of the table");
    for (path, ways) in NEEDS {
        let url = path.replace("{name}", "mw1").replace("{commit}", "11111111");
        let url = url.replace("{id}", "none").replace("{group}", "none");
        assert_eq!(lab.send("PUT", &url, &[], "").await.status().as_u16(), 405, "PUT {url}");
        for (method, way) in [("GET", Way::Read), ("POST", Way::Post), ("DELETE", Way::Delete)] {
            let need = needed(ways, way);
            let nobody = lab.send(method, &url, &[], "").await.status().as_u16();
            match need {
                Need::Own => continue,
                Need::Closed => assert_eq!(nobody, 405, "{method} {url}"),
                Need::SignedIn | Need::Role(_) => assert_eq!(nobody, 401, "{method} {url}"),
            }
            let Need::Role(least) = need else { continue };
            for (role, token) in &tokens {
                let shown = format!("Bearer {token}");
                let code = lab.send(method, &url, &[("authorization", &shown)], "").await.status().as_u16();
                if *role < least {
                    assert_eq!(code, 403, "{method} {url} as {role:?}");
                } else if way == Way::Read {
                    assert!(code == 200 || code == 404, "{method} {url} as {role:?}: {code}");
                } else {
                    assert!(![401, 403, 405].contains(&code), "{method} {url} as {role:?}: {code}");
                }
            }
        }
    }
}

async fn a_hub_without_accounts_is_read_on_its_own_machine_alone(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let here = || Peer { at: "127.0.0.1:5".parse().unwrap(), came: Came::Plain };
    let code = async |peer, path| lab.send_from(peer, "GET", path, &[], "").await.status().as_u16();
    assert_eq!(code(here(), "/nodes").await, 200);
    assert_eq!(code(here(), "/admin").await, 401, "nobody is no administrator");
    assert_eq!(lab.get("/nodes", &[]).await.0, 401, "from elsewhere");
    let page = lab.send("GET", "/nodes?tier=a", &[("accept", "text/html")], "").await;
    assert_eq!(
        (page.status().as_u16(), &page.headers()["location"]),
        (303, &"/sign-in?next=%2Fnodes%3Ftier%3Da".parse().unwrap())
    );
    assert!(lab.get("/sign-in", &[]).await.1.contains("no account yet"));
    assert_eq!(lab.get("/healthz", &[]).await.0, 200);
    lab.account("ada", Role::Viewer);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert_eq!(code(here(), "/nodes").await, 401, "there is an account now");
}

async fn signing_in_and_out_leaves_its_mark(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    lab.account("ada", Role::Admin);
    for (name, password) in [("ada", "wrong"), ("nobody", PASSWORD), ("a%20b", PASSWORD)] {
        let answer = lab.sign_in(name, password).await;
        assert_eq!(answer.status(), 401);
        assert!(answer.headers().get("set-cookie").is_none());
        assert!(text(answer).await.contains("do not go together"));
    }
    let answer = lab.sign_in("ada", PASSWORD).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (303, &"/nodes".parse().unwrap()));
    let cookie = set(&answer);
    assert!(cookie.starts_with("evenkeel=") && cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    let shown = cookie.split(';').next().unwrap();
    let secret = shown.split_once('=').unwrap().1;
    let (code, page) = lab.get("/account", &[("cookie", shown)]).await;
    assert!(code == 200 && page.contains("You are ada") && !page.contains(secret), "{page}");
    let form = page.split_once("name=\"form\" value=\"").unwrap().1.split('"').next().unwrap();
    let (code, page) = lab.get("/admin", &[("cookie", shown)]).await;
    assert!(code == 200 && page.contains("1 account let in"), "{page}");
    assert!(!page.contains(secret) && !page.contains("argon2id"));

    let with = [OWN[0], OWN[1], ("cookie", shown)];
    for wrong in ["form=wrong", "", "form=a&form=b"] {
        assert_eq!(lab.form("/sign-out", &with, wrong).await.status(), 403, "{wrong:?}");
    }
    assert_eq!(lab.get("/nodes", &[("cookie", shown)]).await.0, 200);
    let answer = lab.form("/sign-out", &with, &format!("form={form}")).await;
    assert!(answer.status() == 303 && set(&answer).contains("Max-Age=0"));
    assert_eq!(lab.get("/nodes", &[("cookie", shown)]).await.0, 401);

    let told: Vec<_> = lab.log().into_iter().map(|line| (line.what, line.who, line.origin)).collect();
    let line = |what: &str, who: &str| (what.to_owned(), who.to_owned(), "192.0.2.7".to_owned());
    let expected =
        [("sign_out", "ada"), ("sign_in", "ada"), ("sign_in_refused", "nobody"), ("sign_in_refused", "ada")];
    assert_eq!(told, expected.map(|(what, who)| line(what, who)));
    let kept = match kind {
        Kind::Sqlite => {
            String::from_utf8_lossy(&std::fs::read(at.dir().join("hub.db")).unwrap()).into_owned()
        }
        _ => format!(
            "{:?}",
            sql(&at.url(), "SELECT accounts::text FROM accounts UNION SELECT audit::text FROM audit")
        ),
    };
    assert!(!kept.contains(PASSWORD) && !kept.contains(secret));

    let tls = Peer { at: AWAY.parse().unwrap(), came: Came::Anonymous };
    let form = ("content-type", "application/x-www-form-urlencoded");
    let answer = lab
        .send_from(
            tls,
            "POST",
            "/sign-in",
            &[form],
            "name=ada&password=correct+horse+battery&next=//evil.example",
        )
        .await;
    assert!(set(&answer).starts_with("__Host-evenkeel=") && set(&answer).contains("; Secure"));
    assert_eq!(answer.headers()["location"], "/");
}

async fn a_session_ends_when_nobody_uses_it_and_at_last_in_any_case(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    lab.account("ada", Role::Viewer);
    let cookie = lab.cookie("ada").await;
    let code = async || lab.get("/nodes", &[("cookie", &cookie)]).await.0;
    for _ in 0..(SESSION_LIFE / (SESSION_IDLE - 1)) {
        lab.later(SESSION_IDLE - 1);
        assert_eq!(code().await, 200, "it is used");
    }
    lab.later(SESSION_IDLE - 1);
    assert_eq!(code().await, 401, "its life is over");
    let cookie = lab.cookie("ada").await;
    lab.later(SESSION_IDLE);
    assert_eq!(lab.get("/nodes", &[("cookie", &cookie)]).await.0, 401, "nobody used it");
    let cookie = lab.cookie("ada").await;
    lab.change(Change::Password { name: "ada".into(), hash: password::hash(PASSWORD).unwrap() });
    assert_eq!(lab.get("/nodes", &[("cookie", &cookie)]).await.0, 401, "another password");
    let cookie = lab.cookie("ada").await;
    lab.change(Change::Remove("ada".into()));
    assert_eq!(lab.get("/nodes", &[("cookie", &cookie)]).await.0, 401, "no account");
}

async fn another_site_makes_nobody_do_anything(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    lab.account("ada", Role::Viewer);
    let cookie = lab.cookie("ada").await;
    let page = lab.get("/account", &[("cookie", &cookie)]).await.1;
    let form = page.split_once("name=\"form\" value=\"").unwrap().1.split('"').next().unwrap();
    let body = format!("form={form}");
    let (host, shown) = (("host", "hub.example"), ("cookie", cookie.as_str()));
    for foreign in [
        &[host, shown, ("origin", "http://evil.example")][..],
        &[host, shown, ("origin", "null")],
        &[host, shown],
        &[host, shown, ("origin", "http://hub.example"), ("sec-fetch-site", "same-site")],
    ] {
        assert_eq!(lab.form("/sign-out", foreign, &body).await.status(), 403, "{foreign:?}");
    }
    // Else a browser says `Origin: null` of this hub's own forms.
    assert_eq!(lab.send("GET", "/sign-in", &[], "").await.headers()["referrer-policy"], "same-origin");
    let evil = [host, ("origin", "http://evil.example")];
    assert_eq!(lab.form("/sign-in", &evil, "name=ada&password=correct+horse+battery").await.status(), 403);
    let own = [host, shown, ("origin", "http://hub.example")];
    assert_eq!(lab.form("/sign-out", &own, &body).await.status(), 303);
}

async fn a_password_is_not_guessed_at_leisure(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    lab.account("ada", Role::Viewer);
    for _ in 0..10 {
        assert_eq!(lab.sign_in("ada", "wrong").await.status(), 401);
    }
    let answer = lab.sign_in("ada", PASSWORD).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["retry-after"]), (429, &"300".parse().unwrap()));
    lab.later(300_000);
    assert_eq!(lab.sign_in("ada", PASSWORD).await.status(), 303);
}

async fn a_token_reads_until_it_is_taken_back(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let token = format!("Bearer {}", lab.account("robot", Role::Viewer));
    let (code, text) = lab.get("/api/v1/account", &[("authorization", &token)]).await;
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["name"], &told["role"]), (200, &"robot".into(), &"viewer".into()));
    let cookie = format!("evenkeel={}", token.trim_start_matches("Bearer "));
    assert_eq!(lab.get("/nodes", &[("cookie", &cookie)]).await.0, 401, "a token is no session");
    let id = apart(&lab.hub, |hub| hub.accounts.store.passes().unwrap()[0].id.clone());
    assert!(lab.change(Change::DropToken(id.clone())) && !lab.change(Change::DropToken(id)));
    assert_eq!(lab.get("/api/v1/account", &[("authorization", &token)]).await.0, 401);
    let late = format!("Bearer {}", lab.account("late", Role::Viewer));
    lab.later(90 * 86_400_000);
    assert_eq!(lab.get("/api/v1/account", &[("authorization", &late)]).await.0, 401);
}

async fn the_log_is_only_added_to(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let shown = format!("Bearer {}", lab.account("root", Role::Admin));
    for n in 0..5 {
        let line = Entry { what: format!("deed_{n}"), who: "<b>eve</b>".into(), at: T0, ..Entry::default() };
        apart(&lab.hub, move |hub| hub.accounts.store.change(&Change::None, &line).unwrap());
    }
    let mut url = "/api/v1/audit?limit=2".to_owned();
    let mut told = vec![];
    for _ in 0..9 {
        let page: Value = serde_json::from_str(&lab.get(&url, &[("authorization", &shown)]).await.1).unwrap();
        told.extend(
            page["entries"].as_array().unwrap().iter().map(|line| line["what"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else { break };
        url = format!("{next}&limit=2");
    }
    told.retain(|what| !what.is_empty());
    assert_eq!(told, ["deed_4", "deed_3", "deed_2", "deed_1", "deed_0"]);
    let page = lab.get("/admin/audit", &[("authorization", &shown)]).await.1;
    assert!(page.contains("&#60;b&#62;eve") && !page.contains("<b>eve"));
    assert_eq!(lab.get("/api/v1/audit?befor=1", &[("authorization", &shown)]).await.0, 400);
    match kind {
        Kind::Sqlite => {
            let conn = rusqlite::Connection::open(at.dir().join("hub.db")).unwrap();
            for bad in ["DELETE FROM audit", "UPDATE audit SET who = 'x'"] {
                assert!(conn.execute(bad, []).unwrap_err().to_string().contains("only added to"));
            }
        }
        _ => {
            for bad in ["DELETE FROM audit", "UPDATE audit SET who = 'x'"] {
                let caught = format!(
                    "DO $$ BEGIN {bad}; EXCEPTION WHEN raise_exception THEN PERFORM set_config('x.caught', 'yes', false); END $$"
                );
                sql(&at.url(), &caught);
            }
        }
    }
    assert_eq!(lab.log().len(), 5);
}

/// Runs the real binary on the store; its code and what it said.
fn run(at: &Where, input: &str, args: &[&str]) -> (i32, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_evenkeel-hub"))
        .args(args)
        .env("EVENKEEL_HUB_STORE", at.url())
        .env("SUDO_USER", "grace")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.code().unwrap(), String::from_utf8(said).unwrap())
}

async fn the_command_line_makes_accounts_beside_a_hub(kind: Kind) {
    let at = Where::new(kind);
    let lab = Lab::new(&at);
    let add = ["user", "add", "ada", "--role", "operator", "--tier", "db", "--password-file", "-"];
    assert_eq!(run(&at, "short\n", &add).0, 1);
    assert_eq!(run(&at, &format!("{PASSWORD}\n"), &add), (0, String::new()));
    assert!(run(&at, &format!("{PASSWORD}\n"), &add).1.contains("already"));
    assert_eq!(lab.sign_in("ada", PASSWORD).await.status(), 303);
    let (code, said) = run(&at, "", &["user", "token", "ada"]);
    let token = said.lines().find(|line| line.starts_with("eku_")).unwrap().to_owned();
    assert!(code == 0 && said.contains("not shown again"));
    let shown = format!("Bearer {token}");
    let told = lab.get("/api/v1/account", &[("authorization", &shown)]).await.1;
    assert_eq!(told, r#"{"name":"ada","role":"operator","tiers":["db"]}"#);
    assert!(run(&at, "", &["user", "list"]).1.starts_with("ada  operator of db"));
    run(&at, "", &["token", "create", "--nodes", "db*"]);
    run(&at, "", &["node", "ban", "mw9"]);
    let silence = ["silence", "add", "--tier", "db", "--for", "1h", "--owner", "ada", "--reason", "a move"];
    let (_, id) = run(&at, "", &silence);
    assert_eq!(run(&at, "", &["silence", "end", id.trim()]).0, 0);
    assert_eq!(run(&at, "another long password", &["user", "password", "ada", "--password-file", "-"]).0, 0);
    assert_eq!(lab.get("/api/v1/account", &[("authorization", &shown)]).await.0, 401);
    assert_eq!(run(&at, "", &["user", "remove", "ada"]).0, 0);
    let (code, said) = run(&at, "", &["user", "remove", "ada"]);
    assert!(code == 1 && said.contains("no account ada"));
    let (_, log) = run(&at, "", &["audit"]);
    let deeds: Vec<_> = log.lines().map(|line| line.split("  ").nth(2).unwrap()).collect();
    let expected = [
        "account_remove",
        "account_password",
        "silence_end",
        "silence_add",
        "node_ban",
        "token_create",
        "api_token_add",
        "sign_in",
        "account_add",
    ];
    assert_eq!(deeds, expected, "{log}");
    assert!(log.contains("grace from command line") && log.contains("is operator of db"), "{log}");
    assert!(!log.contains(&token) && !log.contains("password\n"));
}
