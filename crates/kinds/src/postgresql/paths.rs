//! What the paths that end on a node make of its clusters, and what somebody says by hand that breaks one.
//!
//! Every number comes from `evenkeel_core::Promise`; here it is only given its name.

use super::value;
use super::want::{Bounds, Value as Said, Want};
use super::{parameters, want};
use evenkeel_core::{
    Complaint, Derived, PathEnd, Promise, Protocol, Severity, Side, detection_ms, longest_silence_ms,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub(super) const IDLE: &str = "tcp_keepalives_idle";
pub(super) const INTERVAL: &str = "tcp_keepalives_interval";
pub(super) const COUNT: &str = "tcp_keepalives_count";
pub(super) const USER_TIMEOUT: &str = "tcp_user_timeout";
pub(super) const CHECK: &str = "client_connection_check_interval";

/// The parameters that decide how a connection is kept, the order in which they are told.
pub(super) const KEEPING: [&str; 5] = [IDLE, INTERVAL, COUNT, USER_TIMEOUT, CHECK];

/// What a promise says of a parameter, as a number of its unit.
fn promised(promise: &Promise, name: &str) -> u32 {
    match name {
        IDLE => promise.keepalive_time,
        INTERVAL => promise.keepalive_intvl,
        COUNT => promise.keepalive_probes,
        USER_TIMEOUT => promise.user_timeout_ms,
        _ => promise.check_interval_ms,
    }
}

fn spelled(name: &str, n: u32) -> Value {
    match name {
        IDLE | INTERVAL => json!(format!("{n}s")),
        COUNT => json!(n),
        _ => json!(format!("{n}ms")),
    }
}

/// The ends that are about an item: what listens here, or what is reached from here.
fn ends(paths: &[PathEnd], remote: bool) -> impl Iterator<Item = (usize, &PathEnd)> {
    let side = if remote { Side::Client } else { Side::Server };
    let ours = move |end: &&PathEnd| end.protocol == Protocol::Postgresql && end.side == side;
    paths.iter().enumerate().filter(move |(_, end)| ours(end))
}

/// The layer below all others: each parameter from the path that is strictest about it.
pub(super) fn derive(paths: &[PathEnd], said: &BTreeMap<String, Value>) -> Vec<Derived> {
    let mut all = vec![];
    for (item, fields) in said {
        let remote = fields.get("server").is_some();
        let mut made: BTreeMap<usize, BTreeMap<String, Value>> = BTreeMap::new();
        let mut put = |path: usize, field: &str, key: &str, value: Value| {
            let map = made.entry(path).or_default().entry(field.to_owned()).or_insert_with(|| json!({}));
            map[key] = value;
        };
        for name in KEEPING {
            let strictest = ends(paths, remote).min_by_key(|(at, end)| (promised(&end.promise, name), *at));
            let Some((at, end)) = strictest else { continue };
            put(at, "settings", name, spelled(name, promised(&end.promise, name)));
            put(at, "promised", name, json!("reset"));
        }
        if let Some((at, end)) =
            ends(paths, remote).min_by_key(|(at, end)| (end.idle_timeout.duration(), *at))
        {
            put(at, "path", "idle_timeout", json!(end.idle_timeout));
        }
        if let Some((at, end)) =
            ends(paths, remote).min_by_key(|(at, end)| (end.blackout_at_most.duration(), *at))
        {
            put(at, "path", "blackout_at_most", json!(end.blackout_at_most));
        }
        all.extend(made.into_iter().map(|(path, fields)| Derived { item: item.clone(), fields, path }));
    }
    all
}

/// The values of one place, the whole server's or a role's, against one path.
struct Against<'a> {
    end: &'a PathEnd,
    /// Where the values are, in the item.
    place: Vec<String>,
    said: &'a BTreeMap<String, Said>,
    /// What holds where the place says nothing.
    below: Option<&'a BTreeMap<String, Said>>,
    complaints: Vec<Complaint>,
}

/// What of an item breaks a path.
pub(super) fn check(want: &Want, paths: &[PathEnd]) -> Vec<Complaint> {
    let mut complaints = vec![];
    for (_, end) in ends(paths, want.server.is_some()) {
        let settings = (vec!["settings".to_owned()], &want.settings, None);
        let roles = want.roles.iter();
        let roles =
            roles.map(|(role, said)| (vec!["roles".to_owned(), role.clone()], said, Some(&want.settings)));
        for (place, said, below) in std::iter::once(settings).chain(roles) {
            let mut against = Against { end, place, said, below, complaints: vec![] };
            against.check();
            complaints.append(&mut against.complaints);
        }
    }
    complaints
}

/// A value in its parameter's unit; nothing where it is no value, which is complained of elsewhere.
pub(super) fn number(name: &str, said: &Said) -> Option<u64> {
    let parameter = parameters::find(name).filter(|_| !said.inherits())?;
    if value::fault(&parameter, said.text()).is_some() {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole, and within the range"
    )]
    value::amount(said.text(), unit(name)).map(|n| n as u64)
}

fn unit(name: &str) -> &'static str {
    match name {
        IDLE | INTERVAL => "s",
        COUNT => "",
        _ => "ms",
    }
}

impl Against<'_> {
    /// What the place itself says.
    fn own(&self, name: &str) -> Option<u64> {
        self.said.get(name).and_then(|said| number(name, said))
    }

    /// What holds there, 0 and silence being what the path promises: 0 is complained of on its own.
    fn holds(&self, name: &str) -> u64 {
        let below = || self.below.and_then(|below| below.get(name)).and_then(|said| number(name, said));
        let said = self.own(name).or_else(below).filter(|n| *n > 0);
        said.unwrap_or_else(|| promised(&self.end.promise, name).into())
    }

    fn wrong(&mut self, name: &str, what: &str) {
        let said = self.said.get(name).map_or("", Said::text);
        let mut path = self.place.clone();
        path.push(name.to_owned());
        let ours = spelled(name, promised(&self.end.promise, name));
        let ours = ours.as_str().map_or_else(|| ours.to_string(), str::to_owned);
        let help =
            format!("leave {name} out, or say {ours} or less: that is what path `{}` needs", self.end.name);
        self.complaints.push(Complaint::error(path, format!("{name} {said} {what}"), help));
    }

    fn check(&mut self) {
        let end = self.end;
        let (path, idle, blackout) = (&end.name, &end.idle_timeout, &end.blackout_at_most);
        let (idle_at, blackout_at) = (&end.idle_timeout_at, &end.blackout_at);
        for name in [IDLE, INTERVAL, COUNT, USER_TIMEOUT] {
            if self.own(name) == Some(0) {
                let ours = spelled(name, promised(&end.promise, name));
                let ours = ours.as_str().map_or_else(|| ours.to_string(), str::to_owned);
                self.wrong(
                    name,
                    &format!(
                        "leaves it to the kernel, and shadows the {ours} that path `{path}` needs for idle_timeout {idle} \
                         ({idle_at}) and blackout_at_most {blackout} ({blackout_at})"
                    ),
                );
            }
        }
        let silence = |seconds: u64| u128::from(longest_silence_ms(seconds, 0)) > idle.duration().as_millis();
        for name in [IDLE, INTERVAL] {
            if self.own(name).is_some_and(silence) {
                let but = if name == IDLE { "before their first probe" } else { "between two probes" };
                self.wrong(
                    name,
                    &format!(
                        "is longer than path `{path}` stays open when idle, {idle} ({idle_at}), as a timer may come an \
                         eighth late: idle connections will be dropped {but}"
                    ),
                );
            }
        }
        self.detection();
        let late = |ms: u64| u128::from(ms) > blackout.duration().as_millis();
        if self.own(USER_TIMEOUT).is_some_and(late) {
            self.wrong(
                USER_TIMEOUT,
                &format!(
                    "is longer than a request may hang on path `{path}`, {blackout} ({blackout_at}): a dead connection \
                     would hold it for longer"
                ),
            );
        }
    }

    /// Whether a dead peer is given up in time, told of the first value that is said here and is beyond the path's own.
    fn detection(&mut self) {
        let end = self.end;
        let (idle, interval, count) = (self.holds(IDLE), self.holds(INTERVAL), self.holds(COUNT));
        let blackout = end.blackout_at_most.duration().as_millis();
        if u128::from(detection_ms(idle, interval, count)) <= blackout {
            return;
        }
        let beyond = |name: &&str| self.own(name).is_some_and(|n| n > promised(&end.promise, name).into());
        let Some(name) = [IDLE, INTERVAL, COUNT].into_iter().find(|name| beyond(name)) else { return };
        let told = self.complaints.iter().any(|one| one.path.last().is_some_and(|last| last == name));
        if !told {
            let what = format!(
                "makes {idle} s and {count} times {interval} s until a dead connection is given up, longer than a request \
                 may hang on path `{}`, {} ({}), as timers may come an eighth late",
                end.name, end.blackout_at_most, end.blackout_at
            );
            self.wrong(name, &what);
            // Only who waits for an answer without a word on its way is found by keepalives; what is unanswered is not.
            self.complaints.last_mut().into_iter().for_each(|one| one.severity = Severity::Warning);
        }
    }
}

/// What a standby's or a primary's own links are held to.
pub(super) fn bounds(want: &Want) -> Option<(&want::Bounds, u128)> {
    let bounds: &Bounds = want.path.as_ref()?;
    Some((bounds, bounds.blackout_at_most.as_ref()?.duration().as_millis()))
}
