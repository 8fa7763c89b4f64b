//! Nobody answers at the hub, so that every report is written to the spool and stays there.
//!
//! Write to repair: another process writes a kernel parameter; how long until it reads as desired again.

use crate::support::{FLEET, Node, Repository, config, until};
use crate::{Figure, cpu_ns, inner, long};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const PATH: &str = "/proc/sys/net/ipv4/tcp_keepalive_time";

pub(crate) fn measure() -> Vec<Figure> {
    let drifts: u32 = if long() { 5_000 } else { 1_000 };
    let node = Node::new();
    let tier = "version: 1\nsysctl:\n  net.ipv4.tcp_keepalive_time: 61\n";
    let repository =
        Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", tier)]);
    let agent = node.agent(&config(&repository.source(), "hub: http://127.0.0.1:9\n"));
    until("converged", Duration::from_secs(10), || node.sysctl("net.ipv4.tcp_keepalive_time") == "61");
    std::thread::sleep(Duration::from_secs(2));
    let before = cpu_ns(agent.child.id());
    let printed = inner(&node, &["inner-drift", &drifts.to_string()]);
    let cpu = cpu_ns(agent.child.id()) - before;
    let mut took: Vec<u64> = printed.lines().map(|line| line.parse().unwrap()).collect();
    took.sort_unstable();
    let ms = |at: usize| format!("{:.2} ms", took[at.min(took.len() - 1)] as f64 / 1e6);
    vec![
        Figure::new("write to repaired, median", ms(took.len() / 2), ""),
        Figure::new("write to repaired, p99", ms(took.len() * 99 / 100), "≤ 20 ms"),
        Figure::new("write to repaired, worst", ms(took.len()), ""),
        Figure::new(
            "CPU of the agent for each drift",
            format!("{:.2} ms", cpu as f64 / 1e6 / f64::from(drifts)),
            "",
        ),
    ]
}

/// On the node: drift again and again, and print how many nanoseconds each took to come back.
pub(crate) fn on_the_node(drifts: &str) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(PATH).unwrap();
    let even = || {
        let mut text = [0; 16];
        let read = file.read_at(&mut text, 0).unwrap();
        &text[..read] == b"61\n"
    };
    for n in 0..drifts.parse::<u32>().unwrap() {
        let start = Instant::now();
        file.write_at(format!("{}", 7200 + n).as_bytes(), 0).unwrap();
        while !even() {
            assert!(start.elapsed() < Duration::from_secs(5), "drift {n} did not come back");
            std::thread::sleep(Duration::from_micros(50));
        }
        println!("{}", start.elapsed().as_nanos());
        // Not in step with anything of the agent's.
        std::thread::sleep(Duration::from_micros(u64::from(2_000 + n * 7 % 9_000)));
    }
}
