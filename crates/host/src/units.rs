//! What systemd knows of units: one `systemctl show` for all of them, and the last words of those that are in trouble.
//!
//! Nothing here changes a unit. A name that is none, such as one with a `*` in it, is a unit that systemd has never heard
//! of: it is not asked for, because one bad name would spoil the answer for the rest.

mod lines;

pub(crate) use lines::plain;

use crate::program::Program;
use crate::systemd;
use evenkeel_core::{BRIEF_S, Class, Fault, HELD_OFF_FOR_S, SETTLED_AFTER_S, UnitSeen};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long systemd may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// The most that it may say: a few hundred bytes for each of a thousand units.
const LONGEST: usize = 1 << 20;
/// The most units in trouble whose last words are looked up in one go; the others are told without.
const MOST_IN_TROUBLE: usize = 8;
/// What is asked of each unit. `Names` tells by which name it was asked for.
const PROPERTIES: &str = "Id,Names,LoadState,ActiveState,SubState,UnitFileState,FragmentPath,SourcePath,\
                          NeedDaemonReload,CanReload,Result,NRestarts,ActiveEnterTimestampMonotonic,\
                          StateChangeTimestampMonotonic,InvocationID";
/// A unit that nobody has, asked for first. systemd keeps a list of the folders that units' files are in, and looks at it
/// again when it is asked for a unit that it does not know; without that, one of version 252 does not see that a unit has its
/// first drop-in.
const NOBODY: &str = "evenkeel-looks-again.service";
/// The kinds of unit there are.
const KINDS: [&str; 11] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

/// One unit's properties, as `systemctl show` prints them.
type Properties<'a> = BTreeMap<&'a str, &'a str>;

pub(crate) fn see(names: &[String]) -> Result<BTreeMap<String, UnitSeen>, Fault> {
    if !systemd::runs() {
        return Err(Fault::new("systemd does not run here").class(Class::NotApplicable));
    }
    let asked: Vec<&str> = names.iter().map(String::as_str).filter(|name| is_name(name)).collect();
    let text = if asked.is_empty() { String::new() } else { show(&asked)? };
    let mut units = read(&text, names, monotonic_us());
    let mut looked_up = 0;
    for (name, (unit, run)) in &mut units {
        if in_trouble(unit) && looked_up < MOST_IN_TROUBLE {
            looked_up += 1;
            let over = unit.active != "active";
            unit.last_lines = lines::last(name, run, over);
        }
    }
    Ok(units.into_iter().map(|(name, (unit, _))| (name, unit)).collect())
}

/// Whether a text may be the name of a unit that can be there: `[A-Za-z0-9:_.\@-]`, a kind at its end, no bare template.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b":_.\\@-".contains(&c);
    let stem = text.rsplit_once('.').filter(|(_, kind)| KINDS.contains(kind)).map_or("", |(stem, _)| stem);
    text.len() <= 255 && text.bytes().all(plain) && !stem.is_empty() && !stem.ends_with('@')
}

fn show(names: &[&str]) -> Result<String, Fault> {
    let doing = "ask systemd how its units stand";
    let program = Program::new("systemctl")
        .args(["--no-pager", "show", &format!("--property={PROPERTIES}"), "--", NOBODY])
        .args(names.iter().copied());
    let output = program.run(DEADLINE, LONGEST).map_err(|error| Fault::from(doing, error))?;
    if output.code != Some(0) {
        return Err(Fault::from(doing, output.complaint()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What was told of each name, with the id of the unit's last run. A name that nothing was told of is not there.
fn read(text: &str, names: &[String], now_us: u64) -> BTreeMap<String, (UnitSeen, String)> {
    let told: Vec<Properties<'_>> = text.split("\n\n").map(properties).collect();
    let mut units = BTreeMap::new();
    for name in names {
        let its = |block: &&Properties<'_>| is_called(block, name);
        let unit = told.iter().find(its).map_or_else(unheard_of, |block| unit(block, now_us));
        units.insert(name.clone(), unit);
    }
    units
}

fn properties(block: &str) -> Properties<'_> {
    block.lines().filter_map(|line| line.split_once('=')).collect()
}

/// Whether a unit has this name. Where a name has a backslash in it, `Names` quotes it and doubles that.
fn is_called(block: &Properties<'_>, name: &str) -> bool {
    let text = |key| block.get(key).copied().unwrap_or_default();
    let bare = |word: &str| word.trim_matches('"').replace("\\\\", "\\");
    text("Id") == name || text("Names").split(' ').any(|word| bare(word) == name)
}

fn unheard_of() -> (UnitSeen, String) {
    let unit = UnitSeen { load: "not-found".into(), active: "inactive".into(), ..UnitSeen::default() };
    (unit, String::new())
}

fn unit(block: &Properties<'_>, now_us: u64) -> (UnitSeen, String) {
    let text = |key| block.get(key).copied().unwrap_or_default().to_owned();
    let active = text("ActiveState");
    let time = |key| text(key).parse::<u64>().unwrap_or(0);
    let (entered, changed) = (time("ActiveEnterTimestampMonotonic"), time("StateChangeTimestampMonotonic"));
    let within = |from: u64, to: u64, seconds: u64| to.saturating_sub(from) < seconds * 1_000_000;
    // One that has never been active was not for long either.
    let lived_briefly = entered == 0 || within(entered, changed, BRIEF_S);
    let unit = UnitSeen {
        load: text("LoadState"),
        fresh: active == "active" && entered > 0 && within(entered, now_us, SETTLED_AFTER_S),
        hold_off: active == "failed" && lived_briefly && within(changed, now_us, HELD_OFF_FOR_S),
        since_us: entered,
        active,
        sub: text("SubState"),
        file_state: text("UnitFileState"),
        fragment: text("FragmentPath"),
        source: text("SourcePath"),
        need_daemon_reload: text("NeedDaemonReload") == "yes",
        can_reload: text("CanReload") == "yes",
        result: text("Result"),
        restarts: text("NRestarts").parse().unwrap_or(0),
        last_lines: vec![],
    };
    (unit, text("InvocationID"))
}

/// Whether a person wants to know what it said last.
fn in_trouble(unit: &UnitSeen) -> bool {
    unit.active == "failed" || unit.sub == "auto-restart" || (unit.restarts > 0 && unit.fresh)
}

/// The clock that systemd counts by, in microseconds since boot.
pub(crate) fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or(0) * 1_000_000 + nanos.unwrap_or(0) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "Result=success\nNRestarts=2\nId=dbus.service\nNames=dbus.service messagebus.service\n\
        LoadState=loaded\nActiveState=active\nSubState=running\nFragmentPath=/lib/systemd/system/dbus.service\n\
        SourcePath=\nUnitFileState=static\nActiveEnterTimestampMonotonic=1000000\nCanReload=yes\n\
        NeedDaemonReload=no\nInvocationID=ab\n\nId=srv-a\\x2db.mount\nNames=\"srv-a\\\\x2db.mount\"\nLoadState=loaded\n\
        ActiveState=inactive\nSubState=dead\nNeedDaemonReload=yes\nActiveEnterTimestampMonotonic=0\n";

    fn seen(name: &str, now_us: u64) -> UnitSeen {
        read(TOLD, &[name.to_owned()], now_us).remove(name).map(|(unit, _)| unit).unwrap_or_default()
    }

    #[test]
    fn a_unit_is_found_by_any_of_its_names() {
        let unit = seen("messagebus.service", 5_000_000);
        assert_eq!((unit.load.as_str(), unit.active.as_str(), unit.restarts), ("loaded", "active", 2));
        assert!(unit.fresh && unit.can_reload && !unit.need_daemon_reload && in_trouble(&unit));
        let unit = seen(r"srv-a\x2db.mount", 5_000_000);
        assert!(unit.load == "loaded" && unit.need_daemon_reload && !unit.fresh);
    }

    #[test]
    fn a_unit_settles_after_a_while() {
        assert!(seen("dbus.service", 1_000_000 + SETTLED_AFTER_S * 1_000_000 - 1).fresh);
        assert!(!seen("dbus.service", 1_000_000 + SETTLED_AFTER_S * 1_000_000).fresh);
    }

    #[test]
    fn one_that_failed_shortly_after_its_start_is_left_alone_for_a_while() {
        let failed = |entered: u64, changed: u64, now: u64| {
            let text = format!(
                "Id=a.service\nActiveState=failed\nActiveEnterTimestampMonotonic={}\nStateChangeTimestampMonotonic={}\n",
                entered * 1_000_000,
                changed * 1_000_000
            );
            read(&text, &["a.service".to_owned()], now * 1_000_000)
                .remove("a.service")
                .unwrap_or_default()
                .0
                .hold_off
        };
        assert!(failed(100, 110, 112), "it lived for 10 s");
        assert!(failed(0, 110, 112), "it never came up");
        assert!(!failed(100, 110, 110 + HELD_OFF_FOR_S), "that was long ago");
        assert!(!failed(100, 100 + BRIEF_S, 101 + BRIEF_S), "it had long been well");
    }

    #[test]
    fn what_nothing_was_told_of_is_not_there() {
        assert_eq!(seen("nginx.service", 0).load, "not-found");
    }

    #[test]
    fn names_of_units_are_told_from_everything_else() {
        for good in ["nginx.service", "getty@tty1.service", r"srv-a\x2db.mount", "-.mount", "a:b_c.timer"] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "nginx",
            "nginx*.service",
            "a b.service",
            "getty@.service",
            ".service",
            "a/b.service",
            "--version",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
