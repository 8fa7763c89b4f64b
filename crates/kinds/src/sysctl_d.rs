//! What the files of sysctl.d(5) say about the next boot, and who has the last word.
//!
//! Of files with one name, the folder that comes first in [`FOLDERS`] counts. Then all are read in the order of their
//! names. The later of two plain lines for a key wins; a plain line wins over every pattern; a plain `-key` without a
//! value takes the key out. `/etc/sysctl.conf` is read by systemd only where a link in sysctl.d leads to it, and by
//! procps (`sysctl --system`) always, and last.

use evenkeel_core::{Fault, Sensor, SysctlKey, chain};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The drop-in that evenkeel owns.
pub(crate) const DROP_IN: &str = "/etc/sysctl.d/99-evenkeel.conf";
/// The folder it lies in, where people put theirs. The other folders are packages' and are left to the slow pass.
pub(crate) const FOLDER: &str = "/etc/sysctl.d";
/// The file that only procps reads of its own accord.
pub(crate) const SYSCTL_CONF: &str = "/etc/sysctl.conf";

const NAME: &str = "99-evenkeel.conf";
const FOLDERS: [&str; 5] =
    [FOLDER, "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];

/// One line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its number, from 1.
    pub(crate) number: u32,
    /// What it is about.
    pub(crate) about: About,
    /// What it says; `None` for a key that patterns are to leave alone.
    pub(crate) value: Option<String>,
}

/// What a line is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum About {
    /// One key.
    Key(SysctlKey),
    /// Every key that the pattern matches, segment by segment.
    Pattern(Vec<String>),
}

/// A file that somebody else wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Foreign {
    path: PathBuf,
    /// Where it leads, where it is a link.
    link: Option<PathBuf>,
    lines: Vec<Line>,
}

/// Who says something about a key, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    /// The file.
    pub(crate) path: &'a Path,
    /// Where it leads, where it is a link.
    pub(crate) link: Option<&'a Path>,
    /// The line.
    pub(crate) line: u32,
    /// The value; `None` where the line takes the key out.
    pub(crate) value: Option<&'a str>,
}

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)?;
        self.link.iter().try_for_each(|link| write!(f, " (a link to {})", link.display()))
    }
}

/// Everything that other files say, in the order they are read at boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Boot {
    files: Vec<Foreign>,
    /// `/etc/sysctl.conf`, where no link in sysctl.d leads to it.
    conf: Option<Foreign>,
    /// What could not be read.
    pub(crate) blind: Vec<String>,
}

impl Boot {
    /// Read every file of sysctl.d once, but for our own.
    pub(crate) fn read(node: &dyn Sensor) -> Self {
        let mut boot = Self::default();
        let mut names: BTreeMap<String, &str> = BTreeMap::new();
        for folder in FOLDERS {
            let listed = boot.seen(node.list(Path::new(folder))).flatten().unwrap_or_default();
            for name in listed.into_iter().filter(|name| name.as_bytes().ends_with(b".conf") && name != NAME)
            {
                names.entry(name).or_insert(folder);
            }
        }
        for (name, folder) in names {
            let file = boot.foreign(&Path::new(folder).join(name), node);
            boot.files.extend(file);
        }
        let conf = Path::new(SYSCTL_CONF);
        if !boot.files.iter().any(|file| file.link.as_deref() == Some(conf)) {
            boot.conf = boot.foreign(conf, node);
        }
        boot
    }

    fn foreign(&mut self, path: &Path, node: &dyn Sensor) -> Option<Foreign> {
        // Links are a matter of /etc: what packages put elsewhere are files.
        let real = if path.starts_with("/etc") { self.seen(node.resolve(path)).flatten() } else { None };
        let link = real.filter(|real| real != path);
        let text = self.seen(node.read(link.as_deref().unwrap_or(path))).flatten()?;
        Some(Foreign { path: path.to_owned(), link, lines: parse(&text) })
    }

    fn seen<T>(&mut self, look: Result<T, Fault>) -> Option<T> {
        look.map_err(|fault| self.blind.push(chain(&fault))).ok()
    }

    /// What would be in force at boot if evenkeel's drop-in were not there.
    pub(crate) fn others(&self, key: &SysctlKey) -> Option<Said<'_>> {
        let plain = self.files.iter().rev().find_map(|file| file.plain(key));
        let pattern = || self.files.iter().rev().find_map(|file| file.pattern(key));
        match plain {
            Some(said) => said.value.map(|_| said),
            None => pattern(),
        }
    }

    /// The line that has the last word over evenkeel's drop-in at boot.
    pub(crate) fn over_us(&self, key: &SysctlKey) -> Option<Said<'_>> {
        let later = self.files.iter().rev();
        let mut later = later.take_while(|file| file.path.file_name().is_some_and(|name| name > NAME));
        later.find_map(|file| file.plain(key))
    }

    /// What `sysctl --system` and `sysctl -p` say last, and systemd never reads.
    pub(crate) fn procps(&self, key: &SysctlKey) -> Option<Said<'_>> {
        self.conf.as_ref()?.plain(key).filter(|said| said.value.is_some())
    }
}

impl Foreign {
    fn plain(&self, key: &SysctlKey) -> Option<Said<'_>> {
        self.last(|line| matches!(&line.about, About::Key(one) if one == key))
    }

    fn pattern(&self, key: &SysctlKey) -> Option<Said<'_>> {
        self.last(|line| match &line.about {
            About::Pattern(parts) => line.value.is_some() && fits(parts, key),
            About::Key(_) => false,
        })
    }

    fn last(&self, wanted: impl Fn(&Line) -> bool) -> Option<Said<'_>> {
        let line = self.lines.iter().rev().find(|line| wanted(line))?;
        let (path, leads) = (self.path.as_path(), self.link.as_deref());
        Some(Said { path, link: leads, line: line.number, value: line.value.as_deref() })
    }
}

/// The lines of a file that say something; what is no assignment is skipped, as systemd does.
pub(crate) fn parse(text: &str) -> Vec<Line> {
    let numbered = text.lines().zip(1u32..);
    numbered.filter_map(|(line, number)| parse_line(line.trim(), number)).collect()
}

fn parse_line(line: &str, number: u32) -> Option<Line> {
    if line.is_empty() || line.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = match line.split_once('=') {
        Some((key, value)) => (key.trim(), Some(value.trim().to_owned())),
        None if line.starts_with('-') => (line, None),
        None => return None,
    };
    let key = key.strip_prefix('-').unwrap_or(key).trim();
    let about = if key.contains(['*', '?', '[']) {
        About::Pattern(pattern(key))
    } else {
        About::Key(key.parse().ok()?)
    };
    Some(Line { number, about, value })
}

/// A pattern's segments, by the rule that a key's are found with.
fn pattern(text: &str) -> Vec<String> {
    let dotted = text.find(['.', '/']).is_none_or(|at| text.as_bytes()[at] == b'.');
    let swap = |part: &str| if dotted { part.replace('/', ".") } else { part.to_owned() };
    text.split(if dotted { '.' } else { '/' }).map(swap).collect()
}

fn fits(pattern: &[String], key: &SysctlKey) -> bool {
    let parts: Vec<&str> = key.segments().collect();
    pattern.len() == parts.len()
        && pattern.iter().zip(parts).all(|(one, part)| glob(one.as_bytes(), part.as_bytes()))
}

/// glob(7) within one segment: `*`, `?`, `[ab-d]`, `[!a]`.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.first() {
        None => text.is_empty(),
        Some(b'*') => (0..=text.len()).any(|skip| glob(&pattern[1..], &text[skip..])),
        Some(b'?') => !text.is_empty() && glob(&pattern[1..], &text[1..]),
        Some(b'[') => match (class(pattern), text.first()) {
            (Some((chars, negated, rest)), Some(&c)) => {
                in_class(chars, c) != negated && glob(rest, &text[1..])
            }
            (None, Some(b'[')) => glob(&pattern[1..], &text[1..]),
            _ => false,
        },
        Some(c) => text.first() == Some(c) && glob(&pattern[1..], &text[1..]),
    }
}

/// What is between the brackets, whether it is negated, and what follows. A `]` that comes first stands for itself.
fn class(pattern: &[u8]) -> Option<(&[u8], bool, &[u8])> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let from = if negated { 2 } else { 1 };
    let end = (from + 1..pattern.len()).find(|&at| pattern[at] == b']')?;
    Some((&pattern[from..end], negated, &pattern[end + 1..]))
}

fn in_class(chars: &[u8], c: u8) -> bool {
    let mut rest = chars;
    while let Some((&first, more)) = rest.split_first() {
        if let [b'-', last, tail @ ..] = more {
            if (first..=*last).contains(&c) {
                return true;
            }
            rest = tail;
        } else if first == c {
            return true;
        } else {
            rest = more;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use evenkeel_core::fake::FakeNode;
    use proptest::prelude::*;

    fn boot(files: &[(&str, &str)], links: &[(&str, &str)]) -> Boot {
        let files = files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
        let links = links.iter().map(|(from, to)| (PathBuf::from(from), PathBuf::from(to))).collect();
        Boot::read(&FakeNode { files, links, ..FakeNode::default() })
    }

    fn key(text: &str) -> SysctlKey {
        text.parse().unwrap()
    }

    #[test]
    fn a_file_in_an_earlier_folder_masks_its_namesake() {
        let boot = boot(
            &[
                ("/usr/lib/sysctl.d/50-net.conf", "vm.swappiness = 10\n"),
                ("/etc/sysctl.d/50-net.conf", "# nothing\nvm.laptop_mode = 1\n"),
            ],
            &[],
        );
        assert_eq!(boot.others(&key("vm.swappiness")), None);
        assert_eq!(boot.others(&key("vm.laptop_mode")).unwrap().to_string(), "/etc/sysctl.d/50-net.conf:2");
    }

    #[test]
    fn files_are_read_by_name_whatever_their_folder_and_the_later_wins() {
        let boot = boot(
            &[
                ("/etc/sysctl.d/10-a.conf", "vm.swappiness = 1\n"),
                ("/usr/lib/sysctl.d/20-b.conf", "vm.swappiness = 2\nvm.swappiness=3\n"),
            ],
            &[],
        );
        assert_eq!(boot.others(&key("vm.swappiness")).unwrap().value, Some("3"));
    }

    #[test]
    fn a_plain_line_wins_over_a_later_pattern_and_an_exclusion_over_both() {
        let text =
            "net.ipv4.conf.all.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = 1\n-net.ipv4.conf.lo.rp_filter\n";
        let boot = boot(&[("/etc/sysctl.d/10-a.conf", text)], &[]);
        let said = |name| boot.others(&key(name)).and_then(|said| said.value.map(str::to_owned));
        assert_eq!(said("net.ipv4.conf.all.rp_filter").as_deref(), Some("2"));
        assert_eq!(said("net.ipv4.conf.eth0.rp_filter").as_deref(), Some("1"));
        assert_eq!(said("net.ipv4.conf.lo.rp_filter"), None);
    }

    #[test]
    fn debians_link_to_sysctl_conf_comes_after_our_drop_in() {
        let boot = boot(
            &[("/etc/sysctl.conf", "vm.swappiness = 9\n")],
            &[("/etc/sysctl.d/99-sysctl.conf", "/etc/sysctl.conf")],
        );
        let said = boot.over_us(&key("vm.swappiness")).unwrap();
        assert_eq!(said.to_string(), "/etc/sysctl.d/99-sysctl.conf:1 (a link to /etc/sysctl.conf)");
        assert_eq!(boot.procps(&key("vm.swappiness")), None);
    }

    #[test]
    fn without_the_link_only_procps_reads_sysctl_conf() {
        let boot = boot(&[("/etc/sysctl.conf", "vm.swappiness = 9\n")], &[]);
        assert_eq!(boot.over_us(&key("vm.swappiness")), None);
        assert_eq!(boot.procps(&key("vm.swappiness")).unwrap().value, Some("9"));
    }

    #[test]
    fn a_file_before_ours_has_not_the_last_word() {
        let boot = boot(&[("/etc/sysctl.d/99-a.conf", "vm.swappiness = 9\n")], &[]);
        assert_eq!(boot.over_us(&key("vm.swappiness")), None);
    }

    #[test]
    fn comments_optional_keys_and_lines_that_are_no_assignments() {
        let lines =
            parse("; a\n # b\n-vm.swappiness = 1\nnonsense\n=\nnet/ipv4/conf/eth0.1/rp_filter= 2 # kept\n");
        let said: Vec<_> = lines.iter().map(|line| (line.number, line.value.as_deref().unwrap())).collect();
        assert_eq!(said, [(3, "1"), (6, "2 # kept")]);
        assert_eq!(lines[1].about, About::Key(key("net/ipv4/conf/eth0.1/rp_filter")));
    }

    #[test]
    fn patterns_match_as_a_shell_does() {
        for (pattern, text, fits) in [
            ("eth*", "eth0", true),
            ("eth?", "eth10", false),
            ("eth[0-2]", "eth1", true),
            ("eth[!0-2]", "eth1", false),
            ("[]a]x", "]x", true),
            ("a*b*c", "aXXbYYc", true),
            ("[", "[", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), fits, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_upsets_the_parser(text in "[-a-z0-9.=*\\[\\]#;/ \n]{0,80}") {
            for line in parse(&text) {
                if let About::Pattern(parts) = line.about {
                    fits(&parts, &key("net.ipv4.conf.all.rp_filter"));
                }
            }
        }
    }
}
