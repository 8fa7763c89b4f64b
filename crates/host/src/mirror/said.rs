//! What rsync says, read: which files differ, its statistics, how far it has come, why it failed. Pure.

use evenkeel_core::{Class, Compared, grouped};
use std::collections::BTreeSet;

/// So many names are told to a person.
const TOLD: usize = 3;
/// So many names are kept, to tell what was carried over from what changed since.
const KEPT: usize = 20_000;

/// What a run has said so far.
#[derive(Debug, Default)]
pub(super) struct Said {
    rest: Vec<u8>,
    change: usize,
    created: usize,
    remove: usize,
    folders: usize,
    removed_folders: usize,
    /// Files and folders that differ.
    pub(super) names: BTreeSet<String>,
    first: Vec<String>,
    source: Option<usize>,
    /// Files whose content was, or would be, sent.
    pub(super) sent: Option<usize>,
    /// How far it has come, for a person.
    pub(super) progress: Option<String>,
}

impl Said {
    /// Take in what it said; lines may come in pieces.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let mut rest = std::mem::take(&mut self.rest);
        let whole = rest.iter().rposition(|byte| matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
        let tail = rest.split_off(whole);
        for line in rest.split(|byte| matches!(byte, b'\n' | b'\r')) {
            self.line(&String::from_utf8_lossy(line));
        }
        self.rest = tail;
    }

    fn line(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("*deleting ") {
            self.gone(name.trim_start());
        } else if let Some((item, name)) = itemized(line) {
            self.differs(item, name);
        } else if let Some(numbers) = line.strip_prefix("Number of files: ") {
            self.source = files(numbers);
        } else if let Some(number) = line.strip_prefix("Number of regular files transferred: ") {
            self.sent = number.trim().parse().ok();
        } else if let Some(progress) = progress(line) {
            self.progress = Some(progress);
        }
    }

    fn gone(&mut self, name: &str) {
        if name.ends_with('/') {
            self.removed_folders += 1;
        } else {
            self.remove += 1;
        }
        self.name(name);
    }

    fn differs(&mut self, item: &str, name: &str) {
        let folder = item.as_bytes().get(1) == Some(&b'd');
        if folder {
            self.folders += 1;
        } else {
            self.change += 1;
        }
        if !folder && item.ends_with('+') {
            self.created += 1;
        }
        self.name(name);
    }

    fn name(&mut self, name: &str) {
        if self.first.len() < TOLD {
            self.first.push(name.chars().take(120).collect());
        }
        if self.names.len() < KEPT {
            self.names.insert(name.to_owned());
        }
    }

    /// The comparison, where it has come to its end.
    pub(super) fn compared(&self) -> Option<Compared> {
        let source = self.source?;
        Some(Compared {
            change: self.change + self.folders + self.removed_folders,
            remove: self.remove,
            names: self.first.clone(),
            source,
            here: (source + self.remove).saturating_sub(self.created),
        })
    }

    /// How many files and folders would be removed, as `--max-delete` counts.
    pub(super) fn deletions(&self) -> usize {
        self.remove + self.removed_folders
    }
}

/// A line of `--out-format='%i %n%L'`: eleven letters, of which the first says what is done and the second to what.
fn itemized(line: &str) -> Option<(&str, &str)> {
    let (item, name) = line.split_once(' ')?;
    let letters = item.as_bytes();
    let known = letters.len() >= 9 && b"<>ch.".contains(&letters[0]) && b"fdLDS".contains(&letters[1]);
    known.then_some((item, name))
}

/// `9 (reg: 6, dir: 2, link: 1)`: those that are no folders.
fn files(numbers: &str) -> Option<usize> {
    let (all, parts) = numbers.split_once(' ').unwrap_or((numbers, ""));
    let all: usize = all.trim().parse().ok()?;
    let folders = parts.split_once("dir: ").map_or("0", |(_, rest)| rest);
    let folders: usize = folders.split([',', ')']).next()?.parse().ok()?;
    Some(all.saturating_sub(folders))
}

/// A line of `--info=progress2`: `1,238,099  43%  146.38kB/s  0:00:08 (xfr#5, to-chk=169/396)`.
fn progress(line: &str) -> Option<String> {
    let percent = line.split_whitespace().nth(1)?.strip_suffix('%')?;
    let percent: u8 = percent.parse().ok()?;
    let sent = line.split_once("(xfr#").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
    match sent {
        Some(1) => Some(format!("{percent} %, 1 file")),
        Some(sent) => Some(format!("{percent} %, {} files", grouped(sent))),
        None => None,
    }
}

/// Why rsync failed, for a person, and whether that may pass by itself.
pub(super) fn failure(code: Option<i32>, stderr: &str) -> (Class, String) {
    if code == Some(127) {
        return (Class::Trouble, "rsync is not installed here: install it".to_owned());
    }
    let noise = |line: &&str| {
        line.is_empty()
            || line.starts_with('@')
            || line.starts_with("rsync error:")
            || line.contains("connection unexpectedly closed")
    };
    let why = stderr.lines().map(str::trim).rfind(|line| !noise(line));
    let why = why.map(|line| line.chars().filter(|one| !one.is_control()).take(300).collect());
    let why: String = why.unwrap_or_else(|| match code {
        Some(30 | 35) => "it did not go on in time".to_owned(),
        Some(12 | 255) => "the connection was closed".to_owned(),
        Some(code) => format!("rsync ended with code {code} and no word"),
        None => "a signal ended rsync".to_owned(),
    });
    // What a person has to put right, and what a network may put right.
    let refused = ["Host key verification failed", "Permission denied", "REMOTE HOST IDENTIFICATION"];
    let refused = refused.iter().any(|word| stderr.contains(word));
    let passing = matches!(code, None | Some(10 | 12 | 30 | 35 | 255));
    (if passing && !refused { Class::Waiting } else { Class::Trouble }, why)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const TEXT: &str = "*deleting   gone/q\n*deleting   gone/\n*deleting   old\n>f..t...... f1\n>f+++++++++ f2\n\
                        cL+++++++++ l -> f1\ncd+++++++++ sub/\n\nNumber of files: 9 (reg: 6, dir: 2, link: 1)\n\
                        Number of regular files transferred: 2\nNumber of deleted files: 3 (reg: 2, dir: 1)\n";

    #[test]
    fn a_comparison_is_read_wherever_its_lines_are_cut() {
        for cut in 1..TEXT.len() {
            let mut said = Said::default();
            TEXT.as_bytes().chunks(cut).for_each(|part| said.hear(part));
            let compared = said.compared().unwrap();
            assert_eq!((compared.change, compared.remove, said.deletions()), (5, 2, 3), "cut every {cut}");
            // 7 in the source, 2 of them new, and 2 here that go.
            assert_eq!((compared.source, compared.here, said.sent), (7, 7, Some(2)));
            assert_eq!(compared.names, ["gone/q", "gone/", "old"]);
        }
    }

    #[test]
    fn one_that_broke_off_is_no_comparison() {
        let mut said = Said::default();
        said.hear(b">f+++++++++ f2\n");
        assert_eq!(said.compared(), None);
    }

    #[test]
    fn progress_is_told_in_files_and_per_cent() {
        let mut said = Said::default();
        said.hear(b"\r  2  14%    0.00kB/s    0:00:00  \r  2,400  43%    0.00kB/s    0:00:00 (xfr#1204, to-chk=7/9)\n");
        assert_eq!(said.progress.as_deref(), Some("43 %, 1,204 files"));
    }

    #[test]
    fn why_it_failed_is_what_came_before_its_last_words() {
        let text = "@@@@@\nHost key verification failed.\nrsync: connection unexpectedly closed (0 bytes received so far) [Receiver]\n\
                    rsync error: unexplained error (code 255) at io.c(232) [Receiver=3.5.0]\n";
        assert_eq!(failure(Some(255), text), (Class::Trouble, "Host key verification failed.".to_owned()));
        let away = "ssh: connect to host mw1 port 22: Connection refused\r\nrsync error: x\n";
        let (class, why) = failure(Some(255), away);
        assert_eq!(
            (class, why.as_str()),
            (Class::Waiting, "ssh: connect to host mw1 port 22: Connection refused")
        );
        assert_eq!(failure(Some(30), "rsync error: timeout\n").1, "it did not go on in time");
        assert!(failure(Some(127), "ionice: failed to execute rsync").1.contains("not installed"));
    }
}
