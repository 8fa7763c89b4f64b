//! When a message that was not taken is tried again: later and later, at a random moment (full jitter), and never before
//! the receiver asked for.

use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// Between the first and the second try, at most.
const FIRST_MS: u64 = 2_000;
/// Between two tries, at most.
const MOST_MS: u64 = 600_000;
/// No two tries are closer than this.
const LEAST_MS: u64 = 250;
/// A receiver cannot put a message off for longer.
const ASKED_MOST: Duration = Duration::from_hours(1);

/// How long to wait after `tries` tries (ms); `random` is anything, equally likely.
#[must_use]
pub(super) fn pause(tries: u32, asked: Option<Duration>, random: u64) -> i64 {
    let most = FIRST_MS.saturating_mul(1 << tries.saturating_sub(1).min(20)).min(MOST_MS);
    let jitter = LEAST_MS + random % most;
    let asked = asked.map_or(0, |asked| u64::try_from(asked.min(ASKED_MOST).as_millis()).unwrap_or(0));
    // Also after what was asked for a little is added: not everybody shall come back at once.
    let pause = if asked == 0 { jitter } else { asked + random % 1_000 };
    i64::try_from(pause).unwrap_or(i64::MAX)
}

/// What `Retry-After` says: seconds, or a date.
#[must_use]
pub(super) fn retry_after(text: &str, now: OffsetDateTime) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Duration::try_from(at - now).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{pause, retry_after};
    use std::time::Duration;
    use time::OffsetDateTime;

    #[test]
    fn pauses_grow_to_ten_minutes_and_are_anywhere_below() {
        assert_eq!(pause(1, None, 1_999), 2_249);
        assert_eq!(pause(1, None, 2_000), 250);
        assert_eq!(pause(3, None, 7_999), 8_249);
        assert_eq!(pause(40, None, 599_999), 600_249);
    }

    #[test]
    fn what_the_receiver_asks_for_is_the_least_and_an_hour_is_the_most() {
        assert_eq!(pause(1, Some(Duration::from_secs(30)), 5_999), 30_999);
        assert_eq!(pause(1, Some(Duration::from_hours(9)), 0), 3_600_000);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = OffsetDateTime::from_unix_timestamp(784_111_777).unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_mins(2)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_mins(1)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:40:37 GMT", now), None);
        assert_eq!(retry_after("soon", now), None);
    }
}
