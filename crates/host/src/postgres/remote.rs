//! A session with a server that is reached through SQL alone: over TCP, encrypted unless the spec says otherwise, with a
//! password that is read from its file at this moment. Names, connects and handshakes have one deadline together.

use super::wary::Wary;
use super::{secret, tls};
use evenkeel_core::{Class, Fault, PgRemote, PgSecret, PgTls};
use rustix::net::sockopt;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How long it may take until the server lets us in: the name, the connection, TLS and the password.
const CONNECT: Duration = Duration::from_secs(5);
/// Our own connection does not hang either: a probe each second, and gone when nothing was acknowledged for four.
const PROBE: Duration = Duration::from_secs(1);
const PROBES: u32 = 3;
const USER_TIMEOUT_MS: u32 = 4000;

/// Whoever logs in.
pub(super) struct Login<'a> {
    pub(super) remote: &'a PgRemote,
    pub(super) doing: &'a str,
}

impl Login<'_> {
    /// Connect; what is asked may take `query` at most.
    pub(super) async fn log_in(&self, query: Duration) -> Result<Client, Fault> {
        let password = secret::read(&self.remote.password, self.doing)?;
        let entered = tokio::time::timeout(CONNECT, self.enter(password)).await;
        let client = entered.map_err(|_| self.waiting("it did not let us in in time"))??;
        let limit = format!("SET statement_timeout = {}", query.as_millis());
        let limited = tokio::time::timeout(CONNECT, client.batch_execute(&limit)).await;
        limited
            .map_err(|_| self.waiting("it did not answer in time"))?
            .map_err(|error| self.refused(error))?;
        Ok(client)
    }

    fn waiting(&self, why: &str) -> Fault {
        Fault::new(format!("{}: {why}", self.doing)).class(Class::Waiting)
    }

    fn refused(&self, error: Error) -> Fault {
        super::session::refused(self.doing, error)
    }

    async fn enter(&self, password: Option<String>) -> Result<Client, Fault> {
        let remote = self.remote;
        let mut config = Config::new();
        config.user(&remote.user).dbname(&remote.database).application_name("evenkeel");
        config.ssl_mode(if remote.tls == PgTls::Off { SslMode::Disable } else { SslMode::Require });
        config.channel_binding(self.binding());
        if let Some(password) = password {
            config.password(password);
        }
        if remote.tls == PgTls::Off {
            let stream = Wary::new(self.dial().await?);
            let entered = config.connect_raw(stream, NoTls).await;
            let (client, connection) = entered.map_err(|error| self.refused(error))?;
            tokio::spawn(connection);
            return Ok(client);
        }
        let mut maker = MakeRustlsConnect::new(tls::config(remote, self.doing)?);
        let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut maker, &remote.host);
        let tls = tls.map_err(|error| Fault::from(self.doing, error))?;
        let stream = self.dial().await?;
        let entered = config.connect_raw(stream, tls).await;
        let (client, connection) = entered.map_err(|error| self.refused(error))?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Where it is not certain who is at the other end, the password must prove it: it is used only in SCRAM, and bound
    /// to the very certificate that was shown.
    fn binding(&self) -> ChannelBinding {
        let unproven = matches!(self.remote.tls, PgTls::VerifyCa | PgTls::Require);
        match self.remote.password {
            PgSecret::None => ChannelBinding::Prefer,
            _ if unproven => ChannelBinding::Require,
            _ => ChannelBinding::Prefer,
        }
    }

    async fn dial(&self) -> Result<TcpStream, Fault> {
        let (host, port) = (self.remote.host.as_str(), self.remote.port);
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|error| self.unreached(error))?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in found {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    keep(&stream).map_err(|error| self.unreached(error.into()))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(self.unreached(last))
    }

    fn unreached(&self, error: io::Error) -> Fault {
        let whom = format!("{}: connect to {}:{}", self.doing, self.remote.host, self.remote.port);
        Fault::from(whom, error).class(Class::Waiting)
    }
}

fn keep(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE)?;
    sockopt::set_tcp_keepintvl(stream, PROBE)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    sockopt::set_tcp_user_timeout(stream, USER_TIMEOUT_MS)?;
    sockopt::set_tcp_nodelay(stream, true)
}
