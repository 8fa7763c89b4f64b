//! Who may speak, in SQLite: a reading and a writing connection of its own, beside the one that stores events.

use super::{from_json, json, open_reader, open_writer, sql};
use crate::store::Result;
use crate::store::registry::{Admission, Enrol, Issued, Mark, NewCertificate, Refusal, Registry, Token};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The registry in a store that [`super::SqliteStore`] has opened before.
#[derive(Debug)]
pub struct SqliteRegistry {
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
}

type Refusable<T> = std::result::Result<T, Refusal>;

impl SqliteRegistry {
    /// Opens the registry of the store at `path`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { reader: Mutex::new(open_reader(path)?), writer: Mutex::new(open_writer(path)?) })
    }

    fn read(&self) -> MutexGuard<'_, Connection> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        super::write(&self.writer, work)
    }
}

const ADMISSION: &str = "SELECT e.id, e.name, c.until, c.banned, m.mark, e.labels, e.source, n.id, n.source \
    FROM certificates c JOIN enrolments e ON e.id = c.enrolment LEFT JOIN marks m ON m.name = e.name \
    JOIN enrolments n ON n.id = (SELECT max(id) FROM enrolments WHERE name = e.name) WHERE c.serial = ?1";

impl Registry for SqliteRegistry {
    fn admissions(&self, serials: &[&str]) -> Result<HashMap<String, Admission>> {
        let conn = self.read();
        let mut asked = conn.prepare_cached(ADMISSION).map_err(sql("reading a certificate"))?;
        let mut all = HashMap::with_capacity(serials.len());
        for serial in serials {
            let found = asked.query_row([serial], admission).optional();
            let Some((known, labels)) = found.map_err(sql("reading a certificate"))? else { continue };
            let labels = from_json(&labels, "set of labels")?;
            all.insert((*serial).to_owned(), Admission { labels, ..known });
        }
        Ok(all)
    }

    fn bind(&self, enrolment: i64, source: &str) -> Result<bool> {
        self.write(|tx| {
            let foreign = "SELECT count(*) FROM enrolments WHERE source = ?1 \
                           AND name <> (SELECT name FROM enrolments WHERE id = ?2)";
            let foreign: i64 = tx
                .query_row(foreign, params![source, enrolment], |row| row.get(0))
                .map_err(sql("reading an enrolment"))?;
            if foreign > 0 {
                return Ok(false);
            }
            let text = "UPDATE enrolments SET source = ?1 WHERE id = ?2 AND source IS NULL";
            tx.execute(text, params![source, enrolment]).map_err(sql("noting a source"))?;
            Ok(true)
        })
    }

    fn enrol(&self, ask: &Enrol) -> Result<Refusable<()>> {
        self.write(|tx| match admit(tx, ask)? {
            Ok(enrolment) => note(tx, enrolment, &ask.certificate).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        })
    }

    fn renew(&self, enrolment: i64, certificate: &NewCertificate) -> Result<()> {
        self.write(|tx| note(tx, enrolment, certificate))
    }

    fn tokens(&self) -> Result<Vec<Token>> {
        let text = format!("SELECT {TOKEN} FROM tokens ORDER BY made DESC, id");
        let conn = self.read();
        let rows: rusqlite::Result<Vec<_>> =
            conn.prepare(&text).and_then(|mut found| found.query_map([], token)?.collect());
        rows.map_err(sql("reading tokens"))?.into_iter().map(whole).collect()
    }

    fn certificates(&self) -> Result<Vec<Issued>> {
        let text = "SELECT c.serial, e.name, c.until, e.token, e.source, c.banned, m.mark, \
                    e.id = (SELECT max(id) FROM enrolments WHERE name = e.name) \
                    FROM certificates c JOIN enrolments e ON e.id = c.enrolment \
                    LEFT JOIN marks m ON m.name = e.name ORDER BY e.name, e.id DESC, c.until DESC";
        let conn = self.read();
        let rows: rusqlite::Result<Vec<_>> =
            conn.prepare(text).and_then(|mut found| found.query_map([], issued)?.collect());
        rows.map_err(sql("reading certificates"))
    }
}

/// The enrolment that the node gets or has.
fn admit(tx: &Connection, ask: &Enrol) -> Result<Refusable<i64>> {
    let found = format!("SELECT {TOKEN} FROM tokens WHERE hash = ?1");
    let found = tx.query_row(&found, [&ask.token], token).optional().map_err(sql("reading a token"))?;
    let Some(shown) = found.map(whole).transpose()? else { return Ok(Err(Refusal::Unknown)) };
    let marked = marked(tx, &ask.node)?;
    if let Err(refusal) = shown.judge(&ask.node, ask.now).and_then(|()| shown.passes(marked)) {
        return Ok(Err(refusal));
    }
    if let Some(again) = newest_of(tx, ask, &shown.id)? {
        return Ok(Ok(again));
    }
    if shown.used_up() {
        return Ok(Err(Refusal::UsedUp));
    }
    let spend = "UPDATE tokens SET used = used + 1 WHERE id = ?1";
    tx.execute(spend, [&shown.id]).map_err(sql("spending a token"))?;
    put_mark(tx, &ask.node, None, ask.now)?;
    let labels = json(&shown.labels, "set of labels")?;
    let text = "INSERT INTO enrolments (name, token, key, labels, at) VALUES (?1, ?2, ?3, ?4, ?5)";
    tx.execute(text, params![ask.node, shown.id, ask.certificate.key, labels, ask.now])
        .map_err(sql("noting an enrolment"))?;
    Ok(Ok(tx.last_insert_rowid()))
}

/// The newest enrolment of the name, where it is of this token and key: the answer to it was lost, and is asked for again.
fn newest_of(tx: &Connection, ask: &Enrol, token: &str) -> Result<Option<i64>> {
    let text = "SELECT id FROM enrolments WHERE id = (SELECT max(id) FROM enrolments WHERE name = ?1) \
                AND token = ?2 AND key = ?3";
    tx.query_row(text, params![ask.node, token, ask.certificate.key], |row| row.get(0))
        .optional()
        .map_err(sql("reading an enrolment"))
}

fn note(tx: &Connection, enrolment: i64, certificate: &NewCertificate) -> Result<()> {
    let text = "INSERT INTO certificates (serial, enrolment, key, since, until, banned) VALUES (?1, ?2, ?3, ?4, ?5, 0)";
    let NewCertificate { serial, key, from, until } = certificate;
    tx.execute(text, params![serial, enrolment, key, from, until])
        .map_err(sql("noting a certificate"))
        .map(|_| ())
}

fn marked(tx: &Connection, name: &str) -> Result<Option<(Mark, i64)>> {
    let text = "SELECT mark, at FROM marks WHERE name = ?1";
    let found: Option<(String, i64)> = tx
        .query_row(text, [name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .map_err(sql("reading a mark"))?;
    Ok(found.and_then(|(word, at)| Mark::read(&word).map(|mark| (mark, at))))
}

pub(super) fn put_mark(tx: &Connection, name: &str, mark: Option<Mark>, at: i64) -> Result<()> {
    let done = match mark {
        None => tx.execute("DELETE FROM marks WHERE name = ?1", [name]),
        Some(mark) => {
            let text = "INSERT INTO marks (name, mark, at) VALUES (?1, ?2, ?3) \
                        ON CONFLICT (name) DO UPDATE SET mark = excluded.mark, at = excluded.at";
            tx.execute(text, params![name, mark.word(), at])
        }
    };
    done.map_err(sql("marking a name")).map(|_| ())
}

fn admission(row: &Row<'_>) -> rusqlite::Result<(Admission, String)> {
    let mark: Option<String> = row.get(4)?;
    let admission = Admission {
        enrolment: row.get(0)?,
        name: row.get(1)?,
        until: row.get(2)?,
        banned: row.get(3)?,
        mark: mark.as_deref().and_then(Mark::read),
        labels: std::collections::BTreeMap::new(),
        source: row.get(6)?,
        newest: row.get(7)?,
        newest_source: row.get(8)?,
    };
    Ok((admission, row.get(5)?))
}

const TOKEN: &str = "id, hash, nodes, labels, made, until, uses, used, revoked";

fn token(row: &Row<'_>) -> rusqlite::Result<(Token, String)> {
    let token = Token {
        id: row.get(0)?,
        hash: row.get(1)?,
        nodes: row.get(2)?,
        labels: std::collections::BTreeMap::new(),
        made: row.get(4)?,
        until: row.get(5)?,
        uses: row.get(6)?,
        used: row.get(7)?,
        revoked: row.get(8)?,
    };
    Ok((token, row.get(3)?))
}

fn whole((mut token, labels): (Token, String)) -> Result<Token> {
    token.labels = from_json(&labels, "set of labels")?;
    Ok(token)
}

fn issued(row: &Row<'_>) -> rusqlite::Result<Issued> {
    let mark: Option<String> = row.get(6)?;
    Ok(Issued {
        serial: row.get(0)?,
        name: row.get(1)?,
        until: row.get(2)?,
        token: row.get(3)?,
        source: row.get(4)?,
        banned: row.get(5)?,
        mark: mark.as_deref().and_then(Mark::read),
        newest: row.get(7)?,
    })
}
