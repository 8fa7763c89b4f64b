//! How often somebody may ask: a bucket of requests for each, that fills again by itself.
//!
//! It decides from a time that it is handed, keeps nothing on disk, and forgets who has been quiet.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many seconds' worth of requests may come at once.
const BURST_S: f64 = 10.0;
/// From how many buckets on those that are full are forgotten.
const MANY: usize = 4096;

/// The buckets.
#[derive(Debug)]
pub struct Quota {
    per_second: f64,
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Quota {
    /// `per_second` requests for each, for ever, and ten times as many at once.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second), buckets: Mutex::default() }
    }

    /// Takes one request out of the bucket of `who`.
    ///
    /// # Errors
    /// It is empty: when there is one again, in whole seconds.
    pub fn take(&self, who: &str, now: Instant) -> Result<(), u32> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MANY {
            buckets.retain(|_, bucket| self.level(*bucket, now) < self.full());
        }
        let fresh = Bucket { left: self.full(), at: now };
        let bucket = buckets.entry(who.to_owned()).or_insert(fresh);
        let level = self.level(*bucket, now);
        let (left, answer) = if level >= 1.0 {
            (level - 1.0, Ok(()))
        } else {
            let wait = Duration::from_secs_f64((1.0 - level) / self.per_second);
            (level, Err(u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1)))
        };
        *bucket = Bucket { left, at: now };
        answer
    }

    fn full(&self) -> f64 {
        self.per_second * BURST_S
    }

    fn level(&self, bucket: Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + since * self.per_second).min(self.full())
    }
}

#[cfg(test)]
mod tests {
    use super::{MANY, Quota};
    use std::time::{Duration, Instant};

    #[test]
    fn a_burst_passes_a_flood_is_told_when_to_come_again_and_nobody_else_pays_for_it() {
        let (quota, now) = (Quota::new(2), Instant::now());
        let passed = (0..100).filter(|_| quota.take("mw1", now).is_ok()).count();
        assert_eq!(passed, 20);
        assert_eq!(quota.take("mw1", now), Err(1));
        assert_eq!(quota.take("mw2", now), Ok(()));
        let later = now + Duration::from_secs(1);
        assert_eq!((quota.take("mw1", later), quota.take("mw1", later)), (Ok(()), Ok(())));
        assert_eq!(quota.take("mw1", later), Err(1));
    }

    #[test]
    fn who_has_been_quiet_is_forgotten() {
        let (quota, now) = (Quota::new(1), Instant::now());
        for n in 0..MANY {
            assert_eq!(quota.take(&n.to_string(), now), Ok(()));
        }
        assert_eq!(quota.take("one more", now + Duration::from_mins(1)), Ok(()));
        assert_eq!(quota.buckets.lock().map_or(0, |buckets| buckets.len()), 1);
    }
}
