//! `postgres://…`: where the database is, how it is spoken to, and whose password is used. Nothing that this prints
//! has a password in it.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode, TargetSessionAttrs};

/// A connection that hangs is given up after this long, whatever the kernel's own timers say.
const USER_TIMEOUT: Duration = Duration::from_secs(15);
const KEEPALIVE: Duration = Duration::from_secs(10);
/// The most bytes of a password file.
const CAP: u64 = 64 * 1024;

/// How the connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Off,
    /// Encrypted; who is at the other end must prove only that it knows the password.
    Require,
    /// Encrypted, with a certificate for this very name by one of these authorities.
    VerifyFull(PathBuf),
}

/// Where a PostgreSQL store is.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    config: Config,
    /// How it is spoken to.
    pub tls: Tls,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address")
            .field("place", &self.place())
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl Address {
    /// Reads `postgres://user@host:port/database?sslmode=…&sslrootcert=…`.
    ///
    /// # Errors
    /// When it is none; what to write instead, without what was written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let mut rest = vec![];
        let (mut mode, mut ca) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => ca = Some(decode(value)?),
                _ => rest.push(pair),
            }
        }
        let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let mut config: Config = url.parse().map_err(|why: tokio_postgres::Error| {
            // The cause names the part; the text itself may hold a password.
            let cause = std::error::Error::source(&why).map(ToString::to_string);
            cause.unwrap_or_else(|| why.to_string())
        })?;
        if config.get_hosts().is_empty() {
            return Err(
                "it names no host; for the socket of this machine write host=/run/postgresql after a `?`"
                    .into(),
            );
        }
        if config.get_user().is_none() {
            return Err("it names no user".into());
        }
        let tls = protection(&config, mode, ca)?;
        config.ssl_mode(if tls == Tls::Off { SslMode::Disable } else { SslMode::Require });
        if tls == Tls::Require && config.get_password().is_some() {
            config.channel_binding(ChannelBinding::Require);
        }
        config.application_name("evenkeel-hub").connect_timeout(Duration::from_secs(4));
        config.keepalives_idle(KEEPALIVE).keepalives_interval(KEEPALIVE).keepalives_retries(3);
        config.tcp_user_timeout(USER_TIMEOUT);
        // Of several, the one that is no standby.
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Ok(Self { config, tls })
    }

    /// Whether the text itself had a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.config.get_password().is_some()
    }

    /// What to connect with. The password file is read each time, so that a new password needs no restart.
    pub(super) fn config(&self) -> Config {
        let mut config = self.config.clone();
        if config.get_password().is_none()
            && let Some(password) = from_file(&config)
        {
            if self.tls == Tls::Require {
                config.channel_binding(ChannelBinding::Require);
            }
            config.password(password);
        }
        config
    }

    /// Its place, for a person: `postgres://hub@db1:5432/hub`.
    #[must_use]
    pub fn place(&self) -> String {
        let hosts: Vec<_> =
            self.config.get_hosts().iter().enumerate().map(|(at, host)| self.host(at, host)).collect();
        let user = self.config.get_user().unwrap_or_default();
        let database = self.config.get_dbname().unwrap_or(user);
        format!("postgres://{user}@{}/{database}", hosts.join(","))
    }

    fn host(&self, at: usize, host: &Host) -> String {
        match host {
            Host::Tcp(name) => format!("{name}:{}", port(&self.config, at)),
            Host::Unix(path) => path.display().to_string(),
        }
    }
}

fn port(config: &Config, at: usize) -> u16 {
    let ports = config.get_ports();
    ports.get(at).or(ports.first()).copied().unwrap_or(5432)
}

fn protection(config: &Config, mode: Option<&str>, ca: Option<String>) -> Result<Tls, String> {
    let here = config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    });
    match (mode, ca) {
        (Some("disable"), None) => Ok(Tls::Off),
        (Some("require"), None) => Ok(Tls::Require),
        (Some("verify-full"), Some(ca)) => Ok(Tls::VerifyFull(ca.into())),
        (Some("verify-full"), None) => {
            Err("sslmode=verify-full needs sslrootcert=FILE: the system's authorities are not asked".into())
        }
        (Some("disable" | "require") | None, Some(_)) => {
            Err("sslrootcert is used with sslmode=verify-full only".into())
        }
        (Some(_), _) => Err("sslmode is one of verify-full, require, disable".into()),
        (None, None) if here => Ok(Tls::Off),
        (None, None) => {
            Err("it is another machine: say sslmode=verify-full&sslrootcert=FILE, or sslmode=require, or, \
             where the network itself is trusted, sslmode=disable"
                .into())
        }
    }
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = text.bytes();
    let mut out = vec![];
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let code = digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        out.push(code.ok_or("sslrootcert has a % without two hex digits")?);
    }
    String::from_utf8(out).map_err(|_| "sslrootcert is not UTF-8".to_owned())
}

/// The password of libpq's password file (`PGPASSFILE`, else `~/.pgpass`), for the first host.
fn from_file(config: &Config) -> Option<String> {
    let named = std::env::var_os("PGPASSFILE").map(PathBuf::from);
    let path = named.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass")))?;
    match read(&path) {
        Ok(text) => find(&text, config),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => None,
        Err(why) => {
            tracing::warn!(file = %path.display(), error = %why, "the password file is not used");
            None
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    // Before it is opened: opening a FIFO would wait for somebody to write into it.
    let stat = std::fs::metadata(path)?;
    if !stat.is_file() || stat.mode() & 0o077 != 0 {
        let why = "others than its owner may use it: chmod 0600";
        return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, why));
    }
    let mut text = String::new();
    std::fs::File::open(path)?.take(CAP).read_to_string(&mut text)?;
    Ok(text)
}

/// The first line that fits: `host:port:database:user:password`, `*` for any, `\` before `:` and `\`.
fn find(text: &str, config: &Config) -> Option<String> {
    let host = match config.get_hosts().first()? {
        Host::Tcp(name) => name.clone(),
        // libpq's word for the socket.
        Host::Unix(_) => "localhost".to_owned(),
    };
    let user = config.get_user()?;
    let database = config.get_dbname().unwrap_or(user);
    let wanted = [host.as_str(), &port(config, 0).to_string(), database, user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [key @ .., password] = fields.as_slice() else { return None };
        let fits = |(field, want): (&String, &&str)| field == "*" || field == *want;
        (key.len() == 4 && key.iter().zip(&wanted).all(fits)).then(|| password.clone())
    })
}

fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(one) = chars.next() {
        let one = match one {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => chars.next().unwrap_or('\\'),
            other => other,
        };
        if let Some(field) = fields.last_mut() {
            field.push(one);
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Address, Tls, find};

    #[test]
    fn an_address_says_where_it_is_and_never_a_password() {
        let address = Address::parse("postgres://hub:canary@127.0.0.1:5433/fleet").unwrap();
        assert_eq!(address.place(), "postgres://hub@127.0.0.1:5433/fleet");
        assert!(address.has_password() && !format!("{address:?}").contains("canary"));
        let socket = Address::parse("postgres://hub@/fleet?host=/run/postgresql").unwrap();
        assert_eq!(
            (socket.place().as_str(), &socket.tls),
            ("postgres://hub@/run/postgresql/fleet", &Tls::Off)
        );
    }

    #[test]
    fn another_machine_needs_a_word_on_how_it_is_spoken_to() {
        let why = |text: &str| Address::parse(text).unwrap_err();
        assert!(why("postgres://hub@db1/fleet").contains("sslmode=verify-full&sslrootcert=FILE"));
        assert!(why("postgres://hub@db1/fleet?sslmode=verify-full").contains("sslrootcert=FILE"));
        assert!(why("postgres://hub@db1/fleet?sslmode=prefer").contains("verify-full, require, disable"));
        assert!(why("postgres:///fleet").contains("no host"));
        assert!(why("postgres://db1/fleet?sslmode=disable").contains("no user"));
        let full = Address::parse("postgres://hub@db1/fleet?sslmode=verify-full&sslrootcert=/etc/a%20b.pem");
        assert_eq!(full.unwrap().tls, Tls::VerifyFull("/etc/a b.pem".into()));
        assert_eq!(Address::parse("postgres://hub@db1/fleet?sslmode=require").unwrap().tls, Tls::Require);
    }

    #[test]
    fn a_password_file_is_read_as_libpq_does() {
        let address = Address::parse("postgres://hub@127.0.0.1:5433/fleet").unwrap();
        let text =
            "# 127.0.0.1:5433:fleet:hub:no\nother:*:*:*:no\n*:5433:fleet:hub:pa\\:ss\\\\word:x\n*:*:*:*:no\n";
        assert_eq!(find(text, &address.config).as_deref(), Some("pa:ss\\word:x"));
        assert_eq!(find("127.0.0.1:5433:fleet:somebody:no\n", &address.config), None);
    }
}
