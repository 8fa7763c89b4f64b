//! Compressed bodies: unpacked up to a cap and not a byte further.

use flate2::bufread::GzDecoder;
use std::io::Read as _;

/// Why a body does not unpack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// It is no gzip, or not whole.
    #[error("the body is no whole gzip")]
    Broken,
    /// There is more in it than is read.
    #[error("the body unpacks to more than {0} bytes; send fewer events at once")]
    TooLarge(usize),
}

/// What is in a gzip of one member, `cap` bytes at most.
///
/// # Errors
/// When it is none, is cut short, has something behind it, or holds more.
pub fn gzip(packed: &[u8], cap: usize) -> Result<Vec<u8>, UnpackError> {
    let mut decoder = GzDecoder::new(packed);
    let mut unpacked = vec![];
    let most = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    decoder.by_ref().take(most).read_to_end(&mut unpacked).map_err(|_| UnpackError::Broken)?;
    if unpacked.len() > cap {
        return Err(UnpackError::TooLarge(cap));
    }
    if !decoder.into_inner().is_empty() {
        return Err(UnpackError::Broken);
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{UnpackError, gzip};
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_packed_comes_out_and_what_is_cut_or_followed_by_something_does_not() {
        let packed = pack(b"some events");
        assert_eq!(gzip(&packed, 11).unwrap(), b"some events");
        assert_eq!(gzip(&packed, 10), Err(UnpackError::TooLarge(10)));
        for cut in 0..packed.len() {
            assert_eq!(gzip(&packed[..cut], 100), Err(UnpackError::Broken), "{cut}");
        }
        assert_eq!(gzip(&[packed.clone(), packed].concat(), 100), Err(UnpackError::Broken));
    }

    #[test]
    fn a_bomb_is_left_at_the_cap() {
        let bomb = pack(&vec![0; 64 << 20]);
        assert!(bomb.len() < 1 << 20);
        let began = std::time::Instant::now();
        assert_eq!(gzip(&bomb, 1 << 20), Err(UnpackError::TooLarge(1 << 20)));
        assert!(began.elapsed() < std::time::Duration::from_secs(2), "{:?}", began.elapsed());
    }
}
