//! A worker that slept longer than the router remembers, and asks: the blackout, and what the agent makes of it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::time::Duration;
use support::Node;
use support::lab::{BUDGET, Lab, PROMPT, be_silent, eventually, figure};
use support::pool::{Answer, Connection, Pool};

/// Give up after 13 s of retransmissions, and not after a quarter of an hour.
const SHORT_BUDGET: &str = "net.ipv4.tcp_retries2=5";

/// Sleep, ask, and say how it went.
fn asked_after_sleep(pool: &Pool, connection: Connection) -> Answer {
    be_silent();
    pool.ask(connection, "select 1").answer(BUDGET)
}

/// The blackout as it was reported: silence for the whole budget, then an error that says nothing of why.
fn hung(lab: &Lab, answer: &Answer) {
    let error = answer.error.as_deref().unwrap_or("no error");
    assert!(error.contains("Connection timed out"), "a worker that slept too long gets an error: {answer:?}");
    assert!((12.0..20.0).contains(&answer.seconds), "{answer:?}");
    assert!(lab.router.dropped() > 0, "its packets were dropped without a word");
}

#[test]
fn without_the_agent_a_worker_that_slept_too_long_hangs_for_the_whole_budget() {
    let lab = Lab::new();
    lab.mw.sh(&format!("sysctl -qw {SHORT_BUDGET}"));
    let pool = lab.pool();
    let connection = pool.open_one("");
    let answer = asked_after_sleep(&pool, connection);
    hung(&lab, &answer);
    figure("asleep, opened after the spec", "without", format!("{:.1} s", answer.seconds));
    assert_eq!(pool.reopen(connection).answer(PROMPT).error, None, "and a new connection is there at once");
}

#[test]
fn without_the_agent_the_right_sysctls_do_not_reach_a_connection_that_is_open() {
    let lab = Lab::new();
    let pool = lab.pool();
    let connection = pool.open_one("");
    lab.mw.sh(&format!(
        "sysctl -qw {SHORT_BUDGET} net.ipv4.tcp_keepalive_time=2 net.ipv4.tcp_keepalive_intvl=1"
    ));
    let socket = lab.mw.at_rest(connection.port);
    assert!(socket.is_at_default(), "{socket:?}");
    let answer = asked_after_sleep(&pool, connection);
    hung(&lab, &answer);
    figure("asleep, opened before the spec", "without", format!("{:.1} s", answer.seconds));
}

#[test]
fn without_the_agent_an_idle_backend_ignores_a_reload_and_its_client_hangs() {
    let lab = Lab::new();
    lab.mw.sh(&format!("sysctl -qw {SHORT_BUDGET}"));
    let pool = lab.pool();
    let connection = pool.open_one("keepalives=0");
    lab.sql("alter system set tcp_keepalives_idle = 2");
    lab.sql("alter system set tcp_keepalives_interval = 1");
    lab.sql("select pg_reload_conf()");
    eventually("the reload is in force", PROMPT, || {
        lab.sql("select reset_val from pg_settings where name = 'tcp_keepalives_idle'") == "2"
    });
    let answer = asked_after_sleep(&pool, connection);
    let socket = lab.db.at_rest(connection.port);
    assert!(socket.is_at_default(), "{socket:?}");
    hung(&lab, &answer);
    figure("asleep, an idle backend's side", "without", format!("{:.1} s", answer.seconds));
}

/// The answer came as if there were no router.
fn answered(lab: &Lab, answer: &Answer) {
    assert_eq!(answer.error, None, "{answer:?}");
    assert!(answer.seconds < PROMPT.as_secs_f64(), "{answer:?}");
    assert_eq!(lab.router.dropped(), 0, "the router has forgotten nothing");
}

#[test]
fn with_the_agent_a_worker_that_slept_is_answered_on_a_connection_opened_after_the_spec() {
    let lab = Lab::new();
    lab.promise("free");
    let agents = [lab.agent_on_mw(), lab.agent_on_db()];
    eventually("the path's sysctls are in force", Duration::from_secs(10), || {
        lab.mw.sysctl("net.ipv4.tcp_keepalive_time") != "7200"
    });
    let pool = lab.pool();
    let connection = pool.open_one("");
    let answer = asked_after_sleep(&pool, connection);
    answered(&lab, &answer);
    figure("asleep, opened after the spec", "with", format!("{:.3} s", answer.seconds));
    drop(agents);
}

#[test]
fn with_the_agent_a_connection_opened_before_the_spec_is_retuned_live_and_answers() {
    let lab = Lab::new();
    let agent = lab.agent_on_mw();
    eventually("the agent runs", Duration::from_secs(10), || {
        lab.mw.holds("test -S /run/evenkeel/agent.sock")
    });
    let pool = lab.pool();
    let connection = pool.open_one("");
    let socket = || lab.mw.at_rest(connection.port);
    assert!(socket().is_at_default(), "{:?}", socket());
    lab.promise("free");
    let took =
        eventually("the open connection is retuned", Duration::from_secs(5), || socket().is_kept_alive());
    figure("commit to an open connection retuned", "with", format!("{:.1} s", took.as_secs_f64()));
    let answer = asked_after_sleep(&pool, connection);
    answered(&lab, &answer);
    figure("asleep, opened before the spec", "with", format!("{:.3} s", answer.seconds));
    drop(agent);
}

#[test]
fn with_the_agent_an_idle_backend_is_retuned_and_its_clients_are_answered() {
    let lab = Lab::new();
    let agent = lab.agent_on_db();
    eventually("the agent runs", Duration::from_secs(10), || {
        lab.db.holds("test -S /run/evenkeel/agent.sock")
    });
    let pool = lab.pool();
    let connection = pool.open_one("keepalives=0");
    let socket = |node: &Node| node.at_rest(connection.port);
    assert!(socket(&lab.db).is_at_default(), "{:?}", socket(&lab.db));
    lab.promise("free");
    eventually("the backend's socket is retuned", Duration::from_secs(5), || socket(&lab.db).is_kept_alive());
    let answer = asked_after_sleep(&pool, connection);
    answered(&lab, &answer);
    assert_eq!(socket(&lab.mw).timer, "none", "by the server's side alone");
    figure("asleep, an idle backend's side", "with", format!("{:.3} s", answer.seconds));
    drop(agent);
}
