//! The enforcing loop: it decides when each lane makes a pass, merges what comes back, and says what is to be told.
//!
//! It waits for no one: not for the source, not for the hub, not for a lane that hangs. It touches nothing itself;
//! passes are made by whatever implements [`Passes`], so that a paused clock and made-up lanes can drive it.

pub(crate) mod host;
mod lane;
pub(crate) mod ledger;
pub(crate) mod standing;
mod telling;
#[cfg(test)]
mod tests;
pub(crate) mod wake;

use crate::config::Config;
use crate::pulled::{Adopted, Pulled};
use evenkeel_core::{Goal, Interest, Mode, Outcome};
use evenkeel_report::{Item, Node, Pass, Report, Scope, SpecState, Timestamp, Trigger};
use lane::Lane;
use ledger::{Found, Ledger, OpenItems};
use standing::Standing;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

pub(crate) use telling::agent;

/// How long a full report waits for sections whose first pass has not ended.
const FULL_GRACE: Duration = Duration::from_secs(10);
/// How long a pass may take before its items are told as not answering.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a pass gives: what it found, or why it fell over.
pub(crate) type Verdict = Result<Vec<Outcome>, String>;

/// Makes a pass over one section.
pub(crate) trait Passes {
    /// Begin it. The future may take for ever; nobody waits for it but its own lane.
    fn pass(&self, goal: Arc<dyn Goal>) -> Pin<Box<dyn Future<Output = Verdict> + Send>>;
    /// A spec is in force that has this node in this tier.
    fn on_tier(&self, _tier: &str) {}
}

/// Watches the node for changes of others.
pub(crate) trait Watching {
    /// Watch these and nothing else.
    fn set(&self, interests: Vec<Interest>);
    /// What is only looked at now and then, and why.
    fn degraded(&self) -> Vec<String>;
}

/// What the loop is joined to.
pub(crate) struct Joints {
    /// The configuration in force.
    pub(crate) config: watch::Receiver<Arc<Config>>,
    /// How pulling stands.
    pub(crate) pulled: watch::Receiver<Pulled>,
    /// What was seen to change.
    pub(crate) wakes: Arc<wake::Wakes>,
    /// Questions.
    pub(crate) asks: mpsc::Receiver<Ask>,
    /// Reports to be sent.
    pub(crate) reports: mpsc::Sender<Report>,
    /// How everything stands, for whoever wants to know.
    pub(crate) standing: watch::Sender<Standing>,
    /// What is off, to be remembered over a restart.
    pub(crate) open: watch::Sender<OpenItems>,
}

/// What the loop may be asked.
pub(crate) enum Ask {
    /// Every item as it stands.
    Items(oneshot::Sender<Vec<Item>>),
    /// Tell everything again.
    Full,
    /// Make a pass over every section now.
    Pass,
}

/// The loop.
pub(crate) struct Enforcer<P, W> {
    passes: P,
    watching: W,
    joints: Joints,
    wall: fn() -> Timestamp,
    pulse: Box<dyn FnMut() -> Duration + Send>,
    boot_id: String,
    ledger: Ledger,
    lanes: Vec<Lane>,
    routes: BTreeMap<Interest, Vec<usize>>,
    spec: Option<Arc<Adopted>>,
    generation: u64,
    done: (mpsc::UnboundedSender<Done>, mpsc::UnboundedReceiver<Done>),
    /// Since when a full report is due.
    full_due: Option<Instant>,
    /// What a report would say of the spec, as last told.
    told_spec: Option<SpecKey>,
    /// The passes since the last report, as one.
    pass: Option<Pass>,
    last_pass: Option<Instant>,
    /// The report channel was full.
    choked: bool,
    stale: bool,
}

struct Done {
    lane: usize,
    verdict: Verdict,
}

/// What of the spec's state is worth a report of its own when it changes.
#[derive(PartialEq, Eq)]
struct SpecKey(Option<String>, Option<String>, Vec<String>);

impl<P: Passes, W: Watching> Enforcer<P, W> {
    /// A loop that remembers what was off before the restart. `pulse` is called every time round, and
    /// tells how soon it must be again.
    pub(crate) fn new(
        passes: P,
        watching: W,
        joints: Joints,
        remembered: OpenItems,
        wall: fn() -> Timestamp,
        pulse: Box<dyn FnMut() -> Duration + Send>,
    ) -> Self {
        Self {
            passes,
            watching,
            joints,
            wall,
            pulse,
            boot_id: evenkeel_host::identity::boot_id(),
            ledger: Ledger::new(remembered),
            lanes: vec![],
            routes: BTreeMap::new(),
            spec: None,
            generation: 0,
            done: mpsc::unbounded_channel(),
            full_due: None,
            told_spec: None,
            pass: None,
            last_pass: None,
            choked: false,
            stale: true,
        }
    }

    /// Turn until the task is dropped, or every joint is gone.
    pub(crate) async fn run(mut self) {
        loop {
            self.turn();
            let soon = (self.pulse)();
            let alarm = self.alarm(soon);
            tokio::select! {
                biased;
                () = self.joints.wakes.ring() => {}
                Some(done) = self.done.1.recv() => self.finish(done),
                changed = self.joints.pulled.changed() => {
                    if changed.is_err() { return }
                    self.stale = true;
                }
                Some(ask) = self.joints.asks.recv() => self.answer(ask),
                Ok(()) = room(&self.joints.reports), if self.choked => self.choked = false,
                changed = self.joints.config.changed() => if changed.is_err() { return },
                () = sleep_until(alarm) => {}
            }
        }
    }

    /// Take in what came, begin what is due, tell what is new.
    fn turn(&mut self) {
        let now = Instant::now();
        self.look_at_pulled(now);
        self.stir();
        self.give_up_on_the_late(now);
        self.begin_due(now);
        self.tell(now);
        self.show(now);
    }

    fn look_at_pulled(&mut self, now: Instant) {
        // Ages and troubles change without a new spec.
        self.stale |= self.joints.pulled.has_changed().unwrap_or(false);
        let spec = self.joints.pulled.borrow_and_update().spec.clone();
        let Some(spec) = spec else { return };
        if self.spec.as_ref().is_some_and(|old| Arc::ptr_eq(old, &spec)) {
            return;
        }
        let commit = crate::log::plain(&spec.commit);
        tracing::info!(
            commit,
            remembered = spec.remembered,
            "the spec at {} is in force",
            standing::short(&commit)
        );
        self.adopt(&spec, now);
    }

    fn adopt(&mut self, spec: &Arc<Adopted>, now: Instant) {
        self.generation += 1;
        self.passes.on_tier(&spec.identity.tier);
        let old = self.spec.replace(spec.clone());
        match &old {
            Some(old) => self.ledger.respec(Some(&old.goals), &spec.goals),
            // What the agent kept before its restart moved nothing.
            None if spec.remembered => self.ledger.respec(Some(&spec.goals), &spec.goals),
            None => self.ledger.respec(None, &spec.goals),
        }
        let why = if old.is_none() && spec.remembered { Trigger::Start } else { Trigger::Commit };
        for goal in &spec.goals {
            match self.lanes.iter_mut().find(|lane| lane.goal.kind() == goal.kind()) {
                Some(lane) => lane.respec(goal.clone(), self.generation),
                None => self.lanes.push(Lane::new(goal.clone(), self.generation, why, now)),
            }
        }
        self.route();
        self.full_due = Some(now);
        self.stale = true;
    }

    fn route(&mut self) {
        self.routes.clear();
        for (index, lane) in self.lanes.iter().enumerate() {
            for interest in lane.goal.interests() {
                self.routes.entry(interest).or_default().push(index);
            }
        }
        self.watching.set(self.routes.keys().cloned().collect());
        for why in self.watching.degraded() {
            tracing::warn!("limited: {}", crate::log::plain(&why));
        }
    }

    fn stir(&mut self) {
        for (interest, writer) in self.joints.wakes.take() {
            for &lane in self.routes.get(&interest).map_or(&[][..], Vec::as_slice) {
                if let Some(lane) = self.lanes.get_mut(lane) {
                    lane.stir(interest.clone(), writer.clone());
                }
            }
        }
    }

    fn begin_due(&mut self, now: Instant) {
        let interval = self.joints.config.borrow().pass_interval;
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            let Some(trigger) = lane.ready(now) else { continue };
            let kind = lane.goal.kind();
            tracing::debug!(kind, ?trigger, "a pass over {kind} begins: {trigger:?}");
            lane.begin(trigger, now, (self.wall)(), interval);
            let pass = tokio::spawn(self.passes.pass(lane.goal.clone()));
            let done = self.done.0.clone();
            tokio::spawn(async move {
                let verdict = pass.await.unwrap_or_else(|error| Err(fell_over(error)));
                let _ = done.send(Done { lane: index, verdict });
            });
        }
    }

    fn give_up_on_the_late(&mut self, now: Instant) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.overdue(now, PATIENCE)) {
            let kind = lane.goal.kind();
            tracing::warn!(kind, "the pass over {kind} does not come back; other sections go on");
            let outcomes = lane.lost("the pass over this section does not come back; it is waited for");
            let Some(run) = lane.running.as_mut() else { continue };
            run.given_up = true;
            let (began, writers) = (run.began_at, &run.writers);
            self.ledger.merge(Found { kind, outcomes, began, writers });
            lane.looked_at = Some(lane.generation);
            self.stale = true;
        }
    }

    fn finish(&mut self, done: Done) {
        let now = Instant::now();
        let Some(lane) = self.lanes.get_mut(done.lane) else { return };
        let Some(run) = lane.running.take() else { return };
        let kind = lane.goal.kind();
        self.last_pass = Some(now);
        self.stale = true;
        if run.generation != lane.generation {
            // A newer spec is in force; its own pass begins with this turn.
            return;
        }
        let outcomes = done.verdict.unwrap_or_else(|why| {
            tracing::error!(kind, "the pass over {kind} fell over: {}", crate::log::plain(&why));
            lane.lost(&why)
        });
        let took = now - run.began;
        log_news(&self.ledger, &outcomes, &run, took);
        self.ledger.merge(Found { kind, outcomes, began: run.began_at, writers: &run.writers });
        self.ledger.settle_remembered(kind);
        lane.looked_at = Some(run.generation);
        self.note_pass(run.trigger, took);
        let open = self.ledger.open();
        self.joints.open.send_if_modified(|known| {
            // Attempts alone are not worth a write to disk every minute.
            let same = known.len() == open.len()
                && known.iter().zip(&open).all(|((a, was), (b, is))| a == b && was.since == is.since);
            *known = open;
            !same
        });
    }

    /// The passes between two reports are told as one: the weightiest reason, the longest time.
    fn note_pass(&mut self, trigger: Trigger, took: Duration) {
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mode = self.mode();
        let pass = self.pass.get_or_insert_with(|| new_pass(trigger, mode));
        pass.duration_ms = pass.duration_ms.max(duration_ms);
        pass.trigger = lane::weightier(pass.trigger, trigger);
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Items(to) => {
                let _ = to.send(self.ledger.items().cloned().collect());
            }
            Ask::Full => self.full_due = Some(Instant::now()),
            Ask::Pass => self.lanes.iter_mut().for_each(|lane| lane.wake(Trigger::Asked)),
        }
    }

    /// Whether every section of the spec in force was looked at.
    fn settled(&self) -> bool {
        self.lanes.iter().all(|lane| lane.looked_at == Some(lane.generation))
    }

    fn tell(&mut self, now: Instant) {
        while let Some(scope) = self.wants_to_tell(now) {
            let Ok(permit) = self.joints.reports.clone().try_reserve_owned() else {
                self.choked = !self.joints.reports.is_closed();
                return;
            };
            let (node, spec) = (self.node(), self.spec_state(now));
            self.told_spec = Some(self.spec_key());
            let mode = self.mode();
            let pass = self.pass.take().unwrap_or_else(|| new_pass(Trigger::Asked, mode));
            if scope == Scope::Full {
                self.full_due = None;
            }
            let header = telling::Header { node, spec, pass, scope };
            permit.send(telling::report(&mut self.ledger, header));
            self.stale = true;
        }
    }

    fn wants_to_tell(&self, now: Instant) -> Option<Scope> {
        let spec_news = self.told_spec.as_ref() != Some(&self.spec_key());
        if let Some(since) = self.full_due {
            return (self.settled() || now >= since + FULL_GRACE).then_some(Scope::Full);
        }
        if self.told_spec.is_none() {
            // Nothing was ever told, and there is no spec: only its refusal is worth telling.
            let refused = !self.joints.pulled.borrow().refused.is_empty();
            return refused.then_some(Scope::Full);
        }
        (self.ledger.has_news() || spec_news).then_some(Scope::Changes)
    }

    fn spec_key(&self) -> SpecKey {
        let pulled = self.joints.pulled.borrow();
        let observed = self.spec.as_ref().map(|spec| spec.commit.clone());
        SpecKey(pulled.target.clone(), observed, pulled.refused.clone())
    }

    fn spec_state(&self, now: Instant) -> SpecState {
        self.joints.pulled.borrow().state(self.settled(), now)
    }

    fn node(&self) -> Node {
        let identity = self.spec.as_ref().map(|spec| spec.identity.clone()).unwrap_or_default();
        let name = self.joints.config.borrow().node.clone();
        Node { name, tier: identity.tier, labels: identity.labels, boot_id: self.boot_id.clone() }
    }

    fn mode(&self) -> Mode {
        self.spec.as_ref().map_or(Mode::Enforce, |spec| spec.mode)
    }

    /// Show how things stand, where something changed.
    fn show(&mut self, now: Instant) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let (spec, _) = telling::cut_errors(self.spec_state(now));
        let standing =
            Standing::new(self.node(), spec, &self.ledger, self.settled(), self.watching.degraded());
        let standing = Standing { last_pass: self.last_pass, reached: self.reached(), ..standing };
        self.joints.standing.send_replace(standing);
    }

    fn reached(&self) -> Option<Instant> {
        self.joints.pulled.borrow().reached
    }

    fn alarm(&self, soon: Duration) -> Instant {
        let latest = Instant::now() + soon;
        let lanes = self.lanes.iter().filter_map(|lane| lane.alarm(PATIENCE));
        let full = self.full_due.map(|since| since + FULL_GRACE).filter(|_| !self.choked);
        lanes.chain(full).chain([latest]).min().unwrap_or(latest)
    }
}

/// Wait until a report could be sent.
async fn room(reports: &mpsc::Sender<Report>) -> Result<(), mpsc::error::SendError<()>> {
    reports.reserve().await.map(drop)
}

fn new_pass(trigger: Trigger, mode: Mode) -> Pass {
    Pass { id: uuid::Uuid::now_v7().to_string(), trigger, mode, duration_ms: 0 }
}

/// A panic in a pass is that pass's trouble.
fn fell_over(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "the pass was cancelled".to_owned() };
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    format!("the pass fell over, which is an error in evenkeel: {text}")
}

/// One line for every item that was put right, that cannot be, and that is even again without a repair. What is as the
/// last pass found it is not said again.
fn log_news(before: &Ledger, outcomes: &[Outcome], run: &lane::Running, took: Duration) {
    use evenkeel_report::Status;
    let (trigger, took_us) = (run.trigger, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    for outcome in outcomes {
        let item = crate::log::plain(&outcome.id);
        let reason = crate::log::plain(outcome.reason.as_deref().unwrap_or_default());
        if !outcome.repaired.is_empty() {
            tracing::info!(
                item,
                ?trigger,
                took_us,
                "repaired a part of {item} ({trigger:?}); left: {reason}"
            );
        }
        match outcome.status {
            Status::Repaired => tracing::info!(item, ?trigger, took_us, "repaired {item} ({trigger:?})"),
            Status::Error if before.stands(outcome) => {}
            Status::Error => tracing::warn!(item, ?trigger, "{item} is in error: {reason}"),
            Status::Compliant if before.in_error(&outcome.id) => {
                tracing::info!(item, ?trigger, "{item} is even again");
            }
            Status::Pending | Status::NonCompliant => {
                tracing::debug!(item, ?trigger, "{item} is {}: {reason}", outcome.status);
            }
            _ => {}
        }
    }
}
