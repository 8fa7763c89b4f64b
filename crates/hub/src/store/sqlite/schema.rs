//! The schema, and how an older one becomes it. A migration that has been released is never edited.

use super::sql;
use crate::store::{Result, StoreError};
use rusqlite::Connection;
use std::path::Path;

/// One step per version; `user_version` counts how many were taken.
pub(super) const MIGRATIONS: [&str; 7] = [
    // 1: nodes as they stand, items as they stand, what changed, which reports came.
    "CREATE TABLE nodes (
       id        INTEGER PRIMARY KEY,
       source    TEXT NOT NULL UNIQUE,
       name      TEXT NOT NULL,
       tier      TEXT NOT NULL,
       last_seen INTEGER NOT NULL,   -- unix ms, the hub's clock
       doc       TEXT NOT NULL       -- everything else, JSON
     );
     CREATE INDEX nodes_by_name ON nodes (name, source);
     CREATE TABLE items (
       node   INTEGER NOT NULL,
       id     TEXT NOT NULL,
       status TEXT NOT NULL,         -- settled; 'gone' is a tombstone
       epoch  INTEGER NOT NULL,      -- the report that last set it
       n      INTEGER NOT NULL,
       detail TEXT NOT NULL,         -- JSON
       PRIMARY KEY (node, id)
     ) WITHOUT ROWID;
     CREATE TABLE history (
       node   INTEGER NOT NULL,
       epoch  INTEGER NOT NULL,
       n      INTEGER NOT NULL,
       sub    INTEGER NOT NULL,      -- 0 for a report, a heartbeat's time
       item   TEXT NOT NULL,         -- '' for the spec in force
       status TEXT NOT NULL,
       at     INTEGER NOT NULL,      -- unix ms, the node's clock
       got    INTEGER NOT NULL,      -- unix ms, the hub's clock
       echo   INTEGER NOT NULL,      -- 1: repeats the entry before it
       commit_id TEXT,
       detail TEXT NOT NULL,         -- JSON
       PRIMARY KEY (node, epoch, n, sub, item)
     ) WITHOUT ROWID;
     CREATE INDEX history_by_item ON history (node, item, epoch, n, sub);
     CREATE INDEX history_by_got ON history (got);
     CREATE TABLE seen (             -- which reports came, as runs
       node  INTEGER NOT NULL,
       epoch INTEGER NOT NULL,
       lo    INTEGER NOT NULL,
       hi    INTEGER NOT NULL,
       got   INTEGER NOT NULL,       -- the last of them, unix ms, the hub's clock
       PRIMARY KEY (node, epoch, lo)
     ) WITHOUT ROWID;",
    // 2: the front page finds what is open and what was repaired without reading everything; the hub notes
    // when it was up.
    "CREATE INDEX items_open ON items (node, id) WHERE status IN ('pending', 'non_compliant', 'error');
     CREATE INDEX history_repairs ON history (got) WHERE status = 'repaired';
     CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;",
    // 3: slots of the fleet; items that tell facts are found without reading every item.
    "CREATE TABLE slots (
       grp   TEXT NOT NULL,
       id    TEXT NOT NULL,          -- NODE/HOLDER
       since INTEGER NOT NULL,       -- unix ms, the hub's clock
       PRIMARY KEY (grp, id)
     ) WITHOUT ROWID;
     CREATE INDEX items_facts ON items (node, id) WHERE json_extract(detail, '$.facts') IS NOT NULL;",
    // 4: who may speak. Times are unix ms, the hub's clock.
    "CREATE TABLE tokens (
       id      TEXT PRIMARY KEY,
       hash    TEXT NOT NULL UNIQUE,  -- SHA-256 of the token
       nodes   TEXT NOT NULL,         -- a glob over names
       labels  TEXT NOT NULL,         -- JSON
       made    INTEGER NOT NULL,
       until   INTEGER NOT NULL,
       uses    INTEGER NOT NULL,
       used    INTEGER NOT NULL,
       revoked INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE enrolments (
       id     INTEGER PRIMARY KEY AUTOINCREMENT,
       name   TEXT NOT NULL,
       token  TEXT NOT NULL,
       key    TEXT NOT NULL,          -- SHA-256 of the first public key
       labels TEXT NOT NULL,          -- JSON
       source TEXT,                   -- who it speaks as, once it has
       at     INTEGER NOT NULL
     );
     CREATE INDEX enrolments_by_name ON enrolments (name, id);
     CREATE INDEX enrolments_by_source ON enrolments (source) WHERE source IS NOT NULL;
     CREATE TABLE certificates (
       serial    TEXT PRIMARY KEY,
       enrolment INTEGER NOT NULL,
       key       TEXT NOT NULL,       -- SHA-256 of its public key
       since     INTEGER NOT NULL,
       until     INTEGER NOT NULL,
       banned    INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE marks (             -- names that are shut out
       name TEXT PRIMARY KEY,
       mark TEXT NOT NULL,            -- banned, removed
       at   INTEGER NOT NULL
     ) WITHOUT ROWID;",
    // 5: who took a commit, and when, is found without reading the history.
    "CREATE INDEX history_taken ON history (commit_id, node, got) WHERE item = '' AND status = 'in_force';",
    // 6: what is to be told. Times are unix ms, the hub's clock.
    "CREATE TABLE news (              -- what happened, until it is sorted
       id      INTEGER PRIMARY KEY AUTOINCREMENT,
       due     INTEGER NOT NULL,      -- before this it is silenced
       subject TEXT NOT NULL,
       body    TEXT NOT NULL          -- JSON
     );
     CREATE INDEX news_by_due ON news (due);
     CREATE INDEX news_by_subject ON news (subject);
     CREATE TABLE outbox (
       id    TEXT PRIMARY KEY,
       sink  TEXT NOT NULL,
       grp   TEXT NOT NULL,           -- what it gathers
       state TEXT NOT NULL,           -- waiting, done, failed, standing
       first INTEGER NOT NULL,
       next  INTEGER NOT NULL,
       tries INTEGER NOT NULL,
       body  TEXT NOT NULL,           -- JSON
       error TEXT NOT NULL
     ) WITHOUT ROWID;
     CREATE INDEX outbox_by_next ON outbox (next) WHERE state IN ('waiting', 'standing');
     CREATE TABLE standing (          -- what the hub itself found, and has told
       subject TEXT PRIMARY KEY,
       body    TEXT NOT NULL          -- JSON
     ) WITHOUT ROWID;
     CREATE TABLE silences (
       id    TEXT PRIMARY KEY,
       until INTEGER NOT NULL,
       body  TEXT NOT NULL            -- JSON
     ) WITHOUT ROWID;",
    SIGN_IN,
];

/// 7: who may look and act, and who did what. Times are unix ms, the hub's clock.
const SIGN_IN: &str = "CREATE TABLE accounts (
       name  TEXT PRIMARY KEY,
       role  TEXT NOT NULL,           -- viewer, operator, admin
       tiers TEXT NOT NULL,           -- JSON; none means every one
       hash  TEXT NOT NULL,           -- of the password, argon2id
       made  INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE TABLE passes (
       hash    TEXT PRIMARY KEY,      -- SHA-256 of the pass
       id      TEXT NOT NULL,
       account TEXT NOT NULL,
       kind    TEXT NOT NULL,         -- session, token
       made    INTEGER NOT NULL,
       seen    INTEGER NOT NULL,
       until   INTEGER NOT NULL
     ) WITHOUT ROWID;
     CREATE INDEX passes_by_account ON passes (account);
     CREATE TABLE audit (
       id     INTEGER PRIMARY KEY AUTOINCREMENT,
       at     INTEGER NOT NULL,
       who    TEXT NOT NULL,
       origin TEXT NOT NULL,
       what   TEXT NOT NULL,
       about  TEXT NOT NULL,
       old    TEXT,
       new    TEXT
     );
     CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
     CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;";

/// Takes the steps that are missing, each in a transaction of its own.
pub(super) fn migrate(conn: &mut Connection, path: &Path) -> Result<()> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = conn
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(sql("reading the schema's version"))?;
    if found > known {
        return Err(StoreError::Newer { path: path.display().to_string(), found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (step, text) in (1_i64..).zip(MIGRATIONS).skip(done) {
        let tx = conn.transaction().map_err(sql("beginning a migration"))?;
        tx.execute_batch(text).map_err(sql("migrating"))?;
        tx.pragma_update(None, "user_version", step).map_err(sql("noting the schema's version"))?;
        tx.commit().map_err(sql("committing a migration"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{MIGRATIONS, migrate};
    use rusqlite::Connection;
    use std::path::Path;

    fn schema(conn: &Connection) -> Vec<String> {
        let mut rows = conn.prepare("SELECT type || ' ' || name FROM sqlite_schema ORDER BY 1").unwrap();
        rows.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn a_store_of_version_1_becomes_the_newest_and_keeps_its_rows() {
        let mut old = Connection::open_in_memory().unwrap();
        old.execute_batch(MIGRATIONS[0]).unwrap();
        old.pragma_update(None, "user_version", 1).unwrap();
        let insert = "INSERT INTO items VALUES (1, 'sysctl/a', 'pending', 7, 3, '{}')";
        old.execute(insert, []).unwrap();
        migrate(&mut old, Path::new("old")).unwrap();
        let mut new = Connection::open_in_memory().unwrap();
        migrate(&mut new, Path::new("new")).unwrap();
        assert_eq!(schema(&old), schema(&new));
        let open = "SELECT count(*) FROM items INDEXED BY items_open \
                    WHERE status IN ('pending', 'non_compliant', 'error')";
        assert_eq!(old.query_row(open, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }

    #[test]
    fn migrating_twice_changes_nothing() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn, Path::new("x")).unwrap();
        let before = schema(&conn);
        migrate(&mut conn, Path::new("x")).unwrap();
        assert_eq!(schema(&conn), before);
    }

    #[test]
    fn a_store_of_a_newer_hub_is_refused_with_what_to_do() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.pragma_update(None, "user_version", 99).unwrap();
        let why = migrate(&mut conn, Path::new("/srv/hub.db")).unwrap_err().to_string();
        assert_eq!(
            why,
            "the store /srv/hub.db has schema version 99, this hub knows up to 7: run a newer evenkeel-hub"
        );
    }
}
