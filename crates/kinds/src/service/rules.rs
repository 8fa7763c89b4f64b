//! What a spec may not ask of a unit: names that are none, and units that keep the machine itself going.

use super::want::{Restart, Slot, Want, When};
use evenkeel_core::Complaint;

/// Units that a spec has no say in: what runs everything else, and what carries the spec out.
const BARRED: [&str; 4] = ["systemd-", "dbus", "evenkeel.", "evenkeel-"];
/// The ways in. They may be started and enabled, and are never taken away.
const WAYS_IN: [&str; 4] = ["ssh.", "sshd.", "ssh@", "sshd@"];
const KINDS: [&str; 3] = [".service", ".timer", ".socket"];

pub(super) fn check(name: &str, want: &Want) -> Vec<Complaint> {
    let mut told = vec![];
    let whole: [&str; 0] = [];
    if let Some((message, help)) = bad_name(name) {
        return vec![Complaint::error(whole, message, help)];
    }
    if is_barred(name) {
        let help = "the service manager, the bus and evenkeel itself are left to the system";
        return vec![Complaint::error(whole, format!("{name} is no unit that a spec may touch"), help)];
    }
    if is_way_in(name) {
        told.extend(ways_in(name, want));
    }
    if let Restart::When(when) = &want.restart {
        told.extend(when_said(when));
    }
    if want == &Want::default() {
        let help = "say `enabled`, `active` or `restart`";
        told.push(Complaint::warning(whole, format!("{name}: nothing is said of it"), help));
    }
    told
}

fn bad_name(name: &str) -> Option<(String, &'static str)> {
    let kind = KINDS.iter().find_map(|kind| name.strip_suffix(kind));
    let plain = |c: u8| c.is_ascii_alphanumeric() || b":_.\\@-".contains(&c);
    let Some(stem) = kind else {
        return Some((
            format!("`{name}` is no unit that this kind keeps"),
            "write the whole name of a service, a timer or a socket: nginx.service",
        ));
    };
    if stem.is_empty() || name.len() > 255 || name.starts_with('-') || !name.bytes().all(plain) {
        return Some((
            format!("`{name}` is not the name of a unit"),
            "letters, digits and :_.\\@- make one; `systemd-escape` writes others so",
        ));
    }
    stem.ends_with('@')
        .then(|| (format!("{name} is a template, and no unit"), "name an instance of it: getty@tty1.service"))
}

/// Whether a unit is none of a spec's business.
pub(super) fn is_barred(name: &str) -> bool {
    BARRED.iter().any(|stem| name.starts_with(stem))
}

/// Whether people come in by it.
pub(super) fn is_way_in(name: &str) -> bool {
    WAYS_IN.iter().any(|stem| name.starts_with(stem))
}

fn ways_in(name: &str, want: &Want) -> Vec<Complaint> {
    let said = [
        ("active", want.active == Some(false), "stopped"),
        ("enabled", want.enabled == Some(false), "disabled"),
        ("restart", want.restart != Restart::Never, "restarted"),
    ];
    let one = |(field, _, done): (&str, bool, &str)| {
        let help = "people come in by it; it may be started and enabled";
        Complaint::error([field], format!("{name} is never {done} by a spec"), help)
    };
    said.into_iter().filter(|(_, asked, _)| *asked).map(one).collect()
}

fn when_said(when: &When) -> Vec<Complaint> {
    let mut told = vec![];
    if when.window.is_none() && matches!(when.slot, None | Some(Slot::Tier(false))) {
        let help = "say a window, a slot, or `restart: allowed`";
        told.push(Complaint::error(["restart"], "it does not say what a restart waits for", help));
    }
    if let Some(Slot::Group(group)) = &when.slot {
        let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        if group.is_empty() || group.len() > 64 || !group.bytes().all(plain) {
            let message = format!("`{group}` is no name of a group");
            let help = "up to 64 letters, digits and ._- make one; `slot: true` is the tier's";
            told.push(Complaint::error(["restart", "slot"], message, help));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn told(name: &str, fields: &str) -> Vec<String> {
        let want = serde_json::from_str(fields).unwrap();
        check(name, &want).into_iter().map(|one| format!("{} {}", one.path.join("."), one.message)).collect()
    }

    #[test]
    fn names_that_are_no_units_are_refused() {
        for bad in
            ["nginx", "home.mount", "-x.service", "a b.service", "getty@.service", ".service", "a/b.service"]
        {
            assert_eq!(told(bad, r#"{"active": true}"#).len(), 1, "{bad}");
        }
        for good in ["nginx.service", "getty@tty1.service", "a.timer", "b.socket", r"my\x2dapp.service"] {
            assert_eq!(told(good, r#"{"active": true}"#), [""; 0], "{good}");
        }
    }

    #[test]
    fn what_keeps_the_machine_going_is_not_touched_and_the_way_in_never_taken_away() {
        for barred in ["systemd-journald.service", "dbus.service", "dbus.socket", "evenkeel.service"] {
            assert_eq!(told(barred, r#"{"active": true}"#).len(), 1, "{barred}");
        }
        assert_eq!(told("ssh.service", r#"{"active": true, "enabled": true}"#), [""; 0]);
        let said = told("sshd.service", r#"{"active": false, "enabled": false, "restart": "allowed"}"#);
        assert_eq!(said.len(), 3, "{said:?}");
    }

    #[test]
    fn a_restart_says_what_it_waits_for() {
        assert_eq!(told("a.service", r#"{"restart": {}}"#).len(), 1);
        assert_eq!(told("a.service", r#"{"restart": {"slot": false}}"#).len(), 1);
        assert_eq!(told("a.service", r#"{"restart": {"slot": "a b"}}"#).len(), 1);
        assert_eq!(told("a.service", r#"{"restart": {"slot": true, "window": "02:00-04:00"}}"#), [""; 0]);
    }
}
