//! Small files that know whether they are whole: a first line with checksum and length, then the content.
//!
//! A file that is not whole is moved aside with a warning and never believed.

use evenkeel_host::files;
use std::io;
use std::path::Path;

/// What reading one gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sealed {
    /// The content.
    Whole(Vec<u8>),
    /// There is no such file.
    Missing,
    /// It is there, and is not what was written.
    Broken,
}

/// The content with its seal: `crc32 length\n` in front, both as lower-case numbers.
pub(crate) fn seal(content: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:08x} {}\n", crc32fast::hash(content), content.len()).into_bytes();
    bytes.extend_from_slice(content);
    bytes
}

/// The content out of its seal; `None` where it is not whole.
pub(crate) fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().take(64).position(|&byte| byte == b'\n')?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?;
    let (sum, length) = head.split_once(' ')?;
    let content = &bytes[end + 1..];
    let whole = u32::from_str_radix(sum, 16).ok()? == crc32fast::hash(content)
        && length.parse::<usize>().ok()? == content.len();
    whole.then_some(content)
}

/// Read a sealed file of at most `cap` bytes.
///
/// # Errors
/// It is there and cannot be read.
pub(crate) fn read(path: &Path, cap: usize) -> io::Result<Sealed> {
    let Some(bytes) = files::read(path, cap)? else { return Ok(Sealed::Missing) };
    Ok(unseal(&bytes).map_or(Sealed::Broken, |content| Sealed::Whole(content.to_vec())))
}

/// Replace a sealed file, whole and durably; for our own user alone.
///
/// # Errors
/// The disk.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    files::replace(path, &seal(content), 0o600)
}

/// Move a file that cannot be believed out of the way, beside where it was. The last one of its name is kept, so that
/// a disk that keeps breaking it is not filled.
pub(crate) fn move_aside(path: &Path) {
    let bytes = files::read(path, 16 << 20).ok().flatten().unwrap_or_default();
    let mut aside = path.as_os_str().to_owned();
    aside.push(".corrupt");
    let kept = files::replace(Path::new(&aside), &bytes, 0o600).is_ok();
    let gone = files::remove(path).is_ok();
    tracing::warn!(file = %path.display(), kept, gone, "not what was written there: moved aside");
}

#[cfg(test)]
mod tests {
    use super::{seal, unseal};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_sealed_is_read_back_and_no_damage_goes_unseen(
            content in proptest::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            flip in 1u8..,
            keep in any::<prop::sample::Index>(),
        ) {
            let whole = seal(&content);
            prop_assert_eq!(unseal(&whole), Some(&content[..]));
            prop_assert_eq!(unseal(&whole[..keep.index(whole.len())]), None);
            let mut flipped = whole.clone();
            let at = at.index(flipped.len());
            flipped[at] ^= flip;
            // The seal's own line may read the same in another spelling (case of a digit, a leading plus).
            prop_assert!(unseal(&flipped).is_none_or(|read| read == content));
        }
    }
}
