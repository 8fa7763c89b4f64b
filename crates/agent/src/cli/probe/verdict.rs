//! What a measurement means: a sentence, what it is for whoever uses the path, and the `paths:` section that fits.

use super::progress::spoken;
use crate::cli::paint;
use evenkeel_core::ageing::{Ageing, Fate, Found};
use evenkeel_host::ageing::Peer;
use serde::Serialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// What was found, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    /// The path forgets silent connections.
    Forgets,
    /// It did not, for as long as was tried.
    Remembers,
    /// It did not, until the other end closed.
    PeerCloses,
}

/// A measurement and what follows from it.
pub(super) struct Verdict {
    word: Word,
    address: SocketAddr,
    logged_in: bool,
    plan: Ageing,
    found: Found,
    /// How long the path lets a silent connection live at least.
    lives: Duration,
    /// What a path's `idle_timeout` can safely say.
    idle_timeout: Duration,
    took: Duration,
}

/// The least that a path's `idle_timeout` may be in a spec.
const LEAST: Duration = Duration::from_secs(3);

impl Verdict {
    /// What was found, or why nothing could be.
    pub(super) fn of(peer: &Peer, plan: &Ageing, took: Duration) -> Result<Self, String> {
        let found = plan.found();
        if found.talked {
            let why = "the other end speaks by itself, so its connections are never silent for long: nothing to measure";
            return Err(why.to_owned());
        }
        let (Some(lives), Some(idle_timeout)) = (found.lives(), found.idle_timeout()) else {
            return Err(nothing(&found));
        };
        let word = match (found.died, found.closed) {
            (Some(_), _) => Word::Forgets,
            (None, Some(_)) => Word::PeerCloses,
            (None, None) => Word::Remembers,
        };
        let (address, logged_in) = (peer.address, peer.login.is_some());
        Ok(Self { word, address, logged_in, plan: plan.clone(), found, lives, idle_timeout, took })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let sentence = match self.word {
            Word::Forgets => paint::bad(&self.sentence()),
            Word::Remembers => paint::good(&self.sentence()),
            Word::PeerCloses => paint::warn(&self.sentence()),
        };
        format!("{sentence}\n{}\n\n{}", self.meaning(), self.section())
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let seen = |seen: &evenkeel_core::ageing::Observation| json!({"silent_s": secs(seen.age), "fate": seen.fate});
        json!({
            "address": self.address.to_string(),
            "logged_in": self.logged_in,
            "verdict": self.word,
            "up_to_s": secs(self.plan.up_to()),
            "took_s": secs(self.took),
            "survived_s": self.found.survived.map(secs),
            "died_s": self.found.died.map(|died| secs(died.age)),
            "died_how": self.found.died.map(|died| died.fate),
            "peer_closed_s": self.found.closed.map(secs),
            "seen": self.plan.seen().iter().map(seen).collect::<Vec<_>>(),
            "idle_timeout": word(self.idle_timeout),
            "section": self.section(),
        })
    }

    fn sentence(&self) -> String {
        let (address, lives) = (self.address, spoken(self.lives));
        match (self.word, self.found.died) {
            (Word::Forgets, Some(died)) => format!(
                "the path to {address} forgets a silent connection: {lives} were survived, {} were not",
                spoken(died.age)
            ),
            (Word::PeerCloses, _) => {
                format!("the path to {address} lets a silent connection live for {lives} at least")
            }
            _ => format!("the path to {address} let a connection be silent for {lives} and forgot none"),
        }
    }

    fn meaning(&self) -> String {
        match self.word {
            Word::Forgets if self.found.died.is_some_and(|died| died.fate == Fate::Reset) => {
                "What comes later is answered with a reset: whoever uses such a connection gets an error at once."
                    .to_owned()
            }
            Word::Forgets => {
                "What comes later is dropped without a word: whoever uses such a connection hangs.".to_owned()
            }
            Word::Remembers => "No section is needed for silences up to that. What was seen is this much:".to_owned(),
            Word::PeerCloses => {
                let closed = spoken(self.found.closed.unwrap_or_default());
                let more = if self.logged_in {
                    "see its idle_session_timeout, or that of a proxy or a pool before it."
                } else {
                    "PostgreSQL, for one, closes what has not logged in after authentication_timeout, 60 s: say \
                     --postgres 'user=… dbname=…' to measure further."
                };
                format!("Then, after {closed}, the other end itself closed, in order: that is no router that forgets.\n{more}")
            }
        }
    }

    /// A section for `fleet.yaml`; only the names of the tiers are to be put in.
    fn section(&self) -> String {
        let seen = match self.found.died {
            Some(died) => {
                format!("{} of silence were survived, {} were not", spoken(self.lives), spoken(died.age))
            }
            None => format!("{} of silence were survived, and longer was not tried", spoken(self.lives)),
        };
        let (address, port, idle_timeout) = (self.address, self.address.port(), word(self.idle_timeout));
        if self.idle_timeout < LEAST {
            return format!(
                "\
# Measured by evenkeel probe to {address}: {seen}.
# No keepalive can keep such a path: they are set in whole seconds and fire up to an eighth late, so a path has to remember
# for 3s at least.
"
            );
        }
        format!(
            "\
paths:
  # Measured by evenkeel probe to {address}: {seen}.
  # For fleet.yaml; CLIENT is the tier that connects, SERVER the one that it connects to.
  database:
    from: {{tier: CLIENT}}
    to: {{tier: SERVER, port: {port}}}
    idle_timeout: {idle_timeout}
    blackout_at_most: 60s
    live: retune
"
        )
    }
}

/// Why nothing could be measured.
fn nothing(found: &Found) -> String {
    match (found.died, found.closed) {
        (Some(died), _) => format!(
            "even {} of silence did not survive: something on the way, or this machine, drops TCP keepalive probes of \
             connections that it should know, so its memory cannot be measured by them",
            spoken(died.age)
        ),
        (None, Some(closed)) => format!(
            "the other end takes connections and closes them after {}: nothing to measure. Name the port that \
             connections lead to, and for PostgreSQL say --postgres",
            spoken(closed)
        ),
        (None, None) => "nothing became of any connection: nothing to tell".to_owned(),
    }
}

/// Seconds, to the millisecond.
fn secs(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// As the spec language writes it.
fn word(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
