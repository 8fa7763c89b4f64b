//! A starting node, read from a text.

use evenkeel_core::fake::FakeNode;
use evenkeel_core::{Class, Compared, MirrorSeen, PgReach, PgServer, Probed, Probing};
use evenkeel_core::{
    Covered, FolderSeen, Holder, Inside, MountEntry, PgFacts, PgLink, PgOverride, PgReceiver, PgReplication,
    PgRights, PgSender, PgSetting, WriteTrouble,
};
use evenkeel_core::{SocketId, SocketOwner, SocketSeen, SocketTimer, UnitSeen};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Text {
    systemd: bool,
    files: BTreeMap<PathBuf, String>,
    links: BTreeMap<PathBuf, PathBuf>,
    missing: BTreeSet<PathBuf>,
    sysctls: BTreeMap<String, String>,
    unreadable: BTreeSet<String>,
    /// Lines of mountinfo.
    mounts: Vec<String>,
    backings: BTreeMap<String, PathBuf>,
    insides: BTreeMap<PathBuf, Folder>,
    /// Folders that do not answer: `hung`, `stale`, or why.
    silent: BTreeMap<PathBuf, String>,
    /// The names that lie in folders themselves.
    covered: BTreeMap<PathBuf, Vec<String>>,
    /// Folders whose filesystem has the flag, and whether it is set.
    immutable: BTreeMap<PathBuf, bool>,
    /// `uwsgi 4242 uwsgi-prod.service`
    holders: BTreeMap<PathBuf, Vec<String>>,
    /// Units whose files are newer than what systemd has read: what it has read.
    loaded: BTreeMap<String, String>,
    owed: BTreeSet<String>,
    /// `root web2py 0640`
    owned: BTreeMap<PathBuf, String>,
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
    credentials: BTreeMap<String, String>,
    /// Services, and whether they are active.
    services: BTreeMap<String, String>,
    faults: BTreeMap<String, String>,
    servers: BTreeMap<String, Server>,
    pg_boot: BTreeMap<String, String>,
    sockets: Vec<Connection>,
    /// How folders stand to where they come from.
    mirrors: BTreeMap<String, Mirror>,
    /// What probes are told, by `tcp HOST:PORT`, `http URL`, `memcached …`, `sql QUERY`, `file …` or `certificate …`.
    probings: BTreeMap<String, String>,
    units: BTreeMap<String, Unit>,
    tier: Option<String>,
    /// Slots of the fleet that are ours, and groups whose slots others have.
    slots: BTreeSet<String>,
    slots_gone: BTreeSet<String>,
    /// The time, in seconds since 1970.
    time: i64,
    /// Why each power over sockets is missing.
    no: BTreeMap<String, String>,
}

/// `change`, `remove`, `source` and `here` are those of a comparison; without `source` there was none.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Mirror {
    change: usize,
    remove: usize,
    names: Vec<String>,
    source: Option<usize>,
    here: usize,
    waits_for: Option<String>,
    trouble: Option<String>,
    under_way: Option<String>,
    in_step_at: Option<i64>,
    late: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Connection {
    local: String,
    remote: String,
    timer: String,
    #[serde(default)]
    expires_ms: u32,
    #[serde(default)]
    retransmits: u8,
    #[serde(default)]
    rto_ms: u32,
    #[serde(default)]
    silent_ms: u32,
    /// `uwsgi 4242 uwsgi-prod.service`
    held_by: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Unit {
    load: Option<String>,
    active: Option<String>,
    sub: String,
    file_state: Option<String>,
    fragment: String,
    need_daemon_reload: bool,
    result: String,
    restarts: u32,
    fresh: bool,
    since_us: u64,
    hold_off: bool,
    last_lines: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Folder {
    owner: String,
    #[serde(default)]
    group: Option<String>,
    mode: String,
    sentinel: Option<bool>,
    #[serde(default)]
    empty: bool,
    #[serde(default)]
    took_ms: u64,
    /// `ok`, `read-only`, or why not.
    #[serde(default)]
    write: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Server {
    in_recovery: bool,
    version: Option<u32>,
    rights: Option<Rights>,
    replication: Option<Replication>,
    refused: BTreeSet<String>,
    settings: BTreeMap<String, Setting>,
    overrides: Vec<Override>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Setting {
    value: String,
    vartype: String,
    unit: Option<String>,
    context: Option<String>,
    source: Option<String>,
    file: Option<PathBuf>,
    line: Option<u32>,
    pending_restart: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Override {
    role: Option<String>,
    database: Option<String>,
    setting: String,
    value: String,
    barred: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Rights {
    role: String,
    superuser: bool,
    alter_system: BTreeSet<String>,
    reload: bool,
    databases: BTreeSet<String>,
    roles: BTreeSet<String>,
    others: BTreeSet<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Replication {
    /// Standbys, by name, and their states.
    senders: BTreeMap<String, String>,
    idle_slots: BTreeSet<String>,
    receiver: Option<String>,
    slot: Option<String>,
    /// The timers in `primary_conninfo`, where there is one.
    link: Option<BTreeMap<String, String>>,
    paused: bool,
    unreplayed: u64,
}

/// The node that a `node.yaml` tells of.
pub fn read(text: &str) -> FakeNode {
    let text: Text = serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error}"));
    let mut node = FakeNode {
        systemd: text.systemd,
        files: text.files,
        links: text.links,
        missing: text.missing,
        sysctls: text.sysctls.into_iter().map(|(key, value)| (key.parse().unwrap(), value)).collect(),
        unreadable: text.unreadable.iter().map(|key| key.parse().unwrap()).collect(),
        mounts: text.mounts.iter().map(|line| mount(line)).collect(),
        backings: text.backings,
        insides: text.insides.into_iter().map(|(path, folder)| (path, inside(folder))).collect(),
        silent: text.silent.into_iter().map(|(path, word)| (path, silent(word))).collect(),
        covered: covered(&text.covered, &text.immutable),
        holders: text
            .holders
            .into_iter()
            .map(|(path, all)| (path, all.iter().map(|text| holder(text)).collect()))
            .collect(),
        owed: text.owed,
        owned: text.owned.into_iter().map(|(path, words)| (path, owner(&words))).collect(),
        users: text.users,
        groups: text.groups,
        credentials: text.credentials,
        faults: text.faults,
        servers: text.servers.into_iter().map(|(name, one)| (name, server(one))).collect(),
        pg_boot: text.pg_boot,
        mirrors: text.mirrors.into_iter().map(|(to, one)| (to, mirror(one))).collect(),
        probings: text.probings.iter().map(|(what, told)| probing(what, told)).collect(),
        time: text.time,
        sockets: text.sockets.into_iter().zip(1..).map(connection).collect(),
        units: text
            .services
            .into_iter()
            .map(|(name, active)| (name, service(&active)))
            .chain(text.units.into_iter().map(|(name, one)| (name, unit_seen(one))))
            .collect(),
        tier: text.tier,
        slots: text.slots.into_iter().map(|group| (group, "service".to_owned())).collect(),
        slots_gone: text.slots_gone,
        ..FakeNode::default()
    };
    for (power, why) in text.no {
        match power.as_str() {
            "see" => node.powers.see = Err(why),
            "retune" => node.powers.retune = Err(why),
            "free" => node.powers.free = Err(why),
            other => panic!("no power {other}"),
        }
    }
    // A node that has booted has its units read.
    let unit = |(path, text): (&PathBuf, &String)| {
        let name = path.strip_prefix("/etc/systemd/system").ok()?.to_str()?;
        (!name.contains('/')).then(|| (name.to_owned(), text.clone()))
    };
    node.loaded = node.files.iter().filter_map(unit).collect();
    node.loaded.extend(text.loaded);
    node
}

fn unit_seen(unit: Unit) -> UnitSeen {
    UnitSeen {
        load: unit.load.unwrap_or_else(|| "loaded".into()),
        active: unit.active.unwrap_or_else(|| "active".into()),
        sub: unit.sub,
        file_state: unit.file_state.unwrap_or_else(|| "enabled".into()),
        fragment: unit.fragment,
        need_daemon_reload: unit.need_daemon_reload,
        can_reload: true,
        result: unit.result,
        restarts: unit.restarts,
        fresh: unit.fresh,
        since_us: unit.since_us,
        hold_off: unit.hold_off,
        last_lines: unit.last_lines,
        ..UnitSeen::default()
    }
}

fn owner(words: &str) -> (String, String, u32) {
    let words: Vec<&str> = words.split(' ').collect();
    (words[0].into(), words[1].into(), u32::from_str_radix(words[2], 8).unwrap())
}

fn service(active: &str) -> UnitSeen {
    UnitSeen { load: "loaded".into(), active: active.into(), ..UnitSeen::default() }
}

fn mirror(one: Mirror) -> MirrorSeen {
    let (change, remove, names, here) = (one.change, one.remove, one.names, one.here);
    let waits = one.waits_for.map(|why| (Class::Waiting, why));
    MirrorSeen {
        compared: one.source.map(|source| Compared { change, remove, names, source, here }),
        trouble: waits.or(one.trouble.map(|why| (Class::Trouble, why))),
        under_way: one.under_way,
        in_step_at: one.in_step_at,
        late: one.late,
    }
}

/// `answers`, `failed WHY`, `http STATUS [without the text]`, `value TEXT`, `null` or `time SECONDS`.
fn probing(what: &str, told: &str) -> (Probed, Probing) {
    let (sort, of) = what.split_once(' ').unwrap();
    let (word, rest) = told.split_once(' ').unwrap_or((told, ""));
    let contains = !rest.ends_with("without the text");
    let status = || rest.split(' ').next().unwrap().parse().unwrap();
    let probing = match word {
        "answers" => Probing::Answers,
        "failed" => Probing::Failed(rest.into()),
        "http" => Probing::Http { status: status(), contains },
        "value" => Probing::Value(Some(rest.into())),
        "null" => Probing::Value(None),
        "time" => Probing::Time(rest.parse().unwrap()),
        other => panic!("no answer {other}"),
    };
    let (page, text) =
        of.split_once(" with ").map_or((of, None), |(page, text)| (page, Some(text.to_owned())));
    let probed = match sort {
        "tcp" => Probed::Tcp(of.into()),
        "memcached" => Probed::Memcached(of.into()),
        "http" => Probed::Http { url: page.into(), contains: text },
        "file" => Probed::FileAge(of.into()),
        "certificate" => Probed::CertificateFile(of.into()),
        "sql" => {
            let reach = PgReach::Local {
                data_directory: "/var/lib/postgresql/13/main".into(),
                socket_dir: "/var/run/postgresql".into(),
                port: 5432,
            };
            let server = PgServer { name: "13/main".into(), reach };
            Probed::Postgres { server, database: None, role: Some("pg_monitor".into()), query: of.into() }
        }
        other => panic!("nothing to ask as {other}"),
    };
    (probed, probing)
}

fn connection((one, cookie): (Connection, u64)) -> SocketSeen {
    let timer = match one.timer.as_str() {
        "off" => SocketTimer::Off,
        "keepalive" => SocketTimer::Keepalive,
        "retransmit" => SocketTimer::Retransmit,
        other => panic!("no timer {other}"),
    };
    let owner = one.held_by.map(|text| {
        let parts: Vec<&str> = text.split(' ').collect();
        let unit = parts.get(2).map(|unit| (*unit).to_owned());
        SocketOwner { comm: parts[0].into(), pid: parts[1].parse().unwrap(), fd: 7, unit }
    });
    SocketSeen {
        id: SocketId {
            netns: 0,
            local: one.local.parse().unwrap(),
            remote: one.remote.parse().unwrap(),
            cookie,
        },
        timer,
        expires_ms: one.expires_ms,
        retransmits: one.retransmits,
        probes: 0,
        rto_ms: one.rto_ms,
        unacked: u32::from(timer == SocketTimer::Retransmit),
        last_data_recv_ms: one.silent_ms,
        last_ack_recv_ms: one.silent_ms,
        uid: 33,
        owner,
    }
}

/// One line of mountinfo, without escapes.
pub fn mount(line: &str) -> MountEntry {
    let parts: Vec<&str> = line.split(' ').collect();
    let dash = parts.iter().position(|part| *part == "-").unwrap();
    let (major, minor) = parts[2].split_once(':').unwrap();
    let words = |text: &str| text.split(',').map(str::to_owned).collect();
    MountEntry {
        id: parts[0].parse().unwrap(),
        parent: parts[1].parse().unwrap(),
        device: (major.parse().unwrap(), minor.parse().unwrap()),
        root: parts[3].into(),
        target: parts[4].into(),
        options: words(parts[5]),
        fstype: parts[dash + 1].into(),
        source: parts[dash + 2].into(),
        super_options: words(parts[dash + 3]),
    }
}

fn inside(folder: Folder) -> Inside {
    let mode = u32::from_str_radix(&folder.mode, 8).unwrap();
    let write = folder.write.map(|word| match word.as_str() {
        "ok" => Ok(()),
        "read-only" => Err(WriteTrouble::ReadOnly),
        why => Err(WriteTrouble::Other(why.into())),
    });
    Inside {
        owner: Some(folder.owner),
        group: Some(folder.group.unwrap_or_else(|| "root".into())),
        mode,
        sentinel: folder.sentinel,
        empty: folder.empty,
        took: std::time::Duration::from_millis(folder.took_ms.max(1)),
        write,
        ..evenkeel_core::fake::root_folder()
    }
}

fn silent(word: String) -> FolderSeen {
    match word.as_str() {
        "hung" => FolderSeen::Hung,
        "stale" => FolderSeen::Stale,
        _ => FolderSeen::Trouble(word),
    }
}

fn holder(text: &str) -> Holder {
    let parts: Vec<&str> = text.split(' ').collect();
    let unit = parts.get(2).map(|unit| (*unit).to_owned());
    Holder { comm: parts[0].into(), pid: parts[1].parse().unwrap(), unit }
}

fn covered(
    names: &BTreeMap<PathBuf, Vec<String>>,
    immutable: &BTreeMap<PathBuf, bool>,
) -> BTreeMap<PathBuf, Covered> {
    let paths: BTreeSet<&PathBuf> = names.keys().chain(immutable.keys()).collect();
    let one = |path: &PathBuf| {
        let all = names.get(path).cloned().unwrap_or_default();
        let (entries, names) = (all.len(), all.into_iter().take(3).collect());
        Covered { entries, names, immutable: immutable.get(path).copied() }
    };
    paths.into_iter().map(|path| (path.clone(), one(path))).collect()
}

fn rights(rights: Rights) -> PgRights {
    let Rights { role, superuser, alter_system, reload, databases, roles, others } = rights;
    PgRights { role, superuser, alter_system, reload, databases, roles, others }
}

fn replication(one: Replication) -> PgReplication {
    let slot = one.slot;
    PgReplication {
        senders: one
            .senders
            .into_iter()
            .map(|(application, state)| PgSender { application, state })
            .collect(),
        idle_slots: one.idle_slots,
        receiver: one.receiver.map(|status| PgReceiver { status, slot }),
        link: one.link.map(|timers| PgLink { host: Some("10.20.0.10".into()), timers }),
        paused: one.paused,
        unreplayed: one.unreplayed,
    }
}

fn server(server: Server) -> PgFacts {
    let settings = server.settings.into_iter().map(|(name, one)| {
        let setting = PgSetting {
            reset_val: one.value,
            vartype: one.vartype,
            unit: one.unit,
            context: one.context.unwrap_or_else(|| "user".into()),
            source: one.source.unwrap_or_else(|| "default".into()),
            sourcefile: one.file,
            sourceline: one.line,
            pending_restart: one.pending_restart,
            ..PgSetting::default()
        };
        (name, setting)
    });
    let overrides = server.overrides.into_iter().map(|one| PgOverride {
        role: one.role,
        database: one.database,
        setting: one.setting,
        value: one.value,
        barred: one.barred,
    });
    PgFacts {
        version: server.version.unwrap_or(150_018),
        in_recovery: server.in_recovery,
        rights: server.rights.map(rights),
        replication: server.replication.map(replication),
        refused: server.refused,
        settings: settings.collect(),
        overrides: overrides.collect(),
        ..PgFacts::default()
    }
}
