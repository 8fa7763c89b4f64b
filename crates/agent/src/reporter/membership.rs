//! Being known to the hub: enrolling with a token, renewing, and doing so again when the hub does not know this node.
//!
//! Runs apart from what is told: reports wait in the spool meanwhile, and nothing that is enforced waits for any of it. The
//! clock of this node decides when to ask, never whether to enforce.

use super::http::{self, Given, Link};
use super::identity::{Identity, Pending};
use super::{Shared, Shut};
use crate::config::{Config, Enroll};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// The longest time without a look at the clock, which may be set meanwhile.
const LOOK: Duration = Duration::from_hours(1);
/// The shortest pause after the hub said no: that is a person's business.
const SLOWLY: Duration = Duration::from_mins(1);

/// Why there is no certificate yet, or no new one.
struct Setback {
    why: String,
    after: Option<Duration>,
    shut: Option<Shut>,
}

impl Setback {
    fn of(error: &dyn std::error::Error) -> Self {
        let why = crate::log::plain(&evenkeel_core::chain(error));
        Self { why, after: None, shut: Some(Shut::NotEnrolled) }
    }
}

impl Shared {
    /// Keep this node's certificate good until the task is dropped.
    pub(super) async fn stay_known(&self) {
        let mut config = self.config.clone();
        let mut failures = 0;
        loop {
            let pause = match self.membership().await {
                Ok(pause) => {
                    failures = 0;
                    pause
                }
                Err(setback) => {
                    failures += 1;
                    self.tell_setback(&setback);
                    let asked = setback.shut.map(|_| setback.after.unwrap_or(SLOWLY)).or(setback.after);
                    http::pause(failures, asked, fastrand::f64())
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.doubted.notified() => {
                    // Whoever doubts has waited before; this keeps a hub that always does from being asked all the time.
                    sleep(http::pause(failures.max(1), None, fastrand::f64())).await;
                }
                changed = config.changed() => if changed.is_err() { return },
            }
        }
    }

    fn tell_setback(&self, setback: &Setback) {
        let Setback { why, shut, .. } = setback;
        tracing::warn!("no certificate from the hub: {why}");
        // While the one that this node has is good, the link itself says how it stands.
        if self.identity.borrow().is_none() {
            self.show(|hub| (hub.trouble, hub.shut) = (Some(format!("not enrolled: {why}")), *shut));
        }
    }

    /// Look at the certificate; how long it may be left alone.
    async fn membership(&self) -> Result<Duration, Setback> {
        let config = self.config();
        let known = self.identity.borrow().clone();
        let secure = config.hub.as_ref().is_some_and(|hub| hub.starts_with("https://"));
        if !secure || (known.is_none() && config.enroll.is_none()) {
            return Ok(LOOK);
        }
        let now = (self.wall)().unix_ms();
        let good = known.filter(|known| known.name == config.node && known.until > now);
        let doubted = *self.doubt.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match (good, &config.enroll) {
            (Some(known), Some(enroll)) if doubted == Some(known.print) => {
                self.enrol(&config, enroll).await?;
            }
            (Some(known), _) if known.renew_at() > now => {
                let left = u64::try_from(known.renew_at() - now).unwrap_or_default();
                return Ok(Duration::from_millis(left).min(LOOK));
            }
            (Some(_), _) => self.renew(&config).await?,
            (None, Some(enroll)) => self.enrol(&config, enroll).await?,
            (None, None) => {
                let why =
                    "its certificate is over or for another name, and no token is configured".to_owned();
                return Err(Setback { why, after: None, shut: Some(Shut::NotEnrolled) });
            }
        }
        Ok(Duration::ZERO)
    }

    async fn enrol(&self, config: &Arc<Config>, enroll: &Enroll) -> Result<(), Setback> {
        let (enroll, state) = (enroll.clone(), config.state_dir.clone());
        let made = tokio::task::spawn_blocking(move || {
            let token = match &enroll {
                Enroll::TokenFile(path) => evenkeel_host::membership::token(path)
                    .map_err(|error| format!("the token in {}: {error}", path.display())),
                Enroll::Credential(name) => evenkeel_host::membership::token_credential(name)
                    .map_err(|error| format!("the token in the credential {name}: {error}")),
            };
            token.map(|token| (token, Pending::take(&state)))
        });
        let made = made.await.map_err(|error| Setback::of(&error))?;
        let no_token = |why| Setback { why, after: None, shut: Some(Shut::NotEnrolled) };
        let (token, pending) = made.map_err(no_token)?;
        let pending = pending.map_err(|error| Setback::of(&error))?;
        let csr = pending.request().map_err(|error| Setback::of(&error))?;
        let body = serde_json::json!({"token": token, "node": config.node, "csr": csr});
        let link = fresh_link(config, None)?;
        let given = link.ask("/v1/enroll", &body).await;
        self.receive(given, pending, config).await?;
        tracing::info!("the hub let this node in");
        Ok(())
    }

    async fn renew(&self, config: &Arc<Config>) -> Result<(), Setback> {
        let state = config.state_dir.clone();
        let pending = tokio::task::spawn_blocking(move || Pending::take(&state)).await;
        let pending = pending.map_err(|error| Setback::of(&error))?.map_err(|error| Setback::of(&error))?;
        let csr = pending.request().map_err(|error| Setback::of(&error))?;
        let known = self.identity.borrow().clone();
        let link = fresh_link(config, known.as_deref())?;
        let given = link.ask("/v1/renew", &serde_json::json!({"csr": csr})).await;
        self.receive(given, pending, config).await?;
        tracing::info!("the hub renewed this node's certificate");
        Ok(())
    }

    async fn receive(&self, given: Given, pending: Pending, config: &Config) -> Result<(), Setback> {
        let pem = match given {
            Given::Certificate(pem) => pem,
            Given::Refused { why, after, shut } => return Err(Setback { why, after, shut }),
        };
        let (node, state) = (config.node.clone(), config.state_dir.clone());
        let kept = tokio::task::spawn_blocking(move || pending.keep(&pem, &node, &state)).await;
        let kept = kept.map_err(|error| Setback::of(&error))?.map_err(|error| Setback::of(&error))?;
        self.show(|hub| (hub.shut, hub.trouble) = (None, None));
        self.identity.send_replace(Some(Arc::new(kept)));
        Ok(())
    }
}

fn fresh_link(config: &Config, known: Option<&Identity>) -> Result<Link, Setback> {
    let hub = config.hub.as_deref().unwrap_or_default();
    Link::new(hub, config, known).map_err(|error| Setback::of(&error))
}
