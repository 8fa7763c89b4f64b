//! Speaking with the provider: where it is, what its keys are, and what a code is worth. No redirect is followed, every
//! answer has a cap and every question a deadline; nothing that is said of an error has a secret in it.

use super::config::{Oidc, safe};
use super::keys::{self, Key};
use super::pending::Pending;
use super::token::{self, Expected, TokenError};
use crate::ca::CaError;
use crate::http::encode;
use crate::store::accounts::Role;
use crate::writer::chain;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, RequestBuilder};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long what it says of itself, and its keys, are believed.
const FRESH: Duration = Duration::from_hours(1);
/// The least time between two questions for its keys: whoever shows tokens of unknown keys makes nobody ask more often.
const PAUSE: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const ANSWER: usize = 256 * 1024;
/// How many may be on their way at once.
const ROOM: usize = 16;

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum OidcError {
    /// The provider cannot be asked, or says what no provider says.
    #[error("the provider could not be asked: {0}")]
    Away(String),
    /// The hub's own side: its secret, its store.
    #[error("the hub cannot ask the provider: {0}")]
    Own(String),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] CaError),
    /// What came back belongs to no sign-in that this browser has begun.
    #[error("this sign-in was not begun in this browser, or too long ago: begin again")]
    State,
    /// The provider said no.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// What it said is not to be believed.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Somebody whom the mapping gives no role.
    #[error("this account has no role here: ask whoever keeps the hub which group gives one")]
    NoRole,
    /// The account of that name is another person's.
    #[error("another person had this name here before: an admin has to remove that account first")]
    Taken,
    /// Nothing to call somebody by.
    #[error("{0}")]
    Name(String),
}

impl OidcError {
    /// Whether it tells of somebody who came back from the provider; else of the provider, or of the hub.
    pub(crate) fn is_about_somebody(&self) -> bool {
        match self {
            Self::Away(_) | Self::Own(_) | Self::Random(_) | Self::State => false,
            Self::Refused(_) | Self::Token(_) | Self::NoRole | Self::Taken | Self::Name(_) => true,
        }
    }
}

/// Somebody whom the provider vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Vouched {
    /// Who, at the provider; never another one's.
    pub(crate) subject: String,
    /// What he is called there.
    pub(crate) name: String,
    /// What he may do here, and in which tiers.
    pub(crate) grant: Option<(Role, Vec<String>)>,
    /// Where he wanted to go.
    pub(crate) next: String,
}

/// What comes back from the provider by the browser.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Back {
    #[serde(default)]
    pub(crate) state: String,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    /// RFC 9207: who answers.
    iss: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Described {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: Option<String>,
}

#[derive(Deserialize)]
struct TokenProblem {
    error: String,
    error_description: Option<String>,
}

/// Something that is kept for a while, and when it was asked for last.
struct Kept<T> {
    value: Option<(Instant, Arc<T>)>,
    asked: Option<Instant>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { value: None, asked: None }
    }
}

/// The provider, as a running hub has it.
pub struct Provider {
    /// What is written of it.
    pub oidc: Oidc,
    client: Client,
    back: String,
    described: Mutex<Kept<Described>>,
    keys: Mutex<Kept<Vec<Key>>>,
    room: Semaphore,
}

impl Provider {
    /// The provider of a hub whose pages are at `public_url`. Nothing is asked yet.
    ///
    /// # Errors
    /// When there can be no client: what is wrong, and with which file.
    pub fn new(oidc: Oidc, public_url: &str) -> Result<Self, String> {
        let client = crate::tell::client(oidc.ca_file.as_deref())?;
        let back = format!("{}/sign-in/provider/back", public_url.trim_end_matches('/'));
        let (described, keys) = (Mutex::default(), Mutex::default());
        Ok(Self { oidc, client, back, described, keys, room: Semaphore::new(ROOM) })
    }

    fn secret(&self) -> Result<String, OidcError> {
        self.oidc.secret().map_err(OidcError::Own)
    }

    /// Begins a sign-in at `now` (unix ms): where to send the browser, and what to give it for when it comes back.
    ///
    /// # Errors
    /// The provider is away, or the hub has no secret.
    pub(crate) async fn begin(&self, next: &str, now: i64) -> Result<(String, String), OidcError> {
        let secret = self.secret()?;
        let at = self.described().await?;
        let pending = Pending::new(next, now)?;
        let scope = std::iter::once("openid")
            .chain(self.oidc.scopes.iter().map(String::as_str).filter(|one| *one != "openid"));
        let scope = scope.collect::<Vec<_>>().join(" ");
        let challenge = pending.challenge();
        let mut url = safe(&at.authorization_endpoint).map_err(OidcError::Away)?;
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &self.oidc.client_id),
            ("redirect_uri", &self.back),
            ("scope", &scope),
            ("state", &pending.state),
            ("nonce", &pending.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        Ok((url.into(), pending.seal(&secret)))
    }

    /// Ends one: whom the provider vouches for.
    ///
    /// # Errors
    /// Why nobody.
    pub(crate) async fn end(&self, back: Back, cookie: &str, now: i64) -> Result<Vouched, OidcError> {
        let secret = self.secret()?;
        let pending = Pending::open(cookie, &secret, &back.state, now).ok_or(OidcError::State)?;
        if back.iss.is_some_and(|iss| iss != self.oidc.issuer) {
            return Err(OidcError::Refused("another one answers in its place".to_owned()));
        }
        if let Some(error) = back.error {
            return Err(OidcError::Refused(said(&error, back.error_description.as_deref())));
        }
        let code = back.code.filter(|code| !code.is_empty());
        let code = code.ok_or_else(|| OidcError::Refused("it sent no code".to_owned()))?;
        let token = self.exchange(&code, &pending.verifier, &secret).await?;
        let claims = self.believe(&token, &pending.nonce, now).await?;
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        // The issuer as well: the same number at another provider is another person.
        let subject = format!("{}\n{subject}", self.oidc.issuer);
        let name = self.oidc.name(&claims).map_err(OidcError::Name)?.to_owned();
        Ok(Vouched { subject, name, grant: self.oidc.grant(&claims), next: pending.next })
    }

    async fn exchange(&self, code: &str, verifier: &str, secret: &str) -> Result<String, OidcError> {
        let at = self.described().await?;
        let id = &self.oidc.client_id;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.back),
            ("code_verifier", verifier),
        ];
        let methods = at.token_endpoint_auth_methods_supported.as_deref().unwrap_or_default();
        let has = |method: &str| methods.iter().any(|own| own == method);
        let by_post = has("client_secret_post") && !has("client_secret_basic");
        if by_post {
            fields.extend([("client_id", id.as_str()), ("client_secret", secret)]);
        }
        let body: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
        let url = safe(&at.token_endpoint).map_err(OidcError::Away)?;
        let mut request = self
            .client
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.join("&"));
        if !by_post {
            // RFC 6749, 2.3.1: each is encoded as in a form first.
            let both = STANDARD.encode(format!("{}:{}", encode(id), encode(secret)));
            request = request.header("authorization", format!("Basic {both}"));
        }
        let (code, text) = self.ask(request).await?;
        if code != 200 {
            let problem = serde_json::from_slice::<TokenProblem>(&text);
            let why = problem.map(|it| said(&it.error, it.error_description.as_deref()));
            return Err(OidcError::Refused(why.unwrap_or_else(|_| format!("it answered {code}"))));
        }
        let tokens: Tokens = serde_json::from_slice(&text).map_err(|_| TokenError::Unread)?;
        Ok(tokens.id_token.ok_or(TokenError::Unread)?)
    }

    /// The claims of a token. A key that is not known may be a new one: the keys are asked for once more.
    async fn believe(&self, token: &str, nonce: &str, now: i64) -> Result<Map<String, Value>, OidcError> {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact in a double")]
        let now = now.div_euclid(1000) as f64;
        let expected = Expected { issuer: &self.oidc.issuer, client: &self.oidc.client_id, nonce, now };
        let known = self.keys(FRESH).await?;
        match token::verify(token, &known, expected) {
            Err(TokenError::UnknownKey) => Ok(token::verify(token, &self.keys(PAUSE).await?, expected)?),
            judged => Ok(judged?),
        }
    }

    async fn described(&self) -> Result<Arc<Described>, OidcError> {
        let url = format!("{}/.well-known/openid-configuration", self.oidc.issuer.trim_end_matches('/'));
        let read = |text: &[u8]| {
            let it: Described =
                serde_json::from_slice(text).map_err(|_| "its description does not read".to_owned())?;
            if it.issuer != self.oidc.issuer {
                let other: String = it.issuer.chars().take(200).collect();
                return Err(format!(
                    "it calls itself {other}, and `issuer` in hub.yaml is {}",
                    self.oidc.issuer
                ));
            }
            [&it.authorization_endpoint, &it.token_endpoint, &it.jwks_uri]
                .into_iter()
                .try_for_each(|url| safe(url).map(drop))?;
            Ok(it)
        };
        self.kept(&self.described, FRESH, &url, read).await
    }

    async fn keys(&self, young: Duration) -> Result<Arc<Vec<Key>>, OidcError> {
        let at = self.described().await?;
        let read = |text: &[u8]| keys::read(text).ok_or_else(|| "its keys do not read".to_owned());
        self.kept(&self.keys, young, &at.jwks_uri, read).await
    }

    /// What is known, where it is younger than `young`; else what is answered now. Where nothing is, what was known.
    async fn kept<T>(
        &self,
        kept: &Mutex<Kept<T>>,
        young: Duration,
        url: &str,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<Arc<T>, OidcError> {
        let old = {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let (value, asked) = (kept.value.clone(), kept.asked);
            if let Some((at, value)) = &value
                && (at.elapsed() < young || asked.is_some_and(|asked| asked.elapsed() < PAUSE))
            {
                return Ok(Arc::clone(value));
            }
            kept.asked = Some(Instant::now());
            value
        };
        let answer = match self.ask(self.client.get(url)).await {
            Ok((200, text)) => read(&text).map_err(OidcError::Away),
            Ok((code, _)) => Err(OidcError::Away(format!("it answered {code} at {url}"))),
            Err(why) => Err(why),
        };
        match (answer, old) {
            (Ok(value), _) => {
                let value = Arc::new(value);
                kept.lock().unwrap_or_else(PoisonError::into_inner).value =
                    Some((Instant::now(), Arc::clone(&value)));
                Ok(value)
            }
            (Err(why), Some((_, old))) => {
                tracing::warn!(error = chain(&why), "what was known of the provider is used on");
                Ok(old)
            }
            (Err(why), None) => Err(why),
        }
    }

    /// A request's code and answer.
    async fn ask(&self, request: RequestBuilder) -> Result<(u16, Vec<u8>), OidcError> {
        let busy = |_| OidcError::Away("too many sign in at once; try again".to_owned());
        let _room = self.room.try_acquire().map_err(busy)?;
        let away = |why: reqwest::Error| OidcError::Away(chain(&why.without_url()));
        let mut answer = request.header("accept", "application/json").send().await.map_err(away)?;
        let (code, mut text) = (answer.status().as_u16(), vec![]);
        while let Some(more) = answer.chunk().await.map_err(away)? {
            if text.len() + more.len() > ANSWER {
                return Err(OidcError::Away(format!("it answered with more than {ANSWER} bytes")));
            }
            text.extend_from_slice(&more);
        }
        Ok((code, text))
    }
}

/// What somebody else says of an error, in at most 200 characters that can be printed.
fn said(error: &str, description: Option<&str>) -> String {
    let text = description.map_or_else(|| error.to_owned(), |more| format!("{error}: {more}"));
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
