//! A message as a CloudEvent, signed as <https://www.standardwebhooks.com> has it: HMAC-SHA256 over `id.timestamp.body`
//! in `webhook-signature`, so that a receiver knows who sent it and when.

use super::route::Bundle;
use super::words;
use crate::store::telling::Message;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evenkeel_report::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

/// The type of the event.
pub(super) const TOLD_V1: &str = "dev.evenkeel.told.v1";

/// The key in the text of a secret: `whsec_` and base64 of 24 to 64 bytes.
pub(super) fn key(text: &str) -> Result<hmac::Key, String> {
    let bad = || "the secret is none: write `whsec_` and base64 of 24 to 64 random bytes".to_owned();
    let bytes = STANDARD.decode(text.strip_prefix("whsec_").ok_or_else(bad)?).map_err(|_| bad())?;
    if !(24..=64).contains(&bytes.len()) {
        return Err(bad());
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes))
}

/// The value of `webhook-signature`.
pub(super) fn signature(key: &hmac::Key, id: &str, seconds: i64, body: &str) -> String {
    let tag = hmac::sign(key, format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag.as_ref()))
}

/// The event. Its id is the message's: the same at every try.
pub(super) fn event(message: &Message, bundle: &Bundle, public_url: Option<&str>) -> Value {
    let time = Timestamp::from_unix_ms(message.first);
    let nodes: Vec<Value> = bundle
        .nodes
        .iter()
        .map(|news| {
            json!({"node": news.node, "source": news.source, "tier": news.tier, "reason": news.reason,
                   "drift": news.drift, "declared_at": news.declared_at, "commit": news.commit,
                   "since": Timestamp::from_unix_ms(news.since), "url": words::link(public_url, news)})
        })
        .collect();
    json!({
        "specversion": "1.0", "type": TOLD_V1, "source": "urn:evenkeel:hub", "id": message.id, "time": time,
        "datacontenttype": "application/json",
        "data": {"topic": bundle.topic, "open": bundle.open, "severity": bundle.severity, "item": bundle.item,
                 "status": bundle.status, "count": bundle.count, "summary": words::summary(bundle), "nodes": nodes},
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{key, signature};

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_what_the_libraries_of_the_specification_make() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let made = signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_that_is_none_says_what_to_write() {
        for bad in ["", "secret", "whsec_", "whsec_AAAA", "whsec_not base64"] {
            assert!(key(bad).unwrap_err().contains("whsec_"), "{bad}");
        }
    }
}
