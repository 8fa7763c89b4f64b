//! The example repository: it is good, and its nodes come to what its files say.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
use common::{KINDS, lines, load, root};
use evenkeel_core::Mode;
use evenkeel_spec::Repository;
use serde_json::json;

fn eden() -> Repository {
    let read = Repository::read(&load(&root().join("examples/eden")), KINDS);
    read.unwrap_or_else(|problems| panic!("{problems}")).0
}

#[test]
fn the_example_is_good_without_a_warning_and_its_path_is_kept() {
    let (repository, problems) = Repository::read(&load(&root().join("examples/eden")), KINDS).unwrap();
    let told = lines(&problems);
    assert_eq!(told, [""; 0]);
    let path = &repository.paths()["database"];
    assert_eq!((path.from.tier.as_deref(), path.to.port), (Some("middleware"), Some(5432)));
    assert_eq!(path.idle_timeout.duration().as_secs(), 350);
    assert_eq!(repository.selectors().count(), 4);
}

#[test]
fn the_standby_differs_from_its_tier_where_its_file_says_so() {
    let (primary, standby) = (eden().node("db1", None).unwrap(), eden().node("db2", None).unwrap());
    let settings = |spec: &evenkeel_core::Spec| spec.goals[2].items()["13/main"].fields["settings"].clone();
    assert_eq!(settings(&primary)["listen_addresses"], json!("localhost,10.20.0.10"));
    assert_eq!(settings(&standby)["listen_addresses"], json!("localhost,10.20.0.11"));
    assert_eq!(settings(&standby)["max_connections"], json!(40));
    let mode = |spec: &evenkeel_core::Spec| spec.goals[0].items()["vm.swappiness"].mode;
    assert_eq!((mode(&primary), mode(&standby)), (Mode::Enforce, Mode::Audit));
    assert_eq!(standby.identity.labels["role"], "standby");
}

#[test]
fn every_middleware_node_has_the_six_shares_and_web_servers_only_read() {
    let middleware = eden().node("mw12", None).unwrap();
    assert_eq!(middleware.goals[1].items().len(), 6);
    let web = eden().node("web1", None).unwrap();
    assert!(web.goals[1].items().values().all(|item| item.fields["options"][0] == "ro"));
    assert_eq!(web.goals[0].items()["net.ipv4.tcp_keepalive_time"].fields, json!({"value": 60}));
}

#[test]
fn what_is_rendered_and_explained_names_the_files() {
    insta::assert_snapshot!("render_db2", eden().render("db2").unwrap());
    insta::assert_snapshot!("explain_swappiness", eden().explain("db2", "sysctl/vm.swappiness").unwrap());
    let item = "postgresql/13/main/settings/listen_addresses";
    insta::assert_snapshot!("explain_listen", eden().explain("db2", item).unwrap());
}
