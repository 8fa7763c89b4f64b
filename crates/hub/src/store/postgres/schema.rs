//! The schema, and how an older one becomes it. A migration that has been released is never edited.
//!
//! Each step is a transaction under one advisory lock, so that any number of hubs may start at once.

use super::link::Link;
use crate::store::{Result, StoreError};

/// One step per version; `schema_version` has a row for each that was taken.
pub(super) const MIGRATIONS: [&str; 8] = [
    // 1: nodes as they stand and what every heartbeat changes of them, items as they stand, what changed.
    r#"CREATE TABLE nodes (
         id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         source text COLLATE "C" NOT NULL UNIQUE,
         name   text COLLATE "C" NOT NULL,
         tier   text NOT NULL,
         doc    text NOT NULL,          -- what is known of it, JSON
         told   text NOT NULL           -- which reports came and what else merging needs, JSON
       ) WITH (fillfactor = 60);
       CREATE INDEX nodes_by_name ON nodes (name, source);
       CREATE TABLE pulses (            -- narrow, and updated in place: a heartbeat writes this and nothing else
         node      bigint PRIMARY KEY,
         rev       bigint NOT NULL,     -- how often the node was written; whoever writes it locks this row
         last_seen bigint NOT NULL,     -- unix ms, the hub's clock
         said      text NOT NULL        -- [the newest voice, the newest heartbeat, the spec's age], JSON
       ) WITH (fillfactor = 40, autovacuum_vacuum_scale_factor = 0.5);
       CREATE TABLE items (
         node   bigint NOT NULL,
         id     text COLLATE "C" NOT NULL,
         status text NOT NULL,          -- settled; 'gone' is a tombstone
         epoch  bigint NOT NULL,        -- the report that last set it
         n      bigint NOT NULL,
         detail text NOT NULL,          -- JSON
         PRIMARY KEY (node, id)
       ) WITH (fillfactor = 80);
       CREATE TABLE history (           -- one row for all that an event changed; one partition a day
         got       bigint NOT NULL,     -- unix ms, the hub's clock
         node      bigint NOT NULL,
         epoch     bigint NOT NULL,
         n         bigint NOT NULL,
         sub       bigint NOT NULL,     -- 0 for a report, a heartbeat's time, -1 for what was put right by the way
         at        bigint NOT NULL,     -- unix ms, the node's clock
         repaired  boolean NOT NULL,    -- whether a repair is in it
         commit_id text,
         body      text NOT NULL        -- JSON; i item, s status, e echo, c change, p phase, r reason,
                                        -- d drift [attr, layer, observed, desired], w writer, l declared at,
                                        -- b since, n attempts, f facts, t refused commit, x its errors
       ) PARTITION BY RANGE (got);
       CREATE INDEX history_by_place ON history (node, epoch, n, sub);"#,
    // 2: the front page finds what is open and what was repaired without reading everything; the hub notes
    // when it was up.
    "CREATE INDEX items_open ON items (node, id) WHERE status IN ('pending', 'non_compliant', 'error');
     CREATE INDEX history_repairs ON history (got) WHERE repaired;
     CREATE TABLE meta (key text PRIMARY KEY, value bigint NOT NULL);",
    // 3: slots of the fleet; items that tell facts are found without reading every item. In a JSON text a name with its
    // colon is a member's: within a string the quotes are escaped. The text is not cast, as jsonb takes no U+0000.
    r#"CREATE TABLE slots (
         grp   text COLLATE "C" NOT NULL,
         id    text COLLATE "C" NOT NULL,   -- NODE/HOLDER
         since bigint NOT NULL,             -- unix ms, the hub's clock
         PRIMARY KEY (grp, id)
       );
       CREATE INDEX items_facts ON items (node, id) WHERE detail LIKE '%"facts":{"%';"#,
    // 4: who may speak. Times are unix ms, the hub's clock.
    r#"CREATE TABLE tokens (
         id      text COLLATE "C" PRIMARY KEY,
         hash    text COLLATE "C" NOT NULL UNIQUE,  -- SHA-256 of the token
         nodes   text NOT NULL,                     -- a glob over names
         labels  text NOT NULL,                     -- JSON
         made    bigint NOT NULL,
         until   bigint NOT NULL,
         uses    bigint NOT NULL,
         used    bigint NOT NULL,
         revoked boolean NOT NULL
       );
       CREATE TABLE enrolments (
         id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         name   text COLLATE "C" NOT NULL,
         token  text COLLATE "C" NOT NULL,
         key    text COLLATE "C" NOT NULL,          -- SHA-256 of the first public key
         labels text NOT NULL,                      -- JSON
         source text COLLATE "C",                   -- who it speaks as, once it has
         at     bigint NOT NULL
       );
       CREATE INDEX enrolments_by_name ON enrolments (name, id);
       CREATE INDEX enrolments_by_source ON enrolments (source) WHERE source IS NOT NULL;
       CREATE TABLE certificates (
         serial    text COLLATE "C" PRIMARY KEY,
         enrolment bigint NOT NULL,
         key       text COLLATE "C" NOT NULL,       -- SHA-256 of its public key
         since     bigint NOT NULL,
         until     bigint NOT NULL,
         banned    boolean NOT NULL
       );
       CREATE TABLE marks (                         -- names that are shut out
         name text COLLATE "C" PRIMARY KEY,
         mark text NOT NULL,                        -- banned, removed
         at   bigint NOT NULL
       );"#,
    // 5: who took a commit, and what came in a span of time, is found without reading the history. The spec's entry of a
    // pack is the one without an item, so its status stands first. Rows come in the order of `got`, so the coarsest
    // index will do.
    r#"CREATE INDEX history_taken ON history (commit_id, node, got) WHERE body LIKE '%{"s":"in_force"%';
       CREATE INDEX history_by_got ON history USING brin (got) WITH (pages_per_range = 32, autosummarize = on);"#,
    // 6: what is to be told. Times are unix ms, the hub's clock.
    r#"CREATE TABLE news (                          -- what happened, until it is sorted
         id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         due     bigint NOT NULL,                   -- before this it is silenced
         subject text COLLATE "C" NOT NULL,
         body    text NOT NULL                      -- JSON
       );
       CREATE INDEX news_by_due ON news (due);
       CREATE INDEX news_by_subject ON news (subject);
       CREATE TABLE outbox (
         id    text COLLATE "C" PRIMARY KEY,
         sink  text COLLATE "C" NOT NULL,
         grp   text COLLATE "C" NOT NULL,           -- what it gathers
         state text NOT NULL,                       -- waiting, done, failed, standing
         first bigint NOT NULL,
         next  bigint NOT NULL,
         tries bigint NOT NULL,
         body  text NOT NULL,                       -- JSON
         error text NOT NULL
       );
       CREATE INDEX outbox_by_next ON outbox (next) WHERE state IN ('waiting', 'standing');
       CREATE TABLE standing (                      -- what the hub itself found, and has told
         subject text COLLATE "C" PRIMARY KEY,
         body    text NOT NULL                      -- JSON
       );
       CREATE TABLE silences (
         id    text COLLATE "C" PRIMARY KEY,
         until bigint NOT NULL,
         body  text NOT NULL                        -- JSON
       );"#,
    SIGN_IN,
    // 8: names that were taken out, and when; a node of such a name that was not heard of since is decommissioned. It
    // outlives the mark, which a token lifts. Times are unix ms, the hub's clock.
    r#"CREATE TABLE retired (name text COLLATE "C" PRIMARY KEY, at bigint NOT NULL);
       INSERT INTO retired (name, at) SELECT name, at FROM marks WHERE mark = 'removed';"#,
];

/// 7: who may look and act, and who did what. Times are unix ms, the hub's clock.
const SIGN_IN: &str = r#"CREATE TABLE accounts (
         name  text COLLATE "C" PRIMARY KEY,
         role  text NOT NULL,                       -- viewer, operator, admin
         tiers text NOT NULL,                       -- JSON; none means every one
         hash  text NOT NULL,                       -- of the password, argon2id
         made  bigint NOT NULL
       );
       CREATE TABLE passes (
         hash    text COLLATE "C" PRIMARY KEY,      -- SHA-256 of the pass
         id      text COLLATE "C" NOT NULL,
         account text COLLATE "C" NOT NULL,
         kind    text NOT NULL,                     -- session, token
         made    bigint NOT NULL,
         seen    bigint NOT NULL,
         until   bigint NOT NULL
       );
       CREATE INDEX passes_by_account ON passes (account);
       CREATE TABLE audit (
         id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
         at     bigint NOT NULL,
         who    text NOT NULL,
         origin text NOT NULL,
         what   text NOT NULL,
         about  text NOT NULL,
         old    text,
         new    text
       );
       CREATE FUNCTION audit_stays() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'the audit log is only added to'; END $$;
       CREATE TRIGGER audit_stays BEFORE UPDATE OR DELETE ON audit
         FOR EACH ROW EXECUTE FUNCTION audit_stays();"#;

/// The advisory lock under which the schema is changed: any number that is always the same.
pub(super) const LOCK: i64 = 0x6576_656e_6b65_656c;

/// Takes the steps that are missing.
pub(super) fn migrate(link: &Link) -> Result<()> {
    let encoding: String = link.tell("asking for the encoding", |it| async move {
        Ok(it.client.query_one("SHOW server_encoding", &[]).await?.get(0))
    })?;
    if encoding != "UTF8" {
        let source =
            format!("its encoding is {encoding}; create it with ENCODING 'UTF8' TEMPLATE template0").into();
        return Err(StoreError::Open { path: link.place().to_owned(), source });
    }
    while step(link)? {}
    Ok(())
}

/// Takes one step; whether there was one to take.
fn step(link: &Link) -> Result<bool> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found = link.tell("migrating", |it| async move {
        let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})");
        it.client.batch_execute(&lock).await?;
        let table = "CREATE TABLE IF NOT EXISTS schema_version \
                     (version bigint PRIMARY KEY, taken timestamptz NOT NULL DEFAULT now())";
        it.client.batch_execute(table).await?;
        let found = it.client.query_one("SELECT coalesce(max(version), 0) FROM schema_version", &[]).await?;
        let found: i64 = found.get(0);
        if let Some(text) = usize::try_from(found).ok().and_then(|found| MIGRATIONS.get(found)) {
            it.client.batch_execute(text).await?;
            it.client.execute("INSERT INTO schema_version (version) VALUES ($1)", &[&(found + 1)]).await?;
        }
        it.client.batch_execute("COMMIT").await?;
        Ok(found)
    });
    let found = match found {
        Ok(found) => found,
        Err(why) => {
            let _ = link.ask(|it| async move { it.client.batch_execute("ROLLBACK").await });
            return Err(why);
        }
    };
    if found > known {
        return Err(StoreError::Newer { path: link.place().to_owned(), found, known });
    }
    Ok(found < known)
}
