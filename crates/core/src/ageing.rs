//! How long a network path lets a silent connection live: which silences to try, and what was found by them.
//!
//! Pure: a schedule, and a state that is fed with what became of each connection. It opens nothing and knows no clock;
//! the time that is spent is given.
//!
//! A path that forgets does so after one bound, so survival and death are monotonic. The first round spreads its silences
//! geometrically over the whole range, and each later one evenly over what is still between the longest that survived
//! and the shortest that died. A death is believed when it was seen twice, because packets get lost; a survival is
//! believed at once, because nothing answers by chance.

use serde::Serialize;
use std::time::Duration;

/// How long an answer is waited for until silence is an answer too: three probes, a second apart, end after 3 to 5 s.
pub const VERDICT: Duration = Duration::from_secs(7);
/// The shortest silence that can be the longest one tried.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// The longest silence that is tried: beyond it a peer's own keepalives (32767 s at most) would end it.
pub const LONGEST: Duration = Duration::from_hours(9);
/// The most connections that are aged at once.
pub const MOST: usize = 64;

/// What opening connections may take of the time, all in all.
const OPENING: Duration = Duration::from_secs(5);
/// No more rounds than this, whatever they find.
const ROUNDS: u32 = 6;
/// The first round does not begin with a shorter silence, but for the very shortest ranges.
const FIRST: Duration = Duration::from_millis(500);

/// What became of a connection that was silent for a while and was then asked whether it still lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It answered.
    Survived,
    /// Nothing came back: somebody on the path has forgotten it and drops its packets without a word.
    Dropped,
    /// It was answered with a reset, or reset unasked: somebody has forgotten it and says so.
    Reset,
    /// The other end closed it, in order, while it was silent. That is no router that forgets.
    Closed,
    /// The other end went on speaking by itself: the connection was never silent.
    Talked,
    /// It could not be opened.
    Unreachable,
    /// Nothing is known of it: time was up, or something on this machine ended it.
    Untried,
}

impl Fate {
    /// Whether the path had forgotten it.
    #[must_use]
    pub fn is_death(self) -> bool {
        matches!(self, Self::Dropped | Self::Reset)
    }
}

/// One connection's story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// How long it was silent, as measured.
    pub age: Duration,
    /// What became of it.
    pub fate: Fate,
}

/// A measurement in progress.
#[derive(Debug, Clone)]
pub struct Ageing {
    up_to: Duration,
    seen: Vec<Observation>,
    rounds: u32,
}

impl Ageing {
    /// Look for a bound up to `up_to`, which is brought between [`SHORTEST`] and [`LONGEST`].
    #[must_use]
    pub fn new(up_to: Duration) -> Self {
        Self { up_to: up_to.clamp(SHORTEST, LONGEST), seen: vec![], rounds: 0 }
    }

    /// The longest silence that is tried.
    #[must_use]
    pub fn up_to(&self) -> Duration {
        self.up_to
    }

    /// How long all of it takes at most: about twice the longest silence.
    #[must_use]
    pub fn at_most(&self) -> Duration {
        (self.up_to + VERDICT) * 2 + OPENING
    }

    /// How many rounds have begun.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// What was seen, in order.
    #[must_use]
    pub fn seen(&self) -> &[Observation] {
        &self.seen
    }

    /// Something became of a connection.
    pub fn observe(&mut self, seen: Observation) {
        self.seen.push(seen);
    }

    /// What is known by now.
    #[must_use]
    pub fn found(&self) -> Found {
        let ages = |fate: Fate| self.seen.iter().filter(move |seen| seen.fate == fate).map(|seen| seen.age);
        let survived = ages(Fate::Survived).max();
        let beyond = |age: Duration| survived.is_none_or(|survived| age > survived);
        let deaths = || self.seen.iter().filter(|seen| seen.fate.is_death());
        Found {
            survived,
            died: deaths().filter(|seen| beyond(seen.age)).min_by_key(|seen| seen.age).copied(),
            closed: ages(Fate::Closed).filter(|age| beyond(*age)).min(),
            talked: ages(Fate::Talked).next().is_some(),
            refuted: deaths().filter(|seen| !beyond(seen.age)).count(),
        }
    }

    /// Whether a connection that will be asked at this age can still tell something new.
    #[must_use]
    pub fn wants(&self, age: Duration) -> bool {
        let found = self.found();
        let ceiling = found.ceiling().unwrap_or(Duration::MAX);
        // What died only once is worth dying again.
        !found.talked && (age < ceiling || (age == ceiling && !self.is_confirmed()))
    }

    /// Whether no further round is worth its time, after `spent`.
    #[must_use]
    pub fn is_done(&self, spent: Duration) -> bool {
        if self.rounds == 0 {
            return false;
        }
        let found = self.found();
        let (low, high) = self.bracket();
        let closed = found.closed.is_some() && found.died.is_none();
        let narrow = high.saturating_sub(low) <= (high / 10).max(Duration::from_secs(1));
        closed
            || found.talked
            || low >= high
            || (narrow && self.is_confirmed())
            || self.rounds >= ROUNDS
            || spent + high + VERDICT > self.at_most()
    }

    /// Begin a round with that many connections: how long each is to be silent, ascending.
    pub fn round(&mut self, connections: usize) -> Vec<Duration> {
        let first = self.rounds == 0;
        self.rounds += 1;
        let count = u32::try_from(connections.clamp(1, MOST)).unwrap_or(1);
        if first { geometric(self.up_to, count) } else { self.even(count) }
    }

    /// What lies between the longest that survived and the shortest that died, or that was to be tried.
    fn bracket(&self) -> (Duration, Duration) {
        let found = self.found();
        (found.survived.unwrap_or_default(), found.ceiling().unwrap_or(self.up_to))
    }

    /// Whether it is believed that there is a bound: two died that were older than whatever survived.
    fn is_confirmed(&self) -> bool {
        let survived = self.found().survived.unwrap_or_default();
        self.seen.iter().filter(|seen| seen.fate.is_death() && seen.age > survived).count() > 1
    }

    fn even(&self, count: u32) -> Vec<Duration> {
        let (low, high) = self.bracket();
        // The upper end is tried again until it is believed, but not by the only connection.
        let parts = if self.is_confirmed() || count == 1 { count + 1 } else { count };
        (1..=count)
            .map(|part| low + high.saturating_sub(low).mul_f64(f64::from(part) / f64::from(parts)))
            .collect()
    }
}

/// Silences up to `up_to`, each by the same factor longer than the one before; the factor is 2 for eight of them.
fn geometric(up_to: Duration, count: u32) -> Vec<Duration> {
    let steps = count - 1;
    let first = (up_to / 2_u32.pow(steps.min(8))).max(FIRST.min(up_to / 2));
    let range = up_to.as_secs_f64() / first.as_secs_f64();
    let shrink = |from_the_top: u32| range.powf(-f64::from(from_the_top) / f64::from(steps.max(1)));
    (0..count).rev().map(|from_the_top| up_to.mul_f64(shrink(from_the_top))).collect()
}

/// What a measurement found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The longest silence that was survived.
    pub survived: Option<Duration>,
    /// The shortest that was not, and how it ended.
    pub died: Option<Observation>,
    /// After how long a silence the other end itself closed.
    pub closed: Option<Duration>,
    /// Whether the other end spoke by itself, so that there was no silence to measure.
    pub talked: bool,
    /// How many deaths a longer life has refuted: packets that got lost for another reason.
    pub refuted: usize,
}

impl Found {
    /// How long the path lets a silent connection live at least. What a peer says when it closes came through, so the
    /// path lived until then.
    #[must_use]
    pub fn lives(&self) -> Option<Duration> {
        if self.died.is_some() { self.survived } else { self.survived.max(self.closed) }
    }

    /// What a path's `idle_timeout` can safely say: the longest life, rounded down to what a person would write.
    #[must_use]
    pub fn idle_timeout(&self) -> Option<Duration> {
        let millis = self.lives()?.as_millis();
        let step = match millis {
            0..1000 => 100,
            1000..60_000 => 1000,
            60_000..600_000 => 5000,
            600_000..3_600_000 => 30_000,
            _ => 60_000,
        };
        let rounded = u64::try_from(millis - millis % step).unwrap_or(u64::MAX);
        (rounded > 0).then(|| Duration::from_millis(rounded))
    }

    /// The least age at which no connection is there to be asked any more.
    fn ceiling(&self) -> Option<Duration> {
        let died = self.died.map(|died| died.age);
        died.into_iter().chain(self.closed).min()
    }
}

#[cfg(test)]
#[path = "ageing_tests.rs"]
mod tests;
