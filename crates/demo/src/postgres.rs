//! A real PostgreSQL on a node, laid out the way Debian lays out its clusters. Never the machine's own server: data,
//! configuration and socket lie in the node's private folders.

use crate::node::Node;
use crate::trouble::{Result, Trouble};
use crate::words::{Look, Stop, User};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The role that the example's middleware logs in as.
pub(crate) const ROLE: &str = "sahana";

/// A PostgreSQL that is installed on the machine.
#[derive(Debug, Clone)]
pub(crate) struct Postgres {
    /// Its major version.
    pub(crate) version: String,
    /// Where its programs are.
    programs: PathBuf,
    /// Who it runs as.
    user: User,
}

impl Postgres {
    /// The newest one installed, or what is missing.
    pub(crate) fn find() -> std::result::Result<Self, String> {
        let base = Path::new("/usr/lib/postgresql");
        let versions = std::fs::read_dir(base).into_iter().flatten().flatten();
        let found = versions.filter_map(|entry| {
            let version = entry.file_name().into_string().ok()?;
            let programs = entry.path().join("bin");
            let complete = ["initdb", "postgres", "psql"].iter().all(|name| programs.join(name).exists());
            Some((version.parse::<u32>().ok().filter(|_| complete)?, programs))
        });
        let Some((version, programs)) = found.max() else {
            return Err(format!("no PostgreSQL in {}: install the package postgresql", base.display()));
        };
        if !nix::unistd::geteuid().is_root() {
            return Err(
                "PostgreSQL refuses to run as root, and an ordinary user's namespace has no other user: \
                        run the demo as root to see it"
                    .to_owned(),
            );
        }
        let account = nix::unistd::User::from_name("postgres").ok().flatten();
        let account = account.ok_or("there is no user `postgres`, which the package postgresql makes")?;
        let user = Some((account.uid.as_raw(), account.gid.as_raw()));
        Ok(Self { version: version.to_string(), programs, user })
    }

    /// The cluster's name, as Debian and the spec write it.
    pub(crate) fn cluster(&self) -> String {
        format!("{}/main", self.version)
    }

    /// Who it runs as.
    pub(crate) fn user(&self) -> User {
        self.user
    }

    /// The folder of its configuration.
    pub(crate) fn configuration(&self) -> PathBuf {
        Path::new("/etc/postgresql").join(self.cluster())
    }

    /// The drop-in that evenkeel owns.
    pub(crate) fn drop_in(&self) -> PathBuf {
        self.configuration().join("conf.d/99-evenkeel.conf")
    }

    fn data(&self) -> PathBuf {
        Path::new("/var/lib/postgresql").join(self.cluster())
    }

    fn program(&self, name: &str) -> String {
        self.programs.join(name).display().to_string()
    }

    /// Make a cluster on `node` and start its server.
    pub(crate) fn start(&self, node: &Node) -> Result<()> {
        let data = self.data().display().to_string();
        let (uid, gid) = self.user.unwrap_or_default();
        let owner = [format!("--owner={uid}"), format!("--group={gid}")];
        for folder in [&data, "/run/postgresql", &self.drop_in().with_file_name("").display().to_string()] {
            let made = ["install", "--directory", "--mode=0755", &owner[0], &owner[1], folder];
            node.run(&made, None)?;
        }
        let initdb = self.program("initdb");
        let like = ["--locale=C", "--encoding=UTF8", "--no-sync", "--no-instructions"];
        let rights = ["--auth-local=peer", "--auth-host=scram-sha-256", "--username=postgres"];
        let argv: Vec<&str> = [&[initdb.as_str(), "-D", &data][..], &like, &rights].concat();
        node.run(&argv, self.user)?;
        for (name, text) in self.files(&data) {
            node.write(self.configuration().join(name), &text, 0o644, self.user)?;
        }
        // As Debian has it: the configuration is in /etc and nowhere else.
        for name in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
            node.run(&["rm", "-f", &format!("{data}/{name}")], None)?;
        }
        let file = format!("config_file={}/postgresql.conf", self.configuration().display());
        let argv = [self.program("postgres"), "-D".into(), data, "-c".into(), file];
        node.daemon("postgres", argv.to_vec(), self.user, Stop::Int)?;
        let (last, ready) = node.until(&self.sql("select 'ready'"), "ready", Duration::from_secs(20))?;
        if ready.is_none() {
            node.alive()?;
            return Err(Trouble::told(format!("PostgreSQL on {} does not answer: {last}", node.name)));
        }
        for statement in [format!("create role {ROLE} login"), format!("create database {ROLE} owner {ROLE}")]
        {
            self.ask(node, &statement)?;
        }
        Ok(())
    }

    fn files(&self, data: &str) -> [(&'static str, String); 3] {
        let configuration = self.configuration().display().to_string();
        let main = format!(
            "data_directory = '{data}'\n\
             hba_file = '{configuration}/pg_hba.conf'\n\
             ident_file = '{configuration}/pg_ident.conf'\n\
             external_pid_file = '/var/run/postgresql/{}-main.pid'\n\
             listen_addresses = 'localhost'\n\
             port = 5432\n\
             max_connections = 100\n\
             unix_socket_directories = '/var/run/postgresql'\n\
             shared_buffers = 128MB\n\
             dynamic_shared_memory_type = posix\n\
             include_dir = 'conf.d'\n",
            self.version
        );
        let rights = "local all all peer\nhost all all 127.0.0.1/32 scram-sha-256\n".to_owned();
        [("postgresql.conf", main), ("pg_hba.conf", rights), ("pg_ident.conf", String::new())]
    }

    /// psql as the superuser over the node's socket, without a person's habits.
    fn psql(&self) -> Vec<String> {
        let words = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "/var/run/postgresql", "-U", "postgres", "-d"];
        let words = words.iter().chain(&["postgres", "-c"]).map(|&word| word.to_owned());
        [self.program("psql")].into_iter().chain(words).collect()
    }

    /// A look by SQL.
    pub(crate) fn sql(&self, query: &str) -> Look {
        Look::Sql { psql: self.psql(), query: query.to_owned(), user: self.user }
    }

    /// The program and arguments that run a statement as somebody else would.
    pub(crate) fn statement(&self, text: &str) -> Vec<String> {
        self.psql().into_iter().chain([text.to_owned()]).collect()
    }

    /// Run a statement.
    pub(crate) fn ask(&self, node: &Node, statement: &str) -> Result<String> {
        let argv = self.statement(statement);
        node.run(&argv.iter().map(String::as_str).collect::<Vec<_>>(), self.user)
    }
}
