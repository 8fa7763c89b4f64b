//! Playing one event: break, look, and compare with what the hub has heard. The node is believed first, the hub
//! second; both must agree before anything is called repaired.

use crate::drifts::{Drift, Event, Scene};
use crate::hub::{Entry, Hub, NodeRow};
use crate::looks::{NOTHING, millis};
use crate::node::Node;
use crate::trouble::{Result, Trouble};
use crate::view::{Tone, View, short, took};
use crate::words::{Look, Timing};
use evenkeel_report::{Layer, Sync};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a repair may take: the agents look at everything every [`crate::stage::PASS_SECONDS`] s anyway.
const REPAIR: Duration = Duration::from_secs(25);
/// How long the story may take to the hub.
const TELLING: Duration = Duration::from_secs(15);

/// How an event went.
pub(crate) struct Outcome {
    /// The drift's name.
    pub(crate) name: &'static str,
    /// Its layer.
    pub(crate) layer: &'static str,
    /// Where.
    pub(crate) node: String,
    /// What was seen while it was broken.
    pub(crate) observed: String,
    /// How long until it was right again, as the node shows it.
    pub(crate) repaired: String,
    /// What the hub has of it.
    pub(crate) hub: String,
    /// What is wrong with that.
    pub(crate) failure: Option<String>,
}

impl Outcome {
    fn of(drift: &Drift, node: &str) -> Self {
        Self {
            name: drift.name,
            layer: drift.layer,
            node: node.to_owned(),
            observed: String::new(),
            repaired: String::new(),
            hub: String::new(),
            failure: None,
        }
    }
}

/// Play `drift`; none where this machine cannot have it.
pub(crate) fn play(drift: &Drift, scene: &Scene, hub: &Hub, view: &mut View) -> Option<Outcome> {
    let event = match scene.repository.tree() {
        Ok(tree) => (drift.make)(scene, &tree)?,
        Err(trouble) => return Some(failed(Outcome::of(drift, ""), &trouble)),
    };
    let mut outcome = Outcome::of(drift, if let Event::Break { node, .. } = &event { node } else { "all" });
    let stage = Stage { scene, hub };
    let played = match event {
        Event::Break { .. } => stage.break_it(event, &mut outcome, view),
        Event::Commit { .. } => stage.commit(event, &mut outcome, view),
        Event::BadCommit { .. } => stage.bad_commit(event, &mut outcome, view),
    };
    match played {
        Ok(said) => {
            let text = format!("{said} {} · hub: {}", outcome.repaired, outcome.hub);
            tell(view, Tone::Good, &outcome, &text);
            Some(outcome)
        }
        Err(trouble) => {
            tell(view, Tone::Bad, &outcome, &trouble.line());
            Some(failed(outcome, &trouble))
        }
    }
}

fn failed(outcome: Outcome, trouble: &Trouble) -> Outcome {
    Outcome { failure: Some(trouble.line()), ..outcome }
}

fn tell(view: &mut View, tone: Tone, outcome: &Outcome, text: &str) {
    view.say(tone, &format!("{:6}{:7} {text}", outcome.node, outcome.layer));
}

struct Stage<'a> {
    scene: &'a Scene<'a>,
    hub: &'a Hub,
}

impl Stage<'_> {
    fn node(&self, name: &str) -> Result<&Node> {
        let found = self.scene.nodes.iter().find(|node| node.name == name);
        found.ok_or_else(|| Trouble::told(format!("there is no node {name}")))
    }

    fn break_it(&self, event: Event, outcome: &mut Outcome, view: &mut View) -> Result<&'static str> {
        let Event::Break { node, story, argv, user, look, want, item, about } = event else { return Ok("") };
        tell(view, Tone::Break, outcome, &story);
        let at = self.node(&node)?;
        let before = at.look(&look)?;
        let fit = want.as_ref().map_or(before != NOTHING, |want| before == *want);
        if !fit {
            let want = want.unwrap_or_else(|| "something".to_owned());
            return Err(Trouble::told(format!("not even before the break: {want} expected, {before} seen")));
        }
        let from = now();
        let timing = at.break_it(&argv, user, &look, REPAIR)?;
        outcome.observed = observed(&timing);
        outcome.repaired = repaired(&timing)?;
        let entry = self.hub.await_repair(&node, &item, about.as_deref(), from, TELLING)?;
        let entry = entry.ok_or_else(|| {
            Trouble::told(format!(
                "right again in {}, but the hub never heard of a repair of {item}",
                outcome.repaired
            ))
        })?;
        outcome.hub = told(&entry, about.as_deref());
        Ok("right again in")
    }

    fn commit(&self, event: Event, outcome: &mut Outcome, view: &mut View) -> Result<&'static str> {
        let Event::Commit { story, message, file, nodes, look, want } = event else { return Ok("") };
        tell(view, Tone::Break, outcome, &story);
        outcome.observed = self.look_everywhere(&look)?.join(" ");
        self.scene.repository.write(&file.0, &file.1)?;
        let head = self.scene.repository.commit(&message)?;
        let start = Instant::now();
        let reached: Vec<_> =
            self.scene.nodes.iter().filter(|node| nodes.contains(&node.name.as_str())).collect();
        let waits: Vec<Result<(String, Option<f64>)>> = std::thread::scope(|scope| {
            let mut waits = Vec::new();
            for node in &reached {
                waits.push(scope.spawn(|| node.until(&look, &want, REPAIR)));
            }
            let joined = waits.into_iter().map(std::thread::ScopedJoinHandle::join);
            joined.map(|one| one.unwrap_or_else(|_| Err(Trouble::told("a look came to grief")))).collect()
        });
        let elapsed = millis(start.elapsed());
        for (node, wait) in reached.iter().zip(waits) {
            let (last, seen) = wait?;
            if seen.is_none() {
                return Err(Trouble::told(format!("{} still has {last}, not {want}", node.name)));
            }
        }
        outcome.repaired = took(elapsed);
        self.until(|row| row.spec.sync == Sync::Synced && row.spec.observed_commit.as_ref() == Some(&head))?;
        outcome.hub = format!("{} in force everywhere", &head[..head.len().min(7)]);
        Ok("in every kernel after")
    }

    fn bad_commit(&self, event: Event, outcome: &mut Outcome, view: &mut View) -> Result<&'static str> {
        let Event::BadCommit { story, message, file, place, look } = event else { return Ok("") };
        tell(view, Tone::Break, outcome, &story);
        let before = self.look_everywhere(&look)?;
        self.scene.repository.write(&file.0, &file.1)?;
        let bad = self.scene.repository.commit(&message)?;
        let refused =
            self.until(|row| row.spec.sync == Sync::Failed && row.spec.target_commit.as_ref() == Some(&bad));
        let after = self.look_everywhere(&look);
        // Taken back whatever was seen: the next drift wants a good repository.
        let good = self.scene.repository.revert()?;
        let start = Instant::now();
        let (rows, after) = (refused?, after?);
        if after != before {
            return Err(Trouble::told(format!("a bad commit changed the kernel: {before:?} to {after:?}")));
        }
        let errors = rows.iter().flat_map(|row| &row.spec.errors);
        let error = errors.clone().find(|error| error.contains(&place)).ok_or_else(|| {
            Trouble::told(format!("the refusal does not name {place}: {:?}", errors.collect::<Vec<_>>()))
        })?;
        outcome.observed = format!("refused: {}", short(error, 60));
        tell(view, Tone::Plain, outcome, &format!("{}; the last good one stays in force", outcome.observed));
        self.until(|row| row.spec.sync == Sync::Synced && row.spec.observed_commit.as_ref() == Some(&good))?;
        outcome.repaired = took(millis(start.elapsed()));
        outcome.hub = String::from("it was reverted, and the fleet follows");
        Ok("synced again after")
    }

    fn look_everywhere(&self, look: &Look) -> Result<Vec<String>> {
        self.scene.nodes.iter().map(|node| node.look(look)).collect()
    }

    /// Wait until the hub says of every node what `fits`.
    fn until(&self, fits: impl Fn(&NodeRow) -> bool) -> Result<Vec<NodeRow>> {
        let deadline = Instant::now() + REPAIR;
        loop {
            let rows = self.hub.nodes()?;
            let unfit: Vec<_> = rows.iter().filter(|row| !fits(row)).collect();
            if unfit.is_empty() && rows.len() >= self.scene.nodes.len() {
                return Ok(rows);
            }
            if Instant::now() > deadline {
                let told = unfit.iter().map(|row| {
                    let commit = row.spec.observed_commit.as_deref().unwrap_or("no commit");
                    format!("{} is {:?} with {commit} in force", row.name, row.spec.sync)
                });
                return Err(Trouble::told(told.collect::<Vec<_>>().join(", ")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What was different while it was broken.
fn observed(timing: &Timing) -> String {
    let Some(broken) = &timing.broken else { return "(too short to see)".to_owned() };
    short(broken.lines().find(|&line| !timing.before.lines().any(|old| old == line)).unwrap_or(broken), 48)
}

fn repaired(timing: &Timing) -> Result<String> {
    match (timing.ms, &timing.broken) {
        (Some(ms), Some(_)) => Ok(took(ms)),
        (Some(ms), None) => Ok(format!("< {}", took(ms))),
        (None, _) => Err(Trouble::told(format!(
            "not right again within {} s: {} before, {} now",
            REPAIR.as_secs(),
            short(&timing.before, 60),
            short(&timing.after, 60)
        ))),
    }
}

/// What the hub has: the layer and value that an agent saw, and who did it.
fn told(entry: &Entry, about: Option<&str>) -> String {
    let named = entry.drift.iter().find(|drift| about.is_some_and(|about| drift.attr == about));
    let seen = named.or(entry.drift.first()).map_or_else(String::new, |drift| {
        let observed = drift.observed.as_deref().unwrap_or("nothing");
        let layer =
            if let Layer::File(_) = drift.layer { "file".to_owned() } else { drift.layer.to_string() };
        format!(", {layer} had {}", short(observed, 24))
    });
    let writer = entry.writer.as_ref().map_or_else(String::new, |writer| {
        format!(", by {}[{}]", writer.comm.as_deref().unwrap_or("a process"), writer.pid)
    });
    let status = if entry.status == "repaired" { "repaired" } else { "repaired, pending for another reason" };
    format!("{status}{seen}{writer}")
}

/// The machine's clock, which the nodes share: milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    i64::try_from(since).unwrap_or(i64::MAX)
}
