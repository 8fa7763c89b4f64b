//! The vocabulary of evenkeel, and the one loop that speaks it.
//!
//! Nothing here touches the machine: a [`Kind`] looks through a [`Sensor`], decides with a pure `plan`, and an
//! [`Actuator`] carries the plan out, one [`Step`] at a time.

pub mod ageing;
mod converge;
pub mod fake;
mod fault;
mod kind;
mod node;
mod plan;
mod spec;
mod words;

pub use converge::{Outcome, converge, converge_goal, foresee};
pub use fault::{Class, Fault, chain};
pub use kind::{
    AnyKind, Complaint, Goal, GoalItem, Interest, Kind, RawItem, ReadError, Section, Severity, Wish,
};
pub use node::{
    Actuator, Inside, MountEntry, Node, PgFacts, PgFileSetting, PgOverride, PgQuestion, PgServer, PgSetting,
    Sensor, SysctlKey, SysctlSeen,
};
pub use plan::{Finding, ItemPlan, Plan, Step, SystemdVerb, Task, Verdict};
pub use spec::{Identity, Item, Origin, Spec};
pub use words::{DurationWord, FileMode, SizeWord, WordError};

pub use evenkeel_report::{Drift, Layer, Mode, Phase, Status};
