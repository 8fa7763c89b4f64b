//! The swarm: agents in groups, each group with a connection, at the pace of real agents.
//!
//! A group is a queue of who is due next. It waits for nobody but its own hub connection, as an agent does.

use crate::agent::{Agent, Waiting};
use crate::fleet::Fleet;
use crate::identity::{Folder, IdentityError};
use crate::link::{Link, Target};
use crate::mouth::Mouth;
use crate::tally::Tally;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The first pause after a failure, at most; it doubles up to the interval.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How many groups ask to be let in at once.
const ENROL_AT_ONCE: usize = 64;

/// What all groups share.
pub struct Swarm {
    /// Who they are.
    pub fleet: Fleet,
    /// Where the hub is.
    pub target: Target,
    /// Where certificates lie; nothing over plain HTTP.
    pub identities: Option<Folder>,
    /// How many agents there are.
    pub agents: u32,
    /// Over how many connections they speak.
    pub connections: usize,
    /// How many reports a batch has.
    pub batch: usize,
    /// How often each agent speaks.
    pub interval: Duration,
    /// The chance that a pass finds something off.
    pub drift: f64,
    /// What is counted.
    pub tally: Tally,
}

/// The agents of one connection.
pub type Group = Vec<Agent>;

/// Now (unix ms).
#[must_use]
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Swarm {
    /// The agents, dealt out to the connections.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut groups = vec![vec![]; self.connections.clamp(1, self.agents.max(1) as usize)];
        let count = groups.len();
        for index in 0..self.agents {
            if let Some(group) = groups.get_mut(index as usize % count) {
                group.push(Agent::new(index));
            }
        }
        groups
    }

    /// Has every agent known to the hub; how many had to be let in.
    ///
    /// # Errors
    /// When one is not.
    pub async fn enrol(self: &Arc<Self>, token: Option<&str>) -> Result<u32, IdentityError> {
        if !self.target.secure() || self.identities.is_none() {
            return Ok(0);
        }
        let mut tasks: JoinSet<Result<u32, IdentityError>> = JoinSet::new();
        let at_once = u32::try_from(ENROL_AT_ONCE).unwrap_or(1);
        for first in 0..at_once.min(self.agents) {
            let (swarm, token) = (Arc::clone(self), token.map(str::to_owned));
            tasks.spawn(async move {
                let (mut link, mut new) = (Link::new(swarm.target.clone()), 0);
                let Some(folder) = &swarm.identities else { return Ok(0) };
                for index in (first..swarm.agents).step_by(ENROL_AT_ONCE) {
                    let name = swarm.fleet.name(index);
                    new += u32::from(folder.enrol(&mut link, index, &name, token.as_deref()).await?);
                }
                Ok(new)
            });
        }
        let mut new = 0;
        while let Some(done) = tasks.join_next().await {
            new += done.unwrap_or(Ok(0))?;
        }
        Ok(new)
    }

    /// Runs every group at its pace for `time`.
    pub async fn run(self: &Arc<Self>, groups: Vec<Group>, time: Duration) -> Vec<Group> {
        let until = Instant::now() + time;
        self.each(groups, move |swarm, group| async move { pace(swarm, group, until).await }).await
    }

    /// Ends every outage, makes no more reports, and sends what waits, for `within` at most; how many agents have
    /// something left.
    pub async fn settle(self: &Arc<Self>, groups: Vec<Group>, within: Duration) -> (Vec<Group>, usize) {
        let until = Instant::now() + within;
        let groups =
            self.each(groups, move |swarm, group| async move { settle(swarm, group, until).await }).await;
        let left = groups.iter().flatten().filter(|agent| agent.made() > agent.acked || agent.failures > 0);
        let left = left.count();
        (groups, left)
    }

    /// One task for each group.
    pub(crate) async fn each<F, R>(self: &Arc<Self>, groups: Vec<Group>, work: F) -> Vec<Group>
    where
        F: Fn(Arc<Self>, Group) -> R,
        R: Future<Output = Group> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for group in groups {
            tasks.spawn(work(Arc::clone(self), group));
        }
        tasks.join_all().await
    }
}

/// Who is due when, the first on top.
type Due = BinaryHeap<Reverse<(Instant, usize)>>;

async fn pace(swarm: Arc<Swarm>, mut group: Group, until: Instant) -> Group {
    let mut mouth = Mouth::new(Arc::clone(&swarm));
    let began = Instant::now();
    // Splay: nobody begins together.
    let mut due: Due =
        (0..group.len()).map(|at| Reverse((began + swarm.interval.mul_f64(fastrand::f64()), at))).collect();
    while let Some(Reverse((when, at))) = due.pop() {
        if when >= until {
            break;
        }
        tokio::time::sleep_until(when.into()).await;
        let Some(agent) = group.get_mut(at) else { continue };
        let next = match visit(&mut mouth, agent).await {
            Ok(()) => when + swarm.interval,
            Err(pause) => Instant::now() + pause,
        };
        due.push(Reverse((next.max(Instant::now()), at)));
    }
    group
}

/// A pass, where one is due. What it finds is a report, whether the hub is there or not.
fn pass(swarm: &Swarm, agent: &mut Agent, now: i64) {
    if agent.next_pass > now {
        return;
    }
    agent.next_pass = now.saturating_add(i64::try_from(swarm.interval.as_millis()).unwrap_or(i64::MAX));
    if agent.made() == 0 {
        agent.spool(Waiting { at: now, full: true });
    } else if fastrand::f64() < swarm.drift {
        agent.spool(Waiting { at: now, full: false });
    }
}

/// One agent's turn: a pass, and then what it has to say.
async fn visit(mouth: &mut Mouth, agent: &mut Agent) -> Result<(), Duration> {
    let swarm = Arc::clone(&mouth.swarm);
    let now = now_ms();
    pass(&swarm, agent, now);
    if agent.silent_until > now {
        return Ok(());
    }
    let faults = swarm.fleet.faults;
    if agent.failures == 0 && agent.acked > 0 && fastrand::f64() < faults.outages {
        Tally::one(&swarm.tally.outages);
        let time = swarm.interval.saturating_mul(faults.outage_intervals.max(1));
        agent.silent_until = now.saturating_add(i64::try_from(time.as_millis()).unwrap_or(i64::MAX));
        return Ok(());
    }
    if swarm.fleet.lies(agent.index) {
        mouth.lie(agent, now).await;
    }
    speak(mouth, agent).await
}

/// A heartbeat, then what waits; or how long to wait after a failure.
async fn speak(mouth: &mut Mouth, agent: &mut Agent) -> Result<(), Duration> {
    let longest = mouth.swarm.interval.max(FIRST_PAUSE);
    let said = match mouth.beat(agent, now_ms()).await {
        Ok(()) => mouth.unload(agent).await,
        no => no,
    };
    let Err(asked) = said else {
        agent.failures = 0;
        return Ok(());
    };
    agent.failures = agent.failures.saturating_add(1);
    let most = FIRST_PAUSE.saturating_mul(1 << (agent.failures - 1).min(6)).min(longest);
    Err(asked.unwrap_or_default().min(longest) + most.mul_f64(fastrand::f64()))
}

async fn settle(swarm: Arc<Swarm>, mut group: Group, until: Instant) -> Group {
    let mut mouth = Mouth::new(swarm);
    let now = Instant::now();
    let mut due: Due = (0..group.len()).map(|at| Reverse((now, at))).collect();
    while let Some(Reverse((when, at))) = due.pop() {
        if when >= until {
            // Who is left has not said his last word.
            for Reverse((_, at)) in due.iter().chain([&Reverse((when, at))]) {
                if let Some(agent) = group.get_mut(*at) {
                    agent.failures = agent.failures.max(1);
                }
            }
            break;
        }
        tokio::time::sleep_until(when.into()).await;
        let Some(agent) = group.get_mut(at) else { continue };
        agent.silent_until = 0;
        if agent.made() == 0 {
            continue;
        }
        match last_words(&mut mouth, agent).await {
            Ok(()) => {}
            Err(pause) => due.push(Reverse((Instant::now() + pause, at))),
        }
    }
    group
}

/// Everything that waits, and one heartbeat behind it; once more where that one is answered with a wish.
async fn last_words(mouth: &mut Mouth, agent: &mut Agent) -> Result<(), Duration> {
    for _ in 0..3 {
        speak(mouth, agent).await?;
        if mouth.beat(agent, now_ms()).await.is_ok() && agent.made() == agent.acked {
            return Ok(());
        }
    }
    agent.failures = agent.failures.max(1);
    Err(FIRST_PAUSE)
}
