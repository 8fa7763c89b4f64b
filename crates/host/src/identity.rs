//! Which machine and which boot this is, and how much memory we use.

use crate::files;
use std::path::Path;

/// The kernel's id of this boot; empty where there is no `/proc`.
#[must_use]
pub fn boot_id() -> String {
    line("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// machine-id(5), which stays the same over boots; `None` where there is none yet.
#[must_use]
pub fn machine_id() -> Option<String> {
    line("/etc/machine-id").filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The node's host name; empty where there is no `/proc`.
#[must_use]
pub fn hostname() -> String {
    line("/proc/sys/kernel/hostname").unwrap_or_default()
}

/// The memory of this process that is in RAM, in bytes; 0 where there is no `/proc`.
#[must_use]
pub fn rss_bytes() -> u64 {
    let status = read("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    kib.map_or(0, |kib: u64| kib * 1024)
}

fn line(path: &str) -> Option<String> {
    read(path).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn read(path: &str) -> Option<String> {
    String::from_utf8(files::read(Path::new(path), 16 << 10).ok()??).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_boot_and_a_name_and_we_take_room_in_it() {
        assert_eq!(boot_id().len(), 36);
        assert!(!hostname().is_empty());
        assert!(rss_bytes() > 500_000, "{}", rss_bytes());
    }
}
