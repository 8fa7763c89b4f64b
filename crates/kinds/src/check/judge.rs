//! What an answer is worth. Texts carry no timings: what failed today and what failed yesterday read equal.

use super::Have;
use super::want::Want;
use crate::clock;
use evenkeel_core::{Drift, Finding, ItemPlan, Layer, Plan, Probing, Section, Verdict};
use std::time::Duration;

pub(super) fn plan(section: &Section<Want>, have: &Have) -> Plan {
    let mut plan = Plan::default();
    for (name, want, _) in section.kept() {
        let mut told = ItemPlan::default();
        told.findings.extend(have.told.get(name).and_then(|told| off(want, told, have.now)));
        plan.items.insert(name.to_owned(), told);
    }
    plan
}

/// What is not as it should be.
pub(super) fn off(want: &Want, told: &Probing, now: i64) -> Option<Finding> {
    match told {
        Probing::Failed(why) => Some(finding(want, "answer", why.clone(), desired(want), why)),
        Probing::Http { status, .. } if *status != want.status() => {
            let why = format!("{status} instead of {}", want.status());
            Some(finding(want, "status", status.to_string(), want.status().to_string(), &why))
        }
        Probing::Answers | Probing::Http { contains: true, .. } => None,
        Probing::Http { .. } => {
            let text = want.contains.clone().unwrap_or_default();
            let why = format!("it does not contain `{text}`");
            Some(finding(want, "contains", "another text".to_owned(), text, &why))
        }
        Probing::Value(value) => {
            let expect = want.expect.as_ref()?.text();
            let seen = value.as_deref().unwrap_or("nothing");
            // One that is longer than this is no number, and would be cut anyway.
            let seen: String = seen.chars().filter(|one| !one.is_control()).take(200).collect();
            let why = format!("{seen} instead of {expect}");
            let wrong = value.as_deref() != Some(expect);
            wrong.then(|| finding(want, "value", seen, expect.to_owned(), &why))
        }
        Probing::Time(at) if want.file.is_some() => stale(want, *at, now),
        Probing::Time(at) => ending(want, *at, now),
    }
}

fn stale(want: &Want, written: i64, now: i64) -> Option<Finding> {
    let limit = want.younger_than.as_ref()?;
    let old = now.saturating_sub(written) >= seconds(limit.duration());
    let at = clock::moment(written);
    let why = format!("last written {at}, which is not younger than {limit}");
    old.then(|| finding(want, "age", format!("last written {at}"), format!("younger than {limit}"), &why))
}

fn ending(want: &Want, end: i64, now: i64) -> Option<Finding> {
    let (left, date) = (end.saturating_sub(now), clock::date(end));
    let wanted = want.left.as_ref().map_or_else(|| "14d".to_owned(), ToString::to_string);
    if left >= seconds(want.left()) {
        return None;
    }
    let why = if left < 0 {
        format!("it expired on {date}")
    } else {
        format!("it expires in less than {wanted} ({date})")
    };
    Some(finding(want, "expiry", date, format!("valid for {wanted} more"), &why))
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

fn finding(want: &Want, attr: &str, observed: String, desired: String, why: &str) -> Finding {
    let drift = Drift { attr: attr.to_owned(), layer: layer(want), observed: Some(observed), desired };
    Finding {
        verdict: Verdict::NonCompliant,
        reason: format!("{}: {why}", subject(want)),
        drift: Some(drift),
    }
}

fn layer(want: &Want) -> Layer {
    match (&want.file, &want.certificate) {
        (Some(path), _) => Layer::File(path.clone()),
        (_, Some(path)) if path.starts_with('/') => Layer::File(path.into()),
        _ => Layer::Daemon,
    }
}

/// What was asked, as the spec says it.
fn subject(want: &Want) -> String {
    let named = |what: &str, name: &Option<String>| name.as_ref().map(|name| format!("{what}{name}"));
    let file = want.file.as_ref().map(|path| path.display().to_string());
    named("", &want.http)
        .or_else(|| named("", &want.tcp))
        .or_else(|| named("memcached ", &want.memcached))
        .or_else(|| named("PostgreSQL ", &want.postgresql))
        .or_else(|| named("the certificate of ", &want.certificate))
        .or(file)
        .unwrap_or_default()
}

fn desired(want: &Want) -> String {
    match (&want.http, &want.file, &want.certificate) {
        (Some(_), ..) => want.status().to_string(),
        (_, Some(_), _) => {
            want.younger_than.as_ref().map_or_else(String::new, |time| format!("younger than {time}"))
        }
        (.., Some(_)) => "a certificate that is valid".to_owned(),
        _ => want.expect.as_ref().map_or_else(|| "an answer".to_owned(), |expect| expect.text().to_owned()),
    }
}
