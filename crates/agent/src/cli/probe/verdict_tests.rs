//! What is printed for each way a measurement can end. Nothing is measured.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use evenkeel_core::DurationWord;
use evenkeel_core::ageing::Observation;
use evenkeel_spec::{Bundle, Entry, Repository};

fn verdict(seen: &[(u64, Fate)]) -> Result<Verdict, String> {
    let mut plan = Ageing::new(Duration::from_mins(20));
    for (millis, fate) in seen {
        plan.observe(Observation { age: Duration::from_millis(*millis), fate: *fate });
    }
    let peer = Peer { address: "10.77.2.2:5432".parse().unwrap(), login: None };
    Verdict::of(&peer, &plan, Duration::from_mins(20))
}

#[test]
fn every_section_that_is_printed_is_taken_by_the_spec_language() {
    use Fate::{Closed, Dropped, Reset, Survived};
    for seen in [
        &[(346_300, Survived), (355_000, Dropped)][..],
        &[(3850, Survived), (4200, Reset)],
        &[(1_200_000, Survived)],
        &[(9_000, Survived), (60_000, Closed)],
    ] {
        let section = verdict(seen).unwrap().section();
        let fleet =
            format!("version: 1\nfleet: f\nnodes:\n  a: {{tier: CLIENT}}\n  b: {{tier: SERVER}}\n{section}");
        let tier = || Entry::File(b"version: 1\n".to_vec());
        let files = [("tiers/CLIENT.yaml", tier()), ("tiers/SERVER.yaml", tier())];
        let files = files.into_iter().chain([("fleet.yaml", Entry::File(fleet.into_bytes()))]);
        let bundle = Bundle { files: files.map(|(name, file)| (name.to_owned(), file)).collect() };
        if let Err(problems) = Repository::read(&bundle, evenkeel_kinds::KINDS) {
            panic!("{}\n{section}", problems.text(false));
        }
    }
}

#[test]
fn a_path_that_no_keepalive_can_keep_gets_no_section() {
    let section = verdict(&[(850, Fate::Survived), (1200, Fate::Reset)]).unwrap().section();
    assert!(!section.contains("paths:") && section.contains("for 3s at least"), "{section}");
}

#[test]
fn what_is_suggested_is_a_word_of_the_language_and_never_longer_than_what_was_survived() {
    let of = |millis| {
        let verdict = verdict(&[(millis, Fate::Survived), (millis * 2, Fate::Dropped)]).unwrap();
        word(verdict.idle_timeout).parse::<DurationWord>().unwrap().duration()
    };
    for millis in [150, 999, 1000, 59_999, 346_300, 1_190_000, 4_000_000] {
        assert!(of(millis) <= Duration::from_millis(millis) && !of(millis).is_zero());
    }
}

#[test]
fn a_peer_that_closes_is_told_with_what_to_do() {
    let text = verdict(&[(9_000, Fate::Survived), (60_010, Fate::Closed)]).unwrap().text();
    assert!(text.contains("1 min at least") && text.contains("--postgres"), "{text}");
    assert!(text.contains("idle_timeout: 60s"), "{text}");
}

#[test]
fn how_it_died_is_told_apart() {
    let of = |fate| verdict(&[(9_000, Fate::Survived), (10_000, fate)]).unwrap().text();
    assert!(of(Fate::Dropped).contains("without a word") && of(Fate::Reset).contains("a reset"));
}

#[test]
fn where_nothing_can_be_told_the_reason_is() {
    let why = |seen: &[(u64, Fate)]| verdict(seen).err().unwrap();
    assert!(why(&[(100, Fate::Dropped), (90, Fate::Dropped)]).contains("keepalive probes"));
    assert!(why(&[(3, Fate::Closed)]).contains("closes them after 3 ms"));
    assert!(why(&[(3_000, Fate::Talked)]).contains("speaks by itself"));
    assert!(why(&[]).contains("nothing"));
}
