//! What is kept of one simulated agent: a hundred bytes, so that a hundred thousand are nothing.

use std::collections::VecDeque;

/// An item that is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Which.
    pub item: u16,
    /// The report that told so.
    pub n: u64,
}

/// A report that waits to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// When its pass was (unix ms, the machine's clock).
    pub at: i64,
    /// Whether it lists every item.
    pub full: bool,
}

/// One agent.
#[derive(Debug, Clone, Default)]
pub struct Agent {
    /// Its number in the fleet.
    pub index: u32,
    /// The last report that the hub has.
    pub acked: u64,
    /// What is off after that one.
    pub open: Vec<Open>,
    /// Which of the reports that the hub has were full ones.
    pub fulls: Vec<u64>,
    /// Until when it is silent (unix ms).
    pub silent_until: i64,
    /// How many requests in a row came to nothing.
    pub failures: u32,
    /// When its next pass is (unix ms): passes are made whether the hub is there or not.
    pub next_pass: i64,
    /// The last time that a heartbeat told (unix ms).
    pub last_beat: i64,
    waits: VecDeque<Waiting>,
}

impl Agent {
    /// One that has told nothing.
    #[must_use]
    pub fn new(index: u32) -> Self {
        Self { index, ..Self::default() }
    }

    /// The number of its newest report.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.acked + self.waits.len() as u64
    }

    /// Makes one more report.
    pub fn spool(&mut self, waiting: Waiting) {
        self.waits.push_back(waiting);
    }

    /// The reports that wait, with their numbers.
    pub fn waiting(&self) -> impl Iterator<Item = (u64, Waiting)> + '_ {
        (self.acked + 1..).zip(self.waits.iter().copied())
    }

    /// The hub has the first `count` of them; `open` is off after the last of those.
    pub fn acknowledge(&mut self, count: usize, open: Vec<Open>) {
        for waiting in self.waits.drain(..count.min(self.waits.len())) {
            self.acked += 1;
            if waiting.full {
                self.fulls.push(self.acked);
            }
        }
        self.open = open;
        self.waits.shrink_to(8);
    }

    /// A moment for its next heartbeat, later than the one before.
    pub fn next_beat(&mut self, now: i64) -> i64 {
        self.last_beat = now.max(self.last_beat + 1);
        self.last_beat
    }
}

#[cfg(test)]
mod tests {
    use super::{Agent, Waiting};

    #[test]
    fn what_is_acknowledged_leaves_the_spool_and_the_rest_keeps_its_number() {
        let mut agent = Agent::new(3);
        for at in 0..5 {
            agent.spool(Waiting { at, full: at == 1 });
        }
        agent.acknowledge(2, vec![]);
        assert_eq!((agent.acked, agent.made(), agent.fulls.as_slice()), (2, 5, [2].as_slice()));
        assert_eq!(agent.waiting().next(), Some((3, Waiting { at: 2, full: false })));
    }

    #[test]
    fn an_agent_is_small() {
        assert!(size_of::<Agent>() <= 144, "{}", size_of::<Agent>());
    }
}
