//! Signing in with an account of somebody else's: OpenID Connect 1.0, the authorization code flow with PKCE (S256).
//!
//! The provider is the one that `hub.yaml` names. It is asked when somebody signs in and never when the hub starts, so
//! that a provider that is away keeps nobody with a local account out. What it says is believed only as a signed token
//! for this hub, for this browser and for now (`token`); what somebody may do is the mapping's word, not the token's.

pub mod config;
mod keys;
mod pending;
mod provider;
pub mod token;

pub use config::Oidc;
pub(crate) use provider::{Back, Vouched};
pub use provider::{OidcError, Provider};
