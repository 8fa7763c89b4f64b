//! What is off, as alerts: each with its real beginning, an end a few minutes ahead that is put off as long as it stands,
//! and an end of now once it is over. An alert that its sender forgets ends by itself.

use super::fleet::Fleet;
use super::sinks::Sink;
use super::words;
use crate::pages::shown;
use crate::store::telling::{News, Topic};
use evenkeel_report::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How often it is looked whether something changed (ms).
pub(super) const LOOK_MS: i64 = 5_000;
/// How often what stands is sent again (ms).
const AGAIN_MS: i64 = 60_000;
/// How far ahead an end is (ms): four sendings may be lost.
const AHEAD_MS: i64 = 300_000;
/// The most alerts.
const MOST: usize = 5_000;

/// What was told last, and what of it is not over.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memo {
    /// When (unix ms).
    sent: i64,
    /// The alerts, by what they are about.
    alerts: BTreeMap<String, Alert>,
}

impl Memo {
    /// What to remember before this is sent after `old`; nothing where nothing in it is new. Whoever dies between a sending
    /// and its memory still knows what has to be ended.
    pub(super) fn ahead(&self, old: &Self) -> Option<Self> {
        let mut alerts = old.alerts.clone();
        for (subject, alert) in &self.alerts {
            alerts.entry(subject.clone()).or_insert_with(|| alert.clone());
        }
        (alerts.len() > old.alerts.len()).then_some(Self { sent: 0, alerts })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Alert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    since: i64,
    link: Option<String>,
}

fn alert(news: &News, public_url: Option<&str>) -> Alert {
    let name = match news.topic {
        Topic::Item | Topic::Repair => "EvenkeelItemOff",
        Topic::Node => "EvenkeelNodeSilent",
        Topic::Commit => "EvenkeelCommitRefused",
        Topic::Invariant => "EvenkeelInvariantBroken",
    };
    let labels = [
        ("alertname", name.to_owned()),
        ("severity", news.severity.word().to_owned()),
        ("node", news.node.clone()),
        ("source", news.source.clone()),
        ("tier", news.tier.clone()),
        ("item", news.item.clone()),
        ("status", news.status.clone()),
    ];
    let filled = labels.into_iter().filter(|(_, value)| !value.is_empty());
    let bundle = super::route::Bundle::of(news);
    let annotations = [("summary", words::summary(&bundle)), ("description", words::detail(news).join("\n"))];
    Alert {
        labels: filled.map(|(key, value)| (key.to_owned(), shown(&value))).collect(),
        annotations: annotations.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        since: news.since,
        link: words::link(public_url, news),
    }
}

/// What is to be sent, and what to remember once it was taken; nothing while nothing is due.
pub(super) fn alerts(
    sink: &Sink,
    fleet: &Fleet,
    told: &dyn Fn(&News) -> bool,
    memo: &Memo,
    public_url: Option<&str>,
    now: i64,
) -> Option<(Value, Memo)> {
    let off = fleet.off.iter().filter(|news| sink.wants(news) && told(news)).take(MOST);
    let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
    for news in off {
        let subject =
            format!("{} {} {}", news.subject(), news.status, news.commit.as_deref().unwrap_or_default());
        let mut new = alert(news, public_url);
        if let Some(old) = memo.alerts.get(&subject).filter(|old| old.labels == new.labels) {
            new.since = old.since;
        }
        alerts.insert(subject, new);
    }
    let same = alerts
        .iter()
        .map(|(key, one)| (key, &one.labels))
        .eq(memo.alerts.iter().map(|(key, one)| (key, &one.labels)));
    if same && (alerts.is_empty() || now.saturating_sub(memo.sent) < AGAIN_MS) {
        return None;
    }
    let over =
        memo.alerts.iter().filter(|(key, one)| alerts.get(*key).is_none_or(|new| new.labels != one.labels));
    let over = over.map(|(_, one)| wire(one, now));
    let all: Vec<Value> = alerts.values().map(|one| wire(one, now + AHEAD_MS)).chain(over).collect();
    Some((Value::from(all), Memo { sent: now, alerts }))
}

fn wire(alert: &Alert, ends: i64) -> Value {
    let mut value = json!({"labels": alert.labels, "annotations": alert.annotations,
        "startsAt": Timestamp::from_unix_ms(alert.since), "endsAt": Timestamp::from_unix_ms(ends)});
    if let Some(link) = &alert.link {
        value["generatorURL"] = json!(link);
    }
    value
}
