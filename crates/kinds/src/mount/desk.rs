//! Where a plan for the mounts is put together.
//!
//! Units first and together, with one daemon-reload that is owed before the first file is touched; then each mount, those
//! of this machine before those whose server may take its time.

use super::live::{self, Off};
use super::table::{Identity, tell};
use super::want::Want;
use super::{DEBT, Have, Place, UnitFile, below, health, options, unit};
use evenkeel_core::{
    Drift, Finding, FolderSeen, Inside, ItemPlan, Layer, Mode, Plan, Section, Step, SystemdVerb, Task,
    Verdict, Wish,
};
use std::collections::BTreeMap;
use std::path::Path;

/// Who takes a slot.
const HOLDER: &str = "mount";

/// Steps, by when they come.
#[derive(Default)]
pub(super) struct Desk {
    plan: Plan,
    systemd: bool,
    now: i64,
    stop: Vec<Task>,
    /// Before the units' files.
    pub(super) first: Vec<Task>,
    files: Vec<Task>,
    /// Items whose units systemd has to read again, though no file is written.
    unread: Vec<String>,
    enable: Vec<Task>,
    pub(super) mount: Vec<Task>,
    /// After the mounts of this machine.
    pub(super) far: Vec<Task>,
}

/// One item while it is being planned.
pub(super) struct Bench<'a> {
    name: &'a str,
    pub(super) enforced: bool,
    plan: ItemPlan,
}

pub(super) fn plan(section: &Section<Want>, have: &Have) -> Plan {
    let mut desk = Desk { systemd: have.systemd, now: have.now, ..Desk::default() };
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
    for left in &have.left {
        // An item whose place has moved is still the one to ask.
        let item = section.items.get(&unit::value(&left.text, "Where"));
        let mode = item.map_or(section.mode, |item| item.mode);
        desk.leave(mode == Mode::Enforce, left);
    }
    desk.finish(section, have.owed)
}

impl Bench<'_> {
    pub(super) fn find(&mut self, verdict: Verdict, reason: String, drift: Option<Drift>) {
        self.plan.findings.push(Finding { verdict, reason, drift });
    }

    /// Something is off, and a step would put it right.
    pub(super) fn off(&mut self, drift: Drift, to: &mut Vec<Task>, step: Step) {
        self.plan.drift.push(drift);
        self.task(to, step);
    }

    fn task(&self, to: &mut Vec<Task>, step: Step) {
        if self.enforced {
            to.push(Task::new(self.name, step));
        }
    }
}

pub(super) fn drift(attr: &str, layer: Layer, observed: Option<String>, desired: impl Into<String>) -> Drift {
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
        bench.plan.facts.clone_from(&place.facts);
        let startable = self.unit(bench, want, place);
        others(bench, want, place);
        let free = below::keep(self, bench, want, place, startable);
        match &place.identity {
            Identity::NoSource(why) => bench.find(Verdict::Pending, why.clone(), None),
            Identity::Nothing | Identity::Idle if want.automounts() && self.systemd => {
                self.automount(bench, place, startable && free);
            }
            Identity::Nothing | Identity::Idle => self.mount(bench, want, place, startable && free),
            Identity::Wrong(_) if place.mounted_by_us() => self.anew(bench, want, place, startable),
            Identity::Wrong(seen) => {
                let Off { why, drift } = live::wrong(want, place, seen);
                bench.find(Verdict::Error, why, Some(drift));
            }
            Identity::Right => self.right(bench, want, place, startable),
        }
        self.slot(bench, place);
    }

    /// What is wanted is mounted.
    fn right(&mut self, bench: &mut Bench, want: &Want, place: &Place, startable: bool) {
        if want.automounts() && self.systemd && !place.autofs {
            let why =
                "is mounted already, so the automount waits there only once it is unmounted, or after a boot";
            bench.find(Verdict::Note, why.into(), None);
        }
        let trouble = health::judge(want, place);
        let reached = trouble.as_ref().is_none_or(|(verdict, _)| *verdict != Verdict::Error);
        if let Some((verdict, Off { why, drift })) = trouble {
            bench.find(verdict, why, Some(drift));
        }
        self.options(bench, want, place, startable, reached);
        if let Some(inside) = place.answered().filter(|_| reached) {
            below::seed(self, bench, want, place, inside);
            self.owner(bench, want, place, inside);
        }
    }

    /// The unit's file and whether it is enabled. Tells whether the unit is ours to start.
    fn unit(&mut self, bench: &mut Bench, want: &Want, place: &Place) -> bool {
        let name = unit::name(&place.target);
        let before = live::there(place).filter(|_| matches!(place.identity, Identity::Wrong(_)));
        let before = before.and(place.top.as_ref().map(live::identity_of)).filter(|_| place.mounted_by_us());
        let text = unit::text(want, &place.target, before.as_deref());
        if !self.owned(bench, &name, &place.unit, text) {
            return false;
        }
        let (plain, waiting) = (want.automounts(), unit::automount_name(&place.target));
        if plain {
            let text = unit::automount_text(want, &place.target);
            if !self.owned(bench, &waiting, &place.automount, text) {
                return false;
            }
        }
        if self.systemd {
            let (on, off) = if plain { (&waiting, &name) } else { (&name, &waiting) };
            let (is_on, is_off) =
                if plain { (&place.waits, &place.enabled) } else { (&place.enabled, &place.waits) };
            if !is_on.contains(unit::wanted_by(want)) {
                let drift = drift("enabled", Layer::Unit, None, unit::wanted_by(want));
                bench.off(drift, &mut self.enable, systemd(SystemdVerb::Enable, on));
            }
            if plain && !is_off.is_empty() {
                let drift = drift("enabled", Layer::Unit, Some(off.clone()), format!("only {on}"));
                bench.off(drift, &mut self.enable, systemd(SystemdVerb::Disable, off));
            }
            if place.seen.as_ref().is_some_and(|seen| seen.need_daemon_reload) {
                let drift =
                    drift("daemon-reload", Layer::Unit, Some("the unit as it was".into()), "as it is");
                bench.plan.drift.push(drift);
                if bench.enforced {
                    self.unread.push(bench.name.to_owned());
                }
            }
        }
        true
    }

    /// One file of ours. Tells whether it is.
    fn owned(&mut self, bench: &mut Bench, name: &str, file: &UnitFile, text: String) -> bool {
        let old = match file {
            UnitFile::Barred(why) => {
                bench.find(Verdict::Error, why.clone(), None);
                return false;
            }
            UnitFile::None => None,
            UnitFile::Ours(old) => Some(old),
        };
        if old != Some(&text) {
            let path = unit::file(name);
            let observed = old.map(|old| unit::summary(old));
            let drift = drift("unit", Layer::File(path.clone()), observed, unit::summary(&text));
            bench.off(drift, &mut self.files, Step::WriteFile { path, text, mode: 0o644 });
        }
        true
    }

    fn automount(&mut self, bench: &mut Bench, place: &Place, startable: bool) {
        if startable && place.identity == Identity::Nothing {
            let drift = drift("automount", Layer::Mount, None, "waits for the first touch");
            let start = systemd(SystemdVerb::Start, &unit::automount_name(&place.target));
            bench.off(drift, &mut self.mount, start);
        }
    }

    fn mount(&mut self, bench: &mut Bench, want: &Want, place: &Place, startable: bool) {
        if !startable {
            // Starting somebody else's unit would mount what it says.
            return;
        }
        if place.seen.as_ref().is_some_and(|seen| seen.active == "activating") {
            let why =
                format!("systemd is mounting {}, and {} takes its time", place.target.display(), want.source);
            return bench.find(Verdict::Pending, why, None);
        }
        let mut steps = vec![];
        if !place.exists {
            let drift = drift("mount point", Layer::Mount, None, "a folder");
            bench.off(drift, &mut steps, Step::MakeFolder { path: place.target.clone() });
        }
        let drift = drift("mounted", Layer::Mount, None, format!("{} {}", want.fstype, want.source));
        bench.off(drift, &mut steps, self.start(want, place));
        if want.network() { &mut self.far } else { &mut self.mount }.append(&mut steps);
    }

    fn start(&self, want: &Want, place: &Place) -> Step {
        if self.systemd {
            return systemd(SystemdVerb::Start, &unit::name(&place.target));
        }
        let options = unit::options(want).into_iter().filter(|option| option != "bind").collect();
        let (source, fstype) = (want.source.clone(), want.fstype.clone());
        Step::Mount { source, target: place.target.clone(), fstype, options }
    }

    fn options(&mut self, bench: &mut Bench, want: &Want, place: &Place, startable: bool, reached: bool) {
        let told = live::options(want, place);
        for option in told.unknown {
            let why = format!("the kernel does not tell whether the option {option} is in force");
            bench.find(Verdict::Note, why, None);
        }
        for Off { why, drift } in told.shared {
            bench.find(Verdict::Pending, why, Some(drift));
        }
        let anew = !place.anew(want).is_empty();
        let unseen = matches!(place.inside, Some(FolderSeen::Hung | FolderSeen::Trouble(_)));
        if place.tried && !anew && !unseen {
            let drift = drift("mounted anew", Layer::Mount, Some("noted".into()), "seen to be in force");
            bench.off(drift, &mut self.far, Step::Settle { debt: live::tried(want, &place.target) });
        }
        if !reached {
            return;
        }
        if anew {
            self.anew(bench, want, place, startable);
        }
        bench.plan.drift.extend(told.in_place.iter().cloned());
        if let (false, Some(top)) = (told.in_place.is_empty(), &place.top) {
            let options = options::remount(&want.options, top, want.fstype == "bind");
            bench.task(&mut self.mount, Step::Remount { target: place.target.clone(), options });
        }
    }

    /// What only an unmount and a mount put right: done where the spec says when, and told otherwise.
    fn anew(&mut self, bench: &mut Bench, want: &Want, place: &Place, startable: bool) {
        let may = live::may(want, place, self.now);
        let may =
            may.and_then(|()| if startable { Ok(()) } else { Err("its unit is not ours to start".into()) });
        let stale = place.inside == Some(FolderSeen::Stale);
        for Off { why, drift } in place.anew(want) {
            match &may {
                Ok(()) => bench.plan.drift.push(drift),
                Err(until) => {
                    // A share that nobody can use is worse than one that waits.
                    let verdict = if stale { Verdict::Error } else { Verdict::Pending };
                    bench.find(verdict, format!("{why}: {until}"), Some(drift));
                }
            }
        }
        if may.is_ok() {
            self.disturb(bench, want, place);
        }
    }

    fn disturb(&mut self, bench: &mut Bench, want: &Want, place: &Place) {
        let target = place.target.clone();
        let slot = place.group.as_deref();
        let mut steps = vec![];
        if let Some(group) = slot {
            steps.push(Step::Owe { debt: live::slot_debt(group) });
            steps.push(Step::TakeSlot { group: group.into(), holder: HOLDER.into() });
        }
        let ours = matches!(place.unit, UnitFile::Ours(_)) && self.systemd;
        let stop = systemd(SystemdVerb::Stop, &unit::name(&target));
        steps.push(if ours { stop } else { Step::Unmount { target: target.clone() } });
        if want.automounts() && self.systemd {
            // What waits for a touch mounts it again.
            let start = systemd(SystemdVerb::Start, &unit::automount_name(&target));
            steps.extend((!place.autofs).then_some(start));
        } else {
            if !place.exists {
                steps.push(Step::MakeFolder { path: target.clone() });
            }
            steps.push(self.start(want, place));
            steps.push(Step::Owe { debt: live::tried(want, &target) });
        }
        steps.extend(slot.into_iter().flat_map(give_back));
        for step in steps {
            bench.task(&mut self.far, step);
        }
    }

    /// A slot that a pass before has taken, and not given back.
    fn slot(&mut self, bench: &mut Bench, place: &Place) {
        let Some(group) = place.group.as_ref().filter(|_| place.held) else { return };
        let holder = |task: &Task| matches!(&task.step, Step::LeaveSlot { group: one, .. } if one == group);
        if !self.far.iter().any(holder) {
            let drift = drift("slot", Layer::Unit, Some(format!("a slot of {group} is held")), "given back");
            bench.plan.drift.push(drift);
            for step in give_back(group) {
                bench.task(&mut self.far, step);
            }
        }
    }

    fn owner(&mut self, bench: &mut Bench, want: &Want, place: &Place, inside: &Inside) {
        let number = |name: &Option<String>, number: u32| name.clone().unwrap_or_else(|| number.to_string());
        let differs = |want: &Option<String>, seen: &str| want.clone().filter(|one| one != seen);
        let (user, crowd) = (number(&inside.owner, inside.uid), number(&inside.group, inside.gid));
        let (owner, group) = (differs(&want.owner, &user), differs(&want.group, &crowd));
        let bits = want.bits().filter(|bits| *bits != inside.mode & 0o7777);
        let octal = |bits: u32| format!("{bits:04o}");
        let off = [
            owner.clone().map(|owner| ("owner", user, owner)),
            group.clone().map(|group| ("group", crowd, group)),
            bits.map(|bits| ("permissions", octal(inside.mode & 0o7777), octal(bits))),
        ];
        let off = off.into_iter().flatten();
        let before = bench.plan.drift.len();
        bench.plan.drift.extend(off.map(|(attr, seen, to)| drift(attr, Layer::Mount, Some(seen), to)));
        if bench.plan.drift.len() > before {
            bench.task(&mut self.far, Step::Own { path: place.target.clone(), owner, group, mode: bits });
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
            (Identity::Idle, Some(_)) | (_, None) => {}
            (_, Some(top)) => {
                bench.plan.drift.push(drift("mounted", Layer::Mount, Some(tell(top)), "absent"));
                let unmount = || Step::Unmount { target: place.target.clone() };
                let first = if self.systemd && ours { systemd(SystemdVerb::Stop, &name) } else { unmount() };
                let more = std::iter::repeat_with(unmount).take(place.meant.saturating_sub(1));
                std::iter::once(first).chain(more).for_each(|step| bench.task(&mut self.stop, step));
            }
        }
        let waiting = unit::automount_name(&place.target);
        if let UnitFile::Ours(text) = &place.automount {
            // systemd takes away what is mounted on it too.
            let ours = matches!(place.identity, Identity::Right | Identity::Idle) && !place.stacked;
            if self.systemd && place.autofs && ours {
                let drift =
                    drift("automount", Layer::Mount, Some("waits for the first touch".into()), "absent");
                bench.off(drift, &mut self.stop, systemd(SystemdVerb::Stop, &waiting));
            }
            self.drop_unit(bench, &waiting, text, !place.waits.is_empty());
        }
        below::unguard(self, bench, place);
        if let UnitFile::Ours(text) = &place.unit {
            self.drop_unit(bench, &name, text, !place.enabled.is_empty());
        }
        self.slot(bench, place);
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
    fn leave(&mut self, enforced: bool, left: &super::Left) {
        let at = unit::value(&left.text, "Where");
        let name = if at.is_empty() { left.file.clone() } else { at.clone() };
        let mut bench = Bench { name: &name, enforced, plan: ItemPlan::default() };
        if left.immutable {
            let drift = drift("guard", Layer::Mount, Some("immutable".into()), "can be written to");
            bench.off(drift, &mut self.first, Step::SetImmutable { path: at.into(), on: false });
        }
        self.drop_unit(&mut bench, &left.file, &left.text, left.enabled);
        if left.mounted {
            let why = if left.file.as_bytes().ends_with(b".automount") {
                "left the spec and waits there for a touch until the next boot"
            } else {
                "left the spec and stays mounted; `absent: true` would unmount it"
            };
            bench.find(Verdict::Note, why.to_owned(), None);
        }
        let item = self.plan.items.entry(name.clone()).or_default();
        item.drift.append(&mut bench.plan.drift);
        item.findings.append(&mut bench.plan.findings);
    }

    fn finish(mut self, section: &Section<Want>, owed: bool) -> Plan {
        let mut serves: Vec<String> = self.files.iter().flat_map(|task| task.serves.clone()).collect();
        serves.extend(std::mem::take(&mut self.unread));
        serves.sort();
        serves.dedup();
        if self.systemd && owed && serves.is_empty() {
            serves = self.debtors(section);
        }
        let tasks = &mut self.plan.tasks;
        tasks.append(&mut self.stop);
        tasks.append(&mut self.first);
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
        tasks.append(&mut self.far);
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

/// What others say of the place.
fn others(bench: &mut Bench, want: &Want, place: &Place) {
    for said in &place.others {
        let at = said.place();
        match said.against(want) {
            None => bench.find(Verdict::Note, format!("{at} {}", said.agrees()), None),
            Some(what) => {
                let why = format!("{at} says {what} of the same place: {}", said.advice());
                let desired = format!("{} {}", want.fstype, want.source);
                let drift =
                    drift("boot entry", Layer::File(said.file.clone()), Some(said.summary()), desired);
                bench.find(Verdict::NonCompliant, why, Some(drift));
            }
        }
    }
}

fn give_back(group: &str) -> [Step; 2] {
    let leave = Step::LeaveSlot { group: group.into(), holder: HOLDER.into() };
    [leave, Step::Settle { debt: live::slot_debt(group) }]
}
