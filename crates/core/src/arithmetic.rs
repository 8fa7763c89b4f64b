//! A promise with its working shown: every number, the formula it comes from, and what it is good for.

use crate::{Intent, Promise, RFC1122_RETRIES2, retransmission_model_ms, retransmission_worst_ms};
use serde::Serialize;

/// One number and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// What it is: `keepalive time`.
    pub name: &'static str,
    /// The number with its unit.
    pub value: String,
    /// The formula with the numbers put in.
    pub formula: String,
    /// What follows, or what to know; may be empty.
    pub note: String,
}

/// Seconds with as many decimals as they need.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of days are far below 2^53")]
fn seconds(ms: u64) -> String {
    let text = format!("{:.3}", ms as f64 / 1000.0);
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

impl Promise {
    /// How an intent comes to these timers.
    #[must_use]
    pub fn arithmetic(&self, intent: &Intent) -> Vec<Sum> {
        let millis = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (idle, blackout) = (millis(intent.idle_timeout), millis(intent.blackout_at_most));
        let (time, intvl, probes) = (self.keepalive_time, self.keepalive_intvl, self.keepalive_probes);
        let (t, b, late) = (seconds(idle), seconds(blackout), "× 9/8");
        let sum = |name, value, formula, note| Sum { name, value, formula, note };
        let below = self.retries2 < RFC1122_RETRIES2;
        vec![
            sum("idle timeout T", t.clone(), "as the path says".into(), String::new()),
            sum("blackout B", b.clone(), "as the path says".into(), String::new()),
            sum(
                "keepalive interval",
                format!("{intvl} s"),
                format!("8/9 {b} / 6, from 1 s to 30 s, at most 4/9 {t}"),
                String::new(),
            ),
            sum(
                "keepalive probes",
                probes.to_string(),
                format!("3, or as many as fit into 8/9 {b} beside one second of silence"),
                if probes < 3 { "fewer than 3: lost packets can end a good connection".into() } else { String::new() },
            ),
            sum(
                "keepalive time",
                format!("{time} s"),
                format!("the less of 4/9 {t} and 8/9 {b} - {probes} × {intvl} s"),
                "below the 2 hours that RFC 1122 (4.2.3.6) asks of a default: the path forgets sooner than that".into(),
            ),
            sum(
                "longest silence",
                seconds(self.longest_silence_ms()),
                format!("max({time} s, {intvl} s) {late}"),
                format!("the path forgets after {t}"),
            ),
            sum(
                "dead peer found",
                seconds(self.detection_ms()),
                format!("({time} s + {probes} × {intvl} s) {late}"),
                format!("a request may hang for {b}"),
            ),
            sum(
                "user timeout",
                seconds(self.user_timeout_ms.into()),
                format!("{time} s + {probes} × {intvl} s - {intvl} s / 2"),
                "it takes the place of the probe count; half an interval less, so that it has passed at the last probe".into(),
            ),
            sum(
                "tcp_retries2",
                self.retries2.to_string(),
                format!(
                    "the most whose worst case is within {b}: the kernel's model says {}, the worst is {}",
                    seconds(retransmission_model_ms(self.retries2)),
                    seconds(retransmission_worst_ms(self.retries2))
                ),
                if below {
                    format!(
                        "below {RFC1122_RETRIES2}, the 100 s that RFC 1122 (4.2.3.5) recommends, for every connection of the \
                         node: {b} cannot be kept otherwise"
                    )
                } else {
                    String::new()
                },
            ),
            sum(
                "tcp_rto_max_ms",
                format!("{} ms", self.rto_max_ms),
                format!("200 ms × 2^{}, from 1 s to 120 s", self.retries2),
                "where the kernel has it (6.15 and later): what comes back is found within that".into(),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use crate::Intent;
    use std::time::Duration;

    fn told(idle: u64, blackout: u64) -> String {
        let (idle_timeout, blackout_at_most) = (Duration::from_secs(idle), Duration::from_secs(blackout));
        let intent = Intent { idle_timeout, blackout_at_most };
        let sums = intent.promise().unwrap().arithmetic(&intent);
        let lines =
            sums.iter().map(|sum| format!("{} = {} = {}; {}", sum.name, sum.value, sum.formula, sum.note));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_lies_below_rfc_1122_is_said() {
        assert!(
            told(350, 60).contains("tcp_retries2 = 6") && told(350, 60).contains("the 100 s that RFC 1122")
        );
        assert!(!told(350, 600).contains("the 100 s that RFC 1122"));
        assert!(told(5, 3).contains("fewer than 3"));
    }

    #[test]
    fn the_numbers_of_a_formula_are_the_ones_in_force() {
        let told = told(350, 60);
        assert!(
            told.contains("dead peer found = 59.625 s = (29 s + 3 × 8 s) × 9/8; a request may hang for 60 s"),
            "{told}"
        );
        assert!(
            told.contains("longest silence = 32.625 s = max(29 s, 8 s) × 9/8; the path forgets after 350 s"),
            "{told}"
        );
    }
}
