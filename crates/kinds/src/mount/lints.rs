//! What is allowed in a spec and bites later: said when a spec is checked, never refused.

use super::want::Want;
use super::wishes::Automount;
use evenkeel_core::Complaint;
use std::path::Path;

pub(super) fn lints(name: &str, want: &Want) -> Vec<Complaint> {
    let mut lints = vec![];
    if want.fstype.starts_with("nfs") {
        lints.extend(loss(want));
        lints.extend(locks(name, want));
        lints.extend(squash(want));
    }
    lints.extend(fstab_only(want));
    lints
}

fn options(message: impl Into<String>, help: &str) -> Complaint {
    Complaint::warning(["options"], message, help)
}

/// Whether a lost server loses writes.
fn loss(want: &Want) -> Option<Complaint> {
    if want.has("ro") {
        return None;
    }
    match ["soft", "softerr"].into_iter().find(|word| want.has(word)) {
        Some(word) => Some(options(
            format!(
                "`{word}` on a share that is written to: a write that times out is lost, and few programs look"
            ),
            "say hard, and `automount: true` or `timeout` for what should not hang",
        )),
        None if !want.has("hard") => Some(options(
            "neither `hard` nor `soft` is named: nobody would notice if it were mounted soft, which loses writes",
            "name hard",
        )),
        None => None,
    }
}

fn locks(name: &str, want: &Want) -> Option<Complaint> {
    const LOCAL: [&str; 4] = ["nolock", "local_lock=all", "local_lock=flock", "local_lock=posix"];
    let word = LOCAL.into_iter().find(|word| want.has(word))?;
    let last = Path::new(name).file_name().and_then(|last| last.to_str()).unwrap_or_default();
    let message = if ["sessions", "databases"].contains(&last) {
        format!("`{word}` and {last}: two nodes take the same lock at once, and web2py writes over itself")
    } else {
        format!("`{word}`: a lock counts on this node only, and the others do not see it")
    };
    Some(options(message, "take it out where more than one node writes"))
}

/// Whether the server takes root for root.
fn squash(want: &Want) -> Option<Complaint> {
    let sys = !want.options.iter().any(|one| one.starts_with("sec=") && one != "sec=sys");
    (sys && want.owner.as_deref() == Some("root")).then(|| {
        Complaint::warning(
            ["owner"],
            "root owns the folder, and with sec=sys a server usually takes root for nobody (root_squash)",
            "name the user that the application runs as",
        )
    })
}

/// What only the generator of units from /etc/fstab reads.
fn fstab_only(want: &Want) -> Option<Complaint> {
    let word = want.options.iter().find(|one| one.starts_with("x-systemd."))?;
    let instead = match word.split('=').next().unwrap_or(word) {
        "x-systemd.automount" => "say automount: true",
        "x-systemd.idle-timeout" => "say automount: {idle: 10m}",
        "x-systemd.mount-timeout" => "say timeout: 30s",
        _ => "take it out",
    };
    Some(options(format!("`{word}` means something in /etc/fstab only, and nothing in a unit"), instead))
}

/// Where nodes of one tier show different things at one place.
pub(super) fn across(name: &str, of: &[(&str, &Want)]) -> Vec<Complaint> {
    let Some(((first, one), others)) = of.split_first() else { return vec![] };
    let network = |want: &Want| want.network();
    let Some((other, two)) = others.iter().find(|(_, want)| want.source != one.source) else { return vec![] };
    if !network(one) && !network(two) {
        return vec![];
    }
    let message = format!(
        "nodes of one tier mount different things at {name}: {first} {}, {other} {}; what one writes there the others do \
         not see",
        one.source, two.source
    );
    vec![Complaint::warning(
        ["source"],
        message,
        "name one source in the tier, or keep the nodes in different tiers",
    )]
}

/// Fields that cannot stand together, or mean nothing where they stand.
pub(super) fn contradictions(want: &Want) -> Vec<Complaint> {
    let mut errors = vec![];
    let mut error = |path: &[&str], what: &str, help: &str| {
        errors.push(Complaint::error(path.iter().copied(), what, help));
    };
    if want.has("ro") && want.health.as_ref().is_some_and(|health| health.write) {
        error(&["health", "write"], "a share that is mounted ro takes no write", "take one of the two out");
    }
    if want.has("ro") && want.seed {
        error(&["seed"], "nothing can be copied into a share that is mounted ro", "take one of the two out");
    }
    if let Some(health) = &want.health {
        if health.within().is_zero() || health.within().as_secs() > 60 {
            error(&["health", "within"], "this is no time to wait for an answer", "1s to 60s");
        }
        if health.slow() > health.within() {
            error(&["health", "slow"], "slower than `within` is hung, not slow", "a time below `within`");
        }
        if health.every().as_secs() < 1 {
            error(&["health", "every"], "this is too often", "1s or more");
        }
    }
    if want.timeout.as_ref().is_some_and(|timeout| timeout.duration().as_secs() < 1) {
        error(&["timeout"], "this is no time to wait for a mount", "1s or more");
    }
    if let Some(Automount::On { idle: Some(idle) }) = &want.automount
        && idle.duration().as_secs() < 1
    {
        error(&["automount", "idle"], "this is too short", "1s or more");
    }
    errors
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use evenkeel_core::Severity;

    fn of(name: &str, fields: &str) -> Vec<String> {
        let want: Want = serde_json::from_str(fields).unwrap();
        let all = super::super::want::check(name, &want);
        all.into_iter()
            .map(|one| format!("{:?} {}: {}", one.severity, one.path.join("."), one.message))
            .collect()
    }

    fn nfs(options: &str) -> String {
        format!(r#"{{"source": "h:/x", "type": "nfs4", "options": [{options}]}}"#)
    }

    #[test]
    fn what_loses_writes_is_warned_of() {
        for (options, word) in [("\"soft\"", "soft"), ("\"softerr\"", "softerr"), ("\"rw\"", "neither")] {
            let told = of("/srv/x", &nfs(options));
            assert!(
                matches!(&told[..], [one] if one.starts_with("Warning options") && one.contains(word)),
                "{told:?}"
            );
        }
        assert_eq!(of("/srv/x", &nfs("\"hard\"")), [""; 0]);
        assert_eq!(of("/srv/x", &nfs("\"ro\", \"soft\"")), [""; 0]);
    }

    #[test]
    fn locks_that_the_others_do_not_see_are_warned_of() {
        let told = of("/srv/eden/sessions", &nfs("\"hard\", \"nolock\""));
        assert!(told[0].contains("`nolock` and sessions"), "{told:?}");
        let told = of("/srv/eden/x", &nfs("\"hard\", \"local_lock=flock\""));
        assert!(told[0].contains("on this node only"), "{told:?}");
    }

    #[test]
    fn root_on_a_share_that_squashes_it_is_warned_of() {
        let with = |sec: &str| {
            format!(r#"{{"source": "h:/x", "type": "nfs4", "options": ["hard"{sec}], "owner": "root"}}"#)
        };
        assert!(of("/srv/x", &with(""))[0].starts_with("Warning owner"));
        assert!(of("/srv/x", &with(", \"sec=sys\""))[0].contains("root_squash"));
        assert_eq!(of("/srv/x", &with(", \"sec=krb5\"")), [""; 0]);
    }

    #[test]
    fn what_only_fstab_means_is_warned_of() {
        let told = of("/srv/x", &nfs("\"hard\", \"x-systemd.mount-timeout=10s\""));
        assert!(told[0].contains("/etc/fstab only"), "{told:?}");
    }

    #[test]
    fn what_cannot_stand_together_is_refused() {
        for more in [
            r#""options": ["ro"], "health": {"write": true}"#,
            r#""options": ["ro"], "seed": true"#,
            r#""options": ["ro"], "health": {"within": "2m"}"#,
            r#""options": ["ro"], "health": {"within": "1s", "slow": "2s"}"#,
            r#""options": ["ro"], "timeout": "1ms""#,
            r#""options": ["ro"], "automount": {"idle": "0s"}"#,
            r#""options": ["ro"], "group": "-x""#,
        ] {
            let told = of("/srv/x", &format!(r#"{{"source": "h:/x", "type": "nfs4", {more}}}"#));
            assert!(matches!(&told[..], [one] if one.starts_with("Error")), "{more}: {told:?}");
        }
    }

    #[test]
    fn nodes_of_a_tier_that_see_different_shares_are_warned_of() {
        let want = |source: &str| -> Want {
            serde_json::from_str(&format!(r#"{{"source": "{source}", "type": "nfs4"}}"#)).unwrap()
        };
        let (a, b) = (want("h:/a"), want("h:/b"));
        let told = across("/srv/x", &[("mw1", &a), ("mw2", &a), ("mw3", &b)]);
        assert_eq!(told[0].severity, Severity::Warning);
        assert!(told[0].message.contains("mw1 h:/a, mw3 h:/b"), "{}", told[0].message);
        assert_eq!(across("/srv/x", &[("mw1", &a), ("mw2", &a)]), []);
    }
}
