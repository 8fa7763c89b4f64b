//! Whether an ID token is to be believed: OpenID Connect Core 1.0, 3.1.3.7. Pure: keys, time and what is expected are
//! handed in, and what is not signed is not read.

use super::keys::{Algorithm, Key};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// By how much the provider's clock may be off (s).
const LEEWAY: f64 = 60.0;
/// The longest subject (OpenID Connect Core 1.0, 2).
const SUBJECT: usize = 255;

/// What a token has to say.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Who issued it.
    pub issuer: &'a str,
    /// Whom it is for.
    pub client: &'a str,
    /// For which sign-in.
    pub nonce: &'a str,
    /// What time it is (unix s).
    pub now: f64,
}

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is no token.
    #[error("the token does not read")]
    Unread,
    /// It is not signed, or in a way that is not known here.
    #[error("the token is signed with {0:?}; RS256 and ES256 are believed, and nothing else")]
    Algorithm(String),
    /// Nobody has such a key.
    #[error("the token is signed with a key that the provider does not name")]
    UnknownKey,
    /// It was signed by somebody else, or changed.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim is not as it has to be.
    #[error("the token's {0} is wrong: {1}")]
    Claim(&'static str, &'static str),
}

#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// The claims of a token that is to be believed.
///
/// # Errors
/// Why it is not.
pub fn verify(token: &str, keys: &[Key], expected: Expected<'_>) -> Result<Map<String, Value>, TokenError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Unread)?;
    let (head, body) = signed.split_once('.').ok_or(TokenError::Unread)?;
    let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Unread);
    let Head { alg, kid, crit } = serde_json::from_slice(&bytes(head)?).map_err(|_| TokenError::Unread)?;
    // What a token calls critical has to be understood; nothing of it is.
    if crit.is_some() {
        return Err(TokenError::Unread);
    }
    let shown = || alg.chars().take(20).collect();
    let algorithm = Algorithm::read(&alg).ok_or_else(|| TokenError::Algorithm(shown()))?;
    let key = pick(keys, algorithm, kid.as_deref())?;
    if !key.signed(signed.as_bytes(), &bytes(signature)?) {
        return Err(TokenError::Signature);
    }
    let claims: Map<String, Value> = serde_json::from_slice(&bytes(body)?).map_err(|_| TokenError::Unread)?;
    check(&claims, expected)?;
    Ok(claims)
}

/// The key that a token names; one that names none is the only one's.
fn pick<'a>(keys: &'a [Key], algorithm: Algorithm, id: Option<&str>) -> Result<&'a Key, TokenError> {
    let mut its =
        keys.iter().filter(|key| key.is_for(algorithm) && (id.is_none() || key.id.as_deref() == id));
    match (its.next(), its.next()) {
        (Some(key), None) => Ok(key),
        _ => Err(TokenError::UnknownKey),
    }
}

fn check(claims: &Map<String, Value>, expected: Expected<'_>) -> Result<(), TokenError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let time = |name: &str| claims.get(name).and_then(Value::as_f64);
    let must = |holds: bool, claim: &'static str, why: &'static str| {
        if holds { Ok(()) } else { Err(TokenError::Claim(claim, why)) }
    };
    must(text("iss") == Some(expected.issuer), "iss", "it is of another issuer")?;
    must(is_for(claims, expected.client), "aud", "it is for somebody else")?;
    must(time("exp").is_some_and(|exp| expected.now < exp + LEEWAY), "exp", "its time is over")?;
    must(time("iat").is_some_and(|iat| iat <= expected.now + LEEWAY), "iat", "it is from the future")?;
    let begun =
        claims.get("nbf").is_none_or(|nbf| nbf.as_f64().is_some_and(|nbf| nbf <= expected.now + LEEWAY));
    must(begun, "nbf", "its time has not come")?;
    must(text("nonce") == Some(expected.nonce), "nonce", "it is for another sign-in")?;
    let subject = text("sub").is_some_and(|sub| (1..=SUBJECT).contains(&sub.len()));
    must(subject, "sub", "it names nobody")
}

/// For this client, and asked for by no other.
fn is_for(claims: &Map<String, Value>, client: &str) -> bool {
    let audience = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let party = claims.get("azp").map(|azp| azp.as_str() == Some(client));
    audience.contains(&client) && party.unwrap_or(audience.len() == 1)
}
