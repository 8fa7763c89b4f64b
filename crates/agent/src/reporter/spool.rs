//! Reports that wait to be sent, one sealed file each, oldest first.
//!
//! A report has its number before it is written and keeps it for ever: sent twice it has the same id. What cannot be
//! written to disk waits in memory; what is dropped for want of space is counted, and the count is kept too.

use crate::sealed::{self, Sealed};
use evenkeel_host::files;
use evenkeel_report::{Seq, Spool as Standing};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

/// The most bytes of reports that wait in memory because the disk does not take them.
const MEMORY_CAP: u64 = 1 << 20;
/// The most bytes one record may have; a report has 256 KiB at most, and its envelope.
const RECORD_CAP: usize = 1 << 20;
/// Where a full disk's block ends: what a small file really takes.
const BLOCK: u64 = 4096;

/// What is known beside the records: written whenever it would otherwise be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Count {
    epoch: u64,
    n: u64,
    dropped: u64,
    refused: u64,
}

enum Place {
    Disk(u64),
    Memory(Vec<u8>),
}

/// The spool.
pub(crate) struct Spool {
    folder: PathBuf,
    cap: u64,
    count: Count,
    /// The epoch was begun because the disk failed, and is not on it yet.
    unsaved: bool,
    /// That it is full was said, and nothing was taken since.
    full: bool,
    waiting: BTreeMap<Seq, Place>,
}

/// A report as it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// Its number.
    pub(crate) seq: Seq,
    /// The event, as JSON.
    pub(crate) json: Vec<u8>,
}

impl Spool {
    /// The spool in `folder`, which is made where it is missing. `now_ms` names the epoch where there is none.
    ///
    /// # Errors
    /// The folder cannot be made or listed.
    pub(crate) fn open(folder: &Path, cap: u64, now_ms: u64) -> io::Result<Self> {
        files::make_folder(folder, 0o700)?;
        let mut waiting = BTreeMap::new();
        for name in files::list(folder)? {
            let Some(seq) = parse_name(&name) else { continue };
            let path = folder.join(&name);
            match sealed::read(&path, RECORD_CAP) {
                Ok(Sealed::Whole(json)) => {
                    waiting.insert(seq, Place::Disk(json.len() as u64));
                }
                Ok(Sealed::Broken) | Err(_) => {
                    waiting.insert(seq, Place::Disk(0));
                }
                Ok(Sealed::Missing) => {}
            }
        }
        let (folder, count) = (folder.to_owned(), Count::default());
        let mut spool = Self { folder, cap, count, unsaved: false, full: false, waiting };
        spool.recall(now_ms);
        spool.make_room(0);
        Ok(spool)
    }

    /// Find epoch and number again, or begin an epoch that is newer than any this folder has seen.
    fn recall(&mut self, now_ms: u64) {
        let path = self.folder.join("epoch");
        let known = match sealed::read(&path, 4096) {
            Ok(Sealed::Whole(json)) => serde_json::from_slice::<Count>(&json).ok(),
            _ => None,
        };
        let newest = self.waiting.keys().next_back().copied().unwrap_or_default();
        if let Some(count) = known.filter(|count| count.epoch >= newest.epoch) {
            let n = if newest.epoch == count.epoch { count.n.max(newest.n) } else { count.n };
            self.count = Count { n, ..count };
            return;
        }
        if sealed::read(&path, 4096).is_ok_and(|read| read == Sealed::Broken) {
            sealed::move_aside(&path);
        }
        self.count = Count { epoch: now_ms.max(newest.epoch + 1), ..Count::default() };
        self.unsaved = true;
        self.save();
    }

    /// Number a report, and keep it until it is acknowledged. `write` makes its JSON once its number is known.
    ///
    /// # Errors
    /// It cannot be made JSON of.
    pub(crate) fn append(
        &mut self,
        now_ms: u64,
        write: &dyn Fn(Seq) -> serde_json::Result<Vec<u8>>,
    ) -> serde_json::Result<Seq> {
        if self.unsaved {
            self.save();
        }
        let seq = self.next();
        let json = write(seq)?;
        self.make_room(json.len() as u64);
        let kept =
            if self.unsaved { Err(io::Error::other("the disk takes nothing")) } else { self.put(seq, &json) };
        let Err(error) = kept else {
            self.count.n = seq.n;
            return Ok(seq);
        };
        tracing::warn!(%error, "a report cannot be written to the spool; it waits in memory");
        // Numbers given out in memory would be given out again after a crash, to other reports. So they get an epoch
        // of their own, which nobody has seen yet and nobody will use again.
        if !self.unsaved {
            self.count = Count { epoch: now_ms.max(self.count.epoch + 1), n: 0, ..self.count };
            self.unsaved = true;
        }
        let seq = self.next();
        let json = write(seq)?;
        self.count.n = seq.n;
        self.waiting.insert(seq, Place::Memory(json));
        self.drop_from_memory();
        Ok(seq)
    }

    fn next(&self) -> Seq {
        Seq { epoch: self.count.epoch, n: self.count.n + 1 }
    }

    fn put(&mut self, seq: Seq, json: &[u8]) -> io::Result<()> {
        sealed::write(&self.folder.join(name(seq)), json)?;
        self.waiting.insert(seq, Place::Disk(json.len() as u64));
        Ok(())
    }

    /// The oldest reports, at most `most` of them and about `bytes` together; always one where there is one.
    pub(crate) fn oldest(&mut self, most: usize, bytes: usize) -> Vec<Record> {
        let mut records = vec![];
        let mut left = bytes;
        let all: VecDeque<Seq> = self.waiting.keys().copied().collect();
        for seq in all {
            let Some(json) = self.load(seq) else { continue };
            if !records.is_empty() && (records.len() == most || json.len() > left) {
                break;
            }
            left = left.saturating_sub(json.len());
            records.push(Record { seq, json });
        }
        records
    }

    /// One record; what is broken is moved aside, counted and gone.
    fn load(&mut self, seq: Seq) -> Option<Vec<u8>> {
        if let Place::Memory(json) = self.waiting.get(&seq)? {
            return Some(json.clone());
        }
        let path = self.folder.join(name(seq));
        match sealed::read(&path, RECORD_CAP) {
            Ok(Sealed::Whole(json)) => return Some(json),
            Ok(Sealed::Missing) => {}
            Ok(Sealed::Broken) => sealed::move_aside(&path),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a report cannot be read");
                return None;
            }
        }
        self.waiting.remove(&seq);
        self.count.dropped += 1;
        self.save();
        None
    }

    /// These are told: forget them.
    pub(crate) fn told(&mut self, seqs: impl IntoIterator<Item = Seq>) {
        self.full = false;
        // Once the last file is gone only this remembers how far the numbers went. It is written first: should the
        // power fail between the two, a report is sent twice under one id, and never two under one.
        self.save();
        for seq in seqs {
            self.forget(seq);
        }
    }

    /// The hub will never take this one: put it where a person finds it, and go on.
    pub(crate) fn refused(&mut self, record: &Record) {
        self.count.refused += 1;
        self.save();
        let folder = self.folder.join("refused");
        let kept = files::make_folder(&folder, 0o700)
            .and_then(|()| Self::trim(&folder))
            .and_then(|()| files::replace(&folder.join(name(record.seq)), &record.json, 0o600));
        if let Err(error) = kept {
            tracing::warn!(%error, "a refused report cannot be kept");
        }
        self.forget(record.seq);
    }

    /// At most 100 refused reports are kept.
    fn trim(folder: &Path) -> io::Result<()> {
        let names = files::list(folder)?;
        names
            .iter()
            .take(names.len().saturating_sub(99))
            .try_for_each(|name| files::remove(&folder.join(name)))
    }

    fn forget(&mut self, seq: Seq) {
        if let Some(Place::Disk(_)) = self.waiting.remove(&seq)
            && let Err(error) = files::remove(&self.folder.join(name(seq)))
        {
            tracing::warn!(%error, "a report that is told cannot be removed; it may be told again");
        }
    }

    /// Drop the oldest until `more` bytes fit.
    fn make_room(&mut self, more: u64) {
        let cost = |bytes: u64| bytes.div_ceil(BLOCK) * BLOCK;
        let size = |place: &Place| if let Place::Disk(bytes) = place { cost(*bytes) } else { 0 };
        let mut total: u64 = self.waiting.values().map(size).sum();
        let before = self.count.dropped;
        while total + cost(more) > self.cap {
            let Some((&seq, place)) = self.waiting.iter().find(|(_, place)| matches!(place, Place::Disk(_)))
            else {
                break;
            };
            total -= size(place);
            self.forget(seq);
            self.count.dropped += 1;
        }
        if self.count.dropped > before {
            // One line for as long as it stays full; how many were dropped is in the status and in every heartbeat.
            if !std::mem::replace(&mut self.full, true) {
                tracing::warn!("the spool is full: from now on the oldest reports are dropped");
            }
            self.save();
        }
    }

    fn drop_from_memory(&mut self) {
        let size = |place: &Place| if let Place::Memory(json) = place { json.len() as u64 } else { 0 };
        while self.waiting.values().map(size).sum::<u64>() > MEMORY_CAP {
            let oldest = self.waiting.iter().find(|(_, place)| size(place) > 0).map(|(&seq, _)| seq);
            let Some(seq) = oldest else { break };
            self.waiting.remove(&seq);
            self.count.dropped += 1;
        }
    }

    fn save(&mut self) {
        let json = serde_json::to_vec(&self.count).unwrap_or_default();
        match sealed::write(&self.folder.join("epoch"), &json) {
            Ok(()) => self.unsaved = false,
            Err(error) => tracing::warn!(%error, "the spool's numbers cannot be written"),
        }
    }

    /// How many wait, and how many were dropped.
    pub(crate) fn standing(&self) -> Standing {
        Standing { waiting: self.waiting.len() as u64, dropped: self.count.dropped }
    }

    /// How many the hub would never take.
    pub(crate) fn refused_count(&self) -> u64 {
        self.count.refused
    }

    /// The number of the newest report.
    pub(crate) fn last(&self) -> Seq {
        Seq { epoch: self.count.epoch, n: self.count.n }
    }
}

/// Names sort as numbers do.
fn name(seq: Seq) -> String {
    format!("{:020}-{:020}.json", seq.epoch, seq.n)
}

pub(super) fn parse_name(name: &str) -> Option<Seq> {
    let (epoch, n) = name.strip_suffix(".json")?.split_once('-')?;
    (epoch.len() == 20 && n.len() == 20).then_some(())?;
    Some(Seq { epoch: epoch.parse().ok()?, n: n.parse().ok()? })
}
