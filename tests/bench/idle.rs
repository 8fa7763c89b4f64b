//! The agent at rest with its watches armed and a hub that it tells a heartbeat every half minute: resident memory, and CPU over a while.

use crate::support::{FLEET, Node, Repository, config, hub_binary, until};
use crate::{Figure, cpu_ns, long};
use std::process::{Child, Stdio};
use std::time::Duration;

const TIER: &str = "version: 1
sysctl:
  net.ipv4.tcp_keepalive_time: 61
  net.ipv4.tcp_keepalive_intvl: 11
  net.ipv4.tcp_keepalive_probes: 6
  net.ipv4.tcp_retries2: 8
mount:
  /srv/even/tmp: {source: tmpfs, type: tmpfs, options: [size=1m]}
";

/// A hub on the node itself.
struct Hub(Child);

impl Hub {
    fn start(node: &Node) -> Self {
        let store = format!("sqlite:{}", node.dir.path().join("hub.db").display());
        let mut command = node.command(hub_binary());
        command.args(["serve", "--listen", "127.0.0.1:8484", "--store", &store]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn measure() -> Vec<Figure> {
    let node = Node::new();
    let repository =
        Repository::new(&node.dir.path().join("spec"), &[("fleet.yaml", FLEET), ("tiers/t.yaml", TIER)]);
    let hub = Hub::start(&node);
    let settings = config(&repository.source(), "hub: http://127.0.0.1:8484\n")
        .replace("poll_interval: 1s", "poll_interval: 30s");
    let agent = node.agent(&settings);
    until("converged", Duration::from_secs(10), || node.sysctl("net.ipv4.tcp_retries2") == "8");
    std::thread::sleep(Duration::from_secs(5));
    let seconds = if long() { 300 } else { 60 };
    let before = cpu_ns(agent.child.id());
    std::thread::sleep(Duration::from_secs(seconds));
    let share = (cpu_ns(agent.child.id()) - before) as f64 / 1e9 / seconds as f64 * 100.0;
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.child.id())).unwrap();
    let of = |name: &str| -> f64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0 / 1e6
    };
    drop(hub);
    vec![
        Figure::new(
            "resident memory at rest",
            format!("{:.1} MB ({:.1} MB of it anonymous)", of("VmRSS:"), of("RssAnon:")),
            "≤ 10 MB",
        ),
        Figure::new(
            "CPU at rest, a poll and a pass each half minute and minute",
            format!("{share:.3} %"),
            "≤ 0.1 %",
        ),
    ]
}
