//! What a path makes of the kernel's parameters, and what somebody said by hand that would break it.
//!
//! The parameters are the network namespace's: one value for every connection of the node, over IPv4 and IPv6 alike. So
//! where several paths end on a node, the strictest of them counts.

use super::want::{Goal, Want};
use evenkeel_core::{Complaint, Derived, PathEnd, Promise, longest_silence_ms, retransmission_model_ms};
use serde_json::Value;
use std::collections::BTreeMap;

const TIME: &str = "net.ipv4.tcp_keepalive_time";
const INTVL: &str = "net.ipv4.tcp_keepalive_intvl";
const PROBES: &str = "net.ipv4.tcp_keepalive_probes";
const RETRIES2: &str = "net.ipv4.tcp_retries2";
const RTO_MAX: &str = "net.ipv4.tcp_rto_max_ms";

/// A parameter, what a promise asks of it, and whether every kernel has it.
type Rule = (&'static str, fn(&Promise) -> u32, bool);

const RULES: [Rule; 5] = [
    (TIME, |promise| promise.keepalive_time, true),
    (INTVL, |promise| promise.keepalive_intvl, true),
    (PROBES, |promise| promise.keepalive_probes, true),
    (RETRIES2, |promise| promise.retries2, true),
    (RTO_MAX, |promise| promise.rto_max_ms, false),
];

pub(super) fn derive(paths: &[PathEnd]) -> Vec<Derived> {
    let rule = |(key, value, everywhere): Rule| {
        let (path, least) =
            paths.iter().map(|end| value(&end.promise)).enumerate().min_by_key(|(_, value)| *value)?;
        let mut fields = BTreeMap::from([("value".to_owned(), Value::from(least))]);
        if !everywhere {
            fields.insert("optional".to_owned(), true.into());
        }
        Some(Derived { item: key.to_owned(), fields, path })
    };
    RULES.into_iter().filter_map(rule).collect()
}

pub(super) fn check(name: &str, want: &Want, paths: &[PathEnd]) -> Vec<Complaint> {
    let Some((field, value)) = most(want) else { return vec![] };
    let told = paths.iter().filter_map(|end| match name {
        TIME | INTVL => silence(name, field, value, end),
        RETRIES2 => budget(field, value, end),
        _ => None,
    });
    let mut told: Vec<Complaint> = told.collect();
    if name == TIME {
        told.extend(paths.iter().filter_map(|end| detection(field, value, end)));
    }
    told
}

/// The largest value that an item lets be, and the field that says it.
fn most(want: &Want) -> Option<(&'static str, u64)> {
    match want.goal()? {
        Goal::Exactly(value) => Some(("value", value.trim().parse().ok()?)),
        Goal::Within(range) => match range.most {
            Some(most) => Some(("at_most", u64::try_from(most).ok()?)),
            // Whatever is above the floor is let be: nothing is promised.
            None => Some(("at_least", u64::MAX / 4096)),
        },
    }
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn shown(field: &str, value: u64) -> String {
    if field == "at_least" { "without an upper bound".to_owned() } else { value.to_string() }
}

/// Silence longer than the path remembers.
fn silence(name: &str, field: &'static str, value: u64, end: &PathEnd) -> Option<Complaint> {
    let limit = end.intent().idle_timeout.as_millis();
    if u128::from(longest_silence_ms(value, 0)) <= limit {
        return None;
    }
    let what = format!(
        "{} {} is longer than path `{}` stays open when idle, {} ({}): idle connections will be dropped before their {} \
         probe",
        short(name),
        shown(field, value),
        end.name,
        end.idle_timeout,
        end.idle_timeout_at,
        if name == TIME { "first" } else { "next" },
    );
    let help = format!(
        "timers fire up to an eighth late; leave it out, and the path makes it {}",
        if name == TIME { end.promise.keepalive_time } else { end.promise.keepalive_intvl }
    );
    Some(Complaint::error([field], what, help))
}

/// Retransmission for longer than a request may hang.
fn budget(field: &'static str, value: u64, end: &PathEnd) -> Option<Complaint> {
    let n = u32::try_from(value.min(255)).unwrap_or(255);
    let model = retransmission_model_ms(n);
    if u128::from(model) <= end.intent().blackout_at_most.as_millis() {
        return None;
    }
    let what = format!(
        "tcp_retries2 {} lets a request hang for {} s, and path `{}` for {} at most ({})",
        shown(field, value),
        model.div_ceil(1000),
        end.name,
        end.blackout_at_most,
        end.blackout_at,
    );
    let help = format!("leave it out, and the path makes it {}", end.promise.retries2);
    Some(Complaint::error([field], what, help))
}

/// A dead peer is found later than the path says, by those who only wait for an answer.
fn detection(field: &'static str, value: u64, end: &PathEnd) -> Option<Complaint> {
    let promise = &end.promise;
    let rest = u64::from(promise.keepalive_intvl) * u64::from(promise.keepalive_probes);
    let found = u128::from((value.saturating_add(rest)).saturating_mul(1000));
    let (silence, limit) =
        (u128::from(longest_silence_ms(value, 0)), end.intent().blackout_at_most.as_millis());
    // What breaks the silence is told already.
    if found <= limit || silence > end.intent().idle_timeout.as_millis() {
        return None;
    }
    let what = format!(
        "tcp_keepalive_time {} finds a dead peer after {} s, and path `{}` says {} ({}): whoever only waits for an \
         answer waits for that long",
        shown(field, value),
        found / 1000,
        end.name,
        end.blackout_at_most,
        end.blackout_at,
    );
    Some(Complaint::warning([field], what, format!("the path makes it {}", promise.keepalive_time)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use evenkeel_core::fake::path_end;
    use evenkeel_core::{Severity, Side};

    fn derived(paths: &[PathEnd]) -> Vec<String> {
        derive(paths)
            .into_iter()
            .map(|one| format!("{} {} {}", one.item, one.fields["value"], one.path))
            .collect()
    }

    #[test]
    fn of_several_paths_the_strictest_counts_each_for_itself() {
        let slow = path_end(Side::Client, "350s", "600s");
        let quick = path_end(Side::Server, "60s", "700s");
        assert_eq!(
            derived(&[slow, quick]),
            [
                "net.ipv4.tcp_keepalive_time 26 1",
                "net.ipv4.tcp_keepalive_intvl 26 1",
                "net.ipv4.tcp_keepalive_probes 3 0",
                "net.ipv4.tcp_retries2 10 0",
                "net.ipv4.tcp_rto_max_ms 120000 0",
            ]
        );
        assert!(derive(&[]).is_empty());
    }

    fn told(name: &str, fields: &str, idle: &str, blackout: &str) -> Vec<(Severity, String)> {
        let want: Want = serde_json::from_str(fields).unwrap();
        let told = check(name, &want, &[path_end(Side::Client, idle, blackout)]);
        told.into_iter().map(|one| (one.severity, one.message)).collect()
    }

    #[test]
    fn what_breaks_the_path_is_an_error_that_names_both_places() {
        let message = "tcp_keepalive_time 7200 is longer than path `database` stays open when idle, 350s (fleet.yaml:17): \
                       idle connections will be dropped before their first probe";
        let error = |message: &str| vec![(Severity::Error, message.to_owned())];
        assert_eq!(told(TIME, r#"{"value": 7200}"#, "350s", "60s"), error(message));
        // 320 s would do if timers were never late.
        assert_eq!(told(TIME, r#"{"value": 320}"#, "350s", "600s").len(), 1);
        assert_eq!(told(TIME, r#"{"value": 311}"#, "350s", "600s"), []);
        assert_eq!(told(INTVL, r#"{"at_most": 400}"#, "350s", "600s").len(), 1);
        assert_eq!(told(TIME, r#"{"at_least": 10}"#, "350s", "600s").len(), 1);
        let hang = told(RETRIES2, r#"{"value": 15}"#, "350s", "60s");
        assert_eq!(
            hang,
            error(
                "tcp_retries2 15 lets a request hang for 925 s, and path `database` for 60s at most (fleet.yaml:18)"
            )
        );
        assert_eq!(told(RETRIES2, r#"{"value": 7}"#, "350s", "60s"), []);
        assert_eq!(told(PROBES, r#"{"value": 100}"#, "350s", "60s"), []);
    }

    #[test]
    fn what_is_only_late_in_finding_a_dead_peer_is_a_warning() {
        let told = told(TIME, r#"{"value": 60}"#, "350s", "60s");
        assert_eq!(told[0].0, Severity::Warning);
        assert!(told[0].1.contains("finds a dead peer after 84 s"), "{told:?}");
    }

    #[test]
    fn what_a_path_derives_breaks_no_path() {
        for (idle, blackout) in [("3s", "3s"), ("5s", "3s"), ("350s", "60s"), ("60s", "10m"), ("1h", "5s")] {
            let ends = [path_end(Side::Client, idle, blackout), path_end(Side::Server, "20s", "1h")];
            for one in derive(&ends) {
                let want: Want = serde_json::from_value(serde_json::to_value(&one.fields).unwrap()).unwrap();
                assert_eq!(check(&one.item, &want, &ends), [], "{} {idle} {blackout}", one.item);
                assert_eq!(
                    super::super::rules::check(&one.item, &want),
                    [],
                    "{} {idle} {blackout}",
                    one.item
                );
            }
        }
    }
}
