//! Looking at a node, and timing how long something stays broken there. Never asks an agent: the kernel, the files,
//! the mount table and the database answer.

use crate::keeper::run;
use crate::trouble::{Doing, Result, Trouble};
use crate::words::{Answer, Look, Timing};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is seen where nothing is.
pub(crate) const NOTHING: &str = "(nothing)";

/// How long something may look unbroken after a break before it counts as repaired faster than the looks.
const GRACE: Duration = Duration::from_millis(400);

/// How long a watcher of a break looks without a pause.
const SHARP: Duration = Duration::from_millis(300);

/// A duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Look once.
pub(crate) fn look(look: &Look) -> Result<String> {
    match look {
        Look::File(path) => match fs::read(path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(NOTHING.to_owned()),
            Err(error) => Err(error).doing(|| format!("read {}", path.display())),
        },
        Look::Mount { target, sentinel } => mounted(target, sentinel.as_deref()),
        Look::Unprotected { port } => {
            let table =
                fs::read_to_string("/proc/net/tcp").doing(|| "read the table of connections".into())?;
            let how = if without_timer(&table, *port) { "one or more" } else { "no connection" };
            Ok(format!("{how} without a keepalive timer"))
        }
        Look::Sql { psql, query, user } => {
            let argv: Vec<String> = psql.iter().chain([query]).cloned().collect();
            match run(&argv, *user)? {
                Answer::Ran { code: 0, out } if out.is_empty() => Ok(NOTHING.to_owned()),
                Answer::Ran { code: 0, out } => Ok(out),
                Answer::Ran { out, .. } => Err(Trouble::told(format!("{query}: {out}"))),
                _ => Err(Trouble::told("psql gave nothing")),
            }
        }
    }
}

/// What the kernel has mounted at `target`, the last line of its table that names it.
fn mounted(target: &Path, sentinel: Option<&str>) -> Result<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").doing(|| "read the mount table".into())?;
    let Some(line) = mount_line(&table, target) else { return Ok(NOTHING.to_owned()) };
    Ok(match sentinel {
        Some(name) if target.join(name).exists() => format!("{line}, {name} is in it"),
        Some(name) => format!("{line}, {name} is NOT in it"),
        None => line,
    })
}

/// Root, type and access of a mount: `/shares/uploads tmpfs rw`.
fn mount_line(table: &str, target: &Path) -> Option<String> {
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let dash = fields.iter().position(|&field| field == "-")?;
        let (root, point, flags) = (fields.get(3)?, fields.get(4)?, fields.get(5)?);
        let access = flags.split(',').next()?;
        (Path::new(point) == target)
            .then(|| format!("{root} {} {access}", fields.get(dash + 1).unwrap_or(&"")))
    };
    table.lines().filter_map(of_line).next_back()
}

/// Whether an established connection to a port has no timer at all: the state is the fourth field, the timer the sixth.
fn without_timer(table: &str, port: u16) -> bool {
    let bare = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, _, remote, "01", _, timer, ..] = fields[..] else { return false };
        remote.ends_with(&format!(":{port:04X}")) && timer.starts_with("00:")
    };
    table.lines().any(bare)
}

/// How long to wait between two looks that nobody times: a query costs a whole process.
fn pause(look: &Look) -> Duration {
    match look {
        Look::Sql { .. } => Duration::from_millis(20),
        Look::File(_) | Look::Mount { .. } | Look::Unprotected { .. } => Duration::from_millis(1),
    }
}

/// Between two looks at a break: no pause at all at first, since a repair may take less than a pause would.
fn breath(look: &Look, since_break: Option<Duration>) {
    match look {
        Look::File(_) | Look::Mount { .. } | Look::Unprotected { .. }
            if since_break.is_none_or(|since| since < SHARP) =>
        {
            std::thread::yield_now();
        }
        look => std::thread::sleep(pause(look)),
    }
}

/// Look until `want` is seen. What was seen last, and how long it took.
pub(crate) fn until(at: &Look, want: &str, within: Duration) -> (String, Option<Duration>) {
    let start = Instant::now();
    loop {
        let seen = look(at).unwrap_or_else(|trouble| trouble.line());
        if seen == want {
            return (seen, Some(start.elapsed()));
        }
        if start.elapsed() > within {
            return (seen, None);
        }
        std::thread::sleep(pause(at));
    }
}

/// Keep looking while `break_it` runs and afterwards, until all is as it was.
pub(crate) fn time_a_break(
    at: &Look,
    within: Duration,
    break_it: impl FnOnce() -> Result<()>,
) -> Result<Timing> {
    let before = look(at)?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch(at, &before, within, &done));
        let broke = break_it();
        done.store(true, Ordering::Release);
        let timing = watch.join().map_err(|_| Trouble::told("the watcher of a break came to grief"))?;
        broke.map(|()| timing)
    })
}

fn watch(at: &Look, before: &str, within: Duration, done: &AtomicBool) -> Timing {
    let start = Instant::now();
    let mut timing = Timing { before: before.to_owned(), ..Timing::default() };
    let (mut broken_at, mut unbroken_since, mut done_at) = (None, None, None);
    loop {
        let broken_before = done.load(Ordering::Acquire);
        // A look that fails, as at a server that reloads, is neither broken nor right.
        if let Ok(seen) = look(at) {
            let now = Instant::now();
            timing.after.clone_from(&seen);
            if broken_before {
                done_at.get_or_insert(now);
            }
            if seen != before {
                broken_at.get_or_insert(now);
                timing.broken.get_or_insert(seen);
            } else if let Some(since) = broken_at {
                timing.ms = Some(millis(now.duration_since(since)));
                return timing;
            } else if broken_before {
                let since = *unbroken_since.get_or_insert(now);
                if now.duration_since(since) > GRACE {
                    timing.ms = Some(millis(since.duration_since(start)));
                    return timing;
                }
            }
        }
        if start.elapsed() > within {
            return timing;
        }
        breath(at, done_at.map(|done_at: Instant| done_at.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{NOTHING, mount_line, time_a_break, until, without_timer};
    use crate::words::Look;
    use std::path::Path;
    use std::sync::mpsc;
    use std::time::Duration;

    const TABLE: &str = "\
36 35 0:40 / /home rw,nosuid - tmpfs tmpfs rw,mode=755
37 36 0:41 /shares/old /home/prod/up rw,relatime - tmpfs tmpfs rw
38 36 0:41 /shares/uploads /home/prod/up ro,relatime shared:1 - tmpfs tmpfs rw
";

    #[test]
    fn a_connection_without_a_timer_is_told_from_one_with() {
        let listens = "0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1";
        let other_end = "3: 0100007F:1538 0100007F:8000 01 00000000:00000000 00:00000000 00000000 0 0 4";
        let kept = "2: 0100007F:8001 0100007F:1538 01 00000000:00000000 02:00000A2C 00000000 0 0 3";
        let bare = "1: 0100007F:8000 0100007F:1538 01 00000000:00000000 00:00000000 00000000 0 0 2";
        assert!(!without_timer(&[listens, other_end, kept].join("\n"), 5432));
        assert!(without_timer(&[listens, kept, bare].join("\n"), 5432) && !without_timer(bare, 80));
    }

    #[test]
    fn the_topmost_mount_counts() {
        let seen = mount_line(TABLE, Path::new("/home/prod/up"));
        assert_eq!(seen.as_deref(), Some("/shares/uploads tmpfs ro"));
        assert_eq!(mount_line(TABLE, Path::new("/home/prod")), None);
    }

    #[test]
    fn a_break_is_timed_from_the_look_that_saw_it_to_the_look_that_saw_it_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        std::fs::write(&path, "60\n").unwrap();
        let (tell, told) = mpsc::channel::<()>();
        let repaired = path.clone();
        let helper = std::thread::spawn(move || {
            told.recv().unwrap();
            std::thread::sleep(Duration::from_millis(30));
            std::fs::write(&repaired, "60\n").unwrap();
        });
        let timing = time_a_break(&Look::File(path.clone()), Duration::from_secs(10), || {
            std::fs::remove_file(&path).unwrap();
            tell.send(()).unwrap();
            Ok(())
        });
        helper.join().unwrap();
        let timing = timing.unwrap();
        assert_eq!((timing.before.as_str(), timing.broken.as_deref()), ("60", Some(NOTHING)));
        assert!(timing.ms.unwrap() >= 25.0, "{timing:?}");
    }

    #[test]
    fn what_is_never_repaired_has_no_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("value");
        std::fs::write(&path, "60").unwrap();
        let timing = time_a_break(&Look::File(path.clone()), Duration::from_millis(50), || {
            std::fs::write(&path, "7200").unwrap();
            Ok(())
        });
        let timing = timing.unwrap();
        assert_eq!((timing.ms, timing.after.as_str()), (None, "7200"));
        let (last, took) = until(&Look::File(path), "60", Duration::from_millis(5));
        assert_eq!((last.as_str(), took), ("7200", None));
    }
}
