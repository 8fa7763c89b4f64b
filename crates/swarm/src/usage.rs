//! What processes of this machine use: CPU time and resident memory, from /proc.

use std::io::Read as _;

/// Milliseconds of a clock tick: 100 in a second, on every Linux that there is.
const TICK_MS: u64 = 10;

/// CPU time (ms) of these processes with all that they have started and reaped, and of their children that run.
#[must_use]
pub fn cpu_ms(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let children: u64 = children(*pid).iter().map(|child| ticks(*child, 11..13)).sum();
        ticks(*pid, 11..15) + children
    };
    pids.iter().map(of).sum::<u64>() * TICK_MS
}

/// CPU time (ms) of this process.
#[must_use]
pub fn own_cpu_ms() -> u64 {
    ticks(std::process::id(), 11..13) * TICK_MS
}

/// Resident memory (bytes) of a process; nothing where there is none.
#[must_use]
pub fn resident(pid: u32) -> Option<u64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Fields of `/proc/PID/stat` after the name, added up: utime, stime, cutime, cstime are 11 to 14.
fn ticks(pid: u32, fields: std::ops::Range<usize>) -> u64 {
    let stat = read(&format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(") ").next().unwrap_or_default();
    let words: Vec<&str> = after.split_whitespace().collect();
    words.get(fields).unwrap_or_default().iter().filter_map(|word| word.parse::<u64>().ok()).sum()
}

fn children(pid: u32) -> Vec<u32> {
    let text = read(&format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(1 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::{cpu_ms, own_cpu_ms, resident};

    #[test]
    fn a_process_that_works_is_seen_to() {
        let me = std::process::id();
        let before = own_cpu_ms();
        let mut sum = 0_u64;
        while own_cpu_ms() < before + 30 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        assert!(cpu_ms(&[me]) >= before + 30);
        assert!(resident(me).is_some_and(|bytes| bytes > 100_000));
        assert_eq!((cpu_ms(&[0]), resident(0)), (0, None));
    }
}
