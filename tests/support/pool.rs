//! A pool of workers' connections, in a real process with real libpq: `tests/lab/pool.py`, driven from a test.

use super::{Node, lab_file, signal};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A running pool; killed when dropped.
pub struct Pool {
    child: Child,
    requests: Mutex<(ChildStdin, u64)>,
    answers: Arc<Answers>,
}

/// One of its connections.
#[derive(Debug, Clone, Copy)]
pub struct Connection {
    /// Its number in the pool.
    pub id: usize,
    /// The process that serves it, in the database node's own count.
    pub backend: u32,
    /// Its port on the client's side.
    pub port: u16,
}

/// What came of a request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// How long it took, as the pool's process measured it.
    pub seconds: f64,
    /// What libpq said, where it failed.
    pub error: Option<String>,
    /// The whole line.
    pub line: Value,
}

/// A request that is under way.
pub struct Asked {
    number: u64,
    answers: Arc<Answers>,
}

#[derive(Default)]
struct Answers {
    come: Mutex<HashMap<u64, Answer>>,
    more: Condvar,
}

impl Pool {
    /// Start one on a node.
    pub fn start(node: &Node, conninfo: &str) -> Self {
        let mut command = node.command("/usr/bin/python3");
        command.arg(lab_file("pool.py")).arg(conninfo);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let requests = Mutex::new((child.stdin.take().unwrap(), 0));
        let answers = Arc::new(Answers::default());
        let (from, to) = (child.stdout.take().unwrap(), answers.clone());
        std::thread::spawn(move || sort(from, &to));
        Self { child, requests, answers }
    }

    /// Open connections; `conninfo` has options beside the pool's own, `keepalives=0` or `user=app`.
    pub fn open(&self, count: usize, conninfo: &str) -> Vec<Connection> {
        let answer = self.send(json!({"open": count, "conninfo": conninfo})).answer(Duration::from_mins(1));
        assert_eq!(answer.error, None, "{count} connections open");
        let number =
            |field: &str, at: usize| usize::try_from(answer.line[field][at].as_u64().unwrap()).unwrap();
        let one = |at| Connection {
            id: number("ids", at),
            backend: u32::try_from(number("pids", at)).unwrap(),
            port: u16::try_from(number("ports", at)).unwrap(),
        };
        (0..count).map(one).collect()
    }

    /// Open one.
    pub fn open_one(&self, conninfo: &str) -> Connection {
        self.open(1, conninfo)[0]
    }

    /// Ask on a connection. Those of one connection wait for each other, those of several do not.
    pub fn ask(&self, on: Connection, sql: &str) -> Asked {
        self.send(json!({"query": on.id, "sql": sql}))
    }

    /// Throw a connection away and open it again.
    pub fn reopen(&self, on: Connection) -> Asked {
        self.send(json!({"reopen": on.id}))
    }

    /// SIGKILL: the workers are gone, and whatever they had to say to the database is the kernel's to send.
    pub fn kill(mut self) {
        signal(&self.child, "KILL");
        self.child.wait().unwrap();
    }

    fn send(&self, mut request: Value) -> Asked {
        let mut requests = self.requests.lock().unwrap();
        requests.1 += 1;
        let number = requests.1;
        request["number"] = json!(number);
        writeln!(requests.0, "{request}").unwrap();
        Asked { number, answers: self.answers.clone() }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Asked {
    /// Wait for the answer; panics after `within`.
    pub fn answer(self, within: Duration) -> Answer {
        let deadline = Instant::now() + within;
        let mut come = self.answers.come.lock().unwrap();
        loop {
            if let Some(answer) = come.remove(&self.number) {
                return answer;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no answer within {within:?}");
            come = self.answers.more.wait_timeout(come, left).unwrap().0;
        }
    }

    /// Whether it is answered by now.
    pub fn is_answered(&self) -> bool {
        self.answers.come.lock().unwrap().contains_key(&self.number)
    }
}

/// Hand the answers to whoever waits for them, until the pool's process ends.
fn sort(from: ChildStdout, to: &Answers) {
    for line in BufReader::new(from).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = Answer {
            seconds: line["seconds"].as_f64().unwrap(),
            error: line["error"].as_str().map(str::to_owned),
            line: line.clone(),
        };
        to.come.lock().unwrap().insert(line["number"].as_u64().unwrap(), answer);
        to.more.notify_all();
    }
}
