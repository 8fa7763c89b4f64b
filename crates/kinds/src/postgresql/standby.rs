//! The links between a primary and its standbys: told, and never changed. Nobody is promoted, nothing is restarted, and
//! `primary_conninfo` is somebody's own.
//!
//! Reasons have no figures that move by themselves: lag is a word.

use super::paths;
use super::want::{Replication, Want};
use evenkeel_core::{Drift, Finding, Layer, PgFacts, PgLink, PgReplication, Verdict, longest_silence_ms};

/// Received and not replayed for this much, in bytes, is behind.
const BEHIND: u64 = 64 << 20;

/// The parameters that end a link whose other end is gone.
pub(super) const TIMEOUTS: [&str; 2] = ["wal_sender_timeout", "wal_receiver_timeout"];

pub(super) fn findings(want: &Want, facts: &PgFacts) -> Vec<Finding> {
    let Some(seen) = facts.replication.as_ref().filter(|_| want.replication == Replication::Report) else {
        return vec![];
    };
    let mut told = Told { want, facts, findings: vec![] };
    if facts.in_recovery {
        told.standby(seen);
    } else {
        told.primary(seen);
    }
    told.findings
}

struct Told<'a> {
    want: &'a Want,
    facts: &'a PgFacts,
    findings: Vec<Finding>,
}

impl Told<'_> {
    fn find(&mut self, verdict: Verdict, reason: String) {
        self.findings.push(Finding { verdict, reason, drift: None });
    }

    fn off(&mut self, reason: String, attr: &str, observed: &str, desired: String) {
        let drift =
            Drift { attr: attr.into(), layer: Layer::Daemon, observed: Some(observed.into()), desired };
        self.findings.push(Finding { verdict: Verdict::NonCompliant, reason, drift: Some(drift) });
    }

    fn primary(&mut self, seen: &PgReplication) {
        for slot in &seen.idle_slots {
            let why = format!(
                "replication slot {slot} is used by nobody: its standby is away, and WAL is kept for it"
            );
            self.find(Verdict::Note, why);
        }
        for sender in seen.senders.iter().filter(|one| !matches!(one.state.as_str(), "streaming" | "backup"))
        {
            let state = if sender.state.is_empty() { "not told" } else { &sender.state };
            let why = format!("standby {} is not streaming: its state is {state}", sender.application);
            self.find(Verdict::Note, why);
        }
        if !seen.senders.is_empty() || !seen.idle_slots.is_empty() {
            self.timeout("wal_sender_timeout");
        }
    }

    fn standby(&mut self, seen: &PgReplication) {
        let Some(link) = &seen.link else {
            let why = "a standby without primary_conninfo: it lives on archived WAL alone";
            return self.find(Verdict::Note, why.to_owned());
        };
        let from = link.host.as_deref().map(|host| format!(" from {host}")).unwrap_or_default();
        match &seen.receiver {
            Some(receiver) if receiver.status == "streaming" => {}
            receiver => {
                let slot = receiver.as_ref().and_then(|one| one.slot.as_ref());
                let slot = slot.map(|slot| format!(" through slot {slot}")).unwrap_or_default();
                let why = format!(
                    "not streaming{from}{slot}: see the server's log for why its primary cannot be reached"
                );
                self.find(Verdict::NonCompliant, why);
            }
        }
        if seen.paused {
            self.find(
                Verdict::NonCompliant,
                "replay is paused: SELECT pg_wal_replay_resume() lets it go on".into(),
            );
        } else if seen.unreplayed > BEHIND {
            self.find(Verdict::Note, "replay is behind what was received".into());
        }
        self.timeout("wal_receiver_timeout");
        self.link(link);
    }

    /// A link whose other end is gone must be given up within what the path allows.
    fn timeout(&mut self, name: &str) {
        let Some((bounds, most)) = paths::bounds(self.want) else { return };
        let Some(setting) = self.facts.settings.get(name) else { return };
        let Ok(ms) = setting.reset_val.parse::<u128>() else { return };
        let Some(blackout) = &bounds.blackout_at_most else { return };
        if ms == 0 || ms > most {
            let seen = format!("{ms}ms");
            let why = format!(
                "{name} is {seen}: a replication link that is dead is held for longer than the path's blackout_at_most, \
                 {blackout}; say {name}: {blackout} under settings"
            );
            self.off(why, name, &seen, format!("at most {blackout}"));
        }
    }

    /// How the standby's own end of the link is kept, as `primary_conninfo` says it; 0 and silence are the kernel's.
    fn link(&mut self, link: &PgLink) {
        let said = |key: &str| link.timers.get(key).map(String::as_str);
        let write = self.needed();
        let help = format!("write {write} into it, and reload");
        if said("keepalives") == Some("0") {
            let why = format!(
                "primary_conninfo says keepalives=0: a dead primary is noticed late or never; {help}"
            );
            return self.off(why, "primary_conninfo", "keepalives=0", write);
        }
        let number = |key: &str| said(key).and_then(|text| text.parse::<u64>().ok()).filter(|n| *n > 0);
        let idle = self.want.path.as_ref().and_then(|bounds| bounds.idle_timeout.as_ref());
        for key in ["keepalives_idle", "keepalives_interval"] {
            if let (Some(seconds), Some(idle)) = (number(key), idle)
                && u128::from(longest_silence_ms(seconds, 0)) > idle.duration().as_millis()
            {
                let why = format!(
                    "primary_conninfo says {key}={seconds}, longer than the path stays open when idle, {idle}: the link will \
                     be dropped before it is probed; {help}"
                );
                self.off(why, "primary_conninfo", &format!("{key}={seconds}"), write.clone());
            }
        }
        if let (Some(ms), Some((bounds, most))) = (number("tcp_user_timeout"), paths::bounds(self.want))
            && u128::from(ms) > most
            && let Some(blackout) = &bounds.blackout_at_most
        {
            let why = format!(
                "primary_conninfo says tcp_user_timeout={ms}, longer than the path's blackout_at_most, {blackout}; {help}"
            );
            self.off(why, "primary_conninfo", &format!("tcp_user_timeout={ms}"), write);
        }
    }

    /// What `primary_conninfo` should say: what the server itself is to have, in libpq's names.
    fn needed(&self) -> String {
        let pairs = [
            (paths::IDLE, "keepalives_idle"),
            (paths::INTERVAL, "keepalives_interval"),
            (paths::COUNT, "keepalives_count"),
            (paths::USER_TIMEOUT, "tcp_user_timeout"),
        ];
        let known = |(ours, theirs): &(&str, &str)| {
            let n = paths::number(ours, self.want.settings.get(*ours)?)?;
            Some(format!("{theirs}={n}"))
        };
        let all = std::iter::once("keepalives=1".to_owned()).chain(pairs.iter().filter_map(known));
        all.collect::<Vec<_>>().join(" ")
    }
}
