//! `evenkeel fleet rollout COMMIT`: on how many nodes a commit is in force; with `--wait`, until it is on enough of them.

use super::fleet::{code, counted};
use super::fleet_hub::{Hub, text};
use super::fleet_status::count;
use super::{Ending, Failure, Format, paint};
use clap::Args;
use evenkeel_core::DurationWord;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How often a hub is asked while we wait.
const EVERY: Duration = Duration::from_secs(2);

/// Which commit, and how long to wait for it.
#[derive(Debug, Args)]
pub(super) struct RolloutArgs {
    /// The commit; its first seven characters will do.
    commit: String,
    /// Wait until it is in force on this part of the nodes: 42/42, 9/10 of them, or all.
    #[arg(long, value_name = "N/M")]
    wait: Option<Share>,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "10m", requires = "wait")]
    timeout: DurationWord,
    /// The nodes of this tier alone.
    #[arg(long, value_name = "TIER")]
    tier: Option<String>,
}

/// A part of the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    part: u64,
    of: u64,
}

/// Every node.
const ALL: Share = Share { part: 1, of: 1 };

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(ALL);
        }
        let number = |text: &str| text.parse::<u64>().ok();
        let parts = text.split_once('/').and_then(|(part, of)| Some((number(part)?, number(of)?)));
        let sound = |(part, of): &(u64, u64)| (1..=*of).contains(part);
        let (part, of) = parts.filter(sound).ok_or("this is no part of the nodes: 42/42, 9/10, all")?;
        Ok(Self { part, of })
    }
}

impl Share {
    /// How many of so many nodes that is, rounded up.
    fn of(self, nodes: usize) -> usize {
        let exact = (nodes as u128 * u128::from(self.part)).div_ceil(u128::from(self.of));
        usize::try_from(exact).unwrap_or(usize::MAX)
    }
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reach {
    nodes: usize,
    in_force: usize,
    refused: usize,
}

impl Reach {
    fn reached(self, share: Share) -> bool {
        self.nodes > 0 && self.in_force >= share.of(self.nodes)
    }

    /// Whether too many have refused it: a node refuses a commit for good.
    fn lost(self, share: Share) -> bool {
        self.nodes - self.refused.min(self.nodes) < share.of(self.nodes)
    }
}

fn reach(answer: Option<&Value>, tier: Option<&str>) -> Reach {
    let of = answer.map_or(&Value::Null, |answer| match tier {
        Some(tier) => &answer["tiers"][tier],
        None => &answer["all"],
    });
    Reach { nodes: count(of, "nodes"), in_force: count(of, "in_force"), refused: count(of, "refused") }
}

pub(super) fn rollout(hub: &Hub, asked: &RolloutArgs, format: Format) -> Ending {
    let tier = asked.tier.as_deref();
    let end = Instant::now() + asked.timeout.duration();
    let (answer, share) = match asked.wait {
        None => (hub.rollout(&asked.commit)?, ALL),
        Some(share) => (wait(hub, asked, share, end)?, share),
    };
    let Some(answer) = answer else {
        return Err(Failure::Wrong(format!("no node has ever had or seen {}", asked.commit)));
    };
    let now = reach(Some(&answer), tier);
    let code = code(now.reached(share));
    match format {
        Format::Json => paint::json(&json!({"reached": now.reached(share), "rollout": answer}), code),
        Format::Text => paint::text(&told(&answer, now, share, tier), code),
    }
}

/// Asks until it is reached, cannot be any more, or the time is over; the last answer. A hub that is away meanwhile is asked
/// again.
fn wait(hub: &Hub, asked: &RolloutArgs, share: Share, end: Instant) -> Result<Option<Value>, Failure> {
    loop {
        let answer = hub.rollout(&asked.commit);
        let left = end.saturating_duration_since(Instant::now());
        match &answer {
            Ok(answer) => {
                let now = reach(answer.as_ref(), asked.tier.as_deref());
                if left.is_zero()
                    || now.reached(share)
                    || (answer.is_some() && now.nodes > 0 && now.lost(share))
                {
                    return Ok(answer.clone());
                }
            }
            Err(Failure::Away(_)) if !left.is_zero() => {}
            Err(_) => return answer,
        }
        std::thread::sleep(EVERY.min(left));
    }
}

fn told(answer: &Value, now: Reach, share: Share, tier: Option<&str>) -> String {
    let commit: String = text(answer, "commit").chars().take(10).collect();
    let Reach { nodes, in_force, refused } = now;
    let place = tier.map_or_else(String::new, |tier| format!(" of {tier}"));
    let mut line = format!("{commit} in force on {in_force}/{}{place}", counted(nodes, "node"));
    if let Some(p99) = answer["p99_ms"].as_u64().filter(|_| tier.is_none() && in_force > 1) {
        let _ = write!(line, ", p99 {} s", p99.div_ceil(1000));
    }
    let paint = if now.reached(share) { paint::good } else { paint::bad };
    let mut out = format!("{}\n", paint(&crate::log::plain(&line)));
    if refused > 0 {
        let _ = writeln!(out, "{}", paint::bad(&format!("{} refused it", counted(refused, "node"))));
    }
    for node in answer["behind"].as_array().into_iter().flatten() {
        if tier.is_none_or(|tier| text(node, "tier") == tier) {
            let line =
                format!("  {}  {}  {}", text(node, "name"), text(node, "liveness"), text(node, "sync"));
            let _ = writeln!(out, "{}", crate::log::plain(&line));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{ALL, Reach, Share};

    #[test]
    fn a_part_of_the_nodes_is_rounded_up() {
        let share = |text: &str| text.parse::<Share>();
        assert_eq!(share("all").unwrap(), ALL);
        assert_eq!(share("42/42").unwrap().of(42), 42);
        assert_eq!(share("9/10").unwrap().of(11), 10);
        assert_eq!(share("1/3").unwrap().of(4), 2);
        for bad in ["", "3", "0/3", "4/3", "1/0", "-1/2", "a/b", "1/2/3"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn it_is_lost_once_too_many_refuse() {
        let reach = |in_force, refused| Reach { nodes: 10, in_force, refused };
        let most = "9/10".parse::<Share>().unwrap();
        assert!(!reach(8, 1).reached(most) && reach(9, 1).reached(most));
        assert!(!reach(8, 1).lost(most) && reach(8, 2).lost(most) && reach(0, 1).lost(ALL));
        let none = Reach { nodes: 0, in_force: 0, refused: 0 };
        assert!(!none.reached(ALL), "nobody is not everybody");
    }
}
