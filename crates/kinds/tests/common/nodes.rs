//! Random starting nodes: some of what the kinds look at is there, some is off, some was left by a pass before.

use super::node::mount;
use evenkeel_core::fake::FakeNode;
use evenkeel_core::{
    Class, Compared, Covered, FolderSeen, Holder, Inside, MirrorSeen, PgFacts, PgOverride, PgRights,
    PgSetting, Probed, Probing, SocketId, SocketOwner, SocketSeen, SocketTimer, UnitSeen,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const SERVICES: &str = "/etc/postgresql-common/pg_service.conf";

/// A file that a pass before has left.
fn owned(text: &str) -> String {
    format!("{}\n{text}", evenkeel_kinds::MARKER)
}

/// A part of a node: each is added or not.
type Part = fn(&mut FakeNode);

fn file(node: &mut FakeNode, path: &str, text: &str) {
    node.files.insert(PathBuf::from(path), text.to_owned());
}

fn sysctl(node: &mut FakeNode, key: &str, value: &str) {
    if let Ok(key) = key.parse() {
        node.sysctls.insert(key, value.to_owned());
    }
}

/// A node as a distribution installs it, with nothing of ours.
pub fn bare() -> FakeNode {
    let mut node = FakeNode::default();
    for (key, value) in [
        ("net.ipv4.tcp_keepalive_time", "7200"),
        ("net.ipv4.tcp_retries2", "15"),
        ("net.ipv4.tcp_rmem", "4096\t131072\t4194304"),
        ("net.core.somaxconn", "128"),
        ("vm.swappiness", "60"),
        ("vm.laptop_mode", "0"),
    ] {
        sysctl(&mut node, key, value);
    }
    node.mounts.push(mount("1 0 8:1 / / rw,relatime - ext4 /dev/sda1 rw"));
    file(&mut node, "/srv/images.ext4", "an image");
    let inside =
        Inside { uid: 33, owner: Some("web2py".into()), mode: 0o750, ..evenkeel_core::fake::root_folder() };
    node.insides.insert("/srv/eden/uploads".into(), inside);
    cluster(&mut node, "13/main", "/etc/postgresql/13/main", "/var/lib/postgresql/13/main");
    cluster(&mut node, "reporting", "/srv/pg/reporting", "/srv/pg/reporting");
    socket(&mut node, 1, ("10.0.0.1:40001", "10.20.0.10:5432"), SocketTimer::Off, 0);
    socket(&mut node, 2, ("10.0.0.1:40002", "10.20.0.10:11211"), SocketTimer::Keepalive, 7_000_000);
    socket(&mut node, 3, ("10.0.0.1:5432", "10.20.0.11:40003"), SocketTimer::Keepalive, 7_000_000);
    managed(&mut node);
    services(&mut node);
    prod(&mut node);
    for (to, _) in SYNCED {
        mirror(&mut node, to, |seen| seen.compared = Some(off(3, 0)));
    }
    node.pg_boot =
        CATALOGUE.iter().map(|(name, _, _, _, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    node
}

/// The same, with systemd running.
pub fn booted() -> FakeNode {
    FakeNode { systemd: true, ..bare() }
}

/// A tree that files are put into, and the services that read them.
fn prod(node: &mut FakeNode) {
    node.users.insert("web2py".into(), 33);
    node.groups.insert("web2py".into(), 33);
    node.credentials.insert("hmac-key".into(), "canary\n".into());
    for unit in ["uwsgi-prod.service", "memcached.service", "left.service"] {
        let active =
            |active: &str| UnitSeen { load: "loaded".into(), active: active.into(), ..UnitSeen::default() };
        node.units.entry(unit.into()).or_insert_with(|| active("active"));
    }
}

/// The folders of the example of `sync`, and where they come from.
const SYNCED: [(&str, &str); 2] =
    [("/home/prod/applications/eden/static/fonts", "mw1"), ("/srv/eden/markers", "/srv/master/markers")];

fn mirror(node: &mut FakeNode, to: &str, change: impl FnOnce(&mut MirrorSeen)) {
    change(node.mirrors.entry(to.to_owned()).or_default());
}

fn probing(node: &mut FakeNode, what: Probed, told: Probing) {
    node.probings.push((what, told));
}

/// A comparison of a folder of 100 files that found so many changed, and so many not in the source.
fn off(change: usize, remove: usize) -> Compared {
    Compared { change, remove, names: vec!["a".into()], source: 100 - remove, here: 100 }
}

/// A connection that has been silent for a while; one that retransmits has done so for long.
fn socket(node: &mut FakeNode, cookie: u64, ends: (&str, &str), timer: SocketTimer, expires_ms: u32) {
    let (local, remote) = (ends.0.parse().unwrap(), ends.1.parse().unwrap());
    let stuck = timer == SocketTimer::Retransmit;
    node.sockets.push(SocketSeen {
        id: SocketId { netns: 0, local, remote, cookie },
        timer,
        expires_ms,
        retransmits: if stuck { 9 } else { 0 },
        probes: 0,
        rto_ms: if stuck { 104_448 } else { 204 },
        unacked: u32::from(stuck),
        last_data_recv_ms: 100_000,
        last_ack_recv_ms: 100_000,
        uid: 33,
        owner: Some(SocketOwner {
            pid: 4242,
            fd: 7,
            comm: "uwsgi".into(),
            unit: Some("uwsgi-prod.service".into()),
        }),
    });
}

/// Name, type, unit, context, and what it is where nobody says anything.
const CATALOGUE: &[(&str, &str, &str, &str, &str)] = &[
    ("tcp_keepalives_idle", "integer", "s", "user", "0"),
    ("tcp_user_timeout", "integer", "ms", "user", "0"),
    ("work_mem", "integer", "kB", "user", "4096"),
    ("autovacuum", "bool", "", "sighup", "on"),
    ("shared_buffers", "integer", "8kB", "postmaster", "16384"),
    ("max_connections", "integer", "", "postmaster", "100"),
    ("checkpoint_timeout", "integer", "s", "sighup", "300"),
    ("log_line_prefix", "string", "", "sighup", "%m "),
];

/// Units, as a distribution's packages leave them.
fn services(node: &mut FakeNode) {
    node.tier = Some("middleware".into());
    for name in ["uwsgi-prod", "nginx", "worker", "pgbouncer"] {
        node.units.insert(format!("{name}.service"), running());
    }
    node.units.insert("cherokee.service".into(), UnitSeen { active: "inactive".into(), ..running() });
    node.units.insert("backup.timer".into(), UnitSeen { file_state: "disabled".into(), ..running() });
}

fn running() -> UnitSeen {
    UnitSeen {
        load: "loaded".into(),
        active: "active".into(),
        sub: "running".into(),
        file_state: "enabled".into(),
        result: "success".into(),
        can_reload: true,
        since_us: 1_000_000,
        ..UnitSeen::default()
    }
}

/// Change what systemd knows of a unit.
fn on_unit(node: &mut FakeNode, name: &str, change: impl Fn(&mut UnitSeen)) {
    node.units.entry(name.to_owned()).and_modify(change);
}

/// A server that is reached through SQL alone, by a role that owns nothing.
fn managed(node: &mut FakeNode) {
    let rights = PgRights { role: "eden".into(), ..PgRights::default() };
    let refused = ["pg_file_settings".to_owned()].into();
    let facts = PgFacts {
        version: 150_018,
        settings: settings(),
        rights: Some(rights),
        refused,
        ..PgFacts::default()
    };
    node.servers.insert("managed".to_owned(), facts);
}

fn on_managed(node: &mut FakeNode, change: impl FnOnce(&mut PgFacts, &mut PgRights)) {
    let Some(facts) = node.servers.get_mut("managed") else { return };
    let mut rights = facts.rights.take().unwrap_or_default();
    change(facts, &mut rights);
    facts.rights = Some(rights);
}

/// A cluster with a running server, as Debian makes it.
fn cluster(node: &mut FakeNode, name: &str, conf: &str, data: &str) {
    file(
        node,
        &format!("{conf}/postgresql.conf"),
        &format!("data_directory = '{data}'\ninclude_dir = 'conf.d'\n"),
    );
    file(node, &format!("{data}/PG_VERSION"), "13\n");
    let pid = format!("77\n{data}\n1700000000\n5432\n/var/run/postgresql\n\n  5432001  0\nready\n");
    file(node, &format!("{data}/postmaster.pid"), &pid);
    let facts = PgFacts { version: 130_014, settings: settings(), ..PgFacts::default() };
    node.servers.insert(name.to_owned(), facts);
}

fn settings() -> BTreeMap<String, PgSetting> {
    let settings = CATALOGUE.iter().map(|(name, vartype, unit, context, value)| {
        let setting = PgSetting {
            reset_val: (*value).to_owned(),
            vartype: (*vartype).to_owned(),
            unit: (!unit.is_empty()).then(|| (*unit).to_owned()),
            context: (*context).to_owned(),
            source: "default".to_owned(),
            ..PgSetting::default()
        };
        ((*name).to_owned(), setting)
    });
    settings.collect()
}

fn override_of(node: &mut FakeNode, role: Option<&str>, database: Option<&str>, setting: &str, value: &str) {
    let one = PgOverride {
        role: role.map(str::to_owned),
        database: database.map(str::to_owned),
        setting: setting.to_owned(),
        value: value.to_owned(),
        barred: false,
    };
    node.servers.entry("13/main".to_owned()).or_default().overrides.push(one);
}

const MAIN: &str = "/etc/postgresql/13/main/postgresql.conf";
const PG_DROP_IN: &str = "/etc/postgresql/13/main/conf.d/99-evenkeel.conf";

/// 2026-11-29 03:00 UTC.
const SUNDAY_AT_3: i64 = 1_795_921_200;

const CACHE_UNIT: &str = "/etc/systemd/system/srv-eden-cache.mount";

fn unit(at: &str, what: &str) -> String {
    let marker = evenkeel_kinds::MARKER;
    format!(
        "{marker}\n[Mount]\nWhat={what}\nWhere={at}\nType=tmpfs\nOptions=nofail\n[Install]\nWantedBy=local-fs.target\n"
    )
}

const PARTS: &[Part] = &[
    |node| node.systemd = true,
    // Connections.
    |node| socket(node, 11, ("10.0.0.1:40011", "10.20.0.10:5432"), SocketTimer::Retransmit, 60_000),
    |node| socket(node, 12, ("10.0.0.1:5432", "10.20.0.12:40012"), SocketTimer::Retransmit, 60_000),
    |node| socket(node, 13, ("10.0.0.1:40013", "192.168.0.10:11211"), SocketTimer::Off, 0),
    |node| socket(node, 14, ("10.0.0.1:40014", "10.20.0.10:5432"), SocketTimer::Keepalive, 9000),
    |node| {
        socket(node, 15, ("10.0.0.1:40015", "10.20.0.10:5432"), SocketTimer::Off, 0);
        node.sockets.last_mut().unwrap().owner = None;
    },
    |node| {
        for n in 0..30 {
            socket(node, 100 + n, ("10.0.0.1:40100", "10.20.0.13:5432"), SocketTimer::Off, 0);
        }
    },
    |node| node.powers.retune = Err("no CAP_SYS_PTRACE".into()),
    |node| node.powers.free = Err("no CAP_NET_ADMIN".into()),
    |node| node.powers.see = Err("no sock_diag in this kernel".into()),
    // Folders in step with others.
    |node| mirror(node, SYNCED[0].0, |seen| seen.compared = Some(off(0, 5))),
    |node| mirror(node, SYNCED[0].0, |seen| seen.compared = Some(off(7, 50))),
    |node| mirror(node, SYNCED[0].0, |seen| seen.trouble = Some((Class::Waiting, "no route to host".into()))),
    |node| mirror(node, SYNCED[0].0, |seen| (seen.late, seen.in_step_at) = (true, Some(1_790_000_000))),
    |node| mirror(node, SYNCED[1].0, |seen| seen.compared = None),
    |node| mirror(node, SYNCED[1].0, |seen| seen.under_way = Some("43 %, 1,204 files".into())),
    |node| mirror(node, SYNCED[1].0, |seen| seen.trouble = Some((Class::Trouble, "rsync is missing".into()))),
    |node| file(node, "/etc/fstab", "10.20.3.5:/eden /srv/eden nfs4 defaults 0 0\n"),
    // What must answer.
    |node| probing(node, Probed::Tcp("127.0.0.1:11211".into()), Probing::Answers),
    |node| {
        let (url, contains) = ("http://127.0.0.1:8000/eden/default/about".into(), Some("Eden".into()));
        probing(node, Probed::Http { url, contains }, Probing::Http { status: 502, contains: false });
    },
    |node| probing(node, Probed::FileAge("/var/backups/eden/latest.dump".into()), Probing::Time(-100_000)),
    |node| {
        let path = "/etc/letsencrypt/live/site/fullchain.pem".into();
        probing(node, Probed::CertificateFile(path), Probing::Time(86_400));
    },
    // libpq's service file.
    |node| file(node, SERVICES, &owned("[eden]\nkeepalives_idle=7200\n[old]\nhost=a\n")),
    |node| file(node, SERVICES, &owned("[reports]\nconnect_timeout=10\nkeepalives=1\n# edited\n")),
    |node| file(node, SERVICES, "[eden]\nhost=theirs\n"),
    |node| file(node, "/usr/lib/x86_64-linux-gnu/libpq.so.5.11", ""),
    // The kernel's parameters.
    |node| sysctl(node, "net.ipv4.tcp_keepalive_time", "60"),
    |node| sysctl(node, "net.ipv4.tcp_rmem", "4096 131072\t6291456"),
    |node| sysctl(node, "net.core.somaxconn", "4096"),
    |node| sysctl(node, "vm.swappiness", "0"),
    |node| {
        node.sysctls.remove(&"net.ipv4.tcp_retries2".parse().unwrap());
    },
    |node| {
        node.unreadable.insert("net.ipv4.tcp_retries2".parse().unwrap());
    },
    |node| file(node, "/etc/sysctl.conf", "vm.swappiness = 3\nvm.laptop_mode = 5\n"),
    |node| {
        node.links.insert("/etc/sysctl.d/99-sysctl.conf".into(), "/etc/sysctl.conf".into());
    },
    |node| file(node, "/usr/lib/sysctl.d/50-default.conf", "net.core.somaxconn = 8192\nvm.laptop_mode = 2\n"),
    |node| file(node, "/etc/sysctl.d/99-zz.conf", "-net.ipv4.tcp_retries2\nnet.core.* = 1\n"),
    |node| file(node, "/etc/sysctl.d/99-evenkeel.conf", "somebody's own\n"),
    |node| {
        let text =
            format!("{}\nnet.ipv4.tcp_keepalive_time = 55\nvm.laptop_mode = 1\n", evenkeel_kinds::MARKER);
        file(node, "/etc/sysctl.d/99-evenkeel.conf", &text);
    },
    |node| {
        let text =
            format!("{}\n# mine\nnet.core.somaxconn = 2048\nvm.swappiness=4\n", evenkeel_kinds::MARKER);
        file(node, "/etc/sysctl.d/99-evenkeel.conf", &text);
    },
    // Mounts.
    |node| {
        node.missing.insert("/srv/eden/uploads".into());
        node.missing.insert("/srv/eden/cache".into());
    },
    |node| {
        node.missing.insert("/srv/data".into());
    },
    |node| {
        node.links.insert("/srv/eden".into(), "/home/prod/eden".into());
    },
    |node| node.mounts.push(mount("21 1 0:50 / /srv/eden/cache rw,relatime - tmpfs tmpfs rw,size=1024k")),
    |node| {
        node.mounts.push(mount("22 1 0:51 / /srv/eden/uploads rw - nfs4 10.9.9.9:/other rw,hard,vers=4.2"));
    },
    |node| {
        node.mounts
            .push(mount("23 1 0:52 / /srv/eden/uploads ro - nfs4 10.20.3.5:/eden/uploads/ ro,vers=4.2"));
    },
    |node| node.mounts.push(mount("24 1 8:1 /srv/data/static /srv/eden/static rw - ext4 /dev/sda1 rw")),
    |node| node.mounts.push(mount("25 1 8:1 /srv/other /srv/eden/static rw - ext4 /dev/sda1 rw")),
    |node| {
        node.mounts.push(mount("26 1 7:0 / /srv/eden/images rw,relatime - ext4 /dev/loop0 rw"));
        node.backings.insert("/dev/loop0".into(), "/srv/images.ext4".into());
    },
    |node| {
        let inside = Inside { sentinel: Some(true), ..evenkeel_core::fake::root_folder() };
        node.insides.insert("/srv/eden/uploads".into(), inside.clone());
        node.insides.insert("/srv/eden/images".into(), Inside { mode: 0o700, ..inside });
    },
    |node| node.insides.get_mut(Path::new("/srv/eden/uploads")).unwrap().sentinel = Some(false),
    |node| file(node, CACHE_UNIT, &unit("/srv/eden/cache", "tmpfs")),
    |node| file(node, CACHE_UNIT, "[Mount]\nWhat=tmpfs\nWhere=/srv/eden/cache\nType=tmpfs\n"),
    |node| file(node, "/etc/systemd/system/local-fs.target.wants/srv-eden-cache.mount", ""),
    |node| file(node, "/etc/systemd/system/srv-old.mount", &unit("/srv/old", "tmpfs")),
    |node| file(node, "/etc/systemd/system/local-fs.target.wants/srv-old.mount", ""),
    |node| node.mounts.push(mount("27 1 0:60 / /srv/old rw - tmpfs tmpfs rw")),
    |node| {
        node.owed.insert("systemd daemon-reload".into());
    },
    // Units.
    |node| on_unit(node, "uwsgi-prod.service", |unit| unit.active = "failed".into()),
    |node| on_unit(node, "uwsgi-prod.service", |unit| unit.hold_off = true),
    |node| on_unit(node, "uwsgi-prod.service", |unit| unit.result = "start-limit-hit".into()),
    |node| on_unit(node, "uwsgi-prod.service", |unit| unit.need_daemon_reload = true),
    |node| on_unit(node, "nginx.service", |unit| unit.file_state = "disabled".into()),
    |node| on_unit(node, "nginx.service", |unit| unit.need_daemon_reload = true),
    |node| on_unit(node, "nginx.service", |unit| unit.load = "masked".into()),
    |node| on_unit(node, "worker.service", |unit| unit.active = "inactive".into()),
    |node| on_unit(node, "worker.service", |unit| unit.need_daemon_reload = true),
    |node| on_unit(node, "worker.service", |unit| (unit.restarts, unit.fresh) = (3, true)),
    |node| on_unit(node, "cherokee.service", |unit| unit.active = "active".into()),
    |node| on_unit(node, "pgbouncer.service", |unit| unit.active = "failed".into()),
    |node| on_unit(node, "backup.timer", |unit| unit.file_state = "static".into()),
    |node| {
        node.units.remove("backup.timer");
    },
    |node| node.owed.extend(["restart nginx.service".into(), "restart worker.service".into()]),
    |node| node.owed.extend(["restart uwsgi-prod.service".into(), "restart cherokee.service".into()]),
    |node| {
        node.owed.insert("restart pgbouncer.service".into());
        node.owed_since.insert("restart pgbouncer.service".into(), 500_000);
    },
    |node| {
        node.owed.extend(["restart pgbouncer.service".into(), "restart backup.timer".into()]);
    },
    |node| {
        node.owed.insert("slot middleware".into());
    },
    |node| {
        node.owed.extend(["slot middleware".into(), "slot middleware granted".into()]);
        node.slots.insert(("middleware".into(), "service".into()));
    },
    // In the night from Saturday to Sunday.
    |node| node.time = 1_795_921_200,
    |node| node.tier = None,
    // Whole files.
    |node| file(node, "/home/eden/uwsgi.ini", "[uwsgi]\nharakiri = 1000\n"),
    |node| {
        file(node, "/home/eden/key.ini", "hmac_key = old\n");
        node.owned.insert("/home/eden/key.ini".into(), ("web2py".into(), "root".into(), 0o644));
    },
    |node| file(node, "/home/eden/pg_service.conf", "[eden]\nhots=10.20.0.10\n"),
    |node| file(node, "/home/eden/pg_service.conf", "[other]\n"),
    |node| {
        file(node, "/etc/memcached.conf", "-m 64\n");
        node.owned.insert("/etc/memcached.conf".into(), ("memcache".into(), "root".into(), 0o600));
    },
    |node| file(node, "/srv/eden/cache/motd", "odd"),
    |node| {
        node.missing.insert("/home/eden".into());
    },
    |node| {
        node.links.insert("/home/eden".into(), "/home/web2py".into());
    },
    |node| {
        node.links.insert("/etc/memcached.conf".into(), "/srv/memcached.conf".into());
    },
    |node| {
        node.links.insert("/home/eden/key.ini".into(), "/etc/shadow".into());
    },
    |node| {
        node.users.remove("web2py");
    },
    |node| {
        node.groups.remove("web2py");
    },
    |node| {
        node.credentials.remove("hmac-key");
    },
    |node| file(node, "/etc/fstab", "tmpfs /srv/eden/cache tmpfs size=1m 0 0\n"),
    |node| "inactive".clone_into(&mut node.units.entry("uwsgi-prod.service".into()).or_default().active),
    |node| {
        node.units.remove("memcached.service");
    },
    |node| {
        node.owed.insert("reload uwsgi-prod.service".into());
    },
    |node| {
        node.owed.insert("reload left.service".into());
    },
    // What a share tells, and what lies below it.
    |node| {
        let options = "rw,hard,vers=4.1";
        let line = format!("28 1 0:53 / /srv/eden/uploads rw - nfs4 10.20.3.5:/eden/uploads {options}");
        node.mounts.push(mount(&line));
    },
    |node| node.time = SUNDAY_AT_3,
    |node| {
        node.silent.insert("/srv/eden/uploads".into(), FolderSeen::Hung);
    },
    |node| {
        node.silent.insert("/srv/eden/uploads".into(), FolderSeen::Stale);
    },
    |node| {
        let holder = Holder { pid: 4242, comm: "uwsgi".into(), unit: Some("uwsgi-prod.service".into()) };
        node.holders.insert("/srv/eden/uploads".into(), vec![holder]);
    },
    |node| {
        node.owed.insert("mount slot fleet".into());
        node.slots.insert(("fleet".into(), "mount".into()));
    },
    |node| {
        let covered = Covered { immutable: Some(false), ..Covered::default() };
        node.covered.insert("/srv/eden/uploads".into(), covered.clone());
        node.covered.insert("/home/prod/eden/uploads".into(), covered);
    },
    |node| {
        let names = vec!["icon.png".into()];
        node.covered.insert("/srv/eden/fonts".into(), Covered { entries: 1, names, immutable: Some(true) });
    },
    |node| {
        let inside = Inside { empty: true, ..evenkeel_core::fake::root_folder() };
        node.insides.insert("/srv/eden/fonts".into(), inside);
    },
    |node| node.mounts.push(mount("29 1 0:54 / /srv/eden/fonts rw - autofs systemd-1 rw")),
    |node| node.mounts.push(mount("30 29 0:55 / /srv/eden/fonts rw - nfs4 10.20.3.5:/eden/fonts rw,hard")),
    |node| {
        let path = "/etc/systemd/system/srv-eden-fonts.mount";
        let text = "# guard: immutable\n[Mount]\nWhat=10.20.3.5:/eden/other\nWhere=/srv/eden/fonts\nType=nfs4\nOptions=nofail\n";
        file(node, path, &owned(text));
    },
    |node| node.mounts.push(mount("31 1 0:56 / /srv/eden/fonts rw - nfs4 10.20.3.5:/eden/other rw,hard")),
    |node| {
        let text = "[Automount]\nWhere=/srv/eden/fonts\n[Install]\nWantedBy=remote-fs.target\n";
        file(node, "/etc/systemd/system/srv-eden-fonts.automount", &owned(text));
        let text = "[Automount]\nWhere=/srv/eden/cache\n[Install]\nWantedBy=local-fs.target\n";
        file(node, "/etc/systemd/system/srv-eden-cache.automount", &owned(text));
        file(node, "/etc/systemd/system/local-fs.target.wants/srv-eden-cache.automount", "");
    },
    |node| file(node, "/etc/systemd/system/remote-fs.target.wants/srv-eden-fonts.mount", ""),
    |node| file(node, "/etc/fstab", "10.20.3.5:/eden/uploads /srv/eden/uploads nfs4 soft,bg 0 0\n"),
    |node| {
        let path = "/etc/systemd/system/srv-eden-uploads.mount.d/more.conf";
        file(node, path, "[Mount]\nOptions=hard\n");
    },
    |node| {
        let text = format!("# guard: immutable\n{}", unit("/srv/gone", "tmpfs"));
        file(node, "/etc/systemd/system/srv-gone.mount", &owned(&text));
        node.covered.insert("/srv/gone".into(), Covered { immutable: Some(true), ..Covered::default() });
    },
    // PostgreSQL.
    |node| {
        node.files.remove(Path::new("/var/lib/postgresql/13/main/postmaster.pid"));
        node.servers.remove("13/main");
    },
    |node| {
        node.servers.remove("reporting");
    },
    |node| file(node, MAIN, "max_connections = 100\nmax_connections = 20\nwork_mem = 2MB\n"),
    |node| file(node, MAIN, "include_dir = 'conf.d'\nlisten_addresses = 127.0.0.1\n"),
    |node| file(node, MAIN, "work_mem = 2MB\ninclude_dir 'conf.d'\ntcp_user_timeout = 5s\n"),
    |node| {
        node.files.remove(Path::new(MAIN));
    },
    |node| file(node, "/etc/postgresql/13/main/conf.d/99-zz.conf", "autovacuum = off\n"),
    |node| file(node, "/var/lib/postgresql/13/main/postgresql.auto.conf", "tcp_keepalives_idle = '7200'\n"),
    |node| file(node, PG_DROP_IN, "work_mem = 1MB\n"),
    |node| {
        let text = format!("{}\nwork_mem = '1MB'\njit = 'off'\n", evenkeel_kinds::MARKER);
        file(node, PG_DROP_IN, &text);
    },
    |node| override_of(node, Some("sahana"), None, "tcp_keepalives_idle", "7200"),
    |node| override_of(node, Some("sahana"), Some("eden"), "tcp_keepalives_idle", "100"),
    |node| override_of(node, Some("sahana"), None, "work_mem", "16MB"),
    |node| override_of(node, None, Some("eden"), "work_mem", "1MB"),
    // Somebody has a value of his own where a path has promised one.
    |node| override_of(node, Some("backup"), None, "tcp_keepalives_idle", "0"),
    |node| override_of(node, Some("backup"), Some("eden"), "tcp_keepalives_idle", "1min"),
    |node| override_of(node, None, Some("eden"), "tcp_keepalives_idle", "0"),
    |node| override_of(node, None, None, "tcp_keepalives_idle", "7200"),
    |node| override_of(node, None, Some("eden"), "tcp_user_timeout", "0"),
    |node| {
        let barred = |one: &mut PgOverride| one.barred = one.role.as_deref() == Some("backup");
        node.servers.entry("13/main".into()).or_default().overrides.iter_mut().for_each(barred);
    },
    // The server that is reached through SQL alone.
    |node| {
        node.servers.remove("managed");
    },
    |node| on_managed(node, |_, rights| rights.databases = ["eden".into(), "reports".into()].into()),
    |node| {
        on_managed(node, |_, rights| {
            rights.alter_system = ["tcp_keepalives_idle".into(), "max_connections".into()].into();
        });
    },
    |node| on_managed(node, |_, rights| rights.reload = true),
    |node| on_managed(node, |_, rights| rights.others = ["reader".into()].into()),
    |node| on_managed(node, |facts, _| facts.in_recovery = true),
    |node| {
        on_managed(node, |facts, _| {
            let of = |role: Option<&str>, database: Option<&str>, value: &str| PgOverride {
                role: role.map(str::to_owned),
                database: database.map(str::to_owned),
                setting: "tcp_keepalives_idle".into(),
                value: value.into(),
                barred: role == Some("reader"),
            };
            let eden = of(None, Some("eden"), "0");
            facts.overrides.extend([of(Some("reader"), None, "0"), of(Some("eden"), None, "7200"), eden]);
        });
    },
    |node| {
        on_managed(node, |facts, _| {
            for name in ["tcp_keepalives_idle", "max_connections"] {
                facts.settings.entry(name.into()).or_default().source = "user".into();
            }
        });
    },
    |node| {
        on_managed(node, |facts, _| {
            facts.settings.entry("tcp_keepalives_idle".into()).or_default().reset_val = "60".into();
        });
    },
    |node| node.servers.entry("13/main".into()).or_default().in_recovery = true,
    |node| {
        if let Some(work_mem) =
            node.servers.get_mut("13/main").and_then(|one| one.settings.get_mut("work_mem"))
        {
            work_mem.source = "command line".into();
        }
    },
    |node| {
        if let Some(facts) = node.servers.get_mut("reporting") {
            facts.settings.remove("log_line_prefix");
        }
    },
    |node| {
        node.owed.insert("postgresql/13/main reload".into());
    },
    |node| {
        node.owed.insert("postgresql/11/old reload".into());
        file(node, "/etc/postgresql/11/old/postgresql.conf", "include_dir = 'conf.d'\n");
    },
    |node| {
        cluster(node, "11/old", "/etc/postgresql/11/old", "/var/lib/postgresql/11/old");
        let text = format!("{}\nwork_mem = '1MB'\n", evenkeel_kinds::MARKER);
        file(node, "/etc/postgresql/11/old/conf.d/99-evenkeel.conf", &text);
    },
];

/// Any node.
pub fn any_node() -> impl Strategy<Value = FakeNode> {
    proptest::collection::vec(any::<bool>(), PARTS.len()).prop_map(|there| {
        let mut node = bare();
        PARTS.iter().zip(there).filter(|(_, there)| *there).for_each(|(part, _)| part(&mut node));
        node.loaded = loaded(&node);
        // A file that was changed after systemd had read it.
        if let Some(text) = node.loaded.get_mut("srv-eden-cache.mount") {
            *text = text.replace("Options=nofail", "Options=nofail,size=1m");
        }
        node
    })
}

fn loaded(node: &FakeNode) -> BTreeMap<String, String> {
    let units = node.files.iter().filter_map(|(path, text)| {
        let name = path.strip_prefix("/etc/systemd/system").ok()?.to_str()?;
        (!name.contains('/')).then(|| (name.to_owned(), text.clone()))
    });
    units.collect()
}
