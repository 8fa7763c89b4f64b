//! What is owed: a reload that must still be done, noted before the file that makes it necessary is touched.
//!
//! One small file per debt below `/run`, synced; it outlives the agent, and not the boot, after which every daemon has
//! read its files anyway.

use crate::{files, identity};
use std::io;
use std::path::{Path, PathBuf};

/// Note a debt. Noting it twice is noting it once.
pub(crate) fn owe(run_dir: &Path, debt: &str) -> io::Result<()> {
    files::make_folder(&run_dir.join("owed"), 0o700)?;
    let noted = format!("{}{}\n", text(debt), crate::units::monotonic_us());
    files::replace(&file(run_dir, debt), noted.as_bytes(), 0o600)
}

/// When it was noted last, in microseconds since boot, if it is owed; as late as can be where the note does not say.
pub(crate) fn owed_since_us(run_dir: &Path, debt: &str) -> Option<u64> {
    let noted = files::read(&file(run_dir, debt), 4096).ok()??;
    let rest = noted.strip_prefix(text(debt).as_bytes())?;
    Some(std::str::from_utf8(rest).ok().and_then(|time| time.trim().parse().ok()).unwrap_or(u64::MAX))
}

/// Forget a debt.
pub(crate) fn settle(run_dir: &Path, debt: &str) -> io::Result<()> {
    files::remove(&file(run_dir, debt))
}

/// Whether it was noted since boot.
pub(crate) fn owes(run_dir: &Path, debt: &str) -> bool {
    owed_since_us(run_dir, debt).is_some()
}

/// Every debt that was noted since boot and begins so, sorted.
pub(crate) fn all(run_dir: &Path, start: &str) -> Vec<String> {
    let folder = run_dir.join("owed");
    let names = files::list(&folder).unwrap_or_default();
    let noted = names.iter().filter_map(|name| {
        let text = String::from_utf8(files::read(&folder.join(name), 4096).ok()??).ok()?;
        let debt = text.lines().nth(1)?;
        (debt.starts_with(start) && owes(run_dir, debt)).then(|| debt.to_owned())
    });
    let mut debts: Vec<String> = noted.collect();
    debts.sort_unstable();
    debts
}

/// With the boot's id, for where the folder outlives a boot.
fn text(debt: &str) -> String {
    format!("{}\n{debt}\n", identity::boot_id())
}

fn file(run_dir: &Path, debt: &str) -> PathBuf {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let one = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("~{byte:02x}") };
    run_dir.join("owed").join(debt.bytes().map(one).collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const DEBT: &str = "postgresql/13/main reload";

    #[test]
    fn a_debt_is_owed_until_it_is_settled_and_no_other_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!owes(folder.path(), DEBT));
        owe(folder.path(), DEBT).unwrap();
        owe(folder.path(), DEBT).unwrap();
        assert!(owes(folder.path(), DEBT));
        assert!(owed_since_us(folder.path(), DEBT).unwrap() <= crate::units::monotonic_us());
        assert!(!owes(folder.path(), "postgresql/13-main reload"));
        owe(folder.path(), "reload a@b.service").unwrap();
        assert_eq!(all(folder.path(), "reload "), ["reload a@b.service"]);
        assert_eq!(all(folder.path(), "").len(), 2);
        settle(folder.path(), DEBT).unwrap();
        settle(folder.path(), DEBT).unwrap();
        assert!(!owes(folder.path(), DEBT));
    }

    #[test]
    fn a_debt_of_another_boot_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        owe(folder.path(), DEBT).unwrap();
        files::replace(&file(folder.path(), DEBT), format!("other-boot\n{DEBT}\n").as_bytes(), 0o600)
            .unwrap();
        assert!(!owes(folder.path(), DEBT));
    }

    #[test]
    fn no_debt_leads_out_of_its_folder() {
        let path = file(Path::new("/run/evenkeel"), "../../etc/passwd");
        assert_eq!(path.parent(), Some(Path::new("/run/evenkeel/owed")));
        assert_ne!(file(Path::new("/r"), "a/b"), file(Path::new("/r"), "a~2fb"));
    }
}
