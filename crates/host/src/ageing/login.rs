//! Logging in at a PostgreSQL server over a connection of our own, which is then left alone.
//!
//! A server closes what has not logged in after `authentication_timeout`, 60 s. The password is never an argument and
//! never in the connection's description: it comes from a file that nobody else can read.

use crate::postgres::secret;
use evenkeel_core::Fault;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;
use tokio_postgres::config::Host;
use tokio_postgres::{Config, Error, NoTls};

/// What would end the silence from the server's side, put off as far as it goes. A server that does not know one of
/// them, or a pool in front of it, may refuse; then that one is as it is.
const QUIET: [&str; 2] = ["SET tcp_keepalives_idle = 32767", "SET idle_session_timeout = 0"];

/// Who logs in, and to which database.
#[derive(Debug, Clone)]
pub struct Login {
    // Its `Debug` does not show the password.
    config: Config,
}

impl Login {
    /// Read `user=… dbname=…`, as libpq writes it.
    ///
    /// # Errors
    /// It is no such thing, has a password in it, or names a host or a port, which are known already.
    pub fn new(text: &str) -> Result<Self, Fault> {
        let config = text.parse::<Config>();
        let mut config = config.map_err(|error| Fault::from("read the PostgreSQL login", error))?;
        if config.get_password().is_some() {
            let why = "a password on the command line is everybody's to read: put it into a file, mode 0600, and say \
                       --password-file";
            return Err(Fault::new(why));
        }
        let hosts = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_) | Host::Unix(_)));
        if hosts || !config.get_hostaddrs().is_empty() || !config.get_ports().is_empty() {
            return Err(Fault::new(
                "the PostgreSQL login names a host or a port: HOST:PORT says that already",
            ));
        }
        if config.get_user().is_none() {
            return Err(Fault::new("the PostgreSQL login names no user: write `user=… dbname=…`"));
        }
        if config.get_application_name().is_none() {
            config.application_name("evenkeel probe");
        }
        Ok(Self { config })
    }

    /// The same, with the password that is in a file, on its only line.
    ///
    /// # Errors
    /// The file cannot be read, is no regular file, is somebody else's, or can be read by others than its owner.
    pub fn password_file(mut self, path: &Path) -> Result<Self, Fault> {
        let password = secret::from(path)
            .map_err(|error| Fault::from(format!("read the password in {}", path.display()), error))?;
        self.config.password(password);
        Ok(self)
    }

    /// Log in over a non-blocking connection, which stays open and silent afterwards.
    pub(super) fn enter(&self, stream: &TcpStream, within: Duration) -> Result<(), Fault> {
        // A thread of its own: the caller may be within a runtime already, in which no other can be started.
        let done = std::thread::scope(|scope| scope.spawn(|| self.talk(stream, within)).join());
        done.unwrap_or_else(|_| Err(Fault::new("the session broke off; this is a bug")))
    }

    fn talk(&self, stream: &TcpStream, within: Duration) -> Result<(), Fault> {
        let doing = "talk to the server";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Fault::from(doing, error))?;
        // The runtime gets a duplicate and closes it; nothing is said at the end, so the session goes on.
        let stream = stream.try_clone().map_err(|error| Fault::from(doing, error))?;
        runtime.block_on(async {
            let talk = async {
                let stream = tokio::net::TcpStream::from_std(stream);
                let stream = stream.map_err(|error| Fault::from(doing, error))?;
                self.greet(stream).await.map_err(|error| Fault::from("the server refuses", error))
            };
            let talked = tokio::time::timeout(within, talk).await;
            talked.unwrap_or_else(|_| Err(Fault::new("it took our connection and did not answer in time")))
        })
    }

    async fn greet(&self, stream: tokio::net::TcpStream) -> Result<(), Error> {
        let (client, connection) = self.config.connect_raw(stream, NoTls).await?;
        let connection = tokio::spawn(connection);
        for statement in QUIET {
            let _ = client.batch_execute(statement).await;
        }
        // Before the client goes, or it would say farewell.
        connection.abort();
        let _ = connection.await;
        Ok(())
    }
}
