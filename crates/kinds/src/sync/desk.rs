//! Where a plan for folders in step is put together.

use super::want::Want;
use super::{Have, Sync};
use crate::clock;
use evenkeel_core::{
    Class, Compared, Drift, Finding, Item, ItemPlan, Kind as _, Layer, MirrorJob, MirrorSeen, Plan, Section,
    Step, Task, Verdict, grouped,
};
use std::path::Path;

pub(super) fn plan(section: &Section<Want>, have: &Have) -> Plan {
    let mut plan = Plan::default();
    for (name, want, item) in section.kept() {
        let mut told = ItemPlan::default();
        if let Some(other) = within(section, name) {
            let why = format!(
                "lies within {other}, which {}/{other} keeps in step too: leave one of the two out, or exclude it there",
                Sync::NAME
            );
            told.findings.push(Finding { verdict: Verdict::Error, reason: why, drift: None });
        } else if let Some(place) = have.unmounted.get(name) {
            let why = format!(
                "nothing is mounted at {}, where something is to be: the folder below it is left alone",
                place.display()
            );
            told.findings.push(Finding { verdict: Verdict::Pending, reason: why, drift: None });
        } else if let Some(seen) = have.seen.get(name) {
            let step = one(&mut told, (name, want), item, seen);
            plan.tasks.extend(step.map(|step| Task::new(name, step)));
        }
        plan.items.insert(name.to_owned(), told);
    }
    plan
}

/// The item whose folder this one lies in, where that one does not leave it out.
fn within<'a>(section: &'a Section<Want>, name: &str) -> Option<&'a str> {
    let path = Path::new(name);
    let holds = |other: &str, want: &Want| {
        let below = path.strip_prefix(other).ok().filter(|below| !below.as_os_str().is_empty())?;
        let left_out = |one: &String| one.starts_with('/') && below.starts_with(one.trim_matches('/'));
        (!want.exclude.iter().any(left_out)).then_some(())
    };
    section.kept().find_map(|(other, want, _)| holds(other, want).map(|()| other))
}

/// What is off with one folder, and the step that puts it right.
fn one(
    told: &mut ItemPlan,
    (name, want): (&str, &Want),
    item: &Item<Want>,
    seen: &MirrorSeen,
) -> Option<Step> {
    let job = want.job(name);
    told.facts.extend(seen.in_step_at.map(|at| ("in_step_at".to_owned(), clock::moment(at))));
    told.progress.clone_from(&seen.under_way);
    let off = seen.compared.as_ref().filter(|compared| !compared.in_step());
    let mut find = |verdict, reason, drift| told.findings.push(Finding { verdict, reason, drift });
    if seen.under_way.is_some() {
        find(Verdict::Pending, job.under_way(), off.map(|off| drift(name, want, off)));
        return None;
    }
    if let Some((class, why)) = &seen.trouble {
        let (verdict, reason) = trouble(&job, *class, why, seen.late);
        find(verdict, reason, off.map(|off| drift(name, want, off)));
        return None;
    }
    let Some(compared) = &seen.compared else {
        let reason = format!("not compared with {} yet since the agent began", want.from);
        if seen.late {
            find(Verdict::NonCompliant, format!("{reason}, for longer than two periods"), None);
        } else {
            find(Verdict::Pending, reason, None);
        }
        return None;
    };
    if let Some(reason) = job.refusal(compared) {
        find(Verdict::NonCompliant, reason, Some(refused(name, want, compared)));
        return None;
    }
    told.drift.push(drift(name, want, off?));
    item.enforced().then_some(Step::Mirror { job })
}

/// What is made of a comparison or transfer that failed.
fn trouble(job: &MirrorJob, class: Class, why: &str, late: bool) -> (Verdict, String) {
    let told = job.trouble(class, why);
    match class {
        Class::Waiting if late => (
            Verdict::NonCompliant,
            format!("not in step with {} for longer than two periods: {why}", job.from),
        ),
        Class::Waiting => (Verdict::Pending, told),
        Class::NotApplicable => (Verdict::NotApplicable, told),
        Class::Trouble => (Verdict::Error, told),
    }
}

fn layer(name: &str) -> Layer {
    Layer::File(name.into())
}

fn drift(name: &str, want: &Want, off: &Compared) -> Drift {
    let all = off.change + off.remove;
    let verb = if all == 1 { "differs" } else { "differ" };
    let more = if all > off.names.len() { ", …" } else { "" };
    let gone = if off.remove > 0 {
        format!(", {} of them not in the source", grouped(off.remove))
    } else {
        String::new()
    };
    let observed = format!("{} {verb}{gone}: {}{more}", grouped(all), off.names.join(", "));
    Drift {
        attr: "files".into(),
        layer: layer(name),
        observed: Some(observed),
        desired: format!("as in {}", want.from),
    }
}

fn refused(name: &str, want: &Want, compared: &Compared) -> Drift {
    let observed = format!("would remove {} of {}", grouped(compared.remove), grouped(compared.here));
    let desired = format!("at most {} removed", want.limit());
    Drift { attr: "removals".into(), layer: layer(name), observed: Some(observed), desired }
}
