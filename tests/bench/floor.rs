//! The floor: a resident program that reads the same files as a pass does, compares nothing, and prints what it cost.

use crate::cpu_ns;
use std::io::Read;

/// On the node: read every file that the list names, a hundred times; print the nanoseconds of CPU for one round.
pub(crate) fn on_the_node(list: &str) {
    let list = std::fs::read_to_string(list).unwrap();
    let rounds = 200;
    let mut total = 0;
    let start = cpu_ns(std::process::id());
    let mut text = Vec::new();
    for _ in 0..rounds {
        std::thread::sleep(crate::pass::PAUSE);
        for path in list.lines() {
            text.clear();
            if let Ok(mut file) = std::fs::File::open(path) {
                total += file.read_to_end(&mut text).unwrap_or(0);
            }
        }
    }
    assert!(total > 0, "the floor read something");
    println!("{}", (cpu_ns(std::process::id()) - start) / rounds);
}
