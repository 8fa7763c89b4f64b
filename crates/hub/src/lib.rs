//! evenkeel's central endpoint: it takes what agents report, keeps it, and tells people how the fleet stands.
//!
//! It opens no connection to a node, and its answers carry no command. Whom it tells is in its own configuration.
//!
//! ```text
//! POST /v1/events ─► wire (parse) ─► writer (one thread, one transaction for many requests) ─► merge ─► store
//!                                        └─► roll (a line for each node, in memory)
//! GET  /api/v1/…, / ─► roll, view (readers beside the writer) ─► liveness (derived on reading) ─► http, pages
//! merge ─► news (same transaction) ─► tell (sort, group, send until taken) ─► webhooks, Slack, Alertmanager, forges
//! ```

pub mod accounts;
pub mod admin;
pub mod admissions;
pub mod ca;
pub mod config;
pub mod door;
pub mod drifts;
pub mod gauges;
pub mod http;
pub mod invariants;
pub mod liveness;
mod look;
pub mod merge;
pub mod metrics;
pub mod oidc;
mod pages;
pub mod past;
pub mod quota;
pub mod roll;
pub mod rollout;
mod serve;
pub mod slots;
pub mod spans;
pub mod store;
pub mod tell;
pub mod unpack;
pub mod who;
pub mod wire;
pub mod writer;

pub use serve::{
    ServeError, Served, accounts_of, open, registry, serve, slots_of, telling, view_of, wall_clock,
};
