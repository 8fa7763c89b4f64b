//! The last words of a unit: what its last finished run wrote to the journal, without what differs from run to run.
//!
//! They become part of a report, and equal causes must read equal: times and process ids are left out. What systemd
//! itself says of the unit is left out too, since it counts.

use crate::program::Program;
use serde_json::Value;
use std::time::Duration;

/// How long the journal may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// How many entries are read, for a few runs of a unit that says little.
const ENTRIES: &str = "40";
/// The most that those may take.
const LONGEST: usize = 1 << 20;
/// How many lines are told, and how long each may be, in characters.
const LINES: usize = 5;
const WIDTH: usize = 200;

/// The last lines of the last run of a unit that is over, oldest first. `run` is the run that systemd knows of, and `over`
/// whether that one is. Nothing where the journal does not answer.
pub(super) fn last(unit: &str, run: &str, over: bool) -> Vec<String> {
    let journal = Program::new("journalctl").args([
        "--boot",
        "--quiet",
        "--no-pager",
        "--output=json",
        "--output-fields=MESSAGE,_SYSTEMD_INVOCATION_ID",
        "--lines",
        ENTRIES,
        &format!("_SYSTEMD_UNIT={unit}"),
    ]);
    let Ok(output) = journal.run(DEADLINE, LONGEST) else { return vec![] };
    told(&String::from_utf8_lossy(&output.stdout), run, over)
}

fn told(entries: &str, run: &str, over: bool) -> Vec<String> {
    let entries = entries.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let id = |entry: &Value| entry["_SYSTEMD_INVOCATION_ID"].as_str().unwrap_or_default().to_owned();
    // What a run that goes on has said so far is no cause of anything yet, and differs from look to look.
    let finished: Vec<Value> = entries.filter(|entry| over || id(entry) != run).collect();
    let Some(newest) = finished.last().map(id) else { return vec![] };
    let its = finished.iter().filter(|entry| id(entry) == newest);
    let lines = its.flat_map(|entry| message(entry).lines().map(plain).collect::<Vec<_>>());
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].to_vec()
}

/// What an entry says. What is not UTF-8 comes as numbers.
fn message(entry: &Value) -> String {
    let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
    match &entry["MESSAGE"] {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            String::from_utf8_lossy(&bytes.iter().filter_map(byte).collect::<Vec<_>>()).into_owned()
        }
        _ => String::new(),
    }
}

/// A line without times, process ids and control characters, and no longer than anybody reads.
pub(crate) fn plain(line: &str) -> String {
    let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    let mut words: Vec<String> = vec![];
    for word in line.split_whitespace().filter(|word| !is_time(word)) {
        let counts = words.last().is_some_and(|last| {
            matches!(core(last).to_ascii_lowercase().as_str(), "pid" | "process" | "worker")
        });
        words.push(if counts && is_number(core(word)) { hidden(word) } else { word_of(word) });
    }
    words.join(" ").chars().flat_map(|c| escaped(c).chars().collect::<Vec<_>>()).take(WIDTH).collect()
}

/// A word as it is told: `nginx[812]:` without its number, and `812#812:`, as nginx writes processes, not at all.
fn word_of(word: &str) -> String {
    if core(word).split_once('#').is_some_and(|(one, two)| is_number(one) && is_number(two)) {
        return hidden(word);
    }
    let Some((before, rest)) = word.split_once('[') else { return word.to_owned() };
    match rest.split_once(']') {
        Some((number, after)) if is_number(number) => format!("{before}[…]{after}"),
        _ => word.to_owned(),
    }
}

/// A word with what is inside of its punctuation left out.
fn hidden(word: &str) -> String {
    word.replace(core(word), "…")
}

/// A word without the punctuation around it.
fn core(word: &str) -> &str {
    word.trim_matches(|c: char| "[](){}<>,;:\"'".contains(c))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

/// Whether a word is a date, a time of day, or both: `2026-11-25`, `25/11/2026`, `18:10:01.123`, `2026-11-25T18:10:01Z`.
fn is_time(word: &str) -> bool {
    let core = core(word);
    let parts = |by: char| {
        let parts: Vec<&str> = core.split(by).collect();
        parts.len() == 3 && parts.iter().all(|part| part.starts_with(|c: char| c.is_ascii_digit()))
    };
    let made_of = core.bytes().all(|c| c.is_ascii_digit() || b":-/.,+TZ".contains(&c));
    core.len() >= 8 && made_of && (parts(':') || parts('-') || parts('/') || core.matches(':').count() >= 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_process_ids_are_left_out_and_everything_else_stays() {
        for (line, expected) in [
            ("2026-11-25 18:10:01.123 UTC [1234] FATAL:  could not bind", "UTC […] FATAL: could not bind"),
            (
                "2026/11/25 18:10:01 [emerg] 77#77: bind() to 0.0.0.0:80 failed",
                "[emerg] …: bind() to 0.0.0.0:80 failed",
            ),
            ("2026-11-25T18:10:01+01:00 nginx[812]: no 10.20.0.10:5432", "nginx[…]: no 10.20.0.10:5432"),
            ("spawned uWSGI worker 1 (pid: 4711, cores: 1)", "spawned uWSGI worker … (pid: …, cores: 1)"),
            ("listen on [::1]:8080, code=203", "listen on [::1]:8080, code=203"),
            ("a\u{1b}[31mb", "a\\u{1b}[31mb"),
        ] {
            assert_eq!(plain(line), expected);
        }
        assert_eq!(plain(&"x".repeat(1000)).chars().count(), WIDTH);
    }

    fn entry(run: &str, message: &Value) -> String {
        format!("{}\n", serde_json::json!({"_SYSTEMD_INVOCATION_ID": run, "MESSAGE": message}))
    }

    #[test]
    fn the_last_run_that_is_over_is_the_one_that_is_told() {
        let one = entry("a", &"one".into());
        let two = entry("b", &"two".into()) + &entry("b", &serde_json::json!([116, 119, 255]));
        let three = entry("c", &"three".into());
        let all = format!("{one}{two}{three}no json\n");
        assert_eq!(told(&all, "c", false), ["two", "tw\u{fffd}"]);
        assert_eq!(told(&all, "c", true), ["three"]);
        assert_eq!(told(&three, "c", false), [""; 0]);
        let many: String = (0..9).map(|n| entry("d", &format!("line {n}").into())).collect();
        assert_eq!(told(&many, "d", true), ["line 4", "line 5", "line 6", "line 7", "line 8"]);
    }
}
