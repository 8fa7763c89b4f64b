//! A pass over what is well, alone and beside a hundred shares whose server is dead, once their looks wait.

use crate::support::{FLEET, Node, Repository, config, until};
use crate::{Figure, cpu_ns, inner};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const MANY: usize = 100;
const ROUNDS: u32 = 100;

/// A share that never answers, until it is dropped.
struct Dead(Child);

impl Drop for Dead {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn measure() -> Vec<Figure> {
    let node = Node::new();
    let program = program(&node);
    let mut section = "mount:\n".to_owned();
    for n in 0..40 {
        node.sh(&format!("mkdir -p /srv/source/{n}"));
        let _ =
            writeln!(section, "  /srv/even/{n}: {{source: /srv/source/{n}, type: bind, options: [nosuid]}}");
    }
    let alone = pass(&node, &section, 0);
    let mut dead = vec![];
    for n in 0..MANY {
        let at = format!("/srv/dead/{n}");
        node.sh(&format!("mkdir -p {at} /srv/seen/{n}"));
        dead.push(Dead(node.command(&program).args([&at, "ignore", "alive"]).spawn().unwrap()));
        until("a share", Duration::from_secs(10), || {
            node.holds(&format!("grep -q ' {at} ' /proc/self/mountinfo"))
        });
        node.sh(&format!("mount --bind {at} /srv/seen/{n}"));
        let _ = writeln!(
            section,
            "  /srv/seen/{n}: {{source: {at}, type: bind, health: {{within: 1s, every: 1h}}}}"
        );
    }
    for share in &dead {
        crate::support::signal(&share.0, "USR2");
    }
    let beside = pass(&node, &section, MANY);
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let told = |(cpu, wall): (f64, Duration)| format!("{:.2} ms of CPU, {:.1} ms", cpu / 1e6, ms(wall));
    vec![
        Figure::new("a pass over 40 mounts", told(alone), ""),
        Figure::new("the same beside 100 dead shares", told(beside), "≤ 2 : 1 and 100 items more"),
    ]
}

fn program(node: &Node) -> PathBuf {
    let program = node.dir.path().join("deadfuse");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/host/tests/deadfuse.c");
    assert!(Command::new("cc").arg("-o").arg(&program).arg(source).status().unwrap().success());
    program
}

/// CPU in nanoseconds, and time, of a pass that finds nothing to do.
fn pass(node: &Node, section: &str, hung: usize) -> (f64, Duration) {
    let tier = format!("version: 1\n{section}");
    let path = node.dir.path().join("spec");
    let _ = std::fs::remove_dir_all(&path);
    let spec = Repository::new(&path, &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier)]);
    let slow =
        config(&spec.source(), "pass_interval: 1h\n").replace("poll_interval: 1s", "poll_interval: 1h");
    let agent = node.agent(&slow);
    let told = |node: &Node| {
        let out = node.run(&["status", "--format", "json"]);
        String::from_utf8_lossy(&out.stdout).matches("\"hung: ").count()
    };
    until("looked at", Duration::from_mins(1), || {
        let code = node.run(&["status"]).status.code();
        if hung == 0 { code == Some(0) } else { told(node) >= hung }
    });
    std::thread::sleep(Duration::from_secs(1));
    let (before, begun) = (cpu_ns(agent.child.id()), Instant::now());
    inner(node, &["inner-ask", &ROUNDS.to_string()]);
    let wall = begun.elapsed() / ROUNDS;
    ((cpu_ns(agent.child.id()) - before) as f64 / f64::from(ROUNDS), wall.saturating_sub(crate::pass::PAUSE))
}
