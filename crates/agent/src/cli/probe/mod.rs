//! `evenkeel probe`: how long a network path lets a silent connection live, and the `paths:` section that says so.
//!
//! It opens connections and leaves them alone; it changes nothing, here or there. The result goes to standard output,
//! how it goes to standard error.

mod progress;
mod verdict;

use super::{Ending, Failure, Format, paint};
use clap::Args;
use evenkeel_core::DurationWord;
use evenkeel_core::ageing::{Ageing, LONGEST, SHORTEST};
use evenkeel_host::ageing::{Login, Peer, measure};
use progress::{Teller, spoken};
use std::path::PathBuf;
use std::str::FromStr;
use verdict::Verdict;

/// What `evenkeel probe` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
It opens several connections, sends nothing on them, and asks each after another while, by a TCP keepalive probe, whether it \
still lives. It takes up to about twice --up-to, and says so before it begins. Run it on the node whose connections hang, \
against the port that they lead to.")]
pub(crate) struct ProbeArgs {
    /// Where to connect to: `db1:5432`, `[2001:db8::1]:5432`
    #[arg(value_name = "HOST:PORT")]
    target: Target,
    /// The longest silence to try, from 1s to 9h.
    #[arg(long, value_name = "DURATION", default_value = "20m")]
    up_to: DurationWord,
    /// How many connections to age at once: more find the bound more closely.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    connections: u8,
    /// Log in at a PostgreSQL server, which closes what has not logged in after a minute: `user=… dbname=…`
    #[arg(long, value_name = "LOGIN")]
    postgres: Option<String>,
    /// Where the login's password is; nobody but its owner may be able to read the file.
    #[arg(long, value_name = "FILE", requires = "postgres")]
    password_file: Option<PathBuf>,
    /// How to print what was found.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A host and a port, as they were typed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
}

impl FromStr for Target {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "write HOST:PORT, as in db1:5432";
        let (host, port) = text.rsplit_once(':').ok_or(wanted)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(wanted)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return Err("an IPv6 address goes into brackets, as in [2001:db8::1]:5432");
        }
        let host = bracketed.unwrap_or(host);
        if host.is_empty() {
            return Err(wanted);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// `evenkeel probe HOST:PORT`.
pub(super) fn probe(args: &ProbeArgs) -> Ending {
    let up_to = args.up_to.duration();
    if !(SHORTEST..=LONGEST).contains(&up_to) {
        return Err(Failure::Usage(format!("--up-to {}: from 1s to 9h can be tried", args.up_to)));
    }
    let login = login(args)?;
    let Target { host, port } = &args.target;
    let peer = Peer::find(host, *port, login.as_ref()).map_err(|fault| Failure::wrong(&fault))?;
    let (mut plan, connections) = (Ageing::new(up_to), usize::from(args.connections));
    let mut teller = Teller::new(plan.at_most());
    teller.line(&format!(
        "measuring {}: up to {} of silence, {connections} connections at once; this takes {} at most",
        peer.address,
        spoken(up_to),
        spoken(plan.at_most())
    ));
    let took = measure(&peer, connections, &mut plan, &mut |progress| teller.tell(&progress));
    teller.end();
    let took = took.map_err(|fault| Failure::wrong(&fault))?;
    let verdict = Verdict::of(&peer, &plan, took).map_err(Failure::Wrong)?;
    match args.format {
        Format::Text => paint::text(&verdict.text(), 0),
        Format::Json => paint::json(&verdict.json(), 0),
    }
}

fn login(args: &ProbeArgs) -> Result<Option<Login>, Failure> {
    let Some(text) = &args.postgres else { return Ok(None) };
    let login = Login::new(text).map_err(|fault| Failure::Usage(evenkeel_core::chain(&fault)))?;
    match &args.password_file {
        None => Ok(Some(login)),
        Some(path) => login.password_file(path).map(Some).map_err(|fault| Failure::wrong(&fault)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port() {
        let of = |text: &str| text.parse::<Target>().ok().map(|target| (target.host, target.port));
        assert_eq!(of("db1:5432"), Some(("db1".to_owned(), 5432)));
        assert_eq!(of("[::1]:80"), Some(("::1".to_owned(), 80)));
        for text in ["db1", "db1:", ":5432", "db1:0", "db1:70000", "::1:80", "[]:80"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
