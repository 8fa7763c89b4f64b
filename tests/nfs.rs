//! NFS as it is: a real server, real clients and the real agent, in a guest with a kernel of its own.
//!
//! One guest is switched on and the stories are told in it one after the other, in this order; a story that fails
//! hides none of the others, and all of it is told at the end. Needs root, mmdebstrap and qemu. The first run makes the
//! guest's disk, which takes a minute or two. `EVENKEEL_NFS_STORY` names a part of the names of the stories to tell.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod support;

#[path = "nfs/mounting.rs"]
mod mounting;
#[path = "nfs/rounds.rs"]
mod rounds;
#[path = "nfs/scene.rs"]
mod scene;
#[path = "nfs/silence.rs"]
mod silence;
#[path = "nfs/wrong.rs"]
mod wrong;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use support::guest::Guest;

type Story = (&'static str, fn(&Guest));

macro_rules! stories {
    ($($room:ident::$name:ident),* $(,)?) => { &[$((stringify!($name), $room::$name)),*] };
}

const STORIES: &[Story] = stories![
    mounting::both_versions_are_mounted_as_named_and_the_second_pass_does_nothing,
    mounting::what_a_person_unmounts_comes_back_and_a_line_in_fstab_does_not_win,
    mounting::two_mounts_of_one_export_share_the_options_of_the_first,
    mounting::an_automount_falls_asleep_while_passes_look_at_it,
    wrong::an_option_that_needs_an_unmount_is_pending_with_its_reason,
    wrong::another_export_at_the_right_path_is_told_and_not_touched,
    wrong::a_stale_handle_is_told_although_the_kernels_table_looks_perfect,
    wrong::a_line_in_fstab_that_says_otherwise_is_named,
    wrong::files_below_a_missing_mount_are_told,
    silence::a_server_that_is_silent_holds_nothing_else_up_and_heals_by_itself,
    silence::a_mount_that_nobody_asked_to_look_into_is_found_silent_too,
    silence::a_first_mount_from_a_silent_server_ends_and_holds_nothing_else_up,
    rounds::many_rounds_leave_nothing_behind,
];

/// The stories of the short form; the long one tells all.
const SHORT: &[&str] = &[
    "both_versions_are_mounted_as_named_and_the_second_pass_does_nothing",
    "what_a_person_unmounts_comes_back_and_a_line_in_fstab_does_not_win",
];

#[test]
fn nfs_as_it_is() {
    let start = Instant::now();
    let guest = Guest::up();
    println!("the guest took its first command after {:.1?}", start.elapsed());
    guest.sh("systemctl start rpc-statd; server up");
    println!("the server serves after {:.1?}", start.elapsed());
    let asked = std::env::var("EVENKEEL_NFS_STORY").unwrap_or_default();
    let mut failed = Vec::new();
    for (name, story) in STORIES.iter().filter(|(name, _)| name.contains(&asked)) {
        let long = std::env::var_os("EVENKEEL_LONG").is_some();
        if asked.is_empty() && !long && !SHORT.contains(name) {
            println!("left to `tests/run --long`: {name}");
            continue;
        }
        let begun = Instant::now();
        let told = catch_unwind(AssertUnwindSafe(|| {
            scene::set(&guest);
            story(&guest);
        }));
        println!(
            "{} {:5.1} s  {name}",
            if told.is_ok() { "ok    " } else { "FAILED" },
            begun.elapsed().as_secs_f64()
        );
        if told.is_err() {
            eprintln!("--- the guest after {name}\n{}", guest.tell());
            failed.push(*name);
        }
    }
    println!("all of it took {:.1?}", start.elapsed());
    assert!(failed.is_empty(), "failed, each with its reason above: {failed:#?}");
}

#[test]
fn every_story_of_the_short_form_is_there() {
    for name in SHORT {
        assert!(STORIES.iter().any(|(story, _)| story == name), "{name}");
    }
}
