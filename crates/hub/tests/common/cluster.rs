//! A real PostgreSQL in a temporary folder, on a Unix socket, as a user of its own: it refuses to be root's.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A cluster. Its databases go with it.
pub struct Cluster {
    dir: PathBuf,
    port: u16,
    keeper: Child,
}

impl Cluster {
    /// Makes one and starts it; `set` is added to its configuration.
    pub fn new(set: &str) -> Self {
        Self::on(5432, set)
    }

    /// The same, on a port of its own, which matters to TCP only.
    pub fn on(port: u16, set: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("evenkeel-pg-").tempdir().unwrap().keep();
        let make = format!(
            "set -e; dir={0}; chown postgres: $dir; chmod 0755 $dir\n{AS} {1}/initdb -D $dir/data -A trust --auth-host=scram-sha-256 -N -E UTF8 \
             --locale=C -U hub >$dir/initdb.log 2>&1; cat >>$dir/data/postgresql.conf",
            dir.display(),
            bin().display()
        );
        let mut initdb = Command::new("sh").args(["-c", &make]).stdin(Stdio::piped()).spawn().unwrap();
        let conf = format!(
            "unix_socket_directories = '{}'\nlisten_addresses = ''\nport = {port}\nmax_connections = 60\n{set}\n",
            dir.display()
        );
        initdb.stdin.take().unwrap().write_all(conf.as_bytes()).unwrap();
        assert!(initdb.wait().unwrap().success(), "initdb failed; see {}/initdb.log", dir.display());
        let keeper = start(&dir);
        let cluster = Self { dir, port, keeper };
        cluster.wait();
        cluster
    }

    /// The one that tests of this program share. It ends, and is removed, when the program does.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::new("fsync = off\nsynchronous_commit = off"))
    }

    /// Starts it again.
    pub fn start(&mut self) {
        self.keeper = start(&self.dir);
        self.wait();
    }

    /// SIGKILL to every process of it, as a power cut would.
    pub fn kill(&mut self) {
        self.keeper.stdin.take().unwrap().write_all(b"leave\n").unwrap();
        let pid = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        let all = format!("exec 2>/dev/null; kill -KILL {pid} $(cat /proc/{pid}/task/*/children)");
        assert!(Command::new("sh").args(["-c", &all]).status().unwrap().success());
        self.keeper.wait().unwrap();
    }

    fn wait(&self) {
        for _ in 0..2400 {
            if self.dir.join("data/postmaster.pid").exists()
                && try_sql(&self.url("postgres"), "SELECT 1").is_ok()
            {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("PostgreSQL does not start; see {}/log", self.dir.display());
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://hub@/{database}?host={}&port={}", self.dir.display(), self.port)
    }

    /// A new, empty database.
    pub fn database(&self) -> String {
        static NEXT: Mutex<u32> = Mutex::new(0);
        let mut next = NEXT.lock().unwrap_or_else(PoisonError::into_inner);
        *next += 1;
        let name = format!("t{next}");
        sql(&self.url("postgres"), &format!("CREATE DATABASE {name}"));
        self.url(&name)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn bin() -> PathBuf {
        bin()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

const AS: &str = "setpriv --reuid=postgres --regid=postgres --init-groups --";

/// The newest that is installed.
fn bin() -> PathBuf {
    let found = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed").flatten();
    let version = found.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max().unwrap();
    format!("/usr/lib/postgresql/{version}/bin").into()
}

/// The server, and a shell beside it that ends and removes it as soon as this program's end of a pipe is closed: also
/// when the program was killed. A line in the pipe says to leave it alone.
fn start(dir: &Path) -> Child {
    let keep = format!(
        "exec 3<&0; dir={0}; {AS} {1}/postgres -D $dir/data >>$dir/log 2>&1 </dev/null 3<&- & pid=$!\n\
         (read leave <&3 && exit; kill -INT $pid; while kill -0 $pid; do sleep 0.05; done; rm -rf $dir) 2>/dev/null &\n\
         wait $pid",
        dir.display(),
        bin().display()
    );
    Command::new("sh").args(["-c", &keep]).stdin(Stdio::piped()).spawn().unwrap()
}

/// Asks; rows of text. From a thread of its own, as callers may be in a runtime.
pub fn try_sql(url: &str, text: &str) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
    let (url, text) = (url.to_owned(), text.to_owned());
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            let answer = client.simple_query(&text).await?;
            let rows = answer.iter().filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
                }
                _ => None,
            });
            Ok(rows.collect())
        })
    });
    asked.join().unwrap()
}

pub fn sql(url: &str, text: &str) -> Vec<Vec<Option<String>>> {
    try_sql(url, text).unwrap_or_else(|why| panic!("{text}: {why:?}"))
}
