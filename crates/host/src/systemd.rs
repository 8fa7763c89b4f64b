//! Units, by way of systemctl(1).

use crate::program::{Program, ProgramError};
use crate::units;
use evenkeel_core::{Class, Fault, SystemdVerb};
use std::path::Path;
use std::time::Duration;

/// How long a verb may take. A unit that needs longer goes on starting, and the next pass looks again.
const DEADLINE: Duration = Duration::from_secs(30);

/// How long a service must last to count as started.
const MOMENT: Duration = Duration::from_millis(300);
/// How long a mount may take: one whose server is away takes as long as its unit lets it, and other mounts wait.
const MOUNT: Duration = Duration::from_secs(10);

/// Whether systemd is the service manager here, `sd_booted(3)`.
pub(crate) fn runs() -> bool {
    rustix::fs::lstat(Path::new("/run/systemd/system")).is_ok()
}

/// Ask for something and wait until it is done.
pub(crate) fn ask(verb: SystemdVerb, unit: &str) -> Result<(), Fault> {
    let doing = if unit.is_empty() {
        format!("systemctl {}", verb.word())
    } else {
        format!("systemctl {} {unit}", verb.word())
    };
    let program = Program::new("systemctl").args(["--no-ask-password", "--quiet", verb.word()]);
    let program = if unit.is_empty() { program } else { program.args(["--", unit]) };
    let deadline = if unit.as_bytes().ends_with(b".mount") { MOUNT } else { DEADLINE };
    match program.run(deadline, 64 << 10) {
        Ok(output) if output.code == Some(0) => lasts(verb, unit, &doing),
        Ok(output) => {
            let state = last_line(unit).map_or_else(String::new, |line| format!("; {line}"));
            Err(Fault::from(doing, format!("{}{state}", output.complaint())))
        }
        Err(error @ ProgramError::Deadline { .. }) => Err(Fault::from(doing, error).class(Class::Waiting)),
        Err(error) => Err(Fault::from(doing, error)),
    }
}

/// Whether a service that was started is still there in a moment. systemd calls most of them started once there is a
/// process, and many that cannot work end at once.
fn lasts(verb: SystemdVerb, unit: &str, doing: &str) -> Result<(), Fault> {
    if !matches!(verb, SystemdVerb::Start | SystemdVerb::Restart) || !unit.as_bytes().ends_with(b".service") {
        return Ok(());
    }
    std::thread::sleep(MOMENT);
    let Some(seen) = units::see(&[unit.to_owned()]).ok().and_then(|mut units| units.remove(unit)) else {
        return Ok(());
    };
    if seen.active != "failed" && seen.sub != "auto-restart" {
        return Ok(());
    }
    let said = seen.last_lines.join(" | ");
    let said = if said.is_empty() { said } else { format!("; it said last: {said}") };
    Err(Fault::from(doing.to_owned(), format!("it ended at once ({}){said}", seen.result)))
}

/// What the unit said last, without the time it said it.
fn last_line(unit: &str) -> Option<String> {
    if unit.is_empty() {
        return None;
    }
    let status = Program::new("systemctl").args([
        "status",
        "--no-pager",
        "--full",
        "--lines=1",
        "--output=cat",
        "--",
        unit,
    ]);
    let output = status.run(Duration::from_secs(5), 64 << 10).ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(units::plain)
}
