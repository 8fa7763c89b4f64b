//! Measuring how long paths remember, now and then, on threads of its own. Whoever asks gets what is known and waits for
//! nothing; a death is believed only when the next measurement sees it too, because packets get lost.

use super::{Login, Peer, check};
use evenkeel_core::ageing::VERDICT;
use evenkeel_core::{Measured, MemoryQuestion};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most measurements at a time; each holds a connection open for every age.
const AT_ONCE: usize = 4;
/// The most questions that are remembered; the one that was not asked for longest goes first.
const REMEMBERED: usize = 32;
/// What opening connections may take beside their ages.
const OPENING: Duration = Duration::from_secs(15);

/// What is asked about, without how often.
type Key = (SocketAddr, Vec<Duration>, Option<String>);

#[derive(Debug)]
struct Known {
    told: Option<Measured>,
    due: Instant,
    asked: Instant,
    running: bool,
    /// The last measurement saw a death that was not told yet.
    doubt: bool,
}

/// What was measured, and what is being measured. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Background(Arc<Mutex<BTreeMap<Key, Known>>>);

impl Background {
    /// What is known; begins a measurement that is due.
    pub(crate) fn ask(&self, question: &MemoryQuestion) -> Option<Measured> {
        let key = (question.peer, question.ages.clone(), question.wish.user.clone());
        let now = Instant::now();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = all.values().filter(|known| known.running).count();
        let fresh = || Known { told: None, due: now, asked: now, running: false, doubt: false };
        let known = all.entry(key.clone()).or_insert_with(fresh);
        known.asked = now;
        let told = known.told.clone();
        if now >= known.due && !known.running && running < AT_ONCE {
            known.running = true;
            let (this, question) = (self.clone(), question.clone());
            let thread = std::thread::Builder::new().name("path memory".into()).spawn(move || {
                let seen = measure(&question);
                this.learn(&key, seen, question.wish.every.duration());
            });
            if thread.is_err() {
                known.running = false;
            }
        }
        forget_the_oldest(&mut all);
        told
    }

    fn learn(&self, key: &Key, seen: Measured, every: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = all.get_mut(key) else { return };
        known.running = false;
        let died = |seen: &Measured| seen.iter().flatten().any(|one| one.fate.is_death());
        let news = died(&seen) && !known.told.as_ref().is_some_and(died);
        if news && !known.doubt {
            (known.doubt, known.due) = (true, Instant::now());
            return;
        }
        (known.doubt, known.told, known.due) = (false, Some(seen), Instant::now() + every);
    }
}

fn forget_the_oldest(all: &mut BTreeMap<Key, Known>) {
    while all.len() > REMEMBERED {
        let idle = all.iter().filter(|(_, known)| !known.running);
        let Some(oldest) = idle.min_by_key(|(_, known)| known.asked).map(|(key, _)| key.clone()) else {
            return;
        };
        all.remove(&oldest);
    }
}

fn measure(question: &MemoryQuestion) -> Measured {
    let longest = question.ages.iter().max().copied().unwrap_or_default();
    let login = login(question).map_err(|fault| evenkeel_core::chain(&fault))?;
    Ok(check(&Peer { address: question.peer, login }, &question.ages, longest + VERDICT + OPENING))
}

fn login(question: &MemoryQuestion) -> Result<Option<Login>, evenkeel_core::Fault> {
    let Some(user) = &question.wish.user else { return Ok(None) };
    let database = question.wish.database.as_ref().unwrap_or(user);
    let quoted = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let login = Login::new(&format!("user={} dbname={}", quoted(user), quoted(database)))?;
    match &question.wish.password_file {
        Some(path) => login.password_file(path).map(Some),
        None => Ok(Some(login)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use evenkeel_core::ProbeWish;
    use evenkeel_core::ageing::{Fate, Observation};

    fn question() -> MemoryQuestion {
        let wish =
            ProbeWish { every: "1d".parse().unwrap(), user: None, database: None, password_file: None };
        let peer = "127.0.0.1:1".parse().unwrap();
        MemoryQuestion { peer, ages: vec![Duration::from_millis(300), Duration::from_millis(600)], wish }
    }

    fn seen(fates: [Fate; 2]) -> Vec<Observation> {
        question().ages.iter().zip(fates).map(|(age, fate)| Observation { age: *age, fate }).collect()
    }

    #[test]
    fn a_death_is_told_when_it_was_seen_twice_in_a_row() {
        let (background, question) = (Background::default(), question());
        let key = (question.peer, question.ages.clone(), None);
        background.ask(&question);
        let learn = |fates| background.learn(&key, Ok(seen(fates)), Duration::from_hours(24));
        let told = || background.0.lock().unwrap()[&key].told.clone();
        learn([Fate::Survived, Fate::Survived]);
        let well = told();
        assert!(well.is_some());
        learn([Fate::Survived, Fate::Dropped]);
        assert_eq!(told(), well, "one death may be a lost packet");
        learn([Fate::Survived, Fate::Survived]);
        learn([Fate::Survived, Fate::Dropped]);
        assert_eq!(told(), well, "and so may another one later");
        learn([Fate::Survived, Fate::Dropped]);
        assert_eq!(told(), Some(Ok(seen([Fate::Survived, Fate::Dropped]))));
        learn([Fate::Survived, Fate::Survived]);
        assert_eq!(told(), well, "what came right is told at once");
    }

    #[test]
    fn a_measurement_is_made_once_and_then_known() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let question = MemoryQuestion { peer: listener.local_addr().unwrap(), ..question() };
        let background = Background::default();
        assert_eq!(background.ask(&question), None);
        let end = Instant::now() + Duration::from_secs(20);
        let known = loop {
            match background.ask(&question) {
                Some(seen) => break seen.unwrap(),
                None => assert!(Instant::now() < end, "nothing is known"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let fates: Vec<Fate> = known.iter().map(|one| one.fate).collect();
        assert_eq!(fates, [Fate::Survived, Fate::Survived]);
        listener.set_nonblocking(true).unwrap();
        assert_eq!(std::iter::from_fn(|| listener.accept().ok()).count(), 2, "one connection for each age");
    }
}
