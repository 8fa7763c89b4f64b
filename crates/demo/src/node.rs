//! The demo's end of a node: starts its keeper and asks it. Never enters the node's namespaces itself.

use crate::child::{SELF, tied};
use crate::keeper;
use crate::trouble::{Doing, Result, Trouble};
use crate::words::{Answer, Ask, Look, Plan, Ready, Stop, Timing, User};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a node gets to go by itself.
const PATIENCE: Duration = Duration::from_secs(8);

/// One node.
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// How it came to be.
    pub(crate) ready: Ready,
    /// Where its daemons log.
    logs: PathBuf,
    keeper: Child,
    pipes: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

impl Node {
    /// Start a node; must be called from the thread that lives as long as the demo.
    pub(crate) fn start(plan: &Plan) -> Result<Self> {
        let text = serde_json::to_string(plan).map_err(|error| Trouble::told(error.to_string()))?;
        let argv = [SELF, keeper::ROLE, &text].map(str::to_owned);
        let mut command = tied(&argv, None, rustix::process::Signal::KILL.as_raw());
        let mut keeper = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .doing(|| format!("start {}", plan.name))?;
        let (Some(to), Some(from)) = (keeper.stdin.take(), keeper.stdout.take()) else {
            return Err(Trouble::told("a keeper without pipes"));
        };
        let mut from = BufReader::new(from);
        let ready: std::result::Result<Ready, String> = heard(&mut from)?;
        let ready = ready.map_err(|why| Trouble::told(format!("make the node {}: {why}", plan.name)))?;
        let pipes = Mutex::new(Some((to, from)));
        Ok(Self { name: plan.name.clone(), ready, logs: plan.logs.clone(), keeper, pipes })
    }

    /// The process that holds the node's namespaces: `nsenter -t PID …` goes there.
    pub(crate) fn pid(&self) -> u32 {
        self.keeper.id()
    }

    /// Ask the keeper, one question at a time.
    pub(crate) fn ask(&self, ask: &Ask) -> Result<Answer> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((to, from)) = pipes.as_mut() else {
            return Err(Trouble::told(format!("{} is gone", self.name)));
        };
        let line = serde_json::to_string(ask).map_err(|error| Trouble::told(error.to_string()))?;
        writeln!(to, "{line}").and_then(|()| to.flush()).doing(|| format!("ask {}", self.name))?;
        match heard(from)? {
            Answer::Failed(why) => Err(Trouble::told(format!("{}: {why}", self.name))),
            answer => Ok(answer),
        }
    }

    /// Run a program to its end; it must succeed. What it printed.
    pub(crate) fn run(&self, argv: &[&str], user: User) -> Result<String> {
        let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
        match self.ask(&Ask::Run { argv: argv.clone(), user })? {
            Answer::Ran { code: 0, out } => Ok(out),
            Answer::Ran { code, out } => {
                Err(Trouble::told(format!("{}: `{}` ended with {code}: {out}", self.name, argv.join(" "))))
            }
            _ => Err(self.puzzled()),
        }
    }

    /// Start a program that stays.
    pub(crate) fn daemon(&self, name: &str, argv: Vec<String>, user: User, stop: Stop) -> Result<()> {
        self.ask(&Ask::Start { name: name.to_owned(), argv, user, stop }).map(|_| ())
    }

    /// Write a file there.
    pub(crate) fn write(&self, path: impl Into<PathBuf>, text: &str, mode: u32, user: User) -> Result<()> {
        self.ask(&Ask::Write { path: path.into(), text: text.to_owned(), mode, user }).map(|_| ())
    }

    /// Look there.
    pub(crate) fn look(&self, look: &Look) -> Result<String> {
        match self.ask(&Ask::Look(look.clone()))? {
            Answer::Seen(seen) => Ok(seen),
            _ => Err(self.puzzled()),
        }
    }

    /// Look there until `want` is seen. What was seen last, and after how many milliseconds it was as wanted.
    pub(crate) fn until(&self, look: &Look, want: &str, within: Duration) -> Result<(String, Option<f64>)> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        match self.ask(&Ask::Await { look: look.clone(), want: want.to_owned(), within_ms })? {
            Answer::Awaited { last, ms } => Ok((last, ms)),
            _ => Err(self.puzzled()),
        }
    }

    /// Break something there, and time how long it stays broken.
    pub(crate) fn break_it(
        &self,
        argv: &[String],
        user: User,
        look: &Look,
        within: Duration,
    ) -> Result<Timing> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        match self.ask(&Ask::Break { argv: argv.to_vec(), user, look: look.clone(), within_ms })? {
            Answer::Broken(timing) => Ok(timing),
            _ => Err(self.puzzled()),
        }
    }

    /// Trouble when one of its daemons has ended, with the last of what it logged.
    pub(crate) fn alive(&self) -> Result<()> {
        match self.ask(&Ask::Ended)? {
            Answer::Ended(ended) => match ended.first() {
                None => Ok(()),
                Some((name, how)) => Err(Trouble::told(format!(
                    "{name} on {} ended ({how}). The last of its log:\n{}",
                    self.name,
                    last_lines(&self.logs.join(format!("{name}.log")), 15)
                ))),
            },
            _ => Err(self.puzzled()),
        }
    }

    fn puzzled(&self) -> Trouble {
        Trouble::told(format!("{} answered another question", self.name))
    }

    /// Ask it to go; [`Node::gone`] waits for it.
    pub(crate) fn end(&self) {
        *self.pipes.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Wait until it is gone, its daemons and namespaces with it.
    pub(crate) fn gone(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.keeper.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn heard<T: serde::de::DeserializeOwned>(from: &mut impl BufRead) -> Result<T> {
    let mut line = String::new();
    from.read_line(&mut line).doing(|| "hear from a node".into())?;
    if line.is_empty() {
        return Err(Trouble::told("a node ended; what it said last is above"));
    }
    serde_json::from_str(&line).map_err(|error| Trouble::told(format!("hear from a node: {error}: {line}")))
}

/// The last lines of a file, each indented.
pub(crate) fn last_lines(path: &Path, count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines[from..].iter().fold(String::new(), |text, line| text + "    " + line + "\n")
}
