//! `hub.yaml`, right and wrong.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::{File, Location, Overrides, parse, settle};

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let why = parse("listen: 127.0.0.1:1\nkeep_day: 3\n", "hub.yaml").unwrap_err().to_string();
    assert!(why.starts_with("hub.yaml:2: "), "{why}");
    assert!(why.contains("keep_day"), "{why}");
}

#[test]
fn a_key_that_is_there_twice_is_refused() {
    let why = parse("keep_days: 3\nkeep_days: 4\n", "hub.yaml").unwrap_err().to_string();
    assert!(why.starts_with("hub.yaml:2: "), "{why}");
}

#[test]
fn a_file_of_comments_is_the_defaults() {
    assert_eq!(parse("# nothing\n\n", "hub.yaml").unwrap(), File::default());
}

#[test]
fn plain_http_beyond_the_machine_is_refused_until_it_is_asked_for() {
    let file = File { listen: "0.0.0.0:8484".to_owned(), ..File::default() };
    let why = settle(file.clone(), Overrides::default()).unwrap_err().to_string();
    assert!(why.contains("plain HTTP") && why.contains("--insecure-listen"), "{why}");
    assert!(settle(file.clone(), Overrides { insecure_listen: true, ..Overrides::default() }).is_ok());
    assert!(settle(File { allow_plain_http: true, ..file }, Overrides::default()).is_ok());
}

#[test]
fn with_tls_other_machines_may_come_and_the_pages_stay_at_home() {
    let tls = Some("/etc/evenkeel/hub".into());
    let file = File { listen: "0.0.0.0:8443".to_owned(), tls, ..File::default() };
    assert!(settle(file.clone(), Overrides::default()).unwrap().pages.is_empty());
    let pages = |at: &str| File { listen_pages: Some(at.to_owned()), ..file.clone() };
    assert_eq!(settle(pages("[::1]:80"), Overrides::default()).unwrap().pages.len(), 1);
    let why = settle(pages("0.0.0.0:80"), Overrides::default()).unwrap_err().to_string();
    assert!(why.starts_with("listen_pages: 0.0.0.0:80"), "{why}");
    let why = settle(File { tls: None, ..pages("[::1]:80") }, Overrides::default()).unwrap_err();
    assert!(why.to_string().contains("listen_pages"), "{why}");
}

#[test]
fn the_command_line_is_over_the_file() {
    let over = Overrides {
        listen: Some("[::1]:9".to_owned()),
        store: Some("sqlite:x.db".to_owned()),
        ..Overrides::default()
    };
    let config = settle(File::default(), over).unwrap();
    assert_eq!(config.listen, ["[::1]:9".parse().unwrap()]);
    assert_eq!(config.store, Location::Sqlite("x.db".into()));
}

#[test]
fn a_password_may_stand_in_the_file_and_not_on_the_command_line() {
    let url = "postgres://hub:canary@127.0.0.1/fleet";
    let file = File { store: url.to_owned(), ..File::default() };
    let config = settle(file.clone(), Overrides::default()).unwrap();
    assert!(!format!("{config:?} {}", config.store).contains("canary"));
    let over = Overrides { arguments: vec![format!("--store={url}")], ..Overrides::default() };
    let why = settle(file, over).unwrap_err().to_string();
    assert!(why.contains("PGPASSFILE") && !why.contains("canary"), "{why}");
}

#[test]
fn a_group_has_a_name_and_at_least_one_slot() {
    let file = parse("slots: {middleware: 2}\n", "hub.yaml").unwrap();
    assert_eq!(settle(file, Overrides::default()).unwrap().slots["middleware"], 2);
    for bad in ["slots: {middleware: 0}\n", "slots: {'a b': 1}\n"] {
        assert!(settle(parse(bad, "hub.yaml").unwrap(), Overrides::default()).is_err(), "{bad}");
    }
}

#[test]
fn a_store_or_an_address_that_is_none_says_what_to_write() {
    let wrong = |listen: &str, store: &str| {
        let file = File { listen: listen.to_owned(), store: store.to_owned(), ..File::default() };
        settle(file, Overrides::default()).unwrap_err().to_string()
    };
    assert!(wrong("8484", "sqlite:x").contains("127.0.0.1:8484"));
    assert!(wrong("127.0.0.1:1", "mysql://x").contains("sqlite:PATH"));
    let why = wrong("127.0.0.1:1", "postgres://hub:canary@db1/fleet");
    assert!(why.contains("sslmode=verify-full") && !why.contains("canary"), "{why}");
}
