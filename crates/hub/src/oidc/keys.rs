//! The provider's public keys, as a JWK set has them (RFC 7517), and what they signed. RS256 and ES256, and nothing else:
//! those are what providers sign with, and a key says by its own kind which of the two it is for.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;

/// The most keys of a set that are looked at.
const MOST: usize = 64;

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
}

impl Algorithm {
    /// The one of this name; of any other, `none` before all, there is nothing to believe.
    pub(super) fn read(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// A key that may sign tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub(super) id: Option<String>,
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// An uncompressed point of P-256.
    P256(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Every key of a set that may sign tokens; those of other kinds are passed over.
pub(super) fn read(text: &[u8]) -> Option<Vec<Key>> {
    let set: Set = serde_json::from_slice(text).ok()?;
    Some(set.keys.into_iter().take(MOST).filter_map(|one| key(serde_json::from_value(one).ok()?)).collect())
}

fn key(jwk: Jwk) -> Option<Key> {
    let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
    if jwk.purpose.is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let (shape, algorithm) = match jwk.kty.as_str() {
        "RSA" => (Shape::Rsa { n: bytes(jwk.n)?, e: bytes(jwk.e)? }, "RS256"),
        "EC" if jwk.crv.as_deref() == Some("P-256") => {
            let (x, y) = (bytes(jwk.x)?, bytes(jwk.y)?);
            if x.len() != 32 || y.len() != 32 {
                return None;
            }
            (Shape::P256([&[4], x.as_slice(), &y].concat()), "ES256")
        }
        _ => return None,
    };
    if jwk.alg.is_some_and(|own| own != algorithm) {
        return None;
    }
    Some(Key { id: jwk.kid, shape })
}

impl Key {
    /// Whether it is for `algorithm`.
    pub(super) fn is_for(&self, algorithm: Algorithm) -> bool {
        matches!(
            (&self.shape, algorithm),
            (Shape::Rsa { .. }, Algorithm::Rs256) | (Shape::P256(_), Algorithm::Es256)
        )
    }

    /// Whether it signed `message`. RSA keys of fewer than 2048 bits sign nothing.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.shape {
            Shape::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Shape::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
        }
    }
}
