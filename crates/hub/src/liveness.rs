//! Whether a node is heard of, and what else is odd about its voice. Derived when somebody asks, from what was
//! stored when the node spoke, on the hub's own clock: nothing has to run for a node to become late.

use crate::store::NodeDoc;
use evenkeel_report::Liveness;

/// On top of 1.5 and of 2 intervals, for the way (ms).
const SLACK_MS: i64 = 5_000;
/// From here on a node is missing (ms): 24 h.
const MISSING_MS: i64 = 24 * 3600 * 1000;
/// How far a node's clock may be off the hub's (ms).
const SKEW_MS: i64 = 60_000;
/// For how long two boot ids that alternated are told (ms): an hour after the last time.
pub(crate) const CLONE_MS: i64 = 3_600_000;
/// Passes have stalled when none ended for this long (s) and for this many intervals: five minutes are five slow
/// passes, which come every minute whatever happens.
const STALLED_S: u64 = 300;
const STALLED_INTERVALS: u64 = 5;

/// The hub's own times, which liveness is judged against (unix ms).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubTimes {
    /// Now.
    pub now: i64,
    /// When this hub started.
    pub started: i64,
    /// Until when the hub before it was known to be up.
    pub up_before: Option<i64>,
}

/// How a node last heard of at `last_seen` (unix ms) stands, if it speaks every `interval_s` seconds.
///
/// A hub that was away has not listened: until it has been up for 2 intervals + 5 s, a node that has not
/// spoken to it since it started is judged as of the moment when the hub before it went away.
#[must_use]
pub fn liveness(last_seen: Option<i64>, interval_s: u64, hub: HubTimes) -> Liveness {
    let Some(last_seen) = last_seen else { return Liveness::NeverReported };
    let interval = i64::try_from(interval_s).unwrap_or(i64::MAX).saturating_mul(1000);
    let late = (interval.saturating_mul(3) / 2).saturating_add(SLACK_MS);
    let silent = interval.saturating_mul(2).saturating_add(SLACK_MS);
    let listening = last_seen >= hub.started || hub.now.saturating_sub(hub.started) >= silent;
    let at = if listening { hub.now } else { hub.up_before.unwrap_or(last_seen) };
    match at.saturating_sub(last_seen) {
        age if age >= silent.max(MISSING_MS) => Liveness::Missing,
        age if age >= silent => Liveness::Silent,
        age if age >= late => Liveness::Late,
        _ => Liveness::Online,
    }
}

/// How the node of a document stands.
#[must_use]
pub fn of(doc: &NodeDoc, hub: HubTimes) -> Liveness {
    if doc.is_retired() {
        return Liveness::Decommissioned;
    }
    liveness(Some(doc.last_seen), doc.interval_s(), hub)
}

/// The word on the wire.
#[must_use]
pub fn word(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::NeverReported => "never_reported",
        Liveness::Online => "online",
        Liveness::Late => "late",
        Liveness::Silent => "silent",
        Liveness::Missing => "missing",
        Liveness::Decommissioned => "decommissioned",
    }
}

/// Every liveness, as it is counted.
pub const ALL: [Liveness; 6] = [
    Liveness::NeverReported,
    Liveness::Online,
    Liveness::Late,
    Liveness::Silent,
    Liveness::Missing,
    Liveness::Decommissioned,
];

/// The flags beside it: `gap`, `clock_skew`, `cloned_identity`, `stalled`, `rewound`, `dropped`.
#[must_use]
pub fn flags(doc: &NodeDoc, now: i64) -> Vec<&'static str> {
    let clone = doc.alternated.is_some_and(|at| now.saturating_sub(at) < CLONE_MS);
    let rewound = doc.rewound.is_some_and(|at| at >= doc.voice.got);
    let dropped = doc.beat.as_ref().is_some_and(|beat| beat.spool.dropped > 0);
    let all = [
        ("gap", doc.missing > 0),
        ("clock_skew", skew_ms(doc).is_some()),
        ("cloned_identity", clone),
        ("stalled", stalled(doc)),
        ("rewound", rewound),
        ("dropped", dropped),
    ];
    all.into_iter().filter(|(_, raised)| *raised).map(|(flag, _)| flag).collect()
}

/// By how much the node's clock is ahead of the hub's (ms), where that is more than a minute.
///
/// Heartbeats are sent at once, so theirs tells in both directions; a report may have waited in a spool, so only
/// one from the future tells anything.
#[must_use]
pub fn skew_ms(doc: &NodeDoc) -> Option<i64> {
    let beat = doc.beat.as_ref().map(|beat| beat.at.saturating_sub(beat.got));
    let voice = doc.voice.at.saturating_sub(doc.voice.got);
    let report = Some(voice).filter(|ahead| *ahead > SKEW_MS);
    beat.filter(|off| off.saturating_abs() > SKEW_MS).or(report)
}

fn stalled(doc: &NodeDoc) -> bool {
    let age = doc.beat.as_ref().and_then(|beat| beat.last_pass_age_s);
    age.is_some_and(|age| age > STALLED_S && age > STALLED_INTERVALS.saturating_mul(doc.interval_s()))
}

#[cfg(test)]
mod tests {
    use super::{HubTimes, flags, liveness};
    use crate::store::{Beat, NodeDoc, Voice};
    use evenkeel_report::Liveness::{Late, Missing, NeverReported, Online, Silent};

    const LONG_UP: HubTimes = HubTimes { now: 1_000_000_000, started: 0, up_before: None };

    fn after(age_ms: i64) -> evenkeel_report::Liveness {
        liveness(Some(LONG_UP.now - age_ms), 30, LONG_UP)
    }

    #[test]
    fn lateness_begins_at_one_and_a_half_intervals_and_silence_at_two_each_with_five_seconds() {
        assert_eq!(after(0), Online);
        assert_eq!(after(49_999), Online);
        assert_eq!(after(50_000), Late);
        assert_eq!(after(64_999), Late);
        assert_eq!(after(65_000), Silent);
        assert_eq!(after(86_399_999), Silent);
        assert_eq!(after(86_400_000), Missing);
        assert_eq!(liveness(None, 30, LONG_UP), NeverReported);
    }

    #[test]
    fn a_node_whose_interval_is_a_day_is_not_missing_before_it_is_silent() {
        assert_eq!(liveness(Some(LONG_UP.now - 100_000_000), 86_400, LONG_UP), Online);
    }

    #[test]
    fn a_hub_that_was_away_calls_nobody_late_before_it_has_listened() {
        let hub = |now| HubTimes { now, started: 10_000_000, up_before: Some(5_000_000) };
        let heard = Some(4_990_000);
        assert_eq!(liveness(heard, 30, hub(10_000_000)), Online);
        assert_eq!(liveness(heard, 30, hub(10_064_999)), Online);
        assert_eq!(liveness(heard, 30, hub(10_065_000)), Silent);
    }

    #[test]
    fn a_node_that_was_silent_before_the_hub_went_away_stays_silent() {
        let hub = HubTimes { now: 10_000_001, started: 10_000_000, up_before: Some(5_000_000) };
        assert_eq!(liveness(Some(4_000_000), 30, hub), Silent);
    }

    #[test]
    fn the_hubs_clock_set_back_makes_nobody_late() {
        assert_eq!(liveness(Some(LONG_UP.now + 5_000_000), 30, LONG_UP), Online);
    }

    #[test]
    fn a_clock_more_than_a_minute_off_is_flagged_by_a_heartbeat_in_both_directions() {
        let doc = |off: i64| NodeDoc {
            beat: Some(Beat { at: 500_000 + off, got: 500_000, interval_s: 30, ..Beat::default() }),
            ..NodeDoc::default()
        };
        assert_eq!(flags(&doc(60_000), 500_000), Vec::<&str>::new());
        assert_eq!(flags(&doc(60_001), 500_000), ["clock_skew"]);
        assert_eq!(flags(&doc(-60_001), 500_000), ["clock_skew"]);
    }

    #[test]
    fn a_report_that_waited_in_the_spool_is_no_skew_and_one_from_the_future_is() {
        let doc = |off: i64| NodeDoc {
            voice: Voice { at: 9_000_000 + off, got: 9_000_000, ..Voice::default() },
            ..NodeDoc::default()
        };
        assert_eq!(flags(&doc(-5_000_000), 9_000_000), Vec::<&str>::new());
        assert_eq!(flags(&doc(60_001), 9_000_000), ["clock_skew"]);
    }

    #[test]
    fn heartbeats_without_passes_are_a_stalled_node() {
        let doc = |age| NodeDoc {
            beat: Some(Beat { interval_s: 30, last_pass_age_s: Some(age), ..Beat::default() }),
            ..NodeDoc::default()
        };
        assert_eq!(flags(&doc(300), 0), Vec::<&str>::new());
        assert_eq!(flags(&doc(301), 0), ["stalled"]);
    }

    #[test]
    fn a_cloned_identity_is_told_for_an_hour() {
        let doc = NodeDoc { alternated: Some(1), ..NodeDoc::default() };
        assert_eq!(flags(&doc, 3_600_000), ["cloned_identity"]);
        assert_eq!(flags(&doc, 3_600_001), Vec::<&str>::new());
    }
}
