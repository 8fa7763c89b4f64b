//! One session: connect, do one thing, leave. On this node we connect as the owner of the data directory.
//!
//! Peer authentication: the server asks the kernel whose the connecting thread is. So a thread of its own becomes that
//! user, connects, and ends; the rest of the process never changes. The other end is checked in the same way, because
//! anybody may put a socket into `/tmp`.

use super::remote;
use crate::users;
use evenkeel_core::{Class, Fault, PgReach, PgServer};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, Error, NoTls};

/// How long it may take until the server lets us in.
const CONNECT: Duration = Duration::from_secs(2);
/// How long what we ask may take; the server itself gives up as late as this too.
const QUERY: Duration = Duration::from_secs(5);
/// Databases that every cluster has, unless somebody dropped the first.
const DATABASES: [&str; 2] = ["postgres", "template1"];

/// Do something in a new session.
pub(crate) fn run<T: Send>(
    server: &PgServer,
    doing: &str,
    work: impl AsyncFnOnce(&Client) -> Result<T, Error> + Send,
) -> Result<T, Fault> {
    run_in(server, (None, QUERY), doing, work)
}

/// The same in a database of this name, where one is said, and with another time for what is asked.
pub(crate) fn run_in<T: Send>(
    server: &PgServer,
    (database, within): (Option<&str>, Duration),
    doing: &str,
    work: impl AsyncFnOnce(&Client) -> Result<T, Error> + Send,
) -> Result<T, Fault> {
    let way = match &server.reach {
        PgReach::Remote(remote) => Way::Remote(remote::Login { remote, doing }),
        PgReach::Local { data_directory, socket_dir, port } => {
            let owner = rustix::fs::stat(data_directory).map_err(|error| {
                let folder = data_directory.display();
                Fault::from(format!("{doing}: find the owner of {folder}"), io::Error::from(error))
            })?;
            let socket = socket_dir.join(format!(".s.PGSQL.{port}"));
            Way::Local(Login { socket, doing, uid: owner.st_uid, database, within })
        }
    };
    // A thread of its own: the caller may be within a runtime already, in which no other can be started.
    let done = std::thread::scope(|scope| scope.spawn(|| session(&way, within, doing, work)).join());
    done.unwrap_or_else(|_| Err(Fault::new(format!("{doing}: the session broke off; this is a bug"))))
}

/// How we get in.
enum Way<'a> {
    Local(Login<'a>),
    Remote(remote::Login<'a>),
}

fn session<T>(
    way: &Way<'_>,
    within: Duration,
    doing: &str,
    work: impl AsyncFnOnce(&Client) -> Result<T, Error>,
) -> Result<T, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Fault::from(doing, error))?;
    let done = runtime.block_on(async {
        let client = match way {
            Way::Local(login) => login.log_in().await?,
            Way::Remote(login) => login.log_in(within).await?,
        };
        let done = tokio::time::timeout(within + Duration::from_secs(1), work(&client)).await;
        let done = done.map_err(|_| Fault::new(format!("{doing}: it did not answer in time")))?;
        done.map_err(|error| refused(doing, error))
    });
    // A name that is still being looked for is not waited for.
    runtime.shutdown_background();
    done
}

/// A server that said no.
pub(super) fn refused(doing: &str, error: Error) -> Fault {
    let starting = error.code() == Some(&SqlState::CANNOT_CONNECT_NOW);
    let class = if starting { Class::Waiting } else { Class::Trouble };
    Fault::from(doing, error).class(class)
}

struct Login<'a> {
    socket: PathBuf,
    doing: &'a str,
    uid: u32,
    database: Option<&'a str>,
    within: Duration,
}

impl Login<'_> {
    async fn log_in(&self) -> Result<Client, Fault> {
        let user = users::name(self.uid);
        let user =
            user.ok_or_else(|| Fault::new(format!("{}: user {} has no name", self.doing, self.uid)))?;
        let mut config = Config::new();
        config.user(user).application_name("evenkeel");
        config.options(format!("-c statement_timeout={}", self.within.as_millis()));
        let mut gone = None;
        let databases = self.database.map_or_else(|| DATABASES.to_vec(), |name| vec![name]);
        for database in databases {
            match self.enter(config.clone().dbname(database)).await? {
                Ok(client) => return Ok(client),
                Err(error) if error.code() == Some(&SqlState::INVALID_CATALOG_NAME) => gone = Some(error),
                Err(error) => return Err(refused(self.doing, error)),
            }
        }
        Err(gone.map_or_else(|| Fault::new(self.doing), |error| refused(self.doing, error)))
    }

    async fn enter(&self, config: &Config) -> Result<Result<Client, Error>, Fault> {
        let stream = self.connect()?;
        let stream =
            tokio::net::UnixStream::from_std(stream).map_err(|error| Fault::from(self.doing, error))?;
        match tokio::time::timeout(CONNECT, config.connect_raw(stream, NoTls)).await {
            Ok(Ok((client, connection))) => {
                tokio::spawn(connection);
                Ok(Ok(client))
            }
            Ok(Err(error)) => Ok(Err(error)),
            Err(_) => {
                Err(Fault::new(format!("{}: it took our connection and did not answer in time", self.doing)))
            }
        }
    }

    fn connect(&self) -> Result<UnixStream, Fault> {
        let socket = &self.socket;
        let stream = std::thread::scope(|scope| scope.spawn(|| connect_as(self.uid, socket)).join());
        let stream = stream.unwrap_or_else(|_| Err(Errno::CONNABORTED.into()));
        let stream = stream.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                let why =
                    format!("{}: it is not running (nobody listens on {})", self.doing, socket.display());
                Fault::new(why).class(Class::Waiting)
            }
            io::ErrorKind::TimedOut => Fault::new(format!("{}: it does not take connections", self.doing)),
            _ => Fault::from(format!("{}: connect to {}", self.doing, socket.display()), error),
        })?;
        let peer = rustix::net::sockopt::socket_peercred(&stream);
        let peer = peer.map_err(|error| Fault::from(self.doing, io::Error::from(error)))?.uid.as_raw();
        if peer == self.uid {
            return Ok(stream);
        }
        let (doing, socket) = (self.doing, socket.display());
        Err(Fault::new(format!(
            "{doing}: on {socket} user {peer} listens, not the owner of the data directory"
        )))
    }
}

/// Connect as somebody else. For a thread that does nothing afterwards: it stays that somebody.
fn connect_as(uid: u32, socket: &PathBuf) -> io::Result<UnixStream> {
    if rustix::process::geteuid().as_raw() != uid {
        rustix::thread::set_thread_res_uid(None, rustix::process::Uid::from_raw(uid), None)?;
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd: OwnedFd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let (address, end) = (SocketAddrUnix::new(socket)?, Instant::now() + CONNECT);
    loop {
        match rustix::net::connect(&fd, &address) {
            Ok(()) => return Ok(fd.into()),
            // Its queue is full: it is very busy, or it hangs.
            Err(Errno::AGAIN) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            Err(Errno::AGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error.into()),
        }
    }
}
