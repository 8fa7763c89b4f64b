//! A pass with nothing to do over 300 items: 60 sysctls, 40 mounts, 200 PostgreSQL settings; each
//! kind by itself, and all together. The floor is paced as the passes are.

use crate::support::{FLEET, Node, Repository, config, until};
use crate::{Figure, cpu_ns, inner, long};
use std::fmt::Write as _;
use std::time::Duration;

/// Kernel parameters of a network namespace that take their own value back.
fn sysctls(node: &Node) -> Vec<(String, String)> {
    let script = "cd /proc/sys/net; for f in $(find ipv4 core ipv6 -type f -perm -600 | sort); do
        v=$(cat $f 2>/dev/null) || continue; case \"$v\" in *[!0-9]*|'') continue;; esac
        [ ${#v} -le 6 ] && echo \"$v\" > $f 2>/dev/null && echo \"net/$f $v\"; done; true";
    let printed = node.sh(script);
    let keys = printed.lines().filter_map(|line| line.split_once(' '));
    let plain = keys.filter(|(key, _)| {
        !key.contains("/conf/")
            && !key.contains("/neigh/")
            && !key.contains("tcp_keepalive")
            && !key.contains("retries")
    });
    plain.map(|(key, value)| (key.replace('/', "."), value.to_owned())).take(60).collect()
}

/// Settings that the server has already, so that nothing drifts: every one in the allow-list with a plain value.
fn settings(node: &Node) -> Vec<(String, String)> {
    let query = "select name || '=' || setting || case when unit is null or unit ~ '^[0-9]' then '' else unit end from pg_settings
        where vartype in ('integer', 'bool', 'real') and context in ('user', 'sighup') and (unit is null or unit in ('ms', 's', 'kB', 'min'))
        and name !~ '^(tcp_|ssl|debug|trace|zero|ignore|allow|log_|transaction|session|row_sec|jit|extra|geqo_seed|seed|is_|in_hot|lo_|quote|check_f|array|exit|backtrace|post_auth|pre_auth|restart|update_process|hot_standby_f|recovery|wal_comp|fsync|full_page|wal_init|wal_rec|data_sync|sync|stats_fetch|client_conn|escape|standard|backslash|gin|password|krb|db_user|xmlopt|parallel_leader|enable_group|remove_temp)' order by name";
    let rows = node.sql(query);
    rows.lines()
        .filter_map(|row| row.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// How many settings each of three clusters is asked to keep: 200 in all.
const CLUSTERS: [(&str, u16, usize); 3] = [("test", 5499, 80), ("two", 5500, 80), ("three", 5501, 40)];

/// One section of the spec, and the files that a pass over it reads.
struct Part {
    what: &'static str,
    section: String,
    files: String,
}

pub(crate) fn measure() -> Vec<Figure> {
    let node = Node::new();
    let clusters: Vec<_> = CLUSTERS.iter().map(|(name, port, _)| node.postgres_named(name, *port)).collect();
    let names: Vec<&str> = clusters.iter().map(|postgres| postgres.cluster.as_str()).collect();
    let parts = [sysctl_part(&node), mount_part(&node), postgresql_part(&node, &names)];
    let mut figures = vec![];
    let all = Part {
        what: "300 items: 60 sysctls, 40 mounts, 200 settings in 3 clusters",
        section: parts.iter().map(|part| part.section.as_str()).collect(),
        files: parts.iter().map(|part| part.files.as_str()).collect(),
    };
    for part in parts.iter().chain([&all]) {
        let (pass, floor) = (pass(&node, &part.section), floor(&node, &part.files));
        let aim = if part.what == all.what { "≤ 5 : 1" } else { "" };
        let value = format!("{:.2} ms, floor {:.2} ms, {:.1} : 1", pass / 1e6, floor / 1e6, pass / floor);
        figures.push(Figure::new(part.what, value, aim));
    }
    figures
}

/// CPU of a pass that finds nothing to do, in nanoseconds.
fn pass(node: &Node, section: &str) -> f64 {
    let tier = format!("version: 1\n{section}");
    let path = node.dir.path().join("spec");
    let _ = std::fs::remove_dir_all(&path);
    let spec = Repository::new(&path, &[("fleet.yaml", FLEET), ("tiers/t.yaml", &tier)]);
    let slow = "pass_interval: 1h\n";
    let agent = node.agent(&config(&spec.source(), slow).replace("poll_interval: 1s", "poll_interval: 1h"));
    until("converged", Duration::from_mins(1), || node.run(&["status"]).status.code() == Some(0));
    std::thread::sleep(Duration::from_secs(1));
    let rounds = if long() { 1_000 } else { 200 };
    let before = cpu_ns(agent.child.id());
    inner(node, &["inner-ask", &rounds.to_string()]);
    (cpu_ns(agent.child.id()) - before) as f64 / f64::from(rounds)
}

/// On the node: ask the agent for a pass again and again, with a pause between two.
pub(crate) fn on_the_node(rounds: &str) {
    use std::io::{Read, Write};
    for _ in 0..rounds.parse::<u32>().unwrap() {
        let mut socket = std::os::unix::net::UnixStream::connect("/run/evenkeel/agent.sock").unwrap();
        writeln!(socket, "{{\"ask\":\"pass\"}}").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("done"), "{answer}");
        std::thread::sleep(PAUSE);
    }
}

/// Between two passes, and between two rounds of the floor.
pub(crate) const PAUSE: Duration = Duration::from_millis(25);

fn floor(node: &Node, files: &str) -> f64 {
    let path = node.dir.path().join("floor.list");
    std::fs::write(&path, files).unwrap();
    inner(node, &["inner-floor", path.to_str().unwrap()]).trim().parse().unwrap()
}

fn sysctl_part(node: &Node) -> Part {
    let keys = sysctls(node);
    assert_eq!(keys.len(), 60);
    let mut section = "sysctl:\n".to_owned();
    let mut files = String::new();
    for (key, value) in &keys {
        let _ = writeln!(section, "  {key}: {value}");
        let _ = writeln!(files, "/proc/sys/{}", key.replace('.', "/"));
    }
    files += &node.sh("find -L /etc/sysctl.d /run/sysctl.d /usr/local/lib/sysctl.d /usr/lib/sysctl.d /lib/sysctl.d /etc/sysctl.conf -type f 2>/dev/null || true");
    files += "/etc/sysctl.d/99-evenkeel.conf\n";
    Part { what: "60 sysctls", section, files }
}

fn mount_part(node: &Node) -> Part {
    let mut section = "mount:\n".to_owned();
    let mut files = "/proc/self/mountinfo\n".to_owned();
    for n in 0..40 {
        node.sh(&format!("mkdir -p /srv/source/{n}"));
        let _ =
            writeln!(section, "  /srv/even/{n}: {{source: /srv/source/{n}, type: bind, options: [nosuid]}}");
        let _ = writeln!(files, "/etc/systemd/system/srv-even-{n}.mount");
    }
    Part { what: "40 bind mounts", section, files }
}

fn postgresql_part(node: &Node, clusters: &[&str]) -> Part {
    let settings = settings(node);
    let mut good = vec![];
    for (name, value) in settings {
        let line = format!("      {name}: {}\n", quoted(&value));
        let probe = format!("version: 1\npostgresql:\n  {}:\n    settings:\n{line}", clusters[0]);
        let dir = node.dir.path().join("probe");
        let _ = std::fs::remove_dir_all(&dir);
        Repository::new(&dir, &[("fleet.yaml", FLEET), ("tiers/t.yaml", &probe)]);
        if good.len() < 80 && node.run(&["validate", dir.to_str().unwrap()]).status.success() {
            good.push(line);
        }
    }
    assert_eq!(good.len(), 80);
    let (mut section, mut files) = ("postgresql:\n".to_owned(), String::new());
    for (cluster, (_, _, many)) in clusters.iter().zip(CLUSTERS) {
        let _ = write!(section, "  {cluster}:\n    settings:\n{}", good[..many].concat());
        for file in ["postgresql.conf", "conf.d/99-evenkeel.conf"] {
            let _ = writeln!(files, "/etc/postgresql/{cluster}/{file}");
        }
        for file in ["postmaster.pid", "postgresql.auto.conf"] {
            let _ = writeln!(files, "/var/lib/postgresql/{cluster}/{file}");
        }
    }
    Part { what: "200 PostgreSQL settings in 3 clusters, asked by SQL", section, files }
}

fn quoted(value: &str) -> String {
    match value {
        "on" => "true".to_owned(),
        "off" => "false".to_owned(),
        _ => value.to_owned(),
    }
}
