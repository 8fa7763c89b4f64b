//! A pass with nothing to do over 300 items: 60 sysctls, 40 mounts, 200 PostgreSQL settings (100 in each of two clusters).

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

pub(crate) fn measure() -> Vec<Figure> {
    let node = Node::new();
    let postgres = node.postgres();
    let spec = Repository::new(
        &node.dir.path().join("spec"),
        &[("fleet.yaml", FLEET), ("tiers/t.yaml", "version: 1\n")],
    );
    let mut tier = "version: 1\nsysctl:\n".to_owned();
    let keys = sysctls(&node);
    for (key, value) in &keys {
        let _ = writeln!(tier, "  {key}: {value}");
    }
    tier.push_str("mount:\n");
    for n in 0..40 {
        node.sh(&format!("mkdir -p /srv/source/{n}"));
        let _ = writeln!(tier, "  /srv/even/{n}: {{source: /srv/source/{n}, type: bind, options: [nosuid]}}");
    }
    let _ = writeln!(tier, "postgresql:\n  {}:\n    settings:", postgres.cluster);
    let mut values = 0;
    for (name, value) in settings(&node) {
        let line = format!("      {name}: {}\n", quoted(&value));
        let probe = format!("version: 1\npostgresql:\n  {}:\n    settings:\n{line}", postgres.cluster);
        let dir = node.dir.path().join("probe");
        let _ = std::fs::remove_dir_all(&dir);
        Repository::new(&dir, &[("fleet.yaml", FLEET), ("tiers/t.yaml", &probe)]);
        if values < 200 && node.run(&["validate", dir.to_str().unwrap()]).status.success() {
            tier.push_str(&line);
            values += 1;
        }
    }
    spec.commit(&[("tiers/t.yaml", &tier)]);
    let agent = node.agent(
        &config(&spec.source(), "pass_interval: 1s\n").replace("poll_interval: 1s", "poll_interval: 1h"),
    );
    let converged = || node.run(&["status"]).status.code() == Some(0);
    until("300 items converged", Duration::from_secs(60), converged);
    std::thread::sleep(Duration::from_secs(3));

    let seconds = if long() { 120 } else { 20 };
    let passes = |log: &str| log.matches("interval").count();
    let (count, before) = (passes(&agent.log()), cpu_ns(agent.child.id()));
    std::thread::sleep(Duration::from_secs(seconds));
    let spent = cpu_ns(agent.child.id()) - before;
    let done = (passes(&agent.log()) - count).max(usize::try_from(seconds).unwrap());
    let pass = spent as f64 / done as f64;

    let list = files(&node, &keys, &postgres.cluster);
    let path = node.dir.path().join("floor.list");
    std::fs::write(&path, list).unwrap();
    let floor: f64 = inner(&node, &["inner-floor", path.to_str().unwrap()]).trim().parse().unwrap();
    let items = format!("{} sysctls, 40 mounts, {values} settings", keys.len());
    vec![
        Figure::new("a pass with nothing to do, CPU", format!("{:.2} ms ({items})", pass / 1e6), ""),
        Figure::new("the floor: reading the same files, CPU", format!("{:.2} ms", floor / 1e6), ""),
        Figure::new("pass : floor", format!("{:.1}", pass / floor), "≤ 5"),
    ]
}

fn quoted(value: &str) -> String {
    match value {
        "on" => "true".to_owned(),
        "off" => "false".to_owned(),
        _ => value.to_owned(),
    }
}

/// Every file that a pass reads.
fn files(node: &Node, keys: &[(String, String)], cluster: &str) -> String {
    let mut list: String =
        keys.iter().fold(String::new(), |list, (key, _)| list + "/proc/sys/" + &key.replace('.', "/") + "\n");
    list += &node.sh("find -L /etc/sysctl.d /run/sysctl.d /usr/local/lib/sysctl.d /usr/lib/sysctl.d /lib/sysctl.d /etc/sysctl.conf -type f 2>/dev/null || true");
    list += "/proc/self/mountinfo\n";
    list += &node.sh("find /etc/systemd/system -maxdepth 1 -name 'srv-even*' -type f");
    list += &node.sh(&format!("find /etc/postgresql/{cluster} -name '*.conf' -type f; ls /var/lib/postgresql/{cluster}/postmaster.pid /var/lib/postgresql/{cluster}/postgresql.auto.conf"));
    list
}
