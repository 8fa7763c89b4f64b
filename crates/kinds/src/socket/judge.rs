//! How one connection stands: protected, unprotected, stuck, or with its fate in its own hands at the moment.

use super::want::Want;
use evenkeel_core::{Promise, STUCK_RETRANSMITS, SocketSeen, SocketTimer};

/// How one connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// A probe will come before the path forgets, and a dead peer will be found in time.
    Protected,
    /// Something was sent and is not acknowledged yet, or the other end's window is shut: the kernel sees to it.
    Busy,
    /// It retransmits, and it is too early to call it dead.
    Struggling,
    /// A keepalive timer runs, and comes too late.
    TooLate,
    /// No keepalive timer at all.
    Bare,
    /// It retransmits into nothing: the path has forgotten it, or a request hangs for longer than promised.
    Stuck,
}

impl Standing {
    /// In words that are the same from pass to pass.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Protected => "protected",
            Self::Busy => "waits for an acknowledgement",
            Self::Struggling => "retransmits",
            Self::TooLate => "a keepalive timer that comes too late",
            Self::Bare => "no keepalive timer",
            Self::Stuck => "retransmits into nothing",
        }
    }

    /// Whether the path can forget it.
    pub(super) fn unprotected(self) -> bool {
        matches!(self, Self::TooLate | Self::Bare)
    }
}

/// How a connection stands towards a promise.
pub(super) fn standing(socket: &SocketSeen, want: &Want, promise: &Promise) -> Standing {
    match socket.timer {
        SocketTimer::Retransmit if socket.retransmits < STUCK_RETRANSMITS || socket.unacked == 0 => {
            Standing::Busy
        }
        SocketTimer::Retransmit if dead(socket, want) => Standing::Stuck,
        SocketTimer::Retransmit => Standing::Struggling,
        SocketTimer::Off => Standing::Bare,
        SocketTimer::Keepalive if u64::from(socket.expires_ms) > armed_at_most_ms(promise) => {
            Standing::TooLate
        }
        SocketTimer::Keepalive => Standing::Protected,
        SocketTimer::ZeroWindow | SocketTimer::Other => Standing::Busy,
    }
}

/// What a timer that keeps the promise can show at most: the kernel rounds it up, by an eighth at most.
pub(super) fn armed_at_most_ms(promise: &Promise) -> u64 {
    u64::from(promise.latest_probe) * 1000 * 9 / 8
}

/// Since anything last came from the other end.
pub(super) fn silent_ms(socket: &SocketSeen) -> u64 {
    socket.last_ack_recv_ms.min(socket.last_data_recv_ms).into()
}

/// The least first retransmission timeout, in milliseconds: `TCP_RTO_MIN`.
const RTO_MIN_MS: u64 = 200;

/// How long it has been retransmitting, about: the timeouts that have passed, which doubled up to the current one and
/// stayed there if it is the largest that the kernel allows, and what has passed of the current one.
pub(super) fn hanging_ms(socket: &SocketSeen) -> u64 {
    let (timeout, times) = (u64::from(socket.rto_ms), u32::from(socket.retransmits));
    let first = timeout.checked_shr(times).unwrap_or(0).max(RTO_MIN_MS);
    let passed: u64 = (0..times).map(|k| (first << k.min(32)).min(timeout)).sum();
    passed + timeout.saturating_sub(socket.expires_ms.into())
}

/// Whether one that retransmits is beyond hope: nothing was heard for longer than the path remembers, or it hangs for
/// longer than the promise lets it.
fn dead(socket: &SocketSeen, want: &Want) -> bool {
    let intent = want.intent();
    u128::from(silent_ms(socket)) >= intent.idle_timeout.as_millis()
        || u128::from(hanging_ms(socket)) >= intent.blackout_at_most.as_millis()
}

/// Whether the path is about to forget it, or has: silent for four fifths of its memory without a probe.
pub(super) fn about_to_be_forgotten(socket: &SocketSeen, want: &Want) -> bool {
    u128::from(silent_ms(socket)) * 5 >= want.intent().idle_timeout.as_millis() * 4
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use evenkeel_core::{Side, SocketId};

    fn want() -> Want {
        serde_json::from_str(
            r#"{"side": "client", "port": 5432, "idle_timeout": "350s", "blackout_at_most": "60s"}"#,
        )
        .unwrap()
    }

    fn socket(timer: SocketTimer, expires_ms: u32) -> SocketSeen {
        let (local, remote) = ("10.0.0.1:4242".parse().unwrap(), "10.0.0.2:5432".parse().unwrap());
        SocketSeen {
            id: SocketId { netns: 0, local, remote, cookie: 1 },
            timer,
            expires_ms,
            retransmits: 0,
            probes: 0,
            rto_ms: 204,
            unacked: 0,
            last_data_recv_ms: 7000,
            last_ack_recv_ms: 7000,
            uid: 0,
            owner: None,
        }
    }

    fn stands(socket: &SocketSeen) -> Standing {
        standing(socket, &want(), &want().promise().unwrap())
    }

    #[test]
    fn a_timer_is_right_while_a_dead_peer_is_found_in_time() {
        assert_eq!(want().side, Side::Client);
        assert_eq!(stands(&socket(SocketTimer::Keepalive, 29_000)), Standing::Protected);
        assert_eq!(stands(&socket(SocketTimer::Keepalive, 32_625)), Standing::Protected);
        assert_eq!(stands(&socket(SocketTimer::Keepalive, 32_626)), Standing::TooLate);
        assert_eq!(stands(&socket(SocketTimer::Keepalive, 7_140_000)), Standing::TooLate);
        assert_eq!(stands(&socket(SocketTimer::Off, 0)), Standing::Bare);
    }

    #[test]
    fn one_that_retransmits_is_given_up_only_when_it_is_beyond_hope() {
        // As it was seen 4 s into a blackout: backoff 4, a timeout of 3.264 s of which 2.404 s are left.
        let stuck = |silent: u32| SocketSeen {
            retransmits: 4,
            unacked: 1,
            rto_ms: 3264,
            last_data_recv_ms: silent,
            last_ack_recv_ms: silent,
            ..socket(SocketTimer::Retransmit, 2404)
        };
        assert_eq!(hanging_ms(&stuck(0)), 3060 + 860);
        assert_eq!(stands(&stuck(11_268)), Standing::Struggling);
        assert_eq!(stands(&stuck(350_000)), Standing::Stuck);
        // The kernel allows 12.8 s at most: six that doubled up to it, and nine that stayed there.
        let capped = SocketSeen { retransmits: 15, rto_ms: 12_800, expires_ms: 12_800, ..stuck(11_268) };
        assert_eq!(hanging_ms(&capped), 12_600 + 9 * 12_800);
        assert_eq!(stands(&capped), Standing::Stuck);
        let long = SocketSeen { retransmits: 9, rto_ms: 104_448, expires_ms: 60_000, ..stuck(11_268) };
        assert_eq!(stands(&long), Standing::Stuck);
        let fresh = SocketSeen { retransmits: 2, ..stuck(400_000) };
        assert_eq!(stands(&fresh), Standing::Busy);
        let acknowledged = SocketSeen { unacked: 0, ..stuck(400_000) };
        assert_eq!(stands(&acknowledged), Standing::Busy);
    }

    #[test]
    fn silence_is_since_anything_came() {
        let probed = SocketSeen {
            last_data_recv_ms: 900_000,
            last_ack_recv_ms: 20_000,
            ..socket(SocketTimer::Off, 0)
        };
        assert!(!about_to_be_forgotten(&probed, &want()));
        let silent = SocketSeen { last_ack_recv_ms: 280_000, ..probed };
        assert!(about_to_be_forgotten(&silent, &want()));
    }
}
