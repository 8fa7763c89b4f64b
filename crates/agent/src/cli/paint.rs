//! Colours and plain printing. Colour is for terminals only, and `NO_COLOR` is obeyed; anstream sees to both.

use super::{Ending, Failure};
use anstyle::{AnsiColor, Style};
use evenkeel_report::Status;
use std::io::Write as _;

fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

fn coloured(colour: AnsiColor, text: &str) -> String {
    styled(Style::new().fg_color(Some(colour.into())), text)
}

/// What is wrong.
pub(super) fn bad(text: &str) -> String {
    coloured(AnsiColor::Red, text)
}

/// What wants an eye.
pub(super) fn warn(text: &str) -> String {
    coloured(AnsiColor::Yellow, text)
}

/// What is well.
pub(super) fn good(text: &str) -> String {
    coloured(AnsiColor::Green, text)
}

/// What something is called.
pub(super) fn name(text: &str) -> String {
    styled(Style::new().bold(), text)
}

/// What is said beside.
pub(super) fn aside(text: &str) -> String {
    styled(Style::new().dimmed(), text)
}

/// A status word in its colour.
pub(super) fn status(status: Status) -> String {
    let word = status.word();
    match status {
        Status::Error | Status::NonCompliant => bad(word),
        Status::Pending | Status::Repaired => warn(word),
        Status::Compliant => good(word),
        _ => aside(word),
    }
}

/// Whether standard output gets colours.
pub(super) fn has_colours() -> bool {
    anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never
}

/// Print bytes as they are.
pub(super) fn raw(bytes: &[u8]) -> Ending {
    match std::io::stdout().lock().write_all(bytes) {
        Ok(()) => Ok(0),
        // Who closes the pipe has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(Failure::wrong(&error)),
    }
}

/// Print a value as JSON, and end with `code`.
pub(super) fn json(value: &impl serde::Serialize, code: u8) -> Ending {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| Failure::wrong(&error))?;
    text.push('\n');
    raw(text.as_bytes()).map(|_| code)
}

/// Print a text that may have colours in it, and end with `code`.
pub(super) fn text(text: &str, code: u8) -> Ending {
    match anstream::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::wrong(&error)),
        _ => Ok(code),
    }
}
