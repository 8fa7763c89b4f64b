//! Content that is shipped in a folder, copied once into the share that is mounted over it.
//!
//! It is put together in a folder beside where it belongs and moved into place last, so that a copy that was cut short is
//! begun anew and never taken for a whole one. cp(1) and mv(1) do the work, with a deadline: the share may hang.

use crate::below;
use crate::guard::Guard;
use crate::looking::SEED;
use crate::program::{Program, ProgramError};
use evenkeel_core::{Class, Fault};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

/// How long the whole copy may take.
const DEADLINE: Duration = Duration::from_mins(2);
/// How many names one call of mv(1) gets.
const NAMES: usize = 500;

/// Copy what lies below into what is mounted there. Whether that is empty was seen before.
pub(crate) fn seed(
    guard: &Guard,
    folder: &Path,
    sentinel: Option<&str>,
    (owner, group): (Option<&str>, Option<&str>),
) -> Result<(), Fault> {
    let doing = format!("copy what lies below {} into what is mounted there", folder.display());
    let Some(source) = below::door(guard, folder)? else {
        return Err(Fault::new(format!("{doing}: there is no such folder")));
    };
    let fault = |error: std::io::Error| Fault::from(doing.clone(), error);
    let mut names = vec![];
    below::each(source.try_clone().map_err(fault)?, &mut |name| {
        names.push(name);
        true
    })
    .map_err(fault)?;
    // The mark of the right export is the server's to make.
    names.retain(|name| Some(name.as_str()) != sentinel && name != SEED);
    let half = folder.join(SEED);
    // The copy of the mount is in nobody's tree; by our descriptor it can be reached.
    let from = format!("/proc/{}/fd/{}/.", std::process::id(), source.as_raw_fd());
    let run = |program: Program| finish(&doing, program.run(DEADLINE, 64 << 10));
    run(Program::new("cp").args(["-a", "-T", "--"]).arg(from).arg(&half))?;
    if owner.is_some() || group.is_some() {
        let whose = format!(
            "{}{}",
            owner.unwrap_or_default(),
            group.map(|group| format!(":{group}")).unwrap_or_default()
        );
        run(Program::new("chown").args(["-R", "-h", "--"]).arg(whose).arg(&half))?;
    }
    for some in names.chunks(NAMES) {
        let moving = Program::new("mv").args(["-n", "-t"]).arg(folder).arg("--");
        run(moving.args(some.iter().map(|name| half.join(name))))?;
    }
    run(Program::new("rm").args(["-r", "-f", "--"]).arg(&half))
}

fn finish(doing: &str, run: Result<crate::program::Output, ProgramError>) -> Result<(), Fault> {
    match run {
        Ok(output) if output.code == Some(0) => Ok(()),
        Ok(output) => Err(Fault::from(doing, output.complaint())),
        Err(error @ ProgramError::Start { .. }) => Err(Fault::from(doing, error).class(Class::NotApplicable)),
        Err(error) => Err(Fault::from(doing, error)),
    }
}
