//! What a spec may not say of a kernel parameter: keys that run programs or load code, and values that the kernel takes
//! without a word and that make no sense.

use super::want::{Goal, Range, Want, number};
use evenkeel_core::{Complaint, SysctlKey};

/// Keys that make the kernel run a program, load code, or name a program to be run later, with everything below them.
const PROGRAMS: &[&str] = &[
    "kernel.core_pattern",
    "kernel.modprobe",
    "kernel.hotplug",
    "kernel.poweroff_cmd",
    "kernel.reboot-cmd",
    "kernel.usermodehelper",
    "kernel.firmware_config",
    "fs.binfmt_misc",
];

/// Keys that are an order to the kernel and no state that could be kept.
const ORDERS: &[&str] = &[
    "vm.drop_caches",
    "vm.compact_memory",
    "net.ipv4.route.flush",
    "net.ipv6.route.flush",
    "kernel.sysrq_trigger",
];

/// What makes sense, where the kernel accepts more. The keepalive ones end where `setsockopt(2)` does: the kernel takes
/// 0, -1 and 99999 for them in /proc/sys without an error.
const RANGES: &[(&str, i64, i64)] = &[
    ("net.ipv4.tcp_keepalive_time", 1, 32767),
    ("net.ipv4.tcp_keepalive_intvl", 1, 32767),
    ("net.ipv4.tcp_keepalive_probes", 1, 127),
    ("net.ipv4.tcp_retries1", 1, 255),
    ("net.ipv4.tcp_retries2", 1, 255),
    ("net.ipv4.tcp_syn_retries", 1, 127),
    ("net.ipv4.tcp_synack_retries", 1, 255),
    ("net.ipv4.tcp_orphan_retries", 0, 255),
    ("net.ipv4.tcp_fin_timeout", 1, 3600),
    ("net.ipv4.tcp_rto_max_ms", 1000, 120_000),
    ("net.ipv4.ip_forward", 0, 1),
    ("net.core.somaxconn", 1, 2_147_483_647),
    ("vm.swappiness", 0, 200),
    ("vm.overcommit_memory", 0, 2),
    ("vm.dirty_ratio", 0, 100),
    ("vm.dirty_background_ratio", 0, 100),
    ("kernel.pid_max", 301, 4_194_304),
];

pub(super) fn check(name: &str, want: &Want) -> Vec<Complaint> {
    const ITEM: [&str; 0] = [];
    let key: SysctlKey = match name.parse() {
        Ok(key) => key,
        Err(error) => {
            let help = "segments of letters, digits and _-:@, with dots between them";
            return vec![Complaint::error(ITEM, format!("{error}"), help)];
        }
    };
    let mut complaints = vec![];
    let spelling = key.to_string();
    if spelling != name {
        let help = format!("write it as {spelling}: one key has one name here");
        complaints.push(Complaint::error(ITEM, format!("`{name}` is another spelling of {spelling}"), help));
    }
    if let Some(why) = refused(&key) {
        complaints.push(Complaint::error(
            ITEM,
            format!("{spelling} {why}"),
            "take it out; a spec cannot set it",
        ));
    }
    match want.goal() {
        None => complaints.push(shapeless(want)),
        Some(Goal::Exactly(value)) => complaints.extend(value_complaint(&spelling, value)),
        Some(Goal::Within(Range { least, most })) => {
            for (field, bound) in [("at_least", least), ("at_most", most)] {
                let outside = bound.and_then(|bound| outside(&spelling, &bound.to_string()));
                complaints.extend(outside.map(|(what, help)| Complaint::error([field], what, help)));
            }
        }
    }
    complaints
}

/// Why a key may not be set by a spec at all.
pub(super) fn refused(key: &SysctlKey) -> Option<&'static str> {
    let text = key.segments().collect::<Vec<_>>().join(".");
    let listed = |keys: &[&str]| {
        keys.iter()
            .any(|one| text.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    };
    if listed(PROGRAMS) {
        Some("makes the kernel run a program or load code, and a spec can run no command")
    } else if listed(ORDERS) {
        Some("is an order to the kernel and no state that could be kept")
    } else {
        None
    }
}

fn shapeless(want: &Want) -> Complaint {
    const ITEM: [&str; 0] = [];
    match (&want.value, want.at_least, want.at_most) {
        (None, Some(least), Some(most)) => Complaint::error(
            ["at_least"],
            format!("at_least {least} is more than at_most {most}"),
            "swap them, or say a value",
        ),
        (Some(_), ..) => Complaint::error(
            ["value"],
            "a value and a range cannot stand together",
            "say either value, or at_least and at_most",
        ),
        _ => Complaint::error(ITEM, "nothing is said of it", "say value, at_least or at_most"),
    }
}

fn value_complaint(key: &str, value: &str) -> Option<Complaint> {
    if value.is_empty() {
        let what = "an empty value: the kernel takes it without an error and changes nothing";
        return Some(Complaint::error(["value"], what, "say the value that is meant"));
    }
    let padded =
        |part: &&str| part.len() > 1 && part.bytes().all(|b| b.is_ascii_digit()) && part.starts_with('0');
    if let Some(part) = value.split_whitespace().find(padded) {
        let what = format!("the kernel reads `{part}` as an octal number");
        return Some(Complaint::error(["value"], what, "write it without leading zeros"));
    }
    outside(key, value).map(|(what, help)| Complaint::error(["value"], what, help))
}

fn outside(key: &str, value: &str) -> Option<(String, String)> {
    let &(_, least, most) = RANGES.iter().find(|(one, ..)| *one == key)?;
    match number(value) {
        Some(n) if (least..=most).contains(&n) => None,
        Some(n) => Some((format!("{n} is no sensible {key}"), format!("it goes from {least} to {most}"))),
        None => Some((
            format!("`{value}` is no number, and {key} is one"),
            format!("it goes from {least} to {most}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn complaints(name: &str, fields: &str) -> Vec<String> {
        match serde_json::from_str::<Want>(fields) {
            Ok(want) => check(name, &want).into_iter().map(|one| one.message).collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn ordinary_values_pass() {
        for (name, fields) in [
            ("net.ipv4.tcp_keepalive_time", r#"{"value": 60}"#),
            ("net.ipv4.tcp_rmem", r#"{"value": "4096 131072\t6291456"}"#),
            ("net.core.somaxconn", r#"{"at_least": 1024}"#),
            ("net/ipv4/conf/eth0.100/rp_filter", r#"{"value": 1}"#),
            ("kernel.shmmax", r#"{"value": 18446744073692774399}"#),
        ] {
            assert_eq!(complaints(name, fields), [""; 0], "{name} {fields}");
        }
    }

    #[test]
    fn a_key_that_runs_a_program_is_refused_in_every_spelling() {
        for name in [
            "kernel.core_pattern",
            "kernel/core_pattern",
            "kernel.modprobe",
            "kernel.usermodehelper.bset",
            "fs.binfmt_misc.register",
            "fs/binfmt_misc/register",
            "kernel.poweroff_cmd",
        ] {
            let told = complaints(name, r#"{"value": "|/bin/sh"}"#).join("\n");
            assert!(told.contains("can run no command"), "{name}: {told}");
        }
    }

    #[test]
    fn a_key_that_leads_elsewhere_is_no_key() {
        for name in
            ["net/ipv4/../../kernel/core_pattern", "../etc/passwd", "a", "", "a+b.c", "vm.swap\nvm.x", "a..b"]
        {
            assert_eq!(complaints(name, r#"{"value": 1}"#).len(), 1, "{name}");
        }
    }

    #[test]
    fn values_that_the_kernel_takes_without_a_word_are_refused() {
        for (name, fields) in [
            ("net.ipv4.tcp_keepalive_time", r#"{"value": 0}"#),
            ("net.ipv4.tcp_keepalive_time", r#"{"value": -1}"#),
            ("net.ipv4.tcp_keepalive_intvl", r#"{"value": 40000}"#),
            ("net.ipv4.tcp_keepalive_time", r#"{"value": "60 70"}"#),
            ("net.ipv4.tcp_keepalive_time", r#"{"at_most": 99999}"#),
            ("vm.swappiness", r#"{"value": ""}"#),
            ("vm.dirty_ratio", r#"{"value": "010"}"#),
            ("vm.swappiness", "{}"),
            ("vm.swappiness", r#"{"value": 1, "at_most": 3}"#),
            ("vm.swappiness", r#"{"at_least": 9, "at_most": 3}"#),
            ("vm.swappiness", r#"{"value": true}"#),
            ("vm.swappiness", r#"{"value": 1.5}"#),
            ("vm.swappiness", r#"{"value": "1\nkernel.core_pattern = |/bin/sh"}"#),
            ("vm.swappiness", r#"{"value": "1\u0000"}"#),
            ("vm.drop_caches", r#"{"value": 3}"#),
        ] {
            assert_eq!(complaints(name, fields).len(), 1, "{name} {fields}: {:?}", complaints(name, fields));
        }
    }
}
