//! One GET: no redirect is followed, no proxy taken from the environment, nothing unpacked, and little of the body read.

use evenkeel_core::{Probing, chain};

/// How much of a body is looked through.
const LONGEST: usize = 64 << 10;

pub(super) async fn get(url: &str, contains: Option<&str>) -> Probing {
    asked(url, contains).await.unwrap_or_else(|error| Probing::Failed(told(&error)))
}

async fn asked(url: &str, contains: Option<&str>) -> Result<Probing, reqwest::Error> {
    // Installed once for the process; a second time changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(0)
        .build()?;
    let mut answer = client.get(url).send().await?;
    let status = answer.status().as_u16();
    let Some(text) = contains else { return Ok(Probing::Http { status, contains: true }) };
    let mut body = vec![];
    while body.len() < LONGEST {
        match answer.chunk().await? {
            Some(chunk) => body.extend_from_slice(&chunk),
            None => break,
        }
    }
    body.truncate(LONGEST);
    let contains = body.windows(text.len()).any(|part| part == text.as_bytes());
    Ok(Probing::Http { status, contains })
}

/// The cause alone: whoever reads it knows the URL, and what was done with it.
fn told(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(next) = deepest.source() {
        deepest = next;
        if let Some(io) = deepest.downcast_ref::<std::io::Error>() {
            return super::tcp::told(io);
        }
    }
    chain(deepest)
}
