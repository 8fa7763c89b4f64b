//! The schema, and how an older one becomes it. A migration that has been released is never edited.

use super::{from_json, sql};
use crate::store::lean::Lean;
use crate::store::{Result, StoreError};
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;
use std::path::Path;

/// One step per version; `user_version` counts how many were taken.
pub(super) const MIGRATIONS: [&str; 9] = [
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
    LEAN,
    // 9: names that were taken out, and when; a node of such a name that was not heard of since is decommissioned. It
    // outlives the mark, which a token lifts. Times are unix ms, the hub's clock.
    "CREATE TABLE retired (name TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID;
     INSERT INTO retired (name, at) SELECT name, at FROM marks WHERE mark = 'removed';",
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

/// 8: the history in half the room. Rows lie in the order of their arrival instead of being spread over half-empty
/// pages; what is said again and again is kept once, as a word; what is told with a change has short keys.
const LEAN: &str = "CREATE TABLE words (
       id   INTEGER PRIMARY KEY,
       word TEXT NOT NULL UNIQUE,     -- an item's id, a commit
       last INTEGER NOT NULL          -- the day of the newest row that says it, since 1970 by the hub's clock
     );
     INSERT INTO words VALUES (0, '', 9223372036854775807);
     INSERT INTO words (word, last) SELECT word, max(got) / 86400000 FROM
       (SELECT item AS word, got FROM history WHERE item <> '' UNION ALL SELECT commit_id, got FROM history
        WHERE commit_id IS NOT NULL AND commit_id <> '') GROUP BY word;
     CREATE TABLE lean (
       id        INTEGER PRIMARY KEY,
       node      INTEGER NOT NULL,
       item      INTEGER NOT NULL,    -- a word; 0 for the spec in force
       epoch     INTEGER NOT NULL,
       n         INTEGER NOT NULL,
       sub       INTEGER NOT NULL,    -- 0 for a report, a heartbeat's time, -1 for what was put right by the way
       status    TEXT NOT NULL,
       at        INTEGER NOT NULL,    -- unix ms, the node's clock
       got       INTEGER NOT NULL,    -- unix ms, the hub's clock
       echo      INTEGER NOT NULL,    -- 1: repeats the entry before it
       commit_id INTEGER,             -- a word
       body      TEXT NOT NULL        -- JSON; c change, p phase, r reason, d drift [attr, layer, observed, desired],
                                      -- w writer, l declared at, b since, n attempts, f facts, t refused commit,
                                      -- x its errors
     );
     INSERT INTO lean (node, item, epoch, n, sub, status, at, got, echo, commit_id, body)
       SELECT node, i.id, epoch, n, sub, status, at, got, echo, c.id, lean(detail)
       FROM history JOIN words i ON i.word = item LEFT JOIN words c ON c.word = commit_id ORDER BY got;
     DROP TABLE history;
     ALTER TABLE lean RENAME TO history;
     CREATE UNIQUE INDEX history_by_item ON history (node, item, epoch, n, sub);
     CREATE INDEX history_by_place ON history (node, epoch, n, sub);
     CREATE INDEX history_by_got ON history (got);
     CREATE INDEX history_repairs ON history (got) WHERE status = 'repaired';
     CREATE INDEX history_taken ON history (commit_id, node, got) WHERE item = 0 AND status = 'in_force';
     CREATE VIEW entries AS             -- the history in words
       SELECT node, h.item AS item_id, i.word AS item, epoch, n, sub, status, at, got, echo,
              commit_id, c.word AS commit_word, body
       FROM history h JOIN words i ON i.id = h.item LEFT JOIN words c ON c.id = h.commit_id;";

/// `lean(detail)`: what was told with a change, with long keys, in its short form.
fn lean(conn: &Connection) -> rusqlite::Result<()> {
    conn.create_scalar_function("lean", 1, FunctionFlags::SQLITE_DETERMINISTIC, |row| {
        let told = |why: StoreError| rusqlite::Error::UserFunctionError(Box::new(why));
        let detail = from_json(row.get_raw(0).as_str()?, "history entry").map_err(told)?;
        Lean::text(&detail).map_err(told)
    })
}

/// Takes the steps that are missing, each in a transaction of its own.
pub(super) fn migrate(conn: &mut Connection, path: &Path) -> Result<()> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = conn
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(sql("reading the schema's version"))?;
    if found > known {
        return Err(StoreError::Newer { path: path.display().to_string(), found, known });
    }
    lean(conn).map_err(sql("preparing to migrate"))?;
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
    use super::{LEAN, MIGRATIONS, migrate};
    use crate::store::sqlite::SqliteView;
    use crate::store::{Detail, HistoryRow, Place, View as _};
    use evenkeel_report::Seq;
    use rusqlite::{Connection, params};
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

    /// Everything that can be told with a change.
    fn detail() -> Detail {
        serde_json::from_str(
            r#"{"change": "corrective", "phase": "apply", "reason": "why", "drift":
                [{"attr": "value", "layer": "kernel", "observed": "7200", "desired": "60"},
                 {"attr": "value", "layer": "file:/etc/sysctl.conf", "observed": null, "desired": "60"}],
                "writer": {"pid": 42, "comm": "sysctl", "unit": null}, "declared_at": "fleet.yaml:17",
                "since": "2026-11-23T00:58:41Z", "attempts": 3, "facts": {"a": "b"}, "target": "bad", "errors": ["e"]}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_history_with_long_keys_says_the_same_in_its_short_form() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.db");
        let mut old = Connection::open(&path).unwrap();
        let before = MIGRATIONS.iter().position(|text| *text == LEAN).unwrap();
        MIGRATIONS[..before].iter().for_each(|text| old.execute_batch(text).unwrap());
        old.pragma_update(None, "user_version", i64::try_from(before).unwrap()).unwrap();
        let row = |n: u64, item: &str, status: &str, commit: Option<&str>| HistoryRow {
            place: Place { seq: Seq { epoch: 7, n }, sub: 0 },
            item: item.to_owned(),
            status: status.to_owned(),
            detail: detail(),
            at: 5,
            got: 90_000_000 - i64::try_from(n).unwrap(),
            commit: commit.map(str::to_owned),
            echo: false,
        };
        let rows = [
            row(3, "sysctl/b", "pending", Some("c0ffee")),
            row(2, "sysctl/a", "repaired", None),
            row(1, "", "in_force", Some("c0ffee")),
        ];
        for row in &rows {
            let insert = "INSERT INTO history VALUES (1, 7, ?1, 0, ?2, ?3, 5, ?4, 0, ?5, ?6)";
            let long = serde_json::to_string(&row.detail).unwrap();
            let n = i64::try_from(row.place.seq.n).unwrap();
            old.execute(insert, params![n, row.item, row.status, row.got, row.commit, long]).unwrap();
        }
        migrate(&mut old, &path).unwrap();
        let view = SqliteView::open(&path).unwrap();
        assert_eq!(view.timeline(1, None, 10).unwrap(), rows);
        assert_eq!(view.repairs(10).unwrap(), [(1, rows[1].clone())]);
        assert_eq!(view.taken("c0ffee").unwrap(), [(1, rows[2].got)]);
        let words = "SELECT group_concat(word || ' ' || last) FROM words WHERE id > 0 ORDER BY id";
        let words: String = old.query_row(words, [], |row| row.get(0)).unwrap();
        assert_eq!(words, "c0ffee 1,sysctl/a 1,sysctl/b 1");
        let body: String = old.query_row("SELECT body FROM history LIMIT 1", [], |row| row.get(0)).unwrap();
        assert!(
            body.starts_with(
                r#"{"c":"corrective","p":"apply","r":"why","d":[["value","kernel","7200","60"]"#
            )
        );
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
            "the store /srv/hub.db has schema version 99, this hub knows up to 9: run a newer evenkeel-hub"
        );
    }
}
