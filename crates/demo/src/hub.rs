//! The hub as the demo sees it: started here, asked over plain HTTP on the loopback like anybody's browser would.

use crate::child::{SELF, tied};
use crate::looks::millis;
use crate::node::last_lines;
use crate::trouble::{Doing, Result, Trouble};
use evenkeel_hub::config::{self, Overrides};
use evenkeel_report::{Counts, Drift, Liveness, SpecState, Status, Timestamp, Writer};
use serde::Deserialize;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// The address that the page has unless something else has it already.
const USUAL: &str = "127.0.0.1:8484";

/// The word by which this binary knows that it is to be the hub.
pub(crate) const ROLE: &str = "hub";

/// The hub itself: `hub ADDRESS STORE`.
pub(crate) fn serve(arguments: &[String]) -> Result<()> {
    let [listen, store] = arguments else { return Err(Trouble::told("hub ADDRESS STORE")) };
    let over = Overrides { listen: Some(listen.clone()), store: Some(store.clone()), ..Overrides::default() };
    let config = config::settle(config::File::default(), over);
    let config = config.map_err(|why| Trouble::told(why.to_string()))?;
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::INFO)
        .with_ansi(false)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.doing(|| "start the hub".into())?;
    runtime.block_on(evenkeel_hub::serve(&config)).map_err(|why| Trouble::told(why.to_string()))
}

/// A running hub.
pub(crate) struct Hub {
    /// Where it listens.
    pub(crate) at: SocketAddr,
    child: Child,
    log: PathBuf,
}

/// A node, as the hub tells it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct NodeRow {
    /// Its name.
    pub(crate) name: String,
    /// Its tier.
    pub(crate) tier: String,
    /// Whether it is heard of.
    pub(crate) liveness: Liveness,
    /// Which spec it keeps.
    pub(crate) spec: SpecState,
    /// How its items stand.
    pub(crate) counts: Counts,
}

/// An entry of a node's timeline.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Entry {
    /// When the agent told it.
    pub(crate) time: Option<Timestamp>,
    /// Which item; none for the spec.
    pub(crate) item: Option<String>,
    /// How it stood.
    pub(crate) status: String,
    /// What was off.
    #[serde(default)]
    pub(crate) drift: Vec<Drift>,
    /// Who did it.
    pub(crate) writer: Option<Writer>,
}

/// An item of a node, as the hub tells it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ItemRow {
    /// `kind/name`.
    pub(crate) id: String,
    /// How it stands.
    pub(crate) status: Option<Status>,
    /// Why.
    pub(crate) reason: Option<String>,
}

#[derive(Deserialize)]
struct NodesPage {
    nodes: Vec<NodeRow>,
}

#[derive(Deserialize)]
struct ItemsPage {
    items: Vec<ItemRow>,
}

impl Hub {
    /// Start it and wait until it answers.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let mut tries = 0;
        loop {
            let mut hub = Self::launch(folder, free_address()?)?;
            match hub.await_answer() {
                // Between our finding a free port and its taking it, somebody else may have taken it.
                Err(_) if tries < 5 && !matches!(hub.child.try_wait(), Ok(None)) => tries += 1,
                answered => return answered.map(|()| hub),
            }
        }
    }

    fn launch(folder: &Path, at: SocketAddr) -> Result<Self> {
        let log = folder.join("hub.log");
        let to = std::fs::File::create(&log).doing(|| format!("make {}", log.display()))?;
        let copy = to.try_clone().doing(|| "share a log".into())?;
        let store = format!("sqlite:{}", folder.join("hub.db").display());
        let argv = [SELF, ROLE, &at.to_string(), &store];
        let mut command = tied(&argv.map(str::to_owned), None, rustix::process::Signal::KILL.as_raw());
        let child = command.stdin(Stdio::null()).stdout(copy).stderr(to).spawn();
        Ok(Self { at, child: child.doing(|| "start the hub".into())?, log })
    }

    /// Wait until it says that it listens, and answers. Another hub that has our address answers too, but is not ours.
    fn await_answer(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(15);
        loop {
            let listens =
                std::fs::read_to_string(&self.log).unwrap_or_default().contains("listening on http://");
            let answer =
                if listens { self.get("/healthz").map(|_| ()) } else { Err(Trouble::told("silence")) };
            let Err(trouble) = answer else { return Ok(()) };
            let ended = !matches!(self.child.try_wait(), Ok(None));
            if ended || Instant::now() > deadline {
                let (why, log) = (trouble.line(), last_lines(&self.log, 15));
                return Err(Trouble::told(format!(
                    "the hub does not answer ({why}). The last of its log:\n{log}"
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The page's address.
    pub(crate) fn page(&self) -> String {
        format!("http://{}/", self.at)
    }

    /// Every node.
    pub(crate) fn nodes(&self) -> Result<Vec<NodeRow>> {
        read::<NodesPage>(&self.get("/api/v1/nodes")?).map(|page| page.nodes)
    }

    /// Every item of a node.
    pub(crate) fn items(&self, node: &str) -> Result<Vec<ItemRow>> {
        read::<ItemsPage>(&self.get(&format!("/api/v1/nodes/{node}"))?).map(|page| page.items)
    }

    /// The newest entries of a node's timeline, newest first.
    pub(crate) fn timeline(&self, node: &str) -> Result<Vec<Entry>> {
        let body = self.get(&format!("/api/v1/nodes/{node}/timeline?limit=100"))?;
        let page: serde_json::Map<String, serde_json::Value> = read(&body)?;
        let entries = page.into_iter().find_map(|(_, value)| value.is_array().then_some(value));
        serde_json::from_value(entries.unwrap_or_default())
            .map_err(|error| Trouble::told(format!("the hub's timeline: {error}")))
    }

    /// The first entry since `from` (unix ms) that tells of a repair of `item`, as soon as the hub has one.
    ///
    /// An item can be repaired and go on waiting for something else, and is `pending` then: its drift about `about` was
    /// told, and is told no more.
    pub(crate) fn await_repair(
        &self,
        node: &str,
        item: &str,
        about: Option<&str>,
        from: i64,
        within: Duration,
    ) -> Result<Option<Entry>> {
        let deadline = Instant::now() + within;
        loop {
            let new = |entry: &Entry| {
                entry.item.as_deref() == Some(item) && entry.time.is_some_and(|at| at.unix_ms() >= from)
            };
            // Oldest of the new ones first: that is the one this drift was told by.
            let entries: Vec<Entry> = self.timeline(node)?.into_iter().rev().filter(new).collect();
            if let Some(entry) = repair(&entries, about) {
                return Ok(Some(entry.clone()));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The body of a 200 answer.
    fn get(&self, path: &str) -> Result<String> {
        let wait = Duration::from_secs(5);
        let doing = || format!("ask the hub for {path}");
        let mut stream = TcpStream::connect_timeout(&self.at, wait).doing(doing)?;
        stream.set_read_timeout(Some(wait)).doing(doing)?;
        // HTTP/1.0: the answer ends with the connection, and comes in one piece.
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: application/json\r\n\r\n", self.at);
        stream.write_all(request.as_bytes()).doing(doing)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).doing(doing)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.split(' ').nth(1) != Some("200") {
            let line = head.lines().next().unwrap_or("nothing");
            return Err(Trouble::told(format!("ask the hub for {path}: {line} {body}")));
        }
        Ok(body.to_owned())
    }

    /// End it.
    pub(crate) fn end(&mut self) {
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        );
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && millis(start.elapsed()) < 3000.0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The entry that tells of a repair, among an item's entries from old to new.
fn repair<'a>(entries: &'a [Entry], about: Option<&str>) -> Option<&'a Entry> {
    let named =
        |entry: &Entry| about.is_some_and(|about| entry.drift.iter().any(|drift| drift.attr == about));
    let waits = |entry: &Entry| entry.status == Status::Pending.word();
    let over = entries.last().is_some_and(|last| waits(last) && !named(last));
    entries
        .iter()
        .find(|entry| entry.status == Status::Repaired.word() || (over && waits(entry) && named(entry)))
}

fn read<T: serde::de::DeserializeOwned>(body: &str) -> Result<T> {
    serde_json::from_str(body).map_err(|error| Trouble::told(format!("the hub's answer: {error}")))
}

/// The usual address, or another where that one is taken.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind(USUAL).or_else(|_| TcpListener::bind("127.0.0.1:0"));
    listener.and_then(|listener| listener.local_addr()).doing(|| "find a free port".into())
}

#[cfg(test)]
mod tests {
    use super::{Entry, repair};
    use evenkeel_report::{Drift, Layer};

    fn entry(status: &str, attr: &str) -> Entry {
        let drift =
            Drift { attr: attr.to_owned(), layer: Layer::Daemon, observed: None, desired: "60".to_owned() };
        Entry { time: None, item: None, status: status.to_owned(), drift: vec![drift], writer: None }
    }

    #[test]
    fn an_item_that_waits_for_a_restart_is_repaired_once_its_drift_is_told_no_more() {
        let told = entry("pending", "tcp_keepalives_idle");
        let waits = entry("pending", "shared_buffers");
        let about = Some("tcp_keepalives_idle");
        assert!(repair(std::slice::from_ref(&waits), about).is_none(), "nothing was told of it");
        assert!(repair(std::slice::from_ref(&told), about).is_none(), "it is still off");
        assert!(repair(&[told, waits.clone()], about).is_some());
        assert!(repair(&[entry("error", "tcp_keepalives_idle"), waits], about).is_none());
        assert!(repair(&[entry("repaired", "value")], None).is_some());
    }
}
