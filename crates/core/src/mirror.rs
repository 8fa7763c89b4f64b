//! A folder that is kept in step with another: what is compared and carried over, and how far that has come.

use crate::Class;
use std::time::Duration;

/// A folder and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MirrorJob {
    /// Where from: an absolute path, or `[user@]host:/path`.
    pub from: String,
    /// The folder to keep in step, an absolute path.
    pub to: String,
    /// Patterns that rsync leaves out, on both sides.
    pub exclude: Vec<String>,
    /// Whether what is not in the source is removed.
    pub delete: bool,
    /// The most that one run may remove: in per cent of the files that are here, or a number.
    pub delete_at_most: DeletionLimit,
    /// The owner that files are given, `user` or `user:group`; that of the source where nobody is named.
    pub owner: Option<String>,
    /// The name of the systemd credential with the private key for ssh.
    pub key: Option<String>,
    /// The most that is sent in a second, in KiB; no limit where none is said.
    pub kib_per_second: Option<u32>,
}

/// The most that one run may remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeletionLimit {
    /// Per cent of the files that are here.
    PerCent(u8),
    /// So many files.
    Files(u32),
}

impl DeletionLimit {
    /// How many of so many files one run may remove. A part of a file counts as a whole one, so that a small folder can
    /// lose one.
    #[must_use]
    pub fn of(self, here: usize) -> usize {
        match self {
            Self::PerCent(part) => (here.saturating_mul(part.into())).div_ceil(100),
            Self::Files(count) => usize::try_from(count).unwrap_or(usize::MAX),
        }
    }
}

impl std::fmt::Display for DeletionLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PerCent(part) => write!(f, "{part}%"),
            Self::Files(count) => write!(f, "{count}"),
        }
    }
}

impl MirrorJob {
    /// What is said of a transfer that takes its time.
    #[must_use]
    pub fn under_way(&self) -> String {
        format!("what differs in {} is being carried over, in the background", self.from)
    }

    /// What is said of a comparison or transfer that failed.
    #[must_use]
    pub fn trouble(&self, class: Class, why: &str) -> String {
        match class {
            Class::Waiting => format!("not in step with {} yet: {why}; it is tried again", self.from),
            Class::NotApplicable => why.to_owned(),
            Class::Trouble => format!("cannot be brought in step with {}: {why}", self.from),
        }
    }

    /// Why nothing must be carried over, for a person, where the source has lost more than one run may remove, or all.
    #[must_use]
    pub fn refusal(&self, compared: &Compared) -> Option<String> {
        let Compared { remove, source, here, .. } = *compared;
        if source == 0 && here > 0 {
            return Some(format!(
                "{} is empty, and {} has {}: nothing is touched; is what belongs there mounted? Whoever means it removes \
                 them by hand, or the item from the spec",
                self.from,
                self.to,
                files(here)
            ));
        }
        (remove > self.delete_at_most.of(here)).then(|| {
            format!(
                "the source has lost {} of {}: nothing is removed, and nothing is carried over; raise delete_at_most ({}) if \
                 that is meant",
                grouped(remove),
                files(here),
                self.delete_at_most
            )
        })
    }
}

/// `1,204 files`.
fn files(count: usize) -> String {
    format!("{} {}", grouped(count), if count == 1 { "file" } else { "files" })
}

/// A number with its thousands apart, for a person: `1,204`.
#[must_use]
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let places = digits.len();
    let with = digits.chars().enumerate().flat_map(|(at, digit)| {
        let comma = (at > 0 && (places - at).is_multiple_of(3)).then_some(',');
        comma.into_iter().chain([digit])
    });
    with.collect()
}

/// What to compare, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorQuestion {
    /// The two folders.
    pub job: MirrorJob,
    /// How often they are compared.
    pub every: Duration,
}

/// How two folders stand to each other, as of the last comparison that came to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorSeen {
    /// What the last comparison found; nothing where none has come to its end since the agent began.
    pub compared: Option<Compared>,
    /// Why the last comparison or transfer failed, where it did, and whether that may pass by itself.
    pub trouble: Option<(Class, String)>,
    /// A transfer is on its way: how far it has come, for a person.
    pub under_way: Option<String>,
    /// When the two were last seen in step, in seconds since 1970; it outlives the agent.
    pub in_step_at: Option<i64>,
    /// Whether that is longer ago than two periods and the time that a comparison takes.
    pub late: bool,
}

/// What a comparison found, by a dry run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// How many files would be made or changed, and folders made, changed or removed.
    pub change: usize,
    /// How many files would be removed.
    pub remove: usize,
    /// The first of the names that would change or go, for a person; at most three.
    pub names: Vec<String>,
    /// How many files the source has.
    pub source: usize,
    /// How many files are here.
    pub here: usize,
}

impl Compared {
    /// Whether there is nothing to carry over.
    #[must_use]
    pub fn in_step(&self) -> bool {
        self.change == 0 && self.remove == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(delete_at_most: DeletionLimit) -> MirrorJob {
        MirrorJob {
            from: "mw1:/srv/a".into(),
            to: "/srv/b".into(),
            exclude: vec![],
            delete: true,
            delete_at_most,
            owner: None,
            key: None,
            kib_per_second: None,
        }
    }

    #[test]
    fn more_deletions_than_the_limit_are_refused_and_an_empty_source_always_is() {
        let refused = |limit, remove, source, here| {
            let compared = Compared { remove, source, here, ..Compared::default() };
            job(limit).refusal(&compared)
        };
        let percent = DeletionLimit::PerCent(10);
        assert_eq!(refused(percent, 100, 900, 1000), None);
        let why = refused(percent, 900, 100, 1000).unwrap_or_default();
        assert!(why.starts_with("the source has lost 900 of 1,000 files: nothing is removed"), "{why}");
        assert_eq!(refused(percent, 1, 4, 5), None, "a small folder may lose a file");
        assert!(refused(percent, 2, 3, 5).is_some());
        assert!(refused(DeletionLimit::Files(0), 1, 4, 5).is_some());
        assert!(refused(DeletionLimit::PerCent(100), 5, 0, 5).is_some_and(|why| why.contains("is empty")));
        assert_eq!(refused(percent, 0, 0, 0), None);
    }

    #[test]
    fn thousands_are_set_apart() {
        let told: Vec<String> = [0, 12, 999, 1000, 1_234_567].map(grouped).into();
        assert_eq!(told, ["0", "12", "999", "1,000", "1,234,567"]);
    }
}
