//! The schemas, held against the examples and the bad repositories by a validator that is not ours.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

use std::path::Path;
use std::process::Command;
use support::text;

const CHECK: &str = r#"
import json, sys, pathlib, yaml, jsonschema
which, schema_file, *documents = sys.argv[1:]
schema = json.load(open(schema_file))
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
class Loader(yaml.SafeLoader): pass
# Core-schema scalars only: PyYAML would read `on` as true and 12:30 as a number.
Loader.yaml_implicit_resolvers = {k: [(t, r) for t, r in v if t not in ('tag:yaml.org,2002:timestamp',)] for k, v in yaml.SafeLoader.yaml_implicit_resolvers.items()}
bad = 0
for document in documents:
    errors = list(validator.iter_errors(yaml.load(open(document), Loader)))
    for error in errors: print(f"{document}: {'/'.join(map(str, error.absolute_path))}: {error.message[:200]}")
    bad += bool(errors)
print(f"{len(documents)} documents, {bad} refused")
sys.exit(1 if bad else 0)
"#;

fn check(which: &str, documents: &[String]) -> std::process::Output {
    let out = Command::new(support::EVENKEEL).args(["schema", which]).output().unwrap();
    assert!(out.status.success(), "{}", text(&out));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &out.stdout).unwrap();
    Command::new("python3").args(["-c", CHECK, which]).arg(file.path()).args(documents).output().unwrap()
}

fn example(sub: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/eden").join(sub);
    let files = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .map(|path| path.display().to_string())
        .collect()
}

#[test]
fn an_independent_validator_accepts_every_example() {
    let documents: Vec<String> = ["profiles", "tiers", "nodes"].iter().flat_map(|sub| example(sub)).collect();
    assert!(documents.len() >= 5, "{documents:?}");
    let out = check("document", &documents);
    assert!(out.status.success(), "{}", text(&out));
    let fleet = format!("{}/examples/eden/fleet.yaml", env!("CARGO_MANIFEST_DIR"));
    let out = check("fleet", &[fleet]);
    assert!(out.status.success(), "{}", text(&out));
}

#[test]
fn an_independent_validator_refuses_what_evenkeel_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = [
        ("unknown-key", "version: 1\nsysctll: {}\n"),
        ("wrong-version", "version: 2\n"),
        ("settings-is-a-list", "version: 1\npostgresql: {13/main: {settings: [a]}}\n"),
        ("unknown-field", "version: 1\nmount: {/srv/a: {source: tmpfs, type: tmpfs, optoins: []}}\n"),
    ];
    for (name, document) in wrong {
        let path = dir.path().join(name);
        std::fs::write(&path, document).unwrap();
        let out = check("document", &[path.display().to_string()]);
        assert_eq!(out.status.code(), Some(1), "{name}: {}", text(&out));
    }
}

#[test]
fn the_examples_are_valid() {
    let root = format!("{}/examples/eden", env!("CARGO_MANIFEST_DIR"));
    for format in ["text", "json", "sarif"] {
        let out =
            Command::new(support::EVENKEEL).args(["validate", &root, "--format", format]).output().unwrap();
        assert!(out.status.success(), "{}", text(&out));
        if format != "text" {
            serde_json::from_slice::<serde_json::Value>(&out.stdout).unwrap();
        }
    }
}
