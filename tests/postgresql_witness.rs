//! Who says what of a parameter, asked of a real server through every layer that it has.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use evenkeel_core::{AnyKind, Mode, Origin, RawItem, Witness};
use evenkeel_host::Host;
use evenkeel_kinds::postgresql::Postgresql;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Cluster {
    folder: TempDir,
    bin: PathBuf,
    port: u16,
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Cluster {
    fn new() -> Self {
        let found =
            std::fs::read_dir("/usr/lib/postgresql").unwrap().map(|one| one.unwrap().path().join("bin"));
        let bin = found.filter(|bin| bin.join("initdb").exists()).max().unwrap();
        let folder = tempfile::Builder::new().prefix("evenkeel-pg").tempdir().unwrap();
        run(Command::new("chown").arg("postgres").arg(folder.path()));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { folder, bin, port };
        let data = cluster.data();
        cluster.pg("initdb", &["-A", "peer", "-N", "-D", data.to_str().unwrap()]);
        cluster.put("conf.d/10-hand.conf", "tcp_keepalives_idle = 500\n");
        cluster.put(
            "conf.d/99-evenkeel.conf",
            &format!("{}\ntcp_keepalives_idle = '29s'\n", evenkeel_kinds::MARKER),
        );
        cluster.put("pg_hba.conf", "local all all peer\nhost all all 127.0.0.1/32 trust\n");
        let conf = data.join("postgresql.conf");
        let folder = cluster.folder.path().display();
        let more = format!(
            "\nlisten_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{folder}'\nfsync = off\n\
             tcp_keepalives_idle = 7200\ninclude_dir = 'conf.d'\n"
        );
        std::fs::write(&conf, std::fs::read_to_string(&conf).unwrap() + &more).unwrap();
        cluster.start("");
        cluster
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn start(&self, options: &str) {
        let (data, log) = (self.data(), self.folder.path().join("log"));
        self.pg(
            "pg_ctl",
            &["-w", "-D", data.to_str().unwrap(), "-l", log.to_str().unwrap(), "-o", options, "start"],
        );
    }

    fn put(&self, name: &str, text: &str) {
        let path = self.data().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        run(Command::new("chown").arg("-R").arg("postgres").arg(path.parent().unwrap()));
    }

    fn pg(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new("runuser");
        run(command.args(["-u", "postgres", "--"]).arg(self.bin.join(program)).args(args).current_dir("/"))
    }

    fn sql(&self, statement: &str) {
        let (folder, port) = (self.folder.path().to_str().unwrap().to_owned(), self.port.to_string());
        self.pg("psql", &["-XAtq", "-h", &folder, "-p", &port, "-d", "postgres", "-c", statement]);
    }

    /// Everybody who says something of `settings/tcp_keepalives_idle`, in order.
    fn told(&self) -> Vec<Witness> {
        let fields = json!({
            "data_directory": self.data(), "settings": {"tcp_keepalives_idle": "29s"},
            "promised": {"tcp_keepalives_idle": "report"}
        });
        let origin = Origin { file: "tiers/t.yaml".into(), line: 3, path: None };
        let raw = RawItem { fields, absent: false, mode: Mode::Enforce, origin };
        let goal = Postgresql.goal(Mode::Enforce, [("x".to_owned(), raw)].into()).unwrap();
        let host = Host::new(Path::new("/nonexistent").to_owned());
        goal.witness("x", "settings/tcp_keepalives_idle", &host).unwrap()
    }

    /// The rows, short: which layer says what, the winner with a star.
    fn short(&self) -> Vec<String> {
        let row = |row: &Witness| format!("{}{}={}", if row.won { "*" } else { "" }, row.layer, row.value);
        self.told().iter().map(row).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(self.bin.join("pg_ctl"));
        let _ = command.args(["-m", "immediate", "-D"]).arg(self.data()).arg("stop").output();
    }
}

struct Session(Child);

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_layer_of_a_real_server_is_told_and_the_one_that_wins() {
    let cluster = Cluster::new();
    let files = ["postgresql.conf=7200", "10-hand.conf=500"];
    let with = |more: &[&str]| files.iter().chain(more).map(|&row| row.to_owned()).collect::<Vec<_>>();
    assert_eq!(cluster.short(), with(&["*99-evenkeel.conf=29s"]));

    // Somebody shadows it, and it is not read yet; then it is.
    cluster.sql("ALTER SYSTEM SET tcp_keepalives_idle = '2h'");
    let unread = ["99-evenkeel.conf=29s", "postgresql.auto.conf=2h", "*server=29s"];
    assert_eq!(cluster.short(), with(&unread));
    assert_eq!(cluster.told()[3].note.as_deref(), Some("not read yet"));
    cluster.sql("SELECT pg_reload_conf()");
    let end = Instant::now() + Duration::from_secs(5);
    let read = ["99-evenkeel.conf=29s", "*postgresql.auto.conf=2h"];
    while cluster.short() != with(&read) {
        assert!(Instant::now() < end, "{:?}", cluster.told());
    }
    let place = cluster.told()[3].place.clone();
    assert!(place.ends_with("data/postgresql.auto.conf:3"), "{place}");
    assert_eq!(cluster.told()[2].note, Some(format!("loses to {place}")));

    // Roles and databases come over that.
    cluster.sql("CREATE ROLE sahana LOGIN");
    cluster.sql("ALTER DATABASE template1 SET tcp_keepalives_idle = 1");
    cluster.sql("ALTER ROLE sahana SET tcp_keepalives_idle = 2");
    cluster.sql("ALTER ROLE sahana IN DATABASE postgres SET tcp_keepalives_idle = 3");
    let over = ["database template1=1", "role sahana=2", "role sahana in database postgres=3"];
    assert_eq!(cluster.short(), with(&[&read[..], &over].concat()));

    // A session that is open.
    let port = cluster.port.to_string();
    let mut psql = Command::new("psql");
    psql.args(["-X", "-h", "127.0.0.1", "-p", &port, "-U", "sahana", "-d", "postgres"]);
    let session = Session(psql.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap());
    let end = Instant::now() + Duration::from_secs(5);
    let open =
        |row: &Witness| row.layer == "connection" && row.place.contains("sahana@postgres from 127.0.0.1:");
    while !cluster.told().iter().any(open) {
        assert!(Instant::now() < end, "{:?}", cluster.told());
    }
    drop(session);

    // The command line is over all files.
    let data = cluster.data();
    cluster.pg("pg_ctl", &["-w", "-m", "fast", "-D", data.to_str().unwrap(), "stop"]);
    cluster.start("-c tcp_keepalives_idle=400");
    let command = ["99-evenkeel.conf=29s", "postgresql.auto.conf=2h", "*command line=400s"];
    assert_eq!(cluster.short(), with(&[&command[..], &over].concat()));
    cluster.sql("ALTER ROLE ALL SET tcp_keepalives_idle = 77");
    assert_eq!(
        cluster.short()[4..6],
        ["command line=400", "*every role=77"],
        "though our own session has 77 too"
    );
}
