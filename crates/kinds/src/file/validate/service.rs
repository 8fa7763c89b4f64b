//! libpq's service file: strict, because a keyword that libpq does not know fails every connect that names the section.

use super::Flaw;
use crate::pg_service;

/// Keywords that a person may say beside those that kind `pg_service` writes.
const MORE: &[&str] = &[
    "channel_binding",
    "fallback_application_name",
    "gsslib",
    "krbsrvname",
    "load_balance_hosts",
    "options",
    "passfile",
    "password",
    "replication",
    "require_auth",
    "requirepeer",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslnegotiation",
    "sslpassword",
    "sslsni",
    "gssdelegation",
];

pub(super) fn flaws(text: &str) -> Vec<Flaw> {
    let (mut flaws, mut inside) = (vec![], false);
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            inside = true;
            if !line.ends_with(']') || line.len() < 3 {
                flaws.push(Flaw::at(number, "this is no section's name", "write `[eden]`"));
            }
        } else if !inside {
            flaws.push(Flaw::at(number, "this stands in no section", "name one above it: `[eden]`"));
        } else {
            flaws.extend(pair(line, number));
        }
    }
    flaws
}

fn pair(line: &str, number: usize) -> Option<Flaw> {
    let Some((key, _)) = line.split_once('=') else {
        return Some(Flaw::at(number, "this is no `keyword=value`", "libpq would fail every connect"));
    };
    let known = pg_service::knows(key) || MORE.contains(&key);
    let what =
        || format!("libpq knows no keyword `{}`", key.chars().take(40).collect::<String>().escape_default());
    (!known).then(|| Flaw::at(number, what(), "libpq would fail every connect; no blanks around `=`"))
}

/// What is wrong with a section of a service file, as the end of a sentence; `None` where clients that name it connect.
pub(in super::super) fn section(text: &str, name: &str) -> Option<String> {
    let head = |line: &&str| {
        line.trim_start().strip_prefix('[').is_some_and(|rest| rest.starts_with(&format!("{name}]")))
    };
    if !text.lines().any(|line| head(&line)) {
        return Some("has no such section".to_owned());
    }
    let flaw = flaws(text).into_iter().next()?;
    Some(format!("is not right in line {}: {}", flaw.line.unwrap_or_default(), flaw.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libpq_would_stumble_over_is_told() {
        assert_eq!(flaws("# a\n[eden]\nhost=a\nkeepalives_idle=29\npassfile=/x\n\n[b]\n"), []);
        let told: Vec<_> = flaws("host=a\n[eden\n[b]\nhots=x\nword\nhost = x\n")
            .into_iter()
            .filter_map(|one| one.line)
            .collect();
        assert_eq!(told, [1, 2, 4, 5, 6]);
    }

    #[test]
    fn a_section_is_there_only_with_all_that_is_around_it_right() {
        assert_eq!(section("[a]\n[eden]\nhost=b\n", "eden"), None);
        assert_eq!(section("[edens]\n", "eden").as_deref(), Some("has no such section"));
        assert!(section("[eden]\nkeepalive=1\n", "eden").is_some_and(|why| why.contains("line 2")));
    }
}
