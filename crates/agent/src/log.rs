//! Where the log goes: to journald with structured fields under systemd, to the terminal otherwise.
//!
//! One event is one line: control characters in what others wrote are escaped, so nobody can forge a line or paint
//! over one.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::linux::fs::MetadataExt as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

/// Set the log up, once. `EVENKEEL_LOG` filters it (`debug`, `evenkeel_agent=trace`); `level` is the default.
pub(crate) fn start(level: &str) {
    let filter = || EnvFilter::try_from_env("EVENKEEL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    if under_journald()
        && let Ok(journal) = tracing_journald::layer()
    {
        let journal = journal.with_syslog_identifier("evenkeel".to_owned());
        let journal = journal.with_field_prefix(Some("EVENKEEL".to_owned()));
        let _ = tracing_subscriber::registry().with(journal.with_filter(filter())).try_init();
        return;
    }
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(|| Escaped);
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter())).try_init();
}

/// Whether our standard error is the journal's socket, as `systemd.exec(5)` says to find out.
fn under_journald() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(seen) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", seen.st_dev(), seen.st_ino())
}

/// Standard error, where one write is one event.
struct Escaped;

impl Write for Escaped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let line = plain(text.trim_end_matches('\n'));
        io::stderr().lock().write_all(format!("{line}\n").as_bytes())?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// `text` with every control character written as an escape: it stays on one line and paints nothing.
pub(crate) fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
        // Bidirectional overrides reorder what a terminal shows, and are no control characters to `char`.
        if c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
        line
    })
}

#[cfg(test)]
mod tests {
    use super::plain;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_is_logged_stays_on_one_line_and_paints_nothing(text in "(\\PC|[\u{0}-\u{9f}\u{2028}\u{202e}]){0,40}") {
            let line = plain(&text);
            prop_assert!(!line.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{202e}'), "{line:?}");
        }
    }

    #[test]
    fn ordinary_text_is_left_alone() {
        assert_eq!(plain("tiers/db.yaml:9: «naïve»"), "tiers/db.yaml:9: «naïve»");
    }
}
