//! How often one interest is told: at once, and then no more often than every few milliseconds. Pure; the time is given.

use super::Event;
use evenkeel_core::Interest;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// The least time between two events of one interest.
const GAP: Duration = Duration::from_millis(5);
/// When memories of events long told are thrown away.
const MOST_KNOWN: usize = 4096;

/// What was told lately, and what waits.
#[derive(Debug, Default)]
pub(super) struct Pace {
    told: HashMap<Interest, Instant>,
    waiting: BTreeMap<Interest, Event>,
}

impl Pace {
    /// Something happened: the event, where it is to be told at once.
    pub(super) fn offer(&mut self, event: Event, now: Instant) -> Option<Event> {
        let lately = self.told.get(&event.interest).is_some_and(|told| now < *told + GAP);
        if lately {
            let waiting = self.waiting.entry(event.interest.clone()).or_insert_with(|| event.clone());
            // The last writer whom the kernel could name.
            waiting.writer = event.writer.or(waiting.writer.take());
            return None;
        }
        self.waiting.remove(&event.interest);
        if self.told.len() >= MOST_KNOWN {
            self.told.retain(|_, told| now < *told + GAP);
        }
        self.told.insert(event.interest.clone(), now);
        Some(event)
    }

    /// When something that waits is to be told.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.keys().filter_map(|interest| Some(*self.told.get(interest)? + GAP)).min()
    }

    /// What has waited long enough.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Event> {
        let ripe = |interest: &Interest| self.told.get(interest).is_none_or(|told| now >= *told + GAP);
        let ripe: Vec<Interest> = self.waiting.keys().filter(|interest| ripe(interest)).cloned().collect();
        let events: Vec<Event> = ripe.iter().filter_map(|interest| self.waiting.remove(interest)).collect();
        self.told.extend(ripe.into_iter().map(|interest| (interest, now)));
        events
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use evenkeel_report::Writer;

    fn event(pid: u32) -> Event {
        let writer = (pid > 0).then(|| Writer { pid, ..Writer::default() });
        Event { interest: Interest::Mounts, writer }
    }

    #[test]
    fn the_first_is_told_at_once_and_a_burst_only_once_more() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.offer(event(1), start), Some(event(1)));
        for step in 1..100 {
            assert_eq!(pace.offer(event(step + 1), start + GAP * step / 100), None);
        }
        assert_eq!(pace.next(), Some(start + GAP));
        assert!(pace.due(start + GAP / 2).is_empty());
        assert_eq!(pace.due(start + GAP), [event(100)]);
        assert_eq!(pace.next(), None);
        assert_eq!(pace.offer(event(7), start + GAP + GAP / 2), None, "told a moment ago");
        assert_eq!(pace.due(start + GAP * 2), [event(7)]);
        assert_eq!(pace.offer(event(8), start + GAP * 9), Some(event(8)));
    }

    #[test]
    fn a_known_writer_is_not_forgotten_for_an_unknown_one() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.offer(event(1), start).unwrap();
        pace.offer(event(2), start);
        pace.offer(event(0), start);
        assert_eq!(pace.due(start + GAP), [event(2)]);
    }

    #[test]
    fn one_interest_does_not_hold_up_another() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        pace.offer(event(1), start).unwrap();
        let other = Event { interest: Interest::File("/a".into()), writer: None };
        assert_eq!(pace.offer(other.clone(), start), Some(other));
    }
}
