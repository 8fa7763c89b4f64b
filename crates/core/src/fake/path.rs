//! A path for tests.

use crate::{Intent, Live, Origin, PathEnd, Promise, Protocol, Side};

/// One end of path `database`, which leads to port 5432; times as in a spec: `350s`, `60s`.
///
/// # Panics
/// They are no durations, or cannot be kept: for tests.
#[must_use]
pub fn path_end(side: Side, idle_timeout: &str, blackout_at_most: &str) -> PathEnd {
    let word = |text: &str| text.parse().unwrap_or_else(|error| panic!("{error}"));
    let at = |line| Origin { file: "fleet.yaml".into(), line, path: None };
    let mut end = PathEnd {
        name: "database".into(),
        side,
        port: 5432,
        protocol: Protocol::Postgresql,
        peers: vec![],
        idle_timeout: word(idle_timeout),
        blackout_at_most: word(blackout_at_most),
        promise: NOTHING,
        live: Live::Retune,
        service: Some("eden".into()),
        connections: None,
        probe: None,
        at: at(14),
        idle_timeout_at: at(17),
        blackout_at: at(18),
    };
    end.promise = Intent::promise(&end.intent()).unwrap_or_else(|error| panic!("{error}"));
    end
}

const NOTHING: Promise = Promise {
    keepalive_time: 0,
    keepalive_intvl: 0,
    keepalive_probes: 0,
    latest_probe: 0,
    user_timeout_ms: 0,
    retries2: 0,
    rto_max_ms: 0,
    check_interval_ms: 0,
};
