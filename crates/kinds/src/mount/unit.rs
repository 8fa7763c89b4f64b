//! The units that evenkeel owns, a mount's and its automount's: their names, their texts, and what an old one says.
//!
//! systemd takes `What=`, `Where=` and `Options=` as they are, but for specifiers (`%`), blanks at the ends, and a
//! backslash at a line's end. The first is escaped here; the others cannot come this far (see `want`).

use super::want::{Source, Want};
use super::wishes::Automount;
use crate::owned::MARKER;
use evenkeel_core::DurationWord;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where units of this machine are.
pub(super) const FOLDER: &str = "/etc/systemd/system";

/// The name of the unit that mounts at `path`, as `systemd-escape --path --suffix=mount` tells it.
pub(super) fn name(path: &Path) -> String {
    format!("{}.mount", escape_path(&path.to_string_lossy()))
}

/// The name of the unit that waits there for the first touch.
pub(super) fn automount_name(path: &Path) -> String {
    format!("{}.automount", escape_path(&path.to_string_lossy()))
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

/// How long mounting may take where nobody says: mount(8) of a hard mount whose server is away never comes back.
const PATIENCE: Duration = Duration::from_secs(30);
/// Says that the folder below the mount was made immutable by us, so that it is not left so.
const GUARDED: &str = "# guard: immutable";
/// Says what an older text of this unit has mounted, as long as that is in force.
const BEFORE: &str = "# in force until it is mounted anew: ";

/// The whole text of the unit that mounts `want` at `target`; `before` is what an older text has mounted there.
pub(super) fn text(want: &Want, target: &Path, before: Option<&str>) -> String {
    let what = match want.source() {
        Source::Device(path) => path.to_string_lossy().into_owned(),
        _ => want.source.clone(),
    };
    let fstype = if want.fstype == "bind" { "none" } else { &want.fstype };
    let (what, at) = (percent(&what), percent(&target.to_string_lossy()));
    let (options, by) = (percent(&options(want).join(",")), wanted_by(want));
    let said = want.timeout.as_ref().map(DurationWord::duration);
    let patience = said
        .or_else(|| want.network().then_some(PATIENCE))
        .map_or_else(String::new, |time| format!("TimeoutSec={}\n", span(time)));
    let guarded = want.guard.map_or_else(String::new, |_| format!("{GUARDED}\n"));
    let before = before.map_or_else(String::new, |before| format!("{BEFORE}{before}\n"));
    format!(
        "{MARKER}\n{guarded}{before}[Unit]\nDescription=A mount that evenkeel keeps\n\n[Mount]\nWhat={what}\nWhere={at}\n\
         Type={fstype}\nOptions={options}\n{patience}\n[Install]\nWantedBy={by}\n"
    )
}

/// The whole text of the unit that waits for the first touch.
pub(super) fn automount_text(want: &Want, target: &Path) -> String {
    let at = percent(&target.to_string_lossy());
    let idle = match &want.automount {
        Some(Automount::On { idle: Some(idle) }) => format!("TimeoutIdleSec={}\n", span(idle.duration())),
        _ => String::new(),
    };
    let by = wanted_by(want);
    format!(
        "{MARKER}\n[Unit]\nDescription=A mount that evenkeel keeps, at the first touch\n\n[Automount]\nWhere={at}\n{idle}\n\
         [Install]\nWantedBy={by}\n"
    )
}

/// As `systemd.time(7)` reads it.
fn span(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}

/// Whether a text of ours says that the folder was made immutable.
pub(super) fn guards(text: &str) -> bool {
    text.lines().any(|line| line == GUARDED)
}

/// What a text of ours stands for in the mount table: what it mounts, and what an older one has.
pub(super) fn stands_for(text: &str) -> impl Iterator<Item = String> {
    let own = format!("{} {}", value(text, "Type"), value(text, "What"));
    let before = text.lines().find_map(|line| line.strip_prefix(BEFORE)).map(str::to_owned);
    std::iter::once(own).chain(before)
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
    if text.lines().any(|line| line == "[Automount]") {
        let idle = value(text, "TimeoutIdleSec");
        let then = if idle.is_empty() { idle } else { format!(", unmounted after {idle} without one") };
        return format!("at the first touch{then}");
    }
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
        let fields = r#"{"source": "/srv/%h", "type": "bind", "options": ["x=%n"]}"#;
        let want: Want = serde_json::from_str(fields).unwrap();
        let text = text(&want, Path::new("/mnt/%i"), None);
        assert!(
            text.contains("What=/srv/%%h\nWhere=/mnt/%%i\nType=none\nOptions=x=%%n,bind,nofail\n"),
            "{text}"
        );
        assert_eq!(value(&text, "Where"), "/mnt/%i");
    }

    #[test]
    fn times_are_said_as_systemd_reads_them() {
        let fields =
            r#"{"source": "h:/x", "type": "nfs4", "timeout": "1500ms", "automount": {"idle": "10m"}}"#;
        let want: Want = serde_json::from_str(fields).unwrap();
        assert!(text(&want, Path::new("/x"), None).contains("\nTimeoutSec=1500ms\n"));
        assert!(automount_text(&want, Path::new("/x")).contains("Where=/x\nTimeoutIdleSec=600s\n"));
    }

    #[test]
    fn a_unit_tells_what_an_older_one_of_ours_has_mounted() {
        let want: Want =
            serde_json::from_str(r#"{"source": "h:/new", "type": "nfs4", "guard": "immutable"}"#).unwrap();
        let text = text(&want, Path::new("/x"), Some("nfs4 h:/old"));
        assert_eq!(stands_for(&text).collect::<Vec<_>>(), ["nfs4 h:/new", "nfs4 h:/old"]);
        assert!(guards(&text));
    }
}
