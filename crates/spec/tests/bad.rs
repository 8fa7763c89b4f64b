//! Bad repositories from disk: each is refused with all that is wrong, word for word as in its `expect.txt`.
//!
//! To accept what is said now as what is meant: `EVENKEEL_BLESS=1 cargo test -p evenkeel-spec --test bad`, then read the
//! difference.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "test repositories lie on disk")]

mod common;
use common::{KINDS, bundle, lines, load, root};
use evenkeel_core::Severity;
use evenkeel_spec::{Bundle, CODES, Entry, Problems, Repository};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts what is allocated, so that the cost of bad input can be bounded.
struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator that counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The tests of this program share one allocator, and what another test holds at the same time would count too: each
/// test runs alone.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cases() -> Vec<PathBuf> {
    let folder = root().join("tests/bad");
    let mut cases: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    cases
}

/// What is said of a repository: its problems, or what becomes of the node that the file `node` names.
fn told(case: &Path) -> String {
    let read = Repository::read(&load(case), KINDS);
    let node = std::fs::read_to_string(case.join("node")).ok();
    match (read, node) {
        (Err(problems), _) => problems.text(false),
        (Ok((repository, problems)), Some(node)) => {
            let error = repository.node(node.trim(), None).err().expect("the node is refused");
            format!("{}the repository is taken\n{error}\n", problems.text(false))
        }
        (Ok((_, problems)), None) => format!("{}the repository is taken\n", problems.text(false)),
    }
}

#[test]
fn every_bad_repository_is_told_what_is_wrong_with_it() {
    let _alone = alone();
    let (mut wrong, cases) = (vec![], cases());
    assert!(cases.len() >= 24, "{} cases", cases.len());
    for case in cases {
        let (said, file) = (told(&case), case.join("expect.txt"));
        if std::env::var_os("EVENKEEL_BLESS").is_some() {
            std::fs::write(&file, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{}\n--- expected\n{expected}\n--- said\n{said}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn only_the_cases_that_say_so_are_taken() {
    let _alone = alone();
    for case in cases() {
        let taken = Repository::read(&load(&case), KINDS).is_ok();
        let name = case.file_name().unwrap().to_str().unwrap();
        assert_eq!(taken, matches!(name, "two-globs" | "nobody" | "warnings-only"), "{name}");
    }
}

#[test]
fn what_is_told_cannot_move_a_cursor_and_its_codes_are_known() {
    let _alone = alone();
    for case in cases() {
        let problems = match Repository::read(&load(&case), KINDS) {
            Ok((_, problems)) | Err(problems) => problems,
        };
        let texts = [problems.text(false), problems.sarif(), problems.json()];
        for text in texts {
            let hidden = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
            assert_eq!(hidden, None, "{}", case.display());
        }
        for problem in &problems.0 {
            assert!(CODES.iter().any(|(code, _)| *code == problem.code), "{}", problem.code);
            assert!(problem.one_line().chars().count() < 1200 && !problem.one_line().contains('\n'));
        }
    }
}

#[test]
fn all_errors_of_all_files_are_told_at_once() {
    let _alone = alone();
    let refused = Repository::read(&load(&root().join("tests/bad/several-files")), KINDS).err().unwrap();
    let files: std::collections::BTreeSet<&str> =
        refused.0.iter().map(|problem| problem.file.as_str()).collect();
    let all = [
        "fleet.yaml",
        "nodes/db1.yaml",
        "nodes/web1.yaml",
        "profiles/base.yaml",
        "tiers/db.yaml",
        "tiers/web.yaml",
    ];
    assert_eq!(files.into_iter().collect::<Vec<_>>(), all);
    assert!(refused.0.iter().filter(|problem| problem.severity == Severity::Error).count() >= 8, "{refused}");
}

/// What reading costs beyond the bundle: bytes at the peak, and time.
fn cost(bundle: &Bundle) -> (Problems, usize, Duration) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let start = Instant::now();
    let problems = Repository::read(bundle, KINDS).err().expect("refused");
    (problems, PEAK.load(Relaxed).saturating_sub(before), start.elapsed())
}

/// The most that reading may take beyond the bundle, whatever its files say.
const MOST: usize = 20 << 20;

fn bounded(name: &str, bundle: &Bundle) -> Problems {
    let (problems, peak, time) = cost(bundle);
    eprintln!("{name}: {} KiB, {} ms", peak / 1024, time.as_millis());
    assert!(peak < MOST, "{name}: {peak} bytes");
    assert!(time < Duration::from_secs(10), "{name}: {time:?}");
    assert!(problems.text(false).len() < 200_000, "{name}");
    problems
}

#[test]
fn no_file_can_make_reading_costly() {
    let _alone = alone();
    let cap = Bundle::FILE_CAP;
    let filled =
        |start: &str, unit: &str| format!("{start}{}", unit.repeat((cap - start.len()) / unit.len()));
    let keys: String = (0..20_000).map(|key| format!("  n.{key}: 0\n")).collect::<Vec<_>>().concat();
    let hostile = [
        ("brackets", filled("version: 1\nsysctl: ", "[")),
        ("braces", filled("version: 1\nsysctl: ", "{a: ")),
        ("dashes", filled("version: 1\nsysctl:\n", "- ")),
        ("aliases", filled("version: 1\nsysctl: [", "*a, ")),
        ("anchors", filled("version: 1\nsysctl: [", "&a b, ")),
        ("questions", filled("version: 1\nsysctl:\n", "? ")),
        ("quotes", filled("version: 1\nsysctl: \"", "x")),
        ("colons", filled("version: 1\n", "a: b: ")),
        ("lines", filled("version: 1\n", "x: 01\n")),
        ("one key", filled("version: 1\n", "a")),
        ("controls", filled("version: 1\n", "\u{1}\n")),
        ("comments", filled("version: 1\n? ", "#\n")),
        ("documents", filled("version: 1\n", "---\n")),
        ("keys", format!("version: 1\nsysctl:\n{keys}  bad: yes\n")),
    ];
    for (name, text) in &hostile {
        assert!(text.len() <= cap, "{name}");
        let files = [("fleet.yaml", common::FLEET), ("tiers/db.yaml", text.as_str())];
        bounded(name, &bundle(&files));
    }
}

#[test]
fn a_scalar_of_64_megabytes_is_refused_by_its_size_and_not_read() {
    let _alone = alone();
    let mut huge = bundle(&[("fleet.yaml", common::FLEET)]);
    let text = format!("version: 1\nsysctl: {{a.b: \"{}\"}}\n", "x".repeat(64 << 20));
    // A source that did not look at the size: the spec looks again.
    huge.files.insert("tiers/db.yaml".into(), Entry::File(text.into_bytes()));
    let told = lines(&bounded("64 MB", &huge));
    assert!(told[0].starts_with("tiers/db.yaml: this file has 6710"), "{told:?}");
    huge.insert_file("tiers/db.yaml", vec![b'x'; 64 << 20]);
    assert!(matches!(huge.files["tiers/db.yaml"], Entry::TooBig(67_108_864)));
    assert!(lines(&bounded("64 MB", &huge))[0].contains("256 KiB is the most"));
}

#[test]
fn many_nodes_that_share_a_bad_tier_are_told_once() {
    let _alone = alone();
    let nodes: String =
        (0..2000).map(|node| format!("  n{node}: {{tier: db}}\n")).collect::<Vec<_>>().concat();
    let fleet = format!("version: 1\nfleet: eden\nnodes:\n{nodes}");
    let mut files =
        bundle(&[("fleet.yaml", &fleet), ("tiers/db.yaml", "version: 1\nsysctl: {a.b: {at_least: -1}}\n")]);
    for node in 0..2000 {
        files.insert_file(format!("nodes/n{node}.yaml"), "version: 1\nsysctl: {c.d: 1}\n");
    }
    assert_eq!(bounded("many", &files).0.len(), 1);
}

#[test]
fn a_long_chain_of_includes_does_not_exhaust_the_stack() {
    let _alone = alone();
    let mut files =
        bundle(&[("fleet.yaml", common::FLEET), ("tiers/db.yaml", "version: 1\ninclude: [profiles/p0]\n")]);
    for index in 0..5000 {
        let next = format!("version: 1\ninclude: [profiles/p{}]\n", index + 1);
        files.insert_file(format!("profiles/p{index}.yaml"), next);
    }
    files.insert_file("profiles/p5000.yaml", "version: 1\n");
    let problems = bounded("chain", &files);
    assert!(problems.0.iter().any(|problem| problem.code == "include-depth"), "{problems}");
}
