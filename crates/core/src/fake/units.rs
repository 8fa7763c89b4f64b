//! The fake node's systemd: mounts start as their unit files were when they were last read, services as they are asked.

use super::FakeNode;
use crate::{Fault, SystemdVerb, UnitSeen};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const UNITS: &str = "/etc/systemd/system";

impl FakeNode {
    pub(super) fn see_units(&self, names: &[String]) -> Result<BTreeMap<String, UnitSeen>, Fault> {
        if !self.systemd {
            return Err(Fault::new("systemd does not run here"));
        }
        Ok(names.iter().map(|name| (name.clone(), self.unit(name))).collect())
    }

    fn unit(&self, name: &str) -> UnitSeen {
        if let Some(unit) = self.units.get(name) {
            return unit.clone();
        }
        let path = Path::new(UNITS).join(name);
        match self.loaded.get(name) {
            Some(text) => UnitSeen {
                load: "loaded".into(),
                active: "inactive".into(),
                fragment: path.display().to_string(),
                need_daemon_reload: self.files.get(&path) != Some(text),
                ..UnitSeen::default()
            },
            None => UnitSeen { load: "not-found".into(), active: "inactive".into(), ..UnitSeen::default() },
        }
    }

    pub(super) fn systemctl(&mut self, verb: SystemdVerb, unit: &str) -> Result<(), Fault> {
        if verb == SystemdVerb::DaemonReload {
            self.units.values_mut().for_each(|unit| unit.need_daemon_reload = false);
            let units = self.files.iter().filter_map(|(path, text)| {
                let name = path.strip_prefix(UNITS).ok()?.to_str()?;
                (!name.contains('/')).then(|| (name.to_owned(), text.clone()))
            });
            self.loaded = units.collect();
            return Ok(());
        }
        let now = self.clock_us();
        if let Some(known) = self.units.get_mut(unit) {
            return service(verb, unit, known, now);
        }
        // Enabling works on the file, starting on what was read from it.
        let on_disk = self.files.get(&Path::new(UNITS).join(unit));
        let text = match verb {
            SystemdVerb::Enable | SystemdVerb::Disable => on_disk,
            _ => self.loaded.get(unit),
        };
        let text = text.cloned().ok_or_else(|| Fault::new(format!("systemd knows no unit {unit}")))?;
        self.mount_unit(verb, unit, &text)
    }

    fn mount_unit(&mut self, verb: SystemdVerb, unit: &str, text: &str) -> Result<(), Fault> {
        let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        let wants = Path::new(UNITS).join(format!("{}.wants", line("WantedBy="))).join(unit);
        let target = PathBuf::from(line("Where=").replace("%%", "%"));
        match verb {
            SystemdVerb::Start | SystemdVerb::Stop if unit.as_bytes().ends_with(b".automount") => {
                return self.automount(verb, unit, &target);
            }
            SystemdVerb::Start => {
                let options: Vec<String> = line("Options=").split(',').map(str::to_owned).collect();
                self.mount(&line("What=").replace("%%", "%"), &target, line("Type="), &options)?;
            }
            SystemdVerb::Stop => self.unmount(&target),
            SystemdVerb::Enable => {
                self.files.insert(wants, String::new());
            }
            SystemdVerb::Disable => {
                self.files.remove(&wants);
            }
            SystemdVerb::Reload | SystemdVerb::DaemonReload | SystemdVerb::Restart => {}
        }
        Ok(())
    }
    /// Refused where something is mounted, as the real one does.
    fn automount(&mut self, verb: SystemdVerb, unit: &str, target: &Path) -> Result<(), Fault> {
        let at = |entry: &&crate::MountEntry| entry.target == *target;
        let (waits, mounted): (Vec<_>, Vec<_>) =
            self.mounts.iter().filter(at).partition(|entry| entry.fstype == "autofs");
        match verb {
            SystemdVerb::Start if !mounted.is_empty() => {
                Err(Fault::new(format!("start {unit}: something is mounted there")))
            }
            SystemdVerb::Start if waits.is_empty() => self.mount("systemd-1", target, "autofs", &[]),
            SystemdVerb::Stop => {
                self.unmount(target);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn service(verb: SystemdVerb, name: &str, unit: &mut UnitSeen, now_us: u64) -> Result<(), Fault> {
    // What is masked may still be stopped.
    if unit.load != "loaded" && !(unit.load == "masked" && verb == SystemdVerb::Stop) {
        return Err(Fault::new(format!("systemd knows no unit {name}")));
    }
    match verb {
        SystemdVerb::Start | SystemdVerb::Restart => {
            "active".clone_into(&mut unit.active);
            "running".clone_into(&mut unit.sub);
            "success".clone_into(&mut unit.result);
            (unit.restarts, unit.hold_off, unit.since_us) = (0, false, now_us);
        }
        SystemdVerb::Stop => {
            "inactive".clone_into(&mut unit.active);
            "dead".clone_into(&mut unit.sub);
        }
        SystemdVerb::Enable => "enabled".clone_into(&mut unit.file_state),
        SystemdVerb::Disable => "disabled".clone_into(&mut unit.file_state),
        SystemdVerb::Reload if unit.active != "active" => {
            return Err(Fault::new(format!("{name} is not active, cannot reload")));
        }
        SystemdVerb::Reload | SystemdVerb::DaemonReload => {}
    }
    Ok(())
}
