//! Who may speak, in PostgreSQL. Whoever writes does so alone, whichever hub or command he is of: two hubs that are shown
//! one token at once spend it one after the other.

use super::Address;
use super::desk::{Desk, ask};
use super::link::Link;
use super::rows::{from_json, json};
use super::schema::LOCK;
use crate::store::Result;
use crate::store::registry::{Admission, Enrol, Issued, Mark, NewCertificate, Refusal, Registry, Token};
use std::collections::HashMap;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// How many connections read lists at once, how many ask who speaks, and how many write one after the other.
const READERS: usize = 2;
const ASKERS: usize = 1;
const WRITERS: usize = 2;
/// What was said to a node outlives a power cut.
const SETTINGS: &str = "SET synchronous_commit = on";
/// Who speaks is found by keys, however few or many rows the server believes there are, and planned once.
const ASKING: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
                      SET plan_cache_mode = force_generic_plan";

/// The registry in a store that [`super::PgStore`] has opened before.
#[derive(Debug)]
pub struct PgRegistry {
    readers: Desk,
    askers: Desk,
    writers: Desk,
}

type Refusable<T> = std::result::Result<T, Refusal>;
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(super) fn rows(
    link: &Link,
    doing: &'static str,
    text: &'static str,
    with: Values<'_>,
) -> Result<Vec<Row>> {
    link.tell(doing, |it| ask(it, text, with))
}

fn all(link: &Link, text: &str) -> Result<()> {
    link.tell("writing who may speak", |it| async move { it.client.batch_execute(text).await })
}

impl PgRegistry {
    /// The registry of the store at `address`.
    #[must_use]
    pub fn new(address: &Address) -> Self {
        let desk = |most| Desk::new(address, SETTINGS, most);
        let askers = Desk::new(address, ASKING, ASKERS);
        Self { readers: desk(READERS), askers, writers: desk(WRITERS) }
    }

    /// Runs `work` in a transaction that nobody else writes beside. It may run twice, the first time for nothing or, where
    /// only the answer was lost, to its end.
    fn write<T>(&self, work: impl Fn(&Link) -> Result<T>) -> Result<T> {
        let begin =
            format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({})", LOCK + 1);
        self.writers.run("writing who may speak", |link| {
            all(link, &begin)?;
            let done = work(link)?;
            all(link, "COMMIT")?;
            Ok(done)
        })
    }
}

impl Registry for PgRegistry {
    fn admissions(&self, serials: &[&str]) -> Result<HashMap<String, Admission>> {
        let text = "SELECT e.id, e.name, c.until, c.banned, m.mark, e.labels, e.source, n.id, n.source, c.serial \
             FROM certificates c JOIN enrolments e ON e.id = c.enrolment LEFT JOIN marks m ON m.name = e.name \
             JOIN enrolments n ON n.id = (SELECT max(id) FROM enrolments WHERE name = e.name) \
             WHERE c.serial = ANY($1)";
        let found = self.askers.rows("reading certificates that speak", text, &[&serials])?;
        found.iter().map(|row| Ok((row.get(9), admission(row)?))).collect()
    }

    fn bind(&self, enrolment: i64, source: &str) -> Result<bool> {
        let foreign = "SELECT 1 FROM enrolments WHERE source = $1 \
                       AND name <> (SELECT name FROM enrolments WHERE id = $2) LIMIT 1";
        let text = "UPDATE enrolments SET source = $1 WHERE id = $2 AND source IS NULL";
        self.write(|link| {
            if !rows(link, "reading an enrolment", foreign, &[&source, &enrolment])?.is_empty() {
                return Ok(false);
            }
            rows(link, "noting a source", text, &[&source, &enrolment])?;
            Ok(true)
        })
    }

    fn enrol(&self, ask: &Enrol) -> Result<Refusable<()>> {
        self.write(|link| match admit(link, ask)? {
            Ok(enrolment) => note(link, enrolment, &ask.certificate).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        })
    }

    fn renew(&self, enrolment: i64, certificate: &NewCertificate) -> Result<()> {
        self.write(|link| note(link, enrolment, certificate))
    }

    fn tokens(&self) -> Result<Vec<Token>> {
        let text = "SELECT id, hash, nodes, labels, made, until, uses, used, revoked FROM tokens \
                    ORDER BY made DESC, id";
        self.readers.rows("reading tokens", text, &[])?.iter().map(token).collect()
    }

    fn certificates(&self) -> Result<Vec<Issued>> {
        let text = "SELECT c.serial, e.name, c.until, e.token, e.source, c.banned, m.mark, \
                    e.id = (SELECT max(id) FROM enrolments WHERE name = e.name) \
                    FROM certificates c JOIN enrolments e ON e.id = c.enrolment \
                    LEFT JOIN marks m ON m.name = e.name ORDER BY e.name, e.id DESC, c.until DESC";
        Ok(self.readers.rows("reading certificates", text, &[])?.iter().map(issued).collect())
    }
}

/// The enrolment that the node gets or has.
fn admit(link: &Link, ask: &Enrol) -> Result<Refusable<i64>> {
    let text = "SELECT id, hash, nodes, labels, made, until, uses, used, revoked FROM tokens WHERE hash = $1";
    let found = rows(link, "reading a token", text, &[&ask.token])?;
    let Some(shown) = found.first().map(token).transpose()? else { return Ok(Err(Refusal::Unknown)) };
    let marked = marked(link, &ask.node)?;
    if let Err(refusal) = shown.judge(&ask.node, ask.now).and_then(|()| shown.passes(marked)) {
        return Ok(Err(refusal));
    }
    if let Some(again) = newest_of(link, ask, &shown.id)? {
        return Ok(Ok(again));
    }
    if shown.used_up() {
        return Ok(Err(Refusal::UsedUp));
    }
    rows(link, "spending a token", "UPDATE tokens SET used = used + 1 WHERE id = $1", &[&shown.id])?;
    put_mark(link, &ask.node, None, ask.now)?;
    let labels = json(&shown.labels, "set of labels")?;
    let text =
        "INSERT INTO enrolments (name, token, key, labels, at) VALUES ($1, $2, $3, $4, $5) RETURNING id";
    let made = rows(
        link,
        "noting an enrolment",
        text,
        &[&ask.node, &shown.id, &ask.certificate.key, &labels, &ask.now],
    )?;
    Ok(made.first().map(|row| row.get(0)).ok_or(Refusal::Unknown))
}

/// The newest enrolment of the name, where it is of this token and key: the answer to it was lost, and is asked for again.
fn newest_of(link: &Link, ask: &Enrol, token: &str) -> Result<Option<i64>> {
    let text = "SELECT id FROM enrolments WHERE id = (SELECT max(id) FROM enrolments WHERE name = $1) \
                AND token = $2 AND key = $3";
    let found = rows(link, "reading an enrolment", text, &[&ask.node, &token, &ask.certificate.key])?;
    Ok(found.first().map(|row| row.get(0)))
}

fn note(link: &Link, enrolment: i64, certificate: &NewCertificate) -> Result<()> {
    // The same serial number again is a certificate whose noting was not heard of.
    let text = "INSERT INTO certificates (serial, enrolment, key, since, until, banned) \
                VALUES ($1, $2, $3, $4, $5, false) ON CONFLICT (serial) DO NOTHING";
    let NewCertificate { serial, key, from, until } = certificate;
    rows(link, "noting a certificate", text, &[serial, &enrolment, key, from, until]).map(drop)
}

fn marked(link: &Link, name: &str) -> Result<Option<(Mark, i64)>> {
    let found = rows(link, "reading a mark", "SELECT mark, at FROM marks WHERE name = $1", &[&name])?;
    Ok(found.first().and_then(|row| Mark::read(row.get(0)).map(|mark| (mark, row.get(1)))))
}

pub(super) fn put_mark(link: &Link, name: &str, mark: Option<Mark>, at: i64) -> Result<()> {
    let text = "INSERT INTO marks (name, mark, at) VALUES ($1, $2, $3) \
                ON CONFLICT (name) DO UPDATE SET mark = excluded.mark, at = excluded.at";
    let done = match mark {
        None => rows(link, "marking a name", "DELETE FROM marks WHERE name = $1", &[&name]),
        Some(mark) => rows(link, "marking a name", text, &[&name, &mark.word(), &at]),
    };
    done.map(drop)
}

fn mark_of(row: &Row, at: usize) -> Option<Mark> {
    row.get::<_, Option<&str>>(at).and_then(Mark::read)
}

fn admission(row: &Row) -> Result<Admission> {
    Ok(Admission {
        enrolment: row.get(0),
        name: row.get(1),
        until: row.get(2),
        banned: row.get(3),
        mark: mark_of(row, 4),
        labels: from_json(row.get(5), "set of labels")?,
        source: row.get(6),
        newest: row.get(7),
        newest_source: row.get(8),
    })
}

fn token(row: &Row) -> Result<Token> {
    let number = |at: usize| u32::try_from(row.get::<_, i64>(at)).unwrap_or(u32::MAX);
    Ok(Token {
        id: row.get(0),
        hash: row.get(1),
        nodes: row.get(2),
        labels: from_json(row.get(3), "set of labels")?,
        made: row.get(4),
        until: row.get(5),
        uses: number(6),
        used: number(7),
        revoked: row.get(8),
    })
}

fn issued(row: &Row) -> Issued {
    Issued {
        serial: row.get(0),
        name: row.get(1),
        until: row.get(2),
        token: row.get(3),
        source: row.get(4),
        banned: row.get(5),
        mark: mark_of(row, 6),
        newest: row.get(7),
    }
}
