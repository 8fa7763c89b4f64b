//! Every layer of one mount, in order: what mounts it at boot, what is mounted, how that answers, what lies below it.

use super::want::Want;
use super::{Have, Place, UnitFile, unit};
use evenkeel_core::{FolderSeen, Section, Witness};

pub(super) fn rows(section: &Section<Want>, item: &str, have: &Have) -> Vec<Witness> {
    let (Some(want), Some(Ok(place))) =
        (section.items.get(item).and_then(|item| item.kept()), have.places.get(item))
    else {
        return vec![];
    };
    let mut rows: Vec<Witness> = place
        .others
        .iter()
        .map(|said| {
            row(
                said.layer(),
                said.place(),
                said.summary(),
                said.against(want).map(|what| format!("differs: {what}")),
            )
        })
        .collect();
    rows.extend(files(place));
    rows.extend(place.seen.as_ref().map(|seen| {
        let reload =
            seen.need_daemon_reload.then(|| "the file on disk is newer: a daemon-reload is due".to_owned());
        row("systemd", unit::name(&place.target), format!("{} ({})", seen.active, seen.sub), reload)
    }));
    rows.push(table(place));
    rows.extend(place.inside.as_ref().map(|seen| inside(place, seen)));
    rows.extend(covered(place));
    rows
}

fn row(layer: &str, place: String, value: String, note: Option<String>) -> Witness {
    Witness { layer: layer.into(), place, value, note, won: false }
}

fn files(place: &Place) -> Vec<Witness> {
    let both = [
        (unit::name(&place.target), &place.unit, &place.enabled),
        (unit::automount_name(&place.target), &place.automount, &place.waits),
    ];
    let one = |(name, file, wanted): (String, &UnitFile, &std::collections::BTreeSet<String>)| {
        let at = unit::file(&name).display().to_string();
        match file {
            UnitFile::None => None,
            UnitFile::Barred(why) => Some(row("unit", at, "not ours".into(), Some(why.clone()))),
            UnitFile::Ours(text) => {
                let by = wanted.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
                let note = if by.is_empty() { "not enabled".to_owned() } else { format!("enabled by {by}") };
                Some(row("unit", at, unit::summary(text).trim().to_owned(), Some(note)))
            }
        }
    };
    both.into_iter().filter_map(one).collect()
}

fn table(place: &Place) -> Witness {
    let at = place.target.display().to_string();
    match &place.top {
        None => row("mount table", at, "nothing is mounted".into(), None),
        Some(top) => {
            let options = top.options.iter().chain(&top.super_options).map(String::as_str);
            let value = format!("{} {} {}", top.fstype, top.source, options.collect::<Vec<_>>().join(","));
            Witness { won: true, ..row("mount table", at, value, None) }
        }
    }
}

/// Here times may be told.
fn inside(place: &Place, seen: &FolderSeen) -> Witness {
    let (value, note) = match seen {
        FolderSeen::Hung => ("hung".to_owned(), None),
        FolderSeen::Stale => ("stale".to_owned(), None),
        FolderSeen::Trouble(why) => ("trouble".to_owned(), Some(why.clone())),
        FolderSeen::Answers(inside) => {
            let owner = inside.owner.clone().unwrap_or_else(|| inside.uid.to_string());
            let group = inside.group.clone().unwrap_or_else(|| inside.gid.to_string());
            let sentinel = match inside.sentinel {
                Some(true) => Some("its sentinel is there".to_owned()),
                Some(false) => Some("its sentinel is missing".to_owned()),
                None => None,
            };
            let took = inside.took.as_micros();
            let took = format!(
                "answers in {}.{} ms, {owner}:{group} {:04o}",
                took / 1000,
                took % 1000 / 100,
                inside.mode
            );
            (took, sentinel)
        }
    };
    row("health", place.target.display().to_string(), value, note)
}

fn covered(place: &Place) -> Option<Witness> {
    let at = place.target.display().to_string();
    Some(match place.covered.as_ref()? {
        Err(why) => row("below", at, "cannot be seen".into(), Some(why.clone())),
        Ok(None) => row("below", at, "there is no such folder".into(), None),
        Ok(Some(covered)) => {
            let names = (!covered.names.is_empty()).then(|| covered.names.join(", "));
            let flag = if covered.immutable == Some(true) { ", immutable" } else { "" };
            row("below", at, format!("{} files and folders{flag}", covered.entries), names)
        }
    })
}
