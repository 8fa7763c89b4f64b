//! The promise is kept: against whoever takes a setting back, under load, and without touching what is right.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::collections::HashSet;
use std::process::Stdio;
use std::time::Duration;
use support::lab::{Lab, PROMPT, Socket, be_silent, eventually, figure};
use support::{postgres_version, text};

const IN_FORCE: Duration = Duration::from_secs(15);

#[test]
fn with_the_agent_who_takes_a_sysctl_back_is_named_and_it_comes_back() {
    const KEY: &str = "net.ipv4.tcp_keepalive_time";
    let lab = Lab::new();
    lab.promise("free");
    let agent = lab.agent_on_mw();
    eventually("the promise is in force", IN_FORCE, || lab.mw.sysctl(KEY) != "7200");
    let promised = lab.mw.sysctl(KEY);
    let pid = lab.mw.sh(&format!("echo $$; exec sysctl -qw {KEY}=7200"));
    let took = eventually("it is back", PROMPT, || lab.mw.sysctl(KEY) == promised);
    // Its name may come after the number, where it was still there to ask.
    let named = |end| {
        lab.mw.told(&["corrective", KEY, "\"7200\"", &format!("\"pid\":{}{end}", pid.trim())]).is_some()
    };
    eventually("its writer is named", PROMPT, || named(',') || named('}'));
    figure("a sysctl set back by hand", "with", format!("≤ {:.2} s", took.as_secs_f64()));
    drop(agent);
}

#[test]
fn with_the_agent_a_roles_override_of_the_promise_is_named_and_reset() {
    let lab = Lab::new();
    lab.sql("create role sahana login");
    lab.sql("alter system set tcp_keepalives_idle = 2");
    lab.sql("select pg_reload_conf()");
    lab.sql("alter role sahana set tcp_keepalives_idle = 0");
    let pool = lab.pool();
    let overridden = pool.open_one("user=sahana");
    let socket = lab.db.at_rest(overridden.port);
    assert!(socket.is_at_default(), "without the agent the role wins over the server's file: {socket:?}");
    lab.sql("alter role sahana reset tcp_keepalives_idle");
    lab.sql("alter system reset all");
    lab.sql("select pg_reload_conf()");
    let in_force = || lab.sql("select reset_val from pg_settings where name = 'tcp_keepalives_idle'");
    eventually("nothing is promised", PROMPT, || in_force() == "0");
    lab.promise("free");
    let agent = lab.agent_on_db();
    eventually("the promise is in force", IN_FORCE, || in_force() != "0");
    lab.sql("alter role sahana set tcp_keepalives_idle = 0");
    let took = eventually("the override is gone", Duration::from_secs(5), || {
        lab.sql("select count(*) from pg_db_role_setting") == "0"
    });
    eventually("the role is named", PROMPT, || {
        lab.db.told(&["corrective", "tcp_keepalives_idle", "sahana"]).is_some()
    });
    figure("a role's override", "with", format!("≤ {:.1} s", took.as_secs_f64()));
    drop(agent);
}

/// How many options of live connections a trace sets, and how many connections it destroys.
fn done_to_sockets(trace: &str) -> usize {
    let sets = |call: &&str| {
        call.contains("setsockopt(")
            && ["TCP_KEEP", "TCP_USER_TIMEOUT", "SO_KEEPALIVE"].iter().any(|o| call.contains(o))
    };
    trace.lines().filter(|call| sets(call) || call.contains("SOCK_DESTROY")).count()
}

#[test]
fn with_the_agent_a_second_pass_changes_nothing() {
    let lab = Lab::new();
    lab.promise("free");
    let pool = lab.pool();
    let connections = pool.open(3, "keepalives=0");
    for (name, node) in [("mw", &lab.mw), ("db", &lab.db)] {
        let trace = node.dir.path().join("trace");
        let pass = || {
            let mut strace = node.command("strace");
            strace.args(["-f", "-e", "trace=setsockopt,sendto,sendmsg,write", "-o"]).arg(&trace);
            strace.arg(support::EVENKEEL).args(["apply", "--node", name, "--spec"]).arg(&lab.spec.path);
            let out = strace.env("NO_COLOR", "1").output().unwrap();
            assert!(out.status.success(), "{name}: {}", text(&out));
            (done_to_sockets(&std::fs::read_to_string(&trace).unwrap()), text(&out))
        };
        let (steps, said) = pass();
        assert!(steps > 0, "{name}: a first pass retunes: {said}");
        let (steps, said) = pass();
        assert_eq!(steps, 0, "{name}: {said}");
        assert!(node.sockets().iter().all(Socket::is_kept_alive), "{:?}", node.sockets());
    }
    for on in connections {
        assert_eq!(pool.ask(on, "select 1").answer(PROMPT).error, None);
    }
}

#[test]
fn with_the_agent_five_hundred_live_connections_are_retuned_under_load_and_none_fails() {
    const BUSY: usize = 100;
    const IDLE: usize = 400;
    let lab = Lab::with_max_connections(u32::try_from(BUSY + IDLE).unwrap() + 20);
    // Opening them takes its time; the router is patient until they are retuned.
    lab.router.forgets_after(Duration::from_mins(10));
    let pgbench = || {
        let mut command = lab.mw.command(format!("/usr/lib/postgresql/{}/bin/pgbench", postgres_version()));
        command.args(["-h", "10.77.2.2", "-U", "postgres"]);
        command
    };
    let made = pgbench().args(["-i", "-q", "postgres"]).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let pool = lab.pool();
    let idle = pool.open(IDLE, "keepalives=0");
    let clients = BUSY.to_string();
    // A thousand transactions a second leave the machine room for the other tests.
    let load = pgbench()
        .args(["-n", "-S", "-c", &clients, "-j", "2", "-R", "1000", "-T", "12", "postgres"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the load is on", Duration::from_secs(10), || lab.mw.sockets().len() == BUSY + IDLE);
    lab.promise("free");
    let agents = [lab.agent_on_mw(), lab.agent_on_db()];
    // A busy one has another timer while something is on its way, so they are not all seen in one look.
    let mut kept = [HashSet::new(), HashSet::new()];
    let took = eventually("all are retuned on both sides", Duration::from_secs(10), || {
        for (node, kept) in [&lab.mw, &lab.db].into_iter().zip(&mut kept) {
            kept.extend(
                node.sockets().iter().filter(|socket| socket.is_kept_alive()).map(|socket| socket.port),
            );
        }
        kept.iter().all(|kept| kept.len() == BUSY + IDLE)
    });
    figure(
        "500 connections retuned under load",
        "with",
        format!("{:.1} s from the agents' start", took.as_secs_f64()),
    );
    lab.router.forgets_after(support::lab::FORGETS_AFTER);
    let done = load.wait_with_output().unwrap();
    let said = text(&done);
    assert!(done.status.success() && said.contains("number of failed transactions: 0 "), "{said}");
    be_silent();
    let asked: Vec<_> = idle.iter().map(|on| pool.ask(*on, "select 1")).collect();
    let answers = asked.into_iter().map(|asked| asked.answer(Duration::from_secs(10)));
    assert_eq!(answers.filter(|answer| answer.error.is_some()).count(), 0);
    assert_eq!(lab.router.dropped(), 0, "the router has forgotten none of them");
    drop(agents);
}
