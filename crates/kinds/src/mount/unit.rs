//! The mount unit that evenkeel owns: its name, its text, and what an old one says.
//!
//! systemd takes `What=`, `Where=` and `Options=` as they are, but for specifiers (`%`), blanks at the ends, and a
//! backslash at a line's end. The first is escaped here; the others cannot come this far (see `want`).

use super::want::{Source, Want};
use crate::owned::MARKER;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where units of this machine are.
pub(super) const FOLDER: &str = "/etc/systemd/system";

/// The name of the unit that mounts at `path`, as `systemd-escape --path --suffix=mount` tells it.
pub(super) fn name(path: &Path) -> String {
    format!("{}.mount", escape_path(&path.to_string_lossy()))
}

/// The unit's file.
pub(super) fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// `systemd-escape --path`: slashes become dashes, and what is neither letter, digit nor one of `:_.` its bytes in hex.
pub(crate) fn escape_path(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() {
        return "-".to_owned();
    }
    let mut escaped = String::new();
    for (at, byte) in parts.join("/").bytes().enumerate() {
        match byte {
            b'/' => escaped.push('-'),
            b'.' if at == 0 => escaped.push_str("\\x2e"),
            b':' | b'_' | b'.' => escaped.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            _ => {
                let _ = write!(escaped, "\\x{byte:02x}");
            }
        }
    }
    escaped
}

/// The target that wants it: boot goes on without what is not there.
pub(super) fn wanted_by(want: &Want) -> &'static str {
    if want.network() { "remote-fs.target" } else { "local-fs.target" }
}

/// The options as mount(8) gets them; `nofail` keeps a boot from waiting for them or failing with them.
pub(super) fn options(want: &Want) -> Vec<String> {
    let mut options: Vec<String> = want.options.clone();
    let mut add = |option: &str| {
        if !options.iter().any(|one| one == option) {
            options.push(option.to_owned());
        }
    };
    if want.fstype == "bind" {
        add("bind");
    }
    if matches!(want.source(), Source::Image(_)) {
        add("loop");
    }
    if want.network() {
        add("_netdev");
    }
    add("nofail");
    options
}

/// The whole text of the unit that mounts `want` at `target`.
pub(super) fn text(want: &Want, target: &Path) -> String {
    let what = match want.source() {
        Source::Device(path) => path.to_string_lossy().into_owned(),
        _ => want.source.clone(),
    };
    let fstype = if want.fstype == "bind" { "none" } else { &want.fstype };
    let (what, at) = (percent(&what), percent(&target.to_string_lossy()));
    let (options, by) = (percent(&options(want).join(",")), wanted_by(want));
    format!(
        "{MARKER}\n[Unit]\nDescription=A mount that evenkeel keeps\n\n[Mount]\nWhat={what}\nWhere={at}\nType={fstype}\n\
         Options={options}\n\n[Install]\nWantedBy={by}\n"
    )
}

fn percent(text: &str) -> String {
    text.replace('%', "%%")
}

/// The value of one key in a unit of ours.
pub(super) fn value(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_default().replace("%%", "%")
}

/// What a unit mounts, in one line.
pub(super) fn summary(text: &str) -> String {
    ["Type", "What", "Options"].map(|key| value(text, key)).join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    #![expect(clippy::disallowed_methods, reason = "the real systemd-escape is the judge")]
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    #[test]
    fn paths_are_escaped_as_systemd_tells() {
        for (path, escaped) in [
            ("/srv/my-web/up loads", r"srv-my\x2dweb-up\x20loads"),
            ("/", "-"),
            ("/.hidden/.x", r"\x2ehidden-.x"),
            ("//srv//a:b_c/", "srv-a:b_c"),
            ("/srv/ä%", r"srv-\xc3\xa4\x25"),
        ] {
            assert_eq!(escape_path(path), escaped, "{path}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
        #[test]
        fn the_real_systemd_escape_agrees(path in "(/[a-zA-Z0-9 .:_%\\\\äß€@-]{1,6}){1,4}") {
            prop_assume!(!path.split('/').any(|part| part == ".." || part == "."));
            // Where the program is not there, there is nothing to compare with.
            if let Ok(real) = Command::new("systemd-escape").args(["--path", "--", &path]).output() {
                prop_assert!(real.status.success(), "{}", path);
                let real = String::from_utf8(real.stdout).unwrap();
                prop_assert_eq!(real.trim_end(), escape_path(&path));
            }
        }
    }

    #[test]
    fn nothing_of_a_value_becomes_a_specifier() {
        let want = Want {
            source: "/srv/%h".into(),
            fstype: "bind".into(),
            options: vec!["x=%n".into()],
            sentinel: None,
            owner: None,
            permissions: None,
            mode: None,
        };
        let text = text(&want, Path::new("/mnt/%i"));
        assert!(
            text.contains("What=/srv/%%h\nWhere=/mnt/%%i\nType=none\nOptions=x=%%n,bind,nofail\n"),
            "{text}"
        );
        assert_eq!(value(&text, "Where"), "/mnt/%i");
    }
}
