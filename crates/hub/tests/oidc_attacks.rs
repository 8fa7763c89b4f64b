//! Signing in at a provider: what is not believed, each tried on a real hub with tokens that are really signed.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::T0;
use common::oidc::{Lab, ada, session, text};
use common::provider::{CLIENT, Make, Signer, right};
use common::stores::{Kind, Where};
use evenkeel_hub::who::Came;
use serde_json::{Map, Value, json};
use std::sync::atomic::Ordering;

/// The right token with claims that are not.
fn claiming(change: Value) -> Make {
    Box::new(move |id, mut claims, signer| {
        for (name, value) in change.as_object().unwrap() {
            if value.is_null() {
                drop(claims.remove(name));
            } else {
                drop(claims.insert(name.clone(), value.clone()));
            }
        }
        right()(id, claims, signer)
    })
}

fn with_head(head: Value, strip: bool) -> Make {
    Box::new(move |_, claims: Map<String, Value>, signer| {
        let token = signer.token(&head, &claims);
        if strip { format!("{}.", token.rsplit_once('.').unwrap().0) } else { token }
    })
}

/// A token by whoever has the public key: the secret of an HMAC, to a verifier that lets the token choose.
fn by_the_public_key() -> Make {
    Box::new(|id, claims, signer| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(&json!({"alg": "HS256", "kid": id})), part(&claims.into()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, signer.jwk(id).to_string().as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, text.as_bytes())))
    })
}

fn changed_afterwards() -> Make {
    Box::new(|id, claims, signer| {
        let token = right()(id, claims.clone(), signer);
        let parts: Vec<_> = token.split('.').collect();
        let mut claims = claims;
        claims.insert("groups".into(), json!(["root"]));
        format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(Value::from(claims).to_string()), parts[2])
    })
}

#[tokio::test]
async fn a_token_that_is_not_to_be_believed_lets_nobody_in() {
    let at = Where::new(Kind::Sqlite);
    let lab = Lab::new(&at).await;
    let now = T0 / 1000;
    let other = Signer::p256();
    let by_another: Make = Box::new(move |id, claims, _| right()(id, claims, &other));
    let tries: Vec<(&str, Make)> = vec![
        ("alg none", with_head(json!({"alg": "none"}), true)),
        ("alg None, signed", with_head(json!({"alg": "None", "kid": "k1"}), false)),
        ("the public key as a secret", by_the_public_key()),
        ("an algorithm that the key is not for", with_head(json!({"alg": "RS256", "kid": "k1"}), false)),
        ("no algorithm", with_head(json!({"kid": "k1"}), false)),
        ("something critical", with_head(json!({"alg": "ES256", "kid": "k1", "crit": ["exp"]}), false)),
        ("an unknown key", with_head(json!({"alg": "ES256", "kid": "k9"}), false)),
        ("another key under the name", by_another),
        ("no signature", with_head(json!({"alg": "ES256", "kid": "k1"}), true)),
        ("changed afterwards", changed_afterwards()),
        ("another issuer", claiming(json!({"iss": "https://evil.example"}))),
        ("another audience", claiming(json!({"aud": "somebody"}))),
        ("no audience", claiming(json!({"aud": null}))),
        ("asked for by another", claiming(json!({"aud": [CLIENT, "other"], "azp": "other"}))),
        ("for several, by whoever", claiming(json!({"aud": [CLIENT, "other"]}))),
        ("expired", claiming(json!({"exp": now - 61}))),
        ("without an end", claiming(json!({"exp": null}))),
        ("an end that is no number", claiming(json!({"exp": "9999999999"}))),
        ("from the future", claiming(json!({"iat": now + 61}))),
        ("not yet", claiming(json!({"nbf": now + 61}))),
        ("another nonce", claiming(json!({"nonce": "x"}))),
        ("no nonce", claiming(json!({"nonce": null}))),
        ("nobody", claiming(json!({"sub": null}))),
        ("an empty somebody", claiming(json!({"sub": ""}))),
        ("no token", Box::new(|_, _, _| "nothing".into())),
        ("five parts", Box::new(|_, _, _| "a.b.c.d.e".into())),
    ];
    for (what, make) in tries {
        lab.provider.make(make);
        let answer = lab.comes(ada(&["dba"])).await;
        assert_eq!((answer.status().as_u16(), session(&answer)), (401, None), "{what}");
        let page = text(answer).await;
        assert!(page.contains("did not work: the token"), "{what}: {page}");
    }
    let log = lab.log();
    assert!(
        log.len() == 26
            && log.iter().all(|(what, who, why)| what == "sign_in_refused" && who == "oidc" && why.is_some())
    );
    let at = Where::new(Kind::Sqlite);
    let lab = Lab::new(&at).await;
    for fine in [
        json!({"exp": now - 59}),
        json!({"iat": now + 59, "nbf": now + 59}),
        json!({"aud": [CLIENT]}),
        json!({"aud": [CLIENT, "other"], "azp": CLIENT}),
    ] {
        lab.provider.make(claiming(fine.clone()));
        assert_eq!(lab.comes(ada(&["dba"])).await.status(), 303, "{fine}");
    }
}

#[tokio::test]
async fn a_sign_in_ends_in_the_browser_that_began_it_and_once() {
    let at = Where::new(Kind::Sqlite);
    let lab = Lab::new(&at).await;
    let code = async |path: &str, cookie: &str| {
        let answer = lab.get_from(Came::Trusted, path, cookie).await;
        assert_eq!(session(&answer).is_some(), answer.status() == 303);
        answer.status().as_u16()
    };
    let (hers, his) = (lab.begin("/nodes").await, lab.begin("/nodes").await);
    let back = lab.provider.signs_in(&hers.url, ada(&["root"]));
    assert_eq!(code(&back, "").await, 400, "no cookie");
    assert_eq!(code(&back, &his.cookie).await, 400, "another browser's, which would be signed in as her");
    let (path, state) = back.split_once("&state=").unwrap();
    assert_eq!(code(path, &hers.cookie).await, 400, "no state");
    assert_eq!(code(&format!("{path}&state={}", "0".repeat(64)), &hers.cookie).await, 400, "another state");
    assert_eq!(code(&format!("{path}&state={state}&state={state}"), &hers.cookie).await, 400, "two of them");
    let (name, sealed) = hers.cookie.split_once('=').unwrap();
    let (body, _) = sealed.split_once('.').unwrap();
    assert_eq!(code(&back, &format!("{name}={body}.{}", "A".repeat(43))).await, 400, "a seal of one's own");
    assert_eq!(code(&back, &hers.cookie).await, 303);
    assert_eq!(code(&back, &hers.cookie).await, 401, "the code is used up");

    // A code that was stolen is worth nothing in another browser's sign-in: the proof does not fit.
    let victim = lab.begin("/nodes").await;
    let stolen = lab.provider.signs_in(&victim.url, ada(&["root"]));
    let stolen = stolen.split_once("&state=").unwrap().0;
    let state = his.url.split_once("&state=").unwrap().1.split('&').next().unwrap();
    assert_eq!(code(&format!("{stolen}&state={state}"), &his.cookie).await, 401);

    let late = lab.begin("/nodes").await;
    let back = lab.provider.signs_in(&late.url, ada(&["root"]));
    lab.now.fetch_add(10 * 60_000, Ordering::SeqCst);
    assert_eq!(code(&back, &late.cookie).await, 400, "too late");
}

#[tokio::test]
async fn what_the_provider_refuses_is_told_and_is_text() {
    let at = Where::new(Kind::Sqlite);
    let lab = Lab::new(&at).await;
    let sent = lab.begin("/nodes").await;
    let state = sent.url.split_once("&state=").unwrap().1.split('&').next().unwrap();
    let of = async |more: &str| {
        lab.get(&format!("/sign-in/provider/back?state={state}{more}"), &sent.cookie).await
    };
    let (code, page) =
        of("&error=access_denied&error_description=%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE").await;
    assert!(code == 401 && page.contains("access_denied") && !page.contains("<script>alert"), "{page}");
    assert!(!page.contains('\u{202e}'), "{page}");
    let (code, page) = of("&code=x&iss=https://evil.example").await;
    assert!(code == 401 && page.contains("another one answers"), "{page}");
    assert_eq!(of("").await.0, 401, "no code");
    let (code, page) = of("&code=x").await;
    assert!(code == 401 && page.contains("invalid_grant") && !page.contains("<b>such"), "{page}");
    assert_eq!(lab.log().len(), 4);

    // Nobody tries for ever; a house of people that come in is none.
    for _ in 0..40 {
        lab.enters(ada(&["dba"])).await;
    }
    for _ in 0..26 {
        of("&code=x").await;
    }
    let answer = lab.get_from(Came::Trusted, "/sign-in/provider/back?state=1", "").await;
    assert!(answer.status() == 429 && answer.headers().contains_key("retry-after"), "{answer:?}");
}

#[tokio::test]
async fn nobody_is_led_off_the_hub() {
    let at = Where::new(Kind::Sqlite);
    let lab = Lab::new(&at).await;
    for evil in [
        "https://evil.example",
        "//evil.example",
        "/%5Cevil.example",
        "/%0d%0aSet-Cookie:a=b",
        &format!("/{}", "a".repeat(2000)),
    ] {
        let sent = lab.begin(evil).await;
        let back = lab.provider.signs_in(&sent.url, ada(&["dba"]));
        let answer = lab.get_from(Came::Trusted, &back, &sent.cookie).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["location"]),
            (303, &"/".parse().unwrap()),
            "{evil}"
        );
        assert!(sent.cookie.len() < 4096);
    }
    // Nor to another provider than the one that is written.
    let at = Where::new(Kind::Sqlite);
    let lab = Lab::new(&at).await;
    lab.provider.calls_itself("https://evil.example");
    assert_eq!(lab.get("/sign-in/provider", "").await.0, 503);
}
