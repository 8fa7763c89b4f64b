//! What people do, in SQLite, in the transaction that notes it.

use super::registry::put_mark;
use super::{from_json, json, sql};
use crate::store::Result;
use crate::store::acts::Act;
use crate::store::registry::{Mark, Token};
use crate::store::telling::Silence;
use crate::tell::silence::{KEEP_MS, MOST};
use rusqlite::{Connection, OptionalExtension as _, Params, params};

fn run(tx: &Connection, doing: &'static str, text: &str, with: impl Params) -> Result<bool> {
    tx.execute(text, with).map_err(sql(doing)).map(|changed| changed > 0)
}

/// Does it; whether there was anything to do.
pub(super) fn apply(tx: &Connection, act: &Act) -> Result<bool> {
    match act {
        Act::AddToken(token) => add_token(tx, token),
        Act::RevokeToken(id) => {
            let text = "UPDATE tokens SET revoked = 1 WHERE id = ?1";
            run(tx, "taking back a token", text, [id])
        }
        Act::Mark { name, mark: Mark::Removed, .. } if !is_known(tx, name)? => Ok(false),
        Act::Mark { name, mark, at } => {
            if *mark == Mark::Removed {
                let text = "INSERT INTO retired (name, at) VALUES (?1, ?2) \
                            ON CONFLICT (name) DO UPDATE SET at = excluded.at";
                run(tx, "taking a node out", text, params![name, at])?;
            }
            put_mark(tx, name, Some(*mark), *at).map(|()| true)
        }
        Act::Unmark(name) => {
            run(tx, "taking a node in", "DELETE FROM retired WHERE name = ?1", [name])?;
            run(tx, "marking a name", "DELETE FROM marks WHERE name = ?1", [name])
        }
        Act::BanSerial { serial, banned } => {
            let text = "UPDATE certificates SET banned = ?2 WHERE serial = ?1";
            run(tx, "banning a certificate", text, params![serial, banned])
        }
        Act::Silence(silence) => {
            let text = "INSERT INTO silences (id, until, body) SELECT ?1, ?2, ?3 \
                        WHERE (SELECT count(*) FROM silences WHERE until > ?4) < ?5";
            let body = json(silence, "silence")?;
            let Silence { id, until, made, .. } = silence;
            run(tx, "forgetting silences", "DELETE FROM silences WHERE until < ?1", [made - KEEP_MS])?;
            run(tx, "keeping a silence", text, params![id, until, body, made, MOST])
        }
        Act::EndSilence { id, at, by } => end_silence(tx, id, *at, by),
        Act::FreeSlot { group, id } => {
            run(tx, "taking a slot back", "DELETE FROM slots WHERE grp = ?1 AND id = ?2", [group, id])
        }
    }
}

fn add_token(tx: &Connection, token: &Token) -> Result<bool> {
    let text = "INSERT INTO tokens (id, hash, nodes, labels, made, until, uses, used, revoked) \
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, 0) ON CONFLICT (hash) DO NOTHING";
    let Token { id, hash, nodes, made, until, uses, .. } = token;
    let labels = json(&token.labels, "set of labels")?;
    run(tx, "keeping a token", text, params![id, hash, nodes, labels, made, until, uses])
}

/// Whether anybody was ever let in or heard of under this name.
fn is_known(tx: &Connection, name: &str) -> Result<bool> {
    let text =
        "SELECT 1 FROM enrolments WHERE name = ?1 UNION ALL SELECT 1 FROM nodes WHERE name = ?1 LIMIT 1";
    let found = tx.query_row(text, [name], |_| Ok(())).optional();
    found.map_err(sql("looking for a node")).map(|found| found.is_some())
}

fn end_silence(tx: &Connection, id: &str, at: i64, by: &str) -> Result<bool> {
    let text = "SELECT body FROM silences WHERE id = ?1 AND until > ?2";
    let found = tx.query_row(text, params![id, at], |row| row.get::<_, String>(0)).optional();
    let Some(body) = found.map_err(sql("reading a silence"))? else { return Ok(false) };
    let ended = from_json::<Silence>(&body, "silence")?.ended(at, by);
    let text = "UPDATE silences SET until = ?2, body = ?3 WHERE id = ?1";
    run(tx, "ending a silence", text, params![id, at, json(&ended, "silence")?])?;
    run(tx, "letting news go", "UPDATE news SET due = 0 WHERE due > ?1", [at])?;
    Ok(true)
}
