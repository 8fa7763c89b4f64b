//! A provider of accounts (OpenID Connect) over real HTTP and with real signatures, which does what providers do and can be
//! told to do what none should.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Form, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};

pub const CLIENT: &str = "evenkeel-hub";
pub const SECRET: &str = "a secret: with%and:and +";

/// A key that signs.
pub enum Signer {
    Rsa(Box<RsaKeyPair>),
    P256(Box<EcdsaKeyPair>),
}

impl Signer {
    pub fn p256() -> Self {
        let (how, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(how, &random).unwrap();
        Self::P256(Box::new(EcdsaKeyPair::from_pkcs8(how, key.as_ref(), &random).unwrap()))
    }

    pub fn rsa() -> Self {
        let args = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER"];
        let made = Command::new("openssl").args(args).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        // OpenSSL 3.0 writes PKCS#1, later ones PKCS#8.
        let key = RsaKeyPair::from_pkcs8(&made.stdout).or_else(|_| RsaKeyPair::from_der(&made.stdout));
        Self::Rsa(Box::new(key.unwrap()))
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::P256(_) => "ES256",
        }
    }

    pub fn jwk(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Rsa(key) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = key.public().into();
                json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256", "n": text(&n), "e": text(&e)})
            }
            Self::P256(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": text(&point[1..33]), "y": text(&point[33..])})
            }
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let mut out = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut out).unwrap();
                out
            }
            Self::P256(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
        }
    }

    /// A signed token.
    pub fn token(&self, head: &Value, claims: &Map<String, Value>) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(head), part(&claims.clone().into()));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(text.as_bytes()));
        format!("{text}.{signature}")
    }
}

/// Makes a token of the key's id, the claims that are right, and the key.
pub type Make = Box<dyn Fn(&str, Map<String, Value>, &Signer) -> String + Send>;

/// What a token is like where nobody wants anything else.
pub fn right() -> Make {
    Box::new(|id, claims, signer| signer.token(&json!({"alg": signer.algorithm(), "kid": id}), &claims))
}

struct Grant {
    redirect: String,
    challenge: String,
    nonce: String,
    person: Value,
}

struct Inner {
    issuer: String,
    now: i64,
    signer: (String, Signer),
    make: Make,
    grants: HashMap<String, Grant>,
    codes: usize,
    by_post: bool,
    /// How often its keys were asked for.
    asked_keys: usize,
}

/// The provider; it ends with this.
pub struct FakeProvider {
    pub at: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    task: tokio::task::JoinHandle<()>,
}

type Shared = State<Arc<Mutex<Inner>>>;

impl FakeProvider {
    /// One that takes the time for `now_s` (unix s).
    pub async fn start(signer: Signer, now_s: i64) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::on(listener, signer, now_s)
    }

    pub fn on(listener: tokio::net::TcpListener, signer: Signer, now_s: i64) -> Self {
        let at = listener.local_addr().unwrap();
        let inner = Inner {
            issuer: format!("http://{at}"),
            now: now_s,
            signer: ("k1".into(), signer),
            make: right(),
            grants: HashMap::new(),
            codes: 0,
            by_post: false,
            asked_keys: 0,
        };
        let inner = Arc::new(Mutex::new(inner));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(description))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(Arc::clone(&inner));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { at, inner, task }
    }

    pub fn issuer(&self) -> String {
        format!("http://{}", self.at)
    }

    /// Every token from now on.
    pub fn make(&self, make: Make) {
        self.inner.lock().unwrap().make = make;
    }

    /// Another key from now on; the one before is forgotten.
    pub fn rotate(&self, id: &str, signer: Signer) {
        self.inner.lock().unwrap().signer = (id.into(), signer);
    }

    pub fn calls_itself(&self, issuer: &str) {
        self.inner.lock().unwrap().issuer = issuer.into();
    }

    pub fn wants_post(&self) {
        self.inner.lock().unwrap().by_post = true;
    }

    pub fn asked_keys(&self) -> usize {
        self.inner.lock().unwrap().asked_keys
    }

    /// A person signs in at the address that the hub sent his browser to: the address that he is sent back to.
    pub fn signs_in(&self, url: &str, person: Value) -> String {
        let url = reqwest::Url::parse(url).unwrap();
        let asked: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        let of = |name: &str| asked[name].clone();
        assert_eq!(url.path(), "/authorize");
        assert_eq!((of("response_type").as_str(), of("client_id").as_str()), ("code", CLIENT));
        assert_eq!(of("code_challenge_method"), "S256");
        assert!(of("scope").split(' ').any(|scope| scope == "openid"), "{asked:?}");
        let mut inner = self.inner.lock().unwrap();
        inner.codes += 1;
        let code = format!("code/{}", inner.codes);
        let (redirect, challenge, nonce) = (of("redirect_uri"), of("code_challenge"), of("nonce"));
        let back =
            reqwest::Url::parse_with_params(&redirect, [("code", code.as_str()), ("state", &of("state"))])
                .unwrap();
        inner.grants.insert(code, Grant { redirect, challenge, nonce, person });
        format!("{}?{}", back.path(), back.query().unwrap())
    }
}

impl Drop for FakeProvider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn description(State(inner): Shared) -> Json<Value> {
    let inner = inner.lock().unwrap();
    let issuer = &inner.issuer;
    let way = if inner.by_post { "client_secret_post" } else { "client_secret_basic" };
    Json(json!({
        "issuer": issuer, "authorization_endpoint": format!("{issuer}/authorize"), "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"), "token_endpoint_auth_methods_supported": [way],
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
    }))
}

async fn keys(State(inner): Shared) -> Json<Value> {
    let mut inner = inner.lock().unwrap();
    inner.asked_keys += 1;
    let (id, signer) = &inner.signer;
    let other = json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": "AA"});
    Json(json!({"keys": [other, signer.jwk(id)]}))
}

async fn token(
    State(inner): Shared,
    headers: HeaderMap,
    Form(asked): Form<BTreeMap<String, String>>,
) -> Response {
    let mut inner = inner.lock().unwrap();
    let no = |error: &str| {
        (
            StatusCode::BAD_REQUEST,
            Json(json!({"error": error, "error_description": "no\u{7} <b>such</b> thing"})),
        )
            .into_response()
    };
    let basic = headers.get("authorization").map(|value| {
        let text = STANDARD.decode(value.to_str().unwrap().strip_prefix("Basic ").unwrap()).unwrap();
        let text = String::from_utf8(text).unwrap();
        let (id, secret) = text.split_once(':').unwrap();
        let plain = |text: &str| {
            let form = format!("http://x/?a={text}");
            reqwest::Url::parse(&form).unwrap().query_pairs().next().unwrap().1.into_owned()
        };
        (plain(id), plain(secret))
    });
    let posted = asked.get("client_id").cloned().zip(asked.get("client_secret").cloned());
    let shown = if inner.by_post { posted } else { basic };
    if shown != Some((CLIENT.to_owned(), SECRET.to_owned())) {
        return no("invalid_client");
    }
    // A code is good once.
    let Some(grant) = asked.get("code").and_then(|code| inner.grants.remove(code)) else {
        return no("invalid_grant");
    };
    let verifier = asked.get("code_verifier").map(String::as_bytes).unwrap_or_default();
    let proof = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, verifier));
    if asked["grant_type"] != "authorization_code"
        || asked["redirect_uri"] != grant.redirect
        || proof != grant.challenge
    {
        return no("invalid_grant");
    }
    let mut claims = json!({"iss": inner.issuer, "aud": CLIENT, "iat": inner.now, "exp": inner.now + 300, "nonce": grant.nonce});
    let claims = claims.as_object_mut().unwrap();
    claims.extend(grant.person.as_object().unwrap().clone());
    let (id, signer) = &inner.signer;
    let token = (inner.make)(id, claims.clone(), signer);
    Json(json!({"access_token": "nothing", "token_type": "Bearer", "id_token": token})).into_response()
}
