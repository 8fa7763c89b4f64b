//! Every connection of a path as it is at this moment, for people who ask. Here times may be told.

use super::judge::{self, Standing, silent_ms};
use super::want::Want;
use evenkeel_core::{SocketSeen, SocketTimer, SocketsSeen, Witness};

/// The most connections that are listed: the worst, and then the sleepiest.
const LISTED: usize = 40;

/// One row a connection, the worst first and the longest silent before the others, and one that sums them up.
pub(super) fn rows(want: &Want, seen: SocketsSeen) -> Vec<Witness> {
    let Some(promise) = want.promise() else { return vec![] };
    let mut all: Vec<(Standing, SocketSeen)> =
        seen.sockets.into_iter().map(|socket| (judge::standing(&socket, want, &promise), socket)).collect();
    all.sort_by_key(|(stands, socket)| std::cmp::Reverse((*stands, silent_ms(socket))));
    let count = |wanted: fn(Standing) -> bool| all.iter().filter(|(stands, _)| wanted(*stands)).count();
    let half = want.intent().idle_timeout.as_millis() / 2;
    let asleep = all.iter().filter(|(_, socket)| u128::from(socket.last_data_recv_ms) > half).count();
    let mut rows = vec![Witness {
        layer: "connections".into(),
        place: format!("{} of port {}", want.side.word(), want.port),
        value: format!("{} open", all.len()),
        note: Some(format!(
            "{} unprotected, {} stuck, {asleep} asleep: no data for half of what the path remembers",
            count(Standing::unprotected),
            count(|stands| stands == Standing::Stuck),
        )),
        won: false,
    }];
    let more = all.len().saturating_sub(LISTED);
    rows.extend(all.into_iter().take(LISTED).map(|(stands, socket)| row(stands, &socket, want)));
    let hidden = (more > 0).then(|| format!("{more} more connections"));
    rows.extend(hidden.into_iter().chain(seen.blind).map(|what| Witness {
        layer: "connections".into(),
        place: String::new(),
        value: what,
        note: None,
        won: false,
    }));
    rows
}

fn row(stands: Standing, socket: &SocketSeen, want: &Want) -> Witness {
    let owner = socket.owner.as_ref().map(|owner| {
        let unit = owner.unit.as_ref().map(|unit| format!(" in {unit}")).unwrap_or_default();
        format!(" {}[{}]{unit}", owner.comm, owner.pid)
    });
    let forgotten = stands.unprotected() && judge::about_to_be_forgotten(socket, want);
    let note = match stands {
        Standing::Stuck | Standing::Struggling => {
            format!("{}, for about {}", stands.words(), seconds(judge::hanging_ms(socket)))
        }
        _ if forgotten => format!("{}, and about to be forgotten", stands.words()),
        _ => stands.words().to_owned(),
    };
    Witness {
        layer: "connection".into(),
        place: format!("{} - {}{}", socket.id.local, socket.id.remote, owner.unwrap_or_default()),
        value: format!("silent for {}, {}", seconds(socket.last_data_recv_ms.into()), timer(socket)),
        note: Some(note),
        won: stands == Standing::Protected,
    }
}

fn timer(socket: &SocketSeen) -> String {
    let left = seconds(socket.expires_ms.into());
    match socket.timer {
        SocketTimer::Off => "no timer".into(),
        SocketTimer::Keepalive => format!("probe in {left}"),
        SocketTimer::Retransmit => {
            format!("sends again in {left}, for the {}. time", u32::from(socket.retransmits) + 1)
        }
        SocketTimer::ZeroWindow => format!("asks in {left} whether the other end takes data again"),
        SocketTimer::Other => format!("another timer, in {left}"),
    }
}

fn seconds(ms: u64) -> String {
    if ms < 10_000 { format!("{}.{} s", ms / 1000, ms % 1000 / 100) } else { format!("{} s", ms / 1000) }
}
