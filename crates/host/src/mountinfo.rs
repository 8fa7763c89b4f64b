//! The mount table as the kernel tells it, `/proc/self/mountinfo`: `proc_pid_mountinfo(5)`.
//!
//! Reading it touches no mounted filesystem, so it answers while a share hangs. The parser is pure.

use evenkeel_core::MountEntry;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Where the table is.
pub(crate) const PATH: &str = "/proc/self/mountinfo";

/// Every line that can be understood, in order. The kernel writes no others.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<MountEntry> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn line(line: &[u8]) -> Option<MountEntry> {
    let mut words = line.split(|byte| *byte == b' ');
    let (id, parent) = (number(words.next()?)?, number(words.next()?)?);
    let device = std::str::from_utf8(words.next()?).ok()?.split_once(':')?;
    let device = (device.0.parse().ok()?, device.1.parse().ok()?);
    let (root, target) = (path(words.next()?), path(words.next()?));
    let options = options(words.next()?);
    // Any number of optional fields, then a hyphen.
    words.find(|word| *word == b"-")?;
    let (fstype, source) = (text(words.next()?), text(words.next()?));
    let super_options = words.next().map(self::options).unwrap_or_default();
    Some(MountEntry { id, parent, device, root, target, options, fstype, source, super_options })
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn path(word: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(word)).into()
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(word)).into_owned()
}

/// Split first, decode afterwards: a comma within an option's value comes escaped or not at all.
fn options(word: &[u8]) -> Vec<String> {
    word.split(|byte| *byte == b',').filter(|part| !part.is_empty()).map(text).collect()
}

/// `\040` is a space: a backslash and three octal digits stand for a byte. Anything else stands for itself.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let octal = |digit: &u8| (b'0'..=b'7').contains(digit).then(|| u16::from(digit - b'0'));
        let code = match after {
            [a, b, c, ..] if *first == b'\\' => {
                octal(a).zip(octal(b)).zip(octal(c)).map(|((a, b), c)| a * 64 + b * 8 + c)
            }
            _ => None,
        };
        if let Some(byte) = code.and_then(|code| u8::try_from(code).ok()) {
            bytes.push(byte);
            rest = &after[3..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    /// As the kernel writes it: `seq_path` and `mangle` escape these.
    fn escape(text: &str, also: &[char]) -> String {
        let one = |c: char| match c {
            ' ' | '\t' | '\n' | '\\' => format!("\\{:03o}", c as u32),
            c if also.contains(&c) => format!("\\{:03o}", c as u32),
            c => c.to_string(),
        };
        text.chars().map(one).collect()
    }

    fn told(entry: &MountEntry, optional: &[String]) -> String {
        let list = |options: &[String]| {
            options.iter().map(|option| escape(option, &[','])).collect::<Vec<_>>().join(",")
        };
        let optional = optional.iter().fold(String::new(), |fields, field| fields + field + " ");
        format!(
            "{} {} {}:{} {} {} {} {optional}- {} {} {}\n",
            entry.id,
            entry.parent,
            entry.device.0,
            entry.device.1,
            escape(entry.root.to_str().unwrap(), &[]),
            escape(entry.target.to_str().unwrap(), &[]),
            list(&entry.options),
            entry.fstype,
            escape(&entry.source, &['#']),
            list(&entry.super_options),
        )
    }

    prop_compose! {
        fn entries()(
            id in 1u64..1 << 40, parent in 0u64..1 << 31, device in (0u32..4096, 0u32..1 << 20),
            root in "/[a-z \\t\\n\\\\é-]{0,12}", target in "/[a-z \\t\\n\\\\é#-]{0,20}",
            options in prop::collection::vec("[a-z=0-9,]{1,8}", 1..4), fstype in "[a-z0-9.]{1,9}",
            source in "[a-z0-9:/ #\\\\-]{1,16}",
            super_options in prop::collection::vec("[a-z=0-9 \\\\,]{1,12}", 1..4),
        ) -> MountEntry {
            let (root, target) = (root.into(), target.into());
            MountEntry { id, parent, device, root, target, options, fstype, source, super_options }
        }
    }

    proptest! {
        #[test]
        fn what_the_kernel_writes_is_read_back(
            table in prop::collection::vec(entries(), 0..6),
            optional in prop::collection::vec("(shared|master|propagate_from):[0-9]{1,4}|unbindable", 0..3),
        ) {
            let text: String = table.iter().map(|entry| told(entry, &optional)).collect();
            prop_assert_eq!(parse(text.as_bytes()), table);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_mutilated_line_makes_it_panic(entry in entries(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut text = told(&entry, &[]).into_bytes();
            let at = at.index(text.len());
            text[at] = byte;
            let _ = parse(&text);
            text.truncate(at);
            let _ = parse(&text);
        }
    }

    #[test]
    fn the_example_of_the_manual_page_is_understood() {
        let text = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n";
        let entry = &parse(text)[0];
        assert_eq!(entry.target, PathBuf::from("/mnt 2"));
        assert_eq!((entry.id, entry.parent, entry.device), (36, 35, (98, 0)));
        assert_eq!(entry.options, ["rw", "noatime"]);
        assert_eq!((&*entry.fstype, &*entry.source), ("ext3", "/dev/root"));
        assert_eq!(entry.super_options, ["rw", "errors=continue"]);
    }

    #[test]
    fn a_backslash_that_escapes_nothing_stands_for_itself() {
        assert_eq!(unescape(br"a\04"), br"a\04");
        assert_eq!(unescape(br"\999\134\777"), br"\999\\777");
    }
}
