//! Accounts, passes and the audit log in PostgreSQL.

use super::desk::{Desk, ask};
use super::link::Link;
use super::rows::{from_json, json};
use super::{Address, acts};
use crate::store::Result;
use crate::store::accounts::{Account, Accounts, Change, Entry, Pass, PassKind, Role};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// How many connections ask at once.
const ASKERS: usize = 4;
/// What was said outlives a power cut.
const SETTINGS: &str = "SET synchronous_commit = on";

/// The accounts in a store that [`super::PgStore`] has opened before.
#[derive(Debug)]
pub struct PgAccounts {
    desk: Desk,
}

impl PgAccounts {
    /// The accounts of the store at `address`.
    #[must_use]
    pub fn new(address: &Address) -> Self {
        Self { desk: Desk::new(address, SETTINGS, ASKERS) }
    }
}

fn rows(link: &Link, text: &'static str, with: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
    link.tell("changing accounts", |it| ask(it, text, with))
}

fn all(link: &Link, text: &'static str) -> Result<()> {
    link.tell("changing accounts", |it| async move { it.client.batch_execute(text).await })
}

impl Accounts for PgAccounts {
    fn change(&self, change: &Change, entry: &Entry) -> Result<bool> {
        let text = "INSERT INTO audit (at, who, origin, what, about, old, new) \
                    VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let Entry { at, who, origin, what, about, old, new, .. } = entry;
        self.desk.run("changing accounts", |link| {
            all(link, "BEGIN ISOLATION LEVEL READ COMMITTED")?;
            let done = apply(link, change)?;
            if done {
                rows(link, text, &[at, who, origin, what, about, old, new])?;
            }
            all(link, "COMMIT")?;
            Ok(done)
        })
    }

    fn account(&self, name: &str) -> Result<Option<Account>> {
        let text = "SELECT name, role, tiers, hash, made FROM accounts WHERE name = $1";
        let found = self.desk.rows("reading an account", text, &[&name])?;
        found.first().map(|row| account(row, 0)).transpose()
    }

    fn accounts(&self) -> Result<Vec<Account>> {
        let text = "SELECT name, role, tiers, hash, made FROM accounts ORDER BY name";
        self.desk.rows("reading accounts", text, &[])?.iter().map(|row| account(row, 0)).collect()
    }

    fn pass(&self, hash: &str) -> Result<Option<(Pass, Account)>> {
        let text = "SELECT p.id, p.hash, p.account, p.kind, p.made, p.seen, p.until, \
                    a.name, a.role, a.tiers, a.hash, a.made \
                    FROM passes p JOIN accounts a ON a.name = p.account WHERE p.hash = $1";
        let found = self.desk.rows("reading a pass", text, &[&hash])?;
        found.first().map(|row| Ok((pass(row), account(row, 7)?))).transpose()
    }

    fn passes(&self) -> Result<Vec<Pass>> {
        let text = "SELECT id, hash, account, kind, made, seen, until FROM passes ORDER BY made DESC, id";
        Ok(self.desk.rows("reading passes", text, &[])?.iter().map(pass).collect())
    }

    fn touch(&self, hash: &str, now: i64) -> Result<()> {
        let doing = "noting a pass";
        self.desk.rows(doing, "UPDATE passes SET seen = $2 WHERE hash = $1", &[&hash, &now])?;
        self.desk.rows(doing, "DELETE FROM passes WHERE until <= $1", &[&now]).map(drop)
    }

    fn log(&self, before: Option<i64>, limit: usize) -> Result<Vec<Entry>> {
        let text = "SELECT id, at, who, origin, what, about, old, new FROM audit WHERE id < $1 \
                    ORDER BY id DESC LIMIT $2";
        let (before, limit) = (before.unwrap_or(i64::MAX), i64::try_from(limit).unwrap_or(i64::MAX));
        Ok(self.desk.rows("reading the audit log", text, &[&before, &limit])?.iter().map(entry).collect())
    }
}

fn apply(link: &Link, change: &Change) -> Result<bool> {
    let done = match change {
        Change::None => return Ok(true),
        Change::Act(act) => return acts::apply(link, act),
        Change::Add(Account { name, role, tiers, hash, made }) => {
            let tiers = json(tiers, "list of tiers")?;
            let text = "INSERT INTO accounts (name, role, tiers, hash, made) VALUES ($1, $2, $3, $4, $5) \
                        ON CONFLICT (name) DO NOTHING RETURNING 1";
            rows(link, text, &[name, &role.word(), &tiers, hash, made])
        }
        Change::Password { name, hash } => {
            // The account first: a sign-in at the same time waits for it (see `AddPass`).
            let done = rows(link, "UPDATE accounts SET hash = $2 WHERE name = $1 RETURNING 1", &[name, hash]);
            rows(link, "DELETE FROM passes WHERE account = $1", &[name])?;
            done
        }
        Change::Remove(name) => {
            let done = rows(link, "DELETE FROM accounts WHERE name = $1 RETURNING 1", &[name]);
            rows(link, "DELETE FROM passes WHERE account = $1", &[name])?;
            done
        }
        Change::Enter(Account { name, role, tiers, hash, made }, pass) => {
            let tiers = json(tiers, "list of tiers")?;
            let text = "INSERT INTO accounts (name, role, tiers, hash, made) VALUES ($1, $2, $3, $4, $5) \
                        ON CONFLICT (name) DO UPDATE SET role = excluded.role, tiers = excluded.tiers \
                        WHERE accounts.hash = excluded.hash RETURNING 1";
            if rows(link, text, &[name, &role.word(), &tiers, hash, made])?.is_empty() {
                return Ok(false);
            }
            let text = "WITH old AS (DELETE FROM accounts WHERE hash = $1 AND name <> $2 RETURNING name) \
                        DELETE FROM passes WHERE account IN (SELECT name FROM old)";
            rows(link, text, &[hash, name])?;
            return apply(link, &Change::AddPass(pass.clone()));
        }
        Change::AddPass(Pass { id, hash, account, kind, made, seen, until }) => {
            // An account that has gone meanwhile gets none.
            let text = "INSERT INTO passes (id, hash, account, kind, made, seen, until) \
                        SELECT $1::text, $2::text, name, $4::text, $5::bigint, $6::bigint, $7::bigint \
                        FROM accounts WHERE name = $3 FOR SHARE RETURNING 1";
            rows(link, text, &[id, hash, account, &kind.word(), made, seen, until])
        }
        Change::DropPass(hash) => rows(link, "DELETE FROM passes WHERE hash = $1 RETURNING 1", &[hash]),
        Change::DropToken(id) => {
            rows(link, "DELETE FROM passes WHERE id = $1 AND kind = 'token' RETURNING 1", &[id])
        }
    };
    done.map(|changed| !changed.is_empty())
}

fn account(row: &Row, from: usize) -> Result<Account> {
    Ok(Account {
        name: row.get(from),
        role: Role::read(row.get(from + 1)).unwrap_or(Role::Viewer),
        tiers: from_json(row.get(from + 2), "list of tiers")?,
        hash: row.get(from + 3),
        made: row.get(from + 4),
    })
}

fn pass(row: &Row) -> Pass {
    Pass {
        id: row.get(0),
        hash: row.get(1),
        account: row.get(2),
        kind: PassKind::read(row.get(3)),
        made: row.get(4),
        seen: row.get(5),
        until: row.get(6),
    }
}

fn entry(row: &Row) -> Entry {
    Entry {
        id: row.get(0),
        at: row.get(1),
        who: row.get(2),
        origin: row.get(3),
        what: row.get(4),
        about: row.get(5),
        old: row.get(6),
        new: row.get(7),
    }
}
