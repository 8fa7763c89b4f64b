//! A sign-in that has begun and not ended: in the browser's cookie and nowhere else, so that whichever hub of a database
//! the browser comes back to can end it. It is sealed with a key that is made from the hub's secret at the provider, which
//! all of them have; so what comes back is what was given, and not too old.

use crate::ca::{self, CaError, fingerprint, hex};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde::{Deserialize, Serialize};

/// How long somebody may take at the provider (ms).
pub(super) const LIFE: i64 = 10 * 60_000;

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    /// What the provider gives back with its answer.
    pub(super) state: String,
    /// What the token has to name.
    pub(super) nonce: String,
    /// What the code is worth nothing without (RFC 7636).
    pub(super) verifier: String,
    /// Where to go afterwards.
    pub(super) next: String,
    /// Until when it may end (unix ms).
    pub(super) until: i64,
}

fn key(secret: &str) -> hmac::Key {
    let own = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let made = hmac::sign(&own, b"evenkeel-hub: a sign-in that is pending");
    hmac::Key::new(hmac::HMAC_SHA256, made.as_ref())
}

impl Pending {
    /// One that begins at `now` (unix ms).
    pub(super) fn new(next: &str, now: i64) -> Result<Self, CaError> {
        let word = || Ok::<_, CaError>(hex(&ca::random::<32>()?));
        Ok(Self {
            state: word()?,
            nonce: word()?,
            verifier: word()?,
            next: next.to_owned(),
            until: now + LIFE,
        })
    }

    /// What the provider is told of the verifier.
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, self.verifier.as_bytes()))
    }

    /// As the cookie has it.
    pub(super) fn seal(&self, secret: &str) -> String {
        let text = URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default());
        let tag = hmac::sign(&key(secret), text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// The one that a cookie has, where it is one of this hub's, not over at `now` (unix ms), and of this `state`.
    pub(super) fn open(cookie: &str, secret: &str, state: &str, now: i64) -> Option<Self> {
        let (text, tag) = cookie.split_once('.')?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&key(secret), text.as_bytes(), &tag).ok()?;
        let it: Self = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        // Of hashes, so that how long comparing takes tells nothing of what is compared.
        let same = fingerprint(it.state.as_bytes()) == fingerprint(state.as_bytes());
        (same && now < it.until).then_some(it)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{LIFE, Pending};

    #[test]
    fn what_comes_back_is_what_was_given_and_not_too_old() {
        let it = Pending::new("/nodes", 0).unwrap();
        let cookie = it.seal("secret");
        assert_eq!(Pending::open(&cookie, "secret", &it.state, LIFE - 1).as_ref(), Some(&it));
        assert_eq!(Pending::open(&cookie, "secret", &it.state, LIFE), None, "too old");
        assert_eq!(Pending::open(&cookie, "other", &it.state, 1), None, "another hub's");
        assert_eq!(Pending::open(&cookie, "secret", &it.nonce, 1), None, "another sign-in's");
        let later = Pending { until: LIFE * 9, ..it.clone() }.seal("guess");
        let (text, _) = later.split_once('.').unwrap();
        let (_, tag) = cookie.split_once('.').unwrap();
        assert_eq!(Pending::open(&format!("{text}.{tag}"), "secret", &it.state, 1), None, "changed");
        for nothing in ["", ".", "a.b", text] {
            assert_eq!(Pending::open(nothing, "secret", &it.state, 1), None);
        }
    }

    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        // RFC 7636, appendix B.
        let it = Pending {
            verifier: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into(),
            ..Pending::new("/", 0).unwrap()
        };
        assert_eq!(it.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
