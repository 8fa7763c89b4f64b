//! Many simulated evenkeel agents in one process, to load and fault-test a hub over its real wire.
//!
//! They depend on the report alone: not on the agent, whose behaviour they repeat in small, nor on the hub, which they
//! only know by its addresses.

pub mod agent;
pub mod check;
pub mod drive;
pub mod fleet;
pub mod flood;
pub mod identity;
pub mod link;
pub mod mouth;
mod parts;
pub mod tally;
pub mod usage;
