//! Which role each address needs, in one table. An address that is not in it is closed to everybody.

use crate::store::accounts::Role;
use axum::http::Method;

/// What somebody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing of this table's: the address has rules of its own (a certificate, a token), or nothing to hide.
    Own,
    /// To be signed in, as whoever.
    SignedIn,
    /// At least this role. [`Role::Viewer`] is everybody's on a hub that reads openly.
    Role(Role),
    /// Nobody does this here.
    Closed,
}

const READ: Need = Need::Role(Role::Viewer);
const ADMIN: Need = Need::Role(Role::Admin);

/// An address as the router has it, what reading it needs, and what posting to it needs.
pub const NEEDS: &[(&str, Need, Need)] = &[
    // Nodes: a certificate, a token, or a hub that trusts its network.
    ("/v1/events", Need::Closed, Need::Own),
    ("/v1/heartbeat", Need::Closed, Need::Own),
    ("/v1/pre-reboot", Need::Closed, Need::Own),
    ("/v1/steady-state", Need::Closed, Need::Own),
    ("/v1/enroll", Need::Closed, Need::Own),
    ("/v1/renew", Need::Closed, Need::Own),
    // Supervisors and monitoring, which have no account; they name no node.
    ("/healthz", Need::Own, Need::Closed),
    ("/metrics", Need::Own, Need::Closed),
    ("/api/v1/openapi.json", Need::Own, Need::Closed),
    ("/assets/hub.css", Need::Own, Need::Closed),
    ("/assets/hub.js", Need::Own, Need::Closed),
    // Coming and going.
    ("/sign-in", Need::Own, Need::Own),
    ("/sign-in/provider", Need::Own, Need::Closed),
    ("/sign-in/provider/back", Need::Own, Need::Closed),
    ("/sign-out", Need::Closed, Need::SignedIn),
    ("/account", READ, Need::Closed),
    ("/api/v1/account", READ, Need::Closed),
    // Reading.
    ("/", READ, Need::Closed),
    ("/nodes", READ, Need::Closed),
    ("/nodes/{name}", READ, Need::Closed),
    ("/drift", READ, Need::Closed),
    ("/rollout", READ, Need::Closed),
    ("/rollout/{commit}", READ, Need::Closed),
    ("/invariants", READ, Need::Closed),
    ("/incident", READ, Need::Closed),
    ("/wall", READ, Need::Closed),
    ("/live", READ, Need::Closed),
    ("/api/v1/slots", READ, Need::Closed),
    ("/api/v1/invariants", READ, Need::Closed),
    ("/api/v1/silences", READ, Need::Closed),
    ("/api/v1/outbox", READ, Need::Closed),
    ("/api/v1/drift", READ, Need::Closed),
    ("/api/v1/rollout/{commit}", READ, Need::Closed),
    ("/api/v1/nodes", READ, Need::Closed),
    ("/api/v1/nodes/{name}", READ, Need::Closed),
    ("/api/v1/nodes/{name}/timeline", READ, Need::Closed),
    // Administering.
    ("/admin", ADMIN, Need::Closed),
    ("/admin/audit", ADMIN, Need::Closed),
    ("/api/v1/audit", ADMIN, Need::Closed),
];

/// What `method` on the address `path` needs; nothing for an address that is not in the table.
pub(super) fn need(path: &str, method: &Method) -> Option<Need> {
    let (_, read, post) = NEEDS.iter().find(|(own, ..)| *own == path)?;
    Some(match *method {
        Method::GET | Method::HEAD => *read,
        Method::POST => *post,
        _ => Need::Closed,
    })
}
