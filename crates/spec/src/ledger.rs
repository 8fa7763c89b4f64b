//! Where problems are gathered while a repository is read: each once, with its line, and not without end.

use crate::show;
use crate::tree::Place;
use crate::{Bundle, Problem, Problems};
use evenkeel_core::Severity;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The most problems told of one file; the rest is counted.
const PER_FILE: usize = 30;
/// The most problems told of a repository; the rest is counted.
const IN_ALL: usize = 500;
/// The most characters of a line that are shown.
const LINE: usize = 160;
/// How much of a long line is shown before what is wrong.
const BEFORE: usize = 40;

/// The problems found so far.
pub(crate) struct Ledger<'a> {
    bundle: &'a Bundle,
    problems: Vec<Problem>,
    seen: BTreeSet<(Arc<str>, u32, u32, String)>,
    told: BTreeMap<Arc<str>, usize>,
    untold: BTreeMap<Arc<str>, usize>,
    errors: usize,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(bundle: &'a Bundle) -> Self {
        Self {
            bundle,
            problems: vec![],
            seen: BTreeSet::new(),
            told: BTreeMap::new(),
            untold: BTreeMap::new(),
            errors: 0,
        }
    }

    /// How many errors were found so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn error(
        &mut self,
        code: &'static str,
        at: &Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Severity::Error, code, at, message.into(), Some(help.into()));
    }

    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        at: &Place,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(Severity::Warning, code, at, message.into(), Some(help.into()));
    }

    pub(crate) fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        at: &Place,
        message: String,
        help: Option<String>,
    ) {
        self.errors += usize::from(severity == Severity::Error);
        let key = (at.file.clone(), at.line, at.column, message.clone());
        if self.seen.contains(&key) {
            return;
        }
        let told = self.told.entry(at.file.clone()).or_default();
        if *told >= PER_FILE || self.problems.len() >= IN_ALL {
            *self.untold.entry(at.file.clone()).or_default() += 1;
            return;
        }
        *told += 1;
        self.seen.insert(key);
        let (snippet, caret) = self.snippet(at);
        let (file, line, column, width) = (at.file.to_string(), at.line, at.column, at.width);
        let help = help.filter(|help| !help.is_empty());
        self.problems.push(Problem {
            code,
            severity,
            file,
            line,
            column,
            width,
            snippet,
            caret,
            message,
            help,
        });
    }

    /// Where a word stands in a file, from a place on.
    pub(crate) fn find(&self, from: &Place, word: &str) -> Option<Place> {
        let text = std::str::from_utf8(self.bundle.file(&from.file)?).ok()?;
        let first = from.line.checked_sub(1)?;
        let mut lines = text.lines().zip(1u32..).skip(first as usize);
        let (before, line) =
            lines.find_map(|(text, line)| Some((text.split_once(word).map(|(before, _)| before)?, line)))?;
        let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        Some(Place { line, column: count(before) + 1, width: count(word), ..from.clone() })
    }

    /// Everything, in the order of files and lines.
    pub(crate) fn close(mut self) -> Problems {
        let first_untold = self.untold.iter().next().map(|(file, _)| file.to_string());
        let count: usize = self.untold.values().sum();
        self.problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
        if let Some(file) = first_untold {
            self.problems.push(Problem {
                code: "more",
                severity: if self.errors > 0 { Severity::Error } else { Severity::Warning },
                file,
                line: 0,
                column: 0,
                width: 0,
                snippet: String::new(),
                caret: (0, 0),
                message: format!("{count} more problems are not shown"),
                help: Some("put those above right first".to_owned()),
            });
        }
        Problems(self.problems)
    }

    /// The line that is meant, escaped and cut, and which bytes of it to underline.
    fn snippet(&self, at: &Place) -> (String, (usize, usize)) {
        let bytes = self.bundle.file(&at.file).unwrap_or_default();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let Some(index) = at.line.checked_sub(1) else {
            return (String::new(), (0, 0));
        };
        let line = bytes.split(|byte| *byte == b'\n').nth(index as usize).unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = &line[..line.len().min(Bundle::FILE_CAP)];
        window(&String::from_utf8_lossy(line), at)
    }
}

/// The part of a line around what is meant.
fn window(line: &str, at: &Place) -> (String, (usize, usize)) {
    let start = at.column.saturating_sub(1) as usize;
    let skip = if start > LINE - BEFORE { start - BEFORE } else { 0 };
    let (mut text, mut from, mut to) = (String::new(), None, None);
    if skip > 0 {
        text.push('…');
    }
    let mut chars = line.chars().enumerate().skip(skip);
    for (index, c) in chars.by_ref().take(LINE) {
        if index == start {
            from = Some(text.len());
        }
        if index >= start + at.width.max(1) as usize && to.is_none() {
            to = Some(text.len());
        }
        if c == '\t' {
            text.push_str("    ");
        } else {
            text.push_str(&show::escaped(c.encode_utf8(&mut [0; 4])));
        }
    }
    let end = text.len();
    if chars.next().is_some() {
        text.push('…');
    }
    let from = from.unwrap_or(end);
    (text, (from, to.unwrap_or(end).max(from)))
}
