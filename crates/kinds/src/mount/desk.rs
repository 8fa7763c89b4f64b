//! Where a plan for the mounts is put together.
//!
//! Units first and together, with one daemon-reload that is owed before the first file is touched; then each mount.

use super::options::{self, Stand};
use super::table::{Identity, tell};
use super::want::Want;
use super::{DEBT, Have, Place, UnitFile, unit};
use evenkeel_core::{
    Drift, Finding, ItemPlan, Layer, Mode, Plan, Section, Step, SystemdVerb, Task, Verdict, Wish,
};
use std::collections::BTreeMap;
use std::path::Path;

/// Steps, by when they come.
#[derive(Default)]
struct Desk {
    plan: Plan,
    systemd: bool,
    stop: Vec<Task>,
    files: Vec<Task>,
    enable: Vec<Task>,
    mount: Vec<Task>,
}

/// One item while it is being planned.
struct Bench<'a> {
    name: &'a str,
    enforced: bool,
    plan: ItemPlan,
}

pub(super) fn plan(section: &Section<Want>, have: &Have) -> Plan {
    let mut desk = Desk { systemd: have.systemd, ..Desk::default() };
    let mut taken: BTreeMap<&Path, &str> = BTreeMap::new();
    for (name, item) in &section.items {
        let mut bench = Bench { name, enforced: item.enforced(), plan: ItemPlan::default() };
        match &have.places[name] {
            Err(why) => bench.find(Verdict::Error, why.clone(), None),
            Ok(place) => {
                let first = *taken.entry(&place.target).or_insert(name);
                match &item.wish {
                    _ if first != name => {
                        let why = format!(
                            "{first} is the same place, {}: keep one of the two",
                            place.target.display()
                        );
                        bench.find(Verdict::Error, why, None);
                    }
                    Wish::Keep(want) => desk.keep(&mut bench, want, place),
                    Wish::Absent(_) => desk.remove(&mut bench, place),
                }
            }
        }
        desk.plan.items.insert(name.clone(), bench.plan);
    }
    for (file, text, enabled, mounted) in &have.left {
        // An item whose place has moved is still the one to ask.
        let item = section.items.get(&unit::value(text, "Where"));
        let mode = item.map_or(section.mode, |item| item.mode);
        desk.leave(mode == Mode::Enforce, (file, text), *enabled, *mounted);
    }
    desk.finish(section, have.owed)
}

impl Bench<'_> {
    fn find(&mut self, verdict: Verdict, reason: String, drift: Option<Drift>) {
        self.plan.findings.push(Finding { verdict, reason, drift });
    }

    /// Something is off, and a step would put it right.
    fn off(&mut self, drift: Drift, to: &mut Vec<Task>, step: Step) {
        self.plan.drift.push(drift);
        if self.enforced {
            to.push(Task::new(self.name, step));
        }
    }
}

fn drift(attr: &str, layer: Layer, observed: Option<String>, desired: impl Into<String>) -> Drift {
    Drift { attr: attr.to_owned(), layer, observed, desired: desired.into() }
}

fn systemd(verb: SystemdVerb, unit: &str) -> Step {
    Step::Systemd { verb, unit: unit.to_owned() }
}

impl Desk {
    fn keep(&mut self, bench: &mut Bench, want: &Want, place: &Place) {
        if place.target.to_str().is_none_or(|path| path.chars().any(char::is_control)) {
            let why = format!("{} leads to a path that no unit can name", bench.name);
            return bench.find(Verdict::Error, why, None);
        }
        let startable = self.unit(bench, want, place);
        match &place.identity {
            Identity::NoSource(why) => bench.find(Verdict::Pending, why.clone(), None),
            Identity::Nothing => self.mount(bench, want, place, startable),
            Identity::Wrong(seen) => {
                let desired = format!("{} {}", want.fstype, want.source);
                let reason = format!(
                    "something else is mounted at {}: {seen} instead of {desired}; evenkeel does not touch it: unmount \
                     it when nobody needs it, or change the spec",
                    place.target.display()
                );
                let drift = drift("source", Layer::Mount, Some(seen.clone()), desired);
                bench.find(Verdict::Error, reason, Some(drift));
            }
            Identity::Right => {
                self.options(bench, want, place);
                self.inside(bench, want, place);
            }
        }
    }

    /// The unit's file and whether it is enabled. Tells whether the unit is ours to start.
    fn unit(&mut self, bench: &mut Bench, want: &Want, place: &Place) -> bool {
        let name = unit::name(&place.target);
        let (path, text) = (unit::file(&name), unit::text(want, &place.target));
        let old = match &place.unit {
            UnitFile::Barred(why) => {
                bench.find(Verdict::Error, why.clone(), None);
                return false;
            }
            UnitFile::None => None,
            UnitFile::Ours(old) => Some(old),
        };
        if old != Some(&text) {
            let observed = old.map(|old| unit::summary(old));
            let drift = drift("unit", Layer::File(path.clone()), observed, unit::summary(&text));
            bench.off(drift, &mut self.files, Step::WriteFile { path, text, mode: 0o644 });
        }
        if self.systemd && !place.enabled.contains(unit::wanted_by(want)) {
            let drift = drift("enabled", Layer::Unit, None, unit::wanted_by(want));
            bench.off(drift, &mut self.enable, systemd(SystemdVerb::Enable, &name));
        }
        true
    }

    fn mount(&mut self, bench: &mut Bench, want: &Want, place: &Place, startable: bool) {
        if self.systemd && !startable {
            // Starting somebody else's unit would mount what it says.
            return;
        }
        if !place.exists {
            let drift = drift("mount point", Layer::Mount, None, "a folder");
            bench.off(drift, &mut self.mount, Step::MakeFolder { path: place.target.clone() });
        }
        let drift = drift("mounted", Layer::Mount, None, format!("{} {}", want.fstype, want.source));
        let step = if self.systemd {
            systemd(SystemdVerb::Start, &unit::name(&place.target))
        } else {
            let options = unit::options(want).into_iter().filter(|option| option != "bind").collect();
            let (source, fstype) = (want.source.clone(), want.fstype.clone());
            Step::Mount { source, target: place.target.clone(), fstype, options }
        };
        bench.off(drift, &mut self.mount, step);
    }

    fn options(&mut self, bench: &mut Bench, want: &Want, place: &Place) {
        let Some(top) = &place.top else { return };
        let mut remount = false;
        for option in &want.options {
            match options::stand(option, top) {
                Stand::Met => {}
                Stand::Off { observed, in_place: true } => {
                    bench.plan.drift.push(drift("options", Layer::Mount, Some(observed), option));
                    remount = true;
                }
                Stand::Off { observed, in_place: false } => {
                    let why = format!(
                        "{option} is wanted and {observed} is in force: it takes an unmount and a mount, which evenkeel \
                         leaves to you"
                    );
                    bench.find(
                        Verdict::Pending,
                        why,
                        Some(drift("options", Layer::Mount, Some(observed), option)),
                    );
                }
                Stand::Unknown => {
                    let why = format!("the kernel does not tell whether the option {option} is in force");
                    bench.find(Verdict::Note, why, None);
                }
            }
        }
        if remount && bench.enforced {
            let options = options::remount(&want.options, top, want.fstype == "bind");
            let step = Step::Remount { target: place.target.clone(), options };
            self.mount.push(Task::new(bench.name, step));
        }
    }

    fn inside(&mut self, bench: &mut Bench, want: &Want, place: &Place) {
        let inside = match &place.inside {
            None => return,
            Some(Err(why)) => return bench.find(Verdict::Error, why.clone(), None),
            Some(Ok(inside)) => inside,
        };
        if let (Some(sentinel), Some(false)) = (&want.sentinel, inside.sentinel) {
            let why = format!(
                "wrong export: {sentinel} is not in {}, so this is not what {} should hold; nothing in it is touched",
                place.target.display(),
                want.source
            );
            return bench.find(Verdict::Error, why, Some(drift("sentinel", Layer::Mount, None, sentinel)));
        }
        let seen = inside.owner.clone().unwrap_or_else(|| inside.uid.to_string());
        let owner = want.owner.clone().filter(|owner| *owner != seen);
        let bits = want.bits().filter(|bits| *bits != inside.mode & 0o7777);
        bench
            .plan
            .drift
            .extend(owner.iter().map(|owner| drift("owner", Layer::Mount, Some(seen.clone()), owner)));
        let octal = |bits: u32| format!("{bits:04o}");
        let observed = octal(inside.mode & 0o7777);
        bench
            .plan
            .drift
            .extend(bits.map(|bits| drift("permissions", Layer::Mount, Some(observed), octal(bits))));
        if bench.enforced && (owner.is_some() || bits.is_some()) {
            let step = Step::Own { path: place.target.clone(), owner, group: None, mode: bits };
            self.mount.push(Task::new(bench.name, step));
        }
    }

    /// An item that says `absent: true`.
    fn remove(&mut self, bench: &mut Bench, place: &Place) {
        let name = unit::name(&place.target);
        let ours = matches!(place.unit, UnitFile::Ours(_));
        match (&place.identity, &place.top) {
            (Identity::Wrong(seen), _) => {
                let why =
                    format!("something else is mounted there, {seen}, and stays: the spec means another");
                bench.find(Verdict::Error, why, None);
            }
            (Identity::NoSource(why), Some(top)) => {
                let why = format!(
                    "{why}, so nobody can say whether {} is what the spec means: it stays",
                    tell(top)
                );
                bench.find(Verdict::NonCompliant, why, None);
            }
            (_, Some(top)) => {
                bench.plan.drift.push(drift("mounted", Layer::Mount, Some(tell(top)), "absent"));
                let unmount = || Step::Unmount { target: place.target.clone() };
                let first = if self.systemd && ours { systemd(SystemdVerb::Stop, &name) } else { unmount() };
                let more = std::iter::repeat_with(unmount).take(place.meant.saturating_sub(1));
                if bench.enforced {
                    self.stop
                        .extend(std::iter::once(first).chain(more).map(|step| Task::new(bench.name, step)));
                }
            }
            (_, None) => {}
        }
        if let UnitFile::Ours(text) = &place.unit {
            self.drop_unit(bench, &name, text, !place.enabled.is_empty());
        }
    }

    fn drop_unit(&mut self, bench: &mut Bench, name: &str, text: &str, enabled: bool) {
        let path = unit::file(name);
        if self.systemd && enabled && bench.enforced {
            self.stop.push(Task::new(bench.name, systemd(SystemdVerb::Disable, name)));
        }
        let drift = drift("unit", Layer::File(path.clone()), Some(unit::summary(text)), "absent");
        bench.off(drift, &mut self.files, Step::RemoveFile { path });
    }

    /// A unit of ours that no item needs any more.
    fn leave(&mut self, enforced: bool, (file, text): (&str, &str), enabled: bool, mounted: bool) {
        let at = unit::value(text, "Where");
        let name = if at.is_empty() { file.to_owned() } else { at };
        let mut bench = Bench { name: &name, enforced, plan: ItemPlan::default() };
        self.drop_unit(&mut bench, file, text, enabled);
        if mounted {
            let why = "left the spec and stays mounted; `absent: true` would unmount it".to_owned();
            bench.find(Verdict::Note, why, None);
        }
        let item = self.plan.items.entry(name.clone()).or_default();
        item.drift.append(&mut bench.plan.drift);
        item.findings.append(&mut bench.plan.findings);
    }

    fn finish(mut self, section: &Section<Want>, owed: bool) -> Plan {
        let mut serves: Vec<String> = self.files.iter().flat_map(|task| task.serves.clone()).collect();
        if self.systemd && owed && serves.is_empty() {
            serves = self.debtors(section);
        }
        let tasks = &mut self.plan.tasks;
        tasks.append(&mut self.stop);
        let reload = self.systemd && !serves.is_empty();
        let for_all = |step| Task { serves: serves.clone(), step };
        if reload {
            tasks.push(for_all(Step::Owe { debt: DEBT.into() }));
        }
        tasks.append(&mut self.files);
        if reload {
            tasks.push(for_all(systemd(SystemdVerb::DaemonReload, "")));
            tasks.push(for_all(Step::Settle { debt: DEBT.into() }));
        }
        tasks.append(&mut self.enable);
        tasks.append(&mut self.mount);
        self.plan
    }

    /// Whom a reload that a pass before has left owing is put down to: the enforced items, or nobody's item.
    fn debtors(&mut self, section: &Section<Want>) -> Vec<String> {
        let enforced = section.items.iter().filter(|(_, item)| item.enforced() && item.kept().is_some());
        let mut names: Vec<String> = enforced.map(|(name, _)| name.clone()).collect();
        if names.is_empty() && section.mode == Mode::Enforce {
            names.push(DEBT.to_owned());
        }
        for name in &names {
            let drift = drift("daemon-reload", Layer::Unit, Some("owed".into()), "done");
            self.plan.items.entry(name.clone()).or_default().drift.push(drift);
        }
        names
    }
}
