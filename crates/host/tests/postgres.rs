//! A real cluster, made for the test with initdb, with its own folder of drop-ins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

use evenkeel_core::{Actuator, Class, PgQuestion, PgReach, PgServer, Sensor, Step, chain};
use evenkeel_host::Host;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const BIN: &str = "/usr/lib/postgresql";

/// A running cluster of the user `postgres`; stopped when dropped.
struct Cluster {
    folder: TempDir,
    bin: PathBuf,
}

impl Cluster {
    fn new() -> Self {
        let bin = newest_bin();
        let folder = tempfile::Builder::new().prefix("evenkeel-pg").tempdir().unwrap();
        run(Command::new("chown").arg("postgres").arg(folder.path()));
        let cluster = Self { folder, bin };
        let data = cluster.data();
        cluster.pg("initdb", &["-A", "peer", "-N", "-D", data.to_str().unwrap()]);
        cluster.put("conf.d/00-empty.conf", "");
        let conf = data.join("postgresql.conf");
        let mut text = std::fs::read_to_string(&conf).unwrap();
        text.push_str("\nlisten_addresses = ''\nfsync = off\ninclude_dir = 'conf.d'\n");
        std::fs::write(&conf, text).unwrap();
        cluster.start();
        cluster
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn pg(&self, program: &str, args: &[&str]) {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(self.bin.join(program)).args(args).current_dir("/");
        run(&mut command);
    }

    fn start(&self) {
        let (data, log) = (self.data(), self.folder.path().join("log"));
        let options = format!("-k {} -p 5499", self.folder.path().display());
        self.pg(
            "pg_ctl",
            &["-w", "-D", data.to_str().unwrap(), "-l", log.to_str().unwrap(), "-o", &options, "start"],
        );
    }

    fn stop(&self) {
        let data = self.data();
        self.pg("pg_ctl", &["-w", "-m", "immediate", "-D", data.to_str().unwrap(), "stop"]);
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.data().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        run(Command::new("chown").arg("postgres").arg(path.parent().unwrap()));
        std::fs::write(&path, text).unwrap();
        path
    }

    fn server(&self) -> PgServer {
        let socket_dir = self.folder.path().to_owned();
        let reach = PgReach::Local { data_directory: self.data(), socket_dir, port: 5499 };
        PgServer { name: "15/test".into(), reach }
    }

    fn sql(&self, statement: &str) {
        let folder = self.folder.path().to_str().unwrap().to_owned();
        self.pg("psql", &["-q", "-h", &folder, "-p", "5499", "-d", "template1", "-c", statement]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.data();
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(self.bin.join("pg_ctl"));
        let _ = command.args(["-m", "immediate", "-D"]).arg(data).arg("stop").output();
    }
}

fn newest_bin() -> PathBuf {
    let versions = std::fs::read_dir(BIN).expect("this test needs PostgreSQL: apt-get install postgresql");
    let found =
        versions.map(|entry| entry.unwrap().path().join("bin")).filter(|bin| bin.join("initdb").exists());
    found.max().expect("this test needs PostgreSQL's initdb")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn host(run_dir: &Path) -> Host {
    Host::new(run_dir.to_owned())
}

fn question(names: &[&str]) -> PgQuestion {
    PgQuestion { settings: names.iter().map(|&name| name.to_owned()).collect(), ..PgQuestion::default() }
}

#[test]
fn a_value_is_written_reloaded_and_seen_by_every_layer() {
    let cluster = Cluster::new();
    let (server, mut host) = (cluster.server(), host(cluster.folder.path()));
    let facts =
        host.postgres(&server, &question(&["tcp_keepalives_idle", "no_such_thing", "timezone"])).unwrap();
    assert!(facts.version >= 90_500 && !facts.in_recovery, "{facts:?}");
    assert_eq!(facts.settings["tcp_keepalives_idle"].reset_val, "0");
    assert_eq!(facts.settings["tcp_keepalives_idle"].unit.as_deref(), Some("s"));
    assert!(facts.settings.contains_key("timezone"), "known to the server as TimeZone");
    assert!(!facts.settings.contains_key("no_such_thing"));

    // Again and again, because the trouble with a reload is its timing.
    let path = cluster.data().join("conf.d/99-evenkeel.conf");
    for idle in 61..91 {
        let text = format!("# ours\ntcp_keepalives_idle = {idle}\n");
        host.perform(&Step::WriteFile { path: path.clone(), text, mode: 0o644 }).unwrap();
        host.perform(&Step::ReloadPostgres { server: server.clone() }).unwrap();
        let facts = host.postgres(&server, &question(&["tcp_keepalives_idle"])).unwrap();
        let setting = &facts.settings["tcp_keepalives_idle"];
        assert_eq!(setting.reset_val, idle.to_string());
        assert_eq!((setting.sourcefile.as_ref(), setting.sourceline), (Some(&path), Some(2)));
        assert!(facts.file_settings.iter().all(|row| row.applied && row.error.is_none()), "{facts:?}");
    }
}

#[test]
fn what_waits_for_a_restart_and_what_the_server_refuses_is_seen() {
    let cluster = Cluster::new();
    let (server, mut host) = (cluster.server(), host(cluster.folder.path()));
    let path = cluster.data().join("conf.d/99-evenkeel.conf");
    let text = "max_connections = 77\nwork_mem = 'abc'\ntcp_keepalives_idle = 60\n".to_owned();
    host.perform(&Step::WriteFile { path: path.clone(), text, mode: 0o644 }).unwrap();
    host.perform(&Step::ReloadPostgres { server: server.clone() }).unwrap();
    let facts = host.postgres(&server, &question(&["max_connections", "tcp_keepalives_idle"])).unwrap();
    assert!(facts.settings["max_connections"].pending_restart);
    assert_eq!(facts.settings["max_connections"].context, "postmaster");
    assert_eq!(facts.settings["tcp_keepalives_idle"].reset_val, "60", "the rest is applied");
    let bad = facts.file_settings.iter().find(|row| row.name.as_deref() == Some("work_mem")).unwrap();
    assert_eq!((&bad.file, bad.line), (&path, 2));
    assert!(bad.error.is_some());

    // A broken line makes the server refuse all of its files: told at once, with its place.
    cluster.put("conf.d/50-other.conf", "work_mem = = 4MB\n");
    let started = Instant::now();
    let fault = host.perform(&Step::ReloadPostgres { server: server.clone() }).unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert!(chain(&fault).contains("conf.d/50-other.conf:1: syntax error"), "{}", chain(&fault));
    let facts = host.postgres(&server, &question(&["max_connections"])).unwrap();
    let broken = facts.file_settings.iter().find(|row| row.error.as_deref() == Some("syntax error"));
    assert!(broken.is_some_and(|row| row.file.ends_with("conf.d/50-other.conf")), "{facts:?}");
}

#[test]
fn overrides_of_roles_and_databases_are_seen_and_taken_back() {
    let cluster = Cluster::new();
    let (server, mut host) = (cluster.server(), host(cluster.folder.path()));
    cluster.sql("CREATE ROLE \"odd \"\"name\"");
    let mut alter = |role: Option<&str>, database: Option<&str>, value: Option<&str>| {
        let (role, database) = (role.map(str::to_owned), database.map(str::to_owned));
        let (setting, value) = ("search_path".to_owned(), value.map(str::to_owned));
        host.perform(&Step::AlterPostgres { server: server.clone(), role, database, setting, value })
            .unwrap();
        let facts = host.postgres(&server, &question(&["search_path"])).unwrap();
        let row = |o: &evenkeel_core::PgOverride| format!("{:?} {:?} {}", o.role, o.database, o.value);
        facts.overrides.iter().map(row).collect::<Vec<_>>()
    };
    let odd = Some("odd \"name");
    assert_eq!(alter(odd, None, Some("a=b'c\\d")), [r#"Some("odd \"name") None "a=b'c\d""#]);
    assert_eq!(alter(odd, Some("template1"), Some("x")).len(), 2);
    assert_eq!(alter(None, Some("template1"), Some("y")).len(), 3);
    assert_eq!(alter(odd, None, None).len(), 2);
    assert_eq!(alter(odd, Some("template1"), None), ["None Some(\"template1\") y"]);
    assert!(alter(None, Some("template1"), None).is_empty());
}

#[test]
fn a_server_that_is_down_hangs_or_is_a_strangers_is_a_fault_soon() {
    let cluster = Cluster::new();
    let (server, host) = (cluster.server(), host(cluster.folder.path()));
    cluster.sql("DROP DATABASE postgres");
    host.postgres(&server, &question(&["work_mem"])).expect("there is template1 too");
    cluster.stop();
    let ask = || {
        let started = Instant::now();
        let fault = host.postgres(&server, &question(&["work_mem"])).unwrap_err();
        (fault.class, chain(&fault), started.elapsed())
    };
    let (class, why, took) = ask();
    assert_eq!(class, Class::Waiting, "{why}");
    assert!(why.contains("not running") && took < Duration::from_millis(500), "{why} {took:?}");

    // Somebody else, who happens to be root, puts up a socket of that name.
    let socket = cluster.folder.path().join(".s.PGSQL.5499");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let (_, why, _) = ask();
    assert!(why.contains("user 0 listens, not the owner"), "{why}");
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let cluster = Cluster::new();
    let (server, host) = (cluster.server(), host(cluster.folder.path()));
    let pid = std::fs::read_to_string(cluster.data().join("postmaster.pid")).unwrap();
    let pid = pid.lines().next().unwrap().to_owned();
    run(Command::new("kill").args(["-STOP", &pid]));
    let started = Instant::now();
    let fault = host.postgres(&server, &question(&["work_mem"])).unwrap_err();
    run(Command::new("kill").args(["-CONT", &pid]));
    assert!(chain(&fault).contains("did not answer in time"), "{}", chain(&fault));
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}
