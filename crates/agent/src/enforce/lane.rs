//! A lane: one section of the spec, at most one pass over it at a time.
//!
//! A lane decides when its next pass is due and why; it runs nothing itself. A pass that hangs makes its own lane late
//! and no other.

use evenkeel_core::{Goal, Interest, Outcome, Phase, Status};
use evenkeel_report::{Timestamp, Trigger, Writer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// One section and its passes.
pub(crate) struct Lane {
    /// What it keeps.
    pub(crate) goal: Arc<dyn Goal>,
    /// Counts up with every spec.
    pub(crate) generation: u64,
    /// The pass that is running.
    pub(crate) running: Option<Running>,
    /// Why another pass should follow at once.
    due: Option<Trigger>,
    /// Who wrote since the last pass began.
    writers: BTreeMap<Interest, Writer>,
    /// When it is looked at although nothing woke it.
    next: Instant,
    /// The spec whose first pass has ended, or was given up on.
    pub(crate) looked_at: Option<u64>,
}

/// A pass under way.
pub(crate) struct Running {
    /// The spec it is for.
    pub(crate) generation: u64,
    /// Why it was made.
    pub(crate) trigger: Trigger,
    /// When it began.
    pub(crate) began: Instant,
    /// The same, for people.
    pub(crate) began_at: Timestamp,
    /// Who wrote before it began.
    pub(crate) writers: BTreeMap<Interest, Writer>,
    /// Whether it was already told that it does not come back.
    pub(crate) given_up: bool,
}

impl Lane {
    /// A lane that wants its first pass.
    pub(crate) fn new(goal: Arc<dyn Goal>, generation: u64, why: Trigger, now: Instant) -> Self {
        let writers = BTreeMap::new();
        Self { goal, generation, running: None, due: Some(why), writers, next: now, looked_at: None }
    }

    /// A newer spec takes the place of the old one; the pass under way, if any, is followed by one for the new.
    pub(crate) fn respec(&mut self, goal: Arc<dyn Goal>, generation: u64) {
        self.goal = goal;
        self.generation = generation;
        self.wake(Trigger::Commit);
    }

    /// Another pass is wanted.
    pub(crate) fn wake(&mut self, why: Trigger) {
        self.due = Some(self.due.map_or(why, |due| weightier(due, why)));
    }

    /// Something of ours was seen to change.
    pub(crate) fn stir(&mut self, interest: Interest, writer: Option<Writer>) {
        if let Some(writer) = writer {
            self.writers.insert(interest, writer);
        }
        self.wake(Trigger::Drift);
    }

    /// Why a pass should begin now; `None` while one runs or none is wanted.
    pub(crate) fn ready(&mut self, now: Instant) -> Option<Trigger> {
        if self.running.is_some() {
            return None;
        }
        self.due.take().or_else(|| (now >= self.next).then_some(Trigger::Interval))
    }

    /// A pass begins. The next comes after `interval`, or sooner where the section wants to be looked at more often.
    pub(crate) fn begin(&mut self, trigger: Trigger, now: Instant, wall: Timestamp, interval: Duration) {
        self.next = now + self.goal.pace().map_or(interval, |pace| pace.min(interval));
        self.running = Some(Running {
            generation: self.generation,
            trigger,
            began: now,
            began_at: wall,
            writers: std::mem::take(&mut self.writers),
            given_up: false,
        });
    }

    /// The next moment at which this lane wants a look by itself.
    pub(crate) fn alarm(&self, patience: Duration) -> Option<Instant> {
        match &self.running {
            Some(run) if run.given_up => None,
            Some(run) => Some(run.began + patience),
            None => Some(self.next),
        }
    }

    /// Whether the pass under way has run for longer than anybody waits.
    pub(crate) fn overdue(&self, now: Instant, patience: Duration) -> bool {
        self.running.as_ref().is_some_and(|run| !run.given_up && now >= run.began + patience)
    }

    /// What is told of a section whose pass does not come back, or fell over.
    pub(crate) fn lost(&self, why: &str) -> Vec<Outcome> {
        let one = |(name, item): (&String, &evenkeel_core::GoalItem)| Outcome {
            id: format!("{}/{name}", self.goal.kind()),
            status: Status::Error,
            phase: Some(Phase::Observe),
            reason: Some(why.to_owned()),
            drift: vec![],
            repaired: vec![],
            declared_at: Some(item.origin.to_string()),
            facts: std::collections::BTreeMap::new(),
            progress: None,
        };
        self.goal.items().iter().map(one).collect()
    }
}

/// Of two reasons for one pass, the one to tell.
pub(super) fn weightier(a: Trigger, b: Trigger) -> Trigger {
    let weight = |why| match why {
        Trigger::Interval => 0,
        Trigger::Asked => 1,
        Trigger::Drift => 2,
        Trigger::Start => 3,
        Trigger::Commit => 4,
    };
    if weight(b) > weight(a) { b } else { a }
}
