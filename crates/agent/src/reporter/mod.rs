//! Telling the hub: reports through a spool on disk, heartbeats past it.
//!
//! Taking reports in, sending them, and the heartbeat run apart: a hub that hangs delays no report's way to the disk.
//! With no hub configured nothing is spooled. Where the hub asks for a certificate, a fourth activity keeps this node's
//! good.

mod http;
mod identity;
mod membership;
mod spool;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;

use crate::config::Config;
use crate::enforce::standing::Standing;
use crate::enforce::{Ask, agent};
use evenkeel_report::{
    Event, HEARTBEAT_V1, Heartbeat, REPORT_V1, Report, Seq, Spool as SpoolStanding, Timestamp, event_id,
};
use http::{Answer, Link};
use identity::Identity;
use sha2::{Digest, Sha256};
use spool::{Record, Spool};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// The most reports in one request.
const BATCH: usize = 64;
/// About the most bytes in one request; one report more than this goes alone.
const BATCH_BYTES: usize = 1 << 20;

/// How the link to the hub stands, for the status.
#[derive(Debug, Clone, Default)]
pub(crate) struct HubStanding {
    /// When it last took something.
    pub(crate) reached: Option<Instant>,
    /// Why it did not, since.
    pub(crate) trouble: Option<String>,
    /// What waits.
    pub(crate) spool: SpoolStanding,
    /// Reports it will never take.
    pub(crate) refused: u64,
    /// How this node is shut out, where it is.
    pub(crate) shut: Option<Shut>,
    /// Until when this node's certificate holds (unix ms).
    pub(crate) certified_until: Option<i64>,
}

/// How a hub shuts a node out. It goes on trying, slowly, and loses nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shut {
    /// It has no certificate yet.
    NotEnrolled,
    /// The hub does not know its certificate.
    Unknown,
    /// It is banned.
    Banned,
    /// It was taken out of the fleet.
    Removed,
    /// Another machine has its name.
    Cloned,
    /// Its token was for another tier or other labels.
    OutOfScope,
}

impl Shut {
    /// Its word, for programs; the hub's where the hub has one.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NotEnrolled => "not_enrolled",
            Self::Unknown => "unknown_certificate",
            Self::Banned => "banned",
            Self::Removed => "removed",
            Self::Cloned => "cloned_identity",
            Self::OutOfScope => "out_of_scope",
        }
    }

    /// What the hub calls so.
    fn read(word: &str) -> Option<Self> {
        let all = [Self::Unknown, Self::Banned, Self::Removed, Self::Cloned, Self::OutOfScope];
        if word == "no_certificate" {
            return Some(Self::Unknown);
        }
        all.into_iter().find(|shut| shut.word() == word)
    }

    /// For a person: what is wrong and what to do.
    fn sentence(self) -> &'static str {
        match self {
            Self::NotEnrolled => "not enrolled: the hub has not let this node in yet",
            Self::Unknown => {
                "unknown certificate: the hub does not know this node's; a token that is good lets it in again"
            }
            Self::Banned => {
                "banned: the hub listens to this node no more; `evenkeel-hub node unban` there lifts that"
            }
            Self::Removed => {
                "removed: this node was taken out of the fleet; a token made now at the hub lets it in again"
            }
            Self::Cloned => {
                "cloned: another machine speaks under this node's name; give one of the two another, or enrol again"
            }
            Self::OutOfScope => "out of scope: the token of this node was for another tier or other labels",
        }
    }
}

/// What the reporter is joined to.
pub(crate) struct Joints {
    /// The configuration in force.
    pub(crate) config: watch::Receiver<Arc<Config>>,
    /// Reports to be sent.
    pub(crate) reports: mpsc::Receiver<Report>,
    /// How the node stands.
    pub(crate) standing: watch::Receiver<Standing>,
    /// Questions to the enforcing loop.
    pub(crate) asks: mpsc::Sender<Ask>,
    /// How the link stands.
    pub(crate) hub: watch::Sender<HubStanding>,
}

/// What the three activities share.
struct Shared {
    config: watch::Receiver<Arc<Config>>,
    standing: watch::Receiver<Standing>,
    asks: mpsc::Sender<Ask>,
    hub: watch::Sender<HubStanding>,
    spool: Arc<Mutex<Spool>>,
    /// The number of the newest report, as the spool last said.
    last: Mutex<Seq>,
    bell: Notify,
    quiet_until: Mutex<Option<Instant>>,
    link: Mutex<Option<(LinkKey, Arc<Link>)>>,
    /// Who this node is to the hub, once it is.
    identity: watch::Sender<Option<Arc<Identity>>>,
    /// The certificate that the hub did not know.
    doubt: Mutex<Option<u32>>,
    /// Rung when that is another one than before.
    doubted: Notify,
    wall: fn() -> Timestamp,
    source: String,
}

/// What of the configuration a link is made of.
type LinkKey = (String, Option<std::path::PathBuf>, Option<u32>);

/// Run until the task is dropped, or nobody is left who makes reports and the last one is on disk.
///
/// # Errors
/// The spool's folder cannot be made or listed.
pub(crate) async fn run(joints: Joints, wall: fn() -> Timestamp) -> io::Result<()> {
    let config = joints.config.borrow().clone();
    let (folder, cap) = (config.state_dir.join("spool"), config.spool_cap);
    let now_ms = unix_ms(wall());
    let spool = tokio::task::spawn_blocking(move || Spool::open(&folder, cap, now_ms)).await??;
    let machine = evenkeel_host::identity::machine_id();
    let state = config.state_dir.clone();
    let known = tokio::task::spawn_blocking(move || Identity::load(&state)).await?;
    let shared = Shared {
        source: source(machine.as_deref(), &config.node),
        config: joints.config,
        standing: joints.standing,
        asks: joints.asks,
        hub: joints.hub,
        spool: Arc::new(Mutex::new(spool)),
        last: Mutex::default(),
        bell: Notify::new(),
        quiet_until: Mutex::new(None),
        link: Mutex::new(None),
        identity: watch::Sender::new(known.map(Arc::new)),
        doubt: Mutex::new(None),
        doubted: Notify::new(),
        wall,
    };
    shared.with_spool(|_| ()).await;
    // Once nobody makes reports any more, and the last one is on disk, the process may end.
    tokio::select! {
        () = shared.take_in(joints.reports) => {}
        () = shared.deliver() => {}
        () = shared.heartbeats() => {}
        () = shared.stay_known() => {}
    }
    Ok(())
}

/// Who speaks, in a form that two machines do not share: made of the machine's id, which is itself told to no one,
/// and the node's name.
fn source(machine: Option<&str>, node: &str) -> String {
    let hash = Sha256::digest(format!("evenkeel node\0{}\0{node}", machine.unwrap_or_default()));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    format!("urn:uuid:{}", uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

fn unix_ms(at: Timestamp) -> u64 {
    u64::try_from(at.unix_ms()).unwrap_or_default()
}

impl Shared {
    fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Do something with the spool on a thread that may block, and show how it stands then. The spool is locked on
    /// such threads only: a slow disk must not hold up the loop that everything else turns on.
    async fn with_spool<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Spool) -> T + Send + 'static,
    ) -> Option<T> {
        let spool = self.spool.clone();
        let act = move || {
            let mut spool = spool.lock().unwrap_or_else(PoisonError::into_inner);
            let result = act(&mut spool);
            (result, spool.standing(), spool.refused_count(), spool.last())
        };
        let (result, standing, refused, last) = tokio::task::spawn_blocking(act).await.ok()?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
        self.show(|hub| (hub.spool, hub.refused) = (standing, refused));
        Some(result)
    }

    async fn take_in(&self, mut reports: mpsc::Receiver<Report>) {
        while let Some(report) = reports.recv().await {
            if self.config().hub.is_none() {
                continue;
            }
            let (source, time) = (self.source.clone(), (self.wall)());
            let write = move |seq: Seq| {
                let subject = report.node.name.clone();
                let data = Report { seq, ..report.clone() };
                serde_json::to_vec(&Event::new(REPORT_V1, &source, event_id(seq), &subject, time, data))
            };
            let kept = self.with_spool(move |spool| spool.append(unix_ms(time), &write)).await;
            if let Some(Err(error)) = kept {
                tracing::error!(%error, "a report cannot be written as JSON and is lost");
            }
            self.bell.notify_one();
        }
    }

    async fn deliver(&self) {
        let mut config = self.config.clone();
        let mut identity = self.identity.subscribe();
        let mut failures = 0;
        loop {
            let records = self.with_spool(|spool| spool.oldest(BATCH, BATCH_BYTES)).await.unwrap_or_default();
            if records.is_empty() || self.config().hub.is_none() {
                tokio::select! {
                    () = self.bell.notified() => {}
                    changed = config.changed() => if changed.is_err() { return },
                }
                continue;
            }
            match self.hand_over(records).await {
                Ok(()) => failures = 0,
                Err((why, asked)) => {
                    failures += 1;
                    let pause = http::pause(failures, asked, fastrand::f64());
                    let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                    tracing::warn!(pause_ms, "the hub does not take reports, they wait: {why}");
                    let until = Instant::now() + pause;
                    *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner) = asked.map(|_| until);
                    self.show(|hub| hub.trouble = Some(why));
                    tokio::select! {
                        () = sleep_until(until) => {}
                        changed = config.changed() => if changed.is_err() { return },
                        _ = identity.changed() => {}
                    }
                    *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
            }
        }
    }

    /// Send a batch. `Err` says why not now, and what pause the hub asked for.
    async fn hand_over(&self, records: Vec<Record>) -> Result<(), (String, Option<Duration>)> {
        match self.post(batch(records.iter().map(|record| &record.json[..]))).await {
            Answer::Taken { want_full } => {
                self.taken(records, want_full).await;
                Ok(())
            }
            Answer::Later { why, after } => Err((why, after)),
            Answer::Shut { how, after } => Err((how.sentence().to_owned(), Some(after))),
            Answer::Never { why } if records.len() == 1 => {
                let id = records.first().map(|record| event_id(record.seq)).unwrap_or_default();
                tracing::error!(
                    id,
                    "the hub will never take report {id}, it is kept in spool/refused: {why}"
                );
                for record in records {
                    self.with_spool(move |spool| spool.refused(&record)).await;
                }
                self.show(|hub| hub.trouble = Some(why));
                Ok(())
            }
            Answer::Never { .. } => {
                // One of them is bad. Alone each shows what it is.
                for record in records {
                    Box::pin(self.hand_over(vec![record])).await?;
                }
                Ok(())
            }
        }
    }

    async fn taken(&self, records: Vec<Record>, want_full: bool) {
        self.with_spool(move |spool| spool.told(records.into_iter().map(|record| record.seq))).await;
        self.heard(want_full).await;
    }

    /// The hub answered well.
    async fn heard(&self, want_full: bool) {
        self.show(|hub| {
            hub.reached = Some(Instant::now());
            (hub.trouble, hub.shut) = (None, None);
        });
        if want_full {
            tracing::info!("the hub asks for a full report");
            let _ = self.asks.send(Ask::Full).await;
        }
    }

    async fn post(&self, batch: Vec<u8>) -> Answer {
        let config = self.config();
        let identity = self.identity.borrow().clone().filter(|known| known.name == config.node);
        if identity.is_none() && config.enroll.is_some() {
            let why = self.hub.borrow().trouble.clone();
            let why = why.unwrap_or_else(|| Shut::NotEnrolled.sentence().to_owned());
            self.show(|hub| hub.shut = hub.shut.or(Some(Shut::NotEnrolled)));
            return Answer::Later { why, after: None };
        }
        let link = match self.link(&config, identity.as_deref()) {
            Ok(Some(link)) => link,
            Ok(None) => return Answer::Later { why: "no hub is configured".to_owned(), after: None },
            Err(error) => return Answer::Later { why: evenkeel_core::chain(&error), after: None },
        };
        let answer = link.send(batch, &config.node).await;
        let shut = if let Answer::Shut { how, .. } = &answer { Some(*how) } else { None };
        self.show(|hub| {
            hub.shut = shut;
            hub.certified_until = identity.as_ref().map(|known| known.until);
        });
        if shut == Some(Shut::Unknown) {
            self.doubt(identity.map(|known| known.print));
        }
        answer
    }

    /// The hub does not know this certificate. Said once of each: how often to ask again is decided elsewhere.
    fn doubt(&self, print: Option<u32>) {
        let mut doubt = self.doubt.lock().unwrap_or_else(PoisonError::into_inner);
        if *doubt != print {
            *doubt = print;
            self.doubted.notify_one();
        }
    }

    /// The link, made when it is first needed and when the configuration names another hub or the certificate is new.
    fn link(
        &self,
        config: &Config,
        identity: Option<&Identity>,
    ) -> Result<Option<Arc<Link>>, http::LinkError> {
        let Some(hub) = &config.hub else { return Ok(None) };
        // A certificate is for a hub that shows one itself.
        let identity = identity.filter(|_| hub.starts_with("https://"));
        let key = (hub.clone(), config.hub_ca.clone(), identity.map(|known| known.print));
        let mut slot = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, link)) = slot.as_ref().filter(|(made_of, _)| *made_of == key) {
            return Ok(Some(link.clone()));
        }
        let link = Arc::new(Link::new(hub, config, identity)?);
        *slot = Some((key, link.clone()));
        Ok(Some(link))
    }

    async fn heartbeats(&self) {
        let mut config = self.config.clone();
        let phase = phase(&self.config().node);
        let mut next = Instant::now() + self.config().report_interval.mul_f64(phase);
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                changed = config.changed() => {
                    if changed.is_err() { return }
                    next = next.min(Instant::now() + self.config().report_interval);
                    continue;
                }
            }
            let interval = self.config().report_interval;
            next = Instant::now() + interval.mul_f64(0.95 + 0.1 * fastrand::f64());
            if self.config().hub.is_none() || self.is_quiet() {
                continue;
            }
            match self.post(self.heartbeat(interval)).await {
                Answer::Taken { want_full } => self.heard(want_full).await,
                Answer::Later { why, .. } | Answer::Never { why } => {
                    tracing::debug!("a heartbeat was not taken: {why}");
                    self.show(|hub| hub.trouble = Some(why));
                }
                Answer::Shut { how, after } => {
                    tracing::debug!("a heartbeat was not taken: {}", how.word());
                    self.show(|hub| hub.trouble = Some(how.sentence().to_owned()));
                    next = next.max(Instant::now() + after);
                }
            }
        }
    }

    /// Whether the hub asked to be left alone for now.
    fn is_quiet(&self) -> bool {
        let until = *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn heartbeat(&self, interval: Duration) -> Vec<u8> {
        let standing = self.standing.borrow().clone();
        let seq = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let spool = self.hub.borrow().spool;
        let data = Heartbeat {
            node: standing.node.clone(),
            agent: agent(),
            seq,
            interval_s: interval.as_secs().max(1),
            spec: standing.spec_now(),
            counts: standing.counts,
            state_digest: standing.digest,
            spool,
            last_pass_age_s: standing.last_pass.map(|at| at.elapsed().as_secs()),
        };
        let subject = data.node.name.clone();
        let id = uuid::Uuid::now_v7().to_string();
        let event = Event::new(HEARTBEAT_V1, &self.source, id, &subject, (self.wall)(), data);
        let json = serde_json::to_vec(&event).unwrap_or_default();
        batch([&json[..]])
    }

    fn show(&self, change: impl FnOnce(&mut HubStanding)) {
        self.hub.send_modify(change);
    }
}

/// Events as one JSON array, each byte for byte as it was spooled.
fn batch<'a>(events: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = vec![b'['];
    for (index, event) in events.into_iter().enumerate() {
        if index > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(event);
    }
    bytes.push(b']');
    bytes
}

/// Where in the interval this node's heartbeat lies: from 0 to 1, the same after every start.
fn phase(node: &str) -> f64 {
    f64::from(crc32fast::hash(node.as_bytes())) / f64::from(u32::MAX)
}
