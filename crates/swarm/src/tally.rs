//! What is counted while the swarm speaks, in a few kilobytes however long it does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many steps a doubling of the time has.
const STEPS: u64 = 32;
/// As many as a `u64` of microseconds needs.
const BUCKETS: usize = 64 * 32;

/// How long answers took: in steps of three percent.
#[derive(Debug)]
pub struct Latency {
    buckets: Vec<AtomicU64>,
    worst: AtomicU64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), worst: AtomicU64::new(0) }
    }
}

impl Latency {
    /// Counts one answer.
    pub fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket(us)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.worst.fetch_max(us, Ordering::Relaxed);
    }

    /// The time within which this part (0 to 1) of the answers came.
    #[must_use]
    pub fn within(&self, part: f64) -> Duration {
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let all: u64 = counts.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let wanted = all as f64 * part;
        let mut so_far = 0;
        for (at, count) in counts.iter().enumerate() {
            so_far += count;
            #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
            if *count > 0 && so_far as f64 >= wanted {
                return Duration::from_micros(top(at)).min(self.worst());
            }
        }
        self.worst()
    }

    /// The longest.
    #[must_use]
    pub fn worst(&self) -> Duration {
        Duration::from_micros(self.worst.load(Ordering::Relaxed))
    }
}

/// Exact below `STEPS`, from there on `STEPS` to a doubling.
fn bucket(us: u64) -> usize {
    let at = if us < STEPS {
        us
    } else {
        let doublings = u64::from(us.ilog2() - STEPS.ilog2());
        doublings * STEPS + (us >> doublings)
    };
    usize::try_from(at).unwrap_or(BUCKETS)
}

/// The greatest time of a bucket (µs).
fn top(at: usize) -> u64 {
    let at = at as u64;
    if at < 2 * STEPS {
        return at;
    }
    let doublings = at / STEPS - 1;
    ((at % STEPS + STEPS + 1) << doublings) - 1
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Tally {
    /// Reports that the hub has acknowledged, each once however often it was sent.
    pub reports: AtomicU64,
    /// Heartbeats that it has.
    pub beats: AtomicU64,
    /// Requests that were answered 200.
    pub taken: AtomicU64,
    /// Events that the hub called duplicates.
    pub duplicates: AtomicU64,
    /// Requests that were to come again: 429, 503.
    pub later: AtomicU64,
    /// Requests without an answer.
    pub unanswered: AtomicU64,
    /// Requests or events that were refused and should not have been.
    pub refused: AtomicU64,
    /// Full reports that were asked for.
    pub want_full: AtomicU64,
    /// Lies that were refused as forged.
    pub lies_refused: AtomicU64,
    /// Lies that were taken.
    pub lies_taken: AtomicU64,
    /// Times that an agent went silent.
    pub outages: AtomicU64,
    /// Connections that were opened.
    pub connections: AtomicU64,
    /// Bytes of the bodies, before they were compressed.
    pub bytes: AtomicU64,
    /// How long answers took.
    pub latency: Latency,
}

impl Tally {
    /// One more.
    pub fn one(of: &AtomicU64) {
        of.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn get(of: &AtomicU64) -> u64 {
        of.load(Ordering::Relaxed)
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all = [
            ("reports", &self.reports),
            ("heartbeats", &self.beats),
            ("duplicates", &self.duplicates),
            ("asked to come again", &self.later),
            ("unanswered", &self.unanswered),
            ("refused", &self.refused),
            ("full reports asked for", &self.want_full),
            ("lies refused", &self.lies_refused),
            ("lies taken", &self.lies_taken),
            ("outages", &self.outages),
            ("connections", &self.connections),
        ];
        let told: Vec<_> = all
            .iter()
            .map(|(name, count)| (name, Self::get(count)))
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        f.write_str(&told.join(" · "))
    }
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Latency, bucket, top};
    use std::time::Duration;

    #[test]
    fn a_bucket_holds_what_it_says_and_is_three_percent_wide() {
        for us in (0..5000).chain([70_000, 1_234_567, u64::from(u32::MAX)]) {
            let at = bucket(us);
            assert!(at < BUCKETS && top(at) >= us, "{us}");
            assert!(at == 0 || top(at - 1) < us, "{us}");
            assert!(top(at) <= us + us / 32, "{us}: {}", top(at));
        }
    }

    #[test]
    fn of_a_hundred_answers_the_ninety_ninth_is_told() {
        let latency = Latency::default();
        (1..=100).for_each(|ms| latency.add(Duration::from_millis(ms)));
        let p50 = latency.within(0.5);
        assert!((50..53).contains(&p50.as_millis()), "{p50:?}");
        let p99 = latency.within(0.99);
        assert!((99..102).contains(&p99.as_millis()), "{p99:?}");
        assert_eq!(latency.worst(), Duration::from_millis(100));
    }
}
