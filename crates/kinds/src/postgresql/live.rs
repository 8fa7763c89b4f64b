//! The sessions that are open, and how the kernel keeps each: worst first.
//!
//! An idle session does not apply a reload to its socket until its next command. Nothing in SQL shows that; the timer of
//! the socket does.

use super::paths::{self, IDLE};
use super::want::Want;
use evenkeel_core::{
    Holders, PgBackend, PgFacts, Sensor, Side, SocketQuestion, SocketSeen, SocketTimer, Witness, chain,
    longest_silence_ms,
};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// The most sessions that are told one by one.
const MOST: usize = 50;

/// One row for every session over TCP.
pub(super) fn connections(want: &Want, facts: &PgFacts, port: u16, node: &dyn Sensor) -> Vec<Witness> {
    if facts.backends.is_empty() {
        return vec![];
    }
    let seen =
        node.sockets(&SocketQuestion { side: Side::Server, port, peers: vec![], holders: Holders::All });
    let blind = seen.as_ref().err().map(|fault| chain(fault));
    let sockets: HashMap<SocketAddr, &SocketSeen> = seen
        .iter()
        .flat_map(|seen| &seen.sockets)
        .map(|one| (SocketAddr::new(one.id.remote.ip().to_canonical(), one.id.remote.port()), one))
        .collect();
    let mut rows: Vec<(u64, Witness)> = facts
        .backends
        .iter()
        .map(|backend| {
            let address = backend.address.parse::<IpAddr>().ok();
            let peer = address.map(|ip| SocketAddr::new(ip.to_canonical(), backend.port));
            let socket = peer.and_then(|peer| sockets.get(&peer).copied());
            (badness(socket), row(want, facts, backend, socket, blind.as_deref()))
        })
        .collect();
    rows.sort_by_key(|(badness, row)| (std::cmp::Reverse(*badness), row.place.clone()));
    let more = rows.len().saturating_sub(MOST);
    let mut told: Vec<Witness> = rows.into_iter().take(MOST).map(|(_, row)| row).collect();
    if more > 0 {
        told.push(Witness {
            layer: "connection".to_owned(),
            place: format!("{more} more"),
            value: "none of them worse than these".to_owned(),
            note: None,
            won: false,
        });
    }
    told
}

/// The longer nobody would notice that it is dead, the worse.
fn badness(socket: Option<&SocketSeen>) -> u64 {
    match socket.map(|socket| (socket.timer, socket.expires_ms)) {
        None => 0,
        Some((SocketTimer::Off, _)) => u64::MAX,
        Some((SocketTimer::Retransmit | SocketTimer::ZeroWindow, _)) => u64::MAX - 1,
        Some((_, expires)) => expires.into(),
    }
}

fn row(
    want: &Want,
    facts: &PgFacts,
    backend: &PgBackend,
    socket: Option<&SocketSeen>,
    blind: Option<&str>,
) -> Witness {
    let PgBackend { pid, user, database, application, address, port, state } = backend;
    let application = if application.is_empty() { String::new() } else { format!(" ({application})") };
    let at = match address.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, *port).to_string(),
        Err(_) => address.clone(),
    };
    let place = format!("pid {pid}, {user}@{database} from {at}{application}, {state}");
    let (value, note) = match socket {
        None => ("unknown".to_owned(), Some(blind.unwrap_or("its socket was not found").to_owned())),
        Some(socket) => (timer(socket), note(want, facts, backend, socket)),
    };
    Witness { layer: "connection".to_owned(), place, value, note, won: false }
}

fn timer(socket: &SocketSeen) -> String {
    let seconds = |ms: u32| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    match socket.timer {
        SocketTimer::Off => "no timer".to_owned(),
        SocketTimer::Retransmit => format!(
            "retransmitting, {} unanswered, next in {}",
            socket.retransmits,
            seconds(socket.expires_ms)
        ),
        SocketTimer::Keepalive => format!("next keepalive in {}", seconds(socket.expires_ms)),
        SocketTimer::ZeroWindow => {
            format!("its client takes nothing, asked again in {}", seconds(socket.expires_ms))
        }
        SocketTimer::Other => format!("another timer, {}", seconds(socket.expires_ms)),
    }
}

/// What the timer means for somebody who has changed a setting.
fn note(want: &Want, facts: &PgFacts, backend: &PgBackend, socket: &SocketSeen) -> Option<String> {
    if socket.timer == SocketTimer::Off {
        return Some("silent for as long as nobody speaks: nobody would notice that it is dead".to_owned());
    }
    let idle = effective(want, facts, backend)?;
    let armed_late =
        socket.timer == SocketTimer::Keepalive && u64::from(socket.expires_ms) > longest_silence_ms(idle, 0);
    let why = if backend.state == "idle" {
        "it was idle at the last reload and ignores it until its next command, or has said so by SET"
    } else {
        "it was opened before and has not taken it up, or has said so by SET"
    };
    armed_late.then(|| format!("armed for longer than the {idle} s of a new session: {why}"))
}

/// The keepalive time, in seconds, of a new session like this one.
fn effective(want: &Want, facts: &PgFacts, backend: &PgBackend) -> Option<u64> {
    let fits = |said: Option<&String>, own: &String| said.is_none_or(|said| said == own);
    let like = facts.overrides.iter().filter(|one| {
        one.setting == IDLE
            && fits(one.role.as_ref(), &backend.user)
            && fits(one.database.as_ref(), &backend.database)
    });
    let strongest = like.max_by_key(|one| (one.role.is_some(), one.database.is_some()));
    let number = |text: &str| super::value::amount(text, "s").filter(|n| *n > 0.0);
    let server = || facts.settings.get(IDLE).and_then(|setting| number(&setting.reset_val));
    let said = strongest.and_then(|one| number(&one.value)).or_else(server);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds, above 0")]
    said.map(|n| n as u64).or_else(|| paths::number(IDLE, want.settings.get(IDLE)?).filter(|n| *n > 0))
}
