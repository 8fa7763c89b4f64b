//! What the tests of the language share: three kinds that exist for them only, and repositories from disk or from text.
//!
//! The kinds are like the real ones in shape, so that the language is tested without knowing theirs.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "shared by several test programs"
)]
#![expect(clippy::disallowed_methods, reason = "test repositories lie on disk")]

use evenkeel_core::{Complaint, Derived, Fault, FileMode, Kind, PathEnd, Plan, Section, Sensor};
use evenkeel_spec::{Bundle, Entry, Kinds, Problems, Repository, wants_path};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The table.
pub const KINDS: Kinds = &[&Knob, &Share, &Database];

macro_rules! kind {
    ($kind:ident, $want:ident, $name:literal, $example:literal, { $($more:tt)* }) => {
        pub struct $kind;
        impl Kind for $kind {
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = "for tests";
            const EXAMPLE: &'static str = $example;
            type Want = $want;
            type Have = ();
            fn observe(_: &Section<$want>, _: &dyn Sensor) -> Result<(), Fault> {
                Ok(())
            }
            fn plan(_: &Section<$want>, (): &()) -> Plan {
                Plan::default()
            }
            $($more)*
        }
    };
}

/// A number or a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Word {
    Truth(bool),
    Number(i64),
    Float(f64),
    Text(String),
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KnobWant {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Word>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_least: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_most: Option<i64>,
}

kind!(Knob, KnobWant, "sysctl", "vm.swappiness: 1\nnet.core.somaxconn: {at_least: 1024}\n", {
    const SHORTHAND: Option<&'static str> = Some("value");
    const DISPLACES: &'static [(&'static str, &'static [&'static str])] =
        &[("value", &["at_least", "at_most"]), ("at_least", &["value"]), ("at_most", &["value"])];
    fn derive(paths: &[PathEnd], _: &BTreeMap<String, serde_json::Value>) -> Vec<Derived> {
        let one = |(path, end): (usize, &PathEnd)| Derived {
            item: format!("path.{}", end.side.word()),
            fields: [("value".to_owned(), end.promise.keepalive_time.into())].into(),
            path,
        };
        paths.iter().enumerate().map(one).collect()
    }
    fn check_paths(name: &str, want: &KnobWant, paths: &[PathEnd]) -> Vec<Complaint> {
        let said = want.value.as_ref().and_then(|word| match word {
            Word::Number(n) => Some(*n),
            _ => None,
        });
        let long = |end: &&PathEnd| name.starts_with("path.") && said > Some(end.promise.latest_probe.into());
        let one = |end: &PathEnd| {
            let what = format!("{name} breaks path `{}` ({})", end.name, end.idle_timeout_at);
            Complaint::error(["value"], what, "leave it out")
        };
        paths.iter().filter(long).map(one).collect()
    }
    fn check(name: &str, want: &KnobWant) -> Vec<Complaint> {
        let mut found = vec![];
        if !name.contains('.') {
            found.push(Complaint::error(
                [""; 0],
                format!("{name} is no key"),
                "keys have dots: `vm.swappiness`",
            ));
        }
        if want.value.is_none() && want.at_least.is_none() && want.at_most.is_none() {
            found.push(Complaint::error([""; 0], "no value is said", "say `value`, `at_least` or `at_most`"));
        }
        if want.at_least.is_some_and(|least| least < 0) {
            found.push(Complaint::error(["at_least"], "less than nothing", "give a number from 0 on"));
        }
        if name == "kernel.shmall" {
            found.push(Complaint::warning(["value"], "hardly matters any more", "leave it out"));
        }
        found
    }
});

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareWant {
    source: String,
    #[serde(rename = "type")]
    fstype: String,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sentinel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<FileMode>,
}

kind!(Share, ShareWant, "mount", "/srv/x: {source: 'host:/x', type: nfs4, options: [rw]}\n", {
    fn across(name: &str, of: &[(&str, &ShareWant)]) -> Vec<Complaint> {
        let sources: std::collections::BTreeSet<&str> =
            of.iter().map(|(_, want)| want.source.as_str()).collect();
        let who: Vec<&str> = of.iter().map(|(node, _)| *node).collect();
        let what = format!("{name} is not the same share on {}", who.join(", "));
        if sources.len() > 1 {
            vec![Complaint::warning(["source"], what, "name one source for the tier")]
        } else {
            vec![]
        }
    }
    fn check(_: &str, want: &ShareWant) -> Vec<Complaint> {
        let bad = want.options.iter().position(|option| option.contains(' '));
        bad.map(|at| {
            Complaint::error(["options".to_owned(), at.to_string()], "an option holds a blank", "split it")
        })
        .into_iter()
        .collect()
    }
});

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatabaseWant {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_directory: Option<String>,
    #[serde(default)]
    settings: BTreeMap<String, Word>,
    #[serde(default)]
    roles: BTreeMap<String, BTreeMap<String, Word>>,
}

kind!(Database, DatabaseWant, "postgresql", "13/main: {settings: {work_mem: 8MB}}\n", {
    fn check(_: &str, want: &DatabaseWant) -> Vec<Complaint> {
        let odd = want.settings.iter().find(|(_, value)| **value == Word::Text("256mb".into()));
        odd.map(|(name, _)| {
            let message = format!("`{name}` has no unit that PostgreSQL knows: 256mb");
            Complaint::error(["settings", name.as_str()], message, "write 256MB")
        })
        .into_iter()
        .collect()
    }
});

/// A bundle of texts.
pub fn bundle(files: &[(&str, &str)]) -> Bundle {
    let mut bundle = Bundle::default();
    for (path, text) in files {
        bundle.insert_file(*path, *text);
    }
    bundle
}

/// Read it with the kinds of the tests.
pub fn read(files: &[(&str, &str)]) -> Result<(Repository, Problems), Problems> {
    Repository::read(&bundle(files), KINDS)
}

/// One tier with one node, `db1`, whose tier's file is `tier`.
pub fn one_tier(tier: &str) -> Result<(Repository, Problems), Problems> {
    read(&[("fleet.yaml", FLEET), ("tiers/db.yaml", tier)])
}

/// A fleet of one node.
pub const FLEET: &str = "version: 1\nfleet: eden\nnodes:\n  db1: {tier: db}\n";

/// The one-line form of every problem.
pub fn lines(problems: &Problems) -> Vec<String> {
    problems.0.iter().map(evenkeel_spec::Problem::one_line).collect()
}

/// The folder of the whole project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// A repository from disk, as a fetcher would hand it over: no symlink followed, big files by their size only.
pub fn load(folder: &Path) -> Bundle {
    let mut bundle = Bundle::default();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            let kind = path.symlink_metadata().unwrap();
            if kind.is_dir() {
                folders.push(path);
            } else if wants_path(&name) {
                let entry = match () {
                    () if kind.is_symlink() => {
                        Entry::Link(path.read_link().unwrap().to_str().unwrap().to_owned())
                    }
                    () if kind.len() > Bundle::FILE_CAP as u64 => Entry::TooBig(kind.len()),
                    () => Entry::File(std::fs::read(&path).unwrap()),
                };
                bundle.files.insert(name, entry);
            }
        }
    }
    bundle
}
