//! How a measurement goes, on standard error: a line for every finding, and on a terminal a line that moves.

use crate::cli::paint;
use evenkeel_core::ageing::{Fate, Observation};
use evenkeel_host::ageing::Progress;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// Tells whoever waits.
pub(super) struct Teller {
    moves: bool,
    at_most: Duration,
    /// How wide the line is that moves, or was.
    drawn: usize,
    survived: Duration,
}

impl Teller {
    /// For a measurement that takes `at_most`.
    pub(super) fn new(at_most: Duration) -> Self {
        Self { moves: std::io::stderr().is_terminal(), at_most, drawn: 0, survived: Duration::ZERO }
    }

    /// Something became known.
    pub(super) fn tell(&mut self, progress: &Progress<'_>) {
        match progress {
            Progress::Round(ages) => {
                let ages: Vec<String> = ages.iter().map(|age| spoken(*age)).collect();
                self.line(&paint::aside(&format!("silent now, to be asked after {}", ages.join(", "))));
            }
            Progress::Fewer(open, why) => {
                let why = crate::log::plain(&evenkeel_core::chain(*why));
                self.line(&paint::warn(&format!("only {open} connections could be opened: {why}")));
            }
            Progress::Seen(seen) => {
                if seen.fate == Fate::Survived {
                    self.survived = self.survived.max(seen.age);
                }
                self.line(&finding(*seen));
            }
            Progress::Waiting(spent, open) if self.moves => self.draw(*spent, *open),
            Progress::Waiting(..) => {}
        }
    }

    /// A line that stays.
    pub(super) fn line(&mut self, line: &str) {
        self.end();
        anstream::eprintln!("{line}");
    }

    /// Take the moving line away.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.drawn) > 0 {
            // Home, and clear to the end of the line.
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }

    fn draw(&mut self, spent: Duration, open: usize) {
        let line = format!(
            "{} of at most {}, {open} silent, {} survived",
            spoken(Duration::from_secs(spent.as_secs())),
            spoken(self.at_most),
            spoken(self.survived)
        );
        self.end();
        self.drawn = line.len();
        let mut to = anstream::stderr().lock();
        let _ = write!(to, "{}", paint::aside(&line)).and_then(|()| to.flush());
    }
}

fn finding(seen: Observation) -> String {
    let age = spoken(seen.age);
    match seen.fate {
        Fate::Survived => format!("{} {age} of silence", paint::good("survived")),
        Fate::Dropped => format!("{} after {age}: nothing comes back", paint::bad("dropped")),
        Fate::Reset => format!("{} after {age}", paint::bad("reset")),
        Fate::Closed => format!("{} after {age}, by the other end itself", paint::warn("closed")),
        Fate::Talked => paint::warn("not silent: the other end speaks by itself"),
        Fate::Unreachable | Fate::Untried => paint::aside("lost on this machine"),
    }
}

/// A duration for a person: `850 ms`, `2.94 s`, `37.5 s`, `5 min 50 s`, `2 h 5 min`.
pub(super) fn spoken(duration: Duration) -> String {
    let trimmed = |text: String| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    let (seconds, exact) = (duration.as_secs(), duration.as_secs_f64());
    let two = |large: u64, big: &str, small: u64, little: &str| match small {
        0 => format!("{large} {big}"),
        _ => format!("{large} {big} {small} {little}"),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..10 => format!("{} s", trimmed(format!("{exact:.2}"))),
        10..60 => format!("{} s", trimmed(format!("{exact:.1}"))),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        _ => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_a_person_would() {
        let of = |seconds: f64| spoken(Duration::from_secs_f64(seconds));
        for (seconds, said) in [
            (0.85, "850 ms"),
            (2.941, "2.94 s"),
            (3.0, "3 s"),
            (37.5, "37.5 s"),
            (350.0, "5 min 50 s"),
            (1200.0, "20 min"),
            (7500.0, "2 h 5 min"),
        ] {
            assert_eq!(of(seconds), said);
        }
    }
}
