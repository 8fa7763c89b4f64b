//! Passwords, as argon2id makes them useless to whoever reads the store.

use crate::ca::{self, CaError, fingerprint, hex};
use argon2::{Algorithm, Argon2, Params, Version};
use std::sync::OnceLock;

/// Memory (KiB), passes and lanes: the second of the equivalent settings of the OWASP Password Storage Cheat Sheet
/// (19 MiB, 2, 1). They stand in each hash, so that they may grow.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// The shortest and the longest password (bytes). NIST SP 800-63B-4 asks for 15 where nothing else is asked for.
pub const SHORTEST: usize = 15;
/// See [`SHORTEST`].
pub const LONGEST: usize = 1024;

/// Why there is no hash.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// It is too short or too long.
    #[error("a password has {SHORTEST} to {LONGEST} bytes; this one has {0}")]
    Length(usize),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] CaError),
    /// The hash function would not.
    #[error("hashing the password: {0}")]
    Hash(argon2::Error),
}

/// `argon2id$KIB$PASSES$LANES$SALT$HASH`.
///
/// # Errors
/// When the password is too short or too long, or there is no randomness.
pub fn hash(password: &str) -> Result<String, PasswordError> {
    if !(SHORTEST..=LONGEST).contains(&password.len()) {
        return Err(PasswordError::Length(password.len()));
    }
    let salt = hex(&ca::random::<16>()?);
    let told = digest(password, &salt, MEMORY_KIB, PASSES, LANES).map_err(PasswordError::Hash)?;
    Ok(format!("argon2id${MEMORY_KIB}${PASSES}${LANES}${salt}${told}"))
}

fn digest(password: &str, salt: &str, memory: u32, passes: u32, lanes: u32) -> Result<String, argon2::Error> {
    let params = Params::new(memory, passes, lanes, Some(32))?;
    let mut out = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
        password.as_bytes(),
        salt.as_bytes(),
        &mut out,
    )?;
    Ok(hex(&out))
}

/// Whether `password` is the one of `kept`. Where there is none it takes as long, and is not.
#[must_use]
pub fn verify(password: &str, kept: Option<&str>) -> bool {
    static NOBODYS: OnceLock<String> = OnceLock::new();
    let nobodys = || hash("nobody has this password").unwrap_or_default();
    let against = kept.unwrap_or_else(|| NOBODYS.get_or_init(nobodys));
    let same = password.len() <= LONGEST && is(password, against).unwrap_or(false);
    same && kept.is_some()
}

fn is(password: &str, kept: &str) -> Option<bool> {
    let mut parts = kept.split('$');
    if parts.next()? != "argon2id" {
        return None;
    }
    let mut number = || parts.next()?.parse().ok();
    let (memory, passes, lanes) = (number()?, number()?, number()?);
    let (salt, told) = (parts.next()?, parts.next()?);
    let own = digest(password, salt, memory, passes, lanes).ok()?;
    // Of hashes, so that how long comparing takes tells nothing of what is compared.
    Some(fingerprint(own.as_bytes()) == fingerprint(told.as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{digest, hash, verify};

    #[test]
    fn a_password_is_known_again_and_no_other() {
        let kept = hash("correct horse battery").unwrap();
        assert!(kept.starts_with("argon2id$19456$2$1$") && !kept.contains("horse"), "{kept}");
        assert!(verify("correct horse battery", Some(&kept)));
        for other in ["correct horse batterz", "correct horse battery ", "", &kept] {
            assert!(!verify(other, Some(&kept)), "{other}");
        }
        assert_ne!(hash("correct horse battery").unwrap(), kept, "salted");
        assert!(!verify("nobody has this password", None));
        assert!(!verify("x", Some("argon2id$broken")));
    }

    #[test]
    fn a_short_password_is_refused() {
        assert!(hash("fourteen bytes").unwrap_err().to_string().contains("15"));
        assert!(hash(&"x".repeat(1025)).is_err());
    }

    #[test]
    fn the_parameters_change_what_comes_out() {
        let one = digest("password", "somesaltsomesalt", 19 * 1024, 2, 1).unwrap();
        let other = digest("password", "somesaltsomesalt", 19 * 1024, 3, 1).unwrap();
        assert!(one.len() == 64 && one != other);
    }
}
