//! The vocabulary of evenkeel, and the one loop that speaks it.
//!
//! Nothing here touches the machine: a [`Kind`] looks through a [`Sensor`], decides with a pure `plan`, and an
//! [`Actuator`] carries the plan out, one [`Step`] at a time.

pub mod ageing;
mod arithmetic;
mod converge;
pub mod fake;
mod fault;
mod file;
mod folder;
mod kind;
mod mirror;
mod node;
mod path;
mod plan;
mod postgres;
mod probe;
mod promise;
mod socket;
mod spec;
mod unit;
mod window;
mod words;

pub use arithmetic::Sum;
pub use converge::{Outcome, converge, converge_goal, foresee};
pub use fault::{Class, Fault, chain};
pub use file::{FileSeen, Secret};
pub use folder::{COVERED_AT_MOST, Covered, FolderQuestion, FolderSeen, Holder, Inside, WriteTrouble};
pub use kind::{
    AnyKind, Complaint, Goal, GoalItem, Interest, Kind, RawItem, ReadError, Section, Severity, Wish, Witness,
};
pub use mirror::{Compared, DeletionLimit, MirrorJob, MirrorQuestion, MirrorSeen, grouped};
pub use node::{Actuator, Measured, MountEntry, Node, Sensor, SysctlKey, SysctlSeen};
pub use path::{Derived, Live, MemoryQuestion, PathEnd, ProbeWish, Protocol};
pub use plan::{Finding, ItemPlan, Plan, Step, SystemdVerb, Task, Verdict};
pub use postgres::{
    PgBackend, PgFacts, PgFileSetting, PgLink, PgOverride, PgQuestion, PgReach, PgReceiver, PgRemote,
    PgReplication, PgRights, PgSecret, PgSender, PgServer, PgSetting, PgTls,
};
pub use probe::{Probe, Probed, Probing};
pub use promise::{
    Intent, Promise, RFC1122_RETRIES2, Unkeepable, detection_ms, longest_silence_ms, retransmission_model_ms,
    retransmission_worst_ms,
};
pub use socket::{
    BadNet, Holders, Net, STUCK_RETRANSMITS, Side, SocketId, SocketOwner, SocketPowers, SocketQuestion,
    SocketSeen, SocketTimer, SocketTimers, SocketsSeen,
};
pub use spec::{Identity, Item, Origin, Spec};
pub use unit::{BRIEF_S, HELD_OFF_FOR_S, SETTLED_AFTER_S, UnitSeen};
pub use window::{BadWindow, Window};
pub use words::{DurationWord, FileMode, SizeWord, WordError};

pub use evenkeel_report::{Drift, Layer, Mode, Phase, Status};
