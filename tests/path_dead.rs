//! The path dies for real: whoever waits has an error within the promise, and what is left behind is cleared away.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::time::{Duration, Instant};
use support::lab::{
    BLACKOUT_AT_MOST, FORGETS_AFTER, Lab, PROMPT, SLACK, Socket, be_silent, eventually, figure,
};
use support::pool::{Asked, Connection, Pool};
use support::text;

/// What a request may hang at most, on a machine that does other things too.
const PROMISED: Duration = BLACKOUT_AT_MOST.saturating_add(SLACK);
/// Longer than promised, and much shorter than what the kernel takes by itself.
const WELL_BEYOND: Duration = Duration::from_secs(8);
/// `tcp_model_timeout` of the kernel for `tcp_retries2 = 15`: nine doublings of 0.2 s, then 120 s each. Measured 938 s.
const KERNEL_SENDING: f64 = 0.2 * 1023.0 + 6.0 * 120.0;
/// `tcp_keepalive_time` and nine probes, one every `tcp_keepalive_intvl`.
const KERNEL_WAITING: u32 = 7_200 + 9 * 75;

/// A query that the database works on, with nothing on its way.
fn ask_and_wait_until_it_runs(lab: &Lab, pool: &Pool, on: Connection) -> Asked {
    let asked = pool.ask(on, "select pg_sleep(60)");
    eventually("the query runs", PROMPT, || {
        lab.sql(&format!("select state from pg_stat_activity where pid = {}", on.backend)) == "active"
    });
    lab.mw.at_rest(on.port);
    asked
}

#[test]
fn without_the_agent_nobody_is_told_that_the_path_is_dead() {
    let lab = Lab::new();
    let pool = lab.pool();
    let [sends, waits] = pool.open(2, "")[..] else { panic!("two connections") };
    let waiting = ask_and_wait_until_it_runs(&lab, &pool, waits);
    lab.router.block();
    let dead = Instant::now();
    let sending = pool.ask(sends, "select 1");
    std::thread::sleep(WELL_BEYOND.saturating_sub(dead.elapsed()));
    assert!(!sending.is_answered() && !waiting.is_answered());
    let socket = lab.mw.socket(sends.port);
    assert!(socket.timer == "retransmit" && socket.retransmits >= 4, "{socket:?}");
    let socket = lab.mw.socket(waits.port);
    assert!(socket.is_at_default(), "{socket:?}");
    assert_eq!(lab.mw.sysctl("net.ipv4.tcp_retries2"), "15");
    figure("path dead, the query was just sent", "without", format!("≥ {KERNEL_SENDING:.0} s (computed)"));
    figure("path dead, the answer is waited for", "without", format!("{KERNEL_WAITING} s (computed)"));
}

#[test]
fn with_the_agent_whoever_waits_has_an_error_within_the_promise() {
    let lab = Lab::new();
    lab.promise("free");
    let agents = [lab.agent_on_mw(), lab.agent_on_db()];
    let pool = lab.pool();
    let [sends, waits] = pool.open(2, "")[..] else { panic!("two connections") };
    eventually("both connections are looked after", Duration::from_secs(15), || {
        lab.mw.sockets().iter().filter(|socket| socket.is_kept_alive()).count() == 2
            && lab.mw.sysctl("net.ipv4.tcp_retries2") != "15"
    });
    let waiting = ask_and_wait_until_it_runs(&lab, &pool, waits);
    lab.router.block();
    let dead = Instant::now();
    let sending = pool.ask(sends, "select 1");
    let sent = sending.answer(WELL_BEYOND);
    assert!(sent.error.is_some(), "{sent:?}");
    figure("path dead, the query was just sent", "with", format!("{:.1} s", sent.seconds));
    let waited = waiting.answer(WELL_BEYOND.saturating_sub(dead.elapsed()));
    let after = dead.elapsed().as_secs_f64();
    assert!(waited.error.is_some(), "{waited:?}");
    figure("path dead, the answer is waited for", "with", format!("≤ {after:.1} s"));
    assert!(sent.seconds < PROMISED.as_secs_f64(), "{sent:?}");
    assert!(after < PROMISED.as_secs_f64(), "{after} s: {waited:?}");
    drop(agents);
}

#[test]
fn with_the_agent_installed_in_the_middle_of_a_blackout_the_stuck_ones_are_freed_at_once() {
    let lab = Lab::new();
    lab.promise("free");
    let pool = lab.pool();
    let connections = pool.open(5, "");
    be_silent();
    lab.router.block();
    let asked: Vec<Asked> = connections.iter().map(|on| pool.ask(*on, "select 1")).collect();
    // The kernel's next try is further away than the freeing may take, so that it is not what ends them.
    let stuck = |socket: &&Socket| socket.retransmits >= 4 && socket.expires > 2.0 * PROMPT.as_secs_f64();
    eventually("all of them are stuck", Duration::from_secs(20), || {
        lab.mw.sockets().iter().filter(stuck).count() == connections.len()
    });
    let started = Instant::now();
    let agent = lab.agent_on_mw();
    eventually("the first pass is done", Duration::from_secs(10), || {
        lab.mw.item("socket/database/client").is_some()
    });
    let passed = Instant::now();
    for asked in asked {
        let answer = asked.answer(PROMPT.saturating_sub(passed.elapsed()));
        let error = answer.error.as_deref().unwrap_or("no error");
        assert!(error.contains("Software caused connection abort"), "ended from outside: {answer:?}");
    }
    let [passed, started] = [passed, started].map(|since| since.elapsed().as_secs_f64());
    let freed = format!("≤ {passed:.1} s after its first pass, {started:.1} s after its start");
    figure("stuck when the agent comes", "with", freed);
    lab.router.unblock();
    for on in connections {
        assert_eq!(pool.reopen(on).answer(PROMPT).error, None, "the pool is whole again");
        assert_eq!(pool.ask(on, "select 1").answer(PROMPT).error, None);
    }
    drop(agent);
}

/// Workers are killed while the path is dead, so that the database never hears of it. When that was.
fn leave_ghosts(lab: &Lab, count: usize, conninfo: &str) -> Instant {
    let pool = lab.pool();
    let opened = pool.open(count, conninfo);
    // An acknowledgement that is late would be lost, and what it was for sent again.
    for on in opened {
        lab.db.at_rest(on.port);
    }
    lab.router.block();
    let gone = Instant::now();
    pool.kill();
    assert_eq!(ghosts(lab), count, "the database has not heard of it");
    gone
}

fn ghosts(lab: &Lab) -> usize {
    lab.sql("select count(*) from pg_stat_activity where client_addr is not null").parse().unwrap()
}

#[test]
fn without_the_agent_ghosts_hold_the_slots_of_workers_that_are_gone() {
    // Three more slots are kept for superusers, which workers are not.
    let lab = Lab::with_max_connections(5 + 3);
    lab.sql("create role app login");
    let gone = leave_ghosts(&lab, 5, "user=app");
    // The last words of the dead are lost too: in the end the router knows nothing of their connections.
    std::thread::sleep((FORGETS_AFTER + PROMISED).saturating_sub(gone.elapsed()));
    lab.router.unblock();
    assert_eq!(ghosts(&lab), 5);
    let sockets = lab.db.sockets();
    assert!(sockets.iter().all(Socket::is_at_default), "{sockets:?}");
    let refused = lab.mw.command("psql").args(["-h", "10.77.2.2", "-U", "app", "postgres"]).output().unwrap();
    assert!(text(&refused).contains("remaining connection slots are reserved"), "{}", text(&refused));
    figure("ghosts hold slots", "without", format!("{KERNEL_WAITING} s (computed)"));
}

#[test]
fn with_the_agent_ghosts_are_gone_within_the_promise() {
    let lab = Lab::new();
    lab.promise("free");
    let agent = lab.agent_on_db();
    eventually("the promise is in force", Duration::from_secs(15), || {
        lab.sql("select reset_val from pg_settings where name = 'tcp_keepalives_idle'") != "0"
    });
    let gone = leave_ghosts(&lab, 5, "");
    eventually("no ghost is left", PROMISED.saturating_sub(gone.elapsed()), || ghosts(&lab) == 0);
    figure("ghosts hold slots", "with", format!("{:.1} s", gone.elapsed().as_secs_f64()));
    drop(agent);
}
