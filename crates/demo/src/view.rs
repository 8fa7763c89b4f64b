//! What the person sees: a story that scrolls, and on a terminal a table below it that is kept up to date.
//! Only prints; decides nothing.

use crate::hub::NodeRow;
use anstyle::{AnsiColor, Style};
use evenkeel_report::{Liveness, Sync};
use std::io::{IsTerminal, Write};
use std::time::Instant;

/// The screen.
pub(crate) struct View {
    live: bool,
    start: Instant,
    /// What is below the story: lines of the table, as drawn last.
    drawn: usize,
    block: Vec<String>,
}

/// How a line of the story is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// What the demo does.
    Plain,
    /// What somebody breaks.
    Break,
    /// What is right again.
    Good,
    /// What went wrong.
    Bad,
    /// An aside.
    Faint,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Break => AnsiColor::Yellow.on_default(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
            Self::Faint => Style::new().dimmed(),
        }
    }
}

/// A cell with more than this is cut: columns stay columns.
const NAME: usize = 8;

impl View {
    /// A view on standard output.
    pub(crate) fn new() -> Self {
        let live =
            std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { live, start: Instant::now(), drawn: 0, block: Vec::new() }
    }

    /// One line of the story.
    pub(crate) fn say(&mut self, tone: Tone, text: &str) {
        let style = tone.style();
        let mut out = anstream::stdout().lock();
        let _ = write!(out, "{}", self.erase());
        let seconds = self.start.elapsed().as_secs_f64();
        for (at, line) in text.lines().enumerate() {
            let stamp = if at == 0 { format!("{seconds:7.1} s ") } else { " ".repeat(10) };
            let _ = writeln!(out, "{stamp} {style}{line}{style:#}");
        }
        let _ = write!(out, "{}", self.redrawn());
        let _ = out.flush();
    }

    /// The table below the story, as the hub tells it now. On something that is no terminal: nothing.
    pub(crate) fn table(&mut self, rows: &[NodeRow], below: &[String]) {
        if !self.live {
            return;
        }
        let erase = self.erase();
        let width =
            rustix::termios::tcgetwinsize(std::io::stdout()).map_or(80, |size| usize::from(size.ws_col));
        self.block = std::iter::once(String::new())
            .chain(table(rows))
            .chain(below.iter().map(|line| line.chars().take(width.max(20) - 1).collect()))
            .collect();
        let mut out = anstream::stdout().lock();
        let _ = write!(out, "{erase}{}", self.redrawn());
        let _ = out.flush();
    }

    /// Leave the table where it is and go on below it.
    pub(crate) fn finish(&mut self) {
        self.drawn = 0;
        self.block.clear();
    }

    /// What takes the table off the screen.
    fn erase(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}F\x1b[J", self.drawn) }
    }

    fn redrawn(&mut self) -> String {
        self.drawn = self.block.len();
        self.block.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

/// The nodes, a line each below a head.
pub(crate) fn table(rows: &[NodeRow]) -> Vec<String> {
    let faint = Tone::Faint.style();
    let head = format!(
        "{faint}{:NAME$} {:11} {:9} {:13} {:>5} {:>7} {:>4} {:>6} {:>5}{faint:#}",
        "node", "tier", "voice", "spec", "even", "pending", "off", "errors", "n/a"
    );
    let line = |row: &NodeRow| {
        let counts = &row.counts;
        let commit =
            row.spec.observed_commit.as_deref().unwrap_or("none").chars().take(7).collect::<String>();
        let spec = match row.spec.sync {
            Sync::Synced => commit,
            Sync::Failed => format!("{commit}, new ✗"),
            _ => format!("{commit} …"),
        };
        let tone = if row.liveness != Liveness::Online || counts.error + counts.non_compliant > 0 {
            Tone::Bad
        } else if row.spec.sync != Sync::Synced || counts.pending > 0 {
            Tone::Break
        } else {
            Tone::Good
        };
        let style = tone.style();
        let even = counts.compliant + counts.repaired;
        let voice = word(row.liveness);
        format!(
            "{style}{:NAME$.NAME$} {:11.11} {voice:9} {spec:13} {even:>5} {:>7} {:>4} {:>6} {:>5}{style:#}",
            row.name, row.tier, counts.pending, counts.non_compliant, counts.error, counts.not_applicable
        )
    };
    std::iter::once(head).chain(rows.iter().map(line)).collect()
}

fn word(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Online => "online",
        Liveness::Late => "late",
        Liveness::Silent => "silent",
        Liveness::NeverReported => "unheard",
        Liveness::Missing | Liveness::Decommissioned => "gone",
    }
}

/// Milliseconds for people.
pub(crate) fn took(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 10_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1000.0),
    }
}

/// The first line of a text, cut to `most` characters: a file of forty lines is not told in a story.
pub(crate) fn short(text: &str, most: usize) -> String {
    let line = text.lines().find(|line| !line.starts_with('#') && !line.is_empty()).unwrap_or("(empty)");
    if line.chars().count() <= most {
        return line.to_owned();
    }
    line.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::{short, took};

    #[test]
    fn a_files_first_own_line_stands_for_it() {
        assert_eq!(short("# a head\n\nkey = 1\nkey = 2\n", 20), "key = 1");
        assert_eq!(short("a very long line of text", 10), "a very lo…");
        assert_eq!(short("", 10), "(empty)");
    }

    #[test]
    fn times_are_told_as_finely_as_they_matter() {
        assert_eq!([took(1.234), took(153.7), took(12_345.6)], ["1.2 ms", "154 ms", "12.3 s"]);
    }
}
