//! What systemd says of a unit.

/// A unit as systemd knows it, from `systemctl show`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "what systemd tells, as it tells it")]
pub struct UnitSeen {
    /// `loaded`, `not-found`, `bad-setting`, `error`, `masked`.
    pub load: String,
    /// `active`, `reloading`, `inactive`, `failed`, `activating`, `deactivating`.
    pub active: String,
    /// In the unit's own words: `running`, `exited`, `auto-restart`, `mounted`, `dead`.
    pub sub: String,
    /// `enabled`, `disabled`, `static`, `masked`, `generated`, …; empty where there is no file.
    pub file_state: String,
    /// The unit's file; empty where systemd made it up itself.
    pub fragment: String,
    /// What it was generated from, such as `/etc/fstab`; empty otherwise.
    pub source: String,
    /// The files on disk are newer than what systemd has read.
    pub need_daemon_reload: bool,
    /// Whether it can be reloaded.
    pub can_reload: bool,
    /// How it ended last: `success`, `exit-code`, `signal`, `timeout`, `start-limit-hit`, …
    pub result: String,
    /// How often systemd has restarted it by itself.
    pub restarts: u32,
    /// Whether it has been active for so short a time that it may be flapping, [`SETTLED_AFTER_S`].
    pub fresh: bool,
    /// When it became active last, in microseconds since boot; 0 where it never was.
    pub since_us: u64,
    /// Whether it ended, not long ago, shortly after it was started: starting it again at once would only be a storm.
    pub hold_off: bool,
    /// The last lines of its journal, oldest first, where it failed or is flapping; without times.
    pub last_lines: Vec<String>,
}

/// How long a unit has to stay active to count as settled, in seconds.
pub const SETTLED_AFTER_S: u64 = 120;

/// How long a unit that ended shortly after its start is left alone before it is started again, in seconds.
pub const HELD_OFF_FOR_S: u64 = 50;

/// How long a unit has to have been active for its end to be no failed start, in seconds.
pub const BRIEF_S: u64 = 20;
