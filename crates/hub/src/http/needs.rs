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

/// What is done at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// GET and HEAD.
    Read,
    /// POST.
    Post,
    /// DELETE.
    Delete,
}

use Way::{Delete, Post, Read};

const OWN: Need = Need::Own;
const SIGNED_IN: Need = Need::SignedIn;
const READ: Need = Need::Role(Role::Viewer);
/// The tier is looked at where the act is done.
const ACT: Need = Need::Role(Role::Operator);
const ADMIN: Need = Need::Role(Role::Admin);

/// An address as the router has it, and what each way of asking it needs; a way that is not listed is closed.
pub const NEEDS: &[(&str, &[(Way, Need)])] = &[
    // Nodes: a certificate, a token, or a hub that trusts its network.
    ("/v1/events", &[(Post, OWN)]),
    ("/v1/heartbeat", &[(Post, OWN)]),
    ("/v1/pre-reboot", &[(Post, OWN)]),
    ("/v1/steady-state", &[(Post, OWN)]),
    ("/v1/enroll", &[(Post, OWN)]),
    ("/v1/renew", &[(Post, OWN)]),
    // Supervisors and monitoring, which have no account; they name no node.
    ("/healthz", &[(Read, OWN)]),
    ("/metrics", &[(Read, OWN)]),
    ("/api/v1/openapi.json", &[(Read, OWN)]),
    ("/assets/hub.css", &[(Read, OWN)]),
    ("/assets/hub.js", &[(Read, OWN)]),
    // Coming and going.
    ("/sign-in", &[(Read, OWN), (Post, OWN)]),
    ("/sign-in/provider", &[(Read, OWN)]),
    ("/sign-in/provider/back", &[(Read, OWN)]),
    ("/sign-out", &[(Post, SIGNED_IN)]),
    ("/account", &[(Read, READ)]),
    ("/api/v1/account", &[(Read, READ)]),
    // Reading.
    ("/", &[(Read, READ)]),
    ("/nodes", &[(Read, READ)]),
    ("/nodes/{name}", &[(Read, READ)]),
    ("/drift", &[(Read, READ)]),
    ("/rollout", &[(Read, READ)]),
    ("/rollout/{commit}", &[(Read, READ)]),
    ("/invariants", &[(Read, READ)]),
    ("/incident", &[(Read, READ)]),
    ("/wall", &[(Read, READ)]),
    ("/live", &[(Read, READ)]),
    ("/api/v1/slots", &[(Read, READ)]),
    ("/api/v1/invariants", &[(Read, READ)]),
    ("/api/v1/silences", &[(Read, READ), (Post, ACT)]),
    ("/api/v1/silences/{id}", &[(Delete, ACT)]),
    ("/api/v1/outbox", &[(Read, READ)]),
    ("/api/v1/fleet", &[(Read, READ)]),
    ("/api/v1/drift", &[(Read, READ)]),
    ("/api/v1/rollout/{commit}", &[(Read, READ)]),
    ("/api/v1/nodes", &[(Read, READ)]),
    ("/api/v1/nodes/{name}", &[(Read, READ), (Delete, ADMIN)]),
    ("/api/v1/nodes/{name}/timeline", &[(Read, READ)]),
    // Acting on what people are told, and on slots.
    ("/silences", &[(Read, READ), (Post, ACT)]),
    ("/silences/end", &[(Post, ACT)]),
    ("/slots/free", &[(Post, ACT)]),
    ("/api/v1/slots/{group}/{id}", &[(Delete, ACT)]),
    // Administering.
    ("/admin/tokens", &[(Post, ADMIN)]),
    ("/admin/tokens/revoke", &[(Post, ADMIN)]),
    ("/admin/nodes", &[(Post, ADMIN)]),
    ("/api/v1/tokens", &[(Read, ADMIN), (Post, ADMIN)]),
    ("/api/v1/tokens/{id}", &[(Delete, ADMIN)]),
    ("/api/v1/members", &[(Read, ADMIN)]),
    ("/api/v1/nodes/{name}/ban", &[(Post, ADMIN)]),
    ("/api/v1/nodes/{name}/unban", &[(Post, ADMIN)]),
    ("/admin", &[(Read, ADMIN)]),
    ("/admin/audit", &[(Read, ADMIN)]),
    ("/api/v1/audit", &[(Read, ADMIN)]),
];

/// What `way` at an address with these ways needs.
#[must_use]
pub fn needed(ways: &[(Way, Need)], way: Way) -> Need {
    ways.iter().find(|(own, _)| *own == way).map_or(Need::Closed, |(_, need)| *need)
}

/// What `method` on the address `path` needs; nothing for an address that is not in the table.
pub(super) fn need(path: &str, method: &Method) -> Option<Need> {
    let (_, ways) = NEEDS.iter().find(|(own, _)| *own == path)?;
    let way = match *method {
        Method::GET | Method::HEAD => Read,
        Method::POST => Post,
        Method::DELETE => Delete,
        _ => return Some(Need::Closed),
    };
    Some(needed(ways, way))
}
