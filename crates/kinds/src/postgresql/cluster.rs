//! Where a cluster's files are, whether its server runs, and how it is reached.

use super::conf::{self, Conf};
use super::want::{Want, debian};
use evenkeel_core::{Fault, PgReach, PgServer, Sensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The drop-in's name.
pub(super) const NAME: &str = "99-evenkeel.conf";

/// One cluster as its files tell it.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    /// Its postgresql.conf.
    pub(super) main: PathBuf,
    /// Our drop-in, there or not.
    pub(super) drop_in: PathBuf,
    /// Everything that the files below postgresql.conf say.
    pub(super) conf: Conf,
    /// What `ALTER SYSTEM` has left in postgresql.auto.conf, which comes after all.
    pub(super) auto: Conf,
    /// What the command line of the running server says, which no file and no `ALTER SYSTEM` changes.
    pub(super) command: BTreeMap<String, String>,
    /// The running server, or why there is none to ask.
    pub(super) server: Result<PgServer, String>,
    /// The major version, where `PG_VERSION` tells it.
    pub(super) major: Option<u32>,
}

/// Where the configuration of an item is: the folder of its postgresql.conf.
pub(super) fn folder(name: &str, data_directory: Option<&Path>) -> Option<PathBuf> {
    match data_directory {
        Some(data) => Some(data.to_owned()),
        None => debian(name).map(|_| Path::new("/etc/postgresql").join(name)),
    }
}

/// Find a cluster; `None` where there is no postgresql.conf.
pub(super) fn find(name: &str, want: Option<&Want>, node: &dyn Sensor) -> Result<Option<Cluster>, Fault> {
    let said = want.and_then(|want| want.data_directory.as_deref());
    let mut folders = [folder(name, said), folder(name, None)].into_iter().flatten();
    // A data directory without a postgresql.conf may be one of Debian's.
    let main = loop {
        let Some(folder) = folders.next() else { return Ok(None) };
        let main = folder.join("postgresql.conf");
        if node.read(&main)?.is_some() {
            break main;
        }
    };
    let drop_in = main.with_file_name("conf.d").join(NAME);
    let conf = conf::read(&main, &drop_in, node)?;
    let named = conf.last("data_directory").map(|one| PathBuf::from(&one.value));
    let usual = || Path::new("/var/lib/postgresql").join(name);
    let data = said.map(Path::to_owned).or(named).unwrap_or_else(usual);
    let auto = conf::read(&data.join("postgresql.auto.conf"), &drop_in, node)?;
    let server = server(name, &data, node)?;
    let options = node.read(&data.join("postmaster.opts"))?.filter(|_| server.is_ok());
    let command = options.as_deref().map(command_line).unwrap_or_default();
    let major =
        node.read(&data.join("PG_VERSION"))?.and_then(|text| text.trim().split('.').next()?.parse().ok());
    Ok(Some(Cluster { main, drop_in, conf, auto, command, server, major }))
}

/// The running server, from its postmaster.pid: the port in line 4, the folder of its socket in line 5.
fn server(name: &str, data: &Path, node: &dyn Sensor) -> Result<Result<PgServer, String>, Fault> {
    let pid = data.join("postmaster.pid");
    let Some(text) = node.read(&pid)? else { return Ok(Err("the server does not run".to_owned())) };
    let line = |number: usize| text.lines().nth(number - 1).map(str::trim).filter(|line| !line.is_empty());
    let Some(port) = line(4).and_then(|line| line.parse().ok()) else {
        return Ok(Err(format!("{} tells no port: the server is starting, or gone", pid.display())));
    };
    let Some(socket) = line(5) else {
        return Ok(Err("the server listens on no Unix socket, so it cannot be asked".to_owned()));
    };
    let socket_dir = PathBuf::from(socket);
    let reach = PgReach::Local { data_directory: data.to_owned(), socket_dir, port };
    Ok(Ok(PgServer { name: name.to_owned(), reach }))
}

/// The parameters on a command line as the server notes it in postmaster.opts: `program "-c" "name=value"`. A value with
/// a quote in it is not quoted there, and is not understood here.
fn command_line(text: &str) -> BTreeMap<String, String> {
    let words: Vec<&str> = text.trim().split('"').skip(1).step_by(2).collect();
    let mut said = BTreeMap::new();
    for (at, word) in words.iter().enumerate() {
        let pair = match word.strip_prefix("-c") {
            Some("") => words.get(at + 1).copied(),
            Some(pair) => Some(pair),
            None => word.strip_prefix("--"),
        };
        if let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) {
            said.insert(name.replace('-', "_").to_lowercase(), value.to_owned());
        }
    }
    said
}

/// Debian's clusters on this node, by name.
pub(super) fn all(node: &dyn Sensor) -> Result<Vec<String>, Fault> {
    let root = Path::new("/etc/postgresql");
    let mut all = vec![];
    for version in node.list(root)?.unwrap_or_default() {
        if version.starts_with(|c: char| !c.is_ascii_digit()) {
            continue;
        }
        let clusters = node.list(&root.join(&version))?.unwrap_or_default();
        all.extend(
            clusters
                .into_iter()
                .map(|name| format!("{version}/{name}"))
                .filter(|name| debian(name).is_some()),
        );
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_on_the_command_line_are_read_from_where_the_server_notes_them() {
        let line = "/usr/bin/postgres \"-D\" \"/srv/a b\" \"-c\" \"Work_Mem=8MB\" \"-cjit=off\" \"--tcp-keepalives-idle=4\" \"-p\" \"5\"\n";
        let said = command_line(line);
        let told: Vec<String> = said.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(told, ["jit=off", "tcp_keepalives_idle=4", "work_mem=8MB"]);
        assert!(command_line("").is_empty() && command_line("x \"-c\"").is_empty());
    }
}
