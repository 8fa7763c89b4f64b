//! The parts that what simulated agents tell is put together from. Constants, mostly: as long as those of real agents.

use crate::fleet::Moved;
use evenkeel_report::{Agent as Program, Change, Item, SpecState, Status, Sync, Timestamp, Writer};

/// The item that moved, as a report lists it.
pub(crate) fn tell(moved: Moved, at: Timestamp) -> Item {
    let repaired = moved.status == Status::Repaired;
    let mut item = even(moved.item);
    item.status = moved.status;
    item.drift = moved.drift;
    item.change = repaired.then_some(Change::Corrective);
    item.writer = repaired.then(|| Writer {
        pid: 4242,
        comm: Some("sysctl".to_owned()),
        unit: Some("session-7.scope".to_owned()),
    });
    item.since = Some(at);
    item.attempts = 1;
    item
}

/// Item `n`, with nothing off.
pub(crate) fn even(n: u16) -> Item {
    Item {
        id: format!("sysctl/net.ipv4.conf.eth{n}.rp_filter"),
        status: Status::Compliant,
        change: None,
        phase: None,
        reason: None,
        declared_at: Some(format!("tiers/mw.yaml:{}", 17 + n)),
        drift: vec![],
        repaired: vec![],
        writer: None,
        since: None,
        attempts: 0,
        facts: std::collections::BTreeMap::new(),
        progress: None,
    }
}

/// The spec that all of them keep.
pub(crate) fn spec() -> SpecState {
    let commit = Some("5f3c1b9a5f3c1b9a5f3c1b9a5f3c1b9a5f3c1b9a".to_owned());
    SpecState {
        repo: "ssh://git.example.org/eden.git".to_owned(),
        branch: "main".to_owned(),
        target_commit: commit.clone(),
        observed_commit: commit,
        age_s: Some(1),
        sync: Sync::Synced,
        ..SpecState::default()
    }
}

/// The program that speaks.
pub(crate) fn program() -> Program {
    Program { version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// A pass, of which there is one for each report.
pub(crate) fn pass_id(index: u32, n: u64) -> String {
    format!("01939c5e-0000-7000-8000-{:012x}", u64::from(index) << 20 ^ n)
}

/// A moment (unix ms); one that no calendar has becomes 1970.
pub(crate) fn time(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(ms).or_else(|| Timestamp::from_unix_ms(0)).unwrap_or_else(|| unreachable!())
}
