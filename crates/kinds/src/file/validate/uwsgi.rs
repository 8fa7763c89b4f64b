//! uWSGI's ini files: what of them would run a program, and which service of PostgreSQL they name.
//!
//! uWSGI can be told to run almost anything, often as root before it gives its rights up. A spec can run no command, so those
//! options are refused wherever a `[uwsgi]` section stands. The application itself is no business of ours.

use super::Flaw;
use super::ini::{self, Line};

/// Options that run a program or code that stands in the file, after `_` became `-`.
const RUN: &[&str] = &[
    "alarm-cmd",
    "cron",
    "cron2",
    "eval",
    "fork-server",
    "perl-exec",
    "perl-exec-post-fork",
    "pyrun",
    "python-eval",
    "rbshell",
    "rb-shell",
    "lua-shell",
    "pyshell",
    "pyshell-oneshot",
    "master-as-root",
    "privileged-binary-patch",
    "privileged-binary-patch-arg",
    "unprivileged-binary-patch",
    "unprivileged-binary-patch-arg",
    "binary-patch",
    "vassals-start-hook",
    "vassals-stop-hook",
    "vassal-start-hook",
    "emperor-wrapper",
    "emperor-use-fork-server",
    "reload-on-exception-exec",
    "spooler-external",
    "touch-exec",
    "dlopen",
    "embedded-plugins",
    "gcall",
    "run-path",
    "exec",
    "symcall",
    "unshare",
    "zerg-server-exec",
    "log-exec",
];
/// Options that begin so.
const BEGIN: &[&str] = &["exec-", "hook-", "call-", "signal-exec", "vassal-fork", "if-exec"];
/// Texts in a value that have uWSGI run a program, or read what somebody else says.
const SCHEMES: &[&str] = &["exec://", "call://", "callint://", "symcall", "pipe:", " cmd:", "fd://"];
/// Options whose value is read as more options.
const INCLUDES: &[&str] =
    &["ini", "include", "inherit", "yaml", "yml", "json", "xml", "ldap", "sqlite3", "plugins-list"];

/// What is wrong with a text that is to be uWSGI's.
pub(super) fn flaws(text: &str) -> Vec<Flaw> {
    let mut flaws = ini::flaws(text);
    if !has_section(text) {
        flaws.push(Flaw {
            line: None,
            what: "there is no section [uwsgi]".into(),
            help: "begin with `[uwsgi]`",
        });
    }
    flaws.extend(programs(text));
    flaws.sort_by_key(|flaw| flaw.line);
    flaws
}

fn has_section(text: &str) -> bool {
    ini::lines(text).iter().any(|(_, line)| matches!(line, Line::Section("uwsgi")))
}

/// What of a text with a `[uwsgi]` section would run a program.
pub(super) fn programs(text: &str) -> Vec<Flaw> {
    if !has_section(text) {
        return vec![];
    }
    let one = |(number, line): (usize, Line)| {
        let Line::Pair(key, value) = line else { return None };
        let name = key.to_lowercase().replace('_', "-");
        let what = if runs(&name) {
            format!("`{}` runs a program, and a spec can run none", key.escape_default())
        } else if SCHEMES.iter().any(|scheme| value.contains(scheme))
            || (INCLUDES.contains(&name.as_str()) && value.contains("://"))
        {
            format!("the value of `{}` runs a program, or reads options from elsewhere", key.escape_default())
        } else if names_code(&name, value) {
            format!("`{}` names code by its path, which would run with uWSGI's rights", key.escape_default())
        } else {
            return None;
        };
        Some(Flaw::at(
            number,
            what,
            "leave it out; whoever installs the program may say it in a file of his own",
        ))
    };
    ini::lines(text).into_iter().filter_map(one).collect()
}

fn runs(name: &str) -> bool {
    RUN.contains(&name)
        || BEGIN.iter().any(|begin| name.starts_with(begin))
        || name.contains("attach-daemon")
        || name.ends_with("-cron")
        || name.ends_with("-cron2")
        || name.ends_with("-exec")
}

fn names_code(name: &str, value: &str) -> bool {
    let plugin =
        matches!(name, "plugin" | "plugins" | "need-plugin" | "need-plugins" | "plugin-dir" | "plugins-dir");
    let loader = name == "env"
        && ["LD_", "PYTHONSTARTUP", "PYTHONHOME", "PERL5OPT", "RUBYOPT"]
            .iter()
            .any(|var| value.starts_with(var));
    (plugin && value.contains('/')) || loader
}

/// After how many seconds a request is ended, and in which line that is said.
pub(in super::super) fn harakiri(text: &str) -> Option<(usize, u64)> {
    let said = |(number, line): (usize, Line)| match line {
        Line::Pair("harakiri", value) => Some((number, value.parse().ok()?)),
        _ => None,
    };
    ini::lines(text).into_iter().rev().find_map(said)
}

/// The service file that its workers read, and the section that they name in it.
pub(in super::super) fn service(text: &str) -> Option<(Option<String>, String)> {
    let lines = ini::lines(text);
    let env = |name: &str| {
        let said = |(_, line): &(usize, Line)| match line {
            Line::Pair("env", value) => {
                let (key, value) = value.split_once('=')?;
                (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
            }
            _ => None,
        };
        lines.iter().rev().find_map(said).filter(|value| !value.is_empty())
    };
    Some((env("PGSERVICEFILE"), env("PGSERVICE")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STOCK: &str = "[uwsgi]\nchdir=/home/prod/\nmodule=wsgihandler\nmule=run_scheduler.py\nworkers=4\ncheap=true\n\
        harakiri = 90\nsocket=127.0.0.1:59025\nmaster=true\nplugins = python3\nenv = PGSERVICE=eden\n\
        env = PGSERVICEFILE=/home/prod/pg_service.conf\n";

    #[test]
    fn a_usual_file_is_right_and_names_its_service() {
        assert_eq!(flaws(STOCK), []);
        assert_eq!(harakiri(STOCK), Some((7, 90)));
        assert_eq!(service(STOCK), Some((Some("/home/prod/pg_service.conf".into()), "eden".into())));
        assert_eq!(service("[uwsgi]\nenv=PGSERVICE = eden\n"), Some((None, "eden".into())));
        assert_eq!(service("[uwsgi]\n# env = PGSERVICE=eden\n"), None);
    }

    #[test]
    fn whatever_runs_a_program_is_refused_at_its_line() {
        for line in [
            "exec-asap = /bin/sh",
            "exec_pre_app=/bin/sh",
            "EXEC-POST-JAIL = x",
            "hook-asap = exec:/bin/sh",
            "hook-as-root=callret:x",
            "attach-daemon = redis",
            "smart-attach-daemon2 = x",
            "legion-attach-daemon = x",
            "cron = 1 2 3 4 5 /x",
            "cron2 = x",
            "unique-cron = x",
            "legion-cron2=x",
            "alarm = a cmd:/bin/sh",
            "logger = pipe:/bin/sh",
            "ini = exec:///bin/sh",
            "set = @(exec://id)",
            "include = http://evil/x.ini",
            "plugins = /tmp/x.so",
            "env = LD_PRELOAD=/tmp/x.so",
            "call-asap = system",
            "python-eval = import os",
        ] {
            let told = flaws(&format!("[uwsgi]\nworkers = 1\n{line}\n"));
            assert_eq!(told.iter().map(|flaw| flaw.line).collect::<Vec<_>>(), [Some(3)], "{line}");
        }
        assert_eq!(programs("[other]\nexec-asap = x\n"), [], "no file of uWSGI's");
    }

    #[test]
    fn a_text_without_its_section_is_none_of_uwsgis() {
        assert_eq!(flaws("workers = 1\n")[0].line, None);
    }
}
