//! The arithmetic of a path: from how long it remembers a silent connection and how long a request may hang, to the
//! timers at both ends. Pure; every number here has its formula and its source in `docs/path.md`.
//!
//! Three things about Linux's TCP decide it, all measured (6.18) and all easy to get wrong:
//! - what bounds silence is the *larger* of keepalive time and interval: after the first probe the kernel re-arms with
//!   the interval;
//! - a timer fires up to an eighth late: the kernel's timer wheel rounds up to the granularity of a level;
//! - `TCP_USER_TIMEOUT` takes the place of the probe count, in both directions.

use std::time::Duration;

/// How late a timer may fire: nine eighths of what it was set to.
const LATE: (u64, u64) = (9, 8);
/// The most probes in a row that go unanswered before a peer is given up: one lost packet is no dead peer, nor are two.
const PROBES: u64 = 3;
/// The longest gap between two probes of a peer that has not answered, in seconds.
const LONGEST_INTERVAL: u64 = 30;
/// The first retransmission timeout of the kernel's model, in milliseconds: `TCP_RTO_MIN`.
const RTO_MIN_MS: u64 = 200;
/// The largest retransmission timeout, in milliseconds: `TCP_RTO_MAX`, and `net.ipv4.tcp_rto_max_ms` where there is one.
const RTO_MAX_MS: u64 = 120_000;
/// The first real retransmission timeout that is reckoned with, in milliseconds. The kernel's is the smoothed round
/// trip time and at least 200 ms, so this covers round trips of up to 100 ms.
const RTO_MS: u64 = 300;
/// What RFC 1122, 4.2.3.5, asks of the second retransmission threshold (R2): at least 100 s. 8 retransmissions are the
/// fewest that reach it.
pub const RFC1122_RETRIES2: u32 = 8;
/// The largest keepalive time and interval that `setsockopt(2)` takes, in seconds.
const MOST_SECONDS: u64 = 32_767;

/// What somebody says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    /// What lies between forgets a connection that was silent for this long.
    pub idle_timeout: Duration,
    /// The longest that a request may hang on a connection that is dead.
    pub blackout_at_most: Duration,
}

/// The timers that keep an [`Intent`], at both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// Silence before the first keepalive probe, in seconds.
    pub keepalive_time: u32,
    /// Between two probes, in seconds.
    pub keepalive_intvl: u32,
    /// Unanswered probes until the connection is given up.
    pub keepalive_probes: u32,
    /// The latest first probe that would still keep the intent with this interval and count, in seconds: a connection
    /// that is armed for later than this is unprotected.
    pub latest_probe: u32,
    /// `TCP_USER_TIMEOUT`: unacknowledged for this long ends a connection; in milliseconds.
    pub user_timeout_ms: u32,
    /// `net.ipv4.tcp_retries2`.
    pub retries2: u32,
    /// `net.ipv4.tcp_rto_max_ms`, for kernels that have it (6.15 and later).
    pub rto_max_ms: u32,
    /// PostgreSQL's `client_connection_check_interval`, in milliseconds.
    pub check_interval_ms: u32,
}

/// An intent that no timers can keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unkeepable {
    /// It forgets faster than a keepalive can come.
    #[error("a connection would be forgotten before the first keepalive could come: 3s is the least")]
    IdleTimeout,
    /// It is over before a dead connection can be told from a slow one.
    #[error("a dead connection cannot be told from a slow one so fast: 3s is the least")]
    Blackout,
}

/// The least that either side of an intent can be.
const LEAST: Duration = Duration::from_secs(3);

impl Intent {
    /// The timers that keep it.
    ///
    /// With T the idle timeout, B the blackout, and late meaning times 9/8:
    /// a probe comes, late, at T/2 at the latest, so `time ≤ 4/9 T`; the last of `n` probes is over, late, at B, so
    /// `time + n · intvl ≤ D = 8/9 B`; `intvl = D/6`, at least 1 s and at most 30 s, and never more than `time` may be.
    ///
    /// # Errors
    /// An [`Unkeepable`] where one of the two is below 3 s: seconds are the unit of keepalives.
    pub fn promise(&self) -> Result<Promise, Unkeepable> {
        if self.idle_timeout < LEAST {
            return Err(Unkeepable::IdleTimeout);
        }
        if self.blackout_at_most < LEAST {
            return Err(Unkeepable::Blackout);
        }
        let idle_ms = millis(self.idle_timeout);
        let silence = (in_time(idle_ms) / 2000).clamp(1, MOST_SECONDS);
        let detection = in_time(millis(self.blackout_at_most)) / 1000;
        let intvl = (detection / (2 * PROBES)).clamp(1, LONGEST_INTERVAL).min(silence);
        let probes = PROBES.min((detection - 1) / intvl);
        let latest = (detection - probes * intvl).min(in_time(idle_ms) / 1000).clamp(1, MOST_SECONDS);
        let time = latest.min(silence);
        let retries2 = self.retries2();
        Ok(Promise {
            keepalive_time: small(time),
            keepalive_intvl: small(intvl),
            keepalive_probes: small(probes),
            latest_probe: small(latest),
            // Half an interval before the last probe's turn: the check at that turn finds it exceeded, however the two
            // timers were rounded. The same half pays for the first retransmission timeout, from which the kernel counts.
            user_timeout_ms: small((time + probes * intvl) * 1000 - intvl * 500),
            retries2,
            rto_max_ms: small((RTO_MIN_MS << retries2.min(20)).clamp(1000, RTO_MAX_MS)),
            check_interval_ms: small(time * 1000),
        })
    }

    /// The most retransmissions that are over within the blackout, however late; at least one.
    fn retries2(&self) -> u32 {
        let budget = millis(self.blackout_at_most);
        (1..=255).take_while(|n| retransmission_worst_ms(*n) <= budget).last().unwrap_or(1)
    }
}

impl Promise {
    /// The longest silence on an idle connection that these timers leave, in milliseconds, when everything is late.
    #[must_use]
    pub fn longest_silence_ms(&self) -> u64 {
        longest_silence_ms(self.keepalive_time.into(), self.keepalive_intvl.into())
    }

    /// How long it takes at most until keepalives give up a peer that is gone, in milliseconds, when every timer is late.
    #[must_use]
    pub fn detection_ms(&self) -> u64 {
        detection_ms(self.keepalive_time.into(), self.keepalive_intvl.into(), self.keepalive_probes.into())
    }

    /// Keep both this promise and another: the earlier of every timer.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self {
            keepalive_time: self.keepalive_time.min(other.keepalive_time),
            keepalive_intvl: self.keepalive_intvl.min(other.keepalive_intvl),
            keepalive_probes: self.keepalive_probes.min(other.keepalive_probes),
            latest_probe: self.latest_probe.min(other.latest_probe),
            user_timeout_ms: self.user_timeout_ms.min(other.user_timeout_ms),
            retries2: self.retries2.min(other.retries2),
            rto_max_ms: self.rto_max_ms.min(other.rto_max_ms),
            check_interval_ms: self.check_interval_ms.min(other.check_interval_ms),
        }
    }
}

/// The longest silence that a keepalive time and interval leave, in milliseconds: the larger of the two, an eighth late.
#[must_use]
pub fn longest_silence_ms(time_s: u64, intvl_s: u64) -> u64 {
    late(time_s.max(intvl_s).saturating_mul(1000))
}

/// How long keepalives take at most to give up a peer that is gone, in milliseconds: `time + probes · intvl`, an eighth
/// late.
#[must_use]
pub fn detection_ms(time_s: u64, intvl_s: u64, probes: u64) -> u64 {
    late(time_s.saturating_add(intvl_s.saturating_mul(probes)).saturating_mul(1000))
}

/// After how much time in retransmission the kernel's own model gives up, in milliseconds, for `net.ipv4.tcp_retries2`
/// = `n`: timeouts that double from 200 ms up to 120 s, `n + 1` of them (`tcp_model_timeout` in `net/ipv4/tcp_timer.c`).
#[must_use]
pub fn retransmission_model_ms(n: u32) -> u64 {
    (0..=n).map(|k| (RTO_MIN_MS << k.min(20)).min(RTO_MAX_MS)).sum()
}

/// How long an unacknowledged request can hang at most with `net.ipv4.tcp_retries2` = `n`, in milliseconds.
///
/// The model's time is compared only when a retransmission timer expires, and those expire at doubling distances of the
/// *real* timeout: just before the model's time the next expiry is as far away again. Beyond the largest timeout the
/// distance is 120 s. To that come four first timeouts (the one that is not counted, a tail loss probe, rounding) and
/// the timers' lateness.
#[must_use]
pub fn retransmission_worst_ms(n: u32) -> u64 {
    let model = retransmission_model_ms(n);
    late(model + model.min(RTO_MAX_MS) + 4 * RTO_MS)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 64).min(u64::MAX / 64)
}

fn late(ms: u64) -> u64 {
    ms.saturating_mul(LATE.0) / LATE.1
}

/// What may be asked for so that it comes in time though it is late.
fn in_time(ms: u64) -> u64 {
    ms * LATE.1 / LATE.0
}

fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn intent(idle_ms: u64, blackout_ms: u64) -> Intent {
        let (idle_timeout, blackout_at_most) =
            (Duration::from_millis(idle_ms), Duration::from_millis(blackout_ms));
        Intent { idle_timeout, blackout_at_most }
    }

    #[test]
    fn the_incidents_path_comes_to_these_numbers() {
        let promise = intent(350_000, 60_000).promise().unwrap();
        let told = (promise.keepalive_time, promise.keepalive_intvl, promise.keepalive_probes);
        assert_eq!(told, (29, 8, 3));
        assert_eq!((promise.user_timeout_ms, promise.retries2, promise.rto_max_ms), (49_000, 6, 12_800));
    }

    #[test]
    fn the_smallest_path_is_kept_and_smaller_ones_are_refused() {
        let promise = intent(3000, 3000).promise().unwrap();
        let told = (promise.keepalive_time, promise.keepalive_intvl, promise.keepalive_probes);
        assert_eq!((told, promise.user_timeout_ms, promise.retries2), ((1, 1, 1), 1500, 1));
        assert_eq!(intent(2999, 3000).promise(), Err(Unkeepable::IdleTimeout));
        assert_eq!(intent(3000, 2999).promise(), Err(Unkeepable::Blackout));
    }

    #[test]
    fn the_model_is_the_kernels_and_the_worst_case_holds_what_was_measured() {
        // Seconds from the model, and seconds measured on Linux 6.18 until an unanswered request failed.
        let table = [(0, 0.2, 0.85), (3, 3.0, 6.87), (4, 6.2, 6.9), (5, 12.6, 13.5), (6, 25.4, 26.75)];
        let more =
            [(7, 51.0, 53.4), (8, 102.2, 106.4), (9, 204.6, 0.0), (10, 324.6, 0.0), (15, 924.6, 937.9)];
        for (n, model, measured) in table.into_iter().chain(more) {
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let seconds = |ms: u64| ms as f64 / 1000.0;
            assert!((seconds(retransmission_model_ms(n)) - model).abs() < 1e-9, "{n}");
            assert!(seconds(retransmission_worst_ms(n)) >= measured, "{n}");
        }
    }

    /// When an unacknowledged request fails, as the kernel does it: at the first expiry of a doubling timer at which the
    /// time since the first retransmission has reached the model's, every timer late by `late` eighths of an eighth.
    fn fails_after_ms(n: u32, rto: u64, tail_loss_probe: bool, late: u64) -> u64 {
        let slow = |ms: u64| ms + ms * late / 64;
        let mut now = if tail_loss_probe { slow(rto) } else { 0 };
        let mut timeout = rto;
        now += slow(timeout);
        let first = now;
        loop {
            if now - first >= retransmission_model_ms(n) {
                return now;
            }
            timeout = (timeout * 2).min(RTO_MAX_MS);
            now += slow(timeout);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_ever_later_than_the_intent(idle in 3000u64..4_000_000, blackout in 3000u64..4_000_000) {
            let promise = intent(idle, blackout).promise().unwrap();
            // Two probes fit into the router's memory, or one where seconds are too coarse for two.
            prop_assert!(promise.longest_silence_ms() <= idle);
            prop_assert!(promise.longest_silence_ms() <= idle / 2 || promise.keepalive_time == 1);
            prop_assert!(longest_silence_ms(promise.latest_probe.into(), promise.keepalive_intvl.into()) <= idle);
            prop_assert!(promise.detection_ms() <= blackout);
            let latest = detection_ms(promise.latest_probe.into(), promise.keepalive_intvl.into(), promise.keepalive_probes.into());
            prop_assert!(latest <= blackout);
            // The user timeout counts from the first retransmission.
            prop_assert!(late(u64::from(promise.user_timeout_ms) + RTO_MS) <= blackout);
            prop_assert!(retransmission_worst_ms(promise.retries2) <= blackout);
            prop_assert!(promise.keepalive_probes >= 1 && promise.retries2 >= 1 && promise.keepalive_intvl >= 1);
            prop_assert!(promise.keepalive_time <= promise.latest_probe);
            prop_assert!(u64::from(promise.keepalive_time) <= MOST_SECONDS);
        }

        #[test]
        fn a_longer_leash_never_makes_a_timer_shorter(idle in 3000u64..1_000_000, blackout in 3000u64..1_000_000, more in 0u64..500_000) {
            let (short, long) = (intent(idle, blackout).promise().unwrap(), intent(idle, blackout + more).promise().unwrap());
            prop_assert!(long.retries2 >= short.retries2);
            prop_assert!(long.detection_ms() + 10_000 >= short.detection_ms());
            prop_assert!(intent(idle + more, blackout).promise().unwrap().keepalive_time >= short.keepalive_time);
        }

        #[test]
        fn the_kernel_as_simulated_gives_up_within_the_worst_case(
            n in 1u32..16, rto in 200u64..=RTO_MS, probe: bool, late in 0u64..=8,
        ) {
            prop_assert!(fails_after_ms(n, rto, probe, late) <= retransmission_worst_ms(n));
        }

        #[test]
        fn two_promises_together_keep_both(a in 3000u64..400_000, b in 3000u64..400_000, c in 3000u64..400_000, d in 3000u64..400_000) {
            let (one, two) = (intent(a, b).promise().unwrap(), intent(c, d).promise().unwrap());
            let both = one.and(&two);
            prop_assert!(both.longest_silence_ms() <= a.min(c));
            prop_assert!(both.detection_ms() <= b.min(d));
            prop_assert!(retransmission_worst_ms(both.retries2) <= b.min(d));
        }
    }
}
