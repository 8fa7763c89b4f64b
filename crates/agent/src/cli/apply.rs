//! `evenkeel apply`: one pass over every section, now, in this process. It never works beside a pass of the daemon.

use super::load::{self, Default};
use super::{Ending, Failure, Format, OFF, SpecArgs, WRONG, paint};
use crate::enforce::host::PassLock;
use crate::run::ConfigPlace;
use evenkeel_core::{Outcome, Status, converge};
use evenkeel_host::Host;
use evenkeel_report::Counts;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// How long the daemon's passes are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// `evenkeel apply`.
pub(super) fn apply(place: &ConfigPlace, args: &SpecArgs, format: Format) -> Ending {
    let config = load::config(place)?;
    let (spec, commit) = load::spec(&config, args, Default::Source)?;
    let lock = PassLock::open(&config.run_dir)
        .map_err(|error| Failure::Wrong(format!("make {}: {error}", config.run_dir.display())))?;
    let alone = lock.alone(PATIENCE).map_err(|error| Failure::wrong(&error))?;
    let Some(_alone) = alone else {
        let why =
            "a pass of the running agent does not end; `evenkeel status` says which section it hangs on";
        return Err(Failure::Wrong(why.to_owned()));
    };
    let mut host = Host::new(config.run_dir.clone())
        .keeping(config.state_dir.clone())
        .mirroring(config.state_dir.clone(), config.ssh_known_hosts.clone());
    host.ask_for_slots_at(config.slots());
    host.set_tier(&spec.identity.tier);
    let outcomes = converge(&spec, &mut host);
    let counts: Counts = outcomes.iter().map(|outcome| outcome.status).collect();
    let code = match (counts.error, counts.open()) {
        (0, 0) => 0,
        (0, _) => OFF,
        _ => WRONG,
    };
    match format {
        Format::Json => {
            let items: Vec<Value> = outcomes.iter().map(item).collect();
            let node = &spec.identity.name;
            paint::json(&json!({"node": node, "commit": commit, "counts": counts, "items": items}), code)
        }
        Format::Text => paint::text(&text(&outcomes, counts, &commit), code),
    }
}

fn item(outcome: &Outcome) -> Value {
    json!({
        "id": outcome.id, "status": outcome.status, "phase": outcome.phase, "reason": outcome.reason,
        "declared_at": outcome.declared_at, "drift": outcome.drift, "repaired": outcome.repaired,
    })
}

fn text(outcomes: &[Outcome], counts: Counts, commit: &str) -> String {
    let mut text = String::new();
    let told =
        outcomes.iter().filter(|outcome| outcome.status != Status::Compliant || outcome.reason.is_some());
    for outcome in told {
        let at = outcome.declared_at.as_deref().unwrap_or("no longer in the spec");
        let id = paint::name(&crate::log::plain(&outcome.id));
        let _ = writeln!(text, "{} {id}  {}", paint::status(outcome.status), paint::aside(at));
        // What is left comes last, beside its reason.
        let put_right = outcome.repaired.iter().map(|drift| ("put right: ", drift));
        for (word, drift) in put_right.chain(outcome.drift.iter().map(|drift| ("", drift))) {
            let observed = drift.observed.as_deref().unwrap_or("(nothing)");
            let line = format!("{word}{} {}: {observed} → {}", drift.layer, drift.attr, drift.desired);
            let _ = writeln!(text, "  {}", crate::log::plain(&line));
        }
        if let Some(reason) = &outcome.reason {
            let _ = writeln!(text, "  {}", crate::log::plain(reason));
        }
    }
    let words = Status::ALL.iter().filter(|&&status| counts.of(status) > 0);
    let words: Vec<String> =
        words.map(|&status| format!("{} {}", counts.of(status), status.word())).collect();
    let sum = if words.is_empty() { "nothing to keep".to_owned() } else { words.join(", ") };
    let _ = writeln!(text, "{sum} at {}", crate::enforce::standing::short(commit));
    text
}
