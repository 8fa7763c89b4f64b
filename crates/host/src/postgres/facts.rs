//! What is asked of a server, statement by statement.
//!
//! What the server does not let us read is noted as such and is no trouble of the rest.

use super::conninfo;
use evenkeel_core::{
    PgBackend, PgFacts, PgFileSetting, PgOverride, PgQuestion, PgReceiver, PgReplication, PgRights, PgSender,
    PgSetting,
};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};

/// The most sessions that are told.
const BACKENDS: i64 = 5000;
/// The least `server_version_num` whose views of replication have today's names.
const WAL_NAMES: u32 = 100_000;

const SETTINGS: &str = "
    SELECT asked, coalesce(reset_val, ''), vartype, unit, context, source, sourcefile, sourceline, pending_restart,
           min_val, max_val, coalesce(enumvals, '{}')
    FROM unnest($1::text[]) AS a(asked) JOIN pg_settings AS s ON lower(s.name) = lower(a.asked)";

const FILE_SETTINGS: &str = "
    SELECT coalesce(sourcefile, ''), coalesce(sourceline, 0), name, setting, coalesce(applied, false), error
    FROM pg_file_settings
    WHERE error IS NOT NULL OR lower(name) IN (SELECT lower(asked) FROM unnest($1::text[]) AS a(asked))
    ORDER BY seqno";

/// Whether we may change `r`, as the server decides it for `ALTER ROLE … SET`.
const MAY: &str = "(me.rolsuper OR r.oid = me.oid OR (me.rolcreaterole AND NOT r.rolsuper))";
/// The same since 16, where CREATEROLE is not enough.
const MAY_16: &str = "(me.rolsuper OR r.oid = me.oid OR
    (me.rolcreaterole AND NOT r.rolsuper AND pg_has_role(me.oid, r.oid, 'MEMBER WITH ADMIN OPTION')))";

const OVERRIDES: &str = "
    SELECT r.rolname::text, d.datname::text, split_part(c.line, '=', 1), substr(c.line, strpos(c.line, '=') + 1),
           NOT CASE WHEN s.setrole <> 0 THEN coalesce(<may>, false)
                    WHEN s.setdatabase <> 0 THEN coalesce(pg_has_role(me.oid, d.datdba, 'USAGE'), false)
                    ELSE me.rolsuper END
    FROM pg_db_role_setting AS s
    JOIN pg_roles AS me ON me.rolname = current_user
    LEFT JOIN pg_roles AS r ON r.oid = s.setrole
    LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
    CROSS JOIN unnest(s.setconfig) AS c(line)
    WHERE lower(split_part(c.line, '=', 1)) IN (SELECT lower(asked) FROM unnest($1::text[]) AS a(asked))
    ORDER BY 1 NULLS FIRST, 2 NULLS FIRST, 3";

const RIGHTS: &str = "
    SELECT me.rolname::text, me.rolsuper, has_function_privilege('pg_catalog.pg_reload_conf()', 'EXECUTE'),
           ARRAY(SELECT datname::text FROM pg_database
                 WHERE datallowconn AND NOT datistemplate AND pg_has_role(me.oid, datdba, 'USAGE')),
           ARRAY(SELECT r.rolname::text FROM pg_roles AS r
                 WHERE r.rolname::text IN (SELECT asked FROM unnest($1::text[]) AS a(asked)) AND <may>),
           ARRAY(SELECT r.rolname::text FROM pg_roles AS r
                 WHERE r.rolcanlogin AND NOT r.rolsuper AND r.oid <> me.oid ORDER BY 1 LIMIT 100)
    FROM pg_roles AS me WHERE me.rolname = current_user";

const MAY_ALTER_SYSTEM: &str = "
    SELECT asked FROM unnest($1::text[]) AS a(asked) WHERE has_parameter_privilege(asked, 'ALTER SYSTEM')";

const SESSIONS: &str = "
    SELECT pid, coalesce(usename::text, ''), coalesce(datname::text, ''), coalesce(application_name, ''),
           host(client_addr), client_port, coalesce(state, '')
    FROM pg_stat_activity WHERE client_addr IS NOT NULL AND pid <> pg_backend_pid()
    ORDER BY pid LIMIT $1";

const SENDERS: &str =
    "SELECT coalesce(application_name, ''), coalesce(state, '') FROM pg_stat_replication ORDER BY 1, 2";

const IDLE_SLOTS: &str = "SELECT slot_name::text FROM pg_replication_slots WHERE NOT active";

const RECEIVER: &str = "SELECT coalesce(status, ''), slot_name::text FROM pg_stat_wal_receiver";

const REPLAY: &str = "
    SELECT pg_is_wal_replay_paused(),
           greatest(coalesce(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), 0), 0)::bigint";

const CONNINFO: &str = "SELECT current_setting('primary_conninfo', true)";

/// One round of questions.
struct Round<'a> {
    client: &'a Client,
    facts: PgFacts,
}

/// Ask everything that is wanted.
pub(super) async fn ask(client: &Client, question: &PgQuestion) -> Result<PgFacts, Error> {
    let about = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery()";
    let about = client.query_one(about, &[]).await?;
    let version = u32::try_from(about.try_get::<_, i32>(0)?).unwrap_or(0);
    let facts = PgFacts { version, in_recovery: about.try_get(1)?, ..PgFacts::default() };
    let mut round = Round { client, facts };
    round.settings(&question.settings).await?;
    if question.rights {
        round.rights(question).await?;
    }
    if question.backends {
        for row in round.rows("pg_stat_activity", SESSIONS, &[&BACKENDS]).await? {
            round.facts.backends.push(backend(&row)?);
        }
    }
    if question.replication && version >= WAL_NAMES {
        round.replication().await?;
    }
    Ok(round.facts)
}

impl Round<'_> {
    /// The rows of a view; none where the server does not let us read it, which is noted.
    async fn rows(&mut self, view: &str, sql: &str, args: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        match self.client.query(sql, args).await {
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                self.facts.refused.insert(view.to_owned());
                Ok(vec![])
            }
            rows => rows,
        }
    }

    fn may(&self, sql: &str) -> String {
        sql.replace("<may>", if self.facts.version >= 160_000 { MAY_16 } else { MAY })
    }

    async fn settings(&mut self, names: &Vec<String>) -> Result<(), Error> {
        for row in self.rows("pg_settings", SETTINGS, &[names]).await? {
            self.facts.settings.insert(row.try_get(0)?, setting(&row)?);
        }
        for row in self.rows("pg_file_settings", FILE_SETTINGS, &[names]).await? {
            self.facts.file_settings.push(file_setting(&row)?);
        }
        let overrides = self.may(OVERRIDES);
        for row in self.rows("pg_db_role_setting", &overrides, &[names]).await? {
            let (role, database) = (row.try_get(0)?, row.try_get(1)?);
            let (setting, value, barred) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
            self.facts.overrides.push(PgOverride { role, database, setting, value, barred });
        }
        Ok(())
    }

    async fn rights(&mut self, question: &PgQuestion) -> Result<(), Error> {
        let sql = self.may(RIGHTS);
        let row = self.client.query_one(&sql, &[&question.roles]).await?;
        let all = |at: usize| row.try_get::<_, Vec<String>>(at).map(|all| all.into_iter().collect());
        let mut rights = PgRights {
            role: row.try_get(0)?,
            superuser: row.try_get(1)?,
            reload: row.try_get(2)?,
            databases: all(3)?,
            roles: all(4)?,
            others: all(5)?,
            ..PgRights::default()
        };
        if rights.superuser {
            rights.alter_system = question.settings.iter().cloned().collect();
        } else if self.facts.version >= 150_000 {
            for row in self.client.query(MAY_ALTER_SYSTEM, &[&question.settings]).await? {
                rights.alter_system.insert(row.try_get(0)?);
            }
        }
        self.facts.rights = Some(rights);
        Ok(())
    }

    async fn replication(&mut self) -> Result<(), Error> {
        let mut told = PgReplication::default();
        for row in self.rows("pg_stat_replication", SENDERS, &[]).await? {
            told.senders.push(PgSender { application: row.try_get(0)?, state: row.try_get(1)? });
        }
        for row in self.rows("pg_replication_slots", IDLE_SLOTS, &[]).await? {
            told.idle_slots.insert(row.try_get(0)?);
        }
        if self.facts.in_recovery {
            for row in self.rows("pg_stat_wal_receiver", RECEIVER, &[]).await? {
                told.receiver = Some(PgReceiver { status: row.try_get(0)?, slot: row.try_get(1)? });
            }
            for row in self.rows("primary_conninfo", CONNINFO, &[]).await? {
                told.link = row.try_get::<_, Option<String>>(0)?.as_deref().and_then(conninfo::link);
            }
            // A promotion between two statements makes this one fail: it is no standby any more.
            if let Ok(row) = self.client.query_one(REPLAY, &[]).await {
                told.paused = row.try_get(0)?;
                told.unreplayed = u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or(0);
            }
        }
        self.facts.replication = Some(told);
        Ok(())
    }
}

fn setting(row: &Row) -> Result<PgSetting, Error> {
    Ok(PgSetting {
        reset_val: row.try_get(1)?,
        vartype: row.try_get(2)?,
        unit: row.try_get(3)?,
        context: row.try_get(4)?,
        source: row.try_get(5)?,
        sourcefile: row.try_get::<_, Option<String>>(6)?.map(Into::into),
        sourceline: row.try_get::<_, Option<i32>>(7)?.and_then(|line| u32::try_from(line).ok()),
        pending_restart: row.try_get(8)?,
        min_val: row.try_get(9)?,
        max_val: row.try_get(10)?,
        enumvals: row.try_get(11)?,
    })
}

fn file_setting(row: &Row) -> Result<PgFileSetting, Error> {
    Ok(PgFileSetting {
        file: row.try_get::<_, String>(0)?.into(),
        line: u32::try_from(row.try_get::<_, i32>(1)?).unwrap_or(0),
        name: row.try_get(2)?,
        setting: row.try_get(3)?,
        applied: row.try_get(4)?,
        error: row.try_get(5)?,
    })
}

fn backend(row: &Row) -> Result<PgBackend, Error> {
    Ok(PgBackend {
        pid: row.try_get(0)?,
        user: row.try_get(1)?,
        database: row.try_get(2)?,
        application: row.try_get(3)?,
        address: row.try_get(4)?,
        port: u16::try_from(row.try_get::<_, i32>(5)?).unwrap_or(0),
        state: row.try_get(6)?,
    })
}
