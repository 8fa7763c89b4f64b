//! The keeper of a node: the process that holds its namespaces, starts its daemons, and looks.
//!
//! It answers one question at a time, a line of JSON each way. When its standard input ends, or the demo is gone, it
//! ends its daemons, and the node is no more.

use crate::child::{PATH, tied};
use crate::looks;
use crate::trouble::{Doing, Result, Trouble};
use crate::words::{Answer, Ask, Plan, Stop, User};
use crate::{relay, world};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The word by which this binary knows that it is to keep a node.
pub(crate) const ROLE: &str = "node";

/// How long daemons get to end by themselves.
const PATIENCE: Duration = Duration::from_secs(5);

/// Build the node and serve it. Comes back when nobody asks any more.
pub(crate) fn serve(plan: &str) -> Result<()> {
    let plan: Plan =
        serde_json::from_str(plan).map_err(|error| Trouble::told(format!("node plan: {error}")))?;
    let ready = world::enter(&plan).and_then(|ready| {
        relay::on_node(Path::new(world::HERE).join("hub.sock"))?;
        Ok(ready)
    });
    say(&ready.as_ref().map_err(Trouble::line))?;
    // What went wrong was told to whoever started this.
    if ready.is_err() {
        return Ok(());
    }
    let mut daemons = Daemons::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.doing(|| "read a question".into())?;
        let answer = match serde_json::from_str(&line) {
            Ok(ask) => answer(ask, &mut daemons).unwrap_or_else(|trouble| Answer::Failed(trouble.line())),
            Err(error) => Answer::Failed(format!("no question: {error}")),
        };
        say(&answer)?;
    }
    daemons.end();
    Ok(())
}

fn say(what: &impl serde::Serialize) -> Result<()> {
    let line = serde_json::to_string(what).map_err(|error| Trouble::told(error.to_string()))?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).doing(|| "answer".into())
}

fn answer(ask: Ask, daemons: &mut Daemons) -> Result<Answer> {
    Ok(match ask {
        Ask::Run { argv, user } => run(&argv, user)?,
        Ask::Start { name, argv, user, stop } => {
            daemons.start(name, &argv, user, stop)?;
            Answer::Done
        }
        Ask::Write { path, text, mode, user } => {
            write(&path, &text, mode, user)?;
            Answer::Done
        }
        Ask::Look(look) => Answer::Seen(looks::look(&look)?),
        Ask::Await { look, want, within_ms } => {
            let (last, took) = looks::until(&look, &want, Duration::from_millis(within_ms));
            Answer::Awaited { last, ms: took.map(looks::millis) }
        }
        Ask::Break { argv, user, look, within_ms } => {
            Answer::Broken(looks::time_a_break(&look, Duration::from_millis(within_ms), || {
                match run(&argv, user)? {
                    Answer::Ran { code: 0, .. } => Ok(()),
                    Answer::Ran { code, out } => {
                        Err(Trouble::told(format!("{argv:?} ended with {code}: {out}")))
                    }
                    _ => Ok(()),
                }
            })?)
        }
        Ask::Ended => Answer::Ended(daemons.ended()),
    })
}

/// Run a program to its end, and what it printed.
pub(crate) fn run(argv: &[String], user: User) -> Result<Answer> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Trouble::told("no program named"));
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    let output = command.output().doing(|| format!("run {program}"))?;
    let mut out = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        out.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    Ok(Answer::Ran { code: output.status.code().unwrap_or(-1), out: out.trim_end().to_owned() })
}

fn write(path: &Path, text: &str, mode: u32, user: User) -> Result<()> {
    let doing = || format!("write {} on the node", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).doing(doing)?;
    }
    fs::write(path, text).doing(doing)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).doing(doing)?;
    match user {
        Some((uid, gid)) => chown(path, Some(uid), Some(gid)).doing(doing),
        None => Ok(()),
    }
}

/// The programs that stay.
#[derive(Default)]
struct Daemons(BTreeMap<String, (Child, Stop)>);

impl Daemons {
    fn start(&mut self, name: String, argv: &[String], user: User, stop: Stop) -> Result<()> {
        let path = Path::new(world::HERE).join(format!("log/{name}.log"));
        let log = fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.doing(|| format!("open {}", path.display()))?;
        let copy = log.try_clone().doing(|| "share a log".into())?;
        let signal = match stop {
            Stop::Term => rustix::process::Signal::KILL,
            Stop::Int => rustix::process::Signal::INT,
        };
        let mut command = tied(argv, user, signal.as_raw());
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        let child = command.spawn().doing(|| format!("start {name}"))?;
        self.0.insert(name, (child, stop));
        Ok(())
    }

    /// Those that have ended, and how.
    fn ended(&mut self) -> Vec<(String, String)> {
        let gone = |(name, (child, _)): (&String, &mut (Child, Stop))| {
            child.try_wait().ok().flatten().map(|status| (name.clone(), status.to_string()))
        };
        self.0.iter_mut().filter_map(gone).collect()
    }

    /// Ask all of them to end, and see to it.
    fn end(&mut self) {
        for (child, stop) in self.0.values_mut() {
            let signal = match stop {
                Stop::Term => rustix::process::Signal::TERM,
                Stop::Int => rustix::process::Signal::INT,
            };
            // A child that has been waited for has given up its number; another process may have it now.
            if matches!(child.try_wait(), Ok(None)) {
                let _ = rustix::process::kill_process(rustix::process::Pid::from_child(child), signal);
            }
        }
        let deadline = Instant::now() + PATIENCE;
        for (child, _) in self.0.values_mut() {
            while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
