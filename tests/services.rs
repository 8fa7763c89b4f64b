//! Services on a whole Debian with a real systemd: one that dies, one that cannot start, one that flaps, a masked one, and
//! restarts that wait.
//!
//! Needs root, `mmdebstrap` and `systemd-nspawn`, as `tests/systemd.rs` does.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::time::{Duration, Instant};
use support::booted::Booted;
use support::until;

/// For what takes the agent a moment, on a machine that does other things.
const SOON: Duration = Duration::from_secs(30);
/// How long a service has to have run for its end to be no failed start.
const BRIEF: Duration = Duration::from_secs(22);

const WORKER: &str = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n";
const BAD: &str =
    "[Service]\nExecStart=/bin/sh -c 'echo x >>/root/starts; echo \"no port, pid $$$$\"; sleep 1; exit 3'\n";
const FLAP: &str = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sh -c 'echo no module; sleep 0.4; exit 1'\n\
                    Restart=always\nRestartSec=200ms\n";

fn tier(services: &str) -> String {
    format!("version: 1\nservice:\n{services}")
}

/// Status and reason of an item; empty where there is none yet.
fn told(node: &Booted, name: &str) -> (String, String) {
    let item = node.item(&format!("service/{name}")).unwrap_or_default();
    let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

fn until_told(node: &Booted, name: &str, status: &str, word: &str) -> String {
    let mut last = (String::new(), String::new());
    let start = Instant::now();
    while !(last.0 == status && last.1.contains(word)) {
        assert!(start.elapsed() < SOON, "{name} is told as {last:?} and not as {status} with {word:?}");
        std::thread::sleep(Duration::from_millis(100));
        last = told(node, name);
    }
    last.1
}

#[test]
fn a_service_that_dies_comes_back_and_one_that_cannot_start_makes_no_storm() {
    // Passes come seldom: what is quick is quick because an event told of it.
    let node = Booted::new("services", "poll_interval: 1s\npass_interval: 60s\n");
    for (name, text) in [("worker", WORKER), ("bad", BAD), ("flap", FLAP), ("masked", WORKER)] {
        node.write(&format!("/etc/systemd/system/{name}.service"), text);
    }
    node.sh("mv /etc/systemd/system/masked.service /lib/systemd/system; systemctl daemon-reload; systemctl -q mask masked");
    node.commit(&tier(
        "  worker.service: {enabled: true, active: true}\n  bad.service: {active: true}\n  \
         flap.service: {active: true}\n  masked.service: {active: true}\n  nobody.service: {active: true}\n",
    ));
    node.sh("systemctl start evenkeel");
    until("the worker runs", SOON, || node.show("worker", "ActiveState") == "active");
    assert_eq!(node.show("worker", "UnitFileState"), "enabled");
    let began = Instant::now();
    until_told(&node, "masked.service", "non_compliant", "systemctl unmask masked.service");
    until_told(&node, "nobody.service", "pending", "systemd knows no unit nobody.service");
    let why = until_told(&node, "bad.service", "non_compliant", "no port");
    assert!(why.contains("exit-code") && why.contains("pid …"), "{why}");
    let why = until_told(&node, "flap.service", "non_compliant", "again and again");
    let restarts = |node: &Booted| node.show("flap", "NRestarts").parse::<u32>().unwrap();
    let before = restarts(&node);
    while began.elapsed() < BRIEF {
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(restarts(&node) > before, "it goes on flapping");
    assert_eq!(told(&node, "flap.service").1, why, "the same cause reads the same");
    let starts = node.sh("wc -l </root/starts").trim().parse::<u32>().unwrap();
    assert!(starts <= 2, "{starts} starts of what cannot start");
    let pid = node.show("worker", "MainPID");
    node.sh(&format!("kill -9 {pid}"));
    let back = until("the worker runs again", SOON, || {
        node.show("worker", "ActiveState") == "active" && node.show("worker", "MainPID") != pid
    });
    eprintln!("killed, and back after {back:?}");
    assert!(back < Duration::from_secs(10), "an event tells of the end, and not the next pass: {back:?}");
    until("the repair is told", SOON, || {
        node.reports()
            .iter()
            .flat_map(|event| event["data"]["items"].as_array().cloned().unwrap_or_default())
            .any(|item| {
                let drift = item["drift"][0]["observed"].as_str().unwrap_or_default();
                item["id"] == "service/worker.service"
                    && item["status"] == "repaired"
                    && drift.contains("signal")
            })
    });
}

#[test]
fn a_restart_that_is_owed_waits_until_it_may_be_done() {
    let node = Booted::new("restarts", "poll_interval: 1s\npass_interval: 2s\n");
    node.write("/etc/systemd/system/worker.service", WORKER);
    node.sh("systemctl daemon-reload");
    node.commit(&tier("  worker.service: {active: true}\n"));
    node.sh("systemctl start evenkeel");
    until_told(&node, "worker.service", "compliant", "");
    let pid = node.show("worker", "MainPID");
    let change = |n: u32| {
        node.write("/etc/systemd/system/worker.service.d/x.conf", &format!("[Service]\nEnvironment=N={n}\n"));
    };
    change(1);
    until_told(&node, "worker.service", "pending", "systemctl restart worker.service");
    assert_eq!(node.show("worker", "NeedDaemonReload"), "no");
    assert_eq!(node.show("worker", "MainPID"), pid, "nothing restarts by itself");
    node.sh("systemctl restart worker");
    until_told(&node, "worker.service", "compliant", "");
    let pid = node.show("worker", "MainPID");
    // A window on the day after tomorrow, and then one that holds all day, every day.
    let day = node.sh("date -u -d '+2 days' +%a").trim().to_owned();
    node.spec_in_force(&tier(&format!(
        "  worker.service: {{active: true, restart: {{window: \"{day} 00:00-24:00\"}}}}\n"
    )));
    change(2);
    until_told(&node, "worker.service", "pending", &format!("waits for its window {day} 00:00-24:00"));
    assert_eq!(node.show("worker", "MainPID"), pid);
    node.spec_in_force(&tier("  worker.service: {active: true, restart: {window: \"00:00-24:00\"}}\n"));
    until("it was restarted in its window", SOON, || node.show("worker", "MainPID") != pid);
    assert!(
        node.sh("tr '\\0' '\\n' </proc/$(systemctl show --value -p MainPID worker)/environ").contains("N=2")
    );
    until_told(&node, "worker.service", "compliant", "");
    // Nobody grants a slot: nothing is disturbed.
    let pid = node.show("worker", "MainPID");
    node.spec_in_force(&tier("  worker.service: {active: true, restart: {slot: true}}\n"));
    change(3);
    until_told(&node, "worker.service", "pending", "ask for the slot of t at http://127.0.0.1:9");
    assert_eq!(node.show("worker", "MainPID"), pid);
}
