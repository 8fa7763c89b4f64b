//! The vocabulary of evenkeel, and the one loop that speaks it.
//!
//! Nothing here touches the machine: a [`Kind`] looks through a [`Sensor`], decides with a pure `plan`, and an
//! [`Actuator`] carries the plan out, one [`Step`] at a time.

pub mod ageing;
mod arithmetic;
mod converge;
pub mod fake;
mod fault;
mod kind;
mod node;
mod path;
mod plan;
mod postgres;
mod promise;
mod socket;
mod spec;
mod words;

pub use arithmetic::Sum;
pub use converge::{Outcome, converge, converge_goal, foresee};
pub use fault::{Class, Fault, chain};
pub use kind::{
    AnyKind, Complaint, Goal, GoalItem, Interest, Kind, RawItem, ReadError, Section, Severity, Wish, Witness,
};
pub use node::{Actuator, Inside, Measured, MountEntry, Node, Sensor, SysctlKey, SysctlSeen};
pub use path::{Derived, Live, MemoryQuestion, PathEnd, ProbeWish, Protocol};
pub use plan::{Finding, ItemPlan, Plan, Step, SystemdVerb, Task, Verdict};
pub use postgres::{
    PgBackend, PgFacts, PgFileSetting, PgLink, PgOverride, PgQuestion, PgReach, PgReceiver, PgRemote,
    PgReplication, PgRights, PgSecret, PgSender, PgServer, PgSetting, PgTls,
};
pub use promise::{
    Intent, Promise, RFC1122_RETRIES2, Unkeepable, detection_ms, longest_silence_ms, retransmission_model_ms,
    retransmission_worst_ms,
};
pub use socket::{
    BadNet, Holders, Net, STUCK_RETRANSMITS, Side, SocketId, SocketOwner, SocketPowers, SocketQuestion,
    SocketSeen, SocketTimer, SocketTimers, SocketsSeen,
};
pub use spec::{Identity, Item, Origin, Spec};
pub use words::{DurationWord, FileMode, SizeWord, WordError};

pub use evenkeel_report::{Drift, Layer, Mode, Phase, Status};
