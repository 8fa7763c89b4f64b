//! The plain sentences: whether things are even, and if not, what is the matter.

use crate::liveness::{self, HubTimes, flags};
use crate::store::telling::Silence;
use crate::store::{NodeDoc, NodeRow};
use evenkeel_report::{Liveness, Status, Sync, Timestamp, Writer};

/// Text from a node, with control and direction characters made visible: one value is one line, and reads as
/// what it is.
pub(crate) fn shown(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        let hidden = matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}');
        if c.is_control() || hidden {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// How long ago, as coarse as people speak.
pub(super) fn ago(at: i64, now: i64) -> String {
    match now.saturating_sub(at) {
        past if past < -1000 => "in the future".to_owned(),
        past if past < 1000 => "just now".to_owned(),
        past => format!("{} ago", span(past)),
    }
}

/// A length of time (ms), as coarse as people speak.
pub(super) fn span(ms: i64) -> String {
    match ms / 1000 {
        s if s < 120 => format!("{s} s"),
        s if s < 7200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

/// A length of time (ms) in its two largest units: "3 h 12 min".
pub(super) fn lasting(ms: i64) -> String {
    let s = ms.max(0) / 1000;
    let two = |large: i64, unit: &str, small: i64, less: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {less}"),
    };
    match s {
        0 => "under 1 s".to_owned(),
        s if s < 60 => format!("{s} s"),
        s if s < 3600 => two(s / 60, "min", s % 60, "s"),
        s if s < 86_400 => two(s / 3600, "h", s % 3600 / 60, "min"),
        s => two(s / 86_400, if s < 172_800 { "day" } else { "days" }, s % 86_400 / 3600, "h"),
    }
}

/// A number with its thousands apart.
pub(super) fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let first = digits.len() % 3;
    let mut out = digits[..first].to_owned();
    for piece in digits.as_bytes()[first..].chunks(3) {
        if !out.is_empty() {
            out.push(',');
        }
        out.extend(piece.iter().map(|digit| char::from(*digit)));
    }
    out
}

/// "1 node", "1,200 nodes".
pub(super) fn count(count: usize, one: &str, many: &str) -> String {
    format!("{} {}", thousands(count), if count == 1 { one } else { many })
}

/// A tier's name, for a person.
pub(super) fn tier(name: &str) -> String {
    if name.is_empty() { "in no tier".to_owned() } else { shown(name) }
}

fn items(of: u64, word: &str) -> String {
    format!("{} {word}", count(usize::try_from(of).unwrap_or(usize::MAX), "item", "items"))
}

/// Why an item that is off is told to nobody, and until when.
pub(super) fn silenced(one: &Silence) -> String {
    let until = Timestamp::from_unix_ms(one.until).map(|until| until.to_string()).unwrap_or_default();
    let word = if one.waiver { "waived" } else { "silenced" };
    format!("{word} until {until} by {}: {}", shown(&one.owner), shown(&one.reason))
}

/// Messages that were given up.
pub(super) fn untold(count: i64) -> Option<String> {
    match count {
        0 => None,
        1 => Some("1 message was taken by nobody and given up".to_owned()),
        count => Some(format!("{count} messages were taken by nobody and given up")),
    }
}

/// How a status reads in a sentence.
pub(super) fn status(status: Status) -> &'static str {
    match status {
        Status::NotApplicable => "not applicable",
        Status::Compliant => "compliant",
        Status::Skipped => "skipped",
        Status::Repaired => "repaired",
        Status::Pending => "pending",
        Status::NonCompliant => "non-compliant",
        Status::Error => "in error",
    }
}

/// How a node's spec stands, for a person.
pub(super) fn sync(sync: Sync) -> &'static str {
    match sync {
        Sync::Synced => "in sync",
        Sync::Progressing => "being applied",
        Sync::OutOfSync => "behind",
        Sync::Failed => "newest refused",
        Sync::Held => "held",
        Sync::Unknown => "no spec yet",
    }
}

/// What a flag means, for a person.
pub(super) fn flag(flag: &str) -> &'static str {
    match flag {
        "gap" => "A report of this node never came: its history has a hole.",
        "clock_skew" => "Its clock is more than a minute off the hub's.",
        "cloned_identity" => "Two machines speak under this identity.",
        "stalled" => "Heartbeats come, but passes have stopped.",
        "rewound" => {
            "It counts backwards: its state folder was put back or copied, and its reports may be lost."
        }
        "dropped" => "It dropped reports for want of space.",
        _ => "",
    }
}

/// What keeps a node from being even; empty when it is, and of one that was taken out.
pub(super) fn woes(doc: &NodeDoc, times: HubTimes) -> Vec<String> {
    if doc.is_retired() {
        return vec![];
    }
    let counts = &doc.counts;
    let mut woes = vec![];
    for open in [Status::Error, Status::NonCompliant, Status::Pending] {
        if counts.of(open) > 0 {
            woes.push(items(u64::from(counts.of(open)), status(open)));
        }
    }
    match doc.spec.sync {
        Sync::Failed => woes.push("its newest spec was refused".to_owned()),
        Sync::OutOfSync => woes.push("an older commit is in force".to_owned()),
        Sync::Unknown if doc.spec.observed_commit.is_none() => woes.push("it has no spec yet".to_owned()),
        Sync::Synced | Sync::Progressing | Sync::Held | Sync::Unknown => {}
    }
    let quiet = || span(times.now.saturating_sub(doc.last_seen));
    match liveness::of(doc, times) {
        Liveness::Silent => woes.push(format!("silent for {}", quiet())),
        Liveness::Missing => woes.push(format!("missing for {}", quiet())),
        _ => {}
    }
    let raised = flags(doc, times.now);
    if raised.contains(&"stalled") {
        woes.push("its passes have stalled".to_owned());
    }
    if raised.contains(&"cloned_identity") {
        woes.push("two machines speak under its identity".to_owned());
    }
    if doc.digest_ok == Some(false) {
        woes.push("the hub does not know all of its state yet".to_owned());
    }
    woes
}

/// "mw1 is even" or "mw1 is not even: 1 item pending".
pub(super) fn node(doc: &NodeDoc, times: HubTimes) -> String {
    let name = shown(&doc.node.name);
    if let Some(at) = doc.retired.filter(|_| doc.is_retired()) {
        return format!("{name} was taken out {}", ago(at, times.now));
    }
    match woes(doc, times) {
        woes if woes.is_empty() => format!("{name} is even"),
        woes => format!("{name} is not even: {}", woes.join(", ")),
    }
}

/// The whole fleet in one sentence: how many nodes there are, how many are not even, and how many items are open on
/// them. `few` are nodes that are not even, all of them where they are no more than three; `only` is any node.
pub(super) fn fleet(
    all: usize,
    uneven: usize,
    open: [u64; 3],
    few: &[&NodeRow],
    only: Option<&NodeRow>,
    times: HubTimes,
) -> String {
    match (all, uneven, few) {
        (0, ..) => "No node has reported yet".to_owned(),
        (1, ..) if only.is_some() => only.map(|only| node(&only.doc, times)).unwrap_or_default(),
        (all, 0, _) => format!("{}, all even", count(all, "node", "nodes")),
        (_, 1, [one]) => node(&one.doc, times),
        (all, some, few) if some <= 3 && few.len() == some => {
            let told = |row: &&NodeRow| {
                format!("{} ({})", shown(&row.doc.node.name), woes(&row.doc, times).join(", "))
            };
            let told: Vec<_> = few.iter().map(told).collect();
            format!("{some} of {} are not even: {}", count(all, "node", "nodes"), told.join(", "))
        }
        (all, many, _) => {
            let nodes = count(all, "node", "nodes");
            format!("{} of {nodes} are not even{}", thousands(many), altogether(open))
        }
    }
}

/// What is open on all of them: ": 2 items in error, 5 items pending".
fn altogether([pending, non_compliant, error]: [u64; 3]) -> String {
    let all = [(error, Status::Error), (non_compliant, Status::NonCompliant), (pending, Status::Pending)];
    let told =
        all.into_iter().filter(|(count, _)| *count > 0).map(|(count, word)| items(count, status(word)));
    let told: Vec<_> = told.collect();
    if told.is_empty() { String::new() } else { format!(": {}", told.join(", ")) }
}

/// "written by `sysctl` (pid 4242) in session.scope".
pub(super) fn writer(writer: &Writer) -> String {
    let mut text = match &writer.comm {
        Some(comm) => format!("written by `{}` (pid {})", shown(comm), writer.pid),
        None => format!("written by pid {}", writer.pid),
    };
    if let Some(unit) = &writer.unit {
        text = format!("{text} in {}", shown(unit));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{ago, lasting, node, shown, thousands, woes, writer};
    use crate::liveness::HubTimes;
    use crate::store::{Beat, NodeDoc, NodeRow};
    use evenkeel_report::{Counts, Node, Sync, Writer};

    const TIMES: HubTimes = HubTimes { now: 1_000_000, started: 0, up_before: None };

    fn row(name: &str, counts: Counts) -> NodeRow {
        let mut doc = NodeDoc {
            node: Node { name: name.to_owned(), ..Node::default() },
            last_seen: TIMES.now,
            counts,
            beat: Some(Beat { interval_s: 30, ..Beat::default() }),
            digest_ok: Some(true),
            ..NodeDoc::default()
        };
        doc.spec.sync = Sync::Synced;
        NodeRow { key: 0, source: name.to_owned(), doc }
    }

    fn fleet(rows: &[NodeRow], times: HubTimes) -> String {
        let uneven: Vec<_> = rows.iter().filter(|row| !woes(&row.doc, times).is_empty()).collect();
        let sum = |of: fn(&Counts) -> u32| rows.iter().map(|row| u64::from(of(&row.doc.counts))).sum();
        let open = [sum(|one| one.pending), sum(|one| one.non_compliant), sum(|one| one.error)];
        super::fleet(rows.len(), uneven.len(), open, &uneven, rows.first(), times)
    }

    #[test]
    fn lengths_of_time_have_two_units_and_numbers_their_thousands_apart() {
        let told = [900, 38_000, 125_000, 3_600_000, 11_520_000, 90_000_000, 200_000_000].map(lasting);
        assert_eq!(told, ["under 1 s", "38 s", "2 min 5 s", "1 h", "3 h 12 min", "1 day 1 h", "2 days 7 h"]);
        let told = [0, 7, 999, 1_000, 12_345, 1_234_567].map(thousands);
        assert_eq!(told, ["0", "7", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn the_fleet_is_told_in_one_plain_sentence() {
        let fine = Counts { compliant: 5, ..Counts::default() };
        let off = Counts { pending: 1, ..Counts::default() };
        assert_eq!(fleet(&[], TIMES), "No node has reported yet");
        assert_eq!(fleet(&[row("db1", fine)], TIMES), "db1 is even");
        let even = [row("db1", fine), row("mw1", fine), row("web1", fine)];
        assert_eq!(fleet(&even, TIMES), "3 nodes, all even");
        let one = [row("db1", fine), row("mw1", off)];
        assert_eq!(fleet(&one, TIMES), "mw1 is not even: 1 item pending");
        let two = [row("a", fine), row("b", off), row("c", Counts { error: 2, ..off })];
        let told = "2 of 3 nodes are not even: b (1 item pending), c (2 items in error, 1 item pending)";
        assert_eq!(fleet(&two, TIMES), told);
        let many: Vec<_> = ["a", "b", "c", "d"].map(|name| row(name, off)).into();
        assert_eq!(fleet(&many, TIMES), "4 of 4 nodes are not even: 4 items pending");
    }

    #[test]
    fn a_node_with_no_open_item_is_not_even_when_it_is_silent_or_its_spec_was_refused() {
        let mut quiet = row("db1", Counts::default());
        quiet.doc.last_seen = TIMES.now - 200_000;
        assert_eq!(node(&quiet.doc, TIMES), "db1 is not even: silent for 3 min");
        let mut refused = row("db1", Counts::default());
        refused.doc.spec.sync = Sync::Failed;
        assert_eq!(node(&refused.doc, TIMES), "db1 is not even: its newest spec was refused");
    }

    #[test]
    fn characters_that_hide_or_turn_text_around_are_shown_as_what_they_are() {
        assert_eq!(shown("a\u{202e}b\n\u{1b}[31mc\u{200b}"), "a\\u{202e}b\\n\\u{1b}[31mc\\u{200b}");
        assert_eq!(shown("grün → 7200"), "grün → 7200");
    }

    #[test]
    fn who_wrote_it_is_told_as_far_as_it_is_known() {
        let full = Writer { pid: 4242, comm: Some("sysctl".into()), unit: Some("session.scope".into()) };
        assert_eq!(writer(&full), "written by `sysctl` (pid 4242) in session.scope");
        assert_eq!(writer(&Writer { pid: 7, ..Writer::default() }), "written by pid 7");
    }

    #[test]
    fn times_are_as_coarse_as_people_speak() {
        let past = |ms: i64| ago(1_000_000_000 - ms, 1_000_000_000);
        assert_eq!(
            [past(0), past(12_000), past(180_000), past(9_000_000), past(300_000_000)],
            ["just now", "12 s ago", "3 min ago", "2 h ago", "3 days ago"]
        );
        assert_eq!(past(-90_000), "in the future");
    }
}
