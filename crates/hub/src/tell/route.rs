//! Who hears of what, and together with what. No SQL, no clock, no network: `now` and what lies on the desk are handed
//! in.

use super::silence::covers;
use super::sinks::Sink;
use crate::store::telling::{Desk, Message, News, Severity, Silence, Sorted, Standing, State, Topic};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// How many nodes a message names; it counts all.
const NAMED: usize = 100;

/// News of one kind, as one message tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Whether something that the hub told of is over, where it is not found any more.
pub type Over<'a> = &'a dyn Fn(&News) -> bool;

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
        if !by_subject.contains_key(subject) && over(news) {
            post.add(&News { open: false, at: now, ..news.clone() });
            sorted.over.push(subject.clone());
        }
    }
}
