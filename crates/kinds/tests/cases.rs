//! Golden cases: `cases/<kind>/<case>/` has a section (`want.yaml`), a starting node (`node.yaml`) and what becomes of
//! them (`expect.txt`). `UPDATE_CASES=1 cargo test -p evenkeel-kinds --test cases` writes the last anew.
#![allow(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the cases are files of this repository")]

mod common;

use common::{goal, show_outcomes, show_plan};
use evenkeel_core::{Mode, Step, converge_goal, foresee};
use evenkeel_kinds::KINDS;
use std::fs;
use std::path::{Path, PathBuf};

fn folders(above: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(above).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

/// What the first look, the pass and the second pass tell.
fn story(kind: &str, case: &Path) -> String {
    let kind = KINDS.iter().find(|one| one.name() == kind).unwrap();
    let goal = goal(*kind, &fs::read_to_string(case.join("want.yaml")).unwrap(), Mode::Enforce);
    let mut node = common::node::read(&fs::read_to_string(case.join("node.yaml")).unwrap());
    let plan = foresee(goal.as_ref(), &node).unwrap();
    let first = show_outcomes(&converge_goal(goal.as_ref(), &mut node));
    let planned = |step: &&Step| plan.tasks.iter().any(|task| task.step == **step);
    let uncovered = lines("one more step", node.done.iter().filter(|step| !planned(step)));
    let done = node.done.len();
    let second = show_outcomes(&converge_goal(goal.as_ref(), &mut node));
    let more = lines("step", &node.done[done..]);
    let owed = lines("still owed:", &node.owed);
    let plan = show_plan(&plan);
    format!("# plan\n{plan}# outcome\n{uncovered}{first}# a second pass\n{second}{more}{owed}")
}

fn lines<T: std::fmt::Display>(head: &str, all: impl IntoIterator<Item = T>) -> String {
    all.into_iter().fold(String::new(), |text, one| format!("{text}{head} {one}\n"))
}

#[test]
fn every_case_is_as_it_is_told() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let (mut count, mut wrong) = (0, vec![]);
    for kind in folders(&root) {
        let name = kind.file_name().unwrap().to_str().unwrap().to_owned();
        for case in folders(&kind) {
            count += 1;
            let told = std::panic::catch_unwind(|| story(&name, &case))
                .unwrap_or_else(|_| panic!("the case {} cannot be read", case.display()));
            let expect = case.join("expect.txt");
            if std::env::var_os("UPDATE_CASES").is_some() {
                fs::write(&expect, &told).unwrap();
            }
            if fs::read_to_string(&expect).unwrap_or_default() != told {
                wrong.push(format!("{}:\n{told}", case.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} cases are told otherwise:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 8 * KINDS.len(), "only {count} cases for {} kinds", KINDS.len());
}
