//! A real PostgreSQL on a node, made as Debian makes them.

use super::{Node, signal, text, until};
use std::process::{Child, Stdio};
use std::time::Duration;

/// The newest PostgreSQL that is installed: its major version.
pub fn postgres_version() -> u32 {
    let found = std::fs::read_dir("/usr/lib/postgresql").unwrap().flatten();
    found.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max().expect("PostgreSQL is installed")
}

/// A running PostgreSQL cluster, `VERSION/test`, made as Debian makes them.
pub struct Postgres {
    child: Child,
    /// `15/test`.
    pub cluster: String,
}

impl Node {
    /// Make a cluster and start it; it dies with the test.
    pub fn postgres(&self) -> Postgres {
        self.postgres_named("test", PORT)
    }

    /// The same, of this name and on this port, for more than one.
    pub fn postgres_named(&self, name: &str, port: u16) -> Postgres {
        self.postgres_set(name, port, "", "")
    }

    /// The same, with more lines in its `postgresql.conf` and its `pg_hba.conf`.
    pub fn postgres_set(&self, name: &str, port: u16, conf: &str, hba: &str) -> Postgres {
        let version = postgres_version();
        self.sh(&format!(
            "install -d -o postgres -g postgres -m 2775 /run/postgresql
             pg_createcluster --port {port} {version} {name} -- --auth-local=peer -N >/dev/null
             cd /etc/postgresql/{version}/{name}
             echo '{conf}' >> postgresql.conf
             echo '{hba}' >> pg_hba.conf"
        ));
        let child = self.start_named(name, port);
        Postgres { child, cluster: format!("{version}/{name}") }
    }

    /// Start the cluster that was made.
    pub fn start_postgres(&self) -> Child {
        self.start_named("test", PORT)
    }

    /// Start a cluster that was made, of this name and on this port.
    pub fn start_named(&self, name: &str, port: u16) -> Child {
        let version = postgres_version();
        let log = std::fs::File::create(self.dir.path().join("postgres.log")).unwrap();
        let mut command = self.command("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=KILL", "--"]);
        command.arg(format!("/usr/lib/postgresql/{version}/bin/postgres"));
        command.args(["-D", &format!("/var/lib/postgresql/{version}/{name}")]);
        command.args(["-c", &format!("config_file=/etc/postgresql/{version}/{name}/postgresql.conf")]);
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        until("PostgreSQL answers", Duration::from_secs(30), || {
            self.holds(&format!("{PSQL} -p {port} postgres -c 'select 1'"))
        });
        child
    }

    /// Ask the cluster, over its Unix socket; what it answered.
    pub fn sql(&self, query: &str) -> String {
        self.sql_at(PORT, query)
    }

    /// The same of one on another port.
    pub fn sql_at(&self, port: u16, query: &str) -> String {
        self.sql_in("postgres", port, query)
    }

    /// Ask the cluster on this port, in this database.
    pub fn sql_in(&self, database: &str, port: u16, query: &str) -> String {
        let out = self
            .command("sh")
            .args(["-ec", &format!("{PSQL} -p {port} {database} -c \"$1\""), "sh", query])
            .output()
            .unwrap();
        assert!(out.status.success(), "{query}\n{}", text(&out));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

const PSQL: &str = "setpriv --reuid=postgres --regid=postgres --init-groups -- psql -XAtq -h /run/postgresql";
/// The port of the cluster that tests ask.
const PORT: u16 = 5499;

impl Postgres {
    /// Stop it, at once and cleanly.
    pub fn stop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            signal(&self.child, "INT");
        }
        self.child.wait().unwrap();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}
