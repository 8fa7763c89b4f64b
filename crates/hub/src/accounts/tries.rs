//! How often somebody may try a password: a window for each account and for each address. In memory: a restart forgives.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How long a window is (ms).
const WINDOW: i64 = 5 * 60_000;
/// How many tries an account has in a window, and how many an address.
const OF_ACCOUNT: u32 = 10;
const OF_ADDRESS: u32 = 30;
/// From how many windows on those that are over are forgotten.
const MANY: usize = 4096;

/// The windows: when each began (unix ms), and how many tries there were.
#[derive(Debug, Default)]
pub(super) struct Tries(Mutex<HashMap<String, (i64, u32)>>);

impl Tries {
    /// Counts a try at `now` (unix ms).
    ///
    /// # Errors
    /// There were too many: after how many seconds there is another.
    pub(super) fn take(&self, account: &str, address: &str, now: i64) -> Result<(), u32> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MANY {
            windows.retain(|_, (began, _)| now - *began < WINDOW);
            // So many at once come from as many addresses: memory stays bounded, and hashing is the brake that is left.
            if windows.len() >= MANY {
                windows.clear();
            }
        }
        for (key, most) in [(format!("from {address}"), OF_ADDRESS), (format!("for {account}"), OF_ACCOUNT)] {
            let window = windows.entry(key).or_insert((now, 0));
            if now - window.0 >= WINDOW {
                *window = (now, 0);
            }
            if window.1 >= most {
                return Err(u32::try_from((WINDOW - (now - window.0)) / 1000).unwrap_or(0).max(1));
            }
            window.1 += 1;
        }
        Ok(())
    }

    /// Somebody came in: his account's window is new, and his try is no one's at his address, which a whole house may share.
    pub(super) fn forget(&self, account: &str, address: &str) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.remove(&format!("for {account}"));
        if let Some((_, tries)) = windows.get_mut(&format!("from {address}")) {
            *tries = tries.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{OF_ACCOUNT, OF_ADDRESS, Tries, WINDOW};

    #[test]
    fn an_account_and_an_address_have_so_many_tries_in_a_window() {
        let tries = Tries::default();
        for n in 0..OF_ACCOUNT {
            assert_eq!(tries.take("ada", &format!("192.0.2.{n}"), 0), Ok(()));
        }
        assert_eq!(tries.take("ada", "198.51.100.1", 1000), Err(299));
        assert_eq!(tries.take("bob", "198.51.100.1", 1000), Ok(()));
        assert_eq!(tries.take("ada", "198.51.100.1", WINDOW), Ok(()));
        let tries = Tries::default();
        for n in 0..OF_ADDRESS {
            assert_eq!(tries.take(&format!("a{n}"), "192.0.2.1", 0), Ok(()));
        }
        assert!(tries.take("new", "192.0.2.1", 0).is_err());
        // Who came in leaves the others of his house theirs.
        tries.forget("a0", "192.0.2.1");
        assert_eq!(tries.take("new", "192.0.2.1", 0), Ok(()));
        assert!(tries.take("newer", "192.0.2.1", 0).is_err());
    }
}
