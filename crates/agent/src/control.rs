//! The agent's socket: one line of JSON in, one line of JSON out, for root alone.
//!
//! Whoever connects is asked of the kernel who he is. A question changes nothing but when a look is taken.

use crate::enforce::Ask;
use crate::enforce::standing::Standing;
use crate::reporter::HubStanding;
use evenkeel_report::{Counts, Item, Node, SpecState, Spool};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};

/// The most bytes of a question.
const QUESTION_CAP: u64 = 4096;
/// The most bytes of an answer that are read.
const ANSWER_CAP: u64 = 64 << 20;
/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask", deny_unknown_fields)]
pub(crate) enum Question {
    /// How does everything stand?
    Status,
    /// Ask the source now.
    Pull,
    /// Make a pass over every section now.
    Pass,
    /// Tell the hub everything again.
    FullReport,
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// How everything stands.
    Status(Box<Status>),
    /// It will be done.
    Done,
    /// It will not.
    Error(String),
}

/// How everything stands: what `evenkeel status --format json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// In one sentence.
    pub(crate) sentence: String,
    /// Whether nothing is off and the newest spec is in force.
    pub(crate) even: bool,
    /// Which node.
    pub(crate) node: Node,
    /// The agent's version.
    pub(crate) version: String,
    /// Its process.
    pub(crate) pid: u32,
    /// Which spec.
    pub(crate) spec: SpecState,
    /// How many items stand how.
    pub(crate) counts: Counts,
    /// Over every item.
    pub(crate) state_digest: String,
    /// Seconds since the last pass ended.
    pub(crate) last_pass_age_s: Option<u64>,
    /// What is looked at by the clock only, and why.
    #[serde(default)]
    pub(crate) degraded: Vec<String>,
    /// The hub.
    pub(crate) hub: Hub,
    /// The memory the agent takes, in bytes.
    pub(crate) rss_bytes: u64,
    /// Every item, worst first.
    pub(crate) items: Vec<Item>,
}

/// How the link to the hub stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hub {
    /// Whom is told; nothing where no hub is configured.
    pub(crate) url: Option<String>,
    /// Seconds since it last took something.
    pub(crate) reached_age_s: Option<u64>,
    /// Why it did not, since.
    pub(crate) trouble: Option<String>,
    /// What waits to be told.
    pub(crate) spool: Spool,
    /// Reports it will never take.
    pub(crate) refused: u64,
    /// How it shuts this node out, where it does: `not_enrolled`, `banned`, …
    #[serde(default)]
    pub(crate) shut: Option<String>,
    /// Until when this node's certificate holds.
    #[serde(default)]
    pub(crate) certified_until: Option<evenkeel_report::Timestamp>,
}

/// What the socket is joined to.
#[derive(Clone)]
pub(crate) struct Joints {
    /// The configuration in force.
    pub(crate) config: watch::Receiver<std::sync::Arc<crate::config::Config>>,
    /// How the node stands.
    pub(crate) standing: watch::Receiver<Standing>,
    /// How the link to the hub stands.
    pub(crate) hub: watch::Receiver<HubStanding>,
    /// To the enforcing loop.
    pub(crate) asks: mpsc::Sender<Ask>,
    /// To the pulling loop.
    pub(crate) pulls: mpsc::Sender<()>,
}

/// Where the socket is.
pub(crate) fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("agent.sock")
}

/// Listen in `run_dir`.
///
/// # Errors
/// The socket cannot be made, or another agent answers on it.
pub(crate) fn listen(run_dir: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = path(run_dir);
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        let why = format!("another agent runs already; it answers on {}", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    }
    evenkeel_host::files::remove(&path)?;
    let listener = UnixListener::bind(&path)?;
    // The folder is ours alone already; this holds where somebody opened it.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answer until the task is dropped.
pub(crate) async fn serve(listener: UnixListener, joints: Joints) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let joints = joints.clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(PATIENCE, converse(stream, joints)).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the socket takes no one in");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(mut stream: UnixStream, joints: Joints) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    // Root, or whoever the agent itself runs as in a test.
    let ours = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
    let reply = if peer.uid() == 0 || peer.uid() == ours {
        let (read, _) = stream.split();
        let mut line = String::new();
        BufReader::new(read.take(QUESTION_CAP)).read_line(&mut line).await?;
        match serde_json::from_str(&line) {
            Ok(question) => joints.answer(question).await,
            Err(error) => Reply::Error(format!("not a question: {error}")),
        }
    } else {
        tracing::warn!(uid = peer.uid(), "somebody who is not root asked, and was refused");
        Reply::Error("for root alone".to_owned())
    };
    let mut bytes = serde_json::to_vec(&reply)?;
    bytes.push(b'\n');
    stream.write_all(&bytes).await
}

impl Joints {
    async fn answer(&self, question: Question) -> Reply {
        let gone = |()| Reply::Error("the agent is stopping".to_owned());
        match question {
            Question::Status => {
                self.status().await.map_or_else(Reply::Error, |it| Reply::Status(Box::new(it)))
            }
            Question::Pull => self.pulls.send(()).await.map_or_else(|_| gone(()), |()| Reply::Done),
            Question::Pass => self.asks.send(Ask::Pass).await.map_or_else(|_| gone(()), |()| Reply::Done),
            Question::FullReport => {
                self.asks.send(Ask::Full).await.map_or_else(|_| gone(()), |()| Reply::Done)
            }
        }
    }

    async fn status(&self) -> Result<Status, String> {
        let (tell, told) = oneshot::channel();
        self.asks.send(Ask::Items(tell)).await.map_err(|_| "the agent is stopping")?;
        let mut items = told.await.map_err(|_| "the agent is stopping")?;
        items.sort_by(|a, b| b.status.cmp(&a.status).then_with(|| a.id.cmp(&b.id)));
        let (standing, hub) = (self.standing.borrow().clone(), self.hub.borrow().clone());
        Ok(Status {
            even: standing.even(),
            spec: standing.spec_now(),
            sentence: standing.sentence,
            node: standing.node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            counts: standing.counts,
            state_digest: standing.digest,
            last_pass_age_s: standing.last_pass.map(|at| at.elapsed().as_secs()),
            degraded: standing.degraded,
            hub: Hub {
                url: self.config.borrow().hub.clone(),
                reached_age_s: hub.reached.map(|at| at.elapsed().as_secs()),
                trouble: hub.trouble,
                spool: hub.spool,
                refused: hub.refused,
                shut: hub.shut.map(|shut| shut.word().to_owned()),
                certified_until: hub.certified_until.and_then(evenkeel_report::Timestamp::from_unix_ms),
            },
            rss_bytes: evenkeel_host::identity::rss_bytes(),
            items,
        })
    }
}

/// Ask the agent that runs over `run_dir`. Blocks.
///
/// # Errors
/// None runs there, or it does not answer well.
pub(crate) fn ask(run_dir: &Path, question: Question) -> io::Result<Reply> {
    use std::io::{BufRead, Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(path(run_dir))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(&question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    io::BufReader::new(stream.take(ANSWER_CAP)).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{Ask, HubStanding, Joints, Question, Reply, Standing, ask, listen, path, serve};
    use crate::config::Config;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
    use std::sync::Arc;
    use tokio::sync::{mpsc, watch};

    #[tokio::test]
    async fn a_question_is_answered_and_nonsense_is_told_as_such() {
        let folder = tempfile::tempdir().unwrap();
        let listener = listen(folder.path()).unwrap();
        assert_eq!(std::fs::metadata(path(folder.path())).unwrap().mode() & 0o777, 0o600);
        let config = Config::parse(Path::new("t"), "", "h", &|_| None).unwrap();
        let (asks, mut asked) = mpsc::channel(1);
        let (pulls, mut pulled) = mpsc::channel(1);
        let joints = Joints {
            config: watch::channel(Arc::new(config)).1,
            standing: watch::channel(Standing { sentence: "even: 0 items".into(), ..Standing::default() }).1,
            hub: watch::channel(HubStanding::default()).1,
            asks,
            pulls,
        };
        tokio::spawn(serve(listener, joints));
        let asking = |question| {
            let folder = folder.path().to_owned();
            tokio::task::spawn_blocking(move || ask(&folder, question).unwrap())
        };
        let status = asking(Question::Status);
        let Some(Ask::Items(tell)) = asked.recv().await else { panic!("items are asked for") };
        tell.send(vec![]).unwrap();
        let Reply::Status(status) = status.await.unwrap() else { panic!("a status") };
        assert_eq!((status.sentence.as_str(), status.pid), ("even: 0 items", std::process::id()));
        assert!(matches!(asking(Question::Pull).await.unwrap(), Reply::Done));
        assert_eq!(pulled.recv().await, Some(()));
        let answer = {
            let path = path(folder.path());
            tokio::task::spawn_blocking(move || {
                use std::io::{Read, Write};
                let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
                stream.write_all(b"{\"ask\":\"exec\"}\n").unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                text
            })
        };
        assert!(answer.await.unwrap().contains("not a question"));
        let second = listen(folder.path()).unwrap_err().to_string();
        assert!(second.contains("another agent"), "{second}");
    }
}
