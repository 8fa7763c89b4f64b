//! What lies in the folder itself, below the mount: what an application wrote while nothing was mounted, what is shipped
//! there to be copied, and the flag that lets nobody write there.

use super::desk::{Bench, Desk, drift};
use super::want::Want;
use super::wishes::Below;
use super::{Place, UnitFile, unit};
use evenkeel_core::{COVERED_AT_MOST, Covered, FolderSeen, Inside, Layer, Step, Verdict};

/// What is said of it. Tells whether it may be mounted.
pub(super) fn keep(desk: &mut Desk, bench: &mut Bench, want: &Want, place: &Place, startable: bool) -> bool {
    let covered = match &place.covered {
        None => return true,
        Some(Ok(Some(covered))) => covered.clone(),
        Some(Ok(None)) => Covered::default(),
        Some(Err(why)) => {
            // Where nobody asked for it, it is no news that it cannot be seen.
            if want.below.is_some() || want.seed || want.guard.is_some() {
                bench.find(Verdict::Note, why.clone(), None);
            }
            return true;
        }
    };
    guard(desk, bench, want, place, &covered, startable);
    let wish = want.below();
    if covered.entries == 0 || want.seed || wish == Below::Ignore {
        return true;
    }
    let waits = wish == Below::Wait && place.top.is_none();
    let why = hidden(&covered, place, waits);
    let verdict = if waits { Verdict::Pending } else { Verdict::NonCompliant };
    let drift = drift("below", Layer::Mount, Some(number(&covered)), "nothing");
    bench.find(verdict, why, Some(drift));
    !waits
}

fn number(covered: &Covered) -> String {
    match covered.entries {
        1 => "1 file or folder".into(),
        COVERED_AT_MOST.. => format!("{COVERED_AT_MOST} files and folders or more"),
        many => format!("{many} files and folders"),
    }
}

fn hidden(covered: &Covered, place: &Place, waits: bool) -> String {
    let more = if covered.entries > covered.names.len() { ", …" } else { "" };
    let then = if waits { "nothing is mounted over that" } else { "the mount hides that" };
    format!(
        "{} in {} itself ({}{more}), written while nothing was mounted there; {then}: move it to where it belongs",
        number(covered),
        place.target.display(),
        covered.names.join(", ")
    )
}

/// The flag, once the unit says that it is ours to clear again.
fn guard(desk: &mut Desk, bench: &mut Bench, want: &Want, place: &Place, covered: &Covered, startable: bool) {
    let path = || place.target.clone();
    match (want.guard, covered.immutable) {
        (Some(_), _) if !startable || !matches!(place.covered, Some(Ok(Some(_)))) => {}
        (Some(_), None) => {
            let why = format!("the filesystem of {} has no flag that guards it", place.target.display());
            bench.find(Verdict::Note, why, None);
        }
        (Some(_), Some(false)) if covered.entries == 0 => {
            let drift = drift("guard", Layer::Mount, Some("can be written to".into()), "immutable");
            bench.off(drift, &mut desk.mount, Step::SetImmutable { path: path(), on: true });
        }
        (None, Some(true)) if place.guarded_by_us() => {
            let drift = drift("guard", Layer::Mount, Some("immutable".into()), "can be written to");
            bench.off(drift, &mut desk.first, Step::SetImmutable { path: path(), on: false });
        }
        _ => {}
    }
}

/// The flag of a folder whose item is to be absent.
pub(super) fn unguard(desk: &mut Desk, bench: &mut Bench, place: &Place) {
    let on = matches!(&place.covered, Some(Ok(Some(Covered { immutable: Some(true), .. }))));
    if on && place.guarded_by_us() {
        let drift = drift("guard", Layer::Mount, Some("immutable".into()), "can be written to");
        bench.off(drift, &mut desk.first, Step::SetImmutable { path: place.target.clone(), on: false });
    }
}

/// Copy what is shipped below into a share that has nothing in it yet.
pub(super) fn seed(desk: &mut Desk, bench: &mut Bench, want: &Want, place: &Place, inside: &Inside) {
    let there = matches!(&place.covered, Some(Ok(Some(covered))) if covered.entries > 0);
    if !(want.seed && there && inside.empty) {
        return;
    }
    let drift = drift("content", Layer::Mount, Some("nothing".into()), "what is shipped below it");
    let (sentinel, owner, group) = (want.sentinel.clone(), want.owner.clone(), want.group.clone());
    let step = Step::Seed { path: place.target.clone(), sentinel, owner, group };
    bench.off(drift, &mut desk.far, step);
}

impl Place {
    /// Whether a unit of ours says that we have set the flag.
    pub(super) fn guarded_by_us(&self) -> bool {
        matches!(&self.unit, UnitFile::Ours(text) if unit::guards(text))
    }

    /// Whether anybody need look below.
    pub(super) fn asks_below(&self, want: Option<&Want>) -> bool {
        let wished = |want: &Want| want.below() != Below::Ignore || want.seed || want.guard.is_some();
        want.is_some_and(wished) || self.guarded_by_us()
    }

    /// What a look into it told, where it answered.
    pub(super) fn answered(&self) -> Option<&Inside> {
        match &self.inside {
            Some(FolderSeen::Answers(inside)) => Some(inside),
            _ => None,
        }
    }
}
