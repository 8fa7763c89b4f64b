//! The parameters that a spec may set: their types, units and ranges, and why others are refused.
//!
//! A list of what is allowed, because a parameter that names a command, a library or a file would let a spec run code
//! as the server's user. Ranges are those of PostgreSQL 15, but for the keepalives, which end where `setsockopt(2)`
//! does: the server takes more, says nothing, and leaves the socket as it was. A test compares the table with a real
//! server's. When a change needs a restart is only a hint here; the running server is asked.

use Context::{Reload, Restart, User};
use Kind::{Bool, Enum, Int, Real, Text};

/// What a parameter's value is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// `on` or `off`.
    Bool,
    /// A whole number of a unit, and the least and the most of it.
    Int(&'static str, i64, i64),
    /// A number of a unit, and the least and the most of it.
    Real(&'static str, f64, f64),
    /// One of these words.
    Enum(&'static [&'static str]),
    /// Any text.
    Text,
}

/// When a change takes effect, as the documentation says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// At a reload, and for a role or a session alone.
    User,
    /// At a reload.
    Reload,
    /// At a restart.
    Restart,
}

/// One parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) context: Context,
    /// The first major version that knows it; 0 for all that are about.
    pub(super) since: u32,
}

/// The parameter of this name, if a spec may set it.
pub(super) fn find(name: &str) -> Option<Parameter> {
    let at = TABLE.binary_search_by(|row| row.0.cmp(name)).ok()?;
    let (name, kind, context, since) = TABLE[at];
    Some(Parameter { name, kind, context, since })
}

/// Why a parameter that is not in the table may not be set, and what to do.
pub(super) fn refusal(name: &str) -> (String, String) {
    const ENDS: &[&str] = &[
        "_command",
        "_library",
        "_libraries",
        "_file",
        "keyfile",
        "_directory",
        "_directories",
        "_path",
        "_dir",
        "_provider",
    ];
    const NAMES: &[&str] =
        &["default_tablespace", "log_filename", "primary_conninfo", "search_path", "temp_tablespaces"];
    let lower = name.to_lowercase();
    if ENDS.iter().any(|end| lower.ends_with(end)) || NAMES.contains(&lower.as_str()) {
        let why = format!("{name} names a command, a library or a file, and a spec can choose none of them");
        return (why, "set it by hand in a file of the cluster's own".to_owned());
    }
    let near = TABLE.iter().map(|row| (distance(row.0, &lower), row.0)).min().filter(|(far, _)| *far < 4);
    let help = match near {
        Some((_, near)) => format!("did you mean {near}?"),
        None => "it is not among those that are known to be safe to set".to_owned(),
    };
    (format!("`{}` is no parameter that a spec may set", name.escape_default()), help)
}

/// How many letters differ (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut above_left = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let here = (above_left + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            above_left = std::mem::replace(&mut row[j + 1], here);
        }
    }
    row[b.chars().count()]
}

type Row = (&'static str, Kind, Context, u32);

/// In the order of their names, all of which are in lower case in `pg_settings` too (`DateStyle` is not).
#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("array_nulls", Bool, User, 0),
    ("authentication_timeout", Int("s", 1, 600), Reload, 0),
    ("autovacuum", Bool, Reload, 0),
    ("autovacuum_analyze_scale_factor", Real("", 0.0, 100.0), Reload, 0),
    ("autovacuum_analyze_threshold", Int("", 0, 2_147_483_647), Reload, 0),
    ("autovacuum_freeze_max_age", Int("", 100_000, 2_000_000_000), Restart, 0),
    ("autovacuum_max_workers", Int("", 1, 262_143), Restart, 0),
    ("autovacuum_multixact_freeze_max_age", Int("", 10000, 2_000_000_000), Restart, 0),
    ("autovacuum_naptime", Int("s", 1, 2_147_483), Reload, 0),
    ("autovacuum_vacuum_cost_delay", Real("ms", -1.0, 100.0), Reload, 0),
    ("autovacuum_vacuum_cost_limit", Int("", -1, 10000), Reload, 0),
    ("autovacuum_vacuum_insert_scale_factor", Real("", 0.0, 100.0), Reload, 13),
    ("autovacuum_vacuum_insert_threshold", Int("", -1, 2_147_483_647), Reload, 13),
    ("autovacuum_vacuum_scale_factor", Real("", 0.0, 100.0), Reload, 0),
    ("autovacuum_vacuum_threshold", Int("", 0, 2_147_483_647), Reload, 0),
    ("autovacuum_work_mem", Int("kB", -1, 2_147_483_647), Reload, 0),
    ("backend_flush_after", Int("8kB", 0, 256), User, 0),
    ("bgwriter_delay", Int("ms", 10, 10000), Reload, 0),
    ("bgwriter_flush_after", Int("8kB", 0, 256), Reload, 0),
    ("bgwriter_lru_maxpages", Int("", 0, 1_073_741_823), Reload, 0),
    ("bgwriter_lru_multiplier", Real("", 0.0, 10.0), Reload, 0),
    ("bytea_output", Enum(&["escape", "hex"]), User, 0),
    ("checkpoint_completion_target", Real("", 0.0, 1.0), Reload, 0),
    ("checkpoint_flush_after", Int("8kB", 0, 256), Reload, 0),
    ("checkpoint_timeout", Int("s", 30, 86400), Reload, 0),
    ("checkpoint_warning", Int("s", 0, 2_147_483_647), Reload, 0),
    ("client_connection_check_interval", Int("ms", 0, 2_147_483_647), User, 14),
    ("client_min_messages", Enum(&["debug5", "debug4", "debug3", "debug2", "debug1", "log", "notice", "warning", "error"]), User, 0),
    ("cluster_name", Text, Restart, 0),
    ("commit_delay", Int("", 0, 100_000), User, 0),
    ("commit_siblings", Int("", 0, 1000), User, 0),
    ("constraint_exclusion", Enum(&["partition", "on", "off"]), User, 0),
    ("cpu_index_tuple_cost", Real("", 0.0, f64::MAX), User, 0),
    ("cpu_operator_cost", Real("", 0.0, f64::MAX), User, 0),
    ("cpu_tuple_cost", Real("", 0.0, f64::MAX), User, 0),
    ("cursor_tuple_fraction", Real("", 0.0, 1.0), User, 0),
    ("deadlock_timeout", Int("ms", 1, 2_147_483_647), User, 0),
    ("default_statistics_target", Int("", 1, 10000), User, 0),
    ("default_transaction_deferrable", Bool, User, 0),
    ("default_transaction_isolation", Enum(&["serializable", "repeatable read", "read committed", "read uncommitted"]), User, 0),
    ("default_transaction_read_only", Bool, User, 0),
    ("effective_cache_size", Int("8kB", 1, 2_147_483_647), User, 0),
    ("effective_io_concurrency", Int("", 0, 1000), User, 0),
    ("enable_async_append", Bool, User, 14),
    ("enable_bitmapscan", Bool, User, 0),
    ("enable_gathermerge", Bool, User, 0),
    ("enable_hashagg", Bool, User, 0),
    ("enable_hashjoin", Bool, User, 0),
    ("enable_incremental_sort", Bool, User, 13),
    ("enable_indexonlyscan", Bool, User, 0),
    ("enable_indexscan", Bool, User, 0),
    ("enable_material", Bool, User, 0),
    ("enable_memoize", Bool, User, 14),
    ("enable_mergejoin", Bool, User, 0),
    ("enable_nestloop", Bool, User, 0),
    ("enable_parallel_append", Bool, User, 0),
    ("enable_parallel_hash", Bool, User, 0),
    ("enable_partition_pruning", Bool, User, 0),
    ("enable_partitionwise_aggregate", Bool, User, 0),
    ("enable_partitionwise_join", Bool, User, 0),
    ("enable_seqscan", Bool, User, 0),
    ("enable_sort", Bool, User, 0),
    ("enable_tidscan", Bool, User, 0),
    ("extra_float_digits", Int("", -15, 3), User, 0),
    ("from_collapse_limit", Int("", 1, 2_147_483_647), User, 0),
    ("geqo", Bool, User, 0),
    ("geqo_effort", Int("", 1, 10), User, 0),
    ("geqo_threshold", Int("", 2, 2_147_483_647), User, 0),
    ("gin_fuzzy_search_limit", Int("", 0, 2_147_483_647), User, 0),
    ("gin_pending_list_limit", Int("kB", 64, 2_147_483_647), User, 0),
    ("hash_mem_multiplier", Real("", 1.0, 1000.0), User, 13),
    ("hot_standby", Bool, Restart, 0),
    ("hot_standby_feedback", Bool, Reload, 0),
    ("huge_pages", Enum(&["off", "on", "try"]), Restart, 0),
    ("idle_in_transaction_session_timeout", Int("ms", 0, 2_147_483_647), User, 0),
    ("idle_session_timeout", Int("ms", 0, 2_147_483_647), User, 14),
    ("jit", Bool, User, 0),
    ("jit_above_cost", Real("", -1.0, f64::MAX), User, 0),
    ("jit_inline_above_cost", Real("", -1.0, f64::MAX), User, 0),
    ("jit_optimize_above_cost", Real("", -1.0, f64::MAX), User, 0),
    ("join_collapse_limit", Int("", 1, 2_147_483_647), User, 0),
    ("listen_addresses", Text, Restart, 0),
    ("lock_timeout", Int("ms", 0, 2_147_483_647), User, 0),
    ("log_autovacuum_min_duration", Int("ms", -1, 2_147_483_647), Reload, 0),
    ("log_checkpoints", Bool, Reload, 0),
    ("log_connections", Bool, Reload, 0),
    ("log_disconnections", Bool, Reload, 0),
    ("log_duration", Bool, User, 0),
    ("log_error_verbosity", Enum(&["terse", "default", "verbose"]), User, 0),
    ("log_hostname", Bool, Reload, 0),
    ("log_line_prefix", Text, Reload, 0),
    ("log_lock_waits", Bool, User, 0),
    ("log_min_duration_sample", Int("ms", -1, 2_147_483_647), User, 13),
    ("log_min_duration_statement", Int("ms", -1, 2_147_483_647), User, 0),
    ("log_min_error_statement", Enum(&["debug5", "debug4", "debug3", "debug2", "debug1", "info", "notice", "warning", "error", "log", "fatal", "panic"]), User, 0),
    ("log_min_messages", Enum(&["debug5", "debug4", "debug3", "debug2", "debug1", "info", "notice", "warning", "error", "log", "fatal", "panic"]), User, 0),
    ("log_parameter_max_length", Int("B", -1, 1_073_741_823), User, 13),
    ("log_recovery_conflict_waits", Bool, Reload, 14),
    ("log_replication_commands", Bool, User, 0),
    ("log_rotation_age", Int("min", 0, 35_791_394), Reload, 0),
    ("log_rotation_size", Int("kB", 0, 2_097_151), Reload, 0),
    ("log_startup_progress_interval", Int("ms", 0, 2_147_483_647), Reload, 15),
    ("log_statement", Enum(&["none", "ddl", "mod", "all"]), User, 0),
    ("log_statement_sample_rate", Real("", 0.0, 1.0), User, 13),
    ("log_temp_files", Int("kB", -1, 2_147_483_647), User, 0),
    ("log_timezone", Text, Reload, 0),
    ("log_transaction_sample_rate", Real("", 0.0, 1.0), User, 0),
    ("log_truncate_on_rotation", Bool, Reload, 0),
    ("logging_collector", Bool, Restart, 0),
    ("logical_decoding_work_mem", Int("kB", 64, 2_147_483_647), User, 13),
    ("maintenance_io_concurrency", Int("", 0, 1000), User, 13),
    ("maintenance_work_mem", Int("kB", 1024, 2_147_483_647), User, 0),
    ("max_connections", Int("", 1, 262_143), Restart, 0),
    ("max_files_per_process", Int("", 64, 2_147_483_647), Restart, 0),
    ("max_locks_per_transaction", Int("", 10, 2_147_483_647), Restart, 0),
    ("max_logical_replication_workers", Int("", 0, 262_143), Restart, 0),
    ("max_parallel_maintenance_workers", Int("", 0, 1024), User, 0),
    ("max_parallel_workers", Int("", 0, 1024), User, 0),
    ("max_parallel_workers_per_gather", Int("", 0, 1024), User, 0),
    ("max_pred_locks_per_transaction", Int("", 10, 2_147_483_647), Restart, 0),
    ("max_prepared_transactions", Int("", 0, 262_143), Restart, 0),
    ("max_replication_slots", Int("", 0, 262_143), Restart, 0),
    ("max_slot_wal_keep_size", Int("MB", -1, 2_147_483_647), Reload, 13),
    ("max_stack_depth", Int("kB", 100, 2_147_483_647), User, 0),
    ("max_standby_archive_delay", Int("ms", -1, 2_147_483_647), Reload, 0),
    ("max_standby_streaming_delay", Int("ms", -1, 2_147_483_647), Reload, 0),
    ("max_sync_workers_per_subscription", Int("", 0, 262_143), Reload, 0),
    ("max_wal_senders", Int("", 0, 262_143), Restart, 0),
    ("max_wal_size", Int("MB", 2, 2_147_483_647), Reload, 0),
    ("max_worker_processes", Int("", 0, 262_143), Restart, 0),
    ("min_parallel_index_scan_size", Int("8kB", 0, 715_827_882), User, 0),
    ("min_parallel_table_scan_size", Int("8kB", 0, 715_827_882), User, 0),
    ("min_wal_size", Int("MB", 2, 2_147_483_647), Reload, 0),
    ("parallel_leader_participation", Bool, User, 0),
    ("parallel_setup_cost", Real("", 0.0, f64::MAX), User, 0),
    ("parallel_tuple_cost", Real("", 0.0, f64::MAX), User, 0),
    ("password_encryption", Enum(&["md5", "scram-sha-256"]), User, 0),
    ("plan_cache_mode", Enum(&["auto", "force_generic_plan", "force_custom_plan"]), User, 12),
    ("port", Int("", 1, 65535), Restart, 0),
    ("random_page_cost", Real("", 0.0, f64::MAX), User, 0),
    ("recovery_min_apply_delay", Int("ms", 0, 2_147_483_647), Reload, 0),
    ("seq_page_cost", Real("", 0.0, f64::MAX), User, 0),
    ("shared_buffers", Int("8kB", 16, 1_073_741_823), Restart, 0),
    ("standard_conforming_strings", Bool, User, 0),
    ("statement_timeout", Int("ms", 0, 2_147_483_647), User, 0),
    ("superuser_reserved_connections", Int("", 0, 262_143), Restart, 0),
    ("synchronous_commit", Enum(&["local", "remote_write", "remote_apply", "on", "off"]), User, 0),
    ("tcp_keepalives_count", Int("", 0, 127), User, 0),
    ("tcp_keepalives_idle", Int("s", 0, 32767), User, 0),
    ("tcp_keepalives_interval", Int("s", 0, 32767), User, 0),
    ("tcp_user_timeout", Int("ms", 0, 2_147_483_647), User, 12),
    ("temp_buffers", Int("8kB", 100, 1_073_741_823), User, 0),
    ("temp_file_limit", Int("kB", -1, 2_147_483_647), User, 0),
    ("track_activities", Bool, User, 0),
    ("track_activity_query_size", Int("B", 100, 1_048_576), Restart, 0),
    ("track_commit_timestamp", Bool, Restart, 0),
    ("track_counts", Bool, User, 0),
    ("track_functions", Enum(&["none", "pl", "all"]), User, 0),
    ("track_io_timing", Bool, User, 0),
    ("track_wal_io_timing", Bool, User, 14),
    ("vacuum_cost_delay", Real("ms", 0.0, 100.0), User, 0),
    ("vacuum_cost_limit", Int("", 1, 10000), User, 0),
    ("vacuum_cost_page_dirty", Int("", 0, 10000), User, 0),
    ("vacuum_cost_page_hit", Int("", 0, 10000), User, 0),
    ("vacuum_cost_page_miss", Int("", 0, 10000), User, 0),
    ("vacuum_freeze_min_age", Int("", 0, 1_000_000_000), User, 0),
    ("vacuum_freeze_table_age", Int("", 0, 2_000_000_000), User, 0),
    ("vacuum_multixact_freeze_min_age", Int("", 0, 1_000_000_000), User, 0),
    ("wal_buffers", Int("8kB", -1, 262_143), Restart, 0),
    ("wal_compression", Enum(&["pglz", "lz4", "zstd", "on", "off"]), User, 0),
    ("wal_keep_size", Int("MB", 0, 2_147_483_647), Reload, 13),
    ("wal_level", Enum(&["minimal", "replica", "logical"]), Restart, 0),
    ("wal_log_hints", Bool, Restart, 0),
    ("wal_receiver_status_interval", Int("s", 0, 2_147_483), Reload, 0),
    ("wal_receiver_timeout", Int("ms", 0, 2_147_483_647), Reload, 0),
    ("wal_retrieve_retry_interval", Int("ms", 1, 2_147_483_647), Reload, 0),
    ("wal_sender_timeout", Int("ms", 0, 2_147_483_647), User, 0),
    ("wal_writer_delay", Int("ms", 1, 10000), Reload, 0),
    ("wal_writer_flush_after", Int("8kB", 0, 2_147_483_647), Reload, 0),
    ("work_mem", Int("kB", 64, 2_147_483_647), User, 0),
    ("xmlbinary", Enum(&["base64", "hex"]), User, 0),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    #![expect(clippy::disallowed_methods, reason = "the real server is the judge")]
    use super::*;
    use std::process::Command;

    #[test]
    fn the_table_is_sorted_and_names_no_command_library_or_file() {
        assert!(TABLE.windows(2).all(|two| two[0].0 < two[1].0));
        assert!(TABLE.len() > 120);
        for (name, ..) in TABLE {
            assert!(!refusal(name).0.contains("a command"), "{name}");
        }
    }

    #[test]
    fn what_runs_code_or_names_a_file_is_refused_as_such() {
        for name in [
            "archive_command",
            "restore_command",
            "archive_cleanup_command",
            "ssl_passphrase_command",
            "shared_preload_libraries",
            "session_preload_libraries",
            "local_preload_libraries",
            "dynamic_library_path",
            "archive_library",
            "data_directory",
            "hba_file",
            "ident_file",
            "log_directory",
            "log_filename",
            "ssl_cert_file",
            "unix_socket_directories",
            "recovery_end_command",
            "jit_provider",
            "primary_conninfo",
            "stats_temp_directory",
            "external_pid_file",
            "krb_server_keyfile",
            "Archive_Command",
        ] {
            assert_eq!(find(name), None, "{name}");
            assert!(refusal(name).0.contains("none of them"), "{name}");
        }
        assert_eq!(refusal("tcp_keepalive_idle").1, "did you mean tcp_keepalives_idle?");
    }

    /// `postgres --describe-config` tells name, context, group, type, default, least and most of most parameters.
    #[test]
    fn a_real_server_agrees_with_types_ranges_and_contexts() {
        let Ok(told) = Command::new("/usr/lib/postgresql/15/bin/postgres").arg("--describe-config").output()
        else {
            return;
        };
        let told = String::from_utf8(told.stdout).unwrap();
        let mut seen = 0;
        for fields in told.lines().map(|line| line.split('\t').collect::<Vec<_>>()) {
            let Some(ours) = find(&fields[0].to_lowercase()) else { continue };
            seen += 1;
            let context = match fields[1] {
                "user" | "superuser" => User,
                "postmaster" => Restart,
                _ => Reload,
            };
            assert_eq!(ours.context, context, "{}", ours.name);
            let kind = match ours.kind {
                Bool => "BOOLEAN",
                Int(..) => "INTEGER",
                Real(..) => "REAL",
                Enum(_) => "ENUM",
                Text => "STRING",
            };
            assert_eq!(fields[3], kind, "{}", ours.name);
            if let Int(_, least, most) = ours.kind {
                let (low, high): (i64, i64) = (fields[5].parse().unwrap(), fields[6].parse().unwrap());
                assert!(low <= least && most <= high, "{}", ours.name);
                let narrow = ours.name.starts_with("tcp_keepalives");
                assert!(narrow || (low == least && most == high), "{}", ours.name);
            }
        }
        assert!(seen > 120, "only {seen} parameters were compared");
    }
}
