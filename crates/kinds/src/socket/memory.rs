//! How long the path remembers, and whether that is still as long as is promised.
//!
//! Connections of our own that are left silent measure it, where the path says `probe`. And the connections that are open
//! tell of it for nothing: where the probes of some get no answer while their peer answers others, the path has forgotten
//! those although they were probed in time.

use super::want::Want;
use evenkeel_core::ageing::{Fate, Observation};
use evenkeel_core::{
    Drift, Finding, Layer, Measured, MemoryQuestion, Promise, Side, SocketSeen, SocketTimer, Verdict,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Unanswered probes in a row from which one is no accident.
const UNANSWERED: u8 = 2;
/// A peer that was heard within this is there, in milliseconds.
const HEARD_MS: u32 = 5000;

/// The silences to measure: the longest that the promise leaves, and the one that the path is said to bear.
pub(super) fn ages(want: &Want, promise: &Promise) -> [Duration; 2] {
    [Duration::from_millis(promise.longest_silence_ms()), want.intent().idle_timeout]
}

/// What to measure, and at which peer: the one that most of the connections lead to, or the only one that is named.
pub(super) fn question(want: &Want, sockets: &[SocketSeen]) -> Option<MemoryQuestion> {
    let (wish, promise) = (want.probe.clone()?, want.promise()?);
    if want.side != Side::Client {
        return None;
    }
    let mut peers: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for socket in sockets.iter().filter(|socket| socket.id.netns == 0) {
        *peers.entry(socket.id.remote.ip()).or_default() += 1;
    }
    let most = peers.into_iter().max_by_key(|(ip, count)| (*count, std::cmp::Reverse(*ip))).map(|(ip, _)| ip);
    let whole = |prefix: u8, ip: IpAddr| prefix == if ip.is_ipv4() { 32 } else { 128 };
    let named = || match want.peers.as_slice() {
        [only] if whole(only.prefix(), only.address()) => Some(only.address()),
        _ => None,
    };
    let peer = SocketAddr::new(most.or_else(named)?, want.port);
    Some(MemoryQuestion { peer, ages: ages(want, &promise).to_vec(), wish })
}

pub(super) fn findings(
    want: &Want,
    promise: &Promise,
    sockets: &[SocketSeen],
    measured: Option<&Measured>,
) -> Vec<Finding> {
    let told = measured.and_then(|seen| match seen {
        Ok(seen) => from_measuring(want, promise, seen),
        Err(why) => Some(note(format!("how long the path remembers could not be measured: {why}"))),
    });
    let mut findings: Vec<Finding> = told.into_iter().collect();
    if forgets_the_probed(sockets) {
        let reason = "the path forgets sooner than promised: some connections get no answer to their probes while their \
                      peer answers others; `evenkeel probe` measures how long it remembers"
            .to_owned();
        findings.push(Finding { verdict: Verdict::NonCompliant, reason, drift: None });
    }
    findings
}

fn note(reason: String) -> Finding {
    Finding { verdict: Verdict::Note, reason, drift: None }
}

fn from_measuring(want: &Want, promise: &Promise, seen: &[Observation]) -> Option<Finding> {
    let [promised, said] = [seen.first()?.fate, seen.get(1)?.fate];
    let silence = promise.longest_silence_ms().div_ceil(1000);
    let off = |verdict, observed: String, reason: String| {
        let desired = format!("remembered for {}", want.idle_timeout);
        let drift = Drift { attr: "memory".into(), layer: Layer::Socket, observed: Some(observed), desired };
        Some(Finding { verdict, reason, drift: Some(drift) })
    };
    match (promised, said) {
        (fate, _) if fate.is_death() => off(
            Verdict::NonCompliant,
            format!("forgotten after {silence} s of silence"),
            format!(
                "measured: the path forgets a connection that is silent for {silence} s, so these keepalives come too late; \
                 shorten its idle_timeout to what `evenkeel probe` finds"
            ),
        ),
        (Fate::Survived, fate) if fate.is_death() => off(
            Verdict::NonCompliant,
            format!("forgotten within {}", want.idle_timeout),
            format!(
                "measured: the path forgets sooner than the {} that the spec says, and later than the {silence} s that the \
                 promise needs; say what `evenkeel probe` finds",
                want.idle_timeout
            ),
        ),
        (Fate::Survived, Fate::Survived) => None,
        (Fate::Survived, _) => Some(note(format!(
            "measured: the path remembers for the {silence} s that the promise needs; whether for {} is not known",
            want.idle_timeout
        ))),
        _ => Some(note(
            "how long the path remembers could not be measured: no connection stayed silent for long enough"
                .into(),
        )),
    }
}

/// Whether a peer answers some connections and not the probes of others.
fn forgets_the_probed(sockets: &[SocketSeen]) -> bool {
    let unanswered =
        |socket: &&SocketSeen| socket.timer == SocketTimer::Keepalive && socket.probes >= UNANSWERED;
    sockets.iter().filter(unanswered).any(|lost| {
        let heard = |other: &SocketSeen| {
            other.id.remote.ip() == lost.id.remote.ip()
                && other.id.netns == lost.id.netns
                && other.probes == 0
                && other.last_ack_recv_ms < HEARD_MS
        };
        sockets.iter().any(heard)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use evenkeel_core::SocketId;

    fn want() -> Want {
        serde_json::from_str(
            r#"{"side": "client", "port": 5432, "idle_timeout": "350s", "blackout_at_most": "60s", "probe": {"every": "1d", "user": "m"}}"#,
        )
        .unwrap()
    }

    fn socket(remote: &str, probes: u8, heard_ms: u32) -> SocketSeen {
        let local = "10.0.0.1:4242".parse().unwrap();
        SocketSeen {
            id: SocketId { netns: 0, local, remote: remote.parse().unwrap(), cookie: 1 },
            timer: SocketTimer::Keepalive,
            expires_ms: 5000,
            retransmits: 0,
            probes,
            rto_ms: 204,
            unacked: 0,
            last_data_recv_ms: heard_ms,
            last_ack_recv_ms: heard_ms,
            uid: 0,
            owner: None,
        }
    }

    fn told(fates: [Fate; 2]) -> Vec<(Verdict, String)> {
        let want = want();
        let promise = want.promise().unwrap();
        let seen = ages(&want, &promise).into_iter().zip(fates).map(|(age, fate)| Observation { age, fate });
        let seen: Vec<Observation> = seen.collect();
        findings(&want, &promise, &[], Some(&Ok(seen)))
            .into_iter()
            .map(|one| (one.verdict, one.reason))
            .collect()
    }

    #[test]
    fn a_promise_that_the_path_breaks_is_told_apart_from_a_figure_that_is_out_of_date() {
        assert_eq!(told([Fate::Survived, Fate::Survived]), []);
        let broken = told([Fate::Dropped, Fate::Dropped]);
        assert!(broken[0].0 == Verdict::NonCompliant && broken[0].1.contains("come too late"), "{broken:?}");
        let shorter = told([Fate::Survived, Fate::Reset]);
        assert!(
            shorter[0].0 == Verdict::NonCompliant && shorter[0].1.contains("sooner than the 350s"),
            "{shorter:?}"
        );
        assert_eq!(told([Fate::Survived, Fate::Closed])[0].0, Verdict::Note);
        assert_eq!(told([Fate::Unreachable, Fate::Unreachable])[0].0, Verdict::Note);
    }

    #[test]
    fn what_most_connections_lead_to_is_measured() {
        let peers = ["10.1.0.1:5432", "10.1.0.2:5432", "10.1.0.2:5432"].map(|peer| socket(peer, 0, 0));
        assert_eq!(question(&want(), &peers).unwrap().peer, "10.1.0.2:5432".parse().unwrap());
        assert_eq!(question(&want(), &[]), None);
        let named = Want { peers: vec!["10.9.0.1".parse().unwrap()], ..want() };
        assert_eq!(question(&named, &[]).unwrap().peer, "10.9.0.1:5432".parse().unwrap());
        assert_eq!(question(&Want { side: Side::Server, ..want() }, &peers), None);
        assert_eq!(question(&Want { probe: None, ..want() }, &peers), None);
    }

    #[test]
    fn probes_without_an_answer_accuse_the_path_only_where_the_peer_answers_others() {
        let lost = socket("10.1.0.1:5432", 2, 90_000);
        assert!(forgets_the_probed(&[lost.clone(), socket("10.1.0.1:5432", 0, 40)]));
        assert!(!forgets_the_probed(&[lost.clone(), socket("10.1.0.2:5432", 0, 40)]));
        assert!(!forgets_the_probed(&[lost.clone(), socket("10.1.0.1:5432", 0, 60_000)]));
        assert!(!forgets_the_probed(&[socket("10.1.0.1:5432", 1, 90_000), socket("10.1.0.1:5432", 0, 40)]));
    }
}
