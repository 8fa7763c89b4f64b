//! A real server reached over TCP: who is believed to be it, who gets a password, and what a role without rights sees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

use evenkeel_core::{
    Actuator, Class, Fault, PgFacts, PgQuestion, PgReach, PgRemote, PgSecret, PgServer, PgTls, Sensor, Step,
    chain,
};
use evenkeel_host::Host;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What must be nowhere but in its file and in the server.
const CANARY: &str = "canary-3f9a";

/// A cluster that listens on a port of 127.0.0.1, with a certificate for `localhost` and roles that are nobody's.
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

fn newest_bin() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("apt-get install postgresql");
    let found = versions.map(|one| one.unwrap().path().join("bin")).filter(|bin| bin.join("initdb").exists());
    found.max().expect("this test needs PostgreSQL's initdb")
}

/// An authority, and a certificate for `localhost` by it.
const CERTIFICATES: &str = "
    cd \"$1\"
    for ca in ca other; do
      openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj \"/CN=$ca\" \\
        -keyout $ca.key -out $ca.pem 2>/dev/null
    done
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=db -keyout server.key -out server.csr 2>/dev/null
    printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' > server.ext
    openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile server.ext -out server.pem 2>/dev/null
    chown postgres server.key server.pem
    chmod 0600 server.key
";

impl Cluster {
    fn new(hba: &str) -> Self {
        let (bin, folder) = (newest_bin(), tempfile::Builder::new().prefix("evenkeel-pg").tempdir().unwrap());
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        run(Command::new("sh").args(["-ec", CERTIFICATES, "sh"]).arg(folder.path()));
        run(Command::new("chown").arg("postgres").arg(folder.path()));
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { folder, bin, port };
        let data = cluster.data();
        cluster.pg("initdb", &["-A", "peer", "-N", "-D", data.to_str().unwrap()]);
        let conf = std::fs::read_to_string(data.join("postgresql.conf")).unwrap();
        let keys = cluster.folder.path().display();
        let more = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nfsync = off\nssl = on\nunix_socket_directories = '{keys}'\n\
             ssl_cert_file = '{keys}/server.pem'\nssl_key_file = '{keys}/server.key'\n"
        );
        std::fs::write(data.join("postgresql.conf"), conf + &more).unwrap();
        std::fs::write(data.join("pg_hba.conf"), format!("local all all peer\n{hba}\n")).unwrap();
        let log = cluster.folder.path().join("log");
        cluster.pg("pg_ctl", &["-w", "-D", data.to_str().unwrap(), "-l", log.to_str().unwrap(), "start"]);
        cluster.sql(&format!("CREATE ROLE eden LOGIN PASSWORD '{CANARY}'"));
        cluster.sql("CREATE ROLE reader LOGIN");
        cluster.sql("CREATE DATABASE eden OWNER eden");
        std::fs::write(cluster.secret(), format!("{CANARY}\n")).unwrap();
        std::fs::set_permissions(cluster.secret(), PermissionsExt::from_mode(0o600)).unwrap();
        cluster
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn secret(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    fn pg(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(self.bin.join(program)).args(args).current_dir("/");
        run(&mut command)
    }

    fn sql(&self, statement: &str) -> String {
        self.sql_in("postgres", statement)
    }

    fn sql_in(&self, database: &str, statement: &str) -> String {
        let (folder, port) = (self.folder.path().to_str().unwrap().to_owned(), self.port.to_string());
        self.pg("psql", &["-XAtq", "-h", &folder, "-p", &port, "-d", database, "-c", statement])
    }

    fn remote(&self, host: &str, tls: PgTls, ca: Option<&str>) -> PgServer {
        let reach = PgReach::Remote(PgRemote {
            host: host.into(),
            port: self.port,
            user: "eden".into(),
            database: "eden".into(),
            password: PgSecret::File(self.secret()),
            tls,
            ca: ca.map(|name| self.folder.path().join(name)),
        });
        PgServer { name: "managed".into(), reach }
    }

    fn full(&self) -> PgServer {
        self.remote("localhost", PgTls::VerifyFull, Some("ca.pem"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(self.bin.join("pg_ctl"));
        let _ = command.args(["-m", "immediate", "-D"]).arg(self.data()).arg("stop").output();
    }
}

fn host() -> Host {
    Host::new(PathBuf::from("/nonexistent"))
}

fn ask(server: &PgServer) -> Result<PgFacts, Fault> {
    let settings = vec!["tcp_keepalives_idle".to_owned(), "max_connections".to_owned()];
    let roles = vec!["eden".to_owned(), "reader".to_owned()];
    host().postgres(server, &PgQuestion { settings, roles, rights: true, ..PgQuestion::default() })
}

fn refused(server: &PgServer) -> String {
    let fault = ask(server).unwrap_err();
    let told = format!("{} {fault:?} {server:?}", chain(&fault));
    assert!(!told.contains(CANARY), "{told}");
    chain(&fault)
}

#[test]
fn only_a_server_that_is_vouched_for_is_spoken_to() {
    let cluster = Cluster::new("hostssl all all 127.0.0.1/32 scram-sha-256");
    assert!(ask(&cluster.full()).unwrap().version >= 90_500);
    for (tls, host, ca, word) in [
        (PgTls::VerifyFull, "localhost", Some("other.pem"), "UnknownIssuer"),
        (PgTls::VerifyFull, "127.0.0.1", Some("ca.pem"), "NotValidForName"),
        (PgTls::VerifyCa, "127.0.0.1", Some("other.pem"), "UnknownIssuer"),
        (PgTls::Require, "127.0.0.1", Some("other.pem"), "UnknownIssuer"),
        (PgTls::VerifyFull, "localhost", None, "the system's authorities are not asked"),
        (PgTls::VerifyFull, "localhost", Some("none.pem"), "no such file"),
        (PgTls::VerifyFull, "localhost", Some("password"), "no certificate in it"),
        (PgTls::Off, "127.0.0.1", None, "no encryption"),
    ] {
        let why = refused(&cluster.remote(host, tls, ca));
        let full = format!("{why} {:?}", ask(&cluster.remote(host, tls, ca)).unwrap_err());
        assert!(full.contains(word), "{tls:?} {host} {ca:?}: {full}");
    }
    ask(&cluster.remote("127.0.0.1", PgTls::VerifyCa, Some("ca.pem"))).unwrap();
    ask(&cluster.remote("127.0.0.1", PgTls::Require, Some("ca.pem"))).unwrap();
    ask(&cluster.remote("127.0.0.1", PgTls::Require, None)).unwrap();
    std::fs::set_permissions(cluster.secret(), PermissionsExt::from_mode(0o640)).unwrap();
    assert!(refused(&cluster.full()).contains("chmod 0600"));
    std::fs::set_permissions(cluster.secret(), PermissionsExt::from_mode(0o400)).unwrap();
    std::fs::write(cluster.secret(), format!("{CANARY}-wrong")).unwrap();
    assert!(refused(&cluster.full()).contains("password authentication failed"));
    std::fs::remove_file(cluster.secret()).unwrap();
    assert!(refused(&cluster.full()).contains("read the password in"));
}

#[test]
fn whoever_asks_for_the_password_itself_does_not_get_it_unless_it_has_proved_who_it_is() {
    let cluster = Cluster::new("host all all 127.0.0.1/32 password");
    let why = refused(&cluster.remote("127.0.0.1", PgTls::Off, None));
    assert!(why.contains("only SCRAM does"), "{why}");
    let why = refused(&cluster.remote("127.0.0.1", PgTls::Require, None));
    assert!(why.contains("channel binding"), "{why}");
    ask(&cluster.full()).unwrap();
    std::fs::write(
        cluster.data().join("pg_hba.conf"),
        "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\n",
    )
    .unwrap();
    cluster.sql("SELECT pg_reload_conf()");
    let end = Instant::now() + Duration::from_secs(5);
    let clear = cluster.remote("127.0.0.1", PgTls::Off, None);
    while ask(&clear).is_err() {
        assert!(Instant::now() < end, "{}", refused(&clear));
    }
}

#[test]
fn what_we_may_do_is_seen_and_what_we_may_not_see_is_no_trouble() {
    let cluster = Cluster::new("hostssl all all 127.0.0.1/32 scram-sha-256");
    let (server, mut host) = (cluster.full(), host());
    cluster.sql("ALTER ROLE reader SET tcp_keepalives_idle = 0");
    let facts = ask(&server).unwrap();
    let rights = facts.rights.unwrap();
    assert_eq!((rights.role.as_str(), rights.superuser, rights.reload), ("eden", false, false));
    assert_eq!(rights.databases, ["eden".to_owned()].into());
    assert_eq!((rights.roles, rights.others), (["eden".to_owned()].into(), ["reader".to_owned()].into()));
    assert!(rights.alter_system.is_empty());
    assert_eq!(facts.refused, ["pg_file_settings".to_owned()].into());
    assert!(facts.overrides[0].barred && facts.overrides[0].role.as_deref() == Some("reader"));

    let system = Step::AlterSystem {
        server: server.clone(),
        setting: "tcp_keepalives_idle".into(),
        value: "29s".into(),
    };
    let why = chain(&host.perform(&system).unwrap_err());
    assert!(why.contains("permission denied"), "{why}");
    let alter = |role: Option<&str>, database: Option<&str>, value: Option<&str>| Step::AlterPostgres {
        server: server.clone(),
        role: role.map(str::to_owned),
        database: database.map(str::to_owned),
        setting: "tcp_keepalives_idle".into(),
        value: value.map(str::to_owned),
    };
    host.perform(&alter(None, Some("eden"), Some("29s"))).unwrap();
    let facts = ask(&server).unwrap();
    let idle = &facts.settings["tcp_keepalives_idle"];
    assert_eq!((idle.reset_val.as_str(), idle.source.as_str()), ("29", "database"), "in a new session");
    assert!(!facts.overrides.iter().any(|one| one.barred && one.database.is_some()));
    host.perform(&alter(Some("eden"), None, Some("31s"))).unwrap();
    host.perform(&alter(Some("eden"), None, None)).unwrap();
    host.perform(&alter(None, Some("eden"), None)).unwrap();
    host.perform(&alter(Some("reader"), None, None)).unwrap_err();

    let version: u32 = cluster.sql("SELECT current_setting('server_version_num')").trim().parse().unwrap();
    if version >= 150_000 {
        cluster.sql("GRANT ALTER SYSTEM ON PARAMETER tcp_keepalives_idle TO eden");
        // A function's rights are each database's own.
        cluster.sql_in("eden", "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO eden");
        let rights = ask(&server).unwrap().rights.unwrap();
        assert_eq!((rights.alter_system, rights.reload), (["tcp_keepalives_idle".to_owned()].into(), true));
        host.perform(&system).unwrap();
        host.perform(&Step::ReloadPostgres { server: server.clone() }).unwrap();
        let facts = ask(&server).unwrap();
        let idle = &facts.settings["tcp_keepalives_idle"];
        assert_eq!((idle.reset_val.as_str(), idle.source.as_str()), ("29", "configuration file"));
    }
}

#[test]
fn a_server_that_is_away_or_silent_is_waited_for_no_longer_than_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("password");
    std::fs::write(&secret, CANARY).unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o400)).unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = |host: &str, port: u16| PgServer {
        name: "managed".into(),
        reach: PgReach::Remote(PgRemote {
            host: host.into(),
            port,
            user: "eden".into(),
            database: "eden".into(),
            password: PgSecret::File(secret.clone()),
            tls: PgTls::Require,
            ca: None,
        }),
    };
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (host, port) in [
        ("127.0.0.1", silent.local_addr().unwrap().port()),
        ("127.0.0.1", free),
        ("no-such-host.invalid", 5432),
        ("192.0.2.1", 5432),
    ] {
        let started = Instant::now();
        let fault = ask(&server(host, port)).unwrap_err();
        assert_eq!(fault.class, Class::Waiting, "{host}:{port} {}", chain(&fault));
        assert!(started.elapsed() < Duration::from_secs(7), "{host}:{port} {:?}", started.elapsed());
        assert!(!chain(&fault).contains(CANARY));
    }
    let missing = PgSecret::Credential("managed".into());
    let mut server = server("127.0.0.1", free);
    if let PgReach::Remote(remote) = &mut server.reach {
        remote.password = missing;
    }
    assert!(refused(&server).contains("LoadCredential=managed:"), "{}", refused(&server));
    assert!(Path::new(&secret).exists());
}
