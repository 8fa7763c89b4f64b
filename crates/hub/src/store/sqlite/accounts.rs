//! Accounts, passes and the audit log in SQLite, on a connection of their own beside the one that stores events.

use super::{acts, from_json, json, open_writer, sql};
use crate::store::Result;
use crate::store::accounts::{Account, Accounts, Change, Entry, Pass, PassKind, Role};
use rusqlite::{Connection, OptionalExtension as _, Row, TransactionBehavior, params};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The accounts in a store that [`super::SqliteStore`] has opened before.
#[derive(Debug)]
pub struct SqliteAccounts {
    conn: Mutex<Connection>,
}

impl SqliteAccounts {
    /// Opens the accounts of the store at `path`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { conn: Mutex::new(open_writer(path)?) })
    }

    fn conn(&self) -> MutexGuard<'_, Connection> {
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const ACCOUNT: &str = "a.name, a.role, a.tiers, a.hash, a.made";
const PASS: &str = "p.id, p.hash, p.account, p.kind, p.made, p.seen, p.until";

impl Accounts for SqliteAccounts {
    fn change(&self, change: &Change, entry: &Entry) -> Result<bool> {
        let mut conn = self.conn();
        let tx = conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sql("beginning a transaction"))?;
        if !apply(&tx, change)? {
            return Ok(false);
        }
        let text = "INSERT INTO audit (at, who, origin, what, about, old, new) \
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let Entry { at, who, origin, what, about, old, new, .. } = entry;
        tx.execute(text, params![at, who, origin, what, about, old, new])
            .map_err(sql("writing the audit log"))?;
        tx.commit().map_err(sql("changing accounts"))?;
        Ok(true)
    }

    fn account(&self, name: &str) -> Result<Option<Account>> {
        let text = format!("SELECT {ACCOUNT} FROM accounts a WHERE a.name = ?1");
        let found = self.conn().query_row(&text, [name], |row| account(row, 0)).optional();
        found.map_err(sql("reading an account"))?.map(whole).transpose()
    }

    fn accounts(&self) -> Result<Vec<Account>> {
        let text = format!("SELECT {ACCOUNT} FROM accounts a ORDER BY a.name");
        let conn = self.conn();
        let rows: rusqlite::Result<Vec<_>> =
            conn.prepare(&text).and_then(|mut found| found.query_map([], |row| account(row, 0))?.collect());
        rows.map_err(sql("reading accounts"))?.into_iter().map(whole).collect()
    }

    fn pass(&self, hash: &str) -> Result<Option<(Pass, Account)>> {
        let text = format!(
            "SELECT {PASS}, {ACCOUNT} FROM passes p JOIN accounts a ON a.name = p.account WHERE p.hash = ?1"
        );
        let both = |row: &Row<'_>| Ok((pass(row)?, account(row, 7)?));
        let found = self.conn().query_row(&text, [hash], both).optional().map_err(sql("reading a pass"))?;
        found.map(|(pass, account)| Ok((pass, whole(account)?))).transpose()
    }

    fn passes(&self) -> Result<Vec<Pass>> {
        let text = format!("SELECT {PASS} FROM passes p ORDER BY p.made DESC, p.id");
        let conn = self.conn();
        let rows: rusqlite::Result<Vec<_>> =
            conn.prepare(&text).and_then(|mut found| found.query_map([], pass)?.collect());
        rows.map_err(sql("reading passes"))
    }

    fn touch(&self, hash: &str, now: i64) -> Result<()> {
        let conn = self.conn();
        conn.execute("UPDATE passes SET seen = ?2 WHERE hash = ?1", params![hash, now])
            .and_then(|_| conn.execute("DELETE FROM passes WHERE until <= ?1", [now]))
            .map_err(sql("noting a pass"))
            .map(drop)
    }

    fn log(&self, before: Option<i64>, limit: usize) -> Result<Vec<Entry>> {
        let text = "SELECT id, at, who, origin, what, about, old, new FROM audit WHERE id < ?1 \
                    ORDER BY id DESC LIMIT ?2";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let conn = self.conn();
        let rows: rusqlite::Result<Vec<_>> = conn.prepare(text).and_then(|mut found| {
            found.query_map(params![before.unwrap_or(i64::MAX), limit], entry)?.collect()
        });
        rows.map_err(sql("reading the audit log"))
    }
}

fn apply(tx: &Connection, change: &Change) -> Result<bool> {
    let done = match change {
        Change::None => Ok(1),
        Change::Act(act) => return acts::apply(tx, act),
        Change::Add(Account { name, role, tiers, hash, made }) => {
            let tiers = json(tiers, "list of tiers")?;
            let text = "INSERT INTO accounts (name, role, tiers, hash, made) VALUES (?1, ?2, ?3, ?4, ?5) \
                        ON CONFLICT (name) DO NOTHING";
            tx.execute(text, params![name, role.word(), tiers, hash, made])
        }
        Change::Password { name, hash } => tx
            .execute("DELETE FROM passes WHERE account = ?1", [name])
            .and_then(|_| tx.execute("UPDATE accounts SET hash = ?2 WHERE name = ?1", params![name, hash])),
        Change::Remove(name) => tx
            .execute("DELETE FROM passes WHERE account = ?1", [name])
            .and_then(|_| tx.execute("DELETE FROM accounts WHERE name = ?1", [name])),
        Change::Enter(Account { name, role, tiers, hash, made }, pass) => {
            let tiers = json(tiers, "list of tiers")?;
            let text = "INSERT INTO accounts (name, role, tiers, hash, made) VALUES (?1, ?2, ?3, ?4, ?5) \
                        ON CONFLICT (name) DO UPDATE SET role = excluded.role, tiers = excluded.tiers \
                        WHERE accounts.hash = excluded.hash";
            let done = tx.execute(text, params![name, role.word(), tiers, hash, made]);
            if done.map_err(sql("changing accounts"))? == 0 {
                return Ok(false);
            }
            let old = "FROM accounts WHERE hash = ?1 AND name <> ?2";
            tx.execute(&format!("DELETE FROM passes WHERE account IN (SELECT name {old})"), [hash, name])
                .and_then(|_| tx.execute(&format!("DELETE {old}"), [hash, name]))
                .map_err(sql("changing accounts"))?;
            return apply(tx, &Change::AddPass(pass.clone()));
        }
        Change::AddPass(Pass { id, hash, account, kind, made, seen, until }) => {
            // An account that has gone meanwhile gets none.
            let text = "INSERT INTO passes (id, hash, account, kind, made, seen, until) \
                        SELECT ?1, ?2, name, ?4, ?5, ?6, ?7 FROM accounts WHERE name = ?3";
            tx.execute(text, params![id, hash, account, kind.word(), made, seen, until])
        }
        Change::DropPass(hash) => tx.execute("DELETE FROM passes WHERE hash = ?1", [hash]),
        Change::DropToken(id) => tx.execute("DELETE FROM passes WHERE id = ?1 AND kind = 'token'", [id]),
    };
    done.map_err(sql("changing accounts")).map(|changed| changed > 0)
}

fn account(row: &Row<'_>, from: usize) -> rusqlite::Result<(Account, String)> {
    let role: String = row.get(from + 1)?;
    let account = Account {
        name: row.get(from)?,
        role: Role::read(&role).unwrap_or(Role::Viewer),
        tiers: vec![],
        hash: row.get(from + 3)?,
        made: row.get(from + 4)?,
    };
    Ok((account, row.get(from + 2)?))
}

fn whole((mut account, tiers): (Account, String)) -> Result<Account> {
    account.tiers = from_json(&tiers, "list of tiers")?;
    Ok(account)
}

fn pass(row: &Row<'_>) -> rusqlite::Result<Pass> {
    Ok(Pass {
        id: row.get(0)?,
        hash: row.get(1)?,
        account: row.get(2)?,
        kind: PassKind::read(&row.get::<_, String>(3)?),
        made: row.get(4)?,
        seen: row.get(5)?,
        until: row.get(6)?,
    })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        id: row.get(0)?,
        at: row.get(1)?,
        who: row.get(2)?,
        origin: row.get(3)?,
        what: row.get(4)?,
        about: row.get(5)?,
        old: row.get(6)?,
        new: row.get(7)?,
    })
}
