//! The kinds of thing evenkeel can keep even: one file each, one row in [`KINDS`].
//!
//! A kind looks through a `Sensor` and decides with a pure `plan`. Nothing here touches the machine, and no kind knows
//! another.

pub mod check;
mod clock;
pub mod file;
pub mod mount;
mod owned;
pub mod pg_service;
mod places;
pub mod postgresql;
pub mod service;
pub mod socket;
pub mod sync;
pub mod sysctl;
mod sysctl_d;

use evenkeel_core::AnyKind;
pub use owned::{MARKER, is_owned};

/// Every kind, in the order they are applied.
pub const KINDS: &[&dyn AnyKind] = &[
    &sysctl::Sysctl,
    &mount::Mount,
    &sync::Sync,
    &pg_service::PgService,
    &file::File,
    &service::Service,
    &postgresql::Postgresql,
    &socket::Socket,
    &check::Check,
];

/// The line that every file evenkeel owns starts with.
#[must_use]
pub fn owned_marker() -> &'static str {
    MARKER
}
