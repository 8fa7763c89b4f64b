//! The sweeper: a process that does nothing but wait until the demo is gone, however it went, and then removes the
//! demo's folder. It is not tied to the demo; that is its point.

use crate::child::SELF;
use crate::trouble::{Doing, Result, Trouble};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The word by which this binary knows that it is to sweep.
pub(crate) const ROLE: &str = "sweep";

/// The demo's end of the sweeper.
pub(crate) struct Sweeper(Child);

impl Sweeper {
    /// Start it for `folder`.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let mut command = Command::new(SELF);
        command.arg(ROLE).arg(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.current_dir("/").process_group(0).spawn().doing(|| "start the sweeper".into())?))
    }

    /// The demo is over: keep the folder, or wait until it is gone.
    pub(crate) fn finish(mut self, keep: bool) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.write_all(if keep { b"keep" } else { b"" });
        }
        let _ = self.0.wait();
    }
}

/// The sweeper itself.
pub(crate) fn sweep(folder: &Path) -> Result<()> {
    let named = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("evenkeel-demo-"));
    if !named {
        return Err(Trouble::told(format!("{} is no folder of the demo's", folder.display())));
    }
    let mut said = String::new();
    std::io::stdin().read_to_string(&mut said).doing(|| "wait for the demo".into())?;
    if said == "keep" {
        return Ok(());
    }
    // Whoever was killed with the demo may still be writing its last.
    for _ in 0..100 {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {}
            _ if !folder.exists() => return Ok(()),
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(Trouble::told(format!("{} could not be removed", folder.display())))
}
