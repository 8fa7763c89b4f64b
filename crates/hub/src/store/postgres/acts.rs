//! What people do, in PostgreSQL, in the transaction that notes it.

use super::link::Link;
use super::registry::{Values, put_mark, rows};
use super::rows::{from_json, json};
use super::schema::LOCK;
use crate::store::Result;
use crate::store::acts::Act;
use crate::store::registry::{Mark, Token};
use crate::store::telling::Silence;
use crate::tell::silence::{KEEP_MS, MOST};

fn told(link: &Link, doing: &'static str, text: &'static str, with: Values<'_>) -> Result<bool> {
    Ok(!rows(link, doing, text, with)?.is_empty())
}

/// Does it; whether there was anything to do. Who may speak is written by one at a time, as the registry has it.
pub(super) fn apply(link: &Link, act: &Act) -> Result<bool> {
    if matches!(
        act,
        Act::AddToken(_) | Act::RevokeToken(_) | Act::Mark { .. } | Act::Unmark(_) | Act::BanSerial { .. }
    ) {
        told(link, "writing who may speak", "SELECT pg_advisory_xact_lock($1)", &[&(LOCK + 1)])?;
    }
    match act {
        Act::AddToken(token) => add_token(link, token),
        Act::RevokeToken(id) => {
            let text = "UPDATE tokens SET revoked = true WHERE id = $1 RETURNING id";
            told(link, "taking back a token", text, &[id])
        }
        Act::Mark { name, mark: Mark::Removed, .. } if !is_known(link, name)? => Ok(false),
        Act::Mark { name, mark, at } => {
            if *mark == Mark::Removed {
                let text = "INSERT INTO retired (name, at) VALUES ($1, $2) \
                            ON CONFLICT (name) DO UPDATE SET at = excluded.at";
                rows(link, "taking a node out", text, &[name, at])?;
            }
            put_mark(link, name, Some(*mark), *at).map(|()| true)
        }
        Act::Unmark(name) => {
            rows(link, "taking a node in", "DELETE FROM retired WHERE name = $1", &[name])?;
            told(link, "marking a name", "DELETE FROM marks WHERE name = $1 RETURNING name", &[name])
        }
        Act::BanSerial { serial, banned } => {
            let text = "UPDATE certificates SET banned = $2 WHERE serial = $1 RETURNING serial";
            told(link, "banning a certificate", text, &[serial, banned])
        }
        Act::Silence(silence) => {
            // Asked twice where a connection was lost: kept once.
            let text = "INSERT INTO silences (id, until, body) SELECT $1::text, $2::bigint, $3::text \
                        WHERE (SELECT count(*) FROM silences WHERE until > $4) < $5 \
                        ON CONFLICT (id) DO NOTHING RETURNING id";
            let body = json(silence, "silence")?;
            let Silence { id, until, made, .. } = silence;
            let old = made - KEEP_MS;
            rows(link, "forgetting silences", "DELETE FROM silences WHERE until < $1", &[&old])?;
            told(link, "keeping a silence", text, &[id, until, &body, made, &MOST])
        }
        Act::EndSilence { id, at, by } => end_silence(link, id, *at, by),
        Act::FreeSlot { group, id } => {
            let text = "DELETE FROM slots WHERE grp = $1 AND id = $2 RETURNING id";
            told(link, "taking a slot back", text, &[group, id])
        }
    }
}

fn add_token(link: &Link, token: &Token) -> Result<bool> {
    // The same token again is one whose answer was lost.
    let text = "INSERT INTO tokens (id, hash, nodes, labels, made, until, uses, used, revoked) \
                VALUES ($1, $2, $3, $4, $5, $6, $7, 0, false) ON CONFLICT (hash) DO NOTHING RETURNING id";
    let Token { id, hash, nodes, made, until, uses, .. } = token;
    let (labels, uses) = (json(&token.labels, "set of labels")?, i64::from(*uses));
    told(link, "keeping a token", text, &[id, hash, nodes, &labels, made, until, &uses])
}

/// Whether anybody was ever let in or heard of under this name.
fn is_known(link: &Link, name: &str) -> Result<bool> {
    let text =
        "SELECT 1 FROM enrolments WHERE name = $1 UNION ALL SELECT 1 FROM nodes WHERE name = $1 LIMIT 1";
    told(link, "looking for a node", text, &[&name])
}

fn end_silence(link: &Link, id: &str, at: i64, by: &str) -> Result<bool> {
    let text = "SELECT body FROM silences WHERE id = $1 AND until > $2 FOR UPDATE";
    let found = rows(link, "reading a silence", text, &[&id, &at])?;
    let Some(body) = found.first().map(|row| row.get::<_, &str>(0)) else { return Ok(false) };
    let ended = json(&from_json::<Silence>(body, "silence")?.ended(at, by), "silence")?;
    let text = "UPDATE silences SET until = $2, body = $3 WHERE id = $1";
    rows(link, "ending a silence", text, &[&id, &at, &ended])?;
    rows(link, "letting news go", "UPDATE news SET due = 0 WHERE due > $1", &[&at])?;
    Ok(true)
}
