//! Making a report out of the ledger: full or changes, worst first, never larger than the wire allows.
//!
//! What does not fit stays untold in the ledger and is told by the report after this one; nothing is lost to a cap.

use super::ledger::Ledger;
use evenkeel_report::{
    Agent, Item, Node, Pass, REPORT_CAP, Report, Scope, Seq, SpecState, VALUE_CAP, cut, state_digest,
};

/// What is kept free of [`REPORT_CAP`] for the envelope, the node's labels and the numbers.
const ENVELOPE: usize = 16 * 1024;
/// The most bytes of spec errors in one report.
const ERRORS_CAP: usize = 48 * 1024;
/// The most bytes of ids of vanished items in one report.
const GONE_CAP: usize = 48 * 1024;

/// Everything in a report that is not about items.
pub(crate) struct Header {
    /// Who speaks.
    pub(crate) node: Node,
    /// Which spec.
    pub(crate) spec: SpecState,
    /// The pass.
    pub(crate) pass: Pass,
    /// Full or changes.
    pub(crate) scope: Scope,
}

/// The agent's own line.
pub(crate) fn agent() -> Agent {
    Agent { version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// Take from the ledger what is to be told, and make a report of it. Its number is given by the spool.
pub(crate) fn report(ledger: &mut Ledger, header: Header) -> Report {
    if header.scope == Scope::Full {
        ledger.untell_all();
        ledger.forget_gone();
    }
    let (spec, mut truncated) = cut_errors(header.spec);
    let spent = spec.errors.iter().map(|line| line.len() * 2 + 4).sum::<usize>();
    let gone = take_gone(ledger, &mut truncated);
    let room = REPORT_CAP - ENVELOPE - spent - gone.iter().map(|id| id.len() * 2 + 4).sum::<usize>();
    let mut items = take_items(ledger, room, &mut truncated);
    items.sort_by(|a, b| a.id.cmp(&b.id));
    let report = Report {
        node: header.node,
        agent: agent(),
        seq: Seq::default(),
        pass: header.pass,
        spec,
        scope: header.scope,
        counts: ledger.counts(),
        state_digest: state_digest(ledger.items()),
        items,
        gone,
        truncated,
    };
    ledger.told(report.items.iter().map(|item| item.id.as_str()));
    report
}

fn take_items(ledger: &Ledger, room: usize, truncated: &mut bool) -> Vec<Item> {
    let mut left = room;
    let mut taken = vec![];
    for item in ledger.news() {
        let mut item = Item { progress: None, ..item.clone() };
        let mut size = weight(&item);
        if size > room {
            // One item alone is too much: its words first, then what it is off by.
            *truncated = true;
            item.reason = item.reason.map(|reason| cut(&reason, 512).to_owned());
            item.drift.truncate(8);
            size = weight(&item);
        }
        let Some(rest) = left.checked_sub(size) else {
            *truncated = true;
            break;
        };
        *truncated |= ledger.is_cut(&item.id);
        left = rest;
        taken.push(item);
    }
    taken
}

/// Bytes of an item on the wire.
fn weight(item: &Item) -> usize {
    serde_json::to_vec(item).map_or(REPORT_CAP, |json| json.len() + 1)
}

fn take_gone(ledger: &mut Ledger, truncated: &mut bool) -> Vec<String> {
    let mut left = GONE_CAP;
    let gone: Vec<String> = ledger
        .gone()
        .iter()
        .take_while(|id| {
            left = left.saturating_sub(id.len() + 3);
            left > 0
        })
        .cloned()
        .collect();
    *truncated |= gone.len() < ledger.gone().len();
    ledger.told_gone(&gone);
    gone
}

/// A thousand errors are told by their first ones and a number.
pub(crate) fn cut_errors(mut spec: SpecState) -> (SpecState, bool) {
    let mut left = ERRORS_CAP;
    let total = spec.errors.len();
    let mut short = false;
    let mut kept = vec![];
    for line in spec.errors {
        short |= line.len() > VALUE_CAP;
        let line = cut(&line, VALUE_CAP);
        let Some(rest) = left.checked_sub(line.len()) else { break };
        left = rest;
        kept.push(line.to_owned());
    }
    if kept.len() < total {
        short = true;
        kept.push(format!("… and {} more", total - kept.len()));
    }
    spec.errors = kept;
    (spec, short)
}
