//! Who hears of what, and together with what. No SQL, no clock, no network: `now` and what lies on the desk are handed
//! in.

use super::silence::covers;
use super::sinks::Sink;
use crate::store::telling::{Desk, Message, News, Severity, Silence, Sorted, Standing, State, Topic};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// How many nodes a message names; it counts all.
const NAMED: usize = 100;

/// News of one kind, as one message tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Told")]
pub struct Bundle {
    /// What it is about.
    pub topic: Topic,
    /// Whether something began to be off; else it is over.
    pub open: bool,
    /// How bad it is, or was.
    pub severity: Severity,
    /// The item, where it is about one.
    pub item: String,
    /// The status word.
    pub status: String,
    /// How many nodes.
    pub count: u64,
    /// Which: the first hundred.
    pub nodes: Vec<News>,
}

impl Bundle {
    fn new(news: &News) -> Self {
        Self {
            topic: news.topic,
            open: news.open,
            severity: news.severity,
            item: news.item.clone(),
            status: news.status.clone(),
            count: 0,
            nodes: vec![],
        }
    }

    /// A message of this one piece of news.
    #[must_use]
    pub fn of(news: &News) -> Self {
        let mut bundle = Self::new(news);
        bundle.add(news);
        bundle
    }

    fn add(&mut self, news: &News) {
        // The same node once more within a minute is no second node.
        if self.nodes.iter().any(|one| one.source == news.source && one.tier == news.tier) {
            return;
        }
        self.count += 1;
        if self.nodes.len() < NAMED {
            self.nodes.push(news.clone());
        }
    }
}

/// What one message gathers.
fn group(news: &News) -> String {
    let commit = if news.topic == Topic::Commit { news.commit.as_deref() } else { None };
    format!(
        "{} {} {} {} {}",
        news.topic.word(),
        if news.open { "open" } else { "over" },
        news.status,
        commit.unwrap_or_default(),
        news.item
    )
}

/// Messages that are being gathered.
struct Post<'a> {
    sinks: &'a [Sink],
    now: i64,
    id: &'a mut dyn FnMut() -> String,
    open: BTreeMap<(String, String), (Message, Option<Bundle>)>,
}

impl<'a> Post<'a> {
    fn new(sinks: &'a [Sink], open: Vec<Message>, now: i64, id: &'a mut dyn FnMut() -> String) -> Self {
        let open = open.into_iter().filter(|message| message.next > now);
        let open = open.map(|message| ((message.sink.clone(), message.grp.clone()), (message, None)));
        Self { sinks, now, id, open: open.collect() }
    }

    fn add(&mut self, news: &News) {
        let wanting = self.sinks.iter().filter(|sink| sink.by_message() && sink.wants(news));
        for sink in wanting {
            let grp = group(news);
            let wait = i64::try_from(sink.group.as_millis()).unwrap_or(0);
            let key = (sink.name.clone(), grp.clone());
            let (now, id) = (self.now, &mut self.id);
            let (message, bundle) = self.open.entry(key).or_insert_with(|| {
                let message = Message {
                    id: id(),
                    sink: sink.name.clone(),
                    grp,
                    state: State::Waiting,
                    first: now,
                    next: now.saturating_add(wait),
                    tries: 0,
                    body: String::new(),
                    error: String::new(),
                };
                (message, None)
            });
            let bundle = bundle.get_or_insert_with(|| {
                serde_json::from_str(&message.body).unwrap_or_else(|_| Bundle::new(news))
            });
            bundle.add(news);
        }
    }

    /// The messages that something was added to.
    fn written(self) -> Vec<Message> {
        let changed = self.open.into_values().filter_map(|(message, bundle)| {
            let body = serde_json::to_string(&bundle?).unwrap_or_default();
            Some(Message { body, ..message })
        });
        changed.collect()
    }
}

/// The silence over `news` that ends last.
fn silenced<'a>(silences: &'a [Silence], news: &News, now: i64) -> Option<&'a Silence> {
    let over = silences.iter().filter(|one| one.until > now && covers(one, news));
    over.max_by_key(|one| one.until)
}

/// What the hub itself finds is off now: silent nodes and broken invariants; nothing where it has not looked.
pub type Found = Option<Vec<News>>;

/// How something that the hub told of has ended, where it is not found any more; nothing where it has not.
pub type Over<'a> = &'a dyn Fn(&News) -> Option<News>;

/// Sorts what lies on the desk at `now` (unix ms); `id` makes ids of messages.
pub fn sort(
    desk: Desk,
    sinks: &[Sink],
    now: i64,
    (found, over): (&Found, Over<'_>),
    id: &mut dyn FnMut() -> String,
) -> Sorted {
    let Desk { news, open, silences, standing } = desk;
    let mut post = Post::new(sinks, open, now, id);
    let mut sorted = Sorted::default();
    let mut held: HashMap<String, Vec<i64>> = HashMap::new();
    for row in &news {
        if row.due > now {
            held.entry(row.news.subject()).or_default().push(row.id);
        }
    }
    for row in news.iter().filter(|row| row.due <= now) {
        let subject = row.news.subject();
        let silence = silenced(&silences, &row.news, now);
        let before = held.remove(&subject).unwrap_or_default();
        let never_told = !before.is_empty();
        sorted.gone.extend(before);
        match silence {
            Some(silence) if row.news.open => {
                held.insert(subject, vec![row.id]);
                sorted.held.push((row.id, silence.until));
                continue;
            }
            // It is over before anybody was told that it began.
            _ if !row.news.open && never_told => {}
            Some(_) if row.news.topic == Topic::Repair => {}
            _ => post.add(&row.news),
        }
        sorted.gone.push(row.id);
    }
    // What was put on hold in this round and was over in it.
    let gone: std::collections::HashSet<i64> = sorted.gone.iter().copied().collect();
    sorted.held.retain(|(id, _)| !gone.contains(id));
    if let Some(found) = found {
        watch((found, over), &standing, &silences, &mut post, &mut sorted);
    }
    sorted.put = post.written();
    sorted
}

/// What the hub finds now against what it told. What is silenced is found once its silence ends.
fn watch(
    (found, over): (&[News], Over<'_>),
    standing: &BTreeMap<String, Standing>,
    silences: &[Silence],
    post: &mut Post<'_>,
    sorted: &mut Sorted,
) {
    let now = post.now;
    let by_subject: BTreeMap<String, &News> = found.iter().map(|news| (news.subject(), news)).collect();
    for (subject, news) in &by_subject {
        if !standing.contains_key(subject) && silenced(silences, news, now).is_none() {
            post.add(news);
            sorted.found.push((subject.clone(), Standing { news: (*news).clone() }));
        }
    }
    for (subject, Standing { news }) in standing {
        if !by_subject.contains_key(subject)
            && let Some(ended) = over(news)
        {
            post.add(&News { at: now, ..ended });
            sorted.over.push(subject.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Bundle, sort};
    use crate::store::telling::{Desk, News, NewsRow, Severity, Silence, Sorted, Standing, Topic};
    use crate::tell::sinks::Sink;

    const NOW: i64 = 1_000_000;

    fn sink(more: &str) -> Sink {
        serde_yaml::from_str(&format!("{{name: hook, webhook: {{url: 'http://x'}}{more}}}")).unwrap()
    }

    fn news(topic: Topic, node: &str, open: bool) -> News {
        News {
            topic,
            open,
            severity: Severity::Critical,
            node: node.to_owned(),
            source: format!("urn:uuid:{node}"),
            tier: "db".to_owned(),
            item: "sysctl/a".to_owned(),
            status: "error".to_owned(),
            reason: None,
            drift: vec![],
            declared_at: None,
            commit: None,
            since: 1,
            at: 2,
        }
    }

    fn row(id: i64, due: i64, news: News) -> NewsRow {
        NewsRow { id, due, news }
    }

    fn over_db(until: i64) -> Silence {
        let any = || "*".to_owned();
        let (tier, node, item) = ("d?".to_owned(), any(), any());
        Silence {
            id: "s".into(),
            waiver: false,
            tier,
            node,
            item,
            reason: "r".into(),
            owner: "o".into(),
            made: 0,
            until,
            ended_by: None,
        }
    }

    fn sorted(desk: Desk, found: Option<&[News]>, over: bool) -> Sorted {
        let (found, mut next) = (found.map(<[News]>::to_vec), 0);
        sort(
            desk,
            &[sink("")],
            NOW,
            (&found, &|news| over.then(|| News { open: false, ..news.clone() })),
            &mut || {
                next += 1;
                format!("id{next}")
            },
        )
    }

    fn bundle(body: &str) -> Bundle {
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn the_same_of_many_nodes_is_one_message_and_the_next_round_joins_it_until_it_is_due() {
        let all =
            ["a", "b", "a"].into_iter().zip(1..).map(|(node, id)| row(id, 0, news(Topic::Item, node, true)));
        let first = sorted(Desk { news: all.collect(), ..Desk::default() }, None, true);
        assert_eq!((first.put.len(), first.gone.as_slice()), (1, &[1, 2, 3][..]));
        assert_eq!((bundle(&first.put[0].body).count, first.put[0].next), (2, NOW + 30_000));
        let later =
            |open| Desk { news: vec![row(4, 0, news(Topic::Item, "c", true))], open, ..Desk::default() };
        let second = sorted(later(first.put.clone()), None, true);
        assert_eq!((second.put[0].id.as_str(), bundle(&second.put[0].body).count), ("id1", 3));
        let mut due = first.put;
        due[0].next = NOW;
        assert_eq!(bundle(&sorted(later(due), None, true).put[0].body).count, 1, "what is due is left alone");
    }

    #[test]
    fn under_a_silence_a_beginning_is_held_its_end_takes_it_away_and_the_end_of_a_told_one_is_told() {
        let silences = vec![over_db(NOW + 9)];
        let one = |open| vec![row(1, 0, news(Topic::Item, "a", open))];
        let held =
            sorted(Desk { news: one(true), silences: silences.clone(), ..Desk::default() }, None, true);
        assert_eq!((held.held.as_slice(), held.gone.len(), held.put.len()), (&[(1, NOW + 9)][..], 0, 0));
        let both =
            vec![row(1, NOW + 9, news(Topic::Item, "a", true)), row(2, 0, news(Topic::Item, "a", false))];
        let over = sorted(Desk { news: both, silences: silences.clone(), ..Desk::default() }, None, true);
        assert_eq!((over.gone.as_slice(), over.put.len()), (&[1, 2][..], 0));
        let told =
            sorted(Desk { news: one(false), silences: silences.clone(), ..Desk::default() }, None, true);
        assert_eq!(told.put.len(), 1);
        let repair = vec![row(1, 0, news(Topic::Repair, "a", false))];
        let quiet = sorted(Desk { news: repair, silences, ..Desk::default() }, None, true);
        assert_eq!((quiet.gone.as_slice(), quiet.put.len()), (&[1][..], 0));
        let ended =
            sorted(Desk { news: one(true), silences: vec![over_db(NOW)], ..Desk::default() }, None, true);
        assert_eq!(ended.put.len(), 1, "a silence that has ended is none");
    }

    #[test]
    fn what_begins_and_ends_in_one_round_under_a_silence_is_told_to_nobody() {
        let both = vec![row(1, 0, news(Topic::Item, "a", true)), row(2, 0, news(Topic::Item, "a", false))];
        let done =
            sorted(Desk { news: both, silences: vec![over_db(NOW + 9)], ..Desk::default() }, None, true);
        assert_eq!((done.gone.as_slice(), done.held.len(), done.put.len()), (&[1, 2][..], 0, 0));
    }

    #[test]
    fn what_the_hub_finds_is_told_once_and_its_end_only_where_it_is_sure() {
        let silent = news(Topic::Node, "a", true);
        let found = sorted(Desk::default(), Some(std::slice::from_ref(&silent)), true);
        assert_eq!((found.put.len(), found.found.len()), (1, 1));
        let standing: std::collections::BTreeMap<_, _> =
            [(silent.subject(), Standing { news: silent.clone() })].into();
        let desk = || Desk { standing: standing.clone(), ..Desk::default() };
        assert!(sorted(desk(), Some(std::slice::from_ref(&silent)), true).is_empty());
        assert!(sorted(desk(), Some(&[]), false).is_empty(), "a hub that just started is not sure");
        assert!(sorted(desk(), None, true).is_empty(), "one that has not looked even less");
        let back = sorted(desk(), Some(&[]), true);
        assert_eq!((back.over.len(), bundle(&back.put[0].body).open), (1, false));
        let hushed = Desk { silences: vec![over_db(NOW + 9)], ..Desk::default() };
        assert!(sorted(hushed, Some(&[silent]), true).is_empty(), "it is found once the silence ends");
    }

    #[test]
    fn a_sink_that_wants_no_more_than_it_says_is_told_no_more() {
        let of = |more: &str, news: &News| sink(more).wants(news);
        let item = news(Topic::Item, "a", true);
        assert!(of("", &item) && of(", tiers: [db]", &item) && of(", severity: critical", &item));
        assert!(!of(", tiers: [mw]", &item) && !of(", tell: [node]", &item));
        let info = News { severity: Severity::Info, ..item };
        assert!(!of("", &info) && of(", severity: info", &info));
    }
}
